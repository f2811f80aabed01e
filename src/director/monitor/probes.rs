//! Probes of nodes that are not heard: does the machine answer an echo, do its servers take
//! connections? Which are due, and what the answers say. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::messages::MonitorOutput;
use crate::clock::Instant;
use crate::director::flaps::ServerKey;
use crate::heartbeat::{ConnectOutcome, Timing};
use crate::store::ServiceKey;

/// From one echo request to a machine to the next.
const ECHO_EVERY: Duration = Duration::from_millis(100);

/// From one connect to a server to the next.
const CONNECT_EVERY: Duration = Duration::from_millis(500);

/// So many failed connects in a row, and a server is not there.
const MISSES: u32 = 2;

/// What was asked, and answered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Probes {
    /// When each node whose liveness is doubtful was first and last asked for an echo.
    echoed: BTreeMap<u32, (Instant, Instant)>,
    /// When the newest echo request that a machine answered was sent.
    answered: BTreeMap<IpAddr, Instant>,
    /// The servers of each node whose cvipd alone is down.
    agent_down: BTreeMap<u32, ProbedServers>,
}

/// The servers of one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ProbedServers {
    at: Instant,
    servers: BTreeMap<SocketAddr, Vec<ServerKey>>,
    /// How often in a row each was missed, and how it was last.
    misses: BTreeMap<SocketAddr, (u32, ConnectOutcome)>,
}

/// Why a server is not there, if an outcome says so.
fn missed(outcome: ConnectOutcome) -> Option<&'static str> {
    match outcome {
        ConnectOutcome::Refused => Some("no process listens"),
        ConnectOutcome::TimedOut => Some("it does not answer"),
        // That says something of the network, or of this machine.
        ConnectOutcome::Unreachable | ConnectOutcome::Untried(_) => None,
        ConnectOutcome::Open => None,
    }
}

impl Probes {
    /// A machine answered an echo request that was sent at that time.
    pub(super) fn echo_answered(&mut self, addr: IpAddr, asked: Instant) {
        let at = self.answered.entry(addr).or_insert(asked);
        *at = asked.max(*at);
    }

    /// What came of a connect.
    pub(super) fn connected(&mut self, target: SocketAddr, outcome: ConnectOutcome) {
        let probed = self.agent_down.values_mut().find(|p| p.servers.contains_key(&target));
        let Some(probed) = probed else { return };
        if outcome == ConnectOutcome::Open {
            probed.misses.remove(&target);
        }
        if missed(outcome).is_none() {
            return;
        }
        let (misses, last) = probed.misses.entry(target).or_insert((0, outcome));
        (*misses, *last) = (misses.saturating_add(1), outcome);
    }

    /// Whether a node's machine has answered lately, at any of its addresses; asks it if its
    /// liveness is doubtful.
    pub(super) fn echo(
        &mut self,
        node: u32,
        addrs: &BTreeSet<IpAddr>,
        is_doubtful: bool,
        now: Instant,
        outputs: &mut Vec<MonitorOutput>,
    ) -> bool {
        if !is_doubtful {
            if self.echoed.remove(&node).is_some() {
                self.answered.retain(|addr, _| !addrs.contains(addr));
                outputs.extend(addrs.iter().map(|addr| MonitorOutput::ForgetEcho(*addr)));
            }
            return false;
        }
        let asked = self.echoed.get(&node);
        if asked.is_none_or(|(_, last)| now.duration_since(*last) >= ECHO_EVERY) {
            self.echoed.insert(node, (asked.map_or(now, |(first, _)| *first), now));
            outputs.extend(addrs.iter().map(|addr| MonitorOutput::Echo(*addr)));
        }
        let lately = |at: &Instant| now.saturating_duration_since(*at) < Timing::default().silence;
        addrs.iter().filter_map(|addr| self.answered.get(addr)).any(lately)
    }

