//! The command language, declared once.
//!
//! One table holds every command and option: its names, its argument and its sentence of help.
//! The parser ([`super::popt`], [`super::args`]) reads words by it; `--help`, the man page and
//! the completions ([`super::manual`]) are generated from it. Which option may go with which
//! command stands here too, as the checks and the documentation must agree on it.

/// A command: what an invocation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it
pub enum Command {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
}

impl Command {
    /// The name that error messages use; it is not always the long option's.
    pub fn name(self) -> &'static str {
        match self {
            Command::AddService => "add-service",
            Command::EditService => "edit-service",
            Command::DeleteService => "delete-service",
            Command::Flush => "flush",
            Command::List => "list",
            Command::AddServer => "add-server",
            Command::DeleteServer => "delete-server",
            Command::EditServer => "edit-server",
            Command::Set => "set",
            Command::StartDaemon => "start-daemon",
            Command::StopDaemon => "stop-daemon",
            Command::Restore => "restore",
            Command::Save => "save",
            Command::Zero => "zero",
        }
    }

    /// Whether `topic` may, must or must not accompany this command.
    pub fn rule(self, topic: Topic) -> Rule {
        use Command as C;
        use Topic as T;
        let (required, exclusive, optional): (&[Topic], &[Topic], &[Topic]) = match self {
            C::AddService | C::EditService => (
                &[T::ServiceAddress],
                &[],
                &[T::Scheduler, T::Persistent, T::Netmask, T::Ops, T::Pe, T::SchedFlags],
            ),
            C::DeleteService => (&[T::ServiceAddress], &[], &[]),
            C::Flush | C::Set | C::Restore => (&[], &[], &[]),
            C::Save => (&[], &[], &[T::Numeric]),
            C::Zero => (&[], &[], &[T::ServiceAddress]),
            C::List => (
                &[],
                &[T::Connection, T::ServiceAddress, T::Timeout, T::Daemon],
                &[
                    T::Numeric,
                    T::Stats,
                    T::Rate,
                    T::Thresholds,
                    T::PersistentConn,
                    T::Nosort,
                    T::Syncid,
                    T::Exact,
                    T::TunInfo,
                    T::Json,
                ],
            ),
            C::AddServer | C::EditServer => (
                &[T::ServiceAddress, T::RealServer],
                &[],
                &[
                    T::ForwardingMethod,
                    T::Weight,
                    T::UThreshold,
                    T::LThreshold,
                    T::TunType,
                    T::TunPort,
                    T::TunNocsum,
                    T::TunCsum,
                    T::TunRemcsum,
                ],
            ),
            C::DeleteServer => (&[T::ServiceAddress, T::RealServer], &[], &[]),
            C::StartDaemon => (
                &[],
                &[],
                &[
                    T::McastInterface,
                    T::Syncid,
                    T::McastGroup,
                    T::McastPort,
                    T::McastTtl,
                    T::SyncMaxlen,
                ],
            ),
            C::StopDaemon => (&[], &[], &[T::Syncid]),
        };
        if required.contains(&topic) {
            Rule::Required
        } else if exclusive.contains(&topic) {
            Rule::Exclusive
        } else if optional.contains(&topic) {
            Rule::Optional
        } else {
            Rule::Illegal
        }
    }
}

/// How an option goes with a command (or a tunnel option with a tunnel type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The command needs it.
    Required,
    /// At most one of the command's exclusive options.
    Exclusive,
    /// As one likes.
    Optional,
    /// Not with this command.
    Illegal,
}

/// What an option is about: the unit of the checks. Several options share one (`-t`, `-u` and
/// `-f` are all the service's address), and a topic may be given only once.
///
/// The order of the variants is the order in which the checks report, so it is part of the
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it
pub enum Topic {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Nosort,
    Syncid,
    Exact,
    Ops,
    Pe,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Json,
}

impl Topic {
    /// Every topic, in the order of the checks.
    pub const ALL: [Topic; 35] = [
        Topic::Numeric,
        Topic::Connection,
        Topic::ServiceAddress,
        Topic::Scheduler,
        Topic::Persistent,
        Topic::Netmask,
        Topic::RealServer,
        Topic::ForwardingMethod,
        Topic::Weight,
        Topic::UThreshold,
        Topic::LThreshold,
        Topic::McastInterface,
        Topic::Timeout,
        Topic::Daemon,
        Topic::Stats,
        Topic::Rate,
        Topic::Thresholds,
        Topic::PersistentConn,
        Topic::Nosort,
        Topic::Syncid,
        Topic::Exact,
        Topic::Ops,
        Topic::Pe,
        Topic::SchedFlags,
        Topic::McastGroup,
        Topic::McastPort,
        Topic::McastTtl,
        Topic::SyncMaxlen,
        Topic::TunInfo,
        Topic::TunType,
        Topic::TunPort,
        Topic::TunNocsum,
        Topic::TunCsum,
        Topic::TunRemcsum,
        Topic::Json,
    ];

