//! What the tests of probes share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::checks::settings::{Kind, Period};
use crate::checks::{Check, CheckTarget};
use crate::protocol::Protocol;

/// No machine needs longer for anything that a test waits for.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Both families' own addresses.
pub(super) fn loopbacks() -> [IpAddr; 2] {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

/// A TCP port on which no process listens, and no other's as long as the socket is there.
pub(in crate::checks) fn closed_tcp_port(host: IpAddr) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::for_address((host, 0).into()), Type::STREAM, None).unwrap();
    // Every user may open it.
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::new(host, 0).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// A listener on a port that is another's, who wants it to be opened.
pub(in crate::checks) fn open_tcp_port(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    socket.listen(128).unwrap();
    socket
}

/// A UDP port on which no process answers, and no other's as long as the socket is there.
pub(super) fn closed_udp_port(host: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    // It hears itself alone.
    socket.connect(addr).unwrap();
    (socket, addr)
}

/// A target whose check has all the time it wants.
pub(super) fn target(addr: SocketAddr, kind: Kind) -> CheckTarget {
    let mut check = Check::new(kind);
    check.timeout = Period::new(LONG).unwrap();
    CheckTarget { addr, protocol: Protocol::Tcp, device: None, check }
}

/// The same with a time that is soon over.
pub(super) fn hurried(addr: SocketAddr, kind: Kind, millis: u64) -> CheckTarget {
    let mut target = target(addr, kind);
    target.check.timeout = Period::new(Duration::from_millis(millis)).unwrap();
    target
}
