//! Ports that a node has left, as its heartbeat names them: so a server that stops is taken out
//! while the store cannot be written. Pure.
//!
//! A port is named if the node served it and does not serve it now, however long ago that was:
//! what is named is true whatever records were written in between, as long as the heartbeat is
//! not older than the record. So it comes with the version of the newest record that the node
//! wrote or tried to write, and counts only against a record of that version or an earlier one.
//! A port that is served again is named no longer. One that is left for some CVIPs and still served
//! for another is named as a service of each of these.
//!
//! In the heartbeat, behind everything else, in network order:
//!
//! | bytes | what |
//! |---|---|
//! | 8, 8 | incarnation and sequence of the record |
//! | 1 | how many ranges follow |
//! | 5 each | protocol (IPPROTO_*; 1), first and last port (2, 2) |
//! | 1 | how many services follow; absent if none does |
//! | 19 each | protocol (1), port (2), CVIP (16; an IPv4 one as IPv4-mapped, RFC 4291) |

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::counter;
use crate::protocol::Protocol;

/// Bytes before the ranges, and of each range.
const HEAD: usize = 17;
const RANGE: usize = 5;
/// Bytes of each service.
const SERVICE: usize = 19;
/// Most ranges that are kept; how many fit into a heartbeat depends on what else it says.
pub const MAX_RANGES: usize = 64;
/// Most services that are kept.
pub const MAX_SERVICES: usize = 24;

/// Protocol and port, host order.
pub type LeftPort = (Protocol, u16);

/// CVIP and port.
pub type LeftService = (IpAddr, LeftPort);

/// What a heartbeat says of ports that were left.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftPorts {
    /// Incarnation and sequence of the newest record that the node wrote or tried to write.
    pub record: (u64, u64),
    /// Inclusive ranges of ports that the node does not serve, those that were left last first.
    /// What does not fit is left out at the end: there the record alone counts.
    pub ranges: Vec<(Protocol, u16, u16)>,
    /// Services that the node does not serve, though it serves their ports for other CVIPs; those
    /// that were left last first.
    pub services: Vec<LeftService>,
}

impl LeftPorts {
    /// What a node says that left these services, the last one last, and serves those. A range
    /// goes on over ports that are not served: to say so of them is true as well, and a node that
    /// has left everything says it in one range for each protocol.
    pub fn new(
        record: (u64, u64),
        left: &[LeftService],
        served: &BTreeSet<LeftService>,
    ) -> LeftPorts {
        let ports: BTreeSet<LeftPort> = served.iter().map(|(_, port)| *port).collect();
        let mut told = LeftPorts { record, ..LeftPorts::default() };
        for service @ (_, port) in left.iter().rev().filter(|left| !served.contains(*left)) {
            let (ranges, services) = (&mut told.ranges, &mut told.services);
            if ports.contains(port) {
                if services.len() < MAX_SERVICES {
                    services.push(*service);
                }
            } else if ranges.len() < MAX_RANGES && !is_in(ranges, *port) {
                // From the served port below to the one above.
                let protocol = port.0;
                let below = ports.range((protocol, 0)..*port).next_back();
                let above = ports.range(*port..=(protocol, u16::MAX)).next();
                let start = below.map_or(1, |(_, port)| port + 1);
                let end = above.map_or(u16::MAX, |(_, port)| port - 1);
                ranges.push((protocol, start, end));
            }
        }
        told
    }

    /// Whether it counts against a record of this version.
    pub fn is_of(&self, version: (u64, u64)) -> bool {
        !counter::is_later_pair(version, self.record)
    }

    /// Whether a service is named.
    pub fn contains(&self, service: LeftService) -> bool {
        is_in(&self.ranges, service.1) || self.services.contains(&service)
    }

