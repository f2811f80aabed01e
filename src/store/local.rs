//! The embedded store: a folder of small JSON files, for one host and its network namespaces.
//!
//! Each key is a file of its own (`nodes/3.json`, `flags/cluster.json`, `owned/1.json`), so
//! that nodes never wait for one another's writes, a change is read alone, and one spoilt file
//! spoils one record. A write goes to `tmp/`, is synced, and is renamed into place, so a reader
//! sees the old value or the new one and takes no lock; writers that read first hold `lock`.
//! inotify on the three folders is the wake-up. Leases are locks on `nodes/N.lease`: the kernel
//! releases them with the process, however it ends.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Fault, Key, Lease, NodeRecord, Refreshed, Scope, ServiceKey, State, Store, StoreError,
};
use crate::ports::FlagSet;

/// No value is larger: 65,535 registrations for each of several CVIPs fit.
const VALUE_CAP: u64 = 64 << 20;

/// What the opener may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only: spoilt files are reported, never moved. Works without privilege.
    Read,
    /// Reads and writes: folders are made, spoilt files set aside.
    Write,
}

/// The folder, its watch and the view.
#[derive(Debug)]
pub struct LocalStore {
    dir: PathBuf,
    access: Access,
    inotify: Inotify,
    view: State,
    /// True until everything was read once, and again when the watch lost its place.
    reread: bool,
}

const FOLDERS: [&str; 3] = ["nodes", "flags", "owned"];

impl LocalStore {
    /// Opens the store in a folder, which is made if it may be.
    ///
    /// # Errors
    /// The folder cannot be made, or not be watched.
    pub fn open(dir: &Path, access: Access) -> Result<LocalStore, StoreError> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| io_error("cannot watch", dir, errno.into()))?;
        if access == Access::Write {
            for folder in FOLDERS.iter().chain(&["tmp"]) {
                let path = dir.join(folder);
                fs::create_dir_all(&path).map_err(|e| io_error("cannot make", &path, e))?;
            }
        }
        for folder in FOLDERS {
            let path = dir.join(folder);
            let flags = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_CLOSE_WRITE;
            match inotify.add_watch(&path, flags) {
                Ok(_) => {}
                // A reader may come before the first writer: it then reads an empty store.
                Err(nix::errno::Errno::ENOENT) if access == Access::Read => {}
                Err(errno) => return Err(io_error("cannot watch", &path, errno.into())),
            }
        }
        let dir = dir.to_owned();
        Ok(LocalStore { dir, access, inotify, view: State::default(), reread: true })
    }

    fn path(&self, key: Key) -> PathBuf {
        let (folder, name) = match key {
            Key::Node(node) => ("nodes", node.to_string()),
            Key::Flags(Scope::Node(node)) => ("flags", node.to_string()),
            Key::Flags(Scope::Cluster) => ("flags", "cluster".to_owned()),
            Key::Owned(node) => ("owned", node.to_string()),
        };
        self.dir.join(folder).join(name + ".json")
    }

    /// Every key that stands in the folder or in the view.
    fn all_keys(&self) -> Result<BTreeSet<Key>, StoreError> {
        let mut keys: BTreeSet<Key> = BTreeSet::new();
        keys.extend(self.view.nodes.keys().map(|node| Key::Node(*node)));
        keys.extend(self.view.flags.keys().map(|scope| Key::Flags(*scope)));
        keys.extend(self.view.owned.keys().map(|node| Key::Owned(*node)));
        for folder in FOLDERS {
            let path = self.dir.join(folder);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io_error("cannot read", &path, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| io_error("cannot read", &path, e))?;
                keys.extend(entry.file_name().to_str().and_then(|name| key_of(folder, name)));
            }
        }
        Ok(keys)
    }

    /// Reads one key into the view. `Ok(true)` if the value is another than before.
    fn read(&mut self, key: Key) -> Result<bool, Fault> {
        let path = self.path(key);
        let value = Value::read(key, &path).map_err(|reason| self.set_aside(key, path, reason))?;
        let view = &mut self.view;
        Ok(match (key, value) {
            (Key::Node(node), Value::Node(record)) => put(&mut view.nodes, node, record),
            (Key::Flags(scope), Value::Flags(flags)) => put(&mut view.flags, scope, flags),
            (Key::Owned(node), Value::Owned(owned)) => put(&mut view.owned, node, owned),
            (key, value) => unreachable!("{value:?} was read for {key:?}"),
        })
    }

    /// Copies a spoilt file, so that nothing is lost when it is written anew. It stays where it
    /// is until then: a missing file would say that there is no value, and that would be false.
    fn set_aside(&self, key: Key, path: PathBuf, reason: String) -> Fault {
        let mut aside = path.clone().into_os_string();
        aside.push(".corrupt");
        let aside = PathBuf::from(aside);
        let copied = self.access == Access::Write && fs::copy(&path, &aside).is_ok();
        Fault { key, path, set_aside: copied.then_some(aside), reason }
    }

    fn write(&self, key: Key, value: &impl Serialize) -> Result<(), StoreError> {
        let path = self.path(key);
        self.replace(&path, value).map_err(|e| io_error("cannot write", &path, e))
    }

    fn replace(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(self.dir.join("tmp"))?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        File::open(folder)?.sync_all()
    }

    /// Waits for its turn among the writers that read first; the guard ends it.
    fn turn(&self) -> Result<File, StoreError> {
        let path = self.dir.join("lock");
        let lock = open_lock(&path).map_err(|e| io_error("cannot open", &path, e))?;
        lock.lock().map_err(|e| io_error("cannot lock", &path, e))?;
        Ok(lock)
    }

    fn lease_path(&self, node: u32) -> PathBuf {
        self.dir.join("nodes").join(format!("{node}.lease"))
    }
}

