//! What a watch makes of sockets that come and go: the same with socket events and without.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use cvip::listeners::{Listener, Ranges};
use cvip::protocol::Protocol;
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{
    Backlog, Shutdown, SockType, SockaddrStorage, getsockname, listen, setsockopt, shutdown,
    sockopt,
};

use crate::support::*;
use cvip::clock::Instant;

#[test]
fn a_listener_joins_and_leaves() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED + 9), |mut seen| {
        assert_eq!(seen.ports(), [0_u16; 0]);
        let four = TcpListener::bind("0.0.0.0:8000").unwrap();
        assert_eq!(seen.until(&[8000]), 1);
        let six = TcpListener::bind("[::]:8001").unwrap();
        assert_eq!(seen.until(&[8000, 8001]), 1);
        drop(four);
        assert_eq!(seen.until(&[8001]), 1);
        drop(six);
        assert_eq!(seen.until(&[]), 1);
    });
}

#[test]
fn a_udp_server_joins_and_leaves() {
    with_and_without_socket_events(udp(FLAGGED, FLAGGED + 9), |mut seen| {
        let four = UdpSocket::bind("0.0.0.0:8000").unwrap();
        let six = UdpSocket::bind("[::]:8001").unwrap();
        seen.until(&[8000, 8001]);
        drop(four);
        seen.until(&[8001]);
        drop(six);
        seen.until(&[]);
    });
}

#[test]
fn who_listened_before_the_watch_began_is_seen_and_leaves_like_any_other() {
    for socket_events in [true, false] {
        in_own_network(|| {
            let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
            let server = UdpSocket::bind("0.0.0.0:8001").unwrap();
            let ranges = [(Protocol::Tcp, 8000, 8001), (Protocol::Udp, 8000, 8001)];
            let mut seen = Seen::new(socket_events, ranges.into_iter().collect());
            assert_eq!(seen.ports(), [8000, 8001]);
            drop(listener);
            seen.until(&[8001]);
            drop(server);
            seen.until(&[]);
        });
    }
}

#[test]
fn a_failed_second_listen_does_not_unregister_the_port() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let (first, second) = two_on_one_port();
        listen_with(&first, 5).unwrap();
        seen.until(&[8000]);
        assert_eq!(listen_with(&second, 5), Err(Errno::EADDRINUSE));
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        drop(second);
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        drop(first);
        seen.until(&[]);
    });
}

#[test]
fn a_listen_without_bind_is_seen_with_the_port_that_it_got() {
    with_and_without_socket_events(tcp(1, 65535), |mut seen| {
        let socket = raw(false, SockType::Stream);
        listen_with(&socket, 5).unwrap();
        let got: SockaddrStorage = getsockname(socket.as_raw_fd()).unwrap();
        let port = got.as_sockaddr_in().unwrap().port();
        assert_ne!(port, 0);
        assert_eq!(seen.until(&[port]), 1);
    });
}

#[test]
fn an_accepted_connection_is_no_listener_and_its_end_changes_nothing() {
    with_and_without_socket_events(tcp(1, 65535), |mut seen| {
        let listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        seen.until(&[8000]);
        let client = TcpStream::connect("127.0.0.1:8000").unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        drop((client, server));
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
    });
}

#[test]
fn a_shut_down_listener_is_gone_though_its_descriptor_lives() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        seen.until(&[8000]);
        let then = Instant::now();
        shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
        seen.until(&[]);
        assert!(then.elapsed() < Duration::from_millis(600), "{:?}", then.elapsed());
        // It may listen again on the same descriptor, and does so with the same cookie.
        listen(&listener, Backlog::new(5).unwrap()).unwrap();
        seen.until(&[8000]);
    });
}

#[test]
fn listening_again_with_another_backlog_changes_nothing_but_the_backlog() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let socket = raw(false, SockType::Stream);
        bind_to(&socket, "0.0.0.0:8000");
        listen_with(&socket, 5).unwrap();
        seen.until(&[8000]);
        assert_eq!(seen.only().backlog, 5);
        listen_with(&socket, 50).unwrap();
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        assert_eq!(seen.only().backlog, 50);
    });
}

