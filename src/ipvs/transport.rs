//! The netlink socket: requests out, datagrams in, nothing lost in silence.
//!
//! The kernel serves generic netlink within the `send` itself: when it returns, every
//! request in it has been carried out and every answer stands in the receive buffer. So a
//! receive that has to wait means that an answer was dropped, and a drained buffer is a known
//! point.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, getsockopt,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::error::Error;

/// Large enough for the largest datagram of a dump: the kernel grows its own to 32 KiB when
/// it sees that the reader has the room (`netlink_dump`), which saves receives.
const DATAGRAM: usize = 64 * 1024;

/// Receive buffer asked for, in bytes. The kernel counts a short error message as about a
/// kilobyte; see [`Socket::answers_that_fit`].
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// Upper bound of what one error message takes from the receive buffer, in bytes: the
/// smallest allocation, the socket buffer's own structure, the kernel's words.
const ANSWER: usize = 2048;

/// Seconds until a missing answer counts as lost. Answers stand there when `send` returns.
const PATIENCE: i64 = 10;

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

/// What a receive brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A datagram of one or more messages.
    Datagram(&'a [u8]),
    /// The kernel dropped an answer, or none came in time.
    Lost,
}

/// A netlink socket that talks with the kernel alone.
pub(super) struct Socket {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    send_limit: usize,
    answers_that_fit: usize,
}

impl Socket {
    /// Opens a `NETLINK_GENERIC` socket in the calling thread's network namespace, where it
    /// stays.
    pub(super) fn open() -> Result<Socket, Error> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )
        .map_err(|errno| match errno {
            Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => Error::NoIpvs,
            errno => errno.into(),
        })?;
        // Connected to port 0, it receives from the kernel and from nobody else.
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Kernels before 4.12 and 4.3 have neither, and need neither.
        let _ = setsockopt(&fd, netlink_option::ExtendedAck, &true);
        let _ = setsockopt(&fd, netlink_option::CappedAck, &true);
        Socket::over(fd)
    }

    /// Takes a connected datagram socket.
    fn over(fd: OwnedFd) -> Result<Socket, Error> {
        // Beyond net.core.rmem_max for root only; with less, batches are shorter.
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let patience = TimeVal::new(PATIENCE, 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&fd, sockopt::SendTimeout, &patience)?;
        let receive_buffer = getsockopt(&fd, sockopt::RcvBuf)?;
        let send_buffer = getsockopt(&fd, sockopt::SndBuf)?;
        Ok(Socket {
            fd,
            buffer: vec![0; DATAGRAM].into_boxed_slice(),
            // netlink_sendmsg refuses what leaves less than 32 bytes of the send buffer.
            send_limit: (send_buffer / 2).clamp(2048, DATAGRAM),
            answers_that_fit: (receive_buffer / ANSWER).max(1),
        })
    }

    /// The most bytes that one [`Socket::send`] takes.
    pub(super) fn send_limit(&self) -> usize {
        self.send_limit
    }

    /// The most requests whose answers, all errors, surely fit the receive buffer.
    pub(super) fn answers_that_fit(&self) -> usize {
        self.answers_that_fit
    }

    /// Sends one or more messages; a signal does not send them twice, since the kernel takes
    /// all of a datagram or nothing.
    pub(super) fn send(&self, messages: &[u8]) -> Result<(), Error> {
        loop {
            match send(self.fd.as_raw_fd(), messages, MsgFlags::empty()) {
                Ok(sent) if sent == messages.len() => return Ok(()),
                Ok(_) => return Err(Errno::EMSGSIZE.into()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one datagram.
    pub(super) fn receive(&mut self) -> Result<Received<'_>, Error> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                // Netlink has no empty datagrams and no end.
                Ok(0) => return Ok(Received::Lost),
                // MSG_TRUNC tells the whole length of a datagram that did not fit.
                Ok(length) => {
                    let datagram = self.buffer.get(..length);
                    return Ok(datagram.map_or(Received::Lost, Received::Datagram));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS | Errno::EAGAIN) => return Ok(Received::Lost),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Throws away every answer that waits, and ends a dump that is under way.
    pub(super) fn drain(&mut self) {
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
impl Socket {
    /// A socket whose kernel is a test.
    pub(super) fn pair() -> (Socket, OwnedFd) {
        let (ours, theirs) = nix::sys::socket::socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("a socket pair");
        (Socket::over(ours).expect("a socket"), theirs)
    }

    /// Shrinks the receive buffer, but not the belief about what fits it.
    pub(super) fn starve(&self) {
        setsockopt(&self.fd, sockopt::RcvBuf, &2048).expect("a smaller buffer");
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Body, Messages, Writer};
    use super::*;

    #[test]
    fn the_running_kernels_refusals_carry_its_own_words() {
        let mut socket = Socket::open().expect("a generic-netlink socket");
        let mut request = Vec::new();
        // CTRL_CMD_GETFAMILY by a number of one byte, where it has two.
        let mut writer = Writer::begin(&mut request, 0x10, 3, 1, 7);
        writer.u8(1, 0);
        writer.end();
        socket.send(&request).unwrap();
        let Received::Datagram(datagram) = socket.receive().unwrap() else {
            panic!("no answer");
        };
        let message = Messages::new(datagram).next().unwrap().unwrap();
        let Body::Refused(refusal) = message.body else { panic!("{message:?}") };
        assert_eq!(message.sequence, 7);
        assert!(refusal.text.is_some(), "{refusal:?}");
    }

    #[test]
    fn a_datagram_that_does_not_fit_is_lost_and_not_cut() {
        let (mut socket, kernel) = Socket::pair();
        for length in [DATAGRAM, DATAGRAM + 1] {
            let sent = send(kernel.as_raw_fd(), &vec![1; length], MsgFlags::empty());
            assert_eq!(sent, Ok(length));
        }
        assert_eq!(socket.receive().unwrap(), Received::Datagram(&[1; DATAGRAM]));
        assert_eq!(socket.receive().unwrap(), Received::Lost);
    }

    #[test]
    fn a_drained_socket_has_no_answer_left() {
        let (mut socket, kernel) = Socket::pair();
        for _ in 0..10 {
            send(kernel.as_raw_fd(), &[1; 16], MsgFlags::empty()).unwrap();
        }
        socket.drain();
        drop(kernel);
        assert_eq!(socket.receive().unwrap(), Received::Lost);
    }

    #[test]
    fn the_socket_does_not_outlive_an_exec() {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let socket = Socket::open().expect("a generic-netlink socket");
        let flags = fcntl(&socket.fd, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    }
}
