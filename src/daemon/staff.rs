//! Which workers a node needs, by its part in cvip.conf: they are started and ended here.
//!
//! A director has a lookout from the start, and a table once the lookout has told it its part:
//! until then what its kernel has stays as it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::addresses::AddressOrder;
use super::crew::{LookoutOrder, NodeOrder, Say, Table, TableOrder, Tidings, Watchman};
use super::error::RunError;
use super::worker::{Desk, Orders, Prepared, Worker, desk};
use crate::checks::Checker;
use crate::conf::Conf;
use crate::director::lookout::{Identity, Lookout, order};
use crate::director::{self, sync};
use crate::listeners::Dumper;
use crate::node::agent::Senses;
use crate::pulse::{self, ClusterKey, Left, Nonce, Socket, Speaker, Speech, Timing};
use crate::store::{Interest, Obedience, Store};
use crate::wake::Outbox;
use crate::{ipvs, node};

/// How long a table may take to be emptied before the node ends.
const EMPTIED_WITHIN: Duration = Duration::from_secs(20);

/// How long a reload waits for that, before the node's addresses are others.
const EMPTIED_SOON: Duration = Duration::from_secs(2);

/// What a node's workers have in common.
pub(super) struct Office {
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
    pub(super) main: Outbox<Tidings>,
    /// Where orders for the address manager are left.
    pub(super) addresses: Desk<AddressOrder>,
    /// Why no bells are to be used; they are if absent.
    pub(super) polling: Option<String>,
}

/// Who speaks and listens for a node, and where: by this its lookout and herald are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Voice {
    /// The node's own addresses.
    from: Vec<std::net::IpAddr>,
    /// Those of the directors that hear it.
    to: Vec<std::net::IpAddr>,
    /// The directors of its set, if it is one.
    set: Vec<u32>,
}

impl Voice {
    fn of(conf: &Conf, node: u32) -> Voice {
        let set = if conf.is_director(node) { order(conf, node) } else { Vec::new() };
        Voice { from: conf.addresses(node), to: conf.audience(node), set }
    }
}

/// The table's worker, or what it will be made of.
enum Bench {
    Waiting(ipvs::Client, (Desk<TableOrder>, Orders<TableOrder>)),
    Working(Worker<TableOrder>),
}

impl Bench {
    fn desk(&self) -> &Desk<TableOrder> {
        match self {
            Bench::Waiting(_, (desk, _)) => desk,
            Bench::Working(worker) => &worker.desk,
        }
    }
}

/// The workers of the moment.
#[derive(Default)]
pub(super) struct Staff {
    node: Option<Worker<NodeOrder>>,
    herald: Option<Worker<Say>>,
    lookout: Option<Worker<LookoutOrder>>,
    table: Option<Bench>,
    voice: Option<Voice>,
    /// The lookout's sockets, to be shared with its successor.
    ears: Option<Socket>,
    /// The worker of a table that is not this node's any more, which may not have ended yet.
    retired: Option<Worker<TableOrder>>,
    /// The ports that this node has left, as it last said.
    left: Option<Left>,
    /// This node is leaving the cluster.
    leaving: bool,
}

/// A herald and a lookout that are ready to take the place of those before.
struct Successors {
    voice: Voice,
    herald: Option<(Prepared<pulse::Sender>, pulse::Sender)>,
    lookout: Option<(Prepared<Watchman>, Watchman, Socket)>,
}

impl Staff {
    /// Starts what a director needs before it knows its part, and the heartbeat. The kernel comes
    /// first: without IPVS nothing else is touched.
    pub(super) fn begin(
        &mut self,
        office: &Office,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        let bench = self.new_bench(office, conf)?;
        let table = self.table.as_ref().or(bench.as_ref()).map(|bench| bench.desk().clone());
        let successors = self.successors(office, conf, run_dir, table)?;
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
        office: &Office,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        // Whatever can fail comes first.
        Staff::check(office, conf)?;
        let bench = self.new_bench(office, conf)?;
        let table = self.table.as_ref().or(bench.as_ref()).map(|bench| bench.desk().clone());
        let successors = self.successors(office, conf, run_dir, table)?;
        if !conf.is_director(office.node) && self.table.is_some() {
            if let Some(lookout) = self.lookout.take() {
                lookout.end();
            }
            self.ears = None;
            self.empty_table(EMPTIED_SOON);
            self.retire_table();
        }
        if let Some(worker) = &self.node {
            worker.desk.order(NodeOrder::Reload(Arc::clone(conf)));
        }
        self.table = self.table.take().or(bench);
        self.succeed(successors);
        if let Some(worker) = &self.lookout {
            worker.desk.order(LookoutOrder::Reload(Arc::clone(conf)));
        }
        Ok(())
    }

