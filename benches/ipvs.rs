//! How far the client is from what the kernel alone needs.
//!
//! Restoring: the floor is the same messages, built before the clock starts and sent in writes
//! of 64 KiB with one acknowledgement each. Listing: the floor is the same dumps, received
//! and thrown away. Needs root and IPVS, and works in network namespaces of its own, a new one
//! for each restore: the kernel keeps deleted destinations for two minutes and looks through
//! all of them whenever one is added (`ip_vs_trash_get_dest`), which makes a restore after a
//! flush ten times slower, for everybody.
//!
//! ```text
//! cargo bench --bench ipvs [-- SERVICES DESTINATIONS ROUNDS]
//! ```

use std::time::{Duration, Instant};

use cvip::ipvs::*;
use cvip::protocol::Protocol;
use cvip_lab::enter_new_network;
use cvip_lab::floor::Floor;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u32>().ok());
    let services = numbers.next().unwrap_or(1000).min(60_000);
    let destinations = numbers.next().unwrap_or(10).min(250);
    let rounds = numbers.next().unwrap_or(7).max(1);

    let ids: Vec<_> = (1..=services).map(|port| id(port as u16)).collect();
    let mut changes = vec![];
    for &id in &ids {
        changes.push(Change::AddService(Service::new(id, "wlc")));
        let servers = (1..=destinations).map(|n| server(n as u8));
        changes.extend(servers.map(|server| Change::AddDestination(id, server)));
    }
    // The client loads the module where need be, and says what is missing.
    if let Err(error) = Client::open() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    println!(
        "{services} services x {destinations} destinations, {} changes, {rounds} rounds",
        changes.len()
    );
    let mut restore = [Times::new("restore: floor"), Times::new("restore: apply")];
    let mut list = [
        Times::new("list: floor"),
        Times::new("list: one client"),
        Times::new("list: two clients in two threads"),
        Times::new("list: four clients in four threads"),
    ];
    // One round more than is counted, to warm up.
    for round in 0..=rounds {
        let counted = round > 0;
        let floor = fresh(Floor::open);
        let writes = floor.restore_writes(services as u16, destinations as u8);
        restore[0].take(counted, || floor.restore(&writes));
        let bytes = list[0].take(counted, || floor.list(services as u16));
        assert!(bytes > 0);

        let mut client = fresh(|| Client::open().unwrap());
        let failures = restore[1].take(counted, || client.apply(&changes).unwrap());
        assert!(failures.is_empty(), "{}", failures[0]);
        let whole = services as usize * destinations as usize;
        let shown = list[1].take(counted, || {
            let shown = client.services().unwrap().len();
            assert_eq!(shown, services as usize);
            count(&client.destinations_of(&ids).unwrap())
        });
        assert_eq!(shown, whole);
        for (times, parts) in list[2..].iter_mut().zip([2, 4]) {
            assert_eq!(times.take(counted, || list_in_threads(&ids, parts)), whole);
        }
    }
    for times in restore.iter_mut().chain(&mut list) {
        times.print();
    }
}

fn id(port: u16) -> ServiceId {
    ServiceId::Address { protocol: Protocol::Tcp, addr: [192, 0, 2, 1].into(), port }
}

fn server(n: u8) -> Destination {
    Destination::new([198, 51, 100, n].into(), 80, Forwarding::Masquerade, 1)
}

fn count(lists: &[Vec<DestinationEntry>]) -> usize {
    lists.iter().map(Vec::len).sum()
}

/// Opens something in a new network namespace, after the kernel has cleaned up the last one.
fn fresh<T>(open: impl FnOnce() -> T) -> T {
    enter_new_network().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    open()
}

fn list_in_threads(ids: &[ServiceId], threads: usize) -> usize {
    std::thread::scope(|scope| {
        let parts: Vec<_> = ids
            .chunks(ids.len().div_ceil(threads))
            .map(|part| {
                scope.spawn(|| count(&Client::open().unwrap().destinations_of(part).unwrap()))
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    })
}

/// The times of one measurement.
struct Times {
    name: &'static str,
    taken: Vec<Duration>,
}

impl Times {
    fn new(name: &'static str) -> Times {
        Times { name, taken: vec![] }
    }

    fn take<T>(&mut self, counted: bool, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let taken = start.elapsed();
        if counted {
            self.taken.push(taken);
        }
        result
    }

    fn print(&mut self) {
        self.taken.sort();
        let median = self.taken[self.taken.len() / 2];
        let best = self.taken[0];
        println!("{:36} median {median:>9.1?}  best {best:>9.1?}", self.name);
    }
}
