//! A program, run without a shell and without privileges: that of a health check, or a hook.
//!
//! It runs as `nobody` or the user that is named, with no supplementary groups, in a process group
//! of its own, which is killed when the program has ended or its time is over. (A process that
//! leaves the group goes free.) What it prints is read to the last, so that it never waits for a
//! reader, and its first line is kept.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Pid, Uid, User};
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

mod child;

/// The user who may do least, where a machine has none of the name (linux/highuid.h).
const NOBODY: &str = "nobody";
const NOBODY_ID: u32 = 65534;

/// Where programs are sought by the program that is run, if cvipd has no PATH itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of the output that are kept.
const KEPT: usize = 1024;

/// What is run, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Program<'a> {
    /// Where it stands.
    pub(crate) path: &'a str,
    pub(crate) arguments: &'a [String],
    /// Its environment has these beside PATH.
    pub(crate) environment: &'a [(&'a str, String)],
    /// What it reads on its standard input; nothing if absent.
    pub(crate) input: Option<&'a [u8]>,
    /// As whom it runs; `nobody` if absent, or the user of this process if that may become no
    /// other.
    pub(crate) user: Option<&'a str>,
    /// What is read of what it prints.
    pub(crate) reads: Printed,
}

/// What is read of what a program prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// Standard output and standard error together.
    All,
    /// Standard error; standard output goes nowhere.
    Errors,
}

/// Starts a program.
///
/// # Errors
/// Why it cannot be run, as a phrase.
pub(crate) fn start(program: &Program<'_>) -> Result<RunningProgram, String> {
    let (mut command, output) = command(program)?;
    let child =
        command.spawn().map_err(|error| because(&format!("run {}", program.path), &error))?;
    // The command holds the pipe's other end.
    drop(command);
    RunningProgram::new(child, output).map_err(|error| because("wait for the program", &error))
}

