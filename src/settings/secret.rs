//! Secrets: read from files that no other user may read, and never shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{CLUSTER_KEY_PATH, Engine, EtcdSettings, Settings, SettingsError};
use crate::files;
use crate::heartbeat::ClusterKey;

/// No secret is longer, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// No file of certificates is longer, in bytes: a system's authorities are a few hundred KiB.
const MAX_PUBLIC: u64 = 4 << 20;

/// A secret text. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, to be sent where it belongs.
    pub fn expose(&self) -> &str {
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
pub struct KeyFile {
    text: Secret,
    key: ClusterKey,
}

impl KeyFile {
    /// The key: what only the cluster's members know, and sign with what they send to one another.
    pub fn key(&self) -> &ClusterKey {
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
    pub fn password(&self) -> Result<Option<(String, Secret)>, SettingsError> {
        match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Ok(Some((user.clone(), read_secret(file)?))),
            _ => Ok(None),
        }
    }

    /// The name of the password's file, for people.
    pub fn password_file_name(&self) -> String {
        self.password_file.as_deref().map_or_else(String::new, |file| file.display().to_string())
    }

    /// The certificates. The files are read anew each time.
    #[cfg(feature = "etcd")]
    pub(crate) fn tls_files(&self) -> Result<TlsFiles, SettingsError> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read_public(cert)?, read_secret(key)?)),
            _ => None,
        };
        Ok(TlsFiles { ca: self.ca.as_deref().map(read_public).transpose()?, identity })
    }

    /// Reads every file that is named, and keeps nothing: what `cvipctl check` does.
    ///
    /// # Errors
    /// One cannot be read, or others may read it and should not.
    pub fn check_files(&self) -> Result<(), SettingsError> {
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
    pub fn cluster_key(&self, run_dir: &Path) -> Result<KeyFile, SettingsError> {
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
    pub fn check_cluster_key(&self, run_dir: &Path) -> Result<(), SettingsError> {
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
    std::fs::create_dir_all(run_dir)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(run_dir)?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    // Only if there is none: the first one counts.
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(e.error),
        _ => Ok(()),
    }
}

/// The text of a file that no other user may read, without white space around it.
fn read_secret(path: &Path) -> Result<Secret, SettingsError> {
    let file = files::open(path).map_err(|e| unreadable(path, &e))?;
    let metadata = file.metadata().map_err(|e| unreadable(path, &e))?;
    let owner = metadata.uid();
    let is_ours = owner == 0 || owner == nix::unistd::geteuid().as_raw();
    if metadata.permissions().mode() & 0o077 != 0 || !is_ours {
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
