//! Real traffic by the forwarding methods beside DR: cvipd sets up everything but the clients'
//! network and the nodes' default route.

use std::net::IpAddr;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Host, Plan};

use super::support::{Server, Site, fetch};

/// A client network beyond the director: one address, routed by hand on both sides.
const ABROAD: (&str, &str) = ("198.51.100.7", "2001:db8::7");

/// Moves the client abroad: its packets come from an address for which the nodes need a route.
pub(super) fn move_client_abroad(site: &Site) {
    let (client, director) = (site.cluster.client(), site.cluster.director());
    let ip = |host: &Host, line: String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        host.run(&words).unwrap();
    };
    let (v4, v6) = ABROAD;
    for (version, addr, prefix, cvip) in
        [("-4", v4, 32, site.cvip(false)), ("-6", v6, 128, site.cvip(true))]
    {
        let nodad = if version == "-6" { "nodad" } else { "" };
        ip(client, format!("ip {version} addr add {addr}/{prefix} dev eth0 {nodad}"));
        ip(client, format!("ip {version} route add {cvip}/{prefix} dev eth0 src {addr}"));
        ip(director, format!("ip {version} route add {addr}/{prefix} dev eth0"));
    }
}

/// Leads a node's answers through the gateway, as NAT needs it.
pub(super) fn route_back(site: &Site, number: u32) {
    let host = site.host(number);
    // The director cannot be told not to send ICMPv6 redirects to the shorter way.
    host.sysctl("net.ipv6.conf.eth0.accept_redirects", "0").unwrap();
    for (version, gateway) in [("-4", site.gateway(false)), ("-6", site.gateway(true))] {
        let gateway = gateway.to_string();
        host.run(&["ip", version, "route", "add", "default", "via", &gateway]).unwrap();
    }
}

#[test]
fn by_nat_clients_of_another_network_are_served_in_both_families() {
    let site = Site::start(2, &Plan { routing: "NAT", ipv4: true, ipv6: true, services: "" });
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    move_client_abroad(&site);
    [1, 2].iter().for_each(|number| route_back(&site, *number));
    // On its own address alone: with NAT that is where the packets arrive.
    let one4 = Server::tcp(site.host(1), format!("{}:8080", site.host(1).v4()), "one");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    assert_eq!(fetch(site.cluster.client(), site.at(8080)).unwrap(), "one");
    let one6 = Server::tcp(site.host(1), format!("[{}]:8080", site.host(1).v6()), "one");
    let _two = Server::tcp(site.host(2), "[::]:8080", "two");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    assert!(site.rules().contains(" -m -w 1"), "{}", site.rules());
    for addr in [site.at(8080), site.at6(8080)] {
        let served: Vec<String> =
            (0..6).map(|_| fetch(site.cluster.client(), addr).unwrap()).collect();
        assert!(served.contains(&"one".to_owned()) && served.contains(&"two".to_owned()));
    }
    drop((one4, one6));
    for addr in [site.at(8080), site.at6(8080)] {
        site.until("node 1 serves no more", |site| {
            (fetch(site.cluster.client(), addr).unwrap() == "two").then_some(())
        });
    }
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(2, 1)]));
}

#[test]
fn by_tunnel_clients_are_served_in_both_families() {
    let site = Site::start(2, &Plan { routing: "TUN", ipv4: true, ipv6: true, services: "" });
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    assert!(site.rules().contains(" -i -w 1"), "{}", site.rules());
    for addr in [site.at(8080), site.at6(8080)] {
        let served: Vec<String> =
            (0..6).map(|_| fetch(site.cluster.client(), addr).unwrap()).collect();
        assert!(served.contains(&"1".to_owned()) && served.contains(&"2".to_owned()), "{served:?}");
    }
}

mod on_stock {
    use super::*;

    #[test]
    fn by_dr_nobody_but_the_director_answers_for_the_cvip() {
        let site = Site::start(2, &Plan { ipv6: true, ..Plan::default() });
        let client = site.cluster.client();
        let director = site.cluster.director().mac();
        for cvip in [site.cvip(false), site.cvip(true)] {
            for _ in 0..3 {
                let version = if cvip.is_ipv6() { "-6" } else { "-4" };
                let cvip: IpAddr = cvip;
                let text = cvip.to_string();
                client.run(&["ip", "neigh", "flush", "to", &text]).unwrap();
                client.run(&["ping", "-c1", "-W5", &text]).unwrap();
                let neighbour =
                    client.stdout(&["ip", version, "neigh", "show", "to", &text]).unwrap();
                assert!(neighbour.contains(&director), "{cvip}: {neighbour}, not {director}");
            }
        }
    }
}
