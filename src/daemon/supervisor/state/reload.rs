//! A reload: cvip.conf is read and tried, and only then its workers take the place of those before.
//!
//! Whatever fails on the way leaves everything as it is. An active director that cvip.conf no longer
//! names hands over in between: clients whose packets still come here are served until they know
//! the new director.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::super::messages::{LoadedConf, ReadConf, SupervisorAction};
use super::super::role::NodeRole;
use super::{Reload, Supervisor};
use crate::clock::Instant;
use crate::daemon::address_manager::AddressMessage;
use crate::daemon::error::RunError;
use crate::daemon::hooks::messages::HookCvip;
use crate::daemon::messages::{MonitorMessage, TableMessage, no_director};
use crate::director::monitor::MonitorCommand;

impl Supervisor {
    pub(super) fn begin_reload(&mut self, is_asked: bool) {
        let hand_over = self.reload.take().and_then(|before| before.hand_over);
        self.reload = Some(Reload { is_asked, hand_over, waits: false });
        self.act(SupervisorAction::ReadConf);
    }

    /// The files are read.
    pub(super) fn read(&mut self, loaded: LoadedConf) {
        self.faults.clone_from(&loaded.faults);
        let Some(conf) = loaded.conf else {
            return self.refused(&loaded.faults.join("\n"));
        };
        for warning in loaded.faults {
            warn!("{warning}");
        }
        if !conf.nodes().contains(&self.me) {
            let error = RunError::NoRole(self.me, self.path.clone()).to_string();
            // A real server that the file no longer names goes on as it was, for those who are
            // connected to it; a director must not, for another directs in its place.
            if !self.is_director() {
                return self.cannot_be_taken(format!(
                    "{error}: it serves on as before, and keeps its addresses and settings; \
                     `cvipctl leave` takes it out"
                ));
            }
            warn!("{error}");
        }
        let (conf, sources) = (Arc::new(conf), Arc::new(loaded.sources));
        self.act(SupervisorAction::TryConf(ReadConf { conf, sources }));
    }

    /// What became of the trial. A configuration that cannot be taken hands nothing over.
    pub(super) fn tried(&mut self, read: ReadConf, outcome: Result<(), String>, now: Instant) {
        if let Err(error) = outcome {
            return self.cannot_be_taken(error);
        }
        let is_standby = self.is_standby();
        let under_way = self.reload.as_mut().and_then(|reload| reload.hand_over.as_mut());
        let waits = match under_way {
            _ if read.conf.is_director(self.me) => false,
            Some(hand_over) => !hand_over.is_over(is_standby, now),
            None => self.can_hand_over(),
        };
        if !waits {
            return self.act(SupervisorAction::SwapWorkers(read));
        }
        let Some(Reload { is_asked, hand_over, .. }) = self.reload.take() else { return };
        let hand_over = hand_over.unwrap_or_else(|| self.hand_over(now));
        self.reload = Some(Reload { is_asked: false, hand_over: Some(hand_over), waits: true });
        if is_asked {
            self.act(SupervisorAction::Answer(Err(no_director(self.me))));
        }
    }

    /// Goes on once a hand-over is over that a reload waits for.
    pub(super) fn step_reload(&mut self, now: Instant) {
        let is_standby = self.is_standby();
        let waiting = self.reload.as_mut().filter(|reload| reload.waits);
        let hand_over = waiting.and_then(|reload| reload.hand_over.as_mut());
        if hand_over.is_some_and(|hand_over| hand_over.is_over(is_standby, now)) {
            self.begin_reload(false);
        }
    }

    /// What became of the swap.
    pub(super) fn swapped(&mut self, read: ReadConf, outcome: Result<(), String>, now: Instant) {
        if let Err(error) = outcome {
            return self.cannot_be_taken(error);
        }
        let is_asked = self.reload.take().is_some_and(|reload| reload.is_asked);
        self.take_conf(read, now);
        let conf = Arc::clone(&self.conf);
        match (is_asked, self.has_table) {
            (true, true) => {
                self.act(SupervisorAction::Resync(conf));
                self.act(SupervisorAction::Answer(Ok(())));
            }
            (true, false) => self.act(SupervisorAction::Answer(Err(no_director(self.me)))),
            (false, true) => self.act(SupervisorAction::Table(TableMessage::Reload(conf))),
            (false, false) => {}
        }
    }

    fn cannot_be_taken(&mut self, error: String) {
        self.refused(&error);
        self.faults.push(error);
    }

    /// The configuration is not taken, and nothing has changed.
    fn refused(&mut self, error: &str) {
        let reload = self.reload.take();
        if reload.as_ref().is_some_and(|reload| reload.hand_over.is_some()) {
            // It was to hand over, and goes on as a director of the configuration in force.
            self.act(SupervisorAction::Monitor(MonitorMessage::Told(MonitorCommand::Reload(
                Arc::clone(&self.conf),
            ))));
        }
        match reload.is_some_and(|reload| reload.is_asked) {
            true => self.act(SupervisorAction::Answer(Err(error.to_owned()))),
            false => error!("{error}"),
        }
        warn!("this configuration is not taken: the former one stays in force");
    }

    /// Goes by a configuration whose workers run.
    fn take_conf(&mut self, read: ReadConf, now: Instant) {
        (self.conf, self.sources) = (read.conf, read.sources);
        info!("configuration read again");
        self.hooks.reloaded(&HookCvip::of(&self.conf, self.me));
        let before = self.role;
        match (self.is_director(), before) {
            (false, NodeRole::Serve | NodeRole::Retire { .. }) => {}
            (false, _) => {
                self.table_role = None;
                // One that does not know its role yet has the table of an earlier cvipd, if any.
                let has_table =
                    std::mem::take(&mut self.has_table) || before == NodeRole::Undecided;
                self.turn(NodeRole::retired(has_table, now));
            }
            (true, NodeRole::Serve | NodeRole::Retire { .. }) => self.role = NodeRole::Undecided,
            (true, _) => {}
        }
        match self.role.address_role() {
            Some(_) if self.role != before => {}
            Some(_) => self.take_addresses(false),
            None => {
                let conf = Arc::clone(&self.conf);
                self.act(SupervisorAction::Addresses(AddressMessage::Reload(conf)));
            }
        }
        // The monitor may be another.
        self.tell_can_carry();
        self.tell_announced();
    }
}

#[cfg(test)]
mod tests;
