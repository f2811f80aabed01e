//! What can go wrong between this program and the kernel's table, as types.
//!
//! A kernel error keeps its three parts apart (what was asked, the errno, the
//! kernel's own words), because ipvsadm's texts are chosen by the first two.

use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::types::Change;
use super::wire::Malformed;
use crate::netlink::{KernelError, MalformedMessage, ReceiveError};

/// Why the kernel's table could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpvsError {
    /// The kernel has no generic-netlink family `IPVS`, and no module brought it; with what
    /// modprobe(8) said, if anything.
    #[error(
        "no IPVS in this kernel{}: try `modprobe ip_vs`, or install a kernel with CONFIG_IP_VS",
        InBrackets(.0)
    )]
    NoIpvs(String),
    /// The kernel answered `EPERM`: every IPVS command asks for `CAP_NET_ADMIN` in the
    /// initial user namespace (`GENL_ADMIN_PERM`), so root of a user namespace is not enough.
    #[error(
        "the kernel shows and changes the IPVS table for root only (CAP_NET_ADMIN in the initial \
         user namespace): run this as root"
    )]
    Permission,
    /// The kernel refused one request.
    #[error("the kernel refused to {operation}: {}{}", Describe(*.errno), Words(.text))]
    Kernel {
        /// What it was asked.
        operation: Operation,
        /// Its errno, positive (errno(3)).
        errno: i32,
        /// Its own words, where it has any (`NLMSGERR_ATTR_MSG`).
        text: Option<String>,
    },
    /// Replies were dropped (`ENOBUFS`, or none came in time): the requests were carried out,
    /// but which of them failed is unknown. Read the table again before changing it further.
    #[error("replies of the kernel were lost: read the IPVS table again before changing it")]
    RepliesLost,
    /// The table changed under every attempt to dump it (`NLM_F_DUMP_INTR`), or replies to each
    /// were dropped.
    #[error("the IPVS table kept changing while it was read: try again")]
    Unsettled,
    /// A reply that the kernel's header does not allow.
    #[error("the kernel's reply makes no sense: {0}; please report this with `uname -r`")]
    Malformed(#[from] Malformed),
    /// The netlink socket itself failed.
    #[error("netlink socket: {0}")]
    Io(#[from] io::Error),
}

/// A remark that may be empty, on one line.
struct InBrackets<'a>(&'a str);

impl fmt::Display for InBrackets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.0.lines().collect();
        if lines.is_empty() { Ok(()) } else { write!(f, " ({})", lines.join("; ")) }
    }
}

impl From<Errno> for IpvsError {
    fn from(errno: Errno) -> IpvsError {
        IpvsError::Io(errno.into())
    }
}

impl From<MalformedMessage> for IpvsError {
    fn from(message: MalformedMessage) -> IpvsError {
        IpvsError::Malformed(message.into())
    }
}

impl From<ReceiveError> for IpvsError {
    fn from(error: ReceiveError) -> IpvsError {
        match error {
            ReceiveError::Dropped | ReceiveError::TimedOut | ReceiveError::Oversized => {
                IpvsError::RepliesLost
            }
            ReceiveError::Socket(errno) => errno.into(),
            ReceiveError::Disturbed => IpvsError::Unsettled,
        }
    }
}

impl IpvsError {
    /// The kernel error of `operation`; `EPERM` has a variant of its own.
    pub(super) fn refused(operation: Operation, error: KernelError) -> IpvsError {
        match error.errno {
            libc::EPERM => IpvsError::Permission,
            errno => IpvsError::Kernel { operation, errno, text: error.text },
        }
    }
}

/// One refused change of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFailure {
    /// Index of the change in the slice that was applied.
    pub index: usize,
    /// What it was.
    pub operation: Operation,
    /// The kernel's errno, positive (errno(3)).
    pub errno: i32,
    /// The kernel's own words, where it has any (`NLMSGERR_ATTR_MSG`).
    pub text: Option<String>,
}

impl fmt::Display for ChangeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangeFailure { index, operation, errno, text } = self;
        let (errno, text) = (Describe(*errno), Words(text));
        write!(f, "change {index}: the kernel refused to {operation}: {errno}{text}")
    }
}

