//! The client against a real IPVS: what is put into the table comes back as it was put, and
//! what the kernel refuses is told as it was refused.
//!
//! Every test has a network namespace of its own, and so a table of its own.

use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cvip::ipvs::*;
use cvip::protocol::Protocol;
use cvip_lab::{OwnNetwork, enter_new_network, ip, require, until_some};
use nix::libc::{EEXIST, EINVAL, ENODEV, ENOENT, ERANGE, ESRCH};

/// An empty table: that of a new network namespace, into which the calling thread goes.
fn table() -> Client {
    require();
    enter_new_network().unwrap();
    Client::open().expect("IPVS")
}

fn on(protocol: Protocol, addr: &str, port: u16) -> ServiceId {
    ServiceId::Address { protocol, addr: addr.parse().unwrap(), port }
}

fn web() -> ServiceId {
    on(Protocol::Tcp, "192.0.2.1", 80)
}

fn server(last: u8) -> Destination {
    Destination::new([192, 0, 2, last].into(), 80, Forwarding::Route, 1)
}

/// Applies changes of which none may fail.
fn must(table: &mut Client, changes: &[Change]) {
    let failures = table.apply(changes).unwrap();
    assert!(failures.is_empty(), "{}: {:?}", failures[0], changes[failures[0].index]);
}

/// Applies one change, and gives the errno with which it was refused.
fn errno(table: &mut Client, change: Change) -> i32 {
    let failures = table.apply(&[change]).unwrap();
    assert_eq!(failures.len(), 1, "the kernel refused nothing");
    failures[0].errno
}

fn services(table: &mut Client) -> Vec<Service> {
    let mut services: Vec<_> =
        table.services().unwrap().into_iter().map(|entry| entry.service).collect();
    services.sort_by_key(|service| service.id);
    services
}

fn destinations(table: &mut Client, id: &ServiceId) -> Vec<Destination> {
    let mut destinations: Vec<_> =
        table.destinations(id).unwrap().into_iter().map(|entry| entry.destination).collect();
    destinations.sort_by_key(|destination| destination.id);
    destinations
}

/// What also runs on a distribution's kernel.
mod on_stock {
    use super::*;

    #[test]
    fn services_of_every_kind_come_back_as_they_were_given() {
        let mut table = table();
        let mut given = vec![];
        for protocol in Protocol::ALL {
            for addr in ["192.0.2.1", "2001:db8::1"] {
                given.push(Service::new(on(protocol, addr, 80), "wlc"));
            }
        }
        for family in [Family::V4, Family::V6] {
            for mark in [1, u32::MAX] {
                given.push(Service::new(ServiceId::Mark { mark, family }, "rr"));
            }
        }
        // Persistent, for whole networks: an odd mask, a prefix, every port, an engine.
        given.push(Service {
            netmask: 0xff00_ff00,
            ..Service::new(on(Protocol::Tcp, "192.0.2.2", 0), "wrr").persistent(300)
        });
        given.push(Service {
            netmask: 56,
            ..Service::new(on(Protocol::Tcp, "2001:db8::2", 443), "lc").persistent(2_678_400)
        });
        given.push(Service {
            pe: Some("sip".into()),
            ..Service::new(on(Protocol::Udp, "192.0.2.2", 5060), "rr").persistent(60)
        });
        given.push(Service {
            flags: service_flags::ONE_PACKET,
            ..Service::new(on(Protocol::Udp, "192.0.2.2", 53), "rr")
        });
        given.push(Service {
            flags: service_flags::SCHED1 | service_flags::SCHED2,
            ..Service::new(on(Protocol::Tcp, "192.0.2.2", 8080), "sh")
        });
        given.push(Service {
            flags: service_flags::SCHED2 | service_flags::SCHED3,
            ..Service::new(on(Protocol::Sctp, "192.0.2.2", 8080), "mh")
        });
        given.sort_by_key(|service| service.id);

        let changes: Vec<_> = given.iter().cloned().map(Change::AddService).collect();
        must(&mut table, &changes);
        assert_eq!(services(&mut table), given);
        for service in &given {
            let entry = table.service(&service.id).unwrap().unwrap();
            assert_eq!((entry.service, entry.stats), (service.clone(), Stats::default()));
        }
    }

