use cvip::ipvs::Forwarding;

use super::*;

fn id() -> ServiceId {
    ServiceId::Address { protocol: Protocol::Tcp, addr: [10, 0, 0, 100].into(), port: 80 }
}

fn server(host: u8, weight: u32) -> Destination {
    Destination::new([10, 0, 0, host].into(), 80, Forwarding::Route, weight)
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::new([192, 0, 2, 1].into(), port)
}

fn connection(port: u16) -> ConnectionId {
    ConnectionId { service: id(), client: client(port) }
}

fn table(service: Service, servers: &[Destination]) -> IpvsTable {
    let mut table = IpvsTable::default();
    let adds = servers.iter().map(|server| Change::AddDestination(id(), *server));
    let changes: Vec<Change> = [Change::AddService(service)].into_iter().chain(adds).collect();
    assert_eq!(table.apply(&changes, SimTime(0)).unwrap(), []);
    table
}

fn wlc(servers: &[Destination]) -> IpvsTable {
    table(Service::new(id(), "wlc"), servers)
}

fn seconds(seconds: u64) -> SimTime {
    SimTime(seconds * 1_000_000)
}

fn daemon(role: DaemonRole, sync_id: u32) -> SyncDaemon {
    let (max_len, group, port, ttl) = (None, None, None, None);
    SyncDaemon { role, interface: "eth0".to_owned(), sync_id, max_len, group, port, ttl }
}

/// The hosts to which so many new connections go.
fn hosts(table: &mut IpvsTable, ports: std::ops::Range<u16>) -> Vec<u8> {
    let host = |port| match table.connect(id(), client(port), SimTime(0)) {
        Verdict::To(DestinationId { addr: IpAddr::V4(addr), .. }) => addr.octets()[3],
        other => panic!("{other:?}"),
    };
    ports.map(host).collect()
}

#[test]
fn a_change_that_does_not_fit_is_refused_with_the_kernels_errno_and_those_behind_it_are_made() {
    let mut table = wlc(&[server(1, 1)]);
    let other =
        ServiceId::Address { protocol: Protocol::Tcp, addr: [10, 0, 0, 100].into(), port: 81 };
    let changes = [
        Change::AddService(Service::new(id(), "wlc")),
        Change::EditService(Service::new(other, "wlc")),
        Change::AddService(Service::new(other, "nosuch")),
        Change::AddDestination(other, server(1, 1)),
        Change::AddDestination(id(), server(1, 1)),
        Change::EditDestination(id(), server(2, 1)),
        Change::DeleteDestination(id(), server(2, 1).id),
        Change::DeleteService(other),
        Change::StopDaemon(DaemonRole::Master, 1),
        Change::AddDestination(id(), server(3, 1)),
    ];
    let failures = table.apply(&changes, SimTime(0)).unwrap();
    let errnos: Vec<(usize, Errno)> =
        failures.iter().map(|f| (f.index, Errno::from_raw(f.errno))).collect();
    use Errno::{EEXIST, ENOENT, ESRCH};
    let expected = [EEXIST, ESRCH, ENOENT, ESRCH, EEXIST, ENOENT, ENOENT, ESRCH, ESRCH];
    assert_eq!(errnos, expected.into_iter().enumerate().collect::<Vec<_>>());
    assert!(table.destination(id(), server(3, 1).id).is_some());
}

#[test]
fn what_is_armed_refuses_cvipds_changes_for_a_time_and_not_those_by_hand() {
    let mut table = wlc(&[]);
    table.refuse(Some(Operation::AddDestination), Errno::ENOMEM, seconds(5));
    let add = [Change::AddDestination(id(), server(1, 1))];
    assert_eq!(table.apply(&add, seconds(4)).unwrap()[0].errno, Errno::ENOMEM as i32);
    assert_eq!(table.change(&add[0]), Ok(()));
    assert_eq!(table.change(&Change::Flush), Ok(()));
    assert!(table.is_flushed());
    table.lose_replies(seconds(6));
    let add = [Change::AddService(Service::new(id(), "rr"))];
    assert!(matches!(table.apply(&add, seconds(5)), Err(IpvsError::RepliesLost)));
    assert!(!table.is_flushed(), "the change was made");
    table.hide(seconds(9));
    assert!(table.reader(seconds(8)).services().is_err());
    assert!(table.prints(seconds(8)).is_err());
    assert_eq!(table.reader(seconds(9)).services().unwrap().len(), 1);
}

#[test]
fn a_fingerprint_is_that_of_what_the_reader_shows_after_each_change() {
    let mut table = wlc(&[server(1, 1)]);
    let key = service_key(id()).unwrap();
    for change in [
        Change::AddDestination(id(), server(2, 3)),
        Change::EditDestination(id(), server(2, 0)),
        Change::EditService(Service::new(id(), "rr").persistent(60)),
        Change::DeleteDestination(id(), server(1, 1).id),
    ] {
        let before = table.prints(SimTime(0)).unwrap()[&key];
        table.change(&change).unwrap();
        let print = table.prints(SimTime(0)).unwrap()[&key];
        assert_ne!(print, before, "{change:?}");
        let wanted = [key].into_iter().collect();
        let read = cvip::cores::read_some(&mut table.reader(SimTime(0)), &wanted).unwrap();
        assert_eq!(print, print_of(&read[&key]));
    }
}

