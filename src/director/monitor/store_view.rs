//! What the monitor keeps of the store: elections, leases, and of each record what liveness and
//! elections depend on. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::counter;
use crate::protocol::Protocol;
use crate::store::{Elected, Key, NodeRecord, ServiceKey, StoreState};

/// One reading of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReading {
    /// What changed; none if it could not be read.
    pub changes: Option<StoreChanges>,
    /// Since when it cannot be reached; none while it can.
    pub unavailable_since: Option<Instant>,
    /// Everything was read anew, as was asked.
    pub anew: bool,
}

/// What changed in the store: what each key says now, or that it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreChanges {
    /// Records, by node.
    pub records: BTreeMap<u32, Option<RecordSummary>>,
    /// The incarnations that hold leases, by node.
    pub alive: BTreeMap<u32, Option<u64>>,
    /// Elected directors, by set.
    pub elected: BTreeMap<u32, Option<Elected>>,
}

/// What the monitor keeps of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordSummary {
    /// Which start of its cvipd wrote it.
    pub incarnation: u64,
    /// It says that its node is the active director.
    pub directing: bool,
    /// It says that its node leaves the cluster.
    pub leaving: bool,
    /// By which number its director last vouched for itself.
    pub vouched: Option<u32>,
    /// The services whose listeners can be asked by a connect: those of TCP, but for listeners on
    /// the CVIP alone.
    pub services: Vec<ServiceKey>,
}

impl From<&NodeRecord> for RecordSummary {
    fn from(record: &NodeRecord) -> RecordSummary {
        let is_asked = |service: &ServiceKey| service.protocol == Protocol::Tcp;
        let reachable = record.registrations.iter().filter(|registration| !registration.hidden);
        RecordSummary {
            incarnation: record.incarnation,
            directing: record.directing,
            leaving: record.leaving,
            vouched: record.vouched,
            services: reachable.map(|reached| reached.service).filter(is_asked).collect(),
        }
    }
}

impl StoreChanges {
    /// What a refresh found to have changed.
    pub fn of(changed: &BTreeSet<Key>, state: &StoreState) -> StoreChanges {
        let mut changes = StoreChanges::default();
        for key in changed {
            match key {
                Key::Node(node) => {
                    changes.records.insert(*node, state.nodes.get(node).map(RecordSummary::from));
                }
                Key::Alive(node) => {
                    changes.alive.insert(*node, state.alive.get(node).copied());
                }
                Key::Director(set) => {
                    changes.elected.insert(*set, state.directors.get(set).copied());
                }
                _ => {}
            }
        }
        changes
    }

    /// True if nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.alive.is_empty() && self.elected.is_empty()
    }
}

/// What is known of the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoreView {
    /// It was read at least once.
    pub known: bool,
    /// Since when it cannot be reached.
    pub unavailable_since: Option<Instant>,
    /// What is kept of each record, by node.
    pub records: BTreeMap<u32, RecordSummary>,
    /// The incarnations that hold leases, by node.
    pub alive: BTreeMap<u32, u64>,
    /// The latest incarnation that was seen to hold a lease, by node.
    pub latest: BTreeMap<u32, u64>,
    /// The elected directors, by set.
    pub elected: BTreeMap<u32, Elected>,
}

impl StoreView {
    /// Takes a reading; true if it says something new.
    pub(super) fn follow(&mut self, reading: StoreReading) -> bool {
        self.unavailable_since = reading.unavailable_since;
        let Some(changes) = reading.changes else { return false };
        self.known = true;
        let is_new = !changes.is_empty();
        for (node, incarnation) in &changes.alive {
            self.latest.extend(incarnation.map(|incarnation| (*node, incarnation)));
        }
        put(&mut self.records, changes.records);
        put(&mut self.alive, changes.alive);
        put(&mut self.elected, changes.elected);
        is_new
    }

