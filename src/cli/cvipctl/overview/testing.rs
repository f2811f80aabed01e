//! A small cluster for tests: two directors that are real servers too, and a third real server.

use std::net::IpAddr;

use serde_json::json;

use super::super::examination::Examination;
use super::look::{Answers, Overview, report};
use super::names::NodeNames;
use super::table::owned;
use crate::cli::KnownNode;
use crate::conf::Sources;
use crate::daemon::Status;
use crate::doctor::{Finding, Severity};
use crate::ipvs::{
    Destination, DestinationEntry, Forwarding, Service, ServiceEntry, ServiceId, Stats,
};
use crate::ports::PortFlag;
use crate::protocol::Protocol;
use crate::store::{
    DrainOrder, DrainTarget, Elected, NodeRecord, RefusedListener, Registration, Scope, ServiceKey,
    StoreState,
};

const CONF: &str = "<?xml version=\"1.0\"?>
<cvips>
    <routing>DR</routing>
    <cvip>
        <ip_addr>192.0.2.10</ip_addr>
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
        <director_node><node_num>2</node_num><garp_interface>eth0</garp_interface></director_node>
        <real_server_node><node_num>1</node_num></real_server_node>
        <real_server_node><node_num>2</node_num><weight>2</weight></real_server_node>
        <real_server_node><node_num>3</node_num></real_server_node>
        <service><protocol>udp</protocol><port>53</port><registration>static</registration></service>
    </cvip>
</cvips>
";

const TAB: &str = "1 192.0.2.1\n2 192.0.2.2\n3 192.0.2.3\n";

/// What was seen on node 1, to be changed before it is reported.
pub(in crate::cli::cvipctl) struct Cluster {
    pub(in crate::cli::cvipctl) known: KnownNode,
    pub(in crate::cli::cvipctl) state: StoreState,
    pub(in crate::cli::cvipctl) cvipd: Option<Box<Status>>,
    pub(in crate::cli::cvipctl) table: Vec<(ServiceEntry, Vec<DestinationEntry>)>,
    pub(in crate::cli::cvipctl) findings: Vec<Finding>,
    pub(in crate::cli::cvipctl) is_known: bool,
}

pub(in crate::cli::cvipctl) fn key(protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey { cvip: [192, 0, 2, 10].into(), protocol, port }
}

fn own(node: u8) -> IpAddr {
    [192, 0, 2, node].into()
}

fn entry(node: u8, port: u16, weight: u32, load: [u32; 4]) -> DestinationEntry {
    let [active, inactive, cps, bytes] = load;
    DestinationEntry {
        destination: Destination::new(own(node), port, Forwarding::Route, weight),
        active,
        inactive,
        persistent: 0,
        stats: Stats { cps: cps.into(), in_bps: bytes.into(), ..Stats::default() },
    }
}

fn service(protocol: Protocol, port: u16, scheduler: &str, load: [u32; 2]) -> ServiceEntry {
    let id = ServiceId::Address { protocol, addr: [192, 0, 2, 10].into(), port };
    let [cps, bytes] = load;
    ServiceEntry {
        service: Service::new(id, scheduler),
        stats: Stats { cps: cps.into(), in_bps: bytes.into(), ..Stats::default() },
    }
}

