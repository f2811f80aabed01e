//! The net room against this machine's own kernel, in network namespaces that the tests make:
//! addresses, settings and announcements, judged by ip(8) and by a neighbour.
//!
//! They need root and iproute2, but no IPVS and no configuration. Without root they fail and
//! say so: a test that did not run has shown nothing.

mod net_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use cvip::net::{
    self, Announcer, ChangeWatch, DesiredAddress, DesiredLink, DesiredSettings, DesiredSysctl,
    Device, Difference, Done, Incapable, NeededOn, NetError, Reachable,
};
use cvip_lab::{Namespace, PATIENCE, addr, until};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde_json::Value;

use net_support::Record;

fn on(text: &str, device: &str) -> DesiredAddress {
    let device = Device::Name(device.to_owned());
    DesiredAddress { addr: addr(text), device, valid_lft: None, only_with: None }
}

fn leased(text: &str, device: &str, seconds: u32) -> DesiredAddress {
    DesiredAddress { valid_lft: Some(seconds), ..on(text, device) }
}

fn carrying(addresses: impl IntoIterator<Item = DesiredAddress>) -> DesiredSettings {
    DesiredSettings { addresses: addresses.into_iter().collect(), ..DesiredSettings::default() }
}

const ARP_IGNORE: &str = "net/ipv4/conf/all/arp_ignore";
const ARP_ANNOUNCE: &str = "net/ipv4/conf/all/arp_announce";

fn setting(path: &str, value: &'static str) -> DesiredSysctl {
    DesiredSysctl {
        path: path.to_owned(),
        value,
        or: &[],
        why: "without it, this test fails",
        needed_on: NeededOn::RealServers,
    }
}

#[test]
fn addresses_are_added_to_lo_and_removed_again() {
    let (namespace, record) = (Namespace::new(), Record::new());
    let desired = carrying([on("10.0.0.100", "lo"), on("fd00::64", "lo")]);
    let added = ["added 10.0.0.100/32 to lo", "added fd00::64/128 to lo"];
    assert_eq!(record.apply_well(&namespace, &desired), added);

    let v4 = namespace.shown("10.0.0.100", "lo").expect("an IPv4 address");
    assert_eq!((&v4["prefixlen"], &v4["scope"]), (&32.into(), &"global".into()));
    assert_eq!(v4["valid_life_time"], u32::MAX);
    let v6 = namespace.shown("fd00::64", "lo").expect("an IPv6 address");
    assert_eq!((&v6["prefixlen"], &v6["nodad"]), (&128.into(), &true.into()));
    assert_eq!((&v6["deprecated"], &v6["preferred_life_time"]), (&true.into(), &0.into()));

    assert!(record.apply_well(&namespace, &desired).is_empty(), "all is right already");
    assert!(record.check(&namespace, &desired).is_empty());
    let removed = ["removed 10.0.0.100/32 from lo", "removed fd00::64/128 from lo"];
    assert_eq!(record.undo(&namespace), removed);
    assert_eq!(namespace.shown("10.0.0.100", "lo"), None);
    assert_eq!(namespace.shown("fd00::64", "lo"), None);
    assert!(record.undo(&namespace).is_empty());
}

#[test]
fn an_added_address_receives_packets_at_once() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    // The kernel may win a race once; not every time.
    for (text, device) in
        [("fd00::64", "cv0"), ("fd00::65", "lo"), ("10.0.0.100", "cv0")].repeat(20)
    {
        let (mut settings, mut host) = (record.settings(), record.host());
        let desired = carrying([on(text, device)]);
        namespace.enter(move || {
            assert_eq!(settings.apply(&mut host, &desired).done.len(), 1);
            let socket = UdpSocket::bind(if text.contains(':') { "[::]:0" } else { "0.0.0.0:0" })
                .expect("a socket");
            let port = socket.local_addr().expect("its address").port();
            socket.send_to(b"to myself", (addr(text), port)).expect("a route to myself");
            assert_eq!(settings.undo(&mut host).done.len(), 1);
        });
    }
}

