//! A cluster with faults, for the tests of rows, state and view.

use super::choice::Choice;
use super::rows::{TopEvent, TopRows, rows};
use crate::cli::cvipctl::overview::testing::Cluster;

pub(super) fn events() -> Vec<TopEvent> {
    let event = |at: &str, text: &str| TopEvent {
        at: format!("2026-03-01T10:00:0{at}.000Z"),
        node: 1,
        text: text.to_owned(),
    };
    vec![
        event("1", "took over from node 2 in term 4"),
        event("2", "node 3 is drained, by order of root@alpha: new disk"),
    ]
}

/// The rows of the cluster with faults.
pub(super) fn shown(choice: &Choice) -> TopRows {
    rows(&Cluster::troubled().overview(), &events(), choice)
}
