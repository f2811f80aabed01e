//! What each routing method brings with it that no setting of cvipd's can help: said once, so
//! that no administrator has to find it out.

use super::Finding;
use super::kernel::set;
use super::observed::{Host, Observed};
use crate::conf::{Cvip, Routing};

/// Bytes that a tunnel takes from every packet: the outer header.
const OUTER_V4: u32 = 20;
const OUTER_V6: u32 = 40;

/// Everything about the routing method.
pub(super) fn methods(seen: &Observed, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    match seen.conf.routing {
        Routing::Nat => {
            for cvip in seen.served() {
                findings.extend(one_network(seen, host, cvip));
            }
        }
        Routing::Tun => findings.extend(tunnel_sizes(seen, host)),
        Routing::Dr => {}
    }
    findings.extend(own_connections(seen));
    findings.extend(tracking(seen, host));
    findings.extend(defences(seen, host));
    findings
}

/// A real server that has the clients for neighbours answers them past the director.
fn one_network(seen: &Observed, host: &Host, cvip: &Cvip) -> Vec<Finding> {
    let mut findings = Vec::new();
    let server = seen.node.and_then(|node| cvip.real_server(node));
    let Some(inner) = server.and_then(|server| host.carrier_of(server.addr)) else {
        return findings;
    };
    if !inner.addresses.iter().any(|address| address.reaches(cvip.addr)) {
        return findings;
    }
    let (device, addr) = (&inner.name, cvip.addr);
    let what = format!(
        "{addr} is on this node's own network ({device}): clients on that network cannot use it, \
         since this node answers its neighbours directly and not through the director; clients \
         beyond it can"
    );
    findings.push(Finding::note(seen.here(), what));
    let redirects = format!("net/ipv6/conf/{device}/accept_redirects");
    let forwards = host.setting("net/ipv6/conf/all/forwarding") == Some("1");
    if addr.is_ipv6() && !forwards && host.setting(&redirects) == Some("1") {
        let what = format!(
            "{device} takes ICMPv6 redirects: the director, which cannot be told not to send them, \
             shows this node a way to clients of {addr} that bypasses it"
        );
        findings.push(
            Finding::warning(seen.here(), what)
                .fix("ignore them, here and in sysctl.d:")
                .run(set(&redirects, "0")),
        );
    }
    findings
}

/// Packets in a tunnel are larger than those that clients send.
fn tunnel_sizes(seen: &Observed, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cvip in seen.directed() {
        let server = cvip.real_servers.iter().find(|server| Some(server.node) != seen.node);
        let Some(server) = server else { continue };
        let outer = if server.addr.is_ipv4() { OUTER_V4 } else { OUTER_V6 };
        let out = host.on_network_of(server.addr).or_else(|| host.on_network_of(cvip.addr));
        let Some(mtu) = out.and_then(|interface| interface.mtu) else { continue };
        let what = format!(
            "a packet of a client to {} fits into the tunnel up to {} bytes ({outer} less than \
             {mtu}): where something drops the ICMP messages that say so, large uploads hang \
             (lower the real servers' MSS with `ip route change ... advmss`, or raise the MTU \
             between directors and real servers)",
            cvip.addr,
            mtu.saturating_sub(outer)
        );
        findings.push(Finding::note(seen.here(), what));
    }
    findings
}

/// With direct routing and tunnels, other nodes answer the active director's own connections from
/// an address that is the director's own.
fn own_connections(seen: &Observed) -> Option<Finding> {
    if seen.conf.routing == Routing::Nat {
        return None;
    }
    let elsewhere = |cvip: &&Cvip| {
        cvip.real_servers
            .iter()
            .any(|server| Some(server.node) != seen.node && !seen.has_left(server.node))
    };
    let cvips: Vec<String> =
        seen.directed().filter(elsewhere).map(|cvip| cvip.addr.to_string()).collect();
    if cvips.is_empty() {
        return None;
    }
    let what = format!(
        "connections from this node itself, the active director, to {} hang where they are balanced \
         to another node: its answers have the CVIP as their source, which is an address of this \
         node, and its kernel drops them",
        cvips.join(", ")
    );
    Some(Finding::note(seen.here(), what).fix(
        "let programs on the directors use a node's own address, or the listener on their own node",
    ))
}

/// Connection tracking of IPVS's connections.
fn tracking(seen: &Observed, host: &Host) -> Option<Finding> {
    seen.directed().next()?;
    let tracked = host.setting("net/ipv4/vs/conntrack")?;
    let what = match (seen.conf.routing, tracked) {
        (Routing::Nat, "0") => {
            "connections that IPVS balances are not tracked (net.ipv4.vs.conntrack 0): iptables or \
             nftables rules by connection state or with SNAT do not see them; set it to 1 if you \
             have such rules"
        }
        (Routing::Dr | Routing::Tun, "1") => {
            "connections that IPVS balances are tracked (net.ipv4.vs.conntrack 1), which costs \
             time, and sees one direction of them only"
        }
        _ => return None,
    };
    Some(Finding::note(seen.here(), what))
}

