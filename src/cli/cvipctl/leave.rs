//! `cvipctl leave`: this node serves and directs nothing any more.

use std::thread;
use std::time::Duration;

use anyhow::bail;

use super::super::{NodeOption, OK, Site, Streams};
use crate::daemon::{ControlError, ControlRequest, Response, ask};
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
}

/// By its last record, and without a cvipd that could take it back.
fn has_left(node: u32, state: &StoreState) -> bool {
    !state.alive.contains_key(&node) && state.nodes.get(&node).is_some_and(|record| record.leaving)
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let me = site.known_node(&args.node)?;
    let within_s = u32::try_from(args.within.as_secs()).unwrap_or(u32::MAX);
    match ask(&site.run_dir, me, ControlRequest::Leave { within_s }) {
        Ok(Response::Done) => {}
        Ok(Response::Error(error)) => bail!("cvipd: {error}"),
        Ok(_) => bail!("cvipd answered another question"),
        // Scripts repeat themselves.
        Err(ControlError::Absent(_))
            if site.state().is_ok_and(|(state, _)| has_left(me, &state)) =>
        {
            writeln!(
                streams.err,
                "cvipctl: node {me} has left already; a start of cvipd brings it back"
            )?;
            return Ok(OK);
        }
        Err(error) => return Err(error.into()),
    }
    let (mut said, mut is_unavailable) = (None, false);
    loop {
        match ask(&site.run_dir, me, ControlRequest::Status) {
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
                    writeln!(streams.out, "connections left: {connections}")?;
                }
            }
            // It ended between the question and the answer, or before.
            Err(ControlError::Absent(_)) => break,
            Err(ControlError::Io { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        thread::sleep(ASK_EVERY);
    }
    // It may have been ended, or have given up waiting for the store.
    let record = site.state().map(|(state, _)| state.nodes.get(&me).map(|record| record.leaving));
    match record {
        Ok(None | Some(true)) => {}
        Ok(Some(false)) => bail!(
            "cvipd ended before node {me} had left: its addresses and settings stay, and \
             directors still count on it; start cvipd, and leave again"
        ),
        Err(error) => bail!(
            "cvipd ended, and it is not known whether node {me} has left: {error:#}; its log says \
             (`journalctl -u cvipd`)"
        ),
    }
    writeln!(streams.out, "node {me} has left")?;
    Ok(OK)
}
