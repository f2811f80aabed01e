//! The rows of a listing of `top`, as the report and the user's choice have it. Pure.

use super::choice::{Choice, Listing, SortBy, Within};
use crate::cli::cvipctl::drain::DrainArgument;
use crate::cli::cvipctl::overview::{
    Load, NodeNames, Overview, PoolRow, ServerRow, ServerState, address, describe, short,
};

/// An event, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopEvent {
    /// RFC 3339.
    pub(super) at: String,
    /// The node that recorded it.
    pub(super) node: u32,
    pub(super) text: String,
}

/// How a row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowTone {
    Plain,
    Warning,
    Fault,
    Faint,
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct TopRow {
    pub(super) cells: Vec<String>,
    pub(super) tone: RowTone,
    /// More about it, for the line below the rows.
    pub(super) about: String,
    /// What can be drained there, and what that is called.
    pub(super) target: Option<(DrainArgument, String)>,
    /// Of what the real servers are shown if it is opened.
    pub(super) opens: Option<Within>,
    /// By what it is sorted.
    load: Load,
    weight: u64,
}

/// A column: its title, its width, and whether its cells end at its right. The first one of the
/// width 0 takes what is left.
pub(super) type Column = (&'static str, usize, bool);

/// A listing.
#[derive(Clone, Debug)]
pub(super) struct TopRows {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<TopRow>,
}

const SERVICES: &[Column] = &[
    ("Service", 0, false),
    ("Sched", 6, false),
    ("Servers", 8, true),
    ("Active", 8, true),
    ("Inactive", 9, true),
    ("Conn/s", 8, true),
    ("B in/s", 8, true),
];
const SERVERS: &[Column] = &[
    ("Real server", 0, false),
    ("Service", 22, false),
    ("Weight", 7, true),
    ("Active", 7, true),
    ("Conn/s", 7, true),
    ("B in/s", 7, true),
];
const NODES: &[Column] = &[
    ("Node", 5, true),
    ("Name", 12, false),
    ("Role", 24, false),
    ("cvipd", 0, false),
    ("Active", 8, true),
    ("Conn/s", 8, true),
];
const DRAINS: &[Column] =
    &[("Drained", 24, false), ("Left", 6, true), ("By", 18, false), ("Reason", 0, false)];
const EVENTS: &[Column] = &[("Time (UTC)", 19, false), ("Node", 10, false), ("Event", 0, false)];

/// The rows of what was chosen.
pub(super) fn rows(overview: &Overview, events: &[TopEvent], choice: &Choice) -> TopRows {
    let (columns, mut rows) = match choice.listing {
        Listing::Services => (SERVICES, services(overview)),
        Listing::Servers => (SERVERS, servers(overview, choice.within.as_ref())),
        Listing::Nodes => (NODES, nodes(overview)),
        Listing::Drains => (DRAINS, drains(overview)),
        Listing::Events => (EVENTS, events_of(events, &overview.names)),
    };
    if !choice.filter.is_empty() {
        let wanted = choice.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        rows.retain(|row| row.cells.iter().any(|cell| has(cell)) || has(&row.about));
    }
    // Events are in the order of time, and drains of little use in another.
    if !matches!(choice.listing, Listing::Events | Listing::Drains) {
        let amount = |row: &TopRow| match choice.sort {
            SortBy::Name => 0,
            SortBy::Active => row.load.active,
            SortBy::Rate => row.load.rate,
            SortBy::Bytes => row.load.bytes_in_per_s.saturating_add(row.load.bytes_out_per_s),
            SortBy::Weight => row.weight,
        };
        rows.sort_by_key(|row| std::cmp::Reverse(amount(row)));
    }
    TopRows { columns, rows }
}

fn row(cells: Vec<String>) -> TopRow {
    TopRow {
        cells,
        tone: RowTone::Plain,
        about: String::new(),
        target: None,
        opens: None,
        load: Load::default(),
        weight: 0,
    }
}

fn number(load: Option<Load>, of: impl Fn(Load) -> u64) -> String {
    load.map_or_else(|| "-".to_owned(), |load| short(of(load)))
}

fn services(overview: &Overview) -> Vec<TopRow> {
    let of_pool = |pool: &PoolRow| {
        let takes = |server: &&ServerRow| server.weight.is_some_and(|weight| weight > 0);
        let (able, all) = (
            pool.servers.iter().filter(takes).count(),
            pool.servers.iter().filter(|server| server.state != ServerState::Refused).count(),
        );
        let bad = pool.servers.iter().any(|server| tone_of(server.state) == RowTone::Fault);
        TopRow {
            tone: match (able, bad) {
                (0, _) => RowTone::Fault,
                (_, true) => RowTone::Warning,
                (_, false) => RowTone::Plain,
            },
            about: match pool.owned {
                Some(false) => "another program made it, not cvipd".to_owned(),
                _ => String::new(),
            },
            opens: Some(Within::Service(pool.service.clone())),
            load: pool.load.unwrap_or_default(),
            weight: pool.servers.iter().map(|s| u64::from(s.weight.unwrap_or(0))).sum(),
            ..row(vec![
                pool.service.clone(),
                pool.scheduler.clone().unwrap_or_else(|| "-".to_owned()),
                format!("{able}/{all}"),
                number(pool.load, |load| load.active),
                number(pool.load, |load| load.inactive),
                number(pool.load, |load| load.rate),
                number(pool.load, |load| load.bytes_in_per_s),
            ])
        }
    };
    overview.report.pools.iter().map(of_pool).collect()
}

fn servers(overview: &Overview, within: Option<&Within>) -> Vec<TopRow> {
    let pools = overview.report.pools.iter();
    let all = pools.flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
    let wanted = all.filter(|(pool, server)| match within {
        None => true,
        Some(Within::Service(service)) => pool.service == *service,
        Some(Within::Node(node)) => server.node == Some(*node),
    });
    wanted.map(|(pool, server)| of_server(pool, server, &overview.names)).collect()
}

fn of_server(pool: &PoolRow, server: &ServerRow, names: &NodeNames) -> TopRow {
    let called = server.node.map(|node| names.called(node));
    let words: Vec<String> = called.clone().into_iter().chain(address(server)).collect();
    let target = server.node.zip(pool.port).zip(pool.protocol).map(|((node, port), protocol)| {
        let argument = DrainArgument { node, port: Some((port, Some(protocol))) };
        (argument, format!("{} {protocol} {port}", names.numbered(node)))
    });
    let reason = server.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    TopRow {
        tone: tone_of(server.state),
        about: format!("{}{reason}", server.state),
        target,
        load: server.load.unwrap_or_default(),
        weight: server.weight.unwrap_or(0).into(),
        ..row(vec![
            words.join(" "),
            pool.service.clone(),
            server.weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
            number(server.load, |load| load.active),
            number(server.load, |load| load.rate),
            number(server.load, |load| load.bytes_in_per_s),
        ])
    }
}

fn tone_of(state: ServerState) -> RowTone {
    match state {
        ServerState::Serves | ServerState::Sorry => RowTone::Plain,
        ServerState::Drained | ServerState::Draining | ServerState::SlowStart => RowTone::Warning,
        ServerState::Refused => RowTone::Faint,
        _ => RowTone::Fault,
    }
}

fn nodes(overview: &Overview) -> Vec<TopRow> {
    let report = &overview.report;
    let of_node = |node: &crate::cli::cvipctl::overview::NodeRow| {
        let servers = report.pools.iter().flat_map(|pool| &pool.servers);
        let mine = servers.filter(|server| server.node == Some(node.node));
        let load = mine.filter_map(|server| server.load).fold(Load::default(), Load::and);
        let state = describe(node);
        let called = overview.names.numbered(node.node);
        TopRow {
            tone: match state.as_str() {
                "running" => RowTone::Plain,
                "left" | "leaving" | "not known" => RowTone::Faint,
                _ => RowTone::Fault,
            },
            about: node.hints.join("; "),
            target: Some((DrainArgument { node: node.node, port: None }, called)),
            opens: Some(Within::Node(node.node)),
            load,
            weight: node.weights.iter().map(|weight| u64::from(*weight)).max().unwrap_or(0),
            ..row(vec![
                node.node.to_string(),
                overview.names.name(node.node).unwrap_or_default().to_owned(),
                node.roles.join(", "),
                state,
                short(load.active),
                short(load.rate),
            ])
        }
    };
    report.nodes.iter().map(of_node).collect()
}

fn drains(overview: &Overview) -> Vec<TopRow> {
    let of_drain = |drain: &crate::cli::rows::DrainRow| {
        let target = drain.target;
        let argument = DrainArgument {
            node: target.node,
            port: target.port.map(|(protocol, port)| (port, Some(protocol))),
        };
        let port = target.port.map_or_else(String::new, |(protocol, p)| format!(" {protocol} {p}"));
        let called = format!("{}{port}", overview.names.numbered(target.node));
        let left = drain.connections.unwrap_or(0);
        let reason = drain.reason.clone().unwrap_or_default();
        TopRow {
            tone: if left == 0 { RowTone::Plain } else { RowTone::Warning },
            target: Some((argument, called.clone())),
            opens: Some(Within::Node(target.node)),
            ..row(vec![called, left.to_string(), drain.by.clone(), reason])
        }
    };
    overview.report.drains.iter().map(of_drain).collect()
}

/// The last one first.
fn events_of(events: &[TopEvent], names: &NodeNames) -> Vec<TopRow> {
    let of_event = |event: &TopEvent| {
        // To the second, without the letters between.
        let at = event.at.get(..19).unwrap_or(&event.at).replace('T', " ");
        let node = names.called(event.node);
        TopRow { about: event.text.clone(), ..row(vec![at, node, event.text.clone()]) }
    };
    events.iter().rev().map(of_event).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::shown;
    use super::*;

    fn first(listing: Listing, sort: SortBy) -> Vec<String> {
        let rows = shown(&Choice { listing, sort, ..Choice::default() });
        rows.rows.iter().map(|row| row.cells[0].clone()).collect()
    }

    #[test]
    fn rows_are_sorted_by_what_is_most_and_else_by_name() {
        assert_eq!(
            first(Listing::Services, SortBy::Name),
            ["tcp 192.0.2.10:80", "tcp 192.0.2.10:8080", "udp 192.0.2.10:53"]
        );
        assert_eq!(first(Listing::Nodes, SortBy::Rate), ["2", "1", "3"]);
        assert_eq!(first(Listing::Nodes, SortBy::Name), ["1", "2", "3"]);
        assert_eq!(first(Listing::Servers, SortBy::Active)[0], "beta 192.0.2.2:80");
    }

    #[test]
    fn the_last_event_comes_first_and_every_row_has_a_cell_for_each_column() {
        assert_eq!(first(Listing::Events, SortBy::Rate)[0], "2026-03-01 10:00:02");
        for listing in Listing::ALL {
            let shown = shown(&Choice { listing, ..Choice::default() });
            assert!(!shown.rows.is_empty(), "{listing:?}");
            assert!(shown.rows.iter().all(|row| row.cells.len() == shown.columns.len()));
        }
    }

    #[test]
    fn a_real_server_that_gets_no_new_connections_says_why() {
        let rows = shown(&Choice { listing: Listing::Servers, ..Choice::default() }).rows;
        assert_eq!(rows[1].about, "unhealthy: status 503, not 200-399");
        assert_eq!((rows[0].tone, rows[1].tone), (RowTone::Plain, RowTone::Fault));
    }
}
