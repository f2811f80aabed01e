//! The embedded store: a folder of small JSON files, for one host and its network namespaces.
//!
//! The [folder] reads, writes and wakes; a [lease] is a lock on a file in it, which the kernel
//! releases with the process, however it ends.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::value::{HighestTerms, Value, may_replace};
use super::{
    Access, Drains, Fault, Holding, Interest, Key, Lease, NodeRecord, Refreshed, Scope, ServiceKey,
    Store, StoreError, StoreState, TermClaim,
};
use crate::clock::Instant;
use crate::histogram::Histogram;
use crate::ports::FlagSet;

mod folder;
mod io_error;
mod lease;
mod locks;

pub(super) use folder::{Folder, KeptKeys};
#[cfg(feature = "etcd")]
pub(super) use io_error::io_error;
pub(super) use lease::Lock;
#[cfg(feature = "etcd")]
pub(super) use lease::Note;
pub use lease::last_incarnation;

/// The folder and the view.
#[derive(Debug)]
pub struct LocalStore {
    folder: Folder,
    view: StoreState,
    terms: HighestTerms,
}

impl LocalStore {
    /// Opens the store in a folder, which is made if it may be.
    ///
    /// # Errors
    /// The folder cannot be made, or not be watched.
    pub fn open(dir: &Path, access: Access) -> Result<LocalStore, StoreError> {
        let folder = Folder::open(dir, access, KeptKeys::All)?;
        Ok(LocalStore { folder, view: StoreState::default(), terms: HighestTerms::default() })
    }
}

impl Store for LocalStore {
    fn refresh(&mut self) -> Result<Refreshed, StoreError> {
        let refreshed = self.folder.refresh(&mut self.view)?;
        self.terms.see(&self.view);
        Ok(refreshed)
    }

    fn invalidate(&mut self) {
        self.folder.invalidate();
    }

    fn state(&self) -> &StoreState {
        &self.view
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.folder.wakeup()
    }

    fn unavailable_since(&self) -> Option<Instant> {
        None
    }

    fn requests(&self) -> u64 {
        self.folder.requests()
    }

    fn latency(&self) -> Histogram {
        self.folder.latency()
    }

    fn subscribe(&self, _interest: Interest) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(LocalStore::open(self.folder.dir(), self.folder.access())?))
    }

    fn lease(&mut self, node: u32, incarnation: u64) -> Result<Lease, StoreError> {
        Ok(Lease::new(Lock::take(self.folder.dir(), node, incarnation)?))
    }

    fn put_node(&mut self, record: &NodeRecord) -> Result<(), StoreError> {
        let key = Key::Node(record.node);
        let _lock = self.folder.lock(key)?;
        let found = self.folder.find(key, |value| match value {
            Value::Node(record) => Some(record),
            _ => None,
        });
        if !may_replace(&found, record) {
            return Err(StoreError::Superseded(record.node));
        }
        self.folder.write(key, &Value::Node(record.clone()))
    }

    fn update_flags(
        &mut self,
        scope: Scope,
        change: &mut dyn FnMut(&mut FlagSet),
    ) -> Result<Option<Fault>, StoreError> {
        let take = |value| match value {
            Value::Flags(flags) => Some(flags),
            _ => None,
        };
        self.folder.update(Key::Flags(scope), change, take, Value::Flags)
    }

    fn update_drains(
        &mut self,
        change: &mut dyn FnMut(&mut Drains),
    ) -> Result<Option<Fault>, StoreError> {
        let take = |value| match value {
            Value::Drains(drains) => Some(drains),
            _ => None,
        };
        self.folder.update(Key::Drains, change, take, Value::Drains)
    }

    fn claim(
        &mut self,
        set: u32,
        expected_term: Option<u64>,
        node: u32,
        incarnation: u64,
    ) -> Result<TermClaim, StoreError> {
        let key = Key::Director(set);
        let _lock = self.folder.lock(key)?;
        let found = self.folder.find(key, |value| match value {
            Value::Director(elected) => Some(elected),
            _ => None,
        });
        let seen = self.view.directors.get(&set).copied();
        match self.terms.decide(set, &found, seen, expected_term, (node, incarnation)) {
            Ok(elected) => {
                self.folder.write(key, &Value::Director(elected))?;
                Ok(TermClaim::Won(elected))
            }
            Err(stands) => Ok(TermClaim::Stands(stands)),
        }
    }

    fn surpass(&mut self, set: u32, term: u64) {
        self.terms.surpass(set, term);
    }

    fn repair(&mut self, key: Key) -> Result<(), StoreError> {
        self.folder.repair(key, &self.view)
    }

    fn put_owned(&mut self, director: u32, owned: &BTreeSet<ServiceKey>) -> Result<(), StoreError> {
        self.folder.keep(Key::Owned(director), Value::Owned(owned.clone()), Instant::now());
        self.view.set(Key::Owned(director), Some(Value::Owned(owned.clone())));
        Ok(())
    }
}

/// A lock alone holds a lease on this host.
impl super::interface::Hold for Lock {
    fn holding(&self) -> Holding {
        Holding::Held
    }

    fn tend(&self) {
        Lock::tend(self);
    }
}
