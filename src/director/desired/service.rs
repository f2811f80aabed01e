//! One service: from the configuration and the records to its settings and destinations.

use std::time::Duration;

use super::super::restrictions::QuiesceReason;
use super::super::settings::{destination, settings, sorry_servers};
use super::inputs::Inputs;
use super::keys::registered;
use super::quiesce::{floor, moves_clients, severity};
use super::real_servers::{ServingServer, serving};
use super::state::DesiredService;
use crate::conf::ServiceConf;
use crate::protocol::Protocol;
use crate::store::ServiceKey;

/// What one service should be.
pub fn desired(key: ServiceKey, inputs: Inputs<'_>) -> DesiredService {
    let mut desired = DesiredService::default();
    let Some(cvip) = inputs.conf.cvip(key.cvip).filter(|cvip| cvip.is_director(inputs.me)) else {
        return desired;
    };
    if inputs.passive {
        desired.cut.extend(cvip.real_servers.iter().map(|server| server.addr));
        return desired;
    }
    let service = cvip.service_for(key.protocol, key.port);
    if let Some(service) = service {
        desired.drain_timeout = Duration::from_secs(service.drain_timeout.into());
    }
    let serving = serving(key, cvip, service, inputs, &mut desired);
    let floor = floor(&serving);
    for ServingServer { addr, weight, quiesced, is_optional } in serving {
        let counts = quiesced.as_ref().is_some_and(|quiesced| severity(quiesced) > floor);
        let gone =
            counts && key.protocol == Protocol::Udp && moves_clients(quiesced.as_ref(), service);
        if !gone {
            let weight = if counts { 0 } else { weight };
            let grown = inputs.restrictions.ramps.weight(key, addr, weight);
            let destination = destination(key, addr, grown, inputs.conf.routing, service);
            if grown < weight {
                desired.whole.insert(destination.id, weight);
            }
            let of_kind = match is_optional {
                true => &mut desired.optional,
                false => &mut desired.destinations,
            };
            of_kind.insert(destination.id, destination);
        }
        let quiesced = quiesced
            .map(|quiesced| if counts { quiesced } else { QuiesceReason::Spared(quiesced.into()) });
        desired.quiesced.extend(quiesced.map(|quiesced| (addr, quiesced)));
    }
    // A refused listener on the director itself would take the CVIP's packets past every rule if
    // no service stood in front of it: an empty service answers port-unreachable instead. So it is
    // with a listener there that is drained.
    let own = inputs.nodes.get(&inputs.me);
    let shielded = own.is_some_and(|own| own.shields(key) || registered(own, key).is_some());
    let sorry = sorry_servers(key, inputs.conf.routing, service);
    desired.sorry = sorry.map(|destination| (destination.id, destination)).collect();
    desired.quorum = service.and_then(|service| service.quorum);
    let stands = service.is_some_and(ServiceConf::always_exists);
    if stands || !desired.destinations.is_empty() || shielded {
        desired.service = Some(settings(key, service));
    }
    desired
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::super::restrictions::Restrictions;
    use super::super::keys::keys;
    use super::super::testing::*;
    use super::*;
    use crate::conf::RegistrationMode;
    use crate::ipvs::{Forwarding, service_flags};
    use crate::store::{DrainTarget, NodeRecord};

    #[test]
    fn a_registered_node_is_a_destination_with_the_flags_weight_times_its_own() {
        let desired =
            ask(&conf(vec![]), vec![record(1, &[]), record(2, &[HTTP]), record(3, &[HTTP])]);
        assert_eq!(weights(&desired), [(ip("10.0.0.2"), 4), (ip("10.0.0.3"), 6)]);
        let service = desired.service.unwrap();
        assert_eq!((service.scheduler.as_str(), service.flags), ("wlc", 0));
        assert!(desired.destinations.values().all(|d| d.forward == Forwarding::Route));
        assert!(desired.unknown.is_empty());
    }

    #[test]
    fn cvip_conf_gives_the_service_its_scheduler_persistence_and_drain() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 89);
        service.scheduler = "sh".to_owned();
        service.persistence = Some(300);
        service.drain_timeout = 7;
        let desired = ask(&conf(vec![service]), vec![record(2, &[HTTP])]);
        let service = desired.service.unwrap();
        assert_eq!(service.scheduler, "sh");
        // A quiesced server must not refuse its share of the new clients.
        let flags = service_flags::PERSISTENT | service_flags::SCHED1;
        assert_eq!((service.flags, service.timeout), (flags, 300));
        assert_eq!(desired.drain_timeout, Duration::from_secs(7));
    }

    #[test]
    fn a_static_service_has_every_real_server_whatever_listens() {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.registration = RegistrationMode::Static;
        let conf = conf(vec![service]);
        let desired = ask(&conf, vec![record(2, &[])]);
        assert_eq!(desired.destinations.len(), 3);
        let nodes = BTreeMap::new();
        assert_eq!(keys(inputs(&conf, &nodes, 1, &Restrictions::default())), [HTTP].into());
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
    fn a_drained_listener_on_the_director_keeps_the_service_in_front_of_it() {
        let drains = drains([(DrainTarget { node: 1, port: None }, None)]);
        let records = vec![record(1, &[HTTP])];
        let desired = ask_drained(HTTP, &conf(vec![]), records, &Restrictions::default(), &drains);
        assert!(desired.service.is_some() && desired.destinations.is_empty());
    }

    #[test]
    fn a_standby_that_cannot_keep_its_table_ready_has_none() {
        let conf = conf(vec![]);
        let nodes = [(2, record(2, &[HTTP]))].into();
        let restrictions = Restrictions::default();
        let desired =
            desired(HTTP, Inputs { passive: true, ..inputs(&conf, &nodes, 1, &restrictions) });
        assert_eq!(desired.service, None);
        assert_eq!(desired.cut.len(), 3, "it carries no connections");
    }

    #[test]
    fn a_node_that_directs_nothing_has_no_services() {
        let conf = conf(vec![]);
        let nodes = [(2, record(2, &[HTTP]))].into();
        let restrictions = Restrictions::default();
        let inputs = inputs(&conf, &nodes, 2, &restrictions);
        assert_eq!(desired(HTTP, inputs).service, None);
        assert!(keys(inputs).is_empty());
    }
}
