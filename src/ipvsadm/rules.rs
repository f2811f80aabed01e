//! A table as a value: what a file of commands describes, or what the kernel holds.
//!
//! `--apply` and `--diff` compare two of them ([`super::plan`]). The file's is made by carrying
//! out its lines on an empty one, with the kernel's own rules about what may follow what, so
//! that a file means to `--apply` what it means to `-R` on an empty table.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nix::libc;

use super::table::{Table, TableError};
use crate::ipvs::{
    Change, DaemonRole, Destination, DestinationId, Service, ServiceId, SyncDaemon, Timeouts,
};

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The services.
    pub services: BTreeMap<ServiceId, Destinations>,
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

/// A service with its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// Its settings.
    pub service: Service,
    /// Its destinations.
    pub destinations: BTreeMap<DestinationId, Destination>,
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

impl Rules {
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
            rules.services.insert(id, Destinations { service: entry.service, destinations });
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
                    place.insert(Destinations { service, destinations: BTreeMap::new() });
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
    use super::*;
    use crate::ipvs::Forwarding;
    use crate::protocol::Protocol;

    #[test]
    fn the_kernels_own_refusals_are_known_without_it() {
        let id = ServiceId::Address {
            protocol: Protocol::Tcp,
            addr: "192.0.2.1".parse().unwrap(),
            port: 80,
        };
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
}
