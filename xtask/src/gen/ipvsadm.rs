//! The man page and the completions of `ipvsadm-rs`.
//!
//! They are generated from the program's table of options. What the help says too is taken
//! from there; what only the page says stands here.

use std::fmt::Write as _;

use cvip::ipvsadm::help::{EXAMPLES, PLACEHOLDERS, STATUSES, SYNOPSIS};
use cvip::ipvsadm::options::{Argument, Group, Meaning, Opt, OptionEntry, TABLE, Values};

use super::completions::{OfferedOption, OfferedValue, Offers, Value};
use super::page::{DATE, TITLE};
use super::roff::{bold, literal, literal_line, paragraph, sentence};

/// What differs from ipvsadm 1.31, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "--help, --version and the messages for wrong arguments need neither IPVS nor root.",
        "People read the help, and build systems ask for the version, where there is no kernel \
         to talk to. The original tries the kernel first and fails with status 2.",
    ),
    (
        "The help and this page have words of their own.",
        "They are not derived from the original's.",
    ),
    (
        "The counters of real servers do not wrap at 4294967296.",
        "The original reads 64-bit counters of real servers, though not those of services, into \
         32 bits.",
    ),
    (
        "Weights go up to 2147483647, firewall marks are printed unsigned, and a misplaced -6 is \
         answered with `-6 must follow -f`.",
        "So they are in later builds of the original. Marks that an earlier build saved as \
         negative numbers are read as what they were; -1 in a restore alone.",
    ),
    ("--sched-flags with nothing but commas sets no flag.", "The original crashes."),
    (
        "--report, --keep-going, --stop-on-error and --check are new. They go with --restore.",
        "Without them a line that fails is hidden by those that follow. With them, lines whose \
         first word begins with # are comments; --check by itself takes none, as --restore by \
         itself, and under the name ipvsadm-restore those that it takes. A long line is cut in \
         its message.",
    ),
    (
        "--apply and --diff are new.",
        "Emptying the table and restoring it drops every service for a while. --apply reads the \
         language of --restore, with comments, as the description of a whole table: it makes the \
         changes that are missing, first those that add, then those that take away, so that no \
         service loses its last real server on the way. Time-outs and daemons are touched only \
         if the file speaks of them. If a line is wrong, nothing is changed; if the kernel \
         refuses an addition, nothing is taken away. A file without commands, one whose last line \
         has no newline, and one that names no service while the table has some are refused: \
         they are rather lost than meant. A file that has -C as its only line empties the table. \
         What --list --json prints is read too: of the table, or of time-outs or daemons alone.",
    ),
    (
        "--restore-json is new.",
        "A member that is unknown is refused by its name. It adds what --list --json has shown: the table, with thresholds; or the time-outs, or \
         the daemons. As --restore, it empties nothing first. A document with nothing to add is \
         refused. --check only reads it, as it does for --restore.",
    ),
    (
        "What cannot be written is an error: a message, and status 1 where all else went well.",
        "The original ignores it, and a table saved to a full disk is cut in the middle, with \
         status 0.",
    ),
    (
        "--save takes a file, and -t and its like, -4 or -6. -S takes no file.",
        "The file is written beside the old one, which it replaces when it is complete and on the \
         disk; it keeps the owner and the mode. What cannot be replaced so is left as it is. The \
         original refuses all of these; that -S FILE is an error stays. With a selection --full \
         leaves out time-outs and daemons, which are of no service.",
    ),
    (
        "--full is new. It goes with --save.",
        "Thresholds, time-outs, daemons and scheduler flags without a name are lost otherwise.",
    ),
    (
        "--interval, --count, --totals and --status are new.",
        "What --interval shows is counted between two readings, where --rate is an estimate of \
         the kernel's that follows slowly. The kernel adds its counters up every two seconds: a \
         shorter interval shows nothing at times, a multiple of two is even. --totals is \
         /proc/net/ip_vs_stats, --status is /proc/net/ip_vs_status.",
    ),
    (
        "--protocol, --service, --client, --destination and --state are new. They go with -c.",
        "A director can have millions of connections. They are read in large blocks and shown \
         one at a time, in the same memory however many there are. A prefix length takes a whole \
         network: --client 10.0.0.0/8.",
    ),
    (
        "The default listing and --save read /proc/net/ip_vs, beside netlink.",
        "One reading has the real servers of all services, in the kernel's order; until they are \
         sorted they are kept, in 36 bytes each. A service that the two do not agree on, because \
         the table changes, is asked for by netlink. Every other listing keeps the real servers \
         of one service at a time, and --interval a counter of each.",
    ),
    (
        "--keep is new. It goes with --edit-service and --edit-server.",
        "The original's edits set everything that is not repeated back to its default: \
         `-e ... -w 0' also makes a masqueraded real server a directly routed one. Scripts count \
         on that, so it stays, and --keep is an option of these commands and not a command beside \
         them: what can be named, and how, is the same. The entry is read, what is named is \
         changed, and nothing is sent if it is so already. The real server is the one that is \
         named: its port is not made the service's. What belongs to another type of tunnel is not \
         kept. Persistence and one-packet scheduling can be turned on and not off: that takes an \
         edit without --keep; `--pe \"\"' and `-b ,' name no engine and no flag. The kernel has no \
         means to read and write as one: what another program changes in between is lost.",
    ),
    (
        "--drain, --deadline and --progress are new.",
        "--drain gives the real server weight 0, which changes nothing else, waits, and deletes it. \
         Of a TCP or SCTP service it waits until there is no active connection (ActiveConn in the \
         listing), and as long as others are counted (InActConn: closing, or in a handshake) until \
         there has been none for 5 seconds. UDP is never active for the kernel, and a firewall mark \
         can be of UDP: there it waits until no connection is counted at all, which takes the UDP \
         time-out after the last datagram, and no end while a client keeps sending from one port. \
         After --deadline the real server is deleted with what is left. Clients of a persistent \
         service come back to a real server of weight 0 unless the setting \
         net.ipv4.vs.expire_quiescent_template is 1. Progress is shown on a terminal, or with \
         --progress: a line a second at most. SIGINT and SIGTERM end the wait: the real server \
         stays with weight 0, and the message has the command that gives its weight back. What \
         another program does to the real server meanwhile is left as it is. Where the virtual \
         service has no real server of the address, there is nothing to drain, which is said, with \
         status 0. In a restore --drain \
         is no command. On a director of cvipd, use cvipctl drain: cvipd gives a weight back that \
         others change.",
    ),
    (
        "--drain tells of UDP clients whose real server goes.",
        "Where net.ipv4.vs.expire_nodest_conn is 0, the kernel drops the datagrams of a client that \
         keeps sending from one port after its real server was deleted, until the UDP time-out of \
         its connection is over; where it is 1, the next datagram goes to another real server. \
         --drain says so once, before it waits, if standard error is a terminal. --delete-server \
         says nothing, as the original.",
    ),
    (
        "--json is new. It goes with every listing, and with --drain.",
        "Programs need not take text apart that was made for people.",
    ),
    (
        "--restore sends many changes to the kernel at once.",
        "That is much faster. They take effect in the order of the lines, messages come in that \
         order, and everything that has been read is done before more input is waited for. A \
         line of more than a mebibyte is refused; a word of more than 4096 bytes is not broken \
         into several, and a last line that ends in several blanks and no newline is not lost.",
    ),
    (
        "Each name is looked up once in a run.",
        "A listing of a thousand real servers does not ask the name server a thousand times. \
         Names still make listings differ from host to host: scripts use -n.",
    ),
    (
        "While others change the table, each service that stands throughout is shown, once.",
        "The kernel finds its place in a long listing by counting: what comes and goes meanwhile \
         makes it repeat services or pass over them. So a long listing is read until it stands \
         still, and what was in one reading only is asked for.",
    ),
    (
        "A closed pipe ends the program with status 0, not by a signal.",
        "`ipvsadm -Ln | head` is no failure.",
    ),
    (
        "ipvsadm-save and ipvsadm-restore are this program under those names, without a shell.",
        "They work where there is no bash. Where there is no IPVS they say so once.",
    ),
    (
        "A lost netlink socket has a message of its own, and ends a restore.",
        "The original says that the operation is invalid. What was done is then unknown, so \
         nothing is sent twice.",
    ),
    (
        "The sequence !#:+ in an argument has no meaning.",
        "It is a substitution of the option library of the original, for its aliases.",
    ),
    (
        "Bytes that are no UTF-8 come out as U+FFFD in messages, and a NUL does not end a word.",
        "Names of hosts and ports are looked up and listed as the bytes that they are. The original repeats such bytes as they are, and of a word that it restores it reads \
         what stands before a NUL. No table is saved with either.",
    ),
];

