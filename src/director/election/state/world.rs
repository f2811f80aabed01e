//! Small worlds of directors, a store and heartbeats, in which things go wrong in every order: a term
//! that was given up is never taken again, no term has two directors, a director that is active
//! beside one of a later term can know nothing of it, there is no active director only where none
//! could be, and there are no elections without end; once the faults are over, one is active and all
//! agree.
//!
//! Heartbeats come late, or are lost in one direction; the store is read late, was emptied or put
//! back; directors are started again with what they noted or without.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// From one moment of a world to the next.
const TICK: Duration = Duration::from_millis(100);

/// How many moments a fault lasts at least before the next comes.
const TICKS_BETWEEN: u32 = 14;

/// How long it may take until nothing changes any more.
const CALM_WITHIN: u32 = 300;

/// How long nothing may change then.
const CALM: u32 = 120;

/// No heartbeat for so long is silence, and for so long the other is told that it is not heard.
const SILENCE: Duration = Duration::from_millis(600);
const OVERDUE: Duration = Duration::from_millis(300);

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(10);

/// How many moments late what is slow comes.
const LATE: usize = 8;

/// What goes wrong, or is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WorldEvent {
    /// A director does not reach the store any more, or does again.
    Store(usize),
    /// It reads the store late.
    SlowStore(usize),
    /// Heartbeats from one do not reach another any more.
    Link(usize, usize),
    /// They come late.
    SlowLink(usize, usize),
    /// Most of them are lost.
    LossyLink(usize, usize),
    /// A director hears nobody any more, neither directors nor nodes, and does not reach the store.
    Isolated(usize),
    /// A director's cvipd is killed and started again.
    Restart(usize),
    /// Its machine is, so that what it noted is lost.
    Reboot(usize),
    /// A director's cvipd is killed, or started.
    Power(usize),
    /// A director hands over and ends.
    Ends(usize),
    /// Its monitor is made anew.
    Reload(usize),
    /// Another host answers for the CVIP, or does not any more.
    Conflict(usize),
    /// The store is emptied.
    Emptied,
    /// The store is put back to what it was before the last election.
    PutBack,
    /// An operator asks for a takeover.
    Asked(usize),
    /// A director hands over.
    HandsOver(usize),
    /// A director cannot carry the CVIPs any more, or can again.
    Carrier(usize),
    /// The nodes cannot be asked any more whether they answer, or can again.
    Nodes,
}

/// What a director's node has in the store.
#[derive(Clone, Copy, Default)]
struct ModelRecord {
    incarnation: u64,
    directing: bool,
    vouched: u32,
    leased: bool,
}

#[derive(Clone, Default)]
struct ModelStored {
    elected: Option<Elected>,
    records: BTreeMap<u32, ModelRecord>,
}

#[derive(Clone, Copy)]
struct ModelHeartbeat {
    version: (u64, u64),
    said: ElectionPeer,
    leaving: bool,
    /// It says that it hears the receiver.
    hears: bool,
}

#[derive(Clone)]
struct Director {
    election: Election,
    is_up: bool,
    /// Since when it is ending.
    leaving: Option<Instant>,
    /// It says farewell.
    has_left: bool,
    incarnation: u64,
    view: ModelStored,
    is_known: bool,
    trusts_from: Instant,
    can_carry: bool,
    sequence: u64,
    heard: BTreeMap<u32, (ModelHeartbeat, Instant)>,
    vouches: BTreeMap<u32, (u32, Option<Instant>)>,
    held: Option<u64>,
    leased_until: Instant,
    vouched: (u32, Instant),
    /// What it took and gave up, over all its lives.
    given_up: BTreeSet<u64>,
}

#[derive(Clone)]
struct ElectionWorld {
    now: Instant,
    ticks: usize,
    stored: ModelStored,
    /// What late readers read.
    past: VecDeque<ModelStored>,
    before: Option<Elected>,
    directors: Vec<Director>,
    /// What is the matter.
    faults: BTreeSet<WorldEvent>,
    under_way: VecDeque<(usize, usize, usize, ModelHeartbeat)>,
    /// Who took each term; not kept where the store lost some.
    by_term: BTreeMap<u64, u32>,
    lost_terms: bool,
    elections: u32,
}

