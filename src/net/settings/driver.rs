//! The owner of what was made: it composes the kinds of resources, and keeps their record.
//!
//! New things are made before old ones are removed, settings first: a director that yields
//! hides its address before it moves it, and no connection to the CVIP ever finds it gone.

use std::path::Path;

use super::address::AddressPlan;
use super::kernel::{Incapable, NetworkSnapshot};
use super::record::{RecordFile, SettingsRecord};
use super::{link, sysctl};
use crate::net::NetError;
use crate::net::addresses::Rtnetlink;
use crate::net::desired::{DesiredAddress, DesiredLink, DesiredSettings};
use crate::net::report::{Difference, Done, SettingsReport};

/// What this program made of one network namespace's addresses, links and settings. Its calls act
/// in the network namespace of the calling thread.
///
/// A daemon [applies](NetworkSettings::apply) its desired settings when its role or its
/// configuration changes; [looks](NetworkSettings::look) when the kernel says that something
/// changed, since others change addresses too, and applies them again where that found a
/// difference; [announces](crate::net::announce()) what the report calls reachable, several times, when
/// it became the active director; [renews](NetworkSettings::renew) every second while it is; and
/// [undoes](NetworkSettings::undo) on a clean stop.
#[derive(Debug)]
pub struct NetworkSettings {
    file: RecordFile,
    record: SettingsRecord,
    /// What the file says.
    saved: SettingsRecord,
}

/// What one look showed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
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
    /// is made, so that a program may open it only to [`check`](NetworkSettings::check). The file
    /// belongs into a folder that root alone may write and that a reboot empties, such as
    /// /run/cvip.
    ///
    /// # Errors
    /// The file cannot be read, or is corrupt. Its node need not go unserved for that: see
    /// [`NetworkSettings::new`].
    pub fn open(record: &Path) -> Result<NetworkSettings, NetError> {
        let file = RecordFile::at(record);
        let record = file.load()?;
        Ok(NetworkSettings { file, saved: record.clone(), record })
    }

    /// Nothing was made: what there is is taken for another program's. The first change replaces
    /// the file.
    pub fn new(record: &Path) -> NetworkSettings {
        let file = RecordFile::at(record);
        NetworkSettings {
            file,
            record: SettingsRecord::default(),
            saved: SettingsRecord::default(),
        }
    }

    /// Makes what is missing, and removes what it made and what is desired no longer. One setting
    /// that fails does not stop the others.
    pub fn apply(&mut self, desired: &DesiredSettings) -> SettingsReport {
        let mut report = SettingsReport::default();
        let opened = Rtnetlink::open().and_then(|mut netlink| {
            let kernel = self.make_links(&mut netlink, &desired.links, &mut report)?;
            Ok((netlink, kernel))
        });
        let mut opened = opened.map_err(|error| report.fail(error));
        let changes = self.record.settings.plan(&desired.sysctls, &mut report);
        let (mut links, mut plan) = (Vec::new(), AddressPlan::default());
        if let Ok((netlink, kernel)) = &mut opened {
            links = self.record.links.plan(kernel, &desired.links, &mut report);
            let addresses = &desired.addresses;
            plan = self.record.addresses.plan(netlink, kernel, addresses, &mut report);
        }
        self.save(&mut report);

        let SettingsRecord { addresses, links: own_links, settings, .. } = &mut self.record;
        settings.make(changes, &mut report);
        if let Ok((mut netlink, kernel)) = opened {
            own_links.make(&mut netlink, links, &mut report);
            addresses.make(&mut netlink, &plan, &desired.sysctls, &mut report);
            addresses.undo(&mut netlink, &kernel, &plan, &mut report);
            own_links.undo(&mut netlink, &kernel, &desired.links, &mut report);
        }
        settings.undo(&desired.sysctls, &mut report);
        self.save(&mut report);
        report
    }

    /// Makes the links that are missing; the links and addresses that there are then.
    fn make_links(
        &mut self,
        netlink: &mut Rtnetlink,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) -> Result<NetworkSnapshot, NetError> {
        let kernel = NetworkSnapshot::read(netlink)?;
        if !self.record.links.plan_missing(&kernel, desired) {
            return Ok(kernel);
        }
        self.save(report);
        self.record.links.make_missing(netlink, &kernel, desired, report);
        NetworkSnapshot::read(netlink)
    }

    /// Undoes everything that it made and that nobody changed since.
    pub fn undo(&mut self) -> SettingsReport {
        self.apply(&DesiredSettings::default())
    }

    /// Writes the record again where somebody deleted it, or where there was no room for it.
    pub fn tend(&mut self) {
        if self.record != self.saved || !self.record.is_empty() && self.file.is_missing() {
            // An error is in the list of files that could not be written.
            let _ = self.write();
        }
    }

    /// Renews the addresses that it made with a lifetime. It never adds one that is gone: a
    /// director that slept through a lifetime may have been replaced, and must ask before it takes
    /// an address again. (Between the look and the renewal lie some microseconds.)
    ///
    /// # Errors
    /// [`NetError::Lapsed`] for each address that is gone; others if the kernel refused.
    pub fn renew(&self) -> Result<(), Vec<NetError>> {
        if self.record.addresses.leased().next().is_none() {
            return Ok(());
        }
        let mut netlink = Rtnetlink::open().map_err(|error| vec![error])?;
        let kernel = NetworkSnapshot::read(&mut netlink).map_err(|error| vec![error])?;
        let errors = self.record.addresses.renew(&mut netlink, &kernel);
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
    pub fn check(&self, desired: &DesiredSettings) -> Result<Vec<Difference>, NetError> {
        self.look(desired, &[]).map(|look| look.differences)
    }

    /// In which sysctls the kernel differs from the desired settings: a part of what
    /// [`check`](NetworkSettings::check) says that costs next to nothing.
    pub fn check_settings(&self, desired: &DesiredSettings) -> Vec<Difference> {
        sysctl::check(&desired.sysctls)
    }

    /// In what the kernel differs from the desired settings, what was made with a lifetime and is
    /// gone, and why `carried` could not be carried at the moment. Changes nothing, and needs no
    /// privilege.
    ///
    /// # Errors
    /// The kernel's links and addresses cannot be read.
    pub fn look(
        &self,
        desired: &DesiredSettings,
        carried: &[DesiredAddress],
    ) -> Result<SettingsSnapshot, NetError> {
        let mut netlink = Rtnetlink::open()?;
        let kernel = NetworkSnapshot::read(&mut netlink)?;
        let mut differences = sysctl::check(&desired.sysctls);
        differences.extend(link::check(&kernel, &desired.links));
        for desired in &desired.addresses {
            match self.record.addresses.check(&mut netlink, &kernel, desired) {
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
    fn save(&mut self, report: &mut SettingsReport) {
        if self.record != self.saved
            && let Err(error) = self.write()
        {
            report.fail(error);
        }
    }

    fn write(&mut self) -> Result<(), NetError> {
        self.file.save(&self.record)?;
        self.saved.clone_from(&self.record);
        Ok(())
    }
}
