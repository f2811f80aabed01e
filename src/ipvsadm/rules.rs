//! A table as a value: what a file of commands describes, or what the kernel holds.
//!
//! `--apply` and `--diff` compare two of them ([`Rules::plan`]). The file's is made by carrying
//! out its lines on an empty one, with the kernel's own rules about what may follow what, so
//! that a file means to `--apply` what it means to `-R` on an empty table.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nix::libc;

use super::table::{Table, TableError};
use crate::ipvs::plan::{DesiredPool, ServicePool, plan_daemon, plan_pool, plan_timeouts, rank};
use crate::ipvs::{Change, DaemonRole, ServiceId, SyncDaemon, Timeouts};

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The services.
    pub services: BTreeMap<ServiceId, ServicePool>,
    /// The time-outs, 0 for one of which nothing is said; `None` if nothing is said of any.
    pub timeouts: Option<Timeouts>,
    /// The master daemon.
    pub master: DaemonRule,
    /// The backup daemon.
    pub backup: DaemonRule,
    /// Whether anything is said of services: an empty table can be meant ([`Change::Flush`]), or
    /// only time-outs and daemons.
    pub of_services: bool,
    /// The services stay as they are.
    pub keeps_services: bool,
}

/// What is said of a synchronisation daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DaemonRule {
    /// Nothing.
    #[default]
    Unsaid,
    /// It does not run; with the id that it is stopped by.
    Stopped(u32),
    /// It runs so.
    Running(SyncDaemon),
}

/// Why a change has no place in a table that is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// The kernel would refuse it, with this errno.
    Refused(i32),
    /// It leaves no trace in the table.
    NoRule,
}

impl DaemonRule {
    fn running(&self) -> Option<&SyncDaemon> {
        match self {
            DaemonRule::Running(daemon) => Some(daemon),
            DaemonRule::Unsaid | DaemonRule::Stopped(_) => None,
        }
    }
}

impl Rules {
    /// The fewest changes that lead from this table to `desired`, in the order in which they are to
    /// be made. Of what `desired` says nothing (time-outs, daemons) stays as it is.
    pub fn plan(&self, desired: &Rules) -> Vec<Change> {
        let (no_destinations, none) = (BTreeMap::new(), BTreeMap::new());
        let mut changes = Vec::new();
        for (id, ServicePool { service, destinations }) in &desired.services {
            let desired = DesiredPool { service: Some(service), destinations, removals: &none };
            changes.extend(plan_pool(*id, desired, self.services.get(id)));
        }
        for (id, pool) in self.services.iter().filter(|(id, _)| !desired.services.contains_key(id))
        {
            let desired =
                DesiredPool { service: None, destinations: &no_destinations, removals: &none };
            changes.extend(plan_pool(*id, desired, Some(pool)));
        }
        let timeouts = desired.timeouts.and_then(|times| plan_timeouts(self.timeouts, times));
        changes.extend(timeouts);
        for (now, then) in [(&self.master, &desired.master), (&self.backup, &desired.backup)] {
            if *then != DaemonRule::Unsaid {
                changes.extend(plan_daemon(now.running(), then.running()));
            }
        }
        changes.sort_by_key(rank);
        changes
    }

