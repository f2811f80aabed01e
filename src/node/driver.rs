//! The node's agent: it reads the listeners, the store and the system, and carries out what
//! `NodeState` decides.
//!
//! It has no thread: poll [`NodeAgent::fds`], wait no longer than [`NodeAgent::timeout`], and call
//! [`NodeAgent::step`].

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tracing::warn;

use super::messages::{
    CheckOutcomes, ListenersChange, LookOutcome, NodeAction, StoreRead, Surroundings, Unhealthy,
};
use super::state::NodeState;
use super::system::System;
use super::times::PublicationTimes;
use super::view::NodeView;
use crate::checks::Checker;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::heartbeat;
use crate::listeners::{Dumper, EventSource, Listener, ListenerWatch, ListenersError};
use crate::protocol::Protocol;
use crate::recorder::{Recorded, Recorder};
use crate::store::{AppliedOrders, NodeRecord, Refreshed, ServiceKey, Store, StoreError};

/// Takes the ports that a node has left.
pub type Tell = Box<dyn Fn(heartbeat::LeftPorts) + Send>;

/// One node's agent.
pub struct NodeAgent {
    state: Recorded<NodeState>,
    /// How many dumps of TCP the state was told of.
    dumps: u64,
    sources: NodeSources,
    store: Box<dyn Store>,
    tell: Tell,
    /// Takes how many connections a node that leaves still has.
    report: Option<Sender<usize>>,
    times: PublicationTimes,
}

/// What an agent reads, checks and records with.
pub struct NodeSources {
    /// Notices listeners.
    pub watch: ListenerWatch,
    /// For the hints alone, whose ranges are others than the watch's.
    pub hint_dumper: Dumper,
    /// Runs cvip.conf's checks.
    pub checker: Checker<ServiceKey>,
    /// Records what the node decides.
    pub recorder: Recorder,
}

