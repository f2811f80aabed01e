//! cvip on a cluster of network namespaces: its files, its daemons, its commands.
//!
//! What the tests, the demo and the benchmarks share: they all start from "a director and N
//! nodes on which cvipd runs", and differ in what they do then.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;

use crate::cluster::{Cluster, Host, Network};
use crate::process::Process;
use crate::unit::Unit;
use crate::wait::{PATIENCE, wait_until};

/// What the cluster's members sign their heartbeats with.
pub const CLUSTER_KEY: &str = "a key of the lab's own, which is long enough";

/// A cluster with cvip's configuration; daemons are started one by one.
///
/// Nodes have the numbers 1 to N, directors the numbers after them. Where the cluster has an interconnect, clustertab has
/// the addresses there, and cvip.conf those on which the nodes are balanced.
#[derive(Debug)]
pub struct Deployment {
    /// The hosts.
    pub cluster: Cluster,
    /// The folder of cvip.conf, clustertab, the store and the logs.
    pub dir: PathBuf,
    /// Where the programs were built.
    programs: PathBuf,
    daemons: BTreeMap<u32, Process>,
    /// Every node has a folder of its own for what it keeps while it runs.
    separate_run_dirs: bool,
    /// Variables for every program of cvip, and for those on one node, which come later.
    variables: Vec<(OsString, OsString)>,
    variables_of: BTreeMap<u32, Vec<(OsString, OsString)>>,
    /// As which unit of systemd says each cvipd is confined; as root if absent.
    unit: Option<Unit>,
}

/// What goes into cvip.conf beside the nodes.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// `DR`, `NAT` or `TUN`.
    pub routing: &'a str,
    /// There is an IPv4 CVIP.
    pub ipv4: bool,
    /// There is an IPv6 CVIP.
    pub ipv6: bool,
    /// `service` elements, the same for each CVIP.
    pub services: &'a str,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Plan { routing: "DR", ipv4: true, ipv6: false, services: "" }
    }
}

impl Deployment {
    /// Writes the configuration of a cluster. `programs` is the folder of the built programs.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new(cluster: Cluster, programs: &Path, plan: &Plan<'_>) -> Result<Deployment> {
        let dir = std::env::temp_dir().join(format!("cvip-{}", cluster.director().name()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let deployment = Deployment {
            cluster,
            dir,
            programs: programs.to_owned(),
            daemons: BTreeMap::new(),
            separate_run_dirs: false,
            variables: Vec::new(),
            variables_of: BTreeMap::new(),
            unit: Unit::of_environment()?,
        };
        deployment.write_clustertab()?;
        deployment.write_conf(plan)?;
        Ok(deployment)
    }

    /// Gives every node a folder of its own for what it keeps while it runs, as each machine has: for a store that is
    /// not a folder on one host. To be called before any program has run.
    pub fn separate_run_dirs(&mut self) {
        self.separate_run_dirs = true;
    }

    /// Gives the nodes a key in common, as machines that meet in etcd need one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn share_cluster_key(&mut self) -> Result<()> {
        let path = self.dir.join("cluster.key");
        fs::write(&path, CLUSTER_KEY)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.set_env("CVIP_CLUSTER_KEY_FILE", path);
        Ok(())
    }