    #[test]
    fn destinations_of_every_kind_come_back_as_they_were_given() {
        let mut table = table();
        let v6: IpAddr = "2001:db8::11".parse().unwrap();
        let tunnel = |kind, port, flags| Destination {
            forward: Forwarding::Tunnel,
            tunnel: Tunnel { kind, port, flags },
            ..server(0)
        };
        let numbered = |last: u8, destination: Destination| Destination {
            id: DestinationId { addr: [192, 0, 2, last].into(), port: 80 },
            ..destination
        };
        let mut given = vec![
            Destination::new([192, 0, 2, 10].into(), 8080, Forwarding::Masquerade, i32::MAX as u32),
            numbered(11, server(0)),
            numbered(12, tunnel(TunnelKind::Ipip, 0, 0)),
            numbered(13, tunnel(TunnelKind::Gue, 5555, 0)),
            numbered(14, tunnel(TunnelKind::Gue, 5555, 1)),
            numbered(15, tunnel(TunnelKind::Gue, 6666, 2)),
            numbered(16, tunnel(TunnelKind::Gre, 0, 0)),
            numbered(17, tunnel(TunnelKind::Gre, 0, 1)),
            numbered(18, Destination { weight: 0, upper: 100, lower: 80, ..server(0) }),
            // Of the other family, which tunnels alone can reach.
            Destination {
                id: DestinationId { addr: v6, port: 80 },
                ..tunnel(TunnelKind::Ipip, 0, 0)
            },
        ];
        given.sort_by_key(|destination| destination.id);
        let id = web();
        let mut changes = vec![Change::AddService(Service::new(id, "rr"))];
        changes.extend(given.iter().map(|&destination| Change::AddDestination(id, destination)));
        must(&mut table, &changes);
        assert_eq!(destinations(&mut table, &id), given);

        // An edit leaves nothing of what was there before.
        for destination in &mut given {
            *destination = Destination {
                id: destination.id,
                forward: if destination.id.addr == v6 {
                    Forwarding::Tunnel
                } else {
                    Forwarding::Route
                },
                weight: 7,
                ..server(0)
            };
        }
        let edits: Vec<_> = given.iter().map(|&d| Change::EditDestination(id, d)).collect();
        must(&mut table, &edits);
        assert_eq!(destinations(&mut table, &id), given);

        // A service of the other family, and of a mark.
        for id in
            [on(Protocol::Sctp, "2001:db8::1", 80), ServiceId::Mark { mark: 7, family: Family::V6 }]
        {
            let destination = Destination::new(v6, 80, Forwarding::Route, 3);
            must(
                &mut table,
                &[
                    Change::AddService(Service::new(id, "rr")),
                    Change::AddDestination(id, destination),
                ],
            );
            assert_eq!(destinations(&mut table, &id), [destination]);
        }
    }
}

#[test]
fn an_edit_replaces_every_setting_of_a_service() {
    let mut table = table();
    let first = Service {
        netmask: 0xffff_ff00,
        pe: Some("sip".into()),
        flags: service_flags::SCHED1,
        ..Service::new(on(Protocol::Udp, "192.0.2.1", 5060), "sh")
    }
    .persistent(300);
    let second = Service::new(first.id, "wlc");
    must(&mut table, &[Change::AddService(first.clone())]);
    assert_eq!(services(&mut table), [first]);
    must(&mut table, &[Change::EditService(second.clone())]);
    assert_eq!(services(&mut table), [second]);
}

#[test]
fn what_is_deleted_is_gone_and_a_flush_leaves_nothing() {
    let mut table = table();
    let other = on(Protocol::Udp, "192.0.2.1", 53);
    must(
        &mut table,
        &[
            Change::AddService(Service::new(web(), "rr")),
            Change::AddDestination(web(), server(11)),
            Change::AddDestination(web(), server(12)),
            Change::AddService(Service::new(other, "rr")),
            Change::AddDestination(other, server(11)),
            Change::DeleteDestination(web(), server(11).id),
        ],
    );
    assert_eq!(destinations(&mut table, &web()), [server(12)]);
    must(&mut table, &[Change::DeleteService(web())]);
    assert_eq!(table.service(&web()).unwrap(), None);
    assert_eq!(destinations(&mut table, &web()), []);
    assert_eq!(destinations(&mut table, &other), [server(11)]);
    must(&mut table, &[Change::Flush]);
    assert_eq!(services(&mut table), []);
}

