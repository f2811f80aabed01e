//! What cvipd logs, and how: to a terminal or a file with its own time stamps, to journald with
//! priorities, which it reads from the beginning of each line (sd-daemon(3)), and without, since
//! journald has a clock of its own.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::conf::closest;

/// The levels, the most urgent first.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Priority of errors (syslog(3)).
const ERR: u8 = 3;

/// A filter as it was given, without blanks, if it makes sense.
///
/// # Errors
/// It names neither a level nor a part of the program; the text says what there is.
pub fn filter(text: &str) -> Result<String, String> {
    let text: Vec<&str> = text.split(',').map(str::trim).collect();
    for directive in &text {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target), Some(level)),
            None if is_level(directive) => (None, Some(*directive)),
            None => (Some(*directive), None),
        };
        if let Some(target) = target {
            part(target, level.is_none())?;
        }
        if let Some(level) = level.filter(|level| !is_level(level)) {
            return Err(no_level(level));
        }
    }
    let text = text.join(",");
    EnvFilter::try_new(&text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

fn no_level(word: &str) -> String {
    // Other programs say `warning` and `err`.
    let lower = word.to_ascii_lowercase();
    let longer = |level: &&str| lower.starts_with(level) || level.starts_with(&lower);
    let begun = LEVELS.into_iter().find(longer).filter(|_| word.len() > 2);
    let hint = begun
        .or_else(|| closest(word, LEVELS))
        .map_or_else(|| ".".to_owned(), |m| format!(": did you mean `{m}`?"));
    format!(
        "`{word}` is no level{hint} The levels are {}; one part of cvipd is named as in \
         info,cvip::node=debug",
        LEVELS.join(", ")
    )
}

/// Refuses a part of the program that there is not: a filter for it would log nothing.
fn part(target: &str, stands_alone: bool) -> Result<(), String> {
    // A span in brackets may follow.
    let path = target.split('[').next().unwrap_or(target);
    let mut names = path.split("::");
    let (krate, module) = (names.next().unwrap_or(""), names.next());
    if krate != env!("CARGO_CRATE_NAME") {
        return match stands_alone || closest(krate, [env!("CARGO_CRATE_NAME")]).is_some() {
            true => Err(no_level(target)),
            // A library's.
            false => Ok(()),
        };
    }
    match module {
        Some(module) if !modules().any(|known| known == module) => {
            let parts: Vec<&str> = modules().collect();
            let hint = closest(module, modules());
            let hint = hint.map_or_else(String::new, |m| format!(" (did you mean `{m}`?)"));
            Err(format!("cvip has no part `{module}`{hint}: it has {}", parts.join(", ")))
        }
        _ => Ok(()),
    }
}

/// The parts of the program, as the library names them.
fn modules() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../lib.rs").lines();
    lines.filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("pub(crate) ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')
    })
}

/// The filter for a text that was accepted: what it says of a part is said beside the usual level,
/// or errors elsewhere would be lost.
fn with_default(text: &str) -> String {
    match text.split(',').any(|directive| is_level(directive.trim())) {
        true => text.to_owned(),
        false => format!("info,{text}"),
    }
}

/// Logs to standard error from now on.
pub fn begin(filter: &str) {
    let filter = EnvFilter::new(with_default(filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false);
    // A second subscriber is there only in tests, and does no harm.
    let _ = match is_journal(io::stderr().as_fd()) {
        true => {
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            builder.event_format(Journal).try_init()
        }
        false => builder.try_init(),
    };
}

/// Standard error for what is no event of the log: with the priority of an error in the journal.
pub fn errors() -> Box<dyn Write> {
    match is_journal(io::stderr().as_fd()) {
        true => Box::new(Prioritised { to: io::stderr(), is_start: true }),
        false => Box::new(io::stderr()),
    }
}

/// True if journald reads this stream: it names it in JOURNAL_STREAM (systemd.exec(5)).
fn is_journal(stream: BorrowedFd<'_>) -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let Ok(stat) = fstat(stream) else { return false };
    named.is_some_and(|named| is_stream(&named, stat.st_dev, stat.st_ino))
}

/// True if `device:inode` is this one.
fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    named.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// Events as journald takes them: a priority before each line, and no time.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(format::Writer::new(&mut text), event)?;
        writer.write_str(&prioritised(priority(*event.metadata().level()), &text))
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => ERR,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Lines, each with a priority: journald makes an entry of each.
fn prioritised(priority: u8, text: &str) -> String {
    text.lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

/// A stream whose lines are errors.
struct Prioritised<W> {
    to: W,
    is_start: bool,
}

impl<W: Write> Write for Prioritised<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.is_start {
                write!(self.to, "<{ERR}>")?;
            }
            self.to.write_all(line)?;
            self.is_start = line.ends_with(b"\n");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_levels_and_parts_that_there_are() {
        for good in [
            "error",
            "INFO",
            "off",
            "cvip::node=debug",
            "info,cvip::node=debug",
            "warn, cvip::director=trace",
            "cvip=debug",
            "h2=debug",
        ] {
            assert_eq!(filter(good), Ok(good.replace(' ', "")));
        }
        for (bad, says) in [
            ("inof", "did you mean `info`?"),
            ("warning", "did you mean `warn`?"),
            ("Err", "did you mean `error`?"),
            ("inof", "error, warn, info, debug, trace, off"),
            ("verbose", "is no level. The levels are"),
            ("", "is no level"),
            ("info,", "is no level"),
            ("cvip::node=debgu", "did you mean `debug`?"),
            ("cvip::nod=debug", "did you mean `node`?"),
            ("cvpi::node=debug", "is no level"),
            ("node", "is no level"),
            ("a=b=c", "is no level"),
        ] {
            let refused = filter(bad).unwrap_err();
            assert!(refused.contains(says), "{bad}: {refused}");
        }
        assert!(modules().any(|module| module == "director"));
    }

    #[test]
    fn a_part_that_is_to_say_more_silences_no_other() {
        assert_eq!(with_default("cvip::node=debug"), "info,cvip::node=debug");
        assert_eq!(with_default("warn,cvip::node=debug"), "warn,cvip::node=debug");
        assert_eq!(with_default("off"), "off");
    }

    #[test]
    fn every_line_for_the_journal_has_its_priority_and_no_time() {
        assert_eq!(prioritised(priority(Level::ERROR), "one\ntwo"), "<3>one\n<3>two\n");
        assert_eq!(prioritised(priority(Level::WARN), "x"), "<4>x\n");
        assert_eq!(prioritised(priority(Level::INFO), "x"), "<6>x\n");
        assert_eq!(prioritised(priority(Level::TRACE), "x"), "<7>x\n");
        let mut errors = Prioritised { to: Vec::new(), is_start: true };
        write!(errors, "cvipd: a").unwrap();
        write!(errors, "b\nc").unwrap();
        writeln!(errors).unwrap();
        assert_eq!(String::from_utf8(errors.to).unwrap(), "<3>cvipd: ab\n<3>c\n");
    }

    #[test]
    fn only_the_stream_that_is_named_is_the_journal_s() {
        assert!(is_stream("9:12345", 9, 12345));
        for named in ["", "9", "9:1", "8:12345", "9:12345:1", "x:y"] {
            assert!(!is_stream(named, 9, 12345), "{named}");
        }
    }
}
