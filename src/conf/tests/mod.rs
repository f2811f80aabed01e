//! cvip.conf as a whole: what a file means. Beside it the exact text of every fault, in single
//! elements and between them, and what holds for all files.

use std::net::IpAddr;

use super::*;
use crate::protocol::Protocol;

mod checks;
mod elements;
mod properties;
mod relations;
mod samples;
mod services;

/// Nodes 1 to 4: 192.168.200.1 to 192.168.200.4.
fn clustertab() -> Clustertab {
    let nodes = (1..=4).map(|n: u8| (n.into(), IpAddr::from([192, 168, 200, n])));
    Clustertab { nodes: nodes.collect() }
}

fn faults(text: &str) -> String {
    let (_, diagnostics) = parse(text, "cvip.conf", &clustertab());
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// The faults of a file for which it is refused.
fn refused(text: &str) -> String {
    let (conf, _) = parse(text, "cvip.conf", &clustertab());
    assert_eq!(conf, None);
    faults(text)
}

/// The faults of a file that can be used.
fn warned(text: &str) -> String {
    let (conf, _) = parse(text, "cvip.conf", &clustertab());
    assert!(conf.is_some(), "{}", faults(text));
    faults(text)
}

fn loaded(text: &str) -> Conf {
    let (conf, diagnostics) = parse(text, "cvip.conf", &clustertab());
    assert_eq!(diagnostics, []);
    conf.expect("no fault")
}

const DIRECTOR: &str =
    "<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>";

/// A file around the children of its one CVIP, which start in line 5.
fn cvip(routing: &str, children: &str) -> String {
    format!(
        "<cvips>\n<routing>{routing}</routing>\n<cvip>\n<ip_addr>192.168.200.10</ip_addr>\n\
         {children}\n{DIRECTOR}\n</cvip>\n</cvips>\n"
    )
}

/// A file around the children of one service, which start in line 6.
fn service(children: &str) -> String {
    cvip("DR", &format!("<service>\n{children}\n</service>"))
}

/// OpenSSI's example, completed where its document is cut off.
const OPENSSI: &str = r#"<?xml version="1.0"?>
<cvips>
        <routing>DR</routing>
        <cvip>
                <ip_addr>192.168.200.10</ip_addr>
                <gateway>192.168.200.1</gateway>
                <director_node>
                        <node_num>1</node_num>
                        <garp_interface>eth0</garp_interface>
                        <sync_interface>eth0</sync_interface>
                </director_node>
                <director_node>
                        <node_num>2</node_num>
                        <garp_interface>eth0</garp_interface>
                        <sync_interface>eth0</sync_interface>
                </director_node>
                <real_server_node>
                        <node_num>1</node_num>
                </real_server_node>
                <real_server_node>
                        <node_num>3</node_num>
                        <ip_addr>192.168.200.33</ip_addr>
                        <weight>2</weight>
                </real_server_node>
        </cvip>
</cvips>
"#;

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn openssis_example_loads_without_a_warning() {
    let director = |node| DirectorNode {
        node,
        garp_interface: "eth0".to_owned(),
        sync_interface: Some("eth0".to_owned()),
    };
    let server = |node, host, weight| RealServer { node, addr: addr(host), weight };
    assert_eq!(
        loaded(OPENSSI),
        Conf {
            routing: Routing::Dr,
            cvips: vec![Cvip {
                addr: addr("192.168.200.10"),
                gateway: Some(addr("192.168.200.1")),
                directors: vec![director(1), director(2)],
                real_servers: vec![
                    server(1, "192.168.200.1", 1),
                    server(2, "192.168.200.2", 1),
                    server(3, "192.168.200.33", 2),
                ],
                services: Vec::new(),
            }],
        }
    );
}

#[test]
fn every_element_of_a_service_is_read() {
    let conf = loaded(&cvip(
        "nat",
        "<service><end_port> 8089 </end_port><start_port>\n8080\n</start_port>\
         <protocol>TCP</protocol><weight>0</weight><scheduler>sh</scheduler>\
         <persistence>300</persistence><drain_timeout>0</drain_timeout>\
         <owner>www-data</owner><owner><![CDATA[*]]></owner></service>\n\
         <service><protocol>udp</protocol><port>1<!-- x -->77</port>\
         <registration>Static</registration></service>",
    ));
    let mut web = ServiceConf::new(Protocol::Tcp, 8080, 8089);
    web.weight = 0;
    web.scheduler = "sh".to_owned();
    web.persistence = Some(300);
    web.drain_timeout = 0;
    web.owners = vec![Owner::User("www-data".to_owned()), Owner::Anyone];
    let mut xdmcp = ServiceConf::new(Protocol::Udp, 177, 177);
    xdmcp.registration = RegistrationMode::Static;
    assert_eq!(conf.cvips[0].services, [web, xdmcp]);
}

#[test]
fn weight_0_makes_a_director_a_director_only_and_stays_in_the_model() {
    let conf = loaded(&cvip(
        "DR",
        "<real_server_node><node_num>1</node_num><weight>0</weight></real_server_node>",
    ));
    let server = conf.cvips[0].real_server(1).expect("a real server");
    assert_eq!((server.weight, server.addr), (0, addr("192.168.200.1")));
}

#[test]
fn a_byte_order_mark_and_dos_line_ends_are_taken() {
    let dos = format!("\u{feff}{}", OPENSSI.replace('\n', "\r\n"));
    assert_eq!(loaded(&dos), loaded(OPENSSI));
    let fault = faults(&dos.replace("DR", "RD"));
    assert!(fault.starts_with("cvip.conf:3:18: error: unknown routing method `RD`"), "{fault}");
}
