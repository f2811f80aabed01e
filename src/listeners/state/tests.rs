//! Sequences of socket events that arrive, are lost, arrive twice or late, and of dumps of a kernel
//! in which sockets stay in the table for a while after their release was told.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const CHEAP: Duration = Duration::from_micros(30);
const SOCKET_EVENTS: EventCoverage = EventCoverage { tcp: true, udp: true };
const NO_SOCKET_EVENTS: EventCoverage = EventCoverage { tcp: false, udp: false };

fn socket(protocol: Protocol, port: u16, cookie: u64) -> Listener {
    Listener {
        protocol,
        addr: "0.0.0.0".parse().unwrap(),
        port,
        v6only: false,
        device: 0,
        uid: 0,
        cookie,
        queue: 1,
        backlog: 10,
    }
}

fn tcp(port: u16, cookie: u64) -> Listener {
    socket(Protocol::Tcp, port, cookie)
}

fn flags() -> Ranges {
    [(Protocol::Tcp, 1, 1000), (Protocol::Udp, 1, 1000)].into_iter().collect()
}

/// A state of TCP and UDP ports 1 to 1000, after its first dumps showed these sockets.
fn state(now: Instant, covered: EventCoverage, sockets: &[Listener]) -> ListenerState {
    let mut state = ListenerState::new(now, covered);
    state.set_ranges(now, &flags());
    state.dumped(now, Protocol::Tcp, sockets, CHEAP);
    state.dumped(now, Protocol::Udp, &[], CHEAP);
    state
}

fn ports(state: &ListenerState) -> Vec<u16> {
    state.observed().iter().map(|l| l.port).collect()
}

/// When the next dumps are made if each is made in time and shows nothing new, counted from
/// `since`.
fn schedule(
    state: &mut ListenerState,
    protocol: Protocol,
    since: Instant,
    count: usize,
) -> Vec<u128> {
    (0..count)
        .map(|_| {
            let at = state.protocols[protocol as usize].due();
            assert!(state.is_due(at, protocol) && !state.is_due(at - MS / 100, protocol));
            let sockets: Vec<_> =
                state.observed().iter().filter(|l| l.protocol == protocol).copied().collect();
            state.dumped(at, protocol, &sockets, CHEAP);
            (at - since).as_micros()
        })
        .collect()
}

#[test]
fn without_ports_nothing_is_ever_due() {
    let now = Instant::now();
    let mut state = ListenerState::new(now, SOCKET_EVENTS);
    assert_eq!(state.next_dump_at(), None);
    state.event(now, Protocol::Tcp);
    assert_eq!(state.next_dump_at(), None);
    state.set_ranges(now, &flags());
    assert_eq!(state.next_dump_at(), Some(now));
    assert!(state.is_due(now, Protocol::Tcp));
    assert!(!state.is_due(now, Protocol::Sctp));
}

#[test]
fn without_socket_events_tcp_is_looked_at_five_times_a_second_and_udp_once() {
    let now = Instant::now();
    for covered in [SOCKET_EVENTS, NO_SOCKET_EVENTS] {
        let mut state = state(now, covered, &[]);
        let tcp = schedule(&mut state, Protocol::Tcp, now, 3);
        assert_eq!(tcp, [200_000, 400_000, 600_000]);
        let udp = schedule(&mut state, Protocol::Udp, now, 2);
        assert_eq!(udp, [1_000_000, 2_000_000]);
    }
}

#[test]
fn a_socket_event_brings_a_dump_at_once_and_four_more_and_then_the_poll() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[]);
    let socket_event = now + 50 * MS;
    state.event(socket_event, Protocol::Tcp);
    let after = schedule(&mut state, Protocol::Tcp, socket_event, 7);
    assert_eq!(after, [0, 1_000, 3_000, 10_000, 40_000, 240_000, 440_000]);
}

#[test]
fn a_dump_that_comes_late_stands_for_the_follow_ups_whose_time_has_passed_but_not_for_later_ones() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[]);
    let socket_event = now + 50 * MS;
    state.event(socket_event, Protocol::Tcp);
    state.dumped(socket_event + 5 * MS, Protocol::Tcp, &[], CHEAP);
    let after = schedule(&mut state, Protocol::Tcp, socket_event, 3);
    assert_eq!(after, [10_000, 40_000, 240_000]);
}

