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
//! `store` (the cluster's records). All other modules are what the programs are made of: they are public for the
//! programs' and the tests' sake, are not shown here, and change without notice.
//!
//! # Features
//!
//! - `daemon` (default): the programs `cvipd`, `cvipctl` and `setport_weight`, and the modules that
//!   they are made of. Without it there are `clock`, `ipvs`, `ipvsadm`, `listeners`, `ports` and
//!   `protocol` alone, from few crates.
//! - `etcd` (default): the store for a cluster of machines. Without it, only the embedded one is
//!   there.

#[macro_use]
mod named;

#[cfg(feature = "daemon")]
mod bucket;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod checks;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod cli;
pub mod clock;
#[cfg(feature = "daemon")]
pub mod conf;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod cores;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod counter;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod daemon;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod director;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod doctor;
#[doc(hidden)]
pub mod entry_points;
#[cfg(feature = "daemon")]
mod files;
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod fuzzing;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod heartbeat;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod histogram;
mod interrupts;
pub mod ipvs;
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod ipvsadm;
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod json;
pub mod listeners;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod membership;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod migrate;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod net;
mod netlink;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod node;
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod output;
pub mod ports;
#[cfg(feature = "daemon")]
mod program;
pub mod protocol;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod recorder;
mod replace;
#[cfg(feature = "daemon")]
mod serial;
#[cfg(feature = "daemon")]
#[cfg_attr(not(internal_docs), doc(hidden))]
pub mod settings;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
mod wake;
