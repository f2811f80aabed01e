//! The values of the store as JSON, the same in every engine, and the view that they make up.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::orders::OrderRow;
use super::{Drains, Elected, Key, NodeRecord, ServiceKey, StoreState};
use crate::counter;
use crate::json;
use crate::ports::FlagSet;
use crate::serial::pairs;

/// No value is larger: 65,535 registrations for each of several CVIPs fit.
pub(super) const VALUE_CAP: u64 = 64 << 20;

/// What a node's lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alive {
    pub(super) incarnation: u64,
}

/// One key's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "most values are records of nodes")]
pub enum Value {
    /// A node's record.
    Node(NodeRecord),
    /// A node's lease: the incarnation that holds it.
    Alive(u64),
    /// Port flags.
    Flags(FlagSet),
    /// Operators' drains.
    Drains(#[serde(with = "pairs")] Drains),
    /// Which director a set has elected.
    Director(Elected),
    /// The services that a director owns.
    Owned(BTreeSet<ServiceKey>),
}

impl Value {
    /// Reads a key's value; the error says what is wrong with it.
    pub fn parse(key: Key, bytes: &[u8]) -> Result<Value, String> {
        if bytes.len() as u64 > VALUE_CAP {
            return Err(format!("it is larger than {} MiB", VALUE_CAP >> 20));
        }
        Ok(match key {
            Key::Node(node) => match parse::<NodeRecord>(bytes)? {
                record if record.node != node => {
                    return Err(format!("it is the record of node {}", record.node));
                }
                record => {
                    within("incarnation", record.incarnation)?;
                    within("sequence", record.sequence)?;
                    Value::Node(record)
                }
            },
            Key::Alive(_) => {
                let Alive { incarnation } = parse(bytes)?;
                within("incarnation", incarnation)?;
                Value::Alive(incarnation)
            }
            Key::Flags(_) => Value::Flags(parse(bytes)?),
            Key::Drains => {
                let rows: Vec<OrderRow> = parse(bytes)?;
                Value::Drains(rows.into_iter().map(OrderRow::into_entry).collect::<Result<_, _>>()?)
            }
            Key::Director(_) => {
                let elected: Elected = parse(bytes)?;
                within("term", elected.term)?;
                within("incarnation", elected.incarnation)?;
                Value::Director(elected)
            }
            Key::Owned(_) => Value::Owned(parse(bytes)?),
        })
    }

    /// The value as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Value::Node(record) => encode(record),
            Value::Alive(incarnation) => encode(&Alive { incarnation: *incarnation }),
            Value::Flags(flags) => encode(flags),
            Value::Drains(drains) => encode(&drains.iter().map(OrderRow::new).collect::<Vec<_>>()),
            Value::Director(elected) => encode(elected),
            Value::Owned(owned) => encode(owned),
        }
    }
}

/// A longer value is written without white space: it is too long for a person to read anyway, and
/// white space is a third of it.
const MOST_PRETTY: usize = 64 << 10;

/// What is counted has a number that can be followed by another.
fn within(what: &str, number: u64) -> Result<(), String> {
    match number <= counter::LAST {
        true => Ok(()),
        false => {
            Err(format!("its {what}, {number}, is higher than any can be ({})", counter::LAST))
        }
    }
}

/// A value as JSON that a person can read.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Maps of these types have text for keys, and nothing else of them can fail.
    let mut bytes = serde_json::to_vec_pretty(value).expect("a value of the store is JSON");
    if bytes.len() > MOST_PRETTY {
        bytes = serde_json::to_vec(value).expect("a value of the store is JSON");
    }
    bytes.push(b'\n');
    bytes
}

/// What a lease's key says.
#[cfg(feature = "etcd")]
pub(super) fn parse_alive(bytes: &[u8]) -> Option<Alive> {
    let alive: Alive = parse(bytes).ok()?;
    within("incarnation", alive.incarnation).ok()?;
    Some(alive)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| match bytes.is_empty() {
        true => "it is empty".to_owned(),
        false => json::plain(&e.to_string()),
    })
}

impl StoreState {
    /// The view's value of a key.
    pub(super) fn value(&self, key: Key) -> Option<Value> {
        match key {
            Key::Node(node) => self.nodes.get(&node).cloned().map(Value::Node),
            Key::Alive(node) => self.alive.get(&node).copied().map(Value::Alive),
            Key::Flags(scope) => self.flags.get(&scope).cloned().map(Value::Flags),
            Key::Drains if self.drains.is_empty() => None,
            Key::Drains => Some(Value::Drains(self.drains.clone())),
            Key::Director(set) => self.directors.get(&set).copied().map(Value::Director),
            Key::Owned(node) => self.owned.get(&node).cloned().map(Value::Owned),
        }
    }

