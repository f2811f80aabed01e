//! Heartbeats on the wire: UDP, from the node's own addresses, of both families.
//!
//! Nothing here waits. A heartbeat that cannot be sent now is not worth to be sent later, so that
//! a full buffer or an unreachable network is counted and no error. What is received is refused
//! in the cheapest order, and no more of it is taken at a time than leaves room for other work:
//! a flood keeps the descriptor readable, and the caller coming back.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Type};

use super::key::{ClusterKey, MacKey};
use super::wire::{Heartbeat, KEY_LABEL, MAX_BYTES, RefusedDatagram};

/// The UDP port on which directors hear heartbeats, if no other is set.
pub const PORT: u16 = 8849;

/// Most datagrams that one call takes.
const AT_ONCE: usize = 256;

/// What a receiver asks the kernel to keep for it, in bytes: a thousand nodes' heartbeats of a
/// quarter of a second, at some 800 bytes that the kernel counts for each.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Class selector 6, network control (RFC 4594, 3.1): what routing protocols use, so that
/// heartbeats do not wait behind the traffic whose director they watch.
const NETWORK_CONTROL: u32 = 0xc0;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("{} {}: {source}{}", wanted(*.address), whose(*.address), hint(.source))]
pub struct SocketError {
    /// The address and port that it should have had.
    pub address: SocketAddr,
    /// The kernel's word.
    pub source: io::Error,
}

/// What was wanted: to receive at a port, or to send from any.
fn wanted(address: SocketAddr) -> &'static str {
    match address.port() {
        0 => "cannot send heartbeats from",
        _ => "cannot receive heartbeats at",
    }
}

/// The address, and the port if it matters.
fn whose(address: SocketAddr) -> String {
    match address.port() {
        0 => address.ip().to_string(),
        _ => address.to_string(),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": does another cvipd run here?",
        io::ErrorKind::AddrNotAvailable => {
            ": this node does not have that address; correct clustertab, or configure it"
        }
        io::ErrorKind::PermissionDenied => ": this needs root (CAP_NET_RAW for one interface only)",
        _ => "",
    }
}

/// What was received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Heartbeats of this cluster, whatever [`Peers`](super::Peers) then say to them.
    pub heartbeats: u64,
    /// Datagrams that are no heartbeats.
    pub malformed: u64,
    /// Heartbeats of a version that this program does not know.
    pub other_version: u64,
    /// Heartbeats that were not signed with this cluster's key.
    pub forged: u64,
    /// Failures to receive.
    pub failed: u64,
}

impl Counts {
    /// Datagrams that were no heartbeats of this cluster.
    pub fn refused(self) -> u64 {
        self.malformed + self.other_version + self.forged
    }
}

/// To how many addresses a heartbeat was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The kernel took it.
    pub sent: u64,
    /// The kernel did not: its buffer is full, or there is no way to that address now.
    pub unsent: u64,
}

/// Sockets of one node.
#[derive(Debug)]
pub struct HeartbeatSocket {
    /// Each with the address that it is bound to.
    bound: Vec<(IpAddr, UdpSocket)>,
    /// Those that another program has, and the interface that is asked for.
    taken: Vec<SocketAddr>,
    device: Option<String>,
    key: MacKey,
    /// The port of the receivers of heartbeats, host order.
    port: u16,
    counts: Counts,
    refused_from: Option<IpAddr>,
}

impl HeartbeatSocket {
    /// Receives, and sends, at these local addresses and this port (host order, [`PORT`] by
    /// custom), if `device` is given through that interface only, in the calling thread's
    /// network namespace.
    ///
    /// # Errors
    /// An address is not this node's, or the port is taken there.
    #[cfg(feature = "internal")]
    pub fn receiver(
        local: &[IpAddr],
        port: u16,
        device: Option<&str>,
        key: &ClusterKey,
    ) -> Result<HeartbeatSocket, SocketError> {
        HeartbeatSocket::open(local, port, port, device, key)
    }

    /// The same sockets for another owner.
    ///
    /// # Errors
    /// The system refuses a descriptor.
    pub fn share(&self) -> io::Result<HeartbeatSocket> {
        let share = |(addr, socket): &(IpAddr, UdpSocket)| Ok((*addr, socket.try_clone()?));
        let bound = self.bound.iter().map(share).collect::<io::Result<_>>()?;
        Ok(HeartbeatSocket {
            bound,
            taken: Vec::new(),
            device: self.device.clone(),
            key: self.key.clone(),
            port: self.port,
            counts: Counts::default(),
            refused_from: None,
        })
    }

