//! The monitor: cvipd's state, and what its driver does with sockets, the store and the file of
//! terms.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cvip::conf::Conf;
use cvip::cores::{
    AddressConflicts, AddressMessage, ClaimRequest, MonitorInput, MonitorMessage, MonitorOutput,
    MonitorState, SenderMessage, StoreChanges, StoreReading, SupervisorInput, TableMessage,
};
use cvip::director::election::ElectionRole;
use cvip::director::monitor::{MonitorIdentity, MonitorNotice, MonitorView};
use cvip::heartbeat::{ConnectOutcome, Heartbeat, Leadership};
use cvip::net::{Claimed, Mac};
use cvip::store::TermClaim;

use super::post::Worker;
use super::{Environment, Identity, Told};
use crate::cluster::conf::node_of;
use crate::cluster::machine::Surroundings;
use crate::cluster::packet::{Packet, Place};
use crate::store::{Poll, StoreClient, StoreWrite, ViewId, WriteId, WriteOutcome, WriteResult};
use crate::time::SimTime;
use cvip::clock::Instant;

/// What an output brought may lead to other outputs, so often in one step at most: as in cvipd's
/// driver.
const ROUNDS: u32 = 8;

/// The queue of a socket holds no more.
const QUEUE: usize = 256;

/// One director's monitor.
pub struct Monitor {
    /// The monitor's state.
    pub state: MonitorState,
    view: ViewId,
    heartbeats: VecDeque<Heartbeat>,
    echoes: VecDeque<(IpAddr, SimTime)>,
    connects: VecDeque<(SocketAddr, ConnectOutcome)>,
    /// Claims of addresses, as the conflict watch's socket holds them.
    claims: VecDeque<Claimed>,
    conflicts: AddressConflicts,
    to: Vec<IpAddr>,
    doing: Doing,
    /// The time of what is being done: its driver does not look at the clock again.
    began: Instant,
    outputs: VecDeque<MonitorOutput>,
    notices: Vec<MonitorNotice>,
    handed_over: Option<Result<Option<u32>, String>>,
    written: Option<WriteResult>,
}

/// What it is in the middle of.
enum Doing {
    /// Nothing.
    Idle,
    /// The store's view is refreshed.
    Reading { anew: bool, then: Then },
    /// A claim is under way.
    Claiming { id: WriteId, known: u64, round: Round },
    /// Outputs are carried out.
    Running(Round),
}

/// What follows once the view was refreshed.
enum Then {
    /// The monitor was just made.
    Nothing,
    /// What was heard is taken.
    Hear,
    /// Outputs are carried out on.
    Run(Round),
    /// The same, once the claim's outcome was told.
    ClaimEnded(Result<TermClaim, String>, u64, Round),
}

/// A run of outputs.
#[derive(Clone, Copy, Default)]
struct Round {
    number: u32,
    is_answered: bool,
    /// The hand-over that is answered at its end.
    hand_over: Option<u64>,
    /// It belongs to a step, and not to a hand-over.
    is_step: bool,
}

impl Monitor {
    /// One that has heard nothing yet.
    pub fn new(
        me: Identity,
        conf: Arc<Conf>,
        terms: cvip::cores::Terms,
        to: Vec<IpAddr>,
        client: &mut StoreClient,
        now: SimTime,
    ) -> Monitor {
        let identity =
            MonitorIdentity { node: me.node, incarnation: me.incarnation, nonce: me.nonce };
        Monitor {
            state: MonitorState::new(identity, conf, terms, now.instant()),
            view: client.open_view(cvip::store::Interest::All, now),
            heartbeats: VecDeque::new(),
            echoes: VecDeque::new(),
            connects: VecDeque::new(),
            claims: VecDeque::new(),
            conflicts: AddressConflicts::default(),
            to,
            doing: Doing::Reading { anew: false, then: Then::Nothing },
            began: now.instant(),
            outputs: VecDeque::new(),
            notices: Vec::new(),
            handed_over: None,
            written: None,
        }
    }

    /// Its view of the store.
    pub fn view(&self) -> ViewId {
        self.view
    }

