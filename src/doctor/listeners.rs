//! Who listens on a flagged port and does not join: this node's by its own sockets, others' by
//! their records.
//!
//! A port that was flagged by itself and that is not served is a fault: it was flagged to be
//! served. In a flagged range, or beside nodes that serve, it may well be meant, and is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Finding;
use super::flags::{Origin, unflag};
use super::observed::{Host, Observed, subject};
use crate::conf::{Conf, Cvip, Routing};
use crate::listeners::{Listener, ListenerId};
use crate::node::eligibility::{RESERVED_PORTS, Refusal};
use crate::node::registrations::Judged;
use crate::node::{hints, registrations};
use crate::ports::{Layers, Level, PortFlag};
use crate::protocol::Protocol;
use crate::store::{RefusedListener, Scope, ServiceKey};

/// Flags of the three levels that hold on a node for one CVIP.
fn layers(seen: &Observed, cvip: &Cvip, node: u32) -> Layers {
    registrations::layers(cvip, &seen.flags_of(node), &seen.state.flags_of(Scope::Cluster))
}

/// The ranges on which [`here`] wants to know who listens, by protocol.
pub(super) fn ranges(seen: &Observed, node: u32) -> Vec<(Protocol, u16, u16)> {
    let mut ranges = Vec::new();
    for cvip in seen.conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some()) {
        let layers = layers(seen, cvip, node);
        for protocol in Protocol::ALL {
            let own = layers.ranges(protocol).into_iter();
            let other = match protocol {
                Protocol::Sctp => Vec::new(),
                protocol => hints::other_ranges(std::slice::from_ref(&layers), protocol),
            };
            ranges.extend(own.chain(other).map(|(start, end)| (protocol, start, end)));
        }
    }
    ranges
}

/// This node's own listeners.
pub(super) fn here(seen: &Observed, host: &Host) -> Vec<Finding> {
    let (Some((node, _)), Some(listeners), Some(around)) =
        (seen.me(), &host.listeners, &host.around)
    else {
        return Vec::new();
    };
    // By service: all listeners that were refused, unless one joins.
    let mut refused: BTreeMap<ServiceKey, Vec<(ListenerId, Refusal, PortFlag)>> = BTreeMap::new();
    let mut served: BTreeSet<ServiceKey> = BTreeSet::new();
    // Wildcard sockets that datagrams to these CVIPs reach, by port.
    let mut datagrams: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut findings = Vec::new();
    for cvip in &seen.conf.cvips {
        let Some(server) = cvip.real_server(node) else { continue };
        let layers = layers(seen, cvip, node);
        let pool = (seen.conf.routing, cvip, server.addr);
        for Judged { service: key, listener, flag, verdict } in
            registrations::judged(listeners.iter().map(Listener::identity), pool, &layers, around)
        {
            match verdict {
                Ok(()) => {
                    served.insert(key);
                    if key.protocol == Protocol::Udp && listener.addr.is_unspecified() {
                        datagrams.entry(key.port).or_default().insert(key.cvip);
                    }
                }
                Err(why) => refused.entry(key).or_default().push((listener, why, flag)),
            }
        }
        findings.extend(other_protocol(seen, &layers, cvip, node, listeners));
    }
    findings.extend(answering(seen.conf.routing, node, &datagrams));
    for (key, refused) in refused.into_iter().filter(|(key, _)| !served.contains(key)) {
        // The one that would be easiest to let in.
        let easiest = refused.iter().find(|(_, why, _)| why.is_reachable()).or(refused.first());
        let Some((listener, why, flag)) = easiest else { continue };
        let elsewhere = served.iter().any(|s| (s.protocol, s.port) == (key.protocol, key.port));
        let wanted = flag.is_single() && !elsewhere && !seen.is_served(key);
        let bound = SocketAddr::new(listener.addr, listener.port);
        let reason = why.describe(&around.names);
        let why = (why, reason.as_str());
        findings.extend(kept_out(&seen.conf, node, key, *flag, wanted, bound, why, true));
    }
    findings
}

