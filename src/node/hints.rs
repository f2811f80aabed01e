//! What an administrator of this node should know, and would otherwise have to find out.
//!
//! Pure: said in the node's record, shown by `cvipctl status`.

use super::eligibility::RESERVED_PORTS;
use crate::listeners::{Listener, Ranges};
use crate::ports::Layers;
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

/// The hints, from every TCP and UDP listener in a flagged range of either protocol.
pub fn hints(
    listeners: &[Listener],
    layers: &[Layers],
    registrations: &[Registration],
) -> Vec<String> {
    let mut hints = Vec::new();
    for (_, set) in layers.iter().flat_map(Layers::levels) {
        for flag in set.iter() {
            let within = |protocol: Protocol| {
                listeners.iter().find(move |listener| {
                    listener.protocol == protocol
                        && !RESERVED_PORTS.contains(&(protocol, listener.port))
                        && !listener.addr.to_canonical().is_loopback()
                        && (flag.start..=flag.end).contains(&listener.port)
                })
            };
            let wrong = other(flag.protocol);
            if within(flag.protocol).is_none()
                && let Some(listener) = within(wrong)
            {
                hints.push(format!(
                    "flag `{flag}`: nothing listens there by {}, but port {} is open by {wrong}: \
                     setport_weight --protocol={wrong} --start-port={} --end-port={} --weight={}",
                    flag.protocol, listener.port, flag.start, flag.end, flag.weight
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
    use crate::ports::PortFlag;
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
        let seen = hints(&[listener(Protocol::Udp, 177)], &[xdmcp()], &[]);
        assert_eq!(seen.len(), 1);
        assert!(seen[0].contains("setport_weight --protocol=udp --start-port=177"), "{seen:?}");
        let both = [listener(Protocol::Udp, 177), listener(Protocol::Tcp, 177)];
        assert!(hints(&both, &[xdmcp()], &[]).is_empty());
        assert!(hints(&[], &[xdmcp()], &[]).is_empty());
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
        assert!(hints(&own, &[layers], &[]).is_empty());
    }

    #[test]
    fn sshd_in_a_flagged_range_is_pointed_out() {
        let key = |port| ServiceKey { cvip: [10, 0, 0, 1].into(), protocol: Protocol::Tcp, port };
        let of = |port| hints(&[], &[], &[Registration::new(key(port), 1)]);
        assert!(of(22)[0].contains("host key"));
        assert!(of(80).is_empty());
    }
}
