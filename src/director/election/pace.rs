//! How fast claims may follow one another. Pure.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;

/// How soon a claim that led to nothing is made again; each time twice as late.
const AGAIN: Duration = Duration::from_millis(300);

/// The latest that it is made again.
const AGAIN_AT_MOST: Duration = Duration::from_secs(5);

/// After so many doublings each time is the longest.
const MOST_DOUBLINGS: u32 = 5;

/// So many elections of short succession are nothing unusual: a director dies, and its successor
/// does too.
const FREE: u32 = 2;

/// How long the next one waits after that; each time twice as long.
const WAIT: Duration = Duration::from_secs(1);

/// The longest that one waits.
const WAIT_AT_MOST: Duration = Duration::from_secs(8);

/// One claim is forgotten after this time: directors that cannot agree do not elect faster than
/// that for long, and one that dies is followed at once, though others died before it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// The claims of one director.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ClaimPace {
    /// What the last claim expected, and how often it was made.
    tried: Option<(Option<u64>, u32)>,
    /// When the next try of it is due.
    again: Instant,
    /// When the last claim was made on the ground that another director is gone, and how long from
    /// then it takes until all such claims are forgotten.
    replaced: Instant,
    forgotten_in: Duration,
}

impl ClaimPace {
    pub(super) fn new(now: Instant) -> ClaimPace {
        ClaimPace { tried: None, again: now, replaced: now, forgotten_in: Duration::ZERO }
    }

    /// A claim may be made again.
    pub(super) fn may_try(&self, expected: Option<u64>, now: Instant) -> bool {
        self.tried.is_none_or(|(tried, _)| tried != expected) || now >= self.again
    }

    /// A claim may be made on the ground that another director is gone.
    pub(super) fn may_replace(&self, expected: Option<u64>, now: Instant) -> bool {
        let is_again = self.tried.is_some_and(|(tried, _)| tried == expected);
        self.may_try(expected, now) && (is_again || now >= self.replaced + self.wait(now))
    }

    /// How long the last such claim must lie back.
    fn wait(&self, now: Instant) -> Duration {
        let remembered = self.left(now).as_millis().div_ceil(FORGOTTEN_AFTER.as_millis());
        match u32::try_from(remembered).unwrap_or(u32::MAX).checked_sub(FREE) {
            None => Duration::ZERO,
            Some(doublings) => (WAIT * (1 << doublings.min(MOST_DOUBLINGS))).min(WAIT_AT_MOST),
        }
    }

    fn left(&self, now: Instant) -> Duration {
        self.forgotten_in.saturating_sub(now.saturating_duration_since(self.replaced))
    }

    /// See [`Election::hash_at`](super::Election::hash_at).
    #[cfg(feature = "internal")]
    pub(super) fn hash_at(&self, now: Instant, hasher: &mut impl Hasher) {
        let ClaimPace { tried, again, replaced, forgotten_in: _ } = self;
        tried.map(|(expected, times)| (expected, times.min(MOST_DOUBLINGS))).hash(hasher);
        again.saturating_duration_since(now).hash(hasher);
        self.left(now).hash(hasher);
        let wait = self.wait(now);
        now.saturating_duration_since(*replaced).min(wait).hash(hasher);
    }

    /// A claim is made; `replaces`: since another is gone, or cannot go on.
    pub(super) fn tried(&mut self, expected: Option<u64>, replaces: bool, now: Instant) {
        let times =
            self.tried.filter(|(tried, _)| *tried == expected).map_or(0, |(_, times)| times);
        if replaces && times == 0 {
            self.forgotten_in = self.left(now) + FORGOTTEN_AFTER;
            self.replaced = now;
        }
        self.again = now + (AGAIN * (1 << times.min(MOST_DOUBLINGS))).min(AGAIN_AT_MOST);
        self.tried = Some((expected, times + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_follow_one_another_are_made_ever_later_and_quiet_seconds_forgive_one() {
        let start = Instant::now();
        let mut pace = ClaimPace::new(start);
        let mut now = start;
        let mut waits = Vec::new();
        for term in 0..9 {
            let before = now;
            while !pace.may_replace(Some(term), now) {
                now += Duration::from_millis(100);
            }
            waits.push((now - before).as_secs());
            pace.tried(Some(term), true, now);
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 4, 8, 8, 8]);
        assert!(!pace.may_replace(Some(9), now + Duration::from_secs(4)));
        assert!(pace.may_replace(Some(9), now + 8 * FORGOTTEN_AFTER));
    }

    #[test]
    fn a_claim_that_led_to_nothing_is_made_again_ever_later_and_another_one_at_once() {
        let start = Instant::now();
        let mut pace = ClaimPace::new(start);
        let mut tries = Vec::new();
        for ms in (0..20_000).step_by(100) {
            let now = start + Duration::from_millis(ms);
            if pace.may_replace(None, now) {
                pace.tried(None, true, now);
                tries.push(ms);
            }
        }
        assert_eq!(tries, [0, 300, 900, 2100, 4500, 9300, 14300, 19300]);
        assert!(pace.may_try(Some(1), start));
    }
}
