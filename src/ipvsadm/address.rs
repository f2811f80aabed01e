//! Numbers, addresses and ports as the command line writes them.
//!
//! Each function follows the C function that the original reads with, down to what that one
//! lets pass: `1.2` is an address, `+5` a weight, `0x7f000001` a host.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

use super::names::Names;
use crate::protocol::Protocol;

/// What isspace(3) takes for a blank in the C locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The leading decimal number of `text` as strtol(3) reads it, and what follows it; `None`
/// without a digit. A number that does not fit is clamped, and `false`.
fn leading_number(text: &str) -> Option<(i64, bool, &str)> {
    let text = text.trim_start_matches(|c: char| c.is_ascii() && is_blank(c as u8));
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let mut value: i64 = 0;
    let mut fits = true;
    for digit in digits[..end].bytes().map(|byte| i64::from(byte - b'0')) {
        let digit = if negative { -digit } else { digit };
        match value.checked_mul(10).and_then(|tens| tens.checked_add(digit)) {
            Some(next) => value = next,
            None => {
                fits = false;
                value = if negative { i64::MIN } else { i64::MAX };
                break;
            }
        }
    }
    Some((value, fits, &digits[end..]))
}

/// A decimal number within bounds, with nothing after it.
pub fn number(text: &str, min: u32, max: u32) -> Option<u32> {
    match leading_number(text)? {
        (value, true, "") => u32::try_from(value).ok().filter(|n| (min..=max).contains(n)),
        _ => None,
    }
}

/// A number as atoi(3) reads it: anything may follow, 0 if there is none.
pub fn loose_number(text: &str) -> i32 {
    leading_number(text).map_or(0, |(value, _, _)| value as i32)
}

/// An IPv4 address as inet_aton(3) reads it: one to four parts, each decimal, octal or
/// hexadecimal, the last one filling the bytes that are left; a blank ends it.
pub fn inet_aton(text: impl AsRef<[u8]>) -> Option<Ipv4Addr> {
    let mut bytes = text.as_ref();
    let (mut parts, mut count) = ([0; 4], 0);
    loop {
        let (value, rest) = c_number(bytes)?;
        parts[count] = value;
        count += 1;
        bytes = rest;
        match bytes.first() {
            Some(b'.') if count < parts.len() && value <= 0xff => bytes = &bytes[1..],
            _ => break,
        }
    }
    if bytes.first().is_some_and(|byte| !is_blank(*byte)) {
        return None;
    }
    let (last, leading) = parts[..count].split_last()?;
    let room = 32 - 8 * leading.len() as u32;
    if u64::from(*last) >= 1u64 << room {
        return None;
    }
    let high =
        leading.iter().enumerate().map(|(index, part)| part << (24 - 8 * index)).sum::<u32>();
    Some(Ipv4Addr::from(high | last))
}

/// A number as strtoul(3) reads it with base 0 (`10`, `010`, `0x10`), if it begins with a
/// digit and fits 32 bits; and what follows it.
fn c_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (radix, digits) = match bytes {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (16, &bytes[2..]),
        [b'0', ..] => (8, bytes),
        [digit, ..] if digit.is_ascii_digit() => (10, bytes),
        _ => return None,
    };
    let mut value: u32 = 0;
    let mut length = 0;
    for digit in digits.iter().map_while(|byte| char::from(*byte).to_digit(radix)) {
        value = value.checked_mul(radix)?.checked_add(digit)?;
        length += 1;
    }
    Some((value, &digits[length..]))
}

/// A host's IPv4 address: a number, or a name, which need be no UTF-8.
pub fn host(text: impl AsRef<OsStr>, names: &mut dyn Names) -> Option<Ipv4Addr> {
    let text = text.as_ref();
    inet_aton(text.as_bytes()).or_else(|| names.host_address(text))
}

/// An address with the port that may stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// The port, host order, if one was given.
    pub port: Option<u16>,
}

/// `HOST`, `HOST:PORT`, `[V6]:PORT` or a bare `V6`. Names of ports are those of `protocol`;
/// without a protocol, ports are numbers.
///
/// Digits alone are refused, as they are more likely a forgotten address than a host. In
/// brackets an IPv4 host loses its port: so it was, and saved rules may count on it.
pub fn endpoint(
    text: impl AsRef<OsStr>,
    protocol: Option<Protocol>,
    names: &mut dyn Names,
) -> Option<Endpoint> {
    let text = text.as_ref().as_bytes();
    if text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (bracketed, port_of_brackets) = match text.strip_prefix(b"[") {
        None => (text, None),
        Some(inside) => {
            let end = inside.iter().position(|byte| *byte == b']')?;
            (&inside[..end], Some(inside[end + 1..].strip_prefix(b":")?))
        }
    };
    // One colon parts a host from its port; an IPv6 address has two at least.
    let colons = bracketed.iter().filter(|byte| **byte == b':').count();
    let text = if colons > 1 { std::str::from_utf8(bracketed).ok() } else { None };
    let (addr, port) = match text.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
        Some(addr) => (IpAddr::V6(addr), port_of_brackets),
        None => {
            let (name, port) = match bracketed.iter().rposition(|byte| *byte == b':') {
                Some(at) => (&bracketed[..at], Some(&bracketed[at + 1..])),
                None => (bracketed, None),
            };
            (IpAddr::V4(host(OsStr::from_bytes(name), names)?), port)
        }
    };
    let port = match port {
        None => None,
        Some(text) => Some(port_number(text, protocol, names)?),
    };
    Some(Endpoint { addr, port })
}

