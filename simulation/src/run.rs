//! One run: a cluster starts, faults come in bursts, and after each it must be right again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::Value;
use cvip::store::Key;
use serde::{Deserialize, Serialize};

use crate::cluster::clients::{self, Clients};
use crate::cluster::conf::{Layout, PORTS};
use crate::cluster::faults::{self, Fault, Targets, Timed};
use crate::cluster::machine::Machine;
use crate::cluster::operator::{self, Later};
use crate::cluster::packet::Place;
use crate::cluster::process::Told;
use crate::cluster::world::{SERVERS, World};
use crate::invariants::{self, Violation, Watch};
use crate::random::Random;
use crate::store::StoreCluster;
use crate::time::SimTime;

/// Once no fault lasts, the cluster is right again within this (invariant 11).
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// And stays so: it is watched for this long.
const WATCHED_FOR: Duration = Duration::from_secs(6);

/// By then a director has forgotten the claims that it made in short succession, which it would make the next one
/// later for.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether all is right.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A plan: what one run does. It is what a seed draws, and what a file of a failure holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What decides everything that the bursts do not say: delays, losses, choices of clients.
    pub seed: u64,
    /// How many nodes; the first are directors.
    pub nodes: u32,
    /// How many directors.
    pub directors: u32,
    /// Connections are synchronised between directors.
    pub sync: bool,
    /// The kernels tell of sockets.
    pub events: bool,
    /// The states of each cvipd are written and restored now and then, as a recording's are: that
    /// changes nothing.
    #[serde(default)]
    pub restores: bool,
    /// The faults, burst by burst.
    pub bursts: Vec<Vec<Timed>>,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Simulated time.
    pub simulated: Duration,
    /// How many faults there were.
    pub faults: usize,
    /// How many events were simulated.
    pub events: u64,
    /// How long it took after each burst until all was right.
    pub settled: Vec<Duration>,
    /// The invariant that did not hold, and in which burst.
    pub violation: Option<(usize, Violation)>,
    /// What happened, if it was asked for.
    pub timeline: Vec<String>,
}

impl Plan {
    /// What a seed draws.
    pub fn draw(seed: u64, bursts: usize) -> Plan {
        let mut random = Random::new(seed);
        let directors = random.within(1..=3) as u32;
        let nodes = directors.max(random.within(3..=8) as u32);
        Plan::of(seed, nodes, directors, bursts, &mut random)
    }

    /// A plan for a cluster of this size.
    pub fn sized(seed: u64, nodes: u32, directors: u32, bursts: usize) -> Plan {
        Plan::of(seed, nodes, directors, bursts, &mut Random::new(seed))
    }

    fn of(seed: u64, nodes: u32, directors: u32, bursts: usize, random: &mut Random) -> Plan {
        let (sync, events) = (random.happens(400_000), random.happens(700_000));
        // Not from the same numbers: a seed's plan is otherwise what it was.
        let restores = Random::new(seed ^ 0x7e57).happens(250_000);
        let plan = Plan { seed, nodes, directors, sync, events, restores, bursts: Vec::new() };
        let targets = Targets {
            nodes: (1..=nodes).collect(),
            directors: (1..=directors).collect(),
            servers: SERVERS,
            layouts: plan.layouts().len(),
        };
        let bursts = (0..bursts).map(|_| faults::draw(&targets, random)).collect();
        Plan { bursts, ..plan }
    }

    /// The configurations that reloads choose from; the first is in force at the start.
    fn layouts(&self) -> Vec<Layout> {
        let (all, sync) = ((1..=self.nodes).collect::<Vec<u32>>(), self.sync);
        let directors: Vec<u32> = (1..=self.directors).collect();
        let mut layouts = vec![Layout { directors: directors.clone(), servers: all.clone(), sync }];
        if let [_, rest @ ..] = &directors[..]
            && !rest.is_empty()
        {
            layouts.push(Layout { directors: rest.to_vec(), servers: all.clone(), sync });
            let mut turned = directors.clone();
            turned.rotate_left(1);
            layouts.push(Layout { directors: turned, servers: all, sync });
        }
        layouts
    }
}

