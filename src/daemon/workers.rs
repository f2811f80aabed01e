//! Which workers a node needs, by its part in cvip.conf: they are started and ended here.
//!
//! A director has a monitor from the start, and a table once the monitor has told it its part:
//! until then what its kernel has stays as it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::address_manager::AddressMessage;
use super::error::RunError;
use super::messages::{
    MainMessage, MonitorMessage, MonitorWorker, NodeMessage, SenderMessage, TableAgent,
    TableMessage,
};
use super::worker::{Orders, Prepared, Worker, WorkerInbox, inbox};
use crate::checks::Checker;
use crate::conf::Conf;
use crate::director::monitor::{Monitor, MonitorIdentity, order};
use crate::director::{self, sync};
use crate::heartbeat::{
    self, ClusterKey, HeartbeatContent, HeartbeatSocket, HeartbeatSource, LeftPorts, Nonce, Timing,
};
use crate::listeners::Dumper;
use crate::node::agent::NodeSources;
use crate::store::{AppliedOrders, Interest, Store};
use crate::wake::Outbox;
use crate::{ipvs, node};

/// How long a table may take to be emptied before the node ends.
const EMPTIED_WITHIN: Duration = Duration::from_secs(20);

/// How long a reload waits for that, before the node's addresses are others.
const EMPTIED_SOON: Duration = Duration::from_secs(2);

/// What a node's workers have in common.
pub(super) struct WorkerContext {
    pub(super) node: u32,
    /// Which start of this node's cvipd this is.
    pub(super) incarnation: u64,
    pub(super) nonce: Nonce,
    /// When this cvipd was started.
    pub(super) started: Instant,
    pub(super) key: ClusterKey,
    /// The UDP port on which directors hear heartbeats.
    pub(super) port: u16,
    /// The workers have views of their own of it.
    pub(super) store: Box<dyn Store>,
    pub(super) main: Outbox<MainMessage>,
    /// Where orders for the address manager are left.
    pub(super) addresses: WorkerInbox<AddressMessage>,
    /// Why no socket events are to be used; they are if absent.
    pub(super) polling: Option<String>,
}

/// Who speaks and listens for a node, and where: by this its monitor and heartbeat sender are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoints {
    /// The node's own addresses.
    from: Vec<std::net::IpAddr>,
    /// Those of the directors that hear it.
    to: Vec<std::net::IpAddr>,
    /// The directors of its set, if it is one.
    set: Vec<u32>,
}

impl Endpoints {
    fn of(conf: &Conf, node: u32) -> Endpoints {
        let set = if conf.is_director(node) { order(conf, node) } else { Vec::new() };
        Endpoints { from: conf.addresses(node), to: conf.audience(node), set }
    }
}

/// The table's worker, or what it will be made of.
enum TableWorker {
    Waiting(ipvs::Client, (WorkerInbox<TableMessage>, Orders<TableMessage>)),
    Working(Worker<TableMessage>),
}

impl TableWorker {
    fn inbox(&self) -> &WorkerInbox<TableMessage> {
        match self {
            TableWorker::Waiting(_, (inbox, _)) => inbox,
            TableWorker::Working(worker) => &worker.inbox,
        }
    }
}

/// The workers of the moment.
#[derive(Default)]
pub(super) struct Workers {
    node: Option<Worker<NodeMessage>>,
    heartbeat_sender: Option<Worker<SenderMessage>>,
    monitor: Option<Worker<MonitorMessage>>,
    table: Option<TableWorker>,
    liveness: Option<Endpoints>,
    /// The monitor's sockets, to be shared with its successor.
    ears: Option<HeartbeatSocket>,
    /// The worker of a table that is not this node's any more, which may not have ended yet.
    retired: Option<Worker<TableMessage>>,
    /// The ports that this node has left, as it last said.
    left: Option<LeftPorts>,
    /// This node is leaving the cluster.
    leaving: bool,
}

/// A heartbeat sender and a monitor that are ready to take the place of those before.
struct Successors {
    liveness: Endpoints,
    heartbeat_sender: Option<(Prepared<heartbeat::Sender>, heartbeat::Sender)>,
    monitor: Option<(Prepared<MonitorWorker>, MonitorWorker, HeartbeatSocket)>,
}

impl Workers {
    /// Starts what a director needs before it knows its part, and the heartbeat. The kernel comes
    /// first: without IPVS nothing else is touched.
    pub(super) fn begin(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        let bench = self.new_bench(context, conf)?;
        let table = self.table.as_ref().or(bench.as_ref()).map(|bench| bench.inbox().clone());
        let successors = self.successors(context, conf, run_dir, table)?;
        self.table = self.table.take().or(bench);
        self.succeed(successors);
        Ok(())
    }

