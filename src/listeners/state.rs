//! When the kernel's sockets are dumped, and which listeners are taken for present. Pure.
//!
//! A listener joins after one dump that shows it. It leaves after two consecutive dumps without
//! it, or after one if the kernel told that each of its sockets was released. Two, because a
//! dump is not one picture: where a socket vanishes while the kernel fills a second buffer, the
//! dump may skip a neighbour that is still there. Where socket events arrive the second follows at
//! once; by polling alone it is the next poll.
//!
//! A socket event brings a dump at once and four more after it, since a socket is still in the
//! kernel's table when its release is told. Dumps never come faster than the gap that the last
//! one's cost allows, and never stop: where a socket event was lost, or none arrives (`shutdown()`
//! of a listener, MPTCP, a kernel without BPF), the poll finds the same, only later.
//!
//! Each protocol has a schedule of its own, because a UDP dump can cost a thousand times a
//! TCP dump.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use super::{Listener, ListenerId, Ranges};
use crate::clock::Instant;
use crate::protocol::Protocol;

/// Dumps after a socket event, counted from it. The first, at the event itself, shows an arrival; a
/// departure shows as soon as the closing task gets on with its system call.
const FOLLOW_UPS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(40),
];
/// Two polls find a departure: 600 ms at the latest, if dumps are cheap.
const POLL: Duration = Duration::from_millis(200);
/// UDP dumps walk every UDP socket of the machine.
const POLL_UDP: Duration = Duration::from_secs(1);
/// A dump costs at most one part in so many of a core: polling without socket events, polling as a
/// safety net behind socket events, and while very many socket events arrive.
const SHARE_POLLING: u32 = 50;
/// See [`SHARE_POLLING`].
const SHARE_SAFETY_NET: u32 = 1000;
/// See [`SHARE_POLLING`]; UDP keeps to that one while very many events arrive, too.
const SHARE_STORM: u32 = 10;
/// The least time from dump to dump.
const GAP: Duration = Duration::from_millis(1);
/// The same after the release of a socket that may serve: users without that right cannot cause
/// it, and a leave waits for it.
const SHARE_RELEASE: u32 = 2;
/// Whatever a dump costs, it is made once a second, so that other users' sockets cannot put off
/// what no socket event tells; only a dump so costly that this would take a larger share of a core
/// than one part in [`SHARE_MOST`] is rarer.
const SLOWEST: Duration = Duration::from_secs(1);
/// See [`SLOWEST`].
const SHARE_MOST: u32 = 20;
/// However much a dump costs, the time to the next is not longer.
const LONGEST: Duration = Duration::from_secs(30);
/// After a kernel without the protocol's diag module said so: each question makes it look for
/// the module again.
const UNSUPPORTED: Duration = Duration::from_secs(60);

/// For which protocols socket events arrive, of arrivals and departures alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EventCoverage {
    /// TCP listeners.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
}

/// The state of all protocols: see the head of this file.
#[derive(Debug)]
pub struct ListenerState {
    protocols: [ProtocolWatch; 3],
    /// Cookies of observed sockets of which the kernel told that they are gone.
    released: BTreeSet<u64>,
    /// Who may join, as far as the caller said: see [`ListenerState::set_eligible`].
    eligible: Option<BTreeSet<ListenerId>>,
    observed: Vec<Listener>,
}

/// One protocol's schedule, and the listeners that are taken for present.
#[derive(Debug)]
struct ProtocolWatch {
    protocol: Protocol,
    /// Whether socket events arrive for this protocol.
    covered: bool,
    /// Whether any port matters. If not, nothing is ever due.
    wanted: bool,
    /// The next dump, if no socket event arrives before.
    due: Instant,
    /// No dump before this.
    not_before: Instant,
    /// When the last dump began.
    dumped: Instant,
    /// The last socket event, until all its dumps have been made.
    socket_event: Option<Instant>,
    /// What the last two dumps cost.
    costs: [Duration; 2],
    known: Vec<KnownListener>,
}

/// A listener that is taken for present.
#[derive(Clone, Debug)]
struct KnownListener {
    /// Its first socket; queue and backlog are the sums over all its sockets.
    shown: Listener,
    /// Every socket's cookie.
    cookies: Vec<u64>,
    /// Dumps without it since the last that showed it.
    missed: u8,
}

