//! Real traffic by every forwarding method: cvipd sets up everything but the clients' network and
//! the nodes' default route. What goes where is read off the frames that the client sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Capture, Host, Network, Plan};

use super::support::{Server, Site, behind_nat, connect, fetch, listen, route_through};

/// A client network beyond the director: one address, routed by hand on both sides.
const ABROAD: (&str, &str) = ("198.51.100.7", "2001:db8::7");

/// In turn, so that every server's share is known beforehand.
const IN_TURN: &str = "<service><port>8080</port><scheduler>rr</scheduler></service>";

fn both_families<'a>(routing: &'a str, services: &'a str) -> Plan<'a> {
    Plan { routing, ipv4: true, ipv6: true, services }
}

/// Moves the client abroad: its packets come from an address for which the nodes need a route.
pub(super) fn move_client_abroad(site: &Site) {
    let (client, director) = (site.cluster.client(), site.cluster.director());
    let (v4, v6) = ABROAD;
    for (version, addr, prefix, cvip) in
        [("-4", v4, 32, site.cvip(false)), ("-6", v6, 128, site.cvip(true))]
    {
        let nodad = if version == "-6" { "nodad" } else { "" };
        client.line(&format!("ip {version} addr add {addr}/{prefix} dev eth0 {nodad}"));
        client.line(&format!("ip {version} route add {cvip}/{prefix} dev eth0 src {addr}"));
        director.line(&format!("ip {version} route add {addr}/{prefix} dev eth0"));
    }
}

/// How many of a client's fetches each server answered, one after the other.
#[track_caller]
fn shares(site: &Site, addr: SocketAddr, fetches: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for n in 0..fetches {
        let served = fetch(site.cluster.client(), addr);
        let name = served.unwrap_or_else(|error| panic!("fetch {n} of {addr}: {error}"));
        *shares.entry(name).or_default() += 1;
    }
    shares
}

fn names<const N: usize>(shares: [(&str, usize); N]) -> BTreeMap<String, usize> {
    shares.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The frames that the client sees: ARP and neighbour discovery, and TCP of port 8080.
fn watch(site: &Site) -> Capture {
    site.cluster.client().capture("arp or icmp6 or tcp port 8080").unwrap()
}

/// Who sent the frames of a capture whose line has this text, by hardware address.
fn senders(frames: &[String], text: &str) -> BTreeSet<String> {
    let with_text = frames.iter().filter(|frame| frame.contains(text));
    with_text.filter_map(|frame| frame.split(' ').nth(1).map(str::to_owned)).collect()
}

/// Who answered the client's TCP, by hardware address.
fn answered_by(frames: &[String], addr: SocketAddr) -> BTreeSet<String> {
    // As tcpdump writes it.
    senders(frames, &format!(": {}.{} > ", addr.ip(), addr.port()))
}

/// Whom the client's TCP went to, by hardware address.
fn asked(frames: &[String], addr: SocketAddr) -> BTreeSet<String> {
    let text = format!(" > {}.{}: ", addr.ip(), addr.port());
    let asking = frames.iter().filter(|frame| frame.contains(&text));
    let to = asking.filter_map(|frame| frame.split(' ').nth(3));
    to.map(|mac| mac.trim_end_matches(',').to_owned()).collect()
}

fn macs<const N: usize>(hosts: [&Host; N]) -> BTreeSet<String> {
    hosts.iter().map(|host| host.mac()).collect()
}

/// A director that is a real server too, beside one node: each has its half, every connection is
/// IPVS's, and the director's own listener is never reached past it.
fn the_director_has_its_share_and_no_more(routing: &str) {
    let site = Site::start(1, &both_families(routing, IN_TURN));
    let (director, own) = (site.director(), site.cluster.director());
    if routing == "NAT" {
        move_client_abroad(&site);
        route_through(&site, [site.gateway(false), site.gateway(true)]);
    }
    let node = Server::tcp(site.host(1), "[::]:8080", "node");
    let _own = Server::tcp(own, "[::]:8080", "director");
    let families = [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))];
    for (id, addr) in families {
        site.await_pool(id, Some(&[(1, 1), (director, 1)]));
        let frames = watch(&site);
        assert_eq!(shares(&site, addr, 12), names([("node", 6), ("director", 6)]), "{addr}");
        let frames = frames.stop().unwrap();
        assert_eq!(asked(&frames, addr), macs([own]), "{frames:#?}");
        let answering = match routing {
            "NAT" => macs([own]),
            _ => macs([own, site.host(1)]),
        };
        assert_eq!(answered_by(&frames, addr), answering, "{frames:#?}");
        site.await_counted(id, &[(1, 6), (director, 6)]);
    }
    // Its listener is still there, and gets nothing.
    site.run(director, "setport_weight --start-port=8080 --end-port=8080 --weight=0");
    for (id, addr) in families {
        site.await_pool(id, Some(&[(1, 1), (director, 0)]));
        assert_eq!(shares(&site, addr, 6), names([("node", 6)]), "{addr}");
    }
    drop(node);
    for (id, addr) in families {
        site.until("nobody takes new connections", |site| {
            site.pool(id)?.iter().all(|(_, weight)| *weight == 0).then_some(())
        });
        let error = connect(site.cluster.client(), addr).expect_err("it was reached past IPVS");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{addr}: {error}");
    }
}

