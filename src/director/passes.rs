//! What passes over the table decide and remember, and when the next one is due. Pure.
//!
//! Nothing is taken as done because it was ordered: what the kernel made of each change is fed back
//! ([`Passes::applied`], [`Passes::failed`]) into the state that decided it. Only a full pass that
//! succeeds ends what a failed one left undone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::desired::Inputs;
use super::drains::{DrainState, settle};
use super::fingerprint::{Print, print_of};
use super::kernel_table::{Actual, KernelTable, rows};
use super::reconcile::{Plans, RefusedChange, WeighedService, plans};
use super::restrictions::QuiesceReason;
use crate::bucket::Bucket;
use crate::clock::Instant;
use crate::ipvs::{Change, Destination, DestinationEntry, Stats};
use crate::serial::pairs;
use crate::store::{self, DrainTarget, NodeRecord, ServiceKey};

/// A full pass is made this often: it repairs what no change told of and no look shows.
pub(super) const RESYNC_EVERY: Duration = Duration::from_secs(60);

/// Drains are looked at this often while there are any.
const DRAIN_EVERY: Duration = Duration::from_millis(500);

/// A failed pass is made again after this, doubled each time ...
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// ... up to this: so long at most the table stays wrong once the kernel refuses nothing any more.
const RETRY_EVERY: Duration = Duration::from_secs(15);

/// An operator's drain is confirmed by a full pass this long after it was seen.
const CONFIRM_AFTER: Duration = Duration::from_millis(100);

/// The table is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looking takes one part in so many of a core at most: a very large table is looked at less often.
const LOOK_SHARE: u32 = 100;

/// The table is repaired so many times at once ...
const REPAIRS: u32 = 10;

/// ... and then once in this time, so that a program that keeps changing it costs little.
const REPAIR_EVERY: Duration = Duration::from_secs(10);

/// Services that a look does not show as the last passes left them: what it shows of each, or none
/// where the service is gone.
pub type Unexpected = Vec<(ServiceKey, Option<Print>)>;

/// What is remembered from one pass to the next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passes {
    #[serde(with = "pairs")]
    pub(super) drains: DrainState,
    /// Destinations that get no new connections, by the last pass over each service.
    #[serde(with = "pairs")]
    pub(super) quiesced: BTreeMap<(ServiceKey, IpAddr), QuiesceReason>,
    /// Whether each service of which cvip.conf asks a quorum had it in the last pass over it.
    #[serde(with = "pairs")]
    quorums: BTreeMap<ServiceKey, bool>,
    /// Services of which the kernel refused a change in the last pass over them.
    refused: BTreeSet<ServiceKey>,
    /// The last full pass could read and change the kernel.
    whole: bool,
    /// Operators' drains that a full pass has met which succeeded.
    #[serde(with = "pairs")]
    obeyed: store::Drains,
    /// Nodes that leave, with their incarnations, which such a pass has met.
    released: BTreeMap<u32, u64>,
    /// What the last pass left of each service that stands.
    #[serde(with = "pairs")]
    expected: BTreeMap<ServiceKey, Print>,
    /// What the last look showed of those that were not as expected.
    #[serde(with = "pairs")]
    suspects: BTreeMap<ServiceKey, Print>,
    repairs: Bucket,
    /// What passes had to repair: a look that shows something else than the kernel has is no change by
    /// another program.
    disputes: Bucket,
    /// How often the table is looked at.
    look_every: Duration,
    next_look: Instant,
    next_proc_table: Instant,
    next_drain: Instant,
    next_full: Instant,
    retry_after: Duration,
}

/// One pass: what it is about, and what is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pass {
    pub(super) full: bool,
    services: BTreeSet<ServiceKey>,
    #[serde(with = "rows")]
    table: KernelTable,
    pub(super) plans: Plans,
    /// Operators' drains, as the pass saw them.
    #[serde(with = "pairs")]
    ordered: store::Drains,
    /// The nodes that leave, as the pass saw them, with their incarnations.
    leaving: BTreeMap<u32, u64>,
    /// Services that another program changed since the last pass over them.
    foreign: BTreeSet<ServiceKey>,
}

