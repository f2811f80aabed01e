//! What one service should be, and what stands in it beside its real servers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::super::restrictions::QuiesceReason;
use crate::conf::Quorum;
use crate::conf::model::DEFAULT_DRAIN_TIMEOUT;
use crate::ipvs::{Destination, DestinationId, Service};

/// What one service should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// The service; `None` once nothing wants it, and its destinations are to be drained.
    pub service: Option<Service>,
    /// Its destinations: real servers.
    pub destinations: BTreeMap<DestinationId, Destination>,
    /// The whole weights of those whose weights still grow.
    pub whole: BTreeMap<DestinationId, u32>,
    /// Destinations that keep weight 0 where the kernel has them, and are never added: a static
    /// service's real servers whose own weight is 0.
    pub optional: BTreeMap<DestinationId, Destination>,
    /// Its destinations while its real servers make no quorum.
    pub sorry: BTreeMap<DestinationId, Destination>,
    /// The quorum that cvip.conf asks for.
    pub quorum: Option<Quorum>,
    /// Addresses of real servers of which nothing is known: what the kernel has of them stays
    /// as it is.
    pub unknown: BTreeSet<IpAddr>,
    /// Connections that nodes still count on the port that they left, by the node's address.
    pub lingering: BTreeMap<IpAddr, u32>,
    /// Addresses of dead nodes: what the kernel has of them goes at once.
    pub cut: BTreeSet<IpAddr>,
    /// The longest drain.
    pub drain_timeout: Duration,
    /// The longest drain of those that an operator drains with a deadline, by address.
    pub deadlines: BTreeMap<IpAddr, Duration>,
    /// The destinations that get no new connections, and why.
    pub quiesced: BTreeMap<IpAddr, QuiesceReason>,
}

impl Default for DesiredService {
    /// No service, whose destinations are to be drained.
    fn default() -> DesiredService {
        DesiredService {
            service: None,
            destinations: BTreeMap::new(),
            whole: BTreeMap::new(),
            optional: BTreeMap::new(),
            sorry: BTreeMap::new(),
            quorum: None,
            unknown: BTreeSet::new(),
            lingering: BTreeMap::new(),
            cut: BTreeSet::new(),
            drain_timeout: Duration::from_secs(DEFAULT_DRAIN_TIMEOUT.into()),
            deadlines: BTreeMap::new(),
            quiesced: BTreeMap::new(),
        }
    }
}

impl DesiredService {
    /// The longest drain of a destination.
    pub fn deadline(&self, addr: IpAddr) -> Duration {
        self.deadlines.get(&addr).copied().unwrap_or(self.drain_timeout)
    }

    /// What the service's destinations are to be, beside these that the kernel has: with the optional
    /// ones that it has, and with the sorry servers while the real servers that take connections make no
    /// quorum. Real servers of which nothing is known may take some.
    pub fn pool<'a, I>(&self, present: I) -> WantedPool<'_>
    where
        I: IntoIterator<Item = &'a Destination, IntoIter: Clone>,
    {
        let present = present.into_iter();
        let kept = present.clone().filter(|d| self.unknown.contains(&d.id.addr));
        let weight_of =
            |d: &Destination| u64::from(self.whole.get(&d.id).copied().unwrap_or(d.weight));
        let own: u64 = self.destinations.values().map(weight_of).sum();
        let weight = own + kept.map(weight_of).sum::<u64>();
        // Where sorry servers stand in, the quorum was lost. Those that are drained do so no longer.
        let had = !present.clone().any(|d| d.weight > 0 && self.sorry.contains_key(&d.id));
        let quorum = self.quorum.unwrap_or(Quorum::ANY);
        let has_quorum = (!self.sorry.is_empty()).then(|| quorum.is_made_by(weight, had));
        let stands_in = has_quorum == Some(false);
        let sorry = self.sorry.iter().filter(|_| stands_in);
        let optional = present.filter_map(|d| self.optional.get_key_value(&d.id));
        let mut others = optional.chain(sorry).peekable();
        if others.peek().is_none() {
            let destinations = Cow::Borrowed(&self.destinations);
            return WantedPool { destinations, weight, has_quorum, held: BTreeSet::new() };
        }
        let mut all: BTreeMap<DestinationId, Destination> =
            self.destinations.iter().chain(others).map(|(id, d)| (*id, *d)).collect();
        let mut held = BTreeSet::new();
        for destination in self.destinations.values().filter(|d| stands_in && d.weight > 0) {
            all.insert(destination.id, Destination { weight: 0, ..*destination });
            held.insert(destination.id.addr);
        }
        WantedPool { destinations: Cow::Owned(all), weight, has_quorum, held }
    }
}

