//! The whole program as a function: words in, texts and an exit status out.
//!
//! Nothing here touches the process: the streams, the names, the clock, the kernel's table and
//! the environment are parameters; only a file that the command line names is opened. The
//! kernel is opened when it is first needed, so that help,
//! version and argument errors need neither IPVS nor privilege.
//!
//! Exit statuses: 0 done; 1 a listing failed, `--diff` found something, or a drain left the real
//! server in the table; 2 an argument is wrong or there is no IPVS;
//! 255 the kernel refused a change, or no sense could be made of the words.

mod drain;
mod edit;
mod files;
mod saving;
mod show;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;

use super::args::{self, ArgumentError, OptionValue};
use super::errors::{self, FailedOperation};
use super::help::help;
use super::invocation::{Invocation, List, Restoring, Save};
use super::names::Names;
use super::restore::{Comments, LONGEST_LINE, Lines, RestoreStep};
use super::table::{Table, TableError};
use super::watch::Clock;
use crate::ipvs::{Change, Info};
use crate::output::Output;

/// What `--version` prints: what scripts take the version of ipvsadm from.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// How many changes of a restore are collected for the kernel, at most: as many destinations as
/// one send takes.
const BATCH: usize = 375;

/// The two lines of ipvsadm-save about itself.
const SAVE_USAGE: &str = "\
Usage: ipvsadm-save [-n]
Prints the IPVS table as commands for ipvsadm-restore; -n leaves names out.
";

/// How the program was called.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its name as it was called; `ipvsadm-save` and `ipvsadm-restore` have meanings of their own.
    pub program: &'a OsStr,
    /// The words after it.
    pub words: &'a [OsString],
    /// The first positional word ends the options, as `POSIXLY_CORRECT` asks for.
    pub posix: bool,
}

/// Standard input, output and error.
pub struct ToolStreams<'a> {
    /// Where a restore reads.
    pub stdin: &'a mut dyn Read,
    /// Where listings go.
    pub out: &'a mut dyn Write,
    /// Where messages go.
    pub err: &'a mut dyn Write,
    /// A person reads the messages: standard error is a terminal.
    pub err_is_terminal: bool,
}

/// Runs one call and returns its exit status. `open` reaches for the kernel's table, at most
/// once, when it is needed.
///
/// What cannot be written is a failure of its own, also where the original says nothing of it;
/// except that a reader that has seen enough closes the pipe.
pub fn run<T: Table>(
    call: Call<'_>,
    streams: ToolStreams<'_>,
    names: &mut dyn Names,
    clock: &mut dyn Clock,
    open: impl FnOnce() -> Result<T, TableError>,
) -> u8 {
    let base = base_name(call.program);
    let (mut out, mut err) = (Output::new(streams.out), Output::new(streams.err));
    let mut session = ToolSession {
        setting: OptionValue { program: call.program, posix: call.posix, restoring: false },
        out: &mut out,
        err: &mut err,
        err_is_terminal: streams.err_is_terminal,
        names,
        clock,
        open: Some(open),
        kernel: None,
    };
    let status = if base.ends_with("-save") {
        session.save_program(call.words)
    } else if base.ends_with("-restore") {
        session.restore_program(call.words, streams.stdin)
    } else {
        session.command_line(call.words, streams.stdin)
    };
    // What fails is noted.
    let _ = out.flush();
    match out.lost() {
        None => status,
        Some(error) => {
            let why = errors::io_text(&error);
            let _ = writeln!(err, "cannot write to standard output: {why}");
            if status == 0 { 1 } else { status }
        }
    }
}

fn base_name(program: &OsStr) -> Cow<'_, str> {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy()
}

/// Why something was not done.
enum ToolError {
    /// There is no IPVS, or no privilege.
    NoKernel(TableError),
    /// The kernel did not answer a listing.
    Refused(FailedOperation, TableError),
    /// The same where the original says nothing.
    RefusedInSilence,
    /// Standard output takes no more.
    Output,
    /// A file could not be read or written; in words.
    File(String),
}

impl From<std::io::Error> for ToolError {
    fn from(_: std::io::Error) -> ToolError {
        ToolError::Output
    }
}

