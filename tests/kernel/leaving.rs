//! A node leaves for good: `cvipctl leave`.

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;

use super::support::{PATIENCE, Server, Site, Visitor, connect};
use super::undone::{await_kernel, kernel_of};

#[test]
fn a_node_that_leaves_waits_for_its_connections_undoes_what_it_made_and_is_out() {
    let plan = Plan { ipv6: true, ..Plan::default() };
    let mut site = Site::stopped(2, &plan);
    let before = kernel_of(site.host(1));
    site.start_everywhere(&[]);
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _first = Server::tcp(site.host(1), "[::]:8080", "1");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    let connection = connect(site.cluster.client(), site.at(8080)).unwrap();
    let _second = Server::tcp(site.host(2), "[::]:8080", "2");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));

    let mut leaving = site.command(1, "cvipctl").args(["leave", "--within=5m"]).spawn().unwrap();
    // It listens, and gets no new connections; the one that stands is waited for.
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 0), (2, 1)]));
    assert!(leaving.try_wait().unwrap().is_none(), "it waits");
    drop(connection);
    let status = leaving.wait().unwrap();
    assert!(status.success(), "{status}");
    let ended = site.daemon(1).unwrap().wait(PATIENCE).unwrap();
    assert!(ended.success(), "its cvipd has ended: {ended}");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 1)]));
    await_kernel(&site, 1, &before);

    // Starting cvipd brings it back.
    site.take_daemon(1);
    site.start_on(&[1], &[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
}

#[test]
fn a_node_that_leaves_is_out_of_static_services_before_it_gives_its_cvip_back() {
    let service = "<service><port>8080</port><registration>static</registration></service>";
    let mut site = Site::start(2, &Plan { services: service, ..Plan::default() });
    let director = site.director();
    // The director is a real server of static services too.
    let _servers: Vec<Server> =
        site.numbers().map(|n| Server::tcp(site.host(n), "0.0.0.0:8080", n)).collect();
    let whole: Vec<(u32, u32)> = site.numbers().map(|number| (number, 1)).collect();
    site.await_pool(site.v4(Tcp, 8080), Some(&whole));
    let visitor = Visitor::start(site.cluster.client(), site.at(8080));
    site.run(1, "cvipctl leave --within=20s");
    assert!(site.daemon(1).unwrap().wait(PATIENCE).unwrap().success());
    let without: Vec<(u32, u32)> = whole.iter().copied().filter(|(n, _)| *n != 1).collect();
    site.await_pool(site.v4(Tcp, 8080), Some(&without));
    let before = visitor.fetches();
    site.until("clients are served", |_| (visitor.fetches() >= before + 20).then_some(()));
    assert_eq!(visitor.failures(), Vec::<String>::new());
    let status = site.run(director, "cvipctl status");
    assert!(
        status.lines().any(|line| line.trim_start().starts_with("1 ") && line.contains("left")),
        "{status}"
    );
    let record = site.record(1);
    assert!(record.leaving && record.registrations.is_empty());

    // Starting cvipd brings it back.
    site.take_daemon(1);
    site.start_on(&[1], &[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&whole));
}

#[test]
fn a_director_that_leaves_takes_its_services_with_it_and_nothing_else() {
    let mut site = Site::stopped(1, &Plan::default());
    let director = site.director();
    let before = kernel_of(site.host(director));
    site.start_everywhere(&[]);
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let by_hand = site.at(9000);
    site.direct(&format!("ipvsadm-rs -A -t {by_hand} -s rr"));
    let _server = Server::tcp(site.host(1), "0.0.0.0:8080", "1");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    site.run(director, "cvipctl leave");
    assert_eq!(site.pool(site.v4(Tcp, 8080)), None);
    assert!(site.pool(site.v4(Tcp, 9000)).is_some(), "it is somebody else's");
    site.direct(&format!("ipvsadm-rs -D -t {by_hand}"));
    await_kernel(&site, director, &before);
    site.take_daemon(director);
}
