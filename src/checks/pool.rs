//! A few threads for work that blocks: made when there is work, gone when there was none for a
//! while.
//!
//! It knows nothing of checks. There is no queue: the caller sees to it that
//! no more is given than there may be threads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Threads that do jobs. Dropping it lets every thread go as soon as its job is done.
pub(super) struct Pool<J> {
    shared: Arc<PoolShared<J>>,
}

struct PoolShared<J> {
    state: Mutex<PoolState<J>>,
    wake: Condvar,
    work: Box<dyn Fn(J) + Send + Sync>,
    limit: usize,
    /// How long a thread waits for a job before it goes.
    patience: Duration,
}

struct PoolState<J> {
    jobs: VecDeque<J>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl<J> PoolShared<J> {
    /// No job runs under the lock, so a thread that panicked left it as it should be.
    fn lock(&self) -> MutexGuard<'_, PoolState<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Send + 'static> Pool<J> {
    /// No threads yet, and never more than the limit.
    pub(super) fn new(
        limit: usize,
        patience: Duration,
        work: impl Fn(J) + Send + Sync + 'static,
    ) -> Pool<J> {
        let state = PoolState { jobs: VecDeque::new(), threads: 0, idle: 0, closed: false };
        let (state, wake, work) = (Mutex::new(state), Condvar::new(), Box::new(work));
        Pool { shared: Arc::new(PoolShared { state, wake, work, limit, patience }) }
    }

    /// The most threads.
    pub(super) fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Gives a job to a thread.
    ///
    /// # Errors
    /// None is free and none can be made: the job, and why.
    pub(super) fn give(&self, job: J) -> Result<(), (J, std::io::Error)> {
        let mut state = self.shared.lock();
        if state.idle <= state.jobs.len() && state.threads < self.shared.limit {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("cvip-check".to_owned());
            if let Err(error) = thread.spawn(move || serve(&shared)) {
                return Err((job, error));
            }
            state.threads += 1;
        }
        state.jobs.push_back(job);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl<J> Drop for Pool<J> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.jobs.clear();
        self.shared.wake.notify_all();
    }
}

/// What a thread does all its life.
fn serve<J>(shared: &PoolShared<J>) {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            // The hook has told of a panic; the other jobs still want their thread.
            let _ = catch_unwind(AssertUnwindSafe(|| (shared.work)(job)));
            state = shared.lock();
            continue;
        }
        if state.closed {
            break;
        }
        state.idle += 1;
        let (woken, wait) = shared
            .wake
            .wait_timeout(state, shared.patience)
            .unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if wait.timed_out() && state.jobs.is_empty() {
            break;
        }
    }
    state.threads -= 1;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::clock::Instant;

    const LONG: Duration = Duration::from_secs(60);

    /// A pool whose jobs tell that they began and wait until they are let go.
    fn pool(limit: usize, patience: Duration) -> (Pool<Receiver<()>>, Receiver<()>) {
        let (began, begun) = channel();
        let pool = Pool::new(limit, patience, move |gate: Receiver<()>| {
            began.send(()).unwrap();
            // An error: let go by being dropped.
            let _ = gate.recv();
        });
        (pool, begun)
    }

    fn give(pool: &Pool<Receiver<()>>) -> Sender<()> {
        let (open, gate) = channel();
        pool.give(gate).unwrap();
        open
    }

    fn threads<J>(shared: &PoolShared<J>) -> usize {
        shared.lock().threads
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < deadline, "it did not come");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn threads_are_made_when_there_is_work_and_no_more_than_allowed() {
        let (pool, begun) = pool(2, LONG);
        assert_eq!(threads(&pool.shared), 0);
        let gates: Vec<Sender<()>> = (0..3).map(|_| give(&pool)).collect();
        for _ in 0..2 {
            begun.recv_timeout(LONG).unwrap();
        }
        assert_eq!(threads(&pool.shared), 2);
        assert!(begun.recv_timeout(Duration::from_millis(20)).is_err(), "a third at once");
        drop(gates);
        begun.recv_timeout(LONG).unwrap();
        wait_until(|| pool.shared.lock().idle == 2);
        // One that is idle is enough for one job.
        drop(give(&pool));
        begun.recv_timeout(LONG).unwrap();
        assert_eq!(threads(&pool.shared), 2);
    }

    #[test]
    fn a_thread_without_work_goes_and_another_comes() {
        let (pool, begun) = pool(2, Duration::from_millis(1));
        for _ in 0..2 {
            drop(give(&pool));
            begun.recv_timeout(LONG).unwrap();
            wait_until(|| threads(&pool.shared) == 0);
        }
    }

    #[test]
    fn dropping_the_pool_lets_idle_threads_go_at_once_and_busy_ones_after_their_job() {
        let (pool, begun) = pool(2, LONG);
        let shared = Arc::clone(&pool.shared);
        let busy = give(&pool);
        drop(give(&pool));
        for _ in 0..2 {
            begun.recv_timeout(LONG).unwrap();
        }
        drop(pool);
        wait_until(|| threads(&shared) == 1);
        drop(busy);
        wait_until(|| threads(&shared) == 0);
    }

    #[test]
    fn a_job_that_panics_costs_no_thread() {
        let (done, told) = channel();
        let pool = Pool::new(1, LONG, move |panics: bool| {
            assert!(!panics, "as this test wants it");
            done.send(()).unwrap();
        });
        pool.give(true).unwrap();
        pool.give(false).unwrap();
        told.recv_timeout(LONG).unwrap();
        assert_eq!(threads(&pool.shared), 1);
    }
}
