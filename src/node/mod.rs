//! What a real server does: it turns the listeners it sees into registrations.
//!
//! The rules ([`eligibility`]) and the record ([`registrations`]) are pure; the [`NodeAgent`] owns
//! the node's state and puts its record into the store.

pub mod agent;
mod checks;
pub mod eligibility;
mod gone;
pub mod hints;
pub mod host;
pub mod identify;
mod kept_out;
pub mod leaving;
mod pace;
pub mod queues;
pub mod registrations;
pub mod system;

pub use agent::NodeAgent;
pub use identify::{WhichNode, identify};
pub use system::System;
