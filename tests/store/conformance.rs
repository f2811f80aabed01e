//! What every engine has to do, written once over the trait. Each function takes an engine that
//! holds nothing yet; [`conformance`] makes a test of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cvip::protocol::Protocol;
use cvip::store::{
    DrainOrder, DrainTarget, Elected, Holding, Interest, Key, Scope, StoreError, TermClaim,
};
use cvip_lab::{Dice, PATIENCE, seed, wait_until};

use super::holder::Holder;

use super::support::{Engine, flag, flags, keys, only, opened, record, rings, until};

/// Makes a test for each function of this module, with an engine that an expression makes.
macro_rules! conformance {
    ($engine:expr) => {
        $crate::conformance::conformance! { $engine;
            one_view_sees_what_another_wrote_and_only_that
            everything_is_read_at_first_whoever_wrote_it
            a_change_wakes_and_a_refresh_without_one_changes_nothing
            an_own_write_is_seen_at_once_and_the_view_never_goes_back_behind_it
            an_older_write_never_replaces_a_later_one_and_the_same_again_does_no_harm
            a_late_write_of_a_node_that_returned_brings_nothing_back
            a_record_stays_when_its_lease_ends_and_a_leave_writes_an_empty_one
            a_lease_is_held_once_and_given_back_at_once
            a_killed_holder_is_noticed_by_a_wake_up_and_followed_at_once
            flags_changed_by_many_at_once_are_none_of_them_lost
            drains_changed_by_many_at_once_are_none_of_them_lost
            a_drain_keeps_its_words_and_can_be_taken_back
            of_many_claimants_exactly_one_wins_each_term
            a_claim_needs_the_term_that_stands_and_terms_only_grow
            a_corrupt_record_is_told_and_the_last_good_one_kept_until_it_is_repaired
            a_corrupt_election_can_be_claimed_by_who_saw_the_last_good_one
            corrupt_orders_that_nobody_remembers_are_started_anew_and_said
            a_removed_key_is_gone_from_the_view
            a_full_read_finds_what_no_wake_up_told
            a_full_read_that_nothing_answers_is_said_to_be_none
            what_changes_is_told_though_the_host_s_folder_cannot_be_read
            a_host_s_folder_that_is_deleted_takes_nothing_away_and_is_made_again
            what_only_the_host_knows_shows_beside_what_all_know
            many_writers_leave_every_view_the_same
            another_view_of_the_same_store_wakes_by_itself
        }
    };
    ($engine:expr; $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                let engine = $engine;
                $crate::conformance::$test(&engine);
            }
        )*
    };
}
pub(crate) use conformance;

pub(crate) fn one_view_sees_what_another_wrote_and_only_that(engine: &dyn Engine) {
    let (mut writer, mut reader) = (opened(engine), opened(engine));
    writer.put_node(&record(1, (7, 1), &[80])).unwrap();
    let seen = until(&mut *reader, "node 1", |state| state.nodes.contains_key(&1));
    assert_eq!(keys(seen), [Key::Node(1)]);
    assert_eq!(keys(reader.refresh().unwrap()), []);
    writer.put_node(&record(2, (7, 1), &[80, 443])).unwrap();
    writer.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(80))).unwrap();
    let seen = until(&mut *reader, "node 2", |state| {
        state.nodes.contains_key(&2) && state.flags.contains_key(&Scope::Cluster)
    });
    assert_eq!(keys(seen), [Key::Node(2), Key::Flags(Scope::Cluster)]);
    assert_eq!(reader.state().nodes[&2], record(2, (7, 1), &[80, 443]));
    assert_eq!(reader.state().nodes[&1], record(1, (7, 1), &[80]));
}

