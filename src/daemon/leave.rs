//! What a node that leaves for good waits for before it gives its addresses back. Pure.
//!
//! First the store is told, since directors that read an old record would send clients to a node
//! without a CVIP; then the connections that are left are waited for, and then the active directors,
//! until their records say that they send no new ones.

use std::time::{Duration, Instant};

/// How long the store may take at least to be told that the node leaves.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// How long the directors' records are waited for, once the store was told.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// A leave that is under way.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    /// As they were last reported; none before the store was told that the node leaves.
    connections: Option<usize>,
    /// When they are waited for no longer.
    until: Instant,
    /// When the store is waited for no longer.
    told_by: Instant,
    /// When the directors are waited for no longer.
    released_by: Option<Instant>,
}

/// What a leave waits for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveStep {
    /// The store, connections, or another director that is to take over.
    Wait,
    /// Active directors that have not released the node.
    Directors,
    /// Nothing.
    Over,
    /// Nothing any more: the store was not told, and the node does not leave.
    Untold,
}

impl Leave {
    /// Connections are waited for so long.
    pub(super) fn new(within: Duration, now: Instant) -> Leave {
        let (until, told_by) = (now + within, now + within.max(TOLD_WITHIN));
        Leave { connections: None, until, told_by, released_by: None }
    }

    /// The store was told, and so many connections are left.
    pub(super) fn report(&mut self, connections: Option<usize>) {
        self.connections = connections.or(self.connections);
    }

    /// How many are left, as far as that is known.
    pub(super) fn connections(&self) -> usize {
        self.connections.unwrap_or(0)
    }

    /// What it waits for; `hands_over`: another director is to take over first.
    pub(super) fn step(&mut self, hands_over: bool, now: Instant) -> LeaveStep {
        let Some(connections) = self.connections else {
            return if now < self.told_by { LeaveStep::Wait } else { LeaveStep::Untold };
        };
        if hands_over || (connections > 0 && now < self.until) {
            return LeaveStep::Wait;
        }
        let released_by = *self.released_by.get_or_insert(now + RELEASED_WITHIN);
        if now < released_by { LeaveStep::Directors } else { LeaveStep::Over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_waits_for_connections_and_then_for_the_directors() {
        let start = Instant::now();
        let mut leave = Leave::new(60 * SECOND, start);
        assert_eq!(leave.step(false, start), LeaveStep::Wait, "the store is told first");
        leave.report(Some(3));
        assert_eq!((leave.step(false, start), leave.connections()), (LeaveStep::Wait, 3));
        leave.report(None);
        assert_eq!(leave.connections(), 3);
        let late = start + 60 * SECOND;
        assert_eq!(leave.step(true, late), LeaveStep::Wait, "another takes over first");
        assert_eq!(leave.step(false, late), LeaveStep::Directors);
        assert_eq!(leave.step(false, late + RELEASED_WITHIN), LeaveStep::Over);
    }

    #[test]
    fn a_node_does_not_leave_before_the_store_is_told() {
        let start = Instant::now();
        // However short the time for connections is.
        for within in [Duration::ZERO, 60 * SECOND] {
            let told_by = start + within.max(TOLD_WITHIN);
            let mut leave = Leave::new(within, start);
            assert_eq!(leave.step(false, told_by - SECOND), LeaveStep::Wait);
            assert_eq!(leave.clone().step(false, told_by), LeaveStep::Untold);
            // The directors have their time from when the store was told, and not before.
            leave.report(Some(0));
            assert_eq!(leave.step(false, told_by), LeaveStep::Directors);
            assert_eq!(leave.step(false, told_by + RELEASED_WITHIN - SECOND), LeaveStep::Directors);
            assert_eq!(leave.step(false, told_by + RELEASED_WITHIN), LeaveStep::Over);
        }
    }
}
