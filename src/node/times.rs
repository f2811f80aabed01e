//! How long it takes until the store has what a node joins and leaves. Pure: the driver tells what the
//! state serves, and what was stored.

use std::collections::BTreeSet;

use crate::clock::Instant;
use crate::membership::{Membership, MembershipTimes, PendingMemberships};
use crate::store::ServiceKey;

/// What a node serves, and what of that the store does not have yet.
#[derive(Debug, Default)]
pub(super) struct PublicationTimes {
    /// None until its first record is stored: what it serves by then is no news.
    served: Option<BTreeSet<ServiceKey>>,
    unstored: PendingMemberships<ServiceKey>,
    times: MembershipTimes,
}

impl PublicationTimes {
    /// The node serves these from now on.
    pub(super) fn serves(&mut self, services: BTreeSet<ServiceKey>, now: Instant) {
        let Some(served) = &mut self.served else { return };
        for key in served.symmetric_difference(&services) {
            let joined = services.contains(key);
            let membership = if joined { Membership::Joined } else { Membership::Left };
            self.unstored.begin(*key, membership, now);
        }
        *served = services;
    }

    /// The store has a record that says so.
    pub(super) fn stored(&mut self, services: BTreeSet<ServiceKey>, now: Instant) {
        for key in self.unstored.keys() {
            let joined = services.contains(&key);
            let membership = if joined { Membership::Joined } else { Membership::Left };
            if let Some(since) = self.unstored.settle(&key, membership) {
                self.times.observe(membership, since, now);
            }
        }
        self.served.get_or_insert(services);
    }

    /// How long it took.
    pub(super) fn times(&self) -> &MembershipTimes {
        &self.times
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::Protocol;

    #[test]
    fn what_a_node_joins_and_leaves_takes_until_a_record_says_so() {
        let service =
            |port| ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Protocol::Tcp, port };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut times = PublicationTimes::default();
        times.serves([service(80)].into(), at(0));
        times.stored([service(80)].into(), at(5));
        assert_eq!(times.times(), &MembershipTimes::default(), "what was there at the start");
        times.serves([service(81)].into(), at(10));
        times.stored([service(80)].into(), at(12));
        times.stored([service(81)].into(), at(30));
        let sums = (times.times().joins.sum(), times.times().leaves.sum());
        assert_eq!(sums, (Duration::from_millis(20), Duration::from_millis(20)));
    }
}
