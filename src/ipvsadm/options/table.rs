//! The table itself: every command and option, in the order of the documentation.

use super::{Argument, Command, Entry, Group, Meaning, Opt, Values};

/// The kernel's schedulers, for the completions.
pub const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];

/// The words that `--sched-flags` knows.
pub const SCHEDULER_FLAGS: &[&str] =
    &["flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port"];

/// The words of connection states (net/netfilter/ipvs/ip_vs_proto_*.c), for the completions.
const STATES: &[&str] = &[
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "UDP",
    "ASSURED",
];

const ROLES: Values = Values::Words(&["master", "backup"]);
const NUMBER: Values = Values::Any;

const fn command(long: &'static str, short: Option<char>, c: Command, help: &'static str) -> Entry {
    Entry {
        long,
        short,
        argument: Argument::None,
        meaning: Meaning::Command(c),
        group: Group::Commands,
        help,
    }
}

const fn flag(
    group: Group,
    long: &'static str,
    short: Option<char>,
    option: Opt,
    help: &'static str,
) -> Entry {
    Entry { long, short, argument: Argument::None, meaning: Meaning::Option(option), group, help }
}

const fn value(
    group: Group,
    long: &'static str,
    short: Option<char>,
    argument: Argument,
    option: Opt,
    help: &'static str,
) -> Entry {
    Entry { long, short, argument, meaning: Meaning::Option(option), group, help }
}

