//! Every statement of a text, and what became of it.

use serde::Serialize;

use crate::output::harmless;

/// The largest text in bytes: that of the largest cvip.conf.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Characters of a statement that a note shows.
const SHOWN: usize = 80;

/// Statements whose values are secrets: notes show their keywords alone.
const SECRET: [&str; 5] = ["auth_pass", "passwd", "secret", "password", "lvs_sync_auth"];

/// A statement, by its place in the order of the text.
pub(super) type StatementId = usize;

named! {
    /// What became of a statement.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum Outcome {
        /// The draft says the same.
        Carried = "carried",
        /// The draft says something that differs from it as the message tells.
        Changed = "carried differently",
        /// The draft says nothing of it, for the reason that the message tells.
        NotCarried = "not carried",
    }
}

/// What became of one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StatementNote {
    /// Its line, from 1.
    pub line: usize,
    /// Its first column in characters, from 1.
    pub column: usize,
    /// Its keyword.
    pub keyword: String,
    /// The statement as it is written, cut where it is long; of a secret the keyword alone.
    pub statement: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How it is carried differently, or why it is not carried, and what to do; none where it is
    /// carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How many statements there are, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct StatementTotals {
    /// All of them.
    pub statements: usize,
    /// [`Outcome::Carried`].
    pub carried: usize,
    /// [`Outcome::Changed`].
    pub changed: usize,
    /// [`Outcome::NotCarried`].
    pub not_carried: usize,
}

impl StatementTotals {
    /// The totals of notes.
    pub(crate) fn of(notes: &[StatementNote]) -> StatementTotals {
        let count = |outcome| notes.iter().filter(|note| note.outcome == outcome).count();
        StatementTotals {
            statements: notes.len(),
            carried: count(Outcome::Carried),
            changed: count(Outcome::Changed),
            not_carried: count(Outcome::NotCarried),
        }
    }
}

/// The statements so far, and what became of those that were judged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<LedgerEntry>,
}

#[derive(Debug)]
struct LedgerEntry {
    line: usize,
    column: usize,
    keyword: String,
    statement: String,
    judged: Option<(Outcome, Option<String>)>,
}

impl Ledger {
    /// Enters a statement.
    pub(super) fn enter(
        &mut self,
        (line, column): (usize, usize),
        keyword: &str,
        statement: &str,
    ) -> StatementId {
        let secret = SECRET.iter().any(|secret| keyword.eq_ignore_ascii_case(secret));
        let shown = if secret { keyword } else { statement.trim() };
        self.entries.push(LedgerEntry {
            line,
            column,
            keyword: cut(keyword),
            statement: cut(shown),
            judged: None,
        });
        self.entries.len() - 1
    }

    /// The line of a statement.
    pub(super) fn line(&self, id: StatementId) -> usize {
        self.entries[id].line
    }

    /// The draft says the same.
    pub(super) fn carried(&mut self, id: StatementId) {
        self.entries[id].judged = Some((Outcome::Carried, None));
    }

    /// The draft says something else, as `how` tells. Several reasons are all told.
    pub(super) fn changed(&mut self, id: StatementId, how: impl Into<String>) {
        let how = how.into();
        let how = match self.entries[id].judged.take() {
            Some((Outcome::Changed, Some(before))) if before != how => format!("{before}; {how}"),
            _ => how,
        };
        self.entries[id].judged = Some((Outcome::Changed, Some(how)));
    }

    /// The draft says nothing of it.
    pub(super) fn not_carried(&mut self, id: StatementId, why: impl Into<String>) {
        self.entries[id].judged = Some((Outcome::NotCarried, Some(why.into())));
    }

    /// The draft says nothing of any of these after all; those that were not carried before keep
    /// their own reason.
    pub(super) fn withdraw(&mut self, ids: impl IntoIterator<Item = StatementId>, why: &str) {
        for id in ids {
            if !matches!(self.entries[id].judged, Some((Outcome::NotCarried, _))) {
                self.not_carried(id, why);
            }
        }
    }

