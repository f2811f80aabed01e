//! In which term this director was active, beyond its end: so that one that is started again while
//! the store is away goes on as what it was.

use std::path::{Path, PathBuf};

use tracing::error;

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    term: Option<u64>,
}

impl Held {
    /// Reads it; what makes no sense says nothing. The folder is emptied by a reboot, as is the
    /// interface that carried the CVIP.
    pub(super) fn open(run_dir: &Path, node: u32) -> Held {
        let path = run_dir.join(format!("elected-{node}"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Held { path, term: text.trim().parse().ok() }
    }

    /// The term, as it was when this director was started.
    pub(super) fn term(&self) -> Option<u64> {
        self.term
    }

    /// Notes the term in which it is active; `None`: it is not.
    pub(super) fn write(&mut self, term: Option<u64>) {
        let written = match term {
            Some(term) => std::fs::write(&self.path, format!("{term}\n")),
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        if let Err(error) = written {
            error!("cannot write {}: {error}", self.path.display());
        }
        self.term = term;
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
        std::fs::write(dir.path().join("elected-3"), "7 or so").unwrap();
        assert_eq!(Held::open(dir.path(), 3).term(), None);
    }
}
