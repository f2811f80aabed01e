//! A machine's sockets: listeners, the connections to them, what the kernel tells of them, and what
//! its dumps show.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cvip::listeners::{Listener, ListenersError, Ranges, SocketEvent, Unaccepted};
use cvip::protocol::Protocol;

use crate::time::SimTime;

/// A socket is in the kernel's table for so long after its release was told.
const LINGERS: Duration = Duration::from_micros(200);

/// Events that a watch's ring buffer holds (64 KiB of records of 24 bytes).
const RING: usize = 2730;

/// A machine's sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    listeners: BTreeMap<u64, Listening>,
    connections: BTreeMap<u64, Established>,
    last_cookie: u64,
    watches: BTreeMap<u64, EventWatch>,
    /// Listeners that vanished since the last dump of each protocol, while dumps skip neighbours.
    vanished: [Vec<u64>; 3],
    skips_until: SimTime,
    deaf_until: SimTime,
    undumpable_until: SimTime,
}

/// A socket that takes new peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewListener {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address; the wildcard of its family if bound to none.
    pub addr: IpAddr,
    /// Local port.
    pub port: u16,
    /// Owner's user id.
    pub uid: u32,
    /// The accept queue's limit; 0 for UDP.
    pub backlog: u32,
}

#[derive(Debug)]
struct Listening {
    socket: NewListener,
    /// Its server accepts nothing.
    hangs: bool,
    /// Connections that nothing has accepted.
    waiting: BTreeSet<u64>,
    /// It was closed, and leaves the table then.
    closed: Option<SimTime>,
}

/// A connection to a port of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The local address that its peer asked for, and the port.
    pub local: SocketAddr,
    /// The peer.
    pub peer: SocketAddr,
    /// The cookie of the listener that took it.
    pub listener: u64,
    /// Its server has accepted it.
    pub accepted: bool,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectOutcome {
    /// Its server accepted it; its cookie.
    Accepted(u64),
    /// It waits in the accept queue; its cookie.
    Waits(u64),
    /// The queue is full: the client gets no answer.
    Dropped,
    /// Nothing listens there.
    Refused,
}

/// What one cvipd is told of sockets.
#[derive(Debug, Default)]
struct EventWatch {
    ranges: Ranges,
    remembered: BTreeSet<u64>,
    events: Vec<SocketEvent>,
    /// Since when there are some.
    since: Option<SimTime>,
}

impl Sockets {
    // ------------------------------------------------------------------------------ servers

    /// A server starts to listen; gives the socket's cookie.
    pub fn listen(&mut self, socket: NewListener, now: SimTime) -> u64 {
        let cookie = self.next_cookie();
        let (protocol, port) = (socket.protocol, socket.port);
        let listening = Listening { socket, hangs: false, waiting: BTreeSet::new(), closed: None };
        self.listeners.insert(cookie, listening);
        if protocol != Protocol::Sctp {
            let event = SocketEvent::Arrival(protocol);
            self.tell(event, now, |watch| watch.ranges.contains(protocol, port));
        }
        cookie
    }

    /// A server closes a listener, and with it what waits there. Accepted connections stay.
    pub fn close(&mut self, cookie: u64, now: SimTime) {
        let Some(listening) = self.listeners.get_mut(&cookie) else { return };
        if listening.closed.is_some() {
            return;
        }
        listening.closed = Some(now + LINGERS);
        let (waiting, protocol) =
            (std::mem::take(&mut listening.waiting), listening.socket.protocol);
        for connection in waiting {
            self.connections.remove(&connection);
        }
        if protocol != Protocol::Sctp {
            let event = SocketEvent::Departure { cookie };
            self.tell(event, now, |watch| watch.remembered.contains(&cookie));
        }
    }

    /// A server ends: its listener and all its connections.
    pub fn end(&mut self, cookie: u64, now: SimTime) {
        self.close(cookie, now);
        self.connections.retain(|_, connection| connection.listener != cookie);
    }

    /// A server hangs, or goes on; then it accepts what waits.
    pub fn set_hung(&mut self, cookie: u64, hangs: bool) {
        let Some(listening) = self.listeners.get_mut(&cookie) else { return };
        listening.hangs = hangs;
        if !hangs {
            for connection in std::mem::take(&mut listening.waiting) {
                self.connections.entry(connection).and_modify(|c| c.accepted = true);
            }
        }
    }

