//! The host's own folder: what stays there of the store with etcd, a node's own flags and the
//! services that its director owns, and the note of the lease.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cvip::cores::{EtcdView, StoredText, Value};
use cvip::ports::FlagSet;
use cvip::store::{Fault, Key, Refreshed, Scope, StoreError};

use crate::time::SimTime;

/// How soon a value for which there was no space is written again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why nothing can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// There is no space.
    Full,
    /// It is mounted to be read alone.
    ReadOnly,
}

#[derive(Clone, Debug)]
struct HostFile {
    text: Arc<StoredText>,
    version: u64,
}

/// The folder's files. They survive a crash of cvipd, and are gone after a reboot.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    files: BTreeMap<Key, HostFile>,
    version: u64,
    fault: Option<FileFault>,
    /// The lease in etcd of the last cvipd here.
    pub(super) lease: Option<i64>,
}

impl HostFiles {
    /// An empty folder.
    pub fn new() -> HostFiles {
        HostFiles::default()
    }

    /// From now on nothing can be written, or everything.
    pub fn set_fault(&mut self, fault: Option<FileFault>) {
        self.fault = fault;
    }

    /// A file is cut short: so much of it is left. True if there is one.
    pub fn tear(&mut self, key: Key, kept_percent: u32) -> bool {
        let Some(file) = self.files.get(&key) else { return false };
        let bytes = file.text.bytes();
        let kept = StoredText::new(bytes[..bytes.len() * kept_percent as usize / 100].to_vec());
        self.put(key, kept);
        true
    }

    /// Nothing says any more which lease in etcd the last cvipd here had.
    pub fn tear_lease(&mut self) {
        self.lease = None;
    }

    /// The keys that have a file.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.files.keys().copied()
    }

    /// What a file says; `None` where there is none.
    ///
    /// # Errors
    /// It is corrupt.
    pub fn read(&self, key: Key) -> Result<Option<&Value>, Fault> {
        let Some(file) = self.files.get(&key) else { return Ok(None) };
        file.text.value(key).map(Some).map_err(|reason| Fault {
            key,
            path: path(key),
            set_aside: Some(path(key).with_extension("json.corrupt")),
            reason: reason.to_owned(),
        })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// There is a [`FileFault`].
    pub fn write(&mut self, key: Key, value: &Value) -> Result<(), StoreError> {
        let errno = match self.fault {
            None => {
                self.put(key, StoredText::new(value.encode()));
                return Ok(());
            }
            Some(FileFault::Full) => nix_errno::ENOSPC,
            Some(FileFault::ReadOnly) => nix_errno::EROFS,
        };
        let source = io::Error::from_raw_os_error(errno);
        Err(StoreError::Io { action: "cannot write", path: path(key), source })
    }

    /// Changes the flags of a node. The first of the result is set if those before were corrupt.
    ///
    /// # Errors
    /// There is a [`FileFault`].
    pub fn update_flags(
        &mut self,
        node: u32,
        change: &mut dyn FnMut(&mut FlagSet),
    ) -> Result<Option<Fault>, StoreError> {
        let key = Key::Flags(Scope::Node(node));
        let (mut flags, fault) = match self.read(key) {
            Ok(Some(Value::Flags(flags))) => (flags.clone(), None),
            Ok(_) => (FlagSet::default(), None),
            Err(fault) => (FlagSet::default(), Some(fault)),
        };
        change(&mut flags);
        self.write(key, &Value::Flags(flags)).map(|()| fault)
    }

    fn put(&mut self, key: Key, text: Arc<StoredText>) {
        self.version += 1;
        self.files.insert(key, HostFile { text, version: self.version });
    }
}

/// Linux's numbers (`asm-generic/errno-base.h`).
mod nix_errno {
    pub(super) const ENOSPC: i32 = 28;
    pub(super) const EROFS: i32 = 30;
}

fn path(key: Key) -> PathBuf {
    PathBuf::from(match key {
        Key::Flags(Scope::Node(node)) => format!("/run/cvip/flags/{node}.json"),
        Key::Owned(node) => format!("/run/cvip/owned/{node}.json"),
        other => unreachable!("{other:?} stands in etcd"),
    })
}

/// True if only the host keeps it.
pub(super) fn is_of_host(key: Key) -> bool {
    matches!(key, Key::Flags(Scope::Node(_)) | Key::Owned(_))
}

/// What a view has of the folder.
#[derive(Debug, Default)]
pub(super) struct HostView {
    /// The newest version that was read.
    seen: u64,
    /// Everything was read once.
    is_read: bool,
    /// Values that could not be written: the view has them.
    unsaved: BTreeMap<Key, Value>,
    /// When they are written again.
    pub(super) next_repair: Option<SimTime>,
}

impl HostView {
    /// True if a value is not written.
    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// The next refresh reads everything.
    pub(super) fn invalidate(&mut self) {
        self.is_read = false;
    }

    /// Brings the folder's keys up to date in a view.
    pub(super) fn refresh(
        &mut self,
        files: &mut HostFiles,
        view: &mut EtcdView,
        now: SimTime,
    ) -> Refreshed {
        let all = !self.is_read || self.next_repair.is_some_and(|at| now >= at);
        if all {
            self.next_repair = None;
            for (key, value) in std::mem::take(&mut self.unsaved) {
                self.write(files, key, value, now);
            }
        }
        let mut refreshed = Refreshed::default();
        let changed = files.files.iter().filter(|(_, file)| all || file.version > self.seen);
        for key in changed.map(|(key, _)| *key).filter(|key| !self.unsaved.contains_key(key)) {
            match files.read(key) {
                Ok(value) => {
                    if view.set_of_host(key, value.cloned()) {
                        refreshed.changed.insert(key);
                    }
                }
                Err(fault) => refreshed.faults.push(fault),
            }
        }
        self.is_read = true;
        self.seen = files.version;
        refreshed
    }

    /// Writes a value that no other process needs: where that fails, it is written again.
    pub(super) fn write(&mut self, files: &mut HostFiles, key: Key, value: Value, now: SimTime) {
        self.unsaved.remove(&key);
        if files.write(key, &value).is_err() {
            self.unsaved.insert(key, value);
            self.next_repair = Some(now + AGAIN);
        }
    }
}
