//! `cvipctl status`: how the cluster is in one line; then nodes, services with their real
//! servers, drains and flags.

mod page;
mod print;

use std::time::Duration;

use super::super::{NodeOption, Site, Streams};
use super::overview::{Overview, overview};
use crate::json;
#[cfg(feature = "internal")]
pub use print::STATUS_TITLES;

/// So wide is the text, in characters.
const WIDTH: usize = 80;

/// A look every so often, unless said otherwise.
const WATCH_EVERY: &str = "2s";

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Show what the store says of the whole cluster, and nothing of this host's kernel
    #[arg(long)]
    cluster: bool,

    /// Show it again every 2s, or as often as is said, until interrupted
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WATCH_EVERY,
        value_parser = interval
    )]
    watch: Option<Duration>,

    /// Print everything as JSON; with --watch, a line each time
    #[arg(long)]
    json: bool,
}

/// A time between two looks.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_millis(100) => Ok(time),
        _ => Err("it is a time from 100ms, such as 2s".to_owned()),
    }
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let Some(every) = args.watch else {
        let shown = overview(&args.node, site, args.cluster)?;
        match args.json {
            true => json::write(streams.out, &shown.report)?,
            false => streams.out.write_all(text(&shown, streams.colour).as_bytes())?,
        }
        return Ok(shown.outcome);
    };
    loop {
        let shown = overview(&args.node, site, args.cluster)?;
        streams.progress.end();
        match (args.json, streams.terminal) {
            (true, _) => json::write_line(streams.out, &shown.report)?,
            (false, true) => {
                // To the upper left corner; each line is cleared behind its end, and all below.
                let text = text(&shown, streams.colour).replace('\n', "\u{1b}[K\n");
                write!(streams.out, "\u{1b}[H{text}\u{1b}[J")?;
            }
            (false, false) => writeln!(streams.out, "{}", text(&shown, streams.colour))?,
        }
        streams.out.flush()?;
        std::thread::sleep(every);
    }
}

fn text(shown: &Overview, in_colour: bool) -> String {
    print::text(&shown.report, &shown.names, WIDTH, in_colour)
}
