//! Real etcd servers on loopback: one, or a cluster of three.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use cvip::settings::{Engine as Which, EtcdSettings, Settings};
use cvip::store::{self, Access, Interest, Key, Store, layout::Layout};
use cvip_lab::etcd::{Server, http};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::super::holder::RUN_DIR;
use super::Engine;

/// The leases of the tests live so long.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// Requests of the tests may take so long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn etcdctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| cvip_lab::program("etcd-client", "etcdctl").unwrap())
}

/// Faster than the defaults, and still far from what a busy machine stalls for.
const TIMES: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];

/// Forgets everything but a server's newest values, much faster than etcdctl does.
pub(crate) fn compact_now(server: &Server) {
    let post = |path: &str, body: String| {
        let length = body.len();
        let head = format!("POST /v3/kv/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        http(server.port(), &(head + &body)).unwrap()
    };
    // "bm9uZQ==" is a key that nobody has.
    let answer = post("range", "{\"key\":\"bm9uZQ==\"}".to_owned());
    let revision = answer.split("\"revision\":\"").nth(1).unwrap().split('"').next().unwrap();
    // It may be compacted already, if nobody wrote in between.
    post("compaction", format!("{{\"revision\":\"{revision}\"}}"));
}

/// A cluster of one or three servers, with a folder for each host that uses it.
pub(crate) struct Etcd {
    pub(crate) servers: Vec<Server>,
    dir: TempDir,
    pub(crate) settings: EtcdSettings,
}

impl Etcd {
    /// One server, running.
    pub(crate) fn new() -> Etcd {
        Etcd::with(&[])
    }

    /// One server with more options, running.
    pub(crate) fn with(options: &[&str]) -> Etcd {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let mut etcd = Etcd::stopped(1, "http", &options);
        etcd.servers[0].start().unwrap();
        etcd
    }

    /// Three servers, running.
    pub(crate) fn three() -> Etcd {
        let mut etcd = Etcd::stopped(3, "http", &[]);
        etcd.servers.iter_mut().for_each(|server| server.launch().unwrap());
        etcd.servers.iter().for_each(|server| server.await_health().unwrap());
        etcd
    }

    /// Servers that do not run yet.
    pub(crate) fn stopped(count: usize, scheme: &'static str, options: &[String]) -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        let options: Vec<String> =
            TIMES.iter().map(ToString::to_string).chain(options.iter().cloned()).collect();
        let servers = Server::cluster(dir.path(), count, scheme, &options).unwrap();
        let settings = EtcdSettings {
            endpoints: servers.iter().map(Server::endpoint).collect(),
            lease_ttl: TTL,
            timeout: TIMEOUT,
            ..EtcdSettings::default()
        };
        Etcd { servers, dir, settings }
    }

    /// The only server, or the first.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.servers[0]
    }

    /// The folder of a host.
    pub(crate) fn host(&self, host: u32) -> PathBuf {
        self.dir.path().join(format!("host{host}"))
    }

    /// The store as another set of settings finds it.
    pub(crate) fn open_with(&self, settings: &EtcdSettings, host: u32) -> Box<dyn Store> {
        let settings =
            Settings { engine: Which::Etcd, etcd: settings.clone(), ..Settings::default() };
        store::open(&settings, &self.host(host), Access::Write, Interest::All).unwrap()
    }

    /// Runs etcdctl.
    pub(crate) fn try_ctl(&self, arguments: &[&str]) -> Output {
        Command::new(etcdctl())
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(self.settings.endpoints.join(","))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs etcdctl, and returns what it printed.
    #[track_caller]
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {err}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// etcd's revision.
    pub(crate) fn revision(&self) -> i64 {
        let json = self.ctl(&["get", "none", "--write-out=json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["header"]["revision"].as_i64().unwrap()
    }

    /// Forgets everything but the newest values.
    pub(crate) fn compact(&self) {
        self.ctl(&["compact", &self.revision().to_string()]);
    }

    fn path(&self, key: Key) -> String {
        Layout::new(&self.settings.prefix).path(key).unwrap()
    }

    /// A key's value as it is stored.
    pub(crate) fn stored(&self, key: Key) -> String {
        self.ctl(&["get", "--print-value-only", &self.path(key)])
    }
}

impl Engine for Etcd {
    fn open_on(&self, host: u32, interest: Interest) -> Box<dyn Store> {
        let settings =
            Settings { engine: Which::Etcd, etcd: self.settings.clone(), ..Settings::default() };
        store::open(&settings, &self.host(host), Access::Write, interest).unwrap()
    }

    fn spoil(&self, key: Key, bytes: &[u8]) {
        // From a file: bytes that are no text cannot be arguments.
        let file = self.dir.path().join("corrupt");
        std::fs::write(&file, bytes).unwrap();
        let status = Command::new(etcdctl())
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.settings.endpoints.join(","), "put", &self.path(key)])
            .stdin(std::fs::File::open(file).unwrap())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    fn remove(&self, key: Key) {
        self.ctl(&["del", &self.path(key)]);
    }

    fn run_dir(&self) -> PathBuf {
        self.host(1)
    }

    fn hold_up(&self, held_up: bool) {
        let signal = if held_up { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.servers.iter().for_each(|server| server.signal(signal).unwrap());
    }

    fn environment(&self, host: u32) -> Vec<(&'static str, String)> {
        // The time of a lease has no variable of its own.
        let settings = self.dir.path().join("cvip.toml");
        let text = format!("[etcd]\nlease_ttl = {}\n", self.settings.lease_ttl.as_secs());
        std::fs::write(&settings, text).unwrap();
        vec![
            ("CVIP_SETTINGS", settings.display().to_string()),
            ("CVIP_STORE", "etcd".to_owned()),
            ("CVIP_ETCD_ENDPOINTS", self.settings.endpoints.join(",")),
            ("CVIP_ETCD_PREFIX", self.settings.prefix.clone()),
            (RUN_DIR, self.host(host).display().to_string()),
        ]
    }
}
