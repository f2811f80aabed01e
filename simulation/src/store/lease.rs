//! The node's lease: the twin of cvipd's `lease_keeper.rs`.

use std::sync::Arc;
use std::time::Duration;

use cvip::cores::{
    EtcdFailure, LEASE_SLACK, LOOK_AGAIN, LeaseKey, LeaseState, StoredText, StoredValue, Swapped,
};
use cvip::store::{Holding, StoreError};

use super::client::{Purpose, StoreClient};
use super::link::{Phase, Session};
use super::messages::{Ask, Reply, Request};
use crate::time::SimTime;

/// What the keeper waits for.
#[derive(Debug)]
enum Step {
    /// A session.
    Idle,
    /// The answer to its request.
    Asked,
    /// The next renewal.
    Sleeping { until: SimTime },
    /// The end of a pause after a failure.
    Off { until: SimTime },
}

/// The keeper of the lease.
#[derive(Debug)]
pub(super) struct Keeper {
    key: Arc<[u8]>,
    state: LeaseState,
    pub(super) holding: Holding,
    step: Step,
    /// The session that it keeps the lease on.
    session: Option<Session>,
    /// The key is known to be ours.
    is_certain: bool,
    /// The key may have changed.
    is_doubted: bool,
    /// Leases of the dead that are to be given back.
    dead: Vec<i64>,
    since: SimTime,
}

impl Keeper {
    pub(super) fn new(
        key: Arc<[u8]>,
        incarnation: u64,
        ttl: Duration,
        earlier: Option<i64>,
        now: SimTime,
    ) -> Keeper {
        Keeper {
            key,
            state: LeaseState::new(incarnation, ttl, earlier),
            holding: Holding::Waiting,
            step: Step::Idle,
            session: None,
            is_certain: false,
            is_doubted: false,
            dead: Vec::new(),
            since: now,
        }
    }

    pub(super) fn due(&self) -> SimTime {
        match self.step {
            Step::Sleeping { until } | Step::Off { until } => until,
            Step::Idle | Step::Asked => SimTime::NEVER,
        }
    }

    /// A key has a new value: if it is ours, and not what we wrote, it is looked at.
    pub(super) fn compare(&mut self, key: &[u8], text: Option<&Arc<StoredText>>) {
        self.is_doubted |= *key == *self.key && text != Some(self.state.text());
    }

    /// What comes first on a session.
    fn first(&self) -> Ask {
        match self.state.lease() {
            Some(lease) => Ask::Renew(lease),
            None => Ask::Grant(self.state.ttl()),
        }
    }

    /// What is asked next, now that this stands under the key; none: nothing before the next
    /// renewal.
    fn look(&mut self, stored: Option<&StoredValue>) -> Option<Ask> {
        match self.state.look(stored) {
            LeaseKey::Ours => {
                self.hold();
                None
            }
            LeaseKey::Replace { expected } => Some(Ask::Swap {
                key: Arc::clone(&self.key),
                expected,
                text: Some(Arc::clone(self.state.text())),
                lease: self.state.lease().unwrap_or(0),
            }),
            LeaseKey::Contested { by } => {
                self.holding = Holding::Contested { by };
                None
            }
        }
    }

    fn hold(&mut self) {
        self.holding = Holding::Held;
        self.is_certain = true;
    }

    /// Gives the leases of the dead back, one after another; then the lease is held.
    fn give_back(&mut self) -> Option<Ask> {
        let dead = self.dead.pop().map(Ask::Revoke);
        if dead.is_none() {
            self.hold();
        }
        dead
    }
}

impl StoreClient {
    /// What the keeper does by itself.
    pub(super) fn tick_lease(&mut self, now: SimTime) {
        let session = self.link.session();
        let Some(keeper) = &mut self.keeper else { return };
        match keeper.step {
            Step::Off { until } if now >= until => keeper.step = Step::Idle,
            Step::Sleeping { until } if now >= until || keeper.is_doubted => {
                if std::mem::take(&mut keeper.is_doubted) {
                    keeper.is_certain = false;
                }
                let generation = keeper.session.map(|session| session.generation);
                if generation == session.map(|session| session.generation) {
                    let ask = keeper.first();
                    return self.ask_for_lease(ask, now);
                }
                // Its connection was closed.
                keeper.holding = Holding::Waiting;
                keeper.step = Step::Idle;
            }
            _ => {}
        }
        if let (Step::Idle, Some(session)) = (&keeper.step, session) {
            keeper.session = Some(session);
            keeper.is_certain = false;
            let ask = keeper.first();
            self.ask_for_lease(ask, now);
        }
    }

