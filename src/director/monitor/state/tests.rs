//! Whole sequences of what a monitor hears, is told and gets for what it ordered, and what it then
//! does. Nodes 1 and 2 are directors of one set, nodes 3 and 4 real servers; node 1 is the one that
//! is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::*;
use crate::conf::{Cvip, DirectorNode, RealServer, Routing};
use crate::director::monitor::messages::ClaimRequest;
use crate::director::monitor::recording::MonitorCall;
use crate::director::monitor::store_view::{RecordSummary, StoreChanges};
use crate::heartbeat::{Heartbeat, Leadership, LeftPorts, Nonce, SeenNonce};
use crate::net::{Claimed, Mac, Reachable};
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;
use crate::store::{Elected, TermClaim};

const ME: u32 = 1;
const NONCE: Nonce = Nonce([7; 16]);
const INCARNATION: u64 = 10;

/// A monitor is stepped this often, and heartbeats come as often.
const TICK_MS: u64 = 50;

fn cvip_addr() -> IpAddr {
    [10, 0, 0, 100].into()
}

fn addr(node: u32) -> IpAddr {
    [10, 0, 0, node as u8].into()
}

fn conf(directors: &[u32], servers: &[u32]) -> Arc<Conf> {
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
enum Claims {
    Answered,
    /// The next claim is made, and the connection is lost before the answer comes.
    Lost,
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
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
struct Scene {
    state: Recorded<MonitorState>,
    tape: Tape,
    now: Instant,
    up: BTreeSet<u32>,
    said: BTreeMap<u32, (u64, bool)>,
    leaving: BTreeSet<u32>,
    incarnations: BTreeMap<u32, u64>,
    sequence: u64,
    answers: BTreeSet<u32>,
    has_store: bool,
    is_slow: bool,
    unavailable_since: Option<Instant>,
    elected: Option<Elected>,
    alive: BTreeMap<u32, u64>,
    directing: BTreeSet<u32>,
    claims: Claims,
    writes: bool,
    restrictions: Restrictions,
    content: HeartbeatContent,
    watched: WatchedAddresses,
    done: Vec<String>,
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
    fn new(elected: Option<(u32, u64)>, terms: &str) -> Scene {
        Scene::of(conf(&[1, 2], &[1, 2, 3, 4]), elected, terms)
    }

    fn of(conf: Arc<Conf>, elected: Option<(u32, u64)>, terms: &str) -> Scene {
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

    /// Another state, and another recording.
    fn start(&mut self, state: MonitorState) {
        let (recorder, tape) = Tape::new();
        (self.state, self.tape) = (Recorded::new(state, &recorder), tape);
    }

    /// An active director in term 4, whose set is calm.
    fn active() -> Scene {
        let mut scene = Scene::new(Some((1, 4)), "active 1 4");
        scene.play(&[(0, Wait, &["writes active 1 4", "active 4"]), (3000, Wait, &[])]);
        scene
    }

    /// A standby of node 2, which is active in term 4.
    fn standby() -> Scene {
        let mut scene = Scene::new(Some((2, 4)), "");
        scene.happen(&Leads(2, 4, true));
        scene.happen(&Directing(2, true));
        scene.play(&[(0, Wait, &["standby"]), (3000, Wait, &[])]);
        scene
    }

    /// Plays steps, each so many milliseconds after the one before, and compares what was done from
    /// then until the next.
    fn play(&mut self, steps: &[(u64, Step, &[&str])]) {
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

    fn pass(&mut self, ms: u64) {
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

    fn heartbeat(&self, node: u32) -> Heartbeat {
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

    fn handle(&mut self, input: MonitorInput) {
        self.state.call(MonitorCall::Handle(input), self.now);
    }

    fn happen(&mut self, step: &Step) {
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
    fn run(&mut self) {
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

const TOOK: fn(u64) -> String = |term| format!("Took {{ term: {term}, from: None }}");

#[test]
fn a_node_whose_heartbeats_stop_is_suspected_and_dead_only_once_its_lease_has_ended() {
    let mut scene = Scene::active();
    scene.play(&[
        (0, Down(&[3]), &["node 3: Suspected"]),
        (5000, LeaseEnds(3), &["node 3: Dead"]),
        (1000, Restarts(3), &["node 3: Alive", "reads the store anew", "announces"]),
        // Its machine answers: only its cvipd is down.
        (1000, Answers(3), &[]),
        (0, Down(&[3]), &["node 3: AgentDown"]),
        (5000, Up(&[3]), &["node 3: Alive"]),
        (1000, Wait, &[]),
    ]);
    assert_eq!(scene.restrictions.suspected, BTreeSet::new());
}

#[test]
fn silence_of_most_at_once_is_this_directors_own_link_unless_the_store_has_ended_their_leases() {
    let mut scene = Scene::active();
    scene.play(&[
        (0, Down(&[2, 3, 4]), &["Isolated"]),
        (5000, Wait, &[]),
        (1000, Up(&[2, 3, 4]), &["IsolationEnded", "reads the store anew", "announces"]),
        // Two of three are no less.
        (1000, Down(&[3, 4]), &["Isolated"]),
        (5000, LeaseEnds(3), &[]),
        (
            1000,
            LeaseEnds(4),
            &[
                "IsolationEnded",
                "reads the store anew",
                "node 3: Dead",
                "node 4: Dead",
                "announces",
            ],
        ),
        (1000, Wait, &[]),
    ]);
    assert_eq!(scene.restrictions.dead, [3, 4].into());
}

#[test]
fn a_monitor_that_was_kept_from_listening_takes_no_node_for_worse() {
    let mut scene = Scene::active();
    scene.play(&[(0, Frozen(5000), &[]), (1000, Wait, &[])]);
    assert_eq!(
        scene.state.view(scene.now).liveness_of[&3],
        crate::director::liveness::Liveness::Alive
    );
}

#[test]
fn while_the_store_is_unavailable_nothing_changes_and_an_emptied_one_is_told_who_directs() {
    let mut scene = Scene::active();
    scene.play(&[
        (0, Store(false), &["StoreUnavailable", "asks for 1 addresses"]),
        (4000, Down(&[2]), &["node 2: Suspected", "asks for 1 addresses"]),
        (3000, Up(&[2]), &["node 2: Alive", "reads the store anew", "asks for 1 addresses"]),
        (1000, Store(true), &["StoreBack", "announces"]),
        (1000, Emptied, &["claims for 1 above 4", "writes active 1 5", "active 5", &TOOK(5)]),
        (1000, Wait, &[]),
    ]);
    // A standby claims nothing while it is unavailable.
    let mut scene = Scene::standby();
    scene.play(&[
        (0, Store(false), &["StoreUnavailable"]),
        (1000, Down(&[2]), &["node 2: Suspected"]),
        (5000, Wait, &[]),
    ]);
}

#[test]
fn a_standby_follows_a_director_that_is_silent_and_keeps_it_restricted_until_its_record_changes() {
    let mut scene = Scene::standby();
    let took = "Took { term: 5, from: Some(2) }";
    scene.play(&[
        (
            0,
            Down(&[2]),
            &["node 2: Suspected", "claims for 1 above 4", "writes active 1 5", "active 5", took],
        ),
        (1000, Wait, &[]),
    ]);
    assert_eq!(scene.restrictions.former_director, Some(2));
    assert!(scene.content.leaderships[0].active);
    scene.play(&[(0, Directing(2, false), &[]), (100, Wait, &[])]);
    assert_eq!(scene.restrictions.former_director, None);
    scene.play(&[(0, Directing(2, true), &[]), (100, Wait, &[])]);
    assert_eq!(scene.restrictions.former_director, None, "it was followed once");
}

#[test]
fn a_claim_whose_outcome_is_unknown_is_found_won_once_the_store_is_back() {
    let mut scene = Scene::standby();
    scene.happen(&Claims(Claims::Lost));
    let took = "Took { term: 5, from: Some(2) }";
    scene.play(&[
        (0, Down(&[2]), &["node 2: Suspected", "claims for 1 above 4", "StoreUnavailable"]),
        (3000, Store(true), &["StoreBack", "writes active 1 5", "active 5", took]),
        (1000, Wait, &[]),
    ]);
}

#[test]
fn a_takeover_that_an_operator_asks_for_is_made_at_once() {
    let mut scene = Scene::standby();
    let took = "Took { term: 5, from: Some(2) }";
    scene.play(&[
        (
            0,
            Told(MonitorCommand::TakeOver),
            &["claims for 1 above 4", "writes active 1 5", "active 5", took],
        ),
        (1000, Wait, &[]),
    ]);
}

#[test]
fn a_director_hands_over_to_one_that_lives_and_says_why_it_does_not() {
    let hand_over = || Input(MonitorInput::HandOver);
    let mut scene = Scene::active();
    let yielded = "Yielded { term: Some(5) }";
    scene.play(&[
        (
            0,
            hand_over(),
            &[
                "claims for 2 above 4",
                "handed over to 2",
                "writes given-up 1 4",
                "standby",
                yielded,
            ],
        ),
        (1000, Wait, &[]),
    ]);
    assert!(scene.content.cannot_carry, "so that it is not handed back to");

    let mut scene = Scene::active();
    scene.play(&[
        (0, Down(&[2]), &["node 2: Suspected"]),
        (1000, hand_over(), &["handed over to no node"]),
        (
            1000,
            Up(&[2]),
            &[
                "node 2: Alive",
                "reads the store anew",
                "claims for 2 above 4",
                "writes given-up 1 4",
                "standby",
                yielded,
            ],
        ),
        (1000, Wait, &[]),
    ]);

    // The answer is lost, and the claim was won: the store tells when it is back.
    let mut scene = Scene::active();
    scene.happen(&Claims(Claims::Lost));
    scene.play(&[
        (
            0,
            hand_over(),
            &[
                "claims for 2 above 4",
                "StoreUnavailable",
                "not handed over: no answer",
                "asks for 1 addresses",
            ],
        ),
        (1000, Store(true), &["StoreBack", "writes given-up 1 4", "standby", yielded]),
        (1000, Wait, &[]),
    ]);

    // A standby has nothing to hand over.
    let mut scene = Scene::standby();
    scene.play(&[(0, hand_over(), &["handed over to no node"]), (1000, Wait, &[])]);
}

#[test]
fn a_hand_over_that_another_election_overtakes_is_refused_and_followed_by_a_yield() {
    let mut scene = Scene::active();
    // The store has changed since it was read.
    scene.elected = Some(Elected { node: 2, incarnation: INCARNATION, term: 9 });
    scene.handle(MonitorInput::HandOver);
    scene.run();
    let done = [
        "claims for 2 above 4",
        "handed over to no node",
        "writes given-up 1 4",
        "standby",
        "Yielded { term: Some(9) }",
    ];
    assert_eq!(scene.done, done);
}

#[test]
fn a_node_that_leaves_hands_over_and_its_heartbeats_say_so() {
    let mut scene = Scene::active();
    let yielded = "Yielded { term: Some(5) }";
    scene.play(&[
        (
            0,
            Told(MonitorCommand::Leave),
            &["claims for 2 above 4", "writes given-up 1 4", "standby", yielded],
        ),
        (1000, Wait, &[]),
    ]);
    assert!(scene.content.leaving && scene.content.cannot_carry);
}

#[test]
fn a_director_yields_to_a_host_that_answers_for_the_cvip_while_the_store_is_unavailable() {
    let mut scene = Scene::active();
    let proved = |addrs: &[IpAddr]| Input(MonitorInput::Proved(addrs.iter().copied().collect()));
    let yielded = "Yielded { term: None }";
    scene.play(&[
        (0, proved(&[cvip_addr()]), &[]),
        (1000, proved(&[]), &[]),
        (1000, Store(false), &["StoreUnavailable", "asks for 1 addresses"]),
        (1000, proved(&[addr(9)]), &[]),
        (1000, proved(&[cvip_addr()]), &["writes given-up 1 4", "standby", yielded]),
        (1000, proved(&[]), &[]),
        // It still names this director: a term that was given up is not taken again.
        (
            1000,
            Store(true),
            &[
                "StoreBack",
                "claims for 1 above 4",
                "writes active 1 5, given-up 1 4",
                "active 5",
                &TOOK(5),
            ],
        ),
        (1000, Wait, &[]),
    ]);
}

fn claim_of_cvip() -> Step {
    Input(MonitorInput::Claimed(Claimed { addr: cvip_addr(), by: Mac([2; 6]), to_all: true }))
}

fn announced() -> Step {
    let reachable = Reachable { addr: cvip_addr(), device: "eth0".to_owned() };
    Told(MonitorCommand::Announced(vec![reachable]))
}

#[test]
fn an_address_is_announced_again_after_a_claim_once_this_is_surely_the_active_director() {
    let conflict = r#"Conflict { address: 10.0.0.100, by: "02:02:02:02:02:02" }"#;
    let mut scene = Scene::active();
    scene.play(&[
        // It is not announced here yet: the claim is the former director's.
        (0, claim_of_cvip(), &[]),
        (100, announced(), &[]),
        (100, claim_of_cvip(), &["reads the store anew", "announces", conflict]),
        (2000, claim_of_cvip(), &["reads the store anew", "announces"]),
        (2000, Wait, &[]),
    ]);
    assert_eq!(scene.watched["eth0"], [cvip_addr()].into());
    assert_eq!(scene.state.view(scene.now).conflicts.len(), 1);
    // The store is unavailable: hosts that have the address answer within 1.2 s.
    scene.play(&[
        (0, Store(false), &["StoreUnavailable", "asks for 1 addresses"]),
        (1000, claim_of_cvip(), &["reads the store anew", "asks for 1 addresses"]),
        (1150, Wait, &["announces"]),
        (100, Wait, &[]),
    ]);
    // Another director was elected: it is that one's claim.
    let mut scene = Scene::active();
    scene.play(&[(0, announced(), &[])]);
    scene.elected = Some(Elected { node: 2, incarnation: INCARNATION, term: 5 });
    let claim = MonitorInput::Claimed(Claimed { addr: cvip_addr(), by: Mac([2; 6]), to_all: true });
    scene.handle(claim);
    scene.run();
    let yielded = "Yielded { term: Some(5) }";
    assert_eq!(scene.done, ["reads the store anew", "writes given-up 1 4", "standby", yielded]);
    assert_eq!(scene.watched, WatchedAddresses::new());
}

#[test]
fn a_director_that_was_away_tells_its_role_again_once_that_is_sure() {
    let mut scene = Scene::active();
    let confirm = || Told(MonitorCommand::Confirm);
    scene.play(&[
        (0, confirm(), &["reads the store anew", "active 4"]),
        (1000, Store(false), &["StoreUnavailable", "asks for 1 addresses"]),
        (1000, confirm(), &["reads the store anew", "asks for 1 addresses"]),
        (1150, Wait, &["active 4"]),
        // It is paused once more before hosts could answer.
        (1000, confirm(), &["reads the store anew", "asks for 1 addresses"]),
        (500, Frozen(2000), &["asks for 1 addresses"]),
        (1150, Wait, &["active 4"]),
        (100, Wait, &[]),
    ]);
    // It was replaced meanwhile.
    let mut scene = Scene::active();
    scene.elected = Some(Elected { node: 2, incarnation: INCARNATION, term: 5 });
    scene.handle(MonitorInput::Told(MonitorCommand::Confirm));
    scene.run();
    let yielded = "Yielded { term: Some(5) }";
    let done = ["reads the store anew", "writes given-up 1 4", "standby", yielded, "standby"];
    assert_eq!(scene.done, done);
}

#[test]
fn a_reading_that_is_not_answered_makes_no_director_sure_of_its_role() {
    let mut scene = Scene::active();
    let confirm = || Told(MonitorCommand::Confirm);
    scene.play(&[
        (0, Slow(true), &[]),
        (0, confirm(), &["reads the store anew"]),
        (5000, Slow(false), &["active 4"]),
        // It is not waited for without end.
        (1000, Slow(true), &[]),
        (0, confirm(), &["reads the store anew", "active 4"]),
        (10_100, Wait, &[]),
    ]);
    // It was replaced meanwhile.
    let mut scene = Scene::active();
    scene.play(&[
        (0, Slow(true), &[]),
        (0, confirm(), &["reads the store anew"]),
        (1000, Elected(2, 5), &[]),
        (
            100,
            Slow(false),
            &["writes given-up 1 4", "standby", "Yielded { term: Some(5) }", "standby"],
        ),
        (100, Wait, &[]),
    ]);
}

#[test]
fn a_term_that_could_not_be_written_is_written_again_and_a_yield_removes_what_is_false() {
    let mut scene = Scene::standby();
    let took = "Took { term: 5, from: Some(2) }";
    scene.play(&[
        (0, Writes(false), &[]),
        (
            1000,
            Told(MonitorCommand::TakeOver),
            &["claims for 1 above 4", "writes active 1 5 in vain", "active 5", took],
        ),
        (950, Writes(true), &["writes active 1 5"]),
        (3000, Writes(false), &[]),
        (
            50,
            Leads(2, 9, true),
            &[
                "writes given-up 1 5 in vain",
                "standby",
                "Yielded { term: Some(9) }",
                "removes the file of terms",
            ],
        ),
        (500, Writes(true), &["writes given-up 1 5"]),
        (3000, Input(MonitorInput::TermsMissing), &["writes given-up 1 5"]),
        (3000, Wait, &[]),
    ]);
}

#[test]
fn one_that_is_started_again_while_the_store_is_unavailable_goes_on_if_no_other_directs() {
    let start = || {
        let mut scene = Scene::new(None, "active 1 4");
        scene.has_store = false;
        // What a store that was never read says is nothing.
        let me = MonitorIdentity { node: ME, incarnation: INCARNATION, nonce: NONCE };
        let conf = conf(&[1, 2], &[1, 2, 3, 4]);
        scene.start(MonitorState::new(me, conf, Terms::parse("active 1 4", ME), scene.now));
        scene
    };
    start().play(&[
        (0, Wait, &["StoreUnavailable"]),
        (1900, Wait, &["writes active 1 4", "active 4"]),
        (100, Wait, &[]),
    ]);
    // It was paused, and has not listened meanwhile.
    start().play(&[
        (0, Wait, &["StoreUnavailable"]),
        (1000, Frozen(5000), &[]),
        (1900, Wait, &["writes active 1 4", "active 4"]),
        (200, Wait, &[]),
    ]);
    start().play(&[
        (0, Leads(2, 5, true), &["StoreUnavailable", "writes given-up 1 4"]),
        (1900, Wait, &["standby"]),
        (2000, Wait, &[]),
    ]);
}

#[test]
fn a_director_that_is_started_again_tells_its_former_term_and_claims_a_later_one() {
    // The store was emptied meanwhile: no other knows the term if this one does not tell it.
    let second = conf(&[2, 1], &[1, 2, 3, 4]);
    let mut scene = Scene::of(Arc::clone(&second), None, "active 1 4");
    // Before anything was read.
    assert_eq!(scene.state.leaderships(), [Leadership { set: 1, term: 4, active: false }]);
    scene.play(&[(0, Wait, &[])]);
    assert_eq!(scene.content.leaderships, [Leadership { set: 1, term: 4, active: false }]);
    let took = TOOK(5);
    scene.play(&[
        (
            0,
            Down(&[2]),
            &["standby", "claims for 1 above 4", "writes active 1 5", "active 5", &took],
        ),
        (3000, Wait, &[]),
    ]);
    // A standby tells the term that it has heard of.
    let mut scene = Scene::of(second, None, "");
    scene.play(&[(0, Leads(2, 7, false), &[]), (500, Wait, &[])]);
    assert_eq!(scene.content.leaderships, [Leadership { set: 1, term: 7, active: false }]);
}

#[test]
fn a_term_that_only_a_heartbeat_names_which_may_be_a_recording_is_not_given_again() {
    // The store was emptied, and the active director does not hear this one yet.
    let mut scene = Scene::of(conf(&[1, 2], &[1, 2, 3, 4]), None, "");
    scene.up.remove(&2);
    let leaderships = vec![Leadership { set: 1, term: 7, active: true }];
    let unproven = Heartbeat { seen: Vec::new(), leaderships, ..scene.heartbeat(2) };
    let call = MonitorCall::heard(&scene.state, unproven);
    scene.state.call(call, scene.now);
    scene.pass(5000);
    assert!(scene.done.contains(&"claims for 1 above 7".to_owned()), "{:?}", scene.done);
}

#[test]
fn addresses_are_announced_again_once_a_parted_network_is_whole() {
    let mut scene = Scene::active();
    scene.play(&[
        (0, Down(&[2]), &["node 2: Suspected"]),
        (3000, Up(&[2]), &["node 2: Alive", "reads the store anew", "announces"]),
        (1000, Wait, &[]),
    ]);
    // By one that is active no longer, nothing is.
    let mut scene = Scene::standby();
    scene.play(&[
        (0, Down(&[3]), &["node 3: Suspected"]),
        (3000, Up(&[3]), &["node 3: Alive"]),
        (1000, Wait, &[]),
    ]);
}

#[test]
fn a_reload_keeps_the_active_director_through_another_set_of_directors() {
    let mut scene = Scene::active();
    let reload = |directors: &[u32]| Told(MonitorCommand::Reload(conf(directors, &[1, 2, 3, 4])));
    scene.play(&[
        // The others are struck from the file: its set is the same by name, and it is alone in it.
        (0, reload(&[1]), &[]),
        (1000, Down(&[2]), &["node 2: Suspected"]),
        (1000, Up(&[2]), &["node 2: Alive", "announces"]),
        (1000, reload(&[1, 2]), &[]),
        (1000, reload(&[2, 1]), &[]),
        (1000, Wait, &[]),
    ]);
    assert_eq!(scene.state.view(scene.now).term, 4);
}

#[test]
fn a_director_waits_for_one_that_directs_by_another_configuration() {
    let mut scene = Scene::of(conf(&[1, 3], &[1, 2, 3, 4]), None, "");
    scene.happen(&Directing(2, true));
    scene.play(&[
        (0, Wait, &["standby"]),
        (
            3000,
            Directing(2, false),
            &["claims for 1 above 0", "writes active 1 1", "active 1", &TOOK(1)],
        ),
        (1000, Wait, &[]),
    ]);
}

#[test]
fn a_director_that_another_one_does_not_hear_vouches_for_itself_while_nodes_answer() {
    let mut scene = Scene::active();
    scene.play(&[
        (0, Answers(3), &[]),
        (50, Down(&[2]), &["vouches", "node 2: Suspected", "vouches"]),
        (1000, Up(&[2]), &["node 2: Alive", "reads the store anew", "announces"]),
        (1000, Wait, &[]),
    ]);
}

#[test]
fn what_nodes_said_of_leaving_is_unknown_to_a_new_monitor_until_it_hears_them() {
    let mut scene = Scene::active();
    scene.play(&[
        (0, Store(false), &["StoreUnavailable", "asks for 1 addresses"]),
        (100, Leaves(3), &[]),
        (100, Wait, &[]),
    ]);
    assert_eq!(scene.restrictions.leaving, [(2, None), (3, Some(INCARNATION)), (4, None)].into());
    let kept = scene.restrictions.clone();

    // A reload makes the monitor anew; node 3 has ended its cvipd meanwhile.
    let mut scene = Scene::new(None, "active 1 4");
    scene.happen(&Store(false));
    scene.happen(&Down(&[3]));
    scene.play(&[(0, Wait, &["StoreUnavailable"]), (100, Wait, &[])]);
    let mut told = scene.restrictions.clone();
    assert_eq!(told.leaving, [(2, None), (4, None)].into(), "of node 3 it knows nothing");
    told.keep_unknown(&kept);
    assert!(told.leaves(3, None));
    // It is started again, and heard.
    scene.play(&[(0, Restarts(3), &[]), (100, Wait, &[])]);
    let mut told = scene.restrictions.clone();
    told.keep_unknown(&kept);
    assert!(!told.leaves(3, None));
}

#[test]
fn what_restricts_a_node_is_unknown_to_a_new_monitor_until_it_hears_the_node_or_its_lease_ended() {
    let mut scene = Scene::new(Some((1, 4)), "active 1 4");
    scene.happen(&Down(&[3]));
    assert_eq!(scene.state.restrictions.unknown, [2, 3, 4].into(), "before it hears any");
    scene.play(&[(0, Wait, &["writes active 1 4", "active 4"]), (1000, Wait, &[])]);
    assert_eq!(scene.restrictions.unknown, [3].into());
    scene.pass(13_000);
    assert_eq!(scene.restrictions.unknown, [3].into());
    scene.pass(2000);
    assert_eq!(scene.restrictions.unknown, BTreeSet::new());
}

#[test]
fn what_nodes_said_of_ports_stays_in_force_beside_heartbeats_that_say_nothing() {
    let mut scene = Scene::active();
    let left = LeftPorts { record: (INCARNATION, 1), ..LeftPorts::default() };
    let heartbeat = Heartbeat { left: Some(left.clone()), ..scene.heartbeat(3) };
    let heartbeat = Heartbeat { sequence: heartbeat.sequence + 1, ..heartbeat };
    scene.sequence += 1;
    scene.play(&[(0, Input(MonitorInput::Heartbeat(heartbeat)), &[]), (500, Wait, &[])]);
    assert_eq!(scene.restrictions.left, [(3, left)].into());
}
