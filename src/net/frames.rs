//! Ethernet frames in which a host says, or is asked, who has an address: ARP (RFC 826, RFC 5227)
//! and neighbour discovery (RFC 4861, RFC 4862). Pure: built and read here, sent elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;
use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// No host's: what a field holds that is not known.
    const NONE: Mac = Mac([0; 6]);
    /// Every host on the link.
    const BROADCAST: Mac = Mac([0xff; 6]);

    /// An IPv6 multicast group as an Ethernet address (RFC 2464, 7).
    fn of_group(group: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = group.octets();
        Mac([0x33, 0x33, a, b, c, d])
    }

    /// Whether it can be one host's.
    fn is_a_hosts(self) -> bool {
        self != Mac::NONE && self.0[0] & 1 == 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

pub(super) const ETHERTYPE_ARP: u16 = libc::ETH_P_ARP as u16;
pub(super) const ETHERTYPE_IPV6: u16 = libc::ETH_P_IPV6 as u16;
/// Next header: ICMPv6.
pub(super) const ICMPV6: u8 = 58;
/// ICMPv6 types (RFC 4861, 4.3 and 4.4).
const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `ARPOP_*` (linux/if_arp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArpOperation {
    Request = 1,
    Reply = 2,
}

/// A gratuitous ARP packet: sender and target are the announced address.
pub(super) fn gratuitous_arp(operation: ArpOperation, mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let target = match operation {
        // RFC 5227, 2.3: no address is asked for, so the field is not used.
        ArpOperation::Request => Mac::NONE,
        // RFC 5944, 4.6: the address to which the entry should be updated.
        ArpOperation::Reply => mac,
    };
    arp(operation, (mac, ip), (target, ip))
}

/// An ARP probe (RFC 5227, 2.1.1): who has this address? It tells no host anything of the asker,
/// so that no cache changes.
pub(super) fn arp_probe(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    arp(ArpOperation::Request, (mac, Ipv4Addr::UNSPECIFIED), (Mac::NONE, ip))
}

fn arp(operation: ArpOperation, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, sender.0, ETHERTYPE_ARP);
    frame.extend(1u16.to_be_bytes()); // hardware type: Ethernet
    frame.extend(0x0800u16.to_be_bytes()); // protocol type: IPv4
    frame.extend([6, 4]); // lengths of both addresses
    frame.extend((operation as u16).to_be_bytes());
    frame.extend(sender.0.0);
    frame.extend(sender.1.octets());
    frame.extend(target.0.0);
    frame.extend(target.1.octets());
    frame
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6): override, so that
/// caches change their entry; a router's, if it is one.
pub(super) fn unsolicited_advertisement(mac: Mac, ip: Ipv6Addr, router: bool) -> Vec<u8> {
    const ROUTER: u8 = 0x80;
    const OVERRIDE: u8 = 0x20;
    let mut message = vec![ADVERTISEMENT, 0, 0, 0]; // type, code, checksum
    message.extend([OVERRIDE | if router { ROUTER } else { 0 }, 0, 0, 0]);
    message.extend(ip.octets()); // target
    message.extend([2, 1]); // option: target link-layer address, 8 bytes
    message.extend(mac.0);
    neighbour_discovery(mac, ip, ALL_NODES, message)
}

/// A neighbour solicitation from the unspecified address, as duplicate address detection sends
/// it (RFC 4862, 5.4.2): who has this address? Who has it answers to all nodes (RFC 4861, 7.2.4).
pub(super) fn duplicate_solicitation(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0]; // type, code, checksum
    message.extend([0; 4]); // reserved
    message.extend(ip.octets()); // target
    let [.., a, b, c] = ip.octets();
    let [a, bc] = [0xff00 | u16::from(a), u16::from_be_bytes([b, c])];
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, a, bc); // solicited-node (RFC 4291, 2.7.1)
    neighbour_discovery(mac, Ipv6Addr::UNSPECIFIED, group, message)
}

