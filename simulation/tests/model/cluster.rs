//! The real cluster: machines in network namespaces with a cvipd each, three etcd servers, a
//! client; and how each step is carried out on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cvip::conf::Xml;
use cvip::cores::service_key;
use cvip::ipvs::{Change, Client, Destination, Forwarding, Service};
use cvip::protocol::Protocol;
use cvip::store::ServiceKey;
use cvip_lab::etcd::{Etcd, Settings};
use cvip_lab::{
    Cluster, Deployment, Direction, Host, Impairment, Network, Plan, built_programs, unique_name,
};
use cvip_simulation::cluster::conf::protocol_of;
use cvip_simulation::cluster::faults::{Fault, Ms, TableEdit};
use nix::sys::signal::{Signal, kill};

use super::servers::Servers;
use cvip_simulation::real::schedule::{Step, TimedStep};
use cvip_simulation::real::world::{Addresses, DIRECTORS, NODES, World};

/// How often it is looked whether a cvipd has ended.
const TEND_EVERY: Duration = Duration::from_millis(50);

/// A cvipd that cannot start is started again after this: its cvip.conf has a fault, or its
/// machine was off for less than the lifetime of its lease, which no one else may take over.
const START_EVERY: Duration = Duration::from_secs(1);

/// A cvipd has read its cvip.conf within this.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// For so long `cvipctl leave` lets connections go on.
const LEAVE_WITHIN: &str = "2s";

/// A command of cvip's ends within this once no fault lasts: its own time-outs are shorter.
const COMMANDS_END_WITHIN: Duration = Duration::from_secs(60);

/// What an operator was refused is ordered again for so long.
const ORDERS_SUCCEED_WITHIN: Duration = Duration::from_secs(60);

/// The settings that cvipd changes with direct routing.
const SETTINGS: [&str; 7] = [
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.vs.backup_only",
    "net.ipv4.vs.conn_reuse_mode",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.vs.sloppy_tcp",
];

/// What comes later than a step's beginning.
enum Event {
    Begin(Step),
    End(Fault, Vec<cvip_lab::Fault>),
    Toggle { node: u32, port: u16, opens: bool },
    Conf { node: u32 },
    Late { node: u32, stops: bool },
}

/// What of a command is remembered until it is known to have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Flag(Option<u32>, (Protocol, u16)),
    Drain(u32),
}

/// A command of an operator's that runs.
struct Command {
    target: Option<Target>,
    child: Child,
}

/// Why a cvipd may be away, and whether its end is expected.
#[derive(Default)]
struct Daemon {
    /// So many faults keep it from being started.
    away: u32,
    /// Its end is expected.
    may_end: bool,
    /// So many faults keep its cvip.conf broken.
    broken: u32,
    /// Its machine has booted, and its own lease of before may still keep it from starting.
    is_booting: bool,
    last_start: Option<Instant>,
}

/// The real cluster, and the world as the steps leave it.
pub(crate) struct RealCluster {
    deployment: Deployment,
    etcd: Etcd,
    etcd_down: BTreeMap<usize, u32>,
    servers: Servers,
    daemons: BTreeMap<u32, Daemon>,
    tables: BTreeMap<u32, Client>,
    commands: Vec<Command>,
    /// What an operator wants that was ordered in this burst: the last order of each target.
    orders: BTreeMap<Target, (u32, Vec<String>)>,
    impaired: bool,
    /// The settings that cvipd changes, as a kernel that has just booted has them.
    settings: Vec<(String, String)>,
    /// The world that the steps lead to.
    pub(crate) world: World,
}

