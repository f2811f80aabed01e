//! The project's own commands: `cargo xtask COMMAND`.

mod lab;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    Lab(lab::Arguments),
}

fn main() -> ExitCode {
    // In the lab's kernel this program is the first process.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == cvip_lab::guest::ARGUMENT)
    {
        cvip_lab::guest::main();
    }
    let result = match Cli::parse().command {
        Task::Lab(arguments) => lab::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(125)
    })
}
