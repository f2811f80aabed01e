//! What a command does, on a terminal, while that takes more than a second.
//!
//! One line on standard error, `cvipctl: examining the cluster ... 3 s`, drawn again each second.
//! It is cleared before the command writes anything, and when the command ends: nothing of it
//! remains.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::clock::Instant;

/// What takes less is not shown; and so often it is drawn again.
const SECOND: Duration = Duration::from_secs(1);

/// To the first column, and clear the line.
const CLEAR: &str = "\r\u{1b}[K";

/// What a command does at the moment; hidden where there is no terminal.
#[derive(Clone)]
pub struct Progress(Option<Arc<Shared>>);

struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

struct Line {
    terminal: Box<dyn Write + Send>,
    /// What is done, and since when.
    task: Option<(String, Instant)>,
    is_drawn: bool,
    has_thread: bool,
}

impl Line {
    fn draw(&mut self, now: Instant) {
        if let Some((text, since)) = &self.task {
            let seconds = now.duration_since(*since).as_secs();
            // A terminal that takes nothing gets nothing.
            let _ = self.terminal.write_all(format!("{CLEAR}{text} ... {seconds} s").as_bytes());
            let _ = self.terminal.flush();
            self.is_drawn = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = self.terminal.write_all(CLEAR.as_bytes());
            let _ = self.terminal.flush();
        }
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws what is done, until the program ends.
    fn draw_each_second(&self) {
        let mut line = self.line();
        loop {
            // Time that has passed is measured, not counted: a changed task wakes too.
            let due = line.task.as_ref().map(|(_, since)| {
                let passed = Instant::now().duration_since(*since).as_millis();
                let within = u64::try_from(passed % SECOND.as_millis()).unwrap_or(0);
                SECOND.saturating_sub(Duration::from_millis(within))
            });
            let Some(due) = due else {
                line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.changed.wait_timeout(line, due);
            let (again, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            line = again;
            if timed_out.timed_out() {
                line.draw(Instant::now());
            }
        }
    }
}

impl Progress {
    /// Shows nothing.
    pub fn hidden() -> Progress {
        Progress(None)
    }

    /// Shows it on a terminal.
    pub fn on(terminal: impl Write + Send + 'static) -> Progress {
        let line =
            Line { terminal: Box::new(terminal), task: None, is_drawn: false, has_thread: false };
        Progress(Some(Arc::new(Shared { line: Mutex::new(line), changed: Condvar::new() })))
    }

    /// From now on, the command does this: `cvipctl: examining the cluster`.
    pub fn begin(&self, task: impl Into<String>) {
        let Some(shared) = &self.0 else { return };
        let mut line = shared.line();
        line.clear();
        line.task = Some((task.into(), Instant::now()));
        if !line.has_thread {
            line.has_thread = true;
            let shared = Arc::clone(shared);
            // Without a thread there is no progress, and all else as it should be.
            let _ = without_signals(|| {
                thread::Builder::new()
                    .name("progress".to_owned())
                    .spawn(move || shared.draw_each_second())
            });
        }
        shared.changed.notify_one();
    }

    /// What is done is said in other words; its time goes on.
    pub fn say(&self, task: impl Into<String>) {
        let Some(shared) = &self.0 else { return };
        let mut line = shared.line();
        if let Some((text, _)) = &mut line.task {
            *text = task.into();
        }
    }

    /// It is done, or shows by itself how far it is.
    pub fn end(&self) {
        let Some(shared) = &self.0 else { return };
        let mut line = shared.line();
        line.clear();
        line.task = None;
    }
}

/// Starts a thread that no signal reaches: a command that holds signals back later answers them
/// itself.
fn without_signals<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = start();
    before.thread_set_mask()?;
    started
}

/// A writer before whose text the progress is cleared.
pub(super) struct Clearing<'a> {
    inner: &'a mut dyn Write,
    progress: &'a Progress,
}

impl<'a> Clearing<'a> {
    pub(super) fn new(inner: &'a mut dyn Write, progress: &'a Progress) -> Clearing<'a> {
        Clearing { inner, progress }
    }

    /// Nothing is drawn in the middle of what is written.
    fn undisturbed<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> T) -> T {
        let mut line = self.progress.0.as_ref().map(|shared| shared.line());
        if let Some(line) = &mut line {
            line.clear();
        }
        write(self.inner)
    }
}

impl Write for Clearing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.undisturbed(|inner| inner.write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.undisturbed(|inner| inner.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.undisturbed(|inner| inner.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that remembers what it got.
    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Terminal {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Draws without waiting for the time to pass.
    fn draw(progress: &Progress, after: Duration) {
        let mut line = progress.0.as_ref().unwrap().line();
        let since = line.task.as_ref().unwrap().1;
        line.draw(since + after);
    }

    #[test]
    fn what_is_done_within_a_second_is_not_shown() {
        let terminal = Terminal::default();
        let progress = Progress::on(terminal.clone());
        progress.begin("x: looking");
        progress.end();
        assert_eq!(terminal.text(), "");
    }

    #[test]
    fn what_takes_longer_is_shown_until_it_ends_and_leaves_nothing() {
        let terminal = Terminal::default();
        let progress = Progress::on(terminal.clone());
        progress.begin("x: looking");
        let deadline = Instant::now() + Duration::from_secs(30);
        while terminal.text().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(terminal.text().starts_with("\r\u{1b}[Kx: looking ... 1 s"), "{}", terminal.text());
        progress.end();
        assert!(terminal.text().ends_with(CLEAR));
    }

    #[test]
    fn what_the_command_writes_stands_on_a_line_of_its_own() {
        let terminal = Terminal::default();
        let progress = Progress::on(terminal.clone());
        let mut same = terminal.clone();
        let mut out = Clearing::new(&mut same, &progress);
        progress.begin("x: looking");
        draw(&progress, 2 * SECOND);
        writeln!(out, "found").unwrap();
        writeln!(out, "again").unwrap();
        progress.say("x: 1 left");
        draw(&progress, 3 * SECOND);
        progress.end();
        let shown = format!(
            "{CLEAR}x: looking ... 2 s{CLEAR}found\nagain\n{CLEAR}x: 1 left ... 3 s{CLEAR}"
        );
        assert_eq!(terminal.text(), shown);
    }

    #[test]
    fn without_a_terminal_nothing_is_shown() {
        let progress = Progress::hidden();
        let mut text = Vec::new();
        progress.begin("x: looking");
        Clearing::new(&mut text, &progress).write_all(b"found\n").unwrap();
        progress.end();
        assert_eq!(text, b"found\n");
    }
}