    /// For how long a node's machine has been asked for an echo.
    pub(super) fn asked_for(&self, node: u32, now: Instant) -> Duration {
        let first = self.echoed.get(&node).map(|(first, _)| *first);
        first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first))
    }

    /// Probes the servers of a node whose cvipd alone is down, by the services of its last record;
    /// forgets them where there are none to probe by.
    pub(super) fn connect(
        &mut self,
        node: u32,
        services: Option<&[ServiceKey]>,
        addrs: &BTreeSet<IpAddr>,
        now: Instant,
        outputs: &mut Vec<MonitorOutput>,
    ) {
        let Some(services) = services else {
            self.agent_down.remove(&node);
            return;
        };
        let (servers, misses) = (BTreeMap::new(), BTreeMap::new());
        let new = ProbedServers { at: now - CONNECT_EVERY, servers, misses };
        let probed = self.agent_down.entry(node).or_insert(new);
        if now.duration_since(probed.at) < CONNECT_EVERY {
            return;
        }
        probed.at = now;
        probed.servers.clear();
        for service in services {
            for addr in addrs.iter().filter(|addr| addr.is_ipv4() == service.cvip.is_ipv4()) {
                let target = SocketAddr::new(*addr, service.port);
                probed.servers.entry(target).or_default().push((*service, node));
            }
        }
        let ProbedServers { servers, misses, .. } = probed;
        misses.retain(|target, _| servers.contains_key(target));
        outputs.extend(servers.keys().map(|target| MonitorOutput::Connect(*target)));
    }

    /// The servers that are not there, though their node's record says so.
    pub(super) fn unhealthy(&self) -> BTreeMap<ServerKey, String> {
        let mut unhealthy = BTreeMap::new();
        for probed in self.agent_down.values() {
            for (target, (_, last)) in probed.misses.iter().filter(|(_, (n, _))| *n >= MISSES) {
                let Some(why) = missed(*last) else { continue };
                let why = format!("its cvipd sends no heartbeats, and at {target} {why}");
                let servers = probed.servers.get(target).into_iter().flatten();
                unhealthy.extend(servers.map(|server| (*server, why.clone())));
            }
        }
        unhealthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    #[test]
    fn a_server_that_fails_twice_in_a_row_is_unhealthy_until_it_answers() {
        let start = Instant::now();
        let addrs = BTreeSet::from(["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        let service =
            ServiceKey { cvip: "10.0.0.100".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        let target: SocketAddr = "10.0.0.2:80".parse().unwrap();
        let mut probes = Probes::default();
        for (ms, outcome, is_unhealthy) in [
            (0, ConnectOutcome::Refused, false),
            (500, ConnectOutcome::Unreachable, false),
            (1000, ConnectOutcome::TimedOut, true),
            (1500, ConnectOutcome::Untried(nix::errno::Errno::EMFILE), true),
            (2000, ConnectOutcome::Open, false),
            (2500, ConnectOutcome::Refused, false),
        ] {
            let (now, mut outputs) = (start + Duration::from_millis(ms), Vec::new());
            probes.connect(2, Some(&[service]), &addrs, now, &mut outputs);
            assert_eq!(outputs, [MonitorOutput::Connect(target)], "of the CVIP's family");
            outputs.clear();
            probes.connect(2, Some(&[service]), &addrs, now, &mut outputs);
            assert_eq!(outputs, [], "not twice at once");
            probes.connected(target, outcome);
            assert_eq!(probes.unhealthy().contains_key(&(service, 2)), is_unhealthy, "{ms}");
        }
        probes.connect(2, None, &addrs, start, &mut Vec::new());
        probes.connected(target, ConnectOutcome::Refused);
        assert!(probes.unhealthy().is_empty(), "its cvipd is heard again");
    }

    #[test]
    fn a_machine_is_asked_while_its_liveness_is_doubtful_and_its_answers_age() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let addr: IpAddr = "10.0.0.2".parse().unwrap();
        let addrs = BTreeSet::from([addr]);
        let mut probes = Probes::default();
        let mut step = |at, is_doubtful, answer: Option<u64>| {
            let mut outputs = Vec::new();
            if let Some(asked) = answer {
                probes.echo_answered(addr, ms(asked));
            }
            let has_answered = probes.echo(2, &addrs, is_doubtful, ms(at), &mut outputs);
            (has_answered, outputs)
        };
        let echo = || vec![MonitorOutput::Echo(addr)];
        assert_eq!(step(0, false, None), (false, vec![]));
        assert_eq!(step(50, true, None), (false, echo()));
        assert_eq!(step(100, true, Some(50)), (true, vec![]));
        assert_eq!(step(150, true, None), (true, echo()));
        assert_eq!(step(600, true, Some(20)), (true, echo()), "late, and not the newest");
        assert_eq!(step(650, true, None), (false, vec![]), "600 ms after it was asked");
        assert_eq!(step(660, false, None), (false, vec![MonitorOutput::ForgetEcho(addr)]));
        assert_eq!(step(670, true, None), (false, echo()));
    }
}
