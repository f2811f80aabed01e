//! One node's lease in etcd: which leases are this host's, and whose the key is.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{StoredText, StoredValue};
use super::timing::{LOOK_AGAIN, RENEWALS};
use crate::store::value::{self, Value};

/// What stands under a lease's key, for the keeper of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKey {
    /// What we wrote, on our lease.
    Ours,
    /// Nothing, or what a dead holder wrote: it is replaced if its revision is still this one.
    Replace {
        /// The revision; 0 for nothing.
        expected: i64,
    },
    /// Another live holder's.
    Contested {
        /// The other's incarnation; 0 if it cannot be read.
        by: u64,
    },
}

/// The leases that a node's cvipd took.
#[derive(Debug)]
pub struct LeaseState {
    text: Arc<StoredText>,
    incarnation: u64,
    ttl: Duration,
    /// Our own number of it; none before the first, and once it is gone.
    lease: Option<i64>,
    /// Numbers of leases of this and earlier holders of the host's lock: all dead but for `lease`.
    earlier: Vec<i64>,
}

impl LeaseState {
    /// No lease yet. `earlier` is that of the cvipd before on this host, which is dead.
    pub fn new(incarnation: u64, ttl: Duration, earlier: Option<i64>) -> LeaseState {
        let text = StoredText::new(Value::Alive(incarnation).encode());
        LeaseState { text, incarnation, ttl, lease: None, earlier: earlier.into_iter().collect() }
    }

    /// What the key is to say.
    pub fn text(&self) -> &Arc<StoredText> {
        &self.text
    }

    /// Which start of cvipd it is.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// How long a lease lives that is not renewed.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The lease, if there is one.
    pub fn lease(&self) -> Option<i64> {
        self.lease
    }

    /// A new lease was taken.
    pub fn granted(&mut self, lease: i64) {
        self.lease = Some(lease);
        self.earlier.push(lease);
    }

    /// The lease is gone.
    pub fn lost(&mut self) {
        self.lease = None;
    }

    /// Whose the key is.
    pub fn look(&self, stored: Option<&StoredValue>) -> LeaseKey {
        match stored {
            None => LeaseKey::Replace { expected: 0 },
            Some(stored) if Some(stored.lease) == self.lease && stored.text == self.text => {
                LeaseKey::Ours
            }
            // On a lease of a dead holder, or on none at all.
            Some(stored) if stored.lease == 0 || self.earlier.contains(&stored.lease) => {
                LeaseKey::Replace { expected: stored.revision }
            }
            Some(stored) => {
                let alive = value::parse_alive(stored.text.bytes());
                LeaseKey::Contested { by: alive.map_or(0, |alive| alive.incarnation) }
            }
        }
    }

    /// The key is written on our lease: the leases of the dead, which are to be given back.
    pub fn replaced(&mut self) -> Vec<i64> {
        let ours = self.lease;
        let mut dead = std::mem::replace(&mut self.earlier, ours.into_iter().collect());
        dead.retain(|lease| Some(*lease) != ours);
        dead
    }

    /// When the lease is renewed next. While the key is not known to be ours, it is looked at then
    /// too.
    pub fn pause(&self, certain: bool) -> Duration {
        match certain {
            true => self.ttl / RENEWALS,
            false => LOOK_AGAIN.min(self.ttl / RENEWALS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_dead_is_replaced_and_one_of_another_live_holder_never() {
        let stored = |text: &Arc<StoredText>, lease| {
            Some(StoredValue { text: Arc::clone(text), revision: 7, lease })
        };
        let mut state = LeaseState::new(12, Duration::from_secs(9), Some(3));
        let other = StoredText::new(Value::Alive(11).encode());
        assert_eq!(state.look(None), LeaseKey::Replace { expected: 0 });
        state.granted(4);
        let ours = Arc::clone(state.text());
        for (found, means) in [
            (stored(&ours, 4), LeaseKey::Ours),
            (stored(&other, 4), LeaseKey::Replace { expected: 7 }),
            (stored(&other, 3), LeaseKey::Replace { expected: 7 }),
            (stored(&other, 0), LeaseKey::Replace { expected: 7 }),
            (stored(&other, 5), LeaseKey::Contested { by: 11 }),
            (stored(&StoredText::new(b"?".to_vec()), 5), LeaseKey::Contested { by: 0 }),
        ] {
            assert_eq!(state.look(found.as_ref()), means, "{found:?}");
        }
        assert_eq!(state.replaced(), [3]);
        assert!(state.replaced().is_empty());
        // Once it is lost, the key on it is a dead holder's until it is replaced.
        state.lost();
        state.granted(6);
        assert_eq!(state.look(stored(&ours, 4).as_ref()), LeaseKey::Replace { expected: 7 });
        assert_eq!(state.replaced(), [4]);
        assert_eq!(state.pause(true), Duration::from_secs(3));
        assert_eq!(state.pause(false), LOOK_AGAIN);
    }
}
