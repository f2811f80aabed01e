//! One level's flags: disjoint ranges, in order. A later flag splits an earlier one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PortFlag;
use crate::protocol::Protocol;

/// Disjoint flags in the order (protocol, start); at most one covers a port.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<PortFlag>", into = "Vec<PortFlag>")]
pub struct FlagSet {
    flags: Vec<PortFlag>,
}

impl From<Vec<PortFlag>> for FlagSet {
    /// Flags in the order in which they were set.
    fn from(flags: Vec<PortFlag>) -> FlagSet {
        flags.into_iter().collect()
    }
}

impl FromIterator<PortFlag> for FlagSet {
    fn from_iter<I: IntoIterator<Item = PortFlag>>(flags: I) -> FlagSet {
        let flags: Vec<PortFlag> = flags.into_iter().collect();
        let mut covered = Covered::default();
        // The last one first: of those before it what is not covered yet remains. Setting one after
        // the other takes the square of the time, and a record of the store may have very many.
        let mut flags: Vec<PortFlag> =
            flags.into_iter().rev().flat_map(|flag| covered.cover(flag)).collect();
        flags.sort_unstable_by_key(|flag| (flag.protocol, flag.start));
        FlagSet { flags }
    }
}

/// Ports that are covered: disjoint ranges, by protocol and first port.
#[derive(Default)]
struct Covered(BTreeMap<(Protocol, u16), u16>);

impl Covered {
    /// Covers a flag's ports; the parts of it that were not covered come back.
    fn cover(&mut self, flag: PortFlag) -> Vec<PortFlag> {
        let PortFlag { protocol, start, end, .. } = flag;
        let before = self.0.range(..=(protocol, start)).next_back();
        let before = before.filter(|((of, _), last)| *of == protocol && **last >= start);
        let first = before.map_or(start, |((_, first), _)| *first);
        let within = self.0.range((protocol, first)..=(protocol, end));
        let within: Vec<(u16, u16)> = within.map(|((_, first), last)| (*first, *last)).collect();
        let (mut parts, mut next) = (Vec::new(), Some(start));
        for (first, last) in &within {
            self.0.remove(&(protocol, *first));
            if let Some(start) = next.filter(|next| next < first) {
                parts.push(PortFlag { start, end: first - 1, ..flag });
            }
            next = last.checked_add(1);
        }
        if let Some(start) = next.filter(|next| *next <= end) {
            parts.push(PortFlag { start, ..flag });
        }
        let last = within.last().map_or(end, |(_, last)| end.max(*last));
        self.0.insert((protocol, first), last);
        parts
    }
}

impl From<FlagSet> for Vec<PortFlag> {
    fn from(set: FlagSet) -> Vec<PortFlag> {
        set.flags
    }
}

impl FlagSet {
    /// Flags a range, splitting what stood there; neighbours of equal weight stay apart, as
    /// they were set.
    pub fn set(&mut self, flag: PortFlag) {
        self.remove(flag.protocol, flag.start, flag.end);
        let at =
            self.flags.partition_point(|f| (f.protocol, f.start) < (flag.protocol, flag.start));
        self.flags.insert(at, flag);
    }

    /// Unflags a range, keeping what reaches beyond it. True if anything was flagged there.
    pub fn remove(&mut self, protocol: Protocol, start: u16, end: u16) -> bool {
        let mut found = false;
        let mut kept = Vec::with_capacity(self.flags.len() + 1);
        for flag in self.flags.drain(..) {
            if flag.protocol != protocol || flag.end < start || flag.start > end {
                kept.push(flag);
                continue;
            }
            found = true;
            if flag.start < start {
                kept.push(PortFlag { end: start - 1, ..flag });
            }
            if flag.end > end {
                kept.push(PortFlag { start: end + 1, ..flag });
            }
        }
        self.flags = kept;
        found
    }

    /// The flag that covers a port.
    pub fn lookup(&self, protocol: Protocol, port: u16) -> Option<PortFlag> {
        let after = self.flags.partition_point(|f| (f.protocol, f.start) <= (protocol, port));
        let flag = self.flags[..after].last()?;
        flag.covers(protocol, port).then_some(*flag)
    }

    /// The flags in the order (protocol, start).
    pub fn iter(&self) -> impl Iterator<Item = &PortFlag> {
        self.flags.iter()
    }

    /// True if nothing is flagged.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flags() -> impl Strategy<Value = Vec<PortFlag>> {
        let flag = (0..3usize, 1..60u16, 0..20u16, 0..5u16).prop_map(|(p, start, more, weight)| {
            PortFlag { protocol: Protocol::ALL[p], start, end: start + more, weight }
        });
        prop::collection::vec(flag, 0..12)
    }

    #[test]
    fn a_record_of_very_many_flags_in_the_worst_order_takes_no_square_of_time() {
        let flag = |port| PortFlag { protocol: Protocol::Tcp, start: port, end: port, weight: 1 };
        let whole = PortFlag { end: u16::MAX, ..flag(1) };
        let down = (1..=u16::MAX / 2).rev().map(|port| flag(2 * port));
        let set: FlagSet = std::iter::once(whole).chain(down).collect();
        assert_eq!(set.flags.len(), usize::from(u16::MAX));
        assert_eq!(set, set.flags.iter().copied().collect());
    }

    proptest! {
        #[test]
        fn all_at_once_is_one_after_the_other(flags in flags()) {
            let mut set = FlagSet::default();
            flags.iter().for_each(|flag| set.set(*flag));
            prop_assert_eq!(flags.into_iter().collect::<FlagSet>(), set);
        }

        #[test]
        fn the_last_flag_that_covers_a_port_holds(flags in flags(), port in 1..90u16) {
            let set: FlagSet = flags.iter().copied().collect();
            for protocol in Protocol::ALL {
                let last = flags.iter().rev().find(|f| f.covers(protocol, port));
                let held = set.lookup(protocol, port);
                prop_assert_eq!(held.map(|f| f.weight), last.map(|f| f.weight));
            }
        }

        #[test]
        fn ranges_stay_disjoint_and_in_order(flags in flags()) {
            let set: FlagSet = flags.into_iter().collect();
            let all: Vec<_> = set.iter().collect();
            for pair in all.windows(2) {
                prop_assert!((pair[0].protocol, pair[0].end) < (pair[1].protocol, pair[1].start));
            }
        }

        #[test]
        fn removing_a_range_unflags_that_range_and_nothing_else(
            flags in flags(), start in 1..60u16, more in 0..30u16, port in 1..90u16,
        ) {
            let before: FlagSet = flags.into_iter().collect();
            let mut after = before.clone();
            let end = start + more;
            after.remove(Protocol::Tcp, start, end);
            let held = after.lookup(Protocol::Tcp, port).map(|f| f.weight);
            if (start..=end).contains(&port) {
                prop_assert_eq!(held, None);
            } else {
                prop_assert_eq!(held, before.lookup(Protocol::Tcp, port).map(|f| f.weight));
            }
        }
    }

    #[test]
    fn the_last_port_of_all_can_be_flagged_and_unflagged() {
        let mut set = FlagSet::default();
        set.set(PortFlag { protocol: Protocol::Udp, start: 65535, end: 65535, weight: 1 });
        assert!(set.lookup(Protocol::Udp, 65535).is_some());
        assert!(set.remove(Protocol::Udp, 1, 65535));
        assert!(set.is_empty());
    }
}
