//! cvipd ends and starts: the table, the addresses and the traffic do not notice. What changed
//! while it was away is found out at the next start.

use std::time::{Duration, Instant};

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::Plan;
use nix::sys::signal::Signal;

use super::support::{Patron, Server, Site, Visitor, ask_udp, bind_udp_as, listen, shown};

/// For how long nothing may change while no cvipd runs.
const AWAY: Duration = Duration::from_secs(3);

/// Two nodes with web servers and a name server, and a service made by hand.
fn in_service() -> (Site, Vec<Server>) {
    let site = Site::start(2, &Plan { ipv6: true, ..Plan::default() });
    site.direct("setport_weight --start-port=8000 --end-port=8099 --weight=1 --cluster");
    site.direct("setport_weight --start-port=53 --end-port=53 --weight=1 --protocol=udp --cluster");
    site.run(2, "setport_weight --start-port=8080 --end-port=8080 --weight=3");
    let by_hand = site.at(9000);
    site.direct(&format!("ipvsadm-rs -A -t {by_hand} -s rr -p 60"));
    site.direct(&format!("ipvsadm-rs -a -t {by_hand} -r {}:9000 -g -w 7", site.host(1).v4()));
    let mut servers = Vec::new();
    for number in [1, 2] {
        servers.push(Server::tcp(site.host(number), "[::]:8080", number));
        servers.push(Server::udp(site.host(number), site.at(53), number));
    }
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 3)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 1), (2, 3)]));
    site.await_pool(site.v4(Udp, 53), Some(&[(1, 1), (2, 1)]));
    (site, servers)
}

/// Every cvipd ends, is away for a while, and starts again: the table stays as it is, to the
/// byte, no client fails, and the new ones find nothing to change.
fn nobody_notices(signal: Signal) {
    let (mut site, _servers) = in_service();
    let before = site.rules();
    let addresses = |site: &Site| -> Vec<String> {
        let show = |n| site.host(n).stdout(&["ip", "-br", "addr"]).unwrap();
        site.numbers().map(show).collect()
    };
    let carried = addresses(&site);
    let visitor = Visitor::start(site.cluster.client(), site.at(8080));
    let mut patron = Patron::new(site.cluster.client(), site.at(8080));
    let served_by = patron.ask().unwrap();

    site.end_everywhere(signal);
    let away = Instant::now();
    while away.elapsed() < AWAY {
        assert_eq!(site.rules(), before);
        ask_udp(site.cluster.client(), site.at(53)).unwrap();
    }
    assert_eq!(addresses(&site), carried);

    let changes = site.changes();
    site.start_everywhere(&[]);
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    assert_eq!(site.rules(), before);
    assert_eq!(site.changes(), changes, "the new director changed something");
    assert_eq!(addresses(&site), carried);
    let served = visitor.fetches();
    assert!(served > 20, "too few fetches to tell anything");
    site.until("the client goes on", |_| (visitor.fetches() > served + 5).then_some(()));
    assert_eq!(visitor.failures(), Vec::<String>::new());
    assert_eq!(patron.ask().unwrap(), served_by, "an open connection is still the same");
}

mod on_stock {
    use super::*;

    #[test]
    fn when_every_cvipd_is_killed_and_started_again_nobody_notices() {
        nobody_notices(Signal::SIGKILL);
    }
}

#[test]
fn when_every_cvipd_is_told_to_end_and_started_again_nobody_notices() {
    nobody_notices(Signal::SIGTERM);
}

#[test]
fn a_weight_of_0_that_no_drain_explains_is_restored_at_start() {
    let (mut site, _servers) = in_service();
    let director = site.director();
    site.kill_daemon(director);
    let (service, server) = (site.at(8080), site.host(1).v4());
    site.direct(&format!("ipvsadm-rs -e -t {service} -r {server}:8080 -g -w 0"));
    assert_eq!(site.pool(site.v4(Tcp, 8080)), Some(vec![(1, 0), (2, 3)]));
    site.start_on(&[director], &[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 3)]));
}

