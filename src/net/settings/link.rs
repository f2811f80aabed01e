//! Links of tunnels: made and brought up, brought down and deleted again.

use super::host::NetworkHost;
use super::record::{OwnLink, OwnLinks};
use super::snapshot::NetworkSnapshot;
use crate::net::addresses::Link;
use crate::net::desired::DesiredLink;
use crate::net::report::{Difference, Done, SettingsReport};

/// Which links are not as desired.
pub(super) fn check(kernel: &NetworkSnapshot, desired: &[DesiredLink]) -> Vec<Difference> {
    let difference = |desired: &DesiredLink| match kernel.named(desired.device) {
        Ok(link) if link.is_up => None,
        Ok(link) => Some(Difference::Down(link.name.clone())),
        Err(error) => Some(Difference::Unmet(error.into())),
    };
    desired.iter().filter_map(difference).collect()
}

fn missing<'a>(
    kernel: &NetworkSnapshot,
    desired: &'a [DesiredLink],
) -> impl Iterator<Item = &'a DesiredLink> {
    desired.iter().filter(|desired| kernel.link(desired.device).is_none())
}

impl OwnLinks {
    /// Records which links are to be made; true if any is.
    pub(super) fn plan_missing(
        &mut self,
        kernel: &NetworkSnapshot,
        desired: &[DesiredLink],
    ) -> bool {
        for desired in missing(kernel, desired) {
            self.forget(desired.device);
            self.add(desired.device, true);
        }
        missing(kernel, desired).next().is_some()
    }

    /// Makes them, down and so without effect.
    pub(super) fn make_missing(
        &mut self,
        host: &mut dyn NetworkHost,
        kernel: &NetworkSnapshot,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) {
        for DesiredLink { device, kind, external } in missing(kernel, desired) {
            match host.make_tunnel(device, kind, *external) {
                Ok(true) => report.done.push(Done::Made((*device).to_owned())),
                // Its module brought it.
                Ok(false) => self.forget(device),
                Err(error) => {
                    self.forget(device);
                    report.fail(error);
                }
            }
        }
    }

    /// Records which links are to be brought up.
    pub(super) fn plan(
        &mut self,
        kernel: &NetworkSnapshot,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) -> Vec<Link> {
        let mut down = Vec::new();
        for desired in desired {
            match kernel.named(desired.device) {
                Ok(link) if link.is_up => {}
                Ok(link) => {
                    self.add(&link.name, false);
                    down.push(link.clone());
                }
                Err(error) => report.fail(error),
            }
        }
        down
    }

    /// Brings them up.
    pub(super) fn make(
        &mut self,
        host: &mut dyn NetworkHost,
        links: Vec<Link>,
        report: &mut SettingsReport,
    ) {
        for link in links {
            match host.set_up(&link, true) {
                Ok(()) => report.done.push(Done::Up(link.name)),
                Err(error) => {
                    self.0.retain(|own| own.made || own.device != link.name);
                    report.fail(error);
                }
            }
        }
    }

    /// Brings down, and deletes if it made them, those links that are desired no longer.
    pub(super) fn undo(
        &mut self,
        host: &mut dyn NetworkHost,
        kernel: &NetworkSnapshot,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) {
        self.0.retain(|OwnLink { device, made }| {
            if desired.iter().any(|desired| desired.device == *device) {
                return true;
            }
            let undone = match kernel.link(device) {
                Some(link) if *made => {
                    host.delete_link(link).map(|()| Some(Done::Deleted(device.clone())))
                }
                Some(link) if link.is_up => {
                    host.set_up(link, false).map(|()| Some(Done::Down(device.clone())))
                }
                _ => Ok(None),
            };
            let failed = undone.is_err();
            match undone {
                Ok(done) => report.done.extend(done),
                Err(error) => report.fail(error),
            }
            failed
        });
    }

    /// What was made, as it was reported.
    pub(super) fn made(&self) -> impl Iterator<Item = Done> {
        self.0.iter().map(|own| match own.made {
            true => Done::Made(own.device.clone()),
            false => Done::Up(own.device.clone()),
        })
    }

    /// Records a link, unless it is recorded already.
    pub(super) fn add(&mut self, device: &str, made: bool) {
        if !self.0.iter().any(|own| own.device == device) {
            self.0.push(OwnLink { device: device.to_owned(), made });
        }
    }

    fn forget(&mut self, device: &str) {
        self.0.retain(|own| own.device != device);
    }
}