    /// True if nothing is said of a statement yet.
    pub(super) fn is_unjudged(&self, id: StatementId) -> bool {
        self.entries[id].judged.is_none()
    }

    /// The draft says nothing of those of these of which nothing is said yet.
    pub(super) fn withdraw_unjudged(
        &mut self,
        ids: impl IntoIterator<Item = StatementId>,
        why: &str,
    ) {
        for id in ids {
            if self.is_unjudged(id) {
                self.not_carried(id, why);
            }
        }
    }

    /// True if the draft says the same of a statement, or something that differs.
    pub(super) fn is_in_the_draft(&self, id: StatementId) -> bool {
        matches!(self.entries[id].judged, Some((Outcome::Carried | Outcome::Changed, _)))
    }

    /// The notes. A statement that was not judged is one that no reader knows.
    pub(super) fn settle(self) -> Vec<StatementNote> {
        let mut notes: Vec<StatementNote> =
            self.entries.into_iter().map(LedgerEntry::settle).collect();
        notes.sort_by_key(|note| (note.line, note.column));
        notes
    }
}

impl LedgerEntry {
    fn settle(self) -> StatementNote {
        let unknown = || {
            let why = "its keyword is not known here: look it up in the other program's manual, \
                       and in cvip.conf(5)";
            (Outcome::NotCarried, Some(why.to_owned()))
        };
        let (outcome, message) = self.judged.unwrap_or_else(unknown);
        let LedgerEntry { line, column, keyword, statement, .. } = self;
        StatementNote { line, column, keyword, statement, outcome, message }
    }
}

/// A text for a note: one line, without what a terminal obeys, cut where it is long.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    harmless(&shown).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_no_reader_judged_is_not_carried() {
        let mut ledger = Ledger::default();
        let known = ledger.enter((2, 5), "weight", "weight 3");
        ledger.enter((1, 1), "frobnicate", "frobnicate yes");
        ledger.carried(known);
        let notes = ledger.settle();
        assert_eq!(notes[0].keyword, "frobnicate");
        assert_eq!(notes[0].outcome, Outcome::NotCarried);
        assert!(notes[0].message.as_ref().is_some_and(|message| message.contains("not known")));
        assert_eq!((notes[1].outcome, &notes[1].message), (Outcome::Carried, &None));
    }

    #[test]
    fn a_statement_that_is_withdrawn_keeps_the_reason_that_it_had() {
        let mut ledger = Ledger::default();
        let ids: Vec<_> =
            ["a", "b", "c"].iter().map(|word| ledger.enter((1, 1), word, word)).collect();
        ledger.carried(ids[0]);
        ledger.changed(ids[1], "rounded");
        ledger.changed(ids[1], "doubled");
        ledger.not_carried(ids[2], "its own");
        assert!(ledger.is_in_the_draft(ids[1]) && !ledger.is_in_the_draft(ids[2]));
        assert_eq!(
            ledger.entries[ids[1]].judged.as_ref().unwrap().1.as_deref(),
            Some("rounded; doubled")
        );
        ledger.withdraw(ids.clone(), "the service is not carried");
        let notes = ledger.settle();
        assert_eq!(StatementTotals::of(&notes).not_carried, 3);
        let why: Vec<_> = notes.iter().map(|note| note.message.as_deref().unwrap()).collect();
        assert_eq!(why, ["the service is not carried", "the service is not carried", "its own"]);
    }

    #[test]
    fn a_secret_is_not_shown_and_no_note_commands_a_terminal() {
        let mut ledger = Ledger::default();
        ledger.enter((1, 1), "auth_pass", "auth_pass hunter2");
        ledger.enter((2, 1), "path", &format!("path \u{1b}[2J{}", "x".repeat(200)));
        let notes = ledger.settle();
        assert_eq!(notes[0].statement, "auth_pass");
        assert!(!notes[1].statement.contains('\u{1b}') && notes[1].statement.ends_with("x..."));
    }
}
