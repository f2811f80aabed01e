//! Sequences of what a node sees and is told, and what it writes and tells.

use super::*;
use crate::checks::settings::{Check, Kind};
use crate::conf::{Cvip, DirectorNode, RealServer, Routing, ServiceConf};
use crate::listeners::Ranges;
use crate::ports::{FlagSet, PortFlag};
use crate::protocol::Protocol;
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;
use crate::store::{DrainOrder, DrainTarget, ServiceKey, StoreError};

const NODE: u32 = 2;
const MS: Duration = Duration::from_millis(1);

/// What happens to a node.
enum Input {
    Nothing,
    /// Processes listen on these TCP ports, and on no others.
    Listen(&'static [u16]),
    /// The listeners cannot be told from those that are not there yet.
    Unsettled,
    /// The store answers like this from now on.
    Store(Answer),
    /// Another process writes this node's record, as this version.
    Foreign(u64, u64),
    /// Another process removes this node's record.
    Removed,
    /// This node's stored record cannot be read, and repairing it succeeds or fails.
    Corrupt(bool),
    /// Ports up to this one are flagged.
    Flag(u16),
    Drain(bool),
    Connections(usize),
    Leave,
    Direct(bool),
    Vouch(u32),
}

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Takes,
    Refuses,
    Unavailable,
}

/// A node's kernel and store, and a clock.
struct World {
    state: Recorded<NodeState>,
    tape: Tape,
    start: Instant,
    now: Instant,
    store: StoreState,
    changed: BTreeSet<Key>,
    faults: Vec<Fault>,
    answer: Answer,
    repairs: bool,
    listeners: Vec<Listener>,
    /// The listeners are others than in the last look.
    are_others: bool,
    is_settled: bool,
    unhealthy: Unhealthy,
    /// Connections that wait on port 80.
    waiting: Vec<Unaccepted>,
    connections: usize,
    watched: Ranges,
    outputs: Vec<String>,
}

fn conf() -> Arc<Conf> {
    let server =
        |node: u8| RealServer { node: node.into(), addr: [10, 0, 0, node].into(), weight: 1 };
    let director =
        |node| DirectorNode { node, garp_interface: "eth0".to_owned(), sync_interface: None };
    let cvip = Cvip {
        addr: [10, 0, 0, 100].into(),
        gateway: None,
        directors: vec![director(1)],
        real_servers: vec![server(1), server(2)],
        services: Vec::new(),
    };
    Arc::new(Conf { routing: Routing::Dr, cvips: vec![cvip] })
}

fn system() -> System {
    System {
        node: NODE,
        devices: BTreeMap::new(),
        ephemeral: (32768, 60999),
        uid_min: 1000,
        users: BTreeMap::new(),
        names: BTreeMap::new(),
    }
}

fn listener(port: u16) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        addr: [0, 0, 0, 0].into(),
        port,
        v6only: false,
        device: 0,
        uid: 0,
        cookie: port.into(),
        queue: 0,
        backlog: 5,
    }
}

fn flags(end: u16) -> FlagSet {
    [PortFlag { protocol: Protocol::Tcp, start: 1, end, weight: 1 }].into_iter().collect()
}

fn recorded(ports: &[u16], incarnation: u64, sequence: u64) -> NodeRecord {
    let cvip = [10, 0, 0, 100].into();
    let service = |port| ServiceKey { cvip, protocol: Protocol::Tcp, port };
    let registrations = ports.iter().map(|port| Registration::new(service(*port), 1)).collect();
    NodeRecord { registrations, ..NodeRecord::empty(NODE, incarnation, sequence) }
}

fn ports(record: &NodeRecord) -> String {
    let ports: Vec<String> =
        record.registrations.iter().map(|r| r.service.port.to_string()).collect();
    ports.join(",")
}

/// Each world is replayed once it has been played, and decides as it did.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tape.check(&mut self.state);
        }
    }
}

