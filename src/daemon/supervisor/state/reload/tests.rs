//! Reloads, as sequences of inputs with the actions that they lead to.

use super::super::scene::*;
use super::super::*;

/// An active director that hands over, since cvip.conf does not name it any more.
fn handing_over() -> Run {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(server())), "try"),
        (10, tried(server(), Ok(())), "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
    ]);
    run
}

#[test]
fn a_reload_that_fails_on_the_way_leaves_everything_as_it_is() {
    let refused = || Err("there is no interface eth9 here".to_owned());
    let mut run = active();
    let before = Arc::clone(run.supervisor.conf());
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(None), ""),
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(both())), "try"),
        (20, tried(both(), refused()), ""),
        (30, SupervisorInput::Apply, "read"),
        (30, read(Some(server())), "try"),
        // What cannot be taken hands nothing over.
        (30, tried(server(), refused()), "answer: there is no interface eth9 here"),
        (40, SupervisorInput::Reload, "read"),
        (40, read(Some(both())), "try"),
        (40, tried(both(), Ok(())), "swap"),
        (40, swapped(both(), refused()), ""),
        (9000, SupervisorInput::Time, ""),
    ]);
    assert!(Arc::ptr_eq(run.supervisor.conf(), &before));
    assert_eq!(run.supervisor.faults(), ["there is no interface eth9 here"]);
    assert_eq!(run.supervisor.roles(), ["director", "real server"]);
    run.steps([
        (9000, SupervisorInput::Apply, "read"),
        (9000, read(Some(both())), "try"),
        (9000, tried(both(), Ok(())), "swap"),
        (
            9000,
            swapped(both(), Ok(())),
            "addresses: ActiveDirector 2, monitor: announced 1, resync, answer: done",
        ),
    ]);
    assert_eq!(run.supervisor.faults(), [""; 0]);
}

#[test]
fn a_real_server_that_the_file_no_longer_names_goes_on() {
    let mut run = real_server();
    run.steps([(10, SupervisorInput::Reload, "read"), (10, read(Some(conf(&[2], &[2, 3]))), "")]);
    let [fault] = run.supervisor.faults() else { panic!("{:?}", run.supervisor.faults()) };
    assert!(
        fault.starts_with("node 1 is neither a director nor a real server in cvip.conf")
            && fault.contains("`cvipctl leave` takes it out"),
        "{fault}"
    );
}

#[test]
fn a_reload_while_a_director_yields_changes_nothing_of_that() {
    let mut run = active();
    run.steps([
        (10, standby(), "addresses: Yielding 2"),
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(both())), "try"),
        (20, tried(both(), Ok(())), "swap"),
        (20, swapped(both(), Ok(())), "addresses: Yielding 3, monitor: announced 1, table: reload"),
        // The first role is overtaken; what waits for it waits for the second.
        (21, stand(2), ""),
        (22, stand(3), "table: forwarding, node: direct true, node: obey {}, hooks: standby 2"),
        (2010, SupervisorInput::Time, "addresses: Standby 4"),
    ]);
}

#[test]
fn an_active_director_that_the_file_no_longer_names_hands_over_before_it_retires() {
    let mut run = handing_over();
    run.steps([
        // It goes on meanwhile.
        (20, SupervisorInput::Vouch(3), "node: vouch 3"),
        (30, successor(1, Some(2)), ""),
        (40, standby(), "addresses: Yielding 2"),
        (41, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (41, SupervisorInput::TableTold(Ok(())), ""),
        (42, made(false, true), ""),
        (2040, SupervisorInput::Time, "addresses: Standby 3"),
        (2041, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2041, SupervisorInput::TableTold(Ok(())), ""),
        // It is a standby: the files are read again.
        (2042, made(false, false), "read"),
        (2042, read(Some(server())), "try"),
        (2042, tried(server(), Ok(())), "swap"),
        (2042, swapped(server(), Ok(())), "addresses: reload"),
        // The old monitor's last words.
        (2043, standby(), ""),
    ]);
    assert_eq!(run.due(2043), Some(4042));
    run.steps([
        (2050, SupervisorInput::TableEmptied(Err("no memory".to_owned())), ""),
        (2100, SupervisorInput::TableEmptied(Ok(())), "end former table, addresses: RealServer 4"),
        (2101, stand(4), "node: direct false, node: obey {}"),
        (2102, elected(9), ""),
    ]);
    assert_eq!(run.supervisor.roles(), ["real server"]);
}

#[test]
fn a_node_that_was_a_director_when_its_cvipd_last_ran_serves_once_that_table_is_empty() {
    let start = Instant::now();
    let path = "cvip.conf".to_owned();
    let supervisor = Supervisor::new(ME, path, read_conf(server()), true, HOOKS_WITHIN, start);
    let mut run = Run::of(supervisor, start);
    assert_eq!(run.actions(), "");
    assert_eq!(run.supervisor.roles(), ["former director"]);
    run.steps([
        (100, SupervisorInput::TableEmptied(Ok(())), "end former table, addresses: RealServer 1"),
        (101, stand(1), "start node, hooks: standby 1"),
    ]);
}

#[test]
fn a_director_that_is_struck_before_it_knows_its_role_waits_for_the_table_of_an_earlier_start() {
    let mut run = Run::new(both(), "ready");
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(server())), "try"),
        (10, tried(server(), Ok(())), "swap"),
        (10, swapped(server(), Ok(())), "addresses: reload"),
        (60, SupervisorInput::TableEmptied(Ok(())), "end former table, addresses: RealServer 1"),
        (61, stand(1), "start node"),
    ]);
}