/// Every command and option.
pub const TABLE: &[Entry] = &[
    command("add-service", Some('A'), Command::AddService, "Add a virtual service."),
    command(
        "edit-service",
        Some('E'),
        Command::EditService,
        "Change a virtual service; what is not repeated returns to its default.",
    ),
    command(
        "delete-service",
        Some('D'),
        Command::DeleteService,
        "Delete a virtual service with all of its real servers.",
    ),
    command("clear", Some('C'), Command::Flush, "Empty the table: delete every virtual service."),
    command("add-server", Some('a'), Command::AddServer, "Add a real server to a virtual service."),
    command(
        "edit-server",
        Some('e'),
        Command::EditServer,
        "Change a real server; what is not repeated returns to its default.",
    ),
    command(
        "delete-server",
        Some('d'),
        Command::DeleteServer,
        "Take a real server out of a virtual service.",
    ),
    command(
        "list",
        Some('L'),
        Command::List,
        "Show the table, or one service, the connections, the time-outs or the daemons; this is \
         also what happens without any argument.",
    ),
    command("list", Some('l'), Command::List, "The same as -L."),
    command(
        "zero",
        Some('Z'),
        Command::Zero,
        "Set the counters of one service, or of all, back to zero.",
    ),
    command(
        "save",
        Some('S'),
        Command::Save,
        "Print the table as the commands that make it, for --restore; all of it, one service \
         (-t and its like), or one address family (-4, -6). The long form takes a file to replace \
         as one: what is there stays until all is written.",
    ),
    command(
        "restore",
        Some('R'),
        Command::Restore,
        "Read commands from standard input, one a line, and carry them out.",
    ),
    command(
        "restore-json",
        None,
        Command::RestoreJson,
        "Add what a JSON document of --list holds; it is read from the file that follows, or \
         from standard input.",
    ),
    command(
        "apply",
        None,
        Command::Apply,
        "Make the table what the commands in the file that follows (or on standard input) \
         describe, or the document that --list --json printed of a whole table, with the fewest \
         changes, additions before deletions. Services that are not described are deleted, if any \
         is.",
    ),
    command(
        "diff",
        None,
        Command::Diff,
        "Print the changes that --apply would make, as commands; the exit status is 1 if there \
         are any, 0 if there are none, and 2 if it cannot be told.",
    ),
    command(
        "set",
        None,
        Command::Set,
        "Set the connection time-outs to the three numbers of seconds that follow (TCP, TCP \
         after FIN, UDP); 0 keeps the present one.",
    ),
    Entry {
        long: "start-daemon",
        short: None,
        argument: Argument::Required("master|backup", ROLES),
        meaning: Meaning::Command(Command::StartDaemon),
        group: Group::Commands,
        help: "Start the daemon that sends (master) or receives (backup) connection state.",
    },
    Entry {
        long: "stop-daemon",
        short: None,
        argument: Argument::Required("master|backup", ROLES),
        meaning: Meaning::Command(Command::StopDaemon),
        group: Group::Commands,
        help: "Stop that daemon.",
    },
    Entry {
        long: "help",
        short: Some('h'),
        argument: Argument::None,
        meaning: Meaning::Help,
        group: Group::Commands,
        help: "Print this help.",
    },
    Entry {
        long: "version",
        short: Some('v'),
        argument: Argument::None,
        meaning: Meaning::Version,
        group: Group::Commands,
        help: "Print the version.",
    },
    value(
        Group::Service,
        "tcp-service",
        Some('t'),
        Argument::Required("HOST[:PORT]", Values::Host),
        Opt::TcpService,
        "The TCP service at this address; brackets go around an IPv6 address with a port.",
    ),
    value(
        Group::Service,
        "udp-service",
        Some('u'),
        Argument::Required("HOST[:PORT]", Values::Host),
        Opt::UdpService,
        "The UDP service at this address.",
    ),
    value(
        Group::Service,
        "sctp-service",
        None,
        Argument::Required("HOST[:PORT]", Values::Host),
        Opt::SctpService,
        "The SCTP service at this address.",
    ),
    value(
        Group::Service,
        "fwmark-service",
        Some('f'),
        Argument::Required("MARK", NUMBER),
        Opt::FwmarkService,
        "The service of packets with this firewall mark, 1 to 4294967295.",
    ),
    flag(
        Group::Service,
        "ipv6",
        Some('6'),
        Opt::Ipv6,
        "The firewall mark given just before is one of IPv6 packets; with --save and no mark: \
         save IPv6 services alone.",
    ),
    flag(Group::Service, "ipv4", Some('4'), Opt::Ipv4, "With --save: save IPv4 services alone."),
    value(
        Group::Service,
        "scheduler",
        Some('s'),
        Argument::Required("SCHEDULER", Values::Words(SCHEDULERS)),
        Opt::Scheduler,
        "How the service chooses a real server; wlc by default.",
    ),
    value(
        Group::Service,
        "sched-flags",
        Some('b'),
        Argument::Required("FLAGS", Values::Words(SCHEDULER_FLAGS)),
        Opt::SchedFlags,
        "Settings of the scheduler, separated by commas: flag-1, flag-2, flag-3, or by name \
         sh-fallback, sh-port, mh-fallback, mh-port.",
    ),
    value(
        Group::Service,
        "persistent",
        Some('p'),
        Argument::Optional("SECONDS", NUMBER),
        Opt::Persistent,
        "A client stays with its real server for this long after its last connection, 1 to \
         2678400; 360 by default.",
    ),
    value(
        Group::Service,
        "netmask",
        Some('M'),
        Argument::Required("MASK", Values::Any),
        Opt::Netmask,
        "Persistence takes clients of one network as one: a dotted mask for IPv4, a prefix \
         length for IPv6.",
    ),
    value(
        Group::Service,
        "pe",
        None,
        Argument::Required("ENGINE", Values::Words(&["sip"])),
        Opt::Pe,
        "The persistence engine that recognises a client by more than its address, such as sip.",
    ),
    flag(
        Group::Service,
        "ops",
        Some('o'),
        Opt::Ops,
        "Schedule every packet on its own; for UDP services and firewall marks.",
    ),
    value(
        Group::Server,
        "real-server",
        Some('r'),
        Argument::Required("HOST[:PORT]", Values::Host),
        Opt::RealServer,
        "The real server; its port is the service's unless one is given.",
    ),
    flag(
        Group::Server,
        "gatewaying",
        Some('g'),
        Opt::Gatewaying,
        "Direct routing: the real server has the virtual address itself. The default.",
    ),
    flag(
        Group::Server,
        "ipip",
        Some('i'),
        Opt::Ipip,
        "Tunnelling: packets travel to the real server inside packets of their own.",
    ),
    flag(
        Group::Server,
        "masquerading",
        Some('m'),
        Opt::Masquerading,
        "Masquerading (NAT): addresses are rewritten both ways.",
    ),
    value(
        Group::Server,
        "weight",
        Some('w'),
        Argument::Required("WEIGHT", NUMBER),
        Opt::Weight,
        "Its share of new connections, 0 (quiesced: none) to 2147483647; 1 by default.",
    ),
    value(
        Group::Server,
        "u-threshold",
        Some('x'),
        Argument::Required("CONNECTIONS", NUMBER),
        Opt::UThreshold,
        "Give it no new connection above this many; 0, the default, is no limit.",
    ),
    value(
        Group::Server,
        "l-threshold",
        Some('y'),
        Argument::Required("CONNECTIONS", NUMBER),
        Opt::LThreshold,
        "After the upper threshold, use it again below this many; 0 is three quarters of the \
         upper one.",
    ),
    value(
        Group::Tunnel,
        "tun-type",
        None,
        Argument::Required("TYPE", Values::Words(&["ipip", "gue", "gre"])),
        Opt::TunType,
        "ipip (the default), gue or gre.",
    ),
    value(
        Group::Tunnel,
        "tun-port",
        None,
        Argument::Required("PORT", NUMBER),
        Opt::TunPort,
        "The UDP port of a gue tunnel, which needs one.",
    ),
    flag(
        Group::Tunnel,
        "tun-nocsum",
        None,
        Opt::TunNocsum,
        "Without a checksum (gue, gre). The default.",
    ),
    flag(Group::Tunnel, "tun-csum", None, Opt::TunCsum, "With a checksum (gue, gre)."),
    flag(Group::Tunnel, "tun-remcsum", None, Opt::TunRemcsum, "With remote checksum (gue)."),
    flag(
        Group::Listing,
        "connection",
        Some('c'),
        Opt::Connection,
        "Show the connections instead of the table.",
    ),
    flag(Group::Listing, "timeout", None, Opt::Timeout, "Show the time-outs that --set sets."),
    flag(Group::Listing, "daemon", None, Opt::Daemon, "Show the synchronisation daemons."),
    flag(Group::Listing, "stats", None, Opt::Stats, "Show totals: connections, packets and bytes."),
    flag(Group::Listing, "rate", None, Opt::Rate, "Show the same per second."),
    flag(Group::Listing, "thresholds", None, Opt::Thresholds, "Show the connection thresholds."),
    flag(
        Group::Listing,
        "persistent-conn",
        None,
        Opt::PersistentConn,
        "Show persistent connections; with -c, the persistence engine's data.",
    ),
    flag(Group::Listing, "tun-info", None, Opt::TunInfo, "Show how packets are tunnelled."),
    flag(
        Group::Listing,
        "exact",
        Some('X'),
        Opt::Exact,
        "Print counters in full, never as 12345K.",
    ),
    flag(Group::Listing, "nosort", None, Opt::Nosort, "Leave the table in the kernel's order."),
    flag(
        Group::Listing,
        "sort",
        None,
        Opt::Sort,
        "Nothing: sorting is the default. It is accepted with every command, for old scripts.",
    ),
    flag(
        Group::Listing,
        "numeric",
        Some('n'),
        Opt::Numeric,
        "Print addresses and ports as numbers, without looking up names.",
    ),
    flag(
        Group::Listing,
        "json",
        None,
        Opt::Json,
        "Print the listing as one JSON document, with everything in it and names left out.",
    ),
    flag(
        Group::Listing,
        "totals",
        None,
        Opt::Totals,
        "Show the counters of all services together, and the same per second.",
    ),
    flag(
        Group::Listing,
        "status",
        None,
        Opt::Status,
        "Show how full the kernel's tables of connections and services are (Linux 7.1 and later).",
    ),
    value(
        Group::Listing,
        "interval",
        None,
        Argument::Required("SECONDS", NUMBER),
        Opt::Interval,
        "List again and again, after so many seconds each time, what happened in between: per \
         second, or with --stats in all.",
    ),
    value(
        Group::Listing,
        "count",
        None,
        Argument::Required("TIMES", NUMBER),
        Opt::Count,
        "End after so many listings of --interval.",
    ),
    flag(
        Group::Listing,
        "full",
        None,
        Opt::Full,
        "With --save: save thresholds, time-outs and daemons too.",
    ),
    value(
        Group::Connections,
        "protocol",
        None,
        Argument::Required("PROTOCOL", Values::Words(&["tcp", "udp", "sctp"])),
        Opt::OfProtocol,
        "Those of this protocol.",
    ),
    value(
        Group::Connections,
        "service",
        None,
        Argument::Required("HOST[/PREFIX][:PORT]", Values::Host),
        Opt::OfService,
        "Those to this virtual address; brackets go around an IPv6 address with a port.",
    ),
    value(
        Group::Connections,
        "client",
        None,
        Argument::Required("HOST[/PREFIX][:PORT]", Values::Host),
        Opt::OfClient,
        "Those of this client, or of this network.",
    ),
    value(
        Group::Connections,
        "destination",
        None,
        Argument::Required("HOST[/PREFIX][:PORT]", Values::Host),
        Opt::OfDestination,
        "Those to this real server.",
    ),
    value(
        Group::Connections,
        "state",
        None,
        Argument::Required("STATE", Values::Words(STATES)),
        Opt::OfState,
        "Those in this state, such as ESTABLISHED.",
    ),
    flag(
        Group::Restoring,
        "report",
        None,
        Opt::Report,
        "With --restore: name each line that fails, with its number and text, say how many were \
         carried out, and fail if one did.",
    ),
    flag(
        Group::Restoring,
        "keep-going",
        None,
        Opt::KeepGoing,
        "As --report, and go on whatever fails.",
    ),
    flag(
        Group::Restoring,
        "stop-on-error",
        None,
        Opt::StopOnError,
        "As --report, and end at the first line that fails; slower, as each line is waited for.",
    ),
    flag(
        Group::Restoring,
        "check",
        None,
        Opt::Check,
        "With --restore: only read the commands and name each line that it would refuse for its \
         words; with --report too, read comments as that does. Needs neither IPVS nor root.",
    ),
    flag(
        Group::Restoring,
        "dry-run",
        None,
        Opt::DryRun,
        "With --apply: print the changes instead of making them.",
    ),
    value(
        Group::Daemon,
        "mcast-interface",
        None,
        Argument::Required("INTERFACE", Values::Interface),
        Opt::McastInterface,
        "The interface that carries the synchronisation; eth0 by default.",
    ),
    value(
        Group::Daemon,
        "syncid",
        None,
        Argument::Required("ID", NUMBER),
        Opt::Syncid,
        "Which synchronisation it belongs to, 0 to 255; 0 by default.",
    ),
    value(
        Group::Daemon,
        "sync-maxlen",
        None,
        Argument::Required("BYTES", NUMBER),
        Opt::SyncMaxlen,
        "The largest message, 1 to 65507; by default what the interface's MTU allows.",
    ),
    value(
        Group::Daemon,
        "mcast-group",
        None,
        Argument::Required("ADDRESS", Values::Any),
        Opt::McastGroup,
        "The multicast group, IPv4 or IPv6; 224.0.0.81 by default.",
    ),
    value(
        Group::Daemon,
        "mcast-port",
        None,
        Argument::Required("PORT", NUMBER),
        Opt::McastPort,
        "Its UDP port, 1 to 65535; 8848 by default.",
    ),
    value(
        Group::Daemon,
        "mcast-ttl",
        None,
        Argument::Required("TTL", NUMBER),
        Opt::McastTtl,
        "The time to live of its packets, 1 to 255; 1 by default.",
    ),
];
