//! Debian packages without installing them.
//!
//! The lab needs programs that a machine may not have (`ipvsadm`, `nginx`, an emulator, a kernel), and the machine's
//! root file system is not ours to change. So what is missing is fetched with `apt-get download`, unpacked into a
//! *layer* below the cache folder, and laid under the host's root inside the lab. No step needs root: where apt's own
//! lists are missing or stale, fresh ones are kept in the cache folder too.
//!
//! A layer has two halves. `under` holds packages that the host lacks, and lies below the host's root. `over` holds newer
//! versions of packages that the host has (apt says that something in `under` needs them), and lies above it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::layer::Layer;
use crate::unpack;

/// Bump when a layer made by older code must be made again.
const FORMAT: u32 = 2;

/// What every lab has, whatever its kernel: the tools that the tests and the cluster helper call.
pub(crate) const BASE: &[&str] = &[
    "iproute2",
    "ipvsadm",
    "iputils-ping",
    "iputils-arping",
    "tcpdump",
    "curl",
    "procps",
    "nginx-light",
    "kmod",
    "netcat-openbsd",
];

/// Programs that stand for [`BASE`] on a machine without apt, with the package that has them in Fedora.
const BASE_PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute"),
    ("ipvsadm", "ipvsadm"),
    ("ping", "iputils"),
    ("tcpdump", "tcpdump"),
    ("curl", "curl"),
    ("ps", "procps-ng"),
    ("nginx", "nginx"),
    ("modprobe", "kmod"),
    ("nc", "netcat"),
];

/// A server or tool of a Debian package, to be run on this machine itself: fetched and unpacked where the machine lacks
/// it, like everything else here, and never installed.
///
/// # Errors
/// If it is neither on this machine nor to be fetched.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    if !has_apt() {
        return find_program(name).with_context(|| {
            format!("there is no {name} here, and no apt to fetch it: install it (Debian: apt-get install {package})")
        });
    }
    let layer = ensure(&cache()?, &format!("with-{package}"), &[package.into()], None)?;
    let places = ["usr/sbin", "usr/bin"].map(|folder| format!("{folder}/{name}"));
    layer
        .find(&places.each_ref().map(String::as_str))
        .with_context(|| format!("the package {package} has no program {name}"))
}

/// The folder for layers, logs and the scratch folder: `target/lab` of this workspace.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = std::env::var_os("CVIP_LAB_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("lab"))
        })
        .unwrap_or_else(|| {
            Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("lab")
        });
    std::path::absolute(&folder)
        .with_context(|| format!("no such folder can be: {}", folder.display()))
}

/// What a layer was made for; the layer is good as long as this has not changed.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Stamp {
    format: u32,
    packages: Vec<String>,
    system: String,
}

/// The base layer, or a word on what to install where there is no apt.
pub(crate) fn base(cache: &Path) -> Result<Layer> {
    if !has_apt() {
        let missing: Vec<_> =
            BASE_PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none()).collect();
        if !missing.is_empty() {
            let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
            let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
            bail!(
                "the lab needs {}, and there is no apt here to fetch them.\n  On Fedora: dnf install {}\n  On Debian and Ubuntu: apt-get install {}",
                programs.join(", "),
                packages.join(" "),
                BASE.join(" "),
            );
        }
        return empty(cache);
    }
    ensure(cache, "base", &BASE.iter().map(ToString::to_string).collect::<Vec<_>>(), None)
}

/// A layer with nothing in it, for a machine that has all it needs.
pub(crate) fn empty(cache: &Path) -> Result<Layer> {
    let layer = Layer { root: cache.join("layers/none") };
    fs::create_dir_all(layer.over())?;
    fs::create_dir_all(layer.under())?;
    Ok(layer)
}

/// Whether packages can be fetched on this machine.
pub(crate) fn has_apt() -> bool {
    find_program("apt-get").is_some() && find_program("dpkg-deb").is_some()
}

/// The layer `name` if it has been made, for whatever packages, so that a second run asks apt nothing at all.
pub(crate) fn made(cache: &Path, name: &str) -> Option<Layer> {
    let layer = Layer { root: cache.join("layers").join(name) };
    let stamp: Stamp =
        serde_json::from_slice(&fs::read(layer.root.join("stamp.json")).ok()?).ok()?;
    (stamp.format == FORMAT && stamp.system == system()).then_some(layer)
}

