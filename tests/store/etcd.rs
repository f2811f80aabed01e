//! The store on etcd: the common suite, and what only servers and networks can do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cvip::store::{Holding, Interest, Key, Lease, Scope, Store, StoreError, TermClaim};
use cvip_lab::{PATIENCE, wait_until};
use nix::sys::signal::{Signal, kill};

use super::conformance::conformance;
use super::holder::Holder;
use super::support::proxy::{Proxy, Traffic};
use super::support::server::{Etcd, TIMEOUT, TTL, compact_now};
use super::support::{Engine, flag, flags, keys, opened, record, rings, until, until_store};
use cvip::clock::Instant;

mod access;
mod cluster;

conformance!(Etcd::new());

/// Waits until the store says that it is away.
#[track_caller]
fn until_unavailable(store: &mut dyn Store) {
    until_store(store, "the store is away", |store| store.unavailable_since().is_some());
}

/// Waits until the store says that it is back.
#[track_caller]
fn until_back(store: &mut dyn Store) {
    until_store(store, "the store is back", |store| store.unavailable_since().is_none());
}

/// Waits until a lease is held: the view may know of it before its keeper does.
#[track_caller]
fn await_held(lease: &Lease) {
    let held = wait_until(PATIENCE, || (lease.holding() == Holding::Held).then_some(()));
    assert!(held.is_some(), "{:?}", lease.holding());
}

/// Writes that cannot be done say so in time.
#[track_caller]
fn writes_fail_in_time(store: &mut dyn Store) {
    let started = Instant::now();
    let written = store.put_node(&record(9, (7, 1), &[80]));
    let flagged = store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(9)));
    let claimed = store.claim(9, None, 9, 7);
    for error in [written.err(), flagged.err(), claimed.err()] {
        let error = error.expect("nobody is there to take it");
        assert!(error.is_unavailable(), "{error}");
    }
    // Each may take two time-outs; beyond that, a busy machine.
    assert!(started.elapsed() < 6 * TIMEOUT + Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_is_frozen_or_dead_changes_nothing_and_the_view_catches_up() {
    for dead in [false, true] {
        let mut etcd = Etcd::new();
        let (mut store, mut other) = (opened(&etcd), opened(&etcd));
        let lease = store.lease(1, 7).unwrap();
        store.put_node(&record(1, (7, 1), &[80])).unwrap();
        store.put_node(&record(2, (7, 1), &[80])).unwrap();
        store.claim(1, None, 1, 7).unwrap();
        store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(80))).unwrap();
        let full = |state: &cvip::store::StoreState| {
            state.nodes.len() == 2
                && state.alive.len() == 1
                && state.directors.len() == 1
                && state.flags.len() == 1
        };
        until(&mut *store, "everything", full);
        until(&mut *other, "everything", full);
        let before = store.state().clone();
        let since = Instant::now();
        match dead {
            true => etcd.server().kill(),
            false => etcd.server().signal(Signal::SIGSTOP).unwrap(),
        }
        until_unavailable(&mut *store);
        until_unavailable(&mut *other);
        let unavailable = store.unavailable_since().unwrap();
        assert!(
            unavailable >= since - 3 * TTL && unavailable <= Instant::now(),
            "since it was last heard"
        );
        writes_fail_in_time(&mut *store);
        store.invalidate();
        for store in [&mut store, &mut other] {
            assert_eq!(keys(store.refresh().unwrap()), []);
            assert_eq!(*store.state(), before, "nothing is taken away");
        }
        // What only the host knows needs no etcd.
        store.update_flags(Scope::Node(1), &mut |flags| flags.set(flag(1))).unwrap();
        store.put_owned(1, &BTreeSet::new()).unwrap();
        match dead {
            true => etcd.server().start().unwrap(),
            false => etcd.server().signal(Signal::SIGCONT).unwrap(),
        }
        until_back(&mut *store);
        until_back(&mut *other);
        until(&mut *other, "the lease is held", |state| state.alive.get(&1) == Some(&7));
        await_held(&lease);
        store.put_node(&record(1, (7, 2), &[443])).unwrap();
        until(&mut *other, "the next write", |state| state.nodes[&1].sequence == 2);
        assert_eq!(other.state().directors, before.directors);
        assert_eq!(other.state().flags_of(Scope::Cluster), flags(&[80]));
    }
}

