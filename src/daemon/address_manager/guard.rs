//! Hears other hosts that claim an address which this node announces: one watch for each interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::net::{Claimed, ConflictWatch, Reachable};

/// An interface that cannot be watched is tried again after this, and this host's own Ethernet
/// addresses, whose claims are its own, are read again.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Guard {
    watches: BTreeMap<String, GuardedDevice>,
}

struct GuardedDevice {
    addrs: BTreeSet<IpAddr>,
    /// None while the interface cannot be watched.
    open: Option<ConflictWatch>,
    next: Instant,
    /// What was last said about it.
    fault: String,
}

impl Guard {
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watches.values().filter_map(|watch| watch.open.as_ref()).flat_map(ConflictWatch::fds)
    }

    /// Watches these addresses, and no others.
    pub(super) fn watch(&mut self, reachable: &[Reachable], now: Instant) {
        let mut wanted: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
        for Reachable { addr, device } in reachable {
            wanted.entry(device).or_default().insert(*addr);
        }
        let is_wanted = |device: &String, watch: &mut GuardedDevice| {
            wanted.get(device.as_str()).is_some_and(|addrs| *addrs == watch.addrs)
        };
        self.watches.retain(is_wanted);
        for (device, addrs) in wanted {
            self.watches.entry(device.to_owned()).or_insert(GuardedDevice {
                addrs,
                open: None,
                next: now,
                fault: String::new(),
            });
        }
    }

    /// Hears.
    pub(super) fn step(&mut self, now: Instant) -> Vec<Claimed> {
        let mut claims = Vec::new();
        for (device, watch) in &mut self.watches {
            let mut result = Ok(());
            if now >= watch.next {
                watch.next = now + AGAIN;
                let addrs = watch.addrs.iter().copied();
                result = match &mut watch.open {
                    Some(open) => open.watch(addrs),
                    None => ConflictWatch::open(device, addrs).map(|open| watch.open = Some(open)),
                };
            }
            if let Some(open) = &mut watch.open {
                result = result.and(open.step(now));
                claims.extend(open.take_claims());
            }
            let Err(error) = result else { continue };
            // Its interface may be another of the same name by now.
            watch.open = None;
            let fault = error.to_string();
            if fault != watch.fault {
                warn!("address conflicts cannot be seen on {device}: {fault}");
                watch.fault = fault;
            }
        }
        claims
    }

    /// Asks whether another host has an address.
    pub(super) fn ask(&mut self, addr: IpAddr, now: Instant) {
        let of = self.watches.values_mut().filter(|watch| watch.addrs.contains(&addr));
        for open in of.filter_map(|watch| watch.open.as_mut()) {
            open.doubt(addr, now);
        }
    }

    /// When something is due, if anything is.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let questions = self.watches.values().filter_map(|watch| watch.open.as_ref()?.timeout(now));
        let again = self.watches.values().map(|watch| watch.next);
        again.chain(questions.map(|timeout| now + timeout)).min()
    }
}
