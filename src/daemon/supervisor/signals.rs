//! The signals that cvipd is told by, held back: they arrive by a descriptor alone.

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use crate::interrupts::hold;

/// SIGTERM, SIGINT and SIGHUP of this process.
#[derive(Debug)]
pub struct HeldSignals(SignalFd);

impl HeldSignals {
    /// Holds them back from now on, in this thread and in those that it makes later. It is the first
    /// thing that the program does: until then a SIGHUP, which only means to read cvip.conf, ends
    /// it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn hold() -> Result<HeldSignals, Errno> {
        hold(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).map(HeldSignals)
    }

    /// Readable when one has come.
    pub(super) fn descriptor(&self) -> &SignalFd {
        &self.0
    }

    /// The next one that has come; the number of one that has no name here.
    pub(super) fn next(&self) -> Option<Result<Signal, u32>> {
        let signal = self.0.read_signal().ok().flatten()?;
        Some(Signal::try_from(signal.ssi_signo as i32).map_err(|_| signal.ssi_signo))
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_that_comes_before_any_is_waited_for_is_kept() {
        let signals = HeldSignals::hold().unwrap();
        assert_eq!(signals.next(), None);
        // To this thread alone: others of the test program do not hold it back.
        let sent = [Signal::SIGHUP, Signal::SIGTERM];
        for signal in sent {
            raise(signal).unwrap();
        }
        let mut came = [signals.next(), signals.next()].map(|signal| signal.unwrap().unwrap());
        came.sort();
        assert_eq!((came, signals.next()), (sent, None));
    }
}
