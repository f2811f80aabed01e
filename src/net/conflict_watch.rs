//! Notices another host that answers for an address of this one.
//!
//! An active director that cannot reach the store has to yield to another one all the same. What
//! it can still see is the other's announcement of the CVIP; and since anybody can forge one
//! packet, it then asks itself who has the address, as duplicate address detection does: ARP
//! probes (RFC 5227, 2.1.1), neighbour solicitations from the unspecified address (RFC 4862,
//! 5.4.2). Neither changes anybody's cache. [`AddressConflicts`] says when it is enough.
//!
//! What this host itself says does not count, on whatever interface it says it. A host that can
//! answer three questions on this link has the address for everybody there, be it as a director
//! or as an intruder: ARP and neighbour discovery cannot tell them apart.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::NetError;
use super::conflict::{AddressConflicts, Claimed, ConflictState};
use super::filter::{advertisements, arp_claims, of_family};
use super::frames::{
    AddressClaim, Answers, ETHERTYPE_ARP, ETHERTYPE_IPV6, Mac, arp_probe, claim,
    duplicate_solicitation,
};
use super::packet::{PacketSocket, own_macs};
use crate::clock::Instant;

/// Most frames that one step takes from each socket.
const AT_ONCE: usize = 256;

/// Watches addresses on one interface, the one that carries them.
#[derive(Debug)]
pub struct ConflictWatch {
    arp: PacketSocket,
    nd: PacketSocket,
    /// Every Ethernet address of this host.
    ours: BTreeSet<Mac>,
    conflicts: AddressConflicts,
}

impl ConflictWatch {
    /// Watches these addresses on an Ethernet interface of the calling thread's network
    /// namespace. Open it anew when the interface may have another Ethernet address.
    ///
    /// # Errors
    /// There is no such interface, it is no Ethernet, or the caller lacks CAP_NET_RAW.
    pub fn open(
        device: &str,
        addrs: impl IntoIterator<Item = IpAddr>,
    ) -> Result<ConflictWatch, NetError> {
        let mut watch = ConflictWatch {
            arp: PacketSocket::open(device, ETHERTYPE_ARP)?,
            nd: PacketSocket::open(device, ETHERTYPE_IPV6)?,
            ours: BTreeSet::new(),
            conflicts: AddressConflicts::default(),
        };
        watch.watch(addrs)?;
        Ok(watch)
    }

    /// Watches these addresses and no others. What is known of those watched before stays known.
    ///
    /// # Errors
    /// The kernel refuses; what was watched before is watched on.
    pub fn watch(&mut self, addrs: impl IntoIterator<Item = IpAddr>) -> Result<(), NetError> {
        let addrs: BTreeSet<IpAddr> = addrs.into_iter().collect();
        let (v4, v6) = of_family(addrs.iter().copied());
        self.arp.filter(&arp_claims(self.arp.mac(), &v4))?;
        self.nd.filter(&advertisements(self.nd.mac(), &v6))?;
        self.ours = own_macs()?;
        self.conflicts.watch(addrs);
        Ok(())
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.arp.as_fd(), self.nd.as_fd()]
    }

    /// How long a step may wait; none: until a packet arrives.
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        self.conflicts.due().map(|due| due.saturating_duration_since(now))
    }

    /// The caller has a reason of its own to ask who else has an address: an announcement may
    /// have been lost.
    pub fn doubt(&mut self, addr: IpAddr, now: Instant) {
        self.conflicts.doubt(addr, now);
    }

    /// Hears what others say, and asks what is to be asked.
    ///
    /// # Errors
    /// The interface is down or gone, or a question could not be sent. The rest is done all the
    /// same; a question is asked again later.
    pub fn step(&mut self, now: Instant) -> Result<(), NetError> {
        let heard = self.hear(now);
        let mut result = heard.map_err(|errno| match errno {
            Errno::ENETDOWN => NetError::Down(self.arp.device().to_owned()),
            errno => NetError::InterfaceDown { device: self.arp.device().to_owned(), errno },
        });
        for addr in self.conflicts.questions(now) {
            let sent = match addr {
                IpAddr::V4(ip) => self.arp.send(&arp_probe(self.arp.mac(), ip)),
                IpAddr::V6(ip) => self.nd.send(&duplicate_solicitation(self.nd.mac(), ip)),
            };
            self.conflicts.asked(addr, sent.is_ok(), now);
            if let Err(errno) = sent {
                let device = self.arp.device().to_owned();
                result = result.and(Err(match errno {
                    Errno::ENETDOWN => NetError::Down(device),
                    errno => NetError::Probe { addr, device, errno },
                }));
            }
        }
        result
    }

    /// What other hosts claimed since this was last asked, one claim for each address.
    pub fn take_claims(&mut self) -> Vec<Claimed> {
        self.conflicts.take_claims()
    }

    /// What is known of a conflicting host for an address; none: it is not watched.
    pub fn state(&self, addr: IpAddr) -> Option<ConflictState> {
        self.conflicts.state(addr)
    }

    /// The addresses that another host has been seen to have, with its Ethernet address.
    pub fn confirmed(&self) -> impl Iterator<Item = (IpAddr, Mac)> {
        self.conflicts.confirmed()
    }

    fn hear(&mut self, now: Instant) -> Result<(), Errno> {
        let mut outcome = Ok(());
        let mut claims = Vec::new();
        // The longest claim that makes sense is far shorter.
        let mut frame = [0; 512];
        for socket in [&self.arp, &self.nd] {
            for _ in 0..AT_ONCE {
                match socket.receive(&mut frame) {
                    Ok(Some(length)) => claims.extend(claim(&frame[..length])),
                    Ok(None) => break,
                    Err(errno) => {
                        outcome = Err(errno);
                        break;
                    }
                }
            }
        }
        for AddressClaim { addr, mac, answers } in claims {
            if self.ours.contains(&mac) {
                continue;
            }
            let is_answer = match answers {
                Answers::NoHost => false,
                Answers::Host(asker) => asker == self.arp.mac(),
                Answers::AnyHost => true,
            };
            let to_all = !matches!(answers, Answers::Host(_));
            self.conflicts.claimed(Claimed { addr, by: mac, to_all }, is_answer, now);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_can_only_be_watched_for_on_ethernet() {
        let error = ConflictWatch::open("lo", []).unwrap_err();
        assert_eq!(error, NetError::NotEthernet("lo".into()));
        assert_eq!(
            ConflictWatch::open("nosuch7", []).unwrap_err().to_string(),
            "no interface nosuch7 here"
        );
    }
}
