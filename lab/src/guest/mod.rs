//! The first process of a booted lab: sets the guest up, runs the command, and ends the machine.
//!
//! It is the very program that booted the lab (its root file system is the host's), called again by the guest's kernel
//! with the argument [`ARGUMENT`]. It runs as PID 1, so it may never return and has to reap whatever is orphaned.

mod agent;
pub(crate) mod modules;
pub(crate) mod root;

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios;

use crate::frame::{self, Kind, Spec};
use crate::guest::agent::{Incoming, Wire};
use crate::guest::modules::Modules;

/// The argument with which a program that boots labs is called inside; it must hand over to [`main`] then.
pub const ARGUMENT: &str = "lab-guest";

/// The kernel parameter (so a variable of PID 1's environment) that names the channel to the host.
pub(crate) const CHANNEL: &str = "CVIP_LAB_CHANNEL";

/// The kernel parameter that names the folder with this kernel's modules, as the host sees it.
pub(crate) const MODULES: &str = "CVIP_LAB_MODULES";

/// Runs as the guest's PID 1. It never returns: the machine is switched off at the end.
pub fn main() -> ! {
    if std::process::id() != 1 {
        eprintln!("{ARGUMENT} is what a lab's kernel starts; use `cargo xtask lab -- COMMAND`");
        std::process::exit(2);
    }
    let Err(error) = boot();
    // The kernel's console, so the host's log; the host shows its end.
    eprintln!("lab: {error:#}");
    power_off()
}

/// Switches the machine off.
pub(crate) fn power_off() -> ! {
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // Not allowed, or not possible: an exit of PID 1 panics the kernel, which ends it as well.
    std::process::exit(1)
}

fn boot() -> Result<Infallible> {
    root::early()?;
    let modules_folder = std::env::var_os(MODULES).map(std::path::PathBuf::from);
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
    if name.starts_with("/dev/vport") {
        modules.load("virtio_console");
    }
    let path = Path::new(&name);
    let deadline = Instant::now() + Duration::from_secs(20);
    let file = loop {
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(path);
        match opened {
            Ok(file) => break file,
            // The device appears a moment after its driver.
            Err(e) if e.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot open the channel to the host, {name}"));
            }
        }
    };
    if let Ok(mut settings) = termios::tcgetattr(&file) {
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&file, termios::SetArg::TCSANOW, &settings)
            .context("cannot set the serial line")?;
    }
    Ok(file)
}
