//! The workers of a node: what each is told, and what it tells.
//!
//! ```text
//!   node       registrations of what listens here                     every node
//!   herald     heartbeats to the directors                            every node with others
//!   lookout    who lives, and which director is active                directors
//!   table      the kernel's table                                     directors
//!   addresses  the kernel's addresses and settings                    every node
//! ```
//!
//! The lookout's marks go straight to the table, its words straight to the herald, and that another
//! director is active straight to the address manager: what is urgent does not wait for the main
//! thread.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tracing::error;

use super::addresses::{AddressNews, AddressOrder};
use super::control::Question;
use super::worker::{Agent, Desk};
use crate::conf::Conf;
use crate::director::agent::Report;
use crate::director::election::Part;
use crate::director::lookout::{self, Lookout, Notice};
use crate::director::marks::Marks;
use crate::director::{self, Happening, sync, view};
use crate::ipvs::Change;
use crate::node;
use crate::pulse::{self, Left, Speech};
use crate::store::Obedience;
use crate::wake::Outbox;

/// What reaches the main thread.
pub(super) enum Tidings {
    /// This director's part, told for the first time, or another than before, or confirmed.
    Part(Part),
    /// The table is what the part asks.
    Ready(sync::Part),
    /// What the address manager says.
    Addresses(AddressNews),
    /// The drains that the table obeys, and who leaves and is out of it.
    Obeys(Obedience),
    /// The ports that this node has left.
    Left(Left),
    /// The active director vouches for itself.
    Vouch(u32),
    /// Something to remember.
    Event(Happening),
    /// A request on the control socket.
    Question(Question),
}

/// What the node's worker is told.
pub(super) enum NodeOrder {
    Reload(Arc<Conf>),
    /// Whether this node is the active director.
    Direct(bool),
    /// What this node's table obeys, if it is a director.
    Obey(Obedience),
    /// The active director here vouches for itself, in the record.
    Vouch(u32),
    /// Serve nothing any more; answer how many connections are left, as often as that changes,
    /// and 0 at last.
    Leave(Sender<usize>),
}

impl Agent for node::Agent {
    type Order = NodeOrder;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        node::Agent::fds(self)
    }
    fn timeout(&self, now: Instant) -> Duration {
        node::Agent::timeout(self, now)
    }
    fn obey(&mut self, order: NodeOrder, now: Instant) {
        match order {
            NodeOrder::Reload(conf) => self.reload(conf, now),
            NodeOrder::Direct(directing) => self.direct(directing, now),
            NodeOrder::Vouch(number) => self.vouch(number, now),
            NodeOrder::Obey(obeys) => self.obey(obeys, now),
            NodeOrder::Leave(left) => self.leave(left, now),
        }
    }
    fn step(&mut self, now: Instant) {
        node::Agent::step(self, now);
    }
}

/// What the herald is told: what it says from now on.
pub(super) enum Say {
    /// To whom, and of leaderships and peers.
    Speech(Speech),
    /// Of the ports that the node has left.
    Left(Left),
}

impl Agent for pulse::Sender {
    type Order = Say;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
    fn timeout(&self, now: Instant) -> Duration {
        pulse::Sender::timeout(self, now)
    }
    fn obey(&mut self, order: Say, now: Instant) {
        match order {
            Say::Speech(speech) => {
                if let Err(error) = self.say(speech, now) {
                    error!("{error}");
                }
            }
            Say::Left(left) => self.tell_left(left, now),
        }
    }
    fn step(&mut self, now: Instant) {
        pulse::Sender::step(self, now);
    }
}

/// What the lookout is told.
pub(super) enum LookoutOrder {
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
    Left(Left),
    View(Sender<lookout::View>),
}

/// The lookout, and those whom it tells.
pub(super) struct Watchman {
    pub(super) lookout: Lookout,
    pub(super) main: Outbox<Tidings>,
    pub(super) table: Desk<TableOrder>,
    pub(super) addresses: Desk<AddressOrder>,
    /// None where there is nobody to speak to.
    pub(super) herald: Option<Desk<Say>>,
    /// Who is spoken to.
    pub(super) to: Vec<IpAddr>,
}

