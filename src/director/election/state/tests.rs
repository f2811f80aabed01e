//! The rules of the election, each alone, and a few whole stories.

use super::*;

const SET: [u32; 3] = [1, 2, 3];

/// What node 2 sees of the set 1, 2, 3, and the time.
struct Scene {
    election: Election,
    stored: Option<Elected>,
    known: bool,
    unavailable: bool,
    peers: BTreeMap<u32, ElectionPeer>,
    isolated: bool,
    conflict: bool,
    held: Option<u64>,
    can_carry: bool,
    now: Instant,
}

fn elected(node: u32, term: u64) -> Option<Elected> {
    Some(Elected { node, incarnation: 10 * u64::from(node), term })
}

fn peer(liveness: PeerLiveness) -> ElectionPeer {
    ElectionPeer { liveness, alive: Some(10), ..ElectionPeer::default() }
}

impl Scene {
    fn of(node: u32, stored: Option<Elected>) -> Scene {
        let now = Instant::now();
        let others = SET.iter().filter(|other| **other != node);
        Scene {
            election: Election::new(node, 10 * u64::from(node), SET.to_vec(), now),
            stored,
            known: true,
            unavailable: false,
            peers: others.map(|node| (*node, peer(PeerLiveness::Heard))).collect(),
            isolated: false,
            conflict: false,
            held: None,
            can_carry: true,
            now,
        }
    }

    /// An active director.
    fn active(node: u32, term: u64) -> Scene {
        let mut scene = Scene::of(node, elected(node, term));
        assert_eq!(scene.step(), Some(ElectionAction::Take { term }));
        scene
    }

    fn input(&self) -> ElectionInput<'_> {
        ElectionInput {
            stored: self.stored,
            known: self.known,
            unavailable: self.unavailable,
            peers: &self.peers,
            isolated: self.isolated,
            conflict: self.conflict,
            held: self.held,
            can_carry: self.can_carry,
        }
    }

    fn step(&mut self) -> Option<ElectionAction> {
        let mut election = self.election.clone();
        let action = election.step(self.input(), self.now);
        self.election = election;
        action
    }

    fn after(&mut self, wait: Duration) -> Option<ElectionAction> {
        self.now += wait;
        self.step()
    }

    /// From now on; until now it was as it is.
    fn hear(&mut self, node: u32, liveness: PeerLiveness) {
        let mut election = self.election.clone();
        election.observe(self.input(), self.now);
        self.election = election;
        self.peers.get_mut(&node).unwrap().liveness = liveness;
    }
}

fn claim(node: u32, expected: Option<u64>) -> Option<ElectionAction> {
    Some(ElectionAction::Claim { expected, node, incarnation: 10 * u64::from(node) })
}

#[test]
fn at_the_first_start_of_all_the_first_in_order_claims_and_the_others_wait() {
    let mut first = Scene::of(1, None);
    assert_eq!(first.step(), claim(1, None));
    let mut second = Scene::of(2, None);
    second.hear(1, PeerLiveness::Unheard);
    assert_eq!(second.step(), None);
    assert_eq!(second.after(LISTEN), None, "the first may still come");
    assert_eq!(second.after(STAGGER), claim(2, None));
}

#[test]
fn who_is_elected_takes_and_stays_whatever_its_place_in_the_order() {
    let mut scene = Scene::active(3, 7);
    assert_eq!(scene.election.role(), ElectionRole::Active { term: 7 });
    assert_eq!(scene.after(LISTEN), None, "no fail-back to the first in order");
    let mut first = Scene::of(1, elected(3, 7));
    assert_eq!(first.after(LISTEN), None);
}

#[test]
fn a_silent_director_is_followed_by_the_first_standby_that_lives() {
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Suspected);
    assert_eq!(second.step(), claim(2, Some(4)));
    let mut third = Scene::of(3, elected(1, 4));
    third.hear(1, PeerLiveness::Suspected);
    assert_eq!(third.step(), None, "node 2 comes first");
    assert_eq!(third.after(STAGGER), claim(3, Some(4)), "and did not come");
    let mut third = Scene::of(3, elected(1, 4));
    third.hear(1, PeerLiveness::Suspected);
    third.hear(2, PeerLiveness::Suspected);
    assert_eq!(third.step(), claim(3, Some(4)), "node 2 is dead as well");
}

