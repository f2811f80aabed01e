//! What the table of commands and options is made of.

named! {
    /// A command: what an invocation does. Its word is that of error messages, which is not always
    /// the long option's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[allow(missing_docs)] // the words say it
    pub enum Command {
        AddService = "add-service",
        EditService = "edit-service",
        DeleteService = "delete-service",
        Flush = "flush",
        List = "list",
        AddServer = "add-server",
        DeleteServer = "delete-server",
        EditServer = "edit-server",
        Set = "set",
        StartDaemon = "start-daemon",
        StopDaemon = "stop-daemon",
        Restore = "restore",
        Save = "save",
        Zero = "zero",
        Apply = "apply",
        Diff = "diff",
        RestoreJson = "restore-json",
        Drain = "drain",
    }
}

impl Command {
    /// The topics that may accompany this command, and those that must.
    pub fn rules(self) -> OptionRules {
        use Command as C;
        use Topic as T;
        const SERVICE: OptionRules = OptionRules::new(
            &[T::ServiceAddress],
            &[],
            &[T::Scheduler, T::Persistent, T::Netmask, T::Ops, T::Pe, T::SchedFlags],
        );
        const SERVER: OptionRules = OptionRules::new(
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
        );
        const LIST: OptionRules = OptionRules::new(
            &[],
            &[T::Connection, T::ServiceAddress, T::Timeout, T::Daemon, T::Totals, T::Status],
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
                T::Interval,
                T::Count,
                T::OfProtocol,
                T::OfService,
                T::OfClient,
                T::OfDestination,
                T::OfState,
            ],
        );
        const DAEMON: OptionRules = OptionRules::new(
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
        );
        const DRAIN: OptionRules = OptionRules::new(
            &[T::ServiceAddress, T::RealServer],
            &[],
            &[T::Deadline, T::Progress, T::Json],
        );
        const RESTORE: OptionRules =
            OptionRules::new(&[], &[T::KeepGoing, T::StopOnError, T::Check], &[T::Report]);
        match self {
            C::AddService => SERVICE,
            C::EditService => const { SERVICE.and_optional(T::Keep) },
            C::DeleteService => const { OptionRules::new(&[T::ServiceAddress], &[], &[]) },
            C::Flush | C::Set | C::Diff => const { OptionRules::new(&[], &[], &[]) },
            C::RestoreJson => const { OptionRules::new(&[], &[], &[T::Check]) },
            C::Restore => RESTORE,
            C::Apply => const { OptionRules::new(&[], &[], &[T::DryRun]) },
            C::Save => {
                const { OptionRules::new(&[], &[T::ServiceAddress, T::Ipv4], &[T::Numeric, T::Full]) }
            }
            C::Zero => const { OptionRules::new(&[], &[], &[T::ServiceAddress]) },
            C::List => LIST,
            C::AddServer => SERVER,
            C::EditServer => const { SERVER.and_optional(T::Keep) },
            C::DeleteServer => {
                const { OptionRules::new(&[T::ServiceAddress, T::RealServer], &[], &[]) }
            }
            C::Drain => DRAIN,
            C::StartDaemon => DAEMON,
            C::StopDaemon => const { OptionRules::new(&[], &[], &[T::Syncid]) },
        }
    }
}

/// How the topics go with a command, or the tunnel's with a tunnel type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionRules {
    required: Topics,
    exclusive: Topics,
    optional: Topics,
}

impl OptionRules {
    /// Those that must be there, those of which one may, those that may; all others may not.
    pub const fn new(required: &[Topic], exclusive: &[Topic], optional: &[Topic]) -> OptionRules {
        OptionRules {
            required: Topics::of(required),
            exclusive: Topics::of(exclusive),
            optional: Topics::of(optional),
        }
    }

    /// The same, and one more that may be there.
    const fn and_optional(self, topic: Topic) -> OptionRules {
        OptionRules { optional: Topics(self.optional.0 | Topics::of(&[topic]).0), ..self }
    }

    /// How one topic goes with it.
    pub const fn rule(self, topic: Topic) -> Rule {
        if self.required.contains(topic) {
            Rule::Required
        } else if self.exclusive.contains(topic) {
            Rule::Exclusive
        } else if self.optional.contains(topic) {
            Rule::Optional
        } else {
            Rule::Illegal
        }
    }

