//! Metrics over HTTP, read by a real Prometheus beside node_exporter, and its alerts for real faults.
//!
//! They run in the lab (`cargo xtask test`). The alerts are those of `packaging/prometheus/alerts.yml`
//! but for the time that each condition has to last: here it is a second.

use std::collections::BTreeSet;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use cvip::daemon::METRICS;
use cvip_lab::prometheus::{Prometheus, Target, faults_of_metrics};
use cvip_lab::{Direction, Network, Process, built_programs, unique_name, until_some};
use nix::sys::signal::{Signal, kill};

const SERVICES: &str = "<service><protocol>tcp</protocol><port>80</port></service>";

/// Nodes have the numbers 1 and 2, the directors 3 and 4.
const FIRST: u32 = 3;
const SECOND: u32 = 4;
const PORT: u16 = 8849;

/// A cluster with cvipd on every node, node_exporter on the first director, and Prometheus on the client.
struct Site {
    site: cvip_lab::Site,
    prometheus: Option<Prometheus>,
    exporter: Option<Process>,
    /// An alert that always fires where the kernel has no socket events.
    usual: Vec<&'static str>,
}

impl Site {
    #[track_caller]
    fn start() -> Site {
        cvip_lab::require();
        let site =
            cvip_lab::Site::new(&unique_name("m"), (2, 2), &built_programs(), SERVICES).unwrap();
        let mut site = Site { site, prometheus: None, exporter: None, usual: vec![] };
        // The one that is there first is elected first.
        site.run_cvipd(FIRST, &[]);
        until_some("the first director carries the CVIP", || site.carries(FIRST).then_some(()));
        for number in site.numbers().filter(|number| *number != FIRST) {
            site.run_cvipd(number, &[]);
        }
        site.serve_all();
        let exporter = format!("--web.listen-address={}", site.at(FIRST, 9100));
        let exporter = site.host(FIRST).spawn(&["prometheus-node-exporter", &exporter]).unwrap();
        site.exporter = Some(exporter);
        let rules = site.quick_rules();
        let targets: Vec<Target> = site
            .numbers()
            .map(|number| site.target("cvip", number, PORT))
            .chain([site.target("node", FIRST, 9100)])
            .collect();
        let dir = site.dir.join("prometheus");
        site.prometheus =
            Some(Prometheus::start(site.cluster.client(), &dir, &targets, &rules).unwrap());
        site.until("every target is scraped", |site| {
            (site.query("up == 1").len() == targets.len()).then_some(())
        });
        if !site.query("cvip_event_source_info{kind=\"polling\"}").is_empty() {
            site.usual.push("CvipListenersPolled");
        }
        site
    }

    fn at(&self, number: u32, port: u16) -> String {
        format!("{}:{port}", self.host(number).v4())
    }

    fn target(&self, job: &'static str, number: u32, port: u16) -> Target {
        Target { job, address: self.at(number, port), host: number.to_string() }
    }

    /// Starts a node's cvipd with metrics on its address.
    fn run_cvipd(&mut self, number: u32, options: &[&str]) {
        let address = format!("--metrics-address={}", self.at(number, PORT));
        let options = [&["--log=info", address.as_str()], options].concat();
        self.site.start(number, &options).unwrap();
    }

    fn serve_all(&mut self) {
        for node in [1, 2] {
            self.serve(node).unwrap();
        }
        until_some("the first director has both in its pool", || {
            (self.pool(FIRST) == [1, 2]).then_some(())
        });
    }

    /// The alerts, each of which fires when its condition has lasted a second.
    fn quick_rules(&self) -> PathBuf {
        let rules = fs::read_to_string(packaging("prometheus/alerts.yml")).unwrap();
        let quick: Vec<&str> = rules
            .lines()
            .map(|line| if line.starts_with("        for: ") { "        for: 1s" } else { line })
            .collect();
        assert!(quick.contains(&"        for: 1s"));
        let path = self.dir.join("alerts.yml");
        fs::write(&path, quick.join("\n")).unwrap();
        path
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut ask: impl FnMut(&Site) -> Option<T>) -> T {
        until_some(what, || ask(self))
    }

