//! Ports whose connections a drain waits for: those that were left, and those that an operator
//! drains. Pure.
//!
//! IPVS does not count half-closed connections as active; the node does. So it counts the
//! connections on such ports and says so in its record, which also shows a drain's progress to
//! anyone who looks, on any host.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::conf::Conf;
use crate::listeners::Ranges;
use crate::net::Done;
use crate::protocol::Protocol;
use crate::serial::pairs;
use crate::store::{Lingering, StoreState};

/// Protocol and port, host order.
pub type LeavingPort = (Protocol, u16);

/// The ports, and what was last counted on each.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leaving {
    #[serde(with = "pairs")]
    ports: BTreeMap<LeavingPort, u32>,
    drained: BTreeSet<LeavingPort>,
}

impl Leaving {
    /// Ports that were served by a cvipd before this one, and perhaps are no more.
    pub fn of(ports: impl IntoIterator<Item = LeavingPort>) -> Leaving {
        let ports = ports.into_iter().map(|port| (port, 0)).collect();
        Leaving { ports, drained: BTreeSet::new() }
    }

    /// Ports were served before, others are now, and some of all are drained. UDP has no
    /// connections to wait for; that a port of it is drained is told all the same.
    pub fn update(
        &mut self,
        before: impl IntoIterator<Item = LeavingPort>,
        served: &BTreeSet<LeavingPort>,
        drained: BTreeSet<LeavingPort>,
    ) {
        let left = before.into_iter().filter(|(protocol, _)| *protocol != Protocol::Udp);
        for port in left.chain(drained.iter().copied()) {
            self.ports.entry(port).or_insert(0);
        }
        let is_over = |port: &LeavingPort| served.contains(port) && !drained.contains(port);
        let was_drained = |port: &LeavingPort| port.0 == Protocol::Udp && !drained.contains(port);
        self.ports.retain(|port, _| !is_over(port) && !was_drained(port));
        self.drained = drained;
    }

    /// True if there is nothing to count.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The ports whose connections are to be counted.
    pub(super) fn countable(&self) -> Ranges {
        let ports = self.ports.keys().filter(|(protocol, _)| *protocol != Protocol::Udp);
        ports.map(|(protocol, port)| (*protocol, *port, *port)).collect()
    }

    /// Takes a new count of each port, none where it could not be counted; true if any is another.
    /// A port on which no connection is left, or which cannot be counted, is forgotten, unless it
    /// is drained.
    pub fn count(&mut self, counted: impl Fn(LeavingPort) -> Option<usize>) -> bool {
        let mut changed = false;
        let drained = &self.drained;
        self.ports.retain(|port, count| {
            let Some(now) = Some(0).filter(|_| port.0 == Protocol::Udp).or_else(|| counted(*port))
            else {
                return drained.contains(port);
            };
            let now = u32::try_from(now).unwrap_or(u32::MAX);
            changed |= *count != now;
            *count = now;
            now > 0 || drained.contains(port)
        });
        changed
    }

    /// What the record says: the ports that still have connections, and all that are drained.
    pub fn lingering(&self) -> Vec<Lingering> {
        let told =
            |(port, count): &(&LeavingPort, &u32)| **count > 0 || self.drained.contains(port);
        let say = |((protocol, port), connections): (&LeavingPort, &u32)| Lingering {
            protocol: *protocol,
            port: *port,
            connections: *connections,
        };
        self.ports.iter().filter(told).map(say).collect()
    }
}

/// The directors, running and active, whose kernels may still send new connections to a node that
/// leaves: it keeps its addresses until their records say that they do not.
pub fn holders(node: u32, conf: &Conf, state: &StoreState) -> BTreeSet<u32> {
    let serves = |addr| conf.cvip(addr).is_some_and(|cvip| cvip.real_server(node).is_some());
    let mut directors = BTreeSet::new();
    for set in conf.director_sets() {
        if !set.cvips.iter().any(|addr| serves(*addr)) {
            continue;
        }
        let elected = set.directors.iter().min().and_then(|name| state.directors.get(name));
        directors.extend(match set.directors.len() {
            1 => set.directors.first().copied(),
            _ => elected.map(|elected| elected.node),
        });
        // One that has taken over, or has not given up yet.
        let directing = |node: &&u32| state.nodes.get(*node).is_some_and(|r| r.directing);
        directors.extend(set.directors.iter().filter(directing));
    }
    // Its own table goes with it.
    directors.remove(&node);
    directors.retain(|director| {
        let record = state.nodes.get(director);
        let released = record.is_some_and(|record| record.released.contains(&node));
        state.alive.contains_key(director) && !released
    });
    directors
}

