//! Boots user-mode Linux: a kernel that is a process of this machine, needs no right and no hardware, and sees the
//! host's files through hostfs. Debian's has IPVS with every scheduler, and is up within two seconds.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::emulator::{Booted, Emulator, Place};
use crate::guest;
use crate::layer::Layer;
use crate::packages;
use crate::sys;

/// How long the kernel may take until it starts the command.
pub(crate) const BOOT: Duration = Duration::from_secs(60);

/// How many bytes the serial line bears: the buffer of its line discipline (4096) less its watermark, and some.
pub(crate) const WINDOW: usize = 3072;

/// The kernel and its modules.
const PACKAGES: &[&str] = &["user-mode-linux"];

/// Fetches the kernel if need be.
pub(crate) fn layer(cache: &Path) -> Result<Layer> {
    if packages::find_program("linux.uml").is_some() {
        return packages::empty(cache);
    }
    if std::env::consts::ARCH != "x86_64" {
        anyhow::bail!(
            "user-mode Linux is only packaged for x86_64: use --kernel qemu or --kernel host"
        );
    }
    packages::ensure(cache, "uml", &PACKAGES.map_to_strings(), None)
        .context("no user-mode Linux here: on Debian, apt-get install user-mode-linux; elsewhere use --kernel qemu")
}

/// A slice of names as owned ones.
trait ToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl ToStrings for [&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(ToString::to_string).collect()
    }
}

/// Starts the kernel with our own program as its first process.
pub(crate) fn boot(layer: &Layer, place: &Place) -> Result<Booted> {
    let kernel = layer
        .find(&["usr/bin/linux.uml"])
        .or_else(|| packages::find_program("linux.uml"))
        .context("no linux.uml in the package user-mode-linux")?;
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    let console = place.console("uml")?;
    let state = place.run.join("uml");
    fs::create_dir_all(&state)?;

    // In a process namespace of its own, whose end is the end of every process in it: a killed user-mode Linux would
    // else leave behind its guest's processes. It may not be the first process there: a kernel that panics ends with
    // SIGABRT, which the first process of a namespace does not get.
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-current-user"]);
    }
    command.arg("--").arg(&place.program).args([guest::ARGUMENT, guest::FIRST]).arg(&kernel);
    command.args([
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "con=null",
        "con0=null,fd:1",
        "ssl=null",
    ]);
    // The serial line is standard input: a socket in both directions.
    command.args(["ssl0=fd:0", "quiet", "panic=-1"]);
    command.arg(format!("mem={}M", place.memory_mib));
    command.arg(format!("uml_dir={}/", state.display()));
    command.arg(format!("{}=/dev/ttyS0", guest::CHANNEL));
    if let Some(modules) = module_folders(layer) {
        command.arg(format!("{}={modules}", guest::MODULES));
    }
    command.arg(format!("init={}", place.program.display())).args(["--", guest::ARGUMENT]);
    command
        .env("LD_LIBRARY_PATH", layer.library_path())
        .env("TMPDIR", memory_folder(place))
        .current_dir("/");
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(console.file.try_clone()?).stderr(console.file.try_clone()?).process_group(0);
    let child =
        sys::die_with_parent(&mut command).spawn().context("cannot run unshare (of util-linux)")?;
    // The command holds our copy of the kernel's end of the socket: its end could not be seen.
    drop(command);
    let emulator = Emulator::new(vec![child], &ours)?;
    Ok(Booted { wire: ours, emulator, logs: vec![console.path] })
}

/// The layer's folder of modules, by its real name: hostfs follows links as the host would, but they are relative.
fn module_folders(layer: &Layer) -> Option<String> {
    let parent = layer.under().join("usr/lib/uml/modules");
    let release = fs::read_dir(&parent).ok()?.flatten().next()?;
    Some(release.path().display().to_string())
}

/// Where the guest's memory is kept, as a file: in memory if there is room, else beside the cache.
fn memory_folder(place: &Place) -> std::path::PathBuf {
    let room = nix::sys::statvfs::statvfs("/dev/shm")
        .map(|stat| stat.blocks_available() * stat.fragment_size() / (1024 * 1024))
        .unwrap_or(0);
    if room >= place.memory_mib && File::create_new(place.shm_probe()).is_ok() {
        let _ = fs::remove_file(place.shm_probe());
        return "/dev/shm".into();
    }
    place.run.clone()
}
