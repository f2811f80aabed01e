//! The table itself: every command and option, in the order of the documentation.

use super::entry::Argument::{None as No, Optional, Required};
use super::entry::Group::{
    Changes, Connections, Daemon, Listing, Restoring, Server, Service, Tunnel,
};
use super::entry::Meaning::{Command, Help, Version};
use super::entry::Opt::*;
use super::entry::Values::{Any, Host, Interface, Words};
use super::entry::{Argument, Command as C, Group, Meaning, Opt, OptionEntry, Topic as T};
use crate::ipvs::limits::SCHEDULERS;

/// The words that `--sched-flags` knows.
const SCHEDULER_FLAGS: &[&str] =
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

const ROLES: &[&str] = &["master", "backup"];

const fn command(
    long: &'static str,
    short: Option<char>,
    argument: Argument,
    meaning: Meaning,
    help: &'static str,
) -> OptionEntry {
    OptionEntry { long, short, argument, meaning, group: Group::Commands, help }
}

const fn option(
    group: Group,
    long: &'static str,
    short: Option<char>,
    argument: Argument,
    option: Opt,
    help: &'static str,
) -> OptionEntry {
    OptionEntry { long, short, argument, meaning: Meaning::Option(option), group, help }
}

/// Every command and option.
#[rustfmt::skip] // a row for each, with its help below it
pub const TABLE: &[OptionEntry] = &[
    command("add-service", Some('A'), No, Command(C::AddService),
        "Add a virtual service."),
    command("edit-service", Some('E'), No, Command(C::EditService),
        "Change a virtual service; what is not repeated returns to its default, except with --keep."),
    command("delete-service", Some('D'), No, Command(C::DeleteService),
        "Delete a virtual service with all of its real servers."),
    command("clear", Some('C'), No, Command(C::Flush),
        "Empty the table: delete every virtual service."),
    command("add-server", Some('a'), No, Command(C::AddServer),
        "Add a real server to a virtual service."),
    command("edit-server", Some('e'), No, Command(C::EditServer),
        "Change a real server; what is not repeated returns to its default, except with --keep."),
    command("delete-server", Some('d'), No, Command(C::DeleteServer),
        "Take a real server out of a virtual service."),
    command("drain", None, No, Command(C::Drain),
        "Take a real server out of a virtual service when its connections have ended: give it \
         weight 0, wait until none is left or --deadline is over, and delete it."),
    command("list", Some('L'), No, Command(C::List),
        "Show the table, or one service, the connections, the time-outs or the daemons; this is \
         also what happens without any argument."),
    command("list", Some('l'), No, Command(C::List),
        "The same as -L."),
    command("zero", Some('Z'), No, Command(C::Zero),
        "Set the counters of one service, or of all, back to zero."),
    command("save", Some('S'), No, Command(C::Save),
        "Print the table as the commands that make it, for --restore; all of it, one service (-t \
         and its like), or one address family (-4, -6). The long form takes a file to replace as \
         one: what is there stays until all is written."),
    command("restore", Some('R'), No, Command(C::Restore),
        "Read commands from standard input, one a line, and carry them out."),
    command("restore-json", None, No, Command(C::RestoreJson),
        "Add what a JSON document of --list holds; it is read from the file that follows, or from \
         standard input."),
    command("apply", None, No, Command(C::Apply),
        "Make the table what the commands in the file that follows (or on standard input) \
         describe, or the document that --list --json printed of a whole table, with the fewest \
         changes, additions before deletions. Services that are not described are deleted, if any \
         is."),
    command("diff", None, No, Command(C::Diff),
        "Print the changes that --apply would make, as commands; the exit status is 1 if there are \
         any, 0 if there are none, and 2 if it cannot be told."),
    command("set", None, No, Command(C::Set),
        "Set the connection time-outs to the three numbers of seconds that follow (TCP, TCP after \
         FIN, UDP); 0 keeps the present one."),
    command("start-daemon", None, Required("master|backup", Words(ROLES)), Command(C::StartDaemon),
        "Start the daemon that sends (master) or receives (backup) connection state."),
    command("stop-daemon", None, Required("master|backup", Words(ROLES)), Command(C::StopDaemon),
        "Stop that daemon."),
    command("help", Some('h'), No, Help,
        "Print this help."),
    command("version", Some('v'), No, Version,
        "Print the version."),
    option(Service, "tcp-service", Some('t'), Required("HOST[:PORT]", Host), TcpService,
        "The TCP service at this address; brackets go around an IPv6 address with a port."),
    option(Service, "udp-service", Some('u'), Required("HOST[:PORT]", Host), UdpService,
        "The UDP service at this address."),
    option(Service, "sctp-service", None, Required("HOST[:PORT]", Host), SctpService,
        "The SCTP service at this address."),
    option(Service, "fwmark-service", Some('f'), Required("MARK", Any), FwmarkService,
        "The service of packets with this firewall mark, 1 to 4294967295."),
    option(Service, "ipv6", Some('6'), No, Ipv6,
        "The firewall mark given just before is one of IPv6 packets; with --save and no mark: save \
         IPv6 services alone."),
    option(Service, "ipv4", Some('4'), No, Of(T::Ipv4),
        "With --save: save IPv4 services alone."),
    option(Service, "scheduler", Some('s'), Required("SCHEDULER", Words(&SCHEDULERS)),
        Of(T::Scheduler), "How the service chooses a real server; wlc by default."),
    option(Service, "sched-flags", Some('b'), Required("FLAGS", Words(SCHEDULER_FLAGS)),
        Of(T::SchedFlags), "Settings of the scheduler, separated by commas: flag-1, flag-2, \
         flag-3, or by name sh-fallback, sh-port, mh-fallback, mh-port."),
    option(Service, "persistent", Some('p'), Optional("SECONDS", Any), Of(T::Persistent),
        "A client stays with its real server for this long after its last connection, 1 to \
         2678400; 360 by default."),
    option(Service, "netmask", Some('M'), Required("MASK", Any), Of(T::Netmask),
        "Persistence takes clients of one network as one: a dotted mask for IPv4, a prefix length \
         for IPv6."),
    option(Service, "pe", None, Required("ENGINE", Words(&["sip"])), Of(T::Pe),
        "The persistence engine that recognises a client by more than its address, such as sip."),
    option(Service, "ops", Some('o'), No, Of(T::Ops),
        "Schedule every packet on its own; for UDP services and firewall marks."),
    option(Server, "real-server", Some('r'), Required("HOST[:PORT]", Host), Of(T::RealServer),
        "The real server; its port is the service's unless one is given."),
    option(Server, "gatewaying", Some('g'), No, Gatewaying,
        "Direct routing: the real server has the virtual address itself. The default."),
    option(Server, "ipip", Some('i'), No, Ipip,
        "Tunnelling: packets travel to the real server inside packets of their own."),
    option(Server, "masquerading", Some('m'), No, Masquerading,
        "Masquerading (NAT): addresses are rewritten both ways."),
    option(Server, "weight", Some('w'), Required("WEIGHT", Any), Of(T::Weight),
        "Its share of new connections, 0 (quiesced: none) to 2147483647; 1 by default."),
    option(Server, "u-threshold", Some('x'), Required("CONNECTIONS", Any), Of(T::UThreshold),
        "Give it no new connection above this many; 0, the default, is no limit."),
    option(Server, "l-threshold", Some('y'), Required("CONNECTIONS", Any), Of(T::LThreshold),
        "After the upper threshold, use it again below this many; 0 is three quarters of the upper \
         one."),
    option(Tunnel, "tun-type", None, Required("TYPE", Words(&["ipip", "gue", "gre"])),
        Of(T::TunType), "ipip (the default), gue or gre."),
    option(Tunnel, "tun-port", None, Required("PORT", Any), Of(T::TunPort),
        "The UDP port of a gue tunnel, which needs one."),
    option(Tunnel, "tun-nocsum", None, No, Of(T::TunNocsum),
        "Without a checksum (gue, gre). The default."),
    option(Tunnel, "tun-csum", None, No, Of(T::TunCsum),
        "With a checksum (gue, gre)."),
    option(Tunnel, "tun-remcsum", None, No, Of(T::TunRemcsum),
        "With remote checksum (gue)."),
    option(Changes, "keep", None, No, Of(T::Keep),
        "With --edit-service and --edit-server: what is not named stays as it is."),
    option(Changes, "deadline", None, Required("SECONDS", Any), Of(T::Deadline),
        "With --drain: delete the real server after so long, whatever is left; 0 to 2678400. \
         Without it there is no end to the wait."),
    option(Changes, "progress", None, No, Of(T::Progress),
        "With --drain: print the connections that are left on standard error, as is done on a \
         terminal."),
    option(Listing, "connection", Some('c'), No, Of(T::Connection),
        "Show the connections instead of the table."),
    option(Listing, "timeout", None, No, Of(T::Timeout),
        "Show the time-outs that --set sets."),
    option(Listing, "daemon", None, No, Of(T::Daemon),
        "Show the synchronisation daemons."),
    option(Listing, "stats", None, No, Of(T::Stats),
        "Show totals: connections, packets and bytes."),
    option(Listing, "rate", None, No, Of(T::Rate),
        "Show the same per second."),
    option(Listing, "thresholds", None, No, Of(T::Thresholds),
        "Show the connection thresholds."),
    option(Listing, "persistent-conn", None, No, Of(T::PersistentConn),
        "Show persistent connections; with -c, the persistence engine's data."),
    option(Listing, "tun-info", None, No, Of(T::TunInfo),
        "Show how packets are tunnelled."),
    option(Listing, "exact", Some('X'), No, Of(T::Exact),
        "Print counters in full, never as 12345K."),
    option(Listing, "nosort", None, No, Of(T::Nosort),
        "Leave the table in the kernel's order."),
    option(Listing, "sort", None, No, Sort,
        "Nothing: sorting is the default. It is accepted with every command, for old scripts."),
    option(Listing, "numeric", Some('n'), No, Of(T::Numeric),
        "Print addresses and ports as numbers, without looking up names."),
    option(Listing, "json", None, No, Of(T::Json),
        "Print the listing, or how --drain ended, as one JSON document, with everything in it and \
         names left out."),
    option(Listing, "totals", None, No, Of(T::Totals),
        "Show the counters of all services together, and the same per second."),
    option(Listing, "status", None, No, Of(T::Status),
        "Show how full the kernel's tables of connections and services are (Linux 7.1 and later)."),
    option(Listing, "interval", None, Required("SECONDS", Any), Of(T::Interval),
        "List again and again, after so many seconds each time, what happened in between: per \
         second, or with --stats in all."),
    option(Listing, "count", None, Required("TIMES", Any), Of(T::Count),
        "End after so many listings of --interval."),
    option(Listing, "full", None, No, Of(T::Full),
        "With --save: save thresholds, time-outs and daemons too."),
    option(Connections, "protocol", None, Required("PROTOCOL", Words(&["tcp", "udp", "sctp"])),
        Of(T::OfProtocol), "Those of this protocol."),
    option(Connections, "service", None, Required("HOST[/PREFIX][:PORT]", Host), Of(T::OfService),
        "Those to this virtual address; brackets go around an IPv6 address with a port."),
    option(Connections, "client", None, Required("HOST[/PREFIX][:PORT]", Host), Of(T::OfClient),
        "Those of this client, or of this network."),
    option(Connections, "destination", None, Required("HOST[/PREFIX][:PORT]", Host),
        Of(T::OfDestination), "Those to this real server."),
    option(Connections, "state", None, Required("STATE", Words(STATES)), Of(T::OfState),
        "Those in this state, such as ESTABLISHED."),
    option(Restoring, "report", None, No, Of(T::Report),
        "With --restore: name each line that fails, with its number and text, say how many were \
         carried out, and fail if one did."),
    option(Restoring, "keep-going", None, No, Of(T::KeepGoing),
        "As --report, and go on whatever fails."),
    option(Restoring, "stop-on-error", None, No, Of(T::StopOnError),
        "As --report, and end at the first line that fails; slower, as each line is waited for."),
    option(Restoring, "check", None, No, Of(T::Check),
        "With --restore: only read the commands and name each line that it would refuse for its \
         words; with --report too, read comments as that does. With --restore-json: only read the \
         document, and say what it would be refused for. Needs neither IPVS nor root."),
    option(Restoring, "dry-run", None, No, Of(T::DryRun),
        "With --apply: print the changes instead of making them."),
    option(Daemon, "mcast-interface", None, Required("INTERFACE", Interface), Of(T::McastInterface),
        "The interface that carries the synchronisation; eth0 by default."),
    option(Daemon, "syncid", None, Required("ID", Any), Of(T::Syncid),
        "Which synchronisation it belongs to, 0 to 255; 0 by default."),
    option(Daemon, "sync-maxlen", None, Required("BYTES", Any), Of(T::SyncMaxlen),
        "The largest message, 1 to 65507; by default what the interface's MTU allows."),
    option(Daemon, "mcast-group", None, Required("ADDRESS", Any), Of(T::McastGroup),
        "The multicast group, IPv4 or IPv6; 224.0.0.81 by default."),
    option(Daemon, "mcast-port", None, Required("PORT", Any), Of(T::McastPort),
        "Its UDP port, 1 to 65535; 8848 by default."),
    option(Daemon, "mcast-ttl", None, Required("TTL", Any), Of(T::McastTtl),
        "The time to live of its packets, 1 to 255; 1 by default."),
];