/// What the destinations of a service are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPool<'a> {
    /// Each of them.
    pub destinations: Cow<'a, BTreeMap<DestinationId, Destination>>,
    /// The weight of its real servers that could take connections.
    pub weight: u64,
    /// Whether they make a quorum, where the kernel shows whether they did before: by sorry servers.
    pub has_quorum: Option<bool>,
    /// Addresses of real servers that could take connections and get none, since they make no quorum
    /// and sorry servers stand in.
    pub held: BTreeSet<IpAddr>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use super::super::super::restrictions::Restrictions;
    use super::super::keys::keys;
    use super::super::testing::*;
    use super::*;
    use crate::conf::{ServiceConf, SorryServer};
    use crate::ipvs::Forwarding;
    use crate::protocol::Protocol;
    use crate::store::{NodeRecord, Registration};

    #[test]
    fn sorry_servers_are_wanted_while_no_real_server_takes_connections_and_keep_the_service() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.sorry_servers = vec![SorryServer { addr: ip("10.0.0.9"), port: None, weight: 1 }];
        let conf = conf(vec![service]);
        assert_eq!(
            keys(inputs(&conf, &BTreeMap::new(), 1, &Restrictions::default())),
            [HTTP].into()
        );
        let addresses = |desired: &DesiredService, present: &[Destination]| -> Vec<IpAddr> {
            desired.pool(present).destinations.keys().map(|id| id.addr).collect()
        };
        let none = ask(&conf, vec![record(1, &[]), record(2, &[])]);
        assert!(none.service.is_some() && none.destinations.is_empty());
        assert_eq!(addresses(&none, &[]), [ip("10.0.0.9")]);
        let one = ask(&conf, vec![record(1, &[]), record(2, &[HTTP])]);
        assert_eq!(addresses(&one, &[]), [ip("10.0.0.2")]);
        // One that is quiesced takes none.
        let quiesced = NodeRecord {
            registrations: vec![Registration { weight: 0, ..registration(HTTP) }],
            ..record(2, &[])
        };
        let quiesced = ask(&conf, vec![quiesced]);
        assert_eq!(addresses(&quiesced, &[]), [ip("10.0.0.2"), ip("10.0.0.9")]);
        // What the kernel has of a node of which nothing is known may take them.
        let kept = |weight| Destination::new(ip("10.0.0.3"), 80, Forwarding::Route, weight);
        assert!(addresses(&none, &[kept(1)]).is_empty());
        assert_eq!(addresses(&none, &[kept(0)]), [ip("10.0.0.9")]);
        let known = Destination::new(ip("10.0.0.2"), 80, Forwarding::Route, 1);
        assert_eq!(addresses(&none, &[known]), [ip("10.0.0.9")], "it is leaving");
    }

    #[test]
    fn sorry_servers_stand_in_for_real_servers_that_make_no_quorum_until_there_is_more_than_one() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.sorry_servers = vec![SorryServer { addr: ip("10.0.0.9"), port: None, weight: 1 }];
        service.quorum = Some(Quorum { weight: 6, hysteresis: 2 });
        let conf = conf(vec![service]);
        let of = |nodes: &[u32], present: &[Destination]| {
            let records = (1..=3).map(|node| match nodes.contains(&node) {
                true => record(node, &[HTTP]),
                false => record(node, &[]),
            });
            let desired = ask(&conf, records.collect());
            let pool = desired.pool(present);
            let weights: Vec<(IpAddr, u32)> =
                pool.destinations.values().map(|d| (d.id.addr, d.weight)).collect();
            (weights, pool.weight, pool.held)
        };
        let (one, two, three) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"));
        let sorry = Destination::new(ip("10.0.0.9"), 80, Forwarding::Route, 1);
        // Weights 2, 4 and 6; there is a quorum from 4 on while there is one, and from 8 on after.
        assert_eq!(of(&[2], &[]), (vec![(two, 4)], 4, [].into()));
        assert_eq!(of(&[1], &[]), (vec![(one, 0), (sorry.id.addr, 1)], 2, [one].into()));
        let still = (vec![(three, 0), (sorry.id.addr, 1)], 6, [three].into());
        assert_eq!(of(&[3], &[sorry]), still);
        assert_eq!(of(&[1, 3], &[sorry]), (vec![(one, 2), (three, 6)], 8, [].into()));
        assert_eq!(of(&[], &[]), (vec![(sorry.id.addr, 1)], 0, [].into()));
    }
}
