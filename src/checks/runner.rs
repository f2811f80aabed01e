//! Checks for an agent that polls: targets in, health out.
//!
//! It has no clock and decides nothing: [`CheckSchedule`] says what is due and what results mean,
//! threads of a [`Pool`] wait for servers, and what they found comes back by messages. One run of a
//! target is never joined by a second; a run that hangs holds its own thread and no other.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::errno::Errno;
use tracing::{info, warn};

use super::CheckTarget;
use super::health::{CheckOutcome, Health, HealthState};
use super::pool::Pool;
use super::probe::probe;
use super::schedule::{CheckRun, CheckSchedule};
use crate::clock::Instant;
use crate::wake::{Inbox, channel};

/// The most runs at a time.
const WORKERS: usize = 32;

/// A thread that had nothing to do for so long goes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a run for which there was no thread is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest wait when nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// Runs checks, and knows what they say.
///
/// Its threads live in the network namespace of the thread that steps it. Dropping it ends each
/// of them as soon as its run has ended, at the run's deadline at the latest.
pub struct Checker<K> {
    schedule: CheckSchedule<K>,
    pool: Pool<CheckRun<K>>,
    results: Inbox<(CheckRun<K>, CheckOutcome)>,
    /// True while no thread can be made, which is said once.
    short_of_threads: bool,
}

impl<K: Ord + Clone + Hash + Send + 'static> Checker<K> {
    /// No targets and no threads yet. The seed, which may be anything, says which moments of an
    /// interval a target's runs get.
    ///
    /// # Errors
    /// No descriptor that wakes the caller (eventfd(2)).
    pub fn new(seed: u64, now: Instant) -> Result<Checker<K>, Errno> {
        let (outbox, results) = channel()?;
        let pool = Pool::new(WORKERS, PATIENCE, move |run: CheckRun<K>| {
            let outcome = catch_unwind(AssertUnwindSafe(|| probe(&run.target)))
                .unwrap_or_else(|_| Err("the check itself broke down: see the log".to_owned()));
            // The receiver may be gone.
            outbox.send((run, outcome));
        });
        Ok(Checker {
            schedule: CheckSchedule::new(seed, now),
            pool,
            results,
            short_of_threads: false,
        })
    }

    /// Replaces the targets. One that is the same as before keeps its health; one with any other
    /// setting starts as unknown. Due is what is new when [`Checker::step`] is called next.
    pub fn set_targets(&mut self, targets: BTreeMap<K, CheckTarget>, now: Instant) {
        self.schedule.replace(targets, now);
    }

    /// Readable when a result waits for [`Checker::step`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.results.fd()
    }

    /// How long to wait for [`Checker::fd`] at most before the next [`Checker::step`].
    pub fn timeout(&self, now: Instant) -> Duration {
        let next = self.schedule.next(self.pool.limit());
        next.map_or(IDLE, |next| next.saturating_duration_since(now).min(IDLE))
    }

    /// Takes the results that wait and starts what is due; true if any target's state changed.
    pub fn step(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for (run, outcome) in self.results.take() {
            if let Some((target, health)) = self.schedule.finish(&run, outcome, now) {
                tell(target, health);
                changed = true;
            }
        }
        for key in self.schedule.count_overdue(now) {
            if let Some((target, health)) = self.schedule.get(&key) {
                tell(target, health);
                changed = true;
            }
        }
        for run in self.schedule.start(now, self.pool.limit()) {
            match self.pool.give(run) {
                Ok(()) => self.short_of_threads = false,
                Err((run, error)) => {
                    self.schedule.put_back(&run, now + RETRY_AFTER);
                    if !std::mem::replace(&mut self.short_of_threads, true) {
                        warn!("checks wait: cannot make a thread: {error}");
                    }
                }
            }
        }
        changed
    }

    /// What is known of a target; none if it is no target.
    #[cfg(feature = "internal")]
    pub fn health(&self, key: &K) -> Option<&Health> {
        self.schedule.get(key).map(|(_, health)| health)
    }

    /// Every target with what is known of it, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &CheckTarget, &Health)> {
        self.schedule.iter()
    }
}

fn tell(target: &CheckTarget, health: &Health) {
    match health.state() {
        HealthState::Unhealthy => warn!("{target} is unhealthy: {health}"),
        state => info!("{target} is {state}: {health}"),
    }
}

#[cfg(test)]
#[path = "runner/tests.rs"]
mod tests;
