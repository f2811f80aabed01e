//! What was seen of a cluster from one host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::Roles;
use crate::conf::{Clustertab, Conf, Cvip};
use crate::daemon::Status;
use crate::director::liveness::Liveness;
use crate::director::owned_table::KernelServices;
use crate::director::sync;
use crate::director::view::TableView;
use crate::ipvs::{Change, SyncDaemon};
use crate::listeners::Listener;
use crate::net::{AddressRole, DesiredSettings, Difference, Done, Interface, Mac};
use crate::node::System;
use crate::ports::FlagSet;
use crate::store::{Fault, Key, Scope, ServiceKey, StoreState};

/// What is wrong with a server of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFault {
    /// The store does not work with this; otherwise it works, and should be seen to.
    pub ends_writes: bool,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// The configuration, which has passed its own checks.
    pub conf: Conf,
    /// Node numbers and addresses.
    pub clustertab: Clustertab,
    /// Which node this host is; none if it is none, or if it is not known.
    pub node: Option<u32>,
    /// Who the active directors are.
    pub roles: Roles,
    /// The connection synchronisation daemon that this node should run.
    pub sync: Option<sync::DesiredDaemon>,
    /// What the store says.
    pub state: StoreState,
    /// Nodes whose cvipd lives.
    pub alive: BTreeSet<u32>,
    /// What this host's cvipd makes of the other nodes, if it is a director.
    pub liveness_of: BTreeMap<u32, Liveness>,
    /// What of the store cannot be read.
    pub corrupt: Vec<Fault>,
    /// Why the store cannot be read, if it cannot: of other nodes nothing is known then.
    pub unavailable: Option<String>,
    /// The store is this host's own, so that other machines cannot reach it, and no setting says
    /// that this is meant.
    pub embedded: bool,
    /// What this host's cvipd says, if one runs.
    pub own: Option<Box<Status>>,
    /// What this host's cvipd says is wrong with the configuration; empty if none runs.
    pub complaints: Vec<String>,
    /// What this host's cvipd could not save below its run folder.
    pub unsaved: Vec<String>,
    /// UDP ports of heartbeats that another program has, and which one that is.
    pub ports_taken: Vec<String>,
    /// What is wrong with the store's servers.
    pub store_servers: Vec<ServerFault>,
    /// Why this host's cvipd could not start, if it does not run and that can be seen.
    pub start_fault: Option<String>,
    /// This host's kernel, if it is a node.
    pub host: Option<Host>,
    /// The kernel's IPVS table, if it has one that may be read.
    pub table: Option<ObservedTable>,
    /// The services of that table with their counters, in order; also while the store is
    /// unavailable, when nothing is known of what should stand in it.
    pub kernel: Option<KernelServices>,
    /// What could not be examined.
    pub unexamined: Vec<Unexamined>,
}

/// Something that could not be examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unexamined {
    /// What.
    pub what: String,
    /// Why not, and what to do to have it examined.
    pub why: String,
    /// It can never be examined from this host, or was not asked for.
    #[serde(skip)]
    pub is_expected: bool,
}

/// A node's own kernel, but for the IPVS table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// Interfaces with their addresses.
    pub interfaces: Vec<Interface>,
    /// Settings by their paths below `/proc/sys`; those that the kernel does not have are absent.
    pub settings: BTreeMap<String, String>,
    /// In what it is not as the node's role needs it.
    pub differences: Vec<Difference>,
    /// What cvipd made here and would undo; none if its record cannot be read.
    pub made: Option<Vec<Done>>,
    /// Where replies to clients beyond the CVIP's network would leave, by CVIP.
    pub replies: BTreeMap<IpAddr, NeighbourReply>,
    /// Other hosts that answer for a CVIP that this node carries as its active director.
    pub conflicts: BTreeMap<IpAddr, Mac>,
    /// Who listens on flagged ports, or on those of another protocol; none if it cannot be read.
    pub listeners: Option<Vec<Listener>>,
    /// What else the rules of eligibility need.
    pub around: Option<System>,
}

/// Where a packet would leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeighbourReply {
    /// There is no route if absent: the next hop, if there is one, and the interface's number.
    pub route: Option<(Option<IpAddr>, u32)>,
}

/// The kernel's IPVS table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObservedTable {
    /// What a director would have to change to make it what is desired, on two looks in a row.
    /// Empty where cvipd does not set it.
    pub changes: Vec<(ServiceKey, Change)>,
    /// Connection synchronisation daemons that run.
    pub daemons: Vec<SyncDaemon>,
    /// What the running director says of its pools, if it says anything.
    pub view: TableView,
}

impl Observed {
    /// This host's node and its role, if it is a node that cvip.conf names and that has not left.
    pub(super) fn me(&self) -> Option<(u32, AddressRole)> {
        let is_member = |node: &u32| self.conf.nodes().contains(node) && !self.has_left(*node);
        let node = self.node.filter(is_member)?;
        Some((node, self.roles.of(&self.conf, node)))
    }

    /// `node 3`, or `this host`.
    pub(super) fn here(&self) -> String {
        self.node.map_or_else(|| "this host".to_owned(), subject)
    }

    /// True if a node leaves, or has left: by its record, or by its heartbeats, which this host's
    /// cvipd heard as a director.
    pub(super) fn leaves(&self, node: u32) -> bool {
        let monitor = self.own.as_ref().and_then(|own| own.monitor.as_ref());
        monitor.is_some_and(|monitor| monitor.left.contains(&node))
            || self.state.nodes.get(&node).is_some_and(|record| record.leaving)
    }

