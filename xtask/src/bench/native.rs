//! A node of its own on this machine's kernel: cvipd in a network namespace, no IPVS needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cvip::store::{Access, LocalStore, Store};
use cvip_lab::Process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a closure on a thread with a network namespace of its own: it, and what it starts,
/// touches nobody else's network.
pub(super) fn in_namespace(measure: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let outcome = thread::scope(|scope| {
        scope
            .spawn(|| -> Result<()> {
                unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root")?;
                run_tool(&["ip", "link", "set", "lo", "up"])?;
                run_tool(&["ip", "addr", "add", "192.0.2.2/32", "dev", "lo"])?;
                measure()
            })
            .join()
    });
    outcome.unwrap_or_else(|_| bail!("the thread panicked"))
}

fn run_tool(line: &[&str]) -> Result<()> {
    let status = Command::new(line[0]).args(&line[1..]).status();
    let status = status.with_context(|| format!("cannot run {}: install iproute2", line[0]))?;
    ensure!(status.success(), "{} failed", line.join(" "));
    Ok(())
}

/// A real server whose port 80 is flagged.
pub(super) struct Node {
    store: LocalStore,
    daemon: Process,
    dir: PathBuf,
}

impl Node {
    /// Starts cvipd and waits for its first record.
    pub(super) fn start(programs: &Path, options: &[&str]) -> Result<Node> {
        let dir = std::env::temp_dir().join(format!("cvip-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let (conf, tab, run_dir) = (dir.join("cvip.conf"), dir.join("clustertab"), dir.join("run"));
        fs::write(&tab, "1 192.0.2.1\n2 192.0.2.2\n")?;
        fs::write(
            &conf,
            "<cvips><routing>DR</routing><cvip><ip_addr>192.0.2.10</ip_addr><director_node>\
             <node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>\
             <real_server_node><node_num>2</node_num></real_server_node>\
             <service><port>80</port></service></cvip></cvips>",
        )?;
        let mut command = Command::new(programs.join("cvipd"));
        command.arg("--conf").arg(&conf).arg("--clustertab").arg(&tab);
        command.arg("--run-dir").arg(&run_dir).arg("--log=warn").args(options);
        let daemon = Process::spawn({
            command.stdin(Stdio::null());
            command
        })?;
        let opened = cvip_lab::wait_until(PATIENCE, || {
            let mut store = LocalStore::open(&run_dir, Access::Read).ok()?;
            store.refresh().ok()?;
            store.state().nodes.contains_key(&2).then_some(store)
        });
        let store = opened.context("cvipd wrote no record")?;
        Ok(Node { store, daemon, dir })
    }

    /// The process id of its cvipd.
    pub(super) fn pid(&self) -> i32 {
        self.daemon.pid().as_raw()
    }

    /// Waits until the record registers something, or nothing, and says since when.
    pub(super) fn until_registered(&mut self, registered: bool) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.store.refresh()?;
            let now = Instant::now();
            let record = self.store.state().nodes.get(&2);
            if record.is_some_and(|record| record.registrations.is_empty() != registered) {
                return Ok(now);
            }
            ensure!(now < deadline, "the record did not change within {PATIENCE:?}");
            poll(
                &mut [PollFd::new(self.store.wakeup(), PollFlags::POLLIN)],
                PollTimeout::from(1000_u16),
            )?;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Left behind, it would only be litter.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
