//! ipvsadm's recorded behaviour, against a table in memory: no kernel, no privilege.
//!
//! `ipvsadm_kernel.rs` runs the same cases against a real kernel.

mod ipvsadm_support;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::IpAddr;

use cvip::ipvs::{DestinationEntry, ServiceEntry, ServiceId, Stats};
use cvip::ipvsadm::table::TableError;
use cvip::ipvsadm::watch::SystemClock;
use cvip::ipvsadm::{Call, ToolStreams, run};
use cvip::protocol::Protocol;
use ipvsadm_support::memory::{Memory, not_root};
use ipvsadm_support::names::{RecordedNames, file};
use ipvsadm_support::{Case, Outcome, cases, difference, left_out, state_difference};

fn call(
    program: &str,
    words: &[String],
    stdin: &str,
    posix: bool,
    open: impl FnOnce() -> Result<Memory, TableError>,
) -> Outcome {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(
        Call { program: OsStr::new(program), words: &words, posix },
        ToolStreams {
            stdin: &mut stdin.as_bytes(),
            out: &mut out,
            err: &mut err,
            err_is_terminal: false,
        },
        &mut RecordedNames::new(),
        &mut SystemClock::default(),
        open,
    );
    Outcome {
        stdout: Some(String::from_utf8(out).expect("UTF-8")),
        stderr: Some(String::from_utf8(err).expect("UTF-8")),
        status: status.into(),
    }
}

fn ipvsadm(memory: &Memory, words: &[&str], stdin: &str) -> Outcome {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    call("ipvsadm", &words, stdin, false, || Ok(memory.clone()))
}

fn printed(memory: &Memory, words: &[&str]) -> String {
    ipvsadm(memory, words, "").stdout.unwrap_or_default()
}

fn table(rules: &str) -> Memory {
    let memory = Memory::default();
    let outcome = ipvsadm(&memory, &["-R"], rules);
    assert_eq!((outcome.stderr.as_deref(), outcome.status), (Some(""), 0), "{rules}");
    memory
}

fn problems_of(case: &Case) -> Vec<String> {
    let memory = Memory::default();
    let mut rules = case.setup_rules.join("\n");
    rules.push('\n');
    ipvsadm(&memory, &["-R"], &rules);
    let open = || if case.user.is_some() { not_root() } else { Ok(memory.clone()) };
    let outcome = call(&case.program, &case.argv, &case.stdin, case.posix, open);
    let mut problems: Vec<String> = difference(case, &outcome).into_iter().collect();
    for (argv, expected) in &case.state_after {
        let after = call("ipvsadm", argv, "", false, || Ok(memory.clone()));
        let after = after.stdout.unwrap_or_default();
        problems.extend(state_difference(case, argv, expected, &after));
    }
    problems
}

#[test]
fn every_recorded_case_has_its_recorded_outcome() {
    let (mut ran, mut out) = (0, Vec::new());
    let mut failed = Vec::new();
    for case in cases() {
        if let Some(reason) = left_out(&case) {
            out.push(format!("{}: {reason}", case.id));
            continue;
        }
        if case.id == "rich-1348" {
            out.push(format!("{}: --nosort shows the kernel's hash order", case.id));
            continue;
        }
        ran += 1;
        let problems = problems_of(&case);
        if !problems.is_empty() {
            failed.push(problems.join("\n"));
        }
    }
    // Not by println, which the harness swallows.
    let text = format!("{ran} cases ran, {} failed; left out: {}", failed.len(), out.join("; "));
    let _ = writeln!(std::io::stdout(), "{text}");
    assert_eq!(ran + out.len(), 973);
    assert!(failed.is_empty(), "{} of {ran} failed:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn help_is_for_everybody_and_in_our_own_words() {
    for words in [&["-h"][..], &["--help"], &["-hL"], &["--help", "extra"]] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let outcome = call("ipvsadm", &words, "", false, not_root);
        assert_eq!((outcome.stderr.as_deref(), outcome.status), (Some(""), 0));
        assert!(outcome.stdout.unwrap().contains("--add-service"), "{words:?}");
    }
}

#[test]
fn version_and_wrong_arguments_need_no_kernel() {
    for (words, status) in [("-v", 0), ("--bogus", 255), ("-L --bogus", 255), ("-A", 2)] {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let outcome = call("ipvsadm", &words, "", false, not_root);
        assert_eq!(outcome.status, status, "{words:?}");
        assert!(!outcome.stderr.unwrap().contains("initialize"), "{words:?}");
    }
}

