//! The main thread: configuration, roles, signals, and what its workers tell it.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::address_manager::{AddressManager, AddressMessage, AddressNotice};
use super::control::{Base, ControlAnswer, ControlServer, Question, Status, What, no_director};
use super::error::RunError;
use super::event_log::EventLog;
use super::leave::{Leave, LeaveStep};
use super::messages::{MainMessage, MonitorMessage, NodeMessage, PassReply, TableMessage};
use super::node_role::NodeRole;
use super::worker::{self, Worker, wait};
use super::workers::{WorkerContext, Workers};
use crate::conf::{self, Conf};
use crate::director::monitor::order;
use crate::director::sync;
use crate::heartbeat::{self, ClusterKey, Nonce};
use crate::node::leaving::holders;
use crate::node::{host, identify};
use crate::store::{self, Access, AppliedOrders, Interest, Lease, Store};
use crate::wake::{Inbox, channel};
use crate::{files, net, settings};

/// How long a director that is told to end waits until another has taken over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);

/// How long addresses may take to be given back when the node leaves.
const UNDONE_WITHIN: Duration = Duration::from_secs(10);
/// How often an answer that is awaited is looked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The threads' health is looked at this often: one that dies is a fault of the program, and a
/// restart is the cure.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What stands below the run folder is looked after this often: what somebody deleted is made
/// again, and what found no room is written.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// What cvipd is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSettings {
    /// cvip.conf.
    pub conf: PathBuf,
    /// clustertab.
    pub clustertab: PathBuf,
    /// The folder of the store, of the control socket and of what is to be undone.
    pub run_dir: PathBuf,
    /// Which store, and how to reach it.
    pub store: settings::Settings,
    /// Which node this is; found by its addresses if absent.
    pub node: Option<u32>,
    /// Why no socket events are to be used; they are if absent.
    pub polling: Option<String>,
}

struct Supervisor {
    settings: DaemonSettings,
    cluster_key: settings::KeyFile,
    context: WorkerContext,
    conf: Arc<Conf>,
    /// Its text, for those who find the files faulty.
    sources: Arc<conf::Sources>,
    /// Faults of the newest configuration, which was then not taken.
    faults: Vec<String>,
    workers: Workers,
    addresses: Worker<AddressMessage>,
    /// How many orders the address manager was given.
    orders: u64,
    /// The role's addresses were ordered, and do not stand yet.
    awaited: Option<Awaited>,
    /// Whether the CVIPs can be carried here, as the address manager said.
    carries: Option<bool>,
    /// The addresses that this node carries as the active director, and announces.
    announced: Vec<net::Reachable>,
    /// What is wrong with addresses and settings.
    address_faults: Vec<String>,
    node_role: NodeRole,
    /// The service manager was told that it is ready.
    is_ready: bool,
    /// The part for which the table is being made.
    ordered: Option<sync::SyncRole>,
    record: EventLog,
    /// What its table obeys.
    obeys: AppliedOrders,
    /// How it is to end, once it is told to.
    end: Option<PendingEnd>,
    /// The active director is struck from cvip.conf, and goes on until another has taken over.
    struck: Option<HandOver>,
}

/// Another director is to take over in place of this active one. Nothing waits for the answer.
struct HandOver {
    /// The monitor says which, if any lives.
    reply: Receiver<Result<Option<u32>, String>>,
    /// By then at the latest it is over.
    by: Instant,
    agreed: bool,
}

impl HandOver {
    /// True once another has taken over, or nobody does.
    fn is_over(&mut self, is_standby: bool, now: Instant) -> bool {
        if !self.agreed {
            match self.reply.try_recv() {
                Ok(Ok(Some(successor))) => {
                    info!("handing over to node {successor}");
                    (self.agreed, self.by) = (true, now + HAND_OVER_WITHIN);
                }
                Ok(Ok(None)) => {
                    warn!("no other director lives: nobody takes over");
                    return true;
                }
                Ok(Err(error)) => {
                    warn!("nobody takes over: {error}");
                    return true;
                }
                Err(TryRecvError::Empty) if now < self.by => return false,
                Err(_) => {
                    warn!("nobody takes over: the monitor does not answer");
                    return true;
                }
            }
        }
        is_standby || now >= self.by
    }

    /// When it is to be looked at: the answer has no descriptor.
    fn due(&self, now: Instant) -> Instant {
        if self.agreed { self.by } else { self.by.min(now + ASK_EVERY) }
    }
}

