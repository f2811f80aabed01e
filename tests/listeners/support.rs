//! What the tests of listeners share: a network of their own, sockets made by hand, and
//! a poll loop as a node has it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cvip::listeners::{Listener, ListenerWatch, Ranges};
use cvip::protocol::Protocol;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeSpec;

use cvip::clock::Instant;

/// Ports of a flag that the tests' sockets are in.
pub(crate) const FLAGGED: u16 = 8000;

/// Runs a test in a network namespace of its own, with the loopback interface up.
pub(crate) fn in_own_network<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    cvip_lab::in_new_network(test).unwrap_or_else(|error| panic!("{error:#}"))
}

pub(crate) fn tcp(start: u16, end: u16) -> Ranges {
    [(Protocol::Tcp, start, end)].into_iter().collect()
}

pub(crate) fn udp(start: u16, end: u16) -> Ranges {
    [(Protocol::Udp, start, end)].into_iter().collect()
}

/// A socket that is not yet bound.
pub(crate) fn raw(v6: bool, kind: SockType) -> OwnedFd {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

/// An MPTCP socket, as Go's servers have since Go 1.24; `None` if this kernel has no MPTCP.
pub(crate) fn mptcp() -> Option<OwnedFd> {
    const IPPROTO_MPTCP: libc::c_int = 262;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes no pointer. nix has no word for this protocol.
    #[allow(unsafe_code)]
    let fd = unsafe { libc::socket(libc::AF_INET, kind, IPPROTO_MPTCP) };
    match Errno::result(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        #[allow(unsafe_code)]
        Ok(fd) => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(errno) => {
            assert!(!Path::new("/proc/sys/net/mptcp").exists(), "{errno}");
            eprintln!("this kernel has no MPTCP ({errno}): nothing to hear");
            None
        }
    }
}

pub(crate) fn bind_to(socket: &OwnedFd, to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
}

/// Two TCP sockets that are bound to one flagged port: only one of them can listen.
pub(crate) fn two_on_one_port() -> (OwnedFd, OwnedFd) {
    let bound = || {
        let socket = raw(false, SockType::Stream);
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        bind_to(&socket, &format!("0.0.0.0:{FLAGGED}"));
        socket
    };
    (bound(), bound())
}

pub(crate) fn listen_with(socket: &OwnedFd, backlog: i32) -> Result<(), Errno> {
    listen(socket, Backlog::new(backlog).unwrap())
}

/// What a watch sees, brought about as a node's poll loop would.
pub(crate) struct Seen {
    pub(crate) watch: ListenerWatch,
}

impl Seen {
    /// With the best socket events, or with none.
    pub(crate) fn new(socket_events: bool, ranges: Ranges) -> Seen {
        let now = Instant::now();
        let mut watch = if socket_events {
            ListenerWatch::open(now).unwrap()
        } else {
            ListenerWatch::polling(now, "a test wants it").unwrap()
        };
        if socket_events {
            assert!(watch.fd().is_some(), "no socket events here: {}", watch.source());
        }
        watch.set_ranges(now, ranges);
        watch.step(now);
        Seen { watch }
    }

    /// Waits once, at most this long, and takes a step; true if the set changed.
    pub(crate) fn wait(&mut self, longest: Duration) -> bool {
        let timeout = self.watch.poll_timeout(Instant::now()).unwrap_or(longest).min(longest);
        let mut fds: Vec<_> =
            self.watch.fd().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        ppoll(&mut fds, Some(TimeSpec::from(timeout)), Some(SigSet::empty())).unwrap();
        self.watch.step(Instant::now()).is_some()
    }

    /// Goes on until the ports that listen are these, and says how often the set changed.
    pub(crate) fn until(&mut self, ports: &[u16]) -> usize {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut changes = 0;
        while self.ports() != ports {
            assert!(Instant::now() < deadline, "{:?} after 10 s, not {ports:?}", self.ports());
            changes += usize::from(self.wait(Duration::from_secs(1)));
        }
        changes
    }

    /// Goes on for so long; how often the set changed. Two polls fit into half a second.
    pub(crate) fn changes_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut changes = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return changes;
            }
            changes += usize::from(self.wait(left));
        }
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.watch.observed().iter().map(|l| l.port).collect()
    }

    pub(crate) fn only(&self) -> Listener {
        match self.watch.observed() {
            [one] => *one,
            all => panic!("not one listener: {all:?}"),
        }
    }
}

/// Two polls and what a busy machine takes on top.
pub(crate) const TWO_POLLS: Duration = Duration::from_millis(500);

/// Runs a scenario with socket events and once more by polling alone: the result must be the same.
pub(crate) fn with_and_without_socket_events(
    ranges: Ranges,
    scenario: impl Fn(Seen) + Send + Sync,
) {
    for socket_events in [true, false] {
        in_own_network(|| scenario(Seen::new(socket_events, ranges.clone())));
    }
}
