//! Sorry servers: who serves when the last listener is gone, and no longer when one is back.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use cvip::ipvs::ServiceId;
use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::Plan;
use serde_json::{Value, json};

use super::forwarding::move_client_abroad;
use super::support::{Patron, Server, Site, ask_udp, connect, fetch, route_through};

/// The sorry server: a machine that cvip.conf gives no other part.
const SORRY: u32 = 3;

/// A cluster of two nodes and a director beside that machine.
fn site(routing: &str, services: &str) -> Site {
    let plan = Plan { routing, ipv4: true, ipv6: true, services };
    let mut site = Site::stopped(3, &plan);
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    let (v4, v6) = (site.host(SORRY).v4().to_string(), site.host(SORRY).v6().to_string());
    let number = format!("<real_server_node><node_num>{SORRY}</node_num>");
    let servers = conf.lines().filter(|line| !line.contains(&number));
    let conf: String = servers.map(|line| format!("{line}\n")).collect();
    // The services stand in both CVIPs, the IPv4 one first.
    let (first, second) = conf.split_once("</cvip>").unwrap();
    let conf = [&first.replace("SORRY", &v4), "</cvip>", &second.replace("SORRY", &v6)].concat();
    fs::write(&path, conf).unwrap();
    let director = site.director();
    site.start_on(&[1, 2, director], &[]);
    site
}

/// Gives the sorry server the CVIPs, as DR and TUN need it, and silence about them.
fn carry_cvips(site: &Site) {
    let host = site.host(SORRY);
    for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
        host.sysctl(&format!("net.ipv4.conf.all.{key}"), value).unwrap();
    }
    for (cvip, bits) in [(site.cvip(false), 32), (site.cvip(true), 128)] {
        host.run(&["ip", "addr", "add", &format!("{cvip}/{bits}"), "dev", "lo"]).unwrap();
    }
}

mod on_stock {
    use super::*;

    #[test]
    fn a_sorry_server_serves_from_the_last_listeners_end_to_the_next_ones_beginning() {
        let site = site(
            "DR",
            "<service><port>8080</port><drain_timeout>10</drain_timeout>\
             <sorry_server><ip_addr>SORRY</ip_addr><weight>6</weight></sorry_server></service>",
        );
        carry_cvips(&site);
        let _sorry = Server::tcp(site.host(SORRY), "[::]:8080", "sorry");
        let client = site.cluster.client();
        let both = [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))];
        for (id, at) in both {
            site.await_pool(id, Some(&[(SORRY, 6)]));
            assert_eq!(fetch(client, at).unwrap(), "sorry");
        }
        site.assert_right();
        for name in ["one", "one again"] {
            let mut patrons = both.map(|(_, at)| Patron::new(client, at));
            let one = Server::tcp(site.host(1), "[::]:8080", name);
            for ((id, at), patron) in both.into_iter().zip(&mut patrons) {
                await_server(&site, id, (1, 1));
                assert_eq!(fetch(client, at).unwrap(), name);
                // Whom the sorry server serves, it serves on: until the deadline.
                assert_eq!(site.pool(id), Some(vec![(1, 1), (SORRY, 0)]));
                assert_eq!(patron.ask().unwrap(), "sorry");
            }
            site.await_pool(both[0].0, Some(&[(1, 1)]));
            site.await_pool(both[1].0, Some(&[(1, 1)]));
            site.assert_right();
            drop(one);
            for (id, at) in both {
                await_server(&site, id, (SORRY, 6));
                assert_eq!(fetch(client, at).unwrap(), "sorry");
            }
        }
    }
}

