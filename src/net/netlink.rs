//! rtnetlink(7), as little of it as addresses and links need: framing, and one conversation at
//! a time.
//!
//! Parsing is pure and bounded by the datagram; what the kernel says that this program does not
//! know is skipped, and what is cut short is an error.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::Error;

/// The kernel fills at most 32 KiB at a time (af_netlink.c, `netlink_dump`).
const BUFFER: usize = 64 * 1024;
/// The kernel answers within our own system call, so a wait means that an answer was lost.
const PATIENCE_SECONDS: i64 = 5;
/// How often a dump is begun again when the kernel says that it was disturbed.
const ATTEMPTS: u32 = 5;

/// `struct nlmsghdr` (linux/netlink.h): length, type, flags, sequence, port.
const HEADER: usize = 16;
/// `struct nlattr`: length, type.
const ATTRIBUTE: usize = 4;
/// Message types below `NLMSG_MIN_TYPE`.
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const FIRST_OF_FAMILY: u16 = 16;

pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(super) const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub(super) const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// `NLM_F_DUMP_INTR`: the list changed while it was dumped.
const INTERRUPTED: u16 = 0x10;

/// An answer that was cut short; says which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Error {
        Error::Malformed(malformed.0)
    }
}

fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// Attributes under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds an attribute; its value is a few bytes (an address, a number, a name).
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Attributes {
        debug_assert!(value.len() < 256, "no attribute of this room is longer");
        self.0.extend_from_slice(&((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// Their bytes, to stand in another attribute.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A request under construction: the family's fixed header, then attributes.
#[derive(Clone, Debug)]
pub(super) struct Request(Attributes);

impl Request {
    /// Begins a message of this type.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        bytes.resize(align(bytes.len()), 0);
        Request(Attributes(bytes))
    }

    /// Adds an attribute.
    pub(super) fn attribute(self, kind: u16, value: &[u8]) -> Request {
        Request(self.0.attribute(kind, value))
    }

    /// The finished message.
    pub(super) fn finish(&self, extra_flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = self.0.bytes().to_vec();
        let flags = u16::from_ne_bytes([bytes[6], bytes[7]]) | extra_flags;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// The messages of a datagram, one by one; an error ends them.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = message(rest).ok_or(Malformed("a message that is cut short"));
        rest = match message {
            Ok(Message { body, .. }) => rest.get(align(HEADER + body.len())..).unwrap_or(&[]),
            Err(_) => &[],
        };
        Some(message)
    })
}

fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    Some(Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body: bytes.get(HEADER..length)?,
    })
}

/// The attributes of a message, one by one (type without its flags, value); an error ends them.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let attribute = attribute(rest).ok_or(Malformed("an attribute that is cut short"));
        rest = match attribute {
            Ok((_, value)) => rest.get(align(ATTRIBUTE + value.len())..).unwrap_or(&[]),
            Err(_) => &[],
        };
        Some(attribute)
    })
}

fn attribute(bytes: &[u8]) -> Option<(u16, &[u8])> {
    /// `NLA_TYPE_MASK`.
    const TYPE: u16 = 0x3fff;
    let length = usize::from(u16_at(bytes, 0)?);
    Some((u16_at(bytes, 2)? & TYPE, bytes.get(ATTRIBUTE..length)?))
}

/// 16 bits in host order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// 32 bits in host order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What an answer means to the conversation.
#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    /// A row of a dump.
    Row(Message<'a>),
    /// The end of a dump, or an acknowledgement.
    Done,
    /// Refused with this errno.
    Refused(Errno),
    /// Nothing that concerns the request.
    Other,
}

