//! The task that follows etcd for one view: everything at one revision, then every change from
//! there on, into the view's pending changes.
//!
//! Whatever makes it lose its place (a compaction, a cancelled watch, another connection) leads
//! to a fresh full read: what vanished meanwhile is then missing from it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::failure::EtcdFailure;
use super::lease_keeper::HeldKeys;
use super::link::{EtcdLink, Phase};
use super::messages::{Item, StoreVersion, StoredText, StoredValue, Unavailable};
use super::pending::Pending;
use super::session::{EtcdSession, KeySpan};
use super::timing::AGAIN_AFTER;
use super::wire::{DELETE, WatchResponse};

/// One view's follower.
pub(super) struct Follower {
    pub(super) link: EtcdLink,
    pub(super) ranges: Vec<KeySpan>,
    pub(super) pending: Arc<Pending>,
    /// Tickets of those who want a full read.
    pub(super) rereads: mpsc::UnboundedReceiver<u64>,
    /// The last of them.
    pub(super) ticket: u64,
    /// Leases whose keys may have changed.
    pub(super) held: HeldKeys,
}

/// Why following stopped.
enum Stop {
    /// It lost its place, or was asked to: read everything again.
    Reread,
    /// A request failed.
    Failed(EtcdFailure),
    /// The view is gone.
    Ended,
}

impl From<EtcdFailure> for Stop {
    fn from(failure: EtcdFailure) -> Stop {
        match failure {
            EtcdFailure::Compacted => Stop::Reread,
            other => Stop::Failed(other),
        }
    }
}

impl Follower {
    /// Follows until the view is gone.
    pub(super) async fn run(mut self) {
        loop {
            let Some(session) = self.session().await else { return };
            let failure = match self.follow(&session).await {
                Stop::Ended => return,
                Stop::Reread => continue,
                Stop::Failed(failure) => failure,
            };
            match failure {
                EtcdFailure::Session(_) => self.link.report(&session, &failure),
                EtcdFailure::Late(_) => {
                    self.link.report(&session, &failure);
                    sleep(AGAIN_AFTER).await;
                }
                refused => {
                    let reason = format!("keys cannot be read: {refused}");
                    warn!("{reason}");
                    let since = self.link.counters.heard();
                    self.pending.set_unavailable(Some(Unavailable { since, reason }));
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    /// The session; none if the view is gone. Says in the pending changes while there is none.
    async fn session(&mut self) -> Option<EtcdSession> {
        loop {
            match self.link.phase() {
                Phase::Up(session) => return Some(session),
                Phase::Unavailable(unavailable) => self.pending.set_unavailable(Some(unavailable)),
                Phase::Connecting => {}
            }
            tokio::select! {
                () = self.link.changed() => {}
                ticket = self.rereads.recv() => self.ticket = ticket?,
            }
        }
    }

    async fn follow(&mut self, session: &EtcdSession) -> Stop {
        match self.try_follow(session).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn try_follow(
        &mut self,
        session: &EtcdSession,
    ) -> Result<std::convert::Infallible, Stop> {
        while let Ok(ticket) = self.rereads.try_recv() {
            self.ticket = ticket;
        }
        // The answer is as new as the question: a ticket that comes later is not answered.
        let ticket = self.ticket;
        let generation = session.generation;
        let version = |revision| StoreVersion { generation, revision };
        let snapshot = session.snapshot(&self.ranges).await?;
        debug!("{} values read at revision {}", snapshot.values.len(), snapshot.revision);
        let next = snapshot.revision + 1;
        let items = snapshot.values.into_iter().map(|(key, StoredValue { text, revision, .. })| {
            (key, Item { text: Some(text), at: version(revision) })
        });
        self.pending.put_whole(version(next - 1), items, ticket);
        self.held.doubt_all();
        let mut watch = session.watch(&self.ranges, next).await?;
        loop {
            let response = tokio::select! {
                response = watch.next() => response?,
                ticket = self.rereads.recv() => {
                    self.ticket = ticket.ok_or(Stop::Ended)?;
                    return Err(Stop::Reread);
                }
                () = self.link.changed() => match self.link.phase() {
                    Phase::Up(now) if now.generation == generation => continue,
                    _ => return Err(Stop::Reread),
                }
            };
            if response.canceled {
                return Err(self.cancelled(&response).await);
            }
            let changes = response.events.into_iter().filter_map(|event| {
                let kv = event.kv?;
                let at = version(kv.mod_revision);
                let text = (event.kind != DELETE).then(|| StoredText::new(kv.value));
                Some((kv.key, Item { text, at }))
            });
            let changes: Vec<(Vec<u8>, Item)> = changes.collect();
            for (key, item) in &changes {
                self.held.compare(key, item.text.as_ref().map(|text| text.bytes()));
            }
            if !changes.is_empty() {
                self.pending.put(changes.into_iter());
            }
        }
    }

    /// A watch that etcd ended: its place is gone, or its permission, or its leader.
    async fn cancelled(&self, response: &WatchResponse) -> Stop {
        if response.compact_revision > 0 {
            debug!("the watch lost its place: compacted to {}", response.compact_revision);
            return Stop::Reread;
        }
        let reason = &response.cancel_reason;
        debug!("etcd ended the watch: {reason}");
        if reason.contains("permission denied") {
            return Stop::Failed(EtcdFailure::Denied);
        }
        Stop::Failed(EtcdFailure::Session(reason.clone()))
    }
}
