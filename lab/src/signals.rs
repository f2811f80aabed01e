//! Signals that are read when there is time for them, in place of handlers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that are held back for as long as this lives: by this thread, and by threads that it starts.
pub(crate) struct Held {
    from: SignalFd,
    before: SigSet,
}

impl Held {
    /// Holds these signals back.
    pub(crate) fn new(signals: &[Signal]) -> Result<Self> {
        let mut ours = SigSet::empty();
        for signal in signals {
            ours.add(*signal);
        }
        let before = SigSet::thread_get_mask().context("cannot read the signal mask")?;
        ours.thread_block().context("cannot hold signals back")?;
        let from = SignalFd::with_flags(&ours, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
        Ok(Self { from, before })
    }

    /// A descriptor of its own, for another thread's [`next`].
    pub(crate) fn descriptor(&self) -> Result<OwnedFd> {
        self.from.as_fd().try_clone_to_owned().context("cannot copy a descriptor")
    }

    /// The next signal and whether the kernel sent it; `None` once `stop` can be read.
    pub(crate) fn wait(&self, stop: Option<&OwnedFd>) -> Result<Option<(Signal, bool)>> {
        next(self.from.as_fd(), stop)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// The next signal of a signalfd and whether the kernel sent it (a terminal's Ctrl-C, a child's end); `None` once `stop`
/// can be read.
pub(crate) fn next(from: BorrowedFd<'_>, stop: Option<&OwnedFd>) -> Result<Option<(Signal, bool)>> {
    loop {
        let mut waiting = vec![PollFd::new(from, PollFlags::POLLIN)];
        waiting.extend(stop.map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)));
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            result => result.context("poll")?,
        };
        if waiting.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty()) {
            return Ok(None);
        }
        // struct signalfd_siginfo (linux/signalfd.h): 128 bytes, of which the first are the number, an error and the code.
        let mut info = [0; 128];
        if nix::unistd::read(from, &mut info).context("cannot read a signal")? != info.len() {
            continue;
        }
        let field =
            |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        if let Ok(signal) = Signal::try_from(field(0)) {
            // asm-generic/siginfo.h: SI_USER is 0, and what a process sends is never above it.
            return Ok(Some((signal, field(8) > 0)));
        }
    }
}
