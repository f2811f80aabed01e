//! The node's role: what it is to its kernel at the moment, and how a director becomes the active
//! one and ceases to be it. Pure.
//!
//! A director that takes over makes its table first and then carries the address; one that yields
//! gives the address back first, and forwards for a while what still reaches it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::director::election::ElectionRole;
use crate::net::AddressRole;

/// How long a director that is to take over waits for its table. One with `sync_interface` has it
/// beforehand.
const TABLE_WITHIN: Duration = Duration::from_millis(500);

/// A director that is this late to carry the address did not run for a while: heartbeats may be
/// missing for hardly longer before another director is elected.
const LATE_AFTER: Duration = Duration::from_millis(500);

/// How long a director that has yielded forwards what still reaches it: until every neighbour has
/// heard one of the new one's announcements.
const FORWARD_FOR: Duration = Duration::from_secs(2);

/// How long a node that is no director any more waits for its table to be emptied, before its
/// addresses become those of a real server.
const EMPTIED_WITHIN: Duration = Duration::from_secs(2);

/// The role of the active director, as `status` shows it.
pub(in crate::daemon) const ACTIVE: &str = "director";

/// A node's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NodeRole {
    /// It is no director.
    Serve,
    /// A director that does not know its role, yet or any more: what its kernel carries stays as it
    /// is.
    Undecided,
    /// A standby.
    Stand,
    /// Elected, and not carrying the address yet: its table is being made, until then at most.
    Prepare { term: u64, until: Instant },
    /// The active director.
    Direct { term: u64 },
    /// It was the active director, and forwards until then.
    Yield { until: Instant },
    /// It is no director any more, and its table is being emptied, until then at most.
    Retire { until: Instant },
}

impl NodeRole {
    /// The role of a director that is no longer one, and has a table or none.
    pub(super) fn retired(has_table: bool, now: Instant) -> NodeRole {
        match has_table {
            true => NodeRole::Retire { until: now + EMPTIED_WITHIN },
            false => NodeRole::Serve,
        }
    }

    /// The role after an election's outcome. It concerns directors only: one that is no longer a
    /// director may still be told.
    pub(super) fn elected(self, role: ElectionRole, now: Instant) -> NodeRole {
        match (self, role) {
            (NodeRole::Serve | NodeRole::Retire { .. }, _) => self,
            (NodeRole::Direct { .. }, ElectionRole::Active { term }) => NodeRole::Direct { term },
            (_, ElectionRole::Active { term }) => {
                NodeRole::Prepare { term, until: now + TABLE_WITHIN }
            }
            (NodeRole::Direct { .. }, ElectionRole::Standby) => {
                NodeRole::Yield { until: now + FORWARD_FOR }
            }
            (NodeRole::Yield { .. }, ElectionRole::Standby) => self,
            (_, ElectionRole::Standby) => NodeRole::Stand,
        }
    }

    /// The role once the table is made, in time.
    pub(super) fn table_made(self) -> NodeRole {
        match self {
            NodeRole::Prepare { term, .. } => NodeRole::Direct { term },
            _ => self,
        }
    }

    /// The role once the table is empty.
    pub(super) fn table_emptied(self) -> NodeRole {
        match self {
            NodeRole::Retire { .. } => NodeRole::Serve,
            _ => self,
        }
    }

    /// The role as time goes on.
    pub(super) fn at(self, now: Instant) -> NodeRole {
        match self {
            _ if self.until().is_none_or(|until| now < until) => self,
            NodeRole::Prepare { until, .. } if now >= until + LATE_AFTER => NodeRole::Undecided,
            NodeRole::Yield { .. } => NodeRole::Stand,
            _ => self.table_made().table_emptied(),
        }
    }

