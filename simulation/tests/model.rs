//! The simulator's faults on real kernels: two directors and four nodes with real cvipds, three
//! real etcd servers, in the lab. After each burst of steps the active director's kernel must have
//! the table that the model expects, and all else must be as the manual says.
//!
//! docs/simulation.md says how to run more of it, and what it has shown.

#[path = "model/cluster.rs"]
mod cluster;
#[path = "model/judge.rs"]
mod judge;
#[path = "model/servers.rs"]
mod servers;

use std::process::Command;
use std::time::{Duration, Instant};

use cvip_simulation::cluster::faults::Targets;
use cvip_simulation::random::Random;
use cvip_simulation::real::schedule;
use cvip_simulation::real::world::{DIRECTORS, NODES};

use self::cluster::RealCluster;

/// Once no fault lasts, all is right within this: what the simulator allows, and what an emulated
/// kernel on a busy machine adds.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// How often it is looked whether all is right.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A look counts for so long at most: an emulated kernel that stood still meanwhile is not judged for
/// that, since a director that was away waits and asks anew.
const LOOK_COUNTS: Duration = Duration::from_millis(700);

/// How many steps are made where no one says, and how long they may take: another burst is begun
/// only within this time.
const STEPS: usize = 40;
const WITHIN: Duration = Duration::from_secs(45);
const BURSTS: usize = 3;

/// The seed where no one says.
const SEED: u64 = 1;

/// A kernel that changes no address within this stands still.
const KERNEL_ANSWERS: Duration = Duration::from_secs(20);

/// How many of the last lines of each log a failure shows.
const LINES: usize = 60;

/// A number that the environment gives.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

#[test]
fn after_every_burst_of_faults_the_kernel_has_the_table_of_the_model() {
    let asked = number("CVIP_MODEL_STEPS").map(|steps| usize::try_from(steps).unwrap());
    let seed = number("CVIP_MODEL_SEED").unwrap_or(SEED);
    let steps = asked.unwrap_or(STEPS);
    eprintln!("model: seed {seed}, {steps} steps");
    let began = Instant::now();
    let mut cluster = RealCluster::start().unwrap();
    let mut random = Random::new(seed);
    let targets = Targets {
        nodes: NODES.collect(),
        directors: DIRECTORS.to_vec(),
        servers: 3,
        layouts: cluster.world.layouts(),
    };
    let mut settled = vec![settle(&mut cluster, seed, &[])];
    let mut done = 0;
    // A few bursts are made however busy the machine is.
    while done < steps && (asked.is_some() || settled.len() <= BURSTS || began.elapsed() < WITHIN) {
        let burst = schedule::draw(&targets, &mut random);
        let mut story = Vec::new();
        let start = Instant::now();
        let mut note = |line: &str| {
            let line = format!("{:>7.3} {line}", start.elapsed().as_secs_f64());
            eprintln!("{line}");
            story.push(line);
        };
        if let Err(error) = cluster.burst(&burst, &mut note) {
            fail(&cluster, seed, &story, &format!("{error:#}"));
        }
        note("no fault lasts");
        settled.push(settle(&mut cluster, seed, &story));
        done += burst.len();
        eprintln!(
            "model: {done} steps, {} bursts, {} s",
            settled.len() - 1,
            began.elapsed().as_secs()
        );
    }
    settled.sort_unstable();
    eprintln!(
        "model: seed {seed}: {done} steps in {} bursts, {} s; right again after median {:.1} s, p99 {:.1}, most {:.1}",
        settled.len() - 1,
        began.elapsed().as_secs(),
        settled[settled.len() / 2].as_secs_f64(),
        settled[settled.len() * 99 / 100].as_secs_f64(),
        settled[settled.len() - 1].as_secs_f64(),
    );
}

/// Waits until all is right; how long that took.
fn settle(cluster: &mut RealCluster, seed: u64, story: &[String]) -> Duration {
    let began = Instant::now();
    let mut last = String::new();
    let mut counted = Duration::ZERO;
    loop {
        let look = Instant::now();
        let fault = match cluster.tend() {
            Ok(()) => judge::fault(cluster).unwrap_or_else(|error| Some(format!("{error:#}"))),
            Err(error) => fail(cluster, seed, story, &format!("{error:#}")),
        };
        match fault {
            None => {
                let took = began.elapsed();
                eprintln!(
                    "model: right again after {:.1} s; at last: {}",
                    took.as_secs_f64(),
                    last.lines().next().unwrap_or("nothing was wrong")
                );
                return took;
            }
            Some(what) if counted > SETTLED_WITHIN => {
                let seconds = SETTLED_WITHIN.as_secs();
                let passed = began.elapsed().as_secs();
                let what = format!(
                    "still not right {seconds} s ({passed} s passed) after the last fault: {what}"
                );
                fail(cluster, seed, story, &what);
            }
            Some(what) => {
                last = what;
                std::thread::sleep(LOOK_EVERY);
                counted += look.elapsed().min(LOOK_COUNTS);
            }
        }
    }
}

/// Ends the test, with the burst, what is wrong, what the kernel does, and what every cvipd logged.
fn fail(cluster: &RealCluster, seed: u64, story: &[String], what: &str) -> ! {
    let (kernel, logs) = (kernel_state(), cluster.logs(LINES));
    panic!("seed {seed}, in the burst\n{}\n{what}\n{kernel}\n{logs}", story.join("\n"));
}

/// Whether the kernel still changes an address: where its lock for that is held for ever, no cvipd can
/// put anything right.
fn kernel_state() -> String {
    let began = Instant::now();
    let mut ip = Command::new("ip");
    let spawned = ip.args(["address", "replace", "127.77.77.77/32", "dev", "lo"]).spawn();
    let mut ip = match spawned {
        Ok(ip) => ip,
        Err(error) => return format!("ip(8) cannot be run: {error}"),
    };
    while began.elapsed() < KERNEL_ANSWERS {
        if let Ok(Some(status)) = ip.try_wait() {
            let took = began.elapsed().as_secs_f64();
            return format!("the kernel changes an address in {took:.1} s ({status})");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    format!("the kernel itself stands still: no address is changed within {KERNEL_ANSWERS:?}")
}
