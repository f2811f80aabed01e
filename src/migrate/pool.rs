//! A virtual service in the words that all formats share, each value with its statement.

use std::net::IpAddr;

use super::ledger::StatementId;
use crate::checks::settings::Check;
use crate::conf::Routing;
use crate::protocol::Protocol;

/// A value, and the statement that gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stated<T> {
    pub(super) value: T,
    pub(super) at: StatementId,
}

/// Everything that a configuration says of services and directors.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) pools: Vec<ServerPool>,
    /// The addresses of each director, in the order of election; empty where nothing tells.
    pub(super) directors: Vec<Vec<IpAddr>>,
    /// The addresses that directors carry.
    pub(super) addresses: Vec<Stated<IpAddr>>,
    /// Which interface carries an address.
    pub(super) interfaces: Vec<(IpAddr, String)>,
    /// The interface of an address of which nothing else is said.
    pub(super) interface: Option<String>,
    /// The interface on which connections are synchronised.
    pub(super) sync_interface: Option<String>,
}

/// A virtual service with its servers.
#[derive(Debug)]
pub(super) struct ServerPool {
    /// All of its statements.
    pub(super) statements: Vec<StatementId>,
    pub(super) protocol: Protocol,
    pub(super) targets: Vec<PoolTarget>,
    /// The method of servers that name none.
    pub(super) routing: Routing,
    pub(super) scheduler: Option<String>,
    /// `SCHED1` to `SCHED3` of the kernel.
    pub(super) scheduler_flags: u32,
    pub(super) one_packet: Option<StatementId>,
    pub(super) persistence: Option<u32>,
    pub(super) persistence_netmask: Option<Stated<String>>,
    pub(super) persistence_engine: Option<Stated<String>>,
    pub(super) quorum: Option<u32>,
    pub(super) hysteresis: Option<Stated<u32>>,
    pub(super) servers: Vec<PoolServer>,
    pub(super) sorry_servers: Vec<PoolServer>,
    /// Statements that say how all of its servers are checked.
    pub(super) check_settings: Vec<StatementId>,
}

/// An address and its ports at which clients reach a service.
#[derive(Clone, Debug)]
pub(super) struct PoolTarget {
    pub(super) at: StatementId,
    pub(super) addr: IpAddr,
    pub(super) start: u16,
    pub(super) end: u16,
}

/// A real server or a sorry server.
#[derive(Clone, Debug)]
pub(super) struct PoolServer {
    pub(super) at: StatementId,
    /// All of its statements.
    pub(super) statements: Vec<StatementId>,
    pub(super) addr: IpAddr,
    /// Its port; none: the service's.
    pub(super) port: Option<u16>,
    pub(super) routing: Option<Stated<Routing>>,
    pub(super) weight: u32,
    pub(super) upper: Option<Stated<u32>>,
    pub(super) lower: Option<Stated<u32>>,
    pub(super) check: Option<PoolCheck>,
}

/// A check of one server.
#[derive(Clone, Debug)]
pub(super) struct PoolCheck {
    /// All of its statements, without those that stand for several servers.
    pub(super) statements: Vec<StatementId>,
    pub(super) check: Check,
}

impl ServerPool {
    /// A service that begins with a statement, and of which nothing else is said.
    pub(super) fn new(at: StatementId, routing: Routing) -> ServerPool {
        ServerPool {
            statements: vec![at],
            protocol: Protocol::Tcp,
            targets: Vec::new(),
            routing,
            scheduler: None,
            scheduler_flags: 0,
            one_packet: None,
            persistence: None,
            persistence_netmask: None,
            persistence_engine: None,
            quorum: None,
            hysteresis: None,
            servers: Vec::new(),
            sorry_servers: Vec::new(),
            check_settings: Vec::new(),
        }
    }
}

impl PoolServer {
    /// A server of which nothing is said.
    pub(super) fn new(at: StatementId, addr: IpAddr, port: Option<u16>) -> PoolServer {
        PoolServer {
            at,
            statements: vec![at],
            addr,
            port,
            routing: None,
            weight: 1,
            upper: None,
            lower: None,
            check: None,
        }
    }
}
