//! Classic BPF programs (linux/filter.h) by which the kernel keeps everything from a packet
//! socket but claims to the addresses that matter: a director's traffic must not wake a watch
//! that waits for one packet in a year.
//!
//! What they let through is read again, and with more care, by [`super::frames::claim`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frames::{ADVERTISEMENT, ICMPV6, Mac};

/// `BPF_LD | BPF_ABS`, of 4, 2 and 1 bytes in network order.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// Where things are in a frame.
const SOURCE: u32 = 6;
const ARP_SENDER: u32 = 14 + 14;
const NEXT_HEADER: u32 = 14 + 6;
const ICMPV6_TYPE: u32 = 14 + 40;
const ADVERTISED: u32 = 14 + 40 + 8;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilterInstruction {
    pub(super) code: u16,
    /// How many instructions to skip if the comparison holds, and if not.
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) value: u32,
}

fn load(size: u16, at: u32) -> FilterInstruction {
    FilterInstruction { code: size, if_true: 0, if_false: 0, value: at }
}

/// Goes on with the next instruction if equal, else skips so many.
fn or_skip(value: u32, skip: u8) -> FilterInstruction {
    FilterInstruction { code: EQUAL, if_true: 0, if_false: skip, value }
}

fn accept() -> FilterInstruction {
    FilterInstruction { code: RETURN, if_true: 0, if_false: 0, value: u32::MAX }
}

fn drop() -> FilterInstruction {
    FilterInstruction { code: RETURN, if_true: 0, if_false: 0, value: 0 }
}

/// Drops frames that this host sent itself and that came back.
fn not_ours(mac: Mac) -> [FilterInstruction; 5] {
    let [a, b, c, d, e, f] = mac.0;
    [
        load(LOAD_WORD, SOURCE),
        or_skip(u32::from_be_bytes([a, b, c, d]), 3),
        load(LOAD_HALF, SOURCE + 4),
        or_skip(u32::from(u16::from_be_bytes([e, f])), 1),
        drop(),
    ]
}

/// Of rtnetlink's notifications: all but those of routes that are not local (`RTN_LOCAL`). The
/// arguments are the types of a notification of a route that was added and that was deleted.
pub(super) fn only_local_routes(added: u16, deleted: u16) -> Vec<FilterInstruction> {
    // struct nlmsghdr is in this machine's byte order, and a load is in network order; rtm_type is
    // the eighth byte behind it.
    const TYPE: u32 = 4;
    const ROUTE_TYPE: u32 = 16 + 7;
    const LOCAL: u32 = 2;
    let wire = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    vec![
        load(LOAD_HALF, TYPE),
        FilterInstruction { if_true: 1, ..or_skip(wire(added), 0) },
        or_skip(wire(deleted), 2),
        load(LOAD_BYTE, ROUTE_TYPE),
        or_skip(LOCAL, 1),
        accept(),
        drop(),
    ]
}

/// Of ARP packets: those of others whose sender has one of these addresses.
pub(super) fn arp_claims(mac: Mac, addrs: &[Ipv4Addr]) -> Vec<FilterInstruction> {
    let mut program = not_ours(mac).to_vec();
    program.push(load(LOAD_WORD, ARP_SENDER));
    for addr in addrs {
        program.extend([or_skip(u32::from(*addr), 1), accept()]);
    }
    program.push(drop());
    or_all(program, not_ours(mac).to_vec())
}

/// Of IPv6 packets: neighbour advertisements of others for one of these addresses.
pub(super) fn advertisements(mac: Mac, addrs: &[Ipv6Addr]) -> Vec<FilterInstruction> {
    let mut head = not_ours(mac).to_vec();
    for (at, value) in [(NEXT_HEADER, ICMPV6), (ICMPV6_TYPE, ADVERTISEMENT)] {
        let skip_drop = FilterInstruction { if_true: 1, ..or_skip(value.into(), 0) };
        head.extend([load(LOAD_BYTE, at), skip_drop, drop()]);
    }
    let mut program = head.clone();
    for addr in addrs {
        let octets = addr.octets();
        for (n, word) in octets.chunks(4).enumerate() {
            let value = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
            let rest = 3 - n as u8;
            program.push(load(LOAD_WORD, ADVERTISED + 4 * n as u32));
            program.push(or_skip(value, 2 * rest + 1));
        }
        program.push(accept());
    }
    program.push(drop());
    or_all(program, head)
}

/// Where the kernel takes no program that long, all claims are let through.
fn or_all(
    program: Vec<FilterInstruction>,
    mut head: Vec<FilterInstruction>,
) -> Vec<FilterInstruction> {
    if program.len() <= LONGEST {
        return program;
    }
    head.push(accept());
    head
}