    /// The bytes, as many ranges as fit into so many, and then as many services; nothing if there
    /// is no room for one range.
    pub(super) fn encode(&self, room: usize) -> Option<Vec<u8>> {
        let fits = room.checked_sub(HEAD)? / RANGE;
        if fits == 0 && !self.ranges.is_empty() {
            return None;
        }
        let ranges = &self.ranges[..self.ranges.len().min(fits).min(MAX_RANGES)];
        let mut bytes = Vec::with_capacity(room);
        bytes.extend(self.record.0.to_be_bytes());
        bytes.extend(self.record.1.to_be_bytes());
        bytes.push(ranges.len() as u8);
        for (protocol, start, end) in ranges {
            bytes.push(protocol.number());
            bytes.extend(start.to_be_bytes());
            bytes.extend(end.to_be_bytes());
        }
        let fits = (room - bytes.len()).saturating_sub(1) / SERVICE;
        let services = &self.services[..self.services.len().min(fits).min(MAX_SERVICES)];
        if !services.is_empty() {
            bytes.push(services.len() as u8);
        }
        for (cvip, (protocol, port)) in services {
            bytes.push(protocol.number());
            bytes.extend(port.to_be_bytes());
            let cvip = match cvip {
                IpAddr::V4(cvip) => cvip.to_ipv6_mapped(),
                IpAddr::V6(cvip) => *cvip,
            };
            bytes.extend(cvip.octets());
        }
        Some(bytes)
    }

    /// Reads what stands at the beginning of these bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<LeftPorts> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let number = |at: usize| {
            let number = u64::from_be_bytes(head[at..at + 8].try_into().ok()?);
            (number <= counter::LAST).then_some(number)
        };
        let record = (number(0)?, number(8)?);
        let count = usize::from(head[16]);
        let (ranges, rest) =
            rest.split_at_checked(RANGE * count).filter(|_| count <= MAX_RANGES)?;
        let protocol = |number| Protocol::ALL.into_iter().find(|p| p.number() == number);
        let port = |row: &[u8], at: usize| u16::from_be_bytes([row[at], row[at + 1]]);
        let range = |row: &[u8]| {
            let (start, end) = (port(row, 1), port(row, 3));
            Some((protocol(row[0])?, start, end)).filter(|_| start <= end)
        };
        let ranges = ranges.chunks_exact(RANGE).map(range).collect::<Option<_>>()?;
        // An older cvipd says nothing more.
        let (count, rest) = rest.split_first().unwrap_or((&0, &[]));
        let count = usize::from(*count);
        let services = rest.get(..SERVICE * count).filter(|_| count <= MAX_SERVICES)?;
        let service = |row: &[u8]| {
            let cvip = <[u8; 16]>::try_from(&row[3..]).map(Ipv6Addr::from).ok()?;
            Some((IpAddr::V6(cvip).to_canonical(), (protocol(row[0])?, port(row, 1))))
        };
        let services = services.chunks_exact(SERVICE).map(service).collect::<Option<_>>()?;
        Some(LeftPorts { record, ranges, services })
    }
}

