//! Between which addresses a node's heartbeats go, by its configuration. Pure.

use std::net::IpAddr;

use crate::conf::Conf;
use crate::director::monitor::order;

/// Where a node's heartbeats come from and go to: when this changes, its monitor and heartbeat
/// sender are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The node's own addresses.
    pub from: Vec<IpAddr>,
    /// Those of the directors that hear it.
    pub to: Vec<IpAddr>,
    /// The directors of its set, if it is one.
    set: Vec<u32>,
}

impl Endpoints {
    /// The paths by a configuration that comes after others.
    ///
    /// Nodes read a new configuration one after the other: a director that does not have it yet is
    /// to hear this node all the same, or takes it for dead.
    pub fn next(before: Option<&Endpoints>, conf: &Conf, node: u32) -> Endpoints {
        let set = if conf.is_director(node) { order(conf, node) } else { Vec::new() };
        let (from, mut to) = (conf.addresses(node), conf.audience(node));
        let before = before.iter().flat_map(|before| &before.to);
        to.extend(before.filter(|addr| !from.contains(addr)));
        to.sort_unstable();
        to.dedup();
        Endpoints { from, to, set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Cvip, DirectorNode, RealServer, Routing};

    /// Two directors; the address of each node ends in the number beside it.
    fn conf(nodes: [(u32, u8); 3]) -> Conf {
        let director =
            |node| DirectorNode { node, garp_interface: "lo".to_owned(), sync_interface: None };
        let server = |(node, host)| RealServer { node, addr: [192, 0, 2, host].into(), weight: 1 };
        let cvip = Cvip {
            addr: [192, 0, 2, 100].into(),
            gateway: None,
            directors: vec![director(1), director(2)],
            real_servers: nodes.map(server).into(),
            services: Vec::new(),
        };
        Conf { routing: Routing::Dr, cvips: vec![cvip] }
    }

    #[test]
    fn directors_of_the_configuration_before_still_hear_this_node() {
        let hosts = |addrs: &[IpAddr]| -> Vec<String> {
            addrs.iter().map(|addr| addr.to_string().replace("192.0.2.", "")).collect()
        };
        let first = Endpoints::next(None, &conf([(1, 1), (2, 2), (3, 3)]), 1);
        assert_eq!((hosts(&first.from), hosts(&first.to)), (vec!["1".into()], vec!["2".into()]));
        let same = Endpoints::next(Some(&first), &conf([(1, 1), (2, 2), (3, 9)]), 1);
        assert_eq!(same, first, "a real server hears no heartbeats");
        // This node takes the address of the other director, which gets a new one.
        let moved = Endpoints::next(Some(&first), &conf([(1, 2), (2, 4), (3, 3)]), 1);
        assert_eq!((hosts(&moved.from), hosts(&moved.to)), (vec!["2".into()], vec!["4".into()]));
        let again = Endpoints::next(Some(&moved), &conf([(1, 2), (2, 5), (3, 3)]), 1);
        assert_eq!(hosts(&again.to), ["4", "5"]);
    }
}
