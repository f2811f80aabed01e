//! Files, read with a bound and written whole: what every program does with the files that an
//! administrator, or another user, may have put there.
//!
//! A named pipe, a device or a folder where a file should be is refused at once: opening it could
//! wait for ever. A file that cannot be written is noted here once, and again when it can be, so
//! that the log has one line for each and `status` shows what is not saved.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use tracing::{error, info};

/// File systems give room in blocks of at least this many bytes: a file keeps its last block
/// when others have taken all the rest.
const BLOCK: usize = 4096;

/// Opens a regular file for reading, without waiting.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Before opening: a device may do something when it is opened.
    is_regular(&fs::metadata(path)?)?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // It may be another one by now.
    is_regular(&file.metadata()?)?;
    Ok(file)
}

fn is_regular(metadata: &fs::Metadata) -> io::Result<()> {
    let what = match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => return Ok(()),
        (false, true) => "it is a directory",
        (false, false) => "it is no regular file",
    };
    Err(io::Error::new(ErrorKind::InvalidInput, what))
}

/// The bytes of a regular file that is no longer than `cap`.
pub(crate) fn read(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    read_open(open(path)?, cap)
}

/// The bytes of an open file that is no longer than `cap`.
pub(crate) fn read_open(file: File, cap: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > cap {
        true => Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it is larger than {cap} bytes, and no such file is"),
        )),
        false => Ok(bytes),
    }
}

/// The text of a regular file that is no longer than `cap`.
pub(crate) fn read_text(path: &Path, cap: u64) -> io::Result<String> {
    text(read(path, cap)?)
}

/// Bytes as text.
pub(crate) fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(ErrorKind::InvalidData, format!("it is no text in UTF-8 from byte {at} on"))
    })
}

/// Replaces a file: readers see the old text or the new one. `drafts` is the folder in which the
/// new one is written, of the same file system; folders that are missing are made. Where there is
/// no room, the new text takes the place of the old one in the blocks that the file has: a reader
/// may then see half of it for a moment, and is woken again when it is whole.
pub(crate) fn replace(path: &Path, drafts: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(drafts)?;
        give(file.as_file(), folder)?;
        file.write_all(bytes)?;
        if sync {
            file.as_file().sync_all()?;
        }
        file.persist(path)?;
        if sync {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    let written = match write() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folders(folder)?;
            make_folders(drafts)?;
            write()
        }
        written => written,
    };
    match written {
        Err(error) if has_no_room(&error) => overwrite(path, bytes).map_err(|_| error),
        written => written,
    }
}

/// Gives what root made in a folder of another user to that user: cvipd, which may run as a user of
/// its own, is to read, lock and replace what root's commands put into its run folder.
pub(crate) fn give(made: &File, folder: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (owner, own) = (fs::metadata(folder)?, made.metadata()?);
    match (owner.uid(), owner.gid()) {
        (0, _) => Ok(()),
        (uid, gid) if (uid, gid) == (own.uid(), own.gid()) => Ok(()),
        (uid, gid) => fchown(made, Some(uid), Some(gid)),
    }
}

/// Makes the folders that are missing, with the mode that `umask` leaves; each belongs to the owner
/// of the one in which it stands, as by [`give`].
pub(crate) fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folders(parent)?;
    }
    match fs::create_dir(path) {
        // Another program was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let made = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            give(&made, parent.unwrap_or(Path::new(".")))
        }
    }
}

/// Every byte is in use.
fn has_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes into the blocks that a file has.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    is_regular(&metadata)?;
    let length = usize::try_from(metadata.len()).map_err(|_| ErrorKind::FileTooLarge)?;
    if bytes.len() > length.next_multiple_of(BLOCK) {
        return Err(ErrorKind::StorageFull.into());
    }
    // All at once, and what is longer than the new text is blank: every text here may end so.
    let mut whole = bytes.to_vec();
    whole.resize(length.max(bytes.len()), b' ');
    file.write_all_at(&whole, 0)
}

