use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::heartbeat::Suspicion;

const ME: u32 = 1;
const MINE: Nonce = Nonce([1; 16]);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn node(node: u32) -> WatchedNode {
    WatchedNode { node, hears_us: false, least_incarnation: 0 }
}

fn director(node: u32) -> WatchedNode {
    WatchedNode { node, hears_us: true, least_incarnation: 0 }
}

fn heartbeat(node: u32, incarnation: u64, sequence: u64) -> Heartbeat {
    Heartbeat {
        node,
        incarnation,
        sequence,
        nonce: Nonce([incarnation as u8; 16]),
        leaving: false,
        cannot_carry: false,
        left: None,
        leaderships: Vec::new(),
        seen: Vec::new(),
    }
}

/// A heartbeat of a peer that heard this nonce of ours.
fn hearing(heartbeat: Heartbeat, nonce: Nonce) -> Heartbeat {
    Heartbeat { seen: vec![SeenNonce { node: ME, nonce }], ..heartbeat }
}

fn peers(watched: &[WatchedNode], now: Instant) -> Peers {
    let mut peers = Peers::new(ME, MINE, Timing::default(), now);
    peers.watch(watched.iter().copied(), now);
    peers
}

fn silent(peers: &mut Peers, now: Instant) -> Vec<u32> {
    peers.verdict(now).suspected.into_iter().collect()
}

/// Lets time pass for an observer that is there all the while.
fn pass(peers: &mut Peers, from: Instant, time: Duration) -> Instant {
    let mut now = from;
    while now < from + time {
        now = (now + ms(50)).min(from + time);
        peers.verdict(now);
    }
    now
}

#[test]
fn a_node_is_silent_when_nothing_new_came_for_the_time_of_silence() {
    let start = Instant::now();
    let mut peers = peers(&[node(2)], start);
    assert_eq!(peers.hear(heartbeat(2, 1, 1), start), Heard::Fresh);
    let now = pass(&mut peers, start, ms(599));
    assert_eq!((silent(&mut peers, now), peers.silent(2, now)), (vec![], false));
    let now = now + ms(1);
    assert_eq!((silent(&mut peers, now), peers.silent(2, now)), (vec![2], true));
    assert_eq!(peers.heard_ago(2, now), Some(ms(600)));
    assert_eq!(peers.hear(heartbeat(2, 1, 2), now), Heard::Fresh);
    assert_eq!((silent(&mut peers, now), peers.silent(2, now)), (vec![], false));
}

#[test]
fn a_node_that_was_never_heard_is_silent_after_the_same_time() {
    let start = Instant::now();
    let mut peers = peers(&[node(2)], start);
    assert_eq!(peers.heard_ago(2, start), None);
    let now = pass(&mut peers, start, ms(600));
    assert_eq!(silent(&mut peers, now), [2]);
    assert_eq!(peers.heard_ago(2, now), None);
    assert!(!peers.silent(3, now), "no node watches node 3");
}

#[test]
fn what_is_late_or_doubled_is_ignored_and_no_silence_either() {
    let start = Instant::now();
    let mut peers = peers(&[node(2)], start);
    for (sequence, heard) in
        [(5, Heard::Fresh), (4, Heard::Old), (5, Heard::Old), (7, Heard::Fresh), (6, Heard::Old)]
    {
        assert_eq!(peers.hear(heartbeat(2, 1, sequence), start), heard, "{sequence}");
        assert_eq!(peers.heard_ago(2, start), Some(ms(0)));
    }
    // Neither does it count as a sign of life.
    let now = pass(&mut peers, start, ms(600));
    assert_eq!(peers.hear(heartbeat(2, 1, 7), now), Heard::Old);
    assert_eq!(silent(&mut peers, now), [2]);
    assert_eq!(peers.counts(), HeardCounts { fresh: 2, old: 4, ..HeardCounts::default() });
}

#[test]
fn a_restarted_node_begins_anew_and_its_former_life_is_over() {
    let now = Instant::now();
    let mut peers = peers(&[node(2)], now);
    assert_eq!(peers.hear(heartbeat(2, 1, 900), now), Heard::Fresh);
    assert_eq!(peers.hear(heartbeat(2, 2, 1), now), Heard::Fresh);
    assert_eq!(peers.hear(heartbeat(2, 1, 901), now), Heard::Old);
    assert_eq!(peers.last(2).map(|heartbeat| heartbeat.incarnation), Some(2));
}

