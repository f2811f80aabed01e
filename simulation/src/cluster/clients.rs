//! Clients: they connect to the CVIP through a router, which knows one host for it at a time, and
//! go on talking to the server that they met.

use std::net::SocketAddr;
use std::time::Duration;

use cvip::ipvs::ServiceId;

use super::conf::{CVIP, HTTP, node_of};
use super::packet::Place;
use super::world::World;
use crate::kernel::ipvs::{ConnectionId, Verdict};
use crate::random::Random;
use crate::time::SimTime;

/// From one new connection to the next.
const EVERY: Duration = Duration::from_millis(50);

/// An open connection says something this often.
const TALK_EVERY: Duration = Duration::from_secs(1);

/// A router asks again for a host that did not answer for so long.
const UNREACHED: Duration = Duration::from_secs(2);

/// The router is a place of its own.
pub const ROUTER: Place = Place::Client(0);

/// What became of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A server on this node took it.
    Served(u32),
    /// This node refused it.
    Refused(u32),
    /// Nothing answered.
    Lost,
}

/// One open connection.
#[derive(Clone, Debug)]
struct Connection {
    client: u32,
    server: u32,
    next: SimTime,
    ends: SimTime,
}

/// The clients.
pub struct Clients {
    random: Random,
    next: SimTime,
    /// The host that the router knows for the CVIP.
    known: Option<u32>,
    /// Since when it has not answered.
    unreached: Option<SimTime>,
    open: Vec<Connection>,
    number: u32,
    /// What became of attempts, since this was last taken.
    pub attempts: Vec<(SimTime, Attempt)>,
    /// Connections that broke, since this was last taken: when, and with which node.
    pub broken: Vec<(SimTime, u32, &'static str)>,
}

impl Clients {
    /// Clients that have not begun.
    pub fn new(random: Random) -> Clients {
        Clients {
            random,
            next: SimTime(0),
            known: None,
            unreached: None,
            open: Vec::new(),
            number: 0,
            attempts: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// The host that the router knows for the CVIP.
    pub fn known(&self) -> Option<u32> {
        self.known
    }

    /// A host announced the CVIP, or answered for it.
    pub fn heard(&mut self, node: u32) {
        self.known = Some(node);
        self.unreached = None;
    }

    /// When something happens next.
    pub fn due(&self) -> SimTime {
        self.open.iter().map(|connection| connection.next).min().unwrap_or(self.next).min(self.next)
    }
}

/// Lets clients do what is due.
pub fn step(clients: &mut Clients, world: &mut World) {
    let now = world.now;
    if clients.next <= now {
        clients.next = now + EVERY;
        clients.number += 1;
        let attempt = connect(clients, world);
        clients.attempts.push((now, attempt));
        if let Attempt::Served(server) = attempt {
            let life = Duration::from_millis(clients.random.within(50..=20_000));
            clients.open.push(Connection {
                client: clients.number,
                server,
                next: now + TALK_EVERY,
                ends: now + life,
            });
        }
    }
    let mut open = std::mem::take(&mut clients.open);
    open.retain_mut(|connection| connection.next > now || talk(connection, clients, world));
    clients.open = open;
}

/// The director that the router's packets reach now.
fn director(clients: &mut Clients, world: &World) -> Option<u32> {
    let now = world.now;
    let answers = |node: u32| {
        world.machines.get(&node).is_some_and(|machine| machine.is_running(now))
            && world.network.is_open(ROUTER, Place::Node(node))
            && world.network.is_open(Place::Node(node), ROUTER)
    };
    match clients.known.filter(|node| answers(*node)) {
        Some(node) => {
            clients.unreached = None;
            Some(node)
        }
        None => {
            let since = *clients.unreached.get_or_insert(now);
            if clients.known.is_none() || now.since(since) >= UNREACHED {
                let carriers = world.carriers();
                clients.known = clients.random.choose(&carriers).copied();
                clients.unreached = None;
            }
            None
        }
    }
}

fn service() -> ServiceId {
    ServiceId::Address { protocol: HTTP.0, addr: CVIP, port: HTTP.1 }
}

/// A client's address and port.
fn peer(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::new([172, 16 + (a & 15), b, c].into(), 40_000)
}

fn connect(clients: &mut Clients, world: &mut World) -> Attempt {
    let Some(director) = director(clients, world) else { return Attempt::Lost };
    let now = world.now;
    let machine = world.machines.get_mut(&director).expect("it was found above");
    let clock = machine.clock(now);
    if !machine.host.kernel.network.receives(CVIP, clock) {
        // Its kernel does not take the packet, and does not forward it to where it came from.
        return Attempt::Lost;
    }
    let server = match machine.host.kernel.ipvs().connect(service(), peer(clients.number), clock) {
        Verdict::To(destination) => match node_of(destination.addr) {
            Some(node) => node,
            None => return Attempt::Lost,
        },
        Verdict::Refused => return Attempt::Refused(director),
        Verdict::Dropped => return Attempt::Lost,
        Verdict::Local => director,
    };
    serve(world, director, server, HTTP.1)
}

/// A packet reaches a server's kernel: what becomes of a new connection.
fn serve(world: &mut World, director: u32, server: u32, port: u16) -> Attempt {
    let now = world.now;
    let is_open = world.network.is_open(Place::Node(director), Place::Node(server))
        && world.network.is_open(Place::Node(server), ROUTER);
    let Some(machine) = world.machines.get_mut(&server) else { return Attempt::Lost };
    let clock = machine.clock(now);
    if !is_open || !machine.is_running(now) || !machine.host.kernel.network.receives(CVIP, clock) {
        return Attempt::Lost;
    }
    match machine.host.is_listening(port) {
        true => Attempt::Served(server),
        false => Attempt::Refused(server),
    }
}

/// An open connection says something; false once it has ended.
fn talk(connection: &mut Connection, clients: &mut Clients, world: &mut World) -> bool {
    let now = world.now;
    connection.next = now + TALK_EVERY;
    if connection.ends <= now {
        return false;
    }
    let id = ConnectionId { service: service(), client: peer(connection.client) };
    let answer = director(clients, world).and_then(|director| {
        let machine = world.machines.get_mut(&director).expect("it was found above");
        let clock = machine.clock(now);
        if !machine.host.kernel.network.receives(CVIP, clock) {
            return None;
        }
        match machine.host.kernel.ipvs().packet(id, clock) {
            Verdict::To(destination) if node_of(destination.addr) == Some(connection.server) => {
                Some(Ok(director))
            }
            Verdict::To(_) => Some(Err("it went to another server")),
            Verdict::Local if director == connection.server => Some(Ok(director)),
            Verdict::Local => Some(Err("its director does not know it")),
            Verdict::Dropped | Verdict::Refused => Some(Err("its destination is gone")),
        }
    });
    if let Some(Err(why)) = answer {
        clients.broken.push((now, connection.server, why));
        return false;
    }
    // TCP repeats what was lost for longer than any fault here lasts.
    true
}
