//! What a director can tell of its services beside what stands in the kernel: which destinations
//! drain, which get no new connections, and why.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drains::Drain;
use super::restrictions::QuiesceReason;
use super::sync::SyncView;
use crate::clock::Instant;
use crate::histogram::Histogram;
use crate::ipvs::DestinationId;
use crate::membership::MembershipTimes;
use crate::store::ServiceKey;

/// The view of the moment; `cvipctl status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableView {
    /// Destinations that are draining.
    pub draining: Vec<Draining>,
    /// Destinations that get no new connections although they listen.
    pub quiesced: Vec<Quiesced>,
    /// Destinations whose weights still grow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_starts: Vec<SlowStarting>,
    /// Services of which cvip.conf asks a quorum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quorums: Vec<QuorumView>,
    /// The sync daemon of its role, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncView>,
    /// Why a standby's table is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<String>,
    /// Every so many milliseconds the table is looked at, and repaired if another program changed it.
    #[serde(default)]
    pub look_every_ms: u64,
    /// Another program changes the table again and again: it is repaired less often.
    #[serde(default)]
    pub contested: bool,
    /// How long things took.
    #[serde(default)]
    pub times: TableTimes,
}

/// How long a director took.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableTimes {
    /// Full passes over the table.
    pub full_passes: Histogram,
    /// Passes over the services that a change touched.
    pub passes: Histogram,
    /// From a record that was read to the kernel's table that shows its join or leave.
    pub memberships: MembershipTimes,
}

/// A destination on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// The virtual service.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The real server's address.
    pub address: IpAddr,
    /// Connections that are active for IPVS, when they were last counted.
    #[serde(rename = "active_connections")]
    pub active: u32,
    /// Connections that are inactive for IPVS.
    #[serde(rename = "inactive_connections")]
    pub inactive: u32,
    /// Seconds until it goes in any case.
    #[serde(rename = "remaining_s")]
    pub left_s: u64,
}

/// A destination that gets no new connections although it listens, or would get none if another
/// were left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesced {
    /// The virtual service.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The real server's address.
    pub address: IpAddr,
    /// `unhealthy`, `damped`, `suspected` or `former_director`.
    pub state: String,
    /// Why, for people.
    pub reason: String,
    /// It gets connections all the same, because no other real server is left.
    #[serde(default)]
    pub spared: bool,
}

/// A destination whose weight still grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowStarting {
    /// The virtual service.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The real server's address.
    pub address: IpAddr,
    /// Seconds since it began.
    #[serde(default)]
    pub lasted_s: u64,
    /// Seconds until the weight is whole.
    #[serde(rename = "remaining_s")]
    pub left_s: u64,
}

/// Whether a service has the quorum that cvip.conf asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumView {
    /// The virtual service.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// It had it in the last pass over the service.
    pub has_quorum: bool,
}

impl QuorumView {
    pub(super) fn of((service, has_quorum): (ServiceKey, bool)) -> QuorumView {
        QuorumView { service, has_quorum }
    }
}

impl SlowStarting {
    pub(super) fn of(
        (service, address, lasted, left): (ServiceKey, IpAddr, Duration, Duration),
    ) -> SlowStarting {
        SlowStarting { service, address, lasted_s: lasted.as_secs(), left_s: left.as_secs() }
    }
}

impl Draining {
    pub(super) fn of(service: ServiceKey, at: DestinationId, drain: &Drain, now: Instant) -> Self {
        let end = drain.since + drain.deadline;
        let (active, inactive) = drain.connections;
        let left_s = end.saturating_duration_since(now).as_secs();
        Draining { service, address: at.addr, active, inactive, left_s }
    }
}

impl Quiesced {
    pub(super) fn of(service: ServiceKey, address: IpAddr, quiesced: &QuiesceReason) -> Self {
        let (state, reason) = quiesced.describe();
        let spared = matches!(quiesced, QuiesceReason::Spared(_));
        Quiesced { service, address, state: state.to_owned(), reason, spared }
    }
}
