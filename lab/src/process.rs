//! Processes: run to their end, or started and not left behind, and what the kernel says of them.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::wait::wait_until;

/// A running command, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    /// It leads a process group, which gets the signals.
    group: bool,
}

impl Process {
    /// Starts a command; see [`Namespace::command`](crate::Namespace::command) for one that runs in a namespace.
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

/// One thread of a process that does nothing until this is dropped, while the others go on; a signal that ends the process
/// ends it too. See ptrace(2). It is to be dropped by the thread that made it.
#[derive(Debug)]
pub struct HeldThread {
    thread: Pid,
    reaper: Option<JoinHandle<()>>,
}

impl HeldThread {
    /// Holds the thread of this name.
    ///
    /// # Errors
    /// There is none, or it cannot be held.
    pub fn hold(process: Pid, name: &str) -> Result<HeldThread> {
        let mut threads = fs::read_dir(format!("/proc/{process}/task"))?.flatten();
        let named = threads.find(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let number = named.and_then(|thread| thread.file_name().to_str()?.parse().ok());
        let thread = number.with_context(|| format!("{process} has no thread {name}"))?;
        let thread = Pid::from_raw(thread);
        let what = || format!("cannot hold the thread {name} of {process}");
        ptrace::seize(thread, ptrace::Options::empty()).with_context(what)?;
        let mut held = HeldThread { thread, reaper: None };
        ptrace::interrupt(thread).with_context(what)?;
        waitpid(thread, Some(WaitPidFlag::__WALL)).with_context(what)?;
        // A process whose thread is traced has only ended once its tracer knows that the thread has.
        held.reaper = Some(thread::spawn(move || {
            let goes_on =
                |status| !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
            while waitpid(thread, Some(WaitPidFlag::__WALL)).is_ok_and(goes_on) {}
        }));
        Ok(held)
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        // It may have ended with its process.
        let _ = ptrace::detach(self.thread, None);
        if let Some(reaper) = self.reaper.take() {
            let _ = reaper.join();
        }
    }
}

/// Bytes as a text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command's standard output and standard error.
#[must_use]
pub fn shown(output: &Output) -> (String, String) {
    (text(&output.stdout), text(&output.stderr))
}

/// Runs a command to its end with this input, and keeps what it writes. That it fails is no error.
///
/// # Errors
/// If it cannot be run.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let what = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {what}"))?;
    // A command that does not read has closed the pipe; that is its right.
    let _ = child.stdin.take().context("no pipe")?.write_all(input);
    child.wait_with_output().with_context(|| format!("cannot read from {what}"))
}

/// Runs a command to its end, and keeps what it writes.
///
/// # Errors
/// If it cannot be run or fails; the error has what it wrote.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = run_with_input(command, &[])?;
    if !output.status.success() {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let (out, err) = shown(&output);
        bail!("{}: {}\n{out}{}", words.join(" "), output.status, err.trim_end());
    }
    Ok(output)
}

/// Runs a command to its end; what it wrote to its standard output.
///
/// # Errors
/// As [`run`].
pub fn stdout(command: &mut Command) -> Result<String> {
    Ok(text(&run(command)?.stdout))
}

/// The fields of `/proc/PID/stat` after the command's name, which may have blanks and ends with the last bracket: the
/// state (proc_pid_stat(5), field 3) comes first. `None`: the process is gone.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process is in one of these states, or gone.
pub(crate) fn has_state(pid: Pid, states: &str) -> bool {
    stat(pid).is_none_or(|fields| fields.first().is_some_and(|state| states.contains(state)))
}

/// Processor time that a process has used (proc_pid_stat(5), fields 14 and 15).
///
/// # Errors
/// If it is gone.
pub fn processor_time(pid: Pid) -> Result<Duration> {
    let fields = stat(pid).with_context(|| format!("process {pid} is gone"))?;
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("short stat")?.parse()?) };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no CLK_TCK")?;
    Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) as f64 / per_second as f64))
}

/// Resident memory of a process in KiB (`VmRSS`, proc_pid_status(5)).
///
/// # Errors
/// If it is gone.
pub fn resident(pid: Pid) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// A number of `/proc/PID/status`, by the word before it (proc_pid_status(5)).
///
/// # Errors
/// If the process is gone, or if there is no such number.
pub fn status(pid: Pid, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    Ok(value.with_context(|| format!("no {field}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_told_with_what_it_wrote() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        assert_eq!(stdout(&mut shell("echo yes")).unwrap(), "yes\n");
        let error = run(&mut shell("echo out; echo err >&2; exit 3")).unwrap_err().to_string();
        assert!(error.contains("exit status: 3\nout\nerr"), "{error}");
        let output = run_with_input(&mut shell("cat; exit 1"), b"in").unwrap();
        assert_eq!((&output.stdout[..], output.status.code()), (&b"in"[..], Some(1)));
        assert!(run(&mut Command::new("/no/such/program")).is_err());
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        assert!(processor_time(Pid::this()).is_ok());
        assert!(resident(Pid::this()).unwrap() > 0);
        assert!(!has_state(Pid::this(), "ZX"));
        assert!(has_state(Pid::from_raw(i32::MAX), "ZX"));
    }
}