    /// What heartbeats say of its set.
    pub fn leaderships(&self) -> Vec<Leadership> {
        self.state.leaderships()
    }

    /// The latest term of its set that it knows: from the store and its own role, from heartbeats and from the
    /// file of terms.
    fn known_term(&self, set: u32, host: &Surroundings) -> u64 {
        let heartbeats = self.state.order().iter().filter_map(|of| self.state.last_heartbeat(*of));
        let heard = heartbeats.flat_map(|heartbeat| &heartbeat.leaderships);
        let heard = heard.filter(|said| said.set == set).map(|said| said.term);
        let terms = host.files.read_terms(set);
        let held = terms.active.filter(|(of, _)| *of == set).map(|(_, term)| term);
        let known = heard.chain(held).chain(terms.given_up.get(&set).copied());
        known.fold(self.state.view(self.began).term, u64::max)
    }

    /// What it knows.
    pub fn shows(&self, now: SimTime) -> MonitorView {
        self.state.view(now.instant())
    }

    /// It waits for this write.
    pub fn waits_for(&self, id: WriteId) -> bool {
        matches!(self.doing, Doing::Claiming { id: awaited, .. } if awaited == id)
    }

    /// Takes the outcome of the write that it waits for.
    pub fn written(&mut self, outcome: WriteResult) {
        self.written = Some(outcome);
    }

    /// Takes a packet; it is looked at in the next step.
    pub fn receive(&mut self, packet: Packet, from: Place) {
        match packet {
            Packet::Heartbeat(heartbeat) if self.heartbeats.len() < QUEUE => {
                self.heartbeats.push_back((*heartbeat).clone());
            }
            Packet::EchoReply { addr, asked } => self.echoes.push_back((addr, asked)),
            Packet::Connected(target, outcome) => self.connects.push_back((target, outcome)),
            Packet::IsAt(addr) => self.claim(addr, from, false),
            Packet::Announcement(addr) => self.claim(addr, from, true),
            _ => {}
        }
    }

    fn claim(&mut self, addr: IpAddr, from: Place, to_all: bool) {
        let Place::Node(node) = from else { return };
        if self.claims.len() < QUEUE {
            self.claims.push_back(Claimed { addr, by: mac_of(node), to_all });
        }
    }

    /// Goes on with what it is doing, takes messages, and steps.
    pub fn run(&mut self, env: &mut Environment<'_>) {
        let mut has_stepped = false;
        loop {
            match std::mem::replace(&mut self.doing, Doing::Idle) {
                Doing::Idle => {
                    if let Some(message) = env.post.monitor.pop_front() {
                        self.began = env.now.instant();
                        self.handle(message);
                    } else if !has_stepped {
                        has_stepped = true;
                        self.began = env.now.instant();
                        self.doing = Doing::Reading { anew: false, then: Then::Hear };
                    } else {
                        break;
                    }
                }
                Doing::Reading { anew, then } => match self.read(anew, env) {
                    Some(reading) => {
                        self.state.handle(MonitorInput::StoreRead(reading), self.began);
                        self.go_on(then, env);
                    }
                    None => return self.doing = Doing::Reading { anew, then },
                },
                Doing::Claiming { id, known, round } => match self.written.take() {
                    Some(outcome) => {
                        let claimed = match outcome {
                            Ok(WriteOutcome::Claimed(claimed)) => Ok(claimed),
                            Ok(other) => Err(format!("{other:?}")),
                            Err(error) => Err(error.to_string()),
                        };
                        let then = Then::ClaimEnded(claimed, known, round);
                        self.doing = Doing::Reading { anew: false, then };
                    }
                    None => return self.doing = Doing::Claiming { id, known, round },
                },
                Doing::Running(round) => self.run_outputs(round, env),
            }
        }
        let due = SimTime::of(env.now.instant() + self.state.timeout(env.now.instant()));
        let watch = self.conflicts.due().map_or(SimTime::NEVER, SimTime::of);
        env.post.at(Worker::Monitor, due.min(watch), env.now);
    }