    /// When time alone changes it.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            NodeRole::Prepare { until, .. }
            | NodeRole::Yield { until }
            | NodeRole::Retire { until } => Some(until),
            _ => None,
        }
    }

    /// The term in which it carries the CVIPs.
    pub(super) fn term(self) -> Option<u64> {
        match self {
            NodeRole::Direct { term } => Some(term),
            _ => None,
        }
    }

    /// It carries the CVIPs.
    pub(super) fn is_active(self) -> bool {
        matches!(self, NodeRole::Direct { .. })
    }

    /// It carries the CVIPs, or still forwards what reaches it.
    pub(super) fn forwards(self) -> bool {
        matches!(self, NodeRole::Direct { .. } | NodeRole::Yield { .. })
    }

    /// The role by which addresses and settings are made; none: they stay as they are.
    pub(super) fn address_role(self) -> Option<AddressRole> {
        match self {
            NodeRole::Serve => Some(AddressRole::RealServer),
            NodeRole::Undecided | NodeRole::Prepare { .. } | NodeRole::Retire { .. } => None,
            NodeRole::Stand => Some(AddressRole::Standby),
            NodeRole::Direct { .. } => Some(AddressRole::ActiveDirector),
            NodeRole::Yield { .. } => Some(AddressRole::Yielding),
        }
    }

    /// A director's role in a word or two, for people.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            NodeRole::Serve => None,
            NodeRole::Undecided => Some("director, role not known yet"),
            NodeRole::Stand => Some("standby"),
            NodeRole::Prepare { .. } => Some("director, taking over"),
            NodeRole::Direct { .. } => Some(ACTIVE),
            NodeRole::Yield { .. } => Some("director, handing over"),
            NodeRole::Retire { .. } => Some("former director"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NodeRole::{Direct, Prepare, Retire, Serve, Stand, Undecided, Yield};
    use super::*;

    #[derive(Clone, Copy)]
    enum Input {
        Elected(u64),
        Standby,
        Made,
        Emptied,
        Time,
    }
    use Input::{Elected, Emptied, Made, Standby, Time};

    #[test]
    fn the_role_follows_election_table_and_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let prepare = |term, ms| Prepare { term, until: at(ms) };
        // The role before, and each input with the role after it.
        type Sequence<'a> = (&'a str, NodeRole, &'a [(u64, Input, NodeRole)]);
        let sequences: [Sequence<'_>; 7] = [
            (
                "a director takes over with its table made, and forwards for a while after it yielded",
                Undecided,
                &[
                    (0, Standby, Stand),
                    (10, Elected(3), prepare(3, 510)),
                    (20, Time, prepare(3, 510)),
                    (30, Made, Direct { term: 3 }),
                    (40, Elected(4), Direct { term: 4 }),
                    (50, Standby, Yield { until: at(2050) }),
                    (60, Standby, Yield { until: at(2050) }),
                    (2049, Time, Yield { until: at(2050) }),
                    (2050, Time, Stand),
                ],
            ),
            (
                "a table that takes too long is not waited for",
                Undecided,
                &[(0, Elected(1), prepare(1, 500)), (500, Time, Direct { term: 1 })],
            ),
            (
                "a director that did not run meanwhile does not know its role any more",
                Stand,
                &[
                    (0, Elected(1), prepare(1, 500)),
                    (1000, Time, Undecided),
                    (1000, Made, Undecided),
                    (1010, Elected(1), prepare(1, 1510)),
                    (2009, Time, Direct { term: 1 }),
                ],
            ),
            (
                "a director that is elected again while it yields goes on",
                Direct { term: 1 },
                &[
                    (0, Standby, Yield { until: at(2000) }),
                    (100, Elected(3), prepare(3, 600)),
                    (110, Made, Direct { term: 3 }),
                ],
            ),
            (
                "a director that is deposed before its table was made carries nothing",
                Stand,
                &[(0, Elected(1), prepare(1, 500)), (10, Standby, Stand), (20, Made, Stand)],
            ),
            (
                "a former director serves once its table is empty, and no election concerns it",
                Retire { until: at(2000) },
                &[
                    (0, Standby, Retire { until: at(2000) }),
                    (10, Elected(2), Retire { until: at(2000) }),
                    (20, Emptied, Serve),
                    (30, Elected(2), Serve),
                ],
            ),
            (
                "a table that is not emptied in time is not waited for",
                Retire { until: at(2000) },
                &[(1999, Time, Retire { until: at(2000) }), (2000, Time, Serve)],
            ),
        ];
        for (name, mut role, steps) in sequences {
            for (number, (ms, input, after)) in steps.iter().enumerate() {
                let now = at(*ms);
                role = match *input {
                    Elected(term) => role.elected(ElectionRole::Active { term }, now),
                    Standby => role.elected(ElectionRole::Standby, now),
                    Made => role.table_made(),
                    Emptied => role.table_emptied(),
                    Time => role.at(now),
                };
                assert_eq!(role, *after, "{name}, step {number}");
            }
        }
    }

    #[test]
    fn addresses_stay_as_they_are_while_a_table_is_made_or_emptied() {
        let now = Instant::now();
        for (role, address_role) in [
            (Serve, Some(AddressRole::RealServer)),
            (Undecided, None),
            (Stand, Some(AddressRole::Standby)),
            (Prepare { term: 1, until: now }, None),
            (Direct { term: 1 }, Some(AddressRole::ActiveDirector)),
            (Yield { until: now }, Some(AddressRole::Yielding)),
            (Retire { until: now }, None),
        ] {
            assert_eq!(role.address_role(), address_role, "{role:?}");
        }
    }
}
