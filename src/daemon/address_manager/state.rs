//! What the address manager does, tells and logs, after each message and each outcome. Pure: the
//! driver carries out what [`AddressState::next`] says, and reports what became of it before it
//! asks again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::capability::CapabilityChange;
use super::messages::{AddressMessage, AddressNotice};
use super::upkeep::{Doubt, Upkeep, UpkeepAction};
use crate::bucket::Bucket;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::director::DirectorEvent;
use crate::net::{
    self, AddressRole, DesiredAddress, DesiredSettings, Difference, Done, NetError, Reachable,
    SettingsReport, SettingsSnapshot,
};

/// What happens again and again is an event so often at once, and then this often.
const EVENTS: (u32, Duration) = (20, Duration::from_secs(30));

/// What is to be done now.
#[derive(Debug, Serialize, Deserialize)]
pub enum AddressAction {
    /// Look at everything: [`AddressState::looked`].
    Look,
    /// Look at the sysctls alone: [`AddressState::looked_at_settings`].
    LookAtSettings,
    /// Make the kernel what the role asks: [`AddressState::made`].
    Make {
        /// It was that before: what is made is an event.
        is_repair: bool,
    },
    /// Renew the addresses with a lifetime: [`AddressState::renewed`].
    Renew,
    /// Announce these addresses.
    Announce(Vec<Reachable>),
    /// Undo everything that was made: [`AddressState::undone`].
    Undo,
    /// Tell the main thread.
    Tell(AddressNotice),
    /// Tell the main thread of an event.
    Event(DirectorEvent),
}

/// The address manager's state.
#[derive(Serialize, Deserialize)]
pub struct AddressState {
    node: u32,
    conf: Arc<Conf>,
    upkeep: Upkeep,
    /// What is to be done next, in this order.
    actions: VecDeque<AddressAction>,
    /// What the role asks for.
    desired: DesiredSettings,
    /// What this node would carry as the active director; empty if it is no director.
    carried: Vec<DesiredAddress>,
    /// What is announced, and where; and what of it the monitor was told, which hears other hosts
    /// that claim them.
    reachable: Vec<Reachable>,
    announced: Vec<Reachable>,
    /// The number of the [`AddressMessage::Take`] that was not reported yet.
    unreported: Option<u64>,
    /// The monitor said that another director is active, and nothing else since: a role of the
    /// main thread may be older than that.
    yielded: bool,
    /// Why the CVIPs cannot be carried here.
    incapable: Vec<String>,
    /// What this kernel is too old for, as it was logged.
    notices: Vec<String>,
    /// What the kernel refused, as it was logged.
    failures: Vec<String>,
    /// The faults as they were last told.
    told: Vec<String>,
    events: Bucket,
}

impl AddressState {
    /// A node that does not know its role yet.
    pub fn new(node: u32, conf: Arc<Conf>, now: Instant) -> AddressState {
        let mut state = AddressState {
            node,
            conf: Arc::clone(&conf),
            upkeep: Upkeep::new(now),
            actions: VecDeque::new(),
            desired: DesiredSettings::default(),
            carried: Vec::new(),
            reachable: Vec::new(),
            announced: Vec::new(),
            unreported: None,
            yielded: false,
            incapable: Vec::new(),
            notices: Vec::new(),
            failures: Vec::new(),
            told: Vec::new(),
            events: Bucket::new(EVENTS.0, EVENTS.1, now),
        };
        state.reload(conf);
        state
    }

    /// What the role asks for.
    pub fn desired(&self) -> &DesiredSettings {
        &self.desired
    }

    /// What this node would carry as the active director.
    pub fn carried(&self) -> &[DesiredAddress] {
        &self.carried
    }

