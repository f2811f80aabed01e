//! What a director does: it reconciles the kernel's table with the nodes' records and cvip.conf.
//!
//! [`desired`] says what a service should be, [`drains`] what becomes of destinations that leave it,
//! and [`reconcile`] which changes lead there from what the kernel has ([`crate::ipvs::plan`]): all
//! pure, all one service at a time, so that a change on one node costs what that node's services
//! cost. [`table`] reads the kernel's table and applies the changes; the [`DirectorAgent`] decides when.

pub mod agent;
mod checks;
mod departures;
pub mod desired;
pub mod drains;
pub mod election;
pub mod event;
pub mod fingerprint;
pub mod flaps;
pub mod import;
pub mod kernel_table;
pub mod liveness;
pub mod monitor;
pub mod owned_table;
pub mod passes;
pub mod ramps;
pub mod reconcile;
pub mod restrictions;
pub mod settings;
pub mod sync;
pub mod table;
pub mod view;

pub use agent::DirectorAgent;
pub use event::DirectorEvent;
