//! NAT as examples/nat has it: clients on the outer network, real servers on an inner one, and the
//! director, which is no real server, on both.

use std::fs;
use std::net::IpAddr;

use cvip_lab::{Host, Network, Plan};

use super::site::Site;

/// Two nodes of an inner network behind a director; an IPv4 CVIP and an IPv6 one with these
/// services. The director's address on the inner network is the nodes' default route.
#[track_caller]
pub(crate) fn behind_nat(services: &str) -> Site {
    let plan = Plan { routing: "NAT", ipv4: true, ipv6: true, services };
    let mut site = Site::built(|builder| builder.nodes(2).interconnect(true), &plan);
    let gateways = gateways(site.cluster.director());
    let mut conf = "<cvips><routing>NAT</routing>".to_owned();
    for (cvip, gateway) in [(site.cvip(false), gateways[0]), (site.cvip(true), gateways[1])] {
        conf += &format!("<cvip><ip_addr>{cvip}</ip_addr><gateway>{gateway}</gateway>");
        let director = site.director();
        conf += &format!("<director_node><node_num>{director}</node_num>");
        conf += "<garp_interface>eth0</garp_interface>";
        conf += "<sync_interface>eth1</sync_interface></director_node>";
        for number in site.numbers() {
            let addr = inner(site.host(number), cvip.is_ipv6());
            conf += &format!("<real_server_node><node_num>{number}</node_num>");
            conf += &format!("<ip_addr>{addr}</ip_addr>");
            let weight = u32::from(number != director);
            conf += &format!("<weight>{weight}</weight></real_server_node>");
        }
        conf += &format!("{services}</cvip>");
    }
    conf += "</cvips>";
    fs::write(site.dir.join("cvip.conf"), conf).unwrap();
    for node in site.cluster.nodes() {
        node.line("ip link set eth0 down");
    }
    site.start_everywhere(&[]);
    // The director carries the gateway's addresses by now.
    route_through(&site, gateways);
    site
}

/// An address on the inner network that no member has, for each family.
fn gateways(director: &Host) -> [IpAddr; 2] {
    let inside = Network::Interconnect;
    let mut v4 = director.v4_on(inside).octets();
    let mut v6 = director.v6_on(inside).segments();
    (v4[3], v6[7]) = (254, 0x254);
    [v4.into(), v6.into()]
}

/// A member's address on the inner network.
pub(crate) fn inner(host: &Host, ipv6: bool) -> IpAddr {
    match ipv6 {
        true => host.v6_on(Network::Interconnect).into(),
        false => host.v4_on(Network::Interconnect).into(),
    }
}

/// Leads the nodes' answers to the director, as NAT needs it.
pub(crate) fn route_through(site: &Site, gateways: [IpAddr; 2]) {
    for node in site.cluster.nodes() {
        // The director cannot be told not to send ICMPv6 redirects to the shorter way.
        node.sysctl("net.ipv6.conf.eth0.accept_redirects", "0").unwrap();
        for gateway in gateways {
            let version = if gateway.is_ipv6() { "-6" } else { "-4" };
            node.line(&format!("ip {version} route add default via {gateway}"));
        }
    }
}
