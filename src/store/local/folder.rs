//! The folder's files: where each key stands, how it is read and replaced, and what wakes.
//!
//! Each key is a file of its own (`nodes/3.json`, `flags/cluster.json`, `owned/1.json`), so that
//! nodes never wait for one another's writes, a change is read alone, and one corrupt file spoils
//! one record. A write goes to `tmp/`, is synced, and is renamed into place, so a reader sees the
//! old value or the new one and takes no lock; writers that read first take a [lock](locks).
//! inotify is the wake-up.
//!
//! What is in memory goes on when the files do not. A file that is missing counts as removed
//! when it was missing for a while, or by a full read: whose it is writes it again. Folders that
//! were deleted are made again with what the view has, and where there is no space to write,
//! the view keeps what this host alone needs until there is.
//!
//! With etcd, the same folder keeps what only this host needs to know: see [`KeptKeys`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::io_error::io_error;
use super::lease::{Holder, holder};
use super::locks;
use crate::clock::Instant;
use crate::files;
use crate::histogram::{Histogram, SharedHistogram};
use crate::store::value::{Found, VALUE_CAP, Value};
use crate::store::{Access, Fault, Key, Refreshed, Scope, StoreError, StoreState};

/// Which keys a folder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum KeptKeys {
    /// All: it is the whole store.
    All,
    /// What a reboot of this host makes untrue, and no other host needs: the node's own flags
    /// and the services that its director owns. The rest stands in etcd.
    #[cfg_attr(not(feature = "etcd"), allow(dead_code))]
    Host,
}

named! {
    /// A folder in the folder.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum RecordKind {
        Nodes = "nodes",
        Flags = "flags",
        Owned = "owned",
        Drains = "drains",
        Directors = "directors",
    }
}

impl KeptKeys {
    fn keeps(self, key: Key) -> bool {
        match key {
            Key::Flags(Scope::Node(_)) | Key::Owned(_) => true,
            _ => self == KeptKeys::All,
        }
    }

    fn directories(self) -> impl Iterator<Item = RecordKind> {
        let on = move |kind| {
            self == KeptKeys::All || matches!(kind, RecordKind::Flags | RecordKind::Owned)
        };
        RecordKind::ALL.into_iter().filter(move |kind| on(*kind))
    }
}

/// A dying holder's file is closed an instant before its lock is released: where a lock seems to
/// be held all the same, it is looked at again after these, the last time after a second.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(1024);

/// A file that is missing may be written again by whose it is: so long it is waited for. A node's
/// lease is looked after once a second.
const GRACE: Duration = Duration::from_secs(2);

/// How soon a folder that is missing is looked for again, and a value for which there was no space
/// is written.
const AGAIN: Duration = Duration::from_secs(1);

/// How rarely a file that cannot be read is read again.
const RAREST: Duration = Duration::from_secs(15);

/// A file that cannot be read, though there may be nothing wrong with it: this process may have
/// no descriptor left. Nothing tells when it can be.
#[derive(Clone, Debug)]
struct Unreadable {
    reason: String,
    at: Instant,
    pause: Duration,
}

/// When a lock is looked at again, and after which pause that is.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    pause: Duration,
}

/// A folder in the folder that is watched, and which one of that name it is.
#[derive(Debug)]
struct WatchedDirectory {
    descriptor: WatchDescriptor,
    kind: RecordKind,
    identity: (u64, u64),
}

