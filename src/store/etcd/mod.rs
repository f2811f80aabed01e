//! The store on etcd (3.4 and later), for a cluster of machines.
//!
//! One thread of its own runs everything that uses etcd: the [link], which keeps one session; a
//! [follower](follow) for each view; a [lease keeper](lease_keeper) for each lease. The store's
//! owner stays synchronous: what the follower reads comes through [pending changes](pending) with a
//! descriptor that wakes, and requests are sent to the thread and waited for, with an end.
//!
//! What a reboot makes untrue, and what no other host needs, stays in the host's own folder: a
//! node's flags and the services that a director owns. Both show in one view.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self as sync, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::failure::EtcdFailure;
use self::follow::Follower;
use self::lease_keeper::{HeldKeys, LeaseKeeper};
use self::link::{EtcdLink, Phase};
use self::pending::{Item, Pending, PendingChanges, StoreVersion};
use self::session::{StoredValue, Swapped};
use super::interface::Hold;
use super::layout::Layout;
use super::local::{Folder, KeptKeys, Lock, io_error};
use super::value::{Found, HighestTerms, Value, may_replace};
use super::{
    Access, Drains, Fault, Holding, Interest, Key, Lease, NodeRecord, Refreshed, Scope, ServiceKey,
    Store, StoreError, StoreState, TermClaim,
};
use crate::files;
use crate::ports::FlagSet;
use crate::settings::EtcdSettings;

mod failure;
mod follow;
mod lease_keeper;
mod link;
mod pending;
mod probe;
mod session;
mod wire;

pub use probe::{ServerFinding, probe, server_faults};

/// A change that others' changes keep overtaking is given up after so many times the time that
/// one request may take.
const OVERTAKEN: u32 = 5;

/// How much longer than a lease lives another host's dead process is waited for.
const LEASE_SLACK: Duration = Duration::from_secs(2);

/// How often a lease that is awaited is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What all views and leases of one connection share.
struct EtcdShared {
    runtime: runtime::Handle,
    link: EtcdLink,
    layout: Layout,
    settings: EtcdSettings,
    held: HeldKeys,
    /// The thread ends with the last copy of this.
    living: mpsc::Sender<()>,
}

/// One view of the store on etcd.
pub struct EtcdStore {
    shared: Arc<EtcdShared>,
    folder: Folder,
    pending: Arc<Pending>,
    rereads: mpsc::UnboundedSender<u64>,
    follower: AbortHandle,
    /// The last full read that was asked for.
    ticket: u64,
    /// The last one that was waited for.
    awaited: Option<u64>,
    /// What was taken into the view and could not be told yet.
    untold: Refreshed,
    /// Readable when there are pending changes, or the directory changed.
    wakeup: Epoll,
    view: StoreState,
    terms: HighestTerms,
    unavailable: Option<Instant>,
    /// Own writes that the view does not show yet.
    written: BTreeMap<Vec<u8>, Item>,
    /// What the view never goes back behind: the moments of own writes.
    floors: BTreeMap<Vec<u8>, StoreVersion>,
    /// Records as they were written last: where no other program writes, they need not be read
    /// first.
    records: BTreeMap<u32, StoredValue>,
}

impl EtcdStore {
    /// Opens the store and starts its thread; etcd is not waited for. `run_dir` is the host's
    /// own folder.
    ///
    /// # Errors
    /// The folder cannot be made or watched, or the system refuses a thread or a descriptor.
    pub fn open(
        settings: &EtcdSettings,
        run_dir: &Path,
        access: Access,
        interest: Interest,
    ) -> Result<EtcdStore, StoreError> {
        let folder = Folder::open(run_dir, access, KeptKeys::Host)?;
        let system = |e| io_error("cannot start a thread for etcd beside", run_dir, e);
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let (link, connector) = link::link(settings);
        let (living, mut all_gone) = mpsc::channel(1);
        let handle = runtime.handle().clone();
        let run = move || {
            runtime.spawn(connector.run());
            runtime.block_on(all_gone.recv());
        };
        thread::Builder::new().name("etcd".to_owned()).spawn(run).map_err(system)?;
        let shared = EtcdShared {
            runtime: handle,
            link,
            layout: Layout::new(&settings.prefix),
            settings: settings.clone(),
            held: HeldKeys::default(),
            living,
        };
        EtcdStore::view(Arc::new(shared), folder, interest)
    }

