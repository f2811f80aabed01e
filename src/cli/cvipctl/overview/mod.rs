//! The cluster as an administrator sees it from this host, in one report, from which `status`,
//! `graph` and `top` are made.
//!
//! Three who know are asked: the store, the running cvipd of this node, and the kernel. What one
//! of them cannot say is left out, and named. What is wrong is said by the examinations of
//! `cvipctl doctor`, of the same look: the two cannot contradict each other.

mod headline;
mod look;
mod names;
mod pools;
mod report;
mod rows;
mod table;
#[cfg(test)]
pub(super) mod testing;

pub(super) use headline::{Condition, cut};
pub(super) use look::{Overview, overview};
pub(super) use names::NodeNames;
pub(super) use pools::{Load, PoolRow, ServerRow, ServerState, address, short};
pub(super) use report::{NodeRow, StatusReport, describe};
pub(super) use table::read_table;
