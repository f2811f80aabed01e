//! registrations = snapshot x port flags x eligibility: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::eligibility::{Owners, Reach, Refusal, judge};
use super::kept_out::KeptOut;
use super::system::System;
use crate::conf::{Conf, Cvip, Owner, RegistrationMode, Routing, ServiceConf};
use crate::listeners::ListenerId;
use crate::ports::{FlagSet, Layers, PortFlag};
use crate::protocol::Protocol;
use crate::serial::pairs;
use crate::store::{PortRanges, RefusedListener, Registration, ServiceKey};

/// What a node serves and what it does not serve though it listens: both in order, each once.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JoinOutcome {
    /// The services that the node serves.
    pub registrations: Vec<Registration>,
    /// The listeners on flagged ports that were kept out, as the record names them.
    pub refused: Vec<RefusedListener>,
    /// How many more were kept out.
    pub refused_more: u32,
    /// The services that some of these would be reached by.
    pub reachable: Vec<PortRanges>,
    /// The listeners behind the registrations.
    pub servers: Servers,
}

/// The listeners behind each service that a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Servers {
    #[serde(with = "pairs")]
    by_service: BTreeMap<ServiceKey, Vec<ListenerId>>,
}

impl Servers {
    /// Adds a listener to a service; those of one service are added in order.
    pub fn add(&mut self, service: ServiceKey, listener: ListenerId) {
        let of = self.by_service.entry(service).or_default();
        if of.last() != Some(&listener) {
            of.push(listener);
        }
    }

    /// A service's listeners, in order.
    pub fn of(&self, service: ServiceKey) -> &[ListenerId] {
        self.by_service.get(&service).map_or(&[], Vec::as_slice)
    }

    /// Every listener that serves anything.
    pub fn all(&self) -> BTreeSet<ListenerId> {
        self.by_service.values().flatten().copied().collect()
    }

    /// The services that a listener serves, with what else is served on its port looked through.
    pub fn services_of(&self, listener: &ListenerId) -> Vec<ServiceKey> {
        let ListenerId { protocol, port, .. } = *listener;
        let mut services = Vec::new();
        let mut next = self.by_service.keys().next();
        // One look-up for each CVIP: services are in order of their CVIPs.
        while let Some(ServiceKey { cvip, .. }) = next.copied() {
            let key = ServiceKey { cvip, protocol, port };
            services.extend(self.of(key).contains(listener).then_some(key));
            let last = ServiceKey { cvip, protocol: Protocol::Sctp, port: u16::MAX };
            next = self
                .by_service
                .range((Bound::Excluded(last), Bound::Unbounded))
                .map(|e| e.0)
                .next();
        }
        services
    }
}

/// Flags in the three layers that hold for one CVIP on one node.
pub fn layers(cvip: &Cvip, node: &FlagSet, cluster: &FlagSet) -> Layers {
    Layers { node: node.clone(), cluster: cluster.clone(), conf: cvip.flags() }
}

/// A listener on a flagged port, and whether it may join.
pub(crate) struct Judged {
    pub(crate) service: ServiceKey,
    pub(crate) listener: ListenerId,
    pub(crate) flag: PortFlag,
    pub(crate) verdict: Result<(), Refusal>,
}

