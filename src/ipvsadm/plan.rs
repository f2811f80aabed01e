//! The fewest changes that make one table another, in an order that traffic survives.
//!
//! First everything that adds (services, destinations, weights above 0), then everything that
//! takes away (weights of 0, destinations, services): a service that has a destination to
//! schedule to before and after has one at every moment in between. A pure function; what the
//! wanted table says nothing of (time-outs, daemons) stays as it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::rules::{DaemonRule, Destinations, Rules};
use crate::ipvs::{
    Change, DaemonRole, Destination, Forwarding, Service, SyncDaemon, Timeouts, service_flags,
};

/// The changes that lead from `current` to `wanted`, in the order in which they are to be made.
pub fn plan(current: &Rules, wanted: &Rules) -> Vec<Change> {
    let (mut stops, mut starts) = (Vec::new(), Vec::new());
    for (role, now, then) in [
        (DaemonRole::Master, &current.master, &wanted.master),
        (DaemonRole::Backup, &current.backup, &wanted.backup),
    ] {
        plan_daemon(role, now, then, &mut stops, &mut starts);
    }
    // A kernel that synchronises refuses destinations of the other address family.
    let mut changes = stops;
    let (mut fading, mut leaving) = (Vec::new(), Vec::new());
    for (id, pool) in &wanted.services {
        let present = current.services.get(id);
        match present {
            None => changes.push(Change::AddService(pool.service.clone())),
            Some(present) if !same_settings(&present.service, &pool.service) => {
                changes.push(Change::EditService(pool.service.clone()));
            }
            Some(_) => {}
        }
        plan_pool(present, pool, &mut changes, &mut fading, &mut leaving);
    }
    changes.append(&mut fading);
    changes.append(&mut leaving);
    let gone = current.services.keys().filter(|id| !wanted.services.contains_key(id));
    changes.extend(gone.map(|id| Change::DeleteService(*id)));
    if let Some(timeouts) = wanted.timeouts
        && !satisfied(current.timeouts, timeouts)
    {
        changes.push(Change::SetTimeouts(timeouts));
    }
    changes.append(&mut starts);
    changes
}

/// Whether a change takes something away from clients: such changes come last in a plan, and
/// are to be left undone if what was to replace it could not be added.
pub fn takes_away(change: &Change) -> bool {
    match change {
        Change::DeleteService(_) | Change::DeleteDestination(..) => true,
        Change::EditDestination(_, destination) => destination.weight == 0,
        _ => false,
    }
}

/// One service's destinations: what comes, what is quiesced, what goes.
fn plan_pool(
    present: Option<&Destinations>,
    wanted: &Destinations,
    coming: &mut Vec<Change>,
    fading: &mut Vec<Change>,
    leaving: &mut Vec<Change>,
) {
    let id = wanted.service.id;
    let none = BTreeMap::new();
    let present = present.map_or(&none, |pool| &pool.destinations);
    for (at, destination) in &wanted.destinations {
        match present.get(at) {
            None => coming.push(Change::AddDestination(id, *destination)),
            Some(now) if same_destination(now, destination) => {}
            Some(_) if destination.weight == 0 => {
                fading.push(Change::EditDestination(id, *destination));
            }
            Some(_) => coming.push(Change::EditDestination(id, *destination)),
        }
    }
    let gone = present.keys().filter(|at| !wanted.destinations.contains_key(at));
    leaving.extend(gone.map(|at| Change::DeleteDestination(id, *at)));
}

fn plan_daemon(
    role: DaemonRole,
    current: &DaemonRule,
    wanted: &DaemonRule,
    stops: &mut Vec<Change>,
    starts: &mut Vec<Change>,
) {
    let stop = |daemon: &SyncDaemon| Change::StopDaemon(role, daemon.sync_id);
    match (current, wanted) {
        (DaemonRule::Running(now), DaemonRule::Running(then)) if !same_daemon(now, then) => {
            stops.push(stop(now));
            starts.push(Change::StartDaemon(then.clone()));
        }
        (DaemonRule::Running(now), DaemonRule::Stopped(_)) => stops.push(stop(now)),
        (DaemonRule::Stopped(_) | DaemonRule::Unsaid, DaemonRule::Running(then)) => {
            starts.push(Change::StartDaemon(then.clone()));
        }
        _ => {}
    }
}

