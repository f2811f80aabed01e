//! Whether this director can carry its CVIPs, as its election is told. Pure.
//!
//! That it cannot is told at once, and that it can only once nothing has been wrong for a while: a
//! carrier that flaps must not move the CVIP with every change. All CVIPs of a set move together,
//! so that one that cannot be carried is enough.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;

/// Nothing must have been wrong for so long.
const HOLD: Duration = Duration::from_secs(3);

/// A kernel that refused an address may refuse it again, which only another attempt would show: the
/// director does not offer itself before this has passed.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// A change of what the election is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CapabilityChange {
    /// It can carry them.
    pub(super) able: bool,
    /// Why not, as sentences; empty if it can.
    pub(super) reasons: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Capability {
    told: Option<CapabilityChange>,
    well_since: Option<Instant>,
    refused_until: Option<Instant>,
}

impl Capability {
    /// What a look showed; what is to be told anew, if anything is.
    pub(super) fn seen(&mut self, reasons: Vec<String>, now: Instant) -> Option<CapabilityChange> {
        let able = reasons.is_empty();
        if !able {
            self.well_since = None;
            return self.tell(CapabilityChange { able, reasons });
        }
        self.well_since.get_or_insert(now);
        self.at(now)
    }

    /// The kernel refused an address.
    pub(super) fn refused(&mut self, reason: String, now: Instant) -> Option<CapabilityChange> {
        self.refused_until = Some(now + REFUSED_FOR);
        self.seen(vec![reason], now)
    }

    /// The kernel took what it had refused.
    pub(super) fn accepted(&mut self) {
        self.refused_until = None;
    }

    /// What is to be told as time goes on.
    pub(super) fn at(&mut self, now: Instant) -> Option<CapabilityChange> {
        if self.told.is_some() && self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.well_since?;
        self.tell(CapabilityChange { able: true, reasons: Vec::new() })
    }

    /// When time alone may change it.
    pub(super) fn due(&self) -> Option<Instant> {
        let since =
            self.well_since.filter(|_| self.told.as_ref().is_some_and(|told| !told.able))?;
        Some(self.refused_until.map_or(since + HOLD, |until| until.max(since + HOLD)))
    }

    fn tell(&mut self, verdict: CapabilityChange) -> Option<CapabilityChange> {
        if self.told.as_ref() == Some(&verdict) {
            return None;
        }
        self.told = Some(verdict.clone());
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn able(verdict: Option<CapabilityChange>) -> Option<bool> {
        verdict.map(|verdict| verdict.able)
    }

    fn no_carrier() -> Vec<String> {
        vec!["eth0 has no carrier".to_owned()]
    }

    #[test]
    fn it_is_lost_at_once_and_regained_after_a_while_without_a_fault() {
        let start = Instant::now();
        let mut capability = Capability::default();
        assert_eq!(able(capability.seen(Vec::new(), start)), Some(true), "the first look counts");
        assert_eq!(capability.seen(Vec::new(), start), None);
        assert_eq!(able(capability.seen(no_carrier(), start + SECOND)), Some(false));
        assert_eq!(capability.seen(no_carrier(), start + SECOND), None);
        assert_eq!(capability.seen(Vec::new(), start + 2 * SECOND), None);
        assert_eq!(capability.due(), Some(start + 2 * SECOND + HOLD));
        assert_eq!(able(capability.at(start + 2 * SECOND + HOLD)), Some(true));
        assert_eq!(capability.due(), None);
    }

    #[test]
    fn a_carrier_that_flaps_is_told_once() {
        let start = Instant::now();
        let mut capability = Capability::default();
        capability.seen(Vec::new(), start);
        let mut told = Vec::new();
        for n in 0..100 {
            let now = start + SECOND / 2 * n;
            let reasons = if n % 2 == 0 { no_carrier() } else { Vec::new() };
            told.extend(able(capability.seen(reasons, now)));
            told.extend(able(capability.at(now + SECOND / 4)));
        }
        assert_eq!(told, [false]);
    }

    #[test]
    fn a_refusal_is_remembered_for_longer_unless_the_kernel_takes_the_address() {
        let start = Instant::now();
        let mut capability = Capability::default();
        capability.seen(Vec::new(), start);
        let refused = capability.refused("refused".to_owned(), start);
        assert_eq!(able(refused), Some(false));
        assert_eq!(capability.seen(Vec::new(), start + SECOND), None);
        assert_eq!(capability.at(start + 10 * SECOND), None);
        assert_eq!(capability.due(), Some(start + REFUSED_FOR));
        capability.accepted();
        assert_eq!(able(capability.at(start + 10 * SECOND)), Some(true));
    }
}