fn number(index: usize) -> u32 {
    index as u32 + 1
}

impl ElectionWorld {
    fn new(directors: usize) -> ElectionWorld {
        let now = Instant::now();
        let order: Vec<u32> = (0..directors).map(number).collect();
        let director = |index| Director {
            election: Election::new(number(index), 1, order.clone(), now),
            is_up: true,
            leaving: None,
            has_left: false,
            incarnation: 1,
            view: ModelStored::default(),
            is_known: false,
            trusts_from: now,
            can_carry: true,
            sequence: 0,
            heard: BTreeMap::new(),
            vouches: BTreeMap::new(),
            held: None,
            leased_until: now,
            vouched: (0, now),
            given_up: BTreeSet::new(),
        };
        let mut world = ElectionWorld {
            now,
            ticks: 0,
            stored: ModelStored::default(),
            past: VecDeque::new(),
            before: None,
            directors: (0..directors).map(director).collect(),
            faults: BTreeSet::new(),
            under_way: VecDeque::new(),
            by_term: BTreeMap::new(),
            lost_terms: false,
            elections: 0,
        };
        world.pass(50);
        assert_eq!(world.active(), [1]);
        world
    }

    fn active(&self) -> Vec<u32> {
        let active = |d: &&Director| d.is_up && d.election.role() != ElectionRole::Standby;
        self.directors.iter().filter(active).map(|d| d.election.node).collect()
    }

    fn is(&self, fault: WorldEvent) -> bool {
        self.faults.contains(&fault)
    }

    fn has_store(&self, at: usize) -> bool {
        !self.is(WorldEvent::Store(at)) && !self.is(WorldEvent::Isolated(at))
    }

    /// For how long `at` has not heard `other`; none: never.
    fn quiet(&self, at: usize, other: usize) -> Option<Duration> {
        let (_, when) = self.directors[at].heard.get(&number(other))?;
        Some(self.now - *when)
    }

    /// How director `at` sees the others.
    fn peers(&self, at: usize) -> BTreeMap<u32, ElectionPeer> {
        let me = &self.directors[at];
        let others = (0..self.directors.len()).filter(|other| *other != at);
        let peer = |other: usize| {
            let node = number(other);
            let record = me.view.records.get(&node).copied().unwrap_or_default();
            let heartbeat = me.heard.get(&node).map(|(heartbeat, _)| *heartbeat);
            let liveness = match (heartbeat, self.quiet(at, other)) {
                (Some(_), Some(quiet)) if quiet >= SILENCE => PeerLiveness::Suspected,
                (Some(heartbeat), _) if heartbeat.leaving => PeerLiveness::Leaving,
                (Some(_), _) => PeerLiveness::Heard,
                (None, _) => PeerLiveness::Unheard,
            };
            ElectionPeer {
                liveness,
                alive: record.leased.then_some(record.incarnation),
                directing: record.directing,
                vouched: me.vouches.get(&node).and_then(|(_, at)| *at),
                ..heartbeat.map_or(ElectionPeer::default(), |heartbeat| heartbeat.said)
            }
        };
        others.map(|other| (number(other), peer(other))).collect()
    }

    fn start(&mut self, at: usize, incarnation: u64) {
        let order: Vec<u32> = (0..self.directors.len()).map(number).collect();
        let now = self.now;
        let director = &mut self.directors[at];
        let given_up = director.election.given_up().clone();
        director.election =
            Election::new(number(at), incarnation, order, now).having_given_up(given_up);
        if director.incarnation != incarnation {
            (director.view, director.is_known) = (ModelStored::default(), false);
            (director.sequence, director.leaving) = (0, None);
        }
        director.incarnation = incarnation;
        director.heard.clear();
        director.vouches.clear();
        director.is_up = true;
    }

