//! The main thread: cvipd's supervisor, and what its driver does to start, swap and end workers.

use std::sync::Arc;
use std::time::Duration;

use cvip::conf::{Conf, Sources};
use cvip::cores::{
    Endpoints, MonitorCommand, MonitorMessage, NodeMessage, ReadConf, RoleEvent, SendSchedule,
    SenderMessage, Supervisor, SupervisorAction, SupervisorInput, TableMessage, Value,
};
use cvip::director::sync::SyncRole;
use cvip::heartbeat::{HeartbeatContent, HeartbeatSource, LeftPorts, Timing};
use cvip::store::{Interest, Key};

use super::monitor::Monitor;
use super::node::Node;
use super::post::{MainMessage, ToNode, Worker};
use super::sender::Sender;
use super::table::Table;
use super::{Environment, Identity, Told, Workers};
use crate::store::{Poll, StoreClient, ViewId};
use crate::time::SimTime;

/// How often it looks after what stands below the run folder.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// How long the hooks of one event may take.
const HOOKS_WITHIN: Duration = Duration::from_secs(5);

/// The main thread.
pub struct MainThread {
    me: Identity,
    /// The supervisor's state.
    pub state: Supervisor,
    endpoints: Option<Endpoints>,
    left: Option<LeftPorts>,
    leaving: bool,
    /// The connections that a node that leaves last reported.
    connections: Option<usize>,
    /// The directors' records, for a leave.
    holders: Option<(ViewId, bool)>,
    /// Hooks that run, and when they end.
    hooks: Option<(SimTime, u64)>,
    next_tend: SimTime,
    is_first: bool,
    has_left: bool,
}

impl MainThread {
    /// One that has started no worker yet.
    pub fn new(me: Identity, conf: Arc<Conf>, has_former_table: bool, now: SimTime) -> MainThread {
        let read = ReadConf { conf, sources: Arc::new(Sources::default()) };
        let path = "/etc/cvip.conf".to_owned();
        MainThread {
            me,
            state: Supervisor::new(
                me.node,
                path,
                read,
                has_former_table,
                HOOKS_WITHIN,
                now.instant(),
            ),
            endpoints: None,
            left: None,
            leaving: false,
            connections: None,
            holders: None,
            hooks: None,
            next_tend: now,
            is_first: true,
            has_left: false,
        }
    }
}

/// An earlier cvipd of this node has made services in the table.
pub fn owns_services(node: u32, client: &StoreClient) -> bool {
    let owned = client.files().read(Key::Owned(node));
    matches!(owned, Ok(Some(Value::Owned(owned))) if !owned.is_empty())
}

/// Takes messages, and does what is due.
pub fn run(workers: &mut Workers, env: &mut Environment<'_>) {
    if std::mem::take(&mut workers.main.is_first) {
        let conf = Arc::clone(workers.main.state.conf());
        if let Err(error) = workers.swap(&conf, env) {
            return env.told.push(Told::Ended(Err(error)));
        }
    }
    let mut inputs = Vec::new();
    if let Some(connections) = workers.main.connections.take() {
        inputs.push(SupervisorInput::Connections(connections));
    }
    if let Some((_, number)) = workers.main.hooks.take_if(|(ends, _)| *ends <= env.now) {
        inputs.push(SupervisorInput::HooksEnded(number));
    }
    inputs.push(SupervisorInput::Time);
    while let Some(message) = env.post.main.pop_front() {
        match message {
            MainMessage::Input(input) => inputs.push(*input),
            MainMessage::Left(left) => workers.tell_left(left, env),
            MainMessage::Connections(connections) => workers.main.connections = Some(connections),
        }
    }
    for input in inputs {
        if !workers.feed(input, env) {
            return;
        }
    }
    let main = &mut workers.main;
    if env.now >= main.next_tend {
        main.next_tend = env.now + TEND_EVERY;
        env.host.files.write_incarnation(main.me.incarnation);
    }
    let due = main.state.due(env.now.instant()).map_or(SimTime::NEVER, SimTime::of);
    // The supervisor's next action may wait for time that has come.
    let hooks = main.hooks.map_or(SimTime::NEVER, |(ends, _)| ends);
    env.post.at(Worker::Main, due.min(hooks).min(main.next_tend), env.now);
}

impl Workers {
    /// Gives the supervisor an input, and carries out what follows; false once cvipd ends.
    fn feed(&mut self, input: SupervisorInput, env: &mut Environment<'_>) -> bool {
        let mut next = Some(input);
        loop {
            if let Some(input) = next.take() {
                self.main.state.handle(input, env.now.instant());
            }
            let Some(action) = self.main.state.next_action() else { return true };
            if let SupervisorAction::Exit(outcome) = action {
                if self.main.has_left {
                    env.told.push(Told::Left);
                }
                env.told.push(Told::Ended(outcome.map_err(|error| error.to_string())));
                return false;
            }
            next = self.carry_out(action, env);
        }
    }

