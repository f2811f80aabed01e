//! Which event's hooks are run next. Pure: events, what became of runs and the time go in, and
//! [`HooksState::next`] says what to do.
//!
//! The hooks of one event are run one after the other, and the events in their order. What is
//! outdated before its hooks are run is skipped: of a role, and of each service's quorum, the
//! latest change alone counts. All hooks of one event have one deadline.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tracing::{error, info, warn};

use super::messages::{
    HookEvent, HookResult, HookRuns, HookView, HooksView, LastHookRun, QuorumChange, RoleChange,
    RoleEvent,
};
use super::wire;
use crate::clock::Instant;
use crate::histogram::Histogram;
use crate::json::rfc3339_millis;

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HookAction {
    /// Read the directory: [`HooksState::listed`].
    Read,
    /// Start a hook: [`HooksState::ended`], once it has ended or if it cannot be started.
    Start {
        /// The name of its file.
        name: String,
        /// Its argument.
        event: HookEvent,
        /// What it reads.
        document: Vec<u8>,
    },
    /// Kill the hook that runs: [`HooksState::killed`].
    Kill,
    /// Tell the main thread that the hooks of the change of this number have ended.
    Tell(u64),
}

/// What changed.
#[derive(Debug)]
enum Change {
    Role(RoleChange),
    Quorum(QuorumChange),
}

impl Change {
    fn event(&self) -> HookEvent {
        match self {
            Change::Role(RoleChange { event: RoleEvent::Active, .. }) => HookEvent::Active,
            Change::Role(RoleChange { event: RoleEvent::GivingUp, .. }) => HookEvent::GivingUp,
            Change::Role(RoleChange { event: RoleEvent::Standby, .. }) => HookEvent::Standby,
            Change::Quorum(QuorumChange { has_quorum: true, .. }) => HookEvent::QuorumUp,
            Change::Quorum(QuorumChange { has_quorum: false, .. }) => HookEvent::QuorumDown,
        }
    }

    /// The number of a change for whose hooks the main thread waits.
    fn awaited(&self) -> Option<u64> {
        match self {
            Change::Role(RoleChange { event: RoleEvent::GivingUp, number, .. }) => Some(*number),
            _ => None,
        }
    }

    /// Whether a later change makes this one outdated.
    fn is_outdated_by(&self, later: &Change) -> bool {
        match (self, later) {
            (Change::Role(_), Change::Role(_)) => true,
            (Change::Quorum(earlier), Change::Quorum(later)) => earlier.service == later.service,
            _ => false,
        }
    }
}

/// A change, and when it happened.
#[derive(Debug)]
struct Happened {
    change: Change,
    at: SystemTime,
}

/// An event whose hooks are being run.
struct EventRun {
    happened: Happened,
    document: Vec<u8>,
    /// When all of them have to be over.
    by: Instant,
    /// Those that are still to be run.
    names: VecDeque<String>,
    running: Option<RunningHook>,
}

struct RunningHook {
    name: String,
    since: Instant,
}

/// The state of a node's hooks.
pub(super) struct HooksState {
    node: u32,
    within: Duration,
    waiting: VecDeque<Happened>,
    run: Option<EventRun>,
    tell: VecDeque<u64>,
    /// The last change of role whose hooks were run.
    role: Option<RoleChange>,
    /// cvipd ends: what is not over by then is not run.
    finish_by: Option<Instant>,
    last: BTreeMap<String, LastHookRun>,
    runs: BTreeMap<(HookEvent, HookResult), u64>,
    seconds: Histogram,
}

impl HooksState {
    /// `within`: how long the hooks of one event may take together.
    pub(super) fn new(node: u32, within: Duration) -> HooksState {
        HooksState {
            node,
            within,
            waiting: VecDeque::new(),
            run: None,
            tell: VecDeque::new(),
            role: None,
            finish_by: None,
            last: BTreeMap::new(),
            runs: BTreeMap::new(),
            seconds: Histogram::default(),
        }
    }

    /// This director's role has changed.
    pub(super) fn role_changed(&mut self, change: RoleChange, at: SystemTime) {
        self.happened(Happened { change: Change::Role(change), at });
    }

    /// A service's quorum has changed.
    pub(super) fn quorum_changed(&mut self, change: QuorumChange, at: SystemTime) {
        self.happened(Happened { change: Change::Quorum(change), at });
    }

    fn happened(&mut self, happened: Happened) {
        let is_outdated = |waiting: &Happened| waiting.change.is_outdated_by(&happened.change);
        // Of each kind one waits at most.
        if let Some(at) = self.waiting.iter().position(is_outdated)
            && let Some(outdated) = self.waiting.remove(at)
        {
            let later = happened.change.event();
            self.skip(&outdated, &format!("{later} follows"));
        }
        self.waiting.push_back(happened);
    }

    /// No hook is run for an event.
    fn skip(&mut self, skipped: &Happened, why: &str) {
        let event = skipped.change.event();
        warn!("no hook is run for the event {event}, which waited for another event's: {why}");
        self.count(event, HookResult::Skipped);
        self.tell.extend(skipped.change.awaited());
    }

