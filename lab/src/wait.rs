//! Waiting without guessing how long something takes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long anything may take before a test calls it a failure: emulated kernels are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
///
/// # Panics
/// If it is not within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    until_some(what, || is().then_some(()));
}

/// Waits until there is an answer.
///
/// # Panics
/// If there is none within [`PATIENCE`].
#[track_caller]
pub fn until_some<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match wait_until(PATIENCE, ask) {
        Some(answer) => answer,
        None => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Asks again and again until there is an answer, or until the time is up; it asks at least once, and once more at the
/// very end.
pub fn wait_until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    // Short at first, for what is nearly done; a slow emulation must not be kept busy by the asking itself.
    let mut pause = Duration::from_millis(2);
    loop {
        let last = Instant::now() >= deadline;
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if last {
            return None;
        }
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// Asks at this pace, which is for measurements, until it is so; since when.
///
/// # Errors
/// If it is not so within that time, or with the question.
pub fn since_when(
    limit: Duration,
    pace: Duration,
    mut is: impl FnMut() -> Result<bool>,
) -> Result<Instant> {
    let deadline = Instant::now() + limit;
    loop {
        let so = is()?;
        let now = Instant::now();
        if so {
            return Ok(now);
        }
        ensure!(now < deadline, "not within {limit:?}");
        thread::sleep(pace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_ends_the_waiting() {
        let mut asked = 0;
        let answer = wait_until(Duration::from_secs(10), || {
            asked += 1;
            (asked == 3).then_some("here")
        });
        assert_eq!((answer, asked), (Some("here"), 3));
    }

    #[test]
    fn without_an_answer_the_waiting_ends_in_time() {
        let start = Instant::now();
        assert_eq!(wait_until::<()>(Duration::from_millis(20), || None), None);
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn even_without_time_it_is_asked_once() {
        assert_eq!(wait_until(Duration::ZERO, || Some(1)), Some(1));
    }
}