/// The folder and its watch.
#[derive(Debug)]
pub(in crate::store) struct Folder {
    dir: PathBuf,
    access: Access,
    part: KeptKeys,
    inotify: Inotify,
    watches: Vec<WatchedDirectory>,
    /// Wakes when something is to be read again.
    timer: TimerFd,
    looks: BTreeMap<u32, Look>,
    /// Keys whose files are missing, and until when they do not count as removed.
    missing: BTreeMap<Key, Instant>,
    unreadable: BTreeMap<Key, Unreadable>,
    /// Keys that this view wrote itself: no other writes them again.
    own: BTreeSet<Key>,
    /// Values for which there was no space: the view has them.
    unsaved: BTreeMap<Key, Value>,
    /// When folders that are missing are looked for, and what is unsaved is written.
    next_repair: Option<Instant>,
    /// Readable when the watch or the timer is.
    wakeup: Epoll,
    /// True until everything was read once, and again when the watch lost its place.
    reread: bool,
    requests: AtomicU64,
    /// How long reading or writing a file took.
    latency: SharedHistogram,
}

impl Folder {
    /// Opens the folder, which is made if it may be.
    ///
    /// # Errors
    /// The folder cannot be made, or not be watched.
    pub(in crate::store) fn open(
        dir: &Path,
        access: Access,
        part: KeptKeys,
    ) -> Result<Folder, StoreError> {
        let watch_error = |errno: Errno| io_error("cannot watch", dir, errno.into());
        if access == Access::Write {
            make_folders(dir, part)?;
        }
        let inotify =
            Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(watch_error)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(watch_error)?;
        let wakeup = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(watch_error)?;
        let readable = || EpollEvent::new(EpollFlags::EPOLLIN, 0);
        wakeup.add(&inotify, readable()).map_err(watch_error)?;
        wakeup.add(&timer, readable()).map_err(watch_error)?;
        let mut folder = Folder {
            dir: dir.to_owned(),
            access,
            part,
            inotify,
            watches: Vec::new(),
            timer,
            looks: BTreeMap::new(),
            missing: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            own: BTreeSet::new(),
            unsaved: BTreeMap::new(),
            next_repair: None,
            wakeup,
            reread: true,
            requests: AtomicU64::new(0),
            latency: SharedHistogram::default(),
        };
        folder.watch_all().1?;
        Ok(folder)
    }