fn neighbour_discovery(
    mac: Mac,
    source: Ipv6Addr,
    group: Ipv6Addr,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let checksum = icmpv6_checksum(source, group, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = ethernet(Mac::of_group(group), mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]); // version, traffic class, flow label
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]); // next header; hop limit, without which it is not believed
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The checksum of an ICMPv6 message (RFC 8200, 8.1); 0 over one that contains its own.
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(40 + message.len());
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    internet_checksum(&bytes)
}

/// The checksum of the Internet's protocols (RFC 1071), over less than 64 KiB.
pub(crate) fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// A host says that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressClaim {
    /// The address.
    pub(super) addr: IpAddr,
    /// Who has it: where neighbours would send to from now on.
    pub(super) mac: Mac,
    /// Whose probe it can be the answer to.
    pub(super) answers: Answers,
}

/// Whose probe a claim can be the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// No host's.
    NoHost,
    /// This host's: an ARP reply to it that names no address of its own.
    Host(Mac),
    /// Any host's: an answer to duplicate address detection looks like any advertisement.
    AnyHost,
}

/// Reads a frame: an ARP packet, whose sender says where it is, or a neighbour advertisement.
/// Nothing else claims anything, and what is truncated or senseless neither. Any bytes may come.
pub(super) fn claim(frame: &[u8]) -> Option<AddressClaim> {
    let (header, packet) = frame.split_first_chunk::<14>()?;
    let [destination, source] = [0, 6].map(|at| Mac(std::array::from_fn(|n| header[at + n])));
    let claim = match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_ARP => arp_claim(destination, packet)?,
        ETHERTYPE_IPV6 => advertised(source, packet)?,
        _ => return None,
    };
    claim.mac.is_a_hosts().then_some(claim)
}

fn arp_claim(destination: Mac, packet: &[u8]) -> Option<AddressClaim> {
    let packet = packet.first_chunk::<28>()?;
    let (head, rest) = packet.split_first_chunk::<8>()?;
    // Ethernet, IPv4, lengths of 6 and 4, and an operation.
    let [0, 1, 0x08, 0x00, 6, 4, 0, operation @ 1..=2] = *head else {
        return None;
    };
    let mac = |at: usize| Mac(std::array::from_fn(|n| rest[at + n]));
    let ip = |at: usize| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|n| rest[at + n]));
    let (sender, target) = ((mac(0), ip(6)), (mac(10), ip(16)));
    if sender.1.is_unspecified() {
        return None;
    }
    let is_reply = operation == ArpOperation::Reply as u8;
    let answers = match is_reply && target.1.is_unspecified() && target.0 == destination {
        true => Answers::Host(target.0),
        false => Answers::NoHost,
    };
    Some(AddressClaim { addr: sender.1.into(), mac: sender.0, answers })
}

