//! A director's monitor: it hears who lives, and knows which director is active.
//!
//! It owns what is heard (heartbeats, echoes, connects, conflicting hosts) and its set's election, and has a
//! thread apart from the table's, so that a long pass over a large table delays no takeover. What
//! it finds leaves it as [`Notice`]s: marks for the table, a part for the one who carries
//! addresses, words for the heartbeat.

mod conflict_watches;
mod conflicts;
mod held;
mod probes;
mod vouching;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::DirectorEvent;
use super::election::{
    Election, ElectionAction, ElectionInput, ElectionPeer, ElectionRole, LISTEN, PeerLiveness,
};
use super::liveness::{Absent, Evidence, HeartbeatEvidence, Liveness, News};
use super::restrictions::Restrictions;
use crate::conf::Conf;
use crate::counter;
use crate::heartbeat::{
    self, HeartbeatContent, HeartbeatSocket, Leadership, LeftPorts, Nonce, Peers, Suspicion,
    Timing, WatchedNode,
};
use crate::net::Reachable;
use crate::store::{Elected, NodeRecord, Store, StoreError, StoreState, TermClaim};
use conflict_watches::ConflictWatches;
use conflicts::{ConflictStep, Conflicts};
use held::RememberedTerms;
use probes::Probes;
use vouching::{PeerVouches, Vouching};

/// It is due every few hundredths of a second ([`Peers::timeout`]): who is this late was kept from
/// it, by a machine without time for it, or by a store that did not answer.
const ABSENT_AFTER: Duration = Duration::from_millis(500);

/// How often it is said that heartbeats are refused.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// Within this time a conflicting host that is asked has answered, and is known
/// ([`ConflictWatch`](crate::net::ConflictWatch)).
const ANSWERED_WITHIN: Duration = Duration::from_millis(1200);

/// How often the file of its term is looked after.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// So many nodes are asked when an active director is to know whether it is reached.
const WITNESSES: usize = 4;

/// What the monitor found.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Marks for the table, all of them.
    Restrictions(Restrictions),
    /// This director's part is another.
    ElectionRole(ElectionRole),
    /// What the heartbeat says from now on; to whom is its owner's to know.
    HeartbeatContent(HeartbeatContent),
    /// This director vouches for itself in its node's record, with another number each time.
    Vouch(u32),
    /// The addresses that this node carries are to be announced again: another host claimed one.
    Announce,
    /// Something worth remembering happened.
    Event(DirectorEvent),
}

/// What `status` and the metrics show of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorView {
    /// This director is the active one.
    pub active: bool,
    /// Its set, by the lowest node number of its directors.
    pub set: u32,
    /// The elected director, as the store says; absent: nobody was ever elected.
    pub elected: Option<u32>,
    /// The highest term that it knows.
    pub term: u64,
    /// What is made of each other node.
    pub liveness_of: BTreeMap<u32, Liveness>,
    /// Those of them that have left the cluster: it is no fault that they are not heard.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<u32>,
    /// It suspects its own link.
    pub isolated: bool,
    /// For how many seconds the store has been away.
    pub store_unavailable_s: Option<u64>,
    /// Heartbeats that were new.
    pub heartbeats_heard: u64,
    /// Heartbeats that were late, doubled, replayed, or of somebody who is not watched.
    pub heartbeats_ignored: u64,
    /// Datagrams that were no heartbeats of this cluster.
    pub heartbeats_refused: u64,
    /// Where no heartbeats are heard, for another program has the port, and which program that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports_taken: Vec<String>,
    /// Address conflicts, as sentences; `status` shows them among what is wrong with addresses.
    #[serde(skip)]
    pub conflicts: Vec<String>,
}

