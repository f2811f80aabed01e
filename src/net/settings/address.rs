//! Addresses: added, renewed, made reachable again, and removed.
//!
//! The kernel takes packets to an address by a local route, which it makes with the address. A
//! local route that was deleted is made again: an IPv4 one is added as the kernel made it;
//! for IPv6 the address is removed and added, since the kernel would not delete a route of ours
//! with its address.

use std::net::IpAddr;
use std::time::Duration;

use super::host::NetworkHost;
use super::record::{OwnAddress, OwnAddresses};
use super::snapshot::{NetworkSnapshot, SettingPlace};
use super::sysctl::is_in_force;
use crate::clock::Instant;
use crate::net::addresses::Link;
use crate::net::desired::{DesiredAddress, DesiredSysctl};
use crate::net::report::{Difference, Done, Reachable, SettingsReport};
use crate::net::{NetError, sysctl};

/// How long new addresses may take, together, until the kernel receives packets to them; it
/// takes some milliseconds.
const SETTLING: Duration = Duration::from_millis(500);

/// What is to be done for the desired addresses, and where each belongs.
#[derive(Default)]
pub(super) struct AddressPlan {
    placings: Vec<Placing>,
    places: Vec<(IpAddr, String)>,
}

/// An address to add, to renew or to adopt.
struct Placing {
    link: Link,
    own: OwnAddress,
    /// The kernel does not have it yet.
    is_new: bool,
    /// The kernel has it without its local route; the route's source.
    unreached: Option<IpAddr>,
    /// The setting without which it must not be added.
    only_with: Option<&'static str>,
}

impl OwnAddress {
    fn lapsed(&self) -> NetError {
        NetError::Lapsed { addr: self.addr, device: self.device.clone() }
    }
}

impl OwnAddresses {
    /// The own address on this interface.
    fn get(&self, addr: IpAddr, device: &str) -> Option<&OwnAddress> {
        self.0.iter().find(|own| own.addr == addr && own.device == device)
    }

    /// Records an address, once.
    pub(super) fn put(&mut self, own: OwnAddress) {
        self.forget(own.addr, &own.device);
        self.0.push(own);
    }

    fn forget(&mut self, addr: IpAddr, device: &str) {
        self.0.retain(|own| own.addr != addr || own.device != device);
    }

    /// Those that end unless they are renewed.
    pub(super) fn leased(&self) -> impl Iterator<Item = &OwnAddress> {
        self.0.iter().filter(|own| own.valid_lft.is_some())
    }

    /// What was added, as it was reported.
    pub(super) fn made(&self) -> impl Iterator<Item = Done> {
        self.0.iter().map(|own| Done::Added {
            addr: own.addr,
            prefix: own.prefix,
            device: own.device.clone(),
        })
    }

    /// [`NetError::Lapsed`] for each address that was added with a lifetime and is gone.
    pub(super) fn lapsed(&self, kernel: &NetworkSnapshot) -> Vec<NetError> {
        let is_there = |own: &&OwnAddress| own.on(kernel).is_some();
        self.leased().filter(|own| !is_there(own)).map(OwnAddress::lapsed).collect()
    }

    /// In what the kernel differs from a desired address.
    pub(super) fn check(
        &self,
        host: &mut dyn NetworkHost,
        kernel: &NetworkSnapshot,
        desired: &DesiredAddress,
    ) -> Result<Vec<Difference>, NetError> {
        let addr = desired.addr;
        let SettingPlace { link, prefix, found } = kernel.place(desired)?;
        let device = link.name.clone();
        let mut differences = Vec::new();
        match found {
            None => differences.push(Difference::Missing { addr, prefix, device }),
            Some(found) if desired.valid_lft.is_some() && found.valid_lft.is_none() => {
                differences.push(Difference::Permanent { addr, device });
            }
            Some(_) if self.is_unreached(host, link, addr)? => {
                differences.push(Difference::Unreached { addr, device });
            }
            Some(_) => {}
        }
        let others = kernel.links.iter().filter(|other| other.index != link.index);
        let elsewhere =
            others.filter(|link| link.answers_neighbours && kernel.address(addr, link).is_some());
        differences.extend(
            elsewhere.map(|link| Difference::Misplaced { addr, device: link.name.clone() }),
        );
        Ok(differences)
    }

