//! `cargo xtask simulate`: what decides in cvipd, in simulated worlds (docs/simulation.md).

mod mutants;
mod real;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use cvip_lab::KernelChoice;

use crate::build;

/// Run what decides in cvipd in simulated worlds: whole clusters under faults, if nothing else is asked for
#[derive(clap::Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("mode"))]
#[command(group = clap::ArgGroup::new("search").multiple(true).conflicts_with("mode"))]
pub(crate) struct Arguments {
    /// Replay the plan of a failure, and show what happened
    #[arg(long, value_name = "FILE", group = "mode")]
    replay: Option<PathBuf>,

    /// Replay every plan of a folder: all must hold
    #[arg(long, value_name = "FOLDER", group = "mode")]
    seeds_of: Option<PathBuf>,

    /// Every state of the election, in small worlds (half an hour), or in those with NAME in their names
    #[arg(long, group = "mode")]
    election: bool,

    /// Plant each fault of simulation/mutants (or those of these names), and say when it is found
    #[arg(long, group = "mode")]
    mutants: bool,

    /// The same faults on a real kernel, with real cvipds and etcd: auto, host, uml, qemu
    #[arg(
        long,
        value_name = "KERNEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        conflicts_with_all = ["mode", "seeds", "years", "large", "minutes"]
    )]
    kernel: Option<KernelChoice>,

    /// With --kernel: how many steps
    #[arg(long, requires = "kernel", default_value_t = 2000)]
    steps: u64,

    /// The first seed [default: drawn from the clock]
    #[arg(long, group = "search")]
    seed: Option<u64>,

    /// How many seeds
    #[arg(long, group = "search")]
    seeds: Option<u64>,

    /// For how many simulated years
    #[arg(long, group = "search")]
    years: Option<f64>,

    /// Clusters of three directors and eight nodes only
    #[arg(long, group = "search")]
    large: bool,

    /// For how many minutes; with --mutants, for each of them [default there: 10]
    #[arg(long, conflicts_with_all = ["replay", "seeds_of", "election"])]
    minutes: Option<f64>,

    /// With --election: only the smallest world, which takes seconds
    #[arg(long, requires = "election")]
    smallest: bool,

    /// Which worlds of the election, or which mutants
    #[arg(value_name = "NAME", conflicts_with_all = ["replay", "seeds_of", "search", "kernel"])]
    names: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.mutants {
        return mutants::run(&arguments.names, arguments.minutes.unwrap_or(10.0));
    }
    if let Some(kernel) = arguments.kernel {
        return real::run(kernel, arguments.seed, arguments.steps);
    }
    let status = build::cargo()
        .args(["run", "--quiet", "--locked", "--profile", "quick", "--package", "cvip-simulation"])
        .arg("--")
        .args(words(arguments))
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the simulation is told.
fn words(arguments: &Arguments) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |word: &dyn AsRef<std::ffi::OsStr>| words.push(word.as_ref().to_owned());
    // Cargo runs it in the project's root.
    let here = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if arguments.election {
        add(&"election");
        if arguments.smallest {
            add(&"--smallest");
        }
        arguments.names.iter().for_each(|name| add(name));
    } else if let Some(file) = &arguments.replay {
        [&"cluster", &"replay"].into_iter().for_each(|word| add(word));
        add(&here(file));
    } else if let Some(folder) = &arguments.seeds_of {
        [&"cluster", &"seeds"].into_iter().for_each(|word| add(word));
        add(&here(folder));
    } else {
        [&"cluster", &"run"].into_iter().for_each(|word| add(word));
        let limits = [
            ("--seed", arguments.seed.map(|seed| seed.to_string())),
            ("--seeds", arguments.seeds.map(|seeds| seeds.to_string())),
            ("--minutes", arguments.minutes.map(|minutes| minutes.to_string())),
            ("--years", arguments.years.map(|years| years.to_string())),
        ];
        for (name, value) in limits {
            if let Some(value) = value {
                add(&name);
                add(&value);
            }
        }
        if arguments.large {
            add(&"--large");
        }
    }
    words
}
