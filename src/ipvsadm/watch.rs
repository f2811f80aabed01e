//! What happened between two listings: `--interval`; and the clock of what waits.
//!
//! The kernel's own rates are estimates that follow slowly, and some kernels are told not to
//! make them; the difference of two counters over the time between them is exact. Time is a
//! parameter.

use std::time::{Duration, Instant};

use crate::interrupts::Interrupts;
use crate::ipvs::Stats;

/// Time, as far as a listing that repeats itself needs it.
pub trait Clock {
    /// Now.
    fn now(&mut self) -> Instant;

    /// Returns after `time`.
    fn sleep(&mut self, time: Duration);

    /// From now on, an interruption by the operator does not end the program, and
    /// [`Clock::sleep_or_interrupt`] tells of it.
    ///
    /// # Errors
    ///
    /// Signals cannot be held back.
    fn hold_interrupts(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// Returns after `time`, or earlier with `true` if the operator interrupts.
    fn sleep_or_interrupt(&mut self, time: Duration) -> bool {
        self.sleep(time);
        false
    }
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock(Option<Interrupts>);

impl Clock for SystemClock {
    fn now(&mut self) -> Instant {
        Instant::now()
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn hold_interrupts(&mut self) -> std::io::Result<()> {
        self.0 = Some(Interrupts::hold()?);
        Ok(())
    }

    fn sleep_or_interrupt(&mut self, time: Duration) -> bool {
        match self.0.as_ref().map(|interrupts| interrupts.wait(time)) {
            Some(Ok(came)) => came,
            Some(Err(_)) | None => {
                self.sleep(time);
                false
            }
        }
    }
}

/// What was counted between two readings that lie `time` apart, in all and per second. A
/// counter that went down was set to zero in between, and counts from there.
pub fn between(earlier: &Stats, later: &Stats, time: Duration) -> Stats {
    let counted = |earlier: u64, later: u64| later.checked_sub(earlier).unwrap_or(later);
    let millis = time.as_millis().max(1);
    let rate = |count: u64| u64::try_from(u128::from(count) * 1000 / millis).unwrap_or(u64::MAX);
    let connections = counted(earlier.connections, later.connections);
    let in_packets = counted(earlier.in_packets, later.in_packets);
    let out_packets = counted(earlier.out_packets, later.out_packets);
    let in_bytes = counted(earlier.in_bytes, later.in_bytes);
    let out_bytes = counted(earlier.out_bytes, later.out_bytes);
    Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        cps: rate(connections),
        in_pps: rate(in_packets),
        out_pps: rate(out_packets),
        in_bps: rate(in_bytes),
        out_bps: rate(out_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_difference_over_the_time_that_it_took() {
        let earlier = Stats { connections: 10, in_bytes: 1000, ..Stats::default() };
        let later = Stats { connections: 30, in_bytes: 6000, cps: 99, ..Stats::default() };
        let rate = between(&earlier, &later, Duration::from_millis(500));
        assert_eq!((rate.connections, rate.cps), (20, 40));
        assert_eq!((rate.in_bytes, rate.in_bps), (5000, 10_000));
        assert_eq!(rate.out_bps, 0);
    }

    #[test]
    fn counters_that_were_zeroed_or_are_huge_do_no_harm() {
        let earlier = Stats { connections: 10, ..Stats::default() };
        let later = Stats { connections: 3, in_bytes: u64::MAX, ..Stats::default() };
        let rate = between(&earlier, &later, Duration::ZERO);
        assert_eq!((rate.connections, rate.in_bytes, rate.in_bps), (3, u64::MAX, u64::MAX));
    }
}
