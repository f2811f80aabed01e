//! Whole clusters under faults: runs seeds, replays failures.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use cvip_simulation::run::{Plan, Report, run};
use cvip_simulation::shrink::shrink;

/// Between two bursts of faults lie so many quiet seconds on average, which are counted and not
/// run: a cluster at rest repeats itself.
const QUIET_S: f64 = 3600.0;

/// So many bursts are one run, on one cluster.
const BURSTS: usize = 12;

/// A failure is shrunk for so long at most.
const SHRINK_WITHIN: Duration = Duration::from_secs(120);

/// Whole clusters under faults, drawn from seeds.
#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Runs seeds until time is up, or the years have passed, or an invariant does not hold.
    Run {
        /// The first seed; drawn from the clock if absent.
        #[arg(long)]
        seed: Option<u64>,
        /// How many seeds.
        #[arg(long)]
        seeds: Option<u64>,
        /// For how many minutes.
        #[arg(long)]
        minutes: Option<f64>,
        /// For how many simulated years.
        #[arg(long)]
        years: Option<f64>,
        /// A cluster of three directors and eight nodes, and no other.
        #[arg(long)]
        large: bool,
        /// How many bursts of faults a run has.
        #[arg(long, default_value_t = BURSTS)]
        bursts: usize,
        /// A failure is named; its plan is not shortened, kept and shown.
        #[arg(long)]
        brief: bool,
        /// Where the plan of a failure is written.
        #[arg(long, default_value = "target/simulation")]
        keep: PathBuf,
    },
    /// Runs the plan of a failure, and shows what happened.
    Replay {
        /// The plan.
        file: PathBuf,
        /// Only whether it holds.
        #[arg(long)]
        quiet: bool,
    },
    /// Replays every plan of a folder: all must hold.
    Seeds {
        /// The folder.
        folder: PathBuf,
    },
}

/// Runs it: 0 if every invariant holds.
pub(crate) fn run_command(arguments: Arguments) -> ExitCode {
    match start(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(what: Arguments) -> anyhow::Result<bool> {
    match what {
        Arguments::Run { seed, seeds, minutes, years, large, bursts, brief, keep } => {
            let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let first = seed.unwrap_or_else(|| clock.map_or(1, |since| since.as_secs()));
            let limits = Limits { seeds, minutes, years };
            search(first, &limits, large, bursts, Some(&*keep).filter(|_| !brief))
        }
        Arguments::Replay { file, quiet } => replay(&file, quiet),
        Arguments::Seeds { folder } => replay_all(&folder),
    }
}

struct Limits {
    seeds: Option<u64>,
    minutes: Option<f64>,
    years: Option<f64>,
}

/// What was simulated so far.
#[derive(Default)]
struct Sum {
    runs: u64,
    bursts: usize,
    faults: usize,
    events: u64,
    simulated: Duration,
    settled: Vec<Duration>,
}

impl Sum {
    fn add(&mut self, plan: &Plan, report: &Report) {
        self.runs += 1;
        self.bursts += plan.bursts.len();
        self.faults += report.faults;
        self.events += report.events;
        self.simulated += report.simulated;
        self.settled.extend(&report.settled);
    }

    /// Simulated years, the quiet times between bursts among them.
    fn years(&self) -> f64 {
        (self.simulated.as_secs_f64() + self.bursts as f64 * QUIET_S) / (365.25 * 86_400.0)
    }

    fn show(&mut self, took: Duration) -> String {
        self.settled.sort_unstable();
        let at = |part: f64| {
            let index = (self.settled.len() as f64 * part) as usize;
            self.settled.get(index.min(self.settled.len().saturating_sub(1))).copied()
        };
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
        format!(
            "{} runs, {} faults in {} bursts, {} events: {:.2} years, of which {:.1} h were run, in \
             {:.0} s; right again after median {:.1} s, p99 {:.1}, most {:.1}",
            self.runs,
            self.faults,
            self.bursts,
            self.events,
            self.years(),
            self.simulated.as_secs_f64() / 3600.0,
            took.as_secs_f64(),
            seconds(at(0.5)),
            seconds(at(0.99)),
            seconds(self.settled.last().copied()),
        )
    }
}

fn search(
    first: u64,
    limits: &Limits,
    large: bool,
    bursts: usize,
    keep: Option<&Path>,
) -> anyhow::Result<bool> {
    let began = Instant::now();
    let mut sum = Sum::default();
    println!("seeds from {first} on");
    for seed in first.. {
        let is_over = limits.seeds.is_some_and(|seeds| sum.runs >= seeds)
            || limits.minutes.is_some_and(|m| began.elapsed().as_secs_f64() >= m * 60.0)
            || limits.years.is_some_and(|years| sum.years() >= years);
        if is_over {
            break;
        }
        let plan = match large {
            true => Plan::sized(seed, 8, 3, bursts),
            false => Plan::draw(seed, bursts),
        };
        let report = run(&plan, false);
        sum.add(&plan, &report);
        if let Some((burst, violation)) = &report.violation {
            println!("\rrun {}, seed {seed}, burst {burst}: {violation}", sum.runs);
            if let Some(keep) = keep {
                fail(&plan, *burst, keep)?;
            }
            println!("{}", sum.show(began.elapsed()));
            return Ok(false);
        }
        if sum.runs.is_multiple_of(20) {
            print!("\r{} runs, seed {seed}, {:.2} years", sum.runs, sum.years());
            let _ = std::io::stdout().flush();
        }
    }
    println!("\r{}", sum.show(began.elapsed()));
    Ok(true)
}

/// Shrinks a plan that failed, keeps it, and shows what happened in it.
fn fail(plan: &Plan, burst: usize, keep: &Path) -> anyhow::Result<()> {
    let shorter = shrink(plan, burst, SHRINK_WITHIN, |faults| {
        print!("\rshrunk to {faults} faults ");
        let _ = std::io::stdout().flush();
    });
    std::fs::create_dir_all(keep).with_context(|| format!("cannot make {}", keep.display()))?;
    let file = keep.join(format!("{}.json", plan.seed));
    std::fs::write(&file, serde_json::to_string_pretty(&shorter)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let report = run(&shorter, true);
    println!();
    for line in &report.timeline {
        println!("{line}");
    }
    println!("the plan: {}", serde_json::to_string(&shorter)?);
    println!("it stands in {0}; repeat it: cargo xtask simulate --replay {0}", file.display());
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Plan> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no plan", file.display()))
}

fn replay(file: &Path, quiet: bool) -> anyhow::Result<bool> {
    let report = run(&read(file)?, !quiet);
    for line in &report.timeline {
        println!("{line}");
    }
    match report.violation {
        Some((_, violation)) => {
            println!("{violation}");
            Ok(false)
        }
        None => {
            println!("every invariant holds");
            Ok(true)
        }
    }
}

fn replay_all(folder: &Path) -> anyhow::Result<bool> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    if files.is_empty() {
        bail!("no plan in {}", folder.display());
    }
    let mut all_hold = true;
    for file in &files {
        let report = run(&read(file)?, false);
        if let Some((_, violation)) = report.violation {
            println!("{}: {violation}", file.display());
            all_hold = false;
        }
    }
    println!("{} plans of earlier failures replayed", files.len());
    Ok(all_hold)
}
