//! The host's end of the channel: one command in one booted guest.
//!
//! A thread reads frames and writes the command's outputs as they come; another carries standard input, as far as the
//! guest has given credit for it; the caller's thread waits for the end, for signals, and for time to run out.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::frame::{self, Kind, Spec, number};
use crate::outgoing::{Credit, Outgoing};
use crate::signals::{self, Held};
use crate::terminal;

/// The status of a command that was given too little time, as timeout(1) has it.
pub(crate) const TIMED_OUT: i32 = 124;

/// Signals that are the command's, and not the caller's.
const FOR_THE_COMMAND: &[Signal] =
    &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];

/// What becomes of the command's input and outputs.
pub(crate) enum Streams {
    /// They are the caller's own; signals that the caller gets are the command's.
    Inherit,
    /// The input is this, the outputs are kept.
    Capture(Vec<u8>),
}

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The command's status, 128 + n for a signal n.
    pub(crate) code: i32,
    /// What the command wrote, if that was asked for.
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why a guest did not come as far as running the command; another kernel may.
#[derive(Debug)]
pub(crate) struct DidNotBoot(pub(crate) String);

impl std::fmt::Display for DidNotBoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DidNotBoot {}

enum Event {
    Hello,
    Started,
    Exit(i32),
    Failed(String),
    Lost(Option<io::Error>),
    Signal(Signal),
}

/// Time limits of a session.
pub(crate) struct Limits {
    /// From now until the command has been started.
    pub(crate) boot: Duration,
    /// From then until it ends.
    pub(crate) command: Option<Duration>,
    /// How many bytes the channel to the guest bears.
    pub(crate) window: usize,
}

/// Runs the command of `spec` over the channel to a guest that is booting.
pub(crate) fn run(
    wire: UnixStream,
    mut spec: Spec,
    streams: Streams,
    limits: &Limits,
) -> Result<Ended> {
    let (events_to, events) = channel();
    let credit = Arc::new(Credit::new(frame::WINDOW));
    let kept = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let inherit = matches!(streams, Streams::Inherit);
    let outgoing = Arc::new(Outgoing::new(wire.try_clone()?, limits.window));

    // Signals must be held back before there are threads that could be chosen for them.
    let signals = inherit.then(|| Held::new(FOR_THE_COMMAND)).transpose()?;
    let (stop, stopper) = nix::unistd::pipe().context("pipe")?;
    if let Some(signals) = &signals {
        let (signals, stop, events) = (signals.descriptor()?, stop.try_clone()?, events_to.clone());
        thread::spawn(move || watch_signals(&signals, &stop, &events));
    }
    {
        let (credit, kept, outgoing) =
            (Arc::clone(&credit), Arc::clone(&kept), Arc::clone(&outgoing));
        thread::spawn(move || receive(wire, inherit, &credit, &kept, &outgoing, &events_to));
    }

    spec.terminal = (inherit && terminal::is_complete()).then(terminal::size);
    let session = Session { events, outgoing: Arc::clone(&outgoing) };
    if let Some(code) = session.boot(&spec, Instant::now() + limits.boot)? {
        return Ok(Ended { code, stdout: Vec::new(), stderr: Vec::new() });
    }
    let _raw = spec.terminal.map(|_| terminal::Raw::enter()).transpose()?;
    match streams {
        Streams::Inherit => {
            let (credit, outgoing) = (Arc::clone(&credit), Arc::clone(&outgoing));
            thread::spawn(move || send_stdin(&stop, &credit, &outgoing));
        }
        Streams::Capture(input) => {
            let (credit, outgoing) = (Arc::clone(&credit), Arc::clone(&outgoing));
            thread::spawn(move || send_bytes(&input, &credit, &outgoing));
        }
    }
    let code = session.wait(limits.command.map(|limit| Instant::now() + limit));
    credit.end();
    outgoing.end();
    drop(stopper);
    let code = code?;
    let (stdout, stderr) =
        std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ended { code, stdout, stderr })
}

struct Session {
    events: Receiver<Event>,
    outgoing: Arc<Outgoing>,
}