/// One run under way.
struct Run {
    world: World,
    clients: Clients,
    watch: Watch,
    confs: Vec<Arc<Conf>>,
    /// Which of them is in force.
    layout: usize,
    later: BTreeMap<(SimTime, u64), Later>,
    number: u64,
    timeline: Option<Vec<String>>,
}

/// Runs a plan. `tells`: its timeline is kept.
pub fn run(plan: &Plan, tells: bool) -> Report {
    let mut random = Random::new(plan.seed ^ 0x5eed);
    let confs: Vec<Arc<Conf>> =
        plan.layouts().iter().map(|layout| Arc::new(layout.conf())).collect();
    let store = StoreCluster::new(SERVERS, random.fork());
    let machines: Vec<Machine> = (1..=plan.nodes)
        .map(|node| Machine::new(node, Arc::clone(&confs[0]), plan.events))
        .collect();
    let nodes: Vec<u32> = machines.iter().map(|machine| machine.node).collect();
    let mut world = World::new(machines, store, random.fork());
    world.restores = plan.restores;
    let mut run = Run {
        world,
        clients: Clients::new(random.fork()),
        watch: Watch::default(),
        confs,
        layout: 0,
        later: BTreeMap::new(),
        number: 0,
        timeline: tells.then(Vec::new),
    };
    for node in nodes {
        for port in PORTS {
            operator::listen(&mut run.world, node, port, true);
        }
        run.world.start(node, Duration::from_millis(random.within(0..=800)));
    }
    let mut report = Report::default();
    let mut outcome = run.settle(&mut report).map_err(|violation| (0, violation));
    for (index, burst) in plan.bursts.iter().enumerate() {
        if outcome.is_err() {
            break;
        }
        report.faults += burst.len();
        outcome = run.burst(burst, &mut report).map_err(|violation| (index, violation));
    }
    report.violation = outcome.err();
    report.simulated = run.world.now.since(SimTime(0));
    report.events = run.world.events;
    report.timeline = run.timeline.unwrap_or_default();
    report
}

impl Run {
    /// Lets one burst of faults happen, and waits until all is right again.
    fn burst(&mut self, burst: &[Timed], report: &mut Report) -> Result<(), Violation> {
        let successor = self.successor(burst);
        if successor.is_some() {
            self.until(self.world.now + FORGOTTEN_WITHIN)?;
        }
        let begin = self.world.now;
        let needs_store = burst.iter().any(|timed| matches!(timed.fault, Fault::SetSysctl { .. }));
        self.watch.nothing_fails = burst.iter().all(|timed| {
            is_harmless(&timed.fault) && !(needs_store && keeps_store_away(&timed.fault))
        });
        self.come_back();
        self.world.machines.values_mut().for_each(Machine::forget_disowned);
        for timed in burst {
            self.until(begin + Duration::from_millis(timed.at_ms))?;
            self.note(0, &format!("FAULT {:?}", timed.fault));
            if let Fault::Reload { layout, .. } = &timed.fault {
                self.layout = *layout;
            }
            let later = operator::begin(&mut self.world, &timed.fault);
            for (after, later) in later {
                self.number += 1;
                self.later.insert((self.world.now + after, self.number), later);
            }
        }
        while let Some(((at, _), _)) = self.later.first_key_value() {
            let at = *at;
            self.until(at)?;
        }
        self.await_leaves(burst)?;
        let conf = &self.confs[self.layout];
        let directors = conf.cvips[0].directors.iter();
        if directors.map(|director| &self.world.machines[&director.node]).all(|of| of.has_left) {
            self.come_back();
        }
        self.start_refused(burst);
        self.start_forgotten();
        if self.only_servers_are_unheard() {
            self.note(0, "no fault lasts but that heartbeats are lost");
            self.settle(report)?;
        }
        self.world.network.hear_heartbeats();
        self.note(0, "no fault lasts");
        self.settle(report)?;
        match (successor, &self.world.carriers()[..]) {
            (Some(successor), [active]) if *active != successor => {
                let what = format!(
                    "node {successor} is next in cvip.conf's order, and {active} took over"
                );
                Err(Violation { at: self.world.now, invariant: 20, what })
            }
            _ => Ok(()),
        }
    }

