//! A cluster on which cvipd runs, with the director's table beside it.
//!
//! [`Site::start`] has one director. Other clusters are built, and then started as a test likes:
//!
//! - `Site::built(|builder| builder.directors(2).nodes(2).stores(3).interconnect(true), &plan)`:
//!   nodes are 1 to N, directors N + 1 and on; with an interconnect, clustertab has the addresses
//!   there, and it is the `sync_interface`.
//! - `Site::on_etcd(|builder| builder.stores(3), &plan)`: the same with etcd on hosts of its own,
//!   whose faults are `site.etcd()`'s; each machine keeps files of its own.
//! - `site.start_on(&[1, 2], &options)`; `site.cluster.directors()`, `.standby()`, `.stores()` are
//!   the hosts.
//! - `site.power_off(n)` takes a machine's processes and kernel state away, `site.switch_on(n)`
//!   gives it a new kernel.
//! - A [`cvip_lab::Host`] has faults that end when they are dropped: `unplug`, `silence`,
//!   `part_from`, `impair`, `freeze`.
//! - [`cvip_lab::traffic`] sends requests, downloads and datagrams through all of that, and says
//!   what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::process::Output;
use std::sync::Mutex;

use cvip::ipvs::{Client, DestinationEntry, ServiceEntry, ServiceId};
use cvip::protocol::Protocol;
use cvip::settings::{Engine, EtcdSettings, Settings};
use cvip::store::{self, Access, Interest, LocalStore, NodeRecord, Store, StoreState};
use cvip_lab::etcd::Etcd;
use cvip_lab::process::shown;
use cvip_lab::{
    Builder, Cluster, Deployment, PATIENCE, Plan, built_programs, unique_name, until_some,
    wait_until,
};
use nix::sys::signal::{Signal, kill};

use super::sockets::listen;

/// The destinations of a service, each as (node number, weight), in order; `None`: there is no
/// such service.
pub(crate) type Pool = Option<Vec<(u32, u32)>>;

/// A deployment, the director's table, and what an administrator does.
///
/// Nodes have the numbers 1 to N, the director N + 1. A test that fails shows the table, the
/// store and the logs.
pub(crate) struct Site {
    deployment: Deployment,
    table: Mutex<Client>,
    shared: Option<Shared>,
}

/// A store on machines of its own, and a view of it.
struct Shared {
    etcd: Etcd,
    view: Mutex<Box<dyn Store>>,
}

impl Site {
    /// A cluster with one director, this many nodes and a client, on which cvipd runs.
    #[track_caller]
    pub(crate) fn start(nodes: u8, plan: &Plan<'_>) -> Site {
        Site::start_with(nodes, plan, &[])
    }

    /// The same, with these options for every cvipd.
    #[track_caller]
    pub(crate) fn start_with(nodes: u8, plan: &Plan<'_>, options: &[&str]) -> Site {
        let mut site = Site::stopped(nodes, plan);
        site.start_everywhere(options);
        site
    }

    /// The same, with no cvipd running.
    #[track_caller]
    pub(crate) fn stopped(nodes: u8, plan: &Plan<'_>) -> Site {
        Site::built(|builder| builder.nodes(nodes), plan)
    }

    /// A cluster of another build, with no cvipd running.
    #[track_caller]
    pub(crate) fn built(build: impl FnOnce(Builder) -> Builder, plan: &Plan<'_>) -> Site {
        cvip_lab::require();
        let cluster = build(Cluster::builder(&unique_name("k"))).build().unwrap();
        let table = cluster.director().enter(Client::open).unwrap();
        let deployment = Deployment::new(cluster, &built_programs(), plan).unwrap();
        Site { deployment, table: Mutex::new(table), shared: None }
    }

