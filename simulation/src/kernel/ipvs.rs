//! An IPVS table, the connections that it schedules, and their synchronisation
//! (net/netfilter/ipvs).
//!
//! Connections outlive what scheduled them: those to a destination that was deleted end at once with
//! `expire_nodest_conn`, and without it lead nowhere until they expire or the destination is added
//! again. A schedule goes through the destinations in the order of their addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cvip::cores::{TableReader, service_key};
use cvip::director::fingerprint::{Print, print_of};
use cvip::director::kernel_table::Actual;
use cvip::ipvs::{
    Change, ChangeFailure, DaemonRole, Destination, DestinationEntry, DestinationId, IpvsError,
    Operation, Service, ServiceEntry, ServiceId, Stats, SyncDaemon, Timeouts, service_flags,
};
use cvip::protocol::Protocol;
use cvip::store::ServiceKey;
use nix::errno::Errno;

use crate::time::SimTime;

/// The schedulers that the kernel has.
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "sed", "nq", "mh"];

/// The kernel's time-outs (`tcp_timeouts`, ip_vs_proto_tcp.c; `udp_timeouts`, ip_vs_proto_udp.c).
const TIMEOUTS: Timeouts = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };

/// The sysctls of IPVS that decide over connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IpvsSettings {
    /// `backup_only`: packets are left alone while a daemon receives.
    pub backup_only: bool,
    /// `expire_nodest_conn`: a connection ends with its destination.
    pub expire_nodest_conn: bool,
    /// `expire_quiescent_template`: weight 0 ends persistence.
    pub expire_quiescent_template: bool,
}

/// What the kernel finds a connection by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The virtual service.
    pub service: ServiceId,
    /// The client's address and port.
    pub client: SocketAddr,
}

/// A connection that the table has scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// What it is found by.
    pub id: ConnectionId,
    /// Where its packets go.
    pub destination: DestinationId,
    /// It is established; neither end has closed it.
    pub active: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to a destination.
    To(DestinationId),
    /// The table does not concern it: it goes to this machine's own sockets.
    Local,
    /// The service has no destination to schedule to: the client is told that the port is
    /// unreachable.
    Refused,
    /// The connection's destination is gone: it is dropped.
    Dropped,
}

/// An IPVS table.
#[derive(Debug, Default)]
pub struct IpvsTable {
    /// The sysctls, as they are now.
    pub settings: IpvsSettings,
    pools: BTreeMap<ServiceId, Pool>,
    daemons: Vec<SyncDaemon>,
    timeouts: Option<Timeouts>,
    connections: BTreeMap<ConnectionId, Tracked>,
    templates: BTreeMap<TemplateId, Tracked>,
    expiries: BTreeSet<(SimTime, Expiring)>,
    /// How many connections and templates each destination has; also of those that are gone.
    loads: BTreeMap<(ServiceId, DestinationId), Load>,
    /// What the sending daemon has not sent.
    outgoing: Vec<Connection>,
    refusals: Vec<Refusal>,
    unreadable_until: SimTime,
    replies_lost_until: SimTime,
}

#[derive(Debug)]
struct Pool {
    service: Service,
    destinations: BTreeMap<DestinationId, Destination>,
    /// The last that `rr` chose.
    last: Option<DestinationId>,
    /// Its fingerprint, once it was asked for.
    print: Option<Print>,
}

/// A persistent client of a service.
type TemplateId = (ServiceId, IpAddr);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expiring {
    Connection(ConnectionId),
    Template(TemplateId),
}

/// A connection or a template.
#[derive(Clone, Copy, Debug)]
struct Tracked {
    destination: DestinationId,
    active: bool,
    expires: SimTime,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    active: u32,
    inactive: u32,
    persistent: u32,
}

/// Changes that are refused for a time.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// None: every change.
    of: Option<Operation>,
    errno: Errno,
    until: SimTime,
}

/// Reads a table at a time.
#[derive(Debug)]
pub struct IpvsReader<'a> {
    table: &'a mut IpvsTable,
    now: SimTime,
}

impl IpvsTable {
    // ------------------------------------------------------------------------------ changes

