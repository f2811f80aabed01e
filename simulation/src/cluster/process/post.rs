//! Messages between workers, and when each of them runs next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::{AddressMessage, MonitorMessage, SenderMessage, SupervisorInput, TableMessage};
use cvip::heartbeat::LeftPorts;
use cvip::store::AppliedOrders;

use crate::random::Random;
use crate::time::SimTime;

/// A worker of cvipd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worker {
    /// The supervisor.
    Main,
    /// The address manager.
    Addresses,
    /// The heartbeat.
    Sender,
    /// The monitor.
    Monitor,
    /// The table.
    Table,
    /// The node.
    Node,
}

const WORKERS: [Worker; 6] =
    [Worker::Main, Worker::Addresses, Worker::Sender, Worker::Monitor, Worker::Table, Worker::Node];

/// A thread that is woken runs after this.
const LATENCY: (u64, u64) = (20, 150);

/// What the main thread is told.
pub enum MainMessage {
    /// For the supervisor.
    Input(Box<SupervisorInput>),
    /// The ports that this node has left.
    Left(LeftPorts),
    /// How many connections a node that leaves still has.
    Connections(usize),
}

/// What the node's worker is told.
pub enum ToNode {
    /// Another configuration.
    Reload(Arc<Conf>),
    /// Whether this node is the active director.
    Direct(bool),
    /// What the table obeys.
    Obey(AppliedOrders),
    /// The director vouches for itself.
    Vouch(u32),
    /// Leave.
    Leave,
}

/// The inboxes, and the time at which each worker runs next.
pub struct Post {
    random: Random,
    wakes: [SimTime; 6],
    /// Threads run this much late, as on a machine that is busy.
    pub late: Duration,
    /// To the main thread.
    pub main: VecDeque<MainMessage>,
    /// To the address manager.
    pub addresses: VecDeque<AddressMessage>,
    /// To the heartbeat sender.
    pub sender: VecDeque<SenderMessage>,
    /// To the monitor.
    pub monitor: VecDeque<MonitorMessage>,
    /// To the table's worker.
    pub table: VecDeque<TableMessage>,
    /// To the node's worker.
    pub node: VecDeque<ToNode>,
    /// How often workers ran.
    pub steps: u64,
}

impl Post {
    /// Empty inboxes.
    pub fn new(random: Random) -> Post {
        Post {
            random,
            wakes: [SimTime::NEVER; 6],
            late: Duration::ZERO,
            main: VecDeque::new(),
            addresses: VecDeque::new(),
            sender: VecDeque::new(),
            monitor: VecDeque::new(),
            table: VecDeque::new(),
            node: VecDeque::new(),
            steps: 0,
        }
    }

    /// The worker runs at this time, if not before.
    pub fn wake(&mut self, worker: Worker, at: SimTime) {
        let wake = &mut self.wakes[worker as usize];
        *wake = (*wake).min(at);
    }

    /// The worker has something to do now: it runs as soon as the machine lets it.
    pub fn soon(&mut self, worker: Worker, now: SimTime) {
        let mut latency = self.random.within(LATENCY.0..=LATENCY.1);
        if !self.late.is_zero() {
            let late = u64::try_from(self.late.as_micros()).unwrap_or(u64::MAX);
            latency += self.random.within(0..=late);
        }
        self.wake(worker, SimTime(now.0 + latency));
    }

    /// The worker's time-out: it runs a little late.
    pub fn at(&mut self, worker: Worker, at: SimTime, now: SimTime) {
        let mut slack = self.random.within(0..=60);
        if !self.late.is_zero() {
            let late = u64::try_from(self.late.as_micros()).unwrap_or(u64::MAX);
            slack += self.random.within(0..=late);
        }
        self.wake(worker, SimTime(at.0.max(now.0).saturating_add(slack)));
    }

    /// Tells the main thread.
    pub fn tell_main(&mut self, message: MainMessage, now: SimTime) {
        self.main.push_back(message);
        self.soon(Worker::Main, now);
    }

    /// Tells the supervisor.
    pub fn tell(&mut self, input: SupervisorInput, now: SimTime) {
        self.tell_main(MainMessage::Input(Box::new(input)), now);
    }

    /// Tells the address manager.
    pub fn tell_addresses(&mut self, message: AddressMessage, now: SimTime) {
        self.addresses.push_back(message);
        self.soon(Worker::Addresses, now);
    }

    /// Tells the heartbeat sender.
    pub fn tell_sender(&mut self, message: SenderMessage, now: SimTime) {
        self.sender.push_back(message);
        self.soon(Worker::Sender, now);
    }

    /// Tells the monitor.
    pub fn tell_monitor(&mut self, message: MonitorMessage, now: SimTime) {
        self.monitor.push_back(message);
        self.soon(Worker::Monitor, now);
    }

    /// Tells the table's worker.
    pub fn tell_table(&mut self, message: TableMessage, now: SimTime) {
        self.table.push_back(message);
        self.soon(Worker::Table, now);
    }

    /// Tells the node's worker.
    pub fn tell_node(&mut self, message: ToNode, now: SimTime) {
        self.node.push_back(message);
        self.soon(Worker::Node, now);
    }

    /// When a worker runs next.
    pub fn due(&self) -> SimTime {
        self.wakes.iter().copied().min().unwrap_or(SimTime::NEVER)
    }

    /// The worker whose turn it is, if one's is: its time-out is for it to set anew.
    pub fn next(&mut self, now: SimTime) -> Option<Worker> {
        let worker = WORKERS.into_iter().min_by_key(|worker| self.wakes[*worker as usize])?;
        let wake = &mut self.wakes[worker as usize];
        (*wake <= now).then(|| {
            *wake = SimTime::NEVER;
            self.steps += 1;
            worker
        })
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.main.len()
            + self.addresses.len()
            + self.sender.len()
            + self.monitor.len()
            + self.table.len()
            + self.node.len()
    }
}
