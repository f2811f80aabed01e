//! Servers that come and go: counted, damped, and let in again. Pure.
//!
//! A close that a node reports always counts: a server that does not listen is out. Only coming back
//! is slowed down: a server that left more often within a minute than its service allows has to
//! listen for a while before it gets new connections again. Without that, each of its lives
//! would cost the clients that were sent to it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::serial::pairs;
use crate::store::ServiceKey;

/// Leaves are counted over this long.
pub const WINDOW: Duration = Duration::from_secs(60);

/// One node's server of one service.
pub type ServerKey = (ServiceKey, u32);

/// What a service allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often a server may leave within [`WINDOW`]; 0: without a limit.
    pub leaves: u32,
    /// How long a damped server has to listen.
    pub hold: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { leaves: 5, hold: Duration::from_secs(10) }
    }
}

/// Servers that left lately, and those that are damped.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flaps {
    #[serde(with = "pairs")]
    servers: BTreeMap<ServerKey, Flap>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Flap {
    /// When it left, within [`WINDOW`], in order.
    left: Vec<Instant>,
    state: FlapState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
enum FlapState {
    #[default]
    Calm,
    /// It left too often, and does not listen.
    Out,
    /// It left too often, and has to listen until then.
    Held { until: Instant },
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlapEvent {
    /// It left; too often, or not.
    Left { too_often: bool },
    /// It listens.
    Joined { hold: Duration },
    /// Time passed.
    Tick,
}

impl FlapState {
    /// The transition function.
    fn next(self, event: FlapEvent, now: Instant) -> FlapState {
        match (self, event) {
            (FlapState::Calm, FlapEvent::Left { too_often: true }) => FlapState::Out,
            (FlapState::Held { .. }, FlapEvent::Left { .. }) => FlapState::Out,
            (FlapState::Out, FlapEvent::Joined { hold }) => FlapState::Held { until: now + hold },
            (FlapState::Held { until }, FlapEvent::Tick) if now >= until => FlapState::Calm,
            (state, _) => state,
        }
    }
}

/// What `status` shows of a damped server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damped {
    /// How often it left within [`WINDOW`].
    pub leaves: u32,
    /// How long it still has to listen; `None` while it does not.
    pub left: Option<Duration>,
}

impl Flaps {
    /// A server left.
    pub fn left(&mut self, server: ServerKey, limits: Limits, now: Instant) {
        let flap = self.servers.entry(server).or_default();
        flap.left.retain(|at| now.duration_since(*at) < WINDOW);
        flap.left.push(now);
        let too_often = limits.leaves > 0 && flap.left.len() > limits.leaves as usize;
        flap.state = flap.state.next(FlapEvent::Left { too_often }, now);
    }

    /// A server listens. A node whose limits were lifted meanwhile is held no longer.
    pub fn joined(&mut self, server: ServerKey, limits: Limits, now: Instant) {
        if let Some(flap) = self.servers.get_mut(&server) {
            let hold = if limits.leaves > 0 { limits.hold } else { Duration::ZERO };
            flap.state = flap.state.next(FlapEvent::Joined { hold }, now);
        }
    }

    /// Lets in servers that have listened long enough, and forgets old leaves; gives the services that
    /// this changes.
    pub fn tick(&mut self, now: Instant) -> Vec<ServiceKey> {
        let mut released = Vec::new();
        self.servers.retain(|(service, _), flap| {
            let before = flap.state;
            flap.state = before.next(FlapEvent::Tick, now);
            if flap.state != before {
                released.push(*service);
            }
            flap.left.retain(|at| now.duration_since(*at) < WINDOW);
            flap.state != FlapState::Calm || !flap.left.is_empty()
        });
        released
    }

    /// When [`Flaps::tick`] is to be called, at the latest.
    pub fn next_tick(&self) -> Option<Instant> {
        let until = |flap: &Flap| match flap.state {
            FlapState::Held { until } => Some(until),
            FlapState::Calm => flap.left.last().map(|at| *at + WINDOW),
            FlapState::Out => None,
        };
        self.servers.values().filter_map(until).min()
    }

    /// A server that is damped.
    pub fn damped(&self, server: ServerKey, now: Instant) -> Option<Damped> {
        let flap = self.servers.get(&server)?;
        let leaves = u32::try_from(flap.left.len()).unwrap_or(u32::MAX);
        match flap.state {
            FlapState::Calm => None,
            FlapState::Out => Some(Damped { leaves, left: None }),
            FlapState::Held { until } => {
                Some(Damped { leaves, left: Some(until.saturating_duration_since(now)) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::desired::testing::key;
    use super::*;
    use crate::protocol::Protocol;

    const LIMITS: Limits = Limits { leaves: 2, hold: Duration::from_secs(10) };

    fn web() -> ServerKey {
        (key(Protocol::Tcp, 80), 3)
    }

    #[test]
    fn every_state_takes_every_event() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let (calm, out, held) = (FlapState::Calm, FlapState::Out, FlapState::Held { until: later });
        let too_often = FlapEvent::Left { too_often: true };
        let now_and_then = FlapEvent::Left { too_often: false };
        let joined = FlapEvent::Joined { hold: Duration::from_secs(10) };
        for (state, event, at, next) in [
            (calm, now_and_then, now, calm),
            (calm, too_often, now, out),
            (calm, joined, now, calm),
            (calm, FlapEvent::Tick, now, calm),
            (out, now_and_then, now, out),
            (out, too_often, now, out),
            (out, joined, now, held),
            (out, FlapEvent::Tick, later, out),
            (held, now_and_then, now, out),
            (held, too_often, now, out),
            (held, joined, later, held),
            (held, FlapEvent::Tick, now, held),
            (held, FlapEvent::Tick, later, calm),
        ] {
            assert_eq!(state.next(event, at), next, "{state:?}, {event:?}");
        }
    }

    #[test]
    fn a_server_that_leaves_too_often_has_to_listen_before_it_is_let_in() {
        let (mut flaps, start) = (Flaps::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 2] {
            flaps.left(web(), LIMITS, at(second));
            flaps.joined(web(), LIMITS, at(second + 1));
            assert_eq!(flaps.damped(web(), at(second + 1)), None);
        }
        flaps.left(web(), LIMITS, at(4));
        assert_eq!(flaps.damped(web(), at(4)), Some(Damped { leaves: 3, left: None }));
        flaps.joined(web(), LIMITS, at(5));
        let left = Some(Duration::from_secs(10));
        assert_eq!(flaps.damped(web(), at(5)), Some(Damped { leaves: 3, left }));
        assert_eq!(flaps.next_tick(), Some(at(15)));
        assert_eq!(flaps.tick(at(14)), []);
        assert_eq!(flaps.tick(at(15)), [web().0]);
        assert_eq!(flaps.damped(web(), at(15)), None);
    }

    #[test]
    fn a_restart_now_and_then_is_never_damped() {
        let (mut flaps, start) = (Flaps::default(), Instant::now());
        for minute in 0..100 {
            let now = start + minute * WINDOW / 2;
            flaps.tick(now);
            flaps.left(web(), LIMITS, now);
            flaps.joined(web(), LIMITS, now);
            assert_eq!(flaps.damped(web(), now), None);
        }
        flaps.tick(start + 100 * WINDOW);
        assert_eq!(flaps, Flaps::default(), "nothing is kept of a server that is calm");
    }

    #[test]
    fn without_a_limit_no_server_is_damped() {
        let (mut flaps, now) = (Flaps::default(), Instant::now());
        let none = Limits { leaves: 0, ..LIMITS };
        (0..100).for_each(|_| flaps.left(web(), none, now));
        assert_eq!(flaps.damped(web(), now), None);
    }
}
