//! Which targets are due, and what is known of each. Pure: time and randomness are given.
//!
//! A target's runs stand on a grid of its own: its interval, moved by a hash of its key, so that a
//! thousand targets of one interval start one after the other, not all at once. A late run does
//! not move the grid. The first run need not wait for it: it is due within a millisecond for each
//! target that is new, so that one new target is known at once and a thousand within a second.
//!
//! A run that hangs takes a worker for as long as it may last. So that many such do not keep the
//! workers from everybody else, targets whose last run failed get no more than [`DOUBTFUL_MOST`]
//! workers at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::health::{CheckOutcome, Health};
use super::{Check, CheckTarget};
use crate::clock::Instant;

/// Between two first runs, on average.
const FIRST_RUNS_APART: Duration = Duration::from_millis(1);

/// How long after its own deadline a run that has not ended counts as failed: something hangs
/// that no deadline reaches, such as a program in the kernel's uninterruptible sleep.
const GRACE: Duration = Duration::from_secs(1);

/// At most so many workers run targets whose last run failed.
pub(super) const DOUBTFUL_MOST: usize = 16;

/// Targets, what is known of them, and when they are due.
#[derive(Debug)]
pub(super) struct CheckSchedule<K> {
    seed: u64,
    /// Where every grid begins.
    epoch: Instant,
    entries: BTreeMap<K, CheckEntry>,
    /// The entries that wait, by when they are due: those in good standing, and the doubtful.
    due: [BTreeSet<(Instant, K)>; 2],
    /// The entries that run, by when to count them as failed.
    overdue: BTreeSet<(Instant, K)>,
    /// Runs that have not ended, those of targets that are gone included, by [`CheckLane`].
    running: [usize; 2],
    /// The number of the last run.
    runs: u64,
}

/// One target.
#[derive(Debug)]
struct CheckEntry {
    target: Arc<CheckTarget>,
    health: Health,
    slot: Slot,
}

/// What an entry does.
#[derive(Clone, Copy, Debug)]
enum Slot {
    /// Waits until it is due.
    Waits { due: Instant, lane: CheckLane },
    /// Runs, as the run of this number.
    Runs { run: u64, started: Instant, overdue: Instant, hangs: bool },
}

/// Which workers a target may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckLane {
    /// Any: its last run succeeded, or it had none.
    Good,
    /// [`DOUBTFUL_MOST`]: its last run failed.
    Doubtful,
}

/// A run that was started and whose end has to be told.
#[derive(Clone, Debug)]
pub(super) struct CheckRun<K> {
    key: K,
    number: u64,
    lane: CheckLane,
    pub(super) target: Arc<CheckTarget>,
}

impl<K: Ord + Clone + Hash> CheckSchedule<K> {
    /// No targets. The seed moves every target's grid.
    pub(super) fn new(seed: u64, epoch: Instant) -> CheckSchedule<K> {
        CheckSchedule {
            seed,
            epoch,
            entries: BTreeMap::new(),
            due: [BTreeSet::new(), BTreeSet::new()],
            overdue: BTreeSet::new(),
            running: [0; 2],
            runs: 0,
        }
    }

