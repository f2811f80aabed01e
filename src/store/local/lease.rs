//! Leases of one host: locks that the kernel releases with their process.
//!
//! A lease is two files. The one in `locks` is what counts between those who want it, and only root
//! can open it. The one in `nodes` is readable by all: its holder keeps it locked for writing as
//! long as it lives, and it says which start of cvipd that is; with etcd also which lease it keeps
//! there, so that the next holder knows that lease for a dead one's. It is made anew by each
//! holder, and locked before others can open it, so that no other process can hold a lock on it
//! before the holder does; what a reader could lock afterwards, a lock for reading, says nothing.
//!
//! The locks belong to the open files (F_OFD_SETLK, fcntl(2)), so asking takes nothing.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::io_error::io_error;
use super::locks;
use crate::clock::Instant;
use crate::counter;
use crate::files;
use crate::store::StoreError;

/// Notes are padded to this, so that a later one leaves nothing of an earlier one behind.
const NOTE_LENGTH: usize = 128;

/// A dying holder's two files are closed one after the other: so long it may take.
const DYING: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the holder of a lock writes into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Note {
    /// Which start of cvipd holds it.
    pub(in crate::store) incarnation: u64,
    /// The lease that it keeps in etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) etcd_lease: Option<i64>,
}

/// A held lease; it ends with this.
#[derive(Debug)]
pub(in crate::store) struct Lock {
    run_dir: PathBuf,
    node: u32,
    /// What the last holder wrote.
    #[cfg_attr(not(feature = "etcd"), allow(dead_code))]
    earlier: Option<Note>,
    held: Mutex<Held>,
}

/// Its files. The public one is closed first: the next holder finds it free.
#[derive(Debug)]
struct Held {
    note: Note,
    /// None while it cannot be made, or not be written.
    shown: Option<File>,
    lock: File,
}

/// The incarnation of the cvipd that last held a node's lease on this host; none if its note is gone, or
/// cannot be read.
pub fn last_incarnation(run_dir: &Path, node: u32) -> Option<u64> {
    let file = files::open(&shown_path(run_dir, node)).ok()?;
    let is_number = |incarnation: &u64| (1..=counter::LAST).contains(incarnation);
    read_note(&file).map(|note| note.incarnation).filter(is_number)
}

/// Where all programs see who holds a node's lease.
fn shown_path(run_dir: &Path, node: u32) -> PathBuf {
    run_dir.join("nodes").join(format!("{node}.lease"))
}

fn lock_name(node: u32) -> String {
    format!("{node}.lease")
}

