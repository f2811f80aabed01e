//! rtnetlink(7), as little of it as addresses and links need: one request at a time, and what the
//! kernel says to it.
//!
//! What the kernel says that this program does not know is skipped, and what is truncated is an
//! error.

use neli::ToBytes;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::NetError;
use crate::netlink::{self, KernelError, MalformedMessage, ReceiveError, Writer, body};

/// The kernel answers within our own system call, so a wait means that an answer was lost.
const PATIENCE_SECONDS: i64 = 5;

impl From<MalformedMessage> for NetError {
    fn from(message: MalformedMessage) -> NetError {
        NetError::Malformed(message.0)
    }
}

impl From<ReceiveError> for NetError {
    fn from(error: ReceiveError) -> NetError {
        match error {
            ReceiveError::Dropped => NetError::Transport(Errno::ENOBUFS),
            ReceiveError::TimedOut => NetError::TimedOut,
            ReceiveError::Oversized => {
                NetError::Malformed("more than the kernel may send at a time")
            }
            ReceiveError::Socket(errno) => NetError::Transport(errno),
            ReceiveError::Disturbed => NetError::Unsettled,
        }
    }
}

/// Appends a request with the number that it is given.
fn request(kind: Rtm, flags: NlmF, message: &impl ToBytes) -> impl Fn(&mut Vec<u8>, u32) {
    let (flags, body) = (flags | NlmF::REQUEST, body::to_vec(message));
    move |buffer, sequence| Writer::begin(buffer, kind.into(), flags, sequence, &body).end()
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
    pub(super) fn change(
        &mut self,
        kind: Rtm,
        flags: NlmF,
        message: &impl ToBytes,
    ) -> Result<(), RequestError> {
        let request = request(kind, flags | NlmF::ACK, message);
        self.0.ask(request, RequestError::from, |_, _| Ok(None)).map(|_: Option<()>| ())
    }

    /// Asks for one thing: what `row` makes of the answer's type and body, `None` if it has none.
    pub(super) fn ask<T>(
        &mut self,
        kind: Rtm,
        message: &impl ToBytes,
        row: impl Fn(u16, &[u8]) -> Result<Option<T>, MalformedMessage>,
    ) -> Result<Option<T>, RequestError> {
        let request = request(kind, NlmF::empty(), message);
        self.0.ask(request, RequestError::from, |kind, body| Ok(row(kind, body)?))
    }

    /// Reads a list: what `row` makes of each message's type and body.
    pub(super) fn dump<T>(
        &mut self,
        kind: Rtm,
        message: &impl ToBytes,
        row: impl Fn(u16, &[u8]) -> Result<Option<T>, MalformedMessage>,
    ) -> Result<Vec<T>, NetError> {
        let request = request(kind, NlmF::DUMP, message);
        let refused = |error: KernelError| NetError::Transport(Errno::from_raw(error.errno));
        Ok(self.0.dump(request, refused, |kind, body| Ok(row(kind, body)?))?.rows)
    }
}

#[cfg(test)]
mod tests {
    use neli::consts::rtnl::{Ifa, RtAddrFamily};

    use super::*;
    use crate::netlink::body::routing;
    use crate::netlink::{route, table};

    #[test]
    fn a_request_is_a_header_its_fixed_part_and_padded_attributes() {
        let label = vec![routing(Ifa::Label, "lo")];
        let message = route::address(RtAddrFamily::Inet, 32, 0, label);
        let mut bytes = Vec::new();
        request(Rtm::Newaddr, NlmF::CREATE | NlmF::ACK, &message)(&mut bytes, 7);
        let expected = [
            &32u32.to_ne_bytes()[..],              // nlmsg_len
            &20u16.to_ne_bytes(),                  // nlmsg_type
            &(0x1u16 | 0x4 | 0x400).to_ne_bytes(), // nlmsg_flags: REQUEST, ACK, CREATE
            &7u32.to_ne_bytes(),                   // nlmsg_seq
            &0u32.to_ne_bytes(),                   // nlmsg_pid
            &[2, 32, 0, 0, 0, 0, 0, 0],            // the family's own header
            &7u16.to_ne_bytes(),                   // nla_len
            &3u16.to_ne_bytes(),                   // nla_type
            b"lo\0",                               // its value
            &[0],                                  // padding
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(table(&expected[24..]), Ok([None, None, None, Some(&b"lo\0"[..])]));
    }
}
