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

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;
use cvip_lab::process::{processor_time, resident};
use cvip_lab::traffic::established;
use nix::unistd::Pid;

use support::{Site, listen};

const WATCH: Duration = Duration::from_secs(5);

/// How many looks there are.
const LOOKS: usize = 4;

/// Of one core.
const MOST_CPU: f64 = 0.12;

/// KiB.
const MOST_MEMORY: u64 = 20 << 10;

/// Watches an idle node and director beside this many connections on each.
fn idle(options: &[&str], connections: usize) {
    let site = Site::start_with(1, &Plan { ipv6: true, ..Plan::default() }, options);
    site.direct("setport_weight --start-port=1 --end-port=1023 --weight=1 --cluster");
    site.direct(
        "setport_weight --start-port=1 --end-port=1023 --weight=1 --protocol=udp --cluster",
    );
    let _one = listen(site.host(1), "[::]:80");
    site.await_pool(site.v4(Tcp, 80), Some(&[(1, 1)]));
    let _held: Vec<Vec<TcpStream>> = site
        .numbers()
        .map(|number| site.host(number).enter(|| established(connections)).unwrap())
        .collect();

    let pids: Vec<(u32, Pid)> =
        site.numbers().map(|number| (number, site.daemon_pid(number).unwrap())).collect();
    // An emulator that is itself kept waiting counts that as work: the least of some looks is true.
    let mut least = vec![f64::INFINITY; pids.len()];
    for _ in 0..LOOKS {
        let before: Vec<Duration> =
            pids.iter().map(|(_, pid)| processor_time(*pid).unwrap()).collect();
        let start = Instant::now();
        thread::sleep(WATCH);
        let watched = start.elapsed();
        for ((least, (_, pid)), before) in least.iter_mut().zip(&pids).zip(before) {
            let share =
                (processor_time(*pid).unwrap() - before).as_secs_f64() / watched.as_secs_f64();
            *least = least.min(share);
        }
    }
    for ((number, pid), share) in pids.into_iter().zip(least) {
        let memory = resident(pid).unwrap();
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
