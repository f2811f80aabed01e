//! Where CVIPs and gateways stand on a node: in the wrong place, with the wrong prefix, or on a
//! loopback that is down.

use std::net::IpAddr;

use super::Finding;
use super::kernel::add;
use super::observed::{Host, Observed};
use crate::conf::Routing;
use crate::net::{Address, DesiredSettings, Device, Done, Interface, host_prefix};

/// Everything about addresses that are there and should be elsewhere, or otherwise.
pub(super) fn addresses(seen: &Observed, host: &Host) -> Vec<Finding> {
    let desired = seen.desired();
    let mut findings = Vec::from_iter(loopback(seen, host, &desired));
    for cvip in &seen.conf.cvips {
        let gateway = cvip.gateway.filter(|_| seen.conf.routing == Routing::Nat);
        for addr in [Some(cvip.addr), gateway].into_iter().flatten() {
            for interface in &host.interfaces {
                let standing = interface.addresses.iter().filter(|a| a.addr == addr);
                findings.extend(standing.filter_map(|s| judge(seen, &desired, interface, s)));
            }
        }
    }
    findings
}

/// A loopback that is to carry CVIPs, and is down: the kernel drops what is sent to them.
fn loopback(seen: &Observed, host: &Host, desired: &DesiredSettings) -> Option<Finding> {
    let down = host.interfaces.iter().find(|interface| interface.loopback && !interface.up)?;
    let name = &down.name;
    let is_on_it = |device: &Device| matches!(device, Device::Name(of) if of == name);
    let desired = desired.addresses.iter().find(|desired| is_on_it(&desired.device))?;
    let what =
        format!("{name} is down: this node drops what the director sends to {}", desired.addr);
    Some(Finding::fault(seen.here(), what).run(format!("ip link set {name} up")))
}

/// What is wrong with a CVIP or a gateway that stands here.
fn judge(
    seen: &Observed,
    desired: &DesiredSettings,
    interface: &Interface,
    standing: &Address,
) -> Option<Finding> {
    let (addr, prefix, device) = (standing.addr, standing.prefix, &interface.name);
    let desired = desired.addresses.iter().find(|desired| desired.addr == addr);
    let remove = format!("ip addr del {addr}/{prefix} dev {device}");
    let from_configuration = "take it out of this node's network configuration:";
    match desired.map(|desired| &desired.device) {
        Some(Device::Connected) => None,
        Some(Device::Name(name)) if name == device => {
            // On an interface with neighbours the network is theirs, too, and does no harm.
            (prefix != host_prefix(addr) && !interface.answers_neighbours).then(|| {
                let what = format!(
                    "{addr} stands on {device} with {prefix} bits of prefix: the node takes that \
                     whole network for {}",
                    if interface.loopback { "itself" } else { "the tunnel's other end" }
                );
                Finding::fault(seen.here(), what)
                    .fix("carry it as a single address:")
                    .run(remove)
                    .run(add(addr, host_prefix(addr), device))
            })
        }
        Some(Device::Name(name)) if interface.answers_neighbours => {
            let what = format!(
                "{addr} stands on {device} beside {name}: this node answers neighbours for it, \
                 and takes clients from the director"
            );
            Some(Finding::fault(seen.here(), what).fix(from_configuration).run(remove))
        }
        // Elsewhere it does no harm.
        Some(Device::Name(_)) => None,
        None if is_made(seen, addr, device) && seen.runs_here() => {
            undesired_of_cvipd(seen, interface, addr)
        }
        // It is told with the leave that was not done.
        None if is_made(seen, addr, device) && seen.left_here() => None,
        None => Some(undesired(seen, interface, addr).fix(from_configuration).run(remove)),
    }
}

/// True if cvipd added the address.
fn is_made(seen: &Observed, addr: IpAddr, device: &str) -> bool {
    let is = |done: &Done| matches!(done, Done::Added { addr: a, device: d, .. } if *a == addr && d == device);
    seen.made().iter().any(is)
}

/// The same of one that a running cvipd carries by another cvip.conf, and would add again. That of
/// a node which cvip.conf does not name stays until the node leaves, and is told with that.
fn undesired_of_cvipd(seen: &Observed, interface: &Interface, addr: IpAddr) -> Option<Finding> {
    (!seen.is_removed()).then(|| {
        undesired(seen, interface, addr)
            .fix("cvipd carries it by another cvip.conf; let it read the file:")
            .run("systemctl reload cvipd")
    })
}