/// What is to be told of a pass.
#[derive(Debug, Default)]
pub struct PassOutcome {
    /// Destinations that get no new connections from now on, or for another reason.
    pub quiesced: Vec<(ServiceKey, IpAddr, QuiesceReason)>,
    /// Destinations that no longer have a reason to get none.
    pub restored: Vec<(ServiceKey, IpAddr)>,
    /// Services that have a quorum from now on, or have none.
    pub quorums: Vec<(WeighedService, bool)>,
    /// What was put right after another program had changed it.
    pub repair: Option<Repair>,
}

/// What one pass put right after another program had changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The first of the services.
    pub service: ServiceKey,
    /// Services that were missing.
    pub services: usize,
    /// Destinations that were missing.
    pub destinations: usize,
    /// Services and destinations that had other settings.
    pub edited: usize,
    /// What was there in excess.
    pub removed: usize,
}

impl Passes {
    /// The first full pass is due now.
    pub fn new(now: Instant) -> Passes {
        Passes {
            drains: DrainState::new(),
            quiesced: BTreeMap::new(),
            quorums: BTreeMap::new(),
            refused: BTreeSet::new(),
            whole: false,
            obeyed: store::Drains::new(),
            released: BTreeMap::new(),
            expected: BTreeMap::new(),
            suspects: BTreeMap::new(),
            repairs: Bucket::new(REPAIRS, REPAIR_EVERY, now),
            disputes: Bucket::new(REPAIRS, REPAIR_EVERY, now),
            look_every: LOOK_EVERY,
            next_look: now + LOOK_EVERY,
            next_proc_table: now + LOOK_EVERY,
            next_drain: now,
            next_full: now,
            retry_after: RETRY_AFTER,
        }
    }

    /// When something is due.
    pub fn due(&self) -> Instant {
        let drain = (!self.drains.is_empty()).then_some(self.next_drain);
        let look = self.next_look.min(self.next_proc_table);
        let look = (!self.expected.is_empty()).then_some(look);
        drain.into_iter().chain(look).fold(self.next_full, Instant::min)
    }

    /// True if a full pass is due.
    pub fn is_full_due(&self, now: Instant) -> bool {
        now >= self.next_full
    }

    /// True if a look is due.
    pub fn is_look_due(&self, now: Instant) -> bool {
        now >= self.next_look && !self.expected.is_empty()
    }

