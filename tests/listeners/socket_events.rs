//! Which socket events come, and which must not.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use cvip::listeners::{Dumper, Ranges, SocketEvent, SocketEvents};
use cvip::protocol::Protocol;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{Shutdown, SockType, shutdown};
use nix::sys::time::TimeSpec;

use crate::support::*;

/// Socket events for TCP and UDP ports 8000 to 8009; those until now are taken out.
fn socket_events() -> SocketEvents {
    let mut socket_events =
        SocketEvents::open().unwrap_or_else(|why| panic!("no socket events here: {why}"));
    let ranges = [(Protocol::Tcp, 8000, 8009), (Protocol::Udp, 8000, 8009)];
    socket_events.watch(&ranges.into_iter().collect());
    let covered = socket_events.covered();
    assert!(covered.tcp && covered.udp, "{}", socket_events.describe());
    socket_events
}

const TCP_ARRIVAL: SocketEvent = SocketEvent::Arrival(Protocol::Tcp);
const UDP_ARRIVAL: SocketEvent = SocketEvent::Arrival(Protocol::Udp);

#[test]
fn a_tcp_listen_rings_once_and_neither_its_bind_nor_a_second_listen_does() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        for v6 in [false, true] {
            let socket = raw(v6, SockType::Stream);
            bind_to(&socket, if v6 { "[::1]:8000" } else { "127.0.0.1:8000" });
            assert_eq!(socket_events.drain(), []);
            listen_with(&socket, 5).unwrap();
            assert_eq!(socket_events.drain(), [TCP_ARRIVAL]);
            listen_with(&socket, 50).unwrap();
            assert_eq!(socket_events.drain(), []);
        }
    });
}

#[test]
fn a_failed_listen_brings_no_event() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let (first, second) = two_on_one_port();
        listen_with(&first, 5).unwrap();
        assert_eq!(socket_events.drain(), [TCP_ARRIVAL]);
        assert_eq!(listen_with(&second, 5), Err(Errno::EADDRINUSE));
        assert_eq!(socket_events.drain(), []);
    });
}

#[test]
fn an_auto_bound_listen_brings_an_event_with_its_real_port() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").unwrap();
        socket_events.watch(&tcp(40000, 40009));
        let socket = raw(false, SockType::Stream);
        listen_with(&socket, 5).unwrap();
        assert_eq!(socket_events.drain(), [TCP_ARRIVAL]);
        socket_events.watch(&tcp(1, 39999));
        let other = raw(false, SockType::Stream);
        listen_with(&other, 5).unwrap();
        assert_eq!(socket_events.drain(), [], "a port that does not matter");
    });
}

#[test]
fn accepted_connections_bring_no_event() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        assert_eq!(socket_events.drain(), [TCP_ARRIVAL]);
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        socket_events.remember(seen.iter().map(|l| l.cookie));
        for _ in 0..10 {
            let client = TcpStream::connect("127.0.0.1:8000").unwrap();
            drop(listener.accept().unwrap());
            drop(client);
        }
        assert_eq!(socket_events.drain(), []);
    });
}

#[test]
fn udp_which_has_no_tcp_state_rings_when_it_is_bound() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let _four = UdpSocket::bind("0.0.0.0:8000").unwrap();
        assert_eq!(socket_events.drain(), [UDP_ARRIVAL]);
        let _six = UdpSocket::bind("[::]:8001").unwrap();
        assert_eq!(socket_events.drain(), [UDP_ARRIVAL]);
        let _other = UdpSocket::bind("0.0.0.0:8010").unwrap();
        assert_eq!(socket_events.drain(), [], "a port that does not matter");
        socket_events.watch(&tcp(1, 65535));
        let _unflagged = UdpSocket::bind("0.0.0.0:8002").unwrap();
        assert_eq!(socket_events.drain(), [], "the port map is one for each protocol");
    });
}

