//! The reverse of [`super::settings`]: a service that was made by hand as a `static` service
//! of cvip.conf, or why it cannot be one. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::desired::{Inputs, desired};
use super::drains::DrainState;
use super::kernel_table::Actual;
use super::reconcile::plan;
use super::restrictions::Restrictions;
use super::settings::{forwarding, prefix, service_key};
use crate::clock::Instant;
use crate::conf::model::DEFAULT_WEIGHT;
use crate::conf::{Conf, Cvip, RealServer, RegistrationMode, ServiceConf};
use crate::ipvs::limits::MAX_SECONDS;
use crate::ipvs::{
    Change, Destination, DestinationEntry, Service, ServiceId, Stats, Tunnel, service_flags,
};
use crate::protocol::Protocol;
use crate::store;

/// The service in cvip.conf's words, and the CVIP that it is to stand in.
///
/// `static` has every real server of the CVIP as a destination: so must it have by hand. Only
/// those of weight 0 may be missing: such a real server is never added to a static service.
///
/// # Errors
/// Why cvip.conf cannot say it; a phrase such as `it is found by a firewall mark`.
pub fn as_static(
    service: &Service,
    destinations: &[Destination],
    conf: &Conf,
    me: u32,
) -> Result<(IpAddr, ServiceConf), String> {
    let ServiceId::Address { protocol, addr, port } = service.id else {
        return Err("it is found by a firewall mark, not by a CVIP and a port".to_owned());
    };
    let cvip = conf.cvip(addr).ok_or_else(|| format!("{addr} is no CVIP of cvip.conf"))?;
    if !cvip.is_director(me) {
        return Err(format!("node {me} is no director of CVIP {addr}"));
    }
    if port == 0 {
        return Err("it is for every port, and cvip.conf names ports".to_owned());
    }
    let mut element = ServiceConf::new(protocol, port, port);
    element.registration = RegistrationMode::Static;
    scheduling(service, protocol, &mut element)?;
    persistence(service, addr, &mut element)?;
    for destination in destinations {
        reached(destination, port, conf)?;
    }
    thresholds(destinations, &mut element)?;
    weights(destinations, cvip, &mut element)?;
    Ok((addr, element))
}

/// What changes in the table when the element that [`as_static`] made of a service is applied:
/// nothing, where cvip.conf can say all of it.
pub fn differences(
    (service, destinations): (&Service, &[Destination]),
    element: &ServiceConf,
    conf: &Conf,
    me: u32,
    now: Instant,
) -> Vec<Change> {
    let Some(key) = service_key(service.id) else { return Vec::new() };
    let mut conf = conf.clone();
    for cvip in conf.cvips.iter_mut().filter(|cvip| cvip.addr == key.cvip) {
        cvip.services = vec![element.clone()];
    }
    let entry = |destination: &Destination| DestinationEntry {
        destination: *destination,
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: Stats::default(),
    };
    let actual = Actual {
        service: service.clone(),
        destinations: destinations.iter().map(|d| (d.id, entry(d))).collect(),
    };
    // A static service asks no record.
    let (nodes, drains, restrictions) =
        (BTreeMap::new(), store::Drains::new(), Restrictions::default());
    let inputs = Inputs {
        conf: &conf,
        nodes: &nodes,
        me,
        drains: &drains,
        restrictions: &restrictions,
        passive: false,
        now,
    };
    plan(key, &desired(key, inputs), Some(&actual), &mut DrainState::new(), now)
}

fn scheduling(
    service: &Service,
    protocol: Protocol,
    element: &mut ServiceConf,
) -> Result<(), String> {
    use service_flags::{HASHED, ONE_PACKET, PERSISTENT, SCHED1, SCHED2, SCHED3};
    let scheduler_flags = SCHED1 | SCHED2 | SCHED3;
    let unknown = service.flags & !(scheduler_flags | ONE_PACKET | PERSISTENT | HASHED);
    if unknown != 0 {
        return Err(format!("it has flags that cvip.conf does not know: {unknown:#x}"));
    }
    element.scheduler.clone_from(&service.scheduler);
    element.scheduler_flags = service.flags & scheduler_flags;
    element.one_packet = service.flags & ONE_PACKET != 0;
    if element.one_packet && protocol != Protocol::Udp {
        return Err(format!("it schedules each packet by itself, over {protocol}"));
    }
    Ok(())
}