impl From<ChangeFailure> for IpvsError {
    fn from(failure: ChangeFailure) -> IpvsError {
        let ChangeFailure { operation, errno, text, .. } = failure;
        IpvsError::refused(operation, KernelError { errno, text })
    }
}

named! {
    /// What the kernel was asked, one for each command of its family.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Operation {
        /// `IPVS_CMD_NEW_SERVICE`.
        AddService = "add a virtual service",
        /// `IPVS_CMD_SET_SERVICE`.
        EditService = "edit a virtual service",
        /// `IPVS_CMD_DEL_SERVICE`.
        DeleteService = "delete a virtual service",
        /// `IPVS_CMD_GET_SERVICE` of one.
        GetService = "show a virtual service",
        /// `IPVS_CMD_GET_SERVICE` of all.
        ListServices = "list the virtual services",
        /// `IPVS_CMD_NEW_DEST`.
        AddDestination = "add a destination",
        /// `IPVS_CMD_SET_DEST`.
        EditDestination = "edit a destination",
        /// `IPVS_CMD_DEL_DEST`.
        DeleteDestination = "delete a destination",
        /// `IPVS_CMD_GET_DEST`.
        ListDestinations = "list the destinations",
        /// `IPVS_CMD_NEW_DAEMON`.
        StartDaemon = "start the sync daemon",
        /// `IPVS_CMD_DEL_DAEMON`.
        StopDaemon = "stop the sync daemon",
        /// `IPVS_CMD_GET_DAEMON`.
        ListDaemons = "list the sync daemons",
        /// `IPVS_CMD_SET_CONFIG`.
        SetTimeouts = "set the connection time-outs",
        /// `IPVS_CMD_GET_CONFIG`.
        GetTimeouts = "show the connection time-outs",
        /// `IPVS_CMD_GET_INFO`.
        GetInfo = "tell its IPVS version",
        /// `IPVS_CMD_ZERO`.
        Zero = "zero the counters",
        /// `IPVS_CMD_FLUSH`.
        Flush = "empty the table",
        /// `CTRL_CMD_GETFAMILY`.
        FindFamily = "find its IPVS family",
    }
}

impl Operation {
    /// The operation that a change asks for.
    pub fn of(change: &Change) -> Operation {
        match change {
            Change::AddService(_) => Operation::AddService,
            Change::EditService(_) => Operation::EditService,
            Change::DeleteService(_) => Operation::DeleteService,
            Change::AddDestination(..) => Operation::AddDestination,
            Change::EditDestination(..) => Operation::EditDestination,
            Change::DeleteDestination(..) => Operation::DeleteDestination,
            Change::Zero(_) => Operation::Zero,
            Change::Flush => Operation::Flush,
            Change::SetTimeouts(_) => Operation::SetTimeouts,
            Change::StartDaemon(_) => Operation::StartDaemon,
            Change::StopDaemon(..) => Operation::StopDaemon,
        }
    }
}

/// An errno in words; its number too where it has none.
struct Describe(i32);

impl fmt::Display for Describe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Errno::from_raw(self.0) {
            Errno::UnknownErrno => write!(f, "error {}", self.0),
            errno => f.write_str(errno.desc()),
        }
    }
}

/// The kernel's own words in brackets.
struct Words<'a>(&'a Option<String>);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_asked_and_the_kernels_own_words() {
        let error = IpvsError::refused(
            Operation::AddService,
            KernelError { errno: libc::ENOENT, text: Some("no such scheduler".into()) },
        );
        assert_eq!(
            error.to_string(),
            "the kernel refused to add a virtual service: \
             No such file or directory (no such scheduler)"
        );
        let bare = ChangeFailure { index: 7, operation: Operation::Flush, errno: 524, text: None };
        assert_eq!(bare.to_string(), "change 7: the kernel refused to empty the table: error 524");
    }

    #[test]
    fn eperm_becomes_advice_whatever_was_asked() {
        let failure =
            ChangeFailure { index: 0, operation: Operation::Zero, errno: libc::EPERM, text: None };
        assert!(matches!(IpvsError::from(failure), IpvsError::Permission));
    }
}
