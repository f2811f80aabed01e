//! Connection synchronisation between directors: its interface and the kernel's daemon.

use super::Finding;
use super::observed::{Host, Observed, subject};
use crate::conf::DirectorNode;
use crate::director::sync;
use crate::ipvs::Change;
use crate::ipvsadm::change_line;

/// What cvip.conf says of it, for every director.
pub(super) fn configured(seen: &Observed) -> Vec<Finding> {
    let mut findings = Vec::new();
    for set in seen.conf.director_sets().iter().filter(|set| set.directors.len() > 1) {
        for node in set.directors.iter().filter(|n| seen.conf.sync_interface(**n).is_none()) {
            let what = "one of several directors, and without a sync_interface: connections that \
                        run through it are lost when another takes over (but for TCP with the mh \
                        scheduler)";
            findings.push(Finding::warning(subject(*node), what).fix(
                "give its director_node in cvip.conf a `<sync_interface>eth1</sync_interface>`, on \
                 a network that only the cluster is on",
            ));
        }
    }
    findings
}

/// The interface of this director, and the kernel's daemon on it.
pub(super) fn here(seen: &Observed, host: &Host) -> Vec<Finding> {
    let Some(desired) = &seen.sync else { return Vec::new() };
    let mut findings = carrier(seen, host, desired);
    // It cannot run there before the interface is right.
    if findings.iter().all(|finding| finding.severity != super::Severity::Fault)
        && let Some(table) = &seen.table
    {
        findings.extend(daemon(seen, desired, &table.daemons));
    }
    findings
}

fn carrier(seen: &Observed, host: &Host, desired: &sync::DesiredDaemon) -> Vec<Finding> {
    let device = &desired.interface;
    let fault = |what: String| {
        Finding::fault(seen.here(), format!("{what}: connections are not synchronised"))
    };
    let Some(interface) = host.interface(device) else {
        let finding = fault(format!("there is no interface {device} (sync_interface)"));
        return vec![finding.fix("correct its name in cvip.conf, or make it")];
    };
    let v4 = interface.addresses.iter().any(|address| address.addr.is_ipv4());
    if !interface.up {
        let finding = fault(format!("{device} (sync_interface) is down"));
        return vec![finding.run(format!("ip link set {device} up"))];
    }
    if !interface.carrier {
        let finding = fault(format!("{device} (sync_interface) has no carrier"));
        return vec![finding.fix("see to its cable and its switch")];
    }
    if !v4 {
        // bind_mcastif_addr of the kernel's ip_vs_sync.c; the group is an IPv4 one.
        let finding = fault(format!("{device} (sync_interface) has no IPv4 address"));
        return vec![finding.fix("give it one: the kernel sends its multicasts from there")];
    }
    let carries_clients = |director: &DirectorNode| director.garp_interface == *device;
    let mut cvips = seen.conf.cvips.iter();
    let shared = cvips.find(|cvip| {
        let director = seen.node.and_then(|node| cvip.director(node));
        director.is_some_and(carries_clients)
            || interface.addresses.iter().any(|a| a.addr != cvip.addr && a.reaches(cvip.addr))
    });
    let warning = |addr| {
        let what = format!(
            "{device} (sync_interface) is on the network of CVIP {addr}: synchronisation is not \
             authenticated, and every host on it can put connections into this director's table"
        );
        Finding::warning(seen.here(), what).fix(
            "name an interface in cvip.conf whose network only the cluster is on, unless you \
             trust all hosts on this one",
        )
    };
    shared.map(|cvip| warning(cvip.addr)).into_iter().collect()
}

