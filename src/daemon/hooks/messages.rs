//! What the hooks' thread is told, and what it tells.

use std::net::IpAddr;
use std::sync::mpsc::Sender;

use serde::{Deserialize, Serialize};

use crate::conf::Conf;
use crate::director::DirectorEvent;
use crate::histogram::Histogram;
use crate::store::ServiceKey;

named! {
    /// An event for which hooks are run; a hook has its word as its argument.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum HookEvent {
        /// This director carries and announces the CVIPs.
        Active = "active",
        /// It is to give them up, and still carries them.
        GivingUp = "giving-up",
        /// It does not carry them.
        Standby = "standby",
        /// A service has its quorum.
        QuorumUp = "quorum-up",
        /// A service has no quorum.
        QuorumDown = "quorum-down",
    }
}

named! {
    /// A change of a director's role.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum RoleEvent {
        /// [`HookEvent::Active`]
        Active = "active",
        /// [`HookEvent::GivingUp`]
        GivingUp = "giving-up",
        /// [`HookEvent::Standby`]
        Standby = "standby",
    }
}

named! {
    /// What became of a hook, or of an event.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum HookResult {
        /// The hook ended with status 0.
        Done = "done",
        /// It could not be run, or ended in another way.
        Failed = "failed",
        /// It was killed, since the time for the event was over.
        Killed = "killed",
        /// Of an event: it was outdated before its hooks were run. Of a hook: no time was left.
        Skipped = "skipped",
    }
}

/// A change of this director's role, of which hooks are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChange {
    /// The number of this message.
    pub number: u64,
    /// What changed.
    pub event: RoleEvent,
    /// The lowest node number of its director set.
    pub set: u32,
    /// The term in which it is the active director, or was; none if it was not since it started.
    pub term: Option<u64>,
    /// The CVIPs that it carries as the active director.
    pub cvips: Vec<HookCvip>,
}

/// A CVIP of a director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCvip {
    /// The CVIP.
    pub address: IpAddr,
    /// The interface that carries it.
    pub interface: String,
    /// The real servers' gateway, which is carried with it; with NAT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl HookCvip {
    /// The CVIPs that a node carries as the active director.
    pub fn of(conf: &Conf, node: u32) -> Vec<HookCvip> {
        let carried = conf.cvips.iter().filter_map(|cvip| {
            let director = cvip.director(node)?;
            Some(HookCvip {
                address: cvip.addr,
                interface: director.garp_interface.clone(),
                gateway: cvip.gateway,
            })
        });
        carried.collect()
    }
}

/// A service has a quorum from now on, or has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct QuorumChange {
    pub(in crate::daemon) service: ServiceKey,
    pub(in crate::daemon) has_quorum: bool,
    /// The weight of its real servers that could take connections.
    pub(in crate::daemon) weight: u64,
    /// The weight that makes a quorum.
    pub(in crate::daemon) quorum: u32,
}

impl QuorumChange {
    /// The change of which an event tells; none if it tells of something else.
    pub(in crate::daemon) fn of(event: &DirectorEvent) -> Option<QuorumChange> {
        match *event {
            DirectorEvent::QuorumUp { service, weight, quorum } => {
                Some(QuorumChange { service, has_quorum: true, weight, quorum })
            }
            DirectorEvent::QuorumDown { service, weight, quorum } => {
                Some(QuorumChange { service, has_quorum: false, weight, quorum })
            }
            _ => None,
        }
    }
}

/// What the hooks' thread is told.
pub(in crate::daemon) enum HookMessage {
    /// Run the hooks of a changed role; [`RoleEvent::GivingUp`] is answered once they have ended.
    Role(RoleChange),
    /// Run the hooks of a changed quorum.
    Quorum(QuorumChange),
    /// Run what waits, within the time for one event, and say so: cvipd ends.
    Finish(Sender<()>),
    /// Say what it knows.
    View(Sender<HooksView>),
}

/// What is known of this node's hooks.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HooksView {
    /// Their directory.
    pub directory: String,
    /// Why nothing of it is run; none if it can be read, or is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The hooks, in the order in which they are run.
    pub hooks: Vec<HookView>,
    /// The files that are not run.
    pub refused: Vec<RefusedHook>,
    /// How many runs had which result.
    pub runs: Vec<HookRuns>,
    /// How long hooks took.
    pub seconds: Histogram,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookView {
    /// The name of its file.
    pub name: String,
    /// Its last run; none if it was not run since cvipd started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastHookRun>,
}

/// The last run of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastHookRun {
    /// For which event.
    pub event: HookEvent,
    /// When that happened (RFC 3339, UTC, milliseconds).
    pub time: String,
    /// What became of it.
    pub result: HookResult,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A file that is not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedHook {
    /// Its name.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

/// How many runs had a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRuns {
    /// For which event.
    pub event: HookEvent,
    /// With which result.
    pub result: HookResult,
    /// How many.
    pub count: u64,
}
