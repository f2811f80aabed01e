//! The node's worker: cvipd's state and schedule of dumps, and simulated sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::{ListenersChange, LookOutcome, NodeAction, NodeState, StoreRead};
use cvip::listeners::{EventCoverage, EventSource, Listener, ListenerState, Ranges, SocketEvent};
use cvip::node::System;
use cvip::protocol::Protocol;
use cvip::store::{Fault, Refreshed, StoreError};

use super::post::{MainMessage, ToNode, Worker};
use super::{Environment, Identity};
use crate::cluster::machine::Surroundings;
use crate::store::{Poll, StoreClient, StoreWrite, ViewId, WriteId, WriteResult};
use crate::time::SimTime;
use cvip::clock::Instant;

/// What a dump costs of processor time.
const COST: Duration = Duration::from_micros(30);

/// One real server's worker.
pub struct Node {
    me: Identity,
    /// The node's state; none before the store was read once.
    pub state: Option<NodeState>,
    /// How many dumps of TCP it was told of.
    dumps: u64,
    conf: Arc<Conf>,
    watch: Watch,
    view: ViewId,
    doing: Doing,
    began: Instant,
    written: Option<WriteResult>,
}

/// What it is in the middle of.
enum Doing {
    Idle,
    /// The store's view is refreshed; for the first time.
    Opening,
    Reading,
    Putting(WriteId),
    Repairing(WriteId, Fault),
    /// Whatever the state decides.
    Acting,
}

/// What watches listeners, as cvipd's `ListenerWatch`.
struct Watch {
    state: ListenerState,
    source: EventSource,
    ranges: Ranges,
    dumped: [bool; 3],
    sockets: Vec<Listener>,
    dumps: u64,
    changed: bool,
    /// Its programs in the kernel, where that has socket events.
    events: Option<u64>,
}

impl Node {
    /// One that has seen nothing yet.
    pub fn new(
        me: Identity,
        conf: Arc<Conf>,
        host: &mut Surroundings,
        client: &mut StoreClient,
        now: SimTime,
    ) -> Node {
        let events = host.has_socket_events.then(|| host.kernel.sockets.attach());
        let (source, covered) = match events {
            Some(_) => (
                EventSource::CgroupBpf { what: "simulated events".to_owned() },
                EventCoverage { tcp: true, udp: true },
            ),
            None => {
                let why = "no simulated events".to_owned();
                (EventSource::Polling { why }, EventCoverage::default())
            }
        };
        Node {
            me,
            state: None,
            dumps: 0,
            conf,
            watch: Watch {
                state: ListenerState::new(now.instant(), covered),
                source,
                ranges: Ranges::new(),
                dumped: [false; 3],
                sockets: Vec::new(),
                dumps: 0,
                changed: false,
                events,
            },
            view: client.open_view(cvip::store::Interest::Node(me.node), now),
            doing: Doing::Opening,
            began: now.instant(),
            written: None,
        }
    }

    /// Its view of the store.
    pub fn view(&self) -> ViewId {
        self.view
    }

    /// Its programs in the kernel, where that has socket events.
    pub fn events(&self) -> Option<u64> {
        self.watch.events
    }

    /// It waits for this write.
    pub fn waits_for(&self, id: WriteId) -> bool {
        matches!(&self.doing, Doing::Putting(of) | Doing::Repairing(of, _) if *of == id)
    }

    /// Takes the outcome of the write that it waits for.
    pub fn written(&mut self, outcome: WriteResult) {
        self.written = Some(outcome);
    }