#[test]
fn what_the_administrator_had_set_is_left_alone_and_never_undone() {
    let (namespace, record) = (Namespace::new(), Record::new());
    namespace.ip("addr add 10.0.0.100/24 dev lo");
    namespace.ip("addr add fd00::64/64 dev lo");
    namespace.sysctl(ARP_IGNORE, "1").unwrap();
    let desired = DesiredSettings {
        sysctls: vec![setting(ARP_IGNORE, "1")],
        ..carrying([on("10.0.0.100", "lo"), on("fd00::64", "lo")])
    };
    assert!(record.apply_well(&namespace, &desired).is_empty());
    assert!(record.undo(&namespace).is_empty());
    assert_eq!(namespace.shown("10.0.0.100", "lo").expect("still")["prefixlen"], 24);
    assert!(namespace.shown("fd00::64", "lo").is_some());
    assert_eq!(namespace.setting(ARP_IGNORE), "1");
}

#[test]
fn settings_are_changed_in_this_namespace_only_and_given_back() {
    let (namespace, other, record) = (Namespace::new(), Namespace::new(), Record::new());
    for namespace in [&namespace, &other] {
        namespace.sysctl(ARP_IGNORE, "0").unwrap();
        namespace.sysctl(ARP_ANNOUNCE, "1").unwrap();
    }
    let sysctls = vec![setting(ARP_IGNORE, "1"), setting(ARP_ANNOUNCE, "2")];
    let desired = DesiredSettings { sysctls, ..DesiredSettings::default() };
    let done = [
        "set net.ipv4.conf.all.arp_ignore to 1 (was 0)",
        "set net.ipv4.conf.all.arp_announce to 2 (was 1)",
    ];
    assert_eq!(record.apply_well(&namespace, &desired), done);
    assert_eq!(
        (namespace.setting(ARP_IGNORE), other.setting(ARP_IGNORE)),
        ("1".into(), "0".into())
    );
    assert!(record.apply_well(&namespace, &desired).is_empty());

    // One desired setting less is one setting back.
    let fewer =
        DesiredSettings { sysctls: vec![setting(ARP_ANNOUNCE, "2")], ..DesiredSettings::default() };
    assert_eq!(
        record.apply_well(&namespace, &fewer),
        ["set net.ipv4.conf.all.arp_ignore back to 0"]
    );
    assert_eq!(record.undo(&namespace), ["set net.ipv4.conf.all.arp_announce back to 1"]);
    assert_eq!(namespace.setting(ARP_ANNOUNCE), "1");
}

#[test]
fn a_setting_that_changes_with_the_role_goes_back_to_what_it_was_before_both() {
    let (namespace, record) = (Namespace::new(), Record::new());
    namespace.sysctl(ARP_ANNOUNCE, "0").unwrap();
    let desired = |value| DesiredSettings {
        sysctls: vec![setting(ARP_ANNOUNCE, value)],
        ..DesiredSettings::default()
    };
    record.apply_well(&namespace, &desired("1"));
    record.apply_well(&namespace, &desired("2"));
    assert_eq!(record.undo(&namespace), ["set net.ipv4.conf.all.arp_announce back to 0"]);

    record.apply_well(&namespace, &desired("1"));
    record.apply_well(&namespace, &desired("0"));
    assert!(record.undo(&namespace).is_empty());
}

#[test]
fn what_somebody_changed_since_is_theirs() {
    let (namespace, record) = (Namespace::new(), Record::new());
    namespace.sysctl(ARP_IGNORE, "0").unwrap();
    namespace.sysctl(ARP_ANNOUNCE, "0").unwrap();
    let sysctls = vec![setting(ARP_IGNORE, "1"), setting(ARP_ANNOUNCE, "2")];
    let desired =
        DesiredSettings { sysctls, ..carrying([on("10.0.0.100", "lo"), on("10.0.0.101", "lo")]) };
    record.apply_well(&namespace, &desired);
    namespace.sysctl(ARP_IGNORE, "8").unwrap();
    namespace.ip("addr del 10.0.0.100/32 dev lo");
    namespace.ip("addr del 10.0.0.101/32 dev lo");
    namespace.ip("addr add 10.0.0.101/24 dev lo");

    assert_eq!(record.undo(&namespace), ["set net.ipv4.conf.all.arp_announce back to 0"]);
    assert_eq!(namespace.setting(ARP_IGNORE), "8");
    assert!(namespace.shown("10.0.0.101", "lo").is_some());
}