    fn toggle(&mut self, fault: WorldEvent) {
        if !self.faults.remove(&fault) {
            self.faults.insert(fault);
        }
    }

    fn happen(&mut self, event: WorldEvent) {
        match event {
            WorldEvent::Restart(at) => self.start(at, self.directors[at].incarnation + 1),
            WorldEvent::Reboot(at) => {
                let director = &mut self.directors[at];
                director.held = None;
                director.election.given_up.clear();
                // An emptied store may begin again with the same terms.
                director.given_up.clear();
                self.start(at, self.directors[at].incarnation + 1);
            }
            WorldEvent::Power(at) => match self.directors[at].is_up {
                true => self.directors[at].is_up = false,
                false => self.start(at, self.directors[at].incarnation + 1),
            },
            WorldEvent::Reload(at) if self.directors[at].is_up => {
                self.start(at, self.directors[at].incarnation);
            }
            WorldEvent::Emptied => (self.stored, self.lost_terms) = (ModelStored::default(), true),
            WorldEvent::PutBack => (self.stored.elected, self.lost_terms) = (self.before, true),
            WorldEvent::Asked(at) => self.directors[at].election.ask(self.now),
            WorldEvent::HandsOver(at) | WorldEvent::Ends(at) => {
                let peers = self.peers(at);
                let action = self.directors[at].election.hand_over(self.input(at, &peers));
                action.into_iter().for_each(|action| self.action(at, action));
                if event == WorldEvent::Ends(at) {
                    let me = &mut self.directors[at];
                    me.leaving = me.leaving.or(Some(self.now));
                }
            }
            WorldEvent::Reload(_) => {}
            WorldEvent::Carrier(at) => self.directors[at].can_carry ^= true,
            WorldEvent::Store(_)
            | WorldEvent::SlowStore(_)
            | WorldEvent::Link(..)
            | WorldEvent::SlowLink(..)
            | WorldEvent::LossyLink(..)
            | WorldEvent::Isolated(_)
            | WorldEvent::Conflict(_)
            | WorldEvent::Nodes => self.toggle(event),
        }
    }

