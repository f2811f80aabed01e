//! `cvipctl check`: every fault of the configuration, each with its place.

use super::super::{FAILED, OK, Site, Streams};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Print the faults as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let loaded = site.load();
    if args.json {
        serde_json::to_writer_pretty(&mut *streams.out, &loaded.diagnostics)?;
        writeln!(streams.out)?;
    } else {
        for diagnostic in &loaded.diagnostics {
            writeln!(streams.err, "{diagnostic}")?;
        }
    }
    let Some(conf) = loaded.conf else { return Ok(FAILED) };
    if !args.json {
        let services: usize = conf.cvips.iter().map(|cvip| cvip.services.len()).sum();
        writeln!(
            streams.out,
            "{}: {}, {}, {}, {}",
            site.conf.display(),
            conf.routing,
            count(conf.cvips.len(), "CVIP"),
            count(conf.nodes().len(), "node"),
            count(services, "service"),
        )?;
    }
    Ok(OK)
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
