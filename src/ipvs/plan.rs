//! The changes that make one table another, in an order that traffic survives. Pure.
//!
//! Everything that compares tables plans here: cvipd and `cvipctl apply`, whose desired table comes
//! from cvip.conf and the store, and `ipvsadm-rs --apply`, whose desired table comes from a file.
//! [`plan_pool`] plans one virtual service; what becomes of destinations that leave is given to it.
//! [`rank`] puts the changes of many services in order: additions come first, then edits, then
//! deletions, so that a service that has a destination to schedule to before and after has one at
//! every moment in between. A plan is what is to be done, and not what was: who keeps state beside
//! the table changes it by the kernel's answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::types::*;

/// A virtual service with its destinations: desired ones, or entries as the kernel shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePool<D = Destination> {
    /// Its settings.
    pub service: Service,
    /// Its destinations.
    pub destinations: BTreeMap<DestinationId, D>,
}

impl AsRef<Destination> for Destination {
    fn as_ref(&self) -> &Destination {
        self
    }
}

impl AsRef<Destination> for DestinationEntry {
    fn as_ref(&self) -> &Destination {
        &self.destination
    }
}

/// What one virtual service is to be.
#[derive(Clone, Copy, Debug)]
pub struct DesiredPool<'a> {
    /// Its settings; `None`: it is deleted, once nothing of it is to stay.
    pub service: Option<&'a Service>,
    /// Its destinations.
    pub destinations: &'a BTreeMap<DestinationId, Destination>,
    /// What becomes of other destinations. One that is not named is deleted, with its service if
    /// that is deleted too.
    pub removals: &'a BTreeMap<DestinationId, Removal>,
}

/// What becomes of a destination that is not desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It stays as it is.
    Keep,
    /// It gets weight 0 and stays: no new connections.
    Quiesce,
    /// It is deleted, and gets weight 0 before, since its deletion may be refused.
    QuiesceAndDelete,
    /// It is deleted.
    Delete,
}

/// The changes that lead from what the kernel has of a virtual service to what it is to be, in the
/// order in which they are to be made.
pub fn plan_pool<D: AsRef<Destination>>(
    id: ServiceId,
    desired: DesiredPool<'_>,
    actual: Option<&ServicePool<D>>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    match (desired.service, actual) {
        (Some(service), None) => changes.push(Change::AddService(service.clone())),
        (Some(service), Some(actual)) if !same_settings(&actual.service, service) => {
            changes.push(Change::EditService(service.clone()));
        }
        _ => {}
    }
    let present = |at| actual?.destinations.get(at).map(AsRef::as_ref);
    for (at, destination) in desired.destinations {
        match present(at) {
            None => changes.push(Change::AddDestination(id, *destination)),
            Some(now) if same_destination(now, destination) => {}
            Some(_) => changes.push(Change::EditDestination(id, *destination)),
        }
    }
    let Some(actual) = actual else { return changes };
    let mut stays = desired.service.is_some() || !desired.destinations.is_empty();
    let mut unnamed = Vec::new();
    let is_desired = |at: &DestinationId| desired.destinations.contains_key(at);
    for (at, now) in actual.destinations.iter().filter(|(at, _)| !is_desired(at)) {
        let removal = desired.removals.get(at);
        if matches!(removal, Some(Removal::Quiesce | Removal::QuiesceAndDelete))
            && now.as_ref().weight > 0
        {
            let quiesced = Destination { weight: 0, ..*now.as_ref() };
            changes.push(Change::EditDestination(id, quiesced));
        }
        match removal {
            Some(Removal::Keep | Removal::Quiesce) => stays = true,
            Some(Removal::QuiesceAndDelete | Removal::Delete) => {
                changes.push(Change::DeleteDestination(id, *at));
            }
            None => unnamed.push(Change::DeleteDestination(id, *at)),
        }
    }
    match stays {
        true => changes.extend(unnamed),
        false => changes.push(Change::DeleteService(id)),
    }
    changes.sort_by_key(rank);
    changes
}

/// The changes that lead from the synchronisation daemon of a role that runs to the desired one.
pub fn plan_daemon(running: Option<&SyncDaemon>, desired: Option<&SyncDaemon>) -> Vec<Change> {
    match (running, desired) {
        (Some(running), Some(desired)) if same_daemon(running, desired) => Vec::new(),
        _ => {
            let stop = running.map(|daemon| Change::StopDaemon(daemon.role, daemon.sync_id));
            let start = desired.cloned().map(Change::StartDaemon);
            stop.into_iter().chain(start).collect()
        }
    }
}

/// The change that leads to the desired time-outs; none where they are so, and 0 is anything.
pub fn plan_timeouts(actual: Option<Timeouts>, desired: Timeouts) -> Option<Change> {
    let now = actual.unwrap_or(Timeouts { tcp: 0, tcp_fin: 0, udp: 0 });
    let is_so = [(now.tcp, desired.tcp), (now.tcp_fin, desired.tcp_fin), (now.udp, desired.udp)]
        .into_iter()
        .all(|(now, desired)| desired == 0 || now == desired);
    (!is_so).then_some(Change::SetTimeouts(desired))
}

