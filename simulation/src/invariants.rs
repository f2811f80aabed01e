//! What must hold: docs/invariants.md says why, and where each bound comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::{Value, service_key};
use cvip::director::election::ElectionRole;
use cvip::ipvs::{DaemonRole, Destination, DestinationId, service_flags};
use cvip::ports::Layers;
use cvip::protocol::Protocol;
use cvip::store::{Key, Registration, ServiceKey};

use crate::cluster::clients::{Attempt, Clients};
use crate::cluster::conf::{CVIP, FLAGGED, HTTP, PORTS, STATIC, XDMCP, addr_of, protocol_of};
use crate::cluster::machine::Machine;
use crate::cluster::packet::Place;
use crate::cluster::process::{Process, Told, Workers};
use crate::cluster::world::World;
use crate::expected::{self, ExpectedService, NodeFacts};
use crate::time::SimTime;

/// Two may carry a CVIP for so long: the lifetime of an address whose cvipd cannot give it back,
/// and what a look takes (invariant 1).
const TWO_CARRY: Duration = Duration::from_millis(11_500);

/// A director that cvip.conf strikes keeps its addresses for so long at most, until its table is empty (invariant 22).
const EMPTIED_WITHIN: Duration = Duration::from_secs(2);

/// So many messages may wait in one cvipd (invariant 9).
const WAITING: usize = 2000;

/// So many times a second workers may run in one cvipd (invariant 9).
const STEPS: u64 = 20_000;

/// So many events may come at one time, in the whole cluster (invariant 9).
const AT_ONCE: u32 = 100_000;

/// A violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: SimTime,
    /// Which invariant, by its number in docs/invariants.md.
    pub invariant: u32,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} at {} s: {}", self.invariant, self.at, self.what)
    }
}

/// What is watched all the time.
#[derive(Default)]
pub struct Watch {
    /// Since when two or more carry the CVIP.
    two_since: Option<SimTime>,
    /// Of each director the start, the set and the role, as its monitor last told.
    roles: BTreeMap<u32, (u64, Option<u32>, ElectionRole)>,
    /// The highest term that each was active in, of which start and set.
    terms: BTreeMap<u32, ((u64, Option<u32>), u64)>,
    /// Of each node that empties the table of a former director: which start that is, since when, and whether
    /// it answered for the CVIP at the last look.
    retiring: BTreeMap<u32, (u64, SimTime, bool)>,
    /// How often workers had run, of which start, at the last count.
    steps: BTreeMap<u32, (u64, u64)>,
    next_count: SimTime,
    /// When it was last looked, and how often at that time.
    looked: (SimTime, u32),
    /// Nothing that the clients do may fail from now on, and no table may change.
    pub nothing_fails: bool,
}

impl Watch {
    /// Looks at the world after something happened.
    ///
    /// # Errors
    /// An invariant does not hold.
    pub fn look(&mut self, world: &World, told: &[(SimTime, u32, Told)]) -> Result<(), Violation> {
        let violation = |invariant, what: String| Err(Violation { at: world.now, invariant, what });
        let (at, looks) = self.looked;
        self.looked = (world.now, if at == world.now { looks + 1 } else { 0 });
        if looks > AT_ONCE {
            return violation(9, "a worker is due again at once, and time stands still".to_owned());
        }
        // A hand that has a real server answer is undone by its cvipd, when that runs: invariant 14.
        let carries = |node: &u32| {
            let addresses = world.machines[node].host.kernel.network.addresses();
            addresses.into_iter().any(|(device, addr, _)| device == "eth0" && addr == CVIP)
        };
        // One that is the only director by its cvip.conf carries the CVIP without a lifetime: while its cvipd stands
        // still, it does not read that there is another by now.
        let is_kept = |node: &u32| {
            let machine = &world.machines[node];
            let workers = machine.process.as_ref().and_then(Process::workers);
            let is_alone =
                |workers: &Workers| workers.main.state.conf().cvips[0].directors.len() < 2;
            machine.stopped_until > world.now && workers.is_some_and(is_alone)
        };
        let carriers = world.carriers().into_iter().filter(|node| carries(node) && !is_kept(node));
        let carriers: Vec<u32> = carriers.collect();
        if carriers.len() < 2 || !hear_one_another(world, &carriers) {
            self.two_since = None;
        } else {
            let since = *self.two_since.get_or_insert(world.now);
            if world.now.since(since) > TWO_CARRY {
                return violation(1, format!("nodes {carriers:?} carry the CVIP since {since} s"));
            }
        }
        for (at, node, told) in told {
            match told {
                Told::Role(role) => {
                    let epoch = world.machines.get(node).map_or(0, |machine| machine.epoch);
                    self.roles.insert(*node, (epoch, set_of(world, *node), *role));
                    self.same_term(world, *node, *role)?;
                    self.term_grows(world, *node, *role)?;
                }
                Told::Applied(_) => self.owned(world, *node)?,
                Told::Won { term, known } if term <= known => {
                    let what =
                        format!("node {node} knew of term {known}, and its claim gave {term}");
                    return violation(21, what);
                }
                Told::Ended(Err(why)) => {
                    return Err(Violation {
                        at: *at,
                        invariant: 10,
                        what: format!("node {node}: cvipd ended: {why}"),
                    });
                }
                _ => {}
            }
        }
        self.retires(world)?;
        if world.now >= self.next_count {
            self.next_count = world.now + Duration::from_secs(1);
            self.count(world)?;
        }
        Ok(())
    }