#[test]
fn a_director_that_is_heard_again_in_time_is_not_followed() {
    let mut third = Scene::of(3, elected(1, 4));
    third.hear(1, PeerLiveness::Suspected);
    assert_eq!(third.step(), None);
    third.hear(1, PeerLiveness::Heard);
    assert_eq!(third.after(STAGGER), None);
    third.hear(1, PeerLiveness::Suspected);
    assert_eq!(third.step(), None, "the wait begins anew");
}

#[test]
fn a_lease_that_ended_is_no_reason_while_heartbeats_come() {
    let mut second = Scene::of(2, elected(1, 4));
    second.peers.get_mut(&1).unwrap().alive = None;
    assert_eq!(second.after(LISTEN), None);
    // One that was never heard has no other witness.
    second.hear(1, PeerLiveness::Unheard);
    assert_eq!(second.step(), claim(2, Some(4)));
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Unheard);
    assert_eq!(second.after(LISTEN), None, "its lease stands: heartbeats may be filtered");
}

#[test]
fn a_director_that_is_isolated_claims_nothing() {
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Suspected);
    second.isolated = true;
    assert_eq!(second.after(LISTEN), None);
    second.isolated = false;
    assert_eq!(second.step(), claim(2, Some(4)));
}

#[test]
fn while_the_store_is_away_no_director_claims_and_the_active_stays() {
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Suspected);
    second.unavailable = true;
    assert_eq!(second.after(LISTEN), None);
    let mut active = Scene::active(1, 4);
    active.unavailable = true;
    (active.peers).values_mut().for_each(|peer| *peer = ElectionPeer::default());
    active.isolated = true;
    assert_eq!(active.after(100 * LISTEN), None);
}

#[test]
fn the_active_yields_to_a_higher_term_in_the_store_or_in_a_heartbeat() {
    let mut active = Scene::active(1, 4);
    active.stored = elected(2, 5);
    assert_eq!(active.step(), Some(ElectionAction::Yield { term: Some(5) }));
    let mut active = Scene::active(1, 4);
    let two = active.peers.get_mut(&2).unwrap();
    two.term = 5;
    assert_eq!(active.step(), None, "there is no yielding to a standby that knows more");
    let two = active.peers.get_mut(&2).unwrap();
    two.active = true;
    assert_eq!(active.step(), Some(ElectionAction::Yield { term: Some(5) }));
    assert_eq!(active.step(), None, "the store is behind: it still names node 1");
}

#[test]
fn a_conflict_counts_only_while_the_store_is_away() {
    let mut active = Scene::active(1, 4);
    active.conflict = true;
    assert_eq!(active.step(), None);
    active.unavailable = true;
    assert_eq!(active.step(), Some(ElectionAction::Yield { term: None }));
}

#[test]
fn one_that_was_started_again_claims_its_own_term_anew() {
    let mut again = Scene::of(1, Some(Elected { node: 1, incarnation: 9, term: 4 }));
    assert_eq!(again.step(), claim(1, Some(4)));
    again.stored = elected(1, 5);
    assert_eq!(again.step(), Some(ElectionAction::Take { term: 5 }));
}

#[test]
fn one_that_was_started_again_without_a_store_goes_on_if_no_other_does() {
    let mut again = Scene::of(1, None);
    (again.known, again.unavailable, again.held) = (false, true, Some(4));
    assert_eq!(again.step(), None);
    assert_eq!(again.after(LISTEN), Some(ElectionAction::Take { term: 4 }));
    let mut again = Scene::of(1, None);
    (again.known, again.unavailable, again.held) = (false, true, Some(4));
    again.peers.get_mut(&2).unwrap().active = true;
    assert_eq!(again.after(LISTEN), None, "node 2 took over meanwhile");
    again.held = None;
    again.peers.get_mut(&2).unwrap().active = false;
    assert_eq!(again.after(LISTEN), None, "a standby stays a standby");
}

