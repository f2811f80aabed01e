//! The report as tables, for people.

use std::collections::BTreeMap;
use std::io::Write;

use tabled::builder::Builder;
use tabled::settings::Style;

use super::super::super::{Streams, harmless};
use super::{NodeRow, RefusedRow, RegistrationRow, StatusReport, StatusTable};
use crate::director::liveness::Liveness;
use crate::store::ServiceKey;

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
    let mut nodes = Builder::new();
    nodes.push_record(["Node", "Address", "Weight", "Role", "cvipd", "Listeners noticed by"]);
    for row in &report.nodes {
        nodes.push_record([
            row.node.to_string(),
            join(&row.addresses),
            join(&row.weights),
            row.roles.join(", "),
            cvipd(row),
            row.event_source.clone().unwrap_or_else(|| {
                let why = if report.known { "no record yet" } else { "not known" };
                why.to_owned()
            }),
        ]);
    }
    section(out, nodes)?;
    let mut sets = Builder::new();
    sets.push_record(["Directors", "CVIP", "Active", "Term"]);
    for row in report.director_sets.iter().filter(|row| row.directors.len() > 1) {
        let none = if report.known { "none yet" } else { "not known" };
        let known = |number: Option<String>| number.unwrap_or_else(|| none.to_owned());
        sets.push_record([
            join(&row.directors),
            join(&row.cvips),
            known(row.active.map(|node| node.to_string())),
            known(row.term.map(|term| term.to_string())),
        ]);
    }
    section(out, sets)?;
    let mut flags = Builder::new();
    flags.push_record(["Flag of", "Protocol", "Ports", "Weight"]);
    for row in &report.flags {
        let flag = row.flag;
        let ports = match flag.is_single() {
            true => flag.start.to_string(),
            false => format!("{}-{}", flag.start, flag.end),
        };
        let (protocol, weight) = (flag.protocol.to_string(), flag.weight.to_string());
        flags.push_record([row.to_string(), protocol, ports, weight]);
    }
    section(out, flags)?;
    let mut registrations = Builder::new();
    registrations.push_record(["Registered", "Node", "Weight"]);
    let mut by_service: BTreeMap<ServiceKey, Vec<&RegistrationRow>> = BTreeMap::new();
    for row in &report.registrations {
        by_service.entry(row.service).or_default().push(row);
    }
    for (service, rows) in by_service {
        for (nth, row) in rows.into_iter().enumerate() {
            let name = if nth == 0 { service.to_string() } else { String::new() };
            let weight = row.weight.to_string();
            registrations.push_record([name, row.node.to_string(), weight]);
        }
    }
    section(out, registrations)?;
    let mut fixed = Builder::new();
    fixed.push_record(["Static", "Node", "Weight"]);
    let mut last = None;
    for row in &report.static_services {
        let key = (row.cvip, row.protocol, row.start);
        let name = match (last == Some(key), row.start == row.end) {
            (true, _) => String::new(),
            (false, true) => {
                ServiceKey { cvip: row.cvip, protocol: row.protocol, port: row.start }.to_string()
            }
            (false, false) => {
                let first = ServiceKey { cvip: row.cvip, protocol: row.protocol, port: row.start };
                format!("{first}-{}", row.end)
            }
        };
        last = Some(key);
        fixed.push_record([name, row.node.to_string(), row.weight.to_string()]);
    }
    section(out, fixed)?;
    let mut kept_out = Builder::new();
    kept_out.push_record(["Kept out", "Node", "Bound to", "Reason"]);
    for RefusedRow { node, refused } in &report.refused {
        kept_out.push_record([
            refused.service.to_string(),
            node.to_string(),
            refused.bound.to_string(),
            refused.reason.clone(),
        ]);
    }
    for (node, more) in &report.refused_more {
        kept_out.push_record([
            format!("and {more} more"),
            node.to_string(),
            String::new(),
            "`cvipctl doctor' there names them".to_owned(),
        ]);
    }
    section(out, kept_out)?;
    let mut drains = Builder::new();
    drains.push_record(["Drained", "Connections", "By", "Reason"]);
    for row in &report.drains {
        drains.push_record([
            row.target.to_string(),
            row.connections.unwrap_or(0).to_string(),
            row.by.clone(),
            row.reason.clone().unwrap_or_default(),
        ]);
    }
    section(out, drains)?;
    let mut draining = Builder::new();
    draining.push_record(["On the way out", "Address", "Active", "Inactive", "At the latest in"]);
    for row in &report.draining {
        draining.push_record([
            row.service.to_string(),
            row.address.to_string(),
            row.active.to_string(),
            row.inactive.to_string(),
            format!("{} s", row.left_s),
        ]);
    }
    section(out, draining)?;
    let mut quiesced = Builder::new();
    quiesced.push_record(["In trouble", "Address", "State", "Reason"]);
    for row in &report.quiesced {
        quiesced.push_record([
            row.service.to_string(),
            row.address.to_string(),
            row.state.clone(),
            row.reason.clone(),
        ]);
    }
    section(out, quiesced)?;
    if let Some(every) = report.table_read_every_ms.filter(|every| *every > 1000) {
        let every = every.div_ceil(1000);
        writeln!(out, "The table is large: it is looked at, and repaired, every {every} s\n")?;
    }
    if let Some(table) = table {
        let mut services = Builder::new();
        services.push_record(["In the kernel", "", "Forward", "Weight", "Active", "Inactive"]);
        for (entry, destinations, owned) in table {
            let whose = if *owned || !report.known { "" } else { " (not cvipd's)" };
            let name = format!("{} {}{whose}", entry.service.id, entry.service.scheduler);
            services.push_record([&name, "", "", "", "", ""]);
            for entry in destinations {
                let d = &entry.destination;
                services.push_record([
                    String::new(),
                    d.id.to_string(),
                    d.forward.to_string(),
                    d.weight.to_string(),
                    entry.active.to_string(),
                    entry.inactive.to_string(),
                ]);
            }
        }
        section(out, services)?;
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
        Some(Liveness::AgentDown) => format!("{running}, not heard (the machine answers)"),
        Some(Liveness::Suspected) => format!("{running}, silent"),
        Some(Liveness::Dead) => "gone".to_owned(),
    }
}

/// A table with at least one row under its title, and an empty line.
fn section(out: &mut dyn Write, table: Builder) -> anyhow::Result<()> {
    if table.count_records() > 1 {
        writeln!(out, "{}\n", table.build().with(Style::blank()))?;
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
