use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid};

use super::super::probe;
use super::super::test_support::{LONG, hurried, target};
use super::*;
use crate::checks::settings::{CheckProgram, Kind};
use crate::protocol::Protocol;

fn addr() -> SocketAddr {
    "[2001:db8::1]:8080".parse().unwrap()
}

fn exec(words: &[&str]) -> Exec {
    Exec::new(CheckProgram::new(words.iter().map(|word| (*word).to_owned()).collect()).unwrap())
}

/// A shell's script as a check's program.
fn script(text: &str) -> Kind {
    Kind::Exec(exec(&["/bin/sh", "-c", text]))
}

fn run(text: &str) -> CheckOutcome {
    probe(&target(addr(), script(text)))
}

fn ok(text: &str) -> CheckOutcome {
    Ok(text.to_owned())
}

fn err(text: &str) -> CheckOutcome {
    Err(text.to_owned())
}

/// True once the process has ended, waited for or not.
fn is_gone(pid: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The state follows the name, which stands in parentheses and may hold any character.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + LONG;
    while !is_gone(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn status_0_is_fit_and_the_first_line_that_it_prints_is_told() {
    assert_eq!(run("exit 0"), ok("status 0"));
    assert_eq!(run("echo; echo '  all is well  '; echo more"), ok("all is well"));
    assert_eq!(run("exit 3"), err("status 3"));
    assert_eq!(run("echo replication is late >&2; exit 1"), err("status 1: replication is late"));
    assert_eq!(run(r"printf 'a\033[2J\377'; exit 2"), err("status 2: a?[2J\u{fffd}"));
}

#[test]
fn a_program_that_ends_by_a_signal_is_unhealthy() {
    assert_eq!(run("echo oh; kill -SEGV $$"), err("ended by SIGSEGV: oh"));
}

#[test]
fn a_program_that_is_not_there_is_the_reason() {
    let outcome = probe(&target(addr(), Kind::Exec(exec(&["/no/such/program"]))));
    assert_eq!(outcome, err("run /no/such/program: No such file or directory"));
    let outcome = probe(&target(addr(), Kind::Exec(exec(&["/etc/passwd"]))));
    assert_eq!(outcome, err("run /etc/passwd: Permission denied"));
}

#[test]
fn arguments_are_passed_as_they_are() {
    let kind = Kind::Exec(exec(&["/bin/echo", "$HOME", "a  b", "'", "*"]));
    assert_eq!(probe(&target(addr(), kind)), ok("$HOME a  b ' *"));
}

#[test]
fn a_program_that_hangs_is_killed_with_its_whole_group() {
    let text = "sleep 1000 & echo $! $$; wait";
    let begun = Instant::now();
    let reason = probe(&hurried(addr(), script(text), 300)).unwrap_err();
    assert!(begun.elapsed() < LONG / 2);
    let pids = reason.strip_prefix("killed after 0.3 s: ").unwrap();
    for pid in pids.split(' ') {
        wait_until_gone(pid);
    }
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open_delays_nothing_and_is_killed() {
    let pid = run("sleep 1000 & echo $!").unwrap();
    wait_until_gone(&pid);
}

#[test]
fn a_program_that_closes_its_output_is_waited_for_all_the_same() {
    assert_eq!(run("exec >&- 2>&-; sleep 0.1; exit 4"), err("status 4"));
}

#[test]
fn megabytes_of_output_are_read_and_a_short_line_is_kept() {
    let outcome = run("head -c 5000000 /dev/zero | tr '\\0' x; exit 0");
    assert_eq!(outcome, Ok(format!("{}...", "x".repeat(200))));
    let endless = probe(&hurried(addr(), script("yes"), 300));
    assert_eq!(endless, err("killed after 0.3 s: y"));
}

#[test]
fn its_environment_has_what_it_is_to_check_and_nothing_else() {
    let names = "env | cut -d= -f1 | grep -vxE 'PWD|OLDPWD|SHLVL|_' | sort | tr '\\n' ' '";
    assert_eq!(run(names), ok("CVIP_CHECK_ADDRESS CVIP_CHECK_PORT CVIP_CHECK_PROTOCOL PATH"));
    let values = "echo $CVIP_CHECK_ADDRESS $CVIP_CHECK_PORT $CVIP_CHECK_PROTOCOL in $(pwd)";
    let mut target = target(addr(), script(values));
    target.protocol = Protocol::Udp;
    assert_eq!(probe(&target), ok("2001:db8::1 8080 udp in /"));
    target.check.port = Some(9);
    assert_eq!(probe(&target), ok("2001:db8::1 9 udp in /"));
}

#[test]
fn it_reads_nothing() {
    assert_eq!(run("read line; echo $?"), ok("1"));
}

/// What the kernel says of a process that a check runs.
fn status_of_a_program(field: &str) -> String {
    run(&format!("grep ^{field}: /proc/self/status | cut -f2- | tr '\\t' ' '")).unwrap()
}

#[test]
fn it_has_no_privileges() {
    let (uid, gid) = match Uid::effective().is_root() {
        true => (65534, 65534),
        // Only root can become another user.
        false => (Uid::effective().as_raw(), Gid::effective().as_raw()),
    };
    assert_eq!(status_of_a_program("Uid"), [uid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(status_of_a_program("Gid"), [gid; 4].map(|id| id.to_string()).join(" "));
    if Uid::effective().is_root() {
        assert_eq!(status_of_a_program("Groups"), "status 0", "no word at all");
    }
    assert_eq!(status_of_a_program("NoNewPrivs"), "1");
    assert_eq!(status_of_a_program("CapEff"), "0000000000000000");
}

#[test]
fn it_starts_with_no_signal_blocked_whatever_its_parent_blocks() {
    // In a thread of its own, whose mask ends with it.
    let mask = thread::spawn(|| {
        SigSet::all().thread_block().unwrap();
        status_of_a_program("SigBlk")
    });
    assert_eq!(mask.join().unwrap(), "0000000000000000");
}

#[test]
fn a_user_that_is_not_there_is_the_reason() {
    let Kind::Exec(mut exec) = script("exit 0") else { unreachable!() };
    exec.user = Some("no-such-user".parse().unwrap());
    let outcome = probe(&target(addr(), Kind::Exec(exec)));
    assert_eq!(outcome, err("there is no user no-such-user here to run the program"));
}

/// Set in the process that is to be killed.
const VICTIM: &str = "CVIP_TEST_VICTIM";

/// This test runs itself once more and kills that process while it runs a check.
#[test]
fn a_program_does_not_outlive_the_process_that_runs_the_check() {
    if let Some(pid_file) = std::env::var_os(VICTIM) {
        let pid_file = pid_file.to_str().unwrap();
        let _ = run(&format!("echo $$ > {pid_file}; exec sleep 1000"));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The program that is to write into it runs as another user.
    let (pid_file, readable) = (folder.path().join("pid"), PermissionsExt::from_mode(0o777));
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let name = thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(VICTIM, &pid_file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = wait_for_line(&pid_file);
    assert!(!is_gone(&pid));
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until_gone(&pid);
}

fn wait_for_line(path: &Path) -> String {
    let deadline = Instant::now() + LONG;
    loop {
        let mut line = String::new();
        if let Ok(file) = std::fs::File::open(path)
            && BufReader::new(file).read_line(&mut line).is_ok()
            && line.ends_with('\n')
        {
            return line.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "no program ran");
        thread::sleep(Duration::from_millis(5));
    }
}
