//! A director that notices another host with its address, on a real kernel's ARP and neighbour
//! discovery. Director, conflicting host and intruder are network namespaces on one bridge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

use cvip::net::{self, ConflictState, ConflictWatch, Mac};
use cvip_lab::{Namespace, PATIENCE, Segment, addr, until};
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};
use nix::sys::time::TimeSpec;

use cvip::clock::Instant;

const CVIP4: &str = "10.0.0.100";
const CVIP6: &str = "fd00::64";
/// Watched too, and announced last: by then, everything before it has been heard.
const LAST4: &str = "10.0.0.200";
const LAST6: &str = "fd00::c8";

/// Three hosts on one bridge: the director, one with its address, and an intruder.
struct Hosts(Segment);

impl Hosts {
    fn new() -> Hosts {
        let hosts = Hosts(Segment::new(3));
        carry(hosts.director(), "eth0");
        hosts
    }

    fn director(&self) -> &Namespace {
        self.0.host(1)
    }

    fn conflicting(&self) -> &Namespace {
        self.0.host(2)
    }

    fn intruder(&self) -> &Namespace {
        self.0.host(3)
    }

    fn watch(&self) -> ConflictWatch {
        let watched = [CVIP4, CVIP6, LAST4, LAST6].map(addr);
        self.director().enter(|| ConflictWatch::open("eth0", watched)).expect("a watch")
    }
}

/// Gives a host both CVIPs.
fn carry(host: &Namespace, device: &str) {
    host.ip(&format!("addr add {CVIP4}/32 dev {device}"));
    host.ip(&format!("addr add {CVIP6}/128 dev {device} nodad"));
}

fn announce(host: &Namespace, text: &'static str) {
    host.enter(move || net::announce("eth0", addr(text))).expect("an announcement");
}

fn mac_of(host: &Namespace) -> Mac {
    let text = host.json("link show dev eth0")[0]["address"].clone();
    let mut bytes = text.as_str().expect("an address").split(':');
    Mac([(); 6].map(|()| u8::from_str_radix(bytes.next().expect("six bytes"), 16).expect("hex")))
}

/// Sends a frame as it is.
fn inject(host: &Namespace, frame: Vec<u8>) {
    host.enter(move || {
        let link = getifaddrs()
            .expect("interfaces")
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .expect("eth0");
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .expect("a packet socket");
        bind(socket.as_raw_fd(), &link).expect("eth0");
        send(socket.as_raw_fd(), &frame, MsgFlags::empty()).expect("a frame");
    });
}

/// An ARP reply: by RFC 826, byte for byte.
fn arp_reply(to: Mac, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    [
        &to.0[..],
        &sender.0.0,
        &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2],
        &sender.0.0,
        &sender.1.octets(),
        &target.0.0,
        &target.1.octets(),
    ]
    .concat()
}

/// A neighbour advertisement to all nodes: by RFC 4861, byte for byte.
fn advertisement(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &ip.octets(), &[2, 1], &mac.0].concat();
    let sum: u32 = [&ip.octets()[..], &group.octets(), &[0, 0, 0, 32, 0, 0, 0, 58], &message]
        .concat()
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    [
        &[0x33, 0x33, 0, 0, 0, 1][..],
        &mac.0,
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
        &ip.octets(),
        &group.octets(),
        &message,
    ]
    .concat()
}

/// One forged packet that says that this host has the address.
fn forged(text: &str, mac: Mac) -> Vec<u8> {
    match addr(text) {
        IpAddr::V4(ip) => arp_reply(Mac([0xff; 6]), (mac, ip), (Mac([0xff; 6]), ip)),
        IpAddr::V6(ip) => advertisement(mac, ip),
    }
}