    fn view(
        shared: Arc<EtcdShared>,
        folder: Folder,
        interest: Interest,
    ) -> Result<EtcdStore, StoreError> {
        let error = |errno: nix::errno::Errno| {
            io_error("cannot make a descriptor beside", folder.dir(), errno.into())
        };
        let pending = Arc::new(Pending::new().map_err(error)?);
        let wakeup = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(error)?;
        let readable = || EpollEvent::new(EpollFlags::EPOLLIN, 0);
        wakeup.add(pending.wake(), readable()).map_err(error)?;
        wakeup.add(folder.wakeup(), readable()).map_err(error)?;
        let (rereads, tickets) = mpsc::unbounded_channel();
        let follower = Follower {
            link: shared.link.clone(),
            ranges: shared.layout.ranges(interest),
            pending: Arc::clone(&pending),
            rereads: tickets,
            ticket: 0,
            held: shared.held.clone(),
        };
        let follower = shared.runtime.spawn(follower.run()).abort_handle();
        Ok(EtcdStore {
            shared,
            folder,
            pending,
            rereads,
            follower,
            ticket: 0,
            awaited: None,
            untold: Refreshed::default(),
            wakeup,
            view: StoreState::default(),
            terms: HighestTerms::default(),
            unavailable: None,
            written: BTreeMap::new(),
            floors: BTreeMap::new(),
            records: BTreeMap::new(),
        })
    }

    /// Where a cluster's key stands.
    fn path(&self, key: Key) -> String {
        self.shared.layout.path(key).unwrap_or_else(|| unreachable!("{key:?} is the folder's"))
    }