/// The addresses of one family.
pub(super) fn of_family(addrs: impl Iterator<Item = IpAddr>) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for addr in addrs {
        match addr {
            IpAddr::V4(addr) => v4.push(addr),
            IpAddr::V6(addr) => v6.push(addr),
        }
    }
    (v4, v6)
}

#[cfg(test)]
mod tests {
    use super::super::frames::{
        ArpOperation, arp_probe, duplicate_solicitation, gratuitous_arp, unsolicited_advertisement,
    };
    use super::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// What the kernel does (Documentation/networking/filter.rst), for the instructions above.
    fn passes(program: &[FilterInstruction], frame: &[u8]) -> bool {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let FilterInstruction { code, if_true, if_false, value } = program[at];
            let length = match code {
                LOAD_WORD => 4,
                LOAD_HALF => 2,
                LOAD_BYTE => 1,
                EQUAL => {
                    at += 1 + usize::from(if accumulator == value { if_true } else { if_false });
                    continue;
                }
                RETURN => return value != 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            // A load beyond the end of the packet drops it.
            let Some(bytes) = frame.get(value as usize..value as usize + length) else {
                return false;
            };
            accumulator = bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            at += 1;
        }
    }

    fn v4(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
    }

    #[test]
    fn of_routes_only_local_ones_wake_and_everything_else_does() {
        let program = only_local_routes(24, 25);
        let message = |kind: u16, route_type: u8| {
            let mut bytes = vec![0; 28];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[23] = route_type;
            bytes
        };
        for (kind, route_type, expected) in [
            (24, 2, true),
            (25, 2, true),
            (24, 1, false),
            (25, 1, false),
            (16, 1, true),
            (20, 0, true),
            (21, 1, true),
        ] {
            let passed = passes(&program, &message(kind, route_type));
            assert_eq!(passed, expected, "type {kind}, route type {route_type}");
        }
    }

    #[test]
    fn others_arp_packets_of_watched_addresses_pass() {
        let program = arp_claims(OURS, &[v4(100), v4(101)]);
        for (mac, last, expected) in
            [(OTHER, 100, true), (OTHER, 101, true), (OTHER, 102, false), (OURS, 100, false)]
        {
            for operation in [ArpOperation::Request, ArpOperation::Reply] {
                let frame = gratuitous_arp(operation, mac, v4(last));
                assert_eq!(passes(&program, &frame), expected, "{mac} {last} {operation:?}");
            }
        }
        assert!(!passes(&program, &arp_probe(OTHER, v4(100))));
        assert!(!passes(&program, &[0; 20]));
        assert!(!passes(
            &arp_claims(OURS, &[]),
            &gratuitous_arp(ArpOperation::Reply, OTHER, v4(1))
        ));
    }

    #[test]
    fn others_advertisements_of_watched_addresses_pass() {
        let program = advertisements(OURS, &[v6(100), v6(101)]);
        for (mac, last, expected) in
            [(OTHER, 100, true), (OTHER, 101, true), (OTHER, 102, false), (OURS, 100, false)]
        {
            let frame = unsolicited_advertisement(mac, v6(last), false);
            assert_eq!(passes(&program, &frame), expected, "{mac} {last}");
        }
        assert!(!passes(&program, &duplicate_solicitation(OTHER, v6(100))));
        let mut datagram = unsolicited_advertisement(OTHER, v6(100), false);
        datagram[20] = 17;
        assert!(!passes(&program, &datagram));
        assert!(!passes(&program, &datagram[..60]));
        assert!(!passes(&advertisements(OURS, &[]), &datagram));
    }

    #[test]
    fn so_many_addresses_that_the_kernel_takes_no_such_program_let_all_claims_through() {
        let many4: Vec<Ipv4Addr> = (0..3000).map(Ipv4Addr::from_bits).collect();
        let many6: Vec<Ipv6Addr> = (0..1000).map(v6).collect();
        let programs = [arp_claims(OURS, &many4), advertisements(OURS, &many6)];
        assert!(programs.iter().all(|program| program.len() <= LONGEST));
        let claim = |mac| gratuitous_arp(ArpOperation::Reply, mac, v4(1));
        assert!(passes(&programs[0], &claim(OTHER)));
        assert!(!passes(&programs[0], &claim(OURS)));
        let claim = |mac| unsolicited_advertisement(mac, v6(2000), false);
        assert!(passes(&programs[1], &claim(OTHER)));
        assert!(!passes(&programs[1], &claim(OURS)));
        assert!(!passes(&programs[1], &duplicate_solicitation(OTHER, v6(2000))));
    }
}
