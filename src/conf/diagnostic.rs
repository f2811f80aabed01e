//! A fault in a configuration file, shown where it stands: `path:line:col: error: message`,
//! then the line with `^~~~` under the fault, then what to do about it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::words::is_obeyed;

/// Characters of a source line that are kept; a longer line is cut around the fault.
const SOURCE_CHARS: usize = 120;

/// Characters kept before the fault where a line is cut.
const SOURCE_BEFORE: usize = 40;

/// Marks where a line is cut.
const CUT: &str = "...";

named! {
    /// How bad it is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
    #[serde(rename_all = "lowercase")]
    #[non_exhaustive]
    pub enum DiagnosticSeverity {
        /// The file is refused.
        Error = "error",
        /// The file is used, but probably does not say what was meant.
        Warning = "warning",
    }
}

/// One fault of one file. Its `Display` has no line break at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: DiagnosticSeverity,
    /// The file, as it was named to the parser.
    pub path: String,
    /// Where in the file; none if the fault is the file's as a whole (it is missing, say).
    #[serde(flatten)]
    pub place: Option<SourcePlace>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A place in a file, and the line to show for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourcePlace {
    /// Line, from 1.
    pub line: usize,
    /// Column of the first character at fault, in characters, from 1.
    pub column: usize,
    /// Characters at fault, at least 1, none of them on a further line.
    pub length: usize,
    /// The line. A long one is cut around the fault, with `...` where something is missing;
    /// control characters are replaced, since a terminal would obey them.
    pub source: String,
    /// Characters of `source` before the fault.
    #[serde(skip)]
    offset: usize,
}

impl SourcePlace {
    /// The place of a fault in line number `line`; `fault` is a range of bytes of its `text`.
    pub(crate) fn new(line: usize, text: &str, fault: Range<usize>) -> SourcePlace {
        // Only the column is counted over the whole line, which may be the whole file.
        let last = back(text, text.len(), SOURCE_CHARS);
        let from = back(text, fault.start, SOURCE_BEFORE).min(last);
        let to = forth(text, from, SOURCE_CHARS);
        let mut source = String::new();
        if from > 0 {
            source.push_str(CUT);
        }
        let offset = source.len() + text[from..fault.start].chars().count();
        source.extend(text[from..to].chars().map(harmless));
        if to < text.len() {
            source.push_str(CUT);
        }
        let column = text[..fault.start].chars().count() + 1;
        let length = text[fault].chars().count().max(1);
        SourcePlace { line, column, length, source, offset }
    }
}

/// The byte that is so many characters before another, or 0.
fn back(text: &str, at: usize, chars: usize) -> usize {
    text[..at].char_indices().rev().take(chars).last().map_or(at, |(start, _)| start)
}

/// The byte that is so many characters behind another, or the text's length.
fn forth(text: &str, at: usize, chars: usize) -> usize {
    text[at..].char_indices().nth(chars).map_or(text.len(), |(more, _)| at + more)
}

