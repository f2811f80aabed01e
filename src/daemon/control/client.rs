//! A program asks a node's cvipd.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::{
    ControlRequest, RESPONSE_CAP, Response, receive, send, socket_address, socket_path,
};
use crate::json;

/// How long a full pass over a large table may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long cvipd may take to say what it is.
const STATUS_WITHIN: Duration = Duration::from_secs(10);

/// Why cvipd did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No cvipd listens.
    #[error(
        "no cvipd runs for node {0} here: start it (`systemctl start cvipd`), or run this on that \
         node's host; with another folder than /run/cvip, name it with --run-dir"
    )]
    Absent(u32),
    /// The caller may not open the socket.
    #[error(
        "only root and the group of {} may ask cvipd: run this as root", .0.display()
    )]
    Forbidden(PathBuf),
    /// The connection failed.
    #[error("cvipd does not answer on {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error("cvipd does not answer within {} s: is it frozen, or is this machine too busy?", .0.as_secs())]
    Late(Duration),
    /// The answer makes no sense.
    #[error(
        "cvipd's answer makes no sense (is it of another version?): {}", json::plain(&.0.to_string())
    )]
    Answer(#[from] serde_json::Error),
}

/// The nodes whose cvipd has a socket in a folder: those that run, and some that were killed.
pub fn answering(run_dir: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(run_dir) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let number = |name: std::ffi::OsString| {
        name.to_str()?.strip_prefix("cvipd-")?.strip_suffix(".sock")?.parse().ok()
    };
    let mut nodes: Vec<u32> = names.filter_map(number).collect();
    nodes.sort_unstable();
    nodes
}

/// Asks the cvipd of a node.
///
/// # Errors
/// [`ControlError::Absent`] if none runs; otherwise the connection failed.
pub fn ask(run_dir: &Path, node: u32, request: ControlRequest) -> Result<Response, ControlError> {
    let path = socket_path(run_dir, node);
    let io = |source| ControlError::Io { path: path.clone(), source };
    let address = socket_address(&path).map_err(io)?;
    let mut stream = match UnixStream::connect_addr(&address) {
        Ok(stream) => stream,
        Err(e) => {
            return Err(match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ControlError::Absent(node)
                }
                io::ErrorKind::PermissionDenied => ControlError::Forbidden(path.clone()),
                _ => io(e),
            });
        }
    };
    let within = match request {
        ControlRequest::Status | ControlRequest::Configuration => STATUS_WITHIN,
        _ => ANSWER_WITHIN,
    };
    stream.set_read_timeout(Some(within)).map_err(io)?;
    send(&mut stream, &request).map_err(io)?;
    let line = receive(&mut stream, RESPONSE_CAP, within).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => ControlError::Late(within),
        _ => io(e),
    })?;
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_node_without_a_cvipd_is_told_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let absent = ask(dir.path(), 3, ControlRequest::Status);
        assert!(matches!(absent, Err(ControlError::Absent(3))));
        // A killed cvipd leaves its socket behind.
        drop(UnixListener::bind(socket_path(dir.path(), 3)).unwrap());
        let absent = ask(dir.path(), 3, ControlRequest::Status);
        assert!(matches!(absent, Err(ControlError::Absent(3))));
    }
}