/// The command, and the end of the pipe into which it will print.
fn command(program: &Program<'_>) -> Result<(Command, PipeReader), String> {
    let no_pipe = |error: io::Error| because("make a pipe", &error);
    let (output, errors) = io::pipe().map_err(no_pipe)?;
    let mut command = Command::new(program.path);
    match program.reads {
        Printed::All => command.stdout(errors.try_clone().map_err(no_pipe)?),
        Printed::Errors => command.stdout(Stdio::null()),
    };
    let input = match program.input {
        Some(bytes) => {
            input_of(bytes).map_err(|error| because("make its standard input", &error))?.into()
        }
        None => Stdio::null(),
    };
    command
        .args(program.arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(input)
        .stderr(errors)
        .process_group(0);
    let other = credentials(program.user)?;
    if let Some((uid, gid)) = other {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    // Where this process is root, std drops every supplementary group with the user.
    child::confine(&mut command, other.is_some() && !Uid::effective().is_root());
    Ok((command, output))
}

/// A file without a name, at its beginning. However long it is, no process waits for a reader.
fn input_of(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"cvip", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
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
fn credentials(user: Option<&str>) -> Result<Option<(Uid, Gid)>, String> {
    let runner = Runner::this_process();
    if !runner.uid.is_root() && !runner.changes_users && user.is_none() {
        return Ok(None);
    }
    let name = user.unwrap_or(NOBODY);
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
        return Err(format!("{name} has root's user or group: the program runs as neither"));
    }
    match (runner.uid.is_root() || runner.changes_users, runner.uid == uid) {
        (true, _) => Ok(Some((uid, gid))),
        (false, true) => Ok(None),
        (false, false) => Err(format!("only root can run a program as {name}")),
    }
}

/// A program that runs, in a group of its own. It is killed with its group and waited for, whatever
/// happens.
#[derive(Debug)]
pub(crate) struct RunningProgram {
    child: Waited,
    /// Readable once it has ended.
    end: OwnedFd,
    /// None once nothing holds its other end.
    output: Option<PipeReader>,
    /// The first bytes that it printed.
    printed: Vec<u8>,
}

impl RunningProgram {
    fn new(child: Child, output: PipeReader) -> io::Result<RunningProgram> {
        let child = Waited(child);
        let end = pidfd_open(rustix::process::Pid::from_child(&child.0), PidfdFlags::empty())?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(RunningProgram { child, end, output: Some(output), printed: Vec::new() })
    }

    /// What is readable when there is something for [`RunningProgram::look`].
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.end.as_fd()).chain(self.output.iter().map(AsFd::as_fd)).collect()
    }

    /// Reads what it printed since the last look; true if it has ended.
    ///
    /// That the pipe is open says nothing: a grandchild may hold it. That it is closed neither.
    pub(crate) fn look(&mut self) -> io::Result<bool> {
        let has_ended = self.wait_within(Duration::ZERO, false)?;
        if let Some(output) = &mut self.output
            && !read(output, &mut self.printed)?
        {
            self.output = None;
        }
        Ok(has_ended)
    }

    /// Waits until it has ended, while there is time left, and reads what it prints meanwhile;
    /// false if the time is over.
    pub(crate) fn watch(&mut self, left: impl Fn() -> io::Result<Duration>) -> io::Result<bool> {
        while let Ok(left) = left() {
            self.wait_within(left, true)?;
            if self.look()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until it has ended, or printed something if that is asked; true if it has ended.
    fn wait_within(&self, within: Duration, for_output: bool) -> io::Result<bool> {
        let fds = self.fds();
        let watched = if for_output { &fds[..] } else { &fds[..1] };
        let mut polled: Vec<PollFd<'_>> =
            watched.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match ppoll(&mut polled, Some(TimeSpec::from(within)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(polled[0].any().unwrap_or(false)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Kills what is left of its group, and says how it ended.
    pub(crate) fn finish(mut self) -> io::Result<EndedProgram> {
        self.child.kill();
        let status = self.child.0.wait()?;
        Ok(EndedProgram { status, printed: std::mem::take(&mut self.printed) })
    }
}

/// A child that is killed with its group, and waited for.
#[derive(Debug)]
struct Waited(Child);

impl Waited {
    /// Kills what is left of the group. Its leader is not waited for yet, so the number cannot be
    /// another group's.
    fn kill(&self) {
        // ESRCH: no process is left.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
    }
}

impl Drop for Waited {
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
fn read(output: &mut PipeReader, printed: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 64 << 10];
    match output.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            let room = KEPT - printed.len();
            printed.extend_from_slice(&buffer[..length.min(room)]);
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub(crate) struct EndedProgram {
    status: ExitStatus,
    printed: Vec<u8>,
}

impl EndedProgram {
    /// The first line that it printed and that is not blank.
    pub(crate) fn first_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.printed);
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// How it failed, with the first line that it printed; none if its status is 0.
    pub(crate) fn failure(&self) -> Option<String> {
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => None,
            (Some(code), _) => Some(self.with_line(&format!("status {code}"))),
            (None, Some(signal)) => {
                let name = Signal::try_from(signal).map_or_else(
                    |_| format!("signal {signal}"),
                    |signal| signal.as_str().to_owned(),
                );
                Some(self.with_line(&format!("ended by {name}")))
            }
            (None, None) => Some(self.with_line("ended in an unknown way")),
        }
    }

    /// What became of it, with the first line that it printed.
    pub(crate) fn with_line(&self, end: &str) -> String {
        match self.first_line() {
            Some(line) => format!("{end}: {line}"),
            None => end.to_owned(),
        }
    }
}

/// What went wrong while something was done, in words.
pub(crate) fn because(doing: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{doing}: {}", Errno::from_raw(code).desc()),
        None => format!("{doing}: {error}"),
    }
}

/// Characters of a line that are shown.
const SHOWN_CHARS: usize = 200;

/// A short line without anything that a terminal would obey, whatever a program or a server wrote.
pub(crate) fn printable(text: &str) -> String {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut chars = text.chars();
    let mut shown: String =
        chars.by_ref().take(SHOWN_CHARS).map(|c| if obeyed(c) { '?' } else { c }).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_as_neither_root_nor_anybody_whom_its_runner_cannot_become() {
        let (uid, gid) = (Uid::from_raw(1000), Gid::from_raw(100));
        let nobody = (Uid::from_raw(NOBODY_ID), Gid::from_raw(NOBODY_ID));
        let runner = |uid, changes_users| Runner { uid: Uid::from_raw(uid), changes_users };
        let root = runner(0, true);
        // cvipd's own user becomes another as root does, with the capabilities for that.
        for able in [root, runner(990, true)] {
            assert_eq!(permitted("ann", Some((uid, gid)), able), Ok(Some((uid, gid))));
            assert_eq!(permitted(NOBODY, None, able), Ok(Some(nobody)));
        }
        assert_eq!(permitted("ann", Some((uid, gid)), runner(1000, false)), Ok(None));
        let only_root = "only root can run a program as ann".to_owned();
        assert_eq!(permitted("ann", Some((uid, gid)), runner(1001, false)), Err(only_root));
        for user in [(root.uid, gid), (uid, Gid::from_raw(0))] {
            let reason = permitted("toor", Some(user), root).unwrap_err();
            assert_eq!(reason, "toor has root's user or group: the program runs as neither");
        }
    }

    /// What a shell's script makes of this input, within a second or so.
    fn run(script: &str, input: &[u8], reads: Printed) -> EndedProgram {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let program = Program {
            path: "/bin/sh",
            arguments: &arguments,
            environment: &[],
            input: Some(input),
            user: None,
            reads,
        };
        let mut running = start(&program).unwrap();
        assert!(running.watch(|| Ok(Duration::from_secs(20))).unwrap());
        running.finish().unwrap()
    }

    #[test]
    fn a_program_reads_its_input_however_long_it_is_and_may_leave_it() {
        let long = vec![b'x'; 1 << 20];
        let ended = run("wc -c", &long, Printed::All);
        assert_eq!((ended.failure(), ended.first_line()), (None, Some("1048576".to_owned())));
        assert_eq!(run("cat /dev/stdin", b"by its name", Printed::All).failure(), None);
        assert_eq!(run("exit 0", &long, Printed::All).failure(), None);
    }

    #[test]
    fn its_standard_output_goes_nowhere_where_its_errors_alone_are_read() {
        let ended = run("echo said; echo wrong >&2; exit 4", b"", Printed::Errors);
        assert_eq!(ended.failure(), Some("status 4: wrong".to_owned()));
    }

    #[test]
    fn what_is_written_by_others_is_shown_short_and_harmless() {
        assert_eq!(printable("HTTP 200"), "HTTP 200");
        assert_eq!(printable("a\r\nb\u{1b}[2J\u{202e}ü"), "a??b?[2J?ü");
        assert_eq!(printable(&"ü".repeat(201)), format!("{}...", "ü".repeat(200)));
    }
}
