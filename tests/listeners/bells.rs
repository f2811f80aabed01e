//! What rings, and what must not.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use cvip::listeners::{Bell, Bells, Dumper, Ranges};
use cvip::protocol::Protocol;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{Shutdown, SockType, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeSpec;

use crate::support::*;

/// Bells for TCP and UDP ports 8000 to 8009 and what rang until now taken out.
fn bells() -> Bells {
    let mut bells = Bells::open().unwrap_or_else(|why| panic!("no bells here: {why}"));
    let ranges = [(Protocol::Tcp, 8000, 8009), (Protocol::Udp, 8000, 8009)];
    bells.watch(&ranges.into_iter().collect());
    let hears = bells.hears();
    assert!(hears.tcp && hears.udp, "{}", bells.describe());
    bells
}

const TCP_ARRIVAL: Bell = Bell::Arrival(Protocol::Tcp);
const UDP_ARRIVAL: Bell = Bell::Arrival(Protocol::Udp);

#[test]
fn a_tcp_listen_rings_once_and_neither_its_bind_nor_a_second_listen_does() {
    in_own_network(|| {
        let mut bells = bells();
        for v6 in [false, true] {
            let socket = raw(v6, SockType::Stream);
            bind_to(&socket, if v6 { "[::1]:8000" } else { "127.0.0.1:8000" });
            assert_eq!(bells.drain(), []);
            listen_with(&socket, 5).unwrap();
            assert_eq!(bells.drain(), [TCP_ARRIVAL]);
            listen_with(&socket, 50).unwrap();
            assert_eq!(bells.drain(), []);
        }
    });
}

#[test]
fn a_failed_listen_does_not_ring() {
    in_own_network(|| {
        let mut bells = bells();
        let bound = || {
            let socket = raw(false, SockType::Stream);
            setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
            bind_to(&socket, "0.0.0.0:8000");
            socket
        };
        let (first, second) = (bound(), bound());
        listen_with(&first, 5).unwrap();
        assert_eq!(bells.drain(), [TCP_ARRIVAL]);
        assert_eq!(listen_with(&second, 5), Err(Errno::EADDRINUSE));
        assert_eq!(bells.drain(), []);
    });
}

#[test]
fn an_auto_bound_listen_rings_with_its_real_port() {
    in_own_network(|| {
        let mut bells = bells();
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").unwrap();
        bells.watch(&tcp(40000, 40009));
        let socket = raw(false, SockType::Stream);
        listen_with(&socket, 5).unwrap();
        assert_eq!(bells.drain(), [TCP_ARRIVAL]);
        bells.watch(&tcp(1, 39999));
        let other = raw(false, SockType::Stream);
        listen_with(&other, 5).unwrap();
        assert_eq!(bells.drain(), [], "a port that does not matter");
    });
}

#[test]
fn accepted_connections_do_not_ring() {
    in_own_network(|| {
        let mut bells = bells();
        let listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        assert_eq!(bells.drain(), [TCP_ARRIVAL]);
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        bells.remember(seen.iter().map(|l| l.cookie));
        for _ in 0..10 {
            let client = TcpStream::connect("127.0.0.1:8000").unwrap();
            drop(listener.accept().unwrap());
            drop(client);
        }
        assert_eq!(bells.drain(), []);
    });
}

#[test]
fn udp_which_has_no_tcp_state_rings_when_it_is_bound() {
    in_own_network(|| {
        let mut bells = bells();
        let _four = UdpSocket::bind("0.0.0.0:8000").unwrap();
        assert_eq!(bells.drain(), [UDP_ARRIVAL]);
        let _six = UdpSocket::bind("[::]:8001").unwrap();
        assert_eq!(bells.drain(), [UDP_ARRIVAL]);
        let _other = UdpSocket::bind("0.0.0.0:8010").unwrap();
        assert_eq!(bells.drain(), [], "a port that does not matter");
        bells.watch(&tcp(1, 65535));
        let _unflagged = UdpSocket::bind("0.0.0.0:8002").unwrap();
        assert_eq!(bells.drain(), [], "the port map is one for each protocol");
    });
}

#[test]
fn only_the_last_close_of_a_remembered_socket_rings_and_with_its_cookie() {
    in_own_network(|| {
        let mut bells = bells();
        let ranges = [(Protocol::Tcp, 8000, 8009), (Protocol::Udp, 8000, 8009)];
        let ranges: Ranges = ranges.into_iter().collect();
        let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        let server = UdpSocket::bind("0.0.0.0:8001").unwrap();
        let forgotten = TcpListener::bind("0.0.0.0:8002").unwrap();
        let seen = Dumper::open().unwrap().snapshot(&ranges).unwrap();
        let cookie = |port| seen.iter().find(|l| l.port == port).unwrap().cookie;
        bells.remember([cookie(8000), cookie(8001), cookie(8002)]);
        bells.remember([cookie(8000), cookie(8001)]);
        bells.drain();
        drop(forgotten);
        drop(UdpSocket::bind("127.0.0.1:0").unwrap());
        assert_eq!(bells.drain(), []);
        let again = listener.try_clone().unwrap();
        drop(listener);
        assert_eq!(bells.drain(), [], "another descriptor is left");
        drop(again);
        assert_eq!(bells.drain(), [Bell::Departure { cookie: cookie(8000) }]);
        drop(server);
        assert_eq!(bells.drain(), [Bell::Departure { cookie: cookie(8001) }]);
    });
}

#[test]
fn an_mptcp_listener_rings_when_it_comes_and_when_it_goes() {
    in_own_network(|| {
        let mut bells = bells();
        let Some(socket) = mptcp() else { return };
        bind_to(&socket, "0.0.0.0:8000");
        assert_eq!(bells.drain(), []);
        listen_with(&socket, 5).unwrap();
        assert_eq!(bells.drain(), [TCP_ARRIVAL]);
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        assert_eq!(seen.len(), 1);
        bells.remember(seen.iter().map(|l| l.cookie));
        drop(socket);
        // The parent's cookie, which no dump shows.
        match bells.drain()[..] {
            [Bell::Departure { cookie }] => assert_ne!(cookie, seen[0].cookie),
            ref rang => panic!("{rang:?}"),
        }
    });
}

#[test]
fn a_shutdown_rings_nothing() {
    in_own_network(|| {
        let mut bells = bells();
        let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        bells.remember(seen.iter().map(|l| l.cookie));
        bells.drain();
        shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
        assert_eq!(bells.drain(), []);
    });
}

#[test]
fn every_daemon_hears_its_own_network_namespace_only() {
    in_own_network(|| {
        let mut ours = bells();
        let theirs = in_own_network(|| {
            let mut theirs = bells();
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
        let mut bells = bells();
        for _ in 0..1000 {
            drop(TcpListener::bind("127.0.0.1:8000").unwrap());
        }
        let rang = bells.drain();
        assert_eq!(rang.last(), Some(&Bell::Overflow));
        assert!(rang.len() < 1000, "{}", rang.len());
        let _listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        assert_eq!(bells.drain(), [TCP_ARRIVAL]);
    });
}

#[test]
fn an_unheard_bell_makes_the_descriptor_readable() {
    in_own_network(|| {
        let mut bells = bells();
        let readable = |bells: &Bells| {
            let mut fds = [PollFd::new(bells.as_fd(), PollFlags::POLLIN)];
            ppoll(&mut fds, Some(TimeSpec::from(Duration::ZERO)), None::<SigSet>).unwrap() == 1
        };
        assert!(!readable(&bells));
        let _listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        assert!(readable(&bells));
        bells.drain();
        assert!(!readable(&bells));
    });
}
