//! What crosses the agent's boundary: what its state asks the driver to do, what became of that, and
//! what a pass reports.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::kernel_table::TableReading;
use super::super::passes::Unexpected;
use super::super::reconcile::RefusedChange;
use crate::ipvs::{Change, ChangeFailure, IpvsError, SyncDaemon};
use crate::store::{ServiceKey, StoreFailure, StoreValues};

/// What the driver is to do. It answers each with the [`ActionResult`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What became of an [`AgentAction`]. What the kernel's errors say is text: nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionResult {
    /// What is another value than before.
    ReadStore(Result<StoreValues, StoreFailure>),
    /// The services of a pass, and what the kernel has of them: of [`AgentAction::ReadAll`] too.
    Read(Result<(BTreeSet<ServiceKey>, TableReading), String>),
    /// True if the kernel shows no service.
    LookFlushed(bool),
    /// What is not as the last passes left it, and the processor time that the look took.
    Look(Result<Unexpected, String>, Duration),
    /// The daemons that run, and whether `backup_only` is 1.
    ReadDaemons(Result<Vec<SyncDaemon>, String>, bool),
    /// Why changes were refused, the daemons that run then, and whether `backup_only` is 1.
    ChangeDaemons(Vec<String>, Vec<SyncDaemon>, bool),
    /// Whether it was written.
    Own(Result<(), StoreFailure>),
    /// The changes that the kernel refused.
    Apply(Result<Vec<ChangeFailure>, String>),
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassReport {
    /// The changes that the kernel took.
    pub applied: Vec<Change>,
    /// Those that it refused.
    pub refused: Vec<RefusedChange>,
}

/// Why a pass ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PassError {
    /// The kernel's table could not be read or changed.
    #[error("{0}")]
    Kernel(String),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<IpvsError> for PassError {
    fn from(error: IpvsError) -> PassError {
        PassError::Kernel(error.to_string())
    }
}