    /// Takes another configuration. Who is a director no longer deletes what it made in the table.
    ///
    /// # Errors
    /// The node cannot speak or listen as the configuration says; then nothing has changed.
    pub(super) fn reload(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        // Whatever can fail comes first.
        Workers::check(context, conf)?;
        let bench = self.new_bench(context, conf)?;
        let table = self.table.as_ref().or(bench.as_ref()).map(|bench| bench.inbox().clone());
        let successors = self.successors(context, conf, run_dir, table)?;
        if !conf.is_director(context.node) && self.table.is_some() {
            if let Some(monitor) = self.monitor.take() {
                monitor.end();
            }
            self.ears = None;
            self.empty_table(EMPTIED_SOON);
            self.retire_table();
        }
        if let Some(worker) = &self.node {
            worker.inbox.order(NodeMessage::Reload(Arc::clone(conf)));
        }
        self.table = self.table.take().or(bench);
        self.succeed(successors);
        if let Some(worker) = &self.monitor {
            worker.inbox.order(MonitorMessage::Reload(Arc::clone(conf)));
        }
        Ok(())
    }

    /// Whether the node can speak as a configuration says. Changes nothing.
    pub(super) fn check(context: &WorkerContext, conf: &Conf) -> Result<(), RunError> {
        drop(HeartbeatSocket::sender(
            &conf.addresses(context.node),
            context.port,
            None,
            &context.key,
        )?);
        Ok(())
    }

    /// What the table's worker will be made of, for a node that becomes a director.
    fn new_bench(
        &self,
        context: &WorkerContext,
        conf: &Conf,
    ) -> Result<Option<TableWorker>, RunError> {
        if !conf.is_director(context.node) || self.table.is_some() {
            return Ok(None);
        }
        Ok(Some(TableWorker::Waiting(ipvs::Client::open()?, inbox().map_err(no_inbox)?)))
    }

    /// A monitor and a heartbeat sender that listen and speak as the configuration says; none if those that
    /// there are do so. Nothing has changed yet.
    fn successors(
        &self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        run_dir: &Path,
        table: Option<WorkerInbox<TableMessage>>,
    ) -> Result<Option<Successors>, RunError> {
        let mut liveness = Endpoints::of(conf, context.node);
        // Nodes read a new configuration one after the other: who does not have it yet is to hear
        // this one all the same, or takes it for dead.
        let before = self.liveness.iter().flat_map(|before| &before.to);
        liveness.to.extend(before.filter(|addr| !conf.addresses(context.node).contains(addr)));
        liveness.to.sort_unstable();
        liveness.to.dedup();
        if self.liveness.as_ref() == Some(&liveness) {
            return Ok(None);
        }
        let now = Instant::now();
        let (port, key) = (context.port, &context.key);
        let mut heartbeat_sender = None;
        if !liveness.to.is_empty() {
            let socket = HeartbeatSocket::sender(&liveness.from, port, None, key)?;
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
            let (to, leaving) = (liveness.to.clone(), self.leaving);
            worker.inbox.order(SenderMessage::HeartbeatContent(HeartbeatContent {
                to,
                leaving,
                ..HeartbeatContent::default()
            }));
            heartbeat_sender = Some((worker, sender));
        }
        let mut monitor = None;
        if let Some(table) = table.filter(|_| conf.is_director(context.node)) {
            let me = MonitorIdentity {
                node: context.node,
                incarnation: context.incarnation,
                nonce: context.nonce,
            };
            let no_descriptor = |e| RunError::System("no descriptor for the monitor", e);
            let socket =
                HeartbeatSocket::patient_receiver(&liveness.from, port, key, self.ears.as_ref())?;
            let ears = socket.share().map_err(no_descriptor)?;
            let store = context.store.again(Interest::All)?;
            let agent = Monitor::new(me, Arc::clone(conf), store, socket, run_dir, now)
                .map_err(no_descriptor)?;
            let heartbeat_sender =
                heartbeat_sender.as_ref().map(|(worker, _)| worker.inbox.clone());
            let (main, to) = (context.main.clone(), liveness.to.clone());
            let addresses = context.addresses.clone();
            let monitor_worker =
                MonitorWorker { monitor: agent, main, table, addresses, heartbeat_sender, to };
            let worker = Prepared::new("monitor", inbox().map_err(no_inbox)?).map_err(no_thread)?;
            if self.leaving {
                worker.inbox.order(MonitorMessage::Leave);
            }
            monitor = Some((worker, monitor_worker, ears));
        }
        Ok(Some(Successors { liveness, heartbeat_sender, monitor }))
    }

