//! The world: what happens when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use cvip::cores::{MonitorMessage, SupervisorInput, Value};
use cvip::heartbeat::ConnectOutcome;
use cvip::ports::{FlagSet, Layers, PortFlag};
use cvip::store::layout::Layout;
use cvip::store::{DrainOrder, DrainTarget, Drains, Interest, Key, Scope};

use super::conf::{CVIP, PORTS, protocol_of};
use super::machine::Machine;
use super::network::Network;
use super::packet::{Packet, Place};
use super::process::{Process, Told};
use crate::random::Random;
use crate::store::{
    Answer, ClientId, HostFiles, Snapshot, StoreClient, StoreCluster, StoreSettings, StoreWrite,
    ViewId, WriteId,
};
use crate::time::SimTime;

/// A service manager starts a cvipd again after this.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// TCP sends again after this, and after twice as long each time.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// TCP sends again so many times: for longer than any answer of etcd is waited for.
const RETRIES: u32 = 7;

/// How many servers etcd has.
pub const SERVERS: usize = 3;

/// What an operator was refused is ordered again after this.
const ORDERED_AGAIN: Duration = Duration::from_secs(1);

/// What etcd's keys begin with.
const PREFIX: &str = "/cvip/";

/// How often a state of etcd is kept, and how many of them: for a backup that is put back.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(2);
const SNAPSHOTS: usize = 24;

/// An operator's commands run beside the nodes.
const OPERATOR: Place = Place::Client(1);

/// What cvip.toml says of etcd on every node.
fn store_settings() -> StoreSettings {
    StoreSettings {
        prefix: PREFIX.to_owned(),
        lease_ttl: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
    }
}

/// What happens at its time.
#[derive(Debug)]
enum Event {
    /// A machine has something to do.
    Machine(u32),
    /// A packet arrives.
    Arrival { from: Place, to: Place, packet: Packet },
    /// A machine's cvipd is started.
    Start(u32),
    /// etcd has something to do.
    Store,
    /// The operator's command has something to do.
    Operator,
    /// An operator orders a drain again, or takes it back.
    Order(DrainTarget, bool),
    /// TCP sends something again.
    Again { from: Place, to: Place, packet: Packet, tries: u32 },
}

struct Scheduled {
    at: SimTime,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The world.
pub struct World {
    /// The time.
    pub now: SimTime,
    /// The machines, by node number.
    pub machines: BTreeMap<u32, Machine>,
    /// The network.
    pub network: Network,
    /// etcd.
    pub store: StoreCluster,
    /// What was told, since it was last taken.
    pub told: Vec<(SimTime, u32, Told)>,
    /// The nodes whose announcements of the CVIP reached the router, since this was last taken.
    pub announced: Vec<u32>,
    /// etcd was emptied, or put back to an earlier state.
    pub has_lost_terms: bool,
    /// How many events there were.
    pub events: u64,
    /// The states of each cvipd are written and restored now and then.
    pub restores: bool,
    random: Random,
    queue: BinaryHeap<Reverse<Scheduled>>,
    number: u64,
    store_scheduled: SimTime,
    /// An operator's commands use etcd by this.
    operator: StoreClient,
    operator_view: ViewId,
    operator_scheduled: SimTime,
    /// What an operator orders, while its outcome is not known: a drain or its end, or flags of all nodes.
    orders: BTreeMap<WriteId, Option<(DrainTarget, bool)>>,
    /// How many orders failed and are given again later.
    ordered_again: u32,
    /// What an operator last ordered of each target.
    wanted: BTreeMap<DrainTarget, bool>,
    snapshots: VecDeque<(SimTime, Snapshot)>,
    next_snapshot: SimTime,
}

/// What follows from something that was done to etcd's servers.
#[derive(Default)]
pub struct StoreAftermath {
    /// What they answer now.
    pub answers: Vec<(ClientId, Answer)>,
    /// The connections that they have closed.
    pub closed: Vec<(usize, ClientId)>,
}

/// Which client of etcd a start of a node's cvipd is.
fn client_of(node: u32, epoch: u64) -> ClientId {
    ClientId(u64::from(node) << 32 | epoch)
}

/// Where a client of etcd is.
fn place_of(client: ClientId) -> Place {
    match u32::try_from(client.0 >> 32) {
        Ok(node) if node > 0 => Place::Node(node),
        _ => OPERATOR,
    }
}

impl World {
    /// A world with these machines, none of which runs a cvipd yet.
    pub fn new(machines: Vec<Machine>, store: StoreCluster, mut random: Random) -> World {
        let (files, now) = (HostFiles::new(), SimTime(0));
        let servers = SERVERS;
        let mut operator =
            StoreClient::new(0, servers, store_settings(), files, now, random.fork());
        let operator_view = operator.open_view(Interest::Orders, now);
        World {
            now: SimTime(0),
            machines: machines.into_iter().map(|machine| (machine.node, machine)).collect(),
            network: Network::default(),
            store,
            told: Vec::new(),
            announced: Vec::new(),
            has_lost_terms: false,
            events: 0,
            restores: false,
            random,
            queue: BinaryHeap::new(),
            number: 0,
            store_scheduled: SimTime::NEVER,
            operator,
            operator_view,
            operator_scheduled: SimTime::NEVER,
            orders: BTreeMap::new(),
            ordered_again: 0,
            wanted: BTreeMap::new(),
            snapshots: VecDeque::new(),
            next_snapshot: SimTime(0),
        }
    }

