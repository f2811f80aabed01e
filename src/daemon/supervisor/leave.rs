//! A leave: what a node that leaves the cluster for good waits for, and then undoes. Pure.
//!
//! First the store is told, since directors that read an old record would send clients to a node
//! without a CVIP; then the connections that are left are waited for, and then the active directors,
//! until their records say that they send no new ones. Only then are table and addresses undone; by
//! the active director, once hooks have been told that it gives up the CVIPs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::clock::Instant;

/// How long the store may take at least to be told that the node leaves.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// How long the directors' records are waited for, once the store was told.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// How long the kernel's table may take to be emptied.
const EMPTIED_WITHIN: Duration = Duration::from_secs(20);

/// How long addresses and settings may take to be undone.
const UNDONE_WITHIN: Duration = Duration::from_secs(10);

/// A leave that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Leave {
    /// As they were last reported; none before the store was told that the node leaves.
    connections: Option<usize>,
    /// When they are waited for no longer.
    until: Instant,
    stage: LeaveStage,
    /// Why the table is not empty yet.
    not_emptied: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum LeaveStage {
    /// The store is being told; it is waited for until then.
    Telling { by: Instant },
    /// Connections are waited for, and another director that is to take over.
    Connections,
    /// Active directors have not released the node; they are waited for until then.
    Directors { by: Instant },
    /// Hooks are told that this active director gives up the CVIPs.
    Hooks,
    /// The table is being emptied, until then at most.
    Table { by: Instant },
    /// Addresses and settings are being undone, until then at most.
    Addresses { by: Instant },
}

/// What a leave depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeaveCircumstances {
    /// Another director is to take over first.
    pub(super) hands_over: bool,
    /// This is the active director.
    pub(super) is_active: bool,
    /// Hooks run that are waited for.
    pub(super) hooks_run: bool,
    /// There is a table to empty.
    pub(super) has_table: bool,
}

/// What comes next in a leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveStep {
    /// Tell hooks that this active director gives up the CVIPs.
    GiveUp,
    /// Empty the kernel's table.
    EmptyTable,
    /// Undo addresses and settings.
    UndoAddresses,
    /// It is done.
    Left,
    /// The store was not told: nothing is undone, and the node does not leave.
    Untold,
}

impl Leave {
    /// Connections are waited for so long.
    pub(super) fn new(within: Duration, now: Instant) -> Leave {
        let stage = LeaveStage::Telling { by: now + within.max(TOLD_WITHIN) };
        Leave { connections: None, until: now + within, stage, not_emptied: None }
    }

    /// The store was told, and so many connections are left.
    pub(super) fn report(&mut self, connections: usize) {
        self.connections = Some(connections);
    }

    /// How many are left, as far as that is known.
    pub(super) fn connections(&self) -> usize {
        self.connections.unwrap_or(0)
    }

    /// True while it is to be read which directors have not released the node.
    pub(super) fn waits_for_directors(&self) -> bool {
        matches!(self.stage, LeaveStage::Directors { .. })
    }

    /// True once this director, if it is the active one, gives up the CVIPs for good.
    pub(super) fn gives_up(&self) -> bool {
        self.stage == LeaveStage::Hooks || self.is_undoing()
    }

    /// True once table and addresses are being undone: nothing else is ordered any more.
    pub(super) fn is_undoing(&self) -> bool {
        matches!(self.stage, LeaveStage::Table { .. } | LeaveStage::Addresses { .. })
    }

    /// Every active director has released the node, or none can be asked.
    pub(super) fn released(&mut self, now: Instant) {
        if let LeaveStage::Directors { by } = &mut self.stage {
            *by = now;
        }
    }

    /// The table is empty, or why it is not yet: it is tried again, and waited for in any case.
    pub(super) fn table_emptied(
        &mut self,
        outcome: Result<(), String>,
        now: Instant,
    ) -> Option<LeaveStep> {
        self.not_emptied = outcome.err();
        let is_emptied = self.not_emptied.is_none();
        let waits = matches!(self.stage, LeaveStage::Table { .. });
        (waits && is_emptied).then(|| self.undo_addresses(now))
    }

    /// Nothing is waited for any longer, since cvipd ends; what is still to be ordered.
    pub(super) fn cut_short(&mut self, now: Instant) -> Option<LeaveStep> {
        matches!(self.stage, LeaveStage::Table { .. }).then(|| self.undo_addresses(now))
    }