#[test]
fn the_store_knows_lives_that_are_over() {
    let now = Instant::now();
    let mut peers = peers(&[WatchedNode { least_incarnation: 3, ..node(2) }], now);
    assert_eq!(peers.hear(heartbeat(2, 2, 900), now), Heard::Outlived);
    assert_eq!(peers.heard_ago(2, now), None);
    assert_eq!(peers.hear(heartbeat(2, 3, 1), now), Heard::Fresh);
    peers.watch([WatchedNode { least_incarnation: 4, ..node(2) }], now);
    assert_eq!(peers.hear(heartbeat(2, 3, 2), now), Heard::Outlived);
    assert_eq!(peers.heard_ago(2, now), Some(ms(0)), "what is known stays known");
}

#[test]
fn a_node_whose_record_was_lost_may_begin_with_a_lower_incarnation() {
    let start = Instant::now();
    let mut peers = peers(&[node(2)], start);
    peers.hear(heartbeat(2, 9, 1), start);
    assert_eq!(peers.hear(heartbeat(2, 1, 1), start), Heard::Old);
    peers.forget(2, start);
    assert_eq!(peers.heard_ago(2, start), None);
    assert_eq!(peers.hear(heartbeat(2, 1, 1), start), Heard::Fresh);
    peers.forget(3, start);
    assert_eq!(peers.hear(heartbeat(3, 1, 1), start), Heard::Unwatched);
}

#[test]
fn who_hears_us_is_believed_once_he_shows_our_nonce() {
    let now = Instant::now();
    let mut peers = peers(&[director(2)], now);
    assert_eq!(peers.hear(heartbeat(2, 1, 1), now), Heard::Unproven);
    assert_eq!(peers.heard_ago(2, now), None);
    // The terms that it names were given, whenever that was.
    let leaderships = vec![Leadership { set: 1, term: 7, active: true }];
    let told = Heartbeat { leaderships: leaderships.clone(), ..heartbeat(2, 1, 2) };
    assert_eq!(peers.hear(told, now), Heard::Unproven);
    assert_eq!((peers.unproven(2), peers.last(2)), (&leaderships[..], None));
    // A recording of what it said to an earlier start of ours.
    assert_eq!(peers.hear(hearing(heartbeat(2, 1, 3), Nonce([9; 16])), now), Heard::Unproven);
    // Another node's echo is none of ours.
    let others = Heartbeat { seen: vec![SeenNonce { node: 7, nonce: MINE }], ..heartbeat(2, 1, 4) };
    assert_eq!(peers.hear(others, now), Heard::Unproven);
    assert_eq!(peers.hear(hearing(heartbeat(2, 1, 5), MINE), now), Heard::Fresh);
    // Once is enough: with many peers, not every heartbeat has room for all.
    assert_eq!(peers.hear(heartbeat(2, 1, 6), now), Heard::Fresh);
    // Its next start has to show it again.
    assert_eq!(peers.hear(heartbeat(2, 2, 1), now), Heard::Unproven);
    assert_eq!(peers.hear(hearing(heartbeat(2, 2, 2), MINE), now), Heard::Fresh);
    let counts = HeardCounts { fresh: 3, unproven: 5, ..HeardCounts::default() };
    assert_eq!(peers.counts(), counts);
}

#[test]
fn two_directors_that_start_at_different_times_come_to_believe_each_other() {
    let now = Instant::now();
    let (mine, its) = (MINE, Nonce([2; 16]));
    let mut here = peers(&[director(2)], now);
    let mut there = Peers::new(2, its, Timing::default(), now);
    there.watch([director(1)], now);
    let from_here =
        |sequence, seen| Heartbeat { node: 1, nonce: mine, seen, ..heartbeat(1, 8, sequence) };
    let from_there =
        |sequence, seen| Heartbeat { node: 2, nonce: its, seen, ..heartbeat(2, 4, sequence) };

    assert_eq!(there.hear(from_here(1, here.seen()), now), Heard::Unproven);
    assert_eq!(here.hear(from_there(1, there.seen()), now), Heard::Fresh);
    assert_eq!(there.hear(from_here(2, here.seen()), now), Heard::Fresh);
}

