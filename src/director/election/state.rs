//! One director's view of its set's election: what it claims, takes and yields.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::messages::{ElectionAction, ElectionInput, ElectionPeer, ElectionRole, PeerLiveness};
use super::pace::ClaimPace;
use crate::clock::Instant;
use crate::counter;
use crate::store::Elected;

/// How long a director that was just started, or was away, listens before it judges that no other one
/// is there.
const LISTEN: Duration = Duration::from_secs(2);

/// How much longer each standby waits than the one before it in cvip.conf's order.
const STAGGER: Duration = Duration::from_millis(250);

/// How long a standby leaves it to the active director that cannot carry the CVIPs to hand over: it
/// may not reach the store.
const HANDS_OVER_WITHIN: Duration = Duration::from_millis(500);

/// Within this time after an election a director that is ending has said so: the one elected in its
/// place does not hand back to it.
const SETTLED_AFTER: Duration = Duration::from_millis(300);

/// An elected director that is heard and does not direct for so long is followed by a standby: it
/// does not reach the store, or has given its term up.
const IDLE_AFTER: Duration = Duration::from_secs(3);

/// How long an operator's request for a takeover stands: the program that asked reports by then
/// that it was not answered, and it is not made later.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// From one time that an active director vouches for itself to the next.
pub const VOUCH_EVERY: Duration = Duration::from_millis(500);

/// A director that has vouched for itself, and is not heard, is gone when it has not done so again
/// for so long.
const VOUCHED_FOR: Duration = Duration::from_millis(1500);

/// One director's view of its set's election.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Election {
    node: u32,
    incarnation: u64,
    /// The set's directors in cvip.conf's order.
    order: Vec<u32>,
    role: ElectionRole,
    /// Since when it has listened without a break.
    listens_since: Instant,
    /// By set: the latest term that this director has given up. Neither it nor any before it is
    /// ever taken again.
    given_up: BTreeMap<u32, u64>,
    /// The latest term of this set that is known from anywhere.
    latest: u64,
    /// The elected director, as the store has it, and what was heard of it since.
    incumbent: Option<Incumbent>,
    /// Since when the elected director is gone, for standbys that wait for their turn.
    gone_since: Option<Instant>,
    /// An operator asks this director to take over: until when.
    asked: Option<Instant>,
    pace: ClaimPace,
}

/// The elected director since its election was seen. What was heard before does not count: a
/// director that was elected while this one did not hear it has not stopped sending heartbeats.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Incumbent {
    elected: Elected,
    since: Instant,
    /// It was heard since then.
    heard: bool,
    /// Since when it is heard and says that it does not direct.
    idle_since: Option<Instant>,
    /// Since when it says that it directs and cannot carry the CVIPs.
    unable_since: Option<Instant>,
}

impl Election {
    /// A standby that has just been started.
    pub fn new(node: u32, incarnation: u64, order: Vec<u32>, now: Instant) -> Election {
        Election {
            node,
            incarnation,
            order,
            role: ElectionRole::Standby,
            listens_since: now,
            given_up: BTreeMap::new(),
            latest: 0,
            incumbent: None,
            gone_since: None,
            asked: None,
            pace: ClaimPace::new(now),
        }
    }

    /// One that knows which terms this node has given up before, by set.
    #[must_use]
    pub fn having_given_up(mut self, given_up: BTreeMap<u32, u64>) -> Election {
        self.given_up = given_up;
        self
    }

    /// The role at the moment.
    pub fn role(&self) -> ElectionRole {
        self.role
    }

    /// The latest term that this director has given up in each set.
    pub fn given_up(&self) -> &BTreeMap<u32, u64> {
        &self.given_up
    }

    /// The latest term of the set that is known from anywhere: a claim is for a later one.
    pub fn latest(&self) -> u64 {
        counter::latest(self.latest, self.given_up.get(&self.set()).copied().unwrap_or(0))
    }

    /// The name of the set in the store and in heartbeats: its lowest node number.
    pub fn set(&self) -> u32 {
        self.order.iter().copied().min().unwrap_or(self.node)
    }

    /// A director without others needs no election: it is the active one.
    pub fn alone(&mut self) -> ElectionRole {
        self.role = ElectionRole::Active { term: 0 };
        self.role
    }

