//! What a store is: what it keeps, what a view of it says, its errors, and the trait that every
//! engine implements.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::orders::{Drains, Elected, TermClaim};
use super::record::NodeRecord;
use super::service::ServiceKey;
use crate::clock::Instant;
use crate::counter;
use crate::histogram::Histogram;
use crate::ports::FlagSet;
use crate::serial::pairs;

/// What the opener may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only: corrupt files are reported, never moved. Works without privilege.
    Read,
    /// Reads and writes: folders are made, corrupt values set aside.
    Write,
}

/// Whose records a view follows. What stands for the whole cluster (flags, drains, elections) is
/// in every view. The embedded store has them all in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every node's: a director, or a person who looks.
    All,
    /// One node's: a thousand real servers do not follow one another.
    Node(u32),
    /// None's: an operator's command.
    Orders,
}

/// Whose flags: one node's, or every node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The flags of this node number.
    Node(u32),
    /// The flags that hold on every node.
    Cluster,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Node(node) => write!(f, "node {node}"),
            Scope::Cluster => f.write_str("cluster"),
        }
    }
}

/// One thing that the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Key {
    /// A node's record.
    Node(u32),
    /// That a node's cvipd holds its lease.
    Alive(u32),
    /// Flags set at run time. A node's own are known on its host alone; other hosts find them in
    /// its record.
    Flags(Scope),
    /// Operators' drains.
    Drains,
    /// Which director a set has elected; the set by the lowest node number of its directors.
    Director(u32),
    /// The services that the director on this node made or adopted; known on its host alone.
    Owned(u32),
}

/// All that the store says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreState {
    /// Records by node number, those of nodes without a lease too.
    pub nodes: BTreeMap<u32, NodeRecord>,
    /// Who holds a lease: the incarnation of the living cvipd, by node number.
    pub alive: BTreeMap<u32, u64>,
    /// Flags set at run time.
    #[serde(with = "pairs")]
    pub flags: BTreeMap<Scope, FlagSet>,
    /// Operators' drains.
    #[serde(with = "pairs")]
    pub drains: Drains,
    /// The elected director of each set, by the lowest node number of the set's directors.
    pub directors: BTreeMap<u32, Elected>,
    /// Owned services by the director's node number.
    pub owned: BTreeMap<u32, BTreeSet<ServiceKey>>,
}

impl StoreState {
    /// The flags of a scope; empty if none were set.
    pub fn flags_of(&self, scope: Scope) -> FlagSet {
        self.flags.get(&scope).cloned().unwrap_or_default()
    }

    /// The active director of a set: the elected one or, before the set's first election, the one
    /// whose record says that it directs and whose lease lives. A lone director is not elected.
    pub fn active_director(&self, directors: &[u32]) -> Option<u32> {
        if let [alone] = directors {
            return Some(*alone);
        }
        let elected = self.directors.get(directors.iter().min()?).map(|elected| elected.node);
        let directs = |node: &&u32| {
            let record = self.nodes.get(*node).filter(|_| self.alive.contains_key(*node));
            record.is_some_and(|record| record.directing)
        };
        let elected = elected.filter(|node| directors.contains(node));
        elected.or_else(|| directors.iter().find(directs).copied())
    }

    /// The incarnation of a new start of a node's cvipd: later than any that wrote before, and than the
    /// `last` one of its host, since the store may have been emptied. `unix_time` (seconds) only makes a
    /// first one; a clock that went back does no harm.
    pub fn next_incarnation(&self, node: u32, last: Option<u64>, unix_time: u64) -> u64 {
        let recorded = self.nodes.get(&node).map(|record| record.incarnation);
        let alive = self.alive.get(&node).copied();
        match recorded.into_iter().chain(alive).chain(last).reduce(counter::latest) {
            Some(earlier) if counter::is_later(unix_time, earlier) => unix_time,
            Some(earlier) => counter::next(earlier),
            None => unix_time.min(counter::LAST),
        }
    }
}

/// What a refresh found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Refreshed {
    /// The keys whose value is another than before.
    pub changed: BTreeSet<Key>,
    /// Values that could not be read. The view keeps the last value that could.
    pub faults: Vec<Fault>,
}

