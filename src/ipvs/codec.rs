//! The kernel table's words as netlink attributes, and back.
//!
//! Numbers and types are those of linux/ip_vs.h; what the kernel demands in each message is
//! in net/netfilter/ipvs/ip_vs_ctl.c (`ip_vs_genl_parse_service`, `ip_vs_genl_parse_dest`).
//! Every message that adds or edits carries every setting, so that an edit leaves nothing of
//! what was there before.
//!
//! Services and destinations come by the ten thousand, and are written and read here byte by
//! byte. What comes one at a time (the family, version, time-outs, sync daemons) is in neli's
//! types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::consts::genl::{CtrlAttr, CtrlCmd};
use neli::consts::nl::{GenlId, NlmF};
use neli::genl::Nlattr;
use neli::types::Buffer;

use super::types::*;
use super::wire::{self, Malformed, fixed};
use crate::netlink::body::{Attributes, c_string, generic};
use crate::netlink::{Writer, table, text};
use crate::protocol::Protocol;

/// `IPVS_GENL_NAME`.
const FAMILY_NAME: &str = "IPVS";

/// The commands (`IPVS_CMD_*`).
mod cmd {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DEL_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DEST: u8 = 5;
    pub(super) const SET_DEST: u8 = 6;
    pub(super) const DEL_DEST: u8 = 7;
    pub(super) const GET_DEST: u8 = 8;
    pub(super) const NEW_DAEMON: u8 = 9;
    pub(super) const DEL_DAEMON: u8 = 10;
    pub(super) const GET_DAEMON: u8 = 11;
    pub(super) const SET_CONFIG: u8 = 12;
    pub(super) const GET_CONFIG: u8 = 13;
    pub(super) const GET_INFO: u8 = 15;
    pub(super) const ZERO: u8 = 16;
    pub(super) const FLUSH: u8 = 17;
}

