//! The listings as JSON documents, and the objects that they are made of.
//!
//! Addresses and ports are never names, and counters are whole numbers in full. What they share
//! with the documents of other programs stands in [`crate::json`]; [`super::from_json`] reads
//! the same objects.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::connections::Connection;
use super::drain::{ConnectionCounts, DrainEnd};
use crate::ipvs::{
    Destination, DestinationEntry, DestinationId, Family, Forwarding, Info, SchedulerFlag, Service,
    ServiceEntry, ServiceId, Stats, TunnelKind, service_flags,
};
use crate::json::{JsonList, SCHEMA};
use crate::protocol::Protocol;

/// `-L --json`: the table, or one service of it. It is written service by service, so that the
/// largest table takes no more memory than its largest service.
#[derive(Debug)]
pub struct TableDocument {
    services: JsonList,
}

/// A virtual service: its address and port, or its firewall mark, and its settings. What only a
/// kernel says is passed over when it is read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fwmark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) family: Option<Family>,
    pub(super) scheduler: String,
    #[serde(default)]
    pub(super) scheduler_flags: Vec<Cow<'static, str>>,
    /// Absent without persistence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) persistence_timeout_s: Option<u32>,
    /// What persistence takes for one client, if that is more than one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) persistence_netmask: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) persistence_engine: Option<String>,
    #[serde(default)]
    pub(super) one_packet: bool,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    stats: Option<DocumentCounters>,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<DocumentCounters>,
    /// Whether cvipd made or adopted it; `ipvsadm-rs` does not say.
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    owned: Option<bool>,
    #[serde(default)]
    pub(super) destinations: Vec<DestinationObject>,
}

/// A destination: a real server of a virtual service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationObject {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) forward: Forwarding,
    pub(super) weight: u32,
    #[serde(default)]
    pub(super) upper_threshold: u32,
    #[serde(default)]
    pub(super) lower_threshold: u32,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    active_connections: Option<u32>,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    inactive_connections: Option<u32>,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    persistent_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tunnel: Option<TunnelObject>,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    stats: Option<DocumentCounters>,
    #[serde(default, deserialize_with = "passed_over", skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<DocumentCounters>,
}

/// The encapsulation of a tunnelled destination.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TunnelObject {
    pub(super) r#type: TunnelKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) checksum: Checksum,
}

/// Checksum flags of a tunnel (`IP_VS_TUNNEL_ENCAP_FLAG_*`, linux/ip_vs.h), by their numbers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Checksum {
    #[default]
    None,
    Full,
    Remote,
}

/// Totals since the entry was made or zeroed, or the same per second as the kernel estimates it.
#[derive(Debug, Serialize)]
struct DocumentCounters {
    connections: u64,
    packets_in: u64,
    packets_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// What only a kernel can say.
fn passed_over<'de, D: Deserializer<'de>, T>(from: D) -> Result<Option<T>, D::Error> {
    IgnoredAny::deserialize(from).map(|_| None)
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
        write!(out, "{{\"schema\":{SCHEMA},")?;
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
        Ok(TableDocument { services: JsonList::default() })
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
        self.services.push(out, &ServiceObject::listed(entry, destinations))
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

impl ServiceObject {
    /// A service with its destinations, and without counters.
    pub fn settings<'a>(
        service: &Service,
        destinations: impl IntoIterator<Item = &'a Destination>,
    ) -> ServiceObject {
        let persistent = service.flags & service_flags::PERSISTENT != 0;
        let ServiceIdObject { protocol, address, port, fwmark, family } =
            ServiceIdObject::new(&service.id);
        ServiceObject {
            protocol,
            address,
            port,
            fwmark,
            family,
            scheduler: service.scheduler.clone(),
            scheduler_flags: SchedulerFlag::words(&service.scheduler, service.flags)
                .into_iter()
                .map(Cow::from)
                .collect(),
            persistence_timeout_s: persistent.then_some(service.timeout),
            persistence_netmask: if persistent { service.partial_netmask() } else { None },
            persistence_engine: service.pe.clone(),
            one_packet: service.flags & service_flags::ONE_PACKET != 0,
            stats: None,
            rate_per_s: None,
            owned: None,
            destinations: destinations.into_iter().map(DestinationObject::settings).collect(),
        }
    }

    /// A service as a dump shows it.
    pub fn listed(entry: &ServiceEntry, destinations: &[DestinationEntry]) -> ServiceObject {
        ServiceObject {
            stats: Some(DocumentCounters::totals(&entry.stats)),
            rate_per_s: Some(DocumentCounters::per_second(&entry.stats)),
            destinations: destinations.iter().map(DestinationObject::listed).collect(),
            ..ServiceObject::settings(&entry.service, [])
        }
    }

    /// The same, with whether it is cvipd's.
    #[cfg(feature = "daemon")]
    pub fn owned(self, owned: bool) -> ServiceObject {
        ServiceObject { owned: Some(owned), ..self }
    }
}

impl DestinationObject {
    fn settings(destination: &Destination) -> DestinationObject {
        let tunnel = destination.tunnel;
        DestinationObject {
            address: destination.id.addr,
            port: destination.id.port,
            forward: destination.forward,
            weight: destination.weight,
            upper_threshold: destination.upper,
            lower_threshold: destination.lower,
            active_connections: None,
            inactive_connections: None,
            persistent_connections: None,
            tunnel: (destination.forward == Forwarding::Tunnel).then(|| TunnelObject {
                r#type: tunnel.kind,
                port: (tunnel.port != 0).then_some(tunnel.port),
                checksum: match tunnel.flags {
                    0 => Checksum::None,
                    1 => Checksum::Full,
                    _ => Checksum::Remote,
                },
            }),
            stats: None,
            rate_per_s: None,
        }
    }