    fn schedule(&mut self, at: SimTime, event: Event) {
        self.number += 1;
        let at = at.max(self.now);
        self.queue.push(Reverse(Scheduled { at, number: self.number, event }));
    }

    /// Starts a machine's cvipd after a while.
    pub fn start(&mut self, node: u32, after: Duration) {
        self.schedule(self.now + after, Event::Start(node));
    }

    /// When something happens next.
    pub fn next(&self) -> SimTime {
        self.queue.peek().map_or(SimTime::NEVER, |Reverse(scheduled)| scheduled.at)
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) {
        let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() else { return };
        self.now = at;
        self.events += 1;
        if at >= self.next_snapshot {
            self.next_snapshot = at + SNAPSHOT_EVERY;
            self.snapshots.push_back((at, self.store.snapshot()));
            if self.snapshots.len() > SNAPSHOTS {
                self.snapshots.pop_front();
            }
        }
        match event {
            Event::Machine(node) => self.run_machine(node),
            Event::Arrival { from, to, packet } => self.arrive(from, to, packet),
            Event::Start(node) => self.start_now(node),
            Event::Store => {
                self.store_scheduled = SimTime::NEVER;
                let answers = self.store.tick(self.now);
                self.answer(answers);
            }
            Event::Operator => {
                self.operator_scheduled = SimTime::NEVER;
                self.run_operator();
            }
            Event::Order(target, is_ordered) => {
                self.ordered_again -= 1;
                if self.wanted.get(&target) == Some(&is_ordered) {
                    self.order_drain(target, is_ordered);
                }
            }
            Event::Again { from, to, packet, tries } => self.stream(from, to, packet, tries),
        }
    }

    /// A machine has something to do now, or at its next due time.
    pub fn touch(&mut self, node: u32) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if !machine.is_up {
            return;
        }
        let mut due = SimTime::NEVER;
        if let Some(process) = &machine.process {
            due = machine.simulated(process.due()).max(machine.stopped_until);
        }
        due = due.min(machine.simulated(machine.host.kernel.due()));
        due = due.max(machine.paused_until).max(now);
        if due < machine.scheduled {
            machine.scheduled = due;
            self.schedule(due, Event::Machine(node));
        }
    }