/// UDP servers that may answer from another address than the one that was asked. A datagram to the
/// CVIP reaches a wildcard socket, and an answer that names no source leaves with the node's own
/// address, which the client does not expect. With NAT the director translates it back.
///
/// Whether a program asks for the datagrams' destinations (IP_PKTINFO) no interface of the kernel
/// tells: sock_diag(7) reports some options of a socket, and this one is not among them.
fn answering(
    routing: Routing,
    node: u32,
    datagrams: &BTreeMap<u16, BTreeSet<IpAddr>>,
) -> Vec<Finding> {
    if routing == Routing::Nat {
        return Vec::new();
    }
    let finding = |(port, cvips): (&u16, &BTreeSet<IpAddr>)| {
        let cvips: Vec<String> = cvips.iter().map(ToString::to_string).collect();
        let cvips = cvips.join(", ");
        Finding::note(
            subject(node),
            format!(
                "the server on UDP port {port} is bound to every address: unless it answers from \
                 the address that was asked (IP_PKTINFO), its answers come from the node's own \
                 address, and clients of {cvips} drop them"
            ),
        )
        .fix(format!(
            "if clients get no answer, bind the server to {cvips} (cvip.conf(5), UDP SERVERS)"
        ))
    };
    datagrams.iter().map(finding).collect()
}

/// Other nodes' listeners, as their records tell of them.
pub(super) fn of_others(seen: &Observed) -> Vec<Finding> {
    let mut findings = Vec::new();
    for record in seen.state.nodes.values() {
        let node = record.node;
        if seen.node == Some(node) && seen.host.is_some() {
            continue;
        }
        let serves = |key| record.registrations.iter().any(|r| r.service == key);
        let mut told = BTreeSet::new();
        for refused in record.refused.iter().filter(|refused| !serves(refused.service)) {
            let key = refused.service;
            let Some(cvip) = seen.conf.cvip(key.cvip) else { continue };
            let Some((flag, _)) = layers(seen, cvip, node).lookup(key.protocol, key.port) else {
                continue;
            };
            if !told.insert(key) {
                continue;
            }
            let bound = SocketAddr::new(refused.bound, key.port);
            let wanted = flag.is_single() && !seen.is_served(key);
            findings.extend(match understood(&seen.conf, cvip, node, refused) {
                Some(why) => {
                    let reason = (&why, refused.reason.as_str());
                    kept_out(&seen.conf, node, key, flag, wanted, bound, reason, false)
                }
                None => Some(
                    Finding::warning(
                        subject(node),
                        format!("a listener on {bound} does not join {key}: {}", refused.reason),
                    )
                    .fix("see to it on that node (cvipctl doctor there says more)"),
                ),
            });
        }
        findings.extend(record.hints.iter().map(|hint| {
            Finding::warning(subject(node), hint)
                .fix("unless that is meant, do so on that node (cvipctl doctor there says more)")
        }));
    }
    findings
}

/// The refusal that a record tells of in words.
fn understood(conf: &Conf, cvip: &Cvip, node: u32, refused: &RefusedListener) -> Option<Refusal> {
    let wanted = match conf.routing {
        Routing::Dr | Routing::Tun => cvip.addr,
        Routing::Nat => cvip.real_server(node)?.addr,
    };
    let all = [
        Refusal::Loopback,
        Refusal::Address { wanted },
        Refusal::Family,
        Refusal::Device,
        Refusal::Owner(refused.uid),
        Refusal::Ephemeral,
        Refusal::Reserved,
    ];
    all.into_iter().find(|refusal| refusal.is_described_by(&refused.reason))
}

/// A listener on a flagged port that does not join. `wanted`: this very port was flagged,
/// and is not served.
#[expect(clippy::too_many_arguments)]
fn kept_out(
    conf: &Conf,
    node: u32,
    key: ServiceKey,
    flag: PortFlag,
    wanted: bool,
    bound: SocketAddr,
    (why, reason): (&Refusal, &str),
    here: bool,
) -> Option<Finding> {
    let what = format!("a listener on {bound} does not join {key}: {reason}");
    let finding = match wanted {
        true => Finding::fault(subject(node), format!("{what}; no node serves it")),
        false => Finding::warning(subject(node), what),
    };
    let any = if key.cvip.is_ipv4() { "0.0.0.0" } else { "[::]" };
    let port = key.port;
    Some(match why {
        Refusal::Loopback => finding.fix(format!(
            "unless that is meant, let the server listen on {any}:{port} too, by its own \
             configuration"
        )),
        Refusal::Address { wanted } => finding.fix(format!(
            "let the server listen on {any}:{port} or on {} instead",
            SocketAddr::new(*wanted, port)
        )),
        Refusal::Family if key.cvip.is_ipv4() => finding.fix(format!(
            "let the server listen on {any}:{port} too, or for both families (without \
             IPV6_V6ONLY; net.ipv6.bindv6only 0)"
        )),
        Refusal::Family => finding.fix(format!("let the server listen on {any}:{port} too")),
        Refusal::Device => finding.fix(format!(
            "let the server listen without SO_BINDTODEVICE, or on the interface that has {}",
            conf.cvip(key.cvip)?.real_server(node)?.addr
        )),
        Refusal::Owner(_) => finding.fix(format!(
            "if that user is to serve, name it as <owner> in a <service> of port {port} in \
             cvip.conf, or * for anyone; else end that process"
        )),
        Refusal::Ephemeral => {
            let command = format!(
                "setport_weight --protocol=udp --start-port={port} --end-port={port} --weight={} \
                 --node={node}",
                flag.weight
            );
            let finding = finding.fix("if it is to serve, flag the port by itself:");
            if here { finding.run(command) } else { finding.fix(format!("run `{command}`")) }
        }
        // Told with the flags: nothing can be done.
        Refusal::Reserved => return None,
    })
}

