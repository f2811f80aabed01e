//! A folder with unpacked packages, to be laid under and over a root file system.

use std::path::PathBuf;

/// Packages unpacked in the cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The layer's folder, which has `over` and `under`.
    pub(crate) root: PathBuf,
}

impl Layer {
    /// Packages that the host lacks.
    pub(crate) fn under(&self) -> PathBuf {
        self.root.join("under")
    }

    /// Newer versions of packages that the host has.
    pub(crate) fn over(&self) -> PathBuf {
        self.root.join("over")
    }

    /// The first of these paths (relative to `/`) that the layer or else the host has.
    pub(crate) fn find(&self, candidates: &[&str]) -> Option<PathBuf> {
        [self.over(), self.under(), PathBuf::from("/")]
            .iter()
            .flat_map(|root| candidates.iter().map(move |path| root.join(path)))
            .find(|path| path.exists())
    }

    /// The value of `LD_LIBRARY_PATH` with which the layer's programs run on the host.
    pub(crate) fn library_path(&self) -> std::ffi::OsString {
        let triplet = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        // A libc of another version than the host's dynamic loader would not start at all.
        let halves = [self.over(), self.under()];
        let folders = halves
            .iter()
            .filter(|half| !half.join(&triplet).join("libc.so.6").exists())
            .flat_map(|half| [half.join(&triplet), half.join("usr/lib")]);
        std::env::join_paths(folders).unwrap_or_default()
    }
}
