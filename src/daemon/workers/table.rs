//! What the director's agent does with its messages, and what it tells the main thread.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::Instant;
use crate::daemon::messages::{MainMessage, TableMessage};
use crate::daemon::worker::Driven;
use crate::director::{DirectorAgent, sync};
use crate::store::AppliedOrders;
use crate::wake::Outbox;

/// The director's agent, and what the main thread was told of it.
pub(super) struct TableWorker {
    agent: DirectorAgent,
    main: Outbox<MainMessage>,
    /// The main thread waits for the table of this role.
    awaited: Option<sync::SyncRole>,
    /// What its table obeys, as the main thread was last told.
    obeys: AppliedOrders,
}

impl TableWorker {
    pub(super) fn new(agent: DirectorAgent, main: Outbox<MainMessage>) -> TableWorker {
        TableWorker { agent, main, awaited: None, obeys: AppliedOrders::default() }
    }
}

impl Driven for TableWorker {
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
                // The program that asked may have given up waiting.
                let _ = reply.send(outcome);
            }
            TableMessage::Restrict(restrictions) => self.agent.restrict(*restrictions, now),
            TableMessage::ElectionRole(role) => {
                self.agent.take_role(role, now);
                self.awaited = Some(role);
            }
            TableMessage::Differences(reply) => {
                let outcome = self.agent.differences(now).map_err(|error| error.to_string());
                let _ = reply.send(outcome);
            }
            TableMessage::Leave => self.agent.leave(now),
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
        if let Some(outcome) = self.agent.take_departure() {
            self.main.send(MainMessage::TableEmptied(outcome));
        }
        if let Some(role) = self.awaited.take_if(|_| !self.agent.owes_table()) {
            self.main.send(MainMessage::Ready(role));
        }
    }
}