/// One director's monitor.
pub struct Monitor {
    me: u32,
    incarnation: u64,
    conf: Arc<Conf>,
    store: Box<dyn Store>,
    /// The store was read at least once.
    known: bool,
    unavailable: bool,
    started: Instant,
    peers: Peers,
    socket: HeartbeatSocket,
    probes: Probes,
    conflict_watches: ConflictWatches,
    conflicts: Conflicts,
    /// Another host claims an address: it is announced again once this is sure to be the active
    /// director still.
    defends: bool,
    vouching: Vouching,
    vouches: PeerVouches,
    election: Election,
    /// It is alone in its set: nobody is to be asked.
    alone: bool,
    /// Who directs by another cvip.conf, and is waited for.
    former: Option<u32>,
    /// This director can carry the CVIPs, as far as it was told.
    can_carry: bool,
    /// This node is leaving the cluster.
    leaving: bool,
    /// It has handed over, or tried to, since it ends: it carries nothing any more if another can.
    ending: bool,
    /// Ports that nodes have left, as they last said.
    left: BTreeMap<u32, LeftPorts>,
    held: RememberedTerms,
    next_tend: Instant,
    /// Why the last claim failed, as it was said.
    unclaimed: Option<String>,
    /// Where another program has the port, and which one, as it was said.
    taken: Vec<String>,
    isolated: bool,
    /// How many heartbeats had been refused when that was last said, and when that was.
    refused: (u64, Option<Instant>),
    /// Since when it trusts its ears again.
    trusts_from: Instant,
    liveness_of: BTreeMap<u32, Liveness>,
    /// Those who were not there when this director started.
    absent: Absent,
    /// Every node but this one that matters to the set, with its addresses.
    nodes: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// It was told that this director is a standby.
    told_standby: bool,
    restrictions: Restrictions,
    content: HeartbeatContent,
    /// When it was last there to hear and to ask.
    attended: Instant,
    /// It was not there for a while: until then nobody is taken for worse than before, for those
    /// who were not asked could not answer.
    unsure_until: Instant,
    /// When it is sure enough of its part.
    confirm_at: Option<Instant>,
    /// It was asked to tell its part again then.
    tells_role: bool,
    notices: Vec<Notice>,
}

/// Who a monitor is.
#[derive(Clone, Copy, Debug)]
pub struct MonitorIdentity {
    /// Node number.
    pub node: u32,
    /// Which start of its cvipd.
    pub incarnation: u64,
    /// The nonce of its heartbeats.
    pub nonce: Nonce,
}

