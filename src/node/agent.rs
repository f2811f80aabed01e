//! The node's agent: it watches listeners and flags, and keeps the node's record true.
//!
//! It owns its state and has no thread: whoever drives it polls [`NodeAgent::fds`], waits no longer
//! than [`NodeAgent::timeout`], and calls [`NodeAgent::step`]. A record is published only when it says
//! something new, and never before every flagged protocol was dumped once: a start must not
//! look like a leave.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::gone::Gone;
use super::leaving::{Leaving, LeavingPort};
use super::pace::WritePace;
use super::queues::Queues;
use super::registrations::{self, JoinOutcome};
use super::system::System;
use super::{checks, hints, kept_out};
use crate::checks::{Checker, HealthState};
use crate::conf::Conf;
use crate::counter;
use crate::heartbeat;
use crate::listeners::{self, Dumper, ListenerWatch, Ranges};
use crate::ports::Layers;
use crate::protocol::Protocol;
use crate::store::{
    AppliedOrders, Fault, Key, NodeRecord, Refreshed, RefusedListener, Registration, Scope,
    ServiceKey, Store, StoreError, drain_of, shortened,
};

/// How often the connections on a port that was left are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Counting takes at most one part in so many of a core.
const COUNT_SHARE: u32 = 100;

/// Reading who waits in accept queues takes at most one part in so many of a core.
const WAITING_SHARE: u32 = 20;

/// How often what does not ring is looked at: addresses, hints.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(60);

/// How soon a failed publication is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One that the store refuses again and again is tried this often.
const RETRY_LATEST: Duration = Duration::from_secs(15);

/// Takes the ports that a node has left.
pub type Tell = Box<dyn Fn(heartbeat::LeftPorts) + Send>;

/// One node's state.
pub struct NodeAgent {
    node: u32,
    conf: Arc<Conf>,
    around: System,
    watch: ListenerWatch,
    /// For the hints alone, whose ranges are others than the watch's.
    hint_dumper: Dumper,
    store: Box<dyn Store>,
    /// The store was read at least once: before that, nothing is known, and nothing is said.
    known: bool,
    /// The record as it was last published.
    published: Option<NodeRecord>,
    incarnation: u64,
    outcome: JoinOutcome,
    queues: Queues,
    /// How many dumps of TCP the queues were seen in.
    dumps_seen: u64,
    /// The list of waiting connections is not read before this: its cost is bounded.
    next_waiting: Instant,
    checker: Checker<ServiceKey>,
    hints: Vec<String>,
    /// What could not be dumped, as it was last logged.
    faults: Vec<String>,
    leaving: Leaving,
    /// This node is the active director.
    directing: bool,
    /// How often it has vouched for itself as the active director.
    vouched: Option<u32>,
    obeys: AppliedOrders,
    /// It was said that the store cannot be read.
    unread: bool,
    /// Why its record cannot be stored, and what of the store is corrupt, as it was last said.
    unstored: Option<String>,
    corrupt: Option<String>,
    /// Who waits for the node to have left.
    left: Option<LeaveWaiter>,
    next_count: Instant,
    next_look: Instant,
    retry_at: Option<Instant>,
    /// What can wait is written then.
    write_at: Option<Instant>,
    pace: WritePace,
    /// Ports that were served and are not, the last one last.
    gone: Gone,
    /// The newest record that was written, or that was tried.
    tried: Option<(u64, u64)>,
    /// What was last told of them, and whom.
    departed: heartbeat::LeftPorts,
    tell: Option<Tell>,
    /// How often in a row the store took no record.
    refusals: u32,
    kept_out: kept_out::Log,
}

/// What an agent sees and asks with.
pub struct NodeSources {
    /// Notices listeners.
    pub watch: ListenerWatch,
    /// For the hints alone, whose ranges are others than the watch's.
    pub hint_dumper: Dumper,
    /// Runs cvip.conf's checks.
    pub checker: Checker<ServiceKey>,
}

/// Who waits for the node to have left, and what he was told last.
struct LeaveWaiter {
    report: Sender<usize>,
    said: Option<usize>,
}