impl Agent for Watchman {
    type Order = LookoutOrder;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.lookout.fds()
    }
    fn timeout(&self, now: Instant) -> Duration {
        self.lookout.timeout(now)
    }
    fn obey(&mut self, order: LookoutOrder, now: Instant) {
        match order {
            LookoutOrder::Reload(conf) => self.lookout.reload(conf, now),
            LookoutOrder::TakeOver => self.lookout.take_over(now),
            LookoutOrder::HandOver(reply) => {
                // Whoever asked may have given up waiting.
                let _ = reply.send(self.lookout.hand_over().map_err(|error| error.to_string()));
            }
            LookoutOrder::Confirm => self.lookout.confirm(now),
            LookoutOrder::Carries(can_carry) => self.lookout.carries(can_carry, now),
            LookoutOrder::Leave => self.lookout.leave(now),
            LookoutOrder::Left(left) => self.lookout.tell_left(left),
            LookoutOrder::View(reply) => drop(reply.send(self.lookout.view(now))),
        }
    }
    fn step(&mut self, now: Instant) {
        for notice in self.lookout.step(now) {
            match notice {
                Notice::Marks(marks) => self.table.order(TableOrder::Mark(marks)),
                Notice::Speech(mut speech) => {
                    speech.to.clone_from(&self.to);
                    if let Some(herald) = &self.herald {
                        herald.order(Say::Speech(speech));
                    }
                }
                Notice::Part(part) => {
                    // An address that another carries is not kept until the main thread has time.
                    if part == Part::Standby {
                        self.addresses.order(AddressOrder::Yield);
                    }
                    // A main thread that is gone ends this one too.
                    self.main.send(Tidings::Part(part));
                }
                Notice::Vouch(number) => drop(self.main.send(Tidings::Vouch(number))),
                Notice::Event(event) => drop(self.main.send(Tidings::Event(event))),
            }
        }
    }
}

/// Where the outcome of a full pass goes; an error is a sentence.
pub(super) type Reply = Sender<Result<Report, String>>;

/// What the table's worker is told.
pub(super) enum TableOrder {
    Reload(Arc<Conf>),
    /// Take a new configuration, make a full pass by it and say what that did: one order, so
    /// that no pass in between takes the changes for itself.
    Resync(Arc<Conf>, Reply),
    Mark(Marks),
    /// Its part in its set; [`Tidings::Ready`] says that the table is made.
    Part(sync::Part),
    /// What a full pass would change.
    Differences(Sender<Result<Vec<Change>, String>>),
    /// Delete every service of cvipd's own, and answer.
    Leave(Sender<()>),
    View(Sender<view::View>),
}

/// The director's agent, and whom it tells.
pub(super) struct Table {
    pub(super) agent: director::Agent,
    pub(super) main: Outbox<Tidings>,
    /// The main thread waits for the table of this part.
    pub(super) awaited: Option<sync::Part>,
    /// What its table obeys, as the main thread was last told.
    pub(super) obeys: Obedience,
}

impl Agent for Table {
    type Order = TableOrder;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.agent.fds()
    }
    fn timeout(&self, now: Instant) -> Duration {
        self.agent.timeout(now)
    }
    fn obey(&mut self, order: TableOrder, now: Instant) {
        match order {
            TableOrder::Reload(conf) => self.agent.reload(conf, now),
            TableOrder::Resync(conf, reply) => {
                self.agent.reload(conf, now);
                let outcome = self.agent.full_pass(now).map_err(|error| error.to_string());
                let _ = reply.send(outcome);
            }
            TableOrder::Mark(marks) => self.agent.mark(marks, now),
            TableOrder::Part(part) => {
                self.agent.take_part(part, now);
                self.awaited = Some(part);
            }
            TableOrder::Differences(reply) => {
                let outcome = self.agent.differences(now).map_err(|error| error.to_string());
                let _ = reply.send(outcome);
            }
            TableOrder::Leave(reply) => {
                self.agent.leave(now);
                let _ = reply.send(());
            }
            TableOrder::View(reply) => drop(reply.send(self.agent.view(now))),
        }
    }
    fn step(&mut self, now: Instant) {
        self.agent.step(now);
        for event in self.agent.take_happenings() {
            self.main.send(Tidings::Event(event));
        }
        if let Some(obeys) = self.agent.obeys().filter(|obeys| *obeys != self.obeys) {
            self.obeys = obeys.clone();
            self.main.send(Tidings::Obeys(obeys));
        }
        if let Some(part) = self.awaited.take_if(|_| !self.agent.owes_table()) {
            self.main.send(Tidings::Ready(part));
        }
    }
}
