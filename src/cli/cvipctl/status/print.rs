//! The report as text, for people. Pure.

use std::collections::BTreeMap;

use super::super::overview::{
    Condition, Load, NodeNames, PoolRow, ServerRow, ServerState, StatusReport, address, cut,
    describe, short,
};
use super::page::{Page, Tone};
use crate::cli::{cells, ports};
use crate::doctor::{Finding, Severity};

const NODES: [&str; 6] = ["Node", "Name", "Address", "Weight", "Role", "cvipd"];
const SETS: [&str; 4] = ["Directors", "CVIP", "Active", "Term"];
const POOL: [&str; 6] = ["Weight", "Active", "Inactive", "Conn/s", "B in/s", "B out/s"];
const DRAINED: [&str; 4] = ["Drained", "Connections", "By", "Reason"];
const FLAGS: [&str; 4] = ["Flag of", "Protocol", "Ports", "Weight"];

/// The titles of each table that `status` prints, in its order.
#[cfg(feature = "internal")]
pub const STATUS_TITLES: [&[&str]; 5] = [&NODES, &SETS, &POOL, &DRAINED, &FLAGS];

/// So wide are the columns of numbers of a service.
const WIDTHS: [usize; 6] = [7, 8, 10, 8, 8, 9];

/// So many findings are told beside the headline; `cvipctl doctor` tells all.
const FINDINGS: usize = 6;

/// The page that shows the report.
pub(super) fn text(
    report: &StatusReport,
    names: &NodeNames,
    width: usize,
    in_colour: bool,
) -> String {
    let mut page = Page::new(width, in_colour);
    page.line(tone_of(report.headline.condition), &report.headline.line(width));
    findings(&mut page, report, names);
    cluster(&mut page, report);
    nodes(&mut page, report, names);
    let none = if report.known { "none yet" } else { "not known" };
    let sets = report.director_sets.iter().filter(|row| row.directors.len() > 1).map(|row| {
        let active = row.active.map_or(none.to_owned(), |node| match names.name(node) {
            Some(name) => format!("{node} ({name})"),
            None => node.to_string(),
        });
        let term = row.term.map_or(none.to_owned(), |term| term.to_string());
        [join(&row.directors), join(&row.cvips), active, term]
    });
    page.table(SETS, &["Term"], &sets.collect::<Vec<_>>());
    for pool in &report.pools {
        page.gap();
        service(&mut page, pool);
    }
    beside(&mut page, report, names);
    page.finish()
}

fn tone_of(condition: Condition) -> Tone {
    match condition {
        Condition::Ok => Tone::Good,
        Condition::Warning => Tone::Warning,
        Condition::Fault => Tone::Fault,
    }
}

/// What is wrong, in full, and what could not be seen.
fn findings(page: &mut Page, report: &StatusReport, names: &NodeNames) {
    if let Some(faulty) = &report.faulty_files {
        page.wrapped(Tone::Plain, "", 4, faulty);
    }
    let of_files = |finding: &Finding| {
        let faulty = report.faulty_files.as_ref();
        finding.subject.starts_with('/') && faulty.is_some_and(|f| f.contains(&finding.what))
    };
    let mut wrong = report
        .findings
        .iter()
        .filter(|finding| finding.severity != Severity::Note && !of_files(finding));
    for finding in wrong.by_ref().take(FINDINGS) {
        let tone = match finding.severity {
            Severity::Fault => Tone::Fault,
            _ => Tone::Warning,
        };
        let text = format!("{}: {}", names.subject(&finding.subject), finding.what);
        page.wrapped(tone, &format!("{}: ", finding.severity), 4, &text);
    }
    match wrong.count() {
        0 => {}
        more => page.line(Tone::Plain, &format!("and {more} more: cvipctl doctor")),
    }
    for skipped in report.unexamined.iter().filter(|skipped| !skipped.is_expected) {
        // What is shown in place of a faulty file is said above.
        if report.faulty_files.as_ref() != Some(&skipped.why) {
            page.wrapped(
                Tone::Plain,
                "not seen: ",
                4,
                &format!("{}: {}", skipped.what, skipped.why),
            );
        }
    }
}

