//! The director's agent: it follows the store and keeps the kernel's table true.
//!
//! It owns its state and has no thread: whoever drives it polls [`DirectorAgent::fds`], waits no longer
//! than [`DirectorAgent::timeout`], and calls [`DirectorAgent::step`]. A change of one node's record touches
//! that node's services; a full pass at start, on a change of flags or configuration, after a
//! failure and once a minute repairs everything else, and a cheap look once a second says which
//! services another program changed. What passes decide and remember stands in [`Passes`]. Stopping
//! changes nothing: the table goes on, and the next start adopts it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tracing::{error, info, warn};

use super::desired::{Inputs, registered, services_of, standing_keys, touched};
use super::flaps::{Limits, ServerKey};
use super::passes::{Pass, PassOutcome, Passes};
use super::reconcile::{KernelTable, RefusedChange};
use super::restrictions::Restrictions;
use super::settings::service_key;
use super::sync::{self, Synchroniser};
use super::view::{Draining, Quiesced, TableView};
use super::{DirectorEvent, checks, departures, fingerprint, table};
use crate::checks::{Checker, HealthState};
use crate::conf::Conf;
use crate::ipvs::{Change, Client, IpvsError, ServiceId};
use crate::net;
use crate::store::{
    self, AppliedOrders, DrainOrder, DrainTarget, Key, NodeRecord, Refreshed, ServiceKey, Store,
    StoreError, StoreState,
};

/// The synchronisation daemon is looked at this often.
const LOOK_AT_DAEMON: Duration = Duration::from_secs(1);

/// How long an agent that has left waits for nothing: until it is ended.
const LEFT_FOR: Duration = Duration::from_secs(3600);

/// Whether the kernel leaves the table alone while a daemon receives.
const BACKUP_ONLY: &str = "net/ipv4/vs/backup_only";

/// What a pass did.
#[derive(Clone, Debug, Default)]
pub struct PassReport {
    /// The changes that the kernel took.
    pub applied: Vec<Change>,
    /// Those that it refused.
    pub refused: Vec<RefusedChange>,
}