impl Lock {
    /// Takes a node's lease, for this start of its cvipd.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if a live process holds it.
    pub(in crate::store) fn take(
        run_dir: &Path,
        node: u32,
        incarnation: u64,
    ) -> Result<Lock, StoreError> {
        let lock = take_lock(run_dir, node)?;
        let path = shown_path(run_dir, node);
        let deadline = Instant::now() + DYING;
        // A cvipd of before there was a folder for locks has its lock here.
        while !matches!(holder(&path), Ok(Holder::NoProcess | Holder::Missing) | Err(_)) {
            if Instant::now() >= deadline {
                return Err(StoreError::Leased(node));
            }
            thread::sleep(LOOK_EVERY);
        }
        let earlier = files::open(&path).ok().and_then(|file| read_note(&file));
        let etcd_lease = earlier.and_then(|note| note.etcd_lease);
        let held = Held { note: Note { incarnation, etcd_lease }, shown: None, lock };
        let lock = Lock { run_dir: run_dir.to_owned(), node, earlier, held: Mutex::new(held) };
        // Where it cannot be shown, it is held all the same, and shown later.
        lock.tend();
        Ok(lock)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A thread that panicked in it had only replaced a file by another.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last holder wrote.
    #[cfg(any(test, feature = "etcd"))]
    pub(in crate::store) fn earlier(&self) -> Option<Note> {
        self.earlier
    }

    /// Says who holds it.
    #[cfg(any(test, feature = "etcd"))]
    pub(in crate::store) fn write(&self, note: Note) {
        let mut held = self.held();
        held.note = note;
        let path = shown_path(&self.run_dir, self.node);
        let written = held.shown.as_ref().map(|file| write_note(file, &note));
        match written {
            Some(Ok(())) => {}
            // Made anew.
            _ => held.shown = None,
        }
        held.show(&self.run_dir, &path);
    }

    /// Makes the files again that were deleted, or for which there was no space.
    pub(in crate::store) fn tend(&self) {
        let mut held = self.held();
        let path = shown_path(&self.run_dir, self.node);
        let lock_path = locks::path(&self.run_dir, &lock_name(self.node));
        if !locks::is_at(&held.lock, &lock_path) {
            match take_lock(&self.run_dir, self.node) {
                Ok(lock) => held.lock = lock,
                Err(error) => files::note::<(), _>(&lock_path, &Err(error)),
            }
            if locks::is_at(&held.lock, &lock_path) {
                files::note::<(), &str>(&lock_path, &Ok(()));
            }
        }
        held.show(&self.run_dir, &path);
    }

    /// The file that others read.
    #[cfg(test)]
    pub(super) fn shown(&self) -> File {
        self.held().shown.as_ref().unwrap().try_clone().unwrap()
    }
}

impl Held {
    /// Sees to the file that others read.
    fn show(&mut self, run_dir: &Path, path: &Path) {
        let stands = self.shown.as_ref().filter(|file| locks::is_at(file, path));
        let outcome = match stands {
            Some(file) if is_whole(file) => return,
            Some(file) => write_note(file, &self.note),
            None => show(run_dir, path, &self.note).and_then(|(file, written)| {
                self.shown = Some(file);
                written
            }),
        };
        files::note(path, &outcome);
    }
}

/// Nothing of its content is missing for want of space.
fn is_whole(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() >= NOTE_LENGTH as u64)
}

/// Takes the lock that counts.
fn take_lock(run_dir: &Path, node: u32) -> Result<File, StoreError> {
    let path = locks::path(run_dir, &lock_name(node));
    loop {
        let file = locks::open(run_dir, &lock_name(node));
        let file = file.map_err(|e| io_error("cannot open", &path, e))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) if locks::is_at(&file, &path) => return Ok(file),
            // It was deleted in between.
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Err(StoreError::Leased(node)),
            Err(errno) => return Err(io_error("cannot lock", &path, errno.into())),
        }
    }
}

/// Makes the file that others read, locked before they can open it. Where there is no space for
/// what it says, it stands empty: that it is held is told all the same.
fn show(run_dir: &Path, path: &Path, note: &Note) -> io::Result<(File, io::Result<()>)> {
    let drafts = run_dir.join("tmp");
    let draft = || {
        let private = fs::Permissions::from_mode(0o600);
        tempfile::Builder::new().permissions(private).tempfile_in(&drafts)
    };
    let file = match draft() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            files::make_folders(&drafts)?;
            draft()?
        }
        file => file?,
    };
    fcntl(file.as_file(), FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK)))?;
    let written = write_note(file.as_file(), note);
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    if let Some(folder) = path.parent() {
        files::make_folders(folder)?;
        files::give(file.as_file(), folder)?;
    }
    Ok((file.persist(path)?, written))
}

fn write_note(file: &File, note: &Note) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(note)?;
    bytes.resize(NOTE_LENGTH.max(bytes.len()), b' ');
    bytes[NOTE_LENGTH - 1] = b'\n';
    file.write_all_at(&bytes, 0)
}

/// Who holds a node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// No process, and no file says that one ever did.
    Missing,
    /// No process.
    NoProcess,
    /// This start of cvipd.
    Incarnation(u64),
    /// A process that has not written yet which one it is.
    Unnamed,
}

/// Asks who holds a node's lease; nothing is taken.
pub(super) fn holder(path: &Path) -> io::Result<Holder> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Holder::Missing),
        Err(e) => return Err(e),
    };
    // A lock for reading is in the way of a lock for writing alone, which no process has that can
    // only read the file.
    let mut lock = whole_file(libc::F_RDLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    if libc::c_int::from(lock.l_type) == libc::F_UNLCK {
        return Ok(Holder::NoProcess);
    }
    Ok(read_note(&file).map_or(Holder::Unnamed, |note| Holder::Incarnation(note.incarnation)))
}

