//! Collects the faults of one file: spans of bytes go in, [`Diagnostic`]s with lines and
//! columns come out, in the order of the file. Work and memory stay bounded however many
//! faults a file holds.

use std::ops::Range;

use super::diagnostic::{Diagnostic, DiagnosticSeverity, SourcePlace};

/// Faults that are kept; more are counted only.
const MAX_DIAGNOSTICS: usize = 1000;

/// A range of bytes in the text of a file.
pub(super) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

impl<T> At<T> {
    /// The same place with another value.
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), span: self.span }
    }
}

/// The faults found so far in one file.
pub(super) struct ConfReport<'a> {
    path: &'a str,
    text: &'a str,
    /// Where each line starts.
    lines: Vec<usize>,
    /// Each with the byte at which it stands.
    found: Vec<(usize, Diagnostic)>,
    errors: usize,
    dropped: usize,
    dropped_errors: usize,
}

/// The fault that was just reported, to give it a help; none if it was only counted.
pub(super) struct Reported<'r>(Option<&'r mut Diagnostic>);

impl Reported<'_> {
    /// Says what to do about it.
    pub(super) fn help(self, help: impl Into<String>) {
        self.help_by(|| Some(help.into()));
    }

    /// Says what to do about it, if `help` knows; it is not asked for a fault that is only
    /// counted.
    pub(super) fn help_by(self, help: impl FnOnce() -> Option<String>) {
        if let Some(diagnostic) = self.0 {
            diagnostic.help = help();
        }
    }
}

impl<'a> ConfReport<'a> {
    /// A report on a text without a byte order mark.
    pub(super) fn new(path: &'a str, text: &'a str) -> ConfReport<'a> {
        let after = |(at, _): (usize, &str)| at + 1;
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(after)).collect();
        let (found, errors, dropped, dropped_errors) = (Vec::new(), 0, 0, 0);
        ConfReport { path, text, lines, found, errors, dropped, dropped_errors }
    }

    /// The text that is reported on.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The number of the line that holds a byte, from 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// The byte at which a line and column stand, both from 1, the column in characters.
    pub(super) fn offset_of(&self, line: usize, column: usize) -> usize {
        let Some(start) = self.lines.get(line.saturating_sub(1)).copied() else {
            return self.text.len();
        };
        let rest = &self.text[start..];
        start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
    }

    /// True if the file is to be refused.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Reports a fault for which the file is refused.
    pub(super) fn error(&mut self, at: &Span, message: impl Into<String>) -> Reported<'_> {
        self.errors += 1;
        self.add(DiagnosticSeverity::Error, at, message.into())
    }

    /// Reports a fault with which the file can be used.
    pub(super) fn warning(&mut self, at: &Span, message: impl Into<String>) -> Reported<'_> {
        self.add(DiagnosticSeverity::Warning, at, message.into())
    }

    fn add(&mut self, severity: DiagnosticSeverity, at: &Span, message: String) -> Reported<'_> {
        if self.found.len() >= MAX_DIAGNOSTICS {
            self.dropped += 1;
            self.dropped_errors += usize::from(severity == DiagnosticSeverity::Error);
            return Reported(None);
        }
        let place = Some(self.place(at));
        let diagnostic =
            Diagnostic { severity, path: self.path.to_owned(), place, message, help: None };
        self.found.push((at.start, diagnostic));
        Reported(self.found.last_mut().map(|(_, diagnostic)| diagnostic))
    }

    fn place(&self, at: &Span) -> SourcePlace {
        let line = self.line_of(at.start);
        let start = self.lines[line - 1];
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let text = self.text[start..end].trim_end_matches('\r');
        let in_line = |at: usize| at.saturating_sub(start).min(text.len());
        SourcePlace::new(line, text, in_line(at.start)..in_line(at.end))
    }

    /// The faults in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(at, _)| *at);
        let mut diagnostics: Vec<Diagnostic> =
            self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect();
        if self.dropped > 0 {
            let severity = if self.dropped_errors > 0 {
                DiagnosticSeverity::Error
            } else {
                DiagnosticSeverity::Warning
            };
            diagnostics.push(Diagnostic {
                severity,
                path: self.path.to_owned(),
                place: None,
                message: format!("{} more faults are not shown", self.dropped),
                help: Some("fix those above first".to_owned()),
            });
        }
        diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_the_order_of_the_file() {
        let mut report = ConfReport::new("c", "ab\r\ncd\n");
        report.warning(&(4..6), "second").help("h");
        report.error(&(1..2), "first");
        report.error(&(7..7), "at the end");
        assert!(report.has_errors());
        let shown: Vec<String> = report.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "c:1:2: error: first\nab\n ^",
                "c:2:1: warning: second\ncd\n^~\nhelp: h",
                "c:3:1: error: at the end\n\n^",
            ]
        );
    }

    #[test]
    fn a_fault_over_several_lines_is_marked_on_its_first() {
        let mut report = ConfReport::new("c", "a <b\r\nc>");
        report.error(&(2..8), "long");
        assert_eq!(report.finish()[0].to_string(), "c:1:3: error: long\na <b\n  ^~");
    }

    #[test]
    fn lines_and_columns_are_found_again_as_bytes() {
        let report = ConfReport::new("c", "äb\ncd");
        assert_eq!(report.offset_of(1, 2), 2);
        assert_eq!(report.offset_of(2, 1), 4);
        assert_eq!(report.offset_of(2, 9), 6);
        assert_eq!(report.offset_of(9, 1), 6);
    }

    #[test]
    fn an_error_that_is_not_shown_still_counts() {
        let mut report = ConfReport::new("c", "x");
        for _ in 0..MAX_DIAGNOSTICS {
            report.warning(&(0..1), "odd");
        }
        report.error(&(0..1), "wrong").help("lost");
        report.warning(&(0..1), "odd");
        assert!(report.has_errors());
        let found = report.finish();
        assert_eq!(found.len(), MAX_DIAGNOSTICS + 1);
        assert_eq!(
            found.last().map(ToString::to_string).as_deref(),
            Some("c: error: 2 more faults are not shown\nhelp: fix those above first")
        );
    }
}
