//! Whose a service is: what was made by hand on ports that nobody flags is never touched, what
//! stands on a flagged port is cvipd's.

use std::time::{Duration, Instant};

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::Plan;
use nix::sys::signal::Signal;

use cvip::daemon::EventReader;

use super::support::{Server, Site, fetch, listen};

const BOTH: Plan<'_> = Plan { routing: "DR", ipv4: true, ipv6: true, services: "" };

/// The rules of services that do not concern flagged ports.
fn by_hand(site: &Site) -> Vec<String> {
    let rules = site.rules();
    let flagged = |rule: &&str| [":8080 ", ":8081 "].iter().any(|port| rule.contains(port));
    rules.lines().filter(|rule| !flagged(rule)).map(str::to_owned).collect()
}

#[test]
fn services_made_by_hand_are_untouched_through_join_leave_restart_and_apply() {
    let mut site = Site::start(2, &BOTH);
    let (cvip, cvip6) = (site.cvip(false), site.cvip(true));
    let (one, two, six) = (site.host(1).v4(), site.host(2).v4(), site.host(1).v6());
    let service = |line: &str| site.direct(&format!("ipvsadm-rs {line}"));
    // On the CVIPs, on ports that nobody flags; on another address; by firewall mark.
    service(&format!("-A -t {cvip}:443 -s rr"));
    service(&format!("-a -t {cvip}:443 -r {one}:8443 -m -w 7 -x 100 -y 10"));
    service(&format!("-a -t {cvip}:443 -r {two} -i -w 0"));
    service(&format!("-A -u {cvip}:177 -s wlc"));
    service(&format!("-A -t [{cvip6}]:443 -s sh -p 60"));
    service(&format!("-a -t [{cvip6}]:443 -r [{six}]:443 -g"));
    service("-A -t 192.0.2.1:8079 -s wrr");
    service("-a -t 192.0.2.1:8079 -r 192.0.2.7:8079 -g");
    service("-A -f 9 -s wlc");
    service(&format!("-a -f 9 -r {one} -g -w 3"));
    service("-A -f 9 -6 -s wlc");
    let before = by_hand(&site);
    assert_eq!(before.len(), 11);

    site.direct("setport_weight --start-port=8080 --end-port=8081 --weight=1 --cluster");
    let listener = listen(site.host(1), "[::]:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    assert_eq!(by_hand(&site), before, "after a join");
    drop(listener);
    site.await_pool(site.v4(Tcp, 8080), None);
    assert_eq!(by_hand(&site), before, "after a leave");
    site.direct("cvipctl apply");
    assert_eq!(by_hand(&site), before, "after an apply");
    site.end_everywhere(Signal::SIGTERM);
    assert_eq!(by_hand(&site), before, "after an end");
    site.start_everywhere(&[]);
    site.direct("cvipctl apply");
    assert_eq!(by_hand(&site), before, "after a start");
    let director = site.director();
    site.signal(director, Signal::SIGHUP);
    site.await_log(director, "configuration read again");
    site.direct("cvipctl apply");
    assert_eq!(by_hand(&site), before, "after a reload");
    site.direct("setport_weight --start-port=8080 --end-port=8081 --delete --cluster");
    site.direct("cvipctl apply");
    assert_eq!(by_hand(&site), before, "after the flags went");
    let status = site.direct("cvipctl status");
    assert_eq!(status.matches("(not cvipd's)").count(), 6, "{status}");
}

#[test]
fn a_service_made_by_hand_is_adopted_once_its_port_is_flagged() {
    let site = Site::start(2, &Plan::default());
    let (at, http) = (site.at(8080), site.v4(Tcp, 8080));
    let _one = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
    // Node 2 does not listen; node 1 has another weight and the service another scheduler.
    site.direct(&format!("ipvsadm-rs -A -t {at} -s rr"));
    site.direct(&format!("ipvsadm-rs -a -t {at} -r {}:8080 -g -w 9", site.host(1).v4()));
    site.direct(&format!("ipvsadm-rs -a -t {at} -r {}:8080 -g -w 9", site.host(2).v4()));
    site.direct("cvipctl apply");
    assert_eq!(site.pool(http), Some(vec![(1, 9), (2, 9)]), "not flagged: not cvipd's");
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    site.await_pool(http, Some(&[(1, 1)]));
    assert!(site.rules().contains(&format!("-A -t {at} -s wlc")), "{}", site.rules());
    assert!(!site.direct("cvipctl status").contains("(not cvipd's)"));
    assert_eq!(fetch(site.cluster.client(), site.at(8080)).unwrap(), "one");
    // It is cvipd's now: it goes with its flag.
    site.direct("setport_weight --start-port=8080 --end-port=8080 --delete --cluster");
    site.await_pool(http, None);
}

#[test]
fn a_service_made_by_hand_that_nobody_serves_goes_once_its_port_is_flagged() {
    let site = Site::start(1, &Plan::default());
    let at = site.at(177);
    site.direct(&format!("ipvsadm-rs -A -u {at} -s wlc"));
    site.direct(&format!("ipvsadm-rs -a -u {at} -r {}:177 -g -w 1", site.host(1).v4()));
    site.direct(
        "setport_weight --start-port=177 --end-port=177 --weight=1 --protocol=udp --cluster",
    );
    site.await_pool(site.v4(Udp, 177), None);
}

#[test]
fn what_was_edited_by_hand_on_a_flagged_port_is_mended_by_apply() {
    let site = Site::start(2, &Plan::default());
    let (at, http) = (site.at(8080), site.v4(Tcp, 8080));
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=2 --cluster");
    let _one = listen(site.host(1), "0.0.0.0:8080");
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 2), (2, 2)]));
    let right = site.rules();
    let (one, two) = (site.host(1).v4(), site.host(2).v4());
    // cvipd repairs the edits within a second: on a slow machine before apply has seen them.
    site.until("apply says what it puts right", |site| {
        site.direct(&format!("ipvsadm-rs -e -t {at} -r {one}:8080 -g -w 99"));
        site.direct(&format!("ipvsadm-rs -d -t {at} -r {two}:8080"));
        site.direct(&format!("ipvsadm-rs -E -t {at} -s rr -p 60"));
        let applied = site.direct("cvipctl apply");
        assert_eq!(site.rules(), right, "{applied}");
        (applied.lines().count() == 3).then_some(())
    });
    site.direct(&format!("ipvsadm-rs -D -t {at}"));
    site.direct("cvipctl apply");
    assert_eq!(site.rules(), right);
    // A flushed table, too.
    site.direct("ipvsadm-rs -C");
    site.direct("cvipctl apply");
    assert_eq!(site.rules(), right);
}

