//! Virtual services, and port ranges of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::Protocol;

/// A virtual service as cvip owns it: CVIP, protocol, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The cluster's virtual address.
    pub cvip: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port, host order.
    pub port: u16,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, SocketAddr::new(self.cvip, self.port))
    }
}

/// Ports of one CVIP and protocol: sorted, disjoint, inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRanges {
    /// The CVIP.
    pub cvip: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The ranges; stored as text: `80,8000-8999`.
    #[serde(serialize_with = "write_ports", deserialize_with = "read_ports")]
    pub ports: Vec<(u16, u16)>,
}

impl PortRanges {
    /// The ranges of services, by CVIP and protocol.
    pub fn of(services: impl IntoIterator<Item = ServiceKey>) -> Vec<PortRanges> {
        let mut all: BTreeMap<(IpAddr, Protocol), BTreeSet<u16>> = BTreeMap::new();
        for ServiceKey { cvip, protocol, port } in services {
            all.entry((cvip, protocol)).or_default().insert(port);
        }
        let make = |((cvip, protocol), ports)| PortRanges { cvip, protocol, ports: runs(ports) };
        all.into_iter().map(make).collect()
    }

    /// Whether a service is among them.
    pub fn contains(&self, service: ServiceKey) -> bool {
        let at = self.ports.partition_point(|(_, end)| *end < service.port);
        (self.cvip, self.protocol) == (service.cvip, service.protocol)
            && self.ports.get(at).is_some_and(|(start, _)| *start <= service.port)
    }

    /// How many services they are.
    pub(super) fn count(&self) -> usize {
        self.ports.iter().map(|(start, end)| usize::from(end - start) + 1).sum()
    }

    /// Every service among them, in order.
    pub fn services(&self) -> impl Iterator<Item = ServiceKey> {
        let (cvip, protocol) = (self.cvip, self.protocol);
        let ports = self.ports.iter().flat_map(|(start, end)| *start..=*end);
        ports.map(move |port| ServiceKey { cvip, protocol, port })
    }
}

/// Ports as ranges.
pub(super) fn runs(ports: BTreeSet<u16>) -> Vec<(u16, u16)> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == port => *end = port,
            _ => runs.push((port, port)),
        }
    }
    runs
}

fn write_ports<S: Serializer>(ports: &[(u16, u16)], to: S) -> Result<S::Ok, S::Error> {
    let text = |(start, end): &(u16, u16)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    };
    to.serialize_str(&ports.iter().map(text).collect::<Vec<_>>().join(","))
}

fn read_ports<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u16, u16)>, D::Error> {
    let text = String::deserialize(from)?;
    let mut ports: Vec<(u16, u16)> = Vec::new();
    for part in text.split(',') {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        let (Ok(start), Ok(end)) = (start.parse::<u16>(), end.parse::<u16>()) else {
            return Err(serde::de::Error::custom(format!("`{part}` is no range of ports")));
        };
        let after = ports.last().map_or(0, |(_, end)| *end);
        if start <= after || end < start {
            return Err(serde::de::Error::custom(format!("`{text}` is out of order")));
        }
        ports.push((start, end));
    }
    Ok(ports)
}
