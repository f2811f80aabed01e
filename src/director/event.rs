//! Events of a director: which servers and nodes came and went, and why.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::liveness::Liveness;
use super::passes::Repair;
use super::reconcile::WeighedService;
use super::restrictions::QuiesceReason;
use crate::ipvs::{Change, DestinationId};
use crate::store::{DrainOrder, DrainTarget, ServiceKey};

/// Something that happened; `cvipctl events` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DirectorEvent {
    /// A node serves a service.
    Joined {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The node.
        node: u32,
        /// With this weight, its port flag's.
        weight: u16,
    },
    /// A node no longer serves a service.
    Left {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The node.
        node: u32,
    },
    /// A destination was deleted in the kernel: its drain is over.
    Out {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The real server's address.
        address: IpAddr,
    },
    /// A destination gets no new connections, though it listens.
    Quiesced {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The real server's address.
        address: IpAddr,
        /// `unhealthy`, `damped`, `suspected`, `former_director` or `below_quorum`.
        state: String,
        /// Why, for people.
        reason: String,
    },
    /// It would get none, but no other real server is left.
    Spared {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The real server's address.
        address: IpAddr,
        /// `unhealthy`, `damped` or `suspected`.
        state: String,
        /// Why, for people.
        reason: String,
    },
    /// It gets new connections again.
    Restored {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The real server's address.
        address: IpAddr,
    },
    /// A service has the quorum that cvip.conf asks of it, as far as this director's table shows.
    QuorumUp {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The weight of its real servers that could take connections.
        weight: u64,
        /// The weight that makes a quorum.
        quorum: u32,
    },
    /// It has none.
    QuorumDown {
        /// The service.
        #[serde(flatten)]
        service: ServiceKey,
        /// The weight of its real servers that could take connections.
        weight: u64,
        /// The weight that makes a quorum.
        quorum: u32,
    },
    /// An operator drains a node, or one of its ports.
    DrainOrdered {
        /// What, as a sentence has it.
        target: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who ordered it.
        by: String,
    },
    /// An operator drains it no longer.
    DrainEnded {
        /// What, as a sentence has it.
        target: String,
    },
    /// A node's liveness changed.
    Node {
        /// The node.
        node: u32,
        /// Its liveness.
        liveness: Liveness,
    },
    /// A node has left the cluster, by an operator's order, and is not heard any more.
    NodeLeft {
        /// The node.
        node: u32,
    },
    /// This director became the active one.
    Took {
        /// In this term.
        term: u64,
        /// From whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u32>,
    },
    /// This director is the active one no longer.
    Yielded {
        /// To this term; absent: to a conflicting host while the store was unavailable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        term: Option<u64>,
    },
    /// The store is unavailable.
    StoreUnavailable,
    /// It is available again.
    StoreBack,
    /// The kernel's table was changed by another program, and put right.
    TableRepaired {
        /// The first of the services.
        #[serde(flatten)]
        service: ServiceKey,
        /// How many services were missing.
        services: usize,
        /// How many destinations were missing.
        destinations: usize,
        /// How many services and destinations had other settings.
        edited: usize,
        /// How many were there in excess.
        removed: usize,
    },
    /// The sync daemon of this director's role does not run.
    SyncMissing {
        /// `master` or `backup`.
        role: String,
        /// On which interface.
        interface: String,
        /// Why.
        reason: String,
    },
    /// The sync daemon of this director's role runs, after it did not.
    SyncRuns {
        /// `master` or `backup`.
        role: String,
        /// On which interface.
        interface: String,
    },
    /// A standby's table is empty, because the kernel would forward by it.
    TablePassive {
        /// Why.
        reason: String,
    },
    /// A director's table could not be made yet: by its role it should stand, or be empty.
    TableFailed {
        /// Why.
        reason: String,
    },
    /// A director's table is what its role asks for, after it was empty or could not be made.
    TableReady,
    /// Most nodes became unreachable at once: this director suspects its own link.
    Isolated,
    /// It trusts its link again.
    IsolationEnded,
    /// An address, a link or a setting of this node was changed by another program, and is again as
    /// its role needs it.
    Repaired {
        /// What was done, as a sentence has it.
        what: String,
    },
    /// This director cannot carry the CVIPs of its set.
    Incapable {
        /// Why, for people.
        reason: String,
    },
    /// It can, again.
    CanCarry,
    /// Another host claims an address that this director carries.
    Conflict {
        /// The address.
        address: IpAddr,
        /// The other host's Ethernet address.
        by: String,
    },
    /// Nothing was heard of that for a while.
    ConflictOver {
        /// The address.
        address: IpAddr,
    },
}

