//! Drains and events over the real programs, with the embedded store and without a kernel: what
//! an operator orders stands in the store, and what directors recorded is told.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip::store::{
    Access, DrainTarget, Drains, Lease, Lingering, LocalStore, NodeRecord, Registration,
    ServiceKey, Store,
};
use serde_json::{Value, json};

const CONF: &str = "<?xml version=\"1.0\"?>
<cvips>
    <routing>DR</routing>
    <cvip>
        <ip_addr>10.0.0.100</ip_addr>
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
        <real_server_node><node_num>2</node_num></real_server_node>
        <real_server_node><node_num>3</node_num></real_server_node>
        <service><port>80</port></service>
        <service><protocol>udp</protocol><port>53</port></service>
    </cvip>
</cvips>
";

type Port = (cvip::protocol::Protocol, u16);

/// A cluster's files, and a store in which nodes 2 and 3 serve HTTP, and node 2 DNS.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text| fs::write(folder.path().join(name), text).unwrap();
        write("cvip.conf", CONF);
        write("clustertab", "1 10.0.0.1\n2 10.0.0.2\n3 10.0.0.3\n");
        write("cvip.toml", "store = \"local\"\n");
        let cluster = Cluster { folder };
        cluster.put(2, 1, &[(Tcp, 80), (Udp, 53)], &[]);
        cluster.put(3, 1, &[(Tcp, 80)], &[]);
        cluster
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn store(&self) -> LocalStore {
        let mut store = LocalStore::open(&self.run_dir(), Access::Write).unwrap();
        store.refresh().unwrap();
        store
    }

    /// Writes a node's record: what it serves, and who is still connected.
    fn put(&self, node: u32, sequence: u64, ports: &[Port], lingering: &[(Port, u32)]) {
        let key = |(protocol, port): &Port| ServiceKey {
            cvip: "10.0.0.100".parse().unwrap(),
            protocol: *protocol,
            port: *port,
        };
        let mut record = NodeRecord::empty(node, 1, sequence);
        record.registrations = ports.iter().map(|p| Registration::new(key(p), 1)).collect();
        let lingers = |((protocol, port), connections): &(Port, u32)| Lingering {
            protocol: *protocol,
            port: *port,
            connections: *connections,
        };
        record.lingering = lingering.iter().map(lingers).collect();
        self.store().put_node(&record).unwrap();
    }

    /// A director lives, and its table obeys the drain of node 2: for as long as this is held.
    #[must_use]
    fn obeyed(&self) -> Lease {
        let mut store = self.store();
        let lease = store.lease(1, 1).unwrap();
        store.put_node(&NodeRecord { obeys: vec![NODE], ..NodeRecord::empty(1, 1, 1) }).unwrap();
        lease
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cvipctl"));
        command
            .args(shlex::split(line).unwrap())
            .env("CVIP_CONF", self.folder.path().join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", self.folder.path().join("clustertab"))
            .env("CVIP_RUN_DIR", self.run_dir())
            .env("CVIP_SETTINGS", self.folder.path().join("cvip.toml"));
        command
    }

    fn try_run(&self, line: &str) -> (Option<i32>, String, String) {
        shown(&self.command(line).output().unwrap())
    }

    /// Standard output of a command that succeeds, and what it warns of.
    #[track_caller]
    fn run(&self, line: &str) -> (String, String) {
        let (status, out, err) = self.try_run(line);
        assert_eq!(status, Some(0), "{line}: {out}{err}");
        (out, err)
    }

    /// Starts a command whose lines are read while it runs.
    fn follow(&self, line: &str) -> Follower {
        let mut child =
            self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Follower { child, out }
    }

    fn drains(&self) -> Drains {
        self.store().state().drains.clone()
    }
}

/// A command that runs.
struct Follower {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Follower {
    /// Its next line.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended after {line:?}");
        line.trim_end().to_owned()
    }

    /// Waits for its end: status, the rest of standard output, standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let (status, _, err) = shown(&output);
        (status, rest, err)
    }
}

