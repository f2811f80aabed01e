//! One member of a cluster, as a test sees it: a machine that runs commands, can lose its cable, and can die.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::address::{self, Member};
use super::{Capture, Process};
use crate::netns::Namespace;
use crate::sys;

/// One member of a cluster.
#[derive(Debug)]
pub struct Host {
    member: Member,
    subnet: u8,
    namespace: Namespace,
    bridge: Arc<Namespace>,
}

impl Host {
    pub(super) fn new(
        cluster: &str,
        member: Member,
        subnet: u8,
        bridge: Arc<Namespace>,
    ) -> Result<Self> {
        let namespace = Namespace::new(&format!("{cluster}-{}", member.short()))?;
        Ok(Self { member, subnet, namespace, bridge })
    }

    /// Its name, which is its network namespace's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// The IPv4 address of its `eth0`, in a network of 24 bits.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        address::v4(self.subnet, self.member.last())
    }

    /// The IPv6 address of its `eth0`, in a network of 64 bits.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        address::v6(self.subnet, self.member.last())
    }

    /// The hardware address of its `eth0`, as tcpdump and ip write it.
    #[must_use]
    pub fn mac(&self) -> String {
        address::mac(self.subnet, self.member.last())
    }

    /// Its port on the bridge.
    pub(super) fn port(&self) -> String {
        self.member.short()
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
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

    /// Pulls the cable out: `eth0` loses its carrier, and nothing gets in or out.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn cut_link(&self) -> Result<()> {
        self.set_port(false)
    }

    /// Puts the cable in again.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mend_link(&self) -> Result<()> {
        self.set_port(true)
    }

    fn set_port(&self, up: bool) -> Result<()> {
        self.bridge
            .enter(|| sys::set_link(&self.port(), up))?
            .with_context(|| format!("{}: cannot switch its port on the bridge", self.name()))
    }

    /// Lets the machine die: the cable first, so that no connection is closed in good order, then every process in it.
    ///
    /// # Errors
    /// If a process does not die.
    pub fn kill(&self) -> Result<()> {
        self.cut_link()?;
        self.namespace.kill_all()
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
