//! cvip on many machines: directors, nodes that serve one page each, a client, and three etcd servers as the store.
//!
//! What the tests and the benchmarks of takeovers and of dying machines share; each asks of it what it wants to know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::deployment::{Deployment, Plan};
use crate::etcd::{Etcd, Settings};
use crate::traffic::{Requests, Running, WebServer};

/// The cluster, with a store that runs. Nodes have the numbers 1 to N, the directors those after them.
#[derive(Debug)]
pub struct Site {
    deployment: Deployment,
    /// The store.
    pub etcd: Etcd,
    servers: BTreeMap<u32, WebServer>,
}

impl Site {
    /// Builds the machines and starts the store; no cvipd runs yet. `services` are cvip.conf's `service` elements.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::Builder::build), [`Etcd::start`] and [`Deployment::new`].
    pub fn new(
        name: &str,
        (directors, nodes): (u8, u8),
        programs: &Path,
        services: &str,
    ) -> Result<Site> {
        let builder = Cluster::builder(name).directors(directors).nodes(nodes).stores(3);
        let cluster = builder.ipv6(false).interconnect(true).build()?;
        // An emulated machine's disk and processor are slow: etcd is to elect for faults alone.
        let settings = Settings {
            disk_mib: Some(192),
            heartbeat: Duration::from_millis(200),
            election: Duration::from_millis(2000),
            ..Default::default()
        };
        let etcd = Etcd::start(&cluster, settings)?;
        let plan = Plan { services, ..Plan::default() };
        let mut deployment = Deployment::new(cluster, programs, &plan)?;
        deployment.separate_run_dirs();
        deployment.share_cluster_key()?;
        for (name, value) in etcd.variables() {
            deployment.set_env(name, value);
        }
        Ok(Site { deployment, etcd, servers: BTreeMap::new() })
    }

    /// Starts a node's web server, with the node's number on its page.
    ///
    /// # Errors
    /// As [`WebServer::start`].
    pub fn serve(&mut self, node: u32) -> Result<()> {
        let server = WebServer::start(self.host(node), &node.to_string())?;
        self.servers.insert(node, server);
        Ok(())
    }

    /// Ends a node's web server; the moment at which it closed its socket.
    ///
    /// # Errors
    /// If it does not serve.
    pub fn stop_serving(&mut self, node: u32) -> Result<Instant> {
        let server = self.servers.remove(&node);
        Ok(server.with_context(|| format!("node {node} does not serve"))?.stop())
    }

    /// The web service, as clients know it.
    pub fn web(&self) -> SocketAddr {
        SocketAddr::new(self.cvip(false), 80)
    }

    /// Clients that go on until they are told to stop.
    pub fn traffic(&self, per_second: f64) -> Running {
        let patience = Duration::from_secs(5);
        let requests = Requests { to: self.web(), number: u32::MAX, per_second, patience };
        requests.start(self.cluster.client())
    }

    /// The nodes with a weight in a director's table.
    pub fn pool(&self, director: u32) -> Vec<u32> {
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

    /// Whether a node's interface to the clients has the CVIP.
    pub fn carries(&self, node: u32) -> bool {
        self.host(node).has_on("eth0", self.cvip(false))
    }

    /// The directors that carry the CVIP: one, but for a while.
    pub fn carriers(&self) -> Vec<u32> {
        self.directors().filter(|node| self.carries(*node)).collect()
    }

    /// The state as `cvipctl status --json` shows it on a node.
    ///
    /// # Errors
    /// Its cvipd does not run.
    pub fn status(&self, node: u32) -> Result<serde_json::Value> {
        let number = node.to_string();
        let shown = self.run(node, &["cvipctl", "status", "--json", "--node", &number])?;
        Ok(serde_json::from_str(&shown)?)
    }

    /// What everybody thought, for a person who wants to know why something failed.
    pub fn story(&self) -> String {
        let mut story = self.logs();
        for director in self.directors() {
            let shown = |command: &[&str]| self.host(director).stdout(command).unwrap_or_default();
            let (table, addresses) =
                (shown(&["ipvsadm", "-Ln"]), shown(&["ip", "-br", "-4", "addr"]));
            story += &format!("--- director {director}\n{table}{addresses}\n");
        }
        story
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
