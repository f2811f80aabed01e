//! Passes over a kernel that refuses what it likes.

use proptest::prelude::*;

use super::super::desired::desired;
use super::super::desired::testing::{conf, key, registration};
use super::super::drains::Drain;
use super::super::restrictions::Restrictions;
use super::*;
use crate::conf::{Conf, Quorum, ServiceConf, SorryServer};
use crate::ipvs::plan::rank;
use crate::ipvs::{ChangeFailure, Destination, DestinationId, Operation};
use crate::protocol::Protocol;
use crate::store::{DrainOrder, NodeRecord};

/// What happens to a director.
#[derive(Clone, Debug)]
enum Op {
    /// A node serves a service, with a weight, or does no more.
    Serve(u32, usize, Option<u16>),
    /// An operator drains a node, with a deadline in seconds or without.
    Drain(u32, Option<u32>),
    Undrain(u32),
    /// A node is suspected, or is no more.
    Suspect(u32),
    /// So many connections stand on a node's every destination.
    Connect(u32, u32),
    /// Time passes.
    Wait(u64),
    /// A pass over all services, or over those whose bit is set; the kernel refuses the changes
    /// whose bit is set.
    Pass(Option<u8>, u32),
    /// A pass of whose changes so many are made, and no answer is heard.
    Lose(Option<u8>, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = 1..4u32;
    let some = prop_oneof![Just(None), (1..8u8).prop_map(Some)];
    let mask = prop_oneof![3 => Just(0), 2 => any::<u32>()];
    let op = prop_oneof![
        4 => (node.clone(), 0..3usize, proptest::option::of(1..4u16))
            .prop_map(|(node, service, weight)| Op::Serve(node, service, weight)),
        1 => (node.clone(), proptest::option::of(0..60u32)).prop_map(|(n, s)| Op::Drain(n, s)),
        1 => node.clone().prop_map(Op::Undrain),
        1 => node.clone().prop_map(Op::Suspect),
        2 => (node, 0..3u32).prop_map(|(node, count)| Op::Connect(node, count)),
        2 => (0..20_000u64).prop_map(Op::Wait),
        6 => (some.clone(), mask).prop_map(|(some, mask)| Op::Pass(some, mask)),
        1 => (some, 0..4usize).prop_map(|(some, made)| Op::Lose(some, made)),
    ];
    prop::collection::vec(op, 1..40)
}

struct World {
    conf: Conf,
    nodes: BTreeMap<u32, NodeRecord>,
    ordered: store::Drains,
    restrictions: Restrictions,
    kernel: KernelTable,
    passes: Passes,
    now: Instant,
    /// When each drain was to end at the latest, as it was last seen.
    ends: BTreeMap<(ServiceKey, DestinationId), Instant>,
    /// What a full pass has met that succeeded.
    met: store::Drains,
    /// Drains' orders are never twice the same.
    orders: u64,
}

fn services() -> [ServiceKey; 3] {
    [key(Protocol::Tcp, 80), key(Protocol::Tcp, 81), key(Protocol::Udp, 53)]
}

/// A service that asks a quorum: two of nodes 1, 2 and 3, whose weights are their numbers times 2.
fn guarded() -> ServiceConf {
    let mut service = ServiceConf::new(Protocol::Tcp, 81, 81);
    service.quorum = Some(Quorum { weight: 6, hysteresis: 2 });
    let addr = [10, 0, 0, 9].into();
    service.sorry_servers = vec![SorryServer { addr, port: None, weight: 1 }];
    service
}

/// True if the kernel could make this change.
fn is_possible(kernel: &KernelTable, key: ServiceKey, change: &Change) -> bool {
    let service = kernel.get(&key);
    let has = |at: &DestinationId| service.is_some_and(|s| s.destinations.contains_key(at));
    match change {
        Change::AddService(_) => service.is_none(),
        Change::AddDestination(_, d) => service.is_some() && !has(&d.id),
        Change::EditDestination(_, d) => has(&d.id),
        Change::DeleteDestination(_, at) => has(at),
        _ => service.is_some(),
    }
}

impl World {
    fn new() -> World {
        let now = Instant::now();
        World {
            conf: conf(vec![guarded()]),
            nodes: (1..4).map(|node| (node, NodeRecord::empty(node, 1, 1))).collect(),
            ordered: store::Drains::new(),
            restrictions: Restrictions::default(),
            kernel: KernelTable::new(),
            passes: Passes::new(now),
            now,
            ends: BTreeMap::new(),
            met: store::Drains::new(),
            orders: 0,
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            conf: &self.conf,
            nodes: &self.nodes,
            me: 1,
            drains: &self.ordered,
            restrictions: &self.restrictions,
            passive: false,
            now: self.now,
        }
    }

