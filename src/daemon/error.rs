//! Why cvipd does not run.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::node::WhichNode;
use crate::store::StoreError;
use crate::{conf, heartbeat, ipvs, listeners, settings};

/// Why cvipd does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration has faults.
    #[error("{}", .0.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("\n"))]
    Conf(Vec<conf::Diagnostic>),
    /// It is not known which node this is.
    #[error(transparent)]
    WhichNode(#[from] WhichNode),
    /// cvip.conf gives this node no role.
    #[error("node {0} is neither a director nor a real server in {1}")]
    NoRole(u32, String),
    /// This host lacks an interface that cvip.conf gives it.
    #[error(
        "there is no interface {0} here, which cvip.conf gives this node as {1}: the configuration \
         is not taken"
    )]
    Interface(String, &'static str),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The director has no IPVS.
    #[error(transparent)]
    Ipvs(#[from] ipvs::IpvsError),
    /// The cluster key cannot be used.
    #[error(transparent)]
    Key(#[from] settings::SettingsError),
    /// cvipd's own files cannot be written.
    #[error("{}: cvipd writes its own files there, and cannot: {reason}", path.display())]
    RunDir {
        /// The run folder, or what of it cannot be used.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Heartbeats cannot be sent or heard.
    #[error(transparent)]
    Heartbeats(#[from] heartbeat::SocketError),
    /// Listeners cannot be seen.
    #[error(transparent)]
    Listeners(#[from] listeners::ListenersError),
    /// The system refused something that every system gives.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
    /// A thread ended that should not have.
    #[error(
        "the {0}'s thread has ended unexpectedly, or cannot be started; the table stays as it is: \
         start cvipd again"
    )]
    Died(&'static str),
    /// One that was recorded, in its words.
    #[error("{0}")]
    Recorded(String),
}

/// In its words.
impl Serialize for RunError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RunError, D::Error> {
        String::deserialize(deserializer).map(RunError::Recorded)
    }
}
