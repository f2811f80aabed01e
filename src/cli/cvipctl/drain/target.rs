//! `NODE[:PORT[/PROTOCOL]]`: what an operator drains, and what that is in this cluster. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{bail, ensure};

use super::super::super::node_number;
use crate::conf::{Clustertab, Conf};
use crate::protocol::Protocol;
use crate::store::{DrainTarget, Registration, Scope, ServiceKey, StoreState};

/// What an operator names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::cvipctl) struct DrainArgument {
    /// Node number, from 1.
    pub(in crate::cli::cvipctl) node: u32,
    /// Port (host order) and protocol; without a protocol, every one that is known there.
    pub(in crate::cli::cvipctl) port: Option<(u16, Option<Protocol>)>,
}

impl FromStr for DrainArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<DrainArgument, String> {
        let (node, port) = match text.split_once(':') {
            Some((node, port)) => (node, Some(port)),
            None => (text, None),
        };
        let node = node_number(node)?;
        let Some(port) = port else { return Ok(DrainArgument { node, port: None }) };
        let (port, protocol) = match port.split_once('/') {
            Some((port, word)) => {
                (port, Some(word.parse::<Protocol>().map_err(|error| error.to_string())?))
            }
            None => (port, None),
        };
        match port.parse() {
            Ok(port) if port > 0 => Ok(DrainArgument { node, port: Some((port, protocol)) }),
            _ => Err(format!("`{port}` is no port: it is a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for DrainArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => write!(f, "{}", self.node),
            Some((port, None)) => write!(f, "{}:{port}", self.node),
            Some((port, Some(protocol))) => write!(f, "{}:{port}/{protocol}", self.node),
        }
    }
}

impl DrainArgument {
    /// True if an order is about this, or about a part of it.
    pub(super) fn covers(&self, order: DrainTarget) -> bool {
        self.node == order.node
            && match (self.port, order.port) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some((port, protocol)), Some((of, at))) => {
                    port == at && protocol.is_none_or(|protocol| protocol == of)
                }
            }
    }

    /// What this is in the cluster: the node, or its port with each protocol.
    ///
    /// # Errors
    /// There is no such node, or nothing tells a protocol of the port.
    pub(super) fn orders(
        &self,
        conf: &Conf,
        clustertab: &Clustertab,
        state: &StoreState,
    ) -> anyhow::Result<Vec<DrainTarget>> {
        let node = self.node;
        let mut nodes: BTreeSet<u32> = conf.nodes().into_iter().collect();
        nodes.extend(clustertab.nodes.keys());
        ensure!(
            nodes.contains(&node),
            "node {node} stands neither in clustertab nor in cvip.conf; the nodes are {}",
            joined(&nodes)
        );
        let (port, protocols) = match self.port {
            None => return Ok(vec![DrainTarget { node, port: None }]),
            Some((port, Some(protocol))) => (port, vec![protocol]),
            Some((port, None)) => (port, protocols_on(node, port, conf, state)),
        };
        if protocols.is_empty() {
            bail!(
                "nothing is known of port {port} on node {node}: no listener, no port flag and no \
                 service of cvip.conf; to drain it all the same, say {node}:{port}/tcp"
            );
        }
        let order = |protocol| DrainTarget { node, port: Some((protocol, port)) };
        Ok(protocols.into_iter().map(order).collect())
    }
}

/// The protocols with which a node serves a port, or would.
fn protocols_on(node: u32, port: u16, conf: &Conf, state: &StoreState) -> Vec<Protocol> {
    let record = state.nodes.get(&node);
    let registered = |protocol| {
        let mut keys = record.into_iter().flat_map(|record| &record.registrations);
        keys.any(|r| (r.service.protocol, r.service.port) == (protocol, port))
    };
    let configured = |protocol| {
        let mut cvips = conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some());
        cvips.any(|cvip| cvip.service_for(protocol, port).is_some())
    };
    let flagged = |protocol| {
        let told = record.and_then(|record| record.flags.lookup(protocol, port));
        let scopes = [Scope::Node(node), Scope::Cluster];
        let mut flags = scopes.iter().filter_map(|scope| state.flags.get(scope));
        told.is_some() || flags.any(|flags| flags.lookup(protocol, port).is_some())
    };
    let known =
        |protocol: &Protocol| registered(*protocol) || configured(*protocol) || flagged(*protocol);
    Protocol::ALL.into_iter().filter(known).collect()
}