/// What the next line of a restore asks for, or why there is none.
enum Next {
    /// A change: many are made at once.
    Change(Change),
    /// Anything else.
    Other(Invocation),
    /// Nothing that makes sense.
    Wrong(ArgumentError),
    /// Nothing without another read ([`RestoreStep::Wait`]).
    Wait,
    /// It is longer than a line may be.
    TooLong,
    /// There is none.
    End,
}

struct ToolSession<'a, 'o, T, O> {
    setting: OptionValue<'a>,
    out: &'a mut Output<'o>,
    err: &'a mut Output<'o>,
    err_is_terminal: bool,
    names: &'a mut dyn Names,
    clock: &'a mut dyn Clock,
    open: Option<O>,
    kernel: Option<T>,
}

impl<T: Table, O: FnOnce() -> Result<T, TableError>> ToolSession<'_, '_, T, O> {
    fn command_line(&mut self, words: &[OsString], stdin: &mut dyn Read) -> u8 {
        if words.is_empty() {
            return self.show(List::ALL).0;
        }
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        match args::parse(self.setting, &words, self.names) {
            Ok(Invocation::Restore(Restoring::Original)) => {
                self.restore(Lines::new(stdin, Comments::None), Vec::new())
            }
            Ok(Invocation::Restore(Restoring::Reporting(failing))) => {
                self.restore_reporting(stdin, failing)
            }
            Ok(Invocation::Restore(Restoring::Checking(comments))) => self.check(stdin, comments),
            Ok(Invocation::Apply { from, dry_run }) => self.converge(&from, stdin, dry_run),
            Ok(Invocation::Diff(from)) => self.diff(&from, stdin),
            Ok(Invocation::RestoreJson { from, check }) => self.restore_json(&from, stdin, check),
            Ok(Invocation::Change(change)) => self.apply(&[change]).0,
            Ok(Invocation::Drain(request)) => self.drain(&request),
            Ok(invocation) => self.answer(invocation).0,
            Err(error) => {
                self.complain(&error.to_string());
                error.status()
            }
        }
    }

    /// `ipvsadm-save [-n]`: other words are passed over, other options are not.
    fn save_program(&mut self, words: &[OsString]) -> u8 {
        let mut numeric = false;
        for word in words.iter().map(|word| word.as_encoded_bytes()) {
            match word {
                b"-n" => numeric = true,
                [b'-', ..] => {
                    let _ = self.err.write_all(SAVE_USAGE.as_bytes());
                    return 1;
                }
                _ => {}
            }
        }
        self.answer(Invocation::Save(Save { numeric, ..Save::default() })).0
    }

    /// `ipvsadm-restore`: empties the table, then restores what is no comment. With `--check` it
    /// does nothing, as is wanted where a file is checked; other words are passed over.
    fn restore_program(&mut self, words: &[OsString], stdin: &mut dyn Read) -> u8 {
        // The original's script calls ipvsadm, and so do the messages.
        self.setting.program = OsStr::new("ipvsadm");
        if words.iter().any(|word| word == "--check") {
            return self.check(stdin, Comments::AtTheStart);
        }
        self.restore(Lines::new(stdin, Comments::AtTheStart), vec![Change::Flush])
    }

    /// Carries out `changes`, then every line; the status is the last line's.
    fn restore<R: Read>(&mut self, mut lines: Lines<R>, mut changes: Vec<Change>) -> u8 {
        self.setting.restoring = true;
        let mut status = 0;
        loop {
            let next = match self.next_of(&mut lines) {
                Next::Change(change) => {
                    changes.push(change);
                    if changes.len() < BATCH {
                        continue;
                    }
                    None
                }
                other => Some(other),
            };
            // Everything else comes after what is under way.
            if !changes.is_empty() {
                let (applied, over) = self.apply(&changes);
                changes.clear();
                status = applied;
                if over {
                    return status;
                }
            }
            match next {
                None | Some(Next::Change(_)) => {}
                Some(Next::Other(invocation)) => {
                    let (answered, over) = self.answer(invocation);
                    status = answered;
                    if over {
                        return status;
                    }
                }
                Some(Next::Wrong(error)) => {
                    self.complain(&error.to_string());
                    status = error.status();
                    if error.ends_a_restore() {
                        return status;
                    }
                }
                Some(Next::TooLong) => return self.too_long(),
                Some(Next::Wait) => {
                    let _ = self.out.flush();
                    if let Err(error) = lines.fill() {
                        return self.unreadable("standard input", &error);
                    }
                }
                Some(Next::End) => return status,
            }
        }
    }

