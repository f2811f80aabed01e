//! What `--help` prints.
//!
//! It is generated from [`super::options::TABLE`], so that no option is forgotten. What else
//! it says stands here once; the man page is made of the same.

use std::fmt::Write as _;

use super::options::{Argument, Group, OptionEntry, TABLE};

/// The width of the help.
const WIDTH: usize = 80;
/// Where the sentences of the help begin.
const INDENT: usize = 30;

/// The shapes of a command line.
pub const SYNOPSIS: &[&str] = &[
    "-A|-E SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS] [-M MASK]] [--pe ENGINE] [-o]",
    "-E SERVICE --keep [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M MASK] [--pe ENGINE] [-o]",
    "-D SERVICE",
    "-a|-e SERVICE -r HOST[:PORT] [-g|-i|-m] [-w WEIGHT] [-x MOST] [-y LEAST] [TUNNEL]",
    "-e SERVICE -r HOST[:PORT] --keep [-g|-i|-m] [-w WEIGHT] [-x MOST] [-y LEAST] [TUNNEL]",
    "-d SERVICE -r HOST[:PORT]",
    "--drain SERVICE -r HOST[:PORT] [--deadline SECONDS] [--progress] [--json]",
    "-L [SERVICE] [COLUMNS] [-n] [-X] [--nosort] [--json]",
    "-L -c [FILTERS] [-n] [--json]",
    "-L --timeout|--daemon|--totals|--status [--json]",
    "-L [SERVICE] [--stats] [--totals] --interval SECONDS [--count TIMES] [-n] [--json]",
    "-Z [SERVICE]",
    "-C",
    "-S [SERVICE|-4|-6] [-n] [--full]",
    "--save [SERVICE|-4|-6] [-n] [--full] [FILE]",
    "-R [--report|--keep-going|--stop-on-error|--check]",
    "--restore-json [--check] [FILE]",
    "--apply [--dry-run] [FILE]",
    "--diff [FILE]",
    "--set TCP TCPFIN UDP",
    "--start-daemon master|backup [--mcast-interface INTERFACE] [--syncid ID] [...]",
    "--stop-daemon master|backup",
    "-h|-v",
];

/// What stands for more than one option in the shapes.
pub const PLACEHOLDERS: &[&str] = &[
    "SERVICE is -t, -u or --sctp-service HOST[:PORT], or -f MARK [-6].",
    "COLUMNS is --stats, --rate, --thresholds, --persistent-conn or --tun-info.",
    "TUNNEL is --tun-type TYPE and what goes with it.",
    "FILTERS are --protocol, --service, --client, --destination and --state.",
    "FILE is standard input (of --save, standard output) if it is absent or -.",
];

/// Examples: what is wanted, and the words after the program's name.
pub const EXAMPLES: &[(&str, &str)] = &[
    ("A web service on 192.0.2.1, round robin:", "-A -t 192.0.2.1:80 -s rr"),
    (
        "Two real servers, the second with twice the share, by direct routing:",
        "-a -t 192.0.2.1:80 -r 192.0.2.11 -g\n-a -t 192.0.2.1:80 -r 192.0.2.12 -g -w 2",
    ),
    (
        "The same for IPv6, by NAT, to port 8080:",
        "-A -t [2001:db8::1]:80\n-a -t [2001:db8::1]:80 -r [2001:db8::11]:8080 -m",
    ),
    ("No new connections for one of them:", "-e -t 192.0.2.1:80 -r 192.0.2.12 --keep -w 0"),
    (
        "Take it out when its connections have ended, or after five minutes:",
        "--drain -t 192.0.2.1:80 -r 192.0.2.12 --deadline 300",
    ),
    ("Another scheduler, and all else as it is:", "-E -t 192.0.2.1:80 --keep -s wlc"),
    ("What there is, and how busy it is:", "-Ln\n-Ln --rate"),
    ("All of it for another program:", "-L --json"),
    ("Keep the table over a reboot:", "--save -n table\n-R < table"),
    ("The same with thresholds, time-outs and daemons:", "--save -n --full table"),
    (
        "See what is different from a file, and make it so, while traffic flows:",
        "--diff table\n--apply table",
    ),
    (
        "Find every line that is wrong, before and while it is carried out:",
        "-R --check --report < table\n-R --keep-going < table",
    ),
    ("The table as JSON, and back:", "-L --json > table.json\n--restore-json table.json"),
    ("What happens, every two seconds:", "-Ln --interval 2\n-L --totals --interval 2"),
    (
        "The connections of one client to one service:",
        "-Lnc --client 198.51.100.7 --service 192.0.2.1:80",
    ),
];