fn port_number(text: &[u8], protocol: Option<Protocol>, names: &mut dyn Names) -> Option<u16> {
    let digits = std::str::from_utf8(text).ok();
    digits
        .and_then(|text| number(text, 0, u16::MAX.into()))
        .and_then(|port| u16::try_from(port).ok())
        .or_else(|| names.service_port(OsStr::from_bytes(text), protocol?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::names::tests::FixedNames;
    use super::*;

    fn read(text: &str) -> Option<(String, Option<u16>)> {
        let mut names = FixedNames::default();
        endpoint(text, Some(Protocol::Tcp), &mut names).map(|e| (e.addr.to_string(), e.port))
    }

    #[test]
    fn numbers_are_read_as_strtol_reads_them() {
        for (text, value) in [("5", 5), ("+5", 5), (" 5", 5), ("\t5", 5), ("010", 10), ("-0", 0)] {
            assert_eq!(number(text, 0, 100), Some(value), "{text:?}");
        }
        for text in
            ["", " ", "5 ", "0x10", "1.5", "-1", "+-5", "--5", "101", "9".repeat(30).as_str()]
        {
            assert_eq!(number(text, 0, 100), None, "{text:?}");
        }
        assert_eq!(number("4294967295", 1, u32::MAX), Some(u32::MAX));
        assert_eq!(number("4294967296", 1, u32::MAX), None);
    }

    #[test]
    fn atoi_stops_at_what_is_no_digit() {
        assert_eq!(loose_number("64abc"), 64);
        assert_eq!(loose_number("abc"), 0);
        assert_eq!(loose_number("-1"), -1);
        assert_eq!(loose_number("4294967360"), 64);
    }

    #[test]
    fn inet_aton_takes_one_to_four_parts() {
        let read = |text| inet_aton(text).map(|addr| addr.to_string());
        for (text, addr) in [
            ("1.2.3.5", "1.2.3.5"),
            ("1.2.3", "1.2.0.3"),
            ("1.2", "1.0.0.2"),
            ("1", "0.0.0.1"),
            ("24", "0.0.0.24"),
            ("0x01020304", "1.2.3.4"),
            ("0xffffff00", "255.255.255.0"),
            ("010.1", "8.0.0.1"),
            ("1.2.3.5 ", "1.2.3.5"),
            ("1.2.3.5\tx", "1.2.3.5"),
            ("1.2.65535", "1.2.255.255"),
            ("4294967295", "255.255.255.255"),
        ] {
            assert_eq!(read(text).as_deref(), Some(addr), "{text:?}");
        }
        for text in [
            "",
            " 1.2.3.4",
            "1.2.3.256",
            "256.0.0.0",
            "1.2.65536",
            "1.2.3.4.5",
            "1.2.3.",
            "1..2",
            "0x",
            "08",
            "1.2.3.4x",
            "4294967296",
            "a.b",
            "-1",
            "+1",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_ipv4_service_is_split_at_the_last_colon() {
        assert_eq!(read("1.2.3.5:80"), Some(("1.2.3.5".into(), Some(80))));
        assert_eq!(read("1.2.3.5"), Some(("1.2.3.5".into(), None)));
        assert_eq!(read("1.2.3.5 :80"), Some(("1.2.3.5".into(), Some(80))));
        assert_eq!(read("1.2.3.5: 80"), Some(("1.2.3.5".into(), Some(80))));
        assert_eq!(read("vip1:http"), Some(("10.0.0.1".into(), Some(80))));
        for text in
            ["", "80", ":", ":80", "1.2.3.5:", "1.2.3.5:65536", "1.2.3.5:80:80", "vip1:HTTP"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_ipv6_service_with_a_port_stands_in_brackets() {
        assert_eq!(read("[2001:db8::1]:80"), Some(("2001:db8::1".into(), Some(80))));
        assert_eq!(read("2001:db8::1:80"), Some(("2001:db8::1:80".into(), None)));
        for text in [
            "[2001:db8::1]",
            "[2001:db8::1",
            "2001:db8::1]:80",
            "[]:80",
            "[:80",
            "[2001:db8::1]:",
            "[2001:db8::1]:80:80",
            "[fe80::1%lo]:80",
            "[vip6.example.com]:80",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_ipv4_address_in_brackets_loses_its_port() {
        assert_eq!(read("[1.2.3.5]:80"), Some(("1.2.3.5".into(), None)));
    }

    #[test]
    fn without_a_protocol_ports_have_no_names() {
        let mut names = FixedNames::default();
        assert_eq!(endpoint("10.0.0.1:http", None, &mut names), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_readers_panic(text in "\\PC{0,40}") {
            let mut names = FixedNames::default();
            let _ = endpoint(&text, Some(Protocol::Udp), &mut names);
            let _ = (number(&text, 0, 9), loose_number(&text), inet_aton(&text));
        }

        #[test]
        fn every_address_is_read_back(addr: Ipv6Addr, port: u16) {
            let mut names = FixedNames::default();
            let text = format!("[{addr}]:{port}");
            let read = endpoint(&text, None, &mut names).unwrap();
            prop_assert_eq!(read, Endpoint { addr: addr.into(), port: Some(port) });
        }
    }
}
