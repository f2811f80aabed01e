//! What is said on the control socket: requests and responses, each a line of JSON.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::{self as unix, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::conf::Sources;
use crate::daemon::hooks::HooksView;
use crate::daemon::supervisor::ACTIVE;
use crate::director::{monitor, view};
use crate::heartbeat::Sent;
use crate::histogram::Histogram;
use crate::node::NodeView;

/// No request is longer: a few words.
pub(super) const REQUEST_CAP: usize = 1024;

/// No response is longer.
pub(super) const RESPONSE_CAP: usize = 16 << 20;

/// What cvipd is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// What it is and does.
    Status,
    /// The configuration in force, which may be another than that in the files.
    Configuration,
    /// Read cvip.conf again, and reconcile the kernel's table with it.
    Apply,
    /// What a full pass would change.
    Differences,
    /// Become the active director of its set.
    TakeOver,
    /// Serve and direct nothing any more, undo what was made here, and end.
    Leave {
        /// For how many seconds connections that are left are waited for.
        within_s: u32,
    },
}

impl ControlRequest {
    pub(super) fn changes_anything(self) -> bool {
        matches!(
            self,
            ControlRequest::Apply | ControlRequest::TakeOver | ControlRequest::Leave { .. }
        )
    }
}

/// What cvipd answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// What it is and does.
    Status(Box<Status>),
    /// The configuration in force, as it was read.
    Configuration(Box<Sources>),
    /// What a full pass did; the commands are as in its log.
    Applied {
        /// The changes that the kernel took.
        applied: Vec<String>,
        /// Those that it refused, and why.
        refused: Vec<String>,
    },
    /// What a full pass would change, as commands of ipvsadm.
    Differences(Vec<String>),
    /// It is done, or has begun.
    Done,
    /// It did not do what was asked.
    Error(String),
}

/// What a cvipd is and does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Process id.
    pub pid: u32,
    /// Node number.
    pub node: u32,
    /// `real server`, `director` and so on.
    pub roles: Vec<String>,
    /// Faults of the configuration that it did not take, as `cvipctl check` shows them; and what
    /// else is wrong.
    pub faults: Vec<String>,
    /// What is wrong with this node's addresses and settings at the moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What it could not save below its run folder, and why: it is in force all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaved: Vec<String>,
    /// How many connections are waited for before it ends, if it is leaving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<usize>,
    /// For how many seconds the store has been unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_unavailable_s: Option<u64>,
    /// Requests that were sent to the store, of all views together (with the embedded store, of
    /// the main thread's).
    pub store_requests: u64,
    /// Where its metrics are given over HTTP, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsPlace>,
    /// How long requests to the store took, of the views as above.
    #[serde(default)]
    pub store_latency: Histogram,
    /// How long it took to become the active director: from the election to the addresses.
    #[serde(default)]
    pub takeovers: Histogram,
    /// Heartbeats that were sent, and those that could not be; none where none is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeats: Option<Sent>,
    /// What the node's worker knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<NodeView>,
    /// What a director's monitor knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<monitor::MonitorView>,
    /// What a director knows of its pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<view::TableView>,
    /// What is known of this node's hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksView>,
}

impl Status {
    /// True of the active director.
    pub fn is_active(&self) -> bool {
        self.roles.iter().any(|role| role == ACTIVE)
    }

    /// That of a cvipd of which nothing else is known.
    pub(in crate::daemon) fn of(pid: u32, node: u32) -> Status {
        Status {
            pid,
            node,
            roles: Vec::new(),
            faults: Vec::new(),
            addresses: Vec::new(),
            unsaved: Vec::new(),
            leaving: None,
            store_unavailable_s: None,
            store_requests: 0,
            metrics: None,
            store_latency: Histogram::default(),
            takeovers: Histogram::default(),
            heartbeats: None,
            serving: None,
            monitor: None,
            pools: None,
            hooks: None,
        }
    }
}

/// Where metrics are given over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsPlace {
    /// The address and port.
    pub address: SocketAddr,
    /// Why they are not given there; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Where a node's cvipd listens.
pub fn socket_path(run_dir: &Path, node: u32) -> PathBuf {
    run_dir.join(format!("cvipd-{node}.sock"))
}

/// The address of a socket.
///
/// # Errors
/// Its path is too long.
pub(in crate::daemon) fn socket_address(path: &Path) -> io::Result<unix::SocketAddr> {
    unix::SocketAddr::from_pathname(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of a socket has at most 107 bytes; choose another folder",
        ),
        _ => error,
    })
}

/// Sends a line.
pub(super) fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Receives a line, in however many pieces it arrives, within a time.
pub(super) fn receive(
    stream: &mut UnixStream,
    cap: usize,
    within: Duration,
) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + within;
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        line.extend_from_slice(&buffer[..count]);
        let end = line.len() - count;
        if let Some(at) = line[end..].iter().position(|byte| *byte == b'\n') {
            line.truncate(end + at + 1);
            return Ok(line);
        }
        if count == 0 {
            let what = "the connection was closed before the end of the line";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        if line.len() > cap {
            let what = format!("a line is longer than {cap} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(2);

    #[test]
    fn a_peer_that_sends_nothing_or_slowly_or_too_much_is_not_waited_for() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let short = Duration::from_millis(60);
        let late = receive(&mut ours, REQUEST_CAP, short).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        theirs.write_all(&[b' '; REQUEST_CAP + 1]).unwrap();
        let long = receive(&mut ours, REQUEST_CAP, LONG).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::FileTooLarge);
        theirs.write_all(b"{}\n{}").unwrap();
        assert_eq!(receive(&mut ours, REQUEST_CAP, LONG).unwrap(), b"{}\n");
        // A byte now and then does not make it any longer.
        let began = Instant::now();
        std::thread::scope(|scope| {
            let dripping = scope.spawn(|| while theirs.write_all(b" ").is_ok() {});
            assert!(receive(&mut ours, usize::MAX, short).is_err());
            assert!(began.elapsed() < LONG);
            drop(ours);
            dripping.join().unwrap();
        });
    }
}
