//! Hosts on one bridge, for tests of a part of cvip; a [`Cluster`](crate::Cluster) is for whole programs.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::cabling::{self, Cable};
use crate::namespace::Namespace;

/// The name of the bridge.
const BRIDGE: &str = "br0";

/// Hosts with the numbers 1, 2, ..., each a network namespace without a name. Host N has 10.0.0.N/24 and fd00::N/64 on
/// its `eth0`, which has its carrier.
#[derive(Debug)]
pub struct Segment {
    hosts: Vec<Namespace>,
    bridge: Namespace,
}

impl Segment {
    /// So many hosts, up to 9.
    ///
    /// # Panics
    /// If this is not root, or if there is no iproute2.
    #[must_use]
    #[track_caller]
    pub fn new(hosts: u8) -> Segment {
        let bridge = Namespace::new();
        let hosts: Vec<Namespace> = (0..hosts).map(|_| Namespace::new()).collect();
        let cable = |number: u8| Cable {
            bridge: BRIDGE,
            port: format!("p{number}"),
            device: "eth0",
            mac: None,
            v4: Ipv4Addr::new(10, 0, 0, number),
            v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())),
        };
        let ends: Vec<_> =
            hosts.iter().zip(1..).map(|(host, number)| (host, vec![cable(number)])).collect();
        cabling::make_bridges(&bridge, &[BRIDGE])
            .and_then(|()| cabling::connect(&bridge, &ends))
            .unwrap_or_else(|error| panic!("{error:#}"));
        for (host, cables) in &ends {
            host.await_carrier("eth0");
            bridge.await_carrier(&cables[0].port);
        }
        Segment { hosts, bridge }
    }

    /// The host with this number, from 1 on.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host(&self, number: u32) -> &Namespace {
        &self.hosts[number as usize - 1]
    }

    /// Pulls a host's cable out, or puts it in again.
    ///
    /// # Panics
    /// If there is no such host.
    #[track_caller]
    pub fn plug(&self, number: u32, plugged: bool) {
        let switched = cabling::set_port(&self.bridge, &format!("p{number}"), plugged);
        switched.unwrap_or_else(|error| panic!("{error:#}"));
    }
}