#[test]
fn what_vanished_and_what_came_while_the_store_was_away_is_seen_when_it_returns() {
    let etcd = Etcd::new();
    let proxy = Proxy::before(etcd.servers[0].port());
    let settings = cvip::settings::EtcdSettings {
        endpoints: vec![format!("http://127.0.0.1:{}", proxy.port)],
        ..etcd.settings.clone()
    };
    for (round, traffic) in [Traffic::IsCut, Traffic::Stalls].into_iter().enumerate() {
        let mut writer = opened(&etcd);
        let mut store = etcd.open_with(&settings, 2);
        let sequence = 10 * (round as u64 + 1);
        for node in 1..=3 {
            writer.put_node(&record(node, (7, sequence), &[80])).unwrap();
        }
        until(&mut *store, "three nodes", |state| {
            (1..=3).all(|node| state.nodes.get(&node).is_some_and(|r| r.sequence == sequence))
        });
        // What opening it made readable is read.
        while rings(&*store) {
            store.refresh().unwrap();
        }
        proxy.set(traffic);
        etcd.remove(Key::Node(1));
        writer.put_node(&record(2, (7, sequence + 1), &[])).unwrap();
        writer.put_node(&record(4, (7, sequence), &[80])).unwrap();
        // The revisions in between are forgotten: no watch can be taken up where it was left.
        etcd.compact();
        until_unavailable(&mut *store);
        assert_eq!(store.state().nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        proxy.set(Traffic::Passes);
        let seen = until(&mut *store, "it has caught up", |state| state.nodes.contains_key(&4));
        assert_eq!(keys(seen), [Key::Node(1), Key::Node(2), Key::Node(4)], "{traffic:?}");
        assert_eq!(store.unavailable_since(), None);
        assert!(store.state().nodes[&2].registrations.is_empty());
        etcd.remove(Key::Node(4));
    }
}

#[test]
fn a_watch_whose_place_is_compacted_away_is_made_up_for_by_a_full_read() {
    let etcd = Etcd::new();
    let proxy = Proxy::before(etcd.servers[0].port());
    let settings = cvip::settings::EtcdSettings {
        endpoints: vec![format!("http://127.0.0.1:{}", proxy.port)],
        ..etcd.settings.clone()
    };
    let mut store = etcd.open_with(&settings, 2);
    until(&mut *store, "everything", |_| true);
    let mut writer = opened(&etcd);
    writer.put_node(&record(1, (7, 1), &[80])).unwrap();
    until(&mut *store, "the first write", |state| state.nodes.contains_key(&1));
    // The watcher does not listen, but its connection lives: etcd's queue for it runs full, and
    // what it has not been told is then forgotten.
    proxy.set(Traffic::IsIsolated);
    let ports: Vec<u16> = (1..=60).collect();
    thread::scope(|scope| {
        for node in 2..=9 {
            let (etcd, ports) = (&etcd, &ports);
            scope.spawn(move || {
                let mut store = opened(etcd);
                for sequence in 1..=150 {
                    store.put_node(&record(node, (7, sequence), ports)).unwrap();
                }
            });
        }
    });
    etcd.remove(Key::Node(1));
    etcd.compact();
    proxy.set(Traffic::Passes);
    until(&mut *store, "it has caught up", |state| {
        (2..=9).all(|node| state.nodes.get(&node).is_some_and(|r| r.sequence == 150))
            && !state.nodes.contains_key(&1)
    });
}

#[test]
fn full_reads_amid_writes_and_compactions_are_each_of_one_version() {
    let etcd = Etcd::new();
    let mut writer = opened(&etcd);
    // More than two pages.
    let nodes = 150;
    for node in 1..=nodes {
        writer.put_node(&record(node, (1, 1), &[80])).unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (etcd, writer, stop) = (&etcd, &mut writer, &stop);
        let writing = scope.spawn(move || {
            // From the last node to the first: a reader who saw a node's new record, and reads
            // at one moment, saw those of all later nodes too.
            let mut incarnation = 1;
            while !stop.load(Ordering::Relaxed) {
                incarnation += 1;
                for node in (1..=nodes).rev() {
                    writer.put_node(&record(node, (incarnation, 1), &[80])).unwrap();
                }
            }
            incarnation
        });
        let compacting = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                compact_now(&etcd.servers[0]);
            }
        });
        for _ in 0..20 {
            let mut reader = etcd.open();
            // The first success is a full read, and what was watched since: node by node.
            until(&mut *reader, "everything", |_| true);
            assert_eq!(reader.state().nodes.len() as u32, nodes);
            let incarnations: Vec<u64> =
                reader.state().nodes.values().map(|record| record.incarnation).collect();
            assert!(incarnations.is_sorted(), "two moments in one view: {incarnations:?}");
        }
        stop.store(true, Ordering::Relaxed);
        compacting.join().unwrap();
        let last = writing.join().unwrap();
        let mut reader = etcd.open();
        until(&mut *reader, "the last round", |state| {
            state.nodes.values().all(|record| record.incarnation == last)
        });
    });
}