    /// As [`HeartbeatSocket::receiver`], but an address whose port another program has is no error:
    /// it is asked for again by [`HeartbeatSocket::tend`]. A port that every user may bind must not
    /// decide whether this node serves. What `kept` has bound already is shared with it: a
    /// successor listens before the former one ends, and nothing is lost in between.
    ///
    /// # Errors
    /// An address is not this node's.
    pub fn patient_receiver(
        local: &[IpAddr],
        port: u16,
        key: &ClusterKey,
        kept: Option<&HeartbeatSocket>,
    ) -> Result<HeartbeatSocket, SocketError> {
        let mut socket = HeartbeatSocket::open(&[], port, port, None, key)?;
        for addr in local {
            let address = SocketAddr::new(*addr, port);
            let mut kept = kept.into_iter().flat_map(|kept| &kept.bound);
            let bound = match kept.find(|(bound, _)| bound == addr) {
                Some((_, socket)) => socket.try_clone(),
                None => bind(address, None),
            };
            match bound {
                Ok(bound) => socket.bound.push((*addr, bound)),
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    socket.taken.push(address);
                }
                Err(source) => return Err(SocketError { address, source }),
            }
        }
        Ok(socket)
    }

    /// Asks again for what another program had. True if some of it is free now.
    pub fn tend(&mut self) -> bool {
        let before = self.taken.len();
        for address in std::mem::take(&mut self.taken) {
            match bind(address, self.device.as_deref()) {
                Ok(socket) => self.bound.push((address.ip(), socket)),
                Err(_) => self.taken.push(address),
            }
        }
        self.taken.len() < before
    }

    /// The addresses on which nothing is heard, for another program has their port.
    pub fn taken(&self) -> &[SocketAddr] {
        &self.taken
    }

    /// Sends only, from these local addresses and any port, to the others' `port`.
    ///
    /// # Errors
    /// As [`HeartbeatSocket::receiver`].
    pub fn sender(
        local: &[IpAddr],
        port: u16,
        device: Option<&str>,
        key: &ClusterKey,
    ) -> Result<HeartbeatSocket, SocketError> {
        let socket = HeartbeatSocket::open(local, 0, port, device, key)?;
        for (_, bound) in &socket.bound {
            // It takes nothing in; if the kernel keeps something for it all the same, little.
            let _ = setsockopt(bound, sockopt::RcvBuf, &0);
        }
        Ok(socket)
    }

    fn open(
        local: &[IpAddr],
        local_port: u16,
        port: u16,
        device: Option<&str>,
        key: &ClusterKey,
    ) -> Result<HeartbeatSocket, SocketError> {
        let bind = |addr: &IpAddr| {
            let address = SocketAddr::new(*addr, local_port);
            let bound = bind(address, device).map_err(|source| SocketError { address, source })?;
            Ok((*addr, bound))
        };
        let bound = local.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(HeartbeatSocket {
            bound,
            taken: Vec::new(),
            device: device.map(str::to_owned),
            key: key.derive(KEY_LABEL),
            port,
            counts: Counts::default(),
            refused_from: None,
        })
    }

    /// The descriptors whose readability asks for [`HeartbeatSocket::receive`].
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.bound.iter().map(|(_, socket)| socket.as_fd()).collect()
    }

    /// Sends a heartbeat, once to each address.
    ///
    /// # Panics
    /// If the heartbeat holds more than fits: [`Sender::set_content`](super::Sender::set_content) refuses that.
    pub fn send(&self, heartbeat: &Heartbeat, to: &[IpAddr]) -> Sent {
        let datagram = heartbeat.encode(&self.key).expect("no more than fits");
        let mut result = Sent::default();
        for addr in to {
            match self.send_one(&datagram, *addr) {
                true => result.sent += 1,
                false => result.unsent += 1,
            }
        }
        result
    }

    /// From the first local address of the same family.
    fn send_one(&self, datagram: &[u8], to: IpAddr) -> bool {
        let of_its_family = |(local, _): &&(IpAddr, UdpSocket)| local.is_ipv4() == to.is_ipv4();
        let Some((_, socket)) = self.bound.iter().find(of_its_family) else {
            return false;
        };
        loop {
            match socket.send_to(datagram, (to, self.port)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.is_ok(),
            }
        }
    }

    /// Takes what has arrived, at most 256 datagrams at each local address: this cluster's
    /// heartbeats. The rest is counted.
    pub fn receive(&mut self) -> impl Iterator<Item = Heartbeat> + '_ {
        let HeartbeatSocket { bound, key, counts, refused_from, .. } = self;
        bound.iter().flat_map(|(_, socket)| datagrams(socket).take(AT_ONCE)).filter_map(
            |datagram| {
                let decoded = datagram.map(|(from, bytes)| (from, Heartbeat::decode(&bytes, key)));
                let count = match decoded {
                    Ok((_, Ok(heartbeat))) => {
                        counts.heartbeats += 1;
                        return Some(heartbeat);
                    }
                    Ok((_, Err(RefusedDatagram::Malformed))) => &mut counts.malformed,
                    Ok((_, Err(RefusedDatagram::Version(_)))) => &mut counts.other_version,
                    Ok((from, Err(RefusedDatagram::Forged))) => {
                        *refused_from = Some(from);
                        &mut counts.forged
                    }
                    Err(_) => &mut counts.failed,
                };
                *count += 1;
                None
            },
        )
    }

    /// Where the last heartbeat came from that was not signed with this cluster's key.
    pub fn refused_from(&self) -> Option<IpAddr> {
        self.refused_from
    }

    /// What was received so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Everything that waits in a socket, datagram by datagram.
