//! Whole sequences of what a monitor hears, is told and gets for what it ordered, and what it then
//! does.

use std::collections::BTreeSet;

use super::super::recording::MonitorCall;
use super::scene::Step::*;
use super::scene::{Claims, INCARNATION, ME, NONCE, Scene, Step, addr, conf, cvip_addr};
use super::*;
use crate::heartbeat::LeftPorts;
use crate::net::{Claimed, Mac, Reachable};
use crate::store::Elected;

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
        let mut scene = Scene::new(None, "active 1 4\n");
        scene.has_store = false;
        // What a store that was never read says is nothing.
        let me = MonitorIdentity { node: ME, incarnation: INCARNATION, nonce: NONCE };
        let conf = conf(&[1, 2], &[1, 2, 3, 4]);
        scene.start(MonitorState::new(me, conf, Terms::parse("active 1 4\n", ME), scene.now));
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
    let mut scene = Scene::of(Arc::clone(&second), None, "active 1 4\n");
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
fn a_node_that_was_never_heard_is_asked_for_an_echo_before_it_counts_as_dead() {
    // Its heartbeats are filtered, and it counts as alive by its lease, until that ends.
    let unheard = || {
        let mut scene = Scene::new(Some((1, 4)), "active 1 4\n");
        scene.happen(&Down(&[3]));
        scene
    };
    unheard().play(&[
        (0, Answers(3), &["writes active 1 4", "active 4"]),
        (20_000, LeaseEnds(3), &["node 3: AgentDown"]),
        (5000, Wait, &[]),
    ]);
    unheard().play(&[
        (0, Wait, &["writes active 1 4", "active 4"]),
        (20_000, LeaseEnds(3), &[]),
        (1950, Wait, &["node 3: Dead"]),
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
    let mut scene = Scene::new(None, "active 1 4\n");
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
    let mut scene = Scene::new(Some((1, 4)), "active 1 4\n");
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

#[test]
fn ten_minutes_of_a_cluster_of_sixty_four_nodes_fit_into_a_recording() {
    let mut scene = Scene::of_nodes(64);
    scene.pass(20_000);
    // Twenty seconds are a thirtieth of ten minutes.
    let share = 30.0 * scene.share_of_files();
    assert!((0.1..0.9).contains(&share), "{share}");
}
