//! What a row of results makes of a real server: healthy, unhealthy, or not known yet.
//!
//! Pure. Only results *in a row* count: a server that fails every second time never has three
//! failures in a row, however long it goes on. The first result of all counts at once, so
//! that a server which is down when the daemon starts does not get traffic until `fall`.

use std::fmt;

use super::settings::Count;
use crate::clock::Instant;

/// What one run of a check found: a word on what was seen, or why the real server is unhealthy.
/// One line, printable, short: see [`mod@super::probe`].
pub type CheckOutcome = Result<String, String>;

named! {
    /// The state of a real server's health.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum HealthState {
        /// No run has ended yet.
        Unknown = "unknown",
        /// It serves.
        Healthy = "healthy",
        /// It does not.
        Unhealthy = "unhealthy",
    }
}

impl HealthState {
    /// The state after a result that was the `in_a_row`-th of its sort in a row, from 1.
    pub fn next(self, success: bool, in_a_row: u32, rise: Count, fall: Count) -> HealthState {
        match (self, success) {
            (HealthState::Unknown, true) => HealthState::Healthy,
            (HealthState::Unknown, false) => HealthState::Unhealthy,
            (HealthState::Healthy, false) if in_a_row >= fall.get() => HealthState::Unhealthy,
            (HealthState::Unhealthy, true) if in_a_row >= rise.get() => HealthState::Healthy,
            (state, _) => state,
        }
    }
}

/// A real server's state and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    state: HealthState,
    since: Instant,
    rise: Count,
    fall: Count,
    last: Option<Last>,
}

/// The last result.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    outcome: CheckOutcome,
    at: Instant,
    /// How many of its sort there were in a row, this one included.
    in_a_row: u32,
}

impl Health {
    /// Nothing known, since now.
    pub fn new(rise: Count, fall: Count, now: Instant) -> Health {
        Health { state: HealthState::Unknown, since: now, rise, fall, last: None }
    }

    /// Takes a result; true if it changed the state.
    pub fn record(&mut self, outcome: CheckOutcome, now: Instant) -> bool {
        let in_a_row = match &self.last {
            Some(last) if last.outcome.is_ok() == outcome.is_ok() => {
                last.in_a_row.saturating_add(1)
            }
            _ => 1,
        };
        let state = self.state.next(outcome.is_ok(), in_a_row, self.rise, self.fall);
        self.last = Some(Last { outcome, at: now, in_a_row });
        let changed = state != self.state;
        if changed {
            self.state = state;
            self.since = now;
        }
        changed
    }

    /// The state.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Since when; for [`HealthState::Unknown`], since the check was set up.
    #[cfg(test)]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What the last run found; none before the first has ended.
    pub fn outcome(&self) -> Option<&CheckOutcome> {
        self.last.as_ref().map(|last| &last.outcome)
    }

    /// Why it is unhealthy; none if it is not.
    pub fn fault(&self) -> Option<String> {
        match (self.state, self.outcome()) {
            (HealthState::Unhealthy, Some(Err(why))) => Some(why.clone()),
            (HealthState::Unhealthy, _) => Some("its check failed".to_owned()),
            _ => None,
        }
    }

    /// When the last run ended.
    #[cfg(test)]
    pub fn checked(&self) -> Option<Instant> {
        self.last.as_ref().map(|last| last.at)
    }

    /// Successes in a row.
    #[cfg(feature = "internal")]
    pub fn successes(&self) -> u32 {
        self.in_a_row(true)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.in_a_row(false)
    }

    fn in_a_row(&self, success: bool) -> u32 {
        match &self.last {
            Some(last) if last.outcome.is_ok() == success => last.in_a_row,
            _ => 0,
        }
    }
}