/// What cannot be written at the moment, and why.
static UNSAVED: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<PathBuf, String>> {
    UNSAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes whether a file could be written. What is new is logged.
pub(crate) fn note<T, E: Display>(path: &Path, outcome: &Result<T, E>) {
    let mut unsaved = lock();
    match outcome {
        Ok(_) => {
            if unsaved.remove(path).is_some() {
                info!("{} is written again", path.display());
            }
        }
        Err(error) => {
            let before = unsaved.insert(path.to_owned(), error.to_string());
            if before.is_none() {
                error!(
                    "{} cannot be written: {error}; what it should say stays in force, and is \
                     written as soon as that is possible",
                    path.display()
                );
            }
        }
    }
}

/// Notes why something cannot be saved, or that it can, where another says so in the log.
#[cfg(feature = "etcd")]
pub(crate) fn set_unsaved(path: &Path, why: Option<String>) {
    match why {
        Some(why) => drop(lock().insert(path.to_owned(), why)),
        None => drop(lock().remove(path)),
    }
}

/// What this process could not save, a line for each file.
pub(crate) fn unsaved() -> Vec<String> {
    lock().iter().map(|(path, why)| format!("not saved: {}: {why}", path.display())).collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&pipe, &link, &socket, Path::new("/dev/zero")] {
            let error = read(path, 10).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file", "{}", path.display());
        }
        assert_eq!(read(dir.path(), 10).unwrap_err().to_string(), "it is a directory");
        let file = dir.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        assert!(read(&file, 9).unwrap_err().to_string().contains("larger than 9 bytes"));
        fs::write(&file, b"ab\xff").unwrap();
        assert_eq!(
            read_text(&file, 9).unwrap_err().to_string(),
            "it is no text in UTF-8 from byte 2 on"
        );
        assert_eq!(read(&dir.path().join("none"), 9).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_written_though_its_folder_was_deleted_and_in_place_where_there_is_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let (path, drafts) = (dir.path().join("a/b"), dir.path().join("drafts"));
        replace(&path, &drafts, b"first and long", true).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        replace(&path, &drafts, b"first and long", false).unwrap();
        overwrite(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short         ");
        overwrite(&path, &[b'x'; BLOCK]).unwrap();
        let error = overwrite(&path, &[b'x'; BLOCK + 1]).unwrap_err();
        assert!(has_no_room(&error), "{error}");
        assert_eq!(fs::read(&path).unwrap(), [b'x'; BLOCK], "nothing was begun");
    }

    #[test]
    fn what_root_makes_in_another_users_folder_is_that_users() {
        let dir = tempfile::tempdir().unwrap();
        let owner = match nix::unistd::geteuid().is_root() {
            true => 61_234,
            false => nix::unistd::geteuid().as_raw(),
        };
        std::os::unix::fs::chown(dir.path(), Some(owner), None).unwrap();
        let path = dir.path().join("a/b/file");
        replace(&path, &dir.path().join("tmp"), b"text", false).unwrap();
        for made in ["a", "a/b", "a/b/file", "tmp"] {
            assert_eq!(fs::metadata(dir.path().join(made)).unwrap().uid(), owner, "{made}");
        }
        make_folders(&dir.path().join("a/b")).unwrap();
        assert!(make_folders(&path).is_err(), "it is no folder");
        assert!(make_folders(&path.join("c")).is_err(), "nor is there one in it");
    }

    #[test]
    fn what_is_not_saved_is_known_until_it_is() {
        let path = Path::new("/nonexistent/saved-by-this-test");
        let shown = || unsaved().into_iter().filter(|line| line.contains("saved-by-this-test"));
        note::<(), _>(path, &Err("no room"));
        note::<(), _>(path, &Err("still no room"));
        let lines: Vec<String> = shown().collect();
        assert_eq!(lines, ["not saved: /nonexistent/saved-by-this-test: still no room"]);
        note::<(), &str>(path, &Ok(()));
        assert_eq!(shown().count(), 0);
    }
}
