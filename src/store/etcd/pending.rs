//! What the watching task has for the store's owner: the newest value of each key, and how the
//! link stands.
//!
//! Only the newest counts, so an owner who does not look costs no more than the keys
//! themselves. The lock is held for the length of a copy; no thread waits in it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::link::Unavailable;

/// A version of the store: which session saw it, and etcd's revision. A later session counts as
/// later whatever its revision, since a cluster that was restored from a backup counts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct StoreVersion {
    pub(super) generation: u64,
    pub(super) revision: i64,
}

/// A key's value; `None` where it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) at: StoreVersion,
}

/// What there is to take.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    /// The items are everything there was at that version (and what came since): other keys are
    /// gone.
    pub(super) whole: Option<StoreVersion>,
    pub(super) items: BTreeMap<Vec<u8>, Item>,
}

/// How the reading goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Everything was read at least once.
    pub(super) ever: bool,
    /// The last ticket of [`Pending::wait`] that was answered by a full read.
    pub(super) answered: u64,
    /// Why nothing can be read.
    pub(super) unavailable: Option<Unavailable>,
}

#[derive(Debug, Default)]
struct Inner {
    changes: PendingChanges,
    reading: Reading,
}

/// The pending changes.
#[derive(Debug)]
pub(super) struct Pending {
    inner: Mutex<Inner>,
    came: Condvar,
    wake: EventFd,
}

impl Pending {
    pub(super) fn new() -> Result<Pending, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags)?;
        Ok(Pending { inner: Mutex::default(), came: Condvar::new(), wake })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked in it had only copied: the contents are whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_owner(&self) {
        // EAGAIN: it is readable already.
        let _ = self.wake.write(1);
        self.came.notify_all();
    }

    /// Everything there is; it answers the requests for a full read up to a ticket.
    pub(super) fn put_whole(
        &self,
        at: StoreVersion,
        values: impl Iterator<Item = (Vec<u8>, Item)>,
        ticket: u64,
    ) {
        let items = values.collect();
        let mut inner = self.lock();
        inner.changes = PendingChanges { whole: Some(at), items };
        inner.reading = Reading { ever: true, answered: ticket, unavailable: None };
        drop(inner);
        self.wake_owner();
    }

    /// What changed.
    pub(super) fn put(&self, changes: impl Iterator<Item = (Vec<u8>, Item)>) {
        let mut inner = self.lock();
        inner.changes.items.extend(changes);
        drop(inner);
        self.wake_owner();
    }

    /// The state of the link; wakes the owner if it changed.
    pub(super) fn set_unavailable(&self, unavailable: Option<Unavailable>) {
        let mut inner = self.lock();
        let is_news = inner.reading.unavailable.is_some() != unavailable.is_some();
        inner.reading.unavailable = unavailable;
        drop(inner);
        if is_news {
            self.wake_owner();
        }
    }

    /// Readable when there is something to take.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes what there is. The descriptor is emptied first, so that nothing is overlooked.
    pub(super) fn take(&self) -> (PendingChanges, Reading) {
        // EAGAIN: there was no message.
        let _ = self.wake.read();
        let mut inner = self.lock();
        (std::mem::take(&mut inner.changes), inner.reading.clone())
    }

    /// Waits for a full read that answers a ticket, until nothing can be read or time is up.
    pub(super) fn wait(&self, ticket: u64, within: Duration) {
        let deadline = Instant::now() + within;
        let waits = |inner: &mut Inner| {
            let reading = &inner.reading;
            !(reading.ever && reading.answered >= ticket) && reading.unavailable.is_none()
        };
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.came.wait_timeout_while(self.lock(), left, waits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str, revision: i64) -> (Vec<u8>, Item) {
        let at = StoreVersion { generation: 1, revision };
        (text.as_bytes().to_vec(), Item { bytes: Some(text.as_bytes().to_vec()), at })
    }

    #[test]
    fn only_the_newest_value_of_a_key_waits_and_a_full_read_replaces_all() {
        let pending = Pending::new().unwrap();
        pending.put([item("a", 1)].into_iter());
        pending.put([item("a", 2), item("b", 2)].into_iter());
        let (changes, reading) = pending.take();
        assert_eq!(changes.whole, None);
        assert_eq!(changes.items.into_iter().collect::<Vec<_>>(), [item("a", 2), item("b", 2)]);
        assert!(!reading.ever);
        pending.put([item("c", 3)].into_iter());
        let at = StoreVersion { generation: 1, revision: 4 };
        pending.put_whole(at, [item("a", 2)].into_iter(), 7);
        pending.put([item("d", 5)].into_iter());
        let (changes, reading) = pending.take();
        assert_eq!(changes.whole, Some(at));
        assert_eq!(changes.items.into_iter().collect::<Vec<_>>(), [item("a", 2), item("d", 5)]);
        assert!(reading.ever && reading.answered == 7);
        assert!(pending.take().0.items.is_empty());
    }

    #[test]
    fn waiting_ends_with_the_answer_with_an_absence_or_in_time() {
        let pending = Pending::new().unwrap();
        let started = Instant::now();
        pending.wait(1, Duration::from_millis(20));
        assert!(started.elapsed() >= Duration::from_millis(20));
        let long = Duration::from_secs(60);
        std::thread::scope(|scope| {
            scope.spawn(|| pending.put_whole(StoreVersion::default(), std::iter::empty(), 1));
            pending.wait(1, long);
        });
        let unavailable = Unavailable { since: started, reason: "gone".to_owned() };
        pending.set_unavailable(Some(unavailable));
        pending.wait(2, long);
        assert!(started.elapsed() < long);
    }
}
