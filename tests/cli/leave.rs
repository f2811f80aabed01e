//! `cvipctl leave` beside a cvipd that answers, ends and is killed: what it says, and its status.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use cvip::store::{Access, LocalStore, NodeRecord, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{CLUSTERTAB, GOOD, settings, text};

/// What a cvipd answers that leaves, with so many connections left.
fn leaving(connections: usize) -> String {
    status(&format!("\"leaving\":{connections}"))
}

fn status(more: &str) -> String {
    format!(
        "{{\"status\":{{\"pid\":1,\"node\":2,\"roles\":[],\"faults\":[],\"store_requests\":0,{more}}}}}"
    )
}

/// A folder in which node 2 has said that it leaves.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.conf"), GOOD).unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    let mut store = LocalStore::open(&folder.path().join("run"), Access::Write).unwrap();
    let record = NodeRecord { leaving: true, ..NodeRecord::empty(2, 1, 1) };
    store.put_node(&record).unwrap();
    folder
}

/// A cvipd of node 2 that gives these answers, one for each connection, and is gone then.
fn cvipd(folder: &Path, answers: Vec<String>) -> JoinHandle<()> {
    let listener = UnixListener::bind(folder.join("run/cvipd-2.sock")).unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            writeln!(stream, "{answer}").unwrap();
        }
    })
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvipctl"));
    command
        .args(["leave", "--node=2"])
        .env("CVIP_CONF", folder.join("cvip.conf"))
        .env("CVIP_CLUSTERTAB", folder.join("clustertab"))
        .env("CVIP_RUN_DIR", folder.join("run"))
        .env("CVIP_SETTINGS", settings(folder))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn leave(folder: &Path) -> Output {
    command(folder).output().unwrap()
}

/// cvipd recorded an address as its own, and removed neither.
fn keep_an_address(folder: &Path) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = format!(
        "{{\"boot\":\"{}\",\"addresses\":[{{\"addr\":\"10.0.0.100\",\"prefix\":32,\
         \"device\":\"lo\"}}]}}",
        boot.trim()
    );
    fs::write(folder.join("run/kept-2.json"), record).unwrap();
}

#[test]
fn a_leave_is_done_when_nothing_of_it_is_left_and_a_second_one_says_so() {
    let folder = folder();
    let done = "\"done\"".to_owned();
    let cvipd = cvipd(folder.path(), vec![done, leaving(3), leaving(0)]);
    let output = leave(folder.path());
    cvipd.join().unwrap();
    assert_eq!(text(&output.stdout), "connections left: 3\nnode 2 has left\n", "{output:?}");
    assert_eq!(output.status.code(), Some(0));
    let again = leave(folder.path());
    assert_eq!((again.status.code(), text(&again.stdout).as_str()), (Some(0), ""));
    assert!(text(&again.stderr).contains("node 2 has left already"), "{again:?}");
}

#[test]
fn a_leave_is_told_as_json() {
    let folder = folder();
    let done = "\"done\"".to_owned();
    let cvipd = cvipd(folder.path(), vec![done, leaving(3), leaving(0)]);
    let told = |changed: bool| {
        let output = command(folder.path()).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let document = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        let expected = serde_json::json!({
            "schema": 1, "changed": changed, "node": 2, "waited": "left", "connections": 0
        });
        assert_eq!(document, expected);
    };
    told(true);
    cvipd.join().unwrap();
    told(false);
}

#[test]
fn a_cvipd_that_is_killed_before_it_has_undone_what_it_made_has_not_left() {
    let folder = folder();
    keep_an_address(folder.path());
    let cvipd = cvipd(folder.path(), vec!["\"done\"".to_owned(), leaving(3)]);
    let killed = leave(folder.path());
    cvipd.join().unwrap();
    for output in [killed, leave(folder.path())] {
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!text(&output.stdout).contains("has left"), "{output:?}");
        assert!(
            err.contains("cvipd ended before the leave of node 2 was done")
                && err.contains("1 address or setting that cvipd made stay here")
                && err.contains("start cvipd, and leave again"),
            "{err}"
        );
    }
}

#[test]
fn a_cvipd_that_is_started_again_while_its_node_leaves_does_not_leave() {
    let folder = folder();
    let restarted = status("\"unsaved\":[]");
    let cvipd = cvipd(folder.path(), vec!["\"done\"".to_owned(), leaving(3), restarted]);
    let output = leave(folder.path());
    cvipd.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("cvipd was restarted before"), "{output:?}");
}

#[test]
fn a_leave_that_is_interrupted_says_what_goes_on() {
    let folder = folder();
    let mut answers = vec!["\"done\"".to_owned()];
    answers.extend((0..3).map(|_| leaving(3)));
    let cvipd = cvipd(folder.path(), answers);
    let mut child = command(folder.path()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "connections left: 3\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let err = text(&output.stderr);
    assert!(
        err.contains("node 2 goes on leaving (3 connections left)")
            && err.contains("`cvipctl leave` waits again"),
        "{err}"
    );
    // What it did not ask any more is not waited for.
    drop(cvipd);
}
