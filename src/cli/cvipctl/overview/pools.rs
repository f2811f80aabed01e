//! Each virtual service with its real servers: their weights, connections and rates in this
//! host's kernel, and why one of them gets no new connections. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::names::NodeNames;
use crate::conf::{Clustertab, Conf, Quorum, RegistrationMode, ServiceConf};
use crate::director::liveness::Liveness;
use crate::director::owned_table::OwnedTable;
use crate::director::settings::{self, service_key};
use crate::director::view::{Draining, Quiesced, SlowStarting, TableView};
use crate::ipvs::{DestinationEntry, ServiceEntry};
use crate::protocol::Protocol;
use crate::store::{RefusedListener, Registration, ServiceKey, StoreState, drain_of};

/// A virtual service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli::cvipctl) struct PoolRow {
    /// As it is shown: `tcp 192.0.2.10:80`, `mark 7 inet`.
    pub(in crate::cli::cvipctl) service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) cvip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) port: Option<u16>,
    /// The last port of a static service of several that is not in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) last_port: Option<u16>,
    /// Its scheduler in the kernel; absent where the kernel does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) scheduler: Option<String>,
    /// Whether cvipd made or adopted it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) owned: Option<bool>,
    /// The quorum that cvip.conf asks of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) quorum: Option<QuorumRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) load: Option<Load>,
    pub(in crate::cli::cvipctl) servers: Vec<ServerRow>,
}

/// A quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli::cvipctl) struct QuorumRow {
    /// The weight that makes it, of the real servers that take connections.
    pub(in crate::cli::cvipctl) weight: u32,
    pub(in crate::cli::cvipctl) hysteresis: u32,
    /// Whether there is one; absent where this node's cvipd keeps no table with the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) has_quorum: Option<bool>,
}

/// How a weight grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli::cvipctl) struct SlowStartRow {
    /// Seconds since it began.
    pub(in crate::cli::cvipctl) lasted_s: u64,
    /// Seconds until the weight is whole.
    pub(in crate::cli::cvipctl) remaining_s: u64,
    /// The whole weight, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) whole_weight: Option<u32>,
}

/// What the kernel counts of a service or a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli::cvipctl) struct Load {
    #[serde(rename = "active_connections")]
    pub(in crate::cli::cvipctl) active: u64,
    #[serde(rename = "inactive_connections")]
    pub(in crate::cli::cvipctl) inactive: u64,
    #[serde(rename = "connections_per_s")]
    pub(in crate::cli::cvipctl) rate: u64,
    pub(in crate::cli::cvipctl) bytes_in_per_s: u64,
    pub(in crate::cli::cvipctl) bytes_out_per_s: u64,
}

impl Load {
    /// Both together.
    pub(in crate::cli::cvipctl) fn and(self, other: Load) -> Load {
        Load {
            active: self.active.saturating_add(other.active),
            inactive: self.inactive.saturating_add(other.inactive),
            rate: self.rate.saturating_add(other.rate),
            bytes_in_per_s: self.bytes_in_per_s.saturating_add(other.bytes_in_per_s),
            bytes_out_per_s: self.bytes_out_per_s.saturating_add(other.bytes_out_per_s),
        }
    }
}

/// A real server of a service, or one that would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli::cvipctl) struct ServerRow {
    /// Absent for one that no file names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) node: Option<u32>,
    /// The node's host name, if this host knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) address: Option<IpAddr>,
    pub(in crate::cli::cvipctl) port: u16,
    /// In the kernel or, where that does not have it, as it would be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) load: Option<Load>,
    pub(in crate::cli::cvipctl) state: ServerState,
    /// Of one whose weight still grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) slow_start: Option<SlowStartRow>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) reason: Option<String>,
}

