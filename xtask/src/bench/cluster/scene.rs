//! The cluster that the faults happen to: its first state, and how its tables are watched.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip::ipvs::ServiceId;
use cvip::protocol::Protocol;
use cvip_lab::traffic::Running;
use cvip_lab::{Dice, Site, since_when};

use crate::table::Table;

/// How long anything may take before the bench gives up: emulated kernels are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// How many requests a second clients make, where they only watch.
pub(super) const RATE: f64 = 50.0;

/// For how long clients are watched before a fault, and after another answers.
pub(super) const WATCH: Duration = Duration::from_secs(2);

/// How often an address or a table is looked at: one processor has to do everything.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// Nodes have the numbers 1 to 4, the directors 5 and 6.
pub(super) const NODES: u32 = 4;

/// A web service whose scheduler finds the same real server for a client on every director. A
/// server that comes and goes all the time is not damped: it is what the bench does to it.
const SERVICES: &str = "<service><protocol>tcp</protocol><port>80</port>\
     <scheduler>mh</scheduler><flap_limit>0</flap_limit></service>";

/// One of the nodes.
pub(super) fn any_node(dice: &mut Dice) -> u32 {
    dice.below(NODES.into()) as u32 + 1
}

/// Waits for up to a second: a fault comes at any moment between two heartbeats.
pub(super) fn pause(dice: &mut Dice) {
    thread::sleep(Duration::from_millis(dice.below(1000)));
}

/// The cluster.
pub(super) struct Scene {
    pub(super) site: Site,
    pub(super) dice: Dice,
}

impl Scene {
    /// Starts everything; the first director is the active one.
    pub(super) fn start(programs: &Path, dice: Dice) -> Result<Scene> {
        let site = Site::new("bench", (2, NODES as u8), programs, SERVICES)?;
        let mut scene = Scene { site, dice };
        let (first, second) = (scene.site.director(), scene.site.director() + 1);
        scene.run_cvipd(first)?;
        until(|| scene.site.carries(first)).context("the first director is not elected")?;
        for number in (1..=NODES).chain([second]) {
            scene.run_cvipd(number)?;
        }
        for node in 1..=NODES {
            scene.site.serve(node)?;
        }
        scene.heal()?;
        Ok(scene)
    }

    pub(super) fn run_cvipd(&mut self, number: u32) -> Result<()> {
        self.site.start(number, &["--log=info"])
    }

    /// Waits for the first state: one director carries the CVIP and both know, every cvipd lives,
    /// and both tables are whole.
    pub(super) fn heal(&mut self) -> Result<()> {
        self.until_whole()?;
        pause(&mut self.dice);
        Ok(())
    }

    /// The same, and goes on at once.
    pub(super) fn until_whole(&self) -> Result<()> {
        let healed = cvip_lab::wait_until(PATIENCE, || self.is_whole().then_some(()));
        healed.context("the cluster is not what it was at first")
    }

    fn is_whole(&self) -> bool {
        let [active] = self.site.carriers()[..] else { return false };
        self.site.directors().all(|director| {
            let full = (1..=NODES).collect::<Vec<_>>();
            self.site.pool(director) == full && self.knows(director, active)
        })
    }

    /// Whether a director knows who is active, and sees every cvipd alive.
    fn knows(&self, director: u32, active: u32) -> bool {
        let Ok(status) = self.site.status(director) else { return false };
        let alive = status["nodes"].as_array().map_or(0, |rows| {
            rows.iter().filter(|row| row["alive"] == serde_json::Value::Bool(true)).count()
        });
        status["director_sets"][0]["active"] == active
            && alive == self.site.numbers().count()
            && status["store_unavailable_s"].is_null()
    }

    /// The director that carries the CVIP.
    pub(super) fn active(&self) -> Result<u32> {
        let carriers = self.site.carriers();
        ensure!(carriers.len() == 1, "directors that carry the CVIP: {carriers:?}");
        Ok(carriers[0])
    }

    /// The other director.
    pub(super) fn other(&self, director: u32) -> u32 {
        let first = self.site.director();
        if director == first { first + 1 } else { first }
    }

    /// Clients that have been served for a while.
    pub(super) fn clients(&mut self) -> Running {
        let clients = self.site.traffic(RATE);
        thread::sleep(WATCH);
        pause(&mut self.dice);
        clients
    }

    /// The web service in a director's kernel, for as long as its machine lives.
    pub(super) fn table(&self, director: u32) -> Result<Table> {
        let (protocol, web) = (Protocol::Tcp, self.site.web());
        let id = ServiceId::Address { protocol, addr: web.ip(), port: web.port() };
        Table::open(self.site.host(director), id, PATIENCE, LOOK_EVERY)
    }

    /// What everybody thought.
    pub(super) fn story(&self) -> String {
        self.site.story()
    }
}

/// Waits until something is so; since when.
pub(super) fn until(mut is: impl FnMut() -> bool) -> Result<Instant> {
    since_when(PATIENCE, LOOK_EVERY, || Ok(is()))
}
