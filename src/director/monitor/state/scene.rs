//! A monitor with its peers, its store and its files around it. Nodes 1 and 2 are directors of one
//! set, nodes 3 and 4 real servers; node 1 is the one that is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::messages::ClaimRequest;
use super::super::recording::MonitorCall;
use super::super::store_view::RecordSummary;
use super::*;
use crate::conf::{Cvip, DirectorNode, RealServer, Routing};
use crate::heartbeat::{Nonce, SeenNonce};
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;
use crate::store::{Elected, TermClaim};
pub(super) const ME: u32 = 1;
pub(super) const NONCE: Nonce = Nonce([7; 16]);
pub(super) const INCARNATION: u64 = 10;

/// A monitor is stepped this often, and heartbeats come as often.
const TICK_MS: u64 = 50;

pub(super) fn cvip_addr() -> IpAddr {
    [10, 0, 0, 100].into()
}

pub(super) fn addr(node: u32) -> IpAddr {
    [10, 0, 0, node as u8].into()
}

pub(super) fn conf(directors: &[u32], servers: &[u32]) -> Arc<Conf> {
    let director = |node: &u32| DirectorNode {
        node: *node,
        garp_interface: "eth0".to_owned(),
        sync_interface: None,
    };
    let server = |node: &u32| RealServer { node: *node, addr: addr(*node), weight: 1 };
    let cvip = Cvip {
        addr: cvip_addr(),
        gateway: None,
        directors: directors.iter().map(director).collect(),
        real_servers: servers.iter().map(server).collect(),
        services: Vec::new(),
    };
    Arc::new(Conf { routing: Routing::Dr, cvips: vec![cvip] })
}

/// How the store answers a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claims {
    Answered,
    /// The next claim is made, and the connection is lost before the answer comes.
    Lost,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Nothing but that time passes.
    Wait,
    /// Nodes send heartbeats from now on, or send none any more.
    Up(&'static [u32]),
    Down(&'static [u32]),
    /// A node's heartbeats say this of its leadership.
    Leads(u32, u64, bool),
    /// A node's heartbeats say that it leaves.
    Leaves(u32),
    /// A node's cvipd is started again, as a later incarnation.
    Restarts(u32),
    /// A node's machine answers echo requests.
    Answers(u32),
    /// A node's lease ends.
    LeaseEnds(u32),
    /// Whether a node's record says that it directs.
    Directing(u32, bool),
    Store(bool),
    /// Whether readings of the store are not answered, though nothing says that it is unavailable.
    Slow(bool),
    Emptied,
    /// Another director is elected there, for a node.
    Elected(u32, u64),
    Claims(Claims),
    /// Whether the file of terms can be written.
    Writes(bool),
    /// The monitor's thread is kept from everything for so many milliseconds.
    Frozen(u64),
    Told(MonitorCommand),
    Input(MonitorInput),
}

use Step::*;

/// What is around the monitor.
pub(super) struct Scene {
    pub(super) state: Recorded<MonitorState>,
    tape: Tape,
    pub(super) now: Instant,
    pub(super) up: BTreeSet<u32>,
    said: BTreeMap<u32, (u64, bool)>,
    leaving: BTreeSet<u32>,
    incarnations: BTreeMap<u32, u64>,
    pub(super) sequence: u64,
    answers: BTreeSet<u32>,
    pub(super) has_store: bool,
    is_slow: bool,
    unavailable_since: Option<Instant>,
    pub(super) elected: Option<Elected>,
    alive: BTreeMap<u32, u64>,
    directing: BTreeSet<u32>,
    claims: Claims,
    writes: bool,
    pub(super) restrictions: Restrictions,
    pub(super) content: HeartbeatContent,
    pub(super) watched: WatchedAddresses,
    pub(super) done: Vec<String>,
}

/// Each scene is replayed once it has been played, and decides as it did.
impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tape.check(&mut self.state);
        }
    }
}

impl Scene {
    /// All nodes are up and hold leases; a director was elected before.
    pub(super) fn new(elected: Option<(u32, u64)>, terms: &str) -> Scene {
        Scene::of(conf(&[1, 2], &[1, 2, 3, 4]), elected, terms)
    }

    pub(super) fn of(conf: Arc<Conf>, elected: Option<(u32, u64)>, terms: &str) -> Scene {
        let now = Instant::now();
        let me = MonitorIdentity { node: ME, incarnation: INCARNATION, nonce: NONCE };
        let state = MonitorState::new(me, conf, Terms::parse(terms, ME), now);
        let (recorder, tape) = Tape::new();
        let mut scene = Scene {
            state: Recorded::new(state, &recorder),
            tape,
            now,
            up: [2, 3, 4].into(),
            said: BTreeMap::new(),
            leaving: BTreeSet::new(),
            incarnations: (1..=4).map(|node| (node, INCARNATION)).collect(),
            sequence: 0,
            answers: BTreeSet::new(),
            has_store: true,
            is_slow: false,
            unavailable_since: None,
            elected: None,
            alive: (1..=4).map(|node| (node, INCARNATION)).collect(),
            directing: BTreeSet::new(),
            claims: Claims::Answered,
            writes: true,
            restrictions: Restrictions::default(),
            content: HeartbeatContent::default(),
            watched: WatchedAddresses::new(),
            done: Vec::new(),
        };
        if let Some((node, term)) = elected {
            scene.happen(&Elected(node, term));
        }
        scene
    }

