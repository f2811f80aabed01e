//! The liveness of the other nodes: heartbeats, echoes, connects and leases become one liveness for
//! each, and silence of most at once a suspicion of this director's own link. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::candidacy::HeardDirector;
use super::messages::{MonitorIdentity, MonitorNotice, MonitorOutput};
use super::probes::Probes;
use super::store_view::{RecordSummary, StoreView};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::counter;
use crate::director::DirectorEvent;
use crate::director::liveness::{Absent, Evidence, HeartbeatEvidence, Liveness, News};
use crate::director::restrictions::Restrictions;
use crate::heartbeat::{HeardCounts, Heartbeat, LeftPorts, Peers, Suspicion, Timing, WatchedNode};

/// A monitor is due every few hundredths of a second ([`Peers::timeout`]): one that is this late
/// was kept from it, by a machine without time for it, or by a store that did not answer.
const ABSENT_AFTER: Duration = Duration::from_millis(500);

/// What restricted a node before this monitor was started stays until the node is heard, for this
/// long at most: the lease of one that is gone has then ended (it is 5 s by default).
const KNOWN_AFTER: Duration = Duration::from_secs(15);

/// So many nodes are asked when an active director is to know whether it is reached.
const WITNESSES: usize = 4;

/// What is known of every node but this one that matters to the set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Nodes {
    me: u32,
    started: Instant,
    /// The addresses of each.
    addrs: BTreeMap<u32, BTreeSet<IpAddr>>,
    pub(super) peers: Peers,
    pub(super) probes: Probes,
    /// Those that were not there when this director started.
    absent: Absent,
    liveness_of: BTreeMap<u32, Liveness>,
    /// This director suspects its own link.
    isolated: bool,
    /// Since when it trusts its link again.
    trusts_from: Instant,
    /// When it was last there to hear and to ask.
    attended: Instant,
    /// It was not there for a while: until then no liveness becomes worse than before, since nodes
    /// that were not asked could not answer.
    unsure_until: Instant,
    /// Ports that nodes have left, as they last said.
    left: BTreeMap<u32, LeftPorts>,
}

/// What judging shows beside the liveness of each node.
pub(super) struct Judgement {
    /// A witness has answered.
    pub(super) is_answered: bool,
    /// A node that nothing reached is reached again; nothing reaches any while this director suspects its
    /// own link.
    pub(super) reaches_again: bool,
}

impl Nodes {
    /// Nothing was heard yet.
    pub(super) fn new(me: MonitorIdentity, now: Instant) -> Nodes {
        Nodes {
            me: me.node,
            started: now,
            addrs: BTreeMap::new(),
            peers: Peers::new(me.node, me.nonce, Timing::default(), now),
            probes: Probes::default(),
            absent: Absent::default(),
            liveness_of: BTreeMap::new(),
            isolated: false,
            trusts_from: now,
            attended: now,
            unsure_until: now,
            left: BTreeMap::new(),
        }
    }

    /// Takes the nodes that the configuration names: the real servers of the CVIPs that this node
    /// directs.
    pub(super) fn configure(&mut self, conf: &Conf) {
        self.addrs.clear();
        for cvip in conf.cvips.iter().filter(|cvip| cvip.is_director(self.me)) {
            for server in cvip.real_servers.iter().filter(|server| server.node != self.me) {
                self.addrs.entry(server.node).or_default().insert(server.addr);
            }
        }
    }

    /// Watches the heartbeats of those nodes. `directors` hear this director's own.
    pub(super) fn watch(&mut self, store: &StoreView, directors: &[u32], now: Instant) {
        let watched = self.addrs.keys().map(|node| WatchedNode {
            node: *node,
            hears_us: directors.contains(node),
            // A record may have been written by another program; the lease says who lives.
            least_incarnation: match (store.alive.get(node), store.records.get(node)) {
                (Some(living), _) => *living,
                (None, record) => record.map_or(0, |record| record.incarnation),
            },
        });
        self.peers.watch(watched.collect::<Vec<_>>(), now);
    }

    /// The monitor is there; true if it was away for long. No liveness becomes worse then until
    /// every node had the time to be heard.
    pub(super) fn attend(&mut self, now: Instant) -> bool {
        let was_away = now.saturating_duration_since(self.attended) > ABSENT_AFTER;
        if was_away {
            self.unsure_until = now + Timing::default().silence;
        }
        self.attended = now;
        was_away
    }

    /// Takes a heartbeat; true if it says what is to be looked at now.
    pub(super) fn hear(&mut self, heartbeat: Heartbeat, now: Instant) -> bool {
        let is_urgent = !heartbeat.leaderships.is_empty() || heartbeat.leaving;
        self.peers.hear(heartbeat, now);
        is_urgent
    }

    /// The ports that this director's own node has left.
    pub(super) fn tell_left(&mut self, left: LeftPorts) {
        self.left.insert(self.me, left);
    }

    /// What is known of a node's liveness; none before the first judgement, and of one that is not
    /// watched.
    pub(super) fn liveness(&self, node: u32) -> Option<Liveness> {
        self.liveness_of.get(&node).copied()
    }