#[test]
fn what_was_edited_by_hand_is_mended_by_the_next_change_of_the_same_service() {
    let site = Site::start(2, &Plan::default());
    let (at, http) = (site.at(8080), site.v4(Tcp, 8080));
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=2 --cluster");
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 2)]));
    site.direct(&format!("ipvsadm-rs -e -t {at} -r {}:8080 -g -w 99", site.host(1).v4()));
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 2), (2, 2)]));
}

/// How often a director's table was repaired, by its events: the sentences.
fn repairs(site: &Site) -> Vec<String> {
    let (mut reader, mut events) = EventReader::open(&site.run_dir(), site.director());
    events.extend(reader.read());
    let sentences = events.iter().map(|event| event.what.to_string());
    sentences.filter(|text| text.starts_with("another program changed")).collect()
}

#[test]
fn a_flushed_table_and_a_hand_edit_are_repaired_soon_and_each_is_one_event() {
    let site = Site::start(2, &Plan::default());
    site.direct("setport_weight --start-port=8000 --end-port=8099 --weight=1 --cluster");
    let ports: Vec<u16> = (8000..8020).collect();
    let _all: Vec<_> = ports.iter().map(|p| listen(site.host(1), format!("0.0.0.0:{p}"))).collect();
    let _one = listen(site.host(2), "0.0.0.0:8000");
    let pools = |site: &Site| {
        for port in &ports {
            let whole: &[(u32, u32)] = if *port == 8000 { &[(1, 1), (2, 1)] } else { &[(1, 1)] };
            site.await_pool(site.v4(Tcp, *port), Some(whole));
        }
    };
    pools(&site);
    assert_eq!(repairs(&site), Vec::<String>::new());

    site.direct("ipvsadm-rs -C");
    let started = Instant::now();
    pools(&site);
    // A second, and much patience with an emulated kernel; the full pass comes once a minute.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let told = site
        .until("the repair is told", |site| Some(repairs(site)).filter(|told| !told.is_empty()));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("20 services put back, 21 destinations put back"), "{told:?}");

    let (at, one, two) = (site.at(8000), site.host(1).v4(), site.host(2).v4());
    site.direct(&format!("ipvsadm-rs -d -t {at} -r {one}:8000"));
    site.direct(&format!("ipvsadm-rs -e -t {at} -r {two}:8000 -g -w 0"));
    let started = Instant::now();
    pools(&site);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    site.until("the repair is told", |site| (repairs(site).len() > 1).then_some(()));
}
