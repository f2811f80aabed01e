//! What is drawn: directors, services and real servers in three columns, and who sends connections
//! where. Pure.

use std::collections::BTreeMap;

use super::super::overview::{NodeNames, NodeRow, ServerRow, ServerState, StatusReport, describe};
use crate::output::harmless;

/// A drawing of the cluster.
#[derive(Debug)]
pub(super) struct Drawing {
    /// The cluster in one line.
    pub(super) title: String,
    /// Boxes in the order of their columns.
    pub(super) boxes: Vec<DrawnBox>,
    pub(super) edges: Vec<Edge>,
}

/// Something of the cluster.
#[derive(Debug)]
pub(super) struct DrawnBox {
    /// A letter and a number: unique.
    pub(super) id: String,
    /// From the left: directors, services, real servers.
    pub(super) column: usize,
    /// The first line is what it is called.
    pub(super) lines: Vec<String>,
    pub(super) look: Look,
}

/// Connections from one to another.
#[derive(Debug)]
pub(super) struct Edge {
    /// Indexes of boxes.
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: String,
    pub(super) look: Look,
}

/// How something is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It works.
    Good,
    /// It is on its way out, by an order.
    Waits,
    /// It does not work.
    Bad,
    /// It takes no part now: a standby, or what has left.
    Idle,
}

impl Look {
    #[cfg(test)]
    pub(super) const ALL: [Look; 4] = [Look::Good, Look::Waits, Look::Bad, Look::Idle];

    /// The word for it, in classes of the image.
    pub(super) fn name(self) -> &'static str {
        match self {
            Look::Good => "good",
            Look::Waits => "waits",
            Look::Bad => "bad",
            Look::Idle => "idle",
        }
    }

    fn of_server(server: &ServerRow) -> Look {
        match server.state {
            ServerState::Serves | ServerState::Sorry | ServerState::SlowStart => Look::Good,
            ServerState::Drained | ServerState::Draining => Look::Waits,
            ServerState::Refused => Look::Idle,
            _ => Look::Bad,
        }
    }

    fn of_node(row: &NodeRow) -> Look {
        match describe(row).as_str() {
            "running" => Look::Good,
            "left" | "leaving" | "not known" => Look::Idle,
            _ => Look::Bad,
        }
    }
}

impl Drawing {
    pub(super) fn of(report: &StatusReport, names: &NodeNames) -> Drawing {
        let mut boxes = Vec::new();
        let mut add = |column: usize, letter: char, lines: Vec<String>, look: Look| {
            let id = format!("{letter}{}", boxes.len());
            let lines = lines.iter().map(|line| harmless(&line.replace('\n', " "))).collect();
            boxes.push(DrawnBox { id, column, lines, look });
            boxes.len() - 1
        };
        let row_of = |node: u32| report.nodes.iter().find(|row| row.node == node);
        let state_of = |node: u32| row_of(node).map_or_else(|| "not known".to_owned(), describe);
        let look_of = |node: u32| row_of(node).map_or(Look::Idle, Look::of_node);
        // Directors, those of each set together.
        let mut directors: BTreeMap<(usize, u32), usize> = BTreeMap::new();
        for (at, set) in report.director_sets.iter().enumerate() {
            let cvips: Vec<String> = set.cvips.iter().map(ToString::to_string).collect();
            for node in &set.directors {
                let is_active = set.is_active(*node);
                let role = if is_active { "active director" } else { "standby" };
                let mut lines = vec![names.numbered(*node), format!("{role}, {}", state_of(*node))];
                if is_active {
                    lines.extend(cvips.iter().map(|cvip| format!("CVIP {cvip}")));
                }
                let look = match (look_of(*node), is_active) {
                    (Look::Good, false) => Look::Idle,
                    (look, _) => look,
                };
                directors.insert((at, *node), add(0, 'd', lines, look));
            }
        }
        let mut services = Vec::new();
        for pool in &report.pools {
            let mut lines = vec![pool.service.clone()];
            lines.extend(pool.scheduler.clone());
            if let Some(load) = pool.load {
                lines.push(format!(
                    "{} active, {} inactive, {}/s",
                    load.active, load.inactive, load.rate
                ));
            }
            let serves = pool.servers.iter().any(|s| s.weight.is_some_and(|weight| weight > 0));
            services.push(add(1, 's', lines, if serves { Look::Good } else { Look::Bad }));
        }
        // Real servers: nodes, and addresses that are none.
        let mut servers: BTreeMap<String, usize> = BTreeMap::new();
        for row in report.nodes.iter().filter(|row| !row.addresses.is_empty()) {
            let mut lines = vec![names.numbered(row.node), state_of(row.node)];
            lines.extend(row.addresses.iter().map(ToString::to_string));
            servers.insert(names.numbered(row.node), add(2, 'n', lines, look_of(row.node)));
        }
        let mut edges = Vec::new();
        for (pool, service) in report.pools.iter().zip(&services) {
            for server in &pool.servers {
                let called = match (server.node, server.address) {
                    (Some(node), _) => names.numbered(node),
                    (None, Some(address)) => address.to_string(),
                    (None, None) => continue,
                };
                let to = *servers
                    .entry(called.clone())
                    .or_insert_with(|| add(2, 'n', vec![called], Look::Idle));
                let weight = server.weight.map(|weight| format!("weight {weight}"));
                let active = server.load.map(|load| format!("{} active", load.active));
                let state = (server.state != ServerState::Serves).then(|| server.state.to_string());
                let words: Vec<String> = state.into_iter().chain(weight).chain(active).collect();
                edges.push(Edge {
                    from: *service,
                    to,
                    label: words.join(", "),
                    look: Look::of_server(server),
                });
            }
        }
        for ((at, node), from) in &directors {
            let set = &report.director_sets[*at];
            if !set.is_active(*node) {
                continue;
            }
            for (pool, to) in report.pools.iter().zip(&services) {
                if pool.cvip.is_some_and(|cvip| set.cvips.contains(&cvip)) {
                    let look = boxes[*from].look;
                    edges.push(Edge { from: *from, to: *to, label: String::new(), look });
                }
            }
        }
        let title = harmless(&report.headline.line(usize::MAX));
        Drawing { title, boxes, edges }
    }
}