    /// The director that is to take over: the first of the others in cvip.conf's order, if the active one is lost
    /// and nothing else fails.
    fn successor(&self, burst: &[Timed]) -> Option<u32> {
        let [Timed { fault: Fault::ActiveCrash { .. }, .. }] = burst else { return None };
        let [active] = self.world.carriers()[..] else { return None };
        let order = &self.confs[self.layout].cvips[0].directors;
        let mut others = order.iter().map(|director| director.node).filter(|node| *node != active);
        others.next().filter(|_| self.is_whole())
    }

    /// The heartbeats of one node are lost, which is no director, and all others are heard.
    fn only_servers_are_unheard(&self) -> bool {
        let is_director = |node| self.confs.iter().any(|conf| conf.is_director(node));
        let unheard = self.world.network.unheard();
        let is_server = |place: &Place| matches!(place, Place::Node(node) if !is_director(*node));
        self.is_whole() && unheard.len() == 1 && unheard.iter().all(is_server)
    }

    /// No node has left.
    fn is_whole(&self) -> bool {
        self.world.machines.values().all(|machine| !machine.has_left)
    }

    /// The nodes that have left join the cluster again.
    fn come_back(&mut self) {
        let left = self.world.machines.values().filter(|machine| machine.has_left);
        for node in left.map(|machine| machine.node).collect::<Vec<u32>>() {
            self.note(node, "is started again");
            self.world.start(node, Duration::ZERO);
        }
    }

    /// A leave that began before its cvipd stood still for a while ends later than its fault.
    fn await_leaves(&mut self, burst: &[Timed]) -> Result<(), Violation> {
        let mut end = self.world.now;
        for timed in burst {
            let Fault::Leave { node, .. } = &timed.fault else { continue };
            let machine = &self.world.machines[node];
            if machine.process.is_some() {
                let goes_on = machine.stopped_until.max(machine.paused_until);
                end = end.max(goes_on + timed.fault.length());
            }
        }
        self.until(end)
    }

    /// A leave of which the store could not be told ended after it was judged: an operator starts that cvipd again.
    fn start_refused(&mut self, burst: &[Timed]) {
        for timed in burst {
            let Fault::Leave { node, away_ms: None } = &timed.fault else { continue };
            let machine = &self.world.machines[node];
            if machine.process.is_none() && !machine.has_left {
                self.world.start(*node, Duration::ZERO);
            }
        }
    }

    /// An emptied store does not say any more which nodes have left, and a director that was started since does not
    /// know: those nodes come back.
    fn start_forgotten(&mut self) {
        let world = &self.world;
        let is_known = |node: u32| match world.stored(Key::Node(node)) {
            Some(Value::Node(record)) => record.leaving,
            _ => false,
        };
        let left = world.machines.values().filter(|machine| machine.has_left);
        let forgotten = left.map(|machine| machine.node).filter(|node| !is_known(*node));
        for node in forgotten.collect::<Vec<u32>>() {
            self.note(node, "is started again, since the store has forgotten that it left");
            self.world.machine(node).has_left = false;
            self.world.start(node, Duration::ZERO);
        }
    }

    /// Waits until all is right, and watches it for a while.
    fn settle(&mut self, report: &mut Report) -> Result<(), Violation> {
        let begin = self.world.now;
        let conf = Arc::clone(&self.confs[self.layout]);
        loop {
            let is_right = invariants::is_right(&self.world, &self.clients, &conf);
            match is_right.and_then(|()| invariants::are_leased(&self.world)) {
                Ok(()) => break,
                Err((invariant, what)) if self.world.now.since(begin) > SETTLED_WITHIN => {
                    let seconds = SETTLED_WITHIN.as_secs();
                    let what = format!("still not right {seconds} s after the last fault: {what}");
                    return Err(Violation { at: self.world.now, invariant, what });
                }
                Err(_) => self.until(self.world.now + LOOK_EVERY)?,
            }
        }
        report.settled.push(self.world.now.since(begin));
        self.note(0, "all is right");
        // What was sent before that is answered or lost.
        self.until(self.world.now + Duration::from_secs(3))?;
        invariants::served(&mut self.clients, &self.world, self.watch.nothing_fails)?;
        self.watch.nothing_fails = true;
        let end = self.world.now + WATCHED_FOR;
        while self.world.now < end {
            self.until(self.world.now + LOOK_EVERY)?;
            if let Err((invariant, what)) = invariants::is_right(&self.world, &self.clients, &conf)
            {
                let what = format!("it was right, and is not any more: {what}");
                return Err(Violation { at: self.world.now, invariant, what });
            }
        }
        self.watch.nothing_fails = false;
        Ok(())
    }

