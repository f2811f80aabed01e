//! This director's place in its set: it drives the [`Election`] by what is heard and stored, asks
//! for claims, and remembers terms. Pure.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::messages::{ClaimRequest, MonitorIdentity, MonitorNotice, MonitorOutput};
use super::store_view::StoreView;
use super::terms::RememberedTerms;
use super::vouching::PeerVouches;
use super::wire::Terms;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::counter;
use crate::director::DirectorEvent;
use crate::director::election::{
    Election, ElectionAction, ElectionInput, ElectionPeer, ElectionRole, PeerLiveness,
};
use crate::director::liveness::Liveness;
use crate::heartbeat::{Heartbeat, Leadership};
use crate::store::{Elected, TermClaim};

/// What a claim that is under way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum ClaimPurpose {
    /// The election goes on.
    Election,
    /// This director hands over, and the answer is awaited.
    HandOver,
}

/// Another director, as it is heard.
#[derive(Clone, Copy, Debug)]
pub struct HeardDirector<'a> {
    /// Its last heartbeat, if one came.
    pub heartbeat: Option<&'a Heartbeat>,
    /// What it said of its leaderships in one that may be a recording.
    pub unproven: &'a [Leadership],
    /// Its liveness, once it was judged.
    pub liveness: Option<Liveness>,
}

/// What is known when the election is held.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// cvip.conf.
    pub conf: &'a Conf,
    /// The store, as it was last read.
    pub store: &'a StoreView,
    /// The other directors of the set.
    pub directors: &'a BTreeMap<u32, HeardDirector<'a>>,
    /// This director suspects its own link, or did until a moment ago.
    pub suspects_link: bool,
    /// Another host was proved to answer for a CVIP.
    pub conflict: bool,
}

/// This director as a candidate in the election of its set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidacy {
    me: u32,
    incarnation: u64,
    /// The set's directors, in cvip.conf's order.
    pub order: Vec<u32>,
    election: Election,
    pub(super) terms: RememberedTerms,
    vouches: PeerVouches,
    /// The claim whose outcome is not known yet: until then nothing is decided.
    under_way: Option<ClaimPurpose>,
    /// Another director is to be elected in its place.
    hands_over: bool,
    /// The director that directs by another cvip.conf, and is waited for.
    waits_for: Option<u32>,
    /// The director that this one took over from, until its record says that it is a standby.
    former: Option<u32>,
    /// This director can carry the CVIPs, as far as it was told.
    pub can_carry: bool,
    /// This node is leaving the cluster.
    pub leaving: bool,
    /// It ends, and has handed over or tried to: it carries nothing any more if another can.
    ending: bool,
    /// Why the last claim failed, as it was logged.
    unclaimed: Option<String>,
    /// It was told that this director is a standby.
    told_standby: bool,
}

impl Candidacy {
    /// A standby that was just started, and knows what its file of terms says.
    pub fn new(me: MonitorIdentity, order: Vec<u32>, terms: Terms, now: Instant) -> Candidacy {
        let election = Election::new(me.node, me.incarnation, order.clone(), now)
            .having_given_up(terms.given_up.clone());
        Candidacy {
            me: me.node,
            incarnation: me.incarnation,
            order,
            election,
            terms: RememberedTerms::new(terms),
            vouches: PeerVouches::default(),
            under_way: None,
            hands_over: false,
            waits_for: None,
            former: None,
            can_carry: true,
            leaving: false,
            ending: false,
            unclaimed: None,
            told_standby: false,
        }
    }

    /// It has no other director beside it: no election is held.
    pub fn is_alone(&self) -> bool {
        self.order.len() < 2
    }

    /// Its role at the moment.
    pub fn role(&self) -> ElectionRole {
        self.election.role()
    }

    /// Its role is that of the active director.
    pub fn is_active(&self) -> bool {
        self.role() != ElectionRole::Standby
    }

    /// The set, by its lowest node number.
    pub fn set(&self) -> u32 {
        self.election.set()
    }

