//! What the monitor decides, of all that it is told and hears: it follows the store, judges
//! liveness, holds the election, and tells of it. Pure: [`MonitorState::handle`] takes what
//! happened, one thing at a time, and [`MonitorState::step`] gives what is to be done; what came of
//! that is handled again. Each concern has a file of its own; here they are put together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::candidacy::{Candidacy, Circumstances};
use super::conflicts::{ConflictStep, Conflicts, WatchedAddresses};
use super::messages::{
    MonitorCommand, MonitorIdentity, MonitorInput, MonitorNotice, MonitorOutput, MonitorView,
};
use super::nodes::{Judgement, Nodes};
use super::store_view::{StoreChanges, StoreReading, StoreView};
use super::vouching::Vouching;
use super::wire::Terms;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::counter;
use crate::director::DirectorEvent;
use crate::director::election::ElectionRole;
use crate::director::restrictions::Restrictions;
use crate::heartbeat::{Heartbeat, HeartbeatContent, Leadership};

/// Within this time another host that is asked for an address has answered, and is known
/// ([`ConflictWatch`](crate::net::ConflictWatch)).
const ANSWERED_WITHIN: Duration = Duration::from_millis(1200);

/// A store that does not answer, and is not known to be unavailable, is waited for so long: as long
/// as an address lives that is not renewed.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked after what another program took or removed.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// One director's monitor, without its sockets, store and files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MonitorState {
    me: u32,
    conf: Arc<Conf>,
    store: StoreView,
    nodes: Nodes,
    candidacy: Candidacy,
    conflicts: Conflicts,
    vouching: Vouching,
    confirmation: Option<Confirmation>,
    /// Something happened after which everything is to be judged at once.
    looks: bool,
    next_tend: Instant,
    /// What was told and ordered last.
    restrictions: Restrictions,
    content: HeartbeatContent,
    watched: WatchedAddresses,
    outputs: Vec<MonitorOutput>,
}

/// This director makes sure that its role is what it believes: the store knows or, while that is
/// unavailable, the host that answers for the CVIPs does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Confirmation {
    stage: ConfirmationStage,
    /// Its role is then told again.
    tells_role: bool,
    /// Its addresses are then announced again, if it is active.
    defends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ConfirmationStage {
    /// The store is being read.
    Reading,
    /// It did not answer in time, though nothing says that it is unavailable: the next reading
    /// counts, which is waited for until then.
    Awaited(Instant),
    /// It was read, or is unavailable.
    Read,
    /// It is sure from then on.
    SureAt(Instant),
}

impl MonitorState {
    /// One that has heard nothing yet. `terms`: what its file of terms says.
    pub fn new(me: MonitorIdentity, conf: Arc<Conf>, terms: Terms, now: Instant) -> MonitorState {
        let mut nodes = Nodes::new(me, now);
        nodes.configure(&conf);
        let candidacy = Candidacy::new(me, order(&conf, me.node), terms, now);
        let store = StoreView::default();
        nodes.watch(&store, &candidacy.order, now);
        // The table may still have those of a monitor before this one, of other nodes too.
        let restrictions = Restrictions { unknown: nodes.unknown(now), ..Restrictions::default() };
        let notice = MonitorOutput::Notice(MonitorNotice::Restrictions(restrictions.clone()));
        MonitorState {
            me: me.node,
            conf,
            store,
            nodes,
            candidacy,
            conflicts: Conflicts::new(now),
            vouching: Vouching::new(now),
            confirmation: None,
            looks: false,
            next_tend: now,
            restrictions,
            content: HeartbeatContent::default(),
            watched: WatchedAddresses::new(),
            outputs: vec![notice],
        }
    }

    /// What heartbeats say of its set. That is so from the start: a former term that only this
    /// director knows is told before the store is read.
    pub fn leaderships(&self) -> Vec<Leadership> {
        vec![self.candidacy.leadership(&self.store)]
    }

    /// How long it has nothing to do if nothing happens.
    pub fn timeout(&self, now: Instant) -> Duration {
        let confirms_at = self.confirmation.and_then(|confirmation| match confirmation.stage {
            ConfirmationStage::Awaited(at) | ConfirmationStage::SureAt(at) => Some(at),
            ConfirmationStage::Reading | ConfirmationStage::Read => None,
        });
        let due = confirms_at.into_iter().chain(self.conflicts.due()).min();
        let due = due.map(|at| at.saturating_duration_since(now));
        due.into_iter().fold(self.nodes.peers.timeout(now), Duration::min)
    }

