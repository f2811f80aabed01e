//! Drains of one director: what becomes of destinations that leave a service. Pure.
//!
//! A destination that leaves gets weight 0 at once and goes when it is drained; UDP goes at
//! once, since every datagram renews its entry and weight 0 would never drain it. A drain is over
//! once the kernel has deleted the destination or shows it as it is desired, and not when that was
//! asked for ([`settle`]).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::desired::DesiredService;
use super::kernel_table::Actual;
use crate::clock::Instant;
use crate::ipvs::plan::{Removal, same_destination};
use crate::ipvs::{Change, Destination, DestinationEntry, DestinationId};
use crate::protocol::Protocol;
use crate::store::ServiceKey;

/// With no active connection for this long, and none counted by the node, a destination is
/// drained: IPVS does not count half-closed connections as active, the node does.
pub const IDLE: Duration = Duration::from_secs(5);

/// A destination on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Since when it has been leaving.
    pub since: Instant,
    /// How long it may last.
    pub deadline: Duration,
    /// Since when it has had no active connection.
    pub idle_since: Option<Instant>,
    /// Active and inactive connections, when it was last looked at.
    pub connections: (u32, u32),
}

/// The drains of one director: state that only [`removals`] and [`settle`] write.
pub type DrainState = BTreeMap<(ServiceKey, DestinationId), Drain>;

/// What becomes of the destinations of a service that are not among these desired ones. `now` moves the
/// drains on.
pub fn removals(
    key: ServiceKey,
    desired: &DesiredService,
    destinations: &BTreeMap<DestinationId, Destination>,
    actual: Option<&Actual>,
    drains: &mut DrainState,
    now: Instant,
) -> BTreeMap<DestinationId, Removal> {
    let mut removals = BTreeMap::new();
    for (at, entry) in actual.into_iter().flat_map(|actual| &actual.destinations) {
        if let Some(destination) = destinations.get(at) {
            if same_destination(&entry.destination, destination) {
                drains.remove(&(key, *at));
            }
            continue;
        }
        let is_over = |drains: &mut DrainState| {
            desired.cut.contains(&at.addr) || is_drained(key, entry, desired, drains, now)
        };
        let removal = if desired.unknown.contains(&at.addr) {
            Removal::Keep
        } else if !is_over(drains) {
            Removal::Quiesce
        } else if drains.contains_key(&(key, *at)) {
            // It is still there after its drain: its deletion was refused, and may be again.
            Removal::QuiesceAndDelete
        } else {
            Removal::Delete
        };
        removals.insert(*at, removal);
    }
    // A drain whose destination is gone, by hand or with its service, is over.
    let gone = |at: &DestinationId| !actual.is_some_and(|a| a.destinations.contains_key(at));
    let gone: Vec<_> = draining(key, drains).filter(gone).collect();
    for at in gone {
        drains.remove(&(key, at));
    }
    removals
}

/// Notes what the kernel made of a planned change: `done` if it agreed. A destination whose
/// deletion it refused is on its way out, whether or not it was drained before.
pub fn settle(
    key: ServiceKey,
    change: &Change,
    done: bool,
    actual: Option<&Actual>,
    drains: &mut DrainState,
    now: Instant,
) {
    match change {
        Change::DeleteDestination(_, at) if done => drop(drains.remove(&(key, *at))),
        Change::DeleteDestination(_, at) => {
            let entry = actual.and_then(|actual| actual.destinations.get(at));
            let connections = entry.map_or((0, 0), |entry| (entry.active, entry.inactive));
            let over =
                Drain { since: now, deadline: Duration::ZERO, idle_since: None, connections };
            drains.entry((key, *at)).or_insert(over);
        }
        // Only what is desired gets a weight.
        Change::EditDestination(_, destination) if done && destination.weight > 0 => {
            drains.remove(&(key, destination.id));
        }
        Change::DeleteService(_) if done => drains.retain(|(of, _), _| *of != key),
        _ => {}
    }
}