/// An order to the address manager that is not reported yet.
struct Awaited {
    order: u64,
    /// What the role is to the table and to the node follows then.
    is_turn: bool,
}

/// An end that was ordered.
enum PendingEnd {
    /// Another director is to have taken over first, by then at the latest.
    HandedOver(HandOver),
    /// At once.
    Now,
    /// The node leaves for good: connections that are left are waited for.
    Left {
        report: Receiver<usize>,
        leave: Leave,
        /// Another director is to have taken over first.
        hand_over: Option<HandOver>,
        /// What directors say of it: they are to send it no new connections any more.
        view: Option<Box<dyn Store>>,
        /// That was read at least once.
        is_known: bool,
    },
}

/// Runs until SIGTERM or SIGINT: an active director then hands over, if another lives, and
/// nothing else changes in the kernel; the next start takes over what it finds. SIGHUP reads the
/// configuration again.
///
/// # Errors
/// It could not start, or a thread of it died.
pub fn run(settings: DaemonSettings) -> Result<(), RunError> {
    // Before any thread: they inherit the mask, and signals arrive by the descriptor alone.
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    let system = |what| move |errno: nix::errno::Errno| RunError::System(what, errno.into());
    mask.thread_block().map_err(system("signals cannot be blocked"))?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(system("no descriptor for signals"))?;

    let loaded = conf::load(&settings.conf, &settings.clustertab);
    let Some(conf) = loaded.conf else { return Err(RunError::Conf(loaded.diagnostics)) };
    for warning in loaded.diagnostics {
        warn!("{warning}");
    }
    let node = match settings.node {
        Some(node) => node,
        None => {
            let local = net::local_addresses().unwrap_or_default();
            identify(&loaded.clustertab.unwrap_or_default(), Some(&conf), &local)?
        }
    };
    if !conf.nodes().contains(&node) {
        return Err(RunError::NoPart(node, settings.conf.display().to_string()));
    }
    warn_of_lacks(&conf, node);
    let cluster_key = settings.store.cluster_key(&settings.run_dir)?;
    let key = ClusterKey::from_bytes(cluster_key.as_bytes())?;
    let interest = Interest::Node(node);
    let mut store = store::open(&settings.store, &settings.run_dir, Access::Write, interest)?;
    match store.refresh() {
        Ok(_) => {}
        Err(error) if error.is_unavailable() => warn!("{error}"),
        Err(error) => return Err(error.into()),
    }
    let unix_time =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let incarnation = store.state().next_incarnation(node, unix_time);
    let lease = store.lease(node, incarnation)?;
    let nonce = Nonce::random().map_err(|e| RunError::System("no random numbers", e))?;
    let (main, inbox) = channel().map_err(system("no descriptor for messages"))?;
    let polling = settings.polling.clone();
    let now = Instant::now();
    let port = settings.store.heartbeat_port.unwrap_or(heartbeat::PORT);
    let conf = Arc::new(conf);
    let manager =
        AddressManager::open(&settings.run_dir, node, Arc::clone(&conf), main.clone(), now);
    let no_inbox = system("no descriptor for messages");
    let addresses = Worker::start("address manager", manager, worker::inbox().map_err(no_inbox)?)
        .map_err(|e| RunError::System("no thread", e))?;
    let context = WorkerContext {
        node,
        incarnation,
        nonce,
        started: now,
        key,
        port,
        store,
        main: main.clone(),
        addresses: addresses.inbox.clone(),
        polling,
    };
    let record = EventLog::open(&settings.run_dir, node);
    let mut daemon = Supervisor {
        settings,
        cluster_key,
        context,
        conf,
        sources: Arc::new(loaded.sources),
        faults: Vec::new(),
        workers: Workers::default(),
        addresses,
        orders: 0,
        awaited: None,
        carries: None,
        announced: Vec::new(),
        address_faults: Vec::new(),
        node_role: NodeRole::Undecided,
        is_ready: false,
        ordered: None,
        record,
        obeys: AppliedOrders::default(),
        end: None,
        struck: None,
    };
    daemon.begin()?;
    let mut server = ControlServer::open(&daemon.settings.run_dir, node, main)
        .map_err(|e| RunError::System("the control socket cannot be opened", e))?;
    let outcome = daemon.serve(&signals, &inbox, &lease, &mut server);
    notify(&[NotifyState::Stopping]);
    daemon.finish(lease);
    // Last of all: who waits for a node to leave waits for this.
    drop(server);
    outcome
}

