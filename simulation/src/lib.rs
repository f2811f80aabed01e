//! Runs what decides in cvipd on simulated machines, networks, stores and clocks.
//!
//! cvipd's own states decide ([`cvip::cores`]). What its drivers do with sockets, files, threads and
//! the kernel is done here by models of them, in simulated time: one seed is one run, the same on
//! every machine.
//!
//! ```text
//!   election                     every state of small worlds of directors, a store and heartbeats
//!   random, time                 what is drawn, and when it is
//!   store                        etcd's servers, and each cvipd's connection and views of them
//!   kernel                       each machine's IPVS table, addresses, settings, sockets
//!   cluster                      machines, processes and workers, the network, clients, faults
//!   expected                     the table that an active director should have
//!   invariants                   what must hold
//!   real                         steps on a real cluster, and the world that they lead to
//!   run, shrink                  one seed from start to end; the shortest plan that still fails
//! ```

pub mod cluster;
pub mod election;
pub mod expected;
pub mod invariants;
pub mod kernel;
pub mod random;
pub mod real;
pub mod run;
pub mod shrink;
pub mod store;
pub mod time;
