//! Carries out what the agent's state asks for: the netlink client, the store's view, the checker,
//! and the kernel's files. It decides nothing.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::{error, info, warn};

use super::super::flaps::ServerKey;
use super::super::kernel_table::TableReading;
use super::super::restrictions::Restrictions;
use super::super::sync::SyncRole;
use super::super::view::TableView;
use super::super::{DirectorEvent, table};
use super::messages::{ActionResult, AgentAction, PassError, PassReport};
use super::recording::{AgentCall, AgentOutput};
use super::state::AgentState;
use super::times::PassTimes;
use crate::checks::Checker;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::ipvs::{Change, Client};
use crate::net;
use crate::recorder::{Recorded, Recorder};
use crate::store::{AppliedOrders, Fault, Key, Store, StoreError, StoreValues};

/// How long an agent that has left waits for nothing: until it is ended.
const LEFT_FOR: Duration = Duration::from_secs(3600);

/// Whether the kernel leaves the table alone while a daemon receives.
const BACKUP_ONLY: &str = "net/ipv4/vs/backup_only";

/// One director's agent. It has no thread: its worker polls [`DirectorAgent::fds`], waits no longer
/// than [`DirectorAgent::timeout`], and calls [`DirectorAgent::step`].
pub struct DirectorAgent {
    me: u32,
    state: Recorded<AgentState>,
    client: Client,
    store: Box<dyn Store>,
    /// Of static real servers.
    checker: Checker<ServerKey>,
    /// What happened, since it was last asked for.
    events: Vec<DirectorEvent>,
    /// What the last pass did, until it is logged or told.
    outcome: Option<Result<PassReport, PassError>>,
    /// What became of leaving, while that is news.
    departure: Option<Result<(), String>>,
    times: PassTimes,
}

