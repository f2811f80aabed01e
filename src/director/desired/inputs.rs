//! What the desired table is made from.

use std::collections::BTreeMap;

use super::super::restrictions::Restrictions;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::store::{Drains, NodeRecord};

/// What a director knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The configuration.
    pub conf: &'a Conf,
    /// Every node's record, by node number.
    pub nodes: &'a BTreeMap<u32, NodeRecord>,
    /// The director's own node number.
    pub me: u32,
    /// What operators drain.
    pub drains: &'a Drains,
    /// What it knows of real servers beside their records.
    pub restrictions: &'a Restrictions,
    /// The director is a standby whose kernel cannot be made to leave the table alone until it
    /// is needed: its table is empty.
    pub passive: bool,
    /// The moment.
    pub now: Instant,
}
