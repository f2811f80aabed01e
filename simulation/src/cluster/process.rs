//! One cvipd: its workers, each a state of cvipd's own with a driver of ours, and what passes
//! between them.

pub mod addresses;
pub mod main_thread;
pub mod monitor;
pub mod node;
pub mod post;
pub mod sender;
pub mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::director::DirectorEvent;
use cvip::heartbeat::Nonce;
use cvip::recorder::Core;
use cvip::store::Interest;

use self::addresses::Addresses;
use self::main_thread::{MainThread, owns_services};
use self::monitor::Monitor;
use self::node::Node;
use self::post::{Post, Worker};
use self::sender::Sender;
use self::table::Table;
use super::machine::Surroundings;
use super::packet::{Packet, Place};
use crate::random::Random;
use crate::store::{ClientId, Poll, StoreClient, ViewId, WriteId, WriteResult};
use crate::time::SimTime;

/// How often a lease that is awaited is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// After so many runs of workers their states are restored, where they are.
const RESTORED_EVERY: u64 = 61;

/// What a worker has at hand while it runs.
pub struct Environment<'a> {
    /// The time by the machine's clock.
    pub now: SimTime,
    /// Messages to other workers.
    pub post: &'a mut Post,
    /// The connection to etcd.
    pub client: &'a mut StoreClient,
    /// The kernel, and what else is outside of the process.
    pub host: &'a mut Surroundings,
    /// What leaves the machine.
    pub sent: &'a mut Vec<(Place, Packet)>,
    /// What is told of the run.
    pub told: &'a mut Vec<Told>,
}

/// What a process tells of itself.
#[derive(Clone, Debug)]
pub enum Told {
    /// An event of its event log.
    Event(DirectorEvent),
    /// Anything else, for the timeline.
    Note(String),
    /// Its director's claim was won, for a term, and it knew of this latest one when it claimed.
    Won {
        /// The term that the claim gave.
        term: u64,
        /// The latest term of its set that it knew.
        known: u64,
    },
    /// Its director has this role.
    Role(cvip::director::election::ElectionRole),
    /// Changes that the kernel's table took.
    Applied(usize),
    /// It did not start: another cvipd of its node holds the lease, as far as etcd knows. A new leader
    /// of etcd lets the lease of a machine that lost its power last longer than cvipd waits for.
    NotStarted(String),
    /// It ends: in good order, or for this reason.
    Ended(Result<(), String>),
    /// It has left the cluster for good.
    Left,
}

/// Which start of which node's cvipd it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Node number.
    pub node: u32,
    /// Which start.
    pub incarnation: u64,
    /// Of its heartbeats.
    pub nonce: Nonce,
    /// When it started, by the machine's clock.
    pub started: SimTime,
}

/// One cvipd.
pub struct Process {
    /// Node number.
    pub node: u32,
    /// Of its heartbeats.
    nonce: Nonce,
    /// cvip.conf, as it was when it started.
    conf: Arc<Conf>,
    /// Messages between its workers.
    pub post: Post,
    /// Its connection to etcd.
    pub client: StoreClient,
    /// Which client of etcd it is.
    pub client_id: ClientId,
    /// The supervisor's view of the store.
    view: ViewId,
    /// The views whose workers were woken, and have not refreshed them.
    woken: BTreeSet<ViewId>,
    /// How often a worker has run, where its state is written and restored now and then.
    runs: Option<u64>,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// The store is read, for the incarnation.
    Reading,
    /// The lease is being taken.
    Leasing(Identity),
    /// Its workers run.
    Running(Box<Workers>),
}

/// The workers of a process.
pub struct Workers {
    /// The supervisor.
    pub main: MainThread,
    /// The address manager.
    pub addresses: Addresses,
    /// The real server's.
    pub node: Option<Node>,
    /// The heartbeat.
    pub sender: Option<Sender>,
    /// The director's monitor.
    pub monitor: Option<Monitor>,
    /// The director's table, or that it will be made once its role is known.
    pub table: Option<Option<Table>>,
    /// A table that is not this node's any more.
    pub retired: Option<Table>,
}

fn restore<C: Core>(state: &mut C) {
    let text = serde_json::to_string(state).expect("every state can be written");
    *state = serde_json::from_str(&text).expect("what was written can be read");
}