#[test]
fn a_store_that_was_never_read_says_so_in_time_and_wakes_when_it_can_be() {
    let mut etcd = Etcd::stopped(1, "http", &[]);
    let mut store = etcd.open();
    let started = Instant::now();
    let error = store.refresh().unwrap_err();
    assert!(
        error.is_unavailable() && error.to_string().contains(&etcd.settings.endpoints[0]),
        "{error}"
    );
    assert!(started.elapsed() < TIMEOUT + Duration::from_secs(20));
    assert!(store.state().nodes.is_empty());
    assert!(store.unavailable_since().is_some_and(|since| since <= Instant::now()));
    writes_fail_in_time(&mut *store);
    // The node's cvipd starts all the same: its lease is held once etcd is there.
    let lease = store.lease(1, 7).unwrap();
    assert_eq!(lease.holding(), Holding::Waiting);
    etcd.server().start().unwrap();
    until(&mut *store, "it is read, and the lease held", |state| state.alive.get(&1) == Some(&7));
    assert_eq!(store.unavailable_since(), None);
    store.put_node(&record(1, (7, 1), &[80])).unwrap();
}

#[test]
fn a_lease_that_ended_while_its_holder_was_cut_off_is_taken_again_by_itself() {
    let etcd = Etcd::new();
    let proxy = Proxy::before(etcd.servers[0].port());
    let settings = cvip::settings::EtcdSettings {
        endpoints: vec![format!("http://127.0.0.1:{}", proxy.port)],
        ..etcd.settings.clone()
    };
    let mut node = etcd.open_with(&settings, 1);
    let mut director = etcd.open_on(2, Interest::All);
    let lease = node.lease(1, 7).unwrap();
    node.put_node(&record(1, (7, 1), &[80])).unwrap();
    until(&mut *director, "it lives", |state| state.alive.get(&1) == Some(&7));
    for traffic in [Traffic::Stalls, Traffic::IsCut] {
        proxy.set(traffic);
        until(&mut *director, "it is given up", |state| !state.alive.contains_key(&1));
        assert!(director.state().nodes.contains_key(&1), "its record is stale, and stays");
        proxy.set(Traffic::Passes);
        until(&mut *director, "it is back", |state| state.alive.get(&1) == Some(&7));
        await_held(&lease);
    }
    drop(lease);
    until(&mut *director, "it has left", |state| !state.alive.contains_key(&1));
}

#[test]
fn a_frozen_holder_loses_its_lease_and_takes_it_again_when_it_thaws() {
    let etcd = Etcd::new();
    let mut watcher = opened(&etcd);
    let holder = Holder::start(&etcd, 3, 3, 7);
    until(&mut *watcher, "it lives", |state| state.alive.get(&3) == Some(&7));
    kill(holder.pid(), Signal::SIGSTOP).unwrap();
    until(&mut *watcher, "it is given up", |state| !state.alive.contains_key(&3));
    kill(holder.pid(), Signal::SIGCONT).unwrap();
    until(&mut *watcher, "it is back", |state| state.alive.get(&3) == Some(&7));
    holder.kill();
    until(&mut *watcher, "it is dead", |state| !state.alive.contains_key(&3));
}

#[test]
fn a_lease_s_key_that_somebody_removed_or_corrupt_is_written_again() {
    let etcd = Etcd::new();
    let mut store = opened(&etcd);
    let lease = store.lease(1, 7).unwrap();
    let written = etcd.stored(Key::Alive(1));
    let restored = || {
        let again = wait_until(PATIENCE, || (etcd.stored(Key::Alive(1)) == written).then_some(()));
        assert!(again.is_some(), "{}", etcd.stored(Key::Alive(1)));
    };
    etcd.remove(Key::Alive(1));
    restored();
    etcd.spoil(Key::Alive(1), b"rubbish");
    restored();
    // As another incarnation, and with no lease below it.
    etcd.spoil(Key::Alive(1), b"{\"incarnation\": 3}");
    restored();
    until(&mut *store, "it is ours", |state| state.alive.get(&1) == Some(&7));
    drop(lease);
    until(&mut *store, "it is given back", |state| state.alive.is_empty());
}

