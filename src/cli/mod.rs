//! The programs' command lines: parse, call the library, write to what they are given.
//!
//! Each program is a module with its arguments (from which help, man page and completions are
//! made) and a `run` that returns the exit status. `ipvsadm-rs` has a command language of its
//! own, in [`crate::ipvsadm`].

use std::ffi::OsString;
use std::io::{self, IsTerminal, LineWriter, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::conf::closest;
use crate::json::plain;
use crate::output::{Output, StandardOutput, harmless};
use crate::ports::PortFlag;

pub mod cvipctl;
pub mod cvipd;
pub mod log;
mod progress;
mod rows;
pub mod setport_weight;
mod site;

use progress::Clearing;
pub use progress::Progress;
pub use site::{KnownNode, NodeOption, Site};
use site::{all_faults, node_number};

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
    /// Standard output is a terminal.
    pub terminal: bool,
    /// Standard output is a terminal whose user has nothing against colours.
    pub colour: bool,
    /// What takes more than a second, where standard error is a terminal.
    pub progress: Progress,
}

impl<'a> Streams<'a> {
    /// Streams that are no terminal.
    pub fn plain(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Streams<'a> {
        Streams { out, err, terminal: false, colour: false, progress: Progress::hidden() }
    }
}

/// Whether a user at a terminal wants colours: not with a `NO_COLOR` that is not empty
/// (no-color.org), and not at a terminal that has none.
fn wants_colour(variable: impl Fn(&'static str) -> Option<OsString>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty()) && obeys_codes(variable)
}

/// Whether the terminal obeys escape codes.
fn obeys_codes(variable: impl Fn(&'static str) -> Option<OsString>) -> bool {
    variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// The cells of a row of a table.
macro_rules! cells {
    ($($cell:expr),+) => { [$($cell.to_string()),+] };
}
use cells;

/// Rows under their titles, for people.
fn table<const N: usize>(
    titles: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> tabled::Table {
    let mut table = Builder::new();
    table.push_record(titles);
    rows.into_iter().for_each(|row| table.push_record(row));
    let mut table = table.build();
    table.with(Style::blank());
    table
}

/// The ports of a flag, for people.
fn ports(flag: PortFlag) -> String {
    match flag.is_single() {
        true => flag.start.to_string(),
        false => format!("{}-{}", flag.start, flag.end),
    }
}

/// Runs a program on the process's own output.
pub fn program<P: Parser>(
    args: impl IntoIterator<Item = OsString>,
    run: impl FnOnce(P, &mut Streams<'_>) -> anyhow::Result<u8>,
) -> ExitCode {
    let mut err = log::errors();
    let status = match StandardOutput::open() {
        Ok(out) => {
            let mut out = LineWriter::new(out);
            let terminal = io::stdout().is_terminal();
            let colour = terminal && wants_colour(std::env::var_os);
            let progress = match io::stderr().is_terminal() && obeys_codes(std::env::var_os) {
                true => Progress::on(io::stderr()),
                false => Progress::hidden(),
            };
            let mut streams = Streams { out: &mut out, err: &mut *err, terminal, colour, progress };
            main(args, &mut streams, run)
        }
        Err(error) => {
            let _ = err.write_all(format!("standard output: {error}\n").as_bytes());
            FAILED
        }
    };
    ExitCode::from(status)
}

/// Runs a program: parses its arguments and reports what went wrong, one line for an error. What
/// could not be written is an error too, except to a pipe that its reader closed.
pub fn main<P: Parser>(
    args: impl IntoIterator<Item = OsString>,
    streams: &mut Streams<'_>,
    run: impl FnOnce(P, &mut Streams<'_>) -> anyhow::Result<u8>,
) -> u8 {
    let name = P::command().get_name().to_owned();
    let progress = streams.progress.clone();
    let mut out = Clearing::new(streams.out, &progress);
    let mut err = Clearing::new(streams.err, &progress);
    let (mut out, mut err) = (Output::new(&mut out), Output::new(&mut err));
    let (terminal, colour) = (streams.terminal, streams.colour);
    let mut noting =
        Streams { out: &mut out, err: &mut err, terminal, colour, progress: progress.clone() };
    let outcome = match P::try_parse_from(args) {
        Ok(parsed) => run(parsed, &mut noting),
        Err(error) => Ok(explain(&name, &error, &mut noting)),
    };
    progress.end();
    // What fails is noted.
    let _ = out.flush();
    let mut status = match &outcome {
        Ok(status) => *status,
        Err(_) => FAILED,
    };
    if let Err(error) = outcome {
        let no_reader = (out.is_closed() || err.is_closed()) && is_broken_pipe(&error);
        if no_reader {
            status = OK;
        } else if out.lost().is_none_or(|lost| !is_of_kind(&error, lost.kind())) {
            let text = describe(&error);
            // A fault that shows its place speaks for itself.
            let shown = if text.contains('\n') { text } else { format!("{name}: {text}") };
            let _ = writeln!(err, "{shown}");
        }
    }
    if let Some(lost) = out.lost() {
        let _ = writeln!(err, "{name}: cannot write to standard output: {lost}");
        status = FAILED;
    }
    status
}

/// Help and version go to standard output; an error is one line on standard error.
fn explain(name: &str, error: &clap::Error, streams: &mut Streams<'_>) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = write!(streams.out, "{error}");
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
            let line = plain(line.strip_prefix("error: ").unwrap_or(&line));
            let hint = meant(error);
            let _ = writeln!(streams.err, "{name}: {line} ({hint}try {name} --help)");
            USAGE
        }
    }
}

/// What clap takes the wrong word for, as a question; empty if it resembles nothing.
fn meant(error: &clap::Error) -> String {
    let kinds =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let words: Vec<&str> = kinds
        .into_iter()
        .filter_map(|kind| error.get(kind))
        .flat_map(|value| match value {
            ContextValue::String(word) => vec![word.as_str()],
            ContextValue::Strings(words) => words.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        })
        // A slip does not lead to what cuts connections.
        .filter(|word| *word != "--now")
        .collect();
    // Of a short word clap finds no two letters that changed places.
    let words = match words.is_empty() {
        true => swapped(error).into_iter().collect(),
        false => words,
    };
    match words.is_empty() {
        true => String::new(),
        false => format!("did you mean {}? ", words.join(" or ")),
    }
}

/// The value that a wrong one resembles.
fn swapped(error: &clap::Error) -> Option<&str> {
    let (ContextValue::String(wrong), ContextValue::Strings(valid)) =
        (error.get(ContextKind::InvalidValue)?, error.get(ContextKind::ValidValue)?)
    else {
        return None;
    };
    closest(wrong, valid.iter().map(String::as_str))
}

/// An error and its causes, without those that it names itself.
fn describe(error: &anyhow::Error) -> String {
    let text = error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    });
    without_numbers(&text)
}

/// An error's text without the numbers that follow strerror(3) in it.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain += part.split_once(')').map_or(part, |(_, rest)| rest);
    }
    plain
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    is_of_kind(error, io::ErrorKind::BrokenPipe)
}

