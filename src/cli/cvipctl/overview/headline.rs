//! The cluster in one line: that all is well, or what is wrong and what to run next. It is the
//! worst finding of `cvipctl doctor`. Pure.

use serde::Serialize;

use super::names::NodeNames;
use crate::doctor::{Finding, Severity, Unexamined};

/// How the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli::cvipctl) enum Condition {
    /// Nothing is wrong, as far as it was examined.
    Ok,
    /// There is a warning, and no fault.
    Warning,
    /// There is a fault.
    Fault,
}

/// The cluster in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli::cvipctl) struct Headline {
    /// How it is.
    pub(in crate::cli::cvipctl) condition: Condition,
    /// What is wrong, in full; or what there is.
    pub(in crate::cli::cvipctl) text: String,
    /// The command to run next, as root on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::cvipctl) next: Option<String>,
    /// The text as far as one line needs it.
    #[serde(skip)]
    short: String,
}

impl Headline {
    /// Of what was found, faults first; `contents` is what there is, in a few words.
    pub(super) fn of(
        findings: &[Finding],
        unexamined: &[Unexamined],
        contents: &str,
        names: &NodeNames,
    ) -> Headline {
        let worst = findings.first().filter(|finding| finding.severity != Severity::Note);
        if let Some(finding) = worst {
            let subject = names.subject(&finding.subject);
            return Headline {
                condition: match finding.severity {
                    Severity::Fault => Condition::Fault,
                    _ => Condition::Warning,
                },
                short: format!(
                    "{}: {}",
                    names.short_subject(&finding.subject),
                    first_clause(&finding.what)
                ),
                text: format!("{subject}: {}", finding.what),
                next: Some(next(finding)),
            };
        }
        let missing = unexamined.iter().find(|unexamined| !unexamined.is_expected);
        let (text, next) = match missing {
            None => (contents.to_owned(), None),
            Some(missing) => (
                format!("as far as it was seen, without {}", missing.what),
                Some("cvipctl doctor".to_owned()),
            ),
        };
        Headline { condition: Condition::Ok, short: text.clone(), text, next }
    }

    /// The line, of `width` characters at most: `FAULT: node 3: … Run: cvipctl doctor`.
    pub(in crate::cli::cvipctl) fn line(&self, width: usize) -> String {
        let word = match self.condition {
            Condition::Ok => "OK",
            Condition::Warning => "WARNING",
            Condition::Fault => "FAULT",
        };
        let end = self.next.as_ref().map_or_else(String::new, |next| format!(" Run: {next}"));
        // Behind a whole sentence stands a full stop.
        let stop = usize::from(!end.is_empty());
        let room = width.saturating_sub(word.len() + 2 + stop + end.chars().count());
        let text = cut(&self.short, room);
        let stop = if text.ends_with('\u{2026}') { "" } else { &"."[..stop] };
        format!("{word}: {text}{stop}{end}")
    }
}

/// What to run: the one command that fixes it, or the one that says how.
fn next(finding: &Finding) -> String {
    match finding.commands.as_slice() {
        [only] => only.clone(),
        [] if finding.fix.contains("`cvipctl check`") => "cvipctl check".to_owned(),
        _ => "cvipctl doctor".to_owned(),
    }
}

/// A sentence up to where it goes on to what follows from it.
fn first_clause(what: &str) -> &str {
    let ends = [": ", "; ", ", so that "].iter().filter_map(|end| what.find(end));
    // A cause in a few words is no sentence yet.
    let end = ends.filter(|at| *at >= 12).min().unwrap_or(what.len());
    &what[..end]
}

/// A text of so many characters at most, on one line.
pub(in crate::cli::cvipctl) fn cut(text: &str, room: usize) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= room {
        return text;
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}\u{2026}", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, subject: &str, what: &str, commands: &[&str]) -> Finding {
        Finding {
            severity,
            subject: subject.to_owned(),
            what: what.to_owned(),
            fix: String::new(),
            commands: commands.iter().map(|command| (*command).to_owned()).collect(),
        }
    }

    fn headline(findings: &[Finding], unexamined: &[Unexamined]) -> Headline {
        Headline::of(findings, unexamined, "2 services", &NodeNames::default())
    }

    #[test]
    fn the_worst_finding_is_the_headline_with_what_to_run_next() {
        let down = "its cvipd does not run: listeners that come and go there are not noticed";
        let fault = finding(Severity::Fault, "node 3", down, &["systemctl start cvipd"]);
        let warning = finding(Severity::Warning, "store", "it is embedded", &[]);
        let line = headline(&[fault, warning.clone()], &[]).line(80);
        assert_eq!(line, "FAULT: node 3: its cvipd does not run. Run: systemctl start cvipd");
        let line = headline(&[warning], &[]).line(80);
        assert_eq!(line, "WARNING: store: it is embedded. Run: cvipctl doctor");
    }

    #[test]
    fn notes_are_no_reason_for_concern_and_what_was_not_seen_is_named() {
        let note = finding(Severity::Note, "node 1", "it polls", &[]);
        assert_eq!(headline(std::slice::from_ref(&note), &[]).line(80), "OK: 2 services");
        let mut unexamined = Unexamined {
            what: "the kernel's IPVS table".to_owned(),
            why: "root alone may".to_owned(),
            is_expected: false,
        };
        assert_eq!(
            headline(std::slice::from_ref(&note), std::slice::from_ref(&unexamined)).line(80),
            "OK: as far as it was seen, without the kernel's IPVS table. Run: cvipctl doctor"
        );
        unexamined.is_expected = true;
        assert_eq!(headline(&[note], &[unexamined]).line(80), "OK: 2 services");
    }

    #[test]
    fn the_line_is_one_line_of_eighty_columns_and_names_a_file_without_its_folders() {
        let what = "unknown word in a very long complaint that names everything there is to name";
        let place = "/a/very/long/path/of/folders/cvip.conf:3:17";
        let line = headline(&[finding(Severity::Fault, place, what, &[])], &[]).line(80);
        assert!((77..=80).contains(&line.chars().count()), "{line}");
        assert!(line.starts_with("FAULT: cvip.conf:3:17: unknown word"), "{line}");
        assert!(line.ends_with("\u{2026} Run: cvipctl doctor"), "{line}");
    }
}