#[test]
fn a_node_number_that_is_given_twice_is_refused_until_the_other_is_gone() {
    let etcd = Etcd::new();
    let holder = Holder::start(&etcd, 1, 5, 7);
    let mut store = etcd.open_on(2, Interest::Node(5));
    until(&mut *store, "the other", |state| state.alive.get(&5) == Some(&7));
    assert!(matches!(store.lease(5, 8), Err(StoreError::Leased(5))));
    until(&mut *store, "still the other", |state| state.alive.get(&5) == Some(&7));
    // A dead one of another host is waited for, as long as its lease lives.
    holder.kill();
    let lease = store.lease(5, 8).unwrap();
    assert_eq!(lease.holding(), Holding::Held);
    until(&mut *store, "it is ours", |state| state.alive.get(&5) == Some(&8));
}

#[test]
fn an_etcd_that_lost_its_data_is_filled_again_with_leases_and_holds_no_ghosts() {
    let mut etcd = Etcd::new();
    let mut store = opened(&etcd);
    let lease = store.lease(1, 7).unwrap();
    store.put_node(&record(1, (7, 1), &[80])).unwrap();
    let TermClaim::Won(elected) = store.claim(1, None, 1, 7).unwrap() else {
        panic!("nobody else")
    };
    until(&mut *store, "both", |state| state.nodes.len() == 1 && state.directors.len() == 1);
    etcd.server().kill();
    etcd.server().wipe().unwrap();
    etcd.server().start().unwrap();
    until(&mut *store, "the lease is taken again", |state| {
        state.nodes.is_empty() && state.alive.get(&1) == Some(&7)
    });
    await_held(&lease);
    // The election starts above what was seen before.
    let TermClaim::Won(again) = store.claim(1, None, 1, 7).unwrap() else { panic!("nobody else") };
    assert!(again.term > elected.term);
    store.put_node(&record(1, (7, 2), &[80])).unwrap();
    until(&mut *store, "the record", |state| state.nodes.contains_key(&1));
}

#[test]
fn a_node_s_own_flags_and_what_its_director_owns_stay_on_its_host() {
    let etcd = Etcd::new();
    let mut here = etcd.open_on(1, Interest::All);
    let mut there = etcd.open_on(2, Interest::All);
    here.update_flags(Scope::Node(1), &mut |flags| flags.set(flag(80))).unwrap();
    here.put_owned(1, &[super::support::service(80)].into()).unwrap();
    let mine = record(1, (7, 1), &[80]);
    let with_flags = cvip::store::NodeRecord { flags: flags(&[80]), ..mine };
    here.put_node(&with_flags).unwrap();
    until(&mut *here, "its own", |state| state.flags.len() == 1 && state.owned.len() == 1);
    until(&mut *there, "the record", |state| state.nodes.contains_key(&1));
    assert!(there.state().flags.is_empty() && there.state().owned.is_empty());
    assert_eq!(there.state().nodes[&1].flags, flags(&[80]), "the record tells the others");
    let all = etcd.ctl(&["get", "--prefix", "--keys-only", ""]);
    assert_eq!(all.split_whitespace().collect::<Vec<_>>(), ["/cvip/nodes/1/record"]);
}

#[test]
fn a_view_of_one_node_follows_that_node_and_what_stands_for_all() {
    let etcd = Etcd::new();
    let mut director = opened(&etcd);
    let mut node = etcd.open_on(2, Interest::Node(2));
    until(&mut *node, "everything", |_| true);
    for number in 1..=3 {
        director.put_node(&record(number, (7, 1), &[80])).unwrap();
    }
    director.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(80))).unwrap();
    director.claim(1, None, 1, 7).unwrap();
    until(&mut *node, "its part", |state| state.directors.len() == 1 && !state.flags.is_empty());
    assert_eq!(node.state().nodes.keys().copied().collect::<Vec<_>>(), [2]);
    let mut all = node.subscribe(Interest::All).unwrap();
    until(&mut *all, "everything", |state| state.nodes.len() == 3);
}

