//! Ports that a node has left, as its heartbeat names them: so a server that stops is taken out
//! while the store cannot be written. Pure.
//!
//! A port is named if the node served it and does not serve it now, however long ago that was:
//! what is named is true whatever records were written in between, as long as the heartbeat is
//! not older than the record. So it comes with the version of the newest record that the node
//! wrote or tried to write, and counts only against a record of that version or an earlier one.
//! A port that is served again is named no longer.
//!
//! In the heartbeat, behind everything else, in network order:
//!
//! | bytes | what |
//! |---|---|
//! | 8, 8 | incarnation and sequence of the record |
//! | 1 | how many ranges follow |
//! | 5 each | protocol (IPPROTO_*; 1), first and last port (2, 2) |

use std::collections::BTreeSet;

use crate::counter;
use crate::protocol::Protocol;

/// Bytes before the ranges, and of each range.
const HEAD: usize = 17;
const RANGE: usize = 5;
/// Most ranges that are kept; how many fit into a heartbeat depends on what else it says.
pub const MAX_RANGES: usize = 64;

/// Protocol and port, host order.
pub type LeftPort = (Protocol, u16);

/// What a heartbeat says of ports that were left.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeftPorts {
    /// Incarnation and sequence of the newest record that the node wrote or tried to write.
    pub record: (u64, u64),
    /// Inclusive ranges of ports that the node does not serve, those that were left last first.
    /// What does not fit is left out at the end: there the record alone counts.
    pub ranges: Vec<(Protocol, u16, u16)>,
}

impl LeftPorts {
    /// What a node says that left these ports, the last one last, and serves those. A range goes
    /// on over ports that are not served: to say so of them is true as well, and a node that
    /// has left everything says it in one range for each protocol.
    pub fn new(record: (u64, u64), left: &[LeftPort], served: &BTreeSet<LeftPort>) -> LeftPorts {
        let mut ranges: Vec<(Protocol, u16, u16)> = Vec::new();
        for (protocol, port) in left.iter().rev().filter(|port| !served.contains(*port)) {
            let within = |(of, start, end): &(Protocol, u16, u16)| {
                of == protocol && (*start..=*end).contains(port)
            };
            if ranges.len() == MAX_RANGES || ranges.iter().any(within) {
                continue;
            }
            // From the served port below to the one above.
            let below = served.range((*protocol, 0)..(*protocol, *port)).next_back();
            let above = served.range((*protocol, *port)..=(*protocol, u16::MAX)).next();
            let start = below.map_or(1, |(_, port)| port + 1);
            let end = above.map_or(u16::MAX, |(_, port)| port - 1);
            ranges.push((*protocol, start, end));
        }
        LeftPorts { record, ranges }
    }

    /// Whether it counts against a record of this version.
    pub fn is_of(&self, version: (u64, u64)) -> bool {
        !counter::is_later_pair(version, self.record)
    }

    /// Whether a port is named.
    pub fn contains(&self, (protocol, port): LeftPort) -> bool {
        self.ranges
            .iter()
            .any(|(of, start, end)| *of == protocol && (*start..=*end).contains(&port))
    }

    /// The bytes, as many ranges as fit into so many; nothing if there is no room for one.
    pub(super) fn encode(&self, room: usize) -> Option<Vec<u8>> {
        let fits = room.checked_sub(HEAD)? / RANGE;
        if fits == 0 && !self.ranges.is_empty() {
            return None;
        }
        let ranges = &self.ranges[..self.ranges.len().min(fits).min(MAX_RANGES)];
        let mut bytes = Vec::with_capacity(HEAD + RANGE * ranges.len());
        bytes.extend(self.record.0.to_be_bytes());
        bytes.extend(self.record.1.to_be_bytes());
        bytes.push(ranges.len() as u8);
        for (protocol, start, end) in ranges {
            bytes.push(protocol.number());
            bytes.extend(start.to_be_bytes());
            bytes.extend(end.to_be_bytes());
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
        let rows = rest.get(..RANGE * count).filter(|_| count <= MAX_RANGES)?;
        let range = |row: &[u8]| {
            let protocol = Protocol::ALL.into_iter().find(|p| p.number() == row[0])?;
            let port = |at: usize| u16::from_be_bytes([row[at], row[at + 1]]);
            (port(1) <= port(3)).then_some((protocol, port(1), port(3)))
        };
        let ranges = rows.chunks_exact(RANGE).map(range).collect::<Option<_>>()?;
        Some(LeftPorts { record, ranges })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WEB: LeftPort = (Protocol::Tcp, 80);
    const DNS: LeftPort = (Protocol::Udp, 53);

    #[test]
    fn who_left_everything_says_so_in_a_range_for_each_protocol() {
        let left = LeftPorts::new((1, 2), &[WEB, DNS, (Protocol::Tcp, 443)], &BTreeSet::new());
        assert_eq!(left.ranges, [(Protocol::Tcp, 1, 65535), (Protocol::Udp, 1, 65535)]);
        assert!(left.contains(WEB) && left.contains(DNS) && !left.contains((Protocol::Sctp, 80)));
    }

    #[test]
    fn a_port_that_is_served_is_never_named() {
        let served: BTreeSet<LeftPort> = [WEB, (Protocol::Tcp, 1), (Protocol::Tcp, 65535)].into();
        let left =
            LeftPorts::new((1, 2), &[WEB, (Protocol::Tcp, 81), (Protocol::Tcp, 79)], &served);
        assert_eq!(left.ranges, [(Protocol::Tcp, 2, 79), (Protocol::Tcp, 81, 65534)]);
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
            let bytes = LeftPorts { record, ranges: Vec::new() }.encode(HEAD).unwrap();
            assert_eq!(LeftPorts::decode(&bytes), None, "{record:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_at_the_end() {
        let left: Vec<LeftPort> = (0..500).map(|n| (Protocol::Tcp, 2 * n + 1)).collect();
        let served: BTreeSet<LeftPort> = (1..500).map(|n| (Protocol::Tcp, 2 * n)).collect();
        let all = LeftPorts::new((1, 1), &left, &served);
        assert_eq!(all.ranges.len(), MAX_RANGES);
        let bytes = all.encode(64).unwrap();
        assert!(bytes.len() <= 64);
        let read = LeftPorts::decode(&bytes).unwrap();
        assert_eq!(read.ranges, all.ranges[..9], "those that were left last");
        assert_eq!(all.encode(HEAD), None);
        assert_eq!(all.encode(3), None);
        assert!(LeftPorts::default().encode(HEAD).is_some());
    }

    proptest! {
        #[test]
        fn every_left_port_is_named_and_no_served_one_and_it_is_read_as_written(
            left in prop::collection::vec((0usize..3, 1u16..60), 0..30),
            served in prop::collection::btree_set((0usize..3, 1u16..60), 0..30),
            record in (0..=counter::LAST, 0..=counter::LAST),
        ) {
            let port = |(protocol, port): (usize, u16)| (Protocol::ALL[protocol], port);
            let left: Vec<LeftPort> = left.into_iter().map(port).collect();
            let served: BTreeSet<LeftPort> = served.into_iter().map(port).collect();
            let told = LeftPorts::new(record, &left, &served);
            for port in &left {
                prop_assert_eq!(told.contains(*port), !served.contains(port));
            }
            prop_assert!(!served.iter().any(|port| told.contains(*port)));
            prop_assert_eq!(LeftPorts::decode(&told.encode(508).unwrap()), Some(told));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = LeftPorts::decode(&bytes);
        }
    }
}