    /// Goes on with what it is doing, takes messages, and steps.
    pub fn run(&mut self, env: &mut Environment<'_>) {
        let mut has_stepped = false;
        loop {
            match std::mem::replace(&mut self.doing, Doing::Idle) {
                Doing::Idle => {
                    if let Some(message) = env.post.node.pop_front() {
                        self.began = env.now.instant();
                        self.handle(message);
                    } else if !has_stepped {
                        has_stepped = true;
                        self.began = env.now.instant();
                        self.state_mut().step();
                        self.doing = Doing::Acting;
                    } else {
                        break;
                    }
                }
                Doing::Opening => match env.client.refresh(self.view, env.now) {
                    Poll::Done(outcome) => {
                        let system = system(self.me.node);
                        let conf = Arc::clone(&self.conf);
                        let source = self.watch.source.to_string();
                        let incarnation = self.me.incarnation;
                        let state = NodeState::new(conf, system, source, incarnation, self.began);
                        self.state = Some(state);
                        self.store_read(outcome, env);
                        env.post.tell(cvip::cores::SupervisorInput::NodeStarted(Ok(())), env.now);
                    }
                    Poll::Wait(until) => {
                        env.post.wake(Worker::Node, until);
                        return self.doing = Doing::Opening;
                    }
                },
                Doing::Reading => match env.client.refresh(self.view, env.now) {
                    Poll::Done(outcome) => {
                        self.store_read(outcome, env);
                        self.doing = Doing::Acting;
                    }
                    Poll::Wait(until) => {
                        env.post.wake(Worker::Node, until);
                        return self.doing = Doing::Reading;
                    }
                },
                Doing::Putting(id) => match self.written.take() {
                    Some(outcome) => {
                        let outcome = outcome.map(|_| ());
                        if outcome.is_err() {
                            env.client.invalidate(self.view, env.now);
                        }
                        let now = self.began;
                        self.state_mut().put(outcome.map_err(Into::into), now);
                        self.doing = Doing::Acting;
                    }
                    None => return self.doing = Doing::Putting(id),
                },
                Doing::Repairing(id, fault) => match self.written.take() {
                    Some(outcome) => {
                        let outcome = outcome.map(|_| ()).map_err(Into::into);
                        self.state_mut().repaired(&fault, outcome);
                        self.doing = Doing::Acting;
                    }
                    None => return self.doing = Doing::Repairing(id, fault),
                },
                Doing::Acting => self.act(env),
            }
        }
        let now = env.now.instant();
        let own = self.state.as_ref().map(NodeState::due);
        let dump = match self.watch.changed {
            true => Some(now),
            false => self.watch.state.next_dump_at(),
        };
        let due = own.into_iter().chain(dump).min().map_or(SimTime::NEVER, SimTime::of);
        env.post.at(Worker::Node, due, env.now);
    }

    fn state_mut(&mut self) -> &mut NodeState {
        self.state.as_mut().expect("it was opened first")
    }

    fn store_read(&mut self, outcome: Result<Refreshed, StoreError>, env: &Environment<'_>) {
        let (view, now) = (env.client.state(self.view), self.began);
        let state = self.state_mut();
        let read = outcome.map(|Refreshed { mut changed, faults }| {
            changed.retain(|key| state.follows(*key));
            StoreRead { values: view.values_of(&changed), faults }
        });
        let is_read = read.is_ok();
        state.store_read(read.map_err(Into::into), now);
        assert!(!is_read || state.is_view_of(view), "both are told the same");
    }

    fn handle(&mut self, message: ToNode) {
        let now = self.began;
        let state = self.state_mut();
        match message {
            ToNode::Reload(conf) => return state.reload(conf, now),
            ToNode::Leave => return state.leave(now),
            ToNode::Direct(directing) => state.direct(directing, now),
            ToNode::Vouch(number) => state.vouch(number, now),
            ToNode::Obey(obeys) => state.obey(obeys, now),
        }
        self.doing = Doing::Acting;
    }