    /// Addresses and settings are undone.
    pub(super) fn addresses_undone(&self) -> Option<LeaveStep> {
        matches!(self.stage, LeaveStage::Addresses { .. }).then_some(LeaveStep::Left)
    }

    /// What comes next, if anything does by now.
    pub(super) fn step(
        &mut self,
        circumstances: LeaveCircumstances,
        now: Instant,
    ) -> Option<LeaveStep> {
        let LeaveCircumstances { hands_over, is_active, hooks_run, has_table } = circumstances;
        if let (LeaveStage::Telling { .. }, Some(_)) = (self.stage, self.connections) {
            self.stage = LeaveStage::Connections;
        }
        let has_connections = self.connections() > 0 && now < self.until;
        if self.stage == LeaveStage::Connections && !hands_over && !has_connections {
            self.stage = LeaveStage::Directors { by: now + RELEASED_WITHIN };
        }
        match self.stage {
            LeaveStage::Connections => None,
            LeaveStage::Hooks if hooks_run => None,
            LeaveStage::Telling { by }
            | LeaveStage::Directors { by }
            | LeaveStage::Table { by }
            | LeaveStage::Addresses { by }
                if now < by =>
            {
                None
            }
            LeaveStage::Telling { .. } => {
                error!(
                    "cannot tell the store that this node leaves: its addresses and settings stay; \
                     start cvipd, and leave again when the store is available"
                );
                Some(LeaveStep::Untold)
            }
            LeaveStage::Directors { .. } if is_active => {
                self.stage = LeaveStage::Hooks;
                Some(LeaveStep::GiveUp)
            }
            LeaveStage::Directors { .. } | LeaveStage::Hooks if has_table => {
                self.stage = LeaveStage::Table { by: now + EMPTIED_WITHIN };
                Some(LeaveStep::EmptyTable)
            }
            LeaveStage::Directors { .. } | LeaveStage::Hooks => Some(self.undo_addresses(now)),
            LeaveStage::Table { .. } => {
                let why = self.not_emptied.as_deref().unwrap_or("its thread does not answer");
                warn!(
                    "the IPVS table is not emptied in time: {why}; delete what is left of it by \
                     hand (`ipvsadm -D`)"
                );
                Some(self.undo_addresses(now))
            }
            LeaveStage::Addresses { .. } => {
                warn!("addresses and settings are not undone in time");
                Some(LeaveStep::Left)
            }
        }
    }

    fn undo_addresses(&mut self, now: Instant) -> LeaveStep {
        self.stage = LeaveStage::Addresses { by: now + UNDONE_WITHIN };
        LeaveStep::UndoAddresses
    }
}

#[cfg(test)]
mod tests {
    use super::LeaveStep::{EmptyTable, GiveUp, Left, UndoAddresses, Untold};
    use super::*;

    #[derive(Clone, Copy)]
    enum Input {
        Report(usize),
        /// Time passes.
        Time,
        /// The same, while another director is to take over first.
        HandsOver,
        /// The same, on an active director whose hooks run, or have ended.
        Active {
            hooks_run: bool,
        },
        Released,
        Emptied,
        NotEmptied,
        CutShort,
        Undone,
    }
    use Input::{CutShort, Emptied, HandsOver, NotEmptied, Released, Report, Time as TIME, Undone};

