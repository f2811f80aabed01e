//! A machine's interfaces, addresses, local routes and sysctls, and for which addresses it answers
//! its neighbours.
//!
//! cvipd's own [`NetworkSettings`](cvip::net::NetworkSettings) makes and reads them
//! ([`Network::at`]). The record of what it made is kept here too: it outlives cvipd, and a reboot
//! empties it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cvip::cores::{Link, NetworkHost, SettingsRecord};
use cvip::net::{Address, NetError, host_prefix, setting_name};
use nix::errno::Errno;

use super::ipvs::IpvsSettings;
use crate::time::SimTime;
use cvip::clock::Instant;

/// The interface that every machine has beside its network's.
pub const LOOPBACK: &str = "lo";

/// The kernel makes the local route to an IPv6 address in the background (`addrconf_dad_work`).
const IPV6_ROUTE_AFTER: Duration = Duration::from_millis(2);

/// Lifetimes are looked at when a second begins (`check_lifetime`, net/ipv4/devinet.c).
const SECOND: u64 = 1_000_000;

/// The sysctls that cvipd reads or writes, and the kernel's defaults.
const SYSCTLS: [(&str, &str); 12] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/ip_local_port_range", "32768\t60999"),
    ("net/ipv4/vs/backup_only", "0"),
    ("net/ipv4/vs/conn_reuse_mode", "1"),
    ("net/ipv4/vs/conntrack", "0"),
    ("net/ipv4/vs/drop_entry", "0"),
    ("net/ipv4/vs/drop_packet", "0"),
    ("net/ipv4/vs/expire_nodest_conn", "0"),
    ("net/ipv4/vs/expire_quiescent_template", "0"),
    ("net/ipv4/vs/sloppy_tcp", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
];

/// Those of each interface, and of all.
const OF_EACH: [(&str, &str); 5] = [
    ("net/ipv4/conf/{}/arp_announce", "0"),
    ("net/ipv4/conf/{}/arp_ignore", "0"),
    ("net/ipv4/conf/{}/rp_filter", "0"),
    ("net/ipv4/conf/{}/send_redirects", "1"),
    ("net/ipv6/conf/{}/accept_redirects", "1"),
];

/// A machine's network, as its kernel has it.
#[derive(Debug)]
pub struct Network {
    interfaces: Vec<Interface>,
    addresses: Vec<Carried>,
    sysctls: BTreeMap<String, String>,
    /// What the sysctls say of IPVS.
    ipvs: IpvsSettings,
    record: RecordFile,
    /// Since when each watch has not looked at a change.
    watches: BTreeMap<u64, Option<SimTime>>,
    refusals: BTreeMap<NetworkRequest, (Errno, SimTime)>,
}

/// What can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkRequest {
    /// Reading links and addresses.
    Read,
    /// Adding or renewing an address, or its local route.
    Put,
    /// Removing an address.
    Delete,
    /// Making a link, deleting it, bringing it up or down.
    Link,
    /// Writing a sysctl.
    Sysctl,
    /// Writing the record file.
    Save,
}

#[derive(Debug)]
struct Interface {
    link: Link,
    /// There is something at the other end of its cable.
    plugged: bool,
    arp_ignore: u32,
    arp_announce: u32,
}

/// An address that an interface carries.
#[derive(Debug)]
struct Carried {
    address: Address,
    /// When it is dropped, unless it is renewed.
    until: Option<SimTime>,
    /// From when on packets to it are taken; none: its local route is gone.
    received_from: Option<SimTime>,
}

#[derive(Debug, Default)]
enum RecordFile {
    #[default]
    Absent,
    Record(SettingsRecord),
    Corrupt,
}

/// A network at a time: what cvipd's settings act on. Waiting moves that time alone.
#[derive(Debug)]
pub struct NetworkAt<'a> {
    network: &'a mut Network,
    /// The time, after what was waited for.
    pub now: SimTime,
}

impl Network {
    /// A machine that has just started: `lo`, and these interfaces with their addresses and prefix
    /// lengths, all up and with a carrier.
    pub fn new(interfaces: &[(&str, IpAddr, u8)]) -> Network {
        let mut network = Network {
            interfaces: Vec::new(),
            addresses: Vec::new(),
            sysctls: BTreeMap::new(),
            ipvs: IpvsSettings::default(),
            record: RecordFile::Absent,
            watches: BTreeMap::new(),
            refusals: BTreeMap::new(),
        };
        let sysctls = SYSCTLS.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        network.sysctls.extend(sysctls);
        for scope in ["all", "default"] {
            network.add_sysctls(scope);
        }
        network.add_link(LOOPBACK, true);
        network.add_address(LOOPBACK, Ipv4Addr::LOCALHOST.into(), 8);
        for (device, addr, prefix) in interfaces {
            if network.link(device).is_none() {
                network.add_link(device, true);
            }
            network.add_address(device, *addr, *prefix);
        }
        network
    }

