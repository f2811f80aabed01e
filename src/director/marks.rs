//! What a director knows of real servers beside their records: who is drained, silent, dead,
//! unfit or damped.
//!
//! Marks are few: the healthy need none. They are the agent's to keep; [`super::desired`] reads
//! them, and nothing else changes because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::flaps::{Damped, Flaps, Server};
use crate::protocol::Protocol;
use crate::store::ServiceKey;

/// What an operator drains: a whole node, or one port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Drained {
    /// Node number.
    pub node: u32,
    /// Protocol and port, host order; `None` is all of them.
    pub port: Option<(Protocol, u16)>,
}

/// The marks of the moment.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// What operators drain, each with its own deadline, if it has one.
    pub drained: BTreeMap<Drained, Option<Duration>>,
    /// Nodes that are silent: no new connections, and cheap to undo.
    pub silent: BTreeSet<u32>,
    /// Nodes that are silent to every probe, and whose lease has ended: gone.
    pub dead: BTreeSet<u32>,
    /// Real servers that failed the director's own checks, and why.
    pub unfit: BTreeMap<Server, String>,
    /// Servers that come and go.
    pub flaps: Flaps,
}

/// Why a real server that listens gets no new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// It fails its check, or its accept queue is full.
    Unfit(String),
    /// It left too often.
    Damped(Damped),
    /// Its node is silent.
    Silent,
}

impl Marks {
    /// The deadline of the operator's drain of a service on a node; `Some(None)` for a drain
    /// without one of its own. The drain of the port counts before that of the node.
    pub fn drained(&self, node: u32, key: ServiceKey) -> Option<Option<Duration>> {
        if self.drained.is_empty() {
            return None;
        }
        let port = Drained { node, port: Some((key.protocol, key.port)) };
        let drain = self.drained.get(&port);
        drain.or_else(|| self.drained.get(&Drained { node, port: None })).copied()
    }

    /// Why a server is to be quiet; what its own node says of it comes in `unfit`. A silent
    /// node's checks say nothing any more.
    pub fn quiet(&self, server: Server, unfit: Option<&String>, now: Instant) -> Option<Quiet> {
        if self.silent.contains(&server.1) {
            return Some(Quiet::Silent);
        }
        let unfit = unfit.or_else(|| self.unfit.get(&server));
        if let Some(why) = unfit {
            return Some(Quiet::Unfit(why.clone()));
        }
        self.flaps.damped(server, now).map(Quiet::Damped)
    }
}
