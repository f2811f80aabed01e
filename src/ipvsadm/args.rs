//! From the words of one command line to what it asks for, with every check on the way.
//!
//! The order of the checks is part of the interface: options are read from left to right, and
//! each one's value is checked as it is read; then the words that are left over; then the
//! scheduler's flags, whose names depend on the scheduler; then which options go with which
//! command; then what the values mean together. The first thing wrong is the one reported, in
//! the original's words.

use std::borrow::Cow;
use std::ffi::OsStr;

pub use super::argument_error::ArgumentError;
use super::argument_error::illegal;
use super::invocation::Invocation;
use super::line::Line;
use super::names::Names;
use super::options::{Command, Meaning};
use super::popt::{Given, Popt};

/// What the words are read in.
#[derive(Clone, Copy, Debug)]
pub struct OptionValue<'a> {
    /// The program's name as it was called, for the messages.
    pub program: &'a OsStr,
    /// The first positional word ends the options, as `POSIXLY_CORRECT` asks for.
    pub posix: bool,
    /// The words are a line of a restore, where another restore is no command.
    pub restoring: bool,
}

/// Reads the words that follow the program's name; at least one, as none at all is a listing.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn parse(
    setting: OptionValue<'_>,
    words: &[&OsStr],
    names: &mut dyn Names,
) -> Result<Invocation, ArgumentError> {
    let mut popt = Popt::new(words, setting.posix);
    let no_command =
        || ArgumentError::NoCommand { program: setting.program.to_string_lossy().into_owned() };
    let Some(Ok(first)) = popt.next() else {
        return Err(no_command());
    };
    let command = match first.entry.meaning {
        Meaning::Command(command) => command,
        Meaning::Help => return Ok(Invocation::Help),
        Meaning::Version => return Ok(Invocation::Version),
        Meaning::Option(_) => return Err(no_command()),
    };
    // `-S FILE' is an error of the original's, which scripts may count on.
    let takes_file = command == Command::Save && !setting.restoring && popt.last_word() == "--save";
    let mut line = Line::new(command, setting.restoring);
    line.role(text(first.argument).as_deref())?;

    while let Some(given) = popt.next() {
        match given {
            Ok(Given { entry, argument }) => match entry.meaning {
                Meaning::Option(option) => line.option(option, argument, names)?,
                _ => return illegal(format!("invalid option `{}'", popt.last_word().display())),
            },
            Err(problem) => {
                let word = popt.last_word().to_string_lossy().into_owned();
                return Err(ArgumentError::Option { word, problem });
            }
        }
    }

    let mut positional = popt.into_positional().into_iter();
    if matches!(command, Command::Apply | Command::Diff | Command::RestoreJson) {
        // A file's name need not be UTF-8.
        line.source(positional.next().map(OsStr::to_owned));
    }
    if takes_file {
        line.saved_to(positional.next().map(OsStr::to_owned));
    }
    let mut positional = positional.map(|word| word.to_string_lossy().into_owned());
    if command == Command::Set {
        line.timeouts(&mut positional)?;
    }
    if let Some(word) = positional.next() {
        return illegal(format!("unexpected argument {word}"));
    }
    line.read_scheduler_flags()?;
    line.check_topics()?;
    // They read commands themselves, or wait.
    let alone =
        [Command::Restore, Command::Apply, Command::Diff, Command::RestoreJson, Command::Drain];
    if setting.restoring && alone.contains(&command) {
        return Err(no_command());
    }
    line.finish()
}