    /// The nodes whose leases are held by incarnations with lower numbers than those which held them
    /// before: the store has lost what it knew, and their hosts have too.
    pub(super) fn gone_back(&self, reading: &StoreReading) -> Vec<u32> {
        let leases = reading.changes.iter().flat_map(|changes| &changes.alive);
        let is_back = |node, new: Option<u64>| {
            let latest = self.latest.get(node).copied().unwrap_or(0);
            new.is_some_and(|new| counter::is_later(latest, new))
        };
        leases.filter(|(node, new)| is_back(node, **new)).map(|(node, _)| *node).collect()
    }

    /// It cannot be reached.
    pub fn is_unavailable(&self) -> bool {
        self.unavailable_since.is_some()
    }

    /// A node's record says that it directs.
    pub fn directs(&self, node: u32) -> bool {
        self.records.get(&node).is_some_and(|record| record.directing)
    }

    /// A node's record says that it leaves.
    pub fn leaves(&self, node: u32) -> bool {
        self.records.get(&node).is_some_and(|record| record.leaving)
    }
}

fn put<V>(view: &mut BTreeMap<u32, V>, changes: BTreeMap<u32, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(view.insert(key, value)),
            None => drop(view.remove(&key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Registration;

    #[test]
    fn the_view_follows_what_changed_and_keeps_everything_while_the_store_is_unavailable() {
        let elected = Elected { node: 1, incarnation: 7, term: 3 };
        let service = |protocol| ServiceKey { cvip: [10, 0, 0, 100].into(), protocol, port: 80 };
        let hidden = Registration { hidden: true, ..Registration::new(service(Protocol::Tcp), 1) };
        let registrations = vec![
            Registration::new(service(Protocol::Tcp), 1),
            Registration::new(service(Protocol::Udp), 1),
            hidden,
        ];
        let record = NodeRecord { registrations, directing: true, ..NodeRecord::empty(2, 5, 1) };
        let mut state = StoreState::default();
        state.nodes.insert(2, record);
        state.alive.insert(2, 5);
        state.directors.insert(1, elected);
        let changed = BTreeSet::from([Key::Node(2), Key::Alive(2), Key::Director(1), Key::Drains]);
        let read =
            |changes, unavailable_since| StoreReading { changes, unavailable_since, anew: false };

        let mut view = StoreView::default();
        let now = Instant::now();
        assert!(!view.follow(read(None, Some(now))) && !view.known && view.is_unavailable());
        assert!(view.follow(read(Some(StoreChanges::of(&changed, &state)), None)));
        assert!(view.known && !view.is_unavailable() && view.directs(2) && !view.leaves(2));
        assert_eq!((view.alive.get(&2), view.elected.get(&1)), (Some(&5), Some(&elected)));
        assert_eq!(view.records[&2].services, [service(Protocol::Tcp)], "others cannot be asked");
        assert!(!view.follow(read(Some(StoreChanges::of(&[Key::Drains].into(), &state)), None)));
        // It becomes unavailable: nothing is taken from the view.
        assert!(!view.follow(read(Some(StoreChanges::default()), Some(now))) && view.directs(2));
        // It was emptied.
        let emptied = StoreChanges::of(&changed, &StoreState::default());
        assert!(view.follow(read(Some(emptied), None)));
        assert!(view.records.is_empty() && view.alive.is_empty() && view.elected.is_empty());
    }

    #[test]
    fn a_lease_of_a_lower_incarnation_than_before_shows_that_the_store_has_lost_what_it_knew() {
        let mut view = StoreView::default();
        for (incarnation, is_back) in [(5, false), (7, false), (3, true), (3, false), (4, false)] {
            for alive in [Some(incarnation), None] {
                let alive = [(2, alive)].into();
                let changes = Some(StoreChanges { alive, ..StoreChanges::default() });
                let reading = StoreReading { changes, unavailable_since: None, anew: false };
                let gone_back = view.gone_back(&reading);
                view.follow(reading.clone());
                let holds = reading.changes.is_some_and(|changes| changes.alive[&2].is_some());
                assert_eq!(gone_back, [2; 1][..usize::from(is_back && holds)], "{incarnation}");
            }
        }
    }
}
