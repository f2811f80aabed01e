//! Ports that were served and are not any more, for the heartbeat to name. Pure.

use std::collections::BTreeSet;

use super::leaving::LeavingPort;
use crate::heartbeat::LeftPorts;

/// The ports, the one that was left last at the end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Gone(Vec<LeavingPort>);

impl Gone {
    /// Ports that a cvipd before this one served, and that this one perhaps does not find.
    pub(super) fn of(ports: impl IntoIterator<Item = LeavingPort>) -> Gone {
        let ports: BTreeSet<LeavingPort> = ports.into_iter().collect();
        Gone(ports.into_iter().collect())
    }

    /// Ports were served before, and others are now.
    pub(super) fn update(
        &mut self,
        before: impl IntoIterator<Item = LeavingPort>,
        served: &BTreeSet<LeavingPort>,
    ) {
        let left: BTreeSet<LeavingPort> =
            before.into_iter().filter(|p| !served.contains(p)).collect();
        self.0.retain(|port| !served.contains(port) && !left.contains(port));
        self.0.extend(left);
    }

    /// What the heartbeat says, beside a record of this version.
    pub(super) fn told(&self, record: (u64, u64), served: &BTreeSet<LeavingPort>) -> LeftPorts {
        LeftPorts::new(record, &self.0, served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    const WEB: LeavingPort = (Protocol::Tcp, 80);
    const TLS: LeavingPort = (Protocol::Tcp, 443);
    const DNS: LeavingPort = (Protocol::Udp, 53);

    /// Whether each of the three is named after these sets of ports were served, one after the
    /// other.
    fn named(gone: Gone, served: &[&[LeavingPort]]) -> [bool; 3] {
        let mut gone = gone;
        let mut before = BTreeSet::new();
        for now in served {
            let now: BTreeSet<LeavingPort> = now.iter().copied().collect();
            gone.update(std::mem::replace(&mut before, now.clone()), &now);
        }
        let told = gone.told((1, 1), &before);
        [WEB, TLS, DNS].map(|port| told.contains(port))
    }

    #[test]
    fn a_port_is_named_from_its_leave_until_it_is_served_again() {
        let none = Gone::default;
        assert_eq!(named(none(), &[&[WEB, TLS, DNS]]), [false; 3]);
        assert_eq!(named(none(), &[&[WEB, TLS, DNS], &[TLS]]), [true, false, true]);
        assert_eq!(named(none(), &[&[WEB, TLS, DNS], &[TLS], &[WEB, TLS]]), [false, false, true]);
        assert_eq!(named(none(), &[&[WEB, TLS], &[WEB], &[], &[TLS]]), [true, false, false]);
    }

    #[test]
    fn what_the_last_cvipd_served_is_named_unless_it_is_found() {
        assert_eq!(named(Gone::of([WEB, DNS]), &[&[WEB]]), [false, false, true]);
        assert_eq!(named(Gone::of([WEB]), &[&[], &[WEB]]), [false; 3]);
    }
}
