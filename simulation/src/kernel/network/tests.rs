use cvip::net::{
    DesiredAddress, DesiredSettings, DesiredSysctl, Device, Difference, NeededOn, NetworkSettings,
    SettingsReport,
};

use super::*;

const CVIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const ARP_IGNORE: &str = "net/ipv4/conf/all/arp_ignore";
const ARP_ANNOUNCE: &str = "net/ipv4/conf/all/arp_announce";

fn machine() -> Network {
    Network::new(&[("eth0", [10, 0, 0, 1].into(), 24)])
}

fn seconds(seconds: u64) -> SimTime {
    SimTime(seconds * SECOND)
}

fn sysctl(path: &str, value: &'static str) -> DesiredSysctl {
    let (path, or, why) = (path.to_owned(), &[][..], "without it, this test fails");
    DesiredSysctl { path, value, or, why, needed_on: NeededOn::RealServers }
}

fn on(device: &str, valid_lft: Option<u32>, only_with: Option<&'static str>) -> DesiredSettings {
    let device = Device::Name(device.to_owned());
    let addresses = vec![DesiredAddress { addr: CVIP, device, valid_lft, only_with }];
    DesiredSettings { addresses, ..DesiredSettings::default() }
}

/// What a real server of direct routing has.
fn hidden() -> DesiredSettings {
    let sysctls = vec![sysctl(ARP_IGNORE, "1"), sysctl(ARP_ANNOUNCE, "2")];
    DesiredSettings { sysctls, ..on(LOOPBACK, None, Some(ARP_IGNORE)) }
}

/// What a director of several has.
fn carried() -> DesiredSettings {
    on("eth0", Some(10), None)
}

/// A cvipd that has just started applies these settings.
fn apply(network: &mut Network, desired: &DesiredSettings, now: SimTime) -> SettingsReport {
    let mut host = network.at(now);
    NetworkSettings::open(&host).unwrap().apply(&mut host, desired)
}

fn renew(network: &mut Network, now: SimTime) -> Result<(), Vec<NetError>> {
    let mut host = network.at(now);
    NetworkSettings::open(&host).unwrap().renew(&mut host)
}

#[test]
fn a_real_server_takes_packets_to_the_cvip_on_lo_and_answers_no_neighbour() {
    let mut network = machine();
    let report = apply(&mut network, &hidden(), seconds(1));
    assert_eq!((report.failures, report.done.len()), (vec![], 3));
    let now = seconds(1);
    assert!(network.receives(CVIP, now));
    assert!(!network.answers_for(CVIP, "eth0", now));
    assert!(!network.names_in_requests(CVIP, "eth0", now));
    network.write_by_hand(ARP_IGNORE, "0");
    assert!(network.answers_for(CVIP, "eth0", now));
    network.write_by_hand(ARP_ANNOUNCE, "0");
    assert!(network.names_in_requests(CVIP, "eth0", now));
}

#[test]
fn a_director_answers_until_the_lifetime_ends_unless_cvipd_renews_it() {
    let mut network = machine();
    assert_eq!(apply(&mut network, &carried(), seconds(1)).reachable.len(), 1);
    assert_eq!(network.due(), seconds(11));
    assert_eq!(renew(&mut network, seconds(5)), Ok(()));
    assert_eq!(network.due(), seconds(15));
    network.tick(SimTime(seconds(15).0 - 1));
    assert!(network.answers_for(CVIP, "eth0", seconds(14)));
    network.tick(seconds(15));
    assert!(!network.answers_for(CVIP, "eth0", seconds(15)));
    assert_eq!(renew(&mut network, seconds(15)).unwrap_err().len(), 1, "it is gone");
}