    /// Puts them in the places of those before, who end.
    fn succeed(&mut self, successors: Option<Successors>) {
        let Some(Successors { liveness, heartbeat_sender, monitor }) = successors else { return };
        // The monitor speaks through the heartbeat sender: first the one, then the other.
        let before = self.heartbeat_sender.take();
        self.heartbeat_sender = match (heartbeat_sender, before) {
            (Some((worker, agent)), before) => Some(worker.start(agent, before)),
            (None, before) => {
                before.into_iter().for_each(Worker::end);
                None
            }
        };
        let before = self.monitor.take();
        (self.monitor, self.ears) = match (monitor, before) {
            (Some((worker, agent, ears)), before) => {
                (Some(worker.start(agent, before)), Some(ears))
            }
            (None, before) => {
                before.into_iter().for_each(Worker::end);
                (None, None)
            }
        };
        self.liveness = Some(liveness);
        if let Some(left) = self.left.take() {
            self.tell_left(left);
        }
    }

    /// Tells the table its part, and makes its worker if there is none yet.
    pub(super) fn direct(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
        role: sync::SyncRole,
    ) -> Result<(), RunError> {
        let Some(bench) = self.table.take() else { return Ok(()) };
        bench.inbox().order(TableMessage::ElectionRole(role));
        self.table = Some(match bench {
            TableWorker::Working(worker) => TableWorker::Working(worker),
            TableWorker::Waiting(client, (inbox, orders)) => {
                let store = context.store.again(Interest::All)?;
                let (conf, now) = (Arc::clone(conf), Instant::now());
                let checker = Checker::new(context.node.into(), now).map_err(no_inbox)?;
                let agent =
                    director::DirectorAgent::new(context.node, conf, client, store, checker, now)?;
                let (main, obeys) = (context.main.clone(), AppliedOrders::default());
                let table = TableAgent { agent, main, awaited: None, obeys };
                let worker = Prepared::new("table", (inbox, orders)).map_err(no_thread)?;
                TableWorker::Working(worker.start(table, self.retired.take()))
            }
        });
        Ok(())
    }

    /// Starts the node's worker, if there is none yet.
    pub(super) fn serve(
        &mut self,
        context: &WorkerContext,
        conf: &Arc<Conf>,
    ) -> Result<(), RunError> {
        if self.node.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let watch = node::agent::open_watch(now, context.polling.as_deref())?;
        let store = context.store.again(Interest::Node(context.node))?;
        let checker = Checker::new(context.node.into(), now).map_err(no_inbox)?;
        let senses = NodeSources { watch, hint_dumper: Dumper::open()?, checker };
        let (conf, incarnation) = (Arc::clone(conf), context.incarnation);
        let main = context.main.clone();
        let departed = Box::new(move |left| {
            main.send(MainMessage::Left(left));
        });
        let agent = node::NodeAgent::new(context.node, conf, senses, store, incarnation, now)?;
        let agent = agent.telling(departed);
        info!("listeners are noticed by {}", agent.event_source());
        let worker = Worker::start("node", agent, inbox().map_err(no_inbox)?).map_err(no_thread)?;
        self.node = Some(worker);
        Ok(())
    }

    pub(super) fn node(&self) -> Option<&WorkerInbox<NodeMessage>> {
        self.node.as_ref().map(|worker| &worker.inbox)
    }

    pub(super) fn monitor(&self) -> Option<&WorkerInbox<MonitorMessage>> {
        self.monitor.as_ref().map(|worker| &worker.inbox)
    }

    /// The table's desk; none before the director knows its part.
    pub(super) fn table(&self) -> Option<&WorkerInbox<TableMessage>> {
        match self.table.as_ref()? {
            TableWorker::Waiting(..) => None,
            TableWorker::Working(worker) => Some(&worker.inbox),
        }
    }

    /// Names the ports that this node has left: in its heartbeat, and to its own monitor.
    pub(super) fn tell_left(&mut self, left: LeftPorts) {
        if let Some(heartbeat_sender) = &self.heartbeat_sender {
            heartbeat_sender.inbox.order(SenderMessage::Left(left.clone()));
        }
        if let Some(monitor) = &self.monitor {
            monitor.inbox.order(MonitorMessage::Left(left.clone()));
        }
        self.left = Some(left);
    }

    /// Says from now on that this node leaves: directors that the store cannot tell take it out of
    /// their tables all the same, and its own monitor hands over.
    pub(super) fn say_that_it_leaves(&mut self) {
        self.leaving = true;
        match &self.monitor {
            Some(monitor) => monitor.inbox.order(MonitorMessage::Leave),
            None => self.say_farewell(),
        }
    }