    /// Lets everything happen until then.
    fn until(&mut self, end: SimTime) -> Result<(), Violation> {
        loop {
            let later = self.later.first_key_value().map_or(SimTime::NEVER, |((at, _), _)| *at);
            let next = self.world.next().min(self.clients.due()).min(later);
            if next > end {
                self.world.now = end;
                return Ok(());
            }
            if later == next {
                self.world.now = next;
                if let Some((_, later)) = self.later.pop_first() {
                    self.note(0, &format!("THEN {later:?}"));
                    operator::continue_with(&mut self.world, &later, &self.confs, self.layout);
                }
            } else if self.clients.due() == next {
                self.world.now = next;
                clients::step(&mut self.clients, &mut self.world);
                invariants::served(&mut self.clients, &self.world, self.watch.nothing_fails)?;
            } else {
                self.world.step();
            }
            self.look()?;
        }
    }

    fn look(&mut self) -> Result<(), Violation> {
        for node in std::mem::take(&mut self.world.announced) {
            self.clients.heard(node);
        }
        let told = std::mem::take(&mut self.world.told);
        if self.timeline.is_some() {
            for (_, node, told) in &told {
                if let Some(line) = line(told) {
                    self.note(*node, &line);
                }
            }
        }
        let outcome = self.watch.look(&self.world, &told);
        if let Err(violation) = &outcome {
            self.note(0, &format!("VIOLATED {violation}"));
        }
        outcome
    }

    fn note(&mut self, node: u32, line: &str) {
        if let Some(timeline) = &mut self.timeline {
            let place = if node == 0 { "-".to_owned() } else { node.to_string() };
            timeline.push(format!("{:>10}  {place:>2}  {line}", self.world.now.to_string()));
        }
    }
}

fn line(told: &Told) -> Option<String> {
    Some(match told {
        Told::Event(event) => event.to_string(),
        Told::Note(note) => note.clone(),
        Told::Role(role) => format!("role: {role:?}"),
        Told::NotStarted(why) => format!("cvipd does not start: {why}"),
        Told::Ended(outcome) => format!("cvipd ends: {outcome:?}"),
        Told::Left => "has left the cluster".to_owned(),
        Told::Won { .. } => return None,
        Told::Applied(0) => return None,
        Told::Applied(changes) => format!("{changes} changes to the table"),
    })
}

/// A fault for which the store may count as unavailable. While it does, a director yields to a host that a hand has
/// made answer for the CVIP.
fn keeps_store_away(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::NewLeader
            | Fault::ServerPause { .. }
            | Fault::ServerStop { .. }
            | Fault::StoreAway { .. }
            | Fault::NoStore { .. }
    )
}

/// A fault that no client must notice, whatever comes together: cvipd and the store are beside the
/// path of packets.
fn is_harmless(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::NewLeader
            | Fault::Compact
            | Fault::ServerPause { .. }
            | Fault::ServerStop { .. }
            | Fault::StoreAway { .. }
            | Fault::StoreFull { .. }
            | Fault::NoStore { .. }
            | Fault::FilesFull { .. }
            | Fault::FilesReadOnly { .. }
            | Fault::FilesTorn { .. }
            | Fault::AnnouncementsLost { .. }
            | Fault::EventsLost { .. }
            | Fault::Wall { .. }
            | Fault::SetSysctl { .. }
            | Fault::ForeignService { .. }
            | Fault::BrokenConf { .. }
    )
}
