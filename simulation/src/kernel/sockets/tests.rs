use std::net::Ipv4Addr;

use super::*;

const CVIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

fn tcp(addr: IpAddr, port: u16) -> NewListener {
    NewListener { protocol: Protocol::Tcp, addr, port, uid: 1000, backlog: 1 }
}

fn any() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn ranges() -> Ranges {
    [(Protocol::Tcp, 80, 89)].into_iter().collect()
}

fn connect(sockets: &mut Sockets, port: u16, peer: u16) -> ConnectOutcome {
    let peer = SocketAddr::new([192, 0, 2, 1].into(), peer);
    sockets.connect(Protocol::Tcp, SocketAddr::new(CVIP, port), peer)
}

fn cookies(sockets: &mut Sockets, now: SimTime) -> Vec<u64> {
    let dump = sockets.dump(Protocol::Tcp, &ranges(), now).unwrap();
    dump.iter().map(|listener| listener.cookie).collect()
}

#[test]
fn a_dump_shows_the_listeners_of_the_ranges_sorted_by_what_makes_them_one() {
    let mut sockets = Sockets::default();
    let on_81 = sockets.listen(tcp(any(), 81), SimTime(0));
    let outside = sockets.listen(tcp(any(), 90), SimTime(0));
    let of_cvip = sockets.listen(tcp(CVIP, 80), SimTime(0));
    let on_80 = sockets.listen(tcp(any(), 80), SimTime(0));
    assert_eq!(cookies(&mut sockets, SimTime(0)), [on_80, on_81, of_cvip]);
    assert!(sockets.is_open(outside));
}

#[test]
fn a_closed_socket_is_told_at_once_and_leaves_the_table_a_moment_later() {
    let mut sockets = Sockets::default();
    let watch = sockets.attach();
    sockets.watch(watch, ranges());
    let cookie = sockets.listen(tcp(any(), 80), SimTime(5));
    sockets.listen(tcp(any(), 443), SimTime(6));
    assert_eq!(sockets.told(watch), Some(SimTime(5)));
    assert_eq!(sockets.take_events(watch), [SocketEvent::Arrival(Protocol::Tcp)]);
    sockets.remember(watch, [cookie]);
    sockets.close(cookie, SimTime(10));
    assert_eq!(sockets.take_events(watch), [SocketEvent::Departure { cookie }]);
    assert_eq!(cookies(&mut sockets, SimTime(11)), [cookie]);
    let gone = sockets.due();
    assert!(cookies(&mut sockets, gone).is_empty());
    assert_eq!(sockets.due(), SimTime::NEVER);
}

#[test]
fn events_can_be_lost_and_more_than_the_ring_holds_are_an_overflow() {
    let mut sockets = Sockets::default();
    let watch = sockets.attach();
    sockets.watch(watch, ranges());
    sockets.lose_events(SimTime(10));
    sockets.listen(tcp(any(), 80), SimTime(9));
    assert_eq!(sockets.told(watch), None);
    for _ in 0..RING + 2 {
        sockets.listen(tcp(any(), 80), SimTime(10));
    }
    let events = sockets.take_events(watch);
    assert_eq!((events.len(), events.last()), (RING + 1, Some(&SocketEvent::Overflow)));
}

#[test]
fn a_hung_servers_queue_takes_one_more_than_its_backlog_and_then_nothing() {
    let mut sockets = Sockets::default();
    let listener = sockets.listen(tcp(any(), 80), SimTime(0));
    assert!(matches!(connect(&mut sockets, 80, 1), ConnectOutcome::Accepted(_)));
    sockets.set_hung(listener, true);
    assert!(matches!(connect(&mut sockets, 80, 2), ConnectOutcome::Waits(_)));
    assert!(matches!(connect(&mut sockets, 80, 3), ConnectOutcome::Waits(_)));
    assert_eq!(connect(&mut sockets, 80, 4), ConnectOutcome::Dropped);
    let dump = sockets.dump(Protocol::Tcp, &ranges(), SimTime(0)).unwrap();
    assert_eq!((dump[0].queue, dump[0].backlog), (2, 1));
    assert_eq!(sockets.unaccepted(80).len(), 2);
    let accepted = sockets.accept_one(listener).unwrap();
    assert!(sockets.connection(accepted).unwrap().accepted);
    sockets.set_hung(listener, false);
    assert_eq!(sockets.unaccepted(80), []);
    assert_eq!(sockets.connections(Protocol::Tcp, 80), 3);
}

#[test]
fn a_connection_goes_to_the_listener_of_its_address_before_that_of_all() {
    let mut sockets = Sockets::default();
    let wildcard = sockets.listen(tcp(any(), 80), SimTime(0));
    let of_cvip = sockets.listen(tcp(CVIP, 80), SimTime(0));
    let listener = |sockets: &mut Sockets, peer| match connect(sockets, 80, peer) {
        ConnectOutcome::Accepted(cookie) => sockets.connection(cookie).unwrap().listener,
        other => panic!("{other:?}"),
    };
    assert_eq!(listener(&mut sockets, 1), of_cvip);
    sockets.close(of_cvip, SimTime(1));
    assert_eq!(listener(&mut sockets, 2), wildcard);
    sockets.end(wildcard, SimTime(2));
    assert_eq!(connect(&mut sockets, 80, 3), ConnectOutcome::Refused);
    assert_eq!(sockets.connections(Protocol::Tcp, 80), 1, "the closed one's goes on");
}

#[test]
fn a_dump_may_lack_the_neighbour_of_a_socket_that_vanished_and_only_once() {
    let mut sockets = Sockets::default();
    let of = [80, 81, 82].map(|port| sockets.listen(tcp(any(), port), SimTime(0)));
    sockets.skip_neighbours(SimTime(1_000_000));
    sockets.close(of[0], SimTime(0));
    let gone = sockets.due();
    assert_eq!(cookies(&mut sockets, gone), [of[2]]);
    assert_eq!(cookies(&mut sockets, gone), [of[1], of[2]]);
    sockets.fail_dumps(SimTime(2_000_000));
    assert!(sockets.dump(Protocol::Tcp, &ranges(), SimTime(1_999_999)).is_err());
}
