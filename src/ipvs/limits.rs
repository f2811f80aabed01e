//! What Linux's IPVS knows and takes: the bounds of what ipvsadm, its JSON and cvip.conf read.

/// Linux's own schedulers (net/netfilter/ipvs/Kconfig).
pub const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"];

/// Scheduler of a virtual service that names none (LVS's own default).
pub const DEFAULT_SCHEDULER: &str = "wlc";

/// Longest scheduler name in bytes (`IP_VS_SCHEDNAME_MAXLEN` - 1, linux/ip_vs.h).
pub const SCHEDULER_MAX_LEN: usize = 15;

/// Longest name of a persistence engine in bytes (`IP_VS_PENAME_MAXLEN`, linux/ip_vs.h).
pub const ENGINE_MAX_LEN: usize = 16;

/// Longest interface name in bytes (`IFNAMSIZ` - 1, linux/if.h).
pub const INTERFACE_MAX_LEN: usize = 15;

/// Longest persistence, drain and connection time-out in seconds: 31 days, the most that
/// ipvsadm(8) takes.
pub const MAX_SECONDS: u32 = 31 * 24 * 60 * 60;

/// The kernel's largest weight and threshold (`int`, linux/ip_vs.h).
pub const MAX_INT: u32 = i32::MAX as u32;
