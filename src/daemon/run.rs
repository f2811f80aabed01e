//! The main thread: configuration, roles, addresses, signals and the control socket.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::control::{Request, Response, Server};
use super::worker::{Agent, Order, Reply, drive, wait};
use crate::conf::{self, Conf};
use crate::listeners::{self, Dumper};
use crate::net::{self, Keeper, Reachable, Role};
use crate::node::{WhichNode, identify};
use crate::settings;
use crate::store::{self, Access, Interest, Store, StoreError};
use crate::wake::{Outbox, channel};
use crate::{director, ipvs, node};

/// The addresses that the active director announces are announced again after these, for a
/// switch or a neighbour that missed the first.
const ANNOUNCE_AGAIN: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// How often addresses and sysctls are looked at, and mended.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// How often addresses with a lifetime are renewed; they live ten times as long.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How long the director may take for a full pass that an operator asked for.
const APPLY_WITHIN: Duration = Duration::from_secs(50);

/// What cvipd is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
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
    /// Why no bells are to be used; they are if absent.
    pub polling: Option<String>,
}

/// Why cvipd does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration has faults.
    #[error("{}", .0.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("\n"))]
    Conf(Vec<conf::Diagnostic>),
    /// It is not known which node this is.
    #[error(transparent)]
    WhichNode(#[from] WhichNode),
    /// cvip.conf gives this node no part.
    #[error("node {0} is neither a director nor a real server in {1}")]
    NoPart(u32, String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The director has no IPVS.
    #[error(transparent)]
    Ipvs(#[from] ipvs::Error),
    /// Listeners cannot be seen.
    #[error(transparent)]
    Listeners(#[from] listeners::Error),
    /// The system refused something that every system gives.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
    /// A thread ended that should not have.
    #[error("{0} ended unexpectedly; the table stays as it is")]
    Died(&'static str),
}

/// A running worker.
struct Worker {
    name: &'static str,
    orders: Outbox<Order>,
    thread: JoinHandle<()>,
}

struct Daemon {
    settings: Settings,
    node: u32,
    /// Which start of this node's cvipd this is.
    incarnation: u64,
    /// The workers have views of their own of it.
    store: Box<dyn Store>,
    conf: Arc<Conf>,
    /// Faults of the newest configuration, which was then not taken.
    faults: Vec<String>,
    real_server: Option<Worker>,
    director: Option<Worker>,
    keeper: Keeper,
    /// When the CVIPs are announced next: index into [`ANNOUNCE_AGAIN`] and time.
    announce: Option<(usize, Instant)>,
    next_keep: Instant,
    /// When addresses with a lifetime are renewed.
    next_renewal: Option<Instant>,
    /// What is announced, and where.
    reachable: Vec<Reachable>,
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again. Ending changes nothing
/// in the kernel: the next start takes over what it finds.
///
/// # Errors
/// It could not start, or a thread of it died.
pub fn run(settings: Settings) -> Result<(), RunError> {
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
    let interest = Interest::Node(node);
    let mut store = store::open(&settings.store, &settings.run_dir, Access::Write, interest)?;
    match store.refresh() {
        Ok(_) => {}
        Err(error) if error.is_away() => warn!("{error}"),
        Err(error) => return Err(error.into()),
    }
    let unix_time =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let incarnation = store.state().next_incarnation(node, unix_time);
    let _lease = store.lease(node, incarnation)?;
    let server = Server::open(&settings.run_dir, node)
        .map_err(|e| RunError::System("the control socket cannot be opened", e))?;
    let record = settings.run_dir.join(format!("kept-{node}.json"));
    let keeper = Keeper::open(&record).unwrap_or_else(|error| {
        error!("{error}; what stands is taken for the administrator's, and left");
        Keeper::new(&record)
    });
    let mut daemon = Daemon {
        settings,
        node,
        incarnation,
        store,
        conf: Arc::new(conf),
        faults: Vec::new(),
        real_server: None,
        director: None,
        keeper,
        announce: None,
        next_keep: Instant::now(),
        next_renewal: None,
        reachable: Vec::new(),
    };
    daemon.take_roles(None)?;
    info!("node {node}: {}", daemon.roles().join(" and "));
    notify(&[NotifyState::Ready]);
    let outcome = daemon.serve(&signals, &server);
    notify(&[NotifyState::Stopping]);
    daemon.stop();
    outcome
}

impl Daemon {
    fn serve(&mut self, signals: &SignalFd, server: &Server) -> Result<(), RunError> {
        loop {
            let now = Instant::now();
            self.keep(now);
            let later = [self.announce.map(|(_, at)| at), self.next_renewal];
            let at = later.into_iter().flatten().fold(self.next_keep, Instant::min);
            // The threads' health is looked at now and then: a thread that dies is a fault of
            // the program, and a restart is the cure.
            let timeout = at.saturating_duration_since(now).min(Duration::from_secs(5));
            wait([signals.as_fd(), server.listener().as_fd()], timeout)
                .map_err(|errno| RunError::System("poll", errno.into()))?;
            while let Ok(Some(signal)) = signals.read_signal() {
                match Signal::try_from(signal.ssi_signo as i32) {
                    Ok(Signal::SIGHUP) => {
                        notify(&[NotifyState::Reloading]);
                        if let Err(error) = self.reload(None) {
                            error!("{error}");
                        }
                        notify(&[NotifyState::Ready]);
                    }
                    _ => return Ok(()),
                }
            }
            server.answer(|request, root| self.respond(request, root));
            for worker in self.real_server.iter().chain(&self.director) {
                if worker.thread.is_finished() {
                    return Err(RunError::Died(worker.name));
                }
            }
        }
    }

    /// Starts and ends workers so that they are what the configuration says of this node. A
    /// director is asked for a report of its first pass, if one is wanted.
    fn take_roles(&mut self, mut report: Option<Reply>) -> Result<(), RunError> {
        let now = Instant::now();
        let serves = self.conf.cvips.iter().any(|c| c.real_server(self.node).is_some());
        let directs = is_active(&self.conf, self.node);
        if self.real_server.is_some() && !serves {
            end(self.real_server.take());
        }
        if self.director.is_some() && !directs {
            end(self.director.take());
        }
        if let Some(worker) = &self.real_server {
            worker.orders.send(Order::Reload(Arc::clone(&self.conf)));
        }
        if let Some(worker) = &self.director {
            worker.orders.send(self.order(report.take()));
        }
        // The kernel comes first: without IPVS nothing else is touched, and its settings are
        // there only once it is. Addresses and settings come before the first destination.
        let client = match directs && self.director.is_none() {
            true => Some(ipvs::Client::open()?),
            false => None,
        };
        self.next_keep = now;
        self.keep(now);
        if let Some(client) = client {
            let agent = director::Agent::new(
                self.node,
                Arc::clone(&self.conf),
                client,
                self.store.again(Interest::All)?,
                now,
            )?;
            let first = report.map(|report| self.order(Some(report)));
            self.director = Some(start("the director's thread", agent, first)?);
            self.announce = Some((0, now));
        }
        if serves && self.real_server.is_none() {
            let watch = node::agent::open_watch(now, self.settings.polling.as_deref())?;
            let agent = node::Agent::new(
                self.node,
                Arc::clone(&self.conf),
                watch,
                Dumper::open()?,
                self.store.again(Interest::Node(self.node))?,
                self.incarnation,
                now,
            )?;
            info!("listeners are noticed by {}", agent.bells());
            self.real_server = Some(start("the node's thread", agent, None)?);
        }
        Ok(())
    }

    /// What a worker is told of the present configuration.
    fn order(&self, report: Option<Reply>) -> Order {
        let conf = Arc::clone(&self.conf);
        match report {
            Some(reply) => Order::Resync(conf, reply),
            None => Order::Reload(conf),
        }
    }

    /// Reads the configuration again; one with faults is not taken.
    fn reload(&mut self, report: Option<Reply>) -> Result<(), RunError> {
        let loaded = conf::load(&self.settings.conf, &self.settings.clustertab);
        self.faults = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let Some(conf) = loaded.conf else {
            return Err(RunError::Conf(loaded.diagnostics));
        };
        for warning in loaded.diagnostics {
            warn!("{warning}");
        }
        if !conf.nodes().contains(&self.node) {
            let path = self.settings.conf.display().to_string();
            self.faults.push(RunError::NoPart(self.node, path.clone()).to_string());
            return Err(RunError::NoPart(self.node, path));
        }
        self.conf = Arc::new(conf);
        info!("configuration read again");
        self.take_roles(report)
    }

    /// Addresses, sysctls and announcements.
    fn keep(&mut self, now: Instant) {
        if now >= self.next_keep {
            self.next_keep = now + KEEP_EVERY;
            let wishes = net::wishes(&self.conf, self.node, self.role());
            let leased = wishes.addresses.iter().any(|wish| wish.valid_lft.is_some());
            let report = self.keeper.apply(&wishes);
            for done in &report.done {
                info!("{done}");
            }
            for failure in &report.failures {
                error!("{failure}");
            }
            self.reachable = report.reachable;
            self.next_renewal = leased.then(|| now + RENEW_EVERY);
        }
        if self.next_renewal.is_some_and(|at| now >= at) {
            self.next_renewal = Some(now + RENEW_EVERY);
            if let Err(errors) = self.keeper.renew() {
                for error in errors {
                    error!("{error}");
                }
                // There is nobody to have replaced it yet: make it anew.
                self.next_keep = now;
            }
        }
        if let Some((count, at)) = self.announce
            && now >= at
        {
            for Reachable { addr, device } in &self.reachable {
                if let Err(error) = net::announce(device, *addr) {
                    warn!("{addr} is not announced: {error}");
                }
            }
            self.announce = ANNOUNCE_AGAIN.get(count).map(|wait| (count + 1, now + *wait));
        }
    }

    fn role(&self) -> Role {
        match (is_active(&self.conf, self.node), self.conf.is_director(self.node)) {
            (true, _) => Role::ActiveDirector,
            (false, true) => Role::Standby,
            (false, false) => Role::RealServer,
        }
    }

    fn roles(&self) -> Vec<String> {
        let mut roles = Vec::new();
        match self.role() {
            Role::ActiveDirector => roles.push("director".to_owned()),
            Role::Standby => roles.push("standby director (takeover is not there yet)".to_owned()),
            Role::RealServer => {}
        }
        if self.real_server.is_some() {
            roles.push("real server".to_owned());
        }
        roles
    }

    fn respond(&mut self, request: Request, root: bool) -> Response {
        match request {
            Request::Status => Response::Status {
                pid: std::process::id(),
                node: self.node,
                roles: self.roles(),
                faults: self.faults.clone(),
            },
            Request::Apply if !root => Response::Error("only root may change the table".to_owned()),
            Request::Apply => self.apply(),
        }
    }

    fn apply(&mut self) -> Response {
        let (reply, report) = mpsc::channel();
        if let Err(error) = self.reload(Some(reply)) {
            return Response::Error(error.to_string());
        }
        if self.director.is_none() {
            return Response::Error(format!("node {} is not the active director", self.node));
        }
        match report.recv_timeout(APPLY_WITHIN) {
            Ok(Some(report)) => Response::Applied {
                applied: report.applied.iter().map(ToString::to_string).collect(),
                refused: report.refused.iter().map(ToString::to_string).collect(),
            },
            _ => Response::Error("the table could not be made true: see cvipd's log".to_owned()),
        }
    }

    fn stop(self) {
        end(self.real_server);
        end(self.director);
    }
}

/// True if the node is the active director: the first of its set, until directors are elected.
fn is_active(conf: &Conf, node: u32) -> bool {
    conf.director_sets().iter().any(|set| set.directors.first() == Some(&node))
}

/// Starts a worker. `first` is an order that it finds before its first step.
fn start(
    name: &'static str,
    agent: impl Agent + Send + 'static,
    first: Option<Order>,
) -> Result<Worker, RunError> {
    let (orders, inbox) =
        channel().map_err(|errno| RunError::System("no descriptor for messages", errno.into()))?;
    if let Some(first) = first {
        orders.send(first);
    }
    let thread = thread::Builder::new()
        .spawn(move || {
            if let Err(errno) = drive(agent, &inbox) {
                error!("{name}: {errno}");
            }
        })
        .map_err(|e| RunError::System("no thread", e))?;
    Ok(Worker { name, orders, thread })
}

fn end(worker: Option<Worker>) {
    if let Some(worker) = worker {
        worker.orders.send(Order::Stop);
        // A thread that panicked has said so.
        let _ = worker.thread.join();
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Not started by a service manager: nobody to tell.
    let _ = sd_notify::notify(states);
}