impl NodeAgent {
    /// An agent that has seen nothing yet, of the incarnation that holds the node's lease. A
    /// store that cannot be reached yet is waited for. `tell` takes the ports that the node has
    /// left, before the store does, which may not answer.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        node: u32,
        conf: Arc<Conf>,
        sources: NodeSources,
        mut store: Box<dyn Store>,
        incarnation: u64,
        tell: Tell,
        now: Instant,
    ) -> Result<NodeAgent, StoreError> {
        let outcome = match store.refresh() {
            Err(error) if !error.is_unavailable() => return Err(error),
            outcome => outcome,
        };
        let system = System::read(node, &conf);
        let source = sources.watch.source().to_string();
        let state = NodeState::new(conf, system, source, incarnation, now);
        let state = Recorded::new(state, &sources.recorder);
        let times = PublicationTimes::default();
        let mut agent = NodeAgent { state, dumps: 0, sources, store, tell, report: None, times };
        agent.store_read(outcome, now);
        Ok(agent)
    }

    /// How listeners are noticed.
    pub fn event_source(&self) -> String {
        self.sources.watch.source().to_string()
    }

    /// What it can tell of itself.
    pub fn view(&self) -> NodeView {
        NodeView {
            event_source: self.event_source(),
            polls: matches!(self.sources.watch.source(), EventSource::Polling { .. }),
            times: self.times.times().clone(),
        }
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let NodeSources { watch, checker, .. } = &self.sources;
        watch.fd().into_iter().chain([self.store.wakeup(), checker.fd()]).collect()
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        let NodeSources { watch, checker, .. } = &self.sources;
        let own = self.state.due().saturating_duration_since(now).min(checker.timeout(now));
        watch.poll_timeout(now).map_or(own, |watch| watch.min(own))
    }

    /// Takes a new configuration.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.state.reload(conf, now);
    }

    /// Whether this node is the active director: its record says so.
    pub fn direct(&mut self, directing: bool, now: Instant) {
        self.state.direct(directing, now);
        self.carry_out(now);
    }

    /// The active director on this node vouches for itself: its record says so.
    pub fn vouch(&mut self, number: u32, now: Instant) {
        self.state.vouch(number, now);
        self.carry_out(now);
    }

    /// What this node's table obeys, if it is a director: its record says so.
    pub fn obey(&mut self, obeys: AppliedOrders, now: Instant) {
        self.state.obey(obeys, now);
        self.carry_out(now);
    }

    /// Serves nothing any more, whatever listens. `report` takes how many connections are left,
    /// as often as that changes, and 0 at last.
    pub fn leave(&mut self, report: Sender<usize>, now: Instant) {
        self.report = Some(report);
        self.state.leave(now);
    }

    /// Looks at what asks for it and publishes what is new.
    pub fn step(&mut self, now: Instant) {
        self.state.step(now);
        self.carry_out(now);
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(action) = self.state.next(now) {
            self.action(action, now);
            debug_assert!(self.knows_what_is_seen(), "the state is told of every change");
        }
    }

    /// The state knows the listeners and the health of services as they are.
    fn knows_what_is_seen(&self) -> bool {
        let NodeSources { watch, checker, .. } = &self.sources;
        let listeners = self.state.listeners().iter().copied();
        listeners.eq(watch.observed().iter().map(Listener::identity))
            && news(&self.state, checker).is_none()
    }

    fn store_read(&mut self, outcome: Result<Refreshed, StoreError>, now: Instant) {
        let read = outcome.map(|Refreshed { mut changed, faults }| {
            changed.retain(|key| self.state.follows(*key));
            StoreRead { values: self.store.state().values_of(&changed), faults }
        });
        let is_read = read.is_ok();
        self.state.store_read(read.map_err(Into::into), now);
        debug_assert!(
            !is_read || self.state.is_view_of(self.store.state()),
            "both are told the same"
        );
    }

    fn action(&mut self, action: NodeAction, now: Instant) {
        let NodeSources { watch, hint_dumper, checker, .. } = &mut self.sources;
        match action {
            NodeAction::ReadStore => {
                let outcome = self.store.refresh();
                self.store_read(outcome, now);
            }
            NodeAction::Repair(fault) => {
                let outcome = self.store.repair(fault.key);
                self.state.repaired(fault, outcome.map_err(Into::into), now);
            }
            NodeAction::Put(record) => {
                let outcome = self.store.put_node(&record);
                match outcome {
                    Ok(()) => self.times.stored(services(&record), Instant::now()),
                    // What the store has is read anew before the next attempt.
                    Err(_) => self.store.invalidate(),
                }
                self.state.put(outcome.map_err(Into::into), now);
            }
            NodeAction::LookAround(ranges) => {
                let system = System::read(self.state.node(), self.state.conf());
                let system = Some(system).filter(|system| system != self.state.system());
                let listening = match hint_dumper.snapshot(&ranges) {
                    Ok(listeners) => Ok(self.state.listening(&listeners)),
                    Err(error) => Err(error.to_string()),
                };
                self.state.looked_around(Surroundings { system, listening }, now);
            }
            NodeAction::Look => {
                let are_others = watch.step(now).is_some();
                let listeners = match are_others {
                    true => change(&self.state, watch),
                    false => ListenersChange {
                        is_settled: watch.is_settled(),
                        ..ListenersChange::default()
                    },
                };
                let faults = watch.faults().map(|(protocol, error)| format!("{protocol}: {error}"));
                let faults = faults.collect();
                let crowded = match self.dumps == watch.tcp_dumps() {
                    true => None,
                    false => self.state.crowded(watch.tcp_sockets()),
                };
                self.dumps = watch.tcp_dumps();
                let is_changed = checker.step(now) || are_others;
                let unhealthy = news(&self.state, checker);
                let look = LookOutcome { is_changed, listeners, faults, crowded, unhealthy };
                self.state.looked(look, now);
            }
            NodeAction::ReadQueues(ports) => {
                let started = Instant::now();
                for port in ports {
                    let waiting = match watch.unaccepted(port) {
                        Ok(waiting) => Ok(self.state.waiting(port, &waiting, watch.tcp_sockets())),
                        Err(error) => Err(error.to_string()),
                    };
                    self.state.queue_read(port, waiting, now);
                }
                self.state.queues_read(started.elapsed(), now);
            }
            NodeAction::Count(ranges) => {
                let started = Instant::now();
                let mut counts = BTreeMap::new();
                for protocol in Protocol::ALL {
                    match watch.connections(protocol, &ranges) {
                        Ok(ports) => drop(counts.insert(protocol, ports)),
                        Err(error) => warn!(
                            "cannot count the {protocol} connections on ports that were left or \
                             are drained: {error}"
                        ),
                    }
                }
                self.state.counted(counts, started.elapsed(), now);
            }
            NodeAction::Check(targets) => {
                checker.set_targets(targets.0, now);
                // What is new is checked at once.
                let is_changed = checker.step(now);
                let unhealthy = news(&self.state, checker);
                self.state.checked(CheckOutcomes { is_changed, unhealthy }, now);
            }
            NodeAction::Watch(ranges) => {
                watch.set_ranges(now, ranges);
                self.state.watched(change(&self.state, watch), now);
            }
            NodeAction::SetEligible(listeners) => {
                watch.set_eligible(listeners);
                self.times.serves(self.state.served().collect(), now);
            }
            NodeAction::TellLeft(left) => (self.tell)(left),
            NodeAction::Report(connections) => {
                if let Some(report) = &self.report {
                    // The client that asked may have given up waiting.
                    let _ = report.send(connections);
                }
            }
        }
    }
}

/// What leads from the listeners that the state knows to those that are there.
fn change(state: &NodeState, watch: &ListenerWatch) -> ListenersChange {
    let seen = watch.observed().iter().map(Listener::identity);
    ListenersChange::between(state.listeners(), seen, watch.is_settled())
}

/// The services that fail their checks, and why, if the state knows others.
fn news(state: &NodeState, checker: &Checker<ServiceKey>) -> Option<Unhealthy> {
    let failed = checker.iter().filter_map(|(key, _, health)| Some((*key, health.fault()?)));
    let unhealthy = Unhealthy(failed.collect());
    (unhealthy != *state.unhealthy()).then_some(unhealthy)
}

/// Opens a watch with the best socket events that the kernel allows, or, if `polling` says why not,
/// without any.
///
/// # Errors
/// The kernel gives no sock_diag socket.
pub fn open_watch(now: Instant, polling: Option<&str>) -> Result<ListenerWatch, ListenersError> {
    match polling {
        Some(why) => ListenerWatch::polling(now, why),
        None => ListenerWatch::open(now),
    }
}

/// The services that a record registers.
fn services(record: &NodeRecord) -> BTreeSet<ServiceKey> {
    record.registrations.iter().map(|registration| registration.service).collect()
}
