//! ICMP and ICMPv6 echo to many machines at once: is a machine's kernel alive, with only its cvipd
//! down?
//!
//! An answer counts only if it comes from the machine that was asked and repeats a sequence
//! number and 16 random bytes of a question that is still open: an attacker who has not seen the
//! question cannot forge it. Nothing here waits, and nothing is repeated by itself: the caller asks
//! as often as it wants to know.
//!
//! Sockets for this need no privilege where `net.ipv4.ping_group_range` contains the caller's
//! group (icmp(7)); where not, raw sockets do.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};
use socket2::{Domain, Protocol, Type};

use crate::net::internet_checksum;

/// So many questions to one machine stay open; of more, the oldest is given up.
const OPEN: usize = 8;
/// Most packets that one call takes from each socket.
const AT_ONCE: usize = 256;
/// An ICMP header: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Random bytes of one question.
type Token = [u8; 16];

named! {
    /// What makes an answer possible.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum EchoAccess {
        /// A ping socket, which needs no privilege.
        Ping = "ping socket",
        /// A raw socket (CAP_NET_RAW), since `net.ipv4.ping_group_range` forbids the other.
        Raw = "raw socket",
    }
}

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

/// ICMP's or ICMPv6's numbers (RFC 792; RFC 4443, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EchoFamily {
    V4,
    V6,
}

impl EchoFamily {
    fn of(addr: IpAddr) -> EchoFamily {
        if addr.is_ipv4() { EchoFamily::V4 } else { EchoFamily::V6 }
    }

    fn request(self) -> u8 {
        match self {
            EchoFamily::V4 => 8,
            EchoFamily::V6 => 128,
        }
    }

