//! `cvipctl drain` and `cvipctl undrain`: an operator takes a node, or a port of it, out of the
//! pools, and puts it back.
//!
//! The order is a word in the store, and the directors do what it says: it survives restarts of
//! cvipd and takeovers, and holds until it is taken back.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::ArgGroup;
use nix::sys::utsname::uname;
use nix::unistd::{Uid, User};
use serde::Serialize;

use super::super::rows::DrainRow;
use super::super::{FAILED, KnownNode, OK, Site, Streams, all_faults};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::director::desired::{Inputs, desired};
use crate::director::restrictions::Restrictions;
use crate::interrupts::Interrupts;
use crate::json;
use crate::store::{Access, DrainOrder, DrainTarget, Drains, Interest, ServiceKey, StoreState};

mod target;
mod wait;

pub(super) use target::{DrainArgument, served};
use target::{concerns, joined};
use wait::{Ended, Meter, Wait, elected};

#[derive(clap::Args, Clone, Debug)]
#[command(group(ArgGroup::new("time").args(["deadline", "now"])))]
pub(super) struct Args {
    /// The node by its number in clustertab, or a port of it; without a protocol, every one that
    /// the port has
    #[arg(value_name = "NODE[:PORT[/PROTOCOL]]")]
    target: DrainArgument,

    /// Why, as `status` and `events` show it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,

    /// After how long connections that are left are cut, such as 90s, 5m or 1h30m [default: each
    /// service's drain_timeout]
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    deadline: Option<u32>,

    /// Cut the connections at once: a deadline of 0
    #[arg(long)]
    now: bool,

    /// Wait until it is out, and show the connections that are left; on the director these are
    /// the kernel's numbers, elsewhere what the node itself counts
    #[arg(long)]
    wait: bool,

    /// Print what was ordered, and how the wait ended, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
pub(super) struct UndrainArgs {
    /// The node, with all of its ports that are drained, or one port of it
    #[arg(value_name = "NODE[:PORT[/PROTOCOL]]")]
    target: DrainArgument,

    /// Print what was taken back as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// A drain of which nothing but the target is said.
    pub(super) fn of(target: DrainArgument) -> Args {
        Args { target, reason: None, deadline: None, now: false, wait: false, json: false }
    }
}

impl UndrainArgs {
    /// The end of a drain.
    pub(super) fn of(target: DrainArgument) -> UndrainArgs {
        UndrainArgs { target, json: false }
    }
}

/// The longest reason, in characters: it stands in every listing of drains.
const MOST_REASON: usize = 200;

/// Words for people, which end up on many a terminal.
fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a reason has at least one word".to_owned()),
        text if text.chars().count() > MOST_REASON => {
            Err(format!("a reason has at most {MOST_REASON} characters"))
        }
        text if text.chars().any(char::is_control) => {
            Err("a reason is one line, without control characters".to_owned())
        }
        text => Ok(text.to_owned()),
    }
}

/// Whole seconds, the next higher.
fn deadline(text: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text)
        .map_err(|error| format!("{error}: it is a time such as 90s, 5m or 1h30m"))?;
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds).map_err(|_| "that is longer than a hundred years".to_owned())
}

/// What `undrain --json` prints.
#[derive(Debug, Serialize)]
struct UndrainReport {
    changed: bool,
    undrained: Vec<DrainRow>,
}

