//! The words of sock_diag(7): a dump request with its port filter, and the rows of the reply.
//!
//! Pure: bytes in, bytes out. Shapes are those of linux/sock_diag.h and linux/inet_diag.h.
//! Integers are in the machine's order except ports and addresses, which are in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::consts::nl::NlmF;

use super::ListenersError;
use crate::netlink::{Writer, table, u32_at};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_REQ_BYTECODE` and `INET_DIAG_SKV6ONLY` (linux/inet_diag.h).
const REQ_BYTECODE: u16 = 1;
const SKV6ONLY: usize = 11;
/// `INET_DIAG_BC_JMP`, `INET_DIAG_BC_S_GE`, `INET_DIAG_BC_S_LE` (linux/inet_diag.h).
const BC_JMP: u8 = 1;
const BC_S_GE: u8 = 2;
const BC_S_LE: u8 = 3;

/// Sizes of `struct inet_diag_req_v2`, `struct inet_diag_msg`.
const REQUEST: usize = 56;
const ROW: usize = 72;

/// Address families (linux/socket.h): a dump is of one family.
pub(super) const AF_INET: u8 = 2;
/// See [`AF_INET`].
pub(super) const AF_INET6: u8 = 10;

/// Socket states (net/tcp_states.h), also used by UDP (1 connected, 7 not) and SCTP.
pub(super) const ESTABLISHED: u8 = 1;
pub(super) const FIN_WAIT1: u8 = 4;
pub(super) const FIN_WAIT2: u8 = 5;
pub(super) const CLOSE: u8 = 7;
pub(super) const CLOSE_WAIT: u8 = 8;
pub(super) const LAST_ACK: u8 = 9;
pub(super) const LISTEN: u8 = 10;
pub(super) const CLOSING: u8 = 11;

/// `idiag_timer` of a time-wait socket, whatever state it stands for (net/ipv4/inet_diag.c).
pub(super) const TIMER_TIME_WAIT: u8 = 3;

/// More ranges than this are filtered in user space: the kernel checks a filter in quadratic
/// time at each dump, and past some point copying the rows is the cheaper way.
const MAX_FILTER_RANGES: usize = 64;

/// One dump request.
pub(super) struct DiagRequest<'a> {
    pub(super) family: u8,
    /// `IPPROTO_*`.
    pub(super) protocol: u8,
    /// States wanted, one bit for each.
    pub(super) states: u32,
    /// Sorted, disjoint local port ranges; none for all ports.
    pub(super) ranges: &'a [(u16, u16)],
}

impl DiagRequest<'_> {
    /// Appends the message as the kernel wants it.
    pub(super) fn write(&self, buffer: &mut Vec<u8>, sequence: u32) {
        let mut fixed = [0; REQUEST];
        fixed[0] = self.family;
        fixed[1] = self.protocol;
        fixed[4..8].copy_from_slice(&self.states.to_ne_bytes());
        // Any ports, addresses and interface; INET_DIAG_NOCOOKIE, twice.
        fixed[48..].fill(0xff);
        let filter = port_filter(self.ranges);
        let flags = NlmF::REQUEST | NlmF::DUMP;
        let mut writer = Writer::begin(buffer, SOCK_DIAG_BY_FAMILY, flags, sequence, &fixed);
        if !filter.is_empty() {
            writer.bytes(REQ_BYTECODE, &filter);
        }
        writer.end();
    }

    /// The message alone.
    #[cfg(test)]
    pub(super) fn to_bytes(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, sequence);
        bytes
    }
}

/// The port filter as `struct inet_diag_bc_op`s; empty for "every port".
///
/// Each range is five operations, four bytes each; `->` is a jump if the test fails:
///
/// ```text
///   S_GE start   -> next range, or reject after the last
///   S_LE end     -> next range, or reject after the last
///   JMP end      (absent in the last range)
/// ```
///
/// A jump is relative to its own operation; one that lands exactly behind the last operation
/// accepts, one that lands four bytes further rejects. Too many ranges are widened to their
/// hull: the caller filters every row again anyway.
fn port_filter(ranges: &[(u16, u16)]) -> Vec<u8> {
    let hull;
    let ranges = match ranges {
        [] | [(0 | 1, u16::MAX)] => return Vec::new(),
        [first, .., last] if ranges.len() > MAX_FILTER_RANGES => {
            hull = [(first.0, last.1)];
            &hull
        }
        _ => ranges,
    };
    let mut out = Vec::with_capacity(20 * ranges.len());
    let end = 20 * ranges.len() - 4;
    let op = |out: &mut Vec<u8>, code: u8, yes: u8, no: usize| {
        out.extend_from_slice(&[code, yes]);
        out.extend_from_slice(&(no as u16).to_ne_bytes());
    };
    for (index, (start, stop)) in ranges.iter().enumerate() {
        let at = 20 * index;
        let last = index + 1 == ranges.len();
        let next = if last { end + 4 } else { at + 20 };
        op(&mut out, BC_S_GE, 8, next - at);
        op(&mut out, 0, 0, usize::from(*start));
        op(&mut out, BC_S_LE, 8, next - at - 8);
        op(&mut out, 0, 0, usize::from(*stop));
        if !last {
            op(&mut out, BC_JMP, 4, end - at - 16);
        }
    }
    out
}

