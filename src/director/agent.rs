//! The director's agent: it follows the store and keeps the kernel's table true.
//!
//! It owns its state and has no thread: whoever drives it polls [`Agent::fds`], waits no longer
//! than [`Agent::timeout`], and calls [`Agent::step`]. A change of one node's record touches
//! that node's services; a full pass at start, on a change of flags or configuration, after a
//! failure and once a minute repairs everything else. Stopping changes nothing: the table goes
//! on, and the next start adopts it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::desired::{Inputs, registered, services_of, standing_keys, touched};
use super::flaps::{Limits, Server};
use super::marks::{Marks, Quiet};
use super::plan::Drains;
use super::reconcile::{self, Plans, Refused};
use super::settings::service_key;
use super::sync;
use super::view::{Draining, Quieted, View};
use super::{Happening, checks};
use crate::checks::{Checker, State as Fit};
use crate::conf::Conf;
use crate::ipvs::{Change, Client, Error, ServiceId};
use crate::store::{
    self, DrainOrder, DrainTarget, Key, NodeRecord, Refreshed, ServiceKey, State, Store, StoreError,
};

/// A full pass this often repairs what nobody said.
const RESYNC_EVERY: Duration = Duration::from_secs(60);

/// Drains are looked at this often while there are any.
const DRAIN_EVERY: Duration = Duration::from_millis(500);

/// A failed pass is made again after this, doubled each time up to the next full one.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What a pass did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The changes that the kernel took.
    pub applied: Vec<Change>,
    /// Those that it refused.
    pub refused: Vec<Refused>,
}

/// One director's state.
pub struct Agent {
    me: u32,
    conf: Arc<Conf>,
    client: Client,
    store: Box<dyn Store>,
    /// The store was read at least once: before that, nothing is known, and the table stays.
    known: bool,
    /// It was said that the store cannot be read.
    unread: bool,
    /// The records by which the table was last made.
    seen: BTreeMap<u32, NodeRecord>,
    /// Services that changed records touch, not looked at yet.
    pending: BTreeSet<ServiceKey>,
    drains: Drains,
    /// Operators' drains, as they were last looked at.
    ordered: store::Drains,
    marks: Marks,
    /// Of static real servers.
    checker: Checker<Server>,
    /// Those that failed, and why.
    failed: BTreeMap<Server, String>,
    sync: Sync,
    /// It is a standby that keeps no table.
    passive: bool,
    /// Who gets no new connections, by the last pass over each service.
    quiet: BTreeMap<(ServiceKey, IpAddr), Quiet>,
    happenings: Vec<Happening>,
    next_drain: Instant,
    next_full: Instant,
    retry_after: Duration,
    /// The last pass left nothing undone.
    right: bool,
}

