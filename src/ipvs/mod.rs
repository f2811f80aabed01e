//! The kernel's table: virtual services, their destinations, and the generic-netlink
//! conversation that reads and changes them.
//!
//! [`types`] says what stands in the table; the client dumps it and applies changes in one
//! pipelined batch. Nothing here knows of cvip.conf, of listeners, or of ipvsadm's language.

pub mod types;

pub use types::*;