fn persistence(service: &Service, cvip: IpAddr, element: &mut ServiceConf) -> Result<(), String> {
    if service.flags & service_flags::PERSISTENT == 0 {
        // Without it, netmask and engine mean nothing.
        return Ok(());
    }
    if !(1..=MAX_SECONDS).contains(&service.timeout) {
        return Err(format!("its persistence is {} s, not 1 to {MAX_SECONDS}", service.timeout));
    }
    element.persistence = Some(service.timeout);
    if let Some(mask) = service.partial_netmask() {
        let bits = prefix(cvip, service.netmask);
        element.persistence_netmask =
            Some(bits.ok_or_else(|| format!("its persistence netmask {mask} is no prefix"))?);
    }
    element.persistence_engine.clone_from(&service.pe);
    Ok(())
}

/// Packets reach it as cvip.conf would have them do.
fn reached(destination: &Destination, port: u16, conf: &Conf) -> Result<(), String> {
    let Destination { id, forward, tunnel, .. } = destination;
    if id.port != port {
        return Err(format!("destination {id} is on another port"));
    }
    let wanted = forwarding(conf.routing);
    if *forward != wanted {
        let routing = conf.routing;
        return Err(format!(
            "destination {id} is reached by {forward}, and the routing is {routing}"
        ));
    }
    if *tunnel != Tunnel::default() {
        return Err(format!("destination {id} has a tunnel of another kind than IPIP"));
    }
    Ok(())
}

fn thresholds(destinations: &[Destination], element: &mut ServiceConf) -> Result<(), String> {
    let pairs: BTreeSet<(u32, u32)> = destinations.iter().map(|d| (d.upper, d.lower)).collect();
    let mut pairs = pairs.into_iter();
    let (upper, lower) = pairs.next().unwrap_or_default();
    if pairs.next().is_some() {
        return Err("its destinations have different thresholds".to_owned());
    }
    element.upper_threshold = (upper > 0).then_some(upper);
    element.lower_threshold = (lower > 0).then_some(lower);
    Ok(())
}

