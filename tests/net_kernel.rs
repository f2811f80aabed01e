//! The net room's desired settings against a kernel with IPVS and tunnels: a node that has what its
//! role desired settings, and nothing else, serves. The table is ipvsadm's.
//!
//! A client, a director and a real server are network namespaces on one bridge.

mod net_support;

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cvip::conf::{Conf, Cvip, DirectorNode, RealServer, Routing, ServiceConf};
use cvip::net::{AddressRole, desired};
use cvip::protocol::Protocol;
use cvip_lab::{Namespace, Segment, addr, require};

use net_support::Record;

/// A director (node 1), a real server (node 2) and a client, each with both families.
struct Site {
    segment: Segment,
    records: [Record; 2],
}

const CVIP4: &str = "10.0.0.100";
const CVIP6: &str = "fd00::64";

impl Site {
    fn new() -> Site {
        require();
        let segment = Segment::new(3);
        let site = Site { segment, records: [Record::new(), Record::new()] };
        for member in [site.director(), site.server(), site.client()] {
            // What a distribution might have set, and what makes the settings necessary.
            for (key, value) in [
                ("all.rp_filter", "1"),
                ("default.rp_filter", "1"),
                ("all.arp_ignore", "0"),
                ("all.arp_announce", "0"),
            ] {
                member.sysctl(&format!("net.ipv4.conf.{key}"), value).unwrap();
            }
        }
        site
    }

    fn director(&self) -> &Namespace {
        self.segment.host(1)
    }

    fn server(&self) -> &Namespace {
        self.segment.host(2)
    }

    fn client(&self) -> &Namespace {
        self.segment.host(3)
    }

    /// Gives both nodes what their roles desired setting.
    fn apply(&self, conf: &Conf) {
        self.records[0].apply_well(self.director(), &desired(conf, 1, AddressRole::ActiveDirector));
        self.records[1].apply_well(self.server(), &desired(conf, 2, AddressRole::RealServer));
    }

    /// Programs one UDP service with the real server as its destination.
    fn program(&self, cvip: IpAddr, server: IpAddr, method: &str) {
        let bracket = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => format!("{addr}:7777"),
            IpAddr::V6(addr) => format!("[{addr}]:7777"),
        };
        let cvip = bracket(cvip);
        self.director().line(&format!("ipvsadm -A -u {cvip} -s rr"));
        let server = bracket(server);
        self.director().line(&format!("ipvsadm -a -u {cvip} -r {server} {method}"));
    }

    /// Asks the CVIP from the client (again and again, since a node whose link came up just now
    /// cannot yet ask for IPv6 neighbours) until the server, bound to `at`, answers `served`. The
    /// client's socket is connected: an answer from another address is none.
    fn ask(&self, cvip: IpAddr, at: IpAddr) -> String {
        let bound = self.server().enter(move || {
            let socket = UdpSocket::bind((at, 7777)).expect("a server's socket");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
            socket
        });
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&over);
        let server = std::thread::spawn(move || {
            let mut question = [0; 16];
            while !asked.load(Ordering::Relaxed) {
                if let Ok((length, client)) = bound.recv_from(&mut question) {
                    let _ = bound.send_to(&[b"served ", &question[..length]].concat(), client);
                }
            }
        });
        let answer = self.client().enter(move || {
            let any = if cvip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).expect("a client's socket");
            socket.connect((cvip, 7777)).expect("a route");
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
            let mut answer = [0; 32];
            for _ in 0..10 {
                let _ = socket.send(b"hello");
                if let Ok(length) = socket.recv(&mut answer) {
                    return String::from_utf8_lossy(&answer[..length]).into_owned();
                }
            }
            "no answer".to_owned()
        });
        over.store(true, Ordering::Relaxed);
        server.join().expect("the server's thread");
        answer
    }

    fn everything(&self) -> String {
        [self.director(), self.server(), self.client()]
            .iter()
            .map(|member| {
                member.ip("addr")
                    + &member.ip("neigh")
                    + &member.ip("-s link")
                    + &member.ip("route")
            })
            .collect::<String>()
            + &self.director().line("ipvsadm -Ln --stats")
    }
}

fn conf(routing: Routing, cvip: &str, server: &str) -> Conf {
    let (family, server) = (addr(cvip), addr(server));
    Conf {
        routing,
        cvips: vec![Cvip {
            addr: family,
            gateway: None,
            directors: vec![DirectorNode {
                node: 1,
                garp_interface: "eth0".to_owned(),
                sync_interface: None,
            }],
            real_servers: vec![
                RealServer {
                    node: 1,
                    addr: if server.is_ipv4() { addr("10.0.0.1") } else { addr("fd00::1") },
                    weight: 0,
                },
                RealServer { node: 2, addr: server, weight: 1 },
            ],
            services: vec![ServiceConf::new(Protocol::Udp, 7777, 7777)],
        }],
    }
}

