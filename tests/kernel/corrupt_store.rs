//! Files of the store that somebody corrupt: set aside, said in the log, rebuilt from what is
//! known, and the table stays as it is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip::store::Scope;
use cvip_lab::Plan;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use super::support::{Site, bind_udp, listen};

/// What a crash, a full disk or an editor may leave.
const CORRUPT: [&[u8]; 4] = [b"", b"{\"node\": 1, \"incarn", b"\xff\xfe\x00rubbish", b"[1, 2, 3]"];

/// Two servers and the store's files, each with the nodes of which one fixes it.
struct Served {
    site: Site,
    files: Vec<(PathBuf, Vec<u32>)>,
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
        (run.join("nodes/1.json"), vec![1]),
        (run.join("flags/1.json"), vec![1]),
        // Whoever comes first.
        (run.join("flags/cluster.json"), site.numbers().collect()),
        (run.join(format!("owned/{director}.json")), vec![director]),
    ];
    Served { site, files, _held: held }
}

/// How often these nodes have said that a file is corrupt.
fn said(site: &Site, numbers: &[u32], path: &str) -> usize {
    let logs: String = numbers.iter().map(|number| site.logged(*number)).collect();
    logs.lines().filter(|line| line.contains("corrupt store file") && line.contains(path)).count()
}

/// Waits until one of these nodes has said once more that a file is corrupt.
#[track_caller]
fn await_said(site: &Site, numbers: &[u32], path: &str, before: usize) {
    site.until(&format!("one of {numbers:?} says that {path} is corrupt"), |site| {
        (said(site, numbers, path) > before).then_some(())
    });
}

#[test]
fn a_file_that_is_corrupt_while_cvipd_runs_is_set_aside_and_rebuilt() {
    let Served { site, files, _held } = served();
    let before = site.rules();
    for (path, owners) in &files {
        let good = fs::read(path).unwrap();
        let shown = path.display().to_string();
        for corrupt in CORRUPT {
            let times = said(&site, owners, &shown);
            fs::write(path, corrupt).unwrap();
            await_said(&site, owners, &shown, times);
            site.until(&format!("{shown} can be read again"), |_| {
                let bytes = fs::read(path).ok()?;
                (bytes != corrupt && serde_json::from_slice::<serde_json::Value>(&bytes).is_ok())
                    .then_some(())
            });
            let aside = PathBuf::from(format!("{shown}.corrupt"));
            assert_eq!(fs::read(aside).unwrap(), corrupt, "{shown} was not set aside");
            assert_eq!(site.rules(), before, "{shown} as {corrupt:?}");
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
fn records_and_ownership_that_are_corrupt_before_a_start_are_rebuilt() {
    let Served { mut site, files, _held } = served();
    let before = site.rules();
    for corrupt in CORRUPT {
        site.end_everywhere(Signal::SIGKILL);
        let wanted = |(path, _): &&(PathBuf, Vec<u32>)| !path.to_string_lossy().contains("flags");
        let counts: Vec<(String, &[u32], usize)> = files
            .iter()
            .filter(wanted)
            .map(|(path, owners)| {
                fs::write(path, corrupt).unwrap();
                let shown = path.display().to_string();
                let times = said(&site, owners, &shown);
                (shown, owners.as_slice(), times)
            })
            .collect();
        site.start_everywhere(&[]);
        for (path, owners, times) in counts {
            await_said(&site, owners, &path, times);
            assert_eq!(fs::read(format!("{path}.corrupt")).unwrap(), corrupt);
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
    let Served { site, files: _, _held } = served();
    let before = site.rules();
    fs::remove_file(site.run_dir().join("nodes/1.json")).unwrap();
    site.until("node 1 writes its record again", |site| {
        site.state().nodes.get(&1).map(|record| assert!(!record.registrations.is_empty()))
    });
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    assert_eq!(site.rules(), before);
}

/// A small file system in memory, over a folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(folder: &Path) -> SmallDisk {
        fs::create_dir_all(folder).unwrap();
        let none: Option<&str> = None;
        mount(none, folder, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
        SmallDisk(folder.to_owned())
    }

    /// Writes until there is no room; the file's name.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = fs::File::create(&path).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_keeps_nobody_from_joining_leaving_and_starting_again() {
    let mut site = Site::stopped(2, &Plan::default());
    let disk = SmallDisk::over(&site.run_dir());
    site.start_everywhere(&[]);
    site.direct("setport_weight --start-port=8080 --end-port=8081 --weight=1 --cluster");
    let one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    let filler = disk.fill();
    let two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    drop(one);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 1)]));
    site.direct("setport_weight --start-port=9000 --end-port=9000 --weight=1 --cluster");
    assert_eq!(site.state().flags_of(Scope::Cluster).iter().count(), 2);
    // Whoever is started again takes up what it was.
    site.end_everywhere(Signal::SIGKILL);
    let _again = listen(site.host(1), "0.0.0.0:8080");
    site.start_everywhere(&[]);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1)]));
    assert_eq!(site.state().alive.len(), site.numbers().count());
    drop(two);
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    fs::remove_file(filler).unwrap();
    site.until("everything is saved", |site| {
        (!site.direct("cvipctl status").contains("not saved")).then_some(())
    });
}

