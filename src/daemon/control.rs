//! The control socket: one request and one answer for a connection, each a line of JSON.
//!
//! It stands beside the store, one for each node: `cvipd-3.sock`. Whoever may open it may ask
//! for the state; only root may change anything (`SO_PEERCRED`, unix(7)). A thread waits for
//! those who connect, and each has one of his own for as long as he is answered: the main thread
//! says what it is at once, and whoever takes longer (a full pass, a takeover) keeps nobody else
//! waiting.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use tracing::error;

use super::messages::{MainMessage, MonitorMessage, PassReply, TableMessage};
use super::worker::WorkerInbox;
use crate::conf::Sources;
use crate::director::{monitor, view};
use crate::files;
use crate::wake::Outbox;

/// No request is longer: a few words.
const REQUEST_CAP: usize = 1024;

/// No answer is longer.
const ANSWER_CAP: usize = 16 << 20;

/// Within this a request has come, or it is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a full pass over a large table may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long cvipd may take to say what it is.
const STATUS_WITHIN: Duration = Duration::from_secs(10);

/// How long the director may take for a full pass that an operator asked for.
const APPLY_WITHIN: Duration = Duration::from_secs(50);

/// How long a takeover may take: a claim, the new table, and a few turns.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(10);

/// How long a director that was just started may look for its part.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// So many connections of one user are answered at once, and so many of all users but root, whose
/// orders never wait for theirs. Others are told to come again.
const OF_ONE: usize = 8;
const OF_ALL: usize = 32;

/// So many connections of root's are answered at once.
const OF_ROOT: usize = 128;

/// What cvipd is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// What it is and does.
    Status,
    /// The configuration by which it goes, which may be another than that in the files.
    Configuration,
    /// Read cvip.conf again and make the table true.
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
    fn changes_anything(self) -> bool {
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
    /// The configuration by which it goes, as it was read.
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
    /// It did not do as asked.
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
    /// For how many seconds the store has been away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_unavailable_s: Option<u64>,
    /// Requests that were sent to the store, of all views together (with the embedded store, of
    /// the main thread's).
    pub store_requests: u64,
    /// What a director's monitor knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<monitor::MonitorView>,
    /// What a director knows of its pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<view::TableView>,
}

/// What the main thread is asked for the sake of a request.
pub(super) struct Question {
    pub(super) what: What,
    pub(super) answer: Sender<ControlAnswer>,
}

/// What of it concerns the main thread.
pub(super) enum What {
    /// What it is.
    State,
    /// To read cvip.conf again; the table's worker reports what came of it.
    Apply(PassReply),
    /// To leave, waiting for connections for so long.
    Leave(Duration),
}

/// What the main thread says: an error, or what it knows itself and whom else to ask.
pub(super) type ControlAnswer = Result<Base, String>;

pub(super) struct Base {
    pub(super) status: Status,
    /// The text of the configuration that it took.
    pub(super) sources: Arc<Sources>,
    /// The node is a director, whether or not it knows its part yet.
    pub(super) directs: bool,
    pub(super) monitor: Option<WorkerInbox<MonitorMessage>>,
    pub(super) table: Option<WorkerInbox<TableMessage>>,
}

/// Why cvipd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No cvipd listens.
    #[error(
        "no cvipd runs for node {0} here: start it (`systemctl start cvipd'), or run this on that \
         node's host; with another folder than /run/cvip, name it with --run-dir"
    )]
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
    /// It takes too long.
    #[error("cvipd does not answer within {} s: is it frozen, or is this machine too busy?", .0.as_secs())]
    Late(Duration),
    /// The answer makes no sense.
    #[error("cvipd's answer makes no sense (is it of another version?): {0}")]
    Answer(#[from] serde_json::Error),
}

/// Where a node's cvipd listens.
pub fn socket_path(run_dir: &Path, node: u32) -> PathBuf {
    run_dir.join(format!("cvipd-{node}.sock"))
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
    let within = match request {
        ControlRequest::Status | ControlRequest::Configuration => STATUS_WITHIN,
        _ => ANSWER_WITHIN,
    };
    stream.set_read_timeout(Some(within)).map_err(io)?;
    send(&mut stream, &request).map_err(io)?;
    let line = receive(&mut stream, ANSWER_CAP, within).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => ControlError::Late(within),
        _ => io(e),
    })?;
    Ok(serde_json::from_slice(&line)?)
}

/// The daemon's end.
pub(super) struct ControlServer {
    path: PathBuf,
    main: Outbox<MainMessage>,
    places: Arc<Places>,
    /// Where it listens; none while the socket cannot be made.
    open: Option<OpenConnection>,
}

