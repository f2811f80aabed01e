//! One member of a cluster, as a test sees it: a machine that runs commands, can lose its cable, and can die.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};

use super::address::{self, Member, Network};
use super::cabling::{self, Cabling};
use super::faults::set_port;
use super::{Capture, Process};
use crate::netns::Namespace;
use crate::people::Person;
use crate::sys;

/// One member of a cluster.
#[derive(Debug)]
pub struct Host {
    member: Member,
    subnet: u8,
    cabling: Cabling,
    namespace: Arc<Namespace>,
    bridge: Arc<Namespace>,
}

impl Host {
    pub(super) fn new(
        cluster: &str,
        member: Member,
        subnet: u8,
        cabling: Cabling,
        bridge: Arc<Namespace>,
    ) -> Result<Self> {
        let namespace = Arc::new(Namespace::new(&format!("{cluster}-{}", member.short()))?);
        Ok(Self { member, subnet, cabling, namespace, bridge })
    }

    /// Its name, which is its network namespace's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
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
        match (self.cabling.interconnect, self.member) {
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

    pub(super) fn cabling(&self) -> Cabling {
        self.cabling
    }

    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    pub(super) fn bridge(&self) -> &Arc<Namespace> {
        &self.bridge
    }

    /// A command that runs on this member: a child of this process, with no other process in between. It sees this
    /// member's network, but `/sys/class/net` is that of the whole lab.
    ///
    /// # Panics
    /// If this process can open no more files.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program).expect("this process can open no more files")
    }

    /// The same, run by another user than root.
    ///
    /// # Panics
    /// As [`Host::command`].
    #[must_use]
    pub fn command_as(&self, person: &Person, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("HOME", "/").env("USER", person.name()).env("LOGNAME", person.name());
        // After the namespace has been entered, which is root's to do.
        sys::as_user(&mut command, person.uid(), person.gid());
        command
    }

    /// Runs a command to its end, and keeps what it writes.
    ///
    /// # Errors
    /// If it cannot be run or fails; the error has what it wrote to its standard error.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        let (program, arguments) = command.split_first().context("no command")?;
        let output = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{}: cannot run {program}", self.name()))?;
        if !output.status.success() {
            let (stdout, stderr) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            bail!(
                "{}: {}: {}\n{}{}",
                self.name(),
                command.join(" "),
                output.status,
                stdout,
                stderr.trim_end()
            );
        }
        Ok(output)
    }

    /// Runs a command to its end; what it wrote to its standard output.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn stdout(&self, command: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.run(command)?.stdout).into_owned())
    }

    /// Starts a command that goes on until its guard is dropped.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn spawn(&self, command: &[&str]) -> Result<Process> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut started = self.command(program);
        started.args(arguments).stdin(Stdio::null());
        Process::spawn(started)
    }

    /// Runs a closure on a thread of its own in this member's network namespace, and gives its value: sockets that it
    /// opens (netlink ones too) stay in that namespace. `/proc/net` is the wrong one there, `/proc/thread-self/net` the
    /// right one.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or with the closure.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        match self.namespace.enter(act) {
            Ok(value) => value,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Whether one of its interfaces has an address now.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    #[must_use]
    pub fn has_on(&self, device: &str, addr: IpAddr) -> bool {
        let has = |interface: InterfaceAddress| {
            let of = interface.address.as_ref()?;
            let of = match (of.as_sockaddr_in(), of.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::from(v4.ip()),
                (_, Some(v6)) => IpAddr::from(v6.ip()),
                (None, None) => return None,
            };
            Some(interface.interface_name == device && of == addr)
        };
        let find = || getifaddrs().ok().and_then(|mut all| all.find_map(|i| has(i).filter(|h| *h)));
        self.enter(find).is_some()
    }

    /// Sets a kernel parameter of this member, such as `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// If there is no such parameter, or not this value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.namespace
            .enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("{}: cannot set {key} to {value}", self.name()))
    }

    /// Takes the power away: the cables first, so that no connection is closed in good order, then every process.
    /// Nothing on the network answers for it any more. Sockets of this very process that are in there stay, cut off.
    ///
    /// # Errors
    /// If a process does not die.
    pub fn power_off(&self) -> Result<()> {
        for network in self.networks() {
            set_port(&self.bridge, &self.port(*network), false)?;
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
        cabling::disconnect(self)?;
        self.namespace.renew()?;
        cabling::connect(&self.bridge, &[self])
    }

    /// Captures packets on `eth0` from now on, as many as match the filter (tcpdump's language; empty for all).
    ///
    /// # Errors
    /// If tcpdump is not there or does not know the filter.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        Capture::start(self, "eth0", filter)
    }

    /// Captures packets on another device of this member; see [`Host::capture`].
    ///
    /// # Errors
    /// As [`Host::capture`].
    pub fn capture_on(&self, device: &str, filter: &str) -> Result<Capture> {
        Capture::start(self, device, filter)
    }
}
