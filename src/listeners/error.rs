//! Why sockets cannot be listed.

use nix::errno::Errno;

use crate::netlink::{MalformedMessage, ReceiveError};
use crate::protocol::Protocol;

/// Dumps are produced by our own system calls, so a wait means that a reply was lost.
pub(super) const PATIENCE_SECONDS: i64 = 2;

/// Why sockets cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenersError {
    /// No sock_diag at all.
    #[error("cannot ask this kernel for its sockets ({0}): try modprobe inet_diag")]
    Open(Errno),
    /// The kernel has sock_diag, but not for this protocol.
    #[error("this kernel cannot list its {0} sockets: try modprobe {0}_diag")]
    Unsupported(Protocol),
    /// The kernel answered with an error.
    #[error("the kernel refused to list its {protocol} sockets: {errno}")]
    Refused {
        /// Which sockets were asked for.
        protocol: Protocol,
        /// The kernel's word.
        errno: Errno,
    },
    /// The list changed during each of several attempts, or another dump was in the way.
    #[error("the list of sockets was disturbed again and again: it is read again later")]
    Disturbed,
    /// No answer in time.
    #[error("the kernel did not answer within {PATIENCE_SECONDS} s: it is asked again later")]
    TimedOut,
    /// Sending or receiving failed.
    #[error("cannot talk to the kernel's socket list: {0}")]
    Transport(Errno),
    /// An answer that was cut short or makes no sense.
    #[error("the kernel's socket list has {0}: is this kernel newer than this program?")]
    Malformed(&'static str),
}

impl From<MalformedMessage> for ListenersError {
    fn from(message: MalformedMessage) -> ListenersError {
        ListenersError::Malformed(message.0)
    }
}

impl From<ReceiveError> for ListenersError {
    fn from(error: ReceiveError) -> ListenersError {
        match error {
            ReceiveError::Dropped => ListenersError::Transport(Errno::ENOBUFS),
            ReceiveError::TimedOut => ListenersError::TimedOut,
            ReceiveError::Oversized => {
                ListenersError::Malformed("an answer larger than any the kernel may send")
            }
            ReceiveError::Socket(errno) => ListenersError::Transport(errno),
            ReceiveError::Disturbed => ListenersError::Disturbed,
        }
    }
}
