//! The lines of ldirectord.cf: `key=value`, comments behind a `#`.

use crate::migrate::ledger::{Ledger, StatementId};

/// A line that says something.
#[derive(Clone, Debug)]
pub(super) struct LdirectordLine {
    pub(super) id: StatementId,
    /// What stands before the `=`, in small letters.
    pub(super) key: String,
    pub(super) value: String,
    /// It belongs to the virtual service above it.
    pub(super) is_indented: bool,
}

/// The lines that say something; each is entered in the ledger.
pub(super) fn lines(text: &str, ledger: &mut Ledger) -> Vec<LdirectordLine> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let bare = without_comment(line).trim();
        if bare.is_empty() {
            continue;
        }
        let (key, value) = bare.split_once('=').unwrap_or((bare, ""));
        let key = key.trim().to_ascii_lowercase();
        let column = line.chars().take_while(|c| c.is_whitespace()).count();
        let id = ledger.enter((number + 1, column + 1), &key, bare);
        if !bare.contains('=') {
            ledger.not_carried(id, "it is no line of key=value");
            continue;
        }
        lines.push(LdirectordLine {
            id,
            key,
            value: value.trim().to_owned(),
            is_indented: column > 0,
        });
    }
    lines
}

/// A line up to its comment, which begins with a `#` outside quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let at = line.char_indices().find(|(at, c)| {
        quoted ^= *c == '"';
        *c == '#' && !quoted && !line[..*at].ends_with('\\')
    });
    at.map_or(line, |(at, _)| &line[..at])
}

/// A value without the quotation marks around it.
pub(super) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    bare.or_else(|| text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')))
        .unwrap_or(text)
}