    /// Watches the folders that are not watched yet, or are others than before: they come back,
    /// and what failed first.
    fn watch_all(&mut self) -> (Vec<RecordKind>, Result<(), StoreError>) {
        let (mut new, mut outcome) = (Vec::new(), Ok(()));
        for kind in self.part.directories() {
            match self.watch(kind) {
                Ok(true) => new.push(kind),
                Ok(false) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (new, outcome)
    }

    /// True if the folder was not watched before.
    fn watch(&mut self, kind: RecordKind) -> Result<bool, StoreError> {
        let path = self.dir.join(kind.name());
        let identity = match fs::metadata(&path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            // A reader may come before the first writer: it then reads an empty store.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.access == Access::Read => {
                self.watches.retain(|watched| watched.kind != kind);
                return Ok(false);
            }
            Err(e) => return Err(io_error("cannot watch", &path, e)),
        };
        let before = self.watches.iter().position(|watched| watched.kind == kind);
        if before.is_some_and(|at| self.watches[at].identity == identity) {
            return Ok(false);
        }
        if let Some(at) = before {
            // It may be gone with its folder.
            let _ = self.inotify.rm_watch(self.watches.swap_remove(at).descriptor);
        }
        let mut flags = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ONLYDIR;
        if kind == RecordKind::Nodes {
            // A lease says in its file who holds it, and keeps the file open.
            flags |= AddWatchFlags::IN_MODIFY;
        }
        let descriptor = self.inotify.add_watch(&path, flags);
        let descriptor = descriptor.map_err(|e| io_error("cannot watch", &path, e.into()))?;
        self.watches.push(WatchedDirectory { descriptor, kind, identity });
        Ok(true)
    }

    /// Makes folders again that are gone, with what the view has of them. Those that cannot be
    /// had, come back: what the view has of them does not count as removed.
    fn fix(&mut self, view: &StoreState, now: Instant) -> Vec<RecordKind> {
        self.next_repair = None;
        let made = match self.access {
            Access::Write => make_folders(&self.dir, self.part),
            Access::Read => Ok(()),
        };
        let (new, watched) = self.watch_all();
        if self.access == Access::Write {
            files::note(&self.dir, &made.and(watched));
        }
        let is_watched = |kind: &RecordKind| self.watches.iter().any(|w| w.kind == *kind);
        let gone: Vec<RecordKind> =
            self.part.directories().filter(|kind| !is_watched(kind)).collect();
        if !gone.is_empty() {
            self.next_repair = Some(now + AGAIN);
        }
        if self.access == Access::Write {
            self.restore(view, &new);
        }
        gone
    }

    /// Writes what the view has of folders that are new where no file stands: a program that has a
    /// later value writes it over this one.
    fn restore(&self, view: &StoreState, directories: &[RecordKind]) {
        for key in view.keys().into_iter().filter(|key| self.part.keeps(*key)) {
            let (kind, _) = place(key);
            let Some(value) = view.value(key) else { continue };
            if !directories.contains(&kind) || matches!(key, Key::Alive(_)) {
                continue;
            }
            let path = self.path(key);
            let write = || -> io::Result<()> {
                let mut file = tempfile::Builder::new()
                    .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                    .tempfile_in(self.dir.join("tmp"))?;
                files::give(file.as_file(), path.parent().unwrap_or(&self.dir))?;
                io::Write::write_all(&mut file, &value.encode())?;
                match file.persist_noclobber(&path) {
                    Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(e.error),
                    _ => Ok(()),
                }
            };
            if let Err(error) = write() {
                tracing::debug!("{} is not written again: {error}", path.display());
            }
        }
    }

    /// Writes what there was no space for before.
    fn save(&mut self, now: Instant) {
        for (key, value) in std::mem::take(&mut self.unsaved) {
            if self.write(key, &value).is_err() {
                self.unsaved.insert(key, value);
                self.next_repair = Some(now + AGAIN);
            }
        }
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

    /// How long reading or writing a file took.
    pub(in crate::store) fn latency(&self) -> Histogram {
        self.latency.counted()
    }

    /// Does something with one file, and notes how long that took.
    fn timed<T>(&self, access: impl FnOnce() -> T) -> T {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let outcome = access();
        self.latency.observe(started.elapsed());
        outcome
    }

    /// The next refresh reads everything.
    pub(in crate::store) fn invalidate(&mut self) {
        self.reread = true;
    }

    /// Where a key's value stands.
    pub(in crate::store) fn path(&self, key: Key) -> PathBuf {
        let (kind, name) = place(key);
        self.dir.join(kind.name()).join(name)
    }

    /// Brings the keys of this folder up to date in a view.
    pub(in crate::store) fn refresh(
        &mut self,
        view: &mut StoreState,
    ) -> Result<Refreshed, StoreError> {
        let now = Instant::now();
        let asked = self.reread;
        let mut keys = self.rung(now);
        let mut gone = Vec::new();
        if self.reread || self.next_repair.is_some_and(|at| now >= at) {
            self.reread = true;
            gone = self.fix(view, now);
            self.save(now);
            match self.all_keys(view, &gone) {
                Ok(all) => keys.extend(all),
                Err(error) => {
                    // Nothing else wakes for what was not read.
                    self.next_repair = Some(now + AGAIN);
                    self.set_timer();
                    return Err(error);
                }
            }
            self.reread = false;
        }
        let mut refreshed = Refreshed::default();
        for key in keys {
            if gone.contains(&place(key).0) || self.unsaved.contains_key(&key) {
                continue;
            }
            let read = match key {
                Key::Alive(node) => self.look(node, view, now, asked),
                key => match self.read(key) {
                    Ok(None) if self.awaits(key, view, now, asked) => Ok(false),
                    Ok(value) => {
                        self.missing.remove(&key);
                        Ok(view.set(key, value))
                    }
                    Err(fault) => Err(fault),
                },
            };
            match read {
                Ok(changed) => {
                    self.unreadable.remove(&key);
                    refreshed.changed.extend(changed.then_some(key));
                }
                Err(fault) => {
                    if self.is_news(&fault, now) || asked {
                        refreshed.faults.push(fault);
                    }
                }
            }
        }
        self.set_timer();
        Ok(refreshed)
    }

    /// Notes when a file is read again that could not be read. True if that was not known.
    fn is_news(&mut self, fault: &Fault, now: Instant) -> bool {
        // What could be copied could be read: its next write wakes.
        if fault.set_aside.is_some() {
            self.unreadable.remove(&fault.key);
            return true;
        }
        let before = self.unreadable.get(&fault.key).filter(|it| it.reason == fault.reason);
        let pause = before.map_or(AGAIN, |before| (before.pause * 2).min(RAREST));
        let is_news = before.is_none();
        let again = Unreadable { reason: fault.reason.clone(), at: now + pause, pause };
        self.unreadable.insert(fault.key, again);
        is_news
    }

    /// True if a file that is missing may still be written again by whose it is. What this view
    /// wrote itself no other program writes, and a caller that asks for a full read wants to know;
    /// but what a director owns it alone knows, and writes again.
    fn awaits(&mut self, key: Key, view: &StoreState, now: Instant, asked: bool) -> bool {
        let Some(value) = view.value(key) else { return false };
        if matches!(key, Key::Owned(_)) && self.own.contains(&key) {
            self.keep(key, value, now);
            return true;
        }
        if asked || self.own.contains(&key) {
            return false;
        }
        now < *self.missing.entry(key).or_insert(now + GRACE)
    }

    /// The keys of which the watch or the timer says that they may be others.
    fn rung(&mut self, now: Instant) -> BTreeSet<Key> {
        // EAGAIN: the timer has not run out.
        let _ = self.timer.wait();
        let due = self.looks.iter().filter(|(_, look)| look.at <= now);
        let mut keys: BTreeSet<Key> = due.map(|(node, _)| Key::Alive(*node)).collect();
        keys.extend(self.missing.iter().filter(|(_, until)| **until <= now).map(|(key, _)| *key));
        keys.extend(self.unreadable.iter().filter(|(_, it)| it.at <= now).map(|(key, _)| *key));
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.reread |= overflowed(&event);
                        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                            self.watches.retain(|watched| watched.descriptor != event.wd);
                        }
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
        let watched = self.watches.iter().find(|watched| watched.descriptor == event.wd)?;
        let key = self.key_of(watched.kind, event.name.as_ref()?.to_str()?)?;
        // A value is complete when it is renamed into place, or closed by an editor.
        let only_begun = event.mask.contains(AddWatchFlags::IN_MODIFY);
        (matches!(key, Key::Alive(_)) || !only_begun).then_some(key)
    }

    fn key_of(&self, kind: RecordKind, name: &str) -> Option<Key> {
        let number =
            |stem: &str| stem.parse::<u32>().ok().filter(|n| *n > 0 && n.to_string() == stem);
        if kind == RecordKind::Nodes
            && let Some(stem) = name.strip_suffix(".lease")
        {
            return number(stem).map(Key::Alive);
        }
        let stem = name.strip_suffix(".json")?;
        let key = match (kind, stem) {
            (RecordKind::Flags, "cluster") => Key::Flags(Scope::Cluster),
            (RecordKind::Drains, "cluster") => Key::Drains,
            (RecordKind::Drains, _) => return None,
            (RecordKind::Nodes, stem) => Key::Node(number(stem)?),
            (RecordKind::Flags, stem) => Key::Flags(Scope::Node(number(stem)?)),
            (RecordKind::Directors, stem) => Key::Director(number(stem)?),
            (RecordKind::Owned, stem) => Key::Owned(number(stem)?),
        };
        self.part.keeps(key).then_some(key)
    }

    /// Every key that stands in the folder or in the view.
    fn all_keys(
        &self,
        view: &StoreState,
        gone: &[RecordKind],
    ) -> Result<BTreeSet<Key>, StoreError> {
        let mut keys = view.keys();
        keys.retain(|key| self.part.keeps(*key));
        for kind in self.part.directories().filter(|kind| !gone.contains(kind)) {
            let path = self.dir.join(kind.name());
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io_error("cannot read", &path, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| io_error("cannot read", &path, e))?;
                keys.extend(entry.file_name().to_str().and_then(|name| self.key_of(kind, name)));
            }
        }
        Ok(keys)
    }

