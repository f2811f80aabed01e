//! What goes into the supervisor's state and what comes out of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conf::{Conf, Loaded, Sources};
use crate::daemon::address_manager::{AddressMessage, AddressNotice};
use crate::daemon::error::RunError;
use crate::daemon::hooks::messages::RoleChange;
use crate::daemon::messages::{MonitorMessage, NodeMessage, TableMessage};
use crate::director::election::ElectionRole;
use crate::director::sync::SyncRole;
use crate::serial::interned::{self, ProgramText};
use crate::store::AppliedOrders;

/// A configuration that was read.
#[derive(Serialize, Deserialize)]
pub struct ReadConf {
    /// What it says.
    pub conf: Arc<Conf>,
    /// Its text.
    pub sources: Arc<Sources>,
}

/// What the configuration files said when they were read.
#[derive(Serialize, Deserialize)]
pub struct LoadedConf {
    /// The configuration; none if one of the faults is an error.
    pub conf: Option<Conf>,
    /// The faults, as they are shown.
    pub faults: Vec<String>,
    /// The text that was read.
    pub sources: Sources,
}

impl From<Loaded> for LoadedConf {
    fn from(Loaded { conf, diagnostics, sources, .. }: Loaded) -> LoadedConf {
        let faults = diagnostics.iter().map(ToString::to_string).collect();
        LoadedConf { conf, faults, sources }
    }
}

/// What happened, what is asked, and what became of a [`SupervisorAction`].
#[derive(Serialize, Deserialize)]
pub enum SupervisorInput {
    /// Time went on.
    Time,
    /// cvipd is told to end; told twice, it ends at once.
    Terminate,
    /// The configuration is to be read again.
    Reload,
    /// The same, for an operator who waits for [`SupervisorAction::Answer`].
    Apply,
    /// The node is to leave for good, and connections are waited for so long; with an answer.
    Leave(Duration),
    /// The monitor's notice of this director's role.
    Elected(ElectionRole),
    /// The monitor's number for the active director's vouching.
    Vouch(u32),
    /// The monitor's answer to a hand-over.
    HandOver {
        /// Which hand-over.
        number: u64,
        /// The node that takes over, none if no other lives; or why nothing is handed over.
        answer: Result<Option<u32>, String>,
    },
    /// The table is what this role asks.
    TableMade(SyncRole),
    /// The table is empty, or why it is not yet.
    TableEmptied(Result<(), String>),
    /// What the table obeys.
    Applied(AppliedOrders),
    /// The hooks of the [`SupervisorAction::RunHooks`] of this number have ended.
    HooksEnded(u64),
    /// The address manager's notice.
    Addresses(AddressNotice),
    /// What became of [`SupervisorAction::ReadConf`].
    Read(Box<LoadedConf>),
    /// What became of [`SupervisorAction::TryConf`].
    Tried(ReadConf, Result<(), String>),
    /// What became of [`SupervisorAction::SwapWorkers`].
    Swapped(ReadConf, Result<(), String>),
    /// What became of [`SupervisorAction::TakeTableRole`].
    TableTold(Result<(), RunError>),
    /// What became of [`SupervisorAction::StartNode`].
    NodeStarted(Result<(), RunError>),
    /// A node that leaves has told the store, and has so many connections left.
    Connections(usize),
    /// The directors that have not released a node that leaves; none: they cannot be read.
    Holders(Option<BTreeSet<u32>>),
    /// A worker has ended that should not have.
    WorkerEnded(#[serde(deserialize_with = "interned::text")] ProgramText),
}

/// What is to be done.
#[derive(Serialize, Deserialize)]
pub enum SupervisorAction {
    /// Tell the address manager.
    Addresses(AddressMessage),
    /// Tell the node's worker.
    Node(NodeMessage),
    /// Tell the monitor.
    Monitor(MonitorMessage),
    /// Tell the table's worker.
    Table(TableMessage),
    /// Run the hooks of a changed role; those of a director that gives up the CVIPs are waited for:
    /// [`SupervisorInput::HooksEnded`].
    RunHooks(RoleChange),
    /// Tell the table its role; its worker is started if it does not run yet.
    TakeTableRole(SyncRole),
    /// Start the node's worker.
    StartNode,
    /// Tell the node's worker to leave, and follow what it reports.
    StartLeave,
    /// Say in heartbeats that the node leaves, and have its own monitor hand over.
    TellLeaving,
    /// Say for the last time that the node has left.
    SayFarewell,
    /// Read which directors have not released the node.
    ReadHolders,
    /// Read the configuration files.
    ReadConf,
    /// Try whether this host can do what a configuration says. Changes nothing.
    TryConf(ReadConf),
    /// Build the workers that a configuration needs, and swap them for those that run. A table
    /// that is no longer this node's is emptied, and [`SupervisorInput::TableEmptied`] says so.
    SwapWorkers(ReadConf),
    /// End the worker of a table that is not this node's any more.
    EndFormerTable,
    /// Have the table's worker take a configuration, and report to the operator who waits.
    Resync(Arc<Conf>),
    /// Tell the service manager that cvipd is ready.
    Ready,
    /// Answer the operator who waits.
    Answer(Result<(), String>),
    /// End cvipd.
    Exit(Result<(), RunError>),
}
