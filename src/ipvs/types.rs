//! What stands in the kernel's table, in the field's own words.
//!
//! Identities (what the kernel finds an entry by) are apart from settings (what can be
//! edited), and both are apart from counters (what only the kernel writes). Ports, marks and
//! addresses are in host order everywhere above the netlink codec.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

named! {
    /// An address family, as `IPVS_SVC_ATTR_AF` carries it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Family {
        /// `AF_INET`.
        #[serde(rename = "ipv4")]
        V4 = "IPv4",
        /// `AF_INET6`.
        #[serde(rename = "ipv6")]
        V6 = "IPv6",
    }
}

impl Family {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// What the kernel finds a virtual service by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceId {
    /// Protocol, virtual address and port (0: every port, for persistent services).
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address.
        addr: IpAddr,
        /// Virtual port, host order.
        port: u16,
    },
    /// A firewall mark, for one address family.
    Mark {
        /// The mark, never 0.
        mark: u32,
        /// Family of the packets that carry it.
        family: Family,
    },
}

impl ServiceId {
    /// The protocol; a firewall mark has none.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            ServiceId::Address { protocol, .. } => Some(*protocol),
            ServiceId::Mark { .. } => None,
        }
    }

    /// The family of the service's packets.
    pub fn family(&self) -> Family {
        match self {
            ServiceId::Address { addr, .. } => Family::of(*addr),
            ServiceId::Mark { family, .. } => *family,
        }
    }
}

/// Service flags (`IP_VS_SVC_F_*`, linux/ip_vs.h).
pub mod service_flags {
    /// The service is persistent.
    pub const PERSISTENT: u32 = 0x0001;
    /// Set by the kernel alone: the service stands in its hash table.
    pub const HASHED: u32 = 0x0002;
    /// One-packet scheduling.
    pub const ONE_PACKET: u32 = 0x0004;
    /// Scheduler flag 1 (`sh-fallback`, `mh-fallback`).
    pub const SCHED1: u32 = 0x0008;
    /// Scheduler flag 2 (`sh-port`, `mh-port`).
    pub const SCHED2: u32 = 0x0010;
    /// Scheduler flag 3.
    pub const SCHED3: u32 = 0x0020;
}

/// A virtual service: its identity and everything that can be edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What the kernel finds it by.
    pub id: ServiceId,
    /// Scheduler's name, such as `wlc`; at most 15 bytes (`IP_VS_SCHEDNAME_MAXLEN` - 1).
    pub scheduler: String,
    /// [`service_flags`] without `HASHED`.
    pub flags: u32,
    /// Persistence time-out in seconds; meaningful with `PERSISTENT` only, else 0.
    pub timeout: u32,
    /// Persistence granularity: a prefix length would lose odd IPv4 masks, so it is what the
    /// kernel has: for IPv4 the mask as a number in host order (`0xffff_ff00`), for IPv6 the
    /// prefix length.
    pub netmask: u32,
    /// Persistence engine, such as `sip`; at most 16 bytes.
    pub pe: Option<String>,
}

impl Service {
    /// A service with a scheduler and nothing else set.
    pub fn new(id: ServiceId, scheduler: &str) -> Service {
        Service {
            id,
            scheduler: scheduler.to_owned(),
            flags: 0,
            timeout: 0,
            netmask: Service::full_netmask(id.family()),
            pe: None,
        }
    }

    /// The netmask under which every client is one of its own.
    pub fn full_netmask(family: Family) -> u32 {
        match family {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        }
    }

    /// The netmask in the words of ipvsadm(8), if it takes more than one address for a client.
    pub fn partial_netmask(&self) -> Option<String> {
        let family = self.id.family();
        (self.netmask != Service::full_netmask(family)).then(|| match family {
            Family::V4 => Ipv4Addr::from_bits(self.netmask).to_string(),
            Family::V6 => self.netmask.to_string(),
        })
    }

    /// Makes it persistent for `seconds`.
    pub fn persistent(mut self, seconds: u32) -> Service {
        self.flags |= service_flags::PERSISTENT;
        self.timeout = seconds;
        self
    }
}

/// What the kernel finds a destination by, within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationId {
    /// Real server's address.
    pub addr: IpAddr,
    /// Real server's port, host order.
    pub port: u16,
}

named! {
    /// How packets reach a real server (`IP_VS_CONN_F_*`, linux/ip_vs.h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Forwarding {
        /// Masquerading (NAT), 0.
        Masquerade = "Masq",
        /// Local node, 1: only the kernel sets it.
        #[serde(rename = "local")]
        LocalNode = "Local",
        /// IP tunnelling (TUN), 2.
        Tunnel = "Tunnel",
        /// Direct routing (DR), 3.
        Route = "Route",
        /// Cache bypass, 4: only the kernel sets it.
        Bypass = "Bypass",
    }
}

/// The encapsulation of a tunnelled destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Tunnel {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// GUE port, host order; 0 otherwise.
    pub port: u16,
    /// Checksum flags (`IP_VS_TUNNEL_ENCAP_FLAG_*`): 0 none, 1 checksum, 2 remote checksum.
    pub flags: u16,
}

