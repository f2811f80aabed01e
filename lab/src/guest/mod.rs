//! The first process of a booted lab: sets the guest up, runs the command, and ends the machine.
//!
//! It is the very program that booted the lab (its root file system is the host's), called again by the guest's kernel
//! with the argument [`ARGUMENT`]. It runs as PID 1, so it may never return and has to reap whatever is orphaned.

mod agent;
mod arguments;
pub(crate) mod modules;
pub(crate) mod namespaces;
pub(crate) mod root;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::termios;
use nix::unistd::Pid;

pub use self::arguments::ARGUMENT;
pub(crate) use self::arguments::{CHANNEL, FIRST, MODULES, PORT, READ_ONLY};

use self::arguments::{NAMESPACES, NAMESPACES_INSIDE};
use crate::frame::{self, Kind, Spec};
use crate::guest::agent::{Incoming, Wire};
use crate::guest::modules::Modules;
use crate::wait::wait_until;

/// Does what a lab needs this program for beside its own work: as the guest's PID 1, and as a step on the way to another
/// program on the host. It never returns.
pub fn main() -> ! {
    let mut arguments = std::env::args_os().skip(2);
    let step = match arguments.next().and_then(|argument| argument.into_string().ok()).as_deref() {
        Some(READ_ONLY) => Some(read_only(arguments)),
        Some(FIRST) => Some(first(arguments)),
        Some(NAMESPACES) => Some(namespaces::main(false, arguments)),
        Some(NAMESPACES_INSIDE) => Some(namespaces::main(true, arguments)),
        _ => None,
    };
    if let Some(Err(error)) = step {
        eprintln!("lab: {error:#}");
        std::process::exit(125);
    }
    if std::process::id() != 1 {
        eprintln!("{ARGUMENT} is what a lab's kernel starts; use `cargo xtask lab -- COMMAND`");
        std::process::exit(2);
    }
    let Err(error) = boot();
    // The kernel's console, so the host's log; the host shows its end.
    eprintln!("lab: {error:#}");
    agent::power_off()
}

/// Runs a program in this mount namespace (a new one), made read-only.
fn read_only(mut command: impl Iterator<Item = OsString>) -> Result<Infallible> {
    crate::sys::all_mounts_read_only().context(
        "cannot make the guest's view of this machine read-only (Linux 5.12 can): use --kernel uml",
    )?;
    let program = command.next().context("no program")?;
    Err(Command::new(&program).args(command).exec())
        .with_context(|| format!("cannot run {}", program.display()))
}

/// Runs a program as the first process of a process namespace should: it reaps orphans, and ends when the program does.
fn first(mut command: impl Iterator<Item = OsString>) -> Result<Infallible> {
    // A kernel's dump would be of no use to anybody.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot do without core files")?;
    let program = command.next().context("no program")?;
    let child = Command::new(&program).args(command).spawn();
    let child = child.with_context(|| format!("cannot run {}", program.display()))?;
    std::process::exit(agent::wait_for(Pid::from_raw(child.id() as i32)) as i32)
}

fn boot() -> Result<Infallible> {
    root::early()?;
    let modules_folder = std::env::var_os(MODULES).map(PathBuf::from);
    let mut modules = Modules::open(modules_folder.as_deref())?;
    let channel = open_channel(&mut modules)?;
    let wire = Wire::new(channel.try_clone()?);
    wire.send(Kind::Hello, modules.release().as_bytes());
    let mut from_host = BufReader::new(Incoming { from: channel, wire: wire.clone() });
    let spec: Spec = match frame::read(&mut from_host)? {
        Some((Kind::Spec, json)) => {
            serde_json::from_slice(&json).context("the host sent a request that cannot be read")?
        }
        other => bail!("the host sent {:?} in place of a request", other.map(|(kind, _)| kind)),
    };
    let result = set_up(&spec, &mut modules).and_then(|()| agent::run(from_host, &wire, &spec));
    if let Err(error) = &result {
        wire.send(Kind::Failed, format!("{error:#}").as_bytes());
        // The host ends the machine as soon as it has read this.
        std::thread::sleep(Duration::from_secs(10));
    }
    result
}

fn set_up(spec: &Spec, modules: &mut Modules) -> Result<()> {
    root::build(spec, modules)?;
    for module in modules::WANTED {
        modules.load(module);
    }
    modules.load_matching("ip_vs_");
    Ok(())
}

/// Opens what the host put at the other end: a serial line or a virtio port.
fn open_channel(modules: &mut Modules) -> Result<File> {
    let name = std::env::var(CHANNEL)
        .with_context(|| format!("{CHANNEL} is not on the kernel's command line"))?;
    if name == PORT {
        modules.load("virtio_console");
    }
    // The device appears a moment after its driver.
    let open = || {
        let path = if name == PORT { virtio_port()? } else { PathBuf::from(&name) };
        OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(path).ok()
    };
    let file = wait_until(Duration::from_secs(20), open)
        .with_context(|| format!("cannot open the channel to the host, {name}"))?;
    if let Ok(mut settings) = termios::tcgetattr(&file) {
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&file, termios::SetArg::TCSANOW, &settings)
            .context("cannot set the serial line")?;
    }
    Ok(file)
}

/// The device of the virtio port with our name.
fn virtio_port() -> Option<PathBuf> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    let port = ports.flatten().find(|port| {
        std::fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT)
    })?;
    Some(Path::new("/dev").join(port.file_name()))
}
