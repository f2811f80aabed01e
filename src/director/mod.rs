//! What a director does: it makes the kernel's table what the records and cvip.conf say.
//!
//! [`desired`] says what a service should be, [`plan`] which changes lead there from what the
//! kernel has: both pure, both one service at a time, so that a change on one node costs what
//! that node's services cost. [`reconcile`] reads the kernel's truth and applies the plans;
//! the [`DirectorAgent`] decides when.

pub mod agent;
mod checks;
mod departures;
pub mod desired;
pub mod election;
pub mod event;
pub mod fingerprint;
pub mod flaps;
pub mod import;
pub mod liveness;
pub mod monitor;
pub mod passes;
pub mod plan;
pub mod reconcile;
pub mod restrictions;
pub mod settings;
pub mod sync;
pub mod view;

pub use agent::DirectorAgent;
pub use event::DirectorEvent;