impl RealCluster {
    /// Builds the machines, starts the store, the servers and every cvipd.
    pub(crate) fn start() -> Result<RealCluster> {
        cvip_lab::require();
        let (directors, nodes) = (DIRECTORS.len(), NODES.count() - DIRECTORS.len());
        let builder = Cluster::builder(&unique_name("m"))
            .directors(u8::try_from(directors)?)
            .nodes(u8::try_from(nodes)?)
            .stores(3);
        let cluster = builder.build()?;
        let etcd = Etcd::start(&cluster, Settings::default())?;
        let mut deployment = Deployment::new(cluster, &built_programs(), &Plan::default())?;
        deployment.separate_run_dirs();
        deployment.share_cluster_key()?;
        for (name, value) in etcd.variables() {
            deployment.set_env(name, value);
        }
        let host = |node: u32| deployment.host(node);
        let world = World::new(Addresses {
            cvips: [deployment.cvip(false), deployment.cvip(true)],
            nodes: NODES
                .map(|node| (node, [host(node).v4().into(), host(node).v6().into()]))
                .collect(),
            stranger: [deployment.cluster.vip4(40).into(), deployment.cluster.vip6(40).into()],
        });
        for node in NODES {
            deployment.set_env_of(node, "CVIP_CONF", conf_path(&deployment, node));
        }
        let mut cluster = RealCluster {
            deployment,
            etcd,
            etcd_down: BTreeMap::new(),
            servers: Servers::default(),
            daemons: NODES.map(|node| (node, Daemon::default())).collect(),
            tables: BTreeMap::new(),
            commands: Vec::new(),
            orders: BTreeMap::new(),
            impaired: false,
            settings: Vec::new(),
            world,
        };
        let host = cluster.host(1);
        cluster.settings = SETTINGS.map(|name| (name.to_owned(), host.setting(name))).to_vec();
        for node in NODES {
            cluster.write_conf(node)?;
            cluster.boot(node)?;
        }
        cluster.tend()?;
        Ok(cluster)
    }

    /// A node's host.
    pub(crate) fn host(&self, node: u32) -> &Host {
        self.deployment.host(node)
    }

    /// The client.
    pub(crate) fn client(&self) -> &Host {
        self.deployment.cluster.client()
    }

    /// A client of the kernel's table on a node.
    pub(crate) fn table(&mut self, node: u32) -> Result<&mut Client> {
        if !self.tables.contains_key(&node) {
            let opened = self.host(node).enter(Client::open)?;
            self.tables.insert(node, opened);
        }
        Ok(self.tables.get_mut(&node).expect("it was just put there"))
    }

    /// What a command of cvip's prints on a node.
    pub(crate) fn ask(&self, node: u32, line: &[&str]) -> Result<String> {
        self.deployment.run(node, line)
    }

    /// The ends of what every cvipd and etcd have logged.
    pub(crate) fn logs(&self, lines: usize) -> String {
        let end = |text: String| {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        };
        let one =
            |node| format!("--- cvipd of node {node}\n{}\n", end(self.deployment.logged(node)));
        NODES.map(one).collect()
    }