impl ListenerState {
    /// Takes no listener for present, and wants no dump until [`ListenerState::set_ranges`] names ports.
    pub fn new(now: Instant, covered: EventCoverage) -> ListenerState {
        let protocols = Protocol::ALL.map(|protocol| ProtocolWatch {
            protocol,
            covered: match protocol {
                Protocol::Tcp => covered.tcp,
                Protocol::Udp => covered.udp,
                Protocol::Sctp => false,
            },
            wanted: false,
            due: now,
            not_before: now,
            dumped: now,
            socket_event: None,
            costs: [Duration::ZERO; 2],
            known: Vec::new(),
        });
        ListenerState { protocols, released: BTreeSet::new(), eligible: None, observed: Vec::new() }
    }

    /// Other ports matter from now on: who listens outside them is forgotten at once, and every
    /// protocol that has ports is due. True if the observed set changed.
    pub fn set_ranges(&mut self, now: Instant, ranges: &Ranges) -> bool {
        let before = self.observed.len();
        for state in &mut self.protocols {
            state.wanted = !ranges.of(state.protocol).is_empty();
            state.known.retain(|k| ranges.contains(state.protocol, k.shown.port));
            state.due = now;
            state.not_before = now;
            state.socket_event = None;
        }
        self.show();
        self.observed.len() != before
    }

    /// The listeners whose leaves are urgent; all of them until this is first called. True if others
    /// are than before.
    pub fn set_eligible(&mut self, eligible: BTreeSet<ListenerId>) -> bool {
        if self.eligible.as_ref() == Some(&eligible) {
            return false;
        }
        self.eligible = Some(eligible);
        true
    }

    /// A socket event of a protocol arrived: its dump is due as soon as its last dump's cost allows.
    pub fn event(&mut self, now: Instant, protocol: Protocol) {
        let state = &mut self.protocols[protocol as usize];
        state.socket_event = Some(now);
        state.due = now;
    }

    /// The kernel told that the socket with this cookie was released. An unknown cookie is an MPTCP listener's parent, or a socket that is forgotten already.
    pub fn released(&mut self, now: Instant, cookie: u64) {
        let whose = self
            .protocols
            .iter()
            .find(|state| state.known.iter().any(|k| k.cookies.contains(&cookie)))
            .map(|state| state.protocol);
        // Only observed sockets are noted, which bounds the set.
        if let Some(protocol) = whose {
            self.released.insert(cookie);
            let state = &mut self.protocols[protocol as usize];
            let gap = GAP.max(state.cost().saturating_mul(SHARE_RELEASE));
            state.not_before = state.not_before.min(state.dumped + gap);
        }
        self.event(now, whose.unwrap_or(Protocol::Tcp));
    }

    /// When the next dump is due; `None` as long as no port matters.
    pub fn next_dump_at(&self) -> Option<Instant> {
        self.protocols.iter().filter(|l| l.wanted).map(ProtocolWatch::due).min()
    }

    /// Whether this protocol is to be dumped now.
    pub fn is_due(&self, now: Instant, protocol: Protocol) -> bool {
        let state = &self.protocols[protocol as usize];
        state.wanted && state.due() <= now
    }

    /// A dump of one protocol, begun at `now` or later, showed these sockets (sorted) and cost
    /// so much processor time. True if the observed set changed.
    pub fn dumped(
        &mut self,
        now: Instant,
        protocol: Protocol,
        sockets: &[Listener],
        cost: Duration,
    ) -> bool {
        let state = &mut self.protocols[protocol as usize];
        state.costs = [cost, state.costs[0]];
        state.schedule(now);
        let changed = state.compare(sockets, &self.released);
        let eligible = &self.eligible;
        let urgent = |known: &KnownListener| is_eligible(eligible, known);
        if state.covered && state.known.iter().any(|k| k.missed > 0 && urgent(k)) {
            // Where socket events arrive, a second dump soon is as good as one at the next poll.
            // Where none does, waiting for the poll spares a server that restarts a leave.
            state.due = now;
        }
        if !self.released.is_empty() {
            let protocols = &self.protocols;
            self.released.retain(|c| {
                protocols.iter().any(|l| l.known.iter().any(|k| k.cookies.contains(c)))
            });
        }
        self.show();
        changed
    }

    /// A dump of one protocol failed: nothing new is known, and it is tried again with the next
    /// follow-up or poll; after a minute if the kernel cannot list the protocol at all.
    pub fn failed(&mut self, now: Instant, protocol: Protocol, unsupported: bool) {
        let state = &mut self.protocols[protocol as usize];
        state.schedule(now);
        if unsupported {
            state.socket_event = None;
            state.due = now + UNSUPPORTED;
            state.not_before = state.due;
        }
    }

    /// The listeners, sorted, one row for each [`Listener::identity`]. Where several sockets share
    /// a port, queue and backlog are their sums and the cookie is one of theirs.
    pub fn observed(&self) -> &[Listener] {
        &self.observed
    }

