//! How fast a cluster of machines gets over each fault, and what its clients see of it: three etcd
//! servers, two directors, four nodes and a client in the lab, and keepalived beside it.
//!
//! The cluster is started once. A row repeats its fault, heals it, and waits for the first state
//! again, as often as asked. Which moment the fault comes at is chance, and chance has a seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use cvip_lab::{Dice, KernelChoice, Lab};

use self::scene::Scene;
use self::sheet::{ANSWERED, GAP, Sheet};
use self::vrrp::{Flavour, Vrrp};
use crate::build;

mod calm;
mod directors;
mod nodes;
mod scene;
mod sheet;
mod vrrp;

/// One round of a row: the fault, and its end. What was measured goes onto the sheet.
type Round<S> = fn(&mut S, &mut Sheet) -> Result<()>;

/// A fault, and what is measured of it.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// A server's socket is closed: until it is out of the kernel's table
    ServerKilled,
    /// A node's cables are out for 10 s: until its weight is 0, and until it is in again
    NodeUnplugged,
    /// The active director's machine dies: until another answers for the CVIP
    DirectorDies,
    /// The active director's cvipd is killed: until another carries the CVIP
    CvipdKilled,
    /// The active director's cvipd is frozen: until another carries the CVIP
    CvipdFrozen,
    /// The active director is cut off from all: until another carries the CVIP
    DirectorCutOff,
    /// A planned hand-over amid 500 requests: what becomes of them
    HandOver,
    /// Every cvipd is ended and started again, one after the other: what becomes of requests
    Upgrade,
    /// A node's cvipd is frozen for 10 s: what changes
    NodeFrozen,
    /// The active director is cut off from etcd alone for 10 s: what changes
    CutOffFromEtcd,
    /// The active director hears nobody for 3 s: what changes
    Isolated,
    /// An etcd server that does not lead is killed for 10 s: what changes
    EtcdFollowerKilled,
    /// The leader of the etcd servers is killed for 10 s: what changes
    EtcdLeaderKilled,
    /// Every etcd server is stopped for 10 s: what changes
    EtcdStopped,
    /// The disks of the etcd servers are full for 10 s: what changes
    EtcdDiskFull,
    /// 20 % of all packets are lost and the others late for 16 s: what changes
    BadNetwork,
    /// The machines' clock leaps by an hour, and back: what changes
    ClockSet,
    /// Forged and old heartbeats, and forged ARP packets: what changes
    Forged,
}

impl Row {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// One round of it.
    fn round(self) -> Round<Scene> {
        match self {
            Row::ServerKilled => nodes::server_killed,
            Row::NodeUnplugged => nodes::node_unplugged,
            Row::DirectorDies => directors::dies,
            Row::CvipdKilled => directors::cvipd_killed,
            Row::CvipdFrozen => directors::cvipd_frozen,
            Row::DirectorCutOff => directors::cut_off,
            Row::HandOver => directors::hands_over,
            Row::Upgrade => directors::upgraded,
            Row::NodeFrozen => calm::node_frozen,
            Row::CutOffFromEtcd => calm::cut_off_from_etcd,
            Row::Isolated => calm::isolated,
            Row::EtcdFollowerKilled => calm::etcd_follower_killed,
            Row::EtcdLeaderKilled => calm::etcd_leader_killed,
            Row::EtcdStopped => calm::etcd_stopped,
            Row::EtcdDiskFull => calm::etcd_disk_full,
            Row::BadNetwork => calm::bad_network,
            Row::ClockSet => calm::clock_set,
            Row::Forged => calm::forged,
        }
    }

    /// The same of keepalived, where it has such a thing, with what is compared.
    fn beside(self) -> Option<(Round<Vrrp>, &'static str)> {
        match self {
            Row::DirectorDies => Some((Vrrp::dies, ANSWERED)),
            Row::HandOver => Some((Vrrp::hands_over, GAP)),
            _ => None,
        }
    }
}

