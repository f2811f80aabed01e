//! When a segment ends, and which segments are removed. Pure.
//!
//! A core's segments take [`CORE_BYTES`] of files at most. Where its calls come so fast that ten minutes
//! do not fit, the recording is shorter.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

/// What is at least kept, if there is room for it.
const KEEP: Duration = Duration::from_secs(600);

/// When a segment is followed by another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentLimits {
    /// Its age.
    pub(crate) age: Duration,
    /// The bytes of its calls' text.
    pub(crate) bytes: u64,
}

impl Default for SegmentLimits {
    /// Two minutes, and 1 MiB of text.
    fn default() -> SegmentLimits {
        SegmentLimits { age: Duration::from_secs(120), bytes: 1 << 20 }
    }
}

/// The most bytes of one core's segments, as they are compressed.
pub(super) const CORE_BYTES: u64 = 8 << 20;

/// The most bytes of a state: the segments before it are to have room too. It is also the most of
/// one call with its outputs.
pub(super) const STATE_BYTES: u64 = CORE_BYTES / 4;

/// The segment that is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenSegment {
    began: Instant,
    bytes: u64,
}

impl OpenSegment {
    /// One with its state and no call.
    pub(super) fn new(now: Instant) -> OpenSegment {
        OpenSegment { began: now, bytes: 0 }
    }

    /// Calls were added.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The next call begins another segment.
    pub(super) fn is_over(&self, limits: SegmentLimits, now: Instant) -> bool {
        self.bytes >= limits.bytes || now.duration_since(self.began) >= limits.age
    }
}

/// One core's segments, by their numbers: the older first.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring(BTreeMap<u64, StoredSegment>);

#[derive(Clone, Copy, Debug)]
struct StoredSegment {
    began: Instant,
    bytes: u64,
}

impl Ring {
    /// A segment begins.
    pub(super) fn begin(&mut self, number: u64, began: Instant) {
        self.0.insert(number, StoredSegment { began, bytes: 0 });
    }

    /// Bytes were written to a segment.
    pub(super) fn grow(&mut self, number: u64, bytes: u64) {
        if let Some(segment) = self.0.get_mut(&number) {
            segment.bytes += bytes;
        }
    }

    /// Takes out the segments that are to be removed: those that a newer one follows which began
    /// ten minutes ago, and the oldest while there is no room for `room` bytes more.
    pub(super) fn remove(&mut self, room: u64, now: Instant) -> Vec<u64> {
        let mut removed = Vec::new();
        loop {
            let mut segments = self.0.iter();
            let (Some((oldest, _)), Some((_, next))) = (segments.next(), segments.next()) else {
                return removed;
            };
            let is_old = now.duration_since(next.began) >= KEEP;
            let bytes: u64 = self.0.values().map(|segment| segment.bytes).sum();
            if !is_old && bytes.saturating_add(room) <= CORE_BYTES {
                return removed;
            }
            let oldest = *oldest;
            self.0.remove(&oldest);
            removed.push(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a recording reaches back, and the most that it takes, at so many bytes a second.
    fn recorded(bytes_a_second: u64, state: u64, seconds: u64) -> (Duration, u64) {
        let start = Instant::now();
        let (mut ring, mut number) = (Ring::default(), 0);
        let mut open: Option<OpenSegment> = None;
        let mut most = 0;
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if open.is_none_or(|open| open.is_over(SegmentLimits::default(), now)) {
                number += 1;
                ring.remove(state, now);
                ring.begin(number, now);
                ring.grow(number, state);
                open = Some(OpenSegment::new(now));
            }
            if let Some(open) = &mut open {
                open.grow(bytes_a_second as usize);
            }
            ring.remove(bytes_a_second, now);
            ring.grow(number, bytes_a_second);
            most = most.max(ring.0.values().map(|segment| segment.bytes).sum());
        }
        let end = start + Duration::from_secs(seconds);
        (end.duration_since(ring.0.values().next().unwrap().began), most)
    }

    #[test]
    fn ten_minutes_are_kept_and_not_many_more() {
        for rate in [0, 100, 4000, 10_000] {
            let (kept, bytes) = recorded(rate, 20_000, 7200);
            let minutes = kept.as_secs_f64() / 60.0;
            assert!((10.0..=14.1).contains(&minutes), "{rate} bytes/s: {minutes} minutes");
            assert!(bytes <= CORE_BYTES);
        }
    }

    #[test]
    fn a_recording_that_would_take_too_much_room_is_shorter() {
        for (rate, state) in [(100_000, 20_000), (10_000, STATE_BYTES), (500_000, STATE_BYTES)] {
            let (kept, bytes) = recorded(rate, state, 7200);
            assert!(bytes <= CORE_BYTES, "{rate} {state}: {bytes}");
            assert!(kept < KEEP && bytes > CORE_BYTES / 2, "{rate} {state}: {kept:?}, {bytes}");
        }
    }

    #[test]
    fn what_was_recorded_before_a_long_pause_stays_until_ten_minutes_were_recorded_since() {
        let start = Instant::now();
        let mut ring = Ring::default();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        ring.begin(1, at(0));
        ring.begin(2, at(300));
        assert!(ring.remove(0, at(309)).is_empty());
        assert_eq!(ring.remove(0, at(310)), [1]);
        assert!(ring.remove(u64::MAX, at(900)).is_empty(), "never the last one");
    }
}
