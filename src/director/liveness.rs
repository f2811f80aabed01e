//! The liveness of one node, by its heartbeats, its kernel's echo and its lease. Pure.
//!
//! Heartbeats are fastest and least certain: a node without them only gets no new connections,
//! which is cheap to undo. If its kernel still answers, only its cvipd is down, and its servers are
//! probed. A node is dead, and its connections are cut, once its lease has ended too: a lease alone
//! says nothing (the node may have lost the store), and neither do missing heartbeats alone.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A node that has answered nothing for this long, and whose lease has ended, is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(2);

/// What speaks for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its heartbeats.
    pub heartbeats: HeartbeatEvidence,
    /// Its kernel answered an echo within the time after which missing heartbeats count.
    pub echo: bool,
    /// Its cvipd holds the node's lease, as the store was last read.
    pub leased: bool,
    /// For how long nothing has been heard of it, or of a node that never was, for how long it has been asked
    /// for an echo.
    pub unheard_for: Duration,
}

/// What is known of a node's heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatEvidence {
    /// None ever came since this director started: perhaps something filters them.
    Never,
    /// They come.
    Come,
    /// They came, and stopped.
    Stopped,
}

/// What is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Nothing speaks against it.
    Alive,
    /// Its machine is up, its cvipd sends no heartbeats: its record may be out of date.
    AgentDown,
    /// Nothing is heard of it.
    Suspected,
    /// Nothing is heard of it, its lease has ended, and that has lasted.
    Dead,
}

impl Evidence {
    /// The judgement.
    pub fn liveness(self) -> Liveness {
        match self {
            Evidence { heartbeats: HeartbeatEvidence::Come, .. } => Liveness::Alive,
            // Heartbeats that never came have not stopped while the lease says that it lives.
            Evidence { heartbeats: HeartbeatEvidence::Never, leased: true, .. } => Liveness::Alive,
            Evidence { echo: true, .. } => Liveness::AgentDown,
            Evidence { leased: false, unheard_for, .. } if unheard_for >= DEAD_AFTER => {
                Liveness::Dead
            }
            // A director that has just been started has heard no node yet.
            Evidence { heartbeats: HeartbeatEvidence::Never, .. } => Liveness::Alive,
            Evidence { heartbeats: HeartbeatEvidence::Stopped, .. } => Liveness::Suspected,
        }
    }
}

/// Nodes that were absent before this director was started: it has not heard them since, nor seen a
/// lease by which they should be heard. That is so at each start, and is logged once, as no event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    absent: BTreeSet<u32>,
    /// Nodes that had a lease or were heard.
    present: BTreeSet<u32>,
}

/// How a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// As an event.
    Event,
    /// In the log, at `info`: it has been so since before the start.
    Absent,
    /// In the log, at `info`: a node that was absent has come.
    Came,
    /// Not at all: it was told.
    Known,
}

impl Absent {
    /// How it is told what is made of a node, which was `before` what it is not now. To be called
    /// at each judgement.
    pub fn tell(
        &mut self,
        node: u32,
        before: Liveness,
        liveness: Liveness,
        heard: bool,
        leased: bool,
    ) -> News {
        if heard || leased {
            self.present.insert(node);
        }
        match (liveness, self.absent.contains(&node)) {
            _ if liveness == before => News::Known,
            (Liveness::Alive, true) => {
                self.absent.remove(&node);
                News::Came
            }
            (_, true) => News::Known,
            (_, false) if before == Liveness::Alive && !self.present.contains(&node) => {
                self.absent.insert(node);
                News::Absent
            }
            (_, false) => News::Event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_counts_as_it_should() {
        use HeartbeatEvidence::{Come, Never, Stopped};
        let (short, long) = (Duration::from_millis(600), DEAD_AFTER);
        for (heartbeats, echo, leased, unheard_for, liveness) in [
            (Come, false, false, long, Liveness::Alive),
            (Come, true, true, short, Liveness::Alive),
            (Stopped, false, true, short, Liveness::Suspected),
            (Stopped, false, true, 100 * long, Liveness::Suspected),
            (Stopped, false, false, short, Liveness::Suspected),
            (Stopped, false, false, long, Liveness::Dead),
            (Stopped, true, true, long, Liveness::AgentDown),
            (Stopped, true, false, 100 * long, Liveness::AgentDown),
            (Never, false, true, 100 * long, Liveness::Alive),
            (Never, false, false, short, Liveness::Alive),
            (Never, false, false, long, Liveness::Dead),
            (Never, true, false, long, Liveness::AgentDown),
        ] {
            let signs = Evidence { heartbeats, echo, leased, unheard_for };
            assert_eq!(signs.liveness(), liveness, "{signs:?}");
        }
    }

    #[test]
    fn a_node_that_was_absent_before_the_start_is_no_news() {
        let mut absent = Absent::default();
        let mut tell = |node, before, liveness, heard, leased| {
            absent.tell(node, before, liveness, heard, leased)
        };
        assert_eq!(tell(3, Liveness::Alive, Liveness::Alive, false, false), News::Known);
        assert_eq!(tell(3, Liveness::Alive, Liveness::AgentDown, false, false), News::Absent);
        assert_eq!(tell(3, Liveness::AgentDown, Liveness::Dead, false, false), News::Known);
        assert_eq!(tell(3, Liveness::Dead, Liveness::Alive, true, true), News::Came);
        // From now on it is.
        assert_eq!(tell(3, Liveness::Alive, Liveness::Suspected, true, true), News::Event);
        assert_eq!(tell(3, Liveness::Suspected, Liveness::Dead, true, false), News::Event);
        assert_eq!(tell(3, Liveness::Dead, Liveness::Alive, true, true), News::Event);
        // One whose lease ended since the start was there.
        assert_eq!(tell(4, Liveness::Alive, Liveness::Alive, false, true), News::Known);
        assert_eq!(tell(4, Liveness::Alive, Liveness::Dead, false, false), News::Event);
    }
}
