//! What cvip.conf says of a service as the kernel has it, in both address families: each setting
//! stands in the table, a table that is right is left alone, and a change of settings edits what
//! stands there.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use cvip::ipvs::service_flags::{ONE_PACKET, PERSISTENT, SCHED1, SCHED2, SCHED3};
use cvip::ipvs::{Service, ServiceId};
use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::{Host, Plan};

use super::support::{Patron, Server, Site, bind_udp, connect, fetch, listen, shown};

const BOTH: Plan<'_> = Plan { routing: "DR", ipv4: true, ipv6: true, services: "" };

/// Every setting that the kernel has for a service and its destinations.
const EVERYTHING: &str = "
    <service>
        <port>8080</port> <scheduler>sh</scheduler>
        <scheduler_flags>sh-port,sh-fallback</scheduler_flags>
        <upper_threshold>100</upper_threshold> <lower_threshold>80</lower_threshold>
        <node> <node_num>1</node_num> <weight>5</weight> </node>
        REGISTRATION
    </service>
    <service>
        <port>8081</port> <scheduler>mh</scheduler> <weight>3</weight>
        <scheduler_flags>mh-port,flag-3</scheduler_flags>
        <persistence>60</persistence> <persistence_netmask>24</persistence_netmask>
        <upper_threshold>7</upper_threshold>
        REGISTRATION
    </service>
    <service>
        <protocol>udp</protocol> <port>5060</port> <one_packet>yes</one_packet>
        <persistence>90</persistence> <persistence_engine>sip</persistence_engine>
        REGISTRATION
    </service>";

fn everything(registration: &str) -> String {
    EVERYTHING.replace("REGISTRATION", registration)
}

/// The services of one family as the kernel is to have them.
fn services(site: &Site, v6: bool) -> [Service; 3] {
    let id = |protocol, port| ServiceId::Address { protocol, addr: site.cvip(v6), port };
    let mut web = Service::new(id(Tcp, 8080), "sh");
    web.flags = SCHED1 | SCHED2;
    let mut masked = Service::new(id(Tcp, 8081), "mh").persistent(60);
    // mh and sh always have their fallback.
    masked.flags |= SCHED1 | SCHED2 | SCHED3;
    masked.netmask = if v6 { 24 } else { 0xffff_ff00 };
    let mut sip = Service::new(id(Udp, 5060), "wlc").persistent(90);
    sip.flags |= ONE_PACKET;
    sip.pe = Some("sip".to_owned());
    [web, masked, sip]
}

/// The settings of the destinations of the first two services: port, weight, thresholds.
fn limits(site: &Site, v6: bool) -> BTreeSet<(u16, u32, u32, u32)> {
    let services = services(site, v6);
    let destinations = services[..2].iter().flat_map(|service| site.entry(service.id).1);
    let limits = destinations.map(|entry| entry.destination);
    limits.map(|d| (d.id.port, d.weight, d.upper, d.lower)).collect()
}

mod on_stock {
    use super::*;

    #[test]
    fn every_setting_stands_in_the_kernel_and_needs_no_second_change() {
        let text = everything("");
        let site = Site::start(1, &Plan { services: &text, ..BOTH });
        let host = site.host(1);
        let _tcp = [8080, 8081].map(|port| listen(host, format!("[::]:{port}")));
        let _udp = bind_udp(host, "[::]:5060");
        for v6 in [false, true] {
            for service in services(&site, v6) {
                site.until("the listener has joined", |site| site.pool(service.id));
                assert_eq!(site.entry(service.id).0.service, service);
            }
            assert_eq!(limits(&site, v6), [(8080, 5, 100, 80), (8081, 3, 7, 0)].into());
        }
        let before = site.changes();
        site.assert_right();
        site.assert_right();
        assert_eq!(site.changes(), before);
    }
}