    /// Sends a request to the thread and waits for its outcome, which comes in time by itself.
    fn ask<T, F>(
        &self,
        path: &str,
        request: impl FnMut(session::EtcdSession) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EtcdFailure>> + Send + 'static,
    {
        let (answer, outcome) = sync::sync_channel(1);
        let link = self.shared.link.clone();
        let task = self.shared.runtime.spawn(async move {
            // The caller may have given up.
            let _ = answer.send(link.ask(request).await);
        });
        let outcome = outcome.recv_timeout(2 * self.shared.settings.timeout).unwrap_or_else(|e| {
            task.abort();
            let reason = match e {
                RecvTimeoutError::Timeout => "no answer in time",
                RecvTimeoutError::Disconnected => "its thread has ended",
            };
            Err(EtcdFailure::Session(reason.to_owned()))
        });
        outcome.map_err(|failure| failure.into_error(path))
    }

    fn get(&self, path: &str) -> Result<Option<StoredValue>, StoreError> {
        let key = path.as_bytes().to_vec();
        self.ask(path, move |session| {
            let key = key.clone();
            async move { session.get(&key).await }
        })
    }

    /// Replaces a value if its revision is still the expected one.
    fn swap(
        &mut self,
        path: &str,
        expected: i64,
        value: Option<Vec<u8>>,
    ) -> Result<Swapped, StoreError> {
        let key = path.as_bytes().to_vec();
        let new = value.clone();
        let (swapped, generation) = self.ask(path, move |session| {
            let (key, new) = (key.clone(), new.clone());
            async move {
                let swapped = session.swap(&key, expected, new, 0).await?;
                Ok((swapped, session.generation))
            }
        })?;
        if let Swapped::Done(revision) = swapped {
            let at = StoreVersion { generation, revision };
            let key = path.as_bytes().to_vec();
            self.floors.insert(key.clone(), at);
            self.written.insert(key, Item { bytes: value, at });
        }
        Ok(swapped)
    }

    /// Reads a value and writes what `decide` makes of it, atomically; if another client
    /// is, it decides anew. `None` leaves it as it is. What is `known` is not read first.
    fn change<T>(
        &mut self,
        key: Key,
        known: Option<StoredValue>,
        mut decide: impl FnMut(
            &EtcdStore,
            Option<&StoredValue>,
        ) -> Result<(Option<Value>, T), StoreError>,
    ) -> Result<T, StoreError> {
        let path = self.path(key);
        let deadline = Instant::now() + OVERTAKEN * self.shared.settings.timeout;
        let mut stored = match known {
            Some(stored) => Some(stored),
            None => self.get(&path)?,
        };
        loop {
            let (value, outcome) = decide(self, stored.as_ref())?;
            let Some(value) = value else { return Ok(outcome) };
            let expected = stored.as_ref().map_or(0, |stored| stored.revision);
            match self.swap(&path, expected, Some(value.encode()))? {
                Swapped::Done(_) => return Ok(outcome),
                Swapped::Stands(_) if Instant::now() > deadline => {
                    let reason = format!("others change {path} all the time");
                    return Err(StoreError::Unavailable { reason });
                }
                Swapped::Stands(other) => stored = other,
            }
        }
    }

    /// Changes a value that starts from nothing where there is none, or none that can be read.
    fn update<T: Default>(
        &mut self,
        key: Key,
        change: &mut dyn FnMut(&mut T),
        take: impl Fn(Value) -> Option<T>,
        wrap: impl Fn(T) -> Value,
    ) -> Result<Option<Fault>, StoreError> {
        self.change(key, None, |store, stored| {
            let parsed = stored.map(|stored| Value::parse(key, &stored.bytes));
            let (mut value, fault) = match parsed {
                None => (T::default(), None),
                Some(Ok(value)) => (take(value).unwrap_or_default(), None),
                Some(Err(reason)) => {
                    let bytes = stored.map_or(&[][..], |stored| &stored.bytes);
                    (T::default(), Some(store.set_aside(key, bytes, reason)))
                }
            };
            change(&mut value);
            Ok((Some(wrap(value)), fault))
        })
    }

    /// Puts a copy of a corrupt value into the host's folder, so that nothing is lost when it is
    /// written anew.
    fn set_aside(&self, key: Key, bytes: &[u8], reason: String) -> Fault {
        let path = self.path(key);
        let name = path.trim_matches('/').replace('/', "-") + ".corrupt";
        let aside = self.folder.dir().join(name);
        let copied = self.folder.access() == Access::Write && std::fs::write(&aside, bytes).is_ok();
        Fault { key, path: PathBuf::from(path), set_aside: copied.then_some(aside), reason }
    }

    /// Takes what came from etcd into the view.
    fn apply(&mut self, changes: PendingChanges, refreshed: &mut Refreshed) {
        let PendingChanges { whole, mut items } = changes;
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
            for key in self.view.keys() {
                let Some(path) = self.shared.layout.path(key) else { continue };
                let path = path.into_bytes();
                if !items.contains_key(&path) && !late(&self.floors, &path, at) {
                    self.view.set(key, None);
                    refreshed.changed.insert(key);
                }
            }
        }
        for (path, item) in items {
            let Some(key) = self.shared.layout.key(&path) else { continue };
            let value = item.bytes.as_deref().map(|bytes| (bytes, Value::parse(key, bytes)));
            let value = match value {
                None => None,
                Some((_, Ok(value))) => Some(value),
                Some((bytes, Err(reason))) => {
                    refreshed.faults.push(self.set_aside(key, bytes, reason));
                    // That it is held is true, though the text is corrupt.
                    if matches!(key, Key::Alive(_)) && self.view.value(key).is_none() {
                        Some(Value::Alive(0))
                    } else {
                        continue;
                    }
                }
            };
            if self.view.set(key, value) {
                // Another client could write it.
                if matches!(key, Key::Director(_)) {
                    files::set_unsaved(Path::new(&self.path(key)), None);
                }
                refreshed.changed.insert(key);
            }
        }
    }
}

