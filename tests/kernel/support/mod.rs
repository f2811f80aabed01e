//! What these tests share: a running cluster with its table, and sockets on its members.

mod inner;
mod nginx;
mod site;
mod sockets;

use std::time::Duration;

pub(crate) use inner::{behind_nat, inner, on, route_through};
pub(crate) use nginx::Nginx;
pub(crate) use site::{Site, shown};
pub(crate) use sockets::{
    Patron, Server, Visitor, With, ask_udp, bind_udp, bind_udp_as, connect, fetch, listen,
    listen_as, raw, start_listening,
};

/// How long anything may take before a test calls it a failure: emulated kernels are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
