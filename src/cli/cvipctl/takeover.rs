//! `cvipctl takeover`: a planned hand-over to this director.

use anyhow::bail;

use super::super::{NodeOption, OK, Site, Streams};
use crate::daemon::{ControlRequest, Response, ask};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let me = site.known_node(&args.node)?;
    match ask(&site.run_dir, me, ControlRequest::TakeOver)? {
        Response::Done => writeln!(streams.out, "node {me} is the active director")?,
        Response::Error(error) => bail!("cvipd: {error}"),
        _ => bail!("cvipd answered another question"),
    }
    Ok(OK)
}
