//! What a real server does: it turns the listeners it sees into registrations.
//!
//! The rules ([`eligibility`]), what is served ([`registrations`]) and the node's decisions
//! (`state`) are pure; the [`NodeAgent`] (`driver`) reads what they need and carries them out.

mod checks;
pub mod driver;
pub mod eligibility;
mod flagged;
mod gone;
pub mod hints;
pub mod host;
pub mod identify;
mod kept_out;
pub mod leaving;
pub(crate) mod messages;
mod pace;
mod publication;
pub mod queues;
mod recording;
pub mod registrations;
pub(crate) mod state;
pub mod system;
mod times;
mod view;

pub use driver::NodeAgent;
pub use identify::{WhichNode, identify};
pub use system::System;
pub use view::NodeView;
