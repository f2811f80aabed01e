//! `cargo xtask simulate`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod commands;

/// Runs what decides in cvipd in simulated worlds.
#[derive(Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Cluster(commands::cluster::Arguments),
    Election(commands::election::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Cluster(arguments) => commands::cluster::run_command(arguments),
        Command::Election(arguments) => commands::election::run(&arguments),
    }
}