/// One socket of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketRow {
    pub(super) state: u8,
    pub(super) timer: u8,
    pub(super) addr: IpAddr,
    pub(super) port: u16,
    pub(super) remote_addr: IpAddr,
    pub(super) remote_port: u16,
    pub(super) device: u32,
    pub(super) cookie: u64,
    pub(super) rqueue: u32,
    pub(super) wqueue: u32,
    pub(super) uid: u32,
    /// 0 for a connection that no process has accepted yet.
    pub(super) inode: u32,
    pub(super) v6only: bool,
}

/// Reads a message of a dump: one `struct inet_diag_msg` and the attributes behind it.
pub(super) fn read(kind: u16, body: &[u8]) -> Result<SocketRow, ListenersError> {
    if kind != SOCK_DIAG_BY_FAMILY {
        return Err(ListenersError::Malformed("a message of an unknown type"));
    }
    let fixed: &[u8; ROW] =
        body.first_chunk().ok_or(ListenersError::Malformed("a truncated row"))?;
    let family = fixed[0];
    let address = |at: usize| -> Result<IpAddr, ListenersError> {
        let bytes: [u8; 16] = fixed[at..at + 16].try_into().expect("sixteen bytes");
        match family {
            AF_INET => Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            AF_INET6 => Ok(Ipv6Addr::from(bytes).into()),
            _ => Err(ListenersError::Malformed("a row of an unknown address family")),
        }
    };
    let word = |at: usize| u32_at(fixed, at).expect("within the row");
    let v6only = match table::<{ SKV6ONLY + 1 }>(&body[ROW..])?[SKV6ONLY] {
        Some(value) => *value.first().ok_or(ListenersError::Malformed("an empty attribute"))? != 0,
        None => false,
    };
    Ok(SocketRow {
        state: fixed[1],
        timer: fixed[2],
        port: u16::from_be_bytes([fixed[4], fixed[5]]),
        remote_port: u16::from_be_bytes([fixed[6], fixed[7]]),
        addr: address(8)?,
        remote_addr: address(24)?,
        device: word(40),
        cookie: u64::from(word(44)) | u64::from(word(48)) << 32,
        rqueue: word(56),
        wqueue: word(60),
        uid: word(64),
        inode: word(68),
        v6only,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::{Body, Messages};

    /// What `ss` would show as `LISTEN 1 128 [::]:443`, with its v6only flag, as a 6.18 kernel
    /// sends it: header, row, two attributes.
    fn reply() -> Vec<u8> {
        let mut bytes = vec![];
        // struct nlmsghdr
        bytes.extend(104u32.to_ne_bytes()); // nlmsg_len
        bytes.extend(20u16.to_ne_bytes()); // nlmsg_type: SOCK_DIAG_BY_FAMILY
        bytes.extend(2u16.to_ne_bytes()); // nlmsg_flags: NLM_F_MULTI
        bytes.extend(7u32.to_ne_bytes()); // nlmsg_seq
        bytes.extend(4242u32.to_ne_bytes()); // nlmsg_pid
        // struct inet_diag_msg
        bytes.extend([10, 10, 0, 0]); // AF_INET6, TCP_LISTEN, timer, retrans
        bytes.extend([0x01, 0xbb]); // idiag_sport 443
        bytes.extend([0, 0]); // idiag_dport
        bytes.extend([0; 16]); // idiag_src ::
        bytes.extend([0; 16]); // idiag_dst ::
        bytes.extend(3u32.to_ne_bytes()); // idiag_if
        bytes.extend(0x9abc_def0u32.to_ne_bytes()); // idiag_cookie, low
        bytes.extend(0x1234u32.to_ne_bytes()); // idiag_cookie, high
        bytes.extend(0u32.to_ne_bytes()); // idiag_expires
        bytes.extend(1u32.to_ne_bytes()); // idiag_rqueue
        bytes.extend(128u32.to_ne_bytes()); // idiag_wqueue
        bytes.extend(33u32.to_ne_bytes()); // idiag_uid
        bytes.extend(777u32.to_ne_bytes()); // idiag_inode
        bytes.extend(5u16.to_ne_bytes()); // nla_len
        bytes.extend(8u16.to_ne_bytes()); // INET_DIAG_SHUTDOWN
        bytes.extend([0, 0, 0, 0]); // none, padding
        bytes.extend(5u16.to_ne_bytes()); // nla_len
        bytes.extend(11u16.to_ne_bytes()); // INET_DIAG_SKV6ONLY
        bytes.extend([1, 0, 0, 0]); // yes, padding
        assert_eq!(bytes.len(), 104);
        bytes
    }

    fn row(bytes: &[u8]) -> Result<SocketRow, ListenersError> {
        match Messages::new(bytes).next().expect("one message")?.body {
            Body::Reply(kind, body) => read(kind, body),
            body => panic!("{body:?}"),
        }
    }

    #[test]
    fn a_listening_socket_is_read_with_its_queue_owner_cookie_and_v6only_flag() {
        let expected = SocketRow {
            state: LISTEN,
            timer: 0,
            addr: "::".parse().unwrap(),
            port: 443,
            remote_addr: "::".parse().unwrap(),
            remote_port: 0,
            device: 3,
            cookie: 0x1234_9abc_def0,
            rqueue: 1,
            wqueue: 128,
            uid: 33,
            inode: 777,
            v6only: true,
        };
        assert_eq!(row(&reply()), Ok(expected));
    }

    #[test]
    fn a_reply_cut_anywhere_is_an_error() {
        let whole = reply();
        for end in 1..whole.len() {
            assert!(row(&whole[..end]).is_err(), "cut at {end}");
            // Once more, past the header's checks. Behind the row are two attributes.
            if end >= 16 && ![88, 96].contains(&end) {
                let mut cut = whole[..end].to_vec();
                cut[..4].copy_from_slice(&(end as u32).to_ne_bytes());
                assert_eq!(
                    row(&cut).is_err(),
                    ![93, 94, 95, 101, 102, 103].contains(&end),
                    "{end}"
                );
            }
        }
    }

    #[test]
    fn an_attribute_that_claims_no_length_is_an_error_and_not_an_endless_loop() {
        let mut attribute = reply();
        attribute[88..90].copy_from_slice(&0u16.to_ne_bytes());
        assert!(row(&attribute).is_err());
    }

    #[test]
    fn a_message_of_another_type_is_an_error() {
        let mut other = reply();
        other[4] = 21;
        assert!(row(&other).is_err());
    }

    #[test]
    fn a_request_without_ranges_is_header_and_request_only() {
        let request =
            DiagRequest { family: AF_INET6, protocol: 6, states: 1 << LISTEN, ranges: &[] };
        let mut expected = vec![];
        expected.extend(72u32.to_ne_bytes()); // nlmsg_len
        expected.extend(20u16.to_ne_bytes()); // SOCK_DIAG_BY_FAMILY
        expected.extend(0x301u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_DUMP
        expected.extend(9u32.to_ne_bytes()); // nlmsg_seq
        expected.extend(0u32.to_ne_bytes()); // nlmsg_pid
        expected.extend([10, 6, 0, 0]); // AF_INET6, IPPROTO_TCP, no extensions, pad
        expected.extend(0x400u32.to_ne_bytes()); // idiag_states: LISTEN
        expected.extend([0; 40]); // idiag_sport, idiag_dport, idiag_src, idiag_dst, idiag_if
        expected.extend([0xff; 8]); // idiag_cookie: INET_DIAG_NOCOOKIE
        assert_eq!(request.to_bytes(9), expected);
    }

    #[test]
    fn two_ranges_become_nine_operations_in_the_request() {
        let ranges = [(80, 89), (443, 443)];
        let request =
            DiagRequest { family: AF_INET, protocol: 6, states: 1 << LISTEN, ranges: &ranges };
        let op = |code: u8, yes: u8, no: u16| {
            let no = no.to_ne_bytes();
            [code, yes, no[0], no[1]]
        };
        let mut expected = vec![];
        expected.extend(40u16.to_ne_bytes()); // nla_len
        expected.extend(1u16.to_ne_bytes()); // INET_DIAG_REQ_BYTECODE
        expected.extend(op(2, 8, 20)); //  0: S_GE 80, else -> 20
        expected.extend(op(0, 0, 80));
        expected.extend(op(3, 8, 12)); //  8: S_LE 89, else -> 20
        expected.extend(op(0, 0, 89));
        expected.extend(op(1, 4, 20)); // 16: JMP -> 36, accept
        expected.extend(op(2, 8, 20)); // 20: S_GE 443, else -> 40, reject
        expected.extend(op(0, 0, 443));
        expected.extend(op(3, 8, 12)); // 28: S_LE 443, else -> 40, reject
        expected.extend(op(0, 0, 443)); // 36: accept
        assert_eq!(request.to_bytes(9)[72..], expected);
    }

    /// What inet_diag.c makes of a filter (`inet_diag_bc_run`, `inet_diag_bc_audit`): accepted
    /// or not; `None` if the kernel would refuse to load it.
    fn run(filter: &[u8], port: u16) -> Option<bool> {
        let field = |at: usize| u16::from_ne_bytes([filter[at + 2], filter[at + 3]]);
        // The audit walks the "yes" path, and every "no" must land on it or reject.
        let mut stops = vec![];
        let mut at = 0;
        while at < filter.len() {
            stops.push(at);
            at += filter[at + 1] as usize;
        }
        stops.extend([filter.len(), filter.len() + 4]);
        if at != filter.len()
            || stops[..stops.len() - 2].iter().any(|at| {
                let least = if filter[*at] == BC_JMP { 4 } else { 8 };
                field(*at) < least || !stops.contains(&(at + field(*at) as usize))
            })
        {
            return None;
        }
        let mut at = 0;
        while at < filter.len() {
            let yes = match filter[at] {
                BC_S_GE => port >= field(at + 4),
                BC_S_LE => port <= field(at + 4),
                BC_JMP => false,
                _ => return None,
            };
            at += if yes { filter[at + 1] as usize } else { field(at) as usize };
        }
        Some(at == filter.len())
    }

    #[test]
    fn all_ports_need_no_filter_and_very_many_ranges_are_widened_to_their_hull() {
        assert!(port_filter(&[(1, 65535)]).is_empty());
        let many: Vec<_> = (0..65).map(|i| (100 + 10 * i, 103 + 10 * i)).collect();
        let filter = port_filter(&many);
        assert_eq!(run(&filter, 99), Some(false));
        assert_eq!(run(&filter, 105), Some(true));
        assert_eq!(run(&filter, 743), Some(true));
        assert_eq!(run(&filter, 744), Some(false));
    }

    proptest! {
        #[test]
        fn the_filter_is_sound_and_accepts_exactly_the_ranges(
            starts in prop::collection::btree_set(1u16..2000, 1..=MAX_FILTER_RANGES),
            length in 0u16..3,
            port in 0u16..2010,
        ) {
            let ranges: crate::listeners::Ranges = starts
                .into_iter()
                .map(|start| (crate::protocol::Protocol::Tcp, start, start + length))
                .collect();
            let ranges = ranges.of(crate::protocol::Protocol::Tcp);
            let expected = ranges.iter().any(|r| (r.0..=r.1).contains(&port));
            prop_assert_eq!(run(&port_filter(ranges), port), Some(expected));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(SOCK_DIAG_BY_FAMILY, &body);
        }

        #[test]
        fn a_reply_with_any_byte_changed_never_makes_the_parser_panic(
            at in 16usize..104,
            value in any::<u8>(),
        ) {
            let mut bytes = reply();
            bytes[at] = value;
            let _ = row(&bytes);
        }
    }
}
