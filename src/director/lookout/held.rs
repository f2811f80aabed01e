//! In which term this director was active, beyond its end: so that one that is started again while
//! the store is away goes on as what it was.

use std::path::{Path, PathBuf};

use crate::files;

/// The file is no longer than a number.
const CAP: u64 = 64;

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    run_dir: PathBuf,
    term: Option<u64>,
    /// This start has said what is true: until then the file is an earlier one's.
    written: bool,
}

impl Held {
    /// Reads it; what makes no sense says nothing. The folder is emptied by a reboot, as is the
    /// interface that carried the CVIP.
    pub(super) fn open(run_dir: &Path, node: u32) -> Held {
        let path = run_dir.join(format!("elected-{node}"));
        let text = files::read_text(&path, CAP).unwrap_or_default();
        let term = text.trim().parse().ok();
        Held { path, run_dir: run_dir.to_owned(), term, written: false }
    }

    /// The term, as it was when this director was started.
    pub(super) fn term(&self) -> Option<u64> {
        self.term
    }

    /// Notes the term in which it is active; `None`: it is not.
    pub(super) fn write(&mut self, term: Option<u64>) {
        (self.term, self.written) = (term, true);
        self.save();
    }

    /// Writes the file again where somebody deleted it, or where there was no room.
    pub(super) fn tend(&mut self) {
        if self.written && self.path.exists() != self.term.is_some() {
            self.save();
        }
    }

    fn save(&self) {
        let saved = match self.term {
            Some(term) => {
                files::replace(&self.path, &self.run_dir, format!("{term}\n").as_bytes(), false)
            }
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        files::note(&self.path, &saved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_outlives_its_director_until_it_yields() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = Held::open(dir.path(), 3);
        assert_eq!(held.term(), None);
        held.write(Some(7));
        assert_eq!(Held::open(dir.path(), 3).term(), Some(7));
        assert_eq!(Held::open(dir.path(), 4).term(), None);
        held.write(None);
        held.write(None);
        assert_eq!(Held::open(dir.path(), 3).term(), None);
        held.write(Some(8));
        std::fs::remove_dir_all(dir.path()).unwrap();
        held.tend();
        assert_eq!(Held::open(dir.path(), 3).term(), Some(8), "deleted, and written again");
        std::fs::write(dir.path().join("elected-3"), "7 or so").unwrap();
        assert_eq!(Held::open(dir.path(), 3).term(), None);
    }
}
