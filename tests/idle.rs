//! What cvipd costs while nothing happens, beside many established connections. The bounds are
//! generous; exact figures are `cargo xtask bench idle`'s.
//!
//! A program of its own, and so a boot of its own: nothing else takes the processor's time while
//! it is counted, and Linux 6.1 now and then never frees a network device that had thousands of
//! connections when its namespace went, for which every further namespace would wait.

// The kernel tests' own, of which these tests need little.
#[allow(dead_code, unused_imports)]
#[path = "kernel/support/mod.rs"]
mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, SysconfVar, sysconf};

use support::{Site, listen};

const WATCH: Duration = Duration::from_secs(5);

/// How many looks there are.
const LOOKS: usize = 4;

/// Of one core.
const MOST_CPU: f64 = 0.12;

/// KiB.
const MOST_MEMORY: u64 = 20 << 10;

/// Processor time that a process has used (proc_pid_stat(5), fields 14 and 15).
fn processor_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The command's name, which may have blanks, ends with the last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// Resident memory in KiB (proc_pid_status(5)).
fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Both ends of established connections on the calling thread's host.
fn establish(number: usize) -> Vec<TcpStream> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let mut held = Vec::with_capacity(2 * number);
    for _ in 0..number {
        held.push(TcpStream::connect(at).unwrap());
        held.push(listener.accept().unwrap().0);
    }
    held
}

/// Watches an idle node and director beside this many connections on each.
fn idle(options: &[&str], connections: usize) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let site = Site::start_with(1, &Plan { ipv6: true, ..Plan::default() }, options);
    site.direct("setport_weight --start-port=1 --end-port=1023 --weight=1 --cluster");
    site.direct(
        "setport_weight --start-port=1 --end-port=1023 --weight=1 --protocol=udp --cluster",
    );
    let _one = listen(site.host(1), "[::]:80");
    site.await_pool(site.v4(Tcp, 80), Some(&[(1, 1)]));
    let _held: Vec<Vec<TcpStream>> =
        site.numbers().map(|number| site.host(number).enter(|| establish(connections))).collect();

    let pids: Vec<(u32, Pid)> =
        site.numbers().map(|number| (number, site.daemon_pid(number).unwrap())).collect();
    // An emulator that is itself kept waiting counts that as work: the least of some looks is true.
    let mut least = vec![f64::INFINITY; pids.len()];
    for _ in 0..LOOKS {
        let before: Vec<Duration> = pids.iter().map(|(_, pid)| processor_time(*pid)).collect();
        let start = Instant::now();
        thread::sleep(WATCH);
        let watched = start.elapsed();
        for ((least, (_, pid)), before) in least.iter_mut().zip(&pids).zip(before) {
            let share = (processor_time(*pid) - before).as_secs_f64() / watched.as_secs_f64();
            *least = least.min(share);
        }
    }
    for ((number, pid), share) in pids.into_iter().zip(least) {
        let memory = resident(pid);
        println!(
            "node {number}, {options:?}, {connections} connections: {:.2} % of a core, {memory} KiB",
            100.0 * share
        );
        assert!(share < MOST_CPU, "{:.1} % of a core", 100.0 * share);
        assert!(memory < MOST_MEMORY, "{memory} KiB");
    }
}

#[test]
fn an_idle_cvipd_beside_5000_connections_costs_next_to_nothing() {
    idle(&[], 5000);
}

#[test]
fn an_idle_cvipd_that_polls_beside_5000_connections_costs_next_to_nothing() {
    idle(&["--poll"], 5000);
}
