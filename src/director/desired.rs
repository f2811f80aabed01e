//! The desired table: cvip.conf and the nodes' records, one service at a time. Pure.
//!
//! ```text
//!   inputs         what a director knows when it decides
//!   service        from the configuration and the records to one service
//!   real_servers   the real servers that serve it
//!   quiesce        which reasons to give them no new connections count
//!   state          the desired state of a service; when its sorry servers stand in
//!   keys           which services there are, and which ones a record touches
//! ```

mod inputs;
mod keys;
mod quiesce;
mod real_servers;
mod service;
mod state;
#[cfg(test)]
pub(super) mod testing;

pub use inputs::Inputs;
pub(super) use keys::registered;
pub use keys::{keys, services_of, standing_keys, touched};
pub use service::desired;
pub use state::{DesiredService, WantedPool};
