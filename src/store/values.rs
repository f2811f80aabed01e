//! What some keys of a store say: how a view is kept by what has no store at hand. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::value::Value;
use super::{Key, StoreState};

/// What some keys of a store say: each with its value, or none where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreValues(Vec<(Key, Option<Value>)>);

impl StoreValues {
    /// True if these are of no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.0.iter().map(|(key, _)| *key)
    }
}

impl StoreState {
    /// What these keys say.
    pub fn values_of(&self, keys: &BTreeSet<Key>) -> StoreValues {
        StoreValues(keys.iter().map(|key| (*key, self.value(*key))).collect())
    }

    /// Takes what some keys say.
    pub fn take(&mut self, values: StoreValues) {
        for (key, value) in values.0 {
            self.set(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DrainOrder, DrainTarget, Elected, NodeRecord, Scope, ServiceKey};
    use super::*;
    use crate::ports::{FlagSet, PortFlag};
    use crate::protocol::Protocol;

    /// One that has a value of each kind.
    fn full() -> StoreState {
        let mut flags = FlagSet::default();
        flags.set(PortFlag::new(Protocol::Tcp, 80, 89, 2).unwrap());
        let target = DrainTarget { node: 2, port: Some((Protocol::Udp, 53)) };
        let order = DrainOrder { reason: None, since: 1, deadline_s: None, by: "root".to_owned() };
        let service =
            ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Protocol::Tcp, port: 80 };
        StoreState {
            nodes: [(1, NodeRecord::empty(1, 7, 3)), (2, NodeRecord::empty(2, 8, 4))].into(),
            alive: [(1, 7)].into(),
            flags: [(Scope::Cluster, flags.clone()), (Scope::Node(1), flags)].into(),
            drains: [(target, order)].into(),
            directors: [(1, Elected { node: 2, incarnation: 8, term: 5 })].into(),
            owned: [(1, [service].into())].into(),
        }
    }

    #[test]
    fn a_view_that_takes_what_changed_is_the_view_that_it_was_read_from() {
        let full = full();
        let written = |values: StoreValues| -> StoreValues {
            serde_json::from_str(&serde_json::to_string(&values).unwrap()).unwrap()
        };
        let mut view = StoreState::default();
        view.take(written(full.values_of(&full.keys())));
        assert_eq!(view, full);
        let text = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<StoreState>(&text).unwrap(), full);

        let mut changed = full.clone();
        changed.nodes.remove(&2);
        changed.alive.insert(1, 9);
        let keys = [Key::Node(2), Key::Alive(1)].into();
        view.take(written(changed.values_of(&keys)));
        assert_eq!(view, changed);
        view.take(StoreState::default().values_of(&full.keys()));
        assert_eq!(view, StoreState::default());
    }
}