    /// The name that error messages use.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Numeric => "numeric",
            Topic::Connection => "connection",
            Topic::ServiceAddress => "service-address",
            Topic::Scheduler => "scheduler",
            Topic::Persistent => "persistent",
            Topic::Netmask => "netmask",
            Topic::RealServer => "real-server",
            Topic::ForwardingMethod => "forwarding-method",
            Topic::Weight => "weight",
            Topic::UThreshold => "u-threshold",
            Topic::LThreshold => "l-threshold",
            Topic::McastInterface => "mcast-interface",
            Topic::Timeout => "timeout",
            Topic::Daemon => "daemon",
            Topic::Stats => "stats",
            Topic::Rate => "rate",
            Topic::Thresholds => "thresholds",
            Topic::PersistentConn => "persistent-conn",
            Topic::Nosort => "nosort",
            Topic::Syncid => "syncid",
            Topic::Exact => "exact",
            Topic::Ops => "ops",
            Topic::Pe => "pe",
            Topic::SchedFlags => "sched-flags",
            Topic::McastGroup => "mcast-group",
            Topic::McastPort => "mcast-port",
            Topic::McastTtl => "mcast-ttl",
            Topic::SyncMaxlen => "sync-maxlen",
            Topic::TunInfo => "tun-info",
            Topic::TunType => "tun-type",
            Topic::TunPort => "tun-port",
            Topic::TunNocsum => "tun-nocsum",
            Topic::TunCsum => "tun-csum",
            Topic::TunRemcsum => "tun-remcsum",
            Topic::Json => "json",
        }
    }
}

/// The topics that an invocation has given so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u64);

impl Topics {
    /// Adds one; `false` if it was there already.
    pub fn insert(&mut self, topic: Topic) -> bool {
        let bit = 1 << topic as u64;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }

    /// Whether it has been given.
    pub fn contains(self, topic: Topic) -> bool {
        self.0 & (1 << topic as u64) != 0
    }

    /// Whether any of them has been given.
    pub fn any(self, topics: &[Topic]) -> bool {
        topics.iter().any(|topic| self.contains(*topic))
    }
}

/// An option that is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the long options'
pub enum Opt {
    TcpService,
    UdpService,
    SctpService,
    FwmarkService,
    Ipv6,
    Scheduler,
    SchedFlags,
    Persistent,
    Netmask,
    Pe,
    Ops,
    RealServer,
    Gatewaying,
    Ipip,
    Masquerading,
    Weight,
    UThreshold,
    LThreshold,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Connection,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunInfo,
    Exact,
    Nosort,
    Sort,
    Numeric,
    Json,
    McastInterface,
    Syncid,
    SyncMaxlen,
    McastGroup,
    McastPort,
    McastTtl,
}

impl Opt {
    /// What it is about; `None` for `-6` and `--sort`, which go with every command and may
    /// be repeated.
    pub fn topic(self) -> Option<Topic> {
        Some(match self {
            Opt::Ipv6 | Opt::Sort => return None,
            Opt::TcpService | Opt::UdpService | Opt::SctpService | Opt::FwmarkService => {
                Topic::ServiceAddress
            }
            Opt::Gatewaying | Opt::Ipip | Opt::Masquerading => Topic::ForwardingMethod,
            Opt::Scheduler => Topic::Scheduler,
            Opt::SchedFlags => Topic::SchedFlags,
            Opt::Persistent => Topic::Persistent,
            Opt::Netmask => Topic::Netmask,
            Opt::Pe => Topic::Pe,
            Opt::Ops => Topic::Ops,
            Opt::RealServer => Topic::RealServer,
            Opt::Weight => Topic::Weight,
            Opt::UThreshold => Topic::UThreshold,
            Opt::LThreshold => Topic::LThreshold,
            Opt::TunType => Topic::TunType,
            Opt::TunPort => Topic::TunPort,
            Opt::TunNocsum => Topic::TunNocsum,
            Opt::TunCsum => Topic::TunCsum,
            Opt::TunRemcsum => Topic::TunRemcsum,
            Opt::Connection => Topic::Connection,
            Opt::Timeout => Topic::Timeout,
            Opt::Daemon => Topic::Daemon,
            Opt::Stats => Topic::Stats,
            Opt::Rate => Topic::Rate,
            Opt::Thresholds => Topic::Thresholds,
            Opt::PersistentConn => Topic::PersistentConn,
            Opt::TunInfo => Topic::TunInfo,
            Opt::Exact => Topic::Exact,
            Opt::Nosort => Topic::Nosort,
            Opt::Numeric => Topic::Numeric,
            Opt::Json => Topic::Json,
            Opt::McastInterface => Topic::McastInterface,
            Opt::Syncid => Topic::Syncid,
            Opt::SyncMaxlen => Topic::SyncMaxlen,
            Opt::McastGroup => Topic::McastGroup,
            Opt::McastPort => Topic::McastPort,
            Opt::McastTtl => Topic::McastTtl,
        })
    }
}