    /// True if a node has left: it leaves, and its cvipd runs no more.
    pub(super) fn has_left(&self, node: u32) -> bool {
        !self.alive.contains(&node) && self.leaves(node)
    }

    /// True if this host's node has left, and is one that cvip.conf names: it can leave again.
    pub(super) fn left_here(&self) -> bool {
        let can_start = |node: &u32| self.conf.nodes().contains(node) && self.has_left(*node);
        self.node.as_ref().is_some_and(can_start)
    }

    /// True if a node's record is there and cannot be read: nothing is known of what it says.
    pub(super) fn is_corrupt(&self, node: u32) -> bool {
        self.corrupt.iter().any(|fault| fault.key == Key::Node(node))
    }

    /// True if this host's node is one that cvip.conf does not name, and its cvipd runs.
    pub(super) fn is_removed(&self) -> bool {
        self.runs_here() && self.node.is_some_and(|node| !self.conf.nodes().contains(&node))
    }

    /// What cvipd made on this host, as far as that is known.
    pub(super) fn made(&self) -> &[Done] {
        self.host.as_ref().and_then(|host| host.made.as_deref()).unwrap_or_default()
    }

    /// True if this host's cvipd runs.
    pub(super) fn runs_here(&self) -> bool {
        self.node.is_some_and(|node| self.alive.contains(&node))
    }

    /// What this node's kernel should have.
    pub(super) fn desired(&self) -> DesiredSettings {
        self.me()
            .map(|(node, role)| crate::net::desired(&self.conf, node, role))
            .unwrap_or_default()
    }

    /// The CVIPs that this node serves as a real server or standby, and not as their active
    /// director.
    pub(super) fn served(&self) -> impl Iterator<Item = &Cvip> {
        let me = self.me().map(|(node, _)| node);
        self.conf.cvips.iter().filter(move |cvip| {
            me.is_some_and(|node| {
                cvip.real_server(node).is_some() && self.roles.active(cvip.addr) != Some(node)
            })
        })
    }

    /// The CVIPs whose active director this node is.
    pub(super) fn directed(&self) -> impl Iterator<Item = &Cvip> {
        self.conf
            .cvips
            .iter()
            .filter(|cvip| self.node.is_some() && self.roles.active(cvip.addr) == self.node)
    }

    /// Every address that the two files give a node.
    pub(super) fn addresses_of(&self, node: u32) -> BTreeSet<IpAddr> {
        let servers = self.conf.cvips.iter().filter_map(|cvip| cvip.real_server(node));
        servers.map(|server| server.addr).chain(self.clustertab.addr(node)).collect()
    }

    /// The node that has an address by the two files.
    pub(super) fn node_of(&self, addr: IpAddr) -> Option<u32> {
        let nodes = self.conf.nodes();
        nodes.into_iter().find(|node| self.addresses_of(*node).contains(&addr))
    }

    /// The flags that were set on a node: known to its host, and to others by its record.
    pub(super) fn flags_of(&self, node: u32) -> FlagSet {
        let own = self.state.flags.get(&Scope::Node(node));
        let told = self.state.nodes.get(&node).map(|record| &record.flags);
        own.or(told).cloned().unwrap_or_default()
    }

    /// True if any node's record registers the service.
    pub(super) fn is_served(&self, key: ServiceKey) -> bool {
        let mut records = self.state.nodes.values();
        records.any(|record| record.registrations.iter().any(|r| r.service == key))
    }
}

impl Host {
    /// A setting's value.
    pub(super) fn setting(&self, path: &str) -> Option<&str> {
        self.settings.get(path).map(String::as_str)
    }

    /// The value of an IPv4 setting that holds on an interface: the larger of its own and that of
    /// `all` (`IN_DEV_MAXCONF`, linux/inetdevice.h).
    pub(super) fn effective(&self, name: &str, device: &str) -> Option<u32> {
        let of = |scope: &str| {
            self.setting(&format!("net/ipv4/conf/{scope}/{name}"))?.parse::<u32>().ok()
        };
        Some(of("all")?.max(of(device)?))
    }

    pub(super) fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The name of an interface by its number.
    pub(super) fn device(&self, index: u32) -> Option<&str> {
        let named = self.interfaces.iter().find(|interface| interface.index == index);
        named.map(|interface| interface.name.as_str())
    }

    /// The interface that has an address.
    pub(super) fn carrier_of(&self, addr: IpAddr) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.addresses.iter().any(|a| a.addr == addr))
    }

    /// The interface that answers neighbours on a network that contains the address; one that is
    /// up, if there is one.
    pub(super) fn on_network_of(&self, addr: IpAddr) -> Option<&Interface> {
        let on = |interface: &&Interface| {
            let mut addresses = interface.addresses.iter();
            interface.answers_neighbours && addresses.any(|a| a.addr != addr && a.reaches(addr))
        };
        self.interfaces.iter().filter(on).max_by_key(|i| (i.up, std::cmp::Reverse(i.index)))
    }

    /// True if IPVS is there.
    pub(super) fn has_ipvs(&self) -> bool {
        self.settings.keys().any(|path| path.starts_with("net/ipv4/vs/"))
    }
}

/// A node as findings name it.
pub(super) fn subject(node: u32) -> String {
    format!("node {node}")
}
