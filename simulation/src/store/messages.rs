//! What crosses between a cvipd and etcd's servers.

use std::sync::Arc;
use std::time::Duration;

use cvip::cores::{EtcdFailure, StoredText, StoredValue, Swapped};
use cvip::store::layout::KeyRange;

/// A cvipd's process. One that is started again is another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A request to one server.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which of the client's connections; a later one has a higher number.
    pub connection: u64,
    /// Which request of the client; its answer names it.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Opens the connection, and asks for a read that needs a quorum.
    Connect,
    /// Is the server there? It needs no quorum.
    Ping,
    /// Closes the connection. Not answered.
    Close,
    /// Reads ranges of keys at one revision.
    Read(Vec<KeyRange>),
    /// Reads one key.
    Get(Arc<[u8]>),
    /// Replaces a value, if its last revision is still `expected` (0: there is none).
    Swap {
        /// The key.
        key: Arc<[u8]>,
        /// The revision.
        expected: i64,
        /// The new value; `None` removes the key.
        text: Option<Arc<StoredText>>,
        /// The lease that the key is attached to; 0 for none.
        lease: i64,
    },
    /// Takes a lease.
    Grant(Duration),
    /// Renews a lease.
    Renew(i64),
    /// Ends a lease, and removes its keys.
    Revoke(i64),
    /// Watches ranges of keys from a revision on. Answered by events alone.
    Watch {
        /// The ranges.
        ranges: Vec<KeyRange>,
        /// The first revision.
        start: i64,
    },
    /// Ends the watch that this request opened. Not answered.
    Unwatch(u64),
}

/// A message of a server to a client.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The server that answers.
    pub server: usize,
    /// The connection.
    pub connection: u64,
    /// Which message on the connection, from 0.
    pub number: u64,
    /// The request that is answered.
    pub id: u64,
    /// The answer.
    pub reply: Reply,
}

/// What a server answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It is there; the read was done.
    Ready,
    /// There is no such connection: the server is stopped, or was started again.
    Reset,
    /// Everything in the ranges at a revision.
    Values {
        /// The store's revision.
        revision: i64,
        /// The values, in order.
        values: Vec<(Arc<[u8]>, StoredValue)>,
    },
    /// One key.
    Value(Option<StoredValue>),
    /// What became of a swap.
    Swapped(Swapped),
    /// The number of a new lease.
    Granted(i64),
    /// The lease is renewed; false: there is none.
    Renewed(bool),
    /// The lease is ended.
    Revoked,
    /// What changed in the watched ranges.
    Events(Vec<WatchedEvent>),
    /// It was not done.
    Failed(EtcdFailure),
}

/// A change of one key.
#[derive(Clone, Debug)]
pub struct WatchedEvent {
    /// The key.
    pub key: Arc<[u8]>,
    /// The revision of the change.
    pub revision: i64,
    /// The value; `None` where it was removed.
    pub text: Option<Arc<StoredText>>,
}