fn shown(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const NODE: DrainTarget = DrainTarget { node: 2, port: None };

#[test]
fn an_order_stands_in_the_store_until_it_is_taken_back() {
    let cluster = Cluster::new();
    let (out, _) = cluster.run("drain 2 --reason 'new disk' --deadline 5m");
    assert_eq!(out, "node 2 is drained, connections are cut after 5m: new disk\n");
    let order = cluster.drains().remove(&NODE).unwrap();
    assert_eq!((order.reason.as_deref(), order.deadline_s), (Some("new disk"), Some(300)));
    assert!(order.by.contains('@') && order.since > 1_600_000_000, "{order:?}");
    let (out, _) = cluster.run("drain 2 --now");
    assert_eq!(out, "node 2 is drained, connections are cut at once: new disk\n");
    // A script that repeats itself is told so, and goes on.
    let stands = cluster.drains();
    let (out, _) = cluster.run("drain 2 --now");
    assert!(out.ends_with(": new disk\nit was before: nothing to do\n"), "{out}");
    assert_eq!(cluster.drains(), stands);
    let (out, err) = cluster.run("undrain 2");
    assert_eq!((out.as_str(), err.as_str()), ("node 2 is drained no longer\n", ""));
    assert!(cluster.drains().is_empty());
    let (status, _, err) = cluster.try_run("undrain 2");
    assert_eq!((status, err.lines().count()), (Some(0), 1), "{err}");
    assert!(err.contains("no drain of its own; nothing is drained"), "{err}");
    cluster.run("drain 2");
    let (status, _, err) = cluster.try_run("undrain 2:80");
    assert_eq!(status, Some(1), "it stays drained with its node: {err}");
    assert!(err.contains("drained as a whole"), "{err}");
}

#[test]
fn a_port_is_drained_with_each_of_its_protocols_and_the_command_says_which() {
    let cluster = Cluster::new();
    cluster.put(2, 2, &[(Tcp, 80), (Udp, 80)], &[]);
    let (out, _) = cluster.run("drain 2:80");
    assert_eq!(out, "node 2 tcp 80 is drained\nnode 2 udp 80 is drained\n");
    cluster.run("drain 2");
    let (out, err) = cluster.run("undrain 2:80/udp");
    assert_eq!(out, "node 2 udp 80 is drained no longer\n");
    assert!(err.contains("drained as a whole"), "{err}");
    let (out, _) = cluster.run("undrain 2");
    assert_eq!(out, "node 2 is drained no longer\nnode 2 tcp 80 is drained no longer\n");
}

#[test]
fn whoever_drains_the_last_server_is_warned_and_obeyed() {
    let cluster = Cluster::new();
    let (_, err) = cluster.run("drain 3:80");
    assert!(!err.contains("nobody else"), "node 2 serves too: {err}");
    let (_, err) = cluster.run("drain 2");
    for service in ["tcp 10.0.0.100:80", "udp 10.0.0.100:53"] {
        assert!(err.contains("no other real server serves") && err.contains(service), "{err}");
    }
    assert!(err.contains("no cvipd runs on the director, node 1"), "{err}");
    assert_eq!(cluster.drains().len(), 2);
}

#[test]
fn what_makes_no_sense_changes_nothing_and_says_what_would() {
    let cluster = Cluster::new();
    for (line, status, what) in [
        ("drain 9", 1, "the nodes are 1, 2, 3"),
        ("drain 2:9", 1, "say 2:9/tcp"),
        ("drain web1", 2, "it is a number of clustertab"),
        ("drain 2:http", 2, "a number from 1 to 65535"),
        ("drain 2 --deadline soon", 2, "such as 90s, 5m or 1h30m"),
        ("drain 2 --now --deadline 5m", 2, "cannot be used with"),
        ("drain 2 --reason ''", 2, "at least one word"),
        ("drain", 2, "not provided"),
        ("undrain 9", 1, "no node 9"),
        ("events --node=9", 1, "no node 9"),
        ("metrics --node=9", 1, "no node 9"),
        ("diff --node=9", 1, "no node 9"),
        ("takeover --node=9", 1, "no node 9"),
        ("leave --node=9", 1, "no node 9"),
        ("check --node=9", 1, "no node 9"),
        ("doctor --node=9", 1, "no node 9"),
        ("status --node=9", 1, "no node 9"),
        ("takeover --node=2", 1, "systemctl start cvipd"),
        ("leave --node=2", 1, "systemctl start cvipd"),
        ("events --since yesterday", 2, "such as 90s or 1h"),
    ] {
        let (code, out, err) = cluster.try_run(line);
        assert_eq!(
            (code, out.as_str(), err.lines().count()),
            (Some(status), "", 1),
            "{line}: {err}"
        );
        assert!(err.starts_with("cvipctl: ") && err.contains(what), "{line}: {err}");
    }
    assert!(cluster.drains().is_empty());
}

#[test]
fn a_node_that_has_left_leaves_again_without_a_fault() {
    let cluster = Cluster::new();
    let record = NodeRecord { leaving: true, ..NodeRecord::empty(2, 1, 2) };
    cluster.store().put_node(&record).unwrap();
    let (out, err) = cluster.run("leave --node=2");
    assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{err}");
    assert!(err.contains("node 2 has left already"), "{err}");
}

#[test]
fn orders_are_told_as_json() {
    let cluster = Cluster::new();
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let drained = parse(&cluster.run("drain 2:80 --reason disk --deadline 1m --json").0);
    let order = &drained["drained"][0];
    assert_eq!(
        (&order["node"], &order["protocol"], &order["port"]),
        (&2.into(), &"tcp".into(), &80.into())
    );
    assert_eq!((&order["reason"], &order["deadline_s"]), (&"disk".into(), &60.into()));
    assert!(drained["warnings"][0].as_str().unwrap().contains("no cvipd runs"), "{drained}");
    assert!(drained.get("waited").is_none());
    assert_eq!(drained["changed"], true);
    let again = parse(&cluster.run("drain 2:80 --reason disk --deadline 1m --json").0);
    assert_eq!((&again["changed"], &again["drained"][0]), (&false.into(), order));
    let back = parse(&cluster.run("undrain 2:80 --json").0);
    assert_eq!(back, json!({ "schema": 1, "changed": true, "undrained": [order] }));
    let again = parse(&cluster.run("undrain 2:80 --json").0);
    assert_eq!(again, json!({ "schema": 1, "changed": false, "undrained": [] }));
    cluster.put(2, 2, &[(Tcp, 80)], &[((Tcp, 80), 0)]);
    let _director = cluster.obeyed();
    let waited = parse(&cluster.run("drain 2 --wait --json").0);
    assert_eq!(waited["waited"], "out");
}

#[test]
fn whoever_waits_sees_the_connections_that_the_node_counts_and_its_end() {
    let cluster = Cluster::new();
    cluster.put(2, 2, &[(Tcp, 80), (Udp, 53)], &[]);
    let mut waiting = cluster.follow("drain 2 --wait --deadline 1h");
    assert_eq!(waiting.line(), "node 2 is drained, connections are cut after 1h");
    assert_eq!(waiting.line(), "waiting for the director, node 1, to take it out");
    let _director = cluster.obeyed();
    assert_eq!(waiting.line(), "waiting for the node to tell of 2 ports");
    cluster.put(2, 3, &[(Tcp, 80), (Udp, 53)], &[((Tcp, 80), 3), ((Udp, 53), 0)]);
    assert_eq!(waiting.line(), "3 connections left");
    cluster.put(2, 4, &[(Udp, 53)], &[((Tcp, 80), 0), ((Udp, 53), 0)]);
    let (status, rest, err) = waiting.end();
    assert_eq!((status, rest.as_str()), (Some(0), "0 connections left\n"), "{err}");
    assert!(cluster.drains().contains_key(&NODE));
}

#[test]
fn an_interrupted_wait_leaves_the_drain_and_says_so() {
    let cluster = Cluster::new();
    let mut waiting = cluster.follow("drain 2 --wait");
    waiting.line();
    waiting.line();
    let pid = nix::unistd::Pid::from_raw(waiting.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let (status, _, err) = waiting.end();
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("2 stays drained") && err.contains("cvipctl undrain 2"), "{err}");
    assert!(cluster.drains().contains_key(&NODE));
}

#[test]
fn a_wait_ends_when_somebody_takes_the_order_back() {
    let cluster = Cluster::new();
    let mut waiting = cluster.follow("drain 2 --wait");
    waiting.line();
    waiting.line();
    cluster.run("undrain 2");
    let (status, _, err) = waiting.end();
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("2 was undrained meanwhile"), "{err}");
}