    /// True if it is to be seen whether the table was flushed, between two looks that are far apart.
    pub fn is_proc_table_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next_proc_table && !self.expected.is_empty();
        if is_due {
            self.next_proc_table = now + LOOK_EVERY;
        }
        is_due && self.look_every > LOOK_EVERY
    }

    /// Asks for a full pass now.
    pub fn ask_full(&mut self, now: Instant) {
        self.next_full = now;
    }

    /// Operators' drains changed, or a node leaves: a full pass soon shows whether the table obeys.
    pub fn confirm_soon(&mut self, now: Instant) {
        self.next_full = self.next_full.min(now + CONFIRM_AFTER);
    }

    /// The services whose drains are to be looked at now. One of which a change was refused waits for
    /// the full pass.
    pub fn moving(&mut self, now: Instant) -> BTreeSet<ServiceKey> {
        if now < self.next_drain {
            return BTreeSet::new();
        }
        self.next_drain = now + DRAIN_EVERY;
        let keys = self.drains.keys().map(|(key, _)| *key);
        keys.filter(|key| !self.refused.contains(key)).collect()
    }

    /// What a look shows of the services that are not as the last passes left them.
    pub fn unexpected(&self, shown: &HashMap<ServiceKey, Print>) -> Unexpected {
        let differs = |(key, print): &(&ServiceKey, &Print)| shown.get(key) != Some(*print);
        let services = self.expected.iter().filter(differs).map(|(key, _)| *key);
        services.map(|key| (key, shown.get(&key).copied())).collect()
    }

    /// Takes what a look showed; gives the services that are to be read. `cost` is the processor time
    /// of the look.
    pub fn looked(
        &mut self,
        unexpected: &[(ServiceKey, Option<Print>)],
        cost: Duration,
        now: Instant,
    ) -> BTreeSet<ServiceKey> {
        self.look_every = (LOOK_SHARE * cost).clamp(LOOK_EVERY, RESYNC_EVERY);
        self.next_look = now + self.look_every;
        self.next_proc_table = now + LOOK_EVERY;
        if unexpected.is_empty() || !self.repairs.take(now) {
            return BTreeSet::new();
        }
        let shown = unexpected.iter().filter_map(|(key, print)| Some((*key, (*print)?)));
        self.suspects = shown.collect();
        unexpected.iter().map(|(key, _)| *key).collect()
    }

    /// The table cannot be looked at now.
    pub fn skip_look(&mut self, now: Instant) {
        self.next_look = now + self.look_every;
    }

    /// How often the table is looked at.
    pub fn look_every(&self) -> Duration {
        self.look_every
    }

    /// Another program changes the table again and again: it is repaired less often.
    pub fn is_contested(&self, now: Instant) -> bool {
        self.disputes.ready() > now
    }

    /// Plans a pass over these services, from what the kernel has of them.
    pub fn plan(
        &mut self,
        full: bool,
        services: BTreeSet<ServiceKey>,
        table: KernelTable,
        inputs: Inputs<'_>,
    ) -> Pass {
        let is_foreign = |key: &&ServiceKey| match self.expected.get(key) {
            Some(print) => table.get(key).map(print_of) != Some(*print),
            None => false,
        };
        let foreign = services.iter().filter(is_foreign).copied().collect();
        let plans = plans(&services, &table, inputs, &mut self.drains);
        self.next_drain = inputs.now + DRAIN_EVERY;
        if full {
            self.next_full = inputs.now + RESYNC_EVERY;
        }
        let (ordered, leaving) = (inputs.drains.clone(), leaving(inputs.nodes));
        Pass { full, services, table, plans, ordered, leaving, foreign }
    }

    /// The kernel has answered: what it refused is taken as not done.
    pub fn applied(&mut self, pass: Pass, refused: &[RefusedChange], now: Instant) -> PassOutcome {
        let Pass { full, services, mut table, plans, ordered, leaving, foreign } = pass;
        let failed: BTreeSet<usize> = refused.iter().map(|r| r.failure.index).collect();
        let mut repair: Option<Repair> = None;
        let mut changed = BTreeSet::new();
        for (index, (key, change)) in plans.changes.iter().enumerate() {
            let done = !failed.contains(&index);
            settle(*key, change, done, table.get(key), &mut self.drains, now);
            changed.insert(*key);
            if !done {
                continue;
            }
            if foreign.contains(key) {
                repair.get_or_insert_with(|| Repair::none(*key)).count(change);
            }
            apply(&mut table, *key, change);
        }
        if repair.is_some() {
            self.disputes.take(now);
        }
        for key in &services {
            let suspect = self.suspects.remove(key).filter(|_| !changed.contains(key));
            // What the pass found in order is so, whatever a look shows of it.
            match suspect.or_else(|| table.get(key).map(print_of)) {
                Some(print) if table.contains_key(key) => drop(self.expected.insert(*key, print)),
                _ => drop(self.expected.remove(key)),
            }
        }
        let untouched = |addr: &IpAddr, key: &ServiceKey| {
            !refused.iter().any(|r| r.service == *key && concerns(&r.change, *addr))
        };
        let outcome = self.take_reasons(full, &services, plans.quiesced, untouched);
        self.refused.retain(|key| !full && !services.contains(key));
        self.refused.extend(refused.iter().map(|refused| refused.service));
        match (full, refused.is_empty()) {
            (true, true) => {
                self.whole = true;
                self.retry_after = RETRY_AFTER;
                (self.obeyed, self.released) = (ordered, leaving);
            }
            (true, false) => {
                self.whole = true;
                self.retry_later(now);
            }
            (false, false) => self.next_full = self.next_full.min(now + self.retry_after),
            // What a full pass left undone only a full pass ends.
            (false, true) => {}
        }
        let quorums = self.take_quorums(full, &services, &plans.quorums);
        PassOutcome { quorums, repair, ..outcome }
    }

    /// The kernel could not be read, or its answers were lost: what was planned may have been done, or
    /// not. Gives what is to be told.
    pub fn failed(&mut self, full: bool, pass: Option<Pass>, now: Instant) -> PassOutcome {
        self.whole = false;
        match full {
            true => self.retry_later(now),
            false => self.next_full = self.next_full.min(now + self.retry_after),
        }
        let Some(pass) = pass else { return PassOutcome::default() };
        for key in &pass.services {
            self.expected.remove(key);
            self.suspects.remove(key);
        }
        // What has weight 0 now has a reason that is known.
        let mut outcome = PassOutcome::default();
        for (key, addr, quiesced) in pass.plans.quiesced {
            let before = self.quiesced.insert((key, addr), quiesced.clone());
            if before.as_ref().map(state) != Some(state(&quiesced)) {
                outcome.quiesced.push((key, addr, quiesced));
            }
        }
        outcome
    }

    fn retry_later(&mut self, now: Instant) {
        self.next_full = now + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(RETRY_EVERY);
    }

    /// Takes the reasons of a pass in place of those before. A destination of which a change was
    /// refused keeps what it had.
    fn take_reasons(
        &mut self,
        full: bool,
        services: &BTreeSet<ServiceKey>,
        planned: Vec<(ServiceKey, IpAddr, QuiesceReason)>,
        untouched: impl Fn(&IpAddr, &ServiceKey) -> bool,
    ) -> PassOutcome {
        let of_pass = |(key, _): &(ServiceKey, IpAddr)| full || services.contains(key);
        let before: BTreeMap<_, _> =
            self.quiesced.extract_if(.., |server, _| of_pass(server)).collect();
        let mut after: BTreeMap<_, _> = planned
            .into_iter()
            .filter(|(key, addr, _)| untouched(addr, key))
            .map(|(key, addr, quiesced)| ((key, addr), quiesced))
            .collect();
        let kept = before.iter().filter(|((key, addr), _)| !untouched(addr, key));
        after.extend(kept.map(|(server, quiesced)| (*server, quiesced.clone())));
        let mut outcome = PassOutcome::default();
        for ((key, addr), quiesced) in &after {
            if before.get(&(*key, *addr)).map(state) != Some(state(quiesced)) {
                outcome.quiesced.push((*key, *addr, quiesced.clone()));
            }
        }
        let gone = before.into_keys().filter(|server| !after.contains_key(server));
        outcome.restored = gone.collect();
        self.quiesced.extend(after);
        outcome
    }

    /// Takes which services have a quorum; gives those of which that is new.
    fn take_quorums(
        &mut self,
        full: bool,
        services: &BTreeSet<ServiceKey>,
        planned: &[WeighedService],
    ) -> Vec<(WeighedService, bool)> {
        let asked: BTreeSet<ServiceKey> = planned.iter().map(|weighed| weighed.service).collect();
        self.quorums.retain(|key, _| !(full || services.contains(key)) || asked.contains(key));
        let mut news = Vec::new();
        for weighed in planned {
            let WeighedService { service, quorum, weight, has_quorum } = *weighed;
            let had = self.quorums.get(&service).copied().unwrap_or(true);
            let has = has_quorum.unwrap_or_else(|| quorum.is_made_by(weight, had));
            if self.quorums.insert(service, has) != Some(has) {
                news.push((*weighed, has));
            }
        }
        news
    }

    /// Whether each service of which cvip.conf asks a quorum had it in the last pass over it.
    pub fn quorums(&self) -> impl Iterator<Item = (ServiceKey, bool)> {
        self.quorums.iter().map(|(service, has)| (*service, *has))
    }

    /// Nothing is left undone.
    pub fn is_settled(&self) -> bool {
        self.whole && self.refused.is_empty()
    }

    /// Of these drains those that the table obeys: a full pass has met them, and it succeeded.
    pub fn obeys(&self, ordered: &store::Drains) -> BTreeSet<DrainTarget> {
        let met = |(target, order): &(&DrainTarget, &store::DrainOrder)| {
            self.obeyed.get(target) == Some(order)
        };
        ordered.iter().filter(met).map(|(target, _)| *target).collect()
    }

    /// Of the nodes that leave those that get no new connections by the table: a full pass has met
    /// them, and it succeeded.
    pub fn released(&self, nodes: &BTreeMap<u32, NodeRecord>) -> BTreeSet<u32> {
        let met = |(node, incarnation): &(u32, u64)| self.released.get(node) == Some(incarnation);
        leaving(nodes).into_iter().filter(met).map(|(node, _)| node).collect()
    }

    /// The table was emptied: nothing is expected any more.
    pub fn forget(&mut self) {
        self.expected.clear();
        self.suspects.clear();
    }
}

