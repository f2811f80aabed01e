//! Servers that hang: a server that listens and accepts nothing has a full accept queue. Pure.
//!
//! Every dump of listeners carries each queue's length and limit, so a hung server is seen without
//! asking it anything. A full queue alone is no hang: a flood of connections fills it although its
//! server accepts as fast as it can. What tells the two apart is which connections wait in it. The
//! kernel admits a connection to a full queue only after the server accepted one, and a reset
//! only shortens the list of those that wait; so a connection that was not waiting before proves
//! that something was accepted. A service hangs if, for [`NOTHING_FOR`], its queues were full in
//! every dump and no new connection waits. The list is read only when a verdict needs it: when the queue
//! has been full in two dumps, and once more after that time.
//!
//! Only the sockets that serve a CVIP count: what a user opens on another address of the same port
//! neither hides a hang nor feigns one. Several sockets of one service (`SO_REUSEPORT`, or the
//! wildcard beside the CVIP) hang if all of them do: while one accepts, a part of the clients is
//! served, and weight 0 would turn all of them away. Nothing tells which of such sockets a
//! waiting connection belongs to, so those of one service are looked at together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::registrations::Servers;
use crate::clock::Instant;
use crate::listeners::{Listener, ListenerId, Unaccepted};
use crate::serial::pairs;
use crate::store::ServiceKey;

/// A server that accepted nothing for so long, while its queue was full, hangs.
const NOTHING_FOR: Duration = Duration::from_secs(2);

/// The list of waiting connections is read after so many dumps with a full queue: a burst fills one.
const DUMPS: u32 = 2;

/// What is known of the accept queues of services.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queues {
    #[serde(with = "pairs")]
    services: BTreeMap<ServiceKey, QueueFull>,
}

/// A service whose queues were full in the last dump, or which hangs and whose queues have not
/// emptied.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
struct QueueFull {
    /// Dumps in a row that showed all its queues full.
    dumps: u32,
    /// Which connections waited when something was last known to be accepted, or at the first look since the
    /// queues are full; and when that was.
    waiting: Option<(BTreeSet<u64>, Instant)>,
    hangs: bool,
    /// It hung, and accepts again since then, though its queues are still full.
    accepts_since: Option<Instant>,
}

/// How full a service's queues are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fill {
    /// One holds half of its limit or less.
    Little,
    /// None holds so little, and one takes further connections.
    Some,
    /// None takes any: the kernel drops further connections (`sk_acceptq_is_full`, net/sock.h).
    Full,
}

impl Fill {
    fn of(socket: &Listener) -> Fill {
        match (socket.queue, socket.backlog) {
            (queue, backlog) if queue > backlog => Fill::Full,
            (queue, backlog) if queue > backlog / 2 => Fill::Some,
            _ => Fill::Little,
        }
    }
}

impl QueueFull {
    /// What a dump makes of it.
    fn dumped(self, seen: Fill) -> Option<QueueFull> {
        match seen {
            Fill::Full => Some(QueueFull { dumps: self.dumps.saturating_add(1), ..self }),
            Fill::Some if self.hangs => Some(QueueFull { hangs: true, ..QueueFull::default() }),
            Fill::Some | Fill::Little => None,
        }
    }

    /// When the list of waiting connections is to be read.
    fn look_at(&self, now: Instant) -> Option<Instant> {
        match &self.waiting {
            _ if self.dumps < DUMPS => None,
            None => Some(now),
            Some((_, since)) => Some(*since + NOTHING_FOR),
        }
    }

    /// What the list of waiting connections makes of it.
    fn looked(&mut self, waiting: BTreeSet<u64>, now: Instant) {
        let Some((before, since)) = &self.waiting else {
            self.waiting = Some((waiting, now));
            return;
        };
        let accepted = !waiting.is_subset(before);
        if !accepted && now.saturating_duration_since(*since) < NOTHING_FOR {
            return;
        }
        self.waiting = Some((waiting, now));
        match (self.hangs, accepted) {
            (false, false) => self.hangs = true,
            (true, false) => self.accepts_since = None,
            (false, true) => {}
            // Once may be chance: it must have gone on from one look to the next.
            (true, true) => match self.accepts_since {
                None => self.accepts_since = Some(now),
                Some(_) => {
                    self.hangs = false;
                    self.accepts_since = None;
                }
            },
        }
    }
}

impl Queues {
    /// What a dump of TCP shows of services whose queues are full, or were in the last dump: their
    /// sockets, sorted; none if there are no such services.
    pub fn crowded(&self, servers: &Servers, sockets: &[Listener]) -> Option<Vec<Listener>> {
        let concerned = self.concerned(servers, sockets);
        let identities = concerned.iter().flat_map(|service| servers.of(*service));
        let identities: BTreeSet<&ListenerId> = identities.collect();
        let of = identities.into_iter().flat_map(|identity| with(sockets, identity));
        (!concerned.is_empty()).then(|| of.copied().collect())
    }

    /// The services whose queues were full in the last dump, and those of which a socket's is now.
    fn concerned(&self, servers: &Servers, sockets: &[Listener]) -> BTreeSet<ServiceKey> {
        let mut concerned: BTreeSet<ServiceKey> = self.services.keys().copied().collect();
        for socket in sockets.iter().filter(|socket| Fill::of(socket) == Fill::Full) {
            concerned.extend(servers.services_of(&socket.identity()));
        }
        concerned
    }

