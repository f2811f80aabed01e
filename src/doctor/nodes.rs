//! What the store tells of each node: does its cvipd live, does its record agree with cvip.conf,
//! how does it notice listeners.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Finding;
use super::observed::{Observed, ServerFault, subject};
use crate::conf::RegistrationMode;
use crate::director::liveness::Liveness;
use crate::heartbeat::PORT;
use crate::node::leaving::left_behind;
use crate::store::{Key, NodeRecord, Scope};

/// How a finding begins about a configuration that cvipd did not take.
pub(crate) const LAST_GOOD: &str = "cvipd goes on with its last good configuration";

/// A node that leaves, and whose cvipd runs.
const LEAVING: &str = "it is leaving the cluster (cvipctl leave): it gets no new connections";

/// Everything that the store tells of nodes.
pub(super) fn nodes(seen: &Observed) -> Vec<Finding> {
    let named = seen.conf.nodes();
    // The one complaint about a node that cvip.conf does not name is this: see `removed`.
    let complaints = seen.complaints.iter().filter(|_| !seen.is_removed());
    let mut findings: Vec<Finding> = complaints
        .map(|complaint| {
            let what = format!("{LAST_GOOD}: {complaint}");
            Finding::fault(seen.here(), what)
                .fix("fix the file (cvipctl check), and let cvipd read it:")
                .run("systemctl reload cvipd")
        })
        .collect();
    findings.extend(seen.corrupt.iter().map(|fault| {
        let what = format!(
            "a value cannot be read; where cvipd runs, its last good one stays in force: {fault}"
        );
        Finding::fault("store", what).fix(match fault.key {
            Key::Node(node) | Key::Alive(node) | Key::Owned(node) => format!(
                "let its owner write it anew: restart the cvipd of node {node}, on that node \
                 (`systemctl restart cvipd`)"
            ),
            Key::Flags(_) => "set the flags again with setport_weight".to_owned(),
            Key::Drains => "order the drains again with `cvipctl drain`".to_owned(),
            Key::Director(_) => {
                "restart cvipd on a director; if it lasts, remove the value by hand, in etcd with \
                 `etcdctl del KEY`"
                    .to_owned()
            }
        })
    }));
    findings.extend(seen.unsaved.iter().map(|unsaved| {
        let what = format!("what cvipd knows stays in force, and is lost with its end: {unsaved}");
        Finding::warning(seen.here(), what).fix(
            "do what it says; if that is nothing, make room in the file system of the run \
                 folder, or let root write there",
        )
    }));
    findings.extend(seen.ports_taken.iter().map(|taken| {
        let what = format!("{taken}: no heartbeats are heard there, and a failure is seen late");
        Finding::fault(seen.here(), what).fix(
            "end that program: cvipd tries again every second; or set heartbeat_port in cvip.toml, \
             on every node, to a port below 1024, which is root's",
        )
    }));
    findings.extend(seen.store_servers.iter().map(|ServerFault { ends_writes, what, fix }| {
        match ends_writes {
            true => Finding::fault("store", what).fix(fix),
            false => Finding::warning("store", what).fix(fix),
        }
    }));
    if let Some(why) = &seen.unavailable {
        findings.push(Finding::fault("store", why).fix(
            "`cvipctl check` says which of its servers answer, and what this host may do there",
        ));
        return findings;
    }
    for node in &named {
        findings.extend(cvipd(seen, *node));
        findings.extend(seen.state.nodes.get(node).into_iter().flat_map(|r| told(seen, r)));
    }
    let is_other = |node: &&u32| !named.contains(node) && seen.node != Some(**node);
    for node in seen.state.nodes.keys().filter(is_other) {
        findings.extend(stranger(seen, *node));
    }
    findings.extend(seen.node.filter(|node| !named.contains(node)).map(|node| removed(seen, node)));
    findings.extend(undirected(seen));
    findings.extend(embedded(seen));
    findings.extend(balanced(seen));
    findings
}