/// Notes for `status' why etcd takes no value of a key. That it cannot be reached is said there
/// already.
fn noting<T>(path: &str, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    match &outcome {
        Err(error) if error.is_unavailable() => {}
        Err(StoreError::Refused { reason, .. }) => {
            files::set_unsaved(Path::new(path), Some(reason.clone()));
        }
        Err(error @ StoreError::Denied { .. }) => {
            files::set_unsaved(Path::new(path), Some(error.to_string()));
        }
        _ => files::set_unsaved(Path::new(path), None),
    }
    outcome
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Store for EtcdStore {
    fn refresh(&mut self) -> Result<Refreshed, StoreError> {
        let patience = self.shared.settings.timeout;
        // A full read that was waited for in vain is not waited for again: it wakes when it comes.
        let is_asked = self.awaited != Some(self.ticket);
        self.pending.wait(self.ticket, if is_asked { patience } else { Duration::ZERO });
        self.awaited = Some(self.ticket);
        let (changes, reading) = self.pending.take();
        self.unavailable = reading.unavailable.as_ref().map(|unavailable| unavailable.since);
        let unanswered = || format!("no answer within {}", humantime::format_duration(patience));
        if !reading.ever {
            // Half a view would be a false one.
            self.awaited = None;
            let reason =
                reading.unavailable.map_or_else(unanswered, |unavailable| unavailable.reason);
            return Err(StoreError::Unavailable { reason });
        }
        // What was taken out is in the view, and told, whatever comes of the rest.
        let mut refreshed = std::mem::take(&mut self.untold);
        self.apply(changes, &mut refreshed);
        self.terms.see(&self.view);
        let of_the_host = self.folder.refresh(&mut self.view).and_then(|of_the_host| {
            refreshed.changed.extend(of_the_host.changed);
            refreshed.faults.extend(of_the_host.faults);
            match reading.answered >= self.ticket || reading.unavailable.is_some() {
                true => Ok(()),
                false => Err(StoreError::Unavailable { reason: unanswered() }),
            }
        });
        match of_the_host {
            Ok(()) => Ok(refreshed),
            Err(error) => {
                self.untold = refreshed;
                Err(error)
            }
        }
    }

    fn invalidate(&mut self) {
        self.folder.invalidate();
        self.ticket += 1;
        // A follower that is gone is noticed by the next wait.
        let _ = self.rereads.send(self.ticket);
    }

    fn state(&self) -> &StoreState {
        &self.view
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.0.as_fd()
    }

    fn unavailable_since(&self) -> Option<Instant> {
        self.unavailable
    }

    fn requests(&self) -> u64 {
        self.shared.link.counters.requests()
    }

    fn subscribe(&self, interest: Interest) -> Result<Box<dyn Store>, StoreError> {
        let folder = Folder::open(self.folder.dir(), self.folder.access(), KeptKeys::Host)?;
        Ok(Box::new(EtcdStore::view(Arc::clone(&self.shared), folder, interest)?))
    }

    fn lease(&mut self, node: u32, incarnation: u64) -> Result<Lease, StoreError> {
        let lock = Arc::new(Lock::take(self.folder.dir(), node, incarnation)?);
        let key = self.path(Key::Alive(node)).into_bytes();
        let settings = &self.shared.settings;
        let (lease_keeper, end, handle) = LeaseKeeper::new(
            self.shared.link.clone(),
            self.shared.held.clone(),
            key,
            incarnation,
            settings.lease_ttl,
            lock,
            self.shared.living.clone(),
        );
        self.shared.runtime.spawn(lease_keeper.run(end));
        let patience = Instant::now() + settings.timeout;
        let end_of_another = Instant::now() + settings.lease_ttl + LEASE_SLACK;
        loop {
            let now = Instant::now();
            match (handle.holding(), self.shared.link.phase()) {
                (Holding::Held, _) | (Holding::Waiting, Phase::Unavailable(_)) => break,
                (Holding::Waiting, _) if now > patience => break,
                (Holding::Contested { .. }, _) if now > end_of_another => {
                    return Err(StoreError::Leased(node));
                }
                _ => thread::sleep(LOOK_EVERY),
            }
        }
        Ok(Lease::new(handle))
    }

    fn put_node(&mut self, record: &NodeRecord) -> Result<(), StoreError> {
        let key = Key::Node(record.node);
        let is_replaceable = |stored: Option<&StoredValue>| {
            let found = find(key, stored, |value| match value {
                Value::Node(record) => Some(record),
                _ => None,
            });
            may_replace(&found, record)
        };
        // What was written last saves a read. It may be gone, and refuses nothing.
        let known = self.records.remove(&record.node);
        let known = known.filter(|stored| is_replaceable(Some(stored)));
        let path = self.path(key);
        let written = self.change(key, known, |_, stored| match is_replaceable(stored) {
            true => Ok((Some(Value::Node(record.clone())), ())),
            false => Err(StoreError::Superseded(record.node)),
        });
        noting(&path, written)?;
        let path = path.into_bytes();
        if let Some(Item { bytes: Some(bytes), at }) = self.written.get(&path) {
            let stored = StoredValue { bytes: bytes.clone(), revision: at.revision, lease: 0 };
            self.records.insert(record.node, stored);
        }
        Ok(())
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
        let key = Key::Flags(scope);
        match scope {
            Scope::Node(_) => self.folder.update(key, change, take, Value::Flags),
            Scope::Cluster => self.update(key, change, take, Value::Flags),
        }
    }

    fn update_drains(
        &mut self,
        change: &mut dyn FnMut(&mut Drains),
    ) -> Result<Option<Fault>, StoreError> {
        let take = |value| match value {
            Value::Drains(drains) => Some(drains),
            _ => None,
        };
        self.update(Key::Drains, change, take, Value::Drains)
    }

    fn claim(
        &mut self,
        set: u32,
        expected_term: Option<u64>,
        node: u32,
        incarnation: u64,
    ) -> Result<TermClaim, StoreError> {
        let key = Key::Director(set);
        let claimed = self.change(key, None, |store, stored| {
            let found = find(key, stored, |value| match value {
                Value::Director(elected) => Some(elected),
                _ => None,
            });
            let seen = store.view.directors.get(&set).copied();
            let claimant = (node, incarnation);
            Ok(match store.terms.decide(set, &found, seen, expected_term, claimant) {
                Ok(elected) => (Some(Value::Director(elected)), TermClaim::Won(elected)),
                Err(stands) => (None, TermClaim::Stands(stands)),
            })
        });
        noting(&self.path(key), claimed)
    }

    fn surpass(&mut self, set: u32, term: u64) {
        self.terms.surpass(set, term);
    }

    fn repair(&mut self, key: Key) -> Result<(), StoreError> {
        if self.shared.layout.path(key).is_none() {
            return self.folder.repair(key, &self.view);
        }
        // A lease keeper sees for itself that its key was corrupt.
        if matches!(key, Key::Alive(_)) {
            return Ok(());
        }
        let path = self.path(key);
        let deadline = Instant::now() + OVERTAKEN * self.shared.settings.timeout;
        while let Some(stored) = self.get(&path)? {
            if Instant::now() > deadline {
                let reason = format!("others change {path} all the time");
                return Err(StoreError::Unavailable { reason });
            }
            if Value::parse(key, &stored.bytes).is_ok() {
                break;
            }
            let value = self.view.value(key).map(|value| value.encode());
            if let Swapped::Done(_) = self.swap(&path, stored.revision, value)? {
                break;
            }
        }
        Ok(())
    }

    fn put_owned(&mut self, director: u32, owned: &BTreeSet<ServiceKey>) -> Result<(), StoreError> {
        self.folder.keep(Key::Owned(director), Value::Owned(owned.clone()), Instant::now());
        self.view.set(Key::Owned(director), Some(Value::Owned(owned.clone())));
        Ok(())
    }
}

/// What stands under a key, for a caller that is about to replace it.
fn find<T>(
    key: Key,
    stored: Option<&StoredValue>,
    take: impl FnOnce(Value) -> Option<T>,
) -> Found<T> {
    let Some(stored) = stored else { return Found::Nothing };
    let value = Value::parse(key, &stored.bytes).ok();
    value.and_then(take).map_or(Found::Corrupt, Found::Value)
}

impl Hold for lease_keeper::Handle {
    fn holding(&self) -> Holding {
        self.now()
    }

    fn tend(&self) {
        self.lock.tend();
    }
}
