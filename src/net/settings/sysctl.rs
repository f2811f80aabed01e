//! Kernel settings (sysctls): changed to what is desired, and given back what they were.

use super::host::NetworkHost;
use super::record::{OwnSysctl, OwnSysctls};
use crate::net::NetError;
use crate::net::desired::DesiredSysctl;
use crate::net::report::{Difference, Done, SettingFailure, SettingsReport};

/// A setting to change, and what was recorded of it before.
pub(super) struct SysctlChange<'a> {
    desired: &'a DesiredSysctl,
    was: String,
    before: Option<OwnSysctl>,
}

/// In which settings the kernel differs from what is desired.
pub(super) fn check(host: &dyn NetworkHost, desired: &[DesiredSysctl]) -> Vec<Difference> {
    let difference = |desired: &DesiredSysctl| match host.read_sysctl(&desired.path) {
        Ok(is) if desired.accepts(&is) => None,
        Ok(is) => Some(Difference::Setting {
            path: desired.path.clone(),
            is,
            wanted: desired.value,
            why: desired.why,
            needed_on: desired.needed_on,
        }),
        Err(error) => Some(Difference::Unmet(SettingFailure::of(desired, error))),
    };
    desired.iter().filter_map(difference).collect()
}

/// True if a setting has a value that is desired.
pub(super) fn is_in_force(host: &dyn NetworkHost, desired: &[DesiredSysctl], path: &str) -> bool {
    let of = desired.iter().find(|desired| desired.path == path);
    of.is_some_and(|desired| host.read_sysctl(path).is_ok_and(|value| desired.accepts(&value)))
}

impl OwnSysctls {
    /// Records which settings are to be changed, and forgets those that another program set right.
    pub(super) fn plan<'a>(
        &mut self,
        host: &dyn NetworkHost,
        desired: &'a [DesiredSysctl],
        report: &mut SettingsReport,
    ) -> Vec<SysctlChange<'a>> {
        let mut changes = Vec::new();
        for desired in desired {
            let was = match host.read_sysctl(&desired.path) {
                Ok(was) => was,
                Err(error) => {
                    report.failures.push(SettingFailure::of(desired, error));
                    continue;
                }
            };
            let before = self.0.get(&desired.path).cloned();
            let own = before.as_ref().filter(|own| own.value == was);
            if desired.accepts(&was) {
                if own.is_none() {
                    self.0.remove(&desired.path);
                }
                continue;
            }
            let previous = own.map_or_else(|| was.clone(), |own| own.previous.clone());
            let own = OwnSysctl { value: desired.value.to_owned(), previous };
            self.0.insert(desired.path.clone(), own);
            changes.push(SysctlChange { desired, was, before });
        }
        changes
    }

    /// Changes them.
    pub(super) fn make(
        &mut self,
        host: &mut dyn NetworkHost,
        changes: Vec<SysctlChange<'_>>,
        report: &mut SettingsReport,
    ) {
        for SysctlChange { desired, was, before } in changes {
            let path = &desired.path;
            let value = desired.value.to_owned();
            match host.write_sysctl(path, desired.value) {
                Ok(()) => {
                    // It is what it was before this program changed it: nothing is left to undo.
                    if self.0.get(path).is_some_and(|own| own.previous == value) {
                        self.0.remove(path);
                    }
                    report.done.push(Done::Set { path: path.clone(), value, was });
                }
                Err(error) => {
                    match before {
                        Some(own) => self.0.insert(path.clone(), own),
                        None => self.0.remove(path),
                    };
                    report.failures.push(SettingFailure::of(desired, error));
                }
            }
        }
    }

    /// Gives back what those settings were that are desired no longer.
    pub(super) fn undo(
        &mut self,
        host: &mut dyn NetworkHost,
        desired: &[DesiredSysctl],
        report: &mut SettingsReport,
    ) {
        self.0.retain(|path, own| {
            if desired.iter().any(|desired| desired.path == *path) {
                return true;
            }
            let restored = match host.read_sysctl(path) {
                Ok(is) if is == own.value => host.write_sysctl(path, &own.previous).map(|()| true),
                // Another program changed it, or its interface is gone.
                Ok(_) | Err(NetError::NoSetting { .. }) => Ok(false),
                Err(error) => Err(error),
            };
            match restored {
                Ok(is_restored) => {
                    let (path, value) = (path.clone(), own.previous.clone());
                    report.done.extend(is_restored.then_some(Done::Restored { path, value }));
                    false
                }
                Err(error) => {
                    report.fail(error);
                    true
                }
            }
        });
    }

    /// What was changed, as it was reported.
    pub(super) fn made(&self) -> impl Iterator<Item = Done> {
        self.0.iter().map(|(path, own)| Done::Set {
            path: path.clone(),
            value: own.value.clone(),
            was: own.previous.clone(),
        })
    }
}
