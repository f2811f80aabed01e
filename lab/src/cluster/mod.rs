//! A cluster on one kernel: directors, nodes, hosts of a store and a client, each a network namespace with an address of
//! its own on one bridge, and perhaps with another one on a second. IPVS keeps its tables per network namespace, so each member is to IPVS what a machine would be.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let cluster = cvip_lab::Cluster::builder("web").directors(2).nodes(3).build()?;
//! cluster.director().run(&["ipvsadm", "-A", "-t", &format!("{}:80", cluster.vip4(1))])?;
//! cluster.client().run(&["ping", "-c1", &cluster.node(1).v4().to_string()])?;
//! # Ok(())
//! # }
//! ```
//!
//! | member | name | IPv4 | IPv6 |
//! |---|---|---|---|
//! | directors | `web-d1`, `web-d2`, `web-d3` | 10.77.X.11, .12, .13 | fd77:X::11, ... |
//! | nodes | `web-n1`, `web-n2`, ... | 10.77.X.21, .22, ... | fd77:X::21, ... |
//! | hosts of a store | `web-e1`, `web-e2`, `web-e3` | 10.77.X.91, ... | fd77:X::91, ... |
//! | client | `web-c` | 10.77.X.101 | fd77:X::101 |
//! | free for virtual addresses | | 10.77.X.201 to .250 | fd77:X::201 to ::250 |
//!
//! With an interconnect, every member but the client has an `eth1` too, with the same digits in 10.78.X.0/24 and
//! fd78:X::/64.
//!
//! X (in hexadecimal for IPv6) is another one for each cluster that is alive, so tests can run beside each other. The
//! bridge is in a namespace too (`web-br`), so nothing is left on the outside when the cluster is dropped.

mod address;
mod capture;
mod faults;
mod host;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Result, ensure};

pub use address::Network;
pub use capture::Capture;
pub use faults::{Direction, Fault, Impairment};
pub use host::Host;

use crate::cabling;
use crate::namespace::Namespace;
use address::{Claim, Lines, Member};

/// Directors, nodes, perhaps hosts of a store, and a client on one bridge or two; removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    // Members go before the bridge, and the claim of the subnet last.
    directors: Vec<Host>,
    nodes: Vec<Host>,
    // Shared with those who run a store on them, and need nothing else of the cluster.
    stores: Vec<Arc<Host>>,
    client: Option<Host>,
    // For as long as the cluster lives, though members hold it too.
    _bridge: Arc<Namespace>,
    claim: Claim,
}

/// What a [`Cluster`] is to have.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    directors: u8,
    nodes: u8,
    stores: u8,
    client: bool,
    lines: Lines,
}

impl Builder {
    /// How many directors, 1 to 3: all but the active one are standbys. At first 1.
    #[must_use]
    pub fn directors(mut self, count: u8) -> Self {
        self.directors = count;
        self
    }

    /// How many nodes, 0 to 60. At first 2.
    #[must_use]
    pub fn nodes(mut self, count: u8) -> Self {
        self.nodes = count;
        self
    }

    /// How many hosts for a store (etcd), 0 to 3. At first 0.
    #[must_use]
    pub fn stores(mut self, count: u8) -> Self {
        self.stores = count;
        self
    }

    /// Whether every member but the client has a second interface, `eth1`, on a network of the cluster's own. At first
    /// it has none.
    #[must_use]
    pub fn interconnect(mut self, interconnect: bool) -> Self {
        self.lines.interconnect = interconnect;
        self
    }

    /// Whether there is a client. At first there is.
    #[must_use]
    pub fn client(mut self, client: bool) -> Self {
        self.client = client;
        self
    }

