//! The settings of one service in cvip.conf as the kernel's. Pure.

use std::net::IpAddr;

use crate::conf::{RealServer, Routing, ServiceConf};
use crate::ipvs::limits::DEFAULT_SCHEDULER;
use crate::ipvs::{Destination, Family, Forwarding, Service, ServiceId, service_flags};
use crate::store::ServiceKey;

/// The kernel's identity of a service.
pub fn service_id(key: ServiceKey) -> ServiceId {
    ServiceId::Address { protocol: key.protocol, addr: key.cvip, port: key.port }
}

/// The key of a kernel service; `None` for a firewall mark.
pub fn service_key(id: ServiceId) -> Option<ServiceKey> {
    match id {
        ServiceId::Address { protocol, addr, port } => {
            Some(ServiceKey { cvip: addr, protocol, port })
        }
        ServiceId::Mark { .. } => None,
    }
}

/// How packets reach real servers under a routing method.
pub fn forwarding(routing: Routing) -> Forwarding {
    match routing {
        Routing::Dr => Forwarding::Route,
        Routing::Nat => Forwarding::Masquerade,
        Routing::Tun => Forwarding::Tunnel,
    }
}

/// The virtual service; `conf` is none where its port is flagged at run time only.
pub(super) fn settings(key: ServiceKey, conf: Option<&ServiceConf>) -> Service {
    let id = service_id(key);
    let Some(conf) = conf else { return Service::new(id, DEFAULT_SCHEDULER) };
    let mut service = Service::new(id, &conf.scheduler);
    service.flags |= conf.scheduler_flags;
    service.flags |= fallback(&conf.scheduler);
    if conf.one_packet {
        service.flags |= service_flags::ONE_PACKET;
    }
    let Some(seconds) = conf.persistence else { return service };
    service = service.persistent(seconds);
    if let Some(bits) = conf.persistence_netmask {
        service.netmask = netmask(key.cvip, bits);
    }
    service.pe.clone_from(&conf.persistence_engine);
    service
}

/// The flag that a service of this scheduler always has. These two choose by a hash, a destination
/// with weight 0 too, and then refuse the client unless they may fall back to another
/// (ip_vs_mh.c, ip_vs_sh.c): the share of the new clients that falls to a quiesced one would be
/// refused.
pub fn fallback(scheduler: &str) -> u32 {
    match scheduler {
        "mh" | "sh" => service_flags::SCHED1,
        _ => 0,
    }
}

/// A netmask of so many leading bits, as the kernel has it.
fn netmask(cvip: IpAddr, bits: u8) -> u32 {
    match Family::of(cvip) {
        Family::V4 => u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0),
        Family::V6 => bits.into(),
    }
}

/// A real server's weight on the service's ports; `flagged` is that of the port's flag.
pub fn weight(flagged: u16, server: &RealServer, conf: Option<&ServiceConf>) -> u32 {
    let own = conf.map_or(server.weight, |conf| conf.weight_of(server));
    u32::from(flagged).saturating_mul(own).min(i32::MAX as u32)
}

/// A real server as a destination of the service.
pub(super) fn destination(
    key: ServiceKey,
    addr: IpAddr,
    weight: u32,
    routing: Routing,
    conf: Option<&ServiceConf>,
) -> Destination {
    let mut destination = Destination::new(addr, key.port, forwarding(routing), weight);
    if let Some(conf) = conf {
        destination.upper = conf.upper_threshold.unwrap_or(0);
        destination.lower = conf.lower_threshold.unwrap_or(0);
    }
    destination
}

/// The sorry servers as destinations of the service.
pub(super) fn sorry_servers(
    key: ServiceKey,
    routing: Routing,
    conf: Option<&ServiceConf>,
) -> impl Iterator<Item = Destination> {
    conf.map_or(&[][..], |conf| &conf.sorry_servers).iter().map(move |sorry| {
        let port = sorry.port.unwrap_or(key.port);
        Destination::new(sorry.addr, port, forwarding(routing), sorry.weight.into())
    })
}

/// The leading bits of a kernel's netmask; none if it is no such mask, or keeps no bits.
pub fn prefix(cvip: IpAddr, netmask: u32) -> Option<u8> {
    let bits = match Family::of(cvip) {
        Family::V4 if netmask.leading_ones() == netmask.count_ones() => netmask.leading_ones(),
        Family::V4 => return None,
        Family::V6 => netmask,
    };
    u8::try_from(bits).ok().filter(|bits| *bits > 0)
}

