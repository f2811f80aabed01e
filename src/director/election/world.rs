//! Small worlds of directors, a store and heartbeats, in which things go wrong in every order:
//! a term that was given up is never taken again, no term has two directors, and once the faults
//! end, one is active and all agree.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// From one moment of a world to the next.
const TICK: Duration = Duration::from_millis(250);

/// How long a fault lasts at least before the next comes.
const TICKS_BETWEEN: u32 = 6;

/// How long a calm may take to set in: claims that followed one another wait their turn.
const CALM_WITHIN: u32 = 200;

/// How long nothing may change then.
const CALM: u32 = 40;

/// What goes wrong, or is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A director does not reach the store any more, or does again.
    Store(usize),
    /// Heartbeats from one do not reach another any more, or do again.
    Link(usize, usize),
    /// A director's cvipd is killed and started again.
    Restart(usize),
    /// A director's cvipd is killed, or started.
    Power(usize),
    /// Its lookout is made anew.
    Reload(usize),
    /// Another host answers for the CVIP, or does not any more.
    Rival(usize),
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

#[derive(Clone)]
struct Director {
    election: Election,
    is_up: bool,
    incarnation: u64,
    has_store: bool,
    view: Option<Elected>,
    is_known: bool,
    rival: bool,
    can_carry: bool,
    /// What it said last to each other, and when that came.
    heard: BTreeMap<u32, (Peer, Instant)>,
    held: Option<u64>,
    /// By the store's leases it lives until then.
    leased_until: Instant,
    /// What it took and gave up, over all its lives.
    given_up: BTreeSet<u64>,
}

#[derive(Clone)]
struct World {
    now: Instant,
    stored: Option<Elected>,
    before: Option<Elected>,
    directors: Vec<Director>,
    cut: BTreeSet<(usize, usize)>,
    has_nodes: bool,
    /// Who took each term; not kept where the store lost some.
    by_term: BTreeMap<u64, u32>,
    lost_terms: bool,
    elections: u32,
}

fn number(index: usize) -> u32 {
    index as u32 + 1
}

impl World {
    fn new(directors: usize) -> World {
        let now = Instant::now();
        let order: Vec<u32> = (0..directors).map(number).collect();
        let director = |index| Director {
            election: Election::new(number(index), 1, order.clone(), now),
            is_up: true,
            incarnation: 1,
            has_store: true,
            view: None,
            is_known: false,
            rival: false,
            can_carry: true,
            heard: BTreeMap::new(),
            held: None,
            leased_until: now,
            given_up: BTreeSet::new(),
        };
        let mut world = World {
            now,
            stored: None,
            before: None,
            directors: (0..directors).map(director).collect(),
            cut: BTreeSet::new(),
            has_nodes: true,
            by_term: BTreeMap::new(),
            lost_terms: false,
            elections: 0,
        };
        world.pass(20);
        assert_eq!(world.active(), [1]);
        world
    }

    fn active(&self) -> Vec<u32> {
        let active = |d: &&Director| d.is_up && d.election.part() != Part::Standby;
        self.directors.iter().filter(active).map(|d| d.election.node).collect()
    }

    /// How director `at` sees the others.
    fn peers(&self, at: usize) -> BTreeMap<u32, Peer> {
        let others = (0..self.directors.len()).filter(|other| *other != at);
        let peer = |other: usize| {
            let (it, me) = (&self.directors[other], &self.directors[at]);
            let is_active = it.is_up && it.election.part() != Part::Standby;
            let in_touch = !self.cut.contains(&(at, other)) && !self.cut.contains(&(other, at));
            let vouches = is_active && it.has_store && self.has_nodes && !in_touch;
            let alive = (self.now < it.leased_until).then_some(it.incarnation);
            let peer = match me.heard.get(&number(other)) {
                None => Peer::default(),
                Some((peer, at)) => {
                    let is_heard = self.now - *at < Duration::from_millis(600);
                    Peer { voice: if is_heard { Voice::Heard } else { Voice::Silent }, ..*peer }
                }
            };
            Peer {
                alive,
                directing: it.election.part() != Part::Standby,
                vouched: (vouches && me.has_store).then_some(self.now),
                ..peer
            }
        };
        others.map(|other| (number(other), peer(other))).collect()
    }