    fn input<'a>(&self, at: usize, peers: &'a BTreeMap<u32, ElectionPeer>) -> ElectionInput<'a> {
        let me = &self.directors[at];
        ElectionInput {
            stored: me.view.elected,
            known: me.is_known,
            unavailable: !self.has_store(at),
            peers,
            isolated: self.now < me.trusts_from,
            conflict: self.is(WorldEvent::Conflict(at))
                && me.election.role() != ElectionRole::Standby,
            held: me.held,
            can_carry: me.can_carry && me.leaving.is_none(),
        }
    }

    fn action(&mut self, at: usize, action: ElectionAction) {
        let has_store = self.has_store(at);
        let me = &mut self.directors[at];
        match action {
            ElectionAction::Claim { expected, node, incarnation } if has_store => {
                if self.stored.elected.map(|elected| elected.term) == expected {
                    let stands = expected.unwrap_or(0);
                    let term = counter::next(counter::latest(stands, me.election.latest()));
                    self.before = self.stored.elected;
                    self.stored.elected = Some(Elected { node, incarnation, term });
                    self.elections += 1;
                }
                me.view.elected = self.stored.elected;
            }
            ElectionAction::Claim { .. } => {}
            ElectionAction::Take { term } => {
                assert!(!me.given_up.contains(&term), "node {} takes {term} again", number(at));
                me.held = Some(term);
                let node = *self.by_term.entry(term).or_insert(number(at));
                assert!(node == number(at) || self.lost_terms, "two in term {term}");
            }
            ElectionAction::Yield { .. } => me.given_up.extend(me.held.take()),
        }
    }

    /// What a director says, and what it has written.
    fn speak(&mut self, from: usize) {
        let others: Vec<usize> = (0..self.directors.len()).filter(|to| *to != from).collect();
        let hears = |to: &usize| self.quiet(from, *to).is_some_and(|quiet| quiet < OVERDUE);
        let hearing: BTreeSet<usize> = others.iter().copied().filter(hears).collect();
        let now = self.now;
        let it = &mut self.directors[from];
        let (term, active) = match it.election.role() {
            ElectionRole::Active { term } => (term, true),
            ElectionRole::Standby => (it.view.elected.map_or(0, |elected| elected.term), false),
        };
        it.sequence += 1;
        let can_carry = it.can_carry && it.leaving.is_none();
        let said = ElectionPeer { term, active, can_carry, ..ElectionPeer::default() };
        let (version, leaving) = ((it.incarnation, it.sequence), it.has_left);
        let doubted = others.iter().any(|to| {
            let heartbeat = it.heard.get(&number(*to));
            let in_touch =
                heartbeat.is_some_and(|(heartbeat, _)| heartbeat.hears) && hearing.contains(to);
            !in_touch && it.view.records.get(&number(*to)).is_some_and(|record| record.leased)
        });
        let is_answered = !self.faults.contains(&WorldEvent::Nodes) && now >= it.trusts_from;
        if active && doubted && is_answered && now >= it.vouched.1 {
            it.vouched = (it.vouched.0 + 1, now + VOUCH_EVERY);
        }
        for to in others {
            let heartbeat = ModelHeartbeat { version, said, leaving, hears: hearing.contains(&to) };
            let due = self.ticks + if self.is(WorldEvent::SlowLink(from, to)) { LATE } else { 0 };
            let is_lost = self.is(WorldEvent::LossyLink(from, to)) && !self.ticks.is_multiple_of(5);
            if !is_lost
                && !self.is(WorldEvent::Link(from, to))
                && !self.is(WorldEvent::Isolated(to))
            {
                self.under_way.push_back((due, from, to, heartbeat));
            }
        }
        if self.has_store(from) {
            let it = &mut self.directors[from];
            it.leased_until = now + LEASE;
            let (incarnation, vouched) = (it.incarnation, it.vouched.0);
            let record = ModelRecord { incarnation, directing: active, vouched, leased: true };
            self.stored.records.insert(number(from), record);
        }
    }

    fn hear(&mut self) {
        let (come, later) = self.under_way.drain(..).partition(|(due, ..)| *due <= self.ticks);
        self.under_way = later;
        let come: VecDeque<_> = come;
        for (_, from, to, heartbeat) in come {
            let heard = &mut self.directors[to].heard;
            let is_new =
                heard.get(&number(from)).is_none_or(|(b, _)| b.version < heartbeat.version);
            if is_new && !self.faults.contains(&WorldEvent::Isolated(to)) {
                heard.insert(number(from), (heartbeat, self.now));
            }
        }
    }

    /// One moment: heartbeats come, the store is read and everybody decides.
    fn tick(&mut self) {
        (self.now, self.ticks) = (self.now + TICK, self.ticks + 1);
        for at in 0..self.directors.len() {
            if self.directors[at].is_up {
                self.speak(at);
            } else if self.now >= self.directors[at].leased_until {
                self.stored.records.entry(number(at)).or_default().leased = false;
            }
            if !self.has_store(at) && self.now >= self.directors[at].leased_until {
                self.stored.records.entry(number(at)).or_default().leased = false;
            }
        }
        self.hear();
        self.past.push_back(self.stored.clone());
        if self.past.len() > LATE {
            self.past.pop_front();
        }
        for at in 0..self.directors.len() {
            if self.directors[at].is_up {
                self.decide(at);
            }
        }
    }

    fn decide(&mut self, at: usize) {
        let (has_store, now) = (self.has_store(at), self.now);
        let read = if self.is(WorldEvent::SlowStore(at)) { &self.past[0] } else { &self.stored };
        let read = read.clone();
        let is_isolated = self.is(WorldEvent::Isolated(at));
        let me = &mut self.directors[at];
        if has_store {
            // Of elections a reader is never shown one that is older than its own claim's.
            let own = me.view.elected.filter(|_| me.is_known && !self.lost_terms);
            let is_older = |own: Elected| {
                read.elected.is_none_or(|read| counter::is_later(own.term, read.term))
            };
            let elected = own.filter(|own| is_older(*own)).or(read.elected);
            (me.view, me.is_known) = (ModelStored { elected, ..read }, true);
            for (node, record) in &me.view.records {
                let known = me.vouches.entry(*node).or_insert((record.vouched, None));
                if known.0 != record.vouched {
                    *known = (record.vouched, record.directing.then_some(now));
                }
            }
        }
        if is_isolated {
            me.trusts_from = now + SILENCE;
        }
        for _ in 0..3 {
            let peers = self.peers(at);
            let mut election = self.directors[at].election.clone();
            let action = election.step(self.input(at, &peers), self.now);
            self.directors[at].election = election;
            let Some(action) = action else { break };
            self.action(at, action);
        }
        let me = &mut self.directors[at];
        let is_standby = me.election.role() == ElectionRole::Standby;
        if me.held.is_some_and(|term| is_standby && !me.election.may_take(term)) {
            me.given_up.extend(me.held.take());
        }
        let is_late = me.leaving.is_some_and(|since| now >= since + Duration::from_secs(3));
        if me.leaving.is_some() && (is_standby || is_late) {
            me.has_left = true;
            self.speak(at);
            let me = &mut self.directors[at];
            (me.is_up, me.leaving, me.has_left) = (false, None, false);
            me.leased_until = now;
        }
    }

    fn pass(&mut self, ticks: u32) {
        (0..ticks).for_each(|_| self.tick());
    }

    /// The faults last: nothing changes any more, and it is as well as it can be.
    fn stands_well(mut self) -> Result<(), String> {
        self.pass(CALM_WITHIN);
        let elections = self.elections;
        self.pass(CALM);
        let directors = &self.directors;
        let parts: Vec<ElectionRole> = directors.iter().map(|d| d.election.role()).collect();
        let shown = format!("{parts:?}, {:?}, {:?}", self.stored.elected, self.faults);
        if self.elections != elections {
            return Err(format!("{} elections follow: {shown}", self.elections - elections));
        }
        let active: Vec<usize> = self.active().iter().map(|node| *node as usize - 1).collect();
        let could = |at: &usize| {
            directors[*at].is_up && self.has_store(*at) && !self.is(WorldEvent::SlowStore(*at))
        };
        if active.is_empty() && (0..directors.len()).any(|at| could(&at)) {
            return Err(format!("nobody directs: {shown}"));
        }
        let can = |at: &usize| directors[*at].can_carry;
        let hears = |at: usize, other: usize| self.quiet(at, other).is_some_and(|q| q < SILENCE);
        for one in &active {
            for other in active.iter().filter(|other| *other != one) {
                let is_known =
                    could(one) && could(other) || hears(*one, *other) && hears(*other, *one);
                if is_known {
                    return Err(format!("two direct, and could know it: {shown}"));
                }
            }
            let successor = |at: &usize| {
                at != one && could(at) && can(at) && hears(*one, *at) && hears(*at, *one)
            };
            if could(one) && !can(one) && (0..directors.len()).any(|at| successor(&at)) {
                return Err(format!("one directs that cannot: {shown}"));
            }
        }
        Ok(())
    }

    /// All faults end. One is active in the end, all agree, and nothing changes any more.
    fn calms_down(mut self) -> Result<(), String> {
        self.faults.clear();
        for at in 0..self.directors.len() {
            if !self.directors[at].is_up || self.directors[at].leaving.is_some() {
                self.start(at, self.directors[at].incarnation + 1);
            }
            self.directors[at].can_carry = true;
        }
        self.pass(CALM_WITHIN);
        let (active, elections) = (self.active(), self.elections);
        let parts: Vec<ElectionRole> = self.directors.iter().map(|d| d.election.role()).collect();
        let stored = self.stored.elected.ok_or("nobody is elected")?;
        let [node] = active[..] else { return Err(format!("{parts:?}, {stored:?}")) };
        let term = ElectionRole::Active { term: stored.term };
        if node != stored.node || !parts.contains(&term) {
            return Err(format!("{parts:?}, {stored:?}"));
        }
        self.pass(CALM);
        match self.elections == elections && self.active() == active {
            true => Ok(()),
            false => Err("nobody attacks, and yet there are elections".to_owned()),
        }
    }

    /// However it goes on.
    fn ends_well(&self) -> Result<(), String> {
        self.clone().stands_well()?;
        self.clone().calms_down()
    }
}

