//! The time that a probe has.

use std::io;
use std::time::{Duration, Instant};

use crate::program::because;

/// When a run has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    end: Instant,
    /// All the time that there was.
    pub(super) whole: Duration,
}

impl Deadline {
    pub(super) fn after(whole: Duration) -> Deadline {
        Deadline { end: Instant::now() + whole, whole }
    }

    /// The time that is left.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]: none is.
    pub(super) fn left(self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// What went wrong while something was done, in words.
    pub(super) fn because(self, doing: &str, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                format!("{doing}: not done within {} s", self.whole.as_secs_f64())
            }
            io::ErrorKind::UnexpectedEof => format!("{doing}: the connection ended"),
            _ => because(doing, error),
        }
    }
}