    /// The same with etcd on the `stores` that it is built with: beside it the machines share
    /// nothing, and each keeps files of its own.
    #[track_caller]
    pub(crate) fn on_etcd(build: impl FnOnce(Builder) -> Builder, plan: &Plan<'_>) -> Site {
        let mut site = Site::built(build, plan);
        let etcd = Etcd::start(&site.cluster, cvip_lab::etcd::Settings::default()).unwrap();
        site.separate_run_dirs();
        site.share_cluster_key().unwrap();
        etcd.variables().into_iter().for_each(|(name, value)| site.set_env(name, value));
        let endpoints = etcd.endpoints().split(',').map(str::to_owned).collect();
        let etcd_at = EtcdSettings { endpoints, ..EtcdSettings::default() };
        let settings = Settings { engine: Engine::Etcd, etcd: etcd_at, ..Settings::default() };
        let dir = site.run_dir_of(site.director());
        let open = || store::open(&settings, &dir, Access::Read, Interest::All);
        // Its thread stays in that namespace.
        let view = site.cluster.director().enter(open).unwrap();
        site.shared = Some(Shared { etcd, view: Mutex::new(view) });
        site
    }

    /// The store that the machines share.
    #[track_caller]
    pub(crate) fn etcd(&mut self) -> &mut Etcd {
        &mut self.shared.as_mut().expect("the site was built with etcd").etcd
    }

    /// Starts cvipd on every node, and waits until each has written a record of its own.
    #[track_caller]
    pub(crate) fn start_everywhere(&mut self, options: &[&str]) {
        let numbers: Vec<u32> = self.numbers().collect();
        self.start_on(&numbers, options);
    }

    /// Starts cvipd on some nodes, and waits until each has written a record of its own.
    #[track_caller]
    pub(crate) fn start_on(&mut self, numbers: &[u32], options: &[&str]) {
        let before = self.state();
        let incarnation = |state: &StoreState, n| state.nodes.get(&n).map_or(0, |r| r.incarnation);
        for number in numbers {
            self.deployment.start(*number, &[&["--log=info"], options].concat()).unwrap();
        }
        self.until("every cvipd has written a record", |site| {
            let now = site.state();
            let new = |n: &u32| incarnation(&now, *n) > incarnation(&before, *n);
            numbers.iter().all(new).then_some(())
        });
    }

    /// Sends every cvipd a signal, and waits for their ends.
    pub(crate) fn end_everywhere(&mut self, signal: Signal) {
        let numbers: Vec<u32> = self.numbers().collect();
        numbers.iter().for_each(|number| self.signal(*number, signal));
        for number in numbers {
            self.daemon(number).expect("cvipd runs").wait(PATIENCE).unwrap();
            self.take_daemon(number);
        }
    }

    /// Starts a node's machine again, without its cvipd; see [`Deployment::power_on`].
    #[track_caller]
    pub(crate) fn switch_on(&mut self, number: u32) {
        self.deployment.power_on(number).unwrap();
        // The old kernel's table is no one's any more.
        let table = self.cluster.director().enter(Client::open).unwrap();
        self.table = Mutex::new(table);
    }

    /// Sends a node's cvipd a signal.
    #[track_caller]
    pub(crate) fn signal(&self, number: u32, signal: Signal) {
        kill(self.daemon_pid(number).expect("cvipd runs"), signal).unwrap();
    }

    /// Lets every cvipd read its configuration again, as `systemctl reload` does.
    #[track_caller]
    pub(crate) fn reload_everywhere(&self) {
        self.numbers().for_each(|number| self.signal(number, Signal::SIGHUP));
    }

    /// Runs a command line of cvip on a node, and returns what it printed.
    #[track_caller]
    pub(crate) fn run(&self, number: u32, line: &str) -> String {
        let output = self.try_run(number, line);
        let (out, err) = shown(&output);
        assert!(output.status.success(), "{line}: {}: {out}{err}", output.status);
        out
    }

    /// Runs a command line of cvip on a node to its end.
    #[track_caller]
    pub(crate) fn try_run(&self, number: u32, line: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.deployment.try_run(number, &words).unwrap()
    }

    /// A command line of cvip on the director, which runs as root.
    #[track_caller]
    pub(crate) fn direct(&self, line: &str) -> String {
        self.run(self.director(), line)
    }

    /// The IPv4 CVIP's service.
    pub(crate) fn v4(&self, protocol: Protocol, port: u16) -> ServiceId {
        ServiceId::Address { protocol, addr: self.cvip(false), port }
    }

    /// The IPv6 CVIP's service.
    pub(crate) fn v6(&self, protocol: Protocol, port: u16) -> ServiceId {
        ServiceId::Address { protocol, addr: self.cvip(true), port }
    }