#[test]
fn traffic_is_counted_and_the_counters_can_be_zeroed() {
    let mut table = table();
    ip("addr add 192.0.2.1/32 dev lo").unwrap();
    let id = on(Protocol::Udp, "192.0.2.1", 5000);
    let receiver = UdpSocket::bind("127.0.0.1:5000").unwrap();
    let destination = Destination::new([127, 0, 0, 1].into(), 5000, Forwarding::Masquerade, 1);
    must(
        &mut table,
        &[Change::AddService(Service::new(id, "rr")), Change::AddDestination(id, destination)],
    );
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"hello", "192.0.2.1:5000").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    receiver.recv(&mut [0; 16]).expect("the datagram");
    let entry = table.destinations(&id).unwrap()[0];
    assert_eq!((entry.active, entry.inactive, entry.persistent), (0, 1, 0));

    // The kernel adds its counters up every two seconds.
    let counted = until_some("something is counted", || {
        let stats = table.service(&id).unwrap().unwrap().stats;
        (stats.connections > 0).then_some(stats)
    });
    assert_eq!((counted.connections, counted.in_packets, counted.in_bytes), (1, 1, 33));
    assert_eq!(table.destinations(&id).unwrap()[0].stats.in_bytes, 33);

    must(&mut table, &[Change::Zero(Some(id))]);
    assert_eq!(table.service(&id).unwrap().unwrap().stats.connections, 0);
    must(&mut table, &[Change::Zero(None)]);
}

#[test]
fn a_timeout_of_zero_keeps_the_present_value() {
    let mut table = table();
    must(&mut table, &[Change::SetTimeouts(Timeouts { tcp: 1000, tcp_fin: 100, udp: 10 })]);
    must(&mut table, &[Change::SetTimeouts(Timeouts { tcp: 0, tcp_fin: 99, udp: 0 })]);
    assert_eq!(table.timeouts().unwrap(), Timeouts { tcp: 1000, tcp_fin: 99, udp: 10 });
}

#[test]
fn sync_daemons_come_back_as_they_were_started_until_they_are_stopped() {
    let mut table = table();
    assert_eq!(table.daemons().unwrap(), []);
    let master = SyncDaemon {
        role: DaemonRole::Master,
        interface: "lo".into(),
        sync_id: 5,
        max_len: Some(1300),
        group: Some([224, 0, 0, 99].into()),
        port: Some(8850),
        ttl: Some(4),
    };
    let backup = SyncDaemon { role: DaemonRole::Backup, sync_id: 6, ..master.clone() };
    must(&mut table, &[Change::StartDaemon(master.clone()), Change::StartDaemon(backup.clone())]);
    assert_eq!(table.daemons().unwrap(), [master.clone(), backup.clone()]);
    assert_eq!(errno(&mut table, Change::StartDaemon(backup.clone())), EEXIST);
    must(&mut table, &[Change::StopDaemon(DaemonRole::Master, 5)]);
    assert_eq!(table.daemons().unwrap(), [backup]);
    assert_eq!(errno(&mut table, Change::StopDaemon(DaemonRole::Master, 5)), ESRCH);
    let nowhere = SyncDaemon { interface: "nowhere0".into(), ..master };
    assert_eq!(errno(&mut table, Change::StartDaemon(nowhere)), ENODEV);
    must(&mut table, &[Change::StopDaemon(DaemonRole::Backup, 6)]);
}

#[test]
fn a_daemons_open_settings_are_the_kernels_to_choose() {
    let mut table = table();
    let daemon = SyncDaemon {
        role: DaemonRole::Backup,
        interface: "lo".into(),
        sync_id: 0,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    };
    must(&mut table, &[Change::StartDaemon(daemon)]);
    let running = table.daemons().unwrap().remove(0);
    assert_eq!(running.group, Some([224, 0, 0, 81].into()));
    assert_eq!((running.port, running.ttl), (Some(8848), Some(1)));
    assert!(running.max_len.is_some());
    must(&mut table, &[Change::StopDaemon(DaemonRole::Backup, 0)]);
}