    fn handle(&mut self, message: MonitorMessage) {
        let now = self.began;
        match message {
            MonitorMessage::Told(command) => self.state.handle(MonitorInput::Told(command), now),
            MonitorMessage::HandOver(number) => {
                self.state.handle(MonitorInput::HandOver, now);
                self.begin_round(Round { hand_over: Some(number), ..Round::default() });
            }
            MonitorMessage::View(_) => {}
        }
    }

    fn read(&mut self, anew: bool, env: &mut Environment<'_>) -> Option<StoreReading> {
        let refreshed = match env.client.refresh(self.view, env.now) {
            Poll::Done(refreshed) => refreshed.ok(),
            Poll::Wait(until) => {
                env.post.wake(Worker::Monitor, until);
                return None;
            }
        };
        let state = env.client.state(self.view);
        let changes = refreshed.map(|refreshed| StoreChanges::of(&refreshed.changed, state));
        let unavailable_since = env.client.unavailable_since(self.view);
        Some(StoreReading { changes, unavailable_since, anew })
    }

    fn go_on(&mut self, then: Then, env: &mut Environment<'_>) {
        match then {
            Then::Nothing => {}
            Then::Hear => {
                self.hear(env);
                self.begin_round(Round { is_step: true, ..Round::default() });
            }
            Then::Run(round) => self.doing = Doing::Running(round),
            Then::ClaimEnded(claimed, known, round) => {
                if let Ok(TermClaim::Won(elected)) = &claimed {
                    env.told.push(Told::Won { term: elected.term, known });
                }
                env.told.push(Told::Note(match &claimed {
                    Ok(TermClaim::Won(elected)) => {
                        format!("won term {} for node {}", elected.term, elected.node)
                    }
                    Ok(TermClaim::Stands(stands)) => format!("claimed in vain: {stands:?}"),
                    Err(error) => format!("claimed in vain: {error}"),
                }));
                self.state.handle(MonitorInput::ClaimEnded(claimed), self.began);
                self.doing = Doing::Running(Round { is_answered: true, ..round });
            }
        }
    }

    /// Takes what was heard.
    fn hear(&mut self, env: &mut Environment<'_>) {
        let now = self.began;
        while let Some(heartbeat) = self.heartbeats.pop_front() {
            self.state.handle(MonitorInput::Heartbeat(heartbeat), now);
        }
        while let Some((addr, asked)) = self.echoes.pop_front() {
            let asked = asked.instant();
            self.state.handle(MonitorInput::EchoAnswered { addr, asked }, now);
        }
        while let Some((target, outcome)) = self.connects.pop_front() {
            self.state.handle(MonitorInput::Connected { target, outcome }, now);
        }
        while let Some(claim) = self.claims.pop_front() {
            self.conflicts.claimed(claim, !claim.to_all, now);
        }
        for addr in self.conflicts.questions(now) {
            env.sent.push((Place::Client(0), Packet::WhoHas(addr)));
            self.conflicts.asked(addr, true, now);
        }
        for claim in self.conflicts.take_claims() {
            self.state.handle(MonitorInput::Claimed(claim), now);
        }
        let proved = self.conflicts.confirmed().map(|(addr, _)| addr).collect();
        self.state.handle(MonitorInput::Proved(proved), now);
    }

    /// The state decides; what it decides is carried out next.
    fn begin_round(&mut self, round: Round) {
        self.outputs = self.state.step(self.began).into();
        let round = Round { number: round.number + 1, is_answered: false, ..round };
        self.doing = Doing::Running(round);
    }

    fn run_outputs(&mut self, mut round: Round, env: &mut Environment<'_>) {
        while let Some(output) = self.outputs.pop_front() {
            match self.carry_out(output, round, env) {
                Carried::Out => {}
                Carried::Answered => round.is_answered = true,
                Carried::Waits(doing) => return self.doing = doing,
            }
        }
        if round.is_answered && round.number < ROUNDS {
            return self.begin_round(round);
        }
        if let Some(number) = round.hand_over {
            let is_missing = || Err("another claim is under way".to_owned());
            let answer = self.handed_over.take().unwrap_or_else(is_missing);
            env.post.tell(SupervisorInput::HandOver { number, answer }, env.now);
        }
        if round.is_step {
            for notice in std::mem::take(&mut self.notices) {
                self.tell(notice, env);
            }
        }
    }

