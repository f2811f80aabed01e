//! What cvip.conf says, once it is checked: the types that other modules use.
//!
//! A [`Conf`] is made by this module's parser only after every check has passed, so its
//! readers need not ask again whether an address is usable, ranges are disjoint or director
//! sets agree. It holds no positions and no text of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checks::settings::Check;
use crate::ipvs::limits;
use crate::ports::{FlagSet, PortFlag};
use crate::protocol::Protocol;

/// Seconds a drain may last where a `service` does not say.
pub const DEFAULT_DRAIN_TIMEOUT: u32 = 30;

/// Weight of a real server, a `service` or a `sorry_server` that names none.
pub const DEFAULT_WEIGHT: u16 = 1;

/// How often a real server may leave a `service` within a minute that does not say.
pub const DEFAULT_FLAP_LIMIT: u32 = 5;

/// The highest limit of that kind.
pub const MAX_FLAP_LIMIT: u32 = 1000;

/// Seconds for which a damped real server has to listen where a `service` does not say.
pub const DEFAULT_DAMP_TIME: u32 = 10;

/// A whole cvip.conf that has passed every check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conf {
    /// How packets reach the real servers; one method for the file.
    pub routing: Routing,
    /// The CVIPs in the file's order; at least one, each address once.
    pub cvips: Vec<Cvip>,
}

named! {
    /// The `routing` of the file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    #[non_exhaustive]
    pub enum Routing {
        /// Direct routing.
        Dr = "DR",
        /// Masquerading.
        Nat = "NAT",
        /// IP tunnelling.
        Tun = "TUN",
    }
}

impl Routing {
    /// True if a real server may have an address of another family than its CVIP: only a
    /// tunnel carries one family in the other.
    pub fn mixes_families(self) -> bool {
        self == Routing::Tun
    }
}

/// A cluster virtual IP address with its directors, real servers and services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cvip {
    /// The virtual address: unicast, no node's own.
    pub addr: IpAddr,
    /// The internal gateway, of the CVIP's family. With NAT the active director carries it;
    /// with DR and TUN no node configures it.
    pub gateway: Option<IpAddr>,
    /// The director nodes in the file's order; at least one, each node once. Two CVIPs share
    /// all of them or none.
    pub directors: Vec<DirectorNode>,
    /// The real servers in the order of their node numbers, each node once. Every director is
    /// among them, without a `real_server_node` of its own with [`DEFAULT_WEIGHT`]. A weight
    /// of 0 stays here: on a director it means "director only".
    pub real_servers: Vec<RealServer>,
    /// The services in the file's order; no two cover the same port.
    pub services: Vec<ServiceConf>,
}

/// A `director_node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorNode {
    /// Node number in clustertab, from 1.
    pub node: u32,
    /// Interface that carries and announces the CVIP while this director is active.
    pub garp_interface: String,
    /// Interface of the kernel's connection synchronisation; none: not synchronised.
    pub sync_interface: Option<String>,
}

/// A real server of one CVIP, written as a `real_server_node` or implied by a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServer {
    /// Node number in clustertab, from 1.
    pub node: u32,
    /// Its balanced address: its own `ip_addr`, or clustertab's.
    pub addr: IpAddr,
    /// Weight, 0 to 65535; a destination's weight is the flag's times this.
    pub weight: u32,
}