#[test]
fn a_desired_is_met_again_after_somebody_undid_it() {
    let (namespace, record) = (Namespace::new(), Record::new());
    namespace.sysctl(ARP_IGNORE, "0").unwrap();
    let sysctls = vec![setting(ARP_IGNORE, "1")];
    let desired = DesiredSettings { sysctls, ..carrying([on("10.0.0.100", "lo")]) };
    record.apply_well(&namespace, &desired);
    namespace.sysctl(ARP_IGNORE, "3").unwrap();
    namespace.ip("addr del 10.0.0.100/32 dev lo");
    let done = ["set net.ipv4.conf.all.arp_ignore to 1 (was 3)", "added 10.0.0.100/32 to lo"];
    assert_eq!(record.apply_well(&namespace, &desired), done);
    assert_eq!(record.undo(&namespace).len(), 2);
    assert_eq!(namespace.setting(ARP_IGNORE), "3");
}

#[test]
fn one_failing_desired_does_not_stop_the_others() {
    let (namespace, record) = (Namespace::new(), Record::new());
    namespace.sysctl(ARP_IGNORE, "0").unwrap();
    let desired = DesiredSettings {
        sysctls: vec![setting("net/ipv4/vs/no_such", "1"), setting(ARP_IGNORE, "1")],
        links: vec![DesiredLink { device: "nosuch8", kind: "nosuch", external: false }],
        ..carrying([on("10.0.0.100", "nosuch7"), on("10.0.0.101", "lo")])
    };
    let report = record.apply(&namespace, &desired);
    let done: Vec<_> = report.done.iter().map(Done::to_string).collect();
    let made = ["set net.ipv4.conf.all.arp_ignore to 1 (was 0)", "added 10.0.0.101/32 to lo"];
    assert_eq!(done, made);
    let failures: Vec<_> = report.failures.iter().map(|failure| failure.to_string()).collect();
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert!(failures[1].starts_with("no setting net.ipv4.vs.no_such in this kernel: "));
    assert!(failures[1].ends_with("(without it, this test fails)"));
    for (failure, device) in [&failures[0], &failures[2]].iter().zip(["nosuch8", "nosuch7"]) {
        assert!(failure.starts_with(&format!("no interface {device} here: ")), "{failure}");
    }
    assert_eq!(record.undo(&namespace).len(), 2);
}

#[test]
fn an_impossible_setting_is_not_remembered() {
    let (namespace, record) = (Namespace::new(), Record::new());
    // The kernel refuses it: a hop limit is 1 to 255.
    let path = "net/ipv4/ip_default_ttl";
    let sysctls = vec![setting(path, "999")];
    let report =
        record.apply(&namespace, &DesiredSettings { sysctls, ..DesiredSettings::default() });
    assert!(matches!(report.failures[0].error, NetError::Setting { action: "set", .. }));
    assert!(record.undo(&namespace).is_empty());
}

#[test]
fn an_address_that_could_not_be_hidden_is_not_added() {
    let (namespace, record) = (Namespace::new(), Record::new());
    // A setting that the kernel refuses, in the place of one that this container must not make.
    let path = "net/ipv4/ip_default_ttl";
    let hidden = DesiredAddress { only_with: Some(path), ..on("10.0.0.100", "lo") };
    let desired = DesiredSettings {
        sysctls: vec![setting(path, "999")],
        ..carrying([hidden, on("fd00::64", "lo")])
    };
    let report = record.apply(&namespace, &desired);
    let (addr, device) = (addr("10.0.0.100"), "lo".to_owned());
    let setting = "net.ipv4.ip_default_ttl".to_owned();
    assert_eq!(report.failures[1].error, NetError::Exposed { addr, device, setting });
    assert_eq!(namespace.shown("10.0.0.100", "lo"), None);
    assert!(namespace.shown("fd00::64", "lo").is_some());
    assert_eq!(record.undo(&namespace), ["removed fd00::64/128 from lo"]);
}

