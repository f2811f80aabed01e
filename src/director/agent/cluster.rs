//! What a director knows of its cluster, and which services a change of that touches. Pure.
//!
//! A change of one node's record touches the services on which the two records differ; a change of
//! flags asks for a full pass, since a hand-made service on a newly flagged port is adopted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::desired::{Inputs, desired, registered, services_of, standing_keys, touched};
use super::super::flaps::{Limits, ServerKey};
use super::super::kernel_table::KernelTable;
use super::super::passes::Passes;
use super::super::ramps::WeighedServer;
use super::super::restrictions::{QuiesceReason, Restrictions};
use super::super::{DirectorEvent, departures};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::serial::pairs;
use crate::store::{
    DrainOrder, DrainTarget, Drains, Key, NodeRecord, ServiceKey, StoreState, StoreValues,
};

/// The configuration, the store's view and restrictions.
#[derive(Serialize, Deserialize)]
pub(super) struct Cluster {
    pub(super) me: u32,
    pub(super) conf: Arc<Conf>,
    /// The store's view: what the driver said that changed in it.
    pub(super) store: StoreState,
    /// Its records, without the ports that their nodes have left since.
    records: BTreeMap<u32, NodeRecord>,
    pub(super) restrictions: Restrictions,
    /// Static real servers that failed the director's own checks, and why.
    #[serde(with = "pairs")]
    pub(super) failed: BTreeMap<ServerKey, String>,
    /// Services that a change touched, and that no pass has met yet.
    pub(super) pending: BTreeSet<ServiceKey>,
    /// What happened.
    pub(super) events: Vec<DirectorEvent>,
}

impl Cluster {
    /// The first pass is made by the present view of the store: what differs from it later is news.
    pub(super) fn new(me: u32, conf: Arc<Conf>, store: StoreState) -> Cluster {
        Cluster {
            me,
            conf,
            records: store.nodes.clone(),
            store,
            restrictions: Restrictions::default(),
            failed: BTreeMap::new(),
            pending: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// What decides what a service should be.
    pub(super) fn inputs(&self, passive: bool, now: Instant) -> Inputs<'_> {
        Inputs {
            conf: &self.conf,
            nodes: &self.records,
            me: self.me,
            drains: &self.store.drains,
            restrictions: &self.restrictions,
            passive,
            now,
        }
    }

    /// Takes values of the store that changed.
    pub(super) fn follow(&mut self, values: StoreValues, passes: &mut Passes, now: Instant) {
        let changed: Vec<Key> = values.keys().collect();
        let before = match changed.contains(&Key::Drains) {
            true => self.store.drains.clone(),
            false => Drains::new(),
        };
        self.store.take(values);
        for key in changed {
            match key {
                Key::Node(node) => self.take_record(node, passes, now),
                Key::Flags(_) => passes.ask_full(now),
                Key::Drains => {
                    self.take_drains(&before);
                    passes.confirm_soon(now);
                }
                Key::Alive(_) | Key::Director(_) | Key::Owned(_) => {}
            }
        }
        self.keep_directed();
    }

    /// Forgets the services that this node does not direct.
    fn keep_directed(&mut self) {
        let Cluster { me, conf, pending, .. } = self;
        pending.retain(|key| conf.cvip(key.cvip).is_some_and(|cvip| cvip.is_director(*me)));
    }

    /// Takes a node's record from the store, without the ports that the node has left since: which
    /// services it touches, and which servers came or went.
    fn take_record(&mut self, node: u32, passes: &mut Passes, now: Instant) {
        let left = self.restrictions.left.get(&node);
        let new = self.store.nodes.get(&node);
        let new = new.map(|record| departures::without(record, left).into_owned());
        let old = self.records.remove(&node);
        let weight = |record: &Option<NodeRecord>, key| {
            record.as_ref().and_then(|r| registered(r, key)).map(|registered| registered.weight)
        };
        for key in touched(old.as_ref(), new.as_ref()) {
            let limits = self.limits(key);
            match (weight(&old, key), weight(&new, key)) {
                (Some(_), None) => {
                    self.restrictions.flaps.left((key, node), limits, now);
                    self.events.push(DirectorEvent::Left { service: key, node });
                }
                (None, Some(weight)) => {
                    self.restrictions.flaps.joined((key, node), limits, now);
                    self.events.push(DirectorEvent::Joined { service: key, node, weight });
                }
                _ => {}
            }
            self.pending.insert(key);
        }
        if old.as_ref().map(|r| &r.flags) != new.as_ref().map(|r| &r.flags) {
            passes.ask_full(now);
        }
        let says = |record: Option<&NodeRecord>| record.is_some_and(|record| record.leaving);
        let leaves = |record| (says(record), self.restrictions.leaves(node, record));
        let turned = leaves(old.as_ref()) != leaves(new.as_ref());
        self.records.extend(new.map(|record| (node, record)));
        if turned {
            self.touch_node(node, |_| true);
            passes.confirm_soon(now);
        }
    }

    /// How often a real server of a service may leave.
    fn limits(&self, key: ServiceKey) -> Limits {
        let cvip = self.conf.cvip(key.cvip);
        cvip.and_then(|cvip| cvip.service_for(key.protocol, key.port)).map_or_else(
            Limits::default,
            |service| Limits {
                leaves: service.flap_limit,
                hold: Duration::from_secs(service.damp_time.into()),
            },
        )
    }

    /// Takes operators' drains: the services of what they drain, or drain no longer.
    fn take_drains(&mut self, before: &Drains) {
        let drains = &self.store.drains;
        let is_new = |(target, order): &(&DrainTarget, &DrainOrder)| {
            drains.get(target) != Some(order) || before.get(target) != Some(order)
        };
        let changed = before.iter().chain(drains).filter(is_new).map(|(target, _)| *target);
        let changed: BTreeSet<DrainTarget> = changed.collect();
        for target in changed {
            self.events.push(match self.store.drains.get(&target) {
                Some(order) => DirectorEvent::drain_ordered(&target, order),
                None => DirectorEvent::DrainEnded { target: target.to_string() },
            });
            self.touch_node(target.node, |key| {
                target.port.is_none_or(|port| port == (key.protocol, key.port))
            });
        }
    }

    /// Touches the services of a node, by its record and by cvip.conf.
    fn touch_node(&mut self, node: u32, is_meant: impl Fn(&ServiceKey) -> bool) {
        let recorded = self.records.get(&node).into_iter().flat_map(services_of);
        let cvips = self.conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some());
        let services = recorded.chain(cvips.flat_map(standing_keys));
        self.pending.extend(services.filter(is_meant));
    }

