use super::*;
use crate::conf::Clustertab;
use crate::protocol::Protocol;
use crate::store::{NodeRecord, Registration};

const CONF: &str = "<cvips>
  <routing>DR</routing>
  <cvip>
    <ip_addr>10.0.0.100</ip_addr>
    <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
    <real_server_node><node_num>1</node_num><weight>0</weight></real_server_node>
    <real_server_node><node_num>2</node_num></real_server_node>
    <real_server_node><node_num>3</node_num></real_server_node>
    <service><port>80</port><drain_timeout>60</drain_timeout></service>
    <service><protocol>udp</protocol><port>53</port></service>
    <service><port>443</port><registration>static</registration></service>
  </cvip>
</cvips>
";

/// Director 1, nodes 2 and 3; TCP 80 and UDP 53 are automatic, TCP 443 is static.
pub(super) fn conf() -> (Conf, Clustertab) {
    let tab = "1 10.0.0.1\n2 10.0.0.2\n3 10.0.0.3\n";
    let clustertab = Clustertab::parse(tab, "clustertab").0.unwrap();
    let (conf, faults) = crate::conf::parse(CONF, "cvip.conf", &clustertab);
    assert_eq!(faults, []);
    (conf.unwrap(), clustertab)
}

pub(super) fn key(protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey { cvip: "10.0.0.100".parse().unwrap(), protocol, port }
}

/// Nodes that serve these ports.
pub(super) fn state(served: &[(u32, Protocol, u16)]) -> StoreState {
    let mut state = StoreState::default();
    for node in [1, 2, 3] {
        let mut record = NodeRecord::empty(node, 1, 1);
        let own = served.iter().filter(|(of, ..)| *of == node);
        record.registrations =
            own.map(|(_, protocol, port)| Registration::new(key(*protocol, *port), 1)).collect();
        record.registrations.sort();
        state.nodes.insert(node, record);
        state.alive.insert(node, 1);
    }
    state
}

pub(super) const NODE: DrainTarget = DrainTarget { node: 2, port: None };
const HTTP: DrainTarget = DrainTarget { node: 2, port: Some((Protocol::Tcp, 80)) };

fn wanted(reason: Option<&str>, deadline_s: Option<u32>) -> DrainRequest {
    let by = "root@node1".to_owned();
    DrainRequest { reason: reason.map(str::to_owned), deadline_s, since: 5, by }
}

#[test]
fn a_second_order_changes_what_it_says_and_keeps_the_rest() {
    let mut drains = Drains::new();
    wanted(Some("disk"), Some(300)).add_to(&mut drains, &[NODE]);
    let again = DrainRequest { since: 9, by: "ann@node2".to_owned(), ..wanted(None, Some(0)) };
    let written = again.add_to(&mut drains, &[NODE]);
    assert_eq!(written, drains);
    let order = &drains[&NODE];
    assert_eq!((order.reason.as_deref(), order.deadline_s), (Some("disk"), Some(0)));
    assert_eq!((order.since, order.by.as_str()), (5, "ann@node2"));
    wanted(Some("memory"), None).add_to(&mut drains, &[NODE]);
    let order = &drains[&NODE];
    assert_eq!((order.reason.as_deref(), order.deadline_s), (Some("memory"), Some(0)));
}

#[test]
fn a_nodes_new_deadline_is_also_that_of_its_ports() {
    let other = DrainTarget { node: 3, port: Some((Protocol::Tcp, 80)) };
    let mut drains = Drains::new();
    wanted(None, Some(300)).add_to(&mut drains, &[HTTP, other]);
    wanted(None, None).add_to(&mut drains, &[NODE]);
    assert_eq!(drains[&HTTP].deadline_s, Some(300));
    let written = wanted(None, Some(0)).add_to(&mut drains, &[NODE]);
    assert_eq!(written.into_keys().collect::<Vec<_>>(), [NODE, HTTP]);
    assert_eq!((drains[&HTTP].deadline_s, drains[&other].deadline_s), (Some(0), Some(300)));
}

