//! Which listeners may join: those that cluster traffic can reach, of an owner that may serve.
//!
//! Pure. [`judge`] looks at one listener and one CVIP; what it refuses, it gives a reason for,
//! which `cvipctl status` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::system::user_name;
use crate::conf::Routing;
use crate::listeners::ListenerId;
use crate::ports::PortFlag;
use crate::protocol::Protocol;

/// Ports that never register: etcd's client and peer ports, on which a cluster's own store may
/// listen, and the port on which directors hear heartbeats.
pub const RESERVED_PORTS: [(Protocol, u16); 3] =
    [(Protocol::Tcp, 2379), (Protocol::Tcp, 2380), (Protocol::Udp, crate::heartbeat::PORT)];

/// `nobody`, a system account above UID_MIN (login.defs(5), useradd(8)).
const NOBODY: u32 = 65534;

/// What the rules need to know of the node, for one CVIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// How packets for the CVIP reach the node.
    pub routing: Routing,
    /// The virtual address.
    pub cvip: IpAddr,
    /// The node's balanced address.
    pub addr: IpAddr,
    /// Index of the interface that has the balanced address, if it is known.
    pub device: Option<u32>,
}

/// Whose listeners may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Anyone's (`<owner>*</owner>`).
    Anyone,
    /// These users' (`<owner>www-data</owner>`).
    Users(BTreeSet<u32>),
    /// Root's and the system accounts': user ids below UID_MIN, and `nobody`.
    System {
        /// The first user id of people (`UID_MIN` of /etc/login.defs).
        uid_min: u32,
    },
}

impl Owners {
    fn admit(&self, uid: u32) -> bool {
        match self {
            Owners::Anyone => true,
            Owners::Users(users) => users.contains(&uid),
            Owners::System { uid_min } => uid < *uid_min || uid == NOBODY,
        }
    }
}

/// Why a listener on a flagged port does not join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Bound to a loopback address.
    Loopback,
    /// Bound to an address at which cluster traffic does not arrive.
    Address {
        /// Addresses that would do, besides the wildcard.
        wanted: IpAddr,
    },
    /// An IPv6-only or IPv4 socket, and a CVIP of the other family.
    Family,
    /// Bound to a device at which cluster traffic does not arrive.
    Device,
    /// Its owner may not serve.
    Owner(u32),
    /// A UDP port that the kernel hands to clients, flagged within a range.
    Ephemeral,
    /// A port of the cluster's own.
    Reserved,
}

impl Refusal {
    /// True if packets for the CVIP would reach the listener all the same, on a host that
    /// carries the CVIP: it is a rule that keeps it out, not where it is bound.
    pub fn is_reachable(&self) -> bool {
        matches!(self, Refusal::Owner(_) | Refusal::Ephemeral | Refusal::Reserved)
    }
}

/// What a record says of a listener whose owner may not serve, after its owner's name.
const OWNER_RULE: &str = "may not serve this port (name it in an <owner> of cvip.conf)";

impl Refusal {
    /// The reason for people; `names` are the users of the listener's host.
    pub fn describe(&self, names: &BTreeMap<u32, String>) -> String {
        match self {
            Refusal::Owner(uid) => format!("{} {OWNER_RULE}", user_name(*uid, names)),
            other => other.to_string(),
        }
    }

    /// True if a record that names the reason so means this one.
    pub fn is_described_by(&self, reason: &str) -> bool {
        match self {
            Refusal::Owner(_) => reason.ends_with(OWNER_RULE),
            other => other.to_string() == reason,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Loopback => f.write_str("bound to loopback: cluster traffic cannot reach it"),
            Refusal::Address { wanted } => {
                write!(f, "bound to an address that is neither the wildcard nor {wanted}")
            }
            Refusal::Family => f.write_str("takes the other address family only"),
            Refusal::Device => f.write_str("bound to another network device"),
            Refusal::Owner(uid) => write!(f, "user id {uid} {OWNER_RULE}"),
            Refusal::Ephemeral => f.write_str(
                "a UDP port of ip_local_port_range joins only if it is flagged by itself",
            ),
            Refusal::Reserved => f.write_str("a port of the cluster's own"),
        }
    }
}