    /// Whether the members have IPv6 addresses too. At first they have.
    #[must_use]
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.lines.ipv6 = ipv6;
        self
    }

    /// Builds the cluster.
    ///
    /// # Errors
    /// If this is not root, if a cluster of this name is alive, or if the kernel lacks veth or bridge.
    pub fn build(&self) -> Result<Cluster> {
        ensure!((1..=3).contains(&self.directors), "a cluster has 1 to 3 directors");
        ensure!(self.nodes <= 60, "a cluster has up to 60 nodes");
        ensure!(self.stores <= 3, "a cluster has up to 3 hosts for a store");
        // The bridges' ports are named after the members, and a device's name has 15 bytes; so has a host's name here,
        // to keep both readable.
        ensure!(
            !self.name.is_empty()
                && self.name.len() <= 12
                && self.name.bytes().all(|b| b.is_ascii_alphanumeric()),
            "a cluster's name is 1 to 12 letters and digits, not {:?}",
            self.name
        );
        let claim = Claim::new(&self.name)?;
        let bridge = Arc::new(Namespace::named(&format!("{}-br", self.name))?);
        let make = |member: Member| {
            Host::new(&self.name, member, claim.number(), self.lines, Arc::clone(&bridge))
        };
        let store = |n| make(Member::Store(n)).map(Arc::new);
        let cluster = Cluster {
            directors: (1..=self.directors)
                .map(|n| make(Member::Director(n)))
                .collect::<Result<_>>()?,
            nodes: (1..=self.nodes).map(|n| make(Member::Node(n))).collect::<Result<_>>()?,
            stores: (1..=self.stores).map(store).collect::<Result<_>>()?,
            client: self.client.then(|| make(Member::Client)).transpose()?,
            _bridge: Arc::clone(&bridge),
            claim,
        };
        let bridges: Vec<&str> = self.lines.networks().iter().map(|n| n.bridge()).collect();
        cabling::make_bridges(&bridge, &bridges)?;
        let hosts = cluster.members().map(|host| (host.namespace().as_ref(), host.cables()));
        cabling::connect(&bridge, &hosts.collect::<Vec<_>>())?;
        Ok(cluster)
    }
}

impl Cluster {
    /// A cluster of this name: letters and digits, and no other alive of the same name.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            directors: 1,
            nodes: 2,
            stores: 0,
            client: true,
            lines: Lines { ipv6: true, interconnect: false },
        }
    }

    /// The first director.
    #[must_use]
    pub fn director(&self) -> &Host {
        &self.directors[0]
    }

    /// The second director.
    ///
    /// # Panics
    /// If the cluster was built with one.
    #[must_use]
    pub fn standby(&self) -> &Host {
        self.directors.get(1).expect("the cluster was built with one director")
    }

    /// The node with this number, from 1 on, as in its name.
    ///
    /// # Panics
    /// If the cluster has fewer.
    #[must_use]
    pub fn node(&self, number: usize) -> &Host {
        number.checked_sub(1).and_then(|n| self.nodes.get(n)).expect("the cluster has no such node")
    }

    /// All directors.
    #[must_use]
    pub fn directors(&self) -> &[Host] {
        &self.directors
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Host] {
        &self.nodes
    }

    /// All hosts of a store.
    #[must_use]
    pub fn stores(&self) -> &[Arc<Host>] {
        &self.stores
    }

    /// The client.
    ///
    /// # Panics
    /// If the cluster was built without.
    #[must_use]
    pub fn client(&self) -> &Host {
        self.client.as_ref().expect("the cluster was built without a client")
    }

    /// Every member: directors, nodes, hosts of a store, client.
    pub fn members(&self) -> impl Iterator<Item = &Host> {
        let stores = self.stores.iter().map(Arc::as_ref);
        self.directors.iter().chain(&self.nodes).chain(stores).chain(&self.client)
    }

    /// Whether the members are on a second network.
    #[must_use]
    pub fn has_interconnect(&self) -> bool {
        self.director().networks().contains(&Network::Interconnect)
    }

    /// An IPv4 address of the subnet that no member has, 1 to 50: 10.77.X.201 and so on.
    #[must_use]
    pub fn vip4(&self, number: u8) -> Ipv4Addr {
        address::v4(Network::Public, self.claim.number(), address::FIRST_VIRTUAL + number)
    }

    /// An IPv6 address of the subnet that no member has, 1 to 50: fd77:X::201 and so on.
    #[must_use]
    pub fn vip6(&self, number: u8) -> Ipv6Addr {
        address::v6(Network::Public, self.claim.number(), address::FIRST_VIRTUAL + number)
    }
}
