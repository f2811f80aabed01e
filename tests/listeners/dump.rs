//! What a dump says of the sockets that stand in the kernel.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use cvip::listeners::{Dumper, ListenersError, Ranges};
use cvip::protocol::Protocol;
use cvip_lab::addr;
use nix::sys::socket::{SockType, SockaddrStorage, connect, setsockopt, sockopt};

use crate::support::*;

#[test]
fn listeners_of_both_families_are_seen_with_address_owner_and_backlog() {
    in_own_network(|| {
        let mut dumper = Dumper::open().unwrap();
        let four = raw(false, SockType::Stream);
        bind_to(&four, "0.0.0.0:8000");
        listen_with(&four, 7).unwrap();
        let _six = TcpListener::bind("[::]:8001").unwrap();
        let seen = dumper.snapshot(&tcp(8000, 8010)).unwrap();
        let [four, six] = seen[..] else { panic!("{seen:?}") };
        assert_eq!((four.addr, four.port), (addr("0.0.0.0"), 8000));
        assert_eq!((four.uid, four.device, four.queue, four.backlog), (0, 0, 0, 7));
        assert_eq!((six.addr, six.port), (addr("::"), 8001));
        assert_ne!(four.cookie, six.cookie);
    });
}

#[test]
fn only_ports_in_a_range_are_seen_however_many_ranges_there_are() {
    in_own_network(|| {
        let mut dumper = Dumper::open().unwrap();
        let sockets: Vec<_> =
            (8000..8300).map(|p| TcpListener::bind(("0.0.0.0", p)).unwrap()).collect();
        let mut seen = |ranges: &Ranges| -> Vec<u16> {
            dumper.snapshot(ranges).unwrap().iter().map(|l| l.port).collect()
        };
        assert_eq!(seen(&tcp(8010, 8012)), [8010, 8011, 8012]);
        for count in [2, 63, 64, 65, 150] {
            let ranges: Ranges =
                (0..count).map(|i| (Protocol::Tcp, 8000 + 2 * i, 8000 + 2 * i)).collect();
            assert_eq!(ranges.of(Protocol::Tcp).len(), usize::from(count));
            let expected: Vec<_> = (0..count).map(|i| 8000 + 2 * i).collect();
            assert_eq!(seen(&ranges), expected, "{count} ranges");
        }
        assert_eq!(seen(&tcp(1, 65535)).len(), sockets.len());
        assert_eq!(seen(&udp(1, 65535)), [0; 0]);
    });
}

