//! What crosses the agent's boundary: what its state asks the driver to do, what became of that, and
//! what a pass reports.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use super::super::fingerprint::Print;
use super::super::kernel_table::KernelTable;
use super::super::reconcile::RefusedChange;
use crate::ipvs::{Change, ChangeFailure, IpvsError, SyncDaemon};
use crate::store::{Key, ServiceKey, StoreError};

/// What the driver is to do. It answers each with the [`ActionResult`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAction {
    /// Refresh the store's view.
    ReadStore {
        /// Read everything.
        whole: bool,
    },
    /// Read the services of a full pass.
    ReadAll,
    /// Read what the kernel has of these services.
    Read(BTreeSet<ServiceKey>),
    /// Look whether the kernel's table was flushed.
    LookFlushed,
    /// Look at the kernel's whole table.
    Look,
    /// Read the synchronisation daemons, and `backup_only`.
    ReadDaemons,
    /// Change the synchronisation daemons, then read them.
    ChangeDaemons(Vec<Change>),
    /// Write that these services, and no others, are owned.
    Own(BTreeSet<ServiceKey>),
    /// Make these changes to the kernel's table.
    Apply(Vec<Change>),
}

/// What became of an [`AgentAction`].
#[derive(Debug)]
pub enum ActionResult {
    /// The keys whose values are others than before.
    ReadStore(Result<BTreeSet<Key>, StoreError>),
    /// The services of a pass, and what the kernel has of them: of [`AgentAction::ReadAll`] too.
    Read(Result<(BTreeSet<ServiceKey>, KernelTable), IpvsError>),
    /// True if the kernel shows no service.
    LookFlushed(bool),
    /// The fingerprints of all services, and the processor time that it took.
    Look(io::Result<HashMap<ServiceKey, Print>>, Duration),
    /// The daemons that run, and whether `backup_only` is 1.
    ReadDaemons(Result<Vec<SyncDaemon>, IpvsError>, bool),
    /// Why changes were refused, the daemons that run then, and whether `backup_only` is 1.
    ChangeDaemons(Vec<String>, Vec<SyncDaemon>, bool),
    /// Whether it was written.
    Own(Result<(), StoreError>),
    /// The changes that the kernel refused.
    Apply(Result<Vec<ChangeFailure>, IpvsError>),
}

/// What a pass did.
#[derive(Clone, Debug, Default)]
pub struct PassReport {
    /// The changes that the kernel took.
    pub applied: Vec<Change>,
    /// Those that it refused.
    pub refused: Vec<RefusedChange>,
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The kernel's table could not be read or changed.
    #[error(transparent)]
    Kernel(#[from] IpvsError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
