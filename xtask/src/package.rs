//! `cargo xtask package`: the packages of cvip and ipvsadm-rs, for Debian and for Fedora.
//!
//! What is in them stands in Cargo.toml, as cargo-deb and cargo-generate-rpm read it. The programs are built against an
//! old C library, so that one package serves every distribution since, and names are looked up as its nsswitch.conf
//! says, which a static program does by the plug-ins of its own C library alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use cvip_lab::KernelChoice;

use crate::build::{self, Profile};
use crate::{programs, test};

mod old_libc;
mod roots;
mod tools;

/// The variants of the metadata in Cargo.toml: `cvip`, and what stands beside it.
const VARIANTS: [Option<&str>; 2] = [None, Some("ipvsadm-rs")];

/// The version from which the tests upgrade, and to which they go back.
const OLDER: &str = "0.0.9-1";

/// Build the packages of cvip and ipvsadm-rs, .deb and .rpm, into target/packages
///
/// The programs in them run wherever the C library is as old as Debian 11's, or newer. cargo-deb, cargo-generate-rpm,
/// cargo-zigbuild and zig are fetched into target/tools where they are missing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Test the packages too, optimised crate by crate: lintian, and in fresh Debian 12 and 13 roots installation,
    /// upgrade with traffic, downgrade, removal and purge
    #[arg(long)]
    test: bool,

    /// The kernel of the tests: auto, host, uml, qemu
    #[arg(long, default_value = "auto", value_name = "KERNEL", requires = "test")]
    kernel: KernelChoice,

    /// Only tests with this in their names
    #[arg(requires = "test")]
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let profile = if arguments.test { Profile::Quick } else { Profile::Release };
    let tools = tools::Tools::get()?;
    let built = old_libc::build(&tools, profile)?;
    let packages = build::target().join(if arguments.test { "packages-quick" } else { "packages" });
    fs::create_dir_all(&packages)?;
    forget_packages(&packages)?;
    let mut made = Vec::new();
    for variant in VARIANTS {
        made.push(deb(&tools, profile, variant, &packages, None)?);
        made.push(rpm(&tools, profile, variant, &packages)?);
    }
    for package in &made {
        println!("{}", package.display());
    }
    if !arguments.test {
        return Ok(ExitCode::SUCCESS);
    }
    let older = packages.join("older");
    fs::create_dir_all(&older)?;
    forget_packages(&older)?;
    for variant in VARIANTS {
        deb(&tools, profile, variant, &older, Some(OLDER))?;
    }
    roots::make(&packages.join("roots"))?;
    // Where the tests find the programs, with the packages and the roots beside them.
    let folder = packages.join("programs");
    fs::create_dir_all(&folder)?;
    for program in built {
        build::place(&program, &folder)?;
    }
    let tests = programs::tests(&["--package", "cvip", "--test", test::PACKAGES])?;
    test::in_lab(arguments.kernel, &tests, arguments.filter.as_deref(), &folder)
}

/// Makes a .deb, of this version if it is not to be that of Cargo.toml.
fn deb(
    tools: &tools::Tools,
    profile: Profile,
    variant: Option<&str>,
    into: &Path,
    version: Option<&str>,
) -> Result<PathBuf> {
    let mut command = packager(&tools.deb, "deb", profile)?;
    // Stripped when they were linked. The packager itself is not optimised: xz(1) and gzip(1) are.
    command.args(["--quiet", "--no-build", "--no-strip", "--compress-system"]);
    command.args(["--package", "cvip"]);
    command.args(version.iter().flat_map(|version| ["--deb-version", version]));
    if profile == Profile::Quick {
        command.args(["--fast", "--compress-type", "gz"]);
    }
    let name = variant.unwrap_or("cvip");
    let version = version.map_or_else(|| format!("{}-1", env!("CARGO_PKG_VERSION")), str::to_owned);
    make(command, variant, into.join(format!("{name}_{version}_{}.deb", debian_architecture())))
}

