//! Real servers that begin to serve, whose weights grow: `slow_start` of cvip.conf(5). Pure.
//!
//! A server begins when it is to have a weight and the kernel shows none of it, unless it had none for a
//! reason that says nothing about the server. What is remembered ends with the window, or with the weight.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::conf::SlowStart;
use crate::serial::pairs;
use crate::store::ServiceKey;

/// Weights grow in steps of this time.
const STEP: Duration = Duration::from_secs(1);

/// The servers whose weights grow.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ramps {
    /// By service and real server.
    #[serde(with = "pairs")]
    begun: BTreeMap<ServiceKey, BTreeMap<IpAddr, Ramp>>,
    /// When the weights last grew: they do in steps, between which they are the same.
    grew: Option<Instant>,
    /// When they grow next.
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ramp {
    slow_start: SlowStart,
    since: Instant,
}

/// What is known of a real server of a service, when it is seen who begins.
#[derive(Clone, Copy, Debug)]
pub struct WeighedServer {
    /// Its address.
    pub addr: IpAddr,
    /// It is to have a weight.
    pub is_wanted: bool,
    /// The kernel shows that it has one.
    pub has_weight: bool,
    /// It had none for a reason that says nothing about it.
    pub is_warm: bool,
}

impl Ramps {
    /// Begins and ends what the servers of a service need; `slow_start` is what cvip.conf says of it.
    pub fn update(
        &mut self,
        service: ServiceKey,
        slow_start: Option<SlowStart>,
        servers: &[WeighedServer],
        now: Instant,
    ) {
        let Some(slow_start) = slow_start else {
            self.begun.remove(&service);
            return;
        };
        let mut ramps = self.begun.remove(&service).unwrap_or_default();
        let wanted = |addr: &IpAddr| servers.iter().any(|s| s.addr == *addr && s.is_wanted);
        ramps.retain(|addr, ramp| wanted(addr) && !ramp.is_over(now));
        ramps.values_mut().for_each(|ramp| ramp.slow_start = slow_start);
        for server in servers.iter().filter(|s| s.is_wanted && !s.has_weight && !s.is_warm) {
            ramps.entry(server.addr).or_insert(Ramp { slow_start, since: now });
        }
        if !ramps.is_empty() {
            self.begun.insert(service, ramps);
            self.next.get_or_insert(now + STEP);
        }
    }

    /// A server's weight by the last step, of its whole one.
    pub fn weight(&self, service: ServiceKey, addr: IpAddr, whole: u32) -> u32 {
        self.begun.get(&service).and_then(|ramps| ramps.get(&addr)).map_or(whole, |ramp| {
            let grew = self.grew.unwrap_or(ramp.since);
            ramp.slow_start.weight(whole, grew.saturating_duration_since(ramp.since))
        })
    }

    /// When weights grow next.
    pub fn due(&self) -> Option<Instant> {
        self.next.filter(|_| !self.begun.is_empty())
    }

    /// The services whose weights grow now.
    pub fn growing(&mut self, now: Instant) -> Vec<ServiceKey> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        (self.grew, self.next) = (Some(now), Some(now + STEP));
        self.begun.keys().copied().collect()
    }

    /// The servers whose weights grow: for how long they have, and for how long they will.
    pub fn iter(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (ServiceKey, IpAddr, Duration, Duration)> {
        let ramps = self.begun.iter().flat_map(|(service, ramps)| {
            ramps.iter().map(move |(addr, ramp)| (*service, *addr, ramp))
        });
        ramps.map(move |(service, addr, ramp)| {
            let end = ramp.since + ramp.slow_start.lasts();
            let lasted = now.saturating_duration_since(ramp.since);
            (service, addr, lasted, end.saturating_duration_since(now))
        })
    }
}

impl Ramp {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.slow_start.lasts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    const WEB: ServiceKey = ServiceKey {
        cvip: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100)),
        protocol: Protocol::Tcp,
        port: 80,
    };

    fn server(host: u8, is_wanted: bool, has_weight: bool) -> WeighedServer {
        WeighedServer { addr: [10, 0, 0, host].into(), is_wanted, has_weight, is_warm: false }
    }

    #[test]
    fn a_server_that_begins_has_its_whole_weight_once_the_window_is_over() {
        let (mut ramps, start) = (Ramps::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let slow = Some(SlowStart::new(10));
        ramps.update(WEB, slow, &[server(1, true, true), server(2, true, false)], start);
        let weights =
            |ramps: &Ramps| [1, 2].map(|host| ramps.weight(WEB, [10, 0, 0, host].into(), 100));
        assert_eq!(weights(&ramps), [100, 10]);
        // It grows each second, and begins once.
        assert_eq!((ramps.due(), ramps.growing(at(0))), (Some(at(1)), vec![]));
        for s in 1..10 {
            assert_eq!(ramps.growing(at(s)), [WEB]);
            let later = at(s) + STEP / 2;
            ramps.update(WEB, slow, &[server(2, true, s > 3)], later);
            assert_eq!(weights(&ramps), [100, 10 * s as u32], "by the last step");
        }
        assert_eq!(ramps.growing(at(10)), [WEB], "for the last time");
        ramps.update(WEB, slow, &[server(2, true, true)], at(10));
        assert_eq!((weights(&ramps), ramps.due()), ([100, 100], None));
        assert!(ramps.begun.is_empty());
    }

    #[test]
    fn a_server_that_leaves_or_loses_its_setting_is_forgotten_and_a_warm_one_does_not_begin() {
        let (mut ramps, now) = (Ramps::default(), Instant::now());
        let slow = Some(SlowStart::new(10));
        let grows = |ramps: &Ramps| ramps.weight(WEB, [10, 0, 0, 2].into(), 100) < 100;
        let begin = |ramps: &mut Ramps| ramps.update(WEB, slow, &[server(2, true, false)], now);
        begin(&mut ramps);
        assert!(grows(&ramps));
        ramps.update(WEB, slow, &[server(2, false, true)], now);
        assert!(!grows(&ramps));
        begin(&mut ramps);
        ramps.update(WEB, None, &[server(2, true, true)], now);
        assert!(!grows(&ramps));
        begin(&mut ramps);
        ramps.update(WEB, slow, &[], now);
        assert!(!grows(&ramps));
        let warm = WeighedServer { is_warm: true, ..server(2, true, false) };
        ramps.update(WEB, slow, &[warm], now);
        assert!(!grows(&ramps));
        // Another window counts from the same beginning.
        begin(&mut ramps);
        ramps.update(WEB, Some(SlowStart::new(100)), &[server(2, true, true)], now);
        assert_eq!(ramps.growing(now + Duration::from_secs(50)), [WEB]);
        assert_eq!(ramps.weight(WEB, [10, 0, 0, 2].into(), 100), 50);
    }
}
