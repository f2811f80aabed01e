//! The kernel's table against the store, and services in it that no director keeps.

use super::Finding;
use super::observed::{Observed, ObservedTable, subject};
use crate::conf::{Cvip, Routing};
use crate::director::import::as_static;
use crate::director::liveness::Liveness;
use crate::director::reconcile;
use crate::director::settings::service_key;
use crate::director::view::Quiesced;
use crate::ipvs::{
    Change, DaemonRole, DestinationEntry, DestinationId, Service, ServiceEntry, ServiceId,
};
use crate::ipvsadm::change_line;
use crate::net::AddressRole;
use crate::store::ServiceKey;

/// So many differences are told one by one.
const AT_MOST: usize = 20;

/// Everything about the table.
pub(super) fn table(seen: &Observed, table: &ObservedTable) -> Vec<Finding> {
    let mut findings = differences(seen, table);
    for (entry, destinations) in seen.kernel.iter().flatten() {
        findings.extend(by_hand(seen, &entry.service, destinations));
    }
    findings.extend(quiesced(seen, table));
    findings.extend(loops(seen, table));
    findings.extend(passive(seen, table));
    findings
}

/// What keeps the running director from having the table that it should.
fn passive(seen: &Observed, table: &ObservedTable) -> Vec<Finding> {
    let mut findings = Vec::new();
    let view = &table.view;
    if let Some(why) = view.passive.as_ref().filter(|_| view.sync.is_some()) {
        let what = format!(
            "this standby's IPVS table is empty, so that it forwards nothing: {why}; a takeover has \
             to make the table first, and connections are lost"
        );
        findings.push(Finding::fault(seen.here(), what).fix(
            "let the backup sync daemon run (see to the sync_interface): cvipd tries again by itself, \
             and makes the table once the kernel shows the daemon",
        ));
    }
    if view.contested {
        let what = "another program changes the IPVS table again and again: cvipd repairs it once in \
                    10 s only";
        findings.push(
            Finding::fault(seen.here(), what)
                .fix("find that program and end it (`cvipctl events` shows what it changed)"),
        );
    }
    findings
}

/// Whom the running director gives no new connections although they listen, unless their own
/// records say it already.
fn quiesced(seen: &Observed, table: &ObservedTable) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Quiesced { service, address, reason, spared, .. } in &table.view.quiesced {
        let node = seen.node_of(*address);
        let record = node.and_then(|node| seen.state.nodes.get(&node));
        let mut registrations = record.into_iter().flat_map(|record| &record.registrations);
        if registrations.any(|r| r.service == *service && r.unhealthy.is_some()) {
            continue;
        }
        let name = node.map_or_else(|| address.to_string(), |node| format!("node {node}"));
        let what = match spared {
            true => format!("{name} would get no new connections: {reason}"),
            false => format!("{name} listens, and gets no new connections: {reason}"),
        };
        findings.push(
            Finding::warning(service, what)
                .fix("see to the server process on that node, and to the node"),
        );
    }
    findings
}

/// In what the table is not what the store says.
fn differences(seen: &Observed, table: &ObservedTable) -> Vec<Finding> {
    let changes: Vec<_> = table
        .changes
        .iter()
        .filter(|(key, change)| !explained(seen, table, *key, change))
        .collect();
    let fix = match seen.runs_here() {
        true => {
            "repair the table; if the kernel refuses, it says why (cvipd tries again, at growing \
             intervals, and logs it):"
        }
        false => "start cvipd here, which keeps the table, or repair it once:",
    };
    let mut findings: Vec<Finding> = changes
        .iter()
        .take(AT_MOST)
        .map(|(key, change)| {
            Finding::fault(key, describe(seen, change)).fix(fix).run("cvipctl apply")
        })
        .collect();
    if let Some(more) = changes.len().checked_sub(AT_MOST).filter(|more| *more > 0) {
        let what = format!("{more} more differences from what the store says (cvipctl diff)");
        findings.push(Finding::fault("IPVS table", what).fix(fix).run("cvipctl apply"));
    }
    findings
}

