//! A cheap look at the kernel's whole table, once a second: it decides nothing, it shows which
//! services to read.
//!
//! `/proc/net/ip_vs` shows every service with its destinations and weights in one go, where netlink
//! needs a dump for each service. Of each service a fingerprint is made, to be compared with that of
//! what the last pass left. Measured with 5 destinations each on Linux 6.1 in user mode: 1 service
//! 0.07 ms, 1,000 services 2.6 ms, 10,000 services 180 ms (the kernel walks the table anew for every
//! 4 KiB); so a very large table is looked at less often, and only its being flushed is seen every
//! second.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};

use super::kernel_table::Actual;
use crate::ipvs::{Forwarding, service_flags};
use crate::protocol::Protocol;
use crate::store::ServiceKey;

/// The table as text, of the calling thread's network namespace.
const TABLE: &str = "/proc/thread-self/net/ip_vs";

/// A fingerprint of one service: its scheduler, whether it is persistent, and its destinations with
/// their forwarding methods and weights, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(u64);

impl Print {
    fn of_service(scheduler: &str, persistent: bool) -> Print {
        Print(hash((scheduler, persistent)))
    }

    fn add(&mut self, addr: IpAddr, port: u16, forward: Forwarding, weight: u32) {
        self.0 = self.0.wrapping_add(hash((addr, port, forward, weight)));
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The fingerprint of a service that was read through netlink.
pub fn print_of(actual: &Actual) -> Print {
    let service = &actual.service;
    let persistent = service.flags & service_flags::PERSISTENT != 0;
    let mut print = Print::of_service(&service.scheduler, persistent);
    for entry in actual.destinations.values() {
        let d = &entry.destination;
        print.add(d.id.addr, d.id.port, d.forward, d.weight);
    }
    print
}

/// Reads the table as text.
///
/// # Errors
/// The kernel does not show it.
pub fn read() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(TABLE)?.read_to_end(&mut text)?;
    Ok(text)
}

/// True if the kernel shows no service at all: the table was flushed. Costs the same for every table.
pub fn is_flushed() -> bool {
    let mut text = [0; 1024];
    let Ok(length) = File::open(TABLE).and_then(|mut file| file.read(&mut text)) else {
        return false;
    };
    length < text.len() && !std::str::from_utf8(&text[..length]).is_ok_and(has_service)
}

/// True if the beginning of the table's text has a line that is no title.
fn has_service(text: &str) -> bool {
    let protocols = ["TCP ", "UDP ", "SCTP ", "FWM "];
    text.lines().any(|line| protocols.iter().any(|protocol| line.starts_with(protocol)))
}

/// The fingerprints of all services in the table's text (`ip_vs_info_seq_show`, ip_vs_ctl.c), but
/// for those by firewall marks. Lines of an unknown form are left out.
pub fn prints(text: &[u8]) -> HashMap<ServiceKey, Print> {
    let mut found = HashMap::new();
    let mut service: Option<(ServiceKey, Print)> = None;
    for line in text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
    {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "->" {
            if let Some((_, print)) = &mut service {
                let _ = destination(words, print);
            }
            continue;
        }
        found.extend(service.take());
        service = self::service(first, words);
    }
    found.extend(service);
    found
}

fn service<'a>(
    protocol: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Option<(ServiceKey, Print)> {
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let (cvip, port) = address(words.next()?)?;
    let scheduler = words.next()?;
    let print = Print::of_service(scheduler, words.any(|word| word == "persistent"));
    Some((ServiceKey { cvip, protocol, port }, print))
}

fn destination<'a>(mut words: impl Iterator<Item = &'a str>, print: &mut Print) -> Option<()> {
    let (addr, port) = address(words.next()?)?;
    // `ip_vs_fwd_name`.
    let forward = match words.next()? {
        "Local" => Forwarding::LocalNode,
        "Tunnel" => Forwarding::Tunnel,
        "Route" => Forwarding::Route,
        "Bypass" => Forwarding::Bypass,
        _ => Forwarding::Masquerade,
    };
    print.add(addr, port, forward, words.next()?.parse().ok()?);
    Some(())
}

