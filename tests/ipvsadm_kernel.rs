//! ipvsadm's recorded behaviour, by the program itself against a real kernel's table.
//!
//! The program runs in a network namespace of its own, and with an `/etc` of its own: the
//! recording's hosts, the services that occur in it, and no name server.

mod ipvsadm_support;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cvip::ipvs::{Change, Client, DaemonRole, Timeouts};
use cvip::ipvsadm::names::SystemNames;
use cvip::ipvsadm::watch::SystemClock;
use cvip::ipvsadm::{Call, Streams, run};
use ipvsadm_support::{
    Case, Outcome, cases, difference, hosts_file, left_out, state_difference, without_size,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// An account that is nobody's.
const NOBODY: u32 = 65_534;

/// The program, where nobody can run it too.
struct Program(PathBuf);

impl Program {
    fn run(&self, case: &Case) -> Outcome {
        let mut command = Command::new(&self.0);
        command.arg0(&case.program).args(&case.argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("POSIXLY_CORRECT");
        if case.posix {
            command.env("POSIXLY_CORRECT", "1");
        }
        if case.user.is_some() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().expect("the program");
        // A program that does not read has closed the pipe; that is its right.
        let _ = child.stdin.take().expect("piped").write_all(case.stdin.as_bytes());
        let output = child.wait_with_output().expect("its output");
        Outcome {
            stdout: Some(String::from_utf8(output.stdout).expect("UTF-8")),
            stderr: Some(String::from_utf8(output.stderr).expect("UTF-8")),
            status: output.status.code().unwrap_or(-1).into(),
        }
    }
}

/// Goes into a network namespace and a mount namespace of this thread's own.
fn enter_a_world_of_its_own() {
    cvip_lab::require();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("root");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip(8)");
    assert!(up.success());
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("private mounts");
    mount(Some("etc"), "/etc", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("tmpfs");
    fs::write("/etc/hosts", hosts_file()).unwrap();
    fs::write("/etc/services", ipvsadm_support::services_file()).unwrap();
    fs::write("/etc/nsswitch.conf", "hosts: files\nservices: files\n").unwrap();
}

/// Says something that the test's harness does not swallow.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What the recording did before each case.
fn clear(table: &mut Client) {
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
fn ipvsadm(words: &[&str], stdin: &str) -> String {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut out = Vec::new();
    run(
        Call { program: OsStr::new("ipvsadm"), words: &words, posix: false },
        Streams { stdin: &mut stdin.as_bytes(), out: &mut out, err: &mut std::io::sink() },
        &mut SystemNames::default(),
        &mut SystemClock,
        || Ok(Client::open()?),
    );
    String::from_utf8(out).expect("UTF-8")
}

/// A listing in the kernel's order, which no two kernels share, as its services in an order
/// of ours; the destinations stay in the kernel's.
fn in_any_order(listing: &str) -> Vec<String> {
    let mut services: Vec<String> = Vec::new();
    for line in without_size(listing).lines() {
        match services.last_mut() {
            Some(service) if line.starts_with("  ->") => *service += line,
            _ => services.push(line.to_owned()),
        }
    }
    services.sort_unstable();
    services
}

fn problems_of(case: &Case, program: &Program, table: &mut Client) -> Vec<String> {
    clear(table);
    let mut rules = case.setup_rules.join("\n");
    rules.push('\n');
    ipvsadm(&["-R"], &rules);

    let outcome = program.run(case);
    let mut problems = Vec::new();
    if case.argv.iter().any(|word| word == "--nosort") && outcome.status == 0 {
        let ours = in_any_order(outcome.stdout.as_deref().unwrap_or_default());
        let recorded = case.expected.iter().filter_map(|expected| expected.stdout.as_deref());
        if !recorded.clone().any(|recorded| in_any_order(recorded) == ours) {
            problems.push(format!("{}: {ours:#?}", case.id));
        }
    } else {
        problems.extend(difference(case, &outcome));
    }
    for (argv, expected) in &case.state_after {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        problems.extend(state_difference(case, argv, expected, &ipvsadm(&words, "")));
    }
    problems
}

#[test]
fn the_program_does_to_a_kernel_what_ipvsadm_did() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = Program(folder.path().join("ipvsadm-rs"));
    fs::copy(Path::new(env!("CARGO_BIN_EXE_ipvsadm-rs")), &program.0).expect("a copy");
    enter_a_world_of_its_own();
    let mut table = Client::open().expect("IPVS");

    let (mut ran, mut out) = (0, Vec::new());
    let mut failed = Vec::new();
    for case in cases() {
        if let Some(reason) = left_out(&case) {
            out.push(format!("{}: {reason}", case.id));
            continue;
        }
        ran += 1;
        let problems = problems_of(&case, &program, &mut table);
        if !problems.is_empty() {
            failed.push(problems.join("\n"));
        }
    }
    say(&format!("{ran} cases ran, {} failed; left out: {}", failed.len(), out.join("; ")));
    assert_eq!(ran + out.len(), 973);
    assert!(failed.is_empty(), "{} of {ran} failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// Tables: those whose order is hard to get right, and the largest that a case has.
fn tables() -> Vec<String> {
    let folder = ipvsadm_support::folder().join("sort");
    let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.unwrap().path());
    let rules = files.filter(|path| path.extension() == Some(OsStr::new("set")));
    let mut tables: Vec<String> = rules.map(|path| fs::read_to_string(path).unwrap()).collect();
    let largest = cases().into_iter().map(|case| case.setup_rules).max_by_key(Vec::len);
    // Of marks above 2^31 builds of the original differ: most print them as negative numbers.
    let rules = largest.unwrap_or_default().into_iter().filter(|rule| !rule.contains("4294967295"));
    tables.push(rules.map(|rule| rule + "\n").collect());
    tables
}

#[test]
fn the_program_prints_what_the_labs_own_ipvsadm_prints() {
    enter_a_world_of_its_own();
    let mut ran = 0;
    for table in tables() {
        ipvsadm(&["-C"], "");
        ipvsadm(&["-R"], &table);
        for words in [
            &["-Sn"][..],
            &["-S"],
            &["-Ln"],
            &["-L"],
            &["-Ln", "--nosort"],
            &["-Ln", "--stats"],
            &["-L", "--rate"],
            &["-Ln", "--thresholds"],
            &["-Ln", "--persistent-conn"],
            &["-Ln", "--tun-info"],
        ] {
            let theirs = Command::new("ipvsadm").args(words).output().expect("the lab's ipvsadm");
            let theirs = String::from_utf8(theirs.stdout).expect("UTF-8");
            assert_eq!(ipvsadm(words, ""), theirs, "{words:?} of\n{table}");
            ran += 1;
        }
    }
    say(&format!("{ran} listings are the same"));
    assert_eq!(ran, 170);
}