impl NodeAgent {
    /// An agent that has seen nothing yet, of the incarnation that holds the node's lease. A
    /// store that cannot be reached yet is waited for.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        node: u32,
        conf: Arc<Conf>,
        senses: NodeSources,
        mut store: Box<dyn Store>,
        incarnation: u64,
        now: Instant,
    ) -> Result<NodeAgent, StoreError> {
        let (refreshed, known) = match store.refresh() {
            Ok(refreshed) => (refreshed, true),
            Err(error) if error.is_unavailable() => {
                warn!("{error}");
                (Refreshed::default(), false)
            }
            Err(error) => return Err(error),
        };
        let left = recorded(&*store, node);
        let gone = Gone::of(left.iter().copied());
        let NodeSources { watch, hint_dumper, checker } = senses;
        let mut agent = NodeAgent {
            node,
            around: System::read(node, &conf),
            conf,
            watch,
            hint_dumper,
            // Ports that the last cvipd served and this one may not find any more.
            leaving: Leaving::of(left),
            directing: false,
            vouched: None,
            obeys: AppliedOrders::default(),
            unread: false,
            unstored: None,
            corrupt: None,
            left: None,
            store,
            known,
            published: None,
            incarnation,
            outcome: JoinOutcome::default(),
            queues: Queues::default(),
            dumps_seen: 0,
            next_waiting: now,
            checker,
            hints: Vec::new(),
            faults: Vec::new(),
            next_count: now,
            next_look: now,
            retry_at: None,
            write_at: None,
            pace: WritePace::new(now),
            gone,
            tried: None,
            departed: heartbeat::LeftPorts::default(),
            tell: None,
            refusals: 0,
            kept_out: kept_out::Log::new(now),
        };
        agent.repair(refreshed.faults);
        agent.set_ranges(now);
        Ok(agent)
    }

    /// Who is told which ports the node has left, before the store is: it may not answer.
    #[must_use]
    pub fn telling(self, tell: Tell) -> NodeAgent {
        NodeAgent { tell: Some(tell), ..self }
    }

    /// How listeners are noticed.
    pub fn event_source(&self) -> String {
        self.watch.source().to_string()
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.watch.fd().into_iter().chain([self.store.wakeup(), self.checker.fd()]).collect()
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        let mut at = self.next_look;
        at = at.min(self.retry_at.unwrap_or(at)).min(self.write_at.unwrap_or(at));
        if !self.leaving.is_empty() {
            at = at.min(self.next_count);
        }
        let own = at.saturating_duration_since(now).min(self.checker.timeout(now));
        self.watch.poll_timeout(now).map_or(own, |watch| watch.min(own))
    }

    /// Takes a new configuration.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.around = System::read(self.node, &conf);
        self.conf = conf;
        self.set_ranges(now);
        self.next_look = now;
    }

    /// Whether this node is the active director: its record says so.
    pub fn direct(&mut self, directing: bool, now: Instant) {
        if self.directing != directing {
            self.directing = directing;
            let served = self.outcome.registrations.clone();
            self.set_targets(&served, now);
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

    /// Serves nothing any more, whatever listens. `report` hears how many connections are left,
    /// as often as that changes, and 0 at last.
    pub fn leave(&mut self, report: Sender<usize>, now: Instant) {
        self.left = Some(LeaveWaiter { report, said: None });
        self.next_count = now;
        self.retry_at = Some(now);
    }

    /// Tells who waits for it how many connections are left.
    fn tell_left(&mut self) {
        let Some(left) = &mut self.left else { return };
        let counted = self.leaving.lingering();
        let connections = counted.iter().map(|port| port.connections as usize).sum();
        // Not before the record says so, and everything was counted once.
        let is_told = self.published.as_ref().is_some_and(|record| record.leaving);
        if is_told && self.retry_at.is_none() && left.said != Some(connections) {
            left.said = Some(connections);
            // Whoever asked may have given up waiting.
            let _ = left.report.send(connections);
        }
    }

    fn publish_at_once(&mut self, now: Instant) {
        // Not before it is known what there is to say.
        match self.published.is_some() {
            true => self.publish(now),
            false => self.retry_at = Some(now),
        }
    }

    /// Looks at what asks for it and publishes what is new.
    pub fn step(&mut self, now: Instant) {
        let mut look = self.follow_store(now);
        if now >= self.next_look {
            self.next_look = now + LOOK_AROUND_EVERY;
            self.around = System::read(self.node, &self.conf);
            self.update_hints();
            look = true;
        }
        look |= self.watch.step(now).is_some();
        look |= self.look_at_queues(now);
        look |= self.checker.step(now);
        look |= self.published.is_none();
        look |= self.retry_at.is_some_and(|at| now >= at);
        look |= self.write_at.is_some_and(|at| now >= at);
        self.log_faults();
        if !self.known || !self.watch.is_settled() {
            return;
        }
        if look {
            self.compute(now);
            // What is new is asked at once.
            self.checker.step(now);
        }
        let counted = !self.leaving.is_empty() && now >= self.next_count && self.count(now);
        if look || counted {
            self.publish(now);
        }
        self.tell_left();
    }

    /// Looks whether servers hang, after a new dump. True if another service hangs than before,
    /// or one fewer.
    fn look_at_queues(&mut self, now: Instant) -> bool {
        if self.dumps_seen == self.watch.tcp_dumps() {
            return false;
        }
        self.dumps_seen = self.watch.tcp_dumps();
        let servers = &self.outcome.servers;
        let mut changed = self.queues.dumped(servers, self.watch.tcp_sockets());
        let wanted = self.queues.wanted(now);
        if now < self.next_waiting || wanted.is_empty() {
            return changed;
        }
        let started = Instant::now();
        for port in wanted {
            match self.watch.unaccepted(port) {
                Ok(waiting) => {
                    let sockets = self.watch.tcp_sockets();
                    changed |= self.queues.looked(port, &waiting, servers, sockets, now);
                }
                Err(error) => warn!(
                    "who waits in the accept queues of port {port} cannot be read, so that a hung \
                     server is not noticed: {error}"
                ),
            }
        }
        self.next_waiting = now + WAITING_SHARE * started.elapsed();
        changed
    }

    /// True if the stored flags (or our own record) are others than before.
    fn follow_store(&mut self, now: Instant) -> bool {
        let refreshed = match self.store.refresh() {
            Ok(refreshed) => refreshed,
            Err(error) => {
                if !std::mem::replace(&mut self.unread, true) {
                    warn!("the store cannot be read, the last known flags stay in force: {error}");
                }
                return false;
            }
        };
        if !self.known {
            // What the last cvipd served is known only now.
            let left = recorded(&*self.store, self.node);
            (self.gone, self.leaving) = (Gone::of(left.iter().copied()), Leaving::of(left));
        }
        (self.known, self.unread) = (true, false);
        self.repair(refreshed.faults);
        let flags = [Key::Flags(Scope::Cluster), Key::Flags(Scope::Node(self.node))];
        if flags.iter().any(|key| refreshed.changed.contains(key)) {
            self.set_ranges(now);
            self.next_look = now;
            return true;
        }
        // Somebody removed or replaced our record: say again what is true.
        if refreshed.changed.contains(&Key::Node(self.node))
            && self.store.state().nodes.get(&self.node) != self.published.as_ref()
        {
            self.published = None;
            return true;
        }
        refreshed.changed.contains(&Key::Drains)
    }

    /// A corrupt value that is this node's to write is written anew from what is known.
    fn repair(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            let mine = match fault.key {
                Key::Node(node) | Key::Flags(Scope::Node(node)) => node == self.node,
                Key::Flags(Scope::Cluster) => true,
                Key::Alive(_) | Key::Drains | Key::Director(_) | Key::Owned(_) => false,
            };
            if !mine {
                continue;
            }
            let text = fault.to_string();
            let is_news = self.corrupt.as_ref() != Some(&text);
            if is_news {
                error!("corrupt store file {text}; it is rebuilt from what this node knows");
            }
            self.corrupt = match self.store.repair(fault.key) {
                Ok(()) => None,
                Err(error) => {
                    if is_news {
                        error!("{error}");
                    }
                    Some(text)
                }
            };
            self.published = None;
        }
    }

    /// Says once what of the listeners cannot be read.
    fn log_faults(&mut self) {
        let faults: Vec<String> =
            self.watch.faults().map(|(protocol, error)| format!("{protocol}: {error}")).collect();
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            warn!("listeners cannot be seen: {fault}");
        }
        self.faults = faults;
    }

    fn layers(&self) -> Vec<Layers> {
        let state = self.store.state();
        let (node, cluster) =
            (state.flags_of(Scope::Node(self.node)), state.flags_of(Scope::Cluster));
        let serving = self.conf.cvips.iter().filter(|c| c.real_server(self.node).is_some());
        serving.map(|cvip| registrations::layers(cvip, &node, &cluster)).collect()
    }

    fn set_ranges(&mut self, now: Instant) {
        let mut ranges = Ranges::new();
        for layers in self.layers() {
            for protocol in Protocol::ALL {
                for (start, end) in layers.ranges(protocol) {
                    ranges.add(protocol, start, end);
                }
            }
        }
        self.watch.set_ranges(now, ranges);
    }

    fn compute(&mut self, now: Instant) {
        let state = self.store.state();
        let (node, cluster) =
            (state.flags_of(Scope::Node(self.node)), state.flags_of(Scope::Cluster));
        let observed = self.watch.observed();
        let mut outcome = match self.left {
            Some(_) => JoinOutcome::default(),
            None => registrations::compute(observed, &self.conf, &node, &cluster, &self.around),
        };
        self.set_targets(&outcome.registrations, now);
        for registration in &mut outcome.registrations {
            registration.unhealthy = self.unhealthy(registration.service);
        }
        let served = outcome.registrations.iter().map(port_of).collect();
        self.gone.update(self.outcome.registrations.iter().map(port_of), &served);
        let before = self.leaving.clone();
        let drained = self.drained(&outcome);
        self.leaving.update(self.outcome.registrations.iter().map(port_of), &served, drained);
        if outcome != self.outcome || self.leaving != before {
            self.next_count = now;
        }
        self.watch.set_eligible(outcome.servers.all());
        self.log_kept_out(&outcome.refused, now);
        self.outcome = outcome;
    }

    /// Tells which ports the node has left, for its heartbeat. Before a record was tried, nothing
    /// is known.
    fn tell_gone(&mut self) {
        let (Some(record), Some(tell)) = (self.tried, &self.tell) else { return };
        let served = self.outcome.registrations.iter().map(port_of).collect();
        let departed = self.gone.told(record, &served);
        if departed != self.departed {
            self.departed.clone_from(&departed);
            tell(departed);
        }
    }

    /// Says once of each listener that it does not join, though its port is flagged.
    fn log_kept_out(&mut self, refused: &[RefusedListener], now: Instant) {
        for row in self.kept_out.new_ones(refused, now) {
            let RefusedListener { service, bound, uid, reason, reachable } = row;
            let bound = SocketAddr::new(*bound, service.port);
            let text = format!(
                "the listener of user id {uid} on {bound} does not join {service}: {reason}; \
                 `cvipctl doctor' on this node says what to do"
            );
            // Most of what listens on loopback alone is meant to.
            if *reachable { warn!("{text}") } else { info!("{text}") }
        }
    }

    fn set_targets(&mut self, served: &[Registration], now: Instant) {
        let targets = checks::targets(&self.conf, self.node, served, self.directing);
        self.checker.set_targets(targets, now);
    }

    /// The ports that operators drain, of those that this node serves; all of them while it leaves.
    fn drained(&self, outcome: &JoinOutcome) -> BTreeSet<LeavingPort> {
        let drains = &self.store.state().drains;
        let leaves = self.left.is_some();
        if drains.is_empty() && !leaves {
            return BTreeSet::new();
        }
        let registered = outcome.registrations.iter().map(|registration| registration.service);
        let cvips = self.conf.cvips.iter().filter(|cvip| cvip.real_server(self.node).is_some());
        let fixed = cvips.flat_map(|cvip| cvip.standing_ports().map(|port| (cvip.addr, port)));
        let fixed = fixed.map(|(cvip, (protocol, port))| ServiceKey { cvip, protocol, port });
        let is_drained = |key: &ServiceKey| leaves || drain_of(drains, self.node, *key).is_some();
        let drained = registered.chain(fixed).filter(is_drained);
        drained.map(|key| (key.protocol, key.port)).collect()
    }

    /// Why a service that listens should get no new connections.
    fn unhealthy(&self, service: ServiceKey) -> Option<String> {
        if self.queues.hangs(service) {
            return Some("accepts no connection: its accept queue stays full".to_owned());
        }
        let health = self.checker.health(&service)?;
        match (health.state(), health.outcome()) {
            (HealthState::Unhealthy, Some(Err(why))) => Some(why.clone()),
            (HealthState::Unhealthy, _) => Some("its check failed".to_owned()),
            _ => None,
        }
    }

    /// Counts the connections on ports that are left or drained. True if any count is another.
    fn count(&mut self, now: Instant) -> bool {
        let started = Instant::now();
        let watch = &mut self.watch;
        let changed = self.leaving.count(
            |(protocol, port)| watch.connections(protocol, port),
            |(protocol, port), error| {
                warn!("connections on {protocol} port {port} cannot be counted: {error}");
            },
        );
        // A count walks every connection of the node: beside very many, it is made less often.
        self.next_count = now + COUNT_EVERY.max(COUNT_SHARE * started.elapsed());
        changed
    }

    fn update_hints(&mut self) {
        let layers = self.layers();
        let mut ranges = Ranges::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let own = layers.iter().flat_map(|layers| layers.ranges(protocol));
            for (start, end) in own.chain(hints::other_ranges(&layers, protocol)) {
                ranges.add(protocol, start, end);
            }
        }
        match self.hint_dumper.snapshot(&ranges) {
            Ok(seen) => self.hints = hints::hints(&seen, &layers, &self.outcome.registrations),
            Err(error) => warn!("listeners cannot be read for the hints of `status': {error}"),
        }
    }

    fn publish(&mut self, now: Instant) {
        (self.retry_at, self.write_at) = (None, None);
        self.tell_gone();
        let record = NodeRecord {
            node: self.node,
            incarnation: self.incarnation,
            sequence: self.published.as_ref().map_or(1, |record| record.sequence),
            event_source: self.event_source(),
            registrations: self.outcome.registrations.clone(),
            refused: self.outcome.refused.clone(),
            refused_more: self.outcome.refused_more,
            reachable: self.outcome.reachable.clone(),
            lingering: self.leaving.lingering(),
            hints: self.hints.clone(),
            flags: self.store.state().flags_of(Scope::Node(self.node)),
            directing: self.directing,
            vouched: self.vouched,
            obeys: self.obeys.drains.iter().copied().collect(),
            leaving: self.left.is_some(),
            released: self.obeys.released.iter().copied().collect(),
        };
        let record = shortened(record);
        if self.published.as_ref() == Some(&record) {
            return;
        }
        let due = self.pace.due(self.published.as_ref(), &record, now);
        if due > now {
            self.write_at = Some(due);
            return;
        }
        // The store may be behind, or have been emptied.
        let own = record.next_version(self.incarnation);
        let stored = self.store.state().nodes.get(&self.node);
        let after = stored.map_or(own, |stored| stored.next_version(self.incarnation));
        let is_behind = counter::is_later_pair(own, after);
        let (incarnation, sequence) = if is_behind { own } else { after };
        let record = NodeRecord { incarnation, sequence, ..record };
        self.tried = match self.tried {
            Some(tried) if !counter::is_later_pair(record.version(), tried) => Some(tried),
            _ => Some(record.version()),
        };
        self.tell_gone();
        match self.store.put_node(&record) {
            Ok(()) => {
                self.refusals = 0;
                self.pace.wrote(now);
                if self.unstored.take().is_some() {
                    info!("this node's record is stored again");
                }
                self.log_change(&record);
                self.incarnation = record.incarnation;
                self.published = Some(record);
            }
            Err(error) => {
                // A store that refuses does so for long: it is asked less and less often.
                let again = RETRY_AFTER.saturating_mul(1 << self.refusals).min(RETRY_LATEST);
                let again = if error.is_unavailable() { RETRY_AFTER } else { again };
                self.refusals = (self.refusals + 1).min(6);
                let text = error.to_string();
                if self.unstored.as_ref() != Some(&text) {
                    error!("this node's record cannot be stored, trying again: {text}");
                    self.unstored = Some(text);
                }
                self.store.invalidate();
                self.retry_at = Some(now + again);
            }
        }
    }

    fn log_change(&self, record: &NodeRecord) {
        let before = self.published.as_ref().map_or(&[][..], |record| &record.registrations);
        for registration in record.registrations.iter().filter(|r| !before.contains(r)) {
            let Registration { service, weight, unhealthy, .. } = registration;
            match unhealthy {
                None => info!("node {} serves {service} with weight {weight}", self.node),
                Some(why) => warn!("node {} is not fit to serve {service}: {why}", self.node),
            }
        }
        let served = |key| record.registrations.iter().any(|r| r.service == key);
        for registration in before.iter().filter(|r| !served(r.service)) {
            info!("node {} no longer serves {}", self.node, registration.service);
        }
    }
}

/// The ports of a node's stored record.
fn recorded(store: &dyn Store, node: u32) -> Vec<LeavingPort> {
    let record = store.state().nodes.get(&node);
    record.into_iter().flat_map(|record| &record.registrations).map(port_of).collect()
}

fn port_of(registration: &Registration) -> LeavingPort {
    (registration.service.protocol, registration.service.port)
}

/// Opens a watch with the best socket events that the kernel allows, or, if `polling` says why not,
/// without any.
///
/// # Errors
/// The kernel gives no sock_diag socket.
pub fn open_watch(
    now: Instant,
    polling: Option<&str>,
) -> Result<ListenerWatch, listeners::ListenersError> {
    match polling {
        Some(why) => ListenerWatch::polling(now, why),
        None => ListenerWatch::open(now),
    }
}
