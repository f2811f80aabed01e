//! The link to etcd: one session at a time, made anew, perhaps to another server, whenever it
//! fails.
//!
//! One task owns it. All others read its [`Phase`], and reports a session that failed; a
//! report of an older session than the present one is late, and ignored. The link is *unavailable*
//! once no server at all could be had: a change of servers that works is no absence.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::failure::EtcdFailure;
use super::messages::Unavailable;
use super::session::{EtcdSession, LinkCounters};
use super::timing::{ATTEMPT_WITHIN, PAUSES, STAGGER};
use crate::clock::Instant;
use crate::settings::EtcdSettings;

/// How the link stands.
#[derive(Clone)]
pub(super) enum Phase {
    /// A session is being made, and may come.
    Connecting,
    /// There is one.
    Up(EtcdSession),
    /// No server could be had; it is tried again and again.
    Unavailable(Unavailable),
}

/// The link, as all but its task see it.
#[derive(Clone)]
pub(super) struct EtcdLink {
    phase: watch::Receiver<Phase>,
    error: mpsc::UnboundedSender<(u64, String)>,
    pub(super) counters: Arc<LinkCounters>,
    /// How long a request may take.
    patience: Duration,
}

/// The task's end.
pub(super) struct Connector {
    settings: EtcdSettings,
    phase: watch::Sender<Phase>,
    error: mpsc::UnboundedReceiver<(u64, String)>,
    counters: Arc<LinkCounters>,
}

/// Both ends.
pub(super) fn link(settings: &EtcdSettings) -> (EtcdLink, Connector) {
    let (phase, reader) = watch::channel(Phase::Connecting);
    let (reporter, error) = mpsc::unbounded_channel();
    let counters = Arc::new(LinkCounters::new());
    let link = EtcdLink {
        phase: reader,
        error: reporter,
        counters: Arc::clone(&counters),
        patience: settings.timeout,
    };
    (link, Connector { settings: settings.clone(), phase, error, counters })
}

impl EtcdLink {
    /// How it stands now.
    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Says what failed on a session. One that is no good is made anew; one that is slow, and
    /// still answers others, is kept: connecting and reading everything again would make it
    /// slower yet.
    pub(super) fn report(&self, session: &EtcdSession, failure: &EtcdFailure) {
        let reason = match failure {
            EtcdFailure::Session(reason) => reason,
            EtcdFailure::Late(reason) if self.counters.heard().elapsed() >= self.patience => reason,
            _ => return,
        };
        // The task is gone when everything ends.
        let _ = self.error.send((session.generation, reason.clone()));
    }

    /// Waits until the link stands another way than when this was last asked.
    pub(super) async fn changed(&mut self) {
        if self.phase.changed().await.is_err() {
            // The task is gone: everything ends.
            std::future::pending::<()>().await;
        }
    }

    /// The session, however long it takes.
    pub(super) async fn session(&mut self) -> EtcdSession {
        loop {
            if let Phase::Up(session) = &*self.phase.borrow_and_update() {
                return session.clone();
            }
            self.changed().await;
        }
    }

    /// Makes a request on whichever session there is, and on the next one where that fails,
    /// until time is up.
    pub(super) async fn ask<T, F>(
        &self,
        mut request: impl FnMut(EtcdSession) -> F,
    ) -> Result<T, EtcdFailure>
    where
        F: Future<Output = Result<T, EtcdFailure>>,
    {
        let mut link = self.clone();
        let deadline = tokio::time::Instant::now() + self.patience;
        let mut last = None;
        loop {
            let session = match link.phase() {
                Phase::Up(session)
                    if last.as_ref().is_none_or(|(g, _)| session.generation > *g) =>
                {
                    session
                }
                Phase::Unavailable(unavailable) => {
                    return Err(EtcdFailure::Session(unavailable.reason));
                }
                _ => match timeout_at(deadline, link.changed()).await {
                    Ok(()) => continue,
                    Err(_) => {
                        let reason = last.map_or_else(
                            || {
                                format!(
                                    "no answer within {}",
                                    humantime::format_duration(self.patience)
                                )
                            },
                            |(_, reason)| reason,
                        );
                        return Err(EtcdFailure::Session(reason));
                    }
                },
            };
            let failure = match timeout_at(deadline, request(session.clone())).await {
                Ok(Err(failure @ (EtcdFailure::Session(_) | EtcdFailure::Late(_)))) => failure,
                Ok(outcome) => return outcome,
                Err(_) => EtcdFailure::Late(format!(
                    "no answer within {}",
                    humantime::format_duration(self.patience)
                )),
            };
            link.report(&session, &failure);
            last = Some((session.generation, format!("{}: {failure}", session.endpoint)));
        }
    }
}