/// The kernel ends that with `EINTR`, and netlink answers `EINTR` with nothing at all.
#[test]
fn a_daemon_that_is_stopped_before_it_ran_keeps_nobody_waiting() {
    let mut table = table();
    let daemon = SyncDaemon {
        role: DaemonRole::Backup,
        interface: "lo".into(),
        sync_id: 0,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    };
    for _ in 0..10 {
        must(&mut table, &[Change::StartDaemon(daemon.clone())]);
        must(&mut table, &[Change::StopDaemon(DaemonRole::Backup, 0)]);
        assert_eq!(table.daemons().unwrap(), []);
    }
}

#[test]
fn what_does_not_exist_or_cannot_be_is_refused_with_the_kernels_errno() {
    let mut table = table();
    let service = || Service::new(web(), "rr");
    let refused = |table: &mut Client, change, expected| assert_eq!(errno(table, change), expected);
    let table = &mut table;
    refused(table, Change::AddService(Service::new(web(), "no-such")), ENOENT);
    let pe = Service { pe: Some("no-such".into()), ..service().persistent(60) };
    refused(table, Change::AddService(pe), ENOENT);
    refused(table, Change::EditService(service()), ESRCH);
    refused(table, Change::DeleteService(web()), ESRCH);
    refused(table, Change::Zero(Some(web())), ESRCH);
    refused(table, Change::AddDestination(web(), server(11)), ESRCH);
    assert_eq!(table.service(&web()).unwrap(), None);
    assert_eq!(table.destinations(&web()).unwrap(), []);

    must(table, &[Change::AddService(service()), Change::AddDestination(web(), server(11))]);
    refused(table, Change::AddService(service()), EEXIST);
    refused(table, Change::AddDestination(web(), server(11)), EEXIST);
    refused(table, Change::EditDestination(web(), server(12)), ENOENT);
    refused(table, Change::DeleteDestination(web(), server(12).id), ENOENT);
    let upside_down = Destination { upper: 1, lower: 2, ..server(12) };
    refused(table, Change::AddDestination(web(), upside_down), ERANGE);
    let multicast = Destination::new([224, 0, 0, 1].into(), 80, Forwarding::Route, 1);
    refused(table, Change::AddDestination(web(), multicast), EINVAL);

    // A name that is too long is the kernel's to refuse, however long it is.
    for length in [16, 200, 100_000] {
        let long = Service::new(on(Protocol::Udp, "192.0.2.1", 53), &"x".repeat(length));
        let errno = errno(table, Change::AddService(long));
        assert!([EINVAL, ERANGE].contains(&errno), "{errno}");
    }
}

#[test]
fn failures_in_the_middle_of_a_thousand_changes_are_attributed_and_stop_nothing() {
    let mut table = table();
    let id = |port| on(Protocol::Tcp, "192.0.2.1", port);
    let mut changes: Vec<_> =
        (1..=1000).map(|port| Change::AddService(Service::new(id(port), "rr"))).collect();
    changes[300] = changes[299].clone();
    changes[301] = Change::DeleteService(id(5000));
    changes[302] = Change::DeleteDestination(id(1), server(11).id);
    changes[999] = Change::AddService(Service::new(id(1000), "no-such"));
    let failures = table.apply(&changes).unwrap();
    let told: Vec<_> = failures.iter().map(|f| (f.index, f.operation, f.errno)).collect();
    assert_eq!(
        told,
        [
            (300, Operation::AddService, EEXIST),
            (301, Operation::DeleteService, ESRCH),
            (302, Operation::DeleteDestination, ENOENT),
            (999, Operation::AddService, ENOENT),
        ]
    );
    assert_eq!(services(&mut table).len(), 996);

    // Every one of them again: all that is there fails, and all of it is told.
    let failures = table.apply(&changes).unwrap();
    let expected: Vec<_> = (0..1000).collect();
    assert_eq!(failures.iter().map(|f| f.index).collect::<Vec<_>>(), expected);
}

