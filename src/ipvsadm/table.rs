//! What this module needs of the kernel's table, as a trait.
//!
//! The kernel behind [`crate::ipvs`] is one implementation; the tests bring a table in
//! memory, so that the whole command language is tested where there is no IPVS.

use std::io::Read;

use nix::libc;

use crate::ipvs::{
    self, Change, DestinationEntry, Info, ServiceEntry, ServiceId, SyncDaemon, Timeouts, proc_net,
};

/// Why the kernel's table could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The kernel refused, with this errno (errno(3)).
    #[error("{}", super::errno::errno_text(*.0))]
    Refused(i32),
    /// There is no IPVS; with what modprobe(8) said.
    #[error("{}", super::errno::errno_text(libc::ENOPROTOOPT))]
    NoIpvs(String),
    /// The kernel could not be asked, or its answer was lost; in words that say what to do.
    #[error("{0}")]
    Broken(String),
}

/// The kernel's table: read it, change it.
pub trait Table {
    /// The version of IPVS and the size of its connection table.
    ///
    /// # Errors
    ///
    /// The kernel's; `EPERM` without CAP_NET_ADMIN.
    fn info(&mut self) -> Result<Info, TableError>;

    /// Every service, in the kernel's order.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn services(&mut self) -> Result<Vec<ServiceEntry>, TableError>;

    /// One service.
    ///
    /// # Errors
    ///
    /// The kernel's; `ESRCH` if there is none.
    fn service(&mut self, id: &ServiceId) -> Result<ServiceEntry, TableError>;

    /// The destinations of one service, in the kernel's order; none if there is no such service.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, TableError>;

    /// Carries out the changes in order, each whether or not those before it succeeded, and
    /// says which were refused: their indexes, ascending, with the errno.
    ///
    /// # Errors
    ///
    /// If the kernel could not be asked at all.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, i32)>, TableError>;

    /// The connection time-outs.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn timeouts(&mut self) -> Result<Timeouts, TableError>;

    /// The synchronisation daemons that run.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, TableError>;

    /// The connections, as `/proc/net/ip_vs_conn` has them.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    fn connections(&mut self) -> std::io::Result<Box<dyn Read>>;

    /// The table, as `/proc/net/ip_vs` has it.
    ///
    /// # Errors
    ///
    /// If there is no such file; then only the other functions tell.
    fn proc_table(&mut self) -> std::io::Result<Box<dyn Read>> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    /// The counters of all services together, as `/proc/net/ip_vs_stats` has them.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    fn totals(&mut self) -> std::io::Result<Box<dyn Read>> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    /// How full the kernel's tables are, as `/proc/net/ip_vs_status` has it.
    ///
    /// # Errors
    ///
    /// If there is no such file, which came with Linux 7.1.
    fn status(&mut self) -> std::io::Result<Box<dyn Read>> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    /// A setting of IPVS, by its name below `/proc/sys/net/ipv4/vs`.
    ///
    /// # Errors
    ///
    /// If there is no such setting.
    fn setting(&mut self, _name: &str) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

impl From<ipvs::IpvsError> for TableError {
    fn from(error: ipvs::IpvsError) -> TableError {
        match error {
            ipvs::IpvsError::NoIpvs(said) => TableError::NoIpvs(said),
            ipvs::IpvsError::Permission => TableError::Refused(libc::EPERM),
            ipvs::IpvsError::Kernel { errno, .. } => TableError::Refused(errno),
            other => TableError::Broken(other.to_string()),
        }
    }
}

impl Table for ipvs::Client {
    fn info(&mut self) -> Result<Info, TableError> {
        Ok(self.info()?)
    }

    fn services(&mut self) -> Result<Vec<ServiceEntry>, TableError> {
        Ok(self.services()?)
    }

    fn service(&mut self, id: &ServiceId) -> Result<ServiceEntry, TableError> {
        self.service(id)?.ok_or(TableError::Refused(libc::ESRCH))
    }

    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, TableError> {
        Ok(self.destinations(id)?)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, i32)>, TableError> {
        let failures = self.apply(changes)?;
        Ok(failures.into_iter().map(|failure| (failure.index, failure.errno)).collect())
    }

    fn timeouts(&mut self) -> Result<Timeouts, TableError> {
        Ok(self.timeouts()?)
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, TableError> {
        Ok(self.daemons()?)
    }

    fn connections(&mut self) -> std::io::Result<Box<dyn Read>> {
        Ok(Box::new(proc_net::open("ip_vs_conn")?))
    }

    fn proc_table(&mut self) -> std::io::Result<Box<dyn Read>> {
        Ok(Box::new(proc_net::open("ip_vs")?))
    }

    fn totals(&mut self) -> std::io::Result<Box<dyn Read>> {
        Ok(Box::new(proc_net::open("ip_vs_stats")?))
    }

    fn status(&mut self) -> std::io::Result<Box<dyn Read>> {
        Ok(Box::new(proc_net::open("ip_vs_status")?))
    }

    fn setting(&mut self, name: &str) -> std::io::Result<String> {
        proc_net::setting(name)
    }
}