/// A word that is not UTF-8 is none of those that are accepted; it stays recognisable.
fn text(argument: Option<&OsStr>) -> Option<Cow<'_, str>> {
    argument.map(OsStr::to_string_lossy)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::names::tests::FixedNames;
    use super::*;
    use crate::ipvs::{Change, Service, ServiceId};
    use crate::protocol::Protocol;

    fn setting() -> OptionValue<'static> {
        OptionValue { program: OsStr::new("ipvsadm"), posix: false, restoring: false }
    }

    fn read(line: &str) -> Result<Invocation, ArgumentError> {
        let words: Vec<&OsStr> = line.split_whitespace().map(OsStr::new).collect();
        parse(setting(), &words, &mut FixedNames::default())
    }

    fn refused(line: &str) -> (String, u8) {
        let error = read(line).expect_err(line);
        (error.to_string(), error.status())
    }

    #[test]
    fn a_service_gets_its_defaults() {
        let id = ServiceId::Address {
            protocol: Protocol::Tcp,
            addr: "1.2.3.4".parse().unwrap(),
            port: 80,
        };
        let wlc = Service::new(id, "wlc");
        assert_eq!(read("-A -t 1.2.3.4:80"), Ok(Invocation::Change(Change::AddService(wlc))));
        let rr = Service::new(id, "rr").persistent(360);
        assert_eq!(
            read("-A -s rr -p -t 1.2.3.4:http"),
            Ok(Invocation::Change(Change::AddService(rr)))
        );
    }

    #[test]
    fn only_nat_keeps_the_ports_of_real_servers() {
        let port = |line: &str| match read(line) {
            Ok(Invocation::Change(Change::AddDestination(_, d))) => d.id.port,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(port("-a -t 1.2.3.4:80 -r 10.0.0.1:8080 -m"), 8080);
        assert_eq!(port("-a -t 1.2.3.4:80 -r 10.0.0.1:8080 -g"), 80);
        assert_eq!(port("-a -t 1.2.3.4:80 -r 10.0.0.1:8080 -i"), 80);
        assert_eq!(port("-a -f 1 -r 10.0.0.1:8080"), 8080);
        assert_eq!(port("-a -t 1.2.3.4:80 -r 10.0.0.1 -m"), 80);
        assert_eq!(port("-a -r 10.0.0.1 -t 1.2.3.4:80 -m"), 0);
    }

    #[test]
    fn a_mask_before_an_ipv6_address_is_lost() {
        let mask = |line: &str| match read(line) {
            Ok(Invocation::Change(Change::AddService(service))) => service.netmask,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(mask("-A -p -M 64 -t [2001:db8::1]:80"), 128);
        assert_eq!(mask("-A -p -t [2001:db8::1]:80 -M 64"), 64);
        assert_eq!(mask("-A -p -M 255.255.0.0 -t 1.2.3.4:80"), 0xffff_0000);
        assert_eq!(mask("-A -f 1 -p -M 64 -6"), 128);
        assert_eq!(mask("-A -f 1 -6 -p -M 64"), 64);
    }

    #[test]
    fn the_first_option_is_a_command() {
        for line in ["-n", "-t 1.2.3.4:80 -A", "--bogus", "--help=1", "--start-daemon", "foo"] {
            let help = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
            assert_eq!(refused(line), (help.to_owned(), 255), "{line}");
        }
        assert_eq!(read("-hL"), Ok(Invocation::Help));
        assert_eq!(read("-v extra"), Ok(Invocation::Version));
    }

    #[test]
    fn a_second_command_is_named_by_the_word_it_came_in() {
        for (line, word) in [
            ("-LL", "-LL"),
            ("-L -C", "-C"),
            ("-L -h", "-h"),
            ("--start-daemon master --stop-daemon backup", "backup"),
        ] {
            assert_eq!(refused(line), (format!("invalid option `{word}'"), 2), "{line}");
        }
    }

    #[test]
    fn six_without_a_mark_is_refused_with_a_blank_line() {
        assert_eq!(refused("-A -6 -f 1"), ("-6 must follow -f\n".to_owned(), 2));
    }

    #[test]
    fn all_zeroes_are_all_counters() {
        assert_eq!(read("-Z"), Ok(Invocation::Change(Change::Zero(None))));
        assert_eq!(read("-Z -t 0.0.0.0"), Ok(Invocation::Change(Change::Zero(None))));
        assert!(matches!(read("-Z -t 0.0.0.0:1"), Ok(Invocation::Change(Change::Zero(Some(_))))));
    }

    #[test]
    fn an_empty_list_of_scheduler_flags_is_none() {
        assert!(read("-A -t 1.2.3.4:80 -b ,").is_ok(), "the original crashes here");
        match read("-A -t 1.2.3.4:80 -b ,sh-port,,flag-1 -s sh") {
            Ok(Invocation::Change(Change::AddService(service))) => assert_eq!(service.flags, 0x18),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scheduler_flags_are_read_before_it_is_asked_what_they_are_for() {
        let text = |line: &str| refused(line).0;
        assert_eq!(text("-L -b sh-port"), "incompatible scheduler flag `sh-port'");
        assert_eq!(text("-A -t 1.2.3.4 -b flag-9"), "invalid scheduler flag `flag-9'");
        assert_eq!(text("-A -b flag-9 extra"), "unexpected argument extra");
    }

    #[test]
    fn only_an_unknown_option_leaves_a_restore_going() {
        assert!(!read("-L --bogus").unwrap_err().ends_a_restore());
        assert!(read("-L foo").unwrap_err().ends_a_restore());
        assert!(read("foo").unwrap_err().ends_a_restore());
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(words in prop::collection::vec("\\PC{0,12}|-[a-zA-Z6]{1,4}", 1..8)) {
            let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
            let _ = parse(setting(), &words, &mut FixedNames::default());
        }
    }
}