#[test]
fn a_second_socket_event_begins_the_follow_ups_anew() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[]);
    let socket_event = now + 50 * MS;
    state.event(socket_event, Protocol::Tcp);
    schedule(&mut state, Protocol::Tcp, socket_event, 4);
    let second = socket_event + 20 * MS;
    state.event(second, Protocol::Tcp);
    let after = schedule(&mut state, Protocol::Tcp, second, 5);
    assert_eq!(after, [0, 1_000, 3_000, 10_000, 40_000]);
}

#[test]
fn a_storm_of_socket_events_brings_one_dump_a_millisecond() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[]);
    let mut dumps = 0;
    for microseconds in 0..100_000 {
        let at = now + 50 * MS + Duration::from_micros(microseconds);
        state.event(at, Protocol::Tcp);
        if state.is_due(at, Protocol::Tcp) {
            state.dumped(at, Protocol::Tcp, &[], CHEAP);
            dumps += 1;
        }
    }
    assert_eq!(dumps, 100);
}

#[test]
fn dear_udp_dumps_are_rare_even_in_a_storm_and_do_not_hold_up_tcp() {
    let now = Instant::now();
    let dear = 20 * MS;
    for covered in [NO_SOCKET_EVENTS, SOCKET_EVENTS] {
        let mut state = state(now, covered, &[]);
        state.dumped(now, Protocol::Udp, &[], dear);
        state.dumped(now, Protocol::Udp, &[], dear);
        assert_eq!(state.poll_interval(Protocol::Udp), 1_000 * MS);
        assert_eq!(state.poll_interval(Protocol::Tcp), 200 * MS);
        state.event(now + 2 * MS, Protocol::Udp);
        state.event(now + 2 * MS, Protocol::Tcp);
        assert!(state.is_due(now + 2 * MS, Protocol::Tcp));
        assert!(!state.is_due(now + 999 * MS, Protocol::Udp));
        assert!(state.is_due(now + 1_000 * MS, Protocol::Udp));
    }
}

#[test]
fn dear_dumps_are_made_once_a_second_and_rarer_only_beyond_a_twentieth_of_a_core() {
    let now = Instant::now();
    for (cost, covered, poll) in [
        (8 * MS, NO_SOCKET_EVENTS, 400),
        (8 * MS, SOCKET_EVENTS, 1_000),
        // Some 30,000 listeners.
        (30 * MS, NO_SOCKET_EVENTS, 1_000),
        (30 * MS, SOCKET_EVENTS, 1_000),
        (200 * MS, SOCKET_EVENTS, 4_000),
        (9_000 * MS, SOCKET_EVENTS, 30_000),
    ] {
        let mut state = state(now, covered, &[]);
        state.dumped(now, Protocol::Tcp, &[], cost);
        assert_eq!(state.poll_interval(Protocol::Tcp), 200 * MS, "once is no habit");
        state.dumped(now, Protocol::Tcp, &[], cost);
        assert_eq!(state.poll_interval(Protocol::Tcp), poll * MS);
    }
}

#[test]
fn a_leave_of_a_server_does_not_wait_for_what_other_users_make_costly() {
    let now = Instant::now();
    let (server, dear) = (tcp(80, 1), 30 * MS);
    let others = (2..900).map(|cookie| Listener { uid: 1000, ..tcp(81, cookie) });
    let all: Vec<_> = [server].into_iter().chain(others).collect();
    let mut state = state(now, SOCKET_EVENTS, &all);
    for _ in 0..2 {
        state.dumped(now, Protocol::Tcp, &all, dear);
    }
    assert_eq!(state.eligible_cookies().count(), 899, "until it is said who may serve");
    assert!(state.set_eligible([server.identity()].into()));
    assert!(!state.set_eligible([server.identity()].into()));
    assert_eq!(state.eligible_cookies().collect::<Vec<_>>(), [1]);
    state.event(now + MS, Protocol::Tcp);
    assert!(!state.is_due(now + 299 * MS, Protocol::Tcp), "another user's socket event waits");
    state.released(now + 2 * MS, 1);
    assert!(state.is_due(now + 60 * MS, Protocol::Tcp));
    assert!(!state.is_due(now + 59 * MS, Protocol::Tcp));
    assert!(state.dumped(now + 60 * MS, Protocol::Tcp, &all[1..], dear));
    // A listener that may not join and is missed brings no second dump: the poll finds it.
    state.dumped(now + 1000 * MS, Protocol::Tcp, &[], dear);
    assert!(!state.is_due(now + 1999 * MS, Protocol::Tcp));
}

