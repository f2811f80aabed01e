//! Listeners are watched: one [`ListenerWatch::step`] for a poll loop to drive.
//!
//! No threads, no waiting: a step takes the socket events, makes the dumps that are due, and says
//! what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::dump::Dumper;
use super::error::ListenersError;
use super::socket_events::{SocketEvent, SocketEvents};
use super::state::{EventCoverage, ListenerState};
use super::{Listener, ListenerId, Ranges, Unaccepted};
use crate::clock::Instant;
use crate::protocol::Protocol;

/// How this node notices that listeners change, for status to show.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSource {
    /// Programs on the root cgroup: which are attached, and what this kernel does not support.
    CgroupBpf {
        /// As [`SocketEvents::describe`] says it.
        what: String,
    },
    /// There are no socket events: the poll alone finds changes.
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

/// How long socket events are left unread after one that could not bring a dump at once: the loop is
/// woken a thousand times a second, not a hundred thousand times.
const PAUSE: Duration = Duration::from_millis(1);

/// The listeners of one network namespace, watched.
#[derive(Debug)]
pub struct ListenerWatch {
    dumper: Dumper,
    socket_events: Option<SocketEvents>,
    paused_until: Option<Instant>,
    state: ListenerState,
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
    /// Watches the calling thread's network namespace with the best socket events that this kernel and
    /// this process's privileges allow. Without socket events it polls: that is not an error.
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
        let covered =
            socket_events.as_ref().map_or(EventCoverage::default(), SocketEvents::covered);
        Ok(ListenerWatch {
            dumper: Dumper::open()?,
            socket_events,
            paused_until: None,
            state: ListenerState::new(now, covered),
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
        // The socket events first: what changes while the dump is made must be told.
        if let Some(socket_events) = &mut self.socket_events {
            socket_events.watch(&ranges);
        }
        self.changed |= self.state.set_ranges(now, &ranges);
        self.ranges = ranges;
        // What is wanted no longer is not missed; what still is will fail again.
        self.faults = [const { None }; 3];
    }

    /// The listeners whose leaves must be noticed at once: those that may join. Only their releases
    /// are told, and only for them a second dump follows at once where one missed them: what other
    /// users open and close must not put off a leave. Until this is first called, that is all.
    pub fn set_eligible(&mut self, eligible: BTreeSet<ListenerId>) {
        if self.state.set_eligible(eligible) {
            self.remember();
        }
    }

    fn remember(&mut self) {
        if let Some(socket_events) = &mut self.socket_events {
            socket_events.remember(self.state.eligible_cookies());
        }
    }

    /// What to poll for readability beside the time-out, if anything; ask anew before each
    /// wait, since very many socket events are left unread for a millisecond at a time.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket_events.as_ref().filter(|_| self.paused_until.is_none()).map(SocketEvents::as_fd)
    }

    /// How long the loop may wait before the next step; `None` for as long as it likes.
    pub fn poll_timeout(&self, now: Instant) -> Option<Duration> {
        if self.changed {
            return Some(Duration::ZERO);
        }
        let next = self.state.next_dump_at().into_iter().chain(self.paused_until).min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Takes the socket events and makes the dumps that are due. `now` is taken right before the
    /// call.
    /// Returns the whole observed set if it changed since the last step; a dump that failed
    /// leaves it as it was and stands in [`ListenerWatch::faults`].
    pub fn step(&mut self, now: Instant) -> Option<&[Listener]> {
        let came = self.take_events(now);
        let mut looked = false;
        for protocol in Protocol::ALL {
            if self.state.is_due(now, protocol) {
                self.look(now, protocol);
                looked = true;
            }
        }
        if looked {
            self.remember();
        }
        self.paused_until = (came && !looked).then(|| now + PAUSE);
        std::mem::take(&mut self.changed).then(|| self.state.observed())
    }

    /// Passes socket events on; true if there were any.
    fn take_events(&mut self, now: Instant) -> bool {
        let came = self.socket_events.as_mut().map(SocketEvents::drain).unwrap_or_default();
        for socket_event in &came {
            match socket_event {
                SocketEvent::Arrival(protocol) => self.state.event(now, *protocol),
                SocketEvent::Departure { cookie } => self.state.released(now, *cookie),
                SocketEvent::Overflow => {
                    Protocol::ALL.into_iter().for_each(|p| self.state.event(now, p));
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
                self.changed |= self.state.dumped(now, protocol, &sockets, cost);
                *fault = None;
                self.dumped[protocol as usize] = true;
                if protocol == Protocol::Tcp {
                    self.sockets = sockets;
                    self.dumps += 1;
                }
            }
            Err(error) => {
                let unsupported = matches!(error, ListenersError::Unsupported(_));
                self.state.failed(now, protocol, unsupported);
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
        self.state.observed()
    }

    /// Every TCP socket of the last dump, sorted, each with its own queue and backlog.
    pub fn tcp_sockets(&self) -> &[Listener] {
        &self.sockets
    }

    /// How many dumps of TCP succeeded so far.
    pub fn tcp_dumps(&self) -> u64 {
        self.dumps
    }

    /// How changes are noticed.
    pub fn source(&self) -> &EventSource {
        &self.source
    }

    /// Which protocols' last dump failed, and why. What was observed before stays so.
    pub fn faults(&self) -> impl Iterator<Item = (Protocol, &ListenersError)> {
        Protocol::ALL.into_iter().zip(&self.faults).filter_map(|(p, f)| Some((p, f.as_ref()?)))
    }

    /// The connections to a local TCP port that no process has accepted: see
    /// [`Dumper::unaccepted`].
    pub fn unaccepted(&mut self, port: u16) -> Result<Vec<Unaccepted>, ListenersError> {
        self.dumper.unaccepted(port)
    }

    /// How many connections there are to local ports: see [`Dumper::connections`].
    pub fn connections(
        &mut self,
        protocol: Protocol,
        ranges: &Ranges,
    ) -> Result<BTreeMap<u16, usize>, ListenersError> {
        self.dumper.connections(protocol, ranges)
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
    fn status_shows_which_socket_events_arrive_or_why_none_does() {
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
