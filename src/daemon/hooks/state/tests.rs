//! Sequences of changes, each with the actions that they lead to.

use super::*;
use crate::protocol::Protocol;
use crate::store::ServiceKey;

const WITHIN: Duration = Duration::from_secs(5);

struct Run {
    start: Instant,
    state: HooksState,
}

enum Input {
    Role(u64, RoleEvent),
    Quorum(u16, bool),
    Listed(&'static [&'static str]),
    Ended(Option<&'static str>),
    Killed,
    Finish,
    Time,
}
use Input::{Ended, Finish, Killed, Listed, Quorum, Role, Time};

fn words(action: HookAction) -> String {
    match action {
        HookAction::Read => "read".to_owned(),
        HookAction::Start { name, event, document } => {
            let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document["event"], event.name());
            let port = document["service"]["port"].as_u64();
            let port = port.map_or_else(String::new, |port| format!(" {port}"));
            format!("start {name} {event}{port}")
        }
        HookAction::Kill => "kill".to_owned(),
        HookAction::Tell(number) => format!("tell {number}"),
    }
}

impl Run {
    fn new() -> Run {
        Run { start: Instant::now(), state: HooksState::new(1, WITHIN) }
    }

    /// Inputs, each with its time in milliseconds since the start and the actions that follow.
    #[track_caller]
    fn steps<const N: usize>(&mut self, steps: [(u64, Input, &str); N]) {
        for (number, (ms, input, expected)) in steps.into_iter().enumerate() {
            let now = self.start + Duration::from_millis(ms);
            let at = SystemTime::UNIX_EPOCH;
            match input {
                Role(number, event) => {
                    let (set, term, cvips) = (1, Some(1), Vec::new());
                    self.state.role_changed(RoleChange { number, event, set, term, cvips }, at);
                }
                Quorum(port, has_quorum) => {
                    let cvip = [192, 0, 2, 100].into();
                    let service = ServiceKey { cvip, protocol: Protocol::Tcp, port };
                    let change = QuorumChange { service, has_quorum, weight: 1, quorum: 2 };
                    self.state.quorum_changed(change, at);
                }
                Listed(names) => {
                    self.state.listed(names.iter().map(|name| (*name).to_owned()).collect());
                }
                Ended(failure) => self.state.ended(failure.map(str::to_owned), now),
                Killed => self.state.killed(None, now),
                Finish => self.state.finish(now),
                Time => {}
            }
            // What starts or kills, or reads, is reported before more is asked.
            let mut actions = Vec::new();
            while let Some(action) = self.state.next(now) {
                let is_last = !matches!(action, HookAction::Tell(_));
                actions.push(words(action));
                if is_last {
                    break;
                }
            }
            assert_eq!(actions.join(", "), expected, "step {number} at {ms} ms");
        }
    }

    fn counts(&self) -> Vec<String> {
        let view = self.state.view(Vec::new());
        let runs = view.runs.iter();
        runs.map(|runs| format!("{} {} {}", runs.event, runs.result, runs.count)).collect()
    }
}

#[test]
fn the_hooks_of_an_event_run_one_after_the_other_and_then_those_of_the_next() {
    let mut run = Run::new();
    run.steps([
        (0, Role(1, RoleEvent::Active), "read"),
        (0, Listed(&["10-a", "20-b"]), "start 10-a active"),
        (10, Quorum(80, false), ""),
        (20, Quorum(443, false), ""),
        (30, Role(2, RoleEvent::GivingUp), ""),
        (40, Ended(None), "start 20-b active"),
        (50, Ended(Some("status 1: no")), "read"),
        (50, Listed(&["10-a"]), "start 10-a quorum-down 80"),
        (60, Ended(None), "read"),
        (60, Listed(&["10-a"]), "start 10-a quorum-down 443"),
        (70, Ended(None), "read"),
        (70, Listed(&["10-a"]), "start 10-a giving-up"),
        (80, Ended(None), "tell 2"),
    ]);
    assert!(run.state.is_idle());
    assert_eq!(
        run.counts(),
        ["active done 1", "active failed 1", "giving-up done 1", "quorum-down done 2"]
    );
}

#[test]
fn without_hooks_a_director_that_gives_up_waits_for_nothing() {
    let mut run = Run::new();
    run.steps([(0, Role(7, RoleEvent::GivingUp), "read"), (0, Listed(&[]), "tell 7")]);
    assert!(run.state.is_idle() && run.counts().is_empty());
}

