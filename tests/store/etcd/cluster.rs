//! Three servers: one dies, the leader dies, the quorum is lost and comes back.

use cvip::store::{Store, TermClaim};
use cvip_lab::etcd::Server;
use cvip_lab::{PATIENCE, wait_until};
use nix::sys::signal::Signal;

use super::super::support::server::Etcd;
use super::super::support::{opened, record, until};
use super::{await_held, until_back, until_unavailable, writes_fail_in_time};

/// Writes until it works: an election takes its time.
#[track_caller]
fn write(store: &mut dyn Store, sequence: u64) {
    let written = wait_until(PATIENCE, || match store.put_node(&record(1, (7, sequence), &[80])) {
        Ok(()) => Some(()),
        Err(error) if error.is_unavailable() => None,
        Err(error) => panic!("{error}"),
    });
    assert!(written.is_some(), "no write works");
}

fn leader(etcd: &Etcd) -> usize {
    let leads = |etcd: &Etcd| etcd.servers.iter().position(Server::leads);
    wait_until(PATIENCE, || leads(etcd)).expect("somebody leads")
}

#[test]
fn a_dead_leader_and_a_frozen_one_are_survived_and_a_lost_quorum_changes_nothing() {
    let mut etcd = Etcd::three();
    // Connections begin with any of the servers.
    let mut stores: Vec<Box<dyn Store>> = (0..3).map(|_| opened(&etcd)).collect();
    let lease = stores[0].lease(1, 7).unwrap();
    let see = |stores: &mut [Box<dyn Store>], sequence| {
        for store in stores {
            until(&mut **store, "the write", |state| {
                state.nodes.get(&1).is_some_and(|record| record.sequence == sequence)
            });
        }
    };
    write(&mut *stores[0], 1);
    see(&mut stores, 1);

    let first = leader(&etcd);
    etcd.servers[first].kill();
    for (n, store) in stores.iter_mut().enumerate() {
        write(&mut **store, 2 + n as u64);
    }
    see(&mut stores, 4);
    until(&mut *stores[1], "the lease is kept", |state| state.alive.get(&1) == Some(&7));

    // The second of three: nobody can decide anything any more.
    let before = stores[0].state().clone();
    let second = (0..3).find(|n| *n != first).unwrap();
    let third = 3 - first - second;
    etcd.servers[second].signal(Signal::SIGSTOP).unwrap();
    stores.iter_mut().for_each(|store| until_unavailable(&mut **store));
    writes_fail_in_time(&mut *stores[0]);
    for store in &mut stores {
        store.refresh().unwrap();
        assert_eq!(store.state().nodes, before.nodes);
        assert_eq!(store.state().alive, before.alive, "no lease ends without a quorum");
    }
    etcd.servers[second].signal(Signal::SIGCONT).unwrap();
    stores.iter_mut().for_each(|store| until_back(&mut **store));
    write(&mut *stores[2], 5);
    see(&mut stores, 5);
    until(&mut *stores[1], "the lease is held", |state| state.alive.get(&1) == Some(&7));
    await_held(&lease);

    // The first returns, and each of the others leaves once.
    etcd.servers[first].start().unwrap();
    for gone in [second, third] {
        etcd.servers[gone].kill();
        write(&mut *stores[0], 6 + gone as u64);
        etcd.servers[gone].start().unwrap();
    }
    let mut elections = Vec::new();
    for (n, store) in stores.iter_mut().enumerate() {
        let (term, node) = (elections.last().copied(), n as u32 + 1);
        // A server that has just returned may still be looking for its leader. A claim whose
        // answer was lost finds itself.
        let won = wait_until(PATIENCE, || match store.claim(1, term, node, 7) {
            Ok(TermClaim::Won(won)) => Some(won),
            Ok(TermClaim::Stands(Some(stands))) if stands.node == node => Some(stands),
            Ok(TermClaim::Stands(_)) => panic!("terms are the same on every server"),
            Err(error) if error.is_unavailable() => None,
            Err(error) => panic!("{error}"),
        });
        elections.push(won.expect("a claim works").term);
    }
    assert_eq!(elections, [1, 2, 3]);
}

#[test]
fn a_server_that_is_cut_off_from_the_others_is_left_for_one_that_is_not() {
    let mut etcd = Etcd::three();
    // This store knows one server alone, and then another one that is well.
    let lonely = leader(&etcd);
    let well = (lonely + 1) % 3;
    let mut settings = etcd.settings.clone();
    settings.endpoints = vec![etcd.servers[lonely].endpoint(), etcd.servers[well].endpoint()];
    let mut store = etcd.open_with(&settings, 1);
    until(&mut *store, "everything", |_| true);
    write(&mut *store, 1);
    etcd.servers[lonely].signal(Signal::SIGSTOP).unwrap();
    write(&mut *store, 2);
    until(&mut *store, "the write", |state| state.nodes[&1].sequence == 2);
    etcd.servers[lonely].signal(Signal::SIGCONT).unwrap();
    etcd.servers[well].kill();
    write(&mut *store, 3);
    until(&mut *store, "the next", |state| state.nodes[&1].sequence == 3);
}

#[test]
fn endpoints_that_are_dead_from_the_start_are_passed_over() {
    let etcd = Etcd::new();
    let mut settings = etcd.settings.clone();
    // Nobody listens on the first; the second is of a network that drops everything.
    let dead = cvip_lab::etcd::free_port().unwrap();
    settings.endpoints = vec![format!("http://127.0.0.1:{dead}"), settings.endpoints[0].clone()];
    for host in 1..=4 {
        let mut store = etcd.open_with(&settings, host);
        until(&mut *store, "everything", |_| true);
        write(&mut *store, u64::from(host));
    }
    let (versions, findings) = cvip::store::etcd::probe(&settings, &[]);
    assert_eq!(versions.len(), 1);
    let said = findings.iter().find(|f| f.message.contains(&dead.to_string())).unwrap();
    assert!(!said.is_error, "one of several is a warning: {findings:?}");
}
