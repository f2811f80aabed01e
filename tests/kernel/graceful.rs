//! A web server that restarts in good order, under a long download and many short requests: no
//! client notices.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cvip::protocol::Protocol::Tcp;
use cvip_lab::traffic::{Download, Outcome, Requests, Running, write_pattern};
use cvip_lab::{PATIENCE, Plan};

use super::support::{Site, files, start_nginx};

/// More than the kernel takes in on the way, so that a server has to see its download through.
const LENGTH: u64 = 24 << 20;

/// How far the client lets it go on between two events.
const STEP: u64 = 1 << 20;

/// In turn: each node has half of the requests, whatever downloads it has.
const WEB: &str = "<service><port>80</port><scheduler>rr</scheduler></service>";

fn web_site() -> Site {
    let site = Site::start(2, &Plan { ipv6: true, services: WEB, ..Plan::default() });
    fs::create_dir_all(files(&site)).unwrap();
    write_pattern(&files(&site).join("image"), LENGTH).unwrap();
    site
}

/// A download in each family that node 1 serves. The first two of each family that begin at once
/// are of one node each.
#[track_caller]
fn downloads_of_node_1(site: &Site) -> Vec<Download> {
    let start = |addr: SocketAddr| {
        let download = Download::start(site.cluster.client(), addr, "/image", PATIENCE);
        download.unwrap_or_else(|error| panic!("{addr}: {error}"))
    };
    let of_node_1 = |addr| {
        let both = [start(addr), start(addr)];
        both.into_iter().find(|download| download.header("served-by") == Some("node 1"))
    };
    [site.at(80), site.at6(80)].map(|addr| of_node_1(addr).expect("one is node 1's")).into()
}

#[track_caller]
fn go_on(downloads: &mut [Download]) {
    for download in downloads {
        let place = download.received() + STEP;
        download.read_to(place).unwrap();
    }
}

/// Short requests beside the downloads, for as long as they take.
fn visitors(site: &Site) -> Running {
    let to = site.at(80);
    let requests = Requests { to, number: u32::MAX, per_second: 50.0, patience: PATIENCE };
    requests.start(site.cluster.client())
}

#[test]
fn a_download_through_a_node_whose_web_server_is_reloaded_is_complete_and_nothing_leaves() {
    let site = web_site();
    let nginx = [1, 2].map(|number| start_nginx(&site, number));
    for id in [site.v4(Tcp, 80), site.v6(Tcp, 80)] {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
    }
    let mut downloads = downloads_of_node_1(&site);
    let visitors = visitors(&site);
    go_on(&mut downloads);
    let changes = site.changes();
    for _ in 0..2 {
        nginx[0].tell(site.host(1), "reload").unwrap();
        nginx[0].await_finishing_worker();
        go_on(&mut downloads);
    }
    for download in downloads {
        assert_eq!(download.finish().unwrap(), LENGTH);
    }
    let report = visitors.stop();
    assert!(report.failures().is_empty(), "{report}");
    assert!(report.by_server().len() == 2 && report.served() > 20, "{report}");
    assert_eq!(site.changes(), changes, "the listener was never closed");
}

#[test]
fn a_download_through_a_node_whose_web_server_is_stopped_and_started_is_complete() {
    let site = web_site();
    let mut first = start_nginx(&site, 1);
    let _other = start_nginx(&site, 2);
    let ids = [site.v4(Tcp, 80), site.v6(Tcp, 80)];
    for id in ids {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
    }
    let mut downloads = downloads_of_node_1(&site);
    let visitors = visitors(&site);
    go_on(&mut downloads);

    first.tell(site.host(1), "quit").unwrap();
    for id in ids {
        site.await_pool(id, Some(&[(1, 0), (2, 1)]));
    }
    let out = Instant::now();
    go_on(&mut downloads);
    let served = visitors.ended();
    site.until("requests go on", |_| (visitors.ended() > served + 20).then_some(()));

    // It comes back while the old one still has its downloads.
    let back = Instant::now();
    let mut second = start_nginx(&site, 1);
    for id in ids {
        site.await_pool(id, Some(&[(1, 1), (2, 1)]));
    }
    go_on(&mut downloads);
    second.tell(site.host(1), "quit").unwrap();
    for id in ids {
        site.await_pool(id, Some(&[(1, 0), (2, 1)]));
    }
    second.process().wait(PATIENCE).unwrap();
    for download in downloads {
        assert_eq!(download.finish().unwrap(), LENGTH);
    }
    first.process().wait(PATIENCE).unwrap();
    // With its last connections gone, its destination is too.
    for id in ids {
        site.await_pool(id, Some(&[(2, 1)]));
    }

    let report = visitors.stop();
    let drained = report.between(out, Some(back));
    assert!(drained.failures().is_empty(), "{drained}");
    assert_eq!(drained.by_server().keys().collect::<Vec<_>>(), ["node 2"], "{drained}");
    // Between its last listen and the director's next look, a node refuses, at once, what it is
    // still sent; nobody has to wait.
    let odd: Vec<_> = report
        .failures()
        .into_iter()
        .filter(|request| !matches!(request.outcome, Outcome::Refused | Outcome::Reset))
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(report.slowest() < Duration::from_secs(10), "{report}");
    eprintln!("stopped and started: {report}");
}
