//! What travels between machines.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use cvip::heartbeat::{ConnectOutcome, Heartbeat};

use crate::kernel::ipvs::Connection;
use crate::store::{Answer, ClientId, Request};
use crate::time::SimTime;

/// One packet, or one exchange that is lost or arrives as a whole.
#[derive(Clone, Debug)]
pub enum Packet {
    /// A heartbeat, to a director's port.
    Heartbeat(Rc<Heartbeat>),
    /// An echo request, and when it was sent by its sender's clock.
    Echo {
        /// The address that is asked.
        addr: IpAddr,
        /// When.
        asked: SimTime,
    },
    /// Its answer.
    EchoReply {
        /// The address that was asked.
        addr: IpAddr,
        /// When it was asked.
        asked: SimTime,
    },
    /// A connect to a server.
    Connect(SocketAddr),
    /// What came of it.
    Connected(SocketAddr, ConnectOutcome),
    /// Which host has an address? It is answered by all that have it.
    WhoHas(IpAddr),
    /// An answer to this host alone.
    IsAt(IpAddr),
    /// Connections that a synchronisation daemon sends, and its id.
    Connections(u32, Rc<Vec<Connection>>),
    /// An announcement to all.
    Announcement(IpAddr),
    /// A request to one of etcd's servers.
    StoreRequest(ClientId, Request),
    /// An answer of one of etcd's servers.
    StoreAnswer(ClientId, Answer),
}

/// A place in the network: a machine by its node number, one of etcd's servers, or a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A node.
    Node(u32),
    /// One of etcd's servers.
    Server(usize),
    /// A client of the cluster's services, beyond the router.
    Client(u32),
}
