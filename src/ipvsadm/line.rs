//! The values of one command line: collected option by option, then made into what they ask for.
//!
//! Reading checks each value by itself; [`Line::check_topics`] and [`Line::finish`] check what
//! the values mean together.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr};

use super::address;
use super::argument_error::{ArgumentError, error, illegal};
use super::edit::{Edit, ServerEdit, ServiceEdit};
use super::filter::{Filter, Peer};
use super::invocation::{
    ColumnChoice, DrainRequest, Failing, Invocation, List, ListingChoice, Restoring, Save, Source,
    WatchOptions,
};
use super::names::Names;
use super::option_checks::{TUNNEL_OPTIONS, check, check_tunnel, scheduler_flags};
use super::options::{Command, Opt, Topic, Topics};
use super::restore::Comments;
use std::time::Duration;

use crate::ipvs::limits::{
    DEFAULT_SCHEDULER, ENGINE_MAX_LEN, INTERFACE_MAX_LEN, MAX_INT, MAX_SECONDS, SCHEDULER_MAX_LEN,
};
use crate::ipvs::{
    Change, DaemonRole, Destination, DestinationId, Family, Forwarding, Service, ServiceId,
    SyncDaemon, Timeouts, TunnelKind, service_flags,
};
use crate::protocol::Protocol;

/// The address of a service or a real server that has none.
const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// The time-out of `-p` without one, in seconds.
const DEFAULT_PERSISTENCE: u32 = 360;
/// The interface of a daemon that names none.
const DEFAULT_INTERFACE: &str = "eth0";
/// How much of the argument of `--sched-flags` is read.
const SCHED_FLAGS_BYTES: usize = 127;
/// The largest synchronisation message: a UDP datagram's payload.
const MAX_SYNC_LEN: u32 = 65_507;

/// What has been read of a command line so far.
pub(super) struct Line {
    command: Command,
    /// It is a line of a restore.
    restoring: bool,
    topics: Topics,
    protocol: Option<Protocol>,
    at: Option<(IpAddr, u16)>,
    mark: u32,
    family: Option<Family>,
    /// The virtual service's settings; what it is found by is known at the end.
    service: Service,
    sched_flags: String,
    /// A mask was read for IPv4, and the service is an IPv6 one.
    mask_lost: bool,
    server: Option<(IpAddr, u16)>,
    /// The real server's settings, likewise.
    destination: Destination,
    daemon: SyncDaemon,
    timeouts: Timeouts,
    watch: WatchOptions,
    filter: Filter,
    source: Source,
    /// The one family that is saved.
    only: Option<Family>,
    /// The file that is saved to.
    to: Option<OsString>,
    /// After which a drain ends.
    deadline: Duration,
}

impl Line {
    /// A line that has nothing but its command.
    pub(super) fn new(command: Command, restoring: bool) -> Line {
        let (protocol, addr) = (Protocol::default(), UNSPECIFIED);
        Line {
            command,
            restoring,
            topics: Topics::default(),
            protocol: None,
            at: None,
            mark: 0,
            family: None,
            service: Service::new(ServiceId::Address { protocol, addr, port: 0 }, ""),
            sched_flags: String::new(),
            mask_lost: false,
            server: None,
            destination: Destination::new(addr, 0, Forwarding::Route, 1),
            daemon: SyncDaemon {
                role: DaemonRole::Master,
                interface: String::new(),
                sync_id: 0,
                max_len: None,
                group: None,
                port: None,
                ttl: None,
            },
            timeouts: Timeouts { tcp: 0, tcp_fin: 0, udp: 0 },
            watch: WatchOptions { every: Duration::ZERO, rounds: None },
            filter: Filter::default(),
            source: Source::Stdin,
            only: None,
            to: None,
            deadline: Duration::ZERO,
        }
    }