    /// No two directors of a set are active in one term.
    fn same_term(&self, world: &World, node: u32, role: ElectionRole) -> Result<(), Violation> {
        let ElectionRole::Active { term } = role else { return Ok(()) };
        for (other, (epoch, told_in, held)) in &self.roles {
            let lives = world.machines.get(other).is_some_and(|machine| {
                machine.process.is_some() && machine.epoch == *epoch && machine.is_up
            });
            // One that a configuration has struck is active no longer, and each set has terms of its own.
            let set = set_of(world, *other).filter(|set| *told_in == Some(*set));
            let is_rival = set.is_some() && set_of(world, node) == set;
            // One that was started after the store had lost its terms, and hears no other, cannot know which there were.
            let unheard = world.network.unheard();
            let is_unheard = [*other, node].iter().any(|of| unheard.contains(&Place::Node(*of)));
            let hear = !is_unheard && hear_one_another(world, &[*other, node]);
            let may_know = !world.has_lost_terms || hear;
            if *other != node && lives && is_rival && *held == role && may_know {
                let what = format!("nodes {other} and {node} are active in term {term}");
                return Err(Violation { at: world.now, invariant: 2, what });
            }
        }
        Ok(())
    }

    /// One cvipd takes no earlier term of its set than it had before, as far as its files say which.
    fn term_grows(
        &mut self,
        world: &World,
        node: u32,
        role: ElectionRole,
    ) -> Result<(), Violation> {
        let ElectionRole::Active { term } = role else { return Ok(()) };
        let Some(machine) = world.machines.get(&node) else { return Ok(()) };
        let start = (machine.epoch, set_of(world, node));
        let (of, highest) = self.terms.entry(node).or_insert((start, term));
        if *of != start || machine.host.files.fault.is_some() {
            (*of, *highest) = (start, term);
        }
        if term < *highest {
            let what = format!("node {node} is active in term {term}, after {highest}");
            return Err(Violation { at: world.now, invariant: 2, what });
        }
        *highest = term;
        Ok(())
    }

    /// A director that cvip.conf strikes becomes a real server once its table is empty, and not before.
    fn retires(&mut self, world: &World) -> Result<(), Violation> {
        for (node, machine) in &world.machines {
            let workers = machine.process.as_ref().and_then(Process::workers);
            if workers.is_none_or(|workers| workers.retired.is_none()) {
                self.retiring.remove(node);
                continue;
            }
            let (network, clock) = (&machine.host.kernel.network, machine.clock(world.now));
            let answers = network.answers_for(CVIP, "eth0", clock);
            let new = (machine.epoch, world.now, answers);
            let (of, since, answered) = self.retiring.entry(*node).or_insert(new);
            if *of != machine.epoch {
                (*of, *since, *answered) = new;
            }
            let gave_away = std::mem::replace(answered, answers) && !answers;
            // One that had yielded before gives its addresses away for that.
            let role = self.roles.get(node).filter(|(epoch, ..)| *epoch == machine.epoch);
            let has_yielded = role.is_some_and(|(.., role)| *role == ElectionRole::Standby);
            let is_early = world.now.since(*since) < EMPTIED_WITHIN && !has_yielded;
            if gave_away && is_early && network.receives(CVIP, clock) {
                let own = own_services(machine);
                if !own.is_empty() {
                    let what =
                        format!("node {node}: a former director is a real server with {own:?}");
                    return Err(Violation { at: world.now, invariant: 22, what });
                }
            }
        }
        Ok(())
    }

