//! The file in which a director's terms outlive it: `active SET TERM` in a line, and `given-up SET
//! TERM` in a line for each set of directors, by its name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counter;

/// The file is no longer than a few lines.
pub(super) const CAP: u64 = 4096;

/// In which term a director is active, and which terms it has given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Terms {
    /// The set and the term in which it is active.
    pub active: Option<(u32, u64)>,
    /// The latest term of each set that it has given up.
    pub given_up: BTreeMap<u32, u64>,
}

impl Terms {
    /// Reads the file's text; what makes no sense says nothing, nor does a line without its end: the file was
    /// cut short, and of a number the end may be missing. An older cvipd wrote nothing but the term, of the set
    /// that it was in: `set`, as far as is known.
    pub fn parse(text: &str, set: u32) -> Terms {
        let text = text.rfind('\n').map_or("", |end| &text[..end]);
        let lone: Option<u64> = text.trim().parse().ok();
        let active = lone.filter(|term| *term <= counter::LAST).map(|term| (set, term));
        let mut terms = Terms { active, given_up: BTreeMap::new() };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [what, set, term] = words[..] else { continue };
            let (Ok(set), Ok(term)) = (set.parse(), term.parse()) else { continue };
            match what {
                _ if term > counter::LAST => {}
                "active" => terms.active = Some((set, term)),
                "given-up" => drop(terms.given_up.insert(set, term)),
                _ => {}
            }
        }
        terms
    }

    /// Some of the text that they were read from says something else, or nothing.
    pub(super) fn is_partly_of(&self, text: &str) -> bool {
        let is_lone = text.trim().parse::<u64>().is_ok() && self.active.is_some();
        text.trim_end() != self.encode().trim_end() && !is_lone
    }

    /// The file's text.
    pub fn encode(&self) -> String {
        let active = self.active.iter().map(|(set, term)| format!("active {set} {term}\n"));
        let given_up = self.given_up.iter().map(|(set, term)| format!("given-up {set} {term}\n"));
        active.chain(given_up).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_read_as_far_as_it_makes_sense() {
        let active = |set, term| Terms { active: Some((set, term)), ..Terms::default() };
        let given_up = |terms: &[(u32, u64)]| Terms {
            active: None,
            given_up: terms.iter().copied().collect(),
        };
        for (text, terms) in [
            ("", Terms::default()),
            ("active 1 7\n", active(1, 7)),
            ("given-up 1 7\ngiven-up 2 1\n", given_up(&[(1, 7), (2, 1)])),
            ("7 or so\n", Terms::default()),
            ("active 1\n", Terms::default()),
            ("active one 7\n", Terms::default()),
            ("active 1 9007199254740992\n", Terms::default()),
            // Cut short: of term 12, say.
            ("active 1 1", Terms::default()),
            ("active 1 7\ngiven-up 1 1", active(1, 7)),
            ("1", Terms::default()),
            ("9007199254740992\n", Terms::default()),
            // An older cvipd's.
            ("7\n", active(3, 7)),
        ] {
            assert_eq!(Terms::parse(text, 3), terms, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_known() {
        let text = "active 1 12\ngiven-up 2 7\n";
        for kept in 0..=text.len() {
            let is_whole = [0, "active 1 12\n".len(), text.len()].contains(&kept);
            let cut = &text[..kept];
            assert_eq!(Terms::parse(cut, 1).is_partly_of(cut), !is_whole, "{cut:?}");
        }
        // Where there was no room, a shorter text ends in blanks.
        for whole in ["active 1 7\n      ", "7\n"] {
            assert!(!Terms::parse(whole, 1).is_partly_of(whole), "{whole:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            active: Option<(u32, u32)>,
            given_up in proptest::collection::btree_map(any::<u32>(), 0..counter::LAST, 0..4),
        ) {
            let active = active.map(|(set, term)| (set, term.into()));
            let terms = Terms { active, given_up };
            prop_assert_eq!(Terms::parse(&terms.encode(), 1), terms);
        }
    }
}
