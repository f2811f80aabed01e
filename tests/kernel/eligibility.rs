//! Who may join: listeners that cluster traffic can reach, of owners who may serve. Who may not
//! is shown with the reason, and on the director never reached past the rules.

use std::io::ErrorKind;

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::{Person, Plan, Process};
use nix::unistd::User;

use super::support::{
    Server, Site, With, ask_udp, bind_udp, bind_udp_as, connect, fetch, listen, listen_as, raw,
    start_listening,
};

/// A user id of a person that has no name here.
const SOMEBODY: u32 = 1234;

fn flagged() -> Site {
    let site = Site::start(1, &Plan { ipv6: true, ..Plan::default() });
    site.direct("setport_weight --start-port=8000 --end-port=8099 --weight=1 --cluster");
    site
}

/// Waits until `cvipctl status` says why a port of a node does not join.
#[track_caller]
fn await_refusal(site: &Site, number: u32, port: u16, reason: &str) {
    site.until(&format!("node {number} refuses port {port}"), |site| {
        let found = site.refusals(number);
        found.iter().any(|(of, why)| *of == port && why.contains(reason)).then_some(())
    });
    let status = site.direct("cvipctl status");
    let at = status.find(&format!(":{port}\n")).unwrap_or_else(|| panic!("not shown:\n{status}"));
    let block = status[at..].split("\n\n").next().unwrap_or_default();
    // A reason goes on on the next line.
    let words = block.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = words.split("does not join: ").nth(1);
    assert!(told.is_some_and(|told| told.contains(reason)), "not shown:\n{status}");
}

#[test]
fn a_loopback_listener_never_joins_and_status_says_why() {
    let site = flagged();
    let _four = listen(site.host(1), "127.0.0.1:8080");
    let _six = listen(site.host(1), "[::1]:8081");
    await_refusal(&site, 1, 8080, "bound to loopback");
    await_refusal(&site, 1, 8081, "bound to loopback");
    // A wildcard listener beside it does.
    let _any = listen(site.host(1), "0.0.0.0:8082");
    site.await_pool(site.v4(Tcp, 8082), Some(&[(1, 1)]));
    assert_eq!(site.pools().len(), 1, "{:?}", site.pools());
}

#[test]
fn a_listener_on_the_cvip_joins_and_one_on_the_nodes_own_address_does_not() {
    let site = flagged();
    let own = site.host(1).v4();
    let _own = listen(site.host(1), format!("{own}:8080"));
    await_refusal(&site, 1, 8080, "neither the wildcard nor");
    let _cvip = listen(site.host(1), site.at(8081));
    site.await_pool(site.v4(Tcp, 8081), Some(&[(1, 1)]));
    let _cvip6 = listen(site.host(1), site.at6(8082));
    site.await_pool(site.v6(Tcp, 8082), Some(&[(1, 1)]));
    assert_eq!(site.pools().len(), 2, "{:?}", site.pools());
}

#[test]
fn a_dual_stack_listener_counts_for_ipv4_unless_it_is_v6_only() {
    let site = flagged();
    let _dual = listen(site.host(1), "[::]:8080");
    let v6only = raw(site.host(1), "[::]:8081", With::V6Only);
    start_listening(&v6only, 8).unwrap();
    let _four = listen(site.host(1), "0.0.0.0:8082");
    site.await_pool(site.v4(Tcp, 8082), Some(&[(1, 1)]));
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1)]));
    site.await_pool(site.v6(Tcp, 8081), Some(&[(1, 1)]));
    assert_eq!(site.pool(site.v4(Tcp, 8081)), None);
    assert_eq!(site.pool(site.v6(Tcp, 8082)), None);
}

#[test]
fn another_users_listener_is_refused_until_its_port_is_anyones() {
    let site = flagged();
    let http = site.v4(Tcp, 8080);
    let _somebody = listen_as(site.host(1), SOMEBODY, "0.0.0.0:8080");
    await_refusal(&site, 1, 8080, &format!("user id {SOMEBODY} may not serve"));
    assert_eq!(site.pool(http), None);
    let services = "<service><port>8080</port><owner>*</owner></service>";
    site.write_conf(&Plan { ipv6: true, services, ..Plan::default() }).unwrap();
    site.reload_everywhere();
    site.await_pool(http, Some(&[(1, 1)]));
}

