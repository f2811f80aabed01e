//! A small cluster for the tests of this module, in which nothing is wrong.

use std::net::IpAddr;

use super::Roles;
use super::observed::{Host, NeighbourReply, Observed, ObservedTable};
use crate::conf::{Clustertab, Conf, Cvip, DirectorNode, RealServer, Routing};
use crate::net::{Address, Interface, host_prefix};
use crate::node::System;
use crate::ports::PortFlag;
use crate::protocol::Protocol;
use crate::store::{NodeRecord, Registration, Scope, ServiceKey, StoreState};

pub(super) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The address of a node: 192.0.2.N, or 2001:db8::N.
pub(super) fn own(node: u32, ipv6: bool) -> IpAddr {
    if ipv6 { addr(&format!("2001:db8::{node}")) } else { addr(&format!("192.0.2.{node}")) }
}

/// Nodes 1 to 4, the first `directors` of them directors, of these CVIPs.
pub(super) fn conf(routing: Routing, cvips: &[&str], directors: u32) -> Conf {
    let cvip = |text: &&str| {
        let virtual_addr = addr(text);
        let ipv6 = virtual_addr.is_ipv6();
        Cvip {
            addr: virtual_addr,
            gateway: (routing == Routing::Nat).then(|| own(254, ipv6)),
            directors: (1..=directors)
                .map(|node| DirectorNode {
                    node,
                    garp_interface: "eth0".to_owned(),
                    sync_interface: Some("eth1".to_owned()),
                })
                .collect(),
            real_servers: (1..=4)
                .map(|node| RealServer { node, addr: own(node, ipv6), weight: 1 })
                .collect(),
            services: Vec::new(),
        }
    };
    Conf { routing, cvips: cvips.iter().map(cvip).collect() }
}

pub(super) fn key(cvip: &str, protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey { cvip: addr(cvip), protocol, port }
}

/// What was seen from a node: every cvipd runs, port 80 is flagged and served by node 3.
pub(super) fn seen(conf: Conf, node: u32) -> Observed {
    let mut state = StoreState::default();
    let flag = PortFlag { protocol: Protocol::Tcp, start: 80, end: 80, weight: 1 };
    state.flags.insert(Scope::Cluster, [flag].into_iter().collect());
    for number in conf.nodes() {
        state.nodes.insert(number, record(number));
    }
    let served = conf.cvips.iter().map(|cvip| {
        Registration::new(ServiceKey { cvip: cvip.addr, protocol: Protocol::Tcp, port: 80 }, 1)
    });
    state.nodes.get_mut(&3).unwrap().registrations = served.collect();
    let nodes = conf.nodes();
    Observed {
        sync: Roles::by_order(&conf).sync(&conf, node),
        roles: Roles::by_order(&conf),
        clustertab: Clustertab { nodes: nodes.iter().map(|n| (*n, own(*n, false))).collect() },
        node: Some(node),
        state,
        alive: nodes.into_iter().collect(),
        liveness_of: std::collections::BTreeMap::new(),
        corrupt: Vec::new(),
        unavailable: None,
        embedded: true,
        own: None,
        complaints: Vec::new(),
        unsaved: Vec::new(),
        ports_taken: Vec::new(),
        store_servers: Vec::new(),
        start_fault: None,
        host: Some(host(node)),
        table: Some(ObservedTable::default()),
        kernel: None,
        unexamined: Vec::new(),
        conf,
    }
}

pub(super) fn record(node: u32) -> NodeRecord {
    NodeRecord { event_source: "cgroup BPF".to_owned(), ..NodeRecord::empty(node, 1, 1) }
}

/// A node's kernel: `lo`, and `eth0` in both families' networks with a default route beyond.
pub(super) fn host(node: u32) -> Host {
    let lo = interface(1, "lo", &[("127.0.0.1", 8), ("::1", 128)]);
    let (v4, v6) = (own(node, false).to_string(), own(node, true).to_string());
    let eth0 = interface(2, "eth0", &[(&v4, 24), (&v6, 64)]);
    let sync = format!("198.51.100.{node}");
    let eth1 = interface(3, "eth1", &[(&sync, 24)]);
    let mut host = Host { interfaces: vec![lo, eth0, eth1], ..Host::default() };
    host.made = Some(Vec::new());
    host.listeners = Some(Vec::new());
    for (path, value) in [
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/eth0/rp_filter", "0"),
        ("net/ipv4/conf/eth1/rp_filter", "0"),
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/eth0/arp_ignore", "0"),
        ("net/ipv4/conf/eth1/arp_ignore", "0"),
        ("net/ipv6/conf/eth0/accept_redirects", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv4/vs/expire_nodest_conn", "1"),
    ] {
        host.settings.insert(path.to_owned(), value.to_owned());
    }
    host.around = Some(System {
        node,
        devices: [(own(node, false), 2), (own(node, true), 2)].into(),
        ephemeral: (32768, 60999),
        uid_min: 1000,
        users: [("www-data".to_owned(), 33)].into(),
        names: std::collections::BTreeMap::new(),
    });
    host
}

/// An interface that is up; `lo` and tunnels answer no neighbours.
pub(super) fn interface(index: u32, name: &str, addresses: &[(&str, u8)]) -> Interface {
    let addresses = addresses.iter().map(|(text, prefix)| {
        let addr = addr(text);
        Address { addr, prefix: *prefix, network: addr, index, valid_lft: None }
    });
    Interface {
        index,
        name: name.to_owned(),
        up: true,
        carrier: true,
        loopback: name == "lo",
        answers_neighbours: name.starts_with("eth"),
        mtu: Some(1500),
        addresses: addresses.collect(),
    }
}

impl Host {
    /// With another address, a host's, on an interface.
    pub(super) fn carry(&mut self, text: &str, device: &str) {
        let addr = addr(text);
        self.carry_with(text, host_prefix(addr), device);
    }

    pub(super) fn carry_with(&mut self, text: &str, prefix: u8, device: &str) {
        let addr = addr(text);
        let interface = self.interfaces.iter_mut().find(|i| i.name == device).unwrap();
        let index = interface.index;
        interface.addresses.push(Address { addr, prefix, network: addr, index, valid_lft: None });
    }

    pub(super) fn set(&mut self, path: &str, value: &str) {
        self.settings.insert(path.to_owned(), value.to_owned());
    }

    /// Replies for a CVIP leave through a gateway.
    pub(super) fn reply(&mut self, cvip: &str, gateway: Option<&str>, device: u32) {
        let route = Some((gateway.map(addr), device));
        self.replies.insert(addr(cvip), NeighbourReply { route });
    }
}

/// The findings as lines.
pub(super) fn lines(findings: &[super::Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}
