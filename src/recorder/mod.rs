//! A recording of what cvipd decides, and its replay.
//!
//! What decides in cvipd is pure: the same state, given the same calls at the same times, gives the
//! same outputs. So a recording of a state and of the calls that follow is enough to show each
//! decision again, with its reason, on another machine and under a debugger. `cvipd` keeps the last
//! ten minutes of each of its cores in a bounded ring of files; `cvipctl replay` runs them through
//! the same code. An output that is another one than was recorded is a fault of the program.
//!
//! ```text
//!   core       what a recorded state offers: its calls, and words for them
//!   recorded   a state, each call of which is recorded                                  clock
//!   ring       when a segment ends, and which one is removed                            pure
//!   wire       the lines of a segment: header, state, calls with their outputs          pure
//!   gzip       segments compressed, and read as far as they were written               files
//!   writer     the thread that writes the files, so that no core waits for a disk       files
//!   replay     restores the state, calls it, and compares                               pure
//! ```
//!
//! A core's recording is a sequence of segments, one file each. A segment begins with a header and
//! the whole state, so that each can be replayed by itself, and the oldest can be removed.

mod core;
mod gzip;
mod recorded;
mod replay;
mod ring;
#[cfg(test)]
pub(crate) mod testing;
mod wire;
mod writer;

pub use self::core::Core;
pub use gzip::read_text;
pub use recorded::Recorded;
pub use replay::{Decision, Difference, Replay, ReplayError, replay};
pub use wire::{SegmentHeader, read_header};
pub use writer::{Recorder, Writer, is_segment};
