//! The real servers of one service: by their nodes' records, or all of a static service.

use std::net::IpAddr;
use std::time::Duration;

use super::super::restrictions::QuiesceReason;
use super::super::settings::weight;
use super::keys::registered;
use super::{DesiredService, Inputs};
use crate::conf::{Cvip, RegistrationMode, ServiceConf};
use crate::store::{NodeRecord, ServiceKey, drain_of};

/// A real server that serves.
pub(super) struct ServingServer {
    pub(super) addr: IpAddr,
    pub(super) weight: u32,
    pub(super) quiesced: Option<QuiesceReason>,
    /// It takes no connections by its own weight, and nothing registered it.
    pub(super) is_optional: bool,
}

/// The real servers that serve and are not drained; notes in `desired` why the others do not.
pub(super) fn serving(
    key: ServiceKey,
    cvip: &Cvip,
    service: Option<&ServiceConf>,
    inputs: Inputs<'_>,
    desired: &mut DesiredService,
) -> Vec<ServingServer> {
    let restrictions = inputs.restrictions;
    let fixed = service.filter(|service| service.registration == RegistrationMode::Static);
    let mut serving = Vec::new();
    for server in &cvip.real_servers {
        let (node, addr) = (server.node, server.addr);
        if restrictions.dead.contains(&node) {
            desired.cut.insert(addr);
            continue;
        }
        let record = inputs.nodes.get(&node);
        let registration = record.and_then(|record| registered(record, key));
        let flagged = match (fixed, registration) {
            (Some(service), _) => Some(service.weight),
            (None, Some(registration)) => Some(registration.weight),
            (None, None) => None,
        };
        let drained = drain_of(inputs.drains, node, key);
        // A node that leaves serves nothing, static services neither.
        let leaves = restrictions.leaves(node, record);
        match flagged {
            Some(flagged) if drained.is_none() && !leaves => serving.push(ServingServer {
                addr,
                weight: weight(flagged, server, service),
                quiesced: restrictions.quiesced(
                    (key, node),
                    registration.and_then(|registration| registration.unhealthy.as_ref()),
                    inputs.now,
                ),
                is_optional: fixed.is_some_and(|service| service.weight_of(server) == 0)
                    && server.weight == 0,
            }),
            // Nothing is known of it, but for what an operator or the node itself says.
            None if record.is_none() && drained.is_none() && !leaves => {
                desired.unknown.insert(addr);
            }
            _ => {
                let deadline = drained.and_then(|drain| drain.deadline_s);
                desired.deadlines.extend(deadline.map(|s| (addr, Duration::from_secs(s.into()))));
                desired.lingering.extend(record.map(|record| (addr, lingering(record, key))));
            }
        }
    }
    serving
}

