//! What a node is to its kernel at the moment, and how a director comes to it and leaves it. Pure.
//!
//! A director that takes over makes its table first and then carries the address; one that yields
//! gives the address back first, and forwards for a while what still reaches it.

use std::time::{Duration, Instant};

use crate::director::election::ElectionRole;
use crate::net::AddressRole;

/// How long a director that is to take over waits for its table. One with `sync_interface` has it
/// beforehand.
const TABLE_WITHIN: Duration = Duration::from_millis(500);

/// How long a director that has yielded forwards what still reaches it: until every neighbour has
/// heard one of the new one's announcements.
const FORWARD_FOR: Duration = Duration::from_secs(2);

/// What an active director is called.
pub(super) const ACTIVE: &str = "director";

/// A node's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeRole {
    /// It is no director.
    Serve,
    /// A director that has just been started: what its kernel carries stays as it is.
    Undecided,
    /// A standby.
    Stand,
    /// Elected, and not carrying the address yet: its table is being made, until then at most.
    Prepare { term: u64, until: Instant },
    /// The active director.
    Direct { term: u64 },
    /// It was, and forwards until then.
    Yield { until: Instant },
}

impl NodeRole {
    /// The role of a director that is told its part.
    pub(super) fn told(self, role: ElectionRole, now: Instant) -> NodeRole {
        match (self, role) {
            (NodeRole::Direct { .. }, ElectionRole::Active { term }) => NodeRole::Direct { term },
            (_, ElectionRole::Active { term }) => {
                NodeRole::Prepare { term, until: now + TABLE_WITHIN }
            }
            (NodeRole::Direct { .. }, ElectionRole::Standby) => {
                NodeRole::Yield { until: now + FORWARD_FOR }
            }
            (node_role @ NodeRole::Yield { .. }, ElectionRole::Standby) => node_role,
            (_, ElectionRole::Standby) => NodeRole::Stand,
        }
    }

    /// The role once the table is made.
    pub(super) fn ready(self) -> NodeRole {
        match self {
            NodeRole::Prepare { term, .. } => NodeRole::Direct { term },
            node_role => node_role,
        }
    }

    /// The role as time goes on.
    pub(super) fn at(self, now: Instant) -> NodeRole {
        match self {
            NodeRole::Prepare { until, .. } if now >= until => self.ready(),
            NodeRole::Yield { until } if now >= until => NodeRole::Stand,
            node_role => node_role,
        }
    }

    /// When time alone changes it.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            NodeRole::Prepare { until, .. } | NodeRole::Yield { until } => Some(until),
            _ => None,
        }
    }

    /// What the kernel is to be made; none: it stays as it is.
    pub(super) fn address_role(self) -> Option<AddressRole> {
        match self {
            NodeRole::Serve => Some(AddressRole::RealServer),
            NodeRole::Undecided | NodeRole::Prepare { .. } => None,
            NodeRole::Stand => Some(AddressRole::Standby),
            NodeRole::Direct { .. } => Some(AddressRole::ActiveDirector),
            NodeRole::Yield { .. } => Some(AddressRole::Yielding),
        }
    }

    /// In one word or two, for people.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            NodeRole::Serve => None,
            NodeRole::Undecided => Some("director, part not known yet"),
            NodeRole::Stand => Some("standby"),
            NodeRole::Prepare { .. } => Some("director, taking over"),
            NodeRole::Direct { .. } => Some(ACTIVE),
            NodeRole::Yield { .. } => Some("director, handing over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_director_takes_over_with_its_table_made_and_forwards_for_a_while_after_it_yielded() {
        let now = Instant::now();
        let active = |term| ElectionRole::Active { term };
        let node_role = NodeRole::Undecided.told(ElectionRole::Standby, now);
        assert_eq!(
            (node_role, node_role.address_role()),
            (NodeRole::Stand, Some(AddressRole::Standby))
        );
        let node_role = node_role.told(active(3), now);
        assert_eq!((node_role.address_role(), node_role.at(now)), (None, node_role));
        let node_role = node_role.ready();
        assert_eq!(
            (node_role, node_role.address_role()),
            (NodeRole::Direct { term: 3 }, Some(AddressRole::ActiveDirector))
        );
        assert_eq!(node_role.told(active(4), now), NodeRole::Direct { term: 4 });
        let node_role = node_role.told(ElectionRole::Standby, now);
        assert_eq!(
            (node_role.address_role(), node_role.told(ElectionRole::Standby, now)),
            (Some(AddressRole::Yielding), node_role)
        );
        assert_eq!(node_role.at(now + FORWARD_FOR), NodeRole::Stand);
        assert_eq!(node_role.until(), Some(now + FORWARD_FOR));
    }

    #[test]
    fn a_table_that_takes_too_long_is_not_waited_for() {
        let now = Instant::now();
        let node_role = NodeRole::Undecided.told(ElectionRole::Active { term: 1 }, now);
        assert_eq!(node_role.at(now + TABLE_WITHIN), NodeRole::Direct { term: 1 });
    }

    #[test]
    fn a_director_that_is_elected_again_while_it_yields_goes_on() {
        let now = Instant::now();
        let node_role = NodeRole::Direct { term: 1 }.told(ElectionRole::Standby, now);
        let node_role = node_role.told(ElectionRole::Active { term: 3 }, now).ready();
        assert_eq!(node_role, NodeRole::Direct { term: 3 });
    }
}
