//! Sequences of inputs, each with the actions that it leads to: roles, workers and hooks.

use super::scene::*;
use super::*;

#[test]
fn a_real_server_registers_once_its_addresses_stand_and_is_ready_then() {
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (0, SupervisorInput::Time, ""),
        (0, SupervisorInput::Vouch(1), ""),
        (9000, stand(1), "start node"),
        (9000, stand(1), ""),
        (9000, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {}, ready"),
        (9001, SupervisorInput::Addresses(AddressNotice::Carries(false)), ""),
    ]);
    assert_eq!(run.supervisor.roles(), ["real server"]);
}

#[test]
fn a_director_takes_over_with_its_table_made_and_yields_with_its_address_given_back() {
    let mut run = passive();
    assert_eq!(run.supervisor.roles(), ["standby", "real server"]);
    run.steps([
        (10, elected(1), "table: active"),
        (10, SupervisorInput::TableTold(Ok(())), ""),
        // Of the role before.
        (11, made(false, false), ""),
        (12, made(true, false), "addresses: ActiveDirector 2"),
        (12, SupervisorInput::Vouch(7), "node: vouch 7"),
        (13, stand(2), "node: direct true, node: obey {}"),
        (13, announced(1), "monitor: announced 1, hooks: active 2"),
        (20, standby(), "addresses: Yielding 3"),
        (21, stand(3), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (21, SupervisorInput::TableTold(Ok(())), ""),
        (22, made(false, true), ""),
        (2019, SupervisorInput::Time, ""),
        (2020, SupervisorInput::Time, "addresses: Standby 4"),
        (2021, stand(4), "table: standby, node: direct false, node: obey {}"),
    ]);
}

#[test]
fn an_elected_director_carries_the_address_though_its_table_is_not_made_in_time() {
    let mut run = passive();
    run.steps([(10, elected(1), "table: active"), (10, SupervisorInput::TableTold(Ok(())), "")]);
    assert_eq!(run.due(10), Some(510));
    run.steps([
        (509, SupervisorInput::Time, ""),
        (510, SupervisorInput::Time, "addresses: ActiveDirector 2"),
        // It is made after all.
        (800, made(true, false), ""),
    ]);
}

#[test]
fn a_director_that_did_not_run_while_its_table_was_made_is_confirmed_before_it_carries_anything() {
    // What comes first when it runs again: time, the table, or something else.
    let late: [(SupervisorInput, &str); 3] = [
        (SupervisorInput::Time, "monitor: confirm"),
        (made(true, false), "monitor: confirm"),
        (SupervisorInput::Vouch(1), "monitor: confirm, node: vouch 1"),
    ];
    for (input, expected) in late {
        let mut run = passive();
        run.steps([
            (10, elected(1), "table: active"),
            (10, SupervisorInput::TableTold(Ok(())), ""),
            (1010, input, expected),
            (1011, SupervisorInput::Time, ""),
            (1020, standby(), "addresses: Standby 2"),
        ]);
    }
    // It is elected still.
    let mut run = passive();
    run.steps([
        (10, elected(1), "table: active"),
        (10, SupervisorInput::TableTold(Ok(())), ""),
        (1010, made(true, false), "monitor: confirm"),
        (1020, elected(1), "table: active"),
        (1020, SupervisorInput::TableTold(Ok(())), ""),
        (1021, made(true, false), "addresses: ActiveDirector 2"),
    ]);
}

#[test]
fn a_director_whose_table_is_never_made_is_ready_and_carries_the_address() {
    let mut run = Run::new(both(), "ready");
    run.steps([
        (0, elected(1), "table: active"),
        (0, SupervisorInput::TableTold(Ok(())), ""),
        (500, SupervisorInput::Time, "addresses: ActiveDirector 1"),
        (501, stand(1), "start node"),
        (501, SupervisorInput::NodeStarted(Ok(())), "node: direct true, node: obey {}"),
    ]);
    assert_eq!(run.supervisor.roles(), ["director", "real server"]);
}

#[test]
fn a_worker_that_cannot_be_started_or_ends_ends_cvipd() {
    let died = "exit: the table's thread has ended unexpectedly, or cannot be started; the table \
                stays as it is: start cvipd again";
    active().steps([(10, SupervisorInput::WorkerEnded("table"), died)]);
    let failed = || Err(RunError::System("no thread", std::io::ErrorKind::OutOfMemory.into()));
    let mut run = Run::new(both(), "ready");
    run.steps([
        (0, elected(1), "table: active"),
        (0, SupervisorInput::TableTold(failed()), "exit: no thread: out of memory"),
    ]);
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (0, stand(1), "start node"),
        (0, SupervisorInput::NodeStarted(failed()), "exit: no thread: out of memory"),
    ]);
}