/// A character that a terminal shows and does not obey; tabs are left to the display.
fn harmless(c: char) -> char {
    if c != '\t' && is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, path, place, message, help } = self;
        match place {
            Some(SourcePlace { line, column, .. }) => write!(f, "{path}:{line}:{column}: ")?,
            None => write!(f, "{path}: ")?,
        }
        write!(f, "{severity}: {message}")?;
        if let Some(SourcePlace { source, offset, length, .. }) = place {
            // Tabs stand below tabs. What is missing is marked behind the line's last character.
            let blank = |c| if c == '\t' { c } else { ' ' };
            let indent: String = source.chars().take(*offset).map(blank).collect();
            let more = source.chars().skip(*offset).take(*length).skip(1).count();
            write!(f, "\n{}\n{indent}^{}", source.trim_end(), "~".repeat(more))?;
        }
        if let Some(help) = help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, at: usize, length: usize) -> String {
        Diagnostic {
            severity: DiagnosticSeverity::Error,
            path: "cvip.conf".to_owned(),
            place: Some(SourcePlace::new(7, line, at..at + length)),
            message: "wrong".to_owned(),
            help: Some("fix it".to_owned()),
        }
        .to_string()
    }

    #[test]
    fn the_mark_stands_under_the_fault() {
        assert_eq!(
            shown("  <port>0</port>", 8, 1),
            "cvip.conf:7:9: error: wrong\n  <port>0</port>\n        ^\nhelp: fix it"
        );
        assert_eq!(
            shown("<port>65536</port>", 6, 5),
            "cvip.conf:7:7: error: wrong\n<port>65536</port>\n      ^~~~~\nhelp: fix it"
        );
    }

    #[test]
    fn tabs_before_the_fault_keep_the_mark_under_it() {
        assert_eq!(
            shown("\t  \t<a>b</a>", 7, 1),
            "cvip.conf:7:8: error: wrong\n\t  \t<a>b</a>\n\t  \t   ^\nhelp: fix it"
        );
        assert_eq!(shown("a\tb", 0, 3), "cvip.conf:7:1: error: wrong\na\tb\n^~~\nhelp: fix it");
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        assert_eq!(
            shown("<ä>äöü</ä>", 4, 6),
            "cvip.conf:7:4: error: wrong\n<ä>äöü</ä>\n   ^~~\nhelp: fix it"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_fault() {
        let line = format!("{}FAULT{}", "-".repeat(1000), "+".repeat(1000));
        let text = shown(&line, 1000, 5);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "cvip.conf:7:1001: error: wrong");
        assert_eq!(lines[1], format!("...{}FAULT{}...", "-".repeat(40), "+".repeat(75)));
        assert_eq!(lines[2], format!("{}^~~~~", " ".repeat(43)));
        let whole = shown(&line, 0, 2005);
        assert_eq!(whole.lines().nth(2).map(str::len), Some(SOURCE_CHARS + CUT.len()));
        let last = shown(&line, 2005, 0);
        assert!(last.lines().nth(1).is_some_and(|l| l.starts_with("...") && l.ends_with('+')));
        assert_eq!(last.lines().nth(2), Some(format!("{}^", " ".repeat(123)).as_str()));
    }

    #[test]
    fn a_fault_behind_the_end_of_a_line_is_marked_there() {
        assert_eq!(shown("<a>", 3, 0), "cvip.conf:7:4: error: wrong\n<a>\n   ^\nhelp: fix it");
        assert_eq!(shown("", 0, 0), "cvip.conf:7:1: error: wrong\n\n^\nhelp: fix it");
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        let text = shown("<a>\u{1b}[2J\u{202e}</a>", 3, 4);
        assert!(text.contains("<a>\u{fffd}[2J\u{fffd}</a>"), "{text}");
    }

    #[test]
    fn a_fault_of_the_whole_file_has_no_place() {
        let diagnostic = Diagnostic {
            severity: DiagnosticSeverity::Warning,
            path: "/etc/cvip.conf".to_owned(),
            place: None,
            message: "odd".to_owned(),
            help: None,
        };
        assert_eq!(diagnostic.to_string(), "/etc/cvip.conf: warning: odd");
        assert_eq!(
            serde_json::to_string(&diagnostic).expect("JSON"),
            r#"{"severity":"warning","path":"/etc/cvip.conf","message":"odd"}"#
        );
    }

    #[test]
    fn as_json_the_place_stands_beside_the_message() {
        let diagnostic = Diagnostic {
            severity: DiagnosticSeverity::Error,
            path: "c".to_owned(),
            place: Some(SourcePlace::new(2, "\tabc", 1..3)),
            message: "wrong".to_owned(),
            help: Some("fix it".to_owned()),
        };
        assert_eq!(
            serde_json::to_value(&diagnostic).expect("JSON"),
            serde_json::json!({
                "severity": "error", "path": "c", "line": 2, "column": 2, "length": 2,
                "source": "\tabc", "message": "wrong", "help": "fix it",
            })
        );
    }
}
