//! When addresses and settings are made, looked at, repaired, renewed and announced. Pure.
//!
//! ```text
//!   a role and a configuration       -> make it so, and report
//!   a notification, a second, a minute -> look
//!   a look with differences          -> make it so, at a bounded rate
//!   a second, while active           -> renew what has a lifetime
//!   late, or gone                    -> change nothing, and ask whether it is still active
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capability::{Capability, CapabilityChange};
use crate::bucket::Bucket;
use crate::clock::Instant;
use crate::net::{AddressRole, Difference, NetError, SettingsReport, SettingsSnapshot};

/// The addresses that the active director announces are announced again after these times, for a
/// switch or a neighbour that missed the first; and then as often as the last says, for neighbours
/// that learnt something else in the meantime.
const ANNOUNCE_AGAIN: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(60),
];

/// Everything is looked at this often without a notification: one may be lost, or the kernel may
/// refuse to notify.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Many notifications may come at once: they are answered by one look.
const LOOK_GAP: Duration = Duration::from_millis(100);

/// The kernel does not notify of settings, and to read them is cheap.
const SETTINGS_EVERY: Duration = Duration::from_secs(1);

/// How often addresses with a lifetime are renewed; they live ten times as long.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// A node that is this late with a renewal did not run for a while, and may have been replaced.
const LATE_AFTER: Duration = Duration::from_secs(3);

/// An announcement that is this late waits until the node knows that it is still active: it may have
/// been replaced, and neighbours would send to it what is its successor's.
const ANNOUNCED_WITHIN: Duration = Duration::from_millis(500);

/// What another program keeps undoing is repaired so often at once, and then this often.
const REPAIRS: (u32, Duration) = (10, Duration::from_secs(2));

/// What the kernel refused is tried again after this without a notification, and with one.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpkeepAction {
    /// Look at everything, and say what was seen.
    Look,
    /// Look at the settings alone.
    LookAtSettings,
    /// Make the kernel what the role asks, because the role was told, and report that it stands.
    Make,
    /// The same, because it is not so any more.
    Repair,
    /// Renew the addresses with a lifetime.
    Renew,
    /// Announce what neighbours ask for.
    Announce,
    /// Ask whether this node is still active: nothing is touched until the role is told again.
    Ask(Doubt),
}

/// Why this node does not know whether it is still the active director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Doubt {
    /// It was away for a while.
    Late,
    /// An address that is renewed is gone.
    Gone,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Upkeep {
    /// None until the node knows what it is: what stands is left as it is.
    role: Option<AddressRole>,
    /// The role's addresses have a lifetime.
    leased: bool,
    /// The role was told, and is not made yet.
    unmade: bool,
    /// Why the kernel is not touched, until that was asked about.
    doubt: Option<Doubt>,
    /// An address that is renewed is gone.
    lapsed: bool,
    /// What is made next puts back what was gone.
    restoring: bool,
    /// Something changed since the last look.
    notified: bool,
    /// There was a notification since the last attempt to make something.
    notified_since_made: bool,
    looked: Instant,
    next_settings: Instant,
    next_renewal: Instant,
    /// When they are announced next: index into [`ANNOUNCE_AGAIN`] and time.
    announce: Option<(usize, Instant)>,
    /// They are announced once more, now.
    announces_once: bool,
    /// In what the kernel differed at the last look, as far as that is to be repaired.
    differences: Vec<Difference>,
    /// What was tried in vain.
    stuck: Vec<Difference>,
    made: Instant,
    repairs: Bucket,
    /// The last look showed that the CVIPs cannot be carried.
    incapable: bool,
    capability: Capability,
}

impl Upkeep {
    pub(super) fn new(now: Instant) -> Upkeep {
        Upkeep {
            role: None,
            leased: false,
            unmade: false,
            doubt: None,
            lapsed: false,
            restoring: false,
            notified: true,
            notified_since_made: false,
            looked: now - LOOK_GAP,
            next_settings: now,
            next_renewal: now,
            announce: None,
            announces_once: false,
            differences: Vec::new(),
            stuck: Vec::new(),
            made: now,
            repairs: Bucket::new(REPAIRS.0, REPAIRS.1, now),
            incapable: false,
            capability: Capability::default(),
        }
    }

    pub(super) fn role(&self) -> Option<AddressRole> {
        self.role
    }