    #[track_caller]
    fn query(&self, query: &str) -> Vec<(serde_json::Value, f64)> {
        let prometheus = self.prometheus.as_ref().expect("it runs");
        prometheus.query(self.cluster.client(), query).unwrap()
    }

    /// Waits until these alerts fire, and no others but the usual one.
    #[track_caller]
    fn await_alerts(&self, wanted: &[&str]) {
        let mut wanted: Vec<&str> = wanted.iter().chain(&self.usual).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let prometheus = self.prometheus.as_ref().expect("it runs");
        let what = format!("these alerts fire and no others: {wanted:?}");
        self.until(&what, |site| {
            (prometheus.firing(site.cluster.client()).unwrap() == wanted).then_some(())
        });
    }

    /// What a client gets from a node over HTTP.
    #[track_caller]
    fn got(&self, number: u32) -> String {
        let url = format!("http://{}/metrics", self.at(number, PORT));
        self.cluster.client().stdout(&["curl", "-sf", &url]).unwrap()
    }
}

impl Deref for Site {
    type Target = cvip_lab::Site;
    fn deref(&self) -> &cvip_lab::Site {
        &self.site
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut cvip_lab::Site {
        &mut self.site
    }
}

impl Drop for Site {
    /// A test that failed shows what everything logged.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let firing = self.prometheus.as_ref().map(|p| p.firing(self.cluster.client()));
            println!("firing: {firing:?}\n{}\n{}", self.got_or_not(), self.story());
        }
    }
}

impl Site {
    fn got_or_not(&self) -> String {
        let url = format!("http://{}/metrics", self.at(FIRST, PORT));
        self.cluster.client().stdout(&["curl", "-s", &url]).unwrap_or_default()
    }
}

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

/// The names of cvip's metrics in a text, without what a histogram adds to its own.
fn names_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split(|c| !is_name(c)));
    let words = words.filter(|word| word.starts_with("cvip_"));
    let of_histogram = ["_bucket", "_sum", "_count"];
    words
        .map(|word| of_histogram.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word))
        .collect()
}

