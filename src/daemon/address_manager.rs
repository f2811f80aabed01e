//! The address manager: the node's addresses and settings in its own kernel, made, looked at,
//! repaired, renewed, announced and given back.
//!
//! It is a worker of its own, since an active director's addresses end unless they are renewed in
//! time: it waits for no other thread. When something is to be done is [`upkeep`]'s to say.

mod capability;
mod upkeep;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::messages::MainMessage;
use super::worker::Driven;
use crate::bucket::Bucket;
use crate::conf::Conf;
use crate::director::DirectorEvent;
use crate::net::{
    self, AddressRole, ChangeWatch, DesiredAddress, DesiredSettings, NetError, NetworkSettings,
    Reachable, SettingsReport,
};
use crate::wake::Outbox;
use capability::CapabilityChange;
use upkeep::{Doubt, Upkeep, UpkeepAction};

/// What happens again and again is recorded so often at once, and then this often.
const EVENTS: (u32, Duration) = (20, Duration::from_secs(30));

/// What the address manager is told.
pub(super) enum AddressMessage {
    /// The node's role: its addresses and settings are made, and [`AddressNotice::Stand`] says so.
    Take {
        role: AddressRole,
        conf: Arc<Conf>,
        /// Which order this is.
        order: u64,
    },
    /// Another configuration, for a node that does not know its role yet.
    Reload(Arc<Conf>),
    /// Another director is active: the addresses are given back at once, whatever the main thread
    /// does at the moment.
    Yield,
    /// Another host claims an address of this active director: its addresses are announced again.
    Announce,
    /// Undo everything that was made here and that nobody changed since;
    /// [`AddressNotice::Undone`] says that it is done.
    Undo,
}

/// What it tells the main thread.
pub(super) enum AddressNotice {
    /// What this order asked for stands, but for what is told as a fault.
    Stand(u64),
    /// It touches no address until it is told its role again: another may be active by now.
    Doubt,
    /// The addresses that this node carries as the active director, and announces: all of them.
    Announced(Vec<Reachable>),
    /// This node can carry the CVIPs of its set, or cannot.
    Carries(bool),
    /// What is wrong with addresses and settings, all of it, as sentences.
    Faults(Vec<String>),
    /// Addresses and settings were given back, as [`AddressMessage::Undo`] asked.
    Undone,
}

pub(super) struct AddressManager {
    node: u32,
    conf: Arc<Conf>,
    settings: NetworkSettings,
    upkeep: Upkeep,
    /// None where the kernel does not notify: it is looked every second.
    changes: Option<ChangeWatch>,
    main: Outbox<MainMessage>,
    /// What the role asks for.
    desired: DesiredSettings,
    /// What this node would carry as the active director; empty if it is no director.
    carried: Vec<DesiredAddress>,
    /// What is announced, and where.
    reachable: Vec<Reachable>,
    /// What of it the monitor was told, which hears other hosts that claim them.
    announced: Vec<Reachable>,
    /// The order that was not reported yet.
    order: Option<u64>,
    /// Why the CVIPs cannot be carried here.
    incapable: Vec<String>,
    /// What this kernel is too old for, as it was said.
    notices: Vec<String>,
    /// What the kernel refused.
    failures: Vec<String>,
    /// The faults as they were last told.
    told: Vec<String>,
    events: Bucket,
}

impl AddressManager {
    pub(super) fn open(
        run_dir: &Path,
        node: u32,
        conf: Arc<Conf>,
        main: Outbox<MainMessage>,
        now: Instant,
    ) -> AddressManager {
        let record = run_dir.join(format!("kept-{node}.json"));
        let settings = NetworkSettings::open(&record).unwrap_or_else(|error| {
            error!("{error}; what stands is taken for the administrator's, and left");
            NetworkSettings::new(&record)
        });
        let changes = ChangeWatch::open().map_err(|error| {
            warn!("the kernel does not tell of changes ({error}): it is looked at every second");
        });
        let mut manager = AddressManager {
            node,
            conf: Arc::clone(&conf),
            settings,
            upkeep: Upkeep::new(now),
            changes: changes.ok(),
            main,
            desired: DesiredSettings::default(),
            carried: Vec::new(),
            reachable: Vec::new(),
            announced: Vec::new(),
            order: None,
            incapable: Vec::new(),
            notices: Vec::new(),
            failures: Vec::new(),
            told: Vec::new(),
            events: Bucket::new(EVENTS.0, EVENTS.1, now),
        };
        manager.reload(conf);
        manager
    }

