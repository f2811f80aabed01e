//! Which addresses a node, a CVIP or a gateway can have: one rule for both files.

use std::net::IpAddr;

use super::words::quoted;

/// Why a text is no address that a machine in the cluster can have.
pub(super) struct Unusable {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// An address from its text: unicast, and meaning the same on every node.
pub(super) fn usable(text: &str) -> Result<IpAddr, Unusable> {
    let Ok(addr) = text.parse::<IpAddr>() else {
        return Err(Unusable {
            message: format!("{} is not an IP address", quoted(text)),
            help: near_miss(text),
        });
    };
    let no = |what: &str, help: Option<String>| {
        Err(Unusable { message: format!("{addr} {what}"), help })
    };
    if addr.is_unspecified() {
        return no("is the unspecified address, no machine's own", None);
    }
    if addr.is_loopback() {
        return no("is a loopback address: other machines cannot reach it", None);
    }
    if addr.is_multicast() {
        return no("is a multicast address, no machine's own", None);
    }
    match addr {
        IpAddr::V4(v4) if v4.is_broadcast() => no("is the broadcast address", None),
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => {
            no("is an IPv4 address that is written as an IPv6 one", Some(format!("write {v4}")))
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => no(
            "is a link-local address: it means another machine on every link",
            Some("use a global address or a unique local one (fd00::/8)".to_owned()),
        ),
        _ => Ok(addr),
    }
}

/// Why an address is none that a machine in the cluster can have; none if it is one.
pub(crate) fn unusable(addr: IpAddr) -> Option<String> {
    usable(&addr.to_string()).err().map(|unusable| unusable.message)
}

/// What to do about a text that almost is an address.
fn near_miss(text: &str) -> Option<String> {
    let parses = |part: Option<&str>| part.is_some_and(|part| part.parse::<IpAddr>().is_ok());
    if parses(text.split('/').next()) {
        return Some("write the address alone, without a prefix length".to_owned());
    }
    if parses(text.split('%').next()) {
        return Some("write the address alone, without an interface".to_owned());
    }
    let octets: Vec<&str> = text.split('.').collect();
    if octets.len() == 4 && octets.iter().all(|o| o.parse::<u8>().is_ok()) {
        return Some("write the numbers without leading zeros".to_owned());
    }
    if text.starts_with('[') {
        return Some("write the address without brackets".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (String, Option<String>) {
        match usable(text) {
            Ok(addr) => panic!("{addr} is usable"),
            Err(Unusable { message, help }) => (message, help),
        }
    }

    #[test]
    fn unicast_addresses_of_both_families_are_usable() {
        for text in ["192.168.200.10", "fd00::1", "2001:db8::10", "169.254.1.1"] {
            assert_eq!(usable(text).ok(), text.parse().ok());
        }
    }

    #[test]
    fn an_address_that_no_machine_has_is_refused() {
        for text in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "224.0.0.81",
            "ff02::1",
            "255.255.255.255",
            "::ffff:10.0.0.1",
            "fe80::1",
        ] {
            assert!(refusal(text).0.contains(" is "), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_almost_one_is_helped() {
        for (text, word) in [
            ("10.0.0.1/24", "prefix length"),
            ("fd00::1/64", "prefix length"),
            ("fe80::1%eth0", "without an interface"),
            ("192.168.010.1", "leading zeros"),
            ("[fd00::1]", "brackets"),
        ] {
            let (message, help) = refusal(text);
            assert_eq!(message, format!("`{text}` is not an IP address"));
            assert!(help.is_some_and(|help| help.contains(word)), "{text}");
        }
        assert_eq!(refusal("10.0.0").1, None);
        assert_eq!(refusal("192.168.200.300").1, None);
    }
}
