//! A kernel and a store as an agent's driver meets them, with their faults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::super::desired::testing::{key, record};
use super::super::super::fingerprint::print_of;
use super::super::super::kernel_table::{Actual, KernelTable, TableReading};
use super::super::super::passes;
use super::super::super::reconcile::concerned;
use super::super::super::settings::service_key;
use super::super::super::sync::SyncRole;
use super::super::messages::{ActionResult, AgentAction};
use super::super::recording::{AgentCall, AgentOutput};
use super::AgentState;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::ipvs::{Change, ChangeFailure, IpvsError, Operation, ServiceId, SyncDaemon};
use crate::ipvsadm::change_line;
use crate::ports::FlagSet;
use crate::protocol::Protocol;
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;
use crate::store::{
    DrainOrder, DrainTarget, Key, NodeRecord, Scope, ServiceKey, StoreError, StoreState,
};

/// What happens before a step.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// Nothing: time has passed.
    Time,
    /// A node serves these TCP ports, and no others.
    Serves(u32, &'static [u16]),
    /// A node serves these ports, and leaves the cluster.
    Leaves(u32, &'static [u16]),
    /// An operator drains a node, or does no more.
    Drained(u32, bool),
    /// So many connections are active on a node's destinations.
    Connections(u32, u32),
    /// The kernel refuses the changes whose command begins so; those of none: no more.
    Refuses(&'static str),
    /// So many changes of the next batch are made, and then all answers are lost.
    LosesAnswers(usize),
    /// The table cannot be read, or can.
    Unreadable(bool),
    /// The daemons cannot be read, or can.
    DaemonsUnreadable(bool),
    /// The store is unavailable, or is not.
    Unavailable(bool),
    /// The file of owned services cannot be written, or can.
    Unwritable(bool),
    /// Another program makes a change.
    Foreign(Change),
    /// Another program flushes the table.
    Flushed,
    /// A daemon of another program runs, or any ended.
    Daemon(Option<SyncDaemon>),
    /// The director gets a role.
    Role(SyncRole),
    /// A new configuration.
    Reload(Conf),
    /// A full pass is asked for, in place of a step.
    FullPass,
    /// The director leaves, in place of a step.
    Leave,
}

/// An agent, the kernel and the store.
pub(super) struct World {
    pub(super) agent: Recorded<AgentState>,
    tape: Tape,
    pub(super) view: StoreState,
    pub(super) kernel: KernelTable,
    pub(super) now: Instant,
    start: Instant,
    changed: BTreeSet<Key>,
    daemons: Vec<SyncDaemon>,
    refuses: &'static str,
    loses_after: Option<usize>,
    is_unreadable: bool,
    are_daemons_unreadable: bool,
    is_unavailable: bool,
    is_unwritable: bool,
    /// What the agent told, until it has no action.
    told: Vec<AgentOutput>,
    /// What the agent asked for.
    log: Vec<String>,
}

pub(super) fn tcp(port: u16) -> ServiceKey {
    key(Protocol::Tcp, port)
}

fn address(node: u32) -> IpAddr {
    IpAddr::from([10, 0, 0, node as u8])
}

fn key_of(change: &Change) -> Option<ServiceKey> {
    let id: ServiceId = match change {
        Change::AddService(service) | Change::EditService(service) => service.id,
        Change::DeleteService(id)
        | Change::AddDestination(id, _)
        | Change::EditDestination(id, _)
        | Change::DeleteDestination(id, _) => *id,
        _ => return None,
    };
    service_key(id)
}

/// Each world is replayed once it has been played, and decides as it did.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tape.check(&mut self.agent);
        }
    }
}

