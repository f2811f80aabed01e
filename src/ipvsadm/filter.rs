//! Which connections `-L -c` shows.
//!
//! A director has millions of them and an administrator looks for a few: filters are asked before a
//! line is made, and hold nothing back, so a listing needs the same memory however long it is.

use std::net::IpAddr;

use super::address;
use super::connections::Connection;
use super::names::Names;
use crate::protocol::Protocol;

/// What a connection must be to be shown; what is absent is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// Its virtual service.
    pub service: Option<Peer>,
    /// Its client.
    pub client: Option<Peer>,
    /// Its real server.
    pub destination: Option<Peer>,
    /// The word of its state, in upper or lower case.
    pub state: Option<String>,
}

/// An address or a network, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    network: IpAddr,
    /// How many leading bits count.
    prefix: u8,
    port: Option<u16>,
}

impl Filter {
    /// Whether a connection is shown.
    pub fn passes(&self, connection: &Connection<'_>) -> bool {
        let at = |peer: Option<Peer>, end| peer.is_none_or(|peer| peer.matches(end));
        self.protocol
            .is_none_or(|protocol| protocol.name().eq_ignore_ascii_case(connection.protocol))
            && at(self.service, connection.service)
            && at(self.client, connection.client)
            && at(self.destination, connection.server)
            && self.state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case(connection.state))
    }
}

impl Peer {
    /// Reads `HOST[/PREFIX][:PORT]`, with brackets around an IPv6 address that has a port.
    /// Hosts and ports may be names, as everywhere on the command line.
    pub fn parse(text: &str, names: &mut dyn Names) -> Option<Peer> {
        let (host, prefix) = match text.split_once('/') {
            None => (text.to_owned(), None),
            Some((host, rest)) => {
                // What follows the digits of the prefix belongs to the host again: `]:80`, `:80`.
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let prefix: u8 = rest[..digits].parse().ok()?;
                (format!("{host}{}", &rest[digits..]), Some(prefix))
            }
        };
        let (addr, port) = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(addr) => (addr.parse().ok()?, None),
            None => {
                // A filter names no protocol: a port's name is looked for in each.
                let endpoint = Protocol::ALL
                    .into_iter()
                    .find_map(|protocol| address::endpoint(&host, Some(protocol), names))?;
                (endpoint.addr, endpoint.port)
            }
        };
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Peer { network: addr, prefix, port })
    }

    fn matches(&self, (addr, port): (IpAddr, u16)) -> bool {
        let differing = match (self.network, addr) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(self.prefix) && self.port.is_none_or(|wanted| wanted == port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::names::Numbers;
    use super::super::names::tests::FixedNames;
    use super::*;

    const LINES: [&str; 3] = [
        "TCP 0A000001 9C42 C0000201 0050 C0A8010A 1F90 ESTABLISHED     898",
        "UDP 0A000102 9C43 C0000201 0035 C0A8010A 0035 UDP             200",
        "TCP 2001:0db8:0000:0000:0000:0000:0000:0001 9D0A 2001:0db8:0000:0000:0000:0000:0000:0010 \
         0050 2001:0db8:0000:0000:0000:0000:0000:0020 1F90 FIN_WAIT 60",
    ];

    fn shown(filter: &Filter) -> Vec<usize> {
        let passes = |line: &str| filter.passes(&Connection::parse(line).unwrap());
        (0..LINES.len()).filter(|at| passes(LINES[*at])).collect()
    }

    fn peer(text: &str) -> Option<Peer> {
        Some(Peer::parse(text, &mut FixedNames::default()).expect(text))
    }

    #[test]
    fn without_a_filter_all_are_shown_and_each_filter_takes_some_away() {
        let any = Filter::default();
        assert_eq!(shown(&any), [0, 1, 2]);
        assert_eq!(shown(&Filter { protocol: Some(Protocol::Tcp), ..any.clone() }), [0, 2]);
        assert_eq!(shown(&Filter { state: Some("established".to_owned()), ..any.clone() }), [0]);
        assert_eq!(shown(&Filter { service: peer("192.0.2.1"), ..any.clone() }), [0, 1]);
        assert_eq!(shown(&Filter { service: peer("192.0.2.1:80"), ..any.clone() }), [0]);
        assert_eq!(shown(&Filter { service: peer("[2001:db8::10]:80"), ..any.clone() }), [2]);
        assert_eq!(shown(&Filter { client: peer("10.0.0.0/24"), ..any.clone() }), [0]);
        assert_eq!(shown(&Filter { client: peer("10.0.0.0/16"), ..any.clone() }), [0, 1]);
        assert_eq!(shown(&Filter { client: peer("0.0.0.0/0"), ..any.clone() }), [0, 1]);
        assert_eq!(shown(&Filter { destination: peer("192.168.1.10:53"), ..any.clone() }), [1]);
        assert_eq!(shown(&Filter { destination: peer("2001:db8::/32"), ..any }), [2]);
    }

    #[test]
    fn networks_and_ports_go_together() {
        assert_eq!(
            peer("[2001:db8::/32]:80"),
            peer("[2001:db8::]:80").map(|p| Peer { prefix: 32, ..p })
        );
        assert_eq!(peer("10.0.0.0/8:80"), peer("10.0.0.0:80").map(|p| Peer { prefix: 8, ..p }));
        assert_eq!(peer("[2001:db8::1]"), peer("2001:db8::1"));
    }

    #[test]
    fn a_port_may_have_the_name_that_any_protocol_gives_it() {
        assert_eq!(peer("10.0.0.1:http"), peer("10.0.0.1:80"));
        assert_eq!(peer("10.0.0.1:tftp"), peer("10.0.0.1:69"), "a name of UDP's alone");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "x", "10.0.0.1/33", "10.0.0.1/", "2001:db8::/129", "10.0.0.1:", "[x]"] {
            assert_eq!(Peer::parse(text, &mut Numbers), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,24}|[0-9./:\\[\\]]{0,24}") {
            let _ = Peer::parse(&text, &mut Numbers);
        }
    }
}