    /// The cookies of every socket behind the observed set.
    pub fn cookies(&self) -> impl Iterator<Item = u64> {
        self.protocols.iter().flat_map(|l| &l.known).flat_map(|k| k.cookies.iter().copied())
    }

    /// The cookies of the sockets whose leaves are urgent, in order of their listeners.
    pub fn eligible_cookies(&self) -> impl Iterator<Item = u64> {
        let known = self.protocols.iter().flat_map(|state| &state.known);
        let urgent = known.filter(|known| is_eligible(&self.eligible, known));
        urgent.flat_map(|known| known.cookies.iter().copied())
    }

    /// How often a protocol is dumped if no socket event arrives.
    pub fn poll_interval(&self, protocol: Protocol) -> Duration {
        self.protocols[protocol as usize].poll_interval()
    }

    fn show(&mut self) {
        self.observed.clear();
        self.observed.extend(self.protocols.iter().flat_map(|l| &l.known).map(|k| k.shown));
    }
}

fn is_eligible(eligible: &Option<BTreeSet<ListenerId>>, known: &KnownListener) -> bool {
    eligible.as_ref().is_none_or(|eligible| eligible.contains(&known.shown.identity()))
}

impl ProtocolWatch {
    fn due(&self) -> Instant {
        self.due.max(self.not_before)
    }

    /// What a dump costs. The lesser of two, so that one in which the kernel did something else
    /// on our time does not put off the next look.
    fn cost(&self) -> Duration {
        self.costs[0].min(self.costs[1])
    }

    fn poll_interval(&self) -> Duration {
        let floor = if self.protocol == Protocol::Udp { POLL_UDP } else { POLL };
        let share = if self.covered { SHARE_SAFETY_NET } else { SHARE_POLLING };
        floor.max(self.cost().saturating_mul(share)).min(self.slowest())
    }

    /// The longest time from dump to dump.
    fn slowest(&self) -> Duration {
        SLOWEST.max(self.cost().saturating_mul(SHARE_MOST)).min(LONGEST)
    }

    /// Sets the schedule after a dump that began at `now`.
    fn schedule(&mut self, now: Instant) {
        let share = if self.protocol == Protocol::Udp { SHARE_POLLING } else { SHARE_STORM };
        self.dumped = now;
        self.not_before = now + GAP.max(self.cost().saturating_mul(share)).min(self.slowest());
        self.due = now + self.poll_interval();
        if let Some(socket_event) = self.socket_event {
            // This dump stands for every follow-up whose time had come.
            match FOLLOW_UPS.iter().map(|after| socket_event + *after).find(|at| *at > now) {
                Some(at) => self.due = self.due.min(at),
                None => self.socket_event = None,
            }
        }
    }

    /// Compares a dump with what was taken for present; true if the set of identities changed.
    fn compare(&mut self, sockets: &[Listener], released: &BTreeSet<u64>) -> bool {
        let mut changed = false;
        let mut before = mem::take(&mut self.known).into_iter().peekable();
        let mut now = groups(sockets).peekable();
        loop {
            // Both sides are sorted by identity: a merge.
            let old = before.peek().map(|k| k.shown.identity());
            let new = now.peek().map(|k| k.shown.identity());
            let gone_first = match (old, new) {
                (None, None) => return changed,
                (Some(old), Some(new)) if old == new => {
                    before.next();
                    self.known.extend(now.next());
                    continue;
                }
                (Some(old), Some(new)) => old < new,
                (old, _) => old.is_some(),
            };
            if gone_first {
                let mut known = before.next().expect("peeked");
                known.missed += 1;
                if known.missed >= 2 || known.cookies.iter().all(|c| released.contains(c)) {
                    changed = true;
                } else {
                    self.known.push(known);
                }
            } else {
                changed = true;
                self.known.extend(now.next());
            }
        }
    }
}

/// Sorted sockets as listeners: one for each identity.
fn groups(sockets: &[Listener]) -> impl Iterator<Item = KnownListener> {
    let same = |a: &Listener, b: &Listener| a.identity() == b.identity();
    sockets.chunk_by(same).map(|group| KnownListener {
        shown: Listener {
            queue: group.iter().fold(0, |sum: u32, l| sum.saturating_add(l.queue)),
            backlog: group.iter().fold(0, |sum: u32, l| sum.saturating_add(l.backlog)),
            ..group[0]
        },
        cookies: group.iter().map(|l| l.cookie).collect(),
        missed: 0,
    })
}

#[cfg(test)]
mod tests;