    /// The node's role, told for the first time, again, or another than before; whether its
    /// addresses have a lifetime.
    pub(super) fn set_role(&mut self, role: AddressRole, leased: bool, now: Instant) {
        if self.role == Some(role) && self.was_late(now) {
            // It goes on only once it knows that it is still active.
            self.doubt = Some(Doubt::Late);
            return;
        }
        if self.role != Some(role) {
            (self.differences, self.stuck) = (Vec::new(), Vec::new());
            self.restoring &= self.role.is_none() && role == AddressRole::ActiveDirector;
        }
        (self.role, self.leased, self.unmade) = (Some(role), leased, true);
        (self.doubt, self.lapsed) = (None, false);
        self.next_renewal = now + RENEW_EVERY;
        if role != AddressRole::ActiveDirector {
            (self.announce, self.announces_once) = (None, false);
        }
    }

    /// Nothing is kept any more.
    pub(super) fn forget(&mut self) {
        (self.role, self.unmade) = (None, false);
        (self.announce, self.announces_once) = (None, false);
    }

    /// The kernel says that something changed.
    pub(super) fn notified(&mut self) {
        (self.notified, self.notified_since_made) = (true, true);
    }

    /// What is to be announced is announced from the beginning.
    pub(super) fn announce_anew(&mut self, now: Instant) {
        if self.role == Some(AddressRole::ActiveDirector) {
            self.announce = Some((0, now));
        }
    }

    /// What is to be announced is announced once more, now: unless another role comes first.
    pub(super) fn announce_once(&mut self) {
        self.announces_once = self.role == Some(AddressRole::ActiveDirector);
    }

    /// What is to be done now, if anything; what came of it is told before this is asked again.
    pub(super) fn next(&mut self, now: Instant) -> Option<UpkeepAction> {
        if self.role.is_some() {
            if self.was_late(now) {
                self.doubt = Some(Doubt::Late);
            }
            if self.lapsed && self.doubt.is_none() && self.repairs.take(now) {
                (self.doubt, self.restoring) = (Some(Doubt::Gone), true);
            }
            if let Some(doubt) = self.doubt.take() {
                self.forget();
                self.lapsed = false;
                return Some(UpkeepAction::Ask(doubt));
            }
            if std::mem::take(&mut self.unmade) {
                return Some(match std::mem::take(&mut self.restoring) {
                    true => UpkeepAction::Repair,
                    false => UpkeepAction::Make,
                });
            }
            if std::mem::take(&mut self.announces_once) {
                return Some(UpkeepAction::Announce);
            }
            if now >= self.next_renewal {
                self.next_renewal = now + RENEW_EVERY;
                if self.leased {
                    return Some(UpkeepAction::Renew);
                }
            }
        }
        if now >= self.look_due() {
            (self.looked, self.notified) = (now, false);
            self.next_settings = now + SETTINGS_EVERY;
            return Some(UpkeepAction::Look);
        }
        self.role?;
        if now >= self.next_settings {
            self.next_settings = now + SETTINGS_EVERY;
            return Some(UpkeepAction::LookAtSettings);
        }
        if self.repair_due().is_some_and(|due| now >= due) {
            let in_vain = self.is_in_vain();
            if in_vain || self.repairs.take(now) {
                return Some(UpkeepAction::Repair);
            }
        }
        let (count, at) = self.announce?;
        (now >= at).then(|| {
            let again = count.min(ANNOUNCE_AGAIN.len() - 1);
            self.announce = Some((again + 1, now + ANNOUNCE_AGAIN[again]));
            UpkeepAction::Announce
        })
    }

    /// When something is due.
    pub(super) fn due(&self) -> Instant {
        let mut due = self.look_due();
        let capability = self.capability.due();
        let of_role = [
            Some(self.next_settings),
            Some(self.next_renewal),
            self.repair_due(),
            self.announce.map(|(_, at)| at),
            self.lapsed.then(|| self.repairs.ready()),
        ];
        due = of_role.into_iter().flatten().filter(|_| self.role.is_some()).fold(due, Instant::min);
        capability.map_or(due, |at| due.min(at))
    }

