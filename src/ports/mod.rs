//! Port flags: which ports are balanced, and with what weight.
//!
//! A flag is (protocol, start, end, weight), inclusive. Flags stand on three levels: a node's
//! own (`setport_weight`), the cluster's (`setport_weight --cluster`), and cvip.conf's
//! `service` elements. Nearer wins; within a level a later flag splits an earlier one;
//! deleting uncovers the level below. Everything here is pure.
//!
//! ```
//! use cvip::ports::{FlagSet, PortFlag};
//! use cvip::protocol::Protocol::Tcp;
//!
//! let mut flags = FlagSet::default();
//! flags.set(PortFlag::new(Tcp, 1, 80, 1)?);
//! flags.set(PortFlag::new(Tcp, 22, 22, 5)?);
//! let weight = |flags: &FlagSet, port| flags.lookup(Tcp, port).map(|flag| flag.weight);
//! assert_eq!(weight(&flags, 22), Some(5));
//! assert_eq!(weight(&flags, 80), Some(1));
//! flags.remove(Tcp, 22, 22);
//! assert_eq!(weight(&flags, 22), None);
//! # Ok::<(), cvip::ports::FlagError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

mod flag;
mod set;

pub use flag::{FlagError, PortFlag, port_range};
pub use set::FlagSet;

named! {
    /// Where a flag was set; nearer levels win.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[non_exhaustive]
    pub enum Level {
        /// This node's own, by `setport_weight`.
        Node = "node",
        /// Every node's, by `setport_weight --cluster`.
        Cluster = "cluster",
        /// cvip.conf's `service` elements.
        Conf = "cvip.conf",
    }
}

/// The flags of the three levels that hold on one node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Layers {
    /// The node's own.
    pub node: FlagSet,
    /// The cluster's.
    pub cluster: FlagSet,
    /// cvip.conf's.
    pub conf: FlagSet,
}

impl Layers {
    /// The flag that holds for a port: the nearest level's, and which level that is.
    pub fn lookup(&self, protocol: Protocol, port: u16) -> Option<(PortFlag, Level)> {
        self.levels()
            .into_iter()
            .find_map(|(level, set)| set.lookup(protocol, port).map(|flag| (flag, level)))
    }

    /// The three sets, nearest first.
    pub fn levels(&self) -> [(Level, &FlagSet); 3] {
        [(Level::Node, &self.node), (Level::Cluster, &self.cluster), (Level::Conf, &self.conf)]
    }

    /// The port ranges that any level flags, merged: what is worth watching.
    pub fn ranges(&self, protocol: Protocol) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = self
            .levels()
            .iter()
            .flat_map(|(_, set)| set.iter())
            .filter(|flag| flag.protocol == protocol)
            .map(|flag| (flag.start, flag.end))
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(start) <= u32::from(last.1) + 1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(start: u16, end: u16, weight: u16) -> PortFlag {
        PortFlag { protocol: Protocol::Tcp, start, end, weight }
    }

    #[test]
    fn a_flag_outside_the_bounds_says_which_number_is_wrong() {
        let new = |start, end, weight| PortFlag::new(Protocol::Tcp, start, end, weight);
        assert_eq!(new(1, 80, 1), Ok(flag(1, 80, 1)));
        assert_eq!(new(0, 80, 1), Err(FlagError::Port(0)));
        assert_eq!(new(1, 65536, 1), Err(FlagError::Port(65536)));
        assert_eq!(new(81, 80, 1), Err(FlagError::Order { start: 81, end: 80 }));
        assert_eq!(new(80, 80, 65536), Err(FlagError::Weight(65536)));
        assert_eq!(new(80, 80, -1), Err(FlagError::Weight(-1)));
    }

    #[test]
    fn the_nearer_level_wins_and_deleting_uncovers_the_one_below() {
        let mut layers = Layers::default();
        layers.conf.set(flag(1, 100, 1));
        layers.cluster.set(flag(50, 60, 2));
        layers.node.set(flag(55, 55, 0));
        let weight = |layers: &Layers, port| {
            layers.lookup(Protocol::Tcp, port).map(|(flag, level)| (flag.weight, level))
        };
        assert_eq!(weight(&layers, 55), Some((0, Level::Node)));
        assert_eq!(weight(&layers, 56), Some((2, Level::Cluster)));
        assert_eq!(weight(&layers, 61), Some((1, Level::Conf)));
        assert_eq!(weight(&layers, 101), None);
        assert_eq!(layers.lookup(Protocol::Udp, 55), None);
        layers.node.remove(Protocol::Tcp, 1, 65535);
        assert_eq!(weight(&layers, 55), Some((2, Level::Cluster)));
    }

    #[test]
    fn the_ranges_to_watch_are_the_union_of_all_levels() {
        let mut layers = Layers::default();
        layers.conf.set(flag(1, 80, 1));
        layers.cluster.set(flag(81, 90, 2));
        layers.node.set(flag(443, 443, 1));
        assert_eq!(layers.ranges(Protocol::Tcp), [(1, 90), (443, 443)]);
        assert!(layers.ranges(Protocol::Udp).is_empty());
    }
}