/// The layer `name` with these packages and whatever they need (of that, `only` what has a name that starts so), fetched
/// if it is not there yet.
pub(crate) fn ensure(
    cache: &Path,
    name: &str,
    packages: &[String],
    only: Option<&str>,
) -> Result<Layer> {
    let layers = cache.join("layers");
    fs::create_dir_all(&layers).with_context(|| {
        format!(
            "cannot make {}: set CVIP_LAB_CACHE to a folder that can be written",
            layers.display()
        )
    })?;
    let layer = Layer { root: layers.join(name) };
    let stamp = Stamp { format: FORMAT, packages: packages.to_vec(), system: system() };
    let fresh = |layer: &Layer| {
        fs::read(layer.root.join("stamp.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<Stamp>(&text).ok())
            == Some(Stamp {
                format: stamp.format,
                packages: stamp.packages.clone(),
                system: stamp.system.clone(),
            })
    };
    if fresh(&layer) {
        return Ok(layer);
    }
    if !has_apt() {
        bail!(
            "the lab needs {}, and there is no apt here to fetch them: install them",
            packages.join(", ")
        );
    }

    // One fetch at a time; a second run waits here and then finds the layer made.
    let _lock = fetch_alone(cache)?;
    if fresh(&layer) {
        return Ok(layer);
    }

    eprintln!("lab: fetching {} (once, into {})", packages.join(" "), cache.display());
    let missing = fetch(cache, packages, only)?;
    let new = Layer { root: layers.join(format!("{name}.new")) };
    remove(&new.root)?;
    fs::create_dir_all(new.over())?;
    fs::create_dir_all(new.under())?;
    for archive in &missing {
        unpack::archive(&archive.file, &if archive.upgrades { new.over() } else { new.under() })?;
    }
    for half in [new.over(), new.under()] {
        unpack::merge_usr(&half, Path::new("/"))?;
    }
    unpack::finish(&new, made(cache, "base").as_ref().unwrap_or(&new))?;
    fs::write(new.root.join("stamp.json"), serde_json::to_vec_pretty(&stamp)?)?;
    remove(&layer.root)?;
    fs::rename(&new.root, &layer.root)?;
    for archive in &missing {
        let _ = fs::remove_file(&archive.file);
    }
    Ok(layer)
}

/// Waits until nobody else fetches: layers share packages, and the folder that these are downloaded to.
fn fetch_alone(cache: &Path) -> Result<Flock<File>> {
    let lock = File::create(cache.join("fetch.lock"))?;
    Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .with_context(|| format!("cannot lock {}", cache.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A package file in the cache.
struct Archive {
    file: PathBuf,
    /// Whether the host has an older version of it.
    upgrades: bool,
}

/// Downloads these packages and what they need, as far as the host lacks it.
fn fetch(cache: &Path, packages: &[String], only: Option<&str>) -> Result<Vec<Archive>> {
    let folder = cache.join("debs");
    fs::create_dir_all(&folder)?;
    // First with the machine's own lists. They may be absent (a fresh container) or older than the archive, which then
    // has newer files only: in both cases fresh lists help, kept in our own folder.
    let first = fetch_with(&folder, packages, &[], only);
    let Err(first) = first else { return first };
    let options = fresh_lists(cache).with_context(|| format!("{first:#}"))?;
    fetch_with(&folder, packages, &options, only).with_context(|| {
        format!(
            "cannot fetch packages for the lab; installing them by hand also does: apt-get install --no-install-recommends {}",
            packages.join(" ")
        )
    })
}

/// Reads the package lists of the archive anew, into our own folder; apt's options for using them.
fn fresh_lists(cache: &Path) -> Result<Vec<String>> {
    let state = cache.join("apt");
    fs::create_dir_all(state.join("lists/partial"))?;
    fs::create_dir_all(state.join("archives/partial"))?;
    let mut options = vec![
        format!("Dir::State::Lists={}", state.join("lists").display()),
        format!("Dir::Cache={}", state.display()),
    ];
    if nix::unistd::geteuid().is_root() {
        // The user _apt cannot write below the cache folder.
        options.push("APT::Sandbox::User=root".into());
    }
    eprintln!("lab: reading fresh package lists");
    apt(&options, &["-qq", "update"], cache)?;
    Ok(options)
}

fn fetch_with(
    folder: &Path,
    packages: &[String],
    options: &[String],
    only: Option<&str>,
) -> Result<Vec<Archive>> {
    let mut arguments = vec!["-s", "install", "--no-install-recommends"];
    arguments.extend(packages.iter().map(String::as_str));
    let mut plan = parse_plan(&apt(options, &arguments, folder)?);
    plan.retain(|step| only.is_none_or(|start| step.package.starts_with(start)));
    if plan.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<String> =
        plan.iter().map(|step| format!("{}={}", step.package, step.version)).collect();
    let mut arguments = vec!["-q", "download"];
    arguments.extend(wanted.iter().map(String::as_str));
    apt(options, &arguments, folder)?;
    plan.into_iter()
        .map(|step| {
            let file = folder.join(step.file_name());
            // Only apt knows the architecture part of the name.
            let prefix = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let found = fs::read_dir(folder)?
                .filter_map(|entry| entry.ok())
                .find(|entry| {
                    entry
                        .file_name()
                        .to_str()
                        .is_some_and(|n| n.starts_with(prefix) && n.ends_with(".deb"))
                })
                .with_context(|| {
                    format!("apt-get download did not leave {prefix}*.deb in {}", folder.display())
                })?;
            Ok(Archive { file: found.path(), upgrades: step.upgrades })
        })
        .collect()
}

/// Runs apt-get in a folder; its output on success, its complaint on failure.
fn apt(options: &[String], arguments: &[&str], folder: &Path) -> Result<String> {
    let mut command = Command::new("apt-get");
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").current_dir(folder);
    command.args(["-o", "Debug::NoLocking=true", "-o", "Acquire::Retries=3"]);
    for option in options {
        command.args(["-o", option]);
    }
    let output = command
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("apt-get {}: {}", arguments.join(" "), complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One package that apt would install.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    package: String,
    version: String,
    upgrades: bool,
}

impl Step {
    /// The start of the name that `apt-get download` gives the file: it escapes the colon of an epoch.
    fn file_name(&self) -> String {
        let package = self.package.split(':').next().unwrap_or_default();
        format!("{package}_{}_", self.version.replace(':', "%3a"))
    }
}

/// Reads the `Inst` lines of `apt-get -s install`:
/// `Inst libssl3 [3.0.15-1] (3.0.17-1 Debian:12/stable [amd64])`, the part in brackets only for an upgrade.
fn parse_plan(output: &str) -> Vec<Step> {
    output
        .lines()
        .filter_map(|line| {
            let (package, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let (before, inside) = rest.split_once('(')?;
            let version = inside.split([' ', ')']).next()?;
            Some(Step {
                package: package.into(),
                version: version.into(),
                upgrades: before.contains('['),
            })
        })
        .collect()
}

/// The packages whose name starts so, as apt knows them.
pub(crate) fn known(cache: &Path, start: &str) -> Result<Vec<String>> {
    let names = names(&[], start);
    // No archive is without a libc: if that has no name, it is the lists that are missing.
    if !names.is_empty() || !has_apt() || !self::names(&[], "libc6").is_empty() {
        return Ok(names);
    }
    known_now(cache, start)
}

/// The same, as the archive has them at the moment.
pub(crate) fn known_now(cache: &Path, start: &str) -> Result<Vec<String>> {
    if !has_apt() {
        return Ok(Vec::new());
    }
    let _lock = fetch_alone(cache)?;
    Ok(names(&fresh_lists(cache)?, start))
}

fn names(options: &[String], start: &str) -> Vec<String> {
    let mut command = Command::new("apt-cache");
    for option in options {
        command.args(["-o", option]);
    }
    let output = command.args(["pkgnames", start]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The numbers in a name, for comparing versions: `linux-image-6.12-cloud` is newer than `linux-image-6.9-cloud`.
pub(crate) fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The program's path, if the host has it; the system folders count even where PATH lacks them.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Which distribution this is: a cache that is carried to another one is made again.
fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned()
    };
    format!("{} {} {}", field("ID="), field("VERSION_ID="), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_names_what_is_missing_and_what_would_be_upgraded() {
        let output = "NOTE: This is only a simulation!\nReading package lists...\n\
            Inst libpopt0 (1.19+dfsg-1 Debian:12.15/oldstable [amd64])\n\
            Inst libssl3 [3.0.15-1~deb12u1] (3.0.17-1~deb12u2 Debian-Security:12/stable-security [amd64]) []\n\
            Inst ipvsadm (1:1.31-1+b1 Debian:12.15/oldstable [amd64])\n\
            Conf libpopt0 (1.19+dfsg-1 Debian:12.15/oldstable [amd64])\n";
        let step = |package: &str, version: &str, upgrades| Step {
            package: package.into(),
            version: version.into(),
            upgrades,
        };
        assert_eq!(
            parse_plan(output),
            [
                step("libpopt0", "1.19+dfsg-1", false),
                step("libssl3", "3.0.17-1~deb12u2", true),
                step("ipvsadm", "1:1.31-1+b1", false),
            ]
        );
    }

    #[test]
    fn nothing_to_install_is_an_empty_plan() {
        assert_eq!(
            parse_plan("Reading package lists...\n0 upgraded, 0 newly installed, 0 to remove.\n"),
            []
        );
    }

    #[test]
    fn an_epoch_is_escaped_in_the_name_of_the_file() {
        let step =
            Step { package: "ipvsadm".into(), version: "1:1.31-1+b1".into(), upgrades: false };
        assert_eq!(step.file_name(), "ipvsadm_1%3a1.31-1+b1_");
    }

    #[test]
    fn a_newer_kernel_has_the_greater_numbers() {
        assert!(numbers("linux-image-6.12-cloud-amd64") > numbers("linux-image-6.9-cloud-amd64"));
        assert!(
            numbers("linux-image-6.12.107+deb12-cloud-amd64")
                > numbers("linux-image-6.12-cloud-amd64")
        );
    }
}
