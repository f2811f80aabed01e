//! When the next heartbeat is due, and what it says. Pure.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::left::LeftPorts;
use super::super::timing::Timing;
use super::super::wire::{
    Heartbeat, Leadership, MAX_LEADERSHIPS, MAX_SEEN, Nonce, SeenNonce, TooMany,
};
use crate::clock::Instant;
use crate::counter;

/// The node that sends: the same from start to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatSource {
    /// The own node number.
    pub node: u32,
    /// Which start of cvipd this is: higher than that of every start before.
    pub incarnation: u64,
    /// Chosen at this start.
    pub nonce: Nonce,
}

/// What heartbeats say, and their receivers, until something else is ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatContent {
    /// The directors' addresses.
    pub to: Vec<IpAddr>,
    /// Of each set of directors that the node belongs to.
    pub leaderships: Vec<Leadership>,
    /// Nonces of peers: see [`Peers::seen`](crate::heartbeat::Peers::seen).
    pub seen: Vec<SeenNonce>,
    /// The node is about to stop in good order.
    pub leaving: bool,
    /// The node is a director that cannot carry its set's CVIPs at the moment.
    pub cannot_carry: bool,
}

/// When heartbeats are sent, and what they say.
#[derive(Debug)]
pub struct SendSchedule {
    source: HeartbeatSource,
    period: Duration,
    content: HeartbeatContent,
    left: Option<LeftPorts>,
    /// Of the last heartbeat.
    sequence: u64,
    next: Instant,
}

impl SendSchedule {
    /// Nothing to send to, and the first heartbeat due at once.
    pub fn new(source: HeartbeatSource, timing: Timing, now: Instant) -> SendSchedule {
        let content = HeartbeatContent::default();
        SendSchedule { source, period: timing.period, content, left: None, sequence: 0, next: now }
    }

    /// See [`Sender::after`](super::Sender::after).
    #[must_use]
    pub fn after(self, sequence: u64) -> SendSchedule {
        SendSchedule { sequence, ..self }
    }

    /// When the next heartbeat is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// The addresses that heartbeats go to.
    pub fn receivers(&self) -> &[IpAddr] {
        &self.content.to
    }

    /// See [`Sender::set_content`](super::Sender::set_content).
    ///
    /// # Errors
    /// It is more than fits into a heartbeat: what was said before goes on.
    pub fn set_content(&mut self, content: HeartbeatContent, now: Instant) -> Result<(), TooMany> {
        let (leaderships, seen) = (content.leaderships.len(), content.seen.len());
        if leaderships > MAX_LEADERSHIPS || seen > MAX_SEEN {
            return Err(TooMany { leaderships, seen });
        }
        let urgent = |content: &HeartbeatContent| (content.leaving, content.cannot_carry);
        if content.leaderships != self.content.leaderships
            || urgent(&content) != urgent(&self.content)
        {
            self.next = now;
        }
        self.content = content;
        Ok(())
    }

    /// Names the ports that the node has left; what is new there is due at once.
    pub fn tell_left(&mut self, left: LeftPorts, now: Instant) {
        if self.left.as_ref().is_none_or(|before| {
            (&before.ranges, &before.services) != (&left.ranges, &left.services)
        }) {
            self.next = now;
        }
        self.left = Some(left);
    }

    /// The heartbeat that is due. A sender that was kept from it sends one, not those that were
    /// missed.
    pub fn due(&mut self, now: Instant) -> Option<Heartbeat> {
        if now < self.next {
            return None;
        }
        let on_time = self.next + self.period;
        self.next = if on_time > now { on_time } else { now + self.period };
        self.sequence = counter::next(self.sequence);
        Some(Heartbeat {
            node: self.source.node,
            incarnation: self.source.incarnation,
            sequence: self.sequence,
            nonce: self.source.nonce,
            leaving: self.content.leaving,
            cannot_carry: self.content.cannot_carry,
            left: self.left.clone(),
            leaderships: self.content.leaderships.clone(),
            seen: self.content.seen.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: HeartbeatSource =
        HeartbeatSource { node: 2, incarnation: 5, nonce: Nonce([7; 16]) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn schedule(now: Instant) -> SendSchedule {
        SendSchedule::new(SOURCE, Timing::default(), now)
    }

    fn led(active: bool) -> HeartbeatContent {
        let leaderships = vec![Leadership { set: 1, term: 3, active }];
        HeartbeatContent { leaderships, ..HeartbeatContent::default() }
    }

    #[test]
    fn heartbeats_are_numbered_and_keep_their_rhythm() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let mut sequences = Vec::new();
        for at in (0..=220).step_by(10) {
            // The driver is a little late now and then.
            let now = start + ms(at) + Duration::from_micros(at * 7);
            sequences.extend(schedule.due(now).map(|heartbeat| (at, heartbeat.sequence)));
        }
        assert_eq!(sequences, [(0, 1), (50, 2), (100, 3), (150, 4), (200, 5)]);
    }

    #[test]
    fn a_sender_that_was_kept_from_it_sends_one_heartbeat_and_goes_on() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        assert!(schedule.due(start).is_some());
        let late = start + ms(10_003);
        assert_eq!(schedule.due(late).map(|heartbeat| heartbeat.sequence), Some(2));
        assert_eq!(schedule.due(late), None);
        assert_eq!(schedule.next, late + ms(50));
    }

    #[test]
    fn a_change_that_others_wait_for_is_said_at_once() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.due(start);
        let now = start + ms(10);
        schedule.set_content(led(true), now).unwrap();
        assert!(schedule.due(now).unwrap().leaderships[0].active);
        schedule.set_content(HeartbeatContent { leaving: true, ..led(true) }, now).unwrap();
        assert!(schedule.due(now).unwrap().leaving);
        // Everything else waits for the next.
        let seen = vec![SeenNonce { node: 3, nonce: Nonce([3; 16]) }];
        let content = HeartbeatContent { seen: seen.clone(), leaving: true, ..led(true) };
        schedule.set_content(content, now).unwrap();
        assert_eq!(schedule.due(now), None);
        let heartbeat = schedule.due(now + ms(50)).unwrap();
        assert_eq!((heartbeat.seen, heartbeat.node, heartbeat.incarnation), (seen, 2, 5));
        assert_eq!(heartbeat.nonce, SOURCE.nonce);
    }

    #[test]
    fn more_than_fits_is_refused_and_the_rest_goes_on() {
        let now = Instant::now();
        let mut schedule = schedule(now);
        schedule.set_content(led(true), now).unwrap();
        let leaderships = vec![led(false).leaderships[0]; MAX_LEADERSHIPS + 1];
        let error = schedule
            .set_content(HeartbeatContent { leaderships, ..HeartbeatContent::default() }, now)
            .unwrap_err();
        assert!(error.to_string().contains("at most 16"), "{error}");
        assert_eq!(schedule.content, led(true));
    }
}