    /// Takes what it is told; what follows is done by [`AddressState::next`].
    pub fn told(&mut self, message: AddressMessage, now: Instant) {
        match message {
            AddressMessage::Take { role, conf, number } => {
                self.reload(conf);
                self.unreported = Some(number);
                let is_outdated = self.yielded && role == AddressRole::ActiveDirector;
                self.take(if is_outdated { AddressRole::Yielding } else { role }, now);
            }
            AddressMessage::Reload(conf) => self.reload(conf),
            AddressMessage::Yield => {
                self.yielded = true;
                if self.is_active() {
                    self.take(AddressRole::Yielding, now);
                }
            }
            AddressMessage::Elected => self.yielded = false,
            AddressMessage::Announce => self.upkeep.announce_once(),
            AddressMessage::Undo => {
                self.upkeep.forget();
                self.actions.push_back(AddressAction::Undo);
            }
        }
    }

    fn is_active(&self) -> bool {
        self.upkeep.role() == Some(AddressRole::ActiveDirector)
    }

    fn reload(&mut self, conf: Arc<Conf>) {
        self.conf = conf;
        self.carried = match self.conf.is_director(self.node) {
            true => net::desired(&self.conf, self.node, AddressRole::ActiveDirector).addresses,
            false => Vec::new(),
        };
        self.upkeep.notified();
    }

    fn take(&mut self, role: AddressRole, now: Instant) {
        if self.upkeep.role() != Some(role) {
            self.reachable.clear();
        }
        self.desired = net::desired(&self.conf, self.node, role);
        // Another director may carry the role's addresses, too.
        let is_leased = self.desired.addresses.iter().any(|desired| desired.valid_lft.is_some());
        self.upkeep.set_role(role, is_leased, now);
    }

    /// The kernel says that something changed.
    pub fn notified(&mut self) {
        self.upkeep.notified();
    }

    /// What is to be done now, if anything; what came of it is told before this is asked again.
    pub fn next(&mut self, now: Instant) -> Option<AddressAction> {
        while self.actions.is_empty() && self.decide(now) {}
        self.actions.pop_front()
    }

    /// When something is due.
    pub fn due(&self) -> Instant {
        self.upkeep.due()
    }

    /// Decides one thing; false if there is nothing to decide.
    fn decide(&mut self, now: Instant) -> bool {
        let Some(action) = self.upkeep.next(now) else {
            let change = self.upkeep.capability_at(now);
            self.judge(change, now);
            self.tell_announced();
            self.tell_faults();
            return !self.actions.is_empty();
        };
        let action = match action {
            UpkeepAction::Look => AddressAction::Look,
            UpkeepAction::LookAtSettings => AddressAction::LookAtSettings,
            UpkeepAction::Make => AddressAction::Make { is_repair: false },
            UpkeepAction::Repair => AddressAction::Make { is_repair: true },
            UpkeepAction::Renew => AddressAction::Renew,
            UpkeepAction::Announce => AddressAction::Announce(self.reachable.clone()),
            UpkeepAction::Ask(doubt) => {
                match doubt {
                    Doubt::Late => {
                        warn!("this node was away for a while: is it still the active director?");
                    }
                    Doubt::Gone => warn!(
                        "an address of this active director is gone: it was not renewed in time, \
                         or another program removed it; is this node still the active director?"
                    ),
                }
                AddressAction::Tell(AddressNotice::Doubt)
            }
        };
        self.actions.push_back(action);
        true
    }

    /// What a look at everything showed.
    pub fn looked(&mut self, outcome: Result<SettingsSnapshot, NetError>, now: Instant) {
        match outcome {
            Ok(look) => {
                if look.differences.is_empty() {
                    self.failures.clear();
                }
                let change = self.upkeep.looked(&look, now);
                self.judge(change, now);
            }
            Err(error) => {
                self.fail(vec![error.to_string()]);
                self.upkeep.look_failed(now);
            }
        }
    }

    /// What a look at the sysctls showed.
    pub fn looked_at_settings(&mut self, differences: &[Difference]) {
        self.upkeep.looked_at_settings(differences);
    }

