//! What the node has anyway: its addresses, and the ports it gives to its own clients.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::addresses::Rtnetlink;
use super::{NetError, sysctl};

/// Every address of the calling thread's network namespace, and the number of the interface
/// that carries it: the lowest, where several do. Needs no privilege.
pub fn local_addresses() -> Result<BTreeMap<IpAddr, u32>, NetError> {
    let mut local = BTreeMap::new();
    for address in Rtnetlink::open()?.addresses()? {
        let index = local.entry(address.addr).or_insert(address.index);
        *index = address.index.min(*index);
    }
    Ok(local)
}

/// The first and last port that the kernel gives to sockets which ask for none
/// (`net.ipv4.ip_local_port_range`; for IPv6 too), in the calling thread's network namespace.
pub fn local_port_range() -> Result<(u16, u16), NetError> {
    const PATH: &str = "net/ipv4/ip_local_port_range";
    let value = sysctl::read(PATH)?;
    port_range(&value).ok_or_else(|| NetError::OddSetting { setting: sysctl::name(PATH), value })
}

fn port_range(value: &str) -> Option<(u16, u16)> {
    let mut ports = value.split_ascii_whitespace().map(|word| word.parse().ok());
    match (ports.next(), ports.next(), ports.next()) {
        (Some(first), Some(last), None) => Some((first?, last?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_two_ports_and_nothing_else() {
        assert_eq!(port_range("32768\t60999"), Some((32768, 60999)));
        for value in ["", "1", "1 2 3", "1 65536", "a b", "-1 5"] {
            assert_eq!(port_range(value), None, "{value}");
        }
    }

    #[test]
    fn this_machine_has_a_port_range() {
        let (first, last) = local_port_range().unwrap();
        assert!(first <= last);
    }
}
