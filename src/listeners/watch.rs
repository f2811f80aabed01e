//! The watcher with a kernel under it: one [`ListenerWatch::step`] for a poll loop to drive.
//!
//! No threads, no waiting: a step listens to the socket events, makes the dumps that are due, and
//! says what changed.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::dump::{Dumper, ListenersError};
use super::socket_events::{SocketEvent, SocketEvents};
use super::watcher::{Hears, Watcher};
use super::{Listener, ListenerId, Ranges, Unaccepted};
use crate::protocol::Protocol;

/// What tells this node to look, for status to show.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSource {
    /// Programs on the root cgroup: which of them hang, and what this kernel lacks.
    CgroupBpf {
        /// As [`SocketEvents::describe`] says it.
        what: String,
    },
    /// There are no socket events: listeners are polled.
    Polling {
        /// Why there are no socket events, and what to do.
        why: String,
    },
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventSource::CgroupBpf { what } => f.write_str(what),
            EventSource::Polling { why } => write!(f, "polling every 200 ms ({why})"),
        }
    }
}

/// How long socket events are left unheard after one that could not bring a dump at once: in a
/// storm the loop is woken a thousand times a second, not a hundred thousand times.
const AGENT_DOWN: Duration = Duration::from_millis(1);

/// Dumper, socket events and watcher of one network namespace.
#[derive(Debug)]
pub struct ListenerWatch {
    dumper: Dumper,
    socket_events: Option<SocketEvents>,
    muted_until: Option<Instant>,
    watcher: Watcher,
    ranges: Ranges,
    source: EventSource,
    /// The set changed outside a dump; the next step tells.
    changed: bool,
    faults: [Option<ListenersError>; 3],
    /// Which protocols were dumped, or found missing in the kernel, at least once.
    dumped: [bool; 3],
    /// Every TCP socket of the last dump, sorted, and how many dumps of TCP there were.
    sockets: Vec<Listener>,
    dumps: u64,
}

impl ListenerWatch {
    /// Watches the calling thread's network namespace with the best socket events that this kernel
    /// and this process's privileges allow. Without socket events it polls: that is not an error.
    pub fn open(now: Instant) -> Result<ListenerWatch, ListenersError> {
        match SocketEvents::open() {
            Ok(socket_events) => {
                let what = socket_events.describe();
                ListenerWatch::new(now, Some(socket_events), EventSource::CgroupBpf { what })
            }
            Err(why) => ListenerWatch::polling(now, why.to_string()),
        }
    }

    /// Watches by polling alone; `why` is for status to show.
    pub fn polling(now: Instant, why: impl Into<String>) -> Result<ListenerWatch, ListenersError> {
        ListenerWatch::new(now, None, EventSource::Polling { why: why.into() })
    }

    fn new(
        now: Instant,
        socket_events: Option<SocketEvents>,
        source: EventSource,
    ) -> Result<ListenerWatch, ListenersError> {
        let hears = socket_events.as_ref().map_or(Hears::default(), SocketEvents::hears);
        Ok(ListenerWatch {
            dumper: Dumper::open()?,
            socket_events,
            muted_until: None,
            watcher: Watcher::new(now, hears),
            ranges: Ranges::new(),
            source,
            changed: false,
            faults: [const { None }; 3],
            dumped: [false; 3],
            sockets: Vec::new(),
            dumps: 0,
        })
    }

    /// Which ports matter from now on. The next step is due at once.
    pub fn set_ranges(&mut self, now: Instant, ranges: Ranges) {
        if self.ranges == ranges {
            return;
        }
        // The socket events first: what comes while the dump is made must be reported.
        if let Some(socket_events) = &mut self.socket_events {
            socket_events.watch(&ranges);
        }
        self.changed |= self.watcher.flag(now, &ranges);
        self.ranges = ranges;
        // What is wanted no longer is not missed; what still is will fail again.
        self.faults = [const { None }; 3];
    }

    /// Whose leaves must be noticed at once: listeners that may join. Only their releases are
    /// reported, and only for them a second look follows at once where one missed them: what others
    /// open and close must not put off a leave. Until this is first called, that is every listener.
    pub fn set_eligible(&mut self, eligible: BTreeSet<ListenerId>) {
        if self.watcher.set_eligible(eligible) {
            self.remember();
        }
    }

    fn remember(&mut self) {
        if let Some(socket_events) = &mut self.socket_events {
            socket_events.remember(self.watcher.eligible_cookies());
        }
    }