impl Agent {
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
        checker: Checker<Server>,
        now: Instant,
    ) -> Result<Agent, StoreError> {
        let (refreshed, known) = match store.refresh() {
            Ok(refreshed) => (refreshed, true),
            Err(error) if error.is_away() => {
                warn!("{error}");
                (Refreshed::default(), false)
            }
            Err(error) => return Err(error),
        };
        for fault in refreshed.faults {
            error!("spoilt store file {fault}");
            if fault.key == Key::Owned(me) {
                store.repair(fault.key)?;
            }
        }
        let mut agent = Agent {
            me,
            conf,
            client,
            // The first pass is made by these records: what differs from them is news.
            seen: store.state().nodes.clone(),
            ordered: store.state().drains.clone(),
            store,
            known,
            unread: false,
            pending: BTreeSet::new(),
            drains: Drains::new(),
            marks: Marks::default(),
            checker,
            failed: BTreeMap::new(),
            sync: Sync::default(),
            passive: false,
            quiet: BTreeMap::new(),
            happenings: Vec::new(),
            next_drain: now,
            next_full: now,
            retry_after: RETRY_AFTER,
            right: false,
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
        if !self.pending.is_empty() {
            return Duration::ZERO;
        }
        let drain = (!self.drains.is_empty()).then_some(self.next_drain);
        let others = drain.into_iter().chain(self.marks.flaps.next_tick());
        let at = others.fold(self.next_full, Instant::min);
        at.saturating_duration_since(now).min(self.checker.timeout(now))
    }

    /// Takes a new configuration; the next step is a full pass.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.conf = conf;
        self.set_targets(now);
        self.next_full = now;
    }

    /// Looks at what asks for it and makes the table true.
    pub fn step(&mut self, now: Instant) {
        self.follow_store(now);
        self.pending.extend(self.marks.flaps.tick(now));
        self.check(now);
        if now >= self.next_full {
            // Noted, and tried again, by the pass itself.
            let _ = self.full_pass(now);
            return;
        }
        if !self.known {
            return;
        }
        let mut services = std::mem::take(&mut self.pending);
        if !self.drains.is_empty() && now >= self.next_drain {
            services.extend(self.drains.keys().map(|(key, _)| *key));
        }
        if !services.is_empty() {
            let outcome = self.pass(&services, now);
            self.note(&outcome, now);
        }
    }

    /// Makes a full pass now and says what it did. A failure is logged, and tried again later.
    ///
    /// # Errors
    /// The kernel or the store could not be read or changed.
    pub fn full_pass(&mut self, now: Instant) -> Result<Report, Trouble> {
        self.store.distrust();
        self.follow_store(now);
        self.pending.clear();
        self.next_full = now + RESYNC_EVERY;
        let outcome = self.try_full_pass(now);
        self.note(&outcome, now);
        outcome
    }

    fn try_full_pass(&mut self, now: Instant) -> Result<Report, Trouble> {
        if !self.known {
            // Says why.
            self.store.refresh()?;
            self.known = true;
        }
        self.synchronise()?;
        let plans = self.plan_all(now, None)?;
        let before = std::mem::take(&mut self.quiet);
        self.carry_out(plans, before, now)
    }

    /// What a full pass would change now. Nothing is changed by asking.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn differences(&mut self, now: Instant) -> Result<Vec<Change>, Trouble> {
        self.follow_store(now);
        let mut drains = self.drains.clone();
        let plans = self.plan_all(now, Some(&mut drains))?;
        Ok(plans.changes.into_iter().map(|(_, change)| change).collect())
    }

    /// Plans a full pass, with these drains instead of its own.
    fn plan_all(&mut self, now: Instant, instead: Option<&mut Drains>) -> Result<Plans, Trouble> {
        let Agent { me, conf, client, store, marks, drains, passive, .. } = self;
        let State { nodes, drains: ordered, .. } = store.state();
        let inputs =
            Inputs { conf, nodes, me: *me, drains: ordered, marks, passive: *passive, now };
        Ok(reconcile::plan_all(client, inputs, store.state(), instead.unwrap_or(drains))?)
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
            self.next_full = now;
        }
        for fault in refreshed.faults {
            error!("spoilt store file {fault}; the last known value stays in force");
            if fault.key == Key::Owned(self.me)
                && let Err(error) = self.store.repair(fault.key)
            {
                error!("{error}");
            }
        }
        for key in refreshed.changed {
            match key {
                Key::Node(node) => {
                    let new = self.store.state().nodes.get(&node).cloned();
                    self.touch(node, new.as_ref(), now);
                    match new {
                        Some(record) => drop(self.seen.insert(node, record)),
                        None => drop(self.seen.remove(&node)),
                    }
                }
                Key::Flags(_) => self.next_full = now,
                Key::Drains => self.touch_drained(),
                Key::Alive(_) | Key::Director(_) | Key::Owned(_) => {}
            }
        }
        let directed = |key: &ServiceKey| {
            self.conf.cvip(key.cvip).is_some_and(|cvip| cvip.is_director(self.me))
        };
        self.pending.retain(directed);
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
                    self.marks.flaps.left((key, node), limits, now);
                    self.happenings.push(Happening::Left { service: key, node });
                }
                (None, Some(weight)) => {
                    self.marks.flaps.joined((key, node), limits, now);
                    self.happenings.push(Happening::Joined { service: key, node, weight });
                }
                _ => {}
            }
            self.pending.insert(key);
        }
        if old.map(|record| &record.flags) != new.map(|record| &record.flags) {
            self.next_full = now;
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
            self.happenings.push(match self.ordered.get(&target) {
                Some(order) => Happening::drain_ordered(&target, order),
                None => Happening::DrainEnded { target: target.to_string() },
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
    pub fn mark(&mut self, marks: Marks) {
        let flaps = std::mem::take(&mut self.marks.flaps);
        let mut marks = Marks { flaps, ..marks };
        marks.unfit.extend(self.failed.clone());
        let before = std::mem::replace(&mut self.marks, marks);
        let after = &self.marks;
        let mut nodes: BTreeSet<u32> =
            before.silent.symmetric_difference(&after.silent).copied().collect();
        nodes.extend(before.dead.symmetric_difference(&after.dead));
        if before.predecessor != after.predecessor {
            nodes.extend(before.predecessor.iter().chain(&after.predecessor));
        }
        let unfit = before.unfit.iter().chain(&after.unfit);
        let is_new = |(server, why): &(&Server, &String)| {
            before.unfit.get(server) != Some(why) || after.unfit.get(server) != Some(why)
        };
        self.pending.extend(unfit.filter(is_new).map(|((key, _), _)| *key));
        for node in nodes {
            let services = self.services_on(node);
            self.pending.extend(services);
        }
    }

    /// Says which static real servers are asked: by another configuration or part, others.
    fn set_targets(&mut self, now: Instant) {
        let targets = match self.passive {
            true => BTreeMap::new(),
            false => checks::targets(&self.conf, self.me),
        };
        self.checker.set_targets(targets, now);
    }

    /// Asks static real servers, and notes those that fail.
    fn check(&mut self, now: Instant) {
        self.checker.step(now);
        let mut failed = BTreeMap::new();
        for (server, _, fitness) in self.checker.iter().filter(|(.., f)| f.state() == Fit::Unfit) {
            let why = fitness.outcome().and_then(|outcome| outcome.clone().err());
            failed.insert(*server, why.unwrap_or_else(|| "its check failed".to_owned()));
        }
        if failed != self.failed {
            let before = std::mem::replace(&mut self.failed, failed);
            let mut marks = self.marks.clone();
            marks.unfit.retain(|server, _| !before.contains_key(server));
            self.mark(marks);
        }
    }

    /// Takes its part in its set: which synchronisation daemon runs depends on it, and whether
    /// there is a table. A standby's is ready only where the kernel leaves it alone until it is
    /// needed, which it does beside a daemon that receives (`backup_only`, ipvs-sysctl.rst).
    pub fn take_part(&mut self, part: sync::Part, now: Instant) {
        self.sync.part = Some(part);
        if let Err(error) = self.synchronise() {
            error!("{error}");
        }
        let passive = !part.active && !part.forwarding && self.sync.wished.is_none();
        if passive != self.passive {
            self.passive = passive;
            self.set_targets(now);
            self.next_full = now;
        }
    }

    /// Makes the synchronisation daemon the one of its part.
    fn synchronise(&mut self) -> Result<(), Trouble> {
        let wish = self.sync.part.as_ref().and_then(|part| sync::wish(&self.conf, self.me, part));
        if wish.is_none() && self.sync.wished.is_none() {
            return Ok(());
        }
        let running = self.client.daemons()?;
        let (changes, in_the_way) = sync::plan(wish.as_ref(), self.sync.wished.as_ref(), &running);
        for failure in self.client.apply(&changes)? {
            error!("connection synchronisation: {failure}");
        }
        if in_the_way != self.sync.in_the_way {
            in_the_way.iter().for_each(|daemon| warn!("{daemon}"));
        }
        (self.sync.wished, self.sync.in_the_way) = (wish, in_the_way);
        Ok(())
    }

    fn pass(&mut self, services: &BTreeSet<ServiceKey>, now: Instant) -> Result<Report, Trouble> {
        let Agent { me, conf, client, store, marks, drains, passive, .. } = self;
        let State { nodes, drains: ordered, .. } = store.state();
        let inputs =
            Inputs { conf, nodes, me: *me, drains: ordered, marks, passive: *passive, now };
        let plans = reconcile::plan_some(client, services, inputs, drains)?;
        let mut before = BTreeMap::new();
        for key in services {
            before.extend(self.quiet.extract_if(quieted_of(*key), |_, _| true));
        }
        self.carry_out(plans, before, now)
    }

    /// Makes the changes of plans. `before` is who got no new connections, of the services that
    /// were planned.
    fn carry_out(
        &mut self,
        mut plans: Plans,
        before: BTreeMap<(ServiceKey, IpAddr), Quiet>,
        now: Instant,
    ) -> Result<Report, Trouble> {
        self.next_drain = now + DRAIN_EVERY;
        let quiet = std::mem::take(&mut plans.quiet);
        let quiet: BTreeMap<_, _> =
            quiet.into_iter().map(|(key, addr, why)| ((key, addr), why)).collect();
        self.tell_quiet(&before, &quiet);
        self.quiet.extend(quiet);
        // Owned before it is made: a crash between the two leaves nothing that nobody owns.
        let owned = self.store.state().owned.get(&self.me).cloned().unwrap_or_default();
        let standing: BTreeSet<ServiceKey> = owned.union(&plans.standing).copied().collect();
        if standing != owned {
            self.own(&standing, now)?;
        }
        let refused = reconcile::apply(&mut self.client, &plans)?;
        let failed = |index: usize| refused.iter().any(|refused| refused.failure.index == index);
        let changes = plans.changes.iter().enumerate();
        let mut applied = Vec::new();
        for (_, (key, change)) in changes.filter(|(i, _)| !failed(*i)) {
            self.happenings.extend(Happening::out(change, *key));
            applied.push(change.clone());
        }
        let kept: BTreeSet<ServiceKey> = standing.difference(&plans.gone).copied().collect();
        if kept != standing && refused.is_empty() {
            self.own(&kept, now)?;
        }
        Ok(Report { applied, refused })
    }

    /// Tells who gets no new connections any more, and who does again.
    fn tell_quiet(
        &mut self,
        before: &BTreeMap<(ServiceKey, IpAddr), Quiet>,
        after: &BTreeMap<(ServiceKey, IpAddr), Quiet>,
    ) {
        let state = |quiet: &Quiet| (quiet.said().0, matches!(quiet, Quiet::Spared(_)));
        for ((key, addr), quiet) in after {
            if before.get(&(*key, *addr)).map(state) != Some(state(quiet)) {
                self.happenings.push(Happening::quieted(*key, *addr, quiet));
            }
        }
        for (service, address) in before.keys().filter(|server| !after.contains_key(server)) {
            if self.serves(*service, *address) {
                let (service, address) = (*service, *address);
                self.happenings.push(Happening::Restored { service, address });
            }
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

    /// The drains that the table obeys; none while it is not what it should be.
    pub fn obeys(&self) -> Option<BTreeSet<DrainTarget>> {
        let ordered = match self.passive {
            true => BTreeSet::new(),
            false => self.ordered.keys().copied().collect(),
        };
        (self.right && self.pending.is_empty()).then_some(ordered)
    }

    /// What happened since this was last asked.
    pub fn take_happenings(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings)
    }

    /// Deletes every service of its own, and ends its synchronisation daemon: this node is to
    /// direct no more.
    pub fn leave(&mut self, now: Instant) {
        if let Err(error) = self.try_leave(now) {
            error!("what cvipd made in the kernel's table is not all deleted: {error}");
        }
    }

    fn try_leave(&mut self, now: Instant) -> Result<(), Trouble> {
        self.follow_store(now);
        let owned = self.store.state().owned.get(&self.me).cloned().unwrap_or_default();
        let standing = self.client.services()?;
        let standing = standing.iter().map(|entry| entry.service.id);
        let is_own = |id: &ServiceId| service_key(*id).is_some_and(|key| owned.contains(&key));
        let mut changes: Vec<Change> = standing.filter(is_own).map(Change::DeleteService).collect();
        if self.sync.wished.is_some() {
            let running = self.client.daemons()?;
            changes.extend(sync::plan(None, self.sync.wished.as_ref(), &running).0);
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
    pub fn view(&self, now: Instant) -> View {
        let draining = self.drains.iter();
        let quiet = self.quiet.iter();
        View {
            draining: draining.map(|((key, at), d)| Draining::of(*key, *at, d, now)).collect(),
            quiet: quiet.map(|((key, addr), why)| Quieted::of(*key, *addr, why)).collect(),
        }
    }

    fn own(&mut self, owned: &BTreeSet<ServiceKey>, now: Instant) -> Result<(), StoreError> {
        self.store.put_owned(self.me, owned)?;
        self.follow_store(now);
        Ok(())
    }

    /// Logs a pass and decides when the next one is.
    fn note(&mut self, outcome: &Result<Report, Trouble>, now: Instant) {
        let trouble = match outcome {
            Ok(report) => {
                for change in &report.applied {
                    info!("{change}");
                }
                for refused in &report.refused {
                    error!("{refused}");
                }
                !report.refused.is_empty()
            }
            Err(error) => {
                error!("the table could not be made true, trying again: {error}");
                true
            }
        };
        self.right = !trouble;
        if trouble {
            self.next_full = now + self.retry_after;
            self.retry_after = (self.retry_after * 2).min(RESYNC_EVERY);
        } else {
            self.retry_after = RETRY_AFTER;
        }
    }

    /// What the store says, as this director last read it.
    pub fn state(&self) -> &State {
        self.store.state()
    }
}

/// The keys of those who get no new connections of a service.
fn quieted_of(key: ServiceKey) -> RangeInclusive<(ServiceKey, IpAddr)> {
    (key, IpAddr::V4(Ipv4Addr::UNSPECIFIED))..=(key, IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)))
}

/// What it makes of the kernel's connection synchronisation.
#[derive(Default)]
struct Sync {
    /// Its part, once it has one.
    part: Option<sync::Part>,
    /// The daemon that it last wished.
    wished: Option<sync::Wish>,
    /// What was last said to be in the way.
    in_the_way: Option<sync::InTheWay>,
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The kernel's table could not be read or changed.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
