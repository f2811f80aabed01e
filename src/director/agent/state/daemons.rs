//! The synchronisation daemon of the director's role, and whether the role has a table.

use std::time::Duration;

use tracing::{error, warn};

use super::super::super::DirectorEvent;
use super::super::super::sync;
use super::super::cluster::Cluster;
use super::super::messages::{AgentAction, PassError};
use super::{AgentState, Purpose, Stage};
use crate::clock::Instant;
use crate::ipvs::SyncDaemon;

/// The synchronisation daemon is looked at this often.
const LOOK_AT_DAEMON: Duration = Duration::from_secs(1);

impl AgentState {
    /// Begins to make the synchronisation daemon the one of its role.
    pub(super) fn look_at_daemon(&mut self, purpose: Purpose, now: Instant) -> Option<AgentAction> {
        self.next_sync = now + LOOK_AT_DAEMON;
        let Cluster { me, conf, .. } = &self.cluster;
        let desired = self.sync.role().and_then(|role| sync::desired(conf, *me, role));
        self.sync.desired(desired);
        if !self.sync.has_any() {
            return self.daemons_known(purpose, Ok(()), now);
        }
        self.stage = Stage::Daemons(purpose);
        Some(AgentAction::ReadDaemons)
    }

    pub(super) fn daemons_read(
        &mut self,
        purpose: Purpose,
        running: Result<Vec<SyncDaemon>, String>,
        backup_only: bool,
        now: Instant,
    ) -> Option<AgentAction> {
        let running = match running {
            Ok(running) => running,
            Err(error) => {
                // What cannot be seen does not run.
                let unseen = [error.clone()];
                self.cluster.events.extend(self.sync.show(&[], Some(&unseen), false));
                return self.daemons_known(purpose, Err(error), now);
            }
        };
        let changes = self.sync.plan(&running, now);
        if changes.is_empty() {
            self.show_daemons(&running, None, backup_only);
            return self.daemons_known(purpose, Ok(()), now);
        }
        self.stage = Stage::Daemons(purpose);
        Some(AgentAction::ChangeDaemons(changes))
    }

    pub(super) fn show_daemons(
        &mut self,
        running: &[SyncDaemon],
        refused: Option<&[String]>,
        backup_only: bool,
    ) {
        let told = self.sync.show(running, refused, backup_only);
        if let Some(told) = &told {
            warn!("{told}");
        }
        self.cluster.events.extend(told);
    }

    /// It is known which daemons run. A standby whose daemon is not there, whatever was ordered, has
    /// no table.
    pub(super) fn daemons_known(
        &mut self,
        purpose: Purpose,
        result: Result<(), String>,
        now: Instant,
    ) -> Option<AgentAction> {
        self.decide_passive(now);
        match (purpose, result) {
            (Purpose::FullPass, Ok(())) => {
                self.stage = Stage::Read { full: true };
                return Some(AgentAction::ReadAll);
            }
            (Purpose::FullPass, Err(error)) => {
                return self.fail(true, None, PassError::Kernel(error), now);
            }
            (_, Err(error)) => error!("cannot read the synchronisation daemons: {error}"),
            (_, Ok(())) => {}
        }
        if purpose == Purpose::Step { self.do_what_is_due(now) } else { None }
    }

    /// A table that comes or goes is made by a full pass.
    fn decide_passive(&mut self, now: Instant) {
        let passive = self.sync.passive();
        if passive.is_some() != self.passive.is_some() {
            // One that never has a table tells of none.
            let is_news = self.sync.has_any();
            self.tells_ready = is_news && passive.is_none();
            if let Some(reason) = passive.as_ref().filter(|_| is_news) {
                warn!("this standby's table is emptied: {reason}");
                self.cluster.events.push(DirectorEvent::TablePassive { reason: reason.clone() });
            }
            self.owes = true;
            self.passive = passive;
            self.set_targets();
            self.passes.ask_full(now);
        } else {
            self.passive = passive;
        }
    }
}
