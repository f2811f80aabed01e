//! etcd on this machine, and what it says of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvip::settings::{Engine, EtcdSettings, Settings};
use cvip_lab::{Process, wait_until};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How programs of cvip reach it.
pub(super) fn settings(endpoints: Vec<String>) -> Settings {
    let etcd = EtcdSettings { endpoints, ..EtcdSettings::default() };
    Settings { engine: Engine::Etcd, etcd, ..Settings::default() }
}

/// The servers; they die with this.
pub(super) struct Etcd {
    servers: Vec<Server>,
}

struct Server {
    _process: Process,
    client: u16,
    metrics: u16,
}

/// What a server listens on: for clients, for the others, for those who ask how it is.
struct Ports {
    client: u16,
    peer: u16,
    metrics: u16,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl Etcd {
    /// Starts so many servers with etcd's own defaults, their data below a folder, and waits until
    /// each of them can write.
    pub(super) fn start(dir: &Path, servers: usize) -> Result<Etcd> {
        let ports =
            || Ok(Ports { client: free_port()?, peer: free_port()?, metrics: free_port()? });
        let ports = (0..servers).map(|_| ports()).collect::<Result<Vec<Ports>>>()?;
        let member =
            |(number, ports): (usize, &Ports)| format!("bench{number}={}", url(ports.peer));
        let all: Vec<String> = ports.iter().enumerate().map(member).collect();
        let all = all.join(",");
        let start = |(number, ports): (usize, &Ports)| {
            Server::start(&format!("bench{number}"), ports, &all, &dir.join(number.to_string()))
        };
        let servers = ports.iter().enumerate().map(start).collect::<Result<Vec<Server>>>()?;
        let etcd = Etcd { servers };
        let healthy = |server: &Server| {
            let answer = http(server.metrics, "/health").unwrap_or_default();
            answer.contains("\"health\":\"true\"")
        };
        wait_until(PATIENCE, || etcd.servers.iter().all(healthy).then_some(())).with_context(
            || {
                let log = fs::read_to_string(dir.join("0/log")).unwrap_or_default();
                format!("etcd does not start:\n{log}")
            },
        )?;
        Ok(etcd)
    }

    fn first(&self) -> Result<&Server> {
        self.servers.first().context("no server was asked for")
    }

    /// Where its clients find it.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.servers.iter().map(|server| url(server.client)).collect()
    }

    /// Its version.
    pub(super) fn version(&self) -> Result<String> {
        let answer = http(self.first()?.client, "/version")?;
        let json = answer.split("\r\n\r\n").nth(1).context("no answer")?;
        let json: serde_json::Value = serde_json::from_str(json)?;
        Ok(json["etcdserver"].as_str().context("etcd says no version")?.to_owned())
    }

    /// What the first of them was asked for so far.
    pub(super) fn counters(&self) -> Result<Counters> {
        Ok(Counters::read(&http(self.first()?.metrics, "/metrics")?))
    }

    /// How large the first of them is.
    pub(super) fn size(&self) -> Result<String> {
        let text = http(self.first()?.metrics, "/metrics")?;
        let mb = |name| -> Result<f64> {
            let (_, value) = values(&text, name).next().with_context(|| format!("no {name}"))?;
            Ok(value / 1024.0 / 1024.0)
        };
        Ok(format!(
            "{:.1} MB resident, a database of {:.1} MB",
            mb("process_resident_memory_bytes")?,
            mb("etcd_mvcc_db_total_size_in_bytes")?
        ))
    }
}

impl Server {
    fn start(name: &str, ports: &Ports, all: &str, dir: &Path) -> Result<Server> {
        let etcd = cvip_lab::program("etcd-server", "etcd")?;
        fs::create_dir_all(dir)?;
        let log = File::create(dir.join("log"))?;
        // It dies with the bench, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(etcd);
        command.args(["--name", name, "--initial-cluster", all]);
        command.arg("--data-dir").arg(dir.join("data"));
        for (option, port) in [
            ("--listen-client-urls", ports.client),
            ("--advertise-client-urls", ports.client),
            ("--listen-peer-urls", ports.peer),
            ("--initial-advertise-peer-urls", ports.peer),
            ("--listen-metrics-urls", ports.metrics),
        ] {
            command.args([option, &url(port)]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = Process::spawn(command)?;
        Ok(Server { _process: process, client: ports.client, metrics: ports.metrics })
    }
}

/// How many messages came to each of its methods, and how many entries were committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads them from its metrics, in Prometheus' text format.
    fn read(text: &str) -> Counters {
        let mut counters = BTreeMap::new();
        for (labels, value) in values(text, "grpc_server_msg_received_total") {
            let method =
                labels.split("grpc_method=\"").nth(1).and_then(|rest| rest.split('"').next());
            *counters.entry(method.unwrap_or("?").to_owned()).or_default() += value as u64;
        }
        for (_, value) in values(text, "etcd_server_proposals_committed_total") {
            counters.insert("entries committed".to_owned(), value as u64);
        }
        Counters(counters)
    }

    /// What came since then.
    pub(super) fn since(&self, earlier: &Counters) -> Counters {
        let before = |name| earlier.0.get(name).copied().unwrap_or(0);
        let new = self.0.iter().map(|(name, now)| (name.clone(), now - before(name)));
        Counters(new.filter(|(_, new)| *new > 0).collect())
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> =
            self.0.iter().map(|(name, number)| format!("{number} {name}")).collect();
        match words.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&words.join(", ")),
        }
    }
}

/// The samples of a metric: labels and value.
fn values<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = (&'t str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let ours = labels.is_empty() || labels.starts_with('{');
        ours.then_some((labels, value.parse().ok()?))
    })
}

/// A port that nobody uses.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// What comes back for a path, head and body.
fn http(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(!text.is_empty(), "etcd does not answer on port {port}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE grpc_server_msg_received_total counter\n\
        grpc_server_msg_received_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",\
        grpc_type=\"unary\"} 12\n\
        grpc_server_msg_received_total{grpc_method=\"Txn\",grpc_service=\"etcdserverpb.KV\",\
        grpc_type=\"unary\"} 3\n\
        etcd_server_proposals_committed_total 1.5e+03\n\
        etcd_server_proposals_committed_total_of_another 7\n";

    #[test]
    fn etcds_counters_are_told_by_method_and_by_difference() {
        let counters = Counters::read(METRICS);
        assert_eq!(counters.to_string(), "12 Range, 3 Txn, 1500 entries committed");
        let later = Counters::read(&METRICS.replace("} 12", "} 20"));
        assert_eq!(later.since(&counters).to_string(), "8 Range");
        assert_eq!(later.since(&later).to_string(), "nothing");
    }
}