    fn carry_out(
        &mut self,
        output: MonitorOutput,
        round: Round,
        env: &mut Environment<'_>,
    ) -> Carried {
        match output {
            MonitorOutput::Notice(notice) => self.notices.push(notice),
            MonitorOutput::HandedOver(successor) => self.handed_over = Some(successor),
            MonitorOutput::Claim(ClaimRequest { set, above, expected, node, incarnation }) => {
                env.client.surpass(self.view, set, above);
                let claim = StoreWrite::Claim { set, expected_term: expected, node, incarnation };
                let id = env.client.begin(self.view, claim, env.now);
                let known = self.known_term(set, env.host);
                return Carried::Waits(Doing::Claiming { id, known, round });
            }
            MonitorOutput::ReadStore => {
                env.client.invalidate(self.view, env.now);
                let then = Then::Run(Round { is_answered: true, ..round });
                return Carried::Waits(Doing::Reading { anew: true, then });
            }
            MonitorOutput::Echo(addr) => {
                if let Some(node) = node_of(addr) {
                    let asked = SimTime::of(self.began);
                    env.sent.push((Place::Node(node), Packet::Echo { addr, asked }));
                }
            }
            MonitorOutput::ForgetEcho(addr) => self.echoes.retain(|(of, _)| *of != addr),
            MonitorOutput::Connect(target) => {
                if let Some(node) = node_of(target.ip()) {
                    env.sent.push((Place::Node(node), Packet::Connect(target)));
                }
            }
            MonitorOutput::WatchAddresses(addrs) => {
                self.conflicts.watch(addrs.into_values().flatten());
            }
            MonitorOutput::AskForAddresses(addrs) => {
                for addr in addrs {
                    self.conflicts.doubt(addr, self.began);
                }
            }
            MonitorOutput::WriteTerms(terms) => {
                let is_written = env.host.files.write_terms(&terms);
                self.state.handle(MonitorInput::TermsWritten(is_written), self.began);
                return Carried::Answered;
            }
            MonitorOutput::RemoveTerms => env.host.files.remove_terms(),
            MonitorOutput::Tend => {
                if env.host.files.terms.is_none() {
                    self.state.handle(MonitorInput::TermsMissing, self.began);
                    return Carried::Answered;
                }
            }
        }
        Carried::Out
    }

    fn tell(&mut self, notice: MonitorNotice, env: &mut Environment<'_>) {
        let now = env.now;
        match notice {
            MonitorNotice::Restrictions(restrictions) => {
                env.post.tell_table(TableMessage::Restrict(Box::new(restrictions)), now);
            }
            MonitorNotice::HeartbeatContent(mut content) => {
                content.to.clone_from(&self.to);
                env.post.tell_sender(SenderMessage::HeartbeatContent(content), now);
            }
            MonitorNotice::ElectionRole(role) => {
                let message = match role {
                    ElectionRole::Standby => AddressMessage::Yield,
                    ElectionRole::Active { .. } => AddressMessage::Elected,
                };
                env.told.push(Told::Role(role));
                env.post.tell_addresses(message, now);
                env.post.tell(SupervisorInput::Elected(role), now);
            }
            MonitorNotice::Announce => env.post.tell_addresses(AddressMessage::Announce, now),
            MonitorNotice::Vouch(number) => env.post.tell(SupervisorInput::Vouch(number), now),
            MonitorNotice::Event(event) => env.told.push(Told::Event(event)),
        }
    }
}

/// What became of an output.
enum Carried {
    /// Nothing follows from it now.
    Out,
    /// What came of it was handled.
    Answered,
    /// It is waited for.
    Waits(Doing),
}

/// A node's Ethernet address.
pub fn mac_of(node: u32) -> Mac {
    let [a, b, c, d] = node.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}
