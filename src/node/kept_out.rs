//! Listeners on flagged ports that do not join: which of them the record names, and which are
//! logged. Pure.
//!
//! A user can open very many, so both are bounded; and the many of one user hide no other user's few.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use tracing::{info, warn};

use super::eligibility::Refusal;
use super::system::user_name;
use crate::clock::Instant;
use crate::store::{MOST_REFUSED, PortRanges, RefusedListener, ServiceKey};

/// Most addresses of one owner, service and reason that are named.
const ADDRESSES: usize = 3;
/// Most lines that are logged in [`LOG_PERIOD`].
const LOG_LINES: u32 = 10;
/// See [`LOG_LINES`].
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// No more than so many are remembered as logged.
const REMEMBERED: usize = 10_000;

/// Those that were kept out, by what they have in common.
#[derive(Debug, Default)]
pub(super) struct KeptOut {
    all: BTreeMap<(ServiceKey, u32, Refusal), Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    first: BTreeSet<IpAddr>,
    count: u32,
}

impl KeptOut {
    /// Adds one listener.
    pub(super) fn add(&mut self, service: ServiceKey, bound: IpAddr, uid: u32, refusal: Refusal) {
        let addresses = self.all.entry((service, uid, refusal)).or_default();
        addresses.count = addresses.count.saturating_add(1);
        if addresses.first.len() < ADDRESSES {
            addresses.first.insert(bound);
        }
    }

    /// Those that are named, in order; how many more there are; and the services in front of
    /// which some of these are reachable. `names` are the users of this host.
    pub(super) fn told(
        &self,
        names: &BTreeMap<u32, String>,
    ) -> (Vec<RefusedListener>, u32, Vec<PortRanges>) {
        let mut of_owner: BTreeMap<u32, u32> = BTreeMap::new();
        let mut ranked = Vec::new();
        for (key @ (_, uid, _), addresses) in &self.all {
            for bound in &addresses.first {
                let rank = of_owner.entry(*uid).or_default();
                ranked.push((*rank, key, bound));
                *rank += 1;
            }
        }
        // Every owner's first, then every owner's second, and so on.
        ranked.sort_unstable();
        ranked.truncate(MOST_REFUSED);
        let row =
            |(_, (service, uid, refusal), bound): &(u32, &(ServiceKey, u32, Refusal), &IpAddr)| {
                RefusedListener {
                    service: *service,
                    bound: **bound,
                    uid: *uid,
                    reason: refusal.describe(names),
                    reachable: refusal.is_reachable(),
                }
            };
        let mut rows: Vec<RefusedListener> = ranked.iter().map(row).collect();
        rows.sort_unstable();
        let count = self.all.values().fold(0, |sum: u32, of| sum.saturating_add(of.count));
        let named = rows.iter().filter(|row| row.reachable).map(|row| row.service);
        let named: BTreeSet<ServiceKey> = named.collect();
        let reachable = self.all.keys().filter(|(_, _, refusal)| refusal.is_reachable());
        let others = reachable.map(|(service, ..)| *service).filter(|s| !named.contains(s));
        (rows.clone(), count.saturating_sub(rows.len() as u32), PortRanges::of(others))
    }
}

/// Which of them were logged.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Log {
    told: BTreeSet<(ServiceKey, u32, String)>,
    since: Instant,
    lines: u32,
}

impl Log {
    /// Nothing was logged yet.
    pub(super) fn new(now: Instant) -> Log {
        Log { told: BTreeSet::new(), since: now, lines: 0 }
    }

    /// Logs of each listener that it does not join, though its port is flagged.
    pub(super) fn log(
        &mut self,
        refused: &[RefusedListener],
        names: &BTreeMap<u32, String>,
        now: Instant,
    ) {
        for row in self.new_ones(refused, now) {
            let RefusedListener { service, bound, uid, reason, reachable } = row;
            let bound = SocketAddr::new(*bound, service.port);
            let text = format!(
                "the listener of {} on {bound} does not join {service}: {reason}; `cvipctl doctor` \
                 on this node says what to do",
                user_name(*uid, names)
            );
            // Most of what listens on loopback alone is meant to.
            if *reachable { warn!("{text}") } else { info!("{text}") }
        }
    }

    /// Those that are to be logged now, each once for its owner, service and reason; beyond the
    /// rate they are left for the next time.
    fn new_ones<'a>(
        &mut self,
        refused: &'a [RefusedListener],
        now: Instant,
    ) -> Vec<&'a RefusedListener> {
        if now.saturating_duration_since(self.since) >= LOG_PERIOD {
            (self.since, self.lines) = (now, 0);
        }
        let mut news = Vec::new();
        for row in refused {
            if self.lines >= LOG_LINES || self.told.len() >= REMEMBERED {
                break;
            }
            if self.told.insert((row.service, row.uid, row.reason.clone())) {
                self.lines += 1;
                news.push(row);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn service(port: u16) -> ServiceKey {
        ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Protocol::Tcp, port }
    }

    fn loopback(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x7f00_0000 + number).into()
    }

    #[test]
    fn the_many_of_one_user_hide_no_other_users_few() {
        let mut all = KeptOut::default();
        for number in 1..=9000 {
            all.add(service(8080), loopback(number), 1000, Refusal::Loopback);
        }
        for port in 1..=500 {
            all.add(service(port), [0, 0, 0, 0].into(), 1000, Refusal::Owner(1000));
        }
        all.add(service(9000), loopback(1), 0, Refusal::Loopback);
        let (rows, more, reachable) = all.told(&BTreeMap::new());
        assert_eq!(rows.len(), MOST_REFUSED);
        assert_eq!(more as usize, 9501 - MOST_REFUSED);
        assert!(rows.is_sorted() && rows.iter().any(|row| row.uid == 0));
        let told = |port| {
            let key = service(port);
            rows.iter().any(|row| row.reachable && row.service == key)
                || reachable.iter().any(|ranges| ranges.contains(key))
        };
        assert!((1..=500).all(told) && !told(9000));
    }

    #[test]
    fn few_are_named_as_they_are() {
        let mut all = KeptOut::default();
        all.add(service(80), loopback(1), 33, Refusal::Loopback);
        all.add(service(80), [0, 0, 0, 0].into(), 1000, Refusal::Owner(1000));
        let (rows, more, reachable) = all.told(&BTreeMap::new());
        assert_eq!((rows.len(), more, reachable), (2, 0, vec![]));
        let (rows, ..) = all.told(&[(1000, "al".to_owned())].into());
        assert!(rows.iter().any(|row| row.reason.starts_with("user al may not serve")), "{rows:?}");
    }

    #[test]
    fn each_is_logged_once_and_no_user_fills_the_log() {
        let mut all = KeptOut::default();
        for port in 1..=50 {
            all.add(service(port), loopback(1), 1000, Refusal::Loopback);
        }
        let (rows, ..) = all.told(&BTreeMap::new());
        let start = Instant::now();
        let mut log = Log::new(start);
        assert_eq!(log.new_ones(&rows[..3], start).len(), 3);
        assert_eq!(log.new_ones(&rows[..3], start).len(), 0);
        assert_eq!(log.new_ones(&rows, start).len(), 7);
        assert_eq!(log.new_ones(&rows, start).len(), 0);
        assert_eq!(log.new_ones(&rows, start + LOG_PERIOD).len(), 10);
        assert_eq!(log.new_ones(&[], start + 2 * LOG_PERIOD).len(), 0);
        assert_eq!(log.new_ones(&rows[..3], start + 2 * LOG_PERIOD).len(), 0);
    }
}