fn events(directors: usize) -> Vec<WorldEvent> {
    let mut events = vec![WorldEvent::Emptied, WorldEvent::PutBack, WorldEvent::Nodes];
    for at in 0..directors {
        events.extend([
            WorldEvent::Store(at),
            WorldEvent::SlowStore(at),
            WorldEvent::Isolated(at),
            WorldEvent::Restart(at),
            WorldEvent::Reboot(at),
            WorldEvent::Power(at),
            WorldEvent::Ends(at),
            WorldEvent::Reload(at),
            WorldEvent::Conflict(at),
            WorldEvent::Asked(at),
            WorldEvent::HandsOver(at),
            WorldEvent::Carrier(at),
        ]);
        let others = (0..directors).filter(|to| *to != at);
        events.extend(others.flat_map(|to| {
            [WorldEvent::Link(at, to), WorldEvent::SlowLink(at, to), WorldEvent::LossyLink(at, to)]
        }));
    }
    events
}

/// Every story of so many events, one after the other.
fn tell_all(world: &ElectionWorld, depth: u32, story: &mut Vec<WorldEvent>) {
    if let Err(why) = world.ends_well() {
        panic!("{story:?}: {why}");
    }
    if depth == 0 {
        return;
    }
    for event in events(world.directors.len()) {
        let mut next = world.clone();
        story.push(event);
        next.happen(event);
        next.pass(TICKS_BETWEEN);
        tell_all(&next, depth - 1, story);
        story.pop();
    }
}

