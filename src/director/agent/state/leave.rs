//! Leaving: every service of its own is deleted, and its synchronisation daemon ended; what fails is
//! tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::error;

use super::super::super::settings::service_id;
use super::super::messages::{ActionResult, AgentAction};
use super::{AgentState, Departure, Purpose, Stage};
use crate::clock::Instant;
use crate::ipvs::Change;
use crate::store::{ServiceKey, StoreFailure};

/// What could not be deleted is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl AgentState {
    /// Begins to delete every service of its own, and to end its synchronisation daemon: this node is
    /// to direct no more, and no step makes any of it again.
    pub fn leave(&mut self, now: Instant) -> Option<AgentAction> {
        self.departure =
            Some(Departure { again: Some(now), failure: None, told: None, outcome: None });
        self.step_leave(now)
    }

    /// Tries again, if it is time.
    pub(super) fn step_leave(&mut self, now: Instant) -> Option<AgentAction> {
        let is_due = self.departure.as_ref()?.again.is_some_and(|again| now >= again);
        is_due.then(|| self.read_store(Purpose::Leave))
    }

    /// What became of leaving, if that is news: nothing of its own is left, or why something is.
    pub fn take_departure(&mut self) -> Option<Result<(), String>> {
        self.departure.as_mut()?.outcome.take()
    }

    /// The store was read. What a start before this one made is in it.
    pub(super) fn leave_by(
        &mut self,
        failure: Option<StoreFailure>,
        now: Instant,
    ) -> Option<AgentAction> {
        if let Some(error) = failure.filter(|_| !self.known) {
            self.fail_to_leave(error);
            return self.end_attempt(now);
        }
        self.passes.forget();
        self.stage = Stage::LeaveRead;
        Some(AgentAction::Read(self.owned().cloned().unwrap_or_default()))
    }

    /// Goes on with leaving. What fails hinders nothing else, and nothing is owned no longer until
    /// all of it is gone.
    pub(super) fn left_so_far(
        &mut self,
        stage: Stage,
        done: ActionResult,
        now: Instant,
    ) -> Option<AgentAction> {
        let changes = match (stage, done) {
            (Stage::LeaveRead, ActionResult::Read(Ok((_, table)))) => {
                let delete = |key: &ServiceKey| Change::DeleteService(service_id(*key));
                let changes: Vec<Change> = table.0.keys().map(delete).collect();
                if self.sync.has_any() {
                    self.stage = Stage::LeaveDaemons(changes);
                    return Some(AgentAction::ReadDaemons);
                }
                changes
            }
            (Stage::LeaveDaemons(mut changes), ActionResult::ReadDaemons(running, _)) => {
                match running {
                    Ok(running) => changes.extend(self.sync.end(&running)),
                    Err(error) => self.fail_to_leave(error),
                }
                changes
            }
            (Stage::LeaveApply, ActionResult::Apply(Ok(failures))) => {
                failures.iter().for_each(|failure| self.fail_to_leave(failure));
                let has_failed = self.departure.as_ref().is_some_and(|d| d.failure.is_some());
                if has_failed || self.owned().is_none_or(BTreeSet::is_empty) {
                    return self.end_attempt(now);
                }
                self.stage = Stage::LeaveOwn;
                return Some(AgentAction::Own(BTreeSet::new()));
            }
            (Stage::LeaveOwn, ActionResult::Own(written)) => {
                self.own(BTreeSet::new());
                if let Err(error) = written {
                    self.fail_to_leave(error);
                }
                return self.end_attempt(now);
            }
            (
                Stage::LeaveRead | Stage::LeaveApply,
                ActionResult::Read(Err(error)) | ActionResult::Apply(Err(error)),
            ) => {
                self.fail_to_leave(error);
                return self.end_attempt(now);
            }
            // An answer to something else.
            _ => return None,
        };
        self.stage = Stage::LeaveApply;
        Some(AgentAction::Apply(changes))
    }

    fn fail_to_leave(&mut self, why: impl ToString) {
        if let Some(departure) = &mut self.departure {
            departure.failure.get_or_insert_with(|| why.to_string());
        }
    }

    /// Tells what became of the attempt, if that is another than before.
    fn end_attempt(&mut self, now: Instant) -> Option<AgentAction> {
        let departure = self.departure.as_mut()?;
        let outcome = departure.failure.take().map_or(Ok(()), Err);
        departure.again = outcome.is_err().then(|| now + AGAIN_AFTER);
        if departure.told.as_ref() != Some(&outcome) {
            if let Err(why) = &outcome {
                error!("cannot delete all that cvipd made in the IPVS table, trying again: {why}");
            }
            departure.told = Some(outcome.clone());
            departure.outcome = Some(outcome);
        }
        None
    }
}