    fn desired(&self, key: ServiceKey) -> (bool, BTreeMap<DestinationId, Destination>) {
        let desired = desired(key, self.inputs());
        let present = self.kernel.get(&key).into_iter().flat_map(|a| a.destinations.values());
        let destinations =
            desired.pool(present.map(|entry| &entry.destination)).destinations.into_owned();
        (desired.service.is_some(), destinations)
    }

    fn begin(&mut self, some: Option<u8>) -> Pass {
        let of_pass = |(bit, _): &(usize, ServiceKey)| some.is_none_or(|m| m & (1 << bit) != 0);
        let picked: BTreeSet<ServiceKey> =
            services().into_iter().enumerate().filter(of_pass).map(|(_, key)| key).collect();
        let of_picked = |(key, _): &(&ServiceKey, &Actual)| picked.contains(key);
        let read = self.kernel.iter().filter(of_picked).map(|(k, a)| (*k, a.clone())).collect();
        let mut passes = std::mem::replace(&mut self.passes, Passes::new(self.now));
        let pass = passes.plan(some.is_none(), picked, read, self.inputs());
        self.passes = passes;
        let ranks: Vec<u8> = pass.plans.changes.iter().map(|(_, c)| rank(c)).collect();
        assert!(ranks.is_sorted(), "{:?}", pass.plans.changes);
        pass
    }

    fn pass(&mut self, some: Option<u8>, refuse: u32) -> PassOutcome {
        let before = self.passes.next_full;
        let pass = self.begin(some);
        let mut refused = Vec::new();
        for (index, (key, change)) in pass.plans.changes.clone().into_iter().enumerate() {
            let refuses = refuse >> (index % 32) & 1 == 1;
            if !refuses && is_possible(&self.kernel, key, &change) {
                apply(&mut self.kernel, key, &change);
                continue;
            }
            let operation = Operation::of(&change);
            let failure = ChangeFailure { index, operation, errno: 1, text: None };
            refused.push(RefusedChange { service: key, change, failure });
        }
        let outcome = self.passes.applied(pass, &refused, self.now);
        match some {
            None if refused.is_empty() => self.met = self.ordered.clone(),
            None => assert!(!self.passes.is_settled()),
            Some(_) => assert!(self.passes.next_full <= before, "the full pass is put off"),
        }
        outcome
    }

    fn lose(&mut self, some: Option<u8>, made: usize) {
        let pass = self.begin(some);
        for (key, change) in pass.plans.changes.iter().take(made) {
            if is_possible(&self.kernel, *key, change) {
                apply(&mut self.kernel, *key, change);
            }
        }
        self.passes.failed(some.is_none(), Some(pass), self.now);
        assert!(!self.passes.is_settled());
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Serve(node, service, weight) => {
                let record = self.nodes.get_mut(&node).unwrap();
                let service = services()[service];
                record.registrations.retain(|r| r.service != service);
                let serves = weight
                    .map(|weight| crate::store::Registration { weight, ..registration(service) });
                record.registrations.extend(serves);
                record.registrations.sort();
            }
            Op::Drain(node, deadline_s) => {
                self.orders += 1;
                let (reason, by, since) = (None, "root".to_owned(), self.orders);
                let order = DrainOrder { reason, since, deadline_s, by };
                self.ordered.insert(DrainTarget { node, port: None }, order);
            }
            Op::Undrain(node) => drop(self.ordered.remove(&DrainTarget { node, port: None })),
            Op::Suspect(node) => {
                if !self.restrictions.suspected.remove(&node) {
                    self.restrictions.suspected.insert(node);
                }
            }
            Op::Connect(node, count) => self.connect(node, count),
            Op::Wait(ms) => self.now += Duration::from_millis(ms),
            Op::Pass(some, refuse) => drop(self.pass(some, refuse)),
            Op::Lose(some, made) => self.lose(some, made),
        }
        self.check();
    }

    fn connect(&mut self, node: u32, count: u32) {
        let addr = IpAddr::from([10, 0, 0, node as u8]);
        let entries = self.kernel.values_mut().flat_map(|a| a.destinations.values_mut());
        for entry in entries.filter(|entry| entry.destination.id.addr == addr) {
            entry.active = count;
        }
    }