/// The services that a node serves now, by its record and by cvip.conf.
pub(in crate::cli::cvipctl) fn served(
    node: u32,
    conf: &Conf,
    state: &StoreState,
) -> BTreeSet<ServiceKey> {
    let record = state.nodes.get(&node);
    let registrations = record.into_iter().flat_map(|record| &record.registrations);
    let mut keys: BTreeSet<ServiceKey> =
        registrations.map(|Registration { service, .. }| *service).collect();
    for cvip in conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some()) {
        let fixed = cvip.standing_ports();
        keys.extend(fixed.map(|(protocol, port)| ServiceKey { cvip: cvip.addr, protocol, port }));
    }
    keys
}

/// True if any of these orders is about a service of the node.
pub(super) fn concerns(orders: &[DrainTarget], service: ServiceKey) -> bool {
    let on = (service.protocol, service.port);
    orders.iter().any(|order| order.port.is_none_or(|port| port == on))
}

/// Items as a sentence lists them.
pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{conf, state};
    use super::*;
    use crate::ports::PortFlag;

    fn target(text: &str) -> DrainArgument {
        text.parse().unwrap()
    }

    fn orders(text: &str, state: &StoreState) -> anyhow::Result<Vec<DrainTarget>> {
        let (conf, clustertab) = conf();
        target(text).orders(&conf, &clustertab, state)
    }

    #[test]
    fn a_target_is_a_node_a_port_of_it_or_one_protocol_of_that() {
        for (text, port) in [
            ("3", None),
            ("3:80", Some((80, None))),
            ("3:80/tcp", Some((80, Some(Protocol::Tcp)))),
            ("3:65535/SCTP", Some((65535, Some(Protocol::Sctp)))),
        ] {
            assert_eq!(target(text), DrainArgument { node: 3, port }, "{text}");
            assert_eq!(target(text).to_string(), text.to_lowercase());
        }
        for (text, what) in [
            ("", "no node"),
            ("0", "no node"),
            ("web1", "`web1` is no node"),
            ("-1", "no node"),
            ("3:", "no port"),
            ("3:0", "no port"),
            ("3:65536", "no port"),
            ("3:http", "`http` is no port"),
            ("3:80/icmp", "one of tcp, udp, sctp"),
            ("3:80/", "one of tcp, udp, sctp"),
            ("3:80:81", "no port"),
        ] {
            let refused = text.parse::<DrainArgument>().unwrap_err();
            assert!(refused.contains(what), "{text}: {refused}");
        }
    }

    #[test]
    fn a_port_without_a_protocol_is_every_one_that_cvip_conf_flags_or_listeners_have_there() {
        let port = |protocol, port| DrainTarget { node: 2, port: Some((protocol, port)) };
        // cvip.conf has TCP 80 and UDP 53; node 2 listens on UDP 80 besides.
        let mut state = state(&[(2, Protocol::Udp, 80)]);
        let found = |text, state: &StoreState| orders(text, state).unwrap();
        assert_eq!(found("2:80", &state), [port(Protocol::Tcp, 80), port(Protocol::Udp, 80)]);
        assert_eq!(found("2:53", &state), [port(Protocol::Udp, 53)]);
        assert_eq!(found("2:80/tcp", &state), [port(Protocol::Tcp, 80)]);
        assert_eq!(found("2:9/sctp", &state), [port(Protocol::Sctp, 9)], "named, so taken");
        assert_eq!(found("2", &state), [DrainTarget { node: 2, port: None }]);
        let flag = PortFlag::new(Protocol::Sctp, 9, 9, 1).unwrap();
        state.flags.insert(Scope::Cluster, [flag].into_iter().collect());
        assert_eq!(found("2:9", &state), [port(Protocol::Sctp, 9)]);
    }

    #[test]
    fn a_node_or_a_port_that_is_not_known_is_refused_with_what_there_is() {
        let state = state(&[]);
        let refused = |text| orders(text, &state).unwrap_err().to_string();
        let node = refused("9");
        assert!(node.contains("the nodes are 1, 2, 3"), "{node}");
        let port = refused("2:9");
        assert!(port.contains("say 2:9/tcp"), "{port}");
    }

    #[test]
    fn a_whole_node_covers_its_ports_and_a_port_not_its_node() {
        let node = DrainTarget { node: 3, port: None };
        let http = DrainTarget { node: 3, port: Some((Protocol::Tcp, 80)) };
        for (text, covered) in [
            ("3", [true, true]),
            ("3:80", [false, true]),
            ("3:80/tcp", [false, true]),
            ("3:80/udp", [false, false]),
            ("3:81", [false, false]),
            ("2", [false, false]),
        ] {
            assert_eq!([node, http].map(|order| target(text).covers(order)), covered, "{text}");
        }
    }
}
