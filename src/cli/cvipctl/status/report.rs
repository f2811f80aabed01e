//! What `cvipctl status` says, as `--json` prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::cli::rows::{DrainRow, FlagRow};
use crate::director::liveness::Liveness;
use crate::director::sync::SyncView;
use crate::director::view::{Draining, Quiesced};
use crate::ipvs::{DestinationEntry, ServiceEntry};
use crate::ipvsadm::documents::ServiceObject;
use crate::protocol::Protocol;
use crate::store::{RefusedListener, ServiceKey};

/// The whole of it, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct StatusReport {
    /// Whose configuration is shown: that of the `file`; that of `cvipd`, where the file is faulty;
    /// or none, where it is `unknown`.
    pub(super) configuration: &'static str,
    pub(super) routing: Option<String>,
    pub(super) cvips: Vec<IpAddr>,
    pub(super) nodes: Vec<NodeRow>,
    pub(super) director_sets: Vec<SetRow>,
    pub(super) flags: Vec<FlagRow>,
    pub(super) registrations: Vec<RegistrationRow>,
    /// What real servers serve by cvip.conf alone, whatever listens there.
    pub(super) static_services: Vec<StaticRow>,
    pub(super) refused: Vec<RefusedRow>,
    /// How many more listeners do not join that are not among them, by node.
    pub(super) refused_more: BTreeMap<u32, u32>,
    pub(super) drains: Vec<DrainRow>,
    /// What this node's cvipd knows of its pools, if it is a director: destinations on their way
    /// out, and those that get no new connections.
    pub(super) draining: Vec<Draining>,
    pub(super) quiesced: Vec<Quiesced>,
    /// The sync daemon that this director's role asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sync: Option<SyncView>,
    /// Why this standby's table is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) passive: Option<String>,
    /// Every so many milliseconds this director looks at its table, and repairs what another program
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_read_every_ms: Option<u64>,
    /// For how many seconds the store has been unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store_unavailable_s: Option<u64>,
    /// Absent where the kernel could not be asked; `problems` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) services: Option<Vec<ServiceObject>>,
    pub(super) problems: Vec<String>,
    /// The store was read.
    #[serde(skip)]
    pub(super) known: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeRow {
    pub(super) node: u32,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) weights: BTreeSet<u32>,
    pub(super) roles: Vec<String>,
    /// True if its cvipd lives, by its lease; null while the store says nothing.
    pub(super) alive: Option<bool>,
    /// It leaves the cluster, or has left if its cvipd does not run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) leaving: bool,
    /// What this node's cvipd makes of it, if it is a director with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) liveness: Option<Liveness>,
    /// How its listeners are noticed; null where no cvipd runs.
    pub(super) event_source: Option<String>,
    /// It has ever written a record.
    #[serde(skip)]
    pub(super) has_record: bool,
    pub(super) hints: Vec<String>,
}

/// Directors that share CVIPs.
#[derive(Debug, Serialize)]
pub(super) struct SetRow {
    pub(super) directors: Vec<u32>,
    pub(super) cvips: Vec<IpAddr>,
    /// The elected one; absent if none was ever elected. A single director is not elected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) active: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) term: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct RegistrationRow {
    pub(super) node: u32,
    #[serde(flatten)]
    pub(super) service: ServiceKey,
    pub(super) weight: u16,
    /// Why it should get no new connections although it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unhealthy: Option<String>,
    /// On the node's own address no server answers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) hidden: bool,
}

/// A static service of a real server.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct StaticRow {
    pub(super) cvip: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) start: u16,
    pub(super) end: u16,
    pub(super) node: u32,
    pub(super) weight: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct RefusedRow {
    pub(super) node: u32,
    #[serde(flatten)]
    pub(super) refused: RefusedListener,
}

/// The kernel's table: each service, its destinations, and whether it is cvipd's.
pub(in crate::cli::cvipctl) type StatusTable = Vec<(ServiceEntry, Vec<DestinationEntry>, bool)>;