    /// Sets a variable of the environment of every program of cvip that is started from now on.
    pub fn set_env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.variables.push((name.into(), value.into()));
    }

    /// The same for programs on one node: it overrules what holds for all.
    pub fn set_env_of(
        &mut self,
        number: u32,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) {
        self.variables_of.entry(number).or_default().push((name.into(), value.into()));
    }

    fn write_clustertab(&self) -> Result<()> {
        let mut tab = String::from("# node  address\n");
        for number in self.numbers() {
            writeln!(tab, "{number}\t{}", self.host(number).v4_on(self.inside()))?;
        }
        fs::write(self.dir.join("clustertab"), tab)?;
        Ok(())
    }

    /// The network that only the cluster is on, if there is one.
    fn inside(&self) -> Network {
        match self.cluster.has_interconnect() {
            true => Network::Interconnect,
            false => Network::Public,
        }
    }

    /// Replaces cvip.conf; a running cvipd reads it when told.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_conf(&self, plan: &Plan<'_>) -> Result<()> {
        let families = [(plan.ipv4, false), (plan.ipv6, true)];
        let cvips: Vec<(IpAddr, &str)> = families
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, ipv6)| (self.cvip(*ipv6), plan.services))
            .collect();
        self.write_cvips(plan.routing, &cvips)
    }

    /// Replaces cvip.conf by one with these CVIPs, each with `service` elements of its own. With NAT, those of a family
    /// share the gateway.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_cvips(&self, routing: &str, cvips: &[(IpAddr, &str)]) -> Result<()> {
        let mut conf =
            format!("<?xml version=\"1.0\"?>\n<cvips>\n  <routing>{routing}</routing>\n");
        for (addr, services) in cvips {
            conf += &self.cvip_element(routing, *addr, services)?;
        }
        conf += "</cvips>\n";
        fs::write(self.dir.join("cvip.conf"), conf)?;
        Ok(())
    }

    fn cvip_element(&self, routing: &str, cvip: IpAddr, services: &str) -> Result<String> {
        let mut conf = format!("  <cvip>\n    <ip_addr>{cvip}</ip_addr>\n");
        if routing == "NAT" {
            writeln!(conf, "    <gateway>{}</gateway>", self.gateway(cvip.is_ipv6()))?;
        }
        let inside = self.inside();
        for number in self.directors() {
            writeln!(
                conf,
                "    <director_node><node_num>{number}</node_num>\
                 <garp_interface>eth0</garp_interface>\
                 <sync_interface>{}</sync_interface></director_node>",
                inside.device(),
            )?;
        }
        for number in self.numbers() {
            let host = self.host(number);
            // What clustertab says needs no repetition.
            let addr = match (cvip.is_ipv6(), inside) {
                (true, _) => format!("<ip_addr>{}</ip_addr>", host.v6()),
                (false, Network::Interconnect) => format!("<ip_addr>{}</ip_addr>", host.v4()),
                (false, Network::Public) => String::new(),
            };
            writeln!(
                conf,
                "    <real_server_node><node_num>{number}</node_num>{addr}</real_server_node>",
            )?;
        }
        writeln!(conf, "{services}\n  </cvip>")?;
        Ok(conf)
    }

    /// The virtual address.
    pub fn cvip(&self, ipv6: bool) -> IpAddr {
        match ipv6 {
            false => self.cluster.vip4(1).into(),
            true => self.cluster.vip6(1).into(),
        }
    }

    /// The address that the active director carries for the nodes' default route with NAT.
    pub fn gateway(&self, ipv6: bool) -> IpAddr {
        match ipv6 {
            false => self.cluster.vip4(2).into(),
            true => self.cluster.vip6(2).into(),
        }
    }

    /// Every node number: the nodes, then the directors.
    pub fn numbers(&self) -> std::ops::RangeInclusive<u32> {
        1..=(self.cluster.nodes().len() + self.cluster.directors().len()) as u32
    }

    /// The directors' numbers.
    pub fn directors(&self) -> std::ops::RangeInclusive<u32> {
        self.director()..=*self.numbers().end()
    }

    /// The number of the first director.
    pub fn director(&self) -> u32 {
        self.cluster.nodes().len() as u32 + 1
    }

    /// The host with a node number.
    ///
    /// # Panics
    /// There is no such node.
    pub fn host(&self, number: u32) -> &Host {
        let (nodes, directors) = (self.cluster.nodes(), self.cluster.directors());
        let index = number as usize - 1;
        nodes.get(index).unwrap_or_else(|| &directors[index - nodes.len()])
    }

    /// Starts cvipd on a node; its log goes to `cvipd-N.log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, number: u32, options: &[&str]) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log(number))?;
        let mut command = match &self.unit {
            None => self.command(number, "cvipd"),
            Some(unit) => self.confined(number, unit)?,
        };
        command.args(options).stderr(log);
        let process = Process::spawn(command)?;
        self.daemons.insert(number, process);
        Ok(())
    }

    /// cvipd as its unit confines it. Its user owns the run folder, and has the secrets as files of its own.
    fn confined(&self, number: u32, unit: &Unit) -> Result<std::process::Command> {
        let on = |program: &str| self.host(number).command(program);
        let mut command = unit.confine(on, &self.programs.join("cvipd"));
        self.environment_of(number, &mut command);
        Unit::give(&self.run_dir_of(number))?;
        let secret = self.dir.join("cluster.key");
        if secret.exists() {
            let own = self.dir.join("secrets");
            Unit::give(&own)?;
            fs::copy(&secret, own.join("cluster.key"))?;
            Unit::give(&own.join("cluster.key"))?;
            command.env("CVIP_CLUSTER_KEY_FILE", own.join("cluster.key"));
        }
        Ok(command)
    }

    /// Starts cvipd on every node.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_all(&mut self, options: &[&str]) -> Result<()> {
        self.numbers().try_for_each(|number| self.start(number, options))
    }

    /// The process of a node's cvipd, taken from this deployment's care.
    pub fn take_daemon(&mut self, number: u32) -> Option<Process> {
        self.daemons.remove(&number)
    }

    /// Kills a node's cvipd with SIGKILL, and waits for its end.
    pub fn kill_daemon(&mut self, number: u32) {
        drop(self.daemons.remove(&number));
    }

    /// The running cvipd of a node.
    pub fn daemon(&mut self, number: u32) -> Option<&mut Process> {
        self.daemons.get_mut(&number)
    }

    /// The process number of a node's cvipd.
    pub fn daemon_pid(&self, number: u32) -> Option<Pid> {
        self.daemons.get(&number).map(Process::pid)
    }

    /// Where a node's cvipd logs.
    pub fn log(&self, number: u32) -> PathBuf {
        self.dir.join(format!("cvipd-{number}.log"))
    }

    /// What a node's cvipd has logged.
    pub fn logged(&self, number: u32) -> String {
        fs::read_to_string(self.log(number)).unwrap_or_default()
    }

    /// Waits until every node has written a record, as the first director's cvipd sees it.
    ///
    /// # Errors
    /// One does not, with what all of them have logged.
    pub fn await_records(&self) -> Result<()> {
        let all = wait_until(PATIENCE, || {
            let json = self.run(self.director(), &["cvipctl", "status", "--json"]).ok()?;
            (!json.contains("\"event_source\": null")).then_some(())
        });
        all.with_context(|| format!("not every cvipd wrote a record\n{}", self.logs()))
    }

    /// What every cvipd has logged.
    pub fn logs(&self) -> String {
        let log = |number| format!("--- cvipd of node {number}\n{}\n", self.logged(number));
        self.numbers().map(log).collect()
    }

    /// Takes the power from a node's machine; its cvipd is gone with it. See [`Host::power_off`].
    ///
    /// # Errors
    /// A process does not die.
    pub fn power_off(&mut self, number: u32) -> Result<()> {
        self.host(number).power_off()?;
        self.kill_daemon(number);
        Ok(())
    }

    /// Starts a node's machine again, without its cvipd; see [`Host::power_on`]. What it kept while it ran is gone, if
    /// that was its own.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn power_on(&mut self, number: u32) -> Result<()> {
        self.power_off(number)?;
        let run_dir = self.run_dir_of(number);
        if self.separate_run_dirs && run_dir.exists() {
            fs::remove_dir_all(&run_dir)
                .with_context(|| format!("cannot remove {}", run_dir.display()))?;
        }
        self.host(number).power_on()
    }

    /// A command of cvip on a node, with this deployment's files.
    pub fn command(&self, number: u32, program: &str) -> std::process::Command {
        let mut command = self.host(number).command(&self.programs.join(program).to_string_lossy());
        self.environment_of(number, &mut command);
        command
    }

    /// Points a command at this deployment's files, on a node or elsewhere.
    pub fn environment(&self, command: &mut std::process::Command) {
        command
            .env("CVIP_CONF", self.dir.join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", self.dir.join("clustertab"))
            .env("CVIP_RUN_DIR", self.run_dir())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Points a command at a node's files.
    pub fn environment_of(&self, number: u32, command: &mut std::process::Command) {
        self.environment(command);
        command.env("CVIP_RUN_DIR", self.run_dir_of(number));
        let own = self.variables_of.get(&number);
        command.envs(own.into_iter().flatten().map(|(name, value)| (name, value)));
    }

    /// The folder that the nodes share, with the store in it.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The folder for what a node keeps while it runs: the shared one, or its own.
    pub fn run_dir_of(&self, number: u32) -> PathBuf {
        match self.separate_run_dirs {
            true => self.dir.join(format!("run-{number}")),
            false => self.run_dir(),
        }
    }

    /// Runs a command of cvip on a node to its end.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn try_run(&self, number: u32, line: &[&str]) -> Result<Output> {
        self.command(number, line[0])
            .args(&line[1..])
            .output()
            .with_context(|| format!("cannot run {line:?}"))
    }

    /// Runs a command of cvip on a node and returns its standard output.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn run(&self, number: u32, line: &[&str]) -> Result<String> {
        let output = self.try_run(number, line)?;
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line:?} on node {number}: {}: {err}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