    /// A full read: every key may have changed.
    pub(super) fn doubt_lease(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.is_doubted = true;
        }
    }

    /// What opening the store for the lease waits for: `None` while it does. cvipd starts when it
    /// is held, or the store is away; it ends if another one holds it for longer than a dead one
    /// could.
    pub fn lease_taken(&self, now: SimTime) -> Option<Result<(), StoreError>> {
        let keeper = self.keeper.as_ref()?;
        let waited = now.since(keeper.since);
        match (keeper.holding, &self.link.phase) {
            (Holding::Held, _) | (Holding::Waiting, Phase::Unavailable(_)) => Some(Ok(())),
            (Holding::Waiting, _) if waited > self.settings.timeout => Some(Ok(())),
            (Holding::Contested { .. }, _) if waited > self.settings.lease_ttl + LEASE_SLACK => {
                Some(Err(StoreError::Leased(self.node)))
            }
            _ => None,
        }
    }

    /// Gives the lease back, as a cvipd does that ends in order. The request is among
    /// [`StoreClient::take_requests`].
    pub fn give_lease_back(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        if let (Some(lease), Some(session)) = (keeper.state.lease(), self.link.session()) {
            self.next_request += 1;
            let (connection, id) = (session.connection, self.next_request);
            let request = Request { connection, id, ask: Ask::Revoke(lease) };
            self.requests.push((session.server, request));
        }
    }

    fn ask_for_lease(&mut self, ask: Ask, now: SimTime) {
        let within = now + self.settings.timeout;
        let Some(keeper) = &mut self.keeper else { return };
        let Some(session) = keeper.session else { return };
        keeper.step = Step::Asked;
        self.call(session, ask, within, Purpose::Lease);
    }

    pub(super) fn lease_answered(&mut self, reply: Reply, generation: u64, now: SimTime) {
        let Some(keeper) = &mut self.keeper else { return };
        let next = match reply {
            Reply::Granted(lease) => {
                // The next cvipd here knows a key on it for a dead one's.
                self.files.lease = Some(lease);
                keeper.state.granted(lease);
                Some(Ask::Renew(lease))
            }
            Reply::Renewed(true) if keeper.is_certain => None,
            Reply::Renewed(true) => Some(Ask::Get(Arc::clone(&keeper.key))),
            Reply::Renewed(false) => {
                return self.lease_failed(EtcdFailure::NoLease, generation, now);
            }
            Reply::Value(stored) => keeper.look(stored.as_ref()),
            Reply::Swapped(Swapped::Done(_)) => {
                // What was attached to them is attached to ours now.
                keeper.dead = keeper.state.replaced();
                keeper.give_back()
            }
            Reply::Swapped(Swapped::Stands(stored)) => keeper.look(stored.as_ref()),
            Reply::Revoked => keeper.give_back(),
            Reply::Failed(failure) => return self.lease_failed(failure, generation, now),
            other => unreachable!("{other:?} for a lease"),
        };
        match next {
            Some(ask) => self.ask_for_lease(ask, now),
            None => {
                let until = now + keeper.state.pause(keeper.is_certain);
                keeper.step = Step::Sleeping { until };
                self.tick_lease(now);
            }
        }
    }

    fn lease_failed(&mut self, failure: EtcdFailure, generation: u64, now: SimTime) {
        let Some(keeper) = &mut self.keeper else { return };
        keeper.holding = Holding::Waiting;
        keeper.step = match &failure {
            EtcdFailure::Session(_) => Step::Idle,
            EtcdFailure::NoLease => {
                keeper.state.lost();
                Step::Idle
            }
            EtcdFailure::Late(_) => Step::Off { until: now + LOOK_AGAIN },
            _ => Step::Off { until: now + keeper.state.ttl() },
        };
        self.report(generation, &failure, now);
        self.tick_lease(now);
    }
}
