//! Median, 99th percentile and maximum of some durations.

use std::fmt;
use std::time::Duration;

/// Measured durations.
#[derive(Debug, Default)]
pub(super) struct Spread {
    taken: Vec<Duration>,
}

impl Spread {
    pub(super) fn add(&mut self, took: Duration) {
        self.taken.push(took);
    }

    pub(super) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The duration that `percent` of all do not exceed (nearest rank).
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.taken.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        write!(
            f,
            "n {:4}   median {:8.3} ms   p99 {:8.3} ms   max {:8.3} ms",
            self.taken.len(),
            ms(self.percentile(50)),
            ms(self.percentile(99)),
            ms(self.percentile(100))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_were_measured() {
        let mut spread = Spread::default();
        for ms in (1..=200).rev() {
            spread.add(Duration::from_millis(ms));
        }
        assert_eq!(spread.percentile(50), Duration::from_millis(100));
        assert_eq!(spread.percentile(99), Duration::from_millis(198));
        assert_eq!(spread.percentile(100), Duration::from_millis(200));
        assert_eq!(Spread::default().percentile(99), Duration::ZERO);
    }
}
