//! What a director knows of real servers beside their records: who is silent, dead, unhealthy or
//! damped.
//!
//! Marks are few: the healthy need none. They are the agent's to keep; [`super::desired`] reads
//! them, and nothing else changes because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::flaps::{Damped, Flaps, ServerKey};
use crate::heartbeat::LeftPorts;

/// The marks of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Nodes that are silent: no new connections, and cheap to undo.
    pub suspected: BTreeSet<u32>,
    /// Nodes that are silent to every probe, and whose lease has ended: gone.
    pub dead: BTreeSet<u32>,
    /// Real servers that failed the director's own checks, and why.
    pub unhealthy: BTreeMap<ServerKey, String>,
    /// The director from which this one took over: until its record says that it is a standby,
    /// what is sent to it might come back.
    pub former_director: Option<u32>,
    /// Nodes that leave the cluster, by their heartbeats: the store may not have been told.
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
    /// Its node is silent.
    Suspected,
    /// Its node was the active director, and does not say yet that it is one no more.
    FormerDirector,
    /// One of these, and it gets connections all the same: nobody else is left.
    Spared(Box<QuiesceReason>),
}

impl QuiesceReason {
    /// The word for it (`unfit`, `damped`, `suspected` or `former_director`), and why, for people.
    pub fn said(&self) -> (&'static str, String) {
        match self {
            QuiesceReason::Unhealthy(why) => ("unhealthy", why.clone()),
            QuiesceReason::Spared(quiesced) => {
                let (state, why) = quiesced.said();
                (state, format!("{why}; it is asked all the same, for nobody else is left"))
            }
            QuiesceReason::Suspected => ("suspected", "the node is silent".to_owned()),
            QuiesceReason::FormerDirector => (
                "former_director",
                "it does not say yet that it is no director any more".to_owned(),
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
    /// Keeps what nodes said before of the ports that they have left, where these marks do not
    /// know: those of a monitor that was just started, which has heard nobody yet.
    pub fn keep_left(&mut self, before: &BTreeMap<u32, LeftPorts>) {
        for (node, left) in before {
            self.left.entry(*node).or_insert_with(|| left.clone());
        }
    }

    /// Why a server is to be quiet; what its own node says of it comes in `unfit`. A silent
    /// node's checks say nothing any more.
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