impl Session {
    fn next(&self, deadline: Option<Instant>) -> Result<Option<Event>> {
        let Some(deadline) = deadline else {
            return Ok(Some(self.events.recv()?));
        };
        match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the lab's reader ended"),
        }
    }

    /// Waits until the guest is up, tells it what to run, and waits until that runs. A status if the caller was told to
    /// end before that.
    fn boot(&self, spec: &Spec, deadline: Instant) -> Result<Option<i32>> {
        loop {
            match self.next(Some(deadline))? {
                Some(Event::Hello) => {
                    self.outgoing.send_long(Kind::Spec, &serde_json::to_vec(spec)?)?
                }
                Some(Event::Started) => return Ok(None),
                Some(Event::Failed(why)) => {
                    bail!(DidNotBoot(format!("the guest could not be set up: {why}")))
                }
                Some(Event::Lost(error)) => {
                    let error = error.map(|e| format!(" ({e})")).unwrap_or_default();
                    bail!(DidNotBoot(format!(
                        "the kernel ended before the command was started{error}"
                    )))
                }
                Some(Event::Signal(signal)) if signal != Signal::SIGWINCH => {
                    return Ok(Some(128 + signal as i32));
                }
                Some(Event::Signal(_) | Event::Exit(_)) => {}
                None => bail!(DidNotBoot("the kernel took too long to come up".into())),
            }
        }
    }

    /// Waits for the end of the command, and passes signals on to it.
    fn wait(&self, mut deadline: Option<Instant>) -> Result<i32> {
        let mut interrupted = None;
        loop {
            match self.next(deadline)? {
                Some(Event::Exit(code)) => return Ok(code),
                Some(Event::Failed(why)) => bail!("the guest failed: {why}"),
                Some(Event::Lost(error)) => {
                    let error = error.map(|e| format!(" ({e})")).unwrap_or_default();
                    bail!("the lab's kernel ended while the command ran{error}")
                }
                Some(Event::Signal(Signal::SIGWINCH)) => {
                    let size = terminal::size();
                    let [r0, r1] = size.rows.to_le_bytes();
                    let [c0, c1] = size.columns.to_le_bytes();
                    let _ = self.outgoing.send_now(Kind::Window, &[r0, r1, c0, c1]);
                }
                Some(Event::Signal(signal)) => {
                    if interrupted.is_some() {
                        // Asked twice: no more waiting.
                        return Ok(128 + signal as i32);
                    }
                    interrupted = Some(signal);
                    let grace = Instant::now() + Duration::from_secs(5);
                    deadline = Some(deadline.map_or(grace, |old| old.min(grace)));
                    let _ = self.outgoing.send_now(Kind::Signal, &(signal as u32).to_le_bytes());
                }
                Some(Event::Hello | Event::Started) => {}
                None => {
                    if let Some(signal) = interrupted {
                        return Ok(128 + signal as i32);
                    }
                    eprintln!("lab: the command took too long and was ended");
                    return Ok(TIMED_OUT);
                }
            }
        }
    }
}

/// Reads what the guest sends until there is no more.
fn receive(
    mut wire: UnixStream,
    inherit: bool,
    credit: &Credit,
    kept: &Mutex<(Vec<u8>, Vec<u8>)>,
    outgoing: &Outgoing,
    events: &Sender<Event>,
) {
    loop {
        let (kind, payload) = match frame::read(&mut wire) {
            Ok(Some(frame)) => frame,
            Ok(None) => return drop(events.send(Event::Lost(None))),
            Err(error) => return drop(events.send(Event::Lost(Some(error)))),
        };
        match kind {
            Kind::Stdout | Kind::Stderr if inherit => {
                let written = write_out(kind, &payload);
                if written.is_err() {
                    // `... | head -1`: the command is to get its SIGPIPE, as it would on the host.
                    let _ = outgoing.send_now(Kind::Closed, &[kind as u8]);
                }
            }
            Kind::Stdout => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).0.extend_from_slice(&payload)
            }
            Kind::Stderr => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).1.extend_from_slice(&payload)
            }
            Kind::Credit => credit.give(number(&payload) as usize),
            Kind::Ack => outgoing.acknowledged(number(&payload) as usize),
            Kind::Hello => drop(events.send(Event::Hello)),
            Kind::Started => drop(events.send(Event::Started)),
            Kind::Exit => return drop(events.send(Event::Exit(number(&payload) as i32))),
            Kind::Failed => {
                return drop(
                    events.send(Event::Failed(String::from_utf8_lossy(&payload).into_owned())),
                );
            }
            _ => {}
        }
    }
}

