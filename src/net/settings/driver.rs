//! This host: rtnetlink, `/proc/sys`, and the record file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::host::NetworkHost;
use super::record::{RecordFile, SettingsRecord};
use crate::clock::Instant;
use crate::net::addresses::{Address, Link, Rtnetlink};
use crate::net::{NetError, sysctl};

/// The host on which this program runs, in the network namespace of the calling thread.
#[derive(Debug)]
pub struct ThisHost {
    file: RecordFile,
    /// Opened anew by each [`NetworkHost::read`]: the thread may have entered another namespace.
    netlink: Option<Rtnetlink>,
}

impl ThisHost {
    /// This host, with a record file. The file belongs into a folder that root alone may write and
    /// that a reboot empties, such as /run/cvip.
    pub fn new(record: &Path) -> ThisHost {
        ThisHost { file: RecordFile::at(record), netlink: None }
    }

    /// The same, with the record of a node's cvipd.
    pub fn of_node(run_dir: &Path, node: u32) -> ThisHost {
        ThisHost::new(&run_dir.join(format!("kept-{node}.json")))
    }

    fn netlink(&mut self) -> Result<&mut Rtnetlink, NetError> {
        match &mut self.netlink {
            Some(netlink) => Ok(netlink),
            closed => Ok(closed.insert(Rtnetlink::open()?)),
        }
    }
}

impl NetworkHost for ThisHost {
    fn read(&mut self) -> Result<(Vec<Link>, Vec<Address>), NetError> {
        self.netlink = None;
        let netlink = self.netlink()?;
        Ok((netlink.links()?, netlink.addresses()?))
    }

    fn put(
        &mut self,
        link: &Link,
        addr: IpAddr,
        prefix: u8,
        valid_lft: Option<u32>,
    ) -> Result<(), NetError> {
        self.netlink()?.put(link, addr, prefix, valid_lft)
    }

    fn delete(&mut self, link: &Link, addr: IpAddr, prefix: u8) -> Result<bool, NetError> {
        self.netlink()?.delete(link, addr, prefix)
    }

    fn add_local_route(
        &mut self,
        link: &Link,
        addr: Ipv4Addr,
        source: Ipv4Addr,
    ) -> Result<(), NetError> {
        self.netlink()?.add_local_route(link, addr, source)
    }

    fn is_received(&mut self, link: &Link, addr: IpAddr) -> Result<bool, NetError> {
        self.netlink()?.is_received(link, addr)
    }

    fn make_tunnel(&mut self, device: &str, kind: &str, external: bool) -> Result<bool, NetError> {
        self.netlink()?.make_tunnel(device, kind, external)
    }

    fn set_up(&mut self, link: &Link, up: bool) -> Result<(), NetError> {
        self.netlink()?.set_up(link, up)
    }

    fn delete_link(&mut self, link: &Link) -> Result<(), NetError> {
        self.netlink()?.delete_link(link)
    }

    fn read_sysctl(&self, path: &str) -> Result<String, NetError> {
        sysctl::read(path)
    }

    fn write_sysctl(&mut self, path: &str, value: &str) -> Result<(), NetError> {
        sysctl::write(path, value)
    }

    fn load(&self) -> Result<SettingsRecord, NetError> {
        self.file.load()
    }

    fn save(&mut self, record: &SettingsRecord) -> Result<(), NetError> {
        self.file.save(record)
    }

    fn has_no_record(&self) -> bool {
        self.file.is_missing()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
