//! Which ports of this node are flagged, and which of those that it serves are drained. Pure.

use std::collections::BTreeSet;

use super::leaving::LeavingPort;
use super::registrations;
use crate::conf::Conf;
use crate::listeners::Ranges;
use crate::ports::{FlagSet, Layers};
use crate::protocol::Protocol;
use crate::store::{Registration, Scope, ServiceKey, StoreState, drain_of};

/// The flags that were set at run time: the node's own, and the cluster's.
pub(super) fn flags(node: u32, store: &StoreState) -> [FlagSet; 2] {
    [Scope::Node(node), Scope::Cluster].map(|scope| store.flags_of(scope))
}

/// The flags of each CVIP that the node serves.
pub(super) fn layers(conf: &Conf, node: u32, store: &StoreState) -> Vec<Layers> {
    let [own, cluster] = flags(node, store);
    let serving = conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some());
    serving.map(|cvip| registrations::layers(cvip, &own, &cluster)).collect()
}

/// The flagged ports.
pub(super) fn ranges(layers: &[Layers]) -> Ranges {
    let of = |protocol| {
        let ranges = layers.iter().flat_map(move |layers| layers.ranges(protocol));
        ranges.map(move |(start, end)| (protocol, start, end))
    };
    Protocol::ALL.into_iter().flat_map(of).collect()
}

/// The services that a node serves: those that are registered, and those that cvip.conf names.
fn services(
    conf: &Conf,
    node: u32,
    registrations: &[Registration],
) -> impl Iterator<Item = ServiceKey> {
    let cvips = conf.cvips.iter().filter(move |cvip| cvip.real_server(node).is_some());
    let fixed = cvips.flat_map(|cvip| cvip.standing_ports().map(|port| (cvip.addr, port)));
    let fixed = fixed.map(|(cvip, (protocol, port))| ServiceKey { cvip, protocol, port });
    registrations.iter().map(|registration| registration.service).chain(fixed)
}

/// The ports that a node serves.
pub(super) fn served(
    conf: &Conf,
    node: u32,
    registrations: &[Registration],
) -> BTreeSet<LeavingPort> {
    services(conf, node, registrations).map(|key| (key.protocol, key.port)).collect()
}

/// The ports that operators drain, of those that a node serves.
pub(super) fn drained(
    conf: &Conf,
    node: u32,
    registrations: &[Registration],
    store: &StoreState,
) -> BTreeSet<LeavingPort> {
    if store.drains.is_empty() {
        return BTreeSet::new();
    }
    let is_drained = |key: &ServiceKey| drain_of(&store.drains, node, *key).is_some();
    let drained = services(conf, node, registrations).filter(is_drained);
    drained.map(|key| (key.protocol, key.port)).collect()
}
