//! cvip.conf gets other directors while clients are served: every node reads it when it is told.

use std::fs;
use std::time::Duration;

use cvip_lab::traffic::Outcome;
use nix::sys::signal::{Signal, kill};

use super::support::{FIRST, SECOND, Site, THIRD, all};

/// For how long nothing may change.
const CALM: Duration = Duration::from_secs(2);

/// Replaces the directors that cvip.conf names, and tells these nodes, one after the other.
#[track_caller]
fn direct(site: &Site, directors: &[u32], tell: &[u32]) {
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    let is_director = |line: &&str| line.contains("<director_node>");
    let model = conf.lines().find(is_director).unwrap();
    let (before, rest) = model.split_once("<node_num>").unwrap();
    let (_, after) = rest.split_once("</node_num>").unwrap();
    let element = |node: &u32| format!("{before}<node_num>{node}</node_num>{after}");
    let elements: Vec<String> = directors.iter().map(element).collect();
    let at = conf.lines().position(|line| is_director(&line)).unwrap();
    let mut lines: Vec<&str> = conf.lines().filter(|line| !is_director(line)).collect();
    lines.splice(at..at, elements.iter().map(String::as_str));
    fs::write(&path, lines.join("\n")).unwrap();
    for node in tell {
        kill(site.daemon_pid(*node).unwrap(), Signal::SIGHUP).unwrap();
    }
}

/// The number by which the sync daemons of one set know one another; none where none runs.
fn sync_id(site: &Site, director: u32) -> Option<String> {
    let shown = site.host(director).stdout(&["ipvsadm", "-L", "--daemon"]).unwrap();
    let (_, rest) = shown.split_once("syncid=")?;
    Some(rest.split(|c: char| !c.is_ascii_digit()).next()?.to_owned())
}

#[test]
fn directors_change_places_go_and_come_and_the_active_one_that_is_removed_is_replaced() {
    let site = Site::start_with(3);
    let traffic = site.traffic(20.0);
    let everybody: Vec<u32> = [THIRD, SECOND, FIRST].into_iter().chain(all()).collect();
    let in_step = |site: &Site, directors: &[u32]| {
        let mut ids = directors.iter().map(|director| sync_id(site, *director));
        let first = ids.next()??;
        ids.all(|id| id.as_ref() == Some(&first)).then_some(())
    };
    site.until("the three are in step", |site| in_step(site, &[FIRST, SECOND, THIRD]));

    // Another order is for the next election.
    for node in &everybody {
        direct(&site, &[THIRD, SECOND, FIRST], &[*node]);
    }
    site.stays_as_it_is(CALM);

    // A standby that is one no longer takes its table with it.
    direct(&site, &[FIRST, SECOND], &everybody);
    site.await_pool(THIRD, &[]);
    site.stays_as_it_is(CALM);
    assert_eq!(sync_id(&site, THIRD), None);
    site.until("the two are in step", |site| in_step(site, &[FIRST, SECOND]));

    // And makes it again when it is back.
    direct(&site, &[FIRST, SECOND, THIRD], &everybody);
    site.await_pool(THIRD, &all());
    site.stays_as_it_is(CALM);
    site.until("the three are in step", |site| in_step(site, &[FIRST, SECOND, THIRD]));

    // One that cvip.conf does not name at all is not the active director any longer: once it has
    // read that. Until then nobody takes its place.
    direct(&site, &[SECOND, THIRD], &[SECOND, THIRD]);
    site.stays_as_it_is(CALM);
    direct(&site, &[SECOND, THIRD], &everybody);
    site.until("the second alone carries the CVIP", |site| {
        (site.carriers() == [SECOND]).then_some(())
    });
    site.await_pool(SECOND, &all());
    let served = traffic.ended();
    site.until("clients are served", |_| (traffic.ended() >= served + 20).then_some(()));
    let report = traffic.stop();
    let refused = report.count(&Outcome::Refused) + report.count(&Outcome::Reset);
    assert_eq!(refused, 0, "{report}");
    assert!(report.requests.last().unwrap().is_served(), "{report}");
}

/// Runs a program on a node.
#[track_caller]
fn on(site: &Site, node: u32, line: &[&str]) {
    site.host(node).stdout(line).unwrap();
}

/// What a director says of its own table: why it is empty.
fn passive(site: &Site, director: u32) -> Option<String> {
    site.status(director)["passive"].as_str().map(str::to_owned)
}

#[test]
fn a_standby_has_a_table_only_while_its_sync_daemon_runs() {
    let site = Site::start();
    site.await_pool(SECOND, &all());
    let traffic = site.traffic(20.0);
    // Ended by hand: it is there again.
    let id = sync_id(&site, SECOND).unwrap();
    on(&site, SECOND, &["ipvsadm", "--stop-daemon", "backup"]);
    site.until("the backup daemon runs again", |site| {
        sync_id(site, SECOND).filter(|new| *new == id)
    });
    site.await_pool(SECOND, &all());

    // Another's is in the way: the table is empty until it is not.
    on(&site, SECOND, &["ipvsadm", "--stop-daemon", "backup"]);
    let _ = site.host(SECOND).stdout(&[
        "ipvsadm",
        "--start-daemon",
        "backup",
        "--mcast-interface",
        "eth0",
        "--syncid",
        "99",
    ]);
    if sync_id(&site, SECOND).as_deref() == Some("99") {
        site.await_pool(SECOND, &[]);
        site.until("status says why", |site| passive(site, SECOND));
        on(&site, SECOND, &["ipvsadm", "--stop-daemon", "backup"]);
    }
    site.await_pool(SECOND, &all());
    site.until("status says nothing", |site| passive(site, SECOND).is_none().then_some(()));

    // The kernel would forward by the table.
    on(&site, SECOND, &["sysctl", "-qw", "net.ipv4.vs.backup_only=0"]);
    site.until("the table is empty, or the setting is right again", |site| {
        let set = site.host(SECOND).stdout(&["sysctl", "-n", "net.ipv4.vs.backup_only"]).unwrap();
        (set.trim() == "1" || site.pool(SECOND).is_empty()).then_some(())
    });
    on(&site, SECOND, &["sysctl", "-qw", "net.ipv4.vs.backup_only=1"]);
    site.await_pool(SECOND, &all());
    let report = traffic.stop();
    assert_eq!(report.count(&Outcome::Refused) + report.count(&Outcome::Reset), 0, "{report}");
}
