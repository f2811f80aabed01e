//! In which term this director was active, and which terms it has given up, beyond its end: so that
//! one that is started again while the store is away goes on as what it was, and none takes a term
//! again that it has yielded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::counter;
use crate::files;

/// The file is no longer than a few lines.
const CAP: u64 = 4096;

/// The file, and what it says: `active SET TERM` in a line, and `given-up SET TERM` in a line for
/// each set of directors, by its name.
#[derive(Debug)]
pub(super) struct RememberedTerms {
    path: PathBuf,
    run_dir: PathBuf,
    active: Option<(u32, u64)>,
    given_up: BTreeMap<u32, u64>,
    /// This start has said what is true: until then the file is an earlier one's.
    written: bool,
}

impl RememberedTerms {
    /// Reads it; what makes no sense says nothing. The folder is emptied by a reboot, as is the
    /// interface that carried the CVIP. An older cvipd noted nothing but the term, of the set that it
    /// was in: `set`, as far as is known.
    pub(super) fn open(run_dir: &Path, node: u32, set: u32) -> RememberedTerms {
        let path = run_dir.join(format!("elected-{node}"));
        let text = files::read_text(&path, CAP).unwrap_or_default();
        let run_dir = run_dir.to_owned();
        let (active, given_up, written) = (None, BTreeMap::new(), false);
        let mut held = RememberedTerms { path, run_dir, active, given_up, written };
        let noted: Option<u64> = text.trim().parse().ok();
        held.active = noted.filter(|term| *term <= counter::LAST).map(|term| (set, term));
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [what, set, term] = words[..] else { continue };
            let (Ok(set), Ok(term)) = (set.parse(), term.parse()) else { continue };
            match what {
                _ if term > counter::LAST => {}
                "active" => held.active = Some((set, term)),
                "given-up" => drop(held.given_up.insert(set, term)),
                _ => {}
            }
        }
        held
    }

    /// The term of a set in which this director is active, or was when it ended. 0: it is active,
    /// by an election of another set.
    pub(super) fn term(&self, set: u32) -> Option<u64> {
        self.active.map(|(of, term)| if of == set { term } else { 0 })
    }

    /// The latest term of each set that this director has given up.
    pub(super) fn given_up(&self) -> &BTreeMap<u32, u64> {
        &self.given_up
    }

    /// Notes the term in which it is active, if it is, and the terms that it has given up.
    pub(super) fn write(&mut self, active: Option<(u32, u64)>, given_up: &BTreeMap<u32, u64>) {
        (self.active, self.given_up, self.written) = (active, given_up.clone(), true);
        self.save();
    }

    /// Writes the file again where somebody deleted it, or where there was no room.
    pub(super) fn tend(&mut self) {
        let says_something = self.active.is_some() || !self.given_up.is_empty();
        if self.written && says_something && !self.path.exists() {
            self.save();
        }
    }

    fn save(&self) {
        let mut text = String::new();
        let given_up = self.given_up.iter().map(|(set, term)| ("given-up", *set, *term));
        let active = self.active.into_iter().map(|(set, term)| ("active", set, term));
        for (what, set, term) in active.chain(given_up) {
            text.push_str(&format!("{what} {set} {term}\n"));
        }
        let saved = files::replace(&self.path, &self.run_dir, text.as_bytes(), false);
        if saved.is_err() && self.active.is_none() {
            // Where there is no room to say that it yielded, at least nothing says that it did not.
            let _ = std::fs::remove_file(&self.path);
        }
        files::note(&self.path, &saved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_outlives_its_director_until_it_yields_and_is_then_known_to_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let open = |node| RememberedTerms::open(dir.path(), node, 1);
        let mut held = open(3);
        assert_eq!(held.term(1), None);
        held.write(Some((1, 7)), &BTreeMap::new());
        assert_eq!((open(3).term(1), open(4).term(1)), (Some(7), None));
        assert_eq!(open(3).term(2), Some(0), "it is active, by another set's election");
        let given_up = BTreeMap::from([(1, 7), (2, 1)]);
        held.write(None, &given_up);
        held.write(None, &given_up);
        assert_eq!((open(3).term(1), open(3).given_up()), (None, &given_up));
        for text in [
            "7 or so",
            "active 1",
            "active one 7",
            "active 1 9007199254740992",
            "9007199254740992\n",
        ] {
            std::fs::write(dir.path().join("elected-3"), text).unwrap();
            assert_eq!((open(3).term(1), open(3).given_up().len()), (None, 0), "{text}");
        }
        std::fs::write(dir.path().join("elected-3"), "7\n").unwrap();
        assert_eq!(open(3).term(1), Some(7), "an older cvipd's");
    }

    #[test]
    fn what_it_knows_is_written_again_when_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = RememberedTerms::open(dir.path(), 3, 1);
        held.write(Some((1, 7)), &BTreeMap::new());
        std::fs::remove_dir_all(dir.path()).unwrap();
        held.tend();
        assert_eq!(
            RememberedTerms::open(dir.path(), 3, 1).term(1),
            Some(7),
            "deleted, and written again"
        );
        // A file stands where the folder was.
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::write(dir.path(), "").unwrap();
        held.write(None, &BTreeMap::from([(1, 7)]));
        assert_eq!(held.given_up().get(&1), Some(&7), "it knows by itself");
        std::fs::remove_file(dir.path()).unwrap();
        held.tend();
        assert_eq!(RememberedTerms::open(dir.path(), 3, 1).given_up().get(&1), Some(&7));
    }
}