    fn carry_out(
        &mut self,
        action: SupervisorAction,
        env: &mut Environment<'_>,
    ) -> Option<SupervisorInput> {
        let now = env.now;
        match action {
            SupervisorAction::Addresses(message) => env.post.tell_addresses(message, now),
            SupervisorAction::Node(message) => {
                if self.node.is_some() {
                    env.post.tell_node(to_node(message), now);
                }
            }
            SupervisorAction::Monitor(message) => self.tell_monitor(message, env),
            SupervisorAction::Table(message) => self.tell_table(message, env),
            SupervisorAction::TakeTableRole(role) => {
                self.direct(role, env);
                return Some(SupervisorInput::TableTold(Ok(())));
            }
            SupervisorAction::RunHooks(change) => {
                if change.event == RoleEvent::GivingUp {
                    let ends = now + hooks_take(self.main.me, change.number);
                    self.main.hooks = Some((ends, change.number));
                    env.post.at(Worker::Main, ends, now);
                }
            }
            SupervisorAction::StartNode => {
                let conf = Arc::clone(self.main.state.conf());
                if self.node.is_none() {
                    self.node = Some(Node::new(self.main.me, conf, env.host, env.client, now));
                    env.post.soon(Worker::Node, now);
                }
            }
            SupervisorAction::StartLeave => {
                env.post.tell_node(ToNode::Leave, now);
                self.main.holders = Some((env.client.open_view(Interest::All, now), false));
            }
            SupervisorAction::TellLeaving => {
                self.main.leaving = true;
                match self.monitor.is_some() {
                    true => env.post.tell_monitor(MonitorMessage::Told(MonitorCommand::Leave), now),
                    false => self.say_farewell(env),
                }
            }
            SupervisorAction::SayFarewell => {
                self.main.has_left = true;
                self.say_farewell(env);
            }
            SupervisorAction::ReadHolders => return self.read_holders(env),
            SupervisorAction::ReadConf => {
                return Some(SupervisorInput::Read(Box::new(env.host.files.load().into())));
            }
            SupervisorAction::TryConf(read) => return Some(SupervisorInput::Tried(read, Ok(()))),
            SupervisorAction::SwapWorkers(read) => {
                let outcome = self.swap(&read.conf, env);
                return Some(SupervisorInput::Swapped(read, outcome));
            }
            SupervisorAction::Resync(conf) => self.tell_table(TableMessage::Reload(conf), env),
            SupervisorAction::EndFormerTable => {
                if let Some(former) = &mut self.retired {
                    former.stop();
                    env.post.soon(Worker::Table, now);
                }
            }
            SupervisorAction::Ready => env.told.push(Told::Note("ready".to_owned())),
            SupervisorAction::Answer(answer) => {
                env.told.push(Told::Note(format!("answers the operator: {answer:?}")));
            }
            SupervisorAction::Exit(_) => {}
        }
        None
    }

    /// Builds what a configuration needs, and puts it in the place of what there is.
    fn swap(&mut self, conf: &Arc<Conf>, env: &mut Environment<'_>) -> Result<(), String> {
        let me = self.main.me;
        let is_director = conf.is_director(me.node);
        if !is_director && self.table.is_some() {
            self.end_monitor(env);
            self.tell_table(TableMessage::Leave, env);
            if let Some(Some(mut table)) = self.table.take() {
                table.retire(std::mem::take(&mut env.post.table));
                self.retired = Some(table);
            }
        }
        if !is_director && self.retired.is_none() && owns_services(me.node, env.client) {
            let mut table = Table::new(me.node, Arc::clone(conf), env.client, env.now);
            table.retire([TableMessage::Leave].into());
            self.retired = Some(table);
            env.post.soon(Worker::Table, env.now);
        }
        if self.node.is_some() {
            env.post.tell_node(ToNode::Reload(Arc::clone(conf)), env.now);
        }
        if is_director && self.table.is_none() {
            self.table = Some(None);
        }
        self.succeed(conf, env);
        self.tell_monitor(MonitorMessage::Told(MonitorCommand::Reload(Arc::clone(conf))), env);
        Ok(())
    }

    /// The set in whose election its monitor takes part, by the lowest node number of its directors; none
    /// where it is no director.
    pub fn set(&self) -> Option<u32> {
        self.monitor.as_ref()?;
        let order = cvip::director::monitor::order(self.main.state.conf(), self.main.me.node);
        order.into_iter().min()
    }

