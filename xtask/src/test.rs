//! `cargo xtask test`: every test, those on a real kernel included.
//!
//! Tests beside the code they test, and tests that need no kernel, run on this machine. Whole
//! programs and everything that speaks with the kernel run in the lab: all of it on the fast
//! kernel, and what is marked for it on a distribution's stock kernel too, since the two differ
//! in IPVS. Nothing is skipped: a kernel that cannot be had is a failure, with what to do.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use cvip_lab::KernelChoice;

use self::boots::Boot;
use crate::build::{self, Profile};
use crate::programs;

mod boots;

/// Test programs that run on this machine as they are; every other one runs in the lab.
const NATIVE: [&str; 5] = ["cli", "ipvsadm_cases", "ipvsadm_new", "json", "store"];

/// The test program of the packages, which `cargo xtask package --test` makes and runs it with.
pub(crate) const PACKAGES: &str = "packages";

/// On the stock kernel, tests with this in their path run.
const ON_STOCK: &str = "on_stock";

/// Run every test, those on a real kernel included
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests on this machine's kernel, or on the lab's: native, lab, stock
    #[arg(long, value_name = "PART")]
    skip: Vec<Part>,

    /// Also what is tested before a release only: the library without its features, and clusters whose cvipds are
    /// confined as their unit says
    #[arg(long)]
    all: bool,

    /// In the lab, test the programs as they are shipped, which takes minutes more to build
    #[arg(long)]
    release: bool,

    /// The lab's fast kernel: auto, host, uml, qemu
    #[arg(long, default_value = "auto", value_name = "KERNEL")]
    kernel: KernelChoice,

    /// How many kernels of the lab run at once [default: two on each processor]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..))]
    jobs: Option<u8>,

    /// Only tests with this in their names
    filter: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Native,
    Lab,
    Stock,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let filter: Vec<&str> = arguments.filter.iter().map(String::as_str).collect();
    let runs = |part| !arguments.skip.contains(&part);
    let mut failed = Vec::new();
    let mut found = 0;
    if runs(Part::Native) {
        heading("on this machine");
        let targets = native_targets(arguments.all);
        found += if filter.is_empty() { 0 } else { listed(&targets, &filter)? };
        if !native(&targets, &filter)? {
            failed.push("on this machine: see above".to_owned());
        }
    }
    if runs(Part::Lab) || runs(Part::Stock) {
        // The programs under test, and the test programs themselves.
        let profile = if arguments.release { Profile::Release } else { Profile::Quick };
        let folder = build::programs(profile)?;
        let mut queue = Vec::new();
        let mut built = programs::tests(&["--workspace", "--tests"])?;
        built.retain(|(name, _)| !NATIVE.contains(&name.as_str()) && name != PACKAGES);
        for (name, path) in built {
            if runs(Part::Lab) {
                let boots = boots::by_module(arguments.kernel, &name, &path, &filter)?;
                if arguments.all {
                    queue.extend(boots.iter().filter_map(Boot::under_the_unit));
                }
                queue.extend(boots);
            }
            if runs(Part::Stock) {
                let mut filter = filter.clone();
                filter.push(ON_STOCK);
                queue.extend(boots::whole(KernelChoice::Qemu, &name, &path, &filter)?);
            }
        }
        queue.sort_by_key(Boot::turn);
        found += queue.iter().map(Boot::tests).sum::<usize>();
        failed.extend(boot(queue, arguments.kernel, arguments.jobs, &folder));
        println!("left out: {PACKAGES}, which `cargo xtask package --test` runs");
    }
    if !arguments.all {
        println!("left out: what `--all` adds");
    }
    for part in &arguments.skip {
        println!("left out, as asked: {part:?}");
    }
    failed.extend(arguments.filter.as_deref().and_then(|filter| unmatched(filter, found)));
    Ok(conclude(started, &failed))
}