    /// What stands in the kernel's table is recorded as owned, or foreign.
    fn owned(&self, world: &World, node: u32) -> Result<(), Violation> {
        let Some(machine) = world.machines.get(&node) else { return Ok(()) };
        let Some(process) = &machine.process else { return Ok(()) };
        let Ok(owned) = process.client.files().read(Key::Owned(node)) else { return Ok(()) };
        let owned = match owned {
            Some(Value::Owned(owned)) => owned.clone(),
            _ => BTreeSet::new(),
        };
        // What cannot be written is written later: the table is not kept waiting for that.
        let is_saved = !process.client.has_unsaved();
        for service in own_services(machine).into_iter().filter(|_| is_saved) {
            if !owned.contains(&service) {
                let what = format!("node {node}: {service} was made and is not recorded as owned");
                return Err(Violation { at: world.now, invariant: 4, what });
            }
        }
        for service in &machine.host.foreign {
            if pool(machine, *service).is_none() {
                let what = format!("node {node}: the foreign {service} is gone");
                return Err(Violation { at: world.now, invariant: 3, what });
            }
        }
        Ok(())
    }

    /// Memory and work are bounded.
    fn count(&mut self, world: &World) -> Result<(), Violation> {
        for (node, machine) in &world.machines {
            let Some(process) = &machine.process else { continue };
            let (waiting, steps) = (process.post.waiting(), process.post.steps);
            if waiting > WAITING
                && machine.is_running(world.now)
                && machine.stopped_until <= world.now
            {
                let what = format!("node {node}: {waiting} messages wait in cvipd");
                return Err(Violation { at: world.now, invariant: 9, what });
            }
            let before = self.steps.insert(*node, (machine.epoch, steps));
            let before = before.filter(|(epoch, _)| *epoch == machine.epoch);
            let done = before.map_or(0, |(_, before)| steps - before);
            if done > STEPS {
                let what = format!("node {node}: cvipd's workers ran {done} times in a second");
                return Err(Violation { at: world.now, invariant: 9, what });
            }
        }
        Ok(())
    }
}

/// The set in whose election a node takes part.
fn set_of(world: &World, node: u32) -> Option<u32> {
    world.machines.get(&node)?.process.as_ref()?.workers()?.set()
}

/// Whether some two of these nodes can know of each other.
fn hear_one_another(world: &World, nodes: &[u32]) -> bool {
    let hear = |a: u32, b: u32| {
        let (a, b) = (Place::Node(a), Place::Node(b));
        world.network.is_open(a, b) && world.network.is_open(b, a)
    };
    nodes.iter().any(|a| nodes.iter().any(|b| a < b && hear(*a, *b)))
}

/// What the clients met since this was last asked; `nothing_fails`: all must have been served.
///
/// # Errors
/// An attempt failed or a connection broke.
pub fn served(clients: &mut Clients, world: &World, nothing_fails: bool) -> Result<(), Violation> {
    let attempts = std::mem::take(&mut clients.attempts);
    let broken = std::mem::take(&mut clients.broken);
    if !nothing_fails {
        return Ok(());
    }
    for (at, attempt) in attempts {
        if !matches!(attempt, Attempt::Served(_)) {
            let what = format!("a client was not served: {attempt:?}");
            return Err(Violation { at, invariant: 6, what });
        }
    }
    // The deadline of a drain ends what is open; a store that was put back knows former ones again.
    let mut broken = broken.into_iter().filter(|(_, server, _)| !drained(world).contains(server));
    if let Some((at, server, why)) = broken.next() {
        let what = format!("a connection to node {server} broke: {why}");
        return Err(Violation { at, invariant: 7, what });
    }
    Ok(())
}