/// What an entry of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A command.
    Command(Command),
    /// The help; acts at once, when it comes first.
    Help,
    /// The version; acts at once, when it comes first.
    Version,
    /// An option.
    Option(Opt),
}

/// Whether an entry takes an argument, and what it is called in the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// None.
    None,
    /// The rest of the word, or the next word whatever it looks like.
    Required(&'static str, Values),
    /// The rest of the word, or the next word unless that begins with `-`.
    Optional(&'static str, Values),
}

/// What an argument can be, for the completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Anything.
    Any,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A host's name or address, with a port.
    Host,
    /// A network interface.
    Interface,
}

/// The headings under which the documentation groups the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the titles say it
pub enum Group {
    Commands,
    Service,
    Server,
    Tunnel,
    Listing,
    Daemon,
}

impl Group {
    /// Every group, in the order of the documentation.
    pub const ALL: [Group; 6] = [
        Group::Commands,
        Group::Service,
        Group::Server,
        Group::Tunnel,
        Group::Listing,
        Group::Daemon,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Commands => "Commands (exactly one, and it comes first)",
            Group::Service => "Which virtual service, and how it schedules",
            Group::Server => "Which real server, and how packets reach it",
            Group::Tunnel => "How a tunnelled real server's packets are wrapped",
            Group::Listing => "What a listing shows",
            Group::Daemon => "Connection synchronisation",
        }
    }
}

/// One command or option.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The long name, without dashes.
    pub long: &'static str,
    /// The short name; the table has a second entry for a second short name.
    pub short: Option<char>,
    /// Its argument.
    pub argument: Argument,
    /// What it stands for.
    pub meaning: Meaning,
    /// Its heading in the documentation.
    pub group: Group,
    /// One sentence of help.
    pub help: &'static str,
}

/// The kernel's schedulers, for the completions.
pub const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];

/// The words that `--sched-flags` knows.
pub const SCHEDULER_FLAGS: &[&str] =
    &["flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port"];

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
        "Print the table as the commands that make it, for --restore.",
    ),
    command(
        "restore",
        Some('R'),
        Command::Restore,
        "Read commands from standard input, one a line, and carry them out.",
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
        "The firewall mark given just before is one of IPv6 packets.",
    ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_short_name_stands_for_two_things() {
        let mut shorts: Vec<char> = TABLE.iter().filter_map(|entry| entry.short).collect();
        let all = shorts.len();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len(), all);
    }

    #[test]
    fn a_long_name_stands_for_one_thing() {
        for a in TABLE {
            for b in TABLE {
                assert!(a.long != b.long || a.meaning == b.meaning, "--{}", a.long);
            }
        }
    }

    #[test]
    fn the_checks_walk_the_topics_in_their_declared_order() {
        for (index, topic) in Topic::ALL.iter().enumerate() {
            assert_eq!(*topic as usize, index);
        }
    }

    #[test]
    fn a_topic_goes_in_once() {
        let mut topics = Topics::default();
        assert!(topics.insert(Topic::Json));
        assert!(!topics.insert(Topic::Json));
        assert!(topics.contains(Topic::Json) && !topics.contains(Topic::TunRemcsum));
    }

    #[test]
    fn every_help_is_a_sentence() {
        for entry in TABLE {
            assert!(entry.help.ends_with('.'), "--{}", entry.long);
        }
    }
}
