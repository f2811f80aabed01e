//! Metrics of a small cluster.

use super::*;
use crate::conf::{Cvip, DirectorNode, RealServer, Routing, ServiceConf};
use crate::daemon::hooks::{HookEvent, HookResult, HooksView};
use crate::ipvs::{Destination, Forwarding, Service, ServiceEntry, Stats};
use crate::protocol::Protocol;

const CVIP: [u8; 4] = [10, 0, 0, 100];

/// Node 1 is the director, nodes 2 and 3 are real servers, and cvip.conf names two services.
fn conf() -> Conf {
    let director =
        DirectorNode { node: 1, garp_interface: "eth0".to_owned(), sync_interface: None };
    let server =
        |node: u8| RealServer { node: node.into(), addr: [10, 0, 0, node].into(), weight: 1 };
    let service = |start, end| ServiceConf::new(Protocol::Tcp, start, end);
    let cvip = Cvip {
        addr: CVIP.into(),
        gateway: None,
        directors: vec![director],
        real_servers: vec![server(2), server(3)],
        services: vec![service(80, 80), service(443, 443), service(5000, 5999)],
    };
    Conf { routing: Routing::Dr, cvips: vec![cvip] }
}

fn web() -> ServiceId {
    ServiceId::Address { protocol: Protocol::Tcp, addr: CVIP.into(), port: 80 }
}

/// A service with destinations of these last bytes and weights, each with a connection that was scheduled.
fn listed(id: ServiceId, servers: &[(u8, u32)], owned: bool) -> OwnedTable {
    let entry = ServiceEntry { service: Service::new(id, "wlc"), stats: Stats::default() };
    let destination = |(last, weight): &(u8, u32)| DestinationEntry {
        destination: Destination::new([10, 0, 0, *last].into(), 80, Forwarding::Route, *weight),
        active: 5,
        inactive: 7,
        persistent: 0,
        stats: Stats { connections: 1, in_bytes: 60, ..Stats::default() },
    };
    vec![(entry, servers.iter().map(destination).collect(), owned)]
}

/// What an active director tells by its table.
fn told(table: &OwnedTable, labels: &[DestinationLabel]) -> String {
    let conf = conf();
    let monitor = MonitorView {
        active: true,
        set: 1,
        elected: None,
        term: 0,
        liveness_of: BTreeMap::from([(2, Liveness::Alive), (3, Liveness::Suspected)]),
        left: BTreeSet::new(),
        isolated: false,
        store_unavailable_s: None,
        heartbeats_heard: 9,
        heartbeats_ignored: 0,
        heartbeats_refused: 0,
        became_active: 1,
        became_standby: 0,
        ports_taken: Vec::new(),
        conflicts: Vec::new(),
    };
    let (event, result) = (HookEvent::GivingUp, HookResult::Killed);
    let runs = vec![HookRuns { event, result, count: 2 }];
    let hooks = HooksView { runs, ..HooksView::default() };
    let (monitor, hooks) = (Some(monitor), Some(hooks));
    let status = Status { monitor, hooks, ..Status::of(7, 1) };
    let (status, conf, table) = (Some(&status), Some(&conf), Some(table));
    metrics_text(&MetricsSource { status, conf, table, labels })
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|is| is == line), "{line} is not in\n{text}");
}

#[test]
fn where_no_cvipd_runs_that_is_told() {
    let source =
        MetricsSource { status: None, conf: None, table: None, labels: &DestinationLabel::ALL };
    let text = metrics_text(&source);
    has(&text, "cvip_up 0");
    assert!(text.contains("\ncvip_build_info{version=\"") && !text.contains("cvip_faults"));
}

#[test]
fn a_destination_has_its_node_and_its_owner_beside_its_values() {
    let text = told(&listed(web(), &[(2, 3), (9, 1)], true), &DestinationLabel::ALL);
    let of = |last| {
        format!(
            "local_address=\"10.0.0.100\",local_port=\"80\",remote_address=\"10.0.0.{last}\",\
             remote_port=\"80\",proto=\"TCP\",local_mark=\"\""
        )
    };
    let (node, sorry) = (of(2), of(9));
    has(&text, &format!("cvip_destination_info{{{node},node=\"2\",owner=\"cvipd\"}} 1"));
    has(&text, &format!("cvip_destination_info{{{sorry},node=\"\",owner=\"cvipd\"}} 1"));
    has(&text, &format!("cvip_destination_weight{{{node}}} 3"));
    has(&text, &format!("cvip_destination_inactive{{{sorry}}} 7"));
    has(&text, "cvip_node_info{node=\"1\",set=\"1\"} 1");
    has(&text, "cvip_node_alive{node=\"2\",kind=\"real_server\"} 1");
    has(&text, "cvip_node_alive{node=\"3\",kind=\"real_server\"} 0");
    has(&text, "cvip_elections_total{role=\"active\"} 1");
    has(&text, "cvip_hook_runs_total{event=\"giving-up\",result=\"killed\"} 2");
    has(&text, "cvip_hook_seconds_count 0");
}

#[test]
fn a_service_is_without_a_server_if_none_gets_new_connections_or_if_it_is_not_there() {
    let service = "local_address=\"10.0.0.100\",local_port=\"80\",proto=\"TCP\",local_mark=\"\"";
    for (servers, usable, without) in [
        // Port 443 has no entry; a range names no service.
        (&[(2, 1), (3, 0)][..], 1, 1),
        (&[(2, 0), (3, 0)], 0, 2),
        // A sorry server is no real server.
        (&[(9, 1)], 0, 2),
    ] {
        let text = told(&listed(web(), servers, true), &DestinationLabel::ALL);
        has(&text, &format!("cvip_service_usable_destinations{{{service}}} {usable}"));
        has(&text, &format!("cvip_services_without_server {without}"));
    }
    let text = told(&listed(web(), &[(2, 0)], false), &DestinationLabel::ALL);
    has(&text, &format!("cvip_service_info{{{service},owner=\"other\",scheduler=\"wlc\"}} 1"));
    assert!(!text.contains("\ncvip_service_usable_destinations{"), "it is another program's");
}

#[test]
fn labels_that_are_left_out_make_fewer_series_with_the_same_sums() {
    let table = listed(web(), &[(2, 3), (3, 4)], true);
    let text = told(&table, &[DestinationLabel::LocalPort, DestinationLabel::Proto]);
    has(&text, "cvip_destination_weight{local_port=\"80\",proto=\"TCP\"} 7");
    has(&text, "cvip_destination_connections_total{local_port=\"80\",proto=\"TCP\"} 2");
    has(&text, "cvip_services_without_server 1");
    assert!(!text.contains("cvip_destination_info") && !text.contains("cvip_service_info"));
    has(&told(&table, &[]), "cvip_destination_received_bytes_total 120");
}

#[test]
fn every_line_is_of_a_metric_that_is_documented_and_each_has_one_head() {
    let text = told(&listed(web(), &[(2, 1)], true), &DestinationLabel::ALL);
    let mut heads = BTreeSet::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            assert!(heads.insert(head.split(' ').next().unwrap()), "{line}: again");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let is_of = |head: &&&str| name.starts_with(**head);
            assert!(heads.iter().any(|head| is_of(&head)), "{line}");
        }
    }
    assert!(heads.iter().all(|head| METRICS.iter().any(|entry| entry.name == *head)));
}
