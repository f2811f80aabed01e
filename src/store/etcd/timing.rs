//! How long etcd is waited for, and how often it is tried again.

use std::time::Duration;

/// A server that has not answered for so long gets a competitor: the next one is tried too, and
/// whichever answers first is taken.
pub const STAGGER: Duration = Duration::from_millis(500);

/// A server gets so long to let us connect, log in and read a key. Password hashes are slow by
/// design, and after an outage every node asks for one.
pub const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);

/// Pauses between rounds over all servers: the first, and the longest.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A dead connection that is not in use is noticed after this and [`PING_WITHIN`]. etcd takes more
/// than one ping in 5 s for an attack (`--grpc-keepalive-min-time`).
pub const PING_EVERY: Duration = Duration::from_secs(6);

/// How long an answer to a ping may take.
pub const PING_WITHIN: Duration = Duration::from_secs(3);

/// Where reading is refused, or takes too long, it is tried again after this.
pub const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A lease is renewed this many times in its life.
pub(super) const RENEWALS: u32 = 3;

/// Where another one holds a lease's key, it is looked at again after this.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A change that others' changes keep overtaking is given up after so many times the time that
/// one request may take.
pub const OVERTAKEN: u32 = 5;

/// How much longer than a lease lives another host's dead process is waited for.
pub const LEASE_SLACK: Duration = Duration::from_secs(2);