    /// The argument of `--start-daemon` and `--stop-daemon`.
    pub(super) fn role(&mut self, word: Option<&str>) -> Result<(), ArgumentError> {
        self.daemon.role = match (self.command, word) {
            (Command::StartDaemon | Command::StopDaemon, Some("master")) => DaemonRole::Master,
            (Command::StartDaemon | Command::StopDaemon, Some("backup")) => DaemonRole::Backup,
            (Command::StartDaemon, _) => {
                return illegal("illegal start-daemon parameter specified");
            }
            (Command::StopDaemon, _) => return illegal("illegal start_daemon specified"),
            _ => return Ok(()),
        };
        Ok(())
    }

    /// One option, with its argument.
    pub(super) fn option(
        &mut self,
        option: Opt,
        argument: Option<&OsStr>,
        names: &mut dyn Names,
    ) -> Result<(), ArgumentError> {
        if let Some(topic) = option.topic()
            && !self.topics.insert(topic)
        {
            return illegal(format!("multiple '{}' options specified", topic.name()));
        }
        // Hosts alone can be called by what is no UTF-8; elsewhere it stays recognisable.
        let host = argument.unwrap_or_default();
        let value = &*host.to_string_lossy();
        match option {
            Opt::TcpService => self.service(host, Protocol::Tcp, names)?,
            Opt::UdpService => self.service(host, Protocol::Udp, names)?,
            Opt::SctpService => self.service(host, Protocol::Sctp, names)?,
            Opt::FwmarkService => {
                // The protocol is not the service's: it only lets `-r` name TCP's ports.
                self.protocol = Some(Protocol::Tcp);
                self.family = Some(Family::V4);
                let invalid = || error(format!("invalid fwmark value `{value}' specified"));
                self.mark = self.mark(value).ok_or_else(invalid)?;
            }
            Opt::Ipv6 if self.mark != 0 => {
                self.family = Some(Family::V6);
                self.forget_netmask();
            }
            Opt::Ipv6 if self.command == Command::Save => self.only = Some(Family::V6),
            Opt::Ipv6 => return illegal("-6 must follow -f\n"),
            Opt::Gatewaying => self.destination.forward = Forwarding::Route,
            Opt::Ipip => self.destination.forward = Forwarding::Tunnel,
            Opt::Masquerading => self.destination.forward = Forwarding::Masquerade,
            Opt::Of(Topic::Persistent) => {
                self.service.flags |= service_flags::PERSISTENT;
                self.service.timeout = match argument {
                    None => DEFAULT_PERSISTENCE,
                    Some(_) => seconds(value, 1)?,
                };
            }
            Opt::Of(Topic::Netmask) => self.service.netmask = self.netmask(host, names)?,
            Opt::Of(Topic::RealServer) => self.server(host, names)?,
            Opt::Of(topic) => self.value(topic, value, names)?,
            Opt::Sort => {}
        }
        Ok(())
    }