    /// The elected director, as the store says.
    pub fn elected(&self, store: &StoreView) -> Option<Elected> {
        store.elected.get(&self.set()).copied()
    }

    /// The director that this one took over from, until its record says that it is a standby.
    pub fn former(&mut self, store: &StoreView) -> Option<u32> {
        self.former = self.former.filter(|former| store.directs(*former));
        self.former
    }

    /// The outcome of a claim is not known yet.
    pub fn is_claiming(&self) -> bool {
        self.under_way.is_some()
    }

    /// Another order, or other directors.
    pub fn reorder(&mut self, order: Vec<u32>, outputs: &mut Vec<MonitorOutput>) {
        self.ending = false;
        self.order = order.clone();
        let set = self.set();
        self.election.reorder(order);
        if let (true, ElectionRole::Active { term }) = (self.set() != set, self.role()) {
            outputs.push(self.terms.note(Some((self.set(), term)), self.election.given_up()));
        }
    }

    /// This director was away for a while.
    pub(super) fn was_away(&mut self, now: Instant) {
        self.election.was_away(now);
    }

    /// An operator asks this director to become the active one: for as long as the answer is waited
    /// for.
    pub fn take_over(&mut self, now: Instant) {
        self.election.ask(now);
    }

    /// Another director is to be elected in its place, for this one ends: from now on it is one
    /// that cannot carry the CVIPs, so that none hands back to it, and it claims nothing while
    /// another can.
    pub fn hand_over(&mut self) {
        (self.ending, self.hands_over) = (true, true);
    }

    /// Feeds a hasher with all that decides what this candidacy does from now on, as
    /// [`Election::hash_at`] does. Of the numbers by which directors vouch for themselves it takes
    /// those that it saw last.
    #[cfg(feature = "internal")]
    pub fn hash_at(&self, now: Instant, hasher: &mut impl Hasher) {
        let Candidacy {
            me,
            incarnation: _,
            order: _,
            election,
            terms,
            vouches,
            under_way,
            hands_over,
            waits_for,
            former,
            can_carry,
            leaving,
            ending,
            // It is only logged.
            unclaimed: _,
            told_standby,
        } = self;
        election.hash_at(now, hasher);
        election.unvouched_for(|node| vouches.of(node), now).hash(hasher);
        vouches.numbers().for_each(|number| number.hash(hasher));
        (me, terms, under_way, hands_over, waits_for, former).hash(hasher);
        (can_carry, leaving, ending, told_standby).hash(hasher);
    }

    /// It can carry the CVIPs, and is to.
    pub fn carries_addresses(&self) -> bool {
        self.can_carry && !self.leaving && !self.ending
    }

    /// What heartbeats say of its set.
    pub fn leadership(&self, store: &StoreView) -> Leadership {
        let set = self.set();
        let (term, active) = match self.role() {
            ElectionRole::Active { term } => (term, true),
            ElectionRole::Standby => {
                // The store may have been emptied since: it is told from which term on it goes on.
                let known = [self.elected(store).map(|elected| elected.term), self.terms.term(set)];
                let latest = self.election.latest();
                (known.into_iter().flatten().fold(latest, counter::latest), false)
            }
        };
        Leadership { set, term, active }
    }

    /// What came of the claim. After an error it may have been won all the same: the store then
    /// names this very cvipd, and the election takes that term.
    pub fn claim_ended(
        &mut self,
        claimed: Result<TermClaim, String>,
        outputs: &mut Vec<MonitorOutput>,
    ) {
        match self.under_way.take() {
            None => {}
            Some(ClaimPurpose::Election) => {
                match &claimed {
                    Ok(TermClaim::Won(Elected { node, term, .. })) if *node != self.me => {
                        info!("node {node} is elected, in term {term}: it can carry the CVIPs");
                    }
                    Ok(TermClaim::Won(elected)) => info!("elected, in term {}", elected.term),
                    Ok(TermClaim::Stands(_)) => info!("another director was elected first"),
                    Err(error) if self.unclaimed.as_ref() == Some(error) => {}
                    Err(error) => warn!("the election cannot be claimed: {error}"),
                }
                self.unclaimed = claimed.err();
            }
            Some(ClaimPurpose::HandOver) => {
                let successor = claimed.map(|claim| match claim {
                    TermClaim::Won(Elected { node, term, .. }) => {
                        info!("node {node} is elected in term {term}: handing over");
                        Some(node)
                    }
                    TermClaim::Stands(_) => None,
                });
                outputs.push(MonitorOutput::HandedOver(successor));
            }
        }
    }

