//! The task that keeps one node's lease, and the key that says so.
//!
//! The key `nodes/N/alive` is attached to the lease: when it is not renewed, etcd removes the key.
//! The task takes a new lease and writes the key again, by itself, whenever either is gone. A key
//! that is attached to another live holder's lease is never touched: that is what a lease is for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info};

use super::failure::EtcdFailure;
use super::lease_state::{LeaseKey, LeaseState};
use super::link::{EtcdLink, Phase};
use super::messages::Swapped;
use super::session::EtcdSession;
use super::timing::LOOK_AGAIN;
use crate::files;
use crate::store::Holding;
use crate::store::local::{Lock, Note};

/// How long giving a lease back may take: it would end by itself.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

/// The values that leases' keys should have, and who sees to that.
type Keys = HashMap<Vec<u8>, (Vec<u8>, Arc<Notify>)>;

/// The keys that this process's leases hold up, shared with those who see keys change.
#[derive(Clone, Default)]
pub(super) struct HeldKeys(Arc<Mutex<Keys>>);

impl HeldKeys {
    fn with<T>(&self, f: impl FnOnce(&mut Keys) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A key has a new value: if it is one of ours, and not what we wrote, its lease keeper reads
    /// it.
    pub(super) fn compare(&self, key: &[u8], value: Option<&[u8]>) {
        self.with(|held| {
            if let Some((ours, lease_keeper)) = held.get(key)
                && Some(ours.as_slice()) != value
            {
                lease_keeper.notify_one();
            }
        });
    }

    /// Every lease keeper reads its key.
    pub(super) fn doubt_all(&self) {
        self.with(|held| held.values().for_each(|(_, lease_keeper)| lease_keeper.notify_one()));
    }
}

/// The lease keeper of one lease.
pub(super) struct LeaseKeeper {
    link: EtcdLink,
    key: Vec<u8>,
    state: LeaseState,
    held: HeldKeys,
    doubt: Arc<Notify>,
    holding: watch::Sender<Holding>,
    /// What was last said to be wrong.
    said: Option<String>,
    /// No other cvipd of this host keeps a lease for the node while this is held.
    lock: Arc<Lock>,
}

/// Tells a lease keeper to end; the sender waits for the answer.
pub(super) type End = mpsc::Receiver<oneshot::Sender<()>>;

/// The owner's handle of a lease keeper.
#[derive(Debug)]
pub(super) struct Handle {
    holding: watch::Receiver<Holding>,
    end: mpsc::Sender<oneshot::Sender<()>>,
    /// The lease keeper's own part, which looks after its files.
    pub(super) lock: Arc<Lock>,
    /// The runtime lives as long as one of these.
    _living: mpsc::Sender<()>,
}

impl LeaseKeeper {
    /// A lease keeper and its owner's handle. `key` is the node's `alive`.
    pub(super) fn new(
        link: EtcdLink,
        held: HeldKeys,
        key: Vec<u8>,
        incarnation: u64,
        ttl: Duration,
        lock: Arc<Lock>,
        living: mpsc::Sender<()>,
    ) -> (LeaseKeeper, End, Handle) {
        let (holding, reader) = watch::channel(Holding::Waiting);
        let (sender, end) = mpsc::channel(1);
        let lease_keeper = LeaseKeeper {
            link,
            key,
            state: LeaseState::new(
                incarnation,
                ttl,
                lock.earlier().and_then(|note| note.etcd_lease),
            ),
            held,
            doubt: Arc::new(Notify::new()),
            holding,
            said: None,
            lock: Arc::clone(&lock),
        };
        (lease_keeper, end, Handle { holding: reader, end: sender, lock, _living: living })
    }

    /// Keeps until it is told to end.
    pub(super) async fn run(mut self, mut end: End) {
        let ours = (self.state.text().bytes().to_vec(), Arc::clone(&self.doubt));
        self.held.with(|held| held.insert(self.key.clone(), ours));
        let told = tokio::select! {
            told = end.recv() => told,
            () = self.keep() => None,
        };
        self.held.with(|held| held.remove(&self.key));
        if let (Some(lease), Phase::Up(session)) = (self.state.lease(), self.link.phase()) {
            let given = timeout(GIVE_BACK_WITHIN, session.revoke(lease)).await;
            match given {
                Ok(Ok(_)) => debug!("the lease is given back"),
                Ok(Err(error)) => debug!("the lease is not given back: {error}"),
                Err(_) => debug!("the lease is not given back: no answer in time"),
            }
        }
        // The lock goes before the owner goes on: the next holder finds it free.
        drop(self);
        if let Some(told) = told {
            let _ = told.send(());
        }
    }

