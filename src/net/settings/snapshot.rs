//! What the kernel lacks, and what it cannot do: looked at, and not changed.

use std::fmt;
use std::net::IpAddr;

use super::super::addresses::Rtnetlink;
use super::super::desired::{DesiredAddress, DesiredSettings, DesiredSysctl};
use super::super::report::{Difference, SettingFailure};
use super::super::{NetError, sysctl};
use super::{Kernel, NetworkSettings, SettingPlace, lapsed};

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

/// Why this host cannot carry an address at the moment: no packet for it would arrive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Incapable {
    /// There is no interface of this name.
    Absent(String),
    /// The interface is administratively down.
    Down(String),
    /// The interface has no carrier.
    NoCarrier(String),
    /// No interface has a network that contains the address.
    NotConnected(IpAddr),
}

impl fmt::Display for Incapable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incapable::Absent(device) => write!(f, "there is no interface {device}"),
            Incapable::Down(device) => write!(f, "{device} is down"),
            Incapable::NoCarrier(device) => write!(f, "{device} has no carrier"),
            Incapable::NotConnected(addr) => {
                write!(f, "no interface's network contains {addr}")
            }
        }
    }
}

impl NetworkSettings {
    /// In what the kernel differs from the desired settings. Changes nothing, and needs no privilege.
    ///
    /// # Errors
    /// The kernel's links and addresses cannot be read.
    pub fn check(&self, desired: &DesiredSettings) -> Result<Vec<Difference>, NetError> {
        self.look(desired, &[]).map(|look| look.differences)
    }

    /// In which settings the kernel differs from the desired settings: a part of what
    /// [`check`](NetworkSettings::check) says that costs next to nothing.
    pub fn check_settings(&self, desired: &DesiredSettings) -> Vec<Difference> {
        let difference = |desired: &DesiredSysctl| match sysctl::read(&desired.path) {
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
        desired.sysctls.iter().filter_map(difference).collect()
    }

    /// In what the kernel differs from the desired settings, what was made with a lifetime and is gone, and
    /// why `carried` could not be carried at the moment. Changes nothing, and needs no privilege.
    ///
    /// # Errors
    /// The kernel's links and addresses cannot be read.
    pub fn look(
        &self,
        desired: &DesiredSettings,
        carried: &[DesiredAddress],
    ) -> Result<SettingsSnapshot, NetError> {
        let kernel = Kernel::read(&mut Rtnetlink::open()?)?;
        let mut differences = self.check_settings(desired);
        for desired in &desired.links {
            match kernel.named(desired.device) {
                Ok(link) if link.is_up() => {}
                Ok(link) => differences.push(Difference::Down(link.name.clone())),
                Err(error) => differences.push(Difference::Unmet(error.into())),
            }
        }
        for desired in &desired.addresses {
            match self.check_address(&kernel, desired) {
                Ok(found) => differences.extend(found),
                Err(error) => {
                    let unmet = Difference::Unmet(error.into());
                    if !differences.contains(&unmet) {
                        differences.push(unmet);
                    }
                }
            }
        }
        let leased = self.record.addresses.iter().filter(|own| own.valid_lft.is_some());
        let lapsed = leased.filter(|own| kernel.stands(own).is_none()).map(lapsed).collect();
        let mut incapable: Vec<Incapable> =
            carried.iter().filter_map(|desired| kernel.incapable(desired)).collect();
        incapable.sort_unstable();
        incapable.dedup();
        Ok(SettingsSnapshot { differences, lapsed, incapable })
    }

    fn check_address(
        &self,
        kernel: &Kernel,
        desired: &DesiredAddress,
    ) -> Result<Vec<Difference>, NetError> {
        let addr = desired.addr;
        let place = kernel.place(desired)?;
        let mut differences = Vec::new();
        let device = place.link.name.clone();
        match place.standing {
            None => {
                differences.push(Difference::Missing { addr, prefix: place.prefix, device });
            }
            Some(standing) if desired.valid_lft.is_some() && standing.valid_lft.is_none() => {
                differences.push(Difference::Permanent { addr, device });
            }
            Some(_) => {}
        }
        let elsewhere = kernel
            .links
            .iter()
            .filter(|link| link.index != place.link.index && link.answers_neighbours())
            .filter(|link| kernel.standing(addr, link).is_some());
        differences.extend(
            elsewhere.map(|link| Difference::Misplaced { addr, device: link.name.clone() }),
        );
        Ok(differences)
    }
}

impl Kernel {
    /// Why an address could not be carried here, if there is a reason that shows beforehand.
    fn incapable(&self, desired: &DesiredAddress) -> Option<Incapable> {
        match self.place(desired) {
            Ok(SettingPlace { link, .. }) if !link.is_up() => {
                Some(Incapable::Down(link.name.clone()))
            }
            Ok(SettingPlace { link, .. }) if !link.has_carrier() => {
                Some(Incapable::NoCarrier(link.name.clone()))
            }
            Err(NetError::NoInterface { device, .. }) => Some(Incapable::Absent(device)),
            Err(NetError::NotConnected(addr)) => Some(Incapable::NotConnected(addr)),
            Ok(_) | Err(_) => None,
        }
    }
}