/// Whether the cluster is as it should be: the store, the router, the election, addresses and tables. Every
/// machine is up, and no fault lasts.
///
/// # Errors
/// What is not, with the invariant that it belongs to.
pub fn is_right(world: &World, clients: &Clients, conf: &Conf) -> Result<(), (u32, String)> {
    let directors = &conf.cvips[0].directors;
    // What the store says until then is not what it will say.
    if world.has_orders() {
        return Err((5, "an operator's command has not ended".to_owned()));
    }
    let carriers = world.carriers();
    let [active] = carriers[..] else {
        return Err((11, format!("the CVIP is carried by {carriers:?}, not by one director")));
    };
    if let Some(known) = clients.known().filter(|known| *known != active) {
        return Err((19, format!("the router sends to node {known}, and node {active} carries")));
    }
    if !directors.iter().any(|director| director.node == active) {
        return Err((11, format!("node {active} carries the CVIP and is no director")));
    }
    for (node, machine) in &world.machines {
        if machine.has_left {
            has_nothing_left(machine, machine.clock(world.now))?;
            continue;
        }
        let Some(process) = &machine.process else {
            return Err((11, format!("node {node}: no cvipd runs")));
        };
        if *node != active && machine.clock(world.now) < machine.asked_until {
            return Err((12, format!("node {node} was asked to take over, and has not")));
        }
        // Until its hooks have run, it is what it was.
        if machine.is_ending {
            return Err((11, format!("node {node}: cvipd was told to end, and has not")));
        }
        let Some(workers) = process.workers() else {
            return Err((11, format!("node {node}: cvipd has not started")));
        };
        if let Some(monitor) = &workers.monitor {
            let view = monitor.shows(machine.clock(world.now));
            if directors.len() > 1 && view.elected != Some(active) {
                let what = format!(
                    "node {node} takes {:?} for the active director, {active} carries",
                    view.elected
                );
                return Err((12, what));
            }
            let conf = machine.host.files.conf.as_deref();
            let order = conf.map(|conf| cvip::director::monitor::order(conf, *node));
            if order.as_deref().is_some_and(|order| order != monitor.state.order()) {
                return Err((12, format!("node {node} elects among {:?}", monitor.state.order())));
            }
            if view.active != (*node == active) {
                return Err((12, format!("node {node}: active is {}", view.active)));
            }
            if view.isolated {
                return Err((12, format!("node {node} takes its own link for broken")));
            }
        }
        is_right_record(world, conf, machine)?;
        is_right_table(world, conf, machine, active)?;
        is_right_address(machine, *node == active, machine.clock(world.now))?;
    }
    Ok(())
}

/// Whether every node has its lease. It may end once more after a store was put back to an older
/// state, until its keeper looks.
///
/// # Errors
/// What is not, with the invariant that it belongs to.
pub fn are_leased(world: &World) -> Result<(), (u32, String)> {
    let is_leased = |node: &u32| matches!(world.stored(Key::Alive(*node)), Some(Value::Alive(_)));
    let mut here = world.machines.values().filter(|machine| !machine.has_left);
    match here.find(|machine| !is_leased(&machine.node)) {
        Some(machine) => Err((13, format!("node {} has no lease", machine.node))),
        None => Ok(()),
    }
}

/// The nodes that operators have drained.
fn drained(world: &World) -> BTreeSet<u32> {
    match world.stored(Key::Drains) {
        Some(Value::Drains(drains)) => drains.keys().map(|target| target.node).collect(),
        _ => BTreeSet::new(),
    }
}

/// The services that a node's servers join, with the weights of the flags that hold.
fn joins(world: &World, conf: &Conf, machine: &Machine) -> BTreeMap<(Protocol, u16), u16> {
    let flags = Layers { conf: conf.cvips[0].flags(), ..world.flags(machine.node) };
    let listens = PORTS.into_iter().filter(|port| machine.host.is_listening(*port));
    let services = listens.map(|port| (protocol_of(port), port));
    let weight = |(protocol, port)| Some(flags.lookup(protocol, port)?.0.weight);
    services.filter_map(|service| Some((service, weight(service)?))).collect()
}

/// A node that has left has nothing of cvipd's.
fn has_nothing_left(machine: &Machine, clock: SimTime) -> Result<(), (u32, String)> {
    let node = machine.node;
    let own = own_services(machine);
    if !own.is_empty() {
        return Err((18, format!("node {node} has left, and has {own:?}")));
    }
    let has_address = machine.host.kernel.network.receives(CVIP, clock);
    match has_address && !machine.host.has_disowned_settings {
        true => Err((18, format!("node {node} has left, and has the CVIP"))),
        false => Ok(()),
    }
}

/// A service of the table, and its destinations.
fn pool(machine: &Machine, key: ServiceKey) -> Option<&BTreeMap<DestinationId, Destination>> {
    let mut services = machine.host.kernel.table().services();
    services.find(|(service, _)| service_key(service.id) == Some(key)).map(|(_, pool)| pool)
}

