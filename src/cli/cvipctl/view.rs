//! Services and destinations as `cvipctl` shows them in JSON.

use std::net::IpAddr;

use serde::Serialize;

use crate::ipvs::{
    self, DestinationEntry, Forwarding, SchedulerFlag, ServiceEntry, ServiceId, Stats,
    service_flags,
};

/// A virtual service.
#[derive(Debug, Serialize)]
pub(super) struct ServiceView {
    /// `tcp`, `udp`, `sctp`; absent for a firewall mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<crate::protocol::Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fwmark: Option<u32>,
    scheduler: String,
    /// ipvsadm's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scheduler_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    one_packet: bool,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence: Option<u32>,
    /// A mask in IPv4, a number of bits in IPv6; absent where every address is a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence_netmask: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence_engine: Option<String>,
    /// True if cvipd made or adopted it; absent where no kernel was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    owned: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    destinations: Vec<DestinationView>,
}

/// A destination.
#[derive(Debug, Serialize)]
pub(super) struct DestinationView {
    address: IpAddr,
    port: u16,
    /// ipvsadm's words: Route, Masq, Tunnel.
    forward: String,
    weight: u32,
    /// Connections at which it is full; absent where it never is.
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_threshold: Option<u32>,
    /// Connections below which it is so no more; absent: three quarters of the upper one.
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_threshold: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
}

impl ServiceView {
    /// Without counters.
    pub(super) fn settings(service: &ipvs::Service, list: &[ipvs::Destination]) -> ServiceView {
        let (protocol, address, port, fwmark) = match service.id {
            ServiceId::Address { protocol, addr, port } => {
                (Some(protocol), Some(addr), Some(port), None)
            }
            ServiceId::Mark { mark, .. } => (None, None, None, Some(mark)),
        };
        let persistent = service.flags & service_flags::PERSISTENT != 0;
        ServiceView {
            protocol,
            address,
            port,
            fwmark,
            scheduler: service.scheduler.clone(),
            scheduler_flags: SchedulerFlag::words(&service.scheduler, service.flags),
            one_packet: service.flags & service_flags::ONE_PACKET != 0,
            persistence: persistent.then_some(service.timeout),
            persistence_netmask: service.partial_netmask().filter(|_| persistent),
            persistence_engine: service.pe.clone().filter(|_| persistent),
            owned: None,
            stats: None,
            destinations: list.iter().map(DestinationView::settings).collect(),
        }
    }

    /// As a dump shows it.
    pub(super) fn live(
        entry: &ServiceEntry,
        destinations: &[DestinationEntry],
        owned: bool,
    ) -> ServiceView {
        ServiceView {
            owned: Some(owned),
            stats: Some(entry.stats),
            destinations: destinations.iter().map(DestinationView::live).collect(),
            ..ServiceView::settings(&entry.service, &[])
        }
    }
}

impl DestinationView {
    fn settings(destination: &ipvs::Destination) -> DestinationView {
        let forward: Forwarding = destination.forward;
        DestinationView {
            address: destination.id.addr,
            port: destination.id.port,
            forward: forward.to_string(),
            weight: destination.weight,
            upper_threshold: (destination.upper > 0).then_some(destination.upper),
            lower_threshold: (destination.lower > 0).then_some(destination.lower),
            active_connections: None,
            inactive_connections: None,
            stats: None,
        }
    }

    fn live(entry: &DestinationEntry) -> DestinationView {
        DestinationView {
            active_connections: Some(entry.active),
            inactive_connections: Some(entry.inactive),
            stats: Some(entry.stats),
            ..DestinationView::settings(&entry.destination)
        }
    }
}
