//! desired table = config x registrations: pure, one service at a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::restrictions::{QuiesceReason, Restrictions};
use super::settings::{destination, settings, sorry_servers, weight};
use crate::conf::model::DEFAULT_DRAIN_TIMEOUT;
use crate::conf::{Conf, Cvip, RegistrationMode, ServiceConf};
use crate::ipvs::{Destination, DestinationId, Service};
use crate::protocol::Protocol;
use crate::store::{Drains, NodeRecord, PortRanges, Registration, ServiceKey, drain_of};

/// What a director knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The configuration.
    pub conf: &'a Conf,
    /// Every node's record, by node number.
    pub nodes: &'a BTreeMap<u32, NodeRecord>,
    /// The director's own node number.
    pub me: u32,
    /// What operators drain.
    pub drains: &'a Drains,
    /// What it knows of real servers beside their records.
    pub restrictions: &'a Restrictions,
    /// The director is a standby whose kernel cannot be told to leave the table alone until it
    /// is needed: it has none.
    pub passive: bool,
    /// The moment.
    pub now: Instant,
}

/// What one service should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
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

impl Wanted {
    /// The longest drain of a destination.
    pub fn deadline(&self, addr: IpAddr) -> Duration {
        self.deadlines.get(&addr).copied().unwrap_or(self.drain_timeout)
    }

