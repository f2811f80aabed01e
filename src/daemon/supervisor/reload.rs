//! A reload: cvip.conf is read and tried, and only then its workers take the place of those before.
//! Pure.
//!
//! Whatever fails on the way leaves everything as it is. An active director that cvip.conf no longer
//! names hands over in between: clients whose packets still come here are served until they know
//! the new director.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::hand_over::HandOver;
use crate::conf::{Conf, Loaded, Sources};
use crate::daemon::error::RunError;

/// A configuration that was read.
#[derive(Clone, Debug)]
pub(super) struct ReadConf {
    pub(super) conf: Arc<Conf>,
    pub(super) sources: Arc<Sources>,
}

/// A reload that is under way.
#[derive(Debug)]
pub(super) struct Reload {
    /// An operator waits for the outcome.
    pub(super) is_asked: bool,
    /// Nothing is handed over twice for one change of the file.
    is_handed_over: bool,
    /// What is wrong with the files, or why they were not taken.
    pub(super) faults: Vec<String>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading,
    Trying(ReadConf),
    HandingOver(HandOver),
    Swapping(ReadConf),
}

/// What comes next in a reload.
#[derive(Debug)]
pub(super) enum ReloadStep {
    /// Try whether this host can do what the configuration says.
    Try(Arc<Conf>),
    /// Hand over first ([`Reload::hand_over`]).
    HandOver,
    /// Build what the configuration needs, and swap it for what there is.
    Swap(Arc<Conf>),
    /// It is in force.
    Taken(ReadConf),
    /// It was not taken, and nothing has changed.
    Refused(String),
}

impl Reload {
    /// One whose files are being read; `before` is the one that it replaces.
    pub(super) fn new(is_asked: bool, before: Option<Reload>) -> Reload {
        let is_handed_over =
            before.is_some_and(|before| matches!(before.stage, Stage::HandingOver(_)));
        Reload { is_asked, is_handed_over, faults: Vec::new(), stage: Stage::Reading }
    }

    /// The files are read, for a node that is a director at the moment or is none.
    pub(super) fn read(
        &mut self,
        loaded: Loaded,
        path: &str,
        me: u32,
        is_director: bool,
    ) -> ReloadStep {
        self.faults = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let Some(conf) = loaded.conf else {
            return ReloadStep::Refused(RunError::Conf(loaded.diagnostics).to_string());
        };
        for warning in loaded.diagnostics {
            warn!("{warning}");
        }
        if !conf.nodes().contains(&me) {
            let error = RunError::NoRole(me, path.to_owned()).to_string();
            // A real server that is struck from the file goes on as it was, for those who are
            // connected to it; a director must not, for another directs in its place.
            if !is_director {
                return self.refused(error);
            }
            warn!("{error}");
        }
        let read = ReadConf { conf: Arc::new(conf), sources: Arc::new(loaded.sources) };
        let step = ReloadStep::Try(Arc::clone(&read.conf));
        self.stage = Stage::Trying(read);
        step
    }

    /// What became of the trial. A configuration that cannot be taken hands nothing over.
    pub(super) fn tried(
        &mut self,
        outcome: Result<(), String>,
        me: u32,
        can_hand_over: bool,
    ) -> Option<ReloadStep> {
        let Stage::Trying(read) = &self.stage else { return None };
        if let Err(error) = outcome {
            return Some(self.refused(error));
        }
        if !read.conf.is_director(me) && can_hand_over && !self.is_handed_over {
            return Some(ReloadStep::HandOver);
        }
        let step = ReloadStep::Swap(Arc::clone(&read.conf));
        self.stage = Stage::Swapping(read.clone());
        Some(step)
    }

    /// Another director is to take over; the files are read again after that.
    pub(super) fn hand_over(&mut self, hand_over: HandOver) {
        self.stage = Stage::HandingOver(hand_over);
    }

    /// The hand-over that is waited for.
    pub(super) fn handing_over(&mut self) -> Option<&mut HandOver> {
        match &mut self.stage {
            Stage::HandingOver(hand_over) => Some(hand_over),
            _ => None,
        }
    }

    /// When time alone goes on with it.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::HandingOver(hand_over) => Some(hand_over.due()),
            _ => None,
        }
    }

    /// What became of the swap.
    pub(super) fn swapped(&mut self, outcome: Result<(), String>) -> Option<ReloadStep> {
        let Stage::Swapping(read) = &self.stage else { return None };
        Some(match outcome {
            Ok(()) => ReloadStep::Taken(read.clone()),
            Err(error) => self.refused(error),
        })
    }

    fn refused(&mut self, error: String) -> ReloadStep {
        self.faults.push(error.clone());
        ReloadStep::Refused(error)
    }
}
