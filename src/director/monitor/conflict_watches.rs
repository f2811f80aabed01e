//! The sockets that hear other hosts claim addresses of this director: one watch for each
//! interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tracing::warn;

use super::conflicts::WatchedAddresses;
use crate::clock::Instant;
use crate::net::{Claimed, ConflictWatch, NetError};

/// An interface that cannot be watched is tried again after this, and this host's own Ethernet
/// addresses, whose claims are its own, are read again.
const AGAIN: Duration = Duration::from_secs(5);

/// The watches, by interface.
#[derive(Default)]
pub(super) struct ConflictWatches {
    watches: BTreeMap<String, InterfaceWatch>,
}

struct InterfaceWatch {
    addrs: BTreeSet<IpAddr>,
    /// None while the interface cannot be watched.
    open: Option<ConflictWatch>,
    next: Instant,
    /// Why it cannot, as it was last logged.
    fault: String,
}

impl ConflictWatches {
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watches.values().filter_map(|watch| watch.open.as_ref()).flat_map(ConflictWatch::fds)
    }

    /// How long a step may wait.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        let questions = self.watches.values().filter_map(|watch| watch.open.as_ref()?.timeout(now));
        let again = self.watches.values().map(|watch| watch.next.saturating_duration_since(now));
        again.chain(questions).min()
    }

    /// Watches these addresses and no others.
    pub(super) fn watch(&mut self, wanted: WatchedAddresses, now: Instant) {
        self.watches.retain(|device, watch| wanted.get(device) == Some(&watch.addrs));
        for (device, addrs) in wanted {
            self.watches.entry(device).or_insert_with_key(|device| {
                let (open, fault) = (None, String::new());
                let mut watch = InterfaceWatch { addrs, open, next: now, fault };
                watch.tend(device, now);
                watch
            });
        }
    }

    /// Asks whether another host has one of these addresses.
    pub(super) fn ask(&mut self, addrs: &BTreeSet<IpAddr>, now: Instant) {
        for watch in self.watches.values_mut() {
            for addr in watch.addrs.intersection(addrs) {
                watch.open.iter_mut().for_each(|open| open.doubt(*addr, now));
            }
        }
    }

    /// Sends the questions that are due, and gives what other hosts claimed.
    pub(super) fn step(&mut self, now: Instant) -> Vec<Claimed> {
        let mut claims = Vec::new();
        for (device, watch) in &mut self.watches {
            watch.tend(device, now);
            let Some(open) = &mut watch.open else { continue };
            let result = open.step(now);
            claims.extend(open.take_claims());
            if let Err(error) = result {
                watch.fail(device, &error);
            }
        }
        claims
    }

    /// The addresses that another host was proved to have, by its answers.
    pub(super) fn proved(&self) -> BTreeSet<IpAddr> {
        let opened = self.watches.values().filter_map(|watch| watch.open.as_ref());
        opened.flat_map(ConflictWatch::confirmed).map(|(addr, _)| addr).collect()
    }
}

impl InterfaceWatch {
    fn tend(&mut self, device: &str, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + AGAIN;
        let addrs = self.addrs.iter().copied();
        let result = match &mut self.open {
            Some(open) => open.watch(addrs),
            None => ConflictWatch::open(device, addrs).map(|open| self.open = Some(open)),
        };
        if let Err(error) = result {
            self.fail(device, &error);
        }
    }

    fn fail(&mut self, device: &str, error: &NetError) {
        // The interface may be another one of the same name by now.
        self.open = None;
        let fault = error.to_string();
        if fault != self.fault {
            warn!("cannot watch {device} for address conflicts: {fault}");
            self.fault = fault;
        }
    }
}