/// Judges the listeners of a node for one of the CVIPs that it serves at `addr`. Listeners on no
/// flagged port, and on ports that cvip.conf makes `static`, are passed over.
pub(crate) fn judged<'c, I: Iterator<Item = ListenerId>>(
    listeners: I,
    (routing, cvip, addr): (Routing, &'c Cvip, IpAddr),
    layers: &'c Layers,
    around: &'c System,
) -> impl Iterator<Item = Judged> + use<'c, I> {
    let device = around.devices.get(&addr).copied();
    let reach = Reach { routing, cvip: cvip.addr, addr, device };
    // Listeners come in order: neighbours belong to one service of cvip.conf, or to none.
    let mut last: Option<(Option<&ServiceConf>, Owners)> = None;
    listeners.filter_map(move |listener| {
        let (protocol, port) = (listener.protocol, listener.port);
        let conf = cvip.service_for(protocol, port);
        if conf.is_some_and(|service| service.registration == RegistrationMode::Static) {
            return None;
        }
        let (flag, _) = layers.lookup(protocol, port)?;
        let is_last = |(of, _): &(Option<&ServiceConf>, Owners)| match (of, conf) {
            (Some(of), Some(conf)) => std::ptr::eq(*of, conf),
            (of, conf) => of.is_none() && conf.is_none(),
        };
        let (_, owners) = match last.take().filter(is_last) {
            Some(known) => last.insert(known),
            None => {
                let named = conf.map_or(&[][..], |service| &service.owners);
                last.insert((conf, owners(named, around)))
            }
        };
        let verdict = judge(&listener, flag, &reach, owners, around.ephemeral);
        let service = ServiceKey { cvip: cvip.addr, protocol, port };
        Some(Judged { service, listener, flag, verdict })
    })
}

/// Computes the registrations of a node.
///
/// A service that cvip.conf makes `static` ignores listeners. Several sockets on one port are
/// one registration; a port that any eligible listener serves is served.
pub fn compute(
    listeners: &BTreeSet<ListenerId>,
    conf: &Conf,
    node: &FlagSet,
    cluster: &FlagSet,
    around: &System,
) -> JoinOutcome {
    let mut registrations = BTreeMap::new();
    let mut kept_out = KeptOut::default();
    let mut servers = Servers::default();
    for cvip in &conf.cvips {
        let Some(server) = cvip.real_server(around.node) else { continue };
        let layers = layers(cvip, node, cluster);
        let pool = (conf.routing, cvip, server.addr);
        for Judged { service: key, listener, flag, verdict } in
            judged(listeners.iter().copied(), pool, &layers, around)
        {
            match verdict {
                Ok(()) => {
                    let fresh =
                        || Registration { hidden: true, ..Registration::new(key, flag.weight) };
                    let registration = registrations.entry(key).or_insert_with(fresh);
                    registration.hidden &= listener.addr == cvip.addr;
                    servers.add(key, listener);
                }
                Err(refusal) => kept_out.add(key, listener.addr, listener.uid, refusal),
            }
        }
    }
    let (refused, refused_more, reachable) = kept_out.told(&around.names);
    JoinOutcome {
        registrations: registrations.into_values().collect(),
        refused,
        refused_more,
        reachable,
        servers,
    }
}