#[test]
fn a_link_that_was_down_is_brought_up_and_down_again() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    let desired = DesiredSettings {
        links: vec![DesiredLink { device: "cv0", kind: "veth", external: false }],
        ..DesiredSettings::default()
    };
    assert!(record.apply_well(&namespace, &desired).is_empty());
    assert!(record.undo(&namespace).is_empty(), "it was up before");

    namespace.ip("link set cv0 down");
    assert_eq!(record.check(&namespace, &desired), [Difference::Down("cv0".into())]);
    assert_eq!(record.apply_well(&namespace, &desired), ["set cv0 up"]);
    assert!(record.check(&namespace, &desired).is_empty());
    assert_eq!(record.undo(&namespace), ["set cv0 down"]);
    let flags = namespace.json("link show dev cv0")[0]["flags"].to_string();
    assert!(!flags.contains("\"UP\""), "{flags}");
}

#[test]
fn the_gateway_stands_where_its_network_is_and_with_its_prefix() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    namespace.wire("cw0", &neighbour, "cw1");
    namespace.ip("addr add 192.0.2.1/8 dev cv0");
    namespace.ip("addr add 192.0.2.254/27 dev cw0");
    namespace.ip("addr add fd00::1/64 dev cw0 nodad");
    let gateway = |text: &str| DesiredAddress { device: Device::Connected, ..on(text, "") };
    let desired = carrying([gateway("192.0.2.225"), gateway("fd00::ff")]);
    let report = record.apply(&namespace, &desired);
    assert_eq!(report.failures, []);
    let reachable =
        |text: &str, device: &str| Reachable { addr: addr(text), device: device.to_owned() };
    let both = [reachable("192.0.2.225", "cw0"), reachable("fd00::ff", "cw0")];
    assert_eq!(report.reachable, both);
    assert_eq!(namespace.shown("192.0.2.225", "cw0").expect("the gateway")["prefixlen"], 27);
    assert_eq!(namespace.shown("fd00::ff", "cw0").expect("the gateway")["prefixlen"], 64);
    assert!(record.apply_well(&namespace, &desired).is_empty());

    let removed = ["removed 192.0.2.225/27 from cw0", "removed fd00::ff/64 from cw0"];
    assert_eq!(record.undo(&namespace), removed);
    let routes = namespace.ip("-6 route show fd00::/64");
    assert!(routes.contains("dev cw0"), "the network's own route stays: {routes}");

    let failed = record.apply(&namespace, &carrying([gateway("198.51.100.1")]));
    assert_eq!(failed.failures[0].error, NetError::NotConnected(addr("198.51.100.1")));
}

#[test]
fn a_connection_to_the_cvip_lives_through_promotion_and_demotion() {
    let (namespace, client, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &client, "cv1");
    for (cvip, network, own, its) in
        [("10.0.0.100", "/24", "10.0.0.1", "10.0.0.2"), ("fd00::64", "/64", "fd00::1", "fd00::2")]
    {
        let nodad = if cvip.contains(':') { " nodad" } else { "" };
        namespace.ip(&format!("addr add {own}{network} dev cv0{nodad}"));
        client.ip(&format!("addr add {its}{network} dev cv1{nodad}"));
        // As a director would forward it: by its Ethernet address, asking nobody.
        let mac = namespace.json("link show dev cv0")[0]["address"].as_str().unwrap().to_owned();
        client.ip(&format!("neigh replace {cvip} lladdr {mac} dev cv1 nud permanent"));

        let standby = carrying([on(cvip, "lo")]);
        let active = carrying([leased(cvip, "cv0", 60)]);
        record.apply_well(&namespace, &standby);
        let cvip = addr(cvip);
        let listener = namespace.enter(move || TcpListener::bind((cvip, 80)).expect("a listener"));
        let mut outside =
            client.enter(move || TcpStream::connect((cvip, 80)).expect("a connection"));
        outside.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let (mut inside, _) = listener.accept().expect("the same connection");
        for desired in [&active, &standby] {
            assert_eq!(record.apply_well(&namespace, desired).len(), 2);
            inside.write_all(b"still here").expect("a connection that lives");
            let mut heard = [0; 10];
            outside.read_exact(&mut heard).expect("a connection that lives");
            outside.write_all(&heard).expect("a connection that lives");
            inside.read_exact(&mut heard).expect("a connection that lives");
            assert_eq!(&heard, b"still here");
        }
    }
}