#[test]
fn a_change_of_role_moves_the_address_and_what_was_made_is_undone_by_a_cvipd_that_started_anew() {
    let mut network = machine();
    apply(&mut network, &carried(), seconds(1));
    apply(&mut network, &hidden(), seconds(2));
    let of_cvip = |network: &Network| {
        let all = network.addresses().filter(|(_, addr, _)| *addr == CVIP);
        all.map(|(device, ..)| device.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of_cvip(&network), [LOOPBACK]);
    apply(&mut network, &DesiredSettings::default(), seconds(3));
    assert!(of_cvip(&network).is_empty());
    assert_eq!(network.sysctl(ARP_IGNORE), Some("0"));
    assert!(network.at(seconds(3)).has_no_record());
}

#[test]
fn a_subscriber_is_notified_of_changes_since_it_last_asked() {
    let mut network = machine();
    let watch = network.subscribe();
    network.add_by_hand("eth0", CVIP, 24, seconds(1));
    network.set_carrier("eth0", false, seconds(2));
    assert_eq!(network.notified(watch), Some(seconds(1)));
    assert!(network.take_notification(watch));
    assert!(!network.take_notification(watch));
    network.set_carrier("eth0", false, seconds(3));
    network.write_by_hand(ARP_IGNORE, "1");
    assert_eq!(network.notified(watch), None, "the kernel does not notify of sysctls");
}

#[test]
fn what_is_armed_is_refused_for_a_time() {
    let mut network = machine();
    network.refuse(NetworkRequest::Put, Errno::ENOMEM, seconds(5));
    network.refuse(NetworkRequest::Sysctl, Errno::EROFS, seconds(5));
    let report = apply(&mut network, &hidden(), seconds(4));
    assert_eq!((report.done, report.failures.len()), (vec![], 3), "not without arp_ignore");
    assert_eq!(apply(&mut network, &hidden(), seconds(5)).done.len(), 3);
    network.refuse(NetworkRequest::Read, Errno::ENOBUFS, seconds(7));
    assert!(network.at(seconds(6)).read().is_err());
    network.damage_record();
    assert!(NetworkSettings::open(&network.at(seconds(7))).is_err());
}

#[test]
fn an_interface_that_is_down_takes_no_packet_and_settling_waits_for_it() {
    let mut network = machine();
    network.set_up("eth0", false, seconds(1));
    let (mut settings, mut host) = (NetworkSettings::default(), network.at(seconds(2)));
    settings.apply(&mut host, &carried());
    assert_eq!(host.now, seconds(2) + Duration::from_millis(500));
    assert!(!network.receives(CVIP, seconds(3)));
    network.set_up("eth0", true, seconds(4));
    assert!(network.answers_for(CVIP, "eth0", seconds(4)));
}

#[test]
fn a_local_route_that_somebody_deleted_is_made_again() {
    let mut network = machine();
    apply(&mut network, &carried(), seconds(1));
    assert!(network.remove_local_route(CVIP, seconds(2)));
    assert!(!network.answers_for(CVIP, "eth0", seconds(2)));
    let mut host = network.at(seconds(2));
    let found = NetworkSettings::open(&host).unwrap().check(&mut host, &carried()).unwrap();
    assert_eq!(found, [Difference::Unreached { addr: CVIP, device: "eth0".into() }]);
    apply(&mut network, &carried(), seconds(2));
    assert!(network.answers_for(CVIP, "eth0", seconds(2)));
}

#[test]
fn an_ipv6_address_is_answered_for_on_its_own_interface_alone_and_goes_when_that_goes_down() {
    let mut network = machine();
    let addr: IpAddr = "fd00::64".parse().unwrap();
    network.add_by_hand(LOOPBACK, addr, 128, seconds(1));
    assert!(network.receives(addr, seconds(2)) && !network.answers_for(addr, "eth0", seconds(2)));
    network.add_by_hand("eth0", addr, 64, seconds(2));
    assert!(network.answers_for(addr, "eth0", seconds(3)));
    network.set_up("eth0", false, seconds(4));
    network.set_up("eth0", true, seconds(5));
    assert!(!network.answers_for(addr, "eth0", seconds(6)));
    assert!(network.remove_by_hand(LOOPBACK, addr, seconds(7)));
    assert!(!network.receives(addr, seconds(8)));
}

#[test]
fn an_interface_that_is_brought_up_with_its_cable_out_has_no_carrier() {
    let mut network = machine();
    network.set_carrier("eth0", false, seconds(1));
    network.set_up("eth0", false, seconds(2));
    network.set_up("eth0", true, seconds(3));
    let has_carrier = |network: &Network| network.link("eth0").unwrap().has_carrier;
    assert!(!has_carrier(&network));
    network.set_carrier("eth0", true, seconds(4));
    assert!(has_carrier(&network));
}