    fn start(&mut self, at: usize, incarnation: u64) {
        let order: Vec<u32> = (0..self.directors.len()).map(number).collect();
        let director = &mut self.directors[at];
        let given_up = director.election.given_up().clone();
        director.election =
            Election::new(number(at), incarnation, order, self.now).having_given_up(given_up);
        if director.incarnation != incarnation {
            (director.view, director.is_known) = (None, false);
        }
        director.incarnation = incarnation;
        director.heard.clear();
    }

    fn happen(&mut self, event: Event) {
        let toggle = |is: &mut bool| *is = !*is;
        match event {
            Event::Store(at) => toggle(&mut self.directors[at].has_store),
            Event::Link(from, to) => {
                if !self.cut.remove(&(from, to)) {
                    self.cut.insert((from, to));
                }
            }
            Event::Restart(at) => self.start(at, self.directors[at].incarnation + 1),
            Event::Power(at) => {
                toggle(&mut self.directors[at].is_up);
                if self.directors[at].is_up {
                    self.start(at, self.directors[at].incarnation + 1);
                }
            }
            Event::Reload(at) => self.start(at, self.directors[at].incarnation),
            Event::Rival(at) => toggle(&mut self.directors[at].rival),
            Event::Emptied => (self.stored, self.lost_terms) = (None, true),
            Event::PutBack => (self.stored, self.lost_terms) = (self.before, true),
            Event::Asked(at) => self.directors[at].election.ask(),
            Event::HandsOver(at) => {
                let peers = self.peers(at);
                let act = self.directors[at].election.hand_over(self.sight(at, &peers));
                if self.directors[at].has_store {
                    act.into_iter().for_each(|act| self.act(at, act));
                }
            }
            Event::Carrier(at) => toggle(&mut self.directors[at].can_carry),
            Event::Nodes => toggle(&mut self.has_nodes),
        }
    }

    fn sight<'a>(&self, at: usize, peers: &'a BTreeMap<u32, Peer>) -> Sight<'a> {
        let me = &self.directors[at];
        Sight {
            stored: me.view,
            known: me.is_known,
            away: !me.has_store,
            peers,
            deaf: false,
            rival: me.rival && me.election.part() != Part::Standby,
            held: me.held,
            can_carry: me.can_carry,
        }
    }

    fn act(&mut self, at: usize, act: Act) {
        let me = &mut self.directors[at];
        match act {
            Act::Claim { expected, node, incarnation } => {
                if self.stored.map(|elected| elected.term) == expected {
                    let stands = expected.unwrap_or(0);
                    let term = counter::next(counter::latest(stands, me.election.latest()));
                    self.before = self.stored;
                    self.stored = Some(Elected { node, incarnation, term });
                    self.elections += 1;
                }
                me.view = self.stored;
            }
            Act::Take { term } => {
                assert!(!me.given_up.contains(&term), "node {} takes {term} again", number(at));
                me.held = Some(term);
                let node = *self.by_term.entry(term).or_insert(number(at));
                assert!(node == number(at) || self.lost_terms, "two in term {term}");
            }
            Act::Yield { .. } => {
                me.given_up.extend(me.held.take());
            }
        }
    }

    /// One moment: heartbeats come, and everybody decides.
    fn tick(&mut self) {
        self.now += TICK;
        for from in 0..self.directors.len() {
            let it = &self.directors[from];
            if !it.is_up {
                continue;
            }
            let (term, active) = match it.election.part() {
                Part::Active { term } => (term, true),
                Part::Standby => (it.view.map_or(0, |elected| elected.term), false),
            };
            let said = Peer { term, active, can_carry: it.can_carry, ..Peer::default() };
            for to in (0..self.directors.len()).filter(|to| *to != from) {
                if !self.cut.contains(&(from, to)) {
                    self.directors[to].heard.insert(number(from), (said, self.now));
                }
            }
        }
        for at in 0..self.directors.len() {
            let me = &mut self.directors[at];
            if !me.is_up {
                continue;
            }
            if me.has_store {
                (me.view, me.is_known) = (self.stored, true);
                me.leased_until = self.now + Duration::from_secs(10);
            }
            for _ in 0..3 {
                let peers = self.peers(at);
                let mut election = self.directors[at].election.clone();
                let act = election.step(self.sight(at, &peers), self.now);
                self.directors[at].election = election;
                let Some(act) = act else { break };
                self.act(at, act);
            }
            let me = &mut self.directors[at];
            let is_standby = me.election.part() == Part::Standby;
            if me.held.is_some_and(|term| is_standby && !me.election.may_take(term)) {
                me.given_up.extend(me.held.take());
            }
        }
    }

    fn pass(&mut self, ticks: u32) {
        (0..ticks).for_each(|_| self.tick());
    }

    /// All faults end. One is active in the end, all agree, and nothing changes any more.
    fn calms_down(mut self) -> Result<(), String> {
        self.cut.clear();
        self.has_nodes = true;
        for at in 0..self.directors.len() {
            if !self.directors[at].is_up {
                self.happen(Event::Power(at));
            }
            let director = &mut self.directors[at];
            (director.has_store, director.rival, director.can_carry) = (true, false, true);
        }
        self.pass(CALM_WITHIN);
        let (active, elections) = (self.active(), self.elections);
        let parts: Vec<Part> = self.directors.iter().map(|d| d.election.part()).collect();
        let stored = self.stored.ok_or("nobody is elected")?;
        let [node] = active[..] else { return Err(format!("{parts:?}, {stored:?}")) };
        let term = Part::Active { term: stored.term };
        if node != stored.node || !parts.contains(&term) {
            return Err(format!("{parts:?}, {stored:?}"));
        }
        self.pass(CALM);
        match self.elections == elections && self.active() == active {
            true => Ok(()),
            false => Err("nobody attacks, and yet there are elections".to_owned()),
        }
    }
}

