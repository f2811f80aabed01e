//! A cluster on one kernel: each member a network namespace with its own address on one bridge.
//!
//! For use inside the lab. A member can be cut off, killed as if its machine had died, and
//! listened to; everything is gone when the [`Cluster`] is dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::sys;

/// Numbers of the networks that are in use: clusters that live at once differ in theirs.
static NETWORKS: Mutex<[bool; 250]> = Mutex::new([false; 250]);

/// A cluster in the making.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    directors: usize,
    nodes: usize,
    client: bool,
}

impl Builder {
    /// One director, or two: the second is the standby.
    #[must_use]
    pub fn directors(mut self, number: usize) -> Self {
        self.directors = number;
        self
    }

    /// How many nodes.
    #[must_use]
    pub fn nodes(mut self, number: usize) -> Self {
        self.nodes = number;
        self
    }

    /// With a client or without.
    #[must_use]
    pub fn client(mut self, wanted: bool) -> Self {
        self.client = wanted;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// `ip` is missing, or refuses: not root, or a cluster of this name lives.
    pub fn build(self) -> Result<Cluster> {
        let network = {
            let mut networks = NETWORKS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let free = networks.iter().position(|used| !used).context("too many clusters")?;
            networks[free] = true;
            free as u8
        };
        let bridge = format!("{}-br", self.name);
        let mut cluster = Cluster {
            name: self.name.clone(),
            network,
            bridge: bridge.clone(),
            directors: Vec::new(),
            nodes: Vec::new(),
            client: None,
        };
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge", "stp_state", "0"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        let member = |role: String, number: usize| {
            Host::new(format!("{}-{role}", self.name), network, number as u8, &bridge)
        };
        for number in 1..=self.directors {
            cluster.directors.push(member(format!("d{number}"), number)?);
        }
        for number in 1..=self.nodes {
            cluster.nodes.push(member(format!("n{number}"), 10 + number)?);
        }
        if self.client {
            cluster.client = Some(member("c".to_owned(), 200)?);
        }
        Ok(cluster)
    }
}

/// Hosts on one bridge.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    network: u8,
    bridge: String,
    directors: Vec<Host>,
    nodes: Vec<Host>,
    client: Option<Host>,
}

