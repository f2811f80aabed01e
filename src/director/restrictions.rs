//! What a director knows of real servers beside their records: which are suspected, dead, unhealthy
//! or damped.
//!
//! They are few: a healthy server has none. The agent keeps them; [`super::desired`] reads them,
//! and nothing else depends on them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::flaps::{Damped, Flaps, ServerKey};
use super::ramps::Ramps;
use crate::clock::Instant;
use crate::counter;
use crate::heartbeat::LeftPorts;
use crate::serial::pairs;
use crate::store::NodeRecord;

/// The restrictions that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restrictions {
    /// Suspected nodes: no new connections, which is cheap to undo.
    pub suspected: BTreeSet<u32>,
    /// Dead nodes: they answer no probe, and their leases have ended.
    pub dead: BTreeSet<u32>,
    /// Real servers that failed the director's own checks, and why.
    #[serde(with = "pairs")]
    pub unhealthy: BTreeMap<ServerKey, String>,
    /// The director from which this one took over: until its record shows that it is a standby,
    /// packets that are sent to it might come back.
    pub former_director: Option<u32>,
    /// Of each node that was heard: the incarnation whose heartbeats say that the node leaves the
    /// cluster (the store may not have been told), or none if they do not.
    pub leaving: BTreeMap<u32, Option<u64>>,
    /// Ports that nodes have left, by their heartbeats.
    pub left: BTreeMap<u32, LeftPorts>,
    /// Servers that come and go.
    pub flaps: Flaps,
    /// Servers that begin to serve, whose weights grow.
    pub ramps: Ramps,
    /// Nodes of which a monitor that was just started knows nothing yet: what restricts them stays.
    pub unknown: BTreeSet<u32>,
}

/// Why a real server that listens gets no new connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuiesceReason {
    /// It fails its check, or its accept queue is full.
    Unhealthy(String),
    /// It left too often.
    Damped(Damped),
    /// Its node is suspected.
    Suspected,
    /// Its node was the active director, and its record does not show yet that it is none any more.
    FormerDirector,
    /// The real servers of its service that could take connections have this weight together, which
    /// makes no quorum: the service's sorry servers serve.
    BelowQuorum(u64),
    /// One of these, and it gets connections all the same: no other real server is left.
    Spared(Box<QuiesceReason>),
}

impl QuiesceReason {
    /// True if it says nothing about the server itself: one that gets connections again has been serving
    /// all the time.
    pub fn leaves_warm(&self) -> bool {
        match self {
            QuiesceReason::Unhealthy(_) | QuiesceReason::Damped(_) => false,
            QuiesceReason::Suspected
            | QuiesceReason::FormerDirector
            | QuiesceReason::BelowQuorum(_)
            | QuiesceReason::Spared(_) => true,
        }
    }

    /// The word for it (`unhealthy`, `damped`, `suspected`, `former_director` or `below_quorum`), and
    /// why, for people.
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
            QuiesceReason::BelowQuorum(weight) => (
                "below_quorum",
                format!("real servers of weight {weight} make no quorum; sorry servers serve"),
            ),
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
    /// Keeps what was known before, where these restrictions do not know: those of a monitor that
    /// was just started, which has heard no node yet.
    pub fn keep_unknown(&mut self, before: &Restrictions) {
        let is_unknown = |node: &&u32| self.unknown.contains(node);
        self.suspected.extend(before.suspected.iter().filter(is_unknown));
        self.dead.extend(before.dead.iter().filter(is_unknown));
        for (server, why) in before.unhealthy.iter().filter(|((_, node), _)| is_unknown(&node)) {
            self.unhealthy.entry(*server).or_insert_with(|| why.clone());
        }
        let former_director = before.former_director.as_ref().filter(is_unknown).copied();
        self.former_director = self.former_director.or(former_director);
        for (node, left) in &before.left {
            self.left.entry(*node).or_insert_with(|| left.clone());
        }
        for (node, leaving) in &before.leaving {
            self.leaving.entry(*node).or_insert(*leaving);
        }
    }

