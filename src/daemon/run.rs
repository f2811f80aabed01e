//! The main thread: configuration, roles, addresses, signals, and what its workers tell it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::control::{Answer, Base, Question, Server, Status, What, no_director};
use super::crew::{LookoutOrder, NodeOrder, Reply, TableOrder, Tidings};
use super::duty::Duty;
use super::error::RunError;
use super::events::Record;
use super::presence::Presence;
use super::staff::{Office, Staff};
use super::worker::wait;
use crate::conf::{self, Conf};
use crate::director::lookout::order;
use crate::director::sync;
use crate::net::Role;
use crate::node::{host, identify};
use crate::pulse::{ClusterKey, Nonce};
use crate::store::{self, Access, DrainTarget, Interest, Lease};
use crate::wake::{Inbox, channel};
use crate::{net, settings};

/// How long a director that is told to end waits until another has taken over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);

/// The threads' health is looked at this often: one that dies is a fault of the program, and a
/// restart is the cure.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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

struct Daemon {
    settings: Settings,
    office: Office,
    conf: Arc<Conf>,
    /// Its text, for those who find the files faulty.
    sources: Arc<conf::Sources>,
    /// Faults of the newest configuration, which was then not taken.
    faults: Vec<String>,
    staff: Staff,
    presence: Presence,
    duty: Duty,
    /// The part for which the table is being made.
    ordered: Option<sync::Part>,
    record: Record,
    /// The drains that its table obeys.
    obeys: BTreeSet<DrainTarget>,
    /// How it is to end, once it is told to.
    end: Option<End>,
    /// The active director is struck from cvip.conf, and goes on until another has taken over, by
    /// then at the latest.
    struck: Option<Instant>,
}

/// An end that was ordered.
enum End {
    /// Another director is to have taken over first, by then at the latest.
    HandedOver { by: Instant },
    /// At once.
    Now,
    /// The node leaves for good: connections that are left are waited for.
    Left {
        report: Receiver<usize>,
        /// As they were last reported.
        connections: Option<usize>,
        /// When they are waited for no longer.
        until: Instant,
        /// Another director is to have taken over first, by then at the latest.
        by: Option<Instant>,
    },
}

/// Runs until SIGTERM or SIGINT: an active director then hands over, if another lives, and
/// nothing else changes in the kernel; the next start takes over what it finds. SIGHUP reads the
/// configuration again.
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
    warn_of_lacks(&conf, node);
    let key = ClusterKey::from_bytes(settings.store.cluster_key(&settings.run_dir)?.as_bytes())?;
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
    let lease = store.lease(node, incarnation)?;
    let nonce = Nonce::random().map_err(|e| RunError::System("no random numbers", e))?;
    let (main, inbox) = channel().map_err(system("no descriptor for messages"))?;
    let polling = settings.polling.clone();
    let now = Instant::now();
    let office =
        Office { node, incarnation, nonce, started: now, key, store, main: main.clone(), polling };
    let presence = Presence::open(&settings.run_dir, node, now);
    let record = Record::open(&settings.run_dir, node);
    let mut daemon = Daemon {
        settings,
        office,
        conf: Arc::new(conf),
        sources: Arc::new(loaded.sources),
        faults: Vec::new(),
        staff: Staff::default(),
        presence,
        duty: Duty::Undecided,
        ordered: None,
        record,
        obeys: BTreeSet::new(),
        end: None,
        struck: None,
    };
    daemon.begin(now)?;
    let server = Server::open(&daemon.settings.run_dir, node, main)
        .map_err(|e| RunError::System("the control socket cannot be opened", e))?;
    info!("node {node}: {}", daemon.roles().join(" and "));
    notify(&[NotifyState::Ready]);
    let outcome = daemon.serve(&signals, &inbox);
    notify(&[NotifyState::Stopping]);
    daemon.finish(lease);
    // Last of all: who waits for a node to leave waits for this.
    drop(server);
    outcome
}

impl Daemon {
    /// Takes the configuration's part.
    fn begin(&mut self, now: Instant) -> Result<(), RunError> {
        let Daemon { office, conf, settings, .. } = self;
        self.staff.begin(office, conf, &settings.run_dir)?;
        if !self.conf.is_director(self.office.node) {
            self.turn(Duty::Serve, now)?;
        }
        Ok(())
    }

    fn serve(&mut self, signals: &SignalFd, inbox: &Inbox<Tidings>) -> Result<(), RunError> {
        loop {
            let now = Instant::now();
            self.turn(self.duty.at(now), now)?;
            if !self.presence.step(&self.conf, now) {
                self.doubt();
            }
            if self.is_over(now) {
                return Ok(());
            }
            if self.struck.is_some_and(|by| self.is_standby() || now >= by) {
                self.read_again();
            }
            if let Some(name) = self.staff.dead() {
                return Err(RunError::Died(name));
            }
            let due = [self.presence.due(), self.duty.until(), self.end_due(now), self.struck];
            let at = due.into_iter().flatten().fold(now + LOOK_EVERY, Instant::min);
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
            for tidings in inbox.take() {
                self.hear(tidings, Instant::now())?;
            }
        }
    }

