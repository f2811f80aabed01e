//! What passes between the threads of cvipd.
//!
//! The monitor's restrictions go straight to the table, its heartbeat content straight to the
//! heartbeat sender, and that another director is active straight to the address manager: what is
//! urgent does not wait for the main thread.
//!
//! What the supervisor tells others is recorded; messages with a reply are not among it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address_manager::AddressNotice;
use super::control::Status;
use super::hooks::HookMessage;
use super::worker::WorkerInbox;
use crate::conf::{Conf, Sources};
use crate::director::agent::PassReport;
use crate::director::election::ElectionRole;
use crate::director::monitor::{MonitorCommand, MonitorView};
use crate::director::restrictions::Restrictions;
use crate::director::{DirectorEvent, sync, view};
use crate::heartbeat::{HeartbeatContent, LeftPorts, Sent};
use crate::ipvs::Change;
use crate::node::NodeView;
use crate::store::{AppliedOrders, ServiceKey};

/// What the main thread is told.
pub(super) enum MainMessage {
    /// This director's role, told for the first time, or another than before, or confirmed.
    ElectionRole(ElectionRole),
    /// The director that is to take over, none if no other is alive, or an error; for the
    /// [`MonitorMessage::HandOver`] of this number.
    HandOver { number: u64, answer: Result<Option<u32>, String> },
    /// The table is what this role asks.
    Ready(sync::SyncRole),
    /// The table is empty, as [`TableMessage::Leave`] asked; or why it is not yet, which is tried
    /// again.
    TableEmptied(Result<(), String>),
    /// The hooks of the role's change of this number have ended.
    HooksEnded(u64),
    /// What the address manager says.
    Addresses(AddressNotice),
    /// The drains that the table obeys, and the nodes that leave and are out of it.
    Obeys(AppliedOrders),
    /// The ports that this node has left.
    Left(LeftPorts),
    /// The active director vouches for itself.
    Vouch(u32),
    /// An event for the event log.
    Event(DirectorEvent),
    /// A request on the control socket.
    Question(Question),
    /// A worker takes its messages: its answer to the question of this number.
    Alive(&'static str, u64),
}

/// What the node's worker is told.
#[derive(Serialize, Deserialize)]
pub enum NodeMessage {
    /// Take another configuration.
    Reload(Arc<Conf>),
    /// Whether this node is the active director.
    Direct(bool),
    /// What this node's table obeys, if it is a director.
    Obey(AppliedOrders),
    /// The active director here vouches for itself, in the record.
    Vouch(u32),
    /// Serve nothing any more; report how many connections are left, as often as that changes,
    /// and 0 at last.
    #[serde(skip)]
    Leave(Sender<usize>),
    /// Say what it knows of itself.
    #[serde(skip)]
    View(Sender<NodeView>),
}

/// What the heartbeat sender is told: the content of its heartbeats from now on.
pub enum SenderMessage {
    /// Where they go, and what they say of leaderships and peers.
    HeartbeatContent(HeartbeatContent),
    /// What they say of the ports that the node has left.
    Left(LeftPorts),
    /// Say how many were sent.
    View(Sender<Sent>),
}

/// What the monitor is told.
#[derive(Serialize, Deserialize)]
pub enum MonitorMessage {
    /// Take something that it is told.
    Told(MonitorCommand),
    /// Another director is to become the active one; [`MainMessage::HandOver`] says which.
    HandOver(u64),
    /// Say what it knows.
    #[serde(skip)]
    View(Sender<MonitorView>),
}

/// Where the outcome of a full pass goes; an error is a sentence.
pub(super) type PassReply = Sender<Result<PassReport, String>>;

/// What the table's worker is told.
#[derive(Serialize, Deserialize)]
pub enum TableMessage {
    /// Take another configuration.
    Reload(Arc<Conf>),
    /// Take a new configuration, make a full pass by it and say what that did: one message, so
    /// that no pass in between takes the changes for itself.
    #[serde(skip)]
    Resync(Arc<Conf>, PassReply),
    /// Take these restrictions, all of them.
    Restrict(Box<Restrictions>),
    /// Its role in its set; [`MainMessage::Ready`] says that the table is made.
    ElectionRole(sync::SyncRole),
    /// What a full pass would change.
    #[serde(skip)]
    Differences(Sender<Result<Vec<Change>, String>>),
    /// Delete every service of cvipd's own, until that is done; [`MainMessage::TableEmptied`] says
    /// what became of it.
    Leave,
    /// Say what it knows of its pools.
    #[serde(skip)]
    View(Sender<view::TableView>),
}

/// What the main thread is asked for the sake of a request on the control socket.
pub(super) struct Question {
    pub(super) what: What,
    pub(super) answer: Sender<ControlAnswer>,
}

/// What of a request concerns the main thread.
pub(super) enum What {
    /// What it is.
    State,
    /// To read cvip.conf again; the table's worker reports what came of it.
    Apply(PassReply),
    /// To leave, waiting for connections for so long.
    Leave(Duration),
}

/// What the main thread says: an error, or what it knows itself and whom else to ask.
pub(super) type ControlAnswer = Result<Base, String>;

/// What the main thread knows.
pub(super) struct Base {
    pub(super) status: Status,
    /// The text of the configuration in force.
    pub(super) sources: Arc<Sources>,
    /// The configuration in force.
    pub(super) conf: Arc<Conf>,
    /// The services that this node's director owns.
    pub(super) owned: BTreeSet<ServiceKey>,
    /// The node is a director, whether or not it knows its role yet.
    pub(super) directs: bool,
    pub(super) node: Option<WorkerInbox<NodeMessage>>,
    pub(super) heartbeat_sender: Option<WorkerInbox<SenderMessage>>,
    pub(super) monitor: Option<WorkerInbox<MonitorMessage>>,
    pub(super) table: Option<WorkerInbox<TableMessage>>,
    pub(super) hooks: WorkerInbox<HookMessage>,
}

/// Why a request for a director is refused.
pub(super) fn no_director(node: u32) -> String {
    format!("node {node} is no director, or does not know its role yet")
}