    /// An active director of so many nodes that are all up, recorded as in files.
    pub(super) fn of_nodes(nodes: u32) -> Scene {
        let servers: Vec<u32> = (1..=nodes).collect();
        let mut scene = Scene::of(conf(&[1, 2], &servers), Some((1, 4)), "active 1 4\n");
        scene.incarnations = (1..=nodes).map(|node| (node, INCARNATION)).collect();
        scene.alive = scene.incarnations.clone();
        scene.up = (2..=nodes).collect();
        scene.pass(3000);
        let (recorder, tape) = Tape::as_in_files();
        let state = MonitorState::clone(&scene.state);
        (scene.state, scene.tape) = (Recorded::new(state, &recorder), tape);
        scene
    }

    /// Which part of the room for its recording is taken so far.
    pub(super) fn share_of_files(&mut self) -> f64 {
        self.tape.share_of_files(&mut self.state)
    }

    /// Another state, and another recording.
    pub(super) fn start(&mut self, state: MonitorState) {
        let (recorder, tape) = Tape::new();
        (self.state, self.tape) = (Recorded::new(state, &recorder), tape);
    }

    /// An active director in term 4, whose set is calm.
    pub(super) fn active() -> Scene {
        let mut scene = Scene::new(Some((1, 4)), "active 1 4\n");
        scene.play(&[(0, Wait, &["writes active 1 4", "active 4"]), (3000, Wait, &[])]);
        scene
    }

    /// A standby of node 2, which is active in term 4.
    pub(super) fn standby() -> Scene {
        let mut scene = Scene::new(Some((2, 4)), "");
        scene.happen(&Leads(2, 4, true));
        scene.happen(&Directing(2, true));
        scene.play(&[(0, Wait, &["standby"]), (3000, Wait, &[])]);
        scene
    }

