//! What a director's agent decides: when what is read, and what follows from it. Pure.
//!
//! Its driver begins something ([`AgentState::step`], [`AgentState::full_pass`],
//! [`AgentState::take_role`], [`AgentState::leave`]), carries out the action that this gives, and
//! hands what became of it to [`AgentState::done`], which gives the next one, until there is none.
//! Nothing is taken as done because it was ordered.

mod daemons;
mod leave;
mod pass;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::super::desired::Inputs;
use super::super::fingerprint::Print;
use super::super::flaps::ServerKey;
use super::super::passes::{Pass, Passes, Unexpected};
use super::super::restrictions::Restrictions;
use super::super::sync::{SyncRole, Synchroniser};
use super::super::view::{Draining, Quiesced, QuorumView, SlowStarting, TableTimes, TableView};
use super::super::{DirectorEvent, checks};
use super::cluster::Cluster;
use super::messages::{ActionResult, AgentAction, PassError, PassReport};
use crate::checks::CheckTarget;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::ipvs::Change;
use crate::serial::pairs;
use crate::store::{AppliedOrders, ServiceKey, StoreFailure, StoreState, StoreValues};

/// One director's state, but for what stands in the kernel.
#[derive(Serialize, Deserialize)]
pub struct AgentState {
    pub(super) cluster: Cluster,
    pub(super) passes: Passes,
    stage: Stage,
    /// The store was read at least once: before that, nothing is known, and the table stays.
    known: bool,
    /// It was logged that the store cannot be read.
    unread: bool,
    /// It was logged that the table cannot be looked at.
    blind: bool,
    /// It leaves: it makes nothing in the kernel's table any more.
    departure: Option<Departure>,
    sync: Synchroniser,
    next_sync: Instant,
    /// It is a standby that keeps no table: why.
    passive: Option<String>,
    /// Its role asks for a table that no full pass has made yet.
    owes: bool,
    /// Once there is that table, an event tells it.
    tells_ready: bool,
    /// Static real servers that are to be checked from now on.
    targets: Option<Targets>,
    /// What the last pass did.
    outcome: Option<Result<PassReport, PassError>>,
}

/// A director that leaves.
#[derive(Debug, Serialize, Deserialize)]
struct Departure {
    /// When it is tried again; none once nothing of its own is left.
    again: Option<Instant>,
    /// The first failure of the attempt that is under way.
    failure: Option<String>,
    /// What became of the last attempt, as it was told.
    told: Option<Result<(), String>>,
    /// The same, while it is to be told.
    outcome: Option<Result<(), String>>,
}

/// Static real servers that are to be checked, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets(#[serde(with = "pairs")] pub BTreeMap<ServerKey, CheckTarget>);

/// What was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Purpose {
    /// To do what is due.
    Step,
    /// To make a full pass.
    FullPass,
    /// To have the synchronisation daemon of a new role.
    Role,
    /// To read the store.
    ReadStore,
    /// To leave nothing of its own in the kernel.
    Leave,
}

/// Which action is under way.
#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    Idle,
    /// The store is refreshed.
    Store(Purpose),
    /// The daemons are read, or changed and read.
    Daemons(Purpose),
    /// It is seen whether the table was flushed; these services are to be read in any case.
    LookFlushed(BTreeSet<ServiceKey>),
    /// The whole table is looked at.
    Look(BTreeSet<ServiceKey>),
    /// The services of a pass are read.
    Read {
        full: bool,
    },
    /// What a pass is to make is written as owned.
    Own(Box<Pass>, BTreeSet<ServiceKey>),
    /// The changes of a pass are made.
    Apply(Box<Pass>),
    /// Services that a pass deleted are written as owned no longer; these still are.
    Disown {
        full: bool,
        report: PassReport,
        kept: BTreeSet<ServiceKey>,
    },
    /// The services that are to be deleted on leaving are read.
    LeaveRead,
    /// The daemons are read that are to be ended on leaving.
    LeaveDaemons(Vec<Change>),
    /// What is its own is deleted.
    LeaveApply,
    /// That it owns nothing is written.
    LeaveOwn,
}