impl Process {
    /// Starts one, with the configuration that its machine's file has.
    ///
    /// # Errors
    /// That has faults, or gives the node no part.
    pub fn start(
        node: u32,
        mut client: StoreClient,
        client_id: ClientId,
        host: &Surroundings,
        mut random: Random,
        restores: bool,
        now: SimTime,
    ) -> Result<Process, String> {
        let conf = host.files.conf.as_ref().ok_or("cvip.conf has faults")?;
        if !conf.nodes().contains(&node) {
            return Err("cvip.conf gives the node no part".to_owned());
        }
        let conf = Arc::clone(conf);
        let view = client.open_view(Interest::Node(node), now);
        let nonce = Nonce(random.bytes());
        let mut post = Post::new(random);
        post.wake(Worker::Main, now);
        Ok(Process {
            node,
            nonce,
            conf,
            post,
            client,
            client_id,
            view,
            woken: BTreeSet::new(),
            runs: restores.then_some(0),
            stage: Stage::Reading,
        })
    }

    /// Its workers, once they run.
    pub fn workers(&self) -> Option<&Workers> {
        match &self.stage {
            Stage::Running(workers) => Some(workers),
            _ => None,
        }
    }

    fn workers_mut(&mut self) -> Option<&mut Workers> {
        match &mut self.stage {
            Stage::Running(workers) => Some(workers),
            _ => None,
        }
    }

    /// Goes on with its start: the store is read or unavailable, then the lease is waited for.
    fn go_on(&mut self, host: &mut Surroundings, told: &mut Vec<Told>, now: SimTime) {
        match self.stage {
            Stage::Reading => {
                if let Poll::Wait(until) = self.client.refresh(self.view, now) {
                    return self.post.wake(Worker::Main, until);
                }
                let state = self.client.state(self.view);
                let last = host.files.incarnation;
                let incarnation = state.next_incarnation(self.node, last, host.unix_time(now));
                host.files.write_incarnation(incarnation);
                self.client.hold_lease(incarnation, now);
                let (node, nonce) = (self.node, self.nonce);
                self.stage = Stage::Leasing(Identity { node, incarnation, nonce, started: now });
                self.post.wake(Worker::Main, now);
            }
            Stage::Leasing(me) => match self.client.lease_taken(now) {
                None => self.post.wake(Worker::Main, now + LOOK_EVERY),
                Some(Err(error)) => told.push(Told::NotStarted(error.to_string())),
                Some(Ok(())) => {
                    let conf = Arc::clone(&self.conf);
                    let me = Identity { started: now, ..me };
                    let addresses = Addresses::open(self.node, Arc::clone(&conf), host, now);
                    let is_former =
                        !conf.is_director(self.node) && owns_services(self.node, &self.client);
                    let main = MainThread::new(me, conf, is_former, now);
                    self.stage = Stage::Running(Box::new(Workers {
                        main,
                        addresses,
                        node: None,
                        sender: None,
                        monitor: None,
                        table: None,
                        retired: None,
                    }));
                    for worker in [Worker::Main, Worker::Addresses] {
                        self.post.wake(worker, now);
                    }
                }
            },
            Stage::Running(_) => {}
        }
    }

    /// Wakes the workers whose part of the kernel has something to tell.
    pub fn notice(&mut self, host: &Surroundings, now: SimTime) {
        let Some(workers) = self.workers() else { return };
        let is_notified = host.kernel.network.notified(workers.addresses.watch()).is_some();
        let events = workers.node.as_ref().and_then(Node::events);
        if is_notified {
            self.post.soon(Worker::Addresses, now);
        }
        if events.is_some_and(|watch| host.kernel.sockets.told(watch).is_some()) {
            self.post.soon(Worker::Node, now);
        }
    }

    /// Its descriptors are closed: it has ended.
    pub fn close(&self, host: &mut Surroundings) {
        let Some(workers) = self.workers() else { return };
        host.kernel.network.unsubscribe(workers.addresses.watch());
        if let Some(watch) = workers.node.as_ref().and_then(Node::events) {
            host.kernel.sockets.detach(watch);
        }
    }

    /// When something is due.
    pub fn due(&self) -> SimTime {
        self.post.due().min(self.client.due())
    }