impl Cluster {
    /// All three nodes serve HTTP, and nothing is wrong.
    pub(in crate::cli::cvipctl) fn well() -> Cluster {
        let sources = Sources { conf: CONF.to_owned(), clustertab: TAB.to_owned() };
        let (conf, clustertab) = sources.parse().unwrap();
        let mut state = StoreState::default();
        for node in 1..=3 {
            let mut record = NodeRecord::empty(node, 1, 1);
            record.event_source = "cgroup BPF".to_owned();
            record.registrations = vec![Registration::new(key(Protocol::Tcp, 80), 1)];
            state.nodes.insert(node, record);
            state.alive.insert(node, 1);
        }
        let flag = PortFlag { protocol: Protocol::Tcp, start: 80, end: 80, weight: 1 };
        state.flags.insert(Scope::Cluster, [flag].into_iter().collect());
        state.directors.insert(1, Elected { node: 1, incarnation: 1, term: 4 });
        let ours = [key(Protocol::Tcp, 80), key(Protocol::Udp, 53)];
        state.owned.insert(1, ours.into());
        let cvipd = json!({
            "pid": 7, "node": 1, "roles": ["director"], "faults": [], "store_requests": 0,
            "monitor": {
                "active": true, "set": 1, "elected": 1, "term": 4,
                "liveness_of": {"2": "alive", "3": "alive"}, "isolated": false,
                "store_unavailable_s": null, "heartbeats_heard": 1, "heartbeats_ignored": 0,
                "heartbeats_refused": 0,
            },
            "pools": {"draining": [], "quiesced": [], "look_every_ms": 1000},
        });
        let http = [
            entry(1, 80, 1, [12, 3, 40, 25_600]),
            entry(2, 80, 2, [23, 6, 80, 51_200]),
            entry(3, 80, 1, [9, 0, 38, 20_000]),
        ];
        let dns = [entry(1, 53, 1, [0, 7, 7, 420]), entry(2, 53, 2, [0, 15, 15, 900])];
        Cluster {
            known: KnownNode { conf: Some(conf), clustertab, diagnostics: vec![], problem: None },
            state,
            cvipd: Some(Box::new(serde_json::from_value(cvipd).unwrap())),
            table: vec![
                (service(Protocol::Tcp, 80, "wlc", [158, 96_800]), http.into()),
                (service(Protocol::Udp, 53, "rr", [22, 1320]), dns.into()),
            ],
            findings: Vec::new(),
            is_known: true,
        }
    }

    /// One real server is unhealthy, one is drained, a listener does not join.
    pub(in crate::cli::cvipctl) fn troubled() -> Cluster {
        let mut cluster = Cluster::well();
        let http = &mut cluster.table[0].1;
        (http[1].destination.weight, http[2].destination.weight) = (0, 0);
        let pools = cluster.cvipd.as_mut().unwrap().pools.as_mut().unwrap();
        let at = |node: u8| json!({"cvip": "192.0.2.10", "protocol": "tcp", "port": 80, "address": own(node)});
        let with = |mut row: serde_json::Value, more: serde_json::Value| {
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            row
        };
        let unhealthy = json!({"state": "unhealthy", "reason": "status 503, not 200-399"});
        pools.quiesced = vec![serde_json::from_value(with(at(2), unhealthy)).unwrap()];
        let draining =
            json!({"active_connections": 9, "inactive_connections": 0, "remaining_s": 240});
        pools.draining = vec![serde_json::from_value(with(at(3), draining)).unwrap()];
        let order = DrainOrder {
            reason: Some("new disk".to_owned()),
            since: 1_772_359_200,
            deadline_s: Some(300),
            by: "root@alpha".to_owned(),
        };
        cluster.state.drains.insert(DrainTarget { node: 3, port: None }, order);
        cluster.state.nodes.get_mut(&3).unwrap().refused = vec![RefusedListener {
            service: key(Protocol::Tcp, 8080),
            bound: [127, 0, 0, 1].into(),
            uid: 0,
            reason: "bound to loopback".to_owned(),
            reachable: false,
        }];
        cluster.findings = vec![Finding {
            severity: Severity::Fault,
            subject: "node 2".to_owned(),
            what: "tcp 192.0.2.10:80 fails its check there: status 503, not 200-399".to_owned(),
            fix: "see to the server process on that node, or to the check in cvip.conf".to_owned(),
            commands: Vec::new(),
        }];
        cluster
    }

    /// What is shown of it; nodes 1 and 2 have names.
    pub(in crate::cli::cvipctl) fn overview(self) -> Overview {
        let hosts = "192.0.2.1 alpha\n192.0.2.2 beta\n";
        let names = NodeNames::of(hosts, &self.known.clustertab, self.known.conf.as_ref());
        let table = Some(owned(self.table, &self.state));
        let answers = Answers {
            state: self.state,
            known: self.is_known,
            cvipd: self.cvipd,
            table,
            problems: Vec::new(),
        };
        let examination = Examination {
            node: Some(1),
            role: Some("director"),
            findings: self.findings,
            unexamined: Vec::new(),
            seen: None,
        };
        let outcome = u8::from(self.known.conf.is_none());
        let report = report(&self.known, examination, answers, &names);
        Overview { report, names, outcome }
    }
}
