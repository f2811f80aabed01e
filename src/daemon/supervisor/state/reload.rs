//! What follows from each step of a reload.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info};

use super::super::messages::Action;
use super::super::reload::{ReadConf, Reload, ReloadStep};
use super::super::role::NodeRole;
use super::Supervisor;
use crate::daemon::address_manager::AddressMessage;
use crate::daemon::messages::{TableMessage, no_director};

impl Supervisor {
    pub(super) fn begin_reload(&mut self, is_asked: bool) {
        self.reload = Some(Reload::new(is_asked, self.reload.take()));
        self.act(Action::ReadConf);
    }

    pub(super) fn reload_step(&mut self, step: Option<ReloadStep>, now: Instant) {
        let (Some(step), Some(reload)) = (step, &mut self.reload) else { return };
        self.faults.clone_from(&reload.faults);
        let is_asked = reload.is_asked;
        match step {
            ReloadStep::Try(conf) => self.act(Action::TryConf(conf)),
            ReloadStep::Swap(conf) => self.act(Action::SwapWorkers(conf)),
            ReloadStep::HandOver => {
                let hand_over = self.hand_over(now);
                if let Some(reload) = &mut self.reload {
                    reload.hand_over(hand_over);
                }
                if is_asked {
                    self.act(Action::Answer(Err(no_director(self.me))));
                }
            }
            ReloadStep::Refused(error) => {
                self.reload = None;
                match is_asked {
                    true => self.act(Action::Answer(Err(error))),
                    false => error!("{error}"),
                }
            }
            ReloadStep::Taken(read) => {
                self.reload = None;
                self.take_conf(read, now);
                let conf = Arc::clone(&self.conf);
                match (is_asked, self.has_table) {
                    (true, true) => {
                        self.act(Action::Resync(conf));
                        self.act(Action::Answer(Ok(())));
                    }
                    (true, false) => self.act(Action::Answer(Err(no_director(self.me)))),
                    (false, true) => self.act(Action::Table(TableMessage::Reload(conf))),
                    (false, false) => {}
                }
            }
        }
    }

    /// Goes by a configuration whose workers run.
    fn take_conf(&mut self, read: ReadConf, now: Instant) {
        (self.conf, self.sources) = (read.conf, read.sources);
        info!("configuration read again");
        let before = self.role;
        match (self.is_director(), before) {
            (false, NodeRole::Serve | NodeRole::Retire { .. }) => {}
            (false, _) => {
                self.table_role = None;
                let has_table = std::mem::take(&mut self.has_table);
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
                self.act(Action::Addresses(AddressMessage::Reload(conf)));
            }
        }
        // The monitor may be another.
        self.tell_can_carry();
        self.tell_announced();
    }

    /// Goes on once a hand-over is over that a reload waits for.
    pub(super) fn step_reload(&mut self, now: Instant) {
        let is_standby = self.is_standby();
        let handing_over = self.reload.as_mut().and_then(Reload::handing_over);
        if handing_over.is_some_and(|hand_over| hand_over.is_over(is_standby, now)) {
            self.begin_reload(false);
        }
    }
}