/// A `service`: a range of ports and how it is balanced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceConf {
    /// Transport protocol.
    pub protocol: Protocol,
    /// First port, from 1.
    pub start: u16,
    /// Last port, inclusive.
    pub end: u16,
    /// Weight of the ports' flag.
    pub weight: u16,
    /// Scheduler's name; at most [`SCHEDULER_MAX_LEN`](limits::SCHEDULER_MAX_LEN) bytes.
    pub scheduler: String,
    /// The scheduler's flags: `SCHED1` to `SCHED3` of
    /// [`ipvs::service_flags`](crate::ipvs::service_flags).
    pub scheduler_flags: u32,
    /// Each datagram is scheduled by itself; with [`Protocol::Udp`] only.
    pub one_packet: bool,
    /// Persistence in seconds, 1 to [`MAX_SECONDS`](limits::MAX_SECONDS).
    pub persistence: Option<u32>,
    /// Leading bits of a client's address that persistence looks at: 1 to 32 on an IPv4 CVIP,
    /// 1 to 128 on an IPv6 one; none: all. With `persistence` only.
    pub persistence_netmask: Option<u8>,
    /// What persistence looks at instead of the client's address: an engine of the kernel's,
    /// such as `sip`; at most [`ENGINE_MAX_LEN`](limits::ENGINE_MAX_LEN) bytes. With `persistence` only.
    pub persistence_engine: Option<String>,
    /// Connections at which a real server is given no more, 1 to [`MAX_INT`](limits::MAX_INT).
    pub upper_threshold: Option<u32>,
    /// Connections below which it is given some again, 1 to `upper_threshold`, without which
    /// it is not there.
    pub lower_threshold: Option<u32>,
    /// Weights of real servers of the CVIP that replace their own on these ports, by node.
    pub node_weights: BTreeMap<u32, u32>,
    /// Who becomes a destination.
    pub registration: RegistrationMode,
    /// Longest drain in seconds, 0 to [`MAX_SECONDS`](limits::MAX_SECONDS).
    pub drain_timeout: u32,
    /// How often a real server may leave within a minute before it is damped, 0 (is never
    /// damped) to [`MAX_FLAP_LIMIT`].
    pub flap_limit: u32,
    /// Seconds for which a damped real server has to listen without leaving before it is back,
    /// 1 to [`MAX_SECONDS`](limits::MAX_SECONDS).
    pub damp_time: u32,
    /// Whose listeners register; empty: root's and system accounts'.
    pub owners: Vec<Owner>,
    /// The weight that the real servers which take connections are to have together; none: not said,
    /// which is 1 where there are sorry servers.
    pub quorum: Option<Quorum>,
    /// How a real server that begins to serve comes to its whole weight; none: at once.
    pub slow_start: Option<SlowStart>,
    /// Who serves while no real server does, or while they have no quorum, in the file's order; no two
    /// have one address and port.
    pub sorry_servers: Vec<SorryServer>,
    /// What a real server that listens is asked besides; none: nothing.
    pub check: Option<Check>,
}

/// A `quorum` and its `hysteresis`, as keepalived.conf(5) has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// The sum of the weights of the real servers that take connections, 1 to
    /// [`MAX_INT`](limits::MAX_INT).
    pub weight: u32,
    /// By how much it has to fall below that until the quorum is lost, and to rise above it until there
    /// is one again, below `weight`.
    pub hysteresis: u32,
}

impl Quorum {
    /// One that any real server makes.
    pub const ANY: Quorum = Quorum { weight: 1, hysteresis: 0 };

    /// True if real servers of this weight make it; `had`: they did so before.
    pub fn is_made_by(self, weight: u64, had: bool) -> bool {
        let Quorum { weight: least, hysteresis } = self;
        let (least, hysteresis) = (u64::from(least), u64::from(hysteresis));
        weight >= if had { least.saturating_sub(hysteresis) } else { least + hysteresis }
    }
}

/// A `slow_start`: how the weight of a real server that begins to serve grows. Its values and its curve are
/// those of Envoy's `slow_start_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowStart {
    /// Seconds until the weight is whole, 1 to [`MAX_SECONDS`](limits::MAX_SECONDS).
    pub window: u32,
    /// How steeply it grows, in hundredths, 1 to [`MAX_AGGRESSION`]: 100 is a straight line, and with
    /// more the weight grows faster at first.
    pub aggression: u32,
    /// The least part of the weight, 0 to 100.
    pub min_weight_percent: u32,
}

/// The highest `aggression`, in hundredths.
pub const MAX_AGGRESSION: u32 = 10_000;

impl SlowStart {
    /// The aggression where none is said.
    pub const AGGRESSION: u32 = 100;

    /// The least part of the weight where none is said.
    pub const MIN_WEIGHT_PERCENT: u32 = 10;

    /// One of this window, with every default.
    pub fn new(window: u32) -> SlowStart {
        let (aggression, min_weight_percent) =
            (SlowStart::AGGRESSION, SlowStart::MIN_WEIGHT_PERCENT);
        SlowStart { window, aggression, min_weight_percent }
    }

    /// The window.
    pub fn lasts(self) -> Duration {
        Duration::from_secs(self.window.into())
    }

