//! The table that an active director should have: what a simulated table, and a real kernel's, is
//! compared with. Pure.
//!
//! It is computed from cvip.conf, the sockets, the port flags and the drains alone, and shares no
//! code with [`cvip`]'s director: the two are wrong together only if both misread the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cvip::conf::{Conf, Cvip, RealServer, RegistrationMode, ServiceConf};
use cvip::protocol::Protocol;
use cvip::store::ServiceKey;

/// The scheduler of a service that cvip.conf does not name (cvip.conf(5)).
const SCHEDULER: &str = "wlc";

/// What of one node decides its part in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The CVIPs and ports on which its processes listen.
    pub listens: BTreeSet<ServiceKey>,
    /// The weights of its own port flags.
    pub flags: BTreeMap<(Protocol, u16), u16>,
    /// An operator has drained it, and its connections have ended.
    pub is_drained: bool,
}

/// A service of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedService {
    /// The scheduler's name.
    pub scheduler: String,
    /// Persistence in seconds.
    pub persistence: Option<u32>,
    /// The destinations' addresses and weights.
    pub pool: BTreeMap<IpAddr, u32>,
}

/// The services with at least one destination.
pub type ExpectedTable = BTreeMap<ServiceKey, ExpectedService>;

/// The active director's table.
pub fn table(conf: &Conf, nodes: &BTreeMap<u32, NodeFacts>) -> ExpectedTable {
    let mut table = ExpectedTable::new();
    for cvip in &conf.cvips {
        for server in &cvip.real_servers {
            let Some(facts) = nodes.get(&server.node).filter(|facts| !facts.is_drained) else {
                continue;
            };
            for (key, weight) in joined(cvip, server, facts) {
                let service = cvip.services.iter().find(|s| s.covers(key.protocol, key.port));
                let entry = table.entry(key).or_insert_with(|| ExpectedService {
                    scheduler: service.map_or(SCHEDULER, |s| &s.scheduler).to_owned(),
                    persistence: service.and_then(|s| s.persistence),
                    pool: BTreeMap::new(),
                });
                entry.pool.insert(server.addr, weight);
            }
        }
    }
    table
}

/// The services of a CVIP that a real server is in, and its weight in each.
fn joined(cvip: &Cvip, server: &RealServer, facts: &NodeFacts) -> BTreeMap<ServiceKey, u32> {
    let mut joined = BTreeMap::new();
    let key = |protocol, port| ServiceKey { cvip: cvip.addr, protocol, port };
    let is_static = |service: &&ServiceConf| service.registration == RegistrationMode::Static;
    for service in cvip.services.iter().filter(is_static) {
        let weight = u32::from(service.weight) * service.weight_of(server);
        if server.weight > 0 || service.node_weights.contains_key(&server.node) {
            joined
                .extend((service.start..=service.end).map(|p| (key(service.protocol, p), weight)));
        }
    }
    for listened in facts.listens.iter().filter(|listened| listened.cvip == cvip.addr) {
        let (protocol, port) = (listened.protocol, listened.port);
        let service = cvip.services.iter().find(|service| service.covers(protocol, port));
        // The node's own flag holds before that of cvip.conf.
        let flag = facts.flags.get(&(protocol, port)).copied();
        let Some(flag) = flag.or(service.map(|service| service.weight)) else { continue };
        let own = service.map_or(server.weight, |service| service.weight_of(server));
        joined.entry(*listened).or_insert(u32::from(flag) * own);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::conf::{CVIP, HTTP, Layout, STATIC, XDMCP, addr_of};

    fn key((protocol, port): (Protocol, u16)) -> ServiceKey {
        ServiceKey { cvip: CVIP, protocol, port }
    }

    fn conf() -> Conf {
        Layout { directors: vec![1], servers: vec![1, 2, 3], sync: false }.conf()
    }

    /// Nodes 1 to 3, of which these listen on these ports.
    fn nodes(listening: &[(u32, (Protocol, u16))]) -> BTreeMap<u32, NodeFacts> {
        let mut nodes: BTreeMap<u32, NodeFacts> =
            (1..=3).map(|node| (node, NodeFacts::default())).collect();
        for (node, service) in listening {
            nodes.get_mut(node).unwrap().listens.insert(key(*service));
        }
        nodes
    }

    fn pool(table: &ExpectedTable, service: (Protocol, u16)) -> Vec<(u32, u32)> {
        let pool = table.get(&key(service)).map(|service| service.pool.clone());
        let weight = |node| Some((node, *pool.as_ref()?.get(&addr_of(node))?));
        (1..=3).filter_map(weight).collect()
    }

    #[test]
    fn a_service_has_the_nodes_that_listen_and_a_static_one_has_all() {
        let table = table(&conf(), &nodes(&[(2, HTTP), (3, HTTP), (3, XDMCP)]));
        assert_eq!(pool(&table, HTTP), [(2, 1), (3, 1)]);
        assert_eq!(pool(&table, XDMCP), [(3, 1)]);
        assert_eq!(pool(&table, STATIC), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(table[&key(XDMCP)].persistence, Some(60));
        assert_eq!(table[&key(HTTP)].scheduler, "wlc");
    }

    #[test]
    fn a_service_on_which_no_process_listens_is_not_there() {
        assert_eq!(table(&conf(), &nodes(&[])).keys().copied().collect::<Vec<_>>(), [key(STATIC)]);
    }

    #[test]
    fn a_port_that_is_not_flagged_does_not_join_and_a_nodes_own_flag_holds_before_cvip_conf() {
        let other = (Protocol::Tcp, 8080);
        let mut nodes = nodes(&[(1, other), (2, other), (2, HTTP), (3, HTTP)]);
        let flags = &mut nodes.get_mut(&2).unwrap().flags;
        flags.insert(other, 3);
        flags.insert(HTTP, 0);
        let mut conf = conf();
        conf.cvips[0].real_servers[2].weight = 5;
        let table = table(&conf, &nodes);
        assert_eq!(pool(&table, other), [(2, 3)]);
        assert_eq!(pool(&table, HTTP), [(2, 0), (3, 5)]);
        assert_eq!(pool(&table, STATIC), [(1, 1), (2, 1), (3, 5)]);
    }

    #[test]
    fn a_drained_node_is_in_no_service() {
        let mut nodes = nodes(&[(1, HTTP), (2, HTTP)]);
        nodes.get_mut(&2).unwrap().is_drained = true;
        let table = table(&conf(), &nodes);
        assert_eq!(pool(&table, HTTP), [(1, 1)]);
        assert_eq!(pool(&table, STATIC), [(1, 1), (3, 1)]);
    }
}
