//! A file replaced as one: a reader finds the old text or the new, and a crash, a signal or a full
//! disk leaves the old one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::linkat;
use tempfile::TempPath;

/// The mode of a file that was not there, before the process's umask.
const NEW_MODE: u32 = 0o666;

/// The new text of a file, which is not in its place yet. Dropped, it leaves nothing.
///
/// Where the file system can, the new text has no name before it is complete: a program that is
/// killed leaves nothing either.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    /// Its temporary name, if it has one.
    name: Option<TempPath>,
    target: PathBuf,
    folder: PathBuf,
}

impl Replacement {
    /// A new text for `path`, with the owner and the mode of the file that is there. Where the
    /// path is a link, it is its target that is replaced.
    ///
    /// # Errors
    /// If its folder cannot be written, its owner cannot be kept, or it is no regular file; in
    /// words.
    pub(crate) fn of(path: &Path) -> io::Result<Replacement> {
        let (target, old) = target(path)?;
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let (file, name) = match unnamed(&folder) {
            Some(file) => (file, None),
            None => {
                let named = tempfile::Builder::new()
                    .prefix(&prefix(&target))
                    .permissions(fs::Permissions::from_mode(NEW_MODE))
                    .tempfile_in(&folder)
                    .map_err(|error| unwritable(&folder, &error))?;
                let (file, name) = named.into_parts();
                (file, Some(name))
            }
        };
        if let Some(old) = old {
            keep(&file, &old)?;
        }
        Ok(Replacement { file, name, target, folder })
    }

    /// Where the new text is written.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The file that it replaces, links resolved.
    #[cfg(feature = "daemon")]
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Puts it in its place, on the disk too.
    ///
    /// # Errors
    /// If the disk does not take it; then the old file stays.
    pub(crate) fn put(self) -> io::Result<()> {
        self.file.sync_all()?;
        let name = match self.name {
            Some(name) => name,
            None => name(&self.file, &self.target, &self.folder)?,
        };
        name.persist(&self.target).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// A file that has no name yet, in a folder whose file system has such files.
fn unnamed(folder: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(NEW_MODE).custom_flags(libc::O_TMPFILE);
    let file = options.open(folder).ok()?;
    // It gets its name through /proc.
    fs::symlink_metadata(descriptor(&file)).is_ok().then_some(file)
}

/// The path to an open file, whether it has a name or none.
fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Gives such a file a temporary name.
fn name(file: &File, target: &Path, folder: &Path) -> io::Result<TempPath> {
    let link = |path: &Path| {
        let from = descriptor(file);
        linkat(AT_FDCWD, &from, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
    };
    let named = tempfile::Builder::new().prefix(&prefix(target)).make_in(folder, link);
    Ok(named.map_err(|error| unwritable(folder, &error))?.into_temp_path())
}

/// What the temporary names for a target begin with.
fn prefix(target: &Path) -> String {
    format!(".{}.", target.file_name().unwrap_or_default().to_string_lossy())
}

/// Why a folder takes no file. The crate's own words name the temporary file, which says nothing
/// to others.
fn unwritable(folder: &Path, error: &io::Error) -> io::Error {
    let why = error.to_string();
    let why = why.split(" at path ").next().unwrap_or(&why);
    words(error.kind(), format!("cannot write in {}: {why}", folder.display()))
}

/// The file that a path leads to, and what is there.
fn target(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    match path.canonicalize() {
        Ok(target) => {
            let meta = fs::metadata(&target)?;
            if !meta.is_file() {
                return Err(words(
                    ErrorKind::InvalidInput,
                    "it is no regular file, which alone can be replaced".to_owned(),
                ));
            }
            Ok((target, Some(meta)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(words(error.kind(), "it is a link to nothing".to_owned()));
            }
            match path.file_name() {
                Some(_) => Ok((path.to_owned(), None)),
                None => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Gives a file the owner and the mode of another.
fn keep(file: &File, old: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid())).map_err(|error| {
            words(error.kind(), format!("its owner cannot be kept ({error}): run as root"))
        })?;
    }
    file.set_permissions(old.permissions())
}

fn words(kind: ErrorKind, text: String) -> io::Error {
    io::Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn replace(path: &Path, text: &str) -> io::Result<()> {
        let mut new = Replacement::of(path)?;
        new.file().write_all(text.as_bytes())?;
        new.put()
    }

    #[test]
    fn the_files_mode_stays_and_a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        for mode in [0o640, 0o400, 0o4755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            symlink("real", &link).unwrap();
            replace(&link, "new").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn a_new_file_has_the_mode_that_any_other_has() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, any) = (dir.path().join("ours"), dir.path().join("any"));
        replace(&ours, "x").unwrap();
        fs::write(&any, "x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&ours), mode(&any));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_replaced_is_refused_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink("nowhere", &link).unwrap();
        for path in [
            dir.path(),
            &link,
            Path::new("/dev/full"),
            Path::new("/no/such/folder/file"),
            &dir.path().join("missing/.."),
            Path::new(""),
        ] {
            assert!(replace(path, "x").is_err(), "{}", path.display());
        }
        let said = replace(Path::new("/no/such/folder/file"), "x").unwrap_err().to_string();
        assert_eq!(said, "cannot write in /no/such/folder: No such file or directory (os error 2)");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn until_it_is_put_the_old_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut new = Replacement::of(&path).unwrap();
        new.file().write_all(b"half of it").unwrap();
        // As it is while the text is written, and stays if the program is killed.
        let can = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(dir.path());
        if can.is_ok() {
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        drop(new);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
