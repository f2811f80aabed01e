//! What these tests share: a running cluster with its table, and sockets on its members.

mod inner;
mod nginx;
mod site;
mod sockets;

pub(crate) use cvip_lab::PATIENCE;
pub(crate) use cvip_lab::process::shown;
pub(crate) use inner::{behind_nat, inner, route_through};
pub(crate) use nginx::{files, start_nginx};
pub(crate) use site::Site;
pub(crate) use sockets::{
    Patron, Server, Visitor, With, ask_udp, bind_udp, bind_udp_as, connect, fetch, listen,
    listen_as, raw, start_listening,
};
