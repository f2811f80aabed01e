//! The programs' command lines: parse, call the library, write to what they are given.
//!
//! Each program is a module with its arguments (from which help, man page and completions are
//! made) and a `run` that returns the exit status. `ipvsadm-rs` has a command language of its
//! own, in [`crate::ipvsadm`].

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Parser;
use clap::error::ErrorKind;

pub mod cvipctl;
pub mod cvipd;
pub mod setport_weight;
mod site;
mod store_options;

pub use site::{NodeOption, Site};
pub use store_options::StoreOptions;

/// Done as asked.
pub const OK: u8 = 0;
/// It was tried and failed, or faults or differences were found.
pub const FAILED: u8 = 1;
/// The command line makes no sense; nothing was tried.
pub const USAGE: u8 = 2;

/// Where a program writes.
pub struct Streams<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

/// Lines for a terminal. What stands in a node's record are that node's words: whatever could
/// command the terminal is replaced.
fn harmless(text: &str) -> String {
    let plain = |c: char| c == '\n' || !c.is_control();
    text.chars().map(|c| if plain(c) { c } else { '\u{fffd}' }).collect()
}

/// Runs a program: parses its arguments and reports what went wrong, one line for an error.
pub fn main<P: Parser>(
    args: impl IntoIterator<Item = OsString>,
    streams: &mut Streams<'_>,
    run: impl FnOnce(P, &mut Streams<'_>) -> anyhow::Result<u8>,
) -> u8 {
    let name = P::command().get_name().to_owned();
    let parsed = match P::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) => return explain(&name, &error, streams),
    };
    let outcome = run(parsed, streams).and_then(|status| {
        streams.out.flush()?;
        Ok(status)
    });
    match outcome {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => OK,
        Err(error) => {
            let text = describe(&error);
            // A fault that shows its place speaks for itself.
            let shown = if text.contains('\n') { text } else { format!("{name}: {text}") };
            let _ = writeln!(streams.err, "{shown}");
            FAILED
        }
    }
}

/// Help and version go to standard output; an error is one line on standard error.
fn explain(name: &str, error: &clap::Error, streams: &mut Streams<'_>) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = write!(streams.out, "{error}").and_then(|()| streams.out.flush());
            OK
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = write!(streams.err, "{error}");
            USAGE
        }
        _ => {
            let text = error.to_string();
            // clap's first paragraph says what is wrong, the rest is usage and hints.
            let paragraph = text.split("\n\n").next().unwrap_or(&text);
            let line: Vec<&str> = paragraph.lines().map(str::trim).collect();
            let line = line.join(" ");
            let line = line.strip_prefix("error: ").unwrap_or(&line);
            let _ = writeln!(streams.err, "{name}: {line} (try {name} --help)");
            USAGE
        }
    }
}

/// An error and its causes, without those that it names itself.
fn describe(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_words_cannot_command_a_terminal() {
        assert_eq!(harmless("one\n\x1b[2Jtwo\u{9b}K"), "one\n\u{fffd}[2Jtwo\u{fffd}K");
    }

    #[test]
    fn a_cause_that_an_error_names_itself_is_said_once() {
        let cause = || io::Error::other("disk on fire");
        let twice = anyhow::Error::new(cause()).context("cannot write x: disk on fire");
        assert_eq!(describe(&twice), "cannot write x: disk on fire");
        let once = anyhow::Error::new(cause()).context("cannot write x");
        assert_eq!(describe(&once), "cannot write x: disk on fire");
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Runs a program in a test and catches what it writes.

    use super::*;

    /// Exit status, standard output, standard error.
    pub(crate) fn run_with<P: Parser>(
        args: &[&str],
        run: impl FnOnce(P, &mut Streams<'_>) -> anyhow::Result<u8>,
    ) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, err: &mut err };
        let status = main(args.iter().map(OsString::from), &mut streams, run);
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}
