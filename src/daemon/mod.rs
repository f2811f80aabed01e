//! cvipd: one process for every node, whatever the node is.
//!
//! ```text
//!   run         the main thread: what this node is, and what follows from it
//!   role        how a director comes to its part and leaves it                pure
//!   leave       what a node that leaves waits for                             pure
//!   addresses   the address manager: the node's addresses and settings in its kernel
//!   staff       which workers the node needs
//!   crew        what each worker is told, and what it tells
//!   worker      a thread that drives one agent
//!   control     the control socket
//!   events      the day's record
//! ```
//!
//! Each worker's thread owns its agent's state. They speak by messages ([`crate::wake`]), never by
//! locks.

mod address_manager;
mod control;
mod error;
mod event_log;
mod leave;
mod messages;
mod node_role;
mod run;
mod worker;
mod workers;

pub use control::{ControlError, ControlRequest, Response, Status, answering, ask, socket_path};
pub use error::RunError;
pub use event_log::{EventReader, LoggedEvent, recorders};
pub use run::{DaemonSettings, run};
