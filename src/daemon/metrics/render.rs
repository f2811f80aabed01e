//! The metrics by what cvipd says and what stands in the kernel. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::catalogue::*;
use super::labels::{Labels, Sums, of_destination, of_service};
use super::text::{Metric, MetricsText};
use crate::conf::Conf;
use crate::daemon::control::Status;
use crate::daemon::hooks::{HookEvent, HookResult, HookRuns};
use crate::director::liveness::Liveness;
use crate::director::monitor::MonitorView;
use crate::director::owned_table::OwnedTable;
use crate::director::settings::service_id;
use crate::director::view::TableView;
use crate::heartbeat::Sent;
use crate::ipvs::{DestinationEntry, ServiceId};
use crate::settings::DestinationLabel;
use crate::store::ServiceKey;

/// What the metrics are made from. What is not known is left out.
pub struct MetricsSource<'a> {
    /// What this node's cvipd says; none where none runs.
    pub status: Option<&'a Status>,
    /// The configuration in force.
    pub conf: Option<&'a Conf>,
    /// The kernel's table.
    pub table: Option<&'a OwnedTable>,
    /// The labels of destinations that are kept.
    pub labels: &'a [DestinationLabel],
}

/// The text that Prometheus reads (exposition format 0.0.4).
pub fn metrics_text(source: &MetricsSource<'_>) -> String {
    let mut text = MetricsText::default();
    text.metric(UP).value(&[], u8::from(source.status.is_some()));
    let features = if cfg!(feature = "etcd") { "etcd" } else { "" };
    let built = [("version", env!("CARGO_PKG_VERSION")), ("features", features)];
    text.metric(BUILD).value(&built, 1);
    if let Some(status) = source.status {
        of_cvipd(&mut text, status, source.conf);
    }
    if let Some(table) = source.table {
        of_table(&mut text, table, source);
    }
    text.finish()
}

fn of_cvipd(text: &mut MetricsText, status: &Status, conf: Option<&Conf>) {
    let (node, set) = (status.node.to_string(), status.monitor.as_ref().map(|m| m.set.to_string()));
    text.metric(NODE).value(&[("node", &node), ("set", &set.unwrap_or_default())], 1);
    if let Some(node) = &status.serving {
        let kind = if node.polls { "polling" } else { "socket_events" };
        text.metric(EVENT_SOURCE).value(&[("kind", kind), ("source", &node.event_source)], 1);
    }
    text.metric(FAULTS).value(&[], status.faults.len());
    text.metric(ADDRESS_FAULTS).value(&[], status.addresses.len());
    text.metric(STORE_UNAVAILABLE).value(&[], status.store_unavailable_s.unwrap_or(0));
    text.metric(STORE_REQUESTS).value(&[], status.store_requests);
    text.metric(STORE_TIMES).histogram(&[], &status.store_latency);
    of_memberships(text, status);
    if let Some(Sent { sent, unsent }) = &status.heartbeats {
        let mut heartbeats = text.metric(HEARTBEATS_SENT);
        heartbeats.value(&[("result", "sent")], sent);
        heartbeats.value(&[("result", "unsent")], unsent);
    }
    if let Some(hooks) = &status.hooks {
        let mut runs = text.metric(HOOK_RUNS);
        // Those that never ran are 0, so that an increase is seen from the first one on.
        let each = HookEvent::ALL.iter().flat_map(|e| HookResult::ALL.iter().map(|r| (*e, *r)));
        for (event, result) in each {
            let of_it = |runs: &&HookRuns| (runs.event, runs.result) == (event, result);
            let count = hooks.runs.iter().find(of_it).map_or(0, |runs| runs.count);
            runs.value(&[("event", event.name()), ("result", result.name())], count);
        }
        text.metric(HOOK_TIMES).histogram(&[], &hooks.seconds);
    }
    if let Some(monitor) = &status.monitor {
        text.metric(TAKEOVERS).histogram(&[], &status.takeovers);
        of_monitor(text, monitor, conf);
    }
    if let Some(pools) = &status.pools {
        of_pools(text, pools);
    }
}