#[test]
fn a_restore_without_a_kernel_says_so_once() {
    let rules = "-A -t 1.2.3.4:80\n".repeat(5000);
    let words = ["-R".to_owned()];
    let outcome = call("ipvsadm", &words, &rules, false, not_root);
    assert_eq!(outcome.status, 2);
    assert_eq!(outcome.stderr.unwrap().lines().count(), 2);
}

#[test]
fn a_restore_is_sent_in_few_batches() {
    let rules: String = (0..4000u16)
        .map(|n| format!("-A -t 10.0.{}.{}:80 -s rr\n", n / 250, n % 250 + 1))
        .collect();
    let memory = table(&rules);
    let state = memory.0.borrow();
    assert_eq!(state.services.len(), 4000);
    assert!(state.batches <= 16, "{} batches", state.batches);
}

#[test]
fn what_is_saved_can_be_restored() {
    let rules = "-A -t 10.0.0.1:80 -s wlc -p 600 -M 255.255.255.0\n\
                 -a -t 10.0.0.1:80 -r 192.168.1.10:80 -i -w 5 --tun-type gre --tun-csum\n\
                 -A -f 4294967295 -s mh -b mh-fallback,mh-port\n\
                 -A -f 4294967295 -6 -s rr -o\n\
                 -A --sctp-service [2001:db8::1]:99 -s lc\n\
                 -a --sctp-service [2001:db8::1]:99 -r [2001:db8::10]:99 -m -w 0\n";
    let saved = printed(&table(rules), &["-Sn"]);
    assert_eq!(printed(&table(&saved), &["-Sn"]), saved);
    let mut lines: Vec<&str> = saved.lines().collect();
    let mut given: Vec<&str> = rules.lines().collect();
    lines.sort_unstable();
    given.sort_unstable();
    assert_eq!(lines, given);
}

/// The services and destinations of a `-Ln --nosort` listing, as their listed names.
fn kernel_order(listing: &str) -> Vec<(String, Vec<String>)> {
    let mut order: Vec<(String, Vec<String>)> = Vec::new();
    for line in listing.lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), order.last_mut()) {
            (["->", destination, ..], Some((_, destinations))) => {
                destinations.push((*destination).to_owned());
            }
            (["FWM", mark, "IPv6", ..], _) => order.push((format!("FWM {mark} IPv6"), vec![])),
            ([protocol, name, ..], _) => order.push((format!("{protocol} {name}"), vec![])),
            _ => panic!("{line}"),
        }
    }
    order
}

fn listed(addr: IpAddr, port: u16) -> String {
    if addr.is_ipv4() { format!("{addr}:{port}") } else { format!("[{addr}]:{port}") }
}

fn listed_service(entry: &ServiceEntry) -> String {
    match entry.service.id {
        ServiceId::Address { protocol, addr, port } => {
            format!("{} {}", protocol.name().to_uppercase(), listed(addr, port))
        }
        ServiceId::Mark { mark, family: cvip::ipvs::Family::V4 } => format!("FWM {}", mark as i32),
        ServiceId::Mark { mark, .. } => format!("FWM {} IPv6", mark as i32),
    }
}

/// Puts the table into the order that a kernel had it in.
fn reorder(memory: &Memory, order: &[(String, Vec<String>)]) {
    let mut state = memory.0.borrow_mut();
    let place = |name: &str| order.iter().position(|(known, _)| known == name).expect("known");
    state.services.sort_by_key(|(entry, _)| place(&listed_service(entry)));
    for (entry, destinations) in &mut state.services {
        let (_, order) = &order[place(&listed_service(entry))];
        destinations.sort_by_key(|entry| {
            let id = entry.destination.id;
            let name = listed(id.addr, id.port);
            order.iter().position(|known| *known == name).expect("known")
        });
    }
}

#[test]
fn tables_are_sorted_as_the_original_sorts_them() {
    let folder = ipvsadm_support::names::folder().join("sort");
    let mut ran = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some(OsStr::new("set")) {
            continue;
        }
        let read = |extension| std::fs::read_to_string(path.with_extension(extension)).unwrap();
        let memory = table(&read("set"));
        reorder(&memory, &kernel_order(&read("nosort")));
        let expected = ipvsadm_support::with_unsigned_marks(&read("out"));
        assert_eq!(printed(&memory, &["-Sn"]), expected, "{}", path.display());
        ran += 1;
    }
    assert_eq!(ran, 16);
}