impl AgentState {
    /// One that has changed nothing yet; its first step is a full pass. `store` is what its driver
    /// has read of the store, if that is `known`.
    pub fn new(
        me: u32,
        conf: Arc<Conf>,
        store: StoreState,
        known: bool,
        now: Instant,
    ) -> AgentState {
        let mut state = AgentState {
            cluster: Cluster::new(me, conf, store),
            passes: Passes::new(now),
            stage: Stage::Idle,
            known,
            unread: false,
            blind: false,
            departure: None,
            sync: Synchroniser::default(),
            next_sync: now,
            passive: None,
            owes: true,
            tells_ready: false,
            targets: None,
            outcome: None,
        };
        state.set_targets();
        state
    }

    /// The configuration in force.
    pub fn conf(&self) -> &Conf {
        &self.cluster.conf
    }

    /// It leaves: what changes elsewhere is of no interest any more.
    pub fn is_leaving(&self) -> bool {
        self.departure.is_some()
    }

    /// When a step is due, unless the store or a check asks for one before; `None` once it has left.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if let Some(departure) = &self.departure {
            return departure.again;
        }
        // Before the store was read, nothing is done for them.
        if self.known && !self.cluster.pending.is_empty() {
            return Some(now);
        }
        let sync = self.sync.has_any().then_some(self.next_sync);
        let Restrictions { flaps, ramps, .. } = &self.cluster.restrictions;
        let others = sync.into_iter().chain(flaps.next_tick()).chain(ramps.due());
        Some(others.fold(self.passes.due(), Instant::min))
    }

    /// Takes a new configuration; the next step is a full pass.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.cluster.conf = conf;
        self.set_targets();
        self.passes.ask_full(now);
    }

    /// Takes other restrictions: what they touch is looked at in the next step.
    pub fn restrict(&mut self, restrictions: Restrictions, now: Instant) {
        self.cluster.restrict(restrictions, &mut self.passes, now);
    }

    /// Takes the static real servers that fail their checks, and why.
    pub fn take_checks(&mut self, failed: BTreeMap<ServerKey, String>, now: Instant) {
        self.cluster.take_checks(failed, &mut self.passes, now);
    }

    /// The static real servers that fail their checks, and why, as they were last taken.
    pub(super) fn failed(&self) -> &BTreeMap<ServerKey, String> {
        &self.cluster.failed
    }

    /// Begins what is due.
    pub fn step(&mut self, now: Instant) -> Option<AgentAction> {
        match self.is_leaving() {
            true => self.step_leave(now),
            false => Some(self.read_store(Purpose::Step)),
        }
    }

    /// Begins a full pass.
    pub fn full_pass(&mut self) -> Option<AgentAction> {
        Some(self.read_store(Purpose::FullPass))
    }

    /// Begins to read the store.
    pub fn read_view(&mut self) -> Option<AgentAction> {
        Some(self.read_store(Purpose::ReadStore))
    }

    /// Takes its role in its set: which synchronisation daemon runs depends on it, and whether
    /// there is a table. A standby's is ready only where the kernel leaves it alone until it is
    /// needed, which it does beside a daemon that receives (`backup_only`, ipvs-sysctl.rst), and as
    /// soon as the kernel shows that it does.
    pub fn take_role(&mut self, role: SyncRole, now: Instant) -> Option<AgentAction> {
        self.sync.take_role(role);
        self.look_at_daemon(Purpose::Role, now)
    }

    fn read_store(&mut self, purpose: Purpose) -> AgentAction {
        self.stage = Stage::Store(purpose);
        AgentAction::ReadStore { whole: purpose == Purpose::FullPass }
    }

    /// Takes what became of the action that is under way, and gives the next one.
    pub fn done(&mut self, done: ActionResult, now: Instant) -> Option<AgentAction> {
        match (std::mem::replace(&mut self.stage, Stage::Idle), done) {
            (Stage::Store(purpose), ActionResult::ReadStore(read)) => {
                self.store_read(purpose, read, now)
            }
            (Stage::Daemons(purpose), ActionResult::ReadDaemons(running, backup_only)) => {
                self.daemons_read(purpose, running, backup_only, now)
            }
            (
                Stage::Daemons(purpose),
                ActionResult::ChangeDaemons(refused, running, backup_only),
            ) => {
                refused.iter().for_each(|why| error!("connection synchronisation: {why}"));
                self.show_daemons(&running, Some(&refused), backup_only);
                self.daemons_known(purpose, Ok(()), now)
            }
            (Stage::LookFlushed(services), ActionResult::LookFlushed(true)) => {
                self.look_at_table(services)
            }
            (Stage::LookFlushed(services), ActionResult::LookFlushed(false)) => self.read(services),
            (Stage::Look(mut services), ActionResult::Look(Ok(unexpected), cost)) => {
                self.blind = false;
                services.extend(self.passes.looked(&unexpected, cost, now));
                self.read(services)
            }
            (Stage::Look(services), ActionResult::Look(Err(error), _)) => {
                if !std::mem::replace(&mut self.blind, true) {
                    warn!(
                        "cannot look at the kernel's table, changes by other programs are undone \
                         late: {error}"
                    );
                }
                self.passes.skip_look(now);
                self.read(services)
            }
            (Stage::Read { full }, ActionResult::Read(Ok((services, table)))) => {
                self.plan(full, services, table.0, now)
            }
            (Stage::Read { full }, ActionResult::Read(Err(error))) => {
                self.fail(full, None, PassError::Kernel(error), now)
            }
            (Stage::Own(pass, owned), ActionResult::Own(written)) => {
                self.own(owned);
                match written {
                    Ok(()) => self.apply(pass, now),
                    Err(error) => self.fail(pass.full, Some(pass), error.into(), now),
                }
            }
            (Stage::Apply(pass), ActionResult::Apply(Ok(failures))) => {
                self.applied(pass, failures, now)
            }
            (Stage::Apply(pass), ActionResult::Apply(Err(error))) => {
                self.fail(pass.full, Some(pass), PassError::Kernel(error), now)
            }
            (Stage::Disown { full, report, kept }, ActionResult::Own(written)) => {
                self.own(kept);
                match written {
                    Ok(()) => self.finish(full, Ok(report)),
                    Err(error) => self.fail(full, None, error.into(), now),
                }
            }
            (stage, done) => self.left_so_far(stage, done, now),
        }
    }

    /// The store was refreshed, or not.
    fn store_read(
        &mut self,
        purpose: Purpose,
        read: Result<StoreValues, StoreFailure>,
        now: Instant,
    ) -> Option<AgentAction> {
        let failure = match read {
            Ok(values) => {
                self.unread = false;
                if !std::mem::replace(&mut self.known, true) {
                    self.passes.ask_full(now);
                }
                self.cluster.follow(values, &mut self.passes, now);
                None
            }
            Err(error) => {
                if !std::mem::replace(&mut self.unread, true) {
                    warn!("the store cannot be read, the table stays as it is: {error}");
                }
                Some(error)
            }
        };
        match (purpose, failure) {
            (Purpose::ReadStore | Purpose::Role, _) => None,
            (Purpose::Leave, failure) => self.leave_by(failure, now),
            (Purpose::Step, _) => {
                let let_in = self.cluster.restrictions.flaps.tick(now);
                self.cluster.pending.extend(let_in);
                match now >= self.next_sync && self.sync.has_any() {
                    true => self.look_at_daemon(Purpose::Step, now),
                    false => self.do_what_is_due(now),
                }
            }
            (Purpose::FullPass, Some(error)) if !self.known => {
                self.fail(true, None, error.into(), now)
            }
            (Purpose::FullPass, _) => {
                self.cluster.pending.clear();
                self.look_at_daemon(Purpose::FullPass, now)
            }
        }
    }

    /// The passes and looks that are due.
    fn do_what_is_due(&mut self, now: Instant) -> Option<AgentAction> {
        if self.passes.is_full_due(now) {
            return self.full_pass();
        }
        if !self.known {
            return None;
        }
        let mut services = std::mem::take(&mut self.cluster.pending);
        services.extend(self.passes.moving(now));
        services.extend(self.cluster.restrictions.ramps.growing(now));
        let may_be_flushed = self.passes.is_proc_table_due(now);
        if self.passes.is_look_due(now) {
            return self.look_at_table(services);
        }
        if !may_be_flushed {
            return self.read(services);
        }
        self.stage = Stage::LookFlushed(services);
        Some(AgentAction::LookFlushed)
    }

    fn look_at_table(&mut self, services: BTreeSet<ServiceKey>) -> Option<AgentAction> {
        self.stage = Stage::Look(services);
        Some(AgentAction::Look)
    }

    /// Begins a pass over some services, if there are any.
    fn read(&mut self, services: BTreeSet<ServiceKey>) -> Option<AgentAction> {
        (!services.is_empty()).then(|| {
            self.stage = Stage::Read { full: false };
            AgentAction::Read(services)
        })
    }

    /// The services that the store says it owns.
    fn owned(&self) -> Option<&BTreeSet<ServiceKey>> {
        self.cluster.store.owned.get(&self.cluster.me)
    }

    /// It owns these: a store's view has what was to be written, whether or not it is
    /// ([`Store::put_owned`](crate::store::Store::put_owned)).
    fn own(&mut self, owned: BTreeSet<ServiceKey>) {
        self.cluster.store.owned.insert(self.cluster.me, owned);
    }

    /// Decides which static real servers are checked: by another configuration or role, others.
    fn set_targets(&mut self) {
        self.targets = Some(match self.passive {
            Some(_) => Targets::default(),
            None => Targets(checks::targets(&self.cluster.conf, self.cluster.me)),
        });
    }

    /// The static real servers that are to be checked from now on, if they are others.
    pub fn take_targets(&mut self) -> Option<Targets> {
        self.targets.take()
    }

    /// What the pass did that was begun last, if any was.
    pub fn take_outcome(&mut self) -> Option<Result<PassReport, PassError>> {
        self.outcome.take()
    }

    /// What happened since this was last asked.
    pub fn take_events(&mut self) -> Vec<DirectorEvent> {
        std::mem::take(&mut self.cluster.events)
    }

    /// True if a full pass is still to make the table that its role asks for.
    pub fn owes_table(&self) -> bool {
        self.owes
    }

    /// What decides what services should be.
    pub fn inputs(&self, now: Instant) -> Inputs<'_> {
        self.cluster.inputs(self.passive.is_some(), now)
    }

    /// The store's view, as it was last read.
    pub fn store(&self) -> &StoreState {
        &self.cluster.store
    }

    /// What a look shows that is not as the last passes left it.
    pub fn unexpected(&self, shown: &HashMap<ServiceKey, Print>) -> Unexpected {
        self.passes.unexpected(shown)
    }

    /// The drains that the table obeys, and the nodes that leave and are out; none while it is not what
    /// it should be.
    pub fn obeys(&self) -> Option<AppliedOrders> {
        let obeyed = match self.passive {
            Some(_) => AppliedOrders::default(),
            None => AppliedOrders {
                drains: self.passes.obeys(&self.cluster.store.drains),
                released: self.passes.released(&self.cluster.store.nodes),
            },
        };
        (self.passes.is_settled() && self.cluster.pending.is_empty()).then_some(obeyed)
    }

    /// What it knows of its pools beside what stands in the kernel.
    pub fn view(&self, now: Instant) -> TableView {
        let draining = self.passes.drains.iter();
        let quiesced = self.passes.quiesced.iter();
        TableView {
            draining: draining.map(|((key, at), d)| Draining::of(*key, *at, d, now)).collect(),
            quiesced: quiesced.map(|((key, addr), why)| Quiesced::of(*key, *addr, why)).collect(),
            slow_starts: self.cluster.restrictions.ramps.iter(now).map(SlowStarting::of).collect(),
            quorums: self.passes.quorums().map(QuorumView::of).collect(),
            times: TableTimes::default(),
            sync: self.sync.view(),
            passive: self.passive.clone(),
            look_every_ms: self.passes.look_every().as_millis().try_into().unwrap_or(u64::MAX),
            contested: self.passes.is_contested(now),
        }
    }
}
