//! Real servers and their machines.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use cvip_lab::{Fault, Network};

use super::scene::{Scene, any_node};
use super::sheet::Sheet;

/// For how long a node's cables are out.
const UNPLUGGED: Duration = Duration::from_secs(10);

/// A server's socket is closed, as when its process is killed.
pub(super) fn server_killed(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let node = any_node(&mut scene.dice);
    let mut table = scene.table(scene.active()?)?;
    let server = scene.site.host(node).v4().into();
    let closed = scene.site.stop_serving(node)?;
    let out = table.until(server, false)?;
    sheet.time("close() to out or weight 0", out.saturating_duration_since(closed));
    let before = Instant::now();
    scene.site.serve(node)?;
    let joined = table.until(server, true)?;
    sheet.time("listen() to in again", joined.saturating_duration_since(before));
    Ok(())
}

/// A node's cables are pulled out, and put in again.
pub(super) fn node_unplugged(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let node = any_node(&mut scene.dice);
    let mut table = scene.table(scene.active()?)?;
    let host = scene.site.host(node);
    let server = host.v4().into();
    let at = Instant::now();
    let cables = [Network::Public, Network::Interconnect].map(|network| host.unplug(network));
    let cables = Fault::all(cables.into_iter().collect::<Result<Vec<_>>>()?);
    let out = table.until(server, false)?;
    sheet.time("unplugged to weight 0", out.saturating_duration_since(at));
    thread::sleep((at + UNPLUGGED).saturating_duration_since(Instant::now()));
    let at = Instant::now();
    cables.end()?;
    let back = table.until(server, true)?;
    sheet.time("plugged in to in again", back.saturating_duration_since(at));
    Ok(())
}
