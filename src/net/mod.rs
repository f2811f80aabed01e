//! Addresses, announcements and kernel settings: what a node needs of its own kernel, beside
//! the IPVS table, to play its part.
//!
//! ```text
//!   wishes      what cvip.conf asks of a node in its role          pure
//!   keeper      makes it so, remembers what it made, undoes it     kernel, one file
//!   announce    tells the neighbours who carries an address now    kernel
//!   changes     wakes when links, addresses, local routes change   kernel
//!   rival       notices another who says that he carries it        kernel
//!   local       what the node has anyway                           kernel
//!   interfaces  links with their addresses, as they are            kernel
//!   routes      where packets to somebody would go                 kernel
//! ```
//!
//! Everything happens in the network namespace of the calling thread: a netlink or packet
//! socket belongs to the namespace it was opened in, and `/proc/sys/net` shows the namespace of
//! the thread that reads it.

mod addresses;
mod announce;
mod changes;
mod error;
mod filter;
mod frames;
mod interfaces;
mod keeper;
mod local;
mod netlink;
mod packet;
mod record;
mod report;
mod rival;
mod rivalry;
mod routes;
mod sysctl;
mod wishes;

pub use addresses::{Address, host_prefix};
pub use announce::{Announcer, announce};
pub use changes::ChangeWatch;
pub use error::Error;
pub use frames::Mac;
pub(crate) use frames::internet_checksum;
pub use interfaces::{Interface, interfaces};
pub use keeper::{Incapable, Keeper, Look};
pub use local::{local_addresses, local_port_range};
pub use report::{Difference, Done, Failure, Reachable, Report};
pub use rival::{Claimed, RivalWatch};
pub use rivalry::Rivalry;
pub use routes::{Route, route, route_abroad};
pub use sysctl::{name as setting_name, read as setting};
pub use wishes::{
    AddressWish, CVIP_LIFETIME, Device, LinkWish, NeededOn, Role, SysctlWish, Wishes, wishes,
};
