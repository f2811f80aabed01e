//! Many machines: three etcd servers, two or three directors, four nodes and a client with traffic
//! running, and what goes wrong with each of them.
//!
//! They run in the lab (`cargo xtask test`). What clients may see of each fault is asserted, with
//! generous time-outs; how fast things go is measured elsewhere (`cargo xtask bench cluster`).

mod calm;
mod hooks;
#[path = "../json_support/mod.rs"]
mod json_support;
mod machines;
mod parted;
mod reload;
mod store;
mod support;
mod takeover;