/// Whether an edit would change nothing. The kernel adds a flag of its own, and keeps a mask and
/// a time-out for services that are not persistent.
fn same_settings(now: &Service, then: &Service) -> bool {
    let flags = now.flags & !service_flags::HASHED;
    let persistent = flags & service_flags::PERSISTENT != 0;
    now.scheduler == then.scheduler
        && flags == then.flags & !service_flags::HASHED
        && now.pe == then.pe
        && (!persistent || (now.timeout, now.netmask) == (then.timeout, then.netmask))
}

/// The same of a destination. The kernel may call one of its own addresses local, which no
/// rule can; and a tunnel's settings mean nothing without a tunnel.
fn same_destination(now: &Destination, then: &Destination) -> bool {
    (now.forward == then.forward || now.forward == Forwarding::LocalNode)
        && (now.weight, now.upper, now.lower) == (then.weight, then.upper, then.lower)
        && (then.forward != Forwarding::Tunnel || now.tunnel == then.tunnel)
}

/// The same of a daemon. What is not said is the kernel's default (linux/ip_vs.h and
/// net/netfilter/ipvs/ip_vs_sync.c: 224.0.0.81, port 8848, TTL 1); the length, which follows
/// the interface's MTU, may then be any.
fn same_daemon(now: &SyncDaemon, then: &SyncDaemon) -> bool {
    const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
    let rest = |daemon: &SyncDaemon| {
        (daemon.group.unwrap_or(GROUP), daemon.port.unwrap_or(8848), daemon.ttl.unwrap_or(1))
    };
    (&now.interface, now.sync_id) == (&then.interface, then.sync_id)
        && rest(now) == rest(then)
        && (then.max_len.is_none() || now.max_len == then.max_len)
}

