//! The workers of a node: each is a thread that owns one agent.
//!
//! ```text
//!   node        registrations of what listens here         every node
//!   heartbeat   heartbeats to the directors                every node with other directors
//!   monitor     liveness, and which director is active     directors
//!   table       the kernel's table                         directors
//!   endpoints       between which addresses heartbeats go      pure
//!   driver      starts, swaps and ends the workers
//! ```
//!
//! The address manager is a worker too; it runs on every node from the start to the end.

mod driver;
pub(crate) mod endpoints;
mod heartbeat;
mod monitor;
mod node;
mod table;

pub(super) use driver::{WorkerContext, Workers};