/// CVIPs whose directors have not elected one of them.
fn undirected(seen: &Observed) -> Vec<Finding> {
    let sets = seen.conf.director_sets().into_iter();
    let undirected =
        sets.filter(|set| set.cvips.iter().all(|cvip| seen.roles.active(*cvip).is_none()));
    let finding = |set: crate::conf::DirectorSet| {
        let listed = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        let cvips = listed(&mut set.cvips.iter().map(ToString::to_string));
        let directors = listed(&mut set.directors.iter().map(ToString::to_string));
        let subject = format!("CVIP {cvips}");
        let what = format!(
            "none of its directors (nodes {directors}) was elected yet: no node carries it, and \
             clients are not answered"
        );
        match set.directors.iter().any(|node| seen.alive.contains(node)) {
            true => Finding::warning(subject, what).fix(
                "an election takes a few seconds after a start; if it lasts, see the log of a \
                 director's cvipd: `journalctl -u cvipd`",
            ),
            false => Finding::fault(subject, what)
                .fix("start cvipd on one of them: `systemctl start cvipd`"),
        }
    };
    undirected.map(finding).collect()
}

/// A node's cvipd.
fn cvipd(seen: &Observed, node: u32) -> Option<Finding> {
    let alive = seen.alive.contains(&node);
    if seen.leaves(node) {
        return Some(match alive {
            true => Finding::note(subject(node), LEAVING),
            false => left(seen, node),
        });
    }
    let is_recorded = seen.state.nodes.contains_key(&node) || seen.is_corrupt(node);
    let what = match (alive, is_recorded) {
        (true, true) => return unheard(seen, node),
        (true, false) => {
            let what = "its cvipd runs and has not looked at its listeners yet";
            return Some(Finding::note(subject(node), what));
        }
        (false, false) => {
            "it has no record: its cvipd has never run with this store, and what \
                           listens there is not known"
        }
        (false, true) => "its cvipd does not run: listeners that come and go there are not noticed",
    };
    let role = match (seen.roles.is_active(node), seen.conf.is_director(node)) {
        (true, _) => "; it is the active director, so the table is not kept up to date",
        (false, true) => "; it is a director, and cannot take over",
        (false, false) => "",
    };
    let finding = |more: &str| Finding::fault(subject(node), format!("{what}{role}{more}"));
    Some(match (seen.node == Some(node), &seen.start_fault) {
        (true, None) => finding("").run("systemctl start cvipd"),
        (true, Some(why)) => finding(&format!("; and it cannot start: {why}"))
            .fix("do what that says, then start it:")
            .run("systemctl start cvipd"),
        (false, _) => finding("").fix("start it on that node: `systemctl start cvipd`"),
    })
}

/// A node whose cvipd ended while it left, or after it had.
fn left(seen: &Observed, node: u32) -> Finding {
    let here = (seen.node == Some(node)).then(|| left_behind(node, seen.made(), &seen.state));
    if let Some(left) = here.flatten() {
        let what = format!(
            "its cvipd ended before it had left the cluster (cvipctl leave): it gets no new \
             connections, and {left} stay here"
        );
        return Finding::fault(subject(node), what)
            .fix("start cvipd, and leave again:")
            .run("systemctl start cvipd")
            .run("cvipctl leave");
    }
    let what = "it has left the cluster (cvipctl leave), and serves and directs nothing until its \
                cvipd is started again";
    Finding::note(subject(node), what)
}

/// A node whose cvipd has its lease, and is not heard.
fn unheard(seen: &Observed, node: u32) -> Option<Finding> {
    match seen.liveness_of.get(&node)? {
        Liveness::Alive => return None,
        Liveness::Suspected | Liveness::Dead => {
            let what = "this director hears nothing of it: it gets no new connections until it is \
                        heard again";
            return Some(Finding::warning(subject(node), what).fix(
                "see to that machine and its network; if it is well, look at its cvipd: \
                 `systemctl status cvipd` there",
            ));
        }
        Liveness::AgentDown => {}
    }
    let what = format!(
        "its machine answers, but its cvipd is not heard: it hangs, or has another cluster key, or \
         UDP port {PORT} is filtered; listeners that come and go there may not be noticed"
    );
    Some(Finding::fault(subject(node), what).fix(
        "compare the cluster keys (sha256sum), look at the firewall, and restart it if it hangs: \
         `systemctl restart cvipd`",
    ))
}

