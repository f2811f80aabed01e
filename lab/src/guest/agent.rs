//! Runs the command in the guest and carries its input, outputs, signals and end over the channel.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::frame::{self, Kind, Spec, number};
use crate::sys;

/// How much output may still be waiting when the command ends: the most that a pipe holds. Whatever comes after that is
/// of a process that the command left behind.
const LEFT_OVER: usize = 1024 * 1024;

/// The channel to the host, for several threads.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<File>>);

impl Wire {
    pub(super) fn new(channel: File) -> Self {
        Self(Arc::new(Mutex::new(channel)))
    }

    pub(super) fn send(&self, kind: Kind, payload: &[u8]) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frame::write(&mut *file, kind, payload).is_err() {
            // The host is gone, and nobody is left to work for.
            power_off();
        }
    }
}

/// What the host sends, read in such a way that it is told how much has arrived.
pub(super) struct Incoming {
    pub(super) from: File,
    pub(super) wire: Wire,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        if n > 0 {
            self.wire.send(Kind::Ack, &(n as u32).to_le_bytes());
        }
        Ok(n)
    }
}

/// What the channel brings for the command's standard input.
enum Input {
    Bytes(Vec<u8>),
    End,
}

/// An output of the command, and what stops carrying it.
struct Output {
    kind: Kind,
    from: OwnedFd,
    /// Readable once nobody wants the output any more, or once the command has ended.
    stop: OwnedFd,
}

/// Runs the command of `spec` to its end, tells the host, and switches the machine off.
pub(super) fn run(from_host: BufReader<Incoming>, wire: &Wire, spec: &Spec) -> Result<Infallible> {
    let mut started = match start(spec) {
        Ok(started) => started,
        Err((program, error)) => {
            wire.send(Kind::Started, &[]);
            let (code, what) = not_started(&error);
            wire.send(Kind::Stderr, format!("lab: {}: {what}\n", program.display()).as_bytes());
            finish(wire, code)
        }
    };
    wire.send(Kind::Started, &[]);

    let (input_sender, input) = channel();
    let mut closers = Vec::new();
    let mut pumps = Vec::new();
    for (kind, from) in started.outputs.drain(..) {
        let (stop, closer) = nix::unistd::pipe().context("pipe")?;
        let wire = wire.clone();
        let output = Output { kind, from, stop };
        closers.push((kind, closer));
        pumps.push(thread::spawn(move || pump(&output, &wire)));
    }
    let closers = Arc::new(Mutex::new(closers));
    {
        let wire = wire.clone();
        let stdin = started.stdin.take();
        thread::spawn(move || feed(stdin, &input, &wire));
    }
    {
        let pid = started.pid;
        let terminal = started.terminal.take();
        let closers = Arc::clone(&closers);
        thread::spawn(move || listen(from_host, pid, terminal, &input_sender, &closers));
    }

    let code = wait_for(started.pid);
    // Whatever the command has written by now is in the pipes; something that it left running may hold them open for
    // ever, so the pumps take what is there and stop.
    closers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for pump in pumps {
        let _ = pump.join();
    }
    finish(wire, code)
}

/// Tells the host that all is done, and waits for it to end the machine.
fn finish(wire: &Wire, code: u32) -> ! {
    // Written through to the host: the files of the scratch folder.
    nix::unistd::sync();
    wire.send(Kind::Exit, &code.to_le_bytes());
    // The host is quicker at this than a kernel that shuts down.
    thread::sleep(Duration::from_secs(10));
    power_off()
}

/// Switches the machine off.
pub(super) fn power_off() -> ! {
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // Not allowed, or not possible: an exit of PID 1 panics the kernel, which ends it as well.
    std::process::exit(1)
}

/// The command, just started.
struct Started {
    pid: Pid,
    stdin: Option<OwnedFd>,
    outputs: Vec<(Kind, OwnedFd)>,
    terminal: Option<OwnedFd>,
}

fn start(spec: &Spec) -> Result<Started, (OsString, io::Error)> {
    let (program, command) = prepare(spec);
    spawn(spec, command).map_err(|error| (program, error))
}

/// The command of `spec`, and its name.
pub(super) fn prepare(spec: &Spec) -> (OsString, Command) {
    let program = spec.argv.first().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(spec.argv.iter().skip(1));
    command.env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
    // The caller's folder may be one that only the host's kernel can show.
    command.current_dir(if spec.cwd.is_dir() { spec.cwd.as_path() } else { "/".as_ref() });
    (program, command)
}

/// The status of a command that could not be started, and why, as a shell has it.
pub(super) fn not_started(error: &io::Error) -> (u32, String) {
    match error.kind() {
        io::ErrorKind::NotFound => (127, "command not found".to_owned()),
        _ => (126, error.to_string()),
    }
}