impl Monitor {
    /// A monitor that has heard nobody yet. `run_dir` keeps the term in which it was active.
    ///
    /// # Errors
    /// The system refuses a descriptor.
    pub fn new(
        me: MonitorIdentity,
        conf: Arc<Conf>,
        store: Box<dyn Store>,
        socket: HeartbeatSocket,
        run_dir: &Path,
        now: Instant,
    ) -> std::io::Result<Monitor> {
        let order = order(&conf, me.node);
        let set = order.iter().copied().min().unwrap_or(me.node);
        let held = RememberedTerms::open(run_dir, me.node, set);
        let election = Election::new(me.node, me.incarnation, order.clone(), now);
        let mut monitor = Monitor {
            me: me.node,
            incarnation: me.incarnation,
            alone: order.len() < 2,
            former: None,
            can_carry: true,
            leaving: false,
            ending: false,
            left: BTreeMap::new(),
            election: election.having_given_up(held.given_up().clone()),
            conf,
            store,
            known: false,
            unavailable: false,
            started: now,
            peers: Peers::new(me.node, me.nonce, Timing::default(), now),
            socket,
            probes: Probes::new()?,
            conflict_watches: ConflictWatches::default(),
            conflicts: Conflicts::new(now),
            defends: false,
            vouching: Vouching::new(now),
            vouches: PeerVouches::default(),
            held,
            next_tend: now,
            unclaimed: None,
            taken: Vec::new(),
            isolated: false,
            refused: (0, None),
            trusts_from: now,
            liveness_of: BTreeMap::new(),
            absent: Absent::default(),
            nodes: BTreeMap::new(),
            told_standby: false,
            restrictions: Restrictions::default(),
            content: HeartbeatContent::default(),
            attended: now,
            unsure_until: now,
            confirm_at: None,
            tells_role: false,
            // The table may still have those of a monitor before this one.
            notices: vec![Notice::Restrictions(Restrictions::default())],
        };
        monitor.follow_store();
        monitor.nodes = monitor.nodes();
        monitor.watch(now);
        Ok(monitor)
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.store.wakeup()];
        fds.extend(self.socket.fds());
        fds.extend(self.probes.fds());
        fds.extend(self.conflict_watches.fds());
        fds
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        let own = self.peers.timeout(now);
        let confirm = self.confirm_at.map(|at| at.saturating_duration_since(now));
        let others = self.probes.timeout(now).into_iter().chain(self.conflict_watches.timeout(now));
        let defence = self.conflicts.due().map(|at| at.saturating_duration_since(now));
        let others = others.chain(confirm).chain(defence);
        others.fold(own, Duration::min)
    }

    /// Takes a new configuration. A director that is no longer one is ended by its owner.
    pub fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.conf = conf;
        self.ending = false;
        let order = order(&self.conf, self.me);
        self.alone = order.len() < 2;
        let set = self.election.set();
        self.election.reorder(order);
        if let (true, ElectionRole::Active { term }) =
            (self.election.set() != set, self.election.role())
        {
            self.held.write(Some((self.election.set(), term)), self.election.given_up());
        }
        self.nodes = self.nodes();
        self.watch(now);
    }

    /// An operator asks this director to become the active one: for as long as the answer is waited for.
    pub fn take_over(&mut self, now: Instant) {
        self.election.ask(now);
    }

    /// The ports that this director's own node has left: its own heartbeat does not reach it.
    pub fn tell_left(&mut self, left: LeftPorts) {
        self.left.insert(self.me, left);
    }

    /// Whether this director can carry its set's CVIPs: it can until something else is said. One that
    /// cannot hands over while another lives that can, and claims nothing until then.
    pub fn carries(&mut self, can_carry: bool, now: Instant) {
        if can_carry != self.can_carry {
            self.can_carry = can_carry;
            self.elect(now);
            self.speak();
        }
    }

    /// This node begins to leave the cluster: its heartbeats say so, and it directs only while no
    /// other director lives that can.
    pub fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.elect(now);
        self.speak();
    }

    /// Elects a successor, if this director is active and one lives; gives its number. This one
    /// yields once it sees the new term. It is ending: from now on it is one that cannot carry the
    /// CVIPs, so that nobody hands back to it, and it claims nothing while another can.
    ///
    /// # Errors
    /// The store does not answer: nothing is handed over.
    pub fn hand_over(&mut self) -> Result<Option<u32>, StoreError> {
        self.ending = true;
        self.speak();
        let peers = self.directors();
        let action = self.election.hand_over(self.input(&peers));
        let Some(ElectionAction::Claim { expected, node, incarnation }) = action else {
            return Ok(None);
        };
        self.store.surpass(self.election.set(), self.election.latest());
        match self.store.claim(self.election.set(), expected, node, incarnation)? {
            TermClaim::Won(elected) => {
                info!("node {} is elected in term {}: handing over", elected.node, elected.term);
                Ok(Some(elected.node))
            }
            TermClaim::Stands(_) => Ok(None),
        }
    }

    /// This director was not there for a while, and may have been replaced: its part is told again
    /// once that is sure. The store knows; while it is away, whoever answers for the CVIP does.
    pub fn confirm(&mut self, now: Instant) {
        self.tells_role = true;
        self.make_sure(now);
    }

    /// The addresses that this node carries as the active director, and announces: all of them.
    pub fn announced(&mut self, announced: Vec<Reachable>) {
        self.conflicts.announced(announced);
    }

    fn make_sure(&mut self, now: Instant) {
        self.store.invalidate();
        self.follow_store();
        self.judge(now);
        self.elect(now);
        self.confirm_at = Some(match self.unavailable && !self.alone {
            true => {
                let addrs = self.conflicts.doubt_at_once(now);
                self.conflict_watches.ask(&addrs, now);
                now + ANSWERED_WITHIN
            }
            false => now,
        });
    }

    /// Hears, asks, decides; what came of it.
    pub fn step(&mut self, now: Instant) -> Vec<Notice> {
        if now.duration_since(self.attended) > ABSENT_AFTER {
            self.unsure_until = now + Timing::default().silence;
        }
        self.attended = now;
        if now >= self.next_tend {
            self.next_tend = now + TEND_EVERY;
            self.held.tend();
            self.tend_ports();
        }
        let mut look = self.follow_store();
        if look {
            self.watch(now);
        }
        let heartbeats: Vec<_> = self.socket.receive().collect();
        self.tell_refused(now);
        for heartbeat in heartbeats {
            look |= !heartbeat.leaderships.is_empty() || heartbeat.leaving;
            self.peers.hear(heartbeat, now);
        }
        look |= self.probes.step(now);
        look |= self.hear_conflicts(now);
        if look || self.peers.timeout(now).is_zero() {
            self.judge(now);
            self.elect(now);
            self.speak();
        }
        if self.confirm_at.is_some_and(|at| now >= at) {
            self.confirm_at = None;
            if std::mem::take(&mut self.tells_role) {
                self.notices.push(Notice::ElectionRole(self.election.role()));
            }
            if std::mem::take(&mut self.defends) && self.election.role() != ElectionRole::Standby {
                self.defend();
            }
        }
        std::mem::take(&mut self.notices)
    }

    /// True if another host was proved to have an address, or is one no longer.
    fn hear_conflicts(&mut self, now: Instant) -> bool {
        let before = self.conflicts.is_proved();
        for claim in self.conflict_watches.step(now) {
            self.conflicts.claimed(claim, now);
        }
        self.conflicts.prove(self.conflict_watches.proved());
        let ConflictStep { ask, over, defend } = self.conflicts.step(now);
        self.conflict_watches.ask(&ask, now);
        for address in over {
            info!("the address conflict over {address} is over");
            self.tell(DirectorEvent::ConflictOver { address });
        }
        match defend {
            true if self.alone => self.defend(),
            true => {
                self.defends = true;
                self.make_sure(now);
            }
            false => {}
        }
        self.conflicts.is_proved() != before
    }

    /// Has the addresses announced again, and tells of the conflict.
    fn defend(&mut self) {
        self.notices.push(Notice::Announce);
        for (address, by) in self.conflicts.confirm() {
            let by = by.to_string();
            warn!("address conflict: another host, {by}, claims {address}: announcing it again");
            self.tell(DirectorEvent::Conflict { address, by });
        }
    }

    /// What it knows.
    pub fn view(&self, now: Instant) -> MonitorView {
        let unavailable = self.store.unavailable_since().filter(|_| self.unavailable);
        let stored = self.stored();
        let (active, own) = match self.election.role() {
            ElectionRole::Active { term } => (true, term),
            ElectionRole::Standby => (false, 0),
        };
        let (heard, received) = (self.peers.counts(), self.socket.counts());
        MonitorView {
            active,
            set: self.election.set(),
            elected: stored.map(|elected| elected.node),
            term: stored.map_or(own, |elected| counter::latest(elected.term, own)),
            liveness_of: self.liveness_of.clone(),
            left: self.left(),
            isolated: self.isolated,
            store_unavailable_s: unavailable
                .map(|since| now.saturating_duration_since(since).as_secs()),
            heartbeats_heard: heard.fresh,
            heartbeats_ignored: heard.old + heard.outlived + heard.unproven + heard.unwatched,
            heartbeats_refused: received.refused(),
            ports_taken: self.taken.clone(),
            conflicts: self.conflicts.faults(),
        }
    }

    /// True if the store says something new.
    fn follow_store(&mut self) -> bool {
        let changed = match self.store.refresh() {
            Ok(refreshed) => {
                self.known = true;
                !refreshed.changed.is_empty()
            }
            // Those who write to it say so.
            Err(_) => false,
        };
        let unavailable = self.store.unavailable_since().is_some();
        if unavailable != self.unavailable {
            self.unavailable = unavailable;
            self.tell(if unavailable {
                DirectorEvent::StoreUnavailable
            } else {
                DirectorEvent::StoreBack
            });
        }
        changed
    }

    /// Says that heartbeats are refused: at first, and then once in a while.
    fn tell_refused(&mut self, now: Instant) {
        let Some(from) = self.socket.refused_from() else { return };
        let (counted, at) = self.refused;
        let refused = self.socket.counts().forged;
        if refused > counted && at.is_none_or(|at| now >= at + REFUSED_EVERY) {
            self.refused = (refused, Some(now));
            warn!(
                "heartbeats from {from} are refused ({refused} so far): has that machine another \
                 cluster key, or does a stranger send them?"
            );
        }
    }

    /// Asks again for ports that another program has.
    fn tend_ports(&mut self) {
        if self.socket.taken().is_empty() && self.taken.is_empty() {
            return;
        }
        if self.socket.tend() {
            info!("heartbeats are heard on ports that another program had");
        }
        let taken = self.socket.taken().iter().map(|address| {
            let who =
                heartbeat::holder(*address).unwrap_or_else(|| "an unknown program".to_owned());
            format!("UDP {address} is taken by {who}")
        });
        let taken: Vec<String> = taken.collect();
        for taken in taken.iter().filter(|taken| !self.taken.contains(taken)) {
            error!(
                "{taken}: no heartbeats are heard there, and nodes are judged by the store and by \
                 probes alone; end that program (it is tried again every second), or set \
                 heartbeat_port in cvip.toml to a port below 1024, which is root's"
            );
        }
        self.taken = taken;
    }

    fn tell(&mut self, event: DirectorEvent) {
        self.notices.push(Notice::Event(event));
    }

    fn stored(&self) -> Option<Elected> {
        self.store.state().directors.get(&self.election.set()).copied()
    }

    fn nodes(&self) -> BTreeMap<u32, BTreeSet<IpAddr>> {
        let mut nodes: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        for cvip in self.conf.cvips.iter().filter(|cvip| cvip.is_director(self.me)) {
            for server in cvip.real_servers.iter().filter(|server| server.node != self.me) {
                nodes.entry(server.node).or_default().insert(server.addr);
            }
        }
        nodes
    }

    /// Watches whom the configuration and the records name.
    fn watch(&mut self, now: Instant) {
        let StoreState { nodes: records, alive, .. } = self.store.state();
        let order = order(&self.conf, self.me);
        let watched = self.nodes.keys().map(|node| (*node, records.get(node)));
        let watched = watched.map(|(node, record)| WatchedNode {
            node,
            hears_us: order.contains(&node),
            // A record may have been written by somebody else; the lease says who lives.
            least_incarnation: match alive.get(&node) {
                Some(living) => *living,
                None => record.map_or(0, |record| record.incarnation),
            },
        });
        let watched: Vec<WatchedNode> = watched.collect();
        self.peers.watch(watched, now);
    }

    /// True if a node's heartbeats say that it leaves, and no cvipd of it has written since then.
    fn says_that_it_leaves(&self, node: u32) -> bool {
        let record = self.store.state().nodes.get(&node);
        self.peers.last(node).is_some_and(|heartbeat| {
            let is_later = |record: &NodeRecord| {
                !record.leaving && counter::is_later(record.incarnation, heartbeat.incarnation)
            };
            heartbeat.leaving && !record.is_some_and(is_later)
        })
    }

    /// The nodes that have left the cluster.
    fn left(&self) -> BTreeSet<u32> {
        let records = &self.store.state().nodes;
        let is_gone = self.liveness_of.iter().filter(|(_, liveness)| **liveness != Liveness::Alive);
        let leaves = |node: &u32| {
            records.get(node).is_some_and(|record| record.leaving)
                || self.says_that_it_leaves(*node)
        };
        is_gone.map(|(node, _)| *node).filter(leaves).collect()
    }

    /// Judges who lives, and asks those who might not.
    fn judge(&mut self, now: Instant) {
        let verdict = self.peers.verdict(now);
        let heard: Vec<u32> = self
            .nodes
            .keys()
            .filter(|node| self.peers.heard_ago(**node, now).is_some())
            .copied()
            .collect();
        let all_suspected =
            heard.len() > 1 && heard.iter().all(|node| verdict.suspected.contains(node));
        let suspected = verdict.suspicion == Suspicion::OwnLink || all_suspected;
        // Where the store is heard, and says that all of them are gone, they are.
        let alive = &self.store.state().alive;
        let is_gone = |node: &u32| !verdict.suspected.contains(node) || !alive.contains_key(node);
        let witnessed = suspected && !self.unavailable && heard.iter().all(is_gone);
        if witnessed {
            self.peers.trust_link();
        }
        let isolated = suspected && !witnessed;
        if isolated != self.isolated {
            self.isolated = isolated;
            self.trusts_from = now + Timing::default().silence;
            self.tell(if isolated {
                DirectorEvent::Isolated
            } else {
                DirectorEvent::IsolationEnded
            });
            match isolated {
                true => warn!("most nodes fell silent at once: it may be this director's own link"),
                false => info!("nodes are heard again"),
            }
        }
        let witnesses = self.witnesses(now);
        let leaving = self.nodes.keys().copied().filter(|node| self.says_that_it_leaves(*node));
        let leaving: BTreeSet<u32> = leaving.collect();
        let mut is_answered = false;
        let StoreState { nodes: records, alive, .. } = self.store.state();
        let mut liveness_of = BTreeMap::new();
        for (node, addrs) in &self.nodes {
            let heard = self.peers.heard_ago(*node, now);
            let quiet = heard.unwrap_or_else(|| now.saturating_duration_since(self.started));
            let leased = alive.contains_key(node);
            let heartbeats = match heard {
                None => HeartbeatEvidence::Never,
                Some(_) if verdict.suspected.contains(node) => HeartbeatEvidence::Stopped,
                Some(_) => HeartbeatEvidence::Come,
            };
            let doubtful = match heartbeats {
                HeartbeatEvidence::Never => !leased,
                _ => quiet >= Timing::default().silence / 2,
            };
            let is_witness = witnesses.contains(node);
            let echo = self.probes.echo(*node, addrs, doubtful || is_witness, now);
            is_answered |= is_witness && echo;
            let liveness = Evidence { heartbeats, echo, leased, quiet }.liveness();
            // Whoever cannot trust his ears takes nobody out of the world.
            let liveness = if self.isolated { liveness.min(Liveness::Suspected) } else { liveness };
            let before = self.liveness_of.get(node).copied().unwrap_or(Liveness::Alive);
            let liveness = if now < self.unsure_until { liveness.min(before) } else { liveness };
            liveness_of.insert(*node, liveness);
            let record = records.get(node).filter(|_| liveness == Liveness::AgentDown);
            self.probes.ask(*node, record, addrs, now);
        }
        for (node, liveness) in &liveness_of {
            let before = self.liveness_of.get(node).copied().unwrap_or(Liveness::Alive);
            let heard = self.peers.heard_ago(*node, now).is_some();
            let leaves =
                leaving.contains(node) || records.get(node).is_some_and(|record| record.leaving);
            match self.absent.tell(*node, before, *liveness, heard, alive.contains_key(node)) {
                News::Known => {}
                // It is no fault that it is not heard any more, however that goes on.
                News::Event if leaves && *liveness != Liveness::Alive => {
                    if before == Liveness::Alive {
                        info!("node {node} has left the cluster");
                        self.notices.push(Notice::Event(DirectorEvent::NodeLeft { node: *node }));
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
                        Liveness::AgentDown => {
                            warn!("node {node} lives, but its cvipd is silent: asking its servers")
                        }
                        Liveness::Suspected => warn!("node {node} is silent: no new connections"),
                        Liveness::Dead => error!("node {node} is gone: its connections are cut"),
                    }
                    self.notices.push(Notice::Event(DirectorEvent::Node {
                        node: *node,
                        liveness: *liveness,
                    }));
                }
            }
        }
        self.liveness_of = liveness_of;
        if let Some(number) = self.vouching.step(is_answered, now) {
            self.notices.push(Notice::Vouch(number));
        }
        let of = |liveness| {
            let nodes = self.liveness_of.iter().filter(move |(_, is)| **is == liveness);
            nodes.map(|(node, _)| *node).collect()
        };
        // Whoever heard nobody hears them one after the other, and not all at the same moment.
        let trusts = !self.isolated && now >= self.trusts_from;
        let said = |node: &u32| Some((*node, self.peers.last(*node)?.left.clone()?));
        let said: Vec<(u32, LeftPorts)> = self.liveness_of.keys().filter_map(said).collect();
        // What says nothing leaves in force what was said before.
        self.left.extend(said);
        let restrictions = Restrictions {
            suspected: if trusts { of(Liveness::Suspected) } else { BTreeSet::new() },
            dead: of(Liveness::Dead),
            unhealthy: self.probes.unhealthy(),
            former_director: self.former_director(),
            leaving,
            left: self.left.clone(),
            ..Restrictions::default()
        };
        if restrictions != self.restrictions {
            self.restrictions = restrictions.clone();
            self.notices.push(Notice::Restrictions(restrictions));
        }
    }

    /// The nodes that this director asks whether they answer it, since another director does not
    /// hear it: none while it is no active director, or all of those hear it.
    fn witnesses(&self, now: Instant) -> BTreeSet<u32> {
        let directors = order(&self.conf, self.me);
        let alive = &self.store.state().alive;
        let is_doubted = |node: &u32| {
            *node != self.me && alive.contains_key(node) && !self.peers.in_touch(*node, now)
        };
        let is_active = self.election.role() != ElectionRole::Standby;
        if !is_active || !directors.iter().any(is_doubted) {
            return BTreeSet::new();
        }
        let nodes = self.nodes.keys().filter(|node| !directors.contains(node));
        let is_heard = |node: &&u32| self.liveness_of.get(node) == Some(&Liveness::Alive);
        nodes.filter(is_heard).take(WITNESSES).copied().collect()
    }

    /// The predecessor, until its record says that it is a standby.
    fn former_director(&self) -> Option<u32> {
        let former_director = self.restrictions.former_director?;
        let records = &self.store.state().nodes;
        records
            .get(&former_director)
            .is_some_and(|record| record.directing)
            .then_some(former_director)
    }

    /// The other directors of the set.
    fn directors(&self) -> BTreeMap<u32, ElectionPeer> {
        let StoreState { alive, nodes: records, .. } = self.store.state();
        let set = self.election.set();
        let peer = |node: u32| {
            let heartbeat = self.peers.last(node);
            let said =
                heartbeat.and_then(|heartbeat| heartbeat.leaderships.iter().find(|l| l.set == set));
            let liveness = match (heartbeat, self.liveness_of.get(&node)) {
                (None, _) => PeerLiveness::Unheard,
                (_, Some(Liveness::AgentDown | Liveness::Suspected | Liveness::Dead)) => {
                    PeerLiveness::Suspected
                }
                (Some(heartbeat), _) if heartbeat.leaving => PeerLiveness::Leaving,
                (Some(_), _) => PeerLiveness::Heard,
            };
            ElectionPeer {
                liveness,
                term: said.map_or(0, |said| said.term),
                active: heartbeat
                    .is_some_and(|heartbeat| heartbeat.leaderships.iter().any(|l| l.active)),
                alive: alive.get(&node).copied(),
                directing: records.get(&node).is_some_and(|record| record.directing),
                can_carry: heartbeat.is_none_or(|heartbeat| !heartbeat.cannot_carry),
                vouched: self.vouches.of(node),
            }
        };
        let others = order(&self.conf, self.me).into_iter().filter(|node| *node != self.me);
        others.map(|node| (node, peer(node))).collect()
    }

    fn input<'a>(&self, peers: &'a BTreeMap<u32, ElectionPeer>) -> ElectionInput<'a> {
        ElectionInput {
            stored: self.stored(),
            known: self.known,
            unavailable: self.unavailable,
            peers,
            isolated: self.isolated || self.attended < self.trusts_from,
            conflict: self.conflicts.is_proved(),
            held: self.held.term(self.election.set()),
            can_carry: self.carries_addresses(),
        }
    }

    /// It can carry the CVIPs, and is to.
    fn carries_addresses(&self) -> bool {
        self.can_carry && !self.leaving && !self.ending
    }

    /// Another who lives and directs, by a cvip.conf that still names it: this director waits until
    /// that one has read the new file, or hands over.
    fn directs_by_another_conf(&self) -> Option<u32> {
        let StoreState { nodes, alive, directors, .. } = self.store.state();
        let is_me = |e: &Elected| (e.node, e.incarnation) == (self.me, self.incarnation);
        let directs = |node: &u32| {
            let record = nodes.get(node).filter(|_| alive.contains_key(node));
            record.is_some_and(|record| record.directing) && !self.conf.is_director(*node)
        };
        let other = nodes.keys().copied().find(|node| *node != self.me && directs(node));
        other.filter(|_| !directors.values().any(is_me))
    }

    fn elect(&mut self, now: Instant) {
        self.elect_one(now);
        let is_active = self.election.role() != ElectionRole::Standby;
        self.conflicts.direct(&self.conf, self.me, is_active);
        self.conflict_watches.watch(self.conflicts.watched(), now);
        let addrs = self.conflicts.doubt(self.unavailable && !self.alone, now);
        self.conflict_watches.ask(&addrs, now);
    }

    fn elect_one(&mut self, now: Instant) {
        let former = self
            .directs_by_another_conf()
            .filter(|_| self.election.role() == ElectionRole::Standby);
        if former != self.former {
            self.former = former;
            if let Some(node) = former {
                warn!(
                    "node {node} directs by a cvip.conf that this node does not have: waiting until \
                     it has read the new one (copy the file there, and reload its cvipd)"
                );
            }
        }
        if former.is_some() {
            self.tell_standby(now);
            return;
        }
        if self.alone {
            if self.election.role() == ElectionRole::Standby {
                self.notices.push(Notice::ElectionRole(self.election.alone()));
            }
            return;
        }
        // A claim that is won changes the store, and that the part: twice at most.
        self.vouches.follow(&self.store.state().nodes, now);
        for _ in 0..3 {
            let peers = self.directors();
            match self.election.step(self.input(&peers), now) {
                None => break,
                Some(ElectionAction::Claim { expected, node, incarnation }) => {
                    let set = self.election.set();
                    self.store.surpass(set, self.election.latest());
                    let claimed = self.store.claim(set, expected, node, incarnation);
                    match &claimed {
                        Ok(TermClaim::Won(Elected { node, term, .. })) if *node != self.me => {
                            info!("node {node} is elected, in term {term}: it can carry the CVIPs");
                        }
                        Ok(TermClaim::Won(elected)) => info!("elected, in term {}", elected.term),
                        Ok(TermClaim::Stands(_)) => info!("another director was faster"),
                        Err(error) if self.unclaimed.as_ref() == Some(&error.to_string()) => {}
                        Err(error) => warn!("the election cannot be claimed: {error}"),
                    }
                    self.unclaimed = claimed.err().map(|error| error.to_string());
                    self.follow_store();
                }
                Some(ElectionAction::Take { term }) => self.took(term, now),
                Some(ElectionAction::Yield { term }) => self.yielded(term),
            }
        }
        // It was replaced before it was started again.
        let held = self.held.term(self.election.set()).filter(|term| *term > 0);
        let is_standby = self.election.role() == ElectionRole::Standby;
        if held.is_some_and(|term| is_standby && !self.election.may_take(term)) {
            self.held.write(None, self.election.given_up());
        }
        self.tell_standby(now);
    }

    /// A director that has just been started is nothing until it knows what: what its kernel
    /// carries stays. It is a standby once another is elected, or nobody is heard of.
    fn tell_standby(&mut self, now: Instant) {
        let standby = self.election.role() == ElectionRole::Standby;
        let other = self.known && self.stored().is_some_and(|elected| elected.node != self.me);
        let listened = now.duration_since(self.started) >= LISTEN;
        if standby && !self.told_standby && (other || listened) {
            self.told_standby = true;
            self.notices.push(Notice::ElectionRole(ElectionRole::Standby));
        }
    }

    fn took(&mut self, term: u64, now: Instant) {
        let elsewhere = |node: &u32| *node != self.me;
        let directing =
            |node: &u32| self.store.state().nodes.get(node).is_some_and(|record| record.directing);
        let others = order(&self.conf, self.me);
        let from = others.into_iter().filter(elsewhere).find(directing);
        info!("this is the active director, in term {term}");
        // One that was started anew, or reads another cvip.conf, goes on as what it was.
        let set = self.election.set();
        let goes_on = self.held.term(set) == Some(term);
        self.held.write(Some((set, term)), self.election.given_up());
        self.told_standby = false;
        self.notices.push(Notice::ElectionRole(ElectionRole::Active { term }));
        if !goes_on {
            self.tell(DirectorEvent::Took { term, from });
        }
        self.restrictions.former_director = from;
        self.notices.push(Notice::Restrictions(self.restrictions.clone()));
        self.judge(now);
    }

    fn yielded(&mut self, term: Option<u64>) {
        match term {
            Some(term) => info!("another director is active, in term {term}: this one yields"),
            None => warn!("another answers for the CVIP while the store is away: this one yields"),
        }
        self.held.write(None, self.election.given_up());
        self.told_standby = true;
        self.notices.push(Notice::ElectionRole(ElectionRole::Standby));
        self.tell(DirectorEvent::Yielded { term });
        if self.restrictions.former_director.take().is_some() {
            self.notices.push(Notice::Restrictions(self.restrictions.clone()));
        }
    }

    /// What the heartbeat says.
    fn speak(&mut self) {
        let (term, active) = match self.election.role() {
            ElectionRole::Active { term } => (term, true),
            ElectionRole::Standby => (self.stored().map_or(0, |elected| elected.term), false),
        };
        let leaderships = vec![Leadership { set: self.election.set(), term, active }];
        let (seen, cannot_carry) = (self.peers.seen(), !self.carries_addresses());
        let leaving = self.leaving;
        let content = HeartbeatContent {
            leaderships,
            seen,
            leaving,
            cannot_carry,
            ..HeartbeatContent::default()
        };
        if content != self.content {
            self.content = content.clone();
            self.notices.push(Notice::HeartbeatContent(content));
        }
    }
}

/// The directors of a node's set, in cvip.conf's order.
pub fn order(conf: &Conf, node: u32) -> Vec<u32> {
    let sets = conf.director_sets();
    let set = sets.into_iter().find(|set| set.directors.contains(&node));
    set.map_or_else(|| vec![node], |set| set.directors)
}
