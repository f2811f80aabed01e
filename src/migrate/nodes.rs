//! Numbers for the machines that a configuration names by their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::conf::Clustertab;

/// The nodes of the draft.
#[derive(Clone, Debug)]
pub(super) struct NodeNumbers {
    clustertab: Clustertab,
    by_addr: BTreeMap<IpAddr, u32>,
    /// No number below it is free.
    free: u32,
}

impl NodeNumbers {
    /// Those of a clustertab that stands.
    pub(super) fn of(clustertab: &Clustertab) -> NodeNumbers {
        let by_addr = clustertab.nodes.iter().map(|(node, addr)| (*addr, *node)).collect();
        NodeNumbers { clustertab: clustertab.clone(), by_addr, free: 1 }
    }

    /// The node of a machine with these addresses, of which the first that is known tells; else
    /// the lowest number that is free.
    pub(super) fn number(&mut self, addrs: &[IpAddr]) -> u32 {
        let known = addrs.iter().find_map(|addr| self.by_addr.get(addr)).copied();
        let node = known.unwrap_or_else(|| {
            // A clustertab of the largest size has far fewer nodes than there are numbers.
            while self.clustertab.nodes.contains_key(&self.free) {
                self.free += 1;
            }
            let node = self.free;
            self.clustertab.nodes.extend(addrs.first().map(|addr| (node, *addr)));
            node
        });
        for addr in addrs {
            self.by_addr.entry(*addr).or_insert(node);
        }
        node
    }

    /// All nodes, with those that stood before.
    pub(super) fn into_clustertab(self) -> Clustertab {
        self.clustertab
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_number_and_a_new_one_gets_the_lowest_that_is_free() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let clustertab = Clustertab::parse("2 10.0.0.2\n", "clustertab").0.unwrap();
        let mut nodes = NodeNumbers::of(&clustertab);
        assert_eq!(nodes.number(&[ip("10.0.0.9"), ip("fd00::9")]), 1);
        assert_eq!(nodes.number(&[ip("10.0.0.2")]), 2);
        assert_eq!(nodes.number(&[ip("10.0.0.3")]), 3);
        assert_eq!(nodes.number(&[ip("fd00::9")]), 1);
        let all: Vec<u32> = nodes.into_clustertab().nodes.into_keys().collect();
        assert_eq!(all, [1, 2, 3]);
    }
}
