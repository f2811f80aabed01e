//! The folder's files: where each key stands, how it is read and replaced, and what wakes.
//!
//! Each key is a file of its own (`nodes/3.json`, `flags/cluster.json`, `owned/1.json`), so
//! that nodes never wait for one another's writes, a change is read alone, and one spoilt file
//! spoils one record. A write goes to `tmp/`, is synced, and is renamed into place, so a reader
//! sees the old value or the new one and takes no lock; writers that read first take a lock.
//! inotify is the wake-up.
//!
//! With etcd, the same folder keeps what only this host needs to know: see [`Part`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::io_error;
use super::lease::{Holder, holder};
use crate::store::value::{Found, VALUE_CAP, Value};
use crate::store::{Access, Fault, Key, Refreshed, Scope, State, StoreError};

/// Which keys a folder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Part {
    /// All: it is the whole store.
    All,
    /// What a reboot of this host makes untrue, and no other host needs: the node's own flags
    /// and the services that its director owns. The rest stands in etcd.
    #[cfg_attr(not(feature = "etcd"), allow(dead_code))]
    Host,
}

/// A folder in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shelf {
    Nodes,
    Flags,
    Owned,
    Drains,
    Directors,
}

impl Shelf {
    const ALL: [Shelf; 5] =
        [Shelf::Nodes, Shelf::Flags, Shelf::Owned, Shelf::Drains, Shelf::Directors];

    fn name(self) -> &'static str {
        match self {
            Shelf::Nodes => "nodes",
            Shelf::Flags => "flags",
            Shelf::Owned => "owned",
            Shelf::Drains => "drains",
            Shelf::Directors => "directors",
        }
    }
}

impl Part {
    fn keeps(self, key: Key) -> bool {
        match key {
            Key::Flags(Scope::Node(_)) | Key::Owned(_) => true,
            _ => self == Part::All,
        }
    }

    fn shelves(self) -> impl Iterator<Item = Shelf> {
        let on = move |shelf| self == Part::All || matches!(shelf, Shelf::Flags | Shelf::Owned);
        Shelf::ALL.into_iter().filter(move |shelf| on(*shelf))
    }
}

/// A dying holder's file is closed an instant before its lock is released: where a lock seems to
/// be held all the same, it is looked at again after these, the last time after a second.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(1024);

/// When a lock is looked at again, and after which pause that is.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    pause: Duration,
}

/// The folder and its watch.
#[derive(Debug)]
pub(in crate::store) struct Folder {
    dir: PathBuf,
    access: Access,
    part: Part,
    inotify: Inotify,
    watches: Vec<(WatchDescriptor, Shelf)>,
    /// Rings when a lock is to be looked at again.
    timer: TimerFd,
    looks: BTreeMap<u32, Look>,
    /// Readable when the watch or the timer is.
    wakeup: Epoll,
    /// True until everything was read once, and again when the watch lost its place.
    reread: bool,
    requests: AtomicU64,
}

impl Folder {
    /// Opens the folder, which is made if it may be.
    ///
    /// # Errors
    /// The folder cannot be made, or not be watched.
    pub(in crate::store) fn open(
        dir: &Path,
        access: Access,
        part: Part,
    ) -> Result<Folder, StoreError> {
        let watch_error = |errno: Errno| io_error("cannot watch", dir, errno.into());
        if access == Access::Write {
            // Leases are locks on files in `nodes` with every engine.
            let shelves = part.shelves().map(Shelf::name).chain([Shelf::Nodes.name(), "tmp"]);
            for name in shelves {
                let path = dir.join(name);
                fs::create_dir_all(&path).map_err(|e| io_error("cannot make", &path, e))?;
            }
        }
        let inotify =
            Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(watch_error)?;
        let mut watches = Vec::new();
        for shelf in part.shelves() {
            let path = dir.join(shelf.name());
            let mut flags = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_CLOSE_WRITE;
            if shelf == Shelf::Nodes {
                // A lease says in its file who holds it, and keeps the file open.
                flags |= AddWatchFlags::IN_MODIFY;
            }
            match inotify.add_watch(&path, flags) {
                Ok(watch) => watches.push((watch, shelf)),
                // A reader may come before the first writer: it then reads an empty store.
                Err(Errno::ENOENT) if access == Access::Read => {}
                Err(errno) => return Err(io_error("cannot watch", &path, errno.into())),
            }
        }
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(watch_error)?;
        let wakeup = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(watch_error)?;
        let readable = || EpollEvent::new(EpollFlags::EPOLLIN, 0);
        wakeup.add(&inotify, readable()).map_err(watch_error)?;
        wakeup.add(&timer, readable()).map_err(watch_error)?;
        Ok(Folder {
            dir: dir.to_owned(),
            access,
            part,
            inotify,
            watches,
            timer,
            looks: BTreeMap::new(),
            wakeup,
            reread: true,
            requests: AtomicU64::new(0),
        })
    }