    /// The value of an option that is the only one of its topic.
    fn value(
        &mut self,
        topic: Topic,
        value: &str,
        names: &mut dyn Names,
    ) -> Result<(), ArgumentError> {
        use Topic as T;
        let Line { service, destination, daemon, filter, watch, .. } = self;
        match topic {
            T::Scheduler => service.scheduler = cut(value, SCHEDULER_MAX_LEN),
            T::SchedFlags => self.sched_flags = cut(value, SCHED_FLAGS_BYTES),
            T::Pe => service.pe = Some(cut(value, ENGINE_MAX_LEN)).filter(|pe| !pe.is_empty()),
            T::Ops => service.flags |= service_flags::ONE_PACKET,
            T::Weight => destination.weight = specified(value, 0, MAX_INT, "weight")?,
            T::UThreshold => destination.upper = specified(value, 0, MAX_INT, "u_threshold")?,
            T::LThreshold => destination.lower = specified(value, 0, MAX_INT, "l_threshold")?,
            T::TunType => {
                let named = |kind: &TunnelKind| kind.name() == value;
                let kind = TunnelKind::ALL.into_iter().find(named);
                destination.tunnel.kind =
                    kind.ok_or_else(|| error("illegal tunnel type specified"))?;
            }
            T::TunPort => destination.tunnel.port = specified(value, 1, 65_535, "tunnel port")?,
            T::TunNocsum => destination.tunnel.flags = 0,
            T::TunCsum => destination.tunnel.flags = 1,
            T::TunRemcsum => destination.tunnel.flags = 2,
            T::McastInterface => daemon.interface = cut(value, INTERFACE_MAX_LEN),
            T::Syncid => daemon.sync_id = specified(value, 0, 255, "syncid")?,
            T::SyncMaxlen => {
                daemon.max_len = Some(specified(value, 1, MAX_SYNC_LEN, "sync-maxlen")?);
            }
            T::McastGroup => daemon.group = Some(multicast_group(value)?),
            T::McastPort => daemon.port = Some(specified(value, 1, 65_535, "mcast-port")?),
            T::McastTtl => daemon.ttl = Some(specified(value, 1, 255, "mcast-ttl")?),
            T::Interval => watch.every = interval(value)?,
            T::Deadline => {
                let seconds: u32 = specified(value, 0, MAX_SECONDS, "deadline")?;
                self.deadline = Duration::from_secs(seconds.into());
            }
            T::Count => watch.rounds = Some(specified(value, 1, MAX_INT, "count")?),
            T::OfProtocol => {
                let named = |protocol: &Protocol| protocol.name().eq_ignore_ascii_case(value);
                let protocol = Protocol::ALL.into_iter().find(named);
                let protocol = protocol.ok_or_else(|| error("illegal protocol specified"))?;
                filter.protocol = Some(protocol);
            }
            T::OfService => filter.service = Some(peer(value, "service", names)?),
            T::OfClient => filter.client = Some(peer(value, "client", names)?),
            T::OfDestination => filter.destination = Some(peer(value, "destination", names)?),
            T::OfState => filter.state = Some(value.to_owned()),
            // That they were given is all there is to know.
            _ => {}
        }
        Ok(())
    }

    fn service(
        &mut self,
        value: &OsStr,
        protocol: Protocol,
        names: &mut dyn Names,
    ) -> Result<(), ArgumentError> {
        self.protocol = Some(protocol);
        let endpoint = address::endpoint(value, self.protocol, names)
            .ok_or_else(|| error("illegal virtual server address[:port] specified"))?;
        let family = Family::of(endpoint.addr);
        self.family = Some(family);
        if family == Family::V6 {
            self.forget_netmask();
        }
        self.at = Some((endpoint.addr, endpoint.port.unwrap_or(0)));
        Ok(())
    }

    /// A mask that was given before the IPv6 service was read as one for IPv4.
    fn forget_netmask(&mut self) {
        self.service.netmask = Service::full_netmask(Family::V6);
        self.mask_lost = self.topics.contains(Topic::Netmask);
    }

    /// A firewall mark. Builds of the original print those above 2147483647 as negative numbers,
    /// which are read back in a restore; on a command line all but -1, which the original is
    /// known to refuse there.
    fn mark(&self, value: &str) -> Option<u32> {
        let printed = || {
            let mark = value.parse::<i32>().ok()?;
            (mark < -1 || mark == -1 && self.restoring).then_some(mark.cast_unsigned())
        };
        address::number(value, 1, u32::MAX).or_else(printed)
    }

    fn server(&mut self, value: &OsStr, names: &mut dyn Names) -> Result<(), ArgumentError> {
        let endpoint = address::endpoint(value, self.protocol, names)
            .ok_or_else(|| error("illegal real server address[:port] specified"))?;
        let port = endpoint.port.unwrap_or_else(|| self.service_port());
        self.server = Some((endpoint.addr, port));
        Ok(())
    }

    fn service_port(&self) -> u16 {
        self.at.map_or(0, |(_, port)| port)
    }

