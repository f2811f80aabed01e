//! The active director: it dies, its cvipd does, it is cut off, it hands over.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip_lab::traffic::Requests;
use nix::sys::signal::{Signal, kill};

use super::scene::{NODES, PATIENCE, RATE, Scene, WATCH, pause, until};
use super::sheet::Sheet;

/// From the fault until another director's interface has the CVIP.
const TAKEN: &str = "another carries the CVIP";

/// For how long both directors had it.
const BOTH: &str = "both carry it";

/// How many requests a planned hand-over happens amid.
pub(super) const AMID: u32 = 500;

/// Its machine loses its power, and gets it back.
pub(super) fn dies(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let active = scene.active()?;
    let other = scene.other(active);
    let clients = scene.clients();
    let at = Instant::now();
    scene.site.power_off(active)?;
    let dead = Instant::now();
    until(|| scene.site.carries(other))?;
    thread::sleep(WATCH);
    let report = clients.stop();
    sheet.answered(&report, at, dead);
    sheet.clients(&report)?;
    scene.site.power_on(active)?;
    scene.run_cvipd(active)
}

/// Its cvipd is killed, and started again once its address has ended.
pub(super) fn cvipd_killed(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let disable = |scene: &mut Scene, active| {
        scene.site.kill_daemon(active);
        Ok(())
    };
    address_ends(scene, sheet, disable, Scene::run_cvipd)
}

/// Its cvipd stands still, and goes on once its address has ended.
pub(super) fn cvipd_frozen(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let signal = |signal| {
        move |scene: &mut Scene, active| {
            let pid = scene.site.daemon_pid(active).context("its cvipd runs")?;
            kill(pid, signal).context("cannot send a signal")
        }
    };
    address_ends(scene, sheet, signal(Signal::SIGSTOP), signal(Signal::SIGCONT))
}

/// Its cvipd does nothing any more; its kernel lives, and so does the address, for a while.
fn address_ends(
    scene: &mut Scene,
    sheet: &mut Sheet,
    disable: impl FnOnce(&mut Scene, u32) -> Result<()>,
    enable: impl FnOnce(&mut Scene, u32) -> Result<()>,
) -> Result<()> {
    let active = scene.active()?;
    let other = scene.other(active);
    let clients = scene.clients();
    let at = Instant::now();
    disable(scene, active)?;
    let (mut taken, mut ended) = (None, None);
    until(|| {
        let now = || Instant::now();
        if taken.is_none() && scene.site.carries(other) {
            taken = Some(now());
        }
        if ended.is_none() && !scene.site.carries(active) {
            ended = Some(now());
        }
        taken.is_some() && ended.is_some()
    })?;
    thread::sleep(WATCH);
    let report = clients.stop();
    let (taken, ended) = (taken.unwrap_or(at), ended.unwrap_or(at));
    sheet.time(TAKEN, taken.saturating_duration_since(at));
    sheet.time("the address ends on the first", ended.saturating_duration_since(at));
    sheet.time(BOTH, ended.saturating_duration_since(taken));
    sheet.clients(&report)?;
    enable(scene, active)
}

/// Nothing that it sends arrives, and nothing arrives at it; then the lines are back.
pub(super) fn cut_off(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let active = scene.active()?;
    let other = scene.other(active);
    let clients = scene.clients();
    let cut = scene.site.host(active).isolate()?;
    let at = Instant::now();
    let taken = until(|| scene.site.carries(other))?;
    thread::sleep(WATCH);
    cut.end()?;
    let back = Instant::now();
    let yields = until(|| !scene.site.carries(active))?;
    thread::sleep(WATCH);
    let report = clients.stop();
    sheet.time(TAKEN, taken.saturating_duration_since(at));
    sheet.answered(&report, at, at);
    // Cut off, the first is answered by nobody. Both can be asked from now on.
    sheet.time("reachable again to its yielding", yields.saturating_duration_since(back));
    sheet.clients(&report)
}

/// It is told to hand over while clients make their requests.
pub(super) fn hands_over(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let active = scene.active()?;
    let other = scene.other(active);
    let clients = amid(scene.site.web()).start(scene.site.cluster.client());
    thread::sleep(WATCH);
    pause(&mut scene.dice);
    let at = Instant::now();
    scene.site.run(other, &["cvipctl", "takeover", &format!("--node={other}")])?;
    sheet.time("the command takes", at.elapsed());
    let report = clients.finish();
    ensure!(scene.active()? == other, "node {other} did not take over");
    sheet.clients(&report)
}

/// Every cvipd ends and is started again, the active director's first: it hands over by itself.
pub(super) fn upgraded(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let active = scene.active()?;
    let clients = scene.clients();
    let at = Instant::now();
    for number in [active, scene.other(active)].into_iter().chain(1..=NODES) {
        let daemon = scene.site.daemon(number).context("its cvipd runs")?;
        kill(daemon.pid(), Signal::SIGTERM)?;
        let status = daemon.wait(PATIENCE)?;
        ensure!(status.success(), "cvipd of node {number}: {status}");
        scene.run_cvipd(number)?;
        scene.until_whole()?;
    }
    sheet.time("all of them", at.elapsed());
    sheet.clients(&clients.stop())
}

/// The requests that a planned hand-over happens amid.
pub(super) fn amid(to: std::net::SocketAddr) -> Requests {
    Requests { to, number: AMID, per_second: RATE, patience: Duration::from_secs(5) }
}
