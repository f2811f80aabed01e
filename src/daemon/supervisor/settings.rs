//! What cvipd is told by its command line.

use std::path::PathBuf;

use crate::settings::Settings;

/// What cvipd is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSettings {
    /// cvip.conf.
    pub conf: PathBuf,
    /// clustertab.
    pub clustertab: PathBuf,
    /// The folder of the store, of the control socket and of what is to be undone.
    pub run_dir: PathBuf,
    /// Which store, and how to reach it.
    pub store: Settings,
    /// Which node this is; found by its addresses if absent.
    pub node: Option<u32>,
    /// Why no socket events are to be used; they are if absent.
    pub polling: Option<String>,
}
