//! What the tests on a real kernel share: a world of their own, and a table in a known state.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;

use cvip::ipvs::{Change, Client, DaemonRole, Timeouts};
use cvip::ipvsadm::names::SystemNames;
use cvip::ipvsadm::watch::SystemClock;
use cvip::ipvsadm::{Call, ToolStreams, run};
use cvip_lab::{enter_new_network, enter_own_etc};

use super::names::{hosts_file, services_file};

/// Goes into a network namespace and a mount namespace of this thread's own.
pub(crate) fn enter_a_world_of_its_own() {
    cvip_lab::require();
    enter_own_etc().unwrap();
    enter_new_network().unwrap();
    fs::write("/etc/hosts", hosts_file()).unwrap();
    fs::write("/etc/services", services_file()).unwrap();
    fs::write("/etc/nsswitch.conf", "hosts: files\nservices: files\n").unwrap();
}

/// Says something that the test's harness does not swallow.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What the recording did before each case.
pub(crate) fn clear(table: &mut Client) {
    // A daemon that does not run cannot be stopped.
    let _ = table
        .apply(&[
            Change::Flush,
            Change::StopDaemon(DaemonRole::Master, 0),
            Change::StopDaemon(DaemonRole::Backup, 0),
            Change::SetTimeouts(Timeouts { tcp: 900, tcp_fin: 120, udp: 300 }),
        ])
        .expect("IPVS");
}

/// The library in this process: what prepares a case and looks at its traces need not be
/// started anew each time. Gives what is printed.
pub(crate) fn ipvsadm(words: &[&str], stdin: &str) -> String {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut out = Vec::new();
    run(
        Call { program: OsStr::new("ipvsadm"), words: &words, posix: false },
        ToolStreams {
            stdin: &mut stdin.as_bytes(),
            out: &mut out,
            err: &mut std::io::sink(),
            err_is_terminal: false,
        },
        &mut SystemNames::default(),
        &mut SystemClock::default(),
        || Ok(Client::open()?),
    );
    String::from_utf8(out).expect("UTF-8")
}