#[test]
fn a_recording_cannot_put_an_old_nonce_in_the_place_of_the_present_one() {
    let now = Instant::now();
    let mut peers = peers(&[director(2)], now);
    peers.hear(heartbeat(2, 5, 1), now);
    peers.hear(heartbeat(2, 4, 999), now);
    assert_eq!(peers.seen(), [SeenNonce { node: 2, nonce: Nonce([5; 16]) }]);
}

#[test]
fn every_peer_is_shown_its_nonce_in_turn() {
    let now = Instant::now();
    let watched: Vec<WatchedNode> = (2..=12).map(director).chain([node(20)]).collect();
    let mut peers = peers(&watched, now);
    assert_eq!(peers.seen(), []);
    for watched in &watched {
        peers.hear(heartbeat(watched.node, 1, 1), now);
    }
    let nodes = |seen: Vec<SeenNonce>| seen.iter().map(|seen| seen.node).collect::<Vec<u32>>();
    assert_eq!(nodes(peers.seen()), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(nodes(peers.seen()), [10, 11, 12, 2, 3, 4, 5, 6]);
    assert_eq!(nodes(peers.seen()), [7, 8, 9, 10, 11, 12, 2, 3]);
}

#[test]
fn a_peer_that_is_not_heard_is_told_so_and_tells_so() {
    let start = Instant::now();
    let mut peers = peers(&[director(2)], start);
    assert!(!peers.in_touch(2, start));
    peers.hear(hearing(heartbeat(2, 5, 1), MINE), start);
    assert!(peers.in_touch(2, start));
    assert_eq!(peers.seen().len(), 1);
    // It is heard, and hears us no longer.
    let now = start + ms(50);
    peers.hear(heartbeat(2, 5, 2), now);
    assert!(!peers.in_touch(2, now));
    assert_eq!(peers.seen().len(), 1);
    // It is not heard any longer either.
    peers.hear(hearing(heartbeat(2, 5, 3), MINE), now);
    let now = pass(&mut peers, now, ms(100));
    assert_eq!((peers.in_touch(2, now), peers.seen().len()), (true, 1));
    let now = pass(&mut peers, now, ms(50));
    assert_eq!((peers.in_touch(2, now), peers.seen().len()), (false, 0));
    peers.hear(hearing(heartbeat(2, 5, 4), MINE), now);
    assert_eq!((peers.in_touch(2, now), peers.seen().len()), (true, 1));
}

#[test]
fn no_other_and_not_oneself_is_watched() {
    let now = Instant::now();
    let mut peers = peers(&[node(ME), node(2)], now);
    assert_eq!(peers.hear(heartbeat(ME, 1, 1), now), Heard::Unwatched);
    assert_eq!(peers.hear(heartbeat(3, 1, 1), now), Heard::Unwatched);
    peers.watch([node(3)], now);
    assert_eq!(peers.hear(heartbeat(2, 1, 1), now), Heard::Unwatched);
    assert_eq!(peers.hear(heartbeat(3, 1, 1), now), Heard::Fresh);
    let now = pass(&mut peers, now, ms(600));
    assert_eq!(silent(&mut peers, now), [3]);
}

#[test]
fn an_observer_that_was_away_suspects_none() {
    let start = Instant::now();
    let mut peers = peers(&[node(2)], start);
    peers.hear(heartbeat(2, 1, 1), start);
    let now = pass(&mut peers, start, ms(500));
    // Stopped for an hour, or its machine was paused.
    let back = now + Duration::from_secs(3600);
    assert!(!peers.silent(2, back));
    assert_eq!(silent(&mut peers, back), [] as [u32; 0]);
    assert!(!peers.silent(2, back));
    // From then on time counts again, from where it had stopped.
    let now = pass(&mut peers, back, ms(99));
    assert_eq!(silent(&mut peers, now), [] as [u32; 0]);
    assert_eq!(silent(&mut peers, now + ms(1)), [2]);
    assert!(peers.heard_ago(2, now).unwrap() > Duration::from_secs(3600), "status tells the truth");
}

#[test]
fn who_waits_as_long_as_told_is_never_taken_for_away() {
    let start = Instant::now();
    let mut peers = peers(&[node(2)], start);
    let mut now = start;
    while silent(&mut peers, now).is_empty() {
        assert!(peers.timeout(now) <= Timing::default().period);
        now += peers.timeout(now);
        assert!(now <= start + ms(700), "silence is noticed");
    }
    assert_eq!(now, start + ms(600));
}

#[test]
fn most_silent_at_once_is_the_observers_own_link_until_most_return() {
    let start = Instant::now();
    let mut peers = peers(&[node(2), node(3), node(4)], start);
    for node in 2..=4 {
        peers.hear(heartbeat(node, 1, 1), start + ms(u64::from(node) * 10));
    }
    let now = pass(&mut peers, start, Duration::from_secs(20));
    let verdict = peers.verdict(now);
    assert_eq!((verdict.suspicion, verdict.suspected.len()), (Suspicion::OwnLink, 0));
    assert!(peers.silent(2, now), "what was heard is another matter");

    peers.hear(heartbeat(2, 1, 2), now);
    assert_eq!(peers.verdict(now).suspicion, Suspicion::OwnLink);
    peers.hear(heartbeat(3, 1, 2), now);
    let verdict = peers.verdict(now);
    assert_eq!((verdict.suspicion, verdict.suspected.len()), (Suspicion::Nodes, 0));
    // The third has the whole time to be heard.
    for later in (10..=600).step_by(10) {
        let now = now + ms(later);
        for node in [2, 3] {
            peers.hear(heartbeat(node, 1, 2 + later), now);
        }
        let third: &[u32] = if later < 600 { &[] } else { &[4] };
        assert_eq!(silent(&mut peers, now), third, "{later} ms");
    }
}

#[test]
fn told_that_the_link_is_good_the_verdict_is_the_nodes() {
    let start = Instant::now();
    let mut peers = peers(&[node(2), node(3), node(4)], start);
    for node in [2, 3, 4] {
        peers.hear(heartbeat(node, 1, 1), start);
    }
    let now = pass(&mut peers, start, ms(600));
    assert_eq!(peers.verdict(now).suspicion, Suspicion::OwnLink);
    peers.trust_link();
    let expected = Verdict { suspicion: Suspicion::Nodes, suspected: BTreeSet::from([2, 3, 4]) };
    assert_eq!(peers.verdict(now), expected);
    let now = pass(&mut peers, now, Duration::from_secs(5));
    assert_eq!(peers.verdict(now), expected);
}

#[test]
fn nodes_that_were_never_heard_do_not_make_a_link_suspicious() {
    let start = Instant::now();
    let mut peers = peers(&[node(2), node(3), node(4)], start);
    let now = pass(&mut peers, start, ms(600));
    let expected = Verdict { suspicion: Suspicion::Nodes, suspected: BTreeSet::from([2, 3, 4]) };
    assert_eq!(peers.verdict(now), expected);
}

#[test]
fn nodes_that_said_they_would_stop_do_not_make_a_link_suspicious() {
    let start = Instant::now();
    let mut peers = peers(&[node(2), node(3), node(4)], start);
    for node in 2..=4 {
        peers.hear(Heartbeat { leaving: true, ..heartbeat(node, 1, 1) }, start);
    }
    let now = pass(&mut peers, start, ms(600));
    assert_eq!(silent(&mut peers, now), [2, 3, 4]);
    assert!(peers.last(2).unwrap().leaving);
}

/// A network that loses, delays and reorders; the same seed gives the same fate to every
/// datagram (xorshift64*).
struct Network(u64);

impl Network {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// When a datagram that is sent at this time arrives: every fifth never.
    fn arrival(&mut self, sent: Duration) -> Option<Duration> {
        (self.below(100) >= 20).then(|| sent + Duration::from_micros(150_000 + self.below(100_001)))
    }
}

/// Peers that send for five minutes over a bad network, one of them dying before; the observer
/// takes what arrives, and asks who is silent whenever its time-out is over.
fn five_minutes(seed: u64, timing: Timing) -> Result<(), String> {
    const LAST: u32 = 4;
    let (start, end) = (Instant::now(), Duration::from_secs(300));
    let dead_from = Duration::from_secs(150);
    let mut network = Network(seed);
    let mut arrivals: Vec<(Duration, u32, u64)> = Vec::new();
    for node in 2..=LAST {
        let mut sent = Duration::from_micros(network.below(50_000));
        for sequence in 1.. {
            if sent >= end || (node == LAST && sent >= dead_from) {
                break;
            }
            if let Some(at) = network.arrival(sent) {
                arrivals.push((at, node, sequence));
            }
            sent += timing.period;
        }
    }
    arrivals.sort_unstable();
    let of_one: Vec<u64> = arrivals.iter().filter(|(_, node, _)| *node == 2).map(|a| a.2).collect();
    let overtaken = of_one.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(overtaken > 100 || timing.period >= ms(100), "{overtaken} were overtaken");

    let mut peers = Peers::new(ME, MINE, timing, start);
    peers.watch((2..=LAST).map(node), start);
    let (mut at, mut noticed) = (Duration::ZERO, None);
    let mut arrivals = arrivals.into_iter().peekable();
    while at < end {
        let timeout = at + peers.timeout(start + at);
        at = arrivals.peek().map_or(timeout, |(arrival, ..)| timeout.min(*arrival));
        while let Some((_, node, sequence)) = arrivals.next_if(|(arrival, ..)| *arrival <= at) {
            peers.hear(heartbeat(node, 1, sequence), start + at);
        }
        if !peers.timeout(start + at).is_zero() {
            continue;
        }
        let verdict = peers.verdict(start + at);
        if verdict.suspicion != Suspicion::Nodes {
            return Err(format!("seed {seed}: own link suspected at {at:?}"));
        }
        for node in verdict.suspected {
            if node != LAST || at < dead_from {
                return Err(format!("seed {seed}: node {node} called silent at {at:?}"));
            }
            noticed.get_or_insert(at - dead_from);
        }
    }
    // The last heartbeat of a dead node may be under way for a quarter of a second, and the last
    // ones before it may be lost: then its silence began earlier.
    match noticed {
        Some(time) if time <= ms(250 + 700) => Ok(()),
        other => Err(format!("seed {seed}: a death was noticed after {other:?}")),
    }
}

#[test]
fn a_bad_network_makes_no_live_peer_silent_in_five_minutes_and_hides_no_dead_one() {
    for seed in 1..=8 {
        five_minutes(seed, Timing::default()).unwrap();
    }
}

#[test]
fn heartbeats_half_as_often_would_not_do() {
    let timing = Timing { period: ms(100), ..Timing::default() };
    let failed = (1..=8).filter(|seed| five_minutes(*seed, timing).is_err()).count();
    assert!(failed >= 4, "only {failed} of 8 networks made a live peer silent");
}

#[test]
fn on_a_good_network_a_death_is_noticed_within_700_ms() {
    let start = Instant::now();
    let timing = Timing::default();
    for phase in 0..timing.period.as_millis() as u64 {
        let mut peers = peers(&[node(2)], start);
        let (mut now, mut sequence, dead) = (start, 0, start + ms(1000));
        let mut next = start + ms(phase);
        while peers.verdict(now).suspected.is_empty() {
            now = (now + peers.timeout(now)).min(if next < dead { next } else { now + ms(1000) });
            if now >= next && next < dead {
                sequence += 1;
                peers.hear(heartbeat(2, 1, sequence), now);
                next += timing.period;
            }
        }
        assert!(now >= dead && now - dead <= ms(700), "{phase}: {:?} after its death", now - dead);
    }
}

proptest! {
    #[test]
    fn exactly_what_is_newer_than_all_before_is_fresh(
        versions in proptest::collection::vec((1..4u64, 1..30u64), 0..60),
    ) {
        let now = Instant::now();
        let mut peers = peers(&[node(2)], now);
        let mut newest = (0, 0);
        for (incarnation, sequence) in versions {
            let fresh = (incarnation, sequence) > newest;
            newest = newest.max((incarnation, sequence));
            let heard = peers.hear(heartbeat(2, incarnation, sequence), now);
            prop_assert_eq!(heard == Heard::Fresh, fresh);
        }
    }
}
