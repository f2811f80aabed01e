//! Services that were served and are not any more, for the heartbeat to name. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::heartbeat::LeftPorts;
use crate::heartbeat::left::LeftService;

/// The services, the one that was left last at the end.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Gone(Vec<LeftService>);

impl Gone {
    /// Services that a cvipd before this one served, and that this one perhaps does not find.
    pub(super) fn of(services: impl IntoIterator<Item = LeftService>) -> Gone {
        let services: BTreeSet<LeftService> = services.into_iter().collect();
        Gone(services.into_iter().collect())
    }

    /// Services were served before, and others are now.
    pub(super) fn update(
        &mut self,
        before: impl IntoIterator<Item = LeftService>,
        served: &BTreeSet<LeftService>,
    ) {
        let left: BTreeSet<LeftService> =
            before.into_iter().filter(|service| !served.contains(service)).collect();
        self.0.retain(|service| !served.contains(service) && !left.contains(service));
        self.0.extend(left);
    }

    /// What the heartbeat says, beside a record of this version.
    pub(super) fn told(&self, record: (u64, u64), served: &BTreeSet<LeftService>) -> LeftPorts {
        LeftPorts::new(record, &self.0, served)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::protocol::Protocol;

    const CVIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
    const WEB: LeftService = (CVIP, (Protocol::Tcp, 80));
    const TLS: LeftService = (CVIP, (Protocol::Tcp, 443));
    const DNS: LeftService = (CVIP, (Protocol::Udp, 53));
    /// Port 80 of another CVIP.
    const SHOP: LeftService = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 101)), (Protocol::Tcp, 80));

    /// Which of the four are named after these sets were served, one after the other.
    fn named(gone: Gone, served: &[&[LeftService]]) -> Vec<LeftService> {
        let mut gone = gone;
        let mut before = BTreeSet::new();
        for now in served {
            let now: BTreeSet<LeftService> = now.iter().copied().collect();
            gone.update(std::mem::replace(&mut before, now.clone()), &now);
        }
        let told = gone.told((1, 1), &before);
        [WEB, TLS, DNS, SHOP].into_iter().filter(|service| told.contains(*service)).collect()
    }

    #[test]
    fn a_service_is_named_from_its_leave_until_it_is_served_again() {
        let none = Gone::default;
        assert_eq!(named(none(), &[&[WEB, TLS, DNS, SHOP]]), []);
        assert_eq!(named(none(), &[&[WEB, TLS, DNS], &[TLS]]), [WEB, DNS, SHOP]);
        assert_eq!(named(none(), &[&[WEB, TLS, DNS], &[TLS], &[WEB, TLS]]), [DNS]);
        assert_eq!(named(none(), &[&[WEB, TLS], &[WEB], &[], &[TLS]]), [WEB, SHOP]);
    }

    #[test]
    fn a_service_is_named_though_its_port_is_served_for_another_cvip() {
        let none = Gone::default;
        assert_eq!(named(none(), &[&[WEB, SHOP], &[SHOP]]), [WEB]);
        assert_eq!(named(none(), &[&[WEB, SHOP], &[SHOP], &[WEB]]), [SHOP]);
        assert_eq!(named(none(), &[&[WEB, SHOP], &[SHOP], &[WEB, SHOP]]), []);
    }

    #[test]
    fn what_the_last_cvipd_served_is_named_unless_it_is_found() {
        assert_eq!(named(Gone::of([WEB, DNS]), &[&[WEB]]), [DNS]);
        assert_eq!(named(Gone::of([WEB]), &[&[], &[WEB]]), []);
        assert_eq!(named(Gone::of([WEB, SHOP]), &[&[SHOP]]), [WEB]);
    }
}
