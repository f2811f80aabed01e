//! What the heartbeat sender does with its messages.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use tracing::error;

use crate::clock::Instant;
use crate::daemon::messages::SenderMessage;
use crate::daemon::worker::Driven;
use crate::heartbeat::Sender;

impl Driven for Sender {
    type Message = SenderMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
    fn timeout(&self, now: Instant) -> Duration {
        Sender::timeout(self, now)
    }
    fn handle(&mut self, message: SenderMessage, now: Instant) {
        match message {
            SenderMessage::HeartbeatContent(content) => {
                if let Err(error) = self.set_content(content, now) {
                    error!("{error}");
                }
            }
            SenderMessage::Left(left) => self.tell_left(left, now),
            // The program that asked may have given up waiting.
            SenderMessage::View(reply) => drop(reply.send(self.sent())),
        }
    }
    fn step(&mut self, now: Instant) {
        Sender::step(self, now);
    }
}