/// The sections of a recording, each with the words after its `###`.
fn sections(recording: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in recording.lines() {
        match (line.strip_prefix("### "), sections.last_mut()) {
            (Some(title), _) => sections.push((title.to_owned(), String::new())),
            (None, Some(_)) if line.starts_with("rc=") => {}
            (None, Some((_, body))) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => panic!("{line}"),
        }
    }
    sections
}

#[test]
fn connections_are_listed_as_the_original_lists_them() {
    let memory = Memory::default();
    memory.0.borrow_mut().connections = file("connections/proc_conn");
    let mut ran = 0;
    for (title, expected) in sections(&file("connections/list.txt")) {
        let words: Vec<&str> = title.split(' ').skip(1).collect();
        if words[0].contains('c') {
            assert_eq!(printed(&memory, &words), expected, "{title}");
            ran += 1;
        }
    }
    assert_eq!(ran, 5);
}

/// A table of two services whose counters are all `value`; destinations show `low` instead,
/// except for bytes.
fn counting(value: u64, low: u64) -> Memory {
    let memory = table(
        "-A -t 1.2.3.4:80\n-a -t 1.2.3.4:80 -r 10.1.1.1:80\n-A -t [2001:db8::1]:80\n\
         -a -t [2001:db8::1]:80 -r [2001:db8:1111:2222:3333:4444:5555:6666]:8080 -m\n",
    );
    let stats = |low: u64| Stats {
        connections: low,
        in_packets: low,
        out_packets: low,
        in_bytes: value,
        out_bytes: value,
        cps: low,
        in_pps: low,
        out_pps: low,
        in_bps: low,
        out_bps: low,
    };
    for (entry, destinations) in &mut memory.0.borrow_mut().services {
        entry.stats = stats(value);
        for DestinationEntry { stats: of_destination, .. } in destinations {
            *of_destination = stats(low);
        }
    }
    memory
}

#[test]
fn counters_are_abbreviated_as_the_original_abbreviates_them() {
    let mut ran = 0;
    for (title, expected) in sections(&file("numbers.txt")) {
        let mut words = title.split(' ');
        let value: u64 = words.next().unwrap().parse().unwrap();
        // The recording has the original's fault in it: destinations wrap at 2^32.
        let memory = counting(value, value & 0xffff_ffff);
        let words: Vec<&str> = words.collect();
        let ours = ipvsadm_support::without_size(&printed(&memory, &words));
        assert_eq!(ours, ipvsadm_support::without_size(&expected), "{title}");
        ran += 1;
    }
    assert_eq!(ran, 60);
}

#[test]
fn a_destinations_counters_do_not_wrap() {
    let listing = printed(&counting(5_000_000_000, 5_000_000_000), &["-Ln", "--stats"]);
    let line = listing.lines().find(|line| line.contains("-> 10.1.1.1")).unwrap();
    assert_eq!(line.matches("5000M").count(), 5, "{line}");
}

#[test]
fn listings_are_json_if_asked_for() {
    let memory = table("-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 192.168.1.10 -w 3\n");
    memory.0.borrow_mut().connections = file("connections/proc_conn");
    let read = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&printed(&memory, words)).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    };
    let whole = read(&["-L", "--json"]);
    assert_eq!(whole["services"][0]["destinations"][0]["weight"], 3);
    assert_eq!(whole["services"][0]["protocol"], serde_json::to_value(Protocol::Tcp).unwrap());
    assert!(read(&["-L", "-t", "10.0.0.1:80", "--json"]).get("ipvs_version").is_none());
    assert_eq!(read(&["-L", "--timeout", "--json"])["timeouts"]["tcp_s"], 900);
    assert_eq!(read(&["-L", "--daemon", "--json"])["daemons"], serde_json::json!([]));
    let connections = read(&["-Lc", "--json"]);
    assert_eq!(connections["connections"].as_array().unwrap().len(), 12);
    assert_eq!(connections["connections"][4]["persistence_engine"], "sip");
}

/// A reader that goes away after the first line.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_pipe_is_success() {
    let memory = table("-A -t 10.0.0.1:80 -s rr\n");
    for words in [&["-Ln"][..], &["-S"], &["-Lc"], &["-L", "--json"], &["-h"]] {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let mut err = Vec::new();
        let status = run(
            Call { program: OsStr::new("ipvsadm"), words: &words, posix: false },
            ToolStreams {
                stdin: &mut std::io::empty(),
                out: &mut Closed,
                err: &mut err,
                err_is_terminal: false,
            },
            &mut RecordedNames::new(),
            &mut SystemClock::default(),
            || Ok(memory.clone()),
        );
        assert_eq!((status, err.as_slice()), (0, &b""[..]), "{words:?}");
    }
}