fn datagrams(socket: &UdpSocket) -> impl Iterator<Item = io::Result<(IpAddr, Vec<u8>)>> + '_ {
    // One byte more than fits: a longer datagram is cut, and still too long.
    let mut buffer = [0; MAX_BYTES + 1];
    std::iter::from_fn(move || {
        loop {
            return match socket.recv_from(&mut buffer) {
                Ok((length, from)) => Some(Ok((from.ip(), buffer[..length].to_vec()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => Some(Err(error)),
            };
        }
    })
}

fn bind(address: SocketAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::DGRAM.cloexec().nonblocking(),
        Some(Protocol::UDP),
    )?;
    // Both are good to have, and no reason to do without heartbeats.
    let _ = match address {
        SocketAddr::V4(_) => socket.set_tos_v4(NETWORK_CONTROL),
        SocketAddr::V6(_) => socket.set_tclass_v6(NETWORK_CONTROL),
    };
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, poll};

    use super::super::Nonce;
    use super::*;
    use crate::clock::Instant;

    fn key(secret: &str) -> ClusterKey {
        ClusterKey::from_bytes(secret.repeat(8).as_bytes()).unwrap()
    }

    fn ours() -> ClusterKey {
        key("our key ")
    }

    fn heartbeat(sequence: u64) -> Heartbeat {
        Heartbeat {
            node: 2,
            incarnation: 1,
            sequence,
            nonce: Nonce([2; 16]),
            leaving: false,
            cannot_carry: false,
            left: None,
            leaderships: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// A receiver of both families on ports of the kernel's choice.
    fn receiver() -> HeartbeatSocket {
        HeartbeatSocket::receiver(&local(), 0, None, &ours()).unwrap()
    }

    fn local() -> [IpAddr; 2] {
        ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
    }

    /// A sender to one of the receiver's addresses.
    fn sender(to: &HeartbeatSocket, which: usize, key: &ClusterKey) -> (HeartbeatSocket, IpAddr) {
        let address = to.bound[which].1.local_addr().unwrap();
        let sender = HeartbeatSocket::sender(&local(), address.port(), None, key).unwrap();
        (sender, address.ip())
    }

    /// Receives until so many datagrams were seen: over loopback they are there when sent.
    fn take(socket: &mut HeartbeatSocket, datagrams: u64) -> Vec<Heartbeat> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut heartbeats = Vec::new();
        let total = |counts: Counts| {
            counts.heartbeats
                + counts.malformed
                + counts.other_version
                + counts.forged
                + counts.failed
        };
        while total(socket.counts()) < datagrams {
            let mut fds: Vec<PollFd<'_>> =
                socket.fds().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            poll(&mut fds, 100u16).unwrap();
            drop(fds);
            heartbeats.extend(socket.receive());
            assert!(Instant::now() < deadline, "{:?}", socket.counts());
        }
        heartbeats
    }

    #[test]
    fn a_heartbeat_arrives_over_both_families() {
        let mut receiver = receiver();
        for which in [0, 1] {
            let (sender, addr) = sender(&receiver, which, &ours());
            let sequence = which as u64 + 1;
            assert_eq!(sender.send(&heartbeat(sequence), &[addr]), Sent { sent: 1, unsent: 0 });
            assert_eq!(take(&mut receiver, sequence), [heartbeat(sequence)]);
        }
        assert_eq!(receiver.counts(), Counts { heartbeats: 2, ..Counts::default() });
        assert_eq!(receiver.receive().count(), 0);
    }

    #[test]
    fn what_is_refused_is_counted_by_its_reason() {
        let mut receiver = receiver();
        let (stranger, addr) = sender(&receiver, 0, &key("another "));
        stranger.send(&heartbeat(1), &[addr]);
        let (insider, addr) = sender(&receiver, 0, &ours());
        let good = heartbeat(1).encode(&ours().derive(KEY_LABEL)).unwrap();
        let raw = |datagram: &[u8]| assert!(insider.send_one(datagram, addr));
        raw(b"");
        raw(b"hello");
        raw(&[&good[..], &[0; 2000]].concat());
        raw(&[&b"cvip\x02"[..], &good[5..]].concat());
        raw(&good);
        assert_eq!(take(&mut receiver, 6), [heartbeat(1)]);
        let expected =
            Counts { heartbeats: 1, malformed: 3, other_version: 1, forged: 1, failed: 0 };
        assert_eq!(receiver.counts(), expected);
    }

    #[test]
    fn a_flood_is_taken_in_parts() {
        let mut receiver = receiver();
        let (flooder, addr) = sender(&receiver, 0, &ours());
        for _ in 0..AT_ONCE {
            flooder.send_one(b"flood", addr);
        }
        flooder.send(&heartbeat(1), &[addr]);
        assert_eq!(receiver.receive().count(), 0);
        assert_eq!(receiver.counts().malformed, AT_ONCE as u64);
        assert_eq!(receiver.receive().collect::<Vec<_>>(), [heartbeat(1)]);
    }

    #[test]
    fn who_cannot_be_reached_is_counted_and_no_error() {
        let sender = HeartbeatSocket::sender(&local()[..1], PORT, None, &ours()).unwrap();
        // From a loopback address there is no way out, and none from IPv4 to IPv6.
        let to = ["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(sender.send(&heartbeat(1), &to), Sent { sent: 0, unsent: 2 });
    }

    #[test]
    fn a_socket_that_cannot_be_had_says_why_and_what_to_do() {
        let error = HeartbeatSocket::receiver(&["192.0.2.1".parse().unwrap()], PORT, None, &ours());
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("cannot receive heartbeats at 192.0.2.1:8849: "), "{text}");
        assert!(text.contains("clustertab"), "{text}");

        let error = HeartbeatSocket::sender(&["192.0.2.1".parse().unwrap()], PORT, None, &ours());
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("cannot send heartbeats from 192.0.2.1: "), "{text}");

        let first = receiver();
        let taken = first.bound[0].1.local_addr().unwrap();
        let error =
            HeartbeatSocket::receiver(&[taken.ip()], taken.port(), None, &ours()).unwrap_err();
        assert!(error.to_string().contains("another cvipd"), "{error}");
    }

    #[test]
    fn a_port_that_another_program_has_is_waited_for() {
        let first = receiver();
        let (v4, v6) = (first.bound[0].1.local_addr().unwrap(), local()[1]);
        let mut late =
            HeartbeatSocket::patient_receiver(&[v4.ip()], v4.port(), &ours(), None).unwrap();
        assert!(!late.tend());
        assert_eq!((late.taken(), late.fds().len()), (&[v4][..], 0));
        drop(first);
        assert!(late.tend() && late.taken().is_empty());
        let sender = HeartbeatSocket::sender(&local(), v4.port(), None, &ours()).unwrap();
        sender.send(&heartbeat(1), &[v4.ip()]);
        assert_eq!(take(&mut late, 1), [heartbeat(1)]);
        let missing = HeartbeatSocket::patient_receiver(
            &[v6, "192.0.2.1".parse().unwrap()],
            0,
            &ours(),
            None,
        );
        assert!(missing.is_err(), "an address that is not this node's is no port that is taken");
    }

    #[test]
    fn one_interface_can_be_asked_for() {
        let bound = |device| HeartbeatSocket::receiver(&local()[..1], 0, Some(device), &ours());
        assert!(bound("lo").is_ok());
        assert!(bound("nosuch7").is_err());
    }
}