#[test]
fn a_renewed_address_gets_its_whole_lifetime_back() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    for (text, prefix) in [("10.0.0.100", 32), ("fd00::64", 128)] {
        let desired = carrying([leased(text, "cv0", 1000)]);
        record.apply_well(&namespace, &desired);
        let lifetime = || {
            let shown = namespace.shown(text, "cv0").expect("the address");
            (shown["valid_life_time"].as_u64().unwrap(), shown["preferred_life_time"].clone())
        };
        let shorten = || {
            namespace
                .ip(&format!("addr change {text}/{prefix} dev cv0 valid_lft 100 preferred_lft 0"));
            assert!(lifetime().0 <= 100);
        };
        shorten();
        let (settings, mut host) = (record.settings(), record.host());
        namespace.enter(move || settings.renew(&mut host)).expect("a renewal");
        assert!(lifetime().0 > 900, "{:?}", lifetime());
        shorten();
        assert!(record.apply_well(&namespace, &desired).is_empty(), "nothing that is worth a word");
        assert!(lifetime().0 > 900);
        if prefix == 128 {
            assert_eq!(lifetime().1, 0);
        }
        assert_eq!(record.undo(&namespace).len(), 1);
    }
}

#[test]
fn an_address_that_nobody_renews_is_dropped_by_the_kernel_and_not_renewed_afterwards() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    let desired = carrying([leased("10.0.0.100", "cv0", 1), leased("fd00::64", "cv0", 1)]);
    record.apply_well(&namespace, &desired);
    for text in ["10.0.0.100", "fd00::64"] {
        until("the lifetime's end", || namespace.shown(text, "cv0").is_none());
    }
    let (settings, mut host) = (record.settings(), record.host());
    let lapsed = |text: &str| NetError::Lapsed { addr: addr(text), device: "cv0".into() };
    let errors = namespace.enter(move || settings.renew(&mut host)).expect_err("nothing to renew");
    assert_eq!(errors, [lapsed("10.0.0.100"), lapsed("fd00::64")]);
    assert_eq!(namespace.shown("10.0.0.100", "cv0"), None);
    // Who applies again has asked whether it may.
    assert_eq!(record.apply_well(&namespace, &desired).len(), 2);
}

#[test]
fn an_address_with_a_lifetime_is_known_as_ours_though_the_record_was_lost() {
    let (namespace, neighbour) = (Namespace::new(), Namespace::new());
    namespace.wire("cv0", &neighbour, "cv1");
    let desired = carrying([leased("10.0.0.100", "cv0", 60)]);
    Record::new().apply_well(&namespace, &desired);
    let record = Record::new();
    assert!(record.apply_well(&namespace, &desired).is_empty());
    assert_eq!(record.undo(&namespace), ["removed 10.0.0.100/32 from cv0"]);
}

#[test]
fn an_address_keeps_its_place_when_only_its_lifetime_changes() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    record.apply_well(&namespace, &carrying([leased("fd00::64", "cv0", 60)]));
    assert!(record.apply_well(&namespace, &carrying([on("fd00::64", "cv0")])).is_empty());
    let lifetime = || namespace.shown("fd00::64", "cv0").unwrap()["valid_life_time"].clone();
    assert_eq!(lifetime(), u32::MAX);
    assert!(record.apply_well(&namespace, &carrying([leased("fd00::64", "cv0", 60)])).is_empty());
    assert!(lifetime().as_u64() <= Some(60));
}

#[test]
fn an_address_with_a_lifetime_goes_from_an_interface_that_has_another_name_by_now() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    let desired = carrying([leased("10.0.0.100", "cv0", 60)]);
    record.apply_well(&namespace, &desired);
    for words in ["link set cv0 down", "link set cv0 name cv9", "link set cv9 up"] {
        namespace.ip(words);
    }
    assert!(namespace.shown("10.0.0.100", "cv9").is_some());
    assert_eq!(record.undo(&namespace), ["removed 10.0.0.100/32 from cv0"]);
    assert_eq!(namespace.shown("10.0.0.100", "cv9"), None);
}

