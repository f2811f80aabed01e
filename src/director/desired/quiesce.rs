//! Which reasons to give a real server no new connections count, and what they do to its clients.

use super::super::restrictions::QuiesceReason;
use super::real_servers::ServingServer;
use crate::conf::ServiceConf;

/// True if the UDP clients of a real server are to be moved. Every datagram renews a UDP entry: with
/// weight 0 a client would never be. But where clients are kept at one node on purpose (a login is
/// a session), a suspicion is no reason to move them, and nowhere is a change of directors.
pub(super) fn moves_clients(
    quiesced: Option<&QuiesceReason>,
    service: Option<&ServiceConf>,
) -> bool {
    match quiesced {
        None
        | Some(
            QuiesceReason::FormerDirector
            | QuiesceReason::BelowQuorum(_)
            | QuiesceReason::Spared(_),
        ) => false,
        Some(QuiesceReason::Suspected) => {
            service.is_none_or(|service| service.persistence.is_none())
        }
        Some(QuiesceReason::Unhealthy(_) | QuiesceReason::Damped(_)) => true,
    }
}

/// A reason that counts even where no other real server is left.
const NEVER_IGNORED: u8 = 3;

/// How much a reason counts.
pub(super) fn severity(quiesced: &QuiesceReason) -> u8 {
    match quiesced {
        QuiesceReason::Unhealthy(_) | QuiesceReason::Damped(_) => 1,
        QuiesceReason::Suspected => 2,
        // No other is left, whatever the reason is; and a quorum is a matter of all of them.
        QuiesceReason::Spared(_) | QuiesceReason::BelowQuorum(_) => 0,
        // Packets that go in circles serve no client.
        QuiesceReason::FormerDirector => NEVER_IGNORED,
    }
}

/// The severest reason that does not count, because no real server would be left: checks and damping
/// never empty a service while any listener lives, and a suspicion never while no other is there.
/// One that has weight 0 by its settings is none of those that could be left.
pub(super) fn floor(servers: &[ServingServer]) -> u8 {
    let serving = servers.iter().filter(|server| server.weight > 0);
    let severities = serving.map(|server| server.quiesced.as_ref().map_or(0, severity));
    severities.min().unwrap_or(0).min(NEVER_IGNORED - 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::protocol::Protocol;
    use crate::store::{NodeRecord, Registration};

    use super::super::super::restrictions::Restrictions;

    #[test]
    fn a_server_that_fails_a_check_gets_no_new_connections_while_others_serve() {
        let records = || vec![record(1, &[HTTP]), unhealthy(2, &[HTTP]), record(3, &[])];
        let desired = ask(&conf(vec![]), records());
        assert_eq!(weights(&desired), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 0)]);
        assert!(
            matches!(&desired.quiesced[&ip("10.0.0.2")], QuiesceReason::Unhealthy(why) if why.contains("503"))
        );
    }

    #[test]
    fn checks_and_damping_never_empty_a_service_while_any_listener_lives() {
        let all = || vec![unhealthy(1, &[HTTP]), unhealthy(2, &[HTTP]), record(3, &[])];
        let desired = ask(&conf(vec![]), all());
        assert_eq!(weights(&desired), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 4)]);
        let spared = |quiesced: &QuiesceReason| matches!(quiesced, QuiesceReason::Spared(_));
        assert!(
            desired.quiesced.len() == 2 && desired.quiesced.values().all(spared),
            "that is said"
        );
        // A silent node is no listener that lives: the unhealthy ones serve, it does not.
        let restrictions = Restrictions { suspected: [2].into(), ..Restrictions::default() };
        let desired = ask_with(&conf(vec![]), all(), &restrictions);
        assert_eq!(weights(&desired), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 0)]);
        // Where all are silent, it is the director that may be isolated.
        let restrictions = Restrictions { suspected: [1, 2].into(), ..Restrictions::default() };
        let desired = ask_with(&conf(vec![]), all(), &restrictions);
        assert_eq!(weights(&desired), [(ip("10.0.0.1"), 2), (ip("10.0.0.2"), 4)]);
    }

    #[test]
    fn a_former_director_gets_nothing_even_where_no_other_server_is_left() {
        let restrictions = Restrictions { former_director: Some(2), ..Restrictions::default() };
        let desired = ask_with(&conf(vec![]), vec![record(2, &[HTTP])], &restrictions);
        assert_eq!(weights(&desired), [(ip("10.0.0.2"), 0)]);
    }

    #[test]
    fn a_weight_of_0_by_hand_is_no_server_that_could_be_left() {
        let quiesced = NodeRecord {
            registrations: vec![Registration { weight: 0, ..registration(HTTP) }],
            ..record(1, &[])
        };
        let desired = ask(&conf(vec![]), vec![quiesced, unhealthy(2, &[HTTP])]);
        assert_eq!(weights(&desired), [(ip("10.0.0.1"), 0), (ip("10.0.0.2"), 4)]);
    }

    #[test]
    fn a_quiesced_udp_server_is_taken_out() {
        let dns = key(Protocol::Udp, 53);
        let records = vec![unhealthy(2, &[dns]), record(3, &[dns])];
        let desired = ask_of(dns, &conf(vec![]), records, &Restrictions::default());
        assert_eq!(weights(&desired), [(ip("10.0.0.3"), 6)]);
        assert!(desired.quiesced.contains_key(&ip("10.0.0.2")));
    }

    #[test]
    fn a_suspected_node_loses_its_udp_clients_unless_they_are_kept_at_one_node() {
        let xdmcp = key(Protocol::Udp, 177);
        let records = || vec![record(2, &[xdmcp]), record(3, &[xdmcp])];
        let mut service = ServiceConf::new(Protocol::Udp, 177, 177);
        let suspected = Restrictions { suspected: [2].into(), ..Restrictions::default() };
        let desired = ask_of(xdmcp, &conf(vec![service.clone()]), records(), &suspected);
        assert_eq!(weights(&desired), [(ip("10.0.0.3"), 6)]);
        service.persistence = Some(300);
        let kept = conf(vec![service]);
        let desired = ask_of(xdmcp, &kept, records(), &suspected);
        assert_eq!(weights(&desired), [(ip("10.0.0.2"), 0), (ip("10.0.0.3"), 6)]);
        // A change of directors moves no client.
        let former = Restrictions { former_director: Some(2), ..Restrictions::default() };
        for conf in [conf(vec![]), kept] {
            let desired = ask_of(xdmcp, &conf, records(), &former);
            assert_eq!(weights(&desired), [(ip("10.0.0.2"), 0), (ip("10.0.0.3"), 6)]);
        }
    }
}