    /// The liveness of every node.
    pub(super) fn liveness_of(&self) -> &BTreeMap<u32, Liveness> {
        &self.liveness_of
    }

    /// How each of these directors but this one is heard.
    pub(super) fn directors(&self, directors: &[u32]) -> BTreeMap<u32, HeardDirector<'_>> {
        let others = directors.iter().copied().filter(|node| *node != self.me);
        let heard = |node: u32| {
            let (heartbeat, liveness) = (self.peers.last(node), self.liveness(node));
            (node, HeardDirector { heartbeat, unproven: self.peers.unproven(node), liveness })
        };
        others.map(heard).collect()
    }

    /// This director suspects its own link.
    pub(super) fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// It suspects its own link, or did until a moment ago.
    pub(super) fn suspects_link(&self) -> bool {
        self.isolated || self.attended < self.trusts_from
    }

    /// How many heartbeats there were of each kind.
    pub(super) fn counts(&self) -> HeardCounts {
        self.peers.counts()
    }

    /// True if a node's heartbeats say that it leaves, and no cvipd of it has written since then.
    fn says_that_it_leaves(&self, node: u32, store: &StoreView) -> bool {
        self.peers.last(node).is_some_and(|heartbeat| {
            let is_later = |record: &&RecordSummary| {
                !record.leaving && counter::is_later(record.incarnation, heartbeat.incarnation)
            };
            heartbeat.leaving && store.records.get(&node).filter(is_later).is_none()
        })
    }

    fn leaves(&self, node: u32, store: &StoreView) -> bool {
        store.leaves(node) || self.says_that_it_leaves(node, store)
    }

    /// The nodes that have left the cluster.
    pub(super) fn gone(&self, store: &StoreView) -> BTreeSet<u32> {
        let gone = self.liveness_of.iter().filter(|(_, liveness)| **liveness != Liveness::Alive);
        gone.map(|(node, _)| *node).filter(|node| self.leaves(*node, store)).collect()
    }

    /// The nodes that this active director asks whether they answer it, since another director does
    /// not hear it: none while all of those hear it.
    pub(super) fn witnesses(
        &self,
        directors: &[u32],
        store: &StoreView,
        now: Instant,
    ) -> BTreeSet<u32> {
        let is_doubted = |node: &u32| {
            *node != self.me && store.alive.contains_key(node) && !self.peers.in_touch(*node, now)
        };
        if !directors.iter().any(is_doubted) {
            return BTreeSet::new();
        }
        let nodes = self.addrs.keys().filter(|node| !directors.contains(node));
        let is_heard = |node: &&u32| self.liveness(**node) == Some(Liveness::Alive);
        nodes.filter(is_heard).take(WITNESSES).copied().collect()
    }

    /// Judges which nodes live, and probes those that might not.
    pub(super) fn judge(
        &mut self,
        store: &StoreView,
        witnesses: &BTreeSet<u32>,
        now: Instant,
        outputs: &mut Vec<MonitorOutput>,
    ) -> Judgement {
        let was_isolated = self.isolated;
        let suspected = self.judge_link(store, now, outputs);
        let mut is_answered = false;
        let mut liveness_of = BTreeMap::new();
        for (node, addrs) in &self.addrs {
            let heard = self.peers.heard_ago(*node, now);
            let leased = store.alive.contains_key(node);
            let heartbeats = match heard {
                None => HeartbeatEvidence::Never,
                Some(_) if suspected.contains(node) => HeartbeatEvidence::Stopped,
                Some(_) => HeartbeatEvidence::Come,
            };
            let is_doubtful = match heard {
                None => !leased,
                Some(unheard_for) => unheard_for >= Timing::default().silence / 2,
            };
            let is_witness = witnesses.contains(node);
            let echo = self.probes.echo(*node, addrs, is_doubtful || is_witness, now, outputs);
            is_answered |= is_witness && echo;
            // A lease was all that spoke for a node that was never heard: only now it is asked.
            let unheard_for = heard.unwrap_or_else(|| self.probes.asked_for(*node, now));
            let liveness = Evidence { heartbeats, echo, leased, unheard_for }.liveness();
            // A director that suspects its own link declares no node dead.
            let liveness = if self.isolated { liveness.min(Liveness::Suspected) } else { liveness };
            let before = self.liveness(*node).unwrap_or(Liveness::Alive);
            let liveness = if now < self.unsure_until { liveness.min(before) } else { liveness };
            liveness_of.insert(*node, liveness);
            let record = store.records.get(node).filter(|_| liveness == Liveness::AgentDown);
            let services = record.map(|record| record.services.as_slice());
            self.probes.connect(*node, services, addrs, now, outputs);
        }
        let before = std::mem::replace(&mut self.liveness_of, liveness_of);
        let is_unreached = |liveness: &Liveness, isolated: bool| {
            isolated || matches!(liveness, Liveness::Suspected | Liveness::Dead)
        };
        let is_still =
            |node| self.liveness_of.get(node).is_some_and(|is| is_unreached(is, self.isolated));
        let mut unreached = before.iter().filter(|(_, was)| is_unreached(was, was_isolated));
        let reaches_again = unreached.any(|(node, _)| !is_still(node));
        self.tell_changes(&before, store, now, outputs);
        // What says nothing leaves in force what was said before.
        for node in self.addrs.keys() {
            if let Some(left) = self.peers.last(*node).and_then(|heartbeat| heartbeat.left.clone())
            {
                self.left.insert(*node, left);
            }
        }
        Judgement { is_answered, reaches_again }
    }

    /// Judges whether this director's own link is good; the nodes that are not heard.
    fn judge_link(
        &mut self,
        store: &StoreView,
        now: Instant,
        outputs: &mut Vec<MonitorOutput>,
    ) -> BTreeSet<u32> {
        let verdict = self.peers.verdict(now);
        let is_heard = |node: &&u32| self.peers.heard_ago(**node, now).is_some();
        let heard: Vec<u32> = self.addrs.keys().filter(is_heard).copied().collect();
        let are_all = heard.len() > 1 && heard.iter().all(|node| verdict.suspected.contains(node));
        let is_suspected = verdict.suspicion == Suspicion::OwnLink || are_all;
        // Where the store is heard, and has ended the leases of all that are silent, they are gone.
        let is_gone =
            |node: &u32| !self.peers.silent(*node, now) || !store.alive.contains_key(node);
        let is_witnessed = is_suspected && !store.is_unavailable() && heard.iter().all(is_gone);
        if is_witnessed {
            self.peers.trust_link();
        }
        let isolated = is_suspected && !is_witnessed;
        if isolated != self.isolated {
            self.isolated = isolated;
            self.trusts_from = now + Timing::default().silence;
            let event = match isolated {
                true => {
                    warn!(
                        "no heartbeats from most nodes at once: it may be this director's own link"
                    );
                    DirectorEvent::Isolated
                }
                false => {
                    info!("nodes are heard again");
                    DirectorEvent::IsolationEnded
                }
            };
            outputs.push(MonitorOutput::Notice(MonitorNotice::Event(event)));
        }
        verdict.suspected
    }

    /// Tells of each node whose liveness is another than before.
    fn tell_changes(
        &mut self,
        before: &BTreeMap<u32, Liveness>,
        store: &StoreView,
        now: Instant,
        outputs: &mut Vec<MonitorOutput>,
    ) {
        let mut event = |event| outputs.push(MonitorOutput::Notice(MonitorNotice::Event(event)));
        for (node, liveness) in &self.liveness_of {
            let (node, liveness) = (*node, *liveness);
            let before = before.get(&node).copied().unwrap_or(Liveness::Alive);
            let is_heard = self.peers.heard_ago(node, now).is_some();
            let is_leased = store.alive.contains_key(&node);
            match self.absent.tell(node, before, liveness, is_heard, is_leased) {
                News::Known => {}
                // It is no fault that it is not heard any more, however that goes on.
                News::Event if liveness != Liveness::Alive && self.leaves(node, store) => {
                    if before == Liveness::Alive {
                        info!("node {node} has left the cluster");
                        event(DirectorEvent::NodeLeft { node });
                    }
                }
                News::Came => info!("node {node} is heard"),
                News::Absent => info!(
                    "node {node} has not been heard since this start, and has no lease: its cvipd \
                     does not run"
                ),
                News::Event => {
                    match liveness {
                        Liveness::Alive => info!("node {node} is heard again"),
                        Liveness::AgentDown => warn!(
                            "node {node} is up but its cvipd sends no heartbeats; probing its servers"
                        ),
                        Liveness::Suspected => {
                            warn!("node {node} is unreachable: it gets no new connections")
                        }
                        Liveness::Dead => error!("node {node} is dead: its connections are cut"),
                    }
                    event(DirectorEvent::Node { node, liveness });
                }
            }
        }
    }

    /// What the table is to obey of all this; the rest of it is empty.
    pub(super) fn restrictions(&self, now: Instant) -> Restrictions {
        let of = |liveness| {
            let nodes = self.liveness_of.iter().filter(move |(_, is)| **is == liveness);
            nodes.map(|(node, _)| *node).collect()
        };
        // A director that trusts its link again hears the nodes one after the other.
        let trusts = !self.isolated && now >= self.trusts_from;
        let leaving = self.addrs.keys().filter_map(|node| {
            let heartbeat = self.peers.last(*node)?;
            Some((*node, heartbeat.leaving.then_some(heartbeat.incarnation)))
        });
        Restrictions {
            suspected: if trusts { of(Liveness::Suspected) } else { BTreeSet::new() },
            dead: of(Liveness::Dead),
            unhealthy: self.probes.unhealthy(),
            leaving: leaving.collect(),
            left: self.left.clone(),
            unknown: self.unknown(now),
            ..Restrictions::default()
        }
    }

    /// The nodes that were not heard yet, in the first time after the start.
    pub(super) fn unknown(&self, now: Instant) -> BTreeSet<u32> {
        let is_new = now < self.started + KNOWN_AFTER;
        let is_unheard = |node: &&u32| is_new && self.peers.last(**node).is_none();
        self.addrs.keys().filter(is_unheard).copied().collect()
    }
}
