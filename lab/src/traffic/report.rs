//! What became of a client's requests, one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered in full; what the server said, which is its name.
    Served(String),
    /// The connection was refused: nobody listens.
    Refused,
    /// The connection was reset after it stood.
    Reset,
    /// There was no connection, or no answer, within the client's patience.
    TimedOut,
    /// Anything else.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Served(by) => write!(f, "served by {by}"),
            Outcome::Refused => f.write_str("refused"),
            Outcome::Reset => f.write_str("reset"),
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// One request, over a connection of its own.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its place in the order in which they were due, from 0 on.
    pub number: u32,
    /// When its first packet was sent.
    pub started: Instant,
    /// When the connection stood, if it did.
    pub connected: Option<Instant>,
    /// When it was over.
    pub ended: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

impl Request {
    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.ended.saturating_duration_since(self.started)
    }

    /// Whether it was answered in full.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.outcome, Outcome::Served(_))
    }
}

/// What became of requests, in the order in which they were due.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One by one.
    pub requests: Vec<Request>,
    /// By how much the client itself was late with a request, at the most: the machine was too slow for its rate.
    pub late: Duration,
}

impl Report {
    /// How often each thing happened.
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<Outcome, usize> {
        let mut counts = BTreeMap::new();
        for request in &self.requests {
            *counts.entry(request.outcome.clone()).or_default() += 1;
        }
        counts
    }

    /// How many requests each server answered, by its name.
    #[must_use]
    pub fn by_server(&self) -> BTreeMap<String, usize> {
        let counts = self.outcomes().into_iter();
        let served = counts.filter_map(|(outcome, count)| match outcome {
            Outcome::Served(by) => Some((by, count)),
            _ => None,
        });
        served.collect()
    }

    /// How many were answered in full.
    #[must_use]
    pub fn served(&self) -> usize {
        self.requests.iter().filter(|request| request.is_served()).count()
    }

    /// How many ended in this way.
    #[must_use]
    pub fn count(&self, outcome: &Outcome) -> usize {
        self.requests.iter().filter(|request| request.outcome == *outcome).count()
    }

    /// Those that were not answered in full.
    #[must_use]
    pub fn failures(&self) -> Vec<&Request> {
        self.requests.iter().filter(|request| !request.is_served()).collect()
    }

    /// The longest time that an answered request took.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        let served = self.requests.iter().filter(|request| request.is_served());
        served.map(Request::took).max().unwrap_or_default()
    }

    /// Requests that began within this time, which may have no end.
    #[must_use]
    pub fn between(&self, from: Instant, to: Option<Instant>) -> Report {
        let within = |request: &&Request| {
            request.started >= from && to.is_none_or(|to| request.started < to)
        };
        Report { requests: self.requests.iter().filter(within).cloned().collect(), late: self.late }
    }

    /// The longest time from one answered request's end to the next one's: how long the service was away, as its clients
    /// see it. `None` if fewer than two were answered.
    #[must_use]
    pub fn longest_gap(&self) -> Option<Duration> {
        let served = self.requests.iter().filter(|request| request.is_served());
        let mut ends: Vec<Instant> = served.map(|request| request.ended).collect();
        ends.sort_unstable();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.requests.len())?;
        for (outcome, count) in self.outcomes() {
            write!(f, ", {count} {outcome}")?;
        }
        write!(
            f,
            "; the slowest answer took {:.1} ms, the client was late by {:.1} ms at the most",
            self.slowest().as_secs_f64() * 1000.0,
            self.late.as_secs_f64() * 1000.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[(u64, u64, Outcome)]) -> (Instant, Report) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let request = |(number, (from, to, outcome)): (usize, &(u64, u64, Outcome))| Request {
            number: number as u32,
            started: at(*from),
            connected: None,
            ended: at(*to),
            outcome: outcome.clone(),
        };
        let requests = outcomes.iter().enumerate().map(request).collect();
        (start, Report { requests, late: Duration::ZERO })
    }

    #[test]
    fn a_report_counts_tells_the_gap_and_can_be_cut_by_time() {
        let by = |name: &str| Outcome::Served(name.to_owned());
        let (start, all) = report(&[
            (0, 1, by("one")),
            (10, 11, by("two")),
            (20, 520, Outcome::TimedOut),
            (30, 31, Outcome::Refused),
            (40, 240, by("one")),
        ]);
        assert_eq!(all.by_server(), [("one".to_owned(), 2), ("two".to_owned(), 1)].into());
        assert_eq!((all.served(), all.count(&Outcome::Refused), all.failures().len()), (3, 1, 2));
        assert_eq!(all.slowest(), Duration::from_millis(200));
        assert_eq!(all.longest_gap(), Some(Duration::from_millis(229)));
        let later = all.between(start + Duration::from_millis(10), None);
        assert_eq!(later.requests.len(), 4);
        let middle = all.between(start, Some(start + Duration::from_millis(20)));
        assert_eq!(
            (middle.requests.len(), middle.longest_gap()),
            (2, Some(Duration::from_millis(10)))
        );
        assert!(all.to_string().starts_with(
            "5 requests, 2 served by one, 1 served by two, 1 refused, 1 timed out; the slowest"
        ));
        assert_eq!(Report::default().longest_gap(), None);
    }
}
