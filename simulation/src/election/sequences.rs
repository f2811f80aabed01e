//! Single sequences of events, with steps of a tenth of a second, and long random ones.

use std::time::Duration;

use super::event::{Event, Fault};
use super::properties::{active, check_outcome, check_safety};
use super::world::{Frame, Setting, World};
use crate::random::Random;

/// So many steps are enough for everything to come to its end.
const SETTLES_WITHIN: u32 = 300;

/// A world in which events happen one after the other.
struct Play {
    frame: Frame,
    world: World,
    events: Vec<Event>,
}

impl Play {
    /// Director 1 is active.
    fn of(directors: usize) -> Play {
        let frame = Frame::new(Setting {
            name: "sequences",
            order: &[1, 2, 3][..directors],
            new_order: &[],
            step: Duration::from_millis(100),
            faults: 0,
            kinds: &[],
        });
        let world = World::new(&frame);
        let mut play = Play { frame, world, events: Vec::new() };
        play.pass(50);
        assert_eq!(play.active(), [1]);
        play
    }

    fn happen(&mut self, event: Event) {
        self.events.push(event);
        let before = self.world.clone();
        let result = self.world.happen(event, &self.frame).map(drop);
        let result = match event {
            Event::Step(_) => result.and_then(|()| check_safety(&before, &self.world)),
            _ => result,
        };
        result.unwrap_or_else(|what| panic!("{what}: {:?}", self.events));
    }

    fn begin(&mut self, fault: Fault) {
        self.happen(Event::Begins(fault));
    }

    fn end(&mut self, fault: Fault) {
        self.happen(Event::Ends(fault));
    }

    fn pass(&mut self, steps: u32) {
        (0..steps).for_each(|_| self.happen(Event::Step(0)));
    }

    fn active(&self) -> Vec<u32> {
        active(&self.world).map(|(at, ..)| self.world.directors[at].node).collect()
    }

    /// The term that stands in the store; each election is one later than the last.
    fn term(&self) -> u64 {
        self.world.store.elected.get(&1).map_or(0, |elected| elected.term)
    }

    /// Nothing changes any more, and all is as well as it can be.
    fn settle(&mut self) {
        self.pass(SETTLES_WITHIN);
        let (active, term) = (self.active(), self.term());
        self.pass(SETTLES_WITHIN / 2);
        assert_eq!((self.active(), self.term()), (active, term), "{:?}", self.events);
        check_outcome(&self.world).unwrap_or_else(|what| panic!("{what}: {:?}", self.events));
    }

    /// All faults end: one is active, and all agree.
    fn recover(&mut self) {
        self.happen(Event::AllIsWell);
        self.settle();
    }
}

#[test]
fn whatever_happens_it_ends_well() {
    let mut random = Random::new(1);
    for _ in 0..60 {
        let mut play = Play::of(2 + random.within(0..2) as usize);
        for _ in 0..random.within(0..14) {
            let mut events: Vec<Event> = play.world.counted(&play.frame).collect();
            let uncounted = play.world.uncounted(&play.frame);
            events.extend(uncounted.into_iter().filter(|event| *event != Event::AllIsWell));
            let event = *random.choose(&events).expect("something can always happen");
            play.happen(event);
            play.pass(random.within(0..30) as u32);
        }
        play.settle();
        play.recover();
    }
}

/// Heartbeats between the directors are lost for half a minute, all else is well: how many
/// elections there are.
fn elections_while_none_hears_another(directors: usize, is_answered: bool, one_way: bool) -> u64 {
    let mut play = Play::of(directors);
    if !is_answered {
        play.begin(Fault::NobodyAnswers);
    }
    for from in 0..directors as u8 {
        for to in (0..directors as u8).filter(|to| *to != from && (!one_way || from == 0)) {
            play.begin(Fault::LinkLost(from, to));
        }
    }
    let before = play.term();
    play.pass(300);
    let [active] = play.active()[..] else { panic!("{:?}", play.active()) };
    let elections = play.term() - before;
    // It is found that the active one dies, too.
    play.happen(Event::Dies(active as u8 - 1));
    play.pass(if is_answered { 25 } else { 150 });
    assert_eq!(play.active().len(), 1, "a successor of {active}");
    assert_ne!(play.active(), [active]);
    play.recover();
    elections
}