/// A value that could not be read, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which value.
    pub key: Key,
    /// Where it stands: a file, or etcd's key.
    pub path: PathBuf,
    /// Where a copy of it was put, if one was.
    pub set_aside: Option<PathBuf>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)?;
        match &self.set_aside {
            Some(aside) => write!(f, "; set aside as {}", aside.display()),
            None => Ok(()),
        }
    }
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("{action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, such as `cannot write`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another live process holds the lease.
    #[error("cvipd already runs for node {0} on this store")]
    Leased(u32),
    /// A later write stands there.
    #[error("node {0}'s record was written by a later cvipd: this one is out of date")]
    Superseded(u32),
    /// The store cannot be reached. What was asked may have been done all the same, if the
    /// answer was lost; asking again does no harm.
    #[error("the store cannot be reached, and nothing changes until it can: {reason}")]
    Unavailable {
        /// What its servers said last.
        reason: String,
    },
    /// The store's credentials do not allow it.
    #[error(
        "these credentials may not write {key} in etcd: `cvipctl etcd-roles` shows who may do \
         what"
    )]
    Denied {
        /// The key.
        key: String,
    },
    /// The store is there, and does not take this.
    #[error("the store does not take {key}: {reason}")]
    Refused {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// The settings ask for an engine that this program was built without.
    #[error(
        "this cvip was built without etcd (cargo's feature `etcd`): build it with, or set store = \"local\""
    )]
    NotBuilt,
}

impl StoreError {
    /// True if the same may work later, with nothing fixed but the store's servers.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }
}

/// A [`StoreError`] in its words, for what decides: it acts on nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFailure {
    /// The same may work later, with nothing fixed but the store's servers.
    pub is_unavailable: bool,
    /// The error's text.
    pub reason: String,
}

impl From<StoreError> for StoreFailure {
    fn from(error: StoreError) -> StoreFailure {
        StoreFailure { is_unavailable: error.is_unavailable(), reason: error.to_string() }
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for StoreFailure {}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => " (you must be root)",
        _ => "",
    }
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holding {
    /// The store says that this process holds it.
    Held,
    /// The store could not be told yet, or not since it was unavailable. It will be.
    Waiting,
    /// Another live process holds it, as the incarnation `by`: a node number was given twice.
    Contested {
        /// The other's incarnation.
        by: u64,
    },
}

/// What holds a lease.
pub(super) trait Hold: fmt::Debug + Send + Sync {
    fn holding(&self) -> Holding;
    /// Makes again what was deleted.
    fn tend(&self);
}

/// A node's lease: held while its cvipd lives. Dropping it gives it back at once; if the process
/// ends without, the kernel (one host) or its time to live (etcd) ends it.
#[derive(Debug)]
pub struct Lease(Box<dyn Hold>);

impl Lease {
    pub(super) fn new(holder: impl Hold + 'static) -> Lease {
        Lease(Box::new(holder))
    }

    /// How it stands. It is kept, and taken again by itself after the store was unavailable.
    pub fn holding(&self) -> Holding {
        self.0.holding()
    }

    /// Looks after the lease's files: those that were deleted are made again, and what there was
    /// no space for is written. The holder calls this once a second or so.
    pub fn tend(&self) {
        self.0.tend();
    }
}

/// Where registrations, flags, drains, elections and ownership are kept.
///
/// No call waits for longer than the settings' `timeout` (2 s unless set), but for
/// [`Store::lease`]. Time-outs are errors of the kind [`StoreError::Unavailable`]; the caller tries
/// again later.
pub trait Store: Send {
    /// Brings the view up to date and says what changed. The first call reads everything.
    ///
    /// An unavailable store changes nothing: the view stays as it was last read, and
    /// [`Store::unavailable_since`] says so. A value that cannot be read stays as it was too, and
    /// is told as a fault. An own write is in the view from the next refresh on, and never an older
    /// value of the same key after it.
    ///
    /// # Errors
    /// Nothing was ever read: the view is empty because nothing is known, not because there is
    /// nothing. Or the host's folder cannot be read, or a full read was asked for and nothing
    /// answered in time. The view is then as it was last read, and whatever changed in it is told
    /// by the next refresh that succeeds.
    fn refresh(&mut self) -> Result<Refreshed, StoreError>;