/// Drives the watch until this holds.
fn drive(watch: &mut ConflictWatch, what: &str, mut holds: impl FnMut(&ConflictWatch) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Instant::now();
        watch.step(now).expect("a step");
        if holds(watch) {
            return;
        }
        assert!(now < deadline, "{what} did not come within {PATIENCE:?}: {watch:?}");
        let timeout = watch.timeout(Instant::now()).map_or(PATIENCE, |due| due.min(PATIENCE));
        let mut fds = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        ppoll(&mut fds, Some(TimeSpec::from(timeout)), None).expect("poll");
    }
}

/// The other host that has been seen to have an address.
fn conflict(watch: &ConflictWatch, text: &str) -> Option<Mac> {
    watch.confirmed().find(|(of, _)| *of == addr(text)).map(|(_, by)| by)
}

fn is_quiet(watch: &ConflictWatch, text: &str) -> bool {
    watch.state(addr(text)) == Some(ConflictState::NoConflict)
}

/// Drives the watch until it has heard the last announcement, and with it all that was said
/// before.
fn hear_all(hosts: &Hosts, watch: &mut ConflictWatch) {
    for text in [LAST4, LAST6] {
        announce(hosts.intruder(), text);
        drive(watch, "the last announcement", |watch| !is_quiet(watch, text));
    }
}

/// Drives the watch until a suspicion has come to nothing, and says how often it had asked.
fn comes_to_nothing(watch: &mut ConflictWatch, text: &str) -> u8 {
    let mut most = 0;
    drive(watch, "the end of a suspicion", |watch| {
        assert_eq!(conflict(watch, text), None);
        if let Some(ConflictState::Probing { asked, .. }) = watch.state(addr(text)) {
            most = most.max(asked);
        }
        most > 0 && is_quiet(watch, text)
    });
    most
}

mod on_stock {
    use super::*;

    #[test]
    fn another_host_that_has_the_address_and_says_so_is_found_out() {
        let hosts = Hosts::new();
        carry(hosts.conflicting(), "eth0");
        let mut watch = hosts.watch();
        for text in [CVIP4, CVIP6] {
            assert!(is_quiet(&watch, text));
            announce(hosts.conflicting(), text);
            drive(&mut watch, "the conflicting host", |watch| conflict(watch, text).is_some());
            assert_eq!(conflict(&watch, text), Some(mac_of(hosts.conflicting())));
        }
    }

    #[test]
    fn one_that_says_nothing_is_found_out_by_asking() {
        let hosts = Hosts::new();
        carry(hosts.conflicting(), "eth0");
        let mut watch = hosts.watch();
        for text in [CVIP4, CVIP6] {
            watch.doubt(addr(text), Instant::now());
            drive(&mut watch, "the conflicting host", |watch| conflict(watch, text).is_some());
            assert_eq!(conflict(&watch, text), Some(mac_of(hosts.conflicting())));
        }
        assert!(is_quiet(&watch, LAST4) && is_quiet(&watch, LAST6));
    }

    #[test]
    fn a_forged_packet_is_asked_about_and_forgotten() {
        let hosts = Hosts::new();
        let mut watch = hosts.watch();
        let mac = mac_of(hosts.intruder());
        for text in [CVIP4, CVIP6] {
            inject(hosts.intruder(), forged(text, mac));
            assert!(comes_to_nothing(&mut watch, text) >= 3, "{text}");
        }
    }

    #[test]
    fn a_forged_announcement_and_a_forged_answer_are_not_enough() {
        let hosts = Hosts::new();
        let mut watch = hosts.watch();
        let (mac, director) = (mac_of(hosts.intruder()), mac_of(hosts.director()));
        let answer = |text| match addr(text) {
            // As if to a probe: to the asker, whose address is not known.
            IpAddr::V4(ip) => arp_reply(director, (mac, ip), (director, Ipv4Addr::UNSPECIFIED)),
            IpAddr::V6(ip) => advertisement(mac, ip),
        };
        for text in [CVIP4, CVIP6] {
            inject(hosts.intruder(), forged(text, mac));
            drive(&mut watch, "a question", |watch| {
                matches!(watch.state(addr(text)), Some(ConflictState::Probing { .. }))
            });
            inject(hosts.intruder(), answer(text));
            drive(&mut watch, "a forged answer", |watch| {
                matches!(watch.state(addr(text)), Some(ConflictState::Probing { answered: 1, .. }))
            });
            comes_to_nothing(&mut watch, text);
        }
    }