/// The kernel's defences against floods, if they are always on (networking/ipvs-sysctl.rst).
fn defences(seen: &Observed, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.directed().next().is_none() {
        return findings;
    }
    for (setting, what) in [
        ("drop_packet", "packets of clients are dropped at all times"),
        ("drop_entry", "connections that are still opening are dropped at all times"),
    ] {
        let path = format!("net/ipv4/vs/{setting}");
        if host.setting(&path) == Some("3") {
            let what = format!("{what} (net.ipv4.vs.{setting} 3)");
            findings.push(
                Finding::warning(seen.here(), what)
                    .fix("let the kernel do it when it runs out of memory:")
                    .run(set(&path, "1")),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn found(routing: Routing, cvip: &str, node: u32, spoil: impl Fn(&mut Host)) -> Vec<String> {
        let seen = seen(conf(routing, &[cvip], 1), node);
        let mut host = host(node);
        spoil(&mut host);
        lines(&methods(&seen, &host))
    }

    #[test]
    fn with_nat_on_one_network_neighbours_are_lost_and_redirects_are_ignored() {
        let v4 = found(Routing::Nat, "192.0.2.10", 3, |_| {});
        assert_eq!(v4.len(), 1);
        assert!(v4[0].starts_with("note: node 3: 192.0.2.10 is on this node's own network"));
        let redirects = "net/ipv6/conf/eth0/accept_redirects";
        let v6 = found(Routing::Nat, "2001:db8::10", 3, |host| host.set(redirects, "1"));
        assert_eq!(v6.len(), 2);
        let command = "run: sysctl -w net.ipv6.conf.eth0.accept_redirects=0";
        assert!(v6[1].starts_with("warning: ") && v6[1].ends_with(command), "{v6:?}");
        assert_eq!(found(Routing::Nat, "2001:db8::10", 3, |_| {}).len(), 1);
        assert!(found(Routing::Nat, "203.0.113.10", 3, |_| {}).is_empty(), "two networks");
        assert!(found(Routing::Nat, "192.0.2.10", 1, |_| {}).is_empty(), "the director");
    }

    #[test]
    fn a_tunnels_header_is_told_by_the_outer_family() {
        let v4 = found(Routing::Tun, "192.0.2.10", 1, |_| {});
        assert!(v4[0].contains("up to 1480 bytes (20 less than 1500)"), "{v4:?}");
        let v6 = found(Routing::Tun, "2001:db8::10", 1, |_| {});
        assert!(v6[0].contains("up to 1460 bytes (40 less than 1500)"), "{v6:?}");
        assert!(found(Routing::Tun, "192.0.2.10", 3, |_| {}).is_empty());
        assert!(!found(Routing::Dr, "192.0.2.10", 1, |_| {}).concat().contains("tunnel"));
    }

    #[test]
    fn a_director_that_other_nodes_answer_from_its_own_address_is_told_what_hangs() {
        for routing in [Routing::Dr, Routing::Tun] {
            let told = found(routing, "192.0.2.10", 1, |_| {});
            let told: Vec<_> = told.iter().filter(|note| note.contains("hang where")).collect();
            let [note] = &told[..] else { panic!("{told:?}") };
            assert!(note.starts_with("note: node 1: connections from this node itself"), "{note}");
            assert!(note.contains("to 192.0.2.10 hang"), "{note}");
            assert!(note.contains("fix: let programs on the directors use a node's own"), "{note}");
        }
    }

    #[test]
    fn no_connection_hangs_by_nat_at_other_nodes_and_where_no_other_node_serves() {
        let told = |seen: &Observed, node| {
            lines(&methods(seen, &host(node))).concat().contains("hang where")
        };
        let of = |routing, node| told(&seen(conf(routing, &["192.0.2.10"], 2), node), node);
        assert!(of(Routing::Dr, 1) && !of(Routing::Nat, 1));
        assert!(!of(Routing::Dr, 2), "a standby has the CVIP on lo");
        assert!(!of(Routing::Dr, 3), "a real server reaches its own listener");
        let mut alone = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 1);
        alone.conf.cvips[0].real_servers.retain(|server| server.node == 1);
        assert!(!told(&alone, 1), "its own server answers it");
    }

    #[test]
    fn tracking_is_a_note_and_defences_that_never_rest_a_warning() {
        let set =
            |path: &'static str, value: &'static str| move |host: &mut Host| host.set(path, value);
        let conntrack = "net/ipv4/vs/conntrack";
        let tracked = |routing, value| {
            let told = found(routing, "192.0.2.10", 1, set(conntrack, value));
            told.iter().filter(|note| note.contains("net.ipv4.vs.conntrack")).count()
        };
        assert_eq!((tracked(Routing::Dr, "1"), tracked(Routing::Nat, "0")), (1, 1));
        assert_eq!(tracked(Routing::Dr, "0"), 0);
        let drops = found(Routing::Dr, "192.0.2.10", 1, set("net/ipv4/vs/drop_packet", "3"));
        assert!(drops.concat().contains("run: sysctl -w net.ipv4.vs.drop_packet=1"), "{drops:?}");
        assert!(
            found(Routing::Dr, "192.0.2.10", 3, set("net/ipv4/vs/drop_packet", "3")).is_empty()
        );
    }
}
