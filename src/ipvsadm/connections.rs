//! The connections of `/proc/net/ip_vs_conn`, read and listed.
//!
//! The kernel writes one line a connection:
//! `Pro FromIP FPrt ToIP TPrt DestIP DPrt State Expires [PEName PEData]`, IPv4 addresses as
//! eight hexadecimal digits, ports hexadecimal, the expiry in seconds. A busy director has
//! millions of them, so they are read and printed one at a time, in the kernel's order.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::net::IpAddr;

use super::columns::{ColumnText, Columns as _};
use super::names::{Names, push_endpoint};
use crate::ipvs::proc_net::{address, port};
use crate::protocol::Protocol;

/// One connection, or one template of a persistent client (whose client port is 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// The protocol's word, such as `TCP`.
    pub protocol: &'a str,
    /// The client.
    pub client: (IpAddr, u16),
    /// The virtual service.
    pub service: (IpAddr, u16),
    /// The real server.
    pub server: (IpAddr, u16),
    /// The state's word, such as `ESTABLISHED`.
    pub state: &'a str,
    /// Seconds until it is forgotten.
    pub expires: u32,
    /// The persistence engine's name and data.
    pub engine: Option<(&'a str, &'a str)>,
}

/// The longest line that is taken for a connection, in bytes; the kernel's are shorter.
const LONGEST_LINE: u64 = 4096;

impl<'a> Connection<'a> {
    /// Reads one of the kernel's lines; `None` if it is none.
    pub fn parse(line: &'a str) -> Option<Connection<'a>> {
        let mut fields = line.split_ascii_whitespace();
        let protocol = fields.next()?;
        let mut pair = || Some((address(fields.next()?)?, port(fields.next()?)?));
        let (client, service, server) = (pair()?, pair()?, pair()?);
        let state = fields.next()?;
        let expires = fields.next()?.parse().ok()?;
        let engine = match (fields.next(), fields.next()) {
            (Some(name), Some(data)) => Some((name, data)),
            _ => None,
        };
        Some(Connection { protocol, client, service, server, state, expires, engine })
    }

    /// Appends its line in the listing; `engines` adds the persistence engine's data where there
    /// is some.
    pub fn push_line(&self, line: &mut ColumnText, engines: bool, names: &mut dyn Names) {
        let protocol = Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(self.protocol));
        line.word(self.protocol, 3);
        line.push(' ');
        let start = line.len();
        for (number, mark) in [(self.expires / 60, ":"), (self.expires % 60, "")] {
            line.push_str(if number < 10 { "0" } else { "" });
            line.number(number.into());
            line.push_str(mark);
        }
        line.fill(start, 6);
        line.push(' ');
        line.word(self.state, 11);
        let mut show = |line: &mut ColumnText, (addr, port), width| {
            line.push(' ');
            let start = line.len();
            push_endpoint(line, addr, port, protocol, names);
            line.fill(start, width);
        };
        show(line, self.client, 18);
        show(line, self.service, 18);
        match self.engine {
            Some((name, data)) if engines => {
                show(line, self.server, 16);
                line.push(' ');
                line.word(name, 18);
                line.push(' ');
                line.push_str(data);
            }
            _ => show(line, self.server, 0),
        }
        line.push('\n');
    }
}

/// The two lines over the connections.
pub fn title(engines: bool) -> String {
    let mut line = format!("pro expire {:<11} {:<18} {:<18} ", "state", "source", "virtual");
    if engines {
        line.push_str(&format!("{:<18} {:<16} {}", "destination", "pe name", "pe_data"));
    } else {
        line.push_str("destination");
    }
    format!("IPVS connection entries\n{line}\n")
}

/// Reads the kernel's file and hands on one connection after the other. What is no
/// connection, the title among it, is passed over.
///
/// # Errors
///
/// Of the reader, or of `each`, which end it.
pub fn for_each(
    mut kernel: impl BufRead,
    mut each: impl FnMut(Connection<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut kernel, LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // Most of them are ASCII, which is seen sooner than it is repaired.
        let text = std::str::from_utf8(&line).map(Cow::Borrowed);
        let text = text.unwrap_or_else(|_| String::from_utf8_lossy(&line));
        if let Some(connection) = Connection::parse(&text) {
            each(connection)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::{Numbers, tests::FixedNames};
    use super::*;

    fn line(connection: &Connection<'_>, engines: bool, names: &mut dyn Names) -> String {
        let mut line = ColumnText::new();
        connection.push_line(&mut line, engines, names);
        line.to_text()
    }

    const TEMPLATE: &str =
        "UDP 0A000001 0000 0A000001 0050 C0A8010A 13C4 ASSURED         118 sip call-id@host\n";

    #[test]
    fn a_connection_is_shown_with_minutes_and_seconds() {
        let text = "TCP 0A000001 9C42 0A000001 0050 C0A8010A 1F90 ESTABLISHED     898\n";
        let connection = Connection::parse(text).unwrap();
        assert_eq!(
            line(&connection, false, &mut Numbers),
            "TCP 14:58  ESTABLISHED 10.0.0.1:40002     10.0.0.1:80        192.168.1.10:8080\n"
        );
        let mut names = FixedNames::default();
        assert_eq!(
            line(&connection, true, &mut names),
            "TCP 14:58  ESTABLISHED vip1.example.com:40002 vip1.example.com:http \
             rs1.example.com:http-alt\n"
        );
    }

    #[test]
    fn a_persistence_engine_is_shown_where_it_has_data() {
        let connection = Connection::parse(TEMPLATE).unwrap();
        assert!(line(&connection, false, &mut Numbers).ends_with("192.168.1.10:5060\n"));
        assert!(
            line(&connection, true, &mut Numbers)
                .ends_with("192.168.1.10:5060 sip                call-id@host\n")
        );
    }

    #[test]
    fn ipv6_is_read_in_full_and_shown_in_short() {
        let v6 = "2001:0db8:0000:0000:0000:0000:0000:0001";
        let text = format!("TCP {v6} 9D0A {v6} 0050 {v6} 1F90 NONE 6000");
        let shown = line(&Connection::parse(&text).unwrap(), false, &mut Numbers);
        assert_eq!(
            shown,
            "TCP 100:00 NONE        [2001:db8::1]:40202 [2001:db8::1]:80   [2001:db8::1]:8080\n"
        );
    }

    #[test]
    fn what_is_no_connection_is_passed_over() {
        let long = "x".repeat(3 * LONGEST_LINE as usize);
        let file = format!("Pro FromIP   FPrt\n{TEMPLATE}\n{long}\nTCP 0A000001\n{TEMPLATE}");
        let mut seen = 0;
        for_each(file.as_bytes(), |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 2);
    }
}