    /// Runs what is due.
    pub fn step(
        &mut self,
        host: &mut Surroundings,
        sent: &mut Vec<(Place, Packet)>,
        told: &mut Vec<Told>,
        now: SimTime,
    ) {
        if self.client.due() <= now {
            self.client.tick(now);
        }
        self.wake_for_store(now);
        while let Some(worker) = self.post.next(now) {
            match &mut self.stage {
                Stage::Running(workers) => {
                    if let Some(runs) = &mut self.runs {
                        *runs += 1;
                        if *runs % RESTORED_EVERY == 0 {
                            workers.restore();
                        }
                    }
                    let (post, client) = (&mut self.post, &mut self.client);
                    let mut env = Environment { now, post, client, host, sent, told };
                    workers.run(worker, &mut env);
                }
                _ => self.go_on(host, told, now),
            }
            self.wake_for_store(now);
        }
        for (server, request) in self.client.take_requests() {
            sent.push((Place::Server(server), Packet::StoreRequest(self.client_id, request)));
        }
    }

    /// Wakes the workers for which the store has something new.
    fn wake_for_store(&mut self, now: SimTime) {
        let woken: BTreeSet<ViewId> = self.client.woken().collect();
        let outcomes = self.client.take_outcomes();
        let new = woken.difference(&self.woken).copied();
        match &mut self.stage {
            Stage::Running(workers) => {
                for worker in new.filter_map(|view| workers.of_view(view)) {
                    self.post.soon(worker, now);
                }
                for (id, outcome) in outcomes {
                    if let Some(worker) = workers.take_outcome(id, outcome) {
                        self.post.soon(worker, now);
                    }
                }
            }
            _ if new.count() > 0 => self.post.soon(Worker::Main, now),
            _ => {}
        }
        self.woken = woken;
    }

    /// Takes a packet that arrived.
    pub fn receive(&mut self, packet: Packet, from: Place, now: SimTime) {
        match packet {
            Packet::StoreAnswer(client, answer) => {
                if client == self.client_id {
                    self.client.receive(answer, now);
                    self.wake_for_store(now);
                }
            }
            packet => {
                let workers = self.workers_mut();
                if let Some(monitor) = workers.and_then(|workers| workers.monitor.as_mut()) {
                    monitor.receive(packet, from);
                    self.post.soon(Worker::Monitor, now);
                }
            }
        }
    }

    /// A server of etcd has closed the connection.
    pub fn lost(&mut self, server: usize, now: SimTime) {
        self.client.lost(server, now);
        self.wake_for_store(now);
    }
}

impl Workers {
    /// Writes what is recorded of cvipd and restores it, as a replay does: that changes nothing.
    fn restore(&mut self) {
        restore(&mut self.main.state);
        restore(&mut self.addresses.state);
        if let Some(monitor) = &mut self.monitor {
            restore(&mut monitor.state);
        }
        let nodes = self.node.iter_mut();
        nodes.filter_map(|node| node.state.as_mut()).for_each(restore);
        let tables = self.table.iter_mut().flatten().chain(&mut self.retired);
        tables.filter_map(|table| table.state.as_mut()).for_each(restore);
    }

    fn of_view(&self, view: ViewId) -> Option<Worker> {
        let is = |other: Option<ViewId>| other == Some(view);
        if is(self.monitor.as_ref().map(Monitor::view)) {
            return Some(Worker::Monitor);
        }
        if is(self.node.as_ref().map(Node::view)) {
            return Some(Worker::Node);
        }
        let table = self.table.as_ref().and_then(Option::as_ref);
        is(table.map(Table::view)).then_some(Worker::Table)
    }

    fn take_outcome(&mut self, id: WriteId, outcome: WriteResult) -> Option<Worker> {
        if let Some(node) = &mut self.node
            && node.waits_for(id)
        {
            node.written(outcome);
            return Some(Worker::Node);
        }
        if let Some(monitor) = &mut self.monitor
            && monitor.waits_for(id)
        {
            monitor.written(outcome);
            return Some(Worker::Monitor);
        }
        None
    }

    fn run(&mut self, worker: Worker, env: &mut Environment<'_>) {
        match worker {
            Worker::Main => main_thread::run(self, env),
            Worker::Addresses => self.addresses.run(env),
            Worker::Node => self.node.iter_mut().for_each(|node| node.run(env)),
            Worker::Sender => self.sender.iter_mut().for_each(|sender| sender.run(env)),
            Worker::Monitor => self.monitor.iter_mut().for_each(|monitor| monitor.run(env)),
            Worker::Table => {
                if let Some(retired) = &mut self.retired
                    && retired.run(env)
                {
                    self.retired = None;
                }
                if self.retired.is_none()
                    && let Some(Some(table)) = &mut self.table
                {
                    table.run(env);
                }
            }
        }
    }
}