    fn netmask(&self, value: &OsStr, names: &mut dyn Names) -> Result<u32, ArgumentError> {
        if self.family == Some(Family::V6) {
            match address::loose_number(&value.to_string_lossy()) {
                prefix @ 1..=128 => Ok(prefix as u32),
                _ => illegal("illegal ipv6 netmask specified"),
            }
        } else {
            let mask = address::host(value, names).map(u32::from);
            mask.ok_or_else(|| error("illegal virtual server persistent mask specified"))
        }
    }

    /// The three positional words of `--set`.
    pub(super) fn timeouts(
        &mut self,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), ArgumentError> {
        let (Some(tcp), Some(tcp_fin), Some(udp)) = (words.next(), words.next(), words.next())
        else {
            return illegal("--set option requires 3 timeout values");
        };
        self.timeouts = Timeouts {
            tcp: seconds(&tcp, 0)?,
            tcp_fin: seconds(&tcp_fin, 0)?,
            udp: seconds(&udp, 0)?,
        };
        Ok(())
    }

    /// The file that is read, if one is named; `-` is standard input.
    pub(super) fn source(&mut self, word: Option<OsString>) {
        if let Some(word) = word.filter(|word| word != "-") {
            self.source = Source::File(word);
        }
    }

    /// The file that is saved to; `-` is standard output.
    pub(super) fn saved_to(&mut self, word: Option<OsString>) {
        self.to = word.filter(|word| word != "-");
    }

    /// The scheduler's flags; only now, as `-s` may come after them.
    pub(super) fn read_scheduler_flags(&mut self) -> Result<(), ArgumentError> {
        let named = self.topics.contains(Topic::Scheduler);
        // Without -s, --keep leaves the service the scheduler that it has.
        let scheduler = (named || !self.topics.contains(Topic::Keep))
            .then_some(self.service.scheduler.as_str());
        self.service.flags |= scheduler_flags(&self.sched_flags, scheduler)?;
        Ok(())
    }

    /// Which options go with which command.
    pub(super) fn check_topics(&self) -> Result<(), ArgumentError> {
        let command = self.command;
        check(self.topics, command.rules(), || format!("'{}' command", command.name()))
    }

    /// What it asks for, once everything is read.
    pub(super) fn finish(mut self) -> Result<Invocation, ArgumentError> {
        use Invocation::Change as Do;
        Ok(match self.command {
            Command::AddService => Do(Change::AddService(self.virtual_service()?)),
            Command::EditService if self.topics.contains(Topic::Keep) => {
                Invocation::Edit(Edit::Service(self.service_edit()?))
            }
            Command::EditServer if self.topics.contains(Topic::Keep) => {
                Invocation::Edit(Edit::Server(self.server_edit()?))
            }
            Command::EditService => Do(Change::EditService(self.virtual_service()?)),
            Command::DeleteService => Do(Change::DeleteService(self.id())),
            Command::AddServer => {
                let destination = self.destination()?;
                Do(Change::AddDestination(self.id(), destination))
            }
            Command::EditServer => {
                let destination = self.destination()?;
                Do(Change::EditDestination(self.id(), destination))
            }
            Command::DeleteServer => {
                Do(Change::DeleteDestination(self.id(), self.destination_id()))
            }
            Command::Drain => Invocation::Drain(DrainRequest {
                service: self.id(),
                server: self.destination_id(),
                deadline: self.topics.contains(Topic::Deadline).then_some(self.deadline),
                progress: self.topics.contains(Topic::Progress),
                json: self.topics.contains(Topic::Json),
            }),
            Command::Flush => Do(Change::Flush),
            Command::Zero => Do(Change::Zero(self.zeroed())),
            Command::Set => Do(Change::SetTimeouts(self.timeouts)),
            Command::StartDaemon => {
                if self.daemon.interface.is_empty() {
                    DEFAULT_INTERFACE.clone_into(&mut self.daemon.interface);
                }
                Do(Change::StartDaemon(self.daemon))
            }
            Command::StopDaemon => Do(Change::StopDaemon(self.daemon.role, self.daemon.sync_id)),
            Command::List => Invocation::List(self.list()?),
            Command::Save => Invocation::Save(self.save()?),
            Command::Restore => Invocation::Restore(self.restoring()),
            Command::Apply => Invocation::Apply {
                from: self.source,
                dry_run: self.topics.contains(Topic::DryRun),
            },
            Command::Diff => Invocation::Diff(self.source),
            Command::RestoreJson => Invocation::RestoreJson {
                from: self.source,
                check: self.topics.contains(Topic::Check),
            },
        })
    }

