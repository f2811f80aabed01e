//! What a node does with what it sees: what it serves, what its record says, and what is to be
//! read, written and told for that. Pure: [`driver`](super::driver) carries out what
//! [`NodeState::next`] says, and reports what became of it before it asks again.
//!
//! ```text
//!   a step             -> read the store, look at the listeners; once a minute look around
//!   a change of either -> what is served; its checks; the record, if it says something new
//!   a port that is left -> tell it at once; count its connections until none is left
//! ```
//!
//! Nothing is written before the store was read and every flagged protocol was dumped once: a
//! start must not look like a leave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::gone::Gone;
use super::leaving::{Leaving, LeavingPort};
use super::messages::{
    CheckOutcomes, ListenersChange, LookOutcome, NodeAction, QueueReading, StoreRead, Surroundings,
    Targets, Unhealthy,
};
use super::publication::Publication;
use super::queues::{Queues, WaitingGroup};
use super::registrations::{self, JoinOutcome};
use super::system::System;
use super::{checks, flagged, hints, kept_out};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::heartbeat;
use crate::heartbeat::left::LeftService;
use crate::listeners::{Listener, ListenerId, Unaccepted};
use crate::ports::Layers;
use crate::protocol::Protocol;
use crate::store::{
    AppliedOrders, Fault, Key, NodeRecord, Registration, Scope, ServiceKey, StoreFailure,
    StoreState, shortened,
};

/// How often the connections on a port that was left are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Counting takes at most one part in so many of a core.
const COUNT_SHARE: u32 = 100;

/// Reading accept queues takes at most one part in so many of a core.
const QUEUES_SHARE: u32 = 20;

/// How often it is looked at what no event tells of: addresses, users, hints.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(60);

/// One node's state.
#[derive(Serialize, Deserialize)]
pub struct NodeState {
    node: u32,
    conf: Arc<Conf>,
    system: System,
    /// How listeners are noticed.
    event_source: String,
    /// What the store says of what the node follows ([`NodeState::follows`]).
    store: StoreState,
    listeners: BTreeSet<ListenerId>,
    /// Every flagged protocol was dumped once.
    is_settled: bool,
    /// The services that fail their checks, and why.
    unhealthy: Unhealthy,
    /// What is to be done next, in this order.
    actions: VecDeque<NodeAction>,
    /// The store was read at least once: before that, nothing is known, and nothing is said.
    is_known: bool,
    /// The store was read, and so were the system and the listeners on every flagged port.
    is_ready: bool,
    /// It was logged that the store cannot be read.
    is_unread: bool,
    /// What of the store is corrupt, as it was last logged.
    corrupt: Option<String>,
    /// What of the listeners cannot be read, as it was last logged.
    faults: Vec<String>,
    /// The watched ports may be others.
    ranges_due: bool,
    look_due: bool,
    next_look_around: Instant,
    /// What is served may be something else.
    compute_due: bool,
    /// What was computed, while its checks are being set.
    computed: Option<JoinOutcome>,
    /// What is served may be written.
    publish_due: bool,
    /// The record is to be written at once.
    is_urgent: bool,
    outcome: JoinOutcome,
    hints: Vec<String>,
    kept_out: kept_out::Log,
    queues: Queues,
    /// The queues are not read before this: its cost is bounded.
    next_queues: Instant,
    leaving: Leaving,
    next_count: Instant,
    gone: Gone,
    /// What was last told of them.
    told_left: heartbeat::LeftPorts,
    /// This node is the active director.
    directing: bool,
    /// How often it has vouched for itself as the active director.
    vouched: Option<u32>,
    obeys: AppliedOrders,
    /// The node leaves the cluster.
    left: Option<Departure>,
    publication: Publication,
}

/// A node that leaves.
#[derive(Serialize, Deserialize)]
struct Departure {
    /// How many connections it still had, as that was last told.
    reported: Option<usize>,
}