impl Cluster {
    /// A cluster of this name, at most eight letters: its hosts are `NAME-d1`, `NAME-n1`, `NAME-c`.
    pub fn builder(name: &str) -> Builder {
        Builder { name: name.to_owned(), directors: 1, nodes: 1, client: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The director, and the standby if there is one.
    pub fn directors(&self) -> &[Host] {
        &self.directors
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Host] {
        &self.nodes
    }

    /// The client.
    pub fn client(&self) -> Option<&Host> {
        self.client.as_ref()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.directors.clear();
        self.nodes.clear();
        self.client = None;
        // A namespace that is gone already is what is wanted.
        let _ = ip(&["netns", "del", &self.bridge]);
        let mut networks = NETWORKS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        networks[usize::from(self.network)] = false;
    }
}

/// One member: a network namespace with `lo` and `eth0`.
#[derive(Debug)]
pub struct Host {
    name: String,
    bridge: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    namespace: File,
}

impl Host {
    fn new(name: String, network: u8, number: u8, bridge: &str) -> Result<Host> {
        ip(&["netns", "add", &name])?;
        let namespace = File::open(format!("/run/netns/{name}"))
            .with_context(|| format!("cannot open the namespace {name}"))?;
        let v4 = Ipv4Addr::new(10, 77, network, number);
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, network.into(), 0, 0, 0, number.into());
        let host = Host { name, bridge: bridge.to_owned(), v4, v6, namespace };
        let (name, port) = (&host.name, host.port());
        host.run(&["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"])?;
        ip(&[
            "-n", bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            name,
        ])?;
        ip(&["-n", bridge, "link", "set", &port, "master", "br0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{v4}/24"), "dev", "eth0"])?;
        ip(&["-n", name, "addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
        Ok(host)
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address, in a /24.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address, in a /64.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    /// The hardware address of `eth0`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn mac(&self) -> Result<String> {
        let output = self.run(&["cat", "/sys/class/net/eth0/address"]);
        match output {
            Ok(text) => Ok(text.trim().to_owned()),
            // /sys may show another namespace: ask ip.
            Err(_) => {
                let text = ip(&["-n", &self.name, "-br", "link", "show", "eth0"])?;
                text.split_whitespace().nth(2).map(str::to_owned).context("eth0 has no address")
            }
        }
    }

    /// The name of its end at the bridge.
    fn port(&self) -> String {
        let role = self.name.rsplit('-').next().unwrap_or_default();
        format!("port-{role}")
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        match self.namespace() {
            Ok(namespace) => drop(sys::in_network_namespace(&mut command, namespace)),
            // Never on another host: a command that cannot start says so.
            Err(_) => command = Command::new("/nonexistent/network-namespace"),
        }
        command.stdin(Stdio::null());
        command
    }

    fn namespace(&self) -> Result<OwnedFd> {
        Ok(self.namespace.try_clone()?.into())
    }

    /// Runs a command on this host to its end and returns what it printed.
    ///
    /// # Errors
    /// It cannot be run, or fails; the error has its standard error.
    pub fn run(&self, line: &[&str]) -> Result<String> {
        let (program, arguments) = line.split_first().context("no command")?;
        let output = self.command(program).args(arguments).output();
        succeeded(line, output.with_context(|| format!("cannot run {program}"))?)
    }

    /// Starts a command on this host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, line: &[&str]) -> Result<Process> {
        let (program, arguments) = line.split_first().context("no command")?;
        let mut command = self.command(program);
        command.args(arguments);
        Process::spawn(command)
    }

    /// Runs a closure on this host: on a thread of its own, in the host's namespace. Sockets
    /// that it opens stay the host's.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    ///
    /// # Panics
    /// The closure does.
    pub fn enter<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = self.namespace()?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || -> Result<T> {
                setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .context("cannot enter the namespace (not root?)")?;
                Ok(closure())
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Unplugs its cable: nothing arrives, nothing leaves, and it is not told.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn cut_link(&self) -> Result<()> {
        ip(&["-n", &self.bridge, "link", "set", &self.port(), "nomaster"]).map(drop)
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn mend_link(&self) -> Result<()> {
        ip(&["-n", &self.bridge, "link", "set", &self.port(), "master", "br0"]).map(drop)
    }

    /// As if its machine had died: unplugged, and every process of it killed.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn kill(&self) -> Result<()> {
        self.cut_link()?;
        for pid in ip(&["netns", "pids", &self.name])?.split_whitespace() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Starts to capture packets on `eth0` that match a filter of tcpdump; returns once it
    /// captures.
    ///
    /// # Errors
    /// tcpdump is missing, or does not like the filter.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        let path = std::env::temp_dir().join(format!("{}-{}.txt", self.name, unique()));
        let mut command = self.command("tcpdump");
        command.args(["-i", "eth0", "-nn", "-l", "-e", "--immediate-mode", filter]);
        command.stdout(File::create(&path)?).stderr(Stdio::piped());
        let mut process = Process::spawn(command)?;
        let errors = process.child.stderr.take().context("tcpdump has a standard error")?;
        let mut said = String::new();
        for line in BufReader::new(errors).lines() {
            let line = line?;
            if line.contains("listening on") {
                return Ok(Capture { process, path });
            }
            said.push_str(&line);
        }
        anyhow::bail!("tcpdump does not capture: {said}")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Whatever still runs there would keep the namespace; a host that is gone has nothing.
        if let Ok(pids) = ip(&["netns", "pids", &self.name]) {
            for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    path: PathBuf,
}

impl Capture {
    /// Ends it and returns a line for each packet, with the hardware addresses.
    ///
    /// # Errors
    /// What was captured cannot be read.
    pub fn stop(mut self) -> Result<Vec<String>> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait()?;
        let text = std::fs::read_to_string(&self.path)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: bool,
}

impl Process {
    /// Starts a command.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command) -> Result<Process> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Process { child, group: false })
    }

    /// Starts a command in a process group of its own: killed, its children are killed too.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_group(mut command: Command) -> Result<Process> {
        command.process_group(0);
        let mut process = Process::spawn(command)?;
        process.group = true;
        Ok(process)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it, or its group, a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        match self.group {
            true => killpg(pid, signal)?,
            false => kill(pid, signal)?,
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; it is waited for in any case.
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// There was none in time.
pub fn wait_until<T>(
    within: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("cannot run ip")?;
    let mut line = vec!["ip"];
    line.extend(arguments);
    succeeded(&line, output)
}

fn succeeded(line: &[&str], output: Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {}", line.join(" "), output.status, error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