/// True if the running director says why it leaves a destination without new connections or with fewer,
/// or its node is dead.
fn explained(seen: &Observed, table: &ObservedTable, key: ServiceKey, change: &Change) -> bool {
    let at = match change {
        Change::AddDestination(_, d) | Change::EditDestination(_, d) => d.id,
        Change::DeleteDestination(_, at) => *at,
        _ => return false,
    };
    let view = &table.view;
    let liveness = seen.node_of(at.addr).and_then(|node| seen.liveness_of.get(&node));
    if liveness == Some(&Liveness::Dead) {
        return true;
    }
    view.quiesced.iter().any(|quiesced| (quiesced.service, quiesced.address) == (key, at.addr))
        || view.draining.iter().any(|drain| (drain.service, drain.address) == (key, at.addr))
        || view.slow_starts.iter().any(|slow| (slow.service, slow.address) == (key, at.addr))
}

/// What is wrong where this change would be made.
fn describe(seen: &Observed, change: &Change) -> String {
    let node = |at: &DestinationId| match seen.node_of(at.addr) {
        Some(node) => format!("node {node} ({})", at.addr),
        None => at.to_string(),
    };
    match change {
        Change::AddService(_) => {
            "it is not in the kernel's table, though a node serves it".to_owned()
        }
        Change::EditService(wanted) => format!(
            "its settings in the kernel are not cvip.conf's, which are `{}`",
            change_line(&Change::AddService(wanted.clone()))
        ),
        Change::DeleteService(_) => {
            "it is still in the kernel's table, though no node serves it".to_owned()
        }
        Change::AddDestination(_, d) => {
            format!("{} serves it, and is not in its pool", node(&d.id))
        }
        Change::DeleteDestination(_, at) => {
            format!("{} serves it no longer, and is still in its pool", node(at))
        }
        Change::EditDestination(_, d) if d.weight == 0 => {
            format!("{} serves it no longer, and still gets new connections", node(&d.id))
        }
        Change::EditDestination(id, d) => {
            let mut services = seen.kernel.iter().flatten();
            let standing = services.find(|(entry, _)| entry.service.id == *id);
            let mut standing = standing.iter().flat_map(|(_, list)| list);
            let standing = standing.find(|entry| entry.destination.id == d.id);
            match standing.map(|entry| entry.destination) {
                Some(is) if is.weight == 0 => format!(
                    "{} has weight 0, though it serves and no drain explains it: it gets no new \
                     connections",
                    node(&d.id)
                ),
                Some(is) if is.weight != d.weight => {
                    format!("{} has weight {}, not {}", node(&d.id), is.weight, d.weight)
                }
                Some(is) if is.forward != d.forward => {
                    format!("{} is reached by {}, not {}", node(&d.id), is.forward, d.forward)
                }
                _ => format!("{} has other settings than it should", node(&d.id)),
            }
        }
        other => format!("to be changed: {other}"),
    }
}

/// A service that no cvipd keeps.
fn by_hand(
    seen: &Observed,
    service: &Service,
    destinations: &[DestinationEntry],
) -> Option<Finding> {
    let what = "cvipd does not keep it: it was made by hand";
    let Some(key) = service_key(service.id) else {
        return Some(Finding::note(service.id, what));
    };
    if seen.state.owned.values().any(|owned| owned.contains(&key)) {
        return None;
    }
    let Some(cvip) = seen.conf.cvip(key.cvip) else {
        return Some(Finding::note(service.id, format!("{what}, on an address that is no CVIP")));
    };
    let me = seen.node?;
    if !cvip.is_director(me) {
        return None;
    }
    if reconcile::is_flagged(key, &seen.conf, me, &seen.state) {
        // cvipd adopts it: see the differences.
        return None;
    }
    let what = format!(
        "{what}, on a port that is not flagged; it is in this director's table alone, and gone \
         after a reboot{}",
        match cvip.directors.len() {
            1 => "",
            _ => " or when another director takes over",
        }
    );
    let finding = Finding::warning(service.id, what);
    let destinations: Vec<_> = destinations.iter().map(|entry| entry.destination).collect();
    Some(match as_static(service, &destinations, &seen.conf, me) {
        Ok(_) => finding
            .fix("let cvip.conf have it, as a static service (on every node: copy the file):")
            .run("cvipctl import")
            .run("cvipctl apply"),
        Err(why) => finding
            .fix(format!(
                "flag its port, and who listens joins (as it is, cvip.conf cannot have it: {why}):"
            ))
            .run(flag(key)),
    })
}