#[test]
fn only_the_last_close_of_a_remembered_socket_rings_and_with_its_cookie() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let ranges = [(Protocol::Tcp, 8000, 8009), (Protocol::Udp, 8000, 8009)];
        let ranges: Ranges = ranges.into_iter().collect();
        let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        let server = UdpSocket::bind("0.0.0.0:8001").unwrap();
        let forgotten = TcpListener::bind("0.0.0.0:8002").unwrap();
        let seen = Dumper::open().unwrap().snapshot(&ranges).unwrap();
        let cookie = |port| seen.iter().find(|l| l.port == port).unwrap().cookie;
        socket_events.remember([cookie(8000), cookie(8001), cookie(8002)]);
        socket_events.remember([cookie(8000), cookie(8001)]);
        socket_events.drain();
        drop(forgotten);
        drop(UdpSocket::bind("127.0.0.1:0").unwrap());
        assert_eq!(socket_events.drain(), []);
        let again = listener.try_clone().unwrap();
        drop(listener);
        assert_eq!(socket_events.drain(), [], "another descriptor is left");
        drop(again);
        assert_eq!(socket_events.drain(), [SocketEvent::Departure { cookie: cookie(8000) }]);
        drop(server);
        assert_eq!(socket_events.drain(), [SocketEvent::Departure { cookie: cookie(8001) }]);
    });
}

#[test]
fn an_mptcp_listener_rings_when_it_comes_and_when_it_goes() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let Some(socket) = mptcp() else { return };
        bind_to(&socket, "0.0.0.0:8000");
        assert_eq!(socket_events.drain(), []);
        listen_with(&socket, 5).unwrap();
        assert_eq!(socket_events.drain(), [TCP_ARRIVAL]);
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        assert_eq!(seen.len(), 1);
        socket_events.remember(seen.iter().map(|l| l.cookie));
        drop(socket);
        // The parent's cookie, which no dump shows.
        match socket_events.drain()[..] {
            [SocketEvent::Departure { cookie }] => assert_ne!(cookie, seen[0].cookie),
            ref events => panic!("{events:?}"),
        }
    });
}

#[test]
fn a_shutdown_rings_nothing() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        socket_events.remember(seen.iter().map(|l| l.cookie));
        socket_events.drain();
        shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
        assert_eq!(socket_events.drain(), []);
    });
}

#[test]
fn every_daemon_hears_its_own_network_namespace_only() {
    in_own_network(|| {
        let mut ours = socket_events();
        let theirs = in_own_network(|| {
            let mut theirs = socket_events();
            let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
            let server = UdpSocket::bind("0.0.0.0:8000").unwrap();
            assert_eq!(theirs.drain(), [TCP_ARRIVAL, UDP_ARRIVAL]);
            assert_eq!(ours.drain(), []);
            drop((listener, server));
            theirs
        });
        let _listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        assert_eq!(ours.drain(), [TCP_ARRIVAL]);
        drop(theirs);
        let _another = TcpListener::bind("0.0.0.0:8001").unwrap();
        assert_eq!(ours.drain(), [TCP_ARRIVAL], "one set taken down leaves the other");
    });
}

#[test]
fn a_storm_overflows_into_one_word_and_is_heard_again_after_it() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        for _ in 0..1000 {
            drop(TcpListener::bind("127.0.0.1:8000").unwrap());
        }
        let events = socket_events.drain();
        assert_eq!(events.last(), Some(&SocketEvent::Overflow));
        assert!(events.len() < 1000, "{}", events.len());
        let _listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        assert_eq!(socket_events.drain(), [TCP_ARRIVAL]);
    });
}

#[test]
fn an_unheard_socket_event_makes_the_descriptor_readable() {
    in_own_network(|| {
        let mut socket_events = socket_events();
        let readable = |socket_events: &SocketEvents| {
            let mut fds = [PollFd::new(socket_events.as_fd(), PollFlags::POLLIN)];
            ppoll(&mut fds, Some(TimeSpec::from(Duration::ZERO)), None::<SigSet>).unwrap() == 1
        };
        assert!(!readable(&socket_events));
        let _listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        assert!(readable(&socket_events));
        socket_events.drain();
        assert!(!readable(&socket_events));
    });
}
