//! The least that filling and reading an IPVS table costs, for benchmarks to measure against.
//!
//! The messages are built before the clock starts, and sent in writes of 64 KiB with one
//! acknowledgement each; what dumps bring is thrown away. What takes longer than this is the
//! measured program's own doing, and what this takes is the kernel's.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};

/// A bare netlink socket, with messages written by hand.
#[derive(Debug)]
pub struct Floor {
    fd: OwnedFd,
    family: u16,
}

impl Floor {
    /// Opens it in the network namespace of the calling thread; the kernel must have IPVS.
    ///
    /// # Panics
    /// Without IPVS, or without root: a benchmark has no other way to go on.
    #[must_use]
    pub fn open() -> Floor {
        let fd = Floor::socket();
        setsockopt(&fd, sockopt::RcvBufForce, &(1 << 21)).unwrap();
        let mut floor = Floor { fd, family: 0x10 };
        floor.send(&floor.message(3, 1, &attribute(2, b"IPVS\0")));
        let reply = floor.receive(&mut vec![0; 65536]).to_vec();
        // CTRL_ATTR_FAMILY_ID: 6 bytes long, number 1.
        let at = (20..reply.len()).step_by(4).find(|&at| reply[at..at + 4] == [6, 0, 1, 0]);
        let at = at.expect("the family's number") + 4;
        floor.family = u16::from_ne_bytes([reply[at], reply[at + 1]]);
        floor
    }

    fn socket() -> OwnedFd {
        socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )
        .unwrap()
    }

    fn message(&self, command: u8, flags: u16, attributes: &[u8]) -> Vec<u8> {
        let mut message = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
        message.extend(self.family.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        message
    }

    fn send(&self, messages: &[u8]) {
        assert_eq!(send(self.fd.as_raw_fd(), messages, MsgFlags::empty()), Ok(messages.len()));
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        let length = recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()).unwrap();
        &buffer[..length]
    }

    /// The writes that fill an empty table; the last message of each asks for an acknowledgement.
    /// Service `n` is TCP 192.0.2.1:n, its destination `m` 198.51.100.m:80, masqueraded.
    #[must_use]
    pub fn restore_writes(&self, services: u16, destinations: u8) -> Vec<Vec<u8>> {
        const REQUEST: u16 = 1;
        let mut messages = vec![];
        for port in 1..=services {
            let settings = [
                service_attributes(port),
                attribute(6, b"wlc\0"),
                attribute(7, &[0, 0, 0, 0, 255, 255, 255, 255]),
                attribute(8, &[0; 4]),
                attribute(9, &[255; 4]),
            ];
            messages.push(self.message(1, REQUEST, &attribute(1, &settings.concat())));
            for n in 1..=destinations {
                let settings = [
                    attribute(1, &address([198, 51, 100, n].into())),
                    attribute(2, &80u16.to_be_bytes()),
                    attribute(11, &2u16.to_ne_bytes()),
                    attribute(3, &0u32.to_ne_bytes()),
                    attribute(4, &1u32.to_ne_bytes()),
                    attribute(5, &[0; 4]),
                    attribute(6, &[0; 4]),
                    attribute(13, &[0]),
                    attribute(14, &[0; 2]),
                    attribute(15, &[0; 2]),
                ];
                let both =
                    [attribute(1, &service_attributes(port)), attribute(2, &settings.concat())];
                messages.push(self.message(5, REQUEST, &both.concat()));
            }
        }
        let mut writes: Vec<Vec<Vec<u8>>> = vec![vec![]];
        let mut left = 65536;
        for message in messages {
            if message.len() > left {
                writes.push(vec![]);
                left = 65536;
            }
            left -= message.len();
            writes.last_mut().unwrap().push(message);
        }
        for write in &mut writes {
            write.last_mut().unwrap()[6] |= 4; // NLM_F_ACK
        }
        writes.into_iter().map(|write| write.concat()).collect()
    }

    /// Sends them, each when the one before is done.
    ///
    /// # Panics
    /// If the kernel refuses a message.
    pub fn restore(&self, writes: &[Vec<u8>]) {
        let mut buffer = vec![0; 65536];
        for write in writes {
            self.send(write);
            let answer = self.receive(&mut buffer);
            assert_eq!(answer[16..20], [0; 4], "the kernel refused a message");
        }
    }

    /// Reads that table, every dump to its end; gives the number of bytes.
    ///
    /// # Panics
    /// If the kernel does not answer.
    pub fn list(&self, services: u16) -> usize {
        const DUMP: u16 = 0x301;
        let mut buffer = vec![0; 65536];
        let mut bytes = self.dump(&self.message(4, DUMP, &[]), &mut buffer);
        for port in 1..=services {
            let request = self.message(8, DUMP, &attribute(1, &service_attributes(port)));
            bytes += self.dump(&request, &mut buffer);
        }
        bytes
    }

    fn dump(&self, request: &[u8], buffer: &mut [u8]) -> usize {
        const DONE: u16 = 3;
        self.send(request);
        let mut bytes = 0;
        loop {
            let datagram = self.receive(buffer);
            if u16::from_ne_bytes([datagram[4], datagram[5]]) == DONE {
                return bytes;
            }
            bytes += datagram.len();
        }
    }
}

/// Puts writes into one file, each behind its length, for [`send_file`].
#[must_use]
pub fn as_file(writes: &[Vec<u8>]) -> Vec<u8> {
    let length = |write: &[u8]| (write.len() as u32).to_ne_bytes();
    writes.iter().flat_map(|write| length(write).into_iter().chain(write.iter().copied())).collect()
}

/// Sends the writes of a file, each when the one before is done, and asks the kernel nothing
/// else: what a process costs that does this and no more.
///
/// # Panics
/// If the kernel refuses a message, or the file is not one of [`as_file`].
pub fn send_file(mut file: &[u8]) {
    let floor = Floor { fd: Floor::socket(), family: 0 };
    let mut buffer = vec![0; 4096];
    while let Some((length, rest)) = file.split_first_chunk() {
        let (write, rest) = rest.split_at(u32::from_ne_bytes(*length) as usize);
        floor.send(write);
        let answer = floor.receive(&mut buffer);
        assert_eq!(answer[16..20], [0; 4], "the kernel refused a message");
        file = rest;
    }
}

fn service_attributes(port: u16) -> Vec<u8> {
    [
        attribute(1, &2u16.to_ne_bytes()),
        attribute(2, &6u16.to_ne_bytes()),
        attribute(3, &address([192, 0, 2, 1].into())),
        attribute(4, &port.to_be_bytes()),
    ]
    .concat()
}

fn address(addr: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&addr.octets());
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