#[test]
fn a_local_route_that_somebody_deleted_is_made_again_and_goes_with_its_address() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    namespace.ip("addr add 10.0.0.1/24 dev cv0");
    // The kernel's source in a local route to a further address of a network is the first one.
    let further = DesiredAddress { device: Device::Connected, ..on("10.0.0.254", "unused") };
    let desired = carrying([
        on("192.0.2.100", "lo"),
        on("fd00::64", "lo"),
        leased("192.0.2.101", "cv0", 60),
        further,
        leased("fd00::65", "cv0", 60),
    ]);
    let routes = || {
        let of = |family| namespace.ip(&format!("{family} route show table local"));
        let mut lines: Vec<String> =
            ["-4", "-6"].map(of).concat().lines().map(str::to_owned).collect();
        // The interface's own address comes when it likes.
        lines.retain(|line| !line.contains("fe80::"));
        lines.sort_unstable();
        lines
    };
    let bare = routes();
    record.apply_well(&namespace, &desired);
    let before = routes();
    for (text, device) in [
        ("192.0.2.100", "lo"),
        ("fd00::64", "lo"),
        ("192.0.2.101", "cv0"),
        ("10.0.0.254", "cv0"),
        ("fd00::65", "cv0"),
    ] {
        namespace.ip(&format!("route del local {text} dev {device} table local"));
        let unreached = Difference::Unreached { addr: addr(text), device: device.into() };
        assert_eq!(record.check(&namespace, &desired), [unreached]);
        let again = format!("made the local route to {text} on {device} again");
        assert_eq!(record.apply_well(&namespace, &desired), [again]);
        assert_eq!(routes(), before, "{text}");
        assert_eq!(record.check(&namespace, &desired), []);
    }
    assert!(record.apply_well(&namespace, &desired).is_empty());
    // An interface that is down has no local routes, and gets them back by itself.
    namespace.ip("link set cv0 down");
    let found = record.check(&namespace, &desired);
    assert!(!found.iter().any(|d| matches!(d, Difference::Unreached { .. })), "{found:?}");
    namespace.ip("link set cv0 up");
    record.undo(&namespace);
    until("the other routes", || routes() == bare);
}

#[test]
fn a_look_tells_what_is_gone_and_why_an_address_cannot_be_carried() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    let desired = carrying([leased("10.0.0.100", "cv0", 60)]);
    record.apply_well(&namespace, &desired);
    let look = || {
        let (settings, mut host) = (record.settings(), record.host());
        let desired = desired.clone();
        namespace.enter(move || {
            let unconnected =
                DesiredAddress { device: Device::Connected, ..on("198.51.100.1", "unused") };
            let carried = [on("10.0.0.100", "cv0"), unconnected, on("fd00::64", "cv0")];
            settings.look(&mut host, &desired, &carried).unwrap()
        })
    };
    let gateway = Incapable::NotConnected(addr("198.51.100.1"));
    let found = look();
    assert_eq!((found.incapable, found.lapsed), (vec![gateway.clone()], vec![]));
    neighbour.ip("link set cv1 down");
    until("the carrier's end", || {
        look().incapable == [Incapable::NoCarrier("cv0".into()), gateway.clone()]
    });
    namespace.ip("link set cv0 down");
    assert_eq!(look().incapable, [Incapable::Down("cv0".into()), gateway.clone()]);
    namespace.ip("addr del 10.0.0.100/32 dev cv0");
    let lapsed = NetError::Lapsed { addr: addr("10.0.0.100"), device: "cv0".into() };
    assert_eq!(look().lapsed, [lapsed]);
    namespace.ip("link del cv0");
    assert_eq!(look().incapable, [Incapable::Absent("cv0".into()), gateway]);
}