impl Supervisor {
    /// Takes the configuration's part.
    fn begin(&mut self) -> Result<(), RunError> {
        let Supervisor { context, conf, settings, .. } = self;
        self.workers.begin(context, conf, &settings.run_dir)?;
        if !self.conf.is_director(self.context.node) {
            self.turn(NodeRole::Serve)?;
        }
        Ok(())
    }

    fn serve(
        &mut self,
        signals: &SignalFd,
        inbox: &Inbox<MainMessage>,
        lease: &Lease,
        server: &mut ControlServer,
    ) -> Result<(), RunError> {
        let mut next_tend = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_tend {
                next_tend = now + TEND_EVERY;
                lease.tend();
                server.tend();
                self.record.tend();
                let DaemonSettings { store, run_dir, .. } = &self.settings;
                store.tend_cluster_key(run_dir, &self.cluster_key);
            }
            self.turn(self.node_role.at(now))?;
            if self.is_over(now) {
                return Ok(());
            }
            // A real server is ready when its addresses stand, and a director before it knows its
            // part.
            if !self.is_ready && !self.is_turning() {
                self.is_ready = true;
                info!("node {}: {}", self.context.node, self.roles().join(" and "));
                notify(&[NotifyState::Ready]);
            }
            let is_standby = self.is_standby();
            if self.struck.as_mut().is_some_and(|struck| struck.is_over(is_standby, now)) {
                self.read_again();
            }
            if let Some(name) = self.workers.dead().or_else(|| self.addresses.died()) {
                return Err(RunError::Died(name));
            }
            let struck = self.struck.as_ref().map(|struck| struck.due(now));
            let due = [self.node_role.until(), self.end_due(now), struck];
            let look = next_tend.min(now + LOOK_EVERY);
            let at = due.into_iter().flatten().fold(look, Instant::min);
            wait([signals.as_fd(), inbox.fd()], at.saturating_duration_since(now))
                .map_err(|errno| RunError::System("poll", errno.into()))?;
            while let Ok(Some(signal)) = signals.read_signal() {
                match Signal::try_from(signal.ssi_signo as i32) {
                    Ok(Signal::SIGHUP) => {
                        notify(&[NotifyState::Reloading]);
                        self.read_again();
                        notify(&[NotifyState::Ready]);
                    }
                    _ => self.end_soon(Instant::now()),
                }
            }
            for messages in inbox.take() {
                self.hear(messages, Instant::now())?;
            }
        }
    }

    fn hear(&mut self, messages: MainMessage, now: Instant) -> Result<(), RunError> {
        match messages {
            MainMessage::ElectionRole(role) => self.turn(self.node_role.told(role, now)),
            // For an order before the last one.
            MainMessage::Ready(role) if self.ordered != Some(role) => Ok(()),
            MainMessage::Ready(_) => {
                self.ordered = None;
                self.turn(self.node_role.ready())
            }
            MainMessage::Addresses(news) => self.hear_addresses(news),
            MainMessage::Left(left) => {
                self.workers.tell_left(left);
                Ok(())
            }
            MainMessage::Obeys(obeys) => {
                self.obeys = obeys;
                self.tell_applied();
                Ok(())
            }
            MainMessage::Vouch(number) => {
                if let Some(inbox) = self.workers.node() {
                    inbox.order(NodeMessage::Vouch(number));
                }
                Ok(())
            }
            MainMessage::Event(event) => {
                self.record.add(event, SystemTime::now());
                Ok(())
            }
            MainMessage::Question(Question { what, answer }) => {
                // Whoever asked may have given up waiting.
                let _ = answer.send(self.answer(what, now));
                Ok(())
            }
        }
    }

    fn hear_addresses(&mut self, news: AddressNotice) -> Result<(), RunError> {
        match news {
            AddressNotice::Stand(order) => {
                let is_awaited = |awaited: &mut Awaited| awaited.order == order;
                let stands = self.awaited.take_if(is_awaited);
                if stands.is_some_and(|awaited| awaited.is_turn) {
                    return self.follow();
                }
            }
            AddressNotice::Doubt => self.doubt(),
            AddressNotice::Announced(announced) => {
                self.announced = announced;
                self.tell_announced();
            }
            AddressNotice::Carries(carries) => {
                self.carries = Some(carries);
                self.tell_carries();
            }
            AddressNotice::Faults(faults) => self.address_faults = faults,
        }
        Ok(())
    }

    /// The election is told whether this director can carry the CVIPs.
    fn tell_carries(&self) {
        if let (Some(inbox), Some(carries)) = (self.workers.monitor(), self.carries) {
            inbox.order(MonitorMessage::Carries(carries));
        }
    }

    /// The monitor hears other hosts that claim these addresses.
    fn tell_announced(&self) {
        if let Some(inbox) = self.workers.monitor() {
            inbox.order(MonitorMessage::Announced(self.announced.clone()));
        }
    }

    /// Takes up a role.
    fn turn(&mut self, node_role: NodeRole) -> Result<(), RunError> {
        if node_role == self.node_role {
            return Ok(());
        }
        self.node_role = node_role;
        match node_role {
            NodeRole::Undecided => {}
            NodeRole::Prepare { .. } => self.role(true, false)?,
            NodeRole::Serve
            | NodeRole::Stand
            | NodeRole::Direct { .. }
            | NodeRole::Yield { .. } => {
                self.carry(true);
            }
        }
        Ok(())
    }

    /// Orders the role's addresses and settings.
    fn carry(&mut self, is_turn: bool) {
        let Some(address_role) = self.node_role.address_role() else { return };
        self.orders += 1;
        let is_turn = is_turn || self.is_turning();
        self.awaited = Some(Awaited { order: self.orders, is_turn });
        let conf = Arc::clone(&self.conf);
        self.addresses.inbox.order(AddressMessage::Take {
            role: address_role,
            conf,
            order: self.orders,
        });
    }

    /// What follows once the role's addresses stand, or could not be made: a director that yields
    /// gives the address back first, and a node's addresses and settings come before its first
    /// registration.
    fn follow(&mut self) -> Result<(), RunError> {
        match self.node_role {
            NodeRole::Undecided | NodeRole::Prepare { .. } => return Ok(()),
            NodeRole::Serve | NodeRole::Direct { .. } => {}
            NodeRole::Stand => self.role(false, false)?,
            NodeRole::Yield { .. } => self.role(false, true)?,
        }
        self.workers.serve(&self.context, &self.conf)?;
        if let Some(inbox) = self.workers.node() {
            let directing =
                matches!(self.node_role, NodeRole::Direct { .. } | NodeRole::Yield { .. });
            inbox.order(NodeMessage::Direct(directing));
        }
        self.tell_applied();
        Ok(())
    }

    /// Whoever waits for a drain reads in this node's record what its table obeys.
    fn tell_applied(&self) {
        if let Some(inbox) = self.workers.node() {
            inbox.order(NodeMessage::Obey(self.obeys.clone()));
        }
    }

    fn role(&mut self, active: bool, forwarding: bool) -> Result<(), RunError> {
        let role = sync::SyncRole { active, forwarding };
        self.ordered = Some(role);
        self.workers.direct(&self.context, &self.conf, role)
    }

    /// Asks the monitor whether this is still what it was: the address manager does nothing until
    /// it is told its role again.
    fn doubt(&mut self) {
        match (self.workers.monitor(), self.node_role) {
            (Some(inbox), NodeRole::Direct { .. } | NodeRole::Yield { .. }) => {
                self.node_role = NodeRole::Undecided;
                inbox.order(MonitorMessage::Confirm);
            }
            // It is something else by now, and knows it.
            _ => self.carry(false),
        }
    }

    fn read_again(&mut self) {
        if let Err(error) = self.reload(None) {
            error!("{error}");
        }
    }

    /// Reads the configuration again; one with faults is not taken. The table's worker reports to
    /// whoever wants to know what came of it.
    fn reload(&mut self, report: Option<PassReply>) -> Result<(), RunError> {
        // Whatever comes of it, nothing is handed over twice for one change of the file.
        let was_struck = self.struck.take().is_some();
        let loaded = conf::load(&self.settings.conf, &self.settings.clustertab);
        self.faults = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let Some(conf) = loaded.conf else {
            return Err(RunError::Conf(loaded.diagnostics));
        };
        for warning in loaded.diagnostics {
            warn!("{warning}");
        }
        let node = self.context.node;
        if !conf.nodes().contains(&node) {
            let error = RunError::NoPart(node, self.settings.conf.display().to_string());
            // A real server that is struck from the file goes on as it was, for those who are
            // connected to it; a director must not, for another directs in its place.
            if !self.conf.is_director(node) {
                self.faults.push(error.to_string());
                return Err(error);
            }
            warn!("{error}");
        }
        let now = Instant::now();
        // What cannot be taken hands nothing over.
        if let Err(error) = Workers::check(&self.context, &conf) {
            self.faults.push(error.to_string());
            return Err(error);
        }
        // Clients whose packets still come here are served until they know the new director.
        if !conf.is_director(node) && !was_struck {
            self.struck = self.hand_over(now);
            if self.struck.is_some() {
                return Ok(());
            }
        }
        let conf = Arc::new(conf);
        if let Err(error) = has_interfaces(&conf, node) {
            self.faults.push(error.to_string());
            return Err(error);
        }
        if let Err(error) = self.workers.reload(&self.context, &conf, &self.settings.run_dir) {
            self.faults.push(error.to_string());
            return Err(error);
        }
        warn_of_lacks(&conf, node);
        self.conf = conf;
        self.sources = Arc::new(loaded.sources);
        info!("configuration read again");
        let directs = self.conf.is_director(node);
        match (directs, self.node_role) {
            (false, node_role) if node_role != NodeRole::Serve => self.turn(NodeRole::Serve)?,
            (true, NodeRole::Serve) => self.node_role = NodeRole::Undecided,
            _ => {}
        }
        match self.node_role.address_role() {
            Some(_) => self.carry(false),
            None => self.addresses.inbox.order(AddressMessage::Reload(Arc::clone(&self.conf))),
        }
        // The monitor may be another.
        self.tell_carries();
        self.tell_announced();
        if let Some(inbox) = self.workers.table() {
            let conf = Arc::clone(&self.conf);
            inbox.order(match report {
                Some(report) => TableMessage::Resync(conf, report),
                None => TableMessage::Reload(conf),
            });
        }
        Ok(())
    }

    fn roles(&self) -> Vec<String> {
        let director = self.node_role.name();
        let serves = self.workers.node().is_some();
        let roles = director.into_iter().chain(serves.then_some("real server"));
        roles.map(str::to_owned).collect()
    }

    fn answer(&mut self, what: What, now: Instant) -> ControlAnswer {
        match what {
            What::State => {}
            What::Apply(reply) => {
                self.reload(Some(reply)).map_err(|error| error.to_string())?;
                if self.struck.is_some() || self.workers.table().is_none() {
                    return Err(no_director(self.context.node));
                }
            }
            What::Leave(within) => self.leave(within, now)?,
        }
        let leaving = match &self.end {
            Some(PendingEnd::Left { leave, .. }) => Some(leave.connections()),
            _ => None,
        };
        // Away or not: the view tells, and what of it is new is of no interest here.
        let _ = self.context.store.refresh();
        let away = self.context.store.unavailable_since();
        let status = Status {
            pid: std::process::id(),
            node: self.context.node,
            roles: self.roles(),
            faults: self.faults.clone(),
            addresses: self.address_faults.clone(),
            unsaved: files::unsaved(),
            leaving,
            store_unavailable_s: away.map(|since| now.saturating_duration_since(since).as_secs()),
            store_requests: self.context.store.requests(),
            monitor: None,
            pools: None,
        };
        let (monitor, table) = (self.workers.monitor().cloned(), self.workers.table().cloned());
        let directs = self.conf.is_director(self.context.node);
        let sources = Arc::clone(&self.sources);
        Ok(Base { status, sources, directs, monitor, table })
    }

    /// Ends soon: an active director hands over first, if it can. Told twice, it ends at once.
    fn end_soon(&mut self, now: Instant) {
        let is_first = self.end.is_none();
        let hand_over = is_first.then(|| self.hand_over(now)).flatten();
        self.end = Some(hand_over.map_or(PendingEnd::Now, PendingEnd::HandedOver));
    }

    /// Has another director elected in place of this active one; none if there can be none.
    fn hand_over(&self, now: Instant) -> Option<HandOver> {
        let is_shared = order(&self.conf, self.context.node).len() > 1;
        let (Some(inbox), NodeRole::Direct { .. }, true) =
            (self.workers.monitor(), self.node_role, is_shared)
        else {
            return None;
        };
        let (answer, reply) = mpsc::channel();
        inbox.order(MonitorMessage::HandOver(answer));
        Some(HandOver { reply, by: now + HAND_OVER_WITHIN, agreed: false })
    }

    /// Begins to leave for good.
    fn leave(&mut self, within: Duration, now: Instant) -> Result<(), String> {
        match &self.end {
            None => {}
            Some(PendingEnd::Left { .. }) => return Ok(()),
            Some(_) => return Err("it is ending already, and the node does not leave".to_owned()),
        }
        let Some(inbox) = self.workers.node() else {
            let what = "it was just started, and does not know this node's part yet: try again";
            return Err(what.to_owned());
        };
        let (report, left) = mpsc::channel();
        inbox.order(NodeMessage::Leave(report));
        let hand_over = self.hand_over(now);
        self.workers.say_that_it_leaves();
        let view = match self.context.store.again(Interest::All) {
            Ok(view) => Some(view),
            Err(error) => {
                warn!("directors' records cannot be read, and are not waited for: {error}");
                None
            }
        };
        let leave = Leave::new(within, now);
        self.end = Some(PendingEnd::Left { report: left, leave, hand_over, view, is_known: false });
        Ok(())
    }

    /// When an end that was ordered is to be looked at.
    fn end_due(&self, now: Instant) -> Option<Instant> {
        match &self.end {
            None => None,
            Some(PendingEnd::Now) => Some(now),
            Some(PendingEnd::HandedOver(hand_over)) => Some(hand_over.due(now)),
            // Its report has no descriptor.
            Some(PendingEnd::Left { .. }) => Some(now + Duration::from_millis(100)),
        }
    }

    /// It carries no address, and its table is what a standby's is.
    fn is_standby(&self) -> bool {
        let directs = matches!(self.node_role, NodeRole::Direct { .. } | NodeRole::Yield { .. });
        !directs && !self.is_turning() && self.ordered.is_none()
    }

    /// The role's addresses do not stand yet, and what follows from it waits for them.
    fn is_turning(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.is_turn)
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let is_standby = self.is_standby();
        let node = self.context.node;
        match &mut self.end {
            None => false,
            Some(PendingEnd::Now) => true,
            Some(PendingEnd::HandedOver(hand_over)) => hand_over.is_over(is_standby, now),
            Some(PendingEnd::Left { report, leave, hand_over, view, is_known }) => {
                leave.report(report.try_iter().last());
                if hand_over.as_mut().is_some_and(|h| h.is_over(is_standby, now)) {
                    *hand_over = None;
                }
                match leave.step(hand_over.is_some(), now) {
                    LeaveStep::Wait => false,
                    LeaveStep::Over => true,
                    LeaveStep::Directors => {
                        let Some(view) = view else { return true };
                        // Away: what it said last holds, and time is up soon.
                        *is_known |= view.refresh().is_ok();
                        *is_known && holders(node, &self.conf, view.state()).is_empty()
                    }
                    LeaveStep::Untold => {
                        error!(
                            "the store could not be told that this node leaves: its addresses and \
                             settings stay; start cvipd, and leave again when the store is back"
                        );
                        self.end = Some(PendingEnd::Now);
                        true
                    }
                }
            }
        }
    }

    /// Ends the workers. A node that leaves undoes what it made.
    fn finish(self, lease: Lease) {
        if matches!(self.end, Some(PendingEnd::Left { .. })) {
            self.workers.say_farewell();
            self.workers.leave_table();
            let (reply, undone) = mpsc::channel();
            self.addresses.inbox.order(AddressMessage::Undo(reply));
            if undone.recv_timeout(UNDONE_WITHIN).is_err() {
                warn!("addresses and settings could not be undone in time");
            }
        }
        self.workers.end();
        self.addresses.end();
        drop(lease);
    }
}

/// Whether this host has the interfaces that cvip.conf gives it as a director. A slip of the pen
/// there would take the CVIP from the one that carries it.
fn has_interfaces(conf: &Conf, node: u32) -> Result<(), RunError> {
    // Whoever cannot list them finds out elsewhere.
    let Ok(interfaces) = net::interfaces() else { return Ok(()) };
    let is_here = |name: &str| interfaces.iter().any(|interface| interface.name == name);
    match conf.interfaces(node).find(|(_, name)| !is_here(name)) {
        Some((element, name)) => Err(RunError::Interface(name.to_owned(), element)),
        None => Ok(()),
    }
}

/// Says what cvip.conf names and this host does not have, such as the user of an `owner`.
fn warn_of_lacks(conf: &Conf, node: u32) {
    let interfaces = net::interfaces().unwrap_or_default();
    for lack in host::lacks(conf, node, &interfaces, host::has_user) {
        warn!("{}: {}", lack.path, lack.message);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Not started by a service manager: nobody to tell.
    let _ = sd_notify::notify(states);
}