/// What a node that leaves has not undone on its own host, for people; none if all is. `made` is
/// what its cvipd recorded as its own there.
pub fn left_behind(node: u32, made: &[Done], state: &StoreState) -> Option<String> {
    let services = state.owned.get(&node).map_or(0, BTreeSet::len);
    let count = |number: usize, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{number} {many}")),
    };
    let left: Vec<String> = [
        count(services, "service in the kernel's table", "services in the kernel's table"),
        count(
            made.len(),
            "address or setting that cvipd made",
            "addresses and settings that cvipd made",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!left.is_empty()).then(|| left.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Cvip, DirectorNode, RealServer, Routing};
    use crate::store::{Elected, NodeRecord};

    #[test]
    fn a_node_that_leaves_waits_for_the_directors_that_may_still_send_it_connections() {
        let director =
            |node| DirectorNode { node, garp_interface: "eth0".to_owned(), sync_interface: None };
        let server = |node: u32| RealServer {
            node,
            addr: std::net::IpAddr::from([10, 0, 0, node as u8]),
            weight: 1,
        };
        let cvip = Cvip {
            addr: "10.0.0.100".parse().unwrap(),
            gateway: None,
            directors: vec![director(5), director(6)],
            real_servers: [1, 5, 6].map(server).into(),
            services: Vec::new(),
        };
        let conf = Conf { routing: Routing::Dr, cvips: vec![cvip] };
        let mut state = StoreState::default();
        for node in [1, 5, 6] {
            state.nodes.insert(node, NodeRecord::empty(node, 1, 1));
            state.alive.insert(node, 1);
        }
        assert_eq!(holders(1, &conf, &state), [].into(), "no director was elected");
        state.directors.insert(5, Elected { node: 6, incarnation: 1, term: 1 });
        assert_eq!(holders(1, &conf, &state), [6].into());
        state.nodes.get_mut(&5).unwrap().directing = true;
        assert_eq!(holders(1, &conf, &state), [5, 6].into(), "one has not yielded yet");
        assert_eq!(holders(6, &conf, &state), [5].into(), "not for itself");
        state.nodes.get_mut(&5).unwrap().directing = false;
        state.nodes.get_mut(&6).unwrap().released = vec![1];
        assert_eq!(holders(1, &conf, &state), [].into());
        state.nodes.get_mut(&6).unwrap().released.clear();
        state.alive.remove(&6);
        assert_eq!(holders(1, &conf, &state), [].into(), "its cvipd does not run");
        assert_eq!(holders(9, &conf, &state), [].into(), "it serves nothing");
    }

    #[test]
    fn what_a_node_that_leaves_has_not_undone_is_counted() {
        let mut state = StoreState::default();
        assert_eq!(left_behind(1, &[], &state), None);
        let service = crate::store::ServiceKey {
            cvip: "10.0.0.100".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
        };
        state.owned.insert(2, [service].into());
        assert_eq!(left_behind(1, &[], &state), None, "it is another director's");
        let up = Done::Up("tunl0".to_owned());
        assert_eq!(
            left_behind(2, &[up.clone(), up], &state).as_deref(),
            Some("1 service in the kernel's table and 2 addresses and settings that cvipd made")
        );
    }

    const HTTP: LeavingPort = (Protocol::Tcp, 80);
    const DNS: LeavingPort = (Protocol::Udp, 53);

    fn told(leaving: &Leaving) -> Vec<(u16, u32)> {
        leaving.lingering().iter().map(|l| (l.port, l.connections)).collect()
    }

    fn count(leaving: &mut Leaving, connections: usize) -> bool {
        leaving.count(|_| Some(connections))
    }

    #[test]
    fn a_port_that_was_left_is_counted_until_it_has_no_connection() {
        let mut leaving = Leaving::default();
        leaving.update([HTTP, DNS], &[].into(), [].into());
        assert_eq!(told(&leaving), []);
        assert!(count(&mut leaving, 3));
        assert_eq!(told(&leaving), [(80, 3)]);
        assert!(!count(&mut leaving, 3));
        assert!(count(&mut leaving, 0));
        assert!(leaving.is_empty());
    }

    #[test]
    fn a_port_that_is_served_again_is_no_longer_left() {
        let mut leaving = Leaving::of([HTTP]);
        count(&mut leaving, 3);
        leaving.update([], &[HTTP].into(), [].into());
        assert!(leaving.is_empty());
    }

    #[test]
    fn a_drained_port_is_told_while_it_is_drained_with_or_without_connections() {
        let mut leaving = Leaving::default();
        leaving.update([], &[HTTP, DNS].into(), [HTTP, DNS].into());
        assert_eq!(told(&leaving), [(80, 0), (53, 0)]);
        count(&mut leaving, 2);
        assert_eq!(told(&leaving), [(80, 2), (53, 0)]);
        count(&mut leaving, 0);
        assert_eq!(told(&leaving), [(80, 0), (53, 0)]);
        leaving.update([], &[HTTP, DNS].into(), [].into());
        assert!(leaving.is_empty());
    }

    #[test]
    fn what_cannot_be_counted_is_waited_for_by_the_deadline_alone() {
        let mut leaving = Leaving::of([HTTP]);
        assert_eq!(leaving.countable(), [(Protocol::Tcp, 80, 80)].into_iter().collect());
        leaving.count(|_| None);
        assert!(leaving.is_empty());
    }
}