#[test]
fn a_drain_that_a_restart_interrupts_goes_on() {
    let (mut site, mut servers) = in_service();
    let http = site.v4(Tcp, 8080);
    // Of two patrons one is served by node 2 (weight 3), whose servers are the last two.
    let mut patrons: Vec<Patron> =
        (0..8).map(|_| Patron::new(site.cluster.client(), site.at(8080))).collect();
    patrons.retain_mut(|patron| patron.ask().unwrap() == "2");
    assert!(!patrons.is_empty(), "nobody was served by node 2");
    servers.truncate(2);
    site.await_pool(http, Some(&[(1, 1), (2, 0)]));
    let director = site.director();
    site.kill_daemon(director);
    site.start_on(&[director], &[]);
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    assert_eq!(site.pool(http), Some(vec![(1, 1), (2, 0)]));
    for patron in &mut patrons {
        assert_eq!(patron.ask().unwrap(), "2");
    }
    drop(patrons);
    site.await_pool(http, Some(&[(1, 1)]));
}

#[test]
fn a_server_that_died_while_its_cvipd_was_away_is_found_out_at_the_next_start() {
    let (mut site, mut servers) = in_service();
    site.kill_daemon(1);
    // Node 1's servers are the first two. The director asks them, since nobody tells of them.
    servers.drain(..2);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 0), (2, 3)]));
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    assert_eq!(site.pool(site.v4(Udp, 53)), Some(vec![(1, 1), (2, 1)]), "UDP tells nothing");
    site.start_on(&[1], &[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 3)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(2, 3)]));
    site.await_pool(site.v4(Udp, 53), Some(&[(2, 1)]));
}

#[test]
fn a_server_that_came_while_its_cvipd_was_away_joins_at_the_next_start() {
    let (mut site, _servers) = in_service();
    site.kill_daemon(1);
    let _late = listen(site.host(1), "0.0.0.0:8090");
    site.start_on(&[1], &[]);
    site.await_pool(site.v4(Tcp, 8090), Some(&[(1, 1)]));
}

#[test]
fn a_server_that_died_while_every_cvipd_was_away_is_found_out_at_the_next_start() {
    let (mut site, mut servers) = in_service();
    site.end_everywhere(Signal::SIGKILL);
    servers.drain(..2);
    site.start_everywhere(&[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 3)]));
    site.await_pool(site.v4(Udp, 53), Some(&[(2, 1)]));
    drop(servers);
    site.await_pool(site.v4(Tcp, 8080), None);
    site.await_pool(site.v6(Tcp, 8080), None);
    site.await_pool(site.v4(Udp, 53), None);
}

#[test]
fn a_flag_that_was_set_while_a_cvipd_was_away_is_honoured_when_it_starts() {
    let mut site = Site::start(2, &Plan::default());
    site.kill_daemon(1);
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=4 --cluster");
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 4)]));
    site.start_on(&[1], &[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 4), (2, 4)]));
}

#[test]
fn a_director_that_comes_last_finds_the_nodes_that_serve() {
    let mut site = Site::stopped(2, &Plan::default());
    site.start_on(&[1, 2], &[]);
    let director = site.director();
    site.run(1, "setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_log(1, "node 1 serves");
    assert_eq!(site.pool(site.v4(Tcp, 8080)), None);
    site.start_on(&[director], &[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
}

/// The port of heartbeats is any user's while no cvipd runs.
#[test]
fn a_director_whose_port_of_heartbeats_somebody_has_serves_and_says_whose_it_is() {
    let mut site = Site::stopped(2, &Plan::default());
    let director = site.director();
    let taken = bind_udp_as(site.cluster.director(), 4711, "0.0.0.0:8849");
    site.start_everywhere(&[]);
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let one = listen(site.host(1), "0.0.0.0:8080");
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    drop(one);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 1)]));
    site.await_log(director, ":8849 is taken by ");
    let problem = "no heartbeats are heard there";
    let says = |site: &Site, command: &str| shown(&site.try_run(site.director(), command));
    // A long line goes on on the next one.
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (out, _) = says(&site, "cvipctl status");
    assert!(words(out).contains(problem));
    let (out, err) = says(&site, "cvipctl doctor");
    assert!((out + &err).contains(problem));
    drop(taken);
    site.await_log(director, "heartbeats are heard on ports that another program had");
    site.until("nothing is said of it any more", |site| {
        let (out, _) = says(site, "cvipctl status");
        (!words(out).contains(problem)).then_some(())
    });
}