#[test]
fn a_directors_settings_are_its_namespaces_and_come_back() {
    require();
    let (director, other, record) = (Namespace::new(), Namespace::new(), Record::new());
    let mut conf = conf(Routing::Dr, CVIP4, "10.0.0.2");
    let mut standby = conf.cvips[0].directors[0].clone();
    standby.node = 2;
    conf.cvips[0].directors.push(standby);
    conf.cvips[0].services[0].scheduler = "mh".to_owned();
    director.ip("link add eth0 type veth peer name eth1");

    let done = record.apply_well(&director, &desired(&conf, 1, AddressRole::Standby));
    for name in ["expire_nodest_conn", "expire_quiescent_template", "sloppy_tcp", "backup_only"] {
        let path = format!("net/ipv4/vs/{name}");
        assert!(done.contains(&format!("set net.ipv4.vs.{name} to 1 (was 0)")), "{done:?}");
        assert_eq!((director.setting(&path), other.setting(&path)), ("1".into(), "0".into()));
    }
    assert_eq!(director.setting("net/ipv4/vs/conn_reuse_mode"), "1");

    assert_eq!(
        record.apply_well(&director, &desired(&conf, 1, AddressRole::ActiveDirector)),
        [
            "set net.ipv4.vs.backup_only to 0 (was 1)",
            "added 10.0.0.100/32 to eth0",
            "removed 10.0.0.100/32 from lo"
        ]
    );
    assert!(record.check(&director, &desired(&conf, 1, AddressRole::ActiveDirector)).is_empty());
    record.undo(&director);
    assert_eq!(director.setting("net/ipv4/vs/expire_nodest_conn"), "0");
    assert_eq!(record.check(&director, &desired(&conf, 1, AddressRole::Standby)).len(), 7);
}

#[test]
fn direct_routing_serves_with_what_is_wished() {
    for (cvip, server) in [(CVIP4, "10.0.0.2"), (CVIP6, "fd00::2")] {
        let site = Site::new();
        let conf = conf(Routing::Dr, cvip, server);
        site.apply(&conf);
        site.program(addr(cvip), addr(server), "-g");
        assert_eq!(site.ask(addr(cvip), addr(cvip)), "served hello", "{}", site.everything());
        let known = site.client().ip(&format!("neigh show {cvip}"));
        let director = site.director().json("link show dev eth0")[0]["address"].clone();
        assert!(known.contains(director.as_str().expect("an address")), "{known}");
    }
}

#[test]
fn masquerading_serves_with_what_is_wished_though_all_are_on_one_network() {
    for (cvip, server, gateway) in [
        (CVIP4, "10.0.0.2", "10.0.0.254"),
        (CVIP6, "fd00::2", "fd00::fe"),
        // The director's own: real servers would heed redirects that come from it.
        (CVIP4, "10.0.0.2", "10.0.0.1"),
    ] {
        let site = Site::new();
        let mut conf = conf(Routing::Nat, cvip, server);
        conf.cvips[0].gateway = Some(addr(gateway));
        site.apply(&conf);
        site.program(addr(cvip), addr(server), "-m");
        // The client has an address of another network: the real server answers by its gateway,
        // and the director by a router, which is the client itself.
        let (client, router, default) = match addr(cvip) {
            IpAddr::V4(_) => ("192.0.2.9", "10.0.0.3", "-4 route add default"),
            IpAddr::V6(_) => ("2001:db8::9", "fd00::3", "-6 route add default"),
        };
        site.server().ip(&format!("{default} via {gateway}"));
        site.client().ip(&format!("addr add {client} dev lo"));
        site.director().ip(&format!("route add {client} via {router}"));
        site.client().ip(&format!("route replace {cvip} dev eth0 src {client}"));
        // A redirect to a router that the real server does not know would not count yet.
        let mac = site.client().json("link show dev eth0")[0]["address"].clone();
        let mac = mac.as_str().expect("an address");
        site.server().ip(&format!("neigh replace {router} lladdr {mac} dev eth0 nud permanent"));
        for time in ["first", "after a redirect, if there was one"] {
            let answer = site.ask(addr(cvip), addr(server));
            assert_eq!(answer, "served hello", "{time}: {}", site.everything());
        }
    }
}

#[test]
fn tunnels_of_every_pair_of_families_serve_with_what_is_wished() {
    for (cvip, server) in
        [(CVIP4, "10.0.0.2"), (CVIP6, "fd00::2"), (CVIP6, "10.0.0.2"), (CVIP4, "fd00::2")]
    {
        let site = Site::new();
        let conf = conf(Routing::Tun, cvip, server);
        site.apply(&conf);
        site.program(addr(cvip), addr(server), "-i");
        let answer = site.ask(addr(cvip), addr(cvip));
        assert_eq!(answer, "served hello", "{cvip} at {server}:\n{}", site.everything());
        // Nothing is left when the node leaves.
        let wished = desired(&conf, 2, AddressRole::RealServer);
        let before = site.records[1].check(site.server(), &wished);
        assert!(before.is_empty(), "{before:?}");
        site.records[1].undo(site.server());
        let links = site.server().json("link show up");
        assert!(links.iter().all(|link| link["ifname"] != wished.links[0].device), "{links:?}");
        assert!(!site.server().ip("addr").contains(cvip));
    }
}