impl World {
    /// A cvipd of incarnation 5, ports up to 100 are flagged, and perhaps a record of an earlier
    /// cvipd in the store.
    fn new(stored: Option<NodeRecord>) -> World {
        let now = Instant::now();
        let mut store = StoreState::default();
        store.flags.insert(Scope::Cluster, flags(100));
        store.nodes.extend(stored.map(|record| (NODE, record)));
        let changed = [Key::Flags(Scope::Cluster), Key::Node(NODE)].into();
        let (recorder, tape) = Tape::new();
        let state = NodeState::new(conf(), system(), "polling".to_owned(), 5, now);
        World {
            state: Recorded::new(state, &recorder),
            tape,
            start: now,
            now,
            store,
            changed,
            faults: Vec::new(),
            answer: Answer::Takes,
            repairs: true,
            listeners: Vec::new(),
            are_others: false,
            is_settled: true,
            unhealthy: Unhealthy::default(),
            waiting: Vec::new(),
            connections: 0,
            watched: Ranges::new(),
            outputs: Vec::new(),
        }
    }

    fn input(&mut self, input: &Input) {
        match *input {
            Input::Nothing => {}
            Input::Listen(ports) => {
                self.listeners = ports.iter().copied().map(listener).collect();
                (self.is_settled, self.are_others) = (true, true);
            }
            Input::Unsettled => self.is_settled = false,
            Input::Store(answer) => self.answer = answer,
            Input::Foreign(incarnation, sequence) => {
                self.store.nodes.insert(NODE, recorded(&[7], incarnation, sequence));
                self.changed.insert(Key::Node(NODE));
            }
            Input::Removed => {
                self.store.nodes.remove(&NODE);
                self.changed.insert(Key::Node(NODE));
            }
            Input::Corrupt(repairs) => {
                self.repairs = repairs;
                let (path, reason) = ("nodes/2".into(), "not JSON".to_owned());
                self.faults.push(Fault { key: Key::Node(NODE), path, set_aside: None, reason });
            }
            Input::Flag(end) => {
                self.store.flags.insert(Scope::Cluster, flags(end));
                self.changed.insert(Key::Flags(Scope::Cluster));
            }
            Input::Drain(drain) => {
                let target = DrainTarget { node: NODE, port: None };
                let order =
                    DrainOrder { reason: None, since: 0, deadline_s: None, by: String::new() };
                match drain {
                    true => self.store.drains.insert(target, order),
                    false => self.store.drains.remove(&target),
                };
                self.changed.insert(Key::Drains);
            }
            Input::Connections(connections) => self.connections = connections,
            Input::Leave => self.state.leave(self.now),
            Input::Direct(directing) => self.state.direct(directing, self.now),
            Input::Vouch(number) => self.state.vouch(number, self.now),
        }
    }

    fn say(&mut self, what: String) {
        let at = (self.now - self.start).as_millis();
        self.outputs.push(format!("{at} {what}"));
    }

    fn answer(&self) -> Result<(), StoreError> {
        match self.answer {
            Answer::Takes => Ok(()),
            Answer::Refuses => Err(StoreError::Refused {
                key: "nodes/2".to_owned(),
                reason: "too large".to_owned(),
            }),
            Answer::Unavailable => Err(StoreError::Unavailable { reason: "no route".to_owned() }),
        }
    }