    /// Says that this node leaves, so that nobody takes it for dead.
    pub(super) fn say_farewell(&self) {
        let (Some(heartbeat_sender), Some(liveness)) = (&self.heartbeat_sender, &self.liveness)
        else {
            return;
        };
        let to = liveness.to.clone();
        heartbeat_sender.inbox.order(SenderMessage::HeartbeatContent(HeartbeatContent {
            to,
            leaving: true,
            ..HeartbeatContent::default()
        }));
    }

    /// Deletes from the kernel's table what is cvipd's own before the node ends, and waits for it.
    pub(super) fn leave_table(&self) {
        self.empty_table(EMPTIED_WITHIN);
    }

    fn empty_table(&self, within: Duration) {
        let Some(inbox) = self.table() else { return };
        let (reply, emptied) = mpsc::channel();
        inbox.order(TableMessage::Leave(reply));
        if emptied.recv_timeout(within).is_err() {
            warn!("the kernel's table could not be emptied in time");
        }
    }

    /// A worker that should be there, and is not or has ended.
    pub(super) fn dead(&self) -> Option<&'static str> {
        let liveness = self.liveness.as_ref();
        if liveness.is_some_and(|liveness| !liveness.to.is_empty())
            && self.heartbeat_sender.is_none()
        {
            return Some("heartbeat");
        }
        if self.table.is_some() && self.monitor.is_none() {
            return Some("monitor");
        }
        let table = match &self.table {
            Some(TableWorker::Working(worker)) => worker.died(),
            _ => None,
        };
        let dead = [
            self.node.as_ref().and_then(Worker::died),
            self.heartbeat_sender.as_ref().and_then(Worker::died),
            self.monitor.as_ref().and_then(Worker::died),
            table,
        ];
        dead.into_iter().flatten().next()
    }

    /// Ends the table's worker without waiting: one that is made anew begins after it.
    fn retire_table(&mut self) {
        if let Some(TableWorker::Working(worker)) = self.table.take() {
            worker.stop();
            self.retired = Some(worker);
        }
    }

    fn end_table(&mut self) {
        if let Some(TableWorker::Working(worker)) = self.table.take() {
            worker.end();
        }
        if let Some(worker) = self.retired.take() {
            worker.end();
        }
    }

    /// Ends all. What stands in the kernel stays.
    pub(super) fn end(mut self) {
        end(&mut self.monitor);
        self.end_table();
        end(&mut self.node);
        end(&mut self.heartbeat_sender);
    }
}

fn end<O: Send + 'static>(worker: &mut Option<Worker<O>>) {
    if let Some(worker) = worker.take() {
        worker.end();
    }
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
        let context = WorkerContext {
            node: 1,
            incarnation: 1,
            nonce: Nonce([1; 16]),
            started: Instant::now(),
            key: ClusterKey::from_bytes(b"a key that is only for this test").unwrap(),
            port: heartbeat::PORT,
            store: Box::new(store),
            main,
            addresses: inbox().unwrap().0,
            polling: None,
        };
        let (table, _orders) = inbox().unwrap();
        let mut workers = Workers::default();
        let take = |workers: &mut Workers, conf: &Arc<Conf>| {
            let successors = workers.successors(&context, conf, dir.path(), Some(table.clone()))?;
            workers.succeed(successors);
            Ok::<_, RunError>(())
        };
        take(&mut workers, &conf("127.77.0.1", "127.77.0.9")).unwrap();
        let liveness = workers.liveness.clone().unwrap();
        let from = |workers: &Workers| workers.liveness.as_ref().unwrap().from.clone();
        // An address that this host does not have.
        let failed = take(&mut workers, &conf("192.0.2.77", "127.77.0.9"));
        assert!(matches!(failed, Err(RunError::Heartbeats(_))), "{failed:?}");
        assert_eq!((workers.liveness.as_ref(), workers.dead()), (Some(&liveness), None));
        assert!(workers.monitor.is_some() && workers.heartbeat_sender.is_some());
        take(&mut workers, &conf("127.77.0.2", "127.77.0.9")).unwrap();
        assert_eq!(from(&workers), ["127.77.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(workers.dead(), None);
        // The same address, others to speak to: the sockets are passed on.
        take(&mut workers, &conf("127.77.0.2", "127.77.0.8")).unwrap();
        assert_eq!(workers.dead(), None);
        // One that should be there is missed.
        workers.heartbeat_sender.take().unwrap().end();
        assert_eq!(workers.dead(), Some("heartbeat"));
        workers.end();
    }
}
