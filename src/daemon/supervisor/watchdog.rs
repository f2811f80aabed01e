//! When the service manager's watchdog is fed: only while every worker answers. Pure.
//!
//! Every quarter of the interval all workers are asked. Once all of them have answered, the watchdog
//! is fed, and the next question waits for its time. A worker that does not answer keeps it from
//! being fed until the service manager ends cvipd, and starts one again: what the kernel has goes on
//! meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::error;

use crate::clock::Instant;

/// What is to be done for the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchdogAction {
    /// Ask all workers that run; they answer with this number.
    Ask(u64),
    /// Tell the service manager that all is well.
    Feed,
}

/// The watchdog of the service manager, if it has one for this process.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// It is to be fed within this time.
    interval: Option<Duration>,
    /// How often the workers were asked.
    round: u64,
    /// Who has not answered yet.
    awaited: BTreeSet<&'static str>,
    asked: Instant,
    /// The watchdog is not fed any more, and the log says so.
    is_said: bool,
}

impl Watchdog {
    /// One that is to be fed within this time.
    pub(super) fn new(interval: Option<Duration>, now: Instant) -> Watchdog {
        Watchdog { interval, round: 0, awaited: BTreeSet::new(), asked: now, is_said: false }
    }

    /// When [`Watchdog::at`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let interval = self.interval?;
        Some(match (self.awaited.is_empty(), self.is_said) {
            (true, _) => self.asked + interval / 4,
            (false, false) => self.asked + interval / 2,
            // An answer may still come.
            (false, true) => return None,
        })
    }

    /// What is due as time goes on.
    pub(super) fn at(&mut self, now: Instant) -> Option<WatchdogAction> {
        self.due().filter(|due| now >= *due)?;
        if !self.awaited.is_empty() {
            self.is_said = true;
            let workers: Vec<&str> = self.awaited.iter().copied().collect();
            error!(
                "no answer for {} s from the threads: {}; the service manager's watchdog is not \
                 fed until they answer",
                now.saturating_duration_since(self.asked).as_secs(),
                workers.join(", ")
            );
            return None;
        }
        self.round += 1;
        self.asked = now;
        Some(WatchdogAction::Ask(self.round))
    }

    /// These workers were asked.
    pub(super) fn asked(&mut self, workers: impl IntoIterator<Item = &'static str>) {
        self.awaited = workers.into_iter().collect();
    }

    /// A worker has answered.
    pub(super) fn answered(&mut self, worker: &str, round: u64) -> Option<WatchdogAction> {
        if round != self.round || !self.awaited.remove(worker) || !self.awaited.is_empty() {
            return None;
        }
        self.is_said = false;
        Some(WatchdogAction::Feed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watchdog(now: Instant) -> Watchdog {
        Watchdog::new(Some(60 * SECOND), now)
    }

    #[test]
    fn it_is_fed_once_every_worker_has_answered_and_they_are_asked_four_times_in_the_interval() {
        let start = Instant::now();
        let mut watchdog = watchdog(start);
        assert_eq!(watchdog.at(start + 14 * SECOND), None);
        for round in 1..=3 {
            let now = watchdog.due().unwrap();
            assert_eq!(now, start + 15 * SECOND * u32::try_from(round).unwrap());
            assert_eq!(watchdog.at(now), Some(WatchdogAction::Ask(round)));
            watchdog.asked(["node", "table"]);
            assert_eq!(watchdog.at(now), None, "it waits for them");
            assert_eq!(watchdog.answered("node", round), None);
            assert_eq!(watchdog.answered("node", round), None, "one answers for itself alone");
            assert_eq!(watchdog.answered("table", round), Some(WatchdogAction::Feed));
        }
    }

    #[test]
    fn it_is_not_fed_while_one_does_not_answer_and_again_once_it_does() {
        let start = Instant::now();
        let mut watchdog = watchdog(start);
        assert_eq!(watchdog.at(start + 15 * SECOND), Some(WatchdogAction::Ask(1)));
        watchdog.asked(["node", "table"]);
        assert_eq!(watchdog.answered("node", 1), None);
        assert_eq!(watchdog.due(), Some(start + 45 * SECOND), "then the log says it");
        for now in 45..1000 {
            assert_eq!(watchdog.at(start + now * SECOND), None, "no worker is asked again");
        }
        assert_eq!(watchdog.answered("monitor", 1), None);
        assert_eq!(watchdog.answered("table", 0), None, "an answer of an earlier round");
        assert_eq!(watchdog.answered("table", 1), Some(WatchdogAction::Feed));
        assert_eq!(watchdog.at(start + 1000 * SECOND), Some(WatchdogAction::Ask(2)));
    }

    #[test]
    fn without_a_watchdog_no_worker_is_asked() {
        let start = Instant::now();
        let mut none = Watchdog::new(None, start);
        assert_eq!((none.due(), none.at(start + 1000 * SECOND)), (None, None));
    }
}