    fn id(&self) -> ServiceId {
        match (self.mark, self.at) {
            (0, service) => {
                let (addr, port) = service.unwrap_or((UNSPECIFIED, 0));
                ServiceId::Address { protocol: self.protocol.unwrap_or_default(), addr, port }
            }
            (mark, _) => ServiceId::Mark { mark, family: self.family.unwrap_or(Family::V4) },
        }
    }

    /// The real server as it is named.
    fn destination_id(&self) -> DestinationId {
        let (addr, port) = self.server.unwrap_or((UNSPECIFIED, 0));
        DestinationId { addr, port }
    }

    /// Which service's counters go back to zero; an address and port of zeroes mean all.
    fn zeroed(&self) -> Option<ServiceId> {
        if !self.topics.contains(Topic::ServiceAddress) {
            return None;
        }
        match self.id() {
            ServiceId::Address { addr, port: 0, .. } if addr.is_unspecified() => None,
            id => Some(id),
        }
    }

    fn virtual_service(mut self) -> Result<Service, ArgumentError> {
        let id = self.id();
        let persistent = self.service.flags & service_flags::PERSISTENT != 0;
        if matches!(id, ServiceId::Address { port: 0, .. }) && !persistent {
            return illegal("Zero port specified for non-persistent service");
        }
        self.check_one_packet(id)?;
        if self.service.scheduler.is_empty() {
            DEFAULT_SCHEDULER.clone_into(&mut self.service.scheduler);
        }
        Ok(Service { id, ..self.service })
    }

    fn check_one_packet(&self, id: ServiceId) -> Result<(), ArgumentError> {
        let udp = id.protocol().is_none_or(|protocol| protocol == Protocol::Udp);
        if self.service.flags & service_flags::ONE_PACKET != 0 && !udp {
            return illegal("One-Packet Scheduling is only for UDP virtual services");
        }
        Ok(())
    }

