//! The world as the steps leave it: what listens, is flagged, is drained, is configured, is
//! foreign. Pure: the expected table follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::expected::{self, ExpectedTable, NodeFacts};
use cvip::conf::{Conf, Cvip, DirectorNode, RealServer, RegistrationMode, Routing, ServiceConf};
use cvip::ipvs::{Destination, Forwarding, Service};
use cvip::protocol::Protocol;
use cvip::store::ServiceKey;

use crate::cluster::conf::{FLAGGED, STATIC};
use crate::real::schedule::{BY_CONF, SOMETIMES};

/// Nodes that may direct.
pub const DIRECTORS: [u32; 2] = [5, 6];
/// Every node; those that may direct are real servers too.
pub const NODES: std::ops::RangeInclusive<u32> = 1..=6;

/// How a foreign service is scheduled, and the weight of its one destination.
pub const FOREIGN: (&str, u32) = ("rr", 9);

/// The addresses of the cluster.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The IPv4 CVIP and the IPv6 one.
    pub cvips: [IpAddr; 2],
    /// Each node's, in the same order.
    pub nodes: BTreeMap<u32, [IpAddr; 2]>,
    /// Those of a host that is no member, in the same order.
    pub stranger: [IpAddr; 2],
}

/// A socket: protocol, port, and whether it is one for IPv6 alone.
pub type Socket = (Protocol, u16, bool);

/// One machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// It is on.
    pub is_up: bool,
    /// The sockets of its servers.
    pub sockets: BTreeSet<Socket>,
    /// Its own flags.
    pub flags: BTreeMap<(Protocol, u16), u16>,
    /// The services that are not cvipd's in its kernel.
    pub foreign: BTreeSet<ServiceKey>,
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    /// The machines by their node numbers.
    pub machines: BTreeMap<u32, Machine>,
    /// The flags that hold on all nodes, unless a node has its own.
    pub flags: BTreeMap<(Protocol, u16), u16>,
    /// The nodes that an operator wants drained.
    pub drained: BTreeSet<u32>,
    /// Which configuration is in force.
    pub layout: usize,
    /// The addresses.
    pub addresses: Addresses,
    layouts: Vec<Conf>,
}

impl World {
    /// Machines that are off, the first layout.
    pub fn new(addresses: Addresses) -> World {
        World {
            machines: NODES.map(|node| (node, Machine::default())).collect(),
            flags: BTreeMap::new(),
            drained: BTreeSet::new(),
            layout: 0,
            layouts: layouts(&addresses),
            addresses,
        }
    }

    /// The configuration in force.
    pub fn conf(&self) -> &Conf {
        &self.layouts[self.layout]
    }

    /// How many configurations there are.
    pub fn layouts(&self) -> usize {
        self.layouts.len()
    }

    /// The machine of a node.
    pub fn machine(&mut self, node: u32) -> &mut Machine {
        self.machines.get_mut(&node).expect("steps name nodes that there are")
    }

    /// A machine boots; the sockets that its servers open.
    pub fn boot(&mut self, node: u32) -> BTreeSet<Socket> {
        let services = BY_CONF.iter().chain([&FLAGGED]);
        let sockets = services.flat_map(|(p, port)| [(*p, *port, false), (*p, *port, true)]);
        let machine = self.machine(node);
        *machine = Machine { is_up: true, sockets: sockets.collect(), ..Machine::default() };
        machine.sockets.clone()
    }

    /// A machine loses its power: what its kernel and its run folder had is gone.
    pub fn crash(&mut self, node: u32) {
        *self.machine(node) = Machine::default();
    }

    /// A foreign service on a port of the IPv4 CVIP, and its destination.
    pub fn foreign(&self, key: ServiceKey) -> (Service, Destination) {
        let id = cvip::cores::service_id(key);
        let [stranger, _] = self.addresses.stranger;
        let to = Destination::new(stranger, key.port, Forwarding::Route, FOREIGN.1);
        (Service::new(id, FOREIGN.0), to)
    }

    /// The flags that hold on a machine, but for those of cvip.conf.
    pub fn flags_of(&self, machine: &Machine) -> BTreeMap<(Protocol, u16), u16> {
        self.flags.iter().chain(&machine.flags).map(|(port, weight)| (*port, *weight)).collect()
    }

    /// The table that the active director should have, foreign services left out.
    pub fn expected(&self) -> ExpectedTable {
        let facts = |(node, machine): (&u32, &Machine)| {
            let key = |(protocol, port, ipv6): &Socket| ServiceKey {
                cvip: self.addresses.cvips[usize::from(*ipv6)],
                protocol: *protocol,
                port: *port,
            };
            let facts = NodeFacts {
                listens: machine.sockets.iter().map(key).collect(),
                flags: self.flags_of(machine),
                is_drained: self.drained.contains(node),
            };
            (*node, facts)
        };
        expected::table(self.conf(), &self.machines.iter().map(facts).collect())
    }
}