    /// Sets or removes a key's value. True if it is another than before.
    pub(super) fn set(&mut self, key: Key, value: Option<Value>) -> bool {
        match (key, value) {
            (Key::Node(node), Some(Value::Node(v))) => put(&mut self.nodes, node, Some(v)),
            (Key::Node(node), None) => put(&mut self.nodes, node, None),
            (Key::Alive(node), Some(Value::Alive(v))) => put(&mut self.alive, node, Some(v)),
            (Key::Alive(node), None) => put(&mut self.alive, node, None),
            (Key::Flags(scope), Some(Value::Flags(v))) => put(&mut self.flags, scope, Some(v)),
            (Key::Flags(scope), None) => put(&mut self.flags, scope, None),
            (Key::Drains, Some(Value::Drains(v))) => {
                let changed = self.drains != v;
                self.drains = v;
                changed
            }
            (Key::Drains, None) => !std::mem::take(&mut self.drains).is_empty(),
            (Key::Director(set), Some(Value::Director(v))) => {
                put(&mut self.directors, set, Some(v))
            }
            (Key::Director(set), None) => put(&mut self.directors, set, None),
            (Key::Owned(node), Some(Value::Owned(v))) => put(&mut self.owned, node, Some(v)),
            (Key::Owned(node), None) => put(&mut self.owned, node, None),
            (key, value) => unreachable!("{value:?} was read for {key:?}"),
        }
    }

    /// Every key that has a value.
    pub(super) fn keys(&self) -> BTreeSet<Key> {
        let mut keys: BTreeSet<Key> = self.nodes.keys().map(|node| Key::Node(*node)).collect();
        keys.extend(self.alive.keys().map(|node| Key::Alive(*node)));
        keys.extend(self.flags.keys().map(|scope| Key::Flags(*scope)));
        keys.extend((!self.drains.is_empty()).then_some(Key::Drains));
        keys.extend(self.directors.keys().map(|set| Key::Director(*set)));
        keys.extend(self.owned.keys().map(|node| Key::Owned(*node)));
        keys
    }
}

/// Sets or removes a key; true if the value is another than before.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    match value {
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
        None => map.remove(&key).is_some(),
    }
}

/// What `claim` and `put_node` find where they want to write.
#[derive(Debug)]
pub(super) enum Found<T> {
    Nothing,
    Value(T),
    /// Something that cannot be read.
    Corrupt,
}

/// The highest term of each set that a view ever showed. It outlives the values themselves: an
/// etcd that lost its data, or was put back to an old state, must not make terms go back.
#[derive(Clone, Debug, Default)]
pub(super) struct HighestTerms(BTreeMap<u32, u64>);

impl HighestTerms {
    /// Notes what a view shows.
    pub(super) fn see(&mut self, state: &StoreState) {
        for (set, elected) in &state.directors {
            self.surpass(*set, elected.term);
        }
    }

    /// Notes a term that is known from elsewhere.
    pub(super) fn surpass(&mut self, set: u32, term: u64) {
        let highest = self.0.entry(set).or_default();
        *highest = counter::latest(*highest, term.min(counter::LAST));
    }

    fn highest(&self, set: u32) -> u64 {
        self.0.get(&set).copied().unwrap_or(0)
    }

    /// The term and the holder that a claim writes, or what stands in its way.
    ///
    /// `seen` is the last election that this view could read: where the stored value is corrupt,
    /// it stands for it.
    pub(super) fn decide(
        &self,
        set: u32,
        found: &Found<Elected>,
        seen: Option<Elected>,
        expected: Option<u64>,
        claimant: (u32, u64),
    ) -> Result<Elected, Option<Elected>> {
        let stands = match found {
            Found::Value(elected) => Some(*elected),
            Found::Nothing => None,
            Found::Corrupt => seen,
        };
        let term = stands.map(|elected| elected.term);
        if term != expected {
            return Err(stands);
        }
        let highest = counter::latest(self.highest(set), term.unwrap_or(0));
        let (node, incarnation) = claimant;
        Ok(Elected { node, incarnation, term: counter::next(highest) })
    }
}

