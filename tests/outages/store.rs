//! etcd loses a server, its leader, its majority, its disk: nothing changes in the pool.

use std::time::Duration;

use cvip_lab::traffic::Outcome;

use super::support::{FIRST, SECOND, Site, all, all_but};

/// For how long the store is away.
const AWAY: Duration = Duration::from_secs(8);

#[test]
fn nothing_changes_while_etcd_fails_and_what_happened_is_caught_up_with() {
    let mut site = Site::start();
    let traffic = site.traffic(20.0);

    // Its leader is killed, and returns.
    let leader = site.etcd.leader().unwrap();
    site.etcd.kill(leader);
    // A registration finds its way by the other two.
    site.stop_serving(1);
    site.await_pool(FIRST, &all_but(1));
    site.serve(1);
    site.await_pool(FIRST, &all());
    site.etcd.start_member(leader).unwrap();
    site.etcd.wait_healthy().unwrap();

    // All of it is away.
    for number in site.etcd.numbers() {
        site.etcd.kill(number);
    }
    site.until("the directors say so", |site| {
        site.logged(FIRST).contains("cannot be reached").then_some(())
    });
    site.stays_as_it_is(AWAY);
    // A server ends in the meantime: its node's heartbeat says so, and that it is back, too. The
    // standby knows as well, for it may have to take over.
    site.stop_serving(2);
    site.await_pool(FIRST, &all_but(2));
    site.await_pool(SECOND, &all_but(2));
    site.serve(2);
    site.await_pool(FIRST, &all());
    // It ends once more, and the store is told when it returns.
    site.stop_serving(2);
    for number in site.etcd.numbers() {
        site.etcd.start_member(number).unwrap();
    }
    site.etcd.wait_healthy().unwrap();
    site.await_pool(FIRST, &all_but(2));
    site.await_pool(SECOND, &all_but(2));
    let report = traffic.stop();
    // Whoever came to a server that had just ended was refused.
    let others =
        |r: &&cvip_lab::traffic::Request| !matches!(r.outcome, Outcome::Refused | Outcome::Reset);
    assert_eq!(report.failures().into_iter().filter(others).count(), 0, "{report}");
    assert_eq!(site.carriers(), [FIRST]);
}

#[test]
fn a_full_disk_of_etcds_changes_nothing() {
    let mut site = Site::start();
    let traffic = site.traffic(20.0);
    let full: Vec<_> =
        site.etcd.numbers().map(|number| site.etcd.fill_disk(number).unwrap()).collect();
    site.stays_as_it_is(AWAY);
    drop(full);
    for number in site.etcd.numbers() {
        if !site.etcd.is_running(number) {
            site.etcd.start_member(number).unwrap();
        }
    }
    site.etcd.wait_healthy().unwrap();
    site.stop_serving(3);
    site.await_pool(FIRST, &all_but(3));
    let report = traffic.stop();
    assert_eq!(report.count(&Outcome::TimedOut), 0, "{report}");
}

#[test]
fn an_emptied_store_is_told_again_and_nobody_takes_over() {
    let site = Site::start();
    site.await_pool(SECOND, &all());
    let traffic = site.traffic(20.0);
    for _ in 0..2 {
        site.etcd.ctl(&["del", "--prefix", "/cvip/"]).unwrap();
        site.throughout(AWAY / 2, |site| assert_eq!(site.carriers(), [FIRST]));
        site.until("the store knows again", |site| {
            let status = site.status(SECOND);
            let alive = status["nodes"].as_array()?.iter().all(|row| row["alive"] == true);
            (alive && status["director_sets"][0]["active"] == FIRST).then_some(())
        });
        for director in [FIRST, SECOND] {
            site.await_pool(director, &all());
        }
    }
    let report = traffic.stop();
    assert!(report.failures().is_empty(), "{report}");
    // It has not forgotten how to hand over.
    let second = SECOND.to_string();
    site.run(SECOND, &["cvipctl", "takeover", "--node", &second]).unwrap();
    site.until("the second alone carries the CVIP", |site| {
        (site.carriers() == [SECOND]).then_some(())
    });
}
