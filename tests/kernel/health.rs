//! Checks and flapping: whoever listens and does not serve gets no new connections, and a service
//! is never emptied by either.

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;

use super::support::{Server, Site, listen};

/// The page that the check wants to see is the node's number; node 2's is another.
const CHECKED: &str = "<service><port>8080</port><check><type>http</type>\
     <pattern>^[13]</pattern><interval>1</interval><timeout>1</timeout>\
     <fall>1</fall><rise>1</rise></check></service>";

#[test]
fn a_listener_that_fails_its_check_gets_no_new_connections_until_it_passes() {
    for routing in ["DR", "NAT"] {
        let plan = Plan { routing, ipv4: true, ipv6: true, services: CHECKED };
        let site = Site::start(2, &plan);
        let _good = Server::tcp(site.host(1), "[::]:8080", "1");
        let bad = Server::tcp(site.host(2), "[::]:8080", "out of order");
        for id in [site.v4(Tcp, 8080), site.v6(Tcp, 8080)] {
            site.await_pool(id, Some(&[(1, 1), (2, 0)]));
        }
        let status = site.direct("cvipctl status");
        assert!(status.contains("unhealthy"), "{status}");
        drop(bad);
        let _mended = Server::tcp(site.host(2), "[::]:8080", "3");
        for id in [site.v4(Tcp, 8080), site.v6(Tcp, 8080)] {
            site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        }
    }
}

#[test]
fn checks_that_all_fail_empty_no_service() {
    let site = Site::start(2, &Plan { services: CHECKED, ..Plan::default() });
    let first = Server::tcp(site.host(1), "0.0.0.0:8080", "1");
    let _bad = Server::tcp(site.host(2), "0.0.0.0:8080", "out of order");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 0)]));
    drop(first);
    // Better a server that fails its check than none.
    site.until("the other serves", |site| {
        let pool = site.pool(site.v4(Tcp, 8080))?;
        pool.contains(&(2, 1)).then_some(())
    });
}

#[test]
fn static_real_servers_are_asked_by_the_director() {
    let services = "<service><port>8080</port><registration>static</registration>\
         <check><type>tcp</type><interval>1</interval><timeout>1</timeout>\
         <fall>1</fall><rise>1</rise></check></service>";
    let mut site = Site::stopped(2, &Plan { services, ..Plan::default() });
    let director = site.director();
    let served = Server::tcp(site.host(1), "0.0.0.0:8080", "1");
    // Their own cvipds do not run: nobody else could tell.
    site.start_on(&[director], &[]);
    site.until("who does not listen gets nothing", |site| {
        let pool = site.pool(site.v4(Tcp, 8080))?;
        let weight = |node| pool.iter().find(|(n, _)| *n == node).map(|(_, weight)| *weight);
        (weight(1) == Some(1) && weight(2) == Some(0)).then_some(())
    });
    let _second = Server::tcp(site.host(2), "0.0.0.0:8080", "2");
    drop(served);
    site.until("the other one does", |site| {
        let pool = site.pool(site.v4(Tcp, 8080))?;
        let weight = |node| pool.iter().find(|(n, _)| *n == node).map(|(_, weight)| *weight);
        (weight(1) == Some(0) && weight(2) == Some(1)).then_some(())
    });
}

#[test]
fn a_server_that_comes_and_goes_is_damped_and_let_in_again_once_it_stays() {
    let services = "<service><port>8080</port><flap_limit>2</flap_limit><damp_time>3</damp_time>\
         </service>";
    let site = Site::start(2, &Plan { services, ..Plan::default() });
    let _steady = listen(site.host(1), "0.0.0.0:8080");
    for _ in 0..3 {
        let flapping = listen(site.host(2), "0.0.0.0:8080");
        site.until("it is in", |site| {
            site.pool(site.v4(Tcp, 8080))?.contains(&(2, 1)).then_some(())
        });
        drop(flapping);
        site.until("it is out", |site| {
            (!site.pool(site.v4(Tcp, 8080))?.contains(&(2, 1))).then_some(())
        });
    }
    let _back = listen(site.host(2), "0.0.0.0:8080");
    site.until("it is damped", |site| {
        let status = site.direct("cvipctl status");
        status.contains("damped").then_some(())
    });
    // It has stayed for long enough.
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
}