    /// Whether the node can speak as a configuration says. Changes nothing.
    pub(super) fn check(office: &Office, conf: &Conf) -> Result<(), RunError> {
        drop(Socket::sender(&conf.addresses(office.node), office.port, None, &office.key)?);
        Ok(())
    }

    /// What the table's worker will be made of, for a node that becomes a director.
    fn new_bench(&self, office: &Office, conf: &Conf) -> Result<Option<Bench>, RunError> {
        if !conf.is_director(office.node) || self.table.is_some() {
            return Ok(None);
        }
        Ok(Some(Bench::Waiting(ipvs::Client::open()?, desk().map_err(no_desk)?)))
    }

    /// A lookout and a herald that listen and speak as the configuration says; none if those that
    /// there are do so. Nothing has changed yet.
    fn successors(
        &self,
        office: &Office,
        conf: &Arc<Conf>,
        run_dir: &Path,
        table: Option<Desk<TableOrder>>,
    ) -> Result<Option<Successors>, RunError> {
        let mut voice = Voice::of(conf, office.node);
        // Nodes read a new configuration one after the other: who does not have it yet is to hear
        // this one all the same, or takes it for dead.
        let before = self.voice.iter().flat_map(|before| &before.to);
        voice.to.extend(before.filter(|addr| !conf.addresses(office.node).contains(addr)));
        voice.to.sort_unstable();
        voice.to.dedup();
        if self.voice.as_ref() == Some(&voice) {
            return Ok(None);
        }
        let now = Instant::now();
        let (port, key) = (office.port, &office.key);
        let mut herald = None;
        if !voice.to.is_empty() {
            let socket = Socket::sender(&voice.from, port, None, key)?;
            let speaker =
                Speaker { node: office.node, incarnation: office.incarnation, nonce: office.nonce };
            // Milliseconds outrun the heartbeats of any herald before this one.
            let before = now.saturating_duration_since(office.started).as_millis();
            let before = u64::try_from(before).unwrap_or(u64::MAX);
            let sender = pulse::Sender::new(socket, speaker, Timing::default(), now).after(before);
            let worker = Prepared::new("herald", desk().map_err(no_desk)?).map_err(no_thread)?;
            let (to, leaving) = (voice.to.clone(), self.leaving);
            worker.desk.order(Say::Speech(Speech { to, leaving, ..Speech::default() }));
            herald = Some((worker, sender));
        }
        let mut lookout = None;
        if let Some(table) = table.filter(|_| conf.is_director(office.node)) {
            let me = Identity {
                node: office.node,
                incarnation: office.incarnation,
                nonce: office.nonce,
            };
            let no_descriptor = |e| RunError::System("no descriptor for the lookout", e);
            let socket = Socket::patient_receiver(&voice.from, port, key, self.ears.as_ref())?;
            let ears = socket.share().map_err(no_descriptor)?;
            let store = office.store.again(Interest::All)?;
            let agent = Lookout::new(me, Arc::clone(conf), store, socket, run_dir, now)
                .map_err(no_descriptor)?;
            let herald = herald.as_ref().map(|(worker, _)| worker.desk.clone());
            let (main, to) = (office.main.clone(), voice.to.clone());
            let addresses = office.addresses.clone();
            let watchman = Watchman { lookout: agent, main, table, addresses, herald, to };
            let worker = Prepared::new("lookout", desk().map_err(no_desk)?).map_err(no_thread)?;
            if self.leaving {
                worker.desk.order(LookoutOrder::Leave);
            }
            lookout = Some((worker, watchman, ears));
        }
        Ok(Some(Successors { voice, herald, lookout }))
    }