fn read_note(file: &File) -> Option<Note> {
    let mut bytes = [0; NOTE_LENGTH];
    let read = file.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes[..read]).ok()
}

/// A lock on a whole file.
fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn who_asks_is_never_in_the_way_of_who_takes() {
        let dir = tempfile::tempdir().unwrap();
        let path = shown_path(dir.path(), 1);
        assert_eq!(holder(&path).unwrap(), Holder::Missing);
        let lock = Lock::take(dir.path(), 1, 6).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Incarnation(6));
        lock.write(Note { incarnation: u64::MAX, etcd_lease: Some(i64::MAX) });
        lock.write(Note { incarnation: 7, etcd_lease: None });
        assert_eq!(holder(&path).unwrap(), Holder::Incarnation(7));
        assert!(matches!(Lock::take(dir.path(), 1, 8), Err(StoreError::Leased(1))));
        drop(lock);
        assert_eq!(holder(&path).unwrap(), Holder::NoProcess);
        let next = Lock::take(dir.path(), 1, 8).unwrap();
        assert_eq!(next.earlier(), Some(Note { incarnation: 7, etcd_lease: None }));
    }

    #[test]
    fn the_last_incarnation_of_a_host_is_known_once_its_process_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_incarnation(dir.path(), 1), None);
        drop(Lock::take(dir.path(), 1, 6).unwrap());
        assert_eq!(last_incarnation(dir.path(), 1), Some(6));
        for note in
            ["", "not JSON", r#"{"incarnation":0}"#, r#"{"incarnation":18446744073709551615}"#]
        {
            fs::write(shown_path(dir.path(), 1), note).unwrap();
            assert_eq!(last_incarnation(dir.path(), 1), None, "{note}");
        }
    }

    #[test]
    fn a_lock_of_a_user_who_may_only_read_neither_keeps_nor_takes_a_lease() {
        let dir = tempfile::tempdir().unwrap();
        let path = shown_path(dir.path(), 1);
        drop(Lock::take(dir.path(), 1, 6).unwrap());
        // A file that all may read can be locked for reading by all.
        let stranger = File::open(&path).unwrap();
        fcntl(&stranger, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_RDLCK))).unwrap();
        stranger.lock().unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::NoProcess);
        let lock = Lock::take(dir.path(), 1, 7).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Incarnation(7));
        let stranger = File::open(&path).unwrap();
        let reading = whole_file(libc::F_RDLCK);
        assert!(fcntl(&stranger, FcntlArg::F_OFD_SETLK(&reading)).is_err());
        drop(lock);
        fcntl(&stranger, FcntlArg::F_OFD_SETLK(&reading)).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::NoProcess, "it is over, though a reader has it");
        let mode = fs::metadata(locks::path(dir.path(), "1.lease")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_cvipd_of_before_there_was_a_folder_for_locks_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = shown_path(dir.path(), 1);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut open = OpenOptions::new();
        open.create(true).truncate(false).read(true).write(true);
        let old = open.open(&path).unwrap();
        fcntl(&old, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))).unwrap();
        assert!(matches!(Lock::take(dir.path(), 1, 8), Err(StoreError::Leased(1))));
        drop(old);
        let lock = Lock::take(dir.path(), 1, 8).unwrap();
        // And it notices this one.
        let old = open.open(&path).unwrap();
        assert!(fcntl(&old, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))).is_err());
        drop(lock);
    }

    #[test]
    fn a_lease_whose_files_are_deleted_is_shown_again_and_still_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = shown_path(dir.path(), 1);
        let lock = Lock::take(dir.path(), 1, 7).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Missing);
        lock.tend();
        assert_eq!(holder(&path).unwrap(), Holder::Incarnation(7));
        assert!(matches!(Lock::take(dir.path(), 1, 8), Err(StoreError::Leased(1))));
        drop(lock);
        assert_eq!(holder(&path).unwrap(), Holder::NoProcess);
        Lock::take(dir.path(), 1, 8).unwrap();
    }
}
