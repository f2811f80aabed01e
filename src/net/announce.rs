//! Tells the neighbours on a link who carries an address now: gratuitous ARP for IPv4,
//! unsolicited neighbour advertisements for IPv6.
//!
//! An announcement may be lost, so callers repeat it; each call sends it once.
//!
//! For IPv4 it is sent in both of its forms. The request (RFC 5227, 3: an ARP Announcement) is
//! what RFC 826 makes every receiver learn from, and what most systems send; a few routers and
//! switches update their tables from replies only. Neither form creates an entry where there is
//! none, and the second costs 42 bytes.
//!
//! The packet socket is bound with the link-layer address that getifaddrs(3) gives for the
//! interface: it carries the interface's number, and no `unsafe` has to build one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};

use super::{Error, sysctl};

/// An Ethernet address.
type Mac = [u8; 6];

/// Every host on the link.
const BROADCAST: Mac = [0xff; 6];
/// All nodes, ff02::1, as an Ethernet address (RFC 2464, 7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `ARPOP_*` (linux/if_arp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArpOperation {
    Request = 1,
    Reply = 2,
}

/// Announces an address on an interface, once, in the calling thread's network namespace. See
/// [`Announcer`] to announce many.
///
/// # Errors
/// See [`Announcer::open`] and [`Announcer::announce`].
pub fn announce(device: &str, addr: IpAddr) -> Result<(), Error> {
    Announcer::open(device)?.announce(addr)
}

/// A packet socket on one Ethernet interface.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
    device: String,
    mac: Mac,
}

impl Announcer {
    /// Opens a socket on this interface of the calling thread's network namespace. It receives
    /// nothing. Open it anew when the interface may have another Ethernet address.
    ///
    /// # Errors
    /// There is no such interface, it is no Ethernet, or the caller lacks CAP_NET_RAW.
    pub fn open(device: &str) -> Result<Announcer, Error> {
        let failed = |errno| Error::Socket { kind: "packet", errno };
        let link = getifaddrs()
            .map_err(failed)?
            .filter(|interface| interface.interface_name == device)
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .ok_or_else(|| Error::NoInterface { device: device.to_owned(), hint: String::new() })?;
        let mac = link
            .addr()
            .filter(|_| link.hatype() == libc::ARPHRD_ETHER && link.halen() == 6)
            .ok_or_else(|| Error::NotEthernet(device.to_owned()))?;
        // Protocol 0: frames go out, none come in.
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(failed)?;
        bind(socket.as_raw_fd(), &link).map_err(failed)?;
        Ok(Announcer { socket, device: device.to_owned(), mac })
    }

    /// Announces an address, once. That the interface carries it is the caller's to know.
    ///
    /// # Errors
    /// The interface is down, or the frame could not be sent.
    pub fn announce(&self, addr: IpAddr) -> Result<(), Error> {
        match addr {
            IpAddr::V4(ip) => {
                self.send(addr, &gratuitous_arp(ArpOperation::Request, self.mac, ip))?;
                self.send(addr, &gratuitous_arp(ArpOperation::Reply, self.mac, ip))
            }
            IpAddr::V6(ip) => {
                // One that takes back being a router makes neighbours drop their routes by it.
                let forwarding = format!("net/ipv6/conf/{}/forwarding", self.device);
                let router = sysctl::read(&forwarding).is_ok_and(|value| value != "0");
                self.send(addr, &unsolicited_advertisement(self.mac, ip, router))
            }
        }
    }

    fn send(&self, addr: IpAddr, frame: &[u8]) -> Result<(), Error> {
        loop {
            return match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENETDOWN) => Err(Error::Down(self.device.clone())),
                Err(errno) => Err(Error::Announce { addr, device: self.device.clone(), errno }),
            };
        }
    }
}

/// An Ethernet frame with a gratuitous ARP packet (RFC 826; RFC 5227): sender and target are the
/// announced address.
fn gratuitous_arp(operation: ArpOperation, mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let target = match operation {
        // RFC 5227, 2.3: nobody's address is asked for, so the field is not used.
        ArpOperation::Request => [0; 6],
        // RFC 5944, 4.6: the address to which the entry should be updated.
        ArpOperation::Reply => mac,
    };
    let mut frame = ethernet(BROADCAST, mac, libc::ETH_P_ARP as u16);
    frame.extend(1u16.to_be_bytes()); // hardware type: Ethernet
    frame.extend(0x0800u16.to_be_bytes()); // protocol type: IPv4
    frame.extend([6, 4]); // lengths of both addresses
    frame.extend((operation as u16).to_be_bytes());
    frame.extend(mac); // sender
    frame.extend(ip.octets());
    frame.extend(target);
    frame.extend(ip.octets());
    frame
}

