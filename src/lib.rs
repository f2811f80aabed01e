//! **cvip**: a process that starts listening on a flagged port joins the cluster's virtual
//! service; when it stops, it leaves.
//!
//! The data flow, and the module that owns each part of it:
//!
//! ```text
//!  listen() bind() close()
//!       | socket event (kernel event; may be lost, doubled, late: it only wakes)
//!       v
//!  listeners   snapshot = sock_diag dump                       truth on the node
//!       v
//!  node        registrations = snapshot x port flags x eligibility       pure
//!       v
//!  store       one record per node, leased                     local | etcd
//!       v
//!  director    desired state = cvip.conf x registrations x health x drains   pure
//!       v
//!  ipvs        changes = desired state - kernel table                   pure
//!       v
//!  ipvs        one pipelined netlink batch -> IPVS             truth in the kernel
//! ```
//!
//! The library neither prints nor exits; the programs in `src/bin` are thin.
//!
//! # What others may use
//!
//! [`ipvs`] (the kernel's table), [`listeners`] (who listens on this host), [`ports`] (port flags),
//! [`protocol`], [`clock`], and with the feature `daemon` `conf` (cvip.conf and clustertab) and
//! `store` (the cluster's records). All other modules are what the programs are made of, and are
//! private.
//!
//! # Features
//!
//! - `daemon` (default): the programs `cvipd`, `cvipctl` and `setport_weight`, and the modules that
//!   they are made of. Without it there are `clock`, `ipvs`, `listeners`, `ports`, `protocol` and
//!   the program `ipvsadm-rs` alone, from few crates.
//! - `etcd` (default): the store for a cluster of machines. Without it, only the embedded one is
//!   there.
//! - `internal`: what this workspace's own tests and tools use of the private modules is public. It
//!   changes without notice.

// Without `internal`, private modules have items and re-exports that are public for tests and tools.
#![cfg_attr(not(feature = "internal"), allow(unreachable_pub, unused_imports))]

#[macro_use]
mod named;

// What others may use.
pub mod clock;
#[cfg(feature = "daemon")]
pub mod conf;
pub mod ipvs;
pub mod listeners;
pub mod ports;
pub mod protocol;
#[cfg(feature = "daemon")]
pub mod store;

// For `src/bin`.
#[doc(hidden)]
pub mod entry_points;

// What the programs are made of.
#[cfg(feature = "daemon")]
mod bucket;
#[cfg(feature = "daemon")]
mod doctor;
#[cfg(feature = "daemon")]
mod files;
#[cfg(feature = "daemon")]
mod histogram;
mod interrupts;
mod json;
#[cfg(feature = "daemon")]
mod membership;
#[cfg(feature = "daemon")]
mod migrate;
mod netlink;
mod output;
#[cfg(feature = "daemon")]
mod program;
mod replace;
#[cfg(feature = "daemon")]
mod serial;
#[cfg(feature = "daemon")]
mod wake;

// What the programs are made of, and this workspace's tests and tools use too.
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod checks;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod cli;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod counter;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod daemon;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod director;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod heartbeat;
#[cfg(feature = "internal")]
pub mod ipvsadm;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod net;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod node;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod recorder;
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod settings;

// The same ones where those are not built.
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod checks;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod cli;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod counter;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod daemon;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod director;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod heartbeat;
#[cfg(not(feature = "internal"))]
mod ipvsadm;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod net;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod node;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod recorder;
#[cfg(all(feature = "daemon", not(feature = "internal")))]
mod settings;

// What tests and tools alone use.
#[cfg(all(feature = "daemon", feature = "internal"))]
pub mod cores;
#[cfg(feature = "internal")]
pub mod fuzzing;
