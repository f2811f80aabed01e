//! The address manager as it is recorded and replayed.

use serde::{Deserialize, Serialize};

use super::messages::{AddressMessage, AddressNotice};
use super::state::{AddressAction, AddressState};
use crate::clock::Instant;
use crate::net::{AddressRole, Difference, NetError, SettingsReport, SettingsSnapshot};
use crate::recorder::{Core, Recorded};

/// What changes an address manager.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressCall {
    /// [`AddressState::told`]
    Told(AddressMessage),
    /// [`AddressState::notified`]
    Notified,
    /// [`AddressState::next`]
    Next,
    /// [`AddressState::looked`]
    Looked(Result<SettingsSnapshot, NetError>),
    /// [`AddressState::looked_at_settings`]
    LookedAtSettings(Vec<Difference>),
    /// [`AddressState::made`]
    Made(SettingsReport, bool),
    /// [`AddressState::renewed`]
    Renewed(Result<(), Vec<NetError>>),
    /// [`AddressState::undone`]
    Undone(SettingsReport),
}

impl Core for AddressState {
    const NAME: &'static str = "addresses";
    type Call = AddressCall;
    type Output = AddressAction;

    fn call(&mut self, call: AddressCall, now: Instant) -> Vec<AddressAction> {
        match call {
            AddressCall::Told(message) => self.told(message, now),
            AddressCall::Notified => self.notified(),
            AddressCall::Next => return self.next(now).into_iter().collect(),
            AddressCall::Looked(outcome) => self.looked(outcome, now),
            AddressCall::LookedAtSettings(differences) => self.looked_at_settings(&differences),
            AddressCall::Made(report, is_repair) => self.made(&report, is_repair, now),
            AddressCall::Renewed(outcome) => self.renewed(&outcome),
            AddressCall::Undone(report) => self.undone(&report),
        }
        Vec::new()
    }

    fn describe_call(call: &AddressCall) -> Vec<String> {
        match call {
            AddressCall::Told(message) => vec![describe_message(message)],
            AddressCall::Notified => vec!["the kernel says that something changed".to_owned()],
            AddressCall::Next => Vec::new(),
            AddressCall::Looked(Ok(look)) => {
                let differences = look.differences.iter().map(ToString::to_string);
                let lapsed = look.lapsed.iter().map(ToString::to_string);
                let incapable = look.incapable.iter().map(ToString::to_string);
                differences.chain(lapsed).chain(incapable).collect()
            }
            AddressCall::Looked(Err(error)) => vec![error.to_string()],
            AddressCall::LookedAtSettings(differences) => {
                differences.iter().map(ToString::to_string).collect()
            }
            AddressCall::Made(report, _) | AddressCall::Undone(report) => {
                let failures = report.failures.iter().map(ToString::to_string);
                report.done.iter().map(ToString::to_string).chain(failures).collect()
            }
            AddressCall::Renewed(Ok(())) => Vec::new(),
            AddressCall::Renewed(Err(errors)) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    fn describe_output(action: &AddressAction) -> Option<String> {
        Some(match action {
            // Again and again.
            AddressAction::LookAtSettings | AddressAction::Renew => return None,
            AddressAction::Look => "looks at addresses and settings".to_owned(),
            AddressAction::Make { is_repair: false } => "makes what its role asks".to_owned(),
            AddressAction::Make { is_repair: true } => "repairs what its role asks".to_owned(),
            AddressAction::Announce(addresses) => {
                let at = addresses.iter().map(|at| format!("{} on {}", at.addr, at.device));
                format!("announces {}", at.collect::<Vec<_>>().join(", "))
            }
            AddressAction::Undo => "undoes what it made".to_owned(),
            AddressAction::Tell(notice) => match notice {
                AddressNotice::Stand(number) => format!("tells that role {number} stands"),
                AddressNotice::Doubt => "asks whether this node is still active".to_owned(),
                AddressNotice::Announced(addresses) => {
                    format!("tells that {} addresses are announced", addresses.len())
                }
                AddressNotice::Carries(true) => "tells that it can carry the CVIPs".to_owned(),
                AddressNotice::Carries(false) => "tells that it cannot carry the CVIPs".to_owned(),
                AddressNotice::Faults(faults) if faults.is_empty() => {
                    "tells that nothing is wrong".to_owned()
                }
                AddressNotice::Faults(faults) => format!("tells faults: {}", faults.join("; ")),
                AddressNotice::Undone => "tells that all is undone".to_owned(),
            },
            AddressAction::Event(event) => format!("event: {event}"),
        })
    }
}

fn describe_message(message: &AddressMessage) -> String {
    match message {
        AddressMessage::Take { role, number, .. } => {
            let role = match role {
                AddressRole::RealServer => "real server",
                AddressRole::ActiveDirector => "active director",
                AddressRole::Yielding => "director that yields",
                AddressRole::Standby => "standby",
            };
            format!("role {number}: {role}")
        }
        AddressMessage::Reload(_) => "another configuration".to_owned(),
        AddressMessage::Yield => "another director is active".to_owned(),
        AddressMessage::Elected => "this director is elected".to_owned(),
        AddressMessage::Announce => "its addresses are to be announced again".to_owned(),
        AddressMessage::Undo => "what was made is to be undone".to_owned(),
    }
}

/// [`AddressState`]'s own, recorded.
impl Recorded<AddressState> {
    pub(super) fn told(&mut self, message: AddressMessage, now: Instant) {
        self.call(AddressCall::Told(message), now);
    }

    pub(super) fn notified(&mut self, now: Instant) {
        self.call(AddressCall::Notified, now);
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<AddressAction> {
        self.call(AddressCall::Next, now).pop()
    }

    pub(super) fn looked(&mut self, outcome: Result<SettingsSnapshot, NetError>, now: Instant) {
        self.call(AddressCall::Looked(outcome), now);
    }

    pub(super) fn looked_at_settings(&mut self, differences: Vec<Difference>, now: Instant) {
        self.call(AddressCall::LookedAtSettings(differences), now);
    }

    pub(super) fn made(&mut self, report: SettingsReport, is_repair: bool, now: Instant) {
        self.call(AddressCall::Made(report, is_repair), now);
    }

    pub(super) fn renewed(&mut self, outcome: Result<(), Vec<NetError>>, now: Instant) {
        self.call(AddressCall::Renewed(outcome), now);
    }

    pub(super) fn undone(&mut self, report: SettingsReport, now: Instant) {
        self.call(AddressCall::Undone(report), now);
    }
}
