//! Names of hosts and services, both ways, each looked up once.
//!
//! The command line turns names into numbers (`vip1:http`), the listings turn numbers into
//! names (unless `-n`). Both go through [`Names`], so that tests bring their own tables and a
//! listing of a thousand real servers asks the resolver once for each of them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr};

use super::columns::{ColumnText, Columns};
use super::resolver;
use crate::protocol::Protocol;

/// Where names come from; what has none of its own stays a number.
pub trait Names {
    /// The first IPv4 address of a host, as gethostbyname(3) gives it.
    fn host_address(&mut self, _name: &OsStr) -> Option<Ipv4Addr> {
        None
    }

    /// The port of a service, host order, as getservbyname(3) gives it.
    fn service_port(&mut self, _name: &OsStr, _protocol: Protocol) -> Option<u16> {
        None
    }

    /// The name of an address, as gethostbyaddr(3) gives it.
    fn host_name(&mut self, _addr: IpAddr) -> Option<OsString> {
        None
    }

    /// The name of a port, as getservbyport(3) gives it.
    fn service_name(&mut self, _port: u16, _protocol: Protocol) -> Option<OsString> {
        None
    }
}

/// The system's names: nsswitch, `/etc/hosts`, DNS, `/etc/services`.
///
/// What was found, or not found, is remembered for as long as this lives. The memory is
/// bounded: it is emptied when it has grown past [`SystemNames::LIMIT`] entries.
#[derive(Debug, Default)]
pub struct SystemNames {
    addresses: HashMap<OsString, Option<Ipv4Addr>>,
    ports: HashMap<(OsString, Protocol), Option<u16>>,
    hosts: HashMap<IpAddr, Option<OsString>>,
    services: HashMap<(u16, Protocol), Option<OsString>>,
}

impl SystemNames {
    /// How many answers of a kind are remembered.
    pub const LIMIT: usize = 65_536;
}

/// Answers from the memory, or asks and remembers.
fn remembered<K: std::hash::Hash + Eq, V: Clone>(
    memory: &mut HashMap<K, Option<V>>,
    key: K,
    ask: impl FnOnce(&K) -> Option<V>,
) -> Option<V> {
    if memory.len() >= SystemNames::LIMIT {
        memory.clear();
    }
    match memory.entry(key) {
        std::collections::hash_map::Entry::Occupied(known) => known.get().clone(),
        std::collections::hash_map::Entry::Vacant(unknown) => {
            let found = ask(unknown.key());
            unknown.insert(found).clone()
        }
    }
}

impl Names for SystemNames {
    fn host_address(&mut self, name: &OsStr) -> Option<Ipv4Addr> {
        remembered(&mut self.addresses, name.to_owned(), |name| resolver::host_address(name))
    }

    fn service_port(&mut self, name: &OsStr, protocol: Protocol) -> Option<u16> {
        remembered(&mut self.ports, (name.to_owned(), protocol), |(name, protocol)| {
            resolver::service_port(name, protocol.name())
        })
    }

    fn host_name(&mut self, addr: IpAddr) -> Option<OsString> {
        remembered(&mut self.hosts, addr, |addr| resolver::host_name(*addr))
    }

    fn service_name(&mut self, port: u16, protocol: Protocol) -> Option<OsString> {
        remembered(&mut self.services, (port, protocol), |(port, protocol)| {
            resolver::service_name(*port, protocol.name())
        })
    }
}

/// No names: everything stays a number, as `-n` asks for.
#[derive(Clone, Copy, Debug)]
pub struct Numbers;

impl Names for Numbers {}

