//! All states of a world, breadth first: those that need no fault, then those that need one, and so
//! on; and the shortest way to one that is wrong.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::event::Event;
use super::properties::{check_outcome, check_safety};
use super::world::{Frame, Setting, World};

/// How often progress is told: after so many states.
const PROGRESS_EVERY: u32 = 100_000;

/// Of so many states one is looked at again when it is met again: whether what follows from it is
/// the same, as one hash promises.
const COMPARED: u64 = 1024;

/// How far the search is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// States that were found.
    pub states: usize,
    /// How many faults lie behind those that are looked at now.
    pub faults: u8,
    /// How many events lie behind them.
    pub depth: u32,
    /// How many of them wait.
    pub waiting: usize,
}

/// What was found in a world.
#[derive(Clone, Debug)]
pub struct Explored {
    /// How many states there are.
    pub states: usize,
    /// How many events lead from one to another.
    pub events: u64,
    /// How many events the longest of the shortest ways has.
    pub depth: u32,
    /// In how many ends a world settles: states, or cycles of states, that only time leads to.
    pub ends: usize,
    /// What is wrong, if anything.
    pub violation: Option<Violation>,
}

/// A way to what must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// What happens, from the beginning.
    pub(super) events: Vec<Event>,
}

/// Hashes are their own hashes.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<Same>>;

/// A state that was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    parent: u32,
    event: Event,
    /// What a step of time leads to, once that is known.
    next: u32,
    /// It may be an end.
    is_good: bool,
}

const NONE: u32 = u32::MAX;

struct Search<'s> {
    frame: Frame,
    found: Vec<Found>,
    by_hash: ByHash<u32>,
    /// What follows from a few states.
    followers: ByHash<Vec<u64>>,
    events: u64,
    depth: u32,
    tell: &'s mut dyn FnMut(Progress),
}

/// A state whose followers are looked for, or were.
struct Open {
    index: u32,
    world: World,
}

