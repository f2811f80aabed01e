//! What a node is to its kernel at the moment, and how a director comes to it and leaves it. Pure.
//!
//! A director that takes over makes its table first and then carries the address; one that yields
//! gives the address back first, and forwards for a while what still reaches it.

use std::time::{Duration, Instant};

use crate::director::election::Part;
use crate::net::Role;

/// How long a director that is to take over waits for its table. One with `sync_interface` has it
/// beforehand.
const TABLE_WITHIN: Duration = Duration::from_millis(500);

/// How long a director that has yielded forwards what still reaches it: until every neighbour has
/// heard one of the new one's announcements.
const FORWARD_FOR: Duration = Duration::from_secs(2);

/// What an active director is called.
pub(super) const ACTIVE: &str = "director";

/// A node's duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
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

impl Duty {
    /// The duty of a director that is told its part.
    pub(super) fn told(self, part: Part, now: Instant) -> Duty {
        match (self, part) {
            (Duty::Direct { .. }, Part::Active { term }) => Duty::Direct { term },
            (_, Part::Active { term }) => Duty::Prepare { term, until: now + TABLE_WITHIN },
            (Duty::Direct { .. }, Part::Standby) => Duty::Yield { until: now + FORWARD_FOR },
            (duty @ Duty::Yield { .. }, Part::Standby) => duty,
            (_, Part::Standby) => Duty::Stand,
        }
    }

    /// The duty once the table is made.
    pub(super) fn ready(self) -> Duty {
        match self {
            Duty::Prepare { term, .. } => Duty::Direct { term },
            duty => duty,
        }
    }

    /// The duty as time goes on.
    pub(super) fn at(self, now: Instant) -> Duty {
        match self {
            Duty::Prepare { until, .. } if now >= until => self.ready(),
            Duty::Yield { until } if now >= until => Duty::Stand,
            duty => duty,
        }
    }

    /// When time alone changes it.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Duty::Prepare { until, .. } | Duty::Yield { until } => Some(until),
            _ => None,
        }
    }

    /// What the kernel is to be made; none: it stays as it is.
    pub(super) fn role(self) -> Option<Role> {
        match self {
            Duty::Serve => Some(Role::RealServer),
            Duty::Undecided | Duty::Prepare { .. } => None,
            Duty::Stand => Some(Role::Standby),
            Duty::Direct { .. } => Some(Role::ActiveDirector),
            Duty::Yield { .. } => Some(Role::Yielding),
        }
    }

    /// In one word or two, for people.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Duty::Serve => None,
            Duty::Undecided => Some("director, part not known yet"),
            Duty::Stand => Some("standby"),
            Duty::Prepare { .. } => Some("director, taking over"),
            Duty::Direct { .. } => Some(ACTIVE),
            Duty::Yield { .. } => Some("director, handing over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_director_takes_over_with_its_table_made_and_forwards_for_a_while_after_it_yielded() {
        let now = Instant::now();
        let active = |term| Part::Active { term };
        let duty = Duty::Undecided.told(Part::Standby, now);
        assert_eq!((duty, duty.role()), (Duty::Stand, Some(Role::Standby)));
        let duty = duty.told(active(3), now);
        assert_eq!((duty.role(), duty.at(now)), (None, duty));
        let duty = duty.ready();
        assert_eq!((duty, duty.role()), (Duty::Direct { term: 3 }, Some(Role::ActiveDirector)));
        assert_eq!(duty.told(active(4), now), Duty::Direct { term: 4 });
        let duty = duty.told(Part::Standby, now);
        assert_eq!((duty.role(), duty.told(Part::Standby, now)), (Some(Role::Yielding), duty));
        assert_eq!(duty.at(now + FORWARD_FOR), Duty::Stand);
        assert_eq!(duty.until(), Some(now + FORWARD_FOR));
    }

    #[test]
    fn a_table_that_takes_too_long_is_not_waited_for() {
        let now = Instant::now();
        let duty = Duty::Undecided.told(Part::Active { term: 1 }, now);
        assert_eq!(duty.at(now + TABLE_WITHIN), Duty::Direct { term: 1 });
    }

    #[test]
    fn a_director_that_is_elected_again_while_it_yields_goes_on() {
        let now = Instant::now();
        let duty = Duty::Direct { term: 1 }.told(Part::Standby, now);
        let duty = duty.told(Part::Active { term: 3 }, now).ready();
        assert_eq!(duty, Duty::Direct { term: 3 });
    }
}
