//! From what is desired of some services, and what the kernel has of them, to the changes of a pass.
//! Pure.
//!
//! Nothing is remembered of the kernel's table but a fingerprint of each service, which only says
//! where to look: each pass is about what was read for it ([`super::table`]), so a hand edit is undone
//! by the next pass that touches it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::desired::{DesiredService, Inputs, desired, keys};
use super::drains::{DrainState, removals};
use super::kernel_table::{Actual, KernelTable};
use super::restrictions::QuiesceReason;
use super::settings::service_id;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::ipvs::plan::{DesiredPool, plan_pool, rank};
use crate::ipvs::{Change, ChangeFailure};
use crate::ports::FlagSet;
use crate::store::{Scope, ServiceKey, StoreState};

/// What a pass is to do, before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plans {
    /// The changes in order, each with its service.
    pub changes: Vec<(ServiceKey, Change)>,
    /// Services that stand, or will stand, in the kernel after the pass.
    pub standing: BTreeSet<ServiceKey>,
    /// Services that will not.
    pub gone: BTreeSet<ServiceKey>,
    /// Destinations of these services that get no new connections, and why.
    pub quiesced: Vec<(ServiceKey, IpAddr, QuiesceReason)>,
}

/// A change that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let present = actual.into_iter().flat_map(|actual| actual.destinations.values());
    let destinations = desired.beside(present.map(|entry| &entry.destination));
    let removals = removals(key, desired, &destinations, actual, drains, now);
    let service = desired.service.as_ref();
    let pool = DesiredPool { service, destinations: &destinations, removals: &removals };
    plan_pool(service_id(key), pool, actual)
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
        let changes = plan(*key, &desired, has, drains, inputs.now);
        let removed = matches!(changes.last(), Some(Change::DeleteService(_)));
        let made = matches!(changes.first(), Some(Change::AddService(_)));
        match !removed && (made || has.is_some()) {
            true => plans.standing.insert(*key),
            false => plans.gone.insert(*key),
        };
        plans.changes.extend(changes.into_iter().map(|change| (*key, change)));
        plans.quiesced.extend(desired.quiesced.into_iter().map(|(addr, why)| (*key, addr, why)));
    }
    plans.changes.sort_by_key(|(_, change)| rank(change));
    plans
}
