//! What the programs print with `--json`, held against the schemas of `docs/json`; without a
//! kernel. `tests/kernel/documents.rs` does the same where a kernel has something to say.

mod ipvsadm_support;
mod json_support;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use cvip::ipvsadm::watch::Clock;
use cvip::ipvsadm::{Call, ToolStreams, run};
use cvip::protocol::Protocol::Tcp;
use cvip::store::{
    Access, LocalStore, NodeRecord, RefusedListener, Registration, ServiceKey, Store,
};
use ipvsadm_support::memory::Memory;
use ipvsadm_support::names::RecordedNames;
use json_support::Schemas;
use serde_json::{Value, json};

/// A clock that passes the time at once.
struct Skipping(Instant);

impl Clock for Skipping {
    fn now(&mut self) -> Instant {
        self.0
    }

    fn sleep(&mut self, time: Duration) {
        self.0 += time;
    }
}

/// What `ipvsadm-rs` prints, with a table in memory.
#[track_caller]
fn ipvsadm(memory: &Memory, words: &str, stdin: &str) -> String {
    let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(
        Call { program: OsStr::new("ipvsadm"), words: &words, posix: false },
        ToolStreams {
            stdin: &mut stdin.as_bytes(),
            out: &mut out,
            err: &mut err,
            err_is_terminal: false,
        },
        &mut RecordedNames::new(),
        &mut Skipping(Instant::now()),
        || Ok(memory.clone()),
    );
    let err = String::from_utf8(err).unwrap();
    assert_eq!((err.as_str(), status), ("", 0), "{words:?}");
    String::from_utf8(out).unwrap()
}

const CONF: &str = "<?xml version=\"1.0\"?>
<cvips>
    <routing>DR</routing>
    <cvip>
        <ip_addr>10.0.0.100</ip_addr>
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
        <director_node><node_num>3</node_num><garp_interface>eth0</garp_interface></director_node>
        <real_server_node><node_num>2</node_num></real_server_node>
        <real_server_node><node_num>3</node_num></real_server_node>
        <service><port>80</port><persistence>300</persistence></service>
        <service><protocol>udp</protocol><port>53</port><registration>static</registration></service>
    </cvip>
</cvips>
";

/// A cluster's files, and a store in which node 2 serves HTTP.
struct Cluster(tempfile::TempDir);