/// An address that this node's role does not ask for.
fn undesired(seen: &Observed, interface: &Interface, addr: IpAddr) -> Finding {
    let device = &interface.name;
    let answers = match interface.answers_neighbours {
        true => "neighbours that ask for it may reach this node",
        // The kernel answers ARP for any address of its own, whatever interface it is on.
        false => "this node takes packets for it as its own, and may answer ARP for it",
    };
    let what = format!("{addr} stands on {device}, where it does not belong: {answers}");
    Finding::fault(seen.here(), what)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn found(routing: Routing, node: u32, places: &[(&str, u8, &str)]) -> Vec<String> {
        let seen = seen(conf(routing, &["192.0.2.10", "2001:db8::10"], 1), node);
        let mut host = host(node);
        host.interfaces.push(interface(9, "tunl0", &[]));
        host.interfaces.push(interface(10, "ip6tnl0", &[]));
        for (text, prefix, device) in places {
            host.carry_with(text, *prefix, device);
        }
        lines(&addresses(&seen, &host))
    }

    #[test]
    fn addresses_in_their_places_are_right() {
        let dr = [("192.0.2.10", 32, "lo"), ("2001:db8::10", 128, "lo")];
        assert!(found(Routing::Dr, 3, &dr).is_empty());
        let tun = [("192.0.2.10", 32, "tunl0"), ("2001:db8::10", 128, "ip6tnl0")];
        assert!(found(Routing::Tun, 3, &tun).is_empty());
        let director = [("192.0.2.10", 24, "eth0"), ("2001:db8::10", 128, "eth0")];
        assert!(found(Routing::Dr, 1, &director).is_empty());
        let nat = [("192.0.2.10", 32, "eth0"), ("192.0.2.254", 24, "eth0")];
        assert!(found(Routing::Nat, 1, &nat).is_empty());
    }

    #[test]
    fn a_loopback_that_is_down_is_a_fault_where_it_carries_a_cvip() {
        let mut host = host(3);
        host.interfaces.iter_mut().filter(|i| i.loopback).for_each(|lo| lo.up = false);
        let lines = |routing| {
            let seen = seen(conf(routing, &["192.0.2.10"], 1), 3);
            lines(&addresses(&seen, &host))
        };
        let found = lines(Routing::Dr);
        assert!(found[0].contains("lo is down: this node drops"), "{found:?}");
        assert!(found[0].ends_with("run: ip link set lo up"), "{found:?}");
        assert!(lines(Routing::Nat).is_empty());
    }

    #[test]
    fn a_cvip_on_a_nodes_interface_is_a_fault_beside_the_one_on_lo() {
        for (text, prefix) in [("192.0.2.10", 32), ("2001:db8::10", 128)] {
            let lines = found(Routing::Dr, 3, &[(text, prefix, "lo"), (text, prefix, "eth0")]);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains(&format!("{text} stands on eth0 beside lo")), "{lines:?}");
            let command = format!("run: ip addr del {text}/{prefix} dev eth0");
            assert!(lines[0].ends_with(&command), "{lines:?}");
        }
    }

    #[test]
    fn a_network_on_lo_is_a_fault_that_two_commands_fix() {
        let seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        let mut host = host(3);
        host.carry_with("192.0.2.10", 24, "lo");
        let findings = addresses(&seen, &host);
        assert!(findings[0].what.contains("24 bits of prefix"), "{findings:?}");
        assert_eq!(
            findings[0].commands,
            ["ip addr del 192.0.2.10/24 dev lo", "ip addr add 192.0.2.10/32 dev lo"]
        );
    }

    #[test]
    fn with_nat_no_real_server_carries_the_cvip_or_the_gateway() {
        let places = [("192.0.2.10", 32, "lo"), ("192.0.2.254", 24, "eth0")];
        let lines = found(Routing::Nat, 3, &places);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("192.0.2.10 stands on lo, where it does not belong"));
        assert!(lines[1].contains("run: ip addr del 192.0.2.254/24 dev eth0"), "{lines:?}");
    }

    #[test]
    fn a_host_that_is_no_node_carries_no_cvip() {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        seen.node = None;
        let mut host = host(3);
        host.carry("192.0.2.10", "eth0");
        assert!(addresses(&seen, &host)[0].subject.contains("this host"));
    }
}