    /// Whether these topics, and no others, may be given together.
    pub const fn accept(self, given: Topics) -> bool {
        let OptionRules { required, exclusive, optional } = self;
        let known = required.0 | exclusive.0 | optional.0;
        required.0 & !given.0 == 0
            && given.0 & !known == 0
            && (given.0 & exclusive.0).count_ones() <= 1
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

named! {
    /// What an option is about: the unit of the checks. Several options share one (`-t`, `-u` and
    /// `-f` are all the service's address), and a topic may be given only once.
    ///
    /// The order of the variants is the order in which the checks report, so it is part of the
    /// interface.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[allow(missing_docs)] // the words say it
    pub enum Topic {
        Numeric = "numeric",
        Connection = "connection",
        ServiceAddress = "service-address",
        Scheduler = "scheduler",
        Persistent = "persistent",
        Netmask = "netmask",
        RealServer = "real-server",
        ForwardingMethod = "forwarding-method",
        Weight = "weight",
        UThreshold = "u-threshold",
        LThreshold = "l-threshold",
        McastInterface = "mcast-interface",
        Timeout = "timeout",
        Daemon = "daemon",
        Stats = "stats",
        Rate = "rate",
        Thresholds = "thresholds",
        PersistentConn = "persistent-conn",
        Nosort = "nosort",
        Syncid = "syncid",
        Exact = "exact",
        Ops = "ops",
        Pe = "pe",
        SchedFlags = "sched-flags",
        McastGroup = "mcast-group",
        McastPort = "mcast-port",
        McastTtl = "mcast-ttl",
        SyncMaxlen = "sync-maxlen",
        TunInfo = "tun-info",
        TunType = "tun-type",
        TunPort = "tun-port",
        TunNocsum = "tun-nocsum",
        TunCsum = "tun-csum",
        TunRemcsum = "tun-remcsum",
        Json = "json",
        Report = "report",
        KeepGoing = "keep-going",
        StopOnError = "stop-on-error",
        Check = "check",
        DryRun = "dry-run",
        Full = "full",
        Totals = "totals",
        Status = "status",
        Interval = "interval",
        Count = "count",
        OfProtocol = "protocol",
        OfService = "service",
        OfClient = "client",
        OfDestination = "destination",
        OfState = "state",
        Ipv4 = "ipv4",
        Keep = "keep",
        Deadline = "deadline",
        Progress = "progress",
    }
}

/// The topics that an invocation has given so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u64);

impl Topics {
    /// These.
    pub const fn of(topics: &[Topic]) -> Topics {
        let mut bits = 0;
        let mut at = 0;
        // A `for` is not to be had in a constant.
        while at < topics.len() {
            bits |= 1 << topics[at] as u64;
            at += 1;
        }
        Topics(bits)
    }

    /// Adds one; `false` if it was there already.
    pub fn insert(&mut self, topic: Topic) -> bool {
        let bit = 1 << topic as u64;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }

    /// Whether it has been given.
    pub const fn contains(self, topic: Topic) -> bool {
        self.0 & (1 << topic as u64) != 0
    }

    /// Whether any of them has been given.
    pub const fn any(self, topics: Topics) -> bool {
        self.0 & topics.0 != 0
    }

    /// Those of them that have been given.
    pub const fn among(self, topics: Topics) -> Topics {
        Topics(self.0 & topics.0)
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
    Gatewaying,
    Ipip,
    Masquerading,
    Ipv6,
    Sort,
    /// The only one of its topic.
    Of(Topic),
}

impl Opt {
    /// What it is about; `None` for `-6` and `--sort`, which go with every command and may
    /// be repeated.
    pub fn topic(self) -> Option<Topic> {
        match self {
            Opt::Ipv6 | Opt::Sort => None,
            Opt::TcpService | Opt::UdpService | Opt::SctpService | Opt::FwmarkService => {
                Some(Topic::ServiceAddress)
            }
            Opt::Gatewaying | Opt::Ipip | Opt::Masquerading => Some(Topic::ForwardingMethod),
            Opt::Of(topic) => Some(topic),
        }
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
    Changes,
    Listing,
    Connections,
    Restoring,
    Daemon,
}

impl Group {
    /// Every group, in the order of the documentation.
    pub const ALL: [Group; 9] = [
        Group::Commands,
        Group::Service,
        Group::Server,
        Group::Tunnel,
        Group::Changes,
        Group::Listing,
        Group::Connections,
        Group::Restoring,
        Group::Daemon,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Commands => "Commands (exactly one, and it comes first)",
            Group::Service => "Which virtual service, and how it schedules",
            Group::Server => "Which real server, and how packets reach it",
            Group::Tunnel => "How a tunnelled real server's packets are wrapped",
            Group::Changes => "How an entry is edited, and a real server drained",
            Group::Listing => "What a listing shows",
            Group::Connections => "Which connections -c shows",
            Group::Restoring => "What is done with commands that are read",
            Group::Daemon => "Connection synchronisation",
        }
    }
}

/// One command or option.
#[derive(Clone, Copy, Debug)]
pub struct OptionEntry {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_accept_what_breaks_none_of_them() {
        let topics = |given: &[Topic]| Topics::of(given);
        let list = Command::List.rules();
        assert!(list.accept(topics(&[Topic::Numeric, Topic::Timeout])));
        assert!(!list.accept(topics(&[Topic::Daemon, Topic::Timeout])));
        assert!(!list.accept(topics(&[Topic::Weight])));
        let delete = Command::DeleteServer.rules();
        assert!(delete.accept(topics(&[Topic::RealServer, Topic::ServiceAddress])));
        assert!(!delete.accept(topics(&[Topic::RealServer])));
    }

    #[test]
    fn a_topic_goes_in_once() {
        let mut topics = Topics::default();
        assert!(topics.insert(Topic::Json));
        assert!(!topics.insert(Topic::Json));
        assert!(topics.contains(Topic::Json) && !topics.contains(Topic::TunRemcsum));
    }
}
