//! Simulated time.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::Duration;

use cvip::clock::Instant;

/// What cvipd's states take for the beginning of time. Only differences to it count. An hour of it
/// stands before the simulation's beginning, so that a state may look back.
static ORIGIN: LazyLock<Instant> = LazyLock::new(|| Instant::now() + Duration::from_secs(3600));

/// A time since the simulation's beginning, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(pub u64);

impl SimTime {
    /// A time that never comes.
    pub const NEVER: SimTime = SimTime(u64::MAX);

    /// The same for cvipd's states.
    pub fn instant(self) -> Instant {
        *ORIGIN + Duration::from_micros(self.0)
    }

    /// The first simulated time that is not before this one of cvipd's states.
    pub fn of(instant: Instant) -> SimTime {
        let nanos = instant.saturating_duration_since(*ORIGIN).as_nanos();
        SimTime(u64::try_from(nanos.div_ceil(1000)).unwrap_or(u64::MAX))
    }

    /// Since another time; zero if that is later.
    pub fn since(self, other: SimTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(other.0))
    }
}

impl Add<Duration> for SimTime {
    type Output = SimTime;
    fn add(self, other: Duration) -> SimTime {
        SimTime(self.0.saturating_add(u64::try_from(other.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<SimTime> for SimTime {
    type Output = Duration;
    fn sub(self, other: SimTime) -> Duration {
        self.since(other)
    }
}

impl fmt::Display for SimTime {
    /// Seconds with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_after_it_went_through_cvipds_states() {
        for time in [0, 1, 999_999, 86_400_000_000_000].map(SimTime) {
            assert_eq!(SimTime::of(time.instant()), time);
        }
        assert_eq!(SimTime::of(SimTime(5).instant() + Duration::from_nanos(1)), SimTime(6));
    }
}
