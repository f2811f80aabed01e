//! A view of the store on etcd: what is taken into it, and what a write makes of what stands in
//! etcd. Without input and output: what came is given, what is to be written is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::messages::{Item, PendingChanges, Reading, StoreVersion, StoredText, StoredValue};
use crate::clock::Instant;
use crate::ports::FlagSet;
use crate::store::layout::Layout;
use crate::store::value::{self, Found, HighestTerms, Value, may_replace};
use crate::store::{
    Drains, Fault, Key, NodeRecord, Refreshed, Scope, StoreError, StoreState, TermClaim,
};

/// A value that cannot be read: the view keeps the last one that could.
#[derive(Debug)]
pub struct Corrupt {
    /// Which value.
    pub key: Key,
    /// What stands there.
    pub text: Arc<StoredText>,
    /// What is wrong with it.
    pub reason: String,
}

/// What was taken into a view.
#[derive(Debug, Default)]
pub struct Taken {
    /// The keys whose value is another than before.
    pub changed: BTreeSet<Key>,
    /// Values that cannot be read.
    pub corrupt: Vec<Corrupt>,
}

/// A change of one value in etcd, which depends on what stands there.
pub enum EtcdWrite<'a> {
    /// [`Store::put_node`](crate::store::Store::put_node).
    PutNode(&'a NodeRecord),
    /// [`Store::claim`](crate::store::Store::claim).
    Claim {
        /// The set of directors.
        set: u32,
        /// The term that is to stand there; none before the first election.
        expected_term: Option<u64>,
        /// Who claims: node number and incarnation.
        claimant: (u32, u64),
    },
    /// [`Store::update_flags`](crate::store::Store::update_flags) of the whole cluster.
    UpdateFlags(&'a mut dyn FnMut(&mut FlagSet)),
    /// [`Store::update_drains`](crate::store::Store::update_drains).
    UpdateDrains(&'a mut dyn FnMut(&mut Drains)),
    /// [`Store::repair`](crate::store::Store::repair).
    Repair(Key),
}

impl EtcdWrite<'_> {
    /// Which value.
    pub fn key(&self) -> Key {
        match self {
            EtcdWrite::PutNode(record) => Key::Node(record.node),
            EtcdWrite::Claim { set, .. } => Key::Director(*set),
            EtcdWrite::UpdateFlags(_) => Key::Flags(Scope::Cluster),
            EtcdWrite::UpdateDrains(_) => Key::Drains,
            EtcdWrite::Repair(key) => *key,
        }
    }
}

/// What a write makes of what stands there.
#[derive(Debug)]
pub enum Decision {
    /// This is written if what stands there is still the same; `None` removes it.
    Replace(Option<Arc<StoredText>>),
    /// It stays as it is.
    Leave,
}

/// What a write that was done, or left the value as it is, tells its caller.
#[derive(Debug, Default)]
pub struct Written {
    /// What became of a claim.
    pub claim: Option<TermClaim>,
    /// What stood there and could not be read.
    pub corrupt: Option<Corrupt>,
}

/// One view of the store on etcd.
#[derive(Debug)]
pub struct EtcdView {
    layout: Layout,
    state: StoreState,
    terms: HighestTerms,
    unavailable: Option<Instant>,
    /// The last full read that was asked for.
    ticket: u64,
    /// The last one that was waited for.
    awaited: Option<u64>,
    /// The last reading answers the ticket, or says why it cannot.
    is_answered: bool,
    /// What was taken into the view and could not be told yet.
    untold: Refreshed,
    /// Own writes that the view does not show yet.
    written: BTreeMap<Vec<u8>, Item>,
    /// What the view never goes back behind: the moments of own writes.
    floors: BTreeMap<Vec<u8>, StoreVersion>,
    /// Records as they were written last: where no other program writes, they need not be read
    /// first.
    records: BTreeMap<u32, StoredValue>,
}

impl EtcdView {
    /// A view into which nothing was taken yet.
    pub fn new(layout: Layout) -> EtcdView {
        EtcdView {
            layout,
            state: StoreState::default(),
            terms: HighestTerms::default(),
            unavailable: None,
            ticket: 0,
            awaited: None,
            is_answered: false,
            untold: Refreshed::default(),
            written: BTreeMap::new(),
            floors: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// What the view says.
    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// The same, for those who take the host's own values into it.
    pub(super) fn state_mut(&mut self) -> &mut StoreState {
        &mut self.state
    }

    /// Sets or removes a value that only the host keeps. True if it is another than before.
    pub fn set_of_host(&mut self, key: Key, value: Option<Value>) -> bool {
        self.state.set(key, value)
    }

    /// Since when etcd cannot be read.
    pub fn unavailable_since(&self) -> Option<Instant> {
        self.unavailable
    }

    /// Asks for a full read; its ticket.
    pub fn invalidate(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// The ticket of the last full read that was asked for.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// True if its answer is to be waited for. One that was waited for in vain is not waited for
    /// again: it wakes when it comes.
    pub fn is_asked(&self) -> bool {
        self.awaited != Some(self.ticket)
    }

    /// Takes what came from etcd into the view, after the wait for it. What was taken is
    /// told by [`EtcdView::tell`].
    ///
    /// # Errors
    /// Nothing was ever read: half a view would be a false one.
    pub fn take(
        &mut self,
        changes: PendingChanges,
        reading: Reading,
        patience: Duration,
    ) -> Result<Taken, StoreError> {
        self.awaited = Some(self.ticket);
        self.unavailable = reading.unavailable.as_ref().map(|unavailable| unavailable.since);
        if !reading.ever {
            self.awaited = None;
            let reason = reading
                .unavailable
                .map_or_else(|| unanswered(patience), |unavailable| unavailable.reason);
            return Err(StoreError::Unavailable { reason });
        }
        self.is_answered = reading.answered >= self.ticket || reading.unavailable.is_some();
        let taken = self.apply(changes);
        self.terms.see(&self.state);
        Ok(taken)
    }

    /// Tells what was taken from etcd, with its faults, and what was read on the host. What cannot
    /// be told now is told the next time.
    ///
    /// # Errors
    /// The host's own values cannot be read, or the full read that was asked for did not come.
    pub fn tell(
        &mut self,
        changed: BTreeSet<Key>,
        faults: Vec<Fault>,
        of_the_host: Result<Refreshed, StoreError>,
        patience: Duration,
    ) -> Result<Refreshed, StoreError> {
        self.untold.changed.extend(changed);
        self.untold.faults.extend(faults);
        let of_the_host = of_the_host?;
        self.untold.changed.extend(of_the_host.changed);
        self.untold.faults.extend(of_the_host.faults);
        match self.is_answered {
            true => Ok(std::mem::take(&mut self.untold)),
            false => Err(StoreError::Unavailable { reason: unanswered(patience) }),
        }
    }

    fn apply(&mut self, changes: PendingChanges) -> Taken {
        let PendingChanges { whole, mut items } = changes;
        let mut taken = Taken::default();
        // A view that goes back behind its own writes would make its owner write again.
        let late = |floors: &BTreeMap<Vec<u8>, StoreVersion>, path: &[u8], at: StoreVersion| {
            floors.get(path).is_some_and(|floor| at < *floor)
        };
        items.retain(|path, item| !late(&self.floors, path, item.at));
        for (path, item) in std::mem::take(&mut self.written) {
            if items.get(&path).is_none_or(|other| other.at < item.at) {
                items.insert(path, item);
            }
        }
        if let Some(at) = whole {
            for key in self.state.keys() {
                let Some(path) = self.layout.path(key) else { continue };
                let path = path.into_bytes();
                if !items.contains_key(&path) && !late(&self.floors, &path, at) {
                    self.state.set(key, None);
                    taken.changed.insert(key);
                }
            }
        }
        for (path, Item { text, .. }) in items {
            let Some(key) = self.layout.key(&path) else { continue };
            let value = match text {
                None => None,
                Some(text) => match text.value(key) {
                    Ok(_) => text.into_value(key).ok(),
                    Err(reason) => {
                        let reason = reason.to_owned();
                        taken.corrupt.push(Corrupt { key, text, reason });
                        // That it is held is true, though the text is corrupt.
                        if matches!(key, Key::Alive(_)) && self.state.value(key).is_none() {
                            Some(Value::Alive(0))
                        } else {
                            continue;
                        }
                    }
                },
            };
            if self.state.set(key, value) {
                taken.changed.insert(key);
            }
        }
        taken
    }

    /// A term of a set that is known from elsewhere: a claim writes a higher one.
    pub fn surpass(&mut self, set: u32, term: u64) {
        self.terms.surpass(set, term);
    }

    /// What stands under a write's key, if that need not be read: what was written last. It may be
    /// gone, and refuses nothing.
    pub fn known(&mut self, write: &EtcdWrite<'_>) -> Option<StoredValue> {
        let EtcdWrite::PutNode(record) = write else { return None };
        let known = self.records.remove(&record.node);
        known.filter(|stored| may_replace(&found_record(Some(stored), record.node), record))
    }

    /// What a write makes of what stands there.
    ///
    /// # Errors
    /// [`StoreError::Superseded`].
    pub fn decide(
        &self,
        write: &mut EtcdWrite<'_>,
        stored: Option<&StoredValue>,
    ) -> Result<(Decision, Written), StoreError> {
        let key = write.key();
        let replace = |value: Value| Decision::Replace(Some(StoredText::new(value.encode())));
        match write {
            EtcdWrite::PutNode(record) => {
                match may_replace(&found_record(stored, record.node), record) {
                    true => {
                        let text = StoredText::new(value::encode(record));
                        Ok((Decision::Replace(Some(text)), Written::default()))
                    }
                    false => Err(StoreError::Superseded(record.node)),
                }
            }
            EtcdWrite::Claim { set, expected_term, claimant } => {
                let found = find(key, stored, |value| match value {
                    Value::Director(elected) => Some(*elected),
                    _ => None,
                });
                let seen = self.state.directors.get(set).copied();
                let decided = self.terms.decide(*set, &found, seen, *expected_term, *claimant);
                let (decision, claim) = match decided {
                    Ok(elected) => (replace(Value::Director(elected)), TermClaim::Won(elected)),
                    Err(stands) => (Decision::Leave, TermClaim::Stands(stands)),
                };
                Ok((decision, Written { claim: Some(claim), ..Written::default() }))
            }
            EtcdWrite::UpdateFlags(change) => {
                let (mut flags, corrupt) = parsed(key, stored, |value| match value {
                    Value::Flags(flags) => Some(flags.clone()),
                    _ => None,
                });
                change(&mut flags);
                Ok((replace(Value::Flags(flags)), Written { corrupt, ..Written::default() }))
            }
            EtcdWrite::UpdateDrains(change) => {
                let (mut drains, corrupt) = parsed(key, stored, |value| match value {
                    Value::Drains(drains) => Some(drains.clone()),
                    _ => None,
                });
                change(&mut drains);
                Ok((replace(Value::Drains(drains)), Written { corrupt, ..Written::default() }))
            }
            EtcdWrite::Repair(_) => {
                let decision = match stored {
                    Some(stored) if stored.text.value(key).is_err() => {
                        let text = self.state.value(key).map(|value| value.encode());
                        Decision::Replace(text.map(StoredText::new))
                    }
                    _ => Decision::Leave,
                };
                Ok((decision, Written::default()))
            }
        }
    }

    /// A write was done: the view shows it from the next refresh on.
    pub fn wrote(&mut self, key: Key, text: Option<Arc<StoredText>>, at: StoreVersion) {
        let Some(path) = self.layout.path(key) else { return };
        if let (Key::Node(node), Some(text)) = (key, &text) {
            let text = Arc::clone(text);
            self.records.insert(node, StoredValue { text, revision: at.revision, lease: 0 });
        }
        self.floors.insert(path.clone().into_bytes(), at);
        self.written.insert(path.into_bytes(), Item { text, at });
    }
}

fn unanswered(patience: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(patience))
}

/// What stands under a key, for a caller that is about to replace it.
fn find<'a, T>(
    key: Key,
    stored: Option<&'a StoredValue>,
    take: impl FnOnce(&'a Value) -> Option<T>,
) -> Found<T> {
    let Some(stored) = stored else { return Found::Nothing };
    let value = stored.text.value(key).ok();
    value.and_then(take).map_or(Found::Corrupt, Found::Value)
}

fn found_record(stored: Option<&StoredValue>, node: u32) -> Found<&NodeRecord> {
    find(Key::Node(node), stored, |value| match value {
        Value::Node(record) => Some(record),
        _ => None,
    })
}

/// The value from which a change starts: nothing where there is none, or none that can be read.
fn parsed<T: Default>(
    key: Key,
    stored: Option<&StoredValue>,
    take: impl FnOnce(&Value) -> Option<T>,
) -> (T, Option<Corrupt>) {
    let Some(StoredValue { text, .. }) = stored else { return (T::default(), None) };
    match text.value(key) {
        Ok(value) => (take(value).unwrap_or_default(), None),
        Err(reason) => {
            let reason = reason.to_owned();
            (T::default(), Some(Corrupt { key, text: Arc::clone(text), reason }))
        }
    }
}

#[cfg(test)]
mod tests;
