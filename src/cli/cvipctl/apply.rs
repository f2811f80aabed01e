//! `cvipctl diff` and `cvipctl apply`: the kernel's table against what it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use serde::Serialize;

use super::super::{FAILED, NodeOption, OK, Site, Streams, all_faults};
use crate::checks::Checker;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::daemon::{ControlError, ControlRequest, Response, ask};
use crate::director::desired::Inputs;
use crate::director::drains::DrainState;
use crate::director::restrictions::Restrictions;
use crate::director::{self, table};
use crate::ipvs::Client;
use crate::ipvsadm::change_line;
use crate::json;
use crate::recorder::Recorder;
use crate::store::{Access, Interest};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    node: NodeOption,

    /// Print the changes, as ipvsadm's commands, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    node: NodeOption,

    /// Print what was changed, and what the kernel refused, as JSON
    #[arg(long)]
    json: bool,
}

/// What `apply --json` prints.
#[derive(Debug, Serialize)]
struct ApplyReport<'a> {
    changed: bool,
    applied: &'a [String],
    refused: &'a [String],
}

pub(super) fn diff(args: &DiffArgs, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let known = site.known();
    if let (Some(problem), Some(_)) = (&known.problem, &known.conf) {
        writeln!(streams.err, "cvipctl: {problem}")?;
    }
    let Some(conf) = known.conf else { bail!("{}", all_faults(&known.diagnostics)) };
    let me = director_node(&args.node, site, &conf)?;
    // What a running cvipd knows of silent nodes and damped servers is in its answer only.
    let lines = match ask(&site.run_dir, me, ControlRequest::Differences) {
        Ok(Response::Differences(lines)) => lines,
        Ok(Response::Error(error)) => bail!("cvipd: {error}"),
        Ok(_) => bail!("cvipd answered another question"),
        // Without the right to ask it, the kernel's error says what is needed.
        Err(ControlError::Absent(_) | ControlError::Forbidden(_)) => {
            differences(site, &conf, me, streams)?
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        json::write(streams.out, BTreeMap::from([("changes", &lines)]))?;
    } else {
        for line in &lines {
            writeln!(streams.out, "{line}")?;
        }
    }
    // What a faulty file would change is not known.
    Ok(if lines.is_empty() && known.problem.is_none() { OK } else { FAILED })
}

/// What cvipd would change, where none runs.
fn differences(
    site: &Site,
    conf: &Conf,
    me: u32,
    streams: &mut Streams<'_>,
) -> anyhow::Result<Vec<String>> {
    let (state, faults) = site.state()?;
    for fault in faults {
        writeln!(streams.err, "cvipctl: {fault}")?;
    }
    let mut client = Client::open()?;
    let (restrictions, now) = (&Restrictions::default(), Instant::now());
    let (nodes, drains) = (&state.nodes, &state.drains);
    let inputs = Inputs { conf, nodes, me, drains, restrictions, passive: false, now };
    let plans = table::plan_all(&mut client, inputs, &state, &mut DrainState::new())?;
    Ok(plans.changes.iter().map(|(_, change)| change_line(change)).collect())
}

pub(super) fn apply(
    args: &ApplyArgs,
    site: &Site,
    streams: &mut Streams<'_>,
) -> anyhow::Result<u8> {
    let conf = site.conf()?;
    let me = director_node(&args.node, site, &conf)?;
    let (applied, refused) = match ask(&site.run_dir, me, ControlRequest::Apply) {
        Ok(Response::Applied { applied, refused }) => (applied, refused),
        Ok(Response::Error(error)) => bail!("cvipd: {error}"),
        Ok(_) => bail!("cvipd answered another question"),
        Err(ControlError::Absent(_)) => once(site, conf, me)?,
        Err(error) => return Err(error.into()),
    };
    for change in &refused {
        writeln!(streams.err, "cvipctl: {change}")?;
    }
    if args.json {
        let changed = !applied.is_empty();
        let report = ApplyReport { changed, applied: &applied, refused: &refused };
        json::write(streams.out, report)?;
    } else {
        for change in &applied {
            writeln!(streams.out, "{change}")?;
        }
        if applied.is_empty() && refused.is_empty() {
            writeln!(streams.out, "the table is right: nothing to change")?;
        }
    }
    Ok(if refused.is_empty() { OK } else { FAILED })
}

/// Makes the table right once, where no cvipd does.
fn once(site: &Site, conf: Conf, me: u32) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let client = Client::open()?;
    let store = site.store(Access::Write, Interest::All)?;
    let now = Instant::now();
    // A standby's kernel would forward by the table.
    let (state, _) = site.state()?;
    let sets = conf.director_sets();
    let set = sets.iter().find(|set| set.directors.contains(&me) && set.directors.len() > 1);
    let elected =
        set.and_then(|set| set.directors.iter().min()).and_then(|set| state.directors.get(set));
    if let Some(elected) = elected.filter(|elected| elected.node != me) {
        bail!(
            "node {me} is a standby, whose table stays empty while no cvipd runs here: start cvipd, or \
             run this on node {}, the active director",
            elected.node
        );
    }
    // No check runs for so short a time.
    let checker = Checker::new(0, now)?;
    let (conf, recorder) = (Arc::new(conf), Recorder::off());
    let mut agent = director::DirectorAgent::new(me, conf, client, store, checker, &recorder, now)?;
    let report = agent.full_pass(now)?;
    Ok((
        report.applied.iter().map(ToString::to_string).collect(),
        report.refused.iter().map(ToString::to_string).collect(),
    ))
}

/// The node that is meant, which is a director.
pub(super) fn director_node(option: &NodeOption, site: &Site, conf: &Conf) -> anyhow::Result<u32> {
    let node = site.known_node(option)?;
    if !conf.is_director(node) {
        let sets = conf.director_sets();
        let directors = sets.iter().flat_map(|set| &set.directors);
        let directors: Vec<String> = directors.map(ToString::to_string).collect();
        bail!(
            "node {node} is not a director; the directors are {}: run it there",
            directors.join(", ")
        );
    }
    Ok(node)
}
