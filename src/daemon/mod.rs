//! cvipd: one process for every node, whatever the node is.
//!
//! The main thread owns signals and the control socket; a thread for the node's agent and one
//! for the director's each own their state. They speak by messages ([`crate::wake`]), never by
//! locks.

mod control;
mod run;
mod worker;

pub use control::{ControlError, Request, Response, ask, socket_path};
pub use run::{RunError, Settings, run};