    /// The weight of a server that has served for so long; 1 at least, if it has any.
    pub fn weight(self, whole: u32, served: Duration) -> u32 {
        if served >= self.lasts() {
            return whole;
        }
        let time = served.as_secs_f64().max(1.0) / f64::from(self.window.max(1));
        let grown = time.min(1.0).powf(100.0 / f64::from(self.aggression.max(1)));
        let least = f64::from(self.min_weight_percent.min(100)) / 100.0;
        let part = f64::from(whole) * grown.max(least);
        // It is no more than the whole one, which fits.
        (part.round() as u32).clamp(whole.min(1), whole)
    }
}

/// A `sorry_server`: a destination for a service that has no real server left. It may stand
/// outside the cluster; it is neither a real server of the CVIP nor a CVIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SorryServer {
    /// Its address; by DR and NAT of the CVIP's family.
    pub addr: IpAddr,
    /// Its port, where it is not the service's: by NAT, in a service of one port.
    pub port: Option<u16>,
    /// Its weight among the service's sorry servers, 1 to 65535.
    pub weight: u16,
}

named! {
    /// How real servers become destinations of a service.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[non_exhaustive]
    pub enum RegistrationMode {
        /// A node joins when it listens.
        Automatic = "automatic",
        /// Every real server, always, as by hand with ipvsadm.
        Static = "static",
    }
}

/// An `owner`: whose listeners may register.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Owner {
    /// A user's, by name.
    User(String),
    /// Anyone's (`*`).
    Anyone,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Owner::User(name) => name,
            Owner::Anyone => "*",
        })
    }
}

/// Directors that stand and fall together, and the CVIPs that their active one carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectorSet {
    /// Node numbers in the order of election: that of the first of these CVIPs in the file.
    pub directors: Vec<u32>,
    /// The CVIPs, in the file's order.
    pub cvips: Vec<IpAddr>,
}

impl Conf {
    /// The interfaces that a node has to have as a director, each with the element that names it.
    pub fn interfaces(&self, node: u32) -> impl Iterator<Item = (&'static str, &str)> {
        let directors = self.cvips.iter().flat_map(|cvip| &cvip.directors);
        directors.filter(move |director| director.node == node).flat_map(|director| {
            let sync = director.sync_interface.as_deref().map(|name| ("sync_interface", name));
            std::iter::once(("garp_interface", director.garp_interface.as_str())).chain(sync)
        })
    }

    /// The CVIP with this address.
    pub fn cvip(&self, addr: IpAddr) -> Option<&Cvip> {
        self.cvips.iter().find(|cvip| cvip.addr == addr)
    }

    /// Every node that the file gives a part, in order, each once.
    pub fn nodes(&self) -> Vec<u32> {
        let nodes: BTreeSet<u32> = self.cvips.iter().flat_map(Cvip::nodes).collect();
        nodes.into_iter().collect()
    }

    /// True if the node is a director of any CVIP.
    pub fn is_director(&self, node: u32) -> bool {
        self.cvips.iter().any(|cvip| cvip.is_director(node))
    }

    /// The director sets, in the order of their first CVIP. A node is in one of them at most.
    pub fn director_sets(&self) -> Vec<DirectorSet> {
        let mut sets: Vec<DirectorSet> = Vec::new();
        for cvip in &self.cvips {
            match sets.iter_mut().find(|set| set.directors.iter().any(|n| cvip.is_director(*n))) {
                Some(set) => set.cvips.push(cvip.addr),
                None => sets.push(DirectorSet {
                    directors: cvip.directors.iter().map(|director| director.node).collect(),
                    cvips: vec![cvip.addr],
                }),
            }
        }
        sets
    }

    /// Where a node's heartbeats go: to every director but itself. Every node is a real server of
    /// every CVIP, or one of its directors.
    pub fn audience(&self, node: u32) -> Vec<IpAddr> {
        let mut addrs: BTreeSet<IpAddr> = BTreeSet::new();
        for cvip in &self.cvips {
            let directors = cvip.real_servers.iter().filter(|s| cvip.is_director(s.node));
            addrs.extend(directors.filter(|s| s.node != node).map(|s| s.addr));
        }
        addrs.into_iter().collect()
    }