impl NodeState {
    /// A node that has seen nothing yet, of the incarnation that holds the node's lease. Listeners
    /// are noticed by `event_source`.
    pub fn new(
        conf: Arc<Conf>,
        system: System,
        event_source: String,
        incarnation: u64,
        now: Instant,
    ) -> NodeState {
        NodeState {
            node: system.node,
            conf,
            system,
            event_source,
            store: StoreState::default(),
            listeners: BTreeSet::new(),
            is_settled: false,
            unhealthy: Unhealthy::default(),
            actions: VecDeque::new(),
            is_known: false,
            is_ready: false,
            is_unread: false,
            corrupt: None,
            faults: Vec::new(),
            ranges_due: true,
            look_due: false,
            next_look_around: now,
            compute_due: false,
            computed: None,
            publish_due: false,
            is_urgent: false,
            outcome: JoinOutcome::default(),
            hints: Vec::new(),
            kept_out: kept_out::Log::new(now),
            queues: Queues::default(),
            next_queues: now,
            leaving: Leaving::default(),
            next_count: now,
            gone: Gone::default(),
            told_left: heartbeat::LeftPorts::default(),
            directing: false,
            vouched: None,
            obeys: AppliedOrders::default(),
            left: None,
            publication: Publication::new(incarnation, now),
        }
    }

    /// This node's number.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// The services that it serves.
    pub fn served(&self) -> impl Iterator<Item = ServiceKey> {
        self.outcome.registrations.iter().map(|registration| registration.service)
    }

    /// The configuration in force.
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// Whether a node depends on a key of the store: its own record, its flags, and drains.
    pub fn follows(&self, key: Key) -> bool {
        match key {
            Key::Node(node) | Key::Flags(Scope::Node(node)) => node == self.node,
            Key::Flags(Scope::Cluster) | Key::Drains => true,
            Key::Alive(_) | Key::Director(_) | Key::Owned(_) => false,
        }
    }

    /// True if a store says what this node knows of it.
    pub fn is_view_of(&self, store: &StoreState) -> bool {
        let scopes = [Scope::Cluster, Scope::Node(self.node)];
        self.store.drains == store.drains
            && self.store.nodes.get(&self.node) == store.nodes.get(&self.node)
            && scopes.iter().all(|scope| self.store.flags.get(scope) == store.flags.get(scope))
    }

    /// What is known of the system.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The listeners that are known.
    pub fn listeners(&self) -> &BTreeSet<ListenerId> {
        &self.listeners
    }

    /// The services that fail their checks, and why, as they are known.
    pub fn unhealthy(&self) -> &Unhealthy {
        &self.unhealthy
    }

    /// Of a dump of TCP what [`LookOutcome::crowded`] says.
    pub fn crowded(&self, sockets: &[Listener]) -> Option<Vec<Listener>> {
        self.queues.crowded(&self.outcome.servers, sockets)
    }

    /// Of the connections that wait on a port, by the sockets of the last dump, those that wait for
    /// what the node serves.
    pub fn waiting(
        &self,
        port: u16,
        waiting: &[Unaccepted],
        sockets: &[Listener],
    ) -> Vec<WaitingGroup> {
        WaitingGroup::of(port, waiting, &self.outcome.servers, sockets)
    }

    /// Of the listeners on flagged ports what [`Surroundings::listening`] says.
    pub fn listening(&self, listeners: &[Listener]) -> Vec<(Protocol, u16)> {
        hints::listening(listeners, &self.layers())
    }