    /// Does what the node asks for, as its driver does.
    fn carry_out(&mut self) {
        for turn in 0.. {
            assert!(turn < 100, "it never rests: {:?}", self.outputs);
            let Some(action) = self.state.next(self.now) else { return };
            match action {
                NodeAction::ReadStore => {
                    let outcome = match self.answer {
                        Answer::Unavailable => Err(self.answer().unwrap_err()),
                        _ => {
                            let (changed, faults) =
                                (mem::take(&mut self.changed), mem::take(&mut self.faults));
                            Ok(StoreRead { values: self.store.values_of(&changed), faults })
                        }
                    };
                    let is_read = outcome.is_ok();
                    self.state.store_read(outcome.map_err(Into::into), self.now);
                    assert!(!is_read || self.state.is_view_of(&self.store));
                }
                NodeAction::Repair(fault) => {
                    self.say(format!("repair {}", fault.path.display()));
                    let outcome =
                        if self.repairs { Ok(()) } else { Err(StoreError::Superseded(NODE)) };
                    self.state.repaired(fault, outcome.map_err(Into::into), self.now);
                }
                NodeAction::Put(record) => {
                    let (incarnation, sequence) = record.version();
                    let leaves = if record.leaving { " leaves" } else { "" };
                    let directs = if record.directing { " directs" } else { "" };
                    let outcome = self.answer();
                    let failed = if outcome.is_err() { " in vain" } else { "" };
                    let ports = ports(&record);
                    self.say(format!(
                        "put {incarnation}.{sequence} [{ports}]{leaves}{directs}{failed}"
                    ));
                    if outcome.is_ok() {
                        self.store.nodes.insert(NODE, *record);
                        // From the next refresh on it is in the view.
                        self.changed.insert(Key::Node(NODE));
                    }
                    self.state.put(outcome.map_err(Into::into), self.now);
                }
                NodeAction::LookAround(_) => {
                    let listening = Ok(self.state.listening(&self.listeners));
                    self.state.looked_around(Surroundings { system: None, listening }, self.now);
                }
                NodeAction::Count(ports) => {
                    let ports =
                        ports.of(Protocol::Tcp).iter().flat_map(|(start, end)| *start..=*end);
                    let counts = ports.map(|port| (port, self.connections)).collect();
                    let counts = [(Protocol::Tcp, counts)].into();
                    self.state.counted(counts, Duration::ZERO, self.now);
                }
                NodeAction::Watch(ranges) => {
                    if ranges != self.watched {
                        let last = ranges.of(Protocol::Tcp).last().map_or(0, |(_, end)| *end);
                        self.say(format!("watch {last}"));
                        self.watched = ranges;
                    }
                    self.state.watched(self.seen(), self.now);
                }
                NodeAction::Look => {
                    let look = LookOutcome {
                        is_changed: mem::take(&mut self.are_others),
                        listeners: self.seen(),
                        crowded: self.state.crowded(&self.listeners),
                        ..LookOutcome::default()
                    };
                    self.state.looked(look, self.now);
                }
                NodeAction::Check(targets) => {
                    for service in targets.0.keys() {
                        self.say(format!("check {}", service.port));
                    }
                    let unhealthy = Some(self.unhealthy.clone());
                    let unhealthy = unhealthy.filter(|now| now != self.state.unhealthy());
                    let outcomes = CheckOutcomes { is_changed: unhealthy.is_some(), unhealthy };
                    self.state.checked(outcomes, self.now);
                }
                NodeAction::ReadQueues(ports) => {
                    for port in ports {
                        let waiting = self.state.waiting(port, &self.waiting, &self.listeners);
                        self.state.queue_read(port, Ok(waiting), self.now);
                    }
                    self.state.queues_read(Duration::ZERO, self.now);
                }
                NodeAction::TellLeft(left) => {
                    let named = [80, 90]
                        .into_iter()
                        .filter(|p| left.contains(([10, 0, 0, 100].into(), (Protocol::Tcp, *p))));
                    let named: Vec<String> = named.map(|port| port.to_string()).collect();
                    let (incarnation, sequence) = left.record;
                    self.say(format!("left {incarnation}.{sequence} [{}]", named.join(",")));
                }
                NodeAction::Report(connections) => self.say(format!("report {connections}")),
                NodeAction::SetEligible(_) => {}
            }
        }
    }

    /// What the listeners are, as the driver says it.
    fn seen(&self) -> ListenersChange {
        let seen = self.listeners.iter().map(Listener::identity);
        ListenersChange::between(self.state.listeners(), seen, self.is_settled)
    }

    /// Runs until some milliseconds after the start.
    fn run(&mut self, until: u32) {
        let end = self.start + until * MS;
        loop {
            self.state.step(self.now);
            self.carry_out();
            let due = self.state.due();
            if due >= end {
                self.now = end;
                return;
            }
            self.now = due.max(self.now + MS);
        }
    }
}