#[test]
fn directors_that_do_not_hear_one_another_do_not_replace_one_another_again_and_again() {
    for directors in [2, 3] {
        for one_way in [false, true] {
            let elections = elections_while_none_hears_another(directors, true, one_way);
            assert_eq!(elections, 0, "{directors} directors, {one_way}");
            let elections = elections_while_none_hears_another(directors, false, one_way);
            assert!(elections <= 2, "{directors} directors, {one_way}: {elections}, none vouches");
        }
    }
}

#[test]
fn a_director_that_yielded_while_the_store_is_unavailable_stays_a_standby() {
    let mut play = Play::of(2);
    for fault in [Fault::StoreUnavailable(0), Fault::StoreUnavailable(1), Fault::Conflict(0)] {
        play.begin(fault);
    }
    play.pass(2);
    for _ in 0..20 {
        assert_eq!(play.active(), [0; 0], "to a conflicting host");
        play.pass(1);
    }
    play.happen(Event::IsMadeAnew(0));
    play.pass(20);
    assert_eq!(play.active(), [0; 0], "not over a reload either");
    // The store is back, and still names it; no other is active: it is elected anew.
    let term = play.term();
    play.end(Fault::StoreUnavailable(0));
    play.pass(2);
    assert_eq!((play.active(), play.term()), (vec![1], term + 1));
    play.recover();
}

#[test]
fn a_standby_whose_link_returns_replaces_no_other() {
    for directors in [2, 3] {
        let mut play = Play::of(directors);
        let before = play.term();
        for round in 0..30 {
            play.begin(Fault::CutOff(1));
            play.pass(5 + round);
            play.end(Fault::CutOff(1));
            play.pass(25);
        }
        assert_eq!((play.active(), play.term()), (vec![1], before), "{directors} directors");
    }
}

#[test]
fn an_active_director_that_is_cut_off_is_replaced_as_fast_the_thirtieth_time_as_the_first() {
    for directors in [2, 3] {
        let mut play = Play::of(directors);
        let before = play.term();
        for round in 1..=30 {
            let [active] = play.active()[..] else { panic!("{:?}", play.active()) };
            let fault = Fault::CutOff(active as u8 - 1);
            play.begin(fault);
            play.pass(10);
            assert_eq!(play.active().len(), 2, "round {round}: one knows nothing of the other");
            play.pass(20);
            play.end(fault);
            play.pass(20);
            assert_eq!(play.term() - before, round, "one for each");
        }
    }
}

#[test]
fn one_that_took_over_and_is_started_again_waits_for_no_record_of_the_dead_one() {
    let mut play = Play::of(2);
    play.happen(Event::Dies(0));
    play.pass(10);
    assert_eq!(play.active(), [2]);
    play.happen(Event::Restarts(1));
    play.pass(5);
    assert_eq!(play.active(), [2]);
}

#[test]
fn a_takeover_that_was_not_answered_in_time_is_not_made_later() {
    let mut play = Play::of(2);
    play.begin(Fault::StoreUnavailable(1));
    play.pass(5);
    play.happen(Event::IsAsked(1));
    play.pass(120);
    play.end(Fault::StoreUnavailable(1));
    play.pass(50);
    assert_eq!(play.active(), [1]);
    play.happen(Event::IsAsked(1));
    play.pass(5);
    assert_eq!(play.active(), [2]);
}

#[test]
fn one_that_stops_is_not_handed_back_to_by_one_that_cannot_carry() {
    let mut play = Play::of(2);
    play.begin(Fault::CannotCarry(1));
    play.pass(5);
    let before = play.term();
    play.happen(Event::Stops(0));
    play.pass(50);
    assert_eq!((play.active(), play.term()), (vec![2], before + 1));
}