pub(crate) fn everything_is_read_at_first_whoever_wrote_it(engine: &dyn Engine) {
    let mut writer = opened(engine);
    // More than etcd gives in one answer.
    let nodes: BTreeSet<u32> = (1..=150).collect();
    for node in &nodes {
        writer.put_node(&record(*node, (7, u64::from(*node)), &[80])).unwrap();
    }
    writer.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(80))).unwrap();
    writer.update_drains(&mut |drains| drop(drains.insert(whole(3), order("why")))).unwrap();
    writer.claim(1, None, 2, 7).unwrap();
    let lease = writer.lease(5, 7).unwrap();
    until(&mut *writer, "the lease", |state| state.alive.contains_key(&5));
    let mut reader = engine.open();
    let changed = keys(until(&mut *reader, "everything", |_| true));
    let state = reader.state();
    assert_eq!(state.nodes.keys().copied().collect::<BTreeSet<_>>(), nodes);
    assert_eq!(state.nodes[&150].sequence, 150);
    assert_eq!(state.flags_of(Scope::Cluster), flags(&[80]));
    assert_eq!(state.drains[&whole(3)], order("why"));
    assert_eq!(state.directors[&1], Elected { node: 2, incarnation: 7, term: 1 });
    assert_eq!(state.alive, BTreeMap::from([(5, 7)]));
    assert_eq!(changed.len(), 154, "{changed:?}");
    drop(lease);
}

pub(crate) fn a_change_wakes_and_a_refresh_without_one_changes_nothing(engine: &dyn Engine) {
    let (mut writer, mut reader) = (opened(engine), opened(engine));
    // What opening it made readable is read.
    while rings(&*reader) {
        assert_eq!(keys(reader.refresh().unwrap()), []);
    }
    for sequence in 1..=5 {
        writer.put_node(&record(1, (7, sequence), &[80])).unwrap();
        until(&mut *reader, "the write", |state| {
            state.nodes.get(&1).is_some_and(|record| record.sequence == sequence)
        });
        assert_eq!(keys(reader.refresh().unwrap()), []);
    }
}

pub(crate) fn an_own_write_is_seen_at_once_and_the_view_never_goes_back_behind_it(
    engine: &dyn Engine,
) {
    let mut store = opened(engine);
    for sequence in 1..=100 {
        store.put_node(&record(1, (7, sequence), &[80])).unwrap();
        store.refresh().unwrap();
        assert_eq!(store.state().nodes[&1].sequence, sequence);
    }
    let ports: Vec<u16> = (1..=50).collect();
    for port in &ports {
        store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(*port))).unwrap();
        store.refresh().unwrap();
        assert_eq!(store.state().flags_of(Scope::Cluster).iter().count(), usize::from(*port));
    }
    let mut term = None;
    for _ in 0..20 {
        let TermClaim::Won(won) = store.claim(1, term, 1, 7).unwrap() else {
            panic!("nobody else")
        };
        store.refresh().unwrap();
        assert_eq!(store.state().directors[&1], won);
        term = Some(won.term);
    }
}

pub(crate) fn an_older_write_never_replaces_a_later_one_and_the_same_again_does_no_harm(
    engine: &dyn Engine,
) {
    let (mut store, mut other) = (opened(engine), opened(engine));
    store.put_node(&record(1, (7, 5), &[80])).unwrap();
    for older in [(7, 4), (6, 9), (0, 0)] {
        for store in [&mut store, &mut other] {
            let late = store.put_node(&record(1, older, &[443]));
            assert!(matches!(late, Err(StoreError::Superseded(1))), "{older:?}: {late:?}");
        }
    }
    store.put_node(&record(1, (7, 5), &[80])).unwrap();
    other.put_node(&record(1, (8, 1), &[])).unwrap();
    let late = store.put_node(&record(1, (7, 6), &[80]));
    assert!(matches!(late, Err(StoreError::Superseded(1))), "an older start: {late:?}");
    until(&mut *store, "the later start", |state| state.nodes[&1].incarnation == 8);
    assert_eq!(store.state().nodes[&1], record(1, (8, 1), &[]));
}

