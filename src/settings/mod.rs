//! cvip.toml(5): which store holds the cluster together, and where its secrets are.
//!
//! What is said nearer wins: an option, a variable of the environment, the file. Options and
//! variables reach this module as [`Overrides`]; all programs ask here, so all of them use the
//! same store.
//!
//! Secrets stand in files alone, never in an option or a variable that `ps` would show, and
//! never in these structures: they are read where they are used.

use std::path::{Path, PathBuf};
use std::time::Duration;

mod file;
mod options;
mod secret;

pub use options::Overrides;
pub use secret::{KeyFile, Secret};

/// Where cvip.toml stands.
pub const SETTINGS_PATH: &str = "/etc/cvip/cvip.toml";

/// Where the cluster key stands.
pub const CLUSTER_KEY_PATH: &str = "/etc/cvip/cluster.key";

/// Where cvip's keys stand in etcd.
pub const PREFIX: &str = "/cvip/";

/// How long a node's lease lives when it is not renewed.
const LEASE_TTL: Duration = Duration::from_secs(5);

/// How long a request to etcd may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A folder of this host
    #[default]
    Local,
    /// The servers of an etcd cluster
    Etcd,
}

/// How to reach etcd. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// The servers, each `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// Whose certificates are trusted; the system's authorities if absent.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The user to log in as.
    pub user: Option<String>,
    /// The file with that user's password.
    pub password_file: Option<PathBuf>,
    /// What all keys begin with; it ends in a slash.
    pub prefix: String,
    /// How long a node's lease lives when it is not renewed; whole seconds.
    pub lease_ttl: Duration,
    /// How long a request may take.
    pub timeout: Duration,
}

impl Default for EtcdSettings {
    fn default() -> Self {
        EtcdSettings {
            endpoints: Vec::new(),
            ca: None,
            cert: None,
            key: None,
            user: None,
            password_file: None,
            prefix: PREFIX.to_owned(),
            lease_ttl: LEASE_TTL,
            timeout: TIMEOUT,
        }
    }
}

/// What the programs are told. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// Which store.
    pub engine: Engine,
    /// It was set; otherwise it is the default.
    pub engine_was_chosen: bool,
    /// How to reach etcd, if that is the store.
    pub etcd: EtcdSettings,
    /// The file of the cluster key, if one was named.
    pub cluster_key_file: Option<PathBuf>,
    /// The UDP port on which directors hear heartbeats, if another than the usual one.
    pub heartbeat_port: Option<u16>,
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file, shown at its place.
    #[error("{0}")]
    File(Box<crate::conf::Diagnostic>),
    /// An option or a variable, or what several of them say together.
    #[error("{0}")]
    Said(String),
    /// A file that is named cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that is named is not there.
    #[error("{}: {reason}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        reason: String,
    },
    /// A file that is named may not be read by this user; nothing is said of what is in it.
    #[error("{}: this user may not read it: run this as root, or as its owner", .0.display())]
    Forbidden(PathBuf),
    /// A file with a secret may be read by others.
    #[error(
        "{path} holds a secret, and others may read it: make it root's (chown root {path}) and its \
         alone (chmod 600 {path})", path = .0.display()
    )]
    Exposed(PathBuf),
}

impl Settings {
    /// The settings by the file and what overrides it. A file that was not named need not be
    /// there.
    ///
    /// # Errors
    /// The file cannot be read or understood, or what is said makes no sense.
    pub fn load(overrides: &Overrides) -> Result<Settings, SettingsError> {
        let named = overrides.settings.as_deref();
        let path = named.unwrap_or(Path::new(SETTINGS_PATH));
        let from_file = file::read(path, named.is_some())?;
        let mut settings = from_file;
        settings.take(overrides)?;
        settings.check()?;
        Ok(settings)
    }

