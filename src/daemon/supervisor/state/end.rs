//! How cvipd ends, and how a node leaves the cluster.

use std::time::Duration;

use tracing::{info, warn};

use super::super::hand_over::HandOver;
use super::super::leave::{Leave, LeaveStep};
use super::super::messages::{SupervisorAction, SupervisorInput};
use super::{PendingEnd, Supervisor};
use crate::clock::Instant;
use crate::daemon::address_manager::{AddressMessage, AddressNotice};
use crate::daemon::messages::{MonitorMessage, TableMessage};
use crate::director::monitor::order;

impl Supervisor {
    pub(super) fn can_hand_over(&self) -> bool {
        self.is_director() && self.role.is_active() && order(&self.conf, self.me).len() > 1
    }

    /// Has another director elected in place of this active one.
    pub(super) fn hand_over(&mut self, now: Instant) -> HandOver {
        self.hand_overs += 1;
        self.act(SupervisorAction::Monitor(MonitorMessage::HandOver(self.hand_overs)));
        HandOver::new(self.hand_overs, now)
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
        self.act(SupervisorAction::TellLeaving);
        self.end = Some(PendingEnd::Leaving { leave: Leave::new(within, now), hand_over });
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

    fn leave_step(&mut self, step: Option<LeaveStep>) {
        match step {
            None => {}
            Some(LeaveStep::EmptyTable) => self.act(SupervisorAction::Table(TableMessage::Leave)),
            Some(LeaveStep::UndoAddresses) => {
                self.act(SupervisorAction::Addresses(AddressMessage::Undo))
            }
            Some(LeaveStep::Left | LeaveStep::Untold) => self.act(SupervisorAction::Exit(Ok(()))),
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
        self.leave_step(step);
    }

    /// Ends without waiting for what is undone: each worker does what it was told before it ends.
    fn cut_leave_short(&mut self, now: Instant) {
        let Some(PendingEnd::Leaving { leave, .. }) = &mut self.end else { return };
        let step = leave.cut_short(now);
        self.leave_step(step);
        self.act(SupervisorAction::Exit(Ok(())));
    }

    /// Ends, or goes on with a leave, once it is time.
    pub(super) fn step_end(&mut self, now: Instant) {
        let (is_standby, has_table) = (self.is_standby(), self.has_table);
        if let Some(PendingEnd::HandingOver(hand_over)) = &mut self.end
            && hand_over.is_over(is_standby, now)
        {
            return self.act(SupervisorAction::Exit(Ok(())));
        }
        if let Some(PendingEnd::Leaving { leave, hand_over }) = &mut self.end {
            let _ = hand_over.take_if(|hand_over| hand_over.is_over(is_standby, now));
            let was_undoing = leave.is_undoing();
            let step = leave.step(hand_over.is_some(), has_table, now);
            if leave.is_undoing() && !was_undoing {
                self.reload = None;
                self.act(SupervisorAction::SayFarewell);
            }
            self.leave_step(step);
        }
    }
}
