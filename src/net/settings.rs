//! Makes the kernel what the desired settings say, remembers what it made, and undoes it.
//!
//! What was right already is somebody else's: it is left alone, and never undone. What somebody
//! changed after the keeper made it is theirs from then on.
//!
//! New things are made before old ones are removed, settings first: a director that yields
//! hides its address before it moves it, and no connection to the CVIP ever finds it gone.

mod snapshot;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::addresses::{Address, Link, Rtnetlink, host_prefix, no_interface};
use super::desired::{DesiredAddress, DesiredLink, DesiredSettings, DesiredSysctl, Device};
use super::record::{OwnAddress, OwnLink, OwnSetting, RecordFile, SettingsRecord};
use super::report::{Done, Reachable, SettingFailure, SettingsReport};
use super::{NetError, sysctl};
pub use snapshot::{Incapable, SettingsSnapshot};

/// How long new addresses may take, together, until the kernel receives packets to them; it
/// takes some milliseconds.
const SETTLING: Duration = Duration::from_millis(500);

/// The keeper of one network namespace's addresses, links and settings. Its calls act in the
/// network namespace of the calling thread.
///
/// A daemon [applies](NetworkSettings::apply) its desired settings when its role or its configuration changes;
/// [looks](NetworkSettings::look) when the kernel says that something changed, since others change addresses
/// too, and applies them again where that found a difference; [announces](super::announce()) what the
/// report calls reachable, several times, when it became the active director;
/// [renews](NetworkSettings::renew) every second while it is; and [undoes](NetworkSettings::undo) on a clean stop.
#[derive(Debug)]
pub struct NetworkSettings {
    file: RecordFile,
    record: SettingsRecord,
    /// True if the file does not say what the record says.
    unsaved: bool,
}

/// An address to add, to renew or to adopt.
struct Placing {
    link: Link,
    own: OwnAddress,
    /// It does not stand yet.
    new: bool,
    /// The setting without which it must not.
    only_with: Option<&'static str>,
}

/// A setting to change, and what the record said of it before.
struct OneSetting<'a> {
    desired: &'a DesiredSysctl,
    was: String,
    before: Option<OwnSetting>,
}

/// Where a desired setting leads in this kernel.
struct SettingPlace<'a> {
    link: &'a Link,
    prefix: u8,
    standing: Option<&'a Address>,
}

/// What the kernel has at the moment.
struct Kernel {
    links: Vec<Link>,
    addresses: Vec<Address>,
}

impl NetworkSettings {
    /// A keeper that remembers what the file says; a missing file says that nothing was made.
    /// Nothing is written before something is made, so that a program may open it only to
    /// [`check`](NetworkSettings::check). The file belongs into a folder that root alone may write and
    /// that a reboot empties, such as /run/cvip.
    ///
    /// # Errors
    /// The file cannot be read, or is corrupt. Its node need not go unserved for that: see
    /// [`NetworkSettings::new`].
    pub fn open(record: &Path) -> Result<NetworkSettings, NetError> {
        let file = RecordFile::at(record);
        let record = file.load()?;
        Ok(NetworkSettings { file, record, unsaved: false })
    }

    /// A keeper that remembers nothing: what stands is taken for somebody else's. Its first
    /// change replaces the file.
    pub fn new(record: &Path) -> NetworkSettings {
        NetworkSettings {
            file: RecordFile::at(record),
            record: SettingsRecord::default(),
            unsaved: false,
        }
    }