/// The nodes that leave, with their incarnations.
fn leaving(nodes: &BTreeMap<u32, NodeRecord>) -> BTreeMap<u32, u64> {
    let leaving = nodes.iter().filter(|(_, record)| record.leaving);
    leaving.map(|(node, record)| (*node, record.incarnation)).collect()
}

/// The word for a reason, and whether it counts.
fn state(quiesced: &QuiesceReason) -> (&'static str, bool) {
    (quiesced.describe().0, matches!(quiesced, QuiesceReason::Spared(_)))
}

/// True if a change concerns the destinations of an address, or the whole service.
fn concerns(change: &Change, addr: IpAddr) -> bool {
    match change {
        Change::AddDestination(_, d) | Change::EditDestination(_, d) => d.id.addr == addr,
        Change::DeleteDestination(_, at) => at.addr == addr,
        _ => true,
    }
}

/// Makes a change to what was read.
pub(super) fn apply(table: &mut KernelTable, key: ServiceKey, change: &Change) {
    let destinations = |table: &mut KernelTable, of: &dyn Fn(&mut Actual)| {
        if let Some(actual) = table.get_mut(&key) {
            of(actual);
        }
    };
    match change {
        Change::AddService(service) => {
            let actual = Actual { service: service.clone(), destinations: BTreeMap::new() };
            table.insert(key, actual);
        }
        Change::EditService(service) => {
            destinations(table, &|actual| actual.service = service.clone());
        }
        Change::DeleteService(_) => drop(table.remove(&key)),
        Change::AddDestination(_, d) | Change::EditDestination(_, d) => {
            destinations(table, &|actual| put(actual, *d));
        }
        Change::DeleteDestination(_, at) => {
            destinations(table, &|actual| {
                actual.destinations.remove(at);
            });
        }
        _ => {}
    }
}

/// Sets a destination, new or known.
fn put(actual: &mut Actual, destination: Destination) {
    let (active, inactive, persistent) = (0, 0, 0);
    let stats = Stats::default();
    let fresh = DestinationEntry { destination, active, inactive, persistent, stats };
    actual.destinations.entry(destination.id).or_insert(fresh).destination = destination;
}

impl Repair {
    fn none(service: ServiceKey) -> Repair {
        Repair { service, services: 0, destinations: 0, edited: 0, removed: 0 }
    }

    fn count(&mut self, change: &Change) {
        let counter = match change {
            Change::AddService(_) => &mut self.services,
            Change::AddDestination(..) => &mut self.destinations,
            Change::EditService(_) | Change::EditDestination(..) => &mut self.edited,
            _ => &mut self.removed,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests;
