//! `cvipctl metrics`: what cvipd gives over HTTP, where it is not asked there.

use super::super::{NodeOption, OK, Site, Streams};
use super::overview::read_table;
use crate::daemon::{ControlError, ControlRequest, MetricsSource, Response, ask, metrics_text};
use crate::settings::DestinationLabel;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let me = site.known_node(&args.node)?;
    let labels = site.settings()?.metrics_labels.unwrap_or(DestinationLabel::ALL.to_vec());
    let status = match ask(&site.run_dir, me, ControlRequest::Status) {
        Ok(Response::Status(status)) => Some(status),
        Ok(_) | Err(ControlError::Absent(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let conf = site.known().conf;
    // The store says who owns a service; while it is unavailable, cvipd's own answer still counts.
    let table = match site.state() {
        Ok((state, _)) => read_table(&state).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    if let Err(problem) = &table {
        writeln!(streams.err, "cvipctl: the kernel's table is left out: {problem}")?;
    }
    let text = metrics_text(&MetricsSource {
        status: status.as_deref(),
        conf: conf.as_ref(),
        table: table.as_ref().ok(),
        labels: &labels,
    });
    streams.out.write_all(text.as_bytes())?;
    Ok(OK)
}
