//! What crosses between those who talk to etcd and those who decide: stored values, changes that
//! wait for a view, and how the reading goes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::clock::Instant;
use crate::store::Key;
use crate::store::value::Value;

/// The text of a stored value. Those who share it parse it once.
#[derive(Debug)]
pub struct StoredText {
    bytes: Vec<u8>,
    parsed: OnceLock<Result<Value, String>>,
}

impl StoredText {
    /// The text as it was read or is to be written.
    pub fn new(bytes: Vec<u8>) -> Arc<StoredText> {
        Arc::new(StoredText { bytes, parsed: OnceLock::new() })
    }

    /// The text itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says under a key, always the same key; the error says what is wrong with it.
    pub fn value(&self, key: Key) -> Result<&Value, &str> {
        let parsed = self.parsed.get_or_init(|| Value::parse(key, &self.bytes));
        parsed.as_ref().map_err(String::as_str)
    }

    /// The same, for an owner: it is copied only where others share it.
    pub(super) fn into_value(self: Arc<Self>, key: Key) -> Result<Value, String> {
        match Arc::try_unwrap(self) {
            Ok(StoredText { bytes, parsed }) => {
                parsed.into_inner().unwrap_or_else(|| Value::parse(key, &bytes))
            }
            Err(shared) => shared.value(key).cloned().map_err(str::to_owned),
        }
    }
}

impl PartialEq for StoredText {
    fn eq(&self, other: &StoredText) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for StoredText {}

/// A value as etcd has it: the text, the revision of its last write, and its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// What was written.
    pub text: Arc<StoredText>,
    /// The revision of the last write.
    pub revision: i64,
    /// 0 for none.
    pub lease: i64,
}

/// What became of a write that names the revision which it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It was done, at this revision.
    Done(i64),
    /// Something else stands there.
    Stands(Option<StoredValue>),
}

impl Swapped {
    /// What a write that was not done found there, at the store's `revision`. A write that was
    /// done and not heard of counts as done when it is repeated.
    pub fn found(
        stored: Option<StoredValue>,
        wanted: Option<&[u8]>,
        lease: i64,
        revision: i64,
    ) -> Swapped {
        let same = match (&stored, wanted) {
            (Some(stored), Some(wanted)) => stored.text.bytes() == wanted && stored.lease == lease,
            (None, None) => true,
            _ => false,
        };
        match same {
            true => Swapped::Done(stored.map_or(revision, |stored| stored.revision)),
            false => Swapped::Stands(stored),
        }
    }
}

/// A version of the store: which session saw it, and etcd's revision. A later session counts as
/// later whatever its revision, since a cluster that was restored from a backup counts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StoreVersion {
    /// The session's number; a later one has a higher number.
    pub generation: u64,
    /// etcd's revision.
    pub revision: i64,
}

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `None` where it was removed.
    pub text: Option<Arc<StoredText>>,
    /// When it was written.
    pub at: StoreVersion,
}

/// What there is to take.
#[derive(Debug, Default)]
pub struct PendingChanges {
    /// The items are everything there was at that version (and what came since): other keys are
    /// gone.
    pub whole: Option<StoreVersion>,
    /// The newest value of each key, by its path.
    pub items: BTreeMap<Vec<u8>, Item>,
}

/// Since when no server can be had, and what the last ones said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// When a server was last heard; when the store was opened, if none ever was.
    pub since: Instant,
    /// What the servers said.
    pub reason: String,
}

/// How the reading goes.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Everything was read at least once.
    pub ever: bool,
    /// The last ticket that was answered by a full read.
    pub answered: u64,
    /// Why nothing can be read.
    pub unavailable: Option<Unavailable>,
}

/// What the follower of a view has for the view's owner. Only the newest value of a key counts, so
/// an owner who does not look costs no more than the keys themselves.
#[derive(Debug, Default)]
pub struct PendingState {
    changes: PendingChanges,
    reading: Reading,
}

impl PendingState {
    /// Everything there is; it answers the requests for a full read up to a ticket.
    pub fn put_whole(
        &mut self,
        at: StoreVersion,
        values: impl Iterator<Item = (Vec<u8>, Item)>,
        ticket: u64,
    ) {
        self.changes = PendingChanges { whole: Some(at), items: values.collect() };
        self.reading = Reading { ever: true, answered: ticket, unavailable: None };
    }

    /// What changed.
    pub fn put(&mut self, changes: impl Iterator<Item = (Vec<u8>, Item)>) {
        self.changes.items.extend(changes);
    }

    /// The state of the link; true if the owner is to be woken.
    pub fn set_unavailable(&mut self, unavailable: Option<Unavailable>) -> bool {
        let is_news = self.reading.unavailable.is_some() != unavailable.is_some();
        self.reading.unavailable = unavailable;
        is_news
    }

    /// Takes what there is.
    pub fn take(&mut self) -> (PendingChanges, Reading) {
        (std::mem::take(&mut self.changes), self.reading.clone())
    }

    /// True while a full read that answers a ticket may come.
    pub fn awaits(&self, ticket: u64) -> bool {
        let reading = &self.reading;
        !(reading.ever && reading.answered >= ticket) && reading.unavailable.is_none()
    }
}