fn events(directors: usize) -> Vec<Event> {
    let mut events = vec![Event::Emptied, Event::PutBack, Event::Nodes];
    for at in 0..directors {
        events.extend([
            Event::Store(at),
            Event::Restart(at),
            Event::Power(at),
            Event::Reload(at),
            Event::Rival(at),
            Event::Asked(at),
            Event::HandsOver(at),
            Event::Carrier(at),
        ]);
        let others = (0..directors).filter(|to| *to != at);
        events.extend(others.map(|to| Event::Link(at, to)));
    }
    events
}

/// Every story of so many events, one after the other.
fn tell_all(world: &World, depth: u32, story: &mut Vec<Event>) {
    if let Err(why) = world.clone().calms_down() {
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
    tell_all(&World::new(2), 2, &mut Vec::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn stories_of_two_and_three_directors_end_well(
        directors in 2..=3usize,
        story in proptest::collection::vec((any::<prop::sample::Index>(), 0..12u32), 0..14),
    ) {
        let mut world = World::new(directors);
        let all = events(directors);
        for (index, ticks) in story {
            world.happen(*index.get(&all));
            world.pass(ticks);
        }
        let calm = world.calms_down();
        prop_assert!(calm.is_ok(), "{calm:?}");
    }
}

/// Heartbeats between the directors are lost for half a minute, all else is well.
fn elections_of_a_war(directors: usize, has_nodes: bool, one_way: bool) -> u32 {
    let mut world = World::new(directors);
    world.has_nodes = has_nodes;
    for from in 0..directors {
        for to in 0..directors {
            if from != to && (!one_way || from == 0) {
                world.happen(Event::Link(from, to));
            }
        }
    }
    let before = world.elections;
    world.pass(120);
    // It is found that the active one dies, too.
    let [active] = world.active()[..] else { panic!("{:?}", world.active()) };
    let during = world.elections - before;
    world.happen(Event::Power(active as usize - 1));
    world.pass(if has_nodes { 12 } else { 60 });
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
    let mut world = World::new(2);
    for event in [Event::Store(0), Event::Store(1), Event::Rival(0)] {
        world.happen(event);
    }
    world.pass(2);
    for _ in 0..20 {
        assert_eq!(world.active(), [0; 0], "to a rival");
        world.tick();
    }
    world.happen(Event::Reload(0));
    world.pass(20);
    assert_eq!(world.active(), [0; 0], "not over a reload either");
    // The store is back, and still names it; nobody else is active: it is elected anew.
    let term = world.stored.unwrap().term;
    world.happen(Event::Store(0));
    world.pass(2);
    assert_eq!((world.active(), world.stored.unwrap().term), (vec![1], term + 1));
    world.calms_down().unwrap();
}
