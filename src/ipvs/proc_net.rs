//! What the kernel shows of IPVS as text below `/proc`: where the files are, the lines of `ip_vs`
//! (`ip_vs_info_seq_show`, net/netfilter/ipvs/ip_vs_ctl.c), and the settings.
//!
//! ```text
//! TCP  C0000201:0050 wlc persistent 360 FFFFFFFF
//!   -> C6336401:0050      Masq    1      0          0
//! ```

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::types::{DestinationId, Forwarding, ServiceId};
use crate::protocol::Protocol;

/// Where the kernel shows the network namespace of this thread, as the netlink socket is of;
/// `/proc/net` is that of the process's first thread.
const PROC_NET: &str = "/proc/thread-self/net";

/// Opens a file of IPVS, such as `ip_vs`, of the calling thread's network namespace.
///
/// # Errors
/// The kernel has no such file, or does not show it.
pub fn open(file: &str) -> io::Result<File> {
    File::open(Path::new(PROC_NET).join(file))
}

/// A setting of IPVS in the calling thread's network namespace, such as `expire_nodest_conn`
/// (Documentation/networking/ipvs-sysctl.rst), without the blanks around it.
///
/// # Errors
/// The kernel has no such setting, or does not show it.
pub fn setting(name: &str) -> io::Result<String> {
    // Which namespace's it is, is decided when the file is opened, by the thread that opens it.
    let text = std::fs::read_to_string(Path::new("/proc/sys/net/ipv4/vs").join(name))?;
    Ok(text.trim().to_owned())
}

/// One line of `ip_vs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcLine<'a> {
    /// A title above the table, or an empty line.
    Title,
    /// A virtual service; the lines of its destinations follow.
    Service {
        /// Its protocol, address and port.
        id: ServiceId,
        /// The scheduler's name.
        scheduler: &'a str,
        /// It is persistent.
        persistent: bool,
    },
    /// A virtual service by firewall mark: the file does not say of which family.
    Mark,
    /// A destination of the service above.
    Destination {
        /// Its address and port.
        id: DestinationId,
        /// How packets reach it.
        forward: Forwarding,
        /// Its weight.
        weight: u32,
        /// Active connections.
        active: u32,
        /// Inactive connections.
        inactive: u32,
    },
}

impl<'a> ProcLine<'a> {
    /// Reads a line; `None` if it is none of the file's.
    pub fn parse(line: &'a str) -> Option<ProcLine<'a>> {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None | Some("IP" | "Prot") => Some(ProcLine::Title),
            Some("FWM") => Some(ProcLine::Mark),
            Some("->") => destination(words),
            Some(protocol) => service(protocol, words),
        }
    }
}

fn service<'a>(protocol: &str, mut words: impl Iterator<Item = &'a str>) -> Option<ProcLine<'a>> {
    let named = |p: &Protocol| p.name().eq_ignore_ascii_case(protocol);
    let protocol = Protocol::ALL.into_iter().find(named)?;
    let (addr, port) = endpoint(words.next()?)?;
    Some(ProcLine::Service {
        id: ServiceId::Address { protocol, addr, port },
        scheduler: words.next()?,
        persistent: words.any(|word| word == "persistent"),
    })
}

fn destination<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<ProcLine<'a>> {
    let first = words.next()?;
    if first.starts_with("RemoteAddress") {
        return Some(ProcLine::Title);
    }
    let (addr, port) = endpoint(first)?;
    // `ip_vs_fwd_name` (ip_vs_ctl.c).
    let forward = match words.next()? {
        "Masq" => Forwarding::Masquerade,
        "Local" => Forwarding::LocalNode,
        "Tunnel" => Forwarding::Tunnel,
        "Route" => Forwarding::Route,
        "Bypass" => Forwarding::Bypass,
        _ => return None,
    };
    let mut number = || words.next()?.parse().ok();
    Some(ProcLine::Destination {
        id: DestinationId { addr, port },
        forward,
        weight: number()?,
        active: number()?,
        inactive: number()?,
    })
}

/// `C0000201:0050` or `[2001:0db8:...]:0050`.
fn endpoint(word: &str) -> Option<(IpAddr, u16)> {
    let (addr, at) = word.rsplit_once(':')?;
    let addr = addr.strip_prefix('[').and_then(|addr| addr.strip_suffix(']')).unwrap_or(addr);
    Some((address(addr)?, port(at)?))
}

/// An address as eight hexadecimal digits, or an IPv6 address in full.
pub(crate) fn address(field: &str) -> Option<IpAddr> {
    if field.contains(':') {
        field.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        hexadecimal(field).map(|bits| Ipv4Addr::from(bits).into())
    }
}

/// A port in hexadecimal digits.
pub(crate) fn port(field: &str) -> Option<u16> {
    hexadecimal(field).and_then(|port| port.try_into().ok())
}

/// A number of 32 bits in hexadecimal digits and nothing else.
fn hexadecimal(field: &str) -> Option<u32> {
    if !(1..=8).contains(&field.len()) {
        return None;
    }
    field.bytes().try_fold(0, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'F' => byte - b'A' + 10,
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_title_a_service_or_a_destination_or_none_of_the_files() {
        for title in [
            "",
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn",
        ] {
            assert_eq!(ProcLine::parse(title), Some(ProcLine::Title), "{title}");
        }
        assert_eq!(ProcLine::parse("FWM  00000001 wlc"), Some(ProcLine::Mark));
        let (addr, port) = ([192, 0, 2, 1].into(), 80);
        let id = ServiceId::Address { protocol: Protocol::Tcp, addr, port };
        for (flags, persistent) in [("", false), (" persistent 360 FFFFFFFF", true)] {
            let line = format!("TCP  C0000201:0050 wlc{flags}");
            let service = ProcLine::Service { id, scheduler: "wlc", persistent };
            assert_eq!(ProcLine::parse(&line), Some(service));
        }
        let line =
            "  -> [2001:0db8:0000:0000:0000:0000:0000:0011]:0050      Tunnel  2147483647 3  4";
        let destination = ProcLine::Destination {
            id: DestinationId { addr: "2001:db8::11".parse().unwrap(), port: 80 },
            forward: Forwarding::Tunnel,
            weight: i32::MAX as u32,
            active: 3,
            inactive: 4,
        };
        assert_eq!(ProcLine::parse(line), Some(destination));
        for other in ["TCP x wlc", "TCP  C0000201:0050", "  -> C6336401:0000 Magic 1 0 0", "root:x"]
        {
            assert_eq!(ProcLine::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_field_is_hexadecimal_digits_and_nothing_else() {
        assert_eq!(address("C0A8010a"), Some([192, 168, 1, 10].into()));
        assert_eq!(port("1F90"), Some(8080));
        for field in ["", "+1", "10000", "0x50", "5 "] {
            assert_eq!(port(field), None, "{field:?}");
        }
        assert_eq!(address("100000000"), None);
    }
}
