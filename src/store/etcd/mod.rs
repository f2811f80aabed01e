//! The store on etcd (3.4 and later), for a cluster of machines.
//!
//! One thread of its own runs everything that uses etcd: the link (`link`), which keeps one session;
//! a follower (`follow`) for each view; a lease keeper (`lease_keeper`) for each lease. The store's
//! owner stays synchronous: what the follower reads comes through pending changes (`pending`) with a
//! descriptor that wakes, and requests are sent to the thread and waited for, with an end.
//!
//! What a reboot makes untrue, and what no other host needs, stays in the host's own folder: a
//! node's flags and the services that a director owns. Both show in one view.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self as sync, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::failure::EtcdFailure;
use self::follow::Follower;
use self::lease_keeper::{HeldKeys, LeaseKeeper};
use self::link::{EtcdLink, Phase};
use self::messages::{StoreVersion, StoredText, StoredValue, Swapped};
use self::pending::Pending;
use self::timing::{LEASE_SLACK, OVERTAKEN};
use self::view::{Corrupt, Decision, EtcdView, EtcdWrite, Taken, Written};
use super::interface::Hold;
use super::layout::Layout;
use super::local::{Folder, KeptKeys, Lock, io_error};
use super::value::Value;
use super::{
    Access, Drains, Fault, Holding, Interest, Key, Lease, NodeRecord, Refreshed, Scope, ServiceKey,
    Store, StoreError, StoreState, TermClaim,
};
use crate::clock::Instant;
use crate::files;
use crate::histogram::Histogram;
use crate::ports::FlagSet;
use crate::settings::EtcdSettings;

pub(crate) mod failure;
mod follow;
mod lease_keeper;
pub(crate) mod lease_state;
mod link;
pub(crate) mod messages;
mod pending;
mod probe;
mod session;
pub(crate) mod timing;
pub(crate) mod view;
mod wire;

pub use probe::{ServerFinding, probe, server_faults};

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
    /// Readable when there are pending changes, or the directory changed.
    wakeup: Epoll,
    view: EtcdView,
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
        let view = EtcdView::new(shared.layout.clone());
        Ok(EtcdStore { shared, folder, pending, rereads, follower, wakeup, view })
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
        key: Key,
        expected: i64,
        text: Option<Arc<StoredText>>,
    ) -> Result<Swapped, StoreError> {
        let path = self.path(key);
        let (bytes, new) = (path.as_bytes().to_vec(), text.clone());
        let (swapped, generation) = self.ask(&path, move |session| {
            let (bytes, new) = (bytes.clone(), new.clone());
            async move {
                let value = new.as_ref().map(|text| text.bytes());
                let swapped = session.swap(&bytes, expected, value, 0).await?;
                Ok((swapped, session.generation))
            }
        })?;
        if let Swapped::Done(revision) = swapped {
            self.view.wrote(key, text, StoreVersion { generation, revision });
        }
        Ok(swapped)
    }

    /// Reads a value and writes what is decided, atomically; if another client is, it is decided
    /// anew. What is known is not read first.
    fn write(&mut self, mut write: EtcdWrite<'_>) -> Result<Written, StoreError> {
        let key = write.key();
        let deadline = Instant::now() + OVERTAKEN * self.shared.settings.timeout;
        let mut stored = match self.view.known(&write) {
            Some(stored) => Some(stored),
            None => self.get(&self.path(key))?,
        };
        loop {
            let (decision, written) = self.view.decide(&mut write, stored.as_ref())?;
            let Decision::Replace(text) = decision else { return Ok(written) };
            let expected = stored.as_ref().map_or(0, |stored| stored.revision);
            match self.swap(key, expected, text)? {
                Swapped::Done(_) => return Ok(written),
                Swapped::Stands(_) if Instant::now() > deadline => {
                    let reason = format!("others change {} all the time", self.path(key));
                    return Err(StoreError::Unavailable { reason });
                }
                Swapped::Stands(other) => stored = other,
            }
        }
    }

    /// Puts a copy of a corrupt value into the host's folder, so that nothing is lost when it is
    /// written anew.
    fn set_aside(&self, Corrupt { key, text, reason }: Corrupt) -> Fault {
        let path = self.path(key);
        let name = path.trim_matches('/').replace('/', "-") + ".corrupt";
        let aside = self.folder.dir().join(name);
        let copied =
            self.folder.access() == Access::Write && std::fs::write(&aside, text.bytes()).is_ok();
        Fault { key, path: PathBuf::from(path), set_aside: copied.then_some(aside), reason }
    }
}