/// A folder in which nothing can be written, but for files that are open.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn over(folder: &Path) -> ReadOnly {
        let none: Option<&str> = None;
        mount(Some(folder), folder, none, MsFlags::MS_BIND, none).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, folder, none, flags, none).unwrap();
        ReadOnly(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_run_folder_that_is_read_only_takes_nothing_from_any_node_and_is_written_later() {
    let Served { site, files: _, _held } = served();
    site.direct("setport_weight --start-port=8081 --end-port=8081 --weight=1 --cluster");
    let before = site.rules();
    let read_only = ReadOnly::over(&site.run_dir());
    let _late = listen(site.host(1), "0.0.0.0:8081");
    site.until("node 1 says that its record is not stored", |site| {
        site.logged(1).contains("cannot store this node's record").then_some(())
    });
    let refused = site.try_run(
        site.director(),
        "setport_weight --start-port=8082 --end-port=8082 \
        --weight=1 --cluster",
    );
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("Read-only file system"), "{told}");
    assert_eq!(site.rules(), before);
    drop(read_only);
    site.await_pool(site.v4(Tcp, 8081), Some(&[(1, 1)]));
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2), (2, 2)]));
}

#[test]
fn a_run_folder_that_somebody_empties_takes_nothing_from_anybody_and_is_made_again() {
    let Served { site, files, _held } = served();
    let before = site.rules();
    let key = fs::read(site.run_dir().join("cluster.key")).ok();
    for round in 0..2 {
        for entry in fs::read_dir(site.run_dir()).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                // cvipd may make a file again while its folder is emptied.
                true => site.until("the folder is removed", |_| fs::remove_dir_all(&path).ok()),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let late = listen(site.host(1), "0.0.0.0:8081");
        site.until("cvipd can be asked again", |site| {
            let asked = site.try_run(site.director(), "cvipctl apply");
            (asked.status.code() == Some(0)).then_some(())
        });
        site.direct("setport_weight --start-port=8081 --end-port=8081 --weight=1 --cluster");
        site.await_pool(site.v4(Tcp, 8081), Some(&[(1, 1)]));
        drop(late);
        site.await_pool(site.v4(Tcp, 8081), None);
        assert_eq!(site.rules(), before, "round {round}");
        site.until("every file stands again, and every lease", |site| {
            let stand = files.iter().all(|(path, _)| path.exists());
            (stand && site.state().alive.len() == site.numbers().count()).then_some(())
        });
        site.direct("setport_weight --start-port=8081 --end-port=8081 --delete --cluster");
    }
    assert_eq!(fs::read(site.run_dir().join("cluster.key")).ok(), key);
    for number in site.numbers() {
        let errors = site.logged(number).lines().filter(|line| line.contains("ERROR")).count();
        assert!(errors < 20, "{errors} errors: {}", site.logged(number));
    }
}
