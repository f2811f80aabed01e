//! What was heard of each peer, and which peers are silent. Pure: heartbeats and the time are
//! given.
//!
//! Only what is new counts. A heartbeat that is not newer than the newest by (incarnation,
//! sequence) came late, twice, or from a recording: it is ignored, and says nothing against its
//! sender either. After a start the observer has no newest to compare with, so
//! - a peer that hears the observer must first show the observer's own nonce, which was chosen at
//!   this start: no recording of earlier times has it;
//! - for a node that hears no other, the caller gives the lowest incarnation to believe in, from
//!   the node's record in the store.
//!
//! What remains is this: an attacker who can hold back a node's heartbeats and let them through
//! later, or who replays to a freshly started director what a node said in its present
//! incarnation, can make that node seem alive for longer. That delays a removal until a probe or
//! the lease tells otherwise; it removes no node.
//!
//! # How fast, and how sure
//!
//! With a heartbeat every 50 ms, a peer is silent after 600 ms. On a network that loses every
//! fifth datagram, delays by 200 ms and by up to 50 ms more or less (so that datagrams overtake
//! each other), a gap of more than 600 ms between two that arrive needs at least 10 lost ones in
//! a row: n periods lie between the two (n - 1 lost: 0.8 x 0.2^(n-1) of all heartbeats that
//! arrive are followed by such a gap), and their delays must differ by more than 600 - 50 n ms.
//! For n = 11 that is one case in eight, for 12 one in two, for 13 seven in eight, then always:
//! 1.0e-8 + 0.8e-8 + 0.3e-8 + 0.1e-8 = 2.2e-8. In 5 minutes 4,800 heartbeats arrive, so a live
//! peer is called silent with a probability of 1.1e-4, once in a month of such a network. At
//! 100 ms, 5 or 6 lost in a row would do: once in some 10 minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timing::Timing;
use super::verdict::{self, Silence, Verdict, VerdictState};
use super::wire::{Heartbeat, Leadership, MAX_SEEN, Nonce, SeenNonce};
use crate::clock::Instant;
use crate::counter;

/// A node to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedNode {
    /// Its number.
    pub node: u32,
    /// It hears this observer's heartbeats: it must show that once before it is believed.
    pub hears_us: bool,
    /// Its heartbeats of lower incarnations are not believed: what its record in the store has.
    pub least_incarnation: u64,
}

/// What a heartbeat was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// New: its sender is alive.
    Fresh,
    /// Not newer than the newest: late, doubled or replayed.
    Old,
    /// Of an incarnation that is over.
    Outlived,
    /// The sender has not shown yet that it hears this observer.
    Unproven,
    /// Of a node that is not watched.
    Unwatched,
}

/// How many heartbeats there were of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardCounts {
    /// [`Heard::Fresh`].
    pub fresh: u64,
    /// [`Heard::Old`].
    pub old: u64,
    /// [`Heard::Outlived`].
    pub outlived: u64,
    /// [`Heard::Unproven`].
    pub unproven: u64,
    /// [`Heard::Unwatched`].
    pub unwatched: u64,
}

/// What is known of all watched nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peers {
    me: u32,
    nonce: Nonce,
    timing: Timing,
    peers: BTreeMap<u32, WatchedPeer>,
    /// When the caller was last seen to work.
    attended: Instant,
    /// When it last asked for a verdict.
    judged: Instant,
    told: bool,
    state: VerdictState,
    counts: HeardCounts,
    /// The peer whose nonce was last given out, for all to have their turn.
    turn: u32,
}

/// What is known of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WatchedPeer {
    watched: WatchedNode,
    /// Its silence counts from here: the last new heartbeat, or when it was first watched, and
    /// later when its silence is forgotten.
    silent_since: Instant,
    heard: Option<Instant>,
    /// (incarnation, sequence) and nonce of the newest, be it proven or not. Only a newer one
    /// replaces it, so that a recording cannot put an old nonce in its place.
    newest: Option<((u64, u64), Nonce)>,
    /// When that came.
    newest_at: Instant,
    /// The nonce with which it showed that it hears this observer.
    proven: Option<Nonce>,
    /// The last new heartbeat.
    heartbeat: Option<Heartbeat>,
    /// What its last heartbeat that was not proven said of its leaderships.
    unproven: Vec<Leadership>,
}