impl Store for LocalStore {
    fn refresh(&mut self) -> Result<Refreshed, StoreError> {
        let mut keys = BTreeSet::new();
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.reread |= overflowed(&event);
                        let name = event.name.as_ref().and_then(|name| name.to_str());
                        // Watches are told apart by the file's name alone: the same number in
                        // another folder is then read in vain, which is cheap.
                        for folder in FOLDERS {
                            keys.extend(name.and_then(|name| key_of(folder, name)));
                        }
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => {
                    self.reread = true;
                    break;
                }
            }
        }
        if self.reread {
            keys = self.all_keys()?;
            self.reread = false;
        }
        let mut refreshed = Refreshed::default();
        for key in keys {
            match self.read(key) {
                Ok(true) => drop(refreshed.changed.insert(key)),
                Ok(false) => {}
                Err(fault) => refreshed.faults.push(fault),
            }
        }
        Ok(refreshed)
    }

    fn distrust(&mut self) {
        self.reread = true;
    }

    fn state(&self) -> &State {
        &self.view
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn lease(&mut self, node: u32) -> Result<Lease, StoreError> {
        let path = self.lease_path(node);
        let lock = open_lock(&path).map_err(|e| io_error("cannot open", &path, e))?;
        // Whoever only asks (`is_leased`) holds a shared lock for an instant: ask again.
        for _ in 0..20 {
            match lock.try_lock() {
                Ok(()) => return Ok(Lease { _lock: lock }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(e)) => return Err(io_error("cannot lock", &path, e)),
            }
        }
        Err(StoreError::Leased(node))
    }

    fn is_leased(&self, node: u32) -> bool {
        File::open(self.lease_path(node))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn put_node(&mut self, record: &NodeRecord) -> Result<(), StoreError> {
        let path = self.path(Key::Node(record.node));
        if let Ok(Value::Node(Some(stored))) = Value::read(Key::Node(record.node), &path)
            && stored.version() > record.version()
        {
            return Err(StoreError::Superseded(record.node));
        }
        self.write(Key::Node(record.node), record)
    }

    fn update_flags(
        &mut self,
        scope: Scope,
        change: &mut dyn FnMut(&mut FlagSet),
    ) -> Result<Option<Fault>, StoreError> {
        let _turn = self.turn()?;
        let (key, path) = (Key::Flags(scope), self.path(Key::Flags(scope)));
        let (mut flags, fault) = match Value::read(key, &path) {
            Ok(Value::Flags(flags)) => (flags.unwrap_or_default(), None),
            Ok(other) => unreachable!("{other:?} was read for {key:?}"),
            Err(reason) => (FlagSet::default(), Some(self.set_aside(key, path, reason))),
        };
        change(&mut flags);
        self.write(key, &flags)?;
        Ok(fault)
    }

    fn repair(&mut self, key: Key) -> Result<(), StoreError> {
        let _turn = self.turn()?;
        let path = self.path(key);
        if Value::read(key, &path).is_ok() {
            return Ok(());
        }
        let remove = || fs::remove_file(&path).map_err(|e| io_error("cannot remove", &path, e));
        match key {
            Key::Node(node) => match self.view.nodes.get(&node) {
                Some(record) => self.write(key, record),
                None => remove(),
            },
            Key::Flags(scope) => match self.view.flags.get(&scope) {
                Some(flags) => self.write(key, flags),
                None => remove(),
            },
            Key::Owned(node) => match self.view.owned.get(&node) {
                Some(owned) => self.write(key, owned),
                None => remove(),
            },
        }
    }

    fn put_owned(&mut self, director: u32, owned: &BTreeSet<ServiceKey>) -> Result<(), StoreError> {
        self.write(Key::Owned(director), owned)
    }
}

/// A value as it stands in a file; `None` where there is no file.
#[derive(Debug)]
enum Value {
    Node(Option<NodeRecord>),
    Flags(Option<FlagSet>),
    Owned(Option<BTreeSet<ServiceKey>>),
}

impl Value {
    fn read(key: Key, path: &Path) -> Result<Value, String> {
        let bytes = read_capped(path)?;
        let bytes = bytes.as_deref();
        Ok(match key {
            Key::Node(node) => match parse::<NodeRecord>(bytes)? {
                Some(record) if record.node != node => {
                    return Err(format!("it is the record of node {}", record.node));
                }
                record => Value::Node(record),
            },
            Key::Flags(_) => Value::Flags(parse(bytes)?),
            Key::Owned(_) => Value::Owned(parse(bytes)?),
        })
    }
}

fn overflowed(event: &nix::sys::inotify::InotifyEvent) -> bool {
    event.mask.intersects(AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED)
}

fn key_of(folder: &str, name: &str) -> Option<Key> {
    let stem = name.strip_suffix(".json")?;
    if folder == "flags" && stem == "cluster" {
        return Some(Key::Flags(Scope::Cluster));
    }
    let node = stem.parse::<u32>().ok().filter(|n| *n > 0 && n.to_string() == stem)?;
    Some(match folder {
        "nodes" => Key::Node(node),
        "flags" => Key::Flags(Scope::Node(node)),
        _ => Key::Owned(node),
    })
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
    if bytes.len() as u64 > VALUE_CAP {
        return Err(format!("it is larger than {} MiB", VALUE_CAP >> 20));
    }
    Ok(Some(bytes))
}

fn parse<T: DeserializeOwned>(bytes: Option<&[u8]>) -> Result<Option<T>, String> {
    match bytes {
        None => Ok(None),
        Some(b"") => Err("it is empty".to_owned()),
        Some(bytes) => serde_json::from_slice(bytes).map(Some).map_err(|e| e.to_string()),
    }
}

/// Puts or removes a value. True if that changed anything.
fn put<K: Ord, V: PartialEq>(
    map: &mut std::collections::BTreeMap<K, V>,
    key: K,
    value: Option<V>,
) -> bool {
    match value {
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
        None => map.remove(&key).is_some(),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PortFlag;
    use crate::protocol::Protocol;
    use crate::store::Registration;

    fn store(dir: &Path) -> LocalStore {
        LocalStore::open(dir, Access::Write).unwrap()
    }

    fn record(node: u32, sequence: u64) -> NodeRecord {
        let service = ServiceKey {
            cvip: "192.168.200.10".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
        };
        NodeRecord {
            node,
            incarnation: 7,
            sequence,
            bells: "none".to_owned(),
            registrations: vec![Registration { service, weight: 1, unfit: None }],
            refused: vec![],
            lingering: vec![],
            hints: vec![],
        }
    }

    fn keys(refreshed: Refreshed) -> Vec<Key> {
        assert_eq!(refreshed.faults, []);
        refreshed.changed.into_iter().collect()
    }

    #[test]
    fn one_process_sees_what_another_wrote_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, mut reader) = (store(dir.path()), store(dir.path()));
        writer.put_node(&record(1, 1)).unwrap();
        assert_eq!(keys(reader.refresh().unwrap()), [Key::Node(1)]);
        assert_eq!(keys(reader.refresh().unwrap()), []);
        writer.put_node(&record(2, 1)).unwrap();
        writer.put_owned(2, &[record(2, 1).registrations[0].service].into()).unwrap();
        assert_eq!(keys(reader.refresh().unwrap()), [Key::Node(2), Key::Owned(2)]);
        assert_eq!(reader.state().nodes[&2], record(2, 1));
    }

    #[test]
    fn an_older_write_never_replaces_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.put_node(&record(1, 5)).unwrap();
        let late = store.put_node(&record(1, 4));
        assert!(matches!(late, Err(StoreError::Superseded(1))));
        let restarted = NodeRecord { incarnation: 8, ..record(1, 1) };
        store.put_node(&restarted).unwrap();
        store.refresh().unwrap();
        assert_eq!(store.state().nodes[&1], restarted);
    }

    #[test]
    fn a_spoilt_record_is_set_aside_and_said_and_the_last_good_value_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.put_node(&record(1, 1)).unwrap();
        store.refresh().unwrap();
        for spoilt in [&b""[..], b"{\"node\": 1", b"\xff\xfe", b"{\"node\":2}"] {
            fs::write(dir.path().join("nodes/1.json"), spoilt).unwrap();
            let refreshed = store.refresh().unwrap();
            assert_eq!(refreshed.faults.len(), 1, "{spoilt:?}");
            let fault = &refreshed.faults[0];
            assert_eq!(fault.key, Key::Node(1));
            assert_eq!(fs::read(fault.set_aside.as_ref().unwrap()).unwrap(), spoilt);
            assert_eq!(store.state().nodes[&1], record(1, 1), "kept in memory");
            store.repair(Key::Node(1)).unwrap();
            assert_eq!(keys(store.refresh().unwrap()), []);
        }
    }

    #[test]
    fn spoilt_flags_that_nobody_remembers_are_started_anew_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let path = dir.path().join("flags/3.json");
        fs::write(&path, "[{").unwrap();
        let flag = PortFlag { protocol: Protocol::Tcp, start: 80, end: 80, weight: 1 };
        let fault = store.update_flags(Scope::Node(3), &mut |f| f.set(flag)).unwrap();
        assert_eq!(fs::read_to_string(fault.unwrap().set_aside.unwrap()).unwrap(), "[{");
        store.refresh().unwrap();
        assert_eq!(store.state().flags_of(Scope::Node(3)).iter().count(), 1);
        fs::write(&path, "[{").unwrap();
        let mut other = self::store(dir.path());
        assert_eq!(other.refresh().unwrap().faults.len(), 1);
        other.repair(Key::Flags(Scope::Node(3))).unwrap();
        assert!(!path.exists(), "nobody remembers a value: there is none");
    }

    #[test]
    fn a_reader_without_the_right_to_write_reports_a_spoilt_file_and_leaves_it() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let path = dir.path().join("flags/cluster.json");
        fs::write(&path, "[{\"protocol\":\"tcp\",\"start\":0,\"end\":1,\"weight\":1}]").unwrap();
        let mut reader = LocalStore::open(dir.path(), Access::Read).unwrap();
        let refreshed = reader.refresh().unwrap();
        assert_eq!(refreshed.faults[0].set_aside, None);
        assert!(refreshed.faults[0].reason.contains("port 0 is outside 1 to 65535"));
        assert!(path.exists());
    }

    #[test]
    fn flags_set_by_many_at_once_are_none_of_them_lost() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4u16 {
                let path = dir.path();
                scope.spawn(move || {
                    let mut store = store(path);
                    for round in 0..50u16 {
                        let port = 1 + writer * 50 + round;
                        let flag =
                            PortFlag { protocol: Protocol::Tcp, start: port, end: port, weight: 1 };
                        store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag)).unwrap();
                    }
                });
            }
        });
        let mut store = store(dir.path());
        store.refresh().unwrap();
        assert_eq!(store.state().flags_of(Scope::Cluster).iter().count(), 200);
    }

    #[test]
    fn a_lease_is_held_once_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (store(dir.path()), store(dir.path()));
        assert!(!one.is_leased(1));
        let lease = one.lease(1).unwrap();
        assert!(two.is_leased(1));
        assert!(matches!(two.lease(1), Err(StoreError::Leased(1))));
        drop(lease);
        assert!(!two.is_leased(1));
        two.lease(1).unwrap();
    }

    #[test]
    fn a_removed_record_is_gone_and_a_lost_watch_is_made_up_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.put_node(&record(1, 1)).unwrap();
        store.put_node(&record(2, 1)).unwrap();
        store.refresh().unwrap();
        fs::remove_file(dir.path().join("nodes/1.json")).unwrap();
        while store.inotify.read_events().is_ok() {}
        assert_eq!(keys(store.refresh().unwrap()), [], "the wake-up was lost");
        store.distrust();
        assert_eq!(keys(store.refresh().unwrap()), [Key::Node(1)]);
        assert_eq!(store.state().nodes.keys().collect::<Vec<_>>(), [&2]);
    }
}