impl DirectorEvent {
    pub(super) fn out(change: &Change, key: ServiceKey) -> Option<DirectorEvent> {
        match change {
            Change::DeleteDestination(_, DestinationId { addr, .. }) => {
                Some(DirectorEvent::Out { service: key, address: *addr })
            }
            _ => None,
        }
    }

    pub(super) fn repaired(repair: Repair) -> DirectorEvent {
        let Repair { service, services, destinations, edited, removed } = repair;
        DirectorEvent::TableRepaired { service, services, destinations, edited, removed }
    }

    pub(super) fn quiesced(
        service: ServiceKey,
        address: IpAddr,
        quiesced: &QuiesceReason,
    ) -> DirectorEvent {
        let (state, reason) = quiesced.describe();
        let state = state.to_owned();
        match quiesced {
            QuiesceReason::Spared(_) => DirectorEvent::Spared { service, address, state, reason },
            _ => DirectorEvent::Quiesced { service, address, state, reason },
        }
    }

    /// A service has a quorum from now on, or has none.
    pub(super) fn quorum(weighed: WeighedService, has: bool) -> DirectorEvent {
        let WeighedService { service, quorum, weight, .. } = weighed;
        let quorum = quorum.weight;
        match has {
            true => DirectorEvent::QuorumUp { service, weight, quorum },
            false => DirectorEvent::QuorumDown { service, weight, quorum },
        }
    }

    pub(super) fn drain_ordered(target: &DrainTarget, order: &DrainOrder) -> DirectorEvent {
        let DrainOrder { reason, by, .. } = order.clone();
        DirectorEvent::DrainOrdered { target: target.to_string(), reason, by }
    }
}