#[test]
fn a_node_whose_addresses_are_never_reported_serves_nothing_and_ends_when_told() {
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (60_000, SupervisorInput::Time, ""),
        (
            60_000,
            SupervisorInput::Leave(seconds(1)),
            "answer: it was just started, and does not know this node's role yet: try again",
        ),
        (60_000, SupervisorInput::Terminate, "exit"),
    ]);
}

#[test]
fn an_active_director_that_was_away_is_confirmed_before_it_takes_its_role_again() {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Addresses(AddressNotice::Doubt), "monitor: confirm"),
        // A second question finds a role that is not known, and that has no addresses to ask for.
        (11, SupervisorInput::Addresses(AddressNotice::Doubt), ""),
        (20, elected(1), "table: active"),
        (20, SupervisorInput::TableTold(Ok(())), ""),
        (21, made(true, false), "addresses: ActiveDirector 2"),
    ]);
    // Another was elected while this one was frozen.
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Addresses(AddressNotice::Doubt), "monitor: confirm"),
        (20, standby(), "addresses: Standby 2"),
        (20, stand(2), "table: standby, node: direct false, node: obey {}, hooks: standby 2"),
    ]);
    // A standby has nothing to be confirmed.
    passive().steps([(
        10,
        SupervisorInput::Addresses(AddressNotice::Doubt),
        "addresses: Standby 2",
    )]);
}

#[test]
fn what_the_addresses_and_the_table_tell_reaches_every_monitor_and_the_node() {
    let mut run = active();
    let announced = || {
        let at = Reachable { addr: [192, 0, 2, 100].into(), device: "lo".to_owned() };
        SupervisorInput::Addresses(AddressNotice::Announced(vec![at]))
    };
    let applied = || AppliedOrders { released: [3].into(), ..AppliedOrders::default() };
    run.steps([
        (10, SupervisorInput::Addresses(AddressNotice::Carries(false)), "monitor: can carry false"),
        (10, announced(), "monitor: announced 1"),
        (10, SupervisorInput::Applied(applied()), "node: obey {3}"),
        (10, SupervisorInput::Addresses(AddressNotice::Faults(vec!["no carrier".to_owned()])), ""),
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(conf(&[1, 2, 3], &[1, 2, 3]))), "try"),
        (20, tried(conf(&[1, 2, 3], &[1, 2, 3]), Ok(())), "swap"),
        (
            20,
            swapped(conf(&[1, 2, 3], &[1, 2, 3]), Ok(())),
            "addresses: ActiveDirector 2, monitor: can carry false, monitor: announced 1, \
             table: reload",
        ),
        // The role did not change: nothing follows from it.
        (30, stand(2), ""),
    ]);
    assert_eq!(run.supervisor.address_faults(), ["no carrier"]);
}

#[test]
fn drains_that_were_applied_before_the_node_s_worker_runs_are_told_when_it_does() {
    let mut run = Run::new(both(), "ready");
    let applied = AppliedOrders { released: [3].into(), ..AppliedOrders::default() };
    run.steps([
        (0, standby(), "addresses: Standby 1"),
        (0, SupervisorInput::Applied(applied), ""),
        (0, stand(1), "table: standby, start node, hooks: standby 1"),
        (0, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {3}"),
    ]);
}

#[test]
fn hooks_are_told_that_a_director_is_active_once_its_addresses_are_made_and_announced() {
    let mut run = passive();
    run.steps([
        (10, elected(1), "table: active"),
        (11, made(true, false), "addresses: ActiveDirector 2"),
        // Another director was active by then, and its address was not made.
        (12, stand(2), "node: direct true, node: obey {}"),
        (13, standby(), "addresses: Yielding 3"),
        (14, stand(3), "table: forwarding, node: direct true, node: obey {}"),
        (20, elected(2), "table: active"),
        (21, made(true, false), "addresses: ActiveDirector 4"),
        (22, announced(1), "monitor: announced 1"),
        (23, stand(4), "node: direct true, node: obey {}, hooks: active 2"),
        (24, elected(3), "addresses: ActiveDirector 5"),
        (25, stand(5), "node: direct true, node: obey {}"),
    ]);
}

#[test]
fn hooks_are_told_again_when_an_active_director_carries_other_cvips() {
    let mut other = both();
    other.cvips[0].addr = [192, 0, 2, 101].into();
    let other = || other.clone();
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(other())), "try"),
        (10, tried(other(), Ok(())), "swap"),
        (
            10,
            swapped(other(), Ok(())),
            "addresses: ActiveDirector 2, monitor: announced 1, table: reload",
        ),
        (20, stand(2), "hooks: active 2"),
    ]);
}
