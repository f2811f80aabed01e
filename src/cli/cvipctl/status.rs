//! `cvipctl status`: nodes, directors, flags, registrations, drains, and the kernel's table.
//!
//! Three who know are asked: the store, the running cvipd of this node, and the kernel. What one
//! of them cannot say is left out, and named as a problem.

mod print;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;

use super::super::rows::{DrainRow, FlagRow};
use super::super::{FAILED, NodeOption, OK, Site, Streams};
use crate::conf::{Conf, RegistrationMode};
use crate::daemon::{ControlError, ControlRequest, Response, Status, ask};
use crate::director::settings::service_key;
use crate::director::view::TableView;
use crate::ipvs::{self, Client};
use crate::ipvsadm::documents::ServiceObject;
use crate::json;
use crate::store::{
    Access, DrainOrder, DrainTarget, Interest, RefusedListener, Registration, ServiceKey,
    StoreState,
};
pub use print::STATUS_TITLES;
pub(super) use report::StatusTable;
use report::{NodeRow, RefusedRow, RegistrationRow, SetRow, StaticRow, StatusReport};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Show what the store says of the whole cluster, and nothing of this host's kernel
    #[arg(long)]
    cluster: bool,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// What the state is told from.
struct StatusSeen<'a> {
    conf: Option<&'a Conf>,
    state: &'a StoreState,
    /// The store was read; else its state is empty, and says nothing.
    known: bool,
    cvipd: Option<&'a Status>,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let mut problems = Vec::new();
    let configuration = site.known();
    match &configuration.problem {
        Some(problem) => problems.push(problem.clone()),
        None => problems.extend(configuration.diagnostics.iter().map(|d| d.to_string())),
    }
    let is_faulty = configuration.problem.is_some();
    let me = site.node(&args.node).ok();
    let cvipd = me.and_then(|me| ask_cvipd(site, me, is_faulty, &mut problems));
    let mut store = site.store(Access::Read, Interest::All)?;
    let known = match store.refresh() {
        Ok(refreshed) => {
            problems.extend(refreshed.faults.iter().map(ToString::to_string));
            true
        }
        // What the kernel has, and what cvipd knows, is worth seeing all the same.
        Err(error) if error.is_unavailable() => {
            problems.push(error.to_string());
            false
        }
        Err(error) => return Err(error.into()),
    };
    let state = store.state();
    let conf = configuration.conf.as_ref();
    let seen = StatusSeen { conf, state, known, cvipd: cvipd.as_deref() };
    let nodes = nodes(&seen);
    if let Some(asked) = args.node.node
        && conf.is_some()
        && !nodes.iter().any(|row| row.node == asked)
    {
        let known: Vec<String> = nodes.iter().map(|row| row.node.to_string()).collect();
        bail!("there is no node {asked}: cvip.conf and the store know {}", known.join(", "));
    }
    let table = match args.cluster.then_some(()) {
        Some(()) => None,
        None => read_table(state)
            .inspect_err(|e| problems.push(format!("the kernel's table is not shown: {e}")))
            .ok(),
    };
    let pools = cvipd.as_ref().and_then(|cvipd| cvipd.pools.as_ref());
    let report = StatusReport {
        configuration: configuration.origin(),
        routing: conf.map(|conf| conf.routing.to_string()),
        cvips: conf.map_or(vec![], |conf| conf.cvips.iter().map(|cvip| cvip.addr).collect()),
        nodes,
        director_sets: sets(&seen),
        known,
        flags: flags(conf, state),
        registrations: registrations(state),
        static_services: conf.map_or(vec![], static_services),
        refused: refused(state),
        refused_more: refused_more(state),
        drains: drains(state),
        draining: pools.map_or(vec![], |pools| pools.draining.clone()),
        quiesced: pools.map_or(vec![], |pools| pools.quiesced.clone()),
        sync: pools.and_then(|pools| pools.sync.clone()),
        passive: pools.and_then(|pools| pools.passive.clone()),
        table_read_every_ms: pools.map(|pools| pools.look_every_ms),
        store_unavailable_s: cvipd.as_ref().and_then(|cvipd| cvipd.store_unavailable_s),
        services: table.as_ref().map(|table| {
            table
                .iter()
                .map(|(entry, list, owned)| ServiceObject::listed(entry, list).owned(*owned))
                .collect()
        }),
        problems,
    };
    // Without a configuration half of it is missing.
    let outcome = if conf.is_some() { OK } else { FAILED };
    if args.json {
        json::write(streams.out, &report)?;
        return Ok(outcome);
    }
    print::print(&report, table.as_ref(), streams)?;
    Ok(outcome)
}

