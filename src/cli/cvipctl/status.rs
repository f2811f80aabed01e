//! `cvipctl status`: nodes, flags, registrations, and the kernel's table.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::Style;

use super::super::{NodeOption, OK, Site, Streams};
use super::view;
use crate::conf::Conf;
use crate::daemon::{Request, Response, ask};
use crate::director::desired::service_key;
use crate::ipvs::{self, Client, DestinationEntry, ServiceEntry};
use crate::ports::PortFlag;
use crate::store::{Access, Interest, Refused, Registration, ServiceKey, State};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// The whole of it, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    /// Raised when a reader of an older one would be misled.
    schema: u32,
    routing: Option<String>,
    cvips: Vec<IpAddr>,
    nodes: Vec<NodeRow>,
    flags: Vec<FlagRow>,
    registrations: Vec<RegistrationRow>,
    refused: Vec<RefusedRow>,
    /// Absent where the kernel could not be asked; `problems` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<view::Service>>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct NodeRow {
    node: u32,
    addresses: BTreeSet<IpAddr>,
    weights: BTreeSet<u32>,
    roles: Vec<String>,
    /// True if its cvipd lives.
    alive: bool,
    /// How its listeners are noticed.
    bells: Option<String>,
    hints: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FlagRow {
    scope: String,
    #[serde(flatten)]
    flag: PortFlag,
}

#[derive(Debug, Serialize)]
struct RegistrationRow {
    node: u32,
    #[serde(flatten)]
    registration: Registration,
}

#[derive(Debug, Serialize)]
struct RefusedRow {
    node: u32,
    #[serde(flatten)]
    refused: Refused,
}

/// The kernel's table: each service, its destinations, and whether it is cvipd's.
type Table = Vec<(ServiceEntry, Vec<DestinationEntry>, bool)>;

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let mut problems = Vec::new();
    let loaded = site.load();
    problems.extend(loaded.diagnostics.iter().map(|d| d.to_string()));
    let me = site.node(&args.node).ok();
    if let Some(me) = me
        && let Ok(Response::Status { faults, .. }) = ask(&site.run_dir, me, Request::Status)
    {
        let known = problems.clone();
        let unknown = faults.into_iter().filter(|fault| !known.contains(fault));
        problems.extend(
            unknown.map(|fault| format!("cvipd keeps its last good configuration: {fault}")),
        );
    }
    let mut store = site.store(Access::Read, Interest::All)?;
    match store.refresh() {
        Ok(refreshed) => problems.extend(refreshed.faults.iter().map(ToString::to_string)),
        // What the kernel has is worth seeing all the same.
        Err(error) if error.is_away() => problems.push(error.to_string()),
        Err(error) => return Err(error.into()),
    }
    let state = store.state();
    let table = match read_table(state) {
        Ok(table) => Some(table),
        Err(error) => {
            problems.push(format!("the kernel's table is not shown: {error}"));
            None
        }
    };
    let conf = loaded.conf.as_ref();
    let report = Report {
        schema: 1,
        routing: conf.map(|conf| conf.routing.to_string()),
        cvips: conf.map_or(vec![], |conf| conf.cvips.iter().map(|cvip| cvip.addr).collect()),
        nodes: nodes(conf, state),
        flags: flags(conf, state),
        registrations: registrations(state),
        refused: refused(state),
        services: table.as_ref().map(|table| {
            table
                .iter()
                .map(|(entry, list, owned)| view::Service::live(entry, list, *owned))
                .collect()
        }),
        problems,
    };
    if args.json {
        let json = serde_json::to_string_pretty(&report)?;
        writeln!(streams.out, "{json}")?;
        return Ok(OK);
    }
    print(&report, table.as_ref(), streams)?;
    Ok(OK)
}

fn read_table(state: &State) -> Result<Table, ipvs::Error> {
    let mut client = Client::open()?;
    let services = client.services()?;
    let ids: Vec<_> = services.iter().map(|entry| entry.service.id).collect();
    let destinations = client.destinations_of(&ids)?;
    let owned: BTreeSet<ServiceKey> = state.owned.values().flatten().copied().collect();
    let table = services.into_iter().zip(destinations).map(|(entry, mut list)| {
        list.sort_unstable_by_key(|d| d.destination.id);
        let ours = service_key(entry.service.id).is_some_and(|key| owned.contains(&key));
        (entry, list, ours)
    });
    let mut table: Table = table.collect();
    table.sort_by_key(|(entry, ..)| entry.service.id);
    Ok(table)
}