    fn add_link(&mut self, device: &str, is_up: bool) {
        let is_loopback = device == LOOPBACK;
        let link = Link {
            index: self.interfaces.last().map_or(1, |last| last.link.index + 1),
            name: device.to_owned(),
            is_up,
            has_carrier: is_up,
            is_loopback,
            answers_neighbours: !is_loopback,
            mtu: Some(if is_loopback { 65536 } else { 1500 }),
        };
        self.interfaces.push(Interface { link, plugged: true, arp_ignore: 0, arp_announce: 0 });
        self.add_sysctls(device);
        self.heed_sysctls();
    }

    fn add_sysctls(&mut self, scope: &str) {
        let sysctl =
            |(path, value): &(&str, &str)| (path.replace("{}", scope), (*value).to_owned());
        self.sysctls.extend(OF_EACH.iter().map(sysctl));
    }

    // ------------------------------------------------------------------------------ for cvipd

    /// The network at a time.
    pub fn at(&mut self, now: SimTime) -> NetworkAt<'_> {
        NetworkAt { network: self, now }
    }

    /// What the sysctls say of IPVS.
    pub fn ipvs(&self) -> IpvsSettings {
        self.ipvs
    }

    /// A sysctl's value.
    pub fn sysctl(&self, path: &str) -> Option<&str> {
        self.sysctls.get(path).map(String::as_str)
    }

    /// Every local address, and the lowest number of the interfaces that carry it.
    pub fn local_addresses(&self) -> BTreeMap<IpAddr, u32> {
        let mut local = BTreeMap::new();
        for Carried { address, .. } in &self.addresses {
            let index = local.entry(address.addr).or_insert(address.index);
            *index = address.index.min(*index);
        }
        local
    }

    /// Subscribes to changes of links, addresses and local routes.
    pub fn subscribe(&mut self) -> u64 {
        let watch = self.watches.last_key_value().map_or(1, |(last, _)| last + 1);
        self.watches.insert(watch, None);
        watch
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }

    /// Since when a subscriber has been notified and has not asked.
    pub fn notified(&self, watch: u64) -> Option<SimTime> {
        self.watches.get(&watch).copied().flatten()
    }

    /// True if something changed since a subscriber last asked.
    pub fn take_notification(&mut self, watch: u64) -> bool {
        self.watches.get_mut(&watch).is_some_and(|since| since.take().is_some())
    }

    fn notify(&mut self, now: SimTime) {
        for since in self.watches.values_mut() {
            since.get_or_insert(now);
        }
    }

    // ------------------------------------------------------------------------------ for packets

    /// True if packets to an address are taken for this machine's.
    pub fn receives(&self, addr: IpAddr, now: SimTime) -> bool {
        self.addresses
            .iter()
            .any(|carried| carried.address.addr == addr && self.is_local(carried, now))
    }

    /// True if a neighbour that asks on an interface who has an address is answered.
    ///
    /// By ARP, each local address is answered for on each interface, unless `arp_ignore` says that
    /// only the interface's own are (`arp_ignore`, net/ipv4/arp.c). By neighbour discovery, it is
    /// the interface's own always.
    pub fn answers_for(&self, addr: IpAddr, device: &str, now: SimTime) -> bool {
        let is_it = |carried: &&Carried| carried.address.addr == addr;
        let mut of_addr = self.addresses.iter().filter(is_it).peekable();
        if of_addr.peek().is_none() {
            return false;
        }
        let Some(on) = self.interface(device) else { return false };
        let ignore = if addr.is_ipv6() { 1 } else { on.arp_ignore };
        let counts = |carried: &Carried| match ignore {
            0 => true,
            1 | 2 => carried.address.index == on.link.index,
            _ => false,
        };
        let Link { is_up, has_carrier, answers_neighbours, .. } = on.link;
        is_up
            && has_carrier
            && answers_neighbours
            && of_addr.any(|carried| counts(carried) && self.is_local(carried, now))
    }

    /// True if ARP requests on an interface may name a local address as their sender, by which
    /// neighbours learn that it is here (`arp_announce`, net/ipv4/arp.c).
    pub fn names_in_requests(&self, addr: IpAddr, device: &str, now: SimTime) -> bool {
        let Some(on) = self.interface(device) else { return false };
        let mut of_addr = self.addresses.iter().filter(|carried| carried.address.addr == addr);
        let may_be_named = |carried: &Carried| {
            (on.arp_announce < 2 || carried.address.index == on.link.index)
                && self.is_local(carried, now)
        };
        addr.is_ipv4() && of_addr.any(may_be_named)
    }

    /// The interface's name and prefix length for each address that the kernel has.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, IpAddr, u8)> {
        self.addresses.iter().filter_map(|Carried { address, .. }| {
            Some((self.by_index(address.index)?.name.as_str(), address.addr, address.prefix))
        })
    }

    fn is_local(&self, carried: &Carried, now: SimTime) -> bool {
        let link = self.by_index(carried.address.index);
        let has_routes = link
            .is_some_and(|link| link.is_up && (carried.address.addr.is_ipv4() || link.has_carrier));
        has_routes && carried.received_from.is_some_and(|from| from <= now)
    }

    /// An interface.
    pub fn link(&self, device: &str) -> Option<&Link> {
        self.interface(device).map(|interface| &interface.link)
    }

    fn interface(&self, device: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.link.name == device)
    }

    fn by_index(&self, index: u32) -> Option<&Link> {
        self.interfaces.iter().map(|interface| &interface.link).find(|link| link.index == index)
    }

    // ------------------------------------------------------------------------------ time

    /// When the next address is dropped.
    pub fn due(&self) -> SimTime {
        self.addresses.iter().filter_map(|carried| carried.until).min().unwrap_or(SimTime::NEVER)
    }

    /// Drops the addresses whose lifetime has ended.
    pub fn tick(&mut self, now: SimTime) {
        if self.due() <= now {
            self.addresses.retain(|carried| carried.until.is_none_or(|until| until > now));
            self.notify(now);
        }
    }

    // ------------------------------------------------------------------------------ by hand

    /// Adds an address for ever, or makes one that is there so.
    pub fn add_address(&mut self, device: &str, addr: IpAddr, prefix: u8) {
        if let Some(index) = self.link(device).map(|link| link.index) {
            self.put(index, addr, prefix, None, SimTime(0));
        }
    }

    /// An operator adds an address for ever, or makes one that is there so.
    pub fn add_by_hand(&mut self, device: &str, addr: IpAddr, prefix: u8, now: SimTime) {
        self.add_address(device, addr, prefix);
        self.notify(now);
    }

    /// An operator removes an address. True if it was there.
    pub fn remove_by_hand(&mut self, device: &str, addr: IpAddr, now: SimTime) -> bool {
        let Some(index) = self.link(device).map(|link| link.index) else { return false };
        let before = self.addresses.len();
        self.addresses.retain(|c| c.address.addr != addr || c.address.index != index);
        let removed = self.addresses.len() < before;
        if removed {
            self.notify(now);
        }
        removed
    }

    /// An operator deletes the local route of an address. True if it was there.
    pub fn remove_local_route(&mut self, addr: IpAddr, now: SimTime) -> bool {
        let mut removed = false;
        for carried in self.addresses.iter_mut().filter(|c| c.address.addr == addr) {
            removed |= carried.received_from.take().is_some();
        }
        if removed {
            self.notify(now);
        }
        removed
    }

    /// An operator writes a sysctl. True if there is such a one.
    pub fn write_by_hand(&mut self, path: &str, value: &str) -> bool {
        let Some(is) = self.sysctls.get_mut(path) else { return false };
        value.clone_into(is);
        self.heed_sysctls();
        true
    }

    /// Takes what the sysctls say. Of `all` and an interface's own the kernel takes the larger value
    /// (`IN_DEV_MAXCONF`).
    fn heed_sysctls(&mut self) {
        let sysctls = &self.sysctls;
        let value = |path: String| sysctls.get(&path)?.parse::<u32>().ok();
        let is_on =
            |name: &str| value(format!("net/ipv4/vs/{name}")).is_some_and(|value| value > 0);
        self.ipvs = IpvsSettings {
            backup_only: is_on("backup_only"),
            expire_nodest_conn: is_on("expire_nodest_conn"),
            expire_quiescent_template: is_on("expire_quiescent_template"),
        };
        for Interface { link, arp_ignore, arp_announce, .. } in &mut self.interfaces {
            let larger = |name: &str| {
                let of = |scope: &str| value(format!("net/ipv4/conf/{scope}/{name}"));
                of("all").max(of(&link.name)).unwrap_or(0)
            };
            (*arp_ignore, *arp_announce) = (larger("arp_ignore"), larger("arp_announce"));
        }
    }

    /// A cable is plugged in or pulled out.
    pub fn set_carrier(&mut self, device: &str, plugged: bool, now: SimTime) {
        let interface = self.interfaces.iter_mut().find(|i| i.link.name == device);
        if let Some(interface) = interface.filter(|interface| interface.plugged != plugged) {
            interface.plugged = plugged;
            interface.link.has_carrier = plugged && interface.link.is_up;
            self.notify(now);
        }
    }

    /// An interface is brought up or down. Down, it loses its local routes, and its IPv6 addresses
    /// for ever; up, it has the routes of the others again.
    pub fn set_up(&mut self, device: &str, is_up: bool, now: SimTime) {
        let interface = self.interfaces.iter_mut().find(|i| i.link.name == device);
        let Some(Interface { link, plugged, .. }) = interface.filter(|i| i.link.is_up != is_up)
        else {
            return;
        };
        (link.is_up, link.has_carrier) = (is_up, is_up && *plugged);
        let index = link.index;
        if !is_up {
            self.addresses.retain(|c| c.address.index != index || c.address.addr.is_ipv4());
        }
        for carried in self.addresses.iter_mut().filter(|c| c.address.index == index) {
            carried.received_from = is_up.then_some(now);
        }
        self.notify(now);
    }

    /// The record file is damaged: the next cvipd cannot read it. True if there is one.
    pub fn damage_record(&mut self) -> bool {
        let is_there = !matches!(self.record, RecordFile::Absent);
        if is_there {
            self.record = RecordFile::Corrupt;
        }
        is_there
    }

    /// Somebody deletes the record file.
    pub fn delete_record(&mut self) {
        self.record = RecordFile::Absent;
    }

    /// Until then these requests of cvipd are refused.
    pub fn refuse(&mut self, request: NetworkRequest, errno: Errno, until: SimTime) {
        self.refusals.insert(request, (errno, until));
    }

    fn put(&mut self, index: u32, addr: IpAddr, prefix: u8, until: Option<SimTime>, now: SimTime) {
        let is_it = |c: &&mut Carried| {
            (c.address.index, c.address.addr, c.address.prefix) == (index, addr, prefix)
        };
        if let Some(carried) = self.addresses.iter_mut().find(is_it) {
            carried.until = until;
            return;
        }
        let address = Address { addr, prefix, network: addr, index, valid_lft: None };
        let background = if addr.is_ipv6() { IPV6_ROUTE_AFTER } else { Duration::ZERO };
        let received_from = Some(now + background);
        self.addresses.push(Carried { address, until, received_from });
        self.addresses.sort_by_key(|carried| carried.address.index);
    }
}

