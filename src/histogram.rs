//! How long things took, counted in buckets that are the same everywhere. Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The upper bounds of the buckets, each within its bucket. What takes longer is counted beyond the
/// last one. A join takes milliseconds, a pass over a large table seconds.
const BOUNDS: [Duration; 15] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Durations, counted in buckets: [`Histogram::up_to`] says of which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// How many there are in each bucket, and last those beyond all bounds; empty before the first.
    counts: Vec<u64>,
    /// The sum of all, in microseconds.
    sum_us: u64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        self.counts.resize(BOUNDS.len() + 1, 0);
        self.counts[bucket_of(took)] += 1;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// For each bound, how many took no longer.
    pub fn up_to(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut sum = 0;
        BOUNDS.into_iter().enumerate().map(move |(at, bound)| {
            sum += self.counts.get(at).copied().unwrap_or(0);
            (bound, sum)
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }
}

/// The same, counted by several threads at once.
#[derive(Debug, Default)]
pub(crate) struct SharedHistogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl SharedHistogram {
    /// Counts one.
    pub(crate) fn observe(&self, took: Duration) {
        self.counts[bucket_of(took)].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> Histogram {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Histogram { counts, sum_us: self.sum_us.load(Ordering::Relaxed) }
    }
}

/// The number of the bucket for a duration: the index of its bound.
fn bucket_of(took: Duration) -> usize {
    BOUNDS.partition_point(|bound| *bound < took)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_duration_is_counted_in_its_bucket_and_in_all_above_it() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.count(), histogram.up_to().count()), (0, BOUNDS.len()));
        for took in [Duration::ZERO, ms(1), ms(3), ms(5), ms(31_000)] {
            histogram.observe(took);
        }
        let up_to = |bound| histogram.up_to().find(|(of, _)| *of == bound).unwrap().1;
        assert_eq!([up_to(BOUNDS[0]), up_to(ms(1)), up_to(ms(5)), up_to(ms(30_000))], [1, 2, 4, 4]);
        assert_eq!((histogram.count(), histogram.sum()), (5, ms(31_009)));
    }

    #[test]
    fn what_several_threads_count_is_a_histogram_too() {
        let shared = &SharedHistogram::default();
        std::thread::scope(|scope| {
            for took in [ms(1), ms(2)] {
                scope.spawn(move || shared.observe(took));
            }
        });
        let counted = shared.counted();
        assert_eq!((counted.count(), counted.sum()), (2, ms(3)));
    }

    #[test]
    fn a_bound_is_within_its_bucket_and_bounds_ascend() {
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(bucket_of(bound), at);
            assert_eq!(bucket_of(bound + Duration::from_nanos(1)), at + 1);
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn a_histogram_of_an_older_cvipd_with_fewer_buckets_can_be_read() {
        let older: Histogram = serde_json::from_str(r#"{"counts":[1,2],"sum_us":7}"#).unwrap();
        assert_eq!((older.count(), older.up_to().last().unwrap().1), (3, 3));
    }
}
