//! SIGINT and SIGTERM, held back while a command waits: it then says what goes on without it.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT and SIGTERM, held back.
pub(super) struct Interrupts(SignalFd);

impl Interrupts {
    /// Threads that are made later hold them back too.
    pub(super) fn hold() -> anyhow::Result<Interrupts> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGTERM);
        mask.thread_block().context("signals cannot be blocked")?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        Ok(Interrupts(fd.context("no descriptor for signals")?))
    }

    /// True if one came.
    pub(super) fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

impl AsFd for Interrupts {
    /// Readable when one came.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
