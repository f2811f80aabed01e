//! How many connections of which user are answered at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// So many connections of one user are answered at once, and so many of all users but root, whose
/// requests never wait for theirs. Others are told to come again.
pub(super) const OF_ONE: usize = 8;
const OF_ALL: usize = 32;

/// So many connections of root's are answered at once.
const OF_ROOT: usize = 128;

/// How many connections of each user are being answered.
#[derive(Default)]
pub(super) struct Places(Mutex<BTreeMap<u32, usize>>);

/// One of them, until it is dropped.
pub(super) struct ConnectionPlace {
    of: Arc<Places>,
    uid: u32,
}

impl Places {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<u32, usize>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place for one more of a user; none if it has too many already.
    pub(super) fn take(self: &Arc<Places>, uid: u32) -> Option<ConnectionPlace> {
        self.with(|taken| {
            let of_this = taken.get(&uid).copied().unwrap_or(0);
            let of_users: usize = taken.iter().filter(|(uid, _)| **uid != 0).map(|(_, n)| n).sum();
            let is_free = match uid {
                0 => of_this < OF_ROOT,
                _ => of_this < OF_ONE && of_users < OF_ALL,
            };
            is_free.then(|| {
                taken.insert(uid, of_this + 1);
                ConnectionPlace { of: Arc::clone(self), uid }
            })
        })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.of.with(|taken| {
            let left = taken.get(&self.uid).copied().unwrap_or(0).saturating_sub(1);
            match left {
                0 => taken.remove(&self.uid),
                left => taken.insert(self.uid, left),
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_many_connections_keeps_no_other_waiting() {
        let places = Arc::new(Places::default());
        let of_one: Vec<ConnectionPlace> = (0..300).filter_map(|_| places.take(1000)).collect();
        assert_eq!(of_one.len(), OF_ONE);
        let of_others: Vec<ConnectionPlace> =
            (1001..1300).filter_map(|uid| places.take(uid)).collect();
        assert_eq!(of_others.len(), OF_ALL - OF_ONE);
        assert!(places.take(0).is_some(), "root is answered");
        drop(of_one);
        assert!(places.take(1000).is_some());
        assert!(places.take(1000).is_some(), "a place is given back");
    }
}
