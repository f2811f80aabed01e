//! What crosses the boundary of the node's state: what it asks its driver to do, and what the driver
//! tells it of the store, the listeners and the checks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::queues::WaitingGroup;
use super::system::System;
use crate::checks::CheckTarget;
use crate::heartbeat;
use crate::listeners::{Listener, ListenerId, Ranges};
use crate::protocol::Protocol;
use crate::serial::pairs;
use crate::store::{Fault, NodeRecord, ServiceKey, StoreValues};

/// What is to be done now, and by which call its outcome is told, if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAction {
    /// Bring the store's view up to date: [`NodeState::store_read`](super::state::NodeState::store_read).
    ReadStore,
    /// Write a corrupt value anew: [`NodeState::repaired`](super::state::NodeState::repaired).
    Repair(Fault),
    /// Write this node's record: [`NodeState::put`](super::state::NodeState::put).
    Put(Box<NodeRecord>),
    /// Read the system, and dump these ports for the hints:
    /// [`NodeState::looked_around`](super::state::NodeState::looked_around).
    LookAround(Ranges),
    /// Make the dumps and take the outcomes of checks that are due:
    /// [`NodeState::looked`](super::state::NodeState::looked).
    Look,
    /// Read which connections wait in the accept queues of these ports:
    /// [`NodeState::queue_read`](super::state::NodeState::queue_read) for each,
    /// [`NodeState::queues_read`](super::state::NodeState::queues_read) for all.
    ReadQueues(BTreeSet<u16>),
    /// Count the connections on these ports:
    /// [`NodeState::counted`](super::state::NodeState::counted).
    Count(Ranges),
    /// Check these targets, and the new ones at once:
    /// [`NodeState::checked`](super::state::NodeState::checked).
    Check(Targets),
    /// Watch the listeners on these ports: [`NodeState::watched`](super::state::NodeState::watched).
    Watch(Ranges),
    /// Notice the leaves of these listeners at once.
    SetEligible(BTreeSet<ListenerId>),
    /// Tell which ports the node has left, before the store is told: it may not answer.
    TellLeft(heartbeat::LeftPorts),
    /// Tell how many connections a node that leaves still has.
    Report(usize),
}

/// The targets of cvip.conf's checks, by service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets(#[serde(with = "pairs")] pub BTreeMap<ServiceKey, CheckTarget>);

/// The services that fail their checks, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unhealthy(#[serde(with = "pairs")] pub BTreeMap<ServiceKey, String>);

/// What a refresh of the store found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRead {
    /// What is another value than before, of the keys that the node follows.
    pub values: StoreValues,
    /// Values that could not be read.
    pub faults: Vec<Fault>,
}

/// Which listeners there are, by what differs from those that the state knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenersChange {
    /// Those that are new, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<ListenerId>,
    /// Those that are there no more, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<ListenerId>,
    /// Every flagged protocol was dumped once.
    pub is_settled: bool,
}

impl ListenersChange {
    /// What leads from the listeners that are known to those that are seen, which are sorted, each once.
    pub fn between(
        known: &BTreeSet<ListenerId>,
        seen: impl Iterator<Item = ListenerId>,
        is_settled: bool,
    ) -> ListenersChange {
        let mut change = ListenersChange { is_settled, ..ListenersChange::default() };
        let (mut known, mut seen) = (known.iter().copied().peekable(), seen.peekable());
        loop {
            match (known.peek(), seen.peek()) {
                (None, None) => return change,
                (Some(old), Some(new)) if old == new => {
                    known.next();
                    seen.next();
                }
                (Some(old), new) if new.is_none_or(|new| old < new) => {
                    change.removed.extend(known.next());
                }
                _ => change.added.extend(seen.next()),
            }
        }
    }

    /// Makes the change.
    pub(super) fn apply(self, known: &mut BTreeSet<ListenerId>) {
        for gone in self.removed {
            known.remove(&gone);
        }
        known.extend(self.added);
    }
}

/// What came of a look at the listeners and at the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookOutcome {
    /// Listeners or the outcomes of checks are others than before.
    pub is_changed: bool,
    /// Which listeners.
    pub listeners: ListenersChange,
    /// What of the listeners cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Of a new dump of TCP the sockets of services whose accept queues are full, or were; none if
    /// there was no dump, or none of them matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowded: Option<Vec<Listener>>,
    /// Which services fail their checks; none if that is as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Unhealthy>,
}

/// What came of setting the targets of checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutcomes {
    /// The outcomes of checks are others than before.
    pub is_changed: bool,
    /// Which services fail their checks; none if that is as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Unhealthy>,
}

/// What the system is like, and what the hints are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// The system; none if it is as before.
    pub system: Option<System>,
    /// On which flagged ports something listens, as far as the hints depend on it, or why that is
    /// not known.
    pub listening: Result<Vec<(Protocol, u16)>, String>,
}

/// Connections that wait on a port, or why that is not known.
pub(super) type QueueReading = Result<Vec<WaitingGroup>, String>;

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16) -> ListenerId {
        let addr = [0, 0, 0, 0].into();
        ListenerId { protocol: Protocol::Tcp, addr, port, v6only: false, device: 0, uid: 0 }
    }

    #[test]
    fn listeners_that_came_and_went_lead_to_those_that_are_seen() {
        let set = |ports: &[u16]| ports.iter().copied().map(listener).collect::<BTreeSet<_>>();
        for (known, seen, added, removed) in [
            (&[][..], &[80, 90][..], &[80, 90][..], &[][..]),
            (&[80, 90], &[80, 90], &[], &[]),
            (&[80, 90], &[], &[], &[80, 90]),
            (&[70, 80, 95], &[75, 80, 90], &[75, 90], &[70, 95]),
        ] {
            let (mut known, seen) = (set(known), set(seen));
            let change = ListenersChange::between(&known, seen.iter().copied(), true);
            assert_eq!(
                (set(added), set(removed)),
                (change.added.iter().copied().collect(), change.removed.iter().copied().collect(),)
            );
            let text = serde_json::to_string(&change).unwrap();
            let read: ListenersChange = serde_json::from_str(&text).unwrap();
            read.apply(&mut known);
            assert_eq!(known, seen);
        }
    }
}