/// The place of a change among those that are made together: additions, then edits, then deletions.
/// A weight is given before another is taken away. A kernel that synchronises refuses destinations of
/// the other address family, so daemons that end come first and those that start last.
pub fn rank(change: &Change) -> u8 {
    match change {
        Change::StopDaemon(..) => 0,
        Change::AddService(_) => 1,
        Change::AddDestination(..) => 2,
        Change::EditService(_) => 3,
        Change::EditDestination(_, destination) if destination.weight > 0 => 4,
        Change::EditDestination(..) => 5,
        Change::DeleteDestination(..) => 6,
        Change::DeleteService(_) | Change::Flush => 7,
        Change::SetTimeouts(_) | Change::Zero(_) => 8,
        Change::StartDaemon(_) => 9,
    }
}

/// True if a change takes something away from clients: such changes stand behind all additions in
/// [`rank`]'s order, and can be left undone if what was to replace it could not be added.
pub fn takes_away(change: &Change) -> bool {
    match change {
        Change::DeleteService(_) | Change::DeleteDestination(..) | Change::Flush => true,
        Change::EditDestination(_, destination) => destination.weight == 0,
        _ => false,
    }
}

/// True if an edit would change nothing. The kernel adds a flag of its own, and keeps a netmask
/// and a time-out for services that are not persistent.
fn same_settings(now: &Service, desired: &Service) -> bool {
    let flags = now.flags & !service_flags::HASHED;
    let persistent = flags & service_flags::PERSISTENT != 0;
    now.scheduler == desired.scheduler
        && flags == desired.flags & !service_flags::HASHED
        && now.pe == desired.pe
        && (!persistent || (now.timeout, now.netmask) == (desired.timeout, desired.netmask))
}

/// The same of a destination. The kernel may call one of its own addresses local, which no
/// desired table can; and a tunnel's settings mean nothing without a tunnel.
pub fn same_destination(now: &Destination, desired: &Destination) -> bool {
    (now.forward == desired.forward || now.forward == Forwarding::LocalNode)
        && (now.weight, now.upper, now.lower) == (desired.weight, desired.upper, desired.lower)
        && (desired.forward != Forwarding::Tunnel || now.tunnel == desired.tunnel)
}

