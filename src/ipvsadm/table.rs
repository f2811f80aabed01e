//! What this room needs of the kernel's table, as a trait.
//!
//! The kernel behind [`crate::ipvs`] is one implementation; the tests bring a table in
//! memory, so that the whole command language is tested where there is no IPVS.

use std::io::Read;

use crate::ipvs::{Change, Daemon, DestinationEntry, Info, ServiceEntry, ServiceId, Timeouts};

/// The kernel's errno for what it would not do (errno.h); failures without one of their own
/// (a lost socket, an answer that makes no sense) are `EINVAL`, as the original has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", super::errors::errno_text(*.0))]
pub struct Errno(pub i32);

/// The kernel's table: read it, change it.
pub trait Table {
    /// The version of IPVS and the size of its connection table.
    ///
    /// # Errors
    ///
    /// The kernel's; `EPERM` without CAP_NET_ADMIN.
    fn info(&mut self) -> Result<Info, Errno>;

    /// Every service, in the kernel's order.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn services(&mut self) -> Result<Vec<ServiceEntry>, Errno>;

    /// One service.
    ///
    /// # Errors
    ///
    /// The kernel's; `ESRCH` if there is none.
    fn service(&mut self, id: &ServiceId) -> Result<ServiceEntry, Errno>;

    /// The destinations of one service, in the kernel's order; none if there is no such service.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, Errno>;

    /// Carries out the changes in order, each whether or not those before it succeeded, and
    /// says which were refused: their indexes, ascending.
    ///
    /// # Errors
    ///
    /// If the kernel could not be asked at all.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, Errno)>, Errno>;

    /// The connection time-outs.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn timeouts(&mut self) -> Result<Timeouts, Errno>;

    /// The synchronisation daemons that run.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn daemons(&mut self) -> Result<Vec<Daemon>, Errno>;

    /// The connections, as `/proc/net/ip_vs_conn` has them.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    fn connections(&mut self) -> std::io::Result<Box<dyn Read>>;
}
