//! The configurations of the simulated cluster.

use std::net::IpAddr;

use cvip::conf::{Conf, Cvip, DirectorNode, RealServer, RegistrationMode, Routing, ServiceConf};
use cvip::protocol::Protocol;

/// The CVIP.
pub const CVIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));

/// The services: HTTP and XDMCP, which nodes join by listening, and one that nodes join by
/// cvip.conf.
pub const HTTP: (Protocol, u16) = (Protocol::Tcp, 80);
/// See [`HTTP`].
pub const XDMCP: (Protocol, u16) = (Protocol::Udp, 177);
/// See [`HTTP`].
pub const STATIC: (Protocol, u16) = (Protocol::Tcp, 5432);

/// A service that cvip.conf does not name: an operator's flag alone makes it.
pub const FLAGGED: (Protocol, u16) = (Protocol::Tcp, 9000);

/// The ports on which every node has a server.
pub const PORTS: [u16; 3] = [HTTP.1, XDMCP.1, FLAGGED.1];

/// The protocol of the service on a port.
pub fn protocol_of(port: u16) -> Protocol {
    if port == XDMCP.1 { XDMCP.0 } else { Protocol::Tcp }
}

/// A node's address.
pub fn addr_of(node: u32) -> IpAddr {
    [10, 0, 0, u8::try_from(node).unwrap_or(u8::MAX)].into()
}

/// The node of an address.
pub fn node_of(addr: IpAddr) -> Option<u32> {
    match addr {
        IpAddr::V4(addr) if addr.octets()[..3] == [10, 0, 0] && addr.octets()[3] < 100 => {
            Some(addr.octets()[3].into())
        }
        _ => None,
    }
}

/// What cvip.conf says: which nodes direct, which serve, and whether connections are synchronised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The directors, in the order of election.
    pub directors: Vec<u32>,
    /// The real servers.
    pub servers: Vec<u32>,
    /// Connections are synchronised.
    pub sync: bool,
}

impl Layout {
    /// The configuration.
    pub fn conf(&self) -> Conf {
        let director = |node: &u32| DirectorNode {
            node: *node,
            garp_interface: "eth0".to_owned(),
            sync_interface: self.sync.then(|| "eth0".to_owned()),
        };
        let server = |node: &u32| RealServer { node: *node, addr: addr_of(*node), weight: 1 };
        let mut http = ServiceConf::new(HTTP.0, HTTP.1, HTTP.1);
        http.drain_timeout = 5;
        let mut xdmcp = ServiceConf::new(XDMCP.0, XDMCP.1, XDMCP.1);
        xdmcp.persistence = Some(60);
        let mut fixed = ServiceConf::new(STATIC.0, STATIC.1, STATIC.1);
        fixed.registration = RegistrationMode::Static;
        let mut nodes = self.servers.clone();
        nodes.extend(self.directors.iter().filter(|node| !self.servers.contains(node)));
        nodes.sort_unstable();
        let cvip = Cvip {
            addr: CVIP,
            gateway: None,
            directors: self.directors.iter().map(director).collect(),
            real_servers: nodes.iter().map(server).collect(),
            services: vec![http, xdmcp, fixed],
        };
        Conf { routing: Routing::Dr, cvips: vec![cvip] }
    }
}
