//! How cvipd ends, and how a node leaves the cluster.

use std::time::Duration;

use tracing::{info, warn};

use super::super::hand_over::HandOver;
use super::super::leave::{Leave, LeaveCircumstances, LeaveStep};
use super::super::messages::{SupervisorAction, SupervisorInput};
use super::{PendingEnd, Supervisor};
use crate::clock::Instant;
use crate::daemon::address_manager::{AddressMessage, AddressNotice};
use crate::daemon::hooks::messages::RoleEvent;
use crate::daemon::messages::{MonitorMessage, TableMessage};
use crate::director::monitor::order;

impl Supervisor {
    pub(super) fn can_hand_over(&self) -> bool {
        self.is_director() && self.role.is_active() && order(&self.conf, self.me).len() > 1
    }

    /// Has another director elected in place of this active one, once hooks have been told.
    pub(super) fn hand_over(&mut self, now: Instant) -> HandOver {
        self.hand_overs += 1;
        self.run_hooks(RoleEvent::GivingUp, now);
        HandOver::new(self.hand_overs, self.hooks.awaited(now).unwrap_or(now))
    }

    /// Asks the monitor for the successor of each hand-over whose hooks have ended. Its own monitor
    /// is told that the node leaves no earlier: it hands over then.
    pub(super) fn step_hand_overs(&mut self, now: Instant) {
        if self.hooks.awaited(now).is_some() {
            return;
        }
        let is_active = self.role.is_active();
        let (ending, leaving) = match &mut self.end {
            Some(PendingEnd::HandingOver(hand_over)) => (Some(hand_over), None),
            Some(PendingEnd::Leaving { hand_over, is_told, .. }) => {
                (hand_over.as_mut(), Some(is_told))
            }
            None => (None, None),
        };
        let reloading = self.reload.as_mut().and_then(|reload| reload.hand_over.as_mut());
        let due = ending.into_iter().chain(reloading);
        let asked: Vec<u64> =
            due.filter_map(|hand_over| hand_over.hooks_ended(is_active, now)).collect();
        let tells = leaving.is_some_and(|is_told| !std::mem::replace(is_told, true));
        for number in asked {
            self.act(SupervisorAction::Monitor(MonitorMessage::HandOver(number)));
        }
        if tells {
            self.act(SupervisorAction::TellLeaving);
        }
    }

    /// It is to carry the CVIPs no longer, and has not ended yet.
    pub(super) fn gives_up(&self) -> bool {
        let ends = match &self.end {
            None => false,
            Some(PendingEnd::HandingOver(_)) => true,
            Some(PendingEnd::Leaving { leave, hand_over, .. }) => {
                hand_over.is_some() || leave.gives_up()
            }
        };
        ends || self.reload.as_ref().is_some_and(|reload| reload.hand_over.is_some())
    }

    /// Ends soon: an active director hands over first, if it can.
    pub(super) fn terminate(&mut self, now: Instant) {
        if let Some(PendingEnd::Leaving { .. }) = self.end {
            warn!(
                "the node had not left: what cvipd made here stays; start cvipd, and leave again"
            );
        }
        match self.end.is_none() && self.can_hand_over() {
            true => {
                info!("another director is to take over before this cvipd ends");
                self.end = Some(PendingEnd::HandingOver(self.hand_over(now)));
            }
            false => self.act(SupervisorAction::Exit(Ok(()))),
        }
    }

    /// Begins to leave for good.
    pub(super) fn leave(&mut self, within: Duration, now: Instant) -> Result<(), String> {
        match &self.end {
            None => {}
            Some(PendingEnd::Leaving { .. }) => return Ok(()),
            Some(_) => return Err("it is ending already, and the node does not leave".to_owned()),
        }
        if !self.serves {
            let what = "it was just started, and does not know this node's role yet: try again";
            return Err(what.to_owned());
        }
        self.act(SupervisorAction::StartLeave);
        let hand_over = self.can_hand_over().then(|| self.hand_over(now));
        let leave = Leave::new(within, now);
        self.end = Some(PendingEnd::Leaving { leave, hand_over, is_told: false });
        Ok(())
    }