    /// The last new heartbeat of another node.
    pub fn last_heartbeat(&self, node: u32) -> Option<&Heartbeat> {
        self.nodes.peers.last(node)
    }

    /// True if a reading of the store says something that it does not know.
    pub fn is_news(&self, reading: &StoreReading) -> bool {
        let StoreReading { changes, unavailable_since, anew } = reading;
        let awaits = self.confirmation.is_some_and(|confirmation| {
            matches!(confirmation.stage, ConfirmationStage::Awaited(_))
        });
        let is_same = self.store.unavailable_since == *unavailable_since;
        let says_nothing = changes.as_ref().is_none_or(StoreChanges::is_empty);
        let is_first = changes.is_some() && !self.store.known;
        *anew || awaits || is_first || !is_same || !says_nothing
    }

    /// The addresses that another host was proved to have, as it was last told.
    pub fn proved(&self) -> &BTreeSet<IpAddr> {
        self.conflicts.proved()
    }

    /// Takes one thing that happened.
    pub fn handle(&mut self, input: MonitorInput, now: Instant) {
        self.attend(now);
        let outputs = &mut self.outputs;
        let mut looks = true;
        match input {
            MonitorInput::Told(command) => self.told(command, now),
            MonitorInput::HandOver => self.candidacy.hand_over(),
            MonitorInput::StoreRead(reading) => looks = self.follow_store(reading, now),
            MonitorInput::Heartbeat(heartbeat) => looks = self.nodes.hear(heartbeat, now),
            MonitorInput::EchoAnswered { addr, asked } => {
                self.nodes.probes.echo_answered(addr, asked);
            }
            MonitorInput::Connected { target, outcome } => {
                self.nodes.probes.connected(target, outcome);
            }
            MonitorInput::Claimed(claim) => {
                self.conflicts.claimed(claim, now);
                looks = false;
            }
            MonitorInput::Proved(addrs) => {
                let before = self.conflicts.is_proved();
                self.conflicts.prove(addrs);
                looks = self.conflicts.is_proved() != before;
            }
            MonitorInput::ClaimEnded(claimed) => self.candidacy.claim_ended(claimed, outputs),
            MonitorInput::TermsWritten(is_written) => {
                outputs.extend(self.candidacy.terms.written(is_written));
                looks = false;
            }
            MonitorInput::TermsMissing => {
                outputs.extend(self.candidacy.terms.missing());
                looks = false;
            }
        }
        self.looks |= looks;
    }

    /// The directors of its set, in the order of election.
    #[cfg(feature = "internal")]
    pub fn order(&self) -> &[u32] {
        &self.candidacy.order
    }

    fn told(&mut self, command: MonitorCommand, now: Instant) {
        match command {
            MonitorCommand::Reload(conf) => {
                self.conf = conf;
                self.nodes.configure(&self.conf);
                self.candidacy.reorder(order(&self.conf, self.me), &mut self.outputs);
                self.nodes.watch(&self.store, &self.candidacy.order, now);
            }
            MonitorCommand::TakeOver => self.candidacy.take_over(now),
            MonitorCommand::Confirm => self.make_sure(true, false),
            MonitorCommand::Carries(can_carry) => self.candidacy.can_carry = can_carry,
            MonitorCommand::Leave => self.candidacy.leaving = true,
            MonitorCommand::Left(left) => self.nodes.tell_left(left),
            MonitorCommand::Announced(announced) => self.conflicts.announced(announced),
        }
    }

    /// Decides, and gives what is to be done, in this order.
    pub fn step(&mut self, now: Instant) -> Vec<MonitorOutput> {
        self.attend(now);
        if now >= self.next_tend {
            self.next_tend = now + TEND_EVERY;
            self.outputs.extend(self.candidacy.terms.tend());
            self.outputs.push(MonitorOutput::Tend);
        }
        self.step_conflicts(now);
        if std::mem::take(&mut self.looks) || self.nodes.peers.timeout(now).is_zero() {
            self.judge(now);
            self.restrict(now);
            let circumstances = Circumstances {
                conf: &self.conf,
                store: &self.store,
                directors: &self.nodes.directors(&self.candidacy.order),
                suspects_link: self.nodes.suspects_link(),
                conflict: self.conflicts.is_proved(),
            };
            self.candidacy.elect(circumstances, now, &mut self.outputs);
            self.restrict(now);
            self.tell_content();
            self.watch_addresses(now);
        }
        self.confirm(now);
        std::mem::take(&mut self.outputs)
    }

