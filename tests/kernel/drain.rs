//! Who leaves while clients are connected: weight 0 at once, the connections go on, and the
//! destination goes when they have ended, or at the deadline.

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;

use super::support::{Patron, Server, Site, connect, fetch, listen};

fn flagged(nodes: u8, services: &str) -> Site {
    let site = Site::start(nodes, &Plan { services, ..Plan::default() });
    if services.is_empty() {
        site.direct("setport_weight --start-port=8000 --end-port=8099 --weight=1 --cluster");
    }
    site
}

mod on_stock {
    use super::*;

    #[test]
    fn a_destination_that_leaves_takes_no_new_client_and_keeps_its_old_one_to_the_end() {
        let site = flagged(2, "");
        let http = site.v4(Tcp, 8080);
        let one = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
        site.await_pool(http, Some(&[(1, 1)]));
        let mut patron = Patron::new(site.cluster.client(), site.at(8080));
        assert_eq!(patron.ask().unwrap(), "one");
        let _two = Server::tcp(site.host(2), "0.0.0.0:8080", "two");
        site.await_pool(http, Some(&[(1, 1), (2, 1)]));
        drop(one);
        site.await_pool(http, Some(&[(1, 0), (2, 1)]));
        for _ in 0..8 {
            assert_eq!(fetch(site.cluster.client(), site.at(8080)).unwrap(), "two");
            assert_eq!(patron.ask().unwrap(), "one");
        }
        assert_eq!(site.pool(http), Some(vec![(1, 0), (2, 1)]), "it drains while it is used");
        drop(patron);
        site.await_pool(http, Some(&[(2, 1)]));
    }
}

#[test]
fn the_last_server_that_leaves_keeps_its_client_too_and_the_service_goes_after_it() {
    let site = flagged(1, "");
    let http = site.v4(Tcp, 8080);
    let one = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
    site.await_pool(http, Some(&[(1, 1)]));
    let mut patron = Patron::new(site.cluster.client(), site.at(8080));
    patron.ask().unwrap();
    drop(one);
    site.await_pool(http, Some(&[(1, 0)]));
    assert!(connect(site.cluster.client(), site.at(8080)).is_err(), "no new client");
    assert_eq!(patron.ask().unwrap(), "one");
    drop(patron);
    site.await_pool(http, None);
}

#[test]
fn a_server_that_comes_back_while_it_drains_gets_its_weight_back() {
    let site = flagged(1, "");
    let http = site.v4(Tcp, 8080);
    let one = Server::tcp(site.host(1), "0.0.0.0:8080", "first");
    site.await_pool(http, Some(&[(1, 1)]));
    let mut patron = Patron::new(site.cluster.client(), site.at(8080));
    patron.ask().unwrap();
    drop(one);
    site.await_pool(http, Some(&[(1, 0)]));
    let _again = Server::tcp(site.host(1), "0.0.0.0:8080", "second");
    site.await_pool(http, Some(&[(1, 1)]));
    assert_eq!(fetch(site.cluster.client(), site.at(8080)).unwrap(), "second");
    assert_eq!(patron.ask().unwrap(), "first", "the old connection never ended");
    drop(patron);
    // The drain is over for good: nothing deletes the destination when its old client goes.
    let _other = listen(site.host(1), "0.0.0.0:8081");
    site.await_pool(site.v4(Tcp, 8081), Some(&[(1, 1)]));
    assert_eq!(site.pool(http), Some(vec![(1, 1)]));
}

#[test]
fn at_its_deadline_a_destination_goes_with_the_connections_that_it_still_has() {
    // The deadline is far below a test's patience, the default deadline above it.
    let site = flagged(
        1,
        "<service><port>8080</port><drain_timeout>2</drain_timeout></service>\
         <service><port>8081</port></service>",
    );
    let (short, long) = (site.v4(Tcp, 8080), site.v4(Tcp, 8081));
    let servers =
        [8080, 8081].map(|port| Server::tcp(site.host(1), format!("0.0.0.0:{port}"), "one"));
    site.await_pool(short, Some(&[(1, 1)]));
    site.await_pool(long, Some(&[(1, 1)]));
    let client = site.cluster.client();
    let mut patrons = [8080, 8081].map(|port| Patron::new(client, site.at(port)));
    for patron in &mut patrons {
        patron.ask().unwrap();
    }
    drop(servers);
    site.await_pool(short, Some(&[(1, 0)]));
    site.await_pool(short, None);
    assert_eq!(site.pool(long), Some(vec![(1, 0)]), "its deadline is 30 s");
    assert_eq!(patrons[1].ask().unwrap(), "one");
}

#[test]
fn a_half_closed_connection_that_still_sends_is_waited_for() {
    // The client has sent its FIN and reads on: for IPVS that is no active connection.
    let site = flagged(1, "");
    let http = site.v4(Tcp, 8080);
    let listener = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 1)]));
    let client = connect(site.cluster.client(), site.at(8080)).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    site.until("IPVS counts the connection as inactive", |site| {
        (site.connections(http, 1) == Some((0, 1))).then_some(())
    });
    drop(listener);
    site.await_pool(http, Some(&[(1, 0)]));
    // The node counts it, and says so.
    site.until("the node's record counts the connection", |site| {
        let lingering = site.record(1).lingering;
        lingering.iter().any(|l| (l.port, l.connections) == (8080, 1)).then_some(())
    });
    // The answer goes past the director; it is the client's acknowledgements that need it.
    std::io::Write::write_all(&mut served, b"late\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&client), &mut line).unwrap();
    assert_eq!(line, "late\n");
    drop((served, client));
    site.await_pool(http, None);
}
