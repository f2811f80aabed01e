//! What the node's agent does with its messages.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::Instant;
use crate::daemon::messages::NodeMessage;
use crate::daemon::worker::Driven;
use crate::node::NodeAgent;

impl Driven for NodeAgent {
    type Message = NodeMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        NodeAgent::fds(self)
    }
    fn timeout(&self, now: Instant) -> Duration {
        NodeAgent::timeout(self, now)
    }
    fn handle(&mut self, message: NodeMessage, now: Instant) {
        match message {
            NodeMessage::Reload(conf) => self.reload(conf, now),
            NodeMessage::Direct(directing) => self.direct(directing, now),
            NodeMessage::Vouch(number) => self.vouch(number, now),
            NodeMessage::Obey(obeys) => self.obey(obeys, now),
            NodeMessage::Leave(left) => self.leave(left, now),
            // The program that asked may have given up waiting.
            NodeMessage::View(reply) => drop(reply.send(self.view())),
        }
    }
    fn step(&mut self, now: Instant) {
        NodeAgent::step(self, now);
    }
}
