//! The connection to one of etcd's servers, made anew whenever it fails: the twin of cvipd's
//! `link.rs` and `session.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use cvip::cores::{
    ATTEMPT_WITHIN, EtcdFailure, PAUSES, PING_EVERY, PING_WITHIN, STAGGER, Unavailable,
};

use super::client::{Purpose, StoreClient};
use super::messages::{Answer, Ask, Reply, Request};
use crate::time::SimTime;

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    /// The next message.
    next: u64,
    /// Messages that came before their turn.
    early: BTreeMap<u64, Answer>,
    /// When something came last.
    heard: SimTime,
    /// Until when a ping is to be answered.
    ping: Option<SimTime>,
}

/// What is done for a session.
#[derive(Debug)]
enum Stage {
    /// Servers are tried in turn.
    Establishing { tried: usize, next_at: SimTime },
    /// The next round waits.
    Pausing { until: SimTime },
    /// There is one, since then.
    Up { since: SimTime },
}

/// The session that requests go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) generation: u64,
    pub(super) server: usize,
    pub(super) connection: u64,
}

/// How the link stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Connecting,
    Up(Session),
    Unavailable(Unavailable),
}

#[derive(Debug)]
pub(super) struct Link {
    servers: usize,
    first: usize,
    generation: u64,
    pause: Duration,
    pub(super) phase: Phase,
    stage: Stage,
    /// What the servers of this round said.
    reasons: Vec<String>,
    /// When a server last answered; the start, if none ever did.
    pub(super) heard: SimTime,
    /// By server.
    pub(super) connections: BTreeMap<usize, Connection>,
    last_connection: u64,
}

impl Link {
    pub(super) fn new(servers: usize, first: usize, now: SimTime) -> Link {
        Link {
            servers,
            first,
            generation: 1,
            pause: PAUSES.0,
            phase: Phase::Connecting,
            stage: Stage::Establishing { tried: 0, next_at: now },
            reasons: Vec::new(),
            heard: now,
            connections: BTreeMap::new(),
            last_connection: 0,
        }
    }

    pub(super) fn session(&self) -> Option<Session> {
        match self.phase {
            Phase::Up(session) => Some(session),
            _ => None,
        }
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> SimTime {
        let stage = match self.stage {
            Stage::Establishing { tried, next_at } if tried < self.servers => next_at,
            Stage::Pausing { until } => until,
            _ => SimTime::NEVER,
        };
        let pings = self.connections.values().map(|connection| connection.due());
        pings.min().map_or(stage, |ping| ping.min(stage))
    }

    /// The answers of a connection that are due, in order.
    pub(super) fn in_order(&mut self, answer: Answer, now: SimTime) -> Vec<Answer> {
        let Some(connection) = self.connections.get_mut(&answer.server) else {
            return Vec::new();
        };
        if connection.number != answer.connection {
            return Vec::new();
        }
        if let Reply::Reset = answer.reply {
            return vec![answer];
        }
        if answer.number >= connection.next {
            connection.early.insert(answer.number, answer);
        }
        let mut due = Vec::new();
        while let Some(answer) = connection.early.remove(&connection.next) {
            connection.next += 1;
            due.push(answer);
        }
        if !due.is_empty() {
            connection.heard = now;
        }
        due
    }
}

impl Connection {
    fn due(&self) -> SimTime {
        self.ping.unwrap_or(self.heard + PING_EVERY)
    }
}

impl StoreClient {
    /// Connects to servers in turn, and pings.
    pub(super) fn tick_link(&mut self, now: SimTime) {
        if let Stage::Pausing { until } = self.link.stage
            && now >= until
        {
            self.link.reasons.clear();
            self.link.stage = Stage::Establishing { tried: 0, next_at: now };
        }
        self.try_next(now);
        let due: Vec<usize> = self
            .link
            .connections
            .iter()
            .filter(|(_, c)| c.due() <= now)
            .map(|(server, _)| *server)
            .collect();
        for server in due {
            let Some(connection) = self.link.connections.get_mut(&server) else { continue };
            match connection.ping {
                Some(_) => self.broken(server, "a ping was not answered", now),
                None => {
                    connection.ping = Some(now + PING_WITHIN);
                    let number = connection.number;
                    self.request(server, number, Ask::Ping, SimTime::NEVER, Purpose::Ping(server));
                }
            }
        }
    }

