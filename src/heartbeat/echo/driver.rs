//! The sockets that ask machines for an echo.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};
use socket2::{Domain, Protocol, Type};

use super::state::{EchoAsked, OpenEcho};
use super::wire::{EchoAccess, EchoFamily, Token, reply, request};
use crate::clock::Instant;

/// Most packets that one call takes from each socket.
const AT_ONCE: usize = 256;

/// Why no machine can be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot ask machines for an echo: {0}: this needs root (CAP_NET_RAW), or a \
     net.ipv4.ping_group_range that contains cvipd's group"
)]
pub struct EchoError(#[from] io::Error);

/// Asks machines, and remembers which answered.
#[derive(Debug)]
pub struct EchoProber {
    sockets: Vec<EchoSocket>,
    asked: EchoAsked,
    /// What raw sockets tell their answers by; the kernel puts its own into ping sockets'.
    identifier: u16,
}

#[derive(Debug)]
struct EchoSocket {
    socket: socket2::Socket,
    family: EchoFamily,
    access: EchoAccess,
}

impl EchoProber {
    /// Opens sockets for both families in the calling thread's network namespace. A kernel
    /// without IPv6 is fine.
    ///
    /// # Errors
    /// Neither kind of socket may be opened.
    pub fn open() -> Result<EchoProber, EchoError> {
        let mut sockets = Vec::new();
        for family in [EchoFamily::V4, EchoFamily::V6] {
            match open(family) {
                Ok((socket, access)) => sockets.push(EchoSocket { socket, family, access }),
                Err(error)
                    if family == EchoFamily::V6
                        && error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut identifier = [0; 2];
        getrandom::fill(&mut identifier).map_err(io::Error::from)?;
        let identifier = u16::from_ne_bytes(identifier);
        Ok(EchoProber { sockets, asked: EchoAsked::default(), identifier })
    }

    /// What kind of socket asks machines of this address's family; none if the kernel does not
    /// know the family.
    #[cfg(feature = "internal")]
    pub fn access(&self, addr: IpAddr) -> Option<EchoAccess> {
        self.socket(EchoFamily::of(addr)).map(|socket| socket.access)
    }

    /// The descriptors whose readability asks for [`EchoProber::receive`].
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.socket.as_fd()).collect()
    }

    /// Asks a machine, once. False if the question could not be sent: there is no way there now,
    /// or the kernel's buffer is full.
    pub fn probe(&mut self, addr: IpAddr, now: Instant) -> bool {
        let mut token = Token::default();
        if getrandom::fill(&mut token).is_err() {
            return false;
        }
        let family = EchoFamily::of(addr);
        let sequence = self.asked.next_sequence();
        let request = request(family, self.identifier, sequence, token);
        let Some(socket) = self.socket(family) else {
            return false;
        };
        let sent = send(&socket.socket, &request, addr).is_ok();
        if sent {
            self.asked.sent(addr, OpenEcho { sequence, token, at: now });
        }
        sent
    }

    /// Takes the answers that have arrived; gives the machines that answered.
    pub fn receive(&mut self) -> Vec<IpAddr> {
        let mut answered = Vec::new();
        let mut buffer = [0; 256];
        for EchoSocket { socket, family, access } in &self.sockets {
            for _ in 0..AT_ONCE {
                let (length, from) =
                    match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
                        Ok((length, Some(from))) => (length, from),
                        Ok((_, None)) | Err(Errno::EINTR) => continue,
                        // Nothing more; and what is no good now is found out by the silence.
                        Err(_) => break,
                    };
                let answer = ip(&from)
                    .zip(reply(*family, *access, self.identifier, &buffer[..length]))
                    .filter(|(from, (sequence, token))| {
                        self.asked.answered(*from, *sequence, *token)
                    });
                answered.extend(answer.map(|(from, _)| from));
            }
        }
        answered
    }

    /// When the newest question that a machine has answered was asked: it was alive then, or
    /// later. (When the answer came says less: it may have waited here.)
    pub fn answered(&self, addr: IpAddr) -> Option<Instant> {
        self.asked.answered_at(addr)
    }

    /// Forgets a machine, its questions and its answers.
    pub fn forget(&mut self, addr: IpAddr) {
        self.asked.forget(addr);
    }

    fn socket(&self, family: EchoFamily) -> Option<&EchoSocket> {
        self.sockets.iter().find(|socket| socket.family == family)
    }
}

fn open(family: EchoFamily) -> io::Result<(socket2::Socket, EchoAccess)> {
    let (domain, protocol) = match family {
        EchoFamily::V4 => (Domain::IPV4, Protocol::ICMPV4),
        EchoFamily::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let new =
        |kind: Type| socket2::Socket::new(domain, kind.cloexec().nonblocking(), Some(protocol));
    match new(Type::DGRAM) {
        Ok(socket) => Ok((socket, EchoAccess::Ping)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            new(Type::RAW).map(|socket| (socket, EchoAccess::Raw))
        }
        Err(error) => Err(error),
    }
}

fn send(socket: &socket2::Socket, packet: &[u8], to: IpAddr) -> Result<(), Errno> {
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    loop {
        match sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

fn ip(from: &SockaddrStorage) -> Option<IpAddr> {
    match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => Some(v4.ip().into()),
        (_, Some(v6)) => Some(v6.ip().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Needs root where `net.ipv4.ping_group_range` forbids ping sockets.
    #[test]
    fn this_machine_answers_itself() {
        let mut prober = EchoProber::open().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        for addr in [addr("127.0.0.1"), addr("127.0.0.2"), addr("::1")] {
            assert_eq!(prober.answered(addr), None);
            let now = Instant::now();
            assert!(prober.probe(addr, now), "{addr}");
            let mut answered = Vec::new();
            while answered.is_empty() {
                let mut fds: Vec<PollFd<'_>> =
                    prober.fds().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                poll(&mut fds, 100u16).unwrap();
                drop(fds);
                answered = prober.receive();
                assert!(Instant::now() < deadline, "{addr} by {:?}", prober.access(addr));
            }
            assert_eq!((answered, prober.answered(addr)), (vec![addr], Some(now)));
            prober.forget(addr);
            assert_eq!(prober.answered(addr), None);
        }
    }
}
