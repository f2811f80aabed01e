//! A program, run without a shell and without privileges.
//!
//! It runs as `nobody` or the user that the check names, with no supplementary groups, in a
//! process group of its own, which is killed when the program has ended or its time is over. (A
//! process that leaves the group goes free.) What it prints is read to the last, so that it never
//! waits for a reader, and its first line is kept.

use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Pid, Uid, User};
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

use super::child;
use super::deadline::Deadline;
use crate::checks::settings::Exec;
use crate::checks::{CheckOutcome, CheckTarget};

/// The user who may do least, where a machine has none of the name (linux/highuid.h).
const NOBODY: &str = "nobody";
const NOBODY_ID: u32 = 65534;

/// Where programs are sought by the program that is run, if cvipd has no PATH itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of the output that are kept.
const KEPT: usize = 1024;

/// Runs the program, and judges how it ends.
pub(super) fn probe(target: &CheckTarget, exec: &Exec, deadline: Deadline) -> CheckOutcome {
    let (mut command, output) = command(target, exec)?;
    let mut running = command
        .spawn()
        .map(Running)
        .map_err(|error| deadline.because(&format!("run {}", exec.program.path()), &error))?;
    // The command holds the pipe's other end.
    drop(command);
    let (ended, said) = running
        .watch(output, deadline)
        .map_err(|error| deadline.because("wait for the program", &error))?;
    running.kill();
    if !ended {
        return Err(told(&format!("killed after {} s", deadline.whole.as_secs_f64()), &said));
    }
    let status = running.0.wait().map_err(|error| deadline.because("wait", &error))?;
    judge(status, &said)
}

/// The command, and the end of the pipe into which it will print.
fn command(target: &CheckTarget, exec: &Exec) -> Result<(Command, PipeReader), String> {
    let addr = target.probed();
    let failed = |doing: &str, error: io::Error| format!("{doing}: {error}");
    let (output, input) = io::pipe().map_err(|error| failed("make a pipe", error))?;
    let second = input.try_clone().map_err(|error| failed("make a pipe", error))?;
    let mut command = Command::new(exec.program.path());
    command
        .args(exec.program.arguments())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
        .env("CVIP_CHECK_ADDRESS", addr.ip().to_string())
        .env("CVIP_CHECK_PORT", addr.port().to_string())
        .env("CVIP_CHECK_PROTOCOL", target.protocol.name())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(input)
        .stderr(second)
        .process_group(0);
    let other = credentials(exec)?;
    if let Some((uid, gid)) = other {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    // Where this process is root, std drops every supplementary group with the user.
    child::confine(&mut command, other.is_some() && !Uid::effective().is_root());
    Ok((command, output))
}

/// Who runs programs: this process.
#[derive(Clone, Copy)]
struct Runner {
    uid: Uid,
    /// It may become another user: it is root, or cvipd with a user of its own and the capabilities
    /// that its unit gives it.
    changes_users: bool,
}

impl Runner {
    fn this_process() -> Runner {
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        let changes_users = capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
        Runner { uid: Uid::effective(), changes_users }
    }
}

/// Who is to run the program; none: the user of this process, who is not root.
fn credentials(exec: &Exec) -> Result<Option<(Uid, Gid)>, String> {
    let runner = Runner::this_process();
    if !runner.uid.is_root() && !runner.changes_users && exec.user.is_none() {
        return Ok(None);
    }
    let name = exec.user.as_ref().map_or(NOBODY, |user| user.as_str());
    let user = User::from_name(name)
        .map_err(|errno| format!("look for the user {name}: {}", errno.desc()))?;
    permitted(name, user.map(|user| (user.uid, user.gid)), runner)
}

/// Whether the program may run as the user of this name, of these ids if there is one.
fn permitted(
    name: &str,
    user: Option<(Uid, Gid)>,
    runner: Runner,
) -> Result<Option<(Uid, Gid)>, String> {
    let (uid, gid) = match user {
        Some(user) => user,
        None if name == NOBODY => (Uid::from_raw(NOBODY_ID), Gid::from_raw(NOBODY_ID)),
        None => return Err(format!("there is no user {name} here to run the program")),
    };
    if uid.is_root() || gid.as_raw() == 0 {
        return Err(format!("{name} has root's user or group: a check's program runs as neither"));
    }
    match (runner.uid.is_root() || runner.changes_users, runner.uid == uid) {
        (true, _) => Ok(Some((uid, gid))),
        (false, true) => Ok(None),
        (false, false) => Err(format!("only root can run a program as {name}")),
    }
}

/// A child in a group of its own. It is killed with its group and waited for, whatever happens.
struct Running(Child);

impl Running {
    /// Waits until the program ends or its time does, and reads what it prints meanwhile. True if
    /// it ended, and the first bytes that it printed.
    ///
    /// That the pipe is open says nothing: a grandchild may hold it. That it is closed neither.
    fn watch(&mut self, mut output: PipeReader, deadline: Deadline) -> io::Result<(bool, Vec<u8>)> {
        let pid = rustix::process::Pid::from_child(&self.0);
        let end = pidfd_open(pid, PidfdFlags::empty())?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut said = Vec::new();
        let mut open = true;
        while let Ok(left) = deadline.left() {
            let mut polled = [
                PollFd::new(end.as_fd(), PollFlags::POLLIN),
                PollFd::new(output.as_fd(), PollFlags::POLLIN),
            ];
            let fds = if open { &mut polled[..] } else { &mut polled[..1] };
            match ppoll(fds, Some(TimeSpec::from(left)), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ended = polled[0].any().unwrap_or(false);
            open = open && read(&mut output, &mut said)?;
            if ended {
                return Ok((true, said));
            }
        }
        Ok((false, said))
    }

    /// Kills what is left of the group. Its leader is not waited for yet, so the number cannot be
    /// another group's.
    fn kill(&self) {
        // ESRCH: no process is left.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not if it was waited for: its number may be another's by now.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.kill();
            let _ = self.0.wait();
        }
    }
}

/// Reads what is there, as much as a pipe holds at most, and keeps the first bytes; false at the
/// end.
fn read(output: &mut PipeReader, said: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 64 << 10];
    match output.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            let room = KEPT - said.len();
            said.extend_from_slice(&buffer[..length.min(room)]);
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn judge(status: ExitStatus, said: &[u8]) -> CheckOutcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => match first_line(said) {
            Some(line) => Ok(line),
            None => Ok("status 0".to_owned()),
        },
        (Some(code), _) => Err(told(&format!("status {code}"), said)),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned());
            Err(told(&format!("ended by {name}"), said))
        }
        (None, None) => Err(told("ended in an unknown way", said)),
    }
}

/// How it ended, with the first line that it printed.
fn told(end: &str, said: &[u8]) -> String {
    match first_line(said) {
        Some(line) => format!("{end}: {line}"),
        None => end.to_owned(),
    }
}

/// The first line that is not blank.
fn first_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
#[path = "exec/tests.rs"]
mod tests;