    /// True if the kernel has an own address and takes no packet to it. An interface that is down
    /// has no local routes, and one without a carrier none of IPv6: they come with it.
    fn is_unreached(
        &self,
        host: &mut dyn NetworkHost,
        link: &Link,
        addr: IpAddr,
    ) -> Result<bool, NetError> {
        let has_routes = link.is_up && (addr.is_ipv4() || link.has_carrier);
        let is_own = self.get(addr, &link.name).is_some();
        Ok(has_routes && is_own && !host.is_received(link, addr)?)
    }

    /// Records which addresses are to be added or renewed, and says where every desired one
    /// belongs.
    pub(super) fn plan(
        &mut self,
        host: &mut dyn NetworkHost,
        kernel: &NetworkSnapshot,
        desired: &[DesiredAddress],
        report: &mut SettingsReport,
    ) -> AddressPlan {
        let mut plan = AddressPlan::default();
        for desired in desired {
            let SettingPlace { link, prefix, found } = match kernel.place(desired) {
                Ok(place) => place,
                Err(error) => {
                    report.fail(error);
                    continue;
                }
            };
            let (addr, device) = (desired.addr, link.name.clone());
            plan.places.push((addr, device.clone()));
            let before = self.get(addr, &device);
            let is_own = match found {
                None => true,
                // Only this program gives a CVIP a lifetime: one that it forgot is its own.
                Some(found) if desired.valid_lft.is_some() && found.valid_lft.is_some() => true,
                Some(_) => before.is_some_and(|own| own.prefix == prefix),
            };
            if !is_own {
                self.forget(addr, &device);
                if link.answers_neighbours {
                    report.reachable.push(Reachable { addr, device });
                }
                continue;
            }
            let own = OwnAddress { addr, prefix, device, valid_lft: desired.valid_lft };
            if before != Some(&own) {
                self.put(own.clone());
            }
            let is_unreached = found.is_some()
                && self.is_unreached(host, link, addr).unwrap_or_else(|error| {
                    report.fail(error);
                    false
                });
            let is_new = found.is_none();
            let unreached = is_unreached.then(|| kernel.primary(addr, prefix, link));
            let renews = |lifetime: Option<u32>| desired.valid_lft.is_some() || lifetime.is_some();
            if is_unreached || found.is_none_or(|found| renews(found.valid_lft)) {
                let (link, only_with) = (link.clone(), desired.only_with);
                plan.placings.push(Placing { link, own, is_new, unreached, only_with });
            } else if link.answers_neighbours {
                report.reachable.push(Reachable { addr, device: own.device });
            }
        }
        plan
    }

    /// Adds and renews them, with these settings in force.
    pub(super) fn make(
        &mut self,
        host: &mut dyn NetworkHost,
        plan: &AddressPlan,
        settings: &[DesiredSysctl],
        report: &mut SettingsReport,
    ) {
        let mut added = Vec::new();
        for Placing { link, own, is_new, unreached, only_with } in &plan.placings {
            let OwnAddress { addr, prefix, ref device, valid_lft } = *own;
            if let Some(path) =
                only_with.filter(|path| *is_new && !is_in_force(host, settings, path))
            {
                self.forget(addr, device);
                let (device, setting) = (device.clone(), sysctl::name(path));
                report.fail(NetError::Exposed { addr, device, setting });
                continue;
            }
            let outcome = match unreached {
                Some(source) => reach_again(host, link, own, *source, report),
                None => host.put(link, addr, prefix, valid_lft),
            };
            match outcome {
                Ok(()) => {
                    if link.answers_neighbours {
                        report.reachable.push(Reachable { addr, device: device.clone() });
                    }
                    if *is_new {
                        report.done.push(Done::Added { addr, prefix, device: device.clone() });
                        added.push((link, addr));
                    }
                }
                Err(error) => {
                    if *is_new {
                        self.forget(addr, device);
                    }
                    report.fail(error);
                }
            }
        }
        // What is removed next may be what the new address replaces. An interface without
        // IPv6 of its own, such as one that is down, never gets there, and nothing can wait.
        let deadline = host.now() + SETTLING;
        for (link, addr) in added {
            settle(host, link, addr, deadline);
        }
    }