/// Writes to the caller's own output, past any buffer of the standard library.
fn write_out(kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let to: BorrowedFd<'_> = if kind == Kind::Stdout { stdout.as_fd() } else { stderr.as_fd() };
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(to, rest) {
            Ok(n) => rest = &rest[n..],
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => {
                // Somebody made the caller's pipe or terminal non-blocking.
                let _ = poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends the caller's standard input until it ends or the session does.
fn send_stdin(stop: &OwnedFd, credit: &Credit, outgoing: &Outgoing) {
    carry_stdin(stop, credit, outgoing);
    let _ = outgoing.send_now(Kind::Stdin, &[]);
}

fn carry_stdin(stop: &OwnedFd, credit: &Credit, outgoing: &Outgoing) {
    let stdin = io::stdin();
    let Ok(mut from) = stdin.as_fd().try_clone_to_owned().map(File::from) else {
        return;
    };
    let mut buffer = vec![0; outgoing.chunk()];
    while let Some(room) = credit.take(buffer.len()) {
        // Waiting here, not in the read, so that the end of the session takes no input that is somebody else's.
        let mut waiting = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        while poll(&mut waiting, PollTimeout::NONE) == Err(nix::Error::EINTR) {}
        if waiting[1].revents().is_some_and(|events| !events.is_empty()) {
            return;
        }
        match from.read(&mut buffer[..room]) {
            Ok(0) => return,
            Ok(n) => {
                credit.give(room - n);
                if outgoing.send(Kind::Stdin, &buffer[..n]).is_err() {
                    return;
                }
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
            {
                credit.give(room);
            }
            Err(_) => return,
        }
    }
}

/// Sends these bytes as the command's whole input.
fn send_bytes(mut input: &[u8], credit: &Credit, outgoing: &Outgoing) {
    while !input.is_empty() {
        let Some(room) = credit.take(input.len().min(outgoing.chunk())) else {
            return;
        };
        let (now, later) = input.split_at(room);
        if outgoing.send(Kind::Stdin, now).is_err() {
            return;
        }
        input = later;
    }
    let _ = outgoing.send_now(Kind::Stdin, &[]);
}

fn watch_signals(signals: &OwnedFd, stop: &OwnedFd, events: &Sender<Event>) {
    while let Ok(Some((signal, _))) = signals::next(signals.as_fd(), Some(stop)) {
        let _ = events.send(Event::Signal(signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            kernel: "uml".into(),
            argv: vec!["true".into()],
            env: vec![],
            cwd: "/".into(),
            scratch: "/s".into(),
            layers: "/l".into(),
            over: vec![],
            under: vec![],
            terminal: None,
            now: (0, 0),
        }
    }

    fn limits(boot: u64, command: u64) -> Limits {
        Limits {
            boot: Duration::from_millis(boot),
            command: Some(Duration::from_millis(command)),
            window: 1 << 20,
        }
    }

    /// A guest that does what `act` does once it has been told what to run.
    fn guest(act: impl FnOnce(UnixStream) + Send + 'static) -> UnixStream {
        let (host, mut guest) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            frame::write(&mut guest, Kind::Hello, b"6.1").unwrap();
            assert_eq!(frame::read(&mut guest).unwrap().unwrap().0, Kind::Spec);
            frame::write(&mut guest, Kind::Started, &[]).unwrap();
            act(guest);
        });
        host
    }

    #[test]
    fn outputs_arrive_apart_and_whole_before_the_status() {
        let wire = guest(|mut to| {
            for n in 0..100u8 {
                frame::write(&mut to, Kind::Stdout, &[n; 1000]).unwrap();
                frame::write(&mut to, Kind::Stderr, &[n]).unwrap();
            }
            frame::write(&mut to, Kind::Exit, &3u32.to_le_bytes()).unwrap();
        });
        let ended = run(wire, spec(), Streams::Capture(vec![]), &limits(5000, 5000)).unwrap();
        assert_eq!((ended.code, ended.stdout.len(), ended.stderr.len()), (3, 100_000, 100));
    }

    #[test]
    fn input_waits_for_credit() {
        let wire = guest(|mut wire| {
            let mut total = 0;
            while total < frame::WINDOW {
                total += frame::read(&mut wire).unwrap().unwrap().1.len();
            }
            // Nothing more may be under way until there is credit.
            wire.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!(frame::read(&mut wire).is_err());
            wire.set_read_timeout(None).unwrap();
            frame::write(&mut wire, Kind::Credit, &10u32.to_le_bytes()).unwrap();
            assert_eq!(frame::read(&mut wire).unwrap().unwrap().1.len(), 10);
            frame::write(&mut wire, Kind::Exit, &0u32.to_le_bytes()).unwrap();
        });
        let input = vec![7; frame::WINDOW * 2];
        assert_eq!(
            run(wire, spec(), Streams::Capture(input), &limits(5000, 5000)).unwrap().code,
            0
        );
    }

    #[test]
    fn a_command_that_takes_too_long_has_the_status_of_timeout() {
        let wire = guest(|wire| {
            thread::sleep(Duration::from_secs(2));
            drop(wire);
        });
        assert_eq!(
            run(wire, spec(), Streams::Capture(vec![]), &limits(5000, 50)).unwrap().code,
            TIMED_OUT
        );
    }

    #[test]
    fn a_guest_that_says_nothing_did_not_boot() {
        let (host, _guest) = UnixStream::pair().unwrap();
        let error = run(host, spec(), Streams::Capture(vec![]), &limits(50, 50)).unwrap_err();
        assert!(error.downcast_ref::<DidNotBoot>().is_some());
    }

    #[test]
    fn a_guest_that_ends_without_a_status_is_an_error() {
        let error =
            run(guest(drop), spec(), Streams::Capture(vec![]), &limits(5000, 5000)).unwrap_err();
        assert!(error.to_string().contains("ended while the command ran"));
    }
}