#[test]
fn by_dr_a_director_that_serves_too_has_its_share_and_no_more() {
    the_director_has_its_share_and_no_more("DR");
}

#[test]
fn by_nat_a_director_that_serves_too_has_its_share_and_no_more() {
    the_director_has_its_share_and_no_more("NAT");
}

#[test]
fn by_tunnel_a_director_that_serves_too_has_its_share_and_no_more() {
    the_director_has_its_share_and_no_more("TUN");
}

#[test]
fn by_nat_clients_of_another_network_are_served_and_a_node_serves_on_its_own_address() {
    let site = Site::start(2, &both_families("NAT", IN_TURN));
    move_client_abroad(&site);
    route_through(&site, [site.gateway(false), site.gateway(true)]);
    // On its own address alone: with NAT that is where the packets arrive.
    let one4 = Server::tcp(site.host(1), format!("{}:8080", site.host(1).v4()), "one");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    assert_eq!(shares(&site, site.at(8080), 2), names([("one", 2)]));
    let one6 = Server::tcp(site.host(1), format!("[{}]:8080", site.host(1).v6()), "one");
    let _two = Server::tcp(site.host(2), "[::]:8080", "two");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    assert!(site.rules().contains(" -m -w 1"), "{}", site.rules());
    for addr in [site.at(8080), site.at6(8080)] {
        let frames = watch(&site);
        assert_eq!(shares(&site, addr, 6), names([("one", 3), ("two", 3)]));
        let frames = frames.stop().unwrap();
        // There and back through the director.
        assert_eq!(asked(&frames, addr), macs([site.cluster.director()]), "{frames:#?}");
        assert_eq!(answered_by(&frames, addr), macs([site.cluster.director()]), "{frames:#?}");
    }
    drop((one4, one6));
    for (id, addr) in [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))] {
        site.until("node 1 is sent no new client", |site| {
            let sent = site.pool(id)?.into_iter().filter(|(_, weight)| *weight > 0);
            (sent.collect::<Vec<_>>() == [(2, 1)]).then_some(())
        });
        assert_eq!(shares(&site, addr, 4), names([("two", 4)]));
    }
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(2, 1)]));
}

#[test]
fn by_tunnel_replies_come_straight_from_the_nodes() {
    let site = Site::start(2, &both_families("TUN", IN_TURN));
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    assert!(site.rules().contains(" -i -w 1"), "{}", site.rules());
    for addr in [site.at(8080), site.at6(8080)] {
        let frames = watch(&site);
        assert_eq!(shares(&site, addr, 6), names([("1", 3), ("2", 3)]));
        let frames = frames.stop().unwrap();
        assert_eq!(asked(&frames, addr), macs([site.cluster.director()]), "{frames:#?}");
        assert_eq!(answered_by(&frames, addr), macs([site.host(1), site.host(2)]), "{frames:#?}");
    }
}

#[test]
fn several_cvips_of_one_file_are_balanced_each_by_its_own_services() {
    let mut site = Site::stopped(2, &Plan::default());
    let (web, mail) = (site.cvip(false), IpAddr::from(site.cluster.vip4(3)));
    let web6 = site.cvip(true);
    let sticky = "<service><port>8080</port><persistence>300</persistence></service>";
    let other = "<service><port>8081</port><scheduler>rr</scheduler></service>";
    let cvips = [(web, IN_TURN), (mail, sticky), (web6, other)];
    site.write_cvips("DR", &cvips).unwrap();
    site.start_everywhere(&[]);
    let at = |addr: IpAddr, port| SocketAddr::new(addr, port);
    let id = |addr: IpAddr, port| cvip::ipvs::ServiceId::Address { protocol: Tcp, addr, port };

    // Listeners on every address serve every CVIP that has their port, and no other.
    let _any = [1, 2].map(|n| Server::tcp(site.host(n), "[::]:8080", n));
    let _six = [1, 2].map(|n| Server::tcp(site.host(n), at(web6, 8081), format!("six {n}")));
    for (addr, port) in [(web, 8080), (mail, 8080), (web6, 8081)] {
        site.await_pool(id(addr, port), Some(&[(1, 1), (2, 1)]));
    }
    assert_eq!(site.pools().len(), 3, "{:?}", site.pools());
    assert_eq!(shares(&site, at(web, 8080), 6), names([("1", 3), ("2", 3)]));
    assert_eq!(shares(&site, at(web6, 8081), 6), names([("six 1", 3), ("six 2", 3)]));
    let sticks = shares(&site, at(mail, 8080), 6);
    assert_eq!(sticks.values().collect::<Vec<_>>(), [&6], "persistent: {sticks:?}");
    for addr in [at(mail, 8081), at(web6, 8080)] {
        assert!(connect(site.cluster.client(), addr).is_err(), "{addr} has no such service");
    }
    // A listener on one CVIP serves that one only.
    let director = site.director();
    let _own = listen(site.cluster.director(), at(mail, 8080));
    site.await_pool(id(mail, 8080), Some(&[(1, 1), (2, 1), (director, 1)]));
    assert_eq!(site.pool(id(web, 8080)), Some(vec![(1, 1), (2, 1)]));
    // Each is carried by the director, and by every node.
    for number in site.numbers() {
        let addresses = site.host(number).stdout(&["ip", "-br", "addr"]).unwrap();
        for (cvip, _) in cvips {
            assert!(addresses.contains(&format!(" {cvip}/")), "node {number}: {addresses}");
        }
    }
}