    pub(in crate::store) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(in crate::store) fn access(&self) -> Access {
        self.access
    }

    /// Readable when a refresh may find something.
    pub(in crate::store) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.0.as_fd()
    }

    /// How many files were read or written.
    pub(in crate::store) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The next refresh reads everything.
    pub(in crate::store) fn distrust(&mut self) {
        self.reread = true;
    }

    /// Where a key's value stands.
    pub(in crate::store) fn path(&self, key: Key) -> PathBuf {
        let (shelf, name) = match key {
            Key::Node(node) => (Shelf::Nodes, format!("{node}.json")),
            Key::Alive(node) => (Shelf::Nodes, format!("{node}.lease")),
            Key::Flags(Scope::Node(node)) => (Shelf::Flags, format!("{node}.json")),
            Key::Flags(Scope::Cluster) => (Shelf::Flags, "cluster.json".to_owned()),
            Key::Drains => (Shelf::Drains, "cluster.json".to_owned()),
            Key::Director(set) => (Shelf::Directors, format!("{set}.json")),
            Key::Owned(node) => (Shelf::Owned, format!("{node}.json")),
        };
        self.dir.join(shelf.name()).join(name)
    }

    /// Brings the keys of this folder up to date in a view.
    pub(in crate::store) fn refresh(&mut self, view: &mut State) -> Result<Refreshed, StoreError> {
        let now = Instant::now();
        let mut keys = self.rung(now);
        if self.reread {
            keys = self.all_keys(view)?;
            self.reread = false;
        }
        let mut refreshed = Refreshed::default();
        for key in keys {
            let read = match key {
                Key::Alive(node) => self.look(node, view, now),
                key => self.read(key).map(|value| view.set(key, value)),
            };
            match read {
                Ok(true) => drop(refreshed.changed.insert(key)),
                Ok(false) => {}
                Err(fault) => refreshed.faults.push(fault),
            }
        }
        self.set_timer();
        Ok(refreshed)
    }

    /// The keys of which the watch or the timer says that they may be others.
    fn rung(&mut self, now: Instant) -> BTreeSet<Key> {
        // EAGAIN: the timer has not run out.
        let _ = self.timer.wait();
        let due = self.looks.iter().filter(|(_, look)| look.at <= now);
        let mut keys: BTreeSet<Key> = due.map(|(node, _)| Key::Alive(*node)).collect();
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.reread |= overflowed(&event);
                        let Some(key) = self.key_of_event(&event) else { continue };
                        if let Key::Alive(node) = key {
                            let look = Look { at: now, pause: FIRST_LOOK };
                            self.looks.insert(node, look);
                        }
                        keys.insert(key);
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.reread = true;
                    break;
                }
            }
        }
        keys
    }

    fn key_of_event(&self, event: &InotifyEvent) -> Option<Key> {
        let (_, shelf) = self.watches.iter().find(|(watch, _)| *watch == event.wd)?;
        let key = self.key_of(*shelf, event.name.as_ref()?.to_str()?)?;
        // A value is complete when it is renamed into place, or closed by an editor.
        let only_begun = event.mask.contains(AddWatchFlags::IN_MODIFY);
        (matches!(key, Key::Alive(_)) || !only_begun).then_some(key)
    }

    fn key_of(&self, shelf: Shelf, name: &str) -> Option<Key> {
        let number =
            |stem: &str| stem.parse::<u32>().ok().filter(|n| *n > 0 && n.to_string() == stem);
        if shelf == Shelf::Nodes
            && let Some(stem) = name.strip_suffix(".lease")
        {
            return number(stem).map(Key::Alive);
        }
        let stem = name.strip_suffix(".json")?;
        let key = match (shelf, stem) {
            (Shelf::Flags, "cluster") => Key::Flags(Scope::Cluster),
            (Shelf::Drains, "cluster") => Key::Drains,
            (Shelf::Drains, _) => return None,
            (Shelf::Nodes, stem) => Key::Node(number(stem)?),
            (Shelf::Flags, stem) => Key::Flags(Scope::Node(number(stem)?)),
            (Shelf::Directors, stem) => Key::Director(number(stem)?),
            (Shelf::Owned, stem) => Key::Owned(number(stem)?),
        };
        self.part.keeps(key).then_some(key)
    }

    /// Every key that stands in the folder or in the view.
    fn all_keys(&self, view: &State) -> Result<BTreeSet<Key>, StoreError> {
        let mut keys = view.keys();
        keys.retain(|key| self.part.keeps(*key));
        for shelf in self.part.shelves() {
            let path = self.dir.join(shelf.name());
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io_error("cannot read", &path, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| io_error("cannot read", &path, e))?;
                keys.extend(entry.file_name().to_str().and_then(|name| self.key_of(shelf, name)));
            }
        }
        Ok(keys)
    }

    /// Reads one key; `None` where there is no file.
    fn read(&self, key: Key) -> Result<Option<Value>, Fault> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = self.path(key);
        let bytes = match read_capped(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(reason) => return Err(self.set_aside(key, path, None, reason)),
        };
        let value = Value::parse(key, &bytes);
        value.map(Some).map_err(|reason| self.set_aside(key, path, Some(&bytes), reason))
    }

    fn try_read(&self, key: Key) -> Result<Option<Value>, String> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let bytes = read_capped(&self.path(key))?;
        bytes.map(|bytes| Value::parse(key, &bytes)).transpose()
    }

    /// What stands in a key's file, for whoever is about to replace it.
    pub(in crate::store) fn find<T>(
        &self,
        key: Key,
        take: impl FnOnce(Value) -> Option<T>,
    ) -> Found<T> {
        match self.try_read(key) {
            Ok(None) => Found::Nothing,
            Ok(Some(value)) => take(value).map_or(Found::Spoilt, Found::Value),
            Err(_) => Found::Spoilt,
        }
    }

    /// Looks who holds a node's lease.
    fn look(&mut self, node: u32, view: &mut State, now: Instant) -> Result<bool, Fault> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let key = Key::Alive(node);
        let path = self.path(key);
        let before = view.alive.get(&node).copied();
        let holder = holder(&path).map_err(|e| Fault {
            key,
            path,
            set_aside: None,
            reason: e.to_string(),
        })?;
        let last = self.looks.get(&node).is_none_or(|look| look.pause > LAST_LOOK);
        let (after, settled) = match holder {
            Holder::Nobody => (None, true),
            Holder::Incarnation(incarnation) if Some(incarnation) != before => {
                (Some(incarnation), true)
            }
            Holder::Incarnation(incarnation) => (Some(incarnation), last),
            // Somebody spoilt the file: that it is held is still true.
            Holder::Unnamed if last => (before.or(Some(0)), true),
            Holder::Unnamed => (before, false),
        };
        match self.looks.get_mut(&node) {
            Some(look) if !settled => {
                *look = Look { at: now + look.pause, pause: look.pause * 2 };
            }
            _ => drop(self.looks.remove(&node)),
        }
        Ok(view.set(key, after.map(Value::Alive)))
    }

    fn set_timer(&self) {
        let next = self.looks.values().map(|look| look.at).min();
        let set = match next {
            Some(at) => {
                // 0 would disarm it.
                let left = at.saturating_duration_since(Instant::now()).max(FIRST_LOOK);
                let expiration = Expiration::OneShot(TimeSpec::from(left));
                self.timer.set(expiration, TimerSetTimeFlags::empty())
            }
            None => self.timer.unset(),
        };
        if let Err(errno) = set {
            // Then the next event or full read looks.
            tracing::warn!("no timer for the leases: {errno}");
        }
    }

    /// Copies a spoilt file, so that nothing is lost when it is written anew. It stays where it
    /// is until then: a missing file would say that there is no value, and that would be false.
    /// What was read is what is kept: another reader may have had the file mended by now.
    fn set_aside(&self, key: Key, path: PathBuf, bytes: Option<&[u8]>, reason: String) -> Fault {
        let mut aside = path.clone().into_os_string();
        aside.push(".corrupt");
        let aside = PathBuf::from(aside);
        let copy = || match bytes {
            Some(bytes) => fs::write(&aside, bytes),
            None => fs::copy(&path, &aside).map(drop),
        };
        let copied = self.access == Access::Write && copy().is_ok();
        Fault { key, path, set_aside: copied.then_some(aside), reason }
    }

    /// Replaces a key's value.
    pub(in crate::store) fn write(&self, key: Key, value: &Value) -> Result<(), StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = self.path(key);
        self.replace(&path, &value.encode()).map_err(|e| io_error("cannot write", &path, e))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(self.dir.join("tmp"))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        File::open(folder)?.sync_all()
    }

    /// Waits for its turn among those who read a key before they write it; the guard ends it.
    /// Each node has a turn of its own: nodes do not wait for one another.
    pub(in crate::store) fn turn(&self, key: Key) -> Result<File, StoreError> {
        let path = match key {
            Key::Node(node) => self.dir.join("tmp").join(format!("node-{node}.lock")),
            _ => self.dir.join("lock"),
        };
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = open.map_err(|e| io_error("cannot open", &path, e))?;
        lock.lock().map_err(|e| io_error("cannot lock", &path, e))?;
        Ok(lock)
    }

    /// Reads a value, changes it and writes it, with nobody in between. A value that cannot be
    /// read is set aside, and the change starts from none.
    pub(in crate::store) fn update<T: Default>(
        &self,
        key: Key,
        change: &mut dyn FnMut(&mut T),
        take: impl FnOnce(Value) -> Option<T>,
        wrap: impl FnOnce(T) -> Value,
    ) -> Result<Option<Fault>, StoreError> {
        let _turn = self.turn(key)?;
        let (mut value, fault) = match self.read(key) {
            Ok(value) => (value.and_then(take).unwrap_or_default(), None),
            Err(fault) => (T::default(), Some(fault)),
        };
        change(&mut value);
        self.write(key, &wrap(value))?;
        Ok(fault)
    }

    /// Puts the view's value back where the stored one cannot be read.
    pub(in crate::store) fn repair(&self, key: Key, view: &State) -> Result<(), StoreError> {
        let _turn = self.turn(key)?;
        if self.try_read(key).is_ok() {
            return Ok(());
        }
        match view.value(key) {
            Some(value) => self.write(key, &value),
            None => {
                let path = self.path(key);
                fs::remove_file(&path).map_err(|e| io_error("cannot remove", &path, e))
            }
        }
    }
}