fn owners(named: &[Owner], around: &System) -> Owners {
    if named.is_empty() {
        return Owners::System { uid_min: around.uid_min };
    }
    let mut users = BTreeSet::new();
    for owner in named {
        match owner {
            Owner::Anyone => return Owners::Anyone,
            // A user that does not exist here owns no listener here.
            Owner::User(name) => users.extend(around.users.get(name)),
        }
    }
    Owners::Users(users)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::conf::{DirectorNode, RealServer, Routing, ServiceConf};
    use crate::ports::PortFlag;
    use crate::protocol::Protocol;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn conf(services: Vec<ServiceConf>) -> Conf {
        let real_servers = [1, 2].map(|node| RealServer {
            node,
            addr: IpAddr::from([10, 0, 0, node as u8]),
            weight: 1,
        });
        let director =
            DirectorNode { node: 1, garp_interface: "eth0".to_owned(), sync_interface: None };
        let cvip = Cvip {
            addr: ip("10.0.0.100"),
            gateway: None,
            directors: vec![director],
            real_servers: real_servers.into(),
            services,
        };
        Conf { routing: Routing::Dr, cvips: vec![cvip] }
    }

    fn around(node: u32) -> System {
        System {
            node,
            devices: BTreeMap::new(),
            ephemeral: (32768, 60999),
            uid_min: 1000,
            users: [("alice".to_owned(), 1001)].into(),
            names: BTreeMap::new(),
        }
    }

    fn listener(addr: &str, port: u16, uid: u32) -> ListenerId {
        ListenerId { protocol: Protocol::Tcp, addr: ip(addr), port, v6only: false, device: 0, uid }
    }

    fn flags(start: u16, end: u16, weight: u16) -> FlagSet {
        [PortFlag { protocol: Protocol::Tcp, start, end, weight }].into_iter().collect()
    }

    fn ports(outcome: &JoinOutcome) -> Vec<(u16, u16)> {
        outcome.registrations.iter().map(|r| (r.service.port, r.weight)).collect()
    }

    #[test]
    fn a_listener_on_a_flagged_port_registers_with_the_flags_weight() {
        let seen = [listener("0.0.0.0", 80, 0), listener("0.0.0.0", 8080, 0)].into();
        let none = FlagSet::default();
        let outcome = compute(&seen, &conf(vec![]), &flags(1, 80, 3), &none, &around(2));
        assert_eq!(ports(&outcome), [(80, 3)]);
        assert_eq!(outcome.refused, []);
        let unflagged = compute(&seen, &conf(vec![]), &none, &none, &around(2));
        assert_eq!(unflagged, JoinOutcome::default());
    }

    #[test]
    fn several_sockets_on_one_port_are_one_registration() {
        let seen =
            [listener("0.0.0.0", 80, 0), listener("::", 80, 0), listener("::1", 80, 0)].into();
        let none = FlagSet::default();
        let outcome = compute(&seen, &conf(vec![]), &flags(80, 80, 1), &none, &around(2));
        assert_eq!(ports(&outcome), [(80, 1)]);
        assert_eq!(outcome.refused.len(), 1, "the loopback socket is shown all the same");
    }

    #[test]
    fn a_server_on_the_cvip_alone_is_hidden_on_the_nodes_own_address() {
        let none = FlagSet::default();
        let with = |seen: &[ListenerId]| {
            let seen = seen.iter().copied().collect();
            let outcome = compute(&seen, &conf(vec![]), &flags(80, 80, 1), &none, &around(2));
            outcome.registrations.iter().map(|r| r.hidden).collect::<Vec<_>>()
        };
        let (cvip, anywhere) = (listener("10.0.0.100", 80, 0), listener("0.0.0.0", 80, 0));
        assert_eq!(with(&[cvip]), [true]);
        assert_eq!(with(&[cvip, anywhere]), [false]);
        assert_eq!(with(&[anywhere]), [false]);
    }

    #[test]
    fn cvip_conf_flags_ports_too_and_names_their_owners() {
        let mut service = ServiceConf::new(Protocol::Tcp, 8080, 8080);
        service.owners = vec![Owner::User("alice".to_owned())];
        let seen = [listener("0.0.0.0", 8080, 1001)].into();
        let none = FlagSet::default();
        let with = |service| compute(&seen, &conf(vec![service]), &none, &none, &around(2));
        assert_eq!(ports(&with(service.clone())), [(8080, 1)]);
        service.owners = vec![Owner::User("bob".to_owned())];
        let refused = with(service).refused;
        assert_eq!(refused.len(), 1);
        assert!(refused[0].reachable && refused[0].reason.contains("user id 1001"));
    }

    #[test]
    fn a_static_service_ignores_listeners() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        let seen = [listener("0.0.0.0", 80, 0)].into();
        let none = FlagSet::default();
        let outcome = compute(&seen, &conf(vec![service]), &flags(1, 80, 1), &none, &around(2));
        assert_eq!(outcome, JoinOutcome::default());
    }

    #[test]
    fn a_node_that_the_file_does_not_name_registers_nothing() {
        let seen = [listener("0.0.0.0", 80, 0)].into();
        let none = FlagSet::default();
        let outcome = compute(&seen, &conf(vec![]), &flags(1, 80, 1), &none, &around(7));
        assert_eq!(outcome, JoinOutcome::default());
    }
}