    /// Replaces the targets. One that is the same as before keeps what is known of it and when it
    /// is due; one with any other setting starts anew. A run of a target that is gone or was
    /// changed goes on to its end, which then counts for nothing.
    pub(super) fn replace(&mut self, targets: BTreeMap<K, CheckTarget>, now: Instant) {
        let gone: Vec<K> = self
            .entries
            .iter()
            .filter(|(key, entry)| targets.get(key) != Some(&*entry.target))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.take(&key);
        }
        let new = u32::try_from(targets.len() - self.entries.len()).unwrap_or(u32::MAX);
        for (key, target) in targets {
            if self.entries.contains_key(&key) {
                continue;
            }
            let Check { interval, rise, fall, .. } = target.check;
            let pause = self.share(&key, interval.get().min(FIRST_RUNS_APART * new));
            let health = Health::new(rise, fall, now);
            let slot = Slot::Waits { due: now + pause, lane: CheckLane::Good };
            self.put(key, CheckEntry { target: Arc::new(target), health, slot });
        }
    }

    /// Starts what is due, as far as there are workers.
    pub(super) fn start(&mut self, now: Instant, workers: usize) -> Vec<CheckRun<K>> {
        let mut runs = Vec::new();
        while let Some((due, lane)) = self.first_due(workers)
            && due <= now
        {
            let Some((_, key)) = self.due[lane as usize].pop_first() else { break };
            let Some(mut entry) = self.entries.remove(&key) else { break };
            self.runs += 1;
            self.running[lane as usize] += 1;
            let overdue = now + entry.target.check.timeout.get() + GRACE;
            entry.slot = Slot::Runs { run: self.runs, started: now, overdue, hangs: false };
            let target = Arc::clone(&entry.target);
            runs.push(CheckRun { key: key.clone(), number: self.runs, lane, target });
            self.put(key, entry);
        }
        runs
    }

    /// The first that may start with so many workers.
    fn first_due(&self, workers: usize) -> Option<(Instant, CheckLane)> {
        let [good, doubtful] = &self.due;
        if self.running.iter().sum::<usize>() >= workers {
            return None;
        }
        let good = good.first().map(|(due, _)| (*due, CheckLane::Good));
        if self.running[CheckLane::Doubtful as usize] >= DOUBTFUL_MOST {
            return good;
        }
        let doubtful = doubtful.first().map(|(due, _)| (*due, CheckLane::Doubtful));
        good.into_iter().chain(doubtful).min_by_key(|(due, _)| *due)
    }

    /// Takes a run's result; the target if that changed its state.
    pub(super) fn finish(
        &mut self,
        run: &CheckRun<K>,
        outcome: CheckOutcome,
        now: Instant,
    ) -> Option<(&CheckTarget, &Health)> {
        let (mut entry, hangs) = self.ended(run)?;
        // What comes after the deadline was counted as a failure already.
        let changed = !hangs && entry.health.record(outcome, now);
        let Slot::Runs { started, .. } = entry.slot else { return None };
        let due = self.after(&run.key, &entry.target.check, started, now);
        entry.slot = Slot::Waits { due, lane: entry.lane() };
        self.put(run.key.clone(), entry);
        self.entries.get(&run.key).filter(|_| changed).map(|e| (&*e.target, &e.health))
    }

    /// Takes back a run for which there was no thread; it is due again at this time.
    pub(super) fn put_back(&mut self, run: &CheckRun<K>, due: Instant) {
        if let Some((mut entry, _)) = self.ended(run) {
            entry.slot = Slot::Waits { due, lane: entry.lane() };
            self.put(run.key.clone(), entry);
        }
    }

    /// The entry of a run that has ended, taken out, and whether it was counted as hanging. None
    /// if its target is gone or another.
    fn ended(&mut self, run: &CheckRun<K>) -> Option<(CheckEntry, bool)> {
        let running = &mut self.running[run.lane as usize];
        *running = running.saturating_sub(1);
        match self.entries.get(&run.key)?.slot {
            Slot::Runs { run: number, hangs, .. } if number == run.number => {
                Some((self.take(&run.key)?, hangs))
            }
            _ => None,
        }
    }

    /// Counts runs as failed that should have ended long ago, and again with each interval; the
    /// keys of those whose state that changed.
    pub(super) fn count_overdue(&mut self, now: Instant) -> Vec<K> {
        let mut changed = Vec::new();
        while self.overdue.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.overdue.pop_first() else { break };
            let Some(mut entry) = self.entries.remove(&key) else { break };
            if let Slot::Runs { run, started, .. } = entry.slot {
                let overdue = now + entry.target.check.interval.get();
                entry.slot = Slot::Runs { run, started, overdue, hangs: true };
                let timeout = entry.target.check.timeout;
                let reason = format!("the check itself hangs, beyond its {timeout} s");
                if entry.health.record(Err(reason), now) {
                    changed.push(key.clone());
                }
            }
            self.put(key, entry);
        }
        changed
    }

    /// When there is something to do next without a result; none: never.
    pub(super) fn next(&self, workers: usize) -> Option<Instant> {
        let overdue = self.overdue.first().map(|(at, _)| *at);
        let due = self.first_due(workers).map(|(due, _)| due);
        due.into_iter().chain(overdue).min()
    }

    /// What is known of a target.
    pub(super) fn get(&self, key: &K) -> Option<(&CheckTarget, &Health)> {
        self.entries.get(key).map(|entry| (&*entry.target, &entry.health))
    }

    /// Every target and what is known of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &CheckTarget, &Health)> {
        self.entries.iter().map(|(key, entry)| (key, &*entry.target, &entry.health))
    }

    /// Adds an entry and its place among those that wait or run.
    fn put(&mut self, key: K, entry: CheckEntry) {
        match entry.slot {
            Slot::Waits { due, lane } => self.due[lane as usize].insert((due, key.clone())),
            Slot::Runs { overdue, .. } => self.overdue.insert((overdue, key.clone())),
        };
        self.entries.insert(key, entry);
    }

    /// Takes out an entry and its place among those that wait or run.
    fn take(&mut self, key: &K) -> Option<CheckEntry> {
        let entry = self.entries.remove(key)?;
        match entry.slot {
            Slot::Waits { due, lane } => self.due[lane as usize].remove(&(due, key.clone())),
            Slot::Runs { overdue, .. } => self.overdue.remove(&(overdue, key.clone())),
        };
        Some(entry)
    }

    /// A key's share of a time: always the same part of it, and every part for some key.
    fn share(&self, key: &K, time: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        key.hash(&mut hasher);
        // 32 bits of the hash are a fraction; no time here is longer than an hour.
        let nanos = (time.as_nanos() * u128::from(hasher.finish() >> 32)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The first place of a target's grid that is not before now, nor less than half an interval
    /// after the last start.
    fn after(&self, key: &K, check: &Check, started: Instant, now: Instant) -> Instant {
        let interval = check.interval.get();
        let earliest = now.max(started + interval / 2);
        let first = self.epoch + self.share(key, interval);
        let past = earliest.saturating_duration_since(first);
        let places = past.as_nanos().div_ceil(interval.as_nanos());
        first + interval * u32::try_from(places).unwrap_or(u32::MAX)
    }
}

impl CheckEntry {
    fn lane(&self) -> CheckLane {
        match self.health.failures() {
            0 => CheckLane::Good,
            _ => CheckLane::Doubtful,
        }
    }
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