#[test]
fn wlc_gives_twice_as_many_connections_to_twice_the_weight_and_none_to_weight_0() {
    let mut table = wlc(&[server(1, 2), server(2, 1), server(3, 0)]);
    let hosts = hosts(&mut table, 1..31);
    let count = |host| hosts.iter().filter(|h| **h == host).count();
    assert_eq!((count(1), count(2), count(3)), (20, 10, 0));
    let entries = table.reader(SimTime(0)).destinations(&id()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.active).collect::<Vec<_>>(), [20, 10, 0]);
}

#[test]
fn rr_takes_turns_among_those_with_a_weight() {
    let servers = [server(1, 1), server(2, 0), server(3, 5), server(4, 1)];
    let mut table = table(Service::new(id(), "rr"), &servers);
    assert_eq!(hosts(&mut table, 1..6), [1, 3, 4, 1, 3]);
}

#[test]
fn a_service_without_a_usable_destination_refuses_and_no_service_is_this_machines_own_affair() {
    let mut table = wlc(&[server(1, 0)]);
    assert_eq!(table.connect(id(), client(1), SimTime(0)), Verdict::Refused);
    table.change(&Change::Flush).unwrap();
    assert_eq!(table.connect(id(), client(1), SimTime(0)), Verdict::Local);
}

#[test]
fn a_connection_keeps_its_destination_when_that_gets_weight_0() {
    let mut table = wlc(&[server(1, 1)]);
    table.connect(id(), client(1), SimTime(0));
    table.change(&Change::EditDestination(id(), server(1, 0))).unwrap();
    assert_eq!(table.packet(connection(1), SimTime(0)), Verdict::To(server(1, 0).id));
    assert_eq!(table.connect(id(), client(2), SimTime(0)), Verdict::Refused);
}

#[test]
fn connections_end_with_their_destination_if_expire_nodest_conn_says_so_and_else_lead_nowhere() {
    let gone = Change::DeleteDestination(id(), server(1, 1).id);
    let mut table = wlc(&[server(1, 1)]);
    table.connect(id(), client(1), SimTime(0));
    table.change(&gone).unwrap();
    assert_eq!(table.packet(connection(1), SimTime(0)), Verdict::Dropped);
    table.change(&Change::AddDestination(id(), server(1, 1))).unwrap();
    assert_eq!(table.packet(connection(1), SimTime(0)), Verdict::To(server(1, 1).id));
    table.settings.expire_nodest_conn = true;
    table.change(&gone).unwrap();
    assert_eq!(table.connections().count(), 0);
    assert_eq!(table.packet(connection(1), SimTime(0)), Verdict::Local);
}

#[test]
fn a_persistent_client_goes_to_its_destination_until_that_has_weight_0() {
    let servers = [server(1, 1), server(2, 1)];
    let mut table = table(Service::new(id(), "rr").persistent(60), &servers);
    assert_eq!(hosts(&mut table, 1..4), [1, 1, 1]);
    table.change(&Change::EditDestination(id(), server(1, 0))).unwrap();
    assert_eq!(hosts(&mut table, 4..5), [1], "without expire_quiescent_template");
    table.settings.expire_quiescent_template = true;
    assert_eq!(hosts(&mut table, 5..7), [2, 2]);
    let entries = table.reader(SimTime(0)).destinations(&id()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.persistent).collect::<Vec<_>>(), [0, 1]);
    table.tick(seconds(60));
    let entries = table.reader(seconds(60)).destinations(&id()).unwrap();
    assert_eq!(entries[1].persistent, 0);
}

#[test]
fn a_closed_connection_is_inactive_until_it_expires() {
    let mut table = wlc(&[server(1, 1)]);
    table.connect(id(), client(1), SimTime(0));
    assert_eq!(table.due(), seconds(900));
    table.close(connection(1), seconds(10));
    let load = |table: &mut IpvsTable, at| {
        let entries = table.reader(at).destinations(&id()).unwrap();
        (entries[0].active, entries[0].inactive)
    };
    assert_eq!(load(&mut table, seconds(10)), (0, 1));
    assert_eq!(table.due(), seconds(130));
    table.tick(seconds(130));
    assert_eq!(load(&mut table, seconds(130)), (0, 0));
    assert_eq!(table.due(), SimTime::NEVER);
}

#[test]
fn a_backup_takes_the_connections_of_its_own_sync_id_and_forwards_once_it_receives_no_more() {
    let (mut master, mut backup) = (wlc(&[server(1, 1)]), wlc(&[server(1, 1)]));
    master.change(&Change::StartDaemon(daemon(DaemonRole::Master, 7))).unwrap();
    backup.change(&Change::StartDaemon(daemon(DaemonRole::Backup, 7))).unwrap();
    backup.settings.backup_only = true;
    master.connect(id(), client(1), SimTime(0));
    master.packet(connection(1), SimTime(0));
    let (sync_id, connections) = master.take_outgoing().unwrap();
    assert_eq!((sync_id, connections.len()), (7, 1));
    assert_eq!(master.take_outgoing(), None);
    backup.receive(8, &connections, SimTime(0));
    assert_eq!(backup.connections().count(), 0);
    backup.receive(7, &connections, SimTime(0));
    assert_eq!(backup.packet(connection(1), SimTime(0)), Verdict::Local, "it leaves it alone");
    backup.change(&Change::StopDaemon(DaemonRole::Backup, 7)).unwrap();
    assert_eq!(backup.packet(connection(1), SimTime(0)), Verdict::To(server(1, 1).id));
}