/// Inputs at these milliseconds, and what comes out until the next one.
#[track_caller]
fn assert_sequence(stored: Option<NodeRecord>, steps: &[(u32, Input, &[&str])]) {
    let mut world = World::new(stored);
    for (index, (at, input, expected)) in steps.iter().enumerate() {
        world.now = world.start + *at * MS;
        world.input(input);
        world.run(steps.get(index + 1).map_or(at + 1, |(next, ..)| *next));
        assert_eq!(mem::take(&mut world.outputs), *expected, "step {index}");
    }
}

use Answer::*;
use Input::*;

#[test]
fn a_server_that_starts_joins_and_one_that_stops_leaves_and_is_told_first() {
    assert_sequence(
        None,
        &[
            (0, Nothing, &["0 watch 100", "0 left 5.2 []", "0 put 5.2 []"]),
            (100, Listen(&[80]), &["100 left 5.3 []", "100 put 5.3 [80]"]),
            (200, Listen(&[80]), &[]),
            (300, Listen(&[]), &["300 left 5.3 [80,90]", "300 left 5.4 [80,90]", "300 put 5.4 []"]),
            (
                400,
                Listen(&[80, 90]),
                &["400 left 5.4 []", "400 left 5.5 []", "400 put 5.5 [80,90]"],
            ),
        ],
    );
}

#[test]
fn a_start_does_not_look_like_a_leave() {
    assert_sequence(
        Some(recorded(&[80], 4, 9)),
        &[
            (0, Unsettled, &["0 watch 100"]),
            (50, Nothing, &[]),
            (100, Listen(&[80]), &["100 left 5.2 []", "100 put 5.2 [80]"]),
        ],
    );
}

#[test]
fn a_store_that_is_not_there_at_the_start_is_waited_for_and_asked_for_nothing() {
    assert_sequence(
        Some(recorded(&[80, 90], 4, 9)),
        &[
            (0, Store(Unavailable), &[]),
            (10, Listen(&[80]), &[]),
            (20, Direct(true), &[]),
            (
                30_000,
                Store(Takes),
                &["30000 watch 100", "30000 left 5.2 [90]", "30000 put 5.2 [80] directs"],
            ),
        ],
    );
}