/// Chooses rows and a seed where none were given, and goes into the lab.
pub(crate) fn run(
    kernel: KernelChoice,
    rounds: u32,
    rows: &[Row],
    seed: Option<u64>,
) -> Result<ExitCode> {
    ensure!(rounds > 0, "no rounds, no figures");
    let asked: String = rows.iter().map(|row| format!(" --row {}", row.name())).collect();
    let rows = if rows.is_empty() { Row::value_variants() } else { rows };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = seed.unwrap_or(u64::from(now.subsec_nanos()));
    let programs = build::programs(build::Profile::Release)?;
    println!("\nto repeat this: cargo xtask bench cluster --rounds {rounds} --seed {seed}{asked}");
    let mut words = vec![std::env::current_exe()?.into_os_string()];
    words.extend(["inside".into(), "cluster".into(), programs.into(), rounds.to_string().into()]);
    words.push(seed.to_string().into());
    words.extend(rows.iter().map(|row| row.name().into()));
    let packages = [cvip_lab::etcd::PACKAGES, cvip_lab::keepalived::PACKAGES].concat();
    let status = Lab::new(kernel)?
        .packages(&packages)
        // A round takes half a minute at the most, in each row.
        .timeout(Duration::from_secs(600) + rounds * 15 * Duration::from_secs(60))
        .run(&words)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// In the lab.
pub(crate) fn inside(
    programs: &Path,
    rounds: &str,
    seed: &str,
    rows: &[String],
) -> Result<ExitCode> {
    cvip_lab::require();
    let (rounds, seed): (u32, u64) = (rounds.parse()?, seed.parse()?);
    let parse = |name: &String| Row::from_str(name, false).map_err(anyhow::Error::msg);
    let rows: Vec<Row> = rows.iter().map(parse).collect::<Result<_>>()?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("in the lab, Linux {}, emulated; {rounds} rounds, seed {seed}", release.trim());

    println!("\ncvip: three etcd servers, two directors, four nodes, a client");
    let mut sheets = BTreeMap::new();
    {
        let mut scene = Scene::start(programs, Dice::new(seed))?;
        for row in rows.iter().copied() {
            let round = row.round();
            let sheet = repeat(&row.name(), rounds, &mut scene, Scene::heal, round)
                .inspect_err(|_| eprintln!("{}", scene.story()))?;
            sheets.insert(row, sheet);
        }
    }
    if rows.iter().all(|row| row.beside().is_none()) {
        return Ok(ExitCode::SUCCESS);
    }
    let mut vrrp = Vrrp::build(Dice::new(seed))?;
    for flavour in [Flavour::Two, Flavour::Three] {
        println!("\nkeepalived, {flavour}: two directors, four nodes, a client");
        vrrp.start(flavour)?;
        for row in rows.iter().copied() {
            let Some((round, compared)) = row.beside() else { continue };
            let sheet = repeat(&row.name(), rounds, &mut vrrp, Vrrp::heal, round)
                .inspect_err(|_| eprintln!("{}", vrrp.story()))?;
            let ratio = sheets.get(&row).and_then(|cvip| sheet.ratio_to(cvip, compared));
            if let Some(ratio) = ratio {
                println!("    {compared}: {ratio:.2} times cvip's, by the median");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Repeats a fault, each time from the first state, and prints what was measured, also where a
/// round fails: what came before it is as true as ever.
fn repeat<S>(
    name: &str,
    rounds: u32,
    scene: &mut S,
    heal: fn(&mut S) -> Result<()>,
    round: Round<S>,
) -> Result<Sheet> {
    let mut sheet = Sheet::default();
    let outcome = (1..=rounds).try_for_each(|number| {
        heal(scene)
            .and_then(|()| round(scene, &mut sheet))
            .with_context(|| format!("{name}, round {number} of {rounds}"))
    });
    println!("  {name}\n{sheet}");
    outcome.and_then(|()| heal(scene).with_context(|| format!("after {name}"))).map(|()| sheet)
}
