//! What cvip.conf asks of a node's own kernel, in the node's role of the moment.
//!
//! Pure: [`NetworkSettings`](super::NetworkSettings) compares these with the kernel and makes what
//! is missing. A setting is desired only while the role needs it, so that a change of role is
//! nothing but other desired settings.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::conf::{Conf, Cvip, DirectorNode, RealServer, Routing};
use crate::serial::interned::{self, ProgramText};

/// Seconds that the kernel keeps the CVIP of one of several directors unless it is renewed
/// (once a second): a director whose cvipd is dead or frozen cannot hold it for longer.
const CVIP_LIFETIME: u32 = 10;

/// The interface on which real servers carry an address for which they must not answer.
const LOOPBACK: &str = "lo";

/// With 1 or 2, an interface answers ARP for its own addresses only.
const ARP_IGNORE: &str = "net/ipv4/conf/all/arp_ignore";

/// What a node is at the moment, for its addresses and settings. A node is in one set of directors at most, and a real server of
/// every CVIP whose director it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AddressRole {
    /// No director.
    RealServer,
    /// The director that carries its set's CVIPs.
    ActiveDirector,
    /// A director that was active until now: what still reaches it is forwarded, though the address
    /// is another's.
    Yielding,
    /// A director that waits; a real server in the meantime.
    Standby,
}

/// What a node's kernel should have.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DesiredSettings {
    /// Settings, in the order in which they are to be made.
    pub sysctls: Vec<DesiredSysctl>,
    /// Links that should be up.
    pub links: Vec<DesiredLink>,
    /// Addresses to carry.
    pub addresses: Vec<DesiredAddress>,
}

/// An address to carry. IPv6 addresses are added with `nodad` (duplicate detection would cost a
/// second), `noprefixroute` and preferred lifetime 0 (never chosen as a source).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DesiredAddress {
    /// The address.
    pub addr: IpAddr,
    /// Where.
    pub device: Device,
    /// Seconds after which the kernel drops it unless it is renewed; none: never.
    pub valid_lft: Option<u32>,
    /// The path of a setting, desired too, without which it is not added: one real server that
    /// answers for the CVIP harms every client, one that does not serve harms few.
    #[serde(deserialize_with = "interned::option")]
    pub only_with: Option<ProgramText>,
}

/// Where an address is carried, and with which prefix length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Device {
    /// On the interface of this name, as a host address (/32, /128).
    Name(String),
    /// On the interface whose connected network contains the address, with that network's
    /// prefix length.
    Connected,
}

/// A link to bring up, and to make if it is missing: a tunnel's receiving end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DesiredLink {
    /// Name of the interface.
    #[serde(deserialize_with = "interned::text")]
    pub device: ProgramText,
    /// Its kind, as `ip link add type` names it; asking for one loads the kernel's module.
    #[serde(deserialize_with = "interned::text")]
    pub kind: ProgramText,
    /// True for a tunnel that takes every packet that no other one takes (`external`).
    pub external: bool,
}

/// A kernel setting to make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DesiredSysctl {
    /// Path below `/proc/sys`, such as `net/ipv4/vs/expire_nodest_conn`.
    pub path: String,
    /// The value to write.
    #[serde(deserialize_with = "interned::text")]
    pub value: ProgramText,
    /// Values that serve as well and are left alone.
    #[serde(deserialize_with = "interned::list")]
    pub or: &'static [ProgramText],
    /// What goes wrong without it.
    #[serde(deserialize_with = "interned::text")]
    pub why: ProgramText,
    /// Which nodes need it.
    pub needed_on: NeededOn,
}

named! {
    /// Which nodes need a setting.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum NeededOn {
        /// Nodes that take part of the traffic, and directors that may become such.
        RealServers = "real servers",
        /// Directors, active or not.
        Directors = "directors",
        /// The active director.
        ActiveDirector = "the active director",
    }
}

impl DesiredSysctl {
    /// True if a setting with this value needs no change.
    pub fn accepts(&self, value: &str) -> bool {
        self.value == value || self.or.contains(&value)
    }
}

impl DesiredSettings {
    fn carry(&mut self, addr: IpAddr, device: Device, valid_lft: Option<u32>) {
        self.address(DesiredAddress { addr, device, valid_lft, only_with: None });
    }

    fn hide(&mut self, addr: IpAddr, device: &str) {
        let device = Device::Name(device.to_owned());
        let only_with = addr.is_ipv4().then_some(ARP_IGNORE);
        self.address(DesiredAddress { addr, device, valid_lft: None, only_with });
    }