fn spawn(spec: &Spec, mut command: Command) -> io::Result<Started> {
    if let Some(size) = spec.terminal {
        let pair = nix::pty::openpty(None, None)?;
        sys::set_window_size(pair.slave.as_fd(), size.rows, size.columns)?;
        command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
        let child = sys::with_controlling_terminal(&mut command).spawn()?;
        return Ok(Started {
            pid: Pid::from_raw(child.id() as i32),
            stdin: Some(pair.master.try_clone()?),
            outputs: vec![(Kind::Stdout, pair.master.try_clone()?)],
            terminal: Some(pair.master),
        });
    }
    // A process group of its own: a signal from the host's terminal is meant for all that the command runs.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut outputs = Vec::new();
    outputs.extend(child.stdout.take().map(|pipe| (Kind::Stdout, OwnedFd::from(pipe))));
    outputs.extend(child.stderr.take().map(|pipe| (Kind::Stderr, OwnedFd::from(pipe))));
    Ok(Started {
        pid: Pid::from_raw(child.id() as i32),
        stdin: child.stdin.take().map(OwnedFd::from),
        outputs,
        terminal: None,
    })
}

/// Reaps every orphan until the command itself ends; its code as a shell would give it.
pub(super) fn wait_for(command: Pid) -> u32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => return code as u32,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return 128 + signal as u32;
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Carries one output until it ends or is stopped.
fn pump(output: &Output, wire: &Wire) {
    let Ok(copy) = output.from.try_clone() else {
        return;
    };
    let mut from = File::from(copy);
    let mut buffer = vec![0; frame::MAX_CHUNK];
    let mut stopping = false;
    let mut left_over = LEFT_OVER;
    loop {
        let mut waiting = [
            PollFd::new(output.from.as_fd(), PollFlags::POLLIN),
            PollFd::new(output.stop.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = if stopping { PollTimeout::ZERO } else { PollTimeout::NONE };
        let watched = if stopping { &mut waiting[..1] } else { &mut waiting[..] };
        match poll(watched, timeout) {
            Err(nix::Error::EINTR) => continue,
            Err(_) | Ok(0) => return,
            Ok(_) => {}
        }
        let ready = |n: usize| waiting[n].revents().is_some_and(|events| !events.is_empty());
        let (data, stop) = (ready(0), !stopping && ready(1));
        if data {
            match from.read(&mut buffer) {
                // A terminal whose last user is gone gives an error in place of an end.
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    wire.send(output.kind, &buffer[..n]);
                    if stopping {
                        left_over = left_over.saturating_sub(n);
                    }
                }
            }
            if left_over == 0 {
                return;
            }
        }
        if stop {
            // One byte: nobody reads this any more. An end: the command is over, take what is left.
            let mut byte = [0];
            match nix::unistd::read(&output.stop, &mut byte) {
                Ok(0) => stopping = true,
                _ => return,
            }
        }
    }
}

/// Writes what the host sends to the command's standard input, and gives credit for it.
fn feed(stdin: Option<OwnedFd>, input: &Receiver<Input>, wire: &Wire) {
    let mut stdin = stdin.map(File::from);
    for piece in input {
        match piece {
            Input::Bytes(bytes) => {
                // Once the command has closed its input, the rest is dropped, but the host gets its credit, so that it
                // goes on to the end of what it has.
                if stdin.as_mut().is_some_and(|pipe| pipe.write_all(&bytes).is_err()) {
                    stdin = None;
                }
                wire.send(Kind::Credit, &(bytes.len() as u32).to_le_bytes());
            }
            Input::End => stdin = None,
        }
    }
}

/// Takes what the host sends.
fn listen(
    mut from: BufReader<Incoming>,
    command: Pid,
    terminal: Option<OwnedFd>,
    input: &Sender<Input>,
    closers: &Mutex<Vec<(Kind, OwnedFd)>>,
) {
    loop {
        let Ok(Some((kind, payload))) = frame::read(&mut from) else { power_off() };
        match kind {
            Kind::Stdin if payload.is_empty() => drop(input.send(Input::End)),
            Kind::Stdin => drop(input.send(Input::Bytes(payload))),
            Kind::Closed => {
                let closed =
                    if payload.first() == Some(&b'O') { Kind::Stdout } else { Kind::Stderr };
                for (kind, closer) in closers.lock().unwrap_or_else(PoisonError::into_inner).iter()
                {
                    if *kind == closed {
                        let _ = nix::unistd::write(closer, &[0]);
                    }
                }
            }
            Kind::Signal => {
                if let Ok(signal) = Signal::try_from(number(&payload) as i32)
                    && killpg(command, signal).is_err()
                {
                    let _ = kill(command, signal);
                }
            }
            Kind::Window => {
                if let (Some(terminal), [r0, r1, c0, c1]) = (&terminal, payload.as_slice()) {
                    let (rows, columns) =
                        (u16::from_le_bytes([*r0, *r1]), u16::from_le_bytes([*c0, *c1]));
                    let _ = sys::set_window_size(terminal.as_fd(), rows, columns);
                }
            }
            _ => {}
        }
    }
}