/// What is as it was although it surprises, or loses something.
const KEPT: &[&str] = &[
    "Options are read from left to right, and order matters: -6 comes after -f, --netmask after \
     an IPv6 service, -r after the service whose port or protocol it uses.",
    "--edit-service and --edit-server set everything that is not repeated back to its default, except with --keep.",
    "Listings are sorted by 32-bit differences that wrap, so 192.168.0.1 stands before 10.0.0.1.",
    "--save leaves out thresholds, time-outs and daemons without --full. Without -n it writes names for IPv6 \
     addresses, which --restore refuses; and flags that a scheduler has no name for as nothing.",
    "--restore empties nothing first (ipvsadm-restore does, also if it then reads nothing), by itself takes no comments \
     (ipvsadm-restore passes over lines that begin with #), and drops the word ipvsadm wherever it stands.",
    "A persistent service that names no time keeps its clients for 360 seconds.",
];

/// The members of the JSON documents.
const JSON: &[(&str, &str)] = &[
    (
        "schema",
        "The version of the documents, 1. It grows when a member changes or goes, not when one is \
      added.",
    ),
    (
        "ipvs_version, connection_table_size",
        "What the first line of the listing shows; absent \
      when one service is asked for.",
    ),
    (
        "one_service",
        "True when one service is asked for, else absent. Such a document is for --restore-json; \
      --apply and --diff refuse it, as it says nothing of the other services.",
    ),
    (
        "services",
        "One object a service: protocol, address and port, or fwmark and family (ipv4, \
      ipv6); scheduler, scheduler_flags, persistence_timeout_s, persistence_netmask and \
      persistence_engine where they are set, one_packet, stats, rate_per_s, destinations.",
    ),
    (
        "destinations",
        "One object a real server: address, port, forward (masquerade, local, tunnel, \
      route, bypass), weight, upper_threshold, lower_threshold, active_connections, \
      inactive_connections, persistent_connections, stats, rate_per_s, and for tunnels tunnel (type, \
      port, checksum: none, full or remote).",
    ),
    (
        "stats, rate_per_s",
        "connections, packets_in, packets_out, bytes_in, bytes_out: totals, and the \
      same per second. With --totals, those of all services together. With --interval there is \
      one document, on one line, for each interval, and they are of that interval.",
    ),
    (
        "connections",
        "With -c, one object a connection: protocol, client, service and server (each \
      with address and port), state, expires_s (seconds until it is forgotten), and persistence_engine and \
      persistence_data where there are some.",
    ),
    (
        "status",
        "With --status, a member for each line of the kernel's, named as it is there, with its \
      value as text.",
    ),
    ("timeouts", "With --timeout: tcp_s, tcp_fin_s, udp_s, in seconds."),
    (
        "daemons",
        "With --daemon, one object a daemon: role (master, backup), interface, sync_id, \
      max_len_bytes, group, port, ttl.",
    ),
    (
        "service, destination, ended, previous_weight, weight, lasted_s",
        "With --drain, when it is over: service has what a service is found by, destination its \
      address and port. ended is out (it is deleted, and nothing was left to wait for), cut (deleted \
      when the deadline was over), gone (another program deleted it), reweighted (another program \
      gave it a weight, and it stays), interrupted (it stays with weight 0) or absent (it was not \
      there). previous_weight is that before the drain, if it was there, weight that of a real server that stays, lasted_s whole seconds; \
      active_connections, inactive_connections and persistent_connections are those of the last look.",
    ),
];