    /// Removes those that are desired no longer.
    pub(super) fn undo(
        &mut self,
        host: &mut dyn NetworkHost,
        kernel: &NetworkSnapshot,
        plan: &AddressPlan,
        report: &mut SettingsReport,
    ) {
        self.0.retain(|own| {
            let OwnAddress { addr, prefix, ref device, valid_lft } = *own;
            if plan.places.iter().any(|(desired, at)| *desired == addr && at == device) {
                return true;
            }
            let link = match kernel.link(device) {
                // Its interface has another name by now; only this program gives it a lifetime.
                None if valid_lft.is_some() => kernel.leased(addr),
                link => link,
            };
            let is_there =
                |link: &&Link| kernel.address(addr, link).is_some_and(|a| a.prefix == prefix);
            match link.filter(is_there).map_or(Ok(false), |l| host.delete(l, addr, prefix)) {
                Ok(removed) => {
                    let done = Done::Removed { addr, prefix, device: device.clone() };
                    report.done.extend(removed.then_some(done));
                    false
                }
                Err(error) => {
                    report.fail(error);
                    true
                }
            }
        });
    }

    /// Renews those with a lifetime; an error for each that is gone or was refused.
    pub(super) fn renew(
        &self,
        host: &mut dyn NetworkHost,
        kernel: &NetworkSnapshot,
    ) -> Vec<NetError> {
        let renewed = self.leased().map(|own| match own.on(kernel) {
            Some(link) => host.put(link, own.addr, own.prefix, own.valid_lft),
            None => Err(own.lapsed()),
        });
        renewed.filter_map(Result::err).collect()
    }
}

impl OwnAddress {
    /// The interface on which the kernel still has it.
    fn on<'a>(&self, kernel: &'a NetworkSnapshot) -> Option<&'a Link> {
        kernel.link(&self.device).filter(|link| kernel.address(self.addr, link).is_some())
    }
}

/// Makes the local route of an address that the kernel has.
fn reach_again(
    host: &mut dyn NetworkHost,
    link: &Link,
    own: &OwnAddress,
    source: IpAddr,
    report: &mut SettingsReport,
) -> Result<(), NetError> {
    let OwnAddress { addr, prefix, ref device, valid_lft } = *own;
    let late = host.now() + SETTLING / 5;
    match (addr, source) {
        (IpAddr::V4(addr), IpAddr::V4(source)) => host.add_local_route(link, addr, source)?,
        // It may only be late: the kernel makes it in the background.
        _ if settle(host, link, addr, late) => {
            return host.put(link, addr, prefix, valid_lft);
        }
        _ => {
            host.delete(link, addr, prefix)?;
        }
    }
    host.put(link, addr, prefix, valid_lft)?;
    let deadline = host.now() + SETTLING;
    if !settle(host, link, addr, deadline) {
        return Err(NetError::Unreached { addr, device: device.clone() });
    }
    report.done.push(Done::Rerouted { addr, device: device.clone() });
    Ok(())
}

/// Waits until the kernel takes packets to an address; false if it still does not.
fn settle(host: &mut dyn NetworkHost, link: &Link, addr: IpAddr, deadline: Instant) -> bool {
    loop {
        match host.is_received(link, addr) {
            Ok(false) if host.now() < deadline => {
                host.wait(Duration::from_millis(1));
            }
            outcome => return outcome != Ok(false),
        }
    }
}