#[test]
fn the_last_who_serves_is_warned_of_by_service() {
    let (conf, _) = conf();
    let serves = state(&[(2, Protocol::Tcp, 80), (3, Protocol::Tcp, 80), (2, Protocol::Udp, 53)]);
    let told = |orders: &[DrainTarget], state: &StoreState| {
        let written = wanted(None, None).add_to(&mut Drains::new(), orders);
        warnings(2, orders, &written, &conf, state)
    };
    // TCP 80 is served by node 3 too, and the static TCP 443 by everybody.
    let [only] = &told(&[NODE], &serves)[..] else { panic!("one warning") };
    assert!(only.starts_with("no other real server serves udp 10.0.0.100:53: "), "{only}");
    assert_eq!(told(&[HTTP], &serves), [""; 0]);
    let mut second = serves.clone();
    wanted(None, None).add_to(&mut second.drains, &[DrainTarget { node: 3, port: None }]);
    let [only] = &told(&[NODE], &second)[..] else { panic!("one warning") };
    for service in ["tcp 10.0.0.100:80", "udp 10.0.0.100:53", "tcp 10.0.0.100:443"] {
        assert!(only.contains(service), "{only}");
    }
    second.drains = wanted(None, None).add_to(&mut Drains::new(), &[NODE]);
    assert_eq!(told(&[NODE], &second), [""; 0], "an order that stands empties nothing anew");
}

#[test]
fn a_director_without_a_cvipd_and_a_node_without_a_part_are_warned_of() {
    let (conf, _) = conf();
    let mut state = state(&[]);
    state.alive.remove(&1);
    let written = wanted(None, None).add_to(&mut Drains::new(), &[HTTP]);
    let told = warnings(2, &[HTTP], &written, &conf, &state);
    assert!(told.iter().any(|w| w.contains("no cvipd runs on the director, node 1")), "{told:?}");
    let told = warnings(4, &[], &Drains::new(), &conf, &state);
    assert!(told.iter().any(|w| w.contains("node 4 is no real server")), "{told:?}");
}

#[test]
fn an_order_is_one_sentence() {
    for (reason, deadline_s, text) in [
        (None, None, "node 2 is drained"),
        (Some("new disk"), None, "node 2 is drained: new disk"),
        (None, Some(0), "node 2 is drained, connections are cut at once"),
        (Some("disk"), Some(5400), "node 2 is drained, connections are cut after 1h 30m: disk"),
    ] {
        let drains = wanted(reason, deadline_s).add_to(&mut Drains::new(), &[NODE]);
        assert_eq!(sentence(&NODE, &drains[&NODE]), text);
    }
}

#[test]
fn times_are_whole_seconds_and_reasons_are_one_line() {
    for (text, seconds) in [("5m", 300), ("90s", 90), ("1h30m", 5400), ("0s", 0), ("10ms", 1)] {
        assert_eq!(deadline(text), Ok(seconds), "{text}");
    }
    for text in ["", "5", "-5m", "soon", "200y"] {
        assert!(deadline(text).is_err(), "{text}");
    }
    assert_eq!(reason(" new disk "), Ok("new disk".to_owned()));
    for text in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(201)] {
        assert!(reason(text).is_err(), "{text:?}");
    }
    assert!(reason(&"é".repeat(200)).is_ok());
}

#[test]
fn what_is_not_drained_is_told_with_what_is() {
    let target = |text: &str| text.parse::<DrainArgument>().unwrap();
    let whole = wanted(None, None).add_to(&mut Drains::new(), &[NODE]);
    assert!(nothing(&target("2:80"), &whole).contains("`cvipctl undrain 2`"));
    assert!(nothing(&target("3"), &whole).ends_with("drained: node 2"));
    assert!(nothing(&target("3"), &Drains::new()).ends_with("nothing is drained"));
}
