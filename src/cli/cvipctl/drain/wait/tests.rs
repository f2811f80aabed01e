use super::super::tests::{NODE, conf, state};
use super::*;
use crate::protocol::Protocol;
use crate::store::{DrainOrder, Elected, Lingering, NodeRecord};

fn followed<'a>(conf: &'a Conf, orders: &'a [DrainTarget], since: Instant) -> Wait<'a> {
    Wait { conf, node: 2, orders, table: None, problem: None, since }
}

fn order(state: &mut StoreState, target: DrainTarget, deadline_s: Option<u32>) {
    let by = "root@node1".to_owned();
    state.drains.insert(target, DrainOrder { reason: None, since: 1, deadline_s, by });
    obey(state);
}

/// The director's table obeys the orders of the moment.
fn obey(state: &mut StoreState) {
    let obeys = state.drains.keys().copied().collect();
    state.nodes.insert(1, NodeRecord { obeys, ..NodeRecord::empty(1, 1, 1) });
    state.alive.insert(1, 1);
}

fn count(state: &mut StoreState, protocol: Protocol, port: u16, connections: u32) {
    let record = state.nodes.get_mut(&2).unwrap();
    record.lingering.retain(|l| (l.protocol, l.port) != (protocol, port));
    record.lingering.push(Lingering { protocol, port, connections });
}

#[test]
fn elsewhere_it_is_over_once_the_node_has_told_of_every_port_and_counts_no_connection() {
    let (conf, _) = conf();
    let mut state = state(&[(2, Protocol::Tcp, 80)]);
    order(&mut state, NODE, None);
    let since = Instant::now();
    let mut wait = followed(&conf, &[NODE], since);
    let mut look = |state: &StoreState| wait.look(state, since).unwrap();
    // TCP 80 and the static TCP 443.
    assert_eq!(look(&state), (Remaining::Record { unseen: 2, connections: 0 }, None));
    count(&mut state, Protocol::Tcp, 443, 0);
    count(&mut state, Protocol::Tcp, 80, 3);
    assert_eq!(look(&state), (Remaining::Record { unseen: 0, connections: 3 }, None));
    // The listener goes, its connections stay.
    state.nodes.get_mut(&2).unwrap().registrations.clear();
    assert_eq!(look(&state), (Remaining::Record { unseen: 0, connections: 3 }, None));
    count(&mut state, Protocol::Tcp, 80, 0);
    assert_eq!(look(&state).1, Some(Ended::Out));
    state.drains.clear();
    assert_eq!(look(&state).1, Some(Ended::Undrained));
}

#[test]
fn elsewhere_nothing_is_out_before_a_living_director_has_obeyed() {
    let (conf, _) = conf();
    let mut state = state(&[(2, Protocol::Tcp, 80)]);
    order(&mut state, NODE, Some(0));
    count(&mut state, Protocol::Tcp, 443, 0);
    count(&mut state, Protocol::Tcp, 80, 0);
    let since = Instant::now();
    let mut wait = followed(&conf, &[NODE], since);
    let mut look = |state: &StoreState| wait.look(state, since + Duration::from_secs(600)).unwrap();
    assert_eq!(look(&state).1, Some(Ended::Out));
    state.alive.remove(&1);
    assert_eq!(look(&state), (Remaining::Disobeyed { director: 1 }, None));
    obey(&mut state);
    state.nodes.get_mut(&1).unwrap().obeys.clear();
    assert_eq!(look(&state), (Remaining::Disobeyed { director: 1 }, None));
}

#[test]
fn a_port_is_waited_for_without_the_nodes_others() {
    let (conf, _) = conf();
    let mut state = state(&[(2, Protocol::Tcp, 80)]);
    let http = DrainTarget { node: 2, port: Some((Protocol::Tcp, 80)) };
    order(&mut state, http, None);
    count(&mut state, Protocol::Tcp, 443, 7);
    count(&mut state, Protocol::Tcp, 80, 1);
    let now = Instant::now();
    let mut wait = followed(&conf, std::slice::from_ref(&http), now);
    let (left, ended) = wait.look(&state, now).unwrap();
    assert_eq!((left, ended), (Remaining::Record { unseen: 0, connections: 1 }, None));
}

#[test]
fn elsewhere_the_deadline_ends_it_the_orders_or_the_services() {
    let (conf, _) = conf();
    let since = Instant::now();
    // TCP 80 has 60 s in cvip.conf, TCP 443 the default.
    for (deadline_s, over) in [(None, 62), (Some(0), 2), (Some(300), 302)] {
        let mut state = state(&[(2, Protocol::Tcp, 80)]);
        order(&mut state, NODE, deadline_s);
        count(&mut state, Protocol::Tcp, 443, 0);
        count(&mut state, Protocol::Tcp, 80, 1);
        let mut wait = followed(&conf, &[NODE], since);
        let mut at = |s| wait.look(&state, since + Duration::from_secs(s)).unwrap().1;
        assert_eq!((at(over - 1), at(over)), (None, Some(Ended::Cut)), "{deadline_s:?}");
    }
}

#[test]
fn the_kernel_is_asked_on_the_director_that_was_elected_and_nowhere_else() {
    let (mut conf, _) = conf();
    let mut state = state(&[]);
    assert!(directs_all_of(2, 1, &conf, &state), "no director is elected yet: the first directs");
    assert!(!directs_all_of(2, 3, &conf, &state));
    assert!(!directs_all_of(4, 1, &conf, &state), "no real server: nothing to ask for");
    let second = crate::conf::DirectorNode { node: 3, ..conf.cvips[0].directors[0].clone() };
    conf.cvips[0].directors.push(second);
    state.directors.insert(1, Elected { node: 3, incarnation: 1, term: 2 });
    assert!(directs_all_of(2, 3, &conf, &state) && !directs_all_of(2, 1, &conf, &state));
}

#[test]
fn without_a_terminal_there_is_a_line_for_a_change_and_not_too_many() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams::plain(&mut out, &mut err);
    let mut meter = Meter::Lines { last: None };
    let start = Instant::now();
    let table = |active, inactive| Remaining::Table { destinations: 1, active, inactive };
    for (ms, left) in [
        (0, table(2, 1)),
        (500, table(1, 1)),
        (1900, table(1, 0)),
        (2000, table(1, 0)),
        (9000, table(1, 0)),
    ] {
        meter.show(left, start + Duration::from_millis(ms), &mut streams).unwrap();
    }
    let gone = Remaining::Table { destinations: 0, active: 0, inactive: 0 };
    meter.end(gone, Ended::Out, &mut streams).unwrap();
    snapbox::assert_data_eq!(
        String::from_utf8(out).unwrap(),
        snapbox::str![[r#"
3 connections left (2 active, 1 inactive), 1 destination
1 connection left (1 active, 0 inactive), 1 destination
no destination is left

"#]]
    );
    assert!(err.is_empty());
}

#[test]
fn a_bar_shows_how_much_of_the_most_has_gone() {
    let Meter::Bar(bar) = Meter::bar(ProgressDrawTarget::hidden()) else { unreachable!() };
    let left = |connections| Remaining::Record { unseen: 0, connections };
    for (connections, position, length) in [(4, 0, 4), (8, 0, 8), (2, 6, 8), (0, 8, 8)] {
        advance(&bar, left(connections));
        assert_eq!((bar.position(), bar.length()), (position, Some(length)));
    }
    assert_eq!(bar.message(), "0 connections left");
}