fn daemon(
    seen: &Observed,
    desired: &sync::DesiredDaemon,
    running: &[crate::ipvs::SyncDaemon],
) -> Vec<Finding> {
    let (changes, in_the_way) = sync::plan(Some(desired), &[], running);
    let mut findings = Vec::new();
    if let Some(other) = in_the_way {
        let stop = Change::StopDaemon(other.0.role, other.0.sync_id);
        findings.push(
            Finding::fault(seen.here(), other.to_string())
                .fix("end it:")
                .run(format!("ipvsadm-rs {}", change_line(&stop))),
        );
    }
    for change in changes {
        let what = match &change {
            Change::StartDaemon(daemon) => format!(
                "no {} sync daemon runs on {} with syncid {}: connections are not synchronised, \
                 and are lost when another director takes over",
                daemon.role, daemon.interface, daemon.sync_id
            ),
            Change::StopDaemon(role, _) => {
                format!("a {role} sync daemon runs, which this director's role does not ask for")
            }
            other => other.to_string(),
        };
        let command = format!("ipvsadm-rs {}", change_line(&change));
        findings.push(Finding::fault(seen.here(), what).run(command));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::conf::Routing;
    use crate::ipvs::{DaemonRole, SyncDaemon};

    fn running(role: DaemonRole, interface: &str, sync_id: u32) -> SyncDaemon {
        let (interface, max_len) = (interface.to_owned(), None);
        SyncDaemon { role, interface, sync_id, max_len, group: None, port: None, ttl: None }
    }

    /// What is found on director `node` of two.
    fn found(node: u32, daemons: &[SyncDaemon], spoil: impl Fn(&mut Host)) -> Vec<String> {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 2), node);
        seen.table.as_mut().unwrap().daemons = daemons.to_vec();
        let mut host = host(node);
        spoil(&mut host);
        lines(&here(&seen, &host))
    }

    fn eth1(host: &mut Host) -> &mut crate::net::Interface {
        host.interfaces.iter_mut().find(|i| i.name == "eth1").unwrap()
    }

    #[test]
    fn each_director_runs_the_daemon_of_its_part_on_an_interface_that_is_up() {
        let (master, backup) = (DaemonRole::Master, DaemonRole::Backup);
        assert!(found(1, &[running(master, "eth1", 1)], |_| {}).is_empty());
        assert!(found(2, &[running(backup, "eth1", 1)], |_| {}).is_empty());
        let none = found(1, &[], |_| {});
        assert!(none[0].contains("no master sync daemon runs on eth1"), "{none:?}");
        let command = "ipvsadm-rs --start-daemon master --mcast-interface eth1 --syncid 1";
        assert!(none[0].ends_with(command), "{none:?}");
        let other = found(2, &[running(master, "eth1", 1)], |_| {});
        assert_eq!(other.len(), 2, "{other:?}");
        assert!(other[1].ends_with("run: ipvsadm-rs --stop-daemon master --syncid 1"));
        let foreign = found(1, &[running(master, "eth1", 9)], |_| {});
        assert!(foreign[0].ends_with("run: ipvsadm-rs --stop-daemon master --syncid 9"));
    }

    #[test]
    fn an_interface_that_cannot_carry_it_is_a_fault_whatever_runs() {
        let down = found(1, &[], |host| eth1(host).up = false);
        assert_eq!(down.len(), 1);
        assert!(down[0].ends_with("run: ip link set eth1 up"), "{down:?}");
        let cut = found(1, &[], |host| eth1(host).carrier = false);
        assert!(cut[0].contains("no carrier"), "{cut:?}");
        let bare = found(1, &[], |host| eth1(host).addresses.clear());
        assert!(bare[0].contains("has no IPv4 address"), "{bare:?}");
        let gone = found(1, &[], |host| host.interfaces.retain(|i| i.name != "eth1"));
        assert!(gone[0].contains("there is no interface eth1"), "{gone:?}");
    }

    #[test]
    fn an_interface_on_the_clients_network_is_a_warning_beside_the_daemon() {
        let daemons = [running(DaemonRole::Master, "eth1", 1)];
        let lines = found(1, &daemons, |host| host.carry_with("192.0.2.77", 24, "eth1"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("warning: node 1: eth1 (sync_interface) is on the network"));
    }

    #[test]
    fn a_director_of_several_without_an_interface_is_a_warning_and_a_lone_one_is_not() {
        let mut conf = conf(Routing::Dr, &["192.0.2.10"], 2);
        conf.cvips[0].directors[1].sync_interface = None;
        let lines = lines(&configured(&seen(conf.clone(), 3)));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("warning: node 2: one of several directors"), "{lines:?}");
        conf.cvips[0].directors.remove(0);
        assert!(configured(&seen(conf, 3)).is_empty());
    }
}