/// As a table shows it: `ok: HTTP 200`, `failed 1 of 3: HTTP 503`, `failed 17 times: HTTP 503`,
/// `succeeded 1 of 2: HTTP 200`, `not checked yet`.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Last { outcome, in_a_row, .. }) = &self.last else {
            return f.write_str("not checked yet");
        };
        match (outcome, self.state) {
            (Ok(seen), HealthState::Unhealthy) => {
                write!(f, "succeeded {in_a_row} of {}: {seen}", self.rise)
            }
            (Ok(seen), _) => write!(f, "ok: {seen}"),
            (Err(reason), HealthState::Unhealthy) if *in_a_row != self.fall.get() => {
                let times = if *in_a_row == 1 { "time" } else { "times" };
                write!(f, "failed {in_a_row} {times}: {reason}")
            }
            (Err(reason), _) => write!(f, "failed {in_a_row} of {}: {reason}", self.fall),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn count(number: u32) -> Count {
        Count::new(number).unwrap()
    }

    fn outcome(success: bool) -> CheckOutcome {
        if success { Ok("HTTP 200".to_owned()) } else { Err("HTTP 503".to_owned()) }
    }

    /// The states after each of a row of results, `+` or `-`: `?`, `F` or `U`.
    fn states(rise: u32, fall: u32, results: &str) -> String {
        let now = Instant::now();
        let mut health = Health::new(count(rise), count(fall), now);
        let letter = |state| match state {
            HealthState::Unknown => '?',
            HealthState::Healthy => 'F',
            HealthState::Unhealthy => 'U',
        };
        let mut text = String::from(letter(health.state()));
        for result in results.chars() {
            health.record(outcome(result == '+'), now);
            text.push(letter(health.state()));
        }
        text
    }

    #[test]
    fn the_transitions_are_these_and_no_others() {
        use HealthState::{Healthy, Unhealthy, Unknown};
        // Rise 2, fall 3; the number of results in a row, then the states after a success and
        // after a failure.
        for (from, in_a_row, after_success, after_failure) in [
            (Unknown, 1, Healthy, Unhealthy),
            (Healthy, 1, Healthy, Healthy),
            (Healthy, 2, Healthy, Healthy),
            (Healthy, 3, Healthy, Unhealthy),
            (Healthy, 4, Healthy, Unhealthy),
            (Unhealthy, 1, Unhealthy, Unhealthy),
            (Unhealthy, 2, Healthy, Unhealthy),
            (Unhealthy, 3, Healthy, Unhealthy),
        ] {
            let next = |success| from.next(success, in_a_row, count(2), count(3));
            assert_eq!(
                (next(true), next(false)),
                (after_success, after_failure),
                "{from} {in_a_row}"
            );
        }
    }

    #[test]
    fn the_first_result_is_believed_at_once() {
        assert_eq!(states(5, 5, "+"), "?F");
        assert_eq!(states(5, 5, "-"), "?U");
    }

    #[test]
    fn only_results_in_a_row_count() {
        assert_eq!(states(2, 3, "+--+--+--+---"), "?FFFFFFFFFFFFU");
        assert_eq!(states(2, 3, "-+-+-+-++"), "?UUUUUUUUF");
        assert_eq!(states(1, 1, "+-+-"), "?FUFU");
    }

    #[test]
    fn the_first_result_of_all_counts_in_its_row() {
        assert_eq!(states(2, 3, "-+"), "?UU");
        assert_eq!(states(2, 3, "-++"), "?UUF");
        assert_eq!(states(2, 2, "+-"), "?FF");
    }

    #[test]
    fn it_knows_since_when_and_tells_only_changes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::new(count(2), count(3), start);
        assert_eq!((health.since(), health.checked()), (start, None));
        let changes: Vec<bool> = (1..=6).map(|i| health.record(outcome(i < 3), at(i))).collect();
        assert_eq!(changes, [true, false, false, false, true, false]);
        assert_eq!((health.since(), health.checked()), (at(5), Some(at(6))));
        assert_eq!((health.successes(), health.failures()), (0, 4));
    }

    #[test]
    fn status_shows_the_count_and_the_reason() {
        let now = Instant::now();
        let mut health = Health::new(count(2), count(3), now);
        let mut shown = vec![health.to_string()];
        for success in [true, false, false, false, false, true] {
            health.record(outcome(success), now);
            shown.push(health.to_string());
        }
        assert_eq!(
            shown,
            [
                "not checked yet",
                "ok: HTTP 200",
                "failed 1 of 3: HTTP 503",
                "failed 2 of 3: HTTP 503",
                "failed 3 of 3: HTTP 503",
                "failed 4 times: HTTP 503",
                "succeeded 1 of 2: HTTP 200",
            ]
        );
        let mut health = Health::new(count(2), count(3), now);
        health.record(outcome(false), now);
        assert_eq!(health.to_string(), "failed 1 time: HTTP 503");
    }

    proptest! {
        /// Against the definition: look back over the whole row of results.
        #[test]
        fn it_is_what_the_last_results_say(
            rise in 1u32..5,
            fall in 1u32..5,
            results in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let now = Instant::now();
            let mut health = Health::new(count(rise), count(fall), now);
            let mut believed = None;
            for (i, success) in results.iter().enumerate() {
                let changed = health.record(outcome(*success), now);
                let row = results[..=i].iter().rev().take_while(|r| *r == success).count() as u32;
                let before = believed;
                believed = match believed {
                    None => Some(*success),
                    Some(true) if !success && row >= fall => Some(false),
                    Some(false) if *success && row >= rise => Some(true),
                    other => other,
                };
                let state = if believed == Some(true) { HealthState::Healthy } else { HealthState::Unhealthy };
                prop_assert_eq!(health.state(), state);
                prop_assert_eq!(changed, before != believed);
                prop_assert_eq!(health.successes() + health.failures(), row);
            }
        }
    }
}
