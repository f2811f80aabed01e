//! The drain of one real server: `--drain`. Pure: what the kernel shows and the time go in, what to
//! do comes out.
//!
//! A drain begins when the real server has weight 0. It waits until the kernel counts no connection
//! that deletion would break, or until the deadline is over. What another program did to the real
//! server meanwhile is left as it is.

use std::time::{Duration, Instant};

use crate::ipvs::{DestinationEntry, ServiceId};
use crate::protocol::Protocol;

/// How often the kernel is asked, which does not tell of its changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection that was scheduled just before the weight was 0 is counted after this long.
const SETTLED: Duration = Duration::from_millis(100);
/// With no active connection for this long, a service whose connections become active is drained: what
/// is then inactive is closing, or its client does not finish the handshake.
const IDLE: Duration = Duration::from_secs(5);
/// A line of progress comes after this long, also if nothing changed.
const REPEATED: Duration = Duration::from_secs(10);

named! {
    /// How a drain ended; the words are those of the JSON document.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum DrainEnd {
        /// It is deleted, and nothing was left that its deletion breaks.
        Out = "out",
        /// The deadline is over: it is deleted with the connections that were left.
        Cut = "cut",
        /// Another program deleted it.
        Gone = "gone",
        /// Another program gave it a weight; it stays.
        Reweighted = "reweighted",
        /// The operator would not wait any longer; it stays, with weight 0.
        Interrupted = "interrupted",
    }
}

impl DrainEnd {
    /// Whether the real server is no longer in the table, once the drain has ended so.
    pub fn is_out(self) -> bool {
        matches!(self, DrainEnd::Out | DrainEnd::Cut | DrainEnd::Gone)
    }
}

/// What the kernel counts of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

impl ConnectionCounts {
    /// Those of an entry.
    pub fn of(entry: &DestinationEntry) -> ConnectionCounts {
        let DestinationEntry { active, inactive, persistent, .. } = *entry;
        ConnectionCounts { active, inactive, persistent }
    }

    fn are_none(self) -> bool {
        (self.active, self.inactive) == (0, 0)
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// Look again at this time, or when the operator interrupts.
    Wait(Instant),
    /// Delete the real server; it ends so.
    Delete(DrainEnd),
    /// Do nothing more; it ends so.
    Leave(DrainEnd),
}

/// A drain of one real server.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    since: Instant,
    /// When it ends, whatever is left.
    until: Option<Instant>,
    /// TCP and SCTP: established connections are active for the kernel, and no others. It counts
    /// all of UDP as inactive, and a firewall mark can be of UDP packets.
    active_counts: bool,
    /// Since when it has had no active connection.
    idle_since: Option<Instant>,
}

impl Drain {
    /// A drain of a service's real server, which has had weight 0 since `now`.
    pub fn new(service: &ServiceId, deadline: Option<Duration>, now: Instant) -> Drain {
        let active_counts = matches!(service.protocol(), Some(Protocol::Tcp | Protocol::Sctp));
        Drain {
            since: now,
            until: deadline.and_then(|deadline| now.checked_add(deadline)),
            active_counts,
            idle_since: None,
        }
    }

    /// The next step: `seen` is the real server as the kernel shows it, if it is there.
    pub fn step(
        &mut self,
        seen: Option<&DestinationEntry>,
        interrupted: bool,
        now: Instant,
    ) -> DrainStep {
        let Some(seen) = seen else { return DrainStep::Leave(DrainEnd::Gone) };
        if seen.destination.weight != 0 {
            return DrainStep::Leave(DrainEnd::Reweighted);
        }
        if interrupted {
            return DrainStep::Leave(DrainEnd::Interrupted);
        }
        let counts = ConnectionCounts::of(seen);
        self.idle_since = match counts.active {
            0 => self.idle_since.or(Some(now)),
            _ => None,
        };
        let idle_at = self.idle_since.filter(|_| self.active_counts).map(|since| since + IDLE);
        let settled_at = self.since + SETTLED;
        let is_over = |at: Instant| at <= now;
        if counts.are_none() && is_over(settled_at) || idle_at.is_some_and(is_over) {
            return DrainStep::Delete(DrainEnd::Out);
        }
        if self.until.is_some_and(is_over) {
            let end = if counts.are_none() { DrainEnd::Out } else { DrainEnd::Cut };
            return DrainStep::Delete(end);
        }
        let soon = Some(settled_at).filter(|at| !is_over(*at));
        let next = [soon, idle_at, self.until].into_iter().flatten().min();
        DrainStep::Wait(next.map_or(now + LOOK_EVERY, |at| at.min(now + LOOK_EVERY)))
    }

