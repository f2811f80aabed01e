//! `cargo xtask simulate --mutants`: each fault of simulation/mutants/ is planted in a copy of the
//! tree, and the cluster is simulated until an invariant does not hold, or the election explored. A fault that is not found
//! tells which invariant, or which of the simulator's faults, is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::build;

/// The election's own search is to find these, world by world.
const ELECTION: &str = "election-";

/// Of a hundred mutants so many are found, or the command fails.
const FOUND_PERCENT: usize = 90;

/// The seeds are the same each time.
const FIRST_SEED: &str = "1";

/// Few bursts: each run is another cluster.
const BURSTS: &str = "4";

/// A run that has not ended so long after its time hangs.
const SLACK: Duration = Duration::from_secs(60);

/// The crates of other projects are shared with the profile `quick`; our own are built for a short
/// build, since every mutant needs one.
const SHORT_BUILD: [&str; 3] = [
    "profile.quick.incremental=true",
    "profile.quick.package.cvip.opt-level=1",
    "profile.quick.package.cvip-simulation.opt-level=1",
];

/// What became of one mutant.
struct Outcome {
    name: String,
    took: Duration,
    /// How many runs it took, and what was seen; none if it was not found.
    found: Option<(String, String)>,
}

/// Runs those of these names, or all, for so many minutes each.
pub(super) fn run(names: &[String], minutes: f64) -> Result<ExitCode> {
    ensure!(minutes > 0.0, "--minutes must be more than 0");
    let patches = patches(names)?;
    let folder = build::target().join("mutants");
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let mut outcomes = Vec::new();
    for patch in &patches {
        let name = name_of(patch);
        copy_tree(&folder.join("tree"))?;
        plant(&folder, patch)?;
        let program = build_mutant(&folder, &name)?;
        let outcome = search(&program, name, minutes)?;
        println!("{}", line(&outcome));
        outcomes.push(outcome);
    }
    copy_tree(&folder.join("tree"))?;
    Ok(report(&outcomes))
}

fn name_of(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The patches of these names, or all.
fn patches(names: &[String]) -> Result<Vec<PathBuf>> {
    let folder = build::root().join("simulation/mutants").canonicalize()?;
    let mut patches = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let is_patch = path.extension().is_some_and(|extension| extension == "patch");
        if is_patch {
            patches.push(path);
        }
    }
    patches.sort();
    let known: BTreeSet<String> = patches.iter().map(|path| name_of(path)).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(*name)) {
        bail!("no {unknown}.patch in {}", folder.display());
    }
    patches.retain(|path| names.is_empty() || names.contains(&name_of(path)));
    ensure!(!patches.is_empty(), "no patch in {}", folder.display());
    Ok(patches)
}

/// Makes the copy what the tree is. Only what differs is written, so that cargo builds no more.
fn copy_tree(copy: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(build::root())
        .output()
        .context("cannot run git")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let mut kept = BTreeSet::new();
    for name in listed.split_terminator('\0') {
        let (from, to) = (build::root().join(name), copy.join(name));
        // A file that was deleted and not committed, or a symbolic link to a folder.
        let Ok(text) = fs::read(&from) else { continue };
        if fs::read(&to).ok().as_ref() != Some(&text) {
            fs::create_dir_all(to.parent().unwrap_or(copy))?;
            fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
        }
        kept.insert(to);
    }
    remove_others(&copy.join("src"), &kept)?;
    remove_others(&copy.join("simulation"), &kept)
}

fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn plant(folder: &Path, patch: &Path) -> Result<()> {
    let applied = Command::new("git")
        .arg("apply")
        .arg(patch)
        .current_dir(folder.join("tree"))
        // The copy lies in the project's repository: without this, git would look for the files there.
        .env("GIT_CEILING_DIRECTORIES", folder)
        .output()
        .context("cannot run git")?;
    let why = String::from_utf8_lossy(&applied.stderr);
    ensure!(applied.status.success(), "{} does not apply: {why}", patch.display());
    Ok(())
}

