//! How often heartbeats are sent, and what is silence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often heartbeats are sent, and what is silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From one heartbeat to the next.
    pub period: Duration,
    /// A peer of which no new heartbeat came for so long is silent.
    pub silence: Duration,
}

impl Default for Timing {
    /// 50 ms and 600 ms: see the head of `peers.rs`.
    fn default() -> Timing {
        Timing { period: Duration::from_millis(50), silence: Duration::from_millis(600) }
    }
}

impl Timing {
    /// From so long on a node's silence is worth a look, though no node is called silent yet.
    pub(super) fn overdue(self) -> Duration {
        self.silence / 2
    }

    /// Two peers of which one did not hear the other for so long are out of touch: three heartbeats are
    /// missing. That is no liveness yet; it leaves the rest of the silence to show by another way that
    /// one is there.
    pub(super) fn out_of_touch(self) -> Duration {
        self.silence / 4
    }

    /// An observer that did nothing for so long was not there (stopped, starved, its machine
    /// paused): that it heard nothing then counts for no node.
    pub(super) fn absence(self) -> Duration {
        self.silence / 3
    }
}