    fn listed(entry: &DestinationEntry) -> DestinationObject {
        DestinationObject {
            active_connections: Some(entry.active),
            inactive_connections: Some(entry.inactive),
            persistent_connections: Some(entry.persistent),
            stats: Some(DocumentCounters::totals(&entry.stats)),
            rate_per_s: Some(DocumentCounters::per_second(&entry.stats)),
            ..DestinationObject::settings(&entry.destination)
        }
    }
}

impl DocumentCounters {
    fn totals(stats: &Stats) -> DocumentCounters {
        DocumentCounters {
            connections: stats.connections,
            packets_in: stats.in_packets,
            packets_out: stats.out_packets,
            bytes_in: stats.in_bytes,
            bytes_out: stats.out_bytes,
        }
    }

    fn per_second(stats: &Stats) -> DocumentCounters {
        DocumentCounters {
            connections: stats.cps,
            packets_in: stats.in_pps,
            packets_out: stats.out_pps,
            bytes_in: stats.in_bps,
            bytes_out: stats.out_bps,
        }
    }
}

/// `-L --totals --json`: the counters of all services together.
#[derive(Debug, Serialize)]
pub struct Totals {
    stats: DocumentCounters,
    rate_per_s: DocumentCounters,
}

impl Totals {
    /// From the kernel's own.
    pub fn new(totals: &Stats) -> Totals {
        Totals {
            stats: DocumentCounters::totals(totals),
            rate_per_s: DocumentCounters::per_second(totals),
        }
    }
}

/// What a virtual service is found by, as in a [`ServiceObject`].
#[derive(Debug, Serialize)]
struct ServiceIdObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fwmark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
}

impl ServiceIdObject {
    fn new(id: &ServiceId) -> ServiceIdObject {
        let (protocol, address, port, fwmark, family) = match *id {
            ServiceId::Address { protocol, addr, port } => {
                (Some(protocol), Some(addr), Some(port), None, None)
            }
            ServiceId::Mark { mark, family } => (None, None, None, Some(mark), Some(family)),
        };
        ServiceIdObject { protocol, address, port, fwmark, family }
    }
}

/// `--drain --json`: how the drain of a real server ended.
#[derive(Debug, Serialize)]
pub struct DrainDocument {
    service: ServiceIdObject,
    destination: PeerObject,
    ended: &'static str,
    /// Before the drain; absent where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_weight: Option<u32>,
    /// Absent where it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    lasted_s: u64,
}

impl DrainDocument {
    /// A drain that ended so; the connections are those of the last look.
    pub fn new(
        service: &ServiceId,
        before: &Destination,
        end: DrainEnd,
        last: (u32, ConnectionCounts),
        lasted: Duration,
    ) -> DrainDocument {
        let (weight, counts) = last;
        DrainDocument {
            service: ServiceIdObject::new(service),
            destination: PeerObject { address: before.id.addr, port: before.id.port },
            ended: end.name(),
            previous_weight: Some(before.weight),
            weight: (!end.is_out()).then_some(weight),
            active_connections: counts.active,
            inactive_connections: counts.inactive,
            persistent_connections: counts.persistent,
            lasted_s: lasted.as_secs(),
        }
    }

    /// The drain of a real server that the virtual service does not have.
    pub fn absent(service: &ServiceId, server: DestinationId) -> DrainDocument {
        DrainDocument {
            service: ServiceIdObject::new(service),
            destination: PeerObject { address: server.addr, port: server.port },
            ended: "absent",
            previous_weight: None,
            weight: None,
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            lasted_s: 0,
        }
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
    expires_s: u32,
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
            expires_s: connection.expires,
            persistence_engine: connection.engine.map(|(name, _)| name),
            persistence_data: connection.engine.map(|(_, data)| data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_table_is_one_object_with_a_schema() {
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
        assert_eq!(value["schema"], 1);
        assert_eq!(value["ipvs_version"], "1.2.1");
        let service = &value["services"][0];
        assert_eq!(service["fwmark"], 7);
        assert_eq!(service["family"], "ipv6");
        assert_eq!(service["persistence_timeout_s"], 60);
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
        assert!(service.get("fwmark").is_none() && service.get("persistence_timeout_s").is_none());
        assert!(value.get("ipvs_version").is_none());
    }
}
