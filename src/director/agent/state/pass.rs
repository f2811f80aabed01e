//! One pass: planned, written as owned, made, and what came of it.

use std::collections::BTreeSet;

use tracing::warn;

use super::super::super::DirectorEvent;
use super::super::super::kernel_table::KernelTable;
use super::super::super::passes::{Pass, PassOutcome};
use super::super::super::reconcile::RefusedChange;
use super::super::messages::{AgentAction, PassError, PassReport};
use super::{AgentState, Stage};
use crate::clock::Instant;
use crate::ipvs::ChangeFailure;
use crate::store::ServiceKey;

impl AgentState {
    /// Plans a pass. What it makes is owned before it is made: a crash between the two leaves nothing
    /// that no director owns.
    pub(super) fn plan(
        &mut self,
        full: bool,
        services: BTreeSet<ServiceKey>,
        table: KernelTable,
        now: Instant,
    ) -> Option<AgentAction> {
        let passive = self.passive.is_some();
        let why = |key, addr| self.passes.quiesced.get(&(key, addr)).cloned();
        self.cluster.see_who_begins(&services, &table, why, passive, now);
        let inputs = self.cluster.inputs(passive, now);
        let pass = Box::new(self.passes.plan(full, services, table, inputs));
        let standing = &pass.plans.standing;
        let owned = self.owned();
        if standing.is_empty() || owned.is_some_and(|owned| standing.is_subset(owned)) {
            return self.apply(pass, now);
        }
        let owned: BTreeSet<ServiceKey> =
            owned.into_iter().flatten().chain(standing).copied().collect();
        self.stage = Stage::Own(pass, owned.clone());
        Some(AgentAction::Own(owned))
    }

    pub(super) fn apply(&mut self, pass: Box<Pass>, now: Instant) -> Option<AgentAction> {
        if pass.plans.changes.is_empty() {
            return self.applied(pass, Vec::new(), now);
        }
        let changes = pass.plans.changes.iter().map(|(_, change)| change.clone()).collect();
        self.stage = Stage::Apply(pass);
        Some(AgentAction::Apply(changes))
    }

    /// The kernel has answered. Services that are gone from it are not owned any more.
    pub(super) fn applied(
        &mut self,
        mut pass: Box<Pass>,
        failures: Vec<ChangeFailure>,
        now: Instant,
    ) -> Option<AgentAction> {
        let mut report = PassReport::default();
        let mut failures = failures.into_iter().peekable();
        for (index, (key, change)) in pass.plans.changes.iter().enumerate() {
            let (service, change) = (*key, change.clone());
            match failures.next_if(|failure| failure.index == index) {
                Some(failure) => report.refused.push(RefusedChange { service, change, failure }),
                None => {
                    self.cluster.events.extend(DirectorEvent::out(&change, service));
                    report.applied.push(change);
                }
            }
        }
        let (full, gone) = (pass.full, std::mem::take(&mut pass.plans.gone));
        let outcome = self.passes.applied(*pass, &report.refused, now);
        self.tell(outcome);
        let disowns = |owned: &&BTreeSet<ServiceKey>| gone.iter().any(|key| owned.contains(key));
        let owned = self.owned().filter(disowns);
        let kept = owned.map(|owned| -> BTreeSet<_> { owned.difference(&gone).copied().collect() });
        match kept.filter(|_| report.refused.is_empty()) {
            Some(kept) => {
                self.stage = Stage::Disown { full, report, kept: kept.clone() };
                Some(AgentAction::Own(kept))
            }
            None => self.finish(full, Ok(report)),
        }
    }

    /// Ends a pass that failed: it is tried again later.
    pub(super) fn fail(
        &mut self,
        full: bool,
        pass: Option<Box<Pass>>,
        error: PassError,
        now: Instant,
    ) -> Option<AgentAction> {
        let outcome = self.passes.failed(full, pass.map(|pass| *pass), now);
        self.tell(outcome);
        // An unavailable store is an event of its own, and leaves the table as it is.
        let is_away = matches!(&error, PassError::Store(error) if error.is_unavailable);
        if full && self.owes && !is_away && !std::mem::replace(&mut self.tells_ready, true) {
            let reason = error.to_string();
            self.cluster.events.push(DirectorEvent::TableFailed { reason });
        }
        self.finish(full, Err(error))
    }

    pub(super) fn finish(
        &mut self,
        full: bool,
        outcome: Result<PassReport, PassError>,
    ) -> Option<AgentAction> {
        if full && outcome.is_ok() && (self.passive.is_none() || self.passes.is_settled()) {
            self.owes = false;
            if std::mem::take(&mut self.tells_ready) {
                self.cluster.events.push(DirectorEvent::TableReady);
            }
        }
        self.outcome = Some(outcome);
        None
    }

    /// Tells which destinations get no new connections any more, which do again, and what was
    /// repaired.
    fn tell(&mut self, outcome: PassOutcome) {
        for (key, addr, quiesced) in outcome.quiesced {
            self.cluster.events.push(DirectorEvent::quiesced(key, addr, &quiesced));
        }
        for (service, address) in outcome.restored {
            if self.cluster.serves(service, address) {
                self.cluster.events.push(DirectorEvent::Restored { service, address });
            }
        }
        for (weighed, has) in outcome.quorums {
            self.cluster.events.push(DirectorEvent::quorum(weighed, has));
        }
        if let Some(repair) = outcome.repair {
            let repaired = DirectorEvent::repaired(repair);
            warn!("{repaired}");
            self.cluster.events.push(repaired);
        }
    }
}
