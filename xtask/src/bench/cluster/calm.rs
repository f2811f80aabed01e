//! What must change nothing: changes are counted, at every look.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip::counter;
use cvip::heartbeat::wire::KEY_LABEL;
use cvip::heartbeat::{ClusterKey, Heartbeat, Leadership, Nonce, PORT};
use cvip_lab::{CLUSTER_KEY, Direction, Fault, Impairment, Network};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use super::scene::{NODES, PATIENCE, Scene, any_node};
use super::sheet::Sheet;

/// For how long a fault lasts.
const LASTS: Duration = Duration::from_secs(10);

/// For how long it is watched once that is over: leases could end then.
const AFTER: Duration = Duration::from_secs(3);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How it was before.
struct Before {
    active: u32,
    term: serde_json::Value,
}

impl Before {
    fn of(scene: &Scene) -> Result<Before> {
        let active = scene.active()?;
        Ok(Before { active, term: term(scene, active)? })
    }

    /// Looks again and again for so long, and counts what is not as it was.
    fn look(&self, scene: &Scene, sheet: &mut Sheet, for_so_long: Duration) -> Result<()> {
        let until = Instant::now() + for_so_long;
        let tables = scene.site.directors().map(|director| scene.table(director));
        let mut tables: Vec<_> = tables.collect::<Result<_>>()?;
        loop {
            let carriers = scene.site.carriers();
            sheet.count("looks", 1);
            sheet.count("another carrier", usize::from(carriers != [self.active]));
            for table in &mut tables {
                let weighed = table.weighed()?.len();
                sheet.count("another pool", usize::from(weighed != NODES as usize));
            }
            if Instant::now() >= until {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Looks until something is so; how long that took is a figure.
    fn look_until(
        &self,
        scene: &Scene,
        sheet: &mut Sheet,
        what: &'static str,
        is: impl Fn(&Scene) -> Result<bool>,
    ) -> Result<()> {
        let at = Instant::now();
        while !is(scene)? {
            ensure!(at.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            self.look(scene, sheet, Duration::ZERO)?;
            thread::sleep(LOOK_EVERY);
        }
        sheet.time(what, at.elapsed());
        Ok(())
    }

    /// The last looks; counts a change of term.
    fn end(self, scene: &Scene, sheet: &mut Sheet) -> Result<()> {
        self.look(scene, sheet, AFTER)?;
        sheet.count("elections", usize::from(term(scene, self.active)? != self.term));
        Ok(())
    }
}

fn term(scene: &Scene, director: u32) -> Result<serde_json::Value> {
    Ok(scene.site.status(director)?["director_sets"][0]["term"].clone())
}

/// Whether a director says that it has the store.
fn has_store(scene: &Scene, director: u32) -> Result<bool> {
    Ok(scene.site.status(director)?["store_unavailable_s"].is_null())
}

/// Every etcd server is killed, and started again.
pub(super) fn etcd_stopped(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let servers: Vec<usize> = scene.site.etcd.numbers().collect();
    etcd_killed(scene, sheet, &servers)
}

/// The leader of the etcd servers is killed, and started again.
pub(super) fn etcd_leader_killed(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let leader = scene.site.etcd.leader()?;
    etcd_killed(scene, sheet, &[leader])
}

/// An etcd server that does not lead is killed, and started again.
pub(super) fn etcd_follower_killed(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let leader = scene.site.etcd.leader()?;
    let follower = scene.site.etcd.numbers().find(|number| *number != leader);
    etcd_killed(scene, sheet, &[follower.context("there are three")?])
}

fn etcd_killed(scene: &mut Scene, sheet: &mut Sheet, servers: &[usize]) -> Result<()> {
    let before = Before::of(scene)?;
    let clients = scene.clients();
    for number in servers {
        scene.site.etcd.kill(*number);
    }
    before.look(scene, sheet, LASTS)?;
    for number in servers {
        scene.site.etcd.start_member(*number)?;
    }
    let active = before.active;
    let back = |scene: &Scene| has_store(scene, active);
    before.look_until(scene, sheet, "etcd's start to known to be back", back)?;
    scene.site.etcd.wait_healthy().context("etcd does not come back")?;
    before.end(scene, sheet)?;
    sheet.clients(&clients.stop())
}

/// The disks of all etcd servers are full for a while. Those that ended of it are started again.
pub(super) fn etcd_disk_full(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let before = Before::of(scene)?;
    let clients = scene.clients();
    let numbers = scene.site.etcd.numbers();
    let full = numbers.clone().map(|number| scene.site.etcd.fill_disk(number));
    let full: Vec<_> = full.collect::<Result<_>>()?;
    before.look(scene, sheet, LASTS)?;
    drop(full);
    for number in numbers {
        if !scene.site.etcd.is_running(number) {
            scene.site.etcd.start_member(number)?;
        }
    }
    scene.site.etcd.wait_healthy().context("etcd does not come back")?;
    before.end(scene, sheet)?;
    sheet.clients(&clients.stop())
}

/// The active director alone has lost the store.
pub(super) fn cut_off_from_etcd(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let before = Before::of(scene)?;
    let clients = scene.clients();
    let active = before.active;
    let stores = scene.site.cluster.stores().iter();
    let host = scene.site.host(active);
    let cuts = stores.map(|store| host.part_from(store, Network::Interconnect, Direction::Both));
    let cut = Fault::all(cuts.collect::<Result<Vec<_>>>()?);
    before.look(scene, sheet, LASTS)?;
    cut.end()?;
    let back = |scene: &Scene| has_store(scene, active);
    before.look_until(scene, sheet, "the way is free to known to be back", back)?;
    before.end(scene, sheet)?;
    sheet.clients(&clients.stop())
}

/// The active director is heard by all, and hears nobody: not for so long that its kernel forgets
/// where they are, for then nobody hears it either, and it is replaced as it should be.
pub(super) fn isolated(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let before = Before::of(scene)?;
    let cut = scene.site.host(before.active).silence(Network::Public, Direction::To)?;
    before.look(scene, sheet, LASTS / 3)?;
    cut.end()?;
    before.end(scene, sheet)
}

/// A node's cvipd stands still and goes on; its machine and its server live.
pub(super) fn node_frozen(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let node = any_node(&mut scene.dice);
    let before = Before::of(scene)?;
    let clients = scene.clients();
    let pid = scene.site.daemon_pid(node).context("its cvipd runs")?;
    kill(pid, Signal::SIGSTOP)?;
    before.look(scene, sheet, LASTS)?;
    kill(pid, Signal::SIGCONT)?;
    let active = before.active;
    let is_heard = |scene: &Scene| {
        let status = scene.site.status(active)?;
        let rows = status["nodes"].as_array().context("nodes")?;
        Ok(rows.iter().any(|row| row["node"] == node && row["liveness"] == "alive"))
    };
    before.look_until(scene, sheet, "it goes on to heard again", is_heard)?;
    before.end(scene, sheet)?;
    sheet.clients(&clients.stop())
}

/// Every machine's packets are lost, late and out of order, to each other and to the store.
pub(super) fn bad_network(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let bad = Impairment {
        loss_percent: 20.0,
        delay: Duration::from_millis(200),
        jitter: Duration::from_millis(50),
        reorder_percent: 5.0,
    };
    let before = Before::of(scene)?;
    let lines = [Network::Public, Network::Interconnect];
    let ends = scene.site.numbers().flat_map(|number| lines.map(|line| (number, line)));
    let faults =
        ends.map(|(number, line)| scene.site.host(number).impair(line, Direction::From, bad));
    let faults = Fault::all(faults.collect::<Result<Vec<_>>>()?);
    // In 20 rounds these are more than five minutes.
    before.look(scene, sheet, LASTS + 2 * AFTER)?;
    faults.end()?;
    before.end(scene, sheet)
}

/// The clock of every machine (they have one) leaps by an hour, and back.
pub(super) fn clock_set(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let before = Before::of(scene)?;
    let clients = scene.clients();
    for seconds in [3600, -7200, 3600] {
        let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
        let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
        clock_settime(ClockId::CLOCK_REALTIME, then)?;
        before.look(scene, sheet, AFTER)?;
    }
    before.end(scene, sheet)?;
    sheet.clients(&clients.stop())
}

/// A stranger sends heartbeats with another key, an old one that was signed with the right one,
/// and ARP packets which say that he has the CVIP.
pub(super) fn forged(scene: &mut Scene, sheet: &mut Sheet) -> Result<()> {
    let before = Before::of(scene)?;
    let clients = scene.clients();
    let stranger = scene.site.cluster.client();
    let signed = |heartbeat: Heartbeat, secret: &str| -> Result<Vec<u8>> {
        Ok(heartbeat.encode(&ClusterKey::from_bytes(secret.as_bytes())?.derive(KEY_LABEL))?)
    };
    let heartbeat = |incarnation| Heartbeat {
        node: scene.other(before.active),
        incarnation,
        sequence: 1,
        nonce: Nonce([1; 16]),
        leaving: false,
        cannot_carry: false,
        left: None,
        leaderships: vec![Leadership {
            set: scene.site.director(),
            term: counter::LAST,
            active: true,
        }],
        seen: vec![],
    };
    let forged = signed(heartbeat(counter::LAST), "another key, which is as long as it must be")?;
    let replayed = signed(heartbeat(1), CLUSTER_KEY)?;
    let socket = stranger.enter(|| UdpSocket::bind("0.0.0.0:0"))?;
    let to = (scene.site.host(before.active).v4(), PORT);
    for _ in 0..20 {
        socket.send_to(&forged, to)?;
        socket.send_to(&replayed, to)?;
    }
    stranger.enter(|| cvip::net::announce("eth0", scene.site.cvip(false)))?;
    before.look(scene, sheet, LASTS / 2)?;
    before.end(scene, sheet)?;
    sheet.clients(&clients.stop())
}
