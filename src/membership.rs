//! Since when a real server that joined or left waits for what is to follow from that, and how long it
//! took. Pure.
//!
//! A node waits until the store has its record, a director until the kernel has its destination.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::histogram::Histogram;

/// What a real server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It joined.
    Joined,
    /// It left.
    Left,
}

/// How long joins and leaves took.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MembershipTimes {
    /// Joins.
    pub joins: Histogram,
    /// Leaves.
    pub leaves: Histogram,
}

impl MembershipTimes {
    /// Counts what is settled by now, since when it waited.
    pub(crate) fn observe(&mut self, settled: Vec<(Membership, Instant)>, now: Instant) {
        for (membership, since) in settled {
            let histogram = match membership {
                Membership::Joined => &mut self.joins,
                Membership::Left => &mut self.leaves,
            };
            histogram.observe(now.saturating_duration_since(since));
        }
    }
}

/// Joins and leaves that wait, each by its key, and those that are settled.
#[derive(Debug)]
pub(crate) struct PendingMemberships<K> {
    since: BTreeMap<K, (Membership, Instant)>,
    settled: Vec<(Membership, Instant)>,
}

impl<K> Default for PendingMemberships<K> {
    fn default() -> PendingMemberships<K> {
        PendingMemberships { since: BTreeMap::new(), settled: Vec::new() }
    }
}

impl<K: Ord> PendingMemberships<K> {
    /// One begins to wait. What waited under this key is overtaken.
    pub(crate) fn begin(&mut self, key: K, membership: Membership, now: Instant) {
        self.since.insert(key, (membership, now));
    }

    /// What follows from it is done, if this is what waits under the key.
    pub(crate) fn settle(&mut self, key: &K, membership: Membership) {
        if self.since.get(key).is_some_and(|(waits, _)| *waits == membership) {
            self.settled.extend(self.since.remove(key));
        }
    }

    /// The keys of those that wait.
    pub(crate) fn keys(&self) -> Vec<K>
    where
        K: Copy,
    {
        self.since.keys().copied().collect()
    }

    /// Nothing follows from these any more.
    pub(crate) fn forget(&mut self, is_meant: impl Fn(&K) -> bool) {
        self.since.retain(|key, _| !is_meant(key));
    }

    /// Those that were settled since this was last asked, each with since when it waited.
    pub(crate) fn take_settled(&mut self) -> Vec<(Membership, Instant)> {
        std::mem::take(&mut self.settled)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Membership::{Joined, Left};
    use super::*;

    #[test]
    fn a_join_takes_until_it_is_settled_and_one_that_is_overtaken_is_not_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pending = PendingMemberships::default();
        pending.begin(80, Joined, at(0));
        pending.begin(81, Joined, at(0));
        pending.begin(82, Left, at(1));
        pending.settle(&80, Left);
        assert_eq!(pending.take_settled(), [], "something else waits");
        pending.settle(&80, Joined);
        pending.settle(&80, Joined);
        pending.begin(81, Left, at(2));
        pending.settle(&81, Joined);
        pending.forget(|port| *port == 82);
        pending.settle(&82, Left);
        pending.settle(&81, Left);
        let settled = pending.take_settled();
        assert_eq!(settled, [(Joined, at(0)), (Left, at(2))]);
        let mut times = MembershipTimes::default();
        times.observe(settled, at(5));
        assert_eq!(
            (times.joins.sum(), times.leaves.sum()),
            (Duration::from_millis(5), Duration::from_millis(3))
        );
        assert_eq!(pending.take_settled(), []);
    }
}