/// True if a record may be written over what is found.
pub(super) fn may_replace(found: &Found<impl Borrow<NodeRecord>>, record: &NodeRecord) -> bool {
    match found {
        Found::Value(stored) => {
            !counter::is_later_pair(stored.borrow().version(), record.version())
        }
        Found::Nothing | Found::Corrupt => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn elected(term: u64) -> Elected {
        Elected { node: 9, incarnation: 1, term }
    }

    #[test]
    fn a_claim_wins_only_over_the_term_that_was_seen_and_terms_only_grow() {
        let decide = |found: Found<Elected>, seen: Option<u64>, expected| {
            let mut state = StoreState::default();
            state.directors.extend(seen.map(|term| (1, elected(term))));
            let mut terms = HighestTerms::default();
            terms.see(&state);
            // What was seen is remembered when it is gone from the view.
            terms.see(&StoreState::default());
            terms
                .decide(1, &found, seen.map(elected), expected, (2, 7))
                .map(|won| won.term)
                .map_err(|stands| stands.map(|elected| elected.term))
        };
        let stored = |term| Found::Value(elected(term));
        assert_eq!(decide(Found::Nothing, None, None), Ok(1));
        assert_eq!(decide(stored(4), Some(4), Some(4)), Ok(5));
        assert_eq!(decide(stored(5), Some(4), Some(4)), Err(Some(5)));
        assert_eq!(decide(stored(1), None, None), Err(Some(1)));
        assert_eq!(decide(Found::Nothing, Some(4), Some(4)), Err(None), "it was removed");
        assert_eq!(decide(Found::Nothing, Some(4), None), Ok(5), "removed, and not forgotten");
        assert_eq!(decide(Found::Corrupt, Some(4), Some(4)), Ok(5));
        assert_eq!(decide(Found::Corrupt, Some(4), Some(3)), Err(Some(4)));
        assert_eq!(decide(Found::Corrupt, None, None), Ok(1), "it could not be read");
        assert_eq!(decide(stored(2), Some(9), Some(2)), Ok(10), "an old backup was put back");
        assert_eq!(decide(stored(counter::LAST), None, Some(counter::LAST)), Ok(1));
    }

    #[test]
    fn a_claim_is_for_a_term_above_what_is_known_from_elsewhere() {
        let mut terms = HighestTerms::default();
        terms.surpass(1, 9);
        terms.surpass(1, 4);
        let decide = |set, terms: &HighestTerms| {
            terms.decide(set, &Found::Nothing, None, None, (2, 7)).unwrap().term
        };
        assert_eq!((decide(1, &terms), decide(2, &terms)), (10, 1));
        terms.surpass(2, u64::MAX);
        assert_eq!(decide(2, &terms), 1);
    }

    /// Any number, small ones and those around the last more often.
    fn number() -> impl Strategy<Value = u64> {
        let last = counter::LAST;
        prop_oneof![any::<u64>(), 0..9u64, last - 9..last + 9, Just(1 << 59), Just(1 << 60)]
    }

    proptest! {
        /// Whatever is stored: what can be read can be followed, and what follows can be read.
        #[test]
        fn what_can_be_read_can_be_followed_and_what_follows_can_be_read(
            (term, incarnation, sequence) in (number(), number(), number()),
            last in proptest::option::of(1..1_u64 << 40),
            unix_time in 0..1_u64 << 40,
        ) {
            let read = |key, value: Value| Value::parse(key, &value.encode()).ok();
            let elected = Elected { node: 1, incarnation, term };
            if let Some(Value::Director(read_back)) = read(Key::Director(1), Value::Director(elected)) {
                prop_assert_eq!(read_back, elected);
                let found = Found::Value(elected);
                let next = HighestTerms::default().decide(1, &found, None, Some(term), (2, 7)).unwrap();
                prop_assert!(counter::is_later(next.term, term));
                let next = Value::Director(next);
                prop_assert_eq!(read(Key::Director(1), next.clone()), Some(next));
            }
            let record = NodeRecord::empty(1, incarnation, sequence);
            let mut state = StoreState::default();
            if let Some(read_back @ Value::Node(_)) = read(Key::Node(1), Value::Node(record.clone())) {
                state.set(Key::Node(1), Some(read_back));
                for next in [record.next_version(incarnation), record.next_version(1)] {
                    let next = NodeRecord::empty(1, next.0, next.1);
                    prop_assert!(counter::is_later_pair(next.version(), record.version()));
                    prop_assert!(may_replace(&Found::Value(record.clone()), &next));
                    prop_assert_eq!(read(Key::Node(1), Value::Node(next.clone())), Some(Value::Node(next)));
                }
            }
            if let Some(alive) = read(Key::Alive(1), Value::Alive(incarnation)) {
                state.set(Key::Alive(1), Some(alive));
            }
            let start = state.next_incarnation(1, last, unix_time);
            let recorded = state.nodes.values().map(|r| &r.incarnation);
            for earlier in state.alive.values().chain(recorded).chain(&last) {
                prop_assert!(counter::is_later(start, *earlier), "{} after {}", start, earlier);
            }
            prop_assert_eq!(read(Key::Alive(1), Value::Alive(start)), Some(Value::Alive(start)));
        }
    }
}