impl World {
    /// Nodes 1 to 3, which serve nothing; node 1 directs.
    pub(super) fn new(conf: Conf, is_known: bool) -> World {
        let now = Instant::now();
        let nodes: BTreeMap<u32, NodeRecord> =
            (1..4).map(|node| (node, NodeRecord::empty(node, 1, 1))).collect();
        let view = StoreState { nodes, ..StoreState::default() };
        let seen = if is_known { view.clone() } else { StoreState::default() };
        let (recorder, tape) = Tape::new();
        let agent = AgentState::new(1, Arc::new(conf), seen, is_known, now);
        World {
            agent: Recorded::new(agent, &recorder),
            tape,
            changed: view.nodes.keys().map(|node| Key::Node(*node)).collect(),
            view,
            kernel: KernelTable::new(),
            now,
            start: now,
            daemons: Vec::new(),
            refuses: "",
            loses_after: None,
            is_unreadable: false,
            are_daemons_unreadable: false,
            is_unavailable: !is_known,
            is_unwritable: false,
            told: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Carries out a script: each input is followed by a step, and by what the agent asked for and
    /// told in it.
    pub(super) fn play(&mut self, script: &[(u64, Input, &[&str])]) {
        for (ms, input, expected) in script {
            self.now = self.start + Duration::from_millis(*ms);
            let log = self.meet(input);
            assert_eq!(log, *expected, "{input:?} at {ms} ms");
        }
    }

    /// Takes an input and makes a step; gives what the agent asked for and told.
    fn meet(&mut self, input: &Input) -> Vec<String> {
        let first = self.take(input);
        self.run(first);
        std::mem::take(&mut self.log)
    }

    /// So much time passes, and then there is an input. Services are owned before they are made.
    pub(super) fn pass_time(&mut self, ms: u64, input: &Input) {
        self.now += Duration::from_millis(ms);
        self.meet(input);
        let owned: BTreeSet<&ServiceKey> = self.view.owned.get(&1).into_iter().flatten().collect();
        let made: Vec<&ServiceKey> =
            self.kernel.keys().filter(|key| !owned.contains(key)).collect();
        assert!(made.is_empty(), "{made:?} stand in the kernel and are not owned");
    }

    /// All faults end, connections too, and time passes.
    pub(super) fn settle(&mut self) {
        for input in [
            Input::Refuses(""),
            Input::Unreadable(false),
            Input::DaemonsUnreadable(false),
            Input::Unavailable(false),
            Input::Unwritable(false),
            Input::Connections(2, 0),
            Input::Connections(3, 0),
        ] {
            self.take(&input);
        }
        self.loses_after = None;
        for _ in 0..3 {
            self.pass_time(60_000, &Input::Time);
        }
    }

    /// Takes an input, and begins what follows from it.
    fn take(&mut self, input: &Input) -> Option<AgentAction> {
        match input.clone() {
            Input::Time => {}
            Input::Serves(node, ports) => self.write(node, ports, false),
            Input::Leaves(node, ports) => self.write(node, ports, true),
            Input::Drained(node, drained) => {
                let target = DrainTarget { node, port: None };
                let (reason, by) = (None, "root".to_owned());
                match drained {
                    true => {
                        let order = DrainOrder { reason, since: 1, deadline_s: None, by };
                        self.view.drains.insert(target, order);
                    }
                    false => drop(self.view.drains.remove(&target)),
                }
                self.changed.insert(Key::Drains);
            }
            Input::Connections(node, active) => {
                let entries = self.kernel.values_mut().flat_map(|a| a.destinations.values_mut());
                for entry in entries.filter(|e| e.destination.id.addr == address(node)) {
                    entry.active = active;
                }
            }
            Input::Refuses(what) => self.refuses = what,
            Input::LosesAnswers(after) => self.loses_after = Some(after),
            Input::Unreadable(is) => self.is_unreadable = is,
            Input::DaemonsUnreadable(are) => self.are_daemons_unreadable = are,
            Input::Unavailable(is) => self.is_unavailable = is,
            Input::Unwritable(is) => self.is_unwritable = is,
            Input::Foreign(change) => {
                assert!(self.make(&change), "{change:?}");
            }
            Input::Flushed => self.kernel.clear(),
            Input::Daemon(daemon) => self.daemons = daemon.into_iter().collect(),
            Input::Role(role) => {
                let first = self.call(AgentCall::TakeRole(role));
                self.run(first);
            }
            Input::Reload(conf) => drop(self.call(AgentCall::Reload(Arc::new(conf)))),
            Input::FullPass => return self.call(AgentCall::FullPass),
            Input::Leave => return self.call(AgentCall::Leave),
        }
        self.call(AgentCall::Step)
    }

    /// Tells the agent something, and keeps what it tells until an action was carried out.
    pub(super) fn call(&mut self, call: AgentCall) -> Option<AgentAction> {
        let mut next = None;
        for output in self.agent.call(call, self.now) {
            match output {
                AgentOutput::Action(action) => next = Some(action),
                AgentOutput::Check(_) => {}
                other => self.told.push(other),
            }
        }
        next
    }

    fn write(&mut self, node: u32, ports: &[u16], leaving: bool) {
        let sequence = self.view.nodes[&node].sequence + 1;
        let ports: Vec<ServiceKey> = ports.iter().map(|port| tcp(*port)).collect();
        self.view.nodes.insert(node, NodeRecord { sequence, leaving, ..record(node, &ports) });
        self.changed.insert(Key::Node(node));
    }

    /// Flags are set.
    pub(super) fn set_flags(&mut self, scope: Scope, flags: FlagSet) {
        self.view.flags.insert(scope, flags);
        self.changed.insert(Key::Flags(scope));
    }

    fn run(&mut self, mut next: Option<AgentAction>) {
        while let Some(action) = next {
            let done = self.carry_out(action);
            let is_view = matches!(done, ActionResult::ReadStore(Ok(_)));
            next = self.call(AgentCall::Done(done));
            assert!(!is_view || *self.agent.store() == self.view, "it keeps a view of its own");
        }
        // What was told of the last attempt and of the last pass counts.
        let (mut departure, mut outcome) = (None, None);
        for told in std::mem::take(&mut self.told) {
            match told {
                AgentOutput::Event(event) => {
                    let event = serde_json::to_value(event).unwrap();
                    self.log.push(format!("event {}", event["event"].as_str().unwrap()));
                }
                AgentOutput::Departure(of) => departure = Some(of),
                AgentOutput::Outcome(of) => outcome = Some(of),
                AgentOutput::Action(_) | AgentOutput::Check(_) => {}
            }
        }
        match departure {
            Some(Ok(())) => self.log.push("left".to_owned()),
            Some(Err(why)) => self.log.push(format!("not left: {why}")),
            None => {}
        }
        if let Some(Err(error)) = outcome {
            let error = error.to_string();
            self.log.push(format!("failed: {}", error.split(':').next().unwrap()));
        }
    }

    fn carry_out(&mut self, action: AgentAction) -> ActionResult {
        let (is_unreadable, is_unwritable) = (self.is_unreadable, self.is_unwritable);
        let unreadable = || match is_unreadable {
            true => Err(IpvsError::Unsettled.to_string()),
            false => Ok(()),
        };
        match action {
            AgentAction::ReadStore { whole } => {
                if whole {
                    self.log.push("full".to_owned());
                }
                ActionResult::ReadStore(match self.is_unavailable {
                    true => Err(StoreError::Unavailable { reason: "no route".to_owned() }.into()),
                    false => Ok(self.view.values_of(&std::mem::take(&mut self.changed))),
                })
            }
            AgentAction::ReadAll => {
                let inputs = self.agent.inputs(self.now);
                let standing = self.kernel.keys();
                let services = concerned(standing, inputs, self.agent.store());
                let table = TableReading(self.read(&services));
                ActionResult::Read(unreadable().map(|()| (services, table)))
            }
            AgentAction::Read(services) => {
                let table = TableReading(self.read(&services));
                ActionResult::Read(unreadable().map(|()| (services, table)))
            }
            AgentAction::LookFlushed => ActionResult::LookFlushed(self.kernel.is_empty()),
            AgentAction::Look => {
                let prints = self.kernel.iter().map(|(key, actual)| (*key, print_of(actual)));
                let unexpected = self.agent.unexpected(&prints.collect());
                ActionResult::Look(Ok(unexpected), Duration::ZERO)
            }
            AgentAction::ReadDaemons => {
                let running = match self.are_daemons_unreadable {
                    true => Err(IpvsError::RepliesLost.to_string()),
                    false => Ok(self.daemons.clone()),
                };
                ActionResult::ReadDaemons(running, true)
            }
            AgentAction::ChangeDaemons(changes) => {
                let refused = self.make_all(&changes);
                let refused = refused.iter().map(ToString::to_string).collect();
                ActionResult::ChangeDaemons(refused, self.daemons.clone(), true)
            }
            AgentAction::Own(services) => {
                let ports: Vec<String> = services.iter().map(|s| s.port.to_string()).collect();
                self.log.push(format!("own {}", ports.join(" ")).trim_end().to_owned());
                // The view has it all the same (`Store::put_owned`).
                self.view.owned.insert(1, services);
                ActionResult::Own(match is_unwritable {
                    true => Err(StoreError::Io {
                        action: "cannot write",
                        path: "owned".into(),
                        source: std::io::ErrorKind::StorageFull.into(),
                    }
                    .into()),
                    false => Ok(()),
                })
            }
            AgentAction::Apply(changes) => match self.loses_after.take() {
                Some(after) => {
                    self.make_all(&changes[..after.min(changes.len())]);
                    ActionResult::Apply(Err(IpvsError::RepliesLost.to_string()))
                }
                None => ActionResult::Apply(Ok(self.make_all(&changes))),
            },
        }
    }

    fn read(&self, services: &BTreeSet<ServiceKey>) -> KernelTable {
        let meant = self.kernel.iter().filter(|(key, _)| services.contains(key));
        meant.map(|(key, actual)| (*key, actual.clone())).collect()
    }

    fn make_all(&mut self, changes: &[Change]) -> Vec<ChangeFailure> {
        let mut failures = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let line = change_line(change);
            let is_refused = !self.refuses.is_empty() && line.starts_with(self.refuses);
            let made = !is_refused && self.make(change);
            self.log.push(if made { line } else { format!("refused: {line}") });
            if !made {
                let operation = Operation::of(change);
                failures.push(ChangeFailure { index, operation, errno: 12, text: None });
            }
        }
        failures
    }

    /// Makes a change as the kernel does; false if it refuses it.
    fn make(&mut self, change: &Change) -> bool {
        match change {
            Change::StartDaemon(daemon) => {
                let is_free = self.daemons.iter().all(|d| d.role != daemon.role);
                self.daemons.extend(Some(daemon.clone()).filter(|_| is_free));
                return is_free;
            }
            Change::StopDaemon(role, _) => {
                self.daemons.retain(|daemon| daemon.role != *role);
                return true;
            }
            _ => {}
        }
        let key = key_of(change).unwrap();
        let service: Option<&Actual> = self.kernel.get(&key);
        let has = |at| service.is_some_and(|service| service.destinations.contains_key(at));
        let possible = match change {
            Change::AddService(_) => service.is_none(),
            Change::AddDestination(_, d) => service.is_some() && !has(&d.id),
            Change::EditDestination(_, d) => has(&d.id),
            Change::DeleteDestination(_, at) => has(at),
            _ => service.is_some(),
        };
        if possible {
            passes::apply(&mut self.kernel, key, change);
        }
        possible
    }
}
