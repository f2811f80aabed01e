//! Makes, looks at, renews and announces addresses and settings, as [`AddressState`] decides.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::messages::AddressMessage;
use super::state::{AddressAction, AddressState};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::daemon::messages::MainMessage;
use crate::daemon::worker::Driven;
use crate::net::{self, ChangeWatch, NetworkSettings, Reachable, SettingsReport, ThisHost};
use crate::recorder::{Recorded, Recorder};
use crate::wake::Outbox;

/// The address manager with a kernel under it.
pub(in crate::daemon) struct AddressManager {
    state: Recorded<AddressState>,
    settings: NetworkSettings,
    host: ThisHost,
    /// None where the kernel does not notify: it is looked every second.
    changes: Option<ChangeWatch>,
    main: Outbox<MainMessage>,
}

impl AddressManager {
    pub(in crate::daemon) fn open(
        run_dir: &Path,
        node: u32,
        conf: Arc<Conf>,
        main: Outbox<MainMessage>,
        recorder: &Recorder,
        now: Instant,
    ) -> AddressManager {
        let host = ThisHost::of_node(run_dir, node);
        let settings = NetworkSettings::open(&host).unwrap_or_else(|error| {
            error!("{error}; what is there is taken for the administrator's, and left");
            NetworkSettings::default()
        });
        let changes = ChangeWatch::open().map_err(|error| {
            warn!("the kernel does not notify of changes ({error}): it is looked at every second");
        });
        let state = Recorded::new(AddressState::new(node, conf, now), recorder);
        AddressManager { state, settings, host, changes: changes.ok(), main }
    }

    fn action(&mut self, action: AddressAction) {
        let AddressManager { state, settings, host, .. } = self;
        match action {
            AddressAction::Look => {
                let outcome = settings.look(host, state.desired(), state.carried());
                state.looked(outcome, Instant::now());
            }
            AddressAction::LookAtSettings => {
                settings.tend(host);
                if self.changes.is_none() {
                    state.notified(Instant::now());
                }
                let differences = settings.check_settings(host, state.desired());
                state.looked_at_settings(differences, Instant::now());
            }
            AddressAction::Make { is_repair } => {
                let report = settings.apply(host, state.desired());
                log(&report);
                state.made(report, is_repair, Instant::now());
            }
            AddressAction::Renew => {
                let outcome = settings.renew(host);
                state.renewed(outcome, Instant::now());
            }
            AddressAction::Announce(addresses) => {
                for Reachable { addr, device } in &addresses {
                    if let Err(error) = net::announce(device, *addr) {
                        warn!("cannot announce {addr}: {error}");
                    }
                }
            }
            AddressAction::Undo => {
                let report = settings.undo(host);
                log(&report);
                state.undone(report, Instant::now());
            }
            // A main thread that is gone ends this one too.
            AddressAction::Tell(notice) => drop(self.main.send(MainMessage::Addresses(notice))),
            AddressAction::Event(event) => drop(self.main.send(MainMessage::Event(event))),
        }
    }
}

fn log(report: &SettingsReport) {
    for done in &report.done {
        info!("{done}");
    }
}

impl Driven for AddressManager {
    type Message = AddressMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.changes.iter().map(AsFd::as_fd).collect()
    }

    fn timeout(&self, now: Instant) -> Duration {
        self.state.due().saturating_duration_since(now)
    }

    fn handle(&mut self, message: AddressMessage, now: Instant) {
        self.state.told(message, now);
    }

    fn step(&mut self, now: Instant) {
        if self.changes.as_ref().is_some_and(ChangeWatch::changed) {
            self.state.notified(now);
        }
        let mut now = now;
        while let Some(action) = self.state.next(now) {
            self.action(action);
            now = Instant::now();
        }
    }
}
