//! Does another answer for the CVIPs? Watched by the active director of a set of several, and
//! believed only while the store is away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::conf::Conf;
use crate::net::ConflictWatch;

/// While the store is away an announcement may have been lost: it is asked this often.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

/// An interface that cannot be watched is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// One watch for each interface that carries CVIPs.
#[derive(Default)]
pub(super) struct ConflictWatches {
    watches: BTreeMap<String, WatchedDevice>,
    next_doubt: Option<Instant>,
}

struct WatchedDevice {
    addrs: BTreeSet<IpAddr>,
    /// None while the interface cannot be watched.
    open: Option<ConflictWatch>,
    opened: Instant,
    /// What was last said about it.
    fault: String,
}

impl ConflictWatches {
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watches.values().filter_map(|watch| watch.open.as_ref()).flat_map(ConflictWatch::fds)
    }

    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        let watches = self.watches.values().filter_map(|watch| watch.open.as_ref()?.timeout(now));
        watches.min()
    }

    /// Hears; true if a conflicting host was found, or is one no longer.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        let before = self.confirmed();
        for (device, watch) in &mut self.watches {
            let fault = match watch.open.as_mut().map(|open| open.step(now)) {
                Some(Err(error)) => error.to_string(),
                _ => continue,
            };
            if fault != watch.fault {
                warn!("others who answer for the CVIP cannot be seen on {device}: {fault}");
                watch.fault = fault;
            }
            // Its interface may be another of the same name by now.
            (watch.open, watch.opened) = (None, now);
        }
        self.confirmed() != before
    }

    /// True if another answers for one of the CVIPs.
    pub(super) fn confirmed(&self) -> bool {
        let is_confirmed = |watch: &WatchedDevice| {
            watch
                .open
                .as_ref()
                .is_some_and(|open| watch.addrs.iter().any(|addr| open.conflict(*addr).is_some()))
        };
        self.watches.values().any(is_confirmed)
    }

    /// Watches the CVIPs of an active director, and nothing for one that is not.
    pub(super) fn watch(
        &mut self,
        conf: &Conf,
        me: u32,
        active: bool,
        unavailable: bool,
        now: Instant,
    ) {
        let mut wanted: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        let directed = conf.cvips.iter().filter(|_| active);
        for (cvip, director) in directed.filter_map(|cvip| Some((cvip, cvip.director(me)?))) {
            wanted.entry(director.garp_interface.clone()).or_default().insert(cvip.addr);
        }
        self.watches.retain(|device, watch| wanted.get(device) == Some(&watch.addrs));
        for (device, addrs) in wanted {
            let watch = self.watches.entry(device.clone()).or_insert_with(|| WatchedDevice {
                addrs,
                open: None,
                opened: now - AGAIN,
                fault: String::new(),
            });
            if watch.open.is_none() && now.duration_since(watch.opened) >= AGAIN {
                watch.opened = now;
                match ConflictWatch::open(&device, watch.addrs.iter().copied()) {
                    Ok(open) => watch.open = Some(open),
                    Err(error) if error.to_string() != watch.fault => {
                        watch.fault = error.to_string();
                        warn!("others who answer for the CVIP cannot be seen: {error}");
                    }
                    Err(_) => {}
                }
            }
        }
        self.doubt(unavailable, now);
    }

    /// Asks for each CVIP whether another has it.
    pub(super) fn doubt_at_once(&mut self, now: Instant) {
        self.next_doubt = None;
        self.doubt(true, now);
    }

    fn doubt(&mut self, unavailable: bool, now: Instant) {
        if !unavailable {
            self.next_doubt = None;
            return;
        }
        if now < *self.next_doubt.get_or_insert(now) {
            return;
        }
        self.next_doubt = Some(now + DOUBT_EVERY);
        for watch in self.watches.values_mut() {
            for addr in &watch.addrs {
                if let Some(open) = &mut watch.open {
                    open.doubt(*addr, now);
                }
            }
        }
    }
}
