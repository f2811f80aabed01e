//! Looks at the cluster, and makes the report of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::bail;

use super::super::super::{FAILED, KnownNode, NodeOption, OK, Site};
use super::super::examination::{Examination, examine};
use super::headline::Headline;
use super::names::NodeNames;
use super::pools::{PoolRow, PoolSources, pools};
use super::report::{HooksRow, RefusedRow, StatusReport};
use super::rows::{self, StatusSeen};
use super::table::{owned, read_table};
use crate::conf::Conf;
use crate::daemon::{ControlError, ControlRequest, Response, Status, ask};
use crate::director::owned_table::OwnedTable;
use crate::doctor::collect::Extent;
use crate::ipvsadm::documents::ServiceObject;
use crate::store::{Access, Interest, StoreState};

/// Where a host keeps the names of addresses, hosts(5).
const HOSTS: &str = "/etc/hosts";

/// The report, and what else its readers need.
#[derive(Debug)]
pub(in crate::cli::cvipctl) struct Overview {
    pub(in crate::cli::cvipctl) report: StatusReport,
    pub(in crate::cli::cvipctl) names: NodeNames,
    /// The exit status: without a configuration half of it is missing.
    pub(in crate::cli::cvipctl) outcome: u8,
}

/// What the three who know have said.
pub(super) struct Answers {
    pub(super) state: StoreState,
    /// The store was read.
    pub(super) known: bool,
    pub(super) cvipd: Option<Box<Status>>,
    pub(super) table: Option<OwnedTable>,
    pub(super) problems: Vec<String>,
}

/// Looks at the cluster; `is_cluster`: at nothing of this host's kernel.
///
/// # Errors
/// cvip.toml makes no sense, the store cannot be opened, or there is no such node.
pub(in crate::cli::cvipctl) fn overview(
    option: &NodeOption,
    site: &Site,
    is_cluster: bool,
) -> anyhow::Result<Overview> {
    let known = site.known();
    let extent = if is_cluster { Extent::Cluster } else { Extent::Quick };
    let mut examination = examine(option, site, &known, extent)?;
    let answers = match answers_of(&mut examination) {
        Some(answers) => answers,
        // Without a configuration nothing is examined, and all the same much can be seen.
        None => ask_all(site, examination.node, is_cluster)?,
    };
    let conf = known.conf.as_ref();
    let names = NodeNames::read(Path::new(HOSTS), &known.clustertab, conf);
    let report = report(&known, examination, answers, &names);
    if let Some(asked) = option.node
        && conf.is_some()
        && !report.nodes.iter().any(|row| row.node == asked)
    {
        let known: Vec<String> = report.nodes.iter().map(|row| row.node.to_string()).collect();
        bail!("there is no node {asked}: cvip.conf and the store know {}", known.join(", "));
    }
    let outcome = if conf.is_some() { OK } else { FAILED };
    Ok(Overview { report, names, outcome })
}

/// What the examination has seen.
fn answers_of(examination: &mut Examination) -> Option<Answers> {
    let seen = examination.seen.as_mut()?;
    let known = seen.unavailable.is_none();
    let mut problems: Vec<String> = seen.corrupt.iter().map(ToString::to_string).collect();
    problems.extend(seen.unavailable.clone());
    let skipped = examination.unexamined.iter().filter(|skipped| {
        skipped.what.contains("IPVS table") || skipped.what.contains("this node's cvipd")
    });
    problems.extend(skipped.map(|skipped| format!("{}: {}", skipped.what, skipped.why)));
    let state = std::mem::take(&mut seen.state);
    let table = seen.kernel.take().map(|services| owned(services, &state));
    Some(Answers { state, known, cvipd: seen.own.take(), table, problems })
}

/// Asks all three.
fn ask_all(site: &Site, me: Option<u32>, is_cluster: bool) -> anyhow::Result<Answers> {
    let mut problems = Vec::new();
    let cvipd = match me.map(|me| ask(&site.run_dir, me, ControlRequest::Status)) {
        Some(Ok(Response::Status(status))) => Some(status),
        None | Some(Ok(_) | Err(ControlError::Absent(_))) => None,
        Some(Err(error)) => {
            problems.push(error.to_string());
            None
        }
    };
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
    let state = store.state().clone();
    let table = match is_cluster {
        true => None,
        false => read_table(&state)
            .inspect_err(|e| problems.push(format!("the kernel's table is not shown: {e}")))
            .ok(),
    };
    Ok(Answers { state, known, cvipd, table, problems })
}