    #[test]
    fn a_leave_waits_for_store_connections_and_directors_and_then_undoes_table_and_addresses() {
        type Steps = &'static [(u64, Input, Option<LeaveStep>)];
        // How long connections are waited for in seconds, whether there is a table, and the steps.
        let sequences: [(&str, u64, bool, Steps); 11] = [
            (
                "everything is done in time",
                60,
                true,
                &[
                    (0, TIME, None),
                    (1, Report(3), None),
                    (2, Report(0), None),
                    (2, TIME, None),
                    (3, Released, None),
                    (3, TIME, Some(EmptyTable)),
                    (3, TIME, None),
                    (4, Undone, None),
                    (4, Emptied, Some(UndoAddresses)),
                    (5, TIME, None),
                    (5, Undone, Some(Left)),
                ],
            ),
            (
                "a real server has no table",
                0,
                false,
                &[
                    (1, Report(0), None),
                    (1, Released, None),
                    (1, TIME, None),
                    (11, TIME, Some(UndoAddresses)),
                ],
            ),
            (
                "connections stay, and directors, table and addresses do not answer",
                60,
                true,
                &[
                    (1, Report(3), None),
                    (59, TIME, None),
                    (60, TIME, None),
                    (69, TIME, None),
                    (70, TIME, Some(EmptyTable)),
                    (89, TIME, None),
                    (90, TIME, Some(UndoAddresses)),
                    (99, TIME, None),
                    (100, TIME, Some(Left)),
                ],
            ),
            (
                "a table that is not empty yet is waited for",
                0,
                true,
                &[
                    (0, Report(0), None),
                    (0, TIME, None),
                    (0, Released, None),
                    (0, TIME, Some(EmptyTable)),
                    (1, NotEmptied, None),
                    (5, TIME, None),
                    (9, Emptied, Some(UndoAddresses)),
                ],
            ),
            (
                "a table that cannot be emptied is waited for as long as one that says nothing",
                0,
                true,
                &[
                    (0, Report(0), None),
                    (0, TIME, None),
                    (0, Released, None),
                    (0, TIME, Some(EmptyTable)),
                    (1, NotEmptied, None),
                    (19, TIME, None),
                    (20, TIME, Some(UndoAddresses)),
                    (21, Emptied, None),
                ],
            ),
            (
                "cvipd is to end at once: its addresses are given back all the same",
                0,
                true,
                &[
                    (0, Report(0), None),
                    (0, TIME, None),
                    (0, Released, None),
                    (0, CutShort, None),
                    (0, TIME, Some(EmptyTable)),
                    (1, CutShort, Some(UndoAddresses)),
                    (1, CutShort, None),
                ],
            ),
            (
                "another director takes over first, however long that takes",
                1,
                true,
                &[
                    (0, Report(0), None),
                    (30, HandsOver, None),
                    (31, TIME, None),
                    (31, Released, None),
                    (31, TIME, Some(EmptyTable)),
                ],
            ),
            (
                "an active director undoes nothing before its hooks have ended",
                1,
                true,
                &[
                    (0, Report(0), None),
                    (0, Input::Active { hooks_run: false }, None),
                    (1, Released, None),
                    (1, Input::Active { hooks_run: false }, Some(GiveUp)),
                    (2, Input::Active { hooks_run: true }, None),
                    (30, Input::Active { hooks_run: true }, None),
                    (31, Input::Active { hooks_run: false }, Some(EmptyTable)),
                ],
            ),
            (
                "the store is not told, however short the time for connections is",
                0,
                true,
                &[
                    (9, TIME, None),
                    (9, Released, None),
                    (9, Emptied, None),
                    (10, TIME, Some(Untold)),
                ],
            ),
            (
                "the store is not told, nor later",
                60,
                true,
                &[(59, TIME, None), (60, TIME, Some(Untold))],
            ),
            (
                "the directors have their time from when the store was told",
                0,
                true,
                &[
                    (9, Report(0), None),
                    (9, TIME, None),
                    (18, TIME, None),
                    (19, TIME, Some(EmptyTable)),
                ],
            ),
        ];
        let start = Instant::now();
        let none = LeaveCircumstances::default();
        for (name, within, has_table, steps) in sequences {
            let mut leave = Leave::new(Duration::from_secs(within), start);
            for (number, (second, input, expected)) in steps.iter().enumerate() {
                let now = start + Duration::from_secs(*second);
                let step = match *input {
                    Report(connections) => {
                        leave.report(connections);
                        assert_eq!(leave.connections(), connections);
                        None
                    }
                    TIME => leave.step(LeaveCircumstances { has_table, ..none }, now),
                    HandsOver => {
                        let hands_over = true;
                        leave.step(LeaveCircumstances { hands_over, has_table, ..none }, now)
                    }
                    Input::Active { hooks_run } => {
                        let is_active = true;
                        let circumstances =
                            LeaveCircumstances { is_active, hooks_run, has_table, ..none };
                        leave.step(circumstances, now)
                    }
                    Released => {
                        leave.released(now);
                        None
                    }
                    Emptied => leave.table_emptied(Ok(()), now),
                    NotEmptied => leave.table_emptied(Err("no memory".to_owned()), now),
                    CutShort => leave.cut_short(now),
                    Undone => leave.addresses_undone(),
                };
                assert_eq!(step, *expected, "{name}, step {number}");
            }
        }
    }
}