    /// What it knows; what its sockets know is for their owner to add.
    pub fn view(&self, now: Instant) -> MonitorView {
        let (active, own) = match self.candidacy.role() {
            ElectionRole::Active { term } => (true, term),
            ElectionRole::Standby => (false, 0),
        };
        let elected = self.candidacy.elected(&self.store);
        let heard = self.nodes.counts();
        let unavailable = self.store.unavailable_since;
        MonitorView {
            active,
            set: self.candidacy.set(),
            elected: elected.map(|elected| elected.node),
            term: elected.map_or(own, |elected| counter::latest(elected.term, own)),
            liveness_of: self.nodes.liveness_of().clone(),
            left: self.nodes.gone(&self.store),
            isolated: self.nodes.is_isolated(),
            store_unavailable_s: unavailable
                .map(|since| now.saturating_duration_since(since).as_secs()),
            heartbeats_heard: heard.fresh,
            heartbeats_ignored: heard.old + heard.outlived + heard.unproven + heard.unwatched,
            heartbeats_refused: 0,
            became_active: 0,
            became_standby: 0,
            ports_taken: Vec::new(),
            conflicts: self.conflicts.faults(),
        }
    }

    /// The monitor is there. What it waited for while it was away is waited for anew: heartbeats,
    /// and the answers of hosts and of the store, may have come and gone.
    fn attend(&mut self, now: Instant) {
        if !self.nodes.attend(now) {
            return;
        }
        self.candidacy.was_away(now);
        if let Some(Confirmation { stage, .. }) = &mut self.confirmation {
            match stage {
                ConfirmationStage::Awaited(by) => *by = now + READ_WITHIN,
                ConfirmationStage::SureAt(_) => *stage = ConfirmationStage::Read,
                ConfirmationStage::Reading | ConfirmationStage::Read => {}
            }
        }
    }

    fn tell(&mut self, notice: MonitorNotice) {
        self.outputs.push(MonitorOutput::Notice(notice));
    }

    /// Takes a reading of the store; true if everything is to be judged at once.
    fn follow_store(&mut self, reading: StoreReading, now: Instant) -> bool {
        let before = self.store.is_unavailable();
        let (anew, is_read) = (reading.anew, reading.changes.is_some());
        let gone_back = self.store.gone_back(&reading);
        let is_new = self.store.follow(reading);
        if is_new {
            gone_back.iter().for_each(|node| self.nodes.peers.forget(*node, now));
            self.nodes.watch(&self.store, &self.candidacy.order, now);
        }
        match (before, self.store.is_unavailable()) {
            (false, true) => self.tell(MonitorNotice::Event(DirectorEvent::StoreUnavailable)),
            (true, false) => self.tell(MonitorNotice::Event(DirectorEvent::StoreBack)),
            _ => {}
        }
        let is_answered = is_read || self.store.is_unavailable() || self.candidacy.is_alone();
        if let Some(Confirmation { stage, .. }) = &mut self.confirmation {
            match stage {
                _ if anew && !is_answered => *stage = ConfirmationStage::Awaited(now + READ_WITHIN),
                _ if anew => *stage = ConfirmationStage::Read,
                ConfirmationStage::Awaited(_) if is_answered => *stage = ConfirmationStage::Read,
                _ => {}
            }
        }
        is_new || anew
    }

    /// Judges which nodes live; an active director that is not heard vouches for itself.
    fn judge(&mut self, now: Instant) {
        let witnesses = match self.candidacy.is_active() {
            true => self.nodes.witnesses(&self.candidacy.order, &self.store, now),
            false => BTreeSet::new(),
        };
        let Judgement { is_answered, reaches_again } =
            self.nodes.judge(&self.store, &witnesses, now, &mut self.outputs);
        // The network was parted: who asked meanwhile may have been answered by another director, and what
        // was announced may have been lost.
        if self.candidacy.is_active() && reaches_again {
            self.announce_once_sure();
        }
        if let Some(number) = self.vouching.step(is_answered, now) {
            self.tell(MonitorNotice::Vouch(number));
        }
    }

    /// Tells the table what restricts it, if that is another than before.
    fn restrict(&mut self, now: Instant) {
        let former_director = self.candidacy.former(&self.store);
        let restrictions = Restrictions { former_director, ..self.nodes.restrictions(now) };
        if restrictions != self.restrictions {
            self.restrictions = restrictions.clone();
            self.tell(MonitorNotice::Restrictions(restrictions));
        }
    }

