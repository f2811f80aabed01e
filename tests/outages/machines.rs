//! Real servers and their machines die, freeze and come back.

use std::time::Duration;

use cvip_lab::traffic::Outcome;
use cvip_lab::{Direction, Network};
use nix::sys::signal::{Signal, kill};

use super::support::{FIRST, Site, all, all_but};

/// For how long nothing may change.
const CALM: Duration = Duration::from_secs(3);

#[test]
fn a_server_that_ends_and_a_machine_that_dies_are_out_and_a_machine_that_returns_is_in() {
    let mut site = Site::start();
    let traffic = site.traffic(40.0);

    // The server's process ends; its node lives.
    site.stop_serving(1);
    site.await_pool(FIRST, &all_but(1));
    site.serve(1);
    site.await_pool(FIRST, &all());
    let report = traffic.stop();
    let allowed = [Outcome::Refused, Outcome::Reset];
    let others = report.failures().into_iter().filter(|r| !allowed.contains(&r.outcome)).count();
    assert_eq!(others, 0, "{report}");

    // The machine is unplugged: no FIN, no bye.
    let unplugged = site.host(2).unplug(Network::Public).unwrap();
    let dark = site.host(2).unplug(Network::Interconnect).unwrap();
    site.await_pool(FIRST, &all_but(2));
    // From now on no client meets it.
    let report = {
        let traffic = site.traffic(40.0);
        site.until("clients were served", |_| (traffic.ended() >= 80).then_some(()));
        traffic.stop()
    };
    assert!(report.failures().is_empty(), "{report}");
    assert!(!report.by_server().contains_key("2"), "{report}");
    site.until("it is known to be dead", |site| {
        let is_dead =
            |event: &cvip::daemon::LoggedEvent| event.what.to_string().contains("node 2 is dead");
        site.events(FIRST).iter().any(is_dead).then_some(())
    });
    unplugged.end().unwrap();
    dark.end().unwrap();
    site.await_pool(FIRST, &all());
}

#[test]
fn a_node_whose_cvipd_is_frozen_keeps_serving_and_one_cut_off_comes_back_by_itself() {
    let site = Site::start();

    // Its cvipd stands still, its server does not: the machine answers, so do its servers.
    let pid = site.daemon_pid(1).unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    site.until("its silence is noticed", |site| {
        site.logged(FIRST).contains("node 1 is up but its cvipd sends no heartbeats").then_some(())
    });
    let traffic = site.traffic(40.0);
    site.throughout(CALM, |site| assert_eq!(site.pool(FIRST), all()));
    let report = traffic.stop();
    assert!(report.failures().is_empty(), "{report}");
    kill(pid, Signal::SIGCONT).unwrap();
    site.until("it is heard again", |site| {
        site.logged(FIRST).contains("node 1 is heard again").then_some(())
    });

    // Its network is cut, and returns.
    let cut = [Network::Public, Network::Interconnect]
        .map(|network| site.host(3).silence(network, Direction::Both).unwrap());
    site.await_pool(FIRST, &all_but(3));
    for fault in cut {
        fault.end().unwrap();
    }
    site.await_pool(FIRST, &all());
    assert_eq!(site.carriers(), [FIRST]);
}
