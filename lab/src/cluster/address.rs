//! Who has which address, and how clusters that are alive at once keep apart.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::namespace;

/// Virtual addresses begin after this.
pub(super) const FIRST_VIRTUAL: u8 = 200;

/// Where claims of subnets are kept.
const CLAIMS: &str = "/run/cvip-lab";

/// Which of a cluster's networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Where the clients are: `eth0` of every member.
    Public,
    /// Where only the cluster is: `eth1` of every member but the client, if the cluster was built with it.
    Interconnect,
}

impl Network {
    /// The interface with which members are on it.
    #[must_use]
    pub fn device(self) -> &'static str {
        match self {
            Self::Public => "eth0",
            Self::Interconnect => "eth1",
        }
    }

    /// Its bridge, in the cluster's namespace of bridges.
    pub(super) fn bridge(self) -> &'static str {
        match self {
            Self::Public => "br0",
            Self::Interconnect => "br1",
        }
    }

    /// What tells its addresses from the other's.
    fn digits(self) -> u8 {
        match self {
            Self::Public => 77,
            Self::Interconnect => 78,
        }
    }
}

/// What every member of a cluster is connected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) ipv6: bool,
    pub(super) interconnect: bool,
}

impl Lines {
    /// The cluster's networks.
    pub(super) fn networks(self) -> &'static [Network] {
        match self.interconnect {
            true => &[Network::Public, Network::Interconnect],
            false => &[Network::Public],
        }
    }
}

/// A member's place in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Director(u8),
    Node(u8),
    Store(u8),
    Client,
}

impl Member {
    /// The end of its name, and the name of its port on the bridge.
    pub(super) fn short(self) -> String {
        match self {
            Self::Director(n) => format!("d{n}"),
            Self::Node(n) => format!("n{n}"),
            Self::Store(n) => format!("e{n}"),
            Self::Client => "c".into(),
        }
    }

    /// The last part of its address.
    pub(super) fn last(self) -> u8 {
        match self {
            Self::Director(n) => 10 + n,
            Self::Node(n) => 20 + n,
            Self::Store(n) => 90 + n,
            Self::Client => 101,
        }
    }
}

/// Address `last` of subnet `subnet`.
pub(super) fn v4(network: Network, subnet: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, network.digits(), subnet, last)
}

/// The same for IPv6; the last part has the same digits as in IPv4, since it is people who read it.
pub(super) fn v6(network: Network, subnet: u8, last: u8) -> Ipv6Addr {
    let digits = |n: u8| u16::from(n / 100) << 8 | u16::from(n / 10 % 10) << 4 | u16::from(n % 10);
    let (first, digits) = (0xfd00 | digits(network.digits()), digits(last));
    Ipv6Addr::new(first, u16::from(subnet), 0, 0, 0, 0, 0, digits)
}

/// The hardware address that goes with it: locally administered, and readable in a capture.
pub(super) fn mac(network: Network, subnet: u8, last: u8) -> String {
    format!("02:{}:00:00:{subnet:02x}:{last:02x}", network.digits())
}

/// A subnet that this cluster alone has, for as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    number: u8,
    file: PathBuf,
}

impl Claim {
    /// Claims a subnet. What a process that is gone (killed by a time-out, say) left of a cluster of the same name is
    /// removed.
    pub(super) fn new(cluster: &str) -> Result<Self> {
        fs::create_dir_all(CLAIMS)
            .with_context(|| format!("cannot make {CLAIMS}: run this in the lab, as root"))?;
        for number in 1..=250 {
            let file = PathBuf::from(CLAIMS).join(number.to_string());
            if let Ok(text) = fs::read_to_string(&file)
                && let Some((pid, name)) = text.trim().split_once(' ')
                && !PathBuf::from("/proc").join(pid).exists()
            {
                for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
                    let found = entry.file_name().to_string_lossy().into_owned();
                    if found.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')) {
                        namespace::remove(&found);
                    }
                }
                let _ = fs::remove_file(&file);
            }
            // Under its own name only once it is complete: another test may look at it at any time.
            let draft =
                PathBuf::from(CLAIMS).join(format!("{number}.{}.{cluster}", std::process::id()));
            let mut new = File::create(&draft)?;
            write!(new, "{} {cluster}", std::process::id())?;
            let linked = fs::hard_link(&draft, &file);
            fs::remove_file(&draft)?;
            match linked {
                Ok(()) => return Ok(Self { number, file }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", file.display()));
                }
            }
        }
        bail!("no free subnet: 250 clusters are alive (see {CLAIMS})")
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_show_the_same_digits() {
        let (public, interconnect) = (Network::Public, Network::Interconnect);
        assert_eq!(v4(public, 3, Member::Client.last()).to_string(), "10.77.3.101");
        assert_eq!(v6(public, 3, Member::Client.last()).to_string(), "fd77:3::101");
        assert_eq!(v6(public, 12, Member::Node(4).last()).to_string(), "fd77:c::24");
        assert_eq!(mac(public, 12, Member::Node(4).last()), "02:77:00:00:0c:18");
        assert_eq!(v4(interconnect, 3, Member::Store(2).last()).to_string(), "10.78.3.92");
        assert_eq!(v6(interconnect, 3, Member::Store(2).last()).to_string(), "fd78:3::92");
        assert_eq!(mac(interconnect, 3, Member::Store(2).last()), "02:78:00:00:03:5c");
    }

    #[test]
    fn no_two_members_share_an_address() {
        let members = (1..=3)
            .flat_map(|n| [Member::Director(n), Member::Store(n)])
            .chain((1..=60).map(Member::Node))
            .chain([Member::Client]);
        let mut seen = std::collections::HashSet::new();
        for member in members {
            assert!(seen.insert(member.last()), "{member:?}");
            assert!(member.last() <= FIRST_VIRTUAL);
        }
    }
}
