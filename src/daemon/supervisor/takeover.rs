//! How long a takeover takes: from the election to the addresses that stand. Pure.

use std::time::Duration;

use crate::clock::Instant;

/// How far a director is on its way to being the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakeoverStage {
    /// It is not elected.
    None,
    /// It is elected, and does not carry the addresses yet.
    UnderWay,
    /// It carries the addresses.
    Done,
}

/// Measures takeovers.
#[derive(Debug, Default)]
pub(super) struct TakeoverTimer(Option<Instant>);

impl TakeoverTimer {
    /// Takes the stage as it is now; gives how long a takeover took that has just ended.
    pub(super) fn follow(&mut self, stage: TakeoverStage, now: Instant) -> Option<Duration> {
        match stage {
            TakeoverStage::None => {
                self.0 = None;
                None
            }
            TakeoverStage::UnderWay => {
                self.0.get_or_insert(now);
                None
            }
            TakeoverStage::Done => self.0.take().map(|since| now.saturating_duration_since(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TakeoverStage::{Done, None as NotElected, UnderWay};
    use super::*;

    #[test]
    fn a_takeover_is_measured_once_and_one_that_is_given_up_is_not() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut timer = TakeoverTimer::default();
        let mut follow = |stage, at| timer.follow(stage, start + ms(at));
        assert_eq!(follow(UnderWay, 0), None);
        assert_eq!(follow(NotElected, 10), None, "another was elected meanwhile");
        assert_eq!(follow(UnderWay, 20), None);
        assert_eq!(follow(UnderWay, 30), None);
        assert_eq!(follow(Done, 50), Some(ms(30)));
        assert_eq!(follow(Done, 60), None);
        assert_eq!(follow(NotElected, 70), None);
        assert_eq!(follow(Done, 80), None, "it was never under way");
    }
}
