//! Active checks: whether what listens also serves.
//!
//! ```text
//!   settings   what a check is told to do, every value judged           pure
//!   health    what a row of results makes of a real server             pure
//!   schedule   which targets are due, and what is known of each         pure
//!   probe      one run against one target, within its time     network, programs
//!   runner     the three behind one step() for a poll loop       a few threads
//! ```
//!
//! The listener itself is the first check and needs none of this. A service may ask for more: a
//! TCP connect, an HTTP or HTTPS request, a DNS query, or a program.
//!
//! A check runs where the real server is: its own cvipd probes what it serves on the CVIP, bound
//! to the loopback interface, so that no other node can answer for it. For real servers without a
//! cvipd the director probes their addresses. This module does not know which of the two it is, nor
//! cvip.conf, nor what becomes of an unhealthy real server.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

mod health;
mod pool;
mod probe;
mod runner;
mod schedule;
pub mod settings;

pub use health::{CheckOutcome, HealthState};
pub use probe::probe;
pub use runner::Checker;
pub use settings::Check;

/// What is probed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTarget {
    /// The address and port that the real server serves on.
    pub addr: SocketAddr,
    /// The service's protocol.
    pub protocol: Protocol,
    /// The interface to which probes are bound (`SO_BINDTODEVICE`); none: as packets are routed.
    /// A program is not bound: it makes its own sockets.
    pub device: Option<String>,
    /// The check.
    pub check: Check,
}

impl CheckTarget {
    /// Where the probe goes: the service's address, with the check's own port if it has one.
    pub fn probed(&self) -> SocketAddr {
        let mut addr = self.addr;
        if let Some(port) = self.check.port {
            addr.set_port(port);
        }
        addr
    }
}

/// As a log line names it: `tcp 10.0.0.1:80 (http /health)`.
impl fmt::Display for CheckTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.protocol, self.addr, self.check.kind)
    }
}
