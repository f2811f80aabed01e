//! Failure detection between machines: which nodes are no longer heard, and whether that is the
//! machine, its cvipd, or our own link.
//!
//! ```text
//!   key         the cluster's secret, and what is derived from it
//!   wire        the heartbeat as a datagram; any other bytes are refused       pure
//!   left        ports that the sender has left, while the store is unavailable    pure
//!   socket      the datagrams' sockets                                         kernel
//!   sender      when the next heartbeat is due                                 kernel
//!   peers       what was heard of each peer, and which are suspected           pure
//!   verdict     are single machines silent, or is the own link down?           pure
//!   echo        does a machine's kernel answer, with only its cvipd down?      kernel
//!   connect     do the listeners of such a machine still take connections?     kernel
//! ```
//!
//! Heartbeats go one way: an answer could be lost as well, which would square the loss. They say
//! what is suspected and never what is decided. Nothing here reads a wall clock; time is given by
//! the caller as [`Instant`](crate::clock::Instant), so a clock that is set changes nothing.

mod connect;
mod echo;
mod holder;
mod key;
pub mod left;
mod peers;
mod sender;
mod socket;
mod timing;
mod verdict;
pub mod wire;

pub use connect::{ConnectOutcome, ConnectProber};
pub use echo::{EchoAccess, EchoProber};
pub use holder::holder;
pub use key::ClusterKey;
pub use left::LeftPorts;
pub use peers::{HeardCounts, Peers, WatchedNode};
pub use sender::{HeartbeatContent, HeartbeatSource, SendSchedule, Sender};
pub use socket::{Counts, HeartbeatSocket, PORT, Sent, SocketError};
pub use timing::Timing;
pub use verdict::{Suspicion, Verdict};
pub use wire::{Heartbeat, Leadership, Nonce, SeenNonce};
