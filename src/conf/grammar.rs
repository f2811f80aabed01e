//! cvip.conf's grammar: which element stands in which, and how often.
//!
//! `routing`, `cvip`, `ip_addr`, `gateway`, `director_node` with its three children and
//! `real_server_node` are OpenSSI's; what stands in a `real_server_node` and `service` with
//! all its children are this project's own, for no source of the originals is left.

/// An element that holds elements.
pub(super) struct Element {
    pub(super) name: &'static str,
    /// Children that stand once at most.
    pub(super) single: &'static [&'static str],
    /// Children that may repeat.
    pub(super) repeated: &'static [&'static str],
    /// Children that must be there, and what they are for.
    pub(super) required: &'static [(&'static str, &'static str)],
}

pub(super) const CVIPS: Element = Element {
    name: "cvips",
    single: &["routing"],
    repeated: &["cvip"],
    required: &[
        ("routing", "how packets reach the real servers: DR, NAT or TUN"),
        ("cvip", "one for each virtual address of the cluster"),
    ],
};

pub(super) const CVIP: Element = Element {
    name: "cvip",
    single: &["ip_addr", "gateway"],
    repeated: &["director_node", "real_server_node", "service"],
    required: &[
        ("ip_addr", "the virtual address itself"),
        ("director_node", "one for each node that may forward this CVIP's packets"),
    ],
};

pub(super) const DIRECTOR_NODE: Element = Element {
    name: "director_node",
    single: &["node_num", "garp_interface", "sync_interface"],
    repeated: &[],
    required: &[
        ("node_num", "the node's number in clustertab"),
        ("garp_interface", "the interface that carries and announces the CVIP"),
    ],
};

pub(super) const REAL_SERVER_NODE: Element = Element {
    name: "real_server_node",
    single: &["node_num", "ip_addr", "weight"],
    repeated: &[],
    required: &[("node_num", "the node's number in clustertab")],
};

pub(super) const SERVICE: Element = Element {
    name: "service",
    single: &[
        "protocol",
        "port",
        "start_port",
        "end_port",
        "weight",
        "scheduler",
        "scheduler_flags",
        "one_packet",
        "persistence",
        "persistence_netmask",
        "persistence_engine",
        "upper_threshold",
        "lower_threshold",
        "registration",
        "drain_timeout",
        "flap_limit",
        "damp_time",
        "quorum",
        "hysteresis",
        "slow_start",
        "check",
    ],
    repeated: &["node", "owner", "sorry_server"],
    required: &[],
};

pub(super) const NODE: Element = Element {
    name: "node",
    single: &["node_num", "weight"],
    repeated: &[],
    required: &[
        ("node_num", "the node's number in clustertab"),
        ("weight", "the node's weight on this service's ports"),
    ],
};

pub(super) const SLOW_START: Element = Element {
    name: "slow_start",
    single: &["window", "aggression", "min_weight_percent"],
    repeated: &[],
    required: &[("window", "the seconds until a server that begins to serve has its whole weight")],
};

pub(super) const SORRY_SERVER: Element = Element {
    name: "sorry_server",
    single: &["ip_addr", "port", "weight"],
    repeated: &[],
    required: &[("ip_addr", "the address of the server that is left when no real server is")],
};

pub(super) const CHECK: Element = Element {
    name: "check",
    single: &[
        "type", "interval", "timeout", "rise", "fall", "port", "host", "path", "status", "pattern",
        "verify", "name", "record", "command", "user",
    ],
    repeated: &[],
    required: &[("type", "what a real server is asked: tcp, http, https, dns or exec")],
};

pub(super) const ELEMENTS: [&Element; 9] = [
    &CVIPS,
    &CVIP,
    &DIRECTOR_NODE,
    &REAL_SERVER_NODE,
    &SERVICE,
    &NODE,
    &SLOW_START,
    &SORRY_SERVER,
    &CHECK,
];

impl Element {
    pub(super) fn children(&self) -> impl Iterator<Item = &'static str> {
        self.single.iter().chain(self.repeated).copied()
    }
}
