//! A small cluster, and what is desired in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::super::restrictions::Restrictions;
use super::{DesiredService, Inputs, desired};
use crate::clock::Instant;
use crate::conf::{Conf, Cvip, DirectorNode, RealServer, Routing, ServiceConf};
use crate::protocol::Protocol;
use crate::store::{
    DrainOrder, DrainTarget, Drains, NodeRecord, RefusedListener, Registration, ServiceKey,
};

pub(in crate::director) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(in crate::director) fn key(protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey { cvip: ip("10.0.0.100"), protocol, port }
}

pub(super) const HTTP: ServiceKey = ServiceKey {
    cvip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)),
    protocol: Protocol::Tcp,
    port: 80,
};

pub(in crate::director) fn conf(services: Vec<ServiceConf>) -> Conf {
    let server =
        |node: u32| RealServer { node, addr: IpAddr::from([10, 0, 0, node as u8]), weight: node };
    let director =
        DirectorNode { node: 1, garp_interface: "eth0".to_owned(), sync_interface: None };
    let cvip = Cvip {
        addr: ip("10.0.0.100"),
        gateway: None,
        directors: vec![director],
        real_servers: [1, 2, 3].map(server).into(),
        services,
    };
    Conf { routing: Routing::Dr, cvips: vec![cvip] }
}

pub(in crate::director) fn registration(service: ServiceKey) -> Registration {
    Registration::new(service, 2)
}

pub(in crate::director) fn record(node: u32, keys: &[ServiceKey]) -> NodeRecord {
    let registrations = keys.iter().map(|key| registration(*key)).collect();
    NodeRecord { registrations, ..NodeRecord::empty(node, 1, 1) }
}

pub(super) fn refused(reachable: bool) -> RefusedListener {
    let reason = String::new();
    RefusedListener { service: HTTP, bound: ip("0.0.0.0"), uid: 1000, reason, reachable }
}

pub(super) fn weights(desired: &DesiredService) -> Vec<(IpAddr, u32)> {
    desired.destinations.values().map(|d| (d.id.addr, d.weight)).collect()
}

pub(super) fn ask(conf: &Conf, records: Vec<NodeRecord>) -> DesiredService {
    ask_with(conf, records, &Restrictions::default())
}

pub(super) fn ask_with(
    conf: &Conf,
    records: Vec<NodeRecord>,
    restrictions: &Restrictions,
) -> DesiredService {
    ask_of(HTTP, conf, records, restrictions)
}

pub(super) fn ask_of(
    key: ServiceKey,
    conf: &Conf,
    records: Vec<NodeRecord>,
    restrictions: &Restrictions,
) -> DesiredService {
    ask_drained(key, conf, records, restrictions, &Drains::new())
}

pub(super) fn ask_drained(
    key: ServiceKey,
    conf: &Conf,
    records: Vec<NodeRecord>,
    restrictions: &Restrictions,
    drains: &Drains,
) -> DesiredService {
    let nodes = records.into_iter().map(|record| (record.node, record)).collect();
    let now = Instant::now();
    desired(key, Inputs { conf, nodes: &nodes, me: 1, drains, restrictions, passive: false, now })
}

/// Operators' drains, each with its deadline in seconds, if it has one.
pub(super) fn drains<const N: usize>(of: [(DrainTarget, Option<u32>); N]) -> Drains {
    let order = |(target, deadline_s)| {
        let by = "root@node1".to_owned();
        (target, DrainOrder { reason: None, since: 0, deadline_s, by })
    };
    of.into_iter().map(order).collect()
}

pub(super) fn inputs<'a>(
    conf: &'a Conf,
    nodes: &'a BTreeMap<u32, NodeRecord>,
    me: u32,
    restrictions: &'a Restrictions,
) -> Inputs<'a> {
    static NONE: Drains = Drains::new();
    Inputs { conf, nodes, me, drains: &NONE, restrictions, passive: false, now: Instant::now() }
}

pub(super) fn unhealthy(node: u32, keys: &[ServiceKey]) -> NodeRecord {
    let mut record = record(node, keys);
    for registration in &mut record.registrations {
        registration.unhealthy = Some("failed 3 of 3: HTTP 503".to_owned());
    }
    record
}
