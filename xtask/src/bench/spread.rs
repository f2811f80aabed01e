//! What some durations have in common: their median, percentiles, least and most.

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

    /// The whole distribution in one line, where the short one of `Display` is not enough.
    pub(super) fn whole(&self) -> String {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        format!(
            "n {:4}   min {:8.1}   median {:8.1}   p90 {:8.1}   p99 {:8.1}   max {:8.1} ms",
            self.taken.len(),
            ms(0),
            ms(50),
            ms(90),
            ms(99),
            ms(100)
        )
    }

    /// How many times another one's median this one's is; `None` where either has none.
    pub(super) fn ratio_to(&self, other: &Spread) -> Option<f64> {
        let measured = !self.taken.is_empty() && other.median() > Duration::ZERO;
        measured.then(|| self.median().as_secs_f64() / other.median().as_secs_f64())
    }

    pub(super) fn p99(&self) -> Duration {
        self.percentile(99)
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
        assert_eq!(spread.percentile(0), Duration::from_millis(1));
        assert_eq!(spread.percentile(50), Duration::from_millis(100));
        assert_eq!(spread.percentile(99), Duration::from_millis(198));
        assert_eq!(spread.percentile(100), Duration::from_millis(200));
        assert_eq!(Spread::default().percentile(99), Duration::ZERO);
        assert_eq!(
            spread.whole(),
            "n  200   min      1.0   median    100.0   p90    180.0   p99    198.0   max    200.0 ms"
        );
    }

    #[test]
    fn a_ratio_is_of_medians_and_needs_two() {
        let of = |ms| {
            let mut spread = Spread::default();
            spread.add(Duration::from_millis(ms));
            spread
        };
        assert_eq!(of(30).ratio_to(&of(10)), Some(3.0));
        assert_eq!(of(30).ratio_to(&Spread::default()), None);
        assert_eq!(Spread::default().ratio_to(&of(30)), None);
    }
}