/// The configurations that a reload chooses from: two directors, one of them, the other order; other
/// weights and another scheduler; one more port; the static service gone.
fn layouts(addresses: &Addresses) -> Vec<Conf> {
    let [first, second] = DIRECTORS;
    let base = conf(addresses, &[first, second]);
    let edited = |edit: fn(&mut Cvip)| {
        let mut conf = base.clone();
        conf.cvips.iter_mut().for_each(edit);
        conf
    };
    vec![
        base.clone(),
        conf(addresses, &[second]),
        conf(addresses, &[second, first]),
        edited(|cvip| {
            cvip.real_servers[1].weight = 3;
            cvip.services[0].weight = 2;
            cvip.services[0].scheduler = "wrr".to_owned();
        }),
        edited(|cvip| {
            let mut more = ServiceConf::new(SOMETIMES.0, SOMETIMES.1, SOMETIMES.1);
            more.node_weights.insert(3, 4);
            cvip.services.push(more);
        }),
        edited(|cvip| drop(cvip.services.pop())),
    ]
}

fn conf(addresses: &Addresses, directors: &[u32]) -> Conf {
    let cvip = |ipv6: usize| {
        let director = |node: &u32| DirectorNode {
            node: *node,
            garp_interface: "eth0".to_owned(),
            sync_interface: Some("eth0".to_owned()),
        };
        let server = |(node, addrs): (&u32, &[IpAddr; 2])| RealServer {
            node: *node,
            addr: addrs[ipv6],
            weight: 1,
        };
        let [(http, http_port), (xdmcp, xdmcp_port)] = BY_CONF;
        let mut web = ServiceConf::new(http, http_port, http_port);
        // Clients come after each burst: what they leave is not to be waited for in the next one.
        web.drain_timeout = 2;
        let mut xdmcp = ServiceConf::new(xdmcp, xdmcp_port, xdmcp_port);
        xdmcp.persistence = Some(60);
        let mut fixed = ServiceConf::new(STATIC.0, STATIC.1, STATIC.1);
        fixed.registration = RegistrationMode::Static;
        Cvip {
            addr: addresses.cvips[ipv6],
            gateway: None,
            directors: directors.iter().map(director).collect(),
            real_servers: addresses.nodes.iter().map(server).collect(),
            services: vec![web, xdmcp, fixed],
        }
    };
    Conf { routing: Routing::Dr, cvips: vec![cvip(0), cvip(1)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u32; 0] = [];

    fn world() -> World {
        let addr = |text: String| text.parse::<IpAddr>().unwrap();
        let pair = |n: u32| [addr(format!("10.0.0.{n}")), addr(format!("fd00::{n}"))];
        let nodes = NODES.map(|node| (node, pair(node))).collect();
        let mut world = World::new(Addresses { cvips: pair(100), nodes, stranger: pair(99) });
        NODES.for_each(|node| drop(world.boot(node)));
        world
    }

    fn weights(world: &World, service: (Protocol, u16), ipv6: usize) -> Vec<u32> {
        let cvip = world.addresses.cvips[ipv6];
        let key = ServiceKey { cvip, protocol: service.0, port: service.1 };
        let pool = world.expected().remove(&key).map(|service| service.pool);
        pool.unwrap_or_default().into_values().collect()
    }

    #[test]
    fn machines_that_have_booted_serve_what_cvip_conf_names_on_both_families() {
        let world = world();
        for ipv6 in [0, 1] {
            for service in [BY_CONF[0], BY_CONF[1], STATIC] {
                assert_eq!(weights(&world, service, ipv6), [1; 6]);
            }
        }
        assert_eq!(world.expected().len(), 6);
    }

    #[test]
    fn a_socket_of_one_family_joins_the_cvip_of_that_family_alone() {
        let mut world = world();
        let (http, port) = BY_CONF[0];
        world.machine(2).sockets.remove(&(http, port, true));
        assert_eq!(
            (weights(&world, BY_CONF[0], 0).len(), weights(&world, BY_CONF[0], 1).len()),
            (6, 5)
        );
    }

    #[test]
    fn a_crash_takes_sockets_flags_and_foreign_services_and_leaves_static_ones() {
        let mut world = world();
        world.machine(2).flags.insert(BY_CONF[0], 7);
        assert_eq!(weights(&world, BY_CONF[0], 0), [1, 7, 1, 1, 1, 1]);
        world.crash(2);
        assert_eq!(weights(&world, BY_CONF[0], 0), [1; 5]);
        assert_eq!(weights(&world, STATIC, 0), [1; 6]);
        world.boot(2);
        assert_eq!(weights(&world, BY_CONF[0], 0), [1; 6]);
    }

    #[test]
    fn a_flag_of_all_nodes_holds_where_a_node_has_none_of_its_own() {
        let mut world = world();
        assert_eq!(weights(&world, FLAGGED, 0), NONE);
        world.flags.insert(FLAGGED, 2);
        world.machine(3).flags.insert(FLAGGED, 5);
        assert_eq!(weights(&world, FLAGGED, 0), [2, 2, 5, 2, 2, 2]);
    }

    #[test]
    fn a_layout_changes_weights_schedulers_and_ports() {
        let mut world = world();
        for node in NODES {
            world.machine(node).sockets.insert((SOMETIMES.0, SOMETIMES.1, false));
        }
        assert_eq!(weights(&world, SOMETIMES, 0), NONE);
        world.layout = 3;
        assert_eq!(weights(&world, BY_CONF[0], 0), [2, 6, 2, 2, 2, 2]);
        world.layout = 4;
        assert_eq!(weights(&world, SOMETIMES, 0), [1, 1, 4, 1, 1, 1]);
        world.layout = 5;
        assert_eq!(weights(&world, STATIC, 0), NONE);
    }
}