    /// The destinations that are wanted beside what the kernel has: the optional ones that it has,
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

/// Every service that the records or cvip.conf ask for on the CVIPs that this node directs:
/// there, those that always exist.
pub fn keys(inputs: Inputs<'_>) -> BTreeSet<ServiceKey> {
    let mine = |cvip: &IpAddr| inputs.conf.cvip(*cvip).is_some_and(|c| c.is_director(inputs.me));
    let mut keys = BTreeSet::new();
    for cvip in inputs.conf.cvips.iter().filter(|cvip| mine(&cvip.addr)) {
        keys.extend(standing_keys(cvip));
    }
    for record in inputs.nodes.values() {
        keys.extend(services_of(record).filter(|key| mine(&key.cvip)));
    }
    keys
}

/// The services of a CVIP that ask nobody whether he listens.
pub fn standing_keys(cvip: &Cvip) -> impl Iterator<Item = ServiceKey> {
    let key = |(protocol, port)| ServiceKey { cvip: cvip.addr, protocol, port };
    cvip.standing_ports().map(key)
}

/// The services that a record says anything of.
pub fn services_of(record: &NodeRecord) -> impl Iterator<Item = ServiceKey> {
    let registered = record.registrations.iter().map(|registration| registration.service);
    let refused = record.refused.iter().map(|refused| refused.service);
    registered.chain(refused).chain(record.reachable.iter().flat_map(PortRanges::services))
}

/// The services on which two records of one node differ: what a change of record touches.
pub fn touched(before: Option<&NodeRecord>, after: Option<&NodeRecord>) -> BTreeSet<ServiceKey> {
    let (Some(before), Some(after)) = (before, after) else {
        return before.or(after).into_iter().flat_map(services_of).collect();
    };
    let mut keys: BTreeSet<ServiceKey> = BTreeSet::new();
    fn all(record: &NodeRecord) -> BTreeSet<&Registration> {
        record.registrations.iter().collect()
    }
    let (old, new) = (all(before), all(after));
    keys.extend(old.symmetric_difference(&new).map(|registration| registration.service));
    let refused = |record: &NodeRecord| -> BTreeSet<_> {
        let rows = record.refused.iter().filter(|r| r.reachable).map(|r| r.service);
        rows.chain(record.reachable.iter().flat_map(PortRanges::services)).collect()
    };
    keys.extend(refused(before).symmetric_difference(&refused(after)));
    keys
}

/// A real server that serves.
struct Candidate {
    addr: IpAddr,
    weight: u32,
    quiesced: Option<QuiesceReason>,
    /// It takes no connections by its own weight, and nothing registered it.
    is_optional: bool,
}

/// What one service should be.
pub fn desired(key: ServiceKey, inputs: Inputs<'_>) -> Wanted {
    let mut wanted = Wanted {
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
    };
    let Some(cvip) = inputs.conf.cvip(key.cvip).filter(|cvip| cvip.is_director(inputs.me)) else {
        return wanted;
    };
    if inputs.passive {
        wanted.cut.extend(cvip.real_servers.iter().map(|server| server.addr));
        return wanted;
    }
    let service = cvip.service_for(key.protocol, key.port);
    if let Some(service) = service {
        wanted.drain_timeout = Duration::from_secs(service.drain_timeout.into());
    }
    let candidates = candidates(key, cvip, service, inputs, &mut wanted);
    let floor = floor(&candidates);
    for Candidate { addr, weight, quiesced, is_optional } in candidates {
        let counts = quiesced.as_ref().is_some_and(|quiesced| severity(quiesced) > floor);
        let gone =
            counts && key.protocol == Protocol::Udp && moves_clients(quiesced.as_ref(), service);
        if !gone {
            let weight = if counts { 0 } else { weight };
            let destination = destination(key, addr, weight, inputs.conf.routing, service);
            let of_kind = match is_optional {
                true => &mut wanted.optional,
                false => &mut wanted.destinations,
            };
            of_kind.insert(destination.id, destination);
        }
        let quiesced = quiesced
            .map(|quiesced| if counts { quiesced } else { QuiesceReason::Spared(quiesced.into()) });
        wanted.quiesced.extend(quiesced.map(|quiesced| (addr, quiesced)));
    }
    let own = inputs.nodes.get(&inputs.me);
    let shielded =
        own.is_some_and(|record| shields(record, key) || registered(record, key).is_some());
    let sorry = sorry_servers(key, inputs.conf.routing, service);
    wanted.sorry = sorry.map(|destination| (destination.id, destination)).collect();
    let stands = service.is_some_and(ServiceConf::always_exists);
    if stands || !wanted.destinations.is_empty() || shielded {
        wanted.service = Some(settings(key, service));
    }
    wanted
}

/// The real servers that serve and that nobody drains; notes of the others why they do not.
fn candidates(
    key: ServiceKey,
    cvip: &Cvip,
    service: Option<&ServiceConf>,
    inputs: Inputs<'_>,
    wanted: &mut Wanted,
) -> Vec<Candidate> {
    let restrictions = inputs.restrictions;
    let fixed = service.filter(|service| service.registration == RegistrationMode::Static);
    let mut candidates = Vec::new();
    for server in &cvip.real_servers {
        let (node, addr) = (server.node, server.addr);
        if restrictions.dead.contains(&node) {
            wanted.cut.insert(addr);
            continue;
        }
        let record = inputs.nodes.get(&node);
        let registration = record.and_then(|record| registered(record, key));
        let flagged = match (fixed, registration) {
            (Some(service), _) => Some(service.weight),
            (None, Some(registration)) => Some(registration.weight),
            (None, None) => None,
        };
        let drained = drain_of(inputs.drains, node, key);
        // Whoever leaves serves nothing, static services neither.
        let leaves =
            record.is_some_and(|record| record.leaving) || restrictions.leaving.contains(&node);
        match flagged {
            Some(flagged) if drained.is_none() && !leaves => candidates.push(Candidate {
                addr,
                weight: weight(flagged, server, service),
                quiesced: restrictions.quiesced(
                    (key, node),
                    registration.and_then(|registration| registration.unhealthy.as_ref()),
                    inputs.now,
                ),
                is_optional: fixed.is_some_and(|service| service.weight_of(server) == 0)
                    && server.weight == 0,
            }),
            // But for what an operator or the node itself says.
            None if record.is_none() && drained.is_none() && !leaves => {
                wanted.unknown.insert(addr);
            }
            _ => {
                let deadline = drained.and_then(|drain| drain.deadline_s);
                wanted.deadlines.extend(deadline.map(|s| (addr, Duration::from_secs(s.into()))));
                wanted.lingering.extend(record.map(|record| (addr, lingering(record, key))));
            }
        }
    }
    candidates
}

/// How many connections a node counts on a port that it left, or that is drained.
fn lingering(record: &NodeRecord, key: ServiceKey) -> u32 {
    let of_port =
        record.lingering.iter().filter(|l| (l.protocol, l.port) == (key.protocol, key.port));
    of_port.map(|l| l.connections).sum()
}

/// True if the UDP clients of a real server are to be moved. Every datagram renews a UDP entry: with
/// weight 0 a client would never be. But where clients are kept at one node on purpose (a login is
/// a session), a moment's silence is no reason to move them, and nowhere is a change of directors.
fn moves_clients(quiesced: Option<&QuiesceReason>, service: Option<&ServiceConf>) -> bool {
    match quiesced {
        None | Some(QuiesceReason::FormerDirector | QuiesceReason::Spared(_)) => false,
        Some(QuiesceReason::Suspected) => {
            service.is_none_or(|service| service.persistence.is_none())
        }
        Some(QuiesceReason::Unhealthy(_) | QuiesceReason::Damped(_)) => true,
    }
}

/// A reason that counts even where nobody else is left.
const NEVER_IGNORED: u8 = 3;

/// How much a reason to be quiet counts.
fn severity(quiesced: &QuiesceReason) -> u8 {
    match quiesced {
        QuiesceReason::Unhealthy(_) | QuiesceReason::Damped(_) => 1,
        QuiesceReason::Suspected => 2,
        // Nobody else is left, whatever it is.
        QuiesceReason::Spared(_) => 0,
        // Packets that go in circles serve nobody.
        QuiesceReason::FormerDirector => NEVER_IGNORED,
    }
}

/// The severest reason that does not count, because nobody would be left: checks and damping
/// never empty a service while any listener lives, and silence never while nobody else is there.
/// Who was given weight 0 by hand is nobody here.
fn floor(candidates: &[Candidate]) -> u8 {
    let serving = candidates.iter().filter(|candidate| candidate.weight > 0);
    let severities = serving.map(|candidate| candidate.quiesced.as_ref().map_or(0, severity));
    severities.min().unwrap_or(0).min(NEVER_IGNORED - 1)
}

/// What a record says of a service that it registers. Registrations stand in order.
pub(super) fn registered(record: &NodeRecord, key: ServiceKey) -> Option<&Registration> {
    let at = record.registrations.binary_search_by_key(&key, |r| r.service).ok()?;
    Some(&record.registrations[at])
}

/// A refused listener on the director itself would take the CVIP's packets past every rule if
/// no service stood in front of it: an empty service answers port-unreachable instead. So it is
/// with a listener there that is drained.
fn shields(own: &NodeRecord, key: ServiceKey) -> bool {
    own.shields(key)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::conf::{DirectorNode, RealServer, Routing, SorryServer};
    use crate::ipvs::{Forwarding, service_flags};
    use crate::store::{DrainOrder, DrainTarget, Lingering, RefusedListener};

    pub(in crate::director) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(in crate::director) fn key(protocol: Protocol, port: u16) -> ServiceKey {
        ServiceKey { cvip: ip("10.0.0.100"), protocol, port }
    }

    const HTTP: ServiceKey = ServiceKey {
        cvip: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100)),
        protocol: Protocol::Tcp,
        port: 80,
    };

    pub(in crate::director) fn conf(services: Vec<ServiceConf>) -> Conf {
        let server = |node: u32| RealServer {
            node,
            addr: IpAddr::from([10, 0, 0, node as u8]),
            weight: node,
        };
        let director =
            DirectorNode { node: 1, garp_interface: "eth0".to_owned(), sync_interface: None };
        let cvip = Cvip {
            addr: ip("10.0.0.100"),
            gateway: None,
            directors: vec![director],
            real_servers: [1, 2, 3].map(server).into(),
            services,
        };
        Conf { routing: Routing::Dr, cvips: vec![cvip] }
    }

    pub(in crate::director) fn registration(service: ServiceKey) -> Registration {
        Registration::new(service, 2)
    }

    pub(in crate::director) fn record(node: u32, keys: &[ServiceKey]) -> NodeRecord {
        let registrations = keys.iter().map(|key| registration(*key)).collect();
        NodeRecord { registrations, ..NodeRecord::empty(node, 1, 1) }
    }

    fn refused(reachable: bool) -> RefusedListener {
        let reason = String::new();
        RefusedListener { service: HTTP, bound: ip("0.0.0.0"), uid: 1000, reason, reachable }
    }

    fn weights(wanted: &Wanted) -> Vec<(IpAddr, u32)> {
        wanted.destinations.values().map(|d| (d.id.addr, d.weight)).collect()
    }

    fn ask(conf: &Conf, records: Vec<NodeRecord>) -> Wanted {
        ask_with(conf, records, &Restrictions::default())
    }

    fn ask_with(conf: &Conf, records: Vec<NodeRecord>, restrictions: &Restrictions) -> Wanted {
        ask_of(HTTP, conf, records, restrictions)
    }

    fn ask_of(
        key: ServiceKey,
        conf: &Conf,
        records: Vec<NodeRecord>,
        restrictions: &Restrictions,
    ) -> Wanted {
        ask_drained(key, conf, records, restrictions, &Drains::new())
    }

    fn ask_drained(
        key: ServiceKey,
        conf: &Conf,
        records: Vec<NodeRecord>,
        restrictions: &Restrictions,
        drains: &Drains,
    ) -> Wanted {
        let nodes = records.into_iter().map(|record| (record.node, record)).collect();
        let now = Instant::now();
        desired(
            key,
            Inputs { conf, nodes: &nodes, me: 1, drains, restrictions, passive: false, now },
        )
    }

    /// Operators' drains, each with its deadline in seconds, if it has one.
    fn drains<const N: usize>(of: [(DrainTarget, Option<u32>); N]) -> Drains {
        let order = |(target, deadline_s)| {
            let by = "root@node1".to_owned();
            (target, DrainOrder { reason: None, since: 0, deadline_s, by })
        };
        of.into_iter().map(order).collect()
    }

    fn inputs<'a>(
        conf: &'a Conf,
        nodes: &'a BTreeMap<u32, NodeRecord>,
        me: u32,
        restrictions: &'a Restrictions,
    ) -> Inputs<'a> {
        static NONE: Drains = Drains::new();
        Inputs { conf, nodes, me, drains: &NONE, restrictions, passive: false, now: Instant::now() }
    }

    fn unhealthy(node: u32, keys: &[ServiceKey]) -> NodeRecord {
        let mut record = record(node, keys);
        for registration in &mut record.registrations {
            registration.unhealthy = Some("failed 3 of 3: HTTP 503".to_owned());
        }
        record
    }

    #[test]
    fn a_registered_node_is_a_destination_with_the_flags_weight_times_its_own() {
        let wanted =
            ask(&conf(vec![]), vec![record(1, &[]), record(2, &[HTTP]), record(3, &[HTTP])]);
        assert_eq!(weights(&wanted), [(ip("10.0.0.2"), 4), (ip("10.0.0.3"), 6)]);
        let service = wanted.service.unwrap();
        assert_eq!((service.scheduler.as_str(), service.flags), ("wlc", 0));
        assert!(wanted.destinations.values().all(|d| d.forward == Forwarding::Route));
        assert!(wanted.unknown.is_empty());
    }

    #[test]
    fn a_node_without_a_record_is_left_as_the_kernel_has_it() {
        let wanted = ask(&conf(vec![]), vec![record(1, &[])]);
        assert_eq!(wanted.unknown, [ip("10.0.0.2"), ip("10.0.0.3")].into());
        assert_eq!(wanted.service, None);
    }

    #[test]
    fn a_node_without_a_record_is_drained_all_the_same_and_leaves_if_it_says_so() {
        let drained = drains([(DrainTarget { node: 2, port: None }, None)]);
        let records = vec![record(1, &[])];
        let wanted =
            ask_drained(HTTP, &conf(vec![]), records.clone(), &Restrictions::default(), &drained);
        assert_eq!(wanted.unknown, [ip("10.0.0.3")].into());
        let restrictions = Restrictions { leaving: [3].into(), ..Restrictions::default() };
        let wanted = ask_with(&conf(vec![]), records, &restrictions);
        assert_eq!(wanted.unknown, [ip("10.0.0.2")].into());
    }

    #[test]
    fn cvip_conf_gives_the_service_its_scheduler_persistence_and_drain() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 89);
        service.scheduler = "sh".to_owned();
        service.persistence = Some(300);
        service.drain_timeout = 7;
        let wanted = ask(&conf(vec![service]), vec![record(2, &[HTTP])]);
        let service = wanted.service.unwrap();
        assert_eq!(service.scheduler, "sh");
        // Whoever is quiesced must not refuse his share of the new clients.
        let flags = service_flags::PERSISTENT | service_flags::SCHED1;
        assert_eq!((service.flags, service.timeout), (flags, 300));
        assert_eq!(wanted.drain_timeout, Duration::from_secs(7));
    }

    #[test]
    fn a_static_service_has_every_real_server_whatever_listens() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        let conf = conf(vec![service]);
        let wanted = ask(&conf, vec![record(2, &[])]);
        assert_eq!(wanted.destinations.len(), 3);
        let nodes = BTreeMap::new();
        assert_eq!(keys(inputs(&conf, &nodes, 1, &Restrictions::default())), [HTTP].into());
    }

    #[test]
    fn a_real_server_of_weight_0_is_kept_in_a_static_service_and_never_added_to_it() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        service.sorry_servers = vec![SorryServer { addr: ip("10.0.0.9"), port: None, weight: 1 }];
        let mut conf = conf(vec![service]);
        conf.cvips[0].real_servers[0].weight = 0;
        let present = |weight| [Destination::new(ip("10.0.0.1"), 80, Forwarding::Route, weight)];
        let of = |wanted: &Wanted, present: &[Destination]| -> Vec<(IpAddr, u32)> {
            wanted.beside(present).values().map(|d| (d.id.addr, d.weight)).collect()
        };
        let others = [(ip("10.0.0.2"), 2), (ip("10.0.0.3"), 3)];
        let wanted = ask(&conf, vec![]);
        assert_eq!(of(&wanted, &[]), others);
        for weight in [0, 5] {
            let kept = [(ip("10.0.0.1"), 0), others[0], others[1]];
            assert_eq!(of(&wanted, &present(weight)), kept);
        }
        // One that leaves or is dead is not kept.
        let leaving = NodeRecord { leaving: true, ..record(1, &[]) };
        assert_eq!(of(&ask(&conf, vec![leaving]), &present(0)), others);
        let dead = Restrictions { dead: [1].into(), ..Restrictions::default() };
        assert_eq!(of(&ask_with(&conf, vec![], &dead), &present(0)), others);
        // A weight of 0 by name, node by node, is a destination's.
        conf.cvips[0].real_servers[1].weight = 1;
        conf.cvips[0].services[0].node_weights = [(1, 4), (2, 0)].into();
        let named = [(ip("10.0.0.1"), 4), (ip("10.0.0.2"), 0), others[1]];
        assert_eq!(of(&ask(&conf, vec![]), &[]), named);
        // A sorry server stands in all the same.
        conf.cvips[0].services[0].node_weights.clear();
        conf.cvips[0].real_servers.truncate(1);
        let wanted = ask(&conf, vec![]);
        assert!(wanted.service.is_some());
        assert_eq!(of(&wanted, &[]), [(ip("10.0.0.9"), 1)]);
        assert_eq!(of(&wanted, &present(0)), [(ip("10.0.0.1"), 0), (ip("10.0.0.9"), 1)]);
    }

    #[test]
    fn a_refused_listener_on_the_director_keeps_an_empty_service_in_front_of_it() {
        let with = |node, reachable| {
            let own = NodeRecord { refused: vec![refused(reachable)], ..record(node, &[]) };
            ask(&conf(vec![]), vec![own])
        };
        let shielded = with(1, true);
        assert!(shielded.service.is_some() && shielded.destinations.is_empty());
        assert_eq!(with(1, false).service, None, "nothing reaches it anyway");
        assert_eq!(with(2, true).service, None, "the director does not stand on that node");
    }

    #[test]
    fn the_nodes_own_count_of_connections_comes_with_a_port_that_it_left() {
        let left = NodeRecord {
            lingering: vec![Lingering { protocol: Protocol::Tcp, port: 80, connections: 3 }],
            ..record(2, &[])
        };
        let wanted = ask(&conf(vec![]), vec![left, record(3, &[])]);
        assert_eq!(wanted.lingering, [(ip("10.0.0.2"), 3), (ip("10.0.0.3"), 0)].into());
    }

    #[test]
    fn an_operators_drain_takes_a_server_out_with_its_own_deadline() {
        let drains = drains([
            (DrainTarget { node: 2, port: None }, None),
            (DrainTarget { node: 3, port: Some((Protocol::Tcp, 80)) }, Some(300)),
        ]);
        let ask = |key, records| {
            ask_drained(key, &conf(vec![]), records, &Restrictions::default(), &drains)
        };
        let counted = NodeRecord {
            lingering: vec![Lingering { protocol: Protocol::Tcp, port: 80, connections: 7 }],
            ..record(3, &[HTTP])
        };
        let wanted = ask(HTTP, vec![record(1, &[HTTP]), record(2, &[HTTP]), counted]);
        assert_eq!(weights(&wanted), [(ip("10.0.0.1"), 2)]);
        assert_eq!(wanted.deadline(ip("10.0.0.2")), Duration::from_secs(30));
        assert_eq!(wanted.deadline(ip("10.0.0.3")), Duration::from_secs(300));
        assert_eq!(wanted.lingering, [(ip("10.0.0.2"), 0), (ip("10.0.0.3"), 7)].into());
        // The other ports of node 3 are not drained.
        let dns = key(Protocol::Udp, 53);
        assert_eq!(weights(&ask(dns, vec![record(3, &[dns])])), [(ip("10.0.0.3"), 6)]);
    }

    #[test]
    fn a_drained_listener_on_the_director_keeps_the_service_in_front_of_it() {
        let drains = drains([(DrainTarget { node: 1, port: None }, None)]);
        let records = vec![record(1, &[HTTP])];
        let wanted = ask_drained(HTTP, &conf(vec![]), records, &Restrictions::default(), &drains);
        assert!(wanted.service.is_some() && wanted.destinations.is_empty());
    }

    #[test]
    fn whoever_fails_a_check_gets_no_new_connections_while_others_serve() {
        let records = || vec![record(1, &[HTTP]), unhealthy(2, &[HTTP]), record(3, &[])];
        let wanted = ask(&conf(vec![]), records());
        assert_eq!(weights(&wanted), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 0)]);
        assert!(
            matches!(&wanted.quiesced[&ip("10.0.0.2")], QuiesceReason::Unhealthy(why) if why.contains("503"))
        );
    }

    #[test]
    fn checks_and_damping_never_empty_a_service_while_any_listener_lives() {
        let all = || vec![unhealthy(1, &[HTTP]), unhealthy(2, &[HTTP]), record(3, &[])];
        let wanted = ask(&conf(vec![]), all());
        assert_eq!(weights(&wanted), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 4)]);
        let spared = |quiesced: &QuiesceReason| matches!(quiesced, QuiesceReason::Spared(_));
        assert!(wanted.quiesced.len() == 2 && wanted.quiesced.values().all(spared), "that is said");
        // A silent node is no listener that lives: the unhealthy ones serve, it does not.
        let restrictions = Restrictions { suspected: [2].into(), ..Restrictions::default() };
        let wanted = ask_with(&conf(vec![]), all(), &restrictions);
        assert_eq!(weights(&wanted), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 0)]);
        // Where all are silent, it is the director that may be isolated.
        let restrictions = Restrictions { suspected: [1, 2].into(), ..Restrictions::default() };
        let wanted = ask_with(&conf(vec![]), all(), &restrictions);
        assert_eq!(weights(&wanted), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 4)]);
    }

    #[test]
    fn a_former_director_gets_nothing_even_where_nobody_else_is_left() {
        let restrictions = Restrictions { former_director: Some(2), ..Restrictions::default() };
        let wanted = ask_with(&conf(vec![]), vec![record(2, &[HTTP])], &restrictions);
        assert_eq!(weights(&wanted), [(ip("10.0.0.2"), 0)]);
    }

    #[test]
    fn a_weight_of_0_by_hand_is_no_server_that_could_be_left() {
        let quiesced = NodeRecord {
            registrations: vec![Registration { weight: 0, ..registration(HTTP) }],
            ..record(1, &[])
        };
        let wanted = ask(&conf(vec![]), vec![quiesced, unhealthy(2, &[HTTP])]);
        assert_eq!(weights(&wanted), [(ip("10.0.0.1"), 0), (ip("10.0.0.2"), 4)]);
    }

    #[test]
    fn a_udp_server_that_is_to_be_quiet_is_taken_out() {
        let dns = key(Protocol::Udp, 53);
        let records = vec![unhealthy(2, &[dns]), record(3, &[dns])];
        let wanted = ask_of(dns, &conf(vec![]), records, &Restrictions::default());
        assert_eq!(weights(&wanted), [(ip("10.0.0.3"), 6)]);
        assert!(wanted.quiesced.contains_key(&ip("10.0.0.2")));
    }

    #[test]
    fn a_moments_silence_moves_udp_clients_unless_they_are_kept_at_one_node() {
        let xdmcp = key(Protocol::Udp, 177);
        let records = || vec![record(2, &[xdmcp]), record(3, &[xdmcp])];
        let mut service = ServiceConf::new(Protocol::Udp, 177, 177);
        let suspected = Restrictions { suspected: [2].into(), ..Restrictions::default() };
        let wanted = ask_of(xdmcp, &conf(vec![service.clone()]), records(), &suspected);
        assert_eq!(weights(&wanted), [(ip("10.0.0.3"), 6)]);
        service.persistence = Some(300);
        let kept = conf(vec![service]);
        let wanted = ask_of(xdmcp, &kept, records(), &suspected);
        assert_eq!(weights(&wanted), [(ip("10.0.0.2"), 0), (ip("10.0.0.3"), 6)]);
        // A change of directors moves nobody.
        let former = Restrictions { former_director: Some(2), ..Restrictions::default() };
        for conf in [conf(vec![]), kept] {
            let wanted = ask_of(xdmcp, &conf, records(), &former);
            assert_eq!(weights(&wanted), [(ip("10.0.0.2"), 0), (ip("10.0.0.3"), 6)]);
        }
    }

    #[test]
    fn a_dead_node_is_cut_from_static_services_too() {
        let restrictions = Restrictions { dead: [2].into(), ..Restrictions::default() };
        let wanted =
            ask_with(&conf(vec![]), vec![record(2, &[HTTP]), record(3, &[HTTP])], &restrictions);
        assert_eq!(wanted.cut, [ip("10.0.0.2")].into());
        assert_eq!(weights(&wanted), [(ip("10.0.0.3"), 6)]);
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        let wanted = ask_with(&conf(vec![service]), vec![], &restrictions);
        assert_eq!(wanted.destinations.len(), 2);
    }

    #[test]
    fn sorry_servers_are_wanted_while_no_real_server_takes_connections_and_keep_the_service() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.sorry_servers = vec![SorryServer { addr: ip("10.0.0.9"), port: None, weight: 1 }];
        let conf = conf(vec![service]);
        assert_eq!(
            keys(inputs(&conf, &BTreeMap::new(), 1, &Restrictions::default())),
            [HTTP].into()
        );
        let addresses = |wanted: &Wanted, present: &[Destination]| -> Vec<IpAddr> {
            wanted.beside(present).keys().map(|id| id.addr).collect()
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
    fn a_standby_that_cannot_keep_its_table_ready_has_none() {
        let conf = conf(vec![]);
        let nodes = [(2, record(2, &[HTTP]))].into();
        let restrictions = Restrictions::default();
        let wanted =
            desired(HTTP, Inputs { passive: true, ..inputs(&conf, &nodes, 1, &restrictions) });
        assert_eq!(wanted.service, None);
        assert_eq!(wanted.cut.len(), 3, "it carries nobody's connections");
    }

    #[test]
    fn a_node_that_leaves_serves_nothing_static_or_not() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        for conf in [conf(vec![service]), conf(vec![])] {
            let leaving = NodeRecord { leaving: true, ..record(2, &[HTTP]) };
            let wanted = ask(&conf, vec![record(1, &[HTTP]), leaving, record(3, &[HTTP])]);
            let addresses: Vec<_> = wanted.destinations.keys().map(|id| id.addr).collect();
            assert_eq!(addresses, [ip("10.0.0.1"), ip("10.0.0.3")]);
            assert_eq!(wanted.lingering.get(&ip("10.0.0.2")), Some(&0), "it is drained");
            // The store was not told, its heartbeats say so.
            let restrictions = Restrictions { leaving: [2].into(), ..Restrictions::default() };
            let records = [1, 2, 3].map(|node| record(node, &[HTTP])).into();
            let wanted = ask_with(&conf, records, &restrictions);
            let addresses: Vec<_> = wanted.destinations.keys().map(|id| id.addr).collect();
            assert_eq!(addresses, [ip("10.0.0.1"), ip("10.0.0.3")]);
        }
    }

    #[test]
    fn a_node_that_directs_nothing_wants_nothing() {
        let conf = conf(vec![]);
        let nodes = [(2, record(2, &[HTTP]))].into();
        let restrictions = Restrictions::default();
        let inputs = inputs(&conf, &nodes, 2, &restrictions);
        assert_eq!(desired(HTTP, inputs).service, None);
        assert!(keys(inputs).is_empty());
    }

    #[test]
    fn a_change_of_record_touches_the_services_that_differ_and_no_others() {
        let dns = key(Protocol::Udp, 53);
        let (one, both) = (record(2, &[HTTP]), record(2, &[HTTP, dns]));
        assert_eq!(touched(Some(&one), Some(&both)), [dns].into());
        assert_eq!(touched(Some(&both), Some(&both)), BTreeSet::new());
        assert_eq!(touched(None, Some(&both)), [HTTP, dns].into());
        assert_eq!(touched(Some(&both), None), [HTTP, dns].into());
        let reweighted = NodeRecord {
            registrations: vec![Registration { weight: 0, ..registration(HTTP) }],
            ..record(2, &[])
        };
        assert_eq!(touched(Some(&one), Some(&reweighted)), [HTTP].into());
        let shielded = NodeRecord { refused: vec![refused(true)], ..record(2, &[]) };
        assert_eq!(touched(Some(&record(2, &[])), Some(&shielded)), [HTTP].into());
    }
}
