//! What an administrator of this node should know, and would otherwise have to find out.
//!
//! Pure: said in the node's record, shown by `cvipctl status`.

use std::collections::BTreeSet;

use super::eligibility::RESERVED_PORTS;
use crate::listeners::{Listener, Ranges};
use crate::ports::{Layers, PortFlag};
use crate::protocol::Protocol;
use crate::store::Registration;

/// The ports whose listeners a hint needs to know: the flagged ports of TCP and UDP, each in both
/// protocols.
pub(super) fn ranges(layers: &[Layers]) -> Ranges {
    let of = |protocol| {
        let own = layers.iter().flat_map(move |layers| layers.ranges(protocol));
        let both = own.chain(other_ranges(layers, protocol));
        both.map(move |(start, end)| (protocol, start, end))
    };
    [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(of).collect()
}

/// The ports that are flagged in the other protocol.
pub fn other_ranges(layers: &[Layers], protocol: Protocol) -> Vec<(u16, u16)> {
    layers.iter().flat_map(|layers| layers.ranges(other(protocol))).collect()
}

fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Udp => Protocol::Tcp,
        Protocol::Tcp | Protocol::Sctp => Protocol::Udp,
    }
}

/// Of every TCP and UDP listener in a flagged range of either protocol the ports on which hints
/// depend: the first of each flag in its protocol and in the other one.
pub(super) fn listening(listeners: &[Listener], layers: &[Layers]) -> Vec<(Protocol, u16)> {
    let is_meant = |listener: &&Listener| {
        !RESERVED_PORTS.contains(&(listener.protocol, listener.port))
            && !listener.addr.to_canonical().is_loopback()
    };
    let meant: BTreeSet<(Protocol, u16)> =
        listeners.iter().filter(is_meant).map(|l| (l.protocol, l.port)).collect();
    let meant: Vec<(Protocol, u16)> = meant.into_iter().collect();
    let sets = layers.iter().flat_map(Layers::levels);
    let first = sets.flat_map(|(_, set)| set.iter()).flat_map(|flag| {
        [flag.protocol, other(flag.protocol)].map(|protocol| within(&meant, flag, protocol))
    });
    first.flatten().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The first port of a flag on which something listens by a protocol; the ports are sorted.
fn within(
    listening: &[(Protocol, u16)],
    flag: &PortFlag,
    protocol: Protocol,
) -> Option<(Protocol, u16)> {
    let mut ports = listening.iter().copied();
    ports.find(|(of, port)| *of == protocol && (flag.start..=flag.end).contains(port))
}

/// The hints, from what listens on flagged ports, by either protocol.
pub(super) fn hints(
    listening: &[(Protocol, u16)],
    layers: &[Layers],
    registrations: &[Registration],
) -> Vec<String> {
    let mut hints = Vec::new();
    for (_, set) in layers.iter().flat_map(Layers::levels) {
        for flag in set.iter() {
            let wrong = other(flag.protocol);
            if within(listening, flag, flag.protocol).is_none()
                && let Some((_, port)) = within(listening, flag, wrong)
            {
                hints.push(format!(
                    "flag `{flag}`: nothing listens there by {}, but port {} is open by {wrong}: \
                     setport_weight --protocol={wrong} --start-port={} --end-port={} --weight={}",
                    flag.protocol, port, flag.start, flag.end, flag.weight
                ));
            }
        }
    }
    for registration in registrations {
        let service = registration.service;
        if (service.protocol, service.port) == (Protocol::Tcp, 22) {
            hints.push(format!(
                "sshd serves {service}: every node has another host key; flag ranges around 22 \
                 to leave it out"
            ));
        }
    }
    hints.sort();
    hints.dedup();
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ServiceKey;

    fn listener(protocol: Protocol, port: u16) -> Listener {
        Listener {
            protocol,
            addr: [0, 0, 0, 0].into(),
            port,
            v6only: false,
            device: 0,
            uid: 0,
            cookie: 1,
            queue: 0,
            backlog: 0,
        }
    }

    fn xdmcp() -> Layers {
        let mut layers = Layers::default();
        layers.node.set(PortFlag { protocol: Protocol::Tcp, start: 177, end: 177, weight: 1 });
        layers
    }

    #[test]
    fn a_flag_whose_only_listener_uses_the_other_protocol_is_pointed_out_with_its_fix() {
        let hints = |seen: &[Listener]| {
            let layers = [xdmcp()];
            hints(&listening(seen, &layers), &layers, &[])
        };
        let seen = hints(&[listener(Protocol::Udp, 177)]);
        assert_eq!(seen.len(), 1);
        assert!(seen[0].contains("setport_weight --protocol=udp --start-port=177"), "{seen:?}");
        let both = [listener(Protocol::Udp, 177), listener(Protocol::Tcp, 177)];
        assert!(hints(&both).is_empty());
        assert!(hints(&[]).is_empty());
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert_eq!(ranges(&[xdmcp()]).of(protocol), [(177, 177)]);
        }
    }

    #[test]
    fn the_clusters_own_ports_are_no_servers_with_the_wrong_protocol() {
        let mut layers = Layers::default();
        for (protocol, start, end) in [(Protocol::Tcp, 8000, 8999), (Protocol::Udp, 2000, 2999)] {
            layers.node.set(PortFlag { protocol, start, end, weight: 1 });
        }
        let own = RESERVED_PORTS.map(|(protocol, port)| listener(protocol, port));
        assert_eq!(listening(&own, &[layers]), []);
    }

    #[test]
    fn sshd_in_a_flagged_range_is_pointed_out() {
        let key = |port| ServiceKey { cvip: [10, 0, 0, 1].into(), protocol: Protocol::Tcp, port };
        let of = |port| hints(&[], &[], &[Registration::new(key(port), 1)]);
        assert!(of(22)[0].contains("host key"));
        assert!(of(80).is_empty());
    }
}