#[test]
fn an_operator_can_ask_for_a_takeover() {
    let mut third = Scene::of(3, elected(1, 4));
    third.election.ask(third.now);
    assert_eq!(third.step(), claim(3, Some(4)));
    assert_eq!(third.step(), None, "not twice at once");
    third.stored = elected(3, 5);
    assert_eq!(third.step(), Some(ElectionAction::Take { term: 5 }));
    assert_eq!(third.after(LISTEN), None);
}

#[test]
fn the_active_hands_over_to_the_first_that_lives() {
    let mut active = Scene::active(1, 4);
    let input = |scene: &Scene| scene.peers.clone();
    let heirs = |scene: &Scene, peers: &BTreeMap<u32, ElectionPeer>| {
        scene.election.hand_over(ElectionInput {
            stored: scene.stored,
            known: true,
            unavailable: false,
            peers,
            isolated: false,
            conflict: false,
            held: None,
            can_carry: true,
        })
    };
    let peers = input(&active);
    let to = |node| Some(ElectionAction::Claim { expected: Some(4), node, incarnation: 10 });
    assert_eq!(heirs(&active, &peers), to(2));
    active.hear(2, PeerLiveness::Suspected);
    let peers = input(&active);
    assert_eq!(heirs(&active, &peers), to(3));
    active.hear(3, PeerLiveness::Leaving);
    let peers = input(&active);
    assert_eq!(heirs(&active, &peers), None);
    assert_eq!(heirs(&Scene::of(2, None), &peers), None, "a standby has nothing to hand over");
}

/// Three directors, one store, and heartbeats that some do not hear: whatever is cut off, the
/// store never elects two in one term, and once all hear each other one is active.
#[test]
fn no_order_of_silence_makes_two_active_in_one_term() {
    let mut seed: u64 = 42;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut store: Option<Elected> = None;
    let mut scenes: Vec<Scene> = SET.iter().map(|node| Scene::of(*node, None)).collect();
    let mut by_term: BTreeMap<u64, u32> = BTreeMap::new();
    for round in 0..3000 {
        let calm = round % 300 > 150;
        let says: Vec<(u32, ElectionRole)> =
            scenes.iter().map(|scene| (scene.election.node, scene.election.role())).collect();
        for scene in &mut scenes {
            scene.now += Duration::from_millis(100);
            // Reads of the store may be late.
            if calm || random(3) == 0 {
                scene.stored = store;
            }
            for (node, role) in says.iter().filter(|(node, _)| *node != scene.election.node) {
                let peer = scene.peers.get_mut(node).unwrap();
                peer.liveness = if calm || random(4) > 0 {
                    PeerLiveness::Heard
                } else {
                    PeerLiveness::Suspected
                };
                if let (PeerLiveness::Heard, ElectionRole::Active { term }) = (peer.liveness, role)
                {
                    (peer.active, peer.term) = (true, *term);
                } else if peer.liveness == PeerLiveness::Heard {
                    peer.active = false;
                }
            }
            if let Some(ElectionAction::Claim { expected, node, incarnation }) = scene.step()
                && store.map(|elected| elected.term) == expected
            {
                let term = expected.unwrap_or(0) + 1;
                store = Some(Elected { node, incarnation, term });
            }
        }
        for scene in &scenes {
            if let ElectionRole::Active { term } = scene.election.role() {
                let node = *by_term.entry(term).or_insert(scene.election.node);
                assert_eq!(node, scene.election.node, "two in term {term}");
            }
        }
        if round % 300 == 299 {
            let active = |scene: &&Scene| scene.election.role() != ElectionRole::Standby;
            assert_eq!(scenes.iter().filter(active).count(), 1, "round {round}");
        }
    }
    assert!(by_term.len() > 10, "the story has takeovers: {}", by_term.len());
}

