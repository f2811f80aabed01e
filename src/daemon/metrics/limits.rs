//! How many connections of which address are answered at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// So many connections of one address are answered at once, and so many of all.
pub(super) const OF_ONE: usize = 8;
const OF_ALL: usize = 32;

/// How many connections of each address are being answered.
#[derive(Default)]
pub(super) struct ClientPlaces(Mutex<BTreeMap<IpAddr, usize>>);

/// One of them, until it is dropped.
pub(super) struct ClientPlace {
    of: Arc<ClientPlaces>,
    addr: IpAddr,
}

impl ClientPlaces {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<IpAddr, usize>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place for one more of an address; none if there are too many already.
    pub(super) fn take(self: &Arc<ClientPlaces>, addr: IpAddr) -> Option<ClientPlace> {
        self.with(|taken| {
            let of_this = taken.get(&addr).copied().unwrap_or(0);
            let is_free = of_this < OF_ONE && taken.values().sum::<usize>() < OF_ALL;
            is_free.then(|| {
                taken.insert(addr, of_this + 1);
                ClientPlace { of: Arc::clone(self), addr }
            })
        })
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.of.with(|taken| {
            let left = taken.get(&self.addr).copied().unwrap_or(0).saturating_sub(1);
            match left {
                0 => taken.remove(&self.addr),
                left => taken.insert(self.addr, left),
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_many_connections_keeps_no_other_waiting() {
        let places = Arc::new(ClientPlaces::default());
        let addr = |last| IpAddr::from([10, 0, 0, last]);
        let of_one: Vec<ClientPlace> = (0..100).filter_map(|_| places.take(addr(1))).collect();
        assert_eq!(of_one.len(), OF_ONE);
        let of_others: Vec<ClientPlace> =
            (2..200).filter_map(|last| places.take(addr(last))).collect();
        assert_eq!(of_others.len(), OF_ALL - OF_ONE);
        drop(of_one);
        assert!(places.take(addr(1)).is_some(), "a place is given back");
    }
}
