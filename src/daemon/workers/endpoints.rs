//! Between which addresses a node's heartbeats go, by its configuration. Pure.

use std::net::IpAddr;

use crate::conf::Conf;
use crate::director::monitor::order;

/// Where a node's heartbeats come from and go to: when this changes, its monitor and heartbeat
/// sender are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// The node's own addresses.
    pub(super) from: Vec<IpAddr>,
    /// Those of the directors that hear it.
    pub(super) to: Vec<IpAddr>,
    /// The directors of its set, if it is one.
    set: Vec<u32>,
}

impl Endpoints {
    /// The paths by a configuration that comes after others.
    ///
    /// Nodes read a new configuration one after the other: a director that does not have it yet is
    /// to hear this node all the same, or takes it for dead.
    pub(super) fn next(before: Option<&Endpoints>, conf: &Conf, node: u32) -> Endpoints {
        let set = if conf.is_director(node) { order(conf, node) } else { Vec::new() };
        let (from, mut to) = (conf.addresses(node), conf.audience(node));
        let before = before.iter().flat_map(|before| &before.to);
        to.extend(before.filter(|addr| !from.contains(addr)));
        to.sort_unstable();
        to.dedup();
        Endpoints { from, to, set }
    }
}