    /// Does what a burst says, until no fault lasts.
    pub(crate) fn burst(&mut self, burst: &[TimedStep], note: &mut dyn FnMut(&str)) -> Result<()> {
        let begin = Instant::now();
        let mut number = 0;
        let mut queue: BTreeMap<(Ms, u32), Event> = BTreeMap::new();
        for timed in burst {
            number += 1;
            queue.insert((timed.at_ms, number), Event::Begin(timed.step.clone()));
        }
        while let Some(((at, _), event)) = queue.pop_first() {
            let at = begin + Duration::from_millis(at);
            loop {
                self.tend()?;
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(TEND_EVERY));
            }
            let later = match event {
                Event::Begin(step) => {
                    note(&format!("{step:?}"));
                    self.begin(&step).with_context(|| format!("cannot do {step:?}"))?
                }
                Event::End(fault, guards) => {
                    if fault.length() > Duration::ZERO {
                        note(&format!("end of {fault:?}"));
                    }
                    self.end(&fault, guards).with_context(|| format!("cannot end {fault:?}"))?;
                    Vec::new()
                }
                Event::Toggle { node, port, opens } => {
                    self.listen(node, port, opens)?;
                    Vec::new()
                }
                Event::Conf { node } => {
                    self.read_conf(node)?;
                    Vec::new()
                }
                Event::Late { node, stops } => {
                    self.signal(node, if stops { Signal::SIGSTOP } else { Signal::SIGCONT });
                    Vec::new()
                }
            };
            let now = u64::try_from(begin.elapsed().as_millis())?;
            for (after, event) in later {
                number += 1;
                queue.insert((now + after, number), event);
            }
        }
        self.orders_succeed()
    }

    /// Starts every cvipd that should run and does not, as a service manager does.
    ///
    /// # Errors
    /// One has ended by itself.
    pub(crate) fn tend(&mut self) -> Result<()> {
        for node in NODES {
            let runs = self.deployment.daemon(node).is_some_and(|process| process.is_running());
            let daemon = self.daemons.get_mut(&node).expect("every node has one");
            let ran_for = daemon.last_start.map(|at| at.elapsed());
            if runs {
                daemon.is_booting &= ran_for.is_some_and(|time| time < STARTS_WITHIN);
            }
            if runs || daemon.away > 0 || !self.world.machines[&node].is_up {
                continue;
            }
            if let Some(mut process) = self.deployment.take_daemon(node)
                && !daemon.may_end
            {
                bail!("cvipd of node {node} ended by itself: {:?}", process.wait(Duration::ZERO));
            }
            if ran_for.is_some_and(|time| time < START_EVERY) {
                continue;
            }
            // One that cannot start ends, and is started again.
            daemon.may_end = daemon.broken > 0 || daemon.is_booting;
            daemon.last_start = Some(Instant::now());
            self.deployment.start(node, &["--log=info"])?;
        }
        Ok(())
    }

    fn begin(&mut self, step: &Step) -> Result<Vec<(Ms, Event)>> {
        match step {
            Step::Fault(fault) => self.begin_fault(fault),
            Step::Listen { node, service: (protocol, port), ipv6, opens } => {
                self.set_socket(*node, (*protocol, *port, *ipv6), *opens)?;
                Ok(Vec::new())
            }
            Step::Flag { node, service, weight } => {
                self.flag(*node, *service, *weight)?;
                Ok(Vec::new())
            }
            Step::Drain { node, is_ordered } => {
                self.drain(*node, *is_ordered)?;
                Ok(Vec::new())
            }
        }
    }

    fn begin_fault(&mut self, fault: &Fault) -> Result<Vec<(Ms, Event)>> {
        let mut later = Vec::new();
        let mut guards = Vec::new();
        match fault {
            Fault::Kill { node } => {
                self.daemon(*node).away += 1;
                self.deployment.kill_daemon(*node);
            }
            Fault::Terminate { node, .. } => {
                let daemon = self.daemon(*node);
                (daemon.away, daemon.may_end) = (daemon.away + 1, true);
                self.signal(*node, Signal::SIGTERM);
            }
            Fault::Leave { node, .. } => {
                let daemon = self.daemon(*node);
                (daemon.away, daemon.may_end) = (daemon.away + 1, true);
                self.order(*node, None, &["cvipctl", "leave", "--within", LEAVE_WITHIN])?;
            }
            Fault::Crash { node, .. } => {
                self.daemon(*node).away += 1;
                self.crash(*node)?;
            }
            Fault::Stop { node, .. } => self.signal(*node, Signal::SIGSTOP),
            Fault::Pause { node, .. } if self.world.machines[node].is_up => {
                guards.push(self.host(*node).freeze()?);
            }
            Fault::Busy { node, late_ms, for_ms } => {
                let late = (*late_ms).max(20);
                for time in 0..*for_ms / (2 * late) {
                    later.push((2 * late * time, Event::Late { node: *node, stops: true }));
                    later.push((2 * late * time + late, Event::Late { node: *node, stops: false }));
                }
            }
            Fault::Cut { from, to, .. } if from != to => {
                let (from, to) = (self.host(*from), self.host(*to));
                guards.push(from.part_from(to, Network::Public, Direction::From)?);
            }
            Fault::Partition { nodes, .. } => guards = self.partition(nodes)?,
            Fault::Unplug { node, .. } if self.world.machines[node].is_up => {
                guards.push(self.host(*node).unplug(Network::Public)?);
            }
            Fault::BadNetwork { loss_percent, delay_ms, .. } if !self.impaired => {
                self.impaired = true;
                let bad = Impairment {
                    loss_percent: *loss_percent as f32,
                    delay: Duration::from_millis(*delay_ms / 2),
                    jitter: Duration::from_millis(*delay_ms / 2),
                    reorder_percent: 0.0,
                };
                for node in NODES {
                    guards.push(self.host(node).impair(Network::Public, Direction::To, bad)?);
                }
            }
            Fault::NoStore { node, .. } => {
                let host = self.host(*node);
                for store in self.deployment.cluster.stores() {
                    guards.push(host.part_from(store, Network::Public, Direction::Both)?);
                }
            }
            Fault::ServerPause { server, .. } => guards.push(self.etcd.host(server + 1).freeze()?),
            Fault::ServerStop { server, .. } => self.stop_server(server + 1),
            Fault::StoreAway { .. } => self.etcd.numbers().for_each(|n| self.stop_server(n)),
            Fault::NewLeader => self.new_leader(),
            Fault::Compact => self.compact(),
            Fault::StoreEmptied => {
                let all = ["--command-timeout=2s", "del", "--prefix", "/cvip/"];
                // It may be done although no answer comes.
                let _ = self.etcd.ctl(&all);
                // Drains and flags of all nodes stand there alone: an operator orders them again.
                for node in self.world.drained.clone() {
                    self.drain(node, true)?;
                }
                for (service, weight) in self.world.flags.clone() {
                    self.flag(None, service, Some(weight))?;
                }
            }
            Fault::ServerDown { node, port, .. } => self.listen(*node, *port, false)?,
            Fault::Flap { node, port, times, every_ms } => {
                for time in 0..u64::from(*times) * 2 {
                    let opens = time % 2 == 1;
                    let event = Event::Toggle { node: *node, port: *port, opens };
                    later.push((every_ms * time / 2, event));
                }
            }
            Fault::Flush { node } => {
                self.hand(*node, &[Change::Flush])?;
                self.world.machine(*node).foreign.clear();
            }
            Fault::EditTable { node, what } => self.edit(*node, *what)?,
            Fault::ForeignService { node, port } => {
                let cvip = self.world.addresses.cvips[0];
                let key = ServiceKey { cvip, protocol: Protocol::Tcp, port: *port };
                if self.world.machines[node].is_up && self.world.machine(*node).foreign.insert(key)
                {
                    let (service, to) = self.world.foreign(key);
                    let id = service.id;
                    let changes = [Change::AddService(service), Change::AddDestination(id, to)];
                    self.hand(*node, &changes)?;
                }
            }
            Fault::RemoveAddress { node } => {
                for cvip in self.world.addresses.cvips {
                    remove_address(self.host(*node), cvip);
                }
            }
            Fault::SetSysctl { node } => {
                self.host(*node).sysctl("net.ipv4.conf.all.arp_ignore", "0")?;
            }
            Fault::Flag { node, port, weight } => {
                self.flag(*node, (protocol_of(*port), *port), *weight)?;
            }
            Fault::Drain { node, .. } => self.drain(*node, true)?,
            Fault::TakeOver { node } if self.world.machines[node].is_up => {
                self.order(*node, None, &["cvipctl", "takeover"])?;
            }
            Fault::Reload { layout, order, every_ms } => {
                self.world.layout = *layout;
                for (index, node) in order.iter().enumerate() {
                    later.push((every_ms * index as u64, Event::Conf { node: *node }));
                }
            }
            Fault::BrokenConf { node, .. } => {
                self.daemon(*node).broken += 1;
                fs::write(
                    conf_path(&self.deployment, *node),
                    "<cvips><routing>DR</routing><cvip>",
                )?;
                let daemon = self.daemon(*node);
                // One that has only just begun may read the faulty file, and ends then.
                daemon.may_end |= daemon.last_start.is_some_and(|at| at.elapsed() < STARTS_WITHIN);
                self.reload(*node)?;
            }
            _ => {}
        }
        let length = u64::try_from(fault.length().as_millis())?;
        later.push((length, Event::End(fault.clone(), guards)));
        Ok(later)
    }

    fn end(&mut self, fault: &Fault, guards: Vec<cvip_lab::Fault>) -> Result<()> {
        match fault {
            Fault::Kill { node } | Fault::Terminate { node, .. } | Fault::Leave { node, .. } => {
                self.daemon(*node).away -= 1;
            }
            Fault::Crash { node, .. } => {
                self.daemon(*node).away -= 1;
                if !self.world.machines[node].is_up {
                    self.power_on(*node)?;
                    self.daemon(*node).is_booting = true;
                    self.boot(*node)?;
                }
            }
            Fault::Stop { node, .. } | Fault::Busy { node, .. } => {
                self.signal(*node, Signal::SIGCONT);
            }
            // A machine that is off has no link.
            Fault::Unplug { node, .. } if !self.world.machines[node].is_up => {
                guards.into_iter().for_each(std::mem::forget);
                return Ok(());
            }
            Fault::BadNetwork { .. } if !guards.is_empty() => self.impaired = false,
            Fault::ServerStop { server, .. } => self.start_server(server + 1)?,
            Fault::StoreAway { .. } => {
                for number in self.etcd.numbers() {
                    self.start_server(number)?;
                }
            }
            Fault::ServerDown { node, port, .. } | Fault::Flap { node, port, .. } => {
                self.listen(*node, *port, true)?;
            }
            Fault::Drain { node, .. } => self.drain(*node, false)?,
            Fault::BrokenConf { node, .. } => {
                self.daemon(*node).broken -= 1;
                self.read_conf(*node)?;
            }
            _ => {}
        }
        // What a guard cannot undo went with a machine that was off in the meantime.
        drop(guards);
        Ok(())
    }

    fn daemon(&mut self, node: u32) -> &mut Daemon {
        self.daemons.get_mut(&node).expect("every node has one")
    }

    fn signal(&self, node: u32, signal: Signal) {
        if let Some(pid) = self.deployment.daemon_pid(node) {
            // It may have ended.
            let _ = kill(pid, signal);
        }
    }

    fn boot(&mut self, node: u32) -> Result<()> {
        for socket in self.world.boot(node) {
            self.servers.open(self.deployment.host(node), node, socket)?;
        }
        Ok(())
    }

    fn crash(&mut self, node: u32) -> Result<()> {
        self.deployment.power_off(node)?;
        self.world.crash(node);
        self.servers.close_all(node);
        // Flags went with the run folder.
        self.orders.retain(|target, _| !matches!(target, Target::Flag(of, _) if *of == Some(node)));
        Ok(())
    }

    /// Puts a machine's kernel and run folder back to what they are at a boot, and its cable in. Its
    /// network namespace stays the same: Linux 6.1 may never free the devices of one that was
    /// balanced in, and then every other waits for it.
    fn power_on(&mut self, node: u32) -> Result<()> {
        let settings = self.settings.clone();
        let cvips = self.world.addresses.cvips;
        let table = self.table(node)?;
        let daemons = table.daemons()?.into_iter();
        let stop = daemons.map(|daemon| Change::StopDaemon(daemon.role, daemon.sync_id));
        table.apply(&stop.chain([Change::Flush]).collect::<Vec<_>>())?;
        let run_dir = self.deployment.run_dir_of(node);
        if run_dir.exists() {
            fs::remove_dir_all(&run_dir)?;
        }
        let host = self.host(node);
        for cvip in cvips {
            remove_address(host, cvip);
        }
        for (name, value) in settings {
            host.sysctl(&name, &value)?;
        }
        host.unplug(Network::Public)?.end()
    }

    fn set_socket(&mut self, node: u32, socket: (Protocol, u16, bool), opens: bool) -> Result<()> {
        if !self.world.machines[&node].is_up {
            return Ok(());
        }
        match opens {
            true => {
                self.servers.open(self.deployment.host(node), node, socket)?;
                self.world.machine(node).sockets.insert(socket);
            }
            false => {
                self.servers.close(node, socket);
                self.world.machine(node).sockets.remove(&socket);
            }
        }
        Ok(())
    }

    /// The servers of both families open or close a port.
    fn listen(&mut self, node: u32, port: u16, opens: bool) -> Result<()> {
        let protocol = protocol_of(port);
        [false, true]
            .into_iter()
            .try_for_each(|v6| self.set_socket(node, (protocol, port, v6), opens))
    }

    /// Flags a port of one node or of all, or takes the flag away.
    fn flag(
        &mut self,
        node: Option<u32>,
        service: (Protocol, u16),
        weight: Option<u16>,
    ) -> Result<()> {
        let (on, flags) = match node {
            Some(node) if !self.world.machines[&node].is_up => return Ok(()),
            Some(node) => (node, &mut self.world.machine(node).flags),
            None => (self.operators_node(), &mut self.world.flags),
        };
        let what = match weight {
            Some(weight) => {
                flags.insert(service, weight);
                format!("--weight={weight}")
            }
            None => {
                flags.remove(&service);
                "--delete".to_owned()
            }
        };
        let (protocol, port) = service;
        let (start, end) = (format!("--start-port={port}"), format!("--end-port={port}"));
        let protocol = format!("--protocol={protocol}");
        let mut line = vec!["setport_weight", &start, &end, &protocol, &what];
        line.extend(node.is_none().then_some("--cluster"));
        self.order(on, Some(Target::Flag(node, service)), &line)
    }

    /// Where an operator gives commands for the cluster.
    fn operators_node(&self) -> u32 {
        NODES.rev().find(|node| self.world.machines[node].is_up).unwrap_or(1)
    }

    fn drain(&mut self, node: u32, is_ordered: bool) -> Result<()> {
        let what = match is_ordered {
            true => {
                self.world.drained.insert(node);
                "drain"
            }
            false => {
                self.world.drained.remove(&node);
                "undrain"
            }
        };
        let up = self.operators_node();
        self.order(up, Some(Target::Drain(node)), &["cvipctl", what, &node.to_string()])
    }

    /// Starts a command of cvip's on a node.
    fn order(&mut self, node: u32, target: Option<Target>, line: &[&str]) -> Result<()> {
        if let Some(target) = target {
            let line = line.iter().map(|word| (*word).to_owned()).collect();
            self.orders.insert(target, (node, line));
        }
        let mut command = self.deployment.command(node, line[0]);
        command.args(&line[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.commands.push(Command { target, child: command.spawn()? });
        Ok(())
    }

    /// Waits for the operator's commands; those that failed, and those that others overtook, are
    /// given again.
    fn orders_succeed(&mut self) -> Result<()> {
        let deadline = Instant::now() + COMMANDS_END_WITHIN;
        let mut seen: BTreeSet<Target> = BTreeSet::new();
        let mut again: BTreeSet<Target> = BTreeSet::new();
        for mut command in std::mem::take(&mut self.commands) {
            let status = loop {
                self.tend()?;
                if let Some(status) = command.child.try_wait()? {
                    break status;
                }
                if Instant::now() > deadline {
                    let _ = command.child.kill();
                    let _ = command.child.wait();
                    bail!("a command does not end, of {:?}", command.target);
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            if let Some(target) = command.target
                && (!seen.insert(target) || !status.success())
            {
                again.insert(target);
            }
        }
        let deadline = Instant::now() + ORDERS_SUCCEED_WITHIN;
        for (target, (node, line)) in std::mem::take(&mut self.orders) {
            if !again.contains(&target) {
                continue;
            }
            let words: Vec<&str> = line.iter().map(String::as_str).collect();
            loop {
                self.tend()?;
                match self.deployment.run(node, &words) {
                    Ok(_) => break,
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(200)),
                }
            }
        }
        Ok(())
    }

    /// Writes a node's cvip.conf as the layout in force has it.
    fn write_conf(&self, node: u32) -> Result<()> {
        let path = conf_path(&self.deployment, node);
        let draft = path.with_extension("new");
        fs::write(&draft, Xml(self.world.conf()).to_string())?;
        Ok(fs::rename(&draft, &path)?)
    }

    /// Writes a node's cvip.conf, and lets its cvipd read it.
    fn read_conf(&mut self, node: u32) -> Result<()> {
        if self.daemon(node).broken == 0 {
            self.write_conf(node)?;
            self.reload(node)?;
        }
        Ok(())
    }

    /// Lets a node's cvipd read its cvip.conf again. One that does not yet wait for signals is left
    /// alone, as a service manager does: it reads the file later.
    fn reload(&self, node: u32) -> Result<()> {
        let Some(pid) = self.deployment.daemon_pid(node) else { return Ok(()) };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = u64::from_str_radix(blocked.unwrap_or("0").trim(), 16)?;
        if blocked & 1 << (Signal::SIGHUP as u64 - 1) != 0 {
            self.signal(node, Signal::SIGHUP);
        }
        Ok(())
    }

    fn partition(&self, nodes: &[u32]) -> Result<Vec<cvip_lab::Fault>> {
        let others = NODES.filter(|node| !nodes.contains(node)).map(|node| self.host(node));
        let stores = self.deployment.cluster.stores().iter().map(AsRef::as_ref);
        let others: Vec<&Host> = others.chain(stores).chain([self.client()]).collect();
        let both = |node: &u32| {
            let host = self.host(*node);
            others.iter().map(move |other| host.part_from(other, Network::Public, Direction::Both))
        };
        nodes.iter().flat_map(both).collect()
    }

    fn stop_server(&mut self, number: usize) {
        *self.etcd_down.entry(number).or_default() += 1;
        self.etcd.kill(number);
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        let down = self.etcd_down.entry(number).or_default();
        *down = down.saturating_sub(1);
        if *down == 0 && !self.etcd.is_running(number) {
            self.etcd.start_member(number)?;
        }
        Ok(())
    }

    /// Moves etcd's leadership to another server, if one answers.
    fn new_leader(&self) {
        for number in self.etcd.numbers() {
            let list = ["--command-timeout=2s", "endpoint", "status", "--write-out=json"];
            let Ok(output) = self.etcd.ctl_on(number, &self.etcd.endpoint(number), &list) else {
                continue;
            };
            let status: serde_json::Value =
                serde_json::from_slice(&output.stdout).unwrap_or_default();
            let status = &status[0]["Status"];
            let (own, leader) = (&status["header"]["member_id"], &status["leader"]);
            if let (Some(own), Some(leader)) = (own.as_u64(), leader.as_u64())
                && own != leader
            {
                let to = format!("{own:x}");
                let _ = self.etcd.ctl(&["--command-timeout=2s", "move-leader", &to]);
                return;
            }
        }
    }

    /// Lets etcd forget its history, if it answers.
    fn compact(&self) {
        let get = ["--command-timeout=2s", "get", "/cvip/", "--write-out=json"];
        let Ok(text) = self.etcd.ctl(&get) else { return };
        let got: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(revision) = got["header"]["revision"].as_u64() {
            let _ = self.etcd.ctl(&["--command-timeout=2s", "compact", &revision.to_string()]);
        }
    }

    /// A hand changes a node's table. What it is refused for is no fault of cvipd's.
    fn hand(&mut self, node: u32, changes: &[Change]) -> Result<()> {
        if self.world.machines[&node].is_up {
            self.table(node)?.apply(changes)?;
        }
        Ok(())
    }

    /// A hand changes the first of cvipd's services that has something to change.
    fn edit(&mut self, node: u32, what: TableEdit) -> Result<()> {
        if !self.world.machines[&node].is_up {
            return Ok(());
        }
        let foreign = self.world.machines[&node].foreign.clone();
        let stranger = self.world.addresses.stranger;
        let table = self.table(node)?;
        let is_own = |s: &Service| service_key(s.id).is_some_and(|key| !foreign.contains(&key));
        let services = table.services()?;
        let Some(service) = services.into_iter().map(|e| e.service).find(is_own) else {
            return Ok(());
        };
        let id = service.id;
        let first = table.destinations(&id)?.first().map(|entry| entry.destination);
        let change = match (what, first) {
            (TableEdit::Weight, Some(first)) => {
                Change::EditDestination(id, Destination { weight: 0, ..first })
            }
            (TableEdit::Delete, Some(first)) => Change::DeleteDestination(id, first.id),
            (TableEdit::Add, _) => {
                let key = service_key(id).context("one of cvipd's")?;
                let addr = stranger[usize::from(key.cvip.is_ipv6())];
                let added = Destination::new(addr, key.port, Forwarding::Route, 1);
                Change::AddDestination(id, added)
            }
            (TableEdit::Scheduler, _) => {
                Change::EditService(Service { scheduler: "rr".to_owned(), ..service })
            }
            (TableEdit::Service, _) => Change::DeleteService(id),
            (_, None) => return Ok(()),
        };
        self.hand(node, &[change])
    }
}

/// Removes a CVIP from the one of the two devices on which it is, if it is on any.
fn remove_address(host: &Host, cvip: IpAddr) {
    let bits = if cvip.is_ipv4() { 32 } else { 128 };
    for device in ["eth0", "lo"] {
        let _ = host.run(&["ip", "addr", "del", &format!("{cvip}/{bits}"), "dev", device]);
    }
}

fn conf_path(deployment: &Deployment, node: u32) -> PathBuf {
    deployment.dir.join(format!("cvip-{node}.conf"))
}
