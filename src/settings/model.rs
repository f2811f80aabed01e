//! What the settings are, and what is wrong with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where cvip.toml stands.
pub const SETTINGS_PATH: &str = "/etc/cvip/cvip.toml";

/// Where the cluster key stands.
pub const CLUSTER_KEY_PATH: &str = "/etc/cvip/cluster.key";

/// Where hooks stand.
const HOOKS_PATH: &str = "/etc/cvip/hooks.d";

/// Where cvip's keys stand in etcd.
pub const PREFIX: &str = "/cvip/";

/// How long a node's lease lives when it is not renewed.
const LEASE_TTL: Duration = Duration::from_secs(5);

/// How long a request to etcd may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the hooks of one event may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(5);

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

named! {
    /// A label of a destination's metrics, named as in node_exporter's IPVS collector.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum DestinationLabel {
        /// The virtual address.
        LocalAddress = "local_address",
        /// The virtual port.
        LocalPort = "local_port",
        /// The real server's address.
        RemoteAddress = "remote_address",
        /// The real server's port.
        RemotePort = "remote_port",
        /// The protocol.
        Proto = "proto",
        /// The firewall mark.
        LocalMark = "local_mark",
    }
}

impl DestinationLabel {
    /// Whether it says something of the service, rather than of the real server.
    pub fn is_of_service(self) -> bool {
        !matches!(self, DestinationLabel::RemoteAddress | DestinationLabel::RemotePort)
    }
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

/// Programs that cvipd runs when this node's role changes, or a service's quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSettings {
    /// The directory in which they stand. Where there is none, nothing is run.
    pub dir: PathBuf,
    /// As whom they run; `nobody` if absent.
    pub user: Option<String>,
    /// How long all of them may take together, for one event.
    pub timeout: Duration,
}

impl Default for HookSettings {
    fn default() -> Self {
        HookSettings { dir: HOOKS_PATH.into(), user: None, timeout: HOOK_TIMEOUT }
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
    /// Whether cvipd records what it decides, if that was said: it does otherwise.
    pub record: Option<bool>,
    /// Where cvipd gives its metrics over HTTP, if it is to.
    pub metrics_address: Option<SocketAddr>,
    /// The labels of a destination's metrics, if not all of them.
    pub metrics_labels: Option<Vec<DestinationLabel>>,
    /// Programs that cvipd runs at certain events.
    pub hooks: HookSettings,
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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

/// A server as it is written: `HOST:PORT` with or without `http://` or `https://`.
pub(super) fn endpoint_of(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let authority = match text.split_once("://") {
        Some(("http" | "https", authority)) => authority,
        Some((scheme, _)) if !text.contains('@') => {
            return Err(format!("`{text}` is no server of etcd: {scheme} is not http or https"));
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
            "`{text}` is no server of etcd: write HOST:PORT (etcd's port is 2379, an IPv6 \
             address stands in brackets)"
        )),
    }
}

/// A prefix, with a slash at its end.
pub(super) fn prefix_of(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic() && !"'\"\\`$".contains(c);
    let prefix = text.trim_end_matches('/');
    match prefix.starts_with('/') && prefix.len() > 1 && prefix.chars().all(plain) {
        true => Ok(format!("{prefix}/")),
        false => {
            Err(format!("`{text}` cannot be the beginning of keys: write something like /cvip/"))
        }
    }
}

/// Where metrics are given: an IP address and a port.
pub(super) fn metrics_address_of(text: &str) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = text.parse().ok();
    address.filter(|address| address.port() > 0).ok_or_else(|| {
        format!(
            "`{text}` is no address for metrics: write ADDRESS:PORT, such as 127.0.0.1:8849 or \
             [::1]:8849"
        )
    })
}

/// A label of a destination's metrics.
pub(super) fn metrics_label_of(text: &str) -> Result<DestinationLabel, String> {
    DestinationLabel::ALL.into_iter().find(|label| label.name() == text).ok_or_else(|| {
        let known: Vec<&str> = DestinationLabel::ALL.iter().map(|label| label.name()).collect();
        format!("`{text}` is no label of a destination: they are {}", known.join(", "))
    })
}
