//! The reverse of [`super::settings`]: a service that somebody made by hand as a `static` service
//! of cvip.conf, or why it cannot be one. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::settings::forwarding;
use super::settings::prefix;
use crate::conf::model::{DEFAULT_WEIGHT, MAX_SECONDS};
use crate::conf::{Conf, Cvip, RealServer, Registration, ServiceConf};
use crate::ipvs::{Destination, Service, ServiceId, Tunnel, service_flags};
use crate::protocol::Protocol;

/// The service in cvip.conf's words, and the CVIP that it is to stand in.
///
/// `static` has every real server of the CVIP as a destination: so must it have by hand. Only
/// those of weight 0 may lack, who would take no connections.
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
    let mut said = ServiceConf::new(protocol, port, port);
    said.registration = Registration::Static;
    scheduling(service, protocol, &mut said)?;
    persistence(service, addr, &mut said)?;
    for destination in destinations {
        reached(destination, port, conf)?;
    }
    thresholds(destinations, &mut said)?;
    weights(destinations, cvip, &mut said)?;
    Ok((addr, said))
}

fn scheduling(service: &Service, protocol: Protocol, said: &mut ServiceConf) -> Result<(), String> {
    use service_flags::{HASHED, ONE_PACKET, PERSISTENT, SCHED1, SCHED2, SCHED3};
    let scheduler_flags = SCHED1 | SCHED2 | SCHED3;
    let unknown = service.flags & !(scheduler_flags | ONE_PACKET | PERSISTENT | HASHED);
    if unknown != 0 {
        return Err(format!("it has flags that cvip.conf does not know: {unknown:#x}"));
    }
    said.scheduler.clone_from(&service.scheduler);
    said.scheduler_flags = service.flags & scheduler_flags;
    said.one_packet = service.flags & ONE_PACKET != 0;
    if said.one_packet && protocol != Protocol::Udp {
        return Err(format!("it schedules each packet by itself, over {protocol}"));
    }
    Ok(())
}

fn persistence(service: &Service, cvip: IpAddr, said: &mut ServiceConf) -> Result<(), String> {
    if service.flags & service_flags::PERSISTENT == 0 {
        // Without it, netmask and engine mean nothing.
        return Ok(());
    }
    if !(1..=MAX_SECONDS).contains(&service.timeout) {
        return Err(format!("its persistence is {} s, not 1 to {MAX_SECONDS}", service.timeout));
    }
    said.persistence = Some(service.timeout);
    if let Some(mask) = service.partial_netmask() {
        let bits = prefix(cvip, service.netmask);
        said.persistence_netmask =
            Some(bits.ok_or_else(|| format!("its persistence netmask {mask} is no prefix"))?);
    }
    said.persistence_engine.clone_from(&service.pe);
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

fn thresholds(destinations: &[Destination], said: &mut ServiceConf) -> Result<(), String> {
    let pairs: BTreeSet<(u32, u32)> = destinations.iter().map(|d| (d.upper, d.lower)).collect();
    let mut pairs = pairs.into_iter();
    let (upper, lower) = pairs.next().unwrap_or_default();
    if pairs.next().is_some() {
        return Err("its destinations have different thresholds".to_owned());
    }
    said.upper_threshold = (upper > 0).then_some(upper);
    said.lower_threshold = (lower > 0).then_some(lower);
    Ok(())
}

/// The destinations are the real servers; their weights are the service's times the servers' own,
/// or else given node by node.
fn weights(
    destinations: &[Destination],
    cvip: &Cvip,
    said: &mut ServiceConf,
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
        Ok(factor) if weights.iter().all(fits) => said.weight = factor,
        _ => {
            said.weight = DEFAULT_WEIGHT;
            for (server, weight) in weights.into_iter().filter(|(s, weight)| s.weight != *weight) {
                if weight > u16::MAX.into() {
                    let addr = server.addr;
                    return Err(format!("destination {addr} has weight {weight}, above 65535"));
                }
                said.node_weights.insert(server.node, weight);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::desired::tests::{ip, key};
    use super::super::settings::{destination, settings, weight};
    use super::*;
    use crate::conf::{DirectorNode, Routing};
    use crate::ipvs::{DestinationId, Forwarding, TunnelKind};

    /// Nodes 1 to 3 with weights 0, 1 and 2; node 1 directs.
    fn conf() -> Conf {
        let server = |node: u32| RealServer {
            node,
            addr: IpAddr::from([10, 0, 0, node as u8]),
            weight: node - 1,
        };
        let director =
            DirectorNode { node: 1, garp_interface: "eth0".to_owned(), sync_interface: None };
        let cvip = Cvip {
            addr: ip("10.0.0.100"),
            gateway: None,
            directors: vec![director],
            real_servers: [1, 2, 3].map(server).into(),
            services: vec![],
        };
        Conf { routing: Routing::Dr, cvips: vec![cvip] }
    }

    /// A service in the kernel as this element asks for it.
    fn made(said: &ServiceConf) -> (Service, Vec<Destination>) {
        let (conf, key) = (conf(), key(said.protocol, said.start));
        let made = |server: &RealServer| {
            let weight = weight(said.weight, server, Some(said));
            destination(key, server.addr, weight, conf.routing, Some(said))
        };
        (settings(key, Some(said)), conf.cvips[0].real_servers.iter().map(made).collect())
    }

    fn xdmcp() -> ServiceConf {
        let mut said = ServiceConf::new(Protocol::Udp, 177, 177);
        said.registration = Registration::Static;
        said
    }

    fn imported(
        (service, destinations): (Service, Vec<Destination>),
    ) -> Result<ServiceConf, String> {
        as_static(&service, &destinations, &conf(), 1).map(|(_, said)| said)
    }

    #[test]
    fn what_cvip_conf_can_say_is_said_so_that_the_table_stays_as_it_is() {
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
        for said in [plain, heavy, full, odd, quiesced] {
            assert_eq!(imported(made(&said)), Ok(said));
        }
    }

    #[test]
    fn a_director_only_need_not_be_a_destination() {
        let (service, mut destinations) = made(&xdmcp());
        destinations.retain(|d| d.id.addr != ip("10.0.0.1"));
        assert_eq!(imported((service, destinations)), Ok(xdmcp()));
    }

    #[test]
    fn what_cvip_conf_cannot_say_is_left_alone_with_the_reason() {
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
