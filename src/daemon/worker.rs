//! A thread that drives one agent: poll, step, and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tracing::error;

use crate::wake::{Inbox, Outbox, channel};

/// What a worker drives. It owns its state, and is told what to do by orders alone.
pub(super) trait Agent: Send + 'static {
    type Order: Send + 'static;

    /// The descriptors whose readability asks for a step.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;
    /// How long a step may wait.
    fn timeout(&self, now: Instant) -> Duration;
    fn obey(&mut self, order: Self::Order, now: Instant);
    fn step(&mut self, now: Instant);
}

enum Message<O> {
    Order(O),
    Stop,
}

/// Where orders are left, for an agent whose thread runs or will.
pub(super) struct Desk<O>(Outbox<Message<O>>);

impl<O> Clone for Desk<O> {
    fn clone(&self) -> Desk<O> {
        Desk(self.0.clone())
    }
}

impl<O> Desk<O> {
    /// Leaves an order. One that comes too late for its agent is lost, and that of no harm.
    pub(super) fn order(&self, order: O) {
        self.0.send(Message::Order(order));
    }
}

/// A desk, and what waits on it.
pub(super) struct Orders<O>(Inbox<Message<O>>);

/// A desk for an agent that is still to be started.
pub(super) fn desk<O>() -> Result<(Desk<O>, Orders<O>), Errno> {
    let (outbox, inbox) = channel()?;
    Ok((Desk(outbox), Orders(inbox)))
}

/// A running worker.
pub(super) struct Worker<O> {
    name: &'static str,
    pub(super) desk: Desk<O>,
    thread: JoinHandle<()>,
}

impl<O: Send + 'static> Worker<O> {
    /// Starts one: the orders that wait on its desk come before its first step.
    pub(super) fn start(
        name: &'static str,
        agent: impl Agent<Order = O>,
        (desk, orders): (Desk<O>, Orders<O>),
    ) -> std::io::Result<Worker<O>> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(errno) = drive(agent, &orders.0) {
                error!("the {name}'s thread: {errno}");
            }
        })?;
        Ok(Worker { name, desk, thread })
    }

    /// The name of a worker whose thread has ended, which it should not have.
    pub(super) fn died(&self) -> Option<&'static str> {
        self.thread.is_finished().then_some(self.name)
    }

    /// Ends it once it has obeyed what it was ordered before.
    pub(super) fn end(self) {
        self.desk.0.send(Message::Stop);
        // A thread that panicked has said so.
        let _ = self.thread.join();
    }
}

/// Drives an agent until it is told to stop, or polling fails for good.
fn drive<A: Agent>(mut agent: A, inbox: &Inbox<Message<A::Order>>) -> Result<(), Errno> {
    loop {
        for message in inbox.take() {
            match message {
                Message::Order(order) => agent.obey(order, Instant::now()),
                // What it was ordered last is to be done, not only heard.
                Message::Stop => {
                    agent.step(Instant::now());
                    return Ok(());
                }
            }
        }
        agent.step(Instant::now());
        wait(agent.fds().into_iter().chain([inbox.fd()]), agent.timeout(Instant::now()))?;
    }
}

/// Waits until a descriptor is readable or time is up.
pub(super) fn wait<'a>(
    fds: impl IntoIterator<Item = BorrowedFd<'a>>,
    timeout: Duration,
) -> Result<(), Errno> {
    let fds: Vec<BorrowedFd<'a>> = fds.into_iter().collect();
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, Some(TimeSpec::from(timeout)), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Counter {
        sum: u32,
        said: Sender<u32>,
    }

    impl Agent for Counter {
        type Order = u32;
        fn fds(&self) -> Vec<BorrowedFd<'_>> {
            vec![]
        }
        fn timeout(&self, _: Instant) -> Duration {
            Duration::from_secs(60)
        }
        fn obey(&mut self, order: u32, _: Instant) {
            self.sum += order;
        }
        fn step(&mut self, _: Instant) {
            let _ = self.said.send(self.sum);
        }
    }

    #[test]
    fn orders_that_wait_are_obeyed_before_the_first_step_and_all_before_the_end() {
        let (said, heard) = channel();
        let (desk, orders) = desk().unwrap();
        desk.order(1);
        desk.order(2);
        let worker = Worker::start("counter", Counter { sum: 0, said }, (desk, orders)).unwrap();
        assert_eq!(heard.recv(), Ok(3));
        worker.desk.order(4);
        assert_eq!(heard.recv(), Ok(7));
        assert_eq!(worker.died(), None);
        worker.desk.order(5);
        worker.end();
        assert_eq!(heard.iter().last(), Some(12));
    }
}