/// Moves a destination's drain on; true if it may go now.
fn is_drained(
    key: ServiceKey,
    entry: &DestinationEntry,
    desired: &DesiredService,
    drains: &mut DrainState,
    now: Instant,
) -> bool {
    if key.protocol == Protocol::Udp || (entry.active == 0 && entry.inactive == 0) {
        return true;
    }
    let addr = entry.destination.id.addr;
    let deadline = desired.deadline(addr);
    let connections = (entry.active, entry.inactive);
    let fresh = Drain { since: now, deadline, idle_since: None, connections };
    let drain = drains.entry((key, entry.destination.id)).or_insert(fresh);
    // Only an operator's word makes a drain longer than it was to be.
    drain.deadline = match desired.deadlines.contains_key(&addr) {
        true => deadline,
        false => drain.deadline.min(deadline),
    };
    drain.connections = connections;
    if now.duration_since(drain.since) >= drain.deadline {
        return true;
    }
    if entry.active > 0 {
        drain.idle_since = None;
        return false;
    }
    let idle_since = *drain.idle_since.get_or_insert(now);
    let counted = desired.lingering.get(&entry.destination.id.addr).copied();
    counted == Some(0) && now.duration_since(idle_since) >= IDLE
}

/// The destinations of a service that drain.
fn draining(key: ServiceKey, drains: &DrainState) -> impl Iterator<Item = DestinationId> {
    let of_key = drains.range((key, least())..).take_while(move |((of, _), _)| *of == key);
    of_key.map(|((_, at), _)| *at)
}