/// What a node's record says beside what it serves.
fn told(seen: &Observed, record: &NodeRecord) -> Vec<Finding> {
    let node = record.node;
    let mut findings = Vec::new();
    if record.event_source.starts_with("polling") && seen.alive.contains(&node) {
        let what = format!(
            "listeners are noticed by {}: a change takes part up to half a second later than with \
             the kernel's events",
            record.event_source
        );
        findings.push(Finding::note(subject(node), what));
    }
    let services = record.registrations.iter().map(|registration| registration.service);
    let services = services.chain(record.refused.iter().map(|refused| refused.service));
    let cvips: BTreeSet<IpAddr> = services.map(|service| service.cvip).collect();
    let foreign = cvips
        .into_iter()
        .filter(|cvip| seen.conf.cvip(*cvip).is_none_or(|cvip| cvip.real_server(node).is_none()));
    let foreign: Vec<String> = foreign.map(|cvip| cvip.to_string()).collect();
    if !foreign.is_empty() {
        let what = format!(
            "its record speaks of {}, which this host's cvip.conf does not let it serve: it goes \
             by another cvip.conf",
            foreign.join(", ")
        );
        findings.push(Finding::warning(subject(node), what).fix(
            "give every node the same cvip.conf and clustertab, and let each cvipd read them: \
             `systemctl reload cvipd`",
        ));
    }
    for unhealthy in
        record.registrations.iter().filter_map(|r| Some((r.service, r.unhealthy.as_ref()?)))
    {
        let (service, why) = unhealthy;
        let what = format!("{service} fails its check there: {why}");
        findings.push(
            Finding::fault(subject(node), what)
                .fix("see to the server process on that node, or to the check in cvip.conf"),
        );
    }
    findings
}

/// This host's node, which cvip.conf does not name.
fn removed(seen: &Observed, node: u32) -> Finding {
    let what = "cvip.conf gives this node no role: it is neither a director nor a real server";
    if !seen.is_removed() {
        return Finding::warning(subject(node), what).fix(
            "add a real_server_node for it to cvip.conf on every node, or run cvipctl doctor on \
             another",
        );
    }
    let is_leaving = seen.state.nodes.get(&node).is_some_and(|record| record.leaving);
    let keeps = match (is_leaving, seen.made().len()) {
        (true, _) => return Finding::note(subject(node), format!("{what}; {LEAVING}")),
        (false, 0) => "its cvipd runs all the same".to_owned(),
        (false, made) => format!(
            "its cvipd goes on with what it has, for those who are connected, and keeps {made} \
             {} until it leaves",
            if made == 1 { "address or setting" } else { "addresses and settings" }
        ),
    };
    Finding::warning(subject(node), format!("{what}; {keeps}"))
        .fix(
            "take it out in good order, and start cvipd here no more; or name it in cvip.conf \
             again, on every node, and let each cvipd read it (systemctl reload cvipd):",
        )
        .run(format!("cvipctl leave --node={node}"))
        .run("systemctl disable cvipd")
}

/// A node that cvip.conf does not name.
fn stranger(seen: &Observed, node: u32) -> Option<Finding> {
    if seen.alive.contains(&node) {
        let what = "its cvipd runs, but this host's cvip.conf gives it no role: its listeners are \
                    not balanced, and it goes by another cvip.conf";
        return Some(Finding::warning(subject(node), what).fix(
            "name it in cvip.conf on every node and let each cvipd read it; or take it out, on that \
             node: `cvipctl leave`, then `systemctl disable cvipd`",
        ));
    }
    let what = "it has a record, but cvip.conf gives it no role any more";
    Some(Finding::note(subject(node), what))
}

