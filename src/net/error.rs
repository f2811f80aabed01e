//! What can go wrong between a node and its own kernel; each message says what to do next.
//!
//! Errors can be compared, so that a daemon which tries again every second can say the same
//! thing once.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::serial::errno;
use crate::serial::interned::{self, ProgramText};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Why an address, a link, a setting or an announcement was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NetError {
    /// No netlink or packet socket at all.
    #[error("cannot open a {kind} socket: {}{}", .errno.desc(), root_hint(*.errno))]
    Socket {
        /// `netlink` or `packet`.
        #[serde(deserialize_with = "interned::text")]
        kind: ProgramText,
        /// The kernel's word.
        #[serde(with = "errno")]
        errno: Errno,
    },
    /// Sending or receiving failed.
    #[error("cannot talk to the kernel's routing socket: {}", .0.desc())]
    Transport(#[serde(with = "errno")] Errno),
    /// The kernel did not answer in time.
    #[error("the kernel's routing socket did not answer in time: try again")]
    TimedOut,
    /// The list changed under every attempt to read it.
    #[error("the kernel's list kept changing while it was read: try again")]
    Unsettled,
    /// An answer that is truncated or makes no sense.
    #[error("the kernel's answer has {0}: is this kernel newer than this program?")]
    Malformed(#[serde(deserialize_with = "interned::text")] ProgramText),
    /// The kernel refused.
    #[error("cannot {action}: {}{}{hint}", .errno.desc(), root_hint(*.errno))]
    Refused {
        /// What was tried, such as `add 10.0.0.100/32 to lo`.
        action: String,
        /// The kernel's word.
        #[serde(with = "errno")]
        errno: Errno,
        /// What to do, after a colon; may be empty.
        hint: String,
    },
    /// There is no interface of this name.
    #[error("no interface {device} here{hint}")]
    NoInterface {
        /// Its name.
        device: String,
        /// What to do, after a colon; may be empty.
        hint: String,
    },
    /// No interface has a network that contains the address.
    #[error(
        "no interface's network contains {0}: give this node an address of that network, or \
         correct the gateway in cvip.conf"
    )]
    NotConnected(IpAddr),
    /// The kernel does not have this setting.
    #[error("no setting {setting} in this kernel{hint}")]
    NoSetting {
        /// Its name, such as `net.ipv4.vs.expire_nodest_conn`.
        setting: String,
        /// What to do, after a colon; may be empty.
        #[serde(deserialize_with = "interned::text")]
        hint: ProgramText,
        /// True if the kernel is merely too old to have it.
        outdated: bool,
    },
    /// A setting could not be read or written.
    #[error("cannot {action} {setting}: {}{}{}", .errno.desc(), root_hint(*.errno), setting_hint(*.errno))]
    Setting {
        /// `read` or `set`.
        #[serde(deserialize_with = "interned::text")]
        action: ProgramText,
        /// Its name.
        setting: String,
        /// The kernel's word.
        #[serde(with = "errno")]
        errno: Errno,
    },
    /// A setting's value makes no sense.
    #[error("{setting} is `{value}`, which is not what this program knows of it")]
    OddSetting {
        /// Its name.
        setting: String,
        /// What it is.
        value: String,
    },
    /// The interface is none on which neighbours could be told or asked something.
    #[error("{0} is no Ethernet interface: addresses can only be announced on one")]
    NotEthernet(String),
    /// The interface is down.
    #[error("{0} is down: try `ip link set {0} up`")]
    Down(String),
    /// An announcement could not be sent.
    #[error("cannot announce {addr} on {device}: {}", .errno.desc())]
    Announce {
        /// The address.
        addr: IpAddr,
        /// The interface.
        device: String,
        /// The kernel's word.
        #[serde(with = "errno")]
        errno: Errno,
    },
    /// The neighbours could not be asked whether another has an address too.
    #[error("cannot ask on {device} whether another host has {addr}: {}", .errno.desc())]
    Probe {
        /// The address.
        addr: IpAddr,
        /// The interface.
        device: String,
        /// The kernel's word.
        #[serde(with = "errno")]
        errno: Errno,
    },
    /// What other hosts send on an interface cannot be received.
    #[error("cannot receive on {device} which addresses other hosts claim: {}", .errno.desc())]
    InterfaceDown {
        /// The interface.
        device: String,
        /// The kernel's word.
        #[serde(with = "errno")]
        errno: Errno,
    },
    /// An address with a lifetime was not renewed in time, or another program removed it.
    #[error(
        "{addr} is gone from {device}: it was not renewed in time, or another program removed it"
    )]
    Lapsed {
        /// The address.
        addr: IpAddr,
        /// The interface.
        device: String,
    },
    /// The kernel has an address, and takes no packet to it.
    #[error(
        "{addr} is on {device} and receives nothing: see what leads it elsewhere with `ip rule` \
         and `ip route get {addr}`"
    )]
    Unreached {
        /// The address.
        addr: IpAddr,
        /// The interface.
        device: String,
    },
    /// An address was not added, since neighbours would be answered for it.
    #[error("did not add {addr} to {device}: without {setting} this node would answer for it")]
    Exposed {
        /// The address.
        addr: IpAddr,
        /// The interface.
        device: String,
        /// The setting that could not be made.
        setting: String,
    },
    /// The file that remembers what was made cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    Record {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
}

fn root_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => ": this needs root (CAP_NET_ADMIN, and CAP_NET_RAW for announcements)",
        _ => "",
    }
}

fn setting_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES => ": this needs root",
        Errno::EROFS => ": /proc/sys is read-only in this container; set it from outside",
        _ => "",
    }
}
