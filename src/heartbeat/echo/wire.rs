//! An echo request as bytes, and which bytes are an answer. Pure.

use std::net::IpAddr;

use crate::net::internet_checksum;

/// An ICMP header: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Random bytes of one question.
pub(super) type Token = [u8; 16];

named! {
    /// What makes an answer possible.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum EchoAccess {
        /// A ping socket, which needs no privilege.
        Ping = "ping socket",
        /// A raw socket (CAP_NET_RAW), since `net.ipv4.ping_group_range` forbids the other.
        Raw = "raw socket",
    }
}

/// ICMP's or ICMPv6's numbers (RFC 792; RFC 4443, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoFamily {
    V4,
    V6,
}

impl EchoFamily {
    pub(super) fn of(addr: IpAddr) -> EchoFamily {
        if addr.is_ipv4() { EchoFamily::V4 } else { EchoFamily::V6 }
    }

    fn request(self) -> u8 {
        match self {
            EchoFamily::V4 => 8,
            EchoFamily::V6 => 128,
        }
    }

    fn reply(self) -> u8 {
        match self {
            EchoFamily::V4 => 0,
            EchoFamily::V6 => 129,
        }
    }
}

/// An echo request. The kernel computes ICMPv6's checksum, and both in ping sockets.
pub(super) fn request(family: EchoFamily, identifier: u16, sequence: u16, token: Token) -> Vec<u8> {
    let mut packet = vec![family.request(), 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(token);
    if family == EchoFamily::V4 {
        let checksum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// Sequence number and token of what may be an answer. Any bytes may come.
pub(super) fn reply(
    family: EchoFamily,
    access: EchoAccess,
    identifier: u16,
    packet: &[u8],
) -> Option<(u16, Token)> {
    let icmp = match (family, access) {
        // A raw IPv4 socket gives the IP header too (raw(7)).
        (EchoFamily::V4, EchoAccess::Raw) => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            packet.get(header..)?
        }
        _ => packet,
    };
    let (header, payload) = icmp.split_first_chunk::<HEADER>()?;
    let ours = access == EchoAccess::Ping || header[4..6] == identifier.to_be_bytes();
    if header[0] != family.reply() || header[1] != 0 || !ours {
        return None;
    }
    Some((u16::from_be_bytes([header[6], header[7]]), payload.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: Token = *b"sixteen letters.";

    #[test]
    fn a_request_is_these_bytes() {
        let expected = [
            &[8, 0][..],         // echo request, code
            &[0x8d, 0x95],       // checksum
            &[0x12, 0x34],       // identifier
            &[0, 7],             // sequence number
            b"sixteen letters.", // token
        ]
        .concat();
        let packet = request(EchoFamily::V4, 0x1234, 7, TOKEN);
        assert_eq!(packet[4..], expected[4..]);
        assert_eq!(internet_checksum(&packet), 0, "{packet:x?}");
        let packet = request(EchoFamily::V6, 0x1234, 7, TOKEN);
        assert_eq!(packet, [&[128, 0, 0, 0][..], &expected[4..]].concat());
    }

    #[test]
    fn only_a_reply_of_the_right_kind_to_the_right_identifier_is_read() {
        let mut icmp = request(EchoFamily::V4, 0x1234, 7, TOKEN);
        icmp[0] = 0;
        let with_header = |first: u8, words: usize| {
            let mut packet = vec![0; words * 4];
            packet[0] = first;
            packet.extend(&icmp);
            packet
        };
        let read =
            |access, identifier, packet: &[u8]| reply(EchoFamily::V4, access, identifier, packet);
        let expected = Some((7, TOKEN));
        assert_eq!(read(EchoAccess::Raw, 0x1234, &with_header(0x45, 5)), expected);
        assert_eq!(read(EchoAccess::Raw, 0x1234, &with_header(0x4f, 15)), expected, "IP options");
        assert_eq!(read(EchoAccess::Raw, 0x1235, &with_header(0x45, 5)), None);
        assert_eq!(read(EchoAccess::Raw, 0x1234, &with_header(0x46, 5)), None);
        // A ping socket only gets its own, under an identifier of the kernel's choice.
        assert_eq!(read(EchoAccess::Ping, 0, &icmp), expected);
        assert_eq!(read(EchoAccess::Ping, 0, &icmp[..icmp.len() - 1]), None);
        assert_eq!(reply(EchoFamily::V6, EchoAccess::Ping, 0, &icmp), None);
        icmp[0] = 3;
        assert_eq!(read(EchoAccess::Ping, 0, &icmp), None, "unreachable is no answer");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            v4: bool, raw: bool,
        ) {
            let family = if v4 { EchoFamily::V4 } else { EchoFamily::V6 };
            let access = if raw { EchoAccess::Raw } else { EchoAccess::Ping };
            let _ = reply(family, access, 7, &bytes);
        }
    }
}
