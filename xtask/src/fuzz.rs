//! `cargo xtask fuzz --smoke`: the fuzz targets for a minute, without cargo-fuzz.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::build;

/// Feed the parsers with damaged input
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The targets for a while, with mutations of our own; `cargo fuzz` in fuzz/ does more
    #[arg(long, required = true)]
    smoke: bool,

    /// How long the targets run, all at once
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Where the mutations begin: the same seed makes the same inputs
    #[arg(long, default_value_t = 1, env = "CVIP_SEED")]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let status = build::cargo()
        .args(["run", "--quiet", "--profile", "fuzz", "--package", "cvip-fuzz-smoke", "--"])
        .args([arguments.seconds.to_string(), arguments.seed.to_string()])
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