/// Nodes that cannot have written into a store that is this host's own.
fn embedded(seen: &Observed) -> Option<Finding> {
    let silent = seen.conf.nodes().into_iter().filter(|node| {
        !seen.alive.contains(node)
            && !seen.state.nodes.contains_key(node)
            && !seen.is_corrupt(*node)
            && Some(*node) != seen.node
    });
    let silent: Vec<String> = silent.map(|node| node.to_string()).collect();
    if !seen.embedded || silent.is_empty() {
        return None;
    }
    let unavailable = match silent.len() {
        1 => format!("node {} is on another machine, it cannot", silent[0]),
        _ => format!("nodes {} are on other machines, they cannot", silent.join(", ")),
    };
    let what = format!(
        "it is embedded, and so this host's own: if {unavailable} write into it, and nothing that listens \
         there is balanced"
    );
    Some(Finding::warning("store", what).fix(
        "set up etcd and name it in cvip.toml(5); if all nodes are network namespaces or \
         containers of this host, start their cvipd, and say so there with store = \"local\"",
    ))
}

/// Is there anything to balance?
fn balanced(seen: &Observed) -> Option<Finding> {
    let own = seen.conf.nodes().into_iter().map(|node| seen.flags_of(node));
    let flags = own.chain([seen.state.flags_of(Scope::Cluster)]).any(|set| !set.is_empty());
    let services = || seen.conf.cvips.iter().flat_map(|cvip| &cvip.services);
    let is_known = seen.corrupt.is_empty();
    if is_known && !flags && services().next().is_none() {
        let what = "nothing is balanced: no port is flagged, and cvip.conf has no service";
        return Some(
            Finding::warning("cluster", what)
                .fix(
                    "flag the ports whose listeners are to serve the cluster (the command flags \
                     port 80), or add <service> elements to cvip.conf:",
                )
                .run("setport_weight --start-port=80 --end-port=80 --weight=1 --cluster"),
        );
    }
    let registered = seen.state.nodes.values().any(|record| !record.registrations.is_empty());
    let fixed = services().any(|service| service.registration == RegistrationMode::Static);
    (!registered && !fixed && is_known).then(|| {
        Finding::note("cluster", "nothing is balanced: no process listens on a flagged port")
    })
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::super::testing::*;
    use super::*;
    use crate::conf::{Routing, ServiceConf};
    use crate::net::Done;
    use crate::protocol::Protocol;
    use crate::store::{Fault, RefusedListener, StoreState};

    fn healthy(node: u32) -> Observed {
        seen(conf(Routing::Dr, &["192.0.2.10"], 2), node)
    }

    #[test]
    fn a_cluster_whose_cvipds_all_run_has_nothing_to_tell() {
        assert!(nodes(&healthy(3)).is_empty());
    }

    #[test]
    fn a_cvipd_that_does_not_run_is_a_fault_by_its_nodes_part() {
        let mut seen = healthy(3);
        seen.alive.clear();
        seen.state.nodes.remove(&4);
        seen.embedded = false;
        let lines = lines(&nodes(&seen));
        assert!(
            lines[0].contains("node 1: its cvipd does not run") && lines[0].contains("is not kept")
        );
        assert!(lines[1].contains("node 2") && lines[1].contains("cannot take over"), "{lines:?}");
        assert!(lines[2].ends_with("run: systemctl start cvipd"), "this node: {lines:?}");
        assert!(lines[3].contains("it has no record: its cvipd has never run"), "{lines:?}");
        assert_eq!(lines.len(), 4);
        seen.start_fault = Some("/etc/cvip/cluster.key: too short".to_owned());
        let cannot = super::super::testing::lines(&nodes(&seen));
        assert!(
            cannot[2].contains("; and it cannot start: /etc/cvip/cluster.key: too short\n"),
            "{cannot:?}"
        );
    }

    #[test]
    fn a_corrupt_record_is_one_fault_and_nothing_is_concluded_from_its_absence() {
        let mut seen = healthy(1);
        seen.state.nodes.remove(&3);
        seen.corrupt = vec![Fault {
            key: Key::Node(3),
            path: "nodes/3.json".into(),
            set_aside: None,
            reason: "it is empty".to_owned(),
        }];
        let found = lines(&nodes(&seen));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("nodes/3.json: it is empty")
                && found[0].contains("restart the cvipd of node 3"),
            "{found:?}"
        );
        seen.alive.remove(&3);
        let ended = lines(&nodes(&seen));
        assert!(ended[1].starts_with("fault: node 3: its cvipd does not run"), "{ended:?}");
        assert_eq!(ended.len(), 2);
    }

    #[test]
    fn a_node_that_left_is_no_fault() {
        let mut seen = healthy(3);
        seen.state.nodes.get_mut(&4).unwrap().leaving = true;
        let leaving = lines(&nodes(&seen));
        assert!(leaving[0].starts_with("note: node 4: it is leaving the cluster"), "{leaving:?}");
        seen.alive.remove(&4);
        let left = lines(&nodes(&seen));
        assert!(left[0].starts_with("note: node 4: it has left the cluster"), "{left:?}");
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_leave_that_was_not_done_is_a_fault_on_its_own_host_and_says_what_to_do() {
        let mut seen = healthy(4);
        seen.state.nodes.get_mut(&4).unwrap().leaving = true;
        seen.alive.remove(&4);
        let mut host = host(4);
        host.carry("192.0.2.10", "lo");
        let carried = Done::Added { addr: addr("192.0.2.10"), prefix: 32, device: "lo".to_owned() };
        host.made = Some(vec![carried]);
        seen.host = Some(host);
        let found = lines(&examine(&seen));
        assert!(
            found[0].starts_with("fault: node 4: its cvipd ended before it had left the cluster")
                && found[0].contains("1 address or setting that cvipd made stay here")
                && found[0].ends_with("run: systemctl start cvipd\n    run: cvipctl leave"),
            "{found:?}"
        );
        let faults = found.iter().filter(|line| line.starts_with("fault")).count();
        assert_eq!(faults, 1, "nothing else is advised: {found:?}");
        seen.node = Some(3);
        assert!(lines(&nodes(&seen))[0].starts_with("note: node 4: it has left"), "from elsewhere");
    }

    #[test]
    fn a_running_node_that_was_removed_from_the_file_gets_one_advice() {
        let mut seen = healthy(4);
        let mut host = host(4);
        host.carry("192.0.2.10", "lo");
        let carried = Done::Added { addr: addr("192.0.2.10"), prefix: 32, device: "lo".to_owned() };
        host.made = Some(vec![carried]);
        seen.host = Some(host);
        seen.complaints = vec!["node 4 is neither a director nor a real server".to_owned()];
        seen.conf.cvips[0].real_servers.retain(|server| server.node != 4);
        let found = lines(&examine(&seen));
        assert!(
            found[0].starts_with("warning: node 4: cvip.conf gives this node no role")
                && found[0].contains("keeps 1 address or setting until it leaves")
                && found[0]
                    .ends_with("run: cvipctl leave --node=4\n    run: systemctl disable cvipd"),
            "{found:?}"
        );
        assert!(found[1..].iter().all(|line| line.starts_with("note: ")), "{found:?}");
        seen.state.nodes.get_mut(&4).unwrap().leaving = true;
        let leaving = lines(&examine(&seen));
        assert!(leaving.iter().all(|line| line.starts_with("note: ")), "{leaving:?}");
        // One that does not run undoes nothing any more, and cannot be started to.
        seen.alive.remove(&4);
        let ended = lines(&examine(&seen));
        assert!(
            ended.iter().any(|l| l.ends_with("run: ip addr del 192.0.2.10/32 dev lo")),
            "{ended:?}"
        );
    }

    #[test]
    fn before_an_election_no_director_is_called_active() {
        let mut seen = healthy(3);
        seen.roles = super::super::Roles::by_store(&seen.conf, &Default::default());
        let before = lines(&nodes(&seen));
        assert_eq!(before.len(), 1, "{before:?}");
        assert!(before[0].starts_with("warning: CVIP 192.0.2.10: none of its directors"));
        seen.alive.clear();
        let down = lines(&nodes(&seen));
        assert!(down.iter().any(|line| line.starts_with("fault: CVIP 192.0.2.10: none")));
        assert!(!down.iter().any(|line| line.contains("is the active director")), "{down:?}");
    }

    #[test]
    fn of_a_store_that_is_away_nothing_is_concluded() {
        let mut seen = healthy(3);
        (seen.alive, seen.state) = (Default::default(), StoreState::default());
        seen.unavailable = Some("the store cannot be reached".to_owned());
        let lines = lines(&nodes(&seen));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("fault: store: the store cannot be reached"), "{lines:?}");
    }

    #[test]
    fn an_embedded_store_that_nodes_never_wrote_into_is_a_warning() {
        let mut seen = healthy(3);
        seen.alive = [3].into();
        seen.state.nodes.retain(|node, _| *node == 3);
        let found = lines(&nodes(&seen));
        let store = found.iter().find(|line| line.contains("store: ")).unwrap();
        assert!(store.contains("if nodes 1, 2, 4 are on other machines"), "{store}");
        seen.embedded = false;
        assert!(!lines(&nodes(&seen)).iter().any(|line| line.contains("store: ")));
    }

    #[test]
    fn polling_another_file_and_a_hung_server_are_told() {
        let mut seen = healthy(1);
        let third = seen.state.nodes.get_mut(&3).unwrap();
        third.event_source = "polling every 200 ms (no cgroup v2)".to_owned();
        third.registrations[0].unhealthy = Some("its accept queue stays full".to_owned());
        third.refused.push(RefusedListener {
            service: key("203.0.113.9", Protocol::Tcp, 81),
            bound: addr("127.0.0.1"),
            uid: 0,
            reason: String::new(),
            reachable: false,
        });
        seen.state.nodes.insert(9, record(9));
        seen.complaints = vec!["cvip.conf:3:1: error: x".to_owned()];
        let wrong = |seen: &mut Observed, wrong: &str| {
            let wrong = wrong.to_owned();
            seen.unsaved = vec![wrong.clone()];
            seen.ports_taken = vec![wrong.clone()];
            let of_server =
                |ends_writes| ServerFault { ends_writes, what: wrong.clone(), fix: wrong.clone() };
            seen.store_servers = vec![of_server(true), of_server(false)];
        };
        wrong(&mut seen, "xyz");
        let all = lines(&nodes(&seen));
        assert_eq!(all.iter().filter(|line| line.contains("xyz")).count(), 4, "{all:?}");
        assert_eq!(all.iter().filter(|line| line.starts_with("fault: store: xyz")).count(), 1);
        (seen.unsaved, seen.ports_taken, seen.store_servers) = Default::default();
        let lines = lines(&nodes(&seen));
        assert!(lines[0].starts_with("fault: node 1: cvipd goes on with its last good"));
        assert!(lines[1].starts_with("note: node 3: listeners are noticed by polling"));
        assert!(lines[2].contains("speaks of 203.0.113.9"), "{lines:?}");
        assert!(lines[3].contains("its accept queue stays full"), "{lines:?}");
        assert!(lines[4].starts_with("note: node 9: it has a record"), "{lines:?}");
        seen.alive.insert(9);
        assert!(super::super::testing::lines(&nodes(&seen))[4].starts_with("warning: node 9"));
    }

    #[test]
    fn a_cluster_in_which_nothing_is_balanced_says_why() {
        let mut seen = healthy(3);
        seen.state.nodes.get_mut(&3).unwrap().registrations.clear();
        let silent = lines(&nodes(&seen));
        assert_eq!(
            silent,
            ["note: cluster: nothing is balanced: no process listens on a flagged port"]
        );
        let state = StoreState { flags: Default::default(), ..seen.state.clone() };
        seen.state = state;
        let unflagged = lines(&nodes(&seen));
        assert!(unflagged[0].starts_with("warning: cluster: nothing is balanced: no port"));
        let mut service = ServiceConf::new(Protocol::Udp, 177, 177);
        service.registration = RegistrationMode::Static;
        seen.conf.cvips[0].services.push(service);
        assert!(nodes(&seen).is_empty());
    }

    #[test]
    fn a_node_without_a_part_is_told_so() {
        let mut seen = healthy(3);
        seen.node = Some(7);
        assert!(lines(&nodes(&seen))[0].starts_with("warning: node 7: cvip.conf gives this node"));
    }
}