fn is_of_kind(error: &anyhow::Error, kind: io::ErrorKind) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == kind)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|e| e.io_error_kind() == Some(kind))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_nodes_words_cannot_command_a_terminal() {
        assert_eq!(harmless("one\n\x1b[2Jtwo\u{9b}K"), "one\n\u{fffd}[2Jtwo\u{fffd}K");
    }

    #[test]
    fn a_slip_of_the_keyboard_is_told_what_was_meant() {
        for (words, meant) in [
            (&["cvipctl", "statsu"][..], "did you mean status? try cvipctl --help"),
            (&["cvipctl", "status", "--jsno"], "did you mean --json? "),
            (&["cvipctl", "convert", "--format=jsno"], "did you mean json? "),
            (&["cvipctl", "events", "--node=web1"], "`web1` is no node: it is a number of"),
            (&["cvipctl", "status", "--store=etdc"], "did you mean etcd? "),
            (&["cvipctl", "frobnicate"], "(try cvipctl --help)"),
            (&["cvipctl", "drain", "--node", "2"], "(try cvipctl --help)"),
        ] {
            let (status, out, err) = testing::run_with(words, cvipctl::run);
            assert_eq!((status, out.as_str(), err.lines().count()), (USAGE, "", 1), "{err}");
            assert!(err.contains(meant), "{words:?}: {err}");
        }
    }

    #[test]
    fn a_misspelt_protocol_is_told_what_was_meant_and_capitals_are_no_fault() {
        let words = ["setport_weight", "--start-port=1", "--end-port=2", "--weight=1"];
        let of = |word: &'static str| {
            setport_weight::Args::try_parse_from(words.into_iter().chain(["--protocol", word]))
        };
        let error = of("tpc").unwrap_err();
        assert!(error.to_string().contains("tcp, udp, sctp") && meant(&error).contains("tcp"));
        assert!(of("UDP").is_ok());
    }

    #[test]
    fn colours_are_for_a_terminal_that_has_them_and_a_user_who_wants_them() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            let value = |name| set.iter().find(|(set, _)| *set == name);
            wants_colour(|name| value(name).map(|(_, value)| OsString::from(value)))
        };
        assert!(with(&[]) && with(&[("NO_COLOR", "")]) && with(&[("TERM", "xterm")]));
        assert!(!with(&[("NO_COLOR", "1")]) && !with(&[("TERM", "dumb")]));
    }

    #[test]
    fn every_help_ends_with_an_example() {
        fn check(command: &mut clap::Command) {
            let name = command.get_name().to_owned();
            for text in [command.render_help(), command.render_long_help()] {
                let text = text.to_string();
                let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
                assert!(last.starts_with("Example"), "{name}: {last}");
            }
            for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
                check(sub);
            }
        }
        for mut command in
            [cvipctl::Args::command(), cvipd::Args::command(), setport_weight::Args::command()]
        {
            command.build();
            check(&mut command);
        }
    }

    #[test]
    fn every_command_has_json_but_those_that_draw_or_have_a_format_of_their_own() {
        let has_json = |command: &clap::Command| {
            command.get_arguments().any(|argument| argument.get_id() == "json")
        };
        let command = cvipctl::Args::command();
        let without: Vec<&str> = command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && !has_json(sub))
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(without, ["graph", "metrics", "top"]);
        assert!(has_json(&setport_weight::Args::command()));
    }

    #[test]
    fn a_cause_that_an_error_names_itself_is_said_once() {
        let cause = || io::Error::other("disk on fire");
        let twice = anyhow::Error::new(cause()).context("cannot write x: disk on fire");
        assert_eq!(describe(&twice), "cannot write x: disk on fire");
        let once = anyhow::Error::new(cause()).context("cannot write x");
        assert_eq!(describe(&once), "cannot write x: disk on fire");
        let missing = anyhow::Error::new(io::Error::from_raw_os_error(2)).context("cannot read x");
        assert_eq!(describe(&missing), "cannot read x: No such file or directory");
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
        let mut streams = Streams::plain(&mut out, &mut err);
        let status = main(args.iter().map(OsString::from), &mut streams, run);
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}
