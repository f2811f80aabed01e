//! The address manager: cvipd's state and settings, and a simulated kernel.

use std::sync::Arc;

use cvip::conf::Conf;
use cvip::cores::{AddressAction, AddressState, NetworkSettings, SupervisorInput};

use super::post::Worker;
use super::{Environment, Told};
use crate::cluster::machine::Surroundings;
use crate::cluster::packet::{Packet, Place};
use crate::time::SimTime;

/// One node's address manager.
pub struct Addresses {
    /// The address manager's state.
    pub state: AddressState,
    settings: NetworkSettings,
    /// Its subscription to the kernel's notifications.
    watch: u64,
}

impl Addresses {
    /// One that knows no role yet, and what an earlier one made.
    pub fn open(node: u32, conf: Arc<Conf>, host: &mut Surroundings, now: SimTime) -> Addresses {
        let settings = NetworkSettings::open(&host.kernel.network.at(now)).unwrap_or_default();
        let watch = host.kernel.network.subscribe();
        Addresses { state: AddressState::new(node, conf, now.instant()), settings, watch }
    }

    /// Its subscription to the kernel's notifications.
    pub fn watch(&self) -> u64 {
        self.watch
    }

    /// Takes messages and notifications, and does what is due.
    pub fn run(&mut self, env: &mut Environment<'_>) {
        while let Some(message) = env.post.addresses.pop_front() {
            self.state.told(message, env.now.instant());
        }
        if env.host.kernel.network.take_notification(self.watch) {
            self.state.notified();
        }
        while let Some(action) = self.state.next(env.now.instant()) {
            self.carry_out(action, env);
        }
        env.post.at(Worker::Addresses, SimTime::of(self.state.due()), env.now);
    }

    fn carry_out(&mut self, action: AddressAction, env: &mut Environment<'_>) {
        let now = env.now;
        let host = &mut env.host.kernel.network.at(now);
        let (state, settings) = (&mut self.state, &mut self.settings);
        match action {
            AddressAction::Look => {
                let outcome = settings.look(host, state.desired(), state.carried());
                state.looked(outcome, now.instant());
            }
            AddressAction::LookAtSettings => {
                settings.tend(host);
                let differences = settings.check_settings(host, state.desired());
                state.looked_at_settings(&differences);
            }
            AddressAction::Make { is_repair } => {
                let report = settings.apply(host, state.desired());
                let done = report.done.iter().map(ToString::to_string);
                let failed = report.failures.iter().map(ToString::to_string);
                env.told.extend(done.chain(failed).map(Told::Note));
                state.made(&report, is_repair, now.instant());
            }
            AddressAction::Renew => {
                let outcome = settings.renew(host);
                state.renewed(&outcome);
            }
            AddressAction::Announce(addresses) => {
                for at in &addresses {
                    env.sent.push((Place::Client(0), Packet::Announcement(at.addr)));
                }
            }
            AddressAction::Undo => {
                let report = settings.undo(host);
                state.undone(&report);
            }
            AddressAction::Tell(notice) => env.post.tell(SupervisorInput::Addresses(notice), now),
            AddressAction::Event(event) => env.told.push(Told::Event(event)),
        }
    }
}