    /// What to poll for readability beside the time-out, if anything; ask anew before each
    /// wait, since a storm of socket events is left unheard for a millisecond at a time.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket_events.as_ref().filter(|_| self.muted_until.is_none()).map(SocketEvents::as_fd)
    }

    /// How long the loop may wait before the next step; `None` for as long as it likes.
    pub fn poll_timeout(&self, now: Instant) -> Option<Duration> {
        if self.changed {
            return Some(Duration::ZERO);
        }
        let next = self.watcher.next_dump_at().into_iter().chain(self.muted_until).min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Hears the socket events and makes the dumps that are due. `now` is taken right before the
    /// call. Returns the whole observed set if it changed since the last step; a dump that failed
    /// leaves it as it was and stands in [`ListenerWatch::faults`].
    pub fn step(&mut self, now: Instant) -> Option<&[Listener]> {
        let came = self.hear(now);
        let mut looked = false;
        for protocol in Protocol::ALL {
            if self.watcher.is_due(now, protocol) {
                self.look(now, protocol);
                looked = true;
            }
        }
        if looked {
            self.remember();
        }
        self.muted_until = (came && !looked).then(|| now + AGENT_DOWN);
        std::mem::take(&mut self.changed).then(|| self.watcher.observed())
    }

    /// Passes on the socket events; true if there were any.
    fn hear(&mut self, now: Instant) -> bool {
        let came = self.socket_events.as_mut().map(SocketEvents::drain).unwrap_or_default();
        for socket_event in &came {
            match socket_event {
                SocketEvent::Arrival(protocol) => self.watcher.came(now, *protocol),
                SocketEvent::Departure { cookie } => self.watcher.released(now, *cookie),
                SocketEvent::Overflow => {
                    Protocol::ALL.into_iter().for_each(|p| self.watcher.came(now, p));
                }
            }
        }
        !came.is_empty()
    }

    fn look(&mut self, now: Instant, protocol: Protocol) {
        let before = processor_time();
        let fault = &mut self.faults[protocol as usize];
        match self.dumper.listeners(protocol, &self.ranges) {
            Ok(sockets) => {
                let cost = processor_time().saturating_sub(before);
                self.changed |= self.watcher.dumped(now, protocol, &sockets, cost);
                *fault = None;
                self.dumped[protocol as usize] = true;
                if protocol == Protocol::Tcp {
                    self.sockets = sockets;
                    self.dumps += 1;
                }
            }
            Err(error) => {
                let unsupported = matches!(error, ListenersError::Unsupported(_));
                self.watcher.failed(now, protocol, unsupported);
                self.dumped[protocol as usize] |= unsupported;
                *fault = Some(error);
            }
        }
    }

    /// True once every protocol with ranges was dumped: before that, what is observed is not
    /// yet what is there, and must not be taken for a leave.
    pub fn is_settled(&self) -> bool {
        let flagged = |protocol: &Protocol| !self.ranges.of(*protocol).is_empty();
        Protocol::ALL.iter().filter(|p| flagged(p)).all(|p| self.dumped[*p as usize])
    }

    /// Who listens, sorted, one row for each identity; queue and backlog are of the last dump.
    pub fn observed(&self) -> &[Listener] {
        self.watcher.observed()
    }

    /// Every TCP socket of the last dump, sorted, each with its own queue and backlog.
    pub fn tcp_sockets(&self) -> &[Listener] {
        &self.sockets
    }

    /// How many dumps of TCP succeeded so far.
    pub fn tcp_dumps(&self) -> u64 {
        self.dumps
    }

    /// Where events come from.
    pub fn source(&self) -> &EventSource {
        &self.source
    }

    /// Which protocols' last dump failed, and why. What was observed before stays.
    pub fn faults(&self) -> impl Iterator<Item = (Protocol, &ListenersError)> {
        Protocol::ALL.into_iter().zip(&self.faults).filter_map(|(p, f)| Some((p, f.as_ref()?)))
    }

    /// The connections to a local TCP port that no process has accepted: see
    /// [`Dumper::unaccepted`].
    pub fn unaccepted(&mut self, port: u16) -> Result<Vec<Unaccepted>, ListenersError> {
        self.dumper.unaccepted(port)
    }

    /// How many peers still have a connection to a local port: see [`Dumper::connections`].
    pub fn connections(&mut self, protocol: Protocol, port: u16) -> Result<usize, ListenersError> {
        self.dumper.connections(protocol, port)
    }
}

/// This thread's processor time: what a dump cost, even where the thread had to wait for a core.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::NoSocketEvents;

    #[test]
    fn status_shows_what_rings_or_why_nothing_does() {
        let what = "cgroup BPF (sock_ops)".to_owned();
        assert_eq!(EventSource::CgroupBpf { what }.to_string(), "cgroup BPF (sock_ops)");
        let why = NoSocketEvents::NoCgroup.to_string();
        let shown = EventSource::Polling { why }.to_string();
        assert!(shown.starts_with("polling every 200 ms (no cgroup v2 in"), "{shown}");
    }

    #[test]
    fn a_protocol_that_cannot_be_listed_is_a_fault_until_its_ports_are_unflagged() {
        let now = Instant::now();
        let mut watch = ListenerWatch::polling(now, "a test wants it").unwrap();
        watch.faults[Protocol::Sctp as usize] = Some(ListenersError::Unsupported(Protocol::Sctp));
        assert_eq!(watch.faults().count(), 1);
        watch.set_ranges(now, [(Protocol::Tcp, 1, 1)].into_iter().collect());
        assert_eq!(watch.faults().count(), 0);
    }
}
