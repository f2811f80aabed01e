//! A thread that drives one agent: poll, step, and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tracing::error;

use crate::clock::Instant;
use crate::wake::{Inbox, Outbox, channel};

/// An agent that a worker drives. It owns its state, and is told what to do by messages alone.
pub(super) trait Driven: Send + 'static {
    type Message: Send + 'static;

    /// The descriptors whose readability asks for a step.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;
    /// How long a step may wait.
    fn timeout(&self, now: Instant) -> Duration;
    fn handle(&mut self, message: Self::Message, now: Instant);
    fn step(&mut self, now: Instant);
}

enum WorkerMessage<O> {
    Message(O),
    /// Show that it takes its messages.
    Answer(Box<dyn FnOnce() + Send>),
    Stop,
}

/// The sending end of a worker's messages. The thread may start later.
pub(super) struct WorkerInbox<O>(Outbox<WorkerMessage<O>>);

impl<O> Clone for WorkerInbox<O> {
    fn clone(&self) -> WorkerInbox<O> {
        WorkerInbox(self.0.clone())
    }
}

impl<O> WorkerInbox<O> {
    /// Sends a message. One that comes too late for its agent is lost.
    pub(super) fn send(&self, message: O) {
        self.0.send(WorkerMessage::Message(message));
    }
}

/// The receiving end of a worker's messages.
pub(super) struct WorkerQueue<O>(Inbox<WorkerMessage<O>>);

/// The two ends, for a worker that is still to be started.
pub(super) fn inbox<O>() -> Result<(WorkerInbox<O>, WorkerQueue<O>), Errno> {
    let (outbox, inbox) = channel()?;
    Ok((WorkerInbox(outbox), WorkerQueue(inbox)))
}

/// A running worker.
pub(super) struct Worker<O> {
    name: &'static str,
    pub(super) inbox: WorkerInbox<O>,
    thread: JoinHandle<()>,
}

/// A worker whose thread waits for its agent: once there is one, nothing can fail any more that
/// would leave the worker before it without a successor.
pub(super) struct Prepared<A: Driven> {
    name: &'static str,
    pub(super) inbox: WorkerInbox<A::Message>,
    thread: JoinHandle<()>,
    agent: mpsc::Sender<(A, Option<JoinHandle<()>>)>,
}

impl<A: Driven> Prepared<A> {
    /// A thread that waits. It ends if this is dropped.
    pub(super) fn new(
        name: &'static str,
        (inbox, queue): (WorkerInbox<A::Message>, WorkerQueue<A::Message>),
    ) -> std::io::Result<Prepared<A>> {
        let (agent, given) = mpsc::channel::<(A, Option<JoinHandle<()>>)>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let Ok((agent, before)) = given.recv() else { return };
            if let Some(before) = before {
                // A thread that panicked has said so.
                let _ = before.join();
            }
            if let Err(errno) = drive(agent, &queue.0) {
                error!("the {name}'s thread: {errno}");
            }
        })?;
        Ok(Prepared { name, inbox, thread, agent })
    }

    /// Starts it: the messages that wait come before its first step. The worker before it, if
    /// there is one, is told to stop, and has ended before that; the caller waits for neither.
    pub(super) fn start(self, agent: A, before: Option<Worker<A::Message>>) -> Worker<A::Message> {
        let Prepared { name, inbox, thread, agent: give } = self;
        let before = before.map(|before| {
            before.inbox.0.send(WorkerMessage::Stop);
            before.thread
        });
        // Its thread waits for nothing else.
        let _ = give.send((agent, before));
        Worker { name, inbox, thread }
    }
}

impl<O: Send + 'static> Worker<O> {
    /// Starts one that has none before it.
    pub(super) fn start<A: Driven<Message = O>>(
        name: &'static str,
        agent: A,
        inbox: (WorkerInbox<O>, WorkerQueue<O>),
    ) -> std::io::Result<Worker<O>> {
        Ok(Prepared::new(name, inbox)?.start(agent, None))
    }

    /// The name of a worker whose thread has ended, which it should not have.
    pub(super) fn died(&self) -> Option<&'static str> {
        self.thread.is_finished().then_some(self.name)
    }

    /// Has its thread call this once it has done what it was told before; its name.
    pub(super) fn ask(&self, answer: impl FnOnce(&'static str) + Send + 'static) -> &'static str {
        let name = self.name;
        self.inbox.0.send(WorkerMessage::Answer(Box::new(move || answer(name))));
        name
    }

    /// Tells it to end once it has done what it was told before.
    pub(super) fn stop(&self) {
        self.inbox.0.send(WorkerMessage::Stop);
    }

    /// Ends it once it has done what it was told before.
    pub(super) fn end(self) {
        self.inbox.0.send(WorkerMessage::Stop);
        // A thread that panicked has said so.
        let _ = self.thread.join();
    }
}

