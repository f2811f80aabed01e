//! Gives the supervisor's state what happens, and carries out what it decides.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use tracing::{info, warn};

use super::messages::{SupervisorAction, SupervisorInput};
use super::settings::DaemonSettings;
use super::signals::HeldSignals;
use super::state::Supervisor;
use super::takeover::TakeoverTimer;
use super::watchdog::{Watchdog, WatchdogAction};
use crate::clock::Instant;
use crate::conf::{self, Conf};
use crate::daemon::address_manager::AddressMessage;
use crate::daemon::control::{ControlServer, Status};
use crate::daemon::error::RunError;
use crate::daemon::event_log::EventLog;
use crate::daemon::hooks::{HookMessage, QuorumChange};
use crate::daemon::messages::{
    Base, ControlAnswer, MainMessage, NodeMessage, PassReply, Question, TableMessage, What,
};
use crate::daemon::metrics::MetricsServer;
use crate::daemon::worker::{Worker, wait};
use crate::daemon::workers::{WorkerContext, Workers};
use crate::files;
use crate::histogram::Histogram;
use crate::net;
use crate::node::host;
use crate::node::leaving::holders;
use crate::recorder::Recorded;
use crate::settings;
use crate::store::{Interest, Lease, Store};
use crate::wake::Inbox;

/// What stands below the run folder is looked after this often: what was deleted is made
/// again, and what found no room is written. It also looks at the threads: one that has ended is a
/// fault of the program, and a restart is the cure.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// How much longer than their time hooks are waited for at the end of cvipd.
const HOOKS_SLACK: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub(super) settings: DaemonSettings,
    pub(super) cluster_key: settings::KeyFile,
    pub(super) context: WorkerContext,
    pub(super) state: Recorded<Supervisor>,
    pub(super) workers: Workers,
    pub(super) addresses: Worker<AddressMessage>,
    pub(super) hooks: Worker<HookMessage>,
    pub(super) events: EventLog,
    /// The operator who waits for [`SupervisorAction::Answer`].
    pub(super) asked: Option<Sender<ControlAnswer>>,
    /// The operator who waits for the table's worker.
    pub(super) report: Option<PassReply>,
    pub(super) leaving: Option<LeaveReports>,
    /// It is to end.
    pub(super) exit: Option<Result<(), RunError>>,
    pub(super) lease: Lease,
    pub(super) server: ControlServer,
    pub(super) metrics: MetricsServer,
    pub(super) takeover: TakeoverTimer,
    pub(super) takeovers: Histogram,
    pub(super) watchdog: Watchdog,
    /// What the service manager was last told of the state, for people.
    pub(super) told: String,
}

/// What a leave hears.
pub(super) struct LeaveReports {
    /// The connections that are left; it has no descriptor.
    connections: Receiver<usize>,
    /// The directors' records; none if they cannot be read.
    view: Option<Box<dyn Store>>,
    /// They were read at least once.
    is_known: bool,
}