fn nodes(conf: Option<&Conf>, state: &State) -> Vec<NodeRow> {
    let mut numbers: BTreeSet<u32> = state.nodes.keys().copied().collect();
    numbers.extend(conf.map_or(vec![], Conf::nodes));
    let row = |node| {
        let (mut addresses, mut weights) = (BTreeSet::new(), BTreeSet::new());
        let mut roles = Vec::new();
        for cvip in conf.map_or(&[][..], |conf| &conf.cvips) {
            if let Some(server) = cvip.real_server(node) {
                addresses.insert(server.addr);
                weights.insert(server.weight);
            }
        }
        for set in conf.map_or(vec![], Conf::director_sets) {
            match set.directors.iter().position(|director| *director == node) {
                Some(0) => roles.push("director".to_owned()),
                Some(_) => roles.push("standby".to_owned()),
                None => {}
            }
        }
        if !addresses.is_empty() {
            roles.push("real server".to_owned());
        }
        let record = state.nodes.get(&node);
        NodeRow {
            node,
            addresses,
            weights,
            roles,
            alive: state.alive.contains_key(&node),
            bells: record.map(|record| record.bells.clone()),
            hints: record.map_or(vec![], |record| record.hints.clone()),
        }
    };
    numbers.into_iter().map(row).collect()
}

fn flags(conf: Option<&Conf>, state: &State) -> Vec<FlagRow> {
    let mut rows = Vec::new();
    for (scope, set) in &state.flags {
        rows.extend(set.iter().map(|flag| FlagRow { scope: scope.to_string(), flag: *flag }));
    }
    for cvip in conf.map_or(&[][..], |conf| &conf.cvips) {
        let scope = format!("cvip.conf {}", cvip.addr);
        let set = cvip.flags();
        rows.extend(set.iter().map(|flag| FlagRow { scope: scope.clone(), flag: *flag }));
    }
    rows
}

fn registrations(state: &State) -> Vec<RegistrationRow> {
    let records = state.nodes.values();
    let mut rows: Vec<RegistrationRow> = records
        .flat_map(|record| {
            let row =
                |r: &Registration| RegistrationRow { node: record.node, registration: r.clone() };
            record.registrations.iter().map(row)
        })
        .collect();
    rows.sort_by_key(|row| (row.registration.service, row.node));
    rows
}

fn refused(state: &State) -> Vec<RefusedRow> {
    let records = state.nodes.values();
    let mut rows: Vec<RefusedRow> = records
        .flat_map(|record| {
            let row = |r: &Refused| RefusedRow { node: record.node, refused: r.clone() };
            record.refused.iter().map(row)
        })
        .collect();
    rows.sort_by_key(|row| (row.refused.service, row.node));
    rows
}

fn print(report: &Report, table: Option<&Table>, streams: &mut Streams<'_>) -> anyhow::Result<()> {
    let out = &mut *streams.out;
    for problem in &report.problems {
        writeln!(streams.err, "{problem}")?;
    }
    let routing = report.routing.as_deref().unwrap_or("no cvip.conf");
    writeln!(out, "CVIP {} by {routing}\n", join(&report.cvips))?;
    let mut nodes = Builder::new();
    nodes.push_record(["Node", "Address", "Weight", "Role", "cvipd", "Listeners noticed by"]);
    for row in &report.nodes {
        nodes.push_record([
            row.node.to_string(),
            join(&row.addresses),
            join(&row.weights),
            row.roles.join(", "),
            if row.alive { "running" } else { "not running" }.to_owned(),
            row.bells.clone().unwrap_or_else(|| "no record yet".to_owned()),
        ]);
    }
    section(out, nodes)?;
    let mut flags = Builder::new();
    flags.push_record(["Flag of", "Protocol", "Ports", "Weight"]);
    for FlagRow { scope, flag } in &report.flags {
        let ports = match flag.is_single() {
            true => flag.start.to_string(),
            false => format!("{}-{}", flag.start, flag.end),
        };
        let (protocol, weight) = (flag.protocol.to_string(), flag.weight.to_string());
        flags.push_record([scope.clone(), protocol, ports, weight]);
    }
    section(out, flags)?;
    let mut registrations = Builder::new();
    registrations.push_record(["Registered", "Node", "Weight"]);
    let mut by_service: BTreeMap<ServiceKey, Vec<&RegistrationRow>> = BTreeMap::new();
    for row in &report.registrations {
        by_service.entry(row.registration.service).or_default().push(row);
    }
    for (service, rows) in by_service {
        for (nth, row) in rows.into_iter().enumerate() {
            let name = if nth == 0 { service.to_string() } else { String::new() };
            let weight = row.registration.weight.to_string();
            registrations.push_record([name, row.node.to_string(), weight]);
        }
    }
    section(out, registrations)?;
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
    section(out, kept_out)?;
    if let Some(table) = table {
        let mut services = Builder::new();
        services.push_record(["In the kernel", "", "Forward", "Weight", "Active", "Inactive"]);
        for (entry, destinations, owned) in table {
            let whose = if *owned { "" } else { " (not cvipd's)" };
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