impl DirectorAgent {
    /// An agent that has changed nothing yet; its first step is a full pass. A store that cannot
    /// be reached yet is waited for.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        me: u32,
        conf: Arc<Conf>,
        client: Client,
        mut store: Box<dyn Store>,
        checker: Checker<ServerKey>,
        recorder: &Recorder,
        now: Instant,
    ) -> Result<DirectorAgent, StoreError> {
        let known = match store.refresh() {
            Ok(refreshed) => {
                repair(me, store.as_mut(), &refreshed.faults)?;
                true
            }
            Err(error) if error.is_unavailable() => {
                warn!("{error}");
                false
            }
            Err(error) => return Err(error),
        };
        let mut state = AgentState::new(me, conf, store.state().clone(), known, now);
        let targets = state.take_targets();
        let mut agent = DirectorAgent {
            me,
            state: Recorded::new(state, recorder),
            client,
            store,
            checker,
            events: Vec::new(),
            outcome: None,
            departure: None,
            times: PassTimes::default(),
        };
        if let Some(targets) = targets {
            agent.checker.set_targets(targets.0, now);
        }
        Ok(agent)
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        // What nothing reads any more would stay readable.
        if self.state.is_leaving() {
            return Vec::new();
        }
        vec![self.store.wakeup(), self.checker.fd()]
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        let due = self.state.due(now).map_or(LEFT_FOR, |due| due.saturating_duration_since(now));
        match self.state.is_leaving() {
            true => due,
            false => due.min(self.checker.timeout(now)),
        }
    }

    /// Does what is due: reads what changed, and reconciles the kernel's table.
    pub fn step(&mut self, now: Instant) {
        let first = self.call(AgentCall::Step, now);
        if !self.state.is_leaving() {
            self.check(now);
        }
        self.run(first, now);
        if let Some(outcome) = self.outcome.take() {
            log(&outcome);
        }
    }

    /// Makes a full pass now and tells what it did. A failure is logged, and tried again later.
    ///
    /// # Errors
    /// The kernel or the store could not be read or changed.
    pub fn full_pass(&mut self, now: Instant) -> Result<PassReport, PassError> {
        self.begin(AgentCall::FullPass, now);
        let outcome = self.outcome.take().unwrap_or_else(|| Ok(PassReport::default()));
        log(&outcome);
        outcome
    }

    /// What a full pass would change now. Nothing is changed by asking.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn differences(&mut self, now: Instant) -> Result<Vec<Change>, PassError> {
        self.begin(AgentCall::ReadView, now);
        let (view, mut drains) = (self.state.store(), self.state.passes.drains.clone());
        let inputs = self.state.inputs(now);
        let plans = table::plan_all(&mut self.client, inputs, view, &mut drains)?;
        Ok(plans.changes.into_iter().map(|(_, change)| change).collect())
    }

    /// Takes a new configuration; the next step is a full pass.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.begin(AgentCall::Reload(conf), now);
    }

    /// Takes other restrictions, but for those that the agent makes itself: what they touch is
    /// looked at in the next step.
    pub fn restrict(&mut self, restrictions: Restrictions, now: Instant) {
        self.begin(AgentCall::Restrict(restrictions), now);
    }

    /// Takes its role in its set: which synchronisation daemon runs depends on it, and whether there
    /// is a table.
    pub fn take_role(&mut self, role: SyncRole, now: Instant) {
        self.begin(AgentCall::TakeRole(role), now);
    }

    /// True if a full pass is still to make the table that its role asks for.
    pub fn owes_table(&self) -> bool {
        self.state.owes_table()
    }

    /// The drains that the table obeys, and the nodes that leave and are out; none while it is not what
    /// it should be.
    pub fn obeys(&self) -> Option<AppliedOrders> {
        self.state.obeys()
    }

    /// What happened since this was last asked.
    pub fn take_events(&mut self) -> Vec<DirectorEvent> {
        std::mem::take(&mut self.events)
    }

    /// Deletes every service that this director owns, and ends its synchronisation daemon; no step makes
    /// any of it again, and what fails is tried again. [`DirectorAgent::take_departure`] tells.
    pub fn leave(&mut self, now: Instant) {
        self.begin(AgentCall::Leave, now);
    }

    /// What became of leaving, if that is news: nothing of its own is left, or why something is.
    pub fn take_departure(&mut self) -> Option<Result<(), String>> {
        self.departure.take()
    }

    /// What it knows of its pools beside what stands in the kernel.
    pub fn view(&self, now: Instant) -> TableView {
        TableView { times: self.times.times().clone(), ..self.state.view(now) }
    }

    /// Asks static real servers, and notes those that fail.
    fn check(&mut self, now: Instant) {
        self.checker.step(now);
        let checked = self.checker.iter();
        let failed = checked.filter_map(|(server, _, health)| Some((*server, health.fault()?)));
        let failed = failed.collect();
        if failed != *self.state.failed() {
            self.begin(AgentCall::TakeChecks(failed), now);
        }
    }

    /// Begins something, and carries out what follows.
    fn begin(&mut self, call: AgentCall, now: Instant) {
        let first = self.call(call, now);
        self.run(first, now);
    }

    /// Carries out actions until there is none.
    fn run(&mut self, mut next: Option<AgentAction>, now: Instant) {
        let (started, mut was_full) = (Instant::now(), false);
        while let Some(action) = next {
            was_full |= action == AgentAction::ReadAll;
            let done = self.carry_out(action, now);
            let is_view = matches!(done, ActionResult::ReadStore(Ok(_)));
            next = self.call(AgentCall::Done(done), now);
            if is_view {
                debug_assert_eq!(self.state.store(), self.store.state(), "both are told the same");
            }
        }
        if let Some(outcome) = &self.outcome {
            let ended = Instant::now();
            let took = ended.saturating_duration_since(started);
            self.times.passed(outcome, was_full, took, ended);
        }
    }

    /// Tells the state something; gives the action that follows, and keeps what is to be told.
    fn call(&mut self, call: AgentCall, now: Instant) -> Option<AgentAction> {
        let mut next = None;
        for output in self.state.call(call, now) {
            match output {
                AgentOutput::Action(action) => next = Some(action),
                AgentOutput::Check(targets) => self.checker.set_targets(targets.0, now),
                AgentOutput::Outcome(outcome) => self.outcome = Some(outcome),
                AgentOutput::Event(event) => {
                    self.times.happened(&event, self.state.conf(), now);
                    self.events.push(event);
                }
                AgentOutput::Departure(outcome) => self.departure = Some(outcome),
            }
        }
        next
    }

    fn carry_out(&mut self, action: AgentAction, now: Instant) -> ActionResult {
        match action {
            AgentAction::ReadStore { whole } => {
                ActionResult::ReadStore(self.refresh(whole).map_err(Into::into))
            }
            AgentAction::ReadAll => {
                let inputs = self.state.inputs(now);
                let read = table::read_all(&mut self.client, inputs, self.state.store());
                let read = read.map(|(services, table)| (services, TableReading(table)));
                ActionResult::Read(read.map_err(|error| error.to_string()))
            }
            AgentAction::Read(services) => {
                let read = table::read_some(&mut self.client, &services);
                let read = read.map(|table| (services, TableReading(table)));
                ActionResult::Read(read.map_err(|error| error.to_string()))
            }
            AgentAction::LookFlushed => ActionResult::LookFlushed(table::is_flushed()),
            AgentAction::Look => {
                let started = processor_time();
                let prints = table::read_prints();
                let unexpected = prints.map(|prints| self.state.unexpected(&prints));
                let cost = processor_time().saturating_sub(started);
                ActionResult::Look(unexpected.map_err(|error| error.to_string()), cost)
            }
            AgentAction::ReadDaemons => {
                let running = self.client.daemons().map_err(|error| error.to_string());
                ActionResult::ReadDaemons(running, backup_only())
            }
            AgentAction::ChangeDaemons(changes) => {
                let refused = match self.client.apply(&changes) {
                    Ok(failures) => failures.iter().map(ToString::to_string).collect(),
                    Err(error) => vec![error.to_string()],
                };
                // What cannot be seen does not run.
                let running = self.client.daemons().unwrap_or_default();
                ActionResult::ChangeDaemons(refused, running, backup_only())
            }
            AgentAction::Own(services) => {
                let written = self.store.put_owned(self.me, &services);
                ActionResult::Own(written.map_err(Into::into))
            }
            AgentAction::Apply(changes) => {
                let applied = self.client.apply(&changes);
                ActionResult::Apply(applied.map_err(|error| error.to_string()))
            }
        }
    }

    /// Refreshes the store's view; logs what is corrupt in it, and repairs the own file.
    fn refresh(&mut self, whole: bool) -> Result<StoreValues, StoreError> {
        if whole {
            self.store.invalidate();
        }
        let refreshed = self.store.refresh()?;
        if let Err(error) = repair(self.me, self.store.as_mut(), &refreshed.faults) {
            error!("{error}");
        }
        Ok(self.store.state().values_of(&refreshed.changed))
    }
}

/// Logs what is corrupt in the store, and repairs this director's own file.
fn repair(me: u32, store: &mut dyn Store, faults: &[Fault]) -> Result<(), StoreError> {
    for fault in faults {
        error!("corrupt store file {fault}; the last known value stays in force");
        if fault.key == Key::Owned(me) {
            store.repair(fault.key)?;
        }
    }
    Ok(())
}

/// Whether the kernel leaves the table alone while a daemon receives.
fn backup_only() -> bool {
    net::setting(BACKUP_ONLY).is_ok_and(|value| value == "1")
}

/// Logs a pass.
fn log(outcome: &Result<PassReport, PassError>) {
    match outcome {
        Ok(report) => {
            for change in &report.applied {
                info!("{change}");
            }
            for refused in &report.refused {
                error!("{refused}");
            }
        }
        Err(error) => error!("cannot reconcile the kernel's table, trying again: {error}"),
    }
}

/// The processor time that the calling thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
