//! Messages to a thread that polls: a channel with a descriptor that wakes the poll.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The end that sends.
pub(crate) struct Outbox<M> {
    sender: Sender<M>,
    wake: Arc<EventFd>,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Outbox<M> {
        Outbox { sender: self.sender.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// The end that polls.
pub(crate) struct Inbox<M> {
    receiver: Receiver<M>,
    wake: Arc<EventFd>,
}

/// A channel whose receiver can be polled.
pub(crate) fn channel<M>() -> Result<(Outbox<M>, Inbox<M>), Errno> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (sender, receiver) = mpsc::channel();
    Ok((Outbox { sender, wake: Arc::clone(&wake) }, Inbox { receiver, wake }))
}

impl<M> Outbox<M> {
    /// Sends. False if the receiver is gone.
    pub(crate) fn send(&self, message: M) -> bool {
        self.sender.send(message).is_ok() && self.wake.write(1).is_ok()
    }
}

impl<M> Inbox<M> {
    /// Readable when a message waits.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The messages that wait. The descriptor is emptied first, so that none is overlooked.
    pub(crate) fn take(&self) -> Vec<M> {
        // EAGAIN: there was no message.
        let _ = self.wake.read();
        self.receiver.try_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_and_a_lost_receiver_is_told() {
        let (out, inbox) = channel().unwrap();
        assert!(inbox.take().is_empty());
        assert!(out.send(1) && out.clone().send(2));
        assert_eq!(inbox.take(), [1, 2]);
        assert!(inbox.take().is_empty());
        drop(inbox);
        assert!(!out.send(3));
    }
}