/// The report of what was seen and said.
pub(super) fn report(
    known: &KnownNode,
    examination: Examination,
    answers: Answers,
    names: &NodeNames,
) -> StatusReport {
    let Answers { state, known: is_known, cvipd, table, problems: met } = answers;
    let Examination { node: me, findings, unexamined, .. } = examination;
    let (state, conf) = (&state, known.conf.as_ref());
    let mut problems = Vec::new();
    match &known.problem {
        Some(problem) => problems.push(problem.clone()),
        None => problems.extend(known.diagnostics.iter().map(|d| d.to_string())),
    }
    if let Some(cvipd) = &cvipd {
        problems.extend(rows::problems(cvipd, known.problem.is_some(), &problems));
    }
    problems.extend(met);
    let seen = StatusSeen { conf, state, known: is_known, cvipd: cvipd.as_deref(), names };
    let director_sets = rows::sets(&seen);
    let view = cvipd.as_ref().and_then(|cvipd| cvipd.pools.as_ref());
    let monitor = cvipd.as_ref().and_then(|cvipd| cvipd.monitor.as_ref());
    let active: BTreeSet<u32> = director_sets
        .iter()
        .filter_map(|set| match set.directors.as_slice() {
            [alone] => Some(*alone),
            _ => set.active,
        })
        .collect();
    let pools = pools(&PoolSources {
        conf,
        clustertab: &known.clustertab,
        state,
        known: is_known,
        view,
        liveness: monitor.map_or(&BTreeMap::new(), |monitor| &monitor.liveness_of),
        table: table.as_ref(),
        active: &active,
        me,
        names,
    });
    let mut refused = rows::refused(state);
    name_users(&mut refused);
    StatusReport {
        headline: Headline::of(
            &findings,
            &unexamined,
            &contents(conf, &active, &pools, names),
            names,
        ),
        configuration: known.origin(),
        routing: conf.map(|conf| conf.routing.to_string()),
        cvips: conf.map_or(vec![], |conf| conf.cvips.iter().map(|cvip| cvip.addr).collect()),
        nodes: rows::nodes(&seen),
        director_sets,
        known: is_known,
        flags: rows::flags(conf, state),
        registrations: rows::registrations(state),
        static_services: conf.map_or(vec![], rows::static_services),
        refused,
        refused_more: rows::refused_more(state),
        drains: rows::drains(state),
        draining: view.map_or(vec![], |view| view.draining.clone()),
        quiesced: view.map_or(vec![], |view| view.quiesced.clone()),
        sync: view.and_then(|view| view.sync.clone()),
        passive: view.and_then(|view| view.passive.clone()),
        table_read_every_ms: view.map(|view| view.look_every_ms),
        store_unavailable_s: cvipd.as_ref().and_then(|cvipd| cvipd.store_unavailable_s),
        hooks: cvipd.as_ref().and_then(|cvipd| cvipd.hooks.clone()).map(HooksRow::from),
        services: table.as_ref().map(|table| {
            let listed = |(entry, list, owned): &(_, Vec<_>, bool)| {
                ServiceObject::listed(entry, list).owned(*owned)
            };
            table.iter().map(listed).collect()
        }),
        problems,
        findings,
        unexamined,
        pools,
        faulty_files: known.problem.clone(),
    }
}

/// What there is, in a few words.
fn contents(
    conf: Option<&Conf>,
    active: &BTreeSet<u32>,
    pools: &[PoolRow],
    names: &NodeNames,
) -> String {
    let some = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let servers: BTreeSet<_> = pools
        .iter()
        .flat_map(|pool| &pool.servers)
        .filter(|server| server.weight.is_some_and(|weight| weight > 0))
        .filter_map(|server| server.node)
        .collect();
    let directors: Vec<String> = active.iter().map(|node| names.called(*node)).collect();
    let cvips = conf.map_or(0, |conf| conf.cvips.len());
    let served = pools.iter().filter(|pool| pool.servers.iter().any(|s| s.weight.is_some()));
    format!(
        "{}, {} of {}, active director: {}",
        some(cvips, "CVIP"),
        some(served.count(), "service"),
        some(servers.len(), "real server"),
        if directors.is_empty() { "none".to_owned() } else { directors.join(", ") }
    )
}

/// The names of the users who own listeners that do not join, as this host knows them.
fn name_users(refused: &mut [RefusedRow]) {
    let mut known: BTreeMap<u32, Option<String>> = BTreeMap::new();
    for row in refused {
        let uid = row.refused.uid;
        let name = known.entry(uid).or_insert_with(|| {
            let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
            user.map(|user| user.name)
        });
        row.user.clone_from(name);
    }
}