    /// The addresses at which a node is balanced to, and speaks from.
    pub fn addresses(&self, node: u32) -> Vec<IpAddr> {
        let servers = self.cvips.iter().filter_map(|cvip| cvip.real_server(node));
        let addrs: BTreeSet<IpAddr> = servers.map(|server| server.addr).collect();
        addrs.into_iter().collect()
    }

    /// The interface on which a director synchronises connections: the first that any of its
    /// CVIPs gives (the kernel has one synchronisation daemon per role, not per CVIP).
    pub fn sync_interface(&self, node: u32) -> Option<&str> {
        self.cvips
            .iter()
            .filter_map(|cvip| cvip.director(node))
            .find_map(|director| director.sync_interface.as_deref())
    }
}

impl Cvip {
    /// The director with this node number.
    pub fn director(&self, node: u32) -> Option<&DirectorNode> {
        self.directors.iter().find(|director| director.node == node)
    }

    /// True if the node is one of this CVIP's directors.
    pub fn is_director(&self, node: u32) -> bool {
        self.director(node).is_some()
    }

    /// The real server with this node number; directors are real servers too.
    pub fn real_server(&self, node: u32) -> Option<&RealServer> {
        let at = self.real_servers.binary_search_by_key(&node, |server| server.node).ok()?;
        Some(&self.real_servers[at])
    }

    /// Every node of this CVIP in order: its real servers, its directors among them.
    pub fn nodes(&self) -> impl Iterator<Item = u32> {
        self.real_servers.iter().map(|server| server.node)
    }

    /// The service that covers a port, automatic or static.
    pub fn service_for(&self, protocol: Protocol, port: u16) -> Option<&ServiceConf> {
        self.services.iter().find(|service| service.covers(protocol, port))
    }

    /// Protocols and ports of the services that stand whatever listens.
    pub fn standing_ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let standing = self.services.iter().filter(|service| service.always_exists());
        standing.flat_map(|s| (s.start..=s.end).map(|port| (s.protocol, port)))
    }

    /// The flags of [`Level::Conf`](crate::ports::Level::Conf) for this CVIP: its automatic
    /// services. A static service flags nothing, for no listener makes it.
    pub fn flags(&self) -> FlagSet {
        self.services
            .iter()
            .filter(|service| service.registration == RegistrationMode::Automatic)
            .map(ServiceConf::flag)
            .collect()
    }
}

impl ServiceConf {
    /// A service on a range of ports with every default.
    pub fn new(protocol: Protocol, start: u16, end: u16) -> ServiceConf {
        ServiceConf {
            protocol,
            start,
            end,
            weight: DEFAULT_WEIGHT,
            scheduler: limits::DEFAULT_SCHEDULER.to_owned(),
            scheduler_flags: 0,
            one_packet: false,
            persistence: None,
            persistence_netmask: None,
            persistence_engine: None,
            upper_threshold: None,
            lower_threshold: None,
            node_weights: BTreeMap::new(),
            registration: RegistrationMode::Automatic,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            flap_limit: DEFAULT_FLAP_LIMIT,
            damp_time: DEFAULT_DAMP_TIME,
            owners: Vec::new(),
            quorum: None,
            slow_start: None,
            sorry_servers: Vec::new(),
            check: None,
        }
    }

    /// A real server's weight on the service's ports: the one that the service gives its node,
    /// or its own.
    pub fn weight_of(&self, server: &RealServer) -> u32 {
        self.node_weights.get(&server.node).copied().unwrap_or(server.weight)
    }

    /// True if the service stands whatever listens: it is static, or has sorry servers.
    pub fn always_exists(&self) -> bool {
        self.registration == RegistrationMode::Static || !self.sorry_servers.is_empty()
    }

    /// True if the service covers this port.
    pub fn covers(&self, protocol: Protocol, port: u16) -> bool {
        self.flag().covers(protocol, port)
    }