    /// Takes a new configuration.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.conf = conf;
        self.ranges_due = true;
        self.next_look_around = now;
    }

    /// Whether this node is the active director: its record says so.
    pub fn direct(&mut self, directing: bool, now: Instant) {
        if self.directing != directing {
            self.directing = directing;
            self.compute_due = true;
            self.publish_at_once(now);
        }
    }

    /// The active director on this node vouches for itself: its record says so.
    pub fn vouch(&mut self, number: u32, now: Instant) {
        if self.directing && self.vouched != Some(number) {
            self.vouched = Some(number);
            self.publish_at_once(now);
        }
    }

    /// What this node's table obeys, if it is a director: its record says so.
    pub fn obey(&mut self, obeys: AppliedOrders, now: Instant) {
        if self.obeys != obeys {
            self.obeys = obeys;
            self.publish_at_once(now);
        }
    }

    /// Serves nothing any more, whatever listens. [`NodeAction::Report`] says how many connections
    /// are left, as often as that changes, and 0 at last.
    pub fn leave(&mut self, now: Instant) {
        self.left = Some(Departure { reported: None });
        self.next_count = now;
        // A record that is written at once for another reason must not be the last word.
        self.compute_due = true;
        self.publication.ask(now);
    }

    fn publish_at_once(&mut self, now: Instant) {
        // Not before it is known what there is to say.
        match self.publication.stored().is_some() {
            true => self.is_urgent = true,
            false => self.publication.ask(now),
        }
    }

    /// It is time to look at everything that asks for it.
    pub fn step(&mut self) {
        self.actions.push_back(NodeAction::ReadStore);
        self.look_due = true;
    }

    /// What is to be done now, if anything; what came of it is told before this is asked again.
    pub fn next(&mut self, now: Instant) -> Option<NodeAction> {
        while self.actions.is_empty() && self.decide(now) {}
        self.actions.pop_front()
    }

    /// When something is due that no event tells of.
    pub fn due(&self) -> Instant {
        let count = Some(self.next_count).filter(|_| !self.leaving.is_empty());
        let when_ready = count.into_iter().chain(self.publication.due());
        when_ready.filter(|_| self.is_ready).fold(self.next_look_around, Instant::min)
    }

    /// Decides one thing; false if there is nothing to decide.
    fn decide(&mut self, now: Instant) -> bool {
        self.is_ready = self.is_known && self.is_settled && now < self.next_look_around;
        if mem::take(&mut self.ranges_due) {
            self.actions.push_back(NodeAction::Watch(flagged::ranges(&self.layers())));
        } else if self.look_due && now >= self.next_look_around {
            self.next_look_around = now + LOOK_AROUND_EVERY;
            self.actions.push_back(NodeAction::LookAround(hints::ranges(&self.layers())));
        } else if mem::take(&mut self.look_due) {
            self.actions.push_back(NodeAction::Look);
        } else if mem::take(&mut self.is_urgent) {
            self.publish(now);
        } else if !self.is_ready {
            return false;
        } else if let Some(outcome) = self.computed.take() {
            self.serve(outcome, now);
        } else if !self.publish_due && (self.compute_due || self.publication.is_due(now)) {
            self.compute_due = false;
            self.compute();
        } else if !self.leaving.is_empty() && now >= self.next_count {
            self.actions.push_back(NodeAction::Count(self.leaving.countable()));
        } else if mem::take(&mut self.publish_due) {
            self.publish(now);
        } else {
            return self.report();
        }
        true
    }

    /// What came of reading the store.
    pub fn store_read(&mut self, outcome: Result<StoreRead, StoreFailure>, now: Instant) {
        let StoreRead { values, faults } = match outcome {
            Ok(read) => read,
            Err(error) => {
                if !mem::replace(&mut self.is_unread, true) {
                    warn!("cannot read the store, the last known flags stay in force: {error}");
                }
                return;
            }
        };
        let changed: BTreeSet<Key> = values.keys().collect();
        self.store.take(values);
        if !mem::replace(&mut self.is_known, true) {
            // Ports that the last cvipd served and this one may not find any more.
            let recorded = self.store.nodes.get(&self.node);
            let left = recorded.into_iter().flat_map(|record| &record.registrations);
            self.gone = Gone::of(left.clone().map(service_of));
            self.leaving = Leaving::of(left.map(port_of));
        }
        self.is_unread = false;
        for fault in faults {
            self.repair(fault);
        }
        let flags = [Key::Flags(Scope::Cluster), Key::Flags(Scope::Node(self.node))];
        if flags.iter().any(|key| changed.contains(key)) {
            self.ranges_due = true;
            self.next_look_around = now;
        }
        // Another process removed or replaced this node's record: it is written again.
        if changed.contains(&Key::Node(self.node))
            && self.store.nodes.get(&self.node) != self.publication.stored()
        {
            self.publication.invalidate();
            self.compute_due = true;
        }
        self.compute_due |= changed.contains(&Key::Drains);
    }

    /// A corrupt value that is this node's to write is written anew from what is known.
    fn repair(&mut self, fault: Fault) {
        let is_own = match fault.key {
            Key::Node(node) | Key::Flags(Scope::Node(node)) => node == self.node,
            Key::Flags(Scope::Cluster) => true,
            Key::Alive(_) | Key::Drains | Key::Director(_) | Key::Owned(_) => false,
        };
        if is_own {
            if self.corrupt.as_ref() != Some(&fault.to_string()) {
                error!("corrupt store file {fault}; it is rebuilt from what this node knows");
            }
            self.publication.invalidate();
            self.compute_due = true;
            self.actions.push_back(NodeAction::Repair(fault));
        }
    }

    /// What came of writing a corrupt value anew.
    pub fn repaired(&mut self, fault: &Fault, outcome: Result<(), StoreFailure>) {
        let text = fault.to_string();
        self.corrupt = match outcome {
            Ok(()) => None,
            Err(error) => {
                if self.corrupt.as_ref() != Some(&text) {
                    error!("{error}");
                }
                Some(text)
            }
        };
    }

    /// What the system is like, and what listens on the ports that the hints are about.
    pub fn looked_around(&mut self, around: Surroundings) {
        if let Some(system) = around.system {
            self.system = system;
        }
        match around.listening {
            Ok(listening) => {
                let layers = self.layers();
                self.hints = hints::hints(&listening, &layers, &self.outcome.registrations);
            }
            Err(error) => warn!("cannot read listeners for the hints of `status`: {error}"),
        }
        self.compute_due = true;
    }

    /// What came of a look at the listeners and at the checks.
    pub fn looked(&mut self, look: LookOutcome, now: Instant) {
        let LookOutcome { is_changed, listeners, faults, crowded, unhealthy } = look;
        self.checked(CheckOutcomes { is_changed, unhealthy });
        self.watched(listeners);
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            warn!("cannot see listeners: {fault}");
        }
        self.faults = faults;
        if let Some(crowded) = crowded {
            self.dumped(&crowded, now);
        }
    }

    /// Other listeners are known.
    pub fn watched(&mut self, change: ListenersChange) {
        self.is_settled = change.is_settled;
        change.apply(&mut self.listeners);
    }

    /// What came of checks.
    pub fn checked(&mut self, outcomes: CheckOutcomes) {
        self.compute_due |= outcomes.is_changed;
        if let Some(unhealthy) = outcomes.unhealthy {
            self.unhealthy = unhealthy;
        }
    }

    /// Takes a dump of TCP: servers that hang have full accept queues.
    fn dumped(&mut self, crowded: &[Listener], now: Instant) {
        self.compute_due |= self.queues.dumped(&self.outcome.servers, crowded);
        let wanted = self.queues.wanted(now);
        if now >= self.next_queues && !wanted.is_empty() {
            self.actions.push_back(NodeAction::ReadQueues(wanted));
        }
    }

    /// Which connections wait in the accept queues of a port, or why that is not known.
    pub fn queue_read(&mut self, port: u16, waiting: QueueReading, now: Instant) {
        match waiting {
            Ok(waiting) => {
                let servers = &self.outcome.servers;
                self.compute_due |= self.queues.looked(port, &waiting, servers, now);
            }
            Err(error) => warn!(
                "cannot read the accept queues of port {port}, so that a hung server is not \
                 noticed: {error}"
            ),
        }
    }

    /// Reading accept queues took so long.
    pub fn queues_read(&mut self, took: Duration, now: Instant) {
        self.next_queues = now + QUEUES_SHARE * took;
    }

    fn compute(&mut self) {
        let [node, cluster] = flagged::flags(self.node, &self.store);
        let outcome = match self.left {
            Some(_) => JoinOutcome::default(),
            None => {
                registrations::compute(&self.listeners, &self.conf, &node, &cluster, &self.system)
            }
        };
        let served = &outcome.registrations;
        let targets = checks::targets(&self.conf, self.node, served, self.directing);
        self.computed = Some(outcome);
        self.actions.push_back(NodeAction::Check(Targets(targets)));
    }

    /// What was computed is what the node serves from now on.
    fn serve(&mut self, mut outcome: JoinOutcome, now: Instant) {
        for registration in &mut outcome.registrations {
            let service = registration.service;
            registration.unhealthy = match self.queues.hangs(service) {
                true => Some("accepts no connection: its accept queue stays full".to_owned()),
                false => self.unhealthy.0.get(&service).cloned(),
            };
        }
        let served = outcome.registrations.iter().map(service_of).collect();
        self.gone.update(self.outcome.registrations.iter().map(service_of), &served);
        let served = outcome.registrations.iter().map(port_of).collect();
        let before = self.leaving.clone();
        let drained = match self.left {
            Some(_) => flagged::served(&self.conf, self.node, &outcome.registrations),
            None => flagged::drained(&self.conf, self.node, &outcome.registrations, &self.store),
        };
        self.leaving.update(self.outcome.registrations.iter().map(port_of), &served, drained);
        if outcome != self.outcome || self.leaving != before {
            self.next_count = now;
        }
        self.actions.push_back(NodeAction::SetEligible(outcome.servers.all()));
        self.kept_out.log(&outcome.refused, &self.system.names, now);
        self.outcome = outcome;
        self.publish_due = true;
    }

    /// How many connections there are on the ports of each protocol that could be counted, for
    /// those that have any, and how long that took.
    pub fn counted(
        &mut self,
        counts: &BTreeMap<Protocol, BTreeMap<u16, usize>>,
        took: Duration,
        now: Instant,
    ) {
        let count = |(protocol, port): LeavingPort| {
            let counts = counts.get(&protocol)?;
            Some(counts.get(&port).copied().unwrap_or(0))
        };
        self.publish_due |= self.leaving.count(count);
        // A count walks every connection of the node: beside very many, it is made less often.
        self.next_count = now + COUNT_EVERY.max(COUNT_SHARE * took);
    }

    fn publish(&mut self, now: Instant) {
        self.tell_left();
        let record = shortened(NodeRecord {
            event_source: self.event_source.clone(),
            registrations: self.outcome.registrations.clone(),
            refused: self.outcome.refused.clone(),
            refused_more: self.outcome.refused_more,
            reachable: self.outcome.reachable.clone(),
            lingering: self.leaving.lingering(),
            hints: self.hints.clone(),
            flags: self.store.flags_of(Scope::Node(self.node)),
            directing: self.directing,
            vouched: self.vouched,
            obeys: self.obeys.drains.iter().copied().collect(),
            leaving: self.left.is_some(),
            released: self.obeys.released.iter().copied().collect(),
            ..NodeRecord::empty(self.node, 0, 0)
        });
        if let Some(record) = self.publication.next(record, self.store.nodes.get(&self.node), now) {
            // What is told of ports that were left counts beside this record.
            self.tell_left();
            self.actions.push_back(NodeAction::Put(Box::new(record)));
        }
    }

    /// What became of writing this node's record.
    pub fn put(&mut self, outcome: Result<(), StoreFailure>, now: Instant) {
        self.publication.put(outcome, now);
    }

    /// Tells which ports the node has left. Before a record was tried, nothing is known.
    fn tell_left(&mut self) {
        let Some(record) = self.publication.tried() else { return };
        let served = self.outcome.registrations.iter().map(service_of).collect();
        let left = self.gone.told(record, &served);
        if left != self.told_left {
            self.told_left = left.clone();
            self.actions.push_back(NodeAction::TellLeft(left));
        }
    }

    fn layers(&self) -> Vec<Layers> {
        flagged::layers(&self.conf, self.node, &self.store)
    }

    /// Tells how many connections are left, once the record says that the node leaves and all
    /// were counted; false if there is nothing to tell.
    fn report(&mut self) -> bool {
        let is_told = self.publication.stored().is_some_and(|record| record.leaving);
        let Some(departure) = self.left.as_mut().filter(|_| is_told && self.publication.is_done())
        else {
            return false;
        };
        let connections =
            self.leaving.lingering().iter().map(|port| port.connections as usize).sum();
        if departure.reported.replace(connections) == Some(connections) {
            return false;
        }
        self.actions.push_back(NodeAction::Report(connections));
        true
    }
}

fn service_of(registration: &Registration) -> LeftService {
    (registration.service.cvip, port_of(registration))
}

fn port_of(registration: &Registration) -> LeavingPort {
    (registration.service.protocol, registration.service.port)
}

#[cfg(test)]
mod tests;