#[test]
fn an_active_director_whose_set_gets_another_name_has_itself_elected_and_is_left_alone() {
    // Node 1 is struck from the file, after node 2 took over from it.
    let mut scene = Scene::active(2, 5);
    let mut rest = Scene::of(3, None);
    for scene in [&mut scene, &mut rest] {
        scene.election.reorder(vec![2, 3]);
        scene.stored = None;
        scene.peers.remove(&1);
    }
    assert_eq!(scene.election.role(), ElectionRole::Active { term: 0 });
    rest.peers.get_mut(&2).unwrap().active = true;
    assert_eq!(rest.after(LISTEN), None, "another directs");
    assert_eq!(scene.step(), claim(2, None));
    assert_eq!(scene.step(), None, "it is not asked again at once");
    scene.stored = elected(2, 1);
    assert_eq!(scene.step(), Some(ElectionAction::Take { term: 1 }));
    assert_eq!(scene.step(), None);
    // An order of the same set changes nothing.
    scene.election.reorder(vec![3, 2]);
    assert_eq!((scene.election.role(), scene.step()), (ElectionRole::Active { term: 1 }, None));
}

#[test]
fn an_active_director_that_comes_into_a_set_with_another_yields_and_outlives_an_old_election() {
    // What the store says of that set is old: the one elected there directs no longer.
    let mut scene = Scene::active(3, 5);
    scene.election.reorder(vec![2, 3]);
    scene.election.reorder(SET.to_vec());
    scene.stored = elected(1, 9);
    assert_eq!(scene.step(), claim(3, Some(9)));
    // It does: this one yields.
    scene.peers.get_mut(&1).unwrap().directing = true;
    assert_eq!(scene.step(), Some(ElectionAction::Yield { term: Some(9) }));
    assert_eq!(scene.election.role(), ElectionRole::Standby);
}

#[test]
fn one_that_another_set_elected_yields_to_one_that_is_heard_to_be_elected_in_this_one() {
    // Node 1 is struck from the file. Node 3 took over from it, and reads the file after node 2
    // had itself elected in the set that is left.
    let mut scene = Scene::active(3, 5);
    scene.election.reorder(vec![2, 3]);
    (scene.stored, scene.unavailable) = (None, true);
    scene.peers.remove(&1);
    assert_eq!(scene.step(), None, "none is heard to be active");
    let two = scene.peers.get_mut(&2).unwrap();
    two.active = true;
    assert_eq!(scene.step(), None, "nor to be elected in this set");
    let two = scene.peers.get_mut(&2).unwrap();
    two.term = 1;
    assert_eq!(scene.step(), Some(ElectionAction::Yield { term: Some(1) }));
    assert_eq!(scene.election.role(), ElectionRole::Standby);
    assert_eq!(scene.after(LISTEN), None);
}

#[test]
fn a_director_that_was_alone_stays_when_it_gets_a_standby() {
    let mut scene = Scene::of(2, None);
    assert_eq!(scene.election.alone(), ElectionRole::Active { term: 0 });
    scene.unavailable = true;
    assert_eq!(scene.step(), None, "nothing changes while the store is unavailable");
    scene.unavailable = false;
    assert_eq!(scene.step(), claim(2, None));
}

#[test]
fn an_active_director_that_cannot_carry_the_cvips_hands_over_to_one_that_can() {
    let mut active = Scene::active(1, 4);
    active.can_carry = false;
    let to = |node| Some(ElectionAction::Claim { expected: Some(4), node, incarnation: 10 });
    assert_eq!(active.step(), None, "who handed over to it may be about to say that it ends");
    assert_eq!(active.after(SETTLED_AFTER), to(2));
    assert_eq!(active.step(), None, "not twice at once");
    active.peers.get_mut(&2).unwrap().can_carry = false;
    assert_eq!(active.after(LISTEN), to(3), "node 2 cannot either");
    active.peers.get_mut(&3).unwrap().alive = None;
    assert_eq!(active.after(LISTEN), None, "no other can");
    active.peers.get_mut(&3).unwrap().alive = Some(10);
    active.unavailable = true;
    assert_eq!(active.after(LISTEN), None, "nothing changes while the store is unavailable");
    active.unavailable = false;
    active.stored = elected(3, 5);
    assert_eq!(active.after(LISTEN), Some(ElectionAction::Yield { term: Some(5) }));
    active.can_carry = true;
    assert_eq!(active.after(LISTEN), None, "there is no fail-back");
}

