//! Explores the election completely in small worlds.

use std::process::ExitCode;
use std::time::Instant;

use cvip_simulation::election::{Progress, Timeline, explore, worlds};

/// Explore the election in all small worlds: every state that so many faults can lead to
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the smallest world, which takes seconds
    #[arg(long)]
    smallest: bool,

    /// End with the first world in which something is wrong
    #[arg(long)]
    first: bool,

    /// Only worlds whose name has this in it
    world: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let is_meant = |name: &str| arguments.world.as_ref().is_none_or(|word| name.contains(word));
    let mut worlds = worlds::all();
    worlds.retain(|setting| is_meant(setting.name));
    if arguments.smallest {
        worlds.truncate(1);
    }
    let mut passed = 0;
    let mut failed = 0;
    for setting in worlds {
        println!("{}", setting.name);
        let begun = Instant::now();
        let mut told = Instant::now();
        let explored = explore(setting.clone(), &mut |progress| {
            if told.elapsed().as_secs() >= 5 {
                told = Instant::now();
                let Progress { states, faults, depth, waiting } = progress;
                eprintln!(
                    "  {} s: {states} states; now {faults} faults and {depth} events behind, {waiting} wait",
                    begun.elapsed().as_secs()
                );
            }
        });
        println!(
            "  {} states, {} events, at most {} events deep, {} ends: {:.1} s",
            explored.states,
            explored.events,
            explored.depth,
            explored.ends,
            begun.elapsed().as_secs_f32()
        );
        match &explored.violation {
            None => passed += 1,
            Some(violation) => {
                failed += 1;
                println!("\n{}", Timeline { setting, violation });
                if arguments.first {
                    break;
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
