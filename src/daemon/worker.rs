//! A thread that drives one agent: poll, step, and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
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

/// A worker whose thread waits for its agent: once there is one, nothing can fail any more that
/// would leave its predecessor without a successor.
pub(super) struct Prepared<A: Agent> {
    name: &'static str,
    pub(super) desk: Desk<A::Order>,
    thread: JoinHandle<()>,
    agent: mpsc::Sender<(A, Option<JoinHandle<()>>)>,
}

impl<A: Agent> Prepared<A> {
    /// A thread that waits. It ends if this is dropped.
    pub(super) fn new(
        name: &'static str,
        (desk, orders): (Desk<A::Order>, Orders<A::Order>),
    ) -> std::io::Result<Prepared<A>> {
        let (agent, given) = mpsc::channel::<(A, Option<JoinHandle<()>>)>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let Ok((agent, before)) = given.recv() else { return };
            if let Some(before) = before {
                // A thread that panicked has said so.
                let _ = before.join();
            }
            if let Err(errno) = drive(agent, &orders.0) {
                error!("the {name}'s thread: {errno}");
            }
        })?;
        Ok(Prepared { name, desk, thread, agent })
    }

    /// Starts it: the orders that wait on its desk come before its first step. Its predecessor, if it
    /// has one, is told to stop, and has ended before that; the caller waits for neither.
    pub(super) fn start(self, agent: A, before: Option<Worker<A::Order>>) -> Worker<A::Order> {
        let Prepared { name, desk, thread, agent: give } = self;
        let before = before.map(|before| {
            before.desk.0.send(Message::Stop);
            before.thread
        });
        // Its thread waits for nothing else.
        let _ = give.send((agent, before));
        Worker { name, desk, thread }
    }
}

impl<O: Send + 'static> Worker<O> {
    /// Starts one that has no predecessor.
    pub(super) fn start<A: Agent<Order = O>>(
        name: &'static str,
        agent: A,
        desk: (Desk<O>, Orders<O>),
    ) -> std::io::Result<Worker<O>> {
        Ok(Prepared::new(name, desk)?.start(agent, None))
    }

    /// The name of a worker whose thread has ended, which it should not have.
    pub(super) fn died(&self) -> Option<&'static str> {
        self.thread.is_finished().then_some(self.name)
    }

    /// Tells it to end once it has obeyed what it was ordered before.
    pub(super) fn stop(&self) {
        self.desk.0.send(Message::Stop);
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

    #[test]
    fn a_successor_begins_when_its_predecessor_has_ended_and_one_that_is_not_started_changes_nothing()
     {
        let (said, heard) = channel();
        let counter = |sum| Counter { sum, said: said.clone() };
        let old = Worker::start("counter", counter(1), desk().unwrap()).unwrap();
        assert_eq!(heard.recv(), Ok(1));
        drop(Prepared::<Counter>::new("counter", desk().unwrap()).unwrap());
        old.desk.order(2);
        assert_eq!(heard.recv(), Ok(3));
        assert_eq!(old.died(), None);
        let next = Prepared::<Counter>::new("counter", desk().unwrap()).unwrap();
        next.desk.order(100);
        old.desk.order(4);
        let next = next.start(counter(1000), Some(old));
        assert_eq!(next.died(), None);
        next.end();
        let all: Vec<u32> = heard.try_iter().collect();
        let first = all.iter().position(|sum| *sum >= 1000).unwrap();
        assert!(all[..first].ends_with(&[7]) && all[first..].iter().all(|s| *s == 1100), "{all:?}");
    }
}
