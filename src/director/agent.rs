//! The director's agent: it follows the store and keeps the kernel's table true.
//!
//! It owns its state and has no thread: whoever drives it polls [`Agent::fds`], waits no longer
//! than [`Agent::timeout`], and calls [`Agent::step`]. A change of one node's record touches
//! that node's services; a full pass at start, on a change of flags or configuration, after a
//! failure and once a minute repairs everything else. Stopping changes nothing: the table goes
//! on, and the next start adopts it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::desired::{Inputs, registered, touched};
use super::flaps::Limits;
use super::marks::{Marks, Quiet};
use super::plan::Drains;
use super::reconcile::{self, Plans, Refused};
use super::view::{Draining, Quieted, View};
use crate::conf::Conf;
use crate::ipvs::{Change, Client, Error};
use crate::store::{Key, NodeRecord, Refreshed, ServiceKey, State, Store, StoreError};

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
    /// The records by which the table was last made.
    seen: BTreeMap<u32, NodeRecord>,
    /// Services that changed records touch, not looked at yet.
    pending: BTreeSet<ServiceKey>,
    drains: Drains,
    marks: Marks,
    /// Who gets no new connections, by the last pass over each service.
    quiet: BTreeMap<(ServiceKey, IpAddr), Quiet>,
    next_drain: Instant,
    next_full: Instant,
    retry_after: Duration,
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
        Ok(Agent {
            me,
            conf,
            client,
            // The first pass is made by these records: what differs from them is news.
            seen: store.state().nodes.clone(),
            store,
            known,
            pending: BTreeSet::new(),
            drains: Drains::new(),
            marks: Marks::default(),
            quiet: BTreeMap::new(),
            next_drain: now,
            next_full: now,
            retry_after: RETRY_AFTER,
        })
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.store.wakeup()]
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        if !self.pending.is_empty() {
            return Duration::ZERO;
        }
        let drain = (!self.drains.is_empty()).then_some(self.next_drain);
        let others = drain.into_iter().chain(self.marks.flaps.next_tick());
        others.fold(self.next_full, Instant::min).saturating_duration_since(now)
    }

    /// Takes a new configuration; the next step is a full pass.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.conf = conf;
        self.next_full = now;
    }

    /// Looks at what asks for it and makes the table true.
    pub fn step(&mut self, now: Instant) {
        self.follow_store(now);
        self.pending.extend(self.marks.flaps.tick(now));
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
        let Agent { me, conf, client, store, marks, drains, .. } = self;
        let nodes = &store.state().nodes;
        let inputs = Inputs { conf, nodes, me: *me, marks, now };
        let plans = reconcile::plan_all(client, inputs, store.state(), drains)?;
        self.quiet.clear();
        self.carry_out(plans, now)
    }

    /// Notes the services that changed records touch. A change of flags asks for a full pass: a
    /// hand-made service on a newly flagged port is adopted.
    fn follow_store(&mut self, now: Instant) {
        let refreshed = match self.store.refresh() {
            Ok(refreshed) => refreshed,
            Err(error) => {
                warn!("the store cannot be read, the table stays as it is: {error}");
                return;
            }
        };
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
                Key::Alive(_) | Key::Drains | Key::Director(_) | Key::Owned(_) => {}
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
            record.is_some_and(|record| registered(record, key).is_some())
        };
        for key in touched(old, new) {
            let limits = Limits::default();
            match (serves(old, key), serves(new, key)) {
                (true, false) => self.marks.flaps.left((key, node), limits, now),
                (false, true) => self.marks.flaps.joined((key, node), limits, now),
                _ => {}
            }
            self.pending.insert(key);
        }
    }

    fn pass(&mut self, services: &BTreeSet<ServiceKey>, now: Instant) -> Result<Report, Trouble> {
        let Agent { me, conf, client, store, marks, drains, .. } = self;
        let inputs = Inputs { conf, nodes: &store.state().nodes, me: *me, marks, now };
        let plans = reconcile::plan_some(client, services, inputs, drains)?;
        self.quiet.retain(|(key, _), _| !services.contains(key));
        self.carry_out(plans, now)
    }

    fn carry_out(&mut self, mut plans: Plans, now: Instant) -> Result<Report, Trouble> {
        self.next_drain = now + DRAIN_EVERY;
        let quiet = std::mem::take(&mut plans.quiet);
        self.quiet.extend(quiet.into_iter().map(|(key, addr, why)| ((key, addr), why)));
        // Owned before it is made: a crash between the two leaves nothing that nobody owns.
        let owned = self.store.state().owned.get(&self.me).cloned().unwrap_or_default();
        let standing: BTreeSet<ServiceKey> = owned.union(&plans.standing).copied().collect();
        if standing != owned {
            self.own(&standing, now)?;
        }
        let refused = reconcile::apply(&mut self.client, &plans)?;
        let failed = |index: usize| refused.iter().any(|refused| refused.failure.index == index);
        let changes = plans.changes.iter().enumerate();
        let applied: Vec<Change> =
            changes.filter(|(i, _)| !failed(*i)).map(|(_, (_, change))| change.clone()).collect();
        let kept: BTreeSet<ServiceKey> = standing.difference(&plans.gone).copied().collect();
        if kept != standing && refused.is_empty() {
            self.own(&kept, now)?;
        }
        Ok(Report { applied, refused })
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