/// Makes a .rpm.
fn rpm(
    tools: &tools::Tools,
    profile: Profile,
    variant: Option<&str>,
    into: &Path,
) -> Result<PathBuf> {
    let mut command = packager(&tools.rpm, "generate-rpm", profile)?;
    command.arg("--target-dir").arg(old_libc::target());
    if profile == Profile::Quick {
        command.args(["--payload-compress", "none"]);
    }
    let name = variant.unwrap_or("cvip");
    let file = format!("{name}-{}-1.{}.rpm", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    make(command, variant, into.join(file))
}

fn packager(program: &Path, subcommand: &str, profile: Profile) -> Result<Command> {
    let mut command = Command::new(program);
    command.arg(subcommand).current_dir(build::root()).stdin(Stdio::null());
    command.args(["--profile", profile.name(), "--target", &old_libc::triple()]);
    command.env("CARGO_TARGET_DIR", old_libc::target());
    Ok(command)
}

fn make(mut command: Command, variant: Option<&str>, package: PathBuf) -> Result<PathBuf> {
    command.args(variant.iter().flat_map(|variant| ["--variant", variant]));
    command.arg("--output").arg(&package);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{} was not made", package.display());
    Ok(package)
}

/// Packages of an earlier version are not to be taken for this one's.
fn forget_packages(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb" || end == "rpm") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// This machine's architecture, as Debian names it.
fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        fs::read_to_string(build::root().join(path)).unwrap()
    }

    #[test]
    fn debians_changelog_begins_with_this_version() {
        let changelog = text("packaging/debian/changelog");
        let version = format!("cvip ({}-1) ", env!("CARGO_PKG_VERSION"));
        assert!(changelog.starts_with(&version), "{changelog}");
    }

    /// The files that an array of assets names, without the folders that two distributions name differently.
    fn sources(packager: &toml::Value) -> Vec<String> {
        let assets = packager["assets"].as_array().unwrap().iter();
        let source = |asset: &toml::Value| match asset {
            toml::Value::Array(words) => Some(words[0].as_str().unwrap().to_owned()),
            asset => Some(asset.get("source")?.as_str().unwrap().to_owned()),
        };
        let mut sources: Vec<String> = assets.filter_map(source).collect();
        sources.sort();
        sources
    }

    #[test]
    fn both_distributions_get_the_same_files() {
        let manifest: toml::Value = toml::from_str(&text("Cargo.toml")).unwrap();
        let metadata = &manifest["package"]["metadata"];
        let (deb, rpm) = (&metadata["deb"], &metadata["generate-rpm"]);
        // Debian's copyright file is written by cargo-deb; a preset is what Fedora enables units by. Fedora runs no
        // scripts of init.d.
        let only_rpm = ["LICENSE-*", "packaging/rpm/90-cvip.preset"];
        let only_deb = ["packaging/init.d/ha-lvs"];
        for (deb, rpm) in
            [(deb, rpm), (&deb["variants"]["ipvsadm-rs"], &rpm["variants"]["ipvsadm-rs"])]
        {
            let mut of_rpm = sources(rpm);
            of_rpm.retain(|source| !only_rpm.contains(&source.as_str()));
            let mut of_deb = sources(deb);
            of_deb.retain(|source| !only_deb.contains(&source.as_str()));
            assert_eq!(of_deb, of_rpm);
        }
    }

    #[test]
    fn every_page_and_completion_is_in_a_package() {
        let manifest: toml::Value = toml::from_str(&text("Cargo.toml")).unwrap();
        let deb = &manifest["package"]["metadata"]["deb"];
        let patterns = [sources(deb), sources(&deb["variants"]["ipvsadm-rs"])].concat();
        let matches = |pattern: &str, path: &str| match pattern.split_once('*') {
            Some((start, end)) => path.starts_with(start) && path.ends_with(end),
            None => pattern == path,
        };
        for folder in ["man", "completions"] {
            for entry in fs::read_dir(build::root().join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().display());
                let times = patterns.iter().filter(|pattern| matches(pattern, &path)).count();
                assert_eq!(times, 1, "{path} is in {times} packages");
            }
        }
    }
}