/// An Ethernet frame with an unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6):
/// override, so that caches change their entry; a router's, if it is one.
fn unsolicited_advertisement(mac: Mac, ip: Ipv6Addr, router: bool) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    const ROUTER: u8 = 0x80;
    const OVERRIDE: u8 = 0x20;
    let mut message = vec![136, 0, 0, 0]; // type, code, checksum
    message.extend([OVERRIDE | if router { ROUTER } else { 0 }, 0, 0, 0]);
    message.extend(ip.octets()); // target
    message.extend([2, 1]); // option: target link-layer address, 8 bytes
    message.extend(mac);
    let checksum = checksum(ip, ALL_NODES, ICMPV6, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, libc::ETH_P_IPV6 as u16);
    frame.extend([0x60, 0, 0, 0]); // version, traffic class, flow label
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]); // next header; hop limit, without which it is not believed
    frame.extend(ip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(destination);
    frame.extend(source);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The checksum of an upper-layer message over IPv6 (RFC 8200, 8.1; RFC 1071).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, message: &[u8]) -> u16 {
    let length = message.len() as u32;
    let mut bytes = Vec::with_capacity(40 + message.len());
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, next_header]);
    bytes.extend(message);
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn an_arp_announcement_asks_everybody_for_its_own_address() {
        let frame = gratuitous_arp(ArpOperation::Request, MAC, Ipv4Addr::new(10, 0, 0, 100));
        let expected = [
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], // to everybody
            &[2, 0, 0, 0, 0, 7],                       // from this interface
            &[0x08, 0x06],                             // ARP
            &[0, 1],                                   // hardware type: Ethernet
            &[0x08, 0x00],                             // protocol type: IPv4
            &[6],                                      // hardware address length
            &[4],                                      // protocol address length
            &[0, 1],                                   // operation: request
            &[2, 0, 0, 0, 0, 7],                       // sender hardware address
            &[10, 0, 0, 100],                          // sender protocol address
            &[0, 0, 0, 0, 0, 0],                       // target hardware address: unused
            &[10, 0, 0, 100],                          // target protocol address
        ]
        .concat();
        assert_eq!(frame, expected);
    }

    #[test]
    fn its_other_form_answers_a_question_that_nobody_asked() {
        let frame = gratuitous_arp(ArpOperation::Reply, MAC, Ipv4Addr::new(10, 0, 0, 100));
        assert_eq!(frame[20..22], [0, 2]); // operation: reply
        assert_eq!(frame[32..38], MAC); // target hardware address: where it is now
        assert_eq!(frame.len(), 42);
    }

    #[test]
    fn a_neighbour_advertisement_overrides_what_all_nodes_know() {
        let ip: Ipv6Addr = "fd00::64".parse().unwrap();
        let ip_bytes = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x64];
        let expected = [
            &[0x33, 0x33, 0, 0, 0, 1][..], // to all nodes
            &[2, 0, 0, 0, 0, 7],           // from this interface
            &[0x86, 0xdd],                 // IPv6
            &[0x60, 0, 0, 0],              // version 6, traffic class, flow label
            &[0, 32],                      // payload length
            &[58],                         // next header: ICMPv6
            &[255],                        // hop limit
            &ip_bytes,                     // source
            &[0xff, 2, 0, 0, 0, 0, 0, 0],  // destination ff02::1
            &[0, 0, 0, 0, 0, 0, 0, 1],     //
            &[136, 0],                     // neighbour advertisement, code
            &[0x59, 0xcf],                 // checksum: the words sum up to 0x3a62d
            &[0x20, 0, 0, 0],              // not a router, not solicited, override
            &ip_bytes,                     // target
            &[2, 1],                       // option: target link-layer address, 8 bytes
            &[2, 0, 0, 0, 0, 7],           // it
        ]
        .concat();
        assert_eq!(unsolicited_advertisement(MAC, ip, false), expected);
        assert_eq!(unsolicited_advertisement(MAC, ip, true)[58], 0xa0);
    }

    #[test]
    fn a_checksum_carries_twice_where_it_must() {
        // RFC 1071: over a message that contains its own checksum, the sum is 0.
        for last in 0..=u16::MAX {
            let ip = Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, last);
            let sum = checksum(ip, ip, 58, &[0, 0, 0xff, 0xff]);
            let [a, b] = sum.to_be_bytes();
            assert_eq!(checksum(ip, ip, 58, &[a, b, 0xff, 0xff]), 0, "{last:x}");
        }
    }

    #[test]
    fn nothing_can_be_announced_on_lo_or_where_there_is_nothing() {
        let addr = "10.0.0.100".parse().unwrap();
        assert_eq!(announce("lo", addr), Err(Error::NotEthernet("lo".into())));
        let error = announce("nosuch7", addr).unwrap_err();
        assert_eq!(error.to_string(), "no interface nosuch7 here");
    }
}
