//! What takes more than a second shows on a terminal what is done, and nothing elsewhere.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;

use super::{CLUSTERTAB, GOOD, settings, text};

/// A cvipd of node 1 that answers late.
fn late_cvipd(folder: &Path) -> thread::JoinHandle<()> {
    fs::write(folder.join("cvip.conf"), GOOD).unwrap();
    fs::write(folder.join("clustertab"), CLUSTERTAB).unwrap();
    fs::create_dir(folder.join("run")).unwrap();
    let listener = UnixListener::bind(folder.join("run/cvipd-1.sock")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
        thread::sleep(Duration::from_millis(1500));
        writeln!(stream, "{{\"applied\":{{\"applied\":[\"one\"],\"refused\":[]}}}}").unwrap();
    })
}

fn apply(folder: &Path, terminal: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvipctl"));
    command
        .args(["apply", "--node=1", "--json"])
        .env("TERM", terminal)
        .env("CVIP_CONF", folder.join("cvip.conf"))
        .env("CVIP_CLUSTERTAB", folder.join("clustertab"))
        .env("CVIP_RUN_DIR", folder.join("run"))
        .env("CVIP_SETTINGS", settings(folder))
        .stdout(Stdio::piped());
    command
}

/// What a terminal of this kind shows of standard error, and standard output.
fn at_terminal(terminal: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let cvipd = late_cvipd(folder.path());
    let pty = openpty(None, None).unwrap();
    let mut command = apply(folder.path(), terminal);
    let child = command.stderr(Stdio::from(pty.slave)).spawn().unwrap();
    // Its copy of the terminal's other end would keep the reader waiting.
    drop(command);
    let mut shown = Vec::new();
    // A terminal whose other end is closed ends with an error.
    let _ = File::from(pty.master).read_to_end(&mut shown);
    let output = child.wait_with_output().unwrap();
    cvipd.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    (text(&shown), text(&output.stdout))
}

#[test]
fn a_terminal_shows_what_is_done_until_it_is() {
    let (shown, out) = at_terminal("xterm");
    let task = "\r\u{1b}[Kcvipctl: applying cvip.conf to the kernel's table ... 1 s";
    assert!(shown.starts_with(task) && shown.ends_with("\r\u{1b}[K"), "{shown:?}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["applied"][0], "one");
}

#[test]
fn a_terminal_without_escape_codes_and_what_is_no_terminal_get_nothing() {
    assert_eq!(at_terminal("dumb").0, "");
    let folder = tempfile::tempdir().unwrap();
    let cvipd = late_cvipd(folder.path());
    let output = apply(folder.path(), "xterm").output().unwrap();
    cvipd.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