    /// What a look at everything showed.
    pub(super) fn looked(
        &mut self,
        look: &SettingsSnapshot,
        now: Instant,
    ) -> Option<CapabilityChange> {
        self.lapsed = self.role.is_some() && self.leased && !look.lapsed.is_empty();
        self.differences = match self.role {
            Some(_) => look.differences.iter().filter(|d| is_to_be_made(d)).cloned().collect(),
            None => Vec::new(),
        };
        self.stuck.retain(|stuck| self.differences.contains(stuck));
        let was_incapable = std::mem::replace(&mut self.incapable, !look.incapable.is_empty());
        if self.incapable {
            return self.capability.seen(sentences(&look.incapable), now);
        }
        // An announcement on an interface without a carrier reached no neighbour.
        if was_incapable {
            self.announce_anew(now);
        }
        if self.role == Some(AddressRole::ActiveDirector) {
            if let Some(Difference::Missing { addr, device, .. }) =
                self.stuck.iter().find(|stuck| matches!(stuck, Difference::Missing { .. }))
            {
                let reason = format!("the kernel refuses {addr} on {device}");
                return self.capability.refused(reason, now);
            }
            if self.differences.is_empty() {
                self.capability.accepted();
            }
        }
        self.capability.seen(Vec::new(), now)
    }

    /// The kernel could not be looked at: what was to be seen is still to be seen.
    pub(super) fn look_failed(&mut self, now: Instant) {
        (self.looked, self.notified) = (now + RETRY.1 - LOOK_GAP, true);
    }

    /// What the election is to be told as time goes on.
    pub(super) fn capability_at(&mut self, now: Instant) -> Option<CapabilityChange> {
        self.capability.at(now)
    }

    /// What a look at the settings showed.
    pub(super) fn looked_at_settings(&mut self, differences: &[Difference]) {
        // A look at everything comes first, so that all is made in one go.
        let is_new = |found: &&Difference| is_to_be_made(found) && !self.stuck.contains(found);
        self.notified |= differences.iter().any(|found| is_new(&found));
    }

    /// What came of making it so. `anew`: something is to be announced that was not there before.
    pub(super) fn made(&mut self, report: &SettingsReport, anew: bool, now: Instant) {
        (self.made, self.notified_since_made) = (now, false);
        // Notices are of what this kernel will never have.
        let failed = report.failures.iter().any(|failure| !failure.is_notice());
        self.stuck = match failed || report.done.is_empty() {
            true => std::mem::take(&mut self.differences),
            false => Vec::new(),
        };
        self.differences.clone_from(&self.stuck);
        // What is still missing is found out.
        self.notified |= failed && self.stuck.is_empty();
        if anew {
            self.announce_anew(now);
        }
    }

    /// What came of a renewal.
    pub(super) fn renewed(&mut self, outcome: &Result<(), Vec<NetError>>) {
        let Err(errors) = outcome else { return };
        self.notified = true;
        self.lapsed = errors.iter().any(|error| matches!(error, NetError::Lapsed { .. }));
    }

    fn was_late(&self, now: Instant) -> bool {
        let late = now.saturating_duration_since(self.next_renewal) > LATE_AFTER;
        let announces_late = self.announce.is_some_and(|(_, at)| now >= at + ANNOUNCED_WITHIN);
        (late || announces_late) && self.leased && self.role.is_some()
    }

    fn look_due(&self) -> Instant {
        match self.notified {
            true => self.looked + LOOK_GAP,
            false => self.looked + LOOK_EVERY,
        }
    }

    /// Everything that differs was tried before, and refused.
    fn is_in_vain(&self) -> bool {
        self.differences.iter().all(|difference| self.stuck.contains(difference))
    }

    fn repair_due(&self) -> Option<Instant> {
        // What is gone is asked about first.
        if self.differences.is_empty() || self.lapsed {
            return None;
        }
        Some(match (self.is_in_vain(), self.notified_since_made) {
            (true, true) => self.made + RETRY.1,
            (true, false) => self.made + RETRY.0,
            (false, _) => self.repairs.ready(),
        })
    }
}

/// An address that others put where it does not belong is theirs to remove, and what this kernel
/// is too old for it will never have.
fn is_to_be_made(difference: &Difference) -> bool {
    match difference {
        Difference::Misplaced { .. } | Difference::Permanent { .. } => false,
        Difference::Unmet(failure) => !failure.is_notice(),
        _ => true,
    }
}

fn sentences(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
#[path = "upkeep/tests.rs"]
mod tests;