#[test]
fn changes_of_links_addresses_and_local_routes_wake_and_other_routes_do_not() {
    let namespace = Namespace::new();
    let watch = namespace.enter(|| ChangeWatch::open().unwrap());
    for (words, wakes) in [
        ("addr add 10.1.0.1/24 dev lo", true),
        ("route add 10.2.0.0/16 dev lo", false),
        ("route del 10.2.0.0/16 dev lo", false),
        ("addr del 10.1.0.1/24 dev lo", true),
        ("route add local 10.3.0.1 dev lo", true),
        ("addr add fd00::1/64 dev lo nodad", true),
        ("-6 route add fd01::/64 dev lo", false),
        ("addr del fd00::1/64 dev lo", true),
        ("link add cv0 type veth peer name cv1", true),
        ("link set lo down", true),
    ] {
        // The kernel makes IPv6 routes in the background.
        while watch.changed() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        namespace.ip(words);
        match wakes {
            true => until(words, || watch.changed()),
            false => assert!(!watch.changed(), "{words}"),
        }
    }
}

#[test]
fn a_check_tells_every_difference_and_changes_nothing() {
    let (namespace, neighbour, record) = (Namespace::new(), Namespace::new(), Record::new());
    namespace.wire("cv0", &neighbour, "cv1");
    namespace.sysctl(ARP_IGNORE, "0").unwrap();
    namespace.ip("addr add 10.0.0.100/32 dev cv0");
    namespace.ip("addr add 10.0.0.101/32 dev cv0");
    let desired = DesiredSettings {
        sysctls: vec![setting(ARP_IGNORE, "1"), setting("net/ipv4/vs/no_such", "1")],
        ..carrying([on("10.0.0.100", "lo"), leased("10.0.0.101", "cv0", 10)])
    };
    let differences = record.check(&namespace, &desired);
    assert!(matches!(&differences[0], Difference::Setting { is, wanted: "1", .. } if is == "0"));
    assert!(matches!(&differences[1], Difference::Unmet(_)));
    let at = |text: &str, device: &str| (addr(text), device.to_owned());
    let (lo, misplaced) = (at("10.0.0.100", "lo"), at("10.0.0.100", "cv0"));
    let permanent = at("10.0.0.101", "cv0");
    assert_eq!(
        differences[2..],
        [
            Difference::Missing { addr: lo.0, prefix: 32, device: lo.1 },
            Difference::Misplaced { addr: misplaced.0, device: misplaced.1 },
            Difference::Permanent { addr: permanent.0, device: permanent.1 },
        ]
    );
    assert_eq!(namespace.shown("10.0.0.100", "lo"), None);
    assert_eq!(namespace.setting(ARP_IGNORE), "0");
}

#[test]
fn a_real_server_with_the_cvip_on_lo_does_not_answer_for_it() {
    let (server, client, record) = (Namespace::new(), Namespace::new(), Record::new());
    server.wire("cv0", &client, "cv1");
    server.ip("addr add 10.0.0.3/24 dev cv0");
    client.ip("addr add 10.0.0.2/24 dev cv1");
    server.sysctl(ARP_IGNORE, "0").unwrap();

    let sysctls = vec![setting(ARP_IGNORE, "1"), setting(ARP_ANNOUNCE, "2")];
    let hidden = DesiredSettings { sysctls, ..carrying([on("10.0.0.100", "lo")]) };
    // 10.0.0.101 shows that a question would have been answered without the settings.
    server.ip("addr add 10.0.0.101/32 dev lo");
    assert_eq!(ask_after(&client, "10.0.0.101", "10.0.0.3"), "answered");
    record.apply_well(&server, &hidden);
    client.ip("neigh flush all");
    assert_eq!(ask_after(&client, "10.0.0.100", "10.0.0.3"), "unanswered");
}

/// Whether a neighbour answered for one address by the time it answered for another that was
/// asked for later: a wire of this kind keeps the order of its frames.
fn ask_after(client: &Namespace, asked: &'static str, later: &'static str) -> &'static str {
    client.enter(move || {
        for to in [asked, later] {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(b"?", (to, 9)).expect("a datagram");
        }
    });
    let mac = |text: &str| {
        let neighbours = client.json("neigh show dev cv1");
        neighbours.iter().any(|entry| entry["dst"] == text && entry["lladdr"].is_string())
    };
    until("an answer", || mac(later));
    if mac(asked) { "answered" } else { "unanswered" }
}