#[test]
fn a_sorry_server_stands_in_for_real_servers_that_make_no_quorum() {
    let site = site(
        "DR",
        "<service><port>8080</port><drain_timeout>1</drain_timeout><quorum>2</quorum>\
         <sorry_server><ip_addr>SORRY</ip_addr></sorry_server></service>",
    );
    carry_cvips(&site);
    let _sorry = Server::tcp(site.host(SORRY), "[::]:8080", "sorry");
    let client = site.cluster.client();
    let both = [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))];
    let _one = Server::tcp(site.host(1), "[::]:8080", "real");
    let serves = |pool: &[(u32, u32)], name| {
        for (id, at) in both {
            site.await_pool(id, Some(pool));
            assert_eq!(fetch(client, at).unwrap(), name);
        }
        site.assert_right();
    };
    let below: [(u32, u32); 2] = [(1, 0), (SORRY, 1)];
    serves(&below, "sorry");
    let two = Server::tcp(site.host(2), "[::]:8080", "real");
    serves(&[(1, 1), (2, 1)], "real");
    drop(two);
    serves(&below, "sorry");
    let status: Value = serde_json::from_str(&site.direct("cvipctl status --json")).unwrap();
    for pool in status["pools"].as_array().unwrap() {
        let quorum = json!({ "weight": 2, "hysteresis": 0, "has_quorum": false });
        assert_eq!(pool["quorum"], quorum, "{status:#}");
    }
    let told = site.direct("cvipctl events --json");
    let count = |kind: &str| told.matches(&format!(r#""event":"{kind}""#)).count();
    assert_eq!((count("quorum_up"), count("quorum_down")), (2, 4), "{told}");
}

/// Waits until a service has this destination, whatever else it has.
#[track_caller]
fn await_server(site: &Site, id: ServiceId, server: (u32, u32)) {
    site.until("the server joins", |site| site.pool(id)?.contains(&server).then_some(()));
}

#[test]
fn over_udp_a_sorry_server_goes_at_once() {
    let site = site(
        "DR",
        "<service><protocol>udp</protocol><port>5300</port>\
         <sorry_server><ip_addr>SORRY</ip_addr></sorry_server></service>",
    );
    carry_cvips(&site);
    let client = site.cluster.client();
    let cvips = [site.at(5300), site.at6(5300)];
    let _sorry = cvips.map(|at| Server::udp(site.host(SORRY), at, "sorry"));
    let both = [site.v4(Udp, 5300), site.v6(Udp, 5300)];
    for (id, at) in both.into_iter().zip(cvips) {
        site.await_pool(id, Some(&[(SORRY, 1)]));
        assert_eq!(ask_udp(client, at).unwrap(), "sorry");
        let one = Server::udp(site.host(1), at, "one");
        site.await_pool(id, Some(&[(1, 1)]));
        assert_eq!(ask_udp(client, at).unwrap(), "one");
        drop(one);
        site.await_pool(id, Some(&[(SORRY, 1)]));
        assert_eq!(ask_udp(client, at).unwrap(), "sorry");
    }
}

#[test]
fn by_nat_a_sorry_server_may_listen_on_another_port() {
    let site = site(
        "NAT",
        "<service><port>8080</port><drain_timeout>2</drain_timeout>\
         <sorry_server><ip_addr>SORRY</ip_addr><port>8888</port></sorry_server></service>",
    );
    move_client_abroad(&site);
    route_through(&site, [site.gateway(false), site.gateway(true)]);
    let _sorry = Server::tcp(site.host(SORRY), "[::]:8888", "sorry");
    let client = site.cluster.client();
    let (v4, v6): (IpAddr, IpAddr) = (site.host(SORRY).v4().into(), site.host(SORRY).v6().into());
    for (id, at, addr) in
        [(site.v4(Tcp, 8080), site.at(8080), v4), (site.v6(Tcp, 8080), site.at6(8080), v6)]
    {
        site.await_pool(id, Some(&[(SORRY, 1)]));
        let at_port = SocketAddr::new(addr, 8888).to_string();
        assert_eq!(site.entry(id).1[0].destination.id.to_string(), at_port);
        assert_eq!(fetch(client, at).unwrap(), "sorry");
        let one = Server::tcp(site.host(1), "[::]:8080", "one");
        await_server(&site, id, (1, 1));
        assert_eq!(fetch(client, at).unwrap(), "one");
        drop(one);
        await_server(&site, id, (SORRY, 1));
        assert_eq!(fetch(client, at).unwrap(), "sorry");
    }
    site.await_pool(site.v4(Tcp, 8080), Some(&[(SORRY, 1)]));
    site.assert_right();
}

#[test]
fn a_sorry_server_stands_in_for_servers_of_weight_0_and_goes_with_its_element() {
    let with = "<service><port>8080</port><drain_timeout>1</drain_timeout>\
                <sorry_server><ip_addr>SORRY</ip_addr></sorry_server></service>";
    let site = site("DR", with);
    carry_cvips(&site);
    let _sorry = Server::tcp(site.host(SORRY), "[::]:8080", "sorry");
    let _one = Server::tcp(site.host(1), "[::]:8080", "one");
    let (client, http) = (site.cluster.client(), site.v4(Tcp, 8080));
    site.await_pool(http, Some(&[(1, 1)]));
    assert_eq!(fetch(client, site.at(8080)).unwrap(), "one");
    let weigh = |weight| {
        format!("setport_weight --cluster --start-port=8080 --end-port=8080 --weight={weight}")
    };
    site.direct(&weigh(0));
    site.await_pool(http, Some(&[(1, 0), (SORRY, 1)]));
    assert_eq!(fetch(client, site.at(8080)).unwrap(), "sorry");
    site.direct(&weigh(2));
    site.await_pool(http, Some(&[(1, 2)]));
    assert_eq!(fetch(client, site.at(8080)).unwrap(), "one");
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    let start = conf.find("<sorry_server>").unwrap();
    let end = conf.find("</sorry_server>").unwrap() + "</sorry_server>".len();
    fs::write(&path, [&conf[..start], &conf[end..]].concat()).unwrap();
    site.direct(&weigh(0));
    site.direct("cvipctl apply");
    site.await_pool(http, Some(&[(1, 0)]));
    assert!(connect(client, site.at(8080)).is_err());
}