    /// An edit of a service that keeps what it does not name.
    fn service_edit(self) -> Result<ServiceEdit, ArgumentError> {
        let id = self.id();
        self.check_one_packet(id)?;
        if self.mask_lost {
            return illegal("The option 'netmask' must follow an IPv6 service with 'keep'");
        }
        let named = |topic| self.topics.contains(topic);
        Ok(ServiceEdit {
            id,
            scheduler: named(Topic::Scheduler).then(|| {
                let scheduler = Some(self.service.scheduler).filter(|name| !name.is_empty());
                scheduler.unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned())
            }),
            sched_flags: named(Topic::SchedFlags).then_some(self.sched_flags),
            persistent: named(Topic::Persistent).then_some(self.service.timeout),
            netmask: named(Topic::Netmask).then_some(self.service.netmask),
            pe: named(Topic::Pe).then_some(self.service.pe),
            one_packet: named(Topic::Ops),
        })
    }

    /// The same of a real server, which is the one that is named: no port is made the service's.
    fn server_edit(self) -> Result<ServerEdit, ArgumentError> {
        const CHECKSUMS: Topics =
            Topics::of(&[Topic::TunNocsum, Topic::TunCsum, Topic::TunRemcsum]);
        let (service, at) = (self.id(), self.destination_id());
        let named = |topic| self.topics.contains(topic);
        let settings = self.destination;
        let forward = named(Topic::ForwardingMethod).then_some(settings.forward);
        if forward.is_some_and(|forward| forward != Forwarding::Tunnel)
            && Family::of(at.addr) != service.family()
        {
            return illegal("Different address family is allowed only for tunneling servers");
        }
        if forward.is_some_and(|forward| forward != Forwarding::Masquerade)
            && matches!(service, ServiceId::Address { port, .. } if port != at.port)
        {
            return illegal("Only masquerading (-m) can reach a port that is not the service's");
        }
        Ok(ServerEdit {
            service,
            at,
            forward,
            weight: named(Topic::Weight).then_some(settings.weight),
            upper: named(Topic::UThreshold).then_some(settings.upper),
            lower: named(Topic::LThreshold).then_some(settings.lower),
            tunnel_kind: named(Topic::TunType).then_some(settings.tunnel.kind),
            tunnel_port: named(Topic::TunPort).then_some(settings.tunnel.port),
            tunnel_flags: self.topics.any(CHECKSUMS).then_some(settings.tunnel.flags),
            tunnel_options: self.topics.among(TUNNEL_OPTIONS),
        })
    }

    fn destination(&self) -> Result<Destination, ArgumentError> {
        let DestinationId { addr, mut port } = self.destination_id();
        let tunnelled = self.destination.forward == Forwarding::Tunnel;
        if self.mark == 0 && self.destination.forward != Forwarding::Masquerade {
            // Only NAT rewrites ports.
            port = self.service_port();
        }
        if Some(Family::of(addr)) != self.family && !tunnelled {
            return illegal("Different address family is allowed only for tunneling servers");
        }
        if !tunnelled && (self.topics.contains(Topic::TunType) || self.topics.any(TUNNEL_OPTIONS)) {
            return illegal("Tunnel options conflict with forward method");
        }
        if tunnelled {
            let options = self.topics.among(TUNNEL_OPTIONS);
            check_tunnel(options, self.destination.tunnel.kind)?;
        }
        Ok(Destination { id: DestinationId { addr, port }, ..self.destination })
    }

    fn save(self) -> Result<Save, ArgumentError> {
        let given = |topic| self.topics.contains(topic);
        if let Some(other) = [Topic::ServiceAddress, Topic::Ipv4].into_iter().find(|t| given(*t))
            && self.only.is_some()
        {
            let name = other.name();
            return illegal(format!(
                "The option 'ipv6' conflicts with the '{name}' option in the 'save' command"
            ));
        }
        Ok(Save {
            numeric: given(Topic::Numeric),
            full: given(Topic::Full),
            service: given(Topic::ServiceAddress).then(|| self.id()),
            family: if given(Topic::Ipv4) { Some(Family::V4) } else { self.only },
            to: self.to,
        })
    }

    fn restoring(&self) -> Restoring {
        let given = |topic| self.topics.contains(topic);
        if given(Topic::Check) {
            let reports = given(Topic::Report);
            Restoring::Checking(if reports { Comments::Indented } else { Comments::None })
        } else if given(Topic::KeepGoing) {
            Restoring::Reporting(Failing::GoOn)
        } else if given(Topic::StopOnError) {
            Restoring::Reporting(Failing::Stop)
        } else if given(Topic::Report) {
            Restoring::Reporting(Failing::AsEver)
        } else {
            Restoring::Original
        }
    }

    /// Whether what is new among the options of a listing goes together.
    fn check_new_listings(&self) -> Result<(), ArgumentError> {
        const FILTERS: [Topic; 5] = [
            Topic::OfProtocol,
            Topic::OfService,
            Topic::OfClient,
            Topic::OfDestination,
            Topic::OfState,
        ];
        const UNWATCHED: [Topic; 7] = [
            Topic::Connection,
            Topic::Status,
            Topic::Timeout,
            Topic::Daemon,
            Topic::Thresholds,
            Topic::PersistentConn,
            Topic::TunInfo,
        ];
        let given = |topic| self.topics.contains(topic);
        if let Some(filter) = FILTERS.into_iter().find(|filter| given(*filter))
            && !given(Topic::Connection)
        {
            let name = filter.name();
            return illegal(format!(
                "The option '{name}' needs the 'connection' option in the 'list' command"
            ));
        }
        if given(Topic::Count) && !given(Topic::Interval) {
            return illegal("The option 'count' needs the 'interval' option in the 'list' command");
        }
        if let Some(other) = UNWATCHED.into_iter().find(|other| given(*other))
            && given(Topic::Interval)
        {
            let name = other.name();
            return illegal(format!(
                "The option 'interval' conflicts with the '{name}' option in the 'list' command"
            ));
        }
        Ok(())
    }

    fn list(self) -> Result<List, ArgumentError> {
        let topics = self.topics;
        let given = |topic| topics.contains(topic);
        let connections = given(Topic::Connection);
        let other = given(Topic::Timeout) || given(Topic::Daemon);
        let counters = self.topics.any(Topics::of(&[Topic::Stats, Topic::Rate, Topic::Thresholds]));
        if (connections || other) && counters || other && given(Topic::PersistentConn) {
            return illegal("options conflicts in the list command");
        }
        self.check_new_listings()?;
        let watch = given(Topic::Interval).then_some(self.watch);
        let what = if connections {
            ListingChoice::Connections {
                engines: given(Topic::PersistentConn),
                filter: self.filter,
            }
        } else if given(Topic::Totals) {
            ListingChoice::Totals { exact: given(Topic::Exact) }
        } else if given(Topic::Status) {
            ListingChoice::Status
        } else if given(Topic::Timeout) {
            ListingChoice::Timeouts
        } else if given(Topic::Daemon) {
            ListingChoice::Daemons
        } else {
            ListingChoice::Table {
                service: given(Topic::ServiceAddress).then(|| self.id()),
                columns: if given(Topic::Stats) {
                    ColumnChoice::Stats
                } else if given(Topic::Rate) || watch.is_some() {
                    ColumnChoice::Rate
                } else if given(Topic::Thresholds) {
                    ColumnChoice::Thresholds
                } else if given(Topic::PersistentConn) {
                    ColumnChoice::Persistent
                } else if given(Topic::TunInfo) {
                    ColumnChoice::Tunnels
                } else {
                    ColumnChoice::Default
                },
                exact: given(Topic::Exact),
                sorted: !given(Topic::Nosort),
            }
        };
        Ok(List { what, numeric: given(Topic::Numeric), json: given(Topic::Json), watch })
    }
}

