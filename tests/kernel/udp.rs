//! UDP servers register as TCP's do, by being bound and not connected; when one stops, its
//! clients are the others' from the next datagram on.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use cvip::ipvs::ServiceId;
use cvip::protocol::Protocol::Udp;
use cvip_lab::Plan;
use cvip_lab::traffic::Datagrams;

use super::support::{PATIENCE, Server, Site, With, bind_udp, raw};

const NAME_SERVICE: &str = "<service><protocol>udp</protocol><port>53</port></service>";

fn site() -> Site {
    Site::start(2, &Plan { ipv6: true, services: NAME_SERVICE, ..Plan::default() })
}

/// A server on a CVIP: an answer comes from the address that was asked, whatever the routes say.
fn server(site: &Site, number: u32, addr: SocketAddr) -> Server {
    Server::numbered_udp(site.host(number), addr, number)
}

/// A client with one source port, whose datagrams node 1 answers.
#[track_caller]
fn client_of_node_1(site: &Site, addr: SocketAddr) -> Datagrams {
    for _ in 0..8 {
        let mut client = Datagrams::new(site.cluster.client(), addr).unwrap();
        match client.ask(PATIENCE).unwrap().as_deref() {
            Some("1") => return client,
            Some("2") => {}
            other => panic!("answered by {other:?}"),
        }
    }
    panic!("node 1 is sent no client");
}

mod on_stock {
    use super::*;

    #[test]
    fn a_client_that_keeps_its_port_is_served_by_another_node_once_its_servers_is_deleted() {
        let site = site();
        let families: [(ServiceId, SocketAddr); 2] =
            [(site.v4(Udp, 53), site.at(53)), (site.v6(Udp, 53), site.at6(53))];
        for (id, addr) in families {
            let one = server(&site, 1, addr);
            let _two = server(&site, 2, addr);
            site.await_pool(id, Some(&[(1, 1), (2, 1)]));
            let mut client = client_of_node_1(&site, addr);
            for _ in 0..10 {
                assert_eq!(client.ask(PATIENCE).unwrap().as_deref(), Some("1"));
            }
            let before = client.sent();
            drop(one);
            // It goes on sending meanwhile, as a client does that cannot know.
            site.until("the destination is deleted", |site| {
                client.send().unwrap();
                (site.pool(id) == Some(vec![(2, 1)])).then_some(())
            });
            let deleted = client.sent();
            for _ in 0..20 {
                assert_eq!(client.ask(PATIENCE).unwrap().as_deref(), Some("2"), "{client:?}");
            }
            client.collect(Duration::from_millis(100)).unwrap();
            let lost = client.unanswered();
            let in_between = before + 1..=deleted;
            assert!(lost.iter().all(|number| in_between.contains(number)), "{client:?}");
            // The one that served it is back, and others may be sent there: not this client.
            let _one = server(&site, 1, addr);
            site.await_pool(id, Some(&[(1, 1), (2, 1)]));
            for _ in 0..10 {
                assert_eq!(client.ask(PATIENCE).unwrap().as_deref(), Some("2"));
            }
        }
    }
}

/// Sockets of node 1 that share a port, of the IPv4 service.
fn group(site: &Site, sockets: usize) -> Vec<UdpSocket> {
    let one = |_| raw(site.host(1), "0.0.0.0:53", With::UdpReusePort).into();
    let group = (0..sockets).map(one).collect();
    site.await_pool(site.v4(Udp, 53), Some(&[(1, 1)]));
    group
}

/// The node has looked since, and the IPv4 service never changed meanwhile.
#[track_caller]
fn still_serves(site: &Site, changes_before: &[String]) {
    let (id, other) = (site.v4(Udp, 53), site.v6(Udp, 53));
    let marker = bind_udp(site.host(1), site.at6(53));
    site.await_pool(other, Some(&[(1, 1)]));
    drop(marker);
    site.await_pool(other, None);
    let of_ipv4 =
        |changes: &[String]| changes.iter().filter(|line| line.contains(&id.to_string())).count();
    assert_eq!(of_ipv4(&site.changes()), of_ipv4(changes_before));
    assert_eq!(site.pool(id), Some(vec![(1, 1)]));
}

#[test]
fn udp_sockets_that_share_a_port_are_one_registration_until_the_last_closes() {
    let site = site();
    let mut group = group(&site, 3);
    let changes = site.changes();
    while group.len() > 1 {
        group.pop();
    }
    still_serves(&site, &changes);
    drop(group);
    site.await_pool(site.v4(Udp, 53), None);
}

#[test]
fn a_udp_server_with_a_socket_for_each_client_serves_while_it_has_one_for_all() {
    let site = site();
    let group = group(&site, 3);
    let changes = site.changes();
    let client = SocketAddr::from((site.cluster.client().v4(), 4000));
    for socket in &group[1..] {
        site.host(1).enter(|| socket.connect(client)).unwrap();
    }
    still_serves(&site, &changes);
    site.host(1).enter(|| group[0].connect(client)).unwrap();
    site.await_pool(site.v4(Udp, 53), None);
}