/// One sentence for people.
impl fmt::Display for DirectorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectorEvent::Joined { service, node, weight } => {
                write!(f, "node {node} joined {service} with weight {weight}")
            }
            DirectorEvent::Left { service, node } => write!(f, "node {node} left {service}"),
            DirectorEvent::Out { service, address } => write!(f, "{address} is out of {service}"),
            DirectorEvent::Quiesced { service, address, state, reason } => {
                write!(f, "{address} gets no new connections of {service}: {state}, {reason}")
            }
            DirectorEvent::Spared { service, address, state, reason } => {
                write!(f, "{address} is {state} for {service}: {reason}")
            }
            DirectorEvent::Restored { service, address } => {
                write!(f, "{address} gets new connections of {service} again")
            }
            DirectorEvent::QuorumUp { service, weight, quorum } => {
                write!(f, "{service} has its quorum of {quorum}: its real servers weigh {weight}")
            }
            DirectorEvent::QuorumDown { service, weight, quorum } => {
                write!(f, "{service} has no quorum of {quorum}: its real servers weigh {weight}")
            }
            DirectorEvent::DrainOrdered { target, reason, by } => {
                write!(f, "{target} is drained, by order of {by}")?;
                match reason {
                    Some(reason) => write!(f, ": {reason}"),
                    None => Ok(()),
                }
            }
            DirectorEvent::DrainEnded { target } => write!(f, "{target} is drained no longer"),
            DirectorEvent::Node { node, liveness } => match liveness {
                Liveness::Alive => write!(f, "node {node} is heard again"),
                Liveness::AgentDown => {
                    write!(
                        f,
                        "node {node} is up but its cvipd sends no heartbeats; probing its servers"
                    )
                }
                Liveness::Suspected => write!(f, "node {node} is suspected: no new connections"),
                Liveness::Dead => write!(f, "node {node} is dead: its connections are cut"),
            },
            DirectorEvent::NodeLeft { node } => write!(f, "node {node} has left the cluster"),
            DirectorEvent::Took { term, from: Some(from) } => {
                write!(f, "took over from node {from}, in term {term}")
            }
            DirectorEvent::Took { term, from: None } => write!(f, "became active, in term {term}"),
            DirectorEvent::Yielded { term: Some(term) } => {
                write!(f, "yielded to the director of term {term}")
            }
            DirectorEvent::Yielded { term: None } => {
                write!(
                    f,
                    "yielded to another host that answers for the CVIP while the store is unavailable"
                )
            }
            DirectorEvent::StoreUnavailable => {
                write!(f, "the store is unavailable: nothing changes until it is back")
            }
            DirectorEvent::StoreBack => write!(f, "the store is available again"),
            DirectorEvent::TableRepaired { service, services, destinations, edited, removed } => {
                write!(f, "another program changed the IPVS table ({service}")?;
                if services + destinations + edited + removed > 1 {
                    f.write_str(" first")?;
                }
                f.write_str("); repaired:")?;
                let counts = [
                    (services, "services put back"),
                    (destinations, "destinations put back"),
                    (edited, "settings corrected"),
                    (removed, "entries removed"),
                ];
                let mut separator = " ";
                for (count, what) in counts.into_iter().filter(|(count, _)| **count > 0) {
                    write!(f, "{separator}{count} {what}")?;
                    separator = ", ";
                }
                Ok(())
            }
            DirectorEvent::SyncMissing { role, interface, reason } => {
                write!(f, "the {role} sync daemon on {interface} does not run: {reason}")
            }
            DirectorEvent::SyncRuns { role, interface } => {
                write!(f, "the {role} sync daemon runs on {interface} again")
            }
            DirectorEvent::TablePassive { reason } => {
                write!(
                    f,
                    "this standby's IPVS table is empty, so that it forwards nothing: {reason}"
                )
            }
            DirectorEvent::TableFailed { reason } => {
                write!(f, "this director's IPVS table cannot be made, trying again: {reason}")
            }
            DirectorEvent::TableReady => {
                write!(f, "this director's IPVS table is again what its role asks for")
            }
            DirectorEvent::Isolated => write!(
                f,
                "most nodes became unreachable at once: it may be this director's own link, the table stays"
            ),
            DirectorEvent::IsolationEnded => write!(f, "most nodes are heard again"),
            DirectorEvent::Repaired { what } => {
                write!(f, "repaired what another program changed here: {what}")
            }
            DirectorEvent::Incapable { reason } => {
                write!(f, "the CVIPs cannot be carried here: {reason}")
            }
            DirectorEvent::Conflict { address, by } => {
                write!(f, "address conflict: another host, {by}, claims {address}")
            }
            DirectorEvent::ConflictOver { address } => {
                write!(f, "the address conflict over {address} is over")
            }
            DirectorEvent::CanCarry => write!(f, "the CVIPs can be carried here again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    #[test]
    fn events_are_flat_objects_and_sentences() {
        let service =
            ServiceKey { cvip: "10.0.0.1".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        let joined = DirectorEvent::Joined { service, node: 3, weight: 2 };
        let json = serde_json::to_value(&joined).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "event": "joined", "cvip": "10.0.0.1", "protocol": "tcp", "port": 80,
                "node": 3, "weight": 2,
            })
        );
        assert_eq!(serde_json::from_value::<DirectorEvent>(json).unwrap(), joined);
        let took = DirectorEvent::Took { term: 4, from: Some(1) };
        assert_eq!(took.to_string(), "took over from node 1, in term 4");
        let json =
            serde_json::to_string(&DirectorEvent::Node { node: 3, liveness: Liveness::AgentDown })
                .unwrap();
        assert_eq!(json, r#"{"event":"node","node":3,"liveness":"agent_down"}"#);
    }
}