    fn address(&mut self, desired: DesiredAddress) {
        if !self.addresses.contains(&desired) {
            self.addresses.push(desired);
        }
    }

    fn sysctl(
        &mut self,
        needed_on: NeededOn,
        (path, value, or): (&str, &'static str, &'static [&'static str]),
        why: &'static str,
    ) {
        let desired = DesiredSysctl { path: path.to_owned(), value, or, why, needed_on };
        if !self.sysctls.contains(&desired) {
            self.sysctls.push(desired);
        }
    }

    fn link(&mut self, desired: DesiredLink) {
        if !self.links.contains(&desired) {
            self.links.push(desired);
        }
    }
}

/// What the configuration asks of a node in a role. A role of director counts for the CVIPs
/// whose director the node is; for others, and for a node that is none, it is a real server.
pub fn desired(conf: &Conf, node: u32, role: AddressRole) -> DesiredSettings {
    let mut desired = DesiredSettings::default();
    for cvip in &conf.cvips {
        let director = cvip.director(node).filter(|_| role != AddressRole::RealServer);
        if director.is_some() {
            directors_settings(&mut desired, cvip, role);
        }
        match (director, role) {
            (Some(director), AddressRole::ActiveDirector) => {
                active_director(&mut desired, conf.routing, cvip, director);
            }
            _ => {
                if let Some(server) = cvip.real_server(node) {
                    real_server(&mut desired, conf.routing, cvip, server);
                }
            }
        }
    }
    desired
}

/// What IPVS itself needs wherever the table is programmed. A standby has it beforehand, so
/// that a takeover has less to do.
fn directors_settings(desired: &mut DesiredSettings, cvip: &Cvip, role: AddressRole) {
    let on = NeededOn::Directors;
    desired.sysctl(
        on,
        ("net/ipv4/vs/expire_nodest_conn", "1", &[]),
        "without it, packets of connections to a removed destination are dropped in silence",
    );
    desired.sysctl(
        on,
        ("net/ipv4/vs/expire_quiescent_template", "1", &[]),
        "without it, a persistent client's new connections go on to a drained destination",
    );
    desired.sysctl(
        on,
        // A bitmap: 2 adds to what 1 does (networking/ipvs-sysctl.rst).
        ("net/ipv4/vs/conn_reuse_mode", "1", &["2", "3"]),
        "without it, a client that reuses a port is sent to its old destination, even a drained one",
    );
    if cvip.directors.len() > 1 {
        let (value, why) = match role {
            AddressRole::Standby => {
                ("1", "without it, a standby would forward packets that were meant for it")
            }
            _ => ("0", "with it, a director that still receives synchronisation would not forward"),
        };
        desired.sysctl(on, ("net/ipv4/vs/backup_only", value, &[]), why);
    }
    if cvip.directors.len() > 1 && cvip.services.iter().any(|service| service.scheduler == "mh") {
        desired.sysctl(
            on,
            ("net/ipv4/vs/sloppy_tcp", "1", &[]),
            "without it, connections that were not synchronised yet are lost in a takeover, though \
             the mh scheduler would find their destinations",
        );
    }
}

fn active_director(
    desired: &mut DesiredSettings,
    routing: Routing,
    cvip: &Cvip,
    director: &DirectorNode,
) {
    let shared = cvip.directors.len() > 1;
    let valid_lft = shared.then_some(CVIP_LIFETIME);
    match routing {
        // While it is active they change nothing that matters; kept, they are in force before
        // it yields and the address moves to lo.
        Routing::Dr | Routing::Tun if shared => silence(desired, cvip),
        Routing::Dr | Routing::Tun => {}
        Routing::Nat => masquerading(desired, cvip, director),
    }
    desired.carry(cvip.addr, Device::Name(director.garp_interface.clone()), valid_lft);
    if let (Routing::Nat, Some(gateway)) = (routing, cvip.gateway) {
        desired.carry(gateway, Device::Connected, valid_lft);
    }
}

fn real_server(desired: &mut DesiredSettings, routing: Routing, cvip: &Cvip, server: &RealServer) {
    match routing {
        // The kernel never answers neighbour solicitations for an IPv6 address on lo.
        Routing::Dr => {
            silence(desired, cvip);
            desired.hide(cvip.addr, LOOPBACK);
        }
        Routing::Tun => {
            silence(desired, cvip);
            let tunnel = tunnel(cvip.addr, server.addr);
            let device = tunnel.device;
            if cvip.addr.is_ipv4() {
                // Packets leave the tunnel with a client's address, to which no route leads
                // through the tunnel: the strict check drops them. The loose one overrules it,
                // since the kernel takes the larger of `all` and the device's, but wants an
                // address on the device: hence the CVIP stands on it, and not on lo.
                desired.sysctl(
                    NeededOn::RealServers,
                    (&format!("net/ipv4/conf/{device}/rp_filter"), "2", &[]),
                    "without it, packets from the tunnel may be dropped by the strict source check",
                );
            }
            desired.link(tunnel);
            desired.hide(cvip.addr, device);
        }
        Routing::Nat => {}
    }
}

/// The link that takes what comes out of a tunnel from any director, by the family inside and
/// the one outside: the fallback device that comes with its kernel module. The one of IPv6 takes
/// IPv6 only, which rtnetlink cannot change on every kernel, so that IPv4 inside
/// IPv6 has a link of its own.
fn tunnel(inner: IpAddr, outer: IpAddr) -> DesiredLink {
    let (device, kind, external) = match (inner, outer) {
        (IpAddr::V4(_), IpAddr::V4(_)) => ("tunl0", "ipip", false),
        (IpAddr::V6(_), IpAddr::V4(_)) => ("sit0", "sit", false),
        (IpAddr::V6(_), IpAddr::V6(_)) => ("ip6tnl0", "ip6tnl", false),
        (IpAddr::V4(_), IpAddr::V6(_)) => ("cvip4in6", "ip6tnl", true),
    };
    DesiredLink { device, kind, external }
}

/// The kernel module of a tunnel's link.
pub(super) fn tunnel_module(device: &str) -> Option<&'static str> {
    match device {
        "tunl0" => Some("ipip"),
        "sit0" => Some("sit"),
        "ip6tnl0" | "cvip4in6" => Some("ip6_tunnel"),
        _ => None,
    }
}

/// A real server must neither answer ARP for the CVIP nor name it in its own requests.
/// `all` suffices: the kernel takes the larger of it and the interface's own value
/// (IN_DEV_MAXCONF, linux/inetdevice.h), and asks the interface that the packet uses, never lo.
fn silence(desired: &mut DesiredSettings, cvip: &Cvip) {
    if cvip.addr.is_ipv6() {
        return;
    }
    let on = NeededOn::RealServers;
    desired.sysctl(
        on,
        (ARP_IGNORE, "1", &["2"]),
        "without it, a real server answers ARP for the CVIP and takes the director's traffic",
    );
    desired.sysctl(
        on,
        ("net/ipv4/conf/all/arp_announce", "2", &[]),
        "without it, a real server's ARP requests tell routers that the CVIP is there",
    );
}

fn masquerading(desired: &mut DesiredSettings, cvip: &Cvip, director: &DirectorNode) {
    let on = NeededOn::ActiveDirector;
    if cvip.addr.is_ipv6() {
        desired.sysctl(
            on,
            ("net/ipv6/conf/all/forwarding", "1", &[]),
            "without it, real servers' answers stop at the director (with it, an interface heeds \
             router advertisements only if its accept_ra is 2)",
        );
        return;
    }
    desired.sysctl(
        on,
        ("net/ipv4/ip_forward", "1", &[]),
        "without it, real servers' answers stop at the director",
    );
    // Where clients and real servers are on one network, a redirect would lead the answers past
    // the director. The kernel sends one if either value says so: other interfaces, whose own
    // value is 1, go on as before.
    for scope in ["all", &director.garp_interface] {
        desired.sysctl(
            on,
            (&format!("net/ipv4/conf/{scope}/send_redirects"), "0", &[]),
            "without it, the director tells real servers on its clients' network to answer past it",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::ServiceConf;
    use crate::protocol::Protocol;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Nodes 1 and up with addresses of one family; the first `directors` of them are directors.
    fn cvip(virtual_addr: &str, node_net: &str, directors: u32) -> Cvip {
        Cvip {
            addr: addr(virtual_addr),
            gateway: None,
            directors: (1..=directors)
                .map(|node| DirectorNode {
                    node,
                    garp_interface: format!("eth{node}"),
                    sync_interface: None,
                })
                .collect(),
            real_servers: (1..=4)
                .map(|node| RealServer {
                    node,
                    addr: addr(&format!("{node_net}{node}")),
                    weight: 1,
                })
                .collect(),
            services: vec![ServiceConf::new(Protocol::Tcp, 80, 80)],
        }
    }

    fn conf(routing: Routing, cvip: Cvip) -> Conf {
        Conf { routing, cvips: vec![cvip] }
    }

    fn settings(desired: &DesiredSettings) -> Vec<String> {
        desired
            .sysctls
            .iter()
            .map(|desired| format!("{}={}", desired.path, desired.value))
            .collect()
    }

    fn addresses(desired: &DesiredSettings) -> Vec<String> {
        let say = |desired: &DesiredAddress| {
            let device = match &desired.device {
                Device::Name(name) => name,
                Device::Connected => "its network",
            };
            let lifetime = desired.valid_lft.map(|s| format!(" for {s} s")).unwrap_or_default();
            format!("{} on {device}{lifetime}", desired.addr)
        };
        desired.addresses.iter().map(say).collect()
    }

    const IPVS: [&str; 3] = [
        "net/ipv4/vs/expire_nodest_conn=1",
        "net/ipv4/vs/expire_quiescent_template=1",
        "net/ipv4/vs/conn_reuse_mode=1",
    ];
    const SILENT: [&str; 2] =
        ["net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2"];

    #[test]
    fn a_real_server_of_direct_routing_hides_the_cvip_on_lo() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 1));
        let desired = desired(&conf, 3, AddressRole::RealServer);
        assert_eq!(addresses(&desired), ["10.0.0.100 on lo"]);
        assert_eq!(desired.addresses[0].only_with, Some("net/ipv4/conf/all/arp_ignore"));
        assert_eq!(settings(&desired), SILENT);
        assert!(desired.links.is_empty());
    }

