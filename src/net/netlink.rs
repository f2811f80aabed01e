//! rtnetlink(7), as little of it as addresses and links need: one request at a time, and what the
//! kernel says to it.
//!
//! What the kernel says that this program does not know is skipped, and what is cut short is an
//! error.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use super::Error;
use crate::netlink::{self, ACK, Body, Cut, DUMP, DUMP_INTR, Loss, REQUEST, Refusal, Writer};

/// The kernel answers within our own system call, so a wait means that an answer was lost.
const PATIENCE_SECONDS: i64 = 5;
/// How often a dump is begun again when the kernel says that it was disturbed.
const ATTEMPTS: u32 = 5;

pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(super) const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub(super) const REPLACE: u16 = libc::NLM_F_REPLACE as u16;

impl From<Cut> for Error {
    fn from(cut: Cut) -> Error {
        Error::Malformed(match cut {
            Cut::MessageHeader | Cut::Message => "a message that is cut short",
            Cut::Acknowledgement => "an error that is cut short",
            Cut::AttributeHeader | Cut::Attribute => "an attribute that is cut short",
        })
    }
}

impl From<Loss> for Error {
    fn from(loss: Loss) -> Error {
        match loss {
            Loss::Dropped => Error::Transport(Errno::ENOBUFS),
            Loss::Silent => Error::Silent,
            Loss::Oversized => Error::Malformed("more than the kernel may send at a time"),
            Loss::Socket(errno) => Error::Transport(errno),
        }
    }
}

/// A request but for its number: the family's fixed header, then attributes.
#[derive(Clone, Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// Begins a message of this type.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        Request { kind, flags: flags | REQUEST, body: fixed.to_vec() }
    }

    /// Adds an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        Writer::append(&mut self.body).bytes(kind, value);
        self
    }

    /// The finished message.
    pub(super) fn finish(&self, extra_flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let flags = self.flags | extra_flags;
        Writer::begin(&mut bytes, self.kind, flags, sequence, &self.body).end();
        bytes
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

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Broken(error.into())
    }
}

fn refused(refusal: &Refusal) -> Trouble {
    Trouble::Refused(Errno::from_raw(refusal.errno))
}

/// An rtnetlink socket, and with it the network namespace in which its thread opened it.
#[derive(Debug)]
pub(super) struct Socket(netlink::Socket);

impl Socket {
    /// Opens the socket in the calling thread's network namespace. Needs no privilege.
    pub(super) fn open() -> Result<Socket, Error> {
        netlink::Socket::open(SockProtocol::NetlinkRoute, PATIENCE_SECONDS, netlink::LONG_DUMPS)
            .map(Socket)
            .map_err(|errno| Error::Socket { kind: "netlink", errno })
    }

    /// Makes one change, and waits for the kernel's word.
    pub(super) fn change(&mut self, request: &Request) -> Result<(), Trouble> {
        let sequence = self.send(request, ACK)?;
        self.0.receive_answers(sequence, |message| match message.body {
            Body::Done => Ok(Some(())),
            Body::Refused(refusal) => Err(refused(&refusal)),
            Body::Reply(..) | Body::Noop | Body::Overrun => Ok(None),
        })
    }

    /// Asks for one thing: what `row` makes of the answer's type and body, `None` if it has none.
    pub(super) fn ask<T>(
        &mut self,
        request: &Request,
        row: impl Fn(u16, &[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Trouble> {
        let sequence = self.send(request, 0)?;
        self.0.receive_answers(sequence, |message| match message.body {
            Body::Reply(kind, body) => Ok(Some(row(kind, body)?)),
            Body::Done => Ok(Some(None)),
            Body::Refused(refusal) => Err(refused(&refusal)),
            Body::Noop | Body::Overrun => Ok(None),
        })
    }

    /// Reads a list: what `row` makes of each message's type and body. Begins again if the list
    /// was disturbed.
    pub(super) fn dump<T>(
        &mut self,
        request: &Request,
        row: impl Fn(u16, &[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..ATTEMPTS {
            let sequence = self.send(request, DUMP)?;
            let (mut rows, mut undisturbed) = (Vec::new(), true);
            let end = self.0.receive_answers(sequence, |message| {
                undisturbed &= message.flags & DUMP_INTR == 0;
                match message.body {
                    Body::Reply(kind, body) => rows.extend(row(kind, body)?),
                    Body::Done => return Ok(Some(())),
                    Body::Refused(refusal) => return Err(refused(&refusal)),
                    Body::Noop | Body::Overrun => {}
                }
                Ok(None)
            });
            match end {
                Ok(()) if undisturbed => return Ok(rows),
                // Where answers were dropped, the next request tells the stragglers by their
                // number.
                Ok(())
                | Err(Trouble::Refused(Errno::EBUSY | Errno::EINTR))
                | Err(Trouble::Broken(Error::Transport(Errno::ENOBUFS))) => {}
                Err(Trouble::Refused(errno)) => return Err(Error::Transport(errno)),
                Err(Trouble::Broken(error)) => return Err(error),
            }
        }
        Err(Error::Unsettled)
    }

    /// Sends the request; gives its number.
    fn send(&mut self, request: &Request, flags: u16) -> Result<u32, Error> {
        let sequence = self.0.next_sequence();
        self.0.send(&request.finish(flags, sequence)).map_err(Error::Transport)?;
        Ok(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::table;

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
        assert_eq!(table(&expected[20..]), Ok([None, None, None, Some(&b"lo\0"[..])]));
    }
}
