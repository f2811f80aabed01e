//! `cvipctl takeover`: a planned hand-over to this director.

use anyhow::bail;
use serde::Serialize;

use super::super::{NodeOption, OK, Site, Streams};
use crate::daemon::{ControlRequest, Response, ask};
use crate::json;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Print which node is the active director, and whether it was before, as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct TakeoverReport {
    changed: bool,
    node: u32,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let me = site.known_node(&args.node)?;
    // It is asked all the same: it may have given its role up in between.
    let was_active = match ask(&site.run_dir, me, ControlRequest::Status)? {
        Response::Status(status) => status.is_active(),
        _ => false,
    };
    match ask(&site.run_dir, me, ControlRequest::TakeOver)? {
        Response::Done => {}
        Response::Error(error) => bail!("cvipd: {error}"),
        _ => bail!("cvipd answered another question"),
    }
    if args.json {
        json::write(streams.out, TakeoverReport { changed: !was_active, node: me })?;
    } else if was_active {
        writeln!(streams.out, "node {me} was the active director already: nothing to do")?;
    } else {
        writeln!(streams.out, "node {me} is the active director")?;
    }
    Ok(OK)
}
