//! The names that ipvsadm's recorded cases were recorded with.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use cvip::ipvsadm::names::Names;
use cvip::protocol::Protocol;
use serde_json::Value;

/// The recorded cases' folder.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm-cases")
}

/// A file of it.
pub(crate) fn file(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The hosts file that the cases were recorded with.
pub(crate) fn hosts_file() -> String {
    let meta = file("cases.jsonl").lines().next().expect("a first line").to_owned();
    let meta: Value = serde_json::from_str(&meta).expect("the record about the set-up");
    meta["etc_hosts"].as_str().expect("etc_hosts").to_owned()
}

/// The services that occur in the cases, as `/etc/services` has them.
pub(crate) fn services_file() -> String {
    let mut text = String::new();
    for (name, port, protocols) in SERVICES {
        for protocol in *protocols {
            text += &format!("{name} {port}/{protocol}\n");
        }
    }
    text
}

/// The names that the cases were recorded with: their hosts file, and of Debian's services
/// those that occur.
#[derive(Debug)]
pub(crate) struct RecordedNames {
    hosts: Vec<(IpAddr, Vec<String>)>,
}

/// Name, port and protocols.
const SERVICES: &[(&str, u16, &[Protocol])] = &[
    ("ftp", 21, &[Protocol::Tcp]),
    ("domain", 53, &[Protocol::Tcp, Protocol::Udp]),
    ("tftp", 69, &[Protocol::Udp]),
    ("http", 80, &[Protocol::Tcp]),
    ("https", 443, &[Protocol::Tcp, Protocol::Udp]),
    ("sip", 5060, &[Protocol::Tcp, Protocol::Udp]),
    ("sip-tls", 5061, &[Protocol::Tcp, Protocol::Udp]),
    ("mdns", 5353, &[Protocol::Udp]),
    ("http-alt", 8080, &[Protocol::Tcp]),
];

impl RecordedNames {
    pub(crate) fn new() -> RecordedNames {
        let hosts = hosts_file();
        let hosts = hosts.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let addr = words.next()?.parse().ok()?;
            Some((addr, words.map(str::to_owned).collect()))
        });
        RecordedNames { hosts: hosts.collect() }
    }
}

impl Names for RecordedNames {
    fn host_address(&mut self, name: &OsStr) -> Option<Ipv4Addr> {
        self.hosts.iter().find_map(|(addr, names)| match addr {
            IpAddr::V4(addr) if names.iter().any(|known| OsStr::new(known) == name) => Some(*addr),
            _ => None,
        })
    }

    fn service_port(&mut self, name: &OsStr, protocol: Protocol) -> Option<u16> {
        let known = SERVICES
            .iter()
            .find(|(known, _, ps)| OsStr::new(known) == name && ps.contains(&protocol));
        known.map(|(_, port, _)| *port)
    }

    fn host_name(&mut self, addr: IpAddr) -> Option<OsString> {
        let (_, names) = self.hosts.iter().find(|(known, _)| *known == addr)?;
        names.first().map(OsString::from)
    }

    fn service_name(&mut self, port: u16, protocol: Protocol) -> Option<OsString> {
        let known = SERVICES.iter().find(|(_, known, ps)| *known == port && ps.contains(&protocol));
        known.map(|(name, _, _)| OsString::from(name))
    }
}