    /// Makes every change, in order, and gives those that were refused, as cvipd's client does.
    ///
    /// # Errors
    /// The replies were lost: every change was made or refused, and which is not told.
    pub fn apply(
        &mut self,
        changes: &[Change],
        now: SimTime,
    ) -> Result<Vec<ChangeFailure>, IpvsError> {
        self.refusals.retain(|refusal| now < refusal.until);
        let mut failures = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let operation = Operation::of(change);
            let armed = self.refusals.iter().find(|r| r.of.is_none_or(|of| of == operation));
            let made = armed.map_or(Ok(()), |refusal| Err(refusal.errno));
            if let Err(errno) = made.and_then(|()| self.change(change)) {
                let errno = errno as i32;
                failures.push(ChangeFailure { index, operation, errno, text: None });
            }
        }
        if now < self.replies_lost_until && !changes.is_empty() {
            return Err(IpvsError::RepliesLost);
        }
        Ok(failures)
    }

    /// Makes one change, as another program does: what is armed does not concern it.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn change(&mut self, change: &Change) -> Result<(), Errno> {
        match change {
            Change::AddService(service) => {
                if self.pools.contains_key(&service.id) {
                    return Err(Errno::EEXIST);
                }
                let service = with_scheduler(service)?;
                let destinations = BTreeMap::new();
                let pool = Pool { service, destinations, last: None, print: None };
                self.pools.insert(pool.service.id, pool);
            }
            Change::EditService(service) => {
                let pool = self.pools.get_mut(&service.id).ok_or(Errno::ESRCH)?;
                (pool.service, pool.print) = (with_scheduler(service)?, None);
            }
            Change::DeleteService(id) => {
                let pool = self.pools.remove(id).ok_or(Errno::ESRCH)?;
                for destination in pool.destinations.into_keys() {
                    self.destination_gone(*id, destination);
                }
            }
            Change::AddDestination(id, destination) => {
                let (synchronises, pool) = (!self.daemons.is_empty(), self.pool(id)?);
                if synchronises && destination.id.addr.is_ipv4() != is_ipv4(*id) {
                    return Err(Errno::EINVAL);
                }
                if pool.destinations.contains_key(&destination.id) {
                    return Err(Errno::EEXIST);
                }
                pool.put(destination)?;
            }
            Change::EditDestination(id, destination) => {
                let pool = self.pool(id)?;
                if !pool.destinations.contains_key(&destination.id) {
                    return Err(Errno::ENOENT);
                }
                pool.put(destination)?;
            }
            Change::DeleteDestination(id, destination) => {
                let pool = self.pool(id)?;
                pool.destinations.remove(destination).ok_or(Errno::ENOENT)?;
                pool.print = None;
                self.destination_gone(*id, *destination);
            }
            Change::Zero(Some(id)) => {
                self.pool(id)?;
            }
            Change::Zero(None) => {}
            Change::Flush => {
                for id in self.pools.keys().copied().collect::<Vec<_>>() {
                    self.change(&Change::DeleteService(id))?;
                }
            }
            Change::SetTimeouts(new) => {
                let or = |new: u32, old: u32| if new == 0 { old } else { new };
                let old = self.timeouts.unwrap_or(TIMEOUTS);
                self.timeouts = Some(Timeouts {
                    tcp: or(new.tcp, old.tcp),
                    tcp_fin: or(new.tcp_fin, old.tcp_fin),
                    udp: or(new.udp, old.udp),
                });
            }
            Change::StartDaemon(daemon) => {
                if self.daemon(daemon.role).is_some() {
                    return Err(Errno::EEXIST);
                }
                self.daemons.push(daemon.clone());
            }
            Change::StopDaemon(role, _) => {
                if self.daemon(*role).is_none() {
                    return Err(Errno::ESRCH);
                }
                self.daemons.retain(|daemon| daemon.role != *role);
                if *role == DaemonRole::Master {
                    self.outgoing.clear();
                }
            }
        }
        Ok(())
    }

    fn pool(&mut self, id: &ServiceId) -> Result<&mut Pool, Errno> {
        self.pools.get_mut(id).ok_or(Errno::ESRCH)
    }

    fn destination_gone(&mut self, service: ServiceId, destination: DestinationId) {
        let Load { active, inactive, .. } = self.load(service, destination);
        if !self.settings.expire_nodest_conn || active + inactive == 0 {
            return;
        }
        let ends: Vec<ConnectionId> = self
            .of_service(service)
            .filter(|(_, tracked)| tracked.destination == destination)
            .map(|(id, _)| *id)
            .collect();
        for id in ends {
            self.end(Expiring::Connection(id));
        }
    }

    fn of_service(
        &self,
        service: ServiceId,
    ) -> impl Iterator<Item = (&ConnectionId, &Tracked)> + use<'_> {
        let first = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let from = ConnectionId { service, client: first };
        self.connections.range(from..).take_while(move |(id, _)| id.service == service)
    }

    // ------------------------------------------------------------------------------ what it has

    /// Reads the table, as [`cvip::cores::read_all`] and its like do.
    pub fn reader(&mut self, now: SimTime) -> IpvsReader<'_> {
        IpvsReader { table: self, now }
    }

    /// The synchronisation daemons that run.
    ///
    /// # Errors
    /// It is armed to be unreadable.
    pub fn daemons(&self, now: SimTime) -> Result<Vec<SyncDaemon>, IpvsError> {
        self.readable(now)?;
        Ok(self.daemons.clone())
    }

    /// The daemon of a role that runs.
    pub fn daemon(&self, role: DaemonRole) -> Option<&SyncDaemon> {
        self.daemons.iter().find(|daemon| daemon.role == role)
    }

    /// True if the kernel shows no service.
    pub fn is_flushed(&self) -> bool {
        self.pools.is_empty()
    }

    /// The fingerprints of all services of CVIPs, as a look shows them.
    ///
    /// # Errors
    /// It is armed to be unreadable.
    pub fn prints(&mut self, now: SimTime) -> io::Result<HashMap<ServiceKey, Print>> {
        self.readable(now).map_err(io::Error::other)?;
        let print = |(id, pool): (&ServiceId, &mut Pool)| Some((service_key(*id)?, pool.print()));
        Ok(self.pools.iter_mut().filter_map(print).collect())
    }

    /// The services with their destinations, for those who judge.
    pub fn services(
        &self,
    ) -> impl Iterator<Item = (&Service, &BTreeMap<DestinationId, Destination>)> {
        self.pools.values().map(|pool| (&pool.service, &pool.destinations))
    }

    /// One destination, for those who judge.
    pub fn destination(&self, service: ServiceId, at: DestinationId) -> Option<&Destination> {
        self.pools.get(&service)?.destinations.get(&at)
    }

    /// Every connection.
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        let connection = |(id, tracked): (&ConnectionId, &Tracked)| connection(*id, tracked);
        self.connections.iter().map(connection)
    }

    fn readable(&self, now: SimTime) -> Result<(), IpvsError> {
        if now < self.unreadable_until { Err(IpvsError::Unsettled) } else { Ok(()) }
    }

    fn entry(&self, service: ServiceId, destination: &Destination) -> DestinationEntry {
        let Load { active, inactive, persistent } = self.load(service, destination.id);
        let (destination, stats) = (*destination, Stats::default());
        DestinationEntry { destination, active, inactive, persistent, stats }
    }

    fn load(&self, service: ServiceId, destination: DestinationId) -> Load {
        self.loads.get(&(service, destination)).copied().unwrap_or_default()
    }

    // ------------------------------------------------------------------------------ connections

    /// The service of packets to this address and port: the port's own, or that of all ports.
    pub fn service_of(&self, protocol: Protocol, to: SocketAddr) -> Option<ServiceId> {
        let id = |port| ServiceId::Address { protocol, addr: to.ip(), port };
        [id(to.port()), id(0)].into_iter().find(|id| self.pools.contains_key(id))
    }

    /// The first packet of a client's connection.
    pub fn connect(&mut self, service: ServiceId, client: SocketAddr, now: SimTime) -> Verdict {
        self.tick(now);
        let id = ConnectionId { service, client };
        if self.is_left_alone() {
            return Verdict::Local;
        }
        if self.connections.contains_key(&id) {
            return self.packet(id, now);
        }
        if !self.pools.contains_key(&service) {
            return Verdict::Local;
        }
        match self.schedule(service, client, now) {
            Some(destination) => {
                self.track(Connection { id, destination, active: true }, now);
                Verdict::To(destination)
            }
            None => Verdict::Refused,
        }
    }

    /// A further packet of a connection.
    pub fn packet(&mut self, id: ConnectionId, now: SimTime) -> Verdict {
        self.tick(now);
        let Some(tracked) = self.connections.get(&id).filter(|_| !self.is_left_alone()) else {
            return Verdict::Local;
        };
        let Tracked { destination, active, .. } = *tracked;
        if self.destination(id.service, destination).is_none() {
            if self.settings.expire_nodest_conn {
                self.end(Expiring::Connection(id));
            }
            return Verdict::Dropped;
        }
        self.track(Connection { id, destination, active }, now);
        Verdict::To(destination)
    }

    /// A connection is closed by one of its ends: it is inactive until it expires.
    pub fn close(&mut self, id: ConnectionId, now: SimTime) {
        self.tick(now);
        if let Some(Tracked { destination, .. }) = self.connections.get(&id).copied() {
            self.track(Connection { id, destination, active: false }, now);
        }
    }

    /// True if packets are not looked at.
    fn is_left_alone(&self) -> bool {
        self.settings.backup_only && self.daemon(DaemonRole::Backup).is_some()
    }

    /// The destination of a new connection: the persistent client's, or the scheduler's.
    fn schedule(
        &mut self,
        service: ServiceId,
        client: SocketAddr,
        now: SimTime,
    ) -> Option<DestinationId> {
        let pool = self.pools.get(&service)?;
        if pool.service.flags & service_flags::PERSISTENT == 0 {
            return self.choose(service, client.ip());
        }
        let timeout = Duration::from_secs(pool.service.timeout.into());
        let template = (service, masked(client.ip(), pool.service.netmask));
        let valid = self.templates.get(&template).map(|template| template.destination);
        let valid = valid.filter(|at| {
            let weight = pool.destinations.get(at).map(|destination| destination.weight);
            weight.is_some_and(|weight| weight > 0 || !self.settings.expire_quiescent_template)
        });
        let destination = match valid {
            Some(destination) => destination,
            None => self.choose(service, client.ip())?,
        };
        self.end(Expiring::Template(template));
        let expires = now + timeout;
        self.templates.insert(template, Tracked { destination, active: false, expires });
        self.expiries.insert((expires, Expiring::Template(template)));
        self.loads.entry((service, destination)).or_default().persistent += 1;
        Some(destination)
    }

    /// What the scheduler chooses. Weight 0, and as many connections as the upper threshold, mean
    /// none.
    fn choose(&mut self, service: ServiceId, client: IpAddr) -> Option<DestinationId> {
        let pool = self.pools.get(&service)?;
        let usable = pool.destinations.values().filter_map(|destination| {
            let load = self.load(service, destination.id);
            let total = load.active + load.inactive;
            let full = destination.upper > 0 && total >= destination.upper;
            (destination.weight > 0 && !full).then_some((destination, load))
        });
        let usable: Vec<(&Destination, Load)> = usable.collect();
        let first = usable.first()?.0.id;
        let chosen = match pool.service.scheduler.as_str() {
            "rr" | "wrr" => {
                let after = |(d, _): &&(&Destination, Load)| pool.last.is_none_or(|l| d.id > l);
                usable.iter().find(after).map_or(first, |(destination, _)| destination.id)
            }
            "sh" | "dh" | "mh" => {
                let mut hasher = DefaultHasher::new();
                client.hash(&mut hasher);
                let at = hasher.finish() % usable.len() as u64;
                usable[at as usize].0.id
            }
            // `ip_vs_wlc_schedule`: an active connection counts as 256 inactive ones.
            _ => {
                let mut least: Option<(u64, u64, DestinationId)> = None;
                for (destination, load) in usable {
                    let overhead = u64::from(load.active) * 256 + u64::from(load.inactive);
                    let weight = u64::from(destination.weight);
                    if least.is_none_or(|(o, w, _)| o * weight > overhead * w) {
                        least = Some((overhead, weight, destination.id));
                    }
                }
                least?.2
            }
        };
        self.pools.get_mut(&service)?.last = Some(chosen);
        Some(chosen)
    }

    /// Takes a connection, new or known, as it is now; a sending daemon sends it on.
    fn track(&mut self, connection: Connection, now: SimTime) {
        let Connection { id, destination, active } = connection;
        let is_news = self.connections.get(&id).is_none_or(|known| known.active != active);
        self.end(Expiring::Connection(id));
        let timeouts = self.timeouts.unwrap_or(TIMEOUTS);
        let seconds = match (id.service.protocol(), active) {
            (Some(Protocol::Udp), _) => timeouts.udp,
            (_, true) => timeouts.tcp,
            (_, false) => timeouts.tcp_fin,
        };
        let expires = now + Duration::from_secs(seconds.into());
        self.connections.insert(id, Tracked { destination, active, expires });
        self.expiries.insert((expires, Expiring::Connection(id)));
        let load = self.loads.entry((id.service, destination)).or_default();
        *(if active { &mut load.active } else { &mut load.inactive }) += 1;
        if is_news && self.daemon(DaemonRole::Master).is_some() {
            self.outgoing.push(connection);
        }
    }

    /// Forgets a connection or a template, if it is there.
    fn end(&mut self, what: Expiring) {
        let (service, tracked, is_template) = match what {
            Expiring::Connection(id) => (id.service, self.connections.remove(&id), false),
            Expiring::Template(id) => (id.0, self.templates.remove(&id), true),
        };
        let Some(Tracked { destination, active, expires }) = tracked else { return };
        self.expiries.remove(&(expires, what));
        if let Some(load) = self.loads.get_mut(&(service, destination)) {
            let count = match (is_template, active) {
                (true, _) => &mut load.persistent,
                (false, true) => &mut load.active,
                (false, false) => &mut load.inactive,
            };
            *count -= 1;
            if load.active + load.inactive + load.persistent == 0 {
                self.loads.remove(&(service, destination));
            }
        }
    }

    /// When a connection or a template expires.
    pub fn due(&self) -> SimTime {
        self.expiries.first().map_or(SimTime::NEVER, |(at, _)| *at)
    }

    /// Ends what has expired.
    pub fn tick(&mut self, now: SimTime) {
        while let Some((_, what)) = self.expiries.first().filter(|(at, _)| *at <= now).copied() {
            self.end(what);
        }
    }

    // ------------------------------------------------------------------------------ daemons

    /// What the sending daemon sends: its sync id, and the connections that are new or have changed;
    /// none if it does not run or has nothing to send.
    pub fn take_outgoing(&mut self) -> Option<(u32, Vec<Connection>)> {
        let id = self.daemon(DaemonRole::Master)?.sync_id;
        let connections = std::mem::take(&mut self.outgoing);
        (!connections.is_empty()).then_some((id, connections))
    }

    /// Takes what another machine's daemon sent, if a daemon of that sync id receives here.
    pub fn receive(&mut self, sync_id: u32, connections: &[Connection], now: SimTime) {
        let receives = |daemon: &SyncDaemon| [0, sync_id].contains(&daemon.sync_id);
        if self.daemon(DaemonRole::Backup).is_some_and(receives) {
            for connection in connections {
                self.track(*connection, now);
            }
        }
    }

    // ------------------------------------------------------------------------------ faults

    /// Until then cvipd's changes are refused: those of one operation, or all.
    pub fn refuse(&mut self, of: Option<Operation>, errno: Errno, until: SimTime) {
        self.refusals.push(Refusal { of, errno, until });
    }

    /// Until then the table cannot be read.
    pub fn hide(&mut self, until: SimTime) {
        self.unreadable_until = until;
    }

    /// Until then cvipd's changes are made and the kernel's replies lost.
    pub fn lose_replies(&mut self, until: SimTime) {
        self.replies_lost_until = until;
    }
}

