//! Files of the store that somebody spoilt: set aside, said in the log, rebuilt from what is
//! known, and the table stays as it is.

use std::fs;
use std::path::PathBuf;

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::Plan;
use nix::sys::signal::Signal;

use super::support::{Site, bind_udp, listen};

/// What a crash, a full disk or an editor may leave.
const SPOILT: [&[u8]; 4] = [b"", b"{\"node\": 1, \"incarn", b"\xff\xfe\x00rubbish", b"[1, 2, 3]"];

/// Two servers and the store's files: (path, the node that mends it).
struct Served {
    site: Site,
    files: Vec<(PathBuf, u32)>,
    _held: (std::net::TcpListener, std::net::TcpListener, std::net::UdpSocket),
}

fn served() -> Served {
    let site = Site::start(2, &Plan::default());
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=2 --cluster");
    site.run(1, "setport_weight --start-port=177 --end-port=177 --weight=1 --protocol=udp");
    let held = (
        listen(site.host(1), "0.0.0.0:8080"),
        listen(site.host(2), "0.0.0.0:8080"),
        bind_udp(site.host(1), "0.0.0.0:177"),
    );
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2), (2, 2)]));
    site.await_pool(site.v4(Udp, 177), Some(&[(1, 1)]));
    let director = site.director();
    let run = site.run_dir();
    let files = vec![
        (run.join("nodes/1.json"), 1),
        (run.join("flags/1.json"), 1),
        (run.join("flags/cluster.json"), 1),
        (run.join(format!("owned/{director}.json")), director),
    ];
    Served { site, files, _held: held }
}

/// Waits until the log of a node has so many lines that name a file as spoilt.
#[track_caller]
fn await_said(site: &Site, number: u32, path: &str, before: usize) {
    site.until(&format!("node {number} says that {path} is spoilt"), |site| {
        (said(site, number, path) > before).then_some(())
    });
}

fn said(site: &Site, number: u32, path: &str) -> usize {
    let log = site.logged(number);
    log.lines().filter(|line| line.contains("spoilt store file") && line.contains(path)).count()
}

#[test]
fn a_file_that_is_spoilt_while_cvipd_runs_is_set_aside_and_rebuilt() {
    let Served { site, files, _held } = served();
    let before = site.rules();
    for (path, owner) in &files {
        let good = fs::read(path).unwrap();
        let shown = path.display().to_string();
        for spoilt in SPOILT {
            let times = said(&site, *owner, &shown);
            fs::write(path, spoilt).unwrap();
            await_said(&site, *owner, &shown, times);
            site.until(&format!("{shown} can be read again"), |_| {
                let bytes = fs::read(path).ok()?;
                (bytes != spoilt && serde_json::from_slice::<serde_json::Value>(&bytes).is_ok())
                    .then_some(())
            });
            let aside = PathBuf::from(format!("{shown}.corrupt"));
            assert_eq!(fs::read(aside).unwrap(), spoilt, "{shown} was not set aside");
            assert_eq!(site.rules(), before, "{shown} as {spoilt:?}");
        }
        if path.ends_with("nodes/1.json") {
            continue;
        }
        assert_eq!(fs::read(path).unwrap(), good, "{shown}");
    }
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    assert_eq!(site.rules(), before);
    // And everything still works.
    let _late = listen(site.host(1), "0.0.0.0:8081");
    site.direct("setport_weight --start-port=8081 --end-port=8081 --weight=1 --cluster");
    site.await_pool(site.v4(Tcp, 8081), Some(&[(1, 1)]));
}

#[test]
fn records_and_ownership_that_are_spoilt_before_a_start_are_rebuilt() {
    let Served { mut site, files, _held } = served();
    let before = site.rules();
    for spoilt in SPOILT {
        site.end_everywhere(Signal::SIGKILL);
        let wanted = |path: &&(PathBuf, u32)| !path.0.to_string_lossy().contains("flags");
        let counts: Vec<(String, u32, usize)> = files
            .iter()
            .filter(wanted)
            .map(|(path, owner)| {
                fs::write(path, spoilt).unwrap();
                let shown = path.display().to_string();
                let times = said(&site, *owner, &shown);
                (shown, *owner, times)
            })
            .collect();
        site.start_everywhere(&[]);
        for (path, owner, times) in counts {
            await_said(&site, owner, &path, times);
            assert_eq!(fs::read(format!("{path}.corrupt")).unwrap(), spoilt);
        }
        assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
        assert_eq!(site.rules(), before);
    }
    // What it owned it still owns: unflagged, it goes.
    site.direct("setport_weight --start-port=8080 --end-port=8080 --delete --cluster");
    site.await_pool(site.v4(Tcp, 8080), None);
}

#[test]
fn a_record_that_somebody_deletes_is_written_again() {
    let Served { site, .. } = served();
    let before = site.rules();
    fs::remove_file(site.run_dir().join("nodes/1.json")).unwrap();
    site.until("node 1 writes its record again", |site| {
        site.state().nodes.get(&1).map(|record| assert!(!record.registrations.is_empty()))
    });
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    assert_eq!(site.rules(), before);
}
