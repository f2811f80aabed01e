//! `cargo xtask musl`: ipvsadm-rs on musl, one file that runs on any Linux.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

use crate::build;

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Build ipvsadm-rs on musl: one file that runs on any Linux
///
/// Where Rust's library for musl is not there and cannot be had through rustup, nothing is built; that is said, and is
/// no failure with --if-there.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where there is no library for musl, say so and succeed
    #[arg(long)]
    if_there: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !is_there() {
        println!("Rust's library for {TARGET} is not here: rustup is asked for it ...");
        let asked =
            Command::new("rustup").args(["target", "add", TARGET]).stdin(Stdio::null()).status();
        let asked = asked.is_ok_and(|status| status.success());
        if !asked || !is_there() {
            println!(
                "LEFT OUT: ipvsadm-rs was not built for {TARGET}, whose library cannot be had here; \
                 with rustup: `rustup target add {TARGET}`"
            );
            return Ok(if arguments.if_there { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    let status = build::cargo()
        .args(["build", "--profile", "quick", "--locked", "--target", TARGET])
        .args(["--package", "cvip", "--no-default-features", "--bin", "ipvsadm-rs"])
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "ipvsadm-rs does not build for {TARGET}");
    let program = build::target().join(TARGET).join("quick/ipvsadm-rs");
    let said = Command::new(&program).arg("--version").output();
    let said = said.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(said.status.success(), "{} does not run: {said:?}", program.display());
    println!("{}: {}", program.display(), String::from_utf8_lossy(&said.stdout).trim());
    Ok(ExitCode::SUCCESS)
}

/// Whether rustc has the library for it.
fn is_there() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && std::path::Path::new(&folder).is_dir()
    })
}