/// Explores a world. `tell` is told of progress.
pub fn explore(setting: Setting, tell: &mut dyn FnMut(Progress)) -> Explored {
    let mut search = Search {
        frame: Frame::new(setting),
        found: Vec::new(),
        by_hash: ByHash::default(),
        followers: ByHash::default(),
        events: 0,
        depth: 0,
        tell,
    };
    let (violation, ends) = match search.run() {
        Err(violation) => (Some(violation), 0),
        Ok(()) => match search.check_ends() {
            Err(violation) => (Some(violation), 0),
            Ok(ends) => (None, ends),
        },
    };
    let (states, events, depth) = (search.found.len(), search.events, search.depth);
    Explored { states, events, depth, ends, violation }
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Violation> {
        let world = World::new(&self.frame);
        let root = self.note(world.hash(), NONE, Event::AllIsWell, &world);
        let mut seeds = vec![vec![Open { index: root, world }]];
        for faults in 0..=self.frame.setting.faults {
            seeds = self.run_layer(seeds, faults)?;
        }
        Ok(())
    }

    /// Explores what needs so many faults. `seeds`: by depth, where that begins; returned is by
    /// depth all that was found, whence the next fault leads.
    fn run_layer(
        &mut self,
        seeds: Vec<Vec<Open>>,
        faults: u8,
    ) -> Result<Vec<Vec<Open>>, Violation> {
        let is_last = faults == self.frame.setting.faults;
        let mut explored: Vec<Vec<Open>> = Vec::new();
        let mut waiting: Vec<Open> = Vec::new();
        let mut seeds = seeds.into_iter();
        for depth in 0.. {
            let seeds = seeds.next();
            if seeds.is_none() && waiting.is_empty() {
                break;
            }
            for open in seeds.into_iter().flatten() {
                match faults {
                    0 => waiting.push(open),
                    _ => self.begin(&open, is_last, &mut waiting)?,
                }
            }
            self.depth = self.depth.max(depth);
            let mut next = Vec::new();
            let mut left = waiting.len();
            for open in &waiting {
                left -= 1;
                self.follow(open, &mut next)?;
                if self.found.len() as u32 % PROGRESS_EVERY < 8 {
                    let (states, waiting) = (self.found.len(), left + next.len());
                    (self.tell)(Progress { states, faults, depth, waiting });
                }
            }
            if !is_last {
                explored.push(waiting);
            }
            waiting = next;
        }
        Ok(explored)
    }

    /// The next fault, in each way that it can come.
    fn begin(&mut self, open: &Open, is_last: bool, to: &mut Vec<Open>) -> Result<(), Violation> {
        for event in open.world.counted(&self.frame).collect::<Vec<_>>() {
            let mut world = open.world.clone();
            self.happen(open.index, &mut world, event)?;
            if is_last {
                world.forget_backup();
            }
            self.reach(open.index, event, world, to);
        }
        Ok(())
    }

    /// What follows without a fault.
    fn follow(&mut self, open: &Open, to: &mut Vec<Open>) -> Result<(), Violation> {
        let mut followers = Vec::new();
        let worlds = self.followers_of(open.index, &open.world)?;
        for (event, world) in worlds {
            let (hash, index) = self.reach(open.index, event, world, to);
            followers.push(hash);
            if event == Event::Step(0) {
                self.found[open.index as usize].next = index;
            }
        }
        let hash = open.world.hash();
        if hash.is_multiple_of(COMPARED) {
            self.followers.insert(hash, followers);
        }
        Ok(())
    }

    fn followers_of(&mut self, index: u32, from: &World) -> Result<Vec<(Event, World)>, Violation> {
        let mut worlds = Vec::new();
        for order in 0..World::orders(&self.frame) {
            let (event, mut world) = (Event::Step(order), from.clone());
            let depends_on_order = self.happen(index, &mut world, event)?;
            if let Err(what) = check_safety(from, &world) {
                return Err(self.violation(index, &[event], what));
            }
            worlds.push((event, world));
            if !depends_on_order {
                break;
            }
        }
        for event in from.uncounted(&self.frame) {
            let mut world = from.clone();
            self.happen(index, &mut world, event)?;
            worlds.push((event, world));
        }
        Ok(worlds)
    }

    fn happen(&mut self, index: u32, world: &mut World, event: Event) -> Result<bool, Violation> {
        self.events += 1;
        match world.happen(event, &self.frame) {
            Ok(effect) => Ok(effect.depends_on_order),
            Err(what) => Err(self.violation(index, &[event], what)),
        }
    }

    /// A state is reached, perhaps not for the first time.
    fn reach(&mut self, from: u32, event: Event, world: World, to: &mut Vec<Open>) -> (u64, u32) {
        let hash = world.hash();
        if let Some(index) = self.by_hash.get(&hash) {
            let index = *index;
            self.compare(hash, index, &world);
            return (hash, index);
        }
        let index = self.note(hash, from, event, &world);
        to.push(Open { index, world });
        (hash, index)
    }

    fn note(&mut self, hash: u64, parent: u32, event: Event, world: &World) -> u32 {
        let index = u32::try_from(self.found.len()).expect("so many states do not fit in memory");
        let is_good = check_outcome(world).is_ok();
        self.found.push(Found { parent, event, next: NONE, is_good });
        self.by_hash.insert(hash, index);
        index
    }

    /// A few states are compared with those of the same hash: what follows is the same, or the hash
    /// leaves out what matters.
    fn compare(&mut self, hash: u64, index: u32, world: &World) {
        let Some(followers) = self.followers.get(&hash).cloned() else { return };
        let worlds = self.followers_of(index, world).unwrap_or_default();
        let hashes: Vec<u64> = worlds.iter().map(|(_, world)| world.hash()).collect();
        assert_eq!(hashes, followers, "two states of one hash do not go on alike: {world:#?}");
    }

    fn violation(&self, at: u32, then: &[Event], what: String) -> Violation {
        let mut events: Vec<Event> = then.iter().rev().copied().collect();
        let mut at = at;
        while self.found[at as usize].parent != NONE {
            events.push(self.found[at as usize].event);
            at = self.found[at as usize].parent;
        }
        events.reverse();
        Violation { what, events }
    }

    /// From every state only time leads to an end, a state or a cycle of states that nothing but a
    /// fault, or the end of one, leads out of. All ends are good; how many there are.
    fn check_ends(&self) -> Result<usize, Violation> {
        // By state: the round in which it was passed.
        let mut passed = vec![0; self.found.len()];
        let mut ends = 0;
        for start in 0..self.found.len() {
            let round = start as u32 + 1;
            let mut at = start;
            while passed[at] == 0 {
                passed[at] = round;
                at = self.found[at].next as usize;
            }
            if passed[at] != round {
                continue;
            }
            ends += 1;
            let first = at;
            loop {
                if !self.found[at].is_good {
                    return Err(self.bad_end(at as u32));
                }
                at = self.found[at].next as usize;
                if at == first {
                    break;
                }
            }
        }
        Ok(ends)
    }

    fn bad_end(&self, at: u32) -> Violation {
        let mut violation = self.violation(at, &[Event::Step(0); 3], String::new());
        let mut world = World::new(&self.frame);
        let until = violation.events.len() - 3;
        for event in &violation.events[..until] {
            let _ = world.happen(*event, &self.frame);
        }
        let what = check_outcome(&world).err().unwrap_or_default();
        violation.what = format!("it stays so: {what}");
        violation
    }
}
