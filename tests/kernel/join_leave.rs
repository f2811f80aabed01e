//! The main job: a listener on a flagged port joins, the last leave takes the service with it,
//! and what the flags say holds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Output;

use cvip::protocol::Protocol::{Sctp, Tcp, Udp};
use cvip_lab::{Host, Plan};

use super::support::{
    Patron, Server, Site, With, ask_udp, connect, fetch, listen, raw, shown, start_listening,
    start_nginx,
};

const BOTH: Plan<'_> = Plan { routing: "DR", ipv4: true, ipv6: true, services: "" };

/// Flags ports 8000 to 8099 on each of the nodes, not on the director.
fn flag_nodes(site: &Site) {
    for number in 1..site.director() {
        site.run(number, "setport_weight --start-port=8000 --end-port=8099 --weight=1");
    }
}

/// The names of the servers that answer some fetches of a client.
#[track_caller]
fn who_serves(site: &Site, addr: SocketAddr) -> BTreeSet<String> {
    (0..8).map(|_| fetch(site.cluster.client(), addr).unwrap()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Joins and leaves of both families, with clients that are served meanwhile.
fn joins_and_leaves(options: &[&str]) {
    let site = Site::start_with(3, &BOTH, options);
    let (v4, v6) = (site.v4(Tcp, 8080), site.v6(Tcp, 8080));
    flag_nodes(&site);
    assert!(site.pools().is_empty(), "nobody listens: {:?}", site.pools());

    // A wildcard of IPv6 takes IPv4 too.
    let one = Server::tcp(site.host(1), "[::]:8080", "one");
    site.await_pool(v4, Some(&[(1, 1)]));
    site.await_pool(v6, Some(&[(1, 1)]));
    let two = Server::tcp(site.host(2), "0.0.0.0:8080", "two");
    site.await_pool(v4, Some(&[(1, 1), (2, 1)]));
    let three = raw(site.host(3), "[::]:8080", With::V6Only);
    start_listening(&three, 8).unwrap();
    let three = Server::over(three.into(), "three");
    site.await_pool(v6, Some(&[(1, 1), (3, 1)]));
    assert_eq!(site.pool(v4), Some(vec![(1, 1), (2, 1)]), "an IPv6-only socket takes no IPv4");

    assert_eq!(who_serves(&site, site.at(8080)), names(&["one", "two"]));
    assert_eq!(who_serves(&site, site.at6(8080)), names(&["one", "three"]));

    drop(one);
    site.await_pool(v4, Some(&[(2, 1)]));
    site.await_pool(v6, Some(&[(3, 1)]));
    assert_eq!(who_serves(&site, site.at(8080)), names(&["two"]));
    drop(two);
    site.await_pool(v4, None);
    assert_eq!(who_serves(&site, site.at6(8080)), names(&["three"]));
    drop(three);
    site.await_pool(v6, None);
    assert!(connect(site.cluster.client(), site.at(8080)).is_err(), "nobody serves any more");
    assert!(site.pools().is_empty());
}

fn curl(from: &Host, addr: SocketAddr) -> Output {
    let mut command = from.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "5"]);
    command.arg(format!("http://{addr}/")).output().unwrap()
}

mod on_stock {
    use super::*;

    #[test]
    fn nginx_joins_when_it_starts_serves_both_families_and_is_out_when_it_is_killed() {
        let site = Site::start(2, &BOTH);
        site.direct("setport_weight --start-port=1 --end-port=80 --weight=1 --cluster");
        let (v4, v6) = (site.v4(Tcp, 80), site.v6(Tcp, 80));
        let (one, two) = (start_nginx(&site, 1), start_nginx(&site, 2));
        site.await_pool(v4, Some(&[(1, 1), (2, 1)]));
        site.await_pool(v6, Some(&[(1, 1), (2, 1)]));
        // The C program shows the same table as ours.
        let theirs = site.cluster.director().stdout(&["ipvsadm", "-Sn"]).unwrap();
        let sorted = |rules: &str| rules.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(sorted(&site.rules()), sorted(&theirs));

        let fetch_all = |addr: SocketAddr| -> BTreeSet<String> {
            let client = site.cluster.client();
            let one = |_| {
                let output = curl(client, addr);
                assert!(output.status.success(), "{addr}: {}", shown(&output).1);
                shown(&output).0.trim().to_owned()
            };
            (0..6).map(one).collect()
        };
        assert_eq!(fetch_all(site.at(80)), names(&["node 1", "node 2"]));
        assert_eq!(fetch_all(site.at6(80)), names(&["node 1", "node 2"]));

        drop(two);
        let out = |site: &Site, id| {
            let pool = site.pool(id).expect("node 1 still serves");
            pool.iter().all(|(node, weight)| *node != 2 || *weight == 0).then_some(())
        };
        site.until("node 2 is out of the IPv4 service", |site| out(site, v4));
        site.until("node 2 is out of the IPv6 service", |site| out(site, v6));
        assert_eq!(fetch_all(site.at(80)), names(&["node 1"]));
        assert_eq!(fetch_all(site.at6(80)), names(&["node 1"]));
        drop(one);
        site.await_pool(v4, None);
        site.await_pool(v6, None);
    }