/// A socket that is listened on.
struct OpenConnection {
    listener: UnixListener,
    /// Which file it is.
    identity: (u64, u64),
}

impl Drop for OpenConnection {
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
    pub(super) fn open(
        run_dir: &Path,
        node: u32,
        main: Outbox<MainMessage>,
    ) -> io::Result<ControlServer> {
        let path = socket_path(run_dir, node);
        std::os::unix::net::SocketAddr::from_pathname(&path)?;
        let mut server = ControlServer { path, main, places: Arc::default(), open: None };
        server.tend();
        Ok(server)
    }

    /// Makes the socket again where somebody deleted it.
    pub(super) fn tend(&mut self) {
        if self.open.as_ref().is_some_and(|open| identity(&self.path).ok() == Some(open.identity)) {
            return;
        }
        self.open = None;
        let listening = self.listen();
        files::note(&self.path, &listening);
        self.open = listening.ok();
    }

    fn listen(&self) -> io::Result<OpenConnection> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let listener = UnixListener::bind(&self.path)?;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o660))?;
        let open =
            OpenConnection { listener: listener.try_clone()?, identity: identity(&self.path)? };
        let (main, places) = (self.main.clone(), Arc::clone(&self.places));
        // It ends with the process, or with the socket: nobody waits for it.
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

/// How many connections of each user are being answered.
#[derive(Default)]
struct Places(Mutex<BTreeMap<u32, usize>>);

/// One of them.
struct ConnectionPlace {
    of: Arc<Places>,
    uid: u32,
}

impl Places {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<u32, usize>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place for one more of a user; none if it has too many already.
    fn take(self: &Arc<Places>, uid: u32) -> Option<ConnectionPlace> {
        self.with(|taken| {
            let of_this = taken.get(&uid).copied().unwrap_or(0);
            let of_users: usize = taken.iter().filter(|(uid, _)| **uid != 0).map(|(_, n)| n).sum();
            let has_room = match uid {
                0 => of_this < OF_ROOT,
                _ => of_this < OF_ONE && of_users < OF_ALL,
            };
            has_room.then(|| {
                taken.insert(uid, of_this + 1);
                ConnectionPlace { of: Arc::clone(self), uid }
            })
        })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.of.with(|taken| {
            let left = taken.get(&self.uid).copied().unwrap_or(0).saturating_sub(1);
            match left {
                0 => taken.remove(&self.uid),
                left => taken.insert(self.uid, left),
            };
        });
    }
}

