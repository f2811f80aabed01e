//! The control socket: one request and one answer for a connection, each a line of JSON.
//!
//! It stands beside the store, one for each node: `cvipd-3.sock`. Whoever may open it may ask
//! for the state; only root may change anything (`SO_PEERCRED`, unix(7)).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

/// No request or answer is longer.
const LINE_CAP: u64 = 16 << 20;

/// Whoever connects and says nothing is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a full pass over a large table may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What cvipd is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// What it is and does.
    Status,
    /// Read cvip.conf again and make the table true.
    Apply,
}

/// What cvipd answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// What it is and does.
    Status {
        /// Process id.
        pid: u32,
        /// Node number.
        node: u32,
        /// `real server`, `director`, or both.
        roles: Vec<String>,
        /// Faults of the configuration that it did not take, as `cvipctl check` shows them.
        faults: Vec<String>,
    },
    /// What a full pass did; the commands are as in its log.
    Applied {
        /// The changes that the kernel took.
        applied: Vec<String>,
        /// Those that it refused, and why.
        refused: Vec<String>,
    },
    /// It did not do as asked.
    Error(String),
}

/// Why cvipd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No cvipd listens.
    #[error("no cvipd runs for node {0}")]
    Absent(u32),
    /// The caller may not open the socket.
    #[error(
        "only root and the group of {} may speak with cvipd: run this as root", .0.display()
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
    /// The answer makes no sense.
    #[error("cvipd's answer makes no sense (is it of another version?): {0}")]
    Answer(#[from] serde_json::Error),
}

/// Where a node's cvipd listens.
pub fn socket_path(run_dir: &Path, node: u32) -> PathBuf {
    run_dir.join(format!("cvipd-{node}.sock"))
}

/// Asks the cvipd of a node.
///
/// # Errors
/// [`ControlError::Absent`] if none runs; otherwise the connection failed.
pub fn ask(run_dir: &Path, node: u32, request: Request) -> Result<Response, ControlError> {
    let path = socket_path(run_dir, node);
    let io = |source| ControlError::Io { path: path.clone(), source };
    let mut stream = match UnixStream::connect(&path) {
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
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(io)?;
    send(&mut stream, &request).map_err(io)?;
    let line = receive(&stream).map_err(io)?;
    Ok(serde_json::from_slice(&line)?)
}

/// The daemon's end.
pub(super) struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens. The caller holds the node's lease, so a socket that stands there is a dead
    /// cvipd's.
    pub(super) fn open(run_dir: &Path, node: u32) -> io::Result<Server> {
        let path = socket_path(run_dir, node);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Server { listener, path })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Answers one connection, if one waits.
    pub(super) fn answer(&self, respond: impl FnOnce(Request, bool) -> Response) {
        let Ok((mut stream, _)) = self.listener.accept() else { return };
        let outcome = || -> io::Result<()> {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let root = getsockopt(&stream, PeerCredentials)?.uid() == 0;
            let response = match serde_json::from_slice(&receive(&stream)?) {
                Ok(request) => respond(request, root),
                Err(error) => Response::Error(format!("unknown request: {error}")),
            };
            send(&mut stream, &response)
        }();
        if let Err(error) = outcome {
            tracing::debug!("control socket: {error}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The next cvipd removes it if this one cannot.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn receive(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_CAP)).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_rubbish_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::open(dir.path(), 3).unwrap();
        let path = socket_path(dir.path(), 3);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(dir.path(), 3, Request::Apply));
            let mut polled = false;
            while !asked.is_finished() {
                server.answer(|request, _| {
                    polled = request == Request::Apply;
                    Response::Error("no".to_owned())
                });
            }
            assert!(polled);
            assert_eq!(asked.join().unwrap().unwrap(), Response::Error("no".to_owned()));
        });
        let mut rude = UnixStream::connect(&path).unwrap();
        rude.write_all(b"{}\n").unwrap();
        server.answer(|_, _| unreachable!("rubbish is no request"));
        let answer: Response = serde_json::from_slice(&receive(&rude).unwrap()).unwrap();
        assert!(matches!(answer, Response::Error(_)));
    }

    #[test]
    fn a_node_without_a_cvipd_is_told_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let absent = ask(dir.path(), 3, Request::Status);
        assert!(matches!(absent, Err(ControlError::Absent(3))));
        // A killed cvipd leaves its socket behind.
        drop(UnixListener::bind(socket_path(dir.path(), 3)).unwrap());
        let absent = ask(dir.path(), 3, Request::Status);
        assert!(matches!(absent, Err(ControlError::Absent(3))));
    }
}
