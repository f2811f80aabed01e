//! The order of listings: the original's, which is not the natural one.
//!
//! It compares by subtracting: the difference of two 32-bit numbers is taken for signed, so
//! 192.168.0.1 comes before 10.0.0.1. Such a comparison can run in circles, and then the
//! result depends on the algorithm too: it is the C library's merge sort, over the kernel's
//! order. Scripts compare saved tables line by line, so both are kept exactly; `sort_by` of
//! the standard library may not be given an order that contradicts itself.

use std::net::IpAddr;

use crate::ipvs::{DestinationEntry, Family, ServiceEntry, ServiceId};

/// Sorts as glibc's qsort(3) does: a stable top-down merge sort whose left half is the
/// smaller one, and which prefers the left element unless the right one is less. Places are
/// sorted, and each element is moved once.
fn merge_sort<T>(mut items: Vec<T>, compare: &impl Fn(&T, &T) -> i32) -> Vec<T> {
    let mut places: Vec<usize> = (0..items.len()).collect();
    let is_after = |left: usize, right: usize| compare(&items[left], &items[right]) > 0;
    sort_places(&mut places, &mut Vec::with_capacity(items.len()), &is_after);
    // Each place gets what belongs there, round by round of those that change places.
    for start in 0..places.len() {
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut places[at], at);
            if from == start {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
    items
}

/// Sorts `places`; `room` is empty before and after.
fn sort_places(
    places: &mut [usize],
    room: &mut Vec<usize>,
    is_after: &impl Fn(usize, usize) -> bool,
) {
    if places.len() < 2 {
        return;
    }
    let (left, right) = places.split_at_mut(places.len() / 2);
    sort_places(left, room, is_after);
    sort_places(right, room, is_after);
    let (mut at, mut by) = (0, 0);
    while at < left.len() && by < right.len() {
        if is_after(left[at], right[by]) {
            room.push(right[by]);
            by += 1;
        } else {
            room.push(left[at]);
            at += 1;
        }
    }
    room.extend_from_slice(&left[at..]);
    room.extend_from_slice(&right[by..]);
    places.copy_from_slice(room);
    room.clear();
}

/// Sorts services by firewall mark, family, protocol, address and port.
pub fn services(entries: Vec<ServiceEntry>) -> Vec<ServiceEntry> {
    merge_sort(entries, &|a, b| compare_services(&a.service.id, &b.service.id))
}

/// Sorts destinations by address and port.
pub fn destinations(entries: Vec<DestinationEntry>) -> Vec<DestinationEntry> {
    merge_sort(entries, &|a, b| {
        let (a, b) = (&a.destination.id, &b.destination.id);
        let address = compare_addresses(Family::of(a.addr), words(a.addr), words(b.addr));
        then(address, || i32::from(a.port) - i32::from(b.port))
    })
}

/// Mark, family, protocol, address and port; what a mark has none of is 0.
type SortKey = (u32, Family, u8, [u32; 4], u16);

fn key(id: &ServiceId) -> SortKey {
    match *id {
        ServiceId::Mark { mark, family } => (mark, family, 0, [0; 4], 0),
        ServiceId::Address { protocol, addr, port } => {
            (0, Family::of(addr), protocol.number(), words(addr), port)
        }
    }
}

fn compare_services(a: &ServiceId, b: &ServiceId) -> i32 {
    let (a, b) = (key(a), key(b));
    let order = difference(a.0, b.0);
    let order = then(order, || i32::from(a.1 == Family::V6) - i32::from(b.1 == Family::V6));
    let order = then(order, || i32::from(a.2) - i32::from(b.2));
    let order = then(order, || compare_addresses(a.1, a.3, b.3));
    then(order, || i32::from(a.4) - i32::from(b.4))
}

/// An address as four words in host order; an IPv4 address is the first.
fn words(addr: IpAddr) -> [u32; 4] {
    match addr {
        IpAddr::V4(addr) => [addr.into(), 0, 0, 0],
        IpAddr::V6(addr) => {
            let bits = u128::from(addr);
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

/// The left one's family decides how many words count, whatever the right one is.
fn compare_addresses(left: Family, a: [u32; 4], b: [u32; 4]) -> i32 {
    let count = if left == Family::V6 { 4 } else { 1 };
    (0..count).map(|word| difference(a[word], b[word])).find(|order| *order != 0).unwrap_or(0)
}

/// A 32-bit difference, wrapped, taken for signed.
fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

fn then(order: i32, next: impl FnOnce() -> i32) -> i32 {
    if order == 0 { next() } else { order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Service, Stats};
    use crate::protocol::Protocol;

    fn sorted(services: &[&str]) -> Vec<String> {
        let entries = services
            .iter()
            .map(|addr| {
                let id = ServiceId::Address {
                    protocol: Protocol::Tcp,
                    addr: addr.parse().unwrap(),
                    port: 80,
                };
                ServiceEntry { service: Service::new(id, "rr"), stats: Stats::default() }
            })
            .collect();
        super::services(entries)
            .iter()
            .map(|entry| match entry.service.id {
                ServiceId::Address { addr, .. } => addr.to_string(),
                ServiceId::Mark { mark, .. } => mark.to_string(),
            })
            .collect()
    }

    #[test]
    fn a_difference_past_two_to_the_31_wraps() {
        assert_eq!(sorted(&["10.0.0.1", "192.168.0.1"]), ["192.168.0.1", "10.0.0.1"]);
        assert_eq!(sorted(&["10.0.0.1", "127.0.0.1"]), ["10.0.0.1", "127.0.0.1"]);
        assert_eq!(sorted(&["192.168.0.1", "127.0.0.1"]), ["127.0.0.1", "192.168.0.1"]);
    }

    #[test]
    fn a_circle_is_resolved_by_the_order_that_it_came_in() {
        assert_eq!(
            sorted(&["10.0.0.1", "127.0.0.1", "192.168.0.1"]),
            ["10.0.0.1", "127.0.0.1", "192.168.0.1"]
        );
        assert_eq!(
            sorted(&["192.168.0.1", "127.0.0.1", "10.0.0.1"]),
            ["192.168.0.1", "10.0.0.1", "127.0.0.1"]
        );
    }

    #[test]
    fn equal_elements_keep_their_order() {
        let items = vec![(1, 'a'), (0, 'b'), (1, 'c'), (0, 'd'), (1, 'e')];
        let sorted = merge_sort(items, &|a, b| a.0 - b.0);
        assert_eq!(sorted, [(0, 'b'), (0, 'd'), (1, 'a'), (1, 'c'), (1, 'e')]);
    }
}
