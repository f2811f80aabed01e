//! The netlink socket: requests out, datagrams in, nothing lost in silence.
//!
//! The kernel serves a request within the `send` itself: when it returns, every request in it
//! has been carried out and every answer stands in the receive buffer, but for the rest of a
//! dump, which each receive goes on with. So a receive that has to wait means that an answer was
//! dropped, and a drained buffer is a known point.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, getsockopt,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};

use super::frame::{MalformedMessage, Messages, NetlinkMessage};

/// Room for any datagram of a dump, and for those that the kernel grows to 32 KiB when it sees
/// that the reader has the room (`netlink_dump`), which saves receives of long dumps.
pub(crate) const LONG_DUMPS: usize = 64 * 1024;

/// Room for the datagrams of a dump as they are for a reader with little room
/// (`NLMSG_GOODSIZE`, linux/netlink.h): it saves the kernel the work of finding larger pieces of
/// memory, which is what many short dumps take longest for.
pub(crate) fn short_dumps() -> usize {
    const MOST: usize = 8 * 1024;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| usize::try_from(page).ok()).map_or(MOST, |page| page.min(MOST))
}

/// The most bytes of one send.
const SEND: usize = 64 * 1024;

/// Receive buffer asked for, in bytes. The kernel counts a short error message as about a
/// kilobyte; see [`NetlinkSocket::answers_that_fit`].
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// Upper bound of what one error message takes from the receive buffer, in bytes: the
/// smallest allocation, the socket buffer's own structure, the kernel's words.
const ANSWER: usize = 2048;

/// Options of netlink(7) that nix does not name.
mod netlink_option {
    use nix::libc;
    use nix::setsockopt_impl;

    /// `NETLINK_EXT_ACK`: errors carry the kernel's words.
    #[derive(Clone, Copy)]
    pub(super) struct ExtendedAck;
    setsockopt_impl!(
        ExtendedAck,
        libc::SOL_NETLINK,
        libc::NETLINK_EXT_ACK,
        bool,
        nix::sys::socket::sockopt::SetBool
    );

    /// `NETLINK_CAP_ACK`: errors do not repeat the whole request.
    #[derive(Clone, Copy)]
    pub(super) struct CappedAck;
    setsockopt_impl!(
        CappedAck,
        libc::SOL_NETLINK,
        libc::NETLINK_CAP_ACK,
        bool,
        nix::sys::socket::sockopt::SetBool
    );
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    /// The kernel dropped one (`ENOBUFS`).
    Dropped,
    /// None came in time.
    TimedOut,
    /// It is larger than any that the kernel sends.
    Oversized,
    /// The socket itself failed.
    Socket(Errno),
    /// A list changed, or was dropped, under every attempt to read it.
    Disturbed,
}

/// A netlink socket that talks with the kernel alone, and with it the network namespace in which
/// its thread opened it.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
    send_limit: usize,
    answers_that_fit: usize,
}