    #[test]
    fn an_ipv6_cvip_on_lo_needs_no_settings() {
        let conf = conf(Routing::Dr, cvip("fd00::64", "fd00::", 1));
        let desired = desired(&conf, 3, AddressRole::RealServer);
        assert_eq!(addresses(&desired), ["fd00::64 on lo"]);
        assert_eq!(desired.addresses[0].only_with, None);
        assert!(desired.sysctls.is_empty());
    }

    #[test]
    fn a_lone_director_carries_the_cvip_for_ever_and_answers_for_it() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 1));
        let desired = desired(&conf, 1, AddressRole::ActiveDirector);
        assert_eq!(addresses(&desired), ["10.0.0.100 on eth1"]);
        assert_eq!(settings(&desired), IPVS);
    }

    #[test]
    fn one_of_several_directors_carries_the_cvip_with_a_lifetime_and_is_ready_to_hide_it() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 2));
        let active = desired(&conf, 2, AddressRole::ActiveDirector);
        assert_eq!(addresses(&active), ["10.0.0.100 on eth2 for 10 s"]);
        let backup = ["net/ipv4/vs/backup_only=0"];
        assert_eq!(settings(&active), [&IPVS[..], &backup, &SILENT].concat());
    }

    #[test]
    fn a_standby_is_a_real_server_with_everything_ready_but_the_address() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 2));
        let standby = desired(&conf, 2, AddressRole::Standby);
        assert_eq!(addresses(&standby), ["10.0.0.100 on lo"]);
        let backup = ["net/ipv4/vs/backup_only=1"];
        assert_eq!(settings(&standby), [&IPVS[..], &backup, &SILENT].concat());
    }

    #[test]
    fn a_takeover_changes_one_setting_and_one_address() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 2));
        let before = settings(&desired(&conf, 2, AddressRole::Standby));
        let after = settings(&desired(&conf, 2, AddressRole::ActiveDirector));
        let changed: Vec<_> = after.iter().filter(|setting| !before.contains(setting)).collect();
        assert_eq!(changed, ["net/ipv4/vs/backup_only=0"]);
        assert_eq!(before.len(), after.len());
    }

    #[test]
    fn unsynchronised_connections_are_picked_up_only_where_the_scheduler_finds_their_servers() {
        let with = |scheduler: &str, directors| {
            let mut cvip = cvip("10.0.0.100", "10.0.0.", directors);
            cvip.services[0].scheduler = scheduler.to_owned();
            let conf = conf(Routing::Dr, cvip);
            settings(&desired(&conf, 1, AddressRole::ActiveDirector))
                .contains(&"net/ipv4/vs/sloppy_tcp=1".to_owned())
        };
        assert!(with("mh", 2));
        assert!(!with("mh", 1));
        assert!(!with("wlc", 2));
    }

    #[test]
    fn masquerading_asks_the_active_director_for_everything_and_real_servers_for_nothing() {
        let mut cvip = cvip("192.0.2.100", "10.0.0.", 2);
        cvip.gateway = Some(addr("10.0.0.254"));
        let conf = conf(Routing::Nat, cvip);
        let active = desired(&conf, 1, AddressRole::ActiveDirector);
        assert_eq!(
            addresses(&active),
            ["192.0.2.100 on eth1 for 10 s", "10.0.0.254 on its network for 10 s"]
        );
        let forwarding = [
            "net/ipv4/vs/backup_only=0",
            "net/ipv4/ip_forward=1",
            "net/ipv4/conf/all/send_redirects=0",
            "net/ipv4/conf/eth1/send_redirects=0",
        ];
        assert_eq!(settings(&active), [&IPVS[..], &forwarding].concat());

        assert_eq!(desired(&conf, 3, AddressRole::RealServer), DesiredSettings::default());
        let standby = desired(&conf, 2, AddressRole::Standby);
        assert!(standby.addresses.is_empty());
        assert_eq!(settings(&standby), [&IPVS[..], &["net/ipv4/vs/backup_only=1"]].concat());
    }

    #[test]
    fn masquerading_forwards_the_family_of_the_cvip() {
        let conf = conf(Routing::Nat, cvip("2001:db8::64", "fd00::", 1));
        let active = desired(&conf, 1, AddressRole::ActiveDirector);
        assert_eq!(settings(&active)[3..], ["net/ipv6/conf/all/forwarding=1"]);
    }

    #[test]
    fn a_real_server_at_the_end_of_a_tunnel_carries_the_cvip_on_the_tunnels_device() {
        for (virtual_addr, node_net, device, checked) in [
            ("10.0.0.100", "10.0.0.", "tunl0", true),
            ("10.0.0.100", "fd00::", "cvip4in6", true),
            ("fd00::64", "10.0.0.", "sit0", false),
            ("fd00::64", "fd00::", "ip6tnl0", false),
        ] {
            let conf = conf(Routing::Tun, cvip(virtual_addr, node_net, 1));
            let desired = desired(&conf, 4, AddressRole::RealServer);
            assert_eq!(addresses(&desired), [format!("{virtual_addr} on {device}")]);
            let links: Vec<_> = desired.links.iter().map(|link| link.device).collect();
            assert_eq!(links, [device]);
            let loose = format!("net/ipv4/conf/{device}/rp_filter=2");
            assert_eq!(settings(&desired).contains(&loose), checked);
            assert_eq!(settings(&desired).len(), if checked { 3 } else { 0 });
            assert!(tunnel_module(device).is_some());
        }
    }

    #[test]
    fn a_director_of_one_cvip_is_a_real_server_of_another() {
        let mut other = cvip("10.0.0.101", "10.0.0.", 1);
        other.directors[0].node = 3;
        let conf =
            Conf { routing: Routing::Dr, cvips: vec![cvip("10.0.0.100", "10.0.0.", 1), other] };
        let active = desired(&conf, 1, AddressRole::ActiveDirector);
        assert_eq!(addresses(&active), ["10.0.0.100 on eth1", "10.0.0.101 on lo"]);
        assert_eq!(settings(&active), [&IPVS[..], &SILENT].concat());
    }

    #[test]
    fn what_two_cvips_need_is_desired_once() {
        let mut conf = conf(Routing::Nat, cvip("192.0.2.100", "10.0.0.", 1));
        conf.cvips.push(cvip("192.0.2.101", "10.0.0.", 1));
        for cvip in &mut conf.cvips {
            cvip.gateway = Some(addr("10.0.0.254"));
        }
        let active = desired(&conf, 1, AddressRole::ActiveDirector);
        assert_eq!(
            addresses(&active),
            ["192.0.2.100 on eth1", "10.0.0.254 on its network", "192.0.2.101 on eth1"]
        );
        assert_eq!(active.sysctls.len(), 6);
    }

    #[test]
    fn a_node_that_the_configuration_does_not_name_desires_nothing() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 2));
        for role in [AddressRole::RealServer, AddressRole::ActiveDirector, AddressRole::Standby] {
            assert_eq!(desired(&conf, 9, role), DesiredSettings::default());
        }
    }

    #[test]
    fn a_value_that_serves_as_well_is_accepted() {
        let conf = conf(Routing::Dr, cvip("10.0.0.100", "10.0.0.", 1));
        let desired = desired(&conf, 3, AddressRole::RealServer);
        let arp_ignore = &desired.sysctls[0];
        assert!(arp_ignore.accepts("1") && arp_ignore.accepts("2"));
        assert!(!arp_ignore.accepts("0") && !arp_ignore.accepts("3"));
    }
}