impl WatchedPeer {
    fn new(watched: WatchedNode, now: Instant) -> WatchedPeer {
        WatchedPeer {
            watched,
            silent_since: now,
            heard: None,
            newest: None,
            newest_at: now,
            proven: None,
            heartbeat: None,
            unproven: Vec::new(),
        }
    }
}

impl Peers {
    /// Watches no node yet. `me` and `nonce` are what this observer's own heartbeats say.
    pub fn new(me: u32, nonce: Nonce, timing: Timing, now: Instant) -> Peers {
        Peers {
            me,
            nonce,
            timing,
            peers: BTreeMap::new(),
            attended: now,
            judged: now,
            told: false,
            state: VerdictState::new(),
            counts: HeardCounts::default(),
            turn: 0,
        }
    }

    /// Watches these nodes and no others. What is known of those that were watched before stays
    /// known; a new one has the whole time of silence to be heard.
    pub fn watch(&mut self, nodes: impl IntoIterator<Item = WatchedNode>, now: Instant) {
        self.attend(now);
        let mut before = std::mem::take(&mut self.peers);
        for watched in nodes.into_iter().filter(|watched| watched.node != self.me) {
            let peer = match before.remove(&watched.node) {
                Some(peer) => WatchedPeer { watched, ..peer },
                None => WatchedPeer::new(watched, now),
            };
            self.peers.insert(watched.node, peer);
        }
    }

    /// Forgets what was heard of a node, and watches it as one that was never heard: the store has lost
    /// what it knew of the node, so that its next incarnation may have a lower number than its last.
    pub fn forget(&mut self, node: u32, now: Instant) {
        self.attend(now);
        if let Some(peer) = self.peers.get_mut(&node) {
            *peer = WatchedPeer::new(peer.watched, now);
        }
    }

    /// Takes a heartbeat that came at this moment.
    pub fn hear(&mut self, heartbeat: Heartbeat, now: Instant) -> Heard {
        self.attend(now);
        let heard = self.classify(heartbeat, now);
        *match heard {
            Heard::Fresh => &mut self.counts.fresh,
            Heard::Old => &mut self.counts.old,
            Heard::Outlived => &mut self.counts.outlived,
            Heard::Unproven => &mut self.counts.unproven,
            Heard::Unwatched => &mut self.counts.unwatched,
        } += 1;
        heard
    }

    fn classify(&mut self, heartbeat: Heartbeat, now: Instant) -> Heard {
        let Some(peer) = self.peers.get_mut(&heartbeat.node) else {
            return Heard::Unwatched;
        };
        if counter::is_later(peer.watched.least_incarnation, heartbeat.incarnation) {
            return Heard::Outlived;
        }
        let version = (heartbeat.incarnation, heartbeat.sequence);
        let is_newer = |newest| counter::is_later_pair(version, newest);
        if peer.newest.is_some_and(|(newest, _)| !is_newer(newest)) {
            return Heard::Old;
        }
        peer.newest = Some((version, heartbeat.nonce));
        peer.newest_at = now;
        if peer.watched.hears_us && peer.proven != Some(heartbeat.nonce) {
            if !heartbeat.seen.contains(&SeenNonce { node: self.me, nonce: self.nonce }) {
                peer.unproven = heartbeat.leaderships;
                return Heard::Unproven;
            }
            peer.proven = Some(heartbeat.nonce);
        }
        peer.silent_since = now;
        peer.heard = Some(now);
        peer.heartbeat = Some(heartbeat);
        Heard::Fresh
    }

    /// Which nodes are silent. To be asked whenever [`Peers::timeout`] is over, after all
    /// heartbeats that wait in the socket were taken; it looks at every node, so not after each
    /// heartbeat where there are many.
    pub fn verdict(&mut self, now: Instant) -> Verdict {
        self.attend(now);
        self.judged = now;
        let silence = |peer: &WatchedPeer| Silence {
            lasting: now.saturating_duration_since(peer.silent_since),
            // A node that was never heard has not fallen silent.
            is_expected: peer.heartbeat.as_ref().is_none_or(|heartbeat| heartbeat.leaving),
        };
        let all = self.peers.iter().map(|(node, peer)| (*node, silence(peer))).collect();
        let told = std::mem::take(&mut self.told);
        let judgement = verdict::judge(&self.state, &all, self.timing, told);
        self.state = judgement.state;
        if judgement.forgets {
            for (node, peer) in &mut self.peers {
                let overdue = all[node].lasting >= self.timing.overdue();
                if overdue && !judgement.verdict.suspected.contains(node) {
                    peer.silent_since = now;
                }
            }
        }
        judgement.verdict
    }