#[test]
fn a_listener_joins_after_one_dump_that_shows_it() {
    let now = Instant::now();
    let mut state = state(now, NO_SOCKET_EVENTS, &[]);
    assert!(state.dumped(now, Protocol::Tcp, &[tcp(80, 1)], CHEAP));
    assert_eq!(ports(&state), [80]);
    assert!(!state.dumped(now, Protocol::Tcp, &[tcp(80, 1)], CHEAP));
}

#[test]
fn a_listener_leaves_after_two_dumps_without_it_if_no_socket_event_told_of_its_release() {
    let now = Instant::now();
    // With socket events the second dump is made at once, without them it is the next poll.
    for (covered, second) in [(SOCKET_EVENTS, 1), (NO_SOCKET_EVENTS, 200)] {
        let mut state = state(now, covered, &[tcp(80, 1), tcp(81, 2)]);
        let poll = now + 200 * MS;
        assert!(!state.dumped(poll, Protocol::Tcp, &[tcp(81, 2)], CHEAP));
        assert_eq!(ports(&state), [80, 81]);
        let second = poll + second * MS;
        assert!(state.is_due(second, Protocol::Tcp));
        assert!(!state.is_due(second - MS / 100, Protocol::Tcp));
        assert!(state.dumped(second, Protocol::Tcp, &[tcp(81, 2)], CHEAP));
        assert_eq!(ports(&state), [81]);
    }
}

#[test]
fn two_dumps_without_a_listener_must_be_consecutive() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1)]);
    for _ in 0..3 {
        assert!(!state.dumped(now, Protocol::Tcp, &[], CHEAP));
        assert!(!state.dumped(now, Protocol::Tcp, &[tcp(80, 1)], CHEAP));
    }
}

#[test]
fn a_released_listener_leaves_after_one_dump_without_it_and_its_neighbour_does_not() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1), tcp(81, 2)]);
    state.released(now, 1);
    assert!(state.is_due(now + MS, Protocol::Tcp));
    // Still in the kernel's table: its release is told first.
    assert!(!state.dumped(now, Protocol::Tcp, &[tcp(80, 1), tcp(81, 2)], CHEAP));
    assert!(state.dumped(now, Protocol::Tcp, &[], CHEAP));
    assert_eq!(ports(&state), [81]);
    assert!(state.released.is_empty());
}

#[test]
fn sockets_that_share_a_port_leave_at_once_only_when_each_was_released() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1), tcp(80, 2)]);
    assert_eq!(ports(&state), [80]);
    assert_eq!((state.observed()[0].queue, state.observed()[0].backlog), (2, 20));
    assert_eq!(state.cookies().collect::<Vec<_>>(), [1, 2]);
    state.released(now, 1);
    assert!(!state.dumped(now, Protocol::Tcp, &[], CHEAP));
    assert!(!state.dumped(now, Protocol::Tcp, &[tcp(80, 2)], CHEAP));
    state.released(now, 2);
    assert!(state.dumped(now, Protocol::Tcp, &[], CHEAP));
}

#[test]
fn a_restart_between_two_dumps_is_no_change() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1)]);
    state.released(now, 1);
    state.event(now, Protocol::Tcp);
    assert!(!state.dumped(now, Protocol::Tcp, &[tcp(80, 2)], CHEAP));
    assert_eq!(state.observed()[0].cookie, 2);
    assert!(state.released.is_empty());
}

#[test]
fn another_owner_address_device_or_v6only_flag_is_another_listener() {
    let now = Instant::now();
    let one = Listener { addr: "::".parse().unwrap(), ..tcp(80, 1) };
    for other in [
        Listener { uid: 1000, ..one },
        Listener { addr: "::1".parse().unwrap(), ..one },
        Listener { device: 2, ..one },
        Listener { v6only: true, ..one },
    ] {
        let mut state = state(now, NO_SOCKET_EVENTS, &[one]);
        let both = [one, other];
        assert!(state.dumped(now, Protocol::Tcp, &both, CHEAP));
        assert_eq!(state.observed(), both);
    }
}

