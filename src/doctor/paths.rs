//! Packets on their way into this host: does ARP answer for what it should, and does the source
//! check of reverse paths (rp_filter, ip-sysctl.rst) let clients' packets in?

use super::Finding;
use super::kernel::set;
use super::observed::{Host, Observed};
use crate::conf::{Cvip, Routing};

/// The kernel's strict check: the reply must leave by the interface that the packet came in.
const STRICT: u32 = 1;

/// Everything about packets on their way in.
pub(super) fn paths(seen: &Observed, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cvip in seen.directed() {
        findings.extend(carrier(seen, host, cvip));
    }
    if seen.conf.routing != Routing::Nat {
        findings.extend(answered(seen, host));
    }
    for cvip in seen.served() {
        findings.extend(strict_on_real_server(seen, host, cvip));
    }
    findings
}

/// The interface on which an active director answers for a CVIP.
fn carrier(seen: &Observed, host: &Host, cvip: &Cvip) -> Vec<Finding> {
    let mut findings = Vec::new();
    let director = seen.node.and_then(|node| cvip.director(node));
    // Without the interface, the address is missing: that is said there.
    let interface = director.and_then(|director| host.interface(&director.garp_interface));
    let Some(interface) = interface else { return findings };
    let (device, addr) = (&interface.name, cvip.addr);
    if !interface.up {
        let what = format!("{device} is down: no client reaches {addr}");
        findings.push(Finding::fault(seen.here(), what).run(format!("ip link set {device} up")));
    } else if !interface.carrier {
        let what = format!("{device} has no carrier: no client reaches {addr}");
        findings.push(Finding::fault(seen.here(), what).fix("see to its cable and its switch"));
    }
    if !interface.answers_neighbours && !interface.loopback {
        let what = format!("{device} answers no neighbours (NOARP): no host finds {addr} there");
        findings
            .push(Finding::fault(seen.here(), what).run(format!("ip link set {device} arp on")));
    }
    if addr.is_ipv6() {
        return findings;
    }
    if host.effective("arp_ignore", device) == Some(8) {
        let what = format!("{device} answers no ARP (arp_ignore 8): no host finds {addr} there");
        let finding = Finding::fault(seen.here(), what);
        findings.push(unignored(host, device, finding));
    }
    if host.effective("rp_filter", device) == Some(STRICT)
        && let Some(reply) = host.replies.get(&addr)
        && let Some((_, out)) = reply.route
        && out != interface.index
    {
        let by = host.device(out).unwrap_or("another interface");
        let what = format!(
            "{device} drops what clients beyond its network send to {addr}: replies to them would \
             leave by {by}, and the source check is strict (rp_filter 1)"
        );
        findings.push(loosened(device, Finding::warning(seen.here(), what)));
    }
    findings
}

/// Interfaces on which ARP is answered for addresses of `lo` although `all` says otherwise: the
/// kernel takes the larger value, and 3 to 7 hide less than 1 and 2 do.
fn answered(seen: &Observed, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !seen.served().any(|cvip| cvip.addr.is_ipv4()) {
        return findings;
    }
    for interface in host.interfaces.iter().filter(|i| i.answers_neighbours) {
        let device = &interface.name;
        let Some(value) = host.effective("arp_ignore", device) else { continue };
        let what = match value {
            3..=7 => format!(
                "{device} answers ARP for the CVIP (arp_ignore {value}, which hides less than 1): \
                 this node takes clients from the director"
            ),
            8 => format!("{device} answers no ARP at all (arp_ignore 8): no director finds it"),
            _ => continue,
        };
        findings.push(unignored(host, device, Finding::fault(seen.here(), what)));
    }
    findings
}

/// Gives `arp_ignore` back a value that hides foreign addresses and no more.
fn unignored(host: &Host, device: &str, finding: Finding) -> Finding {
    let scopes = ["all", device].into_iter().filter(|scope| {
        let value = host.setting(&format!("net/ipv4/conf/{scope}/arp_ignore"));
        value.and_then(|value| value.parse::<u32>().ok()).is_some_and(|value| value > 2)
    });
    scopes.fold(finding, |finding, scope| {
        finding.run(set(&format!("net/ipv4/conf/{scope}/arp_ignore"), "1"))
    })
}

/// The loose check suffices on the interface: the kernel takes the larger value.
fn loosened(device: &str, finding: Finding) -> Finding {
    finding.run(set(&format!("net/ipv4/conf/{device}/rp_filter"), "2"))
}