/// Whether a real server gets new connections, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli::cvipctl) enum ServerState {
    /// It does.
    Serves,
    /// It stands in for real servers, of which none is left.
    Sorry,
    /// An operator drains it.
    Drained,
    /// It is on its way out of the table.
    Draining,
    /// It fails its check, or its accept queue is full.
    Unhealthy,
    /// It comes and goes too often.
    Damped,
    /// Its node sends no heartbeats.
    Suspected,
    /// Its node was the active director until now.
    FormerDirector,
    /// Its service has no quorum, and sorry servers serve.
    BelowQuorum,
    /// Its weight still grows.
    SlowStart,
    /// Its weight is 0.
    WeightZero,
    /// It registers, and is not in the active director's table.
    NotInTable,
    /// Its node's cvipd does not run.
    NotRunning,
    /// It listens, and does not join.
    Refused,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ServerState::Serves => "serves",
            ServerState::Sorry => "sorry server",
            ServerState::Drained => "drained",
            ServerState::Draining => "draining",
            ServerState::Unhealthy => "unhealthy",
            ServerState::Damped => "damped",
            ServerState::Suspected => "suspected",
            ServerState::FormerDirector => "former director",
            ServerState::BelowQuorum => "below quorum",
            ServerState::SlowStart => "slow start",
            ServerState::WeightZero => "weight 0",
            ServerState::NotInTable => "not in the table",
            ServerState::NotRunning => "cvipd does not run",
            ServerState::Refused => "does not join",
        })
    }
}

impl PoolRow {
    fn of_key(key: ServiceKey) -> PoolRow {
        PoolRow {
            service: key.to_string(),
            cvip: Some(key.cvip),
            protocol: Some(key.protocol),
            port: Some(key.port),
            ..PoolRow::default()
        }
    }
}

/// What the services are told from.
pub(super) struct PoolSources<'a> {
    pub(super) conf: Option<&'a Conf>,
    pub(super) clustertab: &'a Clustertab,
    pub(super) state: &'a StoreState,
    /// The store was read.
    pub(super) known: bool,
    /// What this node's cvipd says of its pools, if it is a director.
    pub(super) view: Option<&'a TableView>,
    pub(super) liveness: &'a BTreeMap<u32, Liveness>,
    pub(super) table: Option<&'a OwnedTable>,
    /// The directors that are active.
    pub(super) active: &'a BTreeSet<u32>,
    /// This host's node.
    pub(super) me: Option<u32>,
    pub(super) names: &'a NodeNames,
}

/// What is looked up by service.
struct Index<'a> {
    sources: &'a PoolSources<'a>,
    quiesced: BTreeMap<(ServiceKey, IpAddr), &'a Quiesced>,
    draining: BTreeMap<(ServiceKey, IpAddr), &'a Draining>,
    slow_starts: BTreeMap<(ServiceKey, IpAddr), &'a SlowStarting>,
    /// Whether a service has its quorum.
    quorums: BTreeMap<ServiceKey, bool>,
    registered: BTreeMap<ServiceKey, BTreeMap<u32, &'a Registration>>,
    refused: BTreeMap<ServiceKey, Vec<(u32, &'a RefusedListener)>>,
}

/// Every service, in order: those of the kernel's table, and those that nodes serve beside it.
pub(super) fn pools(sources: &PoolSources<'_>) -> Vec<PoolRow> {
    let index = Index::of(sources);
    let mut rows: BTreeMap<(bool, Option<ServiceKey>, String), PoolRow> = BTreeMap::new();
    let mut add = |key: Option<ServiceKey>, row: PoolRow| {
        rows.insert((key.is_none(), key, row.service.clone()), row);
    };
    let mut in_table = BTreeSet::new();
    for (entry, list, owned) in sources.table.into_iter().flatten() {
        let key = service_key(entry.service.id);
        in_table.extend(key);
        add(key, index.of_table(key, entry, list, *owned));
    }
    let others: BTreeSet<ServiceKey> =
        index.registered.keys().chain(index.refused.keys()).copied().collect();
    for key in others.difference(&in_table) {
        add(Some(*key), index.of_records(*key));
    }
    for cvip in sources.conf.map_or(&[][..], |conf| &conf.cvips) {
        let fixed = cvip.services.iter().filter(|s| s.registration == RegistrationMode::Static);
        for service in fixed {
            let key =
                ServiceKey { cvip: cvip.addr, protocol: service.protocol, port: service.start };
            let is_within =
                |key: &ServiceKey| key.cvip == cvip.addr && service.covers(key.protocol, key.port);
            if in_table.range(key..).next().is_none_or(|next| !is_within(next)) {
                add(Some(key), index.of_static(key, service));
            }
        }
    }
    rows.into_values().collect()
}