fn cluster(page: &mut Page, report: &StatusReport) {
    page.gap();
    match &report.routing {
        Some(routing) => {
            page.wrapped(Tone::Plain, "CVIP ", 4, &format!("{} by {routing}", join(&report.cvips)));
        }
        None => page.wrapped(
            Tone::Plain,
            "CVIP ",
            4,
            "unknown: there is no cvip.conf, or it has faults, and no cvipd here tells what it runs",
        ),
    }
}

fn nodes(page: &mut Page, report: &StatusReport, names: &NodeNames) {
    let rows = report.nodes.iter().map(|row| {
        let name = names.name(row.node).unwrap_or_default();
        let roles = row.roles.join(", ");
        cells![row.node, name, join(&row.addresses), join(&row.weights), roles, describe(row)]
    });
    page.table(NODES, &["Node", "Weight"], &rows.collect::<Vec<_>>());
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in &report.nodes {
        let why = match (report.known, row.has_record, row.leaving) {
            (_, _, true) => continue,
            (true, true, _) => "none",
            (true, false, _) => "no record yet",
            (false, ..) => "not known",
        };
        let source = row.event_source.as_deref().unwrap_or(why);
        sources.entry(source).or_default().push(names.called(row.node));
    }
    let many = sources.len() > 1;
    let sources = sources.into_iter().map(|(source, nodes)| match many {
        true => format!("{source} ({})", nodes.join(", ")),
        false => source.to_owned(),
    });
    let sources: Vec<String> = sources.collect();
    if !sources.is_empty() {
        page.wrapped(Tone::Faint, "Listeners noticed by: ", 4, &sources.join("; "));
    }
}

/// A service and its real servers.
fn service(page: &mut Page, pool: &PoolRow) {
    let mut title = pool.service.clone();
    if let Some(scheduler) = &pool.scheduler {
        title += &format!(" {scheduler}");
    }
    if pool.owned == Some(false) {
        title += " (not cvipd's)";
    }
    let titles = match (pool.load.is_some(), pool.servers.iter().any(|s| s.weight.is_some())) {
        (true, _) => &POOL[..],
        (false, true) => &POOL[..1],
        (false, false) => &[],
    };
    let room = page.width().saturating_sub(WIDTHS.iter().sum());
    let titles = aligned(titles, &WIDTHS);
    match title.chars().count() <= room {
        true => page.line(Tone::Title, &format!("{title:<room$}{titles}")),
        false => {
            page.line(Tone::Title, &title);
            page.line(Tone::Title, &format!("{:<room$}{titles}", ""));
        }
    }
    if let Some(quorum) = pool.quorum.filter(|quorum| quorum.has_quorum == Some(false)) {
        page.line(Tone::Fault, &format!("  no quorum of {}", quorum.weight));
    }
    if pool.servers.is_empty() {
        page.line(Tone::Plain, "  no real server");
    }
    for server in &pool.servers {
        self::server(page, server, room);
    }
    if let Some(load) = pool.load.filter(|_| pool.servers.len() > 1) {
        let weight = " ".repeat(WIDTHS[0]);
        page.line(Tone::Faint, &format!("{:<room$}{weight}{}", "  all", numbers(&load)));
    }
}

fn server(page: &mut Page, server: &ServerRow, room: usize) {
    let called = match (&server.name, server.node) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(node)) => Some(format!("node {node}")),
        (None, None) => None,
    };
    let words: Vec<String> = called.into_iter().chain(address(server)).collect();
    let name = cut(&format!("  {}", words.join(" ")), room.saturating_sub(1));
    let weight = server.weight.map_or_else(String::new, |weight| weight.to_string());
    let load = server.load.map_or_else(String::new, |load| numbers(&load));
    let weight = aligned(&[weight], &WIDTHS);
    page.line(Tone::Plain, &format!("{name:<room$}{weight}{load}"));
    if server.state == ServerState::Serves {
        return;
    }
    let tone = match server.state {
        ServerState::Drained
        | ServerState::Draining
        | ServerState::Sorry
        | ServerState::SlowStart => Tone::Warning,
        ServerState::Refused => Tone::Plain,
        _ => Tone::Fault,
    };
    let reason = server.reason.as_ref();
    let colon = if reason.is_some() { ": " } else { "" };
    let head = format!("    {}{colon}", server.state);
    page.wrapped(tone, &head, 6, reason.map_or("", String::as_str));
}