    /// Puts them in the places of those before, who end.
    fn succeed(&mut self, successors: Option<Successors>) {
        let Some(Successors { voice, herald, lookout }) = successors else { return };
        // The lookout speaks through the herald: first the one, then the other.
        let before = self.herald.take();
        self.herald = match (herald, before) {
            (Some((worker, agent)), before) => Some(worker.start(agent, before)),
            (None, before) => {
                before.into_iter().for_each(Worker::end);
                None
            }
        };
        let before = self.lookout.take();
        (self.lookout, self.ears) = match (lookout, before) {
            (Some((worker, agent, ears)), before) => {
                (Some(worker.start(agent, before)), Some(ears))
            }
            (None, before) => {
                before.into_iter().for_each(Worker::end);
                (None, None)
            }
        };
        self.voice = Some(voice);
        if let Some(left) = self.left.take() {
            self.tell_left(left);
        }
    }

    /// Tells the table its part, and makes its worker if there is none yet.
    pub(super) fn direct(
        &mut self,
        office: &Office,
        conf: &Arc<Conf>,
        part: sync::Part,
    ) -> Result<(), RunError> {
        let Some(bench) = self.table.take() else { return Ok(()) };
        bench.desk().order(TableOrder::Part(part));
        self.table = Some(match bench {
            Bench::Working(worker) => Bench::Working(worker),
            Bench::Waiting(client, (desk, orders)) => {
                let store = office.store.again(Interest::All)?;
                let (conf, now) = (Arc::clone(conf), Instant::now());
                let checker = Checker::new(office.node.into(), now).map_err(no_desk)?;
                let agent = director::Agent::new(office.node, conf, client, store, checker, now)?;
                let (main, obeys) = (office.main.clone(), Obedience::default());
                let table = Table { agent, main, awaited: None, obeys };
                let worker = Prepared::new("table", (desk, orders)).map_err(no_thread)?;
                Bench::Working(worker.start(table, self.retired.take()))
            }
        });
        Ok(())
    }

    /// Starts the node's worker, if there is none yet.
    pub(super) fn serve(&mut self, office: &Office, conf: &Arc<Conf>) -> Result<(), RunError> {
        if self.node.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let watch = node::agent::open_watch(now, office.polling.as_deref())?;
        let store = office.store.again(Interest::Node(office.node))?;
        let checker = Checker::new(office.node.into(), now).map_err(no_desk)?;
        let senses = Senses { watch, hint_dumper: Dumper::open()?, checker };
        let (conf, incarnation) = (Arc::clone(conf), office.incarnation);
        let main = office.main.clone();
        let departed = Box::new(move |left| {
            main.send(Tidings::Left(left));
        });
        let agent = node::Agent::new(office.node, conf, senses, store, incarnation, now)?;
        let agent = agent.telling(departed);
        info!("listeners are noticed by {}", agent.bells());
        let worker = Worker::start("node", agent, desk().map_err(no_desk)?).map_err(no_thread)?;
        self.node = Some(worker);
        Ok(())
    }

    pub(super) fn node(&self) -> Option<&Desk<NodeOrder>> {
        self.node.as_ref().map(|worker| &worker.desk)
    }

    pub(super) fn lookout(&self) -> Option<&Desk<LookoutOrder>> {
        self.lookout.as_ref().map(|worker| &worker.desk)
    }

    /// The table's desk; none before the director knows its part.
    pub(super) fn table(&self) -> Option<&Desk<TableOrder>> {
        match self.table.as_ref()? {
            Bench::Waiting(..) => None,
            Bench::Working(worker) => Some(&worker.desk),
        }
    }

    /// Names the ports that this node has left: in its heartbeat, and to its own lookout.
    pub(super) fn tell_left(&mut self, left: Left) {
        if let Some(herald) = &self.herald {
            herald.desk.order(Say::Left(left.clone()));
        }
        if let Some(lookout) = &self.lookout {
            lookout.desk.order(LookoutOrder::Left(left.clone()));
        }
        self.left = Some(left);
    }

    /// Says from now on that this node leaves: directors that the store cannot tell take it out of
    /// their tables all the same, and its own lookout hands over.
    pub(super) fn say_that_it_leaves(&mut self) {
        self.leaving = true;
        match &self.lookout {
            Some(lookout) => lookout.desk.order(LookoutOrder::Leave),
            None => self.say_farewell(),
        }
    }

    /// Says that this node leaves, so that nobody takes it for dead.
    pub(super) fn say_farewell(&self) {
        let (Some(herald), Some(voice)) = (&self.herald, &self.voice) else { return };
        let to = voice.to.clone();
        herald.desk.order(Say::Speech(Speech { to, leaving: true, ..Speech::default() }));
    }