    /// Tells what heartbeats are to say, if that is another than before.
    fn tell_content(&mut self) {
        let content = HeartbeatContent {
            leaderships: self.leaderships(),
            seen: self.nodes.peers.seen(),
            leaving: self.candidacy.leaving,
            cannot_carry: !self.candidacy.carries_addresses(),
            ..HeartbeatContent::default()
        };
        if content != self.content {
            self.content = content.clone();
            self.tell(MonitorNotice::HeartbeatContent(content));
        }
    }

    /// Watches the addresses of an active director, and asks for them while the store is
    /// unavailable.
    fn watch_addresses(&mut self, now: Instant) {
        self.conflicts.direct(&self.conf, self.me, self.candidacy.is_active());
        let watched = self.conflicts.watched();
        if watched != self.watched {
            self.watched = watched.clone();
            self.outputs.push(MonitorOutput::WatchAddresses(watched));
        }
        let is_doubted = self.store.is_unavailable() && !self.candidacy.is_alone();
        let doubted = self.conflicts.doubt(is_doubted, now);
        self.ask_for(doubted);
    }

    fn ask_for(&mut self, addrs: BTreeSet<IpAddr>) {
        if !addrs.is_empty() {
            self.outputs.push(MonitorOutput::AskForAddresses(addrs));
        }
    }

    fn step_conflicts(&mut self, now: Instant) {
        let ConflictStep { ask, over, defend } = self.conflicts.step(now);
        self.ask_for(ask);
        for address in over {
            info!("the address conflict over {address} is over");
            self.tell(MonitorNotice::Event(DirectorEvent::ConflictOver { address }));
        }
        if defend {
            self.announce_once_sure();
        }
    }

    /// Has the addresses announced again, once it is sure that this director is the active one.
    fn announce_once_sure(&mut self) {
        match self.candidacy.is_alone() {
            // No other director could have been elected.
            true => self.defend(),
            false => self.make_sure(false, true),
        }
    }

    /// Has the addresses announced again, and tells of the conflict.
    fn defend(&mut self) {
        self.tell(MonitorNotice::Announce);
        for (address, by) in self.conflicts.confirm() {
            let by = by.to_string();
            warn!("address conflict: another host, {by}, claims {address}: announcing it again");
            self.tell(MonitorNotice::Event(DirectorEvent::Conflict { address, by }));
        }
    }

    fn make_sure(&mut self, tells_role: bool, defends: bool) {
        let before = self.confirmation.map(|before| (before.tells_role, before.defends));
        let (told, defended) = before.unwrap_or_default();
        let (tells_role, defends) = (tells_role || told, defends || defended);
        let stage = ConfirmationStage::Reading;
        self.confirmation = Some(Confirmation { stage, tells_role, defends });
        self.outputs.push(MonitorOutput::ReadStore);
    }

    /// Goes on with making sure; acts once it is sure.
    fn confirm(&mut self, now: Instant) {
        let Some(mut confirmation) = self.confirmation else { return };
        if matches!(confirmation.stage, ConfirmationStage::Awaited(by) if now >= by) {
            confirmation.stage = ConfirmationStage::Read;
        }
        if confirmation.stage == ConfirmationStage::Read && !self.candidacy.is_claiming() {
            let mut at = now;
            if self.store.is_unavailable() && !self.candidacy.is_alone() {
                at += ANSWERED_WITHIN;
                let doubted = self.conflicts.doubt_at_once(now);
                self.ask_for(doubted);
            }
            confirmation.stage = ConfirmationStage::SureAt(at);
            self.confirmation = Some(confirmation);
        }
        if !matches!(confirmation.stage, ConfirmationStage::SureAt(at) if now >= at) {
            return;
        }
        self.confirmation = None;
        if confirmation.tells_role {
            self.tell(MonitorNotice::ElectionRole(self.candidacy.role()));
        }
        if confirmation.defends && self.candidacy.is_active() {
            self.defend();
        }
    }
}

/// The directors of a node's set, in cvip.conf's order.
pub fn order(conf: &Conf, node: u32) -> Vec<u32> {
    let sets = conf.director_sets();
    let set = sets.into_iter().find(|set| set.directors.contains(&node));
    set.map_or_else(|| vec![node], |set| set.directors)
}

/// The set of a node, by its lowest node number.
pub fn set_of(conf: &Conf, node: u32) -> u32 {
    order(conf, node).into_iter().min().unwrap_or(node)
}

#[cfg(test)]
mod scene;
#[cfg(test)]
mod tests;
