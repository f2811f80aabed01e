//! The owner of what was made: it composes the kinds of resources, and keeps their record.
//!
//! New things are made before old ones are removed, settings first: a director that yields
//! hides its address before it moves it, and no connection to the CVIP ever finds it gone.

use serde::{Deserialize, Serialize};

use super::address::AddressPlan;
use super::host::NetworkHost;
use super::record::SettingsRecord;
use super::snapshot::{Incapable, NetworkSnapshot};
use super::{link, sysctl};
use crate::net::NetError;
use crate::net::desired::{DesiredAddress, DesiredLink, DesiredSettings};
use crate::net::report::{Difference, Done, SettingsReport};

/// What this program made of one network namespace's addresses, links and settings. Each call
/// takes the host of that namespace.
///
/// A daemon [applies](NetworkSettings::apply) its desired settings when its role or its
/// configuration changes; [looks](NetworkSettings::look) when the kernel says that something
/// changed, since others change addresses too, and applies them again where that found a
/// difference; [announces](crate::net::announce()) what the report calls reachable, several times, when
/// it became the active director; [renews](NetworkSettings::renew) every second while it is; and
/// [undoes](NetworkSettings::undo) on a clean stop.
#[derive(Debug, Default)]
pub struct NetworkSettings {
    record: SettingsRecord,
    /// What the file says.
    saved: SettingsRecord,
}

/// What one look showed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SettingsSnapshot {
    /// In what the kernel differs from the desired settings.
    pub differences: Vec<Difference>,
    /// [`NetError::Lapsed`] for each address that was made with a lifetime and is gone.
    pub lapsed: Vec<NetError>,
    /// Why addresses that were asked for cannot be carried, each reason once.
    pub incapable: Vec<Incapable>,
}

impl NetworkSettings {
    /// What the file says was made; nothing if there is none. Nothing is written before something
    /// is made, so that a program may open it only to [`check`](NetworkSettings::check).
    ///
    /// # Errors
    /// The file cannot be read, or is corrupt. Its node need not go unserved for that: by
    /// [`NetworkSettings::default`] nothing was made, what there is is taken for another program's,
    /// and the first change replaces the file.
    pub fn open(host: &dyn NetworkHost) -> Result<NetworkSettings, NetError> {
        let record = host.load()?;
        Ok(NetworkSettings { saved: record.clone(), record })
    }

    /// Makes what is missing, and removes what it made and what is desired no longer. One setting
    /// that fails does not stop the others.
    pub fn apply(
        &mut self,
        host: &mut dyn NetworkHost,
        desired: &DesiredSettings,
    ) -> SettingsReport {
        let mut report = SettingsReport::default();
        let kernel = self.make_links(host, &desired.links, &mut report);
        let kernel = kernel.map_err(|error| report.fail(error));
        let changes = self.record.settings.plan(host, &desired.sysctls, &mut report);
        let (mut links, mut plan) = (Vec::new(), AddressPlan::default());
        if let Ok(kernel) = &kernel {
            links = self.record.links.plan(kernel, &desired.links, &mut report);
            plan = self.record.addresses.plan(host, kernel, &desired.addresses, &mut report);
        }
        self.save(host, &mut report);

        let SettingsRecord { addresses, links: own_links, settings, .. } = &mut self.record;
        settings.make(host, changes, &mut report);
        if let Ok(kernel) = kernel {
            own_links.make(host, links, &mut report);
            addresses.make(host, &plan, &desired.sysctls, &mut report);
            addresses.undo(host, &kernel, &plan, &mut report);
            own_links.undo(host, &kernel, &desired.links, &mut report);
        }
        settings.undo(host, &desired.sysctls, &mut report);
        self.save(host, &mut report);
        report
    }

    /// Makes the links that are missing; the links and addresses that there are then.
    fn make_links(
        &mut self,
        host: &mut dyn NetworkHost,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) -> Result<NetworkSnapshot, NetError> {
        let kernel = NetworkSnapshot::read(host)?;
        if !self.record.links.plan_missing(&kernel, desired) {
            return Ok(kernel);
        }
        self.save(host, report);
        self.record.links.make_missing(host, &kernel, desired, report);
        NetworkSnapshot::read(host)
    }