/// The destinations are the real servers; their weights are the service's times the servers' own,
/// or else given node by node.
fn weights(
    destinations: &[Destination],
    cvip: &Cvip,
    element: &mut ServiceConf,
) -> Result<(), String> {
    let mut by_addr: BTreeMap<IpAddr, u32> =
        destinations.iter().map(|d| (d.id.addr, d.weight)).collect();
    let mut weights: Vec<(&RealServer, u32)> = Vec::new();
    for server in &cvip.real_servers {
        match by_addr.remove(&server.addr) {
            Some(weight) => weights.push((server, weight)),
            None if server.weight == 0 => {}
            None => {
                let RealServer { node, addr, .. } = server;
                return Err(format!("node {node}, {addr}, is not among its destinations"));
            }
        }
    }
    if let Some(addr) = by_addr.keys().next() {
        return Err(format!("destination {addr} is no real server of this CVIP"));
    }
    let factor = weights
        .iter()
        .find(|(server, _)| server.weight > 0)
        .map_or(1, |(server, weight)| weight / server.weight);
    let fits =
        |(server, weight): &(&RealServer, u32)| server.weight.checked_mul(factor) == Some(*weight);
    match u16::try_from(factor) {
        Ok(factor) if weights.iter().all(fits) => element.weight = factor,
        _ => {
            element.weight = DEFAULT_WEIGHT;
            for (server, weight) in weights.into_iter().filter(|(s, weight)| s.weight != *weight) {
                if weight > u16::MAX.into() {
                    let addr = server.addr;
                    return Err(format!("destination {addr} has weight {weight}, above 65535"));
                }
                element.node_weights.insert(server.node, weight);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::desired::testing::{self, ip, key};
    use super::super::settings::{destination, fallback, settings, weight};
    use super::*;
    use crate::ipvs::{DestinationId, Forwarding, TunnelKind};

    /// Nodes 1 to 3 with weights 0, 1 and 2; node 1 directs.
    fn conf() -> Conf {
        let mut conf = testing::conf(vec![]);
        conf.cvips[0].real_servers.iter_mut().for_each(|server| server.weight -= 1);
        conf
    }

    /// A service in the kernel as this element asks for it.
    fn made(element: &ServiceConf) -> (Service, Vec<Destination>) {
        let (conf, key) = (conf(), key(element.protocol, element.start));
        let made = |server: &RealServer| {
            let weight = weight(element.weight, server, Some(element));
            destination(key, server.addr, weight, conf.routing, Some(element))
        };
        (settings(key, Some(element)), conf.cvips[0].real_servers.iter().map(made).collect())
    }

    fn xdmcp() -> ServiceConf {
        let mut element = ServiceConf::new(Protocol::Udp, 177, 177);
        element.registration = RegistrationMode::Static;
        element
    }

    fn imported(
        (service, destinations): (Service, Vec<Destination>),
    ) -> Result<ServiceConf, String> {
        as_static(&service, &destinations, &conf(), 1).map(|(_, element)| element)
    }

    #[test]
    fn what_cvip_conf_can_express_is_imported_so_that_the_table_stays_as_it_is() {
        let plain = xdmcp();
        let heavy = ServiceConf { weight: 7, ..xdmcp() };
        let full = ServiceConf {
            scheduler: "sh".to_owned(),
            scheduler_flags: service_flags::SCHED1 | service_flags::SCHED3,
            one_packet: true,
            persistence: Some(MAX_SECONDS),
            persistence_netmask: Some(24),
            persistence_engine: Some("sip".to_owned()),
            upper_threshold: Some(9),
            lower_threshold: Some(3),
            ..xdmcp()
        };
        let odd = ServiceConf { node_weights: [(1, 4), (3, 65_535)].into(), ..xdmcp() };
        let quiesced = ServiceConf { weight: 0, ..xdmcp() };
        for element in [plain, heavy, full, odd, quiesced] {
            assert_eq!(imported(made(&element)), Ok(element));
        }
    }

    #[test]
    fn a_director_only_need_not_be_a_destination() {
        let (service, mut destinations) = made(&xdmcp());
        let director = destinations.remove(0);
        assert_eq!(director.id.addr, ip("10.0.0.1"));
        assert_eq!(imported((service.clone(), destinations.clone())), Ok(xdmcp()));
        // Nor does it become one.
        let table = (&service, &destinations[..]);
        assert_eq!(differences(table, &xdmcp(), &conf(), 1, Instant::now()), []);
        // One that it is already it stays.
        let all = [&destinations[..], &[director]].concat();
        assert_eq!(differences((&service, &all), &xdmcp(), &conf(), 1, Instant::now()), []);
    }

    prop_compose! {
        /// A service made by hand on the nodes of [`conf`], some of which may lack.
        fn by_hand()(
            (protocol, scheduler) in (
                prop::sample::select(Protocol::ALL.to_vec()),
                prop::sample::select(vec!["rr", "wlc", "mh", "sh"]),
            ),
            flags in 0..0x40u32,
            timeout in 0..3u32,
            bits in prop::sample::select(vec![0u32, 8, 24, 32]),
            pe in any::<bool>(),
            weights in prop::collection::vec(
                prop::option::weighted(0.9, prop::sample::select(vec![0u32, 1, 2, 4, 70_000])), 3,
            ),
            (upper, lower) in prop::sample::select(vec![(0, 0), (0, 0), (9, 0), (9, 3)]),
        ) -> (Service, Vec<Destination>) {
            let id = ServiceId::Address { protocol, addr: ip("10.0.0.100"), port: 177 };
            let mut service = Service::new(id, scheduler);
            (service.flags, service.timeout) = (flags, timeout);
            service.netmask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            service.pe = pe.then(|| "sip".to_owned());
            let destinations = weights.into_iter().zip(1u8..).filter_map(|(weight, node)| {
                let addr = IpAddr::from([10, 0, 0, node]);
                let mut it = Destination::new(addr, 177, Forwarding::Route, weight?);
                (it.upper, it.lower) = (upper, lower);
                Some(it)
            });
            (service, destinations.collect())
        }
    }

    proptest! {
        #[test]
        fn what_is_imported_is_the_table_or_the_difference_is_listed(
            (service, destinations) in by_hand(),
        ) {
            let conf = conf();
            let Ok((cvip, element)) = as_static(&service, &destinations, &conf, 1) else {
                return Ok(());
            };
            let (mut settled, mut edited) = (service.clone(), false);
            for change in differences((&service, &destinations), &element, &conf, 1, Instant::now()) {
                match change {
                    Change::EditService(service) => (settled, edited) = (service, true),
                    other => prop_assert!(false, "{:?} of {:?}", other, destinations),
                }
            }
            // What the element asks for, made without the differences.
            let key = key(element.protocol, element.start);
            let wanted = settings(key, Some(&element));
            let table: BTreeMap<_, _> = destinations.iter().map(|d| (d.id, *d)).collect();
            let made = conf.cvips[0].real_servers.iter().map(|server| {
                let weight = weight(element.weight, server, Some(&element));
                destination(key, server.addr, weight, conf.routing, Some(&element))
            });
            // Only a server that takes no connections may be missing.
            let made = made.filter(|d| d.weight > 0 || table.contains_key(&d.id));
            prop_assert_eq!(cvip, ip("10.0.0.100"));
            prop_assert_eq!(&table, &made.map(|d| (d.id, d)).collect::<BTreeMap<_, _>>());
            let own = |service: &Service| {
                let flags = service.flags & !service_flags::HASHED;
                let kept = (flags & service_flags::PERSISTENT != 0)
                    .then_some((service.timeout, service.netmask));
                (service.scheduler.clone(), flags, service.pe.clone(), kept)
            };
            prop_assert_eq!(own(&settled), own(&wanted));
            // No edit but for a hash that always falls back, and an engine without persistence.
            let fallback = fallback(&service.scheduler);
            let engine = service.pe.is_some() && service.flags & service_flags::PERSISTENT == 0;
            prop_assert_eq!(edited, service.flags & fallback != fallback || engine);
        }
    }

    #[test]
    fn what_cvip_conf_cannot_express_is_left_alone_with_the_reason() {
        let (service, destinations) = made(&xdmcp());
        let why = |service: Service, destinations: Vec<Destination>| {
            imported((service, destinations)).unwrap_err()
        };
        let with = |id: ServiceId| Service { id, ..service.clone() };
        let address =
            |addr: &str, port| ServiceId::Address { protocol: Protocol::Udp, addr: ip(addr), port };
        let mark = ServiceId::Mark { mark: 1, family: crate::ipvs::Family::V4 };
        assert!(why(with(mark), destinations.clone()).contains("firewall mark"));
        assert!(why(with(address("10.0.0.101", 177)), vec![]).contains("10.0.0.101 is no CVIP"));
        assert!(why(with(address("10.0.0.100", 0)), vec![]).contains("every port"));
        let other = as_static(&service, &destinations, &conf(), 2).unwrap_err();
        assert!(other.contains("node 2 is no director"), "{other}");
        for (flags, timeout, netmask, word) in [
            (0x40, 0, u32::MAX, "flags"),
            (service_flags::PERSISTENT, MAX_SECONDS + 1, u32::MAX, "persistence is 2678401 s"),
            (service_flags::PERSISTENT, 60, 0xff00_ff00, "netmask 255.0.255.0"),
            (service_flags::PERSISTENT, 60, 0, "netmask 0.0.0.0"),
        ] {
            let odd = Service { flags, timeout, netmask, ..service.clone() };
            let why = why(odd, destinations.clone());
            assert!(why.contains(word), "{why}");
        }
        let tcp = ServiceId::Address { protocol: Protocol::Tcp, addr: ip("10.0.0.100"), port: 177 };
        let ops = Service { flags: service_flags::ONE_PACKET, ..with(tcp) };
        assert!(why(ops, destinations.clone()).contains("over tcp"));
        let changed = |change: fn(&mut Vec<Destination>)| {
            let mut destinations = destinations.clone();
            change(&mut destinations);
            why(service.clone(), destinations)
        };
        fn another(list: &mut Vec<Destination>) {
            let id = DestinationId { addr: IpAddr::from([10, 0, 0, 9]), port: 177 };
            list.push(Destination { id, ..list[0] });
        }
        for (why, word) in [
            (changed(|list| list[1].id.port = 178), "10.0.0.2:178 is on another port"),
            (
                changed(|list| list[1].forward = Forwarding::Masquerade),
                "by Masq, and the routing is DR",
            ),
            (changed(|list| list[1].tunnel.kind = TunnelKind::Gue), "another kind than IPIP"),
            (changed(|list| list[1].upper = 5), "different thresholds"),
            (changed(|list| list.truncate(2)), "node 3, 10.0.0.3, is not among"),
            (changed(|list| list[2].id.addr = IpAddr::from([10, 0, 0, 9])), "node 3, 10.0.0.3"),
            (changed(another), "10.0.0.9 is no real server"),
            (changed(|list| list[1].weight = 65_536), "weight 65536"),
            (changed(Vec::clear), "is not among"),
        ] {
            assert!(why.contains(word), "{why}");
        }
    }
}