    /// Reads one key; `None` where there is no file.
    fn read(&self, key: Key) -> Result<Option<Value>, Fault> {
        let path = self.path(key);
        let bytes = match self.timed(|| read_capped(&path)) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(reason) => return Err(self.set_aside(key, path, None, reason)),
        };
        let value = Value::parse(key, &bytes);
        value.map(Some).map_err(|reason| self.set_aside(key, path, Some(&bytes), reason))
    }

    fn try_read(&self, key: Key) -> Result<Option<Value>, String> {
        let bytes = self.timed(|| read_capped(&self.path(key)))?;
        bytes.map(|bytes| Value::parse(key, &bytes)).transpose()
    }

    /// What stands in a key's file, for a caller that is about to replace it.
    pub(in crate::store) fn find<T>(
        &self,
        key: Key,
        take: impl FnOnce(Value) -> Option<T>,
    ) -> Found<T> {
        match self.try_read(key) {
            Ok(None) => Found::Nothing,
            Ok(Some(value)) => take(value).map_or(Found::Corrupt, Found::Value),
            Err(_) => Found::Corrupt,
        }
    }

    /// Looks who holds a node's lease.
    fn look(
        &mut self,
        node: u32,
        view: &mut StoreState,
        now: Instant,
        asked: bool,
    ) -> Result<bool, Fault> {
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
        // Its holder sees to it, if it has one.
        if holder == Holder::Missing && self.awaits(key, view, now, asked) {
            return Ok(false);
        }
        self.missing.remove(&key);
        let last = self.looks.get(&node).is_none_or(|look| look.pause > LAST_LOOK);
        let (after, settled) = match holder {
            Holder::NoProcess | Holder::Missing => (None, true),
            Holder::Incarnation(incarnation) if Some(incarnation) != before => {
                (Some(incarnation), true)
            }
            Holder::Incarnation(incarnation) => (Some(incarnation), last),
            // The file is corrupt: that it is held is still true.
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
        let looks = self.looks.values().map(|look| look.at);
        let others = self.missing.values().copied().chain(self.next_repair);
        let unreadable = self.unreadable.values().map(|it| it.at);
        let next = looks.chain(others).chain(unreadable).min();
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

    /// Copies a corrupt file, so that nothing is lost when it is written anew. It stays where it
    /// is until then: a missing file would say that there is no value, and that would be false.
    /// What was read is what is kept: another reader may have had the file fixed by now.
    fn set_aside(&self, key: Key, path: PathBuf, bytes: Option<&[u8]>, reason: String) -> Fault {
        let mut aside = path.clone().into_os_string();
        aside.push(".corrupt");
        let aside = PathBuf::from(aside);
        // A link that stands there is replaced, not followed.
        let put = |bytes: &[u8]| files::replace(&aside, &self.dir.join("tmp"), bytes, false);
        // What is no file, or too large, is not copied.
        let copy = || match bytes {
            Some(bytes) => put(bytes),
            None => files::read(&path, VALUE_CAP).and_then(|bytes| put(&bytes)),
        };
        let copied = self.access == Access::Write && copy().is_ok();
        Fault { key, path, set_aside: copied.then_some(aside), reason }
    }

    /// Replaces a key's value.
    pub(in crate::store) fn write(&mut self, key: Key, value: &Value) -> Result<(), StoreError> {
        let path = self.path(key);
        let replace = || files::replace(&path, &self.dir.join("tmp"), &value.encode(), true);
        let written = self.timed(replace);
        // A value of the whole cluster stays as it was, and the caller is told.
        if matches!(key, Key::Node(_) | Key::Owned(_)) {
            files::note(&path, &written);
        }
        self.own.insert(key);
        written.map_err(|e| io_error("cannot write", &path, e))
    }

    /// Replaces the value of a key that no other process needs: where it cannot be written, the
    /// view has it all the same, and it is written when it can be.
    pub(in crate::store) fn keep(&mut self, key: Key, value: Value, now: Instant) {
        self.unsaved.remove(&key);
        if self.write(key, &value).is_err() {
            self.unsaved.insert(key, value);
            self.next_repair = Some(now + AGAIN);
            self.set_timer();
        }
    }

    /// Locks a key, as every program does that reads it before it writes it; the guard ends it.
    /// Each node has a lock of its own: nodes do not wait for one another.
    pub(in crate::store) fn lock(&self, key: Key) -> Result<File, StoreError> {
        match key {
            Key::Node(node) => locks::lock(&self.dir, &format!("node-{node}")),
            _ => locks::lock(&self.dir, "store"),
        }
    }

    /// Reads a value, changes it and writes it, under its lock. A value that cannot be
    /// read is set aside, and the change starts from none.
    pub(in crate::store) fn update<T: Default>(
        &mut self,
        key: Key,
        change: &mut dyn FnMut(&mut T),
        take: impl FnOnce(Value) -> Option<T>,
        wrap: impl FnOnce(T) -> Value,
    ) -> Result<Option<Fault>, StoreError> {
        let _lock = self.lock(key)?;
        let (mut value, fault) = match self.read(key) {
            Ok(value) => (value.and_then(take).unwrap_or_default(), None),
            Err(fault) => (T::default(), Some(fault)),
        };
        change(&mut value);
        self.write(key, &wrap(value))?;
        Ok(fault)
    }

    /// Puts the view's value back where the stored one cannot be read.
    pub(in crate::store) fn repair(
        &mut self,
        key: Key,
        view: &StoreState,
    ) -> Result<(), StoreError> {
        let _lock = self.lock(key)?;
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

/// In which folder a key stands, and under which name.
fn place(key: Key) -> (RecordKind, String) {
    match key {
        Key::Node(node) => (RecordKind::Nodes, format!("{node}.json")),
        Key::Alive(node) => (RecordKind::Nodes, format!("{node}.lease")),
        Key::Flags(Scope::Node(node)) => (RecordKind::Flags, format!("{node}.json")),
        Key::Flags(Scope::Cluster) => (RecordKind::Flags, "cluster.json".to_owned()),
        Key::Drains => (RecordKind::Drains, "cluster.json".to_owned()),
        Key::Director(set) => (RecordKind::Directors, format!("{set}.json")),
        Key::Owned(node) => (RecordKind::Owned, format!("{node}.json")),
    }
}

/// Makes the folders that are missing, all that can be made.
fn make_folders(dir: &Path, part: KeptKeys) -> Result<(), StoreError> {
    // Leases are shown in `nodes` with every engine.
    let names = part.directories().map(RecordKind::name).chain([RecordKind::Nodes.name(), "tmp"]);
    let made = names.map(|name| {
        let path = dir.join(name);
        files::make_folders(&path).map_err(|e| io_error("cannot make", &path, e))
    });
    let made = made.fold(Ok(()), Result::and);
    let locks = locks::make_folder(dir);
    made.and(locks.map_err(|e| io_error("cannot make", &dir.join("locks"), e)))
}

/// The file's bytes, `None` where there is no file.
fn read_capped(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match files::read(path, VALUE_CAP) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests;
