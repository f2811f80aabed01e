//! Secrets: read from files that no other user may read, and never shown.
//!
//! A service manager that starts cvipd as a user of its own reads the files for it: what stands in
//! /etc/cvip and that user may not read, it finds in $CREDENTIALS_DIRECTORY (systemd.exec(5),
//! LoadCredential=cvip:/etc/cvip) as it was when cvipd was started.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{CLUSTER_KEY_PATH, Engine, EtcdSettings, SETTINGS_PATH, Settings, SettingsError};
use crate::files;
use crate::heartbeat::ClusterKey;

/// No secret is longer, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// No file of certificates is longer, in bytes: a system's authorities are a few hundred KiB.
const MAX_PUBLIC: u64 = 4 << 20;

/// A secret text. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text, to be sent where it belongs.
    #[cfg(any(feature = "etcd", test))]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The file of the cluster key: its text, and the key that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyFile {
    text: Secret,
    key: ClusterKey,
}

impl KeyFile {
    /// The key: what only the cluster's members know, and sign with what they send to one another.
    pub(crate) fn key(&self) -> &ClusterKey {
        &self.key
    }
}

/// etcd's certificates and the client's own, as PEM.
#[cfg(feature = "etcd")]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<Vec<u8>>,
    /// The certificate and its key.
    pub(crate) identity: Option<(Vec<u8>, Secret)>,
}

impl EtcdSettings {
    /// The user and the password, if there are any. The file is read anew each time.
    ///
    /// # Errors
    /// The file cannot be read, or others may read it.
    pub(crate) fn password(&self) -> Result<Option<(String, Secret)>, SettingsError> {
        match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Ok(Some((user.clone(), read_secret(file)?))),
            _ => Ok(None),
        }
    }

    /// The name of the password's file, for people.
    #[cfg(feature = "etcd")]
    pub(crate) fn password_file_name(&self) -> String {
        self.password_file.as_deref().map_or_else(String::new, |file| file.display().to_string())
    }

    /// The certificates. The files are read anew each time.
    #[cfg(feature = "etcd")]
    pub(crate) fn tls_files(&self) -> Result<TlsFiles, SettingsError> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(read_pair(cert, key, credentials().as_deref())?),
            _ => None,
        };
        Ok(TlsFiles { ca: self.ca.as_deref().map(read_public).transpose()?, identity })
    }

    /// Reads every file that is named, and keeps nothing: what `cvipctl check` does.
    ///
    /// # Errors
    /// One cannot be read, or others may read it and should not.
    pub(crate) fn check_files(&self) -> Result<(), SettingsError> {
        self.password()?;
        for public in [&self.ca, &self.cert].into_iter().flatten() {
            read_public(public)?;
        }
        self.key.as_deref().map(read_secret).transpose()?;
        Ok(())
    }
}

impl Settings {
    /// The cluster key. On one host, where none was named and none stands in /etc, a random one
    /// is made once in the run folder.
    ///
    /// # Errors
    /// It cannot be read or made, is no key, or others may read it.
    pub(crate) fn cluster_key(&self, run_dir: &Path) -> Result<KeyFile, SettingsError> {
        let path = match self.cluster_key_path() {
            Some(path) => path,
            None => own_key(run_dir)?,
        };
        read_key(&path)
    }

    /// Looks at the cluster key as [`Settings::cluster_key`] does, and makes none.
    ///
    /// # Errors
    /// It cannot be read, is no key, or others may read it.
    pub(crate) fn check_cluster_key(&self, run_dir: &Path) -> Result<(), SettingsError> {
        match self.cluster_key_path() {
            Some(path) => read_key(&path).map(drop),
            None => match read_key(&own_key_path(run_dir)) {
                // It is made by the first cvipd.
                Err(SettingsError::Missing { .. }) => Ok(()),
                read => read.map(drop),
            },
        }
    }

    /// Writes the key that was made here again, where it was deleted: a cvipd that is started
    /// anew would make another, and accept no heartbeat.
    pub(crate) fn tend_cluster_key(&self, run_dir: &Path, key: &KeyFile) {
        let path = own_key_path(run_dir);
        if self.cluster_key_path().is_none() && path.try_exists().is_ok_and(|there| !there) {
            files::note(&path, &write_own_key(run_dir, &path, key.text.0.as_bytes()));
        }
    }

    /// Where the key is to stand; none where one is made.
    fn cluster_key_path(&self) -> Option<PathBuf> {
        if let Some(file) = &self.cluster_key_file {
            return Some(file.clone());
        }
        let path = PathBuf::from(CLUSTER_KEY_PATH);
        // Only one that is certainly not there is made in its place: who may not look into the
        // folder knows nothing of it.
        let is_there = path.try_exists().unwrap_or(true);
        (self.engine != Engine::Local || is_there).then_some(path)
    }
}

/// Reads a cluster key. A new one is advised only where there is none: where there is one, it is
/// the cluster's.
fn read_key(path: &Path) -> Result<KeyFile, SettingsError> {
    let text = read_secret(path).map_err(|error| match error {
        SettingsError::Missing { path, reason } => {
            let how = format!(
                "{reason}: every node needs the same cluster key. Copy it from a node that has it; \
                 for a new cluster make one with `(umask 077; set -C; head -c 32 /dev/urandom | \
                 base64 > {})`, which overwrites nothing, and copy it to the others",
                path.display()
            );
            SettingsError::Missing { path, reason: how }
        }
        other => other,
    })?;
    match ClusterKey::from_bytes(text.0.as_bytes()) {
        Ok(key) => Ok(KeyFile { text, key }),
        Err(error) => {
            Err(SettingsError::Unreadable { path: path.to_owned(), reason: error.to_string() })
        }
    }
}

