//! The workers of a node: what each is told, and what it tells.
//!
//! ```text
//!   node       registrations of what listens here                     every node
//!   heartbeat sender     heartbeats to the directors                            every node with others
//!   monitor    who lives, and which director is active                directors
//!   table      the kernel's table                                     directors
//!   addresses  the kernel's addresses and settings                    every node
//! ```
//!
//! The monitor's marks go straight to the table, its words straight to the heartbeat sender, and that another
//! director is active straight to the address manager: what is urgent does not wait for the main
//! thread.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tracing::error;

use super::address_manager::{AddressMessage, AddressNotice};
use super::control::Question;
use super::worker::{Driven, WorkerInbox};
use crate::conf::Conf;
use crate::director::agent::PassReport;
use crate::director::election::ElectionRole;
use crate::director::monitor::{self, Monitor, Notice};
use crate::director::restrictions::Restrictions;
use crate::director::{self, DirectorEvent, sync, view};
use crate::heartbeat::{self, HeartbeatContent, LeftPorts};
use crate::ipvs::Change;
use crate::net::Reachable;
use crate::node;
use crate::store::AppliedOrders;
use crate::wake::Outbox;

/// What reaches the main thread.
pub(super) enum MainMessage {
    /// This director's part, told for the first time, or another than before, or confirmed.
    ElectionRole(ElectionRole),
    /// The table is what the part asks.
    Ready(sync::SyncRole),
    /// What the address manager says.
    Addresses(AddressNotice),
    /// The drains that the table obeys, and who leaves and is out of it.
    Obeys(AppliedOrders),
    /// The ports that this node has left.
    Left(LeftPorts),
    /// The active director vouches for itself.
    Vouch(u32),
    /// Something to remember.
    Event(DirectorEvent),
    /// A request on the control socket.
    Question(Question),
}

/// What the node's worker is told.
pub(super) enum NodeMessage {
    Reload(Arc<Conf>),
    /// Whether this node is the active director.
    Direct(bool),
    /// What this node's table obeys, if it is a director.
    Obey(AppliedOrders),
    /// The active director here vouches for itself, in the record.
    Vouch(u32),
    /// Serve nothing any more; answer how many connections are left, as often as that changes,
    /// and 0 at last.
    Leave(Sender<usize>),
}

impl Driven for node::NodeAgent {
    type Message = NodeMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        node::NodeAgent::fds(self)
    }
    fn timeout(&self, now: Instant) -> Duration {
        node::NodeAgent::timeout(self, now)
    }
    fn handle(&mut self, message: NodeMessage, now: Instant) {
        match message {
            NodeMessage::Reload(conf) => self.reload(conf, now),
            NodeMessage::Direct(directing) => self.direct(directing, now),
            NodeMessage::Vouch(number) => self.vouch(number, now),
            NodeMessage::Obey(obeys) => self.obey(obeys, now),
            NodeMessage::Leave(left) => self.leave(left, now),
        }
    }
    fn step(&mut self, now: Instant) {
        node::NodeAgent::step(self, now);
    }
}

/// What the heartbeat sender is told: what it says from now on.
pub(super) enum SenderMessage {
    /// To whom, and of leaderships and peers.
    HeartbeatContent(HeartbeatContent),
    /// Of the ports that the node has left.
    Left(LeftPorts),
}

impl Driven for heartbeat::Sender {
    type Message = SenderMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
    fn timeout(&self, now: Instant) -> Duration {
        heartbeat::Sender::timeout(self, now)
    }
    fn handle(&mut self, message: SenderMessage, now: Instant) {
        match message {
            SenderMessage::HeartbeatContent(content) => {
                if let Err(error) = self.say(content, now) {
                    error!("{error}");
                }
            }
            SenderMessage::Left(left) => self.tell_left(left, now),
        }
    }
    fn step(&mut self, now: Instant) {
        heartbeat::Sender::step(self, now);
    }
}

/// What the monitor is told.
pub(super) enum MonitorMessage {
    Reload(Arc<Conf>),
    /// An operator wants this director to become the active one.
    TakeOver,
    /// Another director is to become the active one; answer which, if any lives.
    HandOver(Sender<Result<Option<u32>, String>>),
    /// This director was not there for a while: tell its part again, once that is sure.
    Confirm,
    /// Whether this director can carry its set's CVIPs; it can until something else is said.
    Carries(bool),
    /// This node begins to leave the cluster.
    Leave,
    /// The ports that this node has left.
    Left(LeftPorts),
    /// The addresses that this node carries as the active director, and announces: all of them.
    Announced(Vec<Reachable>),
    View(Sender<monitor::MonitorView>),
}

/// The monitor, and those whom it tells.
pub(super) struct MonitorWorker {
    pub(super) monitor: Monitor,
    pub(super) main: Outbox<MainMessage>,
    pub(super) table: WorkerInbox<TableMessage>,
    pub(super) addresses: WorkerInbox<AddressMessage>,
    /// None where there is nobody to speak to.
    pub(super) heartbeat_sender: Option<WorkerInbox<SenderMessage>>,
    /// Who is spoken to.
    pub(super) to: Vec<IpAddr>,
}

