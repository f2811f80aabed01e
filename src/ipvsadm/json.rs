//! The listings as JSON, for programs.
//!
//! The schema is part of the interface. Every document is one object with `"version": 1`;
//! the version grows when a member changes its meaning or goes away, and stays when one is
//! added. Addresses and ports are never names, counters are whole numbers in full, times
//! are seconds. The man page describes the members.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::connections::Connection;
use super::line::tunnel_name;
use super::listing::scheduler_flag_words;
use crate::ipvs::{
    Daemon, DaemonRole, DestinationEntry, Family, Forwarding, Info, ServiceEntry, ServiceId, Stats,
    Timeouts, service_flags,
};
use crate::protocol::Protocol;

/// The version of the schema.
pub const VERSION: u32 = 1;

/// `-L --json`: the table, or one service of it. It is written service by service, so that the
/// largest table takes no more memory than its largest service.
#[derive(Debug)]
pub struct TableDocument {
    separator: &'static str,
}

#[derive(Debug, Serialize)]
struct ServiceObject {
    #[serde(flatten)]
    id: IdObject,
    scheduler: String,
    scheduler_flags: Vec<&'static str>,
    /// Seconds; `null` without persistence.
    persistent: Option<u32>,
    /// What persistence takes for one client, if that is more than one address.
    persistence_netmask: Option<String>,
    persistence_engine: Option<String>,
    one_packet: bool,
    stats: StatsObject,
    rate: RateObject,
    destinations: Vec<DestinationObject>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum IdObject {
    Address { protocol: Protocol, address: IpAddr, port: u16 },
    Mark { fwmark: u32, family: &'static str },
}

#[derive(Debug, Serialize)]
struct DestinationObject {
    address: IpAddr,
    port: u16,
    forward: &'static str,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<TunnelObject>,
    stats: StatsObject,
    rate: RateObject,
}

#[derive(Debug, Serialize)]
struct TunnelObject {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    checksum: &'static str,
}

/// Totals since the entry was made or zeroed.
#[derive(Debug, Serialize)]
struct StatsObject {
    connections: u64,
    packets_in: u64,
    packets_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// The same per second, as the kernel estimates it.
#[derive(Debug, Serialize)]
struct RateObject {
    connections: u64,
    packets_in: u64,
    packets_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// How much of the table a document lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All services.
    Table,
    /// One service that was asked for.
    OneService,
}

impl TableDocument {
    /// Begins a document; `info` where the table itself is listed, not what happened in it.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn begin(
        out: &mut dyn Write,
        extent: Extent,
        info: Option<&Info>,
    ) -> io::Result<TableDocument> {
        write!(out, "{{\"version\":{VERSION},")?;
        if extent == Extent::OneService {
            out.write_all(b"\"one_service\":true,")?;
        }
        if let Some(Info { version: (major, minor, patch), connection_table_size }) = info {
            write!(
                out,
                "\"ipvs_version\":\"{major}.{minor}.{patch}\",\
                 \"connection_table_size\":{connection_table_size},"
            )?;
        }
        out.write_all(b"\"services\":[")?;
        Ok(TableDocument { separator: "" })
    }

    /// Adds a service with its destinations.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn push(
        &mut self,
        out: &mut dyn Write,
        entry: &ServiceEntry,
        destinations: &[DestinationEntry],
    ) -> io::Result<()> {
        out.write_all(std::mem::replace(&mut self.separator, ",").as_bytes())?;
        Ok(serde_json::to_writer(out, &service(entry, destinations))?)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn end(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"]}\n")
    }
}

fn service(entry: &ServiceEntry, destinations: &[DestinationEntry]) -> ServiceObject {
    let service = &entry.service;
    let persistent = service.flags & service_flags::PERSISTENT != 0;
    ServiceObject {
        id: match service.id {
            ServiceId::Address { protocol, addr, port } => {
                IdObject::Address { protocol, address: addr, port }
            }
            ServiceId::Mark { mark, family } => IdObject::Mark {
                fwmark: mark,
                family: match family {
                    Family::V4 => "ipv4",
                    Family::V6 => "ipv6",
                },
            },
        },
        scheduler: service.scheduler.clone(),
        scheduler_flags: scheduler_flag_words(service),
        persistent: persistent.then_some(service.timeout),
        persistence_netmask: if persistent { service.partial_netmask() } else { None },
        persistence_engine: service.pe.clone(),
        one_packet: service.flags & service_flags::ONE_PACKET != 0,
        stats: stats(&entry.stats),
        rate: rate(&entry.stats),
        destinations: destinations.iter().map(destination).collect(),
    }
}

fn destination(entry: &DestinationEntry) -> DestinationObject {
    let destination = &entry.destination;
    let tunnel = destination.tunnel;
    DestinationObject {
        address: destination.id.addr,
        port: destination.id.port,
        forward: match destination.forward {
            Forwarding::Masquerade => "masquerade",
            Forwarding::LocalNode => "local",
            Forwarding::Tunnel => "tunnel",
            Forwarding::Route => "route",
            Forwarding::Bypass => "bypass",
        },
        weight: destination.weight,
        upper_threshold: destination.upper,
        lower_threshold: destination.lower,
        active_connections: entry.active,
        inactive_connections: entry.inactive,
        persistent_connections: entry.persistent,
        tunnel: (destination.forward == Forwarding::Tunnel).then(|| TunnelObject {
            r#type: tunnel_name(tunnel.kind),
            port: (tunnel.port != 0).then_some(tunnel.port),
            checksum: match tunnel.flags {
                0 => "none",
                1 => "full",
                _ => "remote",
            },
        }),
        stats: stats(&entry.stats),
        rate: rate(&entry.stats),
    }
}

fn stats(stats: &Stats) -> StatsObject {
    StatsObject {
        connections: stats.connections,
        packets_in: stats.in_packets,
        packets_out: stats.out_packets,
        bytes_in: stats.in_bytes,
        bytes_out: stats.out_bytes,
    }
}

fn rate(stats: &Stats) -> RateObject {
    RateObject {
        connections: stats.cps,
        packets_in: stats.in_pps,
        packets_out: stats.out_pps,
        bytes_in: stats.in_bps,
        bytes_out: stats.out_bps,
    }
}

/// `-L --timeout --json`.
#[derive(Debug, Serialize)]
pub struct TimeoutsDocument {
    version: u32,
    timeouts: Timeouts,
}

impl TimeoutsDocument {
    /// The time-outs.
    pub fn new(timeouts: Timeouts) -> TimeoutsDocument {
        TimeoutsDocument { version: VERSION, timeouts }
    }
}

/// `-L --daemon --json`.
#[derive(Debug, Serialize)]
pub struct DaemonsDocument {
    version: u32,
    daemons: Vec<DaemonObject>,
}

#[derive(Debug, Serialize)]
struct DaemonObject {
    role: DaemonRole,
    interface: String,
    sync_id: u32,
    max_len: Option<u16>,
    group: Option<IpAddr>,
    port: Option<u16>,
    ttl: Option<u8>,
}

impl DaemonsDocument {
    /// The daemons that run.
    pub fn new(daemons: Vec<Daemon>) -> DaemonsDocument {
        let daemons = daemons
            .into_iter()
            .map(|daemon| DaemonObject {
                role: daemon.role,
                interface: daemon.interface,
                sync_id: daemon.sync_id,
                max_len: daemon.max_len,
                group: daemon.group,
                port: daemon.port,
                ttl: daemon.ttl,
            })
            .collect();
        DaemonsDocument { version: VERSION, daemons }
    }
}

/// `-L --totals --json`.
#[derive(Debug, Serialize)]
pub struct TotalsDocument {
    version: u32,
    stats: StatsObject,
    rate: RateObject,
}

impl TotalsDocument {
    /// The counters of all services together.
    pub fn new(totals: &Stats) -> TotalsDocument {
        TotalsDocument { version: VERSION, stats: stats(totals), rate: rate(totals) }
    }
}

/// `-L --status --json`.
#[derive(Debug, Serialize)]
pub struct StatusDocument<'a> {
    version: u32,
    status: BTreeMap<&'a str, &'a str>,
}

