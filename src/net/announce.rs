//! Tells the neighbours on a link who carries an address now: gratuitous ARP for IPv4,
//! unsolicited neighbour advertisements for IPv6.
//!
//! An announcement may be lost, so callers repeat it; each call sends it once.
//!
//! For IPv4 it is sent in both of its forms. The request (RFC 5227, 3: an ARP Announcement) is
//! what RFC 826 makes every receiver learn from, and what most systems send; a few routers and
//! switches update their tables from replies only. Neither form creates an entry where there is
//! none, and the second costs 42 bytes.

use std::net::IpAddr;

use nix::errno::Errno;

use super::frames::{ArpOperation, gratuitous_arp, unsolicited_advertisement};
use super::packet::PacketSocket;
use super::{NetError, sysctl};

/// Announces an address on an interface, once, in the calling thread's network namespace. See
/// [`Announcer`] to announce many.
///
/// # Errors
/// See [`Announcer::open`] and [`Announcer::announce`].
pub fn announce(device: &str, addr: IpAddr) -> Result<(), NetError> {
    Announcer::open(device)?.announce(addr)
}

/// A packet socket on one Ethernet interface.
#[derive(Debug)]
pub struct Announcer(PacketSocket);

impl Announcer {
    /// Opens a socket on this interface of the calling thread's network namespace. It receives
    /// nothing. Open it anew when the interface may have another Ethernet address.
    ///
    /// # Errors
    /// There is no such interface, it is no Ethernet, or the caller lacks CAP_NET_RAW.
    pub fn open(device: &str) -> Result<Announcer, NetError> {
        // Protocol 0: frames go out, none come in.
        PacketSocket::open(device, 0).map(Announcer)
    }

    /// Announces an address, once. That the interface carries it is the caller's to know.
    ///
    /// # Errors
    /// The interface is down, or the frame could not be sent.
    pub fn announce(&self, addr: IpAddr) -> Result<(), NetError> {
        let mac = self.0.mac();
        match addr {
            IpAddr::V4(ip) => {
                self.send(addr, &gratuitous_arp(ArpOperation::Request, mac, ip))?;
                self.send(addr, &gratuitous_arp(ArpOperation::Reply, mac, ip))
            }
            IpAddr::V6(ip) => {
                // One that takes back being a router makes neighbours drop their routes by it.
                let forwarding = format!("net/ipv6/conf/{}/forwarding", self.0.device());
                let router = sysctl::read(&forwarding).is_ok_and(|value| value != "0");
                self.send(addr, &unsolicited_advertisement(mac, ip, router))
            }
        }
    }

    fn send(&self, addr: IpAddr, frame: &[u8]) -> Result<(), NetError> {
        let device = || self.0.device().to_owned();
        self.0.send(frame).map_err(|errno| match errno {
            Errno::ENETDOWN => NetError::Down(device()),
            errno => NetError::Announce { addr, device: device(), errno },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_announced_on_lo_or_where_there_is_nothing() {
        let addr = "10.0.0.100".parse().unwrap();
        assert_eq!(announce("lo", addr), Err(NetError::NotEthernet("lo".into())));
        let error = announce("nosuch7", addr).unwrap_err();
        assert_eq!(error.to_string(), "no interface nosuch7 here");
    }
}