impl Cluster {
    fn new() -> Cluster {
        let cluster = Cluster(tempfile::tempdir().unwrap());
        cluster.write("cvip.conf", CONF);
        cluster.write("clustertab", "1 10.0.0.1\n2 10.0.0.2\n3 10.0.0.3\n");
        cluster.write("cvip.toml", "store = \"local\"\n");
        let service = |port| ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Tcp, port };
        let mut record = NodeRecord::empty(2, 1, 1);
        record.registrations = vec![
            Registration::new(service(80), 1),
            Registration {
                unhealthy: Some("no answer".into()),
                ..Registration::new(service(81), 1)
            },
        ];
        record.refused = vec![RefusedListener {
            service: service(8080),
            bound: [10, 0, 0, 2].into(),
            uid: 1000,
            reason: "not root".to_owned(),
            reachable: false,
        }];
        record.refused_more = 7;
        let mut store = LocalStore::open(&cluster.0.path().join("run"), Access::Write).unwrap();
        store.refresh().unwrap();
        store.put_node(&record).unwrap();
        store.put_node(&NodeRecord { leaving: true, ..NodeRecord::empty(3, 1, 1) }).unwrap();
        cluster
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// What a program prints, whatever its exit status.
    fn run(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let program = match words.next().unwrap() {
            "cvipctl" => env!("CARGO_BIN_EXE_cvipctl"),
            _ => env!("CARGO_BIN_EXE_setport_weight"),
        };
        let output = Command::new(program)
            .args(words)
            .env("CVIP_CONF", self.0.path().join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", self.0.path().join("clustertab"))
            .env("CVIP_RUN_DIR", self.0.path().join("run"))
            .env("CVIP_SETTINGS", self.0.path().join("cvip.toml"))
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(!out.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        out
    }
}

#[test]
fn the_schemas_use_what_is_checked_and_refer_to_what_is_there() {
    assert_eq!(Schemas::read().own_faults(), [""; 0]);
}

#[test]
fn what_a_schema_does_not_say_is_found() {
    let schemas = Schemas::read();
    let faults = |name: &str, value: Value| schemas.faults(name, &value).join("; ");
    let good = json!({ "schema": 1, "timeouts": { "tcp_s": 1, "tcp_fin_s": 2, "udp_s": 3 } });
    assert_eq!(faults("timeouts", good), "");
    let bad = json!({ "schema": 2, "timeouts": { "tcp_s": -1, "tcp_fin_s": "2", "udp": 3 } });
    let found = faults("timeouts", bad);
    for fault in [
        "/schema: 2 is not 1",
        "/timeouts: udp_s is missing",
        "/timeouts/tcp_s: -1 is below 0",
        "/timeouts/tcp_fin_s: \"2\" is no",
        "/timeouts/udp: undocumented",
    ] {
        assert!(found.contains(fault), "{found}");
    }
    let event =
        |at: &str, event: &str| json!({"schema": 1, "at": at, "director": 1, "event": event});
    assert_eq!(faults("event", event("2026-03-01T10:00:00.000Z", "store_back")), "");
    assert!(faults("event", event("yesterday", "store_back")).contains("no time"));
    assert!(faults("event", event("2026-03-01T10:00:00.000Z", "feast")).contains("not one of"));
}

#[test]
fn the_documents_of_ipvsadm_rs() {
    let schemas = Schemas::read();
    let memory = Memory::default();
    let rules = "\
-A -t 10.0.0.1:80 -s sh -p 60 -M 255.255.255.0 -b sh-port,flag-3
-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 5 -x 100 -y 50
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-A -u [2001:db8::1]:53 -o
-A -f 7 -6 -s rr
--start-daemon master --mcast-interface lo --mcast-ttl 2
";
    ipvsadm(&memory, "-R", rules);
    memory.0.borrow_mut().connections = ipvsadm_support::names::file("connections/proc_conn");
    memory.0.borrow_mut().status = Some("Conns:\t\t12\nServices:\t3\n".to_owned());
    for (words, name) in [
        ("-L --json", "table"),
        ("-L -t 10.0.0.1:80 --json", "table"),
        ("-L --json --rate --interval 1 --count 1", "table"),
        ("-L -c --json", "connections"),
        ("-L --timeout --json", "timeouts"),
        ("-L --daemon --json", "daemons"),
        ("-L --status --json", "kernel-status"),
        ("--drain -t 10.0.0.1:80 -r 10.0.1.1:8080 --json", "server-drain"),
    ] {
        let text = ipvsadm(&memory, words, "");
        assert_eq!(text.lines().count(), 1, "{words}");
        schemas.check(name, &text);
    }
}

#[test]
fn the_documents_of_cvipctl_and_setport_weight() {
    let (schemas, cluster) = (Schemas::read(), Cluster::new());
    cluster.run("cvipctl drain 2:80 --deadline 1m --json");
    for (line, name) in [
        ("cvipctl drain 2 --reason disk --json", "drain"),
        ("cvipctl status --json --node 1", "status"),
        ("cvipctl status --json --cluster", "status"),
        ("cvipctl doctor --json --node 1", "doctor"),
        ("cvipctl check --json --offline", "check"),
        ("cvipctl convert --json", "table"),
        ("cvipctl convert --json --all", "table"),
        ("cvipctl etcd-roles --json --store=local", "etcd-roles"),
        ("cvipctl undrain 2 --json", "undrain"),
        ("cvipctl undrain 2 --json", "undrain"),
        ("cvipctl leave --json --node 3", "leave"),
        ("setport_weight --list --json --node 1", "flags"),
        ("setport_weight --start-port=1 --end-port=80 --weight=1 --json --node 1", "flags"),
        ("setport_weight --start-port=9 --end-port=80 --delete --json --node 1", "flags"),
    ] {
        let document = schemas.check(name, &cluster.run(line));
        assert_eq!(document["schema"], 1);
    }
    let file = cluster.0.path().join("rules");
    fs::write(&file, "-A -t 10.0.0.90:80\n-a -t 10.0.0.90:80 -r 10.0.0.2:80\n-L\n").unwrap();
    let import = format!("cvipctl import {} --json", file.display());
    let document = schemas.check("import", &cluster.run(&import));
    assert!(document["error"].as_str().unwrap().contains("--director"));
    let import = format!("{import} --director 10.0.0.1 --interface eth0");
    let document = schemas.check("import", &cluster.run(&import));
    assert_eq!(document["totals"]["not_carried"], 1);
    let output = format!("{import} --output {}", cluster.0.path().join("draft").display());
    for changed in [true, false] {
        assert_eq!(schemas.check("import", &cluster.run(&output))["changed"], changed);
    }
    cluster.write("clustertab", "1 nowhere\n");
    schemas.check("check", &cluster.run("cvipctl check --json --offline"));
    schemas.check("doctor", &cluster.run("cvipctl doctor --json --node 1"));
}

#[test]
fn every_event_is_documented() {
    let (schemas, cluster) = (Schemas::read(), Cluster::new());
    let at_service = json!({ "cvip": "10.0.0.100", "protocol": "tcp", "port": 80 });
    let address = json!({ "address": "10.0.0.2" });
    let state = json!({ "address": "10.0.0.2", "state": "unhealthy", "reason": "no answer" });
    let sync = json!({ "role": "master", "interface": "eth0" });
    let node = json!({ "node": 2 });
    let quorum = json!({ "weight": 1, "quorum": 2 });
    let events: [(&str, &[&Value]); 29] = [
        ("joined", &[&at_service, &node, &json!({ "weight": 1 })]),
        ("left", &[&at_service, &node]),
        ("out", &[&at_service, &address]),
        ("quiesced", &[&at_service, &state]),
        ("spared", &[&at_service, &state]),
        ("restored", &[&at_service, &address]),
        ("quorum_up", &[&at_service, &quorum]),
        ("quorum_down", &[&at_service, &quorum]),
        ("drain_ordered", &[&json!({ "target": "node 2", "by": "root@node1", "reason": "disk" })]),
        ("drain_ended", &[&json!({ "target": "node 2" })]),
        ("node", &[&node, &json!({ "liveness": "agent_down" })]),
        ("node_left", &[&node]),
        ("took", &[&json!({ "term": 4, "from": 1 })]),
        ("yielded", &[&json!({ "term": 5 })]),
        ("store_unavailable", &[]),
        ("store_back", &[]),
        (
            "table_repaired",
            &[&at_service, &json!({"services": 0, "destinations": 1, "edited": 0, "removed": 2})],
        ),
        ("sync_missing", &[&sync, &json!({ "reason": "no such device" })]),
        ("sync_runs", &[&sync]),
        ("table_passive", &[&json!({ "reason": "no sync_interface" })]),
        ("table_failed", &[&json!({ "reason": "no such device" })]),
        ("table_ready", &[]),
        ("isolated", &[]),
        ("isolation_ended", &[]),
        ("repaired", &[&json!({ "what": "added 10.0.0.100 on lo" })]),
        ("incapable", &[&json!({ "reason": "eth0 is down" })]),
        ("can_carry", &[]),
        ("conflict", &[&address, &json!({ "by": "02:00:00:00:00:01" })]),
        ("conflict_over", &[&address]),
    ];
    let mut text = String::new();
    for (name, parts) in events {
        let mut event = json!({"at": "2026-03-01T10:00:00.000Z", "director": 1, "event": name});
        for part in parts {
            event.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        text.push_str(&format!("{event}\n"));
    }
    cluster.write("run/events-1.jsonl", &text);
    let told = cluster.run("cvipctl events --json");
    let told: BTreeSet<String> = told
        .lines()
        .map(|line| schemas.check("event", line)["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, events.map(|(name, _)| name.to_owned()).into());
}

#[test]
fn what_convert_prints_is_restored() {
    let cluster = Cluster::new();
    let (by_json, by_lines) = (Memory::default(), Memory::default());
    ipvsadm(&by_json, "--restore-json", &cluster.run("cvipctl convert --all --json"));
    ipvsadm(&by_lines, "-R", &cluster.run("cvipctl convert --all"));
    let saved = ipvsadm(&by_json, "-S -n --full", "");
    assert_eq!(saved, ipvsadm(&by_lines, "-S -n --full", ""));
    assert!(saved.contains("-A -t 10.0.0.100:80 -s wlc -p 300\n"), "{saved}");
}
