//! The node's addresses and settings in its own kernel: kept, renewed, announced, given back.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::conf::Conf;
use crate::net::{self, Keeper, Reachable, Role};

/// The addresses that the active director announces are announced again after these, for a
/// switch or a neighbour that missed the first.
const ANNOUNCE_AGAIN: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How often addresses and sysctls are looked at, and mended.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// How often addresses with a lifetime are renewed; they live ten times as long.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Who is this late with a renewal was away: frozen, perhaps, and replaced.
const AWAY_AFTER: Duration = Duration::from_secs(3);

pub(super) struct Presence {
    node: u32,
    keeper: Keeper,
    /// None until the node knows what it is: what stands is left as it is.
    role: Option<Role>,
    /// When they are announced next: index into [`ANNOUNCE_AGAIN`] and time.
    announce: Option<(usize, Instant)>,
    next_keep: Instant,
    /// When addresses with a lifetime are renewed.
    next_renewal: Instant,
    /// What is announced, and where.
    reachable: Vec<Reachable>,
    /// What failed when it was last kept, as it was logged.
    failures: Vec<String>,
}

impl Presence {
    pub(super) fn open(run_dir: &Path, node: u32, now: Instant) -> Presence {
        let record = run_dir.join(format!("kept-{node}.json"));
        let keeper = Keeper::open(&record).unwrap_or_else(|error| {
            error!("{error}; what stands is taken for the administrator's, and left");
            Keeper::new(&record)
        });
        Presence {
            node,
            keeper,
            role: None,
            announce: None,
            next_keep: now,
            next_renewal: now,
            reachable: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Makes the kernel what the role asks. The active director's addresses are announced.
    pub(super) fn take(&mut self, role: Role, conf: &Conf, now: Instant) {
        if self.role != Some(role) {
            self.reachable.clear();
        }
        self.role = Some(role);
        self.next_renewal = now + RENEW_EVERY;
        self.keep(conf, now);
        self.announce = match role {
            Role::ActiveDirector => self.announce,
            _ => None,
        };
        self.tell(now);
    }

    /// Does what is due. False if this node was away so long that another may carry its addresses
    /// by now: it touches none of them until it is told its role again.
    pub(super) fn step(&mut self, conf: &Conf, now: Instant) -> bool {
        if self.role.is_none() {
            return true;
        }
        if now >= self.next_renewal && !self.renew(now) {
            (self.role, self.announce) = (None, None);
            return false;
        }
        if now >= self.next_keep {
            self.keep(conf, now);
        }
        self.tell(now);
        true
    }

    /// Renews what has a lifetime. False if that comes too late.
    fn renew(&mut self, now: Instant) -> bool {
        let late = now.duration_since(self.next_renewal) > AWAY_AFTER;
        self.next_renewal = now + RENEW_EVERY;
        if !self.keeper.has_leased() {
            return true;
        }
        if late {
            warn!("this node was away for a while: is it still the active director?");
            return false;
        }
        let Err(errors) = self.keeper.renew() else { return true };
        for error in &errors {
            error!("{error}");
        }
        self.next_keep = now;
        !errors.iter().any(|error| matches!(error, net::Error::Lapsed { .. }))
    }

    /// Looks after the record of what was made here.
    pub(super) fn tend(&mut self) {
        self.keeper.tend();
    }

    /// When something is due, if anything is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.role?;
        let announce = self.announce.map(|(_, at)| at);
        Some(announce.into_iter().chain([self.next_renewal]).fold(self.next_keep, Instant::min))
    }

    /// Undoes everything that was made here and that nobody changed since.
    pub(super) fn undo(&mut self) {
        let report = self.keeper.undo();
        for done in &report.done {
            info!("{done}");
        }
        for failure in &report.failures {
            error!("{failure}");
        }
    }

    fn keep(&mut self, conf: &Conf, now: Instant) {
        self.next_keep = now + KEEP_EVERY;
        let Some(role) = self.role else { return };
        let report = self.keeper.apply(&net::wishes(conf, self.node, role));
        for done in &report.done {
            info!("{done}");
        }
        let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            error!("{failure}");
        }
        self.failures = failures;
        let is_new = |at: &Reachable| !self.reachable.contains(at);
        if role == Role::ActiveDirector && report.reachable.iter().any(is_new) {
            self.announce = Some((0, now));
        }
        self.reachable = report.reachable;
    }

    fn tell(&mut self, now: Instant) {
        let Some((count, at)) = self.announce else { return };
        if now < at {
            return;
        }
        for Reachable { addr, device } in &self.reachable {
            if let Err(error) = net::announce(device, *addr) {
                warn!("{addr} is not announced: {error}");
            }
        }
        self.announce = ANNOUNCE_AGAIN.get(count).map(|wait| (count + 1, now + *wait));
    }
}
