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

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use cvip::ipvs::*;
use cvip::protocol::Protocol;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::*;

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
        let bytes = list[0].take(counted, || floor.list(&ids));
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
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own needs root");
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip(8)");
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

/// A bare netlink socket, with messages written by hand.
struct Floor {
    fd: OwnedFd,
    family: u16,
}

impl Floor {
    fn open() -> Floor {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )
        .unwrap();
        setsockopt(&fd, sockopt::RcvBufForce, &(1 << 21)).unwrap();
        let mut floor = Floor { fd, family: 0x10 };
        floor.send(&floor.message(3, 1, &attribute(2, b"IPVS\0")));
        let reply = floor.receive(&mut vec![0; 65536]).to_vec();
        // CTRL_ATTR_FAMILY_ID: 6 bytes long, number 1.
        let at = (20..reply.len()).step_by(4).find(|&at| reply[at..at + 4] == [6, 0, 1, 0]);
        let at = at.expect("the family's number") + 4;
        floor.family = u16::from_ne_bytes([reply[at], reply[at + 1]]);
        floor
    }

    fn message(&self, command: u8, flags: u16, attributes: &[u8]) -> Vec<u8> {
        let mut message = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
        message.extend(self.family.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        message
    }

    fn send(&self, messages: &[u8]) {
        assert_eq!(send(self.fd.as_raw_fd(), messages, MsgFlags::empty()), Ok(messages.len()));
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        let length = recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()).unwrap();
        &buffer[..length]
    }

    /// The writes that fill the table; the last message of each asks for an acknowledgement.
    fn restore_writes(&self, services: u16, destinations: u8) -> Vec<Vec<u8>> {
        const REQUEST: u16 = 1;
        let mut messages = vec![];
        for port in 1..=services {
            let settings = [
                service_attributes(port),
                attribute(6, b"wlc\0"),
                attribute(7, &[0, 0, 0, 0, 255, 255, 255, 255]),
                attribute(8, &[0; 4]),
                attribute(9, &[255; 4]),
            ];
            messages.push(self.message(1, REQUEST, &attribute(1, &settings.concat())));
            for n in 1..=destinations {
                let settings = [
                    attribute(1, &address([198, 51, 100, n].into())),
                    attribute(2, &80u16.to_be_bytes()),
                    attribute(11, &2u16.to_ne_bytes()),
                    attribute(3, &0u32.to_ne_bytes()),
                    attribute(4, &1u32.to_ne_bytes()),
                    attribute(5, &[0; 4]),
                    attribute(6, &[0; 4]),
                    attribute(13, &[0]),
                    attribute(14, &[0; 2]),
                    attribute(15, &[0; 2]),
                ];
                let both =
                    [attribute(1, &service_attributes(port)), attribute(2, &settings.concat())];
                messages.push(self.message(5, REQUEST, &both.concat()));
            }
        }
        let mut writes: Vec<Vec<Vec<u8>>> = vec![vec![]];
        let mut left = 65536;
        for message in messages {
            if message.len() > left {
                writes.push(vec![]);
                left = 65536;
            }
            left -= message.len();
            writes.last_mut().unwrap().push(message);
        }
        for write in &mut writes {
            write.last_mut().unwrap()[6] |= 4; // NLM_F_ACK
        }
        writes.into_iter().map(|write| write.concat()).collect()
    }

    fn restore(&self, writes: &[Vec<u8>]) {
        let mut buffer = vec![0; 65536];
        for write in writes {
            self.send(write);
            let answer = self.receive(&mut buffer);
            assert_eq!(answer[16..20], [0; 4], "the kernel refused a message");
        }
    }

    /// Every dump to its end; gives the number of bytes.
    fn list(&self, ids: &[ServiceId]) -> usize {
        const DUMP: u16 = 0x301;
        let mut buffer = vec![0; 65536];
        let mut bytes = self.dump(&self.message(4, DUMP, &[]), &mut buffer);
        for id in ids {
            let ServiceId::Address { port, .. } = id else { unreachable!() };
            let request = self.message(8, DUMP, &attribute(1, &service_attributes(*port)));
            bytes += self.dump(&request, &mut buffer);
        }
        bytes
    }

    fn dump(&self, request: &[u8], buffer: &mut [u8]) -> usize {
        const DONE: u16 = 3;
        self.send(request);
        let mut bytes = 0;
        loop {
            let datagram = self.receive(buffer);
            if u16::from_ne_bytes([datagram[4], datagram[5]]) == DONE {
                return bytes;
            }
            bytes += datagram.len();
        }
    }
}

fn service_attributes(port: u16) -> Vec<u8> {
    [
        attribute(1, &2u16.to_ne_bytes()),
        attribute(2, &6u16.to_ne_bytes()),
        attribute(3, &address([192, 0, 2, 1].into())),
        attribute(4, &port.to_be_bytes()),
    ]
    .concat()
}

fn address(addr: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&addr.octets());
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
