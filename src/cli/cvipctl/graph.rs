//! `cvipctl graph`: draws the cluster, for a wall, a page or a ticket.

mod dot;
mod model;
mod svg;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;

use super::super::{NodeOption, Site, Streams};
use super::overview::overview;
use crate::replace::Replacement;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Draw what the store says of the whole cluster, and nothing of this host's kernel
    #[arg(long)]
    cluster: bool,

    /// An image, or a description for Graphviz
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = GraphFormat::Svg)]
    format: GraphFormat,

    /// Write into this file, which is replaced as one [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum GraphFormat {
    /// Scalable vector graphics, as browsers show them
    Svg,
    /// The language of Graphviz
    Dot,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let shown = overview(&args.node, site, args.cluster)?;
    let drawing = model::Drawing::of(&shown.report, &shown.names);
    let text = match args.format {
        GraphFormat::Svg => svg::text(&drawing),
        GraphFormat::Dot => dot::text(&drawing),
    };
    match &args.output {
        None => streams.out.write_all(text.as_bytes())?,
        Some(path) => {
            let failed = || format!("cannot write {}", path.display());
            let mut file = Replacement::of(path).with_context(failed)?;
            file.file().write_all(text.as_bytes()).with_context(failed)?;
            file.put().with_context(failed)?;
        }
    }
    Ok(shown.outcome)
}