#[test]
fn a_former_director_waits_for_neither_a_silent_monitor_nor_a_silent_table_for_ever() {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Apply, "read"),
        (10, read(Some(server())), "try"),
        (
            10,
            tried(server(), Ok(())),
            "hooks: giving-up 2, answer: node 1 is no director, or does not know its role yet",
        ),
        (10, hooks_ended(2), "monitor: hand over 1"),
        (3009, SupervisorInput::Time, ""),
        (3010, SupervisorInput::Time, "read"),
        (3010, read(Some(server())), "try"),
        (3010, tried(server(), Ok(())), "swap"),
        (3010, swapped(server(), Ok(())), "addresses: reload"),
        (5009, SupervisorInput::Time, ""),
        (5010, SupervisorInput::Time, "addresses: RealServer 2"),
        (9000, SupervisorInput::TableEmptied(Ok(())), "end former table"),
    ]);
}

#[test]
fn a_second_reload_during_a_hand_over_waits_for_the_same_hand_over() {
    let mut run = handing_over();
    run.steps([
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(server())), "try"),
        (20, tried(server(), Ok(())), ""),
        (30, successor(1, Some(2)), ""),
        (40, standby(), "addresses: Yielding 2"),
        (41, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (42, made(false, true), ""),
        // It forwards still.
        (50, SupervisorInput::Apply, "read"),
        (50, read(Some(server())), "try"),
        (
            50,
            tried(server(), Ok(())),
            "answer: node 1 is no director, or does not know its role yet",
        ),
        (2040, SupervisorInput::Time, "addresses: Standby 3"),
        (2041, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2042, made(false, false), "read"),
        (2042, read(Some(server())), "try"),
        (2042, tried(server(), Ok(())), "swap"),
        (2042, swapped(server(), Ok(())), "addresses: reload"),
        // It is a director again before its table is empty.
        (2050, SupervisorInput::Reload, "read"),
        (2050, read(Some(both())), "try"),
        (2050, tried(both(), Ok(())), "swap"),
        (2050, swapped(both(), Ok(())), "addresses: reload, monitor: announced 1"),
        (2060, SupervisorInput::TableEmptied(Ok(())), "end former table"),
        (2070, standby(), "addresses: Standby 4"),
    ]);
}

#[test]
fn a_reload_that_names_a_director_again_ends_its_hand_over() {
    let mut run = handing_over();
    run.steps([
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(both())), "try"),
        (20, tried(both(), Ok(())), "swap"),
        (
            20,
            swapped(both(), Ok(())),
            "addresses: ActiveDirector 2, monitor: announced 1, table: reload",
        ),
        (21, stand(2), "hooks: active 3"),
        (9000, SupervisorInput::Time, ""),
    ]);
    // What cannot be taken leaves it a director, too.
    let mut run = handing_over();
    run.steps([
        (20, SupervisorInput::Reload, "read"),
        (20, read(None), "monitor: reload, hooks: active 3"),
        (9000, SupervisorInput::Time, ""),
    ]);
}

#[test]
fn a_real_server_becomes_a_director_by_a_reload() {
    let mut run = real_server();
    run.steps([
        (10, SupervisorInput::Apply, "read"),
        (10, read(Some(both())), "try"),
        (10, tried(both(), Ok(())), "swap"),
        (
            10,
            swapped(both(), Ok(())),
            "addresses: reload, monitor: announced 0, answer: node 1 is no director, or does not \
             know its role yet",
        ),
        (20, elected(1), "table: active"),
    ]);
    assert_eq!(run.supervisor.roles(), ["director, taking over", "real server"]);
}