impl NetworkAt<'_> {
    fn refusal(&self, request: NetworkRequest) -> Option<Errno> {
        let (errno, until) = self.network.refusals.get(&request)?;
        (self.now < *until).then_some(*errno)
    }

    fn allow(&self, request: NetworkRequest, action: &str) -> Result<(), NetError> {
        match self.refusal(request) {
            Some(errno) => Err(refused(action, errno)),
            None => Ok(()),
        }
    }

    /// The interface, if it still is there.
    fn index_of(&self, link: &Link) -> Result<u32, Errno> {
        self.network.by_index(link.index).map(|link| link.index).ok_or(Errno::ENODEV)
    }
}

fn refused(action: &str, errno: Errno) -> NetError {
    NetError::Refused { action: action.to_owned(), errno, hint: String::new() }
}

fn no_sysctl(path: &str) -> NetError {
    NetError::NoSetting {
        setting: setting_name(path),
        hint: ": is the interface there?",
        outdated: false,
    }
}

impl NetworkHost for NetworkAt<'_> {
    fn read(&mut self) -> Result<(Vec<Link>, Vec<Address>), NetError> {
        if let Some(errno) = self.refusal(NetworkRequest::Read) {
            return Err(NetError::Transport(errno));
        }
        let now = self.now;
        self.network.tick(now);
        let shown = |Carried { address, until, .. }: &Carried| {
            let left = until.map(|until| until.since(now).as_secs());
            let valid_lft = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX - 1));
            Address { valid_lft, ..address.clone() }
        };
        let links = self.network.interfaces.iter().map(|interface| interface.link.clone());
        Ok((links.collect(), self.network.addresses.iter().map(shown).collect()))
    }

    fn put(
        &mut self,
        link: &Link,
        addr: IpAddr,
        prefix: u8,
        valid_lft: Option<u32>,
    ) -> Result<(), NetError> {
        let action = format!("add {addr}/{prefix} to {}", link.name);
        self.allow(NetworkRequest::Put, &action)?;
        let index = self.index_of(link).map_err(|errno| refused(&action, errno))?;
        if prefix > host_prefix(addr) {
            return Err(refused(&action, Errno::EINVAL));
        }
        // What is not renewed is dropped when the second after its lifetime begins.
        let until = valid_lft.map(|seconds| {
            let end = self.now + Duration::from_secs(seconds.into());
            SimTime(end.0.div_ceil(SECOND) * SECOND)
        });
        self.network.put(index, addr, prefix, until, self.now);
        self.network.notify(self.now);
        Ok(())
    }

    fn delete(&mut self, link: &Link, addr: IpAddr, prefix: u8) -> Result<bool, NetError> {
        self.allow(NetworkRequest::Delete, &format!("remove {addr}/{prefix} from {}", link.name))?;
        let before = self.network.addresses.len();
        self.network.addresses.retain(|Carried { address, .. }| {
            (address.index, address.addr, address.prefix) != (link.index, addr, prefix)
        });
        let removed = self.network.addresses.len() < before;
        if removed {
            self.network.notify(self.now);
        }
        Ok(removed)
    }

    fn add_local_route(
        &mut self,
        link: &Link,
        addr: Ipv4Addr,
        _source: Ipv4Addr,
    ) -> Result<(), NetError> {
        self.allow(
            NetworkRequest::Put,
            &format!("add the local route to {addr} on {}", link.name),
        )?;
        let now = self.now;
        let carried = self.network.addresses.iter_mut().find(|Carried { address, .. }| {
            address.addr == IpAddr::V4(addr) && address.index == link.index
        });
        if let Some(carried) = carried {
            carried.received_from.get_or_insert(now);
            self.network.notify(now);
        }
        Ok(())
    }

    fn is_received(&mut self, link: &Link, addr: IpAddr) -> Result<bool, NetError> {
        let network = &*self.network;
        let mut of_addr = network
            .addresses
            .iter()
            .filter(|Carried { address, .. }| address.addr == addr && address.index == link.index);
        Ok(of_addr.any(|carried| network.is_local(carried, self.now)))
    }

    fn make_tunnel(
        &mut self,
        device: &str,
        _kind: &str,
        _external: bool,
    ) -> Result<bool, NetError> {
        self.allow(NetworkRequest::Link, &format!("make {device}"))?;
        if self.network.link(device).is_some() {
            return Ok(false);
        }
        self.network.add_link(device, false);
        if let Some(made) = self.network.interfaces.last_mut() {
            made.link.answers_neighbours = false;
        }
        self.network.notify(self.now);
        Ok(true)
    }

    fn set_up(&mut self, link: &Link, up: bool) -> Result<(), NetError> {
        self.allow(NetworkRequest::Link, &format!("bring {} up or down", link.name))?;
        self.network.set_up(&link.name, up, self.now);
        Ok(())
    }

    fn delete_link(&mut self, link: &Link) -> Result<(), NetError> {
        self.allow(NetworkRequest::Link, &format!("delete {}", link.name))?;
        self.network.interfaces.retain(|other| other.link.index != link.index);
        self.network.addresses.retain(|carried| carried.address.index != link.index);
        self.network.notify(self.now);
        Ok(())
    }

    fn read_sysctl(&self, path: &str) -> Result<String, NetError> {
        self.network.sysctl(path).map(str::to_owned).ok_or_else(|| no_sysctl(path))
    }

    fn write_sysctl(&mut self, path: &str, value: &str) -> Result<(), NetError> {
        if let Some(errno) = self.refusal(NetworkRequest::Sysctl) {
            return Err(NetError::Setting { action: "set", setting: setting_name(path), errno });
        }
        if self.network.write_by_hand(path, value) { Ok(()) } else { Err(no_sysctl(path)) }
    }

    fn load(&self) -> Result<SettingsRecord, NetError> {
        match &self.network.record {
            RecordFile::Absent => Ok(SettingsRecord::default()),
            RecordFile::Record(record) => Ok(record.clone()),
            RecordFile::Corrupt => Err(record_error("cannot be read")),
        }
    }

    fn save(&mut self, record: &SettingsRecord) -> Result<(), NetError> {
        if self.refusal(NetworkRequest::Save).is_some() {
            return Err(record_error("cannot be written"));
        }
        self.network.record = match record.is_empty() {
            true => RecordFile::Absent,
            false => RecordFile::Record(record.clone()),
        };
        Ok(())
    }

    fn has_no_record(&self) -> bool {
        matches!(self.network.record, RecordFile::Absent)
    }

    fn now(&self) -> Instant {
        self.now.instant()
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }
}

fn record_error(reason: &str) -> NetError {
    NetError::Record { path: "/run/cvip/kept.json".into(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
