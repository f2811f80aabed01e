//! Builds what the other commands run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo, in the project's root. It is given the environment that a cargo called by hand has, so that each finds the
/// other's work done.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(cvip_lab::is_set_by_cargo) {
            command.env_remove(name);
        }
    }
    command
}

/// How programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As they are shipped: optimised as a whole, which takes long.
    Release,
    /// For tests in the lab: optimised crate by crate.
    Quick,
}

impl Profile {
    /// Its name in Cargo.toml, and of its folder below cargo's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Quick => "quick",
        }
    }

    /// What cargo is told of the library's features. The simulation is built with this profile too, and needs those
    /// for tools: with them, the library is built once for both.
    fn features(self) -> &'static [&'static str] {
        match self {
            Profile::Release => &[],
            Profile::Quick => &["--features", "internal"],
        }
    }

    /// Where the programs are put together, below cargo's folder.
    fn folder(self) -> &'static str {
        match self {
            Profile::Release => "programs",
            Profile::Quick => "programs-quick",
        }
    }
}

/// Build the four programs, optimised, into one folder
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    println!("the programs are in {}", programs(Profile::Release)?.canonicalize()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the four programs, optimised, and returns their folder.
///
/// ipvsadm-rs is linked statically where the machine has a static C library: scripts call it
/// thousands of times, and most of a short call is the dynamic linker's work. Names are looked
/// up by nsswitch.conf(5) all the same.
pub(crate) fn programs(profile: Profile) -> Result<PathBuf> {
    println!("building the programs ...");
    let folder = target().join(profile.folder());
    fs::create_dir_all(&folder)?;
    let built = target().join(profile.name());
    let daemons = ["cvipctl", "cvipd", "setport_weight"];
    let package = [&["--package", "cvip"][..], profile.features()].concat();
    let bins = daemons.iter().flat_map(|program| ["--bin", program]);
    build(profile, &package.iter().copied().chain(bins).collect::<Vec<_>>(), None)?;
    for program in daemons {
        place(&built.join(program), &folder)?;
    }
    match statically(profile, "cvip", "ipvsadm-rs")? {
        Some(program) => place(&program, &folder)?,
        None => {
            println!(
                "ipvsadm-rs is linked dynamically, and starts the slower for it: there is no \
                 static C library here (Fedora: dnf install glibc-static)"
            );
            build(profile, &[&package[..], &["--bin", "ipvsadm-rs"]].concat(), None)?;
            place(&built.join("ipvsadm-rs"), &folder)?;
        }
    }
    Ok(folder)
}

/// Builds the four programs as they are while one works on them, and returns their folder.
///
/// They are not optimised, and share with this program's own build all that it has built: for the
/// demo, which is to begin soon.
pub(crate) fn programs_at_once() -> Result<PathBuf> {
    println!("building the programs, not optimised ...");
    run_cargo(cargo().args(["build", "--package", "cvip", "--features", "internal", "--bins"]))?;
    Ok(target().join("debug"))
}

/// Builds this program, optimised: for benches that measure what the library computes in it.
pub(crate) fn myself() -> Result<PathBuf> {
    build(Profile::Release, &["--package", "xtask"], None)?;
    Ok(target().join("release/xtask"))
}

/// Builds the bench's least program that fills a table, linked as ipvsadm-rs is.
pub(crate) fn floor() -> Result<PathBuf> {
    if let Some(program) = statically(Profile::Release, "cvip-lab", "ipvs-floor")? {
        return Ok(program);
    }
    build(Profile::Release, &["--package", "cvip-lab", "--bin", "ipvs-floor"], None)?;
    Ok(target().join("release/ipvs-floor"))
}

/// A static program whose places are fixed: it starts without relocating itself.
const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Builds a program that needs no other file; none where the machine has not what that takes.
fn statically(profile: Profile, package: &str, program: &str) -> Result<Option<PathBuf>> {
    let host = host()?;
    if !host.ends_with("-linux-gnu") {
        return Ok(None);
    }
    // Without any feature it is made of few crates, which alone are built a second time.
    let options = ["--package", package, "--no-default-features"];
    let options = [&options[..], &["--bin", program, "--target", &host]].concat();
    let built = build(profile, &options, Some(STATIC)).is_ok();
    Ok(built.then(|| target().join(&host).join(profile.name()).join(program)))
}

fn build(profile: Profile, options: &[&str], flags: Option<&str>) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--profile", profile.name()]).args(options);
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    run_cargo(&mut command)
}

fn run_cargo(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo build failed");
    Ok(())
}

/// Puts a program into a folder, in one step: a running one is not disturbed.
pub(crate) fn place(program: &Path, folder: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    let new = folder.join("new");
    fs::copy(program, &new).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(fs::rename(&new, folder.join(name))?)
}

/// The machine's target, as rustc names it.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}