#[cfg(test)]
mod tests {
    use super::super::desired::testing::{ip, key};
    use super::*;
    use crate::conf::SorryServer;
    use crate::ipvs::Forwarding;
    use crate::protocol::Protocol;

    #[test]
    fn every_setting_of_a_service_is_the_kernels() {
        let sip = ServiceKey { port: 5060, ..key(Protocol::Udp, 53) };
        assert_eq!(settings(sip, None), Service::new(service_id(sip), "wlc"));
        let mut conf = ServiceConf::new(Protocol::Udp, 5060, 5060);
        conf.scheduler = "mh".to_owned();
        conf.scheduler_flags = service_flags::SCHED1 | service_flags::SCHED2;
        conf.one_packet = true;
        assert_eq!(
            settings(sip, Some(&conf)).flags,
            service_flags::SCHED1 | service_flags::SCHED2 | service_flags::ONE_PACKET
        );
        conf.persistence = Some(60);
        conf.persistence_netmask = Some(24);
        conf.persistence_engine = Some("sip".to_owned());
        let service = settings(sip, Some(&conf));
        assert_eq!(service.flags & service_flags::PERSISTENT, service_flags::PERSISTENT);
        assert_eq!((service.timeout, service.netmask), (60, 0xffff_ff00));
        assert_eq!(service.pe.as_deref(), Some("sip"));
        let six = ServiceKey { cvip: ip("fd00::100"), ..sip };
        assert_eq!(settings(six, Some(&conf)).netmask, 24);
    }

    #[test]
    fn a_netmask_is_its_leading_bits_in_both_families() {
        let (four, six) = (ip("10.0.0.1"), ip("fd00::1"));
        for bits in 1..=32 {
            assert_eq!(prefix(four, netmask(four, bits)), Some(bits));
        }
        for bits in 1..=128 {
            assert_eq!(prefix(six, netmask(six, bits)), Some(bits));
        }
        assert_eq!(netmask(four, 32), Service::full_netmask(Family::V4));
        assert_eq!(netmask(six, 128), Service::full_netmask(Family::V6));
        assert_eq!(
            (prefix(four, 0), prefix(four, 0xff00_ff00), prefix(six, 0)),
            (None, None, None)
        );
    }

    #[test]
    fn a_destination_has_the_services_thresholds_and_its_weight_for_the_node() {
        let http = key(Protocol::Tcp, 80);
        let server = RealServer { node: 2, addr: ip("10.0.0.2"), weight: 3 };
        let mut conf = ServiceConf::new(Protocol::Tcp, 80, 80);
        let weight = |conf: Option<&ServiceConf>, flagged| weight(flagged, &server, conf);
        assert_eq!((weight(None, 2), weight(Some(&conf), 2)), (6, 6));
        conf.node_weights.insert(2, 7);
        conf.node_weights.insert(3, 9);
        assert_eq!(weight(Some(&conf), 2), 14);
        conf.node_weights.insert(2, 65_535);
        assert_eq!(weight(Some(&conf), 65_535), i32::MAX as u32);
        (conf.upper_threshold, conf.lower_threshold) = (Some(100), Some(80));
        let destination = destination(http, server.addr, 5, Routing::Dr, Some(&conf));
        assert_eq!((destination.weight, destination.upper, destination.lower), (5, 100, 80));
    }

    #[test]
    fn a_sorry_server_has_its_own_port_and_weight_and_the_files_forwarding() {
        let http = key(Protocol::Tcp, 80);
        let mut conf = ServiceConf::new(Protocol::Tcp, 80, 80);
        conf.upper_threshold = Some(1);
        let sorry = |host: &str, port| SorryServer { addr: ip(host), port, weight: 4 };
        conf.sorry_servers = vec![sorry("10.0.0.9", Some(8080)), sorry("10.0.0.9", None)];
        let all: Vec<Destination> = sorry_servers(http, Routing::Nat, Some(&conf)).collect();
        let wanted = |port| Destination::new(ip("10.0.0.9"), port, Forwarding::Masquerade, 4);
        assert_eq!(all, [wanted(8080), wanted(80)]);
        assert_eq!(sorry_servers(http, Routing::Nat, None).count(), 0);
    }
}
