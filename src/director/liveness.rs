//! Whether a node lives, by all that speaks for it: heartbeats, its kernel's echo, its lease. Pure.
//!
//! Heartbeats are fastest and least certain: a silent node only gets no new connections, which is
//! cheap to undo. If its kernel still answers, only its cvipd is silent, and its servers are asked
//! themselves. A node is dead, and its connections are cut, once its lease has ended too: a lease
//! alone says nothing (the node may have lost the store), and neither does silence alone.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A node that has been silent to everything for this long, and whose lease has ended, is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(2);

/// What speaks for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Its heartbeats.
    pub beats: Beats,
    /// Its kernel answered an echo within the time of a heartbeat's silence.
    pub echo: bool,
    /// Its cvipd holds the node's lease, as the store was last read.
    pub leased: bool,
    /// For how long nothing has been heard of it, or of a node that never was, for how long this
    /// director has been listening.
    pub quiet: Duration,
}

/// What is known of a node's heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beats {
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
pub enum Life {
    /// Nothing speaks against it.
    Alive,
    /// Its machine lives, its cvipd does not speak: its record may be out of date.
    Mute,
    /// Nothing is heard of it.
    Silent,
    /// Nothing is heard of it, its lease has ended, and that has lasted.
    Dead,
}

impl Signs {
    /// The judgement.
    pub fn life(self) -> Life {
        match self {
            Signs { beats: Beats::Come, .. } => Life::Alive,
            // Heartbeats that never came are no silence while the lease says that it lives.
            Signs { beats: Beats::Never, leased: true, .. } => Life::Alive,
            Signs { echo: true, .. } => Life::Mute,
            Signs { leased: false, quiet, .. } if quiet >= DEAD_AFTER => Life::Dead,
            // A director that has just been started has heard nobody yet.
            Signs { beats: Beats::Never, .. } => Life::Alive,
            Signs { beats: Beats::Stopped, .. } => Life::Silent,
        }
    }
}

/// Nodes whose silence is no news: since this director was started it has not heard them, nor seen a
/// lease by which they should be heard. That is so at each start, and said once, quietly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    absent: BTreeSet<u32>,
    /// Nodes that had a lease or were heard.
    present: BTreeSet<u32>,
}

/// How a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// To everybody: it is an event.
    Event,
    /// In the log, at `info`: it has been so since before the start.
    Absent,
    /// In the log, at `info`: who was absent has come.
    Came,
    /// Not at all: it was said.
    Known,
}

impl Absent {
    /// How it is told what is made of a node, which was `before` what it is not now. To be called
    /// at each judgement.
    pub fn tell(&mut self, node: u32, before: Life, life: Life, heard: bool, leased: bool) -> News {
        if heard || leased {
            self.present.insert(node);
        }
        match (life, self.absent.contains(&node)) {
            _ if life == before => News::Known,
            (Life::Alive, true) => {
                self.absent.remove(&node);
                News::Came
            }
            (_, true) => News::Known,
            (_, false) if before == Life::Alive && !self.present.contains(&node) => {
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
        use Beats::{Come, Never, Stopped};
        let (short, long) = (Duration::from_millis(600), DEAD_AFTER);
        for (beats, echo, leased, quiet, life) in [
            (Come, false, false, long, Life::Alive),
            (Come, true, true, short, Life::Alive),
            (Stopped, false, true, short, Life::Silent),
            (Stopped, false, true, 100 * long, Life::Silent),
            (Stopped, false, false, short, Life::Silent),
            (Stopped, false, false, long, Life::Dead),
            (Stopped, true, true, long, Life::Mute),
            (Stopped, true, false, 100 * long, Life::Mute),
            (Never, false, true, 100 * long, Life::Alive),
            (Never, false, false, short, Life::Alive),
            (Never, false, false, long, Life::Dead),
            (Never, true, false, long, Life::Mute),
        ] {
            let signs = Signs { beats, echo, leased, quiet };
            assert_eq!(signs.life(), life, "{signs:?}");
        }
    }

    #[test]
    fn a_node_that_was_absent_before_the_start_is_no_news() {
        let mut absent = Absent::default();
        let mut tell =
            |node, before, life, heard, leased| absent.tell(node, before, life, heard, leased);
        assert_eq!(tell(3, Life::Alive, Life::Alive, false, false), News::Known);
        assert_eq!(tell(3, Life::Alive, Life::Mute, false, false), News::Absent);
        assert_eq!(tell(3, Life::Mute, Life::Dead, false, false), News::Known);
        assert_eq!(tell(3, Life::Dead, Life::Alive, true, true), News::Came);
        // From now on it is.
        assert_eq!(tell(3, Life::Alive, Life::Silent, true, true), News::Event);
        assert_eq!(tell(3, Life::Silent, Life::Dead, true, false), News::Event);
        assert_eq!(tell(3, Life::Dead, Life::Alive, true, true), News::Event);
        // One whose lease ended since the start was there.
        assert_eq!(tell(4, Life::Alive, Life::Alive, false, true), News::Known);
        assert_eq!(tell(4, Life::Alive, Life::Dead, false, false), News::Event);
    }
}