#[test]
fn a_store_that_refuses_is_tried_less_and_less_often_and_at_once_for_what_is_new() {
    assert_sequence(
        None,
        &[
            (
                0,
                Store(Refuses),
                &[
                    "0 watch 100",
                    "0 left 5.2 []",
                    "0 put 5.2 [] in vain",
                    "1000 put 5.2 [] in vain",
                    "3000 put 5.2 [] in vain",
                    "7000 put 5.2 [] in vain",
                    "15000 put 5.2 [] in vain",
                    "30000 put 5.2 [] in vain",
                    "45000 put 5.2 [] in vain",
                ],
            ),
            (50_000, Listen(&[80]), &["50000 left 5.3 []", "50000 put 5.3 [80] in vain"]),
            (51_000, Store(Takes), &["60000 put 5.3 [80]"]),
            (65_500, Store(Refuses), &[]),
            (
                65_600,
                Listen(&[]),
                &[
                    "65600 left 5.3 [80,90]",
                    "65600 left 5.4 [80,90]",
                    "65600 put 5.4 [] in vain",
                    "66600 put 5.4 [] in vain",
                ],
            ),
            (67_000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_leave_while_the_store_is_unavailable_is_told_and_written_within_a_second_of_its_return() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80]"]),
            (100, Store(Unavailable), &[]),
            (
                200,
                Listen(&[]),
                &[
                    "200 left 5.2 [80,90]",
                    "200 left 5.3 [80,90]",
                    "200 put 5.3 [] in vain",
                    "1200 put 5.3 [] in vain",
                    "2200 put 5.3 [] in vain",
                ],
            ),
            (3000, Store(Takes), &["3200 put 5.3 []"]),
            (4000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_port_that_is_left_and_served_again_while_neither_is_written_is_in_a_later_record() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80]"]),
            (100, Store(Unavailable), &[]),
            (
                200,
                Listen(&[]),
                &["200 left 5.2 [80,90]", "200 left 5.3 [80,90]", "200 put 5.3 [] in vain"],
            ),
            // Heartbeats that say so may be lost, and with them that the port is named no longer.
            (
                300,
                Listen(&[80]),
                &["300 left 5.3 []", "300 left 5.4 []", "300 put 5.4 [80] in vain"],
            ),
            (400, Store(Takes), &["1300 put 5.4 [80]"]),
            (5000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_record_after_the_store_was_emptied_is_no_earlier_than_what_heartbeats_named() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80]"]),
            (100, Listen(&[]), &["100 left 5.2 [80,90]", "100 left 5.3 [80,90]", "100 put 5.3 []"]),
            (200, Removed, &["200 put 5.3 []"]),
            (300, Listen(&[80]), &["300 left 5.3 []", "300 left 5.4 []", "300 put 5.4 [80]"]),
            (5000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_record_that_is_too_large_for_the_store_names_what_fits() {
    let mut world = World::new(None);
    let cvip: std::net::IpAddr = [10, 0, 0, 100].into();
    world.input(&Flag(u16::MAX));
    world.listeners = (1..=60_000).map(listener).collect();
    for listener in &mut world.listeners {
        // Each is kept out, for being on an address that nothing reaches.
        (listener.addr, listener.uid) = ([127, 0, 0, 1].into(), u32::from(listener.port));
    }
    world.listeners[79] = listener(80);
    world.run(1);
    let record = world.store.nodes[&NODE].clone();
    assert_eq!(
        record.registrations,
        [Registration::new(ServiceKey { cvip, protocol: Protocol::Tcp, port: 80 }, 1)]
    );
    assert!(!record.refused.is_empty() && record.refused_more > 50_000);
    assert_eq!(world.outputs.len(), 3, "it is taken at once: {:?}", world.outputs);
}

#[test]
fn a_corrupt_record_is_written_anew_and_again_if_that_fails() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80]"]),
            (100, Corrupt(true), &["100 repair nodes/2", "100 left 5.3 []", "100 put 5.3 [80]"]),
            (200, Corrupt(false), &["200 repair nodes/2", "200 left 5.4 []", "200 put 5.4 [80]"]),
            (300, Nothing, &[]),
        ],
    );
}

#[test]
fn a_record_that_another_process_wrote_or_removed_is_written_again_as_a_later_version() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80]"]),
            (100, Foreign(4, 99), &["100 put 5.2 [80]"]),
            (200, Foreign(9, 7), &["200 left 10.1 []", "200 put 10.1 [80]"]),
            (
                300,
                Listen(&[]),
                &["300 left 10.1 [80,90]", "300 left 10.2 [80,90]", "300 put 10.2 []"],
            ),
            (400, Removed, &["400 put 10.2 []"]),
        ],
    );
}

#[test]
fn other_flags_are_watched_at_once_and_served_by_the_next_dump() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80, 90]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80,90]"]),
            (
                100,
                Flag(85),
                &["100 watch 85", "100 left 5.2 [90]", "100 left 5.3 [90]", "100 put 5.3 [80]"],
            ),
            (
                200,
                Flag(100),
                &["200 watch 100", "200 left 5.3 []", "200 left 5.4 []", "200 put 5.4 [80,90]"],
            ),
        ],
    );
}