    /// What came of making the kernel what the role asks.
    pub fn made(&mut self, report: &SettingsReport, is_repair: bool, now: Instant) {
        let (notices, failures): (Vec<_>, Vec<_>) =
            report.failures.iter().partition(|failure| failure.is_notice());
        self.fail(failures.iter().map(ToString::to_string).collect());
        for notice in notices.iter().map(ToString::to_string) {
            if !self.notices.contains(&notice) {
                info!("{notice}");
                self.notices.push(notice);
            }
        }
        let is_added = |at: &Reachable| {
            let of = |done: &Done| {
                matches!(done, Done::Added { addr, device, .. }
                    if *addr == at.addr && *device == at.device)
            };
            !self.reachable.contains(at) || report.done.iter().any(of)
        };
        let anew = self.is_active() && report.reachable.iter().any(is_added);
        self.reachable.clone_from(&report.reachable);
        self.upkeep.made(report, anew, now);
        if let Some(number) = self.unreported.take() {
            self.actions.push_back(AddressAction::Tell(AddressNotice::Stand(number)));
        }
        for done in report.done.iter().filter(|_| is_repair) {
            self.event(DirectorEvent::Repaired { what: done.to_string() }, now);
        }
    }

    /// What came of a renewal.
    pub fn renewed(&mut self, outcome: &Result<(), Vec<NetError>>) {
        // What is gone is logged when it is asked about.
        let is_gone = |error: &NetError| matches!(error, NetError::Lapsed { .. });
        let errors = outcome.as_ref().err().into_iter().flatten();
        for error in errors.filter(|error| !is_gone(error)) {
            error!("{error}");
        }
        self.upkeep.renewed(outcome);
    }

    /// What was made is undone, as far as the kernel took it.
    pub fn undone(&mut self, report: &SettingsReport) {
        for failure in &report.failures {
            error!("{failure}");
        }
        self.actions.push_back(AddressAction::Tell(AddressNotice::Undone));
    }

    /// Logs what could not be made, unless it was logged already.
    fn fail(&mut self, failures: Vec<String>) {
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            error!("{failure}");
        }
        self.failures = failures;
    }

    fn judge(&mut self, change: Option<CapabilityChange>, now: Instant) {
        let Some(CapabilityChange { able, reasons }) = change else { return };
        // A director that starts in good health is nothing to tell of.
        let is_first = able && self.incapable.is_empty();
        self.incapable = reasons;
        let reason = self.incapable.join("; ");
        if !self.carried.is_empty() && !is_first {
            match able {
                true => info!("the CVIPs can be carried here again"),
                false => warn!("the CVIPs cannot be carried here: {reason}"),
            }
            let event =
                if able { DirectorEvent::CanCarry } else { DirectorEvent::Incapable { reason } };
            self.event(event, now);
        }
        self.actions.push_back(AddressAction::Tell(AddressNotice::Carries(able)));
    }

    fn event(&mut self, event: DirectorEvent, now: Instant) {
        if self.events.take(now) {
            self.actions.push_back(AddressAction::Event(event));
        }
    }

    /// Tells what is announced, where that changed.
    fn tell_announced(&mut self) {
        let announced = if self.is_active() { self.reachable.as_slice() } else { &[] };
        if announced != self.announced {
            self.announced = announced.to_vec();
            let notice = AddressNotice::Announced(self.announced.clone());
            self.actions.push_back(AddressAction::Tell(notice));
        }
    }

    /// Tells all that is wrong, where that changed.
    fn tell_faults(&mut self) {
        let incapable = self.incapable.iter().map(|reason| {
            format!("{reason}: the CVIPs cannot be carried here; see to the interface")
        });
        let faults: Vec<String> = incapable.chain(self.failures.iter().cloned()).collect();
        if faults != self.told {
            self.told.clone_from(&faults);
            self.actions.push_back(AddressAction::Tell(AddressNotice::Faults(faults)));
        }
    }
}

#[cfg(test)]
mod tests;
