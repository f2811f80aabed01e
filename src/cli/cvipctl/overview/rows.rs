//! The rows of the report: what stands in the store, in cvip.conf and in what this node's cvipd
//! says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::names::NodeNames;
use super::report::{NodeRow, RefusedRow, RegistrationRow, SetRow, StaticRow};
use crate::cli::rows::{DrainRow, FlagRow};
use crate::conf::{Conf, RegistrationMode};
use crate::daemon::Status;
use crate::director::view::TableView;
use crate::doctor::{ISOLATED, unavailable, unsynchronised};
use crate::store::{DrainOrder, DrainTarget, RefusedListener, Registration, StoreState};

/// What the rows are told from.
pub(super) struct StatusSeen<'a> {
    pub(super) conf: Option<&'a Conf>,
    pub(super) state: &'a StoreState,
    /// The store was read; else its state is empty, and says nothing.
    pub(super) known: bool,
    pub(super) cvipd: Option<&'a Status>,
    pub(super) names: &'a NodeNames,
}

/// What this node's cvipd says is wrong. `is_faulty`: what is wrong with the configuration's files is
/// said already, in one line.
pub(super) fn problems(status: &Status, is_faulty: bool, said: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_faulty {
        let unknown = status.faults.iter().filter(|fault| !said.contains(fault));
        problems.extend(
            unknown.map(|fault| format!("cvipd keeps its last good configuration: {fault}")),
        );
    }
    problems.extend(status.addresses.iter().cloned());
    problems.extend(status.unsaved.iter().cloned());
    let taken = status.monitor.iter().flat_map(|monitor| &monitor.ports_taken);
    problems.extend(taken.map(|port| format!("{port}: no heartbeats are heard there")));
    problems.extend(status.store_unavailable_s.map(unavailable));
    if status.monitor.as_ref().is_some_and(|monitor| monitor.isolated) {
        problems.push(ISOLATED.to_owned());
    }
    if let Some(pools) = &status.pools {
        problems.extend(of_table(pools));
    }
    problems
}

/// What is wrong with a director's table and its connection synchronisation.
fn of_table(pools: &TableView) -> Vec<String> {
    let mut problems: Vec<String> =
        pools.sync.as_ref().and_then(unsynchronised).into_iter().collect();
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

pub(super) fn nodes(seen: &StatusSeen<'_>) -> Vec<NodeRow> {
    let StatusSeen { conf, state, known, cvipd, names } = *seen;
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
            name: names.name(node).map(str::to_owned),
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

pub(super) fn sets(seen: &StatusSeen<'_>) -> Vec<SetRow> {
    let StatusSeen { conf, state, known, cvipd, .. } = *seen;
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

pub(super) fn drains(state: &StoreState) -> Vec<DrainRow> {
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

pub(super) fn flags(conf: Option<&Conf>, state: &StoreState) -> Vec<FlagRow> {
    let mut rows = Vec::new();
    for (scope, set) in &state.flags {
        rows.extend(set.iter().map(|flag| FlagRow::stored(*scope, *flag)));
    }
    for cvip in conf.map_or(&[][..], |conf| &conf.cvips) {
        rows.extend(cvip.flags().iter().map(|flag| FlagRow::configured(cvip.addr, *flag)));
    }
    rows
}

pub(super) fn registrations(state: &StoreState) -> Vec<RegistrationRow> {
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

pub(super) fn refused_more(state: &StoreState) -> BTreeMap<u32, u32> {
    let more = state.nodes.values().map(|record| (record.node, record.refused_more));
    more.filter(|(_, more)| *more > 0).collect()
}

pub(super) fn static_services(conf: &Conf) -> Vec<StaticRow> {
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

pub(super) fn refused(state: &StoreState) -> Vec<RefusedRow> {
    let records = state.nodes.values();
    let mut rows: Vec<RefusedRow> = records
        .flat_map(|record| {
            let row = |r: &RefusedListener| RefusedRow {
                node: record.node,
                refused: r.clone(),
                user: None,
            };
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
            let names = &NodeNames::default();
            let seen = StatusSeen { conf: None, state, known, cvipd: None, names };
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