fn listen(listener: &UnixListener, main: &Outbox<MainMessage>, places: &Arc<Places>) {
    for stream in listener.incoming() {
        let mut stream = match stream {
            Ok(stream) => stream,
            // It is no longer listened on.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => return,
            Err(error) => {
                error!("the control socket: {error}");
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
            error!("the control socket: {error}");
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

fn respond(request: ControlRequest, main: &Outbox<MainMessage>) -> Result<Response, String> {
    match request {
        ControlRequest::Status => {
            let Base { mut status, monitor, table, .. } = ask_main(What::State, main)?;
            status.monitor = monitor.and_then(|inbox| ask_inbox(&inbox, MonitorMessage::View).ok());
            if let Some(monitor) = &mut status.monitor {
                status.addresses.append(&mut monitor.conflicts);
            }
            status.pools = table.and_then(|inbox| ask_inbox(&inbox, TableMessage::View).ok());
            let unavailable =
                status.monitor.as_ref().and_then(|monitor| monitor.store_unavailable_s);
            status.store_unavailable_s = status.store_unavailable_s.or(unavailable);
            Ok(Response::Status(Box::new(status)))
        }
        ControlRequest::Configuration => {
            let sources = ask_main(What::State, main)?.sources;
            Ok(Response::Configuration(Box::new(Sources::clone(&sources))))
        }
        ControlRequest::Apply => {
            table_of(main)?;
            let (reply, report) = mpsc::channel();
            ask_main(What::Apply(reply), main)?;
            let report = take(&report, APPLY_WITHIN)??;
            Ok(Response::Applied {
                applied: report.applied.iter().map(ToString::to_string).collect(),
                refused: report.refused.iter().map(ToString::to_string).collect(),
            })
        }
        ControlRequest::Differences => {
            let changes = ask_inbox(&table_of(main)?, TableMessage::Differences)??;
            let lines = changes.iter().map(crate::ipvsadm::change_line).collect();
            Ok(Response::Differences(lines))
        }
        ControlRequest::TakeOver => take_over(main),
        ControlRequest::Leave { within_s } => {
            let within = Duration::from_secs(within_s.into());
            ask_main(What::Leave(within), main).map(|_| Response::Done)
        }
    }
}

/// The table's desk. A director that was just started may not know its part yet.
fn table_of(main: &Outbox<MainMessage>) -> Result<WorkerInbox<TableMessage>, String> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let Base { status, directs, table, .. } = ask_main(What::State, main)?;
        match table {
            Some(table) => return Ok(table),
            None if !directs || Instant::now() >= deadline => return Err(no_director(status.node)),
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Asks for a takeover, and waits for it.
fn take_over(main: &Outbox<MainMessage>) -> Result<Response, String> {
    let Base { status, monitor, .. } = ask_main(What::State, main)?;
    let monitor = monitor.ok_or_else(|| no_director(status.node))?;
    let deadline = Instant::now() + TAKE_OVER_WITHIN;
    monitor.order(MonitorMessage::TakeOver);
    loop {
        let view = ask_inbox(&monitor, MonitorMessage::View)?;
        let Base { status, .. } = ask_main(What::State, main)?;
        if view.active && status.roles.iter().any(|role| role == super::node_role::ACTIVE) {
            return Ok(Response::Done);
        }
        if Instant::now() >= deadline {
            return Err(match view.store_unavailable_s {
                Some(_) => "nobody can be elected while the store is away".to_owned(),
                None => "it was not elected in time: see cvipd's log".to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn no_director(node: u32) -> String {
    format!("node {node} is no director, or does not know its part yet")
}

fn ask_main(what: What, main: &Outbox<MainMessage>) -> Result<Base, String> {
    let (answer, said) = mpsc::channel();
    main.send(MainMessage::Question(Question { what, answer }));
    take(&said, ANSWER_WITHIN)?
}

fn ask_inbox<O, T>(
    inbox: &WorkerInbox<O>,
    order: impl FnOnce(Sender<T>) -> O,
) -> Result<T, String> {
    let (reply, said) = mpsc::channel();
    inbox.order(order(reply));
    take(&said, APPLY_WITHIN)
}

fn take<T>(said: &Receiver<T>, within: Duration) -> Result<T, String> {
    said.recv_timeout(within).map_err(|_| "cvipd is too busy, or ends: see its log".to_owned())
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// A line, however it arrives, within a time.
fn receive(stream: &mut UnixStream, cap: usize, within: Duration) -> io::Result<Vec<u8>> {
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
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.len() > cap {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_rubbish_is_refused() {
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
            serde_json::from_slice(&receive(&mut rude, ANSWER_CAP, PATIENCE).unwrap()).unwrap();
        assert!(matches!(answer, Response::Error(_)));
        assert!(inbox.take().is_empty(), "rubbish is no request");
    }

    #[test]
    fn a_user_with_many_connections_keeps_nobody_else_waiting() {
        let places = Arc::new(Places::default());
        let of_one: Vec<ConnectionPlace> = (0..300).filter_map(|_| places.take(1000)).collect();
        assert_eq!(of_one.len(), OF_ONE);
        let of_others: Vec<ConnectionPlace> =
            (1001..1300).filter_map(|uid| places.take(uid)).collect();
        assert_eq!(of_others.len(), OF_ALL - OF_ONE);
        assert!(places.take(0).is_some(), "root gets through");
        drop(of_one);
        assert!(places.take(1000).is_some());
        assert!(places.take(1000).is_some(), "a place is given back");
    }

    #[test]
    fn who_says_nothing_says_it_slowly_or_says_too_much_is_not_waited_for() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let short = Duration::from_millis(60);
        let late = receive(&mut ours, REQUEST_CAP, short).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        theirs.write_all(&[b' '; REQUEST_CAP + 1]).unwrap();
        let long = receive(&mut ours, REQUEST_CAP, PATIENCE).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::FileTooLarge);
        theirs.write_all(b"{}\n{}").unwrap();
        assert_eq!(receive(&mut ours, REQUEST_CAP, PATIENCE).unwrap(), b"{}\n");
        // A byte now and then does not make it any longer.
        let began = Instant::now();
        std::thread::scope(|scope| {
            let dripping = scope.spawn(|| while theirs.write_all(b" ").is_ok() {});
            assert!(receive(&mut ours, usize::MAX, short).is_err());
            assert!(began.elapsed() < PATIENCE);
            drop(ours);
            dripping.join().unwrap();
        });
    }

    #[test]
    fn a_socket_that_somebody_deleted_is_made_again() {
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
