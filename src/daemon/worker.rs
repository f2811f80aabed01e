//! A thread that drives one agent: poll, step, and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::conf::Conf;
use crate::wake::Inbox;
use crate::{director, node};

/// Where a worker's report goes; none if its pass failed.
pub(super) type Reply = Sender<Option<director::agent::Report>>;

/// What the main thread tells a worker.
pub(super) enum Order {
    /// Take a new configuration.
    Reload(Arc<Conf>),
    /// Take a new configuration, make a full pass by it and say what that did: one order, so
    /// that no pass in between takes the changes for itself.
    Resync(Arc<Conf>, Reply),
    /// End.
    Stop,
}

/// What a worker drives.
pub(super) trait Agent {
    fn fds(&self) -> Vec<BorrowedFd<'_>>;
    fn timeout(&self, now: Instant) -> Duration;
    fn reload(&mut self, conf: Arc<Conf>, now: Instant);
    fn resync(&mut self, now: Instant) -> Option<director::agent::Report>;
    fn step(&mut self, now: Instant);
}

impl Agent for node::Agent {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        node::Agent::fds(self)
    }
    fn timeout(&self, now: Instant) -> Duration {
        node::Agent::timeout(self, now)
    }
    fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        node::Agent::reload(self, conf, now);
    }
    fn resync(&mut self, now: Instant) -> Option<director::agent::Report> {
        self.step(now);
        None
    }
    fn step(&mut self, now: Instant) {
        node::Agent::step(self, now);
    }
}

impl Agent for director::Agent {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        director::Agent::fds(self)
    }
    fn timeout(&self, now: Instant) -> Duration {
        director::Agent::timeout(self, now)
    }
    fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        director::Agent::reload(self, conf, now);
    }
    fn resync(&mut self, now: Instant) -> Option<director::agent::Report> {
        // A failure is logged where it happens.
        self.full_pass(now).ok()
    }
    fn step(&mut self, now: Instant) {
        director::Agent::step(self, now);
    }
}

/// Drives an agent until it is told to stop, or polling fails for good.
pub(super) fn drive(mut agent: impl Agent, inbox: &Inbox<Order>) -> Result<(), Errno> {
    loop {
        for order in inbox.take() {
            match order {
                Order::Reload(conf) => agent.reload(conf, Instant::now()),
                Order::Resync(conf, reply) => {
                    agent.reload(conf, Instant::now());
                    let report = agent.resync(Instant::now());
                    // Whoever asked may have given up waiting.
                    let _ = reply.send(report);
                }
                Order::Stop => return Ok(()),
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
