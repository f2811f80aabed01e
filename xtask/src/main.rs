//! The project's own commands: `cargo xtask COMMAND`.

mod bench;
mod build;
#[cfg(test)]
mod circles;
mod demo;
mod deny;
mod fuzz;
mod r#gen;
mod lab;
mod lines;
#[cfg(test)]
mod links;
mod musl;
mod package;
mod programs;
mod simulate;
mod table;
mod test;
#[cfg(test)]
mod vocabulary;

use std::ffi::OsString;
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
    Build(build::Arguments),
    Lab(lab::Arguments),
    Demo(demo::Arguments),
    Bench(bench::Arguments),
    Test(test::Arguments),
    Fuzz(fuzz::Arguments),
    Simulate(simulate::Arguments),
    Deny(deny::Arguments),
    Musl(musl::Arguments),
    Package(package::Arguments),
    Lines(lines::Arguments),
    Gen(r#gen::Arguments),
    /// The second half of a command, in the lab's kernel
    #[command(hide = true)]
    Inside {
        /// Which one, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    // In the lab's kernel this program is the first process.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == cvip_lab::guest::ARGUMENT) {
        cvip_lab::guest::main();
    }
    let result = match Cli::parse().command {
        Task::Build(arguments) => build::run(&arguments),
        Task::Lab(arguments) => lab::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Simulate(arguments) => simulate::run(&arguments),
        Task::Deny(arguments) => deny::run(&arguments),
        Task::Musl(arguments) => musl::run(&arguments),
        Task::Package(arguments) => package::run(&arguments),
        Task::Lines(arguments) => lines::run(&arguments),
        Task::Gen(arguments) => r#gen::run(&arguments),
        Task::Inside { words } => inside(&words),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(125)
    })
}

fn inside(words: &[OsString]) -> anyhow::Result<ExitCode> {
    match words.split_first() {
        Some((name, [programs, options @ ..])) if name == "demo" => {
            demo::scenario(programs.as_ref(), options)
        }
        Some((name, [programs])) if name == "join-leave" => {
            bench::join_leave::inside(programs.as_ref())
        }
        Some((name, [])) if name == "listen" => bench::join_leave::listen(),
        Some((name, [programs])) if name == "idle" => bench::idle::inside(programs.as_ref()),
        Some((name, [programs, rounds, seed, rows @ ..])) if name == "cluster" => {
            let text = |word: &OsString| word.to_string_lossy().into_owned();
            let rows: Vec<String> = rows.iter().map(text).collect();
            bench::cluster::inside(programs.as_ref(), &text(rounds), &text(seed), &rows)
        }
        Some((name, [nodes, rounds])) if name == "scale" => {
            let number = |word: &OsString| word.to_string_lossy().parse();
            bench::scale::inside(number(nodes)?, number(rounds)?)
        }
        Some((name, [plan, endpoint, dir])) if name == "scale-nodes" => {
            let text = |word: &OsString| word.to_string_lossy().into_owned();
            bench::scale::nodes::run(&text(plan), &text(endpoint), dir.as_ref())
        }
        Some((name, [rounds])) if name == "one-change" => {
            bench::director::one_change(rounds.to_string_lossy().parse()?)
        }
        Some((name, [])) if name == "director" => bench::director::inside(),
        Some((name, [programs, floor])) if name == "ipvsadm" => {
            bench::ipvsadm::inside(programs.as_ref(), floor.as_ref())
        }
        _ => anyhow::bail!("no such inner command: {words:?}"),
    }
}
