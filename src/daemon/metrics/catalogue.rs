//! Every metric: its name, its kind, what it says, and its labels. The text, the man page and the
//! tests of dashboard and alerts go by this list.

/// A metric: what stands in its head, and in its values' labels.
#[derive(Clone, Copy, Debug)]
pub struct MetricEntry {
    /// Its name.
    pub name: &'static str,
    /// `gauge`; `counter`, which only grows while cvipd or the destination lives; or `histogram`.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The labels of its values, each with what it says.
    #[cfg_attr(not(feature = "internal"), allow(dead_code))]
    pub labels: &'static [(&'static str, &'static str)],
}

const fn gauge(name: &'static str, help: &'static str) -> MetricEntry {
    MetricEntry { name, kind: "gauge", help, labels: &[] }
}

const fn histogram(name: &'static str, help: &'static str) -> MetricEntry {
    MetricEntry { name, kind: "histogram", help, labels: &[] }
}

const fn counter(name: &'static str, help: &'static str) -> MetricEntry {
    MetricEntry { name, kind: "counter", help, labels: &[] }
}

impl MetricEntry {
    const fn by(self, labels: &'static [(&'static str, &'static str)]) -> MetricEntry {
        MetricEntry { labels, ..self }
    }
}

pub(super) const UP: MetricEntry = gauge("cvip_up", "1 if this node's cvipd runs.");
pub(super) const BUILD: MetricEntry = gauge("cvip_build_info", "1; its labels say what was built.")
    .by(&[
        ("version", "cvip's version"),
        ("features", "the features with which it was built, separated by commas"),
    ]);
pub(super) const NODE: MetricEntry =
    gauge("cvip_node_info", "1; its labels say which node this is.").by(&[
        ("node", "its number"),
        ("set", "of a director: the lowest node number of its director set; else empty"),
    ]);
pub(super) const EVENT_SOURCE: MetricEntry =
    gauge("cvip_event_source_info", "1; its labels say how listeners are noticed on this node.")
        .by(&[
            ("kind", "`socket_events` or `polling`"),
            ("source", "the same in words, with the reason for polling"),
        ]);
pub(super) const FAULTS: MetricEntry =
    gauge("cvip_faults", "Faults of the configuration that was not taken.");
pub(super) const ADDRESS_FAULTS: MetricEntry =
    gauge("cvip_address_faults", "What is wrong with this node's addresses and settings.");
pub(super) const STORE_UNAVAILABLE: MetricEntry = gauge(
    "cvip_store_unavailable_seconds",
    "For how long the store has been unavailable; 0 if it is not.",
);
pub(super) const STORE_REQUESTS: MetricEntry =
    counter("cvip_store_requests_total", "Requests that were sent to the store.");
pub(super) const STORE_TIMES: MetricEntry = histogram(
    "cvip_store_request_seconds",
    "How long answered requests to the store took; with the embedded store, files of the main thread.",
);
const PART: &[(&str, &str)] = &[(
    "part",
    "`node`: from a listener that is seen, or seen to be gone, to the record in the store; \
     `director`: from there, as the director reads it, to the kernel's table",
)];
pub(super) const JOINS: MetricEntry =
    histogram("cvip_join_seconds", "How long joins took.").by(PART);
pub(super) const LEAVES: MetricEntry =
    histogram("cvip_leave_seconds", "How long leaves took, up to the last new connection.")
        .by(PART);
pub(super) const PASSES: MetricEntry =
    histogram("cvip_reconcile_seconds", "How long passes took that reconciled the kernel's table.")
        .by(&[("kind", "`full`, or `changes`: of the services that a change touched")]);
pub(super) const TAKEOVERS: MetricEntry = histogram(
    "cvip_takeover_seconds",
    "How long it took to become the active director: from the election to the addresses.",
);
pub(super) const HEARTBEATS_SENT: MetricEntry =
    counter("cvip_heartbeats_sent_total", "Heartbeats to other directors, one for each address.")
        .by(&[("result", "`sent`, or `unsent`: the kernel did not take it")]);