    fn reload(&mut self, conf: Arc<Conf>) {
        self.conf = conf;
        self.carried = match self.conf.is_director(self.node) {
            true => net::desired(&self.conf, self.node, AddressRole::ActiveDirector).addresses,
            false => Vec::new(),
        };
        self.upkeep.notified();
    }

    fn take(&mut self, role: AddressRole, now: Instant) {
        if self.upkeep.role() != Some(role) {
            self.reachable.clear();
        }
        self.desired = net::desired(&self.conf, self.node, role);
        self.upkeep.order(role, self.is_leased(), now);
    }

    /// Another director may carry the role's addresses, too.
    fn is_leased(&self) -> bool {
        self.desired.addresses.iter().any(|desired| desired.valid_lft.is_some())
    }

    fn action(&mut self, action: UpkeepAction, now: Instant) {
        match action {
            UpkeepAction::Look => match self.settings.look(&self.desired, &self.carried) {
                Ok(look) => {
                    if look.differences.is_empty() {
                        self.failures.clear();
                    }
                    let verdict = self.upkeep.looked(&look, now);
                    self.judge(verdict, now);
                }
                Err(error) => self.fail(vec![error.to_string()]),
            },
            UpkeepAction::LookAtSettings => {
                self.settings.tend();
                if self.changes.is_none() {
                    self.upkeep.notified();
                }
                let differences = self.settings.check_settings(&self.desired);
                self.upkeep.looked_at_settings(&differences);
            }
            UpkeepAction::Make => drop(self.make(now)),
            UpkeepAction::Repair => {
                for done in self.make(now).done {
                    self.tell(DirectorEvent::Repaired { what: done.to_string() }, now);
                }
            }
            UpkeepAction::Renew => {
                let outcome = self.settings.renew();
                // What is gone is said when it is asked about.
                let is_gone = |error: &NetError| matches!(error, NetError::Lapsed { .. });
                let errors = outcome.as_ref().err().into_iter().flatten();
                for error in errors.filter(|error| !is_gone(error)) {
                    error!("{error}");
                }
                self.upkeep.renewed(&outcome);
            }
            UpkeepAction::Announce => self.announce(),
            UpkeepAction::Ask(doubt) => {
                match doubt {
                    Doubt::Late => {
                        warn!("this node was away for a while: is it still the active director?");
                    }
                    Doubt::Gone => warn!(
                        "an address of this active director is gone: it was not renewed in time, \
                         or somebody removed it; is this node still the active director?"
                    ),
                }
                self.news(AddressNotice::Doubt);
            }
        }
    }

    fn announce(&self) {
        for Reachable { addr, device } in &self.reachable {
            if let Err(error) = net::announce(device, *addr) {
                warn!("{addr} is not announced: {error}");
            }
        }
    }

    /// Tells what is announced, where that changed.
    fn tell_announced(&mut self) {
        let is_active = self.upkeep.role() == Some(AddressRole::ActiveDirector);
        let announced = if is_active { self.reachable.as_slice() } else { &[] };
        if announced != self.announced {
            self.announced = announced.to_vec();
            self.news(AddressNotice::Announced(self.announced.clone()));
        }
    }

