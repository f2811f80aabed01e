//! Which workers a node needs, by its part in cvip.conf: they are started and ended here.
//!
//! A director has a lookout from the start, and a table once the lookout has told it its part:
//! until then what its kernel has stays as it is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::crew::{LookoutOrder, NodeOrder, Say, Table, TableOrder, Tidings, Watchman};
use super::error::RunError;
use super::worker::{Desk, Orders, Worker, desk};
use crate::checks::Checker;
use crate::conf::Conf;
use crate::director::lookout::{Identity, Lookout, order};
use crate::director::{self, sync};
use crate::listeners::Dumper;
use crate::node::agent::Senses;
use crate::pulse::{self, ClusterKey, Nonce, Socket, Speaker, Speech, Timing};
use crate::store::{Interest, Store};
use crate::wake::Outbox;
use crate::{ipvs, node};

/// How long a table may take to be emptied.
const EMPTIED_WITHIN: Duration = Duration::from_secs(20);

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
        if conf.is_director(office.node) && self.table.is_none() {
            self.table = Some(Bench::Waiting(ipvs::Client::open()?, desk().map_err(no_desk)?));
        }
        self.give_voice(office, conf, run_dir)
    }

    /// Takes another configuration. Who is a director no longer deletes what it made in the table.
    ///
    /// # Errors
    /// The node cannot speak as the configuration says; then nothing has changed.
    pub(super) fn reload(
        &mut self,
        office: &Office,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        drop(Socket::sender(&conf.addresses(office.node), office.port, None, &office.key)?);
        if !conf.is_director(office.node) && self.table.is_some() {
            end(&mut self.lookout);
            self.empty_table();
            self.end_table();
        }
        if let Some(worker) = &self.node {
            worker.desk.order(NodeOrder::Reload(Arc::clone(conf)));
        }
        self.begin(office, conf, run_dir)?;
        if let Some(worker) = &self.lookout {
            worker.desk.order(LookoutOrder::Reload(Arc::clone(conf)));
        }
        Ok(())
    }

    /// The lookout and the herald, anew if they are to listen or speak elsewhere.
    fn give_voice(
        &mut self,
        office: &Office,
        conf: &Arc<Conf>,
        run_dir: &Path,
    ) -> Result<(), RunError> {
        let mut voice = Voice::of(conf, office.node);
        // Nodes read a new configuration one after the other: who does not have it yet is to hear
        // this one all the same, or takes it for dead.
        let before = self.voice.iter().flat_map(|before| &before.to);
        voice.to.extend(before.filter(|addr| !conf.addresses(office.node).contains(addr)));
        voice.to.sort_unstable();
        voice.to.dedup();
        if self.voice.as_ref() == Some(&voice) {
            return Ok(());
        }
        end(&mut self.lookout);
        end(&mut self.herald);
        self.voice = None;
        let now = Instant::now();
        let (port, key) = (office.port, &office.key);
        if !voice.to.is_empty() {
            let socket = Socket::sender(&voice.from, port, None, key)?;
            let speaker =
                Speaker { node: office.node, incarnation: office.incarnation, nonce: office.nonce };
            // Milliseconds outrun the heartbeats of any herald before this one.
            let before = now.saturating_duration_since(office.started).as_millis();
            let before = u64::try_from(before).unwrap_or(u64::MAX);
            let herald = pulse::Sender::new(socket, speaker, Timing::default(), now).after(before);
            let (desk, orders) = desk().map_err(no_desk)?;
            desk.order(Say(Speech { to: voice.to.clone(), ..Speech::default() }));
            let worker = Worker::start("herald", herald, (desk, orders)).map_err(no_thread)?;
            self.herald = Some(worker);
        }
        if let Some(table) = self.table.as_ref().map(|table| table.desk().clone()) {
            let me = Identity {
                node: office.node,
                incarnation: office.incarnation,
                nonce: office.nonce,
            };
            let socket = Socket::patient_receiver(&voice.from, port, key)?;
            let store = office.store.again(Interest::All)?;
            let lookout = Lookout::new(me, Arc::clone(conf), store, socket, run_dir, now)
                .map_err(|e| RunError::System("no descriptor for the lookout", e))?;
            let herald = self.herald.as_ref().map(|herald| herald.desk.clone());
            let (main, to) = (office.main.clone(), voice.to.clone());
            let watchman = Watchman { lookout, main, table, herald, to };
            let worker = Worker::start("lookout", watchman, desk().map_err(no_desk)?);
            self.lookout = Some(worker.map_err(no_thread)?);
        }
        self.voice = Some(voice);
        Ok(())
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
                let (main, obeys) = (office.main.clone(), BTreeSet::new());
                let table = Table { agent, main, awaited: None, obeys };
                let worker = Worker::start("table", table, (desk, orders)).map_err(no_thread)?;
                Bench::Working(worker)
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
        let agent = node::Agent::new(office.node, conf, senses, store, incarnation, now)?;
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

    /// Says that this node leaves, so that nobody takes it for dead.
    pub(super) fn say_farewell(&self) {
        let (Some(herald), Some(voice)) = (&self.herald, &self.voice) else { return };
        let to = voice.to.clone();
        herald.desk.order(Say(Speech { to, leaving: true, ..Speech::default() }));
    }

    /// Deletes from the kernel's table what is cvipd's own, and waits for it.
    pub(super) fn empty_table(&self) {
        let Some(desk) = self.table() else { return };
        let (reply, emptied) = mpsc::channel();
        desk.order(TableOrder::Leave(reply));
        if emptied.recv_timeout(EMPTIED_WITHIN).is_err() {
            warn!("the kernel's table could not be emptied in time");
        }
    }

    /// A worker that has ended and should not have.
    pub(super) fn dead(&self) -> Option<&'static str> {
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

    fn end_table(&mut self) {
        if let Some(Bench::Working(worker)) = self.table.take() {
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
