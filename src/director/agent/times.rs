//! How long a director takes until the kernel's table shows what its nodes join and leave. Pure: the
//! driver tells what happens and what passes did.

use std::net::IpAddr;
use std::time::Duration;

use super::super::DirectorEvent;
use super::super::settings::service_id;
use super::super::view::TableTimes;
use super::messages::{PassError, PassReport};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::ipvs::{Change, ServiceId};
use crate::membership::{Membership, PendingMemberships};

/// Joins and leaves that the table does not show yet, and how long others took.
#[derive(Debug, Default)]
pub(super) struct PassTimes {
    unmade: PendingMemberships<(ServiceId, IpAddr)>,
    times: TableTimes,
}

impl PassTimes {
    /// Something happened: a join or a leave begins to wait.
    pub(super) fn happened(&mut self, event: &DirectorEvent, conf: &Conf, now: Instant) {
        let (service, node, membership) = match event {
            DirectorEvent::Joined { service, node, .. } => (service, node, Membership::Joined),
            DirectorEvent::Left { service, node } => (service, node, Membership::Left),
            _ => return,
        };
        let server = conf.cvip(service.cvip).and_then(|cvip| cvip.real_server(*node));
        if let Some(server) = server {
            self.unmade.begin((service_id(*service), server.addr), membership, now);
        }
    }

    /// A pass ended that took so long. What it did not make of joins and leaves, such as one that is
    /// damped, is made for another reason later.
    pub(super) fn passed(
        &mut self,
        outcome: &Result<PassReport, PassError>,
        was_full: bool,
        took: Duration,
        now: Instant,
    ) {
        let Ok(report) = outcome else { return };
        for change in &report.applied {
            let (service, addr, membership) = match change {
                Change::AddDestination(service, made) | Change::EditDestination(service, made) => {
                    let gets = made.weight > 0;
                    let membership = if gets { Membership::Joined } else { Membership::Left };
                    (*service, made.id.addr, membership)
                }
                Change::DeleteDestination(service, gone) => (*service, gone.addr, Membership::Left),
                _ => continue,
            };
            if let Some(since) = self.unmade.settle(&(service, addr), membership) {
                self.times.memberships.observe(membership, since, now);
            }
        }
        self.unmade.clear();
        let passes = match was_full {
            true => &mut self.times.full_passes,
            false => &mut self.times.passes,
        };
        passes.observe(took);
    }

    /// How long it took.
    pub(super) fn times(&self) -> &TableTimes {
        &self.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Cvip, RealServer, Routing};
    use crate::ipvs::{Destination, Forwarding};
    use crate::protocol::Protocol;
    use crate::store::ServiceKey;

    #[test]
    fn a_join_takes_until_the_pass_that_gives_the_server_its_weight() {
        let server = RealServer { node: 2, addr: [10, 0, 0, 2].into(), weight: 1 };
        let cvip = Cvip {
            addr: [10, 0, 0, 100].into(),
            gateway: None,
            directors: Vec::new(),
            real_servers: vec![server],
            services: Vec::new(),
        };
        let conf = Conf { routing: Routing::Dr, cvips: vec![cvip] };
        let service =
            ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Protocol::Tcp, port: 80 };
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut times = PassTimes::default();
        let joined = DirectorEvent::Joined { service, node: 2, weight: 1 };
        times.happened(&joined, &conf, start);
        let made = Destination::new(server.addr, 80, Forwarding::Route, 1);
        let applied = vec![Change::AddDestination(service_id(service), made)];
        let report = Ok(PassReport { applied, refused: Vec::new() });
        times.passed(&report, false, ms(3), start + ms(7));
        assert_eq!(times.times().memberships.joins.sum(), ms(7));
        assert_eq!((times.times().passes.sum(), times.times().full_passes.sum()), (ms(3), ms(0)));
        // One that no pass made is not counted later.
        times.happened(&DirectorEvent::Left { service, node: 2 }, &conf, start);
        times.passed(&Ok(PassReport::default()), true, ms(1), start + ms(8));
        let applied = vec![Change::DeleteDestination(service_id(service), made.id)];
        let report = Ok(PassReport { applied, refused: Vec::new() });
        times.passed(&report, true, ms(1), start + ms(9000));
        assert_eq!(times.times().memberships.leaves.sum(), ms(0));
    }
}
