//! Flagged ranges that hold more than was meant: sshd's port, the store's own, UDP ports of
//! clients.

use std::net::IpAddr;

use super::Finding;
use super::observed::Observed;
use crate::node::eligibility::RESERVED_PORTS;
use crate::ports::PortFlag;
use crate::protocol::Protocol;
use crate::store::Scope;

/// sshd's.
const SSH: u16 = 22;

/// Where a flag was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By setport_weight.
    Scope(Scope),
    /// By a `service` of this CVIP in cvip.conf.
    Conf(IpAddr),
}

impl Origin {
    /// The option of setport_weight for it; none for cvip.conf's.
    pub(super) fn option(self) -> Option<String> {
        match self {
            Origin::Scope(Scope::Cluster) => Some("--cluster".to_owned()),
            Origin::Scope(Scope::Node(node)) => Some(format!("--node={node}")),
            Origin::Conf(_) => None,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Scope(scope) => write!(f, "flags of {scope}"),
            Origin::Conf(cvip) => write!(f, "service of CVIP {cvip}"),
        }
    }
}

/// Every flag with its origin.
fn all(seen: &Observed) -> Vec<(Origin, PortFlag)> {
    let mut all = Vec::new();
    let cluster = seen.state.flags_of(Scope::Cluster);
    all.extend(cluster.iter().map(|flag| (Origin::Scope(Scope::Cluster), *flag)));
    for node in seen.conf.nodes() {
        let own = seen.flags_of(node);
        all.extend(own.iter().map(|flag| (Origin::Scope(Scope::Node(node)), *flag)));
    }
    for cvip in &seen.conf.cvips {
        all.extend(cvip.flags().iter().map(|flag| (Origin::Conf(cvip.addr), *flag)));
    }
    all
}

/// Everything about flags alone.
pub(super) fn flags(seen: &Observed) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (origin, flag) in all(seen) {
        findings.extend(ssh(origin, flag));
        findings.extend(reserved(origin, flag));
        findings.extend(ephemeral(seen, origin, flag));
    }
    findings
}

fn ssh(origin: Origin, flag: PortFlag) -> Option<Finding> {
    if !flag.covers(Protocol::Tcp, SSH) {
        return None;
    }
    let what = format!(
        "`{flag}` holds sshd's port {SSH}: logins to the CVIP land on nodes with different host \
         keys (the nodes' own addresses are not affected)"
    );
    if flag.is_single() {
        return Some(Finding::note(origin, what));
    }
    let rest = [(flag.start, SSH - 1), (SSH + 1, flag.end)];
    let rest = rest.into_iter().filter(|(start, end)| start <= end);
    let rest: Vec<String> = rest
        .map(|(start, end)| match start == end {
            true => start.to_string(),
            false => format!("{start} to {end}"),
        })
        .collect();
    let rest = rest.join(" and ");
    let finding = Finding::warning(origin, what);
    Some(match origin.option() {
        None => finding.fix(format!("unless that is meant, let its <service> be {rest} instead")),
        Some(option) => finding
            .fix(format!(
                "unless that is meant, flag {rest} instead, in your start-up script too; now:"
            ))
            .run(unflag(Protocol::Tcp, SSH, SSH, &option)),
    })
}

/// The command that unflags a range.
pub(super) fn unflag(protocol: Protocol, start: u16, end: u16, option: &str) -> String {
    let protocol = match protocol {
        Protocol::Tcp => String::new(),
        protocol => format!(" --protocol={protocol}"),
    };
    format!("setport_weight --start-port={start} --end-port={end}{protocol} --delete {option}")
}

fn reserved(origin: Origin, flag: PortFlag) -> Option<Finding> {
    let held = RESERVED_PORTS.into_iter().filter(|(protocol, port)| flag.covers(*protocol, *port));
    let held: Vec<String> = held.map(|(_, port)| port.to_string()).collect();
    if held.is_empty() {
        return None;
    }
    let what = format!(
        "`{flag}` holds {}, the cluster's own: no listener there ever joins",
        held.join(" and ")
    );
    Some(Finding::note(origin, what))
}

fn ephemeral(seen: &Observed, origin: Origin, flag: PortFlag) -> Option<Finding> {
    let (first, last) = seen.host.as_ref()?.around.as_ref()?.ephemeral;
    let (start, end) = (flag.start.max(first), flag.end.min(last));
    if flag.protocol != Protocol::Udp || flag.is_single() || start > end {
        return None;
    }
    let what = format!(
        "`{flag}` holds UDP ports that the kernel gives to clients (ip_local_port_range): a server \
         on one of {start} to {end} joins only if its port is flagged by itself"
    );
    Some(Finding::note(origin, what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::conf::{Routing, ServiceConf};

    fn flag(protocol: Protocol, start: u16, end: u16) -> PortFlag {
        PortFlag { protocol, start, end, weight: 1 }
    }

    fn found(scope: Scope, flag: PortFlag) -> Vec<Finding> {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        seen.state.flags.insert(scope, [flag].into_iter().collect());
        flags(&seen)
    }

    #[test]
    fn sshd_in_a_range_is_a_warning_with_the_ranges_around_it() {
        let found = found(Scope::Cluster, flag(Protocol::Tcp, 1, 80));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].subject, "flags of cluster");
        assert!(found[0].fix.contains("flag 1 to 21 and 23 to 80 instead"), "{found:?}");
        let command = "setport_weight --start-port=22 --end-port=22 --delete --cluster";
        assert_eq!(found[0].commands, [command]);
    }

    #[test]
    fn what_is_left_around_sshd_may_be_one_range_or_one_port() {
        let rest =
            |start, end| found(Scope::Node(3), flag(Protocol::Tcp, start, end)).remove(0).fix;
        assert!(rest(22, 80).contains("flag 23 to 80 instead"));
        assert!(rest(21, 22).contains("flag 21 instead"));
        assert!(found(Scope::Cluster, flag(Protocol::Tcp, 23, 80)).is_empty());
        assert!(found(Scope::Cluster, flag(Protocol::Udp, 1, 80)).is_empty());
        let alone = found(Scope::Cluster, flag(Protocol::Tcp, 22, 22));
        assert_eq!(alone[0].severity, super::super::Severity::Note, "it may be meant");
    }

    #[test]
    fn a_service_of_cvip_conf_is_fixed_in_the_file() {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        seen.conf.cvips[0].services.push(ServiceConf::new(Protocol::Tcp, 20, 25));
        let found = flags(&seen);
        assert!(found[0].fix.ends_with("let its <service> be 20 to 21 and 23 to 25 instead"));
        assert!(found[0].commands.is_empty());
    }

    #[test]
    fn the_clusters_ports_and_clients_udp_ports_are_noted() {
        let etcd = found(Scope::Cluster, flag(Protocol::Tcp, 2000, 3000));
        assert!(etcd[0].what.contains("2379 and 2380"), "{etcd:?}");
        let udp = found(Scope::Cluster, flag(Protocol::Udp, 1, 40000));
        assert!(udp[0].what.contains("holds 8849, the cluster's own"), "{udp:?}");
        assert!(udp[1].what.contains("one of 32768 to 40000 joins only"), "{udp:?}");
        assert!(found(Scope::Cluster, flag(Protocol::Udp, 40000, 40000)).is_empty());
    }
}