#[test]
fn every_short_story_of_two_directors_ends_well() {
    tell_all(&ElectionWorld::new(2), 2, &mut Vec::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn stories_of_two_and_three_directors_end_well((directors, story) in story()) {
        let mut world = ElectionWorld::new(directors);
        for (event, ticks) in story {
            world.happen(event);
            world.pass(ticks);
        }
        let ends = world.ends_well();
        prop_assert!(ends.is_ok(), "{ends:?}");
    }
}

/// How many directors there are, what happens, and how long each lasts.
fn story() -> impl Strategy<Value = (usize, Vec<(WorldEvent, u32)>)> {
    let story = |directors| {
        let event = prop::sample::select(events(directors));
        (Just(directors), prop::collection::vec((event, 0..30u32), 0..14))
    };
    (2..=3usize).prop_flat_map(story)
}

/// Heartbeats between the directors are lost for half a minute, all else is well.
fn elections_of_a_war(directors: usize, has_nodes: bool, one_way: bool) -> u32 {
    let mut world = ElectionWorld::new(directors);
    if !has_nodes {
        world.happen(WorldEvent::Nodes);
    }
    for from in 0..directors {
        for to in 0..directors {
            if from != to && (!one_way || from == 0) {
                world.happen(WorldEvent::Link(from, to));
            }
        }
    }
    let before = world.elections;
    world.pass(300);
    // It is found that the active one dies, too.
    let [active] = world.active()[..] else { panic!("{:?}", world.active()) };
    let during = world.elections - before;
    world.happen(WorldEvent::Power(active as usize - 1));
    world.pass(if has_nodes { 25 } else { 150 });
    assert_eq!(world.active().len(), 1, "a successor of {active}");
    assert_ne!(world.active(), [active]);
    world.calms_down().unwrap();
    during
}

#[test]
fn directors_that_do_not_hear_one_another_make_no_war() {
    for directors in [2, 3] {
        for one_way in [false, true] {
            let elections = elections_of_a_war(directors, true, one_way);
            assert_eq!(elections, 0, "{directors} directors, {one_way}");
            let elections = elections_of_a_war(directors, false, one_way);
            assert!(
                elections <= 2,
                "{directors} directors, {one_way}: {elections}, nobody vouches"
            );
        }
    }
}

#[test]
fn a_yield_sticks_while_the_store_is_away() {
    let mut world = ElectionWorld::new(2);
    for event in [WorldEvent::Store(0), WorldEvent::Store(1), WorldEvent::Conflict(0)] {
        world.happen(event);
    }
    world.pass(2);
    for _ in 0..20 {
        assert_eq!(world.active(), [0; 0], "to a conflicting host");
        world.tick();
    }
    world.happen(WorldEvent::Reload(0));
    world.pass(20);
    assert_eq!(world.active(), [0; 0], "not over a reload either");
    // The store is back, and still names it; nobody else is active: it is elected anew.
    let term = world.stored.elected.unwrap().term;
    world.happen(WorldEvent::Store(0));
    world.pass(2);
    assert_eq!((world.active(), world.stored.elected.unwrap().term), (vec![1], term + 1));
    world.calms_down().unwrap();
}

/// Cuts a director's machine off from all, or joins it again.
fn cut_off(world: &mut ElectionWorld, at: usize) {
    world.happen(WorldEvent::Isolated(at));
    for to in (0..world.directors.len()).filter(|to| *to != at) {
        world.happen(WorldEvent::Link(at, to));
    }
}

#[test]
fn a_standby_whose_link_returns_replaces_nobody() {
    for directors in [2, 3] {
        let mut world = ElectionWorld::new(directors);
        let before = world.elections;
        for round in 0..30 {
            cut_off(&mut world, 1);
            world.pass(5 + round);
            cut_off(&mut world, 1);
            world.pass(25);
        }
        assert_eq!((world.active(), world.elections), (vec![1], before), "{directors} directors");
    }
}

#[test]
fn an_active_director_that_is_cut_off_is_replaced_as_fast_the_thirtieth_time_as_the_first() {
    for directors in [2, 3] {
        let mut world = ElectionWorld::new(directors);
        let before = world.elections;
        for round in 1..=30 {
            let [active] = world.active()[..] else { panic!("{:?}", world.active()) };
            cut_off(&mut world, active as usize - 1);
            world.pass(10);
            assert_eq!(world.active().len(), 2, "round {round}: one knows nothing of the other");
            world.pass(20);
            cut_off(&mut world, active as usize - 1);
            world.pass(20);
            assert_eq!(world.elections - before, round, "one for each");
        }
    }
}

#[test]
fn one_that_took_over_and_is_started_again_waits_for_no_record_of_the_dead_one() {
    let mut world = ElectionWorld::new(2);
    world.happen(WorldEvent::Power(0));
    world.pass(10);
    assert_eq!(world.active(), [2]);
    world.happen(WorldEvent::Restart(1));
    world.pass(5);
    assert_eq!(world.active(), [2]);
}

#[test]
fn a_takeover_that_was_not_answered_in_time_is_not_made_later() {
    let mut world = ElectionWorld::new(2);
    world.happen(WorldEvent::Store(1));
    world.pass(5);
    world.happen(WorldEvent::Asked(1));
    world.pass(120);
    world.happen(WorldEvent::Store(1));
    world.pass(50);
    assert_eq!(world.active(), [1]);
    world.happen(WorldEvent::Asked(1));
    world.pass(5);
    assert_eq!(world.active(), [2]);
}

#[test]
fn one_that_ends_is_not_handed_back_to_by_one_that_cannot_carry() {
    let mut world = ElectionWorld::new(2);
    world.happen(WorldEvent::Carrier(1));
    world.pass(5);
    let before = world.elections;
    world.happen(WorldEvent::Ends(0));
    world.pass(50);
    assert_eq!((world.active(), world.elections), (vec![2], before + 1));
}