/// Drives an agent until it is told to stop, or polling fails for good.
fn drive<A: Driven>(mut agent: A, inbox: &Inbox<WorkerMessage<A::Message>>) -> Result<(), Errno> {
    loop {
        for message in inbox.take() {
            match message {
                WorkerMessage::Message(message) => agent.handle(message, Instant::now()),
                WorkerMessage::Answer(answer) => answer(),
                // What it was told last is to be done, not only received.
                WorkerMessage::Stop => {
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

    impl Driven for Counter {
        type Message = u32;
        fn fds(&self) -> Vec<BorrowedFd<'_>> {
            vec![]
        }
        fn timeout(&self, _: Instant) -> Duration {
            Duration::from_secs(60)
        }
        fn handle(&mut self, message: u32, _: Instant) {
            self.sum += message;
        }
        fn step(&mut self, _: Instant) {
            let _ = self.said.send(self.sum);
        }
    }

    #[test]
    fn messages_that_wait_are_handled_before_the_first_step_and_all_before_the_end() {
        let (said, heard) = channel();
        let (inbox, queue) = inbox().unwrap();
        inbox.send(1);
        inbox.send(2);
        let worker = Worker::start("counter", Counter { sum: 0, said }, (inbox, queue)).unwrap();
        assert_eq!(heard.recv(), Ok(3));
        worker.inbox.send(4);
        assert_eq!(heard.recv(), Ok(7));
        assert_eq!(worker.died(), None);
        worker.inbox.send(5);
        worker.end();
        assert_eq!(heard.iter().last(), Some(12));
    }

    #[test]
    fn a_worker_answers_once_it_takes_its_messages_and_not_while_it_hangs() {
        struct Hanging(mpsc::Receiver<()>);
        impl Driven for Hanging {
            type Message = ();
            fn fds(&self) -> Vec<BorrowedFd<'_>> {
                vec![]
            }
            fn timeout(&self, _: Instant) -> Duration {
                Duration::from_secs(60)
            }
            fn handle(&mut self, (): (), _: Instant) {
                let _ = self.0.recv();
            }
            fn step(&mut self, _: Instant) {}
        }
        let (release, hangs) = channel();
        let worker = Worker::start("table", Hanging(hangs), inbox().unwrap()).unwrap();
        let (answer, answers) = channel();
        let ask = |round| {
            let answer = answer.clone();
            worker.ask(move |name| answer.send((name, round)).unwrap())
        };
        assert_eq!(ask(1), "table");
        assert_eq!(answers.recv(), Ok(("table", 1)));
        worker.inbox.send(());
        ask(2);
        assert!(answers.recv_timeout(Duration::from_millis(20)).is_err());
        release.send(()).unwrap();
        assert_eq!(answers.recv(), Ok(("table", 2)));
        worker.end();
    }

    #[test]
    fn a_successor_begins_when_the_one_before_has_ended_and_one_that_is_not_started_changes_nothing()
     {
        let (said, heard) = channel();
        let counter = |sum| Counter { sum, said: said.clone() };
        let old = Worker::start("counter", counter(1), inbox().unwrap()).unwrap();
        assert_eq!(heard.recv(), Ok(1));
        drop(Prepared::<Counter>::new("counter", inbox().unwrap()).unwrap());
        old.inbox.send(2);
        assert_eq!(heard.recv(), Ok(3));
        assert_eq!(old.died(), None);
        let next = Prepared::<Counter>::new("counter", inbox().unwrap()).unwrap();
        next.inbox.send(100);
        old.inbox.send(4);
        let next = next.start(counter(1000), Some(old));
        assert_eq!(next.died(), None);
        next.end();
        let all: Vec<u32> = heard.try_iter().collect();
        let first = all.iter().position(|sum| *sum >= 1000).unwrap();
        assert!(all[..first].ends_with(&[7]) && all[first..].iter().all(|s| *s == 1100), "{all:?}");
    }
}
