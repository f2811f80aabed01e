//! Leaving: every service of its own is deleted, and its synchronisation daemon ended.

use std::collections::BTreeSet;

use tracing::error;

use super::super::super::settings::service_id;
use super::super::messages::{ActionResult, AgentAction};
use super::{AgentState, Stage};
use crate::ipvs::Change;
use crate::store::{ServiceKey, StoreState};

impl AgentState {
    /// Goes on with leaving.
    pub(super) fn left_so_far(
        &mut self,
        stage: Stage,
        done: ActionResult,
        view: &StoreState,
    ) -> Option<AgentAction> {
        let changes = match (stage, done) {
            (Stage::LeaveRead, ActionResult::Read(Ok((_, table)))) => {
                let delete = |key: &ServiceKey| Change::DeleteService(service_id(*key));
                let changes: Vec<Change> = table.keys().map(delete).collect();
                if self.sync.has_any() {
                    self.stage = Stage::LeaveDaemons(changes);
                    return Some(AgentAction::ReadDaemons);
                }
                changes
            }
            (Stage::LeaveDaemons(mut changes), ActionResult::ReadDaemons(Ok(running), _)) => {
                changes.extend(self.sync.end(&running));
                changes
            }
            (Stage::LeaveApply, ActionResult::Apply(Ok(failures))) => {
                if failures.is_empty() && self.owned(view).is_some_and(|owned| !owned.is_empty()) {
                    self.stage = Stage::LeaveOwn;
                    return Some(AgentAction::Own(BTreeSet::new()));
                }
                failures.iter().for_each(|failure| error!("{failure}"));
                return None;
            }
            (Stage::LeaveOwn, ActionResult::Own(Ok(()))) => return None,
            (
                Stage::LeaveRead | Stage::LeaveDaemons(_) | Stage::LeaveApply,
                ActionResult::Read(Err(error))
                | ActionResult::ReadDaemons(Err(error), _)
                | ActionResult::Apply(Err(error)),
            ) => {
                error!("cannot delete all that cvipd made in the kernel's table: {error}");
                return None;
            }
            (Stage::LeaveOwn, ActionResult::Own(Err(error))) => {
                error!("cannot write that this node owns no service any more: {error}");
                return None;
            }
            // An answer to something else.
            _ => return None,
        };
        self.stage = Stage::LeaveApply;
        Some(AgentAction::Apply(changes))
    }
}