impl Pool {
    fn put(&mut self, destination: &Destination) -> Result<(), Errno> {
        if destination.weight > i32::MAX.cast_unsigned() || destination.lower > destination.upper {
            return Err(Errno::ERANGE);
        }
        self.destinations.insert(destination.id, *destination);
        self.print = None;
        Ok(())
    }

    fn print(&mut self) -> Print {
        *self.print.get_or_insert_with(|| {
            let entry = |(at, destination): (&DestinationId, &Destination)| {
                let (destination, stats) = (*destination, Stats::default());
                let (active, inactive, persistent) = (0, 0, 0);
                (*at, DestinationEntry { destination, active, inactive, persistent, stats })
            };
            let destinations = self.destinations.iter().map(entry).collect();
            print_of(&Actual { service: self.service.clone(), destinations })
        })
    }

    fn entry(&self) -> ServiceEntry {
        ServiceEntry { service: self.service.clone(), stats: Stats::default() }
    }
}

impl TableReader for IpvsReader<'_> {
    fn services(&mut self) -> Result<Vec<ServiceEntry>, IpvsError> {
        self.table.readable(self.now)?;
        Ok(self.table.pools.values().map(Pool::entry).collect())
    }

    fn service(&mut self, id: &ServiceId) -> Result<Option<ServiceEntry>, IpvsError> {
        self.table.readable(self.now)?;
        Ok(self.table.pools.get(id).map(Pool::entry))
    }

    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, IpvsError> {
        self.table.readable(self.now)?;
        let destinations =
            self.table.pools.get(id).into_iter().flat_map(|p| p.destinations.values());
        Ok(destinations.map(|destination| self.table.entry(*id, destination)).collect())
    }
}

/// The service as the kernel keeps it.
fn with_scheduler(service: &Service) -> Result<Service, Errno> {
    if !SCHEDULERS.contains(&service.scheduler.as_str()) {
        return Err(Errno::ENOENT);
    }
    Ok(Service { flags: service.flags | service_flags::HASHED, ..service.clone() })
}

fn is_ipv4(service: ServiceId) -> bool {
    service.family() == cvip::ipvs::Family::V4
}

fn connection(id: ConnectionId, tracked: &Tracked) -> Connection {
    Connection { id, destination: tracked.destination, active: tracked.active }
}

/// The clients that persistence takes for one.
fn masked(client: IpAddr, netmask: u32) -> IpAddr {
    match client {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() & netmask).into(),
        IpAddr::V6(addr) => {
            let mask = u128::MAX.unbounded_shl(128 - netmask.min(128));
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests;