/// One director's state.
pub struct DirectorAgent {
    me: u32,
    conf: Arc<Conf>,
    client: Client,
    store: Box<dyn Store>,
    /// The store was read at least once: before that, nothing is known, and the table stays.
    known: bool,
    /// It was said that the store cannot be read.
    unread: bool,
    /// It has left: it touches the kernel's table no more.
    left: bool,
    /// The records by which the table was last made.
    seen: BTreeMap<u32, NodeRecord>,
    /// Services that changed records touch, not looked at yet.
    pending: BTreeSet<ServiceKey>,
    passes: Passes,
    /// Operators' drains, as they were last looked at.
    ordered: store::Drains,
    restrictions: Restrictions,
    /// Of static real servers.
    checker: Checker<ServerKey>,
    /// Those that failed, and why.
    failed: BTreeMap<ServerKey, String>,
    sync: Synchroniser,
    next_sync: Instant,
    /// It is a standby that keeps no table: why.
    passive: Option<String>,
    /// Its part asks for a table that no full pass has made yet.
    owes: bool,
    /// Once there is that table, an event says so.
    tells_ready: bool,
    /// It was said that the table cannot be looked at.
    blind: bool,
    events: Vec<DirectorEvent>,
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
        now: Instant,
    ) -> Result<DirectorAgent, StoreError> {
        let (refreshed, known) = match store.refresh() {
            Ok(refreshed) => (refreshed, true),
            Err(error) if error.is_unavailable() => {
                warn!("{error}");
                (Refreshed::default(), false)
            }
            Err(error) => return Err(error),
        };
        for fault in refreshed.faults {
            error!("corrupt store file {fault}");
            if fault.key == Key::Owned(me) {
                store.repair(fault.key)?;
            }
        }
        let mut agent = DirectorAgent {
            me,
            conf,
            client,
            left: false,
            // The first pass is made by these records: what differs from them is news.
            seen: store.state().nodes.clone(),
            ordered: store.state().drains.clone(),
            store,
            known,
            unread: false,
            pending: BTreeSet::new(),
            passes: Passes::new(now),
            restrictions: Restrictions::default(),
            checker,
            failed: BTreeMap::new(),
            sync: Synchroniser::default(),
            next_sync: now,
            passive: None,
            owes: false,
            tells_ready: false,
            blind: false,
            events: Vec::new(),
        };
        agent.set_targets(now);
        Ok(agent)
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.store.wakeup(), self.checker.fd()]
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        if self.left {
            return LEFT_FOR;
        }
        if !self.pending.is_empty() {
            return Duration::ZERO;
        }
        let sync = self.sync.has_any().then_some(self.next_sync);
        let others = sync.into_iter().chain(self.restrictions.flaps.next_tick());
        let at = others.fold(self.passes.due(), Instant::min);
        at.saturating_duration_since(now).min(self.checker.timeout(now))
    }

    /// Takes a new configuration; the next step is a full pass.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.conf = conf;
        self.set_targets(now);
        self.passes.ask_full(now);
    }

    /// Looks at what asks for it and makes the table true.
    pub fn step(&mut self, now: Instant) {
        // A worker that is to end makes one more step.
        if self.left {
            return;
        }
        self.follow_store(now);
        self.pending.extend(self.restrictions.flaps.tick(now));
        self.check(now);
        if now >= self.next_sync && self.sync.has_any() {
            self.look_at_daemon(now);
        }
        if self.passes.is_full_due(now) {
            // Noted, and tried again, by the pass itself.
            let _ = self.full_pass(now);
            return;
        }
        if !self.known {
            return;
        }
        let mut services = std::mem::take(&mut self.pending);
        services.extend(self.passes.moving(now));
        let is_flushed = self.passes.is_proc_table_due(now) && fingerprint::is_flushed();
        if is_flushed || self.passes.is_look_due(now) {
            services.extend(self.look(now));
        }
        if !services.is_empty() {
            let outcome = self.pass(services, now);
            self.log(&outcome);
        }
    }

    /// Looks at the whole table; gives the services that another program changed.
    fn look(&mut self, now: Instant) -> BTreeSet<ServiceKey> {
        let started = processor_time();
        match fingerprint::read() {
            Ok(text) => {
                let prints = fingerprint::prints(&text);
                self.blind = false;
                self.passes.looked(&prints, processor_time().saturating_sub(started), now)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.blind, true) {
                    warn!(
                        "the kernel's table cannot be looked at, hand edits are undone late: {error}"
                    );
                }
                self.passes.skip_look(now);
                BTreeSet::new()
            }
        }
    }

    /// Makes a full pass now and says what it did. A failure is logged, and tried again later.
    ///
    /// # Errors
    /// The kernel or the store could not be read or changed.
    pub fn full_pass(&mut self, now: Instant) -> Result<PassReport, PassError> {
        self.store.invalidate();
        self.follow_store(now);
        self.pending.clear();
        let outcome = self.try_full_pass(now);
        if outcome.is_ok() && (self.passive.is_none() || self.passes.is_settled()) {
            self.owes = false;
            if std::mem::take(&mut self.tells_ready) {
                self.events.push(DirectorEvent::TableReady);
            }
        }
        self.log(&outcome);
        outcome
    }

    fn try_full_pass(&mut self, now: Instant) -> Result<PassReport, PassError> {
        let read = self.read_for_full_pass(now);
        match read {
            Ok((services, table)) => self.carry_out(true, services, table, now),
            Err(error) => {
                self.passes.failed(true, None, now);
                Err(error)
            }
        }
    }

    fn read_for_full_pass(
        &mut self,
        now: Instant,
    ) -> Result<(BTreeSet<ServiceKey>, KernelTable), PassError> {
        if !self.known {
            // Says why.
            self.store.refresh()?;
            self.known = true;
            let nodes: BTreeSet<u32> =
                self.store.state().nodes.keys().chain(self.seen.keys()).copied().collect();
            nodes.into_iter().for_each(|node| self.take_record(node, now));
        }
        self.synchronise(now)?;
        let DirectorAgent { me, conf, client, store, seen: nodes, restrictions, passive, .. } =
            self;
        let drains = &store.state().drains;
        let passive = passive.is_some();
        let inputs = Inputs { conf, nodes, me: *me, drains, restrictions, passive, now };
        Ok(table::read_all(client, inputs, store.state())?)
    }

    /// What a full pass would change now. Nothing is changed by asking.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn differences(&mut self, now: Instant) -> Result<Vec<Change>, PassError> {
        self.follow_store(now);
        let mut drains = self.passes.drains.clone();
        let DirectorAgent { me, conf, client, store, seen: nodes, restrictions, passive, .. } =
            self;
        let ordered = &store.state().drains;
        let passive = passive.is_some();
        let inputs = Inputs { conf, nodes, me: *me, drains: ordered, restrictions, passive, now };
        let plans = table::plan_all(client, inputs, store.state(), &mut drains)?;
        Ok(plans.changes.into_iter().map(|(_, change)| change).collect())
    }

    /// Notes the services that changed records touch. A change of flags asks for a full pass: a
    /// hand-made service on a newly flagged port is adopted.
    fn follow_store(&mut self, now: Instant) {
        let refreshed = match self.store.refresh() {
            Ok(refreshed) => refreshed,
            Err(error) => {
                if !std::mem::replace(&mut self.unread, true) {
                    warn!("the store cannot be read, the table stays as it is: {error}");
                }
                return;
            }
        };
        self.unread = false;
        if !self.known {
            self.known = true;
            self.passes.ask_full(now);
        }
        for fault in refreshed.faults {
            error!("corrupt store file {fault}; the last known value stays in force");
            if fault.key == Key::Owned(self.me)
                && let Err(error) = self.store.repair(fault.key)
            {
                error!("{error}");
            }
        }
        for key in refreshed.changed {
            match key {
                Key::Node(node) => self.take_record(node, now),
                Key::Flags(_) => self.passes.ask_full(now),
                Key::Drains => {
                    self.touch_drained();
                    self.passes.confirm_soon(now);
                }
                Key::Alive(_) | Key::Director(_) | Key::Owned(_) => {}
            }
        }
        self.keep_directed();
    }

    /// Forgets the services that this node does not direct.
    fn keep_directed(&mut self) {
        let directed = |key: &ServiceKey| {
            self.conf.cvip(key.cvip).is_some_and(|cvip| cvip.is_director(self.me))
        };
        self.pending.retain(directed);
    }

    /// Takes a node's record from the store, without the ports that the node has left since.
    fn take_record(&mut self, node: u32, now: Instant) {
        let stored = self.store.state().nodes.get(&node);
        let left = self.restrictions.left.get(&node);
        let new = stored.map(|record| departures::without(record, left).into_owned());
        self.touch(node, new.as_ref(), now);
        match new {
            Some(record) => drop(self.seen.insert(node, record)),
            None => drop(self.seen.remove(&node)),
        }
    }

    /// Notes what a node's new record changes: the services to look at, and who came or went.
    fn touch(&mut self, node: u32, new: Option<&NodeRecord>, now: Instant) {
        let old = self.seen.get(&node);
        let serves = |record: Option<&NodeRecord>, key| {
            record.and_then(|record| registered(record, key)).map(|registered| registered.weight)
        };
        for key in touched(old, new) {
            let limits = self.limits(key);
            match (serves(old, key), serves(new, key)) {
                (Some(_), None) => {
                    self.restrictions.flaps.left((key, node), limits, now);
                    self.events.push(DirectorEvent::Left { service: key, node });
                }
                (None, Some(weight)) => {
                    self.restrictions.flaps.joined((key, node), limits, now);
                    self.events.push(DirectorEvent::Joined { service: key, node, weight });
                }
                _ => {}
            }
            self.pending.insert(key);
        }
        let leaves = |record: Option<&NodeRecord>| record.is_some_and(|record| record.leaving);
        if leaves(old) != leaves(new) {
            let services = self.services_on(node);
            self.pending.extend(services);
            self.passes.confirm_soon(now);
        }
        let old = self.seen.get(&node);
        if old.map(|record| &record.flags) != new.map(|record| &record.flags) {
            self.passes.ask_full(now);
        }
    }

    /// How often a real server of a service may leave.
    fn limits(&self, key: ServiceKey) -> Limits {
        let cvip = self.conf.cvip(key.cvip);
        cvip.and_then(|cvip| cvip.service_for(key.protocol, key.port)).map_or_else(
            Limits::default,
            |service| Limits {
                leaves: service.flap_limit,
                hold: Duration::from_secs(service.damp_time.into()),
            },
        )
    }

    /// Notes the services of what operators drain, or drain no longer.
    fn touch_drained(&mut self) {
        let ordered = self.store.state().drains.clone();
        let before = std::mem::replace(&mut self.ordered, ordered);
        let is_new = |(target, order): &(&DrainTarget, &DrainOrder)| {
            self.ordered.get(target) != Some(order) || before.get(target) != Some(order)
        };
        let changed = before.iter().chain(&self.ordered).filter(is_new).map(|(target, _)| *target);
        let changed: BTreeSet<DrainTarget> = changed.collect();
        for target in changed {
            self.events.push(match self.ordered.get(&target) {
                Some(order) => DirectorEvent::drain_ordered(&target, order),
                None => DirectorEvent::DrainEnded { target: target.to_string() },
            });
            let is_of =
                |key: &ServiceKey| target.port.is_none_or(|p| p == (key.protocol, key.port));
            let services = self.services_on(target.node);
            self.pending.extend(services.into_iter().filter(is_of));
        }
    }

    /// The services of a node, by its record and by cvip.conf.
    fn services_on(&self, node: u32) -> BTreeSet<ServiceKey> {
        let recorded = self.seen.get(&node).into_iter().flat_map(services_of);
        let mut services: BTreeSet<ServiceKey> = recorded.collect();
        let cvips = self.conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some());
        services.extend(cvips.flat_map(standing_keys));
        services
    }

    /// Takes other marks, but for those that the agent makes itself: what they touch is looked at
    /// in the next step.
    pub fn mark(&mut self, restrictions: Restrictions, now: Instant) {
        let flaps = std::mem::take(&mut self.restrictions.flaps);
        let mut restrictions = Restrictions { flaps, ..restrictions };
        restrictions.unhealthy.extend(self.failed.clone());
        restrictions.keep_left(&self.restrictions.left);
        let before = std::mem::replace(&mut self.restrictions, restrictions);
        let after = &self.restrictions;
        let mut nodes: BTreeSet<u32> =
            before.suspected.symmetric_difference(&after.suspected).copied().collect();
        nodes.extend(before.dead.symmetric_difference(&after.dead));
        nodes.extend(before.leaving.symmetric_difference(&after.leaving));
        if before.former_director != after.former_director {
            nodes.extend(before.former_director.iter().chain(&after.former_director));
        }
        let unhealthy = before.unhealthy.iter().chain(&after.unhealthy);
        let is_new = |(server, why): &(&ServerKey, &String)| {
            before.unhealthy.get(server) != Some(why) || after.unhealthy.get(server) != Some(why)
        };
        self.pending.extend(unhealthy.filter(is_new).map(|((key, _), _)| *key));
        let changed = |node: &u32| before.left.get(node) != after.left.get(node);
        let left: BTreeSet<u32> =
            before.left.keys().chain(after.left.keys()).copied().filter(changed).collect();
        for node in nodes {
            let services = self.services_on(node);
            self.pending.extend(services);
        }
        for node in left {
            self.take_record(node, now);
        }
        self.keep_directed();
    }

    /// Says which static real servers are asked: by another configuration or part, others.
    fn set_targets(&mut self, now: Instant) {
        let targets = match self.passive {
            Some(_) => BTreeMap::new(),
            None => checks::targets(&self.conf, self.me),
        };
        self.checker.set_targets(targets, now);
    }

    /// Asks static real servers, and notes those that fail.
    fn check(&mut self, now: Instant) {
        self.checker.step(now);
        let mut failed = BTreeMap::new();
        for (server, _, health) in
            self.checker.iter().filter(|(.., f)| f.state() == HealthState::Unhealthy)
        {
            let why = health.outcome().and_then(|outcome| outcome.clone().err());
            failed.insert(*server, why.unwrap_or_else(|| "its check failed".to_owned()));
        }
        if failed != self.failed {
            let before = std::mem::replace(&mut self.failed, failed);
            let mut restrictions = self.restrictions.clone();
            restrictions.unhealthy.retain(|server, _| !before.contains_key(server));
            self.mark(restrictions, now);
        }
    }

    /// Takes its part in its set: which synchronisation daemon runs depends on it, and whether
    /// there is a table. A standby's is ready only where the kernel leaves it alone until it is
    /// needed, which it does beside a daemon that receives (`backup_only`, ipvs-sysctl.rst), and as
    /// soon as the kernel shows that it does.
    pub fn take_role(&mut self, role: sync::SyncRole, now: Instant) {
        self.sync.take_role(role);
        self.look_at_daemon(now);
    }

    /// True if a full pass is still to make the table that its part asks.
    pub fn owes_table(&self) -> bool {
        self.owes
    }

    fn look_at_daemon(&mut self, now: Instant) {
        if let Err(error) = self.synchronise(now) {
            error!("{error}");
        }
    }

    /// Makes the synchronisation daemon the one of its part, and sees whether it is. A standby whose
    /// daemon is not there, whatever was ordered, has no table.
    fn synchronise(&mut self, now: Instant) -> Result<(), PassError> {
        self.next_sync = now + LOOK_AT_DAEMON;
        let desired = self.sync.role().and_then(|role| sync::desired(&self.conf, self.me, role));
        self.sync.desired(desired);
        let outcome = self.try_synchronise(now);
        self.decide_passive(now);
        outcome
    }

    fn try_synchronise(&mut self, now: Instant) -> Result<(), PassError> {
        if !self.sync.has_any() {
            return Ok(());
        }
        let mut running = match self.client.daemons() {
            Ok(running) => running,
            Err(error) => {
                // What cannot be seen does not run.
                let unseen = [error.to_string()];
                self.events.extend(self.sync.show(&[], Some(&unseen), false));
                return Err(error.into());
            }
        };
        let changes = self.sync.plan(&running, now);
        let mut refused = None;
        if !changes.is_empty() {
            let outcome = self.client.apply(&changes);
            let said: Vec<String> = match &outcome {
                Ok(failures) => failures.iter().map(ToString::to_string).collect(),
                Err(error) => vec![error.to_string()],
            };
            for failure in &said {
                error!("connection synchronisation: {failure}");
            }
            refused = Some(said);
            running = self.client.daemons().unwrap_or_default();
        }
        let backup_only = net::setting(BACKUP_ONLY).is_ok_and(|value| value == "1");
        let told = self.sync.show(&running, refused.as_deref(), backup_only);
        if let Some(told) = &told {
            warn!("{told}");
        }
        self.events.extend(told);
        Ok(())
    }

    /// A table that comes or goes is made by a full pass.
    fn decide_passive(&mut self, now: Instant) {
        let passive = self.sync.passive();
        if passive.is_some() != self.passive.is_some() {
            // One that never has a table tells it nobody.
            let is_news = self.sync.has_any();
            self.tells_ready = is_news && passive.is_none();
            if let Some(reason) = passive.as_ref().filter(|_| is_news) {
                warn!("this standby's table is emptied: {reason}");
                self.events.push(DirectorEvent::TablePassive { reason: reason.clone() });
            }
            self.owes = true;
            self.passive = passive;
            self.set_targets(now);
            self.passes.ask_full(now);
        } else {
            self.passive = passive;
        }
    }

    fn pass(
        &mut self,
        services: BTreeSet<ServiceKey>,
        now: Instant,
    ) -> Result<PassReport, PassError> {
        match table::read_some(&mut self.client, &services) {
            Ok(table) => self.carry_out(false, services, table, now),
            Err(error) => {
                self.passes.failed(false, None, now);
                Err(error.into())
            }
        }
    }

    /// Plans a pass, makes its changes, and notes what came of them.
    fn carry_out(
        &mut self,
        full: bool,
        services: BTreeSet<ServiceKey>,
        table: KernelTable,
        now: Instant,
    ) -> Result<PassReport, PassError> {
        let DirectorAgent { me, conf, store, seen: nodes, restrictions, passes, passive, .. } =
            self;
        let drains = &store.state().drains;
        let passive = passive.is_some();
        let inputs = Inputs { conf, nodes, me: *me, drains, restrictions, passive, now };
        let pass = passes.plan(full, services, table, inputs);
        match self.make(&pass, now) {
            Ok(refused) => {
                let failed: BTreeSet<usize> = refused.iter().map(|r| r.failure.index).collect();
                let changes = pass.plans.changes.iter().enumerate();
                let mut applied = Vec::new();
                for (_, (key, change)) in changes.filter(|(i, _)| !failed.contains(i)) {
                    self.events.extend(DirectorEvent::out(change, *key));
                    applied.push(change.clone());
                }
                let gone = pass.plans.gone.clone();
                let outcome = self.passes.applied(pass, &refused, now);
                self.tell(outcome);
                if refused.is_empty() {
                    self.disown(&gone, now)?;
                }
                Ok(PassReport { applied, refused })
            }
            Err(error) => {
                let outcome = self.passes.failed(full, Some(pass), now);
                self.tell(outcome);
                Err(error)
            }
        }
    }

    /// Makes the changes of a pass; gives those that were refused.
    fn make(&mut self, pass: &Pass, now: Instant) -> Result<Vec<RefusedChange>, PassError> {
        // Owned before it is made: a crash between the two leaves nothing that nobody owns.
        let owned = self.owned();
        let standing: BTreeSet<ServiceKey> = owned.union(&pass.plans.standing).copied().collect();
        if standing != owned {
            self.own(&standing, now)?;
        }
        Ok(table::apply(&mut self.client, &pass.plans)?)
    }

    /// Services that are gone from the kernel are not owned any more.
    fn disown(&mut self, gone: &BTreeSet<ServiceKey>, now: Instant) -> Result<(), PassError> {
        let owned = self.owned();
        let kept: BTreeSet<ServiceKey> = owned.difference(gone).copied().collect();
        if kept != owned {
            self.own(&kept, now)?;
        }
        Ok(())
    }

    fn owned(&self) -> BTreeSet<ServiceKey> {
        self.store.state().owned.get(&self.me).cloned().unwrap_or_default()
    }

    /// Tells who gets no new connections any more, who does again, and what was repaired.
    fn tell(&mut self, outcome: PassOutcome) {
        for (key, addr, quiesced) in outcome.quiesced {
            self.events.push(DirectorEvent::quiesced(key, addr, &quiesced));
        }
        for (service, address) in outcome.unquieted {
            if self.serves(service, address) {
                self.events.push(DirectorEvent::Restored { service, address });
            }
        }
        if let Some(repair) = outcome.repair {
            let repaired = DirectorEvent::repaired(repair);
            warn!("{repaired}");
            self.events.push(repaired);
        }
    }

    /// True if a real server is there for a service, by the records or by cvip.conf.
    fn serves(&self, key: ServiceKey, addr: IpAddr) -> bool {
        let Some(cvip) = self.conf.cvip(key.cvip) else { return false };
        let mut servers = cvip.real_servers.iter().filter(|server| server.addr == addr);
        servers.any(|server| {
            let record = self.seen.get(&server.node);
            record.is_some_and(|record| registered(record, key).is_some())
                || standing_keys(cvip).any(|fixed| fixed == key)
        })
    }

    /// The drains that the table obeys, and the nodes that leave and are out; none while it is not what
    /// it should be.
    pub fn obeys(&self) -> Option<AppliedOrders> {
        let obeyed = match self.passive {
            Some(_) => AppliedOrders::default(),
            None => AppliedOrders {
                drains: self.passes.obeys(&self.ordered),
                released: self.passes.released(&self.store.state().nodes),
            },
        };
        (self.passes.is_settled() && self.pending.is_empty()).then_some(obeyed)
    }

    /// What happened since this was last asked.
    pub fn take_events(&mut self) -> Vec<DirectorEvent> {
        std::mem::take(&mut self.events)
    }

    /// Deletes every service of its own, and ends its synchronisation daemon: this node is to
    /// direct no more, and no step makes any of it again.
    pub fn leave(&mut self, now: Instant) {
        self.left = true;
        if let Err(error) = self.try_leave(now) {
            error!("what cvipd made in the kernel's table is not all deleted: {error}");
        }
    }

    fn try_leave(&mut self, now: Instant) -> Result<(), PassError> {
        self.follow_store(now);
        let owned = self.owned();
        self.passes.forget();
        let standing = self.client.services()?;
        let standing = standing.iter().map(|entry| entry.service.id);
        let is_own = |id: &ServiceId| service_key(*id).is_some_and(|key| owned.contains(&key));
        let mut changes: Vec<Change> = standing.filter(is_own).map(Change::DeleteService).collect();
        if self.sync.has_any() {
            let running = self.client.daemons()?;
            changes.extend(self.sync.end(&running));
        }
        let failures = self.client.apply(&changes)?;
        for failure in &failures {
            error!("{failure}");
        }
        if failures.is_empty() {
            self.own(&BTreeSet::new(), now)?;
        }
        Ok(())
    }

    /// What it knows of its pools beside what stands in the kernel.
    pub fn view(&self, now: Instant) -> TableView {
        let draining = self.passes.drains.iter();
        let quiesced = self.passes.quiesced.iter();
        TableView {
            draining: draining.map(|((key, at), d)| Draining::of(*key, *at, d, now)).collect(),
            quiesced: quiesced.map(|((key, addr), why)| Quiesced::of(*key, *addr, why)).collect(),
            sync: self.sync.view(),
            passive: self.passive.clone(),
            look_every_ms: self.passes.look_every().as_millis().try_into().unwrap_or(u64::MAX),
            contested: self.passes.is_contested(now),
        }
    }

    fn own(&mut self, owned: &BTreeSet<ServiceKey>, now: Instant) -> Result<(), StoreError> {
        self.store.put_owned(self.me, owned)?;
        self.follow_store(now);
        Ok(())
    }

    /// Logs a pass.
    fn log(&self, outcome: &Result<PassReport, PassError>) {
        match outcome {
            Ok(report) => {
                for change in &report.applied {
                    info!("{change}");
                }
                for refused in &report.refused {
                    error!("{refused}");
                }
            }
            Err(error) => error!("the table could not be made true, trying again: {error}"),
        }
    }

    /// What the store says, as this director last read it.
    pub fn state(&self) -> &StoreState {
        self.store.state()
    }
}

/// The processor time that the calling thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The kernel's table could not be read or changed.
    #[error(transparent)]
    Kernel(#[from] IpvsError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
