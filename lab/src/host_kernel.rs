//! This machine's own kernel, where it has IPVS and we may use it: the fastest lab, and the one that shows what this
//! machine would do. The command gets namespaces of its own, so it can neither see nor change this machine's network.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};

use crate::emulator::Place;
use crate::frame::Spec;
use crate::guest::namespaces;
use crate::packages;
use crate::session::{DidNotBoot, Ended, Streams, TIMED_OUT};
use crate::signals::Held;
use crate::sys;

/// Whether this kernel will do; if not, what is in the way.
pub(crate) fn check(asked: bool) -> Result<()> {
    let root = geteuid().is_root();
    // Others' sudo is only used where it was asked for, or on a build machine that nobody sits at.
    let sudo =
        !root && (asked || std::env::var_os("CI").is_some()) && quiet(&["sudo", "-n", "true"]);
    if !root && !sudo {
        bail!(
            "a lab on this machine's kernel needs root (sudo cargo xtask lab, or sudo without a password)"
        );
    }
    if !Path::new("/proc/net/ip_vs").exists() {
        let modprobe = packages::find_program("modprobe").unwrap_or_else(|| "modprobe".into());
        let mut command = vec![modprobe.to_str().unwrap_or("modprobe"), "-q", "ip_vs"];
        if sudo {
            command.splice(0..0, ["sudo", "-n"]);
        }
        quiet(&command);
    }
    if !Path::new("/proc/net/ip_vs").exists() {
        bail!(
            "no IPVS in this kernel: try modprobe ip_vs (on Ubuntu, apt-get install linux-modules-extra-$(uname -r))"
        );
    }
    let mut command = vec!["unshare", "--mount", "--net", "--pid", "--fork", "true"];
    if sudo {
        command.splice(0..0, ["sudo", "-n"]);
    }
    if !quiet(&command) {
        bail!("this root may not make namespaces (a container without privileges)");
    }
    Ok(())
}

/// Runs a command for its status only.
fn quiet(command: &[&str]) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs the command of `spec` in namespaces.
pub(crate) fn run(
    place: &Place,
    spec: &Spec,
    streams: Streams,
    limit: Option<Duration>,
) -> Result<Ended> {
    fs::write(place.run.join(namespaces::SPEC), serde_json::to_vec(spec)?)?;
    let result = run_in(place, streams, limit);
    namespaces::remove_control_group(&place.run);
    result
}

fn run_in(place: &Place, streams: Streams, limit: Option<Duration>) -> Result<Ended> {
    let mut command = if geteuid().is_root() {
        Command::new(&place.program)
    } else {
        let mut command = Command::new("sudo");
        command.arg("-n").arg(&place.program);
        command
    };
    command.args(namespaces::arguments(&place.run)).current_dir("/");
    let captured = match streams {
        Streams::Inherit => None,
        Streams::Capture(input) => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            Some(input)
        }
    };
    let signals = captured
        .is_none()
        .then(|| Held::new(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]))
        .transpose()?;
    let mut child = sys::die_with_parent(sys::with_all_signals(&mut command))
        .spawn()
        .context("cannot start the lab")?;
    let pid = Pid::from_raw(child.id() as i32);

    let (stop, stopper) = nix::unistd::pipe().context("pipe")?;
    if let Some(signals) = &signals {
        let from = signals.descriptor()?;
        thread::spawn(move || {
            use std::os::fd::AsFd;
            while let Ok(Some((signal, from_kernel))) =
                crate::signals::next(from.as_fd(), Some(&stop))
            {
                // What a terminal sends, it sends to the lab as well.
                if !from_kernel {
                    let _ = nix::sys::signal::kill(pid, signal);
                }
            }
        });
    }
    let pipes = captured.map(|input| carry(&mut child, input));
    let code = wait(&mut child, limit)?;
    drop(stopper);
    let (stdout, stderr) = match pipes {
        Some((stdout, stderr)) => {
            (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default())
        }
        None => Default::default(),
    };
    let started =
        fs::metadata(place.run.join(namespaces::STARTED)).is_ok_and(|meta| meta.len() > 0);
    if !started && code != TIMED_OUT {
        let why = String::from_utf8_lossy(&stderr).trim().to_owned();
        bail!(DidNotBoot(format!("the lab on this machine's kernel could not be set up {why}")));
    }
    Ok(Ended { code, stdout, stderr })
}

type Kept = thread::JoinHandle<Vec<u8>>;

/// Gives the child its input and keeps its outputs.
fn carry(child: &mut Child, input: Vec<u8>) -> (Kept, Kept) {
    fn keep(from: Option<impl Read + Send + 'static>) -> Kept {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut from) = from {
                let _ = from.read_to_end(&mut bytes);
            }
            bytes
        })
    }
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || stdin.write_all(&input));
    }
    (keep(child.stdout.take()), keep(child.stderr.take()))
}

fn wait(child: &mut Child, limit: Option<Duration>) -> Result<i32> {
    use std::os::unix::process::ExitStatusExt;
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut pause = Duration::from_millis(1);
    loop {
        let status = if deadline.is_none() { Some(child.wait()?) } else { child.try_wait()? };
        if let Some(status) = status {
            return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // Everything in the lab ends with its first process, and that with its parent.
            child.kill()?;
            child.wait()?;
            eprintln!("lab: the command took too long and was ended");
            return Ok(TIMED_OUT);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