/// `IPVS_CMD_ATTR_*`: a message's own attributes.
mod top {
    pub(super) const SERVICE: u16 = 1;
    pub(super) const DEST: u16 = 2;
    pub(super) const DAEMON: u16 = 3;
    pub(super) const TIMEOUT_TCP: u16 = 4;
    pub(super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(super) const TIMEOUT_UDP: u16 = 6;
}

/// `IPVS_INFO_ATTR_*`.
mod info {
    pub(super) const VERSION: u16 = 1;
    pub(super) const CONN_TAB_SIZE: u16 = 2;
}

/// `IPVS_SVC_ATTR_*`.
mod svc {
    pub(super) const AF: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const FWMARK: u16 = 5;
    pub(super) const SCHED_NAME: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const PE_NAME: u16 = 11;
}

/// `IPVS_DEST_ATTR_*`.
mod dest {
    pub(super) const ADDR: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const FWD_METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const U_THRESH: u16 = 5;
    pub(super) const L_THRESH: u16 = 6;
    pub(super) const ADDR_FAMILY: u16 = 11;
    pub(super) const TUN_TYPE: u16 = 13;
    pub(super) const TUN_PORT: u16 = 14;
    pub(super) const TUN_FLAGS: u16 = 15;
}

/// `IPVS_DAEMON_ATTR_*`.
mod daemon {
    pub(super) const STATE: u16 = 1;
    pub(super) const MCAST_IFN: u16 = 2;
    pub(super) const SYNC_ID: u16 = 3;
    pub(super) const SYNC_MAXLEN: u16 = 4;
    pub(super) const MCAST_GROUP: u16 = 5;
    pub(super) const MCAST_GROUP6: u16 = 6;
    pub(super) const MCAST_PORT: u16 = 7;
    pub(super) const MCAST_TTL: u16 = 8;
}

/// `AF_INET`.
const AF_INET: u16 = nix::libc::AF_INET as u16;
/// `AF_INET6`.
const AF_INET6: u16 = nix::libc::AF_INET6 as u16;

fn af(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

// ---------------------------------------------------------------------------------- requests

/// A question: every one is answered by messages that this module can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query<'a> {
    /// Which number the family has.
    Family,
    /// Version and table size.
    Info,
    /// One service.
    Service(&'a ServiceId),
    /// Every service (a dump).
    Services,
    /// A service's destinations (a dump).
    Destinations(&'a ServiceId),
    /// Connection time-outs.
    Timeouts,
    /// Sync daemons (a dump).
    Daemons,
}

/// Appends the message that asks `query`; `family` is the number of `IPVS`.
pub(super) fn write_query(buffer: &mut Vec<u8>, family: u16, sequence: u32, query: Query<'_>) {
    const ONE: NlmF = NlmF::REQUEST;
    const ALL: NlmF = ONE.union(NlmF::DUMP);
    let (family, command, flags) = match query {
        Query::Family => (GenlId::Ctrl.into(), CtrlCmd::Getfamily.into(), ONE),
        Query::Info => (family, cmd::GET_INFO, ONE),
        Query::Service(_) => (family, cmd::GET_SERVICE, ONE),
        Query::Services => (family, cmd::GET_SERVICE, ALL),
        Query::Destinations(_) => (family, cmd::GET_DEST, ALL),
        Query::Timeouts => (family, cmd::GET_CONFIG, ONE),
        Query::Daemons => (family, cmd::GET_DAEMON, ALL),
    };
    let mut writer = wire::begin(buffer, family, command, flags, sequence);
    match query {
        Query::Family => writer.attributes([generic(CtrlAttr::FamilyName, FAMILY_NAME)]),
        Query::Service(id) | Query::Destinations(id) => {
            writer.nest(top::SERVICE, |w| write_service_id(w, id));
        }
        Query::Info | Query::Services | Query::Timeouts | Query::Daemons => {}
    }
    writer.end();
}

/// Appends the message that makes `change`; only failure is answered.
pub(super) fn write_change(buffer: &mut Vec<u8>, family: u16, sequence: u32, change: &Change) {
    let command = match change {
        Change::AddService(_) => cmd::NEW_SERVICE,
        Change::EditService(_) => cmd::SET_SERVICE,
        Change::DeleteService(_) => cmd::DEL_SERVICE,
        Change::AddDestination(..) => cmd::NEW_DEST,
        Change::EditDestination(..) => cmd::SET_DEST,
        Change::DeleteDestination(..) => cmd::DEL_DEST,
        Change::Zero(_) => cmd::ZERO,
        Change::Flush => cmd::FLUSH,
        Change::SetTimeouts(_) => cmd::SET_CONFIG,
        Change::StartDaemon(_) => cmd::NEW_DAEMON,
        Change::StopDaemon(..) => cmd::DEL_DAEMON,
    };
    let mut writer = wire::begin(buffer, family, command, NlmF::REQUEST, sequence);
    match change {
        Change::AddService(service) | Change::EditService(service) => {
            writer.nest(top::SERVICE, |w| write_service(w, service));
        }
        Change::DeleteService(id) | Change::Zero(Some(id)) => {
            writer.nest(top::SERVICE, |w| write_service_id(w, id));
        }
        Change::AddDestination(id, destination) | Change::EditDestination(id, destination) => {
            writer.nest(top::SERVICE, |w| write_service_id(w, id));
            writer.nest(top::DEST, |w| write_destination(w, destination));
        }
        Change::DeleteDestination(id, destination) => {
            writer.nest(top::SERVICE, |w| write_service_id(w, id));
            writer.nest(top::DEST, |w| write_destination_id(w, destination));
        }
        Change::Zero(None) | Change::Flush => {}
        Change::SetTimeouts(Timeouts { tcp, tcp_fin, udp }) => writer.attributes([
            generic(top::TIMEOUT_TCP, *tcp),
            generic(top::TIMEOUT_TCP_FIN, *tcp_fin),
            generic(top::TIMEOUT_UDP, *udp),
        ]),
        Change::StartDaemon(daemon) => {
            writer.nest(top::DAEMON, |w| w.attributes(daemon_attributes(daemon)));
        }
        Change::StopDaemon(role, sync_id) => {
            let which = [(daemon::STATE, state(*role)), (daemon::SYNC_ID, *sync_id)];
            writer.nest(top::DAEMON, |w| w.attributes(which.map(|(k, v)| generic(k, v))));
        }
    }
    writer.end();
}

/// Upper bound of a message that [`write_change`] writes, in bytes: headers, a dozen
/// attributes of fixed length, and two names.
pub(super) const LARGEST_CHANGE: usize = 1024;

fn write_service_id(writer: &mut Writer<'_>, id: &ServiceId) {
    writer.u16(svc::AF, af(id.family()));
    match id {
        ServiceId::Address { protocol, addr, port } => {
            writer.u16(svc::PROTOCOL, protocol.number().into());
            writer.bytes(svc::ADDR, &address_bytes(*addr));
            writer.be16(svc::PORT, *port);
        }
        ServiceId::Mark { mark, .. } => writer.u32(svc::FWMARK, *mark),
    }
}

fn write_service(writer: &mut Writer<'_>, service: &Service) {
    let Service { id, scheduler, flags, timeout, netmask, pe } = service;
    write_service_id(writer, id);
    writer.text(svc::SCHED_NAME, scheduler);
    if let Some(pe) = pe {
        writer.text(svc::PE_NAME, pe);
    }
    // struct ip_vs_flags: the flags, and a mask of those that are meant: all. A service that
    // arrived with HASHED set would be taken for one that already stands in the table.
    let flags = flags & !service_flags::HASHED;
    let mut flags_and_mask = [0xff; 8];
    flags_and_mask[..4].copy_from_slice(&flags.to_ne_bytes());
    writer.bytes(svc::FLAGS, &flags_and_mask);
    writer.u32(svc::TIMEOUT, persistence(flags, *timeout));
    writer.bytes(svc::NETMASK, &netmask_bytes(id.family(), *netmask));
}

/// A time-out counts with the flag only, in both directions: else a table and its dump would
/// differ for ever.
fn persistence(flags: u32, timeout: u32) -> u32 {
    if flags & service_flags::PERSISTENT != 0 { timeout } else { 0 }
}

fn write_destination_id(writer: &mut Writer<'_>, id: &DestinationId) {
    writer.bytes(dest::ADDR, &address_bytes(id.addr));
    writer.be16(dest::PORT, id.port);
    writer.u16(dest::ADDR_FAMILY, af(Family::of(id.addr)));
}

fn write_destination(writer: &mut Writer<'_>, destination: &Destination) {
    let Destination { id, forward, weight, upper, lower, tunnel } = destination;
    write_destination_id(writer, id);
    writer.u32(dest::FWD_METHOD, forwarding_number(*forward));
    writer.u32(dest::WEIGHT, *weight);
    writer.u32(dest::U_THRESH, *upper);
    writer.u32(dest::L_THRESH, *lower);
    writer.u8(dest::TUN_TYPE, tunnel_number(tunnel.kind));
    writer.be16(dest::TUN_PORT, tunnel.port);
    writer.u16(dest::TUN_FLAGS, tunnel.flags);
}

fn daemon_attributes(daemon: &SyncDaemon) -> Vec<Nlattr<u16, Buffer>> {
    let SyncDaemon { role, interface, sync_id, max_len, group, port, ttl } = daemon;
    let mut attributes = vec![
        generic(daemon::STATE, state(*role)),
        generic(daemon::MCAST_IFN, c_string(interface)),
        generic(daemon::SYNC_ID, *sync_id),
    ];
    attributes.extend(max_len.map(|bytes| generic(daemon::SYNC_MAXLEN, bytes)));
    attributes.extend(group.map(|group| match group {
        IpAddr::V4(group) => generic(daemon::MCAST_GROUP, group.octets()),
        IpAddr::V6(group) => generic(daemon::MCAST_GROUP6, group.octets()),
    }));
    // In host order, unlike every other port.
    attributes.extend(port.map(|port| generic(daemon::MCAST_PORT, port)));
    attributes.extend(ttl.map(|ttl| generic(daemon::MCAST_TTL, ttl)));
    attributes
}

/// `union nf_inet_addr`: 16 bytes for both families.
fn address_bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&addr.octets());
            bytes
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// A mask in network order for IPv4, a prefix length in host order for IPv6.
fn netmask_bytes(family: Family, netmask: u32) -> [u8; 4] {
    match family {
        Family::V4 => netmask.to_be_bytes(),
        Family::V6 => netmask.to_ne_bytes(),
    }
}

fn forwarding_number(forward: Forwarding) -> u32 {
    match forward {
        Forwarding::Masquerade => 0,
        Forwarding::LocalNode => 1,
        Forwarding::Tunnel => 2,
        Forwarding::Route => 3,
        Forwarding::Bypass => 4,
    }
}

fn tunnel_number(kind: TunnelKind) -> u8 {
    match kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gue => 1,
        TunnelKind::Gre => 2,
    }
}

/// `IP_VS_STATE_*`.
fn state(role: DaemonRole) -> u32 {
    match role {
        DaemonRole::Master => 1,
        DaemonRole::Backup => 2,
    }
}

// ----------------------------------------------------------------------------------- replies

/// The number of the family `IPVS`, from the controller's reply.
pub(super) fn read_family(attributes: &[u8]) -> Result<u16, Malformed> {
    let attributes = Attributes::read(attributes)?;
    wire::u16("the family's number", attributes.get(CtrlAttr::FamilyId))
}

/// The reply to [`Query::Info`].
pub(super) fn read_info(attributes: &[u8]) -> Result<Info, Malformed> {
    let attributes = Attributes::read(attributes)?;
    let version = wire::u32("the IPVS version", attributes.get(info::VERSION))?;
    let [_, major, minor, patch] = version.to_be_bytes();
    let size = attributes.get(info::CONN_TAB_SIZE);
    Ok(Info {
        version: (major, minor, patch),
        connection_table_size: wire::u32("the connection table's size", size)?,
    })
}

/// The reply to [`Query::Timeouts`]. The kernel leaves out those of a protocol that it was
/// built without: they are 0.
pub(super) fn read_timeouts(attributes: &[u8]) -> Result<Timeouts, Malformed> {
    let attributes = Attributes::read(attributes)?;
    let seconds =
        |name, kind| optional(attributes.get(kind), |v| wire::u32(name, v)).map(|s| s.unwrap_or(0));
    Ok(Timeouts {
        tcp: seconds("the TCP time-out", top::TIMEOUT_TCP)?,
        tcp_fin: seconds("the TCP FIN time-out", top::TIMEOUT_TCP_FIN)?,
        udp: seconds("the UDP time-out", top::TIMEOUT_UDP)?,
    })
}

/// What a message that shows a service calls it.
pub(super) fn read_service_id(attributes: &[u8]) -> Result<ServiceId, Malformed> {
    let [_, nest] = table::<2>(attributes)?;
    let nest = nest.ok_or(Malformed::Missing("virtual service"))?;
    let [_, af, protocol, addr, port, mark] = table::<6>(nest)?;
    service_id(af, protocol, addr, port, mark)
}

fn service_id(
    af: Option<&[u8]>,
    protocol: Option<&[u8]>,
    addr: Option<&[u8]>,
    port: Option<&[u8]>,
    mark: Option<&[u8]>,
) -> Result<ServiceId, Malformed> {
    let family = read_af("the service's family", af)?;
    if mark.is_some() {
        return Ok(ServiceId::Mark { mark: wire::u32("the firewall mark", mark)?, family });
    }
    let number = wire::u16("the service's protocol", protocol)?;
    Ok(ServiceId::Address {
        protocol: Protocol::from_number(number)
            .ok_or(Malformed::Value { name: "the service's protocol", value: number.into() })?,
        addr: read_address("the service's address", family, addr)?,
        port: wire::be16("the service's port", port)?,
    })
}

/// One message of the reply to [`Query::Service`] or [`Query::Services`].
pub(super) fn read_service(attributes: &[u8]) -> Result<ServiceEntry, Malformed> {
    let [_, nest] = table::<2>(attributes)?;
    let nest = nest.ok_or(Malformed::Missing("virtual service"))?;
    let [_, af, protocol, addr, port, mark, scheduler, flags, timeout, netmask, stats, pe, stats64] =
        table::<13>(nest)?;
    let id = service_id(af, protocol, addr, port, mark)?;
    let family = id.family();
    let [f0, f1, f2, f3, ..] = fixed::<8>("the service's flags", flags)?;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]) & !service_flags::HASHED;
    let netmask = fixed::<4>("the persistence netmask", netmask)?;
    Ok(ServiceEntry {
        service: Service {
            id,
            scheduler: text(scheduler.ok_or(Malformed::Missing("scheduler"))?),
            flags,
            timeout: persistence(flags, wire::u32("the persistence time-out", timeout)?),
            netmask: match family {
                Family::V4 => u32::from_be_bytes(netmask),
                Family::V6 => u32::from_ne_bytes(netmask),
            },
            pe: pe.map(text).filter(|pe| !pe.is_empty()),
        },
        stats: read_stats(stats64.or(stats))?,
    })
}

