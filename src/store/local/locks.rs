//! The locks of one host: files of a folder that only root and cvipd's own user enter.
//!
//! A lock needs no more than a descriptor that reads, so a lock on a file that others may open is
//! theirs to hold. These have the mode 0600 in a folder of 0700, both of the run folder's owner, and
//! no program waits for one without an end. What others may read stands elsewhere, and is never
//! waited for.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::libc;

use super::io_error::io_error;
use crate::clock::Instant;
use crate::files;
use crate::store::StoreError;

/// How long one that another program holds is waited for: it is held for one write.
const WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked at: at first, and at last.
const LOOK: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// The folder of the locks, below the run folder.
fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("locks")
}

/// Makes the folder, for its owner alone.
pub(super) fn make_folder(run_dir: &Path) -> io::Result<()> {
    let folder = folder(run_dir);
    let make = || {
        DirBuilder::new().mode(0o700).create(&folder)?;
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        files::give(&OpenOptions::new().read(true).custom_flags(flags).open(&folder)?, run_dir)
    };
    match make() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            files::make_folders(run_dir)?;
            make()
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(&folder)?.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
            }
            Ok(())
        }
        made => made,
    }
}

/// Where a lock's file stands.
pub(super) fn path(run_dir: &Path, name: &str) -> PathBuf {
    folder(run_dir).join(name)
}

/// Opens a lock's file, which is made where it is missing.
pub(super) fn open(run_dir: &Path, name: &str) -> io::Result<File> {
    let path = path(run_dir, name);
    loop {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        match OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match make(run_dir, &path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make_folder(run_dir)?;
                make(run_dir, &path)?;
            }
            made => made?,
        }
    }
}

/// Makes a lock's file, which has its owner before it has its name; one that is there stays.
fn make(run_dir: &Path, path: &Path) -> io::Result<()> {
    let private = fs::Permissions::from_mode(0o600);
    let file = tempfile::Builder::new().permissions(private).tempfile_in(folder(run_dir))?;
    files::give(file.as_file(), run_dir)?;
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(e.error),
        _ => Ok(()),
    }
}

/// True if the path still leads to this file.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

/// Takes a lock, waiting for it with an end; the guard ends it.
pub(super) fn lock(run_dir: &Path, name: &str) -> Result<File, StoreError> {
    lock_within(run_dir, name, WITHIN)
}

fn lock_within(run_dir: &Path, name: &str, within: Duration) -> Result<File, StoreError> {
    let path = path(run_dir, name);
    let deadline = Instant::now() + within;
    let mut pause = LOOK.0;
    let mut lock = open(run_dir, name).map_err(|e| io_error("cannot open", &path, e))?;
    loop {
        match lock.try_lock() {
            Ok(()) if is_at(&lock, &path) => return Ok(lock),
            // It was deleted, and others lock the one in its place.
            Ok(()) => lock = open(run_dir, name).map_err(|e| io_error("cannot open", &path, e))?,
            Err(TryLockError::Error(e)) => return Err(io_error("cannot lock", &path, e)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let reason = format!(
                    "another program holds {} for longer than {within:?}: see `fuser -v` on it",
                    path.display()
                );
                return Err(StoreError::Unavailable { reason });
            }
            Err(TryLockError::WouldBlock) => {
                thread::sleep(pause);
                pause = (pause * 2).min(LOOK.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_user_can_open_a_lock_and_no_process_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        // An older cvipd, or a user, made it accessible to all.
        fs::create_dir(folder(dir.path())).unwrap();
        fs::set_permissions(folder(dir.path()), fs::Permissions::from_mode(0o777)).unwrap();
        make_folder(dir.path()).unwrap();
        let held = lock(dir.path(), "store").unwrap();
        assert_eq!(mode(&folder(dir.path())), 0o700);
        assert_eq!(mode(&path(dir.path(), "store")), 0o600);
        let late = lock_within(dir.path(), "store", Duration::from_millis(30)).unwrap_err();
        assert!(late.is_unavailable() && late.to_string().contains("locks/store"), "{late}");
        lock(dir.path(), "another").unwrap();
        drop(held);
        let held = lock(dir.path(), "store").unwrap();
        // Deleted while it is held: those who come later agree on the one in its place.
        fs::remove_dir_all(dir.path()).unwrap();
        let next = lock(dir.path(), "store").unwrap();
        drop(held);
        assert!(lock_within(dir.path(), "store", Duration::ZERO).is_err());
        drop(next);
    }
}