#[test]
fn all_hooks_of_an_event_have_one_deadline_and_what_is_not_over_is_killed() {
    let mut run = Run::new();
    run.steps([
        (0, Role(1, RoleEvent::GivingUp), "read"),
        (0, Listed(&["10-a", "20-b", "30-c"]), "start 10-a giving-up"),
        (4000, Ended(None), "start 20-b giving-up"),
        (4999, Time, ""),
        (5000, Time, "kill"),
        // The third has no time left.
        (5001, Killed, "tell 1"),
        (6000, Role(2, RoleEvent::Standby), "read"),
        (6000, Listed(&["10-a", "20-b", "30-c"]), "start 10-a standby"),
    ]);
    assert_eq!(run.state.due(), Some(run.start + Duration::from_secs(11)));
    assert_eq!(run.counts(), ["giving-up done 1", "giving-up killed 1", "giving-up skipped 1"]);
    let view = run.state.view(vec!["20-b".to_owned()]);
    let last = view.hooks[0].last.as_ref().unwrap();
    assert_eq!((last.event, last.result), (HookEvent::GivingUp, HookResult::Killed));
    assert_eq!(
        last.reason.as_deref(),
        Some("it was killed after 1.0 s, since the hooks of one event have 5 s together")
    );
    assert_eq!(last.time, "1970-01-01T00:00:00.000Z");
    assert_eq!(view.seconds.count(), 2);
}

#[test]
fn what_is_outdated_before_its_hooks_are_run_is_skipped() {
    let mut run = Run::new();
    run.steps([
        (0, Role(1, RoleEvent::Active), "read"),
        (0, Listed(&["10-a"]), "start 10-a active"),
        (10, Role(2, RoleEvent::GivingUp), ""),
        (20, Quorum(80, false), ""),
        (30, Quorum(443, false), ""),
        // The main thread waits for what is not run any more.
        (40, Role(3, RoleEvent::Standby), "tell 2"),
        (50, Role(4, RoleEvent::Active), ""),
        (60, Quorum(80, true), ""),
        (100, Ended(None), "read"),
        (100, Listed(&["10-a"]), "start 10-a quorum-down 443"),
        (110, Ended(None), "read"),
        (110, Listed(&["10-a"]), "start 10-a active"),
        (120, Ended(None), "read"),
        (120, Listed(&["10-a"]), "start 10-a quorum-up 80"),
        (130, Ended(None), ""),
    ]);
    assert_eq!(
        run.counts(),
        [
            "active done 2",
            "giving-up skipped 1",
            "standby skipped 1",
            "quorum-up done 1",
            "quorum-down done 1",
            "quorum-down skipped 1"
        ]
    );
}

#[test]
fn at_the_end_of_cvipd_what_waits_is_run_within_the_time_for_one_event() {
    let mut run = Run::new();
    run.steps([
        (0, Role(1, RoleEvent::Active), "read"),
        (0, Listed(&["10-a"]), "start 10-a active"),
        (4000, Quorum(80, false), ""),
        (4000, Role(2, RoleEvent::Standby), ""),
        (4500, Finish, ""),
        (5000, Time, "kill"),
        (5000, Killed, "read"),
        (5000, Listed(&["10-a"]), "start 10-a quorum-down 80"),
        (9499, Time, ""),
        (9500, Time, "kill"),
        (9500, Killed, ""),
    ]);
    assert!(run.state.is_idle());
    assert_eq!(run.counts(), ["active killed 1", "standby skipped 1", "quorum-down killed 1"]);
}

#[test]
fn a_hook_that_is_not_there_any_more_is_forgotten() {
    let mut run = Run::new();
    run.steps([
        (0, Role(1, RoleEvent::Active), "read"),
        (0, Listed(&["10-a"]), "start 10-a active"),
        (1, Ended(Some("status 1")), ""),
        (2, Role(2, RoleEvent::Standby), "read"),
        (2, Listed(&["20-b"]), "start 20-b standby"),
    ]);
    let hooks = run.state.view(vec!["10-a".to_owned()]).hooks;
    assert_eq!(hooks, [HookView { name: "10-a".to_owned(), last: None }]);
}
