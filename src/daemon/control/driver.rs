//! The daemon's end of the control socket: a thread accepts connections, and each connection has
//! one of its own until it is answered.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};
use tracing::error;

use super::answers::respond;
use super::limits::{OF_ONE, Places};
use super::wire::{
    ControlRequest, REQUEST_CAP, Response, receive, send, socket_address, socket_path,
};
use crate::daemon::messages::MainMessage;
use crate::files;
use crate::wake::Outbox;

/// Within this a request has come, and a response is read; else the connection is closed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The daemon's end.
pub(in crate::daemon) struct ControlServer {
    path: PathBuf,
    main: Outbox<MainMessage>,
    places: Arc<Places>,
    /// Where it listens; none while the socket cannot be made.
    open: Option<ListeningSocket>,
}

/// A socket that is listened on.
struct ListeningSocket {
    listener: UnixListener,
    /// Which file it is.
    identity: (u64, u64),
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        // The thread that waits on it ends.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

impl ControlServer {
    /// Listens, and answers from now on. The caller holds the node's lease, so a socket that
    /// stands there is a dead cvipd's. One that cannot be made now is made later.
    ///
    /// # Errors
    /// It could never be made: its path is too long.
    pub(in crate::daemon) fn open(
        run_dir: &Path,
        node: u32,
        main: Outbox<MainMessage>,
    ) -> io::Result<ControlServer> {
        let path = socket_path(run_dir, node);
        socket_address(&path)?;
        let mut server = ControlServer { path, main, places: Arc::default(), open: None };
        server.tend();
        Ok(server)
    }

    /// Makes the socket again where it was deleted.
    pub(in crate::daemon) fn tend(&mut self) {
        if self.open.as_ref().is_some_and(|open| identity(&self.path).ok() == Some(open.identity)) {
            return;
        }
        self.open = None;
        let listening = self.listen();
        files::note(&self.path, &listening);
        self.open = listening.ok();
    }

    fn listen(&self) -> io::Result<ListeningSocket> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        if let Some(folder) = self.path.parent() {
            files::make_folders(folder)?;
        }
        let listener = UnixListener::bind(&self.path)?;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o660))?;
        let open =
            ListeningSocket { listener: listener.try_clone()?, identity: identity(&self.path)? };
        let (main, places) = (self.main.clone(), Arc::clone(&self.places));
        // It ends with the process, or with the socket: it is not joined.
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || listen(&listener, &main, &places))?;
        Ok(open)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // The next cvipd removes it if this one cannot.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn listen(listener: &UnixListener, main: &Outbox<MainMessage>, places: &Arc<Places>) {
    for stream in listener.incoming() {
        let mut stream = match stream {
            Ok(stream) => stream,
            // It is no longer listened on.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => return,
            Err(error) => {
                error!("cannot accept a connection on the control socket: {error}");
                // Out of descriptors, perhaps: that may pass.
                thread::sleep(PATIENCE);
                continue;
            }
        };
        let Ok(uid) = getsockopt(&stream, PeerCredentials).map(|peer| peer.uid()) else { continue };
        let Some(place) = places.take(uid) else {
            let text = format!("cvipd answers {OF_ONE} requests of user {uid} already: try again");
            // Into an empty buffer, or not at all.
            let _ = stream.set_nonblocking(true);
            let _ = send(&mut stream, &Response::Error(text));
            continue;
        };
        let main = main.clone();
        let spawned = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let _place = place;
            if let Err(error) = answer(stream, uid == 0, &main) {
                tracing::debug!("control socket: {error}");
            }
        });
        if let Err(error) = spawned {
            error!("cannot start a thread for the control socket: {error}");
        }
    }
}

/// Answers one connection.
fn answer(mut stream: UnixStream, root: bool, main: &Outbox<MainMessage>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = receive(&mut stream, REQUEST_CAP, PATIENCE)?;
    let response = match serde_json::from_slice::<ControlRequest>(&request) {
        Ok(request) if request.changes_anything() && !root => {
            Response::Error("only root may do that: run this as root".to_owned())
        }
        Ok(request) => respond(request, main).unwrap_or_else(Response::Error),
        Err(error) => Response::Error(format!("unknown request: {error}")),
    };
    send(&mut stream, &response)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::client::{ControlError, ask};
    use super::super::wire::RESPONSE_CAP;
    use super::*;
    use crate::daemon::messages::{Question, What};

    #[test]
    fn a_request_is_answered_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (main, inbox) = crate::wake::channel().unwrap();
        let _server = ControlServer::open(dir.path(), 3, main).unwrap();
        let path = socket_path(dir.path(), 3);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(dir.path(), 3, ControlRequest::Leave { within_s: 1 }));
            let mut heard = false;
            while !asked.is_finished() {
                for messages in inbox.take() {
                    let MainMessage::Question(Question { what, answer }) = messages else {
                        panic!()
                    };
                    heard = matches!(what, What::Leave(_));
                    answer.send(Err("no".to_owned())).unwrap();
                }
            }
            let root = nix::unistd::geteuid().is_root();
            let refusal = if root { "no" } else { "only root may do that: run this as root" };
            assert_eq!(asked.join().unwrap().unwrap(), Response::Error(refusal.to_owned()));
            assert_eq!(heard, root);
        });
        let mut rude = UnixStream::connect(&path).unwrap();
        rude.write_all(b"{}\n").unwrap();
        let answer: Response =
            serde_json::from_slice(&receive(&mut rude, RESPONSE_CAP, PATIENCE).unwrap()).unwrap();
        assert!(matches!(answer, Response::Error(_)));
        assert!(inbox.take().is_empty(), "it is no request");
    }

    #[test]
    fn a_socket_that_was_deleted_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let (main, _inbox) = crate::wake::channel().unwrap();
        let mut server = ControlServer::open(&run_dir, 3, main).unwrap();
        let path = socket_path(&run_dir, 3);
        let before = identity(&path).unwrap();
        server.tend();
        assert_eq!(identity(&path).unwrap(), before);
        std::fs::remove_dir_all(&run_dir).unwrap();
        assert!(matches!(ask(&run_dir, 3, ControlRequest::Status), Err(ControlError::Absent(3))));
        server.tend();
        UnixStream::connect(&path).unwrap();
    }
}
