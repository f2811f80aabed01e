//! What the watching task has for the store's owner: the newest value of each key, and how the
//! link stands.
//!
//! Only the newest counts, so an owner who does not look costs no more than the keys
//! themselves. The lock is held for the length of a copy; no thread waits in it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::messages::{Item, PendingChanges, PendingState, Reading, StoreVersion, Unavailable};
use crate::clock::Instant;

/// The pending changes.
#[derive(Debug)]
pub(super) struct Pending {
    inner: Mutex<PendingState>,
    came: Condvar,
    wake: EventFd,
}

impl Pending {
    pub(super) fn new() -> Result<Pending, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags)?;
        Ok(Pending { inner: Mutex::default(), came: Condvar::new(), wake })
    }

    fn lock(&self) -> MutexGuard<'_, PendingState> {
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
        self.lock().put_whole(at, values, ticket);
        self.wake_owner();
    }

    /// What changed.
    pub(super) fn put(&self, changes: impl Iterator<Item = (Vec<u8>, Item)>) {
        self.lock().put(changes);
        self.wake_owner();
    }

    /// The state of the link; wakes the owner if it changed.
    pub(super) fn set_unavailable(&self, unavailable: Option<Unavailable>) {
        let is_news = self.lock().set_unavailable(unavailable);
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
        self.lock().take()
    }

    /// Waits for a full read that answers a ticket, until nothing can be read or time is up.
    pub(super) fn wait(&self, ticket: u64, within: Duration) {
        let deadline = Instant::now() + within;
        let waits = |state: &mut PendingState| state.awaits(ticket);
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.came.wait_timeout_while(self.lock(), left, waits));
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::StoredText;
    use super::*;

    fn item(text: &str, revision: i64) -> (Vec<u8>, Item) {
        let at = StoreVersion { generation: 1, revision };
        (text.as_bytes().to_vec(), Item { text: Some(StoredText::new(text.into())), at })
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
