//! cvipd: one process for every node, whatever the node is.
//!
//! ```text
//!   supervisor        the main thread: what the node is, and what follows from it
//!   workers           the threads that the node needs, by its configuration
//!   worker            a thread that drives one agent
//!   address_manager   the node's addresses and settings in its kernel
//!   control           the control socket
//!   hooks             programs that are run when the role changes, or a quorum
//!   metrics           what cvipd counts, given over HTTP
//!   event_log         the events that `cvipctl events` shows
//!   messages          what passes between the threads
//! ```
//!
//! Each worker's thread owns its agent's state. Threads share messages ([`crate::wake`]), never
//! locks.

pub(crate) mod address_manager;
mod control;
mod error;
mod event_log;
pub(crate) mod hooks;
pub(crate) mod messages;
mod metrics;
pub(crate) mod supervisor;
mod worker;
pub(crate) mod workers;

pub use control::{
    ControlError, ControlRequest, MetricsPlace, Response, Status, answering, ask, socket_path,
};
pub use error::RunError;
pub use event_log::{EventReader, LoggedEvent, recorders};
pub use hooks::{HookResult, HookRuns, HookView, HooksView, RefusedHook};
pub use metrics::{METRICS, MetricEntry, MetricsSource, metrics_text};
pub use supervisor::{DaemonSettings, HeldSignals, check_start, run};
