//! What one service should be, and what stands in it beside its real servers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::super::restrictions::QuiesceReason;
use crate::conf::model::DEFAULT_DRAIN_TIMEOUT;
use crate::ipvs::{Destination, DestinationId, Service};

/// What one service should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// The service; `None` once nothing wants it, and its destinations are to be drained.
    pub service: Option<Service>,
    /// Its destinations: real servers.
    pub destinations: BTreeMap<DestinationId, Destination>,
    /// Destinations that keep weight 0 where the kernel has them, and are never added: a static
    /// service's real servers whose own weight is 0.
    pub optional: BTreeMap<DestinationId, Destination>,
    /// Its destinations while no real server takes connections.
    pub sorry: BTreeMap<DestinationId, Destination>,
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
            optional: BTreeMap::new(),
            sorry: BTreeMap::new(),
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

    /// The destinations that are desired beside what the kernel has: the optional ones that it has,
    /// and the sorry servers while no real server takes connections. One of which nothing is known
    /// may do so.
    pub fn beside<'a, I>(&self, present: I) -> Cow<'_, BTreeMap<DestinationId, Destination>>
    where
        I: IntoIterator<Item = &'a Destination, IntoIter: Clone>,
    {
        let present = present.into_iter();
        let takes = |destination: &Destination| destination.weight > 0;
        let kept = |d: &&Destination| self.unknown.contains(&d.id.addr);
        let is_served = self.destinations.values().any(takes)
            || (!self.sorry.is_empty() && present.clone().filter(kept).any(takes));
        let sorry = self.sorry.iter().filter(|_| !is_served);
        let optional = present.filter_map(|d| self.optional.get_key_value(&d.id));
        let mut others = optional.chain(sorry).peekable();
        if others.peek().is_none() {
            return Cow::Borrowed(&self.destinations);
        }
        let all = self.destinations.iter().chain(others);
        Cow::Owned(all.map(|(id, destination)| (*id, *destination)).collect())
    }
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
            desired.beside(present).keys().map(|id| id.addr).collect()
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
}
