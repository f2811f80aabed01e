//! Starts, swaps and ends the workers that a node needs by its configuration.
//!
//! A director has a monitor from the start, and a table once the monitor has told it its role:
//! until then what its kernel has stays as it is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use super::endpoints::Endpoints;
use super::monitor::MonitorWorker;
use super::table::TableWorker;
use crate::checks::Checker;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::daemon::address_manager::AddressMessage;
use crate::daemon::error::RunError;
use crate::daemon::messages::{
    MainMessage, MonitorMessage, NodeMessage, SenderMessage, TableMessage,
};
use crate::daemon::worker::{Driven, Prepared, Worker, WorkerInbox, WorkerQueue, inbox};
use crate::director::monitor::{Monitor, MonitorCommand, MonitorIdentity};
use crate::director::{self, sync};
use crate::heartbeat::{
    self, ClusterKey, HeartbeatContent, HeartbeatSocket, HeartbeatSource, LeftPorts, Nonce, Timing,
};
use crate::listeners::Dumper;
use crate::node::driver::NodeSources;
use crate::recorder::Recorder;
use crate::store::{Interest, Store};
use crate::wake::Outbox;
use crate::{ipvs, node};

/// What a node's workers have in common.
pub(in crate::daemon) struct WorkerContext {
    pub(in crate::daemon) node: u32,
    /// Which start of this node's cvipd this is.
    pub(in crate::daemon) incarnation: u64,
    pub(in crate::daemon) nonce: Nonce,
    /// When this cvipd was started.
    pub(in crate::daemon) started: Instant,
    pub(in crate::daemon) key: ClusterKey,
    /// The UDP port on which directors hear heartbeats.
    pub(in crate::daemon) port: u16,
    /// The workers have views of their own of it.
    pub(in crate::daemon) store: Box<dyn Store>,
    pub(in crate::daemon) main: Outbox<MainMessage>,
    /// The address manager's inbox.
    pub(in crate::daemon) addresses: WorkerInbox<AddressMessage>,
    /// Why no socket events are to be used; they are if absent.
    pub(in crate::daemon) polling: Option<String>,
    /// To what the workers' cores are recorded.
    pub(in crate::daemon) recorder: Recorder,
}

/// The table's worker, or what it will be made of.
enum TableSlot {
    Waiting(ipvs::Client, (WorkerInbox<TableMessage>, WorkerQueue<TableMessage>)),
    Working(Worker<TableMessage>),
}

impl TableSlot {
    /// What it will be made of, for a node that becomes a director.
    fn open() -> Result<TableSlot, RunError> {
        Ok(TableSlot::Waiting(ipvs::Client::open()?, inbox().map_err(no_inbox)?))
    }

    fn inbox(&self) -> &WorkerInbox<TableMessage> {
        match self {
            TableSlot::Waiting(_, (inbox, _)) => inbox,
            TableSlot::Working(worker) => &worker.inbox,
        }
    }
}

/// The place of a worker that may be replaced, or not be needed any more. Nothing waits for one that
/// ends but its successor's thread.
struct Place<O> {
    worker: Option<Worker<O>>,
    /// One without a successor, which may not have ended yet.
    former: Option<Worker<O>>,
}

impl<O> Default for Place<O> {
    fn default() -> Place<O> {
        Place { worker: None, former: None }
    }
}

impl<O: Send + 'static> Place<O> {
    fn inbox(&self) -> Option<&WorkerInbox<O>> {
        self.worker.as_ref().map(|worker| &worker.inbox)
    }

    /// Puts a worker in the place of the one before, which ends.
    fn take_over<A: Driven<Message = O>>(&mut self, worker: Prepared<A>, agent: A) {
        let before = self.worker.take().or_else(|| self.former.take());
        self.worker = Some(worker.start(agent, before));
    }

    /// Ends the worker, without a successor.
    fn vacate(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop();
            self.former = Some(worker);
        }
    }

    /// Ends it, and waits until it has ended.
    fn end(self) {
        self.worker.into_iter().chain(self.former).for_each(Worker::end);
    }
}

/// The workers that run.
#[derive(Default)]
pub(in crate::daemon) struct Workers {
    node: Option<Worker<NodeMessage>>,
    heartbeat_sender: Place<SenderMessage>,
    monitor: Place<MonitorMessage>,
    table: Option<TableSlot>,
    endpoints: Option<Endpoints>,
    /// The monitor's socket, to be shared with its successor.
    receiver: Option<HeartbeatSocket>,
    /// The worker of a table that is not this node's any more, until it is emptied.
    former_table: Option<Worker<TableMessage>>,
    /// The ports that this node has left, as it last said.
    left: Option<LeftPorts>,
    /// This node is leaving the cluster.
    leaving: bool,
}

