//! A thousand nodes on a native etcd: how soon a director sees what they write, what that costs,
//! and what a director that starts beside them has to read. No kernel is needed.
//!
//! Each node is the real thing as far as the store goes: a store of its own with a connection of
//! its own, a lease that is kept, a record. The director is a view of all of them, alone in its
//! process, so that its memory can be told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip::store::{Interest, Store};
use cvip_lab::Process;
use cvip_lab::process::resident;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use self::clock::now_ns;
use self::nodes::PATIENCE;
use super::etcd::{Etcd, open};
use super::spread::Spread;
use crate::build;

mod clock;
pub(crate) mod nodes;

/// The nodes have joined within this time.
const WITHIN: Duration = Duration::from_secs(10);

/// The last node begins to join so long before the end of that.
const FOR_THE_LAST: Duration = Duration::from_secs(1);

/// A process holds so many nodes: inotify's instances are counted by user, 128 to each.
const TOGETHER: u32 = 100;

/// How long the nodes' processes may take to be there.
const READY: Duration = Duration::from_secs(3);

/// For how long nothing happens but what leases need.
const QUIET: Duration = Duration::from_secs(10);

pub(crate) fn run(nodes: u32, rounds: u32) -> Result<ExitCode> {
    ensure!(nodes > 0 && rounds > 0, "no nodes or no rounds, no figures");
    let me = build::myself()?;
    println!("\nto repeat this: cargo xtask bench scale --nodes {nodes} --rounds {rounds}");
    let words = ["inside", "scale", &nodes.to_string(), &rounds.to_string()];
    let status = Command::new(&me).args(words).status().context("cannot run xtask")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// The director, in an optimised program of its own.
pub(crate) fn inside(nodes: u32, rounds: u32) -> Result<ExitCode> {
    let dir = tempfile::tempdir()?;
    measure(dir.path(), nodes, rounds).map(|()| ExitCode::SUCCESS)
}

fn measure(dir: &Path, nodes: u32, rounds: u32) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let server = Etcd::start(&dir.join("etcd"), 1)?;
    println!(
        "{nodes} nodes and a director on etcd {}, on this machine (Linux {}, {} processors):",
        server.version()?,
        release.trim(),
        std::thread::available_parallelism()?
    );
    let counters = server.counters()?;
    let before = resident(Pid::this())?;
    let mut view = Director::open(&server.endpoints().join(","), dir)?;
    view.until(0)?;
    let joined = join(dir, &server, &mut view, nodes)?;
    let kept = resident(Pid::this())?.saturating_sub(before);
    println!("  the director: {:.1} MB more resident than without", mb(kept));
    println!("    {} requests", view.store.requests());
    println!("  etcd, by its own count: {}", server.counters()?.since(&counters));
    println!("    {}", server.size()?);
    let (counters, requests) = (server.counters()?, view.store.requests());
    std::thread::sleep(QUIET);
    view.store.refresh()?;
    println!(
        "  {} s without a change: {} requests by the director, {} of {nodes} nodes alive; etcd: {}",
        QUIET.as_secs(),
        view.store.requests() - requests,
        view.store.state().alive.len(),
        server.counters()?.since(&counters)
    );
    drop(view);
    restarts(dir, &server, nodes, rounds)?;
    // The nodes end before what they are connected with.
    drop(joined);
    Ok(())
}

