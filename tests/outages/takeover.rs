//! The active director dies, freezes, or hands over.

use std::fs;
use std::time::Duration;

use cvip_lab::traffic::Outcome;
use nix::sys::signal::{Signal, kill};

use super::support::{FIRST, SECOND, Site, THIRD, all};

#[test]
fn a_standby_takes_over_from_a_director_whose_machine_dies_and_there_is_no_fail_back() {
    let mut site = Site::start();
    // A standby's table is there before it is needed.
    site.await_pool(SECOND, &all());
    let traffic = site.traffic(40.0);
    site.until("clients are served", |_| (traffic.ended() >= 20).then_some(()));
    site.power_off(FIRST).unwrap();
    site.until("the second carries the CVIP", |site| site.carries(SECOND));
    let served = traffic.ended();
    site.until("clients are served again", |_| (traffic.ended() >= served + 80).then_some(()));
    let report = traffic.stop();
    let refused = report.count(&Outcome::Refused) + report.count(&Outcome::Reset);
    assert_eq!(refused, 0, "with mh nobody is refused: {report}");
    let late = report.requests.last().unwrap();
    assert!(late.is_served(), "{report}");
    let took = |event: &cvip::daemon::LoggedEvent| {
        event.what.to_string().contains(&format!("took over from node {FIRST}"))
    };
    assert!(site.events(SECOND).iter().any(took), "{:?}", site.events(SECOND));
    let told = site.run(SECOND, &["cvipctl", "events", "--since=1h"]).unwrap();
    assert!(told.contains(&format!("node {SECOND}: took over from node {FIRST}")), "{told}");
    let second = SECOND.to_string();
    let shown = site.run(SECOND, &["cvipctl", "status", "--cluster", "--node", &second]).unwrap();
    assert!(shown.contains(&format!("{FIRST}, {SECOND}")) && !shown.contains("Conn/s"), "{shown}");

    site.power_on(FIRST).unwrap();
    site.restart(FIRST);
    site.until("the first is a standby", |site| {
        site.logged(FIRST).contains(&format!("node {FIRST}")).then_some(())?;
        site.await_pool(FIRST, &all());
        Some(())
    });
    assert_eq!(site.carriers(), [SECOND]);
}

/// The active director's cvipd does nothing any more, its kernel lives: its table goes on until the
/// address ends there; then, at the latest, another has it.
fn its_address_ends(disable: impl FnOnce(&mut Site), enable: impl FnOnce(&mut Site)) {
    let mut site = Site::start();
    let traffic = site.traffic(20.0);
    site.until("clients are served", |_| (traffic.ended() >= 10).then_some(()));
    disable(&mut site);
    site.until("the second alone carries the CVIP", |site| {
        (site.carriers() == [SECOND]).then_some(())
    });
    let served = traffic.ended();
    site.until("clients are served", |_| (traffic.ended() >= served + 20).then_some(()));
    let report = traffic.stop();
    assert!(report.requests.last().unwrap().is_served(), "{report}");
    // It returns, and finds that it was replaced.
    enable(&mut site);
    site.until("the first knows", |site| {
        let shown = site.status(FIRST);
        (shown["director_sets"][0]["active"] == SECOND).then_some(())
    });
    site.await_pool(FIRST, &all());
    assert_eq!(site.carriers(), [SECOND]);
}

#[test]
fn a_director_whose_cvipd_is_killed_loses_the_address() {
    its_address_ends(|site| site.kill_daemon(FIRST), |site| site.restart(FIRST));
}

#[test]
fn a_director_whose_cvipd_is_frozen_loses_the_address_and_does_not_take_it_back() {
    let signal =
        |signal| move |site: &mut Site| kill(site.daemon_pid(FIRST).unwrap(), signal).unwrap();
    its_address_ends(signal(Signal::SIGSTOP), signal(Signal::SIGCONT));
}

#[test]
fn a_planned_hand_over_and_restarts_everywhere_refuse_nobody() {
    let mut site = Site::start();
    site.await_pool(SECOND, &all());
    let traffic = site.traffic(40.0);
    site.until("clients are served", |_| (traffic.ended() >= 40).then_some(()));
    let second = SECOND.to_string();
    let shown = site.run(SECOND, &["cvipctl", "takeover", "--node", &second]).unwrap();
    assert_eq!(shown, format!("node {SECOND} is the active director\n"));
    site.until("the second alone carries the CVIP", |site| {
        (site.carriers() == [SECOND]).then_some(())
    });
    // An upgrade: each cvipd ends and starts again. The active director hands over by itself.
    for number in [SECOND, FIRST].into_iter().chain(all()) {
        kill(site.daemon_pid(number).unwrap(), Signal::SIGTERM).unwrap();
        let status = site.daemon(number).unwrap().wait(Duration::from_secs(30)).unwrap();
        assert!(status.success(), "node {number}: {status}");
        site.restart(number);
        site.until("it is back", |site| {
            let shown = site.status(number);
            let row = shown["nodes"].as_array()?.iter().find(|row| row["node"] == number)?;
            (row["alive"] == true).then_some(())
        });
    }
    let served = traffic.ended();
    site.until("clients are served", |_| (traffic.ended() >= served + 40).then_some(()));
    let report = traffic.stop();
    let refused = report.count(&Outcome::Refused) + report.count(&Outcome::TimedOut);
    assert_eq!(refused, 0, "{report}");
    site.await_pool(FIRST, &all());
    site.await_pool(SECOND, &all());
    assert_eq!(site.carriers().len(), 1);
}

