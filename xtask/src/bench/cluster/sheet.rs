//! What the rounds of a row add up to: times by name, counts by name.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip_lab::traffic::{Outcome, Report, Request};

use super::super::spread::Spread;

/// From the fault to the first answer to a request that began after it.
pub(super) const ANSWERED: &str = "clients are answered again";

/// How long the service was away: the longest time between two answers.
pub(super) const GAP: &str = "the longest time between two answers";

/// Figures, in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    times: Vec<(&'static str, Spread)>,
    counts: Vec<(&'static str, u64)>,
}

impl Sheet {
    /// Adds a time.
    pub(super) fn time(&mut self, what: &'static str, took: Duration) {
        entry(&mut self.times, what).add(took);
    }

    /// Adds to a count; nothing too, so that it shows.
    pub(super) fn count(&mut self, what: &'static str, number: usize) {
        *entry(&mut self.counts, what) += number as u64;
    }

    /// Adds what became of requests, and the longest time between two answers.
    ///
    /// # Errors
    /// The last of them was not served: it is not over.
    pub(super) fn clients(&mut self, report: &Report) -> Result<()> {
        let gap = report.longest_gap().context("no client was ever served")?;
        ensure!(
            report.requests.last().is_some_and(Request::is_served),
            "clients were not served again: {report}"
        );
        self.time(GAP, gap);
        self.count("requests", report.requests.len());
        for (what, outcome) in [
            ("refused", Outcome::Refused),
            ("reset", Outcome::Reset),
            ("timed out", Outcome::TimedOut),
        ] {
            self.count(what, report.count(&outcome));
        }
        let others = report.failures().into_iter();
        let others = others.filter(|request| matches!(request.outcome, Outcome::Failed(_)));
        self.count("failed otherwise", others.count());
        Ok(())
    }

    /// Adds the time from a fault to the first answer to a request that began once the machine was
    /// dead: an answer to an earlier one may have come from the dead one.
    pub(super) fn answered(&mut self, report: &Report, fault: Instant, dead: Instant) {
        let later = report.requests.iter().filter(|r| r.is_served() && r.started >= dead);
        if let Some(first) = later.map(|request| request.ended).min() {
            self.time(ANSWERED, first.saturating_duration_since(fault));
        }
    }

    /// How many times another sheet's median of a time this one's is.
    pub(super) fn ratio_to(&self, other: &Sheet, what: &str) -> Option<f64> {
        let find = |sheet: &Sheet| sheet.times.iter().position(|(name, _)| *name == what);
        let (mine, its) = (find(self)?, find(other)?);
        self.times[mine].1.ratio_to(&other.times[its].1)
    }
}

/// The value of a name, which becomes the last one if it is new.
fn entry<'l, T: Default>(list: &'l mut Vec<(&'static str, T)>, name: &'static str) -> &'l mut T {
    let known = list.iter().position(|(known, _)| *known == name);
    let index = known.unwrap_or_else(|| {
        list.push((name, T::default()));
        list.len() - 1
    });
    &mut list[index].1
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        for (what, spread) in &self.times {
            lines.push(format!("    {what:40} {}", spread.whole()));
        }
        if !self.counts.is_empty() {
            let counts = self.counts.iter().map(|(what, number)| format!("{number} {what}"));
            lines.push(format!("    {}", counts.collect::<Vec<_>>().join(", ")));
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u32, (from, to): (Instant, Instant), outcome: Outcome) -> Request {
        Request { number, started: from, connected: None, ended: to, outcome }
    }

    #[test]
    fn the_first_answer_is_one_to_a_request_that_began_after_the_death() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let served = || Outcome::Served("1".to_owned());
        let report = Report {
            requests: vec![
                request(0, (at(0), at(5)), served()),
                // It began before, and was retransmitted.
                request(1, (at(20), at(600)), served()),
                request(2, (at(40), at(1100)), served()),
                request(3, (at(900), at(910)), served()),
            ],
            late: Duration::ZERO,
        };
        let mut sheet = Sheet::default();
        sheet.answered(&report, at(10), at(30));
        sheet.clients(&report).unwrap();
        let text = sheet.to_string();
        assert!(text.contains("median    900.0"), "{text}");
        assert!(text.contains("median    595.0"), "{text}");
        assert!(
            text.contains("4 requests, 0 refused, 0 reset, 0 timed out, 0 failed otherwise"),
            "{text}"
        );
        assert_eq!(sheet.ratio_to(&sheet, ANSWERED), Some(1.0));
        assert_eq!(sheet.ratio_to(&Sheet::default(), ANSWERED), None);
    }

    #[test]
    fn clients_that_are_not_served_in_the_end_are_no_figure() {
        let now = Instant::now();
        let served = || Outcome::Served("1".to_owned());
        let requests = vec![
            request(0, (now, now), served()),
            request(1, (now, now), served()),
            request(2, (now, now), Outcome::TimedOut),
        ];
        let report = Report { requests, late: Duration::ZERO };
        assert!(Sheet::default().clients(&report).is_err());
        assert!(Sheet::default().clients(&Report::default()).is_err());
    }
}