    #[test]
    fn what_this_host_says_itself_does_not_count() {
        let hosts = Hosts::new();
        let mut watch = hosts.watch();
        let director = mac_of(hosts.director());
        for text in [CVIP4, CVIP6] {
            announce(hosts.director(), text);
            // Nor if a switch sends it back.
            inject(hosts.intruder(), forged(text, director));
        }
        hear_all(&hosts, &mut watch);
        assert!(is_quiet(&watch, CVIP4) && is_quiet(&watch, CVIP6), "{watch:?}");
    }

    #[test]
    fn a_real_server_that_carries_the_address_on_lo_is_no_conflict() {
        let hosts = Hosts::new();
        hosts.conflicting().sysctl("net/ipv4/conf/all/arp_ignore", "1").unwrap();
        hosts.conflicting().sysctl("net/ipv4/conf/all/arp_announce", "2").unwrap();
        carry(hosts.conflicting(), "lo");
        let mut watch = hosts.watch();
        for text in [CVIP4, CVIP6] {
            watch.doubt(addr(text), Instant::now());
            assert!(comes_to_nothing(&mut watch, text) >= 3, "{text}");
        }
    }

    #[test]
    fn nothing_else_wakes_the_watch() {
        let hosts = Hosts::new();
        let watch = hosts.watch();
        // Resolution both ways, and traffic.
        for (host, to) in [(hosts.conflicting(), "10.0.0.1"), (hosts.director(), "fd00::2")] {
            let known = || {
                host.enter(move || {
                    let any = if addr(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(any).expect("a socket");
                    let _ = socket.send_to(b"?", (to, 9));
                });
                let neighbours = host.json("neigh show dev eth0");
                neighbours.iter().any(|entry| entry["dst"] == to && entry["lladdr"].is_string())
            };
            until("a neighbour", known);
        }
        let mut fds = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        assert_eq!(ppoll(&mut fds, Some(TimeSpec::new(0, 0)), None), Ok(0));
    }
}

#[test]
fn the_watched_addresses_can_change_and_what_is_known_stays() {
    let hosts = Hosts::new();
    carry(hosts.conflicting(), "eth0");
    let mut watch = hosts.watch();
    announce(hosts.conflicting(), CVIP4);
    drive(&mut watch, "the conflicting host", |watch| conflict(watch, CVIP4).is_some());
    let mut watch = hosts.director().enter(move || {
        watch.watch([CVIP4, LAST4, LAST6].map(addr)).expect("other addresses");
        watch
    });
    assert!(conflict(&watch, CVIP4).is_some());
    assert_eq!(watch.state(addr(CVIP6)), None);
    announce(hosts.conflicting(), CVIP6);
    hear_all(&hosts, &mut watch);
    assert_eq!(watch.state(addr(CVIP6)), None);
}

#[test]
fn an_interface_that_is_down_says_so_and_hears_again_when_it_is_up() {
    let hosts = Hosts::new();
    carry(hosts.conflicting(), "eth0");
    let mut watch = hosts.watch();
    hosts.director().ip("link set eth0 down");
    watch.doubt(addr(CVIP4), Instant::now());
    let error = watch.step(Instant::now());
    assert_eq!(error, Err(net::NetError::Down("eth0".into())));
    hosts.director().ip("link set eth0 up");
    let deadline = Instant::now() + PATIENCE;
    while conflict(&watch, CVIP4).is_none() {
        // Until the bridge forwards again, announcements and questions are lost.
        announce(hosts.conflicting(), CVIP4);
        let _ = watch.step(Instant::now());
        let mut fds = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        ppoll(&mut fds, Some(TimeSpec::new(0, 20_000_000)), None).expect("poll");
        assert!(Instant::now() < deadline, "{watch:?}");
    }
}