    /// Another order, or other directors, after cvip.conf was read again. The terms of one set say
    /// nothing in another.
    pub fn reorder(&mut self, order: Vec<u32>) {
        let before = self.set();
        let order_before = std::mem::replace(&mut self.order, order);
        if self.set() == before {
            return;
        }
        if let ElectionRole::Active { term } = self.role {
            // Should it come back into that set, it is elected anew.
            let order = std::mem::replace(&mut self.order, order_before);
            self.give_up(term);
            self.order = order;
            self.role = ElectionRole::Active { term: 0 };
        }
        (self.latest, self.incumbent, self.gone_since) = (0, None, None);
        self.asked = None;
    }

    /// An operator asks this director to take over.
    pub fn ask(&mut self, now: Instant) {
        self.asked = (self.role == ElectionRole::Standby).then(|| now + ASKED_FOR);
    }

    fn give_up(&mut self, term: u64) {
        if term > 0 {
            let given_up = self.given_up.entry(self.set()).or_default();
            *given_up = counter::latest(*given_up, term);
        }
    }

    /// A term that this director may take: it has given up neither it nor a later one.
    pub fn may_take(&self, term: u64) -> bool {
        let given_up = self.given_up.get(&self.set()).copied().unwrap_or(0);
        counter::is_later(term, given_up)
    }

    /// What is to be done now, if anything. The role has changed when this returns, and a claim is
    /// answered by [`Election::step`] once the store shows what came of it.
    pub fn step(&mut self, input: ElectionInput<'_>, now: Instant) -> Option<ElectionAction> {
        self.observe(input, now);
        self.asked = self.asked.filter(|until| now < *until);
        let before = self.role;
        let action = match before {
            ElectionRole::Active { term: 0 } => self.unelected(input, now),
            ElectionRole::Active { term } => self.active(term, input, now),
            ElectionRole::Standby => self.standby(input, now),
        };
        match action {
            Some(ElectionAction::Take { term }) => {
                (self.role, self.asked, self.gone_since) =
                    (ElectionRole::Active { term }, None, None);
            }
            Some(ElectionAction::Yield { .. }) => {
                if let ElectionRole::Active { term } = before {
                    self.give_up(term);
                }
                (self.role, self.gone_since) = (ElectionRole::Standby, None);
            }
            Some(ElectionAction::Claim { expected, node, .. }) => {
                // A director that has itself elected anew replaces no other.
                let is_anew = match before {
                    ElectionRole::Active { .. } => node == self.node,
                    ElectionRole::Standby => {
                        input.stored.is_none_or(|elected| elected.node == self.node)
                    }
                };
                self.pace.tried(expected, !is_anew && self.asked.is_none(), now);
            }
            None => {}
        }
        action
    }

    /// Feeds a hasher with all that decides what this election does from now on: of each time how
    /// far off it is, and that no further than matters. Two elections that feed it alike act alike,
    /// which is how a search through all states knows one that it has seen.
    #[cfg(feature = "internal")]
    pub fn hash_at(&self, now: Instant, hasher: &mut impl Hasher) {
        let Election {
            node,
            incarnation,
            order,
            role,
            listens_since,
            given_up,
            latest,
            incumbent,
            gone_since,
            asked,
            pace,
        } = self;
        let ago = |since: Instant, most: Duration| now.saturating_duration_since(since).min(most);
        (node, incarnation, order, role, given_up, latest).hash(hasher);
        ago(*listens_since, LISTEN).hash(hasher);
        let turns = STAGGER * order.len() as u32;
        gone_since.map(|since| ago(since, turns)).hash(hasher);
        incumbent.is_some().hash(hasher);
        if let Some(Incumbent { elected, since, heard, idle_since, unable_since }) = *incumbent {
            (elected, heard, ago(since, SETTLED_AFTER)).hash(hasher);
            idle_since.map(|since| ago(since, IDLE_AFTER + turns)).hash(hasher);
            unable_since.map(|since| ago(since, HANDS_OVER_WITHIN + turns)).hash(hasher);
        }
        asked.map(|until| until.saturating_duration_since(now)).hash(hasher);
        pace.hash_at(now, hasher);
    }

    /// For how long the elected director has not vouched for itself, and no longer than matters;
    /// none if it has not since it was seen to be elected. `vouched` is the last time of each node.
    pub fn unvouched_for(
        &self,
        vouched: impl Fn(u32) -> Option<Instant>,
        now: Instant,
    ) -> Option<Duration> {
        let incumbent = self.incumbent?;
        let at = vouched(incumbent.elected.node).filter(|at| *at >= incumbent.since)?;
        Some(now.saturating_duration_since(at.max(self.listens_since)).min(VOUCHED_FOR))
    }