    async fn keep(&mut self) {
        loop {
            let session = self.link.session().await;
            let failure = self.keep_on(&session).await;
            self.holding.send_replace(Holding::Waiting);
            match failure {
                EtcdFailure::Session(_) => self.link.report(&session, &failure),
                EtcdFailure::Late(_) => {
                    self.link.report(&session, &failure);
                    sleep(LOOK_AGAIN).await;
                }
                EtcdFailure::NoLease => {
                    info!("the lease was lost: a new one is taken");
                    self.state.lost();
                }
                failure => {
                    let text = format!("this node's lease cannot be held: {failure}");
                    if self.said.as_ref() != Some(&text) {
                        error!("{text}");
                        self.note(Some(failure.to_string()));
                        self.said = Some(text);
                    }
                    sleep(self.state.ttl()).await;
                }
            }
        }
    }

    /// Keeps on one session until that fails.
    async fn keep_on(&mut self, session: &EtcdSession) -> EtcdFailure {
        match self.try_keep_on(session).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn try_keep_on(
        &mut self,
        session: &EtcdSession,
    ) -> Result<std::convert::Infallible, EtcdFailure> {
        let lease = match self.state.lease() {
            Some(lease) => lease,
            None => self.take(session).await?,
        };
        let mut stream = session.keep_alive(lease).await?;
        let mut certain = false;
        loop {
            if !stream.renew().await? {
                return Err(EtcdFailure::NoLease);
            }
            if !certain {
                certain = self.assert(session, lease).await?;
            }
            let pause = self.state.pause(certain);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.doubt.notified() => certain = false,
            }
        }
    }

    /// Takes a new lease. Its number is noted beside the lock first: the holder of the lock
    /// after us then knows a key on it for a dead holder's.
    async fn take(&mut self, session: &EtcdSession) -> Result<i64, EtcdFailure> {
        let lease = session.grant(self.state.ttl()).await?;
        // Where there is no space for it, a successor waits for the lease to end.
        let incarnation = self.state.incarnation();
        self.lock.write(Note { incarnation, etcd_lease: Some(lease) });
        self.state.granted(lease);
        Ok(lease)
    }

    /// Writes the key where it is not ours. False if another live holder's stands there.
    async fn assert(&mut self, session: &EtcdSession, lease: i64) -> Result<bool, EtcdFailure> {
        let mut stored = session.get(&self.key).await?;
        loop {
            let expected = match self.state.look(stored.as_ref()) {
                LeaseKey::Ours => {
                    self.hold();
                    return Ok(true);
                }
                LeaseKey::Replace { expected } => expected,
                LeaseKey::Contested { by } => {
                    if *self.holding.borrow() != (Holding::Contested { by }) {
                        error!(
                            "another cvipd holds this node's lease (incarnation {by}): is its \
                             number given twice?"
                        );
                        self.holding.send_replace(Holding::Contested { by });
                    }
                    return Ok(false);
                }
            };
            let value = Some(self.state.text().bytes());
            match session.swap(&self.key, expected, value, lease).await? {
                Swapped::Done(_) => {
                    // What was attached to it is attached to ours now.
                    for dead in self.state.replaced() {
                        session.revoke(dead).await?;
                    }
                    self.hold();
                    return Ok(true);
                }
                Swapped::Stands(other) => stored = other,
            }
        }
    }

    fn hold(&mut self) {
        if *self.holding.borrow() != Holding::Held {
            self.holding.send_replace(Holding::Held);
        }
        if self.said.take().is_some() {
            self.note(None);
        }
    }

    /// Notes for `status` why the key cannot be written.
    fn note(&self, why: Option<String>) {
        files::set_unsaved(Path::new(&*String::from_utf8_lossy(&self.key)), why);
    }
}

impl Handle {
    /// How the lease stands.
    pub(super) fn now(&self) -> Holding {
        *self.holding.borrow()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (sender, ended) = oneshot::channel();
        if self.end.blocking_send(sender).is_ok() {
            // Bounded by the lease keeper itself.
            let _ = ended.blocking_recv();
        }
    }
}
