//! The way back: where replies to clients beyond the network leave. cvipd never changes a route.

use std::net::IpAddr;

use super::Finding;
use super::observed::{Host, NeighbourReply, Observed};
use crate::conf::{Cvip, Routing};

/// Everything about replies to clients beyond the network.
pub(super) fn routes(seen: &Observed, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cvip in &seen.conf.cvips {
        let Some(reply) = host.replies.get(&cvip.addr) else { continue };
        let active = seen.node.is_some() && seen.roles.active(cvip.addr) == seen.node;
        let serves = seen.node.is_some_and(|node| cvip.real_server(node).is_some());
        if !active && !serves {
            continue;
        }
        findings.extend(match seen.conf.routing {
            Routing::Nat if !active => through_the_director(seen, cvip, reply),
            _ => beyond(seen, host, cvip, reply, active),
        });
    }
    findings
}

/// With NAT a real server's replies must pass the director, which puts the CVIP back as their
/// source.
fn through_the_director(seen: &Observed, cvip: &Cvip, reply: &NeighbourReply) -> Option<Finding> {
    let active = seen.roles.active(cvip.addr);
    let directors = active.map(|node| seen.addresses_of(node)).unwrap_or_default();
    let family = |addr: &IpAddr| addr.is_ipv4() == cvip.addr.is_ipv4();
    let wanted = cvip.gateway.or_else(|| directors.into_iter().find(family));
    let through = reply.route.and_then(|(gateway, _)| gateway);
    if wanted.is_none() || through == wanted {
        return None;
    }
    let what = match (reply.route, through) {
        (None, _) => "there is no default route".to_owned(),
        (Some(_), Some(other)) => format!("the default route leads over {other}"),
        (Some(_), None) => "the default route leads past every gateway".to_owned(),
    };
    let name = if cvip.gateway.is_some() { "the gateway" } else { "the director" };
    let to = wanted.map(|addr| addr.to_string()).unwrap_or_default();
    let what = format!(
        "{what}, and not over {name} {to}: replies of {} bypass the director, and clients refuse \
         them, since they come from this node's own address",
        cvip.addr
    );
    let ip = if cvip.addr.is_ipv6() { "ip -6" } else { "ip" };
    let finding = Finding::fault(seen.here(), what)
        .fix("lead it over it, here and in the network configuration:");
    Some(finding.run(format!("{ip} route replace default via {to}")))
}