#[test]
fn a_dump_that_fills_many_buffers_is_complete() {
    in_own_network(|| {
        let sockets: Vec<_> =
            (0..2000).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let seen = Dumper::open().unwrap().snapshot(&tcp(1, 65535)).unwrap();
        let mut expected: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        expected.sort_unstable();
        assert_eq!(seen.iter().map(|l| l.port).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_dual_stack_socket_and_one_for_ipv6_alone_are_told_apart() {
    in_own_network(|| {
        let dual = raw(true, SockType::Stream);
        setsockopt(&dual, sockopt::Ipv6V6Only, &false).unwrap();
        bind_to(&dual, "[::]:8000");
        listen_with(&dual, 1).unwrap();
        let six = raw(true, SockType::Stream);
        setsockopt(&six, sockopt::Ipv6V6Only, &true).unwrap();
        bind_to(&six, "[::]:8001");
        listen_with(&six, 1).unwrap();
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8001)).unwrap();
        assert_eq!(seen.iter().map(|l| l.v6only).collect::<Vec<_>>(), [false, true]);
    });
}

#[test]
fn an_ipv6_socket_bound_to_an_ipv4_address_is_shown_as_ipv4() {
    in_own_network(|| {
        let mapped = raw(true, SockType::Stream);
        setsockopt(&mapped, sockopt::Ipv6V6Only, &false).unwrap();
        bind_to(&mapped, "[::ffff:127.0.0.1]:8000");
        listen_with(&mapped, 1).unwrap();
        let seen = Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap();
        assert_eq!(seen.iter().map(|l| l.addr).collect::<Vec<_>>(), [addr("127.0.0.1")]);
    });
}

#[test]
fn listeners_on_loopback_and_on_one_device_are_reported_as_such() {
    in_own_network(|| {
        let _four = TcpListener::bind("127.0.0.1:8000").unwrap();
        let _six = TcpListener::bind("[::1]:8001").unwrap();
        let bound = raw(false, SockType::Stream);
        setsockopt(&bound, sockopt::BindToDevice, &"lo".into()).unwrap();
        bind_to(&bound, "0.0.0.0:8002");
        listen_with(&bound, 1).unwrap();
        let datagrams = raw(true, SockType::Datagram);
        setsockopt(&datagrams, sockopt::BindToDevice, &"lo".into()).unwrap();
        bind_to(&datagrams, "[::]:8003");
        let ranges = [(Protocol::Tcp, 8000, 8002), (Protocol::Udp, 8003, 8003)];
        let seen = Dumper::open().unwrap().snapshot(&ranges.into_iter().collect()).unwrap();
        let seen: Vec<_> = seen.iter().map(|l| (l.port, l.addr, l.device)).collect();
        let lo = 1;
        let mut expected = vec![
            (8000, addr("127.0.0.1"), 0),
            (8002, addr("0.0.0.0"), lo),
            (8001, addr("::1"), 0),
            (8003, addr("::"), lo),
        ];
        expected.sort_by_key(|e| (e.0 == 8003, e.1));
        assert_eq!(seen, expected);
    });
}

#[test]
fn a_udp_server_is_bound_and_unconnected() {
    in_own_network(|| {
        let _server = UdpSocket::bind("0.0.0.0:8000").unwrap();
        let _server6 = UdpSocket::bind("[::]:8001").unwrap();
        let client = UdpSocket::bind("127.0.0.1:8002").unwrap();
        client.connect("127.0.0.1:8000").unwrap();
        let _unbound = raw(false, SockType::Datagram);
        let seen = Dumper::open().unwrap().snapshot(&udp(1, 65535)).unwrap();
        let seen: Vec<_> = seen.iter().map(|l| (l.port, l.queue, l.backlog)).collect();
        assert_eq!(seen, [(8000, 0, 0), (8001, 0, 0)]);
    });
}

#[test]
fn connections_that_wait_to_be_accepted_are_the_queue() {
    in_own_network(|| {
        let listener = raw(false, SockType::Stream);
        bind_to(&listener, "127.0.0.1:8000");
        listen_with(&listener, 5).unwrap();
        let mut dumper = Dumper::open().unwrap();
        let mut clients = vec![];
        for expected in 1..=4 {
            clients.push(TcpStream::connect("127.0.0.1:8000").unwrap());
            let seen = dumper.snapshot(&tcp(8000, 8000)).unwrap();
            assert_eq!((seen.len(), seen[0].queue, seen[0].backlog), (1, expected, 5));
        }
    });
}

#[test]
fn a_dumper_stays_in_the_network_namespace_in_which_it_was_opened() {
    in_own_network(|| {
        let mut here = Dumper::open().unwrap();
        let _listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        in_own_network(|| {
            assert_eq!(here.snapshot(&tcp(8000, 8000)).unwrap().len(), 1);
            assert_eq!(Dumper::open().unwrap().snapshot(&tcp(8000, 8000)).unwrap(), []);
        });
    });
}

#[test]
fn a_kernel_without_sctp_diag_says_so_and_still_shows_the_rest() {
    in_own_network(|| {
        let _listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        let mut dumper = Dumper::open().unwrap();
        let ranges: Ranges =
            [(Protocol::Tcp, 8000, 8000), (Protocol::Sctp, 8000, 8000)].into_iter().collect();
        assert_eq!(dumper.snapshot(&ranges).unwrap().len(), 1);
        match dumper.listeners(Protocol::Sctp, &ranges) {
            Ok(none) => assert_eq!(none, []),
            Err(error) => {
                assert_eq!(error, ListenersError::Unsupported(Protocol::Sctp));
                assert!(error.to_string().contains("modprobe sctp_diag"));
            }
        }
    });
}

#[test]
fn connections_are_counted_until_both_sides_are_done_with_them() {
    in_own_network(|| {
        let mut dumper = Dumper::open().unwrap();
        let ranges = [(Protocol::Tcp, 8000, 8000)].into_iter().collect();
        let mut count = || {
            let counts = dumper.connections(Protocol::Tcp, &ranges).unwrap();
            counts.get(&8000).copied().unwrap_or(0)
        };
        let listener = TcpListener::bind("[::]:8000").unwrap();
        assert_eq!(count(), 0, "the listener is no connection");
        // The clients' sockets have another local port and do not count.
        let added =
            Command::new("ip").args(["address", "add", "fd00::1/128", "dev", "lo"]).status();
        assert!(added.unwrap().success());
        let pair = |from: &str, to: &str| {
            let client = raw(to.starts_with('['), SockType::Stream);
            bind_to(&client, from);
            let to: SocketAddr = to.parse().unwrap();
            connect(client.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
            (TcpStream::from(client), listener.accept().unwrap().0)
        };
        let (client, mut server) = pair("127.0.0.2:0", "127.0.0.1:8000");
        let (client6, server6) = pair("[::1]:0", "[fd00::1]:8000");
        assert_eq!(count(), 2);
        // This host's own, as a health check's: no director sent it.
        let _own = [pair("127.0.0.1:0", "127.0.0.1:8000"), pair("[::1]:0", "[::1]:8000")];
        assert_eq!(count(), 2);
        // Half closed by the client: the server may still have much to send.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        server.write_all(b"late").unwrap();
        assert_eq!(count(), 2);
        drop(listener);
        assert_eq!(count(), 2, "they outlive their listener");
        // The server has said all and may still read; then it is gone, and what the kernel keeps
        // for a client that never closes is over.
        server6.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(count(), 2);
        drop(server6);
        // An acknowledgement may take its time (40 ms), and until then it is a connection.
        let mut falls_to = |expected| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while count() != expected {
                assert!(Instant::now() < deadline, "{} after 10 s, not {expected}", count());
            }
        };
        falls_to(1);
        // Both sides closed: TIME_WAIT.
        drop(server);
        drop(client);
        falls_to(0);
        drop(client6);
    });
}