#[derive(Debug, Serialize)]
struct DrainReport {
    changed: bool,
    drained: Vec<DrainRow>,
    warnings: Vec<String>,
    /// Absent without --wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<Ended>,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    // Before the store has threads, which would be ended by the signal in our place.
    let interrupts = args.wait.then(Interrupts::hold).transpose();
    let interrupts = interrupts.context("signals cannot be held back")?;
    // A faulty file does not prevent draining what runs.
    let KnownNode { conf, clustertab, problem, diagnostics } = site.known();
    let Some(conf) = conf else { bail!("{}", all_faults(&diagnostics)) };
    if let Some(problem) = problem {
        writeln!(streams.err, "cvipctl: {problem}")?;
    }
    let mut store = site.store(Access::Write, Interest::All)?;
    let refreshed = store.refresh()?;
    for fault in refreshed.faults {
        writeln!(streams.err, "cvipctl: {fault}")?;
    }
    let orders = args.target.orders(&conf, &clustertab, store.state())?;
    let wanted = DrainRequest {
        reason: args.reason.clone(),
        deadline_s: if args.now { Some(0) } else { args.deadline },
        since: unix_time(),
        by: operator(),
    };
    let (mut written, mut changed) = (Drains::new(), true);
    let mut change = |drains: &mut Drains| {
        let before = drains.clone();
        written = wanted.add_to(drains, &orders);
        changed = *drains != before;
    };
    let fault = store.update_drains(&mut change).context("nothing is drained")?;
    if let Some(fault) = fault {
        writeln!(streams.err, "cvipctl: started from no drains, for {fault}")?;
    }
    let since = Instant::now();
    let warnings = warnings(args.target.node, &orders, &written, &conf, store.state());
    for warning in &warnings {
        writeln!(streams.err, "cvipctl: {warning}")?;
    }
    if !args.json {
        for (target, order) in &written {
            writeln!(streams.out, "{}", sentence(target, order))?;
        }
        if !changed {
            writeln!(streams.out, "it was before: nothing to do")?;
        }
        streams.out.flush()?;
    }
    let waited = match interrupts {
        None => None,
        Some(interrupts) => {
            let me = site.node(&super::super::NodeOption { node: None }).ok();
            let wait = Wait::new(&conf, args.target.node, &orders, me, store.as_ref(), since);
            let meter = Meter::of(args.json, &args.target);
            Some(wait.run(store.as_mut(), &interrupts, meter, streams)?)
        }
    };
    let drained = written.iter().map(DrainRow::new).collect();
    let report = DrainReport { changed, drained, warnings, waited };
    if args.json {
        json::write(streams.out, &report)?;
    }
    match waited {
        None | Some(Ended::Out) => Ok(OK),
        Some(ended) => {
            let words = ended.words(&args.target.to_string());
            writeln!(streams.err, "cvipctl: {words}")?;
            Ok(if ended.is_out() { OK } else { FAILED })
        }
    }
}

/// What an operator asks for, for each target.
struct DrainRequest {
    reason: Option<String>,
    deadline_s: Option<u32>,
    since: u64,
    by: String,
}

impl DrainRequest {
    /// Orders the drains; those that were ordered. An order that stands keeps what this one does
    /// not say: `--now` alone does not forget the reason. One that says nothing new is whose it was.
    ///
    /// A port's own order counts before its node's: where a whole node gets another deadline,
    /// its drained ports get it too, or `--now` would leave them their time.
    fn add_to(&self, drains: &mut Drains, targets: &[DrainTarget]) -> Drains {
        let mut written: BTreeSet<DrainTarget> = targets.iter().copied().collect();
        for target in targets {
            let order = drains.entry(*target).or_insert_with(|| DrainOrder {
                reason: None,
                since: self.since,
                deadline_s: None,
                by: self.by.clone(),
            });
            let before = (order.reason.clone(), order.deadline_s);
            order.reason = self.reason.clone().or(order.reason.take());
            order.deadline_s = self.deadline_s.or(order.deadline_s);
            if before != (order.reason.clone(), order.deadline_s) {
                order.by.clone_from(&self.by);
            }
            if target.port.is_none() && self.deadline_s.is_some() {
                for (port, order) in drains.iter_mut().filter(|(t, _)| t.node == target.node) {
                    order.deadline_s = self.deadline_s;
                    written.insert(*port);
                }
            }
        }
        let is_written = |(target, _): &(&DrainTarget, &DrainOrder)| written.contains(target);
        drains.iter().filter(is_written).map(|(target, order)| (*target, order.clone())).collect()
    }
}

/// What an operator should know of the order.
fn warnings(
    node: u32,
    orders: &[DrainTarget],
    written: &Drains,
    conf: &Conf,
    state: &StoreState,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if conf.cvips.iter().all(|cvip| cvip.real_server(node).is_none()) {
        warnings.push(format!(
            "node {node} is no real server in cvip.conf: the order holds once it is one"
        ));
    }
    let lonely = emptied(node, orders, written, conf, state);
    if !lonely.is_empty() {
        warnings.push(format!(
            "no other real server serves {}: new clients are refused until one does",
            joined(lonely)
        ));
    }
    for director in directors_of(node, conf, state) {
        if !state.alive.contains_key(&director) {
            warnings.push(format!(
                "no cvipd runs on the director, node {director}: the order is written, and holds \
                 once one does"
            ));
        }
    }
    warnings
}

