//! Who listens on this node: a dump says so, a socket event only wakes.
//!
//! ```text
//!   socket_events  (cgroup BPF)  something changed: may be lost, doubled or late   kernel
//!   dump           (sock_diag)   which sockets there are now                       kernel
//!   state          when to dump, and which listeners there are                     pure
//!   driver         the three behind one step() for a poll loop
//! ```
//!
//! [`Listener`] is one row of a sock_diag dump. Nothing here knows of port flags' weights, of
//! cvip.conf or of IPVS: a caller says which [`Ranges`] matter, and is told who listens there,
//! in the network namespace of the thread that opened the dumper.
//!
//! ```no_run
//! use cvip::clock::Instant;
//! use cvip::listeners::{ListenerWatch, Ranges};
//! use cvip::protocol::Protocol;
//!
//! let mut watch = ListenerWatch::open(Instant::now())?;
//! let mut ranges = Ranges::new();
//! ranges.add(Protocol::Tcp, 80, 80);
//! watch.set_ranges(Instant::now(), ranges);
//! // When `fd()` is readable, or after `poll_timeout()`:
//! if let Some(listeners) = watch.step(Instant::now()) {
//!     for listener in listeners {
//!         println!("{} port {} on {}", listener.protocol, listener.port, listener.addr);
//!     }
//! }
//! # Ok::<(), cvip::listeners::ListenersError>(())
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

mod bpf;
mod diag;
mod driver;
mod dump;
mod error;
mod ranges;
mod socket_events;
mod state;
mod sys;

pub use driver::{EventSource, ListenerWatch};
pub use dump::Dumper;
pub use error::ListenersError;
pub use ranges::Ranges;
pub use socket_events::{NoSocketEvents, SocketEvent, SocketEvents};
pub use state::{EventCoverage, ListenerState};

/// One socket that takes new peers: a LISTEN socket of TCP or SCTP, or an unconnected, bound
/// UDP socket (linux/inet_diag.h, `struct inet_diag_msg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listener {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address; the wildcard of its family if bound to none. An IPv6 socket bound to an
    /// IPv4-mapped address takes IPv4 peers only and is shown as what it is: the IPv4 address.
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

/// A TCP connection that the kernel has taken and that no process has accepted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unaccepted {
    /// The local address that its peer asked for.
    pub addr: IpAddr,
    /// The interface that its listener is bound to, 0 for none.
    pub device: u32,
    /// The kernel's cookie of the connection's socket, unique for its life.
    pub cookie: u64,
}

/// What makes two sockets one listener: several processes that share a port (`SO_REUSEPORT`),
/// and a server that was restarted between two dumps, are the same to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerId {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address.
    pub addr: IpAddr,
    /// Local port, host order.
    pub port: u16,
    /// IPv6 peers only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6only: bool,
    /// The interface that the socket is bound to, 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub device: u32,
    /// Owner's user id.
    pub uid: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Listener {
    /// What is compared to say whether a listener came or went: everything but the socket
    /// itself and its queue. The field order of both types makes sorted listeners sorted by
    /// identity, too.
    pub fn identity(&self) -> ListenerId {
        ListenerId {
            protocol: self.protocol,
            addr: self.addr,
            port: self.port,
            v6only: self.v6only,
            device: self.device,
            uid: self.uid,
        }
    }
}
