//! What the host sends to the guest, never more at once than the channel bears.
//!
//! User-mode Linux's serial line stops for good once its reader has been slow (its driver forgets to listen again after
//! it was throttled), so the host keeps less under way than the line's buffer holds. The guest acknowledges what it has
//! read.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::frame::{self, HEAD, Kind};

/// An amount that one thread takes from and another gives back to.
pub(crate) struct Credit {
    /// `None` once it is over. It may be below zero, since some things cannot wait.
    amount: Mutex<Option<i64>>,
    most: i64,
    more: Condvar,
}

impl Credit {
    pub(crate) fn new(most: usize) -> Self {
        let most = most as i64;
        Self { amount: Mutex::new(Some(most)), most, more: Condvar::new() }
    }

    /// Waits until there is some, and takes up to this much; `None` once it is over.
    pub(crate) fn take(&self, most: usize) -> Option<usize> {
        let mut amount = self.amount.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = (*amount)?;
            if now > 0 {
                let taken = now.min(most as i64);
                *amount = Some(now - taken);
                return Some(taken as usize);
            }
            amount = self.more.wait(amount).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes this much without waiting.
    fn owe(&self, n: usize) {
        let mut amount = self.amount.lock().unwrap_or_else(PoisonError::into_inner);
        *amount = amount.map(|now| now - n as i64);
    }

    /// Gives this much back.
    pub(crate) fn give(&self, n: usize) {
        let mut amount = self.amount.lock().unwrap_or_else(PoisonError::into_inner);
        *amount = amount.map(|now| (now + n as i64).min(self.most));
        self.more.notify_all();
    }

    /// Ends every wait.
    pub(crate) fn end(&self) {
        *self.amount.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.more.notify_all();
    }
}

/// The host's end of the channel, for several threads to write to.
pub(crate) struct Outgoing {
    stream: Mutex<UnixStream>,
    room: Credit,
    window: usize,
}

impl Outgoing {
    /// `window` is how many bytes the channel bears.
    pub(crate) fn new(stream: UnixStream, window: usize) -> Self {
        Self { stream: Mutex::new(stream), room: Credit::new(window), window }
    }

    /// Sends a frame of any length, in pieces that wait for room. Only while nobody else sends.
    pub(crate) fn send_long(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let frame = frame::encode(kind, payload);
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let Some(n) = self.room.take(rest.len()) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let (now, later) = rest.split_at(n);
            self.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// How much payload [`Outgoing::send`] takes at once.
    pub(crate) fn chunk(&self) -> usize {
        frame::MAX_CHUNK.min(self.window / 2 - HEAD)
    }

    /// Sends a frame when there is room for it, which must be no longer than [`Outgoing::chunk`].
    pub(crate) fn send(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let frame = frame::encode(kind, payload);
        let mut wanted = frame.len();
        while wanted > 0 {
            let Some(n) = self.room.take(wanted) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            wanted -= n;
        }
        self.write(&frame)
    }

    /// Sends a short frame that must not wait, such as a signal.
    pub(crate) fn send_now(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let frame = frame::encode(kind, payload);
        self.room.owe(frame.len());
        self.write(&frame)
    }

    /// The guest has read this much.
    pub(crate) fn acknowledged(&self, n: usize) {
        self.room.give(n);
    }

    /// Ends every wait for room.
    pub(crate) fn end(&self) {
        self.room.end();
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn no_more_is_under_way_than_the_window() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let outgoing = Arc::new(Outgoing::new(host, 100));
        let sender = Arc::clone(&outgoing);
        let thread = std::thread::spawn(move || sender.send_long(Kind::Spec, &[1; 1000]).unwrap());
        let mut total = 0;
        let mut buffer = [0; 4096];
        guest.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while total < 1005 {
            let mut burst = 0;
            while let Ok(n) = guest.read(&mut buffer) {
                burst += n;
            }
            assert!((1..=100).contains(&burst), "{burst} bytes at once");
            total += burst;
            outgoing.acknowledged(burst);
        }
        thread.join().unwrap();
    }

    #[test]
    fn a_signal_goes_out_though_the_window_is_full() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let outgoing = Outgoing::new(host, 100);
        outgoing.send(Kind::Stdin, &[0; 95]).unwrap();
        outgoing.send_now(Kind::Signal, &2u32.to_le_bytes()).unwrap();
        let mut all = [0; 109];
        guest.read_exact(&mut all).unwrap();
        assert_eq!(all[100], b'S');
    }

    #[test]
    fn an_end_wakes_whoever_waits_for_credit() {
        let credit = Arc::new(Credit::new(1));
        assert_eq!(credit.take(5), Some(1));
        let waiting = Arc::clone(&credit);
        let thread = std::thread::spawn(move || waiting.take(1));
        credit.end();
        assert_eq!(thread.join().unwrap(), None);
    }
}
