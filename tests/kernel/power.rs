//! Machines that lose their power and get it back: a new kernel, without addresses, settings and
//! table, on which cvipd makes everything anew.

use std::collections::BTreeSet;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;
use cvip_lab::traffic::{Outcome, Requests};

use super::support::{PATIENCE, Server, Site};

const WEB: &str = "<service><port>8080</port><scheduler>rr</scheduler></service>";

/// Two nodes that serve both families.
fn web_site() -> (Site, Vec<Server>) {
    let site = Site::start(2, &Plan { ipv6: true, services: WEB, ..Plan::default() });
    let servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number)).into();
    await_both(&site);
    (site, servers)
}

#[track_caller]
fn await_both(site: &Site) {
    for id in [site.v4(Tcp, 8080), site.v6(Tcp, 8080)] {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
    }
}

/// Every one of some requests is served, by both nodes.
#[track_caller]
fn both_serve(site: &Site) {
    for to in [site.at(8080), site.at6(8080)] {
        let requests = Requests { to, number: 20, per_second: 200.0, patience: PATIENCE };
        let report = requests.run(site.cluster.client());
        assert!(report.failures().is_empty(), "{to}: {report}");
        let served: BTreeSet<String> = report.by_server().into_keys().collect();
        assert_eq!(served, ["1".to_owned(), "2".to_owned()].into(), "{to}: {report}");
    }
}

#[test]
fn a_node_that_is_switched_on_again_serves_as_before() {
    let (mut site, mut servers) = web_site();
    both_serve(&site);
    site.power_off(1).unwrap();
    // Its processes are gone with it: this one's sockets are what they held.
    servers.remove(0);
    site.switch_on(1);
    let addresses = site.host(1).stdout(&["ip", "-br", "addr"]).unwrap();
    assert!(!addresses.contains(&site.cvip(false).to_string()), "{addresses}");
    site.start_on(&[1], &[]);
    servers.push(Server::tcp(site.host(1), "[::]:8080", 1));
    await_both(&site);
    both_serve(&site);
}

#[test]
fn a_director_that_is_switched_on_again_has_its_table_and_the_cvip_as_before() {
    let (mut site, _servers) = web_site();
    let (director, before) = (site.director(), site.rules());
    site.power_off(director).unwrap();
    let to = site.at(8080);
    let requests =
        Requests { to, number: 3, per_second: 100.0, patience: std::time::Duration::from_secs(1) };
    let report = requests.run(site.cluster.client());
    let nobody = |outcome: &Outcome| matches!(outcome, Outcome::TimedOut | Outcome::Failed(_));
    assert!(report.requests.iter().all(|request| nobody(&request.outcome)), "{report}");
    site.switch_on(director);
    assert_eq!(site.rules(), "");
    site.start_on(&[director], &[]);
    await_both(&site);
    let sorted = |rules: &str| rules.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    assert_eq!(sorted(&site.rules()), sorted(&before));
    both_serve(&site);
}
