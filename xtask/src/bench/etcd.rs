//! etcd on this machine, and what it says of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use cvip::settings::{Engine, EtcdSettings, Settings};
use cvip::store::{self, Access, Interest, Store};
use cvip_lab::etcd::{Server, http};

/// How programs of cvip reach it.
pub(super) fn settings(endpoints: Vec<String>) -> Settings {
    let etcd = EtcdSettings { endpoints, ..EtcdSettings::default() };
    Settings { engine: Engine::Etcd, etcd, ..Settings::default() }
}

/// The store as a program opens it.
pub(super) fn open(endpoints: &str, dir: &Path, interest: Interest) -> Result<Box<dyn Store>> {
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    Ok(store::open(&settings(endpoints), dir, Access::Write, interest)?)
}

/// The servers; they die with this.
pub(super) struct Etcd {
    servers: Vec<Server>,
}

impl Etcd {
    /// Starts so many servers with etcd's own defaults, their data below a folder, and waits until
    /// each of them can write.
    pub(super) fn start(dir: &Path, servers: usize) -> Result<Etcd> {
        let mut servers = Server::cluster(dir, servers, "http", &[])?;
        servers.iter_mut().try_for_each(Server::launch)?;
        servers.iter().try_for_each(Server::await_health)?;
        Ok(Etcd { servers })
    }

    fn first(&self) -> Result<&Server> {
        self.servers.first().context("no server was asked for")
    }

    /// Where its clients find it.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.servers.iter().map(Server::endpoint).collect()
    }

    /// Its version.
    pub(super) fn version(&self) -> Result<String> {
        let answer = http(self.first()?.port(), "GET /version HTTP/1.0\r\n\r\n")?;
        let json = answer.split("\r\n\r\n").nth(1).context("no answer")?;
        let json: serde_json::Value = serde_json::from_str(json)?;
        Ok(json["etcdserver"].as_str().context("etcd says no version")?.to_owned())
    }

    /// What the first of them was asked for so far.
    pub(super) fn counters(&self) -> Result<Counters> {
        Ok(Counters::read(&self.first()?.metrics()?))
    }

    /// How large the first of them is.
    pub(super) fn size(&self) -> Result<String> {
        let text = self.first()?.metrics()?;
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
