//! Runs hooks as [`HooksState`] decides: reads the directory, starts programs, and kills them.

use std::os::fd::BorrowedFd;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::directory;
use super::messages::{HookMessage, HooksView};
use super::state::{HookAction, HooksState};
use crate::clock::Instant;
use crate::daemon::messages::MainMessage;
use crate::daemon::worker::Driven;
use crate::program::{self, Printed, Program, RunningProgram, printable};
use crate::settings::HookSettings;
use crate::wake::Outbox;

/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What runs the hooks of a node.
pub(in crate::daemon) struct HookRunner {
    state: HooksState,
    settings: HookSettings,
    running: Option<RunningProgram>,
    /// Who waits until everything is over.
    finish: Option<Sender<()>>,
    main: Outbox<MainMessage>,
}

impl HookRunner {
    pub(in crate::daemon) fn new(
        node: u32,
        settings: HookSettings,
        main: Outbox<MainMessage>,
    ) -> HookRunner {
        let state = HooksState::new(node, settings.timeout);
        let runner = HookRunner { state, settings, running: None, finish: None, main };
        // What is refused is said before it is missed.
        runner.read();
        runner
    }

    /// The names of the hooks; logs what is refused.
    fn read(&self) -> Vec<String> {
        let directory = &self.settings.dir;
        let files = directory::read(directory);
        if let Some(problem) = &files.problem {
            warn!("no hook is run: {problem}");
        }
        for refused in &files.refused {
            let path = directory.join(&refused.name);
            warn!("{} is not run as a hook: {}", path.display(), refused.reason);
        }
        files.names
    }

    fn carry_out(&mut self, action: HookAction) {
        match action {
            HookAction::Read => {
                let names = self.read();
                self.state.listed(names);
            }
            HookAction::Start { name, event, document } => {
                let path = self.settings.dir.join(&name);
                let started = program::start(&Program {
                    path: &path.to_string_lossy(),
                    arguments: &[event.name().to_owned()],
                    environment: &[],
                    input: Some(&document),
                    user: self.settings.user.as_deref(),
                    reads: Printed::Errors,
                });
                match started {
                    Ok(running) => self.running = Some(running),
                    Err(reason) => self.state.ended(Some(reason), Instant::now()),
                }
            }
            HookAction::Kill => {
                let ended = self.running.take().map(RunningProgram::finish);
                let line = ended.and_then(Result::ok).and_then(|ended| ended.first_line());
                self.state.killed(line.map(|line| printable(&line)), Instant::now());
            }
            // A main thread that is gone ends this one too.
            HookAction::Tell(number) => drop(self.main.send(MainMessage::HooksEnded(number))),
        }
    }

    /// Looks whether the hook that runs has ended.
    fn look(&mut self) {
        let Some(running) = &mut self.running else { return };
        let looked = running.look();
        if let Ok(false) = looked {
            return;
        }
        let ended = self.running.take().map(RunningProgram::finish);
        let failure = match ended {
            Some(Ok(ended)) => ended.failure().map(|failure| printable(&failure)),
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        };
        self.state.ended(failure, Instant::now());
    }

    fn view(&self) -> HooksView {
        let files = directory::read(&self.settings.dir);
        HooksView {
            directory: self.settings.dir.display().to_string(),
            problem: files.problem,
            refused: files.refused,
            ..self.state.view(files.names)
        }
    }
}

impl Driven for HookRunner {
    type Message = HookMessage;

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.running.as_ref().map_or_else(Vec::new, RunningProgram::fds)
    }

    fn timeout(&self, now: Instant) -> Duration {
        self.state.due().map_or(IDLE, |due| due.saturating_duration_since(now))
    }

    fn handle(&mut self, message: HookMessage, now: Instant) {
        match message {
            HookMessage::Role(change) => self.state.role_changed(change, SystemTime::now()),
            HookMessage::Quorum(change) => self.state.quorum_changed(change, SystemTime::now()),
            HookMessage::Finish(done) => {
                self.state.finish(now);
                self.finish = Some(done);
            }
            // The program that asked may have given up waiting.
            HookMessage::View(reply) => drop(reply.send(self.view())),
        }
    }

    fn step(&mut self, now: Instant) {
        self.look();
        let mut now = now;
        while let Some(action) = self.state.next(now) {
            self.carry_out(action);
            now = Instant::now();
        }
        if self.state.is_idle()
            && let Some(done) = self.finish.take()
        {
            // It may have waited long enough.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests;