    /// Makes what is missing, and removes what it made and no longer desired settings. One failing desired setting
    /// does not stop the others.
    pub fn apply(&mut self, desired: &DesiredSettings) -> SettingsReport {
        let mut report = SettingsReport::default();
        let opened = Rtnetlink::open().and_then(|mut netlink| {
            let kernel = self.make_links(&mut netlink, &desired.links, &mut report)?;
            Ok((netlink, kernel))
        });
        let opened = opened.map_err(|error| report.fail(error));
        let settings = self.plan_settings(&desired.sysctls, &mut report);
        let (mut links, mut placings, mut wished) = (Vec::new(), Vec::new(), Vec::new());
        if let Ok((_, kernel)) = &opened {
            links = self.plan_links(kernel, &desired.links, &mut report);
            (placings, wished) = self.plan_addresses(kernel, &desired.addresses, &mut report);
        }
        self.save(&mut report);

        self.change_settings(settings, &mut report);
        if let Ok((mut netlink, kernel)) = opened {
            self.bring_up(&mut netlink, links, &mut report);
            self.place(&mut netlink, placings, &desired.sysctls, &mut report);
            self.remove_addresses(&mut netlink, &kernel, &wished, &mut report);
            self.bring_down(&mut netlink, &kernel, &desired.links, &mut report);
        }
        self.restore_settings(&desired.sysctls, &mut report);
        self.save(&mut report);
        report
    }

    /// Undoes everything that it made and that nobody changed since.
    pub fn undo(&mut self) -> SettingsReport {
        self.apply(&DesiredSettings::default())
    }

    /// Writes the record again where somebody deleted it, or where there was no room for it.
    pub fn tend(&mut self) {
        if self.unsaved || !self.record.is_empty() && self.file.is_missing() {
            self.unsaved = self.file.save(&self.record).is_err();
        }
    }

