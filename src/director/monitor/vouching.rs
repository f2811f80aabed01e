//! How an active director that another one does not hear shows by its record that it is there.
//! Pure.
//!
//! Heartbeats between two directors can be lost while everything else is well: the store, the
//! nodes, the clients. A director that is not heard would be replaced, and the one that replaced it
//! would be replaced in turn. So an active director that does not hear a director that lives, or is
//! told by it that it is not heard, asks a few nodes whether they answer; while they do, it says so
//! in its record every half second. One that is dead, or cut off from the nodes, says nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::store_view::RecordSummary;
use crate::clock::Instant;
use crate::director::election::VOUCH_EVERY;

/// When this director says that it is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Vouching {
    number: u32,
    next: Instant,
}

impl Vouching {
    pub(super) fn new(now: Instant) -> Vouching {
        Vouching { number: 0, next: now }
    }

    /// The number for the record, if it is to be another. `is_answered`: a node was asked, and
    /// answered.
    pub(super) fn step(&mut self, is_answered: bool, now: Instant) -> Option<u32> {
        if !is_answered || now < self.next {
            return None;
        }
        self.next = now + VOUCH_EVERY;
        // Only that it is another counts.
        self.number = self.number.wrapping_add(1);
        Some(self.number)
    }
}

/// When others were seen to say so.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PeerVouches(BTreeMap<u32, (Option<u32>, Option<Instant>)>);

impl PeerVouches {
    /// Looks at the records. What a record says when it is first seen may be old.
    pub(super) fn follow(&mut self, records: &BTreeMap<u32, RecordSummary>, now: Instant) {
        for (node, record) in records {
            let known = self.0.entry(*node).or_insert((record.vouched, None));
            if known.0 != record.vouched {
                let is_there = record.vouched.is_some() && record.directing;
                *known = (record.vouched, is_there.then_some(now));
            }
        }
    }

    /// The number that each node was last seen to vouch by.
    #[cfg(feature = "internal")]
    pub(super) fn numbers(&self) -> impl Iterator<Item = (u32, Option<u32>)> + '_ {
        self.0.iter().map(|(node, (number, _))| (*node, *number))
    }

    /// When a node last vouched for itself.
    pub(super) fn of(&self, node: u32) -> Option<Instant> {
        self.0.get(&node)?.1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::NodeRecord;

    #[test]
    fn a_director_vouches_for_itself_while_nodes_answer_and_not_faster_than_needed() {
        let start = Instant::now();
        let mut vouching = Vouching::new(start);
        assert_eq!(vouching.step(false, start), None);
        assert_eq!(vouching.step(true, start), Some(1));
        assert_eq!(vouching.step(true, start + VOUCH_EVERY / 2), None);
        assert_eq!(vouching.step(false, start + VOUCH_EVERY), None);
        assert_eq!(vouching.step(true, start + VOUCH_EVERY), Some(2));
    }

    #[test]
    fn a_number_counts_when_it_changes_and_not_when_it_is_first_seen() {
        let start = Instant::now();
        let record = |vouched, directing| {
            let record = NodeRecord { vouched, directing, ..NodeRecord::empty(2, 1, 1) };
            BTreeMap::from([(2, RecordSummary::from(&record))])
        };
        let mut vouches = PeerVouches::default();
        vouches.follow(&record(Some(4), true), start);
        assert_eq!(vouches.of(2), None, "that may have been said long ago");
        let now = start + Duration::from_millis(1);
        vouches.follow(&record(Some(5), true), now);
        assert_eq!(vouches.of(2), Some(now));
        vouches.follow(&record(Some(5), true), now + VOUCH_EVERY);
        assert_eq!(vouches.of(2), Some(now), "the same again is nothing new");
        vouches.follow(&record(Some(6), false), now + VOUCH_EVERY);
        assert_eq!(vouches.of(2), None, "a standby says nothing by it");
        let mut vouches = PeerVouches::default();
        vouches.follow(&record(None, true), start);
        vouches.follow(&record(Some(1), true), now);
        assert_eq!(vouches.of(2), Some(now), "for the first time");
        vouches.follow(&record(None, true), now);
        assert_eq!(vouches.of(2), None, "its cvipd was started again");
    }
}
