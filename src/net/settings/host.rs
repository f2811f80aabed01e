//! What the settings need of their host: the kernel's links, addresses and sysctls, a file, and a
//! clock.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::record::SettingsRecord;
use crate::clock::Instant;
use crate::net::NetError;
use crate::net::addresses::{Address, Link};

/// A host's network, and the record of what was made on it.
pub trait NetworkHost {
    /// Every interface and every address, in the kernel's order. What is asked until the next call
    /// of this is asked of the same network namespace.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&mut self) -> Result<(Vec<Link>, Vec<Address>), NetError>;

    /// Adds an address, or gives the same one a new lifetime, in seconds.
    ///
    /// # Errors
    /// The kernel refused.
    fn put(
        &mut self,
        link: &Link,
        addr: IpAddr,
        prefix: u8,
        valid_lft: Option<u32>,
    ) -> Result<(), NetError>;

    /// Removes an address. `Ok(false)` if it was gone already.
    ///
    /// # Errors
    /// The kernel refused.
    fn delete(&mut self, link: &Link, addr: IpAddr, prefix: u8) -> Result<bool, NetError>;

    /// Adds the local route of an IPv4 address, as the kernel makes it with the address.
    ///
    /// # Errors
    /// The kernel refused.
    fn add_local_route(
        &mut self,
        link: &Link,
        addr: Ipv4Addr,
        source: Ipv4Addr,
    ) -> Result<(), NetError>;

    /// True if packets to an address of this interface are taken for this node's.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    fn is_received(&mut self, link: &Link, addr: IpAddr) -> Result<bool, NetError>;

    /// Makes a tunnel. `Ok(false)` if the link is there already.
    ///
    /// # Errors
    /// The kernel refused.
    fn make_tunnel(&mut self, device: &str, kind: &str, external: bool) -> Result<bool, NetError>;

    /// Brings a link up or down.
    ///
    /// # Errors
    /// The kernel refused.
    fn set_up(&mut self, link: &Link, up: bool) -> Result<(), NetError>;

    /// Deletes a link.
    ///
    /// # Errors
    /// The kernel refused.
    fn delete_link(&mut self, link: &Link) -> Result<(), NetError>;

    /// A sysctl's value without the blanks around it, by its path below `/proc/sys`.
    ///
    /// # Errors
    /// There is no such sysctl, or it cannot be read.
    fn read_sysctl(&self, path: &str) -> Result<String, NetError>;

    /// Gives a sysctl a value.
    ///
    /// # Errors
    /// There is no such sysctl, or it cannot be written.
    fn write_sysctl(&mut self, path: &str, value: &str) -> Result<(), NetError>;

    /// What the record file says; nothing was made if there is none, or one of an earlier boot.
    ///
    /// # Errors
    /// The file cannot be read, or is corrupt.
    fn load(&self) -> Result<SettingsRecord, NetError>;

    /// Replaces the record file, or removes it if nothing is left to remember.
    ///
    /// # Errors
    /// The file cannot be written.
    fn save(&mut self, record: &SettingsRecord) -> Result<(), NetError>;

    /// There is no record file.
    fn has_no_record(&self) -> bool;

    /// The time.
    fn now(&self) -> Instant;

    /// Waits.
    fn wait(&mut self, time: Duration);
}
