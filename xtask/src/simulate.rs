//! `cargo xtask simulate`: what decides in cvipd, in simulated worlds (docs/simulation.md).

use std::ffi::OsString;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::build;

/// Run what decides in cvipd in simulated worlds
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Every state of the election, in small worlds: half an hour
    #[arg(long, required = true)]
    election: bool,

    /// What else the simulation is told: `--smallest`, or a word of the names of worlds
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let status = build::cargo()
        .args(["run", "--quiet", "--locked", "--profile", "quick", "--package", "cvip-simulation"])
        .args(["--", "election"])
        .args(&arguments.words)
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