#[test]
fn a_standby_that_cannot_carry_the_cvips_claims_nothing_while_another_can() {
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Suspected);
    second.can_carry = false;
    assert_eq!(second.after(LISTEN), None);
    second.election.ask(second.now);
    assert_eq!(second.after(LISTEN), None, "an operator who asks for it asks for an outage");
    // The third does not wait for it.
    let mut third = Scene::of(3, elected(1, 4));
    third.hear(1, PeerLiveness::Suspected);
    third.peers.get_mut(&2).unwrap().can_carry = false;
    assert_eq!(third.step(), claim(3, Some(4)));
    // None can: all goes as if all could.
    second.peers.get_mut(&3).unwrap().can_carry = false;
    assert_eq!(second.after(LISTEN), claim(2, Some(4)));
}

#[test]
fn a_standby_follows_an_active_director_that_cannot_carry_the_cvips_and_does_not_hand_over() {
    let mut second = Scene::of(2, elected(1, 4));
    let one = second.peers.get_mut(&1).unwrap();
    (one.active, one.term, one.can_carry) = (true, 4, false);
    assert_eq!(second.step(), None, "it hands over by itself");
    assert_eq!(second.after(HANDS_OVER_WITHIN), claim(2, Some(4)), "it does not reach the store");
    let mut third = Scene::of(3, elected(1, 4));
    third.peers = BTreeMap::from([(1, second.peers[&1]), (2, peer(PeerLiveness::Heard))]);
    assert_eq!((third.step(), third.after(HANDS_OVER_WITHIN)), (None, None), "node 2 comes first");
    assert_eq!(third.after(STAGGER), claim(3, Some(4)));
}

#[test]
fn nothing_flaps_where_none_can_carry_the_cvips() {
    let mut active = Scene::active(1, 4);
    active.can_carry = false;
    active.peers.values_mut().for_each(|peer| peer.can_carry = false);
    let mut second = Scene::of(2, elected(1, 4));
    second.can_carry = false;
    let one = second.peers.get_mut(&1).unwrap();
    (one.active, one.term, one.can_carry) = (true, 4, false);
    second.peers.get_mut(&3).unwrap().can_carry = false;
    for _ in 0..100 {
        assert_eq!((active.after(STAGGER), second.after(STAGGER)), (None, None));
    }
    // A planned end hands over all the same.
    let peers = active.peers.clone();
    let input = ElectionInput {
        stored: active.stored,
        known: true,
        unavailable: false,
        peers: &peers,
        isolated: false,
        conflict: false,
        held: None,
        can_carry: false,
    };
    assert_eq!(
        active.election.hand_over(input),
        Some(ElectionAction::Claim { expected: Some(4), node: 2, incarnation: 10 })
    );
}

