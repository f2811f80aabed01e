//! Ends and leaves, as sequences of inputs with the actions that they lead to.

use super::super::scene::*;
use super::super::*;

/// An active director that hands over, since it was told to end.
fn ending() -> Run {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
    ]);
    run
}

#[test]
fn an_active_director_that_is_told_to_end_hands_over_first() {
    let mut run = ending();
    run.steps([
        (20, successor(1, Some(2)), ""),
        (
            25,
            SupervisorInput::Leave(seconds(0)),
            "answer: it is ending already, and the node does not leave",
        ),
        (30, standby(), "addresses: Yielding 2"),
        (31, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (31, SupervisorInput::TableTold(Ok(())), ""),
        (32, made(false, true), ""),
        (2030, SupervisorInput::Time, "addresses: Standby 3"),
        (2031, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2031, SupervisorInput::TableTold(Ok(())), ""),
        (2032, made(false, false), "exit"),
    ]);
}

#[test]
fn an_end_waits_for_no_successor_that_cannot_be_and_no_answer_that_never_comes() {
    ending().steps([
        // What it carries stays.
        (20, successor(1, None), "hooks: active 3, exit"),
    ]);
    ending().steps([
        (3009, SupervisorInput::Time, ""),
        (3010, SupervisorInput::Time, "hooks: active 3, exit"),
    ]);
    ending().steps([(20, SupervisorInput::Terminate, "exit")]);
    passive().steps([(10, SupervisorInput::Terminate, "exit")]);
    real_server().steps([(10, SupervisorInput::Terminate, "exit")]);
    // The only director of its set.
    let mut run = active();
    run.change(|supervisor| supervisor.conf = Arc::new(conf(&[1], &[1, 2, 3])));
    run.steps([(10, SupervisorInput::Terminate, "exit")]);
}

#[test]
fn a_node_leaves_once_store_connections_and_directors_let_it_and_undoes_what_it_made() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, hooks: giving-up 2, answer: done"),
        (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
        (0, SupervisorInput::Leave(seconds(60)), "answer: done"),
        (100, successor(1, Some(2)), ""),
        (200, SupervisorInput::Connections(2), ""),
        (300, standby(), "addresses: Yielding 2"),
        (301, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (302, made(false, true), ""),
        (2300, SupervisorInput::Time, "addresses: Standby 3"),
        (2301, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2302, made(false, false), ""),
        (2400, SupervisorInput::Time, ""),
        (2500, SupervisorInput::Connections(0), ""),
        (2600, SupervisorInput::Time, "read holders"),
        (2600, SupervisorInput::Holders(Some([2].into())), ""),
        (2700, SupervisorInput::Time, "read holders"),
        (2700, SupervisorInput::Holders(Some([].into())), "say farewell, table: leave"),
        // Nothing else is ordered any more.
        (2800, elected(4), ""),
        (2800, SupervisorInput::Reload, ""),
        (2800, SupervisorInput::Apply, "answer: the node leaves the cluster, and cvipd is ending"),
        (2850, SupervisorInput::TableEmptied(Err("no memory".to_owned())), ""),
        (2900, SupervisorInput::TableEmptied(Ok(())), "addresses: undo"),
        (2950, stand(3), ""),
        (3000, SupervisorInput::Addresses(AddressNotice::Undone), "exit"),
    ]);
    assert_eq!(run.supervisor.leaving(), Some(0));
}

#[test]
fn a_node_leaves_without_another_director_and_without_answers() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, hooks: giving-up 2, answer: done"),
        (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
        (0, successor(1, None), "hooks: active 3"),
        (500, SupervisorInput::Connections(3), ""),
        (900, SupervisorInput::Time, ""),
        (1000, SupervisorInput::Time, ""),
        (1100, SupervisorInput::Time, "read holders"),
        (10_999, SupervisorInput::Time, "read holders"),
        (11_000, SupervisorInput::Time, "read holders, hooks: giving-up 4"),
        (11_900, SupervisorInput::Time, ""),
        (12_000, hooks_ended(4), "say farewell, table: leave"),
        (31_999, SupervisorInput::Time, ""),
        (32_000, SupervisorInput::Time, "addresses: undo"),
        (41_999, SupervisorInput::Time, ""),
        (42_000, SupervisorInput::Time, "hooks: standby 5, exit"),
    ]);
    // A real server has no table, and one that cannot read the records waits for no director.
    let mut run = real_server();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, answer: done, tell leaving"),
        (0, SupervisorInput::Connections(0), ""),
        (100, SupervisorInput::Time, "read holders"),
        (100, SupervisorInput::Holders(None), "say farewell, addresses: undo"),
        (200, SupervisorInput::Addresses(AddressNotice::Undone), "exit"),
    ]);
}