fn answer<'a>(message: Message<'a>, sequence: u32) -> Result<Answer<'a>, Malformed> {
    if message.sequence != sequence {
        return Ok(Answer::Other);
    }
    match message.kind {
        // The body begins with a negative errno, 0 for an acknowledgement; old kernels' DONE
        // may have none.
        ERROR | DONE => {
            let errno = match u32_at(message.body, 0) {
                Some(errno) => errno as i32,
                None if message.kind == DONE => 0,
                None => return Err(Malformed("an error that is cut short")),
            };
            Ok(match errno.checked_neg() {
                Some(0) => Answer::Done,
                Some(errno) => Answer::Refused(Errno::from_raw(errno)),
                None => Answer::Refused(Errno::UnknownErrno),
            })
        }
        kind if kind < FIRST_OF_FAMILY => Ok(Answer::Other),
        _ => Ok(Answer::Row(message)),
    }
}

/// A refusal, or why there was no answer at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The kernel's word to this request.
    Refused(Errno),
    /// Everything else.
    Broken(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Broken(error)
    }
}

impl From<Malformed> for Trouble {
    fn from(malformed: Malformed) -> Trouble {
        Trouble::Broken(malformed.into())
    }
}

/// An rtnetlink socket, and with it the network namespace in which its thread opened it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens the socket in the calling thread's network namespace. Needs no privilege.
    pub(super) fn open() -> Result<Socket, Error> {
        let failed = |errno| Error::Socket { kind: "netlink", errno };
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .map_err(failed)?;
        let patience = TimeVal::new(PATIENCE_SECONDS, 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience).map_err(failed)?;
        Ok(Socket { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Makes one change, and waits for the kernel's word.
    pub(super) fn change(&mut self, request: &Request) -> Result<(), Trouble> {
        self.send(request, ACK)?;
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                match answer(message?, self.sequence)? {
                    Answer::Done => return Ok(()),
                    Answer::Refused(errno) => return Err(Trouble::Refused(errno)),
                    Answer::Row(_) | Answer::Other => {}
                }
            }
        }
    }

    /// Asks for one thing: what `row` makes of the answer, `None` if it has none.
    pub(super) fn ask<T>(
        &mut self,
        request: &Request,
        row: impl Fn(Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<T>, Trouble> {
        self.send(request, 0)?;
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                match answer(message?, self.sequence)? {
                    Answer::Row(message) => return Ok(row(message)?),
                    Answer::Done => return Ok(None),
                    Answer::Refused(errno) => return Err(Trouble::Refused(errno)),
                    Answer::Other => {}
                }
            }
        }
    }

    /// Reads a list: what `row` makes of each message. Begins again if the list was disturbed.
    pub(super) fn dump<T>(
        &mut self,
        request: &Request,
        row: impl Fn(Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..ATTEMPTS {
            let mut rows = Vec::new();
            self.send(request, DUMP)?;
            match self.receive_dump(&row, &mut rows) {
                Ok(true) => return Ok(rows),
                Ok(false) | Err(Trouble::Refused(Errno::EBUSY | Errno::EINTR)) => {}
                Err(Trouble::Refused(errno)) => return Err(Error::Transport(errno)),
                Err(Trouble::Broken(error)) => return Err(error),
            }
        }
        Err(Error::Unsettled)
    }

    /// `Ok(false)` if the list was disturbed.
    fn receive_dump<T>(
        &mut self,
        row: &impl Fn(Message<'_>) -> Result<Option<T>, Malformed>,
        rows: &mut Vec<T>,
    ) -> Result<bool, Trouble> {
        let mut undisturbed = true;
        loop {
            let length = match self.receive() {
                // Answers were dropped; the next request tells the stragglers by their number.
                Err(Error::Transport(Errno::ENOBUFS)) => return Ok(false),
                received => received?,
            };
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                match answer(message, self.sequence)? {
                    Answer::Row(message) => rows.extend(row(message)?),
                    Answer::Done => {
                        return Ok(undisturbed && message.flags & INTERRUPTED == 0);
                    }
                    Answer::Refused(errno) => return Err(Trouble::Refused(errno)),
                    Answer::Other => continue,
                }
                undisturbed &= message.flags & INTERRUPTED == 0;
            }
        }
    }

    fn send(&mut self, request: &Request, flags: u16) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(flags, self.sequence);
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendto(self.fd.as_raw_fd(), &bytes, &kernel, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Transport(errno)),
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Error> {
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let fd = self.fd.as_raw_fd();
            match recvmsg::<NetlinkAddr>(fd, &mut parts, None, MsgFlags::empty()) {
                Ok(got) if got.flags.contains(MsgFlags::MSG_TRUNC) => {
                    return Err(Error::Malformed("more than the kernel may send at a time"));
                }
                // Port 0 is the kernel; nobody else has a say here.
                Ok(got) if got.address.is_some_and(|from| from.pid() != 0) => {}
                Ok(got) => return Ok(got.bytes),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Error::Silent),
                Err(errno) => return Err(Error::Transport(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        Request::new(kind, 0, body).finish(0, sequence)
    }

    #[test]
    fn a_request_is_a_header_its_fixed_part_and_padded_attributes() {
        let request = Request::new(20, CREATE, &[2, 32, 0, 0]).attribute(3, b"lo\0");
        let expected = [
            &28u32.to_ne_bytes()[..],                // nlmsg_len
            &20u16.to_ne_bytes(),                    // nlmsg_type
            &(REQUEST | ACK | CREATE).to_ne_bytes(), // nlmsg_flags
            &7u32.to_ne_bytes(),                     // nlmsg_seq
            &0u32.to_ne_bytes(),                     // nlmsg_pid
            &[2, 32, 0, 0],                          // the family's own header
            &7u16.to_ne_bytes(),                     // nla_len
            &3u16.to_ne_bytes(),                     // nla_type
            b"lo\0",                                 // its value
            &[0],                                    // padding
        ]
        .concat();
        assert_eq!(request.finish(ACK, 7), expected);
        let read: Vec<_> = attributes(&expected[20..]).collect();
        assert_eq!(read, [Ok((3, &b"lo\0"[..]))]);
    }

    #[test]
    fn several_messages_of_one_datagram_come_one_by_one() {
        let datagram = [bytes(20, 1, &[1; 4]), bytes(20, 1, &[2; 8])].concat();
        let bodies: Vec<_> = messages(&datagram).map(|m| m.unwrap().body.to_vec()).collect();
        assert_eq!(bodies, [vec![1; 4], vec![2; 8]]);
    }

    #[test]
    fn a_length_that_lies_is_an_error_and_ends_the_list() {
        for length in [0u32, 15, 21, u32::MAX] {
            let mut datagram = bytes(20, 1, &[1; 4]);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            let all: Vec<_> = messages(&datagram).collect();
            assert_eq!(all, [Err(Malformed("a message that is cut short"))], "{length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let body = [length.to_ne_bytes(), [1, 0], [5; 2], [5; 2]].concat();
            let all: Vec<_> = attributes(&body).collect();
            assert_eq!(all, [Err(Malformed("an attribute that is cut short"))], "{length}");
        }
    }

    #[test]
    fn an_answer_to_another_request_is_none_to_this_one() {
        let refusal = bytes(ERROR, 4, &(-libc::EPERM).to_ne_bytes());
        let message = message(&refusal).unwrap();
        assert_eq!(answer(message, 5), Ok(Answer::Other));
        assert_eq!(answer(message, 4), Ok(Answer::Refused(Errno::EPERM)));
    }

    #[test]
    fn errors_and_ends_are_told_apart_by_their_errno() {
        let of = |kind, body: &[u8]| {
            let bytes = bytes(kind, 1, body);
            answer(message(&bytes).unwrap(), 1).map(|a| format!("{a:?}"))
        };
        assert_eq!(of(ERROR, &0i32.to_ne_bytes()), Ok("Done".into()));
        assert_eq!(of(DONE, &[]), Ok("Done".into()));
        assert_eq!(of(DONE, &(-libc::EINTR).to_ne_bytes()), Ok("Refused(EINTR)".into()));
        assert_eq!(of(ERROR, &i32::MIN.to_ne_bytes()), Ok("Refused(UnknownErrno)".into()));
        assert_eq!(of(ERROR, &[]), Err(Malformed("an error that is cut short")));
        assert_eq!(of(1, &[]), Ok("Other".into()));
    }
}