    /// Renews the addresses that it made with a lifetime. It never adds one that is gone: who
    /// slept through a lifetime may have been replaced, and must ask before it takes an address
    /// again. (Between the look and the renewal lie some microseconds.)
    ///
    /// # Errors
    /// [`NetError::Lapsed`] for each address that is gone; others if the kernel refused.
    pub fn renew(&self) -> Result<(), Vec<NetError>> {
        let leased: Vec<_> =
            self.record.addresses.iter().filter(|own| own.valid_lft.is_some()).collect();
        if leased.is_empty() {
            return Ok(());
        }
        let mut netlink = Rtnetlink::open().map_err(|error| vec![error])?;
        let kernel = Kernel::read(&mut netlink).map_err(|error| vec![error])?;
        let errors: Vec<NetError> = leased
            .into_iter()
            .filter_map(|own| match kernel.stands(own) {
                Some(link) => netlink.put(link, own.addr, own.prefix, own.valid_lft).err(),
                None => Some(lapsed(own)),
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What it made, remembers, and would undo: addresses, links, settings.
    pub fn made(&self) -> Vec<Done> {
        let addresses = self.record.addresses.iter().map(|own| Done::Added {
            addr: own.addr,
            prefix: own.prefix,
            device: own.device.clone(),
        });
        let links = self.record.links.iter().map(|own| match own.made {
            true => Done::Made(own.device.clone()),
            false => Done::Up(own.device.clone()),
        });
        let settings = self.record.settings.iter().map(|(path, own)| Done::Set {
            path: path.clone(),
            value: own.value.clone(),
            was: own.previous.clone(),
        });
        addresses.chain(links).chain(settings).collect()
    }

    fn save(&mut self, report: &mut SettingsReport) {
        if self.unsaved {
            // Serving comes before remembering: the desired settings are met all the same.
            match self.file.save(&self.record) {
                Ok(()) => self.unsaved = false,
                Err(error) => report.fail(error),
            }
        }
    }

    /// Notes which settings are to be changed, and forgets those that somebody set right.
    fn plan_settings<'a>(
        &mut self,
        desired: &'a [DesiredSysctl],
        report: &mut SettingsReport,
    ) -> Vec<OneSetting<'a>> {
        let mut settings = Vec::new();
        for desired in desired {
            let was = match sysctl::read(&desired.path) {
                Ok(was) => was,
                Err(error) => {
                    report.failures.push(SettingFailure::of(desired, error));
                    continue;
                }
            };
            let before = self.record.settings.get(&desired.path).cloned();
            let ours = before.as_ref().filter(|own| own.value == was);
            if desired.accepts(&was) {
                if before.is_some() && ours.is_none() {
                    self.record.settings.remove(&desired.path);
                    self.unsaved = true;
                }
                continue;
            }
            let previous = ours.map_or_else(|| was.clone(), |own| own.previous.clone());
            let own = OwnSetting { value: desired.value.to_owned(), previous };
            self.record.settings.insert(desired.path.clone(), own);
            self.unsaved = true;
            settings.push(OneSetting { desired, was, before });
        }
        settings
    }

    fn change_settings(&mut self, settings: Vec<OneSetting<'_>>, report: &mut SettingsReport) {
        for OneSetting { desired, was, before } in settings {
            let path = &desired.path;
            let value = desired.value.to_owned();
            match sysctl::write(path, desired.value) {
                Ok(()) => {
                    // Back to what it was before the keeper came: nothing is left to undo.
                    if self.record.settings.get(path).is_some_and(|own| own.previous == value) {
                        self.record.settings.remove(path);
                    }
                    report.done.push(Done::Set { path: path.clone(), value, was });
                }
                Err(error) => {
                    match before {
                        Some(own) => self.record.settings.insert(path.clone(), own),
                        None => self.record.settings.remove(path),
                    };
                    report.failures.push(SettingFailure::of(desired, error));
                }
            }
            self.unsaved = true;
        }
    }

    fn restore_settings(&mut self, desired: &[DesiredSysctl], report: &mut SettingsReport) {
        let undesired: Vec<String> = self
            .record
            .settings
            .keys()
            .filter(|path| !desired.iter().any(|desired| desired.path == **path))
            .cloned()
            .collect();
        for path in undesired {
            let own = self.record.settings[&path].clone();
            let restored = match sysctl::read(&path) {
                Ok(is) if is == own.value => {
                    sysctl::write(&path, &own.previous).map(|()| Some(own.previous))
                }
                // Somebody changed it, or its interface went.
                Ok(_) | Err(NetError::NoSetting { .. }) => Ok(None),
                Err(error) => Err(error),
            };
            match restored {
                Ok(value) => {
                    self.record.settings.remove(&path);
                    self.unsaved = true;
                    report.done.extend(value.map(|value| Done::Restored { path, value }));
                }
                Err(error) => report.fail(error),
            }
        }
    }

    /// Makes the links that are missing, down and so without effect; what there is then.
    fn make_links(
        &mut self,
        netlink: &mut Rtnetlink,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) -> Result<Kernel, NetError> {
        let kernel = Kernel::read(netlink)?;
        let missing = || desired.iter().filter(|desired| kernel.link(desired.device).is_none());
        if missing().next().is_none() {
            return Ok(kernel);
        }
        for desired in missing() {
            self.record.forget_link(desired.device);
            self.record.put_link(desired.device, true);
        }
        self.unsaved = true;
        self.save(report);
        for DesiredLink { device, kind, external } in missing() {
            match netlink.make_tunnel(device, kind, *external) {
                Ok(true) => report.done.push(Done::Made((*device).to_owned())),
                // Its module brought it.
                Ok(false) => self.record.forget_link(device),
                Err(error) => {
                    self.record.forget_link(device);
                    report.fail(error);
                }
            }
        }
        Kernel::read(netlink)
    }

    fn plan_links(
        &mut self,
        kernel: &Kernel,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) -> Vec<Link> {
        let mut down = Vec::new();
        for desired in desired {
            match kernel.named(desired.device) {
                Ok(link) if link.is_up() => {}
                Ok(link) => {
                    self.record.put_link(&link.name, false);
                    self.unsaved = true;
                    down.push(link.clone());
                }
                Err(error) => report.fail(error),
            }
        }
        down
    }

    fn bring_up(&mut self, netlink: &mut Rtnetlink, links: Vec<Link>, report: &mut SettingsReport) {
        for link in links {
            match netlink.set_up(&link, true) {
                Ok(()) => report.done.push(Done::Up(link.name)),
                Err(error) => {
                    self.record.links.retain(|own| own.made || own.device != link.name);
                    self.unsaved = true;
                    report.fail(error);
                }
            }
        }
    }

    fn bring_down(
        &mut self,
        netlink: &mut Rtnetlink,
        kernel: &Kernel,
        desired: &[DesiredLink],
        report: &mut SettingsReport,
    ) {
        let is_wished = |own: &OwnLink| desired.iter().any(|desired| desired.device == own.device);
        let undesired: Vec<OwnLink> =
            self.record.links.iter().filter(|own| !is_wished(own)).cloned().collect();
        for OwnLink { device, made } in undesired {
            let undone = match kernel.link(&device) {
                Some(link) if made => {
                    netlink.delete_link(link).map(|()| Some(Done::Deleted(device.clone())))
                }
                Some(link) if link.is_up() => {
                    netlink.set_up(link, false).map(|()| Some(Done::Down(device.clone())))
                }
                _ => Ok(None),
            };
            match undone {
                Ok(done) => {
                    report.done.extend(done);
                    self.record.forget_link(&device);
                    self.unsaved = true;
                }
                Err(error) => report.fail(error),
            }
        }
    }

    /// Notes which addresses are to be added or renewed, and where every desired one belongs.
    fn plan_addresses(
        &mut self,
        kernel: &Kernel,
        desired: &[DesiredAddress],
        report: &mut SettingsReport,
    ) -> (Vec<Placing>, Vec<(IpAddr, String)>) {
        let (mut placings, mut wished) = (Vec::new(), Vec::new());
        for desired in desired {
            let SettingPlace { link, prefix, standing } = match kernel.place(desired) {
                Ok(place) => place,
                Err(error) => {
                    report.fail(error);
                    continue;
                }
            };
            let device = link.name.clone();
            wished.push((desired.addr, device.clone()));
            let before = self.record.address(desired.addr, &device).cloned();
            let ours = match standing {
                None => true,
                // Only the keeper gives a CVIP a lifetime: one that it forgot is its own.
                Some(standing) if desired.valid_lft.is_some() && standing.valid_lft.is_some() => {
                    true
                }
                Some(_) => before.as_ref().is_some_and(|own| own.prefix == prefix),
            };
            if !ours {
                if before.is_some() {
                    self.record.forget_address(desired.addr, &device);
                    self.unsaved = true;
                }
                if link.answers_neighbours() {
                    report.reachable.push(Reachable { addr: desired.addr, device });
                }
                continue;
            }
            let own =
                OwnAddress { addr: desired.addr, prefix, device, valid_lft: desired.valid_lft };
            if before.as_ref() != Some(&own) {
                self.record.put_address(own.clone());
                self.unsaved = true;
            }
            if standing.is_none_or(|s| desired.valid_lft.is_some() || s.valid_lft.is_some()) {
                let (link, new, only_with) = (link.clone(), standing.is_none(), desired.only_with);
                placings.push(Placing { link, own, new, only_with });
            } else if link.answers_neighbours() {
                report.reachable.push(Reachable { addr: desired.addr, device: own.device });
            }
        }
        (placings, wished)
    }

    fn place(
        &mut self,
        netlink: &mut Rtnetlink,
        placings: Vec<Placing>,
        settings: &[DesiredSysctl],
        report: &mut SettingsReport,
    ) {
        let mut added = Vec::new();
        for Placing { link, own, new, only_with } in placings {
            let OwnAddress { addr, prefix, device, valid_lft } = own;
            if let Some(path) = only_with.filter(|path| new && !in_force(settings, path)) {
                self.record.forget_address(addr, &device);
                self.unsaved = true;
                report.fail(NetError::Exposed { addr, device, setting: sysctl::name(path) });
                continue;
            }
            match netlink.put(&link, addr, prefix, valid_lft) {
                Ok(()) => {
                    if link.answers_neighbours() {
                        report.reachable.push(Reachable { addr, device: device.clone() });
                    }
                    if new {
                        report.done.push(Done::Added { addr, prefix, device });
                        added.push((link, addr));
                    }
                }
                Err(error) => {
                    if new {
                        self.record.forget_address(addr, &device);
                        self.unsaved = true;
                    }
                    report.fail(error);
                }
            }
        }
        // What is removed next may be what the new address replaces. An interface without
        // IPv6 of its own, such as one that is down, never gets there, and nobody can wait.
        let deadline = Instant::now() + SETTLING;
        for (link, addr) in added {
            while netlink.is_received(&link, addr) == Ok(false) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn remove_addresses(
        &mut self,
        netlink: &mut Rtnetlink,
        kernel: &Kernel,
        wished: &[(IpAddr, String)],
        report: &mut SettingsReport,
    ) {
        let is_wished = |own: &OwnAddress| {
            wished.iter().any(|(addr, device)| *addr == own.addr && *device == own.device)
        };
        let undesired: Vec<_> =
            self.record.addresses.iter().filter(|own| !is_wished(own)).cloned().collect();
        for OwnAddress { addr, prefix, device, valid_lft } in undesired {
            let link = match kernel.link(&device) {
                // Its interface has another name by now; only the keeper gives it a lifetime.
                None if valid_lft.is_some() => kernel.leased(addr),
                link => link,
            };
            let link = link.filter(|link| {
                kernel.standing(addr, link).is_some_and(|standing| standing.prefix == prefix)
            });
            match link.map_or(Ok(false), |link| netlink.delete(link, addr, prefix)) {
                Ok(removed) => {
                    self.record.forget_address(addr, &device);
                    self.unsaved = true;
                    if removed {
                        report.done.push(Done::Removed { addr, prefix, device });
                    }
                }
                Err(error) => report.fail(error),
            }
        }
    }
}

fn lapsed(own: &OwnAddress) -> NetError {
    NetError::Lapsed { addr: own.addr, device: own.device.clone() }
}

/// True if a setting has a value with which its desired setting is content.
fn in_force(settings: &[DesiredSysctl], path: &str) -> bool {
    settings
        .iter()
        .find(|desired| desired.path == path)
        .is_some_and(|desired| sysctl::read(path).is_ok_and(|value| desired.accepts(&value)))
}

impl Kernel {
    fn read(netlink: &mut Rtnetlink) -> Result<Kernel, NetError> {
        Ok(Kernel { links: netlink.links()?, addresses: netlink.addresses()? })
    }

    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn standing(&self, addr: IpAddr, link: &Link) -> Option<&Address> {
        self.addresses.iter().find(|address| address.addr == addr && address.index == link.index)
    }

    /// The interface on which an address that was made still stands.
    fn stands(&self, own: &OwnAddress) -> Option<&Link> {
        self.link(&own.device).filter(|link| self.standing(own.addr, link).is_some())
    }

    /// The interface on which an address stands with a lifetime.
    fn leased(&self, addr: IpAddr) -> Option<&Link> {
        let is_it = |a: &&Address| a.addr == addr && a.valid_lft.is_some();
        let address = self.addresses.iter().find(is_it)?;
        self.links.iter().find(|link| link.index == address.index)
    }

    fn named(&self, name: &str) -> Result<&Link, NetError> {
        self.link(name).ok_or_else(|| no_interface(name))
    }

    /// Where a desired address belongs, and what stands there.
    fn place(&self, desired: &DesiredAddress) -> Result<SettingPlace<'_>, NetError> {
        match &desired.device {
            Device::Name(name) => {
                let link = self.named(name)?;
                let standing = self.standing(desired.addr, link);
                let prefix = standing.map_or(host_prefix(desired.addr), |standing| standing.prefix);
                Ok(SettingPlace { link, prefix, standing })
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
            (!link.is_loopback()).then_some((address, link))
        });
        let stands = linked.clone().find(|(address, _)| address.addr == addr);
        if let Some((address, link)) = stands {
            return Some(SettingPlace { link, prefix: address.prefix, standing: Some(address) });
        }
        let reaching = linked.filter(|(address, _)| address.reaches(addr));
        let (address, link) = reaching.max_by_key(|(address, link)| {
            (link.is_up(), address.prefix, std::cmp::Reverse(link.index))
        })?;
        Some(SettingPlace { link, prefix: address.prefix, standing: None })
    }
}
