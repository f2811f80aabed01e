//! Questions to nodes that are not heard: does the machine answer, do its servers?

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use tracing::warn;

use super::super::flaps::ServerKey;
use crate::heartbeat::{ConnectOutcome, ConnectProber, EchoProber, Timing};
use crate::protocol::Protocol;
use crate::store::NodeRecord;

/// From one question to a machine to the next.
const ECHO_EVERY: Duration = Duration::from_millis(100);

/// From one question to a server to the next.
const CONNECT_EVERY: Duration = Duration::from_millis(500);

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many answers missed in a row, and a server is not there.
const MISSES: u32 = 2;

/// What was asked, and answered.
pub(super) struct Probes {
    /// None where the system allows neither kind of socket.
    echo: Option<EchoProber>,
    echoed: BTreeMap<u32, Instant>,
    connects: ConnectProber,
    /// When each mute node's servers were last asked, and who is behind each address.
    agent_down: BTreeMap<u32, ProbeAsked>,
}

/// A mute node's servers.
struct ProbeAsked {
    at: Instant,
    servers: BTreeMap<SocketAddr, Vec<ServerKey>>,
    misses: BTreeMap<SocketAddr, (u32, &'static str)>,
}

impl Probes {
    pub(super) fn new() -> io::Result<Probes> {
        let echo = EchoProber::open();
        if let Err(error) = &echo {
            warn!("machines cannot be asked whether they live: {error}");
        }
        Ok(Probes {
            echo: echo.ok(),
            echoed: BTreeMap::new(),
            connects: ConnectProber::new(PATIENCE)?,
            agent_down: BTreeMap::new(),
        })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.connects.fd()];
        fds.extend(self.echo.iter().flat_map(EchoProber::fds));
        fds
    }

    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        self.connects.timeout(now)
    }

    /// Takes the answers that have come; true if any did.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        let answered = self.echo.as_mut().map(EchoProber::receive).unwrap_or_default();
        let ended = self.connects.step(now);
        for (target, outcome) in &ended {
            let asked =
                self.agent_down.values_mut().find(|asked| asked.servers.contains_key(target));
            let Some(asked) = asked else { continue };
            let why = match outcome {
                ConnectOutcome::Open => {
                    asked.misses.remove(target);
                    continue;
                }
                ConnectOutcome::Refused => "nobody listens",
                ConnectOutcome::Silent => "it does not answer",
                // That says something of the way, or of this machine.
                ConnectOutcome::Unreachable | ConnectOutcome::Untried(_) => continue,
            };
            let (misses, said) = asked.misses.entry(*target).or_insert((0, why));
            (*misses, *said) = (misses.saturating_add(1), why);
        }
        !answered.is_empty() || !ended.is_empty()
    }

    /// Whether a node's machine has answered lately, at any of its addresses; asks it if its
    /// life is doubtful.
    pub(super) fn echo(
        &mut self,
        node: u32,
        addrs: &BTreeSet<IpAddr>,
        doubtful: bool,
        now: Instant,
    ) -> bool {
        let Some(echo) = &mut self.echo else { return false };
        if !doubtful {
            if self.echoed.remove(&node).is_some() {
                addrs.iter().for_each(|addr| echo.forget(*addr));
            }
            return false;
        }
        let due = self.echoed.get(&node).is_none_or(|at| now.duration_since(*at) >= ECHO_EVERY);
        if due {
            self.echoed.insert(node, now);
            for addr in addrs {
                echo.probe(*addr, now);
            }
        }
        let lately = |at: Instant| now.saturating_duration_since(at) < Timing::default().silence;
        addrs.iter().filter_map(|addr| echo.answered(*addr)).any(lately)
    }

    /// Asks the servers of a node whose cvipd is silent, by its last record; forgets them where
    /// there is none to ask by.
    pub(super) fn ask(
        &mut self,
        node: u32,
        record: Option<&NodeRecord>,
        addrs: &BTreeSet<IpAddr>,
        now: Instant,
    ) {
        let Some(record) = record else {
            self.agent_down.remove(&node);
            return;
        };
        let asked = self.agent_down.entry(node).or_insert_with(|| ProbeAsked {
            at: now - CONNECT_EVERY,
            servers: BTreeMap::new(),
            misses: BTreeMap::new(),
        });
        if now.duration_since(asked.at) < CONNECT_EVERY {
            return;
        }
        asked.at = now;
        asked.servers.clear();
        for registration in &record.registrations {
            let service = registration.service;
            // A listener on the CVIP alone cannot be asked from here, nor one of UDP.
            if service.protocol != Protocol::Tcp || registration.hidden {
                continue;
            }
            let of_family = addrs.iter().filter(|addr| addr.is_ipv4() == service.cvip.is_ipv4());
            for addr in of_family {
                let target = SocketAddr::new(*addr, service.port);
                asked.servers.entry(target).or_default().push((service, node));
            }
        }
        let ProbeAsked { servers, misses, .. } = asked;
        misses.retain(|target, _| servers.contains_key(target));
        for target in servers.keys() {
            self.connects.probe(*target);
        }
    }

    /// The servers that are not there, though their node's record says so.
    pub(super) fn unhealthy(&self) -> BTreeMap<ServerKey, String> {
        let mut unhealthy = BTreeMap::new();
        for asked in self.agent_down.values() {
            for (target, (_, why)) in asked.misses.iter().filter(|(_, (n, _))| *n >= MISSES) {
                let why = format!("its cvipd is silent, and at {target} {why}");
                let servers = asked.servers.get(target).into_iter().flatten();
                unhealthy.extend(servers.map(|server| (*server, why.clone())));
            }
        }
        unhealthy
    }
}
