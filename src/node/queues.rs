//! Servers that hang: whoever listens and accepts nobody has a full accept queue. Pure.
//!
//! Every dump of listeners carries the queue's length and limit, so a hung server is seen without
//! asking it anything. A burst fills a queue too, for a moment: it must have been full in every
//! dump for a while, and it must have emptied well before its server counts again, so that one
//! that is merely busy does not come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::listeners::Listener;
use crate::protocol::Protocol;

/// A queue that was full in every dump for this long belongs to a server that hangs.
const FULL_FOR: Duration = Duration::from_secs(2);

/// So many dumps it must have been at least.
const DUMPS: u32 = 4;

/// What is known of the accept queues.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Queues {
    ports: BTreeMap<u16, Full>,
}

/// A queue that was full in the last dump, or was full for long and has not emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full {
    since: Instant,
    dumps: u32,
    /// It hangs.
    hangs: bool,
}

impl Full {
    /// What one more dump makes of it.
    fn next(self, seen: Fill, now: Instant) -> Option<Full> {
        match seen {
            Fill::Full => {
                let dumps = self.dumps.saturating_add(1);
                let long = now.duration_since(self.since) >= FULL_FOR && dumps >= DUMPS;
                Some(Full { dumps, hangs: self.hangs || long, ..self })
            }
            Fill::Some if self.hangs => Some(self),
            Fill::Some | Fill::Little => None,
        }
    }
}

/// How full a port's queues are, all of its sockets together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// The kernel drops further connections (`sk_acceptq_is_full`, net/sock.h).
    Full,
    /// More than half.
    Some,
    /// Half or less.
    Little,
}

impl Fill {
    fn of(queue: u32, backlog: u32) -> Fill {
        match (queue, backlog) {
            _ if queue > backlog => Fill::Full,
            _ if queue > backlog / 2 => Fill::Some,
            _ => Fill::Little,
        }
    }
}

impl Queues {
    /// Takes what a dump showed; true if another server hangs than before, or one fewer.
    pub fn observe(&mut self, listeners: &[Listener], now: Instant) -> bool {
        let before: Vec<u16> = self.hanging().collect();
        let mut sums: BTreeMap<u16, (u32, u32)> = BTreeMap::new();
        for listener in listeners.iter().filter(|listener| listener.protocol == Protocol::Tcp) {
            let (queue, backlog) = sums.entry(listener.port).or_default();
            *queue = queue.saturating_add(listener.queue);
            *backlog = backlog.saturating_add(listener.backlog);
        }
        self.ports.retain(|port, _| sums.contains_key(port));
        for (port, (queue, backlog)) in sums {
            let seen = Fill::of(queue, backlog);
            let fresh = || Full { since: now, dumps: 1, hangs: false };
            let next = match self.ports.remove(&port) {
                Some(full) => full.next(seen, now),
                None => (seen == Fill::Full).then(fresh),
            };
            self.ports.extend(next.map(|full| (port, full)));
        }
        !self.hanging().eq(before)
    }

    /// Whether the server of a TCP port hangs.
    pub fn hangs(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|full| full.hangs)
    }

    fn hanging(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(|(_, full)| full.hangs).map(|(port, _)| *port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16, queue: u32) -> Listener {
        Listener {
            protocol: Protocol::Tcp,
            addr: [0, 0, 0, 0].into(),
            port,
            v6only: false,
            device: 0,
            uid: 0,
            cookie: 1,
            queue,
            backlog: 4,
        }
    }

    /// Whether port 80 hangs after dumps, 200 ms apart, of a queue of 4 with so many waiting.
    fn after(queues: &[u32]) -> bool {
        let (mut known, mut now) = (Queues::default(), Instant::now());
        for queue in queues {
            known.observe(&[listener(80, *queue), listener(81, 0)], now);
            now += Duration::from_millis(200);
        }
        assert!(!known.hangs(81));
        known.hangs(80)
    }

    #[test]
    fn every_fill_has_its_next_state() {
        let start = Instant::now();
        let (soon, later) = (start + Duration::from_millis(200), start + FULL_FOR);
        let at = |dumps, hangs| Some(Full { since: start, dumps, hangs });
        for (dumps, hangs, seen, now, next) in [
            (1, false, Fill::Full, soon, at(2, false)),
            (1, false, Fill::Full, later, at(2, false)),
            (3, false, Fill::Full, soon, at(4, false)),
            (3, false, Fill::Full, later, at(4, true)),
            (9, true, Fill::Full, later, at(10, true)),
            (3, false, Fill::Some, later, None),
            (3, false, Fill::Little, later, None),
            (9, true, Fill::Some, later, at(9, true)),
            (9, true, Fill::Little, later, None),
        ] {
            let full = Full { since: start, dumps, hangs };
            assert_eq!(full.next(seen, now), next, "{full:?} {seen:?}");
        }
    }

    #[test]
    fn a_queue_that_stays_full_is_a_server_that_hangs() {
        assert!(!after(&[5; 10]), "1.8 s");
        assert!(after(&[5; 11]), "2 s");
    }

    #[test]
    fn a_burst_is_no_hanging_server() {
        let mut burst = [5; 20];
        burst[9] = 4;
        burst[18] = 0;
        assert!(!after(&burst));
    }

    #[test]
    fn a_server_counts_again_when_its_queue_has_half_emptied() {
        let with = |end: &[u32]| after(&[&[5; 11], end].concat());
        assert!(with(&[3]) && with(&[4, 5, 3]));
        assert!(!with(&[2]) && !with(&[0, 5]));
    }

    #[test]
    fn the_sockets_of_a_port_count_together() {
        let (mut known, start) = (Queues::default(), Instant::now());
        for tenth in 0..30 {
            let now = start + Duration::from_millis(100 * tenth);
            known.observe(&[listener(80, 5), listener(80, 0)], now);
        }
        assert!(!known.hangs(80), "the other socket still accepts");
        assert!(!known.observe(&[], start + Duration::from_secs(9)));
        assert_eq!(known, Queues::default());
    }
}