/// May this listener, on a port that `flag` covers, join the CVIP's service?
///
/// `ephemeral` is the kernel's ip_local_port_range, inclusive.
///
/// # Errors
/// The first rule that it breaks; where it is bound comes before which user owns it.
pub fn judge(
    listener: &ListenerId,
    flag: PortFlag,
    reach: &Reach,
    owners: &Owners,
    ephemeral: (u16, u16),
) -> Result<(), Refusal> {
    let bound = listener.addr.to_canonical();
    if listener.device != 0 && Some(listener.device) != reach.device {
        return Err(Refusal::Device);
    }
    let wanted = match reach.routing {
        Routing::Dr | Routing::Tun => reach.cvip,
        Routing::Nat => reach.addr,
    };
    if bound.is_unspecified() {
        let takes = match (listener.addr, wanted) {
            (IpAddr::V4(_), wanted) => wanted.is_ipv4(),
            (IpAddr::V6(_), wanted) => wanted.is_ipv6() || !listener.v6only,
        };
        if !takes {
            return Err(Refusal::Family);
        }
    } else if bound != wanted {
        return Err(match bound.is_loopback() {
            true => Refusal::Loopback,
            false => Refusal::Address { wanted },
        });
    }
    if RESERVED_PORTS.contains(&(listener.protocol, listener.port)) {
        return Err(Refusal::Reserved);
    }
    let is_ephemeral = (ephemeral.0..=ephemeral.1).contains(&listener.port);
    if listener.protocol == Protocol::Udp && is_ephemeral && !flag.is_single() {
        return Err(Refusal::Ephemeral);
    }
    if !owners.admit(listener.uid) {
        return Err(Refusal::Owner(listener.uid));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPHEMERAL: (u16, u16) = (32768, 60999);

    fn listener(addr: &str, port: u16) -> ListenerId {
        let addr = addr.parse().unwrap();
        ListenerId { protocol: Protocol::Tcp, addr, port, v6only: false, device: 0, uid: 0 }
    }

    fn reach(routing: Routing, cvip: &str, addr: &str) -> Reach {
        let (cvip, addr) = (cvip.parse().unwrap(), addr.parse().unwrap());
        Reach { routing, cvip, addr, device: Some(2) }
    }

    fn verdict(listener: &ListenerId, reach: &Reach) -> Result<(), Refusal> {
        let flag = PortFlag { protocol: listener.protocol, start: 1, end: 65535, weight: 1 };
        judge(listener, flag, reach, &Owners::System { uid_min: 1000 }, EPHEMERAL)
    }

    #[test]
    fn with_direct_routing_the_wildcard_and_the_cvip_join_and_nothing_else() {
        for routing in [Routing::Dr, Routing::Tun] {
            let reach = reach(routing, "10.0.0.100", "10.0.0.1");
            let on = |addr| verdict(&listener(addr, 80), &reach);
            assert_eq!(on("0.0.0.0"), Ok(()));
            assert_eq!(on("10.0.0.100"), Ok(()));
            assert_eq!(on("::ffff:10.0.0.100"), Ok(()));
            assert_eq!(on("::"), Ok(()), "a dual-stack socket takes IPv4");
            assert_eq!(on("10.0.0.1"), Err(Refusal::Address { wanted: reach.cvip }));
            assert_eq!(on("127.0.0.1"), Err(Refusal::Loopback));
            assert_eq!(on("::1"), Err(Refusal::Loopback));
            let v6only = ListenerId { v6only: true, ..listener("::", 80) };
            assert_eq!(verdict(&v6only, &reach), Err(Refusal::Family));
        }
    }

    #[test]
    fn with_nat_the_wildcard_and_the_balanced_address_join() {
        let reach = reach(Routing::Nat, "10.0.0.100", "192.168.0.1");
        assert_eq!(verdict(&listener("192.168.0.1", 80), &reach), Ok(()));
        assert_eq!(verdict(&listener("0.0.0.0", 80), &reach), Ok(()));
        let cvip = verdict(&listener("10.0.0.100", 80), &reach);
        assert_eq!(cvip, Err(Refusal::Address { wanted: reach.addr }));
    }

    #[test]
    fn an_ipv4_socket_cannot_serve_an_ipv6_cvip() {
        let reach = reach(Routing::Dr, "fd00::100", "fd00::1");
        assert_eq!(verdict(&listener("0.0.0.0", 80), &reach), Err(Refusal::Family));
        assert_eq!(verdict(&listener("::", 80), &reach), Ok(()));
        assert_eq!(verdict(&listener("fd00::100", 80), &reach), Ok(()));
    }

    #[test]
    fn a_socket_bound_to_another_device_never_joins() {
        let reach = reach(Routing::Dr, "10.0.0.100", "10.0.0.1");
        let on = |device| verdict(&ListenerId { device, ..listener("0.0.0.0", 80) }, &reach);
        assert_eq!(on(2), Ok(()), "the device of the balanced address");
        assert_eq!(on(1), Err(Refusal::Device));
        let unknown = Reach { device: None, ..reach.clone() };
        let bound = ListenerId { device: 2, ..listener("0.0.0.0", 80) };
        assert_eq!(verdict(&bound, &unknown), Err(Refusal::Device));
    }

    #[test]
    fn a_udp_port_that_clients_are_given_joins_only_if_flagged_singly() {
        let reach = reach(Routing::Dr, "10.0.0.100", "10.0.0.1");
        let udp = |port| ListenerId { protocol: Protocol::Udp, ..listener("0.0.0.0", port) };
        assert_eq!(verdict(&udp(177), &reach), Ok(()));
        assert_eq!(verdict(&udp(40000), &reach), Err(Refusal::Ephemeral));
        let single = PortFlag { protocol: Protocol::Udp, start: 40000, end: 40000, weight: 1 };
        assert_eq!(judge(&udp(40000), single, &reach, &Owners::Anyone, EPHEMERAL), Ok(()));
        assert_eq!(verdict(&listener("0.0.0.0", 40000), &reach), Ok(()), "TCP is not affected");
    }

    #[test]
    fn no_user_puts_a_server_into_the_pool_unless_cvip_conf_names_the_user() {
        let reach = reach(Routing::Dr, "10.0.0.100", "10.0.0.1");
        let flag = PortFlag { protocol: Protocol::Tcp, start: 1, end: 65535, weight: 1 };
        let of = |uid, owners: &Owners| {
            let listener = ListenerId { uid, ..listener("0.0.0.0", 8080) };
            judge(&listener, flag, &reach, owners, EPHEMERAL)
        };
        let system = Owners::System { uid_min: 1000 };
        for uid in [0, 33, 999, 65534] {
            assert_eq!(of(uid, &system), Ok(()));
        }
        assert_eq!(of(1000, &system), Err(Refusal::Owner(1000)));
        assert_eq!(of(1000, &Owners::Anyone), Ok(()));
        let named = Owners::Users([1000].into());
        assert_eq!(of(1000, &named), Ok(()));
        assert_eq!(of(0, &named), Err(Refusal::Owner(0)));
    }

    #[test]
    fn the_clusters_own_ports_never_join() {
        let reach = reach(Routing::Dr, "10.0.0.100", "10.0.0.1");
        assert_eq!(verdict(&listener("0.0.0.0", 2379), &reach), Err(Refusal::Reserved));
        let udp = ListenerId { protocol: Protocol::Udp, ..listener("0.0.0.0", 2379) };
        assert_eq!(verdict(&udp, &reach), Ok(()));
        let heartbeats = ListenerId { port: crate::heartbeat::PORT, ..udp };
        assert_eq!(verdict(&heartbeats, &reach), Err(Refusal::Reserved));
    }

    #[test]
    fn only_a_rule_and_not_a_binding_leaves_a_refused_listener_within_reach() {
        assert!(Refusal::Owner(1000).is_reachable());
        assert!(!Refusal::Loopback.is_reachable());
        assert!(!Refusal::Device.is_reachable());
    }
}
