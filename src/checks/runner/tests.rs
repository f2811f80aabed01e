use std::net::{SocketAddr, TcpListener};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::*;
use crate::checks::Check;
use crate::checks::probe::test_support::{closed_tcp_port, open_tcp_port};
use crate::checks::settings::{CheckProgram, Exec, Http, Kind, Period};
use crate::protocol::Protocol;

const LONG: Duration = Duration::from_secs(60);

fn target(addr: SocketAddr, kind: Kind, timeout: Duration) -> CheckTarget {
    let mut check = Check::new(kind);
    check.interval = "0.02".parse().unwrap();
    check.timeout = Period::new(timeout).unwrap();
    CheckTarget { addr, protocol: Protocol::Tcp, device: None, check }
}

fn checker(targets: impl IntoIterator<Item = (u32, CheckTarget)>) -> Checker<u32> {
    let now = Instant::now();
    let mut checker = Checker::new(1, now).unwrap();
    checker.set_targets(targets.into_iter().collect(), now);
    checker
}

/// Polls and steps as an agent does until it is so; how many steps said that something changed.
fn drive(checker: &mut Checker<u32>, until: impl Fn(&Checker<u32>) -> bool) -> usize {
    let deadline = Instant::now() + LONG;
    let mut changes = 0;
    loop {
        changes += usize::from(checker.step(Instant::now()));
        if until(checker) {
            return changes;
        }
        assert!(Instant::now() < deadline, "it did not come");
        let mut fds = [PollFd::new(checker.fd(), PollFlags::POLLIN)];
        let timeout = checker.timeout(Instant::now()).min(LONG);
        ppoll(&mut fds, Some(TimeSpec::from(timeout)), None).unwrap();
    }
}

fn state(checker: &Checker<u32>, key: u32) -> HealthState {
    checker.health(&key).unwrap().state()
}

#[test]
fn a_server_that_comes_and_goes_is_fit_and_unhealthy_and_each_change_is_told_once() {
    let (_reserved, addr) = closed_tcp_port("::1".parse().unwrap());
    let listener = open_tcp_port(addr);
    let mut checker = checker([(1, target(addr, Kind::Tcp, LONG))]);
    assert_eq!(state(&checker, 1), HealthState::Unknown);
    let successes = |count| move |c: &Checker<u32>| c.health(&1).unwrap().successes() >= count;
    assert_eq!(drive(&mut checker, successes(5)), 1);
    drop(listener);
    let failures = |c: &Checker<u32>| c.health(&1).unwrap().failures() >= 6;
    assert_eq!(drive(&mut checker, failures), 1);
    assert_eq!(state(&checker, 1), HealthState::Unhealthy);
    let text = checker.health(&1).unwrap().to_string();
    assert_eq!(text, "failed 6 times: connect: Connection refused");
    let _listener = open_tcp_port(addr);
    assert_eq!(drive(&mut checker, successes(4)), 1);
    assert_eq!(state(&checker, 1), HealthState::Healthy);
    assert_eq!(checker.health(&2), None);
    assert_eq!(checker.iter().count(), 1);
}

#[test]
fn servers_that_hang_do_not_keep_the_others_waiting() {
    // No server answers: each run takes its whole time.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = target(silent.local_addr().unwrap(), Kind::Http(Http::new(false)), LONG / 2);
    let serves = target(good.local_addr().unwrap(), Kind::Tcp, LONG / 2);
    let all = (0..20).map(|key| (key, hangs.clone())).chain([(99, serves)]);
    let mut checker = checker(all);
    drive(&mut checker, |c| c.health(&99).unwrap().successes() >= 20);
    assert!((0..20).all(|key| state(&checker, key) == HealthState::Unknown));
    drop(checker);
}

#[test]
fn every_kind_of_check_runs_beside_the_others() {
    let program = CheckProgram::new(vec!["/bin/true".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let soon = Duration::from_millis(100);
    let mut checker = checker([
        (1, target(addr, Kind::Tcp, LONG)),
        (2, target(addr, Kind::by_name("http").unwrap(), soon)),
        (3, target(addr, Kind::by_name("https").unwrap(), soon)),
        (4, target(addr, Kind::by_name("dns").unwrap(), soon)),
        (5, target(addr, Kind::Exec(Exec::new(program)), LONG)),
    ]);
    drive(&mut checker, |c| c.iter().all(|(_, _, health)| health.checked().is_some()));
    let healthy: Vec<HealthState> = checker.iter().map(|(_, _, health)| health.state()).collect();
    assert_eq!(
        healthy,
        [
            HealthState::Healthy,
            HealthState::Unhealthy,
            HealthState::Unhealthy,
            HealthState::Unhealthy,
            HealthState::Healthy
        ]
    );
}

#[test]
fn without_targets_there_is_nothing_to_do() {
    let mut checker = checker([]);
    assert!(!checker.step(Instant::now()));
    assert_eq!(checker.timeout(Instant::now()), IDLE);
}