#[test]
fn a_node_that_leaves_says_so_and_reports_its_connections_once_the_record_is_stored() {
    assert_sequence(
        None,
        &[
            (0, Listen(&[80]), &["0 watch 100", "0 left 5.2 []", "0 put 5.2 [80]"]),
            (100, Store(Unavailable), &[]),
            (150, Connections(3), &[]),
            (
                200,
                Leave,
                &[
                    "200 left 5.2 [80,90]",
                    "200 left 5.3 [80,90]",
                    "200 put 5.3 [] leaves in vain",
                    "1200 put 5.3 [] leaves in vain",
                ],
            ),
            (2000, Store(Takes), &["2200 put 5.3 [] leaves", "2200 report 3"]),
            (
                3000,
                Connections(0),
                &["3200 left 5.4 [80,90]", "3200 put 5.4 [] leaves", "3200 report 0"],
            ),
            (5000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_node_that_serves_nothing_leaves_at_once() {
    assert_sequence(
        None,
        &[
            (0, Nothing, &["0 watch 100", "0 left 5.2 []", "0 put 5.2 []"]),
            (100, Leave, &["100 left 5.3 []", "100 put 5.3 [] leaves", "100 report 0"]),
        ],
    );
}

#[test]
fn a_leave_beside_a_record_that_is_written_at_once_counts_its_connections_all_the_same() {
    let mut world = World::new(None);
    world.input(&Direct(true));
    world.input(&Listen(&[80]));
    world.run(100);
    world.connections = 3;
    // Both messages wait when the worker takes them.
    world.input(&Leave);
    world.input(&Vouch(1));
    world.carry_out();
    world.run(200);
    assert_eq!(world.outputs.last().unwrap(), "100 report 3");
    assert_eq!(ports(&world.store.nodes[&NODE]), "");
}

#[test]
fn what_a_drain_waits_for_is_counted_each_second_and_written() {
    let mut world = World::new(None);
    world.input(&Listen(&[80]));
    world.run(100);
    world.connections = 2;
    world.input(&Drain(true));
    world.run(1000);
    let counted = |world: &World| {
        world.store.nodes[&NODE].lingering.iter().map(|l| l.connections).sum::<u32>()
    };
    assert_eq!(counted(&world), 2);
    world.connections = 1;
    world.run(2500);
    assert_eq!(counted(&world), 1);
    world.input(&Drain(false));
    world.run(2600);
    assert!(world.store.nodes[&NODE].lingering.is_empty());
}

#[test]
fn a_server_that_hangs_and_one_that_fails_its_check_are_unhealthy_until_they_serve_again() {
    let mut world = World::new(None);
    let why = |world: &World| {
        let registrations = world.store.nodes[&NODE].registrations.iter();
        registrations.map(|r| r.unhealthy.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let reload = |world: &mut World| {
        let mut conf = (*conf()).clone();
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.check = Some(Check::new(Kind::Tcp));
        conf.cvips[0].services.push(service);
        world.state.reload(Arc::new(conf), world.now);
    };
    reload(&mut world);
    world.input(&Listen(&[80]));
    world.run(100);
    assert_eq!(why(&world), [""]);
    // Its queue is full in each dump, and no process accepts.
    world.listeners[0].queue = 6;
    let to = Unaccepted { addr: [10, 0, 0, 100].into(), device: 0, cookie: 7 };
    world.waiting.push(to);
    for ms in (100..3000).step_by(200) {
        world.run(ms);
    }
    assert!(why(&world)[0].starts_with("accepts no connection"), "{:?}", why(&world));
    world.listeners[0].queue = 0;
    world.waiting.clear();
    world.run(3200);
    assert_eq!(why(&world), [""]);
    let key = ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Protocol::Tcp, port: 80 };
    world.unhealthy.0.insert(key, "refused".to_owned());
    world.input(&Listen(&[80]));
    world.run(3400);
    assert_eq!(why(&world), ["refused"]);
    world.unhealthy.0.clear();
    world.input(&Listen(&[80]));
    world.run(3600);
    assert_eq!(why(&world), [""]);
}

#[test]
fn that_a_node_directs_and_vouches_is_written_without_a_look_at_anything() {
    let mut world = World::new(None);
    world.run(100);
    world.outputs.clear();
    world.input(&Vouch(1));
    world.carry_out();
    assert_eq!(world.outputs, [""; 0], "a standby vouches for nothing");
    world.input(&Direct(true));
    world.carry_out();
    assert_eq!(world.outputs.pop().unwrap(), "100 put 5.3 [] directs");
    world.input(&Vouch(2));
    world.carry_out();
    assert_eq!(world.outputs.pop().unwrap(), "100 put 5.4 [] directs");
    assert_eq!(world.store.nodes[&NODE].vouched, Some(2));
}