/// Flags whose only listener is of the other protocol: XDMCP is UDP, and was flagged as if it
/// were TCP in OpenSSI's own documents.
fn other_protocol(
    seen: &Observed,
    layers: &Layers,
    cvip: &Cvip,
    node: u32,
    listeners: &[Listener],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (level, set) in layers.levels() {
        let origin = match level {
            Level::Node => Origin::Scope(Scope::Node(node)),
            Level::Cluster => Origin::Scope(Scope::Cluster),
            Level::Conf => Origin::Conf(cvip.addr),
        };
        for flag in set.iter().filter(|flag| flag.protocol != Protocol::Sctp) {
            let other = match flag.protocol {
                Protocol::Udp => Protocol::Tcp,
                _ => Protocol::Udp,
            };
            let mut within = listeners.iter().filter(|listener| {
                (flag.start..=flag.end).contains(&listener.port)
                    && !RESERVED_PORTS.contains(&(listener.protocol, listener.port))
                    && !listener.addr.to_canonical().is_loopback()
            });
            let ports: Vec<u16> =
                within.clone().filter(|l| l.protocol == other).map(|l| l.port).collect();
            let Some(port) = ports.first() else { continue };
            if within.any(|listener| listener.protocol == flag.protocol)
                || ports.iter().any(|port| layers.lookup(other, *port).is_some())
            {
                continue;
            }
            findings.push(wrong_protocol(seen, origin, *flag, other, *port, cvip.addr));
        }
    }
    findings
}