/// The same of a daemon. What is not named is the kernel's default (linux/ip_vs.h and
/// net/netfilter/ipvs/ip_vs_sync.c: 224.0.0.81, port 8848, TTL 1); the length, which follows
/// the interface's MTU, may then be any.
fn same_daemon(now: &SyncDaemon, desired: &SyncDaemon) -> bool {
    const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
    let rest = |daemon: &SyncDaemon| {
        (daemon.group.unwrap_or(GROUP), daemon.port.unwrap_or(8848), daemon.ttl.unwrap_or(1))
    };
    (&now.interface, now.sync_id) == (&desired.interface, desired.sync_id)
        && rest(now) == rest(desired)
        && (desired.max_len.is_none() || now.max_len == desired.max_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn id() -> ServiceId {
        let addr = [192, 0, 2, 1].into();
        ServiceId::Address { protocol: Protocol::Tcp, addr, port: 80 }
    }

    fn destination(host: u8, weight: u32) -> Destination {
        Destination::new([10, 0, 0, host].into(), 80, Forwarding::Route, weight)
    }

    fn pool(destinations: &[Destination]) -> ServicePool {
        let destinations = destinations.iter().map(|d| (d.id, *d)).collect();
        ServicePool { service: Service::new(id(), "wlc"), destinations }
    }

    /// The changes from one pool to another, if there is to be one.
    fn changes(
        actual: Option<&ServicePool>,
        desired: Option<&ServicePool>,
        removals: &[(u8, Removal)],
    ) -> Vec<Change> {
        let none = BTreeMap::new();
        let removals = removals.iter().map(|(host, r)| (destination(*host, 0).id, *r)).collect();
        let desired = DesiredPool {
            service: desired.map(|pool| &pool.service),
            destinations: desired.map_or(&none, |pool| &pool.destinations),
            removals: &removals,
        };
        plan_pool(id(), desired, actual)
    }

    #[test]
    fn additions_come_before_edits_and_those_before_deletions() {
        let actual = pool(&[1, 2, 8, 9].map(|host| destination(host, 1)));
        let mut desired = pool(&[0, 2, 3, 4].map(|weight| destination(weight as u8 + 1, weight)));
        desired.service.scheduler = "rr".to_owned();
        let removals = [(2, Removal::Delete), (8, Removal::QuiesceAndDelete)];
        assert_eq!(
            changes(Some(&actual), Some(&desired), &removals),
            [
                Change::AddDestination(id(), destination(3, 2)),
                Change::AddDestination(id(), destination(4, 3)),
                Change::AddDestination(id(), destination(5, 4)),
                Change::EditService(desired.service.clone()),
                Change::EditDestination(id(), destination(1, 0)),
                Change::EditDestination(id(), destination(8, 0)),
                Change::DeleteDestination(id(), destination(2, 0).id),
                Change::DeleteDestination(id(), destination(8, 0).id),
                Change::DeleteDestination(id(), destination(9, 0).id),
            ]
        );
        assert_eq!(
            changes(None, Some(&desired), &[]).first(),
            Some(&Change::AddService(desired.service))
        );
    }

    #[test]
    fn a_service_goes_with_the_destinations_that_are_not_named_and_not_before_those_that_stay() {
        let actual = pool(&[destination(1, 1), destination(2, 1)]);
        let (one, two) = (destination(1, 0), destination(2, 0));
        let gone = Change::DeleteService(id());
        let delete = |d: Destination| Change::DeleteDestination(id(), d.id);
        for (removals, planned) in [
            (&[][..], vec![gone.clone()]),
            (&[(1, Removal::Delete)], vec![delete(one), gone.clone()]),
            (&[(1, Removal::Keep)], vec![delete(two)]),
            (&[(1, Removal::Quiesce)], vec![Change::EditDestination(id(), one), delete(two)]),
            (&[(1, Removal::Keep), (2, Removal::Keep)], vec![]),
        ] {
            assert_eq!(changes(Some(&actual), None, removals), planned, "{removals:?}");
        }
        assert_eq!(changes(None, None, &[(1, Removal::Quiesce)]), []);
        let quiesced = pool(&[one]);
        assert_eq!(changes(Some(&quiesced), None, &[(1, Removal::Quiesce)]), [], "it has weight 0");
    }

    #[test]
    fn settings_that_differ_are_edited_in_place_and_those_that_mean_nothing_do_not_count() {
        let desired = Service { flags: service_flags::SCHED1, ..Service::new(id(), "sh") };
        let persistent = |netmask, pe: Option<&str>| Service {
            netmask,
            pe: pe.map(str::to_owned),
            ..desired.clone().persistent(60)
        };
        let hashed = |service: &Service| Service {
            flags: service.flags | service_flags::HASHED,
            ..service.clone()
        };
        let full = u32::MAX;
        for (desired, now, same) in [
            (&desired, hashed(&desired), true),
            (&desired, Service { netmask: 0xffff_0000, ..hashed(&desired) }, true),
            (&desired, Service { timeout: 9, ..hashed(&desired) }, true),
            (&desired, Service { flags: 0, ..hashed(&desired) }, false),
            (&desired, hashed(&persistent(full, None)), false),
            (&persistent(full, None), hashed(&persistent(full, None)), true),
            (&persistent(full, None), hashed(&persistent(0xffff_ff00, None)), false),
            (&persistent(full, Some("sip")), hashed(&persistent(full, Some("sip"))), true),
            (&persistent(full, None), hashed(&persistent(full, Some("sip"))), false),
        ] {
            assert_eq!(same_settings(&now, desired), same, "{desired:?} {now:?}");
        }
    }

    #[test]
    fn a_destination_that_the_kernel_calls_local_and_a_tunnel_that_is_not_used_are_no_difference() {
        let tunnel = Tunnel { kind: TunnelKind::Gre, ..Tunnel::default() };
        let route = destination(1, 1);
        let local = Destination { forward: Forwarding::LocalNode, ..route };
        let tunnelled = Destination { forward: Forwarding::Tunnel, ..route };
        for (now, desired, same) in [
            (local, route, true),
            (Destination { weight: 2, ..local }, route, false),
            (Destination { tunnel, ..route }, route, true),
            (Destination { tunnel, ..tunnelled }, tunnelled, false),
            (tunnelled, route, false),
        ] {
            assert_eq!(same_destination(&now, &desired), same, "{now:?} {desired:?}");
        }
    }

    #[test]
    fn a_daemon_of_which_less_is_asked_than_the_kernel_shows_is_the_same() {
        let asked = SyncDaemon {
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
            ..asked.clone()
        };
        let stop = Change::StopDaemon(DaemonRole::Master, 7);
        let start = |daemon: &SyncDaemon| Change::StartDaemon(daemon.clone());
        assert_eq!(plan_daemon(Some(&runs), Some(&asked)), []);
        for other in [
            SyncDaemon { port: Some(9000), ..asked.clone() },
            SyncDaemon { sync_id: 8, ..asked.clone() },
            SyncDaemon { max_len: Some(1400), ..asked.clone() },
        ] {
            assert_eq!(plan_daemon(Some(&runs), Some(&other)), [stop.clone(), start(&other)]);
        }
        assert_eq!(plan_daemon(None, Some(&asked)), [start(&asked)]);
        assert_eq!(plan_daemon(Some(&runs), None), [stop]);
        assert_eq!(plan_daemon(None, None), []);
    }

    #[test]
    fn only_time_outs_that_are_asked_for_are_set() {
        let times = |tcp, tcp_fin, udp| Timeouts { tcp, tcp_fin, udp };
        let now = Some(times(900, 120, 300));
        assert_eq!(plan_timeouts(now, times(0, 120, 0)), None);
        let other = times(0, 60, 0);
        assert_eq!(plan_timeouts(now, other), Some(Change::SetTimeouts(other)));
        assert_eq!(plan_timeouts(None, other), Some(Change::SetTimeouts(other)));
    }
}