/// Notes for `status` why etcd takes no value of a key. That it cannot be reached is said there
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
        let wait = if self.view.is_asked() { patience } else { Duration::ZERO };
        self.pending.wait(self.view.ticket(), wait);
        let (changes, reading) = self.pending.take();
        // What was taken out is in the view, and told, whatever comes of the rest.
        let Taken { changed, corrupt } = self.view.take(changes, reading, patience)?;
        for key in changed.iter().filter(|key| matches!(key, Key::Director(_))) {
            // Another client could write it.
            files::set_unsaved(Path::new(&self.path(*key)), None);
        }
        let faults = corrupt.into_iter().map(|corrupt| self.set_aside(corrupt)).collect();
        let of_the_host = self.folder.refresh(self.view.state_mut());
        self.view.tell(changed, faults, of_the_host, patience)
    }

    fn invalidate(&mut self) {
        self.folder.invalidate();
        // A follower that is gone is noticed by the next wait.
        let _ = self.rereads.send(self.view.invalidate());
    }

    fn state(&self) -> &StoreState {
        self.view.state()
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.0.as_fd()
    }

    fn unavailable_since(&self) -> Option<Instant> {
        self.view.unavailable_since()
    }

    fn requests(&self) -> u64 {
        self.shared.link.counters.requests()
    }

    fn latency(&self) -> Histogram {
        self.shared.link.counters.latency()
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
        let written = self.write(EtcdWrite::PutNode(record));
        noting(&self.path(Key::Node(record.node)), written).map(drop)
    }

    fn update_flags(
        &mut self,
        scope: Scope,
        change: &mut dyn FnMut(&mut FlagSet),
    ) -> Result<Option<Fault>, StoreError> {
        if let Scope::Node(_) = scope {
            let take = |value| match value {
                Value::Flags(flags) => Some(flags),
                _ => None,
            };
            return self.folder.update(Key::Flags(scope), change, take, Value::Flags);
        }
        let written = self.write(EtcdWrite::UpdateFlags(change))?;
        Ok(written.corrupt.map(|corrupt| self.set_aside(corrupt)))
    }

    fn update_drains(
        &mut self,
        change: &mut dyn FnMut(&mut Drains),
    ) -> Result<Option<Fault>, StoreError> {
        let written = self.write(EtcdWrite::UpdateDrains(change))?;
        Ok(written.corrupt.map(|corrupt| self.set_aside(corrupt)))
    }

    fn claim(
        &mut self,
        set: u32,
        expected_term: Option<u64>,
        node: u32,
        incarnation: u64,
    ) -> Result<TermClaim, StoreError> {
        let claimant = (node, incarnation);
        let written = self.write(EtcdWrite::Claim { set, expected_term, claimant });
        let written = noting(&self.path(Key::Director(set)), written)?;
        Ok(written.claim.unwrap_or(TermClaim::Stands(None)))
    }

    fn surpass(&mut self, set: u32, term: u64) {
        self.view.surpass(set, term);
    }

    fn repair(&mut self, key: Key) -> Result<(), StoreError> {
        if self.shared.layout.path(key).is_none() {
            return self.folder.repair(key, self.view.state());
        }
        // A lease keeper sees for itself that its key was corrupt.
        if matches!(key, Key::Alive(_)) {
            return Ok(());
        }
        self.write(EtcdWrite::Repair(key)).map(drop)
    }

    fn put_owned(&mut self, director: u32, owned: &BTreeSet<ServiceKey>) -> Result<(), StoreError> {
        self.folder.keep(Key::Owned(director), Value::Owned(owned.clone()), Instant::now());
        self.view.set_of_host(Key::Owned(director), Some(Value::Owned(owned.clone())));
        Ok(())
    }
}

impl Hold for lease_keeper::Handle {
    fn holding(&self) -> Holding {
        self.now()
    }

    fn tend(&self) {
        self.lock.tend();
    }
}
