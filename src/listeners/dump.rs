//! The truth: which sockets take new peers, asked of the kernel by sock_diag(7).
//!
//! A dump of LISTEN sockets walks the kernel's listening hash only, so that it costs tens of
//! microseconds beside 100,000 connections; /proc/net/tcp costs four orders of magnitude more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::diag::{self, DiagRequest, SocketRow};
use super::error::{ListenersError, PATIENCE_SECONDS};
use super::{Listener, Ranges, Unaccepted, ranges};
use crate::netlink::{KernelError, LONG_DUMPS, NetlinkSocket};
use crate::protocol::Protocol;

/// States in which a socket holds a peer's data: neither waiting for peers, nor half open (the
/// peer simply asks again), nor over.
const CONNECTED: u32 = 1 << diag::ESTABLISHED
    | 1 << diag::FIN_WAIT1
    | 1 << diag::FIN_WAIT2
    | 1 << diag::CLOSE_WAIT
    | 1 << diag::LAST_ACK
    | 1 << diag::CLOSING;

/// States in which a connection can wait in an accept queue. A connection that its process has
/// closed has no inode either, but is in neither of these states.
const QUEUED: u32 = 1 << diag::ESTABLISHED | 1 << diag::CLOSE_WAIT;

/// A sock_diag socket, and with it the network namespace in which its thread opened it.
#[derive(Debug)]
pub struct Dumper {
    socket: NetlinkSocket,
}

impl Dumper {
    /// Opens the socket in the calling thread's network namespace. Needs no privilege.
    pub fn open() -> Result<Dumper, ListenersError> {
        let socket =
            NetlinkSocket::open(SockProtocol::NetlinkSockDiag, PATIENCE_SECONDS, LONG_DUMPS);
        Ok(Dumper { socket: socket.map_err(ListenersError::Open)? })
    }

