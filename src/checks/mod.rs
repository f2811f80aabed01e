//! Active checks: whether what listens also serves.
//!
//! The listener itself is the first check and needs none of this. A service may ask for more: a
//! TCP connect, an HTTP or HTTPS request, a DNS query, or a program.

pub mod settings;