named! {
    /// Tunnel types (`IP_VS_CONN_F_TUNNEL_TYPE_*`, linux/ip_vs.h). The words are ipvsadm(8)'s.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[non_exhaustive]
    pub enum TunnelKind {
        /// IP in IP, 0.
        #[default]
        Ipip = "ipip",
        /// Generic UDP encapsulation, 1.
        Gue = "gue",
        /// Generic routing encapsulation, 2.
        Gre = "gre",
    }
}

/// A destination: its identity and everything that can be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// What the kernel finds it by.
    pub id: DestinationId,
    /// Forwarding method.
    pub forward: Forwarding,
    /// Weight, 0 (quiesced) to `i32::MAX`.
    pub weight: u32,
    /// Upper connection threshold; 0 is none.
    pub upper: u32,
    /// Lower connection threshold; 0 is none.
    pub lower: u32,
    /// Encapsulation, for [`Forwarding::Tunnel`].
    pub tunnel: Tunnel,
}

impl Destination {
    /// A destination with a weight and nothing else set.
    pub fn new(addr: IpAddr, port: u16, forward: Forwarding, weight: u32) -> Destination {
        Destination {
            id: DestinationId { addr, port },
            forward,
            weight,
            upper: 0,
            lower: 0,
            tunnel: Tunnel::default(),
        }
    }
}

/// Counters and rates of a service or destination (`IPVS_STATS_ATTR_*`); rates are per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Incoming packets.
    pub in_packets: u64,
    /// Outgoing packets.
    pub out_packets: u64,
    /// Incoming bytes.
    pub in_bytes: u64,
    /// Outgoing bytes.
    pub out_bytes: u64,
    /// Connections per second.
    pub cps: u64,
    /// Incoming packets per second.
    pub in_pps: u64,
    /// Outgoing packets per second.
    pub out_pps: u64,
    /// Incoming bytes per second.
    pub in_bps: u64,
    /// Outgoing bytes per second.
    pub out_bps: u64,
}

/// A service as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Identity and settings.
    pub service: Service,
    /// Counters.
    pub stats: Stats,
}

/// A destination as a dump shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationEntry {
    /// Identity and settings.
    pub destination: Destination,
    /// Active connections (established, for TCP).
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistent connections (templates).
    pub persistent: u32,
    /// Counters.
    pub stats: Stats,
}

/// Connection time-outs in seconds; 0 in a change keeps the present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Established TCP.
    #[serde(rename = "tcp_s")]
    pub tcp: u32,
    /// TCP after a FIN.
    #[serde(rename = "tcp_fin_s")]
    pub tcp_fin: u32,
    /// UDP.
    #[serde(rename = "udp_s")]
    pub udp: u32,
}

/// The kernel's version of IPVS and the size of its connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Major, minor, patch.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table.
    pub connection_table_size: u32,
}

named! {
    /// A connection synchronisation daemon's role.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum DaemonRole {
        /// Sends (`IP_VS_STATE_MASTER`, 1).
        Master = "master",
        /// Receives (`IP_VS_STATE_BACKUP`, 2).
        Backup = "backup",
    }
}

/// A connection synchronisation daemon; absent settings are the kernel's to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncDaemon {
    /// Role.
    pub role: DaemonRole,
    /// Interface of the multicast group; at most 15 bytes.
    pub interface: String,
    /// Sync id, 0 to 255.
    pub sync_id: u32,
    /// Largest message in bytes.
    #[serde(rename = "max_len_bytes")]
    pub max_len: Option<u16>,
    /// Multicast group.
    pub group: Option<IpAddr>,
    /// Multicast port, host order.
    pub port: Option<u16>,
    /// Multicast TTL.
    pub ttl: Option<u8>,
}

/// One change to the kernel's table: one netlink message, acknowledged or refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `IPVS_CMD_NEW_SERVICE`.
    AddService(Service),
    /// `IPVS_CMD_SET_SERVICE`: replaces every setting.
    EditService(Service),
    /// `IPVS_CMD_DEL_SERVICE`, with all of its destinations.
    DeleteService(ServiceId),
    /// `IPVS_CMD_NEW_DEST`.
    AddDestination(ServiceId, Destination),
    /// `IPVS_CMD_SET_DEST`: replaces every setting.
    EditDestination(ServiceId, Destination),
    /// `IPVS_CMD_DEL_DEST`.
    DeleteDestination(ServiceId, DestinationId),
    /// `IPVS_CMD_ZERO`, of one service or of all.
    Zero(Option<ServiceId>),
    /// `IPVS_CMD_FLUSH`: empties the table.
    Flush,
    /// `IPVS_CMD_SET_CONFIG`.
    SetTimeouts(Timeouts),
    /// `IPVS_CMD_NEW_DAEMON`.
    StartDaemon(SyncDaemon),
    /// `IPVS_CMD_DEL_DAEMON`.
    StopDaemon(DaemonRole, u32),
}