    /// Notes what is new of the elected director and of terms.
    fn observe(&mut self, input: ElectionInput<'_>, now: Instant) {
        let stored = input.stored.map(|elected| elected.term);
        let own = if let ElectionRole::Active { term } = self.role { term } else { 0 };
        let heard = input.peers.values().map(|peer| peer.term);
        let known = heard.chain(stored).chain(input.held);
        self.latest = known.fold(counter::latest(self.latest, own), counter::latest);
        if self.incumbent.map(|incumbent| incumbent.elected) != input.stored {
            self.gone_since = None;
            self.incumbent = input.stored.map(|elected| Incumbent {
                elected,
                since: now,
                heard: false,
                idle_since: None,
                unable_since: None,
            });
        }
        let Some(incumbent) = &mut self.incumbent else { return };
        let peer = input.peers.get(&incumbent.elected.node);
        let heard = peer.filter(|peer| peer.liveness == PeerLiveness::Heard);
        let since = |holds: bool, since: Option<Instant>| holds.then(|| since.unwrap_or(now));
        incumbent.heard |= heard.is_some();
        incumbent.idle_since = since(heard.is_some_and(|p| !p.active), incumbent.idle_since);
        let is_unable = heard.is_some_and(|peer| peer.active && !peer.can_carry);
        incumbent.unable_since = since(is_unable, incumbent.unable_since);
    }

    fn active(&self, term: u64, input: ElectionInput<'_>, now: Instant) -> Option<ElectionAction> {
        let later = |than: u64| counter::is_later(than, term);
        if let Some(elected) = input.stored {
            let is_mine = elected.node == self.node;
            // Two of one term come of a store that was emptied: it decides.
            if !is_mine && (later(elected.term) || elected.term == term) {
                return Some(ElectionAction::Yield { term: Some(elected.term) });
            }
            if later(elected.term) && self.is_me(elected) && self.may_take(elected.term) {
                return Some(ElectionAction::Take { term: elected.term });
            }
        }
        if let Some(peer) = self.superior(term, input) {
            return Some(ElectionAction::Yield { term: Some(peer.term) });
        }
        if input.unavailable {
            return input.conflict.then_some(ElectionAction::Yield { term: None });
        }
        let expected = input.stored.map(|elected| elected.term);
        if !input.known || !self.pace.may_try(expected, now) {
            return None;
        }
        // The store was emptied, or put back to an older state: it is told again. Or it names this
        // director in an earlier life, in a term that it has not taken; or its term is another's too.
        if expected != Some(term) || self.shares(term, input) {
            return Some(self.claim(expected));
        }
        let is_settled = self.incumbent.is_some_and(|i| now >= i.since + SETTLED_AFTER);
        let hands_over = is_settled && input.another_should_carry();
        if hands_over && self.pace.may_replace(expected, now) {
            self.hand_over(input)
        } else {
            None
        }
    }

    /// Another is heard to be active in the same term, which an emptied store gave twice. It may not
    /// reach the store, which decides between them: a later term does.
    fn shares(&self, term: u64, input: ElectionInput<'_>) -> bool {
        let is_active = |p: &ElectionPeer| p.liveness == PeerLiveness::Heard && p.active;
        input.peers.values().any(|peer| is_active(peer) && peer.term == term)
    }

    /// The store means this very cvipd.
    fn is_me(&self, elected: Elected) -> bool {
        (elected.node, elected.incarnation) == (self.node, self.incarnation)
    }

    /// The claim by which this director would have itself elected.
    fn claim(&self, expected: Option<u64>) -> ElectionAction {
        ElectionAction::Claim { expected, node: self.node, incarnation: self.incarnation }
    }

    /// An active director that this set has not elected: it has itself elected, unless the set has
    /// another one that directs.
    fn unelected(&self, input: ElectionInput<'_>, now: Instant) -> Option<ElectionAction> {
        // One that the set has elected is heard, be the store unavailable.
        if let Some(peer) = self.superior(0, input) {
            return Some(ElectionAction::Yield { term: Some(peer.term) });
        }
        if !input.known || input.unavailable {
            return None;
        }
        let elected = input.stored;
        if let Some(elected) = elected.filter(|e| self.is_me(*e) && self.may_take(e.term)) {
            return Some(ElectionAction::Take { term: elected.term });
        }
        let directs = |peer: &ElectionPeer| peer.alive.is_some() && peer.directing;
        let is_heard = |peer: &ElectionPeer| peer.liveness == PeerLiveness::Heard && peer.active;
        if let Some(elected) = elected
            && input.peers.get(&elected.node).is_some_and(|p| directs(p) || is_heard(p))
        {
            return Some(ElectionAction::Yield { term: Some(elected.term) });
        }
        let expected = elected.map(|elected| elected.term);
        self.pace.may_try(expected, now).then(|| self.claim(expected))
    }

