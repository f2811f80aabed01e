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
pub(crate) enum Membership {
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
    /// Counts one that is settled by now, since when it waited.
    pub(crate) fn observe(&mut self, membership: Membership, since: Instant, now: Instant) {
        let histogram = match membership {
            Membership::Joined => &mut self.joins,
            Membership::Left => &mut self.leaves,
        };
        histogram.observe(now.saturating_duration_since(since));
    }
}

/// Joins and leaves that wait, each by its key.
#[derive(Debug)]
pub(crate) struct PendingMemberships<K>(BTreeMap<K, (Membership, Instant)>);

impl<K> Default for PendingMemberships<K> {
    fn default() -> PendingMemberships<K> {
        PendingMemberships(BTreeMap::new())
    }
}

impl<K: Ord> PendingMemberships<K> {
    /// One begins to wait. What waited under this key is overtaken.
    pub(crate) fn begin(&mut self, key: K, membership: Membership, now: Instant) {
        self.0.insert(key, (membership, now));
    }

    /// What follows from it is done, if this is what waits under the key: since when it waited.
    pub(crate) fn settle(&mut self, key: &K, membership: Membership) -> Option<Instant> {
        self.0.get(key).filter(|(waits, _)| *waits == membership)?;
        self.0.remove(key).map(|(_, since)| since)
    }

    /// The keys of those that wait.
    pub(crate) fn keys(&self) -> Vec<K>
    where
        K: Copy,
    {
        self.0.keys().copied().collect()
    }

    /// Nothing follows from any of them any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
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
        assert_eq!(pending.settle(&80, Left), None, "something else waits");
        assert_eq!(pending.settle(&80, Joined), Some(at(0)));
        assert_eq!(pending.settle(&80, Joined), None);
        pending.begin(81, Left, at(2));
        assert_eq!(pending.settle(&81, Joined), None);
        assert_eq!(pending.settle(&81, Left), Some(at(2)));
        assert_eq!(pending.keys(), [82]);
        pending.clear();
        assert_eq!(pending.settle(&82, Left), None);
        let mut times = MembershipTimes::default();
        times.observe(Joined, at(0), at(5));
        times.observe(Left, at(2), at(5));
        assert_eq!(
            (times.joins.sum(), times.leaves.sum()),
            (Duration::from_millis(5), Duration::from_millis(3))
        );
    }
}
