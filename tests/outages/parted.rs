//! The active director is cut off: from the store only, from the other director and the nodes,
//! from all.

use std::time::{Duration, Instant};

use cvip_lab::{Direction, Fault, Network};

use super::support::{FIRST, SECOND, Site, all, all_but};

/// For how long nothing may change.
const CALM: Duration = Duration::from_secs(5);

/// Cuts a director off from every etcd server.
fn from_etcd(site: &Site, director: u32) -> Fault {
    let stores = site.cluster.stores().iter();
    Fault::all(stores.map(|store| {
        site.host(director).part_from(store, Network::Interconnect, Direction::Both).unwrap()
    }))
}

#[test]
fn a_director_that_has_lost_the_store_alone_stays_and_says_so() {
    let mut site = Site::start();
    let traffic = site.traffic(20.0);
    let fault = from_etcd(&site, FIRST);
    site.until("it says that the store is away", |site| {
        site.status(FIRST)["store_unavailable_s"].as_u64().map(drop)
    });
    site.stays_as_it_is(CALM);
    let report = traffic.stop();
    assert!(report.failures().is_empty(), "{report}");
    // What happens in the meantime is caught up with.
    site.stop_serving(1);
    fault.end().unwrap();
    site.await_pool(FIRST, &all_but(1));
    site.until("it says that the store is back", |site| {
        site.status(FIRST)["store_unavailable_s"].is_null().then_some(())
    });
}

#[test]
fn a_director_that_is_cut_off_from_all_is_replaced_and_yields_when_it_is_back() {
    let site = Site::start();
    site.await_pool(SECOND, &all());
    let cut = [Network::Public, Network::Interconnect]
        .map(|network| site.host(FIRST).silence(network, Direction::Both).unwrap());
    site.until("the second carries the CVIP", |site| site.carries(SECOND));
    // It suspects its own link, and keeps its table.
    assert_eq!(site.pool(FIRST), all());
    for fault in cut {
        fault.end().unwrap();
    }
    site.until("the second alone carries it", |site| (site.carriers() == [SECOND]).then_some(()));
    site.await_pool(SECOND, &all());
    site.await_pool(FIRST, &all());
}

#[test]
fn a_director_that_hears_no_node_suspects_itself_and_keeps_its_table() {
    let site = Site::start();
    // It is heard by all, and hears nobody.
    let fault = site.host(FIRST).silence(Network::Public, Direction::To).unwrap();
    site.until("it says so", |site| {
        site.logged(FIRST).contains("it may be this director's own link").then_some(())
    });
    site.stays_as_it_is(CALM);
    fault.end().unwrap();
    site.until("it hears them again", |site| {
        site.logged(FIRST).contains("nodes are heard again").then_some(())
    });
    site.await_pool(FIRST, &all());
}

/// The term of the set's election, as a director's node knows it.
fn term(site: &Site) -> serde_json::Value {
    site.status(SECOND)["director_sets"][0]["term"].clone()
}

/// What became of some seconds in which the directors did not hear one another: one of them alone carries
/// the CVIP at their end. True if it is the one that did before, and nobody was elected.
fn nobody_is_elected_while_parted(site: &Site, direction: Direction) -> bool {
    let (carrier, before) = (site.carriers()[0], term(site));
    let fault = site.host(FIRST).part_from(site.host(SECOND), Network::Public, direction).unwrap();
    // Each director is asked after the other: one that has yielded in between counts twice.
    let ends = Instant::now() + CALM;
    let mut is_calm = true;
    site.until("time has passed", |site| {
        is_calm &= site.carriers() == [carrier] && site.pool(carrier) == all();
        (Instant::now() >= ends).then_some(())
    });
    fault.end().unwrap();
    let one = site.until("one alone carries the CVIP", |site| {
        let carriers = site.carriers();
        let has_all = carriers.len() == 1 && site.pool(carriers[0]) == all();
        has_all.then_some(carriers[0])
    });
    let elected = term(site).as_u64().unwrap() - before.as_u64().unwrap();
    assert!(elected <= 1, "one election is held where the store is slow, and no more: {elected}");
    is_calm && elected == 0 && one == carrier
}

#[test]
fn directors_that_do_not_hear_one_another_elect_nobody_and_a_death_is_found_all_the_same() {
    let mut site = Site::start();
    site.await_pool(SECOND, &all());
    for direction in [Direction::Both, Direction::From, Direction::To] {
        // On a machine that is short of processors, vouching may come too late.
        let is_calm = (0..5).any(|_| nobody_is_elected_while_parted(&site, direction));
        assert!(is_calm, "an election each time that heartbeats are lost: {direction:?}");
    }
    let fault =
        site.host(FIRST).part_from(site.host(SECOND), Network::Public, Direction::Both).unwrap();
    let carrier = site.carriers()[0];
    site.power_off(carrier).unwrap();
    let other = if carrier == FIRST { SECOND } else { FIRST };
    site.until("the other carries the CVIP", |site| site.carries(other));
    drop(fault);
}

#[test]
fn a_director_that_yielded_to_another_host_while_the_store_is_away_stays_a_standby() {
    let mut site = Site::start();
    site.await_pool(SECOND, &all());
    let before = term(&site);
    for number in site.etcd.numbers() {
        site.etcd.kill(number);
    }
    let heard =
        site.host(FIRST).part_from(site.host(SECOND), Network::Public, Direction::Both).unwrap();
    let address = format!("{}/32", site.cvip(false));
    let address = |what: &str| {
        let address = ["ip", "addr", what, &address, "dev", "eth0"];
        site.cluster.client().stdout(&address).unwrap()
    };
    address("add");
    site.until("the first has yielded", |site| site.carries(FIRST).is_none().then_some(()));
    site.throughout(CALM, |site| assert_eq!(site.carries(FIRST), None, "it takes its term again"));
    address("del");
    heard.end().unwrap();
    for number in site.etcd.numbers() {
        site.etcd.start_member(number).unwrap();
    }
    site.etcd.wait_healthy().unwrap();
    site.until("one carries the CVIP", |site| (site.carriers().len() == 1).then_some(()));
    assert_ne!(term(&site), before, "it was elected anew");
}