#[test]
fn a_table_of_two_thousand_services_is_dumped_whole() {
    let mut table = table();
    let ids: Vec<_> = (1..=2000).map(|port| on(Protocol::Tcp, "192.0.2.1", port)).collect();
    let mut changes = vec![];
    for &id in &ids {
        changes.push(Change::AddService(Service::new(id, "rr")));
        changes.extend([11, 12].map(|last| Change::AddDestination(id, server(last))));
    }
    must(&mut table, &changes);
    let shown: HashSet<_> =
        table.services().unwrap().iter().map(|entry| entry.service.id).collect();
    assert_eq!(shown, ids.iter().copied().collect());
    for entries in table.destinations_of(&ids).unwrap() {
        let ids: HashSet<_> = entries.iter().map(|entry| entry.destination.id).collect();
        assert_eq!(ids, HashSet::from([server(11).id, server(12).id]));
    }

    // Many destinations in one service need more than one datagram, too.
    let id = ids[0];
    let changes: Vec<_> = (0..1000)
        .map(|n: u16| {
            Destination::new([198, 51, 100, 1].into(), 1000 + n, Forwarding::Masquerade, 1)
        })
        .map(|destination| Change::AddDestination(id, destination))
        .collect();
    must(&mut table, &changes);
    assert_eq!(table.destinations(&id).unwrap().len(), 1002);
}

#[test]
fn a_table_that_changes_while_it_is_dumped_shows_no_service_twice() {
    let mut table = table();
    let stable: Vec<_> = (1..=400).map(|port| on(Protocol::Tcp, "192.0.2.1", port)).collect();
    let coming: Vec<_> = (1..=400).map(|port| on(Protocol::Udp, "192.0.2.1", port)).collect();
    let additions: Vec<_> =
        stable.iter().map(|&id| Change::AddService(Service::new(id, "rr"))).collect();
    must(&mut table, &additions);
    let known: HashSet<_> = stable.iter().chain(&coming).copied().collect();

    let mut churner = Client::open().unwrap(); // of the same namespace: this thread's
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let add: Vec<_> =
                coming.iter().map(|&id| Change::AddService(Service::new(id, "rr"))).collect();
            let delete: Vec<_> = coming.iter().map(|&id| Change::DeleteService(id)).collect();
            while !enough.load(Ordering::Relaxed) {
                must(&mut churner, &add);
                must(&mut churner, &delete);
            }
        });
        let dumps: Vec<_> = (0..100).map(|_| table.services()).collect();
        enough.store(true, Ordering::Relaxed);
        churn.join().unwrap();
        for shown in dumps {
            let shown = shown.unwrap();
            let ids: HashSet<_> = shown.iter().map(|entry| entry.service.id).collect();
            assert_eq!(ids.len(), shown.len(), "a service came twice");
            assert!(ids.is_subset(&known), "a service came from nowhere");
        }
    });
    // At rest, it is whole again.
    let shown: Vec<_> = services(&mut table).into_iter().map(|service| service.id).collect();
    assert_eq!(shown, stable);
}

#[test]
fn a_client_stays_in_the_namespace_in_which_it_was_opened() {
    let mut outside = table();
    let here = OwnNetwork::here().unwrap();
    let mut inside = table();
    must(&mut inside, &[Change::AddService(Service::new(web(), "rr"))]);
    assert_eq!(services(&mut outside), []);

    // Another thread, which never entered it, talks to it all the same.
    let mut inside = std::thread::spawn(move || {
        assert_eq!(services(&mut inside).len(), 1);
        inside
    })
    .join()
    .unwrap();
    here.enter().unwrap();
    assert_eq!(services(&mut inside).len(), 1);
    assert_eq!(services(&mut Client::open().unwrap()), []);
}

#[test]
fn the_version_is_1_2_1_and_the_connection_table_has_a_size() {
    let info = table().info().unwrap();
    assert_eq!(info.version, (1, 2, 1));
    assert!(info.connection_table_size.is_power_of_two());
}

#[test]
fn an_unprivileged_user_is_told_what_is_needed() {
    require();
    const CHILD: &str = "CVIP_TEST_UNPRIVILEGED";
    if std::env::var_os(CHILD).is_some() {
        assert!(matches!(Client::open(), Err(IpvsError::Permission)));
        return;
    }
    // The same test once more, as nobody.
    let child = Command::new("/proc/self/exe")
        .args(["--exact", "an_unprivileged_user_is_told_what_is_needed"])
        .env(CHILD, "1")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}