/// Lets the nodes join while the director looks; their processes. They begin at an even pace, as
/// machines that boot do not all write at one moment; each waits for nobody but etcd.
fn join(dir: &Path, server: &Etcd, view: &mut Director, nodes: u32) -> Result<Vec<Process>> {
    let pace = (WITHIN - FOR_THE_LAST) / nodes;
    let start = now_ns()? + READY.as_nanos() as u64;
    let mut processes = Vec::new();
    let parts = nodes.div_ceil(TOGETHER);
    for part in 0..parts {
        let plan = nodes::Plan { part, parts, nodes, start, pace: pace.as_nanos() as u64 };
        processes.push(nodes::spawn(&plan, &server.endpoints().join(","), dir)?);
    }
    let mut seen = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < nodes as usize || view.store.state().alive.len() < nodes as usize {
        ensure!(
            Instant::now() < deadline,
            "{} nodes of {nodes} were seen, {} alive; what went wrong stands above",
            seen.len(),
            view.store.state().alive.len()
        );
        view.wait(Duration::from_secs(1))?;
        view.store.refresh()?;
        let now = now_ns()?;
        for node in view.store.state().nodes.keys() {
            seen.entry(*node).or_insert(now);
        }
    }
    let all = Duration::from_nanos(now_ns()?.saturating_sub(start));
    let met = if all <= WITHIN { "met" } else { "NOT met" };
    println!(
        "  begun one after the other over {} s, all have joined and are seen after {:.2} s; within {} \
         s: {met}",
        (WITHIN - FOR_THE_LAST).as_secs(),
        all.as_secs_f64(),
        WITHIN.as_secs()
    );
    let (mut late, mut took, mut input, mut requests) =
        (Spread::default(), Spread::default(), Spread::default(), 0);
    for process in &mut processes {
        for joined in nodes::reports(process)? {
            let since = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
            late.add(since(joined.due, joined.begun));
            took.add(since(joined.begun, joined.written));
            let at = seen.get(&joined.node).context("a node that was never seen")?;
            input.add(since(joined.writing, *at));
            requests += joined.requests;
        }
    }
    println!("    a node's write to the director's view  {}", input.whole());
    println!("    a node's whole join                    {}", took.whole());
    println!("    begun later than planned by            {}", late.whole());
    let each = requests as f64 / f64::from(nodes);
    println!("    the nodes: {requests} requests, {each:.1} each");
    let kept = processes.iter().map(|process| resident(process.pid()));
    let kept: u64 = kept.collect::<Result<Vec<_>>>()?.into_iter().sum();
    println!("    the nodes: {:.2} MB resident each", mb(kept) / f64::from(nodes));
    Ok(processes)
}

/// The director starts anew beside the nodes, again and again.
fn restarts(dir: &Path, server: &Etcd, nodes: u32, rounds: u32) -> Result<()> {
    let (mut took, mut requests) = (Spread::default(), Vec::new());
    let counters = server.counters()?;
    for _ in 0..rounds {
        let start = Instant::now();
        let mut view = Director::open(&server.endpoints().join(","), dir)?;
        view.until(nodes as usize)?;
        took.add(start.elapsed());
        requests.push(view.store.requests());
    }
    println!("  a full restart of the director's view    {}", took.whole());
    let (least, most) = (requests.iter().min(), requests.iter().max());
    println!(
        "    {} to {} requests each; etcd, with what {nodes} nodes' leases need: {}",
        least.context("no rounds")?,
        most.context("no rounds")?,
        server.counters()?.since(&counters)
    );
    Ok(())
}

fn mb(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// A director's view of all nodes.
struct Director {
    store: Box<dyn Store>,
}

impl Director {
    fn open(endpoints: &str, dir: &Path) -> Result<Director> {
        Ok(Director { store: open(endpoints, &dir.join("director"), Interest::All)? })
    }

    /// Waits for the store's wake-up.
    fn wait(&self, limit: Duration) -> Result<()> {
        let mut fds = [PollFd::new(self.store.wakeup(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(limit)?)?;
        Ok(())
    }

    /// Waits until so many nodes, all of them alive, are in view.
    fn until(&mut self, nodes: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.store.refresh() {
                Ok(_) => {
                    let state = self.store.state();
                    if state.nodes.len() >= nodes && state.alive.len() >= nodes {
                        return Ok(());
                    }
                }
                Err(error) if error.is_unavailable() => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(Instant::now() < deadline, "etcd has not shown {nodes} nodes");
            self.wait(Duration::from_secs(1))?;
        }
    }
}