/// A heartbeat sender and a monitor that are ready to take the place of those before.
struct Successors {
    endpoints: Endpoints,
    heartbeat_sender: Option<(Prepared<heartbeat::Sender>, heartbeat::Sender)>,
    monitor: Option<(Prepared<MonitorWorker>, MonitorWorker, HeartbeatSocket)>,
}

impl Workers {
    /// Builds what a configuration needs, and then puts it in the place of what there is: the
    /// heartbeat, and what a director needs before it knows its role. The kernel comes first:
    /// without IPVS nothing else is touched. A node that is a director no longer deletes what it
    /// made in the table, and says when that is done.
    ///
    /// # Errors
    /// The node cannot be what the configuration says; then nothing has changed.
    pub(in crate::daemon) fn swap(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        // Whatever can fail comes first.
        let is_director = conf.is_director(context.node);
        let new_table = (is_director && self.table.is_none()).then(TableSlot::open).transpose()?;
        let table = self.table.as_ref().or(new_table.as_ref()).map(|table| table.inbox().clone());
        let successors = self.successors(context, conf, run_dir, table)?;
        let retires_own = matches!(self.table, Some(TableSlot::Working(_)));
        let earlier_table = match is_director || retires_own || self.former_table.is_some() {
            true => None,
            false => earlier_table(context, conf)?,
        };
        if !is_director && self.table.is_some() {
            self.monitor.vacate();
            self.receiver = None;
            self.retire_table();
        }
        self.tell_node(NodeMessage::Reload(Arc::clone(conf)));
        self.table = self.table.take().or(new_table);
        if let Some((worker, table)) = earlier_table {
            self.former_table = Some(worker.start(table, None));
        }
        self.succeed(successors);
        self.tell_monitor(MonitorMessage::Told(MonitorCommand::Reload(Arc::clone(conf))));
        Ok(())
    }

    /// Whether the node can send heartbeats as a configuration says. Changes nothing.
    pub(in crate::daemon) fn check(context: &WorkerContext, conf: &Conf) -> Result<(), RunError> {
        drop(HeartbeatSocket::sender(
            &conf.addresses(context.node),
            context.port,
            None,
            &context.key,
        )?);
        Ok(())
    }

    /// A monitor and a heartbeat sender for the configuration's endpoints; none if those that run use
    /// them. Nothing has changed yet.
    fn successors(
        &self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        run_dir: &Path,
        table: Option<WorkerInbox<TableMessage>>,
    ) -> Result<Option<Successors>, RunError> {
        let endpoints = Endpoints::next(self.endpoints.as_ref(), conf, context.node);
        if self.endpoints.as_ref() == Some(&endpoints) {
            return Ok(None);
        }
        let now = Instant::now();
        let (port, key) = (context.port, &context.key);
        let mut heartbeat_sender = None;
        if !endpoints.to.is_empty() {
            let socket = HeartbeatSocket::sender(&endpoints.from, port, None, key)?;
            let source = HeartbeatSource {
                node: context.node,
                incarnation: context.incarnation,
                nonce: context.nonce,
            };
            // Milliseconds outrun the heartbeats of any heartbeat sender before this one.
            let before = now.saturating_duration_since(context.started).as_millis();
            let before = u64::try_from(before).unwrap_or(u64::MAX);
            let sender =
                heartbeat::Sender::new(socket, source, Timing::default(), now).after(before);
            let worker =
                Prepared::new("heartbeat", inbox().map_err(no_inbox)?).map_err(no_thread)?;
            heartbeat_sender = Some((worker, sender));
        }
        let (mut monitor, mut leaderships) = (None, Vec::new());
        if let Some(table) = table.filter(|_| conf.is_director(context.node)) {
            let me = MonitorIdentity {
                node: context.node,
                incarnation: context.incarnation,
                nonce: context.nonce,
            };
            let no_descriptor = |e| RunError::System("no descriptor for the monitor", e);
            let socket = HeartbeatSocket::patient_receiver(
                &endpoints.from,
                port,
                key,
                self.receiver.as_ref(),
            )?;
            let receiver = socket.share().map_err(no_descriptor)?;
            let store = context.store.subscribe(Interest::All)?;
            let (conf, recorder) = (Arc::clone(conf), &context.recorder);
            let agent = Monitor::new(me, conf, store, socket, run_dir, recorder, now)
                .map_err(no_descriptor)?;
            leaderships = agent.leaderships();
            let heartbeat_sender =
                heartbeat_sender.as_ref().map(|(worker, _)| worker.inbox.clone());
            let (main, to) = (context.main.clone(), endpoints.to.clone());
            let addresses = context.addresses.clone();
            let monitor_worker =
                MonitorWorker { monitor: agent, main, table, addresses, heartbeat_sender, to };
            let worker = Prepared::new("monitor", inbox().map_err(no_inbox)?).map_err(no_thread)?;
            if self.leaving {
                worker.inbox.send(MonitorMessage::Told(MonitorCommand::Leave));
            }
            monitor = Some((worker, monitor_worker, receiver));
        }
        // The monitor speaks for itself once it has read the store.
        if let Some((worker, _)) = &heartbeat_sender {
            let (to, leaving) = (endpoints.to.clone(), self.leaving);
            let content = HeartbeatContent { to, leaving, leaderships, ..Default::default() };
            worker.inbox.send(SenderMessage::HeartbeatContent(content));
        }
        Ok(Some(Successors { endpoints, heartbeat_sender, monitor }))
    }