/// The environment of the original's option library, and the commands for which it counts.
const ENVIRONMENT: &[(&str, &str)] = &[(
    "POSIXLY_CORRECT, POSIX_ME_HARDER",
    "Where one of these is set, options end at the first word that is none, as in the original.",
)];

/// The section on the unit.
const AT_BOOT: &[&str] = &[
    "packaging/ipvsadm-rs.service in the sources is a unit of systemd for a machine on which no cvipd \
     runs. It loads the module ip_vs, and applies /etc/ipvsadm.rules with --apply: at boot, and again \
     with `systemctl reload ipvsadm-rs'. When it stops, nothing is cleared: `systemctl stop', an \
     upgrade and a restart leave the table as it is, and the services serve on; \
     `ipvsadm-rs -C' empties the table.",
    "The file is what `ipvsadm-rs --save -n --full /etc/ipvsadm.rules' writes, with comments if so \
     desired; ipvsadm-save of Debian and of Fedora write such files too. On Fedora and its like the \
     file is /etc/sysconfig/ipvsadm: `systemctl edit ipvsadm-rs', with Environment=RULES=/etc/sysconfig/ipvsadm \
     below [Service]. Where neither file is there, or where /etc/cvip.conf is, the unit does nothing.",
    "The whole table is the file's: --apply deletes what the file does not describe. So the unit is \
     not for a machine on which another program, such as keepalived or kube-proxy, has services in \
     the same network namespace. A file with a wrong line, or without commands, changes nothing, and \
     the unit fails with the message in the journal; `ipvsadm-rs -R --check --report < FILE' says \
     what is wrong before.",
];

