//! Leases of one host: a lock on a file, which the kernel releases with its process.
//!
//! The lock belongs to the open file (F_OFD_SETLK, fcntl(2)), so whoever only asks whether it is
//! held takes nothing, and cannot be in a holder's way. The file says which start of cvipd holds
//! it; with etcd also which lease it keeps there, so that the next holder of the lock knows that
//! lease for a dead one's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::io_error;
use crate::store::StoreError;

/// Notes are padded to this, so that a later one leaves nothing of an earlier one behind.
const NOTE_LENGTH: usize = 128;

/// What the holder of a lock writes into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Note {
    /// Which start of cvipd holds it.
    pub(in crate::store) incarnation: u64,
    /// The lease that it keeps in etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) etcd_lease: Option<i64>,
}

/// A held lock; it ends with the last copy of the file.
#[derive(Debug)]
pub(in crate::store) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes a node's lock. The file, and what the last holder wrote, stays where it is.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if a live process holds it.
    pub(in crate::store) fn take(path: &Path, node: u32) -> Result<Lock, StoreError> {
        let open =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let file = open.map_err(|e| io_error("cannot open", path, e))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Lock { file, path: path.to_owned() }),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(StoreError::Leased(node)),
            Err(errno) => Err(io_error("cannot lock", path, errno.into())),
        }
    }

    /// The locked file.
    #[cfg(test)]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// What the file says.
    #[cfg(any(test, feature = "etcd"))]
    pub(in crate::store) fn note(&self) -> Option<Note> {
        read_note(&self.file)
    }

    /// Says who holds it. Readers see the old text or the new one.
    pub(in crate::store) fn write(&self, note: &Note) -> Result<(), StoreError> {
        let write = || -> io::Result<()> {
            let mut bytes = serde_json::to_vec(note)?;
            bytes.resize(NOTE_LENGTH.max(bytes.len()), b' ');
            bytes[NOTE_LENGTH - 1] = b'\n';
            self.file.write_all_at(&bytes, 0)
        };
        write().map_err(|e| io_error("cannot write", &self.path, e))
    }
}

/// Who holds a node's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody.
    Nobody,
    /// This start of cvipd.
    Incarnation(u64),
    /// Somebody, who has not written yet who it is.
    Unnamed,
}

/// Asks who holds a node's lock; nothing is taken, and nobody disturbed.
pub(super) fn holder(path: &Path) -> io::Result<Holder> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(e) => return Err(e),
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    if libc::c_int::from(lock.l_type) == libc::F_UNLCK {
        return Ok(Holder::Nobody);
    }
    Ok(read_note(&file).map_or(Holder::Unnamed, |note| Holder::Incarnation(note.incarnation)))
}

fn read_note(file: &File) -> Option<Note> {
    let mut bytes = [0; NOTE_LENGTH];
    let read = file.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes[..read]).ok()
}

/// A write lock on a whole file.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_never_in_the_way_of_who_takes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
        let lock = Lock::take(&path, 1).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Unnamed);
        lock.write(&Note { incarnation: u64::MAX, etcd_lease: Some(i64::MAX) }).unwrap();
        lock.write(&Note { incarnation: 7, etcd_lease: None }).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Incarnation(7));
        assert!(matches!(Lock::take(&path, 1), Err(StoreError::Leased(1))));
        drop(lock);
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
        let next = Lock::take(&path, 1).unwrap();
        assert_eq!(next.note(), Some(Note { incarnation: 7, etcd_lease: None }));
    }
}