fn wrong_protocol(
    seen: &Observed,
    origin: Origin,
    flag: PortFlag,
    other: Protocol,
    port: u16,
    cvip: IpAddr,
) -> Finding {
    let what = format!(
        "`{flag}` flags {} ports, but nothing listens there by {}; port {port} is open by {other}",
        flag.protocol, flag.protocol
    );
    let key = ServiceKey { cvip, protocol: flag.protocol, port };
    let finding = match flag.is_single() && !seen.is_served(key) {
        true => Finding::fault(origin, what),
        false => Finding::warning(origin, what),
    };
    let Some(option) = origin.option() else {
        return finding.fix(format!(
            "if {other} is meant, write <protocol>{other}</protocol> into that <service> of \
             cvip.conf"
        ));
    };
    let (start, end) = (flag.start, flag.end);
    finding
        .fix(format!("if {other} is meant, flag it instead, in your start-up script too; now:"))
        .run(format!(
            "setport_weight --protocol={other} --start-port={start} --end-port={end} --weight={} \
             {option}",
            flag.weight
        ))
        .run(unflag(flag.protocol, start, end, &option))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::conf::ServiceConf;

    fn listener(protocol: Protocol, text: &str, port: u16) -> Listener {
        Listener {
            protocol,
            addr: addr(text),
            port,
            v6only: false,
            device: 0,
            uid: 0,
            cookie: u64::from(port),
            queue: 0,
            backlog: 5,
        }
    }

    fn tcp(text: &str, port: u16) -> Listener {
        listener(Protocol::Tcp, text, port)
    }

    fn flag(protocol: Protocol, start: u16, end: u16) -> PortFlag {
        PortFlag { protocol, start, end, weight: 2 }
    }

    /// What is found on node 4 with these flags and listeners, where node 3 serves port 80.
    fn found(cvips: &[&str], flags: &[PortFlag], listeners: &[Listener]) -> Vec<String> {
        let mut seen = seen(conf(Routing::Dr, cvips, 1), 4);
        seen.state.flags.insert(Scope::Cluster, flags.iter().copied().collect());
        let mut host = host(4);
        host.listeners = Some(listeners.to_vec());
        lines(&here(&seen, &host))
    }

    const V4: &[&str] = &["192.0.2.10"];

    #[test]
    fn listeners_that_join_are_right_whatever_else_listens() {
        let flags = [flag(Protocol::Tcp, 1, 100)];
        assert!(found(V4, &flags, &[tcp("0.0.0.0", 81)]).is_empty());
        assert!(found(V4, &flags, &[tcp("127.0.0.1", 81), tcp("::", 81)]).is_empty());
        assert!(found(V4, &flags, &[tcp("127.0.0.1", 101)]).is_empty(), "not flagged");
        let both = ["192.0.2.10", "2001:db8::10"];
        assert!(found(&both, &flags, &[tcp("::", 81)]).is_empty());
    }

    #[test]
    fn a_loopback_listener_is_a_fault_on_a_port_that_was_flagged_by_itself_and_no_node_serves() {
        let single = found(V4, &[flag(Protocol::Tcp, 81, 81)], &[tcp("127.0.0.1", 81)]);
        assert!(
            single[0].starts_with(
                "fault: node 4: a listener on 127.0.0.1:81 does not join tcp 192.0.2.10:81: bound \
                 to loopback"
            ),
            "{single:?}"
        );
        assert!(single[0].contains("no node serves it\n"), "{single:?}");
        assert!(single[0].contains("listen on 0.0.0.0:81 too"), "{single:?}");
        let range = found(V4, &[flag(Protocol::Tcp, 1, 100)], &[tcp("127.0.0.1", 81)]);
        assert!(range[0].starts_with("warning: "), "{range:?}");
        let served = found(V4, &[flag(Protocol::Tcp, 80, 80)], &[tcp("127.0.0.1", 80)]);
        assert!(served[0].starts_with("warning: "), "node 3 serves it: {served:?}");
    }

    #[test]
    fn each_reason_has_its_fix() {
        let flags = [flag(Protocol::Tcp, 1, 100), flag(Protocol::Udp, 30000, 40000)];
        let fix = |cvip, listener: Listener| found(&[cvip], &flags, &[listener]).remove(0);
        let own = fix("192.0.2.10", tcp("192.0.2.4", 81));
        assert!(own.contains("listen on 0.0.0.0:81 or on 192.0.2.10:81 instead"), "{own}");
        let v6only = fix("192.0.2.10", Listener { v6only: true, ..tcp("::", 81) });
        assert!(v6only.contains("without IPV6_V6ONLY"), "{v6only}");
        let v4 = fix("2001:db8::10", tcp("0.0.0.0", 81));
        assert!(v4.contains("listen on [::]:81 too"), "{v4}");
        let device = fix("192.0.2.10", Listener { device: 3, ..tcp("0.0.0.0", 81) });
        assert!(device.contains("on the interface that has 192.0.2.4"), "{device}");
        let user = fix("192.0.2.10", Listener { uid: 1000, ..tcp("0.0.0.0", 81) });
        assert!(user.contains("name it as <owner> in a <service> of port 81"), "{user}");
        let udp = fix("192.0.2.10", listener(Protocol::Udp, "0.0.0.0", 33000));
        let command = "run: setport_weight --protocol=udp --start-port=33000 --end-port=33000 \
                       --weight=2 --node=4";
        assert!(udp.ends_with(command), "{udp}");
    }

    #[test]
    fn a_port_that_is_served_for_one_family_only_is_a_warning() {
        let both = ["192.0.2.10", "2001:db8::10"];
        let lines = found(&both, &[flag(Protocol::Tcp, 81, 81)], &[tcp("0.0.0.0", 81)]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("warning: node 4: a listener on 0.0.0.0:81"), "{lines:?}");
    }

    #[test]
    fn a_flag_of_the_wrong_protocol_is_fixed_by_two_commands() {
        let xdmcp = [listener(Protocol::Udp, "0.0.0.0", 177)];
        let lines = found(V4, &[flag(Protocol::Tcp, 177, 177)], &xdmcp);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("fault: flags of cluster: `tcp 177 weight 2` flags tcp"));
        let commands = "run: setport_weight --protocol=udp --start-port=177 --end-port=177 \
                        --weight=2 --cluster\n    run: setport_weight --start-port=177 \
                        --end-port=177 --delete --cluster";
        assert!(lines[0].ends_with(commands), "{lines:?}");
        let both = [flag(Protocol::Tcp, 177, 177), flag(Protocol::Udp, 177, 177)];
        let flagged = found(V4, &both, &xdmcp);
        assert!(
            flagged.iter().all(|line| line.starts_with("note: ")),
            "it is flagged: {flagged:?}"
        );
        let tcp_too = [xdmcp[0], tcp("0.0.0.0", 177)];
        assert!(found(V4, &[flag(Protocol::Tcp, 177, 177)], &tcp_too).is_empty());
        let udp = found(V4, &[flag(Protocol::Udp, 81, 90)], &[tcp("0.0.0.0", 81)]);
        assert!(udp[0].starts_with("warning: ") && udp[0].contains("--protocol=udp --delete"));
    }

    #[test]
    fn a_udp_server_on_every_address_may_answer_from_the_wrong_one_unless_nat_fixes_it() {
        let flags = [flag(Protocol::Udp, 53, 53)];
        let dns = |text| [listener(Protocol::Udp, text, 53)];
        for wildcard in ["0.0.0.0", "::"] {
            let lines = found(V4, &flags, &dns(wildcard));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with("note: node 4: the server on UDP port 53"), "{lines:?}");
            assert!(lines[0].contains("IP_PKTINFO"), "{lines:?}");
            assert!(lines[0].contains("bind the server to 192.0.2.10"), "{lines:?}");
        }
        assert!(found(V4, &flags, &dns("192.0.2.10")).is_empty(), "it is bound to the CVIP");
        let mut nat = seen(conf(Routing::Nat, V4, 1), 4);
        nat.state.flags.insert(Scope::Cluster, flags.iter().copied().collect());
        let mut host = host(4);
        host.listeners = Some(dns("0.0.0.0").to_vec());
        assert!(here(&nat, &host).is_empty(), "the director translates it back");
    }

    #[test]
    fn a_service_of_cvip_conf_with_the_wrong_protocol_is_fixed_in_the_file() {
        let mut seen = seen(conf(Routing::Dr, V4, 1), 4);
        seen.conf.cvips[0].services.push(ServiceConf::new(Protocol::Tcp, 177, 177));
        let mut host = host(4);
        host.listeners = Some(vec![listener(Protocol::Udp, "0.0.0.0", 177)]);
        let lines = lines(&here(&seen, &host));
        assert!(lines[0].contains("write <protocol>udp</protocol> into that <service>"));
        let ranges = ranges(&seen, 4);
        assert!(ranges.contains(&(Protocol::Tcp, 177, 177)));
        assert!(ranges.contains(&(Protocol::Udp, 177, 177)));
    }

    #[test]
    fn other_nodes_records_tell_the_same_of_them() {
        let mut seen = seen(conf(Routing::Dr, V4, 1), 1);
        let flags = [flag(Protocol::Tcp, 81, 81)].into_iter().collect();
        seen.state.flags.insert(Scope::Cluster, flags);
        let refused = |why: &Refusal| RefusedListener {
            service: key("192.0.2.10", Protocol::Tcp, 81),
            bound: addr("127.0.0.1"),
            uid: 1000,
            reason: why.to_string(),
            reachable: why.is_reachable(),
        };
        let record = seen.state.nodes.get_mut(&4).unwrap();
        record.refused = vec![refused(&Refusal::Loopback)];
        record.hints = vec!["the hint".to_owned()];
        let found = lines(&of_others(&seen));
        assert!(found[0].starts_with("fault: node 4: a listener on 127.0.0.1:81"), "{found:?}");
        assert!(found[0].contains("listen on 0.0.0.0:81 too"), "{found:?}");
        assert!(found[1].starts_with("warning: node 4: the hint"), "{found:?}");
        let of = |why: &Refusal| {
            let cvip = &seen.conf.cvips[0];
            understood(&seen.conf, cvip, 4, &refused(why))
        };
        for why in [Refusal::Owner(1000), Refusal::Address { wanted: addr("192.0.2.10") }] {
            assert_eq!(of(&why), Some(why));
        }
        seen.node = Some(4);
        assert!(of_others(&seen).is_empty(), "its own sockets say more");
    }
}