    /// A director that is heard to be active in a later term; or in the same one, before this one
    /// in cvip.conf's order, while the store does not say whose it is.
    fn superior<'a>(&self, term: u64, input: ElectionInput<'a>) -> Option<&'a ElectionPeer> {
        let is_decided = input.stored.is_some_and(|elected| elected.term == term);
        let place = |node: u32| self.order.iter().position(|other| *other == node);
        let is_superior = |(node, peer): &(&u32, &ElectionPeer)| {
            let is_equal = peer.term == term && term > 0 && !is_decided;
            let is_before = is_equal && place(**node) < place(self.node);
            let is_above = counter::is_later(peer.term, term) || is_before;
            peer.liveness == PeerLiveness::Heard && peer.active && is_above
        };
        input.peers.iter().find(is_superior).map(|(_, peer)| peer)
    }

    fn standby(&mut self, input: ElectionInput<'_>, now: Instant) -> Option<ElectionAction> {
        if let Some(held) = input.held.filter(|held| self.is_over(*held, input)) {
            self.give_up(held);
        }
        if !input.known {
            // It was active, and is again before anything else is known.
            let held = input.held.filter(|term| *term == 0 || self.may_take(*term));
            let term = held.filter(|_| self.has_listened(now))?;
            let is_any =
                input.peers.values().any(|p| p.liveness == PeerLiveness::Heard && p.active);
            return (!is_any && !input.isolated).then_some(ElectionAction::Take { term });
        }
        let expected = input.stored.map(|elected| elected.term);
        let mine = input.stored.filter(|elected| elected.node == self.node);
        if let Some(elected) = mine {
            if self.superior(elected.term, input).is_some() {
                return None; // The store has not told yet.
            }
            if self.is_me(elected) && self.may_take(elected.term) {
                return Some(ElectionAction::Take { term: elected.term });
            }
        }
        if input.unavailable {
            self.gone_since = None;
            return None;
        }
        if input.another_should_carry() {
            (self.asked, self.gone_since) = (None, None);
            // The election is this one's to hand on.
            let hands_on = mine.is_some() && self.pace.may_replace(expected, now);
            return if hands_on { self.successor(input) } else { None };
        }
        if self.asked.is_some() {
            return self.pace.may_try(expected, now).then(|| self.claim(expected));
        }
        // One that was active in the very term that stands, and was started again, goes on: what a
        // record says of another that is not heard is older.
        let goes_on = input.held == expected && mine.is_some_and(|e| self.may_take(e.term));
        let another = |peer: &ElectionPeer| directs(peer, expected, mine.is_some());
        let mut others = input.peers.values();
        if others.any(|peer| another(peer) && !(goes_on && peer.liveness != PeerLiveness::Heard)) {
            self.gone_since = None;
            return None;
        }
        // It was elected before it was started again, or has given that term up.
        if mine.is_some() {
            return self.pace.may_try(expected, now).then(|| self.claim(expected));
        }
        let Some(vacant) = self.vacant_since(input, now).filter(|_| !input.isolated) else {
            self.gone_since = None;
            return None;
        };
        let turn = vacant + STAGGER * self.rank(input);
        let claims = now >= turn && self.pace.may_replace(expected, now);
        claims.then(|| self.claim(expected))
    }

    /// A term in which this director was active when it last ran is over: another was elected, or
    /// is heard to be active, in a later one.
    fn is_over(&self, held: u64, input: ElectionInput<'_>) -> bool {
        let later = |term| counter::is_later(term, held);
        let is_other = |elected: &Elected| elected.node != self.node && later(elected.term);
        input.stored.as_ref().is_some_and(is_other) || self.superior(held, input).is_some()
    }

    /// Since when there is no active director, or none that can go on, so that it is the standbys'
    /// turn.
    fn vacant_since(&mut self, input: ElectionInput<'_>, now: Instant) -> Option<Instant> {
        let is_gone = match self.incumbent {
            None => self.has_listened(now) || self.rank(input) == 0,
            Some(incumbent) => self.is_gone(incumbent, input, now),
        };
        if is_gone {
            return Some(*self.gone_since.get_or_insert(now));
        }
        self.gone_since = None;
        let incumbent = self.incumbent?;
        let idle = incumbent.idle_since.map(|since| since + IDLE_AFTER);
        let unable = incumbent.unable_since.filter(|_| input.can_carry);
        let unable = unable.map(|since| since + HANDS_OVER_WITHIN);
        idle.into_iter().chain(unable).min()
    }

    /// It has listened for long enough to know which other directors are there.
    pub fn has_listened(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.listens_since) >= LISTEN
    }

    /// This director was away for a while: what it has waited for without listening has not
    /// lasted.
    pub fn was_away(&mut self, now: Instant) {
        (self.listens_since, self.gone_since) = (now, None);
        if let Some(incumbent) = &mut self.incumbent {
            (incumbent.idle_since, incumbent.unable_since) = (None, None);
        }
    }

    /// Whether the elected director is gone: leaving, no longer heard after it was heard in this
    /// term, or not heard in it and without a lease. One that vouches for itself is unreachable to
    /// this director only.
    fn is_gone(&self, incumbent: Incumbent, input: ElectionInput<'_>, now: Instant) -> bool {
        // A director that cvip.conf does not name any more is not waited for.
        let Some(peer) = input.peers.get(&incumbent.elected.node) else {
            return !self.order.contains(&incumbent.elected.node);
        };
        let unvouched_for = self.unvouched_for(|_| peer.vouched, now);
        match (peer.liveness, unvouched_for) {
            (PeerLiveness::Heard, _) => false,
            (PeerLiveness::Leaving, _) => true,
            (_, Some(unvouched_for)) => unvouched_for >= VOUCHED_FOR,
            (PeerLiveness::Suspected, None) if incumbent.heard => true,
            (PeerLiveness::Suspected | PeerLiveness::Unheard, None) => {
                peer.alive.is_none() && self.has_listened(now)
            }
        }
    }

    /// How many standbys that live come before this one.
    fn rank(&self, input: ElectionInput<'_>) -> u32 {
        let elected = input.stored.map(|elected| elected.node);
        let before = self.order.iter().take_while(|node| **node != self.node);
        let liveness_of = |node: &&u32| {
            Some(**node) != elected
                && input.peers.get(node).is_none_or(|peer| match peer.liveness {
                    // One that cannot carry the CVIPs leaves them to one that can.
                    PeerLiveness::Heard => peer.can_carry || !input.can_carry,
                    // At the first start of all none has been heard yet.
                    PeerLiveness::Unheard => input.stored.is_none(),
                    PeerLiveness::Suspected | PeerLiveness::Leaving => false,
                })
        };
        before.filter(liveness_of).count() as u32
    }

    /// The claim by which an active director hands over: to the first in cvip.conf's order that is
    /// heard and lives, and to one that can carry the CVIPs if there is one.
    pub fn hand_over(&self, input: ElectionInput<'_>) -> Option<ElectionAction> {
        if self.role == ElectionRole::Standby { None } else { self.successor(input) }
    }

    fn successor(&self, input: ElectionInput<'_>) -> Option<ElectionAction> {
        let successor = |node: &u32| {
            let peer = input.peers.get(node).filter(|peer| peer.liveness == PeerLiveness::Heard)?;
            Some((!peer.can_carry, *node, peer.alive?))
        };
        let successors = self.order.iter().filter_map(successor);
        let (_, node, incarnation) = successors.min_by_key(|(is_unable, ..)| *is_unable)?;
        let expected = input.stored.map(|elected| elected.term);
        Some(ElectionAction::Claim { expected, node, incarnation })
    }
}

/// Another directs, or is about to have itself elected: one that lives, and directs by a cvip.conf
/// in which it is alone, sends us no heartbeats; one that was elected in a set of another name, or
/// in a term that the store has lost, will have itself elected. `mine`: the store still names this
/// director, which directs no longer: the one that took its place will have itself elected too.
fn directs(peer: &ElectionPeer, expected: Option<u64>, mine: bool) -> bool {
    let by_record = peer.alive.is_some() && peer.directing;
    match peer.liveness {
        PeerLiveness::Unheard => by_record,
        PeerLiveness::Heard => {
            let is_unknown = peer.term == 0 || counter::is_later(peer.term, expected.unwrap_or(0));
            peer.active && is_unknown
        }
        PeerLiveness::Suspected => mine && by_record,
        PeerLiveness::Leaving => false,
    }
}

#[cfg(test)]
mod tests;