/// How many connections a node counts on a port that it left, or that is drained.
fn lingering(record: &NodeRecord, key: ServiceKey) -> u32 {
    let of_port =
        record.lingering.iter().filter(|l| (l.protocol, l.port) == (key.protocol, key.port));
    of_port.map(|l| l.connections).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::restrictions::Restrictions;
    use super::super::testing::*;
    use super::*;
    use crate::conf::SorryServer;
    use crate::ipvs::{Destination, Forwarding};
    use crate::protocol::Protocol;
    use crate::store::{DrainTarget, Lingering};

    #[test]
    fn a_node_without_a_record_is_left_as_the_kernel_has_it() {
        let desired = ask(&conf(vec![]), vec![record(1, &[])]);
        assert_eq!(desired.unknown, [ip("10.0.0.2"), ip("10.0.0.3")].into());
        assert_eq!(desired.service, None);
    }

    #[test]
    fn a_node_without_a_record_is_drained_all_the_same_and_leaves_if_it_says_so() {
        let drained = drains([(DrainTarget { node: 2, port: None }, None)]);
        let records = vec![record(1, &[])];
        let desired =
            ask_drained(HTTP, &conf(vec![]), records.clone(), &Restrictions::default(), &drained);
        assert_eq!(desired.unknown, [ip("10.0.0.3")].into());
        let restrictions =
            Restrictions { leaving: [(3, Some(1))].into(), ..Restrictions::default() };
        let desired = ask_with(&conf(vec![]), records, &restrictions);
        assert_eq!(desired.unknown, [ip("10.0.0.2")].into());
    }

    #[test]
    fn the_nodes_own_count_of_connections_comes_with_a_port_that_it_left() {
        let left = NodeRecord {
            lingering: vec![Lingering { protocol: Protocol::Tcp, port: 80, connections: 3 }],
            ..record(2, &[])
        };
        let desired = ask(&conf(vec![]), vec![left, record(3, &[])]);
        assert_eq!(desired.lingering, [(ip("10.0.0.2"), 3), (ip("10.0.0.3"), 0)].into());
    }

    #[test]
    fn an_operators_drain_takes_a_server_out_with_its_own_deadline() {
        let drains = drains([
            (DrainTarget { node: 2, port: None }, None),
            (DrainTarget { node: 3, port: Some((Protocol::Tcp, 80)) }, Some(300)),
        ]);
        let ask = |key, records| {
            ask_drained(key, &conf(vec![]), records, &Restrictions::default(), &drains)
        };
        let counted = NodeRecord {
            lingering: vec![Lingering { protocol: Protocol::Tcp, port: 80, connections: 7 }],
            ..record(3, &[HTTP])
        };
        let desired = ask(HTTP, vec![record(1, &[HTTP]), record(2, &[HTTP]), counted]);
        assert_eq!(weights(&desired), [(ip("10.0.0.1"), 2)]);
        assert_eq!(desired.deadline(ip("10.0.0.2")), Duration::from_secs(30));
        assert_eq!(desired.deadline(ip("10.0.0.3")), Duration::from_secs(300));
        assert_eq!(desired.lingering, [(ip("10.0.0.2"), 0), (ip("10.0.0.3"), 7)].into());
        // The other ports of node 3 are not drained.
        let dns = key(Protocol::Udp, 53);
        assert_eq!(weights(&ask(dns, vec![record(3, &[dns])])), [(ip("10.0.0.3"), 6)]);
    }

    #[test]
    fn a_dead_node_is_cut_from_static_services_too() {
        let restrictions = Restrictions { dead: [2].into(), ..Restrictions::default() };
        let desired =
            ask_with(&conf(vec![]), vec![record(2, &[HTTP]), record(3, &[HTTP])], &restrictions);
        assert_eq!(desired.cut, [ip("10.0.0.2")].into());
        assert_eq!(weights(&desired), [(ip("10.0.0.3"), 6)]);
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        let desired = ask_with(&conf(vec![service]), vec![], &restrictions);
        assert_eq!(desired.destinations.len(), 2);
    }

    #[test]
    fn a_node_that_leaves_serves_nothing_static_or_not() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        for conf in [conf(vec![service]), conf(vec![])] {
            let leaving = NodeRecord { leaving: true, ..record(2, &[HTTP]) };
            let desired = ask(&conf, vec![record(1, &[HTTP]), leaving, record(3, &[HTTP])]);
            let addresses: Vec<_> = desired.destinations.keys().map(|id| id.addr).collect();
            assert_eq!(addresses, [ip("10.0.0.1"), ip("10.0.0.3")]);
            assert_eq!(desired.lingering.get(&ip("10.0.0.2")), Some(&0), "it is drained");
            // The store was not told, its heartbeats say so.
            let restrictions =
                Restrictions { leaving: [(2, Some(1))].into(), ..Restrictions::default() };
            let records = [1, 2, 3].map(|node| record(node, &[HTTP])).into();
            let desired = ask_with(&conf, records, &restrictions);
            let addresses: Vec<_> = desired.destinations.keys().map(|id| id.addr).collect();
            assert_eq!(addresses, [ip("10.0.0.1"), ip("10.0.0.3")]);
        }
    }

    #[test]
    fn a_real_server_of_weight_0_is_kept_in_a_static_service_and_never_added_to_it() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        service.sorry_servers = vec![SorryServer { addr: ip("10.0.0.9"), port: None, weight: 1 }];
        let mut conf = conf(vec![service]);
        conf.cvips[0].real_servers[0].weight = 0;
        let present = |weight| [Destination::new(ip("10.0.0.1"), 80, Forwarding::Route, weight)];
        let of = |desired: &DesiredService, present: &[Destination]| -> Vec<(IpAddr, u32)> {
            desired.pool(present).destinations.values().map(|d| (d.id.addr, d.weight)).collect()
        };
        let others = [(ip("10.0.0.2"), 2), (ip("10.0.0.3"), 3)];
        let desired = ask(&conf, vec![]);
        assert_eq!(of(&desired, &[]), others);
        for weight in [0, 5] {
            let kept = [(ip("10.0.0.1"), 0), others[0], others[1]];
            assert_eq!(of(&desired, &present(weight)), kept);
        }
        // One that leaves or is dead is not kept.
        let leaving = NodeRecord { leaving: true, ..record(1, &[]) };
        assert_eq!(of(&ask(&conf, vec![leaving]), &present(0)), others);
        let dead = Restrictions { dead: [1].into(), ..Restrictions::default() };
        assert_eq!(of(&ask_with(&conf, vec![], &dead), &present(0)), others);
        // A weight of 0 by name, node by node, is a destination's.
        conf.cvips[0].real_servers[1].weight = 1;
        conf.cvips[0].services[0].node_weights = [(1, 4), (2, 0)].into();
        let named = [(ip("10.0.0.1"), 4), (ip("10.0.0.2"), 0), others[1]];
        assert_eq!(of(&ask(&conf, vec![]), &[]), named);
        // A sorry server stands in all the same.
        conf.cvips[0].services[0].node_weights.clear();
        conf.cvips[0].real_servers.truncate(1);
        let desired = ask(&conf, vec![]);
        assert!(desired.service.is_some());
        assert_eq!(of(&desired, &[]), [(ip("10.0.0.9"), 1)]);
        assert_eq!(of(&desired, &present(0)), [(ip("10.0.0.1"), 0), (ip("10.0.0.9"), 1)]);
    }
}
