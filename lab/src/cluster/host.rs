//! One member of a cluster, as a test sees it: a machine that runs commands, can lose its cable, and can die.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::address::{self, Lines, Member, Network};
use super::capture::Capture;
use crate::cabling::{self, Cable};
use crate::namespace::Namespace;

/// One member of a cluster: a network namespace with addresses on the cluster's networks.
#[derive(Debug)]
pub struct Host {
    member: Member,
    subnet: u8,
    lines: Lines,
    namespace: Arc<Namespace>,
    bridge: Arc<Namespace>,
}

impl Host {
    pub(super) fn new(
        cluster: &str,
        member: Member,
        subnet: u8,
        lines: Lines,
        bridge: Arc<Namespace>,
    ) -> Result<Self> {
        let namespace = Arc::new(Namespace::named(&format!("{cluster}-{}", member.short()))?);
        Ok(Self { member, subnet, lines, namespace, bridge })
    }

    /// The IPv4 address of its `eth0`, in a network of 24 bits.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.v4_on(Network::Public)
    }

    /// The IPv6 address of its `eth0`, in a network of 64 bits.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.v6_on(Network::Public)
    }

    /// The hardware address of its `eth0`, as tcpdump and ip write it.
    #[must_use]
    pub fn mac(&self) -> String {
        self.mac_on(Network::Public)
    }

    /// Its IPv4 address on a network, of 24 bits.
    #[must_use]
    pub fn v4_on(&self, network: Network) -> Ipv4Addr {
        address::v4(network, self.subnet, self.member.last())
    }

    /// Its IPv6 address on a network, of 64 bits.
    #[must_use]
    pub fn v6_on(&self, network: Network) -> Ipv6Addr {
        address::v6(network, self.subnet, self.member.last())
    }

    /// The hardware address of its interface on a network.
    #[must_use]
    pub fn mac_on(&self, network: Network) -> String {
        address::mac(network, self.subnet, self.member.last())
    }

    /// The networks that it is on.
    #[must_use]
    pub fn networks(&self) -> &'static [Network] {
        match (self.lines.interconnect, self.member) {
            (true, Member::Director(_) | Member::Node(_) | Member::Store(_)) => {
                &[Network::Public, Network::Interconnect]
            }
            (false, _) | (true, Member::Client) => &[Network::Public],
        }
    }

    /// Says so if it is not on a network.
    pub(super) fn require(&self, network: Network) -> Result<()> {
        ensure!(self.networks().contains(&network), "{} has no {}", self.name(), network.device());
        Ok(())
    }

    /// Its port on the bridge of a network.
    pub(super) fn port(&self, network: Network) -> String {
        match network {
            Network::Public => self.member.short(),
            Network::Interconnect => self.member.short() + "i",
        }
    }

    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    pub(super) fn bridge(&self) -> &Arc<Namespace> {
        &self.bridge
    }

    /// Its cables to the cluster's bridges.
    pub(super) fn cables(&self) -> Vec<Cable> {
        let cable = |network: &Network| Cable {
            bridge: network.bridge(),
            port: self.port(*network),
            device: network.device(),
            mac: Some(self.mac_on(*network)),
            v4: self.v4_on(*network),
            v6: self.lines.ipv6.then(|| self.v6_on(*network)),
        };
        self.networks().iter().map(cable).collect()
    }

    /// Takes the power away: the cables first, so that no connection is closed in good order, then every process.
    /// Nothing on the network answers for it any more. Sockets of this very process that are in there stay, cut off.
    ///
    /// # Errors
    /// If a process does not die.
    pub fn power_off(&self) -> Result<()> {
        for network in self.networks() {
            cabling::set_port(&self.bridge, &self.port(*network), false)?;
        }
        self.namespace.kill_all()
    }

    /// Starts the machine again after [`Host::power_off`], as it was when the cluster was built: the same name and
    /// addresses, and a new kernel's IPVS table, settings, routes and neighbours. Faults of its lines are gone as well.
    ///
    /// Its network namespace is a new one: a socket that was opened in the old one, an IPVS client of a test's own among
    /// them, has to be opened again.
    ///
    /// # Errors
    /// If processes still run in it, or if the kernel refuses.
    pub fn power_on(&self) -> Result<()> {
        self.power_off()?;
        cabling::disconnect(&self.bridge, &self.cables())?;
        self.namespace.renew()?;
        cabling::connect(&self.bridge, &[(&self.namespace, self.cables())])
    }

    /// Captures packets on `eth0` from now on, as many as match the filter (tcpdump's language; empty for all).
    ///
    /// # Errors
    /// If tcpdump is not there or does not know the filter.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        self.capture_on("eth0", filter)
    }

    /// Captures packets on another device of this member; see [`Host::capture`].
    ///
    /// # Errors
    /// As [`Host::capture`].
    pub fn capture_on(&self, device: &str, filter: &str) -> Result<Capture> {
        Capture::start(&self.namespace, device, filter)
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