    /// Reads the kernel's table.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn of(table: &mut impl Table) -> Result<Rules, TableError> {
        let mut rules = Rules { of_services: true, ..Rules::default() };
        for entry in table.services()? {
            let id = entry.service.id;
            let destinations = table.destinations(&id)?;
            let destinations = destinations.into_iter().map(|entry| entry.destination);
            let destinations = destinations.map(|d| (d.id, d)).collect();
            rules.services.insert(id, ServicePool { service: entry.service, destinations });
        }
        rules.timeouts = Some(table.timeouts()?);
        (rules.master, rules.backup) = (DaemonRule::Stopped(0), DaemonRule::Stopped(0));
        for daemon in table.daemons()? {
            let role = daemon.role;
            *rules.daemon(role) = DaemonRule::Running(daemon);
        }
        Ok(rules)
    }

    /// What is said of a daemon.
    pub fn daemon(&mut self, role: DaemonRole) -> &mut DaemonRule {
        match role {
            DaemonRole::Master => &mut self.master,
            DaemonRole::Backup => &mut self.backup,
        }
    }

    /// Carries out a change.
    ///
    /// # Errors
    ///
    /// If the kernel would refuse it on this table, as far as the table tells; or if it is no
    /// rule.
    pub fn change(&mut self, change: &Change) -> Result<(), RuleError> {
        use RuleError::Refused;
        let no_service = || Refused(libc::ESRCH);
        self.of_services |= !matches!(
            change,
            Change::SetTimeouts(_)
                | Change::StartDaemon(_)
                | Change::StopDaemon(..)
                | Change::Zero(_)
        );
        match change {
            Change::AddService(service) => match self.services.entry(service.id) {
                Entry::Occupied(_) => return Err(Refused(libc::EEXIST)),
                Entry::Vacant(place) => {
                    let service = service.clone();
                    place.insert(ServicePool { service, destinations: BTreeMap::new() });
                }
            },
            Change::EditService(service) => {
                let pool = self.services.get_mut(&service.id).ok_or_else(no_service)?;
                pool.service = service.clone();
            }
            Change::DeleteService(id) => {
                self.services.remove(id).ok_or_else(no_service)?;
            }
            Change::AddDestination(id, destination) => {
                let pool = self.services.get_mut(id).ok_or_else(no_service)?;
                match pool.destinations.entry(destination.id) {
                    Entry::Occupied(_) => return Err(Refused(libc::EEXIST)),
                    Entry::Vacant(place) => place.insert(*destination),
                };
            }
            Change::EditDestination(id, destination) => {
                let pool = self.services.get_mut(id).ok_or_else(no_service)?;
                let place = pool.destinations.get_mut(&destination.id);
                *place.ok_or(Refused(libc::ENOENT))? = *destination;
            }
            Change::DeleteDestination(id, at) => {
                let pool = self.services.get_mut(id).ok_or_else(no_service)?;
                pool.destinations.remove(at).ok_or(Refused(libc::ENOENT))?;
            }
            Change::Flush => self.services.clear(),
            Change::SetTimeouts(new) => {
                let said = self.timeouts.get_or_insert(Timeouts { tcp: 0, tcp_fin: 0, udp: 0 });
                for (old, new) in [
                    (&mut said.tcp, new.tcp),
                    (&mut said.tcp_fin, new.tcp_fin),
                    (&mut said.udp, new.udp),
                ] {
                    if new != 0 {
                        *old = new;
                    }
                }
            }
            Change::StartDaemon(daemon) => match self.daemon(daemon.role) {
                DaemonRule::Running(_) => return Err(Refused(libc::EEXIST)),
                other => *other = DaemonRule::Running(daemon.clone()),
            },
            Change::StopDaemon(role, id) => *self.daemon(*role) = DaemonRule::Stopped(*id),
            Change::Zero(_) => return Err(RuleError::NoRule),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::plan::takes_away;
    use crate::ipvs::{Destination, Forwarding, Service, Tunnel, TunnelKind};
    use crate::protocol::Protocol;

    fn id(port: u16) -> ServiceId {
        let addr = "192.0.2.1".parse().unwrap();
        ServiceId::Address { protocol: Protocol::Tcp, addr, port }
    }

    #[test]
    fn the_kernels_own_refusals_are_known_without_it() {
        let id = id(80);
        let server = Destination::new("10.0.0.1".parse().unwrap(), 80, Forwarding::Route, 1);
        let mut rules = Rules::default();
        let mut errno = |change| match rules.change(&change) {
            Ok(()) => 0,
            Err(RuleError::Refused(errno)) => errno,
            Err(RuleError::NoRule) => -1,
        };
        assert_eq!(errno(Change::AddDestination(id, server)), libc::ESRCH);
        assert_eq!(errno(Change::AddService(Service::new(id, "rr"))), 0);
        assert_eq!(errno(Change::AddService(Service::new(id, "rr"))), libc::EEXIST);
        assert_eq!(errno(Change::EditDestination(id, server)), libc::ENOENT);
        assert_eq!(errno(Change::AddDestination(id, server)), 0);
        assert_eq!(errno(Change::AddDestination(id, server)), libc::EEXIST);
        assert_eq!(errno(Change::Zero(None)), -1);
        assert_eq!(errno(Change::Flush), 0);
        assert_eq!(errno(Change::DeleteService(id)), libc::ESRCH);
    }

    fn destination() -> impl Strategy<Value = Destination> {
        (1..5u8, prop::sample::select(vec![0, 0, 1, 2]), 0..2u32, any::<bool>()).prop_map(
            |(host, weight, upper, tunnelled)| {
                let forward = if tunnelled { Forwarding::Tunnel } else { Forwarding::Masquerade };
                let mut it = Destination::new([10, 0, 0, host].into(), 80, forward, weight);
                it.upper = upper;
                if tunnelled {
                    it.tunnel = Tunnel { kind: TunnelKind::Gre, port: 0, flags: 1 };
                }
                it
            },
        )
    }

    fn pool(port: u16) -> impl Strategy<Value = ServicePool> {
        let scheduler = prop::sample::select(vec!["rr", "wlc"]);
        let persistence = prop::option::of(1..3u32);
        (scheduler, persistence, prop::collection::vec(destination(), 0..5)).prop_map(
            move |(scheduler, persistence, destinations)| {
                let service = Service::new(id(port), scheduler);
                let service = match persistence {
                    Some(seconds) => service.persistent(seconds),
                    None => service,
                };
                let destinations = destinations.into_iter().map(|d| (d.id, d)).collect();
                ServicePool { service, destinations }
            },
        )
    }

    fn sync(role: DaemonRole) -> impl Strategy<Value = DaemonRule> {
        (0..3u8, 0..2u32, prop::option::of(1..3u8)).prop_map(move |(what, sync_id, ttl)| match what
        {
            0 => DaemonRule::Unsaid,
            1 => DaemonRule::Stopped(sync_id),
            _ => DaemonRule::Running(SyncDaemon {
                role,
                interface: "eth0".to_owned(),
                sync_id,
                max_len: None,
                group: None,
                port: None,
                ttl,
            }),
        })
    }

    prop_compose! {
        fn rules()(
            pools in prop::collection::vec((1..5u16).prop_flat_map(pool), 0..5),
            timeouts in prop::option::of((0..3u32, 0..3u32, 0..3u32)),
            master in sync(DaemonRole::Master),
            backup in sync(DaemonRole::Backup),
        ) -> Rules {
            Rules {
                services: pools.into_iter().map(|pool| (pool.service.id, pool)).collect(),
                timeouts: timeouts.map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp }),
                master,
                backup,
                of_services: true,
                keeps_services: false,
            }
        }
    }

    fn serves(rules: &Rules, id: &ServiceId) -> bool {
        let pool = rules.services.get(id);
        pool.is_some_and(|pool| pool.destinations.values().any(|d| d.weight > 0))
    }

    fn adds(change: &Change) -> bool {
        matches!(change, Change::AddService(_) | Change::AddDestination(..))
    }

    proptest! {
        #[test]
        fn the_plan_leads_to_the_wanted_table_and_is_then_empty(
            current in rules(), wanted in rules(),
        ) {
            let mut table = current.clone();
            for change in current.plan(&wanted) {
                prop_assert_eq!(table.change(&change), Ok(()), "{:?}", change);
            }
            prop_assert_eq!(&table.services, &wanted.services);
            prop_assert_eq!(table.plan(&wanted), []);
        }

        #[test]
        fn a_service_that_has_a_server_has_one_throughout(
            current in rules(), wanted in rules(),
        ) {
            let mut table = current.clone();
            let kept: Vec<ServiceId> = current.services.keys().copied()
                .filter(|id| serves(&current, id) && serves(&wanted, id))
                .collect();
            for change in current.plan(&wanted) {
                table.change(&change).unwrap();
                for id in &kept {
                    prop_assert!(serves(&table, id), "{id:?} after {change:?}");
                }
            }
        }

        #[test]
        fn additions_come_before_deletions_and_nothing_is_touched_twice(
            current in rules(), wanted in rules(),
        ) {
            let changes = current.plan(&wanted);
            let last = changes.iter().rposition(adds).unwrap_or(0);
            let first = changes.iter().position(takes_away).unwrap_or(changes.len());
            prop_assert!(last <= first);
            let most = current.services.len() + wanted.services.len() + 5
                + [&current, &wanted].iter().flat_map(|rules| rules.services.values())
                    .map(|pool| pool.destinations.len()).sum::<usize>();
            prop_assert!(changes.len() <= most);
            for change in &changes {
                prop_assert_eq!(changes.iter().filter(|other| *other == change).count(), 1);
            }
        }

        #[test]
        fn what_is_not_spoken_of_stays(current in rules(), mut wanted in rules()) {
            (wanted.timeouts, wanted.master, wanted.backup) =
                (None, DaemonRule::Unsaid, DaemonRule::Unsaid);
            for change in current.plan(&wanted) {
                prop_assert!(!matches!(
                    change,
                    Change::SetTimeouts(_) | Change::StartDaemon(_) | Change::StopDaemon(..)
                ));
            }
        }
    }
}