fn of_memberships(text: &mut MetricsText, status: &Status) {
    let node = status.serving.as_ref().map(|serving| ("node", &serving.times));
    let director = status.pools.as_ref().map(|pools| ("director", &pools.times.memberships));
    let parts = [node, director];
    let mut joins = text.metric(JOINS);
    for (part, times) in parts.iter().flatten() {
        joins.histogram(&[("part", part)], &times.joins);
    }
    let mut leaves = text.metric(LEAVES);
    for (part, times) in parts.iter().flatten() {
        leaves.histogram(&[("part", part)], &times.leaves);
    }
}

fn of_monitor(text: &mut MetricsText, monitor: &MonitorView, conf: Option<&Conf>) {
    text.metric(ACTIVE_DIRECTOR).value(&[], u8::from(monitor.active));
    text.metric(ELECTION_TERM).value(&[], monitor.term);
    let mut elections = text.metric(ELECTIONS);
    elections.value(&[("role", "active")], monitor.became_active);
    elections.value(&[("role", "standby")], monitor.became_standby);
    text.metric(ISOLATED).value(&[], u8::from(monitor.isolated));
    let watched = || monitor.liveness_of.iter().filter(|(node, _)| !monitor.left.contains(node));
    let mut nodes = text.metric(NODES);
    for (liveness, name) in [
        (Liveness::Alive, "alive"),
        (Liveness::AgentDown, "agent_down"),
        (Liveness::Suspected, "suspected"),
        (Liveness::Dead, "dead"),
    ] {
        let count = watched().filter(|(_, is)| **is == liveness).count();
        nodes.value(&[("liveness", name)], count);
    }
    nodes.value(&[("liveness", "left")], monitor.left.len());
    let mut alive = text.metric(NODE_ALIVE);
    for (node, liveness) in watched() {
        let directs = conf.is_some_and(|conf| conf.is_director(*node));
        let kind = if directs { "director" } else { "real_server" };
        let is_alive = u8::from(*liveness == Liveness::Alive);
        alive.value(&[("node", &node.to_string()), ("kind", kind)], is_alive);
    }
    let mut heartbeats = text.metric(HEARTBEATS);
    heartbeats.value(&[("result", "heard")], monitor.heartbeats_heard);
    heartbeats.value(&[("result", "ignored")], monitor.heartbeats_ignored);
    heartbeats.value(&[("result", "refused")], monitor.heartbeats_refused);
}

fn of_pools(text: &mut MetricsText, pools: &TableView) {
    let mut passes = text.metric(PASSES);
    passes.histogram(&[("kind", "full")], &pools.times.full_passes);
    passes.histogram(&[("kind", "changes")], &pools.times.passes);
    text.metric(DRAINING).value(&[], pools.draining.len());
    let mut quiesced = text.metric(QUIESCED);
    for state in ["unhealthy", "damped", "suspected", "former_director", "below_quorum"] {
        let count = pools.quiesced.iter().filter(|quiesced| quiesced.state == state).count();
        quiesced.value(&[("state", state)], count);
    }
    text.metric(CONTESTED).value(&[], u8::from(pools.contested));
    if let Some(sync) = &pools.sync {
        text.metric(SYNC_MISSING).value(&[], u8::from(sync.missing.is_some()));
    }
}