/// The active directors of a node's CVIPs.
fn directors_of(node: u32, conf: &Conf, state: &StoreState) -> BTreeSet<u32> {
    let sets = conf.director_sets().into_iter();
    let of_node = sets.filter(|set| {
        let mut cvips = set.cvips.iter().filter_map(|addr| conf.cvip(*addr));
        cvips.any(|cvip| cvip.real_server(node).is_some())
    });
    of_node.filter_map(|set| elected(&set, state)).collect()
}

/// The services that had a real server for new clients before the order, and have none after it.
fn emptied(
    node: u32,
    orders: &[DrainTarget],
    written: &Drains,
    conf: &Conf,
    state: &StoreState,
) -> Vec<ServiceKey> {
    let (before, mut after) = (&state.drains, state.drains.clone());
    after.extend(written.iter().map(|(target, order)| (*target, order.clone())));
    let restrictions = Restrictions::default();
    let now = Instant::now();
    let takes = |key: ServiceKey, drains: &Drains| {
        let Some(me) = conf.cvip(key.cvip).and_then(|cvip| cvip.directors.first()) else {
            return false;
        };
        let inputs = Inputs {
            conf,
            nodes: &state.nodes,
            me: me.node,
            drains,
            restrictions: &restrictions,
            passive: false,
            now,
        };
        let desired = desired(key, inputs);
        desired.pool([]).destinations.values().any(|destination| destination.weight > 0)
    };
    let keys = served(node, conf, state).into_iter().filter(|key| concerns(orders, *key));
    keys.filter(|key| takes(*key, before) && !takes(*key, &after)).collect()
}

/// One line for people.
fn sentence(target: &DrainTarget, order: &DrainOrder) -> String {
    let time = match order.deadline_s {
        None => String::new(),
        Some(0) => ", connections are cut at once".to_owned(),
        Some(s) => {
            let time = humantime::format_duration(Duration::from_secs(s.into()));
            format!(", connections are cut after {time}")
        }
    };
    let reason = order.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    format!("{target} is drained{time}{reason}")
}

/// Seconds since 1970.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Who gives the order: `root@node1`.
fn operator() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    match uname() {
        Ok(host) => format!("{user}@{}", host.nodename().to_string_lossy()),
        Err(_) => user,
    }
}

pub(super) fn undrain(
    args: &UndrainArgs,
    site: &Site,
    streams: &mut Streams<'_>,
) -> anyhow::Result<u8> {
    let mut store = site.store(Access::Write, Interest::Orders)?;
    let (mut taken, mut left) = (Drains::new(), Drains::new());
    let mut change = |drains: &mut Drains| {
        taken = drains.extract_if(.., |target, _| args.target.covers(*target)).collect();
        left.clone_from(drains);
    };
    let fault = store.update_drains(&mut change).context("nothing is taken back")?;
    if let Some(fault) = fault {
        writeln!(streams.err, "cvipctl: no drain is left, for {fault}")?;
    } else if taken.is_empty() {
        // Scripts repeat themselves; a node that is not known, or that stays drained, is a slip.
        site.known().node(args.target.node, [])?;
        let text = nothing(&args.target, &left);
        if left.contains_key(&DrainTarget { node: args.target.node, port: None }) {
            bail!("{text}");
        }
        writeln!(streams.err, "cvipctl: {text}")?;
    }
    if args.json {
        let undrained = taken.iter().map(DrainRow::new).collect();
        json::write(streams.out, UndrainReport { changed: !taken.is_empty(), undrained })?;
    } else {
        for target in taken.keys() {
            writeln!(streams.out, "{target} is drained no longer")?;
        }
    }
    let whole = DrainTarget { node: args.target.node, port: None };
    if left.contains_key(&whole) {
        writeln!(
            streams.err,
            "cvipctl: {whole} is drained as a whole, and stays so: `cvipctl undrain {}`",
            whole.node
        )?;
    }
    Ok(OK)
}

/// Why there is nothing to take back.
fn nothing(target: &DrainArgument, left: &Drains) -> String {
    let node = target.node;
    let why = match left.contains_key(&DrainTarget { node, port: None }) {
        true => format!("node {node} is drained as a whole: `cvipctl undrain {node}`"),
        false if left.is_empty() => "nothing is drained".to_owned(),
        false => format!("drained: {}", joined(left.keys())),
    };
    format!("node {target} has no drain of its own; {why}")
}

#[cfg(test)]
mod tests;