    /// True if a node leaves the cluster: by its record, or by its heartbeats if no later cvipd of
    /// it has written a record since.
    pub fn leaves(&self, node: u32, record: Option<&NodeRecord>) -> bool {
        let is_later = |than: u64| record.is_some_and(|r| counter::is_later(r.incarnation, than));
        let said = self.leaving.get(&node).copied().flatten();
        record.is_some_and(|record| record.leaving) || said.is_some_and(|said| !is_later(said))
    }

    /// Why a server is to get no new connections; `unhealthy` is what its own node's check found.
    /// The checks of a suspected node count no more.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;
    use crate::store::ServiceKey;

    #[test]
    fn a_node_that_leaves_does_so_until_it_is_heard_otherwise_or_a_later_cvipd_writes() {
        let record =
            |incarnation, leaving| NodeRecord { leaving, ..NodeRecord::empty(3, incarnation, 1) };
        let says = |said: Option<u64>| Restrictions {
            leaving: [(3, said)].into(),
            ..Restrictions::default()
        };
        for (restrictions, record, leaves) in [
            (Restrictions::default(), None, false),
            (Restrictions::default(), Some(record(5, false)), false),
            (Restrictions::default(), Some(record(5, true)), true),
            (says(Some(5)), None, true),
            (says(Some(5)), Some(record(5, false)), true),
            (says(Some(5)), Some(record(6, false)), false),
            (says(Some(5)), Some(record(6, true)), true),
            (says(None), Some(record(5, false)), false),
        ] {
            assert_eq!(
                restrictions.leaves(3, record.as_ref()),
                leaves,
                "{restrictions:?} {record:?}"
            );
        }
    }

    #[test]
    fn a_monitor_that_was_just_started_restricts_as_before_the_nodes_that_it_does_not_know_yet() {
        let server = |node| {
            let cvip = [10, 0, 0, 100].into();
            (ServiceKey { cvip, protocol: Protocol::Tcp, port: 80 }, node)
        };
        let before = Restrictions {
            suspected: [2, 3].into(),
            dead: [4].into(),
            unhealthy: [(server(2), "closed".to_owned()), (server(5), "closed".to_owned())].into(),
            former_director: Some(5),
            ..Restrictions::default()
        };
        let mut all = Restrictions { unknown: [2, 3, 4, 5].into(), ..Restrictions::default() };
        let unknown = all.unknown.clone();
        all.keep_unknown(&before);
        assert_eq!(all, Restrictions { unknown, ..before.clone() });
        // It hears nodes 2 and 5, and finds that node 3 is dead.
        let mut some =
            Restrictions { dead: [3].into(), unknown: [3, 4].into(), ..Restrictions::default() };
        some.keep_unknown(&all);
        let kept = (&some.suspected, &some.dead, &some.unhealthy, some.former_director);
        assert_eq!(kept, (&[3].into(), &[3, 4].into(), &BTreeMap::new(), None));
    }

    #[test]
    fn a_monitor_that_has_heard_no_node_yet_brings_none_back_that_leaves() {
        let says = |said| Restrictions { leaving: [(3, said)].into(), ..Restrictions::default() };
        // (what the monitor says, a reload starts another one before it) -> node 3 leaves.
        let mut kept = Restrictions::default();
        for (n, (told, leaves)) in [
            (says(None), false),
            (says(Some(5)), true),
            // A reload while the store is unavailable: nothing was heard yet.
            (Restrictions::default(), true),
            (Restrictions::default(), true),
            // It is heard: it leaves still, and then does so no longer.
            (says(Some(5)), true),
            (says(None), false),
            (Restrictions::default(), false),
        ]
        .into_iter()
        .enumerate()
        {
            let mut told = told;
            told.keep_unknown(&kept);
            kept = told;
            assert_eq!(kept.leaves(3, None), leaves, "step {n}");
        }
    }
}