/// A client's packet comes in where the director is, with the client's address: if the reply
/// leaves elsewhere, the strict check drops it. (What comes out of a tunnel is cvipd's to let in.)
fn strict_on_real_server(seen: &Observed, host: &Host, cvip: &Cvip) -> Option<Finding> {
    let server = cvip.real_server(seen.node?)?;
    if seen.conf.routing == Routing::Tun || cvip.addr.is_ipv6() {
        return None;
    }
    let inner = host.carrier_of(server.addr)?;
    let device = &inner.name;
    if host.effective("rp_filter", device) != Some(STRICT) {
        return None;
    }
    let near = host.on_network_of(cvip.addr).map(|interface| interface.index);
    let far = host.replies.get(&cvip.addr).and_then(|reply| reply.route).map(|(_, out)| out);
    let (clients, out) = match (near, far) {
        (Some(near), _) if near != inner.index && seen.conf.routing == Routing::Dr => {
            ("on the CVIP's network", near)
        }
        (_, Some(far)) if far != inner.index => ("beyond the network", far),
        _ => return None,
    };
    let by = host.device(out).unwrap_or("another interface");
    let what = format!(
        "{device} drops what clients {clients} send to {}: it comes from the director on {device}, \
         replies would leave by {by}, and the source check is strict (rp_filter 1)",
        cvip.addr
    );
    Some(loosened(device, Finding::fault(seen.here(), what)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn found(routing: Routing, node: u32, spoil: impl Fn(&mut Host)) -> Vec<String> {
        let seen = seen(conf(routing, &["192.0.2.10"], 1), node);
        let mut host = host(node);
        host.reply("192.0.2.10", Some("192.0.2.99"), 2);
        spoil(&mut host);
        lines(&paths(&seen, &host))
    }

    fn eth0(host: &mut Host) -> &mut crate::net::Interface {
        host.interfaces.iter_mut().find(|i| i.name == "eth0").unwrap()
    }

    #[test]
    fn one_network_and_any_source_check_is_right() {
        for routing in Routing::ALL {
            for node in [1, 3] {
                let strict = |host: &mut Host| host.set("net/ipv4/conf/all/rp_filter", "1");
                assert!(found(routing, node, strict).is_empty());
            }
        }
    }

    #[test]
    fn the_directors_interface_must_be_up_and_answer() {
        let down = found(Routing::Dr, 1, |host| eth0(host).up = false);
        assert!(down[0].ends_with("run: ip link set eth0 up"), "{down:?}");
        let cut = found(Routing::Dr, 1, |host| eth0(host).carrier = false);
        assert!(cut[0].contains("no carrier") && cut.len() == 1, "{cut:?}");
        let agent_down = found(Routing::Dr, 1, |host| eth0(host).answers_neighbours = false);
        assert!(agent_down[0].ends_with("run: ip link set eth0 arp on"), "{agent_down:?}");
        let isolated = |host: &mut Host| host.set("net/ipv4/conf/eth0/arp_ignore", "8");
        let isolated = found(Routing::Dr, 1, isolated);
        assert!(
            isolated[0].ends_with("run: sysctl -w net.ipv4.conf.eth0.arp_ignore=1"),
            "{isolated:?}"
        );
    }

    #[test]
    fn an_interface_whose_own_arp_ignore_hides_less_is_a_fault_of_a_real_server() {
        let three = |host: &mut Host| host.set("net/ipv4/conf/eth1/arp_ignore", "3");
        let lines = found(Routing::Dr, 3, three);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("eth1 answers ARP for the CVIP (arp_ignore 3"), "{lines:?}");
        assert!(lines[0].ends_with("run: sysctl -w net.ipv4.conf.eth1.arp_ignore=1"), "{lines:?}");
        assert!(found(Routing::Nat, 3, three).is_empty(), "it hides nothing there");
        let two = |host: &mut Host| host.set("net/ipv4/conf/eth1/arp_ignore", "2");
        assert!(found(Routing::Dr, 3, two).is_empty());
    }

    #[test]
    fn a_strict_source_check_is_a_fault_where_replies_leave_by_another_interface() {
        let strict = |host: &mut Host| {
            host.set("net/ipv4/conf/all/rp_filter", "1");
            host.reply("192.0.2.10", Some("198.51.100.99"), 3);
        };
        for routing in [Routing::Dr, Routing::Nat] {
            let lines = found(routing, 3, strict);
            assert!(lines[0].contains("eth0 drops what clients beyond the network"), "{lines:?}");
            assert!(lines[0].contains("replies would leave by eth1"), "{lines:?}");
            assert!(lines[0].ends_with("run: sysctl -w net.ipv4.conf.eth0.rp_filter=2"));
        }
        let loose = |host: &mut Host| {
            strict(host);
            host.set("net/ipv4/conf/eth0/rp_filter", "2");
        };
        assert!(found(Routing::Dr, 3, loose).is_empty());
        let director = found(Routing::Dr, 1, strict);
        assert!(director[0].starts_with("warning: node 1: eth0 drops"), "{director:?}");
    }

    #[test]
    fn a_node_whose_balanced_address_is_on_an_inner_network_must_not_check_strictly() {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        seen.conf.cvips[0].real_servers[2].addr = addr("198.51.100.3");
        let mut host = host(3);
        host.reply("192.0.2.10", Some("192.0.2.99"), 2);
        host.set("net/ipv4/conf/eth1/rp_filter", "1");
        let lines = lines(&paths(&seen, &host));
        assert!(lines[0].contains("eth1 drops what clients on the CVIP's network"), "{lines:?}");
    }
}
