//! What a node can tell of itself beside its record.

use serde::{Deserialize, Serialize};

use crate::membership::MembershipTimes;

/// The view of the moment; the metrics show it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeView {
    /// How listeners are noticed.
    pub event_source: String,
    /// They are noticed by polling alone.
    pub polls: bool,
    /// How long it took from a listener that was seen, or was seen to be gone, to the record in the
    /// store that says so.
    #[serde(default)]
    pub times: MembershipTimes,
}
