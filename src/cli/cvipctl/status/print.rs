//! The report as tables, for people.

use std::io::Write;

use super::super::super::{Streams, cells, harmless, ports, table};
use super::report::{NodeRow, RefusedRow, StatusReport, StatusTable};
use crate::director::liveness::Liveness;
use crate::store::ServiceKey;

const NODES: [&str; 6] = ["Node", "Address", "Weight", "Role", "cvipd", "Listeners noticed by"];
const SETS: [&str; 4] = ["Directors", "CVIP", "Active", "Term"];
const FLAGS: [&str; 4] = ["Flag of", "Protocol", "Ports", "Weight"];
const REGISTERED: [&str; 3] = ["Registered", "Node", "Weight"];
const STATIC: [&str; 3] = ["Static", "Node", "Weight"];
const REFUSED: [&str; 4] = ["Does not join", "Node", "Bound to", "Reason"];
const DRAINED: [&str; 4] = ["Drained", "Connections", "By", "Reason"];
const DRAINING: [&str; 5] = ["On the way out", "Address", "Active", "Inactive", "At the latest in"];
const QUIESCED: [&str; 4] = ["Quiesced", "Address", "State", "Reason"];
const KERNEL: [&str; 6] = ["In the kernel", "", "Forward", "Weight", "Active", "Inactive"];

/// The titles of each table that `status` prints, in its order.
pub const STATUS_TITLES: [&[&str]; 10] = [
    &NODES,
    &SETS,
    &FLAGS,
    &REGISTERED,
    &STATIC,
    &REFUSED,
    &DRAINED,
    &DRAINING,
    &QUIESCED,
    &KERNEL,
];

pub(super) fn print(
    report: &StatusReport,
    table: Option<&StatusTable>,
    streams: &mut Streams<'_>,
) -> anyhow::Result<()> {
    for problem in &report.problems {
        writeln!(streams.err, "{}", harmless(problem))?;
    }
    let mut text = Vec::new();
    write(&mut text, report, table)?;
    streams.out.write_all(harmless(&String::from_utf8_lossy(&text)).as_bytes())?;
    Ok(())
}

fn write(
    out: &mut dyn Write,
    report: &StatusReport,
    table: Option<&StatusTable>,
) -> anyhow::Result<()> {
    match &report.routing {
        Some(routing) => writeln!(out, "CVIP {} by {routing}\n", join(&report.cvips))?,
        None => writeln!(
            out,
            "CVIP unknown: there is no cvip.conf, or it has faults, and no cvipd here tells what it \
             runs\n"
        )?,
    }
    let nodes = report.nodes.iter().map(|row| {
        let why = match (report.known, row.has_record) {
            (true, true) => "none",
            (true, false) => "no record yet",
            (false, _) => "not known",
        };
        let noticed_by = row.event_source.as_deref().unwrap_or(why);
        let roles = row.roles.join(", ");
        cells![row.node, join(&row.addresses), join(&row.weights), roles, cvipd(row), noticed_by]
    });
    section(out, NODES, nodes)?;
    let none = if report.known { "none yet" } else { "not known" };
    let sets = report.director_sets.iter().filter(|row| row.directors.len() > 1).map(|row| {
        let active = row.active.map_or(none.to_owned(), |node| node.to_string());
        let term = row.term.map_or(none.to_owned(), |term| term.to_string());
        [join(&row.directors), join(&row.cvips), active, term]
    });
    section(out, SETS, sets)?;
    let flags = report.flags.iter();
    let flags = flags.map(|r| cells![r, r.flag.protocol, ports(r.flag), r.flag.weight]);
    section(out, FLAGS, flags)?;
    let mut last = None;
    let registrations = report.registrations.iter().map(|row| {
        let again = last.replace(row.service) == Some(row.service);
        let name = if again { String::new() } else { row.service.to_string() };
        cells![name, row.node, row.weight]
    });
    section(out, REGISTERED, registrations)?;
    let mut last = None;
    let fixed = report.static_services.iter().map(|row| {
        let first = ServiceKey { cvip: row.cvip, protocol: row.protocol, port: row.start };
        let name = match (last.replace(first) == Some(first), row.start == row.end) {
            (true, _) => String::new(),
            (false, true) => first.to_string(),
            (false, false) => format!("{first}-{}", row.end),
        };
        cells![name, row.node, row.weight]
    });
    section(out, STATIC, fixed)?;
    let refused = report.refused.iter().map(|RefusedRow { node, refused }| {
        cells![refused.service, node, refused.bound, refused.reason]
    });
    let more = report.refused_more.iter().map(|(node, more)| {
        cells![format!("and {more} more"), node, "", "`cvipctl doctor` there names them"]
    });
    section(out, REFUSED, refused.chain(more))?;
    let drains = report.drains.iter().map(|row| {
        let reason = row.reason.as_deref().unwrap_or_default();
        cells![row.target, row.connections.unwrap_or(0), row.by, reason]
    });
    section(out, DRAINED, drains)?;
    let draining = report.draining.iter().map(|row| {
        let left = format!("{} s", row.left_s);
        cells![row.service, row.address, row.active, row.inactive, left]
    });
    section(out, DRAINING, draining)?;
    let quiesced = report.quiesced.iter();
    let quiesced = quiesced.map(|row| cells![row.service, row.address, row.state, row.reason]);
    section(out, QUIESCED, quiesced)?;
    if let Some(every) = report.table_read_every_ms.filter(|every| *every > 1000) {
        let every = every.div_ceil(1000);
        writeln!(out, "The table is large: it is looked at, and repaired, every {every} s\n")?;
    }
    if let Some(table) = table {
        let services = table.iter().flat_map(|(entry, destinations, owned)| {
            let whose = if *owned || !report.known { "" } else { " (not cvipd's)" };
            let name = format!("{} {}{whose}", entry.service.id, entry.service.scheduler);
            let destinations = destinations.iter().map(|entry| {
                let d = &entry.destination;
                cells!["", d.id, d.forward, d.weight, entry.active, entry.inactive]
            });
            std::iter::once(cells![name, "", "", "", "", ""]).chain(destinations)
        });
        section(out, KERNEL, services)?;
    }
    for row in &report.nodes {
        for hint in &row.hints {
            writeln!(out, "node {}: {hint}", row.node)?;
        }
    }
    Ok(())
}

/// A node's cvipd: whether it runs, and what a director hears of it.
fn cvipd(row: &NodeRow) -> String {
    match (row.leaving, row.alive) {
        (true, Some(true)) => return "leaving".to_owned(),
        (true, Some(false) | None) => return "left".to_owned(),
        _ => {}
    }
    let running = match row.alive {
        Some(true) => "running",
        Some(false) => "not running",
        None => "not known",
    };
    match row.liveness {
        None | Some(Liveness::Alive) => running.to_owned(),
        Some(Liveness::AgentDown) => format!("{running}, agent down (the machine answers)"),
        Some(Liveness::Suspected) => format!("{running}, suspected"),
        Some(Liveness::Dead) => "gone".to_owned(),
    }
}

/// A table with at least one row under its titles, and an empty line.
fn section<const N: usize>(
    out: &mut dyn Write,
    titles: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        writeln!(out, "{}\n", table(titles, rows))?;
    }
    Ok(())
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    }
}