    /// Carries out what the state decides, until it waits for something.
    fn act(&mut self, env: &mut Environment<'_>) {
        let now = self.began;
        loop {
            let Some(action) = self.state_mut().next(now) else { return };
            match action {
                NodeAction::ReadStore => return self.doing = Doing::Reading,
                NodeAction::Repair(fault) => {
                    let id = env.client.begin(self.view, StoreWrite::Repair(fault.key), env.now);
                    return self.doing = Doing::Repairing(id, fault);
                }
                NodeAction::Put(record) => {
                    let write = StoreWrite::PutNode(Arc::new(*record));
                    return self.doing =
                        Doing::Putting(env.client.begin(self.view, write, env.now));
                }
                NodeAction::LookAround(ranges) => {
                    let seen = env.host.dump_all(&ranges, env.now).map_err(|e| e.to_string());
                    let system = Some(system(self.me.node));
                    let state = self.state_mut();
                    let listening = seen.map(|listeners| state.listening(&listeners));
                    state.looked_around(cvip::cores::Surroundings { system, listening });
                }
                NodeAction::Look => {
                    let is_changed = self.watch.step(env);
                    let state = self.state.as_mut().expect("it was opened first");
                    let crowded = match self.dumps == self.watch.dumps {
                        true => None,
                        false => state.crowded(&self.watch.sockets),
                    };
                    self.dumps = self.watch.dumps;
                    let listeners = self.watch.change(state);
                    let look = LookOutcome { is_changed, listeners, crowded, ..Default::default() };
                    state.looked(look, now);
                }
                NodeAction::ReadQueues(ports) => {
                    for port in ports {
                        let waiting = env.host.kernel.sockets.unaccepted(port);
                        let state = self.state.as_mut().expect("it was opened first");
                        let waiting = state.waiting(port, &waiting, &self.watch.sockets);
                        state.queue_read(port, Ok(waiting), now);
                    }
                    self.state_mut().queues_read(COST, now);
                }
                NodeAction::Count(ranges) => {
                    let sockets = &env.host.kernel.sockets;
                    let of = |protocol: Protocol| {
                        let ports =
                            ranges.of(protocol).iter().flat_map(|(first, last)| *first..=*last);
                        let counts = ports.map(|port| (port, sockets.connections(protocol, port)));
                        (protocol, counts.filter(|(_, count)| *count > 0).collect())
                    };
                    let counts: BTreeMap<_, BTreeMap<u16, usize>> =
                        Protocol::ALL.into_iter().map(of).collect();
                    self.state_mut().counted(&counts, COST, now);
                }
                NodeAction::Check(_) => {}
                NodeAction::Watch(ranges) => {
                    self.watch.set_ranges(ranges, now, env.host);
                    let state = self.state.as_mut().expect("it was opened first");
                    state.watched(self.watch.change(state));
                }
                NodeAction::SetEligible(eligible) => {
                    if self.watch.state.set_eligible(eligible) {
                        self.watch.remember(env.host);
                    }
                }
                NodeAction::TellLeft(left) => {
                    env.post.tell_main(MainMessage::Left(left), env.now);
                }
                NodeAction::Report(connections) => {
                    env.post.tell_main(MainMessage::Connections(connections), env.now);
                }
            }
        }
    }
}

impl Watch {
    fn set_ranges(&mut self, ranges: Ranges, now: Instant, host: &mut Surroundings) {
        if ranges != self.ranges {
            if let Some(watch) = self.events {
                host.kernel.sockets.watch(watch, ranges.clone());
            }
            self.changed |= self.state.set_ranges(now, &ranges);
            self.ranges = ranges;
        }
    }

    /// What leads from the listeners that the state knows to those that are there.
    fn change(&self, state: &NodeState) -> ListenersChange {
        let seen = self.state.observed().iter().map(Listener::identity);
        ListenersChange::between(state.listeners(), seen, self.is_settled())
    }

    fn is_settled(&self) -> bool {
        let flagged = |protocol: &Protocol| !self.ranges.of(*protocol).is_empty();
        Protocol::ALL.iter().filter(|p| flagged(p)).all(|p| self.dumped[*p as usize])
    }

    /// Takes the events and makes the dumps that are due; true if others are observed.
    fn step(&mut self, env: &mut Environment<'_>) -> bool {
        let now = env.now.instant();
        let sockets = &mut env.host.kernel.sockets;
        let events = self.events.map(|watch| sockets.take_events(watch)).unwrap_or_default();
        for event in events {
            match event {
                SocketEvent::Arrival(protocol) => self.state.event(now, protocol),
                SocketEvent::Departure { cookie } => self.state.released(now, cookie),
                _ => {
                    Protocol::ALL.into_iter().for_each(|p| self.state.event(now, p));
                }
            }
        }
        let mut looked = false;
        for protocol in Protocol::ALL {
            if self.state.is_due(now, protocol) {
                let Ok(sockets) = env.host.kernel.sockets.dump(protocol, &self.ranges, env.now)
                else {
                    self.state.failed(now, protocol, false);
                    continue;
                };
                self.changed |= self.state.dumped(now, protocol, &sockets, COST);
                looked = true;
                self.dumped[protocol as usize] = true;
                if protocol == Protocol::Tcp {
                    self.sockets = sockets;
                    self.dumps += 1;
                }
            }
        }
        if looked {
            self.remember(env.host);
        }
        std::mem::take(&mut self.changed)
    }

    fn remember(&self, host: &mut Surroundings) {
        if let Some(watch) = self.events {
            host.kernel.sockets.remember(watch, self.state.eligible_cookies());
        }
    }
}

/// What a node knows of itself.
fn system(node: u32) -> System {
    let devices = [(crate::cluster::conf::addr_of(node), 2)].into();
    let (users, names) = (BTreeMap::new(), BTreeMap::new());
    System { node, devices, ephemeral: (32768, 60999), uid_min: 1000, users, names }
}