    /// Undoes everything that it made and that no other program changed since.
    pub fn undo(&mut self, host: &mut dyn NetworkHost) -> SettingsReport {
        self.apply(host, &DesiredSettings::default())
    }

    /// Writes the record again where it was deleted, or where there was no room for it.
    pub fn tend(&mut self, host: &mut dyn NetworkHost) {
        if self.record != self.saved || !self.record.is_empty() && host.has_no_record() {
            // An error is in the list of files that could not be written.
            let _ = self.write(host);
        }
    }

    /// Renews the addresses that it made with a lifetime. It never adds one that is gone: a
    /// director that slept through a lifetime may have been replaced, and must ask before it takes
    /// an address again. (Between the look and the renewal lie some microseconds.)
    ///
    /// # Errors
    /// [`NetError::Lapsed`] for each address that is gone; others if the kernel refused.
    pub fn renew(&self, host: &mut dyn NetworkHost) -> Result<(), Vec<NetError>> {
        if self.record.addresses.leased().next().is_none() {
            return Ok(());
        }
        let kernel = NetworkSnapshot::read(host).map_err(|error| vec![error])?;
        let errors = self.record.addresses.renew(host, &kernel);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What it made, records, and would undo: addresses, links, settings.
    pub fn made(&self) -> Vec<Done> {
        let SettingsRecord { addresses, links, settings, .. } = &self.record;
        addresses.made().chain(links.made()).chain(settings.made()).collect()
    }

    /// In what the kernel differs from the desired settings. Changes nothing, and needs no
    /// privilege.
    ///
    /// # Errors
    /// The kernel's links and addresses cannot be read.
    pub fn check(
        &self,
        host: &mut dyn NetworkHost,
        desired: &DesiredSettings,
    ) -> Result<Vec<Difference>, NetError> {
        self.look(host, desired, &[]).map(|look| look.differences)
    }

    /// In which sysctls the kernel differs from the desired settings: a part of what
    /// [`check`](NetworkSettings::check) says that costs next to nothing.
    pub fn check_settings(
        &self,
        host: &dyn NetworkHost,
        desired: &DesiredSettings,
    ) -> Vec<Difference> {
        sysctl::check(host, &desired.sysctls)
    }

    /// In what the kernel differs from the desired settings, what was made with a lifetime and is
    /// gone, and why `carried` could not be carried at the moment. Changes nothing, and needs no
    /// privilege.
    ///
    /// # Errors
    /// The kernel's links and addresses cannot be read.
    pub fn look(
        &self,
        host: &mut dyn NetworkHost,
        desired: &DesiredSettings,
        carried: &[DesiredAddress],
    ) -> Result<SettingsSnapshot, NetError> {
        let kernel = NetworkSnapshot::read(host)?;
        let mut differences = sysctl::check(host, &desired.sysctls);
        differences.extend(link::check(&kernel, &desired.links));
        for desired in &desired.addresses {
            match self.record.addresses.check(host, &kernel, desired) {
                Ok(found) => differences.extend(found),
                Err(error) => {
                    let unmet = Difference::Unmet(error.into());
                    if !differences.contains(&unmet) {
                        differences.push(unmet);
                    }
                }
            }
        }
        let lapsed = self.record.addresses.lapsed(&kernel);
        let mut incapable: Vec<Incapable> =
            carried.iter().filter_map(|desired| kernel.incapable(desired)).collect();
        incapable.sort_unstable();
        incapable.dedup();
        Ok(SettingsSnapshot { differences, lapsed, incapable })
    }

    /// Writes the record if the file says something else. Serving comes before recording: the
    /// desired settings are made all the same.
    fn save(&mut self, host: &mut dyn NetworkHost, report: &mut SettingsReport) {
        if self.record != self.saved
            && let Err(error) = self.write(host)
        {
            report.fail(error);
        }
    }

    fn write(&mut self, host: &mut dyn NetworkHost) -> Result<(), NetError> {
        host.save(&self.record)?;
        self.saved.clone_from(&self.record);
        Ok(())
    }
}