#[test]
fn a_port_that_is_unflagged_is_forgotten_at_once_and_one_that_stays_is_not() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1), tcp(81, 2)]);
    let ranges = [(Protocol::Tcp, 81, 81)].into_iter().collect();
    assert!(state.set_ranges(now, &ranges));
    assert_eq!(ports(&state), [81]);
    assert!(!state.set_ranges(now, &ranges));
}

#[test]
fn a_dump_that_failed_changes_nothing_and_is_tried_again() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1)]);
    let socket_event = now + 50 * MS;
    state.event(socket_event, Protocol::Tcp);
    state.failed(socket_event, Protocol::Tcp, false);
    assert_eq!(ports(&state), [80]);
    assert_eq!(schedule(&mut state, Protocol::Tcp, socket_event, 1), [1_000]);
}

#[test]
fn a_protocol_that_the_kernel_cannot_list_is_asked_for_once_a_minute() {
    let now = Instant::now();
    let mut state = ListenerState::new(now, SOCKET_EVENTS);
    let ranges = [(Protocol::Sctp, 1, 9)].into_iter().collect();
    state.set_ranges(now, &ranges);
    state.failed(now, Protocol::Sctp, true);
    state.event(now, Protocol::Sctp);
    assert_eq!(state.next_dump_at(), Some(now + 60_000 * MS));
    state.set_ranges(now, &ranges);
    assert_eq!(state.next_dump_at(), Some(now));
}

#[test]
fn an_unknown_release_is_a_socket_event_for_tcp_and_is_not_kept() {
    let now = Instant::now();
    let mut state = state(now, SOCKET_EVENTS, &[tcp(80, 1)]);
    state.released(now + 50 * MS, 77);
    assert!(state.is_due(now + 50 * MS, Protocol::Tcp));
    assert!(state.released.is_empty());
}

// --------------------------------------------------------------------- a kernel that is played

/// What a server does, on one of a few ports.
#[derive(Clone, Debug)]
struct ServerAct {
    /// Milliseconds after the act before.
    after: u64,
    udp: bool,
    port: u16,
    /// How long a closed socket stays in the table, in microseconds.
    lingers: u64,
    /// Delays of this act's socket events, in milliseconds: none if lost, several if doubled.
    socket_events: Vec<u64>,
    /// Whether a TCP release tells a cookie that dumps show (MPTCP's does not).
    cookie: bool,
}

fn act(socket_events: impl Strategy<Value = Vec<u64>>) -> impl Strategy<Value = ServerAct> {
    (0u64..300, any::<bool>(), 1u16..5, 0u64..30_000, socket_events, any::<bool>()).prop_map(
        |(after, udp, port, lingers, socket_events, cookie)| ServerAct {
            after,
            udp,
            port,
            lingers,
            socket_events,
            cookie,
        },
    )
}

/// A socket in the played kernel's table.
#[derive(Clone, Debug)]
struct Entry {
    socket: Listener,
    since: Instant,
    /// When it was closed, and when the kernel took it out of the table after that.
    closed: Option<(Instant, Instant)>,
}

