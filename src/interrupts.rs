//! SIGINT and SIGTERM, held back while a command waits: it then says what it leaves behind.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT and SIGTERM, held back.
#[derive(Debug)]
pub(crate) struct Interrupts(SignalFd);

/// Holds these signals back in this thread and in those that it makes later: they arrive by the
/// descriptor alone, which is never waited for.
pub(crate) fn hold(signals: &[Signal]) -> nix::Result<SignalFd> {
    let mask: SigSet = signals.iter().copied().collect();
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

impl Interrupts {
    /// Threads that are made later hold them back too.
    pub(crate) fn hold() -> nix::Result<Interrupts> {
        hold(&[Signal::SIGINT, Signal::SIGTERM]).map(Interrupts)
    }

    /// True if one came.
    pub(crate) fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }

    /// Waits for one, for as long as `time`; true if one came. It may return earlier.
    pub(crate) fn wait(&self, time: Duration) -> nix::Result<bool> {
        // Whole milliseconds, the next higher: a poll of 0 would not wait.
        let millis = time.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(self.came()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Interrupts {
    /// Readable when one came.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