fn of_table(text: &mut MetricsText, table: &OwnedTable, source: &MetricsSource<'_>) {
    let node_of = source.conf.map(nodes_by_address).unwrap_or_default();
    let usable = usable(table, source.conf.map(|_| &node_of));
    if let Some((status, conf)) = source.status.zip(source.conf)
        && status.monitor.as_ref().is_some_and(|monitor| monitor.active)
    {
        let missing = expected(conf, status.node).filter(|id| !usable.contains_key(id)).count();
        let without = usable.values().filter(|count| **count == 0).count();
        text.metric(WITHOUT_SERVER).value(&[], missing + without);
    }
    let is_kept = |label: &DestinationLabel| source.labels.contains(label);
    let all = DestinationLabel::ALL;
    if all.iter().filter(|label| label.is_of_service()).all(is_kept) {
        of_services(text, table, &usable);
    }
    if all.iter().all(is_kept) {
        let mut info = text.metric(DESTINATION_INFO);
        for (service, destinations, owned) in table {
            for DestinationEntry { destination, .. } in destinations {
                let mut labels = of_destination(&service.service.id, &destination.id, &all);
                let node = node_of.get(&destination.id.addr).map(u32::to_string);
                labels.push(("node", node.unwrap_or_default()));
                labels.push(("owner", owner(*owned).to_owned()));
                put(&mut info, &labels, 1);
            }
        }
    }
    let mut sums = Sums::default();
    for (service, destinations, _) in table {
        for entry in destinations {
            let id = &entry.destination.id;
            let labels = of_destination(&service.service.id, id, source.labels);
            sums.add(
                labels,
                [
                    u64::from(entry.destination.weight),
                    u64::from(entry.active),
                    u64::from(entry.inactive),
                    entry.stats.connections,
                    entry.stats.in_bytes,
                    entry.stats.out_bytes,
                ],
            );
        }
    }
    for (place, entry) in [WEIGHT, ACTIVE, INACTIVE, CONNECTIONS, RECEIVED, SENT].iter().enumerate()
    {
        let mut metric = text.metric(*entry);
        for (labels, sum) in sums.at(place) {
            put(&mut metric, labels, sum);
        }
    }
}

fn of_services(text: &mut MetricsText, table: &OwnedTable, usable: &BTreeMap<ServiceId, usize>) {
    let mut told = BTreeSet::new();
    let mut info = text.metric(SERVICE_INFO);
    for (entry, _, owned) in table {
        let mut labels = of_service(&entry.service.id);
        labels.push(("owner", owner(*owned).to_owned()));
        labels.push(("scheduler", entry.service.scheduler.clone()));
        // A firewall mark may stand for both families.
        if told.insert(labels.clone()) {
            put(&mut info, &labels, 1);
        }
    }
    let mut metric = text.metric(USABLE);
    for (id, count) in usable {
        put(&mut metric, &of_service(id), count);
    }
}

fn put(metric: &mut Metric<'_>, labels: &Labels, value: impl std::fmt::Display) {
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    metric.value(&labels, value);
}

fn owner(is_owned: bool) -> &'static str {
    if is_owned { "cvipd" } else { "other" }
}

/// How many real servers get new connections of each service of cvipd's own.
fn usable(
    table: &OwnedTable,
    node_of: Option<&BTreeMap<IpAddr, u32>>,
) -> BTreeMap<ServiceId, usize> {
    let is_usable = |entry: &&DestinationEntry| {
        let is_node = node_of.is_none_or(|known| known.contains_key(&entry.destination.id.addr));
        entry.destination.weight > 0 && is_node
    };
    let owned = table.iter().filter(|(.., owned)| *owned);
    owned
        .map(|(entry, list, _)| (entry.service.id, list.iter().filter(is_usable).count()))
        .collect()
}

/// The services of one port that cvip.conf names at the CVIPs that a node directs.
fn expected(conf: &Conf, node: u32) -> impl Iterator<Item = ServiceId> {
    let cvips = conf.cvips.iter().filter(move |cvip| cvip.is_director(node));
    cvips.flat_map(|cvip| {
        let services = cvip.services.iter().filter(|service| service.start == service.end);
        services.map(|service| {
            let (protocol, port) = (service.protocol, service.start);
            service_id(ServiceKey { cvip: cvip.addr, protocol, port })
        })
    })
}

fn nodes_by_address(conf: &Conf) -> BTreeMap<IpAddr, u32> {
    let servers = conf.cvips.iter().flat_map(|cvip| &cvip.real_servers);
    servers.map(|server| (server.addr, server.node)).collect()
}

#[cfg(test)]
mod tests;