/// What a message that shows a destination calls it.
pub(super) fn read_destination_id(
    attributes: &[u8],
    family: Family,
) -> Result<DestinationId, Malformed> {
    let [_, _, nest] = table::<3>(attributes)?;
    let nest = nest.ok_or(Malformed::Missing("destination"))?;
    let [_, addr, port, _, _, _, _, _, _, _, _, af] = table::<12>(nest)?;
    destination_id(addr, port, af, family)
}

fn destination_id(
    addr: Option<&[u8]>,
    port: Option<&[u8]>,
    af: Option<&[u8]>,
    family: Family,
) -> Result<DestinationId, Malformed> {
    let family = match af {
        Some(_) => read_af("the destination's family", af)?,
        None => family,
    };
    Ok(DestinationId {
        addr: read_address("the destination's address", family, addr)?,
        port: wire::be16("the destination's port", port)?,
    })
}

/// One message of the reply to [`Query::Destinations`] of a service of `family`, which
/// kernels before 3.18 do not repeat for the destination.
pub(super) fn read_destination(
    attributes: &[u8],
    family: Family,
) -> Result<DestinationEntry, Malformed> {
    let [_, _, nest] = table::<3>(attributes)?;
    let nest = nest.ok_or(Malformed::Missing("destination"))?;
    let [
        _,
        addr,
        port,
        forward,
        weight,
        upper,
        lower,
        active,
        inactive,
        persistent,
        stats,
        af,
        stats64,
        tunnel_type,
        tunnel_port,
        tunnel_flags,
    ] = table::<16>(nest)?;
    Ok(DestinationEntry {
        destination: Destination {
            id: destination_id(addr, port, af, family)?,
            forward: read_forwarding(forward)?,
            weight: wire::u32("the weight", weight)?,
            upper: wire::u32("the upper threshold", upper)?,
            lower: wire::u32("the lower threshold", lower)?,
            tunnel: read_tunnel(tunnel_type, tunnel_port, tunnel_flags)?,
        },
        active: wire::u32("the number of active connections", active)?,
        inactive: wire::u32("the number of inactive connections", inactive)?,
        persistent: wire::u32("the number of persistent connections", persistent)?,
        stats: read_stats(stats64.or(stats))?,
    })
}

