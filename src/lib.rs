//! **cvip**: a process that starts listening on a flagged port joins the cluster's virtual
//! service; when it stops, it leaves.
//!
//! The road that data takes, and the room that owns each part of it:
//!
//! ```text
//!  listen() bind() close()
//!       | bell (kernel event; may be lost, doubled, late: it only wakes)
//!       v
//!  listeners   snapshot = sock_diag dump                       truth on the node
//!       v
//!  node        registrations = snapshot x port flags x eligibility       pure
//!       v
//!  store       one record per node, leased                     local | etcd
//!       v
//!  director    desired table = config x registrations                    pure
//!       v
//!  director    changes = desired - kernel table                          pure
//!       v
//!  ipvs        one pipelined netlink batch -> IPVS             truth in the kernel
//! ```
//!
//! The library neither prints nor exits; the programs in `src/bin` are thin.

pub mod checks;
pub mod cli;
pub mod conf;
pub mod daemon;
pub mod director;
pub mod doctor;
mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod ipvs;
pub mod ipvsadm;
pub mod listeners;
pub mod net;
mod netlink;
pub mod node;
pub mod output;
pub mod ports;
pub mod protocol;
pub mod pulse;
mod replace;
pub mod settings;
pub mod store;
mod wake;
