//! The programs, built against an old C library.
//!
//! Rust's standard library runs on much older systems than most that build it, but a program asks for the versions of
//! the C library's functions that it was linked with. zig links with those of any version, whatever this machine has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::tools::Tools;
use crate::build::{self, Profile};

/// The C library of Debian 11, the oldest on which the programs run.
const GLIBC: (u32, u32) = (2, 31);

/// The programs of both packages.
const PROGRAMS: [&str; 4] = ["cvipctl", "cvipd", "ipvsadm-rs", "setport_weight"];

/// The target, as rustc names it.
pub(super) fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Where cargo builds for the old library: apart, since flags and linker are others.
pub(super) fn target() -> PathBuf {
    build::target().join("old-libc")
}

/// Builds the programs, stripped; their files.
///
/// # Errors
/// They do not build, or one of them asks for a newer C library.
pub(super) fn build(tools: &Tools, profile: Profile) -> Result<Vec<PathBuf>> {
    let (major, minor) = GLIBC;
    println!("building the programs against glibc {major}.{minor} ...");
    let mut command = build::cargo();
    command.args(["zigbuild", "--locked", "--profile", profile.name(), "--package", "cvip"]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    command.arg("--target").arg(format!("{}.{major}.{minor}", triple()));
    command.env("CARGO_TARGET_DIR", target()).stdin(Stdio::null());
    command.env(format!("CARGO_PROFILE_{}_STRIP", profile.name().to_uppercase()), "symbols");
    tools.with_zig(&mut command)?;
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the programs do not build against glibc {major}.{minor}");
    let folder = target().join(triple()).join(profile.name());
    let programs = PROGRAMS.map(|program| folder.join(program));
    programs.iter().try_for_each(|program| check(program))?;
    Ok(programs.into())
}

/// Sees that a program asks for no newer C library, and for no other library that a system may lack.
fn check(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let asked = versions(&bytes);
    ensure!(!asked.is_empty(), "{} is not linked with glibc", program.display());
    let newer: Vec<String> = asked
        .iter()
        .filter(|version| **version > GLIBC)
        .map(|(major, minor)| format!("GLIBC_{major}.{minor}"))
        .collect();
    if !newer.is_empty() {
        bail!(
            "{} asks for {}: it would not start on Debian 11",
            program.display(),
            newer.join(", ")
        );
    }
    // Its name stands in the program if it is needed.
    let unwinder = b"libgcc_s.so";
    ensure!(
        !bytes.windows(unwinder.len()).any(|window| window == unwinder),
        "{} needs libgcc_s.so, which the packages do not depend on",
        program.display()
    );
    Ok(())
}

/// The versions of glibc's functions that an ELF file asks for. All of their names stand in its table of strings, each
/// ended by a zero; what looks the same elsewhere is taken for one too, so that none is missed.
fn versions(file: &[u8]) -> BTreeSet<(u32, u32)> {
    const START: &[u8] = b"\0GLIBC_";
    let starts = file.windows(START.len()).enumerate().filter(|(_, window)| *window == START);
    let version = |(at, _): (usize, &[u8])| {
        let rest = &file[at + START.len()..];
        let end = rest.iter().position(|byte| *byte == 0)?;
        let mut numbers = std::str::from_utf8(&rest[..end]).ok()?.split('.');
        let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        Some((major, minor))
    };
    starts.filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let strings =
            b"\x7fELF\0malloc\0GLIBC_2.2.5\0GLIBC_2.31\0pidfd_open\0GLIBC_2.4\0GLIBC_2.100\0";
        assert_eq!(versions(strings), [(2, 2), (2, 4), (2, 31), (2, 100)].into());
        assert_eq!(versions(b"\0GLIBC_PRIVATE\0GLIBC_2.3"), [].into());
    }

    #[test]
    fn a_program_that_asks_for_more_than_debian_11_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        let check = |strings: &[u8]| {
            fs::write(&file, strings).unwrap();
            check(&file).map_err(|error| error.to_string())
        };
        assert_eq!(check(b"\0GLIBC_2.31\0libc.so.6\0"), Ok(()));
        let newer = check(b"\0GLIBC_2.31\0GLIBC_2.34\0").unwrap_err();
        assert!(newer.contains("asks for GLIBC_2.34: it would not start"), "{newer}");
        let other = check(b"\0GLIBC_2.31\0libgcc_s.so.1\0").unwrap_err();
        assert!(other.contains("needs libgcc_s.so"), "{other}");
        let none = check(b"\0").unwrap_err();
        assert!(none.contains("not linked with glibc"), "{none}");
    }
}
