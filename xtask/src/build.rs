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

/// Build the four programs, optimised, into one folder
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    println!("the programs are in {}", programs()?.canonicalize()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the four programs, optimised, and returns their folder.
///
/// ipvsadm-rs is linked statically where the machine has a static C library: scripts call it
/// thousands of times, and most of a short call is the dynamic linker's work. Names are looked
/// up by nsswitch.conf(5) all the same.
pub(crate) fn programs() -> Result<PathBuf> {
    println!("building the programs ...");
    build(&["--package", "cvip", "--bins"], None)?;
    let folder = target().join("programs");
    fs::create_dir_all(&folder)?;
    let built = target().join("release");
    for program in ["cvipctl", "cvipd", "setport_weight"] {
        place(&built.join(program), &folder)?;
    }
    match statically("cvip", "ipvsadm-rs")? {
        Some(program) => place(&program, &folder)?,
        None => {
            println!(
                "ipvsadm-rs is linked dynamically, and starts the slower for it: there is no \
                 static C library here (Fedora: dnf install glibc-static)"
            );
            place(&built.join("ipvsadm-rs"), &folder)?;
        }
    }
    Ok(folder)
}

/// Builds this program, optimised: for benches that measure what the library computes in it.
pub(crate) fn myself() -> Result<PathBuf> {
    build(&["--package", "xtask"], None)?;
    Ok(target().join("release/xtask"))
}

/// Builds the bench's least program that fills a table, linked as ipvsadm-rs is.
pub(crate) fn floor() -> Result<PathBuf> {
    if let Some(program) = statically("cvip-lab", "ipvs-floor")? {
        return Ok(program);
    }
    build(&["--package", "cvip-lab", "--bin", "ipvs-floor"], None)?;
    Ok(target().join("release/ipvs-floor"))
}

/// A static program whose places are fixed: it starts without relocating itself.
const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Builds a program that needs no other file; none where the machine has not what that takes.
fn statically(package: &str, program: &str) -> Result<Option<PathBuf>> {
    let host = host()?;
    if !host.ends_with("-linux-gnu") {
        return Ok(None);
    }
    let folder = target().join("static");
    let dir = folder.to_string_lossy();
    // It speaks with no store, and what that takes would have to be built a second time.
    let options = ["--package", package, "--no-default-features"];
    let place = ["--bin", program, "--target", &host, "--target-dir", &dir];
    let options = [&options[..], &place[..]].concat();
    let built = build(&options, Some(STATIC)).is_ok();
    Ok(built.then(|| folder.join(&host).join("release").join(program)))
}

fn build(options: &[&str], flags: Option<&str>) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--release"]).args(options);
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo build failed");
    Ok(())
}

/// Puts a program into a folder, in one step: a running one is not disturbed.
fn place(program: &Path, folder: &Path) -> Result<()> {
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