/// The man page, ipvsadm-rs(8), as roff.
pub(crate) fn man_page() -> String {
    let mut page = format!(
        ".\\\" Generated from the program's own table of options: do not edit.\n\
         .TH IPVSADM\\-RS 8 {DATE} {TITLE}\n\
         .SH NAME\n\
         ipvsadm\\-rs, ipvsadm\\-save, ipvsadm\\-restore \\- administer Linux Virtual Server\n\
         .SH SYNOPSIS\n",
    );
    let forms = SYNOPSIS.iter().map(|form| ("ipvsadm-rs", *form));
    for (program, form) in forms.chain([("ipvsadm-save", "[-n]"), ("ipvsadm-restore", "")]) {
        let _ = writeln!(page, ".SY {}", literal(program));
        for words in form.split(" [").enumerate().map(|(at, words)| match at {
            0 => literal_line(words),
            _ => literal_line(&format!("[{words}")),
        }) {
            let _ = writeln!(page, "{words}");
        }
        page.push_str(".YS\n");
    }
    for line in PLACEHOLDERS {
        let _ = writeln!(page, ".br\n{}", paragraph(line));
    }
    page.push_str(".SH DESCRIPTION\n");
    for (at, text) in [
        "Linux Virtual Server (IPVS) lets a kernel, the director, hand the connections of a \
         virtual service to a pool of real servers. This program shows and changes the kernel's \
         table of services and real servers. Its command language and its output are those of \
         ipvsadm 1.31, for which it is a drop-in replacement; COMPATIBILITY lists the \
         differences.",
        "A service is named by -t, -u or --sctp-service and an address with a port, or by -f and \
         a firewall mark. Port 0 is every port, for persistent services. Hosts and ports may be \
         names. An IPv6 address with a port stands in brackets: [2001:db8::1]:80.",
        "Under the name `ipvsadm-save` it prints the table as commands; as `ipvsadm-restore` it \
         empties the table and carries out such commands from standard input.",
    ]
    .into_iter()
    .enumerate()
    {
        let _ = writeln!(page, "{}{}", if at == 0 { "" } else { ".PP\n" }, paragraph(text));
    }
    page.push_str(".SH COMMANDS\nExactly one command is given, and it comes first.\n");
    push_entries(&mut page, Group::Commands);
    page.push_str(".SH OPTIONS\n");
    for group in Group::ALL.into_iter().filter(|group| *group != Group::Commands) {
        let _ = writeln!(page, ".SS {}", literal(group.title()));
        push_entries(&mut page, group);
    }
    let ports = "With -g and -i the real server's port is always the service's, except for firewall \
                 marks: only NAT rewrites ports. A real server of the other address family needs -i.";
    let json = "One object on one line, with these members. docs/json in the sources has a JSON Schema \
                for each document. `cvipctl convert --json` prints one for --restore-json.";
    let _ = writeln!(page, ".PP\n{}\n.SH JSON\n{}", paragraph(ports), paragraph(json));
    push_pairs(&mut page, JSON);
    page.push_str(".SH EXIT STATUS\n");
    push_pairs(&mut page, STATUSES);
    page.push_str(".SH ENVIRONMENT\n");
    push_pairs(&mut page, ENVIRONMENT);
    page.push_str(".SH EXAMPLES\n");
    for (at, (wanted, lines)) in EXAMPLES.iter().enumerate() {
        let apart = if at == 0 { "" } else { ".PP\n" };
        let _ = writeln!(page, "{apart}{}\n.PP\n.RS\n.EX", paragraph(wanted));
        for line in lines.lines() {
            let _ = writeln!(page, "ipvsadm\\-rs {}", literal(line));
        }
        page.push_str(".EE\n.RE\n");
    }
    page.push_str(".SH AT BOOT\n");
    for (at, text) in AT_BOOT.iter().enumerate() {
        let apart = if at == 0 { "" } else { ".PP\n" };
        let _ = writeln!(page, "{apart}{}", paragraph(text));
    }
    page.push_str(".SH FILES\n");
    push_pairs(
        &mut page,
        &[
            ("/proc/net/ip_vs_conn", "Where the connections are read."),
            ("/proc/net/ip_vs", "Where the real servers of the default listing are read."),
            ("/proc/net/ip_vs_stats", "Where the totals are read."),
            ("/proc/net/ip_vs_status", "Where it is read how full the kernel's tables are."),
            (
                "/proc/sys/net/ipv4/vs/expire_nodest_conn",
                "Where --drain reads what becomes of clients whose real server is deleted.",
            ),
            ("/etc/ipvsadm.rules", "The table that the unit ipvsadm-rs.service applies."),
            ("/etc/services", "The names of ports."),
        ],
    );
    page.push_str(".SH COMPATIBILITY\nWhat differs from ipvsadm 1.31, and why:\n");
    for (what, why) in DIFFERENCES {
        let _ = writeln!(page, ".IP \\(bu 2\n{}\n{}", paragraph(what), paragraph(why));
    }
    page.push_str(".PP\nWhat was kept although it may surprise:\n");
    for what in KEPT {
        let _ = writeln!(page, ".IP \\(bu 2\n{}", paragraph(what));
    }
    page.push_str(
        ".SH SEE ALSO\n.BR cvip (7),\n.BR setport_weight (8),\n.BR cvipctl (8),\n\
         .BR cvipd (8),\n.BR modprobe (8)\n",
    );
    page
}