#[test]
fn a_real_second_users_server_joins_only_where_the_file_names_him() {
    let site = flagged();
    let (carol, dave) = (Person::new("carol", 1101).unwrap(), Person::new("dave", 1102).unwrap());
    let serve = |who: &Person, port: u16| {
        let mut server = site.host(1).command_as(who, "nc");
        Process::spawn({
            server.args(["-l", "-k", &port.to_string()]);
            server
        })
        .unwrap()
    };
    let _hers = [serve(&carol, 8080), serve(&carol, 8081)];
    let _his = serve(&dave, 8082);
    for (port, who) in [(8080, "carol"), (8081, "carol"), (8082, "dave")] {
        await_refusal(&site, 1, port, &format!("user {who} may not serve"));
    }
    let services = "<service><port>8080</port><owner>carol</owner></service>\
        <service><port>8082</port><owner>carol</owner><owner>root</owner></service>";
    site.write_conf(&Plan { ipv6: true, services, ..Plan::default() }).unwrap();
    site.reload_everywhere();
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    // Her other port is still nobody's to serve, and so is his where she is named.
    await_refusal(&site, 1, 8081, "user carol may not serve");
    await_refusal(&site, 1, 8082, "user dave may not serve");
    let _root = Server::tcp(site.host(2), "0.0.0.0:8082", "root");
    site.await_pool(site.v4(Tcp, 8082), Some(&[(2, 1)]));
    assert_eq!(site.pools().len(), 2, "{:?}", site.pools());
}

#[test]
fn a_system_accounts_listener_joins_as_roots_does() {
    let account = User::from_name("nobody").unwrap().expect("every system has nobody");
    let site = flagged();
    let _nobody = listen_as(site.host(1), account.uid.as_raw(), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    let _low = listen_as(site.host(1), 1, "0.0.0.0:8081");
    site.await_pool(site.v4(Tcp, 8081), Some(&[(1, 1)]));
}

#[test]
fn a_refused_listener_on_the_director_is_shielded_by_a_service_without_destinations() {
    let site = flagged();
    let director = site.cluster.director();
    let client = site.cluster.client();
    let rogue = Server::over(listen_as(director, SOMEBODY, "[::]:8080"), "rogue");
    // IPVS answers port-unreachable, which a client sees as a refused connection.
    site.await_pool(site.v4(Tcp, 8080), Some(&[]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[]));
    for addr in [site.at(8080), site.at6(8080)] {
        let error = connect(client, addr).expect_err("the rogue was reached");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{addr}: {error}");
    }
    // The director's own address is not the cluster's: there it can be reached.
    let own = (director.v4(), 8080).into();
    assert_eq!(fetch(client, own).unwrap(), "rogue");
    // With a node that serves, clients are the node's alone.
    let one = Server::tcp(site.host(1), "[::]:8080", "one");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    for _ in 0..8 {
        assert_eq!(fetch(client, site.at(8080)).unwrap(), "one");
    }
    drop(one);
    site.await_pool(site.v4(Tcp, 8080), Some(&[]));
    drop(rogue);
    site.await_pool(site.v4(Tcp, 8080), None);
    site.await_pool(site.v6(Tcp, 8080), None);
}

#[test]
fn a_udp_port_that_the_kernel_hands_to_clients_joins_only_if_it_is_flagged_by_itself() {
    let site = Site::start(1, &Plan::default());
    site.direct(
        "setport_weight --start-port=1 --end-port=65535 --weight=1 --protocol=udp --cluster",
    );
    let host = site.host(1);
    let range = host.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range"));
    let range = range.unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let low = first - 1;
    let _low = bind_udp(host, format!("0.0.0.0:{low}"));
    let _server = Server::udp(host, format!("0.0.0.0:{first}"), "server");
    site.await_pool(site.v4(Udp, low), Some(&[(1, 1)]));
    await_refusal(&site, 1, first, "only if it is flagged by itself");
    assert_eq!(site.pool(site.v4(Udp, first)), None);
    site.direct(&format!(
        "setport_weight --start-port={first} --end-port={first} --weight=2 --protocol=udp --cluster"
    ));
    site.await_pool(site.v4(Udp, first), Some(&[(1, 2)]));
    let connected = bind_udp(host, "0.0.0.0:177");
    site.await_pool(site.v4(Udp, 177), Some(&[(1, 1)]));
    // A connected socket has one peer: it serves nobody else.
    host.enter(|| connected.connect("127.0.0.1:9")).unwrap();
    site.await_pool(site.v4(Udp, 177), None);
}

#[test]
fn a_refused_udp_socket_on_the_director_is_shielded_too() {
    let site = Site::start(1, &Plan::default());
    site.direct(
        "setport_weight --start-port=177 --end-port=177 --weight=1 --protocol=udp --cluster",
    );
    let _rogue = bind_udp_as(site.cluster.director(), SOMEBODY, "0.0.0.0:177");
    site.await_pool(site.v4(Udp, 177), Some(&[]));
    let error = ask_udp(site.cluster.client(), site.at(177)).expect_err("the rogue was reached");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}