    /// The IPv4 CVIP and a port.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.cvip(false), port)
    }

    /// The IPv6 CVIP and a port.
    pub(crate) fn at6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.cvip(true), port)
    }

    /// The destinations of a service as the kernel has them.
    #[track_caller]
    pub(crate) fn pool(&self, id: ServiceId) -> Pool {
        let mut table = self.table.lock().unwrap();
        table.service(&id).unwrap()?;
        let mut pool: Vec<(u32, u32)> = table
            .destinations(&id)
            .unwrap()
            .iter()
            .map(|entry| {
                let addr = entry.destination.id.addr;
                let node = self.node_of(addr).unwrap_or_else(|| panic!("{addr} is no node's"));
                (node, entry.destination.weight)
            })
            .collect();
        pool.sort_unstable();
        Some(pool)
    }

    /// Every service with its pool.
    #[track_caller]
    pub(crate) fn pools(&self) -> BTreeMap<ServiceId, Pool> {
        let ids: Vec<ServiceId> = {
            let services = self.table.lock().unwrap().services().unwrap();
            services.into_iter().map(|entry| entry.service.id).collect()
        };
        ids.into_iter().map(|id| (id, self.pool(id))).collect()
    }

    /// Connections of a node's destination as (active, inactive); none if it is not there.
    #[track_caller]
    pub(crate) fn connections(&self, id: ServiceId, node: u32) -> Option<(u32, u32)> {
        let entries = self.table.lock().unwrap().destinations(&id).unwrap();
        let entry = entries.iter().find(|e| self.node_of(e.destination.id.addr) == Some(node))?;
        Some((entry.active, entry.inactive))
    }

    /// A service as the kernel has it, with its destinations in the order of their addresses.
    #[track_caller]
    pub(crate) fn entry(&self, id: ServiceId) -> (ServiceEntry, Vec<DestinationEntry>) {
        let mut table = self.table.lock().unwrap();
        let service = table.service(&id).unwrap().unwrap_or_else(|| panic!("no service {id}"));
        let mut destinations = table.destinations(&id).unwrap();
        destinations.sort_unstable_by_key(|entry| entry.destination.id);
        (service, destinations)
    }

    /// How many connections IPVS has sent to each node's destination of a service, and, last, how
    /// many to the service. The kernel adds them up every two seconds.
    #[track_caller]
    pub(crate) fn counted(&self, id: ServiceId) -> (BTreeMap<u32, u64>, u64) {
        let mut table = self.table.lock().unwrap();
        let service = table.service(&id).unwrap().map_or(0, |entry| entry.stats.connections);
        let destinations = table.destinations(&id).unwrap();
        let count = |entry: &DestinationEntry| {
            let node = self.node_of(entry.destination.id.addr).expect("a node's address");
            (node, entry.stats.connections)
        };
        (destinations.iter().map(count).collect(), service)
    }

    /// Waits until IPVS has counted so many connections for each node, and no others.
    #[track_caller]
    pub(crate) fn await_counted(&self, id: ServiceId, wanted: &[(u32, u64)]) {
        let all = wanted.iter().map(|(_, connections)| connections).sum();
        let wanted = (wanted.iter().copied().collect(), all);
        let mut last = None;
        let came = wait_until(PATIENCE, || {
            last = Some(self.counted(id));
            (last.as_ref() == Some(&wanted)).then_some(())
        });
        assert!(came.is_some(), "{id}: {last:?}, not {wanted:?}, within {PATIENCE:?}");
    }

    /// The number of the node with an address.
    fn node_of(&self, addr: IpAddr) -> Option<u32> {
        self.numbers().find(|number| {
            let host = self.host(*number);
            host.networks().iter().any(|network| match addr {
                IpAddr::V4(addr) => host.v4_on(*network) == addr,
                IpAddr::V6(addr) => host.v6_on(*network) == addr,
            })
        })
    }

    /// The table as `ipvsadm-rs -Sn` saves it.
    #[track_caller]
    pub(crate) fn rules(&self) -> String {
        self.direct("ipvsadm-rs -Sn")
    }

    /// The table with everything that a command can set.
    #[track_caller]
    pub(crate) fn all_rules(&self) -> String {
        self.direct("ipvsadm-rs -Sn --full")
    }

    /// Asserts that the table is what cvip.conf and the registrations say: a second application
    /// finds nothing to do.
    #[track_caller]
    pub(crate) fn assert_right(&self) {
        assert_eq!(self.direct("cvipctl diff"), "");
        assert_eq!(self.direct("cvipctl apply"), "the table is right: nothing to change\n");
    }

    /// Waits until the pool of a service is this; `None`: until there is no such service.
    #[track_caller]
    pub(crate) fn await_pool(&self, id: ServiceId, pool: Option<&[(u32, u32)]>) {
        let wanted: Pool = pool.map(<[_]>::to_vec);
        let mut last = None;
        let came = wait_until(PATIENCE, || {
            last = self.pool(id);
            (last == wanted).then_some(())
        });
        assert!(came.is_some(), "{id}: {last:?}, not {wanted:?}, within {PATIENCE:?}");
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut ask: impl FnMut(&Site) -> Option<T>) -> T {
        until_some(what, || ask(self))
    }

    /// What the store says.
    #[track_caller]
    pub(crate) fn state(&self) -> StoreState {
        if let Some(shared) = &self.shared {
            let mut view = shared.view.lock().unwrap();
            view.refresh().unwrap();
            return view.state().clone();
        }
        let mut store = LocalStore::open(&self.run_dir(), Access::Read).unwrap();
        store.refresh().unwrap();
        store.state().clone()
    }

    /// A node's record.
    #[track_caller]
    pub(crate) fn record(&self, number: u32) -> NodeRecord {
        let records = self.state().nodes;
        records.get(&number).unwrap_or_else(|| panic!("node {number} has no record")).clone()
    }

    /// Waits until a node's cvipd has logged this.
    #[track_caller]
    pub(crate) fn await_log(&self, number: u32, text: &str) {
        self.until(&format!("node {number} logs {text:?}"), |site| {
            site.logged(number).contains(text).then_some(())
        });
    }

    /// The changes of the table that the director's cvipd has logged: what it applied, as the
    /// lines at level INFO that tell of a service.
    pub(crate) fn changes(&self) -> Vec<String> {
        // A change is logged once it is made; whoever makes them has logged all when it answers.
        self.direct("cvipctl status");
        let log = self.logged(self.director());
        let tells = ["new service ", " joins ", " removed", " quiesced in ", ", weight "];
        let is_change = |line: &&str| {
            !line.contains(" serves ") && tells.iter().any(|words| line.contains(words))
        };
        log.lines().filter(is_change).map(str::to_owned).collect()
    }

    /// Lets a node's cvipd show that it has looked since: a listener on a port of its own joins
    /// and leaves. What it had to say before that is then in the table.
    #[track_caller]
    pub(crate) fn let_look(&self, number: u32, flagged_port: u16) {
        let id = self.v4(Protocol::Tcp, flagged_port);
        assert_eq!(self.pool(id), None, "the port of the marker is another's");
        let marker = listen(self.host(number), format!("0.0.0.0:{flagged_port}"));
        self.await_pool(id, Some(&[(number, 1)]));
        drop(marker);
        self.await_pool(id, None);
    }

    /// The sockets' owners that a node refused, with the reasons.
    pub(crate) fn refusals(&self, number: u32) -> BTreeSet<(u16, String)> {
        let refused = self.record(number).refused;
        refused.into_iter().map(|r| (r.service.port, r.reason)).collect()
    }
}

impl Deref for Site {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.deployment
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Deployment {
        &mut self.deployment
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
            return;
        }
        let mut text = String::new();
        if let Ok(rules) = self.deployment.run(self.director(), &["ipvsadm-rs", "-Ln"]) {
            let _ = writeln!(text, "--- the table\n{rules}");
        }
        let replay = ["cvipctl", "replay", "--core=table", "--since=90s"];
        if let Ok(decisions) = self.deployment.try_run(self.director(), &replay) {
            let (out, _) = shown(&decisions);
            let lines: Vec<&str> = out.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            let _ = writeln!(text, "--- what the table's agent decided\n{last}");
        }
        for number in self.numbers() {
            let path = self.run_dir().join(format!("nodes/{number}.json"));
            let record = std::fs::read_to_string(path).unwrap_or_default();
            let log = self.logged(number);
            let _ = writeln!(text, "--- node {number}'s log\n{log}\n--- its record\n{record}");
        }
        eprintln!("{text}");
    }
}
