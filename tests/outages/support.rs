//! A cluster of machines with its store, and what a test asks of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cvip::daemon::{Event, EventReader};
use cvip_lab::etcd::Etcd;
use cvip_lab::traffic::{Requests, Running};
use cvip_lab::{Cluster, Deployment, Plan, wait_until};

/// How long anything may take before a test calls it a failure: emulated kernels are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A web service whose scheduler finds the same real server for a client on every director.
pub(crate) const SERVICES: &str = "<service><protocol>tcp</protocol><port>80</port>\
     <scheduler>mh</scheduler>\
     <scheduler_flags>mh-port</scheduler_flags></service>";

/// What the cluster's members sign their heartbeats with.
pub(crate) const CLUSTER_KEY: &str = "a key of the lab's own, which is long enough";

/// Nodes have the numbers 1 to 3, the directors 4 and 5.
pub(crate) const NODES: u8 = 3;
pub(crate) const FIRST: u32 = 4;
pub(crate) const SECOND: u32 = 5;

/// A cluster on which cvipd runs everywhere.
pub(crate) struct Site {
    deployment: Deployment,
    pub(crate) etcd: Etcd,
    servers: BTreeMap<u32, Arc<AtomicBool>>,
}

impl Site {
    /// Three etcd servers, two directors, three nodes that serve port 80, and a client. The first
    /// director is the active one.
    #[track_caller]
    pub(crate) fn start() -> Site {
        let mut site = Site::stopped();
        // Whoever is there first is elected first.
        site.restart(FIRST);
        site.until("the first director carries the CVIP", |site| site.carries(FIRST));
        for number in [SECOND, 1, 2, 3] {
            site.restart(number);
        }
        for node in 1..=NODES.into() {
            site.serve(node);
        }
        site.await_pool(FIRST, &[1, 2, 3]);
        site
    }

    #[track_caller]
    pub(crate) fn stopped() -> Site {
        cvip_lab::require();
        let programs: PathBuf = std::env::var_os("CVIP_TEST_PROGRAMS")
            .expect("CVIP_TEST_PROGRAMS names the folder of the built programs")
            .into();
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("c{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let builder = Cluster::builder(&name).directors(2).nodes(NODES).stores(3).ipv6(false);
        let cluster = builder.interconnect(true).build().unwrap();
        // An emulated machine's disk and processor are slow: etcd is to elect for faults alone.
        let settings = cvip_lab::etcd::Settings {
            disk_mib: Some(192),
            heartbeat: Duration::from_millis(200),
            election: Duration::from_millis(2000),
            ..Default::default()
        };
        let etcd = Etcd::start(&cluster, settings).unwrap();
        let plan = Plan { services: SERVICES, ..Plan::default() };
        let mut deployment = Deployment::new(cluster, &programs, &plan).unwrap();
        deployment.separate_run_dirs();
        let key = deployment.dir.join("cluster.key");
        fs::write(&key, CLUSTER_KEY).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        deployment.set_env("CVIP_CLUSTER_KEY_FILE", key);
        for (name, value) in etcd.variables() {
            deployment.set_env(name, value);
        }
        Site { deployment, etcd, servers: BTreeMap::new() }
    }

    /// Starts a web server for one page, with the node's number on it.
    pub(crate) fn serve(&mut self, node: u32) {
        let listener = self.host(node).enter(|| TcpListener::bind("0.0.0.0:80")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        listener.set_nonblocking(true).unwrap();
        self.servers.insert(node, Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                let _ = stream.read(&mut [0; 1024]);
                let page = format!("HTTP/1.0 200 OK\r\n\r\n{node}\n");
                let _ = stream.write_all(page.as_bytes());
            }
        });
    }

    /// Ends a node's web server.
    pub(crate) fn stop_serving(&mut self, node: u32) {
        self.servers.remove(&node).expect("it serves").store(true, Ordering::Relaxed);
    }

    /// The web service, as clients know it.
    pub(crate) fn web(&self) -> SocketAddr {
        SocketAddr::new(self.cvip(false), 80)
    }

    /// Clients that go on until they are told to stop.
    pub(crate) fn traffic(&self, per_second: f64) -> Running {
        let patience = Duration::from_secs(5);
        let requests = Requests { to: self.web(), number: u32::MAX, per_second, patience };
        requests.start(self.cluster.client())
    }

    /// The nodes with a weight in a director's table.
    pub(crate) fn pool(&self, director: u32) -> Vec<u32> {
        let listed = self.host(director).stdout(&["ipvsadm", "-Ln"]).unwrap_or_default();
        let address = |node: &u32| format!("{}:80", self.host(*node).v4());
        let weighs = |node: &u32| {
            listed.lines().any(|line| {
                let mut words = line.split_whitespace().skip(1);
                words.next() == Some(&address(node)) && words.nth(1) != Some("0")
            })
        };
        self.numbers().filter(weighs).collect()
    }

    #[track_caller]
    pub(crate) fn await_pool(&self, director: u32, nodes: &[u32]) {
        let what = format!("director {director} has {nodes:?} in its pool");
        self.until(&what, |site| (site.pool(director) == nodes).then_some(()));
    }

    /// Some if a node's interface to the clients has the CVIP.
    pub(crate) fn carries(&self, node: u32) -> Option<()> {
        let has = self.host(node).stdout(&["ip", "-4", "addr", "show", "dev", "eth0"]);
        has.unwrap_or_default().contains(&self.cvip(false).to_string()).then_some(())
    }

    /// The directors of the two that carry the CVIP.
    pub(crate) fn carriers(&self) -> Vec<u32> {
        [FIRST, SECOND].into_iter().filter(|node| self.carries(*node).is_some()).collect()
    }

    /// Waits for something.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut ask: impl FnMut(&Site) -> Option<T>) -> T {
        match wait_until(PATIENCE, || ask(self)) {
            Some(found) => found,
            None => panic!("{what}: not within {PATIENCE:?}"),
        }
    }

    /// What a director recorded of the day, oldest first.
    pub(crate) fn events(&self, director: u32) -> Vec<Event> {
        let (mut reader, mut events) = EventReader::open(&self.run_dir_of(director), director);
        events.extend(reader.read());
        events
    }

    /// What a cvipd has logged.
    pub(crate) fn logged(&self, node: u32) -> String {
        fs::read_to_string(self.log(node)).unwrap_or_default()
    }

    /// The state as `cvipctl status --json` shows it on a node.
    #[track_caller]
    pub(crate) fn status(&self, node: u32) -> serde_json::Value {
        let number = node.to_string();
        let shown = self.run(node, &["cvipctl", "status", "--json", "--node", &number]).unwrap();
        serde_json::from_str(&shown).unwrap()
    }

    /// Starts a node's cvipd again.
    pub(crate) fn restart(&mut self, node: u32) {
        self.start(node, &["--log=info"]).unwrap();
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
    /// A test that failed shows what everybody thought.
    fn drop(&mut self) {
        for stop in self.servers.values() {
            stop.store(true, Ordering::Relaxed);
        }
        if !thread::panicking() {
            return;
        }
        for node in self.numbers() {
            println!("--- cvipd of node {node}\n{}", self.logged(node));
        }
        for director in [FIRST, SECOND] {
            let shown = |command: &[&str]| self.host(director).stdout(command).unwrap_or_default();
            let (table, addresses) =
                (shown(&["ipvsadm", "-Ln"]), shown(&["ip", "-br", "-4", "addr"]));
            println!("--- director {director}\n{table}{addresses}");
        }
    }
}