#[test]
fn of_three_directors_the_next_in_order_takes_over_and_after_it_the_last() {
    let mut site = Site::start_with(3);
    for standby in [SECOND, THIRD] {
        site.await_pool(standby, &all());
    }
    let traffic = site.traffic(20.0);
    site.power_off(FIRST).unwrap();
    site.until("the second carries the CVIP", |site| site.carries(SECOND));
    // The first returns, and is the first in order: but there is no fail-back.
    site.power_on(FIRST).unwrap();
    site.restart(FIRST);
    site.await_pool(FIRST, &all());
    site.until("the first knows", |site| {
        (site.status(FIRST)["director_sets"][0]["active"] == SECOND).then_some(())
    });
    assert_eq!(site.carriers(), [SECOND]);

    // Two die at once: the last one in order is left.
    site.power_off(FIRST).unwrap();
    site.power_off(SECOND).unwrap();
    site.until("the third carries the CVIP", |site| site.carries(THIRD));
    let served = traffic.ended();
    site.until("clients are served again", |_| (traffic.ended() >= served + 40).then_some(()));
    let report = traffic.stop();
    let refused = report.count(&Outcome::Refused) + report.count(&Outcome::Reset);
    assert_eq!(refused, 0, "with mh nobody is refused: {report}");
    assert!(report.requests.last().unwrap().is_served(), "{report}");
    assert_eq!(site.pool(THIRD), all());
}

#[test]
fn one_that_cannot_carry_the_cvip_hands_over_and_where_nobody_can_nothing_changes() {
    let site = Site::start();
    // An interface to the clients apart from the one on which directors hear one another.
    let both = [FIRST, SECOND];
    let on = |director: u32, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        site.host(director).run(&words).unwrap();
    };
    for director in both {
        on(director, "ip link add out0 type veth peer name far0");
        on(director, "ip link set out0 up");
        on(director, "ip link set far0 up");
    }
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    fs::write(&path, conf.replace(">eth0</garp_interface>", ">out0</garp_interface>")).unwrap();
    for director in both {
        kill(site.daemon_pid(director).unwrap(), Signal::SIGHUP).unwrap();
    }
    let cvip = site.cvip(false);
    let carriers = || -> Vec<u32> {
        both.into_iter().filter(|director| site.host(*director).has_on("out0", cvip)).collect()
    };
    let alone = |director: u32| {
        let what = format!("director {director} alone carries the CVIP");
        site.until(&what, |_| (carriers() == [director]).then_some(()));
    };
    let told = |director: u32, what: &str| {
        let events = site.events(director);
        events.iter().filter(|event| event.what.to_string().contains(what)).count()
    };
    let await_told = |director: u32, what: &str, times: usize| {
        let waits = format!("director {director} tells {times} times: {what}");
        site.until(&waits, |_| (told(director, what) == times).then_some(()));
    };
    let again = "can be carried here again";
    alone(FIRST);

    on(FIRST, "ip link set far0 down");
    alone(SECOND);
    assert_eq!(told(FIRST, "out0 has no carrier"), 1, "{:?}", site.events(FIRST));
    let status = site.status(FIRST).to_string();
    assert!(status.contains("out0 has no carrier"), "{status}");
    on(FIRST, "ip link set far0 up");
    await_told(FIRST, again, 1);
    assert_eq!(carriers(), [SECOND], "there is no fail-back");

    on(FIRST, "ip link set far0 down");
    await_told(FIRST, "out0 has no carrier", 2);
    on(SECOND, "ip link set far0 down");
    await_told(SECOND, "out0 has no carrier", 1);
    site.throughout(Duration::from_secs(5), |_| assert_eq!(carriers(), [SECOND]));
    for director in both {
        on(director, "ip link set far0 up");
    }
    await_told(FIRST, again, 2);

    on(SECOND, "ip link del out0");
    alone(FIRST);
    assert_eq!(told(FIRST, "took over from"), 1, "{:?}", site.events(FIRST));
}
