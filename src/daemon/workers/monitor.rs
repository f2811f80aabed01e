//! What the monitor does with its messages, and where its notices go.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::Instant;
use crate::daemon::address_manager::AddressMessage;
use crate::daemon::messages::{MainMessage, MonitorMessage, SenderMessage, TableMessage};
use crate::daemon::worker::{Driven, WorkerInbox};
use crate::director::election::ElectionRole;
use crate::director::monitor::{Monitor, MonitorNotice};
use crate::wake::Outbox;

/// The monitor, and the threads that it tells.
pub(super) struct MonitorWorker {
    pub(super) monitor: Monitor,
    pub(super) main: Outbox<MainMessage>,
    pub(super) table: WorkerInbox<TableMessage>,
    pub(super) addresses: WorkerInbox<AddressMessage>,
    /// None where no other director hears heartbeats.
    pub(super) heartbeat_sender: Option<WorkerInbox<SenderMessage>>,
    /// Where heartbeats go.
    pub(super) to: Vec<IpAddr>,
}

impl MonitorWorker {
    fn tell(&self, notice: MonitorNotice) {
        let message = match notice {
            MonitorNotice::Restrictions(restrictions) => {
                return self.table.send(TableMessage::Restrict(Box::new(restrictions)));
            }
            MonitorNotice::HeartbeatContent(mut content) => {
                content.to.clone_from(&self.to);
                if let Some(heartbeat_sender) = &self.heartbeat_sender {
                    heartbeat_sender.send(SenderMessage::HeartbeatContent(content));
                }
                return;
            }
            MonitorNotice::ElectionRole(role) => {
                // An address that another carries is not kept until the main thread has time, and
                // not carried for a role that the main thread tells before it hears of this.
                self.addresses.send(match role {
                    ElectionRole::Standby => AddressMessage::Yield,
                    ElectionRole::Active { .. } => AddressMessage::Elected,
                });
                MainMessage::ElectionRole(role)
            }
            MonitorNotice::Announce => return self.addresses.send(AddressMessage::Announce),
            MonitorNotice::Vouch(number) => MainMessage::Vouch(number),
            MonitorNotice::Event(event) => MainMessage::Event(event),
        };
        // A main thread that is gone ends this one too.
        self.main.send(message);
    }
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
            MonitorMessage::Told(command) => self.monitor.tell(command, now),
            MonitorMessage::HandOver(number) => {
                let answer = self.monitor.hand_over(now);
                self.main.send(MainMessage::HandOver { number, answer });
            }
            // The program that asked may have given up waiting.
            MonitorMessage::View(reply) => drop(reply.send(self.monitor.view(now))),
        }
    }
    fn step(&mut self, now: Instant) {
        for notice in self.monitor.step(now) {
            self.tell(notice);
        }
    }
}