    fn count(&mut self, event: HookEvent, result: HookResult) {
        *self.runs.entry((event, result)).or_default() += 1;
    }

    /// cvipd ends: what waits is run within the time for one event.
    pub(super) fn finish(&mut self, now: Instant) {
        let by = now + self.within;
        self.finish_by = Some(by);
        if let Some(run) = &mut self.run {
            run.by = run.by.min(by);
        }
    }

    /// Nothing runs, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.run.is_none() && self.waiting.is_empty() && self.tell.is_empty()
    }

    /// When something is due, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.run.as_ref().map(|run| run.by)
    }

    /// What is to be done now, if anything; what came of it is told before this is asked again.
    pub(super) fn next(&mut self, now: Instant) -> Option<HookAction> {
        loop {
            if let Some(number) = self.tell.pop_front() {
                return Some(HookAction::Tell(number));
            }
            let Some(run) = &mut self.run else {
                let happened = self.waiting.pop_front()?;
                match self.finish_by {
                    Some(by) if now >= by => self.skip(&happened, "cvipd ends"),
                    _ => {
                        self.begin(happened, now);
                        return Some(HookAction::Read);
                    }
                }
                continue;
            };
            let (event, is_over) = (run.happened.change.event(), now >= run.by);
            if run.running.is_some() {
                return is_over.then_some(HookAction::Kill);
            }
            match run.names.pop_front() {
                Some(name) if is_over => {
                    error!("no time is left to run the hook {name} for {event}");
                    self.note(name, HookResult::Skipped, Some("no time was left".to_owned()));
                }
                Some(name) => {
                    run.running = Some(RunningHook { name: name.clone(), since: now });
                    let document = run.document.clone();
                    return Some(HookAction::Start { name, event, document });
                }
                None => {
                    self.tell.extend(run.happened.change.awaited());
                    self.run = None;
                }
            }
        }
    }

    fn begin(&mut self, happened: Happened, now: Instant) {
        let event = happened.change.event();
        let document = match &happened.change {
            Change::Role(change) => {
                self.role = Some(change.clone());
                wire::of_role(self.node, event, change, happened.at)
            }
            Change::Quorum(change) => {
                wire::of_quorum(self.node, event, change, self.role.as_ref(), happened.at)
            }
        };
        let by = now + self.within;
        let by = self.finish_by.map_or(by, |finish| finish.min(by));
        let names = VecDeque::new();
        self.run = Some(EventRun { happened, document, by, names, running: None });
    }

    /// The hooks that stand in the directory, in their order.
    pub(super) fn listed(&mut self, names: Vec<String>) {
        self.last.retain(|name, _| names.contains(name));
        if let Some(run) = &mut self.run {
            run.names = names.into();
        }
    }

    /// The hook that ran has ended, or could not be started; why it failed, if it did.
    pub(super) fn ended(&mut self, failure: Option<String>, now: Instant) {
        let Some((name, event, took)) = self.end_of_hook(now) else { return };
        match failure {
            None => {
                info!("hook {name} has run for {event} in {} ms", took.as_millis());
                self.note(name, HookResult::Done, None);
            }
            Some(failure) => {
                warn!("hook {name} has failed for {event}: {failure}");
                self.note(name, HookResult::Failed, Some(failure));
            }
        }
    }

    /// The hook that ran was killed; the first line that it printed.
    pub(super) fn killed(&mut self, line: Option<String>, now: Instant) {
        let Some((name, event, took)) = self.end_of_hook(now) else { return };
        let line = line.map_or_else(String::new, |line| format!(": {line}"));
        let reason = format!(
            "it was killed after {:.1} s, since the hooks of one event have {} s together{line}",
            took.as_secs_f64(),
            self.within.as_secs()
        );
        error!("hook {name} has failed for {event}: {reason}");
        self.note(name, HookResult::Killed, Some(reason));
    }

    /// Takes the hook that ran, for which event, and how long it ran.
    fn end_of_hook(&mut self, now: Instant) -> Option<(String, HookEvent, Duration)> {
        let run = self.run.as_mut()?;
        let RunningHook { name, since } = run.running.take()?;
        let took = now.saturating_duration_since(since);
        self.seconds.observe(took);
        Some((name, run.happened.change.event(), took))
    }

    /// Notes what became of a hook of the event whose hooks are being run.
    fn note(&mut self, name: String, result: HookResult, reason: Option<String>) {
        let Some(run) = &self.run else { return };
        let event = run.happened.change.event();
        let time = rfc3339_millis(run.happened.at);
        self.last.insert(name, LastHookRun { event, time, result, reason });
        self.count(event, result);
    }

    /// What is known of these hooks.
    pub(super) fn view(&self, names: Vec<String>) -> HooksView {
        let hook = |name: String| HookView { last: self.last.get(&name).cloned(), name };
        let runs = |(&(event, result), &count): (&(HookEvent, HookResult), &u64)| HookRuns {
            event,
            result,
            count,
        };
        HooksView {
            hooks: names.into_iter().map(hook).collect(),
            runs: self.runs.iter().map(runs).collect(),
            seconds: self.seconds.clone(),
            ..HooksView::default()
        }
    }
}

#[cfg(test)]
mod tests;