#[test]
fn a_role_that_would_end_while_a_node_undoes_what_it_made_keeps_no_thread_busy() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, hooks: giving-up 2, answer: done"),
        (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
        (0, successor(1, Some(2)), ""),
        (0, SupervisorInput::Connections(0), ""),
        // The successor takes its time.
        (2500, standby(), "addresses: Yielding 2"),
        (3000, SupervisorInput::Time, ""),
        (3100, SupervisorInput::Time, "read holders"),
        (3100, SupervisorInput::Holders(None), "say farewell, table: leave"),
        (5000, SupervisorInput::Time, ""),
    ]);
    assert_eq!(run.due(5000), Some(5100));
}

#[test]
fn a_node_that_undoes_what_it_made_ends_at_once_when_told_or_when_a_worker_ends() {
    for input in [|| SupervisorInput::Terminate, || SupervisorInput::WorkerEnded("table")] {
        let mut run = active();
        run.steps([
            (
                0,
                SupervisorInput::Leave(seconds(0)),
                "start leave, hooks: giving-up 2, answer: done",
            ),
            (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
            (0, successor(1, None), "hooks: active 3"),
            (0, SupervisorInput::Connections(0), ""),
            (0, SupervisorInput::Time, "read holders"),
            (0, SupervisorInput::Holders(None), "hooks: giving-up 4"),
            (0, hooks_ended(4), "say farewell, table: leave"),
            (100, input(), "addresses: undo, hooks: standby 5, exit"),
        ]);
        let mut run = real_server();
        run.steps([
            (0, SupervisorInput::Leave(seconds(0)), "start leave, answer: done, tell leaving"),
            (0, SupervisorInput::Connections(0), ""),
            (0, SupervisorInput::Time, "read holders"),
            (0, SupervisorInput::Holders(None), "say farewell, addresses: undo"),
            (100, input(), "exit"),
        ]);
    }
}

#[test]
fn a_node_whose_leave_the_store_is_never_told_undoes_nothing() {
    let mut run = real_server();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, answer: done, tell leaving"),
        (9999, SupervisorInput::Time, ""),
        (10_000, SupervisorInput::Time, "exit"),
    ]);
    // Told to end meanwhile, it undoes nothing either.
    let mut run = real_server();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, answer: done, tell leaving"),
        (100, SupervisorInput::Terminate, "exit"),
    ]);
}

#[test]
fn hooks_that_hang_delay_a_leave_by_their_time_alone_and_another_director_is_not_kept_waiting() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, hooks: giving-up 2, answer: done"),
        (100, SupervisorInput::Connections(0), ""),
        (4999, SupervisorInput::Time, ""),
        (5000, SupervisorInput::Time, "monitor: hand over 1, tell leaving"),
        // They are killed, too late.
        (5001, hooks_ended(2), ""),
        (5100, successor(1, Some(2)), ""),
    ]);
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, hooks: giving-up 2, answer: done"),
        (100, standby(), "addresses: Yielding 2"),
        (
            101,
            stand(2),
            "table: forwarding, node: direct true, node: obey {}, hooks: standby 3, tell leaving",
        ),
        (102, hooks_ended(2), ""),
        (103, made(false, true), ""),
        (2100, SupervisorInput::Time, "addresses: Standby 3"),
    ]);
    // One that is told to end meanwhile ends.
    active().steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (20, SupervisorInput::Terminate, "exit"),
    ]);
}
