//! The control socket: one request and one answer for a connection, each a line of JSON.
//!
//! It stands beside the store, one for each node: `cvipd-3.sock`. Every user who may open it may
//! ask for the state; only root may change anything (`SO_PEERCRED`, unix(7)).
//!
//! ```text
//!   wire      requests and responses, and their line of JSON
//!   client    a program asks
//!   driver    connections are accepted, bounded and answered
//!   limits    how many connections of which user are answered at once   pure
//!   answers   which thread knows the answer to which request
//! ```

mod answers;
mod client;
mod driver;
mod limits;
mod wire;

pub(super) use answers::{Gathered, gather};
pub use client::{ControlError, answering, ask};
pub(super) use driver::ControlServer;
pub(super) use wire::socket_address;
pub use wire::{ControlRequest, MetricsPlace, Response, Status, socket_path};