#[test]
fn an_announcement_changes_what_a_neighbour_knows() {
    let (director, client) = (Namespace::new(), Namespace::new());
    director.wire("cv0", &client, "cv1");
    client.ip("addr add 10.0.0.2/24 dev cv1");
    client.ip("addr add fd00::2/64 dev cv1 nodad");
    let mac = director.json("link show dev cv0")[0]["address"].clone();
    for text in ["10.0.0.100", "fd00::64"] {
        client.ip(&format!("neigh add {text} lladdr 02:00:00:00:00:99 dev cv1 nud stale"));
        let known = || {
            let neighbours = client.json("neigh show dev cv1");
            neighbours.into_iter().find(|entry| entry["dst"] == text).expect("an entry")
        };
        assert_eq!(known()["lladdr"], "02:00:00:00:00:99");
        director.enter(move || net::announce("cv0", addr(text))).expect("an announcement");
        until("the new address", || known()["lladdr"] == mac);
        assert_eq!(known()["router"], Value::Null);
    }
    // Nobody may forget that a router is one.
    director.sysctl("net/ipv6/conf/cv0/forwarding", "1").unwrap();
    director.enter(|| net::announce("cv0", addr("fd00::64"))).expect("an announcement");
    let router = || client.ip("neigh show fd00::64 dev cv1").contains("router");
    until("the router's mark", router);
}

#[test]
fn an_announcement_arrives_in_both_forms_and_to_everybody() {
    let (director, client) = (Namespace::new(), Namespace::new());
    director.wire("cv0", &client, "cv1");
    let socket = client.enter(|| {
        let all = SockProtocol::EthAll;
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all)
            .expect("a packet socket")
    });
    director.enter(|| {
        let announcer = Announcer::open("cv0").expect("an announcer");
        announcer.announce(addr("10.0.0.100")).expect("an announcement");
        announcer.announce(addr("fd00::64")).expect("an announcement");
    });
    let mut operations = Vec::new();
    let mut frame = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("a time-out");
    // Other traffic, such as router solicitations, may come between.
    while Instant::now() < deadline {
        let length = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()).expect("a frame");
        let frame = &frame[..length];
        match frame[12..14] {
            [0x08, 0x06] if frame[28..32] == [10, 0, 0, 100] => {
                assert_eq!((&frame[..6], &frame[38..42]), (&[0xff; 6][..], &[10, 0, 0, 100][..]));
                operations.push(frame[21]);
            }
            [0x86, 0xdd] if frame[54] == 136 && frame[20] == 58 => {
                assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
                assert_eq!((frame[21], frame.len()), (255, 86));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(operations, [1, 2]);
}

#[test]
fn an_interface_that_is_down_says_so() {
    let (namespace, neighbour) = (Namespace::new(), Namespace::new());
    namespace.wire("cv0", &neighbour, "cv1");
    namespace.ip("link set cv0 down");
    for text in ["10.0.0.100", "fd00::64"] {
        let error = namespace.enter(move || net::announce("cv0", addr(text)));
        assert_eq!(error, Err(NetError::Down("cv0".into())));
    }
}

#[test]
fn local_addresses_and_ports_are_this_namespaces() {
    let namespace = Namespace::new();
    namespace.ip("addr add 10.0.0.100/32 dev lo");
    namespace.sysctl("net/ipv4/ip_local_port_range", "40000 40999").unwrap();
    let local = namespace.enter(net::local_addresses).expect("addresses");
    assert_eq!(local.get(&addr("10.0.0.100")), Some(&1));
    assert_eq!(local.get(&addr("::1")), Some(&1));
    assert_eq!(namespace.enter(net::local_port_range), Ok((40000, 40999)));
}

#[test]
fn a_thousand_addresses_are_listed_added_and_removed() {
    let (namespace, record) = (Namespace::new(), Record::new());
    let text = |n: u32| format!("10.1.{}.{}", n / 250, n % 250 + 1);
    let desired = carrying((0..1000).map(|n| on(&text(n), "lo")));
    assert_eq!(record.apply_well(&namespace, &desired).len(), 1000);
    assert!(namespace.enter(net::local_addresses).expect("addresses").len() > 1000);
    assert!(record.apply_well(&namespace, &desired).is_empty());
    assert_eq!(record.undo(&namespace).len(), 1000);
}