    /// The server of a listener accepts the connection that waits longest, and hangs on; gives its
    /// cookie.
    pub fn accept_one(&mut self, cookie: u64) -> Option<u64> {
        let accepted = self.listeners.get_mut(&cookie)?.waiting.pop_first()?;
        self.connections.entry(accepted).and_modify(|connection| connection.accepted = true);
        Some(accepted)
    }

    /// True if a listener was not closed.
    pub fn is_open(&self, cookie: u64) -> bool {
        self.listeners.get(&cookie).is_some_and(|listening| listening.closed.is_none())
    }

    // ------------------------------------------------------------------------------ clients

    /// A client's connection arrives.
    pub fn connect(
        &mut self,
        protocol: Protocol,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> ConnectOutcome {
        let Some(listener) = self.listener_for(protocol, local, peer) else {
            return ConnectOutcome::Refused;
        };
        let (waiting, backlog, hangs) = match &self.listeners[&listener] {
            listening if protocol == Protocol::Udp => (0, 1, listening.hangs),
            listening => (listening.waiting.len(), listening.socket.backlog, listening.hangs),
        };
        // `sk_acceptq_is_full`, net/sock.h.
        if hangs && waiting > backlog as usize {
            return ConnectOutcome::Dropped;
        }
        let cookie = self.next_cookie();
        let accepted = !hangs;
        self.connections.insert(cookie, Established { protocol, local, peer, listener, accepted });
        if accepted {
            return ConnectOutcome::Accepted(cookie);
        }
        self.listeners.entry(listener).and_modify(|listening| {
            listening.waiting.insert(cookie);
        });
        ConnectOutcome::Waits(cookie)
    }

    /// A connection, by its cookie.
    pub fn connection(&self, cookie: u64) -> Option<&Established> {
        self.connections.get(&cookie)
    }

    /// A connection ends.
    pub fn disconnect(&mut self, cookie: u64) {
        if let Some(connection) = self.connections.remove(&cookie)
            && let Some(listening) = self.listeners.get_mut(&connection.listener)
        {
            listening.waiting.remove(&cookie);
        }
    }

    /// The listener that takes a connection: one of its address before one of all; of several that
    /// are as good (`SO_REUSEPORT`), one by the peer.
    fn listener_for(&self, protocol: Protocol, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
        let score = |(cookie, Listening { socket, closed, .. }): (&u64, &Listening)| {
            if closed.is_some() || socket.protocol != protocol || socket.port != local.port() {
                return None;
            }
            let same_family = socket.addr.is_ipv4() == local.is_ipv4();
            match socket.addr {
                addr if addr == local.ip() => Some((3, *cookie)),
                addr if addr.is_unspecified() && same_family => Some((2, *cookie)),
                addr if addr.is_unspecified() && addr.is_ipv6() => Some((1, *cookie)),
                _ => None,
            }
        };
        let found: Vec<(u8, u64)> = self.listeners.iter().filter_map(score).collect();
        let best = found.iter().map(|(score, _)| *score).max()?;
        let found: Vec<u64> =
            found.into_iter().filter(|(score, _)| *score == best).map(|(_, c)| c).collect();
        let mut hasher = DefaultHasher::new();
        peer.hash(&mut hasher);
        let at = hasher.finish() % found.len() as u64;
        Some(found[at as usize])
    }

    // ------------------------------------------------------------------------------ dumps

    /// Who takes new peers on these ports, sorted, as cvipd's dumper gives them.
    ///
    /// # Errors
    /// It is armed to fail.
    pub fn dump(
        &mut self,
        protocol: Protocol,
        ranges: &Ranges,
        now: SimTime,
    ) -> Result<Vec<Listener>, ListenersError> {
        self.tick(now);
        if now < self.undumpable_until {
            return Err(ListenersError::TimedOut);
        }
        let vanished = std::mem::take(&mut self.vanished[protocol as usize]).into_iter();
        let next = |gone: u64| self.listeners.range(gone..).map(|(cookie, _)| *cookie).next();
        let skipped: BTreeSet<u64> = vanished.filter_map(next).collect();
        let shown = |(cookie, listening): (&u64, &Listening)| {
            let Listening { socket, waiting, .. } = listening;
            let wanted = socket.protocol == protocol && ranges.contains(protocol, socket.port);
            (wanted && !skipped.contains(cookie)).then_some(Listener {
                protocol,
                addr: socket.addr,
                port: socket.port,
                v6only: false,
                device: 0,
                uid: socket.uid,
                cookie: *cookie,
                queue: waiting.len() as u32,
                backlog: socket.backlog,
            })
        };
        let mut found: Vec<Listener> = self.listeners.iter().filter_map(shown).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The connections to a TCP port that nothing has accepted.
    pub fn unaccepted(&self, port: u16) -> Vec<Unaccepted> {
        let of_port = self.on_port(Protocol::Tcp, port);
        let waiting = of_port.filter(|(_, connection)| !connection.accepted);
        let shown = |(cookie, connection): (&u64, &Established)| Unaccepted {
            addr: connection.local.ip(),
            device: 0,
            cookie: *cookie,
        };
        waiting.map(shown).collect()
    }

    /// How many peers have a connection to a port. Those of UDP are connected to nothing.
    pub fn connections(&self, protocol: Protocol, port: u16) -> usize {
        if protocol == Protocol::Udp { 0 } else { self.on_port(protocol, port).count() }
    }

    fn on_port(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = (&u64, &Established)> {
        let is_it = move |connection: &Established| {
            connection.protocol == protocol && connection.local.port() == port
        };
        self.connections.iter().filter(move |(_, connection)| is_it(connection))
    }

    // ------------------------------------------------------------------------------ events

    /// A cvipd attaches its programs: nothing is reported yet.
    pub fn attach(&mut self) -> u64 {
        let watch = self.watches.last_key_value().map_or(1, |(last, _)| last + 1);
        self.watches.insert(watch, EventWatch::default());
        watch
    }

    /// A cvipd ends, and its programs with it.
    pub fn detach(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }

    /// On which ports arrivals are reported from now on.
    pub fn watch(&mut self, watch: u64, ranges: Ranges) {
        if let Some(watch) = self.watches.get_mut(&watch) {
            watch.ranges = ranges;
        }
    }

    /// Whose departures are reported from now on.
    pub fn remember(&mut self, watch: u64, cookies: impl IntoIterator<Item = u64>) {
        if let Some(watch) = self.watches.get_mut(&watch) {
            watch.remembered = cookies.into_iter().collect();
        }
    }

    /// Since when there are events that were not taken.
    pub fn told(&self, watch: u64) -> Option<SimTime> {
        self.watches.get(&watch).and_then(|watch| watch.since)
    }

    /// Takes the events.
    pub fn take_events(&mut self, watch: u64) -> Vec<SocketEvent> {
        let Some(watch) = self.watches.get_mut(&watch) else { return Vec::new() };
        watch.since = None;
        std::mem::take(&mut watch.events)
    }

    fn tell(&mut self, event: SocketEvent, now: SimTime, concerns: impl Fn(&EventWatch) -> bool) {
        if now < self.deaf_until {
            return;
        }
        for watch in self.watches.values_mut().filter(|watch| concerns(watch)) {
            watch.since.get_or_insert(now);
            match watch.events.len() {
                len if len < RING => watch.events.push(event),
                RING => watch.events.push(SocketEvent::Overflow),
                _ => {}
            }
        }
    }

    // ------------------------------------------------------------------------------ time

    /// When a socket that was closed leaves the table.
    pub fn due(&self) -> SimTime {
        let leaving = self.listeners.values().filter_map(|listening| listening.closed);
        leaving.min().unwrap_or(SimTime::NEVER)
    }

    /// Sockets that were closed leave the table.
    pub fn tick(&mut self, now: SimTime) {
        let is_gone =
            |_: &u64, listening: &mut Listening| listening.closed.is_some_and(|at| at <= now);
        for (cookie, gone) in self.listeners.extract_if(.., is_gone) {
            if now < self.skips_until {
                self.vanished[gone.socket.protocol as usize].push(cookie);
            }
        }
    }

    // ------------------------------------------------------------------------------ faults

    /// Until then a dump lacks the neighbours of sockets that vanished since the one before.
    pub fn skip_neighbours(&mut self, until: SimTime) {
        self.skips_until = until;
    }

    /// Until then no event is reported.
    pub fn lose_events(&mut self, until: SimTime) {
        self.deaf_until = until;
    }

    /// Until then the sockets cannot be listed.
    pub fn fail_dumps(&mut self, until: SimTime) {
        self.undumpable_until = until;
    }

    fn next_cookie(&mut self) -> u64 {
        self.last_cookie += 1;
        self.last_cookie
    }
}

#[cfg(test)]
mod tests;
