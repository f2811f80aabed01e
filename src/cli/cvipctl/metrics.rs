//! `cvipctl metrics`: counts for Prometheus, in its text format (exposition format 0.0.4).

use std::fmt::{self, Write};

use super::super::{NodeOption, OK, Site, Streams};
use super::overview::read_table;
use crate::daemon::{ControlError, ControlRequest, Response, Status, ask};
use crate::director::liveness::Liveness;
use crate::ipvs::{DestinationEntry, ServiceEntry};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let me = site.known_node(&args.node)?;
    let mut text = MetricsText::default();
    text.of_cvipd(match ask(&site.run_dir, me, ControlRequest::Status) {
        Ok(Response::Status(status)) => Some(status),
        Ok(_) | Err(ControlError::Absent(_)) => None,
        Err(error) => return Err(error.into()),
    });
    // The store says who owns a service; while it is unavailable, cvipd's own answer still counts.
    let problem = match site.state() {
        Ok((state, _)) => match read_table(&state) {
            Ok(table) => {
                text.of_table(&table);
                None
            }
            Err(error) => Some(error.to_string()),
        },
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(problem) = problem {
        writeln!(streams.err, "cvipctl: the kernel's table is left out: {problem}")?;
    }
    write!(streams.out, "{}", text.0)?;
    Ok(OK)
}

/// A metric: what stands in its head, and in its values' labels.
#[derive(Clone, Copy, Debug)]
pub struct MetricEntry {
    /// Its name.
    pub name: &'static str,
    /// `gauge`, or `counter`, which only grows while cvipd or the destination lives.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The labels of its values, each with what it says.
    pub labels: &'static [(&'static str, &'static str)],
}

const fn gauge(name: &'static str, help: &'static str) -> MetricEntry {
    MetricEntry { name, kind: "gauge", help, labels: &[] }
}

const fn counter(name: &'static str, help: &'static str) -> MetricEntry {
    MetricEntry { name, kind: "counter", help, labels: &[] }
}

impl MetricEntry {
    const fn by(self, labels: &'static [(&'static str, &'static str)]) -> MetricEntry {
        MetricEntry { labels, ..self }
    }
}

const UP: MetricEntry = gauge("cvip_up", "1 if this node's cvipd runs.");
const FAULTS: MetricEntry = gauge("cvip_faults", "Faults of the configuration that was not taken.");
const STORE_UNAVAILABLE: MetricEntry = gauge(
    "cvip_store_unavailable_seconds",
    "For how long the store has been unavailable; 0 if it is not.",
);
const STORE_REQUESTS: MetricEntry =
    counter("cvip_store_requests_total", "Requests that were sent to the store.");
const ACTIVE_DIRECTOR: MetricEntry =
    gauge("cvip_active_director", "1 if this is the active director of its set.");
const ELECTION_TERM: MetricEntry =
    gauge("cvip_election_term", "The highest term of the set's election that is known.");
const ISOLATED: MetricEntry = gauge("cvip_isolated", "1 if this director suspects its own link.");
const NODES: MetricEntry = gauge("cvip_nodes", "Other nodes, by their liveness.")
    .by(&[("liveness", "`alive`, `agent_down`, `suspected`, `dead` or `left`")]);
const HEARTBEATS: MetricEntry = counter("cvip_heartbeats_total", "Heartbeats received.").by(&[(
    "result",
    "`heard` (new), `ignored` (late, doubled, replayed, or of a node that is not watched) or \
     `refused` (no heartbeat of this cluster)",
)]);
const DRAINING: MetricEntry =
    gauge("cvip_draining_destinations", "Destinations that are draining.");
const QUIESCED: MetricEntry = gauge(
    "cvip_quiesced_destinations",
    "Destinations that listen and are quiesced: they get no new connections while another is left.",
)
.by(&[("state", "`unhealthy`, `damped`, `suspected`, `former_director` or `below_quorum`")]);
const OF_DESTINATION: &[(&str, &str)] = &[
    ("service", "the virtual service"),
    ("destination", "the real server's address and port"),
    ("owner", "`cvipd`, or `other` for a service that another program made"),
];
const WEIGHT: MetricEntry =
    gauge("cvip_destination_weight", "Weight in the kernel's table.").by(OF_DESTINATION);
const ACTIVE: MetricEntry =
    gauge("cvip_destination_active", "Active connections.").by(OF_DESTINATION);
const INACTIVE: MetricEntry =
    gauge("cvip_destination_inactive", "Inactive connections.").by(OF_DESTINATION);
const CONNECTIONS: MetricEntry =
    counter("cvip_destination_connections_total", "Connections scheduled.").by(OF_DESTINATION);
const RECEIVED: MetricEntry =
    counter("cvip_destination_received_bytes_total", "Bytes from clients.").by(OF_DESTINATION);