/// Exit statuses.
pub const STATUSES: &[(&str, &str)] = &[
    ("0", "Done. A reader that closes the pipe early is no failure."),
    (
        "1",
        "A listing failed: the service does not exist, the kernel did not answer, or what was to \
         be written could not be. --diff found differences. --drain left the real server in the \
         table: it was interrupted, or another program gave it a weight.",
    ),
    (
        "2",
        "An option or a value is wrong, or the kernel has no IPVS, or lets only root use it. A \
         restore ends here; what stands before the line is done.",
    ),
    (
        "255",
        "The kernel refused the change, or the words make no sense. A restore goes on after a \
         refused line and after an unknown option, and its status is that of its last line; \
         with --report and its like that of the first line that failed.",
    ),
];

/// The text of `--help`, for a program called `program`.
pub fn help(program: &str) -> String {
    let mut text = String::from(
        "Shows and changes the kernel's table of virtual services (IPVS). The command\n\
         language is ipvsadm's.\n\nUsage:\n",
    );
    for line in SYNOPSIS {
        push_wrapped(&mut text, &format!("  {program} {line}"), 2 + program.len() + 1);
    }
    for line in PLACEHOLDERS {
        let _ = writeln!(text, "  {line}");
    }
    for group in Group::ALL {
        let _ = write!(text, "\n{}:\n", group.title());
        for entry in TABLE.iter().filter(|entry| entry.group == group) {
            let names = format!("  {}", names(entry));
            if names.len() < INDENT {
                push_wrapped(&mut text, &format!("{names:<INDENT$}{}", entry.help), INDENT);
            } else {
                let _ = writeln!(text, "{names}");
                push_wrapped(&mut text, &format!("{:<INDENT$}{}", "", entry.help), INDENT);
            }
        }
    }
    text.push_str("\nExit status:\n");
    for (status, meaning) in STATUSES {
        push_wrapped(&mut text, &format!("  {status:<5}{meaning}"), 7);
    }
    text.push_str("\nEverything about it, with what differs from ipvsadm: man 8 ipvsadm-rs\n");
    text.push_str("\nExamples:\n");
    for (wanted, lines) in EXAMPLES {
        let _ = writeln!(text, "  {wanted}");
        for line in lines.lines() {
            let _ = writeln!(text, "    {program} {line}");
        }
    }
    text
}

/// `-s, --scheduler SCHEDULER`.
fn names(entry: &OptionEntry) -> String {
    let mut names = match entry.short {
        Some(short) => format!("-{short}, --{}", entry.long),
        None => format!("    --{}", entry.long),
    };
    match entry.argument {
        Argument::None => {}
        Argument::Required(value, _) => {
            let _ = write!(names, " {value}");
        }
        Argument::Optional(value, _) => {
            let _ = write!(names, " [{value}]");
        }
    }
    names
}

/// Appends `line`, broken at blanks before [`WIDTH`]; further lines are indented.
fn push_wrapped(text: &mut String, line: &str, indent: usize) {
    let mut rest = line;
    let mut margin = 0;
    while margin + rest.len() > WIDTH {
        let room = WIDTH - margin;
        let blank = rest
            .char_indices()
            .take_while(|(at, _)| *at <= room)
            .filter(|(at, c)| *c == ' ' && !rest[..*at].trim().is_empty())
            .map(|(at, _)| at)
            .last();
        let Some(at) = blank else { break };
        let _ = writeln!(text, "{:margin$}{}", "", rest[..at].trim_end());
        rest = rest[at..].trim_start();
        margin = indent;
    }
    let _ = writeln!(text, "{:margin$}{rest}", "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_help() {
        let help = help("ipvsadm");
        for entry in TABLE {
            assert!(help.contains(&format!("--{}", entry.long)), "--{}", entry.long);
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        for line in help("ipvsadm-rs").lines() {
            assert!(line.len() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
        let text = help("ipvsadm-rs");
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("Examples:\n  A web service on 192.0.2.1"), "{last}");
        assert_eq!(text.matches("Examples:").count(), 1);
    }

    #[test]
    fn a_line_without_blanks_is_not_broken() {
        let mut text = String::new();
        push_wrapped(&mut text, &"x".repeat(100), 4);
        assert_eq!(text.len(), 101);
        let mut text = String::new();
        push_wrapped(&mut text, &"ab ".repeat(40), 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH) && text.contains("\n    ab"));
    }
}