    pub(super) fn is_undoing(&self) -> bool {
        matches!(&self.end, Some(PendingEnd::Leaving { leave, .. }) if leave.is_undoing())
    }

    pub(super) fn read_holders(&mut self) {
        if matches!(&self.end, Some(PendingEnd::Leaving { leave, .. }) if leave.waits_for_directors())
        {
            self.act(SupervisorAction::ReadHolders);
        }
    }

    fn leave_step(&mut self, step: Option<LeaveStep>, now: Instant) {
        match step {
            None => {}
            Some(LeaveStep::GiveUp) => self.run_hooks(RoleEvent::GivingUp, now),
            Some(LeaveStep::EmptyTable) => self.act(SupervisorAction::Table(TableMessage::Leave)),
            Some(LeaveStep::UndoAddresses) => {
                self.act(SupervisorAction::Addresses(AddressMessage::Undo))
            }
            Some(LeaveStep::Left) => self.exit_undone(now),
            Some(LeaveStep::Untold) => self.act(SupervisorAction::Exit(Ok(()))),
        }
    }

    /// A node that undoes what it made starts nothing else.
    pub(super) fn handle_while_undoing(&mut self, input: SupervisorInput, now: Instant) {
        let Some(PendingEnd::Leaving { leave, .. }) = &mut self.end else { return };
        let step = match input {
            SupervisorInput::TableEmptied(outcome) => leave.table_emptied(outcome, now),
            SupervisorInput::Addresses(AddressNotice::Undone) => leave.addresses_undone(),
            SupervisorInput::Leave(_) => return self.act(SupervisorAction::Answer(Ok(()))),
            SupervisorInput::Apply => {
                let answer = Err("the node leaves the cluster, and cvipd is ending".to_owned());
                return self.act(SupervisorAction::Answer(answer));
            }
            SupervisorInput::Terminate => return self.cut_leave_short(now),
            // What it was to do might be waited for in vain.
            SupervisorInput::WorkerEnded(name) => {
                warn!("the {name}'s thread has ended unexpectedly: cvipd ends at once");
                return self.cut_leave_short(now);
            }
            _ => None,
        };
        self.leave_step(step, now);
    }

    /// Ends without waiting for what is undone: each worker does what it was told before it ends.
    fn cut_leave_short(&mut self, now: Instant) {
        let Some(PendingEnd::Leaving { leave, .. }) = &mut self.end else { return };
        let step = leave.cut_short(now);
        self.leave_step(step, now);
        self.exit_undone(now);
    }

    /// Ends with its addresses given back: hooks are told, and run before cvipd has ended.
    fn exit_undone(&mut self, now: Instant) {
        if self.hooks.last().is_some() {
            self.run_hooks(RoleEvent::Standby, now);
        }
        self.act(SupervisorAction::Exit(Ok(())));
    }

    /// Ends, or goes on with a leave, once it is time.
    pub(super) fn step_end(&mut self, now: Instant) {
        let (is_standby, has_table) = (self.is_standby(), self.has_table);
        if let Some(PendingEnd::HandingOver(hand_over)) = &mut self.end
            && hand_over.is_over(is_standby, now)
        {
            self.end = None;
            // No director has taken over, and what stands in the kernel stays.
            self.step_hooks(now);
            return self.act(SupervisorAction::Exit(Ok(())));
        }
        if let Some(PendingEnd::Leaving { hand_over, .. }) = &mut self.end
            && hand_over.take_if(|hand_over| hand_over.is_over(is_standby, now)).is_some()
        {
            self.step_hooks(now);
        }
        let is_active = self.role.is_active();
        let hooks_run = self.hooks.awaited(now).is_some();
        if let Some(PendingEnd::Leaving { leave, hand_over, .. }) = &mut self.end {
            let was_undoing = leave.is_undoing();
            let hands_over = hand_over.is_some();
            let circumstances = LeaveCircumstances { hands_over, is_active, hooks_run, has_table };
            let step = leave.step(circumstances, now);
            if leave.is_undoing() && !was_undoing {
                self.reload = None;
                self.act(SupervisorAction::SayFarewell);
            }
            self.leave_step(step, now);
        }
    }
}

#[cfg(test)]
mod tests;
