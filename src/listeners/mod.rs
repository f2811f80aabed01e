//! Who listens on this node: the truth is a dump, a bell only wakes.
//!
//! [`Listener`] is one row of a sock_diag dump. Nothing here knows of port flags' weights, of
//! cvip.conf or of IPVS.

use std::net::IpAddr;

use crate::protocol::Protocol;

/// One socket that takes new peers: a LISTEN socket of TCP or SCTP, or an unconnected, bound
/// UDP socket (linux/inet_diag.h, `struct inet_diag_msg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address; the wildcard of its family if bound to none.
    pub addr: IpAddr,
    /// Local port, host order.
    pub port: u16,
    /// An IPv6 socket that takes IPv6 peers only. False for IPv4 sockets.
    pub v6only: bool,
    /// The interface that the socket is bound to (`SO_BINDTODEVICE`), 0 for none.
    pub device: u32,
    /// Owner's user id.
    pub uid: u32,
    /// The kernel's cookie of the socket, unique for its life.
    pub cookie: u64,
    /// Connections waiting in the accept queue; 0 for UDP.
    pub queue: u32,
    /// The accept queue's limit; 0 for UDP.
    pub backlog: u32,
}