fn is_in(ranges: &[(Protocol, u16, u16)], (protocol, port): LeftPort) -> bool {
    ranges.iter().any(|(of, start, end)| *of == protocol && (*start..=*end).contains(&port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CVIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));
    const OTHER: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const WEB: LeftService = (CVIP, (Protocol::Tcp, 80));
    const DNS: LeftService = (CVIP, (Protocol::Udp, 53));

    fn tcp(port: u16) -> LeftService {
        (CVIP, (Protocol::Tcp, port))
    }

    #[test]
    fn a_node_that_left_everything_says_so_in_a_range_for_each_protocol() {
        let left = LeftPorts::new((1, 2), &[WEB, DNS, tcp(443)], &BTreeSet::new());
        assert_eq!(left.ranges, [(Protocol::Tcp, 1, 65535), (Protocol::Udp, 1, 65535)]);
        let sctp = (CVIP, (Protocol::Sctp, 80));
        assert!(left.contains(WEB) && left.contains(DNS) && !left.contains(sctp));
    }

    #[test]
    fn a_port_that_is_served_is_never_named() {
        let served: BTreeSet<LeftService> = [WEB, tcp(1), tcp(65535)].into();
        let left = LeftPorts::new((1, 2), &[WEB, tcp(81), tcp(79)], &served);
        assert_eq!(left.ranges, [(Protocol::Tcp, 2, 79), (Protocol::Tcp, 81, 65534)]);
        assert!(left.services.is_empty());
    }

    #[test]
    fn a_port_that_is_left_for_one_cvip_and_served_for_another_is_named_with_the_one() {
        let other = (OTHER, WEB.1);
        for (left, served) in [(WEB, other), (other, WEB)] {
            let told = LeftPorts::new((1, 2), &[left], &[served].into());
            assert_eq!((told.ranges.as_slice(), told.services.as_slice()), (&[][..], &[left][..]));
            let read = LeftPorts::decode(&told.encode(508).unwrap()).unwrap();
            assert!(read.contains(left) && !read.contains(served));
        }
    }

    #[test]
    fn a_heartbeat_of_an_older_cvipd_names_ranges_alone() {
        let told = LeftPorts::new((1, 2), &[WEB], &[DNS].into());
        let bytes = told.encode(508).unwrap();
        assert_eq!(bytes.len(), HEAD + RANGE);
        assert_eq!(LeftPorts::decode(&bytes), Some(told));
    }

    #[test]
    fn it_counts_against_the_record_that_the_node_knows_and_earlier_ones() {
        let left = LeftPorts::new((5, 7), &[WEB], &BTreeSet::new());
        assert!(left.is_of((5, 7)) && left.is_of((5, 6)) && left.is_of((4, 99)));
        assert!(!left.is_of((5, 8)) && !left.is_of((6, 1)));
        // 1 follows the last number.
        let first = LeftPorts::new((5, 1), &[WEB], &BTreeSet::new());
        assert!(first.is_of((5, counter::LAST)) && first.is_of((5, 1)));
        let last = LeftPorts::new((counter::LAST, 3), &[WEB], &BTreeSet::new());
        assert!(!last.is_of((1, 1)) && last.is_of((counter::LAST, 2)));
    }

    #[test]
    fn a_record_that_none_can_be_is_refused() {
        for record in [(counter::LAST + 1, 1), (1, u64::MAX)] {
            let bytes = LeftPorts { record, ..LeftPorts::default() }.encode(HEAD).unwrap();
            assert_eq!(LeftPorts::decode(&bytes), None, "{record:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_at_the_end() {
        let left: Vec<LeftService> = (0..500).map(|n| tcp(2 * n + 1)).collect();
        let served: BTreeSet<LeftService> = (1..500).map(|n| tcp(2 * n)).collect();
        let all = LeftPorts::new((1, 1), &left, &served);
        assert_eq!(all.ranges.len(), MAX_RANGES);
        let bytes = all.encode(64).unwrap();
        assert!(bytes.len() <= 64);
        let read = LeftPorts::decode(&bytes).unwrap();
        assert_eq!(read.ranges, all.ranges[..9], "those that were left last");
        assert_eq!(all.encode(HEAD), None);
        assert_eq!(all.encode(3), None);
        assert!(LeftPorts::default().encode(HEAD).is_some());
        let other: BTreeSet<LeftService> = left.iter().map(|(_, port)| (OTHER, *port)).collect();
        let all = LeftPorts::new((1, 1), &left, &other);
        assert_eq!((all.ranges.len(), all.services.len()), (0, MAX_SERVICES));
        let read = LeftPorts::decode(&all.encode(HEAD + 1 + 3 * SERVICE).unwrap()).unwrap();
        assert_eq!(read.services, all.services[..3]);
        assert_eq!(read.services[0], tcp(999), "the one that was left last");
    }

    proptest! {
        #[test]
        fn every_left_service_is_named_and_no_served_one_and_it_is_read_as_written(
            left in prop::collection::vec((0usize..2, 0usize..3, 1u16..60), 0..20),
            served in prop::collection::btree_set((0usize..2, 0usize..3, 1u16..60), 0..30),
            record in (0..=counter::LAST, 0..=counter::LAST),
        ) {
            let service = |(cvip, protocol, port): (usize, usize, u16)| {
                ([CVIP, OTHER][cvip], (Protocol::ALL[protocol], port))
            };
            let left: Vec<LeftService> = left.into_iter().map(service).collect();
            let served: BTreeSet<LeftService> = served.into_iter().map(service).collect();
            let told = LeftPorts::new(record, &left, &served);
            for service in &left {
                prop_assert_eq!(told.contains(*service), !served.contains(service));
            }
            prop_assert!(!served.iter().any(|service| told.contains(*service)));
            prop_assert_eq!(LeftPorts::decode(&told.encode(1024).unwrap()), Some(told));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = LeftPorts::decode(&bytes);
        }
    }
}
