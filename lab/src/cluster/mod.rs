//! A cluster on one kernel: director, standby, nodes and client, each a network namespace with an address of its own on
//! one bridge. IPVS keeps its tables per network namespace, so each member is to IPVS what a machine would be.
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
//! | director, standby | `web-d1`, `web-d2` | 10.77.X.11, .12 | fd77:X::11, ::12 |
//! | nodes | `web-n1`, `web-n2`, ... | 10.77.X.21, .22, ... | fd77:X::21, ... |
//! | client | `web-c` | 10.77.X.101 | fd77:X::101 |
//! | free for virtual addresses | | 10.77.X.201 to .250 | fd77:X::201 to ::250 |
//!
//! X (in hexadecimal for IPv6) is another one for each cluster that is alive, so tests can run beside each other. The
//! bridge is in a namespace too (`web-br`), so nothing is left on the outside when the cluster is dropped.

mod address;
mod capture;
mod host;
mod process;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

pub use capture::Capture;
pub use host::Host;
pub use process::Process;

use crate::netns::Namespace;
use address::{Claim, Member};

/// A director, perhaps a standby, nodes and a client on one bridge; removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    // Members go before the bridge, and the claim of the subnet last.
    directors: Vec<Host>,
    nodes: Vec<Host>,
    client: Option<Host>,
    bridge: std::sync::Arc<Namespace>,
    claim: Claim,
}

/// What a [`Cluster`] is to have.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    directors: u8,
    nodes: u8,
    client: bool,
    ipv6: bool,
}

impl Builder {
    /// How many directors: 1, or 2 with a standby. At first 1.
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

    /// Whether there is a client. At first there is.
    #[must_use]
    pub fn client(mut self, client: bool) -> Self {
        self.client = client;
        self
    }

    /// Whether the members have IPv6 addresses too. At first they have.
    #[must_use]
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.ipv6 = ipv6;
        self
    }

    /// Builds the cluster.
    ///
    /// # Errors
    /// If this is not root, if a cluster of this name is alive, or if the kernel lacks veth or bridge.
    pub fn build(&self) -> Result<Cluster> {
        ensure!((1..=2).contains(&self.directors), "a cluster has 1 or 2 directors");
        ensure!(self.nodes <= 60, "a cluster has up to 60 nodes");
        // The bridge's ports are named after the members, and a device's name has 15 bytes; so has a host's name here,
        // to keep both readable.
        ensure!(
            !self.name.is_empty()
                && self.name.len() <= 12
                && self.name.bytes().all(|b| b.is_ascii_alphanumeric()),
            "a cluster's name is 1 to 12 letters and digits, not {:?}",
            self.name
        );
        let claim = Claim::new(&self.name)?;
        let bridge = std::sync::Arc::new(Namespace::new(&format!("{}-br", self.name))?);
        let make = |member: Member| {
            Host::new(&self.name, member, claim.number(), std::sync::Arc::clone(&bridge))
        };
        let cluster = Cluster {
            directors: (1..=self.directors)
                .map(|n| make(Member::Director(n)))
                .collect::<Result<_>>()?,
            nodes: (1..=self.nodes).map(|n| make(Member::Node(n))).collect::<Result<_>>()?,
            client: self.client.then(|| make(Member::Client)).transpose()?,
            bridge,
            claim,
        };
        cluster.connect(self.ipv6)?;
        Ok(cluster)
    }
}

impl Cluster {
    /// A cluster of this name: letters and digits, and no other alive of the same name.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder { name: name.to_owned(), directors: 1, nodes: 2, client: true, ipv6: true }
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

    /// The client.
    ///
    /// # Panics
    /// If the cluster was built without.
    #[must_use]
    pub fn client(&self) -> &Host {
        self.client.as_ref().expect("the cluster was built without a client")
    }

    /// Every member: directors, nodes, client.
    pub fn members(&self) -> impl Iterator<Item = &Host> {
        self.directors.iter().chain(&self.nodes).chain(&self.client)
    }

    /// An IPv4 address of the subnet that no member has, 1 to 50: 10.77.X.201 and so on.
    #[must_use]
    pub fn vip4(&self, number: u8) -> Ipv4Addr {
        address::v4(self.claim.number(), address::FIRST_VIRTUAL + number)
    }

    /// An IPv6 address of the subnet that no member has, 1 to 50: fd77:X::201 and so on.
    #[must_use]
    pub fn vip6(&self, number: u8) -> Ipv6Addr {
        address::v6(self.claim.number(), address::FIRST_VIRTUAL + number)
    }

    /// Puts a cable between each member and the bridge, and gives each its addresses.
    fn connect(&self, ipv6: bool) -> Result<()> {
        // Addresses are usable at once (no duplicate address detection), and nobody asks for routers.
        for host in self.members() {
            for key in ["all", "default"] {
                for (name, value) in
                    [("accept_dad", "0"), ("dad_transmits", "0"), ("router_solicitations", "0")]
                {
                    let key = format!("net.ipv6.conf.{key}.{name}");
                    // A kernel without IPv6 has none of these.
                    if ipv6 {
                        host.sysctl(&key, value)?;
                    }
                }
            }
        }
        let mut script = String::from(
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n",
        );
        for host in self.members() {
            let (port, name, mac) = (host.port(), host.name(), host.mac());
            script +=
                &format!("link add {port} type veth peer name eth0 address {mac} netns {name}\n");
            script += &format!("link set {port} master br0 up\n");
        }
        batch(&self.bridge, &script)?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .members()
                .map(|host| {
                    let mut script =
                        format!("addr add {}/24 dev eth0\nlink set eth0 up\n", host.v4());
                    if ipv6 {
                        script += &format!("addr add {}/64 dev eth0 nodad\n", host.v6());
                    }
                    scope.spawn(move || batch(host.namespace(), &script))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

/// Gives `ip` several commands at once: a process each would take most of the time that a cluster takes.
fn batch(namespace: &Namespace, script: &str) -> Result<()> {
    use std::io::Write;
    let mut command = namespace.command("ip")?;
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (of the package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).context("cannot write to ip")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "ip -batch in {}: {}",
            namespace.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
