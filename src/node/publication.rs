//! When this node's record is written, as which version, and how often that is tried. Pure.
//!
//! A record is written only if it says something new, at the rate that [`WritePace`] allows. One that
//! the store does not take is tried again: after a second while the store is unavailable, less and
//! less often if the store refuses it, and at once if it is to say something else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use tracing::{error, info, warn};

use super::pace::WritePace;
use crate::clock::Instant;
use crate::counter;
use crate::store::{NodeRecord, Registration, StoreFailure};

/// A record that was not stored is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One that the store refuses again and again is tried this often.
const RETRY_LATEST: Duration = Duration::from_secs(15);

/// The stored record, and what is to be written next.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Publication {
    /// Of this cvipd, or a later one than a stored record named.
    incarnation: u64,
    /// The record as it was last stored; none: it is written whatever it says.
    stored: Option<NodeRecord>,
    /// The record that is being written.
    putting: Option<NodeRecord>,
    /// The newest record that was written, or that was tried.
    tried: Option<NodeRecord>,
    /// When a record that was not stored is tried again.
    retry_at: Option<Instant>,
    /// When one that has to wait for its turn is written.
    write_at: Option<Instant>,
    pace: WritePace,
    /// How often in a row the store took no record, and why, as it was last logged.
    refusals: u32,
    unstored: Option<String>,
}

impl Publication {
    /// Nothing was written by a cvipd of this incarnation.
    pub(super) fn new(incarnation: u64, now: Instant) -> Publication {
        Publication {
            incarnation,
            stored: None,
            putting: None,
            tried: None,
            retry_at: None,
            write_at: None,
            pace: WritePace::new(now),
            refusals: 0,
            unstored: None,
        }
    }

    /// The record as it was last stored.
    pub(super) fn stored(&self) -> Option<&NodeRecord> {
        self.stored.as_ref()
    }

    /// The newest version that was written, or that was tried.
    pub(super) fn tried(&self) -> Option<(u64, u64)> {
        self.tried.as_ref().map(NodeRecord::version)
    }

    /// The record that was tried and is newer than the stored one. Heartbeats have named the ports that were left
    /// beside it, and those count against the stored one.
    fn unwritten(&self) -> Option<&NodeRecord> {
        let stored = self.stored.as_ref()?.version();
        self.tried.as_ref().filter(|tried| counter::is_later_pair(tried.version(), stored))
    }

    /// True if the last record that was to be written is stored.
    pub(super) fn is_done(&self) -> bool {
        self.stored.is_some() && self.retry_at.is_none()
    }

    /// When it is to be written again; none: when it says something new.
    pub(super) fn due(&self) -> Option<Instant> {
        self.retry_at.into_iter().chain(self.write_at).min()
    }

    /// Whether the record is to be computed and written now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().map_or(self.stored.is_none(), |due| now >= due)
    }

    /// It is to be written as soon as it can be.
    pub(super) fn ask(&mut self, now: Instant) {
        self.retry_at = Some(now);
    }

    /// What the store has is not what was written: it is written again.
    pub(super) fn invalidate(&mut self) {
        self.stored = None;
    }

    /// The record to write now, if it is to be written: what the node has to say, and what the
    /// store has of this node.
    pub(super) fn next(
        &mut self,
        record: NodeRecord,
        in_store: Option<&NodeRecord>,
        now: Instant,
    ) -> Option<NodeRecord> {
        (self.retry_at, self.write_at) = (None, None);
        let sequence = self.stored.as_ref().map_or(1, |stored| stored.sequence);
        let mut record = NodeRecord { incarnation: self.incarnation, sequence, ..record };
        let unwritten = self.unwritten();
        if self.stored.as_ref() == Some(&record) && unwritten.is_none() {
            return None;
        }
        let before = self.stored.as_ref().filter(|_| unwritten.is_none());
        let due = self.pace.due(before, &record, now);
        if due > now {
            self.write_at = Some(due);
            return None;
        }
        // The store may be behind, or have been emptied.
        let own = record.next_version(self.incarnation);
        let after = in_store.map_or(own, |stored| stored.next_version(self.incarnation));
        let version = if counter::is_later_pair(own, after) { own } else { after };
        (record.incarnation, record.sequence) = version;
        // Heartbeats have named the ports that were left beside the one that was tried: that does not count against one
        // that says something else, which is a later one, also once the store was emptied.
        if let Some(tried) = &self.tried
            && !counter::is_later_pair(version, tried.version())
        {
            (record.incarnation, record.sequence) = tried.version();
            if record != *tried {
                (record.incarnation, record.sequence) = tried.next_version(tried.incarnation);
            }
        }
        self.tried = Some(record.clone());
        self.putting = Some(record.clone());
        Some(record)
    }

    /// What became of the record that was to be written.
    pub(super) fn put(&mut self, outcome: Result<(), StoreFailure>, now: Instant) {
        let Some(record) = self.putting.take() else { return };
        let Err(error) = outcome else {
            self.refusals = 0;
            self.pace.wrote(now);
            if self.unstored.take().is_some() {
                info!("this node's record is stored again");
            }
            self.log_change(&record);
            self.incarnation = record.incarnation;
            self.stored = Some(record);
            return;
        };
        // A store that refuses does so for long: it is asked less and less often.
        let again = RETRY_AFTER.saturating_mul(1 << self.refusals).min(RETRY_LATEST);
        let again = if error.is_unavailable { RETRY_AFTER } else { again };
        self.refusals = (self.refusals + 1).min(6);
        self.retry_at = Some(now + again);
        let text = error.to_string();
        if self.unstored.as_ref() != Some(&text) {
            error!("cannot store this node's record, trying again: {text}");
            self.unstored = Some(text);
        }
    }

    fn log_change(&self, record: &NodeRecord) {
        let node = record.node;
        let before = self.stored.as_ref().map_or(&[][..], |record| &record.registrations);
        for registration in record.registrations.iter().filter(|r| !before.contains(r)) {
            let Registration { service, weight, unhealthy, .. } = registration;
            match unhealthy {
                None => info!("node {node} serves {service} with weight {weight}"),
                Some(why) => warn!("node {node} is not healthy for {service}: {why}"),
            }
        }
        let served = |key| record.registrations.iter().any(|r| r.service == key);
        for registration in before.iter().filter(|r| !served(r.service)) {
            info!("node {node} no longer serves {}", registration.service);
        }
    }
}
