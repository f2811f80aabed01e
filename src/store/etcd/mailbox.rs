//! What the watching task has for the store's owner: the newest value of each key, and how the
//! link stands.
//!
//! Only the newest counts, so an owner who does not look costs no more than the keys
//! themselves. The lock is held for the length of a copy; nobody waits in it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::link::Away;

/// A moment of the store: which session saw it, and etcd's revision. A later session counts as
/// later whatever its revision, since a cluster that was restored from a backup counts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment {
    pub(super) generation: u64,
    pub(super) revision: i64,
}

/// A key's value; `None` where it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) at: Moment,
}

/// What there is to take.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// The items are everything there was at that moment (and what came since): other keys are
    /// gone.
    pub(super) whole: Option<Moment>,
    pub(super) items: BTreeMap<Vec<u8>, Item>,
}

/// How the reading goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Everything was read at least once.
    pub(super) ever: bool,
    /// The last ticket of [`Mailbox::wait`] that was answered by a full read.
    pub(super) answered: u64,
    /// Why nothing can be read.
    pub(super) away: Option<Away>,
}

#[derive(Debug, Default)]
struct Inner {
    letters: Letters,
    reading: Reading,
}

/// The mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    came: Condvar,
    bell: EventFd,
}

impl Mailbox {
    pub(super) fn new() -> Result<Mailbox, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_value_and_flags(0, flags)?;
        Ok(Mailbox { inner: Mutex::default(), came: Condvar::new(), bell })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked in it had only copied: the contents are whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // EAGAIN: it rings already.
        let _ = self.bell.write(1);
        self.came.notify_all();
    }

    /// Everything there is; it answers the requests for a full read up to a ticket.
    pub(super) fn put_whole(
        &self,
        at: Moment,
        values: impl Iterator<Item = (Vec<u8>, Item)>,
        ticket: u64,
    ) {
        let items = values.collect();
        let mut inner = self.lock();
        inner.letters = Letters { whole: Some(at), items };
        inner.reading = Reading { ever: true, answered: ticket, away: None };
        drop(inner);
        self.ring();
    }

    /// What changed.
    pub(super) fn put(&self, changes: impl Iterator<Item = (Vec<u8>, Item)>) {
        let mut inner = self.lock();
        inner.letters.items.extend(changes);
        drop(inner);
        self.ring();
    }

    /// How the link stands; rings if that is news.
    pub(super) fn set_away(&self, away: Option<Away>) {
        let mut inner = self.lock();
        let is_news = inner.reading.away.is_some() != away.is_some();
        inner.reading.away = away;
        drop(inner);
        if is_news {
            self.ring();
        }
    }

    /// Readable when there is something to take.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes what there is. The bell is emptied first, so that nothing is overlooked.
    pub(super) fn take(&self) -> (Letters, Reading) {
        // EAGAIN: nobody rang.
        let _ = self.bell.read();
        let mut inner = self.lock();
        (std::mem::take(&mut inner.letters), inner.reading.clone())
    }

    /// Waits for a full read that answers a ticket, until nothing can be read or time is up.
    pub(super) fn wait(&self, ticket: u64, within: Duration) {
        let deadline = Instant::now() + within;
        let waits = |inner: &mut Inner| {
            let reading = &inner.reading;
            !(reading.ever && reading.answered >= ticket) && reading.away.is_none()
        };
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.came.wait_timeout_while(self.lock(), left, waits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str, revision: i64) -> (Vec<u8>, Item) {
        let at = Moment { generation: 1, revision };
        (text.as_bytes().to_vec(), Item { bytes: Some(text.as_bytes().to_vec()), at })
    }

    #[test]
    fn only_the_newest_value_of_a_key_waits_and_a_full_read_replaces_all() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.put([item("a", 1)].into_iter());
        mailbox.put([item("a", 2), item("b", 2)].into_iter());
        let (letters, reading) = mailbox.take();
        assert_eq!(letters.whole, None);
        assert_eq!(letters.items.into_iter().collect::<Vec<_>>(), [item("a", 2), item("b", 2)]);
        assert!(!reading.ever);
        mailbox.put([item("c", 3)].into_iter());
        let at = Moment { generation: 1, revision: 4 };
        mailbox.put_whole(at, [item("a", 2)].into_iter(), 7);
        mailbox.put([item("d", 5)].into_iter());
        let (letters, reading) = mailbox.take();
        assert_eq!(letters.whole, Some(at));
        assert_eq!(letters.items.into_iter().collect::<Vec<_>>(), [item("a", 2), item("d", 5)]);
        assert!(reading.ever && reading.answered == 7);
        assert!(mailbox.take().0.items.is_empty());
    }

    #[test]
    fn waiting_ends_with_the_answer_with_an_absence_or_in_time() {
        let mailbox = Mailbox::new().unwrap();
        let started = Instant::now();
        mailbox.wait(1, Duration::from_millis(20));
        assert!(started.elapsed() >= Duration::from_millis(20));
        let long = Duration::from_secs(60);
        std::thread::scope(|scope| {
            scope.spawn(|| mailbox.put_whole(Moment::default(), std::iter::empty(), 1));
            mailbox.wait(1, long);
        });
        let away = Away { since: started, reason: "gone".to_owned() };
        mailbox.set_away(Some(away));
        mailbox.wait(2, long);
        assert!(started.elapsed() < long);
    }
}