impl<'a> StatusDocument<'a> {
    /// The kernel's lines, each of a name and a value.
    pub fn new(lines: &[(&'a str, &'a str)]) -> StatusDocument<'a> {
        StatusDocument { version: VERSION, status: lines.iter().copied().collect() }
    }
}

/// One element of `-L -c --json`.
#[derive(Debug, Serialize)]
pub struct ConnectionObject<'a> {
    /// As a service's.
    protocol: String,
    client: PeerObject,
    service: PeerObject,
    server: PeerObject,
    state: &'a str,
    expires: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence_engine: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence_data: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PeerObject {
    address: IpAddr,
    port: u16,
}

impl<'a> ConnectionObject<'a> {
    /// A connection.
    pub fn new(connection: &Connection<'a>) -> ConnectionObject<'a> {
        let peer = |(address, port)| PeerObject { address, port };
        ConnectionObject {
            protocol: connection.protocol.to_ascii_lowercase(),
            client: peer(connection.client),
            service: peer(connection.service),
            server: peer(connection.server),
            state: connection.state,
            expires: connection.expires,
            persistence_engine: connection.engine.map(|(name, _)| name),
            persistence_data: connection.engine.map(|(_, data)| data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Destination, Service};

    fn document(
        info: Option<&Info>,
        services: &[(ServiceEntry, Vec<DestinationEntry>)],
    ) -> serde_json::Value {
        let mut text = Vec::new();
        let mut document = TableDocument::begin(&mut text, Extent::Table, info).unwrap();
        for (entry, destinations) in services {
            document.push(&mut text, entry, destinations).unwrap();
        }
        document.end(&mut text).unwrap();
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_table_is_one_object_with_a_version() {
        let info = Info { version: (1, 2, 1), connection_table_size: 4096 };
        let id = ServiceId::Mark { mark: 7, family: Family::V6 };
        let mut service = Service::new(id, "sh").persistent(60);
        service.netmask = 64;
        service.flags |= service_flags::SCHED2;
        let stats = Stats { connections: 5_000_000_000, ..Stats::default() };
        let server = "2001:db8::10".parse().unwrap();
        let destination = DestinationEntry {
            destination: Destination::new(server, 0, Forwarding::Tunnel, 1),
            active: 2,
            inactive: 3,
            persistent: 1,
            stats,
        };
        let value = document(Some(&info), &[(ServiceEntry { service, stats }, vec![destination])]);
        assert_eq!(value["version"], 1);
        assert_eq!(value["ipvs_version"], "1.2.1");
        let service = &value["services"][0];
        assert_eq!(service["fwmark"], 7);
        assert_eq!(service["family"], "ipv6");
        assert_eq!(service["persistent"], 60);
        assert_eq!(service["persistence_netmask"], "64");
        assert_eq!(service["scheduler_flags"], serde_json::json!(["sh-port"]));
        assert_eq!(service["stats"]["connections"], 5_000_000_000u64);
        let destination = &service["destinations"][0];
        assert_eq!(destination["address"], "2001:db8::10");
        assert_eq!(destination["tunnel"], serde_json::json!({"type": "ipip", "checksum": "none"}));
    }

    #[test]
    fn a_service_by_address_has_no_mark() {
        let id = ServiceId::Address {
            protocol: Protocol::Sctp,
            addr: "10.0.0.1".parse().unwrap(),
            port: 9999,
        };
        let entry = ServiceEntry { service: Service::new(id, "rr"), stats: Stats::default() };
        let value = document(None, &[(entry.clone(), vec![]), (entry, vec![])]);
        assert_eq!(value["services"].as_array().unwrap().len(), 2);
        let service = &value["services"][0];
        assert_eq!((&service["protocol"], &service["port"]), (&"sctp".into(), &9999.into()));
        assert!(service.get("fwmark").is_none() && service["persistent"].is_null());
        assert!(value.get("ipvs_version").is_none());
    }
}
