//! A process with many nodes, each with a store, a lease and a record of its own.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip::protocol::Protocol;
use cvip::store::{Interest, Lease, NodeRecord, Registration, ServiceKey, Store};
use cvip_lab::Process;
use nix::unistd::{Uid, setuid};

use super::clock::now_ns;
use crate::bench::etcd::open;

/// How long anything may take before the bench gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The user of the first process, where this is root: one of those that services get for as long
/// as they run (systemd.exec(5), DynamicUser).
const FIRST_UID: u32 = 62_000;

/// A node serves so many ports.
const PORTS: u16 = 4;

/// Which nodes join, and when (nanoseconds of the shared clock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The process's number among so many.
    pub(super) part: u32,
    pub(super) parts: u32,
    /// How many nodes there are in all of them.
    pub(super) nodes: u32,
    /// When the first node begins.
    pub(super) start: u64,
    /// How much later each begins than the one before.
    pub(super) pace: u64,
}

impl Plan {
    /// The numbers of this process's nodes, from 1 on.
    fn numbers(self) -> impl Iterator<Item = u32> {
        (1..=self.nodes).filter(move |node| (node - 1) % self.parts == self.part)
    }

    fn due(self, node: u32) -> u64 {
        self.start + u64::from(node - 1) * self.pace
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { part, parts, nodes, start, pace } = self;
        write!(f, "{part} {parts} {nodes} {start} {pace}")
    }
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Plan> {
        let mut words = text.split(' ');
        let mut word = || words.next().context("a plan has five numbers");
        Ok(Plan {
            part: word()?.parse()?,
            parts: word()?.parse()?,
            nodes: word()?.parse()?,
            start: word()?.parse()?,
            pace: word()?.parse()?,
        })
    }
}

/// How a node joined; times are of the shared clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) node: u32,
    /// When it was to begin, and began.
    pub(super) due: u64,
    pub(super) begun: u64,
    /// When it sent its record, and knew it to be stored.
    pub(super) writing: u64,
    pub(super) written: u64,
    /// What it had asked etcd for until then.
    pub(super) requests: u64,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Joined { node, due, begun, writing, written, requests } = self;
        write!(f, "{node} {due} {begun} {writing} {written} {requests}")
    }
}

impl FromStr for Joined {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Joined> {
        let mut words = text.split(' ');
        let mut word = || words.next().context("a node's report has six numbers");
        Ok(Joined {
            node: word()?.parse()?,
            due: word()?.parse()?,
            begun: word()?.parse()?,
            writing: word()?.parse()?,
            written: word()?.parse()?,
            requests: word()?.parse()?,
        })
    }
}

/// Starts a process with nodes. It lives until it is killed, or until this one is gone.
pub(super) fn spawn(plan: &Plan, endpoints: &str, dir: &Path) -> Result<Process> {
    let dir = dir.join(format!("nodes-{}", plan.part));
    std::fs::create_dir_all(&dir)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["inside", "scale-nodes", &plan.to_string(), endpoints]).arg(&dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Process::spawn(command)
}

/// What its nodes say; this waits for all of them.
pub(super) fn reports(process: &mut Process) -> Result<Vec<Joined>> {
    let stdout = process.child().stdout.take().context("a pipe was asked for")?;
    let lines = BufReader::new(stdout).lines();
    // The line after the last node is an empty one.
    let lines = lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
    lines.map(|line| line?.parse()).collect()
}

/// The process.
pub(crate) fn run(plan: &str, endpoints: &str, dir: &Path) -> Result<ExitCode> {
    let plan: Plan = plan.parse()?;
    become_another(dir, FIRST_UID + plan.part)?;
    let mut joined = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = plan
            .numbers()
            .map(|node| {
                let dir = dir.join(node.to_string());
                scope.spawn(move || join(node, plan.due(node), endpoints, &dir))
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(node) => joined.push(node?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    for (report, ..) in &joined {
        println!("{report}");
    }
    println!();
    // Whoever started this holds the other end.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // Leases are not given back: the machines are switched off.
    std::process::exit(0);
}

/// inotify's instances are counted by user. Without root, a user has to do for all.
fn become_another(dir: &Path, uid: u32) -> Result<()> {
    if Uid::effective().is_root() {
        chown(dir, Some(uid), None)?;
        setuid(Uid::from_raw(uid)).context("cannot become another user")?;
    }
    Ok(())
}

/// What cvipd does at a node's start, as far as the store goes.
fn join(
    node: u32,
    due: u64,
    endpoints: &str,
    dir: &Path,
) -> Result<(Joined, Box<dyn Store>, Lease)> {
    thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns()?)));
    let begun = now_ns()?;
    let mut store = open(endpoints, dir, Interest::Node(node))?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.refresh() {
        ensure!(error.is_unavailable() && Instant::now() < deadline, "node {node}: {error}");
    }
    let incarnation = store.state().next_incarnation(node, None, 1);
    let lease = store.lease(node, incarnation)?;
    let record = record(node, incarnation);
    let writing = now_ns()?;
    while let Err(error) = store.put_node(&record) {
        ensure!(error.is_unavailable() && Instant::now() < deadline, "node {node}: {error}");
    }
    let written = now_ns()?;
    let requests = store.requests();
    Ok((Joined { node, due, begun, writing, written, requests }, store, lease))
}

/// A node that serves some ports.
fn record(node: u32, incarnation: u64) -> NodeRecord {
    let cvip = IpAddr::from([192, 0, 2, 1]);
    let key = |port| ServiceKey { cvip, protocol: Protocol::Tcp, port };
    NodeRecord {
        registrations: (1..=PORTS).map(|port| Registration::new(key(port), 1)).collect(),
        ..NodeRecord::empty(node, incarnation, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_joins_once_and_in_its_turn() {
        let plan = |part| Plan { part, parts: 3, nodes: 10, start: 1000, pace: 5 };
        let mut all: Vec<u32> = (0..3).flat_map(|part| plan(part).numbers()).collect();
        all.sort_unstable();
        assert_eq!(all, (1..=10).collect::<Vec<_>>());
        assert_eq!((plan(0).due(1), plan(2).due(10)), (1000, 1045));
    }

    #[test]
    fn a_plan_and_a_report_are_read_as_they_were_written() {
        let plan = Plan { part: 1, parts: 2, nodes: 3, start: 4, pace: 5 };
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        let joined = Joined { node: 1, due: 2, begun: 3, writing: 4, written: 5, requests: 6 };
        assert_eq!(joined.to_string().parse::<Joined>().unwrap(), joined);
        assert!("1 2".parse::<Plan>().is_err());
        assert!("1 2 3 4 5 x".parse::<Joined>().is_err());
    }
}