/// A neighbour advertisement that a receiver would believe (RFC 4861, 7.1.2).
fn advertised(source: Mac, packet: &[u8]) -> Option<AddressClaim> {
    let (header, payload) = packet.split_first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = payload.get(..length)?;
    let (fixed, mut options) = message.split_first_chunk::<24>()?;
    let ip = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|n| header[at + n]));
    if header[0] >> 4 != 6
        || header[6] != ICMPV6
        || header[7] != 255
        || fixed[..2] != [ADVERTISEMENT, 0]
        || icmpv6_checksum(ip(8), ip(24), message) != 0
    {
        return None;
    }
    let target = Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|n| fixed[8 + n]));
    let mut mac = source;
    while let [kind, words, ..] = *options {
        let length = usize::from(words) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        // Target link-layer address.
        if kind == 2 && words == 1 {
            mac = Mac(std::array::from_fn(|n| option[2 + n]));
        }
        options = &options[length..];
    }
    (!target.is_multicast()).then_some(AddressClaim {
        addr: target.into(),
        mac,
        answers: Answers::AnyHost,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3464);
    const V6_BYTES: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x64];

    #[test]
    fn an_arp_announcement_asks_everybody_for_its_own_address() {
        let frame = gratuitous_arp(ArpOperation::Request, MAC, V4);
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
        let claimed = AddressClaim { addr: V4.into(), mac: MAC, answers: Answers::NoHost };
        assert_eq!(claim(&frame), Some(claimed));
    }

    #[test]
    fn its_other_form_answers_a_question_that_was_not_asked() {
        let frame = gratuitous_arp(ArpOperation::Reply, MAC, V4);
        assert_eq!(frame[20..22], [0, 2]); // operation: reply
        assert_eq!(frame[32..38], MAC.0); // target hardware address: where it is now
        assert_eq!(frame.len(), 42);
        let claimed = AddressClaim { addr: V4.into(), mac: MAC, answers: Answers::NoHost };
        assert_eq!(claim(&frame), Some(claimed));
    }

    #[test]
    fn an_arp_probe_claims_nothing_and_its_answer_is_to_the_asker() {
        let probe = arp_probe(MAC, V4);
        let expected = [
            &[0xff; 6][..],      // to everybody
            &[2, 0, 0, 0, 0, 7], // from this interface
            &[0x08, 0x06],       // ARP
            &[0, 1, 8, 0, 6, 4], // Ethernet, IPv4, lengths
            &[0, 1],             // operation: request
            &[2, 0, 0, 0, 0, 7], // sender hardware address
            &[0, 0, 0, 0],       // sender protocol address: not to be learnt
            &[0, 0, 0, 0, 0, 0], // target hardware address: asked for
            &[10, 0, 0, 100],    // target protocol address
        ]
        .concat();
        assert_eq!(probe, expected);
        assert_eq!(claim(&probe), None);

        let mut answer = arp(ArpOperation::Reply, (OTHER, V4), (MAC, Ipv4Addr::UNSPECIFIED));
        let claimed = |answers| Some(AddressClaim { addr: V4.into(), mac: OTHER, answers });
        assert_eq!(claim(&answer), claimed(Answers::NoHost), "to everybody");
        answer[..6].copy_from_slice(&MAC.0);
        assert_eq!(claim(&answer), claimed(Answers::Host(MAC)));
        answer[41] = 2;
        assert_eq!(claim(&answer), claimed(Answers::NoHost), "to one who gave an address");
    }

    #[test]
    fn a_neighbour_advertisement_overrides_what_all_nodes_know() {
        let expected = [
            &[0x33, 0x33, 0, 0, 0, 1][..], // to all nodes
            &[2, 0, 0, 0, 0, 7],           // from this interface
            &[0x86, 0xdd],                 // IPv6
            &[0x60, 0, 0, 0],              // version 6, traffic class, flow label
            &[0, 32],                      // payload length
            &[58],                         // next header: ICMPv6
            &[255],                        // hop limit
            &V6_BYTES,                     // source
            &[0xff, 2, 0, 0, 0, 0, 0, 0],  // destination ff02::1
            &[0, 0, 0, 0, 0, 0, 0, 1],     //
            &[136, 0],                     // neighbour advertisement, code
            &[0xf1, 0xaa],                 // checksum: the words sum up to 0x40e51
            &[0x20, 0, 0, 0],              // not a router, not solicited, override
            &V6_BYTES,                     // target
            &[2, 1],                       // option: target link-layer address, 8 bytes
            &[2, 0, 0, 0, 0, 7],           // it
        ]
        .concat();
        let frame = unsolicited_advertisement(MAC, V6, false);
        assert_eq!(frame, expected);
        assert_eq!(unsolicited_advertisement(MAC, V6, true)[58], 0xa0);
        let claimed = AddressClaim { addr: V6.into(), mac: MAC, answers: Answers::AnyHost };
        assert_eq!(claim(&frame), Some(claimed));
    }

    #[test]
    fn a_solicitation_asks_for_a_duplicate_without_an_own_address() {
        let expected = [
            &[0x33, 0x33, 0xff, 0x12, 0x34, 0x64][..], // to the solicited node's group
            &[2, 0, 0, 0, 0, 7],                       // from this interface
            &[0x86, 0xdd],                             // IPv6
            &[0x60, 0, 0, 0],                          // version 6, traffic class, flow label
            &[0, 24],                                  // payload length
            &[58],                                     // next header: ICMPv6
            &[255],                                    // hop limit
            &[0; 16],                                  // source: unspecified
            &[0xff, 2, 0, 0, 0, 0, 0, 0],              // destination ff02::1:ff12:3464
            &[0, 0, 0, 1, 0xff, 0x12, 0x34, 0x64],     //
            &[135, 0],                                 // neighbour solicitation, code
            &[0x14, 0xbb],                             // checksum: the words sum up to 0x3eb41
            &[0, 0, 0, 0],                             // reserved
            &V6_BYTES,                                 // target
        ]
        .concat();
        let frame = duplicate_solicitation(MAC, V6);
        assert_eq!(frame, expected);
        assert_eq!(claim(&frame), None);
    }

    #[test]
    fn an_advertisement_without_the_option_means_its_sender() {
        let full = unsolicited_advertisement(MAC, V6, false);
        let mut message = full[54..78].to_vec();
        message[2..4].fill(0);
        let frame = neighbour_discovery(OTHER, V6, ALL_NODES, message);
        assert_eq!(claim(&frame).map(|claim| claim.mac), Some(OTHER));
    }

    #[test]
    fn what_a_receiver_would_not_believe_claims_nothing() {
        let good = unsolicited_advertisement(MAC, V6, false);
        let with = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            claim(&frame)
        };
        assert_eq!(with(21, 254), None, "it came from another link");
        assert_eq!(with(70, 1), None, "its checksum is wrong");
        assert_eq!(with(20, 17), None, "it is UDP");
        assert_eq!(with(55, 1), None, "of another code");
        assert_eq!(with(19, 255), None, "it is truncated");
        for length in 0..good.len() {
            assert_eq!(claim(&good[..length]), None, "{length} bytes");
        }
        // An option of length 0 would be read for ever.
        let mut message = good[54..].to_vec();
        message[25] = 0;
        message[2..4].fill(0);
        assert_eq!(claim(&neighbour_discovery(MAC, V6, ALL_NODES, message)), None);
        // No host has the address of all.
        assert_eq!(claim(&gratuitous_arp(ArpOperation::Reply, Mac::BROADCAST, V4)), None);
        assert_eq!(claim(&gratuitous_arp(ArpOperation::Reply, Mac::NONE, V4)), None);
        let all = unsolicited_advertisement(MAC, ALL_NODES, false);
        assert_eq!(claim(&all), None);
    }

    #[test]
    fn padding_changes_nothing() {
        for frame in [
            gratuitous_arp(ArpOperation::Request, MAC, V4),
            unsolicited_advertisement(MAC, V6, false),
        ] {
            let padded = [&frame[..], &[0; 30]].concat();
            assert_eq!(claim(&padded), claim(&frame));
            assert!(claim(&padded).is_some());
        }
    }

    #[test]
    fn a_checksum_carries_twice_where_it_must() {
        // RFC 1071: over a message that contains its own checksum, the sum is 0.
        for last in 0..=u16::MAX {
            let ip = Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, last);
            let sum = icmpv6_checksum(ip, ip, &[0, 0, 0xff, 0xff]);
            let [a, b] = sum.to_be_bytes();
            assert_eq!(icmpv6_checksum(ip, ip, &[a, b, 0xff, 0xff]), 0, "{last:x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_claim_or_none(
            start in prop::sample::select(vec![
                arp_probe(MAC, V4),
                gratuitous_arp(ArpOperation::Reply, MAC, V4),
                unsolicited_advertisement(MAC, V6, false),
            ]),
            keep in 0..60usize,
            tail in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let frame = [&start[..keep.min(start.len())], &tail[..]].concat();
            if let Some(claim) = claim(&frame) {
                prop_assert!(claim.mac.is_a_hosts());
            }
        }
    }
}
