//! Which node this is: the one whose address this host (or network namespace) has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::conf::{Clustertab, Conf};

/// Why it is not known which node this is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhichNode {
    /// No local address is a node's.
    #[error(
        "cannot tell which node this is: no address of this host is a node's in clustertab or \
         cvip.conf; say it with --node=N"
    )]
    None,
    /// Local addresses are those of several nodes.
    #[error("this host has the addresses of nodes {}: say which one it is with --node=N", listed(.0))]
    Several(BTreeSet<u32>),
}

fn listed(nodes: &BTreeSet<u32>) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The node that has one of these local addresses, by clustertab or by a real server's own
/// address. `local` maps addresses to interface indexes.
///
/// # Errors
/// None has, or several have.
pub fn identify(
    clustertab: &Clustertab,
    conf: Option<&Conf>,
    local: &BTreeMap<IpAddr, u32>,
) -> Result<u32, WhichNode> {
    let listed = clustertab.nodes.iter().map(|(node, addr)| (*node, *addr));
    let servers = conf.into_iter().flat_map(|conf| &conf.cvips).flat_map(|c| &c.real_servers);
    let named = servers.map(|server| (server.node, server.addr));
    let mine: BTreeSet<u32> = listed
        .chain(named)
        .filter(|(_, addr)| local.contains_key(addr))
        .map(|(node, _)| node)
        .collect();
    match mine.first() {
        None => Err(WhichNode::None),
        Some(node) if mine.len() == 1 => Ok(*node),
        Some(_) => Err(WhichNode::Several(mine)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_node_whose_address_it_has() {
        let tab = |nodes: &[(u32, &str)]| Clustertab {
            nodes: nodes.iter().map(|(n, a)| (*n, a.parse().unwrap())).collect(),
        };
        let local = [("10.0.0.2".parse().unwrap(), 2), ("127.0.0.1".parse().unwrap(), 1)].into();
        let two = tab(&[(1, "10.0.0.1"), (2, "10.0.0.2")]);
        assert_eq!(identify(&two, None, &local), Ok(2));
        assert_eq!(identify(&tab(&[(1, "10.0.0.1")]), None, &local), Err(WhichNode::None));
        let both = tab(&[(1, "127.0.0.1"), (2, "10.0.0.2")]);
        let several = identify(&both, None, &local).unwrap_err();
        assert_eq!(several, WhichNode::Several([1, 2].into()));
        assert!(several.to_string().contains("of nodes 1, 2: say"), "{several}");
    }
}