/// A service of the table, as far as it is expected.
fn found_service(machine: &Machine, key: ServiceKey) -> Option<ExpectedService> {
    let mut services = machine.host.kernel.table().services();
    let (service, pool) = services.find(|(service, _)| service_key(service.id) == Some(key))?;
    let is_persistent = service.flags & service_flags::PERSISTENT != 0;
    Some(ExpectedService {
        scheduler: service.scheduler.clone(),
        persistence: is_persistent.then_some(service.timeout),
        pool: pool.values().map(|to| (to.id.addr, to.weight)).collect(),
    })
}

/// The services of the table that no hand added, and that cvipd still knows as its own.
fn own_services(machine: &Machine) -> Vec<ServiceKey> {
    let services = machine.host.kernel.table().services();
    let keys = services.filter_map(|(service, _)| service_key(service.id));
    let (foreign, disowned) = (&machine.host.foreign, &machine.host.disowned);
    keys.filter(|key| !foreign.contains(key) && !disowned.contains(key)).collect()
}

/// A node's record in the store says what the node serves.
fn is_right_record(world: &World, conf: &Conf, machine: &Machine) -> Result<(), (u32, String)> {
    let node = machine.node;
    let Some(Value::Node(record)) = world.stored(Key::Node(node)) else {
        return Err((13, format!("node {node} has no record")));
    };
    let told: BTreeMap<(Protocol, u16), u16> = record
        .registrations
        .iter()
        .map(|Registration { service, weight, .. }| ((service.protocol, service.port), *weight))
        .filter(|(service, _)| *service != STATIC)
        .collect();
    let truth = joins(world, conf, machine);
    if told != truth {
        return Err((13, format!("node {node} serves {truth:?}, its record says {told:?}")));
    }
    match record.leaving {
        true => Err((13, format!("node {node}'s record says that it leaves"))),
        false => Ok(()),
    }
}

/// The table of a director is what the servers, cvip.conf and its role ask for.
fn is_right_table(
    world: &World,
    conf: &Conf,
    machine: &Machine,
    active: u32,
) -> Result<(), (u32, String)> {
    let node = machine.node;
    let cvip = &conf.cvips[0];
    let own = own_services(machine);
    if node != active {
        let table = machine.host.kernel.table();
        let receives = machine.host.kernel.network.ipvs().backup_only
            && table.daemon(DaemonRole::Backup).is_some();
        return match own.is_empty() || (receives && cvip.is_director(node)) {
            true => Ok(()),
            false => Err((8, format!("node {node} is no active director and has {own:?}"))),
        };
    }
    let drained = drained(world);
    let here = world.machines.values().filter(|machine| !machine.has_left);
    let facts = here.map(|machine| {
        let joins = joins(world, conf, machine);
        let key = |(protocol, port): &(Protocol, u16)| ServiceKey {
            cvip: CVIP,
            protocol: *protocol,
            port: *port,
        };
        let listens = joins.keys().map(key).collect();
        let is_drained = drained.contains(&machine.node);
        (machine.node, NodeFacts { listens, flags: joins, is_drained })
    });
    let mut expected = expected::table(conf, &facts.collect());
    for (protocol, port) in [HTTP, XDMCP, STATIC, FLAGGED] {
        let service = ServiceKey { cvip: CVIP, protocol, port };
        let expected = expected.remove(&service);
        let mut found = found_service(machine, service);
        // A drained server is deleted once its connections have ended, and its service with it.
        if let Some(found) = &mut found {
            found.pool.retain(|addr, _| !drained.iter().any(|node| addr_of(*node) == *addr));
        }
        if found != expected
            && (expected.is_some() || found.as_ref().is_some_and(|f| !f.pool.is_empty()))
        {
            let what = format!("node {node}, {service}: {found:?}, and should be {expected:?}");
            return Err((5, what));
        }
    }
    let known = [HTTP, XDMCP, STATIC, FLAGGED];
    let known = known.map(|(p, port)| ServiceKey { cvip: CVIP, protocol: p, port });
    match own.iter().find(|service| !known.contains(service)) {
        Some(service) => Err((5, format!("node {node} has {service}, which no node serves"))),
        None => Ok(()),
    }
}

/// A node has the CVIP where its role puts it.
fn is_right_address(
    machine: &Machine,
    is_active: bool,
    clock: SimTime,
) -> Result<(), (u32, String)> {
    let network = &machine.host.kernel.network;
    match (network.receives(CVIP, clock), network.answers_for(CVIP, "eth0", clock)) {
        (true, answers) if answers == is_active => Ok(()),
        (has, answers) => {
            let what = format!(
                "node {}: has the CVIP {has}, answers for it {answers}, active {is_active}",
                machine.node
            );
            Err((14, what))
        }
    }
}