    fn take(&mut self, overrides: &Overrides) -> Result<(), SettingsError> {
        fn set<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        let etcd = &mut self.etcd;
        set(&mut etcd.ca, &overrides.etcd_ca);
        set(&mut etcd.cert, &overrides.etcd_cert);
        set(&mut etcd.key, &overrides.etcd_key);
        set(&mut etcd.user, &overrides.etcd_user);
        set(&mut etcd.password_file, &overrides.etcd_password_file);
        set(&mut self.cluster_key_file, &overrides.cluster_key_file);
        if let Some(prefix) = &overrides.etcd_prefix {
            etcd.prefix = prefix_of(prefix).map_err(SettingsError::Said)?;
        }
        if let Some(endpoints) = &overrides.etcd_endpoints {
            let endpoints: Result<_, _> = endpoints.iter().map(|text| endpoint_of(text)).collect();
            etcd.endpoints = endpoints.map_err(SettingsError::Said)?;
        }
        if let Some(engine) = overrides.store {
            (self.engine, self.engine_was_chosen) = (engine, true);
        } else if !self.engine_was_chosen && !etcd.endpoints.is_empty() {
            // A list of etcd's servers selects etcd.
            (self.engine, self.engine_was_chosen) = (Engine::Etcd, true);
        }
        Ok(())
    }

    /// What the parts say together.
    fn check(&mut self) -> Result<(), SettingsError> {
        let etcd = &mut self.etcd;
        let said = |text: &str| Err(SettingsError::Said(text.to_owned()));
        if self.engine == Engine::Etcd && etcd.endpoints.is_empty() {
            return said(
                "the store is etcd, and no server of it is named: set endpoints under [etcd] in \
                 cvip.toml, or CVIP_ETCD_ENDPOINTS",
            );
        }
        match (&etcd.cert, &etcd.key) {
            (Some(_), None) => return said("etcd's client certificate needs its key: set key"),
            (None, Some(_)) => return said("etcd's client key needs its certificate: set cert"),
            _ => {}
        }
        match (&etcd.user, &etcd.password_file) {
            (Some(_), None) => return said("etcd's user needs a password: set password_file"),
            (None, Some(_)) => return said("etcd's password needs a user: set user"),
            _ => {}
        }
        let tls = etcd.ca.is_some() || etcd.cert.is_some();
        for endpoint in &mut etcd.endpoints {
            if !endpoint.contains("://") {
                *endpoint = format!("{}://{endpoint}", if tls { "https" } else { "http" });
            } else if tls && endpoint.starts_with("http://") {
                return said(&format!(
                    "there are certificates for etcd, and {endpoint} would be spoken to without: \
                     write https://"
                ));
            }
        }
        Ok(())
    }
}

/// A server as it is written: `HOST:PORT` with or without `http://` or `https://`.
fn endpoint_of(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let authority = match text.split_once("://") {
        Some(("http" | "https", authority)) => authority,
        Some((scheme, _)) if !text.contains('@') => {
            return Err(format!("`{text}' is no server of etcd: {scheme} is not http or https"));
        }
        _ => text,
    };
    if authority.contains('@') {
        // Not shown: it may be a password.
        return Err("a server of etcd is HOST:PORT, and has no user and no password in it: set \
                    user and password_file"
            .to_owned());
    }
    let parts = authority.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_is_good = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let of_a_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                !host.is_empty() && host.chars().all(of_a_name)
            }
        };
        host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match good {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}' is no server of etcd: write HOST:PORT (etcd's port is 2379, an IPv6 \
             address stands in brackets)"
        )),
    }
}

/// A prefix, with a slash at its end.
fn prefix_of(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic() && !"'\"\\`$".contains(c);
    let prefix = text.trim_end_matches('/');
    match prefix.starts_with('/') && prefix.len() > 1 && prefix.chars().all(plain) {
        true => Ok(format!("{prefix}/")),
        false => {
            Err(format!("`{text}' cannot be the beginning of keys: write something like /cvip/"))
        }
    }
}

#[cfg(test)]
mod tests;