fn build_mutant(folder: &Path, name: &str) -> Result<PathBuf> {
    let target = build::target().canonicalize()?;
    let mut cargo = build::cargo();
    cargo.current_dir(folder.join("tree"));
    cargo.args(["build", "--quiet", "--locked", "--profile", "quick"]);
    cargo.args(["--package", "cvip-simulation", "--target-dir"]).arg(&target);
    cargo.args(SHORT_BUILD.iter().flat_map(|setting| ["--config", setting]));
    cargo.stdin(Stdio::null());
    ensure!(cargo.status().context("cannot run cargo")?.success(), "{name} cannot be built");
    // Another build may replace it.
    let program = folder.join("cvip-simulation");
    let _ = fs::remove_file(&program);
    fs::copy(target.join("quick/cvip-simulation"), &program)?;
    Ok(program)
}

/// Simulates clusters, or explores the election, until an invariant does not hold or time is up.
fn search(program: &Path, name: String, minutes: f64) -> Result<Outcome> {
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs_f64(minutes * 60.0) + SLACK;
    let is_of_election = name.starts_with(ELECTION);
    let minutes = minutes.to_string();
    let words: &[&str] = match is_of_election {
        true => &["election", "--first"],
        false => &[
            "cluster",
            "run",
            "--brief",
            "--bursts",
            BURSTS,
            "--seed",
            FIRST_SEED,
            "--minutes",
            &minutes,
        ],
    };
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = begun.elapsed();
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "run 3, seed 5, burst 2: invariant 11 at 52.250 s: ..."
    let seen =
        text.split(['\r', '\n']).find_map(|line| line.strip_prefix("run ")?.split_once(", "));
    let found = match output.status.code() {
        None if is_of_election => None,
        Some(1) if is_of_election => {
            let world = text.lines().rfind(|line| line.contains(" directors, "));
            let world = world.unwrap_or_default().to_owned();
            Some((world, "what must hold in every state".to_owned()))
        }
        Some(0) => None,
        Some(1) => {
            let (runs, rest) = seen.with_context(|| format!("{name}: unexpected: {text}"))?;
            let what = rest.split_once(": ").map_or(rest, |(_, what)| what);
            Some((runs.to_owned(), what.to_owned()))
        }
        Some(101) => Some(("?".to_owned(), "it panicked".to_owned())),
        _ => Some(("?".to_owned(), "it hangs".to_owned())),
    };
    Ok(Outcome { name, took, found })
}

fn line(Outcome { name, took, found }: &Outcome) -> String {
    let took = took.as_secs_f64();
    match found {
        Some((runs, what)) => format!("{name}: found in {took:.1} s, run {runs}: {what}"),
        None => format!("{name}: NOT FOUND in {took:.0} s"),
    }
}

fn report(outcomes: &[Outcome]) -> ExitCode {
    println!("\n| mutant | found after | in run | by |\n|---|---|---|---|");
    for Outcome { name, took, found } in outcomes {
        let took = took.as_secs_f64();
        match found {
            Some((runs, what)) => {
                let by = what.split_once(" at ").map_or(what.as_str(), |(invariant, _)| invariant);
                println!("| {name} | {took:.1} s | {runs} | {by} |");
            }
            None => println!("| {name} | not in {took:.0} s | | |"),
        }
    }
    let found = outcomes.iter().filter(|outcome| outcome.found.is_some()).count();
    println!("\n{found} of {} found", outcomes.len());
    match found * 100 >= outcomes.len() * FOUND_PERCENT {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_planted_in_the_tree_as_it_is() {
        for patch in patches(&[]).unwrap() {
            let mut git = Command::new("git");
            git.args(["apply", "--check"]).arg(&patch).current_dir(build::root());
            let checked = git.output().unwrap();
            let why = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{}: {why}", patch.display());
        }
    }
}
