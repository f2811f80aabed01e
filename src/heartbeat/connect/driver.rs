//! The sockets that connect to listeners.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::state::{ConnectQueue, UNDER_WAY};
use crate::clock::Instant;
use crate::serial::errno;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectOutcome {
    /// There is a listener that takes connections.
    Open,
    /// The machine says that there is no listener.
    Refused,
    /// No answer in time: the machine is gone, or the listener's queue is full.
    TimedOut,
    /// There is no way to the machine, says the network.
    Unreachable,
    /// This machine could not try: nothing is known.
    Untried(#[serde(with = "errno")] Errno),
}

/// Asks listeners, many at once.
#[derive(Debug)]
pub struct ConnectProber {
    epoll: Epoll,
    queue: ConnectQueue,
    /// Of the attempts that are under way, by their numbers.
    sockets: HashMap<u64, Socket>,
}

impl ConnectProber {
    /// Each attempt is given so much time, from when its turn has come.
    ///
    /// # Errors
    /// This process can open no more files.
    pub fn new(patience: Duration) -> io::Result<ConnectProber> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(ConnectProber { epoll, queue: ConnectQueue::new(patience), sockets: HashMap::new() })
    }

    /// Asks whether there is a listener, in the network namespace of the thread that calls
    /// [`ConnectProber::step`]. A listener that is being asked is not asked twice.
    pub fn probe(&mut self, target: SocketAddr) {
        self.queue.add(target);
    }

    /// The descriptor whose readability asks for a step.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// How long a step may wait; none: until there is something to ask.
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        self.queue.timeout(now)
    }

    /// Begins attempts whose turn has come, and gives those that ended.
    pub fn step(&mut self, now: Instant) -> Vec<(SocketAddr, ConnectOutcome)> {
        let mut ended = self.answers();
        for number in self.queue.late(now) {
            self.sockets.remove(&number);
            ended.extend(self.queue.end(number).map(|target| (target, ConnectOutcome::TimedOut)));
        }
        while let Some((number, target)) = self.queue.begin(now) {
            match self.connect(number, target) {
                Ok(socket) => drop(self.sockets.insert(number, socket)),
                Err(error) => {
                    self.queue.end(number);
                    ended.push((target, failure(&error)));
                }
            }
        }
        ended
    }

    fn answers(&mut self) -> Vec<(SocketAddr, ConnectOutcome)> {
        let mut events = [EpollEvent::empty(); UNDER_WAY];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let answered = events[..ready].iter().filter_map(|event| {
            let socket = self.sockets.remove(&event.data())?;
            Some((self.queue.end(event.data())?, outcome(&socket)))
        });
        answered.collect()
    }

    fn connect(&self, number: u64, target: SocketAddr) -> io::Result<Socket> {
        let kind = Type::STREAM.cloexec().nonblocking();
        let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_tcp_quickack(false)?;
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLOUT, number))?;
        Ok(socket)
    }
}

/// The outcome of an attempt that has ended.
fn outcome(socket: &Socket) -> ConnectOutcome {
    match socket.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return failure(&error),
    }
    // Where this host has no listener on the port, and the kernel chose the same port for this
    // end, the socket is connected with itself (RFC 9293, 3.5: simultaneous open).
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) if local.as_socket() == peer.as_socket() => ConnectOutcome::Refused,
        (_, Err(error)) => failure(&error),
        _ => ConnectOutcome::Open,
    }
}

fn failure(error: &io::Error) -> ConnectOutcome {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => ConnectOutcome::Refused,
        Some(Errno::ETIMEDOUT) => ConnectOutcome::TimedOut,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN) => {
            ConnectOutcome::Unreachable
        }
        Some(errno) => ConnectOutcome::Untried(errno),
        None => ConnectOutcome::Untried(Errno::UnknownErrno),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;

    use nix::poll::{PollFd, PollFlags, ppoll};
    use nix::sys::time::TimeSpec;

    use super::*;

    /// Asks until all have ended; the most that were under way at once.
    fn ask(
        prober: &mut ConnectProber,
        targets: &[SocketAddr],
    ) -> (BTreeMap<SocketAddr, ConnectOutcome>, usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        targets.iter().for_each(|target| prober.probe(*target));
        let (mut ended, mut most) = (BTreeMap::new(), 0);
        while ended.len() < targets.len() {
            let now = Instant::now();
            assert!(now < deadline, "{ended:?}");
            for (target, outcome) in prober.step(now) {
                assert_eq!(ended.insert(target, outcome), None, "{target} ended twice");
            }
            most = most.max(prober.sockets.len());
            let timeout = prober.timeout(Instant::now()).map(TimeSpec::from);
            if ended.len() < targets.len() {
                let mut fds = [PollFd::new(prober.fd(), PollFlags::POLLIN)];
                ppoll(&mut fds, timeout, None).unwrap();
            }
        }
        assert_eq!(prober.timeout(Instant::now()), None, "nothing is left");
        assert!(prober.sockets.is_empty());
        (ended, most)
    }

    fn patient() -> ConnectProber {
        ConnectProber::new(Duration::from_secs(30)).unwrap()
    }

    fn listeners() -> [TcpListener; 2] {
        ["127.0.0.1:0", "[::1]:0"].map(|addr| TcpListener::bind(addr).unwrap())
    }

    #[test]
    fn a_listener_is_open_and_its_program_is_not_woken() {
        for listener in listeners() {
            listener.set_nonblocking(true).unwrap();
            let target = listener.local_addr().unwrap();
            assert_eq!(ask(&mut patient(), &[target]).0[&target], ConnectOutcome::Open);
            let error = listener.accept().expect_err("no connection came in");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn without_a_listener_it_is_refused() {
        for listener in listeners() {
            let target = listener.local_addr().unwrap();
            drop(listener);
            assert_eq!(ask(&mut patient(), &[target]).0[&target], ConnectOutcome::Refused);
        }
    }

    #[test]
    fn many_are_asked_at_once_but_not_all() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let targets: Vec<SocketAddr> =
            (1..=200).map(|host| SocketAddr::from(([127, 0, 1, host], port))).collect();
        let (ended, most) = ask(&mut patient(), &targets);
        assert!(ended.values().all(|outcome| *outcome == ConnectOutcome::Open), "{ended:?}");
        assert!(most <= UNDER_WAY && most > 1, "{most} at once");
    }

    #[test]
    fn a_full_queue_is_silent_when_patience_ends() {
        // A queue of one, and connections that are not accepted.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let target = socket.local_addr().unwrap().as_socket().unwrap();
        let _queued = std::net::TcpStream::connect(target).unwrap();
        let mut prober = ConnectProber::new(Duration::from_millis(50)).unwrap();
        assert_eq!(ask(&mut prober, &[target]).0[&target], ConnectOutcome::TimedOut);
    }

    #[test]
    fn a_listener_may_be_asked_again() {
        let [listener, _] = listeners();
        let target = listener.local_addr().unwrap();
        let mut prober = patient();
        for _ in 0..2 {
            assert_eq!(ask(&mut prober, &[target]).0[&target], ConnectOutcome::Open);
        }
    }

    #[test]
    fn what_cannot_be_tried_says_so() {
        // No connection leads to a multicast address.
        let target = "[ff02::1]:80".parse().unwrap();
        let (ended, _) = ask(&mut patient(), &[target]);
        assert!(
            matches!(ended[&target], ConnectOutcome::Untried(_) | ConnectOutcome::Unreachable),
            "{ended:?}"
        );
    }
}