impl<'a> Index<'a> {
    fn of(sources: &'a PoolSources<'a>) -> Index<'a> {
        let mut registered: BTreeMap<ServiceKey, BTreeMap<u32, &Registration>> = BTreeMap::new();
        let mut refused: BTreeMap<ServiceKey, Vec<(u32, &RefusedListener)>> = BTreeMap::new();
        for record in sources.state.nodes.values() {
            for registration in &record.registrations {
                let of_service = registered.entry(registration.service).or_default();
                of_service.insert(record.node, registration);
            }
            for listener in &record.refused {
                refused.entry(listener.service).or_default().push((record.node, listener));
            }
        }
        let view = sources.view;
        Index {
            sources,
            quiesced: view
                .into_iter()
                .flat_map(|view| &view.quiesced)
                .map(|row| ((row.service, row.address), row))
                .collect(),
            draining: view
                .into_iter()
                .flat_map(|view| &view.draining)
                .map(|row| ((row.service, row.address), row))
                .collect(),
            slow_starts: view
                .into_iter()
                .flat_map(|view| &view.slow_starts)
                .map(|row| ((row.service, row.address), row))
                .collect(),
            quorums: view
                .into_iter()
                .flat_map(|view| &view.quorums)
                .map(|row| (row.service, row.has_quorum))
                .collect(),
            registered,
            refused,
        }
    }

    /// A service of the kernel's table.
    fn of_table(
        &self,
        key: Option<ServiceKey>,
        entry: &ServiceEntry,
        list: &[DestinationEntry],
        owned: bool,
    ) -> PoolRow {
        let mut servers: Vec<ServerRow> =
            list.iter().map(|entry| self.destination(key, entry)).collect();
        if let Some(key) = key {
            let within: BTreeSet<u32> = servers.iter().filter_map(|server| server.node).collect();
            servers.extend(self.registrations(key, &within));
            servers.extend(self.refusals(key));
        }
        PoolRow {
            scheduler: Some(entry.service.scheduler.clone()),
            owned: self.sources.known.then_some(owned),
            quorum: key.and_then(|key| self.quorum(key)),
            load: Some(Load {
                active: list.iter().map(|d| u64::from(d.active)).sum(),
                inactive: list.iter().map(|d| u64::from(d.inactive)).sum(),
                rate: entry.stats.cps,
                bytes_in_per_s: entry.stats.in_bps,
                bytes_out_per_s: entry.stats.out_bps,
            }),
            servers,
            ..key.map_or_else(
                || PoolRow { service: entry.service.id.to_string(), ..PoolRow::default() },
                PoolRow::of_key,
            )
        }
    }

    /// A service that the kernel does not have.
    fn of_records(&self, key: ServiceKey) -> PoolRow {
        let mut servers: Vec<ServerRow> = self.registrations(key, &BTreeSet::new()).collect();
        servers.extend(self.refusals(key));
        PoolRow { quorum: self.quorum(key), servers, ..PoolRow::of_key(key) }
    }

    /// A static service that the kernel does not have.
    fn of_static(&self, key: ServiceKey, service: &ServiceConf) -> PoolRow {
        let cvip = self.sources.conf.and_then(|conf| conf.cvip(key.cvip));
        let servers = cvip.map_or(&[][..], |cvip| &cvip.real_servers).iter();
        let row = |server: &crate::conf::RealServer| {
            let (state, reason) = self.at_node(key, server.node);
            ServerRow {
                weight: Some(service.weight_of(server)),
                ..self.server(Some(server.node), Some(server.addr), key.port, state, reason)
            }
        };
        let last_port = (service.end > service.start).then_some(service.end);
        let range = last_port.map_or_else(String::new, |last| format!("-{last}"));
        PoolRow {
            service: format!("{key}{range}"),
            last_port,
            quorum: self.quorum(key),
            servers: servers.map(row).collect(),
            ..PoolRow::of_key(key)
        }
    }

    /// The quorum that cvip.conf asks of a service.
    fn quorum(&self, key: ServiceKey) -> Option<QuorumRow> {
        let cvip = self.sources.conf.and_then(|conf| conf.cvip(key.cvip))?;
        let Quorum { weight, hysteresis } =
            cvip.service_for(key.protocol, key.port).and_then(|service| service.quorum)?;
        Some(QuorumRow { weight, hysteresis, has_quorum: self.quorums.get(&key).copied() })
    }

    /// The weight that a node is to have in a service, as the directors reckon it.
    fn whole_weight(&self, key: ServiceKey, node: u32) -> Option<u32> {
        let cvip = self.sources.conf.and_then(|conf| conf.cvip(key.cvip))?;
        let server = cvip.real_server(node)?;
        let service = cvip.service_for(key.protocol, key.port);
        let fixed = service.filter(|service| service.registration == RegistrationMode::Static);
        let flagged = match fixed {
            Some(service) => service.weight,
            None => self.registered.get(&key)?.get(&node)?.weight,
        };
        Some(settings::weight(flagged, server, service))
    }

    fn destination(&self, key: Option<ServiceKey>, entry: &DestinationEntry) -> ServerRow {
        let destination = &entry.destination;
        let addr = destination.id.addr;
        let node = self.node_of(key, addr);
        let (state, reason) = self.why(key, node, addr, destination.weight);
        let grows = key.and_then(|key| self.slow_starts.get(&(key, addr)));
        let slow_start = grows.filter(|_| state == ServerState::SlowStart).map(|grows| {
            let whole_weight = key.zip(node).and_then(|(key, node)| self.whole_weight(key, node));
            SlowStartRow { lasted_s: grows.lasted_s, remaining_s: grows.left_s, whole_weight }
        });
        ServerRow {
            slow_start,
            weight: Some(destination.weight),
            load: Some(Load {
                active: entry.active.into(),
                inactive: entry.inactive.into(),
                rate: entry.stats.cps,
                bytes_in_per_s: entry.stats.in_bps,
                bytes_out_per_s: entry.stats.out_bps,
            }),
            ..self.server(node, Some(addr), destination.id.port, state, reason)
        }
    }

    /// Nodes that register a service and are not among its destinations.
    fn registrations(
        &self,
        key: ServiceKey,
        within: &BTreeSet<u32>,
    ) -> impl Iterator<Item = ServerRow> {
        let rows = self.registered.get(&key).into_iter().flatten();
        rows.filter(|(node, _)| !within.contains(node)).map(move |(node, registration)| {
            let of_conf =
                self.sources.conf.and_then(|conf| conf.cvip(key.cvip)?.real_server(*node));
            let whole_weight = self.whole_weight(key, *node);
            let weight = whole_weight.unwrap_or_else(|| registration.weight.into());
            let (state, reason) = match (self.at_node(key, *node), self.not_running(*node)) {
                ((ServerState::Serves, _), Some(not_running)) => not_running,
                ((ServerState::Serves, _), None) if self.should_have(key) => {
                    (ServerState::NotInTable, None)
                }
                (at_node, _) => at_node,
            };
            let addr = of_conf.map(|server| server.addr);
            let row = self.server(Some(*node), addr, key.port, state, reason);
            ServerRow { weight: Some(weight), ..row }
        })
    }

    /// True if this host's kernel was read, and this node is the CVIP's active director.
    fn should_have(&self, key: ServiceKey) -> bool {
        let me = self.sources.me.filter(|me| self.sources.active.contains(me));
        let cvip = self.sources.conf.and_then(|conf| conf.cvip(key.cvip));
        self.sources.table.is_some()
            && me.is_some_and(|me| cvip.is_some_and(|cvip| cvip.is_director(me)))
    }

    fn refusals(&self, key: ServiceKey) -> impl Iterator<Item = ServerRow> {
        let rows = self.refused.get(&key).into_iter().flatten();
        rows.map(move |(node, listener)| {
            let reason = listener.reason.clone();
            let state = ServerState::Refused;
            self.server(Some(*node), Some(listener.bound), key.port, state, Some(reason))
        })
    }

    fn server(
        &self,
        node: Option<u32>,
        address: Option<IpAddr>,
        port: u16,
        state: ServerState,
        reason: Option<String>,
    ) -> ServerRow {
        let name = node.and_then(|node| self.sources.names.name(node)).map(str::to_owned);
        let (weight, load, slow_start) = (None, None, None);
        ServerRow { node, name, address, port, weight, load, state, slow_start, reason }
    }

    /// Which node a destination is.
    fn node_of(&self, key: Option<ServiceKey>, addr: IpAddr) -> Option<u32> {
        let cvips = self.sources.conf.map_or(&[][..], |conf| &conf.cvips).iter();
        let own = cvips.clone().filter(|cvip| key.is_some_and(|key| key.cvip == cvip.addr));
        let mut servers = own.chain(cvips).flat_map(|cvip| &cvip.real_servers);
        let server = servers.find(|server| server.addr == addr);
        server.map(|server| server.node).or_else(|| self.sources.clustertab.node(addr))
    }

    /// Why a destination has its weight.
    fn why(
        &self,
        key: Option<ServiceKey>,
        node: Option<u32>,
        addr: IpAddr,
        weight: u32,
    ) -> (ServerState, Option<String>) {
        let at = key.map(|key| (key, addr));
        if let Some(row) = at.and_then(|at| self.quiesced.get(&at)) {
            let state = match row.state.as_str() {
                "damped" => ServerState::Damped,
                "suspected" => ServerState::Suspected,
                "former_director" => ServerState::FormerDirector,
                "below_quorum" => ServerState::BelowQuorum,
                _ => ServerState::Unhealthy,
            };
            return (state, Some(row.reason.clone()));
        }
        let at_node = match (key, node) {
            (Some(key), Some(node)) => self.at_node(key, node),
            _ => (ServerState::Serves, None),
        };
        if let Some(row) = at.and_then(|at| self.draining.get(&at)) {
            let mut reason = format!("out in {} s at the latest", row.left_s);
            if let (ServerState::Drained, Some(order)) = &at_node {
                reason = format!("{order}; {reason}");
            }
            return (ServerState::Draining, Some(reason));
        }
        if let Some(grows) = at.and_then(|at| self.slow_starts.get(&at)) {
            let reason = format!("its weight is whole in {} s", grows.left_s);
            return (ServerState::SlowStart, Some(reason));
        }
        match at_node.0 {
            ServerState::Serves if weight == 0 => {
                let not_running = node.and_then(|node| self.not_running(node));
                not_running.unwrap_or((ServerState::WeightZero, None))
            }
            ServerState::Serves if key.is_some_and(|key| self.is_sorry(key, addr)) => {
                (ServerState::Sorry, None)
            }
            _ => at_node,
        }
    }

    fn is_sorry(&self, key: ServiceKey, addr: IpAddr) -> bool {
        let cvip = self.sources.conf.and_then(|conf| conf.cvip(key.cvip));
        let service = cvip.and_then(|cvip| cvip.service_for(key.protocol, key.port));
        service.is_some_and(|service| service.sorry_servers.iter().any(|s| s.addr == addr))
    }

    /// What an operator or a node's own state says of a service there.
    fn at_node(&self, key: ServiceKey, node: u32) -> (ServerState, Option<String>) {
        let sources = self.sources;
        if let Some(order) = drain_of(&sources.state.drains, node, key) {
            let why = order.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            return (ServerState::Drained, Some(format!("by {}{why}", order.by)));
        }
        let registered = self.registered.get(&key).and_then(|nodes| nodes.get(&node));
        if let Some(why) = registered.and_then(|registration| registration.unhealthy.as_ref()) {
            return (ServerState::Unhealthy, Some(why.clone()));
        }
        (ServerState::Serves, None)
    }

    /// That a node's cvipd does not run, and why.
    fn not_running(&self, node: u32) -> Option<(ServerState, Option<String>)> {
        let sources = self.sources;
        if sources.state.nodes.get(&node).is_some_and(|record| record.leaving) {
            let reason = "its node leaves the cluster, or has left it";
            return Some((ServerState::NotRunning, Some(reason.to_owned())));
        }
        let is_dead = sources.liveness.get(&node) == Some(&Liveness::Dead);
        let is_absent = sources.known && !sources.state.alive.contains_key(&node);
        (is_dead || is_absent).then_some((ServerState::NotRunning, None))
    }
}

/// `192.0.2.1:80`, as a destination is written.
pub(in crate::cli::cvipctl) fn address(server: &ServerRow) -> Option<String> {
    server.address.map(|addr| SocketAddr::new(addr, server.port).to_string())
}

/// A number in six characters at most: 9999, 12.3k, 4.5M.
pub(in crate::cli::cvipctl) fn short(number: u64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    let mut tenths = u128::from(number) * 10;
    for unit in ["k", "M", "G", "T", "P"] {
        tenths /= 1000;
        if tenths < 10_000 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{}E", tenths / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let of = [9999, 12_345, 999_949, 1_000_000, 4_500_000_000, u64::MAX].map(short);
        assert_eq!(of, ["9999", "12.3k", "999.9k", "1.0M", "4.5G", "18E"]);
    }
}