fn push_entries(page: &mut String, group: Group) {
    for entry in TABLE.iter().filter(|entry| entry.group == group) {
        page.push_str(".TP\n");
        if let Some(short) = entry.short {
            let _ = write!(page, "{}, ", bold(&format!("-{short}")));
        }
        page.push_str(&bold(&format!("--{}", entry.long)));
        match entry.argument {
            Argument::None => page.push('\n'),
            Argument::Required(value, _) => {
                let _ = writeln!(page, " \\fI{}\\fR", literal(value));
            }
            Argument::Optional(value, _) => {
                let _ = writeln!(page, " [\\fI{}\\fR]", literal(value));
            }
        }
        let _ = writeln!(page, "{}", paragraph(&sentence(entry.help)));
    }
}

fn push_pairs(page: &mut String, pairs: &[(&str, &str)]) {
    for (name, text) in pairs {
        let _ = writeln!(page, ".TP\n{}\n{}", bold(name), paragraph(text));
    }
}

/// What shells offer for `ipvsadm-rs` and, as it stands in for it, `ipvsadm`.
pub(crate) fn offers() -> Offers {
    let options = TABLE.iter().map(|entry| OfferedOption {
        short: entry.short,
        long: entry.long.to_owned(),
        about: entry.help.to_owned(),
        value: match entry.argument {
            Argument::None => None,
            Argument::Required(name, values) => Some(offered(entry, name, values, false)),
            Argument::Optional(name, values) => Some(offered(entry, name, values, true)),
        },
        repeats: false,
    });
    Offers {
        names: vec!["ipvsadm-rs".to_owned(), "ipvsadm".to_owned()],
        options: options.collect(),
        positional: None,
        commands: Vec::new(),
        asks_cvipctl: false,
    }
}

fn offered(entry: &OptionEntry, name: &str, values: Values, is_optional: bool) -> OfferedValue {
    let value = match (entry.meaning, values) {
        (Meaning::Option(Opt::TcpService), _) => Value::Service("-t"),
        (Meaning::Option(Opt::UdpService), _) => Value::Service("-u"),
        (Meaning::Option(Opt::SctpService), _) => Value::Service("--sctp-service"),
        (_, Values::Any) => Value::Any,
        (_, Values::Words(words)) => {
            Value::Words(words.iter().map(|word| ((*word).to_owned(), String::new())).collect())
        }
        (_, Values::Host) => Value::Host,
        (_, Values::Interface) => Value::Interface,
    };
    OfferedValue { name: name.to_owned(), is_optional, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_man_page() {
        let page = man_page();
        for entry in TABLE {
            let name = format!("\\-\\-{}\\fR", literal(entry.long));
            assert!(page.contains(&name), "--{}", entry.long);
        }
    }

    #[test]
    fn the_man_page_has_its_sections() {
        let page = man_page();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "COMMANDS",
            "OPTIONS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "EXAMPLES",
            "COMPATIBILITY",
            "SEE ALSO",
        ] {
            assert!(page.contains(&format!(".SH {section}\n")), "{section}");
        }
        for line in page.lines().filter(|line| line.starts_with('.')) {
            let macros = [
                ".br", ".SH", ".SS", ".TP", ".TH", ".PP", ".IP", ".BR", ".EX", ".EE", ".RS", ".RE",
                ".SY", ".YS", ".\\\"",
            ];
            assert!(macros.contains(&line.split(' ').next().unwrap()), "{line}");
        }
    }
}