    /// The other directors of the set.
    fn peers(
        &self,
        Circumstances { store, directors, .. }: Circumstances<'_>,
    ) -> BTreeMap<u32, ElectionPeer> {
        let peer = |node: u32, heard: HeardDirector<'_>| {
            let HeardDirector { heartbeat, unproven, liveness } = heard;
            let said = heartbeat.map_or(&[][..], |heartbeat| &heartbeat.leaderships);
            let of_set = said.iter().chain(unproven).filter(|said| said.set == self.set());
            let liveness = match (heartbeat, liveness) {
                (None, _) => PeerLiveness::Unheard,
                (_, Some(Liveness::AgentDown | Liveness::Suspected | Liveness::Dead)) => {
                    PeerLiveness::Suspected
                }
                (Some(heartbeat), _) if heartbeat.leaving => PeerLiveness::Leaving,
                (Some(_), _) => PeerLiveness::Heard,
            };
            ElectionPeer {
                liveness,
                term: of_set.map(|said| said.term).fold(0, counter::latest),
                active: heartbeat
                    .is_some_and(|heartbeat| heartbeat.leaderships.iter().any(|l| l.active)),
                alive: store.alive.get(&node).copied(),
                directing: store.directs(node),
                can_carry: heartbeat.is_none_or(|heartbeat| !heartbeat.cannot_carry),
                vouched: self.vouches.of(node),
            }
        };
        directors.iter().map(|(node, heard)| (*node, peer(*node, *heard))).collect()
    }

    fn input<'a>(
        &self,
        peers: &'a BTreeMap<u32, ElectionPeer>,
        Circumstances { store, suspects_link, conflict, .. }: Circumstances<'_>,
    ) -> ElectionInput<'a> {
        ElectionInput {
            stored: self.elected(store),
            known: store.known,
            unavailable: store.is_unavailable(),
            peers,
            isolated: suspects_link,
            conflict,
            held: self.terms.term(self.set()),
            can_carry: self.carries_addresses(),
        }
    }

    /// Another director that lives and directs, by a cvip.conf that still names it: this one waits
    /// until that one has read the new file, or hands over.
    fn directs_by_another_conf(
        &self,
        Circumstances { conf, store, .. }: Circumstances<'_>,
    ) -> Option<u32> {
        let is_me = |e: &Elected| (e.node, e.incarnation) == (self.me, self.incarnation);
        let directs = |node: &u32| {
            *node != self.me
                && store.alive.contains_key(node)
                && store.directs(*node)
                && !conf.is_director(*node)
        };
        let other = store.records.keys().copied().find(directs);
        other.filter(|_| !self.is_active() && !store.elected.values().any(is_me))
    }

    /// Holds the election: what follows from what is known now.
    pub fn elect(
        &mut self,
        circumstances: Circumstances<'_>,
        now: Instant,
        outputs: &mut Vec<MonitorOutput>,
    ) {
        if self.under_way.is_some() {
            return;
        }
        if std::mem::take(&mut self.hands_over) {
            let peers = self.peers(circumstances);
            match self.election.hand_over(self.input(&peers, circumstances)) {
                Some(ElectionAction::Claim { expected, node, incarnation }) => {
                    outputs.push(self.claim(expected, node, incarnation, ClaimPurpose::HandOver));
                    return;
                }
                _ => outputs.push(MonitorOutput::HandedOver(Ok(None))),
            }
        }
        let waits_for = self.directs_by_another_conf(circumstances);
        if waits_for != self.waits_for {
            self.waits_for = waits_for;
            if let Some(node) = waits_for {
                warn!(
                    "node {node} directs by a cvip.conf that this node does not have: waiting until \
                     it has read the new one (copy the file there, and reload its cvipd)"
                );
            }
        }
        if waits_for.is_some() {
            self.tell_standby(circumstances.store, now, outputs);
            return;
        }
        if self.is_alone() {
            if !self.is_active() {
                outputs.push(MonitorOutput::Notice(MonitorNotice::ElectionRole(
                    self.election.alone(),
                )));
            }
            return;
        }
        self.vouches.follow(&circumstances.store.records, now);
        // One that yields may be elected anew at once: three actions at most.
        for _ in 0..3 {
            let peers = self.peers(circumstances);
            match self.election.step(self.input(&peers, circumstances), now) {
                None => break,
                Some(ElectionAction::Claim { expected, node, incarnation }) => {
                    outputs.push(self.claim(expected, node, incarnation, ClaimPurpose::Election));
                    return;
                }
                Some(ElectionAction::Take { term }) => {
                    self.took(term, circumstances.store, outputs)
                }
                Some(ElectionAction::Yield { term }) => self.yielded(term, outputs),
            }
        }
        // It was replaced before it was started again.
        let held = self.terms.term(self.set()).filter(|term| *term > 0);
        if held.is_some_and(|term| !self.is_active() && !self.election.may_take(term)) {
            outputs.push(self.terms.note(None, self.election.given_up()));
        }
        self.tell_standby(circumstances.store, now, outputs);
    }

    fn claim(
        &mut self,
        expected: Option<u64>,
        node: u32,
        incarnation: u64,
        purpose: ClaimPurpose,
    ) -> MonitorOutput {
        self.under_way = Some(purpose);
        let (set, above) = (self.set(), self.election.latest());
        MonitorOutput::Claim(ClaimRequest { set, above, expected, node, incarnation })
    }

    /// A director that was just started is nothing until it knows what: what its kernel carries
    /// stays. It is a standby once another is elected, or once it has listened for long enough.
    fn tell_standby(&mut self, store: &StoreView, now: Instant, outputs: &mut Vec<MonitorOutput>) {
        let other = store.known && self.elected(store).is_some_and(|e| e.node != self.me);
        let knows = other || self.election.has_listened(now);
        if !self.is_active() && !self.told_standby && knows {
            self.told_standby = true;
            outputs.push(MonitorOutput::Notice(MonitorNotice::ElectionRole(ElectionRole::Standby)));
        }
    }

    fn took(&mut self, term: u64, store: &StoreView, outputs: &mut Vec<MonitorOutput>) {
        info!("this is the active director, in term {term}");
        let mut others = self.order.iter().copied().filter(|node| *node != self.me);
        let from = others.find(|node| store.directs(*node));
        // One that was started anew, or reads another cvip.conf, goes on as what it was.
        let set = self.set();
        let goes_on = self.terms.term(set) == Some(term);
        outputs.push(self.terms.note(Some((set, term)), self.election.given_up()));
        self.told_standby = false;
        let role = ElectionRole::Active { term };
        outputs.push(MonitorOutput::Notice(MonitorNotice::ElectionRole(role)));
        if !goes_on {
            let event = DirectorEvent::Took { term, from };
            outputs.push(MonitorOutput::Notice(MonitorNotice::Event(event)));
        }
        self.former = from;
    }

    fn yielded(&mut self, term: Option<u64>, outputs: &mut Vec<MonitorOutput>) {
        match term {
            Some(term) => info!("another director is active, in term {term}: this one yields"),
            None => warn!(
                "another host answers for the CVIP while the store is unavailable: this director yields"
            ),
        }
        outputs.push(self.terms.note(None, self.election.given_up()));
        (self.told_standby, self.former) = (true, None);
        outputs.push(MonitorOutput::Notice(MonitorNotice::ElectionRole(ElectionRole::Standby)));
        outputs.push(MonitorOutput::Notice(MonitorNotice::Event(DirectorEvent::Yielded { term })));
    }
}