    fn run_machine(&mut self, node: u32) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if machine.scheduled != now {
            return;
        }
        machine.scheduled = SimTime::NEVER;
        if !machine.is_running(now) {
            return self.touch(node);
        }
        let clock = machine.clock(now);
        machine.host.kernel.tick(clock);
        let (mut sent, mut told) = (Vec::new(), Vec::new());
        if machine.stopped_until <= now
            && let Some(process) = &mut machine.process
        {
            process.notice(&machine.host, clock);
            process.step(&mut machine.host, &mut sent, &mut told, clock);
        }
        if let Some((id, connections)) = machine.host.kernel.ipvs().take_outgoing() {
            sent.push((Place::Client(0), Packet::Connections(id, Rc::new(connections))));
        }
        self.send(node, sent);
        self.hear(node, told);
        self.touch(node);
    }

    fn hear(&mut self, node: u32, told: Vec<Told>) {
        for told in told {
            match &told {
                Told::Ended(_) | Told::NotStarted(_) => {
                    self.end_process(node);
                    let machine = self.machines.get_mut(&node).expect("it was just run");
                    let starts_again = std::mem::take(&mut machine.starts_again);
                    let is_failure = matches!(told, Told::Ended(Err(_)) | Told::NotStarted(_));
                    if starts_again || is_failure {
                        self.start(node, RESTART_AFTER);
                    }
                }
                Told::Left => {
                    self.machines.get_mut(&node).expect("it was just run").has_left = true;
                }
                _ => {}
            }
            self.told.push((self.now, node, told));
        }
    }

    /// Ends a machine's cvipd at once, as by SIGKILL.
    pub fn end_process(&mut self, node: u32) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if let Some(process) = machine.process.take() {
            process.close(&mut machine.host);
            self.store.forget(process.client_id);
            machine.store_files = process.client.into_files();
        }
        (machine.is_ending, machine.asked_until) = (false, SimTime(0));
        machine.epoch += 1;
    }

    fn start_now(&mut self, node: u32) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if !machine.is_up || machine.process.is_some() {
            machine.starts_again = machine.is_up;
            return;
        }
        if machine.paused_until > now {
            let at = machine.paused_until;
            return self.schedule(at, Event::Start(node));
        }
        let clock = machine.clock(now);
        // Where it does not start they stay.
        let files = machine.store_files.clone();
        let settings = store_settings();
        let client = StoreClient::new(node, SERVERS, settings, files, clock, self.random.fork());
        let id = client_of(node, machine.epoch);
        match Process::start(
            node,
            client,
            id,
            &machine.host,
            self.random.fork(),
            self.restores,
            clock,
        ) {
            Ok(process) => {
                (machine.process, machine.has_left) = (Some(process), false);
                machine.store_files = HostFiles::new();
            }
            Err(error) => {
                self.told.push((now, node, Told::Note(format!("cannot start: {error}"))));
                let machine = self.machines.get_mut(&node).expect("it was found above");
                if !machine.has_left {
                    self.start(node, RESTART_AFTER);
                }
            }
        }
        self.touch(node);
    }

    /// Sends packets from a node.
    fn send(&mut self, node: u32, packets: Vec<(Place, Packet)>) {
        let from = Place::Node(node);
        for (to, packet) in packets {
            match &packet {
                // To all neighbours.
                Packet::WhoHas(_) | Packet::Announcement(_) | Packet::Connections(..) => {
                    if let Packet::Announcement(_) = packet {
                        self.announce(node);
                    }
                    let others: Vec<u32> =
                        self.machines.keys().copied().filter(|other| *other != node).collect();
                    for other in others {
                        self.transmit(from, Place::Node(other), packet.clone());
                    }
                }
                _ => self.transmit(from, to, packet),
            }
        }
    }

    /// The router hears who has the CVIP, unless that is lost.
    fn announce(&mut self, node: u32) {
        let machine = &self.machines[&node];
        let clock = machine.clock(self.now);
        let answers = machine.host.kernel.network.answers_for(CVIP, "eth0", clock);
        let heard = self.network.carry(Place::Node(node), Place::Client(0), &mut self.random);
        if answers && !heard.is_empty() && !self.network.misses_announcements {
            self.announced.push(node);
        }
    }

    fn transmit(&mut self, from: Place, to: Place, packet: Packet) {
        if let Packet::StoreAnswer(..) | Packet::StoreRequest(..) = packet {
            return self.stream(from, to, packet, 0);
        }
        if matches!(packet, Packet::Heartbeat(_)) && self.network.unheard().contains(&from) {
            return;
        }
        for after in self.network.carry(from, to, &mut self.random) {
            let at = self.now + after;
            self.schedule(at, Event::Arrival { from, to, packet: packet.clone() });
        }
    }

    /// Sends what TCP repeats until it arrives, or gives up.
    fn stream(&mut self, from: Place, to: Place, packet: Packet, tries: u32) {
        match self.network.carry(from, to, &mut self.random).first() {
            Some(after) => {
                let at = self.now + *after;
                self.schedule(at, Event::Arrival { from, to, packet });
            }
            None if tries < RETRIES => {
                let at = self.now + RETRY_AFTER * 2u32.pow(tries);
                self.schedule(at, Event::Again { from, to, packet, tries: tries + 1 });
            }
            None => {}
        }
    }

    fn answer(&mut self, answers: Vec<(ClientId, Answer)>) {
        for (client, answer) in answers {
            let (from, to) = (Place::Server(answer.server), place_of(client));
            self.transmit(from, to, Packet::StoreAnswer(client, answer));
        }
        self.touch_store();
    }

    /// Servers of etcd have closed connections.
    fn close(&mut self, closed: Vec<(usize, ClientId)>) {
        for (server, client) in closed {
            match place_of(client) {
                Place::Node(node) => {
                    let now = self.now;
                    let machine = self.machine(node);
                    let clock = machine.clock(now);
                    if let Some(process) = &mut machine.process
                        && process.client_id == client
                    {
                        process.lost(server, clock);
                    }
                    self.touch(node);
                }
                _ => self.operator.lost(server, self.now),
            }
        }
    }

    /// Does something to etcd's servers.
    pub fn with_store(
        &mut self,
        action: impl FnOnce(&mut StoreCluster, SimTime) -> StoreAftermath,
    ) {
        let aftermath = action(&mut self.store, self.now);
        self.answer(aftermath.answers);
        self.close(aftermath.closed);
    }

    /// Puts etcd back to what it was so long ago, as far as that is kept.
    pub fn restore_store(&mut self, back: Duration) {
        let then = SimTime(self.now.0.saturating_sub(back.as_micros() as u64));
        let index = self.snapshots.iter().rposition(|(at, _)| *at <= then).unwrap_or(0);
        let Some((_, snapshot)) = self.snapshots.get(index) else { return };
        let closed = self.store.restore(snapshot.clone(), self.now);
        self.has_lost_terms = true;
        self.close(closed);
        self.touch_store();
    }

    /// An operator's command orders a drain, or takes it back.
    pub fn order_drain(&mut self, target: DrainTarget, is_ordered: bool) {
        let order =
            DrainOrder { reason: None, since: 0, deadline_s: None, by: "an operator".to_owned() };
        let change = move |drains: &mut Drains| match is_ordered {
            true => drop(drains.insert(target, order.clone())),
            false => drop(drains.remove(&target)),
        };
        let (view, now) = (self.operator_view, self.now);
        let id = self.operator.begin(view, StoreWrite::UpdateDrains(Box::new(change)), now);
        self.orders.insert(id, Some((target, is_ordered)));
        self.wanted.insert(target, is_ordered);
        self.run_operator();
    }

    /// An operator flags a port on one node or on all, or takes that back. What cannot be written is
    /// refused, and not ordered again.
    pub fn flag(&mut self, node: Option<u32>, port: u16, weight: Option<u16>) {
        let protocol = protocol_of(port);
        let mut change = move |flags: &mut FlagSet| match weight {
            Some(weight) => flags.set(PortFlag { protocol, start: port, end: port, weight }),
            None => drop(flags.remove(protocol, port, port)),
        };
        match node {
            Some(node) if self.machine(node).is_up => {
                let _ = self.machine(node).store_files_mut().update_flags(node, &mut change);
            }
            Some(_) => {}
            None => {
                let what = StoreWrite::UpdateFlags(Scope::Cluster, Box::new(change));
                let id = self.operator.begin(self.operator_view, what, self.now);
                self.orders.insert(id, None);
                self.run_operator();
            }
        }
    }

    /// The flags that hold on a node, but for those of cvip.conf.
    pub fn flags(&self, node: u32) -> Layers {
        let of = |value| match value {
            Some(Value::Flags(flags)) => flags,
            _ => FlagSet::default(),
        };
        let files = self.machines[&node].store_files();
        let own = files.read(Key::Flags(Scope::Node(node))).ok().flatten().cloned();
        let all = self.stored(Key::Flags(Scope::Cluster));
        Layers { node: of(own), cluster: of(all), conf: FlagSet::default() }
    }

    /// An operator's command has not ended yet, or is given again.
    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty() || self.ordered_again > 0
    }

    fn run_operator(&mut self) {
        self.operator.tick(self.now);
        for (id, outcome) in self.operator.take_outcomes() {
            // An operator who is told that it failed orders it again.
            if let Some(Some((target, is_ordered))) = self.orders.remove(&id)
                && outcome.is_err()
                && self.wanted.get(&target) == Some(&is_ordered)
            {
                self.ordered_again += 1;
                self.schedule(self.now + ORDERED_AGAIN, Event::Order(target, is_ordered));
            }
        }
        for (server, request) in self.operator.take_requests() {
            let (from, to) = (OPERATOR, Place::Server(server));
            self.transmit(from, to, Packet::StoreRequest(ClientId(0), request));
        }
        let due = self.operator.due();
        if due < self.operator_scheduled {
            self.operator_scheduled = due;
            self.schedule(due, Event::Operator);
        }
    }

    /// What stands in etcd.
    pub fn stored(&self, key: Key) -> Option<Value> {
        let path = Layout::new(PREFIX).path(key)?;
        Value::parse(key, self.store.value(path.as_bytes())?.text.bytes()).ok()
    }

    /// etcd may have something to do.
    fn touch_store(&mut self) {
        let due = self.store.due();
        if due < self.store_scheduled {
            self.store_scheduled = due;
            self.schedule(due, Event::Store);
        }
    }

    fn arrive(&mut self, from: Place, to: Place, packet: Packet) {
        match (to, packet) {
            (Place::Server(server), Packet::StoreRequest(client, request)) => {
                let answers = self.store.handle(server, client, request, self.now);
                self.answer(answers);
            }
            (Place::Node(node), packet) => self.arrive_at_node(from, node, packet),
            (_, Packet::StoreAnswer(_, answer)) => {
                self.operator.receive(answer, self.now);
                self.run_operator();
            }
            _ => {}
        }
    }

    fn arrive_at_node(&mut self, from: Place, node: u32, packet: Packet) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if !machine.is_up {
            return;
        }
        if machine.paused_until > now {
            // Its network card keeps some packets.
            let at = machine.paused_until;
            return self.schedule(at, Event::Arrival { from, to: Place::Node(node), packet });
        }
        let clock = machine.clock(now);
        let back = Place::Node(node);
        match packet {
            Packet::Echo { addr, asked } => {
                self.transmit(back, from, Packet::EchoReply { addr, asked });
            }
            Packet::Connect(target) => {
                let outcome = match machine.host.is_listening(target.port()) {
                    true => ConnectOutcome::Open,
                    false => ConnectOutcome::Refused,
                };
                self.transmit(back, from, Packet::Connected(target, outcome));
            }
            Packet::WhoHas(addr) => {
                if machine.host.kernel.network.answers_for(addr, "eth0", clock) {
                    self.transmit(back, from, Packet::IsAt(addr));
                }
            }
            Packet::Connections(id, connections) => {
                machine.host.kernel.ipvs().receive(id, &connections, clock);
            }
            packet => {
                if let Some(process) = &mut machine.process {
                    process.receive(packet, from, clock);
                }
            }
        }
        self.touch(node);
    }

    /// A machine.
    ///
    /// # Panics
    /// There is none of this number.
    pub fn machine(&mut self, node: u32) -> &mut Machine {
        self.machines.get_mut(&node).expect("faults name nodes that there are")
    }

    /// Gives the supervisor of a node an input, as a signal or a request does.
    pub fn tell(&mut self, node: u32, input: SupervisorInput) {
        let now = self.now;
        let machine = self.machine(node);
        let clock = machine.clock(now);
        if let Some(process) = &mut machine.process {
            process.post.tell(input, clock);
        }
    }

    /// Gives the monitor of a node a message, as a request does.
    pub fn tell_monitor(&mut self, node: u32, message: MonitorMessage) {
        let now = self.now;
        let machine = self.machine(node);
        let clock = machine.clock(now);
        let is_director =
            |process: &&mut Process| process.workers().is_some_and(|w| w.monitor.is_some());
        if let Some(process) = machine.process.as_mut().filter(is_director) {
            process.post.tell_monitor(message, clock);
        }
    }

    /// A machine loses its power.
    pub fn power_off(&mut self, node: u32) {
        self.machine(node).power_off();
    }

    /// A machine boots: its servers and its cvipd start.
    pub fn power_on(&mut self, node: u32) {
        let now = self.now;
        let machine = self.machine(node);
        if machine.is_up {
            return;
        }
        (machine.is_up, machine.lag) = (true, now.since(SimTime(0)));
        // Its clock begins anew.
        for port in PORTS {
            machine.host.listen(port, true, SimTime(0));
        }
        machine.scheduled = SimTime::NEVER;
        self.start(node, Duration::from_millis(500));
    }

    /// Every machine is looked at: something changed under it.
    pub fn touch_all(&mut self) {
        self.touch_store();
        let nodes: Vec<u32> = self.machines.keys().copied().collect();
        for node in nodes {
            let now = self.now;
            let machine = self.machine(node);
            let clock = machine.clock(now);
            if let Some(process) = &mut machine.process {
                process.notice(&machine.host, clock);
            }
            self.touch(node);
        }
    }

    /// The nodes that answer neighbours for the CVIP now.
    pub fn carriers(&self) -> Vec<u32> {
        let carries = |machine: &&Machine| {
            machine.is_running(self.now)
                && machine.host.kernel.network.answers_for(CVIP, "eth0", machine.clock(self.now))
                && self.network.is_open(Place::Node(machine.node), Place::Client(0))
        };
        self.machines.values().filter(carries).map(|machine| machine.node).collect()
    }
}
