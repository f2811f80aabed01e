//! Generated command lines, by the original and by ipvsadm-rs, each on a table of its own.
//!
//! Whatever the recorded cases forgot: both programs get the same lines one after the other,
//! in two network namespaces of one kernel, and have to print the same, end alike, and leave
//! the same table. `CVIP_SEED` and `CVIP_LINES` repeat a run, or make another.

mod ipvsadm_support;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;

use cvip::ipvs::Client;
use cvip_lab::process::run_with_input;
use cvip_lab::{OwnNetwork, enter_new_network};
use ipvsadm_support::generator::{CommandLine, Generator};
use ipvsadm_support::with_unsigned_marks;
use ipvsadm_support::world::{clear, enter_a_world_of_its_own, ipvsadm, say};

/// After so many lines both tables are emptied, so that a difference is short to tell.
const LINES_OF_A_TABLE: usize = 40;

/// One of the two programs, and its network.
struct Side {
    program: &'static str,
    network: OwnNetwork,
    table: Client,
}

/// What a line did.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    status: i32,
    stdout: String,
    stderr: String,
    table: String,
}

impl Side {
    /// In a network of its own; the thread stays in it.
    fn new(program: &'static str) -> Side {
        enter_new_network().unwrap();
        let network = OwnNetwork::here().unwrap();
        Side { program, network, table: Client::open().expect("IPVS") }
    }

    fn run(&self, line: &CommandLine) -> Traces {
        self.network.enter().unwrap();
        let mut command = Command::new(self.program);
        // The name is in some messages.
        command.arg0("ipvsadm").args(&line.words);
        let output = run_with_input(&mut command, line.stdin.as_bytes()).unwrap();
        let text = |bytes: Vec<u8>| known(&String::from_utf8_lossy(&bytes), line);
        let status = output.status;
        Traces {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            table: ["-Sn", "--thresholds", "--timeout", "--daemon"]
                .map(|what| match what {
                    "-Sn" => ipvsadm(&["-Sn"], ""),
                    other => ipvsadm(&["-Ln", other], ""),
                })
                .concat(),
        }
    }
}

/// What differs on purpose, by the manual's COMPATIBILITY, made the same. Nothing else may
/// differ. (The generator leaves out `--json` and new options, flags of nothing but commas,
/// endless words, and the option library's aliases.)
fn known(text: &str, line: &CommandLine) -> String {
    let mut text = text.to_owned();
    // "The help and this page have words of their own." It ends every run.
    for help in ["ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\nUsage:", OUR_HELP]
    {
        if let Some(at) = text.find(help) {
            text.replace_range(at.., "(help)\n");
        }
    }
    // "Firewall marks are printed unsigned".
    let mut restrictions = String::new();
    for line in with_unsigned_marks(&text).lines() {
        match line.strip_prefix("FWM") {
            Some(rest) => {
                let words: Vec<String> = rest
                    .split_whitespace()
                    .map(|word| match word.parse::<i32>() {
                        Ok(mark) if mark < 0 => (mark as u32).to_string(),
                        _ => word.to_owned(),
                    })
                    .collect();
                restrictions += &format!("FWM  {}\n", words.join(" "));
            }
            None => restrictions += &format!("{line}\n"),
        }
    }
    // "A misplaced -6 is answered with `-6 must follow -f'".
    let text = restrictions.replace("-6 used before -f\n", "-6 must follow -f\n");
    // In the kernel's order, which depends on the namespace.
    if line.words.iter().chain([&line.stdin]).any(|word| word.contains("--nosort")) {
        return in_any_order(&text);
    }
    text
}

/// How our help begins.
const OUR_HELP: &str = "Shows and changes the kernel's table";

/// A listing's services in an order of ours; the destinations stay in the kernel's.
fn in_any_order(listing: &str) -> String {
    let mut services: Vec<String> = Vec::new();
    for line in listing.lines() {
        match services.last_mut() {
            Some(service) if line.starts_with("  ->") => *service += &format!("\n{line}"),
            _ => services.push(line.to_owned()),
        }
    }
    services.sort_unstable();
    services.join("\n")
}

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

/// Runs so many generated lines by both.
fn compare(lines: u64) {
    enter_a_world_of_its_own();
    let seed = from_environment("CVIP_SEED", 1);
    let lines = from_environment("CVIP_LINES", lines);
    say(&format!("{lines} command lines of CVIP_SEED={seed}"));
    let ours = env!("CARGO_BIN_EXE_ipvsadm-rs");
    assert!(Path::new(ours).exists());
    let mut sides = [Side::new("ipvsadm"), Side::new(ours)];
    let mut generator = Generator::new(seed);
    let mut differences = Vec::new();
    let mut since_cleared: Vec<String> = Vec::new();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..lines {
        if since_cleared.len() == LINES_OF_A_TABLE || since_cleared.is_empty() {
            sides.iter_mut().for_each(|side| clear(&mut side.table));
            since_cleared.clear();
        }
        let line = generator.line();
        since_cleared.push(line.to_string());
        let [theirs, ours] = sides.each_ref().map(|side| side.run(&line));
        match theirs.status {
            0 => done += 1,
            _ => refused += 1,
        }
        if theirs != ours {
            let before = since_cleared.join("\n");
            differences.push(format!("{before}\n--- ipvsadm\n{theirs:#?}\n+++ ours\n{ours:#?}\n"));
            since_cleared.clear();
        }
    }
    say(&format!("{done} were done, {refused} refused"));
    // Else they would prove little.
    assert!(done >= lines / 4 && refused >= lines / 4);
    let count = differences.len();
    differences.truncate(10);
    assert!(count == 0, "{count} of {lines} differ; the first:\n{}", differences.join("\n"));
}

#[test]
fn generated_command_lines_do_what_they_do_with_the_original() {
    compare(400);
}

/// A stock kernel under emulation is slow.
mod on_stock {
    #[test]
    fn a_few_generated_command_lines_do_what_they_do_with_the_original() {
        super::compare(50);
    }
}