/// Nodes with two interfaces: clustertab names the addresses on the interconnect, and
/// `real_server_node` those on which the nodes are balanced.
fn two_interfaces(routing: &str) {
    let plan = both_families(routing, IN_TURN);
    let mut site = Site::built(|builder| builder.nodes(2).interconnect(true), &plan);
    site.start_everywhere(&[]);
    let tab = fs::read_to_string(site.dir.join("clustertab")).unwrap();
    let inside = site.host(1).v4_on(Network::Interconnect).to_string();
    assert!(tab.contains(&inside) && !tab.contains(&site.host(1).v4().to_string()), "{tab}");
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    let strays = site.cluster.director().capture_on("eth1", "tcp port 8080").unwrap();
    for (id, addr) in [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))] {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        let frames = watch(&site);
        assert_eq!(shares(&site, addr, 6), names([("1", 3), ("2", 3)]), "{addr}");
        let frames = frames.stop().unwrap();
        assert_eq!(answered_by(&frames, addr), macs([site.host(1), site.host(2)]), "{frames:#?}");
    }
    let strays = strays.stop().unwrap();
    assert!(strays.is_empty(), "clients' packets on the interconnect: {strays:#?}");
    let rules = site.rules();
    assert!(rules.contains(&format!("-r {}:8080", site.host(1).v4())), "{rules}");
}

#[test]
fn by_dr_nodes_with_two_interfaces_are_balanced_on_the_one_that_the_file_names() {
    two_interfaces("DR");
}

#[test]
fn by_tunnel_nodes_with_two_interfaces_are_balanced_on_the_one_that_the_file_names() {
    two_interfaces("TUN");
}

#[test]
fn by_nat_nodes_of_an_inner_network_serve_clients_of_the_outer_one() {
    let site = behind_nat(IN_TURN);
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    for (id, addr) in [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))] {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        let frames = watch(&site);
        assert_eq!(shares(&site, addr, 6), names([("1", 3), ("2", 3)]), "{addr}");
        let frames = frames.stop().unwrap();
        assert_eq!(answered_by(&frames, addr), macs([site.cluster.director()]), "{frames:#?}");
    }
}

mod on_stock {
    use super::*;

    #[test]
    fn by_dr_only_the_director_answers_for_the_cvip_and_replies_come_straight_from_the_nodes() {
        let site = Site::start(2, &both_families("DR", IN_TURN));
        let (client, director) = (site.cluster.client(), site.cluster.director());
        let _servers: Vec<Server> =
            site.numbers().map(|n| Server::tcp(site.host(n), "[::]:8080", n)).collect();
        for (id, addr) in
            [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))]
        {
            site.await_pool(id, Some(&[(1, 1), (2, 1), (3, 1)]));
            let cvip = addr.ip();
            let frames = watch(&site);
            for round in 0..3 {
                // Everybody has to ask again: the client for the CVIP, the nodes for the client.
                for host in site.cluster.members() {
                    host.line("ip neigh flush dev eth0");
                }
                let all = names([("1", 1), ("2", 1), ("3", 1)]);
                assert_eq!(shares(&site, addr, 3), all, "round {round}");
            }
            let frames = frames.stop().unwrap();
            let says = match cvip.is_ipv6() {
                false => format!("Reply {cvip} is-at"),
                true => format!("neighbor advertisement, tgt is {cvip},"),
            };
            assert_eq!(senders(&frames, &says), macs([director]), "{frames:#?}");
            assert!(frames.iter().filter(|f| f.contains(&says)).count() >= 3, "{frames:#?}");
            let neighbour = client.stdout(&["ip", "neigh", "show", "to", &cvip.to_string()]);
            assert!(neighbour.unwrap().contains(&director.mac()));
            // Nobody asks in the CVIP's name either, which would teach others where it is.
            let asks = senders(&frames, &format!(" tell {cvip},"));
            assert!(asks.is_subset(&macs([director])), "{frames:#?}");
            assert_eq!(asked(&frames, addr), macs([director]), "{frames:#?}");
            let everybody = macs([site.host(1), site.host(2), director]);
            assert_eq!(answered_by(&frames, addr), everybody, "{frames:#?}");
        }
    }
}
