//! Whole programs on a real kernel: a director, nodes and a client, each a network namespace on
//! one bridge, with a cvipd on every node, and what an administrator would type.
//!
//! They run in the lab (`cargo xtask test`); those in a module `on_stock` run a second time, on
//! a distribution's kernel. A test waits for what it expects, up to [`support::PATIENCE`], and
//! never for a time; how fast things go is measured elsewhere (`cargo xtask bench`).

mod apart;
mod bad_input;
mod bgp;
mod configuration;
mod corrupt_store;
mod doctor;
mod documents;
mod drain;
mod eligibility;
mod forwarding;
mod graceful;
mod health;
mod history;
mod import;
mod join_leave;
#[path = "../json_support/mod.rs"]
mod json_support;
mod kubernetes;
mod leaving;
mod operator;
mod ownership;
mod power;
mod restart;
mod settings;
mod slow_start;
mod sorry;
mod support;
mod traps;
mod udp;
mod undone;
mod xdmcp;