fn own_key_path(run_dir: &Path) -> PathBuf {
    run_dir.join("cluster.key")
}

/// The key of a cluster on one host; made by the first program that needs it.
fn own_key(run_dir: &Path) -> Result<PathBuf, SettingsError> {
    let path = own_key_path(run_dir);
    let make = || -> io::Result<()> {
        let mut random = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        write_own_key(run_dir, &path, text.as_bytes())
    };
    if !path.try_exists().unwrap_or(true) {
        make().map_err(|e| SettingsError::Unreadable {
            path: path.clone(),
            reason: format!("the cluster key cannot be made: {e}"),
        })?;
    }
    Ok(path)
}

/// Writes a key where there is none.
fn write_own_key(run_dir: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    files::make_folders(run_dir)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(run_dir)?;
    files::give(file.as_file(), run_dir)?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    // Only if there is none: the first one counts.
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(e.error),
        _ => Ok(()),
    }
}

/// The folder in which the service manager has put copies of files.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Where the service manager has put the copy of a file of /etc/cvip, if there is one: `cvip_` and
/// the file's path in that folder, of which each slash is an underscore.
fn credential(path: &Path, credentials: Option<&Path>) -> Option<PathBuf> {
    let folder = Path::new(SETTINGS_PATH).parent()?;
    let name = path.strip_prefix(folder).ok()?.to_str()?.replace('/', "_");
    let copy = credentials?.join(format!("cvip_{name}"));
    copy.is_file().then_some(copy)
}

/// The text of a file that no other user may read, without white space around it; where this user
/// may not either, of the service manager's copy.
fn read_secret(path: &Path) -> Result<Secret, SettingsError> {
    read_secret_or_copy(path, credentials().as_deref()).map(|(secret, _)| secret)
}

/// The same, and whether it is the copy.
fn read_secret_or_copy(
    path: &Path,
    credentials: Option<&Path>,
) -> Result<(Secret, bool), SettingsError> {
    match (read_file(path, true), credential(path, credentials)) {
        // Its mode is the service manager's affair: an access list shows as a group's right.
        (Err(SettingsError::Forbidden(_)), Some(copy)) => Ok((read_file(&copy, false)?, true)),
        (read, _) => Ok((read?, false)),
    }
}

/// A certificate and its key. Where the key is a copy, so is the certificate: one that was renewed
/// since would not fit.
#[cfg(feature = "etcd")]
fn read_pair(
    cert: &Path,
    key: &Path,
    credentials: Option<&Path>,
) -> Result<(Vec<u8>, Secret), SettingsError> {
    let (secret, is_copy) = read_secret_or_copy(key, credentials)?;
    let copy = credential(cert, credentials).filter(|_| is_copy);
    Ok((read_public(copy.as_deref().unwrap_or(cert))?, secret))
}

fn read_file(path: &Path, is_judged: bool) -> Result<Secret, SettingsError> {
    let file = files::open(path).map_err(|e| unreadable(path, &e))?;
    let metadata = file.metadata().map_err(|e| unreadable(path, &e))?;
    let is_exposed = metadata.permissions().mode() & 0o077 != 0;
    if is_judged && (is_exposed || !is_trusted(metadata.uid(), path)) {
        return Err(SettingsError::Exposed(path.to_owned()));
    }
    let text = files::read_open(file, MAX_BYTES).and_then(files::text);
    let text = text.map_err(|e| unreadable(path, &e))?;
    let text = text.trim();
    if text.is_empty() {
        let reason = "it is empty".to_owned();
        return Err(SettingsError::Unreadable { path: path.to_owned(), reason });
    }
    Ok(Secret(text.to_owned()))
}

/// Whether a file's owner may know a secret: root, this user, and to root also the owner of its
/// folder, which the run folder of a cvipd with a user of its own has.
fn is_trusted(owner: u32, path: &Path) -> bool {
    let own = nix::unistd::geteuid();
    let owns_folder = || {
        let folder = path.parent().and_then(|folder| folder.metadata().ok());
        own.is_root() && folder.is_some_and(|folder| folder.uid() == owner)
    };
    owner == 0 || owner == own.as_raw() || owns_folder()
}

fn read_public(path: &Path) -> Result<Vec<u8>, SettingsError> {
    files::read(path, MAX_PUBLIC).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &io::Error) -> SettingsError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => {
            SettingsError::Missing { path, reason: "there is no such file".to_owned() }
        }
        io::ErrorKind::PermissionDenied => SettingsError::Forbidden(path),
        _ => SettingsError::Unreadable { path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_etc_cvip_has_a_copy_among_the_credentials_and_no_other_has() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cvip_node.key", "cvip_a_b.key"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let copy = |path: &str| credential(Path::new(path), Some(dir.path()));
        assert_eq!(copy("/etc/cvip/node.key"), Some(dir.path().join("cvip_node.key")));
        assert_eq!(copy("/etc/cvip/a/b.key"), Some(dir.path().join("cvip_a_b.key")));
        for none in ["/etc/cvip/other.key", "/etc/node.key", "/root/cvip/node.key", "node.key"] {
            assert_eq!(copy(none), None, "{none}");
        }
        assert_eq!(credential(Path::new("/etc/cvip/node.key"), None), None);
    }

    #[test]
    fn a_copy_may_have_any_mode_and_a_file_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, " secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        assert_eq!(read_file(&path, true), Err(SettingsError::Exposed(path.clone())));
        assert_eq!(read_file(&path, false).unwrap().expose(), "secret");
    }
}