impl Connector {
    /// Keeps a session, for ever.
    pub(super) async fn run(mut self) {
        // Each process begins with another server, so that the servers share the work.
        let chance = RandomState::new().hash_one(std::process::id());
        let servers = self.settings.endpoints.len();
        let mut first = usize::try_from(chance % servers.max(1) as u64).unwrap_or(0);
        let mut pause = PAUSES.0;
        for generation in 1.. {
            let session = loop {
                match self.establish(first, generation).await {
                    Ok((index, session)) => {
                        first = index;
                        break session;
                    }
                    Err(reason) => {
                        let unavailable = Unavailable { since: self.counters.heard(), reason };
                        if !matches!(&*self.phase.borrow(), Phase::Unavailable(_)) {
                            warn!("etcd cannot be reached: {}", unavailable.reason);
                        }
                        self.phase.send_replace(Phase::Unavailable(unavailable));
                    }
                }
                // Not all nodes at the same moment.
                let spread = 75 + RandomState::new().hash_one(generation) % 50;
                sleep(pause * u32::try_from(spread).unwrap_or(100) / 100).await;
                pause = (pause * 2).min(PAUSES.1);
            };
            match &*self.phase.borrow() {
                Phase::Unavailable(unavailable) => {
                    info!("etcd is back after {:.1} s", unavailable.since.elapsed().as_secs_f32());
                }
                _ => debug!("connected to {}", session.endpoint),
            }
            let since = Instant::now();
            self.phase.send_replace(Phase::Up(session));
            let reason = loop {
                match self.error.recv().await {
                    Some((of, reason)) if of == generation => break reason,
                    Some(_) => {}
                    None => return,
                }
            };
            debug!("the connection to etcd failed: {reason}");
            self.phase.send_replace(Phase::Connecting);
            // One that lasted starts afresh; one that fails again and again is not hurried.
            if since.elapsed() > PAUSES.1 {
                pause = PAUSES.0;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            first = (first + 1) % servers.max(1);
        }
    }

    /// A session to the first server that answers, and that server's index. Servers are tried
    /// in turn; one that is slow is not waited for before the next is tried.
    async fn establish(
        &self,
        first: usize,
        generation: u64,
    ) -> Result<(usize, EtcdSession), String> {
        let endpoints = &self.settings.endpoints;
        let mut order = (0..endpoints.len()).map(|n| (first + n) % endpoints.len()).peekable();
        let mut attempts = JoinSet::new();
        let mut reasons = Vec::new();
        loop {
            if let Some(index) = order.next() {
                let (settings, endpoint) = (self.settings.clone(), endpoints[index].clone());
                let counters = Arc::clone(&self.counters);
                attempts.spawn(async move {
                    let attempt = attempt(&settings, &endpoint, generation, counters);
                    let outcome = match timeout(ATTEMPT_WITHIN, attempt).await {
                        Ok(Ok(session)) => Ok((index, session)),
                        Ok(Err(failure)) => Err(failure.to_string()),
                        Err(_) => Err(format!("no answer within {ATTEMPT_WITHIN:?}")),
                    };
                    outcome.map_err(|reason| format!("{endpoint}: {reason}"))
                });
            }
            let more = order.peek().is_some();
            tokio::select! {
                Some(ended) = attempts.join_next() => match ended {
                    Ok(Ok(session)) => return Ok(session),
                    Ok(Err(reason)) => reasons.push(reason),
                    Err(panicked) => reasons.push(panicked.to_string()),
                },
                () = sleep(STAGGER), if more => {}
            }
            if attempts.is_empty() && !more {
                reasons.dedup();
                return Err(reasons.join("; "));
            }
        }
    }
}

/// Connects to one server, logs in, and sees whether it can answer.
async fn attempt(
    settings: &EtcdSettings,
    endpoint: &str,
    generation: u64,
    counters: Arc<LinkCounters>,
) -> Result<EtcdSession, EtcdFailure> {
    // Read anew each time: certificates and passwords are replaced while cvipd runs.
    let password = settings.password().map_err(|e| EtcdFailure::Session(e.to_string()))?;
    let mut session =
        EtcdSession::connect(settings, endpoint, generation, counters, ATTEMPT_WITHIN).await?;
    if let Some((user, password)) = password {
        match session.log_in(&user, &password).await {
            // A client with full access needs no user.
            Ok(()) | Err(EtcdFailure::NoUsers) => {}
            Err(EtcdFailure::Password) => {
                return Err(EtcdFailure::Session(format!(
                    "{} (user {user}, {})",
                    EtcdFailure::Password,
                    settings.password_file_name()
                )));
            }
            Err(failure) => return Err(failure),
        }
    }
    match session.probe(settings.prefix.as_bytes()).await {
        // Who may read what is said by the requests themselves.
        Ok(()) | Err(EtcdFailure::Denied) => Ok(session.with_patience(settings.timeout)),
        Err(failure) => Err(failure),
    }
}
