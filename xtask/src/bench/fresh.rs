//! Network namespaces with an IPVS table that nobody has used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvip::ipvs::{Change, Client};
use cvip_lab::{in_new_network, ip, wait_until};

/// Does something on a thread in a network namespace of its own, and waits until the kernel
/// has done away with that: it would do so during the next measurement otherwise.
///
/// A namespace's devices go just before its IPVS, so the table is emptied first, and one end
/// of a pair of devices in this namespace tells when the other has gone.
pub(super) fn in_a_fresh_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    const WITNESS: &str = "cvip-witness";
    let home = std::process::id().to_string();
    let result = in_new_network(|| {
        ip(&format!("link add {WITNESS} type veth peer name {WITNESS} netns {home}"))?;
        let result = work()?;
        let refused = Client::open()?.apply(&[Change::Flush])?;
        ensure!(refused.is_empty(), "the kernel does not empty its table");
        anyhow::Ok(result)
    })??;
    wait_until(Duration::from_secs(60), || {
        let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
        (!devices.contains(WITNESS)).then_some(())
    })
    .context("the kernel does not clean up a network namespace")?;
    Ok(result)
}
