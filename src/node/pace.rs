//! How often a node's record is written. Pure.
//!
//! A join or a leave is written at once. What only tells people something, and what users can
//! change as often as they like, is written every few seconds. And servers that come and go
//! without end are written ten times a second: every write stays in etcd's history for a while,
//! and one whose database is full takes no write of any node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::store::{NodeRecord, Registration};

/// From one write of what can wait to the next.
const MINOR: Duration = Duration::from_secs(5);
/// So many writes of what cannot wait follow one another without a pause.
const BURST: u32 = 20;
/// Then there is one in this time.
const URGENT: Duration = Duration::from_millis(100);

/// When the next write may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WritePace {
    minor: Instant,
    /// The time at which a whole burst is free again.
    free: Instant,
}

impl WritePace {
    /// Everything may be written.
    pub(super) fn new(now: Instant) -> WritePace {
        WritePace { minor: now, free: now }
    }

    /// When a record that is to replace another may be written: now, or later.
    pub(super) fn due(
        &self,
        before: Option<&NodeRecord>,
        after: &NodeRecord,
        now: Instant,
    ) -> Instant {
        let urgent = before.is_none_or(|before| is_urgent(before, after));
        match urgent {
            false => self.minor.max(now),
            true => {
                let burst = URGENT * BURST;
                // A clock may be younger than a burst is long.
                self.free.checked_sub(burst).unwrap_or(now).max(now)
            }
        }
    }

    /// A record was written.
    pub(super) fn wrote(&mut self, now: Instant) {
        self.minor = now + MINOR;
        self.free = self.free.max(now) + URGENT;
    }
}

/// Whether directors act on the difference.
fn is_urgent(before: &NodeRecord, after: &NodeRecord) -> bool {
    let alike = |old: &Registration, new: &Registration| {
        let Registration { service, weight, unhealthy, hidden } = new;
        (old.service, old.weight, old.hidden) == (*service, *weight, *hidden)
            && old.unhealthy.is_some() == unhealthy.is_some()
    };
    // Named one by one, so that a new field is thought about: node, sequence, event source, hints and
    // listeners that were kept out only tell people something, or are what users can change.
    let NodeRecord {
        node: _,
        incarnation,
        sequence: _,
        event_source: _,
        registrations,
        refused: _,
        refused_more: _,
        reachable: _,
        lingering,
        hints: _,
        flags,
        directing,
        vouched,
        obeys,
        leaving,
        released,
    } = after;
    before.registrations.len() != registrations.len()
        || !before.registrations.iter().zip(registrations).all(|(old, new)| alike(old, new))
        || before.lingering != *lingering
        || before.flags != *flags
        || before.directing != *directing
        || before.vouched != *vouched
        || before.obeys != *obeys
        || before.leaving != *leaving
        || before.released != *released
        || before.incarnation != *incarnation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;
    use crate::store::ServiceKey;

    fn serving(ports: &[u16]) -> NodeRecord {
        let service =
            |port| ServiceKey { cvip: [10, 0, 0, 1].into(), protocol: Protocol::Tcp, port };
        let registrations = ports.iter().map(|port| Registration::new(service(*port), 1)).collect();
        NodeRecord { registrations, ..NodeRecord::empty(1, 1, 1) }
    }

    #[test]
    fn joins_and_leaves_go_at_once_and_what_users_cause_waits() {
        let now = Instant::now();
        let mut pace = WritePace::new(now);
        let (served, left) = (serving(&[80]), serving(&[]));
        let counted = NodeRecord { refused_more: 7, ..serving(&[80]) };
        assert_eq!(pace.due(None, &served, now), now);
        assert_eq!(pace.due(Some(&served), &counted, now), now);
        pace.wrote(now);
        assert_eq!(pace.due(Some(&served), &counted, now), now + MINOR);
        assert_eq!(pace.due(Some(&served), &left, now), now);
        let mut unhealthy = serving(&[80]);
        unhealthy.registrations[0].unhealthy = Some("it took 12 ms".to_owned());
        assert_eq!(pace.due(Some(&served), &unhealthy, now), now);
        // A node of static services leaves, and a director says that it is out.
        let leaving = NodeRecord { leaving: true, ..serving(&[80]) };
        let released = NodeRecord { released: vec![2], ..serving(&[80]) };
        assert_eq!(pace.due(Some(&served), &leaving, now), now);
        assert_eq!(pace.due(Some(&served), &released, now), now);
        let mut why = unhealthy.clone();
        why.registrations[0].unhealthy = Some("it took 13 ms".to_owned());
        assert_eq!(pace.due(Some(&unhealthy), &why, now), now + MINOR);
    }

    #[test]
    fn a_server_that_comes_and_goes_without_end_writes_ten_times_a_second() {
        let start = Instant::now();
        let mut pace = WritePace::new(start);
        let records = [serving(&[80]), serving(&[])];
        let mut writes = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            if pace.due(Some(&records[writes % 2]), &records[(writes + 1) % 2], now) <= now {
                pace.wrote(now);
                writes += 1;
            }
        }
        assert!((110..=125).contains(&writes), "{writes} in 10 s");
    }
}