/// One message of the reply to [`Query::Daemons`].
pub(super) fn read_daemon(attributes: &[u8]) -> Result<SyncDaemon, Malformed> {
    let attributes = Attributes::read(attributes)?;
    let nest = attributes.get(top::DAEMON).ok_or(Malformed::Missing("sync daemon"))?;
    let attributes = Attributes::read(nest)?;
    let get = |kind| attributes.get(kind);
    let role = match wire::u32("the daemon's state", get(daemon::STATE))? {
        1 => DaemonRole::Master,
        2 => DaemonRole::Backup,
        value => return Err(Malformed::Value { name: "the daemon's state", value }),
    };
    let group = match (get(daemon::MCAST_GROUP), get(daemon::MCAST_GROUP6)) {
        (None, None) => None,
        (None, v6) => Some(Ipv6Addr::from(fixed::<16>("the multicast group", v6)?).into()),
        (v4, _) => Some(Ipv4Addr::from(fixed::<4>("the multicast group", v4)?).into()),
    };
    let interface = get(daemon::MCAST_IFN).ok_or(Malformed::Missing("multicast interface"))?;
    let ttl = get(daemon::MCAST_TTL);
    Ok(SyncDaemon {
        role,
        interface: text(interface),
        sync_id: wire::u32("the sync id", get(daemon::SYNC_ID))?,
        max_len: optional(get(daemon::SYNC_MAXLEN), |v| wire::u16("the largest message", v))?,
        group,
        port: optional(get(daemon::MCAST_PORT), |v| wire::u16("the multicast port", v))?,
        ttl: optional(ttl, |v| fixed::<1>("the multicast TTL", v))?.map(|[ttl]| ttl),
    })
}