    #[test]
    fn a_udp_server_joins_answers_and_is_out_at_once() {
        let site = Site::start(2, &BOTH);
        site.direct(
            "setport_weight --start-port=177 --end-port=177 --weight=1 --protocol=udp --cluster",
        );
        let xdmcp = site.v4(Udp, 177);
        let one = Server::udp(site.host(1), site.at(177), "one");
        site.await_pool(xdmcp, Some(&[(1, 1)]));
        assert_eq!(ask_udp(site.cluster.client(), site.at(177)).unwrap(), "one");
        let _two = Server::udp(site.host(2), site.at(177), "two");
        site.await_pool(xdmcp, Some(&[(1, 1), (2, 1)]));
        // No drain: every datagram would renew the entry.
        drop(one);
        site.await_pool(xdmcp, Some(&[(2, 1)]));
        assert_eq!(ask_udp(site.cluster.client(), site.at(177)).unwrap(), "two");
        let _six = Server::udp(site.host(2), site.at6(177), "six");
        site.await_pool(site.v6(Udp, 177), Some(&[(2, 1)]));
        assert_eq!(ask_udp(site.cluster.client(), site.at6(177)).unwrap(), "six");
    }

    #[test]
    fn listeners_join_and_leave_the_services_that_they_can_serve() {
        joins_and_leaves(&[]);
    }
}

#[test]
fn by_polling_alone_listeners_join_and_leave_the_same() {
    joins_and_leaves(&["--poll"]);
}

#[test]
fn a_port_that_listens_already_joins_when_it_is_flagged() {
    let site = Site::start(2, &BOTH);
    let _one = listen(site.host(1), "[::]:8080");
    let _two = listen(site.host(2), "[::]:8080");
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=2 --cluster");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2), (2, 2)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 2), (2, 2)]));
}

#[test]
fn the_director_itself_joins_as_a_real_server() {
    let site = Site::start(1, &BOTH);
    let director = site.director();
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _own = Server::tcp(site.cluster.director(), "[::]:8080", "director");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(director, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(director, 1)]));
    for addr in [site.at(8080), site.at6(8080)] {
        assert_eq!(fetch(site.cluster.client(), addr).unwrap(), "director");
    }
    let _one = Server::tcp(site.host(1), "[::]:8080", "one");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (director, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1), (director, 1)]));
    for addr in [site.at(8080), site.at6(8080)] {
        assert_eq!(who_serves(&site, addr), names(&["director", "one"]));
    }
}

#[test]
fn weight_0_quiesces_a_node_and_another_weight_brings_it_back() {
    let site = Site::start(2, &Plan::default());
    let http = site.v4(Tcp, 8080);
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _one = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
    let _two = Server::tcp(site.host(2), "0.0.0.0:8080", "two");
    site.await_pool(http, Some(&[(1, 1), (2, 1)]));
    site.run(1, "setport_weight --start-port=8080 --end-port=8080 --weight=0");
    site.await_pool(http, Some(&[(1, 0), (2, 1)]));
    assert_eq!(who_serves(&site, site.at(8080)), names(&["two"]));
    site.run(1, "setport_weight --start-port=8080 --end-port=8080 --weight=3");
    site.await_pool(http, Some(&[(1, 3), (2, 1)]));
    assert!(who_serves(&site, site.at(8080)).contains("one"));
}

#[test]
fn a_port_that_is_unflagged_is_drained_and_its_service_removed() {
    let site = Site::start(1, &Plan::default());
    let http = site.v4(Tcp, 8080);
    site.direct("setport_weight --start-port=8000 --end-port=8099 --weight=1 --cluster");
    let _one = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
    site.await_pool(http, Some(&[(1, 1)]));
    let mut patron = Patron::new(site.cluster.client(), site.at(8080));
    assert_eq!(patron.ask().unwrap(), "one");
    site.direct("setport_weight --start-port=8000 --end-port=8099 --delete --cluster");
    site.await_pool(http, Some(&[(1, 0)]));
    assert_eq!(patron.ask().unwrap(), "one", "an open connection goes on");
    drop(patron);
    site.await_pool(http, None);
}

#[test]
fn the_nearer_flag_holds_and_its_deletion_uncovers_the_next() {
    let service = "<service><port>8080</port><weight>2</weight></service>";
    let site = Site::start(2, &Plan { services: service, ..Plan::default() });
    let http = site.v4(Tcp, 8080);
    let _one = listen(site.host(1), "0.0.0.0:8080");
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 2), (2, 2)]));
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=3 --cluster");
    site.await_pool(http, Some(&[(1, 3), (2, 3)]));
    site.run(1, "setport_weight --start-port=1 --end-port=65535 --weight=5");
    site.await_pool(http, Some(&[(1, 5), (2, 3)]));
    site.direct("setport_weight --start-port=8080 --end-port=8080 --delete --cluster");
    site.await_pool(http, Some(&[(1, 5), (2, 2)]));
    site.run(1, "setport_weight --start-port=1 --end-port=65535 --delete");
    site.await_pool(http, Some(&[(1, 2), (2, 2)]));
}

#[test]
fn an_sctp_listener_joins_and_leaves() {
    let loaded = std::process::Command::new("modprobe").args(["-a", "sctp", "sctp_diag"]).output();
    let loaded = loaded.expect("modprobe runs");
    assert!(loaded.status.success(), "this kernel has no SCTP: {}", shown(&loaded).1);
    let site = Site::start(2, &Plan::default());
    site.direct(
        "setport_weight --start-port=2905 --end-port=2905 --weight=1 --protocol=sctp --cluster",
    );
    let one = raw(site.host(1), "0.0.0.0:2905", With::Sctp);
    start_listening(&one, 8).unwrap();
    site.await_pool(site.v4(Sctp, 2905), Some(&[(1, 1)]));
    drop(one);
    site.await_pool(site.v4(Sctp, 2905), None);
}
