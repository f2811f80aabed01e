//! The cluster as an administrator sees it: what `status`, `graph` and `top` show, and what
//! `cvipctl status --json` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::headline::Headline;
use super::pools::PoolRow;
use crate::cli::rows::{DrainRow, FlagRow};
use crate::daemon::{HookRuns, HookView, HooksView, RefusedHook};
use crate::director::liveness::Liveness;
use crate::director::sync::SyncView;
use crate::director::view::{Draining, Quiesced};
use crate::doctor::{Finding, Unexamined};
use crate::ipvsadm::documents::ServiceObject;
use crate::protocol::Protocol;
use crate::store::{RefusedListener, ServiceKey};

/// The whole of it, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(in crate::cli::cvipctl) struct StatusReport {
    /// How the cluster is, in one line.
    pub(in crate::cli::cvipctl) headline: Headline,
    /// Whose configuration is shown: that of the `file`; that of `cvipd`, where the file is faulty;
    /// or none, where it is `unknown`.
    pub(in crate::cli::cvipctl) configuration: &'static str,
    pub(in crate::cli::cvipctl) routing: Option<String>,
    pub(in crate::cli::cvipctl) cvips: Vec<IpAddr>,
    pub(in crate::cli::cvipctl) nodes: Vec<NodeRow>,
    pub(in crate::cli::cvipctl) director_sets: Vec<SetRow>,
    pub(in crate::cli::cvipctl) flags: Vec<FlagRow>,
    pub(in crate::cli::cvipctl) registrations: Vec<RegistrationRow>,
    /// What real servers serve by cvip.conf alone, whatever listens there.
    pub(in crate::cli::cvipctl) static_services: Vec<StaticRow>,
    pub(in crate::cli::cvipctl) refused: Vec<RefusedRow>,
    /// How many more listeners do not join that are not among them, by node.
    pub(in crate::cli::cvipctl) refused_more: BTreeMap<u32, u32>,
    pub(in crate::cli::cvipctl) drains: Vec<DrainRow>,
    /// What this node's cvipd knows of its pools, if it is a director: destinations on their way
    /// out, and those that get no new connections.
    pub(in crate::cli::cvipctl) draining: Vec<Draining>,
    pub(in crate::cli::cvipctl) quiesced: Vec<Quiesced>,
    /// The sync daemon that this director's role asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) sync: Option<SyncView>,
    /// Why this standby's table is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) passive: Option<String>,
    /// Every so many milliseconds this director looks at its table, and repairs what another program
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) table_read_every_ms: Option<u64>,
    /// For how many seconds the store has been unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) store_unavailable_s: Option<u64>,
    /// This node's hooks, and what became of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) hooks: Option<HooksRow>,
    /// Absent where the kernel could not be asked; `problems` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) services: Option<Vec<ServiceObject>>,
    pub(in crate::cli::cvipctl) problems: Vec<String>,
    /// What `cvipctl doctor` finds, faults first.
    pub(in crate::cli::cvipctl) findings: Vec<Finding>,
    /// What could not be examined, and why.
    pub(in crate::cli::cvipctl) unexamined: Vec<Unexamined>,
    /// Each virtual service with its real servers.
    pub(in crate::cli::cvipctl) pools: Vec<PoolRow>,
    /// The configuration's files are faulty: the first fault, and what is shown in their place.
    #[serde(skip)]
    pub(in crate::cli::cvipctl) faulty_files: Option<String>,
    /// The store was read.
    #[serde(skip)]
    pub(in crate::cli::cvipctl) known: bool,
}