    fn check(&mut self) {
        let end = |drain: &Drain| drain.since + drain.deadline;
        let ordered = |at: &DestinationId| {
            let mut orders = self.ordered.iter();
            orders.any(|(target, order)| {
                IpAddr::from([10, 0, 0, target.node as u8]) == at.addr && order.deadline_s.is_some()
            })
        };
        for (of, drain) in &self.passes.drains {
            if let Some(before) = self.ends.get(of).filter(|_| !ordered(&of.1)) {
                assert!(end(drain) <= *before, "the deadline of {of:?} moved");
            }
        }
        for (key, at) in self.ends.keys().filter(|of| !self.passes.drains.contains_key(of)) {
            let has = self.kernel.get(key).and_then(|actual| actual.destinations.get(at));
            let desired = self.desired(*key).1.get(at).copied();
            let over = has.is_none_or(|entry| Some(entry.destination) == desired);
            assert!(over, "the drain of {at:?} is forgotten");
        }
        self.ends = self.passes.drains.iter().map(|(of, drain)| (*of, end(drain))).collect();
        for (key, actual) in &self.kernel {
            for (at, _) in actual.destinations.iter().filter(|(_, e)| e.destination.weight == 0) {
                let named = self.passes.drains.contains_key(&(*key, *at))
                    || self.passes.quiesced.contains_key(&(*key, at.addr));
                assert!(named, "weight 0 of {at:?} in {key} has no reason");
            }
        }
        for target in self.passes.obeys(&self.ordered) {
            assert_eq!(self.met.get(&target), self.ordered.get(&target), "no full pass met it");
        }
        assert!(self.passes.due() <= self.now + RESYNC_EVERY);
    }

    /// Nothing happens any more, and the kernel does what it is told.
    fn settle(&mut self) {
        for node in 1..4 {
            self.connect(node, 0);
        }
        for _ in 0..3 {
            self.now += RESYNC_EVERY;
            self.pass(None, 0);
            self.check();
        }
        assert!(self.passes.is_settled());
        assert_eq!(self.passes.drains, DrainState::new());
        for key in services() {
            let (stands, desired) = self.desired(key);
            let has = self.kernel.get(&key);
            assert_eq!(has.is_some(), stands, "{key}");
            let destinations = has.into_iter().flat_map(|actual| &actual.destinations);
            let has: BTreeMap<_, _> = destinations.map(|(at, e)| (*at, e.destination)).collect();
            assert_eq!(has, desired, "{key}");
        }
        assert_eq!(self.passes.obeys(&self.ordered), self.ordered.keys().copied().collect());
    }

    /// What a look shows.
    fn look(&mut self) -> BTreeSet<ServiceKey> {
        let shown = self.kernel.iter().map(|(key, actual)| (*key, print_of(actual))).collect();
        let unexpected = self.passes.unexpected(&shown);
        self.passes.looked(&unexpected, Duration::ZERO, self.now)
    }
}

proptest! {
    #[test]
    fn whatever_the_kernel_refuses_nothing_is_forgotten_and_in_the_end_all_is_as_desired(
        ops in ops(),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.act(op);
        }
        world.settle();
    }
}

/// A world in which nodes 2 and 3 serve everything, with its table made.
fn served() -> World {
    let mut world = World::new();
    for node in [2, 3] {
        for service in 0..3 {
            world.act(&Op::Serve(node, service, Some(1)));
        }
    }
    world.pass(None, 0);
    world
}

#[test]
fn a_partial_pass_that_succeeds_does_not_end_what_a_full_one_left_undone() {
    let mut world = served();
    world.act(&Op::Drain(2, None));
    let target = DrainTarget { node: 2, port: None };
    world.passes.failed(true, None, world.now);
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.pass(Some(7), 0);
        assert!(!world.passes.is_settled());
        waits.push(world.passes.next_full - world.now);
        world.now = world.passes.next_full;
        world.passes.failed(true, None, world.now);
    }
    assert!(waits.is_sorted() && waits[3] > waits[0], "the back-off grows: {waits:?}");
    assert!(world.passes.obeys(&world.ordered).is_empty());
    world.pass(None, 0);
    assert!(world.passes.is_settled());
    assert_eq!(world.passes.obeys(&world.ordered), [target].into());
    // The same node, drained anew, is another order.
    world.act(&Op::Undrain(2));
    world.act(&Op::Drain(2, Some(5)));
    assert!(world.passes.obeys(&world.ordered).is_empty());
}

