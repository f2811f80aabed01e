//! etcd servers on this machine's own loopback: one, or a cluster of several, which need neither root nor the lab.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::packages;
use crate::process::Process;
use crate::sys;
use crate::wait::{PATIENCE, wait_until};

/// One server; its process dies with this, and with the thread that launched it.
#[derive(Debug)]
pub struct Server {
    name: String,
    dir: PathBuf,
    scheme: &'static str,
    client: u16,
    peer: u16,
    metrics: u16,
    options: Vec<String>,
    /// The cluster's members, `name=url,...`.
    members: String,
    process: Option<Process>,
}

/// A port of the loopback that nobody uses.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// One request over plain HTTP to a port of the loopback, and everything that comes back.
///
/// # Errors
/// If nobody answers.
pub fn http(port: u16, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(!text.is_empty(), "nobody answers on port {port}");
    Ok(text)
}

impl Server {
    /// So many servers of one cluster that do not run yet, their data below a folder; `scheme`, `http` or `https`, is what
    /// clients speak, `options` are etcd's.
    ///
    /// # Errors
    /// If there are not enough free ports.
    pub fn cluster(
        dir: &Path,
        count: usize,
        scheme: &'static str,
        options: &[String],
    ) -> Result<Vec<Server>> {
        let server = |number: usize| -> Result<Server> {
            let name = format!("etcd{number}");
            Ok(Server {
                dir: dir.join(&name),
                name,
                scheme,
                client: free_port()?,
                peer: free_port()?,
                metrics: free_port()?,
                options: options.to_vec(),
                members: String::new(),
                process: None,
            })
        };
        let mut servers = (1..=count).map(server).collect::<Result<Vec<_>>>()?;
        let member = |server: &Server| format!("{}={}", server.name, url(server.peer));
        let members = servers.iter().map(member).collect::<Vec<_>>().join(",");
        for server in &mut servers {
            server.members.clone_from(&members);
        }
        Ok(servers)
    }

    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client)
    }

    /// The port for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.client
    }

    /// Starts it, or starts it again on the same data, and does not wait.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn launch(&mut self) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new(packages::program("etcd-server", "etcd")?);
        command.args(["--name", &self.name, "--data-dir"]).arg(self.dir.join("data"));
        for (option, value) in [
            ("--listen-client-urls", self.endpoint()),
            ("--advertise-client-urls", self.endpoint()),
            ("--listen-peer-urls", url(self.peer)),
            ("--initial-advertise-peer-urls", url(self.peer)),
            ("--listen-metrics-urls", url(self.metrics)),
            ("--initial-cluster", self.members.clone()),
        ] {
            command.args([option, &value]);
        }
        command.args(&self.options).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        sys::die_with_parent(&mut command);
        self.process = Some(Process::spawn(command)?);
        Ok(())
    }

    /// Starts it and waits until it can write.
    ///
    /// # Errors
    /// If it cannot be run, or does not work.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.await_health()
    }

    /// Waits until it can write.
    ///
    /// # Errors
    /// If it does not work.
    pub fn await_health(&self) -> Result<()> {
        let healthy = || {
            let answer = http(self.metrics, "GET /health HTTP/1.0\r\n\r\n").ok()?;
            answer.contains("\"health\":\"true\"").then_some(())
        };
        wait_until(PATIENCE, healthy).with_context(|| {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            format!("etcd does not start:\n{log}")
        })
    }

    /// All its metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> Result<String> {
        http(self.metrics, "GET /metrics HTTP/1.0\r\n\r\n")
    }

    /// Whether it leads its cluster.
    #[must_use]
    pub fn leads(&self) -> bool {
        let metrics = self.metrics().unwrap_or_default();
        metrics.lines().any(|line| line == "etcd_server_is_leader 1")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("it does not run")?.signal(signal)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Throws its data away.
    ///
    /// # Errors
    /// If it has none.
    pub fn wipe(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.dir.join("data"))?)
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