    /// How long is left until the deadline, if there is one.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// How long it has lasted.
    pub fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// When a line of progress is shown: a line a second at most, and no line twice within
/// [`REPEATED`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgressLines(Option<(Instant, ConnectionCounts)>);

impl ProgressLines {
    /// Whether these counts are shown now.
    pub fn show(&mut self, counts: ConnectionCounts, now: Instant) -> bool {
        let due = self.0.is_none_or(|(shown_at, shown)| {
            let pause = if shown == counts { REPEATED } else { LOOK_EVERY };
            now.saturating_duration_since(shown_at) >= pause
        });
        if due {
            self.0 = Some((now, counts));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Destination, Family, Forwarding, Stats};

    const SECOND: Duration = Duration::from_secs(1);

    fn address(protocol: Protocol) -> ServiceId {
        ServiceId::Address { protocol, addr: [10, 0, 0, 1].into(), port: 80 }
    }

    fn entry(weight: u32, active: u32, inactive: u32) -> DestinationEntry {
        DestinationEntry {
            destination: Destination::new([10, 0, 1, 1].into(), 80, Forwarding::Route, weight),
            active,
            inactive,
            persistent: 7,
            stats: Stats::default(),
        }
    }

    /// Drains with these active and inactive connections, each pair for a second, the last for
    /// ever; gives how it ended, and after how long.
    fn drained(
        service: &ServiceId,
        deadline: Option<Duration>,
        counts: &[(u32, u32)],
    ) -> (DrainStep, Duration) {
        let start = Instant::now();
        let (mut drain, mut now) = (Drain::new(service, deadline, start), start);
        loop {
            let at = (drain.lasted(now).as_secs() as usize).min(counts.len() - 1);
            let (active, inactive) = counts[at];
            match drain.step(Some(&entry(0, active, inactive)), false, now) {
                DrainStep::Wait(at) => {
                    assert!(now < at && at <= now + LOOK_EVERY, "{:?}", drain.lasted(at));
                    now = at;
                }
                end => return (end, drain.lasted(now)),
            }
            assert!(drain.lasted(now) < 1000 * SECOND, "no end");
        }
    }

    #[test]
    fn a_server_without_connections_is_deleted_once_that_is_sure() {
        let out = DrainStep::Delete(DrainEnd::Out);
        for service in [
            address(Protocol::Tcp),
            address(Protocol::Udp),
            ServiceId::Mark { mark: 7, family: Family::V6 },
        ] {
            assert_eq!(drained(&service, None, &[(0, 0)]), (out, SETTLED));
        }
    }

    #[test]
    fn tcp_waits_for_its_active_connections_and_a_little_for_inactive_ones() {
        let out = DrainStep::Delete(DrainEnd::Out);
        for protocol in [Protocol::Tcp, Protocol::Sctp] {
            let drained = |counts: &[_]| drained(&address(protocol), None, counts);
            assert_eq!(drained(&[(3, 0), (2, 1), (0, 0)]), (out, SETTLED + 2 * SECOND));
            assert_eq!(drained(&[(1, 4), (0, 5)]), (out, SETTLED + SECOND + IDLE));
            // A handshake ended while it waited.
            assert_eq!(
                drained(&[(0, 1), (1, 0), (1, 0), (0, 1)]),
                (out, SETTLED + 3 * SECOND + IDLE)
            );
        }
    }

    #[test]
    fn what_the_kernel_never_counts_as_active_is_waited_for_until_it_is_forgotten() {
        let out = DrainStep::Delete(DrainEnd::Out);
        for service in [address(Protocol::Udp), ServiceId::Mark { mark: 7, family: Family::V4 }] {
            let mut counts = vec![(0, 2); 300];
            counts.push((0, 0));
            assert_eq!(drained(&service, None, &counts), (out, SETTLED + 300 * SECOND));
        }
    }

    #[test]
    fn the_deadline_cuts_what_is_left() {
        let tcp = address(Protocol::Tcp);
        let (cut, out) = (DrainStep::Delete(DrainEnd::Cut), DrainStep::Delete(DrainEnd::Out));
        let deadline = Duration::from_millis(3300);
        assert_eq!(drained(&tcp, Some(deadline), &[(1, 0)]), (cut, deadline));
        assert_eq!(drained(&tcp, Some(deadline), &[(0, 1)]), (cut, deadline));
        assert_eq!(drained(&tcp, Some(Duration::ZERO), &[(1, 0)]), (cut, Duration::ZERO));
        assert_eq!(drained(&tcp, Some(Duration::ZERO), &[(0, 0)]), (out, Duration::ZERO));
        assert_eq!(drained(&tcp, Some(9 * SECOND), &[(0, 1)]), (out, IDLE));
    }

    #[test]
    fn what_others_did_is_left_as_it_is() {
        let now = Instant::now();
        let drain = || Drain::new(&address(Protocol::Tcp), Some(Duration::ZERO), now);
        assert_eq!(drain().step(None, false, now), DrainStep::Leave(DrainEnd::Gone));
        let reweighted = DrainStep::Leave(DrainEnd::Reweighted);
        assert_eq!(drain().step(Some(&entry(5, 0, 0)), false, now), reweighted);
        // Also if the operator interrupts at the same time: it is said as it is.
        assert_eq!(drain().step(None, true, now), DrainStep::Leave(DrainEnd::Gone));
        assert_eq!(drain().step(Some(&entry(5, 0, 0)), true, now), reweighted);
    }

    #[test]
    fn an_interrupted_drain_deletes_nothing() {
        let now = Instant::now();
        for deadline in [None, Some(Duration::ZERO)] {
            let mut drain = Drain::new(&address(Protocol::Tcp), deadline, now);
            for counts in [(3, 1), (0, 0)] {
                let step = drain.step(Some(&entry(0, counts.0, counts.1)), true, now + SECOND);
                assert_eq!(step, DrainStep::Leave(DrainEnd::Interrupted));
            }
        }
    }

    #[test]
    fn progress_is_a_line_a_second_at_most_and_repeats_itself_seldom() {
        let start = Instant::now();
        let mut lines = ProgressLines::default();
        let counts = |active| ConnectionCounts { active, ..ConnectionCounts::default() };
        let mut show =
            |active, millis| lines.show(counts(active), start + Duration::from_millis(millis));
        assert!(show(3, 0));
        assert!(!show(2, 100), "too soon");
        assert!(show(2, 1000));
        assert!(!show(2, 2000) && !show(2, 10_900));
        assert!(show(2, 11_000));
    }
}