#[test]
fn a_look_finds_what_another_program_changed_and_one_event_tells_the_repair() {
    let mut world = served();
    assert!(world.look().is_empty(), "nothing is amiss");
    world.kernel.clear();
    assert_eq!(world.look(), services().into());
    let repair = world.pass(Some(7), 0).repair.unwrap();
    assert_eq!((repair.services, repair.destinations, repair.edited), (3, 6, 0));
    assert!(world.look().is_empty());
    // A deleted destination and a weight.
    let http = world.kernel.get_mut(&services()[0]).unwrap();
    let first = *http.destinations.keys().next().unwrap();
    http.destinations.remove(&first);
    http.destinations.values_mut().next().unwrap().destination.weight = 99;
    assert_eq!(world.look(), [services()[0]].into());
    let repair = world.pass(Some(1), 0).repair.unwrap();
    assert_eq!((repair.services, repair.destinations, repair.edited), (0, 1, 1));
    // Its own changes are no repair.
    world.act(&Op::Serve(2, 0, None));
    assert_eq!(world.pass(Some(1), 0).repair, None);
    assert!(world.look().is_empty());
}

#[test]
fn what_a_pass_finds_in_order_is_not_read_again() {
    let mut world = served();
    let strange = services().map(|key| (key, print_of(&world.kernel[&services()[2]]))).into();
    let looked = |world: &mut World| {
        let of = world.passes.unexpected(&strange);
        world.passes.looked(&of, Duration::ZERO, world.now)
    };
    assert_eq!(looked(&mut world).len(), 2);
    world.pass(Some(7), 0);
    assert!(looked(&mut world).is_empty());
}

#[test]
fn a_program_that_keeps_changing_the_table_is_answered_ten_times_and_then_slowly() {
    let mut world = served();
    let mut repairs = 0;
    for _ in 0..100 {
        world.now += LOOK_EVERY;
        world.kernel.clear();
        if !world.look().is_empty() {
            repairs += 1;
            world.pass(Some(7), 0);
        }
    }
    assert_eq!(repairs, 19, "ten at once, and one every ten seconds");
    assert!(world.passes.is_contested(world.now));
    world.now += Duration::from_secs(30);
    assert!(!world.passes.is_contested(world.now));
}

#[test]
fn a_look_that_leaves_out_what_the_kernel_has_is_no_change_by_another_program() {
    let mut world = served();
    for _ in 0..100 {
        world.now += LOOK_EVERY;
        let missed = world.passes.unexpected(&HashMap::new());
        if !world.passes.looked(&missed, Duration::ZERO, world.now).is_empty() {
            assert_eq!(world.pass(Some(7), 0).repair, None);
        }
        assert!(!world.passes.is_contested(world.now));
    }
}

#[test]
fn a_table_that_takes_long_to_look_at_is_looked_at_less_often() {
    let mut world = served();
    for (cost_ms, every_ms) in [(0, 1000), (10, 1000), (50, 5000), (5000, 60_000u64)] {
        let gone = world.passes.unexpected(&HashMap::new());
        world.passes.looked(&gone, Duration::from_millis(cost_ms), world.now);
        assert_eq!(world.passes.look_every(), Duration::from_millis(every_ms));
        assert!(!world.passes.is_look_due(world.now));
        assert!(world.passes.is_look_due(world.now + Duration::from_millis(every_ms)));
    }
}

#[test]
fn a_quorum_that_is_lost_and_made_again_is_told_once_and_its_real_servers_have_a_reason() {
    let mut world = World::new();
    let guarded = services()[1];
    let told = |world: &mut World| -> Vec<(u64, bool)> {
        let quorums = world.pass(None, 0).quorums;
        assert!(quorums.iter().all(|(weighed, _)| weighed.service == guarded));
        quorums.iter().map(|(weighed, has)| (weighed.weight, *has)).collect()
    };
    assert_eq!(told(&mut world), [(0, false)]);
    for (node, weight, expected) in [
        (2, Some(1), &[][..]),
        (2, Some(3), &[]),
        (3, Some(1), &[(9, true)]),
        (2, None, &[(3, false)]),
        (3, Some(2), &[]),
        (3, Some(3), &[(9, true)]),
    ] {
        world.act(&Op::Serve(node, 1, weight));
        assert_eq!(told(&mut world), expected, "node {node}, {weight:?}");
        assert!(told(&mut world).is_empty());
        let reasons = world.passes.quiesced.values();
        let held = reasons.filter(|why| matches!(why, QuiesceReason::BelowQuorum(_))).count();
        let has_quorum = world.passes.quorums[&guarded];
        assert_eq!(held > 0, !has_quorum, "node {node}, {weight:?}");
    }
}