impl NetlinkSocket {
    /// Opens a socket of `protocol` in the calling thread's network namespace, where it stays.
    /// Needs no privilege. An answer that is missing for `patience` seconds counts as lost; `room`
    /// is for a datagram, in bytes.
    pub(crate) fn open(
        protocol: SockProtocol,
        patience: i64,
        room: usize,
    ) -> Result<NetlinkSocket, Errno> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // Connected to port 0, it receives from the kernel alone.
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Kernels before 4.12 and 4.3 have neither, and need neither.
        let _ = setsockopt(&fd, netlink_option::ExtendedAck, &true);
        let _ = setsockopt(&fd, netlink_option::CappedAck, &true);
        NetlinkSocket::over(fd, patience, room)
    }

    /// Takes a connected datagram socket.
    fn over(fd: OwnedFd, patience: i64, room: usize) -> Result<NetlinkSocket, Errno> {
        // Beyond net.core.rmem_max for root only; with less, batches are shorter.
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let patience = TimeVal::new(patience, 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&fd, sockopt::SendTimeout, &patience)?;
        let receive_buffer = getsockopt(&fd, sockopt::RcvBuf)?;
        let send_buffer = getsockopt(&fd, sockopt::SndBuf)?;
        Ok(NetlinkSocket {
            fd,
            sequence: 0,
            buffer: vec![0; room].into_boxed_slice(),
            // netlink_sendmsg refuses what leaves less than 32 bytes of the send buffer.
            send_limit: (send_buffer / 2).clamp(2048, SEND),
            answers_that_fit: (receive_buffer / ANSWER).max(1),
        })
    }

    /// The most bytes that one [`NetlinkSocket::send`] takes.
    pub(crate) fn send_limit(&self) -> usize {
        self.send_limit
    }

    /// The most requests whose answers, all errors, surely fit the receive buffer.
    pub(crate) fn answers_that_fit(&self) -> usize {
        self.answers_that_fit
    }

    /// The number that was given out last.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// A number for the next request, by which its answers are known.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one or more messages; a signal does not send them twice, since the kernel takes
    /// all of a datagram or nothing.
    pub(crate) fn send(&self, messages: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.fd.as_raw_fd(), messages, MsgFlags::empty()) {
                Ok(sent) if sent == messages.len() => return Ok(()),
                Ok(_) => return Err(Errno::EMSGSIZE),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Receives one datagram of one or more messages.
    pub(crate) fn receive(&mut self) -> Result<&[u8], ReceiveError> {
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                // Netlink has no empty datagrams and no end.
                Ok(0) => return Err(ReceiveError::Dropped),
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Err(ReceiveError::Dropped),
                Err(Errno::EAGAIN) => return Err(ReceiveError::TimedOut),
                Err(errno) => return Err(ReceiveError::Socket(errno)),
            }
        };
        // MSG_TRUNC tells the whole length of a datagram that did not fit.
        self.buffer.get(..length).ok_or(ReceiveError::Oversized)
    }

    /// Receives messages, whomever they answer, until `take` makes something of one.
    pub(crate) fn receive_until<T, E: From<ReceiveError> + From<MalformedMessage>>(
        &mut self,
        mut take: impl FnMut(NetlinkMessage<'_>) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        loop {
            for message in Messages::new(self.receive()?) {
                if let Some(taken) = take(message?)? {
                    return Ok(taken);
                }
            }
        }
    }

    /// Throws away every answer that waits, and ends a dump that is under way.
    pub(crate) fn drain(&mut self) {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return,
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
impl NetlinkSocket {
    /// A socket whose kernel is a test.
    pub(crate) fn pair() -> (NetlinkSocket, OwnedFd) {
        let (ours, theirs) = nix::sys::socket::socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("a socket pair");
        (NetlinkSocket::over(ours, 10, LONG_DUMPS).expect("a socket"), theirs)
    }

    /// Has the numbers go on behind this one.
    pub(crate) fn count_from(&mut self, sequence: u32) {
        self.sequence = sequence;
    }

    /// Shrinks the receive buffer, but not the belief about what fits it.
    pub(crate) fn starve(&self) {
        setsockopt(&self.fd, sockopt::RcvBuf, &2048).expect("a smaller buffer");
    }
}

#[cfg(test)]
mod tests {
    use neli::consts::nl::NlmF;

    use super::super::frame::{Body, Writer};
    use super::*;

    fn generic() -> NetlinkSocket {
        NetlinkSocket::open(SockProtocol::NetlinkGeneric, 10, short_dumps())
            .expect("a generic-netlink socket")
    }

    #[test]
    fn the_running_kernels_refusals_carry_its_own_words() {
        let mut socket = generic();
        let mut request = Vec::new();
        // CTRL_CMD_GETFAMILY by a number of one byte, where it has two.
        let mut writer = Writer::begin(&mut request, 0x10, NlmF::REQUEST, 7, &[3, 1, 0, 0]);
        writer.u8(1, 0);
        writer.end();
        socket.send(&request).unwrap();
        let message = Messages::new(socket.receive().unwrap()).next().unwrap().unwrap();
        let Body::Refused(kernel_error) = message.body else { panic!("{message:?}") };
        assert_eq!(message.sequence, 7);
        assert!(kernel_error.text.is_some(), "{kernel_error:?}");
    }

    #[test]
    fn a_datagram_that_does_not_fit_is_lost_and_not_cut() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        for length in [LONG_DUMPS, LONG_DUMPS + 1] {
            let sent = send(kernel.as_raw_fd(), &vec![1; length], MsgFlags::empty());
            assert_eq!(sent, Ok(length));
        }
        assert_eq!(socket.receive(), Ok(&[1; LONG_DUMPS][..]));
        assert_eq!(socket.receive(), Err(ReceiveError::Oversized));
    }

    #[test]
    fn a_drained_socket_has_no_answer_left() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        for _ in 0..10 {
            send(kernel.as_raw_fd(), &[1; 16], MsgFlags::empty()).unwrap();
        }
        socket.drain();
        drop(kernel);
        assert_eq!(socket.receive(), Err(ReceiveError::Dropped));
    }

    #[test]
    fn the_socket_does_not_outlive_an_exec() {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let socket = generic();
        let flags = fcntl(&socket.fd, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    }
}
