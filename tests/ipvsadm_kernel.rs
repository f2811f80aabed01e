//! ipvsadm's recorded behaviour, by the program itself against a real kernel's table.
//!
//! The program runs in a network namespace of its own, and with an `/etc` of its own: the
//! recording's hosts, the services that occur in it, and no name server.

mod ipvsadm_support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cvip::ipvs::Client;
use cvip_lab::process::run_with_input;
use ipvsadm_support::world::{clear, enter_a_world_of_its_own, ipvsadm, say};
use ipvsadm_support::{Case, Outcome, cases, difference, left_out, state_difference, without_size};

/// An account that is nobody's.
const NOBODY: u32 = 65_534;

/// The program, where nobody can run it too.
struct Program(PathBuf);

impl Program {
    fn run(&self, case: &Case) -> Outcome {
        let mut command = Command::new(&self.0);
        command.arg0(&case.program).args(&case.argv);
        command.env_remove("POSIXLY_CORRECT");
        if case.posix {
            command.env("POSIXLY_CORRECT", "1");
        }
        if case.user.is_some() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = run_with_input(&mut command, case.stdin.as_bytes()).unwrap();
        Outcome {
            stdout: Some(String::from_utf8(output.stdout).expect("UTF-8")),
            stderr: Some(String::from_utf8(output.stderr).expect("UTF-8")),
            status: output.status.code().unwrap_or(-1).into(),
        }
    }
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

/// Runs these cases; the number of those that ran, and of those left out.
fn run_cases(cases: impl Iterator<Item = Case>) -> (usize, usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = Program(folder.path().join("ipvsadm-rs"));
    fs::copy(Path::new(env!("CARGO_BIN_EXE_ipvsadm-rs")), &program.0).expect("a copy");
    enter_a_world_of_its_own();
    let mut table = Client::open().expect("IPVS");

    let (mut ran, mut out) = (0, Vec::new());
    let mut failed = Vec::new();
    for case in cases {
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
    assert!(failed.is_empty(), "{} of {ran} failed:\n{}", failed.len(), failed.join("\n\n"));
    (ran, out.len())
}

#[test]
fn the_program_does_to_a_kernel_what_ipvsadm_did() {
    let (ran, out) = run_cases(cases().into_iter());
    assert_eq!(ran + out, 973);
}

/// A stock kernel under emulation is slow: some cases of every kind.
mod on_stock {
    use super::*;

    #[test]
    fn a_sample_of_what_ipvsadm_did_to_a_kernel_the_program_does_too() {
        let cases = cases();
        let stride = cases.len() / 50;
        let (ran, _) = run_cases(cases.into_iter().step_by(stride));
        assert!(ran >= 50, "{ran}");
    }
}

/// Tables: those whose order is hard to get right, and the largest that a case has.
fn tables() -> Vec<String> {
    let folder = ipvsadm_support::names::folder().join("sort");
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