impl Driver {
    pub(super) fn serve(
        &mut self,
        signals: &HeldSignals,
        inbox: &Inbox<MainMessage>,
    ) -> Result<(), RunError> {
        let mut next_tend = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_tend {
                next_tend = now + TEND_EVERY;
                self.tend();
            }
            if let Some(action) = self.watchdog.at(now) {
                self.watch(action);
            }
            if let Some(leaving) = &self.leaving
                && let Some(connections) = leaving.connections.try_iter().last()
            {
                self.feed(SupervisorInput::Connections(connections));
            }
            self.feed(SupervisorInput::Time);
            let dead = self.workers.dead().or_else(|| self.addresses.died());
            if let Some(name) = dead.or_else(|| self.hooks.died()) {
                self.feed(SupervisorInput::WorkerEnded(name));
            }
            if let Some(outcome) = self.exit.take() {
                return outcome;
            }
            let due = [self.state.due(now), self.watchdog.due()].into_iter().flatten();
            let at = due.fold(next_tend, std::cmp::min);
            wait([signals.descriptor().as_fd(), inbox.fd()], at.saturating_duration_since(now))
                .map_err(|errno| RunError::System("poll", errno.into()))?;
            while let Some(signal) = signals.next() {
                match signal {
                    Ok(Signal::SIGHUP) => {
                        notify(&[NotifyState::Reloading]);
                        self.feed(SupervisorInput::Reload);
                        notify(&[NotifyState::Ready]);
                    }
                    signal => {
                        info!("told to end by {}", signal.map_or("a signal", Signal::as_str));
                        self.feed(SupervisorInput::Terminate);
                    }
                }
            }
            for message in inbox.take() {
                self.hear(message);
            }
        }
    }

    fn tend(&mut self) {
        self.lease.tend();
        self.server.tend();
        self.metrics.tend();
        self.events.tend();
        self.settings.store.tend_cluster_key(&self.settings.run_dir, &self.cluster_key);
        self.tell_state();
    }

    /// Tells the service manager what the node is, and that a new cvip.conf is not taken: what
    /// `systemctl status` shows.
    fn tell_state(&mut self) {
        let mut state = self.state.roles().join(" and ");
        if let Some(fault) = self.state.faults().first() {
            let fault = fault.lines().next().unwrap_or_default();
            state = format!("{state}; the former cvip.conf is in force: {fault}");
        }
        if state != self.told {
            notify(&[NotifyState::Status(&state)]);
            self.told = state;
        }
    }

    fn watch(&mut self, action: WatchdogAction) {
        match action {
            WatchdogAction::Feed => notify(&[NotifyState::Watchdog]),
            WatchdogAction::Ask(round) => {
                let main = self.context.main.clone();
                let answer = move |worker| {
                    // A main thread that is gone ends the others too.
                    let _ = main.send(MainMessage::Alive(worker, round));
                };
                let mut asked = self.workers.ask(&answer);
                asked.push(self.addresses.ask(answer.clone()));
                asked.push(self.hooks.ask(answer));
                self.watchdog.asked(asked);
            }
        }
    }

    fn hear(&mut self, message: MainMessage) {
        let input = match message {
            MainMessage::ElectionRole(role) => SupervisorInput::Elected(role),
            MainMessage::HandOver { number, answer } => {
                SupervisorInput::HandOver { number, answer }
            }
            MainMessage::Ready(role) => SupervisorInput::TableMade(role),
            MainMessage::TableEmptied(outcome) => SupervisorInput::TableEmptied(outcome),
            MainMessage::HooksEnded(number) => SupervisorInput::HooksEnded(number),
            MainMessage::Addresses(notice) => SupervisorInput::Addresses(notice),
            MainMessage::Obeys(applied) => SupervisorInput::Applied(applied),
            MainMessage::Vouch(number) => SupervisorInput::Vouch(number),
            MainMessage::Left(left) => return self.workers.tell_left(left),
            MainMessage::Alive(worker, round) => {
                if let Some(action) = self.watchdog.answered(worker, round) {
                    self.watch(action);
                }
                return;
            }
            MainMessage::Event(event) => {
                if let Some(change) = QuorumChange::of(&event) {
                    self.hooks.inbox.send(HookMessage::Quorum(change));
                }
                return self.events.add(event, SystemTime::now());
            }
            MainMessage::Question(Question { what, answer }) => {
                self.asked = Some(answer);
                match what {
                    What::State => return self.answer(Ok(())),
                    What::Apply(report) => {
                        self.report = Some(report);
                        SupervisorInput::Apply
                    }
                    What::Leave(within) => SupervisorInput::Leave(within),
                }
            }
        };
        self.feed(input);
    }

    /// Gives the state an input, and carries out what follows.
    pub(super) fn feed(&mut self, input: SupervisorInput) {
        let mut next = Some(input);
        while self.exit.is_none() {
            if let Some(input) = next.take() {
                let now = Instant::now();
                self.state.handle(input, now);
                if let Some(took) = self.takeover.follow(self.state.takeover_stage(), now) {
                    self.takeovers.observe(took);
                }
            }
            let Some(action) = self.state.next_action(Instant::now()) else { return };
            next = self.carry_out(action);
        }
    }

    /// Carries out an action, and says what became of it.
    fn carry_out(&mut self, action: SupervisorAction) -> Option<SupervisorInput> {
        match action {
            SupervisorAction::Addresses(message) => self.addresses.inbox.send(message),
            SupervisorAction::Node(message) => self.workers.tell_node(message),
            SupervisorAction::Monitor(message) => self.workers.tell_monitor(message),
            SupervisorAction::Table(message) => self.workers.tell_table(message),
            SupervisorAction::RunHooks(change) => self.hooks.inbox.send(HookMessage::Role(change)),
            SupervisorAction::TakeTableRole(role) => {
                let outcome = self.workers.direct(&self.context, self.state.conf(), role);
                return Some(SupervisorInput::TableTold(outcome));
            }
            SupervisorAction::StartNode => {
                let outcome = self.workers.serve(&self.context, self.state.conf());
                return Some(SupervisorInput::NodeStarted(outcome));
            }
            SupervisorAction::StartLeave => self.start_leave(),
            SupervisorAction::TellLeaving => self.workers.tell_leaving(),
            SupervisorAction::SayFarewell => {
                notify(&[NotifyState::Stopping]);
                self.workers.say_farewell();
            }
            SupervisorAction::ReadHolders => return self.read_holders(),
            SupervisorAction::ReadConf => {
                let loaded = conf::load(&self.settings.conf, &self.settings.clustertab);
                return Some(SupervisorInput::Read(Box::new(loaded.into())));
            }
            SupervisorAction::TryConf(read) => {
                let outcome = Workers::check(&self.context, &read.conf)
                    .and_then(|()| has_interfaces(&read.conf, self.context.node));
                return Some(SupervisorInput::Tried(
                    read,
                    outcome.map_err(|error| error.to_string()),
                ));
            }
            SupervisorAction::SwapWorkers(read) => {
                let outcome = self.workers.swap(&self.context, &read.conf, &self.settings.run_dir);
                if outcome.is_ok() {
                    warn_of_lacks(&read.conf, self.context.node);
                }
                return Some(SupervisorInput::Swapped(
                    read,
                    outcome.map_err(|error| error.to_string()),
                ));
            }
            SupervisorAction::EndFormerTable => self.workers.end_former_table(),
            SupervisorAction::Resync(conf) => self.workers.tell_table(match self.report.take() {
                Some(report) => TableMessage::Resync(conf, report),
                None => TableMessage::Reload(conf),
            }),
            SupervisorAction::Ready => {
                info!("node {}: {}", self.context.node, self.state.roles().join(" and "));
                notify(&[NotifyState::Ready]);
            }
            SupervisorAction::Answer(outcome) => self.answer(outcome),
            SupervisorAction::Exit(outcome) => self.exit = Some(outcome),
        }
        None
    }

    fn start_leave(&mut self) {
        let (report, connections) = mpsc::channel();
        self.workers.tell_node(NodeMessage::Leave(report));
        let view = self.context.store.subscribe(Interest::All).inspect_err(|error| {
            warn!("cannot read the directors' records, and does not wait for them: {error}");
        });
        self.leaving = Some(LeaveReports { connections, view: view.ok(), is_known: false });
    }

    /// Which directors have not released this node; nothing while that was never read.
    fn read_holders(&mut self) -> Option<SupervisorInput> {
        let Some(LeaveReports { view: Some(view), is_known, .. }) = &mut self.leaving else {
            return Some(SupervisorInput::Holders(None));
        };
        // Unavailable: what the view said last holds.
        *is_known |= view.refresh().is_ok();
        let holders = is_known.then(|| holders(self.context.node, self.state.conf(), view.state()));
        holders.map(|holders| SupervisorInput::Holders(Some(holders)))
    }

    fn answer(&mut self, outcome: Result<(), String>) {
        let Some(asked) = self.asked.take() else { return };
        let answer = outcome.map(|()| self.base());
        // The program that asked may have given up waiting.
        let _ = asked.send(answer);
    }

    fn base(&mut self) -> Base {
        let WorkerContext { node, store, .. } = &mut self.context;
        // Unavailable or not: the view tells, and what of it is new is of no interest here.
        let _ = store.refresh();
        let status = Status {
            roles: self.state.roles(),
            faults: self.state.faults().to_owned(),
            addresses: self.state.address_faults().to_owned(),
            unsaved: files::unsaved(),
            leaving: self.state.leaving(),
            store_unavailable_s: store.unavailable_since().map(|since| since.elapsed().as_secs()),
            store_requests: store.requests(),
            metrics: self.metrics.place(),
            store_latency: store.latency(),
            takeovers: self.takeovers.clone(),
            ..Status::of(std::process::id(), *node)
        };
        let owned = store.state().owned.get(node).cloned().unwrap_or_default();
        Base {
            status,
            sources: Arc::clone(self.state.sources()),
            conf: Arc::clone(self.state.conf()),
            owned,
            directs: self.state.conf().is_director(*node),
            node: self.workers.node().cloned(),
            heartbeat_sender: self.workers.heartbeat_sender().cloned(),
            monitor: self.workers.monitor().cloned(),
            table: self.workers.table().cloned(),
            hooks: self.hooks.inbox.clone(),
        }
    }

    /// Ends the workers. What stands in the kernel stays.
    pub(super) fn end(self) {
        let Driver { settings, workers, addresses, hooks, lease, server, metrics, .. } = self;
        drop(metrics);
        workers.end();
        addresses.end();
        end_hooks(hooks, settings.store.hooks.timeout);
        drop(lease);
        // Last of all: a program that waits for a node to leave waits for this.
        drop(server);
    }
}

