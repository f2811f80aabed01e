//! The registration store: what every node says of itself, and what operators said of all.
//!
//! One record per node, the whole snapshot, replaced as one: never a difference, since a
//! difference that arrives late brings a dead service back. Beside the records stand the port
//! flags that were set at run time and, for each director, the services it owns.
//!
//! A store keeps a view ([`State`]) that [`Store::refresh`] brings up to date; its descriptor
//! becomes readable when a refresh may find something. The descriptor only wakes: what is true
//! is always what a refresh reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::ports::FlagSet;

mod local;
mod record;

pub use local::{Access, LocalStore};
pub use record::{Elected, Lingering, NodeRecord, Refused, Registration, ServiceKey};

/// Whose flags: one node's, or every node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A node's record.
    Node(u32),
    /// Flags set at run time.
    Flags(Scope),
    /// The services that the director on this node made or adopted.
    Owned(u32),
}

/// All that the store says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    /// Records by node number.
    pub nodes: BTreeMap<u32, NodeRecord>,
    /// Flags set at run time.
    pub flags: BTreeMap<Scope, FlagSet>,
    /// Owned services by the director's node number.
    pub owned: BTreeMap<u32, BTreeSet<ServiceKey>>,
}

impl State {
    /// The flags of a scope; empty if none were set.
    pub fn flags_of(&self, scope: Scope) -> FlagSet {
        self.flags.get(&scope).cloned().unwrap_or_default()
    }
}

/// What a refresh found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Refreshed {
    /// The keys whose value is another than before.
    pub changed: BTreeSet<Key>,
    /// Values that could not be read. A daemon keeps the last value that it could read.
    pub faults: Vec<Fault>,
}

/// A value that could not be read, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which value.
    pub key: Key,
    /// Where it stands.
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
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => " (you must be root)",
        _ => "",
    }
}

/// A node's lease: held while its cvipd lives, released by the kernel when it does not.
#[derive(Debug)]
pub struct Lease {
    /// The locked file; closing it releases the lock.
    _lock: std::fs::File,
}

/// Where registrations, flags and ownership are kept.
pub trait Store: Send {
    /// Brings the view up to date and says what changed. The first call reads everything.
    ///
    /// # Errors
    /// The store could not be reached at all; the view is then what it was.
    fn refresh(&mut self) -> Result<Refreshed, StoreError>;

    /// Forgets what is known to be unchanged: the next refresh reads everything.
    fn distrust(&mut self);

    /// The view as of the last refresh.
    fn state(&self) -> &State;

    /// Readable when a refresh may find a change.
    fn wakeup(&self) -> BorrowedFd<'_>;

    /// Holds a node's lease for this process.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if another live process holds it.
    fn lease(&mut self, node: u32) -> Result<Lease, StoreError>;

    /// True if a live process holds the node's lease.
    fn is_leased(&self, node: u32) -> bool;

    /// Replaces a node's record.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if the stored record is a later one.
    fn put_node(&mut self, record: &NodeRecord) -> Result<(), StoreError>;

    /// Changes a scope's flags; concurrent changes are made one after the other, none lost.
    /// Where the stored flags could not be read, the change starts from none, and the fault
    /// is returned for the user to see.
    ///
    /// # Errors
    /// The store could not be written.
    fn update_flags(
        &mut self,
        scope: Scope,
        change: &mut dyn FnMut(&mut FlagSet),
    ) -> Result<Option<Fault>, StoreError>;

    /// Puts the view's value back where a stored one cannot be read; removes it where the view
    /// has none. A value that can be read is left alone.
    ///
    /// # Errors
    /// The store could not be written.
    fn repair(&mut self, key: Key) -> Result<(), StoreError>;

    /// Replaces the services that a director owns.
    fn put_owned(&mut self, director: u32, owned: &BTreeSet<ServiceKey>) -> Result<(), StoreError>;
}