    /// Puts them in the places of those before, which end.
    fn succeed(&mut self, successors: Option<Successors>) {
        let Some(Successors { endpoints, heartbeat_sender, monitor }) = successors else { return };
        // The monitor speaks through the heartbeat sender: first the one, then the other.
        match heartbeat_sender {
            Some((worker, agent)) => self.heartbeat_sender.take_over(worker, agent),
            None => self.heartbeat_sender.vacate(),
        }
        self.receiver = match monitor {
            Some((worker, agent, receiver)) => {
                self.monitor.take_over(worker, agent);
                Some(receiver)
            }
            None => {
                self.monitor.vacate();
                None
            }
        };
        self.endpoints = Some(endpoints);
        if let Some(left) = self.left.take() {
            self.tell_left(left);
        }
    }

    /// Tells the table its role, and starts its worker if there is none yet.
    pub(in crate::daemon) fn direct(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        role: sync::SyncRole,
    ) -> Result<(), RunError> {
        let Some(table) = self.table.take() else { return Ok(()) };
        table.inbox().send(TableMessage::ElectionRole(role));
        self.table = Some(match table {
            TableSlot::Working(worker) => TableSlot::Working(worker),
            TableSlot::Waiting(client, (inbox, queue)) => {
                let table = table_worker(context, conf, client)?;
                let worker = Prepared::new("table", (inbox, queue)).map_err(no_thread)?;
                TableSlot::Working(worker.start(table, self.former_table.take()))
            }
        });
        Ok(())
    }

    /// Starts the node's worker, if there is none yet.
    pub(in crate::daemon) fn serve(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
    ) -> Result<(), RunError> {
        if self.node.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let watch = node::driver::open_watch(now, context.polling.as_deref())?;
        let store = context.store.subscribe(Interest::Node(context.node))?;
        let checker = Checker::new(context.node.into(), now).map_err(no_inbox)?;
        let recorder = context.recorder.clone();
        let sources = NodeSources { watch, hint_dumper: Dumper::open()?, checker, recorder };
        let (conf, incarnation) = (Arc::clone(conf), context.incarnation);
        let main = context.main.clone();
        let departed = Box::new(move |left| {
            main.send(MainMessage::Left(left));
        });
        let node = context.node;
        let agent = node::NodeAgent::new(node, conf, sources, store, incarnation, departed, now)?;
        info!("listeners are noticed by {}", agent.event_source());
        let worker = Worker::start("node", agent, inbox().map_err(no_inbox)?).map_err(no_thread)?;
        self.node = Some(worker);
        Ok(())
    }

    pub(in crate::daemon) fn node(&self) -> Option<&WorkerInbox<NodeMessage>> {
        self.node.as_ref().map(|worker| &worker.inbox)
    }

    pub(in crate::daemon) fn heartbeat_sender(&self) -> Option<&WorkerInbox<SenderMessage>> {
        self.heartbeat_sender.inbox()
    }

    pub(in crate::daemon) fn monitor(&self) -> Option<&WorkerInbox<MonitorMessage>> {
        self.monitor.inbox()
    }

    /// The table's inbox; none before the director knows its role.
    pub(in crate::daemon) fn table(&self) -> Option<&WorkerInbox<TableMessage>> {
        match self.table.as_ref()? {
            TableSlot::Waiting(..) => None,
            TableSlot::Working(worker) => Some(&worker.inbox),
        }
    }

    pub(in crate::daemon) fn tell_node(&self, message: NodeMessage) {
        if let Some(worker) = &self.node {
            worker.inbox.send(message);
        }
    }