/// What this node's cvipd says; none where none runs. What it says is wrong is a problem.
fn ask_cvipd(
    site: &Site,
    me: u32,
    is_faulty: bool,
    problems: &mut Vec<String>,
) -> Option<Box<Status>> {
    let status = match ask(&site.run_dir, me, ControlRequest::Status) {
        Ok(Response::Status(status)) => status,
        Ok(_) | Err(ControlError::Absent(_)) => return None,
        Err(error) => {
            problems.push(error.to_string());
            return None;
        }
    };
    // What is wrong with the file itself is said already, in one line.
    if !is_faulty {
        let unknown = status.faults.iter().filter(|fault| !problems.contains(fault));
        let unknown: Vec<String> = unknown
            .map(|fault| format!("cvipd keeps its last good configuration: {fault}"))
            .collect();
        problems.extend(unknown);
    }
    problems.extend(status.addresses.iter().cloned());
    problems.extend(status.unsaved.iter().cloned());
    let taken = status.monitor.iter().flat_map(|monitor| &monitor.ports_taken);
    problems.extend(taken.map(|port| format!("{port}: no heartbeats are heard there")));
    if let Some(seconds) = status.store_unavailable_s {
        problems.push(format!(
            "the store has been unavailable for {seconds} s: nothing changes until it returns"
        ));
    }
    if status.monitor.as_ref().is_some_and(|monitor| monitor.isolated) {
        problems.push(
            "most nodes are suspected at once: this director suspects its own link, the table stays"
                .to_owned(),
        );
    }
    if let Some(pools) = &status.pools {
        problems.extend(of_table(pools));
    }
    Some(status)
}

/// What is wrong with a director's table and its connection synchronisation.
fn of_table(pools: &TableView) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some((sync, why)) = pools.sync.as_ref().and_then(|s| Some((s, s.missing.as_ref()?))) {
        problems.push(format!(
            "connections are not synchronised: no {} sync daemon runs on {}: {why}",
            sync.role, sync.interface
        ));
    }
    // A director without sync_interface never has a table while it is a standby.
    if let Some(why) = pools.passive.as_ref().filter(|_| pools.sync.is_some()) {
        problems.push(format!(
            "this standby's IPVS table is empty, so that it forwards nothing: {why}"
        ));
    }
    if pools.contested {
        problems.push(
            "another program changes the IPVS table again and again: it is repaired once in 10 s"
                .to_owned(),
        );
    }
    problems
}

pub(super) fn read_table(state: &StoreState) -> Result<StatusTable, ipvs::IpvsError> {
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
    let mut table: StatusTable = table.collect();
    table.sort_by_key(|(entry, ..)| entry.service.id);
    Ok(table)
}

fn nodes(seen: &StatusSeen<'_>) -> Vec<NodeRow> {
    let StatusSeen { conf, state, known, cvipd } = *seen;
    let mut numbers: BTreeSet<u32> = state.nodes.keys().copied().collect();
    numbers.extend(conf.map_or(vec![], Conf::nodes));
    let monitor = cvipd.and_then(|cvipd| cvipd.monitor.as_ref());
    let liveness_of = monitor.map(|monitor| &monitor.liveness_of);
    let has_left = |node: &u32| monitor.is_some_and(|monitor| monitor.left.contains(node));
    let sets = sets(seen);
    let own = cvipd.map(|cvipd| cvipd.node);
    let row = |node| {
        let (mut addresses, mut weights) = (BTreeSet::new(), BTreeSet::new());
        let mut roles = Vec::new();
        for cvip in conf.map_or(&[][..], |conf| &conf.cvips) {
            if let Some(server) = cvip.real_server(node) {
                addresses.insert(server.addr);
                weights.insert(server.weight);
            }
        }
        for set in sets.iter().filter(|set| set.directors.contains(&node)) {
            let active = set.active == Some(node) || set.directors.len() == 1;
            let role = match (active, set.active.is_some() || known) {
                (true, _) => "director",
                (false, true) => "standby",
                (false, false) => "director or standby",
            };
            roles.push(role.to_owned());
        }
        if !addresses.is_empty() {
            roles.push("real server".to_owned());
        }
        let record = state.nodes.get(&node);
        let alive = match known {
            true => Some(state.alive.contains_key(&node)),
            false => (own == Some(node)).then_some(true),
        };
        NodeRow {
            node,
            addresses,
            weights,
            roles,
            alive,
            leaving: record.is_some_and(|record| record.leaving) || has_left(&node),
            // What has left is not dead.
            liveness: liveness_of
                .and_then(|liveness_of| liveness_of.get(&node))
                .copied()
                .filter(|_| !has_left(&node)),
            // Where no cvipd runs, no listener is noticed.
            event_source: record
                .filter(|_| alive != Some(false))
                .map(|record| record.event_source.clone()),
            has_record: record.is_some(),
            hints: record.map_or(vec![], |record| record.hints.clone()),
        }
    };
    numbers.into_iter().map(row).collect()
}