    /// The flag with the service's protocol, range and weight.
    pub fn flag(&self) -> PortFlag {
        PortFlag { protocol: self.protocol, start: self.start, end: self.end, weight: self.weight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn director(node: u32, sync: Option<&str>) -> DirectorNode {
        DirectorNode {
            node,
            garp_interface: "eth0".to_owned(),
            sync_interface: sync.map(str::to_owned),
        }
    }

    fn cvip(host: u8, directors: Vec<DirectorNode>, servers: &[u32]) -> Cvip {
        let real_servers = servers
            .iter()
            .map(|node| RealServer { node: *node, addr: addr("10.0.0.1"), weight: 1 })
            .collect();
        Cvip {
            addr: IpAddr::from([10, 0, 0, host]),
            gateway: None,
            directors,
            real_servers,
            services: Vec::new(),
        }
    }

    #[test]
    fn cvips_that_share_directors_are_one_set_in_the_first_ones_order() {
        let conf = Conf {
            routing: Routing::Dr,
            cvips: vec![
                cvip(10, vec![director(2, None), director(1, None)], &[1, 2]),
                cvip(11, vec![director(3, None)], &[3, 4]),
                cvip(12, vec![director(1, Some("eth1")), director(2, None)], &[1, 2]),
            ],
        };
        assert_eq!(
            conf.director_sets(),
            [
                DirectorSet {
                    directors: vec![2, 1],
                    cvips: vec![addr("10.0.0.10"), addr("10.0.0.12")]
                },
                DirectorSet { directors: vec![3], cvips: vec![addr("10.0.0.11")] },
            ]
        );
        assert_eq!(conf.nodes(), [1, 2, 3, 4]);
        assert!(conf.is_director(3) && !conf.is_director(4));
        assert_eq!(conf.sync_interface(1), Some("eth1"));
        assert_eq!(conf.sync_interface(2), None);
    }

    #[test]
    fn a_static_service_is_found_but_flags_nothing() {
        let mut cvip = cvip(10, vec![director(1, None)], &[1]);
        let mut xdmcp = ServiceConf::new(Protocol::Udp, 177, 177);
        xdmcp.registration = RegistrationMode::Static;
        cvip.services = vec![ServiceConf::new(Protocol::Tcp, 80, 89), xdmcp.clone()];
        assert_eq!(cvip.service_for(Protocol::Udp, 177), Some(&xdmcp));
        assert_eq!(cvip.service_for(Protocol::Tcp, 177), None);
        assert_eq!(cvip.flags().lookup(Protocol::Udp, 177), None);
        assert_eq!(cvip.flags().lookup(Protocol::Tcp, 85), Some(cvip.services[0].flag()));
    }

    #[test]
    fn a_quorum_is_lost_below_its_hysteresis_and_made_again_above_it() {
        let quorum = Quorum { weight: 10, hysteresis: 3 };
        for (weight, after_one, after_none) in
            [(6, false, false), (7, true, false), (12, true, false), (13, true, true)]
        {
            assert_eq!(quorum.is_made_by(weight, true), after_one, "{weight}");
            assert_eq!(quorum.is_made_by(weight, false), after_none, "{weight}");
        }
        assert!(Quorum::ANY.is_made_by(1, false) && !Quorum::ANY.is_made_by(0, true));
    }

    #[test]
    fn a_weight_grows_along_the_curve_of_its_slow_start() {
        let slow = |aggression| SlowStart { aggression, ..SlowStart::new(60) };
        let weights = |slow: SlowStart, whole| {
            [0, 6, 15, 30, 59, 60, 1000].map(|s| slow.weight(whole, Duration::from_secs(s)))
        };
        assert_eq!(weights(slow(100), 1000), [100, 100, 250, 500, 983, 1000, 1000]);
        assert_eq!(weights(slow(200), 1000), [129, 316, 500, 707, 992, 1000, 1000]);
        assert_eq!(weights(slow(50), 1000), [100, 100, 100, 250, 967, 1000, 1000]);
        assert_eq!(weights(slow(100), 1), [1; 7]);
        assert_eq!(weights(slow(100), 0), [0; 7]);
        let none = SlowStart { min_weight_percent: 0, ..slow(100) };
        assert_eq!(weights(none, 65_535)[0], 1092);
    }

    #[test]
    fn a_real_server_is_found_by_its_node_number() {
        let cvip = cvip(10, vec![director(1, None)], &[1, 5, 9]);
        assert_eq!(cvip.real_server(5).map(|server| server.node), Some(5));
        assert_eq!(cvip.real_server(4), None);
    }
}
