//! A process that a test started and that must not outlive it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::wait_until;

/// A running command, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    /// It leads a process group, which gets the signals.
    group: bool,
}

impl Process {
    /// Starts a command; see [`Host::command`](super::Host::command) for one that runs on a member.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let what = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot run {what}"))?;
        Ok(Self { child, what, group: false })
    }

    /// Starts a command in a process group of its own: what it starts gets its signals, and dies with it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn spawn_group(mut command: Command) -> Result<Self> {
        command.process_group(0);
        let mut process = Self::spawn(command)?;
        process.group = true;
        Ok(process)
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = match self.group {
            true => killpg(self.pid(), signal),
            false => kill(self.pid(), signal),
        };
        sent.with_context(|| format!("cannot send {signal} to {}", self.what))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it has not ended within that time.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait_until(limit, || self.child.try_wait().ok().flatten())
            .with_context(|| format!("{} has not ended within {limit:?}", self.what))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// If it has not ended within 10 seconds.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
