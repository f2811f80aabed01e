//! A packet socket on one Ethernet interface (packet(7)).
//!
//! It is bound with the link-layer address that getifaddrs(3) gives for the interface: that
//! carries the interface's number, and no `unsafe` has to build one.

use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{LinkAddr, MsgFlags, bind, recvmsg, send};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::NetError;
use super::filter::FilterInstruction;
use super::frames::Mac;

/// A socket that sends frames, and receives those of one protocol or none.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: Socket,
    device: String,
    mac: Mac,
    index: usize,
}

impl PacketSocket {
    /// Opens a socket on this interface of the calling thread's network namespace. It receives
    /// frames of this protocol (an ethertype, host order) that others sent; 0: none. Open it
    /// anew when the interface may have another Ethernet address.
    ///
    /// # Errors
    /// There is no such interface, it is no Ethernet, or the caller lacks CAP_NET_RAW.
    pub(super) fn open(device: &str, ethertype: u16) -> Result<PacketSocket, NetError> {
        let link =
            links()?.find(|(name, _)| name == device).map(|(_, link)| link).ok_or_else(|| {
                NetError::NoInterface { device: device.to_owned(), hint: String::new() }
            })?;
        let mac = mac_of(&link)
            .filter(|_| link.hatype() == libc::ARPHRD_ETHER)
            .ok_or_else(|| NetError::NotEthernet(device.to_owned()))?;
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let kind = Type::RAW.cloexec();
        let failed = |error: &std::io::Error| NetError::Socket {
            kind: "packet",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
        };
        let socket = Socket::new(Domain::PACKET, kind, Some(protocol)).map_err(|e| failed(&e))?;
        bind(socket.as_raw_fd(), &link)
            .map_err(|errno| NetError::Socket { kind: "packet", errno })?;
        Ok(PacketSocket { socket, device: device.to_owned(), mac, index: link.ifindex() })
    }

    /// The interface's Ethernet address.
    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    /// The interface's name.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Receives only frames that pass this filter, from now on: what came before may not.
    pub(super) fn filter(&self, program: &[FilterInstruction]) -> Result<(), NetError> {
        let program: Vec<SockFilter> = program
            .iter()
            .map(|i| SockFilter::new(i.code, i.if_true, i.if_false, i.value))
            .collect();
        self.socket.attach_filter(&program).map_err(|error| NetError::Socket {
            kind: "packet",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
        })
    }

    /// Sends a frame. `ENETDOWN`: the interface is down.
    pub(super) fn send(&self, frame: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Takes the next frame that waits; its length, of which no more than fits is in the buffer.
    /// None: nothing waits.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        loop {
            let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let mut parts = [IoSliceMut::new(buffer)];
            match recvmsg::<LinkAddr>(socket, &mut parts, None, flags) {
                // Between its opening and its binding a socket hears every interface.
                Ok(frame) if frame.address.is_some_and(|from| from.ifindex() != self.index) => {}
                Ok(frame) => return Ok(Some(frame.bytes)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The Ethernet addresses of all interfaces in the calling thread's network namespace.
pub(super) fn own_macs() -> Result<BTreeSet<Mac>, NetError> {
    Ok(links()?.filter_map(|(_, link)| mac_of(&link)).collect())
}

fn mac_of(link: &LinkAddr) -> Option<Mac> {
    link.addr().filter(|_| link.halen() == 6).map(Mac)
}

/// Every interface's name and link-layer address.
fn links() -> Result<impl Iterator<Item = (String, LinkAddr)>, NetError> {
    let interfaces = getifaddrs().map_err(|errno| NetError::Socket { kind: "packet", errno })?;
    Ok(interfaces.filter_map(|interface| {
        let link = *interface.address?.as_link_addr()?;
        Some((interface.interface_name, link))
    }))
}