    /// Who takes new peers on these ports, sorted; only protocols that have ranges are asked
    /// for. An SCTP that the kernel cannot list is an empty one here; [`Dumper::listeners`]
    /// tells.
    pub fn snapshot(&mut self, ranges: &Ranges) -> Result<Vec<Listener>, ListenersError> {
        let mut all = Vec::new();
        for protocol in Protocol::ALL {
            match self.listeners(protocol, ranges) {
                Ok(listeners) => all.extend(listeners),
                Err(ListenersError::Unsupported(Protocol::Sctp)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// One protocol's part of a [`Dumper::snapshot`], sorted; empty without asking if the
    /// protocol has no ranges.
    pub fn listeners(
        &mut self,
        protocol: Protocol,
        ranges: &Ranges,
    ) -> Result<Vec<Listener>, ListenersError> {
        let ranges = ranges.of(protocol);
        let mut found: Vec<Listener> = Vec::new();
        if ranges.is_empty() {
            return Ok(found);
        }
        let states = 1 << if protocol == Protocol::Udp { diag::CLOSE } else { diag::LISTEN };
        for family in [diag::AF_INET, diag::AF_INET6] {
            found.extend(self.dump(protocol, family, states, ranges, |row| {
                // sctp_diag ignores the filter, and a long one was widened.
                listener(protocol, &row).filter(|l| ranges::contains(ranges, l.port))
            })?);
        }
        found.sort_unstable();
        // A socket that is moved in the kernel's table during a dump may be met twice.
        found.dedup_by_key(|l| (l.identity(), l.cookie));
        Ok(found)
    }

    /// How many connections of other hosts each local port of these ranges has, if any: for TCP and
    /// SCTP the sockets past their handshake and before TIME_WAIT, for UDP the connected ones. It
    /// walks the kernel's whole connection table, once for all ports (half a millisecond, and
    /// 0.7 us more for each TCP socket of the machine): once in a while during a drain, not for
    /// every day.
    pub fn connections(
        &mut self,
        protocol: Protocol,
        ranges: &Ranges,
    ) -> Result<BTreeMap<u16, usize>, ListenersError> {
        let ranges = ranges.of(protocol);
        let mut counts = BTreeMap::new();
        if ranges.is_empty() {
            return Ok(counts);
        }
        for family in [diag::AF_INET, diag::AF_INET6] {
            let ports = self.dump(protocol, family, CONNECTED, ranges, |row| {
                let connected = CONNECTED & 1u32.unbounded_shl(row.state.into()) != 0;
                // A time-wait socket whose peer has not closed yet calls itself FIN_WAIT2.
                let over = row.timer == diag::TIMER_TIME_WAIT;
                // A host that connects to its own address has it on both ends.
                let is_own = row.addr == row.remote_addr;
                // The kernel's filter may be wider, as for listeners.
                let is_asked = ranges::contains(ranges, row.port);
                (connected && !over && !is_own && is_asked).then_some(row.port)
            })?;
            for port in ports {
                *counts.entry(port).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// The TCP connections to a local port that the kernel has taken and no process has accepted.
    /// It walks the kernel's whole connection table, as [`Dumper::connections`] does.
    pub fn unaccepted(&mut self, port: u16) -> Result<Vec<Unaccepted>, ListenersError> {
        let mut found = Vec::new();
        for family in [diag::AF_INET, diag::AF_INET6] {
            found.extend(self.dump(Protocol::Tcp, family, QUEUED, &[(port, port)], |row| {
                let queued = QUEUED & 1u32.unbounded_shl(row.state.into()) != 0;
                let SocketRow { addr, device, cookie, .. } = row;
                (row.port == port && row.inode == 0 && queued).then(|| Unaccepted {
                    addr: addr.to_canonical(),
                    device,
                    cookie,
                })
            })?);
        }
        Ok(found)
    }

    /// One family's dump: what `pick` makes of its sockets.
    fn dump<T>(
        &mut self,
        protocol: Protocol,
        family: u8,
        states: u32,
        ranges: &[(u16, u16)],
        pick: impl Fn(SocketRow) -> Option<T>,
    ) -> Result<Vec<T>, ListenersError> {
        let request = DiagRequest { family, protocol: protocol.number(), states, ranges };
        let refused = |error: KernelError| match Errno::from_raw(error.errno) {
            // Without the protocol's diag module; EINVAL on kernels before 3.3.
            Errno::ENOENT | Errno::EPROTONOSUPPORT => ListenersError::Unsupported(protocol),
            errno => ListenersError::Refused { protocol, errno },
        };
        let write = |buffer: &mut Vec<u8>, sequence| request.write(buffer, sequence);
        let read = |kind, body: &[u8]| Ok(pick(diag::read(kind, body)?));
        Ok(self.socket.dump(write, refused, read)?.rows)
    }
}

/// The row as a listener, if it takes new peers.
fn listener(protocol: Protocol, row: &SocketRow) -> Option<Listener> {
    let udp = protocol == Protocol::Udp;
    let expected = if udp { diag::CLOSE } else { diag::LISTEN };
    let remote = row.remote_port != 0 || !row.remote_addr.is_unspecified();
    if row.state != expected || row.port == 0 || remote {
        return None;
    }
    let addr = row.addr.to_canonical();
    Some(Listener {
        protocol,
        addr,
        port: row.port,
        v6only: row.v6only && matches!(addr, IpAddr::V6(_)),
        device: row.device,
        uid: row.uid,
        cookie: row.cookie,
        queue: if udp { 0 } else { row.rqueue },
        backlog: if udp { 0 } else { row.wqueue },
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    /// A TCP socket that listens on [::]:80.
    const ROW: SocketRow = SocketRow {
        state: diag::LISTEN,
        timer: 0,
        addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        port: 80,
        remote_addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        remote_port: 0,
        device: 0,
        cookie: 1,
        rqueue: 2,
        wqueue: 128,
        uid: 33,
        inode: 777,
        v6only: true,
    };

    #[test]
    fn a_listener_is_bound_without_a_peer_and_in_its_protocols_state() {
        let seen = listener(Protocol::Tcp, &ROW).unwrap();
        assert_eq!((seen.port, seen.queue, seen.backlog, seen.v6only), (80, 2, 128, true));
        let udp = SocketRow { state: diag::CLOSE, ..ROW };
        let seen = listener(Protocol::Udp, &udp).unwrap();
        assert_eq!((seen.queue, seen.backlog), (0, 0));
        for (protocol, row) in [
            (Protocol::Tcp, udp),
            (Protocol::Udp, ROW),
            (Protocol::Sctp, SocketRow { state: diag::ESTABLISHED, ..ROW }),
            (Protocol::Tcp, SocketRow { port: 0, ..ROW }),
            (Protocol::Udp, SocketRow { remote_port: 53, ..udp }),
            (Protocol::Udp, SocketRow { remote_addr: "::1".parse().unwrap(), ..udp }),
        ] {
            assert_eq!(listener(protocol, &row), None, "{row:?}");
        }
    }

    #[test]
    fn a_connection_is_unaccepted_until_its_process_takes_it() {
        let mut dumper = Dumper::open().unwrap();
        for to in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((to, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            let clients = [to; 3].map(|to| TcpStream::connect(to).unwrap());
            let before = dumper.unaccepted(to.port()).unwrap();
            assert_eq!(before.len(), 3, "{before:?}");
            assert!(before.iter().all(|waits| waits.addr == to.ip() && waits.device == 0));
            let server = listener.accept().unwrap().0;
            let after = dumper.unaccepted(to.port()).unwrap();
            assert_eq!(after.len(), 2, "{after:?}");
            assert!(after.iter().all(|waits| before.contains(waits)), "{after:?}");
            // What the server closed was accepted, whatever state it is in.
            drop(server);
            assert_eq!(dumper.unaccepted(to.port()).unwrap().len(), 2);
            drop(clients);
        }
    }

    #[test]
    fn a_dump_that_was_given_up_does_not_spoil_the_next() {
        let sockets: Vec<_> = (0..500).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut dumper = Dumper::open().unwrap();
        let states = 1 << diag::LISTEN;
        let (family, protocol) = (diag::AF_INET, Protocol::Tcp.number());
        let given_up = DiagRequest { family, protocol, states, ranges: &[] };
        dumper.socket.send(&given_up.to_bytes(0)).unwrap();
        let all = [(Protocol::Tcp, 1, 65535)].into_iter().collect();
        let seen = dumper.snapshot(&all).unwrap();
        for socket in sockets {
            let port = socket.local_addr().unwrap().port();
            assert!(seen.iter().any(|l| l.port == port), "{port}");
        }
        // The first attempt met the old dump and threw it away.
        assert!(dumper.socket.sequence() > 2, "{}", dumper.socket.sequence());
    }
}