#[test]
fn prometheus_reads_the_metrics_of_every_node_and_joins_them_with_node_exporter_s() {
    let mut site = Site::start();
    let rules = packaging("prometheus/alerts.test.yml");
    site.cluster.client().stdout(&["promtool", "test", "rules", rules.to_str().unwrap()]).unwrap();

    let texts: Vec<String> = site.numbers().map(|number| site.got(number)).collect();
    for text in &texts {
        assert_eq!(faults_of_metrics(site.cluster.client(), text).unwrap(), "", "{text}");
    }
    // Every metric is told by a director that is a real server, or by a node.
    let told: BTreeSet<&str> = texts.iter().flat_map(|text| names_in(text)).collect();
    for entry in METRICS {
        assert!(told.contains(entry.name), "{} is missing", entry.name);
    }
    for file in ["prometheus/alerts.yml", "grafana/cvip.json"] {
        let text = fs::read_to_string(packaging(file)).unwrap();
        let unknown: Vec<&str> = names_in(&text).difference(&told).copied().collect();
        assert_eq!(unknown, [""; 0], "{file} names them");
    }
    assert_eq!(site.query("cvip_up == 1").len(), 4);

    // node_exporter knows connections, cvipd which node it is.
    let both = "node_ipvs_backend_weight * on (host, local_address, local_port, remote_address, \
                remote_port, proto, local_mark) group_left (node, owner) cvip_destination_info";
    site.until("the destinations of node_exporter have node and owner", |site| {
        let mut joined: Vec<(String, String)> = site
            .query(both)
            .iter()
            .map(|(labels, _)| {
                let label = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
                (label("node"), label("owner"))
            })
            .collect();
        joined.sort_unstable();
        let cvipd = |node: &str| (node.to_owned(), "cvipd".to_owned());
        (joined == [cvipd("1"), cvipd("2")]).then_some(())
    });

    // What the first record of a node says is no join of the node's, and is met by a full pass: one that
    // leaves and comes back is.
    site.stop_serving(1).unwrap();
    site.until("node 1 has left", |site| (site.pool(FIRST) == [2]).then_some(()));
    site.serve(1).unwrap();
    site.until("node 1 is back", |site| (site.pool(FIRST) == [1, 2]).then_some(()));
    // What has happened so far was measured, on each side of the store.
    for counted in [
        "cvip_join_seconds_count{part=\"node\",host=\"1\"} > 0",
        "cvip_join_seconds_count{part=\"director\",host=\"3\"} >= 2",
        "cvip_takeover_seconds_count{host=\"3\"} == 1",
        "cvip_reconcile_seconds_count{kind=\"full\",host=\"3\"} > 0",
        "cvip_reconcile_seconds_count{kind=\"changes\",host=\"3\"} > 0",
        "cvip_store_request_seconds_count{host=\"1\"} > 0",
        "cvip_heartbeats_sent_total{result=\"sent\",host=\"1\"} > 0",
        "cvip_elections_total{role=\"active\",host=\"3\"} == 1",
        "cvip_active_director{host=\"3\"} == 1",
        "cvip_service_usable_destinations{host=\"3\",local_port=\"80\"} == 2",
    ] {
        site.until(counted, |site| (site.query(counted).len() == 1).then_some(()));
    }
    // `cvipctl metrics` prints the same metrics.
    let printed = site.run(FIRST, &["cvipctl", "metrics", "--node", "3"]).unwrap();
    assert_eq!(names_in(&printed), names_in(&site.got(FIRST)));
}

#[test]
fn each_fault_fires_its_alert_and_the_alert_ends_with_it() {
    let mut site = Site::start();
    site.await_alerts(&[]);

    site.kill_daemon(SECOND);
    site.await_alerts(&["CvipDirectorGone", "CvipdDown"]);
    site.run_cvipd(SECOND, &[]);
    site.await_alerts(&[]);

    // Its machine lives, and Prometheus reaches it on the other network's address no less.
    let silent = site.host(1).part_from(site.host(FIRST), Network::Public, Direction::From);
    let silent = silent.unwrap();
    site.await_alerts(&["CvipHeartbeatLost"]);
    silent.end().unwrap();
    site.await_alerts(&[]);

    for node in [1, 2] {
        site.stop_serving(node).unwrap();
    }
    site.await_alerts(&["CvipServiceWithoutServer"]);
    site.serve_all();
    site.await_alerts(&[]);

    let numbers = site.etcd.numbers();
    for number in numbers.clone() {
        site.etcd.stop(number).unwrap();
    }
    site.await_alerts(&["CvipStoreUnavailable"]);
    for number in numbers {
        site.etcd.start_member(number).unwrap();
    }
    site.await_alerts(&[]);

    let conf = site.dir.join("cvip.conf");
    let good = fs::read_to_string(&conf).unwrap();
    let reload = |site: &Site| kill(site.daemon_pid(2).unwrap(), Signal::SIGHUP).unwrap();
    fs::write(&conf, good.replace("<port>80", "<port>http")).unwrap();
    reload(&site);
    site.await_alerts(&["CvipConfigurationRefused"]);
    fs::write(&conf, good).unwrap();
    reload(&site);
    site.await_alerts(&[]);

    site.kill_daemon(2);
    site.run_cvipd(2, &["--poll"]);
    site.await_alerts(&["CvipListenersPolled"]);
    site.kill_daemon(2);
    site.run_cvipd(2, &[]);
    site.await_alerts(&[]);

    site.kill_daemon(FIRST);
    site.kill_daemon(SECOND);
    site.await_alerts(&["CvipNoActiveDirector", "CvipdDown"]);
}