/// Whether the time-outs are what is wanted of them; 0 is anything.
fn satisfied(current: Option<Timeouts>, wanted: Timeouts) -> bool {
    let now = current.unwrap_or(Timeouts { tcp: 0, tcp_fin: 0, udp: 0 });
    [(now.tcp, wanted.tcp), (now.tcp_fin, wanted.tcp_fin), (now.udp, wanted.udp)]
        .into_iter()
        .all(|(now, wanted)| wanted == 0 || now == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::{ServiceId, Tunnel, TunnelKind};
    use crate::protocol::Protocol;

    fn id(port: u16) -> ServiceId {
        let addr = "192.0.2.1".parse().unwrap();
        ServiceId::Address { protocol: Protocol::Tcp, addr, port }
    }

    fn destination() -> impl Strategy<Value = Destination> {
        (1..5u8, prop::sample::select(vec![0, 0, 1, 2]), 0..2u32, any::<bool>()).prop_map(
            |(host, weight, upper, tunnelled)| {
                let forward = if tunnelled { Forwarding::Tunnel } else { Forwarding::Masquerade };
                let mut it = Destination::new([10, 0, 0, host].into(), 80, forward, weight);
                it.upper = upper;
                if tunnelled {
                    it.tunnel = Tunnel { kind: TunnelKind::Gre, port: 0, flags: 1 };
                }
                it
            },
        )
    }

    fn pool(port: u16) -> impl Strategy<Value = Destinations> {
        let scheduler = prop::sample::select(vec!["rr", "wlc"]);
        let persistence = prop::option::of(1..3u32);
        (scheduler, persistence, prop::collection::vec(destination(), 0..5)).prop_map(
            move |(scheduler, persistence, destinations)| {
                let service = Service::new(id(port), scheduler);
                let service = match persistence {
                    Some(seconds) => service.persistent(seconds),
                    None => service,
                };
                let destinations = destinations.into_iter().map(|d| (d.id, d)).collect();
                Destinations { service, destinations }
            },
        )
    }

    fn sync(role: DaemonRole) -> impl Strategy<Value = DaemonRule> {
        (0..3u8, 0..2u32, prop::option::of(1..3u8)).prop_map(move |(what, sync_id, ttl)| match what
        {
            0 => DaemonRule::Unsaid,
            1 => DaemonRule::Stopped(sync_id),
            _ => DaemonRule::Running(SyncDaemon {
                role,
                interface: "eth0".to_owned(),
                sync_id,
                max_len: None,
                group: None,
                port: None,
                ttl,
            }),
        })
    }

    prop_compose! {
        fn rules()(
            pools in prop::collection::vec((1..5u16).prop_flat_map(pool), 0..5),
            timeouts in prop::option::of((0..3u32, 0..3u32, 0..3u32)),
            master in sync(DaemonRole::Master),
            backup in sync(DaemonRole::Backup),
        ) -> Rules {
            Rules {
                services: pools.into_iter().map(|pool| (pool.service.id, pool)).collect(),
                timeouts: timeouts.map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp }),
                master,
                backup,
                of_services: true,
                keeps_services: false,
            }
        }
    }

    fn serves(rules: &Rules, id: &ServiceId) -> bool {
        let pool = rules.services.get(id);
        pool.is_some_and(|pool| pool.destinations.values().any(|d| d.weight > 0))
    }

    fn adds(change: &Change) -> bool {
        matches!(change, Change::AddService(_) | Change::AddDestination(..))
    }

    proptest! {
        #[test]
        fn the_plan_leads_to_the_wanted_table_and_is_then_empty(
            current in rules(), wanted in rules(),
        ) {
            let mut table = current.clone();
            for change in plan(&current, &wanted) {
                prop_assert_eq!(table.change(&change), Ok(()), "{:?}", change);
            }
            prop_assert_eq!(&table.services, &wanted.services);
            prop_assert_eq!(plan(&table, &wanted), []);
        }

        #[test]
        fn a_service_that_has_somebody_to_serve_has_one_throughout(
            current in rules(), wanted in rules(),
        ) {
            let mut table = current.clone();
            let kept: Vec<ServiceId> = current.services.keys().copied()
                .filter(|id| serves(&current, id) && serves(&wanted, id))
                .collect();
            for change in plan(&current, &wanted) {
                table.change(&change).unwrap();
                for id in &kept {
                    prop_assert!(serves(&table, id), "{id:?} after {change:?}");
                }
            }
        }

        #[test]
        fn additions_come_before_deletions_and_nothing_is_touched_twice(
            current in rules(), wanted in rules(),
        ) {
            let changes = plan(&current, &wanted);
            let last = changes.iter().rposition(adds).unwrap_or(0);
            let first = changes.iter().position(takes_away).unwrap_or(changes.len());
            prop_assert!(last <= first);
            let most = current.services.len() + wanted.services.len() + 5
                + [&current, &wanted].iter().flat_map(|rules| rules.services.values())
                    .map(|pool| pool.destinations.len()).sum::<usize>();
            prop_assert!(changes.len() <= most);
            for change in &changes {
                prop_assert_eq!(changes.iter().filter(|other| *other == change).count(), 1);
            }
        }

        #[test]
        fn what_is_not_spoken_of_stays(current in rules(), mut wanted in rules()) {
            (wanted.timeouts, wanted.master, wanted.backup) =
                (None, DaemonRule::Unsaid, DaemonRule::Unsaid);
            for change in plan(&current, &wanted) {
                prop_assert!(!matches!(
                    change,
                    Change::SetTimeouts(_) | Change::StartDaemon(_) | Change::StopDaemon(..)
                ));
            }
        }
    }

    #[test]
    fn a_daemon_that_says_less_than_the_kernel_is_the_same() {
        let said = SyncDaemon {
            role: DaemonRole::Master,
            interface: "eth0".to_owned(),
            sync_id: 7,
            max_len: None,
            group: None,
            port: None,
            ttl: None,
        };
        let runs = SyncDaemon {
            max_len: Some(1472),
            group: Some([224, 0, 0, 81].into()),
            port: Some(8848),
            ttl: Some(1),
            ..said.clone()
        };
        assert!(same_daemon(&runs, &said));
        assert!(!same_daemon(&SyncDaemon { port: Some(9000), ..runs.clone() }, &said));
        assert!(!same_daemon(&runs, &SyncDaemon { sync_id: 8, ..said }));
    }

    #[test]
    fn what_the_kernel_adds_by_itself_is_no_difference() {
        let now =
            Service { flags: service_flags::HASHED, timeout: 9, ..Service::new(id(80), "rr") };
        assert!(same_settings(&now, &Service::new(id(80), "rr")));
    }
}