    /// The caller has learnt from elsewhere that this observer's own link is good: the next
    /// verdict believes in it.
    pub fn trust_link(&mut self) {
        self.told = true;
    }

    /// How long the caller may wait, or take heartbeats, before it asks for a verdict again.
    pub fn timeout(&self, now: Instant) -> Duration {
        (self.judged + self.timing.period).saturating_duration_since(now)
    }

    /// Whether no new heartbeat of a watched node came for the time of silence, whatever is
    /// behind that: see [`Peers::verdict`] before acting on it.
    pub fn silent(&self, node: u32, now: Instant) -> bool {
        // While the observer itself was away no node was silent.
        let away = now.saturating_duration_since(self.attended) > self.timing.absence();
        let now = if away { self.attended } else { now };
        self.peers.get(&node).is_some_and(|peer| {
            now.saturating_duration_since(peer.silent_since) >= self.timing.silence
        })
    }

    /// How long ago the last new heartbeat of a node came; none if none came, or if the node is
    /// not watched.
    pub fn heard_ago(&self, node: u32, now: Instant) -> Option<Duration> {
        self.peers.get(&node)?.heard.map(|heard| now.saturating_duration_since(heard))
    }

    /// The last new heartbeat of a node: what it says of its leaderships, and whether it said
    /// that it would stop.
    pub fn last(&self, node: u32) -> Option<&Heartbeat> {
        self.peers.get(&node)?.heartbeat.as_ref()
    }

    /// What a node's last heartbeat that was not proven said of its leaderships. It may be a recording, and
    /// so nothing of it holds now; but a term that it names has been given.
    pub fn unproven(&self, node: u32) -> &[Leadership] {
        self.peers.get(&node).map_or(&[], |peer| &peer.unproven)
    }

    /// Nonces to put into the next own heartbeat: of peers that hear this observer and are heard
    /// themselves, in turn if there are more than fit into one. A peer that was not heard for a quarter
    /// of the time of silence is left out, and so learns that it is not heard.
    pub fn seen(&mut self) -> Vec<SeenNonce> {
        let (now, out_of_touch) = (self.attended, self.timing.out_of_touch());
        let hearing = |(node, peer): (&u32, &WatchedPeer)| {
            let (_, nonce) = peer.newest.filter(|_| peer.watched.hears_us)?;
            let is_heard = now.saturating_duration_since(peer.newest_at) < out_of_touch;
            is_heard.then_some(SeenNonce { node: *node, nonce })
        };
        let after = self.peers.range(self.turn.saturating_add(1)..);
        let before = self.peers.range(..=self.turn);
        let seen: Vec<SeenNonce> = after.chain(before).filter_map(hearing).take(MAX_SEEN).collect();
        self.turn = seen.last().map_or(0, |seen| seen.node);
        seen
    }

    /// Whether a peer was heard within a quarter of the time of silence, and says that it hears this observer.
    pub fn in_touch(&self, node: u32, now: Instant) -> bool {
        let Some(peer) = self.peers.get(&node) else { return false };
        let is_heard = |at| now.saturating_duration_since(at) < self.timing.out_of_touch();
        let own = SeenNonce { node: self.me, nonce: self.nonce };
        peer.heard.is_some_and(is_heard)
            && peer.heartbeat.iter().any(|heartbeat| heartbeat.seen.contains(&own))
    }

    /// How many heartbeats there were of each kind.
    pub fn counts(&self) -> HeardCounts {
        self.counts
    }

    /// Notes that the caller works. Was it away, that time counts for no node.
    fn attend(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.attended);
        if gap > self.timing.absence() {
            for peer in self.peers.values_mut() {
                peer.silent_since += gap;
            }
        }
        self.attended = self.attended.max(now);
    }
}

#[cfg(test)]
mod tests;
