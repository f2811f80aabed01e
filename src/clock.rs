//! The time by which cvip decides: an [`Instant`] of the kernel's monotonic clock.
//!
//! It is a type of its own because what decides is recorded and replayed: the standard library's
//! instant cannot be written to a file.
//!
//! ```
//! use std::time::Duration;
//!
//! use cvip::clock::Instant;
//!
//! let begun = Instant::now();
//! let deadline = begun + Duration::from_secs(2);
//! assert_eq!(deadline.duration_since(begun), Duration::from_secs(2));
//! // A time that is not later has not passed yet.
//! assert_eq!(begun.duration_since(deadline), Duration::ZERO);
//! ```

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A time on CLOCK_MONOTONIC, in nanoseconds: that of [`std::time::Instant`] on Linux, with its
/// methods. A clock that is set does not change it, and it stands still while the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(i64);

impl Instant {
    /// The time now.
    pub fn now() -> Instant {
        // Linux refuses no clock that it has always had.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        Instant(nanoseconds(now))
    }

    /// The time that has passed since another one; zero if that is later.
    pub fn duration_since(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }

    /// The time that has passed since another one; zero if that is later.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.checked_duration_since(earlier).unwrap_or(Duration::ZERO)
    }

    /// The time that has passed since another one; none if that is later.
    pub fn checked_duration_since(self, earlier: Instant) -> Option<Duration> {
        (self >= earlier).then(|| Duration::from_nanos(self.0.abs_diff(earlier.0)))
    }

    /// The time that has passed since this one.
    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }

    /// A later time; none if this type has no such time.
    pub fn checked_add(self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(i64::try_from(duration.as_nanos()).ok()?).map(Instant)
    }

    /// An earlier time, which may be before the machine was started; none if this type has no such
    /// time.
    pub fn checked_sub(self, duration: Duration) -> Option<Instant> {
        self.0.checked_sub(i64::try_from(duration.as_nanos()).ok()?).map(Instant)
    }

    /// The time in nanoseconds since the machine was started, as far as it is not negative.
    pub fn since_boot(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// In nanoseconds, as far as that is possible: 292 years.
fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Instant;
    /// What is too late for this type is its latest time.
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    /// What is too early for this type is its earliest time.
    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanoseconds(duration)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_counts_as_the_standard_librarys_does() {
        let (ours, std) = (Instant::now(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (passed, as_std) = (ours.elapsed(), std.elapsed());
        assert!(passed >= Duration::from_millis(20));
        assert!(passed.abs_diff(as_std) < SECOND, "{passed:?} {as_std:?}");
    }

    #[test]
    fn a_time_before_another_is_no_time_since_it() {
        let now = Instant::now();
        assert_eq!((now + SECOND).duration_since(now), SECOND);
        assert_eq!((now - SECOND).duration_since(now), Duration::ZERO);
        assert_eq!((now - SECOND).checked_duration_since(now), None);
        assert_eq!((now + SECOND) - now, SECOND);
    }

    #[test]
    fn a_time_may_be_before_the_machine_was_started_and_is_never_beyond_the_type() {
        let start = Instant(0);
        assert!(start - SECOND < start);
        assert_eq!(start.checked_sub(SECOND), Some(start - SECOND));
        assert_eq!(start + Duration::MAX, Instant(i64::MAX));
        assert_eq!(start.checked_add(Duration::MAX), None);
        assert_eq!(Instant(i64::MAX) - Instant(i64::MIN), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn it_is_written_as_a_number_of_nanoseconds() {
        let time = Instant(0) + SECOND;
        assert_eq!(serde_json::to_string(&time).unwrap(), "1000000000");
        assert_eq!(serde_json::from_str::<Instant>("1000000000").unwrap(), time);
    }
}
