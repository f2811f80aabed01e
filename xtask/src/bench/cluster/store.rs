//! The store is away: nothing may change, so changes are counted.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::scene::{PATIENCE, Scene};
use super::sheet::Sheet;

/// For how long no etcd server runs.
const AWAY: Duration = Duration::from_secs(10);

/// For how long it is watched once everybody has the store again: leases could end then.
const AFTER: Duration = Duration::from_secs(3);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Every etcd server is killed, and started again.
pub(super) fn stopped(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let term = |scene: &Scene, of| -> Result<serde_json::Value> {
        Ok(scene.site.status(of)?["sets"][0]["term"].clone())
    };
    let active = scene.active()?;
    let before = term(scene, active)?;
    let clients = scene.clients();
    for number in scene.site.etcd.numbers() {
        scene.site.etcd.kill(number);
    }
    look(scene, sheet, Instant::now() + AWAY, active)?;
    for number in scene.site.etcd.numbers() {
        scene.site.etcd.start_member(number)?;
    }
    let at = Instant::now();
    loop {
        look(scene, sheet, Instant::now() + LOOK_EVERY, active)?;
        if scene.site.status(active)?["store_away_s"].is_null() {
            break;
        }
        anyhow::ensure!(at.elapsed() < PATIENCE, "the store did not come back");
    }
    sheet.time("etcd's start to known to be back", at.elapsed());
    scene.site.etcd.wait_healthy().context("etcd does not come back")?;
    look(scene, sheet, Instant::now() + AFTER, active)?;
    sheet.count("elections", usize::from(term(scene, active)? != before));
    sheet.clients(&clients.stop())
}

/// Looks again and again until then, and counts what is not as it was.
fn look(scene: &Scene, sheet: &mut Sheet, until: Instant, active: u32) -> Result<()> {
    let tables = scene.site.directors().map(|director| scene.table(director));
    let mut tables: Vec<_> = tables.collect::<Result<_>>()?;
    loop {
        let carriers = scene.site.carriers();
        sheet.count("looks", 1);
        sheet.count("another carrier", usize::from(carriers != [active]));
        for table in &mut tables {
            let weighed = table.weighed()?.len();
            sheet.count("another pool", usize::from(weighed != super::scene::NODES as usize));
        }
        if Instant::now() >= until {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
}