    /// Plays steps, each so many milliseconds after the one before, and compares what was done from
    /// then until the next.
    pub(super) fn play(&mut self, steps: &[(u64, Step, &[&str])]) {
        for (n, (ms, step, expected)) in steps.iter().enumerate() {
            if n > 0 {
                self.pass(*ms);
                let before = steps[n - 1].clone();
                assert_eq!(
                    std::mem::take(&mut self.done),
                    before.2,
                    "step {}: {:?}",
                    n - 1,
                    before.1
                );
            }
            self.happen(step);
            self.run();
            if n == steps.len() - 1 {
                assert_eq!(std::mem::take(&mut self.done), *expected, "step {n}: {step:?}");
            }
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now += Duration::from_millis(TICK_MS);
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.read(false);
        self.sequence += 1;
        for node in self.up.clone() {
            let heartbeat = self.heartbeat(node);
            let call = MonitorCall::heard(&self.state, heartbeat);
            self.state.call(call, self.now);
        }
        self.run();
    }

    pub(super) fn heartbeat(&self, node: u32) -> Heartbeat {
        let (term, active) = self.said.get(&node).copied().unwrap_or_default();
        let is_director = node < 3;
        Heartbeat {
            node,
            incarnation: self.incarnations[&node],
            sequence: self.sequence,
            nonce: Nonce([node as u8; 16]),
            leaving: self.leaving.contains(&node),
            cannot_carry: false,
            left: None,
            leaderships: is_director
                .then_some(Leadership { set: 1, term, active })
                .into_iter()
                .collect(),
            seen: is_director.then_some(SeenNonce { node: ME, nonce: NONCE }).into_iter().collect(),
        }
    }

    fn read(&mut self, anew: bool) {
        self.unavailable_since = match self.has_store {
            true => None,
            false => self.unavailable_since.or(Some(self.now)),
        };
        let record = |node| RecordSummary {
            incarnation: self.alive.get(&node).copied().unwrap_or(INCARNATION),
            directing: self.directing.contains(&node),
            leaving: false,
            vouched: None,
            services: Vec::new(),
        };
        let changes = StoreChanges {
            records: (1..=4).map(|node| (node, Some(record(node)))).collect(),
            alive: (1..=4).map(|node| (node, self.alive.get(&node).copied())).collect(),
            elected: BTreeMap::from([(1, self.elected)]),
        };
        let changes = (self.has_store && !self.is_slow).then_some(changes);
        let reading = StoreReading { changes, unavailable_since: self.unavailable_since, anew };
        self.handle(MonitorInput::StoreRead(reading));
    }

    pub(super) fn handle(&mut self, input: MonitorInput) {
        self.state.call(MonitorCall::Handle(input), self.now);
    }

    pub(super) fn happen(&mut self, step: &Step) {
        match step.clone() {
            Wait => {}
            Up(nodes) => self.up.extend(nodes),
            Down(nodes) => self.up.retain(|node| !nodes.contains(node)),
            Leads(node, term, active) => drop(self.said.insert(node, (term, active))),
            Leaves(node) => drop(self.leaving.insert(node)),
            Restarts(node) => {
                self.leaving.remove(&node);
                *self.incarnations.get_mut(&node).unwrap() += 1;
                self.up.insert(node);
            }
            Answers(node) => drop(self.answers.insert(node)),
            LeaseEnds(node) => drop(self.alive.remove(&node)),
            Directing(node, true) => drop(self.directing.insert(node)),
            Directing(node, false) => drop(self.directing.remove(&node)),
            Store(has_store) => self.has_store = has_store,
            Slow(is_slow) => self.is_slow = is_slow,
            Emptied => self.elected = None,
            Elected(node, term) => {
                self.elected = Some(Elected { node, incarnation: INCARNATION, term });
            }
            Claims(claims) => self.claims = claims,
            Writes(writes) => self.writes = writes,
            Frozen(ms) => self.now += Duration::from_millis(ms),
            Told(command) => self.handle(MonitorInput::Told(command)),
            Input(input) => self.handle(input),
        }
        self.read(false);
    }

    /// Carries out what the monitor orders, as its driver does.
    pub(super) fn run(&mut self) {
        for _ in 0..8 {
            let mut is_answered = false;
            for output in self.state.call(MonitorCall::Step, self.now) {
                is_answered |= self.carry_out(output);
            }
            if !is_answered {
                return;
            }
        }
        panic!("there is no end to what follows: {:?}", self.done);
    }

    fn carry_out(&mut self, output: MonitorOutput) -> bool {
        match output {
            MonitorOutput::Notice(notice) => self.note(notice),
            MonitorOutput::HandedOver(successor) => self.done.push(match successor {
                Ok(Some(node)) => format!("handed over to {node}"),
                Ok(None) => "handed over to no node".to_owned(),
                Err(error) => format!("not handed over: {error}"),
            }),
            MonitorOutput::Claim(claim) => {
                self.claim(claim);
                return true;
            }
            MonitorOutput::ReadStore => {
                self.done.push("reads the store anew".to_owned());
                self.read(true);
                return true;
            }
            MonitorOutput::Echo(of) => {
                for node in self.answers.clone().into_iter().filter(|node| addr(*node) == of) {
                    let answered = MonitorInput::EchoAnswered { addr: addr(node), asked: self.now };
                    self.handle(answered);
                }
            }
            MonitorOutput::WatchAddresses(watched) => self.watched = watched,
            MonitorOutput::AskForAddresses(addrs) => {
                self.done.push(format!("asks for {} addresses", addrs.len()));
            }
            MonitorOutput::WriteTerms(terms) => {
                let failed = if self.writes { "" } else { " in vain" };
                let text = terms.encode().trim().replace('\n', ", ");
                self.done.push(format!("writes {text}{failed}"));
                self.handle(MonitorInput::TermsWritten(self.writes));
                return true;
            }
            MonitorOutput::RemoveTerms => self.done.push("removes the file of terms".to_owned()),
            MonitorOutput::ForgetEcho(_) | MonitorOutput::Connect(_) | MonitorOutput::Tend => {}
        }
        false
    }

    fn note(&mut self, notice: MonitorNotice) {
        let done = match notice {
            MonitorNotice::Restrictions(restrictions) => {
                self.restrictions = restrictions;
                return;
            }
            MonitorNotice::HeartbeatContent(content) => {
                self.content = content;
                return;
            }
            MonitorNotice::ElectionRole(ElectionRole::Standby) => "standby".to_owned(),
            MonitorNotice::ElectionRole(ElectionRole::Active { term }) => format!("active {term}"),
            MonitorNotice::Vouch(_) => "vouches".to_owned(),
            MonitorNotice::Announce => "announces".to_owned(),
            MonitorNotice::Event(DirectorEvent::Node { node, liveness }) => {
                format!("node {node}: {liveness:?}")
            }
            MonitorNotice::Event(event) => format!("{event:?}"),
        };
        self.done.push(done);
    }

    fn claim(&mut self, claim: ClaimRequest) {
        let ClaimRequest { set, above, expected, node, incarnation } = claim;
        assert_eq!(set, 1);
        let mut won = None;
        if self.has_store && self.elected.map(|elected| elected.term) == expected {
            let term = counter::next(counter::latest(expected.unwrap_or(0), above));
            won = Some(Elected { node, incarnation, term });
            self.elected = won;
        }
        let is_lost = std::mem::replace(&mut self.claims, Claims::Answered) == Claims::Lost;
        self.has_store &= !is_lost;
        let claimed = match (self.has_store, won) {
            (true, Some(elected)) => Ok(TermClaim::Won(elected)),
            (true, None) => Ok(TermClaim::Stands(self.elected)),
            (false, _) => Err("no answer".to_owned()),
        };
        self.done.push(format!("claims for {node} above {above}"));
        self.read(false);
        self.handle(MonitorInput::ClaimEnded(claimed));
    }
}