    pub(in crate::daemon) fn tell_monitor(&self, message: MonitorMessage) {
        if let Some(inbox) = self.monitor() {
            inbox.send(message);
        }
    }

    pub(in crate::daemon) fn tell_table(&self, message: TableMessage) {
        if let Some(inbox) = self.table() {
            inbox.send(message);
        }
    }

    /// Names the ports that this node has left: in its heartbeat, and to its own monitor.
    pub(in crate::daemon) fn tell_left(&mut self, left: LeftPorts) {
        if let Some(inbox) = self.heartbeat_sender.inbox() {
            inbox.send(SenderMessage::Left(left.clone()));
        }
        self.tell_monitor(MonitorMessage::Told(MonitorCommand::Left(left.clone())));
        self.left = Some(left);
    }

    /// Says from now on that this node leaves: directors that the store cannot tell take it out of
    /// their tables all the same, and its own monitor hands over.
    pub(in crate::daemon) fn tell_leaving(&mut self) {
        self.leaving = true;
        match self.monitor() {
            Some(monitor) => monitor.send(MonitorMessage::Told(MonitorCommand::Leave)),
            None => self.say_farewell(),
        }
    }

    /// Says that this node leaves, so that no director takes it for dead.
    pub(in crate::daemon) fn say_farewell(&self) {
        if let (Some(inbox), Some(endpoints)) = (self.heartbeat_sender.inbox(), &self.endpoints) {
            inbox.send(SenderMessage::HeartbeatContent(HeartbeatContent {
                to: endpoints.to.clone(),
                leaving: true,
                ..HeartbeatContent::default()
            }));
        }
    }

    /// Asks every worker that runs whether it takes its messages; the names of those that are to
    /// answer.
    pub(in crate::daemon) fn ask(
        &self,
        answer: &(impl Fn(&'static str) + Clone + Send + 'static),
    ) -> Vec<&'static str> {
        let table = match &self.table {
            Some(TableSlot::Working(worker)) => Some(worker.ask(answer.clone())),
            _ => None,
        };
        let node = self.node.as_ref().map(|worker| worker.ask(answer.clone()));
        let sender = self.heartbeat_sender.worker.as_ref().map(|worker| worker.ask(answer.clone()));
        let monitor = self.monitor.worker.as_ref().map(|worker| worker.ask(answer.clone()));
        [node, sender, monitor, table].into_iter().flatten().collect()
    }

    /// A worker that has ended, and should not have.
    pub(in crate::daemon) fn dead(&self) -> Option<&'static str> {
        let table = match &self.table {
            Some(TableSlot::Working(worker)) => worker.died(),
            _ => None,
        };
        let node = self.node.as_ref().and_then(Worker::died);
        let heartbeat_sender = self.heartbeat_sender.worker.as_ref().and_then(Worker::died);
        let monitor = self.monitor.worker.as_ref().and_then(Worker::died);
        node.or(heartbeat_sender).or(monitor).or(table)
    }

    /// Has the table emptied, which may take several attempts. One that is made anew begins when
    /// this worker has ended.
    fn retire_table(&mut self) {
        self.tell_table(TableMessage::Leave);
        if let Some(TableSlot::Working(worker)) = self.table.take() {
            self.former_table = Some(worker);
        }
    }

    /// A table is being emptied that is not this node's any more.
    pub(in crate::daemon) fn has_former_table(&self) -> bool {
        self.former_table.is_some()
    }

    /// Ends the worker of a table that is not this node's any more.
    pub(in crate::daemon) fn end_former_table(&self) {
        if let Some(worker) = &self.former_table {
            worker.stop();
        }
    }

    /// Ends all, and waits for them. What stands in the kernel stays.
    pub(in crate::daemon) fn end(self) {
        self.monitor.end();
        if let Some(TableSlot::Working(worker)) = self.table {
            worker.end();
        }
        self.former_table.into_iter().for_each(Worker::end);
        self.node.into_iter().for_each(Worker::end);
        self.heartbeat_sender.end();
    }
}

/// What empties the table that an earlier cvipd made here, when this node was a director: a second
/// balancer in the path of packets would send them round. None if there is nothing to empty.
fn earlier_table(
    context: &WorkerContext,
    conf: &Arc<Conf>,
) -> Result<Option<(Prepared<TableWorker>, TableWorker)>, RunError> {
    let owned = context.store.state().owned.get(&context.node);
    if owned.is_none_or(BTreeSet::is_empty) {
        return Ok(None);
    }
    let client = match ipvs::Client::open() {
        Ok(client) => client,
        // A kernel without IPVS has no services.
        Err(error) => {
            warn!("what an earlier cvipd made in the table cannot be deleted: {error}");
            return Ok(None);
        }
    };
    let worker = Prepared::new("former table", inbox().map_err(no_inbox)?).map_err(no_thread)?;
    worker.inbox.send(TableMessage::Leave);
    Ok(Some((worker, table_worker(context, conf, client)?)))
}

