//! keepalived in the same place: two directors whose tables are made by hand, and an address that
//! VRRP moves.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cvip_lab::keepalived::Keepalived;
use cvip_lab::traffic::{Requests, WebServer};
use cvip_lab::{Cluster, Dice, Host};
use tempfile::TempDir;

use super::directors::amid;
use super::scene::{NODES, RATE, WATCH, pause, until};
use super::sheet::Sheet;

/// How keepalived is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Its defaults.
    Two,
    /// As fast as people set it.
    Three,
}

impl Flavour {
    /// What a `vrrp_instance` says of it.
    fn settings(self) -> &'static str {
        match self {
            Flavour::Two => "version 2\n advert_int 1",
            Flavour::Three => "version 3\n advert_int 0.1",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::Two => "VRRP 2, an advertisement every second",
            Flavour::Three => "VRRP 3, an advertisement every 100 ms",
        })
    }
}

/// The cluster.
pub(super) struct Vrrp {
    // It dies before its cluster.
    daemons: [Option<Keepalived>; 2],
    _servers: Vec<WebServer>,
    cluster: Cluster,
    flavour: Flavour,
    dir: TempDir,
    dice: Dice,
}

impl Vrrp {
    /// Builds the machines: nodes that have the address on `lo` and serve, directors with a table.
    pub(super) fn build(dice: Dice) -> Result<Vrrp> {
        let builder = Cluster::builder("vrrp").directors(2).nodes(NODES as u8).ipv6(false);
        let cluster = builder.build()?;
        let dir = tempfile::tempdir()?;
        let mut servers = Vec::new();
        let vip = format!("{}/32", cluster.vip4(1));
        for (number, node) in (1..).zip(cluster.nodes()) {
            node.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
            node.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
            node.run(&["ip", "addr", "add", &vip, "dev", "lo"])?;
            servers.push(WebServer::start(node, &number.to_string())?);
        }
        let daemons = [None, None];
        let (flavour, _servers) = (Flavour::Two, servers);
        let vrrp = Vrrp { daemons, _servers, cluster, flavour, dir, dice };
        (0..2).try_for_each(|director| vrrp.make_table(director))?;
        Ok(vrrp)
    }

    /// The table that cvip would make.
    fn make_table(&self, director: usize) -> Result<()> {
        let (host, web) = (self.host(director), self.web().to_string());
        host.run(&["ipvsadm", "-A", "-t", &web, "-s", "mh"])?;
        for node in self.cluster.nodes() {
            let server = format!("{}:80", node.v4());
            host.run(&["ipvsadm", "-a", "-t", &web, "-r", &server, "-g", "-w", "1"])?;
        }
        host.sysctl("net.ipv4.vs.sloppy_tcp", "1")
    }

    fn host(&self, director: usize) -> &Host {
        &self.cluster.directors()[director]
    }

    fn web(&self) -> SocketAddr {
        SocketAddr::new(self.vip(), 80)
    }

    fn vip(&self) -> IpAddr {
        self.cluster.vip4(1).into()
    }

    fn carries(&self, director: usize) -> bool {
        self.host(director).has_on("eth0", self.vip())
    }

    /// Starts keepalived on both directors in another way than before.
    pub(super) fn start(&mut self, flavour: Flavour) -> Result<()> {
        self.flavour = flavour;
        for daemon in self.daemons.iter_mut().flatten() {
            daemon.process().stop()?;
        }
        until(|| !self.carries(0) && !self.carries(1)).context("keepalived leaves its address")?;
        self.run_keepalived(0)?;
        until(|| self.carries(0)).context("the first is not the master")?;
        self.run_keepalived(1)
    }

    /// There is no fail-back, as cvip has none.
    fn run_keepalived(&mut self, director: usize) -> Result<()> {
        let (host, vip) = (self.host(director), self.vip());
        let configuration = format!(
            "global_defs {{\n router_id {}\n}}\nvrrp_instance web {{\n state BACKUP\n nopreempt\n \
             interface eth0\n virtual_router_id 51\n priority 100\n {}\n \
             virtual_ipaddress {{\n {vip}/32 dev eth0\n }}\n}}\n",
            host.name(),
            self.flavour.settings()
        );
        // What an earlier one said must not be taken for this one's word.
        let log = self.dir.path().join(format!("keepalived-{}.log", host.name()));
        let _ = std::fs::remove_file(log);
        self.daemons[director] = Some(Keepalived::start(host, self.dir.path(), &configuration)?);
        Ok(())
    }

    /// Waits for the first state: one carries the address, the other one stands by.
    pub(super) fn heal(&mut self) -> Result<()> {
        until(|| {
            let mut daemons = self.daemons.iter();
            let waits = |daemon: &Option<Keepalived>| {
                daemon.as_ref().is_some_and(|daemon| daemon.log().contains("BACKUP STATE"))
            };
            self.carries(0) != self.carries(1) && daemons.all(waits)
        })
        .context("the two are not what they were at first")?;
        // It has to have heard the master.
        thread::sleep(WATCH);
        pause(&mut self.dice);
        Ok(())
    }

    fn active(&self) -> Result<usize> {
        let carriers: Vec<usize> = (0..2).filter(|director| self.carries(*director)).collect();
        ensure!(carriers.len() == 1, "directors that carry the address: {carriers:?}");
        Ok(carriers[0])
    }

    /// The master's machine loses its power, and gets it back.
    pub(super) fn dies(&mut self, sheet: &mut Sheet) -> Result<()> {
        let active = self.active()?;
        let patience = amid(self.web()).patience;
        let requests = Requests { to: self.web(), number: u32::MAX, per_second: RATE, patience };
        let clients = requests.start(self.cluster.client());
        thread::sleep(WATCH);
        pause(&mut self.dice);
        let at = Instant::now();
        self.host(active).power_off()?;
        let dead = Instant::now();
        self.daemons[active] = None;
        until(|| self.carries(1 - active))?;
        thread::sleep(WATCH);
        let report = clients.stop();
        sheet.answered(&report, at, dead);
        sheet.clients(&report)?;
        self.host(active).power_on()?;
        self.make_table(active)?;
        self.run_keepalived(active)
    }

    /// The master's keepalived is asked to end, amid requests, and started again.
    pub(super) fn hands_over(&mut self, sheet: &mut Sheet) -> Result<()> {
        let active = self.active()?;
        let clients = amid(self.web()).start(self.cluster.client());
        thread::sleep(WATCH);
        pause(&mut self.dice);
        let at = Instant::now();
        if let Some(mut daemon) = self.daemons[active].take() {
            daemon.process().stop()?;
        }
        sheet.time("its end takes", at.elapsed());
        let report = clients.finish();
        ensure!(self.active()? == 1 - active, "the other one did not take over");
        sheet.clients(&report)?;
        self.run_keepalived(active)
    }

    /// What both said.
    pub(super) fn story(&self) -> String {
        let logs = self.daemons.iter().flatten().map(Keepalived::log);
        logs.collect::<Vec<_>>().join("\n---\n")
    }
}