    /// Deletes from the kernel's table what is cvipd's own before the node ends, and waits for it.
    pub(super) fn leave_table(&self) {
        self.empty_table(EMPTIED_WITHIN);
    }

    fn empty_table(&self, within: Duration) {
        let Some(desk) = self.table() else { return };
        let (reply, emptied) = mpsc::channel();
        desk.order(TableOrder::Leave(reply));
        if emptied.recv_timeout(within).is_err() {
            warn!("the kernel's table could not be emptied in time");
        }
    }

    /// A worker that should be there, and is not or has ended.
    pub(super) fn dead(&self) -> Option<&'static str> {
        let voice = self.voice.as_ref();
        if voice.is_some_and(|voice| !voice.to.is_empty()) && self.herald.is_none() {
            return Some("herald");
        }
        if self.table.is_some() && self.lookout.is_none() {
            return Some("lookout");
        }
        let table = match &self.table {
            Some(Bench::Working(worker)) => worker.died(),
            _ => None,
        };
        let dead = [
            self.node.as_ref().and_then(Worker::died),
            self.herald.as_ref().and_then(Worker::died),
            self.lookout.as_ref().and_then(Worker::died),
            table,
        ];
        dead.into_iter().flatten().next()
    }

    /// Ends the table's worker without waiting: one that is made anew begins after it.
    fn retire_table(&mut self) {
        if let Some(Bench::Working(worker)) = self.table.take() {
            worker.stop();
            self.retired = Some(worker);
        }
    }

    fn end_table(&mut self) {
        if let Some(Bench::Working(worker)) = self.table.take() {
            worker.end();
        }
        if let Some(worker) = self.retired.take() {
            worker.end();
        }
    }

    /// Ends all. What stands in the kernel stays.
    pub(super) fn end(mut self) {
        end(&mut self.lookout);
        self.end_table();
        end(&mut self.node);
        end(&mut self.herald);
    }
}

fn end<O: Send + 'static>(worker: &mut Option<Worker<O>>) {
    if let Some(worker) = worker.take() {
        worker.end();
    }
}

fn no_desk(errno: nix::errno::Errno) -> RunError {
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
    fn a_reload_that_fails_leaves_lookout_and_herald_as_they_are_and_one_that_succeeds_replaces_them()
     {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), Access::Write).unwrap();
        let (main, _inbox) = crate::wake::channel().unwrap();
        let office = Office {
            node: 1,
            incarnation: 1,
            nonce: Nonce([1; 16]),
            started: Instant::now(),
            key: ClusterKey::from_bytes(b"a key that is only for this test").unwrap(),
            port: pulse::PORT,
            store: Box::new(store),
            main,
            addresses: desk().unwrap().0,
            polling: None,
        };
        let (table, _orders) = desk().unwrap();
        let mut staff = Staff::default();
        let take = |staff: &mut Staff, conf: &Arc<Conf>| {
            let successors = staff.successors(&office, conf, dir.path(), Some(table.clone()))?;
            staff.succeed(successors);
            Ok::<_, RunError>(())
        };
        take(&mut staff, &conf("127.77.0.1", "127.77.0.9")).unwrap();
        let voice = staff.voice.clone().unwrap();
        let from = |staff: &Staff| staff.voice.as_ref().unwrap().from.clone();
        // An address that this host does not have.
        let failed = take(&mut staff, &conf("192.0.2.77", "127.77.0.9"));
        assert!(matches!(failed, Err(RunError::Heartbeats(_))), "{failed:?}");
        assert_eq!((staff.voice.as_ref(), staff.dead()), (Some(&voice), None));
        assert!(staff.lookout.is_some() && staff.herald.is_some());
        take(&mut staff, &conf("127.77.0.2", "127.77.0.9")).unwrap();
        assert_eq!(from(&staff), ["127.77.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(staff.dead(), None);
        // The same address, others to speak to: the sockets are passed on.
        take(&mut staff, &conf("127.77.0.2", "127.77.0.8")).unwrap();
        assert_eq!(staff.dead(), None);
        // One that should be there is missed.
        staff.herald.take().unwrap().end();
        assert_eq!(staff.dead(), Some("herald"));
        staff.end();
    }
}