impl Driven for MonitorWorker {
    type Message = MonitorMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.monitor.fds()
    }
    fn timeout(&self, now: Instant) -> Duration {
        self.monitor.timeout(now)
    }
    fn handle(&mut self, message: MonitorMessage, now: Instant) {
        match message {
            MonitorMessage::Reload(conf) => self.monitor.reload(conf, now),
            MonitorMessage::TakeOver => self.monitor.take_over(now),
            MonitorMessage::HandOver(reply) => {
                // Whoever asked may have given up waiting.
                let _ = reply.send(self.monitor.hand_over().map_err(|error| error.to_string()));
            }
            MonitorMessage::Confirm => self.monitor.confirm(now),
            MonitorMessage::Carries(can_carry) => self.monitor.carries(can_carry, now),
            MonitorMessage::Leave => self.monitor.leave(now),
            MonitorMessage::Left(left) => self.monitor.tell_left(left),
            MonitorMessage::Announced(announced) => self.monitor.announced(announced),
            MonitorMessage::View(reply) => drop(reply.send(self.monitor.view(now))),
        }
    }
    fn step(&mut self, now: Instant) {
        for notice in self.monitor.step(now) {
            match notice {
                Notice::Restrictions(restrictions) => {
                    self.table.order(TableMessage::Mark(restrictions))
                }
                Notice::HeartbeatContent(mut content) => {
                    content.to.clone_from(&self.to);
                    if let Some(heartbeat_sender) = &self.heartbeat_sender {
                        heartbeat_sender.order(SenderMessage::HeartbeatContent(content));
                    }
                }
                Notice::ElectionRole(role) => {
                    // An address that another carries is not kept until the main thread has time.
                    if role == ElectionRole::Standby {
                        self.addresses.order(AddressMessage::Yield);
                    }
                    // A main thread that is gone ends this one too.
                    self.main.send(MainMessage::ElectionRole(role));
                }
                Notice::Announce => self.addresses.order(AddressMessage::Announce),
                Notice::Vouch(number) => drop(self.main.send(MainMessage::Vouch(number))),
                Notice::Event(event) => drop(self.main.send(MainMessage::Event(event))),
            }
        }
    }
}

/// Where the outcome of a full pass goes; an error is a sentence.
pub(super) type PassReply = Sender<Result<PassReport, String>>;

/// What the table's worker is told.
pub(super) enum TableMessage {
    Reload(Arc<Conf>),
    /// Take a new configuration, make a full pass by it and say what that did: one order, so
    /// that no pass in between takes the changes for itself.
    Resync(Arc<Conf>, PassReply),
    Mark(Restrictions),
    /// Its part in its set; [`MainMessage::Ready`] says that the table is made.
    ElectionRole(sync::SyncRole),
    /// What a full pass would change.
    Differences(Sender<Result<Vec<Change>, String>>),
    /// Delete every service of cvipd's own, and answer.
    Leave(Sender<()>),
    View(Sender<view::TableView>),
}

/// The director's agent, and whom it tells.
pub(super) struct TableAgent {
    pub(super) agent: director::DirectorAgent,
    pub(super) main: Outbox<MainMessage>,
    /// The main thread waits for the table of this part.
    pub(super) awaited: Option<sync::SyncRole>,
    /// What its table obeys, as the main thread was last told.
    pub(super) obeys: AppliedOrders,
}

impl Driven for TableAgent {
    type Message = TableMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.agent.fds()
    }
    fn timeout(&self, now: Instant) -> Duration {
        self.agent.timeout(now)
    }
    fn handle(&mut self, message: TableMessage, now: Instant) {
        match message {
            TableMessage::Reload(conf) => self.agent.reload(conf, now),
            TableMessage::Resync(conf, reply) => {
                self.agent.reload(conf, now);
                let outcome = self.agent.full_pass(now).map_err(|error| error.to_string());
                let _ = reply.send(outcome);
            }
            TableMessage::Mark(restrictions) => self.agent.mark(restrictions, now),
            TableMessage::ElectionRole(role) => {
                self.agent.take_role(role, now);
                self.awaited = Some(role);
            }
            TableMessage::Differences(reply) => {
                let outcome = self.agent.differences(now).map_err(|error| error.to_string());
                let _ = reply.send(outcome);
            }
            TableMessage::Leave(reply) => {
                self.agent.leave(now);
                let _ = reply.send(());
            }
            TableMessage::View(reply) => drop(reply.send(self.agent.view(now))),
        }
    }
    fn step(&mut self, now: Instant) {
        self.agent.step(now);
        for event in self.agent.take_events() {
            self.main.send(MainMessage::Event(event));
        }
        if let Some(obeys) = self.agent.obeys().filter(|obeys| *obeys != self.obeys) {
            self.obeys = obeys.clone();
            self.main.send(MainMessage::Obeys(obeys));
        }
        if let Some(role) = self.awaited.take_if(|_| !self.agent.owes_table()) {
            self.main.send(MainMessage::Ready(role));
        }
    }
}