#[test]
fn what_convert_prints_is_restored_by_both_ipvsadms_to_a_table_without_a_difference() {
    let text = everything("<registration>static</registration>");
    let sorry = "<service><port>8085</port><sorry_server><ip_addr>SORRY</ip_addr>\
                 <weight>4</weight></sorry_server></service>";
    let site = Site::stopped(2, &Plan { services: &(text + sorry), ..BOTH });
    // Each CVIP's own family: the first of the file is the IPv4 one.
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    let conf = conf.replacen("SORRY", "192.0.2.80", 1).replacen("SORRY", "2001:db8::80", 1);
    fs::write(&path, conf).unwrap();
    let director = site.director();
    let rules = site.direct("cvipctl convert");
    assert_eq!(rules.lines().count(), 2 * (3 * 4 + 2), "{rules}");
    let file = site.dir.join("rules");
    fs::write(&file, &rules).unwrap();
    for program in ["ipvsadm", "ipvsadm-rs"] {
        let diff = site.try_run(director, "cvipctl diff");
        assert_eq!(diff.status.code(), Some(1), "an empty table differs");
        let mut restore = match program {
            "ipvsadm" => site.host(director).command(program),
            ours => site.command(director, ours),
        };
        let output = restore
            .arg("-R")
            .stdin(fs::File::open(&file).unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        let diff = site.try_run(director, "cvipctl diff");
        assert_eq!(shown(&diff), (String::new(), String::new()), "{program}");
        assert!(diff.status.success());
        site.direct("ipvsadm-rs -C");
    }
}

#[test]
fn a_change_of_settings_edits_the_service_in_place_and_connections_go_on() {
    let plain = "<service><port>8080</port></service>";
    let site = Site::start(2, &Plan { services: plain, ..BOTH });
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    let ids = [site.v4(Tcp, 8080), site.v6(Tcp, 8080)];
    ids.iter().for_each(|id| site.await_pool(*id, Some(&[(1, 1), (2, 1)])));
    let client = site.cluster.client();
    let mut patrons = [site.at(8080), site.at6(8080)].map(|at| Patron::new(client, at));
    let names: Vec<String> = patrons.iter_mut().map(|patron| patron.ask().unwrap()).collect();
    // The kernel adds them up every two seconds.
    for id in ids {
        site.until("the connection is counted", |site| {
            (site.entry(id).0.stats.connections == 1).then_some(())
        });
    }
    let before = site.changes().len();
    let mut expected = Vec::new();
    for settings in [
        "<scheduler>mh</scheduler><scheduler_flags>mh-fallback</scheduler_flags>",
        "<scheduler>mh</scheduler><scheduler_flags>mh-port</scheduler_flags>",
        "<persistence>60</persistence><persistence_netmask>16</persistence_netmask>",
        "<persistence>60</persistence>",
        "<upper_threshold>90</upper_threshold><lower_threshold>9</lower_threshold>",
        "<upper_threshold>80</upper_threshold>",
        "<node><node_num>2</node_num><weight>9</weight></node>",
        "",
    ] {
        let services = format!("<service><port>8080</port>{settings}</service>");
        site.write_conf(&Plan { services: &services, ..BOTH }).unwrap();
        let applied = site.direct("cvipctl apply");
        assert!(!applied.contains("nothing to change"), "{settings}");
        expected.extend(applied.lines().map(str::to_owned));
        site.assert_right();
        for (patron, name) in patrons.iter_mut().zip(&names) {
            assert_eq!(patron.ask().unwrap(), *name, "after {settings}");
        }
        for id in ids {
            let (service, destinations) = site.entry(id);
            assert_eq!(service.stats.connections, 1, "it is the service that it was");
            assert_eq!(destinations.len(), 2);
        }
    }
    for line in &expected {
        let edits = line.starts_with("service tcp ") || line.contains(" in tcp ");
        assert!(edits && !line.contains("removed"), "{line}");
    }
    assert!(site.changes().len() > before);
    for id in ids {
        let Service { flags, ref scheduler, .. } = site.entry(id).0.service;
        assert_eq!((flags & (PERSISTENT | SCHED1 | SCHED2), scheduler.as_str()), (0, "wlc"));
        assert_eq!(site.pool(id), Some(vec![(1, 1), (2, 1)]));
    }
}

#[test]
fn at_its_upper_threshold_a_server_is_given_no_more_until_the_threshold_is_raised() {
    let limited = |upper: u32| {
        format!("<service><port>8080</port><upper_threshold>{upper}</upper_threshold></service>")
    };
    let site = Site::start(2, &Plan { services: &limited(1), ..BOTH });
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    let client = site.cluster.client();
    for (id, at) in [(site.v4(Tcp, 8080), site.at(8080)), (site.v6(Tcp, 8080), site.at6(8080))] {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        let mut patrons = [0, 1].map(|_| Patron::new(client, at));
        let served: BTreeSet<String> = patrons.iter_mut().map(|p| p.ask().unwrap()).collect();
        assert_eq!(served.len(), 2, "one for each");
        assert!(connect(client, at).is_err(), "both are full");
        site.write_conf(&Plan { services: &limited(2), ..BOTH }).unwrap();
        site.direct("cvipctl apply");
        assert!(fetch(client, at).is_ok(), "neither is");
        assert!(patrons.iter_mut().all(|patron| patron.ask().is_ok()));
        site.write_conf(&Plan { services: &limited(1), ..BOTH }).unwrap();
        site.direct("cvipctl apply");
    }
}

/// Sends datagrams from one socket and collects who answers; the answers come from the CVIP.
fn asked(client: &Host, at: SocketAddr, times: u32) -> BTreeSet<String> {
    let any = if at.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = client.enter(|| UdpSocket::bind(any)).unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let ask = |_| {
        socket.send(b"who are you?").unwrap();
        let mut name = [0; 64];
        let length = socket.recv(&mut name).unwrap();
        String::from_utf8_lossy(&name[..length]).into_owned()
    };
    (0..times).map(ask).collect()
}

#[test]
fn with_one_packet_the_datagrams_of_one_client_go_to_all_servers_and_without_to_one() {
    let service = |setting: &str| {
        format!(
            "<service><protocol>udp</protocol><port>5300</port><scheduler>rr</scheduler>{setting}\
             </service>"
        )
    };
    let one_packet = service("<one_packet>yes</one_packet>");
    let site = Site::start(2, &Plan { services: &service(""), ..BOTH });
    let cvips = [site.at(5300), site.at6(5300)];
    let _servers = [1, 2].map(|number| cvips.map(|at| Server::udp(site.host(number), at, number)));
    let client = site.cluster.client();
    for (id, at) in [(site.v4(Udp, 5300), cvips[0]), (site.v6(Udp, 5300), cvips[1])] {
        site.write_conf(&Plan { services: &service(""), ..BOTH }).unwrap();
        site.direct("cvipctl apply");
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        assert_eq!(asked(client, at, 6).len(), 1);
        site.write_conf(&Plan { services: &one_packet, ..BOTH }).unwrap();
        site.direct("cvipctl apply");
        assert_eq!(asked(client, at, 6).len(), 2);
    }
}

#[test]
fn a_persistence_netmask_keeps_a_clients_network_together() {
    let service = "<service><port>8080</port><scheduler>rr</scheduler><persistence>60</persistence>\
                   <persistence_netmask>24</persistence_netmask></service>";
    let site = Site::start(2, &Plan { services: service, ..Plan::default() });
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "0.0.0.0:8080", number));
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    // Two addresses of one network; round robin would send them to different nodes.
    let client = site.cluster.client();
    let [a, b, c, _] = client.v4().octets();
    client.run(&["ip", "addr", "add", &format!("{a}.{b}.{c}.77/24"), "dev", "eth0"]).unwrap();
    let cvip = site.cvip(false).to_string();
    let served = |source: String| {
        client.run(&["ip", "route", "replace", &cvip, "dev", "eth0", "src", &source]).unwrap();
        fetch(client, site.at(8080)).unwrap()
    };
    let first = served(client.v4().to_string());
    for _ in 0..3 {
        assert_eq!(served(format!("{a}.{b}.{c}.77")), first);
        assert_eq!(served(client.v4().to_string()), first);
    }
}