fn table_worker(
    context: &WorkerContext,
    conf: &Arc<Conf>,
    client: ipvs::Client,
) -> Result<TableWorker, RunError> {
    let store = context.store.subscribe(Interest::All)?;
    let (conf, now) = (Arc::clone(conf), Instant::now());
    let checker = Checker::new(context.node.into(), now).map_err(no_inbox)?;
    let agent = director::DirectorAgent::new(
        context.node,
        conf,
        client,
        store,
        checker,
        &context.recorder,
        now,
    )?;
    Ok(TableWorker::new(agent, context.main.clone()))
}

fn no_inbox(errno: nix::errno::Errno) -> RunError {
    RunError::System("no descriptor for messages", errno.into())
}

fn no_thread(error: std::io::Error) -> RunError {
    RunError::System("no thread", error)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::conf::{Cvip, DirectorNode, RealServer, Routing};
    use crate::recorder::Writer;
    use crate::recorder::testing::text_of;
    use crate::store::{Access, LocalStore};

    /// Two directors on addresses of the loopback interface that nothing else uses.
    fn conf(own: &str, other: &str) -> Arc<Conf> {
        let director =
            |node| DirectorNode { node, garp_interface: "lo".to_owned(), sync_interface: None };
        let server = |node, addr: &str| RealServer { node, addr: addr.parse().unwrap(), weight: 1 };
        let cvip = Cvip {
            addr: "127.77.9.9".parse().unwrap(),
            gateway: None,
            directors: vec![director(1), director(2)],
            real_servers: [server(1, own), server(2, other)].into(),
            services: Vec::new(),
        };
        Arc::new(Conf { routing: Routing::Dr, cvips: vec![cvip] })
    }

    #[test]
    fn a_reload_that_fails_leaves_monitor_and_heartbeat_sender_as_they_are_and_one_that_succeeds_replaces_them()
     {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), Access::Write).unwrap();
        let (main, _inbox) = crate::wake::channel().unwrap();
        let (writer, recorder) = Writer::start(dir.path(), 1).unwrap();
        let key = "a key that is only for this test";
        let context = WorkerContext {
            node: 1,
            incarnation: 1,
            nonce: Nonce([1; 16]),
            started: Instant::now(),
            key: ClusterKey::from_bytes(key.as_bytes()).unwrap(),
            port: heartbeat::PORT,
            store: Box::new(store),
            main,
            addresses: inbox().unwrap().0,
            polling: None,
            recorder,
        };
        let (table, _queue) = inbox().unwrap();
        let mut workers = Workers::default();
        let take = |workers: &mut Workers, conf: &Arc<Conf>| {
            let successors = workers.successors(&context, conf, dir.path(), Some(table.clone()))?;
            workers.succeed(successors);
            Ok::<_, RunError>(())
        };
        take(&mut workers, &conf("127.77.0.1", "127.77.0.9")).unwrap();
        let endpoints = workers.endpoints.clone().unwrap();
        let from = |workers: &Workers| workers.endpoints.as_ref().unwrap().from.clone();
        // An address that this host does not have.
        let failed = take(&mut workers, &conf("192.0.2.77", "127.77.0.9"));
        assert!(matches!(failed, Err(RunError::Heartbeats(_))), "{failed:?}");
        assert_eq!((workers.endpoints.as_ref(), workers.dead()), (Some(&endpoints), None));
        assert!(workers.monitor().is_some() && workers.heartbeat_sender.inbox().is_some());
        take(&mut workers, &conf("127.77.0.2", "127.77.0.9")).unwrap();
        assert_eq!(from(&workers), ["127.77.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(workers.dead(), None);
        // The same address, others to speak to: the sockets are passed on.
        take(&mut workers, &conf("127.77.0.2", "127.77.0.8")).unwrap();
        assert_eq!(workers.dead(), None);
        workers.end();
        writer.end();
        let recorded = std::fs::read_dir(Writer::folder(dir.path(), 1)).unwrap();
        let recorded = recorded.map(|entry| text_of(&entry.unwrap().path()));
        let recorded: Vec<String> = recorded.collect();
        assert_eq!(recorded.len(), 3, "each monitor is recorded");
        assert!(recorded.iter().all(|text| text.contains("monitor") && !text.contains(key)));
    }
}