/// Where this node answers clients itself, there must be a way to those beyond, and it must not
/// lead over the director.
fn beyond(
    seen: &Observed,
    host: &Host,
    cvip: &Cvip,
    reply: &NeighbourReply,
    active: bool,
) -> Option<Finding> {
    let Some((gateway, out)) = reply.route else {
        let what = format!(
            "there is no default route for {}: clients of {} beyond the networks that this node \
             knows get no answer from it",
            if cvip.addr.is_ipv6() { "IPv6" } else { "IPv4" },
            cvip.addr
        );
        return Some(Finding::warning(seen.here(), what).fix(
            "give this node a default route over the network's router (`ip route add default via \
             ROUTER`), unless all clients are on its networks",
        ));
    };
    let ip = if cvip.addr.is_ipv6() { "ip -6" } else { "ip" };
    if host.interfaces.iter().any(|interface| interface.index == out && interface.loopback) {
        let what = format!(
            "the default route leads back into this host, as one over a CVIP does: clients of {} \
             beyond the networks that this node knows get no answer from it",
            cvip.addr
        );
        return Some(Finding::fault(seen.here(), what).fix(format!(
            "lead it over the network's router: `{ip} route replace default via ROUTER`"
        )));
    }
    if active {
        return None;
    }
    let gateway = gateway?;
    let director = seen.roles.active(cvip.addr)?;
    let is_cvip = seen.conf.cvips.iter().any(|cvip| cvip.addr == gateway);
    if !is_cvip && !seen.addresses_of(director).contains(&gateway) {
        return None;
    }
    let whose = match is_cvip {
        true => format!("{gateway}, a CVIP"),
        false => format!("{gateway}, which is the active director's (node {director})"),
    };
    let what = format!(
        "the default route leads over {whose}: replies of {} have the CVIP as their source, which \
         is the director's own address, and it drops them",
        cvip.addr
    );
    let routed = host.on_network_of(gateway).map(|interface| interface.name.as_str());
    Some(Finding::fault(seen.here(), what).fix(format!(
        "lead it over the network's router: `{ip} route replace default via ROUTER{}`",
        routed.map(|device| format!(" dev {device}")).unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn found(routing: Routing, node: u32, cvip: &str, gateway: Option<&str>) -> Vec<String> {
        let seen = seen(conf(routing, &[cvip], 1), node);
        let mut host = host(node);
        host.reply(cvip, gateway, 2);
        lines(&routes(&seen, &host))
    }

    fn without_route(routing: Routing, node: u32) -> Vec<String> {
        let seen = seen(conf(routing, &["192.0.2.10"], 1), node);
        let mut host = host(node);
        host.replies.insert(addr("192.0.2.10"), NeighbourReply { route: None });
        lines(&routes(&seen, &host))
    }

    #[test]
    fn with_nat_a_real_servers_default_route_leads_over_the_gateway() {
        assert!(found(Routing::Nat, 3, "192.0.2.10", Some("192.0.2.254")).is_empty());
        assert!(found(Routing::Nat, 3, "2001:db8::10", Some("2001:db8::254")).is_empty());
        let wrong = found(Routing::Nat, 3, "192.0.2.10", Some("192.0.2.99"));
        assert!(wrong[0].starts_with("fault: node 3: the default route leads over 192.0.2.99"));
        assert!(wrong[0].ends_with("run: ip route replace default via 192.0.2.254"), "{wrong:?}");
        let wrong = found(Routing::Nat, 3, "2001:db8::10", Some("fe80::1"));
        let fix = "run: ip -6 route replace default via 2001:db8::254";
        assert!(wrong[0].ends_with(fix), "{wrong:?}");
        let none = without_route(Routing::Nat, 3);
        assert!(none[0].contains("there is no default route, and not over the gateway"));
        let linked = found(Routing::Nat, 3, "192.0.2.10", None);
        assert!(linked[0].contains("past every gateway"), "{linked:?}");
    }

    #[test]
    fn with_nat_and_no_gateway_it_leads_over_the_director_itself() {
        let mut seen = seen(conf(Routing::Nat, &["192.0.2.10"], 1), 3);
        seen.conf.cvips[0].gateway = None;
        let mut host = host(3);
        host.reply("192.0.2.10", Some("192.0.2.1"), 2);
        assert!(routes(&seen, &host).is_empty());
        host.reply("192.0.2.10", Some("192.0.2.254"), 2);
        let lines = lines(&routes(&seen, &host));
        assert!(lines[0].ends_with("run: ip route replace default via 192.0.2.1"), "{lines:?}");
    }

    #[test]
    fn with_dr_and_tun_there_is_one_and_it_does_not_lead_back_to_the_director() {
        for routing in [Routing::Dr, Routing::Tun] {
            for node in [1, 3] {
                assert!(found(routing, node, "192.0.2.10", Some("192.0.2.99")).is_empty());
                let none = without_route(routing, node);
                assert!(none[0].starts_with("warning: "), "{none:?}");
            }
            let back = found(routing, 3, "192.0.2.10", Some("192.0.2.1"));
            assert!(back[0].contains("the active director's (node 1)"), "{back:?}");
            let back = found(routing, 3, "2001:db8::10", Some("2001:db8::10"));
            assert!(back[0].contains("2001:db8::10, a CVIP"), "{back:?}");
            assert!(back[0].contains("ip -6 route replace default via ROUTER dev eth0"));
            // A router that is this host's own address is no hop for the kernel.
            let seen = seen(conf(routing, &["192.0.2.10"], 1), 3);
            let mut host = host(3);
            let lo = host.interfaces.iter().find(|i| i.loopback).unwrap().index;
            host.reply("192.0.2.10", None, lo);
            let back = lines(&routes(&seen, &host));
            assert!(
                back[0].starts_with("fault: ") && back[0].contains("back into this host"),
                "{back:?}"
            );
        }
    }

    #[test]
    fn a_nodes_route_is_not_judged_for_a_cvip_that_it_does_not_serve() {
        let mut seen = seen(conf(Routing::Nat, &["192.0.2.10"], 1), 3);
        seen.conf.cvips[0].real_servers.remove(2);
        let mut host = host(3);
        host.reply("192.0.2.10", None, 2);
        assert!(routes(&seen, &host).is_empty());
    }
}
