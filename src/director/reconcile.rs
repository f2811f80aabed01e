//! From what is desired of some services, and what the kernel has of them, to the changes of a pass.
//! Pure.
//!
//! Nothing is remembered of the kernel's table but a fingerprint of each service, which only says
//! where to look: each pass is about what was read for it ([`super::table`]), so a hand edit is undone
//! by the next pass that touches it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::desired::{DesiredService, Inputs, WantedPool, desired, keys};
use super::drains::{DrainState, removals};
use super::kernel_table::{Actual, KernelTable};
use super::restrictions::QuiesceReason;
use super::settings::service_id;
use crate::clock::Instant;
use crate::conf::{Conf, Quorum};
use crate::ipvs::plan::{DesiredPool, plan_pool, rank};
use crate::ipvs::{Change, ChangeFailure};
use crate::ports::FlagSet;
use crate::store::{Scope, ServiceKey, StoreState};

/// What a pass is to do, before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plans {
    /// The changes in order, each with its service.
    pub changes: Vec<(ServiceKey, Change)>,
    /// Services that stand, or will stand, in the kernel after the pass.
    pub standing: BTreeSet<ServiceKey>,
    /// Services that will not.
    pub gone: BTreeSet<ServiceKey>,
    /// Services of which cvip.conf asks a quorum.
    pub quorums: Vec<WeighedService>,
    /// Destinations of these services that get no new connections, and why.
    pub quiesced: Vec<(ServiceKey, IpAddr, QuiesceReason)>,
}

/// A service of which cvip.conf asks a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeighedService {
    /// The service.
    pub service: ServiceKey,
    /// What is asked.
    pub quorum: Quorum,
    /// The weight of its real servers that could take connections.
    pub weight: u64,
    /// Whether they make the quorum; none: it depends on whether they did before.
    pub has_quorum: Option<bool>,
}

/// A change that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedChange {
    /// The service that it was about.
    pub service: ServiceKey,
    /// The change.
    pub change: Change,
    /// The kernel's answer.
    pub failure: ChangeFailure,
}

impl fmt::Display for RefusedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}: {}", self.change, self.failure)
    }
}

/// The services of a full pass: all that are desired, owned, or adopted because they stand in the
/// kernel on a flagged port of a CVIP that this node directs. Others are not ours.
pub fn concerned<'a>(
    standing: impl Iterator<Item = &'a ServiceKey>,
    inputs: Inputs<'_>,
    state: &StoreState,
) -> BTreeSet<ServiceKey> {
    let mut services = keys(inputs);
    services.extend(state.owned.get(&inputs.me).into_iter().flatten());
    let others = standing.filter(|key| !services.contains(key));
    let adopted = others.filter(|key| is_flagged(**key, inputs.conf, inputs.me, state));
    let adopted: Vec<ServiceKey> = adopted.copied().collect();
    services.extend(adopted);
    services
}

/// True if any node's flags, the cluster's or cvip.conf's cover the service, on a CVIP that
/// this node directs.
pub fn is_flagged(key: ServiceKey, conf: &Conf, me: u32, state: &StoreState) -> bool {
    let Some(cvip) = conf.cvip(key.cvip).filter(|cvip| cvip.is_director(me)) else { return false };
    let covers = |set: &FlagSet| set.lookup(key.protocol, key.port).is_some();
    cvip.service_for(key.protocol, key.port).is_some()
        || state.flags.iter().any(|(scope, set)| match scope {
            Scope::Cluster => covers(set),
            Scope::Node(node) => cvip.real_server(*node).is_some() && covers(set),
        })
        || cvip.nodes().filter_map(|node| state.nodes.get(&node)).any(|node| covers(&node.flags))
}

/// The changes that lead from what the kernel has of a service to what is desired of it, in the
/// order in which they are to be made. `now` moves the drains on.
pub fn plan(
    key: ServiceKey,
    desired: &DesiredService,
    actual: Option<&Actual>,
    drains: &mut DrainState,
    now: Instant,
) -> Vec<Change> {
    let pool = wanted_pool(desired, actual);
    plan_to(key, desired, &pool, actual, drains, now)
}

/// What the destinations of a service are to be, beside those that the kernel has.
fn wanted_pool<'a>(desired: &'a DesiredService, actual: Option<&Actual>) -> WantedPool<'a> {
    let present = actual.into_iter().flat_map(|actual| actual.destinations.values());
    desired.pool(present.map(|entry| &entry.destination))
}

fn plan_to(
    key: ServiceKey,
    desired: &DesiredService,
    pool: &WantedPool<'_>,
    actual: Option<&Actual>,
    drains: &mut DrainState,
    now: Instant,
) -> Vec<Change> {
    let destinations = &pool.destinations;
    let removals = removals(key, desired, destinations, actual, drains, now);
    let service = desired.service.as_ref();
    plan_pool(service_id(key), DesiredPool { service, destinations, removals: &removals }, actual)
}

/// Plans the changes to some services, from what the kernel has of them: the additions to all of
/// them come first, the deletions last ([`rank`]). Pure.
pub fn plans(
    services: &BTreeSet<ServiceKey>,
    table: &KernelTable,
    inputs: Inputs<'_>,
    drains: &mut DrainState,
) -> Plans {
    let mut plans = Plans::default();
    for key in services {
        let has = table.get(key);
        let desired = desired(*key, inputs);
        let pool = wanted_pool(&desired, has);
        let changes = plan_to(*key, &desired, &pool, has, drains, inputs.now);
        let removed = matches!(changes.last(), Some(Change::DeleteService(_)));
        let made = matches!(changes.first(), Some(Change::AddService(_)));
        match !removed && (made || has.is_some()) {
            true => plans.standing.insert(*key),
            false => plans.gone.insert(*key),
        };
        plans.changes.extend(changes.into_iter().map(|change| (*key, change)));
        plans.quorums.extend(desired.quorum.map(|quorum| WeighedService {
            service: *key,
            quorum,
            weight: pool.weight,
            has_quorum: pool.has_quorum,
        }));
        let held = QuiesceReason::BelowQuorum(pool.weight);
        for (addr, why) in &desired.quiesced {
            let why = if pool.held.contains(addr) { &held } else { why };
            plans.quiesced.push((*key, *addr, why.clone()));
        }
        let others = pool.held.iter().filter(|addr| !desired.quiesced.contains_key(addr));
        plans.quiesced.extend(others.map(|addr| (*key, *addr, held.clone())));
    }
    plans.changes.sort_by_key(|(_, change)| rank(change));
    plans
}
