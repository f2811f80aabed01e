//! What a director knows of real servers beside their records: who is silent, dead, unfit or
//! damped.
//!
//! Marks are few: the healthy need none. They are the agent's to keep; [`super::desired`] reads
//! them, and nothing else changes because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::flaps::{Damped, Flaps, Server};
use crate::pulse::Left;

/// The marks of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Nodes that are silent: no new connections, and cheap to undo.
    pub silent: BTreeSet<u32>,
    /// Nodes that are silent to every probe, and whose lease has ended: gone.
    pub dead: BTreeSet<u32>,
    /// Real servers that failed the director's own checks, and why.
    pub unfit: BTreeMap<Server, String>,
    /// The director from which this one took over: until its record says that it is a standby,
    /// what is sent to it might come back.
    pub predecessor: Option<u32>,
    /// Nodes that leave the cluster, by their heartbeats: the store may not have been told.
    pub leaving: BTreeSet<u32>,
    /// Ports that nodes have left, by their heartbeats.
    pub left: BTreeMap<u32, Left>,
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
    /// Its node was the active director, and does not say yet that it is one no more.
    Predecessor,
    /// One of these, and it gets connections all the same: nobody else is left.
    Spared(Box<Quiet>),
}

impl Quiet {
    /// The word for it (`unfit`, `damped`, `silent` or `predecessor`), and why, for people.
    pub fn said(&self) -> (&'static str, String) {
        match self {
            Quiet::Unfit(why) => ("unfit", why.clone()),
            Quiet::Spared(quiet) => {
                let (state, why) = quiet.said();
                (state, format!("{why}; it is asked all the same, for nobody else is left"))
            }
            Quiet::Silent => ("silent", "the node is silent".to_owned()),
            Quiet::Predecessor => {
                ("predecessor", "it does not say yet that it is no director any more".to_owned())
            }
            Quiet::Damped(damped) => {
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

impl Marks {
    /// Keeps what nodes said before of the ports that they have left, where these marks do not
    /// know: those of a lookout that was just started, which has heard nobody yet.
    pub fn keep_left(&mut self, before: &BTreeMap<u32, Left>) {
        for (node, left) in before {
            self.left.entry(*node).or_insert_with(|| left.clone());
        }
    }

    /// Why a server is to be quiet; what its own node says of it comes in `unfit`. A silent
    /// node's checks say nothing any more.
    pub fn quiet(&self, server: Server, unfit: Option<&String>, now: Instant) -> Option<Quiet> {
        if self.predecessor == Some(server.1) {
            return Some(Quiet::Predecessor);
        }
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