    /// Forgets what is known to be unchanged: the next refresh reads everything, and waits for
    /// it.
    fn invalidate(&mut self);

    /// The view as of the last refresh.
    fn state(&self) -> &StoreState;

    /// Readable when a refresh may find a change: of a value, or of [`Store::unavailable_since`].
    fn wakeup(&self) -> BorrowedFd<'_>;

    /// Since when the store cannot be reached, as of the last refresh: when it was last heard.
    /// `None` while it can be. When it returns, the view catches up by itself.
    fn unavailable_since(&self) -> Option<Instant>;

    /// How many requests were sent since the store was opened: to etcd, over all views that
    /// share the connection; with the embedded store, files read or written.
    fn requests(&self) -> u64;

    /// How long they took that were answered. Of streams nothing is counted: a watch and the renewals
    /// of a lease.
    fn latency(&self) -> Histogram;

    /// Subscribes to the same store once more: a view with a wake-up of its own, for another
    /// thread. It shares the connection.
    ///
    /// # Errors
    /// The system refuses a descriptor.
    fn subscribe(&self, interest: Interest) -> Result<Box<dyn Store>, StoreError>;

    /// Holds a node's lease for this process, as this incarnation (see
    /// [`StoreState::next_incarnation`]). While the store is unavailable, the lease is taken once
    /// it returns.
    ///
    /// A dead process of the same host is followed at once; one of another host when its lease
    /// has ended, for which this waits.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if another live process holds it.
    fn lease(&mut self, node: u32, incarnation: u64) -> Result<Lease, StoreError>;

    /// Replaces a node's record. A clean leave writes an empty one ([`NodeRecord::empty`]).
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if the stored record is a later one, by incarnation and
    /// sequence. The same record again does no harm.
    fn put_node(&mut self, record: &NodeRecord) -> Result<(), StoreError>;

    /// Changes a scope's flags; concurrent changes are made one after the other, none lost, and
    /// `change` may be called more than once for that. Where the stored flags could not be read,
    /// the change starts from none, and the fault is returned for the user to see.
    ///
    /// # Errors
    /// The store could not be written.
    fn update_flags(
        &mut self,
        scope: Scope,
        change: &mut dyn FnMut(&mut FlagSet),
    ) -> Result<Option<Fault>, StoreError>;

    /// Changes operators' drains, as [`Store::update_flags`] changes flags.
    ///
    /// # Errors
    /// The store could not be written.
    fn update_drains(
        &mut self,
        change: &mut dyn FnMut(&mut Drains),
    ) -> Result<Option<Fault>, StoreError>;

    /// Claims the direction of a set of directors, named by the lowest node number among them, by
    /// compare-and-swap: it is won if the stored term is still the one that the caller saw (`None`:
    /// no director is elected), and the new term is higher than that and than any that this view
    /// ever showed. No lease is attached to it: the elected director stays elected until another
    /// claims.
    ///
    /// After an error the claim may have been won all the same: then the next one finds the
    /// caller itself.
    ///
    /// # Errors
    /// The store could not be written.
    fn claim(
        &mut self,
        set: u32,
        expected_term: Option<u64>,
        node: u32,
        incarnation: u64,
    ) -> Result<TermClaim, StoreError>;

    /// Says of a term that it was won, as is known from elsewhere: a claim through this view is for
    /// a later one. So terms do not repeat where the store was emptied or put back.
    fn surpass(&mut self, set: u32, term: u64);

    /// Puts the view's value back where a stored one cannot be read; removes it where the view
    /// has none. A value that can be read is left alone. Leases fix themselves.
    ///
    /// # Errors
    /// The store could not be written.
    fn repair(&mut self, key: Key) -> Result<(), StoreError>;

    /// Replaces the services that a director owns. Where they cannot be written, the view has them
    /// all the same, and they are written when they can be.
    ///
    /// # Errors
    /// The store could not be written.
    fn put_owned(&mut self, director: u32, owned: &BTreeSet<ServiceKey>) -> Result<(), StoreError>;
}
