//! `cargo xtask test`: every test, those on a real kernel included.
//!
//! Tests beside the code they test, and tests that need no kernel, run on this machine. Whole
//! programs and everything that speaks with the kernel run in the lab: all of it on the fast
//! kernel, and what is marked for it on a distribution's stock kernel too, since the two differ
//! in IPVS. Nothing is skipped: a kernel that cannot be had is a failure, with what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip_lab::{KernelChoice, Lab};

use crate::build;

/// Test programs that run on this machine as they are; every other one runs in the lab.
const NATIVE: [&str; 4] = ["cli", "ipvsadm_cases", "ipvsadm_new", "store"];

/// Test programs whose tests wait more than they work, and how many of them run at once; others
/// run as many as there are processors.
const WAITING: [(&str, &str); 3] =
    [("idle", "--test-threads=1"), ("kernel", "--test-threads=4"), ("outages", "--test-threads=1")];

/// What test programs in the lab need beside the lab's own packages.
const PACKAGES: [(&str, &[&str]); 7] = [
    ("checks", &["dnsmasq-base"]),
    ("cluster_page", cvip_lab::etcd::PACKAGES),
    ("etcd", cvip_lab::etcd::PACKAGES),
    ("keepalived", cvip_lab::keepalived::PACKAGES),
    ("kernel", &["xdm", "xvfb", "etcd-server", "etcd-client"]),
    ("ldirectord", &["ldirectord"]),
    ("outages", cvip_lab::etcd::PACKAGES),
];

/// How long one test program may take on a busy machine.
const PROGRAM_WITHIN: Duration = Duration::from_secs(15 * 60);

/// On the stock kernel, tests with this in their path run.
const ON_STOCK: &str = "on_stock";

/// Run every test, those on a real kernel included
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests on this machine's kernel, or on the lab's: native, lab, stock
    #[arg(long, value_name = "PART")]
    skip: Vec<Part>,

    /// The lab's fast kernel: auto, host, uml, qemu
    #[arg(long, default_value = "auto", value_name = "KERNEL")]
    kernel: KernelChoice,

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
    if runs(Part::Native) {
        heading("on this machine");
        if !native(&filter)? {
            failed.push("on this machine");
        }
    }
    if runs(Part::Lab) || runs(Part::Stock) {
        // The programs under test, and the test programs themselves.
        let programs = build::programs()?;
        let tests = test_programs()?;
        if runs(Part::Lab) {
            heading("on the lab's kernel");
            if !in_lab(arguments.kernel, &programs, &tests, &filter)? {
                failed.push("on the lab's kernel");
            }
        }
        if runs(Part::Stock) {
            heading("on a stock kernel");
            let mut filter = filter.clone();
            filter.push(ON_STOCK);
            if !in_lab(KernelChoice::Qemu, &programs, &tests, &filter)? {
                failed.push("on a stock kernel");
            }
        }
    }
    for part in &arguments.skip {
        println!("left out, as asked: {part:?}");
    }
    println!("\ntook {} s", started.elapsed().as_secs());
    if failed.is_empty() {
        println!("all tests passed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn heading(text: &str) {
    println!("\n=== {text} ===\n");
}

/// Unit tests, documentation tests, and the programs in [`NATIVE`].
fn native(filter: &[&str]) -> Result<bool> {
    let mut passed = true;
    let run = |arguments: &[&str]| -> Result<bool> {
        let mut command = build::cargo();
        command.args(["test", "--workspace", "--quiet", "--no-fail-fast"]).args(arguments);
        let status = command.args(filter).stdin(Stdio::null()).status();
        Ok(status.context("cannot run cargo")?.success())
    };
    let mut targets = vec!["--lib", "--bins"];
    for name in NATIVE {
        targets.extend(["--test", name]);
    }
    passed &= run(&targets)?;
    passed &= run(&["--doc"])?;
    Ok(passed)
}

/// The test programs that run in the lab, by name.
fn test_programs() -> Result<Vec<(String, PathBuf)>> {
    let output = build::cargo()
        .args(["test", "--workspace", "--no-run", "--tests", "--message-format=json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let mut programs = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: serde_json::Value = serde_json::from_slice(line)?;
        let target = &message["target"];
        let is_test = target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"test".into()));
        let name = target["name"].as_str().unwrap_or_default();
        if is_test
            && !NATIVE.contains(&name)
            && let Some(executable) = message["executable"].as_str()
        {
            programs.push((name.to_owned(), executable.into()));
        }
    }
    programs.sort();
    ensure!(!programs.is_empty(), "no test programs were built");
    Ok(programs)
}

/// A boot for each test program: what one leaves behind in the kernel, or breaks in it, is not
/// the next one's trouble. (Linux 6.1 now and then never frees a network device of a namespace
/// that is gone, and then every further namespace waits for it.)
///
/// For the same reason, and because an emulator on a busy machine can stall for longer than any
/// time-out that a test should have, a program that fails is run a second time. If it then
/// passes, that is said: a test that needs it often is a test to mend.
fn in_lab(
    kernel: KernelChoice,
    programs: &Path,
    tests: &[(String, PathBuf)],
    filter: &[&str],
) -> Result<bool> {
    let (mut failed, mut twice) = (Vec::new(), Vec::new());
    for (name, path) in tests {
        if !has_tests(path, filter)? {
            continue;
        }
        if once(kernel, programs, name, path, filter) {
            continue;
        }
        println!("{name} failed: once more");
        match once(kernel, programs, name, path, filter) {
            true => twice.push(name.as_str()),
            false => failed.push(name.as_str()),
        }
    }
    if !twice.is_empty() {
        println!("\nUNSTEADY, passed at the second try only: {}", twice.join(", "));
    }
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// Asks a test program whether it has tests of these names, which needs no lab.
fn has_tests(program: &Path, filter: &[&str]) -> Result<bool> {
    let output = Command::new(program)
        .args(filter)
        .args(["--list", "--format=terse"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{} cannot list its tests", program.display());
    Ok(String::from_utf8_lossy(&output.stdout).contains(": test"))
}

/// Runs one test program in a kernel of its own.
fn once(kernel: KernelChoice, programs: &Path, name: &str, path: &Path, filter: &[&str]) -> bool {
    println!("\n--- {name}");
    let mut command: Vec<OsString> = vec![path.into()];
    command.extend(filter.iter().map(OsString::from));
    command.push("--quiet".into());
    let threads = WAITING.iter().filter(|(program, _)| *program == name);
    command.extend(threads.map(|(_, option)| option.into()));
    let packages = PACKAGES.iter().filter(|(program, _)| *program == name);
    let packages: Vec<&str> = packages.flat_map(|(_, names)| names.iter().copied()).collect();
    let outcome = Lab::new(kernel).and_then(|lab| {
        lab.packages(&packages)
            .env("CVIP_TEST_PROGRAMS", programs)
            .timeout(PROGRAM_WITHIN)
            .run(&command)
    });
    match outcome {
        Ok(status) => status == 0,
        Err(error) => {
            println!("{name}: {error:#}");
            false
        }
    }
}
