//! Which ports matter: for each protocol, disjoint ranges in order.
//!
//! The same ranges go three ways: into the kernel's dump filter, into the socket events' port map,
//! and over every row that comes back.

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

/// Inclusive port ranges for each protocol, in host order: sorted, disjoint, never adjacent,
/// never with port 0.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ranges {
    by_protocol: [Vec<(u16, u16)>; 3],
}

impl Ranges {
    /// No ports at all: nothing is dumped.
    pub fn new() -> Ranges {
        Ranges::default()
    }

    /// Adds the ports `start` to `end`, inclusive. Port 0 is left out and a range whose start is
    /// above its end is empty: neither can be listened on.
    pub fn add(&mut self, protocol: Protocol, start: u16, end: u16) {
        let start = start.max(1);
        if start > end {
            return;
        }
        let ranges = &mut self.by_protocol[protocol as usize];
        // What touches the new range (overlaps, or ends right before it) melts into it.
        let first = ranges.partition_point(|r| r.1 < start - 1);
        let last = ranges.partition_point(|r| r.0 <= end.saturating_add(1));
        let merged =
            ranges[first..last].iter().fold((start, end), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        ranges.splice(first..last, [merged]);
    }

    /// The ranges of one protocol, sorted.
    pub fn of(&self, protocol: Protocol) -> &[(u16, u16)] {
        &self.by_protocol[protocol as usize]
    }

    /// Whether a port lies in one of the protocol's ranges.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        contains(self.of(protocol), port)
    }

    /// True if no protocol has a range.
    pub fn is_empty(&self) -> bool {
        self.by_protocol.iter().all(Vec::is_empty)
    }
}

/// Whether sorted, disjoint ranges contain a port.
pub(super) fn contains(ranges: &[(u16, u16)], port: u16) -> bool {
    let at = ranges.partition_point(|r| r.1 < port);
    ranges.get(at).is_some_and(|r| r.0 <= port)
}

impl FromIterator<(Protocol, u16, u16)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (Protocol, u16, u16)>>(items: I) -> Ranges {
        let mut ranges = Ranges::new();
        for (protocol, start, end) in items {
            ranges.add(protocol, start, end);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overlapping_and_adjacent_ranges_become_one() {
        let ranges: Ranges = [
            (Protocol::Tcp, 80, 90),
            (Protocol::Tcp, 443, 443),
            (Protocol::Tcp, 91, 100),
            (Protocol::Tcp, 85, 120),
            (Protocol::Udp, 53, 53),
        ]
        .into_iter()
        .collect();
        assert_eq!(ranges.of(Protocol::Tcp), [(80, 120), (443, 443)]);
        assert_eq!(ranges.of(Protocol::Udp), [(53, 53)]);
        assert!(ranges.of(Protocol::Sctp).is_empty());
    }

    #[test]
    fn port_zero_and_inverted_ranges_are_nothing() {
        let mut ranges = Ranges::new();
        ranges.add(Protocol::Tcp, 9, 1);
        ranges.add(Protocol::Tcp, 0, 0);
        assert!(ranges.is_empty());
        ranges.add(Protocol::Tcp, 0, 65535);
        assert_eq!(ranges.of(Protocol::Tcp), [(1, 65535)]);
    }

    proptest! {
        #[test]
        fn ranges_contain_exactly_what_was_added(
            added in prop::collection::vec((1u16..300, 0u16..40), 0..20),
            port in 0u16..350,
        ) {
            let ranges: Ranges =
                added.iter().map(|(start, len)| (Protocol::Udp, *start, start + len)).collect();
            let expected = added.iter().any(|(s, l)| (*s..=s + l).contains(&port));
            prop_assert_eq!(ranges.contains(Protocol::Udp, port), expected);
            prop_assert!(ranges.of(Protocol::Udp).windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
