//! `cvipctl metrics`: counts for Prometheus, in its text format (exposition format 0.0.4).

use std::fmt::{self, Write};

use super::super::{NodeOption, OK, Site, Streams};
use super::status::read_table;
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

/// The text as it grows.
#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn metric(&mut self, name: &str, kind: &str, help: &str) -> Metric<'_> {
        let name = format!("cvip_{name}");
        // A string takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { text: &mut self.0, name }
    }

    fn gauge(&mut self, name: &str, help: &str) -> Metric<'_> {
        self.metric(name, "gauge", help)
    }

    fn of_cvipd(&mut self, status: Option<Box<Status>>) {
        let is_up = u8::from(status.is_some());
        self.gauge("up", "1 if this node's cvipd runs.").value(&[], is_up);
        let Some(status) = status else { return };
        self.gauge("faults", "Faults of the configuration that was not taken.")
            .value(&[], status.faults.len());
        self.gauge(
            "store_unavailable_seconds",
            "For how long the store has been unavailable; 0 if it is not.",
        )
        .value(&[], status.store_unavailable_s.unwrap_or(0));
        self.metric("store_requests_total", "counter", "Requests that were sent to the store.")
            .value(&[], status.store_requests);
        if let Some(monitor) = status.monitor {
            self.gauge("active_director", "1 if this is the active director of its set.")
                .value(&[], u8::from(monitor.active));
            self.gauge("election_term", "The highest term of the set's election that is known.")
                .value(&[], monitor.term);
            self.gauge("isolated", "1 if this director suspects its own link.")
                .value(&[], u8::from(monitor.isolated));
            let mut nodes = self.gauge("nodes", "Other nodes, by their liveness.");
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
            let mut heartbeats = self.metric("heartbeats_total", "counter", "Heartbeats received.");
            heartbeats.value(&[("result", "heard")], monitor.heartbeats_heard);
            heartbeats.value(&[("result", "ignored")], monitor.heartbeats_ignored);
            heartbeats.value(&[("result", "refused")], monitor.heartbeats_refused);
        }
        if let Some(pools) = status.pools {
            self.gauge("draining_destinations", "Destinations that are draining.")
                .value(&[], pools.draining.len());
            let mut quiesced = self.gauge(
                "quiesced_destinations",
                "Destinations that listen and are quiesced: they get no new connections while \
                 another is left.",
            );
            for state in ["unhealthy", "damped", "suspected", "former_director"] {
                let count =
                    pools.quiesced.iter().filter(|quiesced| quiesced.state == state).count();
                quiesced.value(&[("state", state)], count);
            }
        }
    }

    fn of_table(&mut self, table: &[(ServiceEntry, Vec<DestinationEntry>, bool)]) {
        type Count = fn(&DestinationEntry) -> u64;
        let counts: [(&str, &str, &str, Count); 5] = [
            ("destination_weight", "gauge", "Weight in the kernel's table.", |entry| {
                u64::from(entry.destination.weight)
            }),
            ("destination_active", "gauge", "Active connections.", |e| u64::from(e.active)),
            ("destination_inactive", "gauge", "Inactive connections.", |e| u64::from(e.inactive)),
            ("destination_connections_total", "counter", "Connections scheduled.", |e| {
                e.stats.connections
            }),
            ("destination_received_bytes_total", "counter", "Bytes from clients.", |e| {
                e.stats.in_bytes
            }),
        ];
        for (name, kind, help, count) in counts {
            let mut metric = self.metric(name, kind, help);
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
    name: String,
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
        let mut nodes = text.gauge("nodes", "Other nodes.");
        nodes.value(&[("liveness", "alive")], 3);
        nodes.value(&[], 4);
        assert_eq!(
            text.0,
            "# HELP cvip_nodes Other nodes.\n# TYPE cvip_nodes gauge\n\
             cvip_nodes{liveness=\"alive\"} 3\ncvip_nodes 4\n"
        );
        let mut text = MetricsText::default();
        text.of_cvipd(None);
        assert!(text.0.ends_with("cvip_up 0\n"));
    }
}