    /// The next server of a round, if it is its turn.
    fn try_next(&mut self, now: SimTime) {
        let Stage::Establishing { tried, next_at } = self.link.stage else { return };
        if tried >= self.link.servers || now < next_at {
            return;
        }
        let server = (self.link.first + tried) % self.link.servers;
        self.link.stage = Stage::Establishing { tried: tried + 1, next_at: now + STAGGER };
        self.link.last_connection += 1;
        let number = self.link.last_connection;
        let connection =
            Connection { number, next: 0, early: BTreeMap::new(), heard: now, ping: None };
        self.link.connections.insert(server, connection);
        let deadline = now + ATTEMPT_WITHIN;
        self.request(server, number, Ask::Connect, deadline, Purpose::Attempt(server));
    }

    /// A server lets us connect, or does not.
    pub(super) fn attempted(
        &mut self,
        server: usize,
        outcome: Result<(), EtcdFailure>,
        now: SimTime,
    ) {
        let Stage::Establishing { tried, .. } = self.link.stage else { return };
        match outcome {
            Ok(()) => {
                let Some(connection) = self.link.connections.get(&server) else { return };
                let session = Session {
                    generation: self.link.generation,
                    server,
                    connection: connection.number,
                };
                self.link.first = server;
                self.link.phase = Phase::Up(session);
                self.link.stage = Stage::Up { since: now };
                let others: Vec<usize> =
                    self.link.connections.keys().copied().filter(|it| *it != server).collect();
                for other in others {
                    self.close(other);
                }
                self.link_changed(now);
            }
            Err(failure) => {
                self.close(server);
                self.link.reasons.push(format!("server {server}: {failure}"));
                if tried < self.link.servers {
                    self.link.stage = Stage::Establishing { tried, next_at: now };
                    self.try_next(now);
                } else if self.link.connections.is_empty() {
                    let reason = self.link.reasons.join("; ");
                    let since = self.link.heard.instant();
                    self.link.phase = Phase::Unavailable(Unavailable { since, reason });
                    // Not all nodes at the same moment.
                    let spread = u32::try_from(75 + self.random.within(0..50)).unwrap_or(100);
                    let until = now + self.link.pause * spread / 100;
                    self.link.stage = Stage::Pausing { until };
                    self.link.pause = (self.link.pause * 2).min(PAUSES.1);
                    self.link_changed(now);
                }
            }
        }
    }

    /// A connection is no good any more.
    pub(super) fn broken(&mut self, server: usize, reason: &str, now: SimTime) {
        let failure = EtcdFailure::Session(reason.to_owned());
        match self.link.session() {
            Some(session) if session.server == server => {
                self.fail_session(session.generation, now);
                self.failed_calls(session.connection, &failure, now);
            }
            _ => {
                if let Some(connection) = self.link.connections.get(&server) {
                    self.failed_calls(connection.number, &failure, now);
                }
            }
        }
    }

    /// Says what failed on a session. One that is slow, and still answers others, is kept.
    pub(super) fn report(&mut self, generation: u64, failure: &EtcdFailure, now: SimTime) {
        let is_no_good = match failure {
            EtcdFailure::Session(_) => true,
            EtcdFailure::Late(_) => now.since(self.link.heard) >= self.settings.timeout,
            _ => false,
        };
        let current = self.link.session().filter(|session| session.generation == generation);
        if let Some(session) = current.filter(|_| is_no_good) {
            self.fail_session(generation, now);
            let failure = EtcdFailure::Session("the connection was given up".to_owned());
            self.failed_calls(session.connection, &failure, now);
        }
    }

    fn fail_session(&mut self, generation: u64, now: SimTime) {
        let (Stage::Up { since }, Some(session)) = (&self.link.stage, self.link.session()) else {
            return;
        };
        let lasted = now.since(*since);
        self.link.phase = Phase::Connecting;
        self.link.generation = generation + 1;
        self.link.first = (session.server + 1) % self.link.servers;
        self.link.reasons.clear();
        // One that lasted starts afresh; one that fails again and again is not hurried.
        if lasted > PAUSES.1 {
            self.link.pause = PAUSES.0;
            self.link.stage = Stage::Establishing { tried: 0, next_at: now };
        } else {
            self.link.stage = Stage::Pausing { until: now + self.link.pause };
            self.link.pause = (self.link.pause * 2).min(PAUSES.1);
        }
        self.close(session.server);
        self.link_changed(now);
    }

    /// Closes a connection. Its requests are not told.
    fn close(&mut self, server: usize) {
        let Some(connection) = self.link.connections.remove(&server) else { return };
        self.next_request += 1;
        let id = self.next_request;
        let request = Request { connection: connection.number, id, ask: Ask::Close };
        self.requests.push((server, request));
    }

    /// A ping was answered.
    pub(super) fn pinged(&mut self, server: usize) {
        if let Some(connection) = self.link.connections.get_mut(&server) {
            connection.ping = None;
        }
    }
}
