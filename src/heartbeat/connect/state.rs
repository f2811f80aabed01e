//! Which attempts to connect wait, which are under way, and which are late. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Instant;

/// So many are under way at once; the others wait for their turn.
pub(super) const UNDER_WAY: usize = 64;

/// The attempts that wait or are under way.
#[derive(Debug)]
pub(super) struct ConnectQueue {
    patience: Duration,
    waiting: VecDeque<SocketAddr>,
    under_way: BTreeMap<u64, Attempt>,
    /// Everything that waits or is under way.
    asked: HashSet<SocketAddr>,
    /// The number of the next attempt.
    next: u64,
}

#[derive(Debug)]
struct Attempt {
    target: SocketAddr,
    deadline: Instant,
}

impl ConnectQueue {
    /// Each attempt is given so much time, from when its turn has come.
    pub(super) fn new(patience: Duration) -> ConnectQueue {
        ConnectQueue {
            patience,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            asked: HashSet::new(),
            next: 0,
        }
    }

    /// A listener is to be asked; one that is being asked is not asked twice.
    pub(super) fn add(&mut self, target: SocketAddr) {
        if self.asked.insert(target) {
            self.waiting.push_back(target);
        }
    }

    /// The number and the target of an attempt whose turn has come; it is under way from now on.
    pub(super) fn begin(&mut self, now: Instant) -> Option<(u64, SocketAddr)> {
        if self.under_way.len() >= UNDER_WAY {
            return None;
        }
        let target = self.waiting.pop_front()?;
        let number = self.next;
        self.next += 1;
        self.under_way.insert(number, Attempt { target, deadline: now + self.patience });
        Some((number, target))
    }

    /// An attempt has ended, whatever came of it: its target, which may be asked again.
    pub(super) fn end(&mut self, number: u64) -> Option<SocketAddr> {
        let Attempt { target, .. } = self.under_way.remove(&number)?;
        self.asked.remove(&target);
        Some(target)
    }

    /// The numbers of the attempts whose time is over.
    pub(super) fn late(&self, now: Instant) -> Vec<u64> {
        let late = self.under_way.iter().filter(|(_, attempt)| attempt.deadline <= now);
        late.map(|(number, _)| *number).collect()
    }

    /// How long until there is something to do without an answer; none: until something is added.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.waiting.is_empty() && self.under_way.len() < UNDER_WAY {
            return Some(Duration::ZERO);
        }
        let deadlines = self.under_way.values().map(|attempt| attempt.deadline);
        deadlines.min().map(|deadline| deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn target(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn begin_all(queue: &mut ConnectQueue, now: Instant) -> Vec<(u64, SocketAddr)> {
        std::iter::from_fn(|| queue.begin(now)).collect()
    }

    #[test]
    fn an_attempt_that_ends_makes_room_for_the_next() {
        let now = Instant::now();
        let mut queue = ConnectQueue::new(PATIENCE);
        assert_eq!(queue.timeout(now), None);
        (1..=UNDER_WAY as u16 + 2).for_each(|port| queue.add(target(port)));
        assert_eq!(queue.timeout(now), Some(Duration::ZERO));
        let begun = begin_all(&mut queue, now);
        assert_eq!(begun.len(), UNDER_WAY);
        assert_eq!(queue.timeout(now), Some(PATIENCE), "the others wait");
        assert_eq!(queue.end(begun[3].0), Some(target(4)));
        assert_eq!(queue.end(begun[3].0), None, "it has ended already");
        assert_eq!(queue.timeout(now), Some(Duration::ZERO));
        let next = begin_all(&mut queue, now);
        assert_eq!(next.iter().map(|(_, to)| to.port()).collect::<Vec<_>>(), [65]);
    }

    #[test]
    fn an_attempt_is_late_when_its_own_time_is_over() {
        let now = Instant::now();
        let mut queue = ConnectQueue::new(PATIENCE);
        queue.add(target(1));
        let first = queue.begin(now).unwrap().0;
        queue.add(target(2));
        let second = queue.begin(now + PATIENCE / 2).unwrap().0;
        assert!(queue.late(now + PATIENCE / 2).is_empty());
        assert_eq!(queue.late(now + PATIENCE), [first]);
        queue.end(first);
        assert_eq!(queue.timeout(now + PATIENCE), Some(PATIENCE / 2));
        assert_eq!(queue.late(now + 2 * PATIENCE), [second]);
    }

    #[test]
    fn a_target_is_asked_once_at_a_time() {
        let now = Instant::now();
        let mut queue = ConnectQueue::new(PATIENCE);
        queue.add(target(1));
        queue.add(target(1));
        let begun = begin_all(&mut queue, now);
        assert_eq!(begun.len(), 1);
        queue.add(target(1));
        assert_eq!(queue.begin(now), None, "it is under way");
        queue.end(begun[0].0);
        queue.add(target(1));
        assert_eq!(queue.begin(now).map(|(_, to)| to), Some(target(1)));
    }
}