#[test]
fn keys_of_others_and_clusters_beside_ours_are_not_our_business() {
    let etcd = Etcd::new();
    for key in ["/cvip", "/cvip/", "/cvip/nodes/x/record", "/cvip/new", "/cvipx/flags", "/zz"] {
        etcd.ctl(&["put", key, "not ours"]);
    }
    let mut ours = opened(&etcd);
    assert_eq!(*ours.state(), cvip::store::StoreState::default());
    let beside =
        cvip::settings::EtcdSettings { prefix: "/other/cvip/".to_owned(), ..etcd.settings.clone() };
    let mut theirs = etcd.open_with(&beside, 2);
    theirs.put_node(&record(1, (7, 1), &[80])).unwrap();
    ours.put_node(&record(2, (7, 1), &[80])).unwrap();
    until(&mut *theirs, "theirs", |state| state.nodes.contains_key(&1));
    until(&mut *ours, "ours", |state| state.nodes.contains_key(&2));
    assert_eq!(ours.state().nodes.len(), 1);
    assert_eq!(theirs.state().nodes.len(), 1);
}

#[test]
fn a_value_that_etcd_does_not_take_and_a_full_database_are_said_and_change_nothing() {
    let etcd = Etcd::with(&["--quota-backend-bytes", "16777216"]);
    let mut store = opened(&etcd);
    store.put_node(&record(1, (7, 1), &[80])).unwrap();
    // What differs from port to port cannot be written as ranges.
    let large = |node, sequence, ports: u16| {
        let mut record = record(node, (7, sequence), &(1..=ports).collect::<Vec<_>>());
        for registration in &mut record.registrations {
            registration.unhealthy =
                Some(format!("{} {}", registration.service.port, "x".repeat(80)));
        }
        record
    };
    let error = store.put_node(&large(1, 2, 30_000)).unwrap_err();
    assert!(error.to_string().contains("--max-request-bytes"), "{error}");
    let mut sequence = 2;
    let full = loop {
        match store.put_node(&large(2, sequence, 5_000)) {
            Ok(()) => sequence += 1,
            Err(error) => break error,
        }
        assert!(sequence < 1000, "the database never runs full");
    };
    assert!(full.to_string().contains("--quota-backend-bytes"), "{full}");
    store.refresh().unwrap();
    assert_eq!(store.unavailable_since(), None, "reading goes on");
    assert_eq!(store.state().nodes[&1].sequence, 1);
    assert_eq!(store.state().nodes[&2].sequence, sequence - 1);
    let (_, findings) = cvip::store::etcd::probe(&etcd.settings, &[]);
    assert!(findings.iter().any(|f| f.is_error && f.message.contains("NOSPACE")), "{findings:?}");
}

#[test]
fn requests_are_counted_and_few() {
    let etcd = Etcd::new();
    let mut store = opened(&etcd);
    store.put_node(&record(1, (7, 1), &[80])).unwrap();
    let before = store.requests();
    for sequence in 2..=51 {
        store.put_node(&record(1, (7, sequence), &[80])).unwrap();
        store.refresh().unwrap();
    }
    assert_eq!(store.requests() - before, 50, "one for each write");
    let before = store.requests();
    for _ in 0..100 {
        store.refresh().unwrap();
    }
    assert_eq!(store.requests(), before, "none for a refresh");
    let mut again = store.subscribe(Interest::All).unwrap();
    until(&mut *again, "everything", |_| true);
    assert!(again.requests() > before, "views share the count");
    assert_eq!(again.requests(), store.requests());
}

#[test]
fn the_store_s_thread_ends_with_its_last_user() {
    let etcd = Etcd::new();
    let threads = || -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let path = task.unwrap().path().join("comm");
            let name = std::fs::read_to_string(path).unwrap_or_default();
            *names.entry(name.trim().to_owned()).or_default() += 1;
        }
        names
    };
    // Other tests of this program have threads of that name too: this test has its own process.
    if std::env::var_os("CVIP_TEST_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "etcd::the_store_s_thread_ends_with_its_last_user"])
            .env("CVIP_TEST_ALONE", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let mut store = opened(&etcd);
    let lease = store.lease(1, 7).unwrap();
    let second = store.subscribe(Interest::All).unwrap();
    assert_eq!(threads().get("etcd"), Some(&1), "one thread for all");
    drop(store);
    drop(second);
    assert_eq!(threads().get("etcd"), Some(&1), "the lease is kept");
    let mut other = opened(&etcd);
    until(&mut *other, "the lease", |state| state.alive.contains_key(&1));
    drop(lease);
    until(&mut *other, "it is given back", |state| state.alive.is_empty());
    drop(other);
    let gone = wait_until(PATIENCE, || (!threads().contains_key("etcd")).then_some(()));
    assert!(gone.is_some(), "{:?}", threads());
}
