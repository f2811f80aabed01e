//! The registration store, with both engines: one suite for what they have in common, and what
//! only etcd can do and suffer. etcd is real; it runs on this machine's loopback.

mod conformance;
#[cfg(feature = "etcd")]
mod etcd;
mod holder;
mod local;
mod support;
