//! A kernel that refuses nothing: what a restore complains of are arguments.

use super::*;
use cvip::ipvs::{Change, DestinationEntry, Info, ServiceEntry, ServiceId, SyncDaemon, Timeouts};
use proptest::prelude::*;

struct Willing;

impl Table for Willing {
    fn info(&mut self) -> Result<Info, TableError> {
        Ok(Info { version: (1, 2, 1), connection_table_size: 4096 })
    }
    fn services(&mut self) -> Result<Vec<ServiceEntry>, TableError> {
        Ok(vec![])
    }
    fn service(&mut self, id: &ServiceId) -> Result<ServiceEntry, TableError> {
        let service = cvip::ipvs::Service::new(*id, "rr");
        Ok(ServiceEntry { service, stats: Default::default() })
    }
    fn destinations(&mut self, _: &ServiceId) -> Result<Vec<DestinationEntry>, TableError> {
        Ok(vec![])
    }
    fn apply(&mut self, _: &[Change]) -> Result<Vec<(usize, i32)>, TableError> {
        Ok(vec![])
    }
    fn timeouts(&mut self) -> Result<Timeouts, TableError> {
        Ok(Timeouts { tcp: 1, tcp_fin: 1, udp: 1 })
    }
    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, TableError> {
        Ok(vec![])
    }
    fn connections(&mut self) -> std::io::Result<Box<dyn std::io::Read>> {
        Ok(Box::new(std::io::empty()))
    }
}

/// What is said on standard error, and the status.
fn said(program: &str, words: &[&str], stdin: &str) -> (String, u8) {
    call_into(&mut Vec::new(), (program, words, stdin), || {}, || Ok(Willing))
}

fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "-A",
        "-a",
        "-E",
        "-D",
        "-C",
        "-L",
        "-S",
        "-Z",
        "-R",
        "-h",
        "-v",
        "--set",
        "1",
        "2",
        "-t",
        "10.0.0.1:80",
        "vip1:http",
        "[2001:db8::1]:80",
        "-r",
        "10.0.1.1",
        "-f",
        "7",
        "-6",
        "-s",
        "rr",
        "-p",
        "60",
        "-m",
        "-g",
        "-w",
        "-1",
        "-n",
        "ipvsadm",
        "#",
        "# note",
        "-x",
        "--check",
        "--apply",
        "--save",
        "--bogus",
        "-t=10.0.0.1:80",
        "--",
        "é",
    ]);
    let good = prop::sample::select(vec![
        "-A -t 10.0.0.1:80 -s rr",
        "-a -t 10.0.0.1:80 -r 10.0.1.1 -m",
        "-C",
        "--set 1 2 3",
        "# a comment",
        "  # indented",
        "-L -n",
        "-D -f 7",
        "",
        " \t ",
    ]);
    let words = prop::collection::vec(word, 0..6).prop_map(|words| words.join(" "));
    prop_oneof![2 => good.prop_map(str::to_owned), 1 => words]
}

proptest! {
    #[test]
    fn a_check_says_what_the_restore_does(
        lines in prop::collection::vec(line(), 0..5), ended: bool,
    ) {
        let text = lines.join("\n") + if ended { "\n" } else { "" };
        for (program, restore, check) in [
            ("ipvsadm", &["-R"][..], &["-R", "--check"][..]),
            ("ipvsadm", &["-R", "--report"], &["-R", "--check", "--report"]),
            ("ipvsadm-restore", &[], &["--check"]),
        ] {
            let (restored, _) = said(program, restore, &text);
            let refused = !restored.is_empty() && !restored.contains(", 0 failed");
            let (checked, status) = said(program, check, &text);
            prop_assert_eq!(status != 0, refused, "{:?}: {} {}", text, restored, checked);
            prop_assert_eq!(status, if refused { 2 } else { 0 });
        }
    }
}

#[test]
fn a_comment_that_restore_refuses_is_wrong() {
    let text = "# one\n -A -t 10.0.0.1:80\n   # two\n";
    let wrong = |program, words: &[&str]| {
        let (said, status) = said(program, words, text);
        let last = said.lines().last().unwrap_or_default().to_owned();
        (last, status)
    };
    let some = |text: &str, status| (text.to_owned(), status);
    assert_eq!(wrong("ipvsadm", &["-R", "--check"]), some("3 lines read, 2 wrong", 2));
    assert_eq!(wrong("ipvsadm-restore", &["--check"]), some("2 lines read, 1 wrong", 2));
    let reporting = wrong("ipvsadm", &["-R", "--check", "--report"]);
    assert_eq!(reporting, some("1 line read, 0 wrong", 0));
}
