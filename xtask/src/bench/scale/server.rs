//! One etcd on this machine, and what it says of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvip_lab::{Process, wait_until};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server; it dies with this.
pub(super) struct Server {
    _process: Process,
    client: u16,
    metrics: u16,
}

impl Server {
    /// Starts it with etcd's own defaults, its data below a folder, and waits until it can write.
    pub(super) fn start(dir: &Path) -> Result<Server> {
        let etcd = cvip_lab::program("etcd-server", "etcd")?;
        fs::create_dir_all(dir)?;
        let (client, peer, metrics) = (free_port()?, free_port()?, free_port()?);
        let url = |port| format!("http://127.0.0.1:{port}");
        let log = File::create(dir.join("log"))?;
        // It dies with the bench, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(etcd);
        command.args(["--name", "bench", "--data-dir"]).arg(dir.join("data"));
        for (option, value) in [
            ("--listen-client-urls", url(client)),
            ("--advertise-client-urls", url(client)),
            ("--listen-peer-urls", url(peer)),
            ("--initial-advertise-peer-urls", url(peer)),
            ("--listen-metrics-urls", url(metrics)),
            ("--initial-cluster", format!("bench={}", url(peer))),
        ] {
            command.args([option, &value]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = Process::spawn(command)?;
        let server = Server { _process: process, client, metrics };
        let healthy = || {
            let answer = http(metrics, "/health").ok()?;
            answer.contains("\"health\":\"true\"").then_some(())
        };
        wait_until(PATIENCE, healthy).with_context(|| {
            let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
            format!("etcd does not start:\n{log}")
        })?;
        Ok(server)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Its version.
    pub(super) fn version(&self) -> Result<String> {
        let answer = http(self.client, "/version")?;
        let json = answer.split("\r\n\r\n").nth(1).context("no answer")?;
        let json: serde_json::Value = serde_json::from_str(json)?;
        Ok(json["etcdserver"].as_str().context("etcd says no version")?.to_owned())
    }

    /// What it was asked for so far.
    pub(super) fn counters(&self) -> Result<Counters> {
        Ok(Counters::read(&http(self.metrics, "/metrics")?))
    }

    /// How large it is.
    pub(super) fn size(&self) -> Result<String> {
        let text = http(self.metrics, "/metrics")?;
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
