//! Addresses, announcements and kernel settings: what a node needs of its own kernel, beside
//! the IPVS table, for its role.
//!
//! ```text
//!   desired         what cvip.conf asks of a node in its role               pure
//!   settings        makes it so, records what it made, undoes it            kernel, one file
//!   announce        tells the neighbours which host has an address          kernel
//!   changes         wakes when links, addresses, local routes change        kernel
//!   conflict        whether another host is believed to have an address     pure
//!   conflict_watch  hears other hosts claim addresses, and asks them        kernel
//!   local           what the node has anyway                                kernel
//!   interfaces      links with their addresses, as they are                 kernel
//!   routes          where packets to an address would go                    kernel
//! ```
//!
//! Everything happens in the network namespace of the calling thread: a netlink or packet
//! socket belongs to the namespace it was opened in, and `/proc/sys/net` shows the namespace of
//! the thread that reads it.

mod addresses;
mod announce;
mod changes;
mod conflict;
mod conflict_watch;
mod desired;
mod error;
mod filter;
mod frames;
mod interfaces;
mod local;
mod netlink;
mod packet;
mod report;
mod routes;
mod settings;
mod sysctl;

pub use addresses::{Address, Link, host_prefix};
pub use announce::{Announcer, announce};
pub use changes::ChangeWatch;
pub use conflict::{AddressConflicts, Claimed, ConflictState};
pub use conflict_watch::ConflictWatch;
pub use desired::{
    AddressRole, DesiredAddress, DesiredLink, DesiredSettings, DesiredSysctl, Device, NeededOn,
    desired,
};
pub use error::NetError;
pub use frames::Mac;
pub(crate) use frames::internet_checksum;
pub use interfaces::{Interface, interfaces};
pub use local::{local_addresses, local_port_range};
pub use report::{Difference, Done, Reachable, SettingFailure, SettingsReport};
pub use routes::{Route, route_abroad};
pub use settings::{
    Incapable, NetworkHost, NetworkSettings, SettingsRecord, SettingsSnapshot, ThisHost,
};
pub use sysctl::{name as setting_name, read as setting};