    fn hear(&mut self, tidings: Tidings, now: Instant) -> Result<(), RunError> {
        match tidings {
            Tidings::Part(part) => self.turn(self.duty.told(part, now), now),
            // For an order before the last one.
            Tidings::Ready(part) if self.ordered != Some(part) => Ok(()),
            Tidings::Ready(_) => {
                self.ordered = None;
                self.turn(self.duty.ready(), now)
            }
            Tidings::Obeys(obeys) => {
                self.obeys = obeys;
                self.tell_obedience();
                Ok(())
            }
            Tidings::Event(event) => {
                self.record.add(event, SystemTime::now());
                Ok(())
            }
            Tidings::Question(Question { what, answer }) => {
                // Whoever asked may have given up waiting.
                let _ = answer.send(self.answer(what, now));
                Ok(())
            }
        }
    }

    /// Takes up a duty.
    fn turn(&mut self, duty: Duty, now: Instant) -> Result<(), RunError> {
        if duty == self.duty {
            return Ok(());
        }
        self.duty = duty;
        match duty {
            Duty::Undecided => return Ok(()),
            Duty::Serve => self.presence.take(Role::RealServer, &self.conf, now),
            Duty::Stand => {
                self.presence.take(Role::Standby, &self.conf, now);
                self.part(false, false)?;
            }
            Duty::Prepare { .. } => {
                self.part(true, false)?;
                return Ok(());
            }
            Duty::Direct { .. } => self.presence.take(Role::ActiveDirector, &self.conf, now),
            Duty::Yield { .. } => {
                self.presence.take(Role::Yielding, &self.conf, now);
                self.part(false, true)?;
            }
        }
        // A node's addresses and settings come before its first registration.
        self.staff.serve(&self.office, &self.conf)?;
        if let Some(desk) = self.staff.node() {
            let directing = matches!(duty, Duty::Direct { .. } | Duty::Yield { .. });
            desk.order(NodeOrder::Direct(directing));
        }
        self.tell_obedience();
        Ok(())
    }

    /// Whoever waits for a drain reads in this node's record what its table obeys.
    fn tell_obedience(&self) {
        if let Some(desk) = self.staff.node() {
            desk.order(NodeOrder::Obey(self.obeys.clone()));
        }
    }

    fn part(&mut self, active: bool, forwarding: bool) -> Result<(), RunError> {
        let part = sync::Part { active, forwarding };
        self.ordered = Some(part);
        self.staff.direct(&self.office, &self.conf, part)
    }

    /// Asks the lookout whether this is still what it was.
    fn doubt(&mut self) {
        if let (Some(desk), Duty::Direct { .. } | Duty::Yield { .. }) =
            (self.staff.lookout(), self.duty)
        {
            self.duty = Duty::Undecided;
            desk.order(LookoutOrder::Confirm);
        }
    }

    fn read_again(&mut self) {
        if let Err(error) = self.reload(None) {
            error!("{error}");
        }
    }

    /// Reads the configuration again; one with faults is not taken. The table's worker reports to
    /// whoever wants to know what came of it.
    fn reload(&mut self, report: Option<Reply>) -> Result<(), RunError> {
        let loaded = conf::load(&self.settings.conf, &self.settings.clustertab);
        self.faults = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let Some(conf) = loaded.conf else {
            return Err(RunError::Conf(loaded.diagnostics));
        };
        for warning in loaded.diagnostics {
            warn!("{warning}");
        }
        let node = self.office.node;
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
        // Clients whose packets still come here are served until they know the new director.
        if !conf.is_director(node) && self.struck.is_none() && self.hand_over() {
            self.struck = Some(now + HAND_OVER_WITHIN);
            return Ok(());
        }
        self.struck = None;
        let conf = Arc::new(conf);
        if let Err(error) = has_interfaces(&conf, node) {
            self.faults.push(error.to_string());
            return Err(error);
        }
        if let Err(error) = self.staff.reload(&self.office, &conf, &self.settings.run_dir) {
            self.faults.push(error.to_string());
            return Err(error);
        }
        warn_of_lacks(&conf, node);
        self.conf = conf;
        self.sources = Arc::new(loaded.sources);
        info!("configuration read again");
        let directs = self.conf.is_director(node);
        match (directs, self.duty) {
            (false, duty) if duty != Duty::Serve => self.turn(Duty::Serve, now)?,
            (true, Duty::Serve) => self.duty = Duty::Undecided,
            _ => {}
        }
        if let Some(role) = self.duty.role() {
            self.presence.take(role, &self.conf, now);
        }
        if let Some(desk) = self.staff.table() {
            let conf = Arc::clone(&self.conf);
            desk.order(match report {
                Some(report) => TableOrder::Resync(conf, report),
                None => TableOrder::Reload(conf),
            });
        }
        Ok(())
    }

