//! `cvipctl leave`: this node serves and directs nothing any more.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use super::super::{FAILED, NodeOption, OK, Site, Streams};
use crate::daemon::{ControlError, ControlRequest, Response, ask};
use crate::interrupts::Interrupts;
use crate::json;
use crate::net::{NetworkSettings, ThisHost};
use crate::node::leaving::left_behind;
use crate::store::StoreState;

/// How often cvipd is asked how many connections are left.
const ASK_EVERY: Duration = Duration::from_millis(250);

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// For how long connections that are left are waited for, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    within: Duration,

    /// Print how it ended as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct LeaveReport {
    changed: bool,
    node: u32,
    waited: LeaveEnd,
    /// Those that were left when it was last looked at.
    connections: usize,
}

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum LeaveEnd {
    /// The node has left.
    Left,
    /// The operator would not wait any longer.
    Interrupted,
}

/// By its last record, and without a cvipd that could take it back.
fn has_left(node: u32, state: &StoreState) -> bool {
    !state.alive.contains_key(&node) && state.nodes.get(&node).is_some_and(|record| record.leaving)
}

/// Refuses what is left on this host of a node whose cvipd has ended.
fn is_done(node: u32, state: &StoreState, site: &Site) -> anyhow::Result<()> {
    let made = NetworkSettings::open(&ThisHost::of_node(&site.run_dir, node))?.made();
    match left_behind(node, &made, state) {
        None => Ok(()),
        Some(left) => bail!(
            "cvipd ended before the leave of node {node} was done: it gets no new connections, and \
             {left} stay here; start cvipd, and leave again"
        ),
    }
}

/// How many connections are left, in brackets; nothing of none.
fn left(connections: usize) -> String {
    match connections {
        0 => String::new(),
        1 => " (1 connection left)".to_owned(),
        many => format!(" ({many} connections left)"),
    }
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    // Before the store has threads, which would be ended by the signal in our place.
    let interrupts = Interrupts::hold().context("signals cannot be held back")?;
    let me = site.known_node(&args.node)?;
    let within_s = u32::try_from(args.within.as_secs()).unwrap_or(u32::MAX);
    match ask(&site.run_dir, me, ControlRequest::Leave { within_s }) {
        Ok(Response::Done) => {}
        Ok(Response::Error(error)) => bail!("cvipd: {error}"),
        Ok(_) => bail!("cvipd answered another question"),
        // Scripts repeat themselves.
        Err(absent @ ControlError::Absent(_)) => match site.state() {
            Ok((state, _)) if has_left(me, &state) => {
                is_done(me, &state, site)?;
                writeln!(
                    streams.err,
                    "cvipctl: node {me} has left already; a start of cvipd brings it back"
                )?;
                if args.json {
                    let waited = LeaveEnd::Left;
                    let report = LeaveReport { changed: false, node: me, waited, connections: 0 };
                    json::write(streams.out, report)?;
                }
                return Ok(OK);
            }
            _ => return Err(absent.into()),
        },
        Err(error) => return Err(error.into()),
    }
    let (mut said, mut is_unavailable) = (None, false);
    loop {
        match ask(&site.run_dir, me, ControlRequest::Status) {
            Ok(Response::Status(status)) if status.leaving.is_none() => bail!(
                "cvipd was restarted before the leave of node {me} was done: the node serves \
                 again; leave again"
            ),
            Ok(Response::Status(status))
                if status.store_unavailable_s.is_some() && !is_unavailable =>
            {
                is_unavailable = true;
                writeln!(
                    streams.err,
                    "cvipctl: the store is unavailable, and cannot be told that node {me} leaves: \
                     waiting for it"
                )?;
            }
            Ok(Response::Status(status)) if status.leaving != said => {
                said = status.leaving;
                if let Some(connections) = said.filter(|connections| *connections > 0) {
                    if !args.json {
                        writeln!(streams.out, "connections left: {connections}")?;
                    }
                    let task = format!("cvipctl: node {me} leaves{}", left(connections));
                    streams.progress.say(task);
                }
            }
            // It ended between the question and the answer, or before.
            Err(ControlError::Absent(_)) => break,
            Err(ControlError::Io { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        if interrupts.wait(ASK_EVERY).context("poll")? {
            let connections = said.unwrap_or(0);
            let shown = left(connections);
            writeln!(
                streams.err,
                "cvipctl: no longer waiting: node {me} goes on leaving{shown}, and cvipd \
                 ends when it is done; `cvipctl leave` waits again, `systemctl restart cvipd` \
                 brings the node back"
            )?;
            if args.json {
                let waited = LeaveEnd::Interrupted;
                let report = LeaveReport { changed: true, node: me, waited, connections };
                json::write(streams.out, report)?;
            }
            return Ok(FAILED);
        }
    }
    // It may have been ended, or have given up waiting for the store.
    let (state, _) = site.state().map_err(|error| {
        anyhow!(
            "cvipd ended, and it is not known whether node {me} has left: {error:#}; its log says \
             (`journalctl -u cvipd`)"
        )
    })?;
    if state.nodes.get(&me).is_some_and(|record| !record.leaving) {
        bail!(
            "cvipd ended before node {me} had left: its addresses and settings stay, and \
             directors still count on it; start cvipd, and leave again"
        );
    }
    is_done(me, &state, site)?;
    if args.json {
        let (waited, connections) = (LeaveEnd::Left, said.unwrap_or(0));
        json::write(streams.out, LeaveReport { changed: true, node: me, waited, connections })?;
    } else {
        writeln!(streams.out, "node {me} has left")?;
    }
    Ok(OK)
}
