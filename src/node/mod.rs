//! What a real server does: it turns the listeners it sees into registrations.
//!
//! The rules ([`eligibility`]) and the record ([`registrations`]) are pure; the agent owns the
//! node's state and puts its record into the store.

pub mod eligibility;
pub mod registrations;