    /// Reads the next line, and what it asks for.
    fn next_of<R: Read>(&mut self, lines: &mut Lines<R>) -> Next {
        match lines.next() {
            RestoreStep::Line(words) => match args::parse(self.setting, &words, self.names) {
                Ok(Invocation::Change(change)) => Next::Change(change),
                Ok(invocation) => Next::Other(invocation),
                Err(error) => Next::Wrong(error),
            },
            RestoreStep::Wait => Next::Wait,
            RestoreStep::TooLong => Next::TooLong,
            RestoreStep::End => Next::End,
        }
    }

    fn too_long(&mut self) -> u8 {
        self.complain(&format!(
            "a line is longer than {LONGEST_LINE} bytes: this is no saved table"
        ));
        2
    }

    fn unreadable(&mut self, what: &str, error: &std::io::Error) -> u8 {
        self.complain(&format!("cannot read {what}: {}", errors::io_text(error)));
        2
    }

    /// Does what is no change; `true` if a restore ends with it.
    fn answer(&mut self, invocation: Invocation) -> (u8, bool) {
        match invocation {
            Invocation::Help => {
                let help = help(&base_name(self.setting.program));
                let _ = self.out.write_all(help.as_bytes());
                (0, true)
            }
            Invocation::Version => {
                let _ = writeln!(self.out, "{VERSION}");
                (0, true)
            }
            Invocation::List(list) => self.show(list),
            Invocation::Save(save) => {
                let result = self.save(&save);
                self.report(result)
            }
            Invocation::Change(change) => self.apply(&[change]),
            Invocation::Edit(edit) => self.edit(&edit),
            // The command line has its own way with them, and in a restore they are no commands.
            Invocation::Restore(_)
            | Invocation::Apply { .. }
            | Invocation::Diff(_)
            | Invocation::Drain(_)
            | Invocation::RestoreJson { .. } => (0, false),
        }
    }

    /// A message is a line of its own, after what has been printed.
    fn complain(&mut self, message: &str) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{message}");
    }

    /// The kernel's table; opened now, if it has not been.
    fn kernel(&mut self) -> Result<&mut T, ToolError> {
        if let Some(open) = self.open.take() {
            return Ok(self.kernel.insert(open().map_err(ToolError::NoKernel)?));
        }
        let gone = || ToolError::NoKernel(TableError::Refused(nix::libc::ENOPROTOOPT));
        self.kernel.as_mut().ok_or_else(gone)
    }

    fn info(&mut self) -> Result<Info, ToolError> {
        self.kernel()?.info().map_err(ToolError::NoKernel)
    }

    /// Carries out changes; reports those refused, in order. The status is the last one's; a
    /// restore ends where the kernel cannot be asked.
    fn apply(&mut self, changes: &[Change]) -> (u8, bool) {
        let refused = match self.kernel() {
            Ok(table) => table.apply(changes),
            Err(error) => return self.report(Err(error)),
        };
        let refused = match refused {
            Ok(refused) => refused,
            Err(error) => {
                self.complain(&error.to_string());
                return (255, true);
            }
        };
        for (index, errno) in &refused {
            if let Some(change) = changes.get(*index) {
                self.complain(&errors::text(FailedOperation::of(change), *errno));
            }
        }
        match refused.last() {
            Some((index, _)) if index + 1 == changes.len() => (255, false),
            _ => (0, false),
        }
    }

    /// The exit status of a listing, and whether it ends a restore, as it ends the original.
    fn report(&mut self, result: Result<(), ToolError>) -> (u8, bool) {
        match result {
            Ok(()) | Err(ToolError::Output) => (0, false),
            Err(ToolError::NoKernel(error)) => {
                self.complain(&errors::no_kernel(&error));
                (2, true)
            }
            Err(ToolError::Refused(operation, error)) => {
                self.complain(&errors::describe(operation, &error));
                (1, true)
            }
            Err(ToolError::RefusedInSilence) => (1, true),
            Err(ToolError::File(why)) => {
                self.complain(&why);
                (1, true)
            }
        }
    }
}