    /// A monitor and a heartbeat sender for the configuration's endpoints, unless those that run
    /// use them.
    fn succeed(&mut self, conf: &Arc<Conf>, env: &mut Environment<'_>) {
        let (me, now) = (self.main.me, env.now);
        let endpoints = Endpoints::next(self.main.endpoints.as_ref(), conf, me.node);
        if self.main.endpoints.as_ref() == Some(&endpoints) {
            return;
        }
        self.sender = None;
        env.post.sender.clear();
        if !endpoints.to.is_empty() {
            let source =
                HeartbeatSource { node: me.node, incarnation: me.incarnation, nonce: me.nonce };
            let before = u64::try_from(now.since(me.started).as_millis()).unwrap_or(u64::MAX);
            let schedule =
                SendSchedule::new(source, Timing::default(), now.instant()).after(before);
            self.sender = Some(Sender::new(schedule));
        }
        self.end_monitor(env);
        let mut leaderships = Vec::new();
        if conf.is_director(me.node) {
            let set = cvip::director::monitor::order(conf, me.node);
            let set = set.into_iter().min().unwrap_or(me.node);
            let terms = env.host.files.read_terms(set);
            let to = endpoints.to.clone();
            let monitor = Monitor::new(me, Arc::clone(conf), terms, to, env.client, now);
            leaderships = monitor.leaderships();
            self.monitor = Some(monitor);
            if self.main.leaving {
                env.post.tell_monitor(MonitorMessage::Told(MonitorCommand::Leave), now);
            }
            env.post.soon(Worker::Monitor, now);
        }
        if self.sender.is_some() {
            let (to, leaving) = (endpoints.to.clone(), self.main.leaving);
            let content = HeartbeatContent { to, leaving, leaderships, ..Default::default() };
            env.post.tell_sender(SenderMessage::HeartbeatContent(content), now);
        }
        self.main.endpoints = Some(endpoints);
        if let Some(left) = self.main.left.take() {
            self.tell_left(left, env);
        }
    }

    fn end_monitor(&mut self, env: &mut Environment<'_>) {
        if let Some(monitor) = self.monitor.take() {
            env.client.close_view(monitor.view());
            env.post.monitor.clear();
        }
    }

    /// Tells the table its role, and starts its worker if there is none yet.
    fn direct(&mut self, role: SyncRole, env: &mut Environment<'_>) {
        let conf = Arc::clone(self.main.state.conf());
        if let Some(table) = &mut self.table {
            if table.is_none() {
                *table = Some(Table::new(self.main.me.node, conf, env.client, env.now));
            }
            env.post.tell_table(TableMessage::ElectionRole(role), env.now);
        }
    }

    fn tell_monitor(&self, message: MonitorMessage, env: &mut Environment<'_>) {
        if self.monitor.is_some() {
            env.post.tell_monitor(message, env.now);
        }
    }

    fn tell_table(&self, message: TableMessage, env: &mut Environment<'_>) {
        if matches!(self.table, Some(Some(_))) {
            env.post.tell_table(message, env.now);
        }
    }

    fn tell_left(&mut self, left: LeftPorts, env: &mut Environment<'_>) {
        if self.sender.is_some() {
            env.post.tell_sender(SenderMessage::Left(left.clone()), env.now);
        }
        self.tell_monitor(MonitorMessage::Told(MonitorCommand::Left(left.clone())), env);
        self.main.left = Some(left);
    }

    fn say_farewell(&self, env: &mut Environment<'_>) {
        if let (Some(_), Some(endpoints)) = (&self.sender, &self.main.endpoints) {
            let to = endpoints.to.clone();
            let content = HeartbeatContent { to, leaving: true, ..HeartbeatContent::default() };
            env.post.tell_sender(SenderMessage::HeartbeatContent(content), env.now);
        }
    }

    fn read_holders(&mut self, env: &mut Environment<'_>) -> Option<SupervisorInput> {
        let Some((view, is_known)) = &mut self.main.holders else {
            return Some(SupervisorInput::Holders(None));
        };
        // What the view said last holds; one that was never read is waited for.
        match env.client.refresh(*view, env.now) {
            Poll::Done(outcome) => *is_known |= outcome.is_ok(),
            Poll::Wait(_) => {}
        }
        let conf = self.main.state.conf();
        let view = env.client.state(*view);
        is_known.then(|| {
            SupervisorInput::Holders(Some(cvip::cores::holders(self.main.me.node, conf, view)))
        })
    }
}

/// How long hooks take: no time, some, or longer than they may.
fn hooks_take(me: Identity, number: u64) -> Duration {
    match (u64::from(me.node) + me.incarnation + number) % 3 {
        0 => Duration::ZERO,
        1 => Duration::from_millis(700),
        _ => 2 * HOOKS_WITHIN,
    }
}

fn to_node(message: NodeMessage) -> ToNode {
    match message {
        NodeMessage::Reload(conf) => ToNode::Reload(conf),
        NodeMessage::Direct(directing) => ToNode::Direct(directing),
        NodeMessage::Obey(applied) => ToNode::Obey(applied),
        NodeMessage::Vouch(number) => ToNode::Vouch(number),
        NodeMessage::Leave(_) => ToNode::Leave,
        NodeMessage::View(_) => unreachable!("the supervisor's state asks for no view"),
    }
}