/// Runs the tests of these programs that have the filter in their names, in the lab. `folder` is where they
/// find the programs under test.
pub(crate) fn in_lab(
    kernel: KernelChoice,
    programs: &[(String, PathBuf)],
    filter: Option<&str>,
    folder: &Path,
) -> Result<ExitCode> {
    let started = Instant::now();
    let words: Vec<&str> = filter.into_iter().collect();
    let mut queue = Vec::new();
    for (name, path) in programs {
        queue.extend(boots::by_module(kernel, name, path, &words)?);
    }
    let found = queue.iter().map(Boot::tests).sum();
    let mut failed = boot(queue, kernel, None, folder);
    failed.extend(unmatched(filter.unwrap_or_default(), found));
    Ok(conclude(started, &failed))
}

/// Boots them, so many at once; what failed twice, a line each.
fn boot(queue: Vec<Boot>, kernel: KernelChoice, jobs: Option<u8>, folder: &Path) -> Vec<String> {
    let jobs = match jobs {
        Some(jobs) => jobs.into(),
        // The host's own kernel is one, and tests are not to disturb one another.
        None if kernel == KernelChoice::Host => 1,
        None => boots::ON_A_PROCESSOR * thread::available_parallelism().map_or(1, usize::from),
    };
    let tests: usize = queue.iter().map(Boot::tests).sum();
    heading(&format!("in the lab: {tests} tests, {} boots, {jobs} at once", queue.len()));
    boots::run(queue, jobs, folder)
}

/// Says what came of all.
fn conclude(started: Instant, failed: &[String]) -> ExitCode {
    println!("\ntook {} s", started.elapsed().as_secs());
    if failed.is_empty() {
        println!("all tests passed");
        return ExitCode::SUCCESS;
    }
    println!("FAILED:\n  {}", failed.join("\n  "));
    ExitCode::FAILURE
}

/// What is wrong with a filter by which so many tests were found.
fn unmatched(filter: &str, found: usize) -> Option<String> {
    let why = "what is compared is the name of a test with its modules, not that of its file";
    (found == 0).then(|| format!("no test has `{filter}' in its name: {why}"))
}

fn heading(text: &str) {
    println!("\n=== {text} ===\n");
}

/// Runs tests on this machine.
fn native(targets: &[Vec<&str>], filter: &[&str]) -> Result<bool> {
    let mut passed = true;
    for targets in targets {
        let mut command = cargo_test(targets);
        let status = command.arg("--quiet").args(filter).stdin(Stdio::null()).status();
        passed &= status.context("cannot run cargo")?.success();
    }
    Ok(passed)
}

/// How many of them a filter finds.
fn listed(targets: &[Vec<&str>], filter: &[&str]) -> Result<usize> {
    let mut tests = 0;
    for targets in targets {
        let mut command = cargo_test(targets);
        command.args(filter).args(["--", "--list", "--format=terse"]);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().context("cannot run cargo")?;
        tests += boots::names(&String::from_utf8_lossy(&output.stdout)).count();
    }
    Ok(tests)
}

/// What each run of cargo builds and tests: unit tests, the programs in [`NATIVE`], and documentation tests; `all`
/// adds the library without etcd, and ipvsadm-rs alone.
fn native_targets(all: bool) -> Vec<Vec<&'static str>> {
    let programs = NATIVE.into_iter().flat_map(|name| ["--test", name]);
    let here = ["--workspace", "--lib", "--bins"].into_iter().chain(programs).collect();
    let mut targets = vec![here, vec!["--workspace", "--doc"]];
    if all {
        let without_etcd =
            "--package cvip --no-default-features --features daemon --lib --test cli --test store";
        let alone =
            "--package cvip --no-default-features --lib --test ipvsadm_cases --test ipvsadm_new";
        targets.extend([without_etcd, alone].map(|words| words.split(' ').collect()));
    }
    targets
}

fn cargo_test(targets: &[&str]) -> Command {
    let mut command = build::cargo();
    command.args(["test", "--no-fail-fast"]).args(targets);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_finds_no_test_is_a_failure() {
        assert_eq!(unmatched("heartbeat", 3), None);
        let why = unmatched("tests/heartbeat", 0).unwrap();
        assert!(why.starts_with("no test has `tests/heartbeat' in its name"), "{why}");
    }
}