pub(super) const HOOK_RUNS: MetricEntry = counter(
    "cvip_hook_runs_total",
    "Runs of hooks, and events for which none was run.",
)
.by(&[
    ("event", "`active`, `giving-up`, `standby`, `quorum-up` or `quorum-down`"),
    (
        "result",
        "`done`, `failed`, `killed` (its time was over) or `skipped` (the event was outdated, or \
             no time was left)",
    ),
]);
pub(super) const HOOK_TIMES: MetricEntry = histogram("cvip_hook_seconds", "How long hooks took.");
pub(super) const ACTIVE_DIRECTOR: MetricEntry =
    gauge("cvip_active_director", "1 if this is the active director of its set.");
pub(super) const ELECTION_TERM: MetricEntry =
    gauge("cvip_election_term", "The highest term of the set's election that is known.");
pub(super) const ELECTIONS: MetricEntry =
    counter("cvip_elections_total", "Elections that changed what this director is.")
        .by(&[("role", "what it became: `active` or `standby`")]);
pub(super) const ISOLATED: MetricEntry =
    gauge("cvip_isolated", "1 if this director suspects its own link.");
pub(super) const NODES: MetricEntry = gauge("cvip_nodes", "Other nodes, by their liveness.")
    .by(&[("liveness", "`alive`, `agent_down`, `suspected`, `dead` or `left`")]);
pub(super) const NODE_ALIVE: MetricEntry = gauge(
    "cvip_node_alive",
    "1 if this director finds another node alive. A node that has left has no value.",
)
.by(&[
    ("node", "the other node's number"),
    ("kind", "`director`, which it may be beside `real_server`, or `real_server` alone"),
]);
pub(super) const HEARTBEATS: MetricEntry = counter("cvip_heartbeats_total", "Heartbeats received.")
    .by(&[(
        "result",
        "`heard` (new), `ignored` (late, doubled, replayed, or of a node that is not watched) or \
         `refused` (no heartbeat of this cluster)",
    )]);
pub(super) const DRAINING: MetricEntry =
    gauge("cvip_draining_destinations", "Destinations that are draining.");
pub(super) const QUIESCED: MetricEntry = gauge(
    "cvip_quiesced_destinations",
    "Destinations that listen and are quiesced: they get no new connections while another is left.",
)
.by(&[("state", "`unhealthy`, `damped`, `suspected`, `former_director` or `below_quorum`")]);
pub(super) const CONTESTED: MetricEntry = gauge(
    "cvip_table_contested",
    "1 if another program changes the table again and again, so that it is repaired less often.",
);
pub(super) const SYNC_MISSING: MetricEntry =
    gauge("cvip_sync_daemon_missing", "1 if the sync daemon of this director's role does not run.");
pub(super) const WITHOUT_SERVER: MetricEntry = gauge(
    "cvip_services_without_server",
    "Services of this active director for which no real server gets new connections: of its table, \
     and those of one port that cvip.conf names and that have none.",
);

const OF_SERVICE: [(&str, &str); 4] = [
    ("local_address", "the virtual address; empty for a firewall mark"),
    ("local_port", "the virtual port; 0 for a firewall mark"),
    ("proto", "`TCP`, `UDP`, `SCTP`, or `FWM` for a firewall mark"),
    ("local_mark", "the firewall mark, in eight hexadecimal digits, or empty"),
];
const OWNER: (&str, &str) =
    ("owner", "`cvipd`, or `other` for a service that another program made");
const REMOTE: [(&str, &str); 2] =
    [("remote_address", "the real server's address"), ("remote_port", "the real server's port")];
const SERVICE: &[(&str, &str)] = &[OF_SERVICE[0], OF_SERVICE[1], OF_SERVICE[2], OF_SERVICE[3]];
const SERVICE_TOLD: &[(&str, &str)] = &[
    OF_SERVICE[0],
    OF_SERVICE[1],
    OF_SERVICE[2],
    OF_SERVICE[3],
    OWNER,
    ("scheduler", "its scheduler"),
];
const DESTINATION: &[(&str, &str)] =
    &[OF_SERVICE[0], OF_SERVICE[1], REMOTE[0], REMOTE[1], OF_SERVICE[2], OF_SERVICE[3]];
