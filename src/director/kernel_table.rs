//! What the kernel has of the services of a pass.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ipvs::plan::ServicePool;
use crate::ipvs::{DestinationEntry, Service};
use crate::store::ServiceKey;

/// One service as the kernel has it.
pub type Actual = ServicePool<DestinationEntry>;

/// What the kernel has of the services of a pass; those that are absent it does not have.
pub type KernelTable = BTreeMap<ServiceKey, Actual>;

/// What the kernel has of some services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReading(#[serde(with = "rows")] pub KernelTable);

/// A table as it is recorded: a row for each destination, without its statistics (packets, bytes and
/// rates), on which nothing that is decided depends.
pub(super) mod rows {
    use std::net::IpAddr;

    use serde::{Deserializer, Serializer};

    use super::*;
    use crate::ipvs::{Destination, DestinationId, Forwarding, Stats, Tunnel};

    /// Address, port, forwarding method, weight, thresholds, encapsulation (none for the default
    /// one), and active, inactive and persistent connections.
    type Row = (IpAddr, u16, Forwarding, u32, [u32; 2], Option<Tunnel>, [u32; 3]);

    fn row(entry: &DestinationEntry) -> Row {
        let DestinationEntry { destination, active, inactive, persistent, stats: _ } = entry;
        let Destination { id, forward, weight, upper, lower, tunnel } = destination;
        let tunnel = Some(*tunnel).filter(|tunnel| *tunnel != Tunnel::default());
        let connections = [*active, *inactive, *persistent];
        (id.addr, id.port, *forward, *weight, [*upper, *lower], tunnel, connections)
    }

    fn entry(
        (addr, port, forward, weight, thresholds, tunnel, connections): Row,
    ) -> DestinationEntry {
        let ([upper, lower], [active, inactive, persistent]) = (thresholds, connections);
        let (id, tunnel) = (DestinationId { addr, port }, tunnel.unwrap_or_default());
        let destination = Destination { id, forward, weight, upper, lower, tunnel };
        DestinationEntry { destination, active, inactive, persistent, stats: Stats::default() }
    }

    /// Writes a table.
    pub(in super::super) fn serialize<S: Serializer>(
        table: &KernelTable,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(table.iter().map(|(key, actual)| {
            (key, &actual.service, actual.destinations.values().map(row).collect::<Vec<_>>())
        }))
    }

    /// Reads a table.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<KernelTable, D::Error> {
        let services = Vec::<(ServiceKey, Service, Vec<Row>)>::deserialize(from)?.into_iter();
        let actual = |(key, service, rows): (ServiceKey, Service, Vec<Row>)| {
            let entries = rows.into_iter().map(entry);
            let destinations = entries.map(|entry| (entry.destination.id, entry)).collect();
            (key, Actual { service, destinations })
        };
        Ok(services.map(actual).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::desired::testing::{ip, key};
    use super::super::settings::service_id;
    use super::*;
    use crate::ipvs::{Destination, Forwarding, Stats, Tunnel, TunnelKind};
    use crate::protocol::Protocol;

    #[test]
    fn a_table_is_recorded_but_for_its_statistics() {
        let key = key(Protocol::Tcp, 80);
        let tunnel = Tunnel { kind: TunnelKind::Gue, port: 6080, flags: 1 };
        let plain = Destination::new(ip("10.0.0.2"), 80, Forwarding::Route, 4);
        let tunnelled = Destination {
            forward: Forwarding::Tunnel,
            tunnel,
            upper: 5,
            lower: 3,
            ..Destination::new(ip("fd00::2"), 81, Forwarding::Tunnel, 0)
        };
        let entry = |destination: Destination, packets| {
            let stats = Stats { in_packets: packets, ..Stats::default() };
            let entry =
                DestinationEntry { destination, active: 7, inactive: 8, persistent: 9, stats };
            (destination.id, entry)
        };
        let table = |packets| {
            let destinations = [entry(plain, packets), entry(tunnelled, packets)].into();
            let service = Service::new(service_id(key), "wlc").persistent(300);
            TableReading([(key, Actual { service, destinations })].into())
        };
        let text = serde_json::to_string(&table(1000)).unwrap();
        assert_eq!(serde_json::from_str::<TableReading>(&text).unwrap(), table(0));
        assert!(text.contains(r#"["10.0.0.2",80,"route",4,[0,0],null,[7,8,9]]"#), "{text}");
    }
}
