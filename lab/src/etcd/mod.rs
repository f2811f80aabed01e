//! A real etcd on a cluster's hosts for a store: one member, or three, whose processes, disks and machines can fail.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use cvip_lab::etcd::{Etcd, Settings};
//! let cluster = cvip_lab::Cluster::builder("web").stores(3).build()?;
//! let mut etcd = Etcd::start(&cluster, Settings::default())?;
//! let leader = etcd.leader()?;
//! etcd.kill(leader);
//! etcd.wait_healthy()?;
//! etcd.start_member(leader)?;
//! # Ok(())
//! # }
//! ```
//!
//! Debian's packages are needed: see [`PACKAGES`].

mod certificates;
mod server;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub use certificates::Certificate;

use crate::cluster::{Cluster, Host, Network};
use crate::process::Process;
use crate::wait::wait_until;
use certificates::Authority;
pub use server::{Server, free_port, http};

/// What [`Lab::packages`](crate::Lab::packages) has to be told for it.
pub const PACKAGES: &[&str] = &["etcd-server", "etcd-client", "openssl"];

/// How long a member may take to say that all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the members are like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The network on which they serve; none: the interconnect if there is one, else the public one.
    pub network: Option<Network>,
    /// They serve on their IPv6 addresses.
    pub ipv6: bool,
    /// They talk TLS, and take clients with a certificate of the lab's only.
    pub tls: bool,
    /// The size of each member's disk in MiB; none: as large as the memory. From 160 on: two files of 64 MB, for its log,
    /// are allocated at the start.
    pub disk_mib: Option<u32>,
    /// The time between the leader's heartbeats.
    pub heartbeat: Duration,
    /// The time without one after which there is an election.
    pub election: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // The times are etcd's own.
        Settings {
            network: None,
            ipv6: false,
            tls: false,
            disk_mib: None,
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(1000),
        }
    }
}

/// The members; they end with this. Each is known by its number, from 1 on, as in its host's name.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    settings: Settings,
    dir: PathBuf,
    authority: Option<Authority>,
    /// `name:password` of who may do all, once users have to log in.
    root: Option<String>,
}

#[derive(Debug)]
struct Member {
    host: Arc<Host>,
    addr: IpAddr,
    disk: PathBuf,
    process: Option<Process>,
}