/// Plays acts (each opens its port if it is closed, and closes it if it is open) to a state
/// that makes every dump in time. Says for each act's port when the state had the truth.
fn play(acts: &[ServerAct], covered: EventCoverage, skipped: &BTreeSet<usize>) -> Played {
    let start = Instant::now();
    let mut table: Vec<Entry> = Vec::new();
    let mut socket_events: Vec<(Instant, Protocol, Option<u64>)> = Vec::new();
    let mut now = start;
    for (number, act) in acts.iter().enumerate() {
        now += Duration::from_millis(act.after);
        let protocol = if act.udp { Protocol::Udp } else { Protocol::Tcp };
        let open = table.iter_mut().find(|e| {
            e.closed.is_none() && (e.socket.protocol, e.socket.port) == (protocol, act.port)
        });
        let released = match open {
            Some(entry) => {
                entry.closed = Some((now, now + Duration::from_micros(act.lingers)));
                Some(if act.cookie || act.udp { entry.socket.cookie } else { u64::MAX })
            }
            None => {
                let socket = socket(protocol, act.port, number as u64);
                table.push(Entry { socket, since: now, closed: None });
                None
            }
        };
        socket_events.extend(
            act.socket_events.iter().map(|d| (now + Duration::from_millis(*d), protocol, released)),
        );
    }
    socket_events.sort();
    let shown = |protocol, at: Instant| {
        let mut rows: Vec<_> = table
            .iter()
            .filter(|e| e.socket.protocol == protocol)
            .filter(|e| e.since <= at && e.closed.is_none_or(|(_, gone)| at < gone))
            .map(|e| e.socket)
            .collect();
        rows.sort();
        rows
    };
    let mut state = ListenerState::new(start, covered);
    state.set_ranges(start, &flags());
    let quiet = now + Duration::from_millis(30 + 100);
    let end = quiet + Duration::from_secs(4);
    let mut socket_events = socket_events.into_iter().peekable();
    let mut dumps = 0;
    let mut disturbed = [false; 3];
    let mut flaps = 0;
    let mut settled = start;
    loop {
        let due = state.next_dump_at().expect("ports are flagged");
        let at = socket_events.peek().map_or(due, |b| b.0.min(due));
        if at > end {
            break;
        }
        while let Some((_, protocol, cookie)) = socket_events.next_if(|b| b.0 <= at) {
            match cookie {
                Some(cookie) => state.released(at, cookie),
                None => state.event(at, protocol),
            }
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            if !state.is_due(at, protocol) {
                continue;
            }
            let truth = shown(protocol, at);
            let mut rows = truth.clone();
            // A dump that was disturbed misses one socket; never twice in a row.
            let disturbed = &mut disturbed[protocol as usize];
            *disturbed = skipped.contains(&dumps) && !*disturbed && !rows.is_empty();
            if *disturbed {
                rows.remove(dumps % truth.len());
            }
            dumps += 1;
            let before: BTreeSet<_> = state.cookies().collect();
            if state.dumped(at, protocol, &rows, CHEAP) {
                settled = at;
            }
            let after: BTreeSet<_> = state.observed().iter().map(Listener::identity).collect();
            // Of sockets that were seen and are still open: one that has taken a released
            // one's port and was not yet seen may join late.
            flaps += table
                .iter()
                .filter(|e| e.closed.is_none_or(|(closed, _)| at < closed))
                .filter(|e| before.contains(&e.socket.cookie))
                .filter(|e| !after.contains(&e.socket.identity()))
                .count();
        }
    }
    let believed = state.observed().iter().map(Listener::identity).collect();
    let truth = [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| shown(p, end));
    let truth = truth.map(|l| l.identity()).collect();
    Played { believed, truth, flaps, settled: settled.saturating_duration_since(now), dumps }
}

struct Played {
    believed: Vec<super::super::ListenerId>,
    truth: Vec<super::super::ListenerId>,
    /// How often a living listener was lost.
    flaps: usize,
    /// The last change, counted from the last act.
    settled: Duration,
    dumps: usize,
}

proptest! {
    #[test]
    fn socket_events_lost_doubled_and_late_leave_the_same_truth(
        acts in prop::collection::vec(act(prop::collection::vec(0u64..100, 0..3)), 1..20),
        covered in any::<bool>(),
    ) {
        let covered = if covered { SOCKET_EVENTS } else { NO_SOCKET_EVENTS };
        let played = play(&acts, covered, &BTreeSet::new());
        prop_assert_eq!(played.believed, played.truth);
        prop_assert_eq!(played.flaps, 0);
        // UDP is polled once a second, and leaves after two polls.
        prop_assert!(played.settled <= Duration::from_millis(2_000 + 30 + 100));
    }

    #[test]
    fn socket_events_that_ring_in_time_show_the_truth_within_the_follow_ups(
        acts in prop::collection::vec(act(Just(vec![0])), 1..20),
    ) {
        let played = play(&acts, SOCKET_EVENTS, &BTreeSet::new());
        prop_assert_eq!(played.believed, played.truth);
        prop_assert!(played.settled <= Duration::from_millis(42), "{:?}", played.settled);
    }

    #[test]
    fn a_dump_that_misses_a_living_socket_unregisters_none(
        acts in prop::collection::vec(act(prop::collection::vec(0u64..100, 0..3)), 1..20),
        skipped in prop::collection::btree_set(0usize..200, 0..40),
    ) {
        let played = play(&acts, SOCKET_EVENTS, &skipped);
        prop_assert_eq!(played.believed, played.truth);
        prop_assert_eq!(played.flaps, 0);
        prop_assert!(played.dumps > 20);
    }
}
