//! Reads what the kernel has of some services, plans, and applies: one batch for all of them.
//!
//! Nothing is remembered of the kernel's table but a fingerprint of each service, which only says
//! where to look: each pass reads the services it is about, so a hand edit is undone by the next pass
//! that touches it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use super::desired::{Inputs, desired, keys};
use super::plan::{Actual, DrainState, plan, rank};
use super::restrictions::QuiesceReason;
use super::settings::{service_id, service_key};
use crate::conf::Conf;
use crate::ipvs::{
    Change, ChangeFailure, Client, DestinationEntry, DestinationId, IpvsError, ServiceEntry,
};
use crate::ports::FlagSet;
use crate::store::{Scope, ServiceKey, StoreState};

/// From this many services on, one dump of all costs less than a question for each.
const DUMP_FROM: usize = 32;

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

/// What the kernel has of the services of a pass; those that are absent it does not have.
pub type KernelTable = BTreeMap<ServiceKey, Actual>;

/// The services of a full pass, and what the kernel has of them: all services that are wanted,
/// owned, or adopted because they stand in the kernel on a flagged port of a CVIP that this node
/// directs. Others are not ours.
///
/// # Errors
/// The kernel could not be read.
pub fn read_all(
    client: &mut Client,
    inputs: Inputs<'_>,
    state: &StoreState,
) -> Result<(BTreeSet<ServiceKey>, KernelTable), IpvsError> {
    let standing = by_key(client.services()?);
    let mut services = keys(inputs);
    services.extend(state.owned.get(&inputs.me).into_iter().flatten());
    let others = standing.keys().filter(|key| !services.contains(key));
    let adopted = others.filter(|key| is_flagged(**key, inputs.conf, inputs.me, state));
    let adopted: Vec<ServiceKey> = adopted.copied().collect();
    services.extend(adopted);
    let table = read(client, &services, standing)?;
    Ok((services, table))
}

/// What the kernel has of some services.
///
/// # Errors
/// The kernel could not be read.
pub fn read_some(
    client: &mut Client,
    services: &BTreeSet<ServiceKey>,
) -> Result<KernelTable, IpvsError> {
    let mut entries: Vec<ServiceEntry> = Vec::new();
    if services.len() < DUMP_FROM {
        for key in services {
            entries.extend(client.service(&service_id(*key))?);
        }
    } else {
        entries = client.services()?;
    }
    read(client, services, by_key(entries))
}

/// Reads the destinations of those services that stand.
fn read(
    client: &mut Client,
    services: &BTreeSet<ServiceKey>,
    mut standing: HashMap<ServiceKey, ServiceEntry>,
) -> Result<KernelTable, IpvsError> {
    let mut table = KernelTable::new();
    for key in services {
        if let Some(entry) = standing.remove(key) {
            let destinations = index(client.destinations(&entry.service.id)?);
            table.insert(*key, Actual { service: entry.service, destinations });
        }
    }
    Ok(table)
}

/// Plans a full pass.
///
/// # Errors
/// The kernel could not be read.
pub fn plan_all(
    client: &mut Client,
    inputs: Inputs<'_>,
    state: &StoreState,
    drains: &mut DrainState,
) -> Result<Plans, IpvsError> {
    let (services, table) = read_all(client, inputs, state)?;
    Ok(plans(&services, &table, inputs, drains))
}

fn by_key(entries: Vec<ServiceEntry>) -> HashMap<ServiceKey, ServiceEntry> {
    let keyed = |entry: ServiceEntry| Some((service_key(entry.service.id)?, entry));
    entries.into_iter().filter_map(keyed).collect()
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
        let wanted = desired(*key, inputs);
        let changes = plan(*key, &wanted, has, drains, inputs.now);
        let removed = matches!(changes.last(), Some(Change::DeleteService(_)));
        let made = matches!(changes.first(), Some(Change::AddService(_)));
        match !removed && (made || has.is_some()) {
            true => plans.standing.insert(*key),
            false => plans.gone.insert(*key),
        };
        plans.changes.extend(changes.into_iter().map(|change| (*key, change)));
        plans.quiesced.extend(wanted.quiesced.into_iter().map(|(addr, why)| (*key, addr, why)));
    }
    plans.changes.sort_by_key(|(_, change)| rank(change));
    plans
}

/// Applies planned changes in one batch.
///
/// # Errors
/// The kernel could not be reached, or its answers were lost: what it has must be read again.
pub fn apply(client: &mut Client, plans: &Plans) -> Result<Vec<RefusedChange>, IpvsError> {
    if plans.changes.is_empty() {
        return Ok(Vec::new());
    }
    let changes: Vec<Change> = plans.changes.iter().map(|(_, change)| change.clone()).collect();
    let failures = client.apply(&changes)?;
    let refused = failures.into_iter().filter_map(|failure| {
        let (service, change) = plans.changes.get(failure.index)?.clone();
        Some(RefusedChange { service, change, failure })
    });
    Ok(refused.collect())
}

fn index(entries: Vec<DestinationEntry>) -> BTreeMap<DestinationId, DestinationEntry> {
    entries.into_iter().map(|entry| (entry.destination.id, entry)).collect()
}