#[test]
fn events_of_all_directors_are_told_by_time_and_followed() {
    let cluster = Cluster::new();
    let (out, err) = cluster.run("events");
    assert!(out.is_empty() && err.contains("no node has recorded anything"), "{out}{err}");
    let add = |director: u32, at: &str, what: Value| {
        let path = cluster.run_dir().join(format!("events-{director}.jsonl"));
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let mut event = json!({ "at": format!("2026-03-01T{at}Z"), "director": director });
        event.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        writeln!(file, "{event}").unwrap();
    };
    add(1, "10:00:02.000", json!({ "event": "node", "node": 2, "liveness": "suspected" }));
    add(3, "10:00:01.000", json!({ "event": "took", "term": 4, "from": 1 }));
    add(3, "10:00:03.000", json!({ "event": "of a later version" }));
    let (out, err) = cluster.run("events");
    snapbox::assert_data_eq!(
        out,
        snapbox::str![[r#"
2026-03-01T10:00:01.000Z  node 3: took over from node 1, in term 4
2026-03-01T10:00:02.000Z  node 1: node 2 is suspected: no new connections

"#]]
    );
    assert_eq!(err, "");
    let (out, _) = cluster.run("events --since 2026-03-01T10:00:02Z --json");
    let [line] = &out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert_eq!(
        serde_json::from_str::<Value>(line).unwrap(),
        json!({ "schema": 1, "at": "2026-03-01T10:00:02.000Z", "director": 1,
                "event": "node", "node": 2, "liveness": "suspected" })
    );
    let (out, _) = cluster.run("events --node 1");
    assert_eq!(out.lines().count(), 1, "it was node 1 from which node 3 took over: {out}");
    let mut following = cluster.follow("events --follow --node 2");
    assert!(following.line().ends_with("node 2 is suspected: no new connections"));
    add(1, "10:00:04.000", json!({ "event": "node", "node": 2, "liveness": "alive" }));
    assert!(following.line().ends_with("node 2 is heard again"));
    following.child.kill().unwrap();
    following.end();
}
