//! How often something may happen: a token bucket. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;

/// Some at once, and then one in a while.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Bucket {
    most: u32,
    every: Duration,
    left: u32,
    /// Since when the next one grows.
    since: Instant,
}

impl Bucket {
    /// A full one: `most` at once, then one `every` so often.
    pub(crate) fn new(most: u32, every: Duration, now: Instant) -> Bucket {
        Bucket { most, every, left: most, since: now }
    }

    /// Takes one; false if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.grow(now);
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }

    /// When there is one to take; a time that has passed if there is one now.
    pub(crate) fn ready(&self) -> Instant {
        if self.left > 0 { self.since } else { self.since + self.every }
    }

    fn grow(&mut self, now: Instant) {
        while self.left < self.most && now.saturating_duration_since(self.since) >= self.every {
            self.left += 1;
            self.since += self.every;
        }
        if self.left == self.most {
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_one_in_a_while() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(2, second, start);
        assert!(bucket.take(start) && bucket.take(start) && !bucket.take(start));
        assert_eq!(bucket.ready(), start + second);
        assert!(bucket.take(start + second) && !bucket.take(start + second));
        let later = start + 100 * second;
        assert!(bucket.take(later) && bucket.take(later) && !bucket.take(later));
        let taken = (0..100).filter(|n| bucket.take(later + second / 10 * *n)).count();
        assert_eq!(taken, 9, "one a second");
    }
}
