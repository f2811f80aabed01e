//! Many short requests at a rate, each over a new connection.
//!
//! One thread holds them all, so that one that hangs does not keep the next from its time, and an emulated machine is
//! not kept busy by switching between threads.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, recv, send,
    socket, sockopt,
};

use super::report::{Outcome, Report, Request};
use crate::namespace::Namespace;

/// What is asked.
const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// For how long the client looks at nothing but what is there, so that it sees soon that it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// An answer that is longer is no server's name.
const LONGEST: usize = 64 * 1024;

/// Requests to come.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    /// Whom they are for.
    pub to: SocketAddr,
    /// How many.
    pub number: u32,
    /// How many of them begin within a second, whether or not earlier ones are over.
    pub per_second: f64,
    /// How long each may take.
    pub patience: Duration,
}

impl Requests {
    /// Begins with them, on a thread of its own in this member.
    #[must_use]
    pub fn start(self, from: &Namespace) -> Running {
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&ended));
        // A thread that is started in a namespace stays there.
        let thread = from.enter(|| thread::spawn(move || self.make(&stopped, &count)));
        Running { stop, ended, thread: Some(thread) }
    }

    /// Makes them all, and waits for the last.
    #[must_use]
    pub fn run(self, from: &Namespace) -> Report {
        self.start(from).finish()
    }

    fn make(self, stop: &AtomicBool, ended: &AtomicU32) -> Report {
        let start = Instant::now();
        let due = |n: u32| start + Duration::from_secs_f64(f64::from(n) / self.per_second);
        let mut report = Report::default();
        let mut open: Vec<Connection> = Vec::new();
        let mut next = 0;
        loop {
            let now = Instant::now();
            while next < self.number && due(next) <= now && !stop.load(Ordering::Relaxed) {
                report.late = report.late.max(now - due(next));
                match Connection::open(next, self.to) {
                    Ok(connection) => open.push(connection),
                    Err(request) => report.requests.push(request),
                }
                next += 1;
            }
            let more = next < self.number && !stop.load(Ordering::Relaxed);
            if !more && open.is_empty() {
                break;
            }
            let mut wait = LOOK;
            if more {
                wait = wait.min(due(next).saturating_duration_since(Instant::now()));
            }
            self.look(&mut open, &mut report, wait);
            ended.store(report.requests.len() as u32, Ordering::Relaxed);
        }
        report.requests.sort_by_key(|request| request.number);
        ended.store(report.requests.len() as u32, Ordering::Relaxed);
        report
    }

    /// Waits for any of them, and takes out those that are over.
    fn look(self, open: &mut Vec<Connection>, report: &mut Report, wait: Duration) {
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|connection| {
                let events = match connection.connected {
                    None => PollFlags::POLLOUT,
                    Some(_) => PollFlags::POLLIN,
                };
                PollFd::new(connection.fd.as_fd(), events)
            })
            .collect();
        // Up to the whole millisecond above, so that it does not spin.
        let milliseconds = wait.as_micros().div_ceil(1000) as u16;
        let polled = poll(&mut fds, PollTimeout::from(milliseconds));
        let happened: Vec<bool> = fds
            .iter()
            .map(|fd| polled.is_ok() && fd.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        let now = Instant::now();
        let mut happened = happened.into_iter();
        open.retain_mut(|connection| {
            let outcome = match happened.next() {
                Some(true) => connection.step(now),
                _ => None,
            };
            let patient = now.saturating_duration_since(connection.started) < self.patience;
            let outcome = outcome.or_else(|| (!patient).then_some(Outcome::TimedOut));
            report.requests.extend(outcome.clone().map(|outcome| connection.over(outcome)));
            outcome.is_none()
        });
    }
}

/// Requests that are being made; they are given up when this is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU32>,
    thread: Option<JoinHandle<Report>>,
}

impl Running {
    /// How many are over so far.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits for the last of them.
    ///
    /// # Panics
    /// With the client.
    #[must_use]
    pub fn finish(mut self) -> Report {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => report,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Report::default(),
        }
    }

    /// Begins no more of them, and waits for those that have begun.
    ///
    /// # Panics
    /// With the client.
    #[must_use]
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A request that has begun.
struct Connection {
    fd: OwnedFd,
    number: u32,
    started: Instant,
    connected: Option<Instant>,
    answer: Vec<u8>,
}

impl Connection {
    fn open(number: u32, to: SocketAddr) -> Result<Connection, Request> {
        let started = Instant::now();
        let over =
            |outcome| Request { number, started, connected: None, ended: Instant::now(), outcome };
        let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Stream, flags, None).map_err(|e| over(failed(e)))?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {
                Ok(Connection { fd, number, started, connected: None, answer: Vec::new() })
            }
            Err(errno) => Err(over(failed(errno))),
        }
    }

    /// Goes on after the kernel has said that there is something; its outcome, if it is over.
    fn step(&mut self, now: Instant) -> Option<Outcome> {
        if self.connected.is_none() {
            match getsockopt(&self.fd, sockopt::SocketError) {
                Ok(0) => self.connected = Some(now),
                Ok(errno) => return Some(failed(Errno::from_raw(errno))),
                Err(errno) => return Some(failed(errno)),
            }
            let sent = send(self.fd.as_raw_fd(), QUESTION, MsgFlags::MSG_NOSIGNAL);
            return sent.err().map(failed);
        }
        let mut buffer = [0; 4096];
        match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => Some(read_answer(&self.answer)),
            Ok(length) => {
                self.answer.extend(&buffer[..length]);
                let long = self.answer.len() > LONGEST;
                long.then(|| Outcome::Failed("an endless answer".to_owned()))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(errno) => Some(failed(errno)),
        }
    }

    fn over(&self, outcome: Outcome) -> Request {
        let ended = Instant::now();
        let Connection { number, started, connected, .. } = *self;
        Request { number, started, connected, ended, outcome }
    }
}

fn failed(errno: Errno) -> Outcome {
    match errno {
        Errno::ECONNREFUSED => Outcome::Refused,
        Errno::ECONNRESET | Errno::EPIPE => Outcome::Reset,
        Errno::ETIMEDOUT => Outcome::TimedOut,
        _ => Outcome::Failed(io::Error::from(errno).to_string()),
    }
}

/// The server's name, which is all that its page says.
fn read_answer(answer: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Outcome::Failed(format!("an answer that is cut off: {text:?}"));
    };
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Outcome::Served(body.trim_end().to_owned()),
        _ => Outcome::Failed(format!("the server says {line:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_name_on_a_page_and_nothing_less() {
        let page = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nn1\r\n";
        assert_eq!(read_answer(page), Outcome::Served("n1".to_owned()));
        for bad in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 Sorry\r\n\r\nsorry"] {
            assert!(matches!(read_answer(bad), Outcome::Failed(_)), "{bad:?}");
        }
    }

    #[test]
    fn errors_of_the_kernel_are_what_a_client_calls_them() {
        assert_eq!(failed(Errno::ECONNREFUSED), Outcome::Refused);
        assert_eq!(failed(Errno::ECONNRESET), Outcome::Reset);
        assert_eq!(failed(Errno::ETIMEDOUT), Outcome::TimedOut);
        assert!(matches!(failed(Errno::EHOSTUNREACH), Outcome::Failed(_)));
    }
}
