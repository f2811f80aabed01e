//! Sends the heartbeats that are due.
//!
//! It has no thread of its own, and is made to be driven by one that does nothing else: what
//! blocks in cvipd (a store that does not answer, a large table, a slow disk) must not look like
//! a failure to others. Its thread waits for messages no longer than [`Sender::timeout`], hands them
//! to [`Sender::set_content`] and calls [`Sender::step`]; none of the three waits for anything.

use std::time::Duration;

use super::super::left::LeftPorts;
use super::super::socket::{HeartbeatSocket, Sent};
use super::super::timing::Timing;
use super::super::wire::TooMany;
use super::state::{HeartbeatContent, HeartbeatSource, SendSchedule};
use crate::clock::Instant;

/// One node's heartbeat.
#[derive(Debug)]
pub struct Sender {
    socket: HeartbeatSocket,
    schedule: SendSchedule,
    sent: Sent,
}

impl Sender {
    /// Sends nothing until [`Sender::set_content`] names receivers; the first heartbeat is then
    /// due at once.
    pub fn new(
        socket: HeartbeatSocket,
        source: HeartbeatSource,
        timing: Timing,
        now: Instant,
    ) -> Sender {
        Sender { socket, schedule: SendSchedule::new(source, timing, now), sent: Sent::default() }
    }

    /// Numbers its heartbeats from above this on: a sender that is made anew in the same start of
    /// cvipd goes on where the one before it ended, or its heartbeats are taken for replays.
    #[must_use]
    pub fn after(mut self, sequence: u64) -> Sender {
        self.schedule = self.schedule.after(sequence);
        self
    }

    /// Changes what is said. What others wait for (a leadership won or given up, a leave) is
    /// said at once.
    ///
    /// # Errors
    /// It is more than fits into a heartbeat: what was said before goes on.
    pub fn set_content(&mut self, content: HeartbeatContent, now: Instant) -> Result<(), TooMany> {
        self.schedule.set_content(content, now)
    }

    /// Names the ports that the node has left, from the next heartbeat on, which goes at once.
    pub fn tell_left(&mut self, left: LeftPorts, now: Instant) {
        self.schedule.tell_left(left, now);
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        self.schedule.next().saturating_duration_since(now)
    }

    /// Sends the heartbeat that is due, if one is.
    pub fn step(&mut self, now: Instant) {
        if let Some(heartbeat) = self.schedule.due(now) {
            let Sent { sent, unsent } = self.socket.send(&heartbeat, self.schedule.receivers());
            self.sent.sent += sent;
            self.sent.unsent += unsent;
        }
    }

    /// How many datagrams were sent so far, and how many could not be.
    pub fn sent(&self) -> Sent {
        self.sent
    }
}