/// The command that flags the port of a service.
fn flag(key: ServiceKey) -> String {
    let (port, protocol) = (key.port, key.protocol);
    format!(
        "setport_weight --start-port={port} --end-port={port} --protocol={protocol} --weight=1 \
         --cluster"
    )
}

/// A node that balances what the director sends it: packets go round in circles, or past the
/// director's choice.
fn loops(seen: &Observed, table: &ObservedTable) -> Vec<Finding> {
    if seen.conf.routing == Routing::Nat {
        // What arrives there has the node's own address.
        return Vec::new();
    }
    let mut findings = Vec::new();
    let waits = seen.me().is_some_and(|(_, role)| role == AddressRole::Standby);
    let backup = table.daemons.iter().any(|daemon| daemon.role == DaemonRole::Backup);
    let only = |host: &super::observed::Host| host.setting("net/ipv4/vs/backup_only") == Some("1");
    let quiesced = waits && backup && seen.host.as_ref().is_some_and(only);
    let cvips: Vec<&Cvip> = seen.served().collect();
    for (ServiceEntry { service, .. }, _) in seen.kernel.iter().flatten() {
        let ServiceId::Address { addr, .. } = service.id else { continue };
        let Some(cvip) = cvips.iter().find(|cvip| cvip.addr == addr) else { continue };
        let directs = seen.node.is_some_and(|node| cvip.is_director(node));
        if directs && quiesced {
            continue;
        }
        let here = seen.node.map(subject).unwrap_or_default();
        let what = format!(
            "{here} is not the active director of {addr}, and its kernel balances it all the same: \
             what the director sends is sent on again"
        );
        let finding = Finding::fault(service.id, what);
        findings.push(match directs {
            true => finding.fix(
                "let the backup sync daemon run here with net.ipv4.vs.backup_only 1: cvipd sees to \
                 both where the director_node has a sync_interface",
            ),
            false => {
                let remove = change_line(&Change::DeleteService(service.id));
                finding.fix("take it out:").run(format!("ipvsadm-rs {remove}"))
            }
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::director::settings::service_id;
    use crate::director::sync::SyncView;
    use crate::ipvs::{Destination, Forwarding, Stats, SyncDaemon};
    use crate::protocol::Protocol;

    #[test]
    fn a_standby_without_its_daemon_and_a_contested_table_are_faults() {
        let seen = seen(conf(Routing::Dr, &["192.0.2.10"], 2), 2);
        let mut table = seen.table.clone().unwrap();
        table.view.passive = Some("cvip.conf gives this director no sync_interface".to_owned());
        assert!(passive(&seen, &table).is_empty(), "that is its configuration, told elsewhere");
        let (role, interface) = ("backup".to_owned(), "eth1".to_owned());
        let missing = Some("No such device".to_owned());
        table.view.sync = Some(SyncView { role, interface, sync_id: 1, missing });
        table.view.passive = Some("no backup sync daemon runs on eth1".to_owned());
        table.view.contested = true;
        let found = lines(&passive(&seen, &table));
        assert!(found[0].contains("table is empty") && found[0].contains("on eth1"), "{found:?}");
        assert!(found[1].contains("again and again"), "{found:?}");
    }

    fn http() -> ServiceKey {
        key("192.0.2.10", Protocol::Tcp, 80)
    }

    fn destination(node: u32, weight: u32) -> Destination {
        Destination::new(own(node, false), 80, Forwarding::Route, weight)
    }

    fn entry(destination: Destination) -> DestinationEntry {
        let stats = Stats::default();
        DestinationEntry { destination, active: 0, inactive: 0, persistent: 0, stats }
    }

    fn service(key: ServiceKey) -> Service {
        Service::new(service_id(key), "wlc")
    }

    fn standing(
        service: Service,
        destinations: Vec<DestinationEntry>,
    ) -> (ServiceEntry, Vec<DestinationEntry>) {
        (ServiceEntry { service, stats: Stats::default() }, destinations)
    }

    /// What a director finds in this table.
    fn found(
        node: u32,
        directors: u32,
        make: impl Fn(&mut Observed, &mut ObservedTable),
    ) -> Vec<String> {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], directors), node);
        seen.state.owned.insert(1, [http()].into());
        seen.kernel = Some(vec![standing(service(http()), vec![entry(destination(3, 0))])]);
        let mut has = ObservedTable::default();
        make(&mut seen, &mut has);
        lines(&table(&seen, &has))
    }

    #[test]
    fn a_table_that_is_true_has_nothing_to_tell() {
        assert!(found(1, 1, |_, _| {}).is_empty());
    }

    #[test]
    fn each_difference_says_what_is_wrong_and_apply_fixes_it() {
        let id = service_id(http());
        for (change, what) in [
            (Change::AddService(service(http())), "it is not in the kernel's table"),
            (Change::EditService(service(http()).persistent(60)), "`-A -t 192.0.2.10:80 -s wlc -p"),
            (Change::DeleteService(id), "it is still in the kernel's table"),
            (
                Change::AddDestination(id, destination(4, 1)),
                "node 4 (192.0.2.4) serves it, and is not in its pool",
            ),
            (
                Change::EditDestination(id, destination(3, 2)),
                "node 3 (192.0.2.3) has weight 0, though it serves and no drain explains it",
            ),
            (
                Change::EditDestination(id, destination(3, 0)),
                "node 3 (192.0.2.3) serves it no longer, and still gets new connections",
            ),
            (
                Change::DeleteDestination(id, destination(3, 0).id),
                "node 3 (192.0.2.3) serves it no longer, and is still in its pool",
            ),
        ] {
            let lines = found(1, 1, |_, table| table.changes = vec![(http(), change.clone())]);
            assert_eq!(lines.len(), 1);
            let start = format!("fault: tcp 192.0.2.10:80: {what}");
            assert!(lines[0].starts_with(&start) || lines[0].contains(what), "{lines:?}");
            assert!(lines[0].ends_with("run: cvipctl apply"), "{lines:?}");
        }
    }

    #[test]
    fn other_weights_and_methods_are_told_with_both_values() {
        let id = service_id(http());
        let told = |is: Destination, wanted: Destination| {
            found(1, 1, |seen, table| {
                seen.kernel = Some(vec![standing(service(http()), vec![entry(is)])]);
                table.changes = vec![(http(), Change::EditDestination(id, wanted))];
            })
            .remove(0)
        };
        assert!(told(destination(3, 7), destination(3, 2)).contains("has weight 7, not 2"));
        let masq = Destination { forward: Forwarding::Masquerade, ..destination(3, 2) };
        assert!(told(masq, destination(3, 2)).contains("is reached by Masq, not Route"));
        let full = Destination { upper: 5, ..destination(3, 2) };
        assert!(told(full, destination(3, 2)).contains("has other settings"));
    }

    #[test]
    fn what_the_director_explains_is_no_difference_and_many_are_cut_short() {
        let id = service_id(http());
        let lines = found(1, 1, |_, table| {
            table.changes = vec![(http(), Change::EditDestination(id, destination(3, 2)))];
            table.view.quiesced.push(Quiesced {
                service: http(),
                address: own(3, false),
                state: "damped".to_owned(),
                reason: "left 6 times".to_owned(),
                spared: false,
            });
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let start =
            "warning: tcp 192.0.2.10:80: node 3 listens, and gets no new connections: left 6";
        assert!(lines[0].starts_with(start), "{lines:?}");
        let many = found(1, 1, |_, table| {
            let change = |port| (key("192.0.2.10", Protocol::Tcp, port), Change::DeleteService(id));
            table.changes = (100..200).map(change).collect();
        });
        assert_eq!(many.len(), AT_MOST + 1);
        assert!(many[AT_MOST].contains("80 more differences"), "{many:?}");
    }

    #[test]
    fn a_service_by_hand_is_a_warning_on_a_cvip_and_a_note_elsewhere() {
        let hand = |key| {
            found(1, 2, move |seen, _| {
                seen.alive.insert(1);
                seen.kernel.as_mut().unwrap().push(standing(service(key), Vec::new()));
            })
        };
        let lines = hand(key("192.0.2.10", Protocol::Udp, 177));
        assert!(lines[0].starts_with("warning: udp 192.0.2.10:177: cvipd does not keep it"));
        assert!(lines[0].contains("when another director takes over"), "{lines:?}");
        assert!(lines[0].contains("node 1, 192.0.2.1, is not among its destinations"), "{lines:?}");
        assert!(lines[0].contains("run: setport_weight --start-port=177"), "{lines:?}");
        let everywhere = found(1, 1, |seen, _| {
            let at = |node| Destination::new(own(node, false), 177, Forwarding::Route, 1);
            let all = (1..=4).map(|node| entry(at(node))).collect();
            let by_hand = service(key("192.0.2.10", Protocol::Udp, 177));
            seen.kernel.as_mut().unwrap().push(standing(by_hand, all));
        });
        let commands = "    run: cvipctl import\n    run: cvipctl apply";
        assert!(everywhere[0].ends_with(commands), "{everywhere:?}");
        let lines = hand(key("203.0.113.1", Protocol::Tcp, 80));
        assert!(lines[0].starts_with("note: tcp 203.0.113.1:80"), "{lines:?}");
        let mark = found(1, 1, |seen, _| {
            let id = ServiceId::Mark { mark: 9, family: crate::ipvs::Family::V4 };
            seen.kernel.as_mut().unwrap().push(standing(Service::new(id, "wlc"), Vec::new()));
        });
        assert!(mark[0].starts_with("note: mark 9 IPv4: cvipd does not keep it"), "{mark:?}");
        let flagged = found(1, 1, |seen, table| {
            seen.state.owned.clear();
            table.changes.clear();
        });
        assert!(flagged.is_empty(), "cvipd adopts it");
    }

    #[test]
    fn a_real_server_that_balances_the_cvip_is_a_fault() {
        let lines = found(3, 1, |_, _| {});
        assert!(lines[0].contains("node 3 is not the active director of 192.0.2.10"), "{lines:?}");
        assert!(lines[0].ends_with("run: ipvsadm-rs -D -t 192.0.2.10:80"), "{lines:?}");
    }

    #[test]
    fn a_standby_may_have_the_table_if_its_kernel_ignores_it() {
        let standby = |only: &'static str, daemons: &'static [DaemonRole]| {
            found(2, 2, move |seen, table| {
                let host = seen.host.as_mut().unwrap();
                host.set("net/ipv4/vs/backup_only", only);
                table.daemons = daemons
                    .iter()
                    .map(|role| SyncDaemon {
                        role: *role,
                        interface: "eth1".to_owned(),
                        sync_id: 1,
                        max_len: None,
                        group: None,
                        port: None,
                        ttl: None,
                    })
                    .collect();
            })
        };
        assert!(standby("1", &[DaemonRole::Backup]).is_empty());
        assert!(standby("0", &[DaemonRole::Backup])[0].contains("backup_only 1"));
        assert!(standby("1", &[])[0].contains("sent on again"));
    }
}