const DESTINATION_TOLD: &[(&str, &str)] = &[
    OF_SERVICE[0],
    OF_SERVICE[1],
    REMOTE[0],
    REMOTE[1],
    OF_SERVICE[2],
    OF_SERVICE[3],
    ("node", "the real server's node number; empty for a sorry server and for a stranger"),
    OWNER,
];

pub(super) const SERVICE_INFO: MetricEntry =
    gauge("cvip_service_info", "1 for each virtual service of the kernel's table.")
        .by(SERVICE_TOLD);
pub(super) const USABLE: MetricEntry = gauge(
    "cvip_service_usable_destinations",
    "Real servers that get new connections of a service, by the kernel's table: of cvipd's own, \
     without sorry servers.",
)
.by(SERVICE);
pub(super) const DESTINATION_INFO: MetricEntry =
    gauge("cvip_destination_info", "1 for each destination of the kernel's table.")
        .by(DESTINATION_TOLD);
pub(super) const WEIGHT: MetricEntry =
    gauge("cvip_destination_weight", "Weight in the kernel's table.").by(DESTINATION);
pub(super) const ACTIVE: MetricEntry =
    gauge("cvip_destination_active", "Active connections.").by(DESTINATION);
pub(super) const INACTIVE: MetricEntry =
    gauge("cvip_destination_inactive", "Inactive connections.").by(DESTINATION);
pub(super) const CONNECTIONS: MetricEntry =
    counter("cvip_destination_connections_total", "Connections scheduled.").by(DESTINATION);
pub(super) const RECEIVED: MetricEntry =
    counter("cvip_destination_received_bytes_total", "Bytes from clients.").by(DESTINATION);
pub(super) const SENT: MetricEntry = counter(
    "cvip_destination_sent_bytes_total",
    "Bytes to clients, as far as they pass the director: with NAT.",
)
.by(DESTINATION);

/// Every metric, in the order in which they are printed.
pub const METRICS: &[MetricEntry] = &[
    UP,
    BUILD,
    NODE,
    EVENT_SOURCE,
    FAULTS,
    ADDRESS_FAULTS,
    STORE_UNAVAILABLE,
    STORE_REQUESTS,
    STORE_TIMES,
    JOINS,
    LEAVES,
    HEARTBEATS_SENT,
    TAKEOVERS,
    HOOK_RUNS,
    HOOK_TIMES,
    ACTIVE_DIRECTOR,
    ELECTION_TERM,
    ELECTIONS,
    ISOLATED,
    NODES,
    NODE_ALIVE,
    HEARTBEATS,
    PASSES,
    DRAINING,
    QUIESCED,
    CONTESTED,
    SYNC_MISSING,
    WITHOUT_SERVER,
    SERVICE_INFO,
    USABLE,
    DESTINATION_INFO,
    WEIGHT,
    ACTIVE,
    INACTIVE,
    CONNECTIONS,
    RECEIVED,
    SENT,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of metrics in a text, without what a histogram adds to its own.
    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("cvip_")).map(|word| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
        })
    }

    #[test]
    fn alerts_and_dashboard_name_metrics_that_there_are() {
        for text in [
            include_str!("../../../packaging/prometheus/alerts.yml"),
            include_str!("../../../packaging/prometheus/alerts.test.yml"),
            include_str!("../../../packaging/grafana/cvip.json"),
        ] {
            assert!(names_in(text).count() > 10);
            for name in names_in(text) {
                assert!(METRICS.iter().any(|entry| entry.name == name), "{name}");
            }
        }
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for MetricEntry { name, kind, help, .. } in METRICS {
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
            assert!(name.starts_with("cvip_") && help.ends_with('.'), "{name}");
            assert!(*kind != "histogram" || name.ends_with("_seconds"), "{name}");
        }
    }
}