/// Appends `addr` and `port` as the listings show them, by name where they have one.
///
/// `protocol` is `None` for a firewall mark, whose ports have no name. At most 59 bytes come
/// out: the original's buffer, and scripts may rely on where it cuts.
pub fn push_endpoint(
    text: &mut ColumnText,
    addr: IpAddr,
    port: u16,
    protocol: Option<Protocol>,
    names: &mut dyn Names,
) {
    let start = text.len();
    if addr.is_ipv6() {
        text.push('[');
    }
    match names.host_name(addr) {
        Some(name) => text.push_os(&name),
        None => text.address(addr),
    }
    text.push_str(if addr.is_ipv6() { "]:" } else { ":" });
    match protocol.and_then(|protocol| names.service_name(port, protocol)) {
        Some(name) => text.push_os(&name),
        None => text.number(port.into()),
    }
    text.cut(start, 59);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    /// The names that the recorded cases were made with, as far as the unit tests need them.
    #[derive(Debug, Default)]
    pub(crate) struct FixedNames {
        pub(crate) questions: usize,
    }

    const HOSTS: &[(&str, &str)] = &[
        ("127.0.0.1", "localhost"),
        ("10.0.0.1", "vip1.example.com"),
        ("10.0.0.1", "vip1"),
        ("10.0.0.2", "a-rather-long-host-name-for-truncation.example.com"),
        ("192.168.1.10", "rs1.example.com"),
        ("2001:db8::1", "vip6.example.com"),
    ];
    const SERVICES: &[(u16, Protocol, &str)] = &[
        (80, Protocol::Tcp, "http"),
        (8080, Protocol::Tcp, "http-alt"),
        (53, Protocol::Tcp, "domain"),
        (53, Protocol::Udp, "domain"),
        (69, Protocol::Udp, "tftp"),
    ];

    impl Names for FixedNames {
        fn host_address(&mut self, name: &OsStr) -> Option<Ipv4Addr> {
            self.questions += 1;
            let (addr, _) = HOSTS.iter().find(|(_, known)| OsStr::new(known) == name)?;
            addr.parse().ok()
        }

        fn service_port(&mut self, name: &OsStr, protocol: Protocol) -> Option<u16> {
            self.questions += 1;
            Some(
                SERVICES
                    .iter()
                    .find(|(_, p, known)| *p == protocol && OsStr::new(known) == name)?
                    .0,
            )
        }

        fn host_name(&mut self, addr: IpAddr) -> Option<OsString> {
            self.questions += 1;
            let text = addr.to_string();
            Some(HOSTS.iter().find(|(known, _)| *known == text)?.1.into())
        }

        fn service_name(&mut self, port: u16, protocol: Protocol) -> Option<OsString> {
            self.questions += 1;
            let known = SERVICES.iter().find(|(known, p, _)| *known == port && *p == protocol)?;
            Some(known.2.into())
        }
    }

    #[test]
    fn an_endpoint_is_shown_by_name_where_it_has_one() {
        let mut names = FixedNames::default();
        let mut show = |addr: &str, port, protocol| {
            let mut text = ColumnText::new();
            push_endpoint(&mut text, addr.parse().unwrap(), port, protocol, &mut names);
            text.to_text()
        };
        assert_eq!(show("10.0.0.1", 80, Some(Protocol::Tcp)), "vip1.example.com:http");
        assert_eq!(show("10.0.0.1", 80, Some(Protocol::Udp)), "vip1.example.com:80");
        assert_eq!(show("10.0.0.1", 80, None), "vip1.example.com:80");
        assert_eq!(show("10.0.0.9", 8080, Some(Protocol::Tcp)), "10.0.0.9:http-alt");
        assert_eq!(show("2001:db8::1", 53, Some(Protocol::Udp)), "[vip6.example.com]:domain");
    }

    #[test]
    fn numbers_stay_numbers() {
        let addr = "10.0.0.1".parse().unwrap();
        let mut text = ColumnText::new();
        text.push_str("to ");
        push_endpoint(&mut text, addr, 80, Some(Protocol::Tcp), &mut Numbers);
        assert_eq!(text.to_text(), "to 10.0.0.1:80");
    }

    #[test]
    fn an_endpoint_is_cut_at_the_originals_buffer() {
        struct Long;
        impl Names for Long {
            fn host_name(&mut self, _: IpAddr) -> Option<OsString> {
                // Latin-1, and no UTF-8.
                Some(OsString::from_vec(b"\xe9".repeat(57)))
            }
            fn service_name(&mut self, _: u16, _: Protocol) -> Option<OsString> {
                Some("www".into())
            }
        }
        let mut text = ColumnText::new();
        text.push_str("-> ");
        push_endpoint(&mut text, [10, 0, 0, 2].into(), 80, Some(Protocol::Tcp), &mut Long);
        assert_eq!(text.as_bytes(), [b"-> ", &b"\xe9".repeat(57)[..], b":w"].concat());
        let mut names = FixedNames::default();
        let mut text = ColumnText::new();
        push_endpoint(&mut text, [10, 0, 0, 2].into(), 60_000, None, &mut names);
        assert_eq!(text.to_text(), "a-rather-long-host-name-for-truncation.example.com:60000");
    }

    #[test]
    fn the_systems_answers_are_remembered_even_when_there_is_none() {
        let mut memory = HashMap::new();
        let mut asked = 0;
        for _ in 0..3 {
            let answer: Option<u16> = remembered(&mut memory, "unknown", |_| {
                asked += 1;
                None
            });
            assert_eq!(answer, None);
        }
        assert_eq!(asked, 1);
    }
}