#[test]
fn sockets_that_share_a_port_are_one_listener_until_the_last_is_gone() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let member = |backlog| {
            let socket = raw(false, SockType::Stream);
            setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
            bind_to(&socket, "0.0.0.0:8000");
            listen_with(&socket, backlog).unwrap();
            socket
        };
        let first = member(10);
        seen.until(&[8000]);
        let second = member(20);
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        assert_eq!(seen.only().backlog, 30);
        drop(first);
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        assert_eq!(seen.only().backlog, 20);
        drop(second);
        seen.until(&[]);
    });
}

#[test]
fn a_restart_between_two_dumps_is_no_change() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let before = TcpListener::bind("0.0.0.0:8000").unwrap();
        seen.until(&[8000]);
        let cookie = seen.only().cookie;
        drop(before);
        let _after = TcpListener::bind("0.0.0.0:8000").unwrap();
        assert_eq!(seen.changes_within(TWO_POLLS), 0);
        assert_ne!(seen.only().cookie, cookie);
    });
}

#[test]
fn a_listener_that_was_there_too_shortly_for_a_dump_does_no_harm() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        for _ in 0..20 {
            drop(TcpListener::bind("0.0.0.0:8000").unwrap());
        }
        seen.changes_within(TWO_POLLS);
        assert_eq!(seen.ports(), [0_u16; 0]);
    });
}

#[test]
fn flagged_and_unflagged_ports_take_effect_at_once() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let _listeners = [8000, 8001].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap());
        seen.until(&[8000]);
        let now = Instant::now();
        seen.watch.set_ranges(now, tcp(8001, 8001));
        assert_eq!(seen.watch.poll_timeout(now), Some(Duration::ZERO));
        assert!(seen.watch.step(now).is_some());
        assert_eq!(seen.ports(), [8001]);
        seen.watch.set_ranges(now, Ranges::new());
        assert_eq!(seen.watch.step(now).map(<[Listener]>::len), Some(0));
        assert_eq!(seen.watch.poll_timeout(now), None);
    });
}

#[test]
fn a_udp_socket_that_connects_is_no_server_any_more() {
    with_and_without_socket_events(udp(FLAGGED, FLAGGED), |mut seen| {
        let socket = UdpSocket::bind("127.0.0.1:8000").unwrap();
        seen.until(&[8000]);
        socket.connect("127.0.0.1:9").unwrap();
        seen.until(&[]);
    });
}

/// Stranger's sockets: more than the map of the socket events holds.
const FLOOD: usize = 20_000;

#[test]
fn a_flood_of_sockets_of_others_puts_off_no_leave() {
    let most = FLOOD as u64 + 1000;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    for kind in [SockType::Stream, SockType::Datagram] {
        in_own_network(|| {
            let shared = |to: &str| {
                let socket = raw(false, kind);
                setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
                bind_to(&socket, to);
                if kind == SockType::Stream {
                    listen_with(&socket, 1).unwrap();
                }
                socket
            };
            let _flood: Vec<OwnedFd> = (0..FLOOD).map(|_| shared("127.0.0.1:8001")).collect();
            let server = shared("0.0.0.0:8000");
            let ranges = if kind == SockType::Stream { tcp(8000, 8001) } else { udp(8000, 8001) };
            let mut seen = Seen::new(true, ranges);
            seen.until(&[8000, 8001]);
            let eligible = seen.watch.observed().iter().find(|l| l.port == 8000).unwrap();
            seen.watch.set_eligible([eligible.identity()].into());
            // Time for the dumps to have become dear.
            seen.changes_within(Duration::from_secs(3));
            drop(server);
            let closed = Instant::now();
            seen.until(&[8001]);
            println!("{kind:?}: gone after {:?}", closed.elapsed());
        });
    }
}
