//! What a director knows of real servers beside their records: which are suspected, dead, unhealthy
//! or damped.
//!
//! They are few: a healthy server has none. The agent keeps them; [`super::desired`] reads them, and
//! nothing else depends on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::flaps::{Damped, Flaps, ServerKey};
use crate::heartbeat::LeftPorts;

/// The restrictions that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Suspected nodes: no new connections, which is cheap to undo.
    pub suspected: BTreeSet<u32>,
    /// Dead nodes: they answer no probe, and their leases have ended.
    pub dead: BTreeSet<u32>,
    /// Real servers that failed the director's own checks, and why.
    pub unhealthy: BTreeMap<ServerKey, String>,
    /// The director from which this one took over: until its record shows that it is a standby,
    /// packets that are sent to it might come back.
    pub former_director: Option<u32>,
    /// Nodes that leave the cluster, by their heartbeats: the store may not have it.
    pub leaving: BTreeSet<u32>,
    /// Ports that nodes have left, by their heartbeats.
    pub left: BTreeMap<u32, LeftPorts>,
    /// Servers that come and go.
    pub flaps: Flaps,
}

/// Why a real server that listens gets no new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuiesceReason {
    /// It fails its check, or its accept queue is full.
    Unhealthy(String),
    /// It left too often.
    Damped(Damped),
    /// Its node is suspected.
    Suspected,
    /// Its node was the active director, and its record does not show yet that it is none any more.
    FormerDirector,
    /// One of these, and it gets connections all the same: no other real server is left.
    Spared(Box<QuiesceReason>),
}

impl QuiesceReason {
    /// The word for it (`unhealthy`, `damped`, `suspected` or `former_director`), and why, for people.
    pub fn describe(&self) -> (&'static str, String) {
        match self {
            QuiesceReason::Unhealthy(why) => ("unhealthy", why.clone()),
            QuiesceReason::Spared(quiesced) => {
                let (state, why) = quiesced.describe();
                (
                    state,
                    format!(
                        "{why}; it gets connections all the same, as no other real server is left"
                    ),
                )
            }
            QuiesceReason::Suspected => ("suspected", "its node sends no heartbeats".to_owned()),
            QuiesceReason::FormerDirector => (
                "former_director",
                "its record does not show yet that it is no active director any more".to_owned(),
            ),
            QuiesceReason::Damped(damped) => {
                let leaves = damped.leaves;
                let rest = match damped.left {
                    Some(left) => format!("let in if it listens for {} s more", left.as_secs()),
                    None => "it does not listen".to_owned(),
                };
                ("damped", format!("left {leaves} times within a minute; {rest}"))
            }
        }
    }
}

impl Restrictions {
    /// Keeps the ports that nodes have left by earlier restrictions, where these have none: those of a
    /// monitor that was just started, which has heard no node yet.
    pub fn keep_left(&mut self, before: &BTreeMap<u32, LeftPorts>) {
        for (node, left) in before {
            self.left.entry(*node).or_insert_with(|| left.clone());
        }
    }

    /// Why a server is to get no new connections; `unhealthy` is what its own node's check found. The
    /// checks of a suspected node count no more.
    pub fn quiesced(
        &self,
        server: ServerKey,
        unhealthy: Option<&String>,
        now: Instant,
    ) -> Option<QuiesceReason> {
        if self.former_director == Some(server.1) {
            return Some(QuiesceReason::FormerDirector);
        }
        if self.suspected.contains(&server.1) {
            return Some(QuiesceReason::Suspected);
        }
        let unhealthy = unhealthy.or_else(|| self.unhealthy.get(&server));
        if let Some(why) = unhealthy {
            return Some(QuiesceReason::Unhealthy(why.clone()));
        }
        self.flaps.damped(server, now).map(QuiesceReason::Damped)
    }
}
