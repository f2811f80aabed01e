//! What links and addresses the kernel has, and where a desired address belongs. Changes nothing.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::host::NetworkHost;
use crate::net::NetError;
use crate::net::addresses::{Address, Link, host_prefix, no_interface};
use crate::net::desired::{DesiredAddress, Device};

/// The kernel's links and addresses at one time.
pub(super) struct NetworkSnapshot {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
}

/// Where a desired address belongs, and what the kernel has there.
pub(super) struct SettingPlace<'a> {
    pub(super) link: &'a Link,
    pub(super) prefix: u8,
    pub(super) found: Option<&'a Address>,
}

/// Why this host cannot carry an address at the moment: no packet for it would arrive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

impl NetworkSnapshot {
    pub(super) fn read(host: &mut dyn NetworkHost) -> Result<NetworkSnapshot, NetError> {
        let (links, addresses) = host.read()?;
        Ok(NetworkSnapshot { links, addresses })
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    pub(super) fn named(&self, name: &str) -> Result<&Link, NetError> {
        self.link(name).ok_or_else(|| no_interface(name))
    }

    pub(super) fn address(&self, addr: IpAddr, link: &Link) -> Option<&Address> {
        self.addresses.iter().find(|address| address.addr == addr && address.index == link.index)
    }

    /// The interface that has an address with a lifetime.
    pub(super) fn leased(&self, addr: IpAddr) -> Option<&Link> {
        let is_it = |a: &&Address| a.addr == addr && a.valid_lft.is_some();
        let address = self.addresses.iter().find(is_it)?;
        self.links.iter().find(|link| link.index == address.index)
    }

    /// The address that the kernel names as the source in the local route to one of this
    /// interface and prefix length: the first of the same network (`inet_ifa_byprefix`,
    /// net/ipv4/devinet.c), which the kernel lists first.
    pub(super) fn primary(&self, addr: IpAddr, prefix: u8, link: &Link) -> IpAddr {
        let mut of_link = self.addresses.iter().filter(|address| address.index == link.index);
        let first = of_link.find(|a| a.prefix == prefix && (a.addr == addr || a.reaches(addr)));
        first.map_or(addr, |address| address.addr)
    }

    /// Where a desired address belongs, and what the kernel has there.
    pub(super) fn place(&self, desired: &DesiredAddress) -> Result<SettingPlace<'_>, NetError> {
        match &desired.device {
            Device::Name(name) => {
                let link = self.named(name)?;
                let found = self.address(desired.addr, link);
                let prefix = found.map_or(host_prefix(desired.addr), |found| found.prefix);
                Ok(SettingPlace { link, prefix, found })
            }
            Device::Connected => {
                self.connected(desired.addr).ok_or(NetError::NotConnected(desired.addr))
            }
        }
    }

    /// The interface that has the address already, or whose network contains it: the smallest
    /// such network, of an interface that is up if there is one. A connected route comes from
    /// an address, so the addresses tell; a routing table can be a million routes long.
    fn connected(&self, addr: IpAddr) -> Option<SettingPlace<'_>> {
        let linked = self.addresses.iter().filter_map(|address| {
            let link = self.links.iter().find(|link| link.index == address.index)?;
            (!link.is_loopback).then_some((address, link))
        });
        if let Some((address, link)) = linked.clone().find(|(address, _)| address.addr == addr) {
            return Some(SettingPlace { link, prefix: address.prefix, found: Some(address) });
        }
        let reaching = linked.filter(|(address, _)| address.reaches(addr));
        let (address, link) = reaching
            .max_by_key(|(address, link)| (link.is_up, address.prefix, Reverse(link.index)))?;
        Some(SettingPlace { link, prefix: address.prefix, found: None })
    }

    /// Why an address could not be carried here, if there is a reason that shows beforehand.
    pub(super) fn incapable(&self, desired: &DesiredAddress) -> Option<Incapable> {
        match self.place(desired) {
            Ok(SettingPlace { link, .. }) if !link.is_up => {
                Some(Incapable::Down(link.name.clone()))
            }
            Ok(SettingPlace { link, .. }) if !link.has_carrier => {
                Some(Incapable::NoCarrier(link.name.clone()))
            }
            Err(NetError::NoInterface { device, .. }) => Some(Incapable::Absent(device)),
            Err(NetError::NotConnected(addr)) => Some(Incapable::NotConnected(addr)),
            Ok(_) | Err(_) => None,
        }
    }
}