fn overflowed(event: &InotifyEvent) -> bool {
    event.mask.intersects(AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED)
}

/// The file's bytes, `None` where there is no file.
fn read_capped(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(VALUE_CAP + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::super::lease::{Lock, Note};
    use super::*;

    /// Refreshes when woken, and only then.
    #[track_caller]
    fn until(folder: &mut Folder, view: &mut State, is: impl Fn(&State) -> bool) {
        for _ in 0..1000 {
            folder.refresh(view).unwrap();
            if is(view) {
                return;
            }
            let mut fds = [PollFd::new(folder.wakeup(), PollFlags::POLLIN)];
            let woken = poll(&mut fds, PollTimeout::from(60_000_u16)).unwrap();
            assert!(woken > 0, "no wake-up: {view:?}");
        }
        panic!("woken for nothing: {view:?}");
    }

    #[test]
    fn a_lock_that_is_released_after_its_file_was_closed_is_noticed_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), Access::Write, Part::All).unwrap();
        let mut view = State::default();
        let path = folder.path(Key::Alive(1));
        // Only this file is locked, and it stays open.
        let lock = Lock::take(&path, 1).unwrap();
        lock.write(&Note { incarnation: 7, etcd_lease: None }).unwrap();
        until(&mut folder, &mut view, |view| view.alive.get(&1) == Some(&7));
        // The kernel tells of the close...
        drop(OpenOptions::new().write(true).open(&path).unwrap());
        folder.refresh(&mut view).unwrap();
        assert_eq!(view.alive.get(&1), Some(&7), "it is held");
        // ...and releases the lock an instant later, of which it tells nobody.
        let released = libc::flock {
            l_type: libc::F_UNLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(lock.file(), FcntlArg::F_OFD_SETLK(&released)).unwrap();
        until(&mut folder, &mut view, |view| view.alive.is_empty());
    }

    #[test]
    fn a_file_that_is_only_begun_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), Access::Write, Part::All).unwrap();
        let mut view = State::default();
        folder.refresh(&mut view).unwrap();
        let mut file = File::create(folder.path(Key::Node(1))).unwrap();
        file.write_all(b"{\"node\": 1,").unwrap();
        let refreshed = folder.refresh(&mut view).unwrap();
        assert_eq!(refreshed.faults, [], "an editor is not done yet");
        drop(file);
        assert_eq!(folder.refresh(&mut view).unwrap().faults.len(), 1, "now it says so");
    }

    #[test]
    fn the_host_s_part_keeps_what_no_other_host_needs_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let all = Folder::open(dir.path(), Access::Write, Part::All).unwrap();
        let flags = Value::Flags(Default::default());
        for key in [Key::Flags(Scope::Cluster), Key::Flags(Scope::Node(1))] {
            all.write(key, &flags).unwrap();
        }
        all.write(Key::Owned(1), &Value::Owned(BTreeSet::new())).unwrap();
        let mut host = Folder::open(dir.path(), Access::Write, Part::Host).unwrap();
        let mut view = State::default();
        host.refresh(&mut view).unwrap();
        assert_eq!(view.keys(), [Key::Flags(Scope::Node(1)), Key::Owned(1)].into());
        all.write(Key::Flags(Scope::Cluster), &flags).unwrap();
        assert!(host.refresh(&mut view).unwrap().changed.is_empty());
    }
}