fn cut(value: &str, bytes: usize) -> String {
    let end = (0..=bytes.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
    value[..end.unwrap_or(0)].to_owned()
}

fn seconds(value: &str, min: u32) -> Result<u32, ArgumentError> {
    address::number(value, min, MAX_SECONDS)
        .ok_or_else(|| error(format!("invalid timeout value `{value}' specified")))
}

/// A number within bounds that fits its field.
fn specified<T: TryFrom<u32>>(
    value: &str,
    min: u32,
    max: u32,
    what: &str,
) -> Result<T, ArgumentError> {
    let number = address::number(value, min, max).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| error(format!("illegal {what} specified")))
}

/// Seconds with or without a fraction, a tenth to a day.
fn interval(value: &str) -> Result<Duration, ArgumentError> {
    let seconds = value.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| error(format!("invalid interval `{value}' specified")))
}

fn peer(value: &str, what: &str, names: &mut dyn Names) -> Result<Peer, ArgumentError> {
    Peer::parse(value, names)
        .ok_or_else(|| error(format!("illegal {what} address[/prefix][:port] specified")))
}

fn multicast_group(value: &str) -> Result<IpAddr, ArgumentError> {
    let family = if value.contains(':') { "IPv6" } else { "IPv4" };
    let group = value.parse().ok().filter(IpAddr::is_multicast);
    group.ok_or_else(|| error(format!("invalid {family} mcast-group `{value}'")))
}