/// `0A000001:0050` or `[fd00:0000:…:0001]:0050`.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (addr, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let addr = match addr.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(addr, 16).ok()?)),
    };
    Some((addr, port))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::desired::testing::ip;
    use super::super::settings::service_id;
    use super::*;
    use crate::ipvs::{Destination, DestinationEntry, Service, Stats};

    /// As Linux 6.1 shows it.
    const SHOWN: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A000064:0050 wlc
  -> 0A000002:0050      Route   0      7          9
  -> 0A000001:0050      Route   2      0          0
TCP  [fd00:0000:0000:0000:0000:0000:0000:0064]:1F90 mh  persistent 300 FFFFFFFF
  -> [fd00:0000:0000:0000:0000:0000:0000:0001]:1F90      Masq    1      0          0
UDP  0A000064:00B1 rr ops
FWM  00000007 wlc
  -> 0A000001:0000      Route   1      0          0
";

    fn actual(key: ServiceKey, scheduler: &str, of: &[(&str, Forwarding, u32)]) -> Actual {
        let entry = |(addr, forward, weight): &(&str, Forwarding, u32)| {
            let destination = Destination::new(ip(addr), key.port, *forward, *weight);
            let stats = Stats::default();
            let entry =
                DestinationEntry { destination, active: 3, inactive: 4, persistent: 0, stats };
            (destination.id, entry)
        };
        let destinations: BTreeMap<_, _> = of.iter().map(entry).collect();
        Actual { service: Service::new(service_id(key), scheduler), destinations }
    }

    #[test]
    fn the_kernels_text_and_its_dumps_have_the_same_fingerprints() {
        let prints = prints(SHOWN.as_bytes());
        let key = |cvip, protocol, port| ServiceKey { cvip: ip(cvip), protocol, port };
        let http = key("10.0.0.100", Protocol::Tcp, 80);
        let route = Forwarding::Route;
        let right = actual(http, "wlc", &[("10.0.0.1", route, 2), ("10.0.0.2", route, 0)]);
        assert_eq!(prints[&http], print_of(&right));
        for wrong in [
            actual(http, "rr", &[("10.0.0.1", route, 2), ("10.0.0.2", route, 0)]),
            actual(http, "wlc", &[("10.0.0.1", route, 2), ("10.0.0.2", route, 1)]),
            actual(http, "wlc", &[("10.0.0.1", route, 2)]),
            actual(http, "wlc", &[("10.0.0.1", Forwarding::Tunnel, 2), ("10.0.0.2", route, 0)]),
        ] {
            assert_ne!(prints[&http], print_of(&wrong), "{wrong:?}");
        }
        let other = key("fd00::64", Protocol::Tcp, 8080);
        let mut persistent = actual(other, "mh", &[("fd00::1", Forwarding::Masquerade, 1)]);
        assert_ne!(prints[&other], print_of(&persistent));
        persistent.service = persistent.service.persistent(300);
        assert_eq!(prints[&other], print_of(&persistent));
        let xdmcp = key("10.0.0.100", Protocol::Udp, 177);
        assert_eq!(prints[&xdmcp], print_of(&actual(xdmcp, "rr", &[])));
        assert_eq!(prints.len(), 3, "firewall marks are no services of a CVIP");
    }

    #[test]
    fn an_empty_table_is_told_from_one_with_a_service() {
        assert!(has_service(SHOWN));
        let titles: Vec<&str> = SHOWN.lines().take(3).collect();
        assert!(!has_service(&titles.join("\n")));
    }

    #[test]
    fn what_is_cut_off_or_strange_is_left_out() {
        for text in ["", "TCP", "TCP  0A00", "TCP  0A000064:0050", "TCP  [x]:0050 wlc", "  -> \n"] {
            assert!(prints(text.as_bytes()).is_empty(), "{text:?}");
        }
    }
}