    /// Takes what a dump of TCP showed: every socket, sorted, or those of [`Queues::crowded`]. True
    /// if another service hangs than before, or one fewer.
    pub fn dumped(&mut self, servers: &Servers, sockets: &[Listener]) -> bool {
        let before: Vec<ServiceKey> = self.hanging().collect();
        for service in self.concerned(servers, sockets) {
            let of = servers.of(service).iter().flat_map(|identity| with(sockets, identity));
            // A service whose sockets are all gone accepts nothing, and hangs no more.
            let seen = of.map(Fill::of).min().unwrap_or(Fill::Little);
            let known = self.services.remove(&service).unwrap_or_default();
            self.services.extend(known.dumped(seen).map(|full| (service, full)));
        }
        !self.hanging().eq(before)
    }

    /// The ports of which the list of waiting connections is to be read now.
    pub fn wanted(&self, now: Instant) -> BTreeSet<u16> {
        let due = |full: &QueueFull| full.look_at(now).is_some_and(|at| now >= at);
        self.services.iter().filter(|(_, full)| due(full)).map(|(key, _)| key.port).collect()
    }

    /// Takes the list of connections that wait on a port, read after the last dump of sockets. True if
    /// another service hangs than before, or one fewer.
    pub fn looked(
        &mut self,
        port: u16,
        waiting: &[WaitingGroup],
        servers: &Servers,
        now: Instant,
    ) -> bool {
        let before: Vec<ServiceKey> = self.hanging().collect();
        for (service, full) in self.services.iter_mut().filter(|(key, _)| key.port == port) {
            if full.dumps < DUMPS {
                continue;
            }
            let own = servers.of(*service);
            let is_own =
                |group: &&WaitingGroup| group.takers.iter().any(|taker| own.contains(taker));
            let mine = waiting.iter().filter(is_own).flat_map(|group| &group.cookies);
            full.looked(mine.copied().collect(), now);
        }
        !self.hanging().eq(before)
    }

    /// Whether the server of a service hangs.
    pub fn hangs(&self, service: ServiceKey) -> bool {
        self.services.get(&service).is_some_and(|full| full.hangs)
    }

    fn hanging(&self) -> impl Iterator<Item = ServiceKey> {
        self.services.iter().filter(|(_, full)| full.hangs).map(|(key, _)| *key)
    }
}

/// Connections that wait in the queues of the same listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingGroup {
    /// The listeners in whose queues they may wait.
    pub takers: Vec<ListenerId>,
    /// The cookies of their sockets.
    pub cookies: BTreeSet<u64>,
}

impl WaitingGroup {
    /// The connections that wait on a port for what this node serves, by the sockets of the last dump.
    pub fn of(
        port: u16,
        waiting: &[Unaccepted],
        servers: &Servers,
        sockets: &[Listener],
    ) -> Vec<WaitingGroup> {
        let mut on_port: Vec<&Listener> = sockets.iter().filter(|s| s.port == port).collect();
        // A user can open very many of one identity.
        on_port.dedup_by_key(|listener| listener.identity());
        let mut groups: BTreeMap<Vec<ListenerId>, BTreeSet<u64>> = BTreeMap::new();
        for waits in waiting {
            groups.entry(takers(waits, &on_port)).or_default().insert(waits.cookie);
        }
        let serves = |taker: &ListenerId| !servers.services_of(taker).is_empty();
        let groups = groups.into_iter().filter(|(takers, _)| takers.iter().any(serves));
        groups.map(|(takers, cookies)| WaitingGroup { takers, cookies }).collect()
    }
}

/// The sockets of one listener, of sorted ones.
fn with<'a>(sockets: &'a [Listener], identity: &ListenerId) -> &'a [Listener] {
    let first = sockets.partition_point(|socket| socket.identity() < *identity);
    let last = sockets.partition_point(|socket| socket.identity() <= *identity);
    &sockets[first..last]
}

/// In which listeners' queues a connection may wait: of the listeners on its port those that the kernel prefers
/// for its local address and device (`compute_score`, net/ipv4/inet_hashtables.c). Sockets of one
/// identity share what comes. The listeners are sorted: a user can have very many on addresses of
/// the loopback network, and very many connections to them.
fn takers(waits: &Unaccepted, on_port: &[&Listener]) -> Vec<ListenerId> {
    let score = |listener: &Listener| {
        let exact = match (listener.addr, waits.addr) {
            (bound, to) if bound == to => 4,
            (IpAddr::V4(bound), IpAddr::V4(_)) if bound.is_unspecified() => 0,
            (IpAddr::V6(bound), IpAddr::V6(_)) if bound.is_unspecified() => 0,
            (IpAddr::V6(bound), IpAddr::V4(_)) if bound.is_unspecified() && !listener.v6only => 0,
            _ => return None,
        };
        let device = match listener.device {
            0 => 0,
            device if device == waits.device => 2,
            _ => return None,
        };
        Some(exact + device + u32::from(listener.addr.is_ipv4() == waits.addr.is_ipv4()))
    };
    let at = |addr: IpAddr| {
        let first = on_port.partition_point(|listener| listener.addr < addr);
        let last = on_port.partition_point(|listener| listener.addr <= addr);
        &on_port[first..last]
    };
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let candidates = || any.into_iter().chain([waits.addr]).flat_map(at);
    let scored = || candidates().filter_map(|listener| Some((score(listener)?, *listener)));
    let best = scored().map(|(score, _)| score).max();
    let mut takers: Vec<ListenerId> = scored()
        .filter(|(score, _)| Some(*score) == best)
        .map(|(_, listener)| listener.identity())
        .collect();
    takers.dedup();
    takers
}

#[cfg(test)]
mod tests;