pub(crate) fn a_late_write_of_a_node_that_returned_brings_nothing_back(engine: &dyn Engine) {
    // Two starts of one node's cvipd write at the same time, the older one still under way.
    let mut reader = opened(engine);
    thread::scope(|scope| {
        for incarnation in [7, 8] {
            scope.spawn(move || {
                let mut store = opened(engine);
                for sequence in 1..=40 {
                    let ports = if incarnation == 7 { &[80, 443][..] } else { &[80] };
                    match store.put_node(&record(1, (incarnation, sequence), ports)) {
                        Ok(()) => {}
                        Err(StoreError::Superseded(1)) => assert_eq!(incarnation, 7),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let last = record(1, (8, 40), &[80]);
    until(&mut *reader, "the last word", |state| state.nodes.get(&1) == Some(&last));
}

pub(crate) fn a_record_stays_when_its_lease_ends_and_a_leave_writes_an_empty_one(
    engine: &dyn Engine,
) {
    let (mut node, mut director) = (opened(engine), opened(engine));
    let lease = node.lease(1, 7).unwrap();
    node.put_node(&record(1, (7, 1), &[80])).unwrap();
    until(&mut *director, "the node serves", |state| {
        state.alive.get(&1) == Some(&7) && state.nodes.contains_key(&1)
    });
    drop(lease);
    until(&mut *director, "the lease ends", |state| !state.alive.contains_key(&1));
    assert_eq!(director.state().nodes[&1], record(1, (7, 1), &[80]), "stale, not gone");
    node.refresh().unwrap();
    let next = node.state().next_incarnation(1, None, 0);
    assert_eq!(next, 8, "later than any before, whatever the clock says");
    let lease = node.lease(1, next).unwrap();
    node.put_node(&cvip::store::NodeRecord::empty(1, next, 1)).unwrap();
    drop(lease);
    until(&mut *director, "the node has left", |state| {
        state.nodes[&1].registrations.is_empty() && !state.alive.contains_key(&1)
    });
}

pub(crate) fn a_lease_is_held_once_and_given_back_at_once(engine: &dyn Engine) {
    let (mut one, mut two) = (opened(engine), opened(engine));
    let lease = one.lease(1, 7).unwrap();
    assert_eq!(lease.holding(), Holding::Held);
    until(&mut *two, "the lease is seen", |state| state.alive.get(&1) == Some(&7));
    assert!(matches!(two.lease(1, 8), Err(StoreError::Leased(1))));
    let another = two.lease(2, 3).unwrap();
    until(&mut *one, "both leases", |state| state.alive == BTreeMap::from([(1, 7), (2, 3)]));
    drop(lease);
    until(&mut *two, "one is given back", |state| state.alive == BTreeMap::from([(2, 3)]));
    let lease = two.lease(1, 8).unwrap();
    until(&mut *one, "it is taken by the other", |state| state.alive.get(&1) == Some(&8));
    drop((lease, another));
    until(&mut *one, "nobody is left", |state| state.alive.is_empty());
}

pub(crate) fn a_killed_holder_is_noticed_by_a_wake_up_and_followed_at_once(engine: &dyn Engine) {
    let mut watcher = opened(engine);
    let holder = Holder::start(engine, 1, 1, 7);
    until(&mut *watcher, "it lives", |state| state.alive.get(&1) == Some(&7));
    watcher.put_node(&record(1, (7, 1), &[80])).unwrap();
    holder.kill();
    let seen = until(&mut *watcher, "it is dead", |state| !state.alive.contains_key(&1));
    assert!(seen.changed.contains(&Key::Alive(1)));
    assert!(watcher.state().nodes.contains_key(&1));
    // A restart right after the death, long before any lease could end.
    let holder = Holder::start(engine, 1, 1, 8);
    until(&mut *watcher, "it lives again", |state| state.alive.get(&1) == Some(&8));
    holder.kill();
    let holder = Holder::start(engine, 1, 1, 9);
    until(&mut *watcher, "and again", |state| state.alive.get(&1) == Some(&9));
    drop(holder);
}

pub(crate) fn flags_changed_by_many_at_once_are_none_of_them_lost(engine: &dyn Engine) {
    let (writers, rounds) = (4, 25);
    thread::scope(|scope| {
        for writer in 0..writers {
            scope.spawn(move || {
                let mut store = opened(engine);
                for round in 0..rounds {
                    let port = 1 + writer * rounds + round;
                    store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(port))).unwrap();
                }
            });
        }
    });
    let store = opened(engine);
    let all: Vec<u16> = (1..=writers * rounds).collect();
    assert_eq!(store.state().flags_of(Scope::Cluster), flags(&all));
}

pub(crate) fn drains_changed_by_many_at_once_are_none_of_them_lost(engine: &dyn Engine) {
    thread::scope(|scope| {
        for operator in 0..4 {
            scope.spawn(move || {
                let mut store = opened(engine);
                for round in 1..=20 {
                    let target = whole(operator * 100 + round);
                    let mut add = |drains: &mut cvip::store::Drains| {
                        drains.insert(target, order("maintenance"));
                    };
                    store.update_drains(&mut add).unwrap();
                    // Every second one is taken back.
                    if round % 2 == 0 {
                        store.update_drains(&mut |drains| drop(drains.remove(&target))).unwrap();
                    }
                }
            });
        }
    });
    let store = opened(engine);
    let left: Vec<u32> = store.state().drains.keys().map(|target| target.node).collect();
    let odd = (1..=20).filter(|round| round % 2 == 1);
    let odd: Vec<u32> = odd.collect();
    let all: Vec<u32> = (0..4).flat_map(|op| odd.iter().map(move |r| op * 100 + r)).collect();
    assert_eq!(left, all);
}

pub(crate) fn a_drain_keeps_its_words_and_can_be_taken_back(engine: &dyn Engine) {
    let (mut operator, mut director) = (opened(engine), opened(engine));
    let port = DrainTarget { node: 3, port: Some((Protocol::Udp, 177)) };
    let order = DrainOrder { deadline_s: Some(300), ..order("a new disk, \"soon\"\n") };
    let mut change = |drains: &mut cvip::store::Drains| {
        drains.insert(port, order.clone());
        drains.insert(whole(3), DrainOrder { reason: None, ..order.clone() });
    };
    operator.update_drains(&mut change).unwrap();
    let seen = until(&mut *director, "the drains", |state| state.drains.len() == 2);
    assert_eq!(keys(seen), [Key::Drains]);
    assert_eq!(director.state().drains[&port], order);
    operator.update_drains(&mut |drains| drop(drains.remove(&port))).unwrap();
    until(&mut *director, "one is over", |state| !state.drains.contains_key(&port));
    operator.update_drains(&mut |drains| drains.clear()).unwrap();
    let seen = until(&mut *director, "all are over", |state| state.drains.is_empty());
    assert_eq!(keys(seen), [Key::Drains]);
}

pub(crate) fn of_many_claimants_exactly_one_wins_each_term(engine: &dyn Engine) {
    let (claimants, terms) = (4, 30);
    let won: Vec<Vec<Elected>> = thread::scope(|scope| {
        let claim = |node| {
            move || {
                let mut store = opened(engine);
                let (mut won, mut last) = (Vec::new(), None);
                while last.is_none_or(|term| term < terms) {
                    match store.claim(1, last, node, 7).unwrap() {
                        TermClaim::Won(elected) => {
                            assert_eq!((elected.node, elected.incarnation), (node, 7));
                            won.push(elected);
                            last = Some(elected.term);
                        }
                        TermClaim::Stands(stands) => {
                            let term = stands.expect("nobody removes it").term;
                            assert!(last.is_none_or(|last| term > last), "{term} after {last:?}");
                            last = Some(term);
                        }
                    }
                }
                won
            }
        };
        let threads: Vec<_> = (1..=claimants).map(|node| scope.spawn(claim(node))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all: Vec<u64> = won.iter().flatten().map(|elected| elected.term).collect();
    all.sort_unstable();
    let unbroken: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(all, unbroken, "each term was won once");
    assert!(all.len() as u64 >= terms);
}

pub(crate) fn a_claim_needs_the_term_that_stands_and_terms_only_grow(engine: &dyn Engine) {
    let (mut one, mut two) = (opened(engine), opened(engine));
    let elected = |node, incarnation, term| Elected { node, incarnation, term };
    assert_eq!(one.claim(1, Some(1), 1, 7).unwrap(), TermClaim::Stands(None));
    assert_eq!(one.claim(1, None, 1, 7).unwrap(), TermClaim::Won(elected(1, 7, 1)));
    assert_eq!(two.claim(1, None, 2, 7).unwrap(), TermClaim::Stands(Some(elected(1, 7, 1))));
    assert_eq!(two.claim(1, Some(1), 2, 7).unwrap(), TermClaim::Won(elected(2, 7, 2)));
    assert_eq!(one.claim(1, Some(1), 1, 7).unwrap(), TermClaim::Stands(Some(elected(2, 7, 2))));
    assert_eq!(one.claim(9, None, 9, 7).unwrap(), TermClaim::Won(elected(9, 7, 1)), "another set");
    until(&mut *one, "both elections", |state| state.directors.len() == 2);
    let seen = until(&mut *two, "both elections", |state| state.directors.len() == 2);
    assert_eq!(keys(seen), [Key::Director(1), Key::Director(9)]);
    // No lease hangs on it; and whoever saw a term never starts below it again.
    drop(two);
    assert_eq!(one.state().directors[&1], elected(2, 7, 2));
    engine.remove(Key::Director(1));
    assert_eq!(one.claim(1, Some(2), 1, 7).unwrap(), TermClaim::Stands(None));
    assert_eq!(one.claim(1, None, 1, 7).unwrap(), TermClaim::Won(elected(1, 7, 3)));
}

pub(crate) fn a_corrupt_record_is_told_and_the_last_good_one_kept_until_it_is_repaired(
    engine: &dyn Engine,
) {
    let good = record(1, (7, 1), &[80]);
    let (mut owner, mut director) = (opened(engine), opened(engine));
    owner.put_node(&good).unwrap();
    until(&mut *owner, "it", |state| state.nodes.contains_key(&1));
    until(&mut *director, "it", |state| state.nodes.contains_key(&1));
    for corrupt in [&b"{\"node\": 1"[..], b"\xff\xfe", b"{\"node\":2}", b"[1, 2, 3]", b"null"] {
        engine.spoil(Key::Node(1), corrupt);
        for store in [&mut owner, &mut director] {
            let mut fault = None;
            until(&mut **store, "everything is read", |_| true);
            // The wake-up may come before or after: a full read finds it in any case.
            store.invalidate();
            for found in store.refresh().unwrap().faults {
                fault = Some(found);
            }
            let fault = fault.unwrap_or_else(|| panic!("nothing is said of {corrupt:?}"));
            assert_eq!(fault.key, Key::Node(1));
            let aside = fault.set_aside.as_ref().expect("a copy is kept");
            assert_eq!(std::fs::read(aside).unwrap(), corrupt);
            assert_eq!(store.state().nodes[&1], good, "{corrupt:?}");
        }
        owner.repair(Key::Node(1)).unwrap();
        director.invalidate();
        let seen = until(&mut *director, "it is good again", |_| true);
        assert_eq!(seen.faults, [], "{corrupt:?}");
        assert_eq!(director.state().nodes[&1], good);
    }
    // A later write needs no repair.
    engine.spoil(Key::Node(1), b"{");
    owner.put_node(&record(1, (7, 2), &[])).unwrap();
    until(&mut *director, "the later write", |state| state.nodes[&1].sequence == 2);
}

pub(crate) fn a_corrupt_election_can_be_claimed_by_who_saw_the_last_good_one(engine: &dyn Engine) {
    let mut store = opened(engine);
    store.claim(1, None, 1, 7).unwrap();
    until(&mut *store, "it", |state| state.directors.contains_key(&1));
    engine.spoil(Key::Director(1), b"{\"term\": -1}");
    store.invalidate();
    assert_eq!(only(store.refresh().unwrap()).key, Key::Director(1));
    let stands = Elected { node: 1, incarnation: 7, term: 1 };
    assert_eq!(store.state().directors[&1], stands, "nobody is deposed by a typing error");
    assert_eq!(store.claim(1, None, 2, 7).unwrap(), TermClaim::Stands(Some(stands)));
    let won = Elected { node: 2, incarnation: 7, term: 2 };
    assert_eq!(store.claim(1, Some(1), 2, 7).unwrap(), TermClaim::Won(won));
}

pub(crate) fn corrupt_orders_that_nobody_remembers_are_started_anew_and_said(engine: &dyn Engine) {
    opened(engine);
    let bad = b"[{\"protocol\":\"tcp\",\"start\":0,\"end\":1,\"weight\":1}]";
    engine.spoil(Key::Flags(Scope::Cluster), bad);
    engine.spoil(Key::Drains, b"[{");
    let mut store = engine.open();
    let mut faults = until(&mut *store, "everything", |_| true).faults;
    faults.sort_by_key(|fault| fault.key);
    assert!(faults[0].reason.contains("port 0 is outside 1 to 65535"), "{faults:?}");
    assert_eq!(
        faults.iter().map(|f| f.key).collect::<Vec<_>>(),
        [Key::Flags(Scope::Cluster), Key::Drains]
    );
    let fault = store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(80))).unwrap();
    assert_eq!(fault.unwrap().key, Key::Flags(Scope::Cluster));
    let mut add = |drains: &mut cvip::store::Drains| drop(drains.insert(whole(1), order("x")));
    assert_eq!(store.update_drains(&mut add).unwrap().unwrap().key, Key::Drains);
    assert_eq!(store.update_drains(&mut |_| {}).unwrap(), None);
    until(&mut *store, "both are good", |state| {
        state.flags_of(Scope::Cluster) == flags(&[80]) && state.drains.len() == 1
    });
    // Nobody remembers this one.
    engine.spoil(Key::Node(4), b"{");
    store.invalidate();
    assert_eq!(only(store.refresh().unwrap()).key, Key::Node(4));
    store.repair(Key::Node(4)).unwrap();
    store.invalidate();
    assert_eq!(store.refresh().unwrap().faults, [], "nobody remembers a value: there is none");
}

pub(crate) fn a_removed_key_is_gone_from_the_view(engine: &dyn Engine) {
    let mut store = opened(engine);
    for node in [1, 2] {
        store.put_node(&record(node, (7, 1), &[80])).unwrap();
    }
    store.update_drains(&mut |drains| drop(drains.insert(whole(1), order("x")))).unwrap();
    until(&mut *store, "both", |state| state.nodes.len() == 2 && state.drains.len() == 1);
    engine.remove(Key::Node(1));
    engine.remove(Key::Drains);
    let seen = until(&mut *store, "they are gone", |state| {
        !state.nodes.contains_key(&1) && state.drains.is_empty()
    });
    assert_eq!(keys(seen), [Key::Node(1), Key::Drains]);
    store.put_node(&record(1, (3, 1), &[443])).unwrap();
    until(&mut *store, "it is written anew", |state| state.nodes.contains_key(&1));
}

pub(crate) fn a_full_read_finds_what_no_wake_up_told(engine: &dyn Engine) {
    let (mut store, mut other) = (opened(engine), opened(engine));
    for node in 1..=3 {
        other.put_node(&record(node, (7, 1), &[80])).unwrap();
        store.invalidate();
        store.refresh().unwrap();
        assert_eq!(store.state().nodes.len(), node as usize, "a full read is as of now");
    }
    engine.remove(Key::Node(2));
    store.invalidate();
    assert!(store.refresh().unwrap().changed.is_superset(&BTreeSet::from([Key::Node(2)])));
    assert_eq!(store.state().nodes.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

pub(crate) fn a_full_read_that_nothing_answers_is_said_to_be_none(engine: &dyn Engine) {
    let (mut store, mut other) = (opened(engine), opened(engine));
    other.put_node(&record(1, (7, 1), &[80])).unwrap();
    until(&mut *store, "the record", |state| state.nodes.contains_key(&1));
    engine.hold_up(true);
    // An answer that came before may still be on its way.
    for _ in 0..2 {
        store.invalidate();
        let is_unavailable = store.refresh().is_err_and(|error| error.is_unavailable());
        let is_told = is_unavailable || store.unavailable_since().is_some();
        assert!(is_told || is_local(engine), "an old view is no full read");
        assert!(store.state().nodes.contains_key(&1), "and nothing is taken from it");
    }
    engine.hold_up(false);
    until(&mut *other, "it answers again", |_| true);
    wait_until(PATIENCE, || other.put_node(&record(1, (7, 2), &[443])).ok());
    until(&mut *store, "what came meanwhile", |state| state.nodes[&1].sequence == 2);
}

fn is_local(engine: &dyn Engine) -> bool {
    engine.environment(1).contains(&("CVIP_STORE", "local".to_owned()))
}

pub(crate) fn what_changes_is_told_though_the_host_s_folder_cannot_be_read(engine: &dyn Engine) {
    let (mut store, mut other) = (opened(engine), opened(engine));
    // A file stands where a folder was.
    let folder = engine.run_dir().join("flags");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    other.put_node(&record(1, (7, 1), &[80])).unwrap();
    other.claim(1, None, 1, 7).unwrap();
    let mut told = BTreeSet::new();
    let seen = |store: &dyn cvip::store::Store| {
        let state = store.state();
        state.nodes.contains_key(&1) && state.directors.contains_key(&1)
    };
    let shown = wait_until(PATIENCE, || {
        // Whether it fails or not, what it shows is told once.
        store.invalidate();
        told.extend(store.refresh().map(|refreshed| refreshed.changed).unwrap_or_default());
        seen(&*store).then_some(())
    });
    assert!(shown.is_some(), "what stands elsewhere is shown all the same");
    std::fs::remove_file(&folder).unwrap();
    store.invalidate();
    told.extend(store.refresh().unwrap().changed);
    assert!(told.is_superset(&BTreeSet::from([Key::Node(1), Key::Director(1)])), "{told:?}");
    store.update_flags(Scope::Node(1), &mut |flags| flags.set(flag(80))).unwrap();
    until(&mut *store, "the folder is used again", |state| {
        state.flags_of(Scope::Node(1)) == flags(&[80])
    });
}

pub(crate) fn a_host_s_folder_that_is_deleted_takes_nothing_away_and_is_made_again(
    engine: &dyn Engine,
) {
    let (mut store, mut director) = (opened(engine), opened(engine));
    let lease = store.lease(1, 7).unwrap();
    store.put_node(&record(1, (7, 1), &[80, 443])).unwrap();
    store.update_flags(Scope::Node(1), &mut |flags| flags.set(flag(80))).unwrap();
    store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(443))).unwrap();
    director.put_owned(1, &[super::support::service(80)].into()).unwrap();
    director.claim(1, None, 1, 7).unwrap();
    let all = |state: &cvip::store::StoreState| {
        (state.nodes.len(), state.alive.len(), state.flags.len(), state.owned.len()) == (1, 1, 2, 1)
            && state.directors.len() == 1
    };
    until(&mut *store, "everything", all);
    until(&mut *director, "everything", all);
    for whole in [false, true] {
        match whole {
            true => std::fs::remove_dir_all(engine.run_dir()).unwrap(),
            false => {
                for entry in std::fs::read_dir(engine.run_dir()).unwrap() {
                    std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
                }
            }
        }
        lease.tend();
        for store in [&mut store, &mut director] {
            store.refresh().unwrap();
            assert!(all(store.state()), "whole: {whole}: {:#?}", store.state());
        }
        // What is written from now on is seen: a leave among it.
        let sequence = 2 + u64::from(whole);
        store.put_node(&record(1, (7, sequence), &[80])).unwrap();
        director.put_owned(1, &[super::support::service(443)].into()).unwrap();
        until(&mut *director, "the leave", |state| state.nodes[&1].sequence == sequence);
        let mut late = opened(engine);
        until(&mut *late, "everything is there for those who come later", all);
        assert_eq!(late.state().owned[&1], [super::support::service(443)].into());
        assert!(matches!(late.lease(1, 8), Err(StoreError::Leased(1))), "it is held");
    }
}

pub(crate) fn what_only_the_host_knows_shows_beside_what_all_know(engine: &dyn Engine) {
    let mut daemon = opened(engine);
    let mut command = opened(engine);
    command.update_flags(Scope::Node(1), &mut |flags| flags.set(flag(80))).unwrap();
    command.put_owned(1, &[super::support::service(80)].into()).unwrap();
    command.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(443))).unwrap();
    let seen = until(&mut *daemon, "all three", |state| {
        state.flags.len() == 2 && state.owned.contains_key(&1)
    });
    assert_eq!(keys(seen), [Key::Flags(Scope::Node(1)), Key::Flags(Scope::Cluster), Key::Owned(1)]);
    assert_eq!(daemon.state().flags_of(Scope::Node(1)), flags(&[80]));
    assert_eq!(daemon.state().owned[&1], [super::support::service(80)].into());
    command.put_owned(1, &BTreeSet::new()).unwrap();
    until(&mut *daemon, "nothing is owned", |state| state.owned[&1].is_empty());
}

pub(crate) fn many_writers_leave_every_view_the_same(engine: &dyn Engine) {
    let seed = seed();
    println!("CVIP_TEST_SEED={seed}");
    let mut early = opened(engine);
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 1..=4_u32 {
            let done = &done;
            scope.spawn(move || {
                let mut random = Dice::new(seed ^ u64::from(writer));
                let mut store = opened(engine);
                let mut lease = None;
                let mut sequence = 0;
                for _ in 0..60 {
                    let port = 1 + random.below(20) as u16;
                    match random.below(8) {
                        0..3 => {
                            sequence += 1;
                            let ports: Vec<u16> = (1..=random.below(5) as u16).collect();
                            store.put_node(&record(writer, (7, sequence), &ports)).unwrap();
                        }
                        3 => {
                            let mut set = |flags: &mut cvip::ports::FlagSet| flags.set(flag(port));
                            drop(store.update_flags(Scope::Cluster, &mut set).unwrap());
                        }
                        4 => {
                            let mut unset = |flags: &mut cvip::ports::FlagSet| {
                                flags.remove(Protocol::Tcp, port, port);
                            };
                            drop(store.update_flags(Scope::Cluster, &mut unset).unwrap());
                        }
                        5 => {
                            let term = store.state().directors.get(&1).map(|e| e.term);
                            store.claim(1, term, writer, 7).unwrap();
                        }
                        6 => {
                            lease = match lease.take() {
                                Some(lease) => {
                                    drop::<cvip::store::Lease>(lease);
                                    None
                                }
                                None => Some(store.lease(writer, 7 + sequence).unwrap()),
                            };
                        }
                        _ => drop(store.refresh().unwrap()),
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
                // The lease is held until everybody is done, so that there is something to see.
                let deadline = std::time::Instant::now() + PATIENCE;
                while done.load(Ordering::Relaxed) < 4 && std::time::Instant::now() < deadline {
                    thread::yield_now();
                }
            });
        }
    });
    let late = opened(engine);
    let mut truth = late.state().clone();
    // Leases were given back at the end; their last trace may still be on its way.
    truth.alive.clear();
    until(&mut *early, "both views are the same", |state| *state == truth);
    assert!(!truth.nodes.is_empty(), "a history of nothing proves nothing");
}

pub(crate) fn another_view_of_the_same_store_wakes_by_itself(engine: &dyn Engine) {
    let mut first = opened(engine);
    let mut second = first.subscribe(Interest::All).unwrap();
    until(&mut *second, "everything", |_| true);
    first.put_node(&record(1, (7, 1), &[80])).unwrap();
    until(&mut *second, "the write", |state| state.nodes.contains_key(&1));
    second.put_node(&record(2, (7, 1), &[80])).unwrap();
    until(&mut *first, "the other's write", |state| state.nodes.contains_key(&2));
    // The first may go before the second.
    drop(first);
    second.put_node(&record(3, (7, 1), &[80])).unwrap();
    until(&mut *second, "its own", |state| state.nodes.contains_key(&3));
}

/// A node's drain as a whole.
fn whole(node: u32) -> DrainTarget {
    DrainTarget { node, port: None }
}

fn order(reason: &str) -> DrainOrder {
    DrainOrder {
        reason: Some(reason.to_owned()),
        since: 1_700_000_000,
        deadline_s: None,
        by: "root@node1".to_owned(),
    }
}