fn numbers(load: &Load) -> String {
    let numbers = [
        load.active.to_string(),
        load.inactive.to_string(),
        short(load.rate),
        short(load.bytes_in_per_s),
        short(load.bytes_out_per_s),
    ];
    aligned(&numbers, &WIDTHS[1..])
}

/// Cells at the right of their columns.
fn aligned(cells: &[impl AsRef<str>], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths);
    cells.map(|(cell, width)| format!("{:>width$}", cell.as_ref())).collect()
}

/// What concerns no single service.
fn beside(page: &mut Page, report: &StatusReport, names: &NodeNames) {
    let drains = report.drains.iter().map(|row| {
        let reason = row.reason.as_deref().unwrap_or_default();
        let target = names.numbered(row.target.node);
        let port = row.target.port.map_or_else(String::new, |(p, port)| format!(" {p} {port}"));
        cells![format!("{target}{port}"), row.connections.unwrap_or(0), row.by, reason]
    });
    page.table(DRAINED, &["Connections"], &drains.collect::<Vec<_>>());
    let flags = report.flags.iter();
    let flags = flags.map(|r| cells![r, r.flag.protocol, ports(r.flag), r.flag.weight]);
    page.table(FLAGS, &["Weight"], &flags.collect::<Vec<_>>());
    page.gap();
    for (node, more) in &report.refused_more {
        let text = format!(
            "and {more} more listeners do not join on {}: `cvipctl doctor` there names them",
            names.called(*node)
        );
        page.wrapped(Tone::Plain, "", 4, &text);
    }
    if let Some(every) = report.table_read_every_ms.filter(|every| *every > 1000) {
        let every = every.div_ceil(1000);
        let text = format!("The table is large: it is looked at, and repaired, every {every} s");
        page.line(Tone::Plain, &text);
    }
    for row in &report.nodes {
        for hint in &row.hints {
            page.wrapped(Tone::Plain, &format!("{}: ", names.called(row.node)), 4, hint);
        }
    }
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::overview::testing::{Cluster, key};
    use super::*;
    use crate::conf::Quorum;
    use crate::director::view::{QuorumView, SlowStarting};
    use crate::protocol::Protocol;
    use crate::store::NodeRecord;

    fn shown(cluster: Cluster) -> String {
        let overview = cluster.overview();
        let text = text(&overview.report, &overview.names, 80, false);
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:?}");
        text
    }

    #[test]
    fn a_cluster_that_is_well_is_ok_in_one_line_and_each_service_is_a_block() {
        snapbox::assert_data_eq!(
            shown(Cluster::well()),
            snapbox::str![[r#"
OK: 1 CVIP, 2 services of 3 real servers, active director: alpha

CVIP 192.0.2.10 by DR

Node  Name   Address    Weight  Role                   cvipd
   1  alpha  192.0.2.1       1  director, real server  running
   2  beta   192.0.2.2       2  standby, real server   running
   3         192.0.2.3       1  real server            running
Listeners noticed by: cgroup BPF

Directors  CVIP        Active     Term
1, 2       192.0.2.10  1 (alpha)     4

tcp 192.0.2.10:80 wlc          Weight  Active  Inactive  Conn/s  B in/s  B out/s
  alpha 192.0.2.1:80                1      12         3      40   25.6k        0
  beta 192.0.2.2:80                 2      23         6      80   51.2k        0
  node 3 192.0.2.3:80               1       9         0      38   20.0k        0
  all                                      44         9     158   96.8k        0

udp 192.0.2.10:53 rr           Weight  Active  Inactive  Conn/s  B in/s  B out/s
  alpha 192.0.2.1:53                1       0         7       7     420        0
  beta 192.0.2.2:53                 2       0        15      15     900        0
  all                                       0        22      22    1320        0

Flag of  Protocol  Ports  Weight
cluster  tcp       80          1

"#]]
        );
    }

    #[test]
    fn what_is_wrong_comes_first_and_the_reason_stands_below_each_real_server() {
        snapbox::assert_data_eq!(
            shown(Cluster::troubled()),
            snapbox::str![[r#"
FAULT: beta: tcp 192.0.2.10:80 fails its check there. Run: cvipctl doctor
fault: node 2 (beta): tcp 192.0.2.10:80 fails its check there: status 503, not
    200-399

CVIP 192.0.2.10 by DR

Node  Name   Address    Weight  Role                   cvipd
   1  alpha  192.0.2.1       1  director, real server  running
   2  beta   192.0.2.2       2  standby, real server   running
   3         192.0.2.3       1  real server            running
Listeners noticed by: cgroup BPF

Directors  CVIP        Active     Term
1, 2       192.0.2.10  1 (alpha)     4

tcp 192.0.2.10:80 wlc          Weight  Active  Inactive  Conn/s  B in/s  B out/s
  alpha 192.0.2.1:80                1      12         3      40   25.6k        0
  beta 192.0.2.2:80                 0      23         6      80   51.2k        0
    unhealthy: status 503, not 200-399
  node 3 192.0.2.3:80               0       9         0      38   20.0k        0
    draining: by root@alpha: new disk; out in 240 s at the latest
  all                                      44         9     158   96.8k        0

tcp 192.0.2.10:8080
  node 3 127.0.0.1:8080
    does not join: bound to loopback

udp 192.0.2.10:53 rr           Weight  Active  Inactive  Conn/s  B in/s  B out/s
  alpha 192.0.2.1:53                1       0         7       7     420        0
  beta 192.0.2.2:53                 2       0        15      15     900        0
  all                                       0        22      22    1320        0

Drained  Connections  By          Reason
node 3             0  root@alpha  new disk

Flag of  Protocol  Ports  Weight
cluster  tcp       80          1

"#]]
        );
    }

    #[test]
    fn a_faulty_file_hides_nothing_and_what_is_shown_instead_is_said() {
        let mut cluster = Cluster::well();
        let problem = "/etc/cvip/cvip.conf:3:17: unknown routing method `RD`; the file is not \
                       taken: cvipd of node 1 runs the former configuration, which is what is \
                       shown (`cvipctl check` shows every fault)";
        cluster.known.problem = Some(problem.to_owned());
        cluster.findings = vec![Finding {
            severity: Severity::Fault,
            subject: "/etc/cvip/cvip.conf:3:17".to_owned(),
            what: "unknown routing method `RD`".to_owned(),
            fix: "it is one of DR, NAT or TUN (`cvipctl check` shows the place)".to_owned(),
            commands: Vec::new(),
        }];
        let text = shown(cluster);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "FAULT: cvip.conf:3:17: unknown routing method `RD`. Run: cvipctl check"
        );
        let words = lines[1..4].join(" ").replace("    ", "");
        assert!(words.starts_with("/etc/cvip/cvip.conf:3:17:"), "{text}");
        assert!(words.contains("runs the former configuration"), "{text}");
        assert!(text.contains("\nCVIP 192.0.2.10 by DR\n"), "{text}");
        assert!(text.contains("\ntcp 192.0.2.10:80 wlc"), "{text}");
        assert_eq!(text.matches("unknown routing method").count(), 2, "once in full: {text}");
    }

    #[test]
    fn a_node_that_left_has_left_and_is_not_down() {
        let mut cluster = Cluster::well();
        cluster.state.alive.remove(&3);
        let gone = NodeRecord { leaving: true, ..NodeRecord::empty(3, 1, 2) };
        cluster.state.nodes.insert(3, gone);
        cluster.table[0].1.pop();
        let text = shown(cluster);
        let node = text.lines().find(|line| line.trim_start().starts_with("3 ")).unwrap();
        assert!(node.ends_with("  left"), "{text}");
        assert!(text.starts_with("OK: ") && !text.contains("not running"), "{text}");
    }

    #[test]
    fn a_service_that_is_in_no_kernel_shows_who_registers_it() {
        let mut cluster = Cluster::well();
        cluster.table.clear();
        cluster.state.directors.clear();
        cluster.state.alive.remove(&2);
        let text = shown(cluster);
        let at = text.find("\ntcp 192.0.2.10:80").unwrap();
        let block: Vec<&str> = text[at + 1..].lines().take(5).collect();
        assert!(block[0].ends_with("  Weight"), "{text}");
        assert!(block[1].starts_with("  alpha 192.0.2.1:80 "), "{text}");
        assert_eq!(block[3], "    cvipd does not run", "{text}");
    }

    #[test]
    fn a_weight_that_grows_and_a_quorum_that_is_missing_are_told_in_the_text_and_as_json() {
        let mut cluster = Cluster::well();
        cluster.table[0].1[1].destination.weight = 1;
        let conf = cluster.known.conf.as_mut().unwrap();
        conf.cvips[0].services[0].quorum = Some(Quorum { weight: 9, hysteresis: 2 });
        let pools = cluster.cvipd.as_mut().unwrap().pools.as_mut().unwrap();
        pools.slow_starts = vec![SlowStarting {
            service: key(Protocol::Tcp, 80),
            address: [192, 0, 2, 2].into(),
            lasted_s: 12,
            left_s: 48,
        }];
        let dns = key(Protocol::Udp, 53);
        pools.quorums = vec![QuorumView { service: dns, has_quorum: false }];
        let overview = cluster.overview();
        let text = text(&overview.report, &overview.names, 80, false);
        assert!(text.contains("    slow start: its weight is whole in 48 s\n"), "{text}");
        assert!(text.contains("B out/s\n  no quorum of 9\n  alpha 192.0.2.1:53"), "{text}");
        let pools = serde_json::to_value(&overview.report.pools).unwrap();
        let server = &pools[0]["servers"][1];
        assert_eq!((&server["state"], &server["weight"]), (&"slow_start".into(), &1.into()));
        let grows = json!({ "lasted_s": 12, "remaining_s": 48, "whole_weight": 2 });
        assert_eq!(server["slow_start"], grows);
        assert_eq!(pools[0]["servers"][0].get("slow_start"), None);
        assert_eq!(pools[0].get("quorum"), None);
        let quorum = json!({ "weight": 9, "hysteresis": 2, "has_quorum": false });
        assert_eq!(pools[1]["quorum"], quorum);
    }

    #[test]
    fn the_whole_weight_of_a_server_is_the_one_that_its_service_gives_it() {
        let mut cluster = Cluster::well();
        let dns = &mut cluster.known.conf.as_mut().unwrap().cvips[0].services[0];
        (dns.weight, dns.node_weights) = (3, [(2, 7)].into());
        let pools = cluster.cvipd.as_mut().unwrap().pools.as_mut().unwrap();
        pools.slow_starts = vec![SlowStarting {
            service: key(Protocol::Udp, 53),
            address: [192, 0, 2, 2].into(),
            lasted_s: 12,
            left_s: 48,
        }];
        let pools = serde_json::to_value(&cluster.overview().report.pools).unwrap();
        let mut servers = pools[1]["servers"].as_array().unwrap().iter();
        let server = servers.find(|server| server["node"] == 2).unwrap();
        assert_eq!(server["slow_start"]["whole_weight"], 21, "{server}");
    }

    #[test]
    fn a_service_of_another_program_is_said_to_be_one() {
        let mut cluster = Cluster::well();
        cluster.state.owned.get_mut(&1).unwrap().remove(&key(Protocol::Tcp, 80));
        let text = shown(cluster);
        assert_eq!(text.matches("(not cvipd's)").count(), 1, "{text}");
    }

    #[test]
    fn colours_change_no_character() {
        let overview = Cluster::troubled().overview();
        let of = |in_colour| text(&overview.report, &overview.names, 80, in_colour);
        let (plain, coloured) = (of(false), of(true));
        assert!(coloured.starts_with("\u{1b}[1;31mFAULT: "), "{coloured:?}");
        let pieces = coloured.split('\u{1b}').enumerate().map(|(at, piece)| match at {
            0 => piece,
            _ => piece.split_once('m').unwrap().1,
        });
        assert_eq!(pieces.collect::<String>(), plain);
    }
}
