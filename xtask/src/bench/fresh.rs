//! Network namespaces with an IPVS table that nobody has used.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvip::ipvs::{Change, Client};
use nix::sched::{CloneFlags, unshare};

/// Does something on a thread in a network namespace of its own, and waits until the kernel
/// has done away with that: it would do so during the next measurement otherwise.
///
/// A namespace's devices go just before its IPVS, so the table is emptied first, and one end
/// of a pair of devices in this namespace tells when the other has gone.
pub(super) fn in_a_fresh_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    const WITNESS: &str = "cvip-witness";
    let home = std::process::id().to_string();
    let result = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("this needs root")?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["link", "add", WITNESS, "type", "veth", "peer", "name", WITNESS, "netns", &home])?;
            let result = work()?;
            let refused = Client::open()?.apply(&[Change::Flush])?;
            ensure!(refused.is_empty(), "the kernel does not empty its table");
            Ok(result)
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    cvip_lab::wait_until(Duration::from_secs(60), || {
        let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
        (!devices.contains(WITNESS)).then_some(())
    })
    .context("the kernel does not clean up a network namespace")?;
    Ok(result)
}

fn ip(words: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(words).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "ip {}: {status}", words.join(" "));
    Ok(())
}
