//! The socket on which heartbeats are heard, and what is logged of it: datagrams that are refused,
//! and ports that another program has.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::clock::Instant;
use crate::heartbeat::{self, Heartbeat, HeartbeatSocket};

/// How often it is logged that heartbeats are refused.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

pub(super) struct HeartbeatReceiver {
    socket: HeartbeatSocket,
    /// Where another program has the port, and which one, as it was logged.
    taken: Vec<String>,
    /// How many heartbeats had been refused when that was last logged, and when that was.
    refused: (u64, Option<Instant>),
}

impl HeartbeatReceiver {
    pub(super) fn new(socket: HeartbeatSocket) -> HeartbeatReceiver {
        HeartbeatReceiver { socket, taken: Vec::new(), refused: (0, None) }
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.socket.fds()
    }

    /// The heartbeats that wait.
    pub(super) fn receive(&mut self, now: Instant) -> Vec<Heartbeat> {
        let heartbeats = self.socket.receive().collect();
        self.tell_refused(now);
        heartbeats
    }

    /// How many datagrams were refused.
    pub(super) fn refused(&self) -> u64 {
        self.socket.counts().refused()
    }

    /// The ports that another program has, as sentences.
    pub(super) fn taken(&self) -> &[String] {
        &self.taken
    }

    /// Logs that heartbeats are refused: at first, and then once in a while.
    fn tell_refused(&mut self, now: Instant) {
        let Some(from) = self.socket.refused_from() else { return };
        let (counted, at) = self.refused;
        let refused = self.socket.counts().forged;
        if refused > counted && at.is_none_or(|at| now >= at + REFUSED_EVERY) {
            self.refused = (refused, Some(now));
            warn!(
                "heartbeats from {from} are refused ({refused} so far): has that machine another \
                 cluster key, or does a stranger send them?"
            );
        }
    }

    /// Asks again for ports that another program has.
    pub(super) fn tend(&mut self) {
        if self.socket.taken().is_empty() && self.taken.is_empty() {
            return;
        }
        if self.socket.tend() {
            info!("heartbeats are heard on ports that another program had");
        }
        let taken = self.socket.taken().iter().map(|address| {
            let who =
                heartbeat::holder(*address).unwrap_or_else(|| "an unknown program".to_owned());
            format!("UDP {address} is taken by {who}")
        });
        let taken: Vec<String> = taken.collect();
        for taken in taken.iter().filter(|taken| !self.taken.contains(taken)) {
            error!(
                "{taken}: no heartbeats are heard there, and nodes are judged by the store and by \
                 probes alone; end that program (it is tried again every second), or set \
                 heartbeat_port in cvip.toml to a port below 1024, which is root's"
            );
        }
        self.taken = taken;
    }
}