#[derive(Debug, Serialize)]
pub(in crate::cli::cvipctl) struct NodeRow {
    pub(in crate::cli::cvipctl) node: u32,
    /// Its host name, if this host knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) name: Option<String>,
    pub(in crate::cli::cvipctl) addresses: BTreeSet<IpAddr>,
    pub(in crate::cli::cvipctl) weights: BTreeSet<u32>,
    pub(in crate::cli::cvipctl) roles: Vec<String>,
    /// True if its cvipd lives, by its lease; null while the store says nothing.
    pub(in crate::cli::cvipctl) alive: Option<bool>,
    /// It leaves the cluster, or has left if its cvipd does not run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::cli::cvipctl) leaving: bool,
    /// What this node's cvipd makes of it, if it is a director with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) liveness: Option<Liveness>,
    /// How its listeners are noticed; null where no cvipd runs.
    pub(in crate::cli::cvipctl) event_source: Option<String>,
    /// It has ever written a record.
    #[serde(skip)]
    pub(in crate::cli::cvipctl) has_record: bool,
    pub(in crate::cli::cvipctl) hints: Vec<String>,
}

/// This node's hooks.
#[derive(Debug, Serialize)]
pub(in crate::cli::cvipctl) struct HooksRow {
    directory: String,
    /// Why none is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    hooks: Vec<HookView>,
    refused: Vec<RefusedHook>,
    runs: Vec<HookRuns>,
}

impl From<HooksView> for HooksRow {
    fn from(view: HooksView) -> HooksRow {
        let HooksView { directory, problem, hooks, refused, runs, .. } = view;
        HooksRow { directory, problem, hooks, refused, runs }
    }
}

/// Directors that share CVIPs.
#[derive(Debug, Serialize)]
pub(in crate::cli::cvipctl) struct SetRow {
    pub(in crate::cli::cvipctl) directors: Vec<u32>,
    pub(in crate::cli::cvipctl) cvips: Vec<IpAddr>,
    /// The elected one; absent if none was ever elected. A single director is not elected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) active: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) term: Option<u64>,
}

impl SetRow {
    /// True for the director that directs: the elected one, or a single one.
    pub(in crate::cli::cvipctl) fn is_active(&self, node: u32) -> bool {
        self.active == Some(node) || self.directors == [node]
    }
}

#[derive(Debug, Serialize)]
pub(in crate::cli::cvipctl) struct RegistrationRow {
    pub(in crate::cli::cvipctl) node: u32,
    #[serde(flatten)]
    pub(in crate::cli::cvipctl) service: ServiceKey,
    pub(in crate::cli::cvipctl) weight: u16,
    /// Why it should get no new connections although it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) unhealthy: Option<String>,
    /// On the node's own address no server answers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::cli::cvipctl) hidden: bool,
}

/// A static service of a real server.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::cli::cvipctl) struct StaticRow {
    pub(in crate::cli::cvipctl) cvip: IpAddr,
    pub(in crate::cli::cvipctl) protocol: Protocol,
    pub(in crate::cli::cvipctl) start: u16,
    pub(in crate::cli::cvipctl) end: u16,
    pub(in crate::cli::cvipctl) node: u32,
    pub(in crate::cli::cvipctl) weight: u32,
}

#[derive(Debug, Serialize)]
pub(in crate::cli::cvipctl) struct RefusedRow {
    pub(in crate::cli::cvipctl) node: u32,
    #[serde(flatten)]
    pub(in crate::cli::cvipctl) refused: RefusedListener,
    /// The owner's user name, as this host knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) user: Option<String>,
}

/// A node's cvipd: whether it runs, and what a director hears of it.
pub(in crate::cli::cvipctl) fn describe(row: &NodeRow) -> String {
    match (row.leaving, row.alive) {
        (true, Some(true)) => return "leaving".to_owned(),
        (true, Some(false) | None) => return "left".to_owned(),
        _ => {}
    }
    let running = match row.alive {
        Some(true) => "running",
        Some(false) => "not running",
        None => "not known",
    };
    match row.liveness {
        None | Some(Liveness::Alive) => running.to_owned(),
        Some(Liveness::AgentDown) => format!("{running}, agent down (the machine answers)"),
        Some(Liveness::Suspected) => format!("{running}, suspected"),
        Some(Liveness::Dead) => "gone".to_owned(),
    }
}
