//! The tools that make packages, fetched where they are missing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::build;

/// Makes .deb from Cargo.toml.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");

/// Makes .rpm from Cargo.toml.
const CARGO_GENERATE_RPM: (&str, &str) = ("cargo-generate-rpm", "0.21.1");

/// Has cargo link by zig, which has stubs of every version of the C library; and zig itself. Python's registry has both
/// as programs.
const PYTHON: [&str; 2] = ["cargo-zigbuild==0.24.1", "ziglang==0.17.1"];

/// Where they are.
pub(super) struct Tools {
    /// cargo-deb.
    pub(super) deb: PathBuf,
    /// cargo-generate-rpm.
    pub(super) rpm: PathBuf,
    /// The folder of Python's packages.
    python: PathBuf,
}

impl Tools {
    /// Finds or fetches them.
    ///
    /// # Errors
    /// A tool is neither here nor to be had, which is said with what to do.
    pub(super) fn get() -> Result<Tools> {
        let folder = build::target().join("tools");
        fs::create_dir_all(&folder)?;
        let tools = Tools {
            deb: from_crate(&folder, CARGO_DEB)?,
            rpm: from_crate(&folder, CARGO_GENERATE_RPM)?,
            python: from_python(&folder)?,
        };
        // What they were built from is large, and of no more use.
        match fs::remove_dir_all(folder.join("build")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(tools),
        }
    }

    /// Lets cargo find cargo-zigbuild, and that find zig.
    pub(super) fn with_zig(&self, command: &mut Command) -> Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.python.join("bin")).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders)?);
        command.env("CARGO_ZIGBUILD_ZIG_PATH", self.python.join("ziglang/zig"));
        Ok(())
    }
}

/// A program of a crate: the one on the path if it is of this version, else one that is built here.
fn from_crate(folder: &Path, (name, version): (&str, &str)) -> Result<PathBuf> {
    let installed = folder.join("bin").join(name);
    for program in [Path::new(name), &installed] {
        if says(program, version) {
            return Ok(program.to_owned());
        }
    }
    println!("building {name} {version} into {} (once) ...", folder.display());
    let status = build::cargo()
        .args(["install", "--quiet", "--locked", "--debug", "--version", version, name])
        .arg("--root")
        .arg(folder)
        .arg("--target-dir")
        .arg(folder.join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "{name} cannot be built here: install it with `cargo install {name} --version {version}`"
    );
    Ok(installed)
}

/// Whether a program is there and of this version.
fn says(program: &Path, version: &str) -> bool {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.split_whitespace().any(|word| word == version)
    })
}

/// Python's packages, in a folder of their own.
fn from_python(tools: &Path) -> Result<PathBuf> {
    let folder = tools.join("python");
    let stamp = folder.join("stamp");
    let wanted = PYTHON.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(folder);
    }
    println!("fetching {} into {} (once) ...", PYTHON.join(" and "), folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let pip: [OsString; 3] = ["-m".into(), "pip".into(), "install".into()];
    let status = Command::new("python3")
        .args(pip)
        .args(["--quiet", "--root-user-action=ignore", "--no-deps", "--no-compile", "--target"])
        .arg(&folder)
        .args(PYTHON)
        .stdin(Stdio::null())
        .status()
        .context("cannot run python3, whose pip brings zig: install python3 and python3-pip")?;
    ensure!(
        status.success(),
        "cargo-zigbuild and zig cannot be had: is `python3 -m pip` there (Debian: apt-get install python3-pip)?"
    );
    fs::write(stamp, wanted)?;
    Ok(folder)
}