    /// Makes the kernel what the role asks.
    fn make(&mut self, now: Instant) -> SettingsReport {
        let Some(role) = self.upkeep.role() else { return SettingsReport::default() };
        let report = self.settings.apply(&self.desired);
        for done in &report.done {
            info!("{done}");
        }
        let (notices, failures): (Vec<_>, Vec<_>) =
            report.failures.iter().partition(|failure| failure.is_notice());
        self.fail(failures.iter().map(ToString::to_string).collect());
        for notice in notices.iter().map(ToString::to_string) {
            if !self.notices.contains(&notice) {
                info!("{notice}");
                self.notices.push(notice);
            }
        }
        let is_added = |at: &Reachable| {
            let of = |done: &net::Done| {
                matches!(done, net::Done::Added { addr, device, .. }
                    if *addr == at.addr && *device == at.device)
            };
            !self.reachable.contains(at) || report.done.iter().any(of)
        };
        let anew = role == AddressRole::ActiveDirector && report.reachable.iter().any(is_added);
        self.reachable.clone_from(&report.reachable);
        self.upkeep.made(&report, anew, now);
        if let Some(order) = self.order.take() {
            self.news(AddressNotice::Stand(order));
        }
        report
    }

    /// Says what could not be made, unless it was said already.
    fn fail(&mut self, failures: Vec<String>) {
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            error!("{failure}");
        }
        self.failures = failures;
    }

    fn judge(&mut self, verdict: Option<CapabilityChange>, now: Instant) {
        let Some(CapabilityChange { able, reasons }) = verdict else { return };
        // A director that starts in good health is nothing to tell of.
        let is_first = able && self.incapable.is_empty();
        self.incapable = reasons;
        let reason = self.incapable.join("; ");
        if !self.carried.is_empty() && !is_first {
            match able {
                true => info!("the CVIPs can be carried here again"),
                false => warn!("the CVIPs cannot be carried here: {reason}"),
            }
            let event =
                if able { DirectorEvent::CanCarry } else { DirectorEvent::Incapable { reason } };
            self.tell(event, now);
        }
        self.news(AddressNotice::Carries(able));
    }

    fn tell(&mut self, event: DirectorEvent, now: Instant) {
        if self.events.take(now) {
            self.main.send(MainMessage::Event(event));
        }
    }

    fn news(&self, news: AddressNotice) {
        // A main thread that is gone ends this one too.
        self.main.send(MainMessage::Addresses(news));
    }

    fn tell_faults(&mut self) {
        let incapable = self.incapable.iter().map(|reason| {
            format!("{reason}: the CVIPs cannot be carried here; see to the interface")
        });
        let faults = incapable.chain(self.failures.iter().cloned());
        let faults: Vec<String> = faults.collect();
        if faults != self.told {
            self.told.clone_from(&faults);
            self.news(AddressNotice::Faults(faults));
        }
    }
}

impl Driven for AddressManager {
    type Message = AddressMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.changes.iter().map(AsFd::as_fd).collect()
    }

    fn timeout(&self, now: Instant) -> Duration {
        self.upkeep.due().saturating_duration_since(now)
    }

    fn handle(&mut self, message: AddressMessage, now: Instant) {
        match message {
            AddressMessage::Take { role, conf, order } => {
                self.reload(conf);
                self.order = Some(order);
                self.take(role, now);
            }
            AddressMessage::Reload(conf) => self.reload(conf),
            AddressMessage::Yield if self.upkeep.role() == Some(AddressRole::ActiveDirector) => {
                self.take(AddressRole::Yielding, now);
            }
            AddressMessage::Yield => {}
            AddressMessage::Announce if self.upkeep.role() == Some(AddressRole::ActiveDirector) => {
                self.announce();
            }
            AddressMessage::Announce => {}
            AddressMessage::Undo => {
                self.upkeep.forget();
                let report = self.settings.undo();
                for done in &report.done {
                    info!("{done}");
                }
                for failure in &report.failures {
                    error!("{failure}");
                }
                self.news(AddressNotice::Undone);
            }
        }
    }

    fn step(&mut self, now: Instant) {
        if self.changes.as_ref().is_some_and(ChangeWatch::changed) {
            self.upkeep.notified();
        }
        let mut now = now;
        while let Some(action) = self.upkeep.next(now) {
            self.action(action, now);
            now = Instant::now();
        }
        let verdict = self.upkeep.capability_at(now);
        self.judge(verdict, now);
        self.tell_announced();
        self.tell_faults();
    }
}