/// The least of all destinations, where a service's drains begin.
fn least() -> DestinationId {
    DestinationId { addr: std::net::Ipv4Addr::UNSPECIFIED.into(), port: 0 }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::desired::testing::{ip, key};
    use super::super::reconcile::plan;
    use super::super::settings::service_id;
    use super::*;
    use crate::ipvs::{Forwarding, Service, Stats, service_flags};

    fn destination(host: u8, port: u16, weight: u32) -> Destination {
        Destination::new(IpAddr::from([10, 0, 0, host]), port, Forwarding::Route, weight)
    }

    fn entry(destination: Destination, active: u32, inactive: u32) -> DestinationEntry {
        let stats = Stats::default();
        DestinationEntry { destination, active, inactive, persistent: 0, stats }
    }

    fn desired(key: ServiceKey, destinations: &[Destination]) -> DesiredService {
        DesiredService {
            service: (!destinations.is_empty()).then(|| Service::new(service_id(key), "wlc")),
            destinations: destinations.iter().map(|d| (d.id, *d)).collect(),
            drain_timeout: Duration::from_secs(30),
            ..DesiredService::default()
        }
    }

    /// What a director plans that drains nothing yet.
    fn plan_without_drains(key: ServiceKey, desired: &DesiredService, has: &Actual) -> Vec<Change> {
        plan(key, desired, Some(has), &mut DrainState::new(), Instant::now())
    }

    fn actual(key: ServiceKey, entries: &[DestinationEntry]) -> Actual {
        Actual {
            service: Service::new(service_id(key), "wlc"),
            destinations: entries.iter().map(|e| (e.destination.id, *e)).collect(),
        }
    }

    fn http() -> ServiceKey {
        key(Protocol::Tcp, 80)
    }

    #[test]
    fn the_first_node_makes_the_service_and_the_second_only_joins() {
        let (one, two) = (destination(1, 80, 1), destination(2, 80, 1));
        let (mut drains, now) = (DrainState::new(), Instant::now());
        let id = service_id(http());
        assert_eq!(
            plan(http(), &desired(http(), &[one]), None, &mut drains, now),
            [Change::AddService(Service::new(id, "wlc")), Change::AddDestination(id, one)]
        );
        let has = actual(http(), &[entry(one, 5, 0)]);
        assert_eq!(
            plan(http(), &desired(http(), &[one, two]), Some(&has), &mut drains, now),
            [Change::AddDestination(id, two)]
        );
    }

    #[test]
    fn a_table_that_is_right_needs_no_change() {
        let one = destination(1, 80, 1);
        let mut has = actual(http(), &[entry(one, 3, 4)]);
        has.service.flags = service_flags::HASHED;
        has.service.netmask = 0;
        let changes = plan_without_drains(http(), &desired(http(), &[one]), &has);
        assert_eq!(changes, []);
    }

    #[test]
    fn a_weight_of_0_that_no_drain_explains_is_restored() {
        let one = destination(1, 80, 2);
        let has = actual(http(), &[entry(Destination { weight: 0, ..one }, 0, 0)]);
        let changes = plan_without_drains(http(), &desired(http(), &[one]), &has);
        assert_eq!(changes, [Change::EditDestination(service_id(http()), one)]);
    }

    #[test]
    fn a_leaving_destination_is_quiesced_at_once_and_deleted_when_drained() {
        let (one, id) = (destination(1, 80, 1), service_id(http()));
        let quiesced = Destination { weight: 0, ..one };
        let (mut drains, start) = (DrainState::new(), Instant::now());
        let desired = desired(http(), &[]);
        let mut step = |destination, active, inactive, ms| {
            let has = actual(http(), &[entry(destination, active, inactive)]);
            let now = start + Duration::from_millis(ms);
            plan(http(), &desired, Some(&has), &mut drains, now)
        };
        assert_eq!(step(one, 1, 1, 0), [Change::EditDestination(id, quiesced)]);
        assert_eq!(step(quiesced, 1, 1, 500), []);
        assert_eq!(
            step(quiesced, 0, 0, 1000),
            [Change::DeleteDestination(id, one.id), Change::DeleteService(id)]
        );
    }

    #[test]
    fn half_closed_connections_hold_a_drain_until_the_node_counts_none_or_the_deadline() {
        let quiesced = Destination { weight: 0, ..destination(1, 80, 1) };
        let has = actual(http(), &[entry(quiesced, 0, 2)]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (count, gone_at) in [(Some(0), 5), (Some(1), 30), (None, 30)] {
            let mut desired = desired(http(), &[]);
            desired.lingering = count.into_iter().map(|n| (quiesced.id.addr, n)).collect();
            let mut drains = DrainState::new();
            for second in 0..gone_at {
                assert_eq!(plan(http(), &desired, Some(&has), &mut drains, at(second)), []);
            }
            let changes = plan(http(), &desired, Some(&has), &mut drains, at(gone_at));
            assert_eq!(changes.len(), 2, "count {count:?}");
            settle(http(), &changes[0], true, Some(&has), &mut drains, at(gone_at));
            assert!(drains.is_empty());
        }
    }

    #[test]
    fn a_listener_that_comes_back_in_time_gets_its_weight_back() {
        let one = destination(1, 80, 1);
        let quiesced = Destination { weight: 0, ..one };
        let (mut drains, now) = (DrainState::new(), Instant::now());
        let has = actual(http(), &[entry(quiesced, 1, 0)]);
        plan(http(), &desired(http(), &[]), Some(&has), &mut drains, now);
        assert_eq!(drains.len(), 1);
        let changes = plan(http(), &desired(http(), &[one]), Some(&has), &mut drains, now);
        assert_eq!(changes, [Change::EditDestination(service_id(http()), one)]);
        settle(http(), &changes[0], true, Some(&has), &mut drains, now);
        assert!(drains.is_empty());
    }

    #[test]
    fn a_refused_deletion_is_asked_for_again_at_the_same_deadline_and_leaves_weight_0() {
        let (one, id) = (destination(1, 80, 1), service_id(http()));
        let quiesced = Destination { weight: 0, ..one };
        let (mut drains, start) = (DrainState::new(), Instant::now());
        let desired = desired(http(), &[]);
        let has = actual(http(), &[entry(quiesced, 1, 0)]);
        plan(http(), &desired, Some(&has), &mut drains, start);
        let later = start + desired.drain_timeout;
        for second in 0..3 {
            let now = later + Duration::from_secs(second);
            let changes = plan(http(), &desired, Some(&has), &mut drains, now);
            assert_eq!(changes[0], Change::DeleteDestination(id, one.id), "after {second} s");
            settle(http(), &changes[0], false, Some(&has), &mut drains, now);
        }
        // One that had nothing to drain is on its way out all the same.
        let has = actual(http(), &[entry(one, 0, 0)]);
        let mut drains = DrainState::new();
        let changes = plan(http(), &desired, Some(&has), &mut drains, start);
        assert_eq!(changes[0], Change::DeleteDestination(id, one.id));
        settle(http(), &changes[0], false, Some(&has), &mut drains, start);
        assert_eq!(
            plan(http(), &desired, Some(&has), &mut drains, start)[..2],
            [Change::EditDestination(id, quiesced), Change::DeleteDestination(id, one.id)]
        );
    }

    #[test]
    fn only_an_operators_word_makes_a_drain_longer() {
        let quiesced = Destination { weight: 0, ..destination(1, 80, 1) };
        let has = actual(http(), &[entry(quiesced, 1, 0)]);
        let (mut drains, now) = (DrainState::new(), Instant::now());
        let mut end = |seconds, ordered: Option<u64>| {
            let mut desired = desired(http(), &[]);
            desired.drain_timeout = Duration::from_secs(seconds);
            let ordered = ordered.map(|s| (quiesced.id.addr, Duration::from_secs(s)));
            desired.deadlines = ordered.into_iter().collect();
            plan(http(), &desired, Some(&has), &mut drains, now);
            drains.values().next().unwrap().deadline.as_secs()
        };
        assert_eq!([end(30, None), end(300, None), end(10, None)], [30, 30, 10]);
        assert_eq!([end(30, Some(60)), end(30, Some(20)), end(90, None)], [60, 20, 20]);
    }

    #[test]
    fn additions_come_before_edits_and_those_before_deletions() {
        let [one, two, three, four] = [1, 2, 3, 4].map(|host| destination(host, 80, 1));
        let quiesced = |d: Destination| Destination { weight: 0, ..d };
        let id = service_id(http());
        let has = actual(
            http(),
            &[entry(one, 1, 0), entry(quiesced(three), 1, 0), entry(destination(9, 80, 1), 0, 0)],
        );
        let desired = desired(http(), &[quiesced(one), two, three, four]);
        assert_eq!(
            plan_without_drains(http(), &desired, &has),
            [
                Change::AddDestination(id, two),
                Change::AddDestination(id, four),
                Change::EditDestination(id, three),
                Change::EditDestination(id, quiesced(one)),
                Change::DeleteDestination(id, destination(9, 80, 1).id),
            ]
        );
    }

    #[test]
    fn udp_is_deleted_at_once() {
        let dns = key(Protocol::Udp, 53);
        let has = actual(dns, &[entry(destination(1, 53, 1), 0, 9)]);
        let changes = plan_without_drains(dns, &desired(dns, &[]), &has);
        assert!(matches!(changes[..], [Change::DeleteDestination(..), Change::DeleteService(_)]));
    }

    #[test]
    fn a_dead_nodes_destination_goes_with_its_connections() {
        let mut desired = desired(http(), &[]);
        desired.cut.insert(ip("10.0.0.1"));
        let has = actual(http(), &[entry(destination(1, 80, 1), 4, 0)]);
        let changes = plan_without_drains(http(), &desired, &has);
        assert!(matches!(changes[..], [Change::DeleteDestination(..), Change::DeleteService(_)]));
    }

    #[test]
    fn an_operators_deadline_counts_before_the_services() {
        let mut desired = desired(http(), &[]);
        desired.deadlines.insert(ip("10.0.0.1"), Duration::from_secs(300));
        let has = actual(http(), &[entry(destination(1, 80, 0), 4, 0)]);
        let (mut drains, start) = (DrainState::new(), Instant::now());
        for (second, changes) in [(0, 0), (299, 0), (300, 2)] {
            let now = start + Duration::from_secs(second);
            let planned = plan(http(), &desired, Some(&has), &mut drains, now);
            assert_eq!(planned.len(), changes, "after {second} s");
        }
        desired.deadlines.insert(ip("10.0.0.1"), Duration::ZERO);
        let cut = plan_without_drains(http(), &desired, &has);
        assert_eq!(cut.len(), 2, "at once");
    }

    #[test]
    fn sorry_servers_come_before_the_last_real_server_drains_and_drain_when_one_is_back() {
        let (one, sorry) = (destination(1, 80, 1), destination(9, 8080, 1));
        let (http, id) = (http(), service_id(http()));
        let (mut drains, now) = (DrainState::new(), Instant::now());
        let with = |list: &[Destination]| DesiredService {
            service: Some(Service::new(id, "wlc")),
            sorry: [(sorry.id, sorry)].into(),
            ..desired(http, list)
        };
        let quiesced = |d: Destination| Destination { weight: 0, ..d };
        let has = actual(http, &[entry(one, 1, 0)]);
        assert_eq!(
            plan(http, &with(&[]), Some(&has), &mut drains, now),
            [Change::AddDestination(id, sorry), Change::EditDestination(id, quiesced(one)),]
        );
        let has = actual(http, &[entry(quiesced(one), 1, 0), entry(sorry, 2, 3)]);
        assert_eq!(
            plan(http, &with(&[one]), Some(&has), &mut drains, now),
            [Change::EditDestination(id, one), Change::EditDestination(id, quiesced(sorry))]
        );
        let has = actual(http, &[entry(one, 1, 0), entry(quiesced(sorry), 0, 0)]);
        assert_eq!(
            plan(http, &with(&[one]), Some(&has), &mut drains, now),
            [Change::DeleteDestination(id, sorry.id)]
        );
        // Over UDP it goes at once.
        let dns = key(Protocol::Udp, 53);
        let sorry = destination(9, 53, 1);
        let with = DesiredService {
            sorry: [(sorry.id, sorry)].into(),
            ..desired(dns, &[destination(1, 53, 1)])
        };
        let has = actual(dns, &[entry(sorry, 0, 9)]);
        let changes = plan_without_drains(dns, &with, &has);
        assert!(
            matches!(changes[..], [Change::AddDestination(..), Change::DeleteDestination(..)]),
            "{changes:?}"
        );
    }

    #[test]
    fn a_node_of_which_nothing_is_known_is_left_alone() {
        let mut desired = desired(http(), &[]);
        desired.unknown.insert(ip("10.0.0.1"));
        let has = actual(http(), &[entry(destination(1, 80, 1), 4, 0)]);
        let changes = plan_without_drains(http(), &desired, &has);
        assert_eq!(changes, []);
    }

    #[test]
    fn a_drain_of_a_destination_that_another_program_removed_is_forgotten() {
        let one = destination(1, 80, 0);
        let (mut drains, now) = (DrainState::new(), Instant::now());
        let has = actual(http(), &[entry(one, 1, 0)]);
        plan(http(), &desired(http(), &[]), Some(&has), &mut drains, now);
        assert_eq!(drains.len(), 1);
        plan(http(), &desired(http(), &[]), None, &mut drains, now);
        assert!(drains.is_empty());
    }

    /// Applies changes to a table as the kernel would; panics on one that it would refuse.
    fn apply(mut table: Option<Actual>, changes: &[Change]) -> Option<Actual> {
        for change in changes {
            match change {
                Change::AddService(service) => {
                    assert!(table.is_none());
                    let destinations = BTreeMap::new();
                    table = Some(Actual { service: service.clone(), destinations });
                }
                Change::EditService(service) => {
                    table.as_mut().unwrap().service = service.clone();
                }
                Change::AddDestination(_, d) => {
                    let old = table.as_mut().unwrap().destinations.insert(d.id, entry(*d, 0, 0));
                    assert_eq!(old, None);
                }
                Change::EditDestination(_, d) => {
                    let table = table.as_mut().unwrap();
                    table.destinations.get_mut(&d.id).unwrap().destination = *d;
                }
                Change::DeleteDestination(_, at) => {
                    table.as_mut().unwrap().destinations.remove(at).unwrap();
                }
                Change::DeleteService(_) => {
                    assert!(table.take().unwrap().destinations.is_empty());
                }
                other => panic!("{other:?}"),
            }
        }
        table
    }

    proptest! {
        #[test]
        fn a_plan_once_applied_leaves_nothing_but_drains_to_do(
            want in prop::collection::btree_map(1..6u8, 0..3u32, 0..5),
            have in prop::collection::btree_map(1..6u8, (0..3u32, 0..2u32), 0..5),
            exists in any::<bool>(),
        ) {
            let want: Vec<_> = want.iter().map(|(h, w)| destination(*h, 80, *w)).collect();
            let entries: Vec<_> =
                have.iter().map(|(h, (w, a))| entry(destination(*h, 80, *w), *a, 0)).collect();
            let table = exists.then(|| actual(http(), &entries));
            let desired = desired(http(), &want);
            let (mut drains, now) = (DrainState::new(), Instant::now());
            let first = plan(http(), &desired, table.as_ref(), &mut drains, now);
            let after = apply(table, &first);
            prop_assert_eq!(plan(http(), &desired, after.as_ref(), &mut drains, now), []);
            let later = now + desired.drain_timeout;
            let last = plan(http(), &desired, after.as_ref(), &mut drains, later);
            let end = apply(after, &last);
            let left: Vec<_> = end.iter().flat_map(|t| t.destinations.keys()).collect();
            let wanted_ids: Vec<_> = desired.destinations.keys().collect();
            prop_assert_eq!(left, wanted_ids);
            prop_assert_eq!(end.is_some(), desired.service.is_some());
            prop_assert_eq!(plan(http(), &desired, end.as_ref(), &mut drains, later), []);
            prop_assert!(drains.is_empty());
        }
    }
}
