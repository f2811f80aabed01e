//! A hand-over: another director is to take over in place of this active one, once hooks have been
//! told that it gives up the CVIPs. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::clock::Instant;

/// How long the monitor's answer is waited for, and then the successor.
const WITHIN: Duration = Duration::from_secs(3);

/// A hand-over that was ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandOver {
    /// Which one: an answer to an earlier one says nothing.
    number: u64,
    /// It is over then at the latest.
    by: Instant,
    stage: HandOverStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum HandOverStage {
    /// Hooks run first, until then at most.
    Hooks,
    /// The monitor does not say yet whether there is a successor.
    Asked,
    /// There is one.
    Agreed,
    /// There is none.
    Refused,
}

impl HandOver {
    /// One that is being ordered; hooks are waited for until then.
    pub(super) fn new(number: u64, hooks_by: Instant) -> HandOver {
        HandOver { number, by: hooks_by, stage: HandOverStage::Hooks }
    }

    /// Its hooks have ended, or their time is over: its number, if the monitor is to be asked now.
    /// Where this director is not active any more, its successor is there already.
    pub(super) fn hooks_ended(&mut self, is_active: bool, now: Instant) -> Option<u64> {
        if self.stage != HandOverStage::Hooks {
            return None;
        }
        self.by = now + WITHIN;
        self.stage = if is_active { HandOverStage::Asked } else { HandOverStage::Agreed };
        is_active.then_some(self.number)
    }

    /// The monitor's answer: the successor, none if no other director lives, or an error.
    pub(super) fn answered(
        &mut self,
        number: u64,
        answer: &Result<Option<u32>, String>,
        now: Instant,
    ) {
        if number != self.number || self.stage != HandOverStage::Asked {
            return;
        }
        self.stage = HandOverStage::Refused;
        match answer {
            Ok(Some(successor)) => {
                info!("handing over to node {successor}");
                (self.stage, self.by) = (HandOverStage::Agreed, now + WITHIN);
            }
            Ok(None) => warn!("no other director is alive: none takes over"),
            Err(error) => warn!("no other director takes over: {error}"),
        }
    }

    /// True once the successor has taken over, or none will.
    pub(super) fn is_over(&mut self, is_standby: bool, now: Instant) -> bool {
        let is_late = now >= self.by;
        if self.stage == HandOverStage::Asked && is_late {
            warn!("no other director takes over: the monitor does not answer");
            self.stage = HandOverStage::Refused;
        }
        match self.stage {
            HandOverStage::Refused => true,
            HandOverStage::Agreed => is_standby || is_late,
            HandOverStage::Hooks | HandOverStage::Asked => false,
        }
    }

    /// When time alone ends it.
    pub(super) fn due(&self) -> Instant {
        self.by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_ends_with_the_successor_or_with_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        type Answer = Result<Option<u32>, String>;
        // When the answer came and which it was; when this node was a standby; when it is over.
        type Case = (&'static str, Option<(u64, u64, Answer)>, u64, u64);
        let cases: [Case; 7] = [
            ("the successor takes over", Some((100, 7, Ok(Some(5)))), 600, 600),
            ("the successor takes its time", Some((2000, 7, Ok(Some(5)))), 9999, 5000),
            ("there is no successor", Some((100, 7, Ok(None))), 9999, 100),
            ("the store is unavailable", Some((100, 7, Err("unavailable".to_owned()))), 9999, 100),
            ("the answer never comes", None, 9999, 3000),
            ("a standby waits for the answer too", None, 0, 3000),
            ("the answer is to an earlier question", Some((100, 6, Ok(None))), 9999, 3000),
        ];
        for (name, answer, standby_at, over_at) in cases {
            let mut hand_over = HandOver::new(7, start);
            assert_eq!(hand_over.hooks_ended(true, start), Some(7), "{name}");
            let over = (0..6000).step_by(100).find(|ms| {
                if let Some((_, number, answer)) = answer.as_ref().filter(|(at, ..)| at == ms) {
                    hand_over.answered(*number, answer, at(*ms));
                }
                hand_over.is_over(*ms >= standby_at, at(*ms))
            });
            assert_eq!(over, Some(over_at), "{name}");
        }
    }

    #[test]
    fn the_monitor_is_asked_once_hooks_have_ended_and_only_while_this_director_is_active() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut hand_over = HandOver::new(7, at(5));
        hand_over.answered(7, &Ok(None), at(1));
        assert!(!hand_over.is_over(false, at(6)), "nothing was asked");
        assert_eq!(hand_over.due(), at(5));
        assert_eq!(hand_over.hooks_ended(true, at(5)), Some(7));
        assert_eq!(hand_over.hooks_ended(true, at(5)), None);
        assert_eq!(hand_over.due(), at(8));
        // Another director took over meanwhile.
        let mut hand_over = HandOver::new(8, at(5));
        assert_eq!(hand_over.hooks_ended(false, at(2)), None);
        assert!(!hand_over.is_over(false, at(2)) && hand_over.is_over(true, at(3)));
    }
}
