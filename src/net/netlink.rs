//! rtnetlink(7), as little of it as addresses and links need: one request at a time, and what the
//! kernel says to it.
//!
//! What the kernel says that this program does not know is skipped, and what is cut short is an
//! error.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use super::NetError;
use crate::netlink::{
    self, ACK, DUMP, KernelError, MalformedMessage, REQUEST, ReceiveError, Writer,
};

/// The kernel answers within our own system call, so a wait means that an answer was lost.
const PATIENCE_SECONDS: i64 = 5;

pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(super) const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub(super) const REPLACE: u16 = libc::NLM_F_REPLACE as u16;

impl From<MalformedMessage> for NetError {
    fn from(message: MalformedMessage) -> NetError {
        NetError::Malformed(message.0)
    }
}

impl From<ReceiveError> for NetError {
    fn from(error: ReceiveError) -> NetError {
        match error {
            ReceiveError::Dropped => NetError::Transport(Errno::ENOBUFS),
            ReceiveError::Silent => NetError::Silent,
            ReceiveError::Oversized => {
                NetError::Malformed("more than the kernel may send at a time")
            }
            ReceiveError::Socket(errno) => NetError::Transport(errno),
            ReceiveError::Disturbed => NetError::Unsettled,
        }
    }
}

/// A request but for its number: the family's fixed header, then attributes.
#[derive(Clone, Debug)]
pub(super) struct RtnetlinkRequest {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl RtnetlinkRequest {
    /// Begins a message of this type.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> RtnetlinkRequest {
        RtnetlinkRequest { kind, flags: flags | REQUEST, body: fixed.to_vec() }
    }

    /// Adds an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> RtnetlinkRequest {
        Writer::append(&mut self.body).bytes(kind, value);
        self
    }

    /// Appends the finished message.
    fn write(&self, extra_flags: u16, buffer: &mut Vec<u8>, sequence: u32) {
        Writer::begin(buffer, self.kind, self.flags | extra_flags, sequence, &self.body).end();
    }

    /// The finished message.
    #[cfg(test)]
    pub(super) fn finish(&self, extra_flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(extra_flags, &mut bytes, sequence);
        bytes
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// The kernel's word to this request.
    Refused(Errno),
    /// Everything else.
    Failed(NetError),
}

impl<E: Into<NetError>> From<E> for RequestError {
    fn from(error: E) -> RequestError {
        RequestError::Failed(error.into())
    }
}

impl From<KernelError> for RequestError {
    fn from(error: KernelError) -> RequestError {
        RequestError::Refused(Errno::from_raw(error.errno))
    }
}

/// An rtnetlink socket, and with it the network namespace in which its thread opened it.
#[derive(Debug)]
pub(super) struct RtnetlinkSocket(netlink::NetlinkSocket);

impl RtnetlinkSocket {
    /// Opens the socket in the calling thread's network namespace. Needs no privilege.
    pub(super) fn open() -> Result<RtnetlinkSocket, NetError> {
        netlink::NetlinkSocket::open(
            SockProtocol::NetlinkRoute,
            PATIENCE_SECONDS,
            netlink::LONG_DUMPS,
        )
        .map(RtnetlinkSocket)
        .map_err(|errno| NetError::Socket { kind: "netlink", errno })
    }

    /// Makes one change, and waits for the kernel's word.
    pub(super) fn change(&mut self, request: &RtnetlinkRequest) -> Result<(), RequestError> {
        let write = |buffer: &mut Vec<u8>, sequence| request.write(ACK, buffer, sequence);
        self.0.ask(write, RequestError::from, |_, _| Ok(None)).map(|_: Option<()>| ())
    }

    /// Asks for one thing: what `row` makes of the answer's type and body, `None` if it has none.
    pub(super) fn ask<T>(
        &mut self,
        request: &RtnetlinkRequest,
        row: impl Fn(u16, &[u8]) -> Result<Option<T>, NetError>,
    ) -> Result<Option<T>, RequestError> {
        let write = |buffer: &mut Vec<u8>, sequence| request.write(0, buffer, sequence);
        self.0.ask(write, RequestError::from, |kind, body| Ok(row(kind, body)?))
    }

    /// Reads a list: what `row` makes of each message's type and body.
    pub(super) fn dump<T>(
        &mut self,
        request: &RtnetlinkRequest,
        row: impl Fn(u16, &[u8]) -> Result<Option<T>, NetError>,
    ) -> Result<Vec<T>, NetError> {
        let write = |buffer: &mut Vec<u8>, sequence| request.write(DUMP, buffer, sequence);
        let refused = |error: KernelError| NetError::Transport(Errno::from_raw(error.errno));
        self.0.dump(write, refused, row).map(|dump| dump.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::table;

    #[test]
    fn a_request_is_a_header_its_fixed_part_and_padded_attributes() {
        let request = RtnetlinkRequest::new(20, CREATE, &[2, 32, 0, 0]).attribute(3, b"lo\0");
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
