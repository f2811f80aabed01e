//! What a node says of itself, as the store keeps it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::orders::DrainTarget;
use super::service::{PortRanges, ServiceKey};
use crate::counter;
use crate::ports::FlagSet;
use crate::protocol::Protocol;

/// A node that serves a port: an eligible listener on a flagged port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Registration {
    /// The virtual service.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The flag's weight; the director multiplies it by the node's.
    pub weight: u16,
    /// Why it should get no new connections although it listens: a failed check, or a full
    /// accept queue.
    #[serde(rename = "unfit", default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
    /// It listens on the CVIP alone: nothing answers on the node's own address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

impl Registration {
    /// A server that is healthy, and answers on the node's own address.
    pub fn new(service: ServiceKey, weight: u16) -> Registration {
        Registration { service, weight, unhealthy: None, hidden: false }
    }
}

/// A listener on a flagged port that did not join, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefusedListener {
    /// The virtual service that it would have joined.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The address that the listener is bound to.
    pub bound: IpAddr,
    /// Its owner's user id.
    pub uid: u32,
    /// The rule that kept it out, for people.
    pub reason: String,
    /// True if packets for the CVIP on this node would reach it all the same: the active
    /// director then keeps the service, without destinations, in front of it.
    pub reachable: bool,
}

/// Connections on a port whose listener is gone, or that an operator drains: what a drain waits
/// for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lingering {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port, host order.
    pub port: u16,
    /// Connections that the node itself still counts on it.
    pub connections: u32,
}

/// A node's whole record. (incarnation, sequence) orders the writes of one node: a later start
/// of cvipd has a higher incarnation, a later write of one start a higher sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Node number, from 1.
    pub node: u32,
    /// Which start of cvipd wrote it.
    pub incarnation: u64,
    /// Which write of that start.
    pub sequence: u64,
    /// How listeners are noticed, for people: `cgroup BPF` or `polling every 200 ms (why)`.
    pub event_source: String,
    /// What it serves, in order.
    pub registrations: Vec<Registration>,
    /// What it does not serve though it listens, in order.
    pub refused: Vec<RefusedListener>,
    /// How many more listeners were kept out that are not named one by one.
    pub refused_more: u32,
    /// The services in front of which those of them stand that packets would reach: see
    /// [`RefusedListener::reachable`].
    pub reachable: Vec<PortRanges>,
    /// Ports that were left and still have connections, and all that are drained, in order.
    pub lingering: Vec<Lingering>,
    /// What an administrator of the node should know, for people.
    pub hints: Vec<String>,
    /// The port flags that were set on the node itself, which no other host can see.
    pub flags: FlagSet,
    /// It is the active director of its set, and carries the set's CVIPs.
    pub directing: bool,
    /// How often it has vouched for itself, as the active director that another director does not
    /// hear: it is another number each time.
    pub vouched: Option<u32>,
    /// The drains that its kernel's table obeys, if it is a director, in order.
    pub obeys: Vec<DrainTarget>,
    /// It leaves the cluster, or has left (`cvipctl leave`): it is to serve nothing, whatever
    /// cvip.conf says.
    pub leaving: bool,
    /// The nodes that leave and get no new connections by its kernel's table, if it is a director,
    /// in order.
    pub released: Vec<u32>,
}

/// What a director's kernel is seen to have been told.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AppliedOrders {
    /// Operators' drains that its table obeys.
    pub drains: BTreeSet<DrainTarget>,
    /// Nodes that leave and get no new connections by its table.
    pub released: BTreeSet<u32>,
}

impl NodeRecord {
    /// The order of one node's writes.
    pub fn version(&self) -> (u64, u64) {
        (self.incarnation, self.sequence)
    }

    /// Whether packets for a service would reach a listener that was kept out: see
    /// [`RefusedListener::reachable`].
    pub fn shields(&self, service: ServiceKey) -> bool {
        self.refused.iter().any(|refused| refused.reachable && refused.service == service)
            || self.reachable.iter().any(|ranges| ranges.contains(service))
    }

    /// (incarnation, sequence) of the record that follows this one, written by a cvipd of this
    /// incarnation: its own, unless this record is of a later one. The writer of that is not there
    /// any more, for the writer holds the node's lease.
    pub fn next_version(&self, incarnation: u64) -> (u64, u64) {
        if self.incarnation == incarnation {
            // A sequence that begins anew is later all the same.
            (incarnation, counter::next(self.sequence))
        } else if counter::is_later(self.incarnation, incarnation) {
            (counter::next(self.incarnation), 1)
        } else {
            (incarnation, 1)
        }
    }

    /// A record that says of a node that it serves nothing: what a clean leave writes.
    pub fn empty(node: u32, incarnation: u64, sequence: u64) -> NodeRecord {
        NodeRecord {
            node,
            incarnation,
            sequence,
            event_source: String::new(),
            registrations: Vec::new(),
            refused: Vec::new(),
            refused_more: 0,
            reachable: Vec::new(),
            lingering: Vec::new(),
            hints: Vec::new(),
            flags: FlagSet::default(),
            directing: false,
            vouched: None,
            obeys: Vec::new(),
            leaving: false,
            released: Vec::new(),
        }
    }
}
