//! The targets of cvip.conf's health checks of what a node serves. Pure.
//!
//! A real server is checked on the CVIP, bound to the loopback interface, where the routing method
//! puts it there; where it does not (NAT, and the active director, whose kernel would balance the
//! connection), at the node's own address. A server that listens on the CVIP alone cannot be
//! checked there, and is not.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::checks::CheckTarget;
use crate::conf::{Conf, Routing};
use crate::store::{Registration, ServiceKey};

/// The interface on which real servers carry the CVIP.
const LOOPBACK: &str = "lo";

/// The targets of a node's registrations. `directing`: it is the active director.
pub(super) fn targets(
    conf: &Conf,
    node: u32,
    registrations: &[Registration],
    directing: bool,
) -> BTreeMap<ServiceKey, CheckTarget> {
    let target = |registration: &Registration| {
        let ServiceKey { cvip: addr, protocol, port } = registration.service;
        let cvip = conf.cvip(addr)?;
        let check = cvip.service_for(protocol, port)?.check.clone()?;
        let balanced = conf.routing == Routing::Nat || (directing && cvip.is_director(node));
        let (addr, device) = match balanced {
            true if registration.hidden => return None,
            true => (cvip.real_server(node)?.addr, None),
            false => (addr, Some(LOOPBACK.to_owned())),
        };
        let target = CheckTarget { addr: SocketAddr::new(addr, port), protocol, device, check };
        Some((registration.service, target))
    };
    registrations.iter().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::settings::{Check, Kind};
    use crate::conf::{Cvip, DirectorNode, RealServer, ServiceConf};
    use crate::protocol::Protocol;

    fn conf(routing: Routing) -> Conf {
        let director =
            |node| DirectorNode { node, garp_interface: "eth0".to_owned(), sync_interface: None };
        let server =
            |node: u8| RealServer { node: node.into(), addr: [10, 0, 0, node].into(), weight: 1 };
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 89);
        service.check = Some(Check::new(Kind::Tcp));
        let cvip = Cvip {
            addr: [10, 0, 0, 100].into(),
            gateway: None,
            directors: vec![director(1)],
            real_servers: vec![server(1), server(2)],
            services: vec![service],
        };
        Conf { routing, cvips: vec![cvip] }
    }

    fn asked(routing: Routing, node: u32, port: u16, hidden: bool) -> Option<String> {
        let cvip = [10, 0, 0, 100].into();
        let service = ServiceKey { cvip, protocol: Protocol::Tcp, port };
        let registration = Registration { hidden, ..Registration::new(service, 1) };
        let targets = targets(&conf(routing), node, &[registration], node == 1);
        targets.into_values().next().map(|target| match target.device {
            Some(device) => format!("{} on {device}", target.addr),
            None => target.addr.to_string(),
        })
    }

    #[test]
    fn a_server_is_checked_on_the_cvip_where_that_reaches_it_and_else_at_its_own_address() {
        let on_the_cvip = Some("10.0.0.100:80 on lo".to_owned());
        for (routing, node, hidden, target) in [
            (Routing::Dr, 2, false, on_the_cvip.clone()),
            (Routing::Dr, 2, true, on_the_cvip.clone()),
            (Routing::Dr, 1, false, Some("10.0.0.1:80".to_owned())),
            (Routing::Dr, 1, true, None),
            (Routing::Tun, 2, false, on_the_cvip),
            (Routing::Nat, 2, false, Some("10.0.0.2:80".to_owned())),
        ] {
            assert_eq!(asked(routing, node, 80, hidden), target, "{routing:?} {node}");
        }
        assert_eq!(asked(Routing::Nat, 2, 99, false), None, "no service asks for a check");
    }
}