/// A full disk; it has room again when this is dropped.
#[must_use = "the disk has room again when this is dropped"]
#[derive(Debug)]
pub struct FullDisk(PathBuf);

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Etcd {
    /// Starts a member on each of the cluster's hosts for a store, and waits until they work.
    ///
    /// # Errors
    /// If there is no such host or no etcd, or if a member does not come up.
    pub fn start(cluster: &Cluster, settings: Settings) -> Result<Etcd> {
        let hosts = cluster.stores();
        let first = hosts.first().context("the cluster was built without hosts for a store")?;
        let dir = std::env::temp_dir().join(format!("etcd-{}", first.name()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let network = settings.network.unwrap_or(match cluster.has_interconnect() {
            true => Network::Interconnect,
            false => Network::Public,
        });
        let members = hosts.iter().enumerate().map(|(n, host)| {
            let addr = match settings.ipv6 {
                false => host.v4_on(network).into(),
                true => host.v6_on(network).into(),
            };
            let disk = dir.join(format!("disk-{}", n + 1));
            make_disk(&disk, settings.disk_mib)?;
            Ok(Member { host: Arc::clone(host), addr, disk, process: None })
        });
        let members = members.collect::<Result<Vec<_>>>()?;
        let authority = settings.tls.then(|| Authority::new(&dir.join("tls"))).transpose()?;
        let mut etcd = Etcd { members, settings, dir, authority, root: None };
        if let Some(authority) = &etcd.authority {
            let addrs = etcd.members.iter().map(|member| member.addr);
            authority.issue("server", &addrs.collect::<Vec<_>>())?;
            authority.issue("root", &[])?;
        }
        for number in etcd.numbers() {
            etcd.start_member(number)?;
        }
        etcd.wait_healthy()?;
        Ok(etcd)
    }

    /// The members' numbers.
    pub fn numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.members.len()
    }

    fn member(&self, number: usize) -> &Member {
        &self.members[number - 1]
    }

    /// The host of a member.
    ///
    /// # Panics
    /// If there is no such member.
    #[must_use]
    pub fn host(&self, number: usize) -> &Host {
        &self.member(number).host
    }

    /// Where a member serves clients.
    ///
    /// # Panics
    /// If there is no such member.
    #[must_use]
    pub fn endpoint(&self, number: usize) -> String {
        self.url(self.member(number).addr, 2379)
    }

    /// Where all members serve clients, separated by commas.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.numbers().map(|number| self.endpoint(number)).collect::<Vec<_>>().join(",")
    }

    fn url(&self, addr: IpAddr, port: u16) -> String {
        let scheme = if self.settings.tls { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::new(addr, port))
    }

    /// The variables by which the programs of cvip find it.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        vec![
            ("CVIP_STORE".to_owned(), "etcd".to_owned()),
            ("CVIP_ETCD_ENDPOINTS".to_owned(), self.endpoints()),
        ]
    }

    /// The file with the certificate of the authority that vouches for the members, with TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_ref().map(Authority::file)
    }

    /// A certificate for a client of this name (its CN, which is etcd's user), with TLS.
    ///
    /// # Errors
    /// Without TLS, or if there is no openssl.
    pub fn certificate(&self, name: &str) -> Result<Certificate> {
        self.authority.as_ref().context("this etcd speaks no TLS")?.issue(name, &[])
    }

    /// From now on users have to log in; `root` with this password may do all, and is who [`Etcd::ctl`] is.
    ///
    /// # Errors
    /// If etcd refuses.
    pub fn enable_auth(&mut self, password: &str) -> Result<()> {
        let root = format!("root:{password}");
        self.ctl(&["user", "add", &root])?;
        self.ctl(&["user", "grant-role", "root", "root"])?;
        self.ctl(&["auth", "enable"])?;
        self.root = Some(root);
        Ok(())
    }

    /// Starts a member that does not run, with what it has on its disk.
    ///
    /// # Errors
    /// If it cannot be run.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn start_member(&mut self, number: usize) -> Result<()> {
        let member = self.member(number);
        let (client, peer) = (self.url(member.addr, 2379), self.url(member.addr, 2380));
        let name = |n: usize| self.host(n).name().to_owned();
        let all: Vec<String> = self
            .numbers()
            .map(|n| format!("{}={}", name(n), self.url(self.member(n).addr, 2380)))
            .collect();
        let log = File::options().create(true).append(true).open(self.log(number))?;
        let mut command = member.host.command("etcd");
        command.arg("--data-dir").arg(member.disk.join("data"));
        command.args(["--name", &name(number), "--logger", "zap", "--log-outputs", "stderr"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(",")]);
        let milliseconds = |time: Duration| time.as_millis().to_string();
        command.args(["--heartbeat-interval", &milliseconds(self.settings.heartbeat)]);
        command.args(["--election-timeout", &milliseconds(self.settings.election)]);
        // The least that it takes: a login is checked in a time that an emulation can bear.
        command.args(["--bcrypt-cost", "4"]);
        if let Some(authority) = &self.authority {
            let server = authority.issue("server", &[])?;
            for (flag, path) in [
                ("--trusted-ca-file", authority.file()),
                ("--cert-file", &server.certificate),
                ("--key-file", &server.key),
                ("--peer-trusted-ca-file", authority.file()),
                ("--peer-cert-file", &server.certificate),
                ("--peer-key-file", &server.key),
            ] {
                command.arg(flag).arg(path);
            }
            command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        }
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = Process::spawn(command)?;
        self.members[number - 1].process = Some(process);
        Ok(())
    }

    /// Asks a member to end, and waits for that. One that does not run is fine.
    ///
    /// # Errors
    /// If it does not end.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn stop(&mut self, number: usize) -> Result<()> {
        let process = self.members[number - 1].process.take();
        process.map_or(Ok(()), |mut process| process.stop().map(drop))
    }

    /// Kills a member (SIGKILL): what it had not written is lost. One that does not run is fine.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn kill(&mut self, number: usize) {
        self.members[number - 1].process = None;
    }

    /// Whether a member's process runs: one whose disk is full ends.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn is_running(&mut self, number: usize) -> bool {
        self.members[number - 1].process.as_mut().is_some_and(Process::is_running)
    }

    /// Fills a member's disk to the last byte. It notices when it has to make a file larger: its log is allocated ahead,
    /// so that it is the database that is first to meet its end.
    ///
    /// # Errors
    /// If its disk has no end ([`Settings::disk_mib`]), or cannot be written.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn fill_disk(&self, number: usize) -> Result<FullDisk> {
        ensure!(self.settings.disk_mib.is_some(), "this etcd's disks have no end");
        let path = self.member(number).disk.join("filler");
        let mut file = File::create(&path)?;
        let full = FullDisk(path);
        // Smaller and smaller pieces: the last page too.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            loop {
                match file.write(&piece) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("cannot fill a disk"),
                }
            }
        }
        Ok(full)
    }

    /// Where a member logs.
    #[must_use]
    pub fn log(&self, number: usize) -> PathBuf {
        self.dir.join(format!("etcd-{number}.log"))
    }

    /// Runs etcdctl against the members that run, and gives what it prints.
    ///
    /// # Errors
    /// If it fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let running = self.running();
        let first = *running.first().context("no member of etcd runs")?;
        let endpoints: Vec<String> = running.iter().map(|n| self.endpoint(*n)).collect();
        let output = self.ctl_on(first, &endpoints.join(","), arguments)?;
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "etcdctl {}: {out}{err}", arguments.join(" "));
        Ok(out.into_owned())
    }

    /// Runs etcdctl on a member's host, against these endpoints.
    ///
    /// # Errors
    /// If it cannot be run.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn ctl_on(&self, number: usize, endpoints: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.host(number).command("etcdctl");
        // Its older language is the default up to 3.3.
        command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints]);
        if let Some(authority) = &self.authority {
            let root = authority.issue("root", &[])?;
            command.arg("--cacert").arg(authority.file());
            command.arg("--cert").arg(root.certificate).arg("--key").arg(root.key);
        }
        if let Some(root) = &self.root {
            command.args(["--user", root]);
        }
        let output = command.args(arguments).stdin(std::process::Stdio::null()).output();
        output.context("cannot run etcdctl (of the package etcd-client)")
    }

    fn running(&self) -> Vec<usize> {
        self.numbers().filter(|number| self.member(*number).process.is_some()).collect()
    }

    /// Waits until every member that was started says that it can write.
    ///
    /// # Errors
    /// If one does not, with the end of its log.
    pub fn wait_healthy(&mut self) -> Result<()> {
        for number in self.running() {
            let endpoint = self.endpoint(number);
            let mut last = String::new();
            let healthy = wait_until(PATIENCE, || {
                if !self.is_running(number) {
                    last = "it has ended".to_owned();
                    return Some(false);
                }
                let health = ["--command-timeout=2s", "endpoint", "health"];
                let output = self.ctl_on(number, &endpoint, &health).ok()?;
                last = String::from_utf8_lossy(&output.stderr).into_owned();
                output.status.success().then_some(true)
            });
            if healthy != Some(true) {
                let log = fs::read_to_string(self.log(number)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(15)..].join("\n");
                bail!("etcd's member {number} does not work: {}\n{end}", last.trim());
            }
        }
        Ok(())
    }

    /// The number of the member that leads.
    ///
    /// # Errors
    /// If none does, among those that run.
    pub fn leader(&self) -> Result<usize> {
        wait_until(PATIENCE, || {
            self.running().into_iter().find(|number| {
                let status = ["endpoint", "status", "--write-out=json"];
                let output = self.ctl_on(*number, &self.endpoint(*number), &status);
                output.ok().and_then(|output| is_leader(&output.stdout)).unwrap_or(false)
            })
        })
        .context("no member of etcd leads")
    }
}