/// Every metric, in the order in which they are printed.
pub const METRICS: &[MetricEntry] = &[
    UP,
    FAULTS,
    STORE_UNAVAILABLE,
    STORE_REQUESTS,
    ACTIVE_DIRECTOR,
    ELECTION_TERM,
    ISOLATED,
    NODES,
    HEARTBEATS,
    DRAINING,
    QUIESCED,
    WEIGHT,
    ACTIVE,
    INACTIVE,
    CONNECTIONS,
    RECEIVED,
];

/// The text as it grows.
#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn metric(&mut self, entry: MetricEntry) -> Metric<'_> {
        let MetricEntry { name, kind, help, .. } = entry;
        debug_assert!(METRICS.iter().any(|told| told.name == name), "{name} is not documented");
        // A string takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { text: &mut self.0, name }
    }

    fn of_cvipd(&mut self, status: Option<Box<Status>>) {
        let is_up = u8::from(status.is_some());
        self.metric(UP).value(&[], is_up);
        let Some(status) = status else { return };
        self.metric(FAULTS).value(&[], status.faults.len());
        self.metric(STORE_UNAVAILABLE).value(&[], status.store_unavailable_s.unwrap_or(0));
        self.metric(STORE_REQUESTS).value(&[], status.store_requests);
        if let Some(monitor) = status.monitor {
            self.metric(ACTIVE_DIRECTOR).value(&[], u8::from(monitor.active));
            self.metric(ELECTION_TERM).value(&[], monitor.term);
            self.metric(ISOLATED).value(&[], u8::from(monitor.isolated));
            let mut nodes = self.metric(NODES);
            for (liveness, name) in [
                (Liveness::Alive, "alive"),
                (Liveness::AgentDown, "agent_down"),
                (Liveness::Suspected, "suspected"),
                (Liveness::Dead, "dead"),
            ] {
                let liveness_of =
                    monitor.liveness_of.iter().filter(|(node, _)| !monitor.left.contains(node));
                nodes.value(
                    &[("liveness", name)],
                    liveness_of.filter(|(_, is)| **is == liveness).count(),
                );
            }
            nodes.value(&[("liveness", "left")], monitor.left.len());
            let mut heartbeats = self.metric(HEARTBEATS);
            heartbeats.value(&[("result", "heard")], monitor.heartbeats_heard);
            heartbeats.value(&[("result", "ignored")], monitor.heartbeats_ignored);
            heartbeats.value(&[("result", "refused")], monitor.heartbeats_refused);
        }
        if let Some(pools) = status.pools {
            self.metric(DRAINING).value(&[], pools.draining.len());
            let mut quiesced = self.metric(QUIESCED);
            for state in ["unhealthy", "damped", "suspected", "former_director", "below_quorum"] {
                let count =
                    pools.quiesced.iter().filter(|quiesced| quiesced.state == state).count();
                quiesced.value(&[("state", state)], count);
            }
        }
    }

    fn of_table(&mut self, table: &[(ServiceEntry, Vec<DestinationEntry>, bool)]) {
        type Count = fn(&DestinationEntry) -> u64;
        let counts: [(MetricEntry, Count); 5] = [
            (WEIGHT, |entry| u64::from(entry.destination.weight)),
            (ACTIVE, |entry| u64::from(entry.active)),
            (INACTIVE, |entry| u64::from(entry.inactive)),
            (CONNECTIONS, |entry| entry.stats.connections),
            (RECEIVED, |entry| entry.stats.in_bytes),
        ];
        for (entry, count) in counts {
            let mut metric = self.metric(entry);
            for (service, destinations, owned) in table {
                let id = service.service.id.to_string();
                for entry in destinations {
                    let destination = entry.destination.id.to_string();
                    let owner = if *owned { "cvipd" } else { "other" };
                    let labels =
                        [("service", &*id), ("destination", &destination), ("owner", owner)];
                    metric.value(&labels, count(entry));
                }
            }
        }
    }
}

/// One metric, whose values follow its head.
struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    /// A value. Labels are words and addresses: nothing in them needs to be escaped.
    fn value(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_its_head_and_labels() {
        let mut text = MetricsText::default();
        let mut nodes = text.metric(NODES);
        nodes.value(&[("liveness", "alive")], 3);
        nodes.value(&[], 4);
        assert_eq!(
            text.0,
            "# HELP cvip_nodes Other nodes, by their liveness.\n# TYPE cvip_nodes gauge\n\
             cvip_nodes{liveness=\"alive\"} 3\ncvip_nodes 4\n"
        );
        let mut text = MetricsText::default();
        text.of_cvipd(None);
        assert!(text.0.ends_with("cvip_up 0\n"));
    }
}