    /// Takes other restrictions, but for those that the director makes itself.
    pub(super) fn restrict(
        &mut self,
        restrictions: Restrictions,
        passes: &mut Passes,
        now: Instant,
    ) {
        let flaps = std::mem::take(&mut self.restrictions.flaps);
        let ramps = std::mem::take(&mut self.restrictions.ramps);
        let mut restrictions = Restrictions { flaps, ramps, ..restrictions };
        restrictions.unhealthy.extend(self.failed.clone());
        restrictions.keep_unknown(&self.restrictions);
        let before = std::mem::replace(&mut self.restrictions, restrictions);
        let after = &self.restrictions;
        let mut nodes: BTreeSet<u32> =
            before.suspected.symmetric_difference(&after.suspected).copied().collect();
        nodes.extend(before.dead.symmetric_difference(&after.dead));
        let said = before.leaving.keys().chain(after.leaving.keys());
        let leaving = |of: &Restrictions, node| of.leaving.get(node).copied().flatten();
        nodes.extend(said.filter(|node| leaving(&before, node) != leaving(after, node)));
        if before.former_director != after.former_director {
            nodes.extend(before.former_director.iter().chain(&after.former_director));
        }
        let unhealthy = before.unhealthy.iter().chain(&after.unhealthy);
        let is_new = |(server, why): &(&ServerKey, &String)| {
            before.unhealthy.get(server) != Some(why) || after.unhealthy.get(server) != Some(why)
        };
        self.pending.extend(unhealthy.filter(is_new).map(|((key, _), _)| *key));
        let changed = |node: &u32| before.left.get(node) != after.left.get(node);
        let left: BTreeSet<u32> =
            before.left.keys().chain(after.left.keys()).copied().filter(changed).collect();
        for node in nodes {
            self.touch_node(node, |_| true);
        }
        for node in left {
            self.take_record(node, passes, now);
        }
        self.keep_directed();
    }

    /// Takes what the director's own checks found: the static real servers that fail, and why.
    pub(super) fn take_checks(
        &mut self,
        failed: BTreeMap<ServerKey, String>,
        passes: &mut Passes,
        now: Instant,
    ) {
        if failed != self.failed {
            let before = std::mem::replace(&mut self.failed, failed);
            let mut restrictions = self.restrictions.clone();
            restrictions.unhealthy.retain(|server, _| !before.contains_key(server));
            // These are all that there are.
            restrictions.unknown.clear();
            self.restrict(restrictions, passes, now);
        }
    }

    /// Sees which real servers of these services begin to serve, by what the kernel has of them; `why` gives
    /// the reason for which one had weight 0.
    pub(super) fn see_who_begins(
        &mut self,
        services: &BTreeSet<ServiceKey>,
        table: &KernelTable,
        why: impl Fn(ServiceKey, IpAddr) -> Option<QuiesceReason>,
        passive: bool,
        now: Instant,
    ) {
        for key in services {
            let cvip = self.conf.cvip(key.cvip);
            let service = cvip.and_then(|cvip| cvip.service_for(key.protocol, key.port));
            let slow_start = service.and_then(|service| service.slow_start);
            let mut servers = Vec::new();
            if slow_start.is_some() {
                let desired = desired(*key, self.inputs(passive, now));
                let has = table.get(key).map(|actual| &actual.destinations);
                servers.extend(desired.destinations.values().map(|d| {
                    WeighedServer {
                        addr: d.id.addr,
                        is_wanted: d.weight > 0,
                        has_weight: has
                            .and_then(|has| has.get(&d.id))
                            .is_some_and(|entry| entry.destination.weight > 0),
                        is_warm: why(*key, d.id.addr).is_some_and(|why| why.leaves_warm()),
                    }
                }));
            }
            self.restrictions.ramps.update(*key, slow_start, &servers, now);
        }
    }

    /// True if a real server is there for a service, by the records or by cvip.conf.
    pub(super) fn serves(&self, key: ServiceKey, addr: IpAddr) -> bool {
        let Some(cvip) = self.conf.cvip(key.cvip) else { return false };
        let mut servers = cvip.real_servers.iter().filter(|server| server.addr == addr);
        servers.any(|server| {
            let record = self.records.get(&server.node);
            record.is_some_and(|record| registered(record, key).is_some())
                || standing_keys(cvip).any(|fixed| fixed == key)
        })
    }
}