/// Ends the hooks' thread, once those of what happened last have run or their time is over.
fn end_hooks(hooks: Worker<HookMessage>, within: Duration) {
    let (done, is_done) = mpsc::channel();
    hooks.inbox.send(HookMessage::Finish(done));
    // The thread keeps the time itself; one that hangs is not waited for longer than that.
    let _ = is_done.recv_timeout(within + HOOKS_SLACK);
    hooks.end();
}

/// Whether this host has the interfaces that cvip.conf gives it as a director. A mistake there
/// would take the CVIP from the director that carries it.
fn has_interfaces(conf: &Conf, node: u32) -> Result<(), RunError> {
    // Where they cannot be listed, the address manager says so.
    let Ok(interfaces) = net::interfaces() else { return Ok(()) };
    let is_here = |name: &str| interfaces.iter().any(|interface| interface.name == name);
    match conf.interfaces(node).find(|(_, name)| !is_here(name)) {
        Some((element, name)) => Err(RunError::Interface(name.to_owned(), element)),
        None => Ok(()),
    }
}

/// Says what cvip.conf names and this host does not have, such as the user of an `owner`.
pub(super) fn warn_of_lacks(conf: &Conf, node: u32) {
    let interfaces = net::interfaces().unwrap_or_default();
    for lack in host::lacks(conf, node, &interfaces, host::has_user) {
        warn!("{}: {}", lack.path, lack.message);
    }
}

pub(super) fn notify(states: &[NotifyState<'_>]) {
    // Not started by a service manager: there is none to tell.
    let _ = sd_notify::notify(states);
}