/// A field that may be absent, but not wrong.
fn optional<T>(
    value: Option<&[u8]>,
    read: impl FnOnce(Option<&[u8]>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    value.map(|value| read(Some(value))).transpose()
}

fn read_af(name: &'static str, value: Option<&[u8]>) -> Result<Family, Malformed> {
    match wire::u16(name, value)? {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        other => Err(Malformed::Value { name, value: other.into() }),
    }
}

fn read_address(
    name: &'static str,
    family: Family,
    value: Option<&[u8]>,
) -> Result<IpAddr, Malformed> {
    let bytes = fixed::<16>(name, value)?;
    Ok(match family {
        Family::V4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        Family::V6 => Ipv6Addr::from(bytes).into(),
    })
}

fn read_forwarding(value: Option<&[u8]>) -> Result<Forwarding, Malformed> {
    let name = "the forwarding method";
    // IP_VS_CONN_F_FWD_MASK: other connection flags may stand beside it.
    match wire::u32(name, value)? & 7 {
        0 => Ok(Forwarding::Masquerade),
        1 => Ok(Forwarding::LocalNode),
        2 => Ok(Forwarding::Tunnel),
        3 => Ok(Forwarding::Route),
        4 => Ok(Forwarding::Bypass),
        value => Err(Malformed::Value { name, value }),
    }
}

/// Kernels before 5.2 know IP in IP only, and do not say so.
fn read_tunnel(
    kind: Option<&[u8]>,
    port: Option<&[u8]>,
    flags: Option<&[u8]>,
) -> Result<Tunnel, Malformed> {
    let name = "the tunnel's type";
    Ok(Tunnel {
        kind: match optional(kind, |v| fixed::<1>(name, v))? {
            None | Some([0]) => TunnelKind::Ipip,
            Some([1]) => TunnelKind::Gue,
            Some([2]) => TunnelKind::Gre,
            Some([value]) => return Err(Malformed::Value { name, value: value.into() }),
        },
        port: optional(port, |v| wire::be16("the tunnel's port", v))?.unwrap_or(0),
        flags: optional(flags, |v| wire::u16("the tunnel's flags", v))?.unwrap_or(0),
    })
}

/// `IPVS_STATS_ATTR_*`, of `STATS64` (all of 64 bits) or of `STATS` (32, but for the bytes).
fn read_stats(nest: Option<&[u8]>) -> Result<Stats, Malformed> {
    let attributes = table::<11>(nest.ok_or(Malformed::Missing("statistics"))?)?;
    let counter = |name, attribute: usize| match attributes[attribute] {
        Some(value) if value.len() == 4 => wire::u32(name, Some(value)).map(u64::from),
        value => fixed(name, value).map(u64::from_ne_bytes),
    };
    Ok(Stats {
        connections: counter("the number of connections", 1)?,
        in_packets: counter("the number of incoming packets", 2)?,
        out_packets: counter("the number of outgoing packets", 3)?,
        in_bytes: counter("the number of incoming bytes", 4)?,
        out_bytes: counter("the number of outgoing bytes", 5)?,
        cps: counter("the rate of connections", 6)?,
        in_pps: counter("the rate of incoming packets", 7)?,
        out_pps: counter("the rate of outgoing packets", 8)?,
        in_bps: counter("the rate of incoming bytes", 9)?,
        out_bps: counter("the rate of outgoing bytes", 10)?,
    })
}

#[cfg(test)]
mod tests;