    fn reply(self) -> u8 {
        match self {
            EchoFamily::V4 => 0,
            EchoFamily::V6 => 129,
        }
    }
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
        self.asked.targets.get(&addr)?.answered
    }

    /// Forgets a machine, its questions and its answers.
    pub fn forget(&mut self, addr: IpAddr) {
        self.asked.targets.remove(&addr);
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

/// An echo request. The kernel computes ICMPv6's checksum, and both in ping sockets.
fn request(family: EchoFamily, identifier: u16, sequence: u16, token: Token) -> Vec<u8> {
    let mut packet = vec![family.request(), 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(token);
    if family == EchoFamily::V4 {
        let checksum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// Sequence number and token of what may be an answer. Any bytes may come.
fn reply(
    family: EchoFamily,
    access: EchoAccess,
    identifier: u16,
    packet: &[u8],
) -> Option<(u16, Token)> {
    let icmp = match (family, access) {
        // A raw IPv4 socket gives the IP header too (raw(7)).
        (EchoFamily::V4, EchoAccess::Raw) => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            packet.get(header..)?
        }
        _ => packet,
    };
    let (header, payload) = icmp.split_first_chunk::<HEADER>()?;
    let ours = access == EchoAccess::Ping || header[4..6] == identifier.to_be_bytes();
    if header[0] != family.reply() || header[1] != 0 || !ours {
        return None;
    }
    Some((u16::from_be_bytes([header[6], header[7]]), payload.try_into().ok()?))
}

/// What was asked of whom: pure.
#[derive(Debug, Default)]
struct EchoAsked {
    targets: BTreeMap<IpAddr, EchoTarget>,
    sequence: u16,
}

#[derive(Debug, Default)]
struct EchoTarget {
    open: VecDeque<OpenEcho>,
    answered: Option<Instant>,
}

/// A question without an answer.
#[derive(Clone, Copy, Debug)]
struct OpenEcho {
    sequence: u16,
    token: Token,
    at: Instant,
}

impl EchoAsked {
    fn next_sequence(&mut self) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn sent(&mut self, addr: IpAddr, question: OpenEcho) {
        let open = &mut self.targets.entry(addr).or_default().open;
        if open.len() == OPEN {
            open.pop_front();
        }
        open.push_back(question);
    }

    /// Whether this answers an open question; closes it.
    fn answered(&mut self, from: IpAddr, sequence: u16, token: Token) -> bool {
        let Some(target) = self.targets.get_mut(&from) else {
            return false;
        };
        let asked = |open: &OpenEcho| open.sequence == sequence && open.token == token;
        let Some(question) = target.open.iter().position(asked) else {
            return false;
        };
        let question = target.open.remove(question).expect("it was just found");
        target.answered = target.answered.max(Some(question.at));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, poll};
    use proptest::prelude::*;

    use super::*;

    const TOKEN: Token = *b"sixteen letters.";

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_these_bytes() {
        let expected = [
            &[8, 0][..],         // echo request, code
            &[0x8d, 0x95],       // checksum
            &[0x12, 0x34],       // identifier
            &[0, 7],             // sequence number
            b"sixteen letters.", // token
        ]
        .concat();
        let packet = request(EchoFamily::V4, 0x1234, 7, TOKEN);
        assert_eq!(packet[4..], expected[4..]);
        assert_eq!(internet_checksum(&packet), 0, "{packet:x?}");
        let packet = request(EchoFamily::V6, 0x1234, 7, TOKEN);
        assert_eq!(packet, [&[128, 0, 0, 0][..], &expected[4..]].concat());
    }

    #[test]
    fn only_a_reply_of_the_right_kind_to_the_right_identifier_is_read() {
        let mut icmp = request(EchoFamily::V4, 0x1234, 7, TOKEN);
        icmp[0] = 0;
        let with_header = |first: u8, words: usize| {
            let mut packet = vec![0; words * 4];
            packet[0] = first;
            packet.extend(&icmp);
            packet
        };
        let read =
            |access, identifier, packet: &[u8]| reply(EchoFamily::V4, access, identifier, packet);
        let expected = Some((7, TOKEN));
        assert_eq!(read(EchoAccess::Raw, 0x1234, &with_header(0x45, 5)), expected);
        assert_eq!(read(EchoAccess::Raw, 0x1234, &with_header(0x4f, 15)), expected, "IP options");
        assert_eq!(read(EchoAccess::Raw, 0x1235, &with_header(0x45, 5)), None);
        assert_eq!(read(EchoAccess::Raw, 0x1234, &with_header(0x46, 5)), None);
        // A ping socket only gets its own, under an identifier of the kernel's choice.
        assert_eq!(read(EchoAccess::Ping, 0, &icmp), expected);
        assert_eq!(read(EchoAccess::Ping, 0, &icmp[..icmp.len() - 1]), None);
        assert_eq!(reply(EchoFamily::V6, EchoAccess::Ping, 0, &icmp), None);
        icmp[0] = 3;
        assert_eq!(read(EchoAccess::Ping, 0, &icmp), None, "unreachable is no answer");
    }

    #[test]
    fn an_answer_counts_once_from_the_machine_that_was_asked_with_what_was_asked() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut asked = EchoAsked::default();
        let (one, other) = (addr("10.0.0.1"), addr("10.0.0.2"));
        asked.sent(one, OpenEcho { sequence: 1, token: TOKEN, at: now });
        asked.sent(one, OpenEcho { sequence: 2, token: [2; 16], at: later });
        asked.sent(other, OpenEcho { sequence: 3, token: [3; 16], at: now });
        assert!(!asked.answered(other, 1, TOKEN), "somebody else");
        assert!(!asked.answered(one, 1, [0; 16]), "a guess");
        assert!(!asked.answered(one, 2, TOKEN), "another question's token");
        assert!(!asked.answered(addr("10.0.0.3"), 1, TOKEN), "nobody asked");
        assert_eq!(asked.targets[&one].answered, None);
        assert!(asked.answered(one, 2, [2; 16]));
        assert!(asked.answered(one, 1, TOKEN), "late, but an answer");
        assert_eq!(asked.targets[&one].answered, Some(later));
        assert!(!asked.answered(one, 1, TOKEN), "again");
        assert_eq!(asked.targets[&other].answered, None);
    }

    #[test]
    fn a_machine_that_never_answers_costs_no_more_with_time() {
        let now = Instant::now();
        let mut asked = EchoAsked::default();
        for sequence in 0..1000 {
            asked.sent(addr("10.0.0.1"), OpenEcho { sequence, token: TOKEN, at: now });
        }
        assert_eq!(asked.targets[&addr("10.0.0.1")].open.len(), OPEN);
        assert!(!asked.answered(addr("10.0.0.1"), 0, TOKEN), "given up");
        assert!(asked.answered(addr("10.0.0.1"), 999, TOKEN));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            v4: bool, raw: bool,
        ) {
            let family = if v4 { EchoFamily::V4 } else { EchoFamily::V6 };
            let access = if raw { EchoAccess::Raw } else { EchoAccess::Ping };
            let _ = reply(family, access, 7, &bytes);
        }
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