/// Whether the member that answered `endpoint status` leads.
fn is_leader(json: &[u8]) -> Option<bool> {
    let all: serde_json::Value = serde_json::from_slice(json).ok()?;
    let status = &all.get(0)?["Status"];
    Some(status["header"]["member_id"].as_u64()? == status["leader"].as_u64()?)
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.process = None;
            let _ = umount2(&member.disk, MntFlags::MNT_DETACH);
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A disk in memory: writing through to it takes no time.
fn make_disk(on: &Path, mib: Option<u32>) -> Result<()> {
    fs::create_dir_all(on)?;
    // A ramfs does not allocate ahead, and has no end.
    let (kind, data) = match mib {
        None => ("ramfs", String::new()),
        Some(mib) => ("tmpfs", format!("size={mib}m")),
    };
    mount(Some(kind), on, Some(kind), MsFlags::empty(), Some(data.as_str()))
        .with_context(|| format!("cannot mount a {kind} on {}", on.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_is_read_from_a_members_status() {
        let status = |leader: &str| {
            format!(
                r#"[{{"Endpoint":"http://10.77.1.91:2379","Status":{{"header":{{"cluster_id":1,"member_id":15906398098026371519,
                "revision":1,"raft_term":2}},"version":"3.4.23","dbSize":20480,"leader":{leader},"raftIndex":4}}}}]"#
            )
        };
        assert_eq!(is_leader(status("15906398098026371519").as_bytes()), Some(true));
        assert_eq!(is_leader(status("7").as_bytes()), Some(false));
        assert_eq!(is_leader(b"[]"), None);
        assert_eq!(is_leader(b""), None);
    }
}