    fn roles(&self) -> Vec<String> {
        let director = self.duty.name();
        let serves = self.staff.node().is_some();
        let roles = director.into_iter().chain(serves.then_some("real server"));
        roles.map(str::to_owned).collect()
    }

    fn answer(&mut self, what: What, now: Instant) -> Answer {
        match what {
            What::State => {}
            What::Apply(reply) => {
                self.reload(Some(reply)).map_err(|error| error.to_string())?;
                if self.struck.is_some() || self.staff.table().is_none() {
                    return Err(no_director(self.office.node));
                }
            }
            What::Leave(within) => self.leave(within, now),
        }
        let leaving = match &self.end {
            Some(End::Left { connections, .. }) => Some(connections.unwrap_or(0)),
            _ => None,
        };
        // Away or not: the view tells, and what of it is new is of no interest here.
        let _ = self.office.store.refresh();
        let away = self.office.store.away_since();
        let status = Status {
            pid: std::process::id(),
            node: self.office.node,
            roles: self.roles(),
            faults: self.faults.clone(),
            leaving,
            store_away_s: away.map(|since| now.saturating_duration_since(since).as_secs()),
            store_requests: self.office.store.requests(),
            lookout: None,
            pools: None,
        };
        let (lookout, table) = (self.staff.lookout().cloned(), self.staff.table().cloned());
        let directs = self.conf.is_director(self.office.node);
        let sources = Arc::clone(&self.sources);
        Ok(Base { status, sources, directs, lookout, table })
    }

    /// Ends soon: an active director hands over first, if it can. Told twice, it ends at once.
    fn end_soon(&mut self, now: Instant) {
        let is_first = self.end.is_none();
        self.end = Some(match is_first && self.hand_over() {
            true => End::HandedOver { by: now + HAND_OVER_WITHIN },
            false => End::Now,
        });
    }

    /// True if another director is elected in place of this active one.
    fn hand_over(&self) -> bool {
        let is_shared = order(&self.conf, self.office.node).len() > 1;
        let (Some(desk), Duty::Direct { .. }, true) = (self.staff.lookout(), self.duty, is_shared)
        else {
            return false;
        };
        let (reply, said) = mpsc::channel();
        desk.order(LookoutOrder::HandOver(reply));
        match said.recv_timeout(HAND_OVER_WITHIN) {
            Ok(Ok(Some(heir))) => {
                info!("handing over to node {heir}");
                return true;
            }
            Ok(Ok(None)) => warn!("no other director lives: nobody takes over"),
            Ok(Err(error)) => warn!("nobody takes over: {error}"),
            Err(_) => warn!("nobody takes over: the lookout does not answer"),
        }
        false
    }

    /// Begins to leave for good.
    fn leave(&mut self, within: Duration, now: Instant) {
        if self.end.is_some() {
            return;
        }
        let is_heired = self.hand_over();
        let (report, left) = mpsc::channel();
        let connections = match self.staff.node() {
            Some(desk) => {
                desk.order(NodeOrder::Leave(report));
                None
            }
            None => Some(0),
        };
        let by = is_heired.then_some(now + HAND_OVER_WITHIN);
        let until = now + within;
        self.end = Some(End::Left { report: left, connections, until, by });
    }

    /// When an end that was ordered is to be looked at.
    fn end_due(&self, now: Instant) -> Option<Instant> {
        match &self.end {
            None => None,
            Some(End::Now) => Some(now),
            Some(End::HandedOver { by }) => Some(*by),
            // Its report has no descriptor.
            Some(End::Left { .. }) => Some(now + Duration::from_millis(100)),
        }
    }

    /// It carries no address, and its table is what a standby's is.
    fn is_standby(&self) -> bool {
        let directs = matches!(self.duty, Duty::Direct { .. } | Duty::Yield { .. });
        !directs && self.ordered.is_none()
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let is_standby = self.is_standby();
        match &mut self.end {
            None => false,
            Some(End::Now) => true,
            Some(End::HandedOver { by }) => is_standby || now >= *by,
            Some(End::Left { report, connections, until, by }) => {
                *connections = report.try_iter().last().or(*connections);
                let handed_over = by.is_none_or(|by| is_standby || now >= by);
                handed_over && (*connections == Some(0) || now >= *until)
            }
        }
    }

    /// Ends the workers. A node that leaves undoes what it made.
    fn finish(mut self, lease: Lease) {
        if matches!(self.end, Some(End::Left { .. })) {
            self.staff.say_farewell();
            self.staff.empty_table();
            self.presence.undo();
        }
        self.staff.end();
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