fn sets(seen: &StatusSeen<'_>) -> Vec<SetRow> {
    let StatusSeen { conf, state, known, cvipd } = *seen;
    let monitor = cvipd.and_then(|cvipd| cvipd.monitor.as_ref()).filter(|_| !known);
    let sets = conf.map_or(vec![], Conf::director_sets);
    let row = |set: crate::conf::DirectorSet| {
        let number = set.directors.iter().min().copied().unwrap_or(0);
        let elected = state.directors.get(&number).filter(|_| set.directors.len() > 1);
        let told = monitor.filter(|monitor| monitor.set == number);
        let is_shared = set.directors.len() > 1;
        let active = state.active_director(&set.directors).filter(|_| is_shared);
        SetRow {
            active: active.or(told.and_then(|told| told.elected)),
            term: elected.map(|elected| elected.term).or(told.map(|told| told.term)),
            directors: set.directors,
            cvips: set.cvips,
        }
    };
    sets.into_iter().map(row).collect()
}

fn drains(state: &StoreState) -> Vec<DrainRow> {
    let row = |(target, order): (&DrainTarget, &DrainOrder)| {
        let record = state.nodes.get(&target.node);
        let lingering = record.into_iter().flat_map(|record| &record.lingering);
        let of_target =
            lingering.filter(|l| target.port.is_none_or(|port| port == (l.protocol, l.port)));
        let connections = of_target.map(|lingering| lingering.connections).sum();
        DrainRow::new((target, order)).counted(connections)
    };
    state.drains.iter().map(row).collect()
}

fn flags(conf: Option<&Conf>, state: &StoreState) -> Vec<FlagRow> {
    let mut rows = Vec::new();
    for (scope, set) in &state.flags {
        rows.extend(set.iter().map(|flag| FlagRow::stored(*scope, *flag)));
    }
    for cvip in conf.map_or(&[][..], |conf| &conf.cvips) {
        rows.extend(cvip.flags().iter().map(|flag| FlagRow::configured(cvip.addr, *flag)));
    }
    rows
}

fn registrations(state: &StoreState) -> Vec<RegistrationRow> {
    let records = state.nodes.values();
    let mut rows: Vec<RegistrationRow> = records
        .flat_map(|record| {
            let row = |r: &Registration| RegistrationRow {
                node: record.node,
                service: r.service,
                weight: r.weight,
                unhealthy: r.unhealthy.clone(),
                hidden: r.hidden,
            };
            record.registrations.iter().map(row)
        })
        .collect();
    rows.sort_by_key(|row| (row.service, row.node));
    rows
}

fn refused_more(state: &StoreState) -> BTreeMap<u32, u32> {
    let more = state.nodes.values().map(|record| (record.node, record.refused_more));
    more.filter(|(_, more)| *more > 0).collect()
}

fn static_services(conf: &Conf) -> Vec<StaticRow> {
    let mut rows = Vec::new();
    for cvip in &conf.cvips {
        for service in cvip.services.iter().filter(|s| s.registration == RegistrationMode::Static) {
            rows.extend(cvip.real_servers.iter().map(|server| StaticRow {
                cvip: cvip.addr,
                protocol: service.protocol,
                start: service.start,
                end: service.end,
                node: server.node,
                weight: service.weight_of(server),
            }));
        }
    }
    rows.sort_unstable();
    rows
}

fn refused(state: &StoreState) -> Vec<RefusedRow> {
    let records = state.nodes.values();
    let mut rows: Vec<RefusedRow> = records
        .flat_map(|record| {
            let row = |r: &RefusedListener| RefusedRow { node: record.node, refused: r.clone() };
            record.refused.iter().map(row)
        })
        .collect();
    rows.sort_by_key(|row| (row.refused.service, row.node));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NodeRecord;

    #[test]
    fn a_node_without_a_cvipd_that_runs_has_no_event_source() {
        let source = |state: &StoreState, known| {
            let seen = StatusSeen { conf: None, state, known, cvipd: None };
            nodes(&seen)[0].event_source.clone()
        };
        let mut state = StoreState::default();
        let record = NodeRecord { event_source: "polling".into(), ..NodeRecord::empty(2, 1, 1) };
        state.nodes.insert(2, record);
        assert_eq!(source(&state, true), None, "it has left, or is dead");
        assert_eq!(source(&state, false).as_deref(), Some("polling"), "it is not known");
        state.alive.insert(2, 1);
        assert_eq!(source(&state, true).as_deref(), Some("polling"));
    }
}
