//! The kernel's table: virtual services, their destinations, and the generic-netlink
//! conversation that reads and changes them.
//!
//! [`types`] says what stands in the table; the client dumps it and applies changes in one
//! pipelined batch. Nothing here knows of cvip.conf, of listeners, or of ipvsadm's language.
//!
//! ```no_run
//! use cvip::ipvs::{Change, Client, Destination, Forwarding, Service, ServiceId};
//! use cvip::protocol::Protocol;
//!
//! let id = ServiceId::Address {
//!     protocol: Protocol::Tcp,
//!     addr: "192.0.2.1".parse()?,
//!     port: 80,
//! };
//! let server = Destination::new("192.0.2.11".parse()?, 80, Forwarding::Route, 1);
//! let mut table = Client::open()?;
//! let failures = table.apply(&[
//!     Change::AddService(Service::new(id, "wlc")),
//!     Change::AddDestination(id, server),
//! ])?;
//! assert!(failures.is_empty(), "{}", failures[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod codec;
mod display;
mod error;
#[cfg(test)]
mod fake_kernel;
#[cfg(feature = "internal")]
pub(crate) mod fuzzing;
pub mod limits;
pub mod plan;
pub mod proc_net;
mod scheduler_flags;
pub mod types;
mod wire;

pub use client::{AppliedPart, Client};
pub use error::{ChangeFailure, IpvsError, Operation};
pub use scheduler_flags::SchedulerFlag;
pub use types::*;
pub use wire::Malformed;
