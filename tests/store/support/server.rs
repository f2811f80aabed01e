//! Real etcd servers on loopback: one, or a cluster of three.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use cvip::settings::{Engine as Which, EtcdSettings, Settings};
use cvip::store::{self, Access, Interest, Key, Store, layout::Layout};
use cvip_lab::{Process, wait_until};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::super::holder::RUN_DIR;
use super::{Engine, PATIENCE};

/// The leases of the tests live so long.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// Requests of the tests may take so long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// One server.
pub(crate) struct Server {
    name: String,
    dir: TempDir,
    scheme: &'static str,
    pub(crate) client: u16,
    peer: u16,
    metrics: u16,
    options: Vec<String>,
    /// The cluster's members, `name=url,...`.
    members: String,
    process: Option<Process>,
}

/// A port that nobody uses.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// One request over plain HTTP, and everything that comes back.
fn http(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn program(package: &str, name: &str) -> PathBuf {
    cvip_lab::program(package, name).unwrap_or_else(|error| panic!("{error:#}"))
}

fn etcd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("etcd-server", "etcd"))
}

pub(crate) fn etcdctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("etcd-client", "etcdctl"))
}

impl Server {
    fn new(name: &str, scheme: &'static str, options: &[String]) -> Server {
        Server {
            name: name.to_owned(),
            dir: tempfile::tempdir().unwrap(),
            scheme,
            client: free_port(),
            peer: free_port(),
            metrics: free_port(),
            options: options.to_vec(),
            members: String::new(),
            process: None,
        }
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    /// Its address, as the settings name it.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client)
    }

    /// Starts it, or starts it again on the same data, and does not wait.
    pub(crate) fn launch(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        // It dies with the test that started it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(etcd());
        command.args(["--name", &self.name, "--data-dir"]).arg(self.dir.path().join("data"));
        for (option, value) in [
            ("--listen-client-urls", self.endpoint()),
            ("--advertise-client-urls", self.endpoint()),
            ("--listen-peer-urls", self.peer_url()),
            ("--initial-advertise-peer-urls", self.peer_url()),
            ("--listen-metrics-urls", format!("http://127.0.0.1:{}", self.metrics)),
            ("--initial-cluster", self.members.clone()),
            // Faster than the defaults, and still far from what a busy machine stalls for.
            ("--heartbeat-interval", "50".to_owned()),
            ("--election-timeout", "500".to_owned()),
        ] {
            command.args([option, &value]);
        }
        command.args(&self.options).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
        self.process = Some(
            Process::spawn({
                command.stderr(log);
                command
            })
            .unwrap(),
        );
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.launch();
        self.await_health();
    }

    pub(crate) fn await_health(&self) {
        let up = wait_until(PATIENCE, || self.is_healthy().then_some(()));
        assert!(up.is_some(), "etcd does not start: {}", self.log());
    }

    /// True if it has a leader and can write.
    fn is_healthy(&self) -> bool {
        let answer = http(self.metrics, "GET /health HTTP/1.0\r\n\r\n");
        answer.is_ok_and(|text| text.contains("\"health\":\"true\""))
    }

    /// Forgets everything but the newest values, much faster than etcdctl does.
    pub(crate) fn compact_now(&self) {
        let post = |path: &str, body: String| {
            let length = body.len();
            let head = format!("POST /v3/kv/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
            http(self.client, &(head + &body)).unwrap()
        };
        // "bm9uZQ==" is a key that nobody has.
        let answer = post("range", "{\"key\":\"bm9uZQ==\"}".to_owned());
        let revision = answer.split("\"revision\":\"").nth(1).unwrap().split('"').next().unwrap();
        // It may be compacted already, if nobody wrote in between.
        post("compaction", format!("{{\"revision\":\"{revision}\"}}"));
    }

    /// A number of its metrics.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = http(self.metrics, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }

    /// True if it leads its cluster.
    pub(crate) fn leads(&self) -> bool {
        self.metric("etcd_server_is_leader") == 1.0
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal).unwrap();
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Throws its data away.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }
}

/// A cluster of one or three servers, with a folder for each host that uses it.
pub(crate) struct Etcd {
    pub(crate) servers: Vec<Server>,
    hosts: TempDir,
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
        etcd.servers[0].start();
        etcd
    }

    /// Three servers, running.
    pub(crate) fn three() -> Etcd {
        let mut etcd = Etcd::stopped(3, "http", &[]);
        etcd.servers.iter_mut().for_each(Server::launch);
        etcd.servers.iter().for_each(Server::await_health);
        etcd
    }

    /// Servers that do not run yet.
    pub(crate) fn stopped(count: usize, scheme: &'static str, options: &[String]) -> Etcd {
        let name = |n| format!("etcd{n}");
        let mut servers: Vec<Server> =
            (1..=count).map(|n| Server::new(&name(n), scheme, options)).collect();
        let members: Vec<String> =
            servers.iter().map(|server| format!("{}={}", server.name, server.peer_url())).collect();
        for server in &mut servers {
            server.members = members.join(",");
        }
        let settings = EtcdSettings {
            endpoints: servers.iter().map(Server::endpoint).collect(),
            lease_ttl: TTL,
            timeout: TIMEOUT,
            ..EtcdSettings::default()
        };
        Etcd { servers, hosts: tempfile::tempdir().unwrap(), settings }
    }

    /// The only server, or the first.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.servers[0]
    }

    /// The folder of a host.
    pub(crate) fn host(&self, host: u32) -> PathBuf {
        self.hosts.path().join(host.to_string())
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
        let file = self.hosts.path().join("corrupt");
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
        self.servers.iter().for_each(|server| server.signal(signal));
    }

    fn environment(&self, host: u32) -> Vec<(&'static str, String)> {
        // The time of a lease has no variable of its own.
        let settings = self.hosts.path().join("cvip.toml");
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