#[test]
fn a_term_that_was_given_up_is_never_taken_again() {
    // To a conflicting host, while the store is unavailable.
    let mut active = Scene::active(1, 4);
    (active.unavailable, active.conflict) = (true, true);
    assert_eq!(active.step(), Some(ElectionAction::Yield { term: None }));
    for _ in 0..5 {
        assert_eq!(active.after(STAGGER), None);
    }
    // The store is back, and names it still: it is elected anew.
    (active.unavailable, active.conflict) = (false, false);
    assert_eq!(active.step(), claim(1, Some(4)));
    active.stored = elected(1, 5);
    assert_eq!(active.step(), Some(ElectionAction::Take { term: 5 }));

    // To a heartbeat of a director that falls silent then.
    let mut active = Scene::active(1, 4);
    active.unavailable = true;
    let two = active.peers.get_mut(&2).unwrap();
    (two.term, two.active) = (5, true);
    assert_eq!(active.step(), Some(ElectionAction::Yield { term: Some(5) }));
    active.hear(2, PeerLiveness::Suspected);
    assert_eq!(active.after(LISTEN), None);
    // Made anew by a reload, or started again, it still knows.
    let given_up = active.election.given_up().clone();
    active.election =
        Election::new(1, 10, SET.to_vec(), active.now).having_given_up(given_up.clone());
    assert_eq!(active.step(), None);
    (active.known, active.held) = (false, Some(4));
    assert_eq!(active.after(LISTEN), None);
    // While the other lives and directs, by the store, this one does not claim its place.
    (active.known, active.unavailable) = (true, false);
    active.peers.get_mut(&2).unwrap().directing = true;
    assert_eq!(active.after(LISTEN), None);
    active.peers.get_mut(&2).unwrap().alive = None;
    assert_eq!(active.step(), claim(1, Some(4)));
}

#[test]
fn an_elected_director_that_does_not_direct_is_followed() {
    let mut second = Scene::of(2, elected(1, 4));
    assert_eq!(second.step(), None);
    assert_eq!(second.after(IDLE_AFTER - STAGGER), None, "it may be about to");
    assert_eq!(second.after(STAGGER), claim(2, Some(4)));
}

#[test]
fn silence_from_before_an_election_says_nothing_about_who_was_elected() {
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Suspected);
    second.hear(3, PeerLiveness::Suspected);
    second.stored = elected(3, 5);
    assert_eq!(second.after(100 * LISTEN), None, "it holds its lease");
    second.hear(3, PeerLiveness::Heard);
    second.peers.get_mut(&3).unwrap().active = true;
    assert_eq!(second.step(), None);
    second.hear(3, PeerLiveness::Suspected);
    assert_eq!(second.step(), claim(2, Some(5)), "it has been heard in this term");
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(3, PeerLiveness::Suspected);
    second.stored = elected(3, 5);
    second.peers.get_mut(&3).unwrap().alive = None;
    assert_eq!(second.after(LISTEN), None, "its lease has ended, and node 1 comes first");
    assert_eq!(second.after(STAGGER), claim(2, Some(5)));
}

#[test]
fn a_director_that_vouches_for_itself_is_silent_to_this_one_only() {
    let mut second = Scene::of(2, elected(1, 4));
    second.hear(1, PeerLiveness::Suspected);
    for _ in 0..20 {
        second.peers.get_mut(&1).unwrap().vouched = Some(second.now);
        assert_eq!(second.after(VOUCH_EVERY), None);
    }
    assert_eq!(second.after(VOUCHED_FOR), claim(2, Some(4)), "and does so no longer");
}

#[test]
fn two_active_directors_of_one_term_are_told_apart_by_the_store_and_else_by_their_order() {
    // The store was emptied, and has elected another in a term of the same number.
    let mut first = Scene::active(1, 4);
    first.stored = elected(2, 4);
    assert_eq!(first.step(), Some(ElectionAction::Yield { term: Some(4) }));
    let mut second = Scene::active(2, 4);
    let one = second.peers.get_mut(&1).unwrap();
    (one.active, one.term) = (true, 4);
    // The store names this one: it has itself elected anew, for the other may not know.
    assert_eq!(second.step(), claim(2, Some(4)));
    assert_eq!(second.step(), None, "once");
    (second.stored, second.unavailable) = (None, true);
    assert_eq!(second.step(), Some(ElectionAction::Yield { term: Some(4) }));
}

#[test]
fn after_the_last_term_comes_the_first() {
    let mut active = Scene::active(1, counter::LAST);
    active.stored = elected(2, 1);
    assert_eq!(active.step(), Some(ElectionAction::Yield { term: Some(1) }));
    assert_eq!(active.election.latest(), 1);
    let mut active = Scene::active(1, 1);
    active.stored = elected(2, counter::LAST);
    assert_eq!(active.step(), claim(1, Some(counter::LAST)), "an old backup was put back");
}
